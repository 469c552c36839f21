import type { StoredReceipt } from "../store/receiptRows";

/**
 * What an answer says of its data, where an arbitrator finds it (ERC-1497): which receipts of the batch these are, whose root
 * commits to each of them. It fits in the link itself, so that nothing has to be hosted.
 */
export function referenceTo(batchId: string, receipts: readonly StoredReceipt[]): string {
  const [first, last] = [receipts[0], receipts[receipts.length - 1]].map(({ receipt }) => receipt);
  const name = `License ${first.licenseId} in batch ${batchId}`;
  const description =
    `${receipts.length} receipts, numbers ${first.sequence} to ${last.sequence}, sum up to the entry. The batch's root commits ` +
    "to each; the license's owner has them from the gateway.";
  return `data:application/json,${encodeURI(JSON.stringify({ name, description }))}`;
}
