/** A gateway in front of fake upstreams, on a fake chain, with one license. */
import { expect } from "chai";
import { Wallet } from "ethers";
import OpenAI, { APIError } from "openai";
import { setTimeout as wait } from "node:timers/promises";
import { request } from "undici";
import type { LicenseState } from "../../oracle/chain/chain";
import { GATEWAY_DEFAULTS, startGateway, type Gateway, type GatewayConfig } from "../../oracle/gateway/gateway";
import type { ModelConfig, UpstreamConfig } from "../../oracle/gateway/models";
import type { GatewayObserver } from "../../oracle/gateway/observer";
import { localSigner } from "../../oracle/keys/digestSigner";
import { createLog } from "../../oracle/log";
import { grantDigest, signDigest } from "../../oracle/protocol/messages";
import type { Grant, Receipt } from "../../oracle/protocol/types";
import { Store } from "../../oracle/store/store";
import { type Place, memoryPlace } from "./databases";
import { FakeChain } from "./fakeChain";
import { bearerOf, DOMAIN, grantWith, usage } from "./fakeMessages";
import { FakeUpstream } from "./fakeUpstream";

export const OWNER = new Wallet(`0x${"11".repeat(32)}`);
export const STRANGER = new Wallet(`0x${"22".repeat(32)}`);
export const OPERATOR_KEY = new Wallet(`0x${"33".repeat(32)}`);
export const MANIFEST = `0x${"4d".repeat(32)}`;
export const OPERATOR_ID = 2;
export const PLAN_ID = 3;
export const ASSET_ID = 5;
export const VERSION_ID = (5n << 32n) | 1n;
export const LANE = { operatorId: OPERATOR_ID, planId: PLAN_ID, versionId: VERSION_ID };
export const MESSAGES: OpenAI.ChatCompletionMessageParam[] = [{ role: "user", content: "May I copy this?" }];

/** A unit of the currency for each token, whether it is cached or not. */
const RATES = usage({ inputTokens: 1_000_000n, cachedInputTokens: 1_000_000n, outputTokens: 1_000_000n });

/** An API key for license 1, or for what the changes say. */
export function keyFor(changes: Partial<Grant> = {}, signer = OWNER, domain = DOMAIN): string {
  const grant = grantWith(changes);
  return bearerOf({ grant, signature: signDigest(signer.privateKey, grantDigest(domain, grant)) });
}

export function modelAt(...upstreams: UpstreamConfig[]): ModelConfig {
  return { id: "writer", upstreams, assetId: ASSET_ID, versionId: VERSION_ID, manifestHash: MANIFEST };
}

export class GatewayBench {
  readonly chain = new FakeChain();
  readonly logged: { level: string; message: string; [field: string]: unknown }[] = [];
  readonly upstreams: FakeUpstream[] = [];
  gateway!: Gateway;
  /** Of the gateways that are started from then on. */
  observer: GatewayObserver | undefined;

  private constructor(
    private readonly place: Place,
    readonly store: Store,
  ) {}

  /** @param servers how many upstreams there are @param place of the store */
  static async start(servers = 1, place = memoryPlace()): Promise<GatewayBench> {
    const bench = new GatewayBench(place, new Store(await place.open()));
    for (let i = 0; i < servers; i++) bench.upstreams.push(await FakeUpstream.start());
    const { chain } = bench;
    chain.signingKeys.set(OPERATOR_ID, [OPERATOR_KEY.address]);
    chain.plans.set(PLAN_ID, {
      planId: PLAN_ID,
      assetId: ASSET_ID,
      rates: RATES,
      attestor: STRANGER.address,
      minEvidenceTier: 0,
    });
    chain.versions.set(VERSION_ID, {
      versionId: VERSION_ID,
      assetId: ASSET_ID,
      manifestHash: MANIFEST,
      usableUntil: 2 ** 40 - 1,
    });
    bench.setLicense();
    return bench;
  }

  /** Starts the gateway, in place of the one that ran. By default one model has all upstreams for replicas. */
  async serve(changes: Partial<GatewayConfig> = {}): Promise<void> {
    await this.gateway?.close();
    this.gateway = await startGateway(
      {
        ...GATEWAY_DEFAULTS,
        port: 0,
        operatorId: OPERATOR_ID,
        signer: localSigner(OPERATOR_KEY.privateKey),
        models: [modelAt(...this.upstreams.map(({ url }) => ({ url })))],
        defaultMaxTokens: 100,
        maxTokensCeiling: 1_000,
        maxChoices: 4,
        templateTokens: 10,
        requestTimeoutMs: 2_000,
        maxBodyBytes: 20_000,
        ...changes,
      },
      {
        chain: this.chain,
        store: this.store,
        log: createLog("debug", (line) => this.logged.push(JSON.parse(line))),
        observer: this.observer,
      },
    );
  }

  async close(): Promise<void> {
    await this.gateway?.close();
    await Promise.all(this.upstreams.map((upstream) => upstream.stop()));
    await this.store.close();
    this.place.remove();
  }

  /** Has the chain hold a license; others than license 1 are like it. */
  setLicense(changes: Partial<LicenseState> = {}): void {
    const licenseId = changes.licenseId ?? 1n;
    this.chain.licenses.set(licenseId, {
      licenseId,
      owner: OWNER.address,
      planId: PLAN_ID,
      operatorId: OPERATOR_ID,
      generation: 1,
      balance: 1_000_000n,
      thawing: 0n,
      owed: 0n,
      spent: 0n,
      cap: 0n,
      expiresAt: this.chain.time + 1_000_000,
      countsFrom: 0,
      signedSince: 0,
      renewal: "none",
      onVoucherRoad: false,
      stop: null,
      serviceChange: null,
      planChange: null,
      formerPlan: null,
      ...changes,
    });
  }

  client(apiKey = keyFor()): OpenAI {
    return new OpenAI({ apiKey, baseURL: `${this.gateway.url}/v1`, maxRetries: 0 });
  }

  chat(options: Partial<OpenAI.ChatCompletionCreateParamsNonStreaming> = {}, apiKey = keyFor()) {
    return this.client(apiKey).chat.completions.create({ model: "writer", messages: MESSAGES, ...options });
  }

  /** All text of a streamed answer. */
  async chatStream(options: Partial<OpenAI.ChatCompletionCreateParamsStreaming> = {}, apiKey = keyFor()) {
    const asked = { model: "writer", messages: MESSAGES, ...options, stream: true as const };
    const stream = await this.client(apiKey).chat.completions.create(asked);
    let text = "";
    for await (const { choices } of stream) text += choices[0]?.delta.content ?? "";
    return text;
  }

  /** Sends bytes as they are, past the client's own checks. */
  async post(body: object | string | Buffer, { path = "/v1/chat/completions", apiKey = keyFor(), headers = {} } = {}) {
    const answer = await request(this.gateway.url + path, {
      method: "POST",
      headers: { "content-type": "application/json", authorization: `Bearer ${apiKey}`, ...headers },
      body: typeof body === "string" || Buffer.isBuffer(body) ? body : JSON.stringify(body),
    });
    return { status: answer.statusCode, headers: answer.headers, text: await answer.body.text() };
  }

  async get(path: string, apiKey = keyFor()) {
    const { statusCode, body } = await request(this.gateway.url + path, {
      headers: { authorization: `Bearer ${apiKey}` },
    });
    return { status: statusCode, json: (await body.json()) as Record<string, never> };
  }

  /** All receipts so far, by license and sequence. */
  async receipts(): Promise<Receipt[]> {
    return (await this.store.unbatched.receipts(LANE, { epochStart: 0, epochEnd: 2 ** 40 })).map(
      ({ receipt }) => receipt,
    );
  }

  async onlyReceipt(): Promise<Receipt> {
    const all = await this.receipts();
    expect(all).to.have.length(1);
    return all[0];
  }

  /** Messages that were logged, of a level. */
  said(level: string): string[] {
    return this.logged.filter((line) => line.level === level).map(({ message }) => message);
  }
}

/** Waits until something holds, for at most five seconds or so. */
export async function until(holds: () => boolean | Promise<boolean>, mostMs = 5_000): Promise<void> {
  for (let i = 0; i < mostMs / 10 && !(await holds()); i++) await wait(10);
  expect(await holds(), String(holds)).to.equal(true);
}

/** The error that the openai client has of an attempt. */
export async function refusalOf(attempt: Promise<unknown>): Promise<APIError> {
  const error = await attempt.then(
    () => new Error("it was served"),
    (cause: Error) => cause,
  );
  if (error instanceof APIError) return error;
  throw error;
}
