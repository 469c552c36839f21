import { DatabaseSync, type DatabaseSyncInstance } from "@photostructure/sqlite";
import { Problem, reasonOf } from "../problem";
import type { BatchHeader } from "../protocol/types";

/** Which batches keys have signed: one for each number of a lane, whatever becomes of this process. */
export class SignedBatches {
  private constructor(
    private readonly db: DatabaseSyncInstance,
    private readonly lock: DatabaseSyncInstance,
  ) {}

  /** @throws Problem if the file can't be had for this process alone */
  static open(file: string): SignedBatches {
    try {
      // Held as long as this process lives and no longer, whatever ends it.
      const lock = new DatabaseSync(`${file}.lock`, { timeout: 0 });
      lock.exec("PRAGMA journal_mode = MEMORY; BEGIN EXCLUSIVE");
      const db = new DatabaseSync(file, { readBigInts: true });
      db.exec(`
        PRAGMA synchronous = FULL;
        CREATE TABLE IF NOT EXISTS signed_batches (
          signer TEXT NOT NULL,
          operator_id INTEGER NOT NULL,
          plan_id INTEGER NOT NULL,
          version_id INTEGER NOT NULL,
          sequence INTEGER NOT NULL,
          batch_id TEXT NOT NULL,
          PRIMARY KEY (signer, operator_id, plan_id, version_id, sequence)
        ) STRICT`);
      return new SignedBatches(db, lock);
    } catch (cause) {
      throw new Problem(
        `${file} can't be opened (${reasonOf(cause)}): one signer at a time may have it, in a folder that it can write to.`,
        { cause },
      );
    }
  }

  /** Notes on disk that the key is to sign the batch. @returns the batch that it signed for this number before, if any */
  note(signer: string, { operatorId, planId, versionId, sequence }: BatchHeader, batchId: string): string {
    const slot = [signer, operatorId, planId, versionId, sequence];
    this.db.prepare("INSERT OR IGNORE INTO signed_batches VALUES (?, ?, ?, ?, ?, ?)").run(...slot, batchId);
    const row = this.db
      .prepare(
        "SELECT batch_id FROM signed_batches WHERE signer = ? AND operator_id = ? AND plan_id = ? AND version_id = ? AND sequence = ?",
      )
      .get(...slot) as { batch_id: string };
    return row.batch_id;
  }

  close(): void {
    this.db.close();
    this.lock.close();
  }
}
