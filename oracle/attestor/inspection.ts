/**
 * What an attestor holds against a batch. Pure but for the attestor's own memory, and complete: every reason is named,
 * not only the first, and each that lies in one receipt says in which.
 */
import { ZeroHash } from "ethers";
import { breathe } from "../breathe";
import { type BatchSummary, summarize } from "../settler/batches";
import { type BatchFacts, type CheckedMeasurement, type CheckedReceipt, planProblem, type Signer } from "./batchFacts";
import type { Committee, Committees } from "../chain/chain";
import { weightOf } from "../chain/committee";
import { medianOf } from "./measure";
import type { Memory } from "./memory";
import type { SeenSpan } from "../store/attestedReceipts";
import { overlapProblem, PLAUSIBLE, type Plausible, speedReasons } from "./plausibility";
import { isWithin } from "../protocol/epochs";
import { sameUsage, usageOf, zeroUsage } from "../protocol/meters";
import { METERS, type Receipt, ReceiptFlag } from "../protocol/types";

export interface Refusal {
  /** A sentence with the values that don't fit. */
  reason: string;
  /** Of the receipt that it lies in; null if it lies in the batch as a whole. */
  receiptHash: string | null;
}

/**
 * How many sequences may be left out. Every refused draft leaves one out, so these must never run out: a draft a second
 * takes 136 years. A jump as long can be made 2^32 times, so no huge one ends a lane either.
 */
const MOST_SKIPPED = 2n ** 32n;

/** While another batch may still settle, that one stands in the way, and no receipt that is in both is at fault. */
const NO_MEMORY: Pick<Memory, "seenSpans" | "batchOfRequest" | "attestedCost"> = {
  seenSpans: () => [],
  batchOfRequest: () => null,
  attestedCost: () => 0n,
};

/**
 * The committee as whose member `self` judges a batch: the one whose members measured for it, of the present one and the
 * former, whose signatures count for a window more. Null if it is in neither.
 */
export function committeeFor(
  { present, former }: Committees,
  measurements: CheckedMeasurement[],
  self: string,
): Committee | null {
  const own = [present, former].flatMap((one) => (one?.members.includes(self) ? [one] : []));
  return own.find((one) => measurements.every(({ signer }) => isMember(signer, one))) ?? own[0] ?? null;
}

/** All reasons why the committee's member `self` can't vouch for a batch; none if it can. */
export async function refusalsOf(
  facts: BatchFacts,
  memory: Memory,
  committee: Committee,
  self: string,
  plausible: Plausible = PLAUSIBLE,
): Promise<Refusal[]> {
  const guarded = [...guardReasons(facts, memory)];
  const ofBatch = [
    ...laneReasons(facts, committee),
    ...epochReasons(facts),
    ...guarded,
    ...summaryReasons(facts),
    ...measurementReasons(facts, committee, self),
    ...[overlapProblem(facts.receipts, plausible)].filter((reason) => reason !== null),
  ];
  const ofReceipts = await receiptRefusals(facts, guarded.length > 0 ? NO_MEMORY : memory, plausible);
  return [...ofBatch.map((reason) => ({ reason, receiptHash: null })), ...ofReceipts];
}

// The batch as a whole

function* laneReasons({ header, operator, plan, version, lane }: BatchFacts, committee: Committee): Iterable<string> {
  if (operator === null) yield `Operator ${header.operatorId} doesn't exist`;
  else if (header.evidenceHash !== operator.evidenceHash) {
    yield `The evidence hash is ${header.evidenceHash}; operator ${header.operatorId} has ${operator.evidenceHash} on record`;
  }

  const unfit = planProblem(header, plan, committee.address);
  if (unfit !== null) yield unfit;

  if (version === null) yield `Version ${header.versionId} doesn't exist`;
  else if (plan !== null && version.assetId !== plan.assetId) {
    yield `Version ${header.versionId} is of asset ${version.assetId}, plan ${header.planId} of asset ${plan.assetId}`;
  } else if (header.epochEnd > version.usableUntil) {
    yield `The epoch ends at ${header.epochEnd}; version ${header.versionId} is usable until ${version.usableUntil}`;
  }

  if (header.sequence <= lane.sequence) {
    yield `The sequence is ${header.sequence}; the lane's last batch that settled has ${lane.sequence}, so it must be higher`;
  } else if (header.sequence > lane.sequence + MOST_SKIPPED) {
    yield `The sequence is ${header.sequence}, more than ${MOST_SKIPPED} above the lane's last, which would use numbers up`;
  }
}

function* epochReasons({ header, lane, now, epochPeriod, windowPeriod }: BatchFacts): Iterable<string> {
  const { epochStart, epochEnd } = header;
  if (epochEnd <= epochStart) yield `The epoch from ${epochStart} to ${epochEnd} isn't a span of time`;
  if (epochEnd - epochStart > epochPeriod) {
    yield `The epoch has ${epochEnd - epochStart} s; ${epochPeriod} are the most`;
  }
  if (now < epochEnd) yield `The epoch ends at ${epochEnd}; it is ${now}`;
  if (now > epochEnd + windowPeriod) yield `The window closed at ${epochEnd + windowPeriod}; it is ${now}`;

  const continues = epochStart === lane.epochStart && epochEnd === lane.epochEnd;
  if (!continues && epochStart < lane.epochEnd) {
    yield `The epoch starts at ${epochStart}, before the end of the lane's last at ${lane.epochEnd}`;
  }
}

/**
 * One batch a sequence, as two digests for one lose an attestor its bond; and none while another of the lane may still settle: the later one would shut the earlier out.
 * A batch that misses its window leaves its sequence unused.
 */
function* guardReasons({ batchId, header }: BatchFacts, { signed, open }: Memory): Iterable<string> {
  if (signed !== null && signed !== batchId) {
    yield `Sequence ${header.sequence} of the lane was signed as ${signed}; signing ${batchId}, too, is equivocation`;
  }
  for (const other of open) {
    if (other.sequence === header.sequence) continue;
    yield `Batch ${other.batchId} was signed for sequence ${other.sequence} and may still settle; ${header.sequence} has to wait for it`;
  }
}

function* summaryReasons({ header, receipts }: BatchFacts): Iterable<string> {
  let summary: BatchSummary;
  try {
    ({ summary } = summarize(receipts));
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    yield `The receipts don't make a batch: ${error.message}`;
    return;
  }
  for (const field of ["count", ...METERS, "root", "entriesHash"] as const) {
    if (header[field] !== summary[field])
      yield `The header's ${field} is ${header[field]}; the receipts make ${summary[field]}`;
  }
}

/**
 * Only members' own statements count, each once. That ours is among them is proven by our signature: we sign what we
 * measured, and only once the epoch has ended.
 */
function* measurementReasons(
  { header, measurements }: BatchFacts,
  committee: Committee,
  self: string,
): Iterable<string> {
  const signers = measurements.map(({ signer }) => signer);
  yield* signers
    .filter((signer) => !isMember(signer, committee))
    .map((signer) => `A measurement is ${describe(signer)}`);
  yield* measurements.filter((measured) => !isOf(header, measured)).map(misplaced);

  const members = signers.flatMap((signer) => (isMember(signer, committee) ? [signer.address] : []));
  const distinct = new Set(members);
  if (distinct.size < members.length) yield "A member's measurement is there twice";
  if (!distinct.has(self)) yield `The measurement of ${self}, which is asked to sign, isn't there`;
  const weight = weightOf(committee, distinct);
  if (weight < committee.threshold) {
    yield `Members with a weight of ${weight} measured; ${committee.threshold} is the least`;
  }

  if (measurements.length === 0) return;
  const median = medianOf(measurements.map(({ measurement }) => measurement));
  for (const field of ["availabilityBps", "p95TtftMs", "samples"] as const) {
    if (header[field] !== median[field])
      yield `The header's ${field} is ${header[field]}; the median is ${median[field]}`;
  }
}

function isMember(signer: Signer, { members }: Committee): signer is { address: string } {
  return "address" in signer && members.includes(signer.address);
}

function describe(signer: Signer): string {
  return "address" in signer ? `signed by ${signer.address}, who isn't a member` : `not signed: ${signer.problem}`;
}

const MEASURED = ["operatorId", "planId", "versionId", "epochStart", "epochEnd"] as const;

function isOf(header: BatchFacts["header"], { measurement }: CheckedMeasurement): boolean {
  return MEASURED.every((field) => measurement[field] === header[field]);
}

function misplaced({ measurement }: CheckedMeasurement): string {
  const { operatorId, planId, versionId, epochStart, epochEnd } = measurement;
  return `A measurement is of operator ${operatorId}, plan ${planId}, version ${versionId}, from ${epochStart} to ${epochEnd}`;
}

// Each receipt

/** After so many receipts, others are answered. */
const RECEIPTS_AT_ONCE = 500;

async function receiptRefusals(facts: BatchFacts, memory: typeof NO_MEMORY, plausible: Plausible): Promise<Refusal[]> {
  const followReasons = chainReasons(facts, memory);
  const capReasons = grantCapReasons(facts, memory);
  const refusals: Refusal[] = [];
  for (const [i, checked] of facts.receipts.entries()) {
    if (i % RECEIPTS_AT_ONCE === 0) await breathe();
    const { receipt, hash } = checked;
    const reasons = [
      ...signatureReasons(facts, checked),
      ...subjectReasons(facts, receipt),
      ...countReasons(receipt),
      ...speedReasons(receipt, plausible),
      ...clockReasons(checked),
      ...licenseReasons(facts, receipt),
      ...grantReasons(facts, receipt),
      ...followReasons(checked),
      ...capReasons(checked),
    ];
    for (const reason of reasons) {
      refusals.push({
        reason: `Receipt ${receipt.sequence} of license ${receipt.licenseId} ${reason}`,
        receiptHash: hash,
      });
    }
  }
  return refusals;
}

function* signatureReasons({ header }: BatchFacts, { receipt, signer, signerIsKey }: CheckedReceipt): Iterable<string> {
  if (signerIsKey) return;
  yield `is signed by ${signer}, not a key of operator ${header.operatorId} at ${receipt.finishedAt}`;
}

function* subjectReasons({ header, version }: BatchFacts, receipt: Receipt): Iterable<string> {
  const { operatorId, planId, manifestHash, finishedAt } = receipt;
  if (operatorId !== header.operatorId) yield `is of operator ${operatorId}, the batch of ${header.operatorId}`;
  if (planId !== header.planId) yield `is under plan ${planId}, the batch under ${header.planId}`;
  if (version !== null && manifestHash !== version.manifestHash) {
    yield `is of the manifest ${manifestHash}, version ${header.versionId} has ${version.manifestHash}`;
  }
  if (!isWithin(header, finishedAt)) {
    yield `finished at ${finishedAt}, out of the epoch from ${header.epochStart} to ${header.epochEnd}`;
  }
}

const KNOWN_FLAGS = Object.values(ReceiptFlag).reduce((all, flag) => all | flag, 0);

/** What of a receipt contradicts itself. */
export function* countReasons(receipt: Receipt): Iterable<string> {
  const { requests, flags, ttftMs, durationMs } = receipt;
  if ((flags & ~KNOWN_FLAGS) !== 0) yield `has flags (${flags}) that mean nothing; ${KNOWN_FLAGS} are all`;
  if (requests > 1n) yield `counts ${requests} requests; a receipt is of one`;
  if (
    (flags & (ReceiptFlag.upstreamError | ReceiptFlag.recovered)) !== 0 &&
    !sameUsage(usageOf(receipt), zeroUsage())
  ) {
    yield `charges for a request that its flags (${flags}) call failed or lost`;
  }
  if ((flags & ReceiptFlag.broken) !== 0) {
    const { requests: served, inputTokens, cachedInputTokens, computeMs } = receipt;
    if (served + inputTokens + cachedInputTokens + computeMs > 0n) {
      yield `charges more than output for a stream that its flags (${flags}) call broken`;
    }
  }
  if (ttftMs > durationMs) yield `has its first token after ${ttftMs} ms of ${durationMs}`;
}

/** How far apart the clocks of an operator and an attestor may be, in seconds. */
const MOST_CLOCK_ERROR = 120;

/**
 * A receipt that says that it was written after it arrived is of a clock that can't be right. One that arrived late may
 * have waited for a connection: that it isn't older than it says is what the receipts before it show.
 */
function* clockReasons({ receipt: { finishedAt }, arrivedAt }: CheckedReceipt): Iterable<string> {
  if (arrivedAt !== undefined && finishedAt > arrivedAt + MOST_CLOCK_ERROR) {
    yield `finished at ${finishedAt}, and arrived at ${arrivedAt}: its clock is over ${MOST_CLOCK_ERROR} s ahead`;
  }
}

function* licenseReasons({ header, licenses }: BatchFacts, receipt: Receipt): Iterable<string> {
  const license = licenses.get(receipt.licenseId);
  if (license === undefined) {
    yield "is of a license that doesn't exist";
    return;
  }
  const { planId, formerPlan, operatorId, generation, firstGeneration } = license;
  if (planId !== header.planId && formerPlan?.planId !== header.planId) {
    yield `is of a license under plan ${planId}, the batch under ${header.planId}`;
  }
  if (planId === header.planId && formerPlan !== null && receipt.finishedAt < formerPlan.endedAt) {
    yield `finished at ${receipt.finishedAt}, when its license was under plan ${formerPlan.planId}, until ${formerPlan.endedAt}`;
  }
  if (operatorId !== header.operatorId) {
    yield `is of a license of operator ${operatorId}, the batch of ${header.operatorId}`;
  }
  // A generation that was raised within the epoch ends the grants before it only when the epoch ends.
  if (receipt.generation < firstGeneration || receipt.generation > generation) {
    yield `is of generation ${receipt.generation}; the license's was ${firstGeneration} to ${generation} from an hour before the epoch on`;
  }
}

function* grantReasons({ grants }: BatchFacts, receipt: Receipt): Iterable<string> {
  const checked = grants.get(receipt.grantHash);
  if (checked === undefined) {
    yield `came under the grant ${receipt.grantHash}, which wasn't sent`;
    return;
  }
  const { grant, signedByOwner } = checked;
  if (!signedByOwner) yield "came under a grant that the license's owner didn't sign";
  if (grant.licenseId !== receipt.licenseId) yield `came under a grant of license ${grant.licenseId}`;
  if (grant.generation !== receipt.generation) {
    yield `says generation ${receipt.generation}, its grant ${grant.generation}`;
  }
  // What costs nothing may come late: the receipt of a request that a crash left open is written at the restart.
  const isLate = receipt.finishedAt > grant.expiresAt && !sameUsage(receipt, zeroUsage());
  if (receipt.finishedAt < grant.notBefore || isLate) {
    yield `finished at ${receipt.finishedAt}; its grant runs from ${grant.notBefore} to ${grant.expiresAt}`;
  }
}

type ReasonsOf = (checked: CheckedReceipt) => Iterable<string>;

/**
 * Numbers and requests are used once, and each receipt names the one before it: in the batch, or in our memory. To be asked of
 * each receipt in its turn, by license and sequence.
 */
function chainReasons({ batchId }: BatchFacts, memory: typeof NO_MEMORY): ReasonsOf {
  const requests = new Set<string>();
  /** The first of its number, and the first of the license's number before that. */
  let last: CheckedReceipt | undefined;
  let beforeLast: CheckedReceipt | undefined;
  let spans: readonly SeenSpan[] = [];
  let passed = 0;

  return function* (checked) {
    const { receipt, hash } = checked;
    const { operatorId, licenseId, sequence, previousHash, requestId } = receipt;
    if (last === undefined || last.receipt.licenseId !== licenseId || last.receipt.operatorId !== operatorId) {
      spans = memory.seenSpans(operatorId, licenseId);
      passed = 0;
      [beforeLast, last] = [undefined, checked];
    } else if (last.receipt.sequence === sequence) {
      yield "has the number of another receipt in the batch";
    } else {
      [beforeLast, last] = [last, checked];
    }
    if (requests.has(requestId)) yield `is of request ${requestId}, as another receipt in the batch`;
    requests.add(requestId);

    while (passed < spans.length && spans[passed].last < sequence - 1n) passed++;
    const near = spans.slice(passed, passed + 3);
    const sameNumber = near.find((span) => span.first <= sequence && span.last >= sequence);
    if (sameNumber !== undefined && sameNumber.batchId !== batchId) {
      yield `has its number from batch ${sameNumber.batchId}`;
    }
    const batchOfRequest = memory.batchOfRequest(operatorId, requestId);
    if (batchOfRequest !== null && batchOfRequest !== batchId) {
      yield `is of request ${requestId}, which was in batch ${batchOfRequest}`;
    }

    const before =
      beforeLast?.receipt.sequence === sequence - 1n ? endOf(beforeLast) : near.find(endsAt(sequence - 1n));
    const expected = sequence === 1n ? ZeroHash : before?.lastHash;
    if (expected !== undefined && previousHash !== expected) {
      yield `says that it follows ${previousHash}; the receipt before it is ${expected}`;
    }
    if (receipt.finishedAt < (before?.lastFinishedAt ?? 0)) {
      yield `finished at ${receipt.finishedAt}, earlier than the one before it, at ${before?.lastFinishedAt}`;
    }
    const after = near.find(({ first }) => first === sequence + 1n);
    if (after !== undefined && after.previousHash !== hash) {
      yield `is ${hash}; the receipt after it follows ${after.previousHash}`;
    }
    if (after !== undefined && receipt.finishedAt > (after.firstFinishedAt ?? Infinity)) {
      yield `finished at ${receipt.finishedAt}, later than the one after it, at ${after.firstFinishedAt}`;
    }
  };
}

type SpanEnd = Pick<SeenSpan, "lastHash" | "lastFinishedAt">;

function endOf({ hash, receipt }: CheckedReceipt): SpanEnd {
  return { lastHash: hash, lastFinishedAt: receipt.finishedAt };
}

function endsAt(sequence: bigint): (span: SeenSpan) => boolean {
  return ({ last }) => last === sequence;
}

/** What a grant's receipts cost, over all batches, stays within its cap. The receipts that come first fill it. */
function grantCapReasons({ grants }: BatchFacts, memory: typeof NO_MEMORY): ReasonsOf {
  const spent = new Map<string, bigint>();

  return function* ({ receipt: { grantHash }, cost }) {
    const cap = grants.get(grantHash)?.grant.cap ?? 0n;
    if (cap === 0n) return;
    const before = spent.get(grantHash) ?? memory.attestedCost(grantHash);
    if (before + cost > cap) yield `costs ${cost}; its grant has ${cap - before} of its cap of ${cap} left`;
    else spent.set(grantHash, before + cost);
  };
}
