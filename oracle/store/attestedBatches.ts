import { type NamedReceipt, namesFromBytes } from "../protocol/namedReceipts";
import { copiesOf } from "./copyRows";
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
  /** In the order of the sum tree. */
  receipts: NamedReceipt[];
}

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
    return {
      batchId: row.batch_id as string,
      operatorId: Number(row.operator_id),
      versionId: row.version_id as bigint,
      signedOff: row.body as string | null,
      receipts: namesFromBytes(Buffer.from(row.receipts as Uint8Array)),
    };
  }

  /** Takes a batch's copies away, but for licenses' last, which are kept apart. Done again, it goes on. @returns how many */
  async dropCopies({ batchId, operatorId, receipts }: UnarchivedBatch): Promise<number> {
    let dropped = 0;
    for (const some of chunks(receipts, AT_ONCE)) {
      dropped += await this.db.transaction(async (queries) => {
        const copies = [...(await copiesOf(queries, operatorId, some)).values()];
        if (copies.length === 0) return 0;
        await keepLast(
          queries,
          copies.map(({ record }) => record),
        );
        const positions = copies.map(({ position }) => position);
        return queries.run(`DELETE FROM copies WHERE position IN (${marks(positions)})`, positions);
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
