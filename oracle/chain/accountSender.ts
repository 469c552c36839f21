/**
 * The one sender of an account: all that a daemon signs goes through it, each transaction for a purpose that has a name.
 *
 *   signed ──> stored ──> broadcast ──> mined ──> final: confirmed, or reverted
 *                 ^           │ too cheap             (or another's nonce: replaced)
 *                 └───────────┘ again, for more
 *
 * A nonce is given to one purpose and, once it is stored, never to another: whatever nodes say of the account's count, the
 * next is the one after the last that is stored. So a purpose is served once, wherever the process died, and nobody is
 * paid twice because a node lied. Of nodes' words only those count that stay the same for a while; what they take back
 * is opened again, and a gap in front of what waits is filled by sending nothing to oneself. So is a nonce whose transaction
 * no node takes for what it is: nothing waits behind it for long. What fails on the chain is signed anew ever more rarely.
 */
import { dataLength, isError, Transaction, type Signer } from "ethers";
import { setTimeout as wait } from "node:timers/promises";
import type { Log } from "../log";
import { oneAtATime } from "../oneAtATime";
import { dateOf, reasonOf } from "../problem";
import {
  type Call,
  CallTooLarge,
  ChainRefusal,
  type PricedSender,
  SenderBusy,
  type Served,
  type TransactionFate,
} from "../settler/sender";
import type { Turn } from "../store/leases";
import type { Store } from "../store/store";
import { CANCEL, type NewTransaction, type NonceEnd, type StoredTransaction } from "../store/transactionBooks";
import type { RpcProvider } from "./ethersChain";
import { gasLimitFor, gasPriceOf, lacksEther, lacksGas } from "./gas";
import { isKnownBefore } from "./node";
import { refusalOf } from "./refusal";
import { finalHeight, tagOf, type Finality, type Witness } from "./witness";

export interface AccountSenderConfig {
  finality: Finality;
  /** The most that a unit of gas may cost, in wei; any if left out. */
  maxFeePerGas?: bigint;
  pollMs: number;
  /** How long to wait for a transaction's fate in one go. */
  timeoutMs: number;
  /** A transaction that waits for so many blocks, and so long, is sent again for more. */
  patience?: { blocks: number; ms: number };
  /** How long what fails on the chain again and again rests at most; three hours if left out. */
  mostRestSeconds?: number;
  /** When it aborts, no fate is waited for any longer. */
  signal?: AbortSignal;
}

/** What happened to transactions, for those who count it. */
export type SenderEvent =
  "signed" | "unsigned" | "sent" | "unsent" | "raised" | "capped" | "confirmed" | "reverted" | "replaced" | "undone";

export interface AccountSenderDeps {
  provider: RpcProvider;
  witness: Witness;
  signer: Signer;
  store: Pick<Store, "transactions">;
  log: Log;
  /** Where several processes send for the account: it signs and sends nothing while it is another's turn. */
  turn?: Turn;
  onEvent?: (event: SenderEvent) => void;
  /** Is told of a purpose that was served, and isn't any more: the chain was reorganized, deeper than what counts as final. */
  onUndone?: (purpose: string) => Promise<void>;
}

const DEFAULT_PATIENCE = { blocks: 3, ms: 30_000 };
/** Nodes take a transaction in another's place only if it pays a tenth more. */
const RAISE_PERMILLE = 1_125n;
/** How many nonces may be under way: nodes keep few for an account. */
const MOST_OPEN = 8;
/** The same with those that must be mined by a time. */
const MOST_OPEN_URGENT = 16;
/** The most that nodes take of a call, in bytes: 128 KiB with what is around it. */
const MOST_CALL_BYTES = 130_000;
/** How long after its second failure a purpose is signed for again, in seconds; four times as long after each further one. */
const FAILED_SECONDS = 60;
const MOST_FAILED_SECONDS = 10_800;
/** Where it must be served by a time, a part of what is left until then at most. */
const REST_OF_LEFT = 4;
/** What no node takes is given up after so many times of the patience. */
const REFUSED_PATIENCE = 4;
/** What nodes say against what is stored counts once they have said it so often in a row. */
const SURE_AFTER = 3;
/** What is final is looked at for so many blocks more. */
const WATCHED_BLOCKS = 128;
/** How much of what was told is remembered. */
const MOST_TOLD = 1_000;
const CANCEL_GAS = 21_000n;

/** What they say of one that might be taken as it is when fees have fallen, or another has gone. */
const UNDERPRICED = /underpriced|less than (the )?block base fee|fee ?too ?low|gas price (is )?(below|too low)/i;

/** What they say, or is said of them, while nothing is wrong with the transaction itself. */
const PASSING =
  /no node of the chain|pool is full|txpool|mempool|too many|rate.?limit|timeout|timed out|request limit|request count|quota|capacity|unauthorized|forbidden|unavailable|syncing|nonce too high|gapped|ECONN|ENOTFOUND|ETIMEDOUT|socket|fetch failed/i;
/** Where no node has a transaction, and it pays so many times what is asked for now, it is signed for less. */
const TOO_DEAR = 2n;

/** The account as the chain has it. */
interface View {
  height: number;
  finalHeight: number;
  /** How many nonces are used, in the latest and in the final block. */
  count: number;
  finalCount: number;
}

interface HurriedView extends View {
  /** The last nonce that must be mined by a time; -1 if there is none. */
  hurried: number;
}

/** Nodes that don't take a transaction. */
interface Untaken {
  /** Why not, the last time. */
  error: Error;
  /** How often in a row they found it wrong itself, and since when: performance.now(). */
  times: number;
  since: number;
}

interface Fees {
  maxFeePerGas: bigint;
  maxPriorityFeePerGas: bigint;
}

export class AccountSender implements PricedSender {
  private readonly patience: { blocks: number; ms: number };
  /** Two at once would take the same nonce. */
  private readonly inTurn = oneAtATime();
  private tending: Promise<void> | null = null;
  private doubts = new Map<string, number>();
  /** When a transaction was sent first and last by this process, by hash: performance.now() and a block. */
  private readonly sentAt = new Map<string, { first: number; last: number; block: number }>();
  /** What nodes didn't take, by nonce. */
  private readonly untaken = new Map<number, Untaken>();
  /** By when purposes must be mined, Unix seconds. */
  private readonly urgent = new Map<string, number>();
  /** What was told, so that it is told once. */
  private readonly told = new Set<string>();

  private constructor(
    readonly address: string,
    private readonly chainId: bigint,
    private readonly deps: AccountSenderDeps,
    private readonly config: AccountSenderConfig,
  ) {
    this.patience = config.patience ?? DEFAULT_PATIENCE;
  }

  static async open(deps: AccountSenderDeps, config: AccountSenderConfig): Promise<AccountSender> {
    const [address, { chainId }] = await Promise.all([deps.signer.getAddress(), deps.provider.getNetwork()]);
    return new AccountSender(address, chainId, deps, config);
  }

  /**
   * Has a call mined for a purpose, and waits until that is final. Asked again for the same purpose, it goes on with what was
   * signed for it, and signs another only where that was replaced or reverted.
   * @throws ChainRefusal if a contract would refuse it; Error if it isn't final in time: it is followed up all the same
   */
  async serve(purpose: string, callOf: () => Promise<Call>): Promise<Served> {
    return this.follow(purpose, await this.submit(purpose, callOf));
  }

  /** The same without waiting: signed, stored and broadcast. @returns its nonce */
  submit(purpose: string, callOf: () => Promise<Call>, until?: number): Promise<number> {
    return this.inTurn(async () => {
      if (until !== undefined) this.urgent.set(purpose, until);
      const before = await this.deps.store.transactions.nonceFor(this.address, purpose);
      if (before !== null && (await this.isServed(before, purpose))) return before;
      try {
        if (before !== null) await this.requireRest(purpose, until);
        const [call, nonce] = [await callOf(), await this.nextNonce(until !== undefined)];
        const gasLimit = await this.gasLimitOf(call);
        const signed = await this.sign({ nonce, attempt: 0, purpose }, { ...call, gasLimit }, await this.fees());
        await this.broadcast(signed);
        return nonce;
      } catch (cause) {
        this.event("unsigned");
        throw cause;
      }
    });
  }

  /** Waits for the end of a nonce. */
  async follow(purpose: string, nonce: number): Promise<Served> {
    const { pollMs, timeoutMs, signal } = this.config;
    let failure: unknown;
    for (const deadline = performance.now() + timeoutMs; performance.now() < deadline;) {
      try {
        await this.tend();
        failure = this.untaken.get(nonce)?.error;
      } catch (cause) {
        failure = cause;
      }
      const served = servedBy(await this.deps.store.transactions.ofNonce(this.address, nonce), purpose);
      if (served !== null) return served;
      await wait(pollMs, undefined, { signal });
    }
    const why = failure === undefined ? "" : ` (${reasonOf(failure)})`;
    throw new Error(`Nonce ${nonce} of ${this.address} isn't final after ${timeoutMs} ms${why}: it is followed up`, {
      cause: failure,
    });
  }

  /** Gives a purpose up: its nonce goes to nothing, if it can still be had. Without it, others would wait behind it. */
  async cancel(purpose: string): Promise<void> {
    await this.inTurn(async () => {
      const nonce = await this.deps.store.transactions.nonceFor(this.address, purpose);
      const rows = nonce === null ? [] : await this.deps.store.transactions.ofNonce(this.address, nonce);
      const newest = rows.at(-1);
      if (newest === undefined || newest.state !== "open" || newest.purpose === CANCEL) return;
      const fees = await this.raised(newest);
      if (fees !== null) await this.giveUp(newest, fees, "it isn't wanted any more");
    });
  }

  private async giveUp({ nonce, attempt, purpose }: NewTransaction, fees: Fees, reason: string): Promise<void> {
    this.deps.log.warn("Transaction is cancelled", { purpose, nonce, reason });
    this.untaken.delete(nonce);
    await this.broadcast(await this.sign({ nonce, attempt: attempt + 1, purpose: CANCEL }, this.nothing, fees));
  }

  /** Looks after all that isn't final: sends it again, for more where it must, and notes what became of it. */
  tend(): Promise<void> {
    this.tending ??= this.inTurn(() => this.tendAll()).finally(() => (this.tending = null));
    return this.tending;
  }

  /** What a call would cost now, in wei. @throws ChainRefusal */
  async costOf(call: Call): Promise<bigint> {
    const [gas, price] = await Promise.all([this.estimate(call), gasPriceOf(this.deps.provider)]);
    return gas * price;
  }

  /** What so much gas may cost by now, in wei: nodes take no transaction of an account that has less. */
  async mostFor(gas: bigint): Promise<bigint> {
    return gasLimitFor(gas) * (await this.fees()).maxFeePerGas;
  }

  /** What the account has to pay gas with, in wei. */
  balance(): Promise<bigint> {
    return this.deps.provider.getBalance(this.address);
  }

  // Nonces

  private async isServed(nonce: number, purpose: string): Promise<boolean> {
    const served = servedBy(await this.deps.store.transactions.ofNonce(this.address, nonce), purpose);
    return served === null || served.fate === "confirmed";
  }

  /** What fails on the chain costs gas each time. @throws Error unless it has rested for long enough */
  private async requireRest(purpose: string, end?: number): Promise<void> {
    const { store, provider } = this.deps;
    const { times, block } = await store.transactions.failuresOf(this.address, purpose);
    if (times < 2 || block === null) return;
    const [failed, latest] = await Promise.all([provider.getBlock(block), provider.getBlock("latest")]);
    if (failed === null || latest === null) return;
    const left = end === undefined ? Infinity : end - latest.timestamp;
    const most = Math.min(this.config.mostRestSeconds ?? MOST_FAILED_SECONDS, Math.floor(left / REST_OF_LEFT));
    const until = failed.timestamp + Math.min(most, FAILED_SECONDS * 4 ** (times - 2));
    if (latest.timestamp >= until) return;
    throw new Error(
      `${times} transactions for "${purpose}" have failed, the last one in block ${block}: another is signed from ` +
        `${dateOf(until)} on`,
    );
  }

  /** The one after the last; after what somebody else used, where that is final. */
  private async nextNonce(isUrgent: boolean): Promise<number> {
    const { store } = this.deps;
    const [last, open, view] = await Promise.all([
      store.transactions.lastNonce(this.address),
      store.transactions.openOf(this.address),
      this.look(),
    ]);
    // What is mined waits only to be final, and isn't kept by nodes.
    const waiting = new Set(open.filter(({ nonce }) => nonce >= view.count).map(({ nonce }) => nonce)).size;
    if (waiting >= (isUrgent ? MOST_OPEN_URGENT : MOST_OPEN))
      throw new SenderBusy(`${waiting} transactions of ${this.address} are under way: wait for them`);
    if (last === null) return view.count;
    if (view.finalCount > last + 1)
      this.deps.log.warn("Somebody else sends for the account", { account: this.address });
    return Math.max(last + 1, view.finalCount);
  }

  private async look(): Promise<View> {
    const { witness } = this.deps;
    const [height, final] = await Promise.all([witness.height(), finalHeight(witness, this.config.finality)]);
    const countAt = async (block: number) =>
      block < 0 ? 0 : Number(await witness.ask("eth_getTransactionCount", [this.address, tagOf(block)]));
    const [count, finalCount] = await Promise.all([countAt(height), countAt(final)]);
    return { height, finalHeight: final, count, finalCount };
  }

  // Following

  private async tendAll(): Promise<void> {
    const { store, turn } = this.deps;
    if (turn?.isMine === false) return;
    const view = await this.look();
    const doubts = this.doubts;
    this.doubts = new Map();
    const isSure = (what: string) => {
      const times = (doubts.get(what) ?? 0) + 1;
      this.doubts.set(what, times);
      return times >= SURE_AFTER;
    };
    await this.reopenUndone(view, isSure);
    await this.fillGaps(view, isSure);
    const open = byNonce(await store.transactions.openOf(this.address));
    const isOpen = new Set(open.flat().map(({ purpose }) => purpose));
    for (const purpose of this.urgent.keys()) if (!isOpen.has(purpose)) this.urgent.delete(purpose);
    const urgent = open.flat().filter(({ purpose }) => this.urgent.has(purpose));
    const hurried = Math.max(-1, ...urgent.map(({ nonce }) => nonce));
    for (const rows of open) {
      try {
        await this.tendNonce(rows, { ...view, hurried }, isSure);
      } catch (cause) {
        this.tellOnce("Transaction can't be looked after", { nonce: rows[0].nonce, cause });
      }
    }
  }

  private async tendNonce(
    rows: StoredTransaction[],
    view: HurriedView,
    isSure: (what: string) => boolean,
  ): Promise<void> {
    const [{ nonce }] = rows;
    if (nonce >= view.count) return this.push(rows, view, isSure);
    if (nonce >= view.finalCount) return;
    for (const row of rows) {
      const end = await this.endOf(row);
      if (end === null) continue;
      if (end.block <= view.finalHeight) await this.end(rows, end);
      return;
    }
    if (isSure(`${nonce} went to another`)) await this.end(rows, null);
  }

  private async endOf({ hash }: StoredTransaction): Promise<NonceEnd | null> {
    const receipt = (await this.deps.witness.ask("eth_getTransactionReceipt", [hash], factOfReceipt)) as Receipt | null;
    if (receipt === null) return null;
    return { hash, state: Number(receipt.status) === 1 ? "confirmed" : "reverted", block: Number(receipt.blockNumber) };
  }

  private async end(rows: StoredTransaction[], end: NonceEnd | null): Promise<void> {
    const { store, log } = this.deps;
    const [{ nonce, purpose }] = rows;
    await store.transactions.endNonce(this.address, nonce, end);
    rows.forEach(({ hash }) => this.sentAt.delete(hash));
    this.untaken.delete(nonce);
    const state = end?.state ?? "replaced";
    this.event(state);
    if (state === "confirmed") log.info("Transaction is final", { purpose, nonce, ...end });
    else log.warn("Transaction failed", { purpose, nonce, hashes: rows.map(({ hash }) => hash), ...end, state });
  }

  /** Sends the newest of a nonce, or one that pays more. */
  private async push(rows: StoredTransaction[], view: HurriedView, isSure: (what: string) => boolean): Promise<void> {
    const newest = rows.at(-1)!;
    if (await this.giveUpLate(newest, view, isSure)) return;
    const isWaitedFor = newest.nonce === view.count || newest.nonce <= view.hurried;
    if (isWaitedFor && (await this.isStuck(newest, view))) {
      const fees = await (this.untaken.has(newest.nonce) ? this.repriced(newest) : this.raised(newest));
      if (fees !== null) {
        const { to, data, value, gasLimit } = Transaction.from(newest.raw);
        const call = { to: to!, data, value, gasLimit };
        const signed = await this.sign({ ...newest, attempt: newest.attempt + 1 }, call, fees);
        this.event("raised");
        return this.sendAgain(signed, rows, view);
      }
    }
    const sent = this.sentAt.get(newest.hash);
    const isOld = sent === undefined || performance.now() - sent.last >= this.patience.ms;
    if (isOld || !(await this.isKnown(newest))) await this.sendAgain(newest, rows, view);
  }

  /** What no node takes, however often it is sent, is given up: others wait behind it. */
  private async sendAgain(newest: NewTransaction, rows: StoredTransaction[], { height, count }: View): Promise<void> {
    const { nonce, purpose } = newest;
    await this.broadcast(newest, height);
    const untaken = this.untaken.get(nonce);
    if (purpose === CANCEL || nonce > count || untaken === undefined || untaken.times < SURE_AFTER) return;
    if (performance.now() - untaken.since < REFUSED_PATIENCE * this.patience.ms) return;
    const known = await Promise.all([newest, ...rows].map((row) => this.isKnown(row)));
    if (known.includes(true)) return;
    const fees = await this.fees();
    if ((await this.balance()) < CANCEL_GAS * fees.maxFeePerGas) return;
    await this.giveUp(newest, fees, `no node takes it: ${untaken.error.message}`);
  }

  /** What had to be mined by a time that is over. @returns whether it is given up */
  private async giveUpLate(
    newest: StoredTransaction,
    { height }: View,
    isSure: (what: string) => boolean,
  ): Promise<boolean> {
    const until = this.urgent.get(newest.purpose);
    if (until === undefined) return false;
    const block = (await this.deps.witness.ask("eth_getBlockByNumber", [tagOf(height), false], timeOf)) as Block | null;
    if (Number(block?.timestamp ?? 0) <= until || !isSure(`${newest.nonce} is late`)) return false;
    const fees = await this.raised(newest);
    if (fees !== null) await this.giveUp(newest, fees, `it had to be mined by ${dateOf(until)}`);
    return fees !== null;
  }

  private isKnown({ hash }: NewTransaction): Promise<boolean> {
    return this.deps.witness.knows(hash);
  }

  /** Whether it is too cheap for the next block, or has waited for long. */
  private async isStuck({ hash, raw }: StoredTransaction, { height }: View): Promise<boolean> {
    const fee = (await this.deps.provider.getBlock("latest"))?.baseFeePerGas ?? 0n;
    if ((Transaction.from(raw).maxFeePerGas ?? 0n) < fee) return true;
    const sent = this.sentAt.get(hash);
    if (sent === undefined) return false;
    const { blocks, ms } = this.patience;
    return height - sent.block >= blocks && performance.now() - sent.first >= ms;
  }

  // What the chain has taken back

  /** What was mined and isn't any more, or otherwise. */
  private async reopenUndone(view: View, isSure: (what: string) => boolean): Promise<void> {
    const { store } = this.deps;
    for (const mined of await store.transactions.minedFrom(this.address, view.height - WATCHED_BLOCKS)) {
      const now = await this.endOf(mined);
      const isAsNoted = now !== null && now.block === mined.block && now.state === mined.state;
      if (!isAsNoted && isSure(`${mined.nonce} is undone`)) await this.reopen(mined);
    }
  }

  private async reopen({ nonce, purpose, state }: StoredTransaction): Promise<void> {
    const { store, log, onUndone } = this.deps;
    log.error("The chain has undone a transaction that was final: it is sent again", { purpose, nonce });
    // Should it end here, it comes here again: the transaction is still noted as final.
    if (state === "confirmed") await onUndone?.(purpose);
    const newest = (await store.transactions.ofNonce(this.address, nonce)).at(-1)!;
    if (newest.purpose !== CANCEL && (await store.transactions.isServedElsewhere(this.address, purpose, nonce))) {
      // Before it is open: should the process end between, the next one would send it for the purpose.
      const fees = (await this.raised(newest)) ?? (await this.fees());
      await this.giveUp(newest, fees, "another nonce serves its purpose");
    }
    await store.transactions.reopenNonce(this.address, nonce);
    this.event("undone");
  }

  /** Nonces that are free, and that nothing here is under way for: nothing behind them would ever be mined. */
  private async fillGaps({ count }: View, isSure: (what: string) => boolean): Promise<void> {
    const { store, log } = this.deps;
    const last = await store.transactions.lastNonce(this.address);
    if (last === null || last - count >= WATCHED_BLOCKS) return;
    for (let nonce = count; nonce <= last; nonce++) {
      const rows = await store.transactions.ofNonce(this.address, nonce);
      // What was mined is looked at by its receipt.
      if (rows.some(({ state }) => state !== "replaced") || !isSure(`${nonce} is free`)) continue;
      if (rows.length > 0) {
        await this.reopen(rows[0]);
        continue;
      }
      log.warn("A nonce was skipped: it goes to nothing", { account: this.address, nonce });
      await this.sign({ nonce, attempt: 0, purpose: CANCEL }, this.nothing, await this.fees());
    }
  }

  // Signing and sending

  private get nothing() {
    return { to: this.address, data: "0x", gasLimit: CANCEL_GAS };
  }

  private async sign(
    { nonce, attempt, purpose }: Pick<StoredTransaction, "nonce" | "attempt" | "purpose">,
    call: Call & { gasLimit: bigint },
    fees: Fees,
  ): Promise<NewTransaction> {
    const { signer, store, turn } = this.deps;
    const lease = turn?.lease;
    const { value = 0n } = call;
    const raw = await signer.signTransaction({ ...call, ...fees, type: 2, chainId: this.chainId, nonce, value });
    const signed = { account: this.address, nonce, attempt, purpose, raw, hash: Transaction.from(raw).hash! };
    await store.transactions.save(signed, lease);
    this.event("signed");
    return signed;
  }

  private async broadcast({ raw, hash, purpose, nonce }: NewTransaction, block?: number): Promise<void> {
    const { provider, log } = this.deps;
    const now = performance.now();
    const before = this.sentAt.get(hash) ?? { first: now, block: block ?? (await provider.getBlockNumber()) };
    this.sentAt.set(hash, { ...before, last: now });
    try {
      await provider.broadcastTransaction(raw);
      this.untaken.delete(nonce);
      this.event("sent");
      log.debug("Transaction sent", { purpose, nonce, hash });
    } catch (cause) {
      const error = cause as Error;
      if (isError(error, "NONCE_EXPIRED") || isKnownBefore(error)) return void this.untaken.delete(nonce);
      this.event("unsent");
      // It is stored: it is sent again until it is taken, or given up.
      const explained = this.explained(error);
      if (UNDERPRICED.test(error.message)) this.untaken.delete(nonce);
      else {
        const isPassing = lacksEther(error) || PASSING.test(reasonOf(error));
        const { times, since } = isPassing
          ? { times: -1, since: now }
          : (this.untaken.get(nonce) ?? { times: 0, since: now });
        this.untaken.set(nonce, { error: explained, times: times + 1, since });
      }
      this.tellOnce("Transaction isn't taken", { purpose, nonce, hash, cause: explained });
    }
  }

  /** @throws CallTooLarge */
  private async gasLimitOf(call: Call): Promise<bigint> {
    const bytes = dataLength(call.data);
    if (bytes > MOST_CALL_BYTES)
      throw new CallTooLarge(`The call has ${bytes} bytes, and nodes take ${MOST_CALL_BYTES} at most: split it`);
    const [gas, block] = await Promise.all([this.estimate(call), this.deps.provider.getBlock("latest")]);
    const most = block?.gasLimit;
    if (most !== undefined && gas > most)
      throw new CallTooLarge(`The call takes ${gas} gas, and a block has ${most}: split it`);
    return gasLimitFor(gas, most);
  }

  private async estimate(call: Call): Promise<bigint> {
    return this.deps.provider.estimateGas({ ...call, from: this.address }).catch((error: Error) => {
      throw this.explained(error);
    });
  }

  /** What failed, as far as it can be told what to do about it. */
  private explained(error: Error): Error {
    const refusal = refusalOf(error);
    if (refusal !== undefined) return new ChainRefusal(refusal, { cause: error });
    if (lacksEther(error))
      return new Error(`The account ${this.address} can't pay for gas: send it some`, { cause: error });
    if (!lacksGas(error)) return error;
    return new CallTooLarge(
      `The call takes more gas than a transaction may have, or ${this.address} can pay for (${reasonOf(error)})`,
      {
        cause: error,
      },
    );
  }

  /** What the chain asks for now, as far as the settings go. */
  private async fees(): Promise<Fees> {
    const { maxFeePerGas, maxPriorityFeePerGas } = await this.deps.provider.getFeeData();
    if (maxFeePerGas === null || maxPriorityFeePerGas === null) {
      throw new Error("the node tells no fee per gas (EIP-1559): use a chain, or a node, that does");
    }
    const most = this.config.maxFeePerGas ?? maxFeePerGas;
    if (maxFeePerGas > most) this.capped({ maxFeePerGas });
    return { maxFeePerGas: least(maxFeePerGas, most), maxPriorityFeePerGas: least(maxPriorityFeePerGas, most) };
  }

  /** So much more that it can take the other's place; null if that is more than the settings allow. */
  private async raised({ raw, nonce }: NewTransaction): Promise<Fees | null> {
    const before = Transaction.from(raw);
    const now = await this.fees();
    const raise = (fee: bigint) => (fee * RAISE_PERMILLE) / 1_000n + 1n;
    const maxFeePerGas = greater(now.maxFeePerGas, raise(before.maxFeePerGas!));
    const maxPriorityFeePerGas = greater(now.maxPriorityFeePerGas, raise(before.maxPriorityFeePerGas!));
    const most = this.config.maxFeePerGas;
    if (most !== undefined && raise(before.maxFeePerGas!) > most) {
      this.capped({ nonce, maxFeePerGas });
      return null;
    }
    return { maxFeePerGas: most === undefined ? maxFeePerGas : least(maxFeePerGas, most), maxPriorityFeePerGas };
  }

  /** What the chain asks for now, of what no node has taken; null if it pays that, and not much more. */
  private async repriced({ raw, nonce }: NewTransaction): Promise<Fees | null> {
    const [now, block] = await Promise.all([this.fees(), this.deps.provider.getBlock("latest")]);
    const before = Transaction.from(raw).maxFeePerGas!;
    if (before > TOO_DEAR * now.maxFeePerGas) return now;
    if (before >= (block?.baseFeePerGas ?? 0n)) return null;
    if (now.maxFeePerGas > before) return now;
    this.capped({ nonce, maxFeePerGas: now.maxFeePerGas });
    return null;
  }

  private capped(about: { nonce?: number; maxFeePerGas: bigint }): void {
    const most = this.config.maxFeePerGas;
    if (this.tellOnce("Fees are above maxFeeGwei: transactions wait until they fall", { ...about, most })) {
      this.event("capped");
    }
  }

  /** Whether it is told now, for the first time. */
  private tellOnce(message: string, fields: Record<string, unknown> & { nonce?: number; hash?: string }): boolean {
    const cause = fields.cause === undefined ? "" : reasonOf(fields.cause);
    const key = `${message} ${fields.nonce ?? ""} ${fields.hash ?? ""} ${cause}`;
    if (this.told.has(key)) return false;
    if (this.told.size >= MOST_TOLD) this.told.clear();
    this.told.add(key);
    this.deps.log.warn(message, { account: this.address, ...fields });
    return true;
  }

  private event(event: SenderEvent): void {
    this.deps.onEvent?.(event);
  }
}

interface Block {
  timestamp: string;
}

function timeOf(block: unknown): unknown {
  return (block as Block | null)?.timestamp ?? null;
}

interface Receipt {
  blockHash: string;
  blockNumber: string;
  status: string;
}

function factOfReceipt(receipt: unknown): unknown {
  if (receipt === null) return null;
  const { blockHash, status } = receipt as Receipt;
  return `${blockHash} ${status}`;
}

/** How a nonce's transactions served a purpose; null while that is open. */
function servedBy(rows: StoredTransaction[], purpose: string): Served | null {
  if (rows.length === 0 || rows.some(({ state }) => state === "open")) return null;
  const mined = rows.find(({ state }) => state !== "replaced");
  if (mined === undefined || mined.purpose !== purpose) return { fate: "replaced", hash: rows.at(-1)!.hash };
  return { fate: mined.state as TransactionFate, hash: mined.hash };
}

function byNonce(rows: StoredTransaction[]): StoredTransaction[][] {
  const groups = new Map<number, StoredTransaction[]>();
  for (const row of rows) groups.set(row.nonce, [...(groups.get(row.nonce) ?? []), row]);
  return [...groups.values()];
}

const least = (a: bigint, b: bigint) => (a < b ? a : b);
const greater = (a: bigint, b: bigint) => (a > b ? a : b);
