import { hexlify, randomBytes, ZeroHash } from "ethers";
import type { FastifyReply } from "fastify";
import type { Dispatcher } from "undici";
import type { Admission, Admitted } from "./admission";
import type { Chain } from "../chain/chain";
import { MOST_BODIES_BYTES, type Disclosures } from "./disclosures";
import type { Log } from "../log";
import { shown } from "../problem";
import { inputOf, responseHashOf } from "../protocol/classification";
import { saltedHash } from "../protocol/messages";
import { requestSignatureHash, requestSignedAt } from "../protocol/requestSignature";
import { clampUsage, costOf, zeroUsage } from "../protocol/meters";
import { Generated } from "./generated";
import {
  ApiError,
  generatedTexts,
  isAnswerTo,
  isErrorForClient,
  reportedUsage,
  type ModelRequest,
  type ReportedUsage,
  type TokenCounts,
} from "./openai";
import { ReceiptFlag, type Usage } from "../protocol/types";
import { StreamRelay, taken } from "./relay";
import type { GatewayObserver } from "./observer";
import { type Ended, isForNow, type Presence } from "./presence";
import type { Replica, Replicas } from "./replicas";
import { signatureUsed, type ProvenRequest } from "./signedRequest";
import type { Archive } from "../store/archive";
import type { Store } from "../store/store";
import type { ReceiptSigner } from "../store/requestBooks";
import { bytesOf, UpstreamUnreachable, type Upstream } from "./upstream";

/** What an exchange works with. */
export interface ExchangeDeps {
  /** Of every message. */
  domain: Chain["domain"];
  admission: Admission;
  disclosures: Disclosures;
  store: Store;
  /** Where receipts are that the store has no more. */
  archive?: Archive;
  upstream: Upstream;
  replicas: Replicas;
  now: () => Promise<number>;
  sign: ReceiptSigner;
  presence: Presence;
  log: Log;
  /** Longest time from a request to the end of its answer. */
  requestTimeoutMs: number;
  /** How long a stream's first byte is waited for where another server could take over. */
  firstByteTimeoutMs: number;
  /** How long a client may take for the end of its answer, which is written and paid already. */
  takeTimeoutMs: number;
  observer?: GatewayObserver;
  /** Aborts when what still runs must end, since the gateway stops. */
  cutOff: AbortSignal;
}

/** Names the receipt of an answer: `GET /v1/receipts/<this>` gives it. */
const RECEIPT_HEADER = "x-licet-receipt-id";
/** What a license that settles by vouchers has now spent in its term, in units of the currency. */
const SPENT_HEADER = "x-licet-spent";

const HUNG_UP = new Error("the client hung up");
const STOPPED = new Error("the gateway stops");
const TIMED_OUT = new Error("the answer took too long");
const NO_FIRST_BYTE = new Error("the answer took too long to begin");

/** Of a prompt that no tokenizer could count: about what English text has. */
const BYTES_PER_TOKEN = 4;

/** How many servers a request is tried at that fail it: one that breaks servers mustn't break them all. */
const MOST_FAILING = 2;
/** At how many servers of a model a text's tokens are asked for. */
const MOST_ASKED = 2;
const TOO_MANY_REQUESTS = 429;
/** A server that isn't there may be back so soon. */
const RETRY_SECONDS = 5;

/** What the client was given of an answer, and what the upstream says that it used. */
interface Delivered extends ReportedUsage {
  generated: Generated;
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
 * that reached the model has a signed receipt on disk before the client has its answer's end. Where the store went away while
 * a stream ran, the receipt is written when it is back.
 */
export class Exchange {
  readonly requestId = hexlify(randomBytes(32));
  private readonly startedAt = performance.now();
  private readonly interruption = new AbortController();
  private readonly salt: string;
  private relay: StreamRelay | null = null;
  /** Where the request is, or was last, and since when. */
  private replica: Replica | null = null;
  private attemptedAt = this.startedAt;
  /** How many servers the request may have reached: after the first, it must have a receipt. */
  private sent = 0;
  /** When its answer was over, and only its counts were missing. */
  private endedAt: number | null = null;
  private isClosed = false;

  constructor(
    private readonly deps: ExchangeDeps,
    private readonly request: ModelRequest,
    private readonly admitted: Admitted,
    private readonly proven: ProvenRequest & { isDisclosed: boolean },
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
    const cutOff = () => this.interruption.abort(STOPPED);
    this.deps.cutOff.addEventListener("abort", cutOff);
    client.once("close", hangUp);
    if (client.destroyed) hangUp();
    try {
      await this.open();
      await this.pass();
    } catch (cause) {
      throw await this.fail(cause);
    } finally {
      clearTimeout(timer);
      this.deps.cutOff.removeEventListener("abort", cutOff);
      client.off("close", hangUp);
    }
  }

  private async open(): Promise<void> {
    const { caller, plan, model } = this.admitted;
    const { admission, store, presence, now } = this.deps;
    const { requestHash, requestSignature } = this.proven;
    await store.grants.save(caller.grantHash, caller.signed);
    const refusal = await store.requests.open(
      {
        facts: {
          requestId: this.requestId,
          licenseId: caller.license.licenseId,
          operatorId: caller.license.operatorId,
          planId: plan.planId,
          manifestHash: model.manifestHash,
          generation: caller.signed.grant.generation,
          grantHash: caller.grantHash,
          requestHash,
          requestSignatureHash: requestSignature === null ? ZeroHash : requestSignatureHash(requestSignature),
        },
        versionId: model.versionId,
        openedAt: await now(),
        onVoucherRoad: this.admitted.claim.voucher !== undefined,
        requestSignature: requestSignature ?? undefined,
        input: this.inputToKeep(),
      },
      { gateway: presence.id, ...this.admitted.claim },
    );
    if (refusal === "replayed") throw signatureUsed();
    // Other requests have been promised meanwhile what this one took for free.
    if (refusal !== null) throw await admission.refusedLate(refusal, this.admitted, await now());
  }

  /** What vouchers pay isn't challenged. */
  private inputToKeep(): Uint8Array | undefined {
    const { model, claim } = this.admitted;
    if (model.keepInputs !== true || this.request.kind !== "classification" || claim.voucher !== undefined)
      return undefined;
    return Uint8Array.from(inputOf(JSON.parse(Buffer.from(this.request.bytes).toString("utf8"))));
  }

  /** Has another of the model's servers try where one fails, as long as the client has nothing of an answer. */
  private async pass(): Promise<void> {
    const { replicas, log } = this.deps;
    const { id } = this.admitted.model;
    const tried = new Set<Replica>();
    for (;;) {
      this.interruption.signal.throwIfAborted();
      const replica = replicas.pick(id, tried);
      if (replica === null) throw new UpstreamUnreachable(`no server of model ${id} is left to try`);
      tried.add(replica);
      const hasOther = tried.size < replicas.of(id).length;
      try {
        return await this.passFrom(replica, hasOther);
      } catch (cause) {
        if (!hasOther || !this.mayTryAgain(cause)) throw cause;
        this.relay = null;
        log.warn("upstream failed, trying another", { requestId: this.requestId, upstreamUrl: replica.url, cause });
      }
    }
  }

  private mayTryAgain(cause: unknown): boolean {
    if (this.isClosed || this.interruption.signal.aborted || cause instanceof ApiError) return false;
    return this.relay?.hasBegun !== true && this.sent < MOST_FAILING;
  }

  /** @param hasOther whether another server can be tried, so that this one's failure needn't be the client's */
  private async passFrom(replica: Replica, hasOther: boolean): Promise<void> {
    this.replica = replica;
    this.attemptedAt = performance.now();
    replica.running += 1;
    const giveUp = new AbortController();
    const signal = AbortSignal.any([this.interruption.signal, giveUp.signal]);
    const isImpatient = hasOther && this.request.stream && this.sent + 1 < MOST_FAILING;
    const patience = isImpatient
      ? setTimeout(() => giveUp.abort(NO_FIRST_BYTE), this.deps.firstByteTimeoutMs)
      : undefined;
    try {
      const answer = await this.send(replica, signal);
      if (hasOther && this.sent < MOST_FAILING && isServersFault(answer.statusCode)) {
        void answer.body.dump().catch(() => undefined);
        throw new Error(`the upstream answered ${answer.statusCode}`);
      }
      if (answer.statusCode !== 200) return await this.passError(answer);
      if (contentType(answer).startsWith("text/event-stream")) {
        return await this.passStream(answer, signal, () => clearTimeout(patience));
      }
      return await this.passWhole(answer);
    } finally {
      clearTimeout(patience);
      replica.running -= 1;
    }
  }

  private async send(replica: Replica, signal: AbortSignal): Promise<Dispatcher.ResponseData> {
    this.sent += 1;
    try {
      return await this.deps.upstream.send(replica, this.request, this.requestId, signal);
    } catch (cause) {
      if (cause instanceof UpstreamUnreachable) {
        this.sent -= 1;
        replica.noteDown(cause);
      }
      throw cause;
    }
  }

  /** What the upstream says of a request goes to the client as it is, and costs nothing. */
  private async passError(answer: Dispatcher.ResponseData): Promise<void> {
    const bytes = await bytesOf(answer);
    if (!isErrorForClient(answer.statusCode, bytes)) {
      throw new Error(`the upstream answered ${answer.statusCode}: ${shown(bytes.toString("utf8"))}`);
    }
    await this.close(failedEnding(saltedHash(this.salt, bytes)));
    const retryAfter = answer.headers["retry-after"];
    if (retryAfter !== undefined) this.reply.header("retry-after", retryAfter);
    this.reply.code(answer.statusCode).header("content-type", contentType(answer)).send(bytes);
  }

  private async passWhole(answer: Dispatcher.ResponseData): Promise<void> {
    const bytes = await bytesOf(answer);
    const json: unknown = JSON.parse(bytes.toString("utf8"));
    if (!isAnswerTo(this.request.kind, json)) throw new Error(`the upstream's answer is none: ${shown(json)}`);
    const generated = new Generated();
    for (const text of generatedTexts(json)) generated.add(text);
    const ttftMs = generated.isEmpty ? 0 : this.msSinceStart();
    const delivered = { ...reportedUsage(json), generated, ttftMs };
    const hash = this.request.kind === "classification" ? responseHashOf : saltedHash;
    const ending = await this.meteredEnding(delivered, hash(this.salt, bytes));
    await this.close(await this.disclosed(ending, bytes));
    this.reply.header("content-type", contentType(answer)).send(bytes);
    void taken(this.reply.raw, this.deps.takeTimeoutMs);
  }

  private async passStream(
    answer: Dispatcher.ResponseData,
    signal: AbortSignal,
    onFirstByte: () => void,
  ): Promise<void> {
    const begin = () => {
      onFirstByte();
      this.reply.hijack();
      this.reply.raw.writeHead(200, {
        "content-type": contentType(answer),
        "cache-control": "no-cache",
        "x-accel-buffering": "no",
        [RECEIPT_HEADER]: this.requestId,
      });
    };
    const mostKept = this.proven.isDisclosed ? MOST_BODIES_BYTES : 0;
    const relay = await StreamRelay.start(this.reply.raw, this.salt, this.request, begin, mostKept);
    this.relay = relay;
    try {
      await relay.run(answer.body, signal);
      const ending = await this.meteredEnding(this.deliveredBy(relay), relay.responseHash);
      await this.close(await this.disclosed(ending, relay.passed));
    } catch (cause) {
      if (!relay.hasBegun) throw cause;
      await this.fail(cause);
    } finally {
      await relay.finish(this.deps.takeTimeoutMs);
    }
  }

  /** Ends the exchange without an answer, or with a part of one, and says what the client is to be told. */
  private async fail(problem: unknown): Promise<ApiError> {
    const error = this.explain(problem);
    if (this.relay?.hasBegun) this.relay.keepForEnd(Buffer.from(`data: ${error.toBytes()}\n\n`));
    if (error.status >= 500) {
      const { code, message, cause } = error;
      this.deps.log.warn("request failed", { requestId: this.requestId, code, said: message, cause });
    }
    if (this.isClosed) return error;
    if (this.sent === 0) await this.drop();
    else await this.close(await this.endingBy(error));
    return error;
  }

  private explain(cause: unknown): ApiError {
    const { id } = this.admitted.model;
    const { reason } = this.interruption.signal;
    if (cause instanceof ApiError) return cause;
    if (reason === HUNG_UP) return new ApiError(499, "cancelled", "the client hung up", { cause });
    if (reason === STOPPED) return gatewayStops(cause);
    if (cause instanceof UpstreamUnreachable) {
      return new ApiError(503, "upstream_unreachable", `model ${id} can't be reached: try again later`, {
        cause,
        retryAfterSeconds: RETRY_SECONDS,
      });
    }
    if (reason === TIMED_OUT && (this.sent > 0 || this.replica !== null)) {
      const remedy = this.request.stream ? "ask for fewer tokens" : "stream the answer, or ask for fewer tokens";
      return new ApiError(504, "upstream_timeout", `model ${id} took too long: ${remedy}`, { cause });
    }
    if (isForNow(cause)) return storeUnavailable(cause);
    if (this.sent === 0) {
      return new ApiError(500, "request_not_stored", "the request can't be stored and wasn't sent on", { cause });
    }
    if (this.hasBrokenOff()) {
      const message = `model ${id} broke off: what it wrote is charged, and nothing else`;
      return new ApiError(502, "upstream_broke_off", message, { cause });
    }
    return new ApiError(502, "upstream_failed", `model ${id} failed; this request costs nothing`, { cause });
  }

  /** Whether the client was given text of an answer that the upstream then failed to end. */
  private hasBrokenOff(): boolean {
    return this.relay?.hasBegun === true && !this.relay.generated.isEmpty;
  }

  /**
   * What was delivered is charged if the client ended the answer, or if it was longer than the time for it: neither
   * hanging up nor asking for too much gives tokens for nothing. Where the upstream broke off, it is charged without the
   * prompt, which has to be sent again. Any other failure costs nothing.
   */
  private async endingBy(error: ApiError): Promise<Ending> {
    const { reason } = this.interruption.signal;
    const { relay } = this;
    // A classification is there whole or not at all: a receipt of less couldn't be proven, so that nobody is charged for it.
    const isProvable = this.request.kind === "classification";
    if (reason === HUNG_UP && !isProvable) {
      const responseHash = relay?.responseHash ?? saltedHash(this.salt, Buffer.alloc(0));
      return this.meteredEnding(this.deliveredBy(relay), responseHash, ReceiptFlag.cancelled);
    }
    if (reason === TIMED_OUT && relay !== null && !relay.generated.isEmpty) {
      return this.meteredEnding(this.deliveredBy(relay), relay.responseHash);
    }
    if (relay !== null && this.hasBrokenOff()) return this.brokenEnding(relay);
    return failedEnding(relay?.hasBegun ? relay.responseHash : saltedHash(this.salt, error.toBytes()));
  }

  /** Forgets a request that never reached the model. */
  private async drop(): Promise<void> {
    this.isClosed = true;
    this.deps.admission.settle(this.admitted, 0n);
    await this.deps.store.requests.drop(this.requestId).catch((cause) => {
      this.deps.presence.leave(this.requestId);
      this.deps.log.warn("request can't be forgotten yet", { requestId: this.requestId, cause });
    });
  }

  /**
   * Writes the receipt and ends the reservation. Throws ApiError 500 or 503 if the receipt can't be stored; then nothing is owed,
   * unless the client has the answer and the store is only away.
   */
  private async close({ usage, flags, responseHash, ttftMs }: Ending): Promise<void> {
    this.isClosed = true;
    const { admission, store, now, sign } = this.deps;
    const { plan } = this.admitted;
    const durationMs = this.msSinceStart(this.endedAt ?? performance.now());
    const cost = costOf(usage, plan.rates);
    let ended: Ended | null = null;
    try {
      ended = {
        outcome: { ...usage, flags, responseHash, ttftMs, durationMs, finishedAt: this.finishedAt(await now()) },
        cost,
      };
      const { receipt, owed } = await store.requests.finish(this.requestId, ended.outcome, cost, sign);
      this.deps.observer?.charged(receipt, cost);
      if (owed !== undefined && this.relay?.hasBegun !== true) this.reply.header(SPENT_HEADER, owed.toString());
    } catch (cause) {
      const late = isForNow(cause) && this.isDelivered ? ended : null;
      this.deps.presence.leave(this.requestId, late);
      admission.settle(this.admitted, late?.cost ?? 0n);
      if (late !== null) return;
      if (isForNow(cause)) throw storeUnavailable(cause);
      throw new ApiError(500, "receipt_not_stored", "the receipt can't be stored; this request costs nothing", {
        cause,
      });
    }
    admission.settle(this.admitted, cost);
    if (this.relay?.hasBegun !== true) this.reply.header(RECEIPT_HEADER, this.requestId);
  }

  /** Whether the client can't be told any more that it costs nothing: it has an answer, or is gone. */
  private get isDelivered(): boolean {
    return this.relay?.hasBegun === true || this.interruption.signal.reason === HUNG_UP;
  }

  private async meteredEnding(delivered: Delivered, responseHash: string, flags = 0): Promise<Ending> {
    this.endedAt = performance.now();
    const computeMs = delivered.computeMs ?? msBetween(this.attemptedAt, this.endedAt);
    const tokens = delivered.tokens ?? (await this.estimate(delivered));
    return {
      usage: this.usage(tokens, computeMs),
      flags: delivered.tokens === null ? flags | ReceiptFlag.estimated : flags,
      responseHash,
      ttftMs: delivered.ttftMs,
    };
  }

  /** Keeps the bodies of a whole answer, where the licensee lets attestors see them, and has the receipt say so. */
  private async disclosed(ending: Ending, response: Uint8Array | null): Promise<Ending> {
    if (!this.proven.isDisclosed || response === null) return ending;
    const { kind, bytes: request } = this.request;
    const isKept = await this.deps.disclosures.keep({ requestId: this.requestId, kind, request, response });
    return isKept ? { ...ending, flags: ending.flags | ReceiptFlag.disclosed } : ending;
  }

  private async brokenEnding(relay: StreamRelay): Promise<Ending> {
    this.endedAt = performance.now();
    const { tokens, generated, ttftMs } = this.deliveredBy(relay);
    const outputTokens = BigInt(tokens?.completion ?? (await this.countGenerated(generated)));
    return {
      usage: clampUsage({ ...zeroUsage(), outputTokens }, this.admitted.worst),
      flags: tokens === null ? ReceiptFlag.broken | ReceiptFlag.estimated : ReceiptFlag.broken,
      responseHash: relay.responseHash,
      ttftMs,
    };
  }

  private deliveredBy(relay: StreamRelay | null): Delivered {
    if (relay === null) return { tokens: null, computeMs: null, generated: new Generated(), ttftMs: 0 };
    const { tokens, computeMs, generated, firstAt } = relay;
    return { tokens, computeMs, generated, ttftMs: firstAt === null ? 0 : this.msSinceStart(firstAt) };
  }

  /** By the model's own tokenizer or, where there is none, by pieces of text and bytes of prompt. */
  private async estimate({ generated }: Delivered): Promise<TokenCounts> {
    const { upstream } = this.deps;
    const [prompt, completion] = await Promise.all([
      this.askReplicas((replica) => upstream.countPrompt(replica, this.request)),
      this.countGenerated(generated),
    ]);
    return { prompt: prompt ?? Math.ceil(this.request.bytes.length / BYTES_PER_TOKEN), cached: 0, completion };
  }

  private async countGenerated(generated: Generated): Promise<number> {
    if (generated.isEmpty) return 0;
    const texts = generated.texts();
    const tokens = await this.askReplicas((replica) => this.deps.upstream.countTokens(replica, texts));
    return tokens ?? generated.chunks;
  }

  /** The first answer, of the server that had the request or, if that has none, of another that serves the same. */
  private async askReplicas(ask: (replica: Replica) => Promise<number | null>): Promise<number | null> {
    const others = this.deps.replicas.of(this.admitted.model.id).filter(({ isUp }) => isUp);
    const asked = new Set(this.replica === null ? others : [this.replica, ...others]);
    for (const replica of [...asked].slice(0, MOST_ASKED)) {
      const answer = await ask(replica);
      if (answer !== null) return answer;
    }
    return null;
  }

  /** Held to the worst that was reserved, so that an upstream's wrong count can't charge more. */
  private usage({ prompt, cached, completion }: TokenCounts, computeMs: number): Usage {
    const { worst } = this.admitted;
    const promptTokens = Math.min(prompt, Number(worst.inputTokens));
    const cachedTokens = Math.min(cached, promptTokens);
    const usage = {
      requests: 1n,
      inputTokens: BigInt(promptTokens - cachedTokens),
      cachedInputTokens: BigInt(cachedTokens),
      outputTokens: BigInt(completion),
      computeMs: BigInt(computeMs) * BigInt(this.replica?.gpus ?? 1),
    };
    return clampUsage(usage, { ...worst, cachedInputTokens: worst.inputTokens });
  }

  /** Not before it was signed, by whatever clock: else its epoch might be over before it was asked for. */
  private finishedAt(now: number): number {
    const { requestSignature } = this.proven;
    return requestSignature === null ? now : Math.max(now, requestSignedAt(requestSignature));
  }

  private msSinceStart(until = performance.now()): number {
    return msBetween(this.startedAt, until);
  }
}

/** Another gateway of the operator's, or this one started anew, may serve it. */
export function gatewayStops(cause?: unknown): ApiError {
  return new ApiError(503, "gateway_stops", "the gateway stops: try again", {
    cause,
    retryAfterSeconds: RETRY_SECONDS,
  });
}

/** It goes on by itself when its database does. */
export function storeUnavailable(cause: unknown): ApiError {
  return new ApiError(503, "store_unavailable", "the gateway's store can't be reached at the moment: try again", {
    cause,
    retryAfterSeconds: RETRY_SECONDS,
  });
}

function msBetween(from: number, until: number): number {
  return Math.max(1, Math.round(until - from));
}

/** What another server may do better: a client's own mistakes aren't among it. */
function isServersFault(status: number): boolean {
  return status >= 500 || status === TOO_MANY_REQUESTS;
}

/** Of a failure that isn't the client's: it costs nothing. */
function failedEnding(responseHash: string): Ending {
  return { usage: zeroUsage(), flags: ReceiptFlag.upstreamError, responseHash, ttftMs: 0 };
}

function contentType({ headers }: Dispatcher.ResponseData): string {
  return String(headers["content-type"] ?? "application/json");
}
