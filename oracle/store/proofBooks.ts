/** Proofs of answers, under plans that demand them: what an operator made, and which receipts an attestor has found proven. */
import type { Epoch, Lane } from "../protocol/types";
import type { Database } from "./database";
import { chunks, marks } from "./lists";
import { METER_COLUMNS, spanValues, UNBATCHED_IN_SPAN, voidReceipts } from "./receiptRows";

/** What counts nothing costs nothing. Of receipts of an older store it isn't known. */
const COUNTS = `${METER_COLUMNS.map((column) => `coalesce(${column}, 1)`).join(" + ")} > 0`;
const HAS_NO_PROOF = "NOT EXISTS (SELECT 1 FROM proofs WHERE proofs.receipt_hash = receipts.receipt_hash)";

export class ProofBooks {
  constructor(private readonly db: Database) {}

  // An operator's

  /**
   * Hashes of receipts of a lane and a span that count something, are in no batch and have no proof. Of each period, in seconds, the
   * first of each license comes first, then the second of each, and so on, so that none keeps others waiting.
   */
  async unproven(lane: Lane, span: Epoch, period: number, most: number): Promise<string[]> {
    const rows = await this.db.all(
      `SELECT receipt_hash FROM receipts WHERE ${UNBATCHED_IN_SPAN} AND ${COUNTS} AND ${HAS_NO_PROOF}
         ORDER BY finished_at / ?, row_number() OVER (PARTITION BY license_id ORDER BY sequence), finished_at LIMIT ?`,
      [...spanValues({ ...lane, ...span }), period, most],
    );
    return rows.map((row) => row.receipt_hash as string);
  }

  /** Whether so many receipts of a lane count something, are in no batch and have no proof. */
  async hasUnproven(lane: Lane, count: number): Promise<boolean> {
    const allTime = { epochStart: 0, epochEnd: 2 ** 40 };
    const row = await this.db.row(
      `SELECT 1 FROM receipts WHERE ${UNBATCHED_IN_SPAN} AND ${COUNTS} AND ${HAS_NO_PROOF} LIMIT 1 OFFSET ?`,
      [...spanValues({ ...lane, ...allTime }), count - 1],
    );
    return row !== null;
  }

  async keep(receiptHash: string, proof: Uint8Array): Promise<void> {
    await this.db.run("INSERT INTO proofs VALUES (?, ?) ON CONFLICT DO NOTHING", [receiptHash, proof]);
  }

  /** By receipts' hashes, those that there are. */
  async proofs(receiptHashes: readonly string[]): Promise<Map<string, Uint8Array>> {
    const found = new Map<string, Uint8Array>();
    for (const some of chunks(receiptHashes)) {
      const rows = await this.db.all(`SELECT * FROM proofs WHERE receipt_hash IN (${marks(some)})`, some);
      for (const row of rows) found.set(row.receipt_hash as string, row.proof as Uint8Array);
    }
    return found;
  }

  /** Voids receipts that are in no batch and have no proof, and says how many these are: nobody is charged for them. */
  giveUp(receiptHashes: readonly string[]): Promise<number> {
    return this.db.transaction(async (queries) => {
      let count = 0;
      for (const some of chunks(receiptHashes)) {
        const condition = `receipt_hash IN (${marks(some)}) AND state = 'unbatched' AND ${HAS_NO_PROOF}`;
        count += await voidReceipts(queries, condition, some);
      }
      return count;
    });
  }

  /** Forgets the proofs of receipts that the store hasn't any more, and says how many these are. */
  drop(): Promise<number> {
    return this.db.run(
      "DELETE FROM proofs WHERE NOT EXISTS (SELECT 1 FROM receipts WHERE receipts.receipt_hash = proofs.receipt_hash)",
    );
  }

  // An attestor's

  /** @param finishedAt of each receipt, Unix seconds, by its hash */
  async noteProven(finishedAt: ReadonlyMap<string, number>): Promise<void> {
    await this.db.transaction(async (queries) => {
      for (const [hash, at] of finishedAt)
        await queries.run("INSERT INTO proven_receipts VALUES (?, ?) ON CONFLICT DO NOTHING", [hash, at]);
    });
  }

  /** Which of these receipts were found proven. */
  async provenOf(receiptHashes: readonly string[]): Promise<Set<string>> {
    const proven = new Set<string>();
    for (const some of chunks(receiptHashes)) {
      const rows = await this.db.all(
        `SELECT receipt_hash FROM proven_receipts WHERE receipt_hash IN (${marks(some)})`,
        some,
      );
      for (const row of rows) proven.add(row.receipt_hash as string);
    }
    return proven;
  }

  /** Forgets which receipts are proven that finished before then, Unix seconds. */
  dropProven(finishedBefore: number): Promise<number> {
    return this.db.run("DELETE FROM proven_receipts WHERE finished_at < ?", [finishedBefore]);
  }
}
