import { signedGrantFromJson } from "../protocol/messages";
import type { Database, Queries, SqlValue } from "./database";

/** What one archive is of: a settled batch, or what no batch will ever have of a day: receipts that are void, or paid by vouchers. */
export interface ArchiveUnit {
  /** The batch's id, or the day such as "2026-11-23", and "-2" after it for a second one. */
  name: string;
  /** Of a day, Unix seconds; null for a batch. */
  day: { from: number; until: number } | null;
}

/** Where a license's receipts are in an archive. */
export interface ArchivedSpan {
  name: string;
  operatorId: number;
  licenseId: bigint;
  /** Their lowest and highest numbers. */
  first: bigint;
  last: bigint;
  /** Which bytes of the file: a gzip member of its own. */
  at: number;
  bytes: number;
}

export interface ArchiveFacts {
  name: string;
  /** Of the file, in hex. */
  sha256: string;
  bytes: number;
  receipts: number;
  /** Unix seconds. */
  archivedAt: number;
}

const A_DAY = 86_400;

/** No license's last receipt is moved: the next is numbered after it. */
const NOT_LAST = `EXISTS (SELECT 1 FROM receipts AS later WHERE later.operator_id = receipts.operator_id
  AND later.license_id = receipts.license_id AND later.sequence > receipts.sequence)`;

const UNBATCHABLE = "(state = 'void' OR term IS NOT NULL)";

/** What of an operator's store is in archives, and what is due to be. */
export class ArchiveRows {
  constructor(private readonly db: Database) {}

  /** The oldest that is to be archived, all of which ended before a time, Unix seconds; null if nothing is. */
  async due(before: number): Promise<ArchiveUnit | null> {
    const batch = await this.db.row(
      `SELECT batch_id FROM batches WHERE state = 'settled' AND epoch_end < ?
         AND NOT EXISTS (SELECT 1 FROM archives WHERE name = batches.batch_id)
         AND EXISTS (SELECT 1 FROM receipts WHERE receipts.batch_id = batches.batch_id) ORDER BY epoch_end LIMIT 1`,
      [before],
    );
    if (batch !== null) return { name: batch.batch_id as string, day: null };
    const oldest = await this.db.row(
      `SELECT min(finished_at) AS at FROM receipts WHERE ${UNBATCHABLE} AND finished_at < ? AND ${NOT_LAST}`,
      [before - A_DAY],
    );
    if (oldest === null || oldest.at === null) return null;
    const from = Number(oldest.at) - (Number(oldest.at) % A_DAY);
    const date = new Date(from * 1_000).toISOString().slice(0, 10);
    const { count } = (await this.db.row("SELECT count(*) AS count FROM archives WHERE name = ? OR name LIKE ?", [
      date,
      `${date}-%`,
    ]))!;
    const name = count === 0n ? date : `${date}-${Number(count) + 1}`;
    return { name, day: { from, until: from + A_DAY } };
  }

  /** Whose receipts are in it, ascending. */
  async licensesOf(unit: ArchiveUnit): Promise<{ operatorId: number; licenseId: bigint }[]> {
    const { where, values } = conditionOf(unit);
    const rows = await this.db.all(
      `SELECT DISTINCT operator_id, license_id FROM receipts WHERE ${where} ORDER BY operator_id, license_id`,
      values,
    );
    return rows.map((row) => ({ operatorId: Number(row.operator_id), licenseId: row.license_id as bigint }));
  }

  /** The ids of the requests of a license's receipts in it, in the receipts' order. */
  async requestsOf(unit: ArchiveUnit, operatorId: number, licenseId: bigint): Promise<string[]> {
    const { where, values } = conditionOf(unit);
    const rows = await this.db.all(
      `SELECT request_id FROM receipts WHERE ${where} AND operator_id = ? AND license_id = ? ORDER BY sequence`,
      [...values, operatorId, licenseId],
    );
    return rows.map((row) => row.request_id as string);
  }

  /** Notes an archive that is on disk, before anything of it is moved there; in the place of one that nothing was moved to. */
  async add(
    { name, sha256, bytes, receipts, archivedAt }: ArchiveFacts,
    spans: readonly ArchivedSpan[],
  ): Promise<void> {
    await this.db.transaction(async (queries) => {
      await queries.run("DELETE FROM archived_spans WHERE name = ?", [name]);
      await queries.run("DELETE FROM archives WHERE name = ? AND is_moved = 0", [name]);
      await queries.run("INSERT INTO archives VALUES (?, ?, ?, ?, ?, 0)", [name, sha256, bytes, receipts, archivedAt]);
      for (const { operatorId, licenseId, first, last, at, bytes: length } of spans) {
        await queries.run("INSERT INTO archived_spans VALUES (?, ?, ?, ?, ?, ?, ?)", [
          ...[name, operatorId, licenseId, first, last, at, length],
        ]);
      }
    });
  }

  /** Archives of which some receipts are still rows. */
  async unmoved(): Promise<string[]> {
    const rows = await this.db.all("SELECT name FROM archives WHERE is_moved = 0 ORDER BY archived_at, name");
    return rows.map((row) => row.name as string);
  }

  async spansOf(name: string): Promise<ArchivedSpan[]> {
    const rows = await this.db.all("SELECT * FROM archived_spans WHERE name = ? ORDER BY operator_id, license_id", [
      name,
    ]);
    return rows.map(spanOf);
  }

  /** Takes the rows of receipts away that an archive has, and notes where their requests' are. */
  async move(span: ArchivedSpan, requestIds: readonly string[]): Promise<void> {
    for (let from = 0; from < requestIds.length; from += AT_ONCE) {
      const some = requestIds.slice(from, from + AT_ONCE);
      const marks = some.map(() => "?").join(", ");
      await this.db.transaction(async (queries) => {
        for (const requestId of some) {
          await queries.run("INSERT INTO archived_requests VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING", [
            ...[requestId, span.name, span.operatorId, span.licenseId],
          ]);
        }
        await removeRows(queries, `request_id IN (${marks})`, some);
      });
    }
  }

  /** When all of it is moved: of a batch itself, only what is on the chain, too, is left. */
  async markMoved(name: string): Promise<void> {
    await this.db.transaction(async (queries) => {
      await queries.run("UPDATE batches SET entries = '', measurements = '[]' WHERE batch_id = ?", [name]);
      await queries.run("DELETE FROM signatures WHERE batch_id = ?", [name]);
      await queries.run("UPDATE archives SET is_moved = 1 WHERE name = ?", [name]);
    });
  }

  /** Those of batches that were their licenses' last when they were archived, and aren't any more. */
  removeFormerLast(): Promise<number> {
    return this.db.transaction((queries) => removeRows(queries, "batch_id IN (SELECT name FROM archives)", []));
  }

  /** Where a request's receipt is; null if it isn't in an archive. */
  async spanOfRequest(requestId: string): Promise<ArchivedSpan | null> {
    const row = await this.db.row(
      `SELECT archived_spans.* FROM archived_requests JOIN archived_spans USING (name, operator_id, license_id) WHERE request_id = ?`,
      [requestId],
    );
    return row && spanOf(row);
  }

  /** Where a license's receipts are from a number on, in their order; at most so many places. */
  async spansFrom(operatorId: number, licenseId: bigint, sequence: bigint, most: number): Promise<ArchivedSpan[]> {
    const rows = await this.db.all(
      `SELECT * FROM archived_spans WHERE operator_id = ? AND license_id = ? AND last >= ? ORDER BY first, last LIMIT ?`,
      [operatorId, licenseId, sequence, most],
    );
    return rows.map(spanOf);
  }

  /** Forgets archives that were made before a time, Unix seconds, all of whose receipts are in them alone. @returns their names */
  removeOlder(before: number): Promise<string[]> {
    return this.db.transaction(async (queries) => {
      const which = "SELECT name FROM archives WHERE is_moved = 1 AND archived_at < ?";
      const rows = await queries.all(which, [before]);
      await queries.run(`DELETE FROM archived_spans WHERE name IN (${which})`, [before]);
      await queries.run("DELETE FROM archives WHERE is_moved = 1 AND archived_at < ?", [before]);
      return rows.map(({ name }) => name as string);
    });
  }

  async list(): Promise<ArchiveFacts[]> {
    return (await this.db.all("SELECT * FROM archives ORDER BY archived_at, name")).map(factsOf);
  }

  /** Null if there is none of this name. */
  async find(name: string): Promise<ArchiveFacts | null> {
    const row = await this.db.row("SELECT * FROM archives WHERE name = ?", [name]);
    return row && factsOf(row);
  }

  /**
   * Forgets what nothing asks for any more: how nonces ended, but for the last NONCES_KEPT of each account; sales by x402 that
   * were over before a time, Unix seconds; and grants that had ended by then and have no receipt here, with their revocations.
   */
  async prune(before: number): Promise<void> {
    await this.db.run(
      `DELETE FROM transactions WHERE state <> 'open' AND nonce < (
         SELECT max(nonce) FROM transactions AS others WHERE others.account = transactions.account
       ) - ${NONCES_KEPT}`,
    );
    await this.pruneGrants(before);
    // Of requests that a rebuilt store knows nothing else of: others go with their receipts.
    await this.db.run(
      `DELETE FROM request_signatures WHERE signed_at < ?
         AND NOT EXISTS (SELECT 1 FROM receipts WHERE receipts.request_id = request_signatures.used_by)
         AND NOT EXISTS (SELECT 1 FROM open_requests WHERE open_requests.request_id = request_signatures.used_by)`,
      [before],
    );
    await this.db.run("DELETE FROM prepayments WHERE state IN ('bought', 'refunded', 'failed') AND accepted_at < ?", [
      before,
    ]);
  }

  /** What had receipts under it is in archives, with them. */
  private async pruneGrants(endedBefore: number): Promise<void> {
    await this.noteEnds();
    const operators = await this.operators();
    const ended = await this.db.all("SELECT grant_hash, license_id FROM grants WHERE expires_at < ?", [endedBefore]);
    for (const { grant_hash: hash, license_id: licenseId } of ended) {
      await this.db.transaction(async (queries) => {
        for (const operatorId of operators) {
          const receipt = await queries.row(
            "SELECT 1 FROM receipts WHERE operator_id = ? AND license_id = ? AND grant_hash = ? LIMIT 1",
            [operatorId, licenseId, hash],
          );
          if (receipt !== null) return;
        }
        if ((await queries.row("SELECT 1 FROM open_requests WHERE grant_hash = ?", [hash])) !== null) return;
        await queries.run("DELETE FROM revoked_grants WHERE license_id = ? AND grant_hash = ?", [licenseId, hash]);
        await queries.run("DELETE FROM grants WHERE grant_hash = ?", [hash]);
      });
    }
  }

  /** Of grants that were stored before their ends were. */
  private async noteEnds(): Promise<void> {
    const rows = await this.db.all("SELECT grant_hash, body FROM grants WHERE expires_at IS NULL AND body <> ''");
    for (const { grant_hash: hash, body } of rows) {
      const { grant } = signedGrantFromJson(JSON.parse(body as string));
      await this.db.run("UPDATE grants SET expires_at = ? WHERE grant_hash = ?", [grant.expiresAt, hash]);
    }
  }

  /** Whose receipts are rows: found by as many looks at an index. */
  private async operators(): Promise<bigint[]> {
    const found: bigint[] = [];
    for (;;) {
      const next = await this.db.row("SELECT min(operator_id) AS next FROM receipts WHERE operator_id > ?", [
        found.at(-1) ?? -1n,
      ]);
      if (next!.next === null) return found;
      found.push(next!.next as bigint);
    }
  }
}

/** Of how many of an account's last nonces is remembered how they ended. */
export const NONCES_KEPT = 10_000;

const AT_ONCE = 500;

function conditionOf({ name, day }: ArchiveUnit): { where: string; values: SqlValue[] } {
  if (day === null) return { where: "batch_id = ?", values: [name] };
  return {
    where: `${UNBATCHABLE} AND finished_at >= ? AND finished_at < ?`,
    values: [day.from, day.until],
  };
}

async function removeRows(queries: Queries, which: string, values: SqlValue[]): Promise<number> {
  await queries.run(
    `DELETE FROM request_signatures WHERE used_by IN (SELECT request_id FROM receipts WHERE ${which} AND ${NOT_LAST})`,
    values,
  );
  return queries.run(`DELETE FROM receipts WHERE ${which} AND ${NOT_LAST}`, values);
}

function spanOf(row: Record<string, SqlValue>): ArchivedSpan {
  return {
    name: row.name as string,
    operatorId: Number(row.operator_id),
    licenseId: row.license_id as bigint,
    first: row.first as bigint,
    last: row.last as bigint,
    at: Number(row.at),
    bytes: Number(row.bytes),
  };
}

function factsOf(row: Record<string, SqlValue>): ArchiveFacts {
  return {
    name: row.name as string,
    sha256: row.sha256 as string,
    bytes: Number(row.bytes),
    receipts: Number(row.receipts),
    archivedAt: Number(row.archived_at),
  };
}
