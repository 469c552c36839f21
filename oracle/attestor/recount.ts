/**
 * What an attestor counts itself: the answers to its own canaries. It knows what it asked and what came, so that nobody's
 * prompts need be disclosed; and an operator that can't tell canaries can't count them better than the rest.
 */
import { Generated } from "../gateway/generated";
import { generatedTexts, type ModelRequest } from "../gateway/openai";
import { Replica } from "../gateway/replicas";
import { Upstream } from "../gateway/upstream";
import type { Log } from "../log";
import { isSameLane } from "../protocol/lanes";
import { saltedHash } from "../protocol/messages";
import type { Lane } from "../protocol/types";
import type { BatchFacts } from "./batchFacts";
import type { Refusal } from "./inspection";

/** What an attestor knows of an answer that it got whole. */
export interface HeardAnswer {
  /** As the receipt has them. */
  requestHash: string;
  responseHash: string;
  /** The most tokens that a receipt may say: by the attestor's own count, or else what there can be at all. */
  mostInput: number;
  mostOutput: number;
  /** Whether the attestor counted, by a tokenizer of its own. */
  isCounted: boolean;
  /** Why it isn't the model's answer, going on from "Receipt … of license …"; null if it is, or nobody can tell. */
  difference: string | null;
  /** Unix seconds. */
  at: number;
}

/** One of its canary's in a lane. */
export type CanaryAnswer = Lane & HeardAnswer;

/** A server of the model that the attestor trusts, whose tokenizer it asks. */
export interface TokenizerConfig {
  url: string;
  /** What the server calls the model. */
  model: string;
  apiKey?: string;
}

/** Counts by another server's tokenizer; null where that can't be asked. */
export interface Tokenizer {
  countPrompt(request: Uint8Array): Promise<number | null>;
  countTexts(texts: readonly string[]): Promise<number | null>;
}

/** Templates and tokenizers of other versions count a little otherwise: so much of a count must agree. */
const AGREEING = 0.97;
/** Tokens that a text doesn't show, as at its end. */
const UNSEEN_TOKENS = 8;
/** Tokens of a template around a message, where nobody counts them. */
const TEMPLATE_TOKENS = 256;

export function tokenizerOf({ url, model, apiKey }: TokenizerConfig, log: Log): Tokenizer {
  const upstream = new Upstream();
  const server = new Replica(model, { url, model, apiKey }, log);
  return {
    countPrompt: (bytes) => upstream.countPrompt(server, { kind: "chat", bytes } as ModelRequest),
    countTexts: (texts) => upstream.countTokens(server, texts),
  };
}

/** @param events the JSON of each event of a stream, or of the whole answer */
export async function answerOf(
  { salt, body, maxTokens }: { salt: string; body: string; maxTokens: number },
  { bytes, events }: { bytes: Uint8Array; events: readonly unknown[] },
  tokenizer: Tokenizer | undefined,
  at: number,
): Promise<HeardAnswer> {
  const generated = new Generated();
  for (const text of events.flatMap(generatedTexts)) generated.add(text);
  const request = Buffer.from(body);
  const [input = null, output = null] = await Promise.all([
    tokenizer?.countPrompt(request),
    tokenizer?.countTexts(generated.texts()),
  ]);
  return {
    requestHash: saltedHash(salt, request),
    responseHash: saltedHash(salt, bytes),
    // No token has less than a byte.
    mostInput: input === null ? request.length + TEMPLATE_TOKENS : mostOf(input),
    mostOutput: output === null ? maxTokens : mostOf(output),
    isCounted: input !== null && output !== null,
    difference: null,
    at,
  };
}

/** The most tokens that a receipt may say where so many were counted. */
export function mostOf(counted: number): number {
  return Math.ceil(counted / AGREEING) + UNSEEN_TOKENS;
}

/** How the receipts of an attestor's own canaries compare with what it got. */
export interface Recount {
  refusals: Refusal[];
  /** Whether it counted some of the lane's epoch itself, and found none of the batch wrong. */
  recounted: boolean;
}

/**
 * A batch may be a part of its epoch, with none of the canaries' receipts: they are in another part, which has them held against the
 * count, or isn't vouched for.
 * @param answers that came from the operator in the epoch
 */
export function recount({ receipts, header }: BatchFacts, answers: readonly CanaryAnswer[]): Recount {
  const byRequest = grouped(answers);
  const refusals = receipts.flatMap(({ receipt, hash }) => {
    const own = byRequest.get(receipt.requestHash);
    if (own === undefined) return [];
    const answer = own.find(({ responseHash }) => responseHash === receipt.responseHash);
    const reason =
      answer === undefined
        ? "says another answer than the attestor got"
        : (answer.difference ?? excessOf(receipt, answer));
    const name = `Receipt ${receipt.sequence} of license ${receipt.licenseId}`;
    return reason === null ? [] : [{ reason: `${name} ${reason}`, receiptHash: hash }];
  });
  const isCounted = answers.some((answer) => answer.isCounted && isSameLane(answer, header));
  return { refusals, recounted: refusals.length === 0 && isCounted };
}

type Counts = Record<"inputTokens" | "cachedInputTokens" | "outputTokens", bigint>;

/** Why a receipt counts more than there can be; null if it doesn't. */
export function excessOf(
  { inputTokens, cachedInputTokens, outputTokens }: Counts,
  { mostInput, mostOutput, isCounted }: HeardAnswer,
): string | null {
  const how = isCounted ? "by the attestor's own count" : "as it can be at all";
  if (inputTokens + cachedInputTokens > BigInt(mostInput)) {
    return `has ${inputTokens + cachedInputTokens} input tokens; ${mostInput} are the most, ${how}`;
  }
  if (outputTokens > BigInt(mostOutput)) return `has ${outputTokens} output tokens; ${mostOutput} are the most, ${how}`;
  return null;
}

function grouped(answers: readonly CanaryAnswer[]): Map<string, CanaryAnswer[]> {
  const groups = new Map<string, CanaryAnswer[]>();
  for (const answer of answers) groups.set(answer.requestHash, [...(groups.get(answer.requestHash) ?? []), answer]);
  return groups;
}
