import type { Database } from "./database";
import { recordOf } from "./receiptRows";
import { withRequestSignatures } from "./requestSignatures";

/** A receipt's binary form, and its place in the order in which a store got them. */
export interface PlacedRecord {
  position: bigint;
  record: Uint8Array;
}

/** Of receipts: that a batch may still charge them. */
const MAY_SETTLE = `state IN ('unbatched', 'batched')
  AND NOT EXISTS (SELECT 1 FROM batches WHERE batches.batch_id = receipts.batch_id AND batches.state = 'settled')`;

/** How far each attestor was sent an operator's receipts. */
export class Feeds {
  constructor(private readonly db: Database) {}

  /**
   * Receipts that may still settle and were written after a place in the order of all, in that order, with their requests'
   * signatures; at most so many.
   */
  async receiptsAfter(position: bigint, most: number): Promise<PlacedRecord[]> {
    const rows = await this.db.all(
      `SELECT position, record, body, signature FROM receipts
       WHERE position > ? AND ${MAY_SETTLE} ORDER BY position LIMIT ?`,
      [position, most],
    );
    const records = await withRequestSignatures(this.db, rows.map(recordOf));
    return rows.map((row, i) => ({ position: row.position as bigint, record: records[i] }));
  }

  /** Up to which place an attestor was sent all receipts that may still settle. */
  async upTo(attestor: string): Promise<bigint> {
    const row = await this.db.row("SELECT position FROM feeds WHERE attestor = ?", [attestor]);
    if (row !== null) return row.position as bigint;
    const first = await this.db.row(`SELECT min(position) AS first FROM receipts WHERE ${MAY_SETTLE}`);
    return ((first!.first as bigint | null) ?? 1n) - 1n;
  }

  async mark(attestor: string, position: bigint): Promise<void> {
    await this.db.run(
      "INSERT INTO feeds VALUES (?, ?) ON CONFLICT (attestor) DO UPDATE SET position = excluded.position",
      [attestor, position],
    );
  }
}
