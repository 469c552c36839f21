import { createParser } from "eventsource-parser";
import { Agent, request, type Dispatcher } from "undici";
import { promptText, upstreamBody, type CompletionRequest } from "./openai";

export interface ModelConfig {
  /** What clients call it. */
  id: string;
  /** Root of an OpenAI-compatible server, without `/v1`. */
  upstreamUrl: string;
  /** What the server calls it, if not the same. */
  upstreamModel?: string;
  assetId: number;
  versionId: bigint;
  manifestHash: string;
  /** Of the replica that serves it, by which compute time is multiplied; 1 if left out. */
  gpus?: number;
}

/** The request never reached the model: nothing was computed, and it may be sent again. */
export class UpstreamUnreachable extends Error {
  override readonly name = "UpstreamUnreachable";
}

const CONNECT_TIMEOUT_MS = 5_000;
const ASK_TIMEOUT_MS = 2_000;
const NEVER_CONNECTED = new Set([
  "ECONNREFUSED",
  "ENOTFOUND",
  "EAI_AGAIN",
  "EHOSTUNREACH",
  "ENETUNREACH",
  "ETIMEDOUT",
  "UND_ERR_CONNECT_TIMEOUT",
]);

/** The inference servers behind a gateway. */
export class Upstream {
  /** Deadlines are the caller's, by its abort signal. */
  private readonly agent = new Agent({
    connect: { timeout: CONNECT_TIMEOUT_MS },
    headersTimeout: 0,
    bodyTimeout: 0,
  });

  /**
   * Sends a completion on and gives the answer back when its headers are there, whatever its status.
   * Throws UpstreamUnreachable if no connection came about; any other error may have cost compute.
   */
  async complete(
    model: ModelConfig,
    completion: CompletionRequest,
    requestId: string,
    signal: AbortSignal,
  ): Promise<Dispatcher.ResponseData> {
    const path = completion.kind === "chat" ? "/v1/chat/completions" : "/v1/completions";
    try {
      return await request(urlOf(model, path), {
        method: "POST",
        headers: { "content-type": "application/json", "x-request-id": requestId },
        body: upstreamBody(completion, nameAt(model)),
        dispatcher: this.agent,
        signal,
      });
    } catch (cause) {
      if (!NEVER_CONNECTED.has((cause as NodeJS.ErrnoException).code ?? "")) throw cause;
      throw new UpstreamUnreachable(`no connection to ${model.upstreamUrl}`, { cause });
    }
  }

  /** How many tokens a text has by the model's own tokenizer, or null where the server can't tell. */
  countTokens(model: ModelConfig, text: string): Promise<number | null> {
    const inEveryDialect = { content: text, prompt: text, inputs: text, add_special_tokens: false };
    return this.tokenize(model, inEveryDialect);
  }

  /** How many tokens a request's prompt has, its template included where the server can apply it. */
  async countPrompt(model: ModelConfig, completion: CompletionRequest): Promise<number | null> {
    const templated =
      completion.kind === "chat" && (await this.tokenize(model, { messages: completion.body.messages }));
    return templated || this.countTokens(model, promptText(completion));
  }

  /** What the server calls its models; null if it can't be asked. */
  async modelNames(model: ModelConfig): Promise<string[] | null> {
    try {
      const { statusCode, body } = await request(urlOf(model, "/v1/models"), {
        dispatcher: this.agent,
        signal: AbortSignal.timeout(ASK_TIMEOUT_MS),
      });
      const answer = (await body.json()) as { data?: { id?: unknown }[] } | null;
      return statusCode === 200 && Array.isArray(answer?.data) ? answer.data.map(({ id }) => String(id)) : null;
    } catch {
      return null;
    }
  }

  close(): Promise<void> {
    return this.agent.destroy();
  }

  /** vLLM and llama.cpp answer with a list of tokens, TGI is one. */
  private async tokenize(model: ModelConfig, what: object): Promise<number | null> {
    try {
      const { statusCode, body } = await request(urlOf(model, "/tokenize"), {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ model: nameAt(model), ...what }),
        dispatcher: this.agent,
        signal: AbortSignal.timeout(ASK_TIMEOUT_MS),
      });
      const answer = (await body.json()) as { tokens?: unknown };
      const tokens = Array.isArray(answer) ? answer : answer.tokens;
      return statusCode === 200 && Array.isArray(tokens) ? tokens.length : null;
    } catch {
      return null;
    }
  }
}

/** More than any text that a model writes has. */
const MOST_ANSWER_BYTES = 64 * 2 ** 20;

/** The whole body of an answer. Throws if it breaks off, or is absurdly long. */
export async function bytesOf({ body }: Dispatcher.ResponseData): Promise<Buffer> {
  const pieces: Buffer[] = [];
  let length = 0;
  for await (const piece of body as AsyncIterable<Buffer>) {
    length += piece.length;
    if (length > MOST_ANSWER_BYTES) throw new Error(`the upstream's answer has over ${MOST_ANSWER_BYTES} bytes`);
    pieces.push(piece);
  }
  return Buffer.concat(pieces);
}

function urlOf(model: ModelConfig, path: string): string {
  return model.upstreamUrl.replace(/\/+$/, "") + path;
}

/** What the server behind a model calls it. */
export function nameAt(model: ModelConfig): string {
  return model.upstreamModel ?? model.id;
}

/** One event of a stream with the bytes that it came as. */
export interface StreamEvent {
  bytes: Buffer;
  /** null for comments and the like. */
  data: string | null;
}

const MOST_EVENT_BYTES = 4 * 2 ** 20;
const LINE_FEED = 0x0a;
const CARRIAGE_RETURN = 0x0d;

/** Cuts a server-sent event stream at its events and leaves every byte as it was, so that it can be passed on faithfully. */
export class EventSplitter {
  private rest = Buffer.alloc(0);
  private data: string | null = null;
  private readonly parser = createParser({ onEvent: (event) => (this.data = event.data) });

  /** The events that are complete with this piece. Throws if one is absurdly long. */
  push(piece: Uint8Array): StreamEvent[] {
    if (this.rest.length > MOST_EVENT_BYTES) throw new Error(`an event has over ${MOST_EVENT_BYTES} bytes`);
    this.rest = Buffer.concat([this.rest, piece]);
    const events: StreamEvent[] = [];
    for (let end = endOfEvent(this.rest); end > 0; end = endOfEvent(this.rest)) {
      events.push(this.parse(this.rest.subarray(0, end)));
      this.rest = this.rest.subarray(end);
    }
    return events;
  }

  private parse(bytes: Buffer): StreamEvent {
    this.data = null;
    this.parser.feed(bytes.toString("utf8"));
    return { bytes, data: this.data };
  }
}

/** Where the first blank line ends, or 0 where there is none yet. */
function endOfEvent(bytes: Buffer): number {
  for (let at = bytes.indexOf(LINE_FEED); at >= 0; at = bytes.indexOf(LINE_FEED, at + 1)) {
    const next = bytes[at + 1] === CARRIAGE_RETURN ? at + 2 : at + 1;
    if (bytes[next] === LINE_FEED) return next + 1;
  }
  return 0;
}
