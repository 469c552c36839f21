import type { ServerResponse } from "node:http";
import { finished } from "node:stream/promises";
import type { Dispatcher } from "undici";
import { shown } from "../problem";
import { SaltedHasher } from "../protocol/messages";
import { Generated } from "./generated";
import {
  failureIn,
  generatedTexts,
  isAnswerTo,
  isUsageChunk,
  reportedUsage,
  type ModelRequest,
  type TokenCounts,
} from "./openai";
import { EventSplitter } from "./upstream";

const DONE = "[DONE]";

/** Passes a streamed answer on, event by event and byte for byte, and notes what the client was given. */
export class StreamRelay {
  /** As the upstream reports them; null until it does. */
  tokens: TokenCounts | null = null;
  computeMs: number | null = null;
  /** All text that was passed on. */
  readonly generated = new Generated();
  /** When the first of it came, by `performance.now()`; null before. */
  firstAt: number | null = null;

  /** Whether the client was sent anything. */
  hasBegun = false;

  /** Whether any of it was an answer. */
  private isAnswer = false;
  private readonly events = new EventSplitter();
  private end: Buffer = Buffer.alloc(0);
  /** What was passed on, while it isn't too much to keep. */
  private kept: Buffer[] | null = [];
  private keptBytes = 0;

  private constructor(
    private readonly client: ServerResponse,
    private readonly hasher: SaltedHasher,
    private readonly request: Pick<ModelRequest, "kind" | "includeUsage">,
    private readonly begin: () => void,
    private readonly mostKept: number,
  ) {}

  /**
   * @param request what is answered: unless its client asked for the usage chunk, that is kept from it
   * @param mostKept how many bytes of it are kept, for `passed`
   * @param begin called before the first byte goes to the client: until then, another answer may take this one's place
   */
  static async start(
    client: ServerResponse,
    salt: string,
    request: Pick<ModelRequest, "kind" | "includeUsage">,
    begin: () => void,
    mostKept = 0,
  ): Promise<StreamRelay> {
    return new StreamRelay(client, await SaltedHasher.start(salt), request, begin, mostKept);
  }

  /** All that was passed on and what is kept back for the end; null if that is more than `mostKept` bytes. */
  get passed(): Buffer | null {
    return this.kept === null ? null : Buffer.concat(this.kept);
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
    this.cover(bytes);
    this.end = bytes;
  }

  /**
   * Sends what was kept back, if the answer had begun, and returns when the client has everything, is gone, or has been
   * waited for `mostMs`.
   */
  async finish(mostMs: number): Promise<void> {
    if (!this.hasBegun) return;
    this.client.end(this.end);
    await taken(this.client, mostMs);
  }

  /** Meters an event, and says whether the client gets it. Throws if it says that the upstream failed. */
  private note(data: string | null): boolean {
    const chunk = data === null ? null : parsed(data);
    const failure = failureIn(chunk);
    if (failure !== undefined) throw new Error(`the upstream's stream says ${shown(failure)}`);
    this.isAnswer ||= isAnswerTo(this.request.kind, chunk);
    const { tokens, computeMs } = reportedUsage(chunk);
    this.tokens = tokens ?? this.tokens;
    this.computeMs = computeMs ?? this.computeMs;
    for (const text of generatedTexts(chunk)) {
      this.firstAt ??= performance.now();
      this.generated.add(text);
    }
    return this.request.includeUsage || !isUsageChunk(chunk);
  }

  private cover(bytes: Buffer): void {
    this.hasher.update(bytes);
    this.keptBytes += bytes.length;
    if (this.keptBytes > this.mostKept) this.kept = null;
    else this.kept?.push(Buffer.from(bytes));
  }

  private async send(bytes: Buffer, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    if (!this.hasBegun) this.begin();
    this.hasBegun = true;
    this.cover(bytes);
    if (!this.client.write(bytes)) await drained(this.client, signal);
  }
}

/** Until the client has taken the end of its answer, or is cut off since it takes longer than `mostMs`. */
export async function taken(client: ServerResponse, mostMs: number): Promise<void> {
  const signal = AbortSignal.timeout(mostMs);
  await finished(client, { signal }).catch(() => client.destroy());
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
