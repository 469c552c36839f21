/**
 * An OpenAI-compatible inference server over llama.cpp, on the CPU and in this process: what demos and tests meter when no
 * vLLM, TGI or Ollama is at hand. It serves one model, batches up to four requests, and keeps their prefixes cached.
 */
import fastify, { type FastifyError, type FastifyInstance, type FastifyReply } from "fastify";
import type { LlamaContextSequence, LlamaModel, Token } from "node-llama-cpp" with { "resolution-mode": "import" };
import { randomUUID } from "node:crypto";
import { basename } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { listen } from "./listen";
import { Problem, reasonOf } from "./problem";

export interface EngineOptions {
  /** A GGUF file. */
  modelPath: string;
  /** What clients call the model; the file's name without its ending if left out. */
  modelId?: string;
  /** 0, the default, takes a free one. */
  port?: number;
  host?: string;
  /** Requests that are decoded at the same time; the others wait for their turn. */
  slots?: number;
}

/** Deliberate bad service for demonstrations and tests. All zero serves as well as the machine can. */
export interface EngineFaults {
  /** Milliseconds that each completion waits before its first token. */
  delayMs: number;
  /** Every n-th completion is answered 500; 0 is none. */
  failEvery: number;
}

export interface Engine {
  url: string;
  /** May be changed while the engine runs. */
  faults: EngineFaults;
  /** Hangs up on open requests and frees the model. */
  close(): Promise<void>;
}

interface ChatMessage {
  role: string;
  content: string | { type: "text"; text: string }[];
}

interface SamplingBody {
  model: string;
  max_tokens?: number | null;
  max_completion_tokens?: number | null;
  temperature?: number | null;
  seed?: number | null;
  stream?: boolean | null;
  stream_options?: { include_usage?: boolean } | null;
}

type ChatBody = SamplingBody & { messages: ChatMessage[] };

type PlainBody = SamplingBody & { prompt: string };

type TokenizeBody = { content: string } | { messages: ChatMessage[] };

interface Generation {
  prompt: Token[];
  maxTokens: number;
  temperature: number;
  seed?: number;
}

interface Generated {
  text: string;
  finishReason: "stop" | "length";
  promptTokens: number;
  cachedTokens: number;
  completionTokens: number;
  /** Milliseconds to the first token and from it to the last, waiting for a slot not included. */
  promptMs: number;
  predictedMs: number;
}

/** An answer other than 200, in the words of OpenAI's error object. */
class RequestError extends Error {
  constructor(
    readonly statusCode: number,
    message: string,
    readonly code: string | null = null,
  ) {
    super(message);
  }
}

const MESSAGES_SCHEMA = {
  type: "array",
  minItems: 1,
  items: {
    type: "object",
    required: ["role", "content"],
    properties: {
      role: { type: "string", pattern: "^[a-z]+$" },
      content: {
        anyOf: [
          { type: "string" },
          {
            type: "array",
            items: {
              type: "object",
              required: ["type", "text"],
              properties: { type: { const: "text" }, text: { type: "string" } },
            },
          },
        ],
      },
    },
  },
};

const SAMPLING_SCHEMA = {
  model: { type: "string" },
  max_tokens: { type: "integer", minimum: 1, nullable: true },
  max_completion_tokens: { type: "integer", minimum: 1, nullable: true },
  temperature: { type: "number", minimum: 0, maximum: 2, nullable: true },
  seed: { type: "integer", minimum: 0, nullable: true },
  stream: { type: "boolean", nullable: true },
  stream_options: { type: "object", nullable: true, properties: { include_usage: { type: "boolean" } } },
  n: { type: "integer", minimum: 1, maximum: 1, nullable: true },
};

const CHAT_SCHEMA = {
  type: "object",
  required: ["model", "messages"],
  properties: { ...SAMPLING_SCHEMA, messages: MESSAGES_SCHEMA },
};

const PLAIN_SCHEMA = {
  type: "object",
  required: ["model", "prompt"],
  properties: { ...SAMPLING_SCHEMA, prompt: { type: "string", minLength: 1 } },
};

const TOKENIZE_SCHEMA = {
  type: "object",
  anyOf: [{ required: ["content"] }, { required: ["messages"] }],
  properties: { content: { type: "string" }, messages: MESSAGES_SCHEMA },
};

/**
 * Loads the model and serves `/v1/models`, `/v1/chat/completions`, `/v1/completions` and `/tokenize`.
 * Decoding is greedy unless a request asks for a temperature, and ends at the model's context at the latest.
 * @throws Problem if the file isn't a model that llama.cpp can load, or the port is taken
 */
export async function startEngine(options: EngineOptions): Promise<Engine> {
  const modelId = options.modelId ?? basename(options.modelPath, ".gguf");
  const runtime = await loadRuntime(options.modelPath, options.slots ?? 4);
  const faults: EngineFaults = { delayMs: 0, failEvery: 0 };
  const server = createServer(runtime, modelId, createFaultGate(faults));
  const close = async () => {
    await server.close();
    await runtime.close();
  };
  try {
    const url = await listen(server, { host: options.host ?? "127.0.0.1", port: options.port ?? 0 });
    return { url, faults, close };
  } catch (cause) {
    await close();
    throw cause;
  }
}

/** A loaded model and the slots that decode with it. */
interface Runtime {
  model: LlamaModel;
  contextSize: number;
  slots: Slots;
  close(): Promise<void>;
}

async function loadRuntime(modelPath: string, slotCount: number): Promise<Runtime> {
  const { getLlama, LlamaLogLevel } = await import("node-llama-cpp");
  // More than one thread spins: on a shared machine it is slower by two orders of magnitude.
  const llama = await getLlama({ gpu: false, build: "never", logLevel: LlamaLogLevel.error, maxThreads: 1 });
  try {
    const model = await llama.loadModel({ modelPath });
    const contextSize = model.trainContextSize;
    const context = await model.createContext({ contextSize, sequences: slotCount, threads: 1 });
    const slots = new Slots(Array.from({ length: slotCount }, () => context.getSequence()));
    const close = async () => {
      await slots.drain();
      await llama.dispose();
    };
    return { model, contextSize, slots, close };
  } catch (cause) {
    await llama.dispose();
    throw new Problem(`The model ${modelPath} can't be loaded (${reasonOf(cause)}): name a GGUF file.`, { cause });
  }
}

/** The sequences of a llama.cpp context, lent to one request at a time. */
class Slots {
  private waiting: ((slot: LlamaContextSequence) => void)[] = [];
  private readonly count: number;

  constructor(private readonly free: LlamaContextSequence[]) {
    this.count = free.length;
  }

  /** The free slot that has most of the prompt cached, or the next that becomes free. */
  async take(prompt: Token[], signal?: AbortSignal): Promise<LlamaContextSequence> {
    signal?.throwIfAborted();
    if (this.free.length === 0) return this.nextFree(signal);
    const cached = this.free.map((slot) => slot.compareContextTokens(prompt).firstDifferentIndex);
    const [slot] = this.free.splice(cached.indexOf(Math.max(...cached)), 1);
    return slot;
  }

  give(slot: LlamaContextSequence): void {
    const next = this.waiting.shift();
    if (next) next(slot);
    else this.free.push(slot);
  }

  /** Waits until no request is decoded any more, and lends no slot again. */
  async drain(): Promise<void> {
    for (let taken = 0; taken < this.count; taken++) await this.take([]);
  }

  private nextFree(signal?: AbortSignal): Promise<LlamaContextSequence> {
    return new Promise((resolve, reject) => {
      this.waiting.push(resolve);
      const giveUp = () => {
        this.waiting = this.waiting.filter((waiter) => waiter !== resolve);
        reject(signal?.reason);
      };
      signal?.addEventListener("abort", giveUp, { once: true });
    });
  }
}

/** What each completion passes before it is decoded: it waits, or throws, as the faults say. */
type FaultGate = (signal: AbortSignal) => Promise<void>;

function createFaultGate(faults: EngineFaults): FaultGate {
  let requests = 0;
  return async (signal) => {
    requests++;
    if (faults.failEvery > 0 && requests % faults.failEvery === 0) {
      throw new RequestError(500, `This engine was told to fail every ${faults.failEvery} requests`, "injected_fault");
    }
    if (faults.delayMs > 0) await wait(faults.delayMs, undefined, { signal });
  };
}

function createServer(runtime: Runtime, modelId: string, faultGate: FaultGate): FastifyInstance {
  const server = fastify({ forceCloseConnections: true, ajv: { customOptions: { coerceTypes: false } } });
  server.setErrorHandler((error: FastifyError, _request, reply) => sendError(reply, error));
  server.setNotFoundHandler((request, reply) =>
    sendError(reply, new RequestError(404, `There is no ${request.method} ${request.url}`)),
  );

  server.get("/v1/models", async () => ({
    object: "list",
    data: [{ id: modelId, object: "model", created: 0, owned_by: "licet" }],
  }));

  server.post<{ Body: TokenizeBody }>("/tokenize", { schema: { body: TOKENIZE_SCHEMA } }, async ({ body }) => ({
    tokens: runtime.model.tokenize("content" in body ? body.content : chatPrompt(body.messages), true),
  }));

  const serve = async (prompt: string, body: SamplingBody, answer: Answer, reply: FastifyReply) => {
    if (body.model !== modelId) {
      throw new RequestError(404, `The model "${body.model}" isn't served here, "${modelId}" is`, "model_not_found");
    }
    const generation = parseGeneration(runtime, prompt, body);
    const hangUp = hangUpSignal(reply);
    await faultGate(hangUp);
    if (body.stream)
      return streamAnswer(runtime, generation, answer, reply, hangUp, body.stream_options?.include_usage);
    return answer.whole(await generate(runtime, generation, hangUp, () => {}));
  };
  server.post<{ Body: ChatBody }>("/v1/chat/completions", { schema: { body: CHAT_SCHEMA } }, ({ body }, reply) =>
    serve(chatPrompt(body.messages), body, new Answer(modelId, "chat"), reply),
  );
  server.post<{ Body: PlainBody }>("/v1/completions", { schema: { body: PLAIN_SCHEMA } }, ({ body }, reply) =>
    serve(body.prompt, body, new Answer(modelId, "plain"), reply),
  );
  return server;
}

function sendError(reply: FastifyReply, error: Error & { statusCode?: number }): FastifyReply {
  const status = error.statusCode ?? 500;
  const type = status < 500 ? "invalid_request_error" : "server_error";
  const code = error instanceof RequestError ? error.code : null;
  return reply.code(status).send({ error: { message: error.message, type, param: null, code } });
}

function hangUpSignal(reply: FastifyReply): AbortSignal {
  const hangUp = new AbortController();
  reply.raw.on("close", () => {
    if (!reply.raw.writableFinished) hangUp.abort(new Error("The client hung up"));
  });
  return hangUp.signal;
}

function parseGeneration(runtime: Runtime, text: string, body: SamplingBody): Generation {
  const prompt = runtime.model.tokenize(text, true);
  const room = runtime.contextSize - prompt.length;
  if (room < 1) {
    throw new RequestError(
      400,
      `The prompt has ${prompt.length} tokens; the model's context of ${runtime.contextSize} must hold it and an answer`,
      "context_length_exceeded",
    );
  }
  return {
    prompt,
    maxTokens: Math.min(body.max_completion_tokens ?? body.max_tokens ?? room, room),
    temperature: body.temperature ?? 0,
    seed: body.seed ?? undefined,
  };
}

/** ChatML, the format that the shipped model was trained on. */
function chatPrompt(messages: ChatMessage[]): string {
  const turns = messages.map(({ role, content }) => `<|im_start|>${role}\n${textOf(content)}<|im_end|>\n`);
  return `${turns.join("")}<|im_start|>assistant\n`;
}

function textOf(content: ChatMessage["content"]): string {
  return typeof content === "string" ? content : content.map((part) => part.text).join("");
}

/**
 * Decodes one request and hands each piece of text to `onText` as it comes.
 * @throws the signal's reason when it aborts
 */
async function generate(
  { model, slots }: Runtime,
  { prompt, maxTokens, temperature, seed }: Generation,
  signal: AbortSignal,
  onText: (text: string) => void,
): Promise<Generated> {
  const slot = await slots.take(prompt, signal);
  try {
    const startedAt = performance.now();
    // llama.cpp gives a token only for tokens that it evaluates, so the prompt's last one is never taken from the cache.
    await slot.adaptStateToTokens(prompt.slice(0, -1), false);
    const cachedTokens = slot.nextTokenIndex;

    const tokens: Token[] = [];
    let text = "";
    let firstTokenAt: number | undefined;
    for await (const token of slot.evaluate(prompt.slice(cachedTokens), { temperature, seed })) {
      signal.throwIfAborted();
      firstTokenAt ??= performance.now();
      tokens.push(token);
      const whole = wholeCharacters(model.detokenize(tokens));
      if (whole.length > text.length) onText(whole.slice(text.length));
      text = whole;
      if (tokens.length === maxTokens) break;
    }

    const endedAt = performance.now();
    return {
      text,
      finishReason: tokens.length === maxTokens ? "length" : "stop",
      promptTokens: prompt.length,
      cachedTokens,
      completionTokens: tokens.length,
      promptMs: (firstTokenAt ?? endedAt) - startedAt,
      predictedMs: endedAt - (firstTokenAt ?? endedAt),
    };
  } finally {
    slots.give(slot);
  }
}

/** Without the replacement marks at the end: bytes of a character whose last token is still to come. */
function wholeCharacters(text: string): string {
  return text.replace(/\uFFFD+$/, "");
}

/** Streams an answer as server-sent events. Nobody hears of an error after the first byte but by the broken connection. */
async function streamAnswer(
  runtime: Runtime,
  generation: Generation,
  answer: Answer,
  reply: FastifyReply,
  hangUp: AbortSignal,
  includeUsage = false,
): Promise<void> {
  reply.hijack();
  reply.raw.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-cache" });
  const send = (chunk: object) => reply.raw.write(`data: ${JSON.stringify(chunk)}\n\n`);
  try {
    send(answer.opening());
    const generated = await generate(runtime, generation, hangUp, (text) => send(answer.piece(text)));
    send(answer.closing(generated));
    if (includeUsage) send(answer.usage(generated));
    reply.raw.end("data: [DONE]\n\n");
  } catch {
    reply.raw.destroy();
  }
}

/** The JSON objects of one answer, whole or in chunks, for chats and for plain completions. */
class Answer {
  private readonly id: string;
  private readonly chat: boolean;
  private readonly created = Math.floor(Date.now() / 1000);

  constructor(
    private readonly model: string,
    kind: "chat" | "plain",
  ) {
    this.chat = kind === "chat";
    this.id = `${this.chat ? "chatcmpl" : "cmpl"}-${randomUUID()}`;
  }

  whole(generated: Generated) {
    const { text, finishReason } = generated;
    const said = this.chat ? { message: { role: "assistant", content: text } } : { text };
    return {
      ...this.envelope(this.chat ? "chat.completion" : "text_completion"),
      choices: [{ index: 0, ...said, logprobs: null, finish_reason: finishReason }],
      ...counts(generated),
    };
  }

  opening() {
    return this.chunk(this.chat ? { delta: { role: "assistant", content: "" } } : { text: "" });
  }

  piece(text: string) {
    return this.chunk(this.chat ? { delta: { content: text } } : { text });
  }

  closing({ finishReason }: Generated) {
    return this.chunk(this.chat ? { delta: {} } : { text: "" }, finishReason);
  }

  usage(generated: Generated) {
    return { ...this.chunkEnvelope(), choices: [], ...counts(generated) };
  }

  private chunk(said: object, finishReason: string | null = null) {
    return { ...this.chunkEnvelope(), choices: [{ index: 0, ...said, logprobs: null, finish_reason: finishReason }] };
  }

  private chunkEnvelope() {
    return this.envelope(this.chat ? "chat.completion.chunk" : "text_completion");
  }

  private envelope(object: string) {
    return { id: this.id, object, created: this.created, model: this.model };
  }
}

/** OpenAI's `usage` and llama.cpp's `timings`. */
function counts(generated: Generated) {
  const { promptTokens, cachedTokens, completionTokens, promptMs, predictedMs } = generated;
  return {
    usage: {
      prompt_tokens: promptTokens,
      completion_tokens: completionTokens,
      total_tokens: promptTokens + completionTokens,
      prompt_tokens_details: { cached_tokens: cachedTokens },
    },
    timings: {
      cache_n: cachedTokens,
      prompt_n: promptTokens - cachedTokens,
      prompt_ms: promptMs,
      predicted_n: completionTokens,
      predicted_ms: predictedMs,
    },
  };
}
