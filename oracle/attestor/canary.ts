/**
 * Canaries: requests that an attestor makes like any licensee, with a license of its own, to see how good the service is.
 * Their prompts and times are random, so that an operator can't tell them from the rest and serve them better.
 */
import { ZeroAddress } from "ethers";
import { createParser } from "eventsource-parser";
import type { Chain, LicenseState } from "../chain/chain";
import { unservable } from "../gateway/unservable";
import { worstCost, worstUsage } from "../gateway/worstCase";
import type { Log } from "../log";
import { CLASSIFICATIONS_PATH } from "../protocol/classification";
import { decodeBearer, grantDigest } from "../protocol/messages";
import type { Lane, SignedGrant } from "../protocol/types";
import { type Turn, TurnLost } from "../store/leases";
import type { CanaryBooks, CanarySample } from "../store/canaryBooks";
import { canaryBody } from "./canaryBody";
import { classifiedAnswer, isClassified, type ClassificationCanary } from "./classificationCanary";
import { piecesOf, textOf } from "./reading";
import { answerOf, type Tokenizer } from "./recount";

export interface CanaryConfig {
  /** What is measured: the operator behind the gateway, the license's plan, the version served. */
  lane: Lane;
  gatewayUrl: string;
  /** The attestor's own grant, as a bearer token. It has no cap of its own, or every refusal is taken for its fault. */
  apiKey: string;
  /** What the gateway calls the model. */
  modelId: string;
  /** Average time between canaries, in milliseconds. */
  meanIntervalMs: number;
  /** An answer that isn't whole after as many milliseconds counts as none. */
  timeoutMs: number;
  /** The longest answer that is asked for; a classification has none. */
  maxTokens: number;
  /** For a model that classifies; without it, the model is one that writes. */
  classification?: ClassificationCanary;
  /** What the attestor asks, if it has questions of its own: those that come with the program are known to operators, too. */
  prompts?: readonly string[];
  /** Whose count of the answers is believed; without one, receipts are only held to what there can be at all. */
  tokenizer?: Tokenizer;
}

/** What came of a canary: `uncounted` where the attestor itself may have been cut off. */
export type CanaryResult = "answered" | "failed" | "uncounted";

export interface CanaryDeps {
  chain: Pick<
    Chain,
    "domain" | "epochPeriod" | "windowPeriod" | "now" | "license" | "plan" | "version" | "isSignatureOf"
  >;
  store: { canaries: Pick<CanaryBooks, "record" | "recordAnswer"> };
  log: Log;
  /** Where several processes measure for one key: only who has it sends canaries. */
  turn?: Turn;
  /** Uniform over [0, 1). */
  random(): number;
  /** Whether the attestor's own network works: asked when a gateway can't be reached. */
  isOnline(): Promise<boolean>;
  /** Is told what came of each. */
  onSampled?: (lane: Lane, result: CanaryResult, sample: CanarySample | null) => void;
  /** Resolves after `ms` milliseconds and rejects when the signal aborts. */
  wait(ms: number, signal: AbortSignal): Promise<unknown>;
}

/** The gateway refused a canary for a reason that may be the attestor's own: its license or its grant isn't in order. */
export class CanaryRefused extends Error {
  override name = "CanaryRefused";
}

/** A gateway couldn't be reached, and neither could anything else: that says nothing of the gateway. */
export class CanaryCutOff extends Error {
  override name = "CanaryCutOff";
}

/** Sends canaries at random times until the signal aborts. One that goes wrong is logged and never stops the others. */
export async function runCanaries(config: CanaryConfig, deps: CanaryDeps, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    try {
      await deps.wait(nextInterval(config.meanIntervalMs, deps.random), signal);
      if (deps.turn === undefined || deps.turn.isMine) await sendCanary(config, deps, signal);
    } catch (cause) {
      if (signal.aborted) return;
      deps.onSampled?.(config.lane, "uncounted", null);
      const level = cause instanceof TurnLost ? "warn" : "error";
      deps.log[level]("Canary wasn't sampled", { lane: config.lane, cause });
    }
  }
}

/**
 * Sends one canary and records its sample, which counts in the epoch in which it ended.
 * @throws CanaryRefused if the refusal is the canary's own fault, CanaryCutOff if the attestor's network is down, TurnLost if
 * another process has gone on with canaries: then there is no sample
 */
export async function sendCanary(config: CanaryConfig, deps: CanaryDeps, signal: AbortSignal): Promise<CanarySample> {
  const lease = deps.turn?.lease;
  const { body, isStreamed } = canaryBody(config, deps.random);
  const answer = await ask(config, body, isStreamed, signal);
  signal.throwIfAborted();
  if (answer.kind === "refused") await requireGroundless(answer.said, config, deps, Buffer.byteLength(body));
  if (answer.kind === "unreached" && !(await deps.isOnline())) {
    throw new CanaryCutOff(`${config.gatewayUrl} can't be reached, and nor can anything else`, { cause: answer.cause });
  }
  const { ttftMs = 0, tokensPerSecond } = answer.kind === "whole" ? answer : {};
  const ok = answer.kind === "whole";
  if (ok) await keepAnswer(config, deps, body, answer.heard);
  const sample = {
    ...{ at: await deps.chain.now(), ok, ttftMs },
    ...(tokensPerSecond === undefined ? {} : { tokensPerSecond }),
  };
  await deps.store.canaries.record(config.lane, sample, lease);
  deps.onSampled?.(config.lane, ok ? "answered" : "failed", sample);
  deps.log.info("Canary sampled", { lane: config.lane, ...sample });
  return sample;
}

/** What a receipt for it will be held against, in a batch. */
async function keepAnswer(
  { lane, apiKey, maxTokens, tokenizer, classification }: CanaryConfig,
  deps: CanaryDeps,
  body: string,
  heard: Heard,
) {
  const salt = grantIn(apiKey)?.grant.salt;
  if (salt === undefined) return;
  const asked = { salt, body, maxTokens };
  const at = await deps.chain.now();
  const answer =
    classification === undefined
      ? await answerOf(asked, heard, tokenizer, at)
      : classifiedAnswer(asked, heard.bytes, classification.network, at);
  if (answer.difference !== null)
    deps.log.warn("Canary isn't answered by the model", { lane, reason: answer.difference });
  await deps.store.canaries.recordAnswer({ ...lane, ...answer });
}

/** Exponential: however long the last canary is ago, the next is as likely to come now. */
function nextInterval(meanMs: number, random: () => number): number {
  return -Math.log1p(-random()) * meanMs;
}

/** How fast an answer was that came whole and in time. */
interface Speed {
  /** To the first token; left out of an answer that wasn't streamed, whose first token nobody sees. */
  ttftMs?: number;
  /** Of the tokens after the first, where there are any. */
  tokensPerSecond?: number;
}

/** An answer as it came, and the JSON in it. */
interface Heard {
  bytes: Uint8Array;
  events: unknown[];
}

type Answer =
  | ({ kind: "whole"; heard: Heard } & Speed)
  /** The gateway says that the request was wrong. */
  | { kind: "refused"; said: string }
  /** What it sent isn't a whole answer, and nothing but the gateway can be to blame. */
  | { kind: "failed" }
  /** Nothing came, or what came broke off: that may be the network between. */
  | { kind: "unreached"; cause: unknown };

async function ask(config: CanaryConfig, body: string, isStreamed: boolean, signal: AbortSignal): Promise<Answer> {
  // Held by its timer: a signal made of others may be collected while a stream still depends on it.
  const ending = new AbortController();
  const end = () => ending.abort();
  const timer = setTimeout(end, config.timeoutMs);
  signal.addEventListener("abort", end, { once: true });
  const sentAt = performance.now();
  try {
    const response = await request(config, body, ending.signal);
    if (isRefusal(response.status)) {
      const said = (await textOf(response, MOST_BYTES).catch(String)).slice(0, MOST_SAID);
      return { kind: "refused", said: `${config.gatewayUrl} answered ${response.status}: ${said}` };
    }
    if (!response.ok) return { kind: "failed" };
    const speed = isStreamed ? await speedOf(response, sentAt) : await wholeIn(response, config);
    return speed === null ? { kind: "failed" } : { ...speed, kind: "whole" };
  } catch (cause) {
    return cause instanceof NoAnswer ? { kind: "failed" } : { kind: "unreached", cause };
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", end);
  }
}

/** How much of a refusal is logged. */
const MOST_SAID = 500;
/** How much of an answer is read: many times what as many tokens take. */
const MOST_BYTES = 8 * 2 ** 20;

function request(config: CanaryConfig, body: string, signal: AbortSignal): Promise<Response> {
  const path = config.classification === undefined ? "/v1/chat/completions" : CLASSIFICATIONS_PATH;
  return fetch(config.gatewayUrl + path, {
    method: "POST",
    headers: { "content-type": "application/json", authorization: `Bearer ${config.apiKey}` },
    body,
    // An answer from elsewhere isn't the gateway's.
    redirect: "manual",
    signal,
  });
}

/** A 4xx says that the request was wrong, but for "too slow" and "too many", which good service doesn't say. */
function isRefusal(status: number): boolean {
  return status >= 400 && status < 500 && status !== 408 && status !== 429;
}

/** What came is whole, and no answer. */
class NoAnswer extends Error {}

/** Null if no token came, or the stream ended before it said that it was done. */
async function speedOf(response: Response, sentAt: number): Promise<(Speed & { heard: Heard }) | null> {
  const tokensAt: number[] = [];
  const pieces: Uint8Array[] = [];
  const events: Chunk[] = [];
  let done = false;
  const parser = createParser({
    onEvent: ({ data }) => {
      if (data === "[DONE]") {
        done = true;
        return;
      }
      const chunk = parsed(data);
      events.push(chunk);
      if (hasToken(chunk)) tokensAt.push(performance.now());
    },
  });
  const decoder = new TextDecoder();
  for await (const piece of piecesOf(response, MOST_BYTES)) {
    pieces.push(piece);
    parser.feed(decoder.decode(piece, { stream: true }));
  }
  if (!done || tokensAt.length === 0) return null;
  const [first, last] = [tokensAt[0], tokensAt[tokensAt.length - 1]];
  const rate = Math.round(((tokensAt.length - 1) * 1_000) / (last - first));
  // What came in one piece says nothing of how fast it was made.
  return {
    heard: { bytes: Buffer.concat(pieces), events },
    ttftMs: Math.max(1, Math.round(first - sentAt)),
    ...(Number.isFinite(rate) && last - first >= LEAST_SPAN_MS ? { tokensPerSecond: rate } : {}),
  };
}

const LEAST_SPAN_MS = 10;

/** Null if there is no text in it, or no class. */
async function wholeIn(
  response: Response,
  { classification }: Pick<CanaryConfig, "classification">,
): Promise<{ heard: Heard } | null> {
  const text = await textOf(response, MOST_BYTES);
  const whole = parsed(text);
  const message = whole.choices?.[0]?.message;
  const isAnswer =
    classification === undefined ? Boolean(message?.content || message?.reasoning_content) : isClassified(whole);
  return isAnswer ? { heard: { bytes: Buffer.from(text), events: [whole] } } : null;
}

interface Chunk {
  choices?: Partial<Record<"delta" | "message", { content?: unknown; reasoning_content?: unknown }>>[];
}

function parsed(text: string): Chunk {
  try {
    return (JSON.parse(text) ?? {}) as Chunk;
  } catch (cause) {
    throw new NoAnswer("The answer is no JSON", { cause });
  }
}

function hasToken({ choices }: Chunk): boolean {
  const delta = choices?.[0]?.delta;
  return Boolean(delta?.content || delta?.reasoning_content);
}

// Refusals. An operator that could have its canaries not counted by refusing them would refuse them when service is bad.

/** How often a canary's worst cost must be there: for requests that run or aren't settled yet, and longer time-outs. */
const COSTS_LEFT = 100n;
/** A gateway takes no grant, license or version that may end before the longest request does. */
const SECONDS_LEFT = 3_600;

/** @throws CanaryRefused if the canary's license, as the chain has it, gave the gateway a reason */
async function requireGroundless(
  refusal: string,
  config: CanaryConfig,
  deps: CanaryDeps,
  bodyBytes: number,
): Promise<void> {
  const ground = await groundOf(config, deps.chain, bodyBytes);
  if (ground !== null) throw new CanaryRefused(`${refusal} (${ground})`);
  deps.log.warn("Canary refused without a ground", { lane: config.lane, refusal });
}

/** What isn't in order with a canary's license or its grant; null if all is. */
async function groundOf(
  { lane, apiKey, maxTokens, timeoutMs }: CanaryConfig,
  chain: CanaryDeps["chain"],
  promptBytes: number,
): Promise<string | null> {
  const signed = grantIn(apiKey);
  if (signed === null) return "the API key is none";
  const { grant, signature } = signed;
  const [now, license, plan, version] = await Promise.all([
    chain.now(),
    chain.license(grant.licenseId),
    chain.plan(lane.planId),
    chain.version(lane.versionId),
  ]);
  if (license === null || plan === null) return `license ${grant.licenseId} or plan ${lane.planId} doesn't exist`;
  const { planId, generation } = license;
  if (planId !== lane.planId) return `its license is under plan ${planId}, not ${lane.planId}`;
  const reason = unservable(license, {
    operatorId: lane.operatorId,
    from: now,
    until: now + SECONDS_LEFT,
    epochSeconds: chain.epochPeriod,
    windowPeriod: chain.windowPeriod,
  });
  if (reason !== null) return reason.message;
  if (version !== null && now + SECONDS_LEFT >= version.usableUntil) {
    return `version ${version.versionId} is recalled from ${version.usableUntil} on`;
  }

  if (generation !== grant.generation) return `its grant is of generation ${grant.generation}, not ${generation}`;
  if (now < grant.notBefore || now + SECONDS_LEFT > grant.expiresAt) {
    return `its grant runs from ${grant.notBefore} to ${grant.expiresAt}, and it is ${now}`;
  }
  if (grant.key !== ZeroAddress) return `its grant wants requests signed by ${grant.key}: sign one without a key`;
  if (license.signedSince > 0) return "its license demands signed requests: take that back";
  if (grant.cap !== 0n) return `its grant has a cap of ${grant.cap}: sign one without`;
  if (!(await chain.isSignatureOf(license.owner, grantDigest(chain.domain, grant), signature))) {
    return "its grant isn't signed by the license's owner";
  }

  const bounds = { promptBytes, templateTokens: 0, maxTokens, choices: 1, timeoutMs, gpus: 1 };
  const needed = COSTS_LEFT * worstCost(worstUsage(bounds), plan.rates);
  const left = spendable(license);
  return left < needed ? `its license may spend ${left}; ${needed} would be plenty` : null;
}

function spendable({ balance, thawing, owed, cap, spent }: LicenseState): bigint {
  const free = balance - thawing - owed;
  const underCap = cap - spent;
  return cap === 0n || free < underCap ? free : underCap;
}

function grantIn(apiKey: string): SignedGrant | null {
  try {
    return decodeBearer(apiKey);
  } catch {
    return null;
  }
}
