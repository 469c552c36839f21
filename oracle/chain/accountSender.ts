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
 * is opened again, and a gap in front of what waits is filled by sending nothing to oneself.
 */
import { isError, Transaction, type Signer } from "ethers";
import { setTimeout as wait } from "node:timers/promises";
import type { Log } from "../log";
import { oneAtATime } from "../oneAtATime";
import { reasonOf } from "../problem";
import { type Call, ChainRefusal, type PricedSender, type Served, type TransactionFate } from "../settler/sender";
import type { Lease, Turn } from "../store/leases";
import { CANCEL, type NewTransaction, type NonceEnd, type StoredTransaction } from "../store/store";
import type { RpcProvider } from "./ethersChain";
import { gasLimitFor, gasPriceOf, lacksEther } from "./gas";
import { refusalOf } from "./refusal";
import { finalHeight, tagOf, type Finality, type Witness } from "./witness";

/** What of a store it needs. */
export interface TransactionStore {
  saveTransaction(transaction: NewTransaction, lease?: Lease): Promise<void>;
  lastNonce(account: string): Promise<number | null>;
  openTransactions(account: string): Promise<StoredTransaction[]>;
  transactionsWith(account: string, nonce: number): Promise<StoredTransaction[]>;
  nonceFor(account: string, purpose: string): Promise<number | null>;
  transactionsMinedFrom(account: string, block: number): Promise<StoredTransaction[]>;
  endNonce(account: string, nonce: number, end: NonceEnd | null): Promise<void>;
  reopenNonce(account: string, nonce: number): Promise<void>;
}

export interface AccountSenderConfig {
  finality: Finality;
  /** The most that a unit of gas may cost, in wei; any if left out. */
  maxFeePerGas?: bigint;
  pollMs: number;
  /** How long to wait for a transaction's fate in one go. */
  timeoutMs: number;
  /** A transaction that waits for so many blocks, and so long, is sent again for more. */
  patience?: { blocks: number; ms: number };
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
  store: TransactionStore;
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
/** What nodes say against what is stored counts once they have said it so often in a row. */
const SURE_AFTER = 3;
/** What is final is looked at for so many blocks more. */
const WATCHED_BLOCKS = 128;
/** How much of what was told is remembered. */
const MOST_TOLD = 1_000;
const CANCEL_GAS = 21_000n;

/** What nodes say of a transaction that they have, or whose nonce was used. */
const KNOWN_BEFORE = /already known|known transaction|already imported|nonce too low|nonce has already been used/i;

/** The account as the chain has it. */
interface View {
  height: number;
  finalHeight: number;
  /** How many nonces are used, in the latest and in the final block. */
  count: number;
  finalCount: number;
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
  /** Why nodes didn't take what was sent last, by nonce. */
  private readonly untaken = new Map<number, Error>();
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
  submit(purpose: string, callOf: () => Promise<Call>): Promise<number> {
    return this.inTurn(async () => {
      const before = await this.deps.store.nonceFor(this.address, purpose);
      if (before !== null && (await this.isServed(before, purpose))) return before;
      try {
        const [call, nonce] = [await callOf(), await this.nextNonce()];
        const gasLimit = gasLimitFor(await this.estimate(call));
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
        failure = this.untaken.get(nonce);
      } catch (cause) {
        failure = cause;
      }
      const served = servedBy(await this.deps.store.transactionsWith(this.address, nonce), purpose);
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
      const nonce = await this.deps.store.nonceFor(this.address, purpose);
      const rows = nonce === null ? [] : await this.deps.store.transactionsWith(this.address, nonce);
      const newest = rows.at(-1);
      if (newest === undefined || newest.state !== "open" || newest.purpose === CANCEL) return;
      const fees = await this.raised(newest);
      if (fees === null) return;
      this.deps.log.warn("Transaction is cancelled", { purpose, nonce });
      await this.broadcast(
        await this.sign({ ...newest, attempt: newest.attempt + 1, purpose: CANCEL }, this.nothing, fees),
      );
    });
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
    const served = servedBy(await this.deps.store.transactionsWith(this.address, nonce), purpose);
    return served === null || served.fate === "confirmed";
  }

  /** The one after the last; after what somebody else used, where that is final. */
  private async nextNonce(): Promise<number> {
    const { store } = this.deps;
    const [last, open, view] = await Promise.all([
      store.lastNonce(this.address),
      store.openTransactions(this.address),
      this.look(),
    ]);
    const waiting = new Set(open.map(({ nonce }) => nonce)).size;
    if (waiting >= MOST_OPEN)
      throw new Error(`${waiting} transactions of ${this.address} are under way: wait for them`);
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
    for (const rows of byNonce(await store.openTransactions(this.address))) {
      try {
        await this.tendNonce(rows, view, isSure);
      } catch (cause) {
        this.tellOnce("Transaction can't be looked after", { nonce: rows[0].nonce, cause });
      }
    }
  }

  private async tendNonce(rows: StoredTransaction[], view: View, isSure: (what: string) => boolean): Promise<void> {
    const [{ nonce }] = rows;
    if (nonce >= view.count) return this.push(rows, view);
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
    await store.endNonce(this.address, nonce, end);
    rows.forEach(({ hash }) => this.sentAt.delete(hash));
    this.untaken.delete(nonce);
    const state = end?.state ?? "replaced";
    this.event(state);
    if (state === "confirmed") log.info("Transaction is final", { purpose, nonce, ...end });
    else log.warn("Transaction failed", { purpose, nonce, hashes: rows.map(({ hash }) => hash), ...end, state });
  }

  /** Sends the newest of a nonce, or one that pays more. */
  private async push(rows: StoredTransaction[], view: View): Promise<void> {
    const newest = rows.at(-1)!;
    if (newest.nonce === view.count && (await this.isStuck(newest, view))) {
      const fees = await this.raised(newest);
      if (fees !== null) {
        const { to, data, value, gasLimit } = Transaction.from(newest.raw);
        const call = { to: to!, data, value, gasLimit };
        const signed = await this.sign({ ...newest, attempt: newest.attempt + 1 }, call, fees);
        this.event("raised");
        return this.broadcast(signed, view.height);
      }
    }
    const sent = this.sentAt.get(newest.hash);
    const isOld = sent === undefined || performance.now() - sent.last >= this.patience.ms;
    if (isOld || !(await this.isKnown(newest))) await this.broadcast(newest, view.height);
  }

  private async isKnown({ hash }: StoredTransaction): Promise<boolean> {
    return (await this.deps.provider.send("eth_getTransactionByHash", [hash])) !== null;
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
    for (const mined of await store.transactionsMinedFrom(this.address, view.height - WATCHED_BLOCKS)) {
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
    await store.reopenNonce(this.address, nonce);
    this.event("undone");
  }

  /** Nonces that are free, and that nothing here is under way for: nothing behind them would ever be mined. */
  private async fillGaps({ count }: View, isSure: (what: string) => boolean): Promise<void> {
    const { store, log } = this.deps;
    const last = await store.lastNonce(this.address);
    if (last === null || last - count >= WATCHED_BLOCKS) return;
    for (let nonce = count; nonce <= last; nonce++) {
      const rows = await store.transactionsWith(this.address, nonce);
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
    await store.saveTransaction(signed, lease);
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
      if (isError(error, "NONCE_EXPIRED") || KNOWN_BEFORE.test(error.message)) return;
      this.event("unsent");
      // It is stored: it is sent again until it is taken.
      this.untaken.set(nonce, this.explained(error));
      this.tellOnce("Transaction isn't taken", { purpose, nonce, hash, cause: this.explained(error) });
    }
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
    if (!lacksEther(error)) return error;
    return new Error(`The account ${this.address} can't pay for gas: send it some`, { cause: error });
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
  private async raised({ raw, nonce }: StoredTransaction): Promise<Fees | null> {
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
