import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { setTimeout as wait } from "node:timers/promises";

type Json = Record<string, unknown>;

/** How the server answers a completion. `gone` fires when the client of the server hangs up. */
export type Script = (response: ServerResponse, body: Json, gone: AbortSignal) => Promise<void> | void;

export interface Received {
  path: string;
  body: Json;
  headers: IncomingMessage["headers"];
}

export const USAGE = { prompt_tokens: 30, completion_tokens: 4, total_tokens: 34 };

/** An inference server that does what a script says. */
export class FakeUpstream {
  script: Script = whole();
  readonly received: Received[] = [];
  /** What it calls its models. */
  names = ["writer", "other-v2"];
  /** How many tokens `/tokenize` finds in a text; without it, the server has no such thing. */
  tokenizer: ((text: string) => number) | null = null;
  /** What `/health` answers: a status, or nothing at all. */
  health: number | "silence" = 200;
  /** How often that was asked. */
  probes = 0;
  /** Completions whose caller hung up before the answer was complete. */
  hungUp = 0;

  private constructor(
    private readonly server: Server,
    readonly url: string,
  ) {}

  static async start(): Promise<FakeUpstream> {
    const server = createServer();
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    const upstream = new FakeUpstream(server, `http://127.0.0.1:${(server.address() as AddressInfo).port}`);
    server.on(
      "request",
      (request: IncomingMessage, response: ServerResponse) => void upstream.serve(request, response),
    );
    return upstream;
  }

  async stop(): Promise<void> {
    const closed = once(this.server, "close");
    this.server.close();
    this.server.closeAllConnections();
    await closed;
  }

  private async serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    if (request.url === "/health") return this.answerProbe(response);
    if (request.method === "GET") return sendJson(response, 200, { data: this.names.map((id) => ({ id })) });
    const pieces = [];
    for await (const piece of request) pieces.push(piece);
    const body = JSON.parse(Buffer.concat(pieces).toString()) as Json;
    if (request.url === "/tokenize") return this.tokenize(response, body);
    this.received.push({ path: request.url!, body, headers: request.headers });
    const gone = new AbortController();
    response.once("close", () => {
      if (response.writableFinished) return;
      this.hungUp += 1;
      gone.abort();
    });
    await this.script(response, body, gone.signal);
  }

  private answerProbe(response: ServerResponse): void {
    this.probes += 1;
    if (this.health !== "silence") sendJson(response, this.health, {});
  }

  private tokenize(response: ServerResponse, body: Json): void {
    if (this.tokenizer === null || typeof body.content !== "string") {
      return sendJson(response, 404, { error: "no such endpoint" });
    }
    sendJson(response, 200, { tokens: Array.from({ length: this.tokenizer(body.content) }, (_, i) => i) });
  }
}

function sendJson(response: ServerResponse, status: number, json: object): void {
  response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(json));
}

/** Answers with one JSON object. */
export function whole({ text = "You may copy this.", extra = { usage: USAGE } as Json, delayMs = 0 } = {}): Script {
  return async (response, body) => {
    await wait(delayMs);
    const isChat = Array.isArray(body.messages);
    const said = isChat ? { message: { role: "assistant", content: text } } : { text };
    const choices = [{ index: 0, ...said, finish_reason: "stop" }];
    sendJson(response, 200, { id: "answer", object: "completion", model: body.model, choices, ...extra });
  };
}

/** Answers with a vector for each input. */
export function embedding(usage: Json | null = { prompt_tokens: 8, total_tokens: 8 }): Script {
  return (response, { input, encoding_format }) => {
    const inputs = Array.isArray(input) && typeof input[0] !== "number" ? input : [input];
    const vector = [0.5, -0.25];
    const asked =
      encoding_format === "base64" ? Buffer.from(Float32Array.from(vector).buffer).toString("base64") : vector;
    const data = inputs.map((_, index) => ({ object: "embedding", index, embedding: asked }));
    sendJson(response, 200, { object: "list", model: "m", data, ...(usage === null ? {} : { usage }) });
  };
}

/** Answers with an error. */
export function failing(status: number, json: object): Script {
  return (response) => sendJson(response, status, json);
}

/** Closes the connection without an answer. */
export const hangingUp: Script = (response) => void response.destroy();

/** Answers 200 with something else than JSON. */
export const babbling: Script = (response) => void response.writeHead(200).end("<html>");

/** Never answers. */
export const silent: Script = () => {};

export interface StreamScript {
  words?: string[];
  /** Before each word. */
  delayMs?: number;
  /** In the usage chunk; null for an upstream that has none. */
  usage?: Json | null;
  /** More of the usage chunk. */
  extra?: Json;
  /** More of each chunk with a word, by how many words there were. */
  beside?: (words: number) => Json;
  /** Before the head of the answer. */
  headDelayMs?: number;
  /** Breaks the connection after the words. */
  dies?: boolean;
  /** Written before all else. */
  preamble?: string;
}

/** Answers with server-sent events, a chunk a word. */
export function streaming(script: StreamScript = {}): Script {
  const { words = ["You ", "may ", "copy ", "this."], delayMs = 0, usage = USAGE, extra = {}, dies = false } = script;
  return async (response, _body, gone) => {
    await wait(script.headDelayMs ?? 0);
    response.writeHead(200, { "content-type": "text/event-stream; charset=utf-8" });
    response.write(script.preamble ?? "");
    for (const [i, content] of words.entries()) {
      await wait(delayMs);
      if (gone.aborted) return;
      const beside = script.beside?.(i + 1) ?? {};
      response.write(eventOf({ choices: [{ index: 0, delta: { content }, finish_reason: null }], ...beside }));
    }
    if (dies) return void setTimeout(() => response.destroy(), 20);
    response.write(eventOf({ choices: [{ index: 0, delta: {}, finish_reason: "stop" }] }));
    if (usage !== null) response.write(eventOf({ choices: [], usage, ...extra }));
    response.end("data: [DONE]\n\n");
  };
}

export function eventOf(chunk: Json): string {
  return `data: ${JSON.stringify({ id: "answer", object: "chat.completion.chunk", model: "m", ...chunk })}\n\n`;
}
