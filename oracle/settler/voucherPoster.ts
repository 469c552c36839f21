/**
 * Posts the vouchers that a gateway holds: those of licenses under one plan together, daily, in the order of their terms. Whatever can
 * make one worthless is announced an epoch and a window before, so that none is lost that is posted as often.
 *
 *   held ──> previewed ──> submitted ──> final, and posted: the chain's counter says what the voucher says
 *              └── can't be charged now: later      └── can't be charged any more: its term is closed
 *
 * A voucher is for all that was spent: posting one twice, or after its like, changes nothing. So it may die anywhere.
 */
import { concat, keccak256, toUtf8Bytes } from "ethers";
import type { Chain } from "../chain/chain";
import type { VoucherChain } from "../chain/voucherChain";
import type { Log } from "../log";
import { unpackVoucher, type VoucherOutcome, type VoucherStatusName } from "../protocol/vouchers";
import { inCurrency, isWorthIt, type EconomyConfig } from "./economy";
import type { Call, PricedSender, SettlementEscrow } from "./sender";
import type { Store } from "../store/store";
import type { StoredVoucherTerm } from "../store/voucherBooks";

export interface VoucherPosterConfig {
  /** The account that posts. */
  poster: string;
  /** How long a voucher may wait, in seconds; a day, or a third of an epoch and a window, if that is less. */
  intervalSeconds?: number;
  /** When a call is worth its gas; it isn't asked for if this is left out. */
  economy?: EconomyConfig;
}

export interface VoucherPosterDeps {
  chain: Pick<Chain, "now" | "epochPeriod" | "windowPeriod">;
  vouchers: VoucherChain;
  store: Store;
  escrow: Pick<SettlementEscrow, "operatorShareBps" | "decimals">;
  sender: PricedSender;
  log: Log;
}

/** What became of a term's voucher. */
export interface PostingOutcome {
  licenseId: bigint;
  term: number;
  /** What this charged, in units of the currency. */
  charged: bigint;
  /** posted: final. retry: not yet, or not in full. lost: never. */
  status: "posted" | "retry" | "lost";
  /** Why it isn't posted; null if it is. */
  reason: string | null;
}

const A_DAY = 86_400;
const AN_HOUR = 3_600;
/** A transaction of so many has room in any block, whatever keys have signed. */
const MOST_VOUCHERS = 500;
const PURPOSE = "vouchers ";

/** It was good once, and never will be again. */
const TOO_LATE: ReadonlySet<VoucherStatusName> = new Set([
  ...(["UnknownLicense", "WrongOperator", "WrongRoad", "TermClosed"] as const),
  ...(["KeyRevoked", "GenerationEnded", "Stopped"] as const),
]);

/** What to do about what can't be charged now. */
const REMEDIES: Partial<Record<VoucherStatusName, string>> = {
  TermNotRunning:
    "the first voucher of a new term is the operator's to post: make the settler's account one of its signing keys (operator:key)",
  BalanceExhausted: "the license has nothing left: it is posted again after a deposit",
  CapReached: "a cap is reached: it is posted again when that is raised",
  WrongPlan: "its license has gone over to another plan: post it by hand (voucher:settle --plan)",
  KeyUnknown: "no key of the license's has signed it: has the chain lost its key?",
};

export class VoucherPoster {
  private readonly intervalSeconds: number;
  /** How long a voucher waits at most for cheaper gas, in seconds: what makes it worthless is announced longer before. */
  private readonly patienceSeconds: number;
  /** When a term is looked at again whose voucher couldn't be charged, Unix seconds. */
  private readonly later = new Map<string, number>();

  constructor(
    private readonly deps: VoucherPosterDeps,
    private readonly config: VoucherPosterConfig,
  ) {
    const { epochPeriod, windowPeriod } = deps.chain;
    const most = Math.min(A_DAY, Math.floor((epochPeriod + windowPeriod) / 3));
    this.intervalSeconds = Math.min(config.intervalSeconds ?? most, most);
    this.patienceSeconds = Math.floor(((epochPeriod + windowPeriod) * 2) / 3);
  }

  /** Posts all vouchers of each plan of which one has waited long enough. Made to be called again and again. */
  async postDue(): Promise<PostingOutcome[]> {
    const { chain, store } = this.deps;
    const now = await chain.now();
    await store.vouchers.closeEnded(now - chain.epochPeriod - chain.windowPeriod);
    const held = (await store.vouchers.unposted()).filter((row) => (this.later.get(keyOf(row)) ?? 0) <= now);
    const outcomes: PostingOutcome[] = [];
    for (const rows of byPlan(held)) {
      const isDue = rows.some(({ unpostedSince }) => now >= unpostedSince! + this.intervalSeconds);
      if (!isDue) continue;
      for (let from = 0; from < rows.length; from += MOST_VOUCHERS) {
        outcomes.push(...(await this.attempt(rows.slice(from, from + MOST_VOUCHERS), now)));
      }
    }
    return outcomes;
  }

  /** Where the chain has undone a posting that was final: all that is held is looked at again. */
  async undone(purpose: string): Promise<void> {
    if (purpose.startsWith(PURPOSE)) await this.deps.store.vouchers.markUnposted(0);
  }

  /** One plan's failure stops no other's. */
  private async attempt(rows: StoredVoucherTerm[], now: number): Promise<PostingOutcome[]> {
    try {
      return await this.post(rows, now);
    } catch (cause) {
      const [{ operatorId, planId }] = rows;
      this.deps.log.warn("Vouchers have to wait", { operatorId, planId, vouchers: rows.length, cause });
      return rows.map((row) => retry(row, (cause as Error).message));
    }
  }

  private async post(rows: StoredVoucherTerm[], now: number): Promise<PostingOutcome[]> {
    const outcomes = await this.preview(rows);
    const good = rows.filter((_row, i) => outcomes[i].charged > 0n);
    const value = outcomes.reduce((sum, { charged }) => sum + charged, 0n);
    if (good.length > 0 && !(await this.isWorthPosting(good, value, now)))
      return rows.map((row) => this.postpone(row, now));
    const posted = good.length > 0 ? await this.submit(good) : [];
    return Promise.all(rows.map((row, i) => this.note(row, posted[good.indexOf(row)] ?? outcomes[i], now)));
  }

  /** What a voucher brings, it still brings later: a call waits until it is worth its gas or, at last, costs less than it brings. */
  private async isWorthPosting(rows: StoredVoucherTerm[], charged: bigint, now: number): Promise<boolean> {
    const { economy } = this.config;
    if (economy === undefined) return true;
    const { escrow, sender, log } = this.deps;
    const [{ operatorId, planId }] = rows;
    const [shareBps, decimals, wei] = await Promise.all([
      escrow.operatorShareBps(planId),
      escrow.decimals(),
      this.callFor(rows).then((call) => sender.costOf(call)),
    ]);
    const bargain = { value: (charged * BigInt(shareBps)) / 10_000n, cost: inCurrency(wei, economy, decimals) };
    if (isWorthIt(bargain, economy)) return true;
    const isLast = rows.some(({ unpostedSince }) => now >= unpostedSince! + this.patienceSeconds);
    if (isLast && bargain.cost < bargain.value) return true;
    log.info("Vouchers wait for cheaper gas", { operatorId, planId, vouchers: rows.length, ...bargain });
    return false;
  }

  private postpone(row: StoredVoucherTerm, now: number): PostingOutcome {
    this.later.set(keyOf(row), now + AN_HOUR);
    return retry(row, "it isn't worth its gas yet");
  }

  private callFor(rows: StoredVoucherTerm[]): Promise<Call> {
    const [{ operatorId, planId }] = rows;
    const signed = rows.map(({ voucher }) => unpackVoucher(voucher!, operatorId));
    return this.deps.vouchers.settlement(operatorId, planId, signed);
  }

  /** @returns what became of each */
  private async submit(rows: StoredVoucherTerm[]): Promise<VoucherOutcome[]> {
    const { vouchers, sender, log } = this.deps;
    const [{ operatorId, planId }] = rows;
    const purpose = PURPOSE + digestOf(rows);
    const nonce = await sender.submit(purpose, () => this.callFor(rows));
    const { fate, hash } = await sender.follow(purpose, nonce);
    if (fate !== "confirmed") throw new Error(`transaction ${hash} was ${fate}: the vouchers are posted again`);
    log.info("Vouchers posted", { operatorId, planId, vouchers: rows.length, hash });
    return vouchers.outcomesOf(hash);
  }

  /** Writes down what the chain has done with a voucher, or would do if it was worth posting. */
  private async note(
    row: StoredVoucherTerm,
    { charged, status }: VoucherOutcome,
    now: number,
  ): Promise<PostingOutcome> {
    const { store, log } = this.deps;
    const { licenseId, term, signed } = row;
    this.later.delete(keyOf(row));
    if (status === "Charged" || status === "NothingDue") {
      await store.vouchers.noteCharged(row, signed, now);
      return { licenseId, term, charged, status: "posted", reason: null };
    }
    await this.noteCounter(row, now);
    if (TOO_LATE.has(status)) {
      await store.vouchers.closeTerm(row);
      log.error("Voucher can't be charged any more", { licenseId, term, signed, status });
      return { licenseId, term, charged, status: "lost", reason: status };
    }
    this.later.set(keyOf(row), now + this.intervalSeconds);
    log.warn("Voucher isn't charged in full", { licenseId, term, signed, status, remedy: REMEDIES[status] });
    return { licenseId, term, charged, status: "retry", reason: status };
  }

  /** What the chain's own counter says, where a voucher was charged in part. */
  private async noteCounter(row: StoredVoucherTerm, now: number): Promise<void> {
    const account = await this.deps.vouchers.account(row.licenseId, now);
    const term = account?.terms.find((one) => one.term === row.term);
    if (account?.operatorId === row.operatorId && term !== undefined)
      await this.deps.store.vouchers.noteCharged(row, term.spent, now);
  }

  private preview(rows: StoredVoucherTerm[]): Promise<VoucherOutcome[]> {
    const [{ operatorId, planId }] = rows;
    const signed = rows.map(({ voucher }) => unpackVoucher(voucher!, operatorId));
    return this.deps.vouchers.preview(operatorId, planId, signed, this.config.poster);
  }
}

function keyOf({ operatorId, licenseId, term }: StoredVoucherTerm): string {
  return `${operatorId}/${licenseId}/${term}`;
}

/** The same vouchers make another purpose once something of them was charged: what is left may be posted again. */
function digestOf(rows: readonly StoredVoucherTerm[]): string {
  return keccak256(concat(rows.flatMap(({ voucher, charged }) => [voucher!, toUtf8Bytes(`/${charged}/`)])));
}

/** They come by operator and plan. */
function byPlan(rows: readonly StoredVoucherTerm[]): StoredVoucherTerm[][] {
  const groups = new Map<string, StoredVoucherTerm[]>();
  for (const row of rows) {
    const key = `${row.operatorId}/${row.planId}`;
    groups.set(key, [...(groups.get(key) ?? []), row]);
  }
  return [...groups.values()];
}

function retry({ licenseId, term }: StoredVoucherTerm, reason: string): PostingOutcome {
  return { licenseId, term, charged: 0n, status: "retry", reason };
}
