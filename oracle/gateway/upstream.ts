import { createParser } from "eventsource-parser";
import { Agent, request, type Dispatcher } from "undici";
import { messagesOf, promptsOf, upstreamBody, type ModelRequest, type Prompt, type RequestKind } from "./openai";
import { CLASSIFICATIONS_PATH } from "../protocol/classification";
import type { Replica } from "./replicas";

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

const PATHS: Record<RequestKind, string> = {
  chat: "/v1/chat/completions",
  text: "/v1/completions",
  embeddings: "/v1/embeddings",
  classification: CLASSIFICATIONS_PATH,
};

/** Servers that don't know of `/health` answer so. */
const NO_SUCH_PATH = [404, 405];
/** Of more prompts than these, the tokenizer is asked once, for all of them. */
const MOST_ASKED_ALONE = 16;

/** Speaks with the inference servers behind a gateway. */
export class Upstream {
  /** Deadlines are the caller's, by its abort signal. */
  private readonly agent = new Agent({
    connect: { timeout: CONNECT_TIMEOUT_MS },
    headersTimeout: 0,
    bodyTimeout: 0,
  });

  /**
   * Sends a request on and gives the answer back when its headers are there, whatever its status.
   * Throws UpstreamUnreachable if no connection came about; any other error may have cost compute.
   */
  async send(
    replica: Replica,
    sent: ModelRequest,
    requestId: string,
    signal: AbortSignal,
  ): Promise<Dispatcher.ResponseData> {
    try {
      return await request(replica.url + PATHS[sent.kind], {
        method: "POST",
        headers: { ...headersFor(replica), "content-type": "application/json", "x-request-id": requestId },
        body: upstreamBody(sent, replica.name),
        dispatcher: this.agent,
        signal,
      });
    } catch (cause) {
      if (!NEVER_CONNECTED.has((cause as NodeJS.ErrnoException).code ?? "")) throw cause;
      throw new UpstreamUnreachable(`no connection to ${replica.url}`, { cause });
    }
  }

  /** How many tokens texts have by the model's own tokenizer, or null where the server can't tell. */
  async countTokens(replica: Replica, prompts: readonly Prompt[]): Promise<number | null> {
    if (prompts.length > MOST_ASKED_ALONE && prompts.every((prompt) => typeof prompt === "string")) {
      return this.countOne(replica, prompts.join("\n"));
    }
    const counts = await Promise.all(prompts.map((prompt) => this.countOne(replica, prompt)));
    return counts.reduce((sum, one) => (sum === null || one === null ? null : sum + one), 0);
  }

  /** How many tokens a request's prompts have, their template included where the server can apply it. */
  async countPrompt(replica: Replica, asked: ModelRequest): Promise<number | null> {
    const templated = asked.kind === "chat" && (await this.tokenize(replica, { messages: messagesOf(asked) }));
    return templated || this.countTokens(replica, promptsOf(asked));
  }

  /** What the server calls its models; null if it can't be asked. */
  async modelNames(replica: Replica): Promise<string[] | null> {
    try {
      const { statusCode, body } = await this.ask(replica, "/v1/models");
      const answer = (await body.json()) as { data?: { id?: unknown }[] } | null;
      return statusCode === 200 && Array.isArray(answer?.data) ? answer.data.map(({ id }) => String(id)) : null;
    } catch {
      return null;
    }
  }

  /** Whether the server says that it is well: by `/health`, or where it has no such thing by answering at all. */
  async isWell(replica: Replica): Promise<boolean> {
    try {
      const status = await this.statusOf(replica, "/health");
      return (NO_SUCH_PATH.includes(status) ? await this.statusOf(replica, "/v1/models") : status) < 500;
    } catch {
      return false;
    }
  }

  close(): Promise<void> {
    return this.agent.destroy();
  }

  private async statusOf(replica: Replica, path: string): Promise<number> {
    const { statusCode, body } = await this.ask(replica, path);
    await body.dump();
    return statusCode;
  }

  private ask(replica: Replica, path: string): Promise<Dispatcher.ResponseData> {
    const signal = AbortSignal.timeout(ASK_TIMEOUT_MS);
    return request(replica.url + path, { headers: headersFor(replica), dispatcher: this.agent, signal });
  }

  private async countOne(replica: Replica, prompt: Prompt): Promise<number | null> {
    if (typeof prompt !== "string") return prompt.length;
    if (prompt === "") return 0;
    return this.tokenize(replica, { content: prompt, prompt, inputs: prompt, add_special_tokens: false });
  }

  /** vLLM and llama.cpp answer with a list of tokens, TGI is one. */
  private async tokenize(replica: Replica, what: object): Promise<number | null> {
    try {
      const { statusCode, body } = await request(`${replica.url}/tokenize`, {
        method: "POST",
        headers: { ...headersFor(replica), "content-type": "application/json" },
        body: JSON.stringify({ model: replica.name, ...what }),
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

function headersFor({ apiKey }: Replica): Record<string, string> {
  return apiKey === undefined ? {} : { authorization: `Bearer ${apiKey}` };
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
  // A blank line by itself belongs to no event, so that it is passed on where the next one isn't.
  const lineEnd = bytes[0] === CARRIAGE_RETURN ? 1 : 0;
  if (bytes[lineEnd] === LINE_FEED) return lineEnd + 1;
  for (let at = bytes.indexOf(LINE_FEED); at >= 0; at = bytes.indexOf(LINE_FEED, at + 1)) {
    const next = bytes[at + 1] === CARRIAGE_RETURN ? at + 2 : at + 1;
    if (bytes[next] === LINE_FEED) return next + 1;
  }
  return 0;
}
