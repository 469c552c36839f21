import type { LicenseState } from "../chain/chain";

type LicenseLimits = Pick<LicenseState, "licenseId" | "balance" | "thawing" | "owed" | "spent" | "cap">;

interface GrantLimits {
  /** The grant's digest. */
  hash: string;
  /** Units of the currency; 0 is no limit. */
  cap: bigint;
}

/** Money set aside for one request that runs. Given back to the ledger once, by `settle` or `free`. */
export interface Reservation {
  licenseId: bigint;
  grantHash: string;
  /** Units of the currency. */
  amount: bigint;
  /** Whether vouchers pay for it: of its limits, only the grant's is kept here. */
  byVoucher?: true;
}

/** Which limit stands against a request, in units of the currency. */
export interface Refusal {
  limit: "balance" | "cap" | "grant" | "stake" | "credit";
  /** What the request may cost at worst. */
  needed: bigint;
  /** What the limit still allows. */
  available: bigint;
  /** What requests that run hold of that limit: when they end, `available` grows by what they don't use. */
  reserved: bigint;
}

interface Tally {
  /** Of finished requests: what a license owes and isn't settled, or what a grant has used. */
  used: bigint;
  /** Of running requests, at their worst. */
  reserved: bigint;
}

/**
 * Who may still spend what. Pure bookkeeping: it holds, at every moment and whatever requests run at once,
 *
 *   for a license   unsettled + reserved ≤ balance − thawing − owed   and   spent + unsettled + reserved ≤ cap (if any)
 *   for a grant     used + reserved ≤ cap (if any)
 *   for all         unsettled + reserved ≤ headroom of the operator's stake
 */
export class Ledger {
  private readonly licenses = new Tallies<bigint>();
  private readonly grants = new Tallies<string>();
  private all: Readonly<Tally> = { used: 0n, reserved: 0n };

  /** How many licenses and grants it keeps tallies of. */
  get size(): number {
    return this.licenses.size + this.grants.size;
  }

  /** What a license owes for finished requests that aren't settled. */
  unsettled(licenseId: bigint): bigint {
    return this.licenses.of(licenseId).used;
  }

  setUnsettled(licenseId: bigint, unsettled: bigint): void {
    this.licenses.change(licenseId, (tally) => ({ ...tally, used: unsettled }));
  }

  /** What all licenses owe for finished requests that aren't settled. */
  get unsettledOfAll(): bigint {
    return this.all.used;
  }

  /** What all running requests may cost at worst. */
  get reservedOfAll(): bigint {
    return this.all.reserved;
  }

  setUnsettledOfAll(unsettled: bigint): void {
    this.all = { ...this.all, used: unsettled };
  }

  /** What a grant's finished requests cost. */
  grantUsed(grantHash: string): bigint {
    return this.grants.of(grantHash).used;
  }

  setGrantUsed(grantHash: string, used: bigint): void {
    this.grants.change(grantHash, (tally) => ({ ...tally, used }));
  }

  /**
   * Sets `amount` aside, or says which limit is in the way and changes nothing.
   * @param headroom what the operator's stake still lets be in flight
   */
  reserve(license: LicenseLimits, grant: GrantLimits, amount: bigint, headroom: bigint): Reservation | Refusal {
    const ofLicense = this.licenses.of(license.licenseId);
    const ofGrant = this.grants.of(grant.hash);
    const refusal =
      refusalBy("balance", license.balance - license.thawing - license.owed, ofLicense, amount) ??
      (license.cap === 0n ? null : refusalBy("cap", license.cap - license.spent, ofLicense, amount)) ??
      (grant.cap === 0n ? null : refusalBy("grant", grant.cap, ofGrant, amount)) ??
      refusalBy("stake", headroom, this.all, amount);
    if (refusal !== null) return refusal;
    const reservation = { licenseId: license.licenseId, grantHash: grant.hash, amount };
    this.changeEach(reservation, amount, 0n);
    return reservation;
  }

  /** Sets `amount` aside of a grant, for a request that vouchers pay; or says that the grant's cap is in the way. */
  reserveByVoucher(licenseId: bigint, grant: GrantLimits, amount: bigint): Reservation | Refusal {
    const refusal = grant.cap === 0n ? null : refusalBy("grant", grant.cap, this.grants.of(grant.hash), amount);
    if (refusal !== null) return refusal;
    const reservation: Reservation = { licenseId, grantHash: grant.hash, amount, byVoucher: true };
    this.changeEach(reservation, amount, 0n);
    return reservation;
  }

  /** Ends a reservation with what its request cost. */
  settle(reservation: Reservation, cost: bigint): void {
    this.changeEach(reservation, -reservation.amount, cost);
  }

  /** Ends a reservation of a request that cost nothing. */
  free(reservation: Reservation): void {
    this.settle(reservation, 0n);
  }

  private changeEach({ licenseId, grantHash, byVoucher }: Reservation, reserved: bigint, used: bigint): void {
    const add = (tally: Tally) => ({ used: tally.used + used, reserved: tally.reserved + reserved });
    this.grants.change(grantHash, add);
    if (byVoucher === true) return;
    this.licenses.change(licenseId, add);
    this.all = add(this.all);
  }
}

const ZERO: Readonly<Tally> = { used: 0n, reserved: 0n };

/** Tallies by key. Those that are zero aren't kept, so that nobody can fill the memory without spending money. */
class Tallies<Key> {
  private readonly kept = new Map<Key, Readonly<Tally>>();

  get size(): number {
    return this.kept.size;
  }

  of(key: Key): Readonly<Tally> {
    return this.kept.get(key) ?? ZERO;
  }

  change(key: Key, changed: (tally: Readonly<Tally>) => Tally): void {
    const tally = changed(this.of(key));
    if (tally.used === 0n && tally.reserved === 0n) this.kept.delete(key);
    else this.kept.set(key, tally);
  }
}

export function isRefusal(answer: Reservation | Refusal): answer is Refusal {
  return "limit" in answer;
}

export function refusalBy(
  limit: Refusal["limit"],
  allowed: bigint,
  { used, reserved }: Readonly<Tally>,
  needed: bigint,
): Refusal | null {
  const rest = allowed - used - reserved;
  const available = rest < 0n ? 0n : rest;
  return needed <= available ? null : { limit, needed, available, reserved };
}
