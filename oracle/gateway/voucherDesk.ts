/**
 * What licenses that settle by vouchers owe, and the vouchers that they give for it. They are served on credit: at every moment,
 * whatever requests run at once,
 *
 *   owed − signed + reserved ≤ credit        over all their terms that can still be claimed
 *   owed − charged + reserved ≤ balance − thawing − what a minimum still costs
 *   owed of the running term + reserved ≤ cap (if any)
 *
 * What is owed grows with each receipt, in the same transaction; what is signed is what the latest voucher says, which is stored
 * before it counts. A request sets aside what it may cost at worst when the store opens it, and there the limits are asked for the
 * last time: they are the same for all gateways of an operator.
 */
import { Cached } from "./cached";
import type { Chain, LicenseState } from "../chain/chain";
import type { VoucherAccount, VoucherChain } from "../chain/voucherChain";
import { refusalBy, type Refusal } from "./ledger";
import type { Log } from "../log";
import { ApiError } from "./openai";
import { unpackVoucher, voucherKeyOf, type SignedVoucher } from "../protocol/vouchers";
import type { Store } from "../store/store";
import type { StoredVoucherTerm } from "../store/voucherBooks";
import type { VoucherClaim } from "../store/tallies";

export interface VoucherDeskConfig {
  operatorId: number;
  /** What a license may owe without having signed for it, in units of the currency. */
  voucherCredit: bigint;
  /** How long the chain may take to answer. */
  chainTimeoutMs: number;
}

/** What the chain says of a license's terms changes with its road, which takes days, and with its terms, which is looked for. */
const ACCOUNT_MS = 600_000;

/** Takes vouchers, and keeps the tabs of those who sign them. */
export class VoucherDesk {
  private readonly accounts: Cached<bigint, VoucherAccount | null>;
  /** The terms that the store has, and since when they count, by license. */
  private readonly opened = new Map<bigint, string>();
  /** What licenses had spent when their terms were last read anew for it. */
  private readonly looked = new Map<bigint, bigint>();
  /** The last voucher of each license that is being taken: one at a time. */
  private readonly taking = new Map<bigint, Promise<unknown>>();

  constructor(
    private readonly config: VoucherDeskConfig,
    private readonly chain: Pick<Chain, "domain" | "now">,
    private readonly vouchers: VoucherChain,
    private readonly store: Store,
    log: Log,
  ) {
    this.accounts = new Cached(
      async (licenseId) => vouchers.account(licenseId, await chain.now()),
      { maxAgeMs: ACCOUNT_MS, deadlineMs: config.chainTimeoutMs },
      (licenseId, cause) =>
        log.warn("chain unreadable, serving by its last known state", { what: "vouchers", id: licenseId, cause }),
    );
  }

  /** What a license owes now. @param until When what begins now is done, Unix seconds */
  async tabOf(license: LicenseState, now: number, until: number): Promise<Tab> {
    const tab = await this.readTab(license, now, until);
    if (!tab.missesSpending || this.looked.get(license.licenseId) === license.spent) return tab;
    // Batches have charged it since: it has left vouchers and come back.
    this.looked.set(license.licenseId, license.spent);
    await this.accounts.refresh(license.licenseId);
    return this.readTab(license, now, until);
  }

  private async readTab(license: LicenseState, now: number, until: number): Promise<Tab> {
    const { licenseId } = license;
    const { operatorId, voucherCredit: credit } = this.config;
    const account = await this.openTerms(licenseId, until);
    const claimable = new Set(account.terms.map(({ term }) => term));
    // Read before what is owed: a request that ends in between counts twice for a moment, and never not at all.
    const reserved = await this.store.vouchers.reserved(licenseId);
    const terms = (await this.store.vouchers.terms(operatorId, licenseId)).filter(({ term }) => claimable.has(term));
    return new Tab({ license, terms, credit, now, reserved });
  }

  /** As `GET /v1/vouchers` shows it. */
  async accountOf(license: LicenseState, now: number, until: number): Promise<object> {
    return (await this.tabOf(license, now, until)).toJson();
  }

  /**
   * Keeps a voucher in the place of the one before. One for no more than that changes nothing.
   * Throws ApiError 400, 402 or 403 unless the license's key has signed it and the contract would pay it.
   */
  take(license: LicenseState, packed: string, now: number, until: number): Promise<void> {
    const { licenseId } = license;
    const before = this.taking.get(licenseId) ?? Promise.resolve();
    const taken = before.then(() => this.takeNext(license, packed, now, until));
    const settled = taken.catch(() => undefined);
    this.taking.set(licenseId, settled);
    void settled.then(() => {
      if (this.taking.get(licenseId) === settled) this.taking.delete(licenseId);
    });
    return taken;
  }

  private async takeNext(license: LicenseState, packed: string, now: number, until: number): Promise<void> {
    const signed = this.unpacked(packed);
    const { voucher } = signed;
    if (voucher.licenseId !== license.licenseId) {
      throw unfit("of_another", `it is of license ${voucher.licenseId}, and your API key of ${license.licenseId}`);
    }
    const { terms } = await this.tabOf(license, now, until);
    const term = terms.find((one) => one.term === voucher.term);
    if (term === undefined) {
      const open = terms.map((one) => one.term).join(", ");
      throw unfit("term", `it is of term ${voucher.term}; those that can be signed for are ${open}`);
    }
    if (voucher.spent <= term.signed) return;
    if (voucher.generation !== license.generation) {
      throw unfit("generation", `it is of generation ${voucher.generation}, the license's is ${license.generation}`);
    }
    await this.requireKey(signed);
    await this.requirePayable(signed, term, terms);
    await this.store.vouchers.save(term, voucher.spent, packed.toLowerCase(), now);
  }

  private unpacked(packed: string): SignedVoucher {
    try {
      return unpackVoucher(packed, this.config.operatorId);
    } catch (cause) {
      if (!(cause instanceof RangeError)) throw cause;
      throw new ApiError(400, "voucher_malformed", `${cause.message}: send what voucher:sign prints`, { cause });
    }
  }

  /** What an ending key signs is paid for a while yet; but whoever ended it has one that is better. */
  private async requireKey(signed: SignedVoucher): Promise<void> {
    const { licenseId, generation } = signed.voucher;
    const key = this.keyOf(signed);
    const { status } = await this.vouchers.key(licenseId, generation, key);
    if (status === "Active") return;
    const problem = status === "None" ? "isn't registered" : "was revoked";
    throw unfit(
      "key",
      `its key ${key} ${problem} for license ${licenseId}: sign with another, or register it (license:key)`,
    );
  }

  private keyOf(signed: SignedVoucher): string {
    try {
      return voucherKeyOf(this.chain.domain, signed);
    } catch (cause) {
      if (!(cause instanceof RangeError)) throw cause;
      throw unfit("signature", cause.message, cause);
    }
  }

  /** As it would be posted: after the vouchers that are held of terms before it. */
  private async requirePayable(
    signed: SignedVoucher,
    term: StoredVoucherTerm,
    terms: StoredVoucherTerm[],
  ): Promise<void> {
    const { operatorId } = this.config;
    const before = terms.filter(
      (one) => one.term < term.term && one.planId === term.planId && one.voucher !== null && one.signed > one.charged,
    );
    const held = before.map(({ voucher }) => unpackVoucher(voucher!, operatorId));
    const outcomes = await this.vouchers.preview(operatorId, term.planId, [...held, signed]);
    const { status, charged } = outcomes[outcomes.length - 1];
    if (status === "Charged" || status === "NothingDue") return;
    throw new ApiError(
      402,
      "voucher_unpayable",
      `the chain would pay ${charged} units of the voucher for ${signed.voucher.spent}, by its status ${status}: deposit, ` +
        `raise the cap that is in the way (license:cap, license:key), or sign for less`,
    );
  }

  /** What the chain says of the license's terms, all of which the store then counts in. */
  private async openTerms(licenseId: bigint, until: number): Promise<VoucherAccount> {
    let account = await this.accounts.get(licenseId);
    if (account === null || !isUpToDate(account, until)) account = await this.accounts.refresh(licenseId);
    if (account === null || account.terms.length === 0) {
      throw new ApiError(403, "not_by_vouchers", `license ${licenseId} has no term that can be paid by vouchers`);
    }
    const wanted = JSON.stringify(account.terms.map(({ term, since }) => [term, since]));
    if (this.opened.get(licenseId) !== wanted) {
      for (const term of account.terms) await this.store.vouchers.openTerm({ ...account, ...term }, term.spent);
      this.opened.set(licenseId, wanted);
    }
    return account;
  }
}

function isUpToDate({ terms }: VoucherAccount, until: number): boolean {
  const last = terms.at(-1);
  return last !== undefined && last.endsAt > until;
}

interface TabFacts {
  /** As the chain has it now. */
  license: LicenseState;
  terms: StoredVoucherTerm[];
  /** Units of the currency. */
  credit: bigint;
  /** Unix seconds. */
  now: number;
  /** What running requests may cost at worst. */
  reserved: bigint;
}

/** What one license owes at one moment, and what it may still have. */
export class Tab {
  /** Those that can be claimed, in their order. */
  readonly terms: StoredVoucherTerm[];

  constructor(private readonly facts: TabFacts) {
    this.terms = facts.terms;
  }

  /** Whether the chain has charged more than the license is known to owe for any term. */
  get missesSpending(): boolean {
    return this.terms.every(({ owed }) => owed < this.facts.license.spent);
  }

  /**
   * Which limit of the license's own is in the way of a request that may cost so much; null if none is.
   * Throws ApiError 402 with the voucher that is due, if that is what must come first, or 402 or 429 if there is no credit.
   */
  refusalOf({ balance, thawing, owed, cap }: LicenseState, worst: bigint): Refusal | null {
    const past = this.terms.find(({ endsAt, owed: all, signed }) => endsAt <= this.facts.now && all > signed);
    if (past !== undefined) throw this.due(past);
    const uncharged = sum(this.terms, (term) => max(0n, term.owed - term.charged));
    const { present } = this;
    const { reserved } = this.facts;
    const refusal =
      refusalBy("balance", balance - thawing - owed, { used: uncharged, reserved }, worst) ??
      (cap === 0n ? null : refusalBy("cap", cap, { used: present.owed, reserved }, worst));
    if (refusal === null) this.requireCredit(worst);
    return refusal;
  }

  /** The same limits, for the store. */
  claimOf({ balance, thawing, owed, cap }: LicenseState): VoucherClaim {
    return {
      terms: this.terms.map(({ term }) => term),
      present: this.present.term,
      credit: this.facts.credit,
      balance: balance - thawing - owed,
      cap: cap === 0n ? undefined : cap,
    };
  }

  private requireCredit(worst: bigint): void {
    const { credit, reserved } = this.facts;
    const { unsigned, present } = this;
    if (worst + reserved + unsigned <= credit) return;
    if (unsigned > 0n && worst + reserved <= credit) throw this.due(present);
    if (worst <= credit - (unsigned < 0n ? unsigned : 0n)) {
      throw new ApiError(
        429,
        "reserved_by_running_requests",
        `the request may cost up to ${worst} units, and running requests hold ${reserved} of a credit of ${credit}: try again when ` +
          `they have ended`,
        { retryAfterSeconds: 1 },
      );
    }
    throw new ApiError(
      402,
      "credit_exceeded",
      `the request may cost up to ${worst} units, and this gateway serves on a credit of ${credit}: lower max_tokens, or sign a ` +
        `voucher for ${present.owed + worst - credit} in advance`,
    );
  }

  /** That a voucher must come first, in words and as JSON. */
  private due({ term, owed, signed }: StoredVoucherTerm): ApiError {
    const { credit, license } = this.facts;
    const { licenseId } = license;
    return new ApiError(
      402,
      "voucher_due",
      `license ${licenseId} owes ${owed} units for its term ${term}, has signed for ${signed}, and is served on a credit of ` +
        `${credit}: sign a voucher for ${owed} (voucher:sign), and send it as x-licet-voucher or to POST /v1/vouchers`,
      { voucher: { ...this.names(), term, owed: owed.toString(), credit: credit.toString() } },
    );
  }

  toJson(): object {
    const { credit } = this.facts;
    const terms = this.terms.map(({ term, since, endsAt, owed, signed, charged }) => ({
      ...{ term, since, endsAt },
      ...{ owed: owed.toString(), signed: signed.toString(), charged: charged.toString() },
    }));
    return { object: "voucher_account", ...this.names(), credit: credit.toString(), terms };
  }

  private names(): object {
    const { licenseId, operatorId, generation } = this.facts.license;
    return { licenseId: licenseId.toString(), operatorId, generation };
  }

  /** The term that runs. */
  private get present(): StoredVoucherTerm {
    return this.terms.filter(({ since }) => since <= this.facts.now).at(-1) ?? this.terms[0];
  }

  /** What is owed and not signed for; below zero, what was signed for in advance. */
  private get unsigned(): bigint {
    return sum(this.terms, ({ owed, signed }) => owed - signed);
  }
}

function unfit(code: string, problem: string, cause?: unknown): ApiError {
  return new ApiError(403, `voucher_${code}`, `the voucher doesn't count: ${problem}`, { cause });
}

function sum<T>(all: readonly T[], of: (one: T) => bigint): bigint {
  return all.reduce((total, one) => total + of(one), 0n);
}

function max(a: bigint, b: bigint): bigint {
  return a > b ? a : b;
}
