import type { Database } from "./database";
import { chunks, marks } from "./lists";
import { keepLast } from "./operatorCopies";

/** A batch that an attestor signed, whose receipts are rows as yet. */
export interface UnarchivedBatch {
  batchId: string;
  operatorId: number;
  versionId: bigint;
  /** JSON of `SignedOff`; null where that isn't known. */
  signedOff: string | null;
  /** Of its receipts, in the order of the sum tree. */
  hashes: Buffer[];
}

const HASH_BYTES = 32;

const AT_ONCE = 500;

/** Which receipts the batches have that an attestor signed, until they are in archives. */
export class AttestedBatches {
  constructor(private readonly db: Database) {}

  /** The one whose epoch ended first, before a time, Unix seconds; null if none did. */
  async unarchived(endedBefore: number): Promise<UnarchivedBatch | null> {
    const row = await this.db.row(
      `SELECT * FROM attested_batches WHERE receipts IS NOT NULL AND epoch_end < ? ORDER BY epoch_end, batch_id LIMIT 1`,
      [endedBefore],
    );
    if (row === null) return null;
    const bytes = Buffer.from(row.receipts as Uint8Array);
    return {
      batchId: row.batch_id as string,
      operatorId: Number(row.operator_id),
      versionId: row.version_id as bigint,
      signedOff: row.body as string | null,
      hashes: Array.from({ length: bytes.length / HASH_BYTES }, (_, i) =>
        bytes.subarray(HASH_BYTES * i, HASH_BYTES * (i + 1)),
      ),
    };
  }

  /** Takes a batch's copies away, but for licenses' last, which are kept apart. Done again, it goes on. @returns how many */
  async dropCopies({ batchId, hashes }: UnarchivedBatch): Promise<number> {
    let dropped = 0;
    for (const some of chunks(hashes, AT_ONCE)) {
      dropped += await this.db.transaction(async (queries) => {
        const which = `receipt_hash IN (${marks(some)})`;
        const rows = await queries.all(`SELECT record FROM copies WHERE ${which}`, some);
        await keepLast(
          queries,
          rows.map(({ record }) => record as Uint8Array),
        );
        return queries.run(`DELETE FROM copies WHERE ${which}`, some);
      });
    }
    await this.db.transaction(async (queries) => {
      await queries.run("UPDATE attested_batches SET receipts = NULL WHERE batch_id = ?", [batchId]);
      await queries.run("UPDATE archives SET is_moved = 1 WHERE name = ?", [batchId]);
    });
    return dropped;
  }

  /** Where nothing is archived: forgets which receipts batches had whose epochs ended before a time, Unix seconds. */
  async forget(endedBefore: number): Promise<void> {
    await this.db.run("UPDATE attested_batches SET receipts = NULL WHERE receipts IS NOT NULL AND epoch_end < ?", [
      endedBefore,
    ]);
  }
}

/** What `UnarchivedBatch.hashes` are kept as. */
export function hashesToBytes(hashes: readonly string[]): Buffer {
  const bytes = Buffer.alloc(HASH_BYTES * hashes.length);
  hashes.forEach((hash, i) => bytes.write(hash.slice(2), HASH_BYTES * i, "hex"));
  return bytes;
}
