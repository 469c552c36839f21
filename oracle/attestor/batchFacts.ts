/** What an attestor finds out before it judges a batch: who signed what, and what the chain says of everybody named. */
import { getAddress, type TypedDataDomain } from "ethers";
import { breathe } from "../breathe";
import { byLicenseAndSequence, type CountedReceipt } from "../settler/batches";
import type { Chain, LaneState, LicenseState, OperatorState, PlanState, VersionState } from "../chain/chain";
import {
  batchDigest,
  grantDigest,
  MalformedMessage,
  measurementDigest,
  proposalDigest,
  recoverSigner,
} from "../protocol/messages";
import { costOf, zeroUsage } from "../protocol/meters";
import type { NamedReceipt } from "../protocol/namedReceipts";
import { readEach } from "../chain/parallel";
import type { BatchHeader, Measurement, Receipt, SignedGrant, SignedMeasurement, Usage } from "../protocol/types";

/** How long what had begun when a generation was raised may take to end, in seconds, as when a license is stopped. */
const STOP_GRACE = 3_600;

/** What a settler asks an attestor to sign, with all that the header rests on. */
export interface AttestationRequest {
  header: BatchHeader;
  /** Its receipts, of which the attestor has copies. */
  receipts: NamedReceipt[];
  /** The hashes of their leaves in its sum tree, 32 bytes each, which tell by which signatures; if left out, by any. */
  leaves?: Uint8Array;
  /** Every grant that a receipt names. */
  grants: SignedGrant[];
  /** What the header's service level is the median of. */
  measurements: SignedMeasurement[];
  /** The operator's signature over the batch's Proposal. */
  proposal: string;
}

/** A receipt of which an attestor has a copy. */
export interface CopiedReceipt extends CountedReceipt {
  receipt: Receipt;
  /** The receipt's EIP-712 digest. */
  hash: string;
  /** The address of the key that signed it. */
  signer: string;
  /** When it came first, Unix seconds. */
  arrivedAt: number;
}

/** A batch with the attestor's own copies of its receipts. */
export interface JudgedBatch extends Omit<AttestationRequest, "receipts" | "leaves"> {
  receipts: CopiedReceipt[];
}

/** Who signed something, or why that can't be told. */
export type Signer = { address: string } | { problem: string };

export interface CheckedReceipt extends CopiedReceipt {
  /** Under the batch's plan, rounded up, in units of the currency. */
  cost: bigint;
  /** Whether the signer was a key of the operator when the request ended. */
  signerIsKey: boolean;
}

export interface CheckedGrant extends SignedGrant {
  /** By the one who owns the license now. */
  signedByOwner: boolean;
}

export interface CheckedLicense extends LicenseState {
  /** The first generation whose requests may have ended in the epoch. */
  firstGeneration: number;
}

export interface CheckedMeasurement {
  measurement: Measurement;
  signer: Signer;
}

export interface BatchFacts {
  /** What the attestor would sign. */
  batchId: string;
  header: BatchHeader;
  /** Unix seconds. */
  now: number;
  /** In seconds. */
  epochPeriod: number;
  windowPeriod: number;
  operator: OperatorState | null;
  plan: PlanState | null;
  version: VersionState | null;
  lane: LaneState;
  /** In the order of the sum tree. */
  receipts: CheckedReceipt[];
  /** By grant hash. */
  grants: Map<string, CheckedGrant>;
  /** By id; those that don't exist are left out. */
  licenses: Map<bigint, CheckedLicense>;
  measurements: CheckedMeasurement[];
}

/**
 * Why a proposal isn't one for the committee, by the operator; null if it is, signed by one of the keys that it has now.
 * @throws if the chain can't be read
 */
export async function proposalProblem(
  chain: Chain,
  { header, proposal }: Pick<AttestationRequest, "header" | "proposal">,
  committee: string,
): Promise<string | null> {
  const signer = signerOf(proposalDigest(chain.domain, { batchId: batchDigest(chain.domain, header) }), proposal);
  if ("problem" in signer) return `The proposal isn't signed: ${signer.problem}`;
  const now = await chain.now();
  if (!(await chain.isSigningKey(header.operatorId, signer.address, now))) {
    return `The proposal is signed by ${signer.address}, not a key of operator ${header.operatorId} at ${now}`;
  }
  return planProblem(header, await chain.plan(header.planId), committee);
}

/** Why a batch's plan isn't one that the committee vouches for; null if it is. */
export function planProblem({ planId }: BatchHeader, plan: PlanState | null, committee: string): string | null {
  if (plan === null) return `Plan ${planId} doesn't exist`;
  if (getAddress(plan.attestor) === getAddress(committee)) return null;
  return `Plan ${planId} names the attestor ${plan.attestor}, not our committee ${committee}`;
}

/** @throws if the chain can't be read */
export async function gatherFacts(chain: Chain, request: JudgedBatch): Promise<BatchFacts> {
  const { header } = request;
  const { operatorId, planId, versionId } = header;
  const [now, operator, plan, version, lane, licenses] = await Promise.all([
    chain.now(),
    chain.operator(operatorId),
    chain.plan(planId),
    chain.version(versionId),
    chain.lane(operatorId, planId, versionId),
    readLicenses(chain, request),
  ]);
  return {
    batchId: batchDigest(chain.domain, header),
    header,
    now,
    epochPeriod: chain.epochPeriod,
    windowPeriod: chain.windowPeriod,
    operator,
    plan,
    version,
    lane,
    receipts: await checkReceipts(chain, request, plan?.rates ?? zeroUsage()),
    grants: await checkGrants(chain, licenses, request.grants),
    licenses,
    measurements: request.measurements.map((signed) => checkMeasurement(chain.domain, signed)),
  };
}

/** Licenses that don't exist are left out. */
async function readLicenses(chain: Chain, { header, receipts }: JudgedBatch): Promise<Map<bigint, CheckedLicense>> {
  const licenseIds = [...new Set(receipts.map(({ receipt }) => receipt.licenseId))];
  const read = await readEach(licenseIds, async (licenseId) => {
    const license = await chain.license(licenseId);
    if (license === null) return [];
    return [{ ...license, firstGeneration: await chain.generationAt(licenseId, header.epochStart - STOP_GRACE) }];
  });
  return new Map(read.flat().map((license) => [license.licenseId, license]));
}

async function checkReceipts(chain: Chain, { header, receipts }: JudgedBatch, rates: Usage): Promise<CheckedReceipt[]> {
  const isByKey = await keysOf(chain, header.operatorId, receipts);
  const checked: CheckedReceipt[] = [];
  for (const [i, copied] of receipts.entries()) {
    if (i % RECEIPTS_AT_ONCE === 0) await breathe();
    const { receipt, hash, leaf, signer, arrivedAt } = copied;
    const cost = costOf(receipt, rates);
    checked.push({ receipt, hash, leaf, signer, arrivedAt, cost, signerIsKey: isByKey(copied) });
  }
  return checked.sort(byLicenseAndSequence);
}

/** After so many receipts, others are answered. */
const RECEIPTS_AT_ONCE = 5_000;

/** Tells of each receipt whether its signer was a key of the operator when it finished. */
async function keysOf(
  chain: Chain,
  operatorId: number,
  receipts: CopiedReceipt[],
): Promise<(copied: CopiedReceipt) => boolean> {
  const validTimes = new Map<string, Set<number>>();
  for (const [address, signed] of bySigner(receipts)) {
    const isKeyAt = (time: number) => chain.isSigningKey(operatorId, address, time);
    const times = [...new Set(signed.map(({ receipt }) => receipt.finishedAt))].sort((a, b) => a - b);
    // A key is valid for one span of time: if at the first and the last of its receipts, then at all between.
    const isKeyThroughout = (await isKeyAt(times[0])) && (await isKeyAt(times[times.length - 1]));
    const areKey = isKeyThroughout ? times.map(() => true) : await readEach(times, isKeyAt);
    validTimes.set(address, new Set(times.filter((_, i) => areKey[i])));
  }
  return ({ signer, receipt }) => validTimes.get(signer)!.has(receipt.finishedAt);
}

function bySigner(receipts: CopiedReceipt[]): Map<string, CopiedReceipt[]> {
  const groups = new Map<string, CopiedReceipt[]>();
  for (const copied of receipts) {
    const group = groups.get(copied.signer);
    if (group === undefined) groups.set(copied.signer, [copied]);
    else group.push(copied);
  }
  return groups;
}

async function checkGrants(
  chain: Chain,
  licenses: Map<bigint, CheckedLicense>,
  grants: SignedGrant[],
): Promise<Map<string, CheckedGrant>> {
  const checked = await readEach(grants, async ({ grant, signature }) => {
    const hash = grantDigest(chain.domain, grant);
    const license = licenses.get(grant.licenseId);
    const signedByOwner = license !== undefined && (await chain.isSignatureOf(license.owner, hash, signature));
    return [hash, { grant, signature, signedByOwner }] as const;
  });
  return new Map(checked);
}

function checkMeasurement(domain: TypedDataDomain, { measurement, signature }: SignedMeasurement): CheckedMeasurement {
  return { measurement, signer: signerOf(measurementDigest(domain, measurement), signature) };
}

function signerOf(digest: string, signature: string): Signer {
  try {
    return { address: recoverSigner(digest, signature) };
  } catch (error) {
    if (error instanceof MalformedMessage) return { problem: error.message };
    throw error;
  }
}
