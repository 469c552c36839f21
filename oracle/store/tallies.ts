/**
 * What licenses owe and may still spend, as running sums: they change in the transaction in which a request opens or ends, or a
 * receipt settles. `cost` and `freed` only grow: what is owed at a moment is their difference, and a limit that was read from
 * the chain when so much was freed stays one on `cost`, whatever settles later.
 *
 *   for a license   cost + reserved ≤ freed when its state was read + what it said could be spent
 *   for a grant     used + reserved ≤ cap (if any)
 *   for all         cost + reserved ≤ freed when the stake was read + its headroom
 *
 * What a license on the voucher road owes stands in its terms instead, which grow with its receipts.
 */
import type { Database, Queries, SqlValue } from "./database";
import type { Receipt } from "../protocol/types";
import { refusalBy, type Refusal } from "../gateway/ledger";

export interface Tally {
  /** Of all receipts that were ever to be charged by a batch, in units of the currency. */
  cost: bigint;
  /** Of these, what is settled, or void. */
  freed: bigint;
  /** What running requests may cost at worst. */
  reserved: bigint;
}

/** What a request sets aside until it ends, and the limits within which it may. Units of the currency. */
export interface Claim {
  /** Which gateway serves it. */
  gateway: string;
  amount: bigint;
  /** On a license's `cost` and `reserved`; those that are left out don't count. */
  balance?: bigint;
  cap?: bigint;
  /** On what a grant used and `reserved`; 0 is none. */
  grantCap: bigint;
  /** On `cost` and `reserved` of all. */
  stake?: bigint;
  /** In place of all limits but the grant's, where vouchers pay. */
  voucher?: VoucherClaim;
}

/** The limits of a license on the voucher road. Units of the currency. */
export interface VoucherClaim {
  /** Those that can be claimed. */
  terms: number[];
  /** The one that runs. */
  present: number;
  /** On what isn't signed for and is reserved. */
  credit: bigint;
  /** On what isn't charged and is reserved. */
  balance: bigint;
  /** On what the present term owes and is reserved. */
  cap?: bigint;
}

export class Tallies {
  constructor(private readonly db: Database) {}

  /** What a license's receipts cost that may still be charged. */
  async unsettled(licenseId: bigint): Promise<bigint> {
    const { cost, freed } = await this.of(licenseId);
    return cost - freed;
  }

  /** What the receipts of all licenses cost that may still be charged. */
  async unsettledOfAll(): Promise<bigint> {
    const { cost, freed } = await this.ofAll();
    return cost - freed;
  }

  of(licenseId: bigint): Promise<Tally> {
    return tallyOf(this.db, "license", licenseId);
  }

  ofAll(): Promise<Tally> {
    return tallyOf(this.db, "all", 0n);
  }

  /** How many licenses owe something for receipts that may still be charged by a batch. */
  async owingLicenses(): Promise<number> {
    const row = await this.db.row("SELECT count(*) AS count FROM tallies WHERE what = 'license' AND cost > freed");
    return Number(row!.count);
  }
}

const ZERO: Tally = { cost: 0n, freed: 0n, reserved: 0n };

export async function tallyOf(queries: Queries, what: "license" | "all", id: bigint): Promise<Tally> {
  const row = await queries.row("SELECT cost, freed, reserved FROM tallies WHERE what = ? AND id = ?", [what, id]);
  return row === null ? ZERO : (row as unknown as Tally);
}

/** What running requests of a license on the voucher road may cost at worst. */
export async function reservedByVoucher(queries: Pick<Queries, "row">, licenseId: bigint): Promise<bigint> {
  const row = await queries.row(
    "SELECT coalesce(sum(reserved), 0) AS reserved FROM open_requests WHERE license_id = ? AND on_voucher_road = 1",
    [licenseId],
  );
  return row!.reserved as bigint;
}

/** Which of the limits stands against a request, if one does. */
export async function limitAgainst(
  queries: Queries,
  { operatorId, licenseId, grantHash }: Pick<Receipt, "operatorId" | "licenseId" | "grantHash">,
  { amount, balance, cap, grantCap, stake, voucher }: Claim,
): Promise<Refusal | null> {
  const refusal = voucher && (await voucherLimitAgainst(queries, operatorId, licenseId, amount, voucher));
  if (refusal) return refusal;
  const license = await tallyOf(queries, "license", licenseId);
  const all = await tallyOf(queries, "all", 0n);
  const grant = await queries.row("SELECT used, reserved FROM grants WHERE grant_hash = ?", [grantHash]);
  const against = (limit: Refusal["limit"], most: bigint | undefined, used: bigint, reserved: bigint) =>
    most === undefined ? null : refusalBy(limit, most, { used, reserved }, amount);
  return (
    against("balance", balance, license.cost, license.reserved) ??
    against("cap", cap, license.cost, license.reserved) ??
    against("grant", grantCap === 0n ? undefined : grantCap, grant?.used as bigint, grant?.reserved as bigint) ??
    against("stake", stake, all.cost, all.reserved)
  );
}

async function voucherLimitAgainst(
  queries: Queries,
  operatorId: number,
  licenseId: bigint,
  amount: bigint,
  { terms, present, credit, balance, cap }: VoucherClaim,
): Promise<Refusal | null> {
  const rows = await queries.all(
    "SELECT term, owed, signed, charged FROM voucher_terms WHERE operator_id = ? AND license_id = ? AND is_closed = 0",
    [operatorId, licenseId],
  );
  const reserved = await reservedByVoucher(queries, licenseId);
  const claimable = (rows as unknown as Record<"term" | "owed" | "signed" | "charged", bigint>[]).filter(({ term }) =>
    terms.includes(Number(term)),
  );
  const sum = (of: (one: (typeof claimable)[number]) => bigint) => claimable.reduce((all, one) => all + of(one), 0n);
  const against = (limit: Refusal["limit"], most: bigint, used: bigint) =>
    refusalBy(limit, most, { used, reserved }, amount);
  return (
    against(
      "balance",
      balance,
      sum(({ owed, charged }) => (owed > charged ? owed - charged : 0n)),
    ) ??
    (cap === undefined
      ? null
      : against(
          "cap",
          cap,
          sum(({ term, owed }) => (Number(term) === present ? owed : 0n)),
        )) ??
    against(
      "credit",
      credit,
      sum(({ owed, signed }) => owed - signed),
    )
  );
}

/** Adds to what a license and all together owe and have reserved. */
export async function addToTallies(queries: Queries, licenseId: bigint, cost: bigint, reserved: bigint): Promise<void> {
  if (cost === 0n && reserved === 0n) return;
  const add = (what: string, id: bigint) =>
    queries.run(
      `INSERT INTO tallies VALUES (?, ?, ?, 0, ?) ON CONFLICT (what, id)
         DO UPDATE SET cost = tallies.cost + excluded.cost, reserved = tallies.reserved + excluded.reserved`,
      [what, id, cost, reserved],
    );
  await add("license", licenseId);
  await add("all", 0n);
}

export async function addToGrant(queries: Queries, grantHash: string, cost: bigint, reserved: bigint): Promise<void> {
  const sql = "UPDATE grants SET used = used + ?, reserved = reserved + ? WHERE grant_hash = ?";
  await queries.run(sql, [cost, reserved, grantHash]);
}

/**
 * Before receipts' state changes: takes what they cost out of what is owed, or puts it back.
 * @param condition which of the receipts it is
 * @param sign 1 where they won't be charged any more, -1 where they will be again
 */
export async function freeCost(queries: Queries, condition: string, values: SqlValue[], sign: 1 | -1): Promise<void> {
  const rows = await queries.all(
    `SELECT license_id, sum(cost) AS cost FROM receipts WHERE ${condition} AND term IS NULL GROUP BY license_id`,
    values,
  );
  let all = 0n;
  for (const { license_id: id, cost } of rows) {
    const freed = BigInt(sign) * (cost as bigint);
    all += freed;
    await queries.run("UPDATE tallies SET freed = freed + ? WHERE what = 'license' AND id = ?", [freed, id]);
  }
  await queries.run("UPDATE tallies SET freed = freed + ? WHERE what = 'all'", [all]);
}
