/** Whose turn a challenge is, and what an operator does when it is its own. */
import type { Challenge } from "./court";

/**
 * prove, answer: with a proof of the receipt, or with data. payFee: of its side of the dispute. follow: sees whether an appeal wants
 * its part. close: it stands decided for the operator, whose money it brings. wait: it is another's turn. lost: nothing helps any more.
 */
export type Turn = "prove" | "answer" | "payFee" | "follow" | "close" | "wait" | "lost";

/** What a turn depends on beside the challenge itself. */
export interface TurnFacts {
  /** Unix seconds. */
  now: number;
  /** Whether its version names a verifier. */
  isProvable: boolean;
  /** Whether a breach of the charge was reported. */
  isReported: boolean;
}

/** The operator's. */
export function turnOf({ status, deadline, receiptHash }: Challenge, { now, isProvable, isReported }: TurnFacts): Turn {
  if (isReported) return "lost";
  const isOver = now > deadline;
  switch (status) {
    case "Open":
      if (isOver) return "lost";
      return receiptHash !== null && isProvable ? "prove" : "answer";
    case "Answered":
      return isOver ? "close" : "wait";
    case "Escalated":
      return isOver ? "lost" : "payFee";
    case "Disputed":
      return isOver ? "close" : "follow";
    default:
      return "wait";
  }
}

/** Whether it has come to its end. */
export function isDecided({ status }: Pick<Challenge, "status">): boolean {
  return status === "Upheld" || status === "Rejected" || status === "Undecided";
}

/** Whether the challenge is lost unless the operator does something by its deadline. */
export function isOperatorsTurn({ status }: Pick<Challenge, "status">): boolean {
  return status === "Open" || status === "Escalated";
}
