import { hexlify, id, toUtf8Bytes, toUtf8String } from "ethers";
import { batchDigest } from "../../oracle/protocol/messages";
import { type EntryStatusName, type Outcome, unpackEntries } from "../../oracle/protocol/entries";
import type { BatchHeader } from "../../oracle/protocol/types";
import {
  type Call,
  ChainRefusal,
  type Hold,
  type Sender,
  type Served,
  type SettlementEscrow,
} from "../../oracle/settler/sender";
import { DOMAIN } from "./fakeMessages";
import type { StubChain } from "./stubChain";

/** What a stub's call says that a transaction does. */
interface Deed {
  batchId: string;
  sequence: number;
  epochStart: number;
  epochEnd: number;
  proof: string;
  isPlain?: boolean;
}

interface Transaction extends Deed {
  nonce: number;
  purpose: string;
  hash: string;
}

interface Mined extends Transaction {
  block: number;
  reverted: boolean;
}

/** Blocks until something counts as final. */
const FINALITY = 3;

const ESCROW = "0x00000000000000000000000000000000000e5c40";

/**
 * An escrow, and the sender of the account that sends to it, whose memory survives the settler's. What is sent waits until
 * somebody waits for it, then gets a block each.
 */
export class StubEscrow implements SettlementEscrow, Sender {
  /** Everything that was broadcast, in order: the transactions' hashes. */
  readonly sent: string[] = [];
  /** Every settlement that was mined and didn't revert, by batch id: each is a payment. */
  readonly paid: string[] = [];
  /** Everything else that was mined: renewals, releases, payments to pools. */
  readonly done: string[] = [];
  /** What the escrow says to every batch and renewal. */
  refusal: string | null = null;
  /** What it says of licenses that it doesn't simply charge. */
  readonly statuses = new Map<bigint, EntryStatusName>();
  /** Whether the committee takes no proof: of those who signed, too many aren't bonded any more. */
  isUnproven = false;
  /** While true, what is broadcast gets lost. */
  isLossy = false;
  /** Purposes that were given up. */
  readonly cancelled: string[] = [];
  /** Blocks that come after each transaction. */
  blocksAfter = 10;
  private readonly mined: Mined[] = [];
  /** All that was signed. */
  private readonly signed: Transaction[] = [];
  private pool: Transaction[] = [];
  private block = 0;
  private nonce = 0;

  constructor(private readonly chain: StubChain) {}

  async vouches(): Promise<boolean> {
    return !this.isUnproven;
  }

  async preview(header: BatchHeader, entries: string): Promise<Outcome[]> {
    const batchId = batchDigest(DOMAIN, header);
    if (this.refusal !== null) throw new ChainRefusal(this.refusal);
    if (this.paid.includes(batchId)) throw new ChainRefusal(`BatchSettledBefore(${batchId})`);
    const last = this.chain.lastBatch.sequence;
    if (header.sequence <= last) throw new ChainRefusal(`BatchOutOfSequence(${header.sequence}, ${last})`);
    return unpackEntries(entries).map(({ licenseId }) => ({
      licenseId,
      charged: 1n,
      status: this.statuses.get(licenseId) ?? "Charged",
    }));
  }

  async isSettled(batchId: string, by: "latest" | "final"): Promise<boolean> {
    return this.mined.some((tx) => tx.batchId === batchId && !tx.reverted && (by === "latest" || this.isFinal(tx)));
  }

  async settlement(header: BatchHeader, _entries: string, proof: string): Promise<Call> {
    const { sequence, epochStart, epochEnd } = header;
    const batchId = batchDigest(DOMAIN, header);
    return callOf({ batchId, sequence: Number(sequence), epochStart, epochEnd, proof });
  }

  async renewal(licenseId: bigint): Promise<Call> {
    if (this.refusal !== null) throw new ChainRefusal(this.refusal);
    const batchId = `renewal of ${licenseId}`;
    return callOf({ batchId, sequence: 0, epochStart: 0, epochEnd: 0, proof: "0x", isPlain: true });
  }

  async submit(purpose: string, callOf: () => Promise<Call>): Promise<number> {
    const before = this.signed.filter((tx) => tx.purpose === purpose).at(-1);
    const fate = before && this.fateOf(before);
    if (before !== undefined && (fate === null || fate === "confirmed")) return before.nonce;
    const { data } = await callOf();
    const nonce = Math.max(this.nonce, (this.signed.at(-1)?.nonce ?? -1) + 1);
    const tx = { ...deedOf(data), nonce, purpose, hash: id(`${nonce} ${purpose}`) };
    this.signed.push(tx);
    this.broadcast(tx);
    return nonce;
  }

  async follow(purpose: string, nonce: number): Promise<Served> {
    const tx = this.signed.find((one) => one.purpose === purpose && one.nonce === nonce)!;
    if (this.fateOf(tx) === null) this.broadcast(tx);
    this.minePool();
    const fate = this.fateOf(tx);
    if (fate === null) throw new Error(`Nonce ${nonce} isn't final after a long time`);
    return { fate, hash: tx.hash };
  }

  /** What a unit of gas costs, in wei. */
  gasPriceWei = 1n;
  /** Batches' holds, for those that aren't over. */
  readonly holds = new Map<string, Hold>();
  /** What was split off batches to be disputed. */
  readonly charges = new Map<string, string[]>();
  poolIncome = 0n;

  async costOf(): Promise<bigint> {
    return 100_000n * this.gasPriceWei;
  }

  async gasPrice(): Promise<bigint> {
    return this.gasPriceWei;
  }

  async decimals(): Promise<number> {
    return 6;
  }

  async operatorShareBps(): Promise<number> {
    return 6_700;
  }

  async chargesOf(batchId: string): Promise<string[]> {
    return this.charges.get(batchId) ?? [];
  }

  async holdOf(batchId: string): Promise<Hold> {
    const hold = this.holds.get(batchId);
    if (hold === undefined) throw new Error(`the stub has no hold of ${batchId}`);
    return hold;
  }

  async release(batchId: string): Promise<Call> {
    return callOf({
      batchId: `release of ${batchId}`,
      sequence: 0,
      epochStart: 0,
      epochEnd: 0,
      proof: "0x",
      isPlain: true,
    });
  }

  async poolIncomeOf(): Promise<bigint> {
    return this.poolIncome;
  }

  async poolPayment(operatorId: number): Promise<Call> {
    return callOf({
      batchId: `pool of ${operatorId}`,
      sequence: 0,
      epochStart: 0,
      epochEnd: 0,
      proof: "0x",
      isPlain: true,
    });
  }

  async cancel(purpose: string): Promise<void> {
    this.cancelled.push(purpose);
  }

  /** What transactions were signed for. */
  purposes(): string[] {
    return this.signed.map(({ purpose }) => purpose);
  }

  private broadcast(tx: Transaction): void {
    this.sent.push(tx.hash);
    if (!this.isLossy && !this.pool.includes(tx) && tx.nonce >= this.nonce) this.pool.push(tx);
  }

  private fateOf({ hash, nonce }: Transaction): Served["fate"] | null {
    const mined = this.mined.find((one) => one.hash === hash);
    if (mined === undefined) return nonce < this.nonce ? "replaced" : null;
    if (!this.isFinal(mined)) return null;
    return mined.reverted ? "reverted" : "confirmed";
  }

  /** The account's next nonce goes to something else. */
  spendNonce(): void {
    this.nonce++;
    this.block++;
  }

  /** Mines a stranger's transaction with the calldata of the last that was sent. */
  settleByStranger(): void {
    this.mine({ ...this.signed.at(-1)!, hash: id("a stranger's") });
    this.nonce--;
  }

  /** Undoes the last block, whose transaction gets lost. */
  reorganize(): void {
    const tx = this.mined.pop();
    if (tx === undefined) throw new Error("Nothing was mined");
    this.nonce--;
    if (tx.reverted) return;
    this.paid.pop();
    this.chain.lastBatch = { sequence: BigInt(tx.sequence - 1), epochStart: 0, epochEnd: 0 };
  }

  private minePool(): void {
    for (const tx of this.pool) this.mine(tx);
    this.pool = [];
  }

  private mine(tx: Transaction): void {
    this.nonce++;
    this.block++;
    const reverted = !tx.isPlain && BigInt(tx.sequence) <= this.chain.lastBatch.sequence;
    this.mined.push({ ...tx, block: this.block, reverted });
    this.block += this.blocksAfter;
    if (tx.isPlain) this.done.push(tx.batchId);
    if (reverted || tx.isPlain) return;
    this.paid.push(tx.batchId);
    const { epochStart, epochEnd } = tx;
    this.chain.lastBatch = { sequence: BigInt(tx.sequence), epochStart, epochEnd };
  }

  private isFinal({ block }: Mined): boolean {
    return this.block - block + 1 >= FINALITY;
  }
}

function callOf(deed: Deed): Call {
  return { to: ESCROW, data: hexlify(toUtf8Bytes(JSON.stringify(deed))) };
}

function deedOf(data: string): Deed {
  return JSON.parse(toUtf8String(data));
}
