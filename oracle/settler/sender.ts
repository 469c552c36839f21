/** What a settler asks of the chain beside reading it. */
import type { Outcome } from "../protocol/entries";
import type { BatchHeader } from "../protocol/types";

/** The escrow said no. The message is its decoded error, with its values. */
export class ChainRefusal extends Error {
  override name = "ChainRefusal";
}

/** How a transaction ended: mined and good, mined and reverted, or never to be mined as its nonce went to another. */
export type TransactionFate = "confirmed" | "reverted" | "replaced";

export interface SignedTransaction {
  raw: string;
  hash: string;
}

/** All methods throw if the chain can't be reached. */
export interface SettlementSender {
  /** Whether the committee's contract takes a proof for a digest. */
  vouches(committee: string, digest: string, proof: string): Promise<boolean>;
  /** What settling the batch now would do with each entry. @throws ChainRefusal if the escrow wouldn't settle it */
  preview(header: BatchHeader, entries: string): Promise<Outcome[]>;
  /** Whether the batch is settled in a block with at least so many confirmations; 1 is the latest block. */
  isSettled(batchId: string, confirmations: number): Promise<boolean>;
  /** Signs, with the account's next nonce, and doesn't send. It pays so much more than `replaced` that it can take its place. */
  signSettle(header: BatchHeader, entries: string, proof: string, replaced?: string): Promise<SignedTransaction>;
  /** Whether the chain's fees have risen above what a transaction may pay: no block takes it then. */
  isOutpriced(raw: string): Promise<boolean>;
  /** Sends. A transaction that is known already, or whose nonce was used, is no error. */
  broadcast(raw: string): Promise<void>;
  /** Waits until the fate has so many confirmations. @throws if that takes too long */
  waitFor(hash: string, confirmations: number): Promise<TransactionFate>;
  /** Signs a license's renewal, as `signSettle` a settlement. @throws ChainRefusal if the escrow wouldn't renew it now */
  signRenewal(licenseId: bigint): Promise<SignedTransaction>;
}
