/** What a settler asks of the chain beside reading it. */
import type { Outcome } from "../protocol/entries";
import type { BatchHeader } from "../protocol/types";

/** A contract said no. The message is its decoded error, with its values. */
export class ChainRefusal extends Error {
  override name = "ChainRefusal";
}

/** A call that no transaction can hold: in bytes, or in gas. */
export class CallTooLarge extends Error {
  override name = "CallTooLarge";
}

/** As much is under way as nodes keep of an account. */
export class SenderBusy extends Error {
  override name = "SenderBusy";
}

/** How a transaction ended: mined and good, mined and reverted, or never to be mined as its nonce went to another. */
export type TransactionFate = "confirmed" | "reverted" | "replaced";

/** A contract's function and its arguments. */
export interface Call {
  to: string;
  data: string;
  /** In wei; none if left out. */
  value?: bigint;
}

/** How a purpose's transaction ended, and which it was. */
export interface Served {
  fate: TransactionFate;
  hash: string;
}

/** Of an account: each of its transactions is for a purpose, and each purpose is served once. See AccountSender. */
export interface Sender {
  /**
   * Signs, stores and broadcasts a call for a purpose, unless one for it is under way or was mined.
   * @param until by when it must be mined, Unix seconds: it is hurried then, with all before it, and is given up afterwards
   * @returns its nonce
   * @throws CallTooLarge; ChainRefusal; SenderBusy; Error where several for it have failed on the chain, until the next is due
   */
  submit(purpose: string, callOf: () => Promise<Call>, until?: number): Promise<number>;
  /** Waits until it is final what became of a nonce. @throws if that takes too long */
  follow(purpose: string, nonce: number): Promise<Served>;
  /** Gives up a purpose that is under way. */
  cancel(purpose: string): Promise<void>;
}

/** One that tells beforehand what a call costs. */
export interface PricedSender extends Sender {
  /** In wei, by now. @throws ChainRefusal */
  costOf(call: Call): Promise<bigint>;
}

/** How far a settled batch, or a charge that was split off one, is from being divided. */
export interface Hold {
  /** Held while it is in dispute, too. Released once that is final, or once it is final that nothing of it is divided. */
  status: "Held" | "Releasable" | "Released";
  /** Unix seconds. */
  releasableAt: number;
  /** What its release brings the operator, in units of the currency. */
  income: bigint;
}

/** The escrow and its attestor, as a settler uses them. All methods throw if the chain can't be reached. */
export interface SettlementEscrow {
  /** Whether the committee's contract takes a proof for a digest. */
  vouches(committee: string, digest: string, proof: string): Promise<boolean>;
  /** What settling the batch now would do with each entry. @throws ChainRefusal if the escrow wouldn't settle it */
  preview(header: BatchHeader, entries: string): Promise<Outcome[]>;
  /** Whether the batch is settled, by the latest block or by the last that is final. */
  isSettled(batchId: string, by: "latest" | "final"): Promise<boolean>;
  settlement(header: BatchHeader, entries: string, proof: string): Promise<Call>;
  renewal(licenseId: bigint): Promise<Call>;
  /** What was split off a batch to be disputed: the charges' ids. */
  chargesOf(batchId: string): Promise<string[]>;
  /** Of a batch that settled, or of a charge. */
  holdOf(batchId: string): Promise<Hold>;
  release(batchId: string): Promise<Call>;
  /** What waits for an operator's pool, in units of the currency. */
  poolIncomeOf(operatorId: number): Promise<bigint>;
  poolPayment(operatorId: number): Promise<Call>;
  /** What of a charge under a plan is the operator's, in basis points. */
  operatorShareBps(planId: number): Promise<number>;
  /** Of the currency. */
  decimals(): Promise<number>;
  /** What a unit of gas costs now, in wei. */
  gasPrice(): Promise<bigint>;
}
