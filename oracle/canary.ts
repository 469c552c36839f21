/**
 * Canaries: requests that an attestor makes like any licensee, with a license of its own, to see how good the service is.
 * Their prompts and times are random, so that an operator can't tell them from the rest and serve them better.
 */
import { createParser } from "eventsource-parser";
import type { Chain } from "./chain";
import type { Log } from "./log";
import type { Lane } from "./protocol";
import type { CanarySample, Store } from "./store";

export interface CanaryConfig {
  /** What is measured: the operator behind the gateway, the license's plan, the version served. */
  lane: Lane;
  gatewayUrl: string;
  /** The attestor's own grant, as a bearer token. */
  apiKey: string;
  /** What the gateway calls the model. */
  modelId: string;
  /** Average time between canaries, in milliseconds. */
  meanIntervalMs: number;
  /** An answer that isn't whole after as many milliseconds counts as none. */
  timeoutMs: number;
  /** Length of the answers asked for. */
  maxTokens: number;
}

export interface CanaryDeps {
  chain: Pick<Chain, "now">;
  store: Pick<Store, "recordCanary">;
  log: Log;
  /** Uniform over [0, 1). */
  random(): number;
  /** Resolves after `ms` milliseconds and rejects when the signal aborts. */
  wait(ms: number, signal: AbortSignal): Promise<unknown>;
}

/** The gateway refused a canary for a reason that is the attestor's own: no key, no money, no such model. */
export class CanaryRefused extends Error {
  override name = "CanaryRefused";
}

/** Sends canaries at random times until the signal aborts. One that goes wrong is logged and never stops the others. */
export async function runCanaries(config: CanaryConfig, deps: CanaryDeps, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    try {
      await deps.wait(nextInterval(config.meanIntervalMs, deps.random), signal);
      await sendCanary(config, deps, signal);
    } catch (cause) {
      if (!signal.aborted) deps.log.error("Canary wasn't sampled", { lane: config.lane, cause });
    }
  }
}

/**
 * Sends one canary and records its sample, which counts in the epoch in which it ended.
 * @throws CanaryRefused if the refusal is the canary's own fault: then there is no sample
 */
export async function sendCanary(config: CanaryConfig, deps: CanaryDeps, signal: AbortSignal): Promise<CanarySample> {
  const ttftMs = await timeToFirstToken(config, randomPrompt(deps.random), signal);
  signal.throwIfAborted();
  const sample = { at: await deps.chain.now(), ok: ttftMs !== null, ttftMs: ttftMs ?? 0 };
  deps.store.recordCanary(config.lane, sample);
  deps.log.info("Canary sampled", { lane: config.lane, ...sample });
  return sample;
}

/** Exponential: however long the last canary is ago, the next is as likely to come now. */
function nextInterval(meanMs: number, random: () => number): number {
  return -Math.log1p(-random()) * meanMs;
}

const OPENINGS = ["Explain", "Summarize", "Draft", "Compare two kinds of", "List three facts about", "Question"];
const SUBJECTS = [
  "a license",
  "a warranty",
  "the public domain",
  "a patent",
  "copyright",
  "a trademark",
  "attribution",
];
const ENDINGS = ["in one sentence", "for a child", "as a lawyer would", "with an example", "in plain words", "briefly"];

function randomPrompt(random: () => number): string {
  const oneOf = (choices: string[]) => choices[Math.floor(random() * choices.length)];
  return `${oneOf(OPENINGS)} ${oneOf(SUBJECTS)} ${oneOf(ENDINGS)}, number ${Math.floor(random() * 1_000_000)}.`;
}

/** Milliseconds to the first token of an answer that came whole and in time; null if it didn't. */
async function timeToFirstToken(config: CanaryConfig, prompt: string, signal: AbortSignal): Promise<number | null> {
  const inTime = AbortSignal.any([signal, AbortSignal.timeout(config.timeoutMs)]);
  const sentAt = performance.now();
  try {
    const response = await requestChat(config, prompt, inTime);
    if (isOwnFault(response.status)) {
      throw new CanaryRefused(`${config.gatewayUrl} answered ${response.status}: ${await response.text()}`);
    }
    if (!response.ok || response.body === null) return null;
    const firstTokenAt = await firstTokenOf(response.body);
    return firstTokenAt === null ? null : Math.round(firstTokenAt - sentAt);
  } catch (error) {
    if (error instanceof CanaryRefused) throw error;
    return null;
  }
}

function requestChat(config: CanaryConfig, prompt: string, signal: AbortSignal): Promise<Response> {
  return fetch(`${config.gatewayUrl}/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json", authorization: `Bearer ${config.apiKey}` },
    body: JSON.stringify({
      model: config.modelId,
      messages: [{ role: "user", content: prompt }],
      max_tokens: config.maxTokens,
      stream: true,
    }),
    signal,
  });
}

/** A 4xx says that the request was wrong, but for "too slow" and "too many", which good service doesn't say. */
function isOwnFault(status: number): boolean {
  return status >= 400 && status < 500 && status !== 408 && status !== 429;
}

/** When the first token of a stream came; null if none did, or the stream ended before it said that it was done. */
async function firstTokenOf(body: ReadableStream<Uint8Array>): Promise<number | null> {
  let firstTokenAt: number | null = null;
  let done = false;
  const parser = createParser({
    onEvent: ({ data }) => {
      if (data === "[DONE]") done = true;
      else if (firstTokenAt === null && hasToken(data)) firstTokenAt = performance.now();
    },
  });
  const decoder = new TextDecoder();
  for await (const bytes of body) parser.feed(decoder.decode(bytes, { stream: true }));
  return done ? firstTokenAt : null;
}

function hasToken(data: string): boolean {
  const delta = JSON.parse(data).choices?.[0]?.delta;
  return Boolean(delta?.content || delta?.reasoning_content);
}
