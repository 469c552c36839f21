import { hexlify, keccak256, toUtf8Bytes, toUtf8String } from "ethers";
import { batchDigest } from "../../oracle/protocol/messages";
import { type EntryStatusName, type Outcome, unpackEntries } from "../../oracle/protocol/entries";
import type { BatchHeader } from "../../oracle/protocol/types";
import { ChainRefusal, type SettlementSender, type TransactionFate } from "../../oracle/settler/sender";
import { DOMAIN } from "./fakeMessages";
import type { StubChain } from "./stubChain";

interface Transaction {
  nonce: number;
  batchId: string;
  sequence: number;
  epochStart: number;
  epochEnd: number;
  proof: string;
  isRenewal?: boolean;
  replaced?: string;
}

interface Mined extends Transaction {
  hash: string;
  block: number;
  reverted: boolean;
}

/** An escrow, and the account that sends to it. What is sent waits until somebody waits for it, then gets a block each. */
export class StubEscrow implements SettlementSender {
  /** Everything that was broadcast, in order. */
  readonly sent: string[] = [];
  /** Every settlement that was mined and didn't revert, by batch id: each is a payment. */
  readonly paid: string[] = [];
  /** Every renewal that was mined. */
  readonly renewed: string[] = [];
  /** What the escrow says to every batch and renewal. */
  refusal: string | null = null;
  /** What it says of licenses that it doesn't simply charge. */
  readonly statuses = new Map<bigint, EntryStatusName>();
  /** Whether the committee takes no proof: of those who signed, too many aren't bonded any more. */
  isUnproven = false;
  /** While true, what is broadcast gets lost. */
  isLossy = false;
  /** Transactions that are too cheap by now. */
  readonly outpriced = new Set<string>();
  /** Blocks that come after each transaction. */
  blocksAfter = 10;
  private readonly mined: Mined[] = [];
  private pool: string[] = [];
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

  async isSettled(batchId: string, confirmations: number): Promise<boolean> {
    return this.mined.some((tx) => tx.batchId === batchId && !tx.reverted && this.isDeep(tx, confirmations));
  }

  async signSettle(header: BatchHeader, _entries: string, proof: string, replaced?: string) {
    const { sequence, epochStart, epochEnd } = header;
    const batchId = batchDigest(DOMAIN, header);
    const nonce = this.nonce + this.pool.length;
    const tx: Transaction = { nonce, batchId, sequence: Number(sequence), epochStart, epochEnd, proof, replaced };
    const raw = hexlify(toUtf8Bytes(JSON.stringify(tx)));
    return { raw, hash: keccak256(raw) };
  }

  async isOutpriced(raw: string): Promise<boolean> {
    return this.outpriced.has(raw);
  }

  async signRenewal(licenseId: bigint) {
    if (this.refusal !== null) throw new ChainRefusal(this.refusal);
    const batchId = `renewal of ${licenseId}`;
    const nonce = this.nonce + this.pool.length;
    const tx: Transaction = { nonce, batchId, sequence: 0, epochStart: 0, epochEnd: 0, proof: "0x" };
    const raw = hexlify(toUtf8Bytes(JSON.stringify({ ...tx, isRenewal: true })));
    return { raw, hash: keccak256(raw) };
  }

  async broadcast(raw: string): Promise<void> {
    this.sent.push(raw);
    if (!this.isLossy && !this.pool.includes(raw) && nonceOf(raw) >= this.nonce) this.pool.push(raw);
  }

  async waitFor(hash: string, confirmations: number): Promise<TransactionFate> {
    this.minePool();
    const tx = this.mined.find((mined) => mined.hash === hash);
    if (tx !== undefined && this.isDeep(tx, confirmations)) return tx.reverted ? "reverted" : "confirmed";
    const isGone = tx === undefined && this.sent.some((raw) => keccak256(raw) === hash && nonceOf(raw) < this.nonce);
    if (isGone) return "replaced";
    throw new Error(`Transaction ${hash} isn't final after a long time`);
  }

  /** The account's next nonce goes to something else. */
  spendNonce(): void {
    this.nonce++;
    this.block++;
  }

  /** Mines a stranger's transaction with the same calldata. */
  settleByStranger(raw: string): void {
    this.mine(transactionOf(raw), keccak256(toUtf8Bytes("a stranger's")));
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
    for (const raw of this.pool) this.mine(transactionOf(raw), keccak256(raw));
    this.pool = [];
  }

  private mine(tx: Transaction, hash: string): void {
    this.nonce++;
    this.block++;
    const reverted = !tx.isRenewal && BigInt(tx.sequence) <= this.chain.lastBatch.sequence;
    this.mined.push({ ...tx, hash, block: this.block, reverted });
    this.block += this.blocksAfter;
    if (tx.isRenewal) this.renewed.push(tx.batchId);
    if (reverted || tx.isRenewal) return;
    this.paid.push(tx.batchId);
    const { epochStart, epochEnd } = tx;
    this.chain.lastBatch = { sequence: BigInt(tx.sequence), epochStart, epochEnd };
  }

  private isDeep({ block }: Mined, confirmations: number): boolean {
    return this.block - block + 1 >= confirmations;
  }
}

function transactionOf(raw: string): Transaction {
  return JSON.parse(toUtf8String(raw));
}

function nonceOf(raw: string): number {
  return transactionOf(raw).nonce;
}
