/**
 * What a licensee holds against its own receipts, without trusting its operator: that they are an unbroken chain of what the
 * operator signed, that they fit the chain, and that no more was charged for them than they say.
 */
import { ZeroAddress, ZeroHash } from "ethers";
import { countReasons } from "../attestor/inspection";
import type { Chain, PlanState } from "../chain/chain";
import { MalformedMessage, receiptDigest, recoverSigner } from "../protocol/messages";
import { requestSignatureHash, requestSigner } from "../protocol/requestSignature";
import { addUsage, chargeOf, costOf, priceOf, zeroUsage } from "../protocol/meters";
import type { Grant, Receipt, Usage } from "../protocol/types";
import { versionIdOf } from "../protocol/versionId";
import type { ListedReceipt } from "./receiptList";

/** What a batch charged a license, by the chain's own log. */
export interface Charge {
  batchId: string;
  /** Units of the currency. */
  charged: bigint;
  discountBps: number;
}

export interface CheckedReceipts {
  /** Sentences with the values that don't fit; none if all does. */
  problems: string[];
  usage: Usage;
  /** What all receipts cost before discounts, each rounded up, in units of the currency. */
  cost: bigint;
  /** Of that, what isn't settled yet. */
  unsettled: bigint;
  /** Those that vouchers pay, by the gateway's word: no batch may have them then. */
  byVoucher: VoucherReceipt[];
  /** What came under each grant, by its hash. */
  grants: Map<string, { receipts: number; cost: bigint }>;
}

export interface VoucherReceipt {
  /** Unix seconds. */
  finishedAt: number;
  /** Units of the currency. */
  cost: bigint;
}

/** A receipt that was checked before. */
export interface LastReceipt {
  sequence: bigint;
  /** Its EIP-712 digest. */
  hash: string;
  /** Unix seconds. */
  finishedAt: number;
}

const NO_RECEIPT: LastReceipt = { sequence: 0n, hash: ZeroHash, finishedAt: 0 };

const MOST_VERSIONS = 10_000;

/**
 * @param receipts all of a license's by one operator, in the order in which the gateway gave them
 * @param charges all that this operator's batches charged the license
 * @param last the one that they follow, if they aren't all
 * @param requestKeys of grants, by their hash, whose keys must have signed each request
 */
export async function checkReceipts(
  chain: Pick<Chain, "domain" | "isSigningKey" | "plan" | "version">,
  licenseId: bigint,
  receipts: readonly ListedReceipt[],
  charges: readonly Charge[],
  last: LastReceipt = NO_RECEIPT,
  requestKeys: ReadonlyMap<string, string> = new Map(),
): Promise<CheckedReceipts> {
  const plans = new Plans(chain);
  const keyProblem = await keyProblems(chain, receipts);
  const requestReasons = requestReasonsFor(chain, requestKeys);
  const problems: string[] = [];
  const checked: CheckedReceipts = {
    ...{ problems, usage: zeroUsage(), cost: 0n, unsettled: 0n },
    ...{ byVoucher: [], grants: new Map() },
  };
  const batches = new Map<string, Batched>();

  let previous = last;
  for (const listed of receipts) {
    const { receipt } = listed;
    const hash = receiptDigest(chain.domain, receipt);
    const plan = await plans.of(receipt.planId);
    const reasons = [
      ...orderReasons(receipt, previous),
      ...subjectReasons(receipt, licenseId, receipts[0].receipt.operatorId),
      ...keyProblem(listed),
      ...requestReasons(listed),
      ...(await plans.reasons(receipt)),
      ...countReasons(receipt),
    ];
    problems.push(...reasons.map((reason) => `Receipt ${receipt.sequence} ${reason}`));
    add(checked, listed, plan === null ? 0n : costOf(receipt, plan.rates));
    if (listed.batchId !== null && plan !== null) addToBatch(batches, listed.batchId, listed, plan);
    previous = { sequence: receipt.sequence, hash, finishedAt: receipt.finishedAt };
  }
  problems.push(...chargeProblems(batches, charges));
  return checked;
}

/** What `checkReceipts` needs to know of a grant. */
export function requestKeysOf(grantHash: string, { key }: Grant): ReadonlyMap<string, string> {
  return new Map(key === ZeroAddress ? [] : [[grantHash, key]]);
}

function add(checked: CheckedReceipts, { receipt, state, batchId }: ListedReceipt, cost: bigint): void {
  checked.usage = addUsage(checked.usage, receipt);
  checked.cost += cost;
  if (state === "unbatched" || state === "batched") checked.unsettled += cost;
  if (state === "voucher" && batchId === null) checked.byVoucher.push({ finishedAt: receipt.finishedAt, cost });
  const { receipts, cost: before } = checked.grants.get(receipt.grantHash) ?? { receipts: 0, cost: 0n };
  checked.grants.set(receipt.grantHash, { receipts: receipts + 1, cost: before + cost });
}

/** An operator that lost its store leaves numbers out: what was left out by the chain of hashes is another matter. */
function* orderReasons({ sequence, previousHash, finishedAt }: Receipt, before: LastReceipt): Iterable<string> {
  if (sequence <= before.sequence) yield `comes after number ${before.sequence}`;
  if (previousHash !== before.hash) {
    yield `says that it follows ${previousHash}; the one before it is ${before.hash}`;
  }
  if (finishedAt < before.finishedAt) yield `finished at ${finishedAt}, before the one before it`;
}

function* subjectReasons(receipt: Receipt, licenseId: bigint, operatorId: number): Iterable<string> {
  if (receipt.licenseId !== licenseId) yield `is of license ${receipt.licenseId}`;
  if (receipt.operatorId !== operatorId) yield `is of operator ${receipt.operatorId}, the first of ${operatorId}`;
}

type ReasonsOf = (listed: ListedReceipt) => string[];

/** A key is valid for one span of time: it is asked for at the first and the last of what it signed. */
async function keyProblems(
  chain: Pick<Chain, "domain" | "isSigningKey">,
  receipts: readonly ListedReceipt[],
): Promise<ReasonsOf> {
  const signers = new Map<ListedReceipt, string>();
  const spans = new Map<string, { operatorId: number; first: number; last: number }>();
  for (const listed of receipts) {
    const signer = signerOf(chain, listed);
    signers.set(listed, signer);
    const { operatorId, finishedAt } = listed.receipt;
    const span = spans.get(`${signer}/${operatorId}`) ?? { operatorId, first: finishedAt, last: finishedAt };
    const [first, last] = [Math.min(span.first, finishedAt), Math.max(span.last, finishedAt)];
    spans.set(`${signer}/${operatorId}`, { operatorId, first, last });
  }
  const good = new Set<string>();
  for (const [key, { operatorId, first, last }] of spans) {
    const [signer] = key.split("/");
    if (!signer.startsWith("0x")) continue;
    const isKey = (at: number) => chain.isSigningKey(operatorId, signer, at);
    if ((await isKey(first)) && (await isKey(last))) good.add(key);
  }
  return (listed) => {
    const signer = signers.get(listed)!;
    const { operatorId, finishedAt } = listed.receipt;
    if (good.has(`${signer}/${operatorId}`)) return [];
    if (!signer.startsWith("0x")) return [`isn't signed: ${signer}`];
    return [`is signed by ${signer}, which wasn't a key of operator ${operatorId} all the time around ${finishedAt}`];
  };
}

/** A request's signature is its own: shown to others, it proves that the licensee asked for what the receipt charges. */
function requestReasonsFor(
  { domain }: Pick<Chain, "domain">,
  requestKeys: ReadonlyMap<string, string>,
): (listed: ListedReceipt) => Iterable<string> {
  /** The receipt that had a signature first. */
  const first = new Map<string, bigint>();
  return function* ({ receipt, requestSignature }) {
    const { requestSignatureHash: said, grantHash, sequence } = receipt;
    const key = requestKeys.get(grantHash);
    if (said === ZeroHash) {
      if (key !== undefined) yield `has no signature of its request, which its grant wants of ${key}`;
      return;
    }
    const before = first.get(said);
    if (before !== undefined) yield `has its request's signature from receipt ${before}`;
    first.set(said, before ?? sequence);
    if (requestSignature === null) {
      yield `says ${said} of its request's signature, which the gateway doesn't show`;
    } else if (requestSignatureHash(requestSignature) !== said) {
      yield `says ${said} of its request's signature; the one shown has ${requestSignatureHash(requestSignature)}`;
    } else if (key !== undefined) {
      const signer = whoever(() => requestSigner(domain, receipt, requestSignature));
      if (signer !== key) yield `is of a request that isn't signed by its grant's key ${key}: ${signer}`;
    }
  };
}

/** Who signed it, or why nobody did. */
function signerOf({ domain }: Pick<Chain, "domain">, { receipt, signature }: ListedReceipt): string {
  return whoever(() => recoverSigner(receiptDigest(domain, receipt), signature));
}

function whoever(recover: () => string): string {
  try {
    return recover();
  } catch (cause) {
    if (cause instanceof MalformedMessage) return cause.message;
    throw cause;
  }
}

/** Plans, and the versions of their assets, each read once. */
class Plans {
  private readonly plans = new Map<number, PlanState | null>();
  private readonly manifests = new Map<number, Set<string>>();

  constructor(private readonly chain: Pick<Chain, "plan" | "version">) {}

  async of(planId: number): Promise<PlanState | null> {
    let plan = this.plans.get(planId);
    if (plan === undefined) {
      plan = await this.chain.plan(planId);
      this.plans.set(planId, plan);
    }
    return plan;
  }

  async reasons({ planId, manifestHash }: Receipt): Promise<string[]> {
    const plan = await this.of(planId);
    if (plan === null) return [`is under plan ${planId}, which doesn't exist`];
    if ((await this.manifestsOf(plan.assetId)).has(manifestHash)) return [];
    return [`is of the manifest ${manifestHash}; asset ${plan.assetId} has no such version`];
  }

  private async manifestsOf(assetId: number): Promise<Set<string>> {
    const known = this.manifests.get(assetId);
    if (known !== undefined) return known;
    const found = new Set<string>();
    for (let number = 1; number <= MOST_VERSIONS; number++) {
      const version = await this.chain.version(versionIdOf(assetId, number));
      if (version === null) break;
      found.add(version.manifestHash);
    }
    this.manifests.set(assetId, found);
    return found;
  }
}

/** A license's receipts in one batch. */
interface Batched {
  usage: Usage;
  plan: PlanState;
  receipts: number;
  isSettled: boolean;
}

function addToBatch(batches: Map<string, Batched>, id: string, listed: ListedReceipt, plan: PlanState): void {
  const before = batches.get(id) ?? { usage: zeroUsage(), plan, receipts: 0, isSettled: false };
  batches.set(id, {
    ...before,
    usage: addUsage(before.usage, listed.receipt),
    receipts: before.receipts + 1,
    isSettled: before.isSettled || listed.state === "settled",
  });
}

function* chargeProblems(batches: Map<string, Batched>, charges: readonly Charge[]): Iterable<string> {
  for (const { batchId, charged, discountBps } of charges) {
    const batch = batches.get(batchId);
    if (batch === undefined) {
      if (charged > 0n) yield `Batch ${batchId} charged ${charged} units, and no receipt of it was shown`;
      continue;
    }
    const most = chargeOf(priceOf(batch.usage, batch.plan.rates), discountBps);
    if (charged > most) {
      yield `Batch ${batchId} charged ${charged} units; its ${batch.receipts} receipts are worth ${most}`;
    }
  }
  const onChain = new Set(charges.map(({ batchId }) => batchId));
  for (const [batchId, { isSettled }] of batches) {
    if (isSettled && !onChain.has(batchId))
      yield `Batch ${batchId} is said to be settled, and the chain doesn't have it`;
  }
}
