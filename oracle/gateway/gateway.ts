import { setMaxListeners } from "node:events";
import { STATUS_CODES } from "node:http";
import type { Socket } from "node:net";
import { hexlify, ZeroHash } from "ethers";
import fastify, { type FastifyError, type FastifyInstance, type FastifyReply, type FastifyRequest } from "fastify";
import { Admission, type AdmissionConfig, type Caller } from "./admission";
import type { Chain } from "../chain/chain";
import { Exchange, gatewayStops, storeUnavailable, type ExchangeDeps } from "./exchange";
import { receiptToSign, type DigestSigner } from "../keys/digestSigner";
import { listen, receivingWithin, type Place } from "../listen";
import type { Log } from "../log";
import { Problem, shown } from "../problem";
import { DISCLOSE_HEADER, disclosedToJson, DISCLOSURE_HEADER, DISCLOSURES_PATH } from "../protocol/disclosure";
import { CLASSIFICATIONS_PATH, requestHashAt } from "../protocol/classification";
import { signedReceiptToJson } from "../protocol/messages";
import { REQUEST_SIGNATURE_HEADER } from "../protocol/requestSignature";
import {
  ApiError,
  parseJsonObject,
  parseRequest,
  type RequestKind,
  type ModelRequest,
  type RequestLimits,
} from "./openai";
import { Doorkeeper, type Limits } from "./limits";
import { Receipt, type Usage } from "../protocol/types";
import { steadyClock } from "../chain/steadyClock";
import type { Archive } from "../store/archive";
import type { Store } from "../store/store";
import type { StoredReceipt } from "../store/receiptRows";
import type { ModelConfig } from "./models";
import type { GatewayFigures, GatewayObserver } from "./observer";
import { revokedToShow, Revocations } from "./revocation";
import { isForNow, Presence } from "./presence";
import { Disclosures, DISCLOSURES_DEFAULTS, type DisclosuresConfig, isDisclosed } from "./disclosures";
import { Replicas, type Replica } from "./replicas";
import { provenRequest } from "./signedRequest";
import { Upstream } from "./upstream";
import { Counter, LICENSES_PATH } from "../x402/counter";
import type { Prepayments } from "../x402/prepayments";
import type { VoucherChain } from "../chain/voucherChain";
import { VoucherDesk } from "./voucherDesk";
import { worstUsage } from "./worstCase";

export interface GatewayConfig extends AdmissionConfig, RequestLimits, Place {
  /** One of the operator's signing keys. */
  signer: DigestSigner;
  models: ModelConfig[];
  /** Tokens that a model's chat template may add to a prompt. */
  templateTokens: number;
  maxBodyBytes: number;
  /** How long a client may take for the end of its answer. */
  takeTimeoutMs: number;
  /** How long a stream's first byte is waited for where another server could take over. */
  firstByteTimeoutMs: number;
  limits: Limits;
  /** How often upstreams are asked whether they are well. */
  healthIntervalMs: number;
  /** How long a client may take to send a request. */
  receiveTimeoutMs: number;
  /** How long requests that run may go on when the gateway is closed. */
  stopTimeoutMs: number;
  /** What a license may owe without having signed a voucher for it, in units of the currency; 0 if none are taken. */
  voucherCredit: bigint;
  /** Of bodies that licensees let attestors see. */
  disclosures: DisclosuresConfig;
}

/** What fits most operators. */
export const GATEWAY_DEFAULTS = {
  host: "127.0.0.1",
  port: 8080,
  licenseCacheMs: 3_000,
  chainTimeoutMs: 2_000,
  defaultMaxTokens: 1_024,
  maxTokensCeiling: 32_768,
  maxChoices: 8,
  templateTokens: 256,
  requestTimeoutMs: 300_000,
  maxBodyBytes: 4 * 1024 * 1024,
  receiveTimeoutMs: 60_000,
  takeTimeoutMs: 30_000,
  firstByteTimeoutMs: 60_000,
  healthIntervalMs: 10_000,
  stopTimeoutMs: 60_000,
  voucherCredit: 0n,
  disclosures: DISCLOSURES_DEFAULTS,
  limits: {
    perGrant: { requestsPerMinute: 3_000, concurrent: 128 },
    perLicense: { requestsPerMinute: 12_000, concurrent: 512 },
    concurrent: 2_048,
    bodyBytes: 256 * 1024 * 1024,
    connections: 8_192,
    unproven: 1_000,
  },
} satisfies Partial<GatewayConfig>;

/** A packed voucher that comes with a request, which it is taken before. */
const VOUCHER_HEADER = "x-licet-voucher";
/** How long clients may take, after the last request has ended, for what is on its way to them. */
const CLOSE_TIMEOUT_MS = 10_000;
/** A grant with a smart account's signature has less than a fifth of it. */
const MOST_HEADER_BYTES = 16_384;
/** Of requests that are no model's. The longest signature of a smart account is half of it, in hex. */
const MOST_SMALL_BYTES = 8_192;
/** A connection on which nothing moves is closed so long after the longest request. */
const IDLE_MS = 60_000;

export interface GatewayDeps {
  chain: Chain;
  /** This gateway's alone while it runs: it takes requests found open for left over by a crash. */
  store: Store;
  log: Log;
  /** Sells licenses to whoever pays by x402; without it, who has no grant is refused. */
  prepayments?: Prepayments;
  observer?: GatewayObserver;
  /** Without it no vouchers are taken. */
  vouchers?: VoucherChain;
  /** Where old receipts are; without it, only those of the store are shown. */
  archive?: Archive;
}

export interface Gateway {
  url: string;
  /** Reads a license's state anew, after a deposit or a settlement. */
  refresh(licenseId: bigint): Promise<void>;
  figures(): GatewayFigures;
  /**
   * Refuses requests from now on, finishes those that run, and closes. What still runs after `stopTimeoutMs` is cut off, and
   * charged as if its upstream had broken off. The store stays open.
   */
  close(): Promise<void>;
}

/**
 * An OpenAI-compatible server in front of an operator's inference servers that serves licensees by their grants and
 * signs a receipt for every request that reaches a model.
 * @throws Problem if a model isn't the version on the chain that the config says, the signer isn't the operator's, or
 * the port is taken
 */
export async function startGateway(config: GatewayConfig, deps: GatewayDeps): Promise<Gateway> {
  const { chain, store, log, observer, vouchers } = deps;
  const now = steadyClock(chain, config.chainTimeoutMs, (cause) =>
    log.warn("chain unreadable, counting time from its last", { cause }),
  );
  const { address } = config.signer;
  const sign = signerOf(config.signer, chain);
  await requireSigningKey(address, config.operatorId, chain, await now());
  await requireVersions(config.models, chain);
  const presence = new Presence(store, sign, now, log, observer);
  await presence.begin();

  const upstream = new Upstream();
  const replicas = new Replicas(config.models, log);
  await warnOfUpstreams(
    config.models.flatMap(({ id }) => replicas.of(id)),
    upstream,
    log,
  );
  const takesVouchers = vouchers !== undefined && config.voucherCredit > 0n;
  const desk = takesVouchers ? new VoucherDesk(config, chain, vouchers, store, log) : undefined;
  const admission = new Admission(config, chain, store, address, log, desk);
  const running = new Running();
  const { requestTimeoutMs, firstByteTimeoutMs, takeTimeoutMs } = config;
  const disclosures = new Disclosures(config.disclosures, config.operatorId, { chain, store, now, log });
  const exchangeDeps = {
    disclosures,
    domain: chain.domain,
    admission,
    store,
    upstream,
    replicas,
    now,
    sign,
    presence,
    log,
    requestTimeoutMs,
    firstByteTimeoutMs,
    takeTimeoutMs,
    observer,
    archive: deps.archive,
    cutOff: running.cutOff.signal,
  };
  const counter = deps.prepayments === undefined ? undefined : new Counter(deps.prepayments, chain);
  const server = createServer(config, chain, exchangeDeps, running, counter);
  const url = await listen(server, config);
  replicas.watch((replica) => upstream.isWell(replica), config.healthIntervalMs);
  log.info("gateway listens", { url, models: config.models.map(({ id }) => id) });

  return {
    url,
    refresh: (licenseId) => admission.refresh(licenseId),
    figures: () => ({
      running: running.size,
      reserved: admission.ledger.reservedOfAll,
      upstreams: config.models.map(({ id }) => ({ model: id, ...upstreamsOf(replicas, id) })),
    }),
    close: async () => {
      await running.finish(config.stopTimeoutMs);
      replicas.close();
      const closed = server.close();
      server.server.closeIdleConnections();
      const cutOff = setTimeout(() => server.server.closeAllConnections(), CLOSE_TIMEOUT_MS);
      await closed;
      clearTimeout(cutOff);
      await presence.end();
      await upstream.close();
    },
  };
}

/** The requests that run. */
class Running {
  readonly cutOff = new AbortController();
  isOpen = true;
  private readonly runs = new Set<Promise<void>>();

  constructor() {
    // All that run listen to it.
    setMaxListeners(0, this.cutOff.signal);
  }

  get size(): number {
    return this.runs.size;
  }

  /** @throws ApiError 503 once it finishes */
  requireOpen(): void {
    if (!this.isOpen) throw gatewayStops();
  }

  add(run: Promise<void>): void {
    this.runs.add(run);
    const done = () => this.runs.delete(run);
    run.then(done, done);
  }

  /** Lets no more in, waits for those that run and, after `mostMs`, ends them. */
  async finish(mostMs: number): Promise<void> {
    this.isOpen = false;
    const timer = setTimeout(() => this.cutOff.abort(), mostMs);
    while (this.runs.size > 0) await Promise.allSettled(this.runs);
    clearTimeout(timer);
  }
}

type Sign = ExchangeDeps["sign"];

function signerOf(signer: DigestSigner, chain: Chain): Sign {
  return async (receipt: Receipt) => {
    const signable = receiptToSign(chain.domain, receipt);
    return { hash: signable.digest, signature: await signer.sign(signable), signer: signer.address };
  };
}

async function requireSigningKey(address: string, operatorId: number, chain: Chain, now: number): Promise<void> {
  if (await chain.isSigningKey(operatorId, address, now)) return;
  throw new Problem(
    `${address} is no signing key of operator ${operatorId} at the moment: register it, or use another key.`,
  );
}

async function requireVersions(models: ModelConfig[], chain: Chain): Promise<void> {
  for (const { id, versionId, assetId, manifestHash } of models) {
    const version = await chain.version(versionId);
    if (version?.assetId !== assetId || version.manifestHash !== manifestHash) {
      const found =
        version === null ? "isn't there" : `is of asset ${version.assetId}, manifest ${version.manifestHash}`;
      throw new Problem(`Model ${id}: version ${versionId} ${found}; the config says ${assetId}, ${manifestHash}.`);
    }
  }
}

/** They may come up later, and some can't be asked for their models: nothing of it stops the gateway. */
async function warnOfUpstreams(replicas: readonly Replica[], upstream: Upstream, log: Log): Promise<void> {
  await Promise.all(
    replicas.map(async (replica) => {
      const fields = { model: replica.modelId, upstreamUrl: replica.url };
      const names = await upstream.modelNames(replica);
      if (names === null) log.warn("upstream can't be asked for its models: does it run?", fields);
      else if (!names.includes(replica.name)) {
        log.error("upstream doesn't serve the model by that name: set upstreamModel", {
          ...fields,
          upstreamModel: replica.name,
          served: names,
        });
      }
    }),
  );
}

function createServer(
  config: GatewayConfig,
  chain: Chain,
  deps: ExchangeDeps,
  running: Running,
  counter?: Counter,
): FastifyInstance {
  const receiving = receivingWithin(config.receiveTimeoutMs);
  const doorkeeper = new Doorkeeper(config.limits);
  const explain = (error: FastifyError | ApiError, request: FastifyRequest, reply: FastifyReply) => {
    const told = toApiError(error, request, deps.log);
    deps.observer?.refused(told);
    answerError(told, reply);
  };
  const server = fastify({
    bodyLimit: config.maxBodyBytes,
    frameworkErrors: explain,
    clientErrorHandler: answerNonsense,
    connectionTimeout: config.requestTimeoutMs + IDLE_MS,
    ...receiving,
    http: { ...receiving.http, maxHeaderSize: MOST_HEADER_BYTES },
  });
  server.server.maxConnections = config.limits.connections;
  server.removeAllContentTypeParsers();
  server.addContentTypeParser("*", { parseAs: "buffer" }, (_request, body, done) => done(null, body));
  server.setErrorHandler(explain);
  server.addHook("onResponse", async ({ routeOptions }, { statusCode }) =>
    deps.observer?.answered(routeOptions.url ?? "unknown", statusCode),
  );
  server.setNotFoundHandler(({ method, url }, reply) =>
    answerError(new ApiError(404, "unknown_url", `there is no ${method} ${url} here`), reply),
  );

  const serve = (kind: RequestKind) => (request: FastifyRequest, reply: FastifyReply) => {
    running.requireOpen();
    const run = serveModel(config, deps, kind, request, reply);
    running.add(run);
    return run.then(() => reply);
  };
  /** Before a body is read. What is held of it, and for its caller, is free again when the answer is out or given up. */
  const admit = async (request: FastifyRequest, reply: FastifyReply) => {
    if (request.method === "POST") running.requireOpen();
    if (counter !== undefined && request.method === "POST" && request.headers.authorization === undefined) {
      await counter.serve(request, reply);
      return reply;
    }
    const caller = await callerOf(deps, request);
    // Who hung up meanwhile takes no place: nobody would give it back.
    if (reply.raw.destroyed) return;
    reply.raw.once("close", doorkeeper.admit(caller));
    if (request.method !== "POST") return;
    // A body without a length may become as long as any. One that is too long is refused before it is read.
    const length = Number(request.headers["content-length"] ?? config.maxBodyBytes);
    if (length <= config.maxBodyBytes) reply.raw.once("close", doorkeeper.hold(length));
  };
  server.post("/v1/chat/completions", { onRequest: admit }, serve("chat"));
  server.post("/v1/completions", { onRequest: admit }, serve("text"));
  server.post("/v1/embeddings", { onRequest: admit }, serve("embeddings"));
  server.post(CLASSIFICATIONS_PATH, { onRequest: admit }, serve("classification"));
  server.get("/v1/models", () => ({ object: "list", data: config.models.map(modelCard) }));
  // Names of models may have slashes in them.
  server.get<{ Params: { "*": string } }>("/v1/models/*", ({ params }) =>
    modelCard(modelNamed(config.models, params["*"])),
  );
  server.get<{ Querystring: Record<string, unknown> }>("/v1/receipts", { onRequest: admit }, (request) =>
    ownReceipts(config, deps, request),
  );
  server.get<{ Params: { requestId: string } }>("/v1/receipts/:requestId", { onRequest: admit }, (request) =>
    ownReceipt(deps, request),
  );
  server.get<{ Params: { requestId: string } }>(`${DISCLOSURES_PATH}/:requestId`, async ({ params, headers }) =>
    disclosedToJson(await deps.disclosures.give(params.requestId, headers[DISCLOSURE_HEADER])),
  );
  server.get("/v1/vouchers", { onRequest: admit }, (request) => voucherAccount(deps, request));
  server.post("/v1/vouchers", { onRequest: admit }, (request) => takeVoucher(deps, request));
  if (counter !== undefined) {
    server.post(LICENSES_PATH, { bodyLimit: MOST_SMALL_BYTES }, async (request, reply) => {
      running.requireOpen();
      await counter.serve(request, reply);
      return reply;
    });
  }
  const revocations = new Revocations({ ...deps, chain, operatorId: config.operatorId });
  server.post("/v1/grants/revoke", { bodyLimit: MOST_SMALL_BYTES }, async ({ body, headers }) => {
    const isOwners = Buffer.isBuffer(body) && body.length > 0;
    return revokedToShow(await (isOwners ? revocations.byOwner(body) : revocations.byBearer(headers.authorization)));
  });
  server.get("/healthz", (_request, reply) => {
    const [code, status] = running.isOpen ? [200, "ok"] : [503, "stops"];
    return reply.code(code).send({ status, running: running.size, models: config.models.map(healthOf(deps)) });
  });
  return server;
}

async function callerOf({ admission, now }: ExchangeDeps, { headers }: FastifyRequest): Promise<Caller> {
  return admission.authenticate(headers.authorization, await now());
}

/** The caller is asked for again, for its license may have changed while the body came. */
async function serveModel(
  config: GatewayConfig,
  deps: ExchangeDeps,
  kind: RequestKind,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<void> {
  const caller = await callerOf(deps, request);
  const asked = parseRequest(kind, (request.body as Buffer | undefined) ?? Buffer.alloc(0), config);
  const requestHash = requestHashAt(request.url, caller.signed.grant.salt, asked.bytes);
  const signature = request.headers[REQUEST_SIGNATURE_HEADER];
  const proven = provenRequest(deps.domain, caller, requestHash, signature, await deps.now());
  const disclosed = isDisclosed(request.headers[DISCLOSE_HEADER]);
  const voucher = request.headers[VOUCHER_HEADER];
  if (typeof voucher === "string") await deps.admission.takeVoucher(caller, voucher, await deps.now());
  const model = modelNamed(config.models, asked.model);
  const admitted = await deps.admission.admit(caller, model, kind, boundOf(config, asked, model), await deps.now());
  const ended = deps.observer?.began(asked);
  await new Exchange(deps, asked, admitted, { ...proven, isDisclosed: disclosed }, reply).run().finally(ended);
}

function modelNamed(models: ModelConfig[], id: string): ModelConfig {
  const model = models.find((candidate) => candidate.id === id);
  if (model !== undefined) return model;
  const known = models.map((candidate) => candidate.id).join(", ");
  throw new ApiError(404, "model_not_found", `model ${id} isn't served here; these are: ${known}`, { param: "model" });
}

/** Everything that becomes prompt stands in the body, so that its length bounds the prompt's. */
function boundOf(config: GatewayConfig, asked: ModelRequest, model: ModelConfig): Usage {
  return worstUsage({
    promptBytes: asked.bytes.length,
    templateTokens: config.templateTokens,
    maxTokens: asked.maxTokens,
    choices: asked.choices,
    timeoutMs: config.requestTimeoutMs,
    gpus: Math.max(...model.upstreams.map(({ gpus }) => gpus ?? 1)),
  });
}

/** OpenAI's words for a model, and what of it is on the chain. */
function modelCard({ id, assetId, versionId, manifestHash }: ModelConfig): object {
  return {
    id,
    object: "model",
    created: 0,
    owned_by: "licet",
    asset_id: assetId,
    version_id: versionId.toString(),
    manifest_hash: manifestHash,
  };
}

/** How many of a model's servers are up; where they are is nobody else's business. */
function healthOf({ replicas }: ExchangeDeps): (model: ModelConfig) => object {
  return ({ id }) => {
    const { count, up } = upstreamsOf(replicas, id);
    return { id, upstreams: count, up };
  };
}

function upstreamsOf(replicas: Replicas, id: string): { count: number; up: number } {
  const all = replicas.of(id);
  return { count: all.length, up: all.filter(({ isUp }) => isUp).length };
}

async function ownReceipt(deps: ExchangeDeps, request: FastifyRequest<{ Params: { requestId: string } }>) {
  const { license } = await callerOf(deps, request);
  const { requestId } = request.params;
  const stored = await (deps.archive?.receipt(requestId) ?? deps.store.receipts.ofRequest(requestId));
  if (stored?.receipt.licenseId !== license.licenseId) {
    throw new ApiError(404, "unknown_receipt", `license ${license.licenseId} has no receipt of request ${requestId}`);
  }
  return (await receiptsToShow(deps, [stored]))[0];
}

const RECEIPTS_A_PAGE = 100;
const MOST_RECEIPTS_A_PAGE = 1_000;

/** A page of all that this operator signed for the caller's license, whatever grants it came under. */
async function ownReceipts(
  { operatorId }: GatewayConfig,
  deps: ExchangeDeps,
  request: FastifyRequest<{ Querystring: Record<string, unknown> }>,
) {
  const { license } = await callerOf(deps, request);
  const from = wholeNumberIn(request.query, "from", 1n, 2n ** 63n - 1n);
  const limit = Number(wholeNumberIn(request.query, "limit", BigInt(RECEIPTS_A_PAGE), BigInt(MOST_RECEIPTS_A_PAGE)));
  if (deps.archive !== undefined) {
    const { receipts, hasMore } = await deps.archive.receiptsFrom(operatorId, license.licenseId, from, limit);
    return { object: "list", data: await receiptsToShow(deps, receipts), has_more: hasMore };
  }
  const found = await deps.store.receipts.from(operatorId, license.licenseId, from, limit + 1);
  const data = await receiptsToShow(deps, found.slice(0, limit));
  return { object: "list", data, has_more: found.length > limit };
}

function wholeNumberIn(query: Record<string, unknown>, name: string, byDefault: bigint, most: bigint): bigint {
  const value = query[name] ?? String(byDefault);
  if (typeof value === "string" && /^[1-9]\d{0,18}$/.test(value) && BigInt(value) <= most) return BigInt(value);
  const problem = `${name}: must be a whole number from 1 to ${most}, not ${shown(value)}`;
  throw new ApiError(400, "invalid_parameter", problem, { param: name });
}

/** Of one operator's. Where a request was signed, that signature proves who asked. */
async function receiptsToShow({ store }: ExchangeDeps, receipts: StoredReceipt[]): Promise<object[]> {
  const signed = receipts.filter(({ receipt }) => receipt.requestSignatureHash !== ZeroHash);
  const hashes = signed.map(({ receipt }) => receipt.requestSignatureHash);
  const found =
    signed.length === 0 ? undefined : await store.requestSignatures.of(signed[0].receipt.operatorId, hashes);
  return receipts.map((stored) => {
    const { hash, state, batchId, receipt } = stored;
    const packed = stored.requestSignature ?? found?.get(receipt.requestSignatureHash)?.packed;
    const shown = { ...signedReceiptToJson(stored), hash, state, batch_id: batchId };
    return packed === undefined ? shown : { ...shown, request_signature: hexlify(packed) };
  });
}

/** What the caller's license owes, and what it has signed for. */
async function voucherAccount(deps: ExchangeDeps, request: FastifyRequest): Promise<object> {
  return deps.admission.voucherAccount(await callerOf(deps, request), await deps.now());
}

/** Takes a voucher that comes as `{"voucher": "0x…"}`, and says what is owed then. */
async function takeVoucher(deps: ExchangeDeps, request: FastifyRequest): Promise<object> {
  const caller = await callerOf(deps, request);
  const voucher = voucherIn(request.body as Buffer | undefined);
  await deps.admission.takeVoucher(caller, voucher, await deps.now());
  return deps.admission.voucherAccount(caller, await deps.now());
}

function voucherIn(body: Buffer | undefined): string {
  const { voucher } = parseJsonObject(body ?? Buffer.alloc(0));
  if (typeof voucher === "string") return voucher;
  throw new ApiError(400, "invalid_parameter", `voucher: send what voucher:sign prints, not ${shown(voucher)}`, {
    param: "voucher",
  });
}

function toApiError(error: FastifyError | ApiError, request: FastifyRequest, log: Log): ApiError {
  if (error instanceof ApiError) return error;
  const status = error.statusCode ?? 500;
  if (status < 500) return new ApiError(status, (error.code ?? "invalid_request").toLowerCase(), error.message);
  if (isForNow(error)) return storeUnavailable(error);
  log.error("request broke", { method: request.method, url: request.url, error });
  return new ApiError(500, "internal_error", "the gateway failed; this request costs nothing", { cause: error });
}

/** Answers what never became a request: too many headers, too slow a client, or no HTTP at all. */
function answerNonsense(error: NodeJS.ErrnoException, socket: Socket): void {
  if (error.code === "ECONNRESET" || socket.destroyed) return;
  const { status, code, message } = nonsenseOf(error.code);
  const body = new ApiError(status, code, message).toBytes();
  const head = [
    `HTTP/1.1 ${status} ${STATUS_CODES[status]}`,
    "content-type: application/json",
    `content-length: ${body.length}`,
    "connection: close",
  ];
  if (socket.writable) socket.write(Buffer.concat([Buffer.from(`${head.join("\r\n")}\r\n\r\n`), body]));
  socket.destroy(error);
}

function nonsenseOf(code: string | undefined): { status: number; code: string; message: string } {
  switch (code) {
    case "ERR_HTTP_REQUEST_TIMEOUT":
      return { status: 408, code: "request_timeout", message: "the request took too long to come: send it at once" };
    case "HPE_HEADER_OVERFLOW":
      return {
        status: 431,
        code: "headers_too_large",
        message: `headers may have ${MOST_HEADER_BYTES} bytes: send fewer`,
      };
    default:
      return { status: 400, code: "invalid_http", message: "this isn't a request in HTTP/1.1: use an OpenAI client" };
  }
}

function answerError(error: ApiError, reply: FastifyReply): void {
  if (error.details.retryAfterSeconds !== undefined) reply.header("retry-after", error.details.retryAfterSeconds);
  reply.code(error.status).header("content-type", "application/json").send(error.toBytes());
}
