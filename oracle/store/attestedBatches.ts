import { breathe } from "../breathe";
import { type NamedReceipt, namesFromBytes, namesToBytes } from "../protocol/namedReceipts";
import type { BatchHeader, Lane } from "../protocol/types";
import {
  attestedCost,
  type AttestedReceipt,
  forgetRequests,
  type NumberSpan,
  rememberReceipts,
  type RequestPlace,
  seenRequests,
  type SeenSpan,
  seenSpans,
} from "./attestedReceipts";
import { copiesOf } from "./copyRows";
import type { Database, Queries } from "./database";
import { laneValues } from "./laneRows";
import type { Lease, Leases } from "./leases";
import { chunks, marks } from "./lists";
import { keepLast, signedOffToJson, type SignedOff } from "./operatorCopies";
import { Equivocation, StoreConflict } from "./storeConflict";

/** A batch that an attestor signed, whose receipts are rows as yet. */
export interface UnarchivedBatch {
  batchId: string;
  operatorId: number;
  versionId: bigint;
  /** Unix seconds. */
  epochEnd: number;
  /** JSON of `SignedOff`; null where that isn't known. */
  signedOff: string | null;
  /** In the order of the sum tree. */
  receipts: NamedReceipt[];
}

/** A batch that an attestor signed. */
export interface AttestedBatch {
  sequence: bigint;
  batchId: string;
}

const AT_ONCE = 500;

/** Of how many licenses attested spans are looked for at once. */
const SPANS_AT_ONCE = 100;

/** The batches that an attestor signed, and which receipts they have until they are in archives. */
export class AttestedBatches {
  constructor(
    private readonly db: Database,
    private readonly leases: Leases,
  ) {}

  /** The digest that was signed for a sequence of a lane. */
  at(lane: Lane, sequence: bigint): Promise<string | null> {
    return attestedBatch(this.db, lane, sequence);
  }

  /** The other batches that were signed for a lane above a sequence, of epochs that ended at or after a time. */
  async since(lane: Lane, sequence: bigint, epochEndedFrom: number): Promise<AttestedBatch[]> {
    const rows = await this.db.all(
      `SELECT sequence, batch_id FROM attested_batches
         WHERE operator_id = ? AND plan_id = ? AND version_id = ? AND sequence > ? AND epoch_end >= ? ORDER BY sequence`,
      [...laneValues(lane), sequence, epochEndedFrom],
    );
    return rows.map((row) => ({ sequence: row.sequence as bigint, batchId: row.batch_id as string }));
  }

  /**
   * Notes, before it is signed, what an attestor vouches for; the same batch may be noted again.
   * Throws Equivocation if another batch was signed for the lane's sequence, and StoreConflict if one of the receipts,
   * its request or its number was in another batch. Then nothing may be signed.
   * @param rest what else the batch rests on: an operator that lost it gets it back
   * @param lease under which it is signed: throws TurnLost if another has that
   */
  async record(
    batchId: string,
    header: BatchHeader,
    receipts: AttestedReceipt[],
    rest?: Omit<SignedOff, "header">,
    lease?: Lease,
  ): Promise<void> {
    await this.db.transaction(async (queries) => {
      if (lease !== undefined) await this.leases.require(lease, queries);
      const signed = await attestedBatch(queries, header, header.sequence);
      if (signed === batchId) return;
      if (signed !== null)
        throw new Equivocation(`sequence ${header.sequence} was signed as ${signed}, not ${batchId}`);
      const last = await queries.row("SELECT max(number) AS last FROM attested_batches");
      const number = ((last!.last as bigint | null) ?? 0n) + 1n;
      await queries.run("INSERT INTO attested_batches VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", [
        ...laneValues(header),
        header.sequence,
        header.epochEnd,
        batchId,
        number,
        rest === undefined ? null : JSON.stringify(signedOffToJson({ header, ...rest })),
        namesToBytes(receipts.map(({ hash, receipt: { licenseId, sequence } }) => ({ licenseId, sequence, hash }))),
      ]);
      const repetition = await rememberReceipts(queries, number, batchId, receipts);
      if (repetition === null) return;
      const { licenseId, sequence } = repetition.receipt;
      throw new StoreConflict(
        `receipt ${sequence} of license ${licenseId}, or its request, repeats one of batch ${repetition.batchId}`,
      );
    });
  }

  /** The attested spans that have numbers of these or next to them, license by license. */
  async seenSpans(numbers: readonly NumberSpan[]): Promise<SeenSpan[]> {
    const seen: SeenSpan[] = [];
    for (const some of chunks(numbers, SPANS_AT_ONCE)) {
      seen.push(...(await Promise.all(some.map((span) => seenSpans(this.db, span)))).flat());
      await breathe();
    }
    return seen;
  }

  /** The batches that an operator's requests were in, by request id; those that were in none are left out. */
  seenRequests(operatorId: number, requestIds: readonly string[]): Promise<Map<string, string>> {
    return seenRequests(this.db, operatorId, requestIds);
  }

  /** See `attestedReceipts.ts`. */
  forgetRequests(endedBefore: number, after: RequestPlace | null, most: number): Promise<RequestPlace | null> {
    return this.db.transaction((queries) => forgetRequests(queries, endedBefore, after, most));
  }

  /** What the attested receipts under a grant cost, those of one batch left out. */
  cost(grantHash: string, exceptBatchId: string): Promise<bigint> {
    return attestedCost(this.db, grantHash, exceptBatchId);
  }

  /** The next one after another, in the order in which their epochs ended, before a time, Unix seconds; null if there is none. */
  async unarchived(endedBefore: number, after?: UnarchivedBatch): Promise<UnarchivedBatch | null> {
    const row = await this.db.row(
      `SELECT * FROM attested_batches WHERE receipts IS NOT NULL AND epoch_end < ? AND (epoch_end, batch_id) > (?, ?)
         ORDER BY epoch_end, batch_id LIMIT 1`,
      [endedBefore, after?.epochEnd ?? 0, after?.batchId ?? ""],
    );
    if (row === null) return null;
    return {
      batchId: row.batch_id as string,
      operatorId: Number(row.operator_id),
      versionId: row.version_id as bigint,
      epochEnd: Number(row.epoch_end),
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

async function attestedBatch(queries: Queries, lane: Lane, sequence: bigint): Promise<string | null> {
  const row = await queries.row(
    "SELECT batch_id FROM attested_batches WHERE operator_id = ? AND plan_id = ? AND version_id = ? AND sequence = ?",
    [...laneValues(lane), sequence],
  );
  return row && (row.batch_id as string);
}
