/** What no hardware can have done. It shows invented use where the numbers of a receipt agree with one another. */
import type { Receipt } from "../protocol/types";

/** The most that an attestor believes of an operator's servers. */
export interface Plausible {
  /** Of one request, all of its choices together. */
  outputTokensPerSecond: number;
  /** Of one request's prompt, without what was cached. */
  inputTokensPerSecond: number;
  /** That work on one request at once. */
  gpus: number;
  /** Requests that run at once, on all servers of a model. */
  slots: number;
}

/** Generous: several times what the fastest accelerators on the market do, and all GPUs that a gateway's settings allow. */
export const PLAUSIBLE: Plausible = {
  outputTokensPerSecond: 20_000,
  inputTokensPerSecond: 1_000_000,
  gpus: 1_000,
  slots: 100_000,
};

/** What is added to a request's time: clocks are read before and after it, and in whole milliseconds. */
const SLACK_MS = 1_000;

/** How a receipt says more than can have been done in its time. */
export function* speedReasons(receipt: Receipt, plausible: Plausible): Iterable<string> {
  const { durationMs, inputTokens, outputTokens, computeMs } = receipt;
  const { outputTokensPerSecond, inputTokensPerSecond, gpus } = plausible;
  const ms = durationMs + SLACK_MS;
  if (Number(outputTokens) * 1_000 > outputTokensPerSecond * ms) {
    yield `has ${outputTokens} output tokens in ${durationMs} ms; ${outputTokensPerSecond} a second are plausible`;
  }
  if (Number(inputTokens) * 1_000 > inputTokensPerSecond * ms) {
    yield `has ${inputTokens} input tokens in ${durationMs} ms; ${inputTokensPerSecond} a second are plausible`;
  }
  if (Number(computeMs) > gpus * ms) {
    yield `has ${computeMs} ms of compute in ${durationMs} ms; ${gpus} GPUs at once are plausible`;
  }
}

/** Why so many requests can't have run at once; null if they can. A receipt says in which second its request ended. */
export function overlapProblem(receipts: Iterable<{ receipt: Receipt }>, { slots }: Plausible): string | null {
  const [begun, ended]: number[][] = [[], []];
  for (const { receipt } of receipts) {
    // It ended somewhere within that second: what counts is when it ran in any case.
    const endsFrom = receipt.finishedAt * 1_000;
    const beganBy = endsFrom + 1_000 - receipt.durationMs;
    if (beganBy >= endsFrom) continue;
    begun.push(beganBy);
    ended.push(endsFrom);
  }
  const starts = Float64Array.from(begun).sort();
  const ends = Float64Array.from(ended).sort();
  for (let i = 0, over = 0; i < starts.length; i++) {
    while (ends[over] <= starts[i]) over++;
    const running = i + 1 - over;
    if (running <= slots) continue;
    return `The receipts have over ${slots} requests run at once, at ${Math.floor(starts[i] / 1_000)}; ${slots} slots are plausible`;
  }
  return null;
}
