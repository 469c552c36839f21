import { flag } from "./parameters";
import { Problem } from "../../oracle/problem";

/** What is on its way out, and the moment after which it may leave. */
export interface Thaw {
  amount: bigint;
  readyAt: bigint;
}

export interface ThawWish {
  amount?: bigint;
  /** Announce in place of what was announced before: the wait starts anew. */
  anew?: boolean;
  /** Take back what was announced. */
  cancel?: boolean;
}

/** What a withdrawal does next: it is announced, waited for, and collected. */
export function thawStep(thaw: Thaw, now: number, wish: ThawWish): "announce" | "wait" | "collect" | "cancel" {
  if (wish.cancel === true && wish.anew === true) throw new Problem("Say either --anew or --cancel.");
  if (wish.cancel === true) {
    if (thaw.amount === 0n) throw new Problem("Nothing is on its way out, so there is nothing to cancel.");
    return "cancel";
  }
  if (thaw.amount === 0n || wish.anew === true) {
    if (wish.amount === 0n) throw new Problem("--amount must be above 0; --cancel takes back what was announced.");
    return "announce";
  }
  if (wish.amount !== undefined && wish.amount !== thaw.amount) {
    throw new Problem(
      "Another amount is on its way out already: leave --amount out to go on with that, or say --anew to announce this one " +
        "in its place, which starts the wait anew.",
    );
  }
  return BigInt(now) > thaw.readyAt ? "collect" : "wait";
}

/** The parameters of a task that withdraws after a wait. */
export const thawFlags = {
  anew: flag("Announce --amount in place of what was announced before; the wait starts anew"),
  cancel: flag("Take back what was announced"),
};
