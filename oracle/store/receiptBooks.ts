import type { NamedReceipt } from "../protocol/namedReceipts";
import type { Database } from "./database";
import { chunks, marks } from "./lists";
import { lastPosition, receiptOf, recordOf, type StoredReceipt, WITH_BATCH_STATE } from "./receiptRows";
import { withRequestSignatures } from "./requestSignatures";

/** An operator's receipts. */
export class ReceiptBooks {
  constructor(private readonly db: Database) {}

  async ofRequest(requestId: string): Promise<StoredReceipt | null> {
    const row = await this.db.row(`${WITH_BATCH_STATE} WHERE request_id = ?`, [requestId]);
    return row && receiptOf(row);
  }

  /** The receipts of some requests, in their requests' order; those that aren't there are left out. */
  async ofRequests(requestIds: readonly string[]): Promise<StoredReceipt[]> {
    const found = new Map<string, StoredReceipt>();
    for (const some of chunks(requestIds)) {
      const rows = await this.db.all(`${WITH_BATCH_STATE} WHERE request_id IN (${marks(some)})`, some);
      for (const row of rows) found.set(row.request_id as string, receiptOf(row));
    }
    return requestIds.flatMap((requestId) => found.get(requestId) ?? []);
  }

  /** A license's receipts by an operator from a number on, in their order, and at most so many. */
  async from(operatorId: number, licenseId: bigint, sequence: bigint, most: number): Promise<StoredReceipt[]> {
    const rows = await this.db.all(
      `${WITH_BATCH_STATE} WHERE operator_id = ? AND license_id = ? AND sequence >= ? ORDER BY sequence LIMIT ?`,
      [operatorId, licenseId, sequence, most],
    );
    return rows.map(receiptOf);
  }

  /** The place of the last receipt that was written, in the order of all; 0 before the first. */
  lastPosition(): Promise<bigint> {
    return lastPosition(this.db);
  }

  /** The receipts of a batch in the order of its sum tree. */
  async ofBatch(batchId: string): Promise<StoredReceipt[]> {
    const rows = await this.db.all(`${WITH_BATCH_STATE} WHERE batch_id = ? ORDER BY license_id, sequence`, [batchId]);
    return rows.map(receiptOf);
  }

  /** Those of one license, by their numbers. */
  async ofLicense(batchId: string, licenseId: bigint): Promise<StoredReceipt[]> {
    const rows = await this.db.all(`${WITH_BATCH_STATE} WHERE batch_id = ? AND license_id = ? ORDER BY sequence`, [
      batchId,
      licenseId,
    ]);
    return rows.map(receiptOf);
  }

  /** By its EIP-712 digest; null if it isn't here. */
  async withHash(hash: string): Promise<StoredReceipt | null> {
    const row = await this.db.row(`${WITH_BATCH_STATE} WHERE receipt_hash = ?`, [hash]);
    return row && receiptOf(row);
  }

  /**
   * A batch's receipts, in the order of its sum tree, and the hashes of their leaves, 32 bytes each; without these where a receipt
   * was written before leaves were kept.
   */
  async namesIn(batchId: string): Promise<{ receipts: NamedReceipt[]; leaves?: Uint8Array }> {
    const rows = await this.db.all(
      "SELECT license_id, sequence, receipt_hash, leaf FROM receipts WHERE batch_id = ? ORDER BY license_id, sequence",
      [batchId],
    );
    const receipts = rows.map((row) => ({
      licenseId: row.license_id as bigint,
      sequence: row.sequence as bigint,
      hash: row.receipt_hash as string,
    }));
    if (rows.some(({ leaf }) => leaf === null)) return { receipts };
    return { receipts, leaves: Buffer.concat(rows.map(({ leaf }) => leaf as Uint8Array)) };
  }

  /** The hashes of a batch's receipts, in the order of its sum tree. */
  async hashesIn(batchId: string): Promise<string[]> {
    return (
      await this.db.all("SELECT receipt_hash FROM receipts WHERE batch_id = ? ORDER BY license_id, sequence", [batchId])
    ).map((row) => row.receipt_hash as string);
  }

  /** Receipts' binary forms with their requests' signatures, in the hashes' order; those that aren't there are left out. */
  async records(hashes: readonly string[]): Promise<Uint8Array[]> {
    const records = new Map<string, Uint8Array>();
    for (const some of chunks(hashes)) {
      const rows = await this.db.all(
        `SELECT receipt_hash, record, body, signature FROM receipts WHERE receipt_hash IN (${marks(some)})`,
        some,
      );
      const signed = await withRequestSignatures(this.db, rows.map(recordOf));
      rows.forEach((row, i) => records.set(row.receipt_hash as string, signed[i]));
    }
    return hashes.flatMap((hash) => records.get(hash) ?? []);
  }
}
