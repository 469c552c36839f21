import type { ServerResponse } from "node:http";
import { finished } from "node:stream/promises";
import type { Dispatcher } from "undici";
import { shown } from "../problem";
import { SaltedHasher } from "../protocol/messages";
import { failureIn, generatedText, isCompletion, isUsageChunk, reportedUsage, type TokenCounts } from "./openai";
import { EventSplitter } from "./upstream";

const DONE = "[DONE]";
/** How long a client may take for the end of its answer, which is written and paid already. */
const FLUSH_TIMEOUT_MS = 30_000;

/** Passes a streamed answer on, event by event and byte for byte, and notes what the client was given. */
export class StreamRelay {
  /** As the upstream reports them; null until it does. */
  tokens: TokenCounts | null = null;
  computeMs: number | null = null;
  /** All generated text that was passed on, and in how many chunks. */
  text = "";
  chunks = 0;
  /** When the first of it came, by `performance.now()`; null before. */
  firstAt: number | null = null;

  /** Whether any of it was an answer. */
  private isAnswer = false;
  private readonly events = new EventSplitter();
  private end: Buffer = Buffer.alloc(0);

  private constructor(
    private readonly client: ServerResponse,
    private readonly hasher: SaltedHasher,
    private readonly wantsUsage: boolean,
  ) {}

  /** @param wantsUsage whether the client asked for the usage chunk, which is kept from it otherwise. */
  static async start(client: ServerResponse, salt: string, wantsUsage: boolean): Promise<StreamRelay> {
    return new StreamRelay(client, await SaltedHasher.start(salt), wantsUsage);
  }

  /** Keyed with the grant's salt, over what was passed on and what is kept back for the end. */
  get responseHash(): string {
    return this.hasher.digest();
  }

  /**
   * Passes events on up to `[DONE]`, which it keeps back for `finish`. Throws if the stream breaks, is aborted, or says that
   * it failed, before; and if there was no answer in it.
   */
  async run(body: Dispatcher.ResponseData["body"], signal: AbortSignal): Promise<void> {
    try {
      const end = await this.passUpToEnd(body, signal);
      if (!this.isAnswer) throw new Error("the upstream's stream had no answer in it");
      void body.dump().catch(() => undefined);
      this.keepForEnd(end);
    } catch (cause) {
      body.on("error", () => undefined).destroy();
      throw cause;
    }
  }

  private async passUpToEnd(body: Dispatcher.ResponseData["body"], signal: AbortSignal): Promise<Buffer> {
    for await (const piece of body.iterator({ destroyOnReturn: false })) {
      for (const { bytes, data } of this.events.push(piece)) {
        if (data === DONE) return bytes;
        if (this.note(data)) await this.send(bytes, signal);
      }
    }
    throw new Error("the upstream's stream ended before it was complete");
  }

  /** What the answer will end with. It counts as sent, so that a receipt can cover it before the client has it. */
  keepForEnd(bytes: Buffer): void {
    this.hasher.update(bytes);
    this.end = bytes;
  }

  /** Sends what was kept back, and returns when the client has everything, is gone, or has been waited for long enough. */
  async finish(): Promise<void> {
    this.client.end(this.end);
    const signal = AbortSignal.timeout(FLUSH_TIMEOUT_MS);
    await finished(this.client, { signal }).catch(() => this.client.destroy());
  }

  /** Meters an event, and says whether the client gets it. Throws if it says that the upstream failed. */
  private note(data: string | null): boolean {
    const chunk = data === null ? null : parsed(data);
    const failure = failureIn(chunk);
    if (failure !== undefined) throw new Error(`the upstream's stream says ${shown(failure)}`);
    this.isAnswer ||= isCompletion(chunk);
    const { tokens, computeMs } = reportedUsage(chunk);
    this.tokens = tokens ?? this.tokens;
    this.computeMs = computeMs ?? this.computeMs;
    const text = generatedText(chunk);
    if (text !== "") {
      this.firstAt ??= performance.now();
      this.text += text;
      this.chunks += 1;
    }
    return this.wantsUsage || !isUsageChunk(chunk);
  }

  private async send(bytes: Buffer, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    this.hasher.update(bytes);
    if (!this.client.write(bytes)) await drained(this.client, signal);
  }
}

function parsed(data: string): unknown {
  try {
    return JSON.parse(data);
  } catch {
    return null;
  }
}

/** Until the client takes more, is gone, or the signal says that there was time enough. */
function drained(client: ServerResponse, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      client.off("drain", done);
      client.off("close", done);
      signal.removeEventListener("abort", done);
      resolve();
    };
    client.once("drain", done);
    client.once("close", done);
    signal.addEventListener("abort", done);
  });
}
