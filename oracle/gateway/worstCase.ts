/** What a request may cost at the most: what a gateway reserves before it serves, and an attestor keeps for its canaries. */
import { costOf } from "../protocol/meters";
import type { Usage } from "../protocol/types";

/** What bounds a request's usage before it is served. */
export interface RequestBounds {
  /** UTF-8 bytes of everything that becomes prompt: no tokenizer makes more tokens than bytes of them. */
  promptBytes: number;
  /** Tokens that the model's chat template may add. */
  templateTokens: number;
  /** Most tokens of one answer, and how many answers are asked for. */
  maxTokens: number;
  choices: number;
  timeoutMs: number;
  /** GPUs of the replica. */
  gpus: number;
}

/** The most that a request can use. Its input counts as not cached. */
export function worstUsage(bounds: RequestBounds): Usage {
  return {
    requests: 1n,
    inputTokens: BigInt(bounds.promptBytes + bounds.templateTokens),
    cachedInputTokens: 0n,
    outputTokens: BigInt(bounds.maxTokens) * BigInt(bounds.choices),
    computeMs: BigInt(bounds.timeoutMs) * BigInt(bounds.gpus),
  };
}

/** What that costs, whatever part of the input turns out to be cached, in units of the currency. */
export function worstCost(worst: Usage, rates: Usage): bigint {
  const cachedIsDearer = rates.cachedInputTokens > rates.inputTokens;
  return costOf(worst, cachedIsDearer ? { ...rates, inputTokens: rates.cachedInputTokens } : rates);
}
