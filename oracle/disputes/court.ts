/** What an answerer asks of the deployment's court, and has it do. */
import type { StatusName } from "../chain/statuses";
import type { Epoch, Lane, Receipt, SignedGrant, SignedReceipt, Usage } from "../protocol/types";
import type { Call } from "../settler/sender";

/** A license's owner doubts what a batch charged. See `IDisputeCourt.Challenge`. */
export interface Challenge extends Lane, Epoch {
  challengeId: bigint;
  status: StatusName<"ChallengeStatus">;
  chargeId: string;
  licenseId: bigint;
  /** That it is about; null if it is about the whole entry. */
  receiptHash: string | null;
  /** In units of the currency. */
  bond: bigint;
  /** Unix seconds, until which it waits for its next step. */
  deadline: number;
  /** What the license's entry says. */
  usage: Usage;
  /** Whether all of its requests must be shown before it is answered with data. */
  isSigned: boolean;
  /** The sum of those that were, and the last one's `requestSignatureHash`. */
  shown: Usage;
  shownThrough: string;
  /** Null if the plan names none. */
  arbitrator: string | null;
}

/** A request as its licensee's key has signed it, with the receipt that it led to. See `RequestProof`. */
export interface ShownRequest extends SignedReceipt {
  grant: SignedGrant;
  /** 70 bytes: when it was signed, and the signature. */
  requestSignature: Uint8Array;
}

/** What a version says of its weights. */
export interface Inference {
  weightsCommitment: string;
  verifier: string;
}

export type SideName = "None" | "Challenger" | "Operator";

/** An appeal that can be paid for now. */
export interface Appeal {
  /** What is ruled unless somebody appeals. */
  ruling: SideName;
  /** Who has paid its part. */
  appellant: SideName;
  /** Of a side's part, in wei. */
  cost: bigint;
  /** Unix seconds. */
  end: number;
}

/** All methods throw if the chain can't be reached. What is called "final" isn't undone any more. */
export interface Court {
  /** How many challenges there are, for good. They are numbered from 1. */
  count(): Promise<bigint>;
  challenge(challengeId: bigint, by: "latest" | "final"): Promise<Challenge>;
  /** What batch a frozen charge is of. */
  batchOf(chargeId: string): Promise<string>;
  /** Whether a breach of it was reported: that decides its challenge. */
  isReported(chargeId: string): Promise<boolean>;
  /** Null if the version names no verifier. */
  inferenceOf(versionId: bigint): Promise<Inference | null>;
  /** Whether an account may answer for an operator at a time, Unix seconds: its owner, and its signing keys. */
  mayAnswer(operatorId: number, account: string, at: number): Promise<boolean>;
  /** What a dispute costs, in wei. */
  feeOf(arbitrator: string): Promise<bigint>;
  /** Null unless a ruling can be appealed at a time, Unix seconds. */
  appealOf(challenge: Challenge, at: number): Promise<Appeal | null>;
  showing(challengeId: bigint, requests: readonly ShownRequest[]): Promise<Call>;
  answer(challengeId: bigint, uri: string): Promise<Call>;
  proof(challengeId: bigint, receipt: Receipt, proof: string): Promise<Call>;
  feePayment(challengeId: bigint, wei: bigint): Promise<Call>;
  /** Of the operator's part. */
  appealPayment(challengeId: bigint, wei: bigint): Promise<Call>;
  closing(challengeId: bigint): Promise<Call>;
}
