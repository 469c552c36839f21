import { bytesOfHex, hexOf } from "../protocol/hex";
import { recordLeaf } from "../protocol/receiptBytes";
import { type NamedReceipt, type NamedSpan, namedSpans } from "../protocol/namedReceipts";
import type { Queries, Row } from "./database";
import { marks } from "./lists";

/** A receipt as an operator sent it to an attestor, ahead of any batch. */
export interface Copy {
  /** Of the receipt, 32 bytes. */
  hash: Uint8Array;
  operatorId: number;
  /** Unix seconds. */
  finishedAt: number;
  /** When it came first, Unix seconds. */
  arrivedAt: number;
  /** The address of the key that signed it. */
  signer: string;
  /** Its binary form. */
  record: Uint8Array;
  /** The hash of its leaf in a batch's sum tree, 32 bytes. */
  leaf: Uint8Array;
  /** The packed signature of its request, where it came with one. */
  requestSignature?: Uint8Array;
}

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
  for (const span of namedSpans(names)) {
    const named = new Set(span.hashes);
    for (const row of await copiesIn(queries, operatorId, span)) {
      const hash = hexOf(row.receipt_hash as Uint8Array);
      if (named.has(hash)) copies.set(hash, copyOf(row));
    }
  }
  return copies;
}

const COLUMNS_IN_SPAN = `SELECT position, receipt_hash, arrived_at, signer, record, leaf FROM copies
  WHERE operator_id = ? AND license_id = ? AND sequence >= ? AND sequence <= ?`;

/**
 * Those in a span, and perhaps others: looking for each hash takes longer than reading what lies there. But an operator may have
 * signed any number of receipts for one place: then no more are read than are asked for.
 */
async function copiesIn(queries: Queries, operatorId: number, { licenseId, first, last, hashes }: NamedSpan) {
  const span = [operatorId, licenseId, first, last];
  const rows = await queries.all(`${COLUMNS_IN_SPAN} LIMIT ?`, [...span, hashes.length + 1]);
  if (rows.length <= hashes.length) return rows;
  const hashBytes = hashes.map(bytesOfHex);
  return queries.all(`${COLUMNS_IN_SPAN} AND receipt_hash IN (${marks(hashes)})`, [...span, ...hashBytes]);
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
