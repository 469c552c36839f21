/** Which receipts of a batch show a breach that proves itself: what `ReportCourt` will look at. */
import type { TypedDataDomain } from "ethers";
import { ZeroAddress, ZeroHash } from "ethers";
import { grantDigest, receiptDigest } from "../../oracle/protocol/messages";
import { sumUsage } from "../../oracle/protocol/meters";
import { METERS, type Grant, type Receipt, type SignedReceipt, type Usage } from "../../oracle/protocol/types";
import type { PlacedReceipt } from "./placed";

/** Another receipt of the batch for the sequence, the request, or the signature of a request of `other`. */
export function contradictedBy(
  domain: TypedDataDomain,
  placed: readonly PlacedReceipt[],
  { receipt: other }: SignedReceipt,
): PlacedReceipt | undefined {
  const otherHash = receiptDigest(domain, other);
  return placed.find(
    ({ receipt, hash }) =>
      hash !== otherHash &&
      receipt.licenseId === other.licenseId &&
      receipt.operatorId === other.operatorId &&
      (receipt.sequence === other.sequence ||
        receipt.requestId === other.requestId ||
        (receipt.requestSignatureHash !== ZeroHash && receipt.requestSignatureHash === other.requestSignatureHash)),
  );
}

/** A receipt that its own grant doesn't cover. What came to nothing may end late. */
export function outsideOf(
  domain: TypedDataDomain,
  placed: readonly PlacedReceipt[],
  grant: Grant,
): { under: PlacedReceipt[]; outside: PlacedReceipt | undefined } {
  const grantHash = grantDigest(domain, grant);
  const under = placed.filter(({ receipt }) => receipt.grantHash === grantHash);
  return { under, outside: under.find(({ receipt }) => isOutside(receipt, grant)) };
}

function isOutside(receipt: Receipt, grant: Grant): boolean {
  const isNothing = METERS.every((meter) => receipt[meter] === 0n);
  return (
    grant.licenseId !== receipt.licenseId ||
    grant.generation !== receipt.generation ||
    receipt.finishedAt < grant.notBefore ||
    (receipt.finishedAt > grant.expiresAt && !isNothing) ||
    (grant.key !== ZeroAddress && receipt.requestSignatureHash === ZeroHash)
  );
}

/** A receipt of a license that stands in two places, of one batch or of two. */
export function repeatedIn(
  placed: readonly PlacedReceipt[],
  others: readonly PlacedReceipt[],
  isSameBatch: boolean,
): { here: PlacedReceipt; there: PlacedReceipt } | undefined {
  for (const here of placed) {
    const there = others.find(
      ({ leaf, index }) =>
        leaf.signedReceiptHash === here.leaf.signedReceiptHash && (!isSameBatch || index !== here.index),
    );
    if (there !== undefined) return { here, there };
  }
  return undefined;
}

/** A key of an operator's, as the registry has it: Unix seconds, 0 for never. */
export interface KeySpan {
  addedAt: number;
  expiresAt: number;
  revokedAt: number;
}

/** Whether a key that was the operator's at some time had no right to sign what finished then. */
export function isDead({ addedAt, expiresAt, revokedAt }: KeySpan, finishedAt: number): boolean {
  if (addedAt === 0) return false;
  return finishedAt < addedAt || finishedAt >= expiresAt || (revokedAt !== 0 && finishedAt >= revokedAt);
}

/** The meters of which an entry has more than the license's receipts add up to. */
export function metersAbove(entry: Usage, placed: readonly PlacedReceipt[]): string[] {
  const sum = sumUsage(placed.map(({ receipt }) => receipt));
  return METERS.filter((meter) => entry[meter] > sum[meter]).map(
    (meter) => `${meter} ${entry[meter]} against ${sum[meter]}`,
  );
}
