/** The OpenAI API's shapes, as far as a gateway must understand them: requests to bound, answers to meter, and errors. */
import { reasonOf } from "../problem";
import { answerOf, inputOf } from "../protocol/classification";
import { MalformedMessage } from "../protocol/messages";

type JsonObject = Record<string, unknown>;

const UTF8 = new TextDecoder("utf-8", { fatal: true });

/** An answer other than 200. The message says what was wrong and what to do. */
export class ApiError extends Error {
  override readonly name = "ApiError";

  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    readonly details: {
      param?: string;
      retryAfterSeconds?: number;
      /** The voucher that is asked for, as JSON. */
      voucher?: object;
      cause?: unknown;
    } = {},
  ) {
    super(message, { cause: details.cause });
  }

  /** The answer's body. */
  toBytes(): Buffer {
    const { message, code, details } = this;
    const { param = null, voucher } = details;
    return Buffer.from(JSON.stringify({ error: { message, type: errorType(this.status), param, code, voucher } }));
  }
}

function errorType(status: number): string {
  switch (status) {
    case 401:
      return "authentication_error";
    case 402:
      return "insufficient_quota";
    case 403:
      return "permission_error";
    case 429:
      return "rate_limit_error";
    default:
      return status < 500 ? "invalid_request_error" : "api_error";
  }
}

/** Classifications aren't among OpenAI's: theirs is the one endpoint whose answers can be proven. */
export type RequestKind = "chat" | "text" | "embeddings" | "classification";

export interface RequestLimits {
  /** Most tokens of one answer where the client names none. */
  defaultMaxTokens: number;
  /** The most that a client may name. */
  maxTokensCeiling: number;
  /** Most answers to one request. */
  maxChoices: number;
}

const SHARED_PARAMETERS = [
  ...["model", "stream", "stream_options", "n", "max_tokens", "stop", "seed", "user"],
  ...["temperature", "top_p", "top_k", "min_p"],
  ...["frequency_penalty", "presence_penalty", "repetition_penalty", "logit_bias", "logprobs"],
];

/**
 * What a request may say: OpenAI's parameters, as far as the bounds on a request hold with them, and common ones of
 * sampling. Servers know others that get around the bounds (another name for `max_tokens`, a template, an adapter).
 */
const PARAMETERS: Record<RequestKind, ReadonlySet<string>> = {
  chat: new Set([
    ...SHARED_PARAMETERS,
    ...["messages", "max_completion_tokens", "top_logprobs", "response_format", "reasoning_effort", "verbosity"],
    ...["tools", "tool_choice", "parallel_tool_calls", "functions", "function_call"],
    ...["metadata", "store", "prompt_cache_key", "prompt_cache_retention", "safety_identifier"],
  ]),
  text: new Set([...SHARED_PARAMETERS, "prompt", "suffix", "echo", "best_of"]),
  embeddings: new Set(["model", "input", "encoding_format", "dimensions", "user"]),
  classification: new Set(["model", "input", "user"]),
};

/** A request to a model, understood as far as it must be bounded and metered. */
export interface ModelRequest {
  kind: RequestKind;
  /** As received. What they say is read anew where it is needed: kept for as long as an answer takes, it is many times larger. */
  bytes: Uint8Array;
  model: string;
  stream: boolean;
  /** Whether the client wants the usage chunk at a stream's end. */
  includeUsage: boolean;
  /** Most tokens of one answer; none are generated for embeddings. */
  maxTokens: number;
  /** How many answers are made, over all prompts. */
  choices: number;
}

/** The most inputs of one request for embeddings. */
const MOST_INPUTS = 2_048;

/** Throws ApiError 400 that names the parameter, unless the request can be bounded and metered. */
export function parseRequest(kind: RequestKind, bytes: Uint8Array, limits: RequestLimits): ModelRequest {
  const body = parseJsonObject(bytes);
  requireKnownParameters(kind, body);
  if (typeof body.model !== "string") throw invalid("model", "name a model, see /v1/models");
  const named = { kind, bytes, model: body.model };
  if (kind === "classification") {
    requireInput(body);
    return { ...named, stream: false, includeUsage: false, maxTokens: 0, choices: 1 };
  }
  if (kind === "embeddings") {
    const inputs = countPrompts("input", body.input);
    if (inputs > MOST_INPUTS) throw invalid("input", `send at most ${MOST_INPUTS} inputs in one request`);
    return { ...named, stream: false, includeUsage: false, maxTokens: 0, choices: inputs };
  }
  const prompts = kind === "chat" ? countChat(body.messages) : countPrompts("prompt", body.prompt);
  const answers = Math.max(
    wholeNumber(body, "n", 1, limits.maxChoices),
    kind === "text" ? wholeNumber(body, "best_of", 1, limits.maxChoices) : 1,
  );
  if (prompts * answers > limits.maxChoices) {
    throw invalid(kind === "chat" ? "n" : "prompt", `ask for at most ${limits.maxChoices} answers in one request`);
  }
  return {
    ...named,
    stream: flag(body, "stream"),
    includeUsage: isObject(body.stream_options) && body.stream_options.include_usage === true,
    maxTokens: maxTokensOf(body, limits),
    choices: prompts * answers,
  };
}

/** What is sent on: the request with the upstream's name of the model, a bound on tokens, and usage at a stream's end. */
export function upstreamBody(request: ModelRequest, upstreamModel: string): string {
  const { kind, stream, maxTokens } = request;
  const body = bodyOf(request);
  // Some servers know the newer name for it and some don't, and write on for ever then.
  const isBounded = kind === "embeddings" || kind === "classification" || isNamed(body.max_tokens);
  const streamOptions = isObject(body.stream_options) ? body.stream_options : {};
  return JSON.stringify({
    ...body,
    model: upstreamModel,
    ...(isBounded ? {} : { max_tokens: maxTokens }),
    ...(stream ? { stream_options: { ...streamOptions, include_usage: true } } : {}),
  });
}

/** A prompt, as text or as the tokens that it was sent as. */
export type Prompt = string | readonly number[];

/** What a request says. It was checked when it was parsed. */
function bodyOf({ bytes }: ModelRequest): JsonObject {
  return JSON.parse(UTF8.decode(bytes)) as JsonObject;
}

/** The messages of a chat, as they came. */
export function messagesOf(request: ModelRequest): unknown {
  return bodyOf(request).messages;
}

/** All prompts of a request, without roles and template. */
export function promptsOf(request: ModelRequest): Prompt[] {
  const { kind } = request;
  const body = bodyOf(request);
  if (kind === "chat") return [(body.messages as JsonObject[]).map(({ content }) => contentText(content)).join("\n")];
  const prompts = (kind === "text" ? body.prompt : body.input) as Prompt | Prompt[];
  return Array.isArray(prompts) && !prompts.every(isToken) ? (prompts as Prompt[]) : [prompts as Prompt];
}

function contentText(content: unknown): string {
  if (!Array.isArray(content)) return typeof content === "string" ? content : "";
  return content.map((part) => (isObject(part) && typeof part.text === "string" ? part.text : "")).join("\n");
}

/** Whether an answer, or a chunk of one, is part of what was asked for: an error or a remark at status 200 isn't. */
export function isAnswerTo(kind: RequestKind, answer: unknown): boolean {
  if (!isObject(answer) || isNamed(answer.error)) return false;
  if (kind === "classification") return isClassification(answer);
  const parts = kind === "embeddings" ? answer.data : answer.choices;
  return Array.isArray(parts) && parts.length > 0;
}

function isClassification(answer: JsonObject): boolean {
  try {
    answerOf(answer);
    return true;
  } catch (cause) {
    if (cause instanceof MalformedMessage) return false;
    throw cause;
  }
}

/** What a chunk says of a failure; undefined if it says nothing of one. */
export function failureIn(chunk: unknown): unknown {
  return isObject(chunk) && isNamed(chunk.error) ? chunk.error : undefined;
}

/** Of an upstream: what the operator has to see to, and no client can change. */
const OPERATORS_OWN = [401, 403, 404, 405, 407];

/** Whether an upstream's answer is an error that says something to the client. */
export function isErrorForClient(status: number, bytes: Uint8Array): boolean {
  if (status < 400 || OPERATORS_OWN.includes(status)) return false;
  try {
    return isObject(JSON.parse(Buffer.from(bytes).toString("utf8")));
  } catch {
    return false;
  }
}

/** Token counts as an upstream reports them: `cached` is a part of `prompt`. */
export interface TokenCounts {
  prompt: number;
  cached: number;
  completion: number;
}

/** What an answer or a chunk says of its use; null where it says nothing. */
export interface ReportedUsage {
  tokens: TokenCounts | null;
  /** Of one GPU, from llama.cpp's timings. */
  computeMs: number | null;
}

export function reportedUsage(answer: unknown): ReportedUsage {
  if (!isObject(answer)) return { tokens: null, computeMs: null };
  const timings = isObject(answer.timings) ? answer.timings : {};
  return { tokens: tokenCounts(answer.usage, timings) ?? timedCounts(timings), computeMs: computeTime(timings) };
}

/** What servers say of embeddings may leave out completion tokens, of which there are none. */
function tokenCounts(usage: unknown, timings: JsonObject): TokenCounts | null {
  if (!isObject(usage)) return null;
  const prompt = count(usage.prompt_tokens);
  const completion =
    usage.completion_tokens === undefined && usage.total_tokens === prompt ? 0 : usage.completion_tokens;
  const completed = count(completion);
  if (prompt === null || completed === null) return null;
  const details = isObject(usage.prompt_tokens_details) ? usage.prompt_tokens_details : {};
  return { prompt, cached: count(details.cached_tokens) ?? count(timings.cache_n) ?? 0, completion: completed };
}

/** By llama.cpp's timings, whose `prompt_n` leaves out what was cached. */
function timedCounts(timings: JsonObject): TokenCounts | null {
  const cached = count(timings.cache_n) ?? 0;
  const read = count(timings.prompt_n);
  const completion = count(timings.predicted_n);
  return read === null || completion === null ? null : { prompt: read + cached, cached, completion };
}

function computeTime({ prompt_ms: prefill, predicted_ms: decode }: JsonObject): number | null {
  if (typeof prefill !== "number" || typeof decode !== "number") return null;
  const sum = Math.ceil(prefill + decode);
  return Number.isSafeInteger(sum) && sum >= 0 ? sum : null;
}

/** Text that an answer, or a chunk of one, has for one of its choices. */
export interface ChoiceText {
  /** Number of the choice. */
  choice: number;
  text: string;
}

/** The generated text of an answer or a chunk: content, reasoning, refusals and tool calls, all of which are tokens. */
export function generatedTexts(answer: unknown): ChoiceText[] {
  if (!isObject(answer) || !Array.isArray(answer.choices)) return [];
  return answer.choices
    .filter(isObject)
    .map((choice) => ({ choice: count(choice.index) ?? 0, text: choiceText(choice) }))
    .filter(({ text }) => text !== "");
}

function choiceText({ text, delta, message }: JsonObject): string {
  const said = delta ?? message;
  if (typeof text === "string") return text;
  if (!isObject(said)) return "";
  const words = [said.reasoning_content, said.reasoning, said.content, said.refusal];
  const calls = [said.function_call, ...(Array.isArray(said.tool_calls) ? said.tool_calls.map(functionOf) : [])];
  const called = calls.filter(isObject).flatMap(({ name, arguments: given }) => [name, given]);
  return [...words, ...called].filter((part) => typeof part === "string").join("");
}

function functionOf(call: unknown): unknown {
  return isObject(call) ? call.function : undefined;
}

/** Whether a chunk exists only to carry usage. */
export function isUsageChunk(chunk: unknown): boolean {
  return isObject(chunk) && isObject(chunk.usage) && Array.isArray(chunk.choices) && chunk.choices.length === 0;
}

export function parseJsonObject(bytes: Uint8Array): JsonObject {
  let body: unknown;
  try {
    body = JSON.parse(UTF8.decode(bytes));
  } catch (cause) {
    throw new ApiError(400, "invalid_json", `the request's body isn't JSON in UTF-8: ${(cause as Error).message}`, {
      cause,
    });
  }
  if (!isObject(body)) throw new ApiError(400, "invalid_json", "the request's body must be a JSON object");
  if (isDeeperThan(MOST_LEVELS, body)) {
    throw new ApiError(400, "invalid_json", `the request's body is nested deeper than ${MOST_LEVELS} levels`);
  }
  return body;
}

/** More than any schema of a tool has, and few enough to be written out again. */
const MOST_LEVELS = 100;

function isDeeperThan(levels: number, value: unknown): boolean {
  if (typeof value !== "object" || value === null) return false;
  return levels === 0 || Object.values(value).some((inner) => isDeeperThan(levels - 1, inner));
}

function requireKnownParameters(kind: RequestKind, body: JsonObject): void {
  const unknown = Object.keys(body).find((name) => !PARAMETERS[kind].has(name));
  if (unknown !== undefined) throw invalid(unknown, "isn't taken here, for it might get around a bound: leave it out");
}

function requireInput(body: JsonObject): void {
  try {
    inputOf(body);
  } catch (cause) {
    if (!(cause instanceof MalformedMessage)) throw cause;
    throw new ApiError(400, "invalid_parameter", reasonOf(cause), { param: "input", cause });
  }
}

function countChat(messages: unknown): number {
  if (!Array.isArray(messages) || messages.length === 0) throw invalid("messages", "send at least one message");
  for (const message of messages) {
    if (!isObject(message)) throw invalid("messages", "every message must be an object");
    const parts = Array.isArray(message.content) ? message.content : [];
    const foreign = parts.find((part) => !isObject(part) || (part.type !== "text" && part.type !== "refusal"));
    if (foreign !== undefined) {
      throw invalid(
        "messages",
        "only text is served here, for the tokens of other content can't be bounded beforehand",
      );
    }
  }
  return 1;
}

/** A prompt is a text or its tokens; several are a list of these. */
function countPrompts(name: "prompt" | "input", prompt: unknown): number {
  if (typeof prompt === "string") return 1;
  if (!Array.isArray(prompt) || prompt.length === 0) throw invalid(name, "send a text or a list of texts");
  if (prompt.every(isToken)) return 1;
  const isPrompt = (one: unknown) => typeof one === "string" || (Array.isArray(one) && one.every(isToken));
  if (prompt.every(isPrompt)) return prompt.length;
  throw invalid(name, `every ${name} must be a text or a list of tokens`);
}

function maxTokensOf(body: JsonObject, limits: RequestLimits): number {
  const named = ["max_completion_tokens", "max_tokens"].filter((name) => isNamed(body[name]));
  if (named.length === 0) return limits.defaultMaxTokens;
  return Math.max(...named.map((name) => wholeNumber(body, name, 1, limits.maxTokensCeiling)));
}

/** A parameter between 1 and `most`, or its default where it isn't given. */
function wholeNumber(body: JsonObject, name: string, byDefault: number, most: number): number {
  const value = body[name];
  if (!isNamed(value)) return byDefault;
  if (Number.isInteger(value) && (value as number) >= 1 && (value as number) <= most) return value as number;
  throw invalid(name, `must be a whole number from 1 to ${most}, not ${JSON.stringify(value)}`);
}

function flag(body: JsonObject, name: string): boolean {
  const value = body[name];
  if (isNamed(value) && typeof value !== "boolean") throw invalid(name, "must be true or false");
  return value === true;
}

function invalid(param: string, problem: string): ApiError {
  return new ApiError(400, "invalid_parameter", `${param}: ${problem}`, { param });
}

function isToken(value: unknown): value is number {
  return Number.isSafeInteger(value);
}

function count(value: unknown): number | null {
  return Number.isSafeInteger(value) && (value as number) >= 0 ? (value as number) : null;
}

function isNamed(value: unknown): boolean {
  return value !== undefined && value !== null;
}

function isObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
