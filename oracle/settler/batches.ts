/** From receipts to a batch. Pure: settler and attestors compute the same header from the same receipts. */
import { keccak256 } from "ethers";
import { entriesOf, packEntries } from "../protocol/entries";
import type { ServiceLevel } from "../attestor/measure";
import { signedReceiptHash } from "../protocol/messages";
import { addUsage, metersOverUint32, zeroUsage } from "../protocol/meters";
import type { BatchHeader, Epoch, Lane, ReceiptCounts, SignedReceipt, Usage } from "../protocol/types";
import { leafHash, SumTree } from "../protocol/sumTree";

export interface CountedReceipt {
  receipt: ReceiptCounts;
  /** The hash of its leaf in the sum tree: 32 bytes. */
  leaf: Uint8Array;
}

/** One that a batch is to be of. */
export interface ChosenReceipt extends CountedReceipt {
  /** Its EIP-712 digest. */
  hash: string;
}

/** A receipt with what a batch counts of it. @throws MalformedMessage if the signature isn't in its one form */
export function counted({ hash, receipt, signature }: SignedReceipt & { hash: string }): ChosenReceipt {
  const { licenseId } = receipt;
  const signedHash = signedReceiptHash(hash, signature);
  return { receipt, hash, leaf: leafHash({ signedReceiptHash: signedHash, licenseId, usage: receipt }) };
}

type Counted = Pick<CountedReceipt, "receipt">;

/** What a license has in no batch. */
export interface LicenseTotal {
  licenseId: bigint;
  receipts: number;
  usage: Usage;
}

/** What a header says of the batch's receipts. */
export type BatchSummary = Usage & Pick<BatchHeader, "root" | "count" | "entriesHash">;

/**
 * Sums receipts up, in whatever order they come. The entries are packed, in hex, as settlement takes them.
 * @throws RangeError without receipts, with more than MAX_ENTRIES licenses, or if a license's total exceeds a uint32
 */
export function summarize(receipts: readonly CountedReceipt[]): { summary: BatchSummary; entries: string } {
  const sorted = [...receipts].sort(byLicenseAndSequence);
  const leaves = sorted.map(({ leaf, receipt }) => ({ hash: leaf, usage: receipt }));
  const { root, count, totals } = SumTree.ofHashed(leaves);
  const entries = packEntries(entriesOf(receipts.map(({ receipt }) => receipt)));
  return { summary: { ...totals, root, count, entriesHash: keccak256(entries) }, entries };
}

/** The header that the parts make. */
export function headerOf(
  { operatorId, planId, versionId }: Lane,
  { epochStart, epochEnd }: Epoch,
  sequence: bigint,
  summary: BatchSummary,
  { availabilityBps, p95TtftMs, samples }: ServiceLevel,
  evidenceHash: string,
): BatchHeader {
  return {
    operatorId,
    planId,
    versionId,
    sequence,
    epochStart,
    epochEnd,
    ...summary,
    availabilityBps,
    p95TtftMs,
    samples,
    evidenceHash,
  };
}

/** The most that one batch is of. */
export interface BatchLimits {
  licenses: number;
  /** Attestors hold them all in memory. */
  receipts: number;
}

/**
 * So few licenses that a transaction may settle them, its gas limit's margin included, even if all are late use of an ended
 * term, which takes up to 13,078 gas each.
 */
export const BATCH_LIMITS: BatchLimits = { licenses: 1_000, receipts: 100_000 };

/**
 * The epoch of a lane's next batch, of which there are these receipts. It is the wanted one, but
 * - if the lane's last has receipts left, it is that one, and they become a further part of it;
 * - it starts no earlier than the lane's last ended, as epochs don't overlap;
 * - it ends before the second in which a license's totals would exceed a uint32, or its receipts be too many for a batch. One
 *   second can't be cut: if it alone is too much, it is the epoch's last.
 */
export function nextEpoch(
  receipts: readonly Counted[],
  wanted: Epoch,
  last: Epoch,
  limits: BatchLimits = BATCH_LIMITS,
): Epoch {
  const byTime = receipts.map(({ receipt }) => receipt).sort((a, b) => a.finishedAt - b.finishedAt);
  if (byTime.length > 0 && byTime[0].finishedAt < last.epochEnd) {
    return { epochStart: last.epochStart, epochEnd: last.epochEnd };
  }
  const epochStart = Math.max(wanted.epochStart, last.epochEnd);
  const excess = firstInExcess(byTime, limits);
  const epochEnd = excess === undefined ? wanted.epochEnd : Math.max(excess.finishedAt, byTime[0].finishedAt + 1);
  return { epochStart, epochEnd };
}

function firstInExcess(receipts: readonly ReceiptCounts[], limits: BatchLimits): ReceiptCounts | undefined {
  const totals = new Map<bigint, LicenseTotal>();
  return receipts.find((receipt) => {
    const { licenseId } = receipt;
    const before = totals.get(licenseId) ?? { licenseId, receipts: 0, usage: zeroUsage() };
    const total = { licenseId, receipts: before.receipts + 1, usage: addUsage(before.usage, receipt) };
    totals.set(licenseId, total);
    return isTooMuch(total, limits);
  });
}

/** Whether no batch can hold it. */
function isTooMuch({ receipts, usage }: LicenseTotal, limits: BatchLimits): boolean {
  return receipts > limits.receipts || metersOverUint32(usage).length > 0;
}

/**
 * The same epoch as `nextEpoch` gives, from totals of each license's receipts alone, the oldest of which finished at `oldest`
 * (Unix seconds); null where that takes the receipts themselves.
 */
export function wholeEpoch(
  totals: readonly LicenseTotal[],
  oldest: number,
  wanted: Epoch,
  last: Epoch,
  limits: BatchLimits = BATCH_LIMITS,
): Epoch | null {
  if (oldest < last.epochEnd) {
    const isWithinWanted = last.epochStart >= wanted.epochStart && last.epochEnd === wanted.epochEnd;
    return isWithinWanted ? { epochStart: last.epochStart, epochEnd: last.epochEnd } : null;
  }
  if (totals.some((total) => isTooMuch(total, limits))) return null;
  return { epochStart: Math.max(wanted.epochStart, last.epochEnd), epochEnd: wanted.epochEnd };
}

/**
 * The receipts of an epoch's first batch: all those of the lowest licenses, as many as one batch holds. Licenses that are
 * too much for any batch are left out; if there are no others, there is no part.
 */
export function firstPart<R extends Counted>(receipts: readonly R[], limits: BatchLimits = BATCH_LIMITS): R[] {
  const inPart = new Set(firstLicenses(totalsOf(receipts), limits));
  return receipts.filter(({ receipt }) => inPart.has(receipt.licenseId));
}

/** Whose receipts these are, ascending, of totals that ascend by license. */
export function firstLicenses(totals: readonly LicenseTotal[], limits: BatchLimits = BATCH_LIMITS): bigint[] {
  const inPart: bigint[] = [];
  let count = 0;
  for (const total of totals) {
    if (isTooMuch(total, limits)) continue;
    count += total.receipts;
    if (inPart.length === limits.licenses || count > limits.receipts) break;
    inPart.push(total.licenseId);
  }
  return inPart;
}

/** Ascending by license. */
function totalsOf(receipts: readonly Counted[]): LicenseTotal[] {
  const totals = new Map<bigint, LicenseTotal>();
  for (const { receipt } of receipts) {
    const { licenseId } = receipt;
    const total = totals.get(licenseId) ?? { licenseId, receipts: 0, usage: zeroUsage() };
    totals.set(licenseId, { licenseId, receipts: total.receipts + 1, usage: addUsage(total.usage, receipt) });
  }
  return [...totals.values()].sort((a, b) => ascending(a.licenseId, b.licenseId));
}

/** How a sum tree's leaves are sorted. */
export function byLicenseAndSequence(a: Counted, b: Counted): number {
  return ascending(a.receipt.licenseId, b.receipt.licenseId) || ascending(a.receipt.sequence, b.receipt.sequence);
}

function ascending(a: bigint, b: bigint): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
