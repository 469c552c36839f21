import type { Receipt } from "../protocol/types";
import type { Database, Queries, Row } from "./database";
import { StoreConflict } from "./storeConflict";
import { reservedByVoucher } from "./tallies";

/** What licenses on the voucher road owe, in units of the currency. */
export interface VoucherFigures {
  /** What no voucher is held for. */
  unsigned: bigint;
  /** What vouchers that are held say beyond what is charged. */
  unposted: bigint;
  /** Unix seconds; null if no voucher waits. */
  oldestUnpostedAt: number | null;
}

/** A term of a license on the voucher road. */
export interface VoucherTermFacts {
  operatorId: number;
  licenseId: bigint;
  term: number;
  planId: number;
  /** From when on use counts in it, and its end, Unix seconds. */
  since: number;
  endsAt: number;
}

/** What a license owes for a term. Money is in units of the currency, and all that was spent in the term so far. */
export interface StoredVoucherTerm extends VoucherTermFacts {
  /** What was charged before its use was counted here, and what its receipts cost. */
  owed: bigint;
  /** What the voucher that is held says; what was charged before, if there is none. */
  signed: bigint;
  /** What is charged on the chain, as far as is known. */
  charged: bigint;
  /** The voucher that is held, packed; null if there is none. */
  voucher: string | null;
  /** Since when a voucher for more than was charged is held, Unix seconds; null if none is. */
  unpostedSince: number | null;
}

/** What licenses on the voucher road owe an operator, term by term, and the vouchers that it holds. */
export class VoucherBooks {
  constructor(private readonly db: Database) {}

  /** Begins to count what is owed for a term, from what is charged in it already; anew if its license has come here again since. */
  async openTerm(
    { operatorId, licenseId, term, planId, since, endsAt }: VoucherTermFacts,
    charged: bigint,
  ): Promise<void> {
    await this.db.run(
      `INSERT INTO voucher_terms (operator_id, license_id, term, plan_id, since, ends_at, owed, signed, charged)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
         ON CONFLICT (operator_id, license_id, term) DO UPDATE SET plan_id = excluded.plan_id, since = excluded.since,
           ends_at = excluded.ends_at, owed = excluded.owed, signed = excluded.signed, charged = excluded.charged,
           voucher = NULL, unposted_since = NULL, is_closed = 0
         WHERE voucher_terms.since < excluded.since`,
      [operatorId, licenseId, term, planId, since, endsAt, charged, charged, charged],
    );
  }

  /** A license's terms that aren't closed, in their order. */
  async terms(operatorId: number, licenseId: bigint): Promise<StoredVoucherTerm[]> {
    return (
      await this.db.all(
        "SELECT * FROM voucher_terms WHERE operator_id = ? AND license_id = ? AND is_closed = 0 ORDER BY term",
        [operatorId, licenseId],
      )
    ).map(voucherTermOf);
  }

  /** What running requests of a license on the voucher road may cost at worst, at whatever gateway, in units of the currency. */
  reserved(licenseId: bigint): Promise<bigint> {
    return reservedByVoucher(this.db, licenseId);
  }

  /** Keeps a voucher in the place of the one before, which must be for less. @param at Unix seconds @returns whether it did */
  async save(
    term: Pick<VoucherTermFacts, "operatorId" | "licenseId" | "term">,
    signed: bigint,
    voucher: string,
    at: number,
  ): Promise<boolean> {
    const { operatorId, licenseId, term: number } = term;
    const changes = await this.db.run(
      `UPDATE voucher_terms SET signed = ?, voucher = ?, unposted_since = coalesce(unposted_since, ?)
         WHERE operator_id = ? AND license_id = ? AND term = ? AND signed < ? AND is_closed = 0`,
      [signed, voucher, at, operatorId, licenseId, number, signed],
    );
    return changes > 0;
  }

  /** The terms of which a voucher is held that isn't posted, by license and term: the order in which they are posted. */
  async unposted(): Promise<StoredVoucherTerm[]> {
    return (
      await this.db.all(
        "SELECT * FROM voucher_terms WHERE unposted_since IS NOT NULL ORDER BY operator_id, plan_id, license_id, term",
      )
    ).map(voucherTermOf);
  }

  /**
   * What the chain's counter of a term says. A voucher that is for no more than that is posted; one that is for more has waited
   * since `at`, Unix seconds.
   */
  async noteCharged(
    { operatorId, licenseId, term }: Pick<VoucherTermFacts, "operatorId" | "licenseId" | "term">,
    charged: bigint,
    at: number,
  ): Promise<void> {
    await this.db.run(
      `UPDATE voucher_terms SET charged = ?,
           unposted_since = CASE WHEN unposted_since IS NULL OR signed <= ? THEN NULL ELSE CAST(? AS BIGINT) END
         WHERE operator_id = ? AND license_id = ? AND term = ? AND charged <= ?`,
      [charged, charged, at, operatorId, licenseId, term, charged],
    );
  }

  /** Has all vouchers that are held be looked at as if none was posted, and were held since then. @param since Unix seconds */
  async markUnposted(since: number): Promise<void> {
    await this.db.run("UPDATE voucher_terms SET unposted_since = ? WHERE voucher IS NOT NULL AND is_closed = 0", [
      since,
    ]);
  }

  /** Closes the terms that ended before a time, Unix seconds, and of which no voucher waits: what is owed for them is lost. */
  async closeEnded(before: number): Promise<void> {
    await this.db.run(
      "UPDATE voucher_terms SET is_closed = 1 WHERE is_closed = 0 AND unposted_since IS NULL AND ends_at < ?",
      [before],
    );
  }

  /** How much waits to be signed for, and to be posted. */
  async figures(): Promise<VoucherFigures> {
    const row = (await this.db.row(
      `SELECT sum(CASE WHEN owed > signed THEN owed - signed ELSE 0 END) AS unsigned,
           sum(CASE WHEN signed > charged THEN signed - charged ELSE 0 END) AS unposted, min(unposted_since) AS oldest
         FROM voucher_terms WHERE is_closed = 0`,
    ))!;
    return {
      unsigned: (row.unsigned as bigint | null) ?? 0n,
      unposted: (row.unposted as bigint | null) ?? 0n,
      oldestUnpostedAt: row.oldest === null ? null : Number(row.oldest),
    };
  }

  /** When nothing more of it can be charged: what is still owed for it is lost. */
  async closeTerm({
    operatorId,
    licenseId,
    term,
  }: Pick<VoucherTermFacts, "operatorId" | "licenseId" | "term">): Promise<void> {
    await this.db.run(
      "UPDATE voucher_terms SET is_closed = 1, unposted_since = NULL WHERE operator_id = ? AND license_id = ? AND term = ?",
      [operatorId, licenseId, term],
    );
  }
}

/** Adds a request's cost to the term in which it finished: to the first that is known, where clocks differ. */
export async function addToTerm(
  queries: Queries,
  { operatorId, licenseId, finishedAt }: Receipt,
  cost: bigint,
): Promise<{ term: number; owed: bigint }> {
  const row = await queries.row(
    `UPDATE voucher_terms SET owed = owed + ? WHERE operator_id = ? AND license_id = ? AND term = (
       SELECT term FROM voucher_terms WHERE operator_id = ? AND license_id = ?
         ORDER BY CASE WHEN since <= ? THEN term ELSE -1 - term END DESC LIMIT 1
     ) RETURNING term, owed`,
    [cost, operatorId, licenseId, operatorId, licenseId, finishedAt],
  );
  if (row === null) throw new StoreConflict(`license ${licenseId} has no term on the voucher road`);
  return { term: Number(row.term), owed: row.owed as bigint };
}

function voucherTermOf(row: Row): StoredVoucherTerm {
  return {
    operatorId: Number(row.operator_id),
    licenseId: row.license_id as bigint,
    term: Number(row.term),
    planId: Number(row.plan_id),
    since: Number(row.since),
    endsAt: Number(row.ends_at),
    owed: row.owed as bigint,
    signed: row.signed as bigint,
    charged: row.charged as bigint,
    voucher: row.voucher as string | null,
    unpostedSince: row.unposted_since === null ? null : Number(row.unposted_since),
  };
}
