import { hexOf } from "../protocol/hex";
import type { NamedReceipt } from "../protocol/namedReceipts";
import { subjectOf } from "../protocol/receiptBytes";
import { copiesOf, type Copy, type PlacedCopy } from "./copyRows";
import type { Database, Queries, Row } from "./database";
import type { GroupCommit } from "./groupCommit";
import { chunks, marks } from "./lists";
import { keepLast } from "./operatorCopies";
import { useRequestSignature, withRequestSignatures } from "./requestSignatures";

/** A number of a license's, as a place among its receipts. */
export type NumberedReceipt = Pick<NamedReceipt, "licenseId" | "sequence">;

export interface NumberedRecord extends NumberedReceipt {
  record: Uint8Array;
}

/** How many copies one statement writes. */
const COPIES_AT_ONCE = 100;

/** An attestor's copies of the receipts that operators sent it. */
export class CopyBooks {
  constructor(
    private readonly db: Database,
    private readonly group: GroupCommit,
  ) {}

  /** Keeps copies of receipts, and gives those that weren't there yet. */
  keep(copies: readonly Copy[]): Promise<Copy[]> {
    return this.group.run(async (queries) => {
      const last = await queries.row("SELECT max(position) AS last FROM copies");
      let position = Number((last!.last as bigint | null) ?? 0n);
      const added: Copy[] = [];
      for (const some of chunks(copies, COPIES_AT_ONCE)) {
        added.push(...(await insertCopies(queries, position, some)));
        position += some.length;
      }
      for (const { operatorId, hash, requestSignature } of added) {
        if (requestSignature === undefined) continue;
        await useRequestSignature(queries, operatorId, requestSignature, hexOf(hash));
      }
      return added;
    });
  }

  /** Keeps a receipt by another signature than it came with first. */
  async resign({ hash, operatorId, signer, record, leaf }: Copy): Promise<void> {
    const { licenseId, sequence } = subjectOf(record);
    await this.db.run(
      `UPDATE copies SET signer = ?, record = ?, leaf = ?
       WHERE operator_id = ? AND license_id = ? AND sequence = ? AND receipt_hash = ?`,
      [signer, record, leaf, operatorId, licenseId, sequence, hash],
    );
  }

  /** An operator's copies of receipts, by their hashes; those that aren't there are left out. */
  async find(operatorId: number, names: readonly NamedReceipt[]): Promise<Map<string, PlacedCopy>> {
    return copiesOf(this.db, operatorId, names);
  }

  /**
   * An operator's copies after a license's number, by license and number, with their requests' signatures; at most so many, and
   * as many more that have the last one's number.
   */
  async after(operatorId: number, after: NumberedReceipt, most: number): Promise<NumberedRecord[]> {
    const columns = "SELECT license_id, sequence, record FROM copies WHERE operator_id = ?";
    const some = await this.db.all(
      `${columns} AND (license_id, sequence) > (?, ?) ORDER BY license_id, sequence LIMIT ?`,
      [operatorId, after.licenseId, after.sequence, most],
    );
    const last = some.at(-1);
    if (last === undefined) return [];
    const isBefore = (row: Row) => row.license_id !== last.license_id || row.sequence !== last.sequence;
    const atEnd = await this.db.all(`${columns} AND license_id = ? AND sequence = ? LIMIT ?`, [
      operatorId,
      last.license_id,
      last.sequence,
      most,
    ]);
    const rows = [...some.filter(isBefore), ...atEnd];
    const records = await withRequestSignatures(
      this.db,
      rows.map(({ record }) => record as Uint8Array),
    );
    return rows.map((row, i) => ({
      licenseId: row.license_id as bigint,
      sequence: row.sequence as bigint,
      record: records[i],
    }));
  }

  /** How many copies there are of each operator. */
  async count(): Promise<Map<number, number>> {
    const rows = await this.db.all("SELECT operator_id, count(*) AS count FROM copies GROUP BY operator_id");
    return new Map(rows.map(({ operator_id, count }) => [Number(operator_id), Number(count)]));
  }

  /**
   * Drops the copies of receipts that finished before a time, among so many that came after a place. Receipts come about as they
   * finish: an index of when they did would cost as much as writing copies does. The last of each license is kept apart.
   * @param finishedBefore Unix seconds
   * @param now Unix seconds: what came later came while the clock was wrong, and says nothing about what came after it
   * @returns how many these were, and the place to go on after: null where all the rest is younger
   */
  drop(
    finishedBefore: number,
    now: number,
    after: bigint,
    most: number,
  ): Promise<{ dropped: number; next: bigint | null }> {
    return this.db.transaction(async (queries) => {
      const rows = await queries.all(
        "SELECT position, finished_at, arrived_at FROM copies WHERE position > ? ORDER BY position LIMIT ?",
        [after, most],
      );
      const old = rows.filter((row) => Number(row.finished_at) < finishedBefore).map(({ position }) => position);
      for (const some of chunks(old)) {
        const which = `position IN (${marks(some)})`;
        const dropped = await queries.all(`SELECT record FROM copies WHERE ${which} ORDER BY position`, some);
        await keepLast(
          queries,
          dropped.map(({ record }) => record as Uint8Array),
        );
        await queries.run(`DELETE FROM copies WHERE ${which}`, some);
      }
      const isYoung = ({ arrived_at: at }: Row) => Number(at) >= finishedBefore && Number(at) <= now;
      const isOver = rows.length < most || rows.every(isYoung);
      return { dropped: old.length, next: isOver ? null : (rows.at(-1)!.position as bigint) };
    });
  }
}

/** In the places after one, of which those of copies that are there already stay empty. @returns those that weren't there */
async function insertCopies(queries: Queries, after: number, copies: readonly Copy[]): Promise<readonly Copy[]> {
  const inserted = await queries.run(
    `INSERT INTO copies VALUES ${copies.map(() => "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?)").join(", ")} ON CONFLICT DO NOTHING`,
    copies.flatMap(({ hash, operatorId, finishedAt, arrivedAt, signer, record, leaf }, i) => {
      const { licenseId, sequence } = subjectOf(record);
      return [after + i + 1, operatorId, licenseId, sequence, hash, finishedAt, arrivedAt, signer, record, leaf];
    }),
  );
  if (inserted === copies.length) return copies;
  const rows = await queries.all("SELECT position FROM copies WHERE position > ?", [after]);
  const places = new Set(rows.map((row) => Number(row.position)));
  return copies.filter((_, i) => places.has(after + i + 1));
}
