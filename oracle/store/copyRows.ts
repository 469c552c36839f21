import { recordLeaf } from "../protocol/receiptBytes";
import { type NamedReceipt, namedSpans } from "../protocol/namedReceipts";
import type { Queries, Row } from "./database";
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
  const wanted = new Set(names.map(({ hash }) => hash));
  const copies = new Map<string, PlacedCopy>();
  for (const { licenseId, first, last } of namedSpans(names)) {
    const rows = await queries.all(
      "SELECT * FROM copies WHERE operator_id = ? AND license_id = ? AND sequence >= ? AND sequence <= ?",
      [operatorId, licenseId, first, last],
    );
    for (const row of rows) {
      const hash = hexOf(row.receipt_hash as Uint8Array);
      if (wanted.has(hash)) copies.set(hash, copyOf(row));
    }
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
