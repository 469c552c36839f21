/** From receipts to a batch. Pure: settler and attestors compute the same header from the same receipts. */
import { keccak256 } from "ethers";
import { entriesOf, MAX_ENTRIES, packEntries } from "./entries";
import type { ServiceLevel } from "./measure";
import type { BatchHeader, Epoch, Lane, Receipt, Usage } from "./protocol";
import { SumTree } from "./sumTree";

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

/** The receipts of an epoch's first batch: all those of the lowest licenses, as many as one batch holds. */
export function firstPart<R extends HashedReceipt>(receipts: readonly R[], mostLicenses = MAX_ENTRIES): R[] {
  const licenses = [...new Set(receipts.map(({ receipt }) => receipt.licenseId))].sort(ascending);
  const inPart = new Set(licenses.slice(0, mostLicenses));
  return receipts.filter(({ receipt }) => inPart.has(receipt.licenseId));
}

/** How a sum tree's leaves are sorted. */
export function byLicenseAndSequence(a: HashedReceipt, b: HashedReceipt): number {
  return ascending(a.receipt.licenseId, b.receipt.licenseId) || ascending(a.receipt.sequence, b.receipt.sequence);
}

function ascending(a: bigint, b: bigint): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
