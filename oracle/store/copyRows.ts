import { recordLeaf } from "../protocol/receiptBytes";
import { type NamedReceipt, namedSpans } from "../protocol/namedReceipts";
import type { Queries, Row } from "./database";
import { marks } from "./lists";
import type { Copy } from "./store";

/** What of a copy a batch is judged by, and its place in the order in which copies came. */
export interface PlacedCopy extends Pick<Copy, "arrivedAt" | "signer" | "record" | "leaf"> {
  position: bigint;
}

/** An operator's copies of receipts, by their hashes; those that aren't there are left out. */
export async function copiesOf(
  queries: Queries,
  operatorId: number,
  names: readonly NamedReceipt[],
): Promise<Map<string, PlacedCopy>> {
  const copies = new Map<string, PlacedCopy>();
  for (const { licenseId, first, last, hashes } of namedSpans(names)) {
    // An operator may have signed any number of receipts for one place: no more are read than are asked for.
    const rows = await queries.all(
      `SELECT * FROM copies WHERE operator_id = ? AND license_id = ? AND sequence >= ? AND sequence <= ?
         AND receipt_hash IN (${marks(hashes)})`,
      [operatorId, licenseId, first, last, ...hashes.map((hash) => Buffer.from(hash.slice(2), "hex"))],
    );
    for (const row of rows) copies.set(hexOf(row.receipt_hash as Uint8Array), copyOf(row));
  }
  return copies;
}

function copyOf(row: Row): PlacedCopy {
  const record = row.record as Uint8Array;
  return {
    position: row.position as bigint,
    arrivedAt: Number(row.arrived_at),
    signer: row.signer as string,
    record,
    leaf: (row.leaf as Uint8Array | null) ?? recordLeaf(record, row.receipt_hash as Uint8Array),
  };
}

function hexOf(bytes: Uint8Array): string {
  return `0x${Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString("hex")}`;
}
