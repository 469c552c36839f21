import { hexlify, randomBytes, ZeroHash } from "ethers";
import type { FastifyReply } from "fastify";
import type { Dispatcher } from "undici";
import type { Admission, Admitted } from "./admission";
import type { Log } from "../log";
import { shown } from "../problem";
import { saltedHash } from "../protocol/messages";
import { clampUsage, costOf, zeroUsage } from "../protocol/meters";
import {
  ApiError,
  generatedText,
  isCompletion,
  isErrorForClient,
  reportedUsage,
  type CompletionRequest,
  type ReportedUsage,
  type TokenCounts,
} from "./openai";
import { ReceiptFlag, type Receipt, type Usage } from "../protocol/types";
import { StreamRelay } from "./relay";
import type { SignedDigest, Store } from "../store/store";
import { bytesOf, UpstreamUnreachable, type Upstream } from "./upstream";

/** What an exchange works with. */
export interface ExchangeDeps {
  admission: Admission;
  store: Store;
  upstream: Upstream;
  now: () => Promise<number>;
  sign: (receipt: Receipt) => SignedDigest;
  log: Log;
  /** Longest time from a request to the end of its answer. */
  requestTimeoutMs: number;
}

/** Names the receipt of an answer: `GET /v1/receipts/<this>` gives it. */
const RECEIPT_HEADER = "x-licet-receipt-id";

const HUNG_UP = new Error("the client hung up");
const TIMED_OUT = new Error("the answer took too long");

/** Of a prompt that no tokenizer could count: about what English text has. */
const BYTES_PER_TOKEN = 4;

/** What the client was given of an answer, and what the upstream says that it used. */
interface Delivered extends ReportedUsage {
  text: string;
  /** In how many pieces the text came. */
  chunks: number;
  ttftMs: number;
}

/** How an exchange ended, before it is priced and signed. */
interface Ending {
  usage: Usage;
  flags: number;
  responseHash: string;
  ttftMs: number;
}

/**
 * One admitted request on its way to the model and back. However it ends, its reservation ends with it, and a request
 * that reached the model has a signed receipt on disk before the client has its answer's end.
 */
export class Exchange {
  readonly requestId = hexlify(randomBytes(32));
  private readonly startedAt = performance.now();
  private readonly interruption = new AbortController();
  private readonly salt: string;
  private relay: StreamRelay | null = null;
  /** Whether the request may have reached the model, which then must have a receipt. */
  private isSent = false;
  private isClosed = false;

  constructor(
    private readonly deps: ExchangeDeps,
    private readonly request: CompletionRequest,
    private readonly admitted: Admitted,
    private readonly reply: FastifyReply,
  ) {
    this.salt = admitted.caller.signed.grant.salt;
  }

  /** Answers the client. Throws ApiError where the upstream gave no answer to pass on. */
  async run(): Promise<void> {
    const client = this.reply.raw;
    const hangUp = () => {
      if (!client.writableFinished) this.interruption.abort(HUNG_UP);
    };
    const timer = setTimeout(() => this.interruption.abort(TIMED_OUT), this.deps.requestTimeoutMs);
    client.once("close", hangUp);
    if (client.destroyed) hangUp();
    try {
      await this.open();
      await this.pass();
    } catch (cause) {
      throw await this.fail(cause);
    } finally {
      clearTimeout(timer);
      client.off("close", hangUp);
    }
  }

  private async open(): Promise<void> {
    const { caller, plan, model } = this.admitted;
    const { store, now } = this.deps;
    store.saveGrant(caller.grantHash, caller.signed);
    await store.openRequest({
      facts: {
        requestId: this.requestId,
        licenseId: caller.license.licenseId,
        operatorId: caller.license.operatorId,
        planId: plan.planId,
        manifestHash: model.manifestHash,
        generation: caller.signed.grant.generation,
        grantHash: caller.grantHash,
        requestHash: saltedHash(this.salt, this.request.bytes),
        requestSignatureHash: ZeroHash,
      },
      versionId: model.versionId,
      openedAt: await now(),
    });
  }

  private async pass(): Promise<void> {
    const { model } = this.admitted;
    const { signal } = this.interruption;
    signal.throwIfAborted();
    this.isSent = true;
    const answer = await this.deps.upstream.complete(model, this.request, this.requestId, signal);
    if (answer.statusCode !== 200) return this.passError(answer);
    if (contentType(answer).startsWith("text/event-stream")) return this.passStream(answer);
    return this.passWhole(answer);
  }

  /** What the upstream says of a request goes to the client as it is, and costs nothing. */
  private async passError(answer: Dispatcher.ResponseData): Promise<void> {
    const bytes = await bytesOf(answer);
    if (!isErrorForClient(answer.statusCode, bytes)) {
      throw new Error(`the upstream answered ${answer.statusCode}: ${shown(bytes.toString("utf8"))}`);
    }
    await this.close(failedEnding(saltedHash(this.salt, bytes)));
    this.reply.code(answer.statusCode).header("content-type", contentType(answer)).send(bytes);
  }

  private async passWhole(answer: Dispatcher.ResponseData): Promise<void> {
    const bytes = await bytesOf(answer);
    const json: unknown = JSON.parse(bytes.toString("utf8"));
    if (!isCompletion(json)) throw new Error(`the upstream's answer is no completion: ${shown(json)}`);
    const text = generatedText(json);
    const ttftMs = text === "" ? 0 : this.msSinceStart();
    const delivered = { ...reportedUsage(json), text, chunks: 1, ttftMs };
    await this.close(await this.meteredEnding(delivered, saltedHash(this.salt, bytes)));
    this.reply.header("content-type", contentType(answer)).send(bytes);
  }

  private async passStream(answer: Dispatcher.ResponseData): Promise<void> {
    this.reply.hijack();
    this.reply.raw.writeHead(200, {
      "content-type": contentType(answer),
      "cache-control": "no-cache",
      "x-accel-buffering": "no",
      [RECEIPT_HEADER]: this.requestId,
    });
    const relay = await StreamRelay.start(this.reply.raw, this.salt, this.request.includeUsage);
    this.relay = relay;
    try {
      await relay.run(answer.body, this.interruption.signal);
      await this.close(await this.meteredEnding(this.deliveredBy(relay), relay.responseHash));
    } catch (cause) {
      await this.fail(cause);
    } finally {
      await relay.finish();
    }
  }

  /** Ends the exchange without an answer, or with a part of one, and says what the client is to be told. */
  private async fail(problem: unknown): Promise<ApiError> {
    const error = this.explain(problem);
    this.relay?.keepForEnd(Buffer.from(`data: ${error.toBytes()}\n\n`));
    if (error.status >= 500) {
      const { code, message, cause } = error;
      this.deps.log.warn("request failed", { requestId: this.requestId, code, message, cause });
    }
    if (this.isClosed) return error;
    if (!this.isSent || problem instanceof UpstreamUnreachable) await this.drop();
    else await this.close(await this.endingBy(error));
    return error;
  }

  private explain(cause: unknown): ApiError {
    const { id } = this.admitted.model;
    const { reason } = this.interruption.signal;
    if (cause instanceof ApiError) return cause;
    if (reason === HUNG_UP) return new ApiError(499, "cancelled", "the client hung up", { cause });
    if (!this.isSent) {
      return new ApiError(500, "request_not_stored", "the request can't be stored and wasn't sent on", { cause });
    }
    if (cause instanceof UpstreamUnreachable) {
      return new ApiError(503, "upstream_unreachable", `model ${id} can't be reached: try again later`, { cause });
    }
    if (reason === TIMED_OUT) {
      const remedy = this.relay === null ? "stream the answer, or ask for fewer tokens" : "ask for fewer tokens";
      return new ApiError(504, "upstream_timeout", `model ${id} took too long: ${remedy}`, { cause });
    }
    return new ApiError(502, "upstream_failed", `model ${id} failed; this request costs nothing`, { cause });
  }

  /**
   * What was delivered is charged if the client ended the answer, or if it was longer than the time for it: neither
   * hanging up nor asking for too much gives tokens for nothing. Any other failure costs nothing.
   */
  private async endingBy(error: ApiError): Promise<Ending> {
    const { reason } = this.interruption.signal;
    const { relay } = this;
    if (reason === HUNG_UP) {
      const responseHash = relay?.responseHash ?? saltedHash(this.salt, Buffer.alloc(0));
      return this.meteredEnding(this.deliveredBy(relay), responseHash, ReceiptFlag.cancelled);
    }
    if (reason === TIMED_OUT && relay !== null && relay.text !== "") {
      return this.meteredEnding(this.deliveredBy(relay), relay.responseHash);
    }
    return failedEnding(relay?.responseHash ?? saltedHash(this.salt, error.toBytes()));
  }

  /** Forgets a request that never reached the model. */
  private async drop(): Promise<void> {
    this.isClosed = true;
    this.deps.admission.ledger.free(this.admitted.reservation);
    await this.deps.store.dropRequest(this.requestId);
  }

  /** Writes the receipt and ends the reservation. Throws ApiError 500 if the receipt can't be stored; then nothing is owed. */
  private async close({ usage, flags, responseHash, ttftMs }: Ending): Promise<void> {
    this.isClosed = true;
    const { admission, store, now, sign } = this.deps;
    const { reservation, plan } = this.admitted;
    const durationMs = this.msSinceStart();
    const cost = costOf(usage, plan.rates);
    try {
      const outcome = { ...usage, flags, responseHash, ttftMs, durationMs, finishedAt: await now() };
      await store.finishRequest(this.requestId, outcome, cost, sign);
    } catch (cause) {
      admission.ledger.free(reservation);
      throw new ApiError(500, "receipt_not_stored", "the receipt can't be stored; this request costs nothing", {
        cause,
      });
    }
    admission.ledger.settle(reservation, cost);
    if (this.relay === null) this.reply.header(RECEIPT_HEADER, this.requestId);
  }

  private async meteredEnding(delivered: Delivered, responseHash: string, flags = 0): Promise<Ending> {
    const computeMs = delivered.computeMs ?? this.msSinceStart();
    const tokens = delivered.tokens ?? (await this.estimate(delivered));
    return {
      usage: this.usage(tokens, computeMs),
      flags: delivered.tokens === null ? flags | ReceiptFlag.estimated : flags,
      responseHash,
      ttftMs: delivered.ttftMs,
    };
  }

  private deliveredBy(relay: StreamRelay | null): Delivered {
    if (relay === null) return { tokens: null, computeMs: null, text: "", chunks: 0, ttftMs: 0 };
    const { tokens, computeMs, text, chunks, firstAt } = relay;
    return { tokens, computeMs, text, chunks, ttftMs: firstAt === null ? 0 : this.msSinceStart(firstAt) };
  }

  /** By the model's own tokenizer or, where there is none, by pieces of text and bytes of prompt. */
  private async estimate({ text, chunks }: Delivered): Promise<TokenCounts> {
    const { upstream } = this.deps;
    const { model } = this.admitted;
    const [prompt, completion] = await Promise.all([
      upstream.countPrompt(model, this.request),
      text === "" ? 0 : upstream.countTokens(model, text),
    ]);
    return {
      prompt: prompt ?? Math.ceil(this.request.bytes.length / BYTES_PER_TOKEN),
      cached: 0,
      completion: completion ?? chunks,
    };
  }

  /** Held to the worst that was reserved, so that an upstream's wrong count can't charge more. */
  private usage({ prompt, cached, completion }: TokenCounts, computeMs: number): Usage {
    const { worst, model } = this.admitted;
    const promptTokens = Math.min(prompt, Number(worst.inputTokens));
    const cachedTokens = Math.min(cached, promptTokens);
    const usage = {
      requests: 1n,
      inputTokens: BigInt(promptTokens - cachedTokens),
      cachedInputTokens: BigInt(cachedTokens),
      outputTokens: BigInt(completion),
      computeMs: BigInt(computeMs) * BigInt(model.gpus ?? 1),
    };
    return clampUsage(usage, { ...worst, cachedInputTokens: worst.inputTokens });
  }

  private msSinceStart(until = performance.now()): number {
    return Math.max(1, Math.round(until - this.startedAt));
  }
}

/** Of a failure that isn't the client's: it costs nothing. */
function failedEnding(responseHash: string): Ending {
  return { usage: zeroUsage(), flags: ReceiptFlag.upstreamError, responseHash, ttftMs: 0 };
}

function contentType({ headers }: Dispatcher.ResponseData): string {
  return String(headers["content-type"] ?? "application/json");
}
