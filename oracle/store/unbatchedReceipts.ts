import { breathe } from "../breathe";
import { usageBy } from "../protocol/meters";
import { countsOf } from "../protocol/receiptBytes";
import { type Epoch, type Lane, METERS, type Usage } from "../protocol/types";
import { type ChosenReceipt, counted, type LicenseTotal } from "../settler/batches";
import type { Database, Queries, Row } from "./database";
import { laneOf, laneValues } from "./laneRows";
import { chunks, marks } from "./lists";
import {
  lastPosition,
  LICENSES_AT_ONCE,
  METER_COLUMNS,
  receiptOf,
  signedReceiptOf,
  type StoredReceipt,
  UNBATCHED_IN_SPAN,
  voidReceipts,
  WITH_BATCH_STATE,
} from "./receiptRows";

/** What a lane's licenses have in no batch. */
export interface UnbatchedTotals {
  /** Of all, Unix seconds. */
  oldestFinishedAt: number;
  /** The place, in the order of all receipts, up to which they were looked at. */
  upTo: bigint;
  /** Ascending. */
  licenses: LicenseTotal[];
}

/** An operator's receipts that are in no batch, lane by lane. */
export class UnbatchedReceipts {
  constructor(private readonly db: Database) {}

  /** The lanes that have receipts in no batch, and when the oldest of these finished; the oldest first. */
  async lanes(): Promise<(Lane & { oldestFinishedAt: number })[]> {
    const rows = await this.db.all(
      "SELECT operator_id, plan_id, version_id, min(finished_at) AS oldest FROM receipts WHERE state = 'unbatched' GROUP BY 1, 2, 3 ORDER BY oldest",
    );
    return rows.map((row) => ({ ...laneOf(row), oldestFinishedAt: Number(row.oldest) }));
  }

  /** A lane's receipts of an epoch that are in no batch, by license and sequence: the order of the sum tree. */
  async receipts(lane: Lane, { epochStart, epochEnd }: Epoch): Promise<StoredReceipt[]> {
    const rows = await this.db.all(`${WITH_BATCH_STATE} WHERE ${UNBATCHED_IN_SPAN} ORDER BY license_id, sequence`, [
      ...laneValues(lane),
      epochStart,
      epochEnd,
    ]);
    return rows.map(receiptOf);
  }

  /**
   * What each license has of them, ascending by license, and when the oldest of all finished; null if there are none.
   * @returns "unknown" where some were written before their meters were kept apart
   */
  async totals(lane: Lane, { epochStart, epochEnd }: Epoch): Promise<UnbatchedTotals | "unknown" | null> {
    const upTo = await lastPosition(this.db);
    const sums = METER_COLUMNS.map((column) => `sum(${column}) AS ${column}`).join(", ");
    const rows = await this.db.all(
      `SELECT license_id, count(*) AS receipts, count(requests) AS known, min(finished_at) AS oldest, ${sums}
         FROM receipts WHERE ${UNBATCHED_IN_SPAN} GROUP BY license_id ORDER BY license_id`,
      [...laneValues(lane), epochStart, epochEnd],
    );
    if (rows.length === 0) return null;
    if (rows.some(({ receipts, known }) => receipts !== known)) return "unknown";
    return {
      upTo,
      oldestFinishedAt: rows.reduce((oldest, row) => Math.min(oldest, Number(row.oldest)), Infinity),
      licenses: rows.map((row) => ({
        licenseId: row.license_id as bigint,
        receipts: Number(row.receipts),
        usage: usageOfRow(row),
      })),
    };
  }

  /** What those of some licenses, ascending, count; by license and sequence. */
  async ofLicenses(lane: Lane, { epochStart, epochEnd }: Epoch, licenses: readonly bigint[]): Promise<ChosenReceipt[]> {
    const found: ChosenReceipt[] = [];
    for (const some of chunks(licenses, LICENSES_AT_ONCE)) {
      const condition = `${UNBATCHED_IN_SPAN} AND license_id IN (${marks(some)}) ORDER BY license_id, sequence`;
      const values = [...laneValues(lane), epochStart, epochEnd, ...some];
      let rows = await this.db.all(`SELECT receipt_hash, leaf, record FROM receipts WHERE ${condition}`, values);
      if (rows.some(({ leaf }) => leaf === null)) {
        rows = await this.db.all(`SELECT * FROM receipts WHERE ${condition}`, values);
      }
      for (const row of rows) found.push(chosenReceiptOf(row));
      await breathe();
    }
    return found;
  }

  /** How many these are. */
  count(lane: Lane, span: Epoch): Promise<number> {
    return countUnbatched(this.db, lane, span);
  }

  /** Whose keys signed receipts that are in no batch. */
  async signers(): Promise<{ operatorId: number; signer: string }[]> {
    const rows = await this.db.all(
      "SELECT DISTINCT operator_id, signer FROM receipts WHERE state = 'unbatched' AND signer IS NOT NULL",
    );
    return rows.map((row) => ({ operatorId: Number(row.operator_id), signer: row.signer as string }));
  }

  /** Voids what a key signed and no batch has, and says how many these are. */
  voidSignedBy(operatorId: number, signer: string): Promise<number> {
    return this.db.transaction((queries) =>
      voidReceipts(queries, "state = 'unbatched' AND operator_id = ? AND signer = ?", [operatorId, signer]),
    );
  }

  /** Voids a lane's receipts of an epoch that are in no batch, and says how many these are: nothing settles them any more. */
  void(lane: Lane, { epochStart, epochEnd }: Epoch): Promise<number> {
    return this.db.transaction((queries) =>
      voidReceipts(queries, UNBATCHED_IN_SPAN, [...laneValues(lane), epochStart, epochEnd]),
    );
  }
}

export async function countUnbatched(queries: Queries, lane: Lane, { epochStart, epochEnd }: Epoch): Promise<number> {
  const row = await queries.row(`SELECT count(*) AS count FROM receipts WHERE ${UNBATCHED_IN_SPAN}`, [
    ...laneValues(lane),
    epochStart,
    epochEnd,
  ]);
  return Number(row!.count);
}

function usageOfRow(row: Row): Usage {
  return usageBy((meter) => row[METER_COLUMNS[METERS.indexOf(meter)]] as bigint);
}

function chosenReceiptOf(row: Row): ChosenReceipt {
  const hash = row.receipt_hash as string;
  if (row.leaf === null) return counted({ ...signedReceiptOf(row), hash });
  return { receipt: countsOf(row.record as Uint8Array), leaf: row.leaf as Uint8Array, hash };
}
