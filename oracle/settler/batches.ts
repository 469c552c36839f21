/** From receipts to a batch. Pure: settler and attestors compute the same header from the same receipts. */
import { keccak256 } from "ethers";
import { entriesOf, packEntries } from "../protocol/entries";
import type { ServiceLevel } from "../attestor/measure";
import { addUsage, metersOverUint32, sumUsage, zeroUsage } from "../protocol/meters";
import type { BatchHeader, Epoch, Lane, Receipt, Usage } from "../protocol/types";
import { SumTree } from "../protocol/sumTree";

export interface HashedReceipt {
  receipt: Receipt;
  /** The receipt's EIP-712 digest. */
  hash: string;
}

/** What a header says of the batch's receipts. */
export type BatchSummary = Usage & Pick<BatchHeader, "root" | "count" | "entriesHash">;

/**
 * Sums receipts up, in whatever order they come. The entries are packed, in hex, as settlement takes them.
 * @throws RangeError without receipts, with more than MAX_ENTRIES licenses, or if a license's total exceeds a uint32
 */
export function summarize(receipts: readonly HashedReceipt[]): { summary: BatchSummary; entries: string } {
  const sorted = [...receipts].sort(byLicenseAndSequence);
  const leaves = sorted.map(({ hash, receipt }) => ({
    receiptHash: hash,
    licenseId: receipt.licenseId,
    usage: receipt,
  }));
  const { root, count, totals } = SumTree.of(leaves);
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
  /** At about 1,300 bytes each, attestors must be able to read them all. */
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
 * - it ends before the second in which a license's totals would exceed a uint32, or the receipts be too many. One second
 *   can't be cut: if it alone is too much, it is the epoch's last.
 */
export function nextEpoch(
  receipts: readonly HashedReceipt[],
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

function firstInExcess(receipts: readonly Receipt[], limits: BatchLimits): Receipt | undefined {
  const totals = new Map<bigint, Usage>();
  return receipts.find((receipt, i) => {
    const total = addUsage(totals.get(receipt.licenseId) ?? zeroUsage(), receipt);
    totals.set(receipt.licenseId, total);
    return i >= limits.receipts || metersOverUint32(total).length > 0;
  });
}

/**
 * The receipts of an epoch's first batch: all those of the lowest licenses, as many as one batch holds. Licenses that are
 * too much for any batch are left out; if there are no others, there is no part.
 */
export function firstPart<R extends HashedReceipt>(receipts: readonly R[], limits: BatchLimits = BATCH_LIMITS): R[] {
  const inPart = new Set<bigint>();
  let count = 0;
  for (const [licenseId, ofLicense] of byLicense(receipts)) {
    if (ofLicense.length > limits.receipts || metersOverUint32(sumUsage(ofLicense)).length > 0) continue;
    count += ofLicense.length;
    if (inPart.size === limits.licenses || count > limits.receipts) break;
    inPart.add(licenseId);
  }
  return receipts.filter(({ receipt }) => inPart.has(receipt.licenseId));
}

/** Ascending by license. */
function byLicense(receipts: readonly HashedReceipt[]): [bigint, Receipt[]][] {
  const groups = new Map<bigint, Receipt[]>();
  for (const { receipt } of receipts) {
    const group = groups.get(receipt.licenseId);
    if (group === undefined) groups.set(receipt.licenseId, [receipt]);
    else group.push(receipt);
  }
  return [...groups].sort(([a], [b]) => ascending(a, b));
}

/** How a sum tree's leaves are sorted. */
export function byLicenseAndSequence(a: HashedReceipt, b: HashedReceipt): number {
  return ascending(a.receipt.licenseId, b.receipt.licenseId) || ascending(a.receipt.sequence, b.receipt.sequence);
}

function ascending(a: bigint, b: bigint): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
