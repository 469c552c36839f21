import { computeAddress, id, ZeroHash } from "ethers";
import { counted, headerOf, summarize } from "../../oracle/settler/batches";
import { askToAttest, type Attestation, type AttestationRefusal } from "../../oracle/attestor/attestorApi";
import type { AttestationRequest } from "../../oracle/attestor/batchFacts";
import type { Committee } from "../../oracle/chain/chain";
import { medianOf } from "../../oracle/attestor/measure";
import {
  batchDigest,
  grantDigest,
  measurementDigest,
  proposalDigest,
  receiptDigest,
  requestDigest,
  signDigest,
} from "../../oracle/protocol/messages";
import { encodeReceipt } from "../../oracle/protocol/receiptBytes";
import {
  packRequestSignature,
  requestSignatureBytes,
  requestSignatureHash,
} from "../../oracle/protocol/requestSignature";
import type {
  BatchHeader,
  Grant,
  Measurement,
  Receipt,
  SignedGrant,
  SignedMeasurement,
  SignedReceipt,
  Usage,
} from "../../oracle/protocol/types";
import type { Store } from "../../oracle/store/store";
import { DOMAIN, grantWith, receiptWith, usage } from "./fakeMessages";
import { StubChain } from "./stubChain";

/** Private keys of everybody in the market. */
export const KEYS = {
  owner: id("owner"),
  operator: id("operator"),
  /** The operator's, too. */
  proposer: id("proposer"),
  outsider: id("outsider"),
  attestors: [id("attestor 0"), id("attestor 1"), id("attestor 2")],
};

export const LANE = { operatorId: 2, planId: 3, versionId: (4n << 32n) | 1n };
export const EPOCH = { epochStart: 100_000, epochEnd: 103_600 };
export const AFTER_EPOCH = EPOCH.epochEnd + 60;
export const MANIFEST_HASH = id("manifest");
export const EVIDENCE_HASH = id("evidence");

/** Members who weigh one each, all of them bonded. */
export const evenly = (members: string[]): Pick<Committee, "members" | "weights" | "unbonded"> => ({
  members,
  weights: Object.fromEntries(members.map((member) => [member, 1])),
  unbonded: [],
});

export const COMMITTEE: Committee = {
  address: computeAddress(id("committee")),
  ...evenly(KEYS.attestors.map((key) => computeAddress(key))),
  threshold: 2,
  since: 1,
};

/** One operator, one plan, one version, licenses 7 and 8 of one owner, a minute after the epoch. */
export function stubMarket(): StubChain {
  const chain = new StubChain();
  chain.time = AFTER_EPOCH;
  chain.operators.set(LANE.operatorId, {
    operatorId: LANE.operatorId,
    owner: computeAddress(id("operator's owner")),
    endpoint: "https://operator.example",
    evidenceHash: EVIDENCE_HASH,
  });
  chain.plans.set(LANE.planId, {
    planId: LANE.planId,
    assetId: 4,
    rates: usage({ requests: 1_000_000n, outputTokens: 2_000_000n }),
    attestor: COMMITTEE.address,
    minEvidenceTier: 0,
  });
  chain.versions.set(LANE.versionId, {
    versionId: LANE.versionId,
    assetId: 4,
    manifestHash: MANIFEST_HASH,
    usableUntil: 2 ** 40 - 1,
  });
  chain.committeesAt.set(COMMITTEE.address, { present: COMMITTEE, former: null, announced: null });
  for (const key of [KEYS.operator, KEYS.proposer]) {
    chain.keys.set(computeAddress(key), { operatorId: LANE.operatorId, addedAt: 0, expiresAt: 2 ** 40 - 1 });
  }
  for (const licenseId of [7n, 8n]) {
    chain.licenses.set(licenseId, {
      licenseId,
      owner: computeAddress(KEYS.owner),
      planId: LANE.planId,
      operatorId: LANE.operatorId,
      generation: 1,
      balance: 1_000_000n,
      thawing: 0n,
      owed: 0n,
      spent: 0n,
      cap: 0n,
      expiresAt: 2 ** 32 - 1,
      countsFrom: 0,
      signedSince: 0,
      renewal: "settled",
      onVoucherRoad: false,
      stop: null,
      serviceChange: null,
      planChange: null,
      formerPlan: null,
    });
    chain.generations.set(licenseId, [{ at: 1, generation: 1 }]);
  }
  return chain;
}

export function signGrant(fields: Partial<Grant> = {}, key = KEYS.owner): SignedGrant {
  const grant = grantWith({ licenseId: 7n, notBefore: 90_000, expiresAt: 200_000, ...fields });
  return { grant, signature: signDigest(key, grantDigest(DOMAIN, grant)) };
}

/** A receipt of the lane and the epoch under a grant; each has another request. Its cost is 1 and 2 per output token. */
export function receiptUnder({ grant }: SignedGrant, sequence: bigint, fields: Partial<Receipt> = {}): Receipt {
  return receiptWith({
    licenseId: grant.licenseId,
    operatorId: LANE.operatorId,
    planId: LANE.planId,
    manifestHash: MANIFEST_HASH,
    generation: grant.generation,
    grantHash: grantDigest(DOMAIN, grant),
    sequence,
    requestId: id(`request ${sequence} of license ${grant.licenseId}`),
    finishedAt: EPOCH.epochStart + 10 * Number(sequence),
    ...fields,
  });
}

/** What keys signed here, packed, by what receipts say of it. */
const requestSignatures = new Map<string, Buffer>();

/** A receipt's binary form with the signature of its request, if that was signed here. */
export function brought(one: SignedReceipt): Buffer {
  const signature = requestSignatures.get(one.receipt.requestSignatureHash);
  return Buffer.concat([encodeReceipt(one), signature ?? Buffer.alloc(0)]);
}

/** The same receipt of a request that a key signed: five seconds before it ended, if no time is given. */
export function requestSignedBy(receipt: Receipt, key: string, at = receipt.finishedAt - 5): Receipt {
  const signature = signDigest(key, requestDigest(DOMAIN, { ...receipt, at }));
  const packed = requestSignatureBytes(packRequestSignature(at, signature));
  const hash = requestSignatureHash(packed);
  requestSignatures.set(hash, packed);
  return { ...receipt, requestSignatureHash: hash };
}

/** Gives each receipt the hash of the one before it in the list, the first zero. */
export function chained(receipts: Receipt[]): Receipt[] {
  let previousHash = ZeroHash;
  return receipts.map((receipt) => {
    const linked = { ...receipt, previousHash };
    previousHash = receiptDigest(DOMAIN, linked);
    return linked;
  });
}

/** What is left out is as in most tests. */
export interface ServedRequest {
  requestId?: string;
  licenseId?: bigint;
  finishedAt?: number;
  key?: string;
  meters?: Partial<Usage>;
  /** Packed; none if left out. */
  requestSignature?: Buffer;
  /** What is kept for a proof; nothing if left out. */
  input?: Uint8Array;
}

/** Writes the receipt of a request down, as a gateway does, and gives the request's id. */
export async function serveReceipt(store: Store, request: ServedRequest = {}): Promise<string> {
  const { requestId = id("request"), licenseId = 7n, finishedAt = EPOCH.epochStart + 10 } = request;
  const { key = KEYS.operator, meters = { requests: 1n, outputTokens: 5n }, requestSignature, input } = request;
  const signed = signGrant({ licenseId });
  const grantHash = grantDigest(DOMAIN, signed.grant);
  await store.grants.save(grantHash, signed);
  await store.requests.open({
    facts: {
      requestId,
      licenseId,
      operatorId: LANE.operatorId,
      planId: LANE.planId,
      manifestHash: MANIFEST_HASH,
      generation: 1,
      grantHash,
      requestHash: id("request"),
      requestSignatureHash: requestSignature === undefined ? ZeroHash : requestSignatureHash(requestSignature),
    },
    versionId: LANE.versionId,
    openedAt: finishedAt,
    requestSignature,
    input,
  });
  const ended = { responseHash: id("response"), finishedAt, durationMs: 90, ttftMs: 30, flags: 0 };
  const sign = (receipt: Receipt) => {
    const hash = receiptDigest(DOMAIN, receipt);
    return { hash, signature: signDigest(key, hash), signer: computeAddress(key) };
  };
  await store.requests.finish(requestId, { ...usage(meters), ...ended }, 11n, sign);
  return requestId;
}

export function signMeasurement(key: string, fields: Partial<Measurement> = {}): SignedMeasurement {
  const measurement = { ...LANE, ...EPOCH, availabilityBps: 9_900, p95TtftMs: 200, samples: 30, ...fields };
  return { measurement, signature: signDigest(key, measurementDigest(DOMAIN, measurement)) };
}

/** What a request is made of; what is left out is as an honest settler has it. */
export interface RequestParts {
  grants: SignedGrant[];
  receipts: Receipt[];
  receiptKey?: string;
  proposalKey?: string;
  measurements?: SignedMeasurement[];
  header?: Partial<BatchHeader>;
}

/** What a settler asks, and what it has of the receipts that it names. */
export interface Offer extends AttestationRequest {
  signed: SignedReceipt[];
}

/** Asks an attestor for its signature, as a settler does: it is sent the receipts that it lacks. */
export function offer(url: string, { signed, ...request }: Offer): Promise<Attestation | AttestationRefusal> {
  const records = new Map(signed.map((one) => [receiptDigest(DOMAIN, one.receipt), brought(one)]));
  return askToAttest(url, request, async (hashes) => hashes.map((hash) => records.get(hash)!), 10_000);
}

export function requestOf({
  grants,
  receipts,
  receiptKey = KEYS.operator,
  proposalKey = KEYS.proposer,
  measurements,
  header: fields,
}: RequestParts): Offer {
  const hashed = receipts.map((receipt) => {
    const hash = receiptDigest(DOMAIN, receipt);
    return { receipt, hash, signature: signDigest(receiptKey, hash) };
  });
  const measured = measurements ?? KEYS.attestors.map((key) => signMeasurement(key));
  const { summary } = summarize(hashed.map(counted));
  const level = medianOf(measured.map(({ measurement }) => measurement));
  const header = { ...headerOf(LANE, EPOCH, 1n, summary, level, EVIDENCE_HASH), ...fields };
  return {
    header,
    receipts: hashed.map(({ receipt: { licenseId, sequence }, hash }) => ({ licenseId, sequence, hash })),
    signed: hashed.map(({ receipt, signature }) => ({ receipt, signature })),
    grants,
    measurements: measured,
    proposal: signDigest(proposalKey, proposalDigest(DOMAIN, { batchId: batchDigest(DOMAIN, header) })),
  };
}
