import { expect } from "chai";
import { keccak256, concat, Wallet, ZeroHash } from "ethers";
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { setTimeout as wait } from "node:timers/promises";
import OpenAI, { APIError } from "openai";
import { request } from "undici";
import { requireProvable } from "../../oracle/gateway/admission";
import { GATEWAY_DEFAULTS, startGateway, type Gateway, type GatewayConfig } from "../../oracle/gateway/gateway";
import type { ModelConfig } from "../../oracle/gateway/models";
import { ApiError } from "../../oracle/gateway/openai";
import { localSigner, type Signable } from "../../oracle/keys/digestSigner";
import { createLog } from "../../oracle/log";
import {
  grantDigest,
  receiptDigest,
  recoverSigner,
  saltedHash,
  signDigest,
  signedReceiptFromJson,
} from "../../oracle/protocol/messages";
import { CLASSIFICATIONS_PATH } from "../../oracle/protocol/classification";
import { Tier } from "../../oracle/protocol/tiers";
import { ReceiptFlag, type Grant, type Receipt } from "../../oracle/protocol/types";
import { Store } from "../../oracle/store/store";
import { describeOnEach, type Place } from "../support/databases";
import { FakeChain } from "../support/fakeChain";
import { bearerOf, DOMAIN, grantWith, usage, saltFrom } from "../support/fakeMessages";
import {
  babbling,
  eventOf,
  failing,
  FakeUpstream,
  hangingUp,
  silent,
  streaming,
  USAGE,
  whole,
} from "../support/fakeUpstream";

const OWNER = new Wallet("0x" + "11".repeat(32));
const STRANGER = new Wallet("0x" + "22".repeat(32));
const OPERATOR_KEY = new Wallet("0x" + "33".repeat(32));
const MANIFEST = "0x" + "4d".repeat(32);
const MESSAGES: OpenAI.ChatCompletionMessageParam[] = [{ role: "user", content: "May I copy this?" }];

const OPERATOR_ID = 2;
const PLAN_ID = 3;
const ASSET_ID = 5;
const VERSION_ID = (5n << 32n) | 1n;

/** Where nothing listens. */
const NOWHERE = "http://127.0.0.1:1";

/** A unit of the currency for each token that isn't cached, a tenth for the others. */
const RATES = usage({ inputTokens: 1_000_000n, cachedInputTokens: 100_000n, outputTokens: 1_000_000n });

describeOnEach("gateway", (placeOf) => {
  let place: Place;
  let store: Store;
  let chain: FakeChain;
  let upstream: FakeUpstream;
  let gateway: Gateway;
  let logged: string[];
  const gateways: Gateway[] = [];

  const writer = (...urls: string[]): ModelConfig => ({
    id: "writer",
    upstreams: urls.map((url) => ({ url })),
    assetId: ASSET_ID,
    versionId: VERSION_ID,
    manifestHash: MANIFEST,
  });
  const config = (): GatewayConfig => ({
    ...GATEWAY_DEFAULTS,
    port: 0,
    operatorId: OPERATOR_ID,
    signer: localSigner(OPERATOR_KEY.privateKey),
    models: [
      writer(upstream.url),
      {
        id: "other",
        upstreams: [{ url: upstream.url, model: "other-v2" }],
        assetId: 6,
        versionId: (6n << 32n) | 1n,
        manifestHash: MANIFEST,
      },
    ],
    defaultMaxTokens: 100,
    maxTokensCeiling: 1_000,
    maxChoices: 4,
    templateTokens: 10,
    requestTimeoutMs: 2_000,
    maxBodyBytes: 20_000,
  });

  beforeEach(async () => {
    place = placeOf();
    store = new Store(await place.open());
    upstream = await FakeUpstream.start();
    logged = [];
    chain = new FakeChain();
    chain.signingKeys.set(OPERATOR_ID, [OPERATOR_KEY.address]);
    chain.plans.set(PLAN_ID, {
      planId: PLAN_ID,
      assetId: ASSET_ID,
      rates: RATES,
      attestor: STRANGER.address,
      minEvidenceTier: 0,
    });
    for (const { versionId, assetId } of config().models) {
      chain.versions.set(versionId, { versionId, assetId, manifestHash: MANIFEST, usableUntil: 2 ** 40 - 1 });
    }
    setLicense({});
    gateway = await start();
  });

  afterEach(async () => {
    await Promise.all(gateways.splice(0).map((one) => one.close()));
    await upstream.stop();
    await store.close();
    place.remove();
  });

  async function start(changes: Partial<GatewayConfig> = {}): Promise<Gateway> {
    const log = createLog("debug", (line) => logged.push(line));
    const started = await startGateway({ ...config(), ...changes }, { chain, store, log });
    gateways.push(started);
    return started;
  }

  function setLicense(changes: object): void {
    chain.licenses.set(1n, {
      licenseId: 1n,
      owner: OWNER.address,
      planId: PLAN_ID,
      operatorId: OPERATOR_ID,
      generation: 1,
      balance: 1_000_000n,
      thawing: 0n,
      owed: 0n,
      spent: 0n,
      cap: 0n,
      expiresAt: chain.time + 1_000,
      countsFrom: 0,
      signedSince: 0,
      renewal: "none",
      onVoucherRoad: false,
      stop: null,
      serviceChange: null,
      planChange: null,
      formerPlan: null,
      ...chain.licenses.get(1n),
      ...changes,
    });
  }

  function keyFor(changes: Partial<Grant> = {}, signer = OWNER): string {
    const grant = grantWith(changes);
    return bearerOf({ grant, signature: signDigest(signer.privateKey, grantDigest(DOMAIN, grant)) });
  }

  function client(apiKey = keyFor(), maxRetries = 0): OpenAI {
    return new OpenAI({ apiKey, baseURL: `${gateway.url}/v1`, maxRetries });
  }

  type ChatOptions = Partial<OpenAI.ChatCompletionCreateParamsNonStreaming>;
  const chat = (options: ChatOptions = {}, openai = client()) =>
    openai.chat.completions.create({ model: "writer", messages: MESSAGES, ...options });

  async function chatStream(options: Partial<OpenAI.ChatCompletionCreateParamsStreaming> = {}, openai = client()) {
    const stream = await openai.chat.completions.create({
      model: "writer",
      messages: MESSAGES,
      ...options,
      stream: true,
    });
    const chunks = [];
    for await (const chunk of stream) chunks.push(chunk);
    return chunks;
  }

  /** Sends bytes as they are, past the client's own checks. */
  async function post(body: string | Buffer, { path = "/v1/chat/completions", apiKey = keyFor() } = {}) {
    const {
      statusCode,
      headers,
      body: answer,
    } = await request(gateway.url + path, {
      method: "POST",
      headers: { "content-type": "application/json", authorization: `Bearer ${apiKey}` },
      body,
    });
    return { statusCode, headers, text: await answer.text() };
  }

  async function refusalOf(attempt: Promise<unknown>): Promise<APIError> {
    const error = await attempt.then(
      () => new Error("it was served"),
      (cause: Error) => cause,
    );
    if (error instanceof APIError) return error;
    throw error;
  }

  async function expectRefusal(attempt: Promise<unknown>, status: number, code: string, message: string) {
    const error = await refusalOf(attempt);
    expect({ status: error.status, code: error.code }).to.deep.equal({ status, code });
    expect(error.message).to.contain(message);
    return error;
  }

  /** All receipts so far, by sequence. */
  async function receipts(): Promise<Receipt[]> {
    const lane = { operatorId: OPERATOR_ID, planId: PLAN_ID, versionId: VERSION_ID };
    return (await store.unbatched.receipts(lane, { epochStart: 0, epochEnd: 2 ** 40 })).map(({ receipt }) => receipt);
  }

  async function onlyReceipt(): Promise<Receipt> {
    const all = await receipts();
    expect(all).to.have.length(1);
    return all[0];
  }

  async function untilHungUp(): Promise<void> {
    for (let i = 0; upstream.hungUp === 0 && i < 100; i++) await wait(10);
    expect(upstream.hungUp).to.equal(1);
  }

  async function untilReceipt(): Promise<Receipt> {
    for (let i = 0; (await receipts()).length === 0 && i < 100; i++) await wait(10);
    return await onlyReceipt();
  }

  /** The worst that the plain request can cost: its bytes, the template and the most tokens of the answer. */
  const WORST = BigInt(JSON.stringify({ model: "writer", messages: MESSAGES }).length + 10 + 100);

  async function setBalance(balance: bigint): Promise<void> {
    setLicense({ balance });
    await gateway.refresh(1n);
  }

  describe("starting", () => {
    const failureOf = (changes: Partial<GatewayConfig>) => start(changes).catch((cause: Error) => cause);

    it("refuses a model that is another version on the chain", async () => {
      const [model] = config().models;
      const error = await failureOf({ models: [{ ...model, manifestHash: ZeroHash }] });
      expect(error).to.have.property("message").that.contains(`the config says 5, ${ZeroHash}`);
    });

    it("refuses a model whose version doesn't exist", async () => {
      const [model] = config().models;
      const error = await failureOf({ models: [{ ...model, versionId: 99n }] });
      expect(error).to.have.property("message").that.contains("version 99 isn't there");
    });

    it("refuses a key that isn't the operator's", async () => {
      const error = await failureOf({ signer: localSigner(STRANGER.privateKey) });
      expect(error).to.have.property("message").that.contains("is no signing key of operator 2");
    });

    it("says that an upstream calls the model otherwise, and starts all the same", async () => {
      upstream.names = ["writer-7b"];
      gateway = await start();
      const served = logged.map((line) => JSON.parse(line)).find(({ level }) => level === "error");
      expect(served.message).to.equal("upstream doesn't serve the model by that name: set upstreamModel");
      expect(served).to.deep.include({ model: "writer", upstreamModel: "writer", served: ["writer-7b"] });

      await start({ models: [writer(NOWHERE)] });
      expect(logged.join()).to.contain("upstream can't be asked for its models: does it run?");
    });

    it("says nothing of upstreams that serve what they should", async () => {
      expect(logged.filter((line) => line.includes("upstream"))).to.deep.equal([]);
    });

    it("gives requests that a crash left open receipts of zero use", async () => {
      await chat();
      const { finishedAt, ...last } = await onlyReceipt();
      const facts = { ...last, requestId: "0x" + "99".repeat(32) };
      await store.requests.open({ facts, versionId: VERSION_ID, openedAt: finishedAt });

      gateway = await start();
      const recovered = (await receipts())[1];
      expect(recovered).to.include({ requestId: facts.requestId, sequence: 2n, flags: ReceiptFlag.recovered });
      expect(recovered).to.include({ requests: 0n, inputTokens: 0n, outputTokens: 0n, computeMs: 0n });
      expect(recovered.previousHash).to.equal(receiptDigest(DOMAIN, (await receipts())[0]));
      expect(await store.requests.running()).to.deep.equal([]);
    });
  });

  describe("who may come in", () => {
    it("refuses a request without a key", async () => {
      const { statusCode, body } = await request(`${gateway.url}/v1/chat/completions`, { method: "POST", body: "{}" });
      expect(statusCode).to.equal(401);
      expect(await body.json()).to.have.nested.property("error.code", "missing_api_key");
    });

    it("refuses a key that is no grant", async () => {
      await expectRefusal(chat({}, client("sk-12345")), 401, "malformed_api_key", "cut short");
    });

    it("refuses a key of a license that can't be", async () => {
      await expectRefusal(chat({}, client(keyFor({ licenseId: 2n ** 63n }))), 401, "malformed_api_key", "below 2^63");
    });

    it("refuses a grant that another than the owner signed", async () => {
      const attempt = chat({}, client(keyFor({}, STRANGER)));
      await expectRefusal(attempt, 401, "wrong_signature", "isn't signed by the owner of license 1");
    });

    it("refuses a grant of an unknown license", async () => {
      const attempt = chat({}, client(keyFor({ licenseId: 9n })));
      await expectRefusal(attempt, 401, "unknown_license", "license 9 doesn't exist");
    });

    it("refuses a grant before its time", async () => {
      const attempt = chat({}, client(keyFor({ notBefore: chain.time + 1 })));
      await expectRefusal(attempt, 401, "grant_not_yet_valid", "valid from 2023-11-14T22:13:21");
    });

    it("refuses a grant that would end before a request may be done", async () => {
      const longest = 32;
      expect((await chat({}, client(keyFor({ expiresAt: chain.time + longest + 1 })))).choices).to.have.length(1);
      const attempt = chat({}, client(keyFor({ expiresAt: chain.time + longest })));
      await expectRefusal(attempt, 401, "grant_expired", "expires at 2023-11-14T22:13:52");
    });

    it("refuses a grant of another generation", async () => {
      const attempt = chat({}, client(keyFor({ generation: 2 })));
      await expectRefusal(attempt, 401, "grant_ended", "of generation 2, the license's is 1");
    });

    it("refuses a revoked grant at once", async () => {
      await chat();
      await store.grants.revoke(1n, grantDigest(DOMAIN, grantWith()), chain.time, 1);
      await expectRefusal(chat(), 401, "grant_revoked", "sign a new one");
      expect((await chat({}, client(keyFor({ salt: saltFrom(MANIFEST) })))).choices).to.have.length(1);
    });

    it("refuses a request that its grant's key hasn't signed", async () => {
      const attempt = chat({}, client(keyFor({ key: STRANGER.address })));
      await expectRefusal(attempt, 401, "request_unsigned", `must be signed by ${STRANGER.address}`);
    });

    const licenses: [string, object, string, string][] = [
      ["of another operator", { operatorId: 8 }, "wrong_operator", "served by operator 8, this is 2"],
      ["on the voucher road", { onVoucherRoad: true }, "voucher_road", "settles by vouchers"],
      ["that has expired", { expiresAt: 1_600_000_000 }, "license_expired", "expires at 2020-09-13T12:26:40"],
      ["that is locked", { stop: "locked" }, "license_locked", "its owner can unlock it (license:transfer --unlock)"],
      ["that was ended", { stop: "ended" }, "license_ended", "was ended by its owner: buy a new one (license:buy)"],
      [
        "that goes to another operator before its use settles",
        { serviceChange: { operatorId: 8, onVoucherRoad: false, readyAt: 1_700_000_001 } },
        "service_changing",
        "goes to operator 8, by attested batches, at 2023-11-14T22:13:21.000Z",
      ],
    ];
    for (const [what, change, code, message] of licenses) {
      it(`refuses a license ${what}`, async () => {
        setLicense(change);
        await expectRefusal(chat(), 403, code, message);
      });
    }

    it("refuses a license that would end before a request may be done, for nobody could be charged for it", async () => {
      const longest = 32;
      setLicense({ expiresAt: chain.time + longest + 1 });
      expect((await chat()).choices).to.have.length(1);
      setLicense({ expiresAt: chain.time + longest });
      await gateway.refresh(1n);
      await expectRefusal(chat(), 403, "license_expired", "expires at 2023-11-14T22:13:52");
    });

    it("refuses a license with a minimum when its term is over, and says how it goes on", async () => {
      setLicense({ expiresAt: chain.time, renewal: "called" });
      const message = "the term of license 1 ends at 2023-11-14T22:13:20.000Z, before a request may be done: renew it";
      await expectRefusal(chat(), 402, "term_over", message);
    });

    it("tells who can renew it of a license whose term is over, and not before", async () => {
      const longest = 32;
      setLicense({ expiresAt: chain.time + longest, renewal: "called" });
      await refusalOf(chat());
      expect(await store.renewals.take()).to.deep.equal([]);
      setLicense({ expiresAt: chain.time });
      await gateway.refresh(1n);
      await refusalOf(chat());
      expect(await store.renewals.take()).to.deep.equal([1n]);
    });

    it("serves a license that renews by itself beyond its term", async () => {
      setLicense({ expiresAt: chain.time - 1, renewal: "settled" });
      expect((await chat()).choices).to.have.length(1);
    });

    it("refuses a model of another asset than the plan's", async () => {
      const attempt = chat({ model: "other" });
      await expectRefusal(attempt, 403, "wrong_model", "license 1 is for asset 5, model other is asset 6");
    });

    describe("when its plan demands proven answers", () => {
      const digits = { model: "writer", input: [1, 2, 3] };
      const classify = async () => {
        const response = await fetch(gateway.url + CLASSIFICATIONS_PATH, {
          method: "POST",
          headers: { "content-type": "application/json", authorization: `Bearer ${keyFor()}` },
          body: JSON.stringify(digits),
        });
        const { error } = (await response.json()) as { error: { code: string; message: string } };
        return { status: response.status, ...error };
      };
      const serveWith = async (changes: Partial<ModelConfig>) => {
        gateway = await start({ models: config().models.map((model) => ({ ...model, ...changes })) });
      };

      beforeEach(() => {
        chain.plans.set(PLAN_ID, { ...chain.plans.get(PLAN_ID)!, minEvidenceTier: Tier.proven });
      });

      it("refuses what can't be proven, and says where to ask", async () => {
        await serveWith({ hasVerifier: true, keepInputs: true });
        const demand = `plan ${PLAN_ID} of license 1 demands proven answers`;
        const sentence = `${demand}, and this one couldn't be proven: ask at /v1/classifications`;
        await expectRefusal(chat(), 403, "proof_demanded", sentence);
        expect(upstream.received).to.deep.equal([]);
      });

      it("refuses classifications of a version without a verifier, or whose inputs aren't kept", async () => {
        await serveWith({ keepInputs: true });
        const unverified = await classify();
        expect(unverified).to.include({ status: 503, code: "proof_impossible" });
        expect(unverified.message).to.contain(
          `version ${VERSION_ID} of model writer names no verifier: have the operator`,
        );
        await serveWith({ hasVerifier: true });
        const unkept = await classify();
        expect(unkept).to.include({ status: 503, code: "proof_impossible" });
        expect(unkept.message).to.contain(`the gateway keeps no inputs of model writer ("keepInputs")`);
      });

      it("refuses more than can be proven, until some have been", async () => {
        await serveWith({ hasVerifier: true, keepInputs: true });
        const asked: number[] = [];
        let isBehind = true;
        store.proofs.hasUnproven = async (lane, count) => {
          expect(lane).to.deep.equal({ operatorId: OPERATOR_ID, planId: PLAN_ID, versionId: VERSION_ID });
          asked.push(count);
          return isBehind;
        };
        const refused = await classify();
        expect(refused).to.include({ status: 503, code: "proof_backlog" });
        expect(refused.message).to.contain(`1000 answers of plan ${PLAN_ID} wait for proofs`);
        expect(upstream.received).to.deep.equal([]);
        isBehind = false;
        await classify();
        expect(upstream.received).to.have.length(1);
        expect(asked).to.deep.equal([1_000, 1_000]);
      });

      it("lets classifications pass that can be proven, and all that vouchers pay", () => {
        const license = chain.licenses.get(1n)!;
        const plan = chain.plans.get(PLAN_ID)!;
        const [model] = config().models;
        const provable = { ...model, hasVerifier: true, keepInputs: true };
        expect(() => requireProvable(license, plan, provable, "classification")).not.to.throw();
        expect(() => requireProvable({ ...license, onVoucherRoad: true }, plan, model, "chat")).not.to.throw();
        expect(() => requireProvable(license, { ...plan, minEvidenceTier: Tier.cpuTee }, model, "chat")).not.to.throw();
        expect(() => requireProvable(license, plan, provable, "embeddings")).to.throw(
          ApiError,
          /demands proven answers/,
        );
      });
    });

    it("refuses a recalled version when a request may be done after it", async () => {
      const longest = 32;
      chain.versions.get(VERSION_ID)!.usableUntil = chain.time + longest + 1;
      gateway = await start({ licenseCacheMs: 0 });
      expect((await chat()).choices).to.have.length(1);
      chain.versions.get(VERSION_ID)!.usableUntil = chain.time + longest;
      const message = "recalled by its publisher and isn't served beyond 2023-11-14T22:13:52.000Z: use another";
      await expectRefusal(chat(), 403, "model_recalled", message);
    });

    it("refuses everybody if the chain has batches that its store lacks, for their receipts would repeat numbers", async () => {
      chain.lane = async () => ({ sequence: 3n, epochStart: 0, epochEnd: 0 });
      const message = "this gateway's store knows batches up to 0, and the chain has 3: its operator must restore";
      await expectRefusal(chat(), 503, "store_outdated", message);
      expect(upstream.received).to.deep.equal([]);
    });

    it("sends nothing that it refuses to the model, and writes no receipt of it", async () => {
      await refusalOf(chat({}, client(keyFor({ generation: 2 }))));
      expect(upstream.received).to.deep.equal([]);
      expect(await receipts()).to.deep.equal([]);
    });

    it("follows a change of the license when it is told to", async () => {
      await chat();
      setLicense({ generation: 2 });
      expect((await chat()).choices).to.have.length(1);
      await gateway.refresh(1n);
      await expectRefusal(chat(), 401, "grant_ended", "generation");
    });

    it("follows a change of the license by itself soon after", async () => {
      gateway = await start({ licenseCacheMs: 20 });
      await chat();
      setLicense({ owner: STRANGER.address });
      await wait(30);
      await expectRefusal(chat(), 401, "wrong_signature", "isn't signed by the owner");
    });

    it("serves on by what it last knew while the chain is halted", async () => {
      gateway = await start({ licenseCacheMs: 0 });
      await chat();
      chain.isHalted = true;
      expect((await chat()).choices).to.have.length(1);
      await expectRefusal(chat({}, client(keyFor({ licenseId: 9n }))), 503, "chain_unreadable", "try again");
      expect(logged.join()).to.contain("chain unreadable, serving by its last known state");
    });
  });

  describe("when its signing key ends", () => {
    beforeEach(async () => {
      gateway = await start({ licenseCacheMs: 20 });
      await chat();
      await wait(30);
    });

    const expectNoService = async () => {
      const problem = `receipts by this gateway's key ${OPERATOR_KEY.address} wouldn't count: operator 2 must register it`;
      await expectRefusal(chat(), 503, "signing_key_invalid", problem);
      expect(upstream.received).to.have.length(1);
      const errors = logged.map((line) => JSON.parse(line)).filter(({ level }) => level === "error");
      expect(errors[0]).to.include({ address: OPERATOR_KEY.address, operatorId: OPERATOR_ID });
    };

    it("serves nobody if it was revoked", async () => {
      chain.signingKeys.set(OPERATOR_ID, []);
      await expectNoService();
    });

    it("serves nobody whose receipt might be signed after its end", async () => {
      const longest = 32;
      chain.keysExpireAt = chain.time + longest + 1;
      await chat();
      upstream.received.pop();
      chain.keysExpireAt = chain.time + longest;
      await wait(30);
      await expectNoService();
    });
  });

  describe("while the chain hangs", () => {
    beforeEach(async () => {
      gateway = await start({ licenseCacheMs: 0, chainTimeoutMs: 40 });
      await chat();
      chain.isHanging = true;
    });

    it("serves on by what it last knew", async () => {
      expect((await chat()).choices).to.have.length(1);
      expect(logged.join()).to.contain("serving by its last known state").and.to.contain("no answer within 40 ms");
    });

    it("answers 503 to whom it knows nothing about", async () => {
      const stranger = client(keyFor({ licenseId: 9n }));
      await expectRefusal(chat({}, stranger), 503, "chain_unreadable", "try again");
    });

    it("answers 503 if it can't check a signature", async () => {
      chain.isHanging = false;
      chain.isSignatureOf = () => new Promise(() => {});
      await expectRefusal(chat({}, client(keyFor({ salt: saltFrom(MANIFEST) }))), 503, "chain_unreadable", "try again");
    });

    it("waits for it once, and then goes on trying without anybody's waiting", async () => {
      chain.isHanging = false;
      gateway = await start({ licenseCacheMs: 20, chainTimeoutMs: 300 });
      await chat();
      const license = chain.license.bind(chain);
      chain.license = () => new Promise(() => {});
      await wait(30);
      await chat();
      for (let i = 0; i < 5; i++) {
        await wait(30);
        const startedAt = performance.now();
        await chat();
        expect(performance.now() - startedAt).to.be.below(200);
      }
      chain.license = license;
      setLicense({ generation: 2 });
      await wait(400);
      await chat().catch(() => undefined);
      await wait(30);
      await expectRefusal(chat(), 401, "grant_ended", "the license's is 2");
    });

    it("forgets what it says too late", async () => {
      chain.isHanging = false;
      gateway = await start({ chainTimeoutMs: 40 });
      const license = chain.license.bind(chain);
      const outdated = await license(1n);
      let answerLate: (state: typeof outdated) => void = () => {};
      chain.license = () => new Promise((resolve) => (answerLate = resolve));
      expect(await gateway.refresh(1n).catch((cause: Error) => cause.message)).to.equal("no answer within 40 ms");
      chain.license = license;
      setLicense({ generation: 2 });
      await gateway.refresh(1n);
      answerLate(outdated);
      await wait(10);
      await expectRefusal(chat(), 401, "grant_ended", "the license's is 2");
    });
  });

  describe("a body that doesn't come", () => {
    /** Sends a request's head and a byte of its body, and gives what comes back until the connection ends. */
    function begin(authorization: string): { answer: Promise<string>; socket: Socket } {
      const { port } = new URL(gateway.url);
      const socket = connect(Number(port), "127.0.0.1");
      socket.write(
        `POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: ${authorization}\r\nContent-Length: 9000\r\n\r\n{`,
      );
      const seen: Buffer[] = [];
      socket.on("data", (piece) => seen.push(piece));
      return { answer: once(socket, "close").then(() => Buffer.concat(seen).toString()), socket };
    }

    it("isn't waited for where the key is no good", async () => {
      const { socket, answer } = begin("Bearer nonsense");
      await once(socket, "data");
      socket.destroy();
      expect(await answer).to.match(/^HTTP\/1.1 401 /);
    });

    it("isn't waited for longer than it may take", async () => {
      gateway = await start({ receiveTimeoutMs: 100 });
      const { answer } = begin(`Bearer ${keyFor()}`);
      expect(await answer).to.match(/^HTTP\/1.1 408 /);
    });
  });

  describe("what it understands", () => {
    it("refuses a body that isn't JSON", async () => {
      const { statusCode, text } = await post('{"model":');
      expect(statusCode).to.equal(400);
      expect(JSON.parse(text).error).to.include({ code: "invalid_json", type: "invalid_request_error" });
      expect((await post("[1]")).text).to.contain("must be a JSON object");
      expect((await post("")).statusCode).to.equal(400);
    });

    it("refuses a body that isn't UTF-8, whose repair would make it longer", async () => {
      const [before, after] = JSON.stringify({ model: "writer", messages: [{ role: "user", content: "|" }] }).split(
        "|",
      );
      const { statusCode, text } = await post(
        Buffer.concat([Buffer.from(before), Buffer.from([0xff]), Buffer.from(after)]),
      );
      expect(statusCode).to.equal(400);
      expect(JSON.parse(text).error).to.include({ code: "invalid_json" });
      expect(upstream.received).to.deep.equal([]);
    });

    it("refuses a body above its limit", async () => {
      const { statusCode, text } = await post(JSON.stringify({ model: "writer", junk: "x".repeat(30_000) }));
      expect(statusCode).to.equal(413);
      expect(JSON.parse(text).error.type).to.equal("invalid_request_error");
    });

    it("refuses an unknown model and names those that it has", async () => {
      await expectRefusal(chat({ model: "gpt-99" }), 404, "model_not_found", "these are: writer, other");
    });

    it("refuses an unknown address", async () => {
      expect((await post("{}", { path: "/v1/images/generations" })).statusCode).to.equal(404);
    });

    const absurd: [string, object, string][] = [
      ["more tokens than the ceiling", { max_tokens: 1e15 }, "max_tokens: must be a whole number from 1 to 1000"],
      ["no tokens", { max_completion_tokens: 0 }, "max_completion_tokens: must be"],
      ["a fraction of a token", { max_tokens: 1.5 }, "max_tokens: must be"],
      ["tokens as text", { max_tokens: "many" }, 'not "many"'],
      ["too many answers", { n: 5 }, "n: must be a whole number from 1 to 4"],
      ["a stream that is neither true nor false", { stream: "yes" }, "stream: must be true or false"],
      ["no messages", { messages: [] }, "messages: send at least one message"],
      ["messages that aren't objects", { messages: ["hi"] }, "every message must be an object"],
      ["pictures", { messages: [{ role: "user", content: [{ type: "image_url" }] }] }, "only text is served"],
      ["no model", { model: 7 }, "model: name a model"],
    ];
    for (const [what, change, message] of absurd) {
      it(`refuses ${what}`, async () => {
        const { statusCode, text } = await post(JSON.stringify({ model: "writer", messages: MESSAGES, ...change }));
        expect(statusCode).to.equal(400);
        expect(JSON.parse(text).error).to.include({ code: "invalid_parameter" });
        expect(JSON.parse(text).error.message).to.contain(message);
      });
    }

    const TEXT = { path: "/v1/completions" };

    it("refuses more prompts than it gives answers", async () => {
      const body = JSON.stringify({ model: "writer", prompt: ["a", "b", "c"], n: 2 });
      expect((await post(body, TEXT)).text).to.contain("at most 4 answers");
    });

    it("refuses prompts that are neither text nor tokens", async () => {
      const body = JSON.stringify({ model: "writer", prompt: [{ prompt_string: "a", multimodal_data: ["b"] }] });
      expect((await post(body, TEXT)).text).to.contain("every prompt must be a text or a list of tokens");
    });

    it("counts answers that are made and not shown", async () => {
      const body = (best_of: number) => JSON.stringify({ model: "writer", prompt: "a", best_of });
      expect((await post(body(5), TEXT)).text).to.contain("best_of: must be a whole number from 1 to 4");
      await setBalance(BigInt(body(4).length) + 10n + 399n);
      expect((await post(body(4), TEXT)).statusCode).to.equal(402);
    });

    const boundless: [string, string, unknown][] = [
      ["/v1/chat/completions", "n_predict", 5_000],
      ["/v1/chat/completions", "best_of", 4],
      ["/v1/chat/completions", "lora", [{ id: 0, scale: 1 }]],
      ["/v1/chat/completions", "chat_template", "{{ messages * 99 }}"],
      ["/v1/chat/completions", "kv_transfer_params", {}],
      ["/v1/chat/completions", "modalities", ["audio"]],
      ["/v1/completions", "prompt_embeds", "AAAA"],
      ["/v1/completions", "max_completion_tokens", 5],
      ["/v1/completions", "n_predict", null],
    ];
    for (const [path, name, value] of boundless) {
      it(`refuses ${name} at ${path}, which might get around a bound`, async () => {
        const prompt = path === TEXT.path ? { prompt: "a" } : { messages: MESSAGES };
        const body = JSON.stringify({ model: "writer", ...prompt, max_tokens: 1, [name]: value });
        const { statusCode, text } = await post(body, { path });
        expect(statusCode).to.equal(400);
        expect(JSON.parse(text).error).to.include({ code: "invalid_parameter", param: name });
        expect(upstream.received).to.deep.equal([]);
      });
    }

    it("passes what samples, shapes and labels an answer on", async () => {
      const sampling = { temperature: 1, top_p: 0.9, top_k: 40, min_p: 0.1, repetition_penalty: 1.1, seed: 7 };
      const shape = { stop: ["."], tools: [{ type: "function", function: { name: "f" } }], tool_choice: "auto" };
      const sent = { model: "writer", messages: MESSAGES, max_tokens: 9, ...sampling, ...shape, metadata: { a: "b" } };
      expect((await post(JSON.stringify(sent))).statusCode).to.equal(200);
      expect(upstream.received[0].body).to.deep.equal(sent);
    });

    it("takes requests as they are and bounds their tokens where the client didn't", async () => {
      await chat({ temperature: 0.5 });
      await chat({ max_completion_tokens: 7 });
      const [unbounded, bounded] = upstream.received.map(({ body }) => body);
      expect(unbounded).to.deep.equal({ model: "writer", messages: MESSAGES, temperature: 0.5, max_tokens: 100 });
      const both = { max_completion_tokens: 7, max_tokens: 7 };
      expect(bounded).to.deep.equal({ model: "writer", messages: MESSAGES, ...both });
    });

    it("calls the model by the upstream's name", async () => {
      chain.plans.get(PLAN_ID)!.assetId = 6;
      await chat({ model: "other" });
      expect(upstream.received[0].body.model).to.equal("other-v2");
    });

    it("lists its models", async () => {
      const { data } = await client().models.list();
      expect(data.map(({ id }) => id)).to.deep.equal(["writer", "other"]);
    });
  });

  describe("a whole answer", () => {
    it("comes to the client byte for byte", async () => {
      const { text, headers } = await post(JSON.stringify({ model: "writer", messages: MESSAGES }));
      expect(JSON.parse(text)).to.have.nested.property("choices[0].message.content", "You may copy this.");
      expect(headers["x-licet-receipt-id"]).to.equal((await onlyReceipt()).requestId);
    });

    it("has a receipt that says everything and is signed by the operator", async () => {
      const body = JSON.stringify({ model: "writer", messages: MESSAGES });
      const { text } = await post(body);
      const receipt = await onlyReceipt();
      const { salt } = grantWith();
      expect(receipt).to.deep.include({
        licenseId: 1n,
        operatorId: OPERATOR_ID,
        planId: PLAN_ID,
        manifestHash: MANIFEST,
        generation: 1,
        grantHash: grantDigest(DOMAIN, grantWith()),
        sequence: 1n,
        previousHash: ZeroHash,
        requestHash: saltedHash(salt, Buffer.from(body)),
        responseHash: saltedHash(salt, Buffer.from(text)),
        requestSignatureHash: ZeroHash,
        finishedAt: chain.time,
        requests: 1n,
        inputTokens: 30n,
        cachedInputTokens: 0n,
        outputTokens: 4n,
        flags: 0,
      });
      const { signature, hash } = (await store.receipts.ofRequest(receipt.requestId))!;
      expect(hash).to.equal(receiptDigest(DOMAIN, receipt));
      expect(recoverSigner(hash, signature)).to.equal(OPERATOR_KEY.address);
      expect(await store.tallies.unsettled(1n)).to.equal(34n);
    });

    it("is measured in time", async () => {
      upstream.script = whole({ delayMs: 60 });
      await chat();
      const { durationMs, ttftMs, computeMs } = await onlyReceipt();
      expect(durationMs).to.be.within(55, 2_000);
      expect(ttftMs).to.be.within(55, durationMs);
      expect(computeMs >= 55n && computeMs <= BigInt(durationMs)).to.equal(true);
    });

    it("takes cached tokens out of the input", async () => {
      const cached = { ...USAGE, prompt_tokens_details: { cached_tokens: 20 } };
      upstream.script = whole({ extra: { usage: cached } });
      await chat();
      expect(await onlyReceipt()).to.include({ inputTokens: 10n, cachedInputTokens: 20n });
    });

    it("takes compute time and cached tokens from llama.cpp's timings, times the replica's GPUs", async () => {
      gateway = await start({ models: [{ ...writer(), upstreams: [{ url: upstream.url, gpus: 4 }] }] });
      upstream.script = whole({
        extra: { usage: USAGE, timings: { cache_n: 12, prompt_ms: 10.2, predicted_ms: 20.1 } },
      });
      await chat();
      expect(await onlyReceipt()).to.include({ cachedInputTokens: 12n, inputTokens: 18n, computeMs: 4n * 31n });
    });

    it("can't be charged beyond what the request allows, whatever the upstream says", async () => {
      const absurdUsage = {
        prompt_tokens: 1_000_000,
        completion_tokens: 5_000_000,
        prompt_tokens_details: { cached_tokens: 9_000_000 },
      };
      upstream.script = whole({ extra: { usage: absurdUsage, timings: { prompt_ms: 1e9, predicted_ms: 1e9 } } });
      const body = JSON.stringify({ model: "writer", messages: MESSAGES, max_tokens: 40, n: 2 });
      await post(body);
      expect(await onlyReceipt()).to.include({
        inputTokens: 0n,
        cachedInputTokens: BigInt(body.length + 10),
        outputTokens: 80n,
        computeMs: 2_000n,
      });
    });

    it("is estimated by the model's tokenizer if the upstream reports no use", async () => {
      upstream.script = whole({ extra: {} });
      upstream.tokenizer = (text) => text.split(" ").length;
      await chat();
      expect(await onlyReceipt()).to.include({ inputTokens: 4n, outputTokens: 4n, flags: ReceiptFlag.estimated });
    });

    it("is served for plain prompts, too", async () => {
      const { choices } = await client().completions.create({ model: "writer", prompt: "May I?" });
      expect(choices[0].text).to.equal("You may copy this.");
      expect(upstream.received[0].path).to.equal("/v1/completions");
      expect(await onlyReceipt()).to.include({ inputTokens: 30n, outputTokens: 4n });
    });
  });

  describe("a stream", () => {
    beforeEach(() => {
      upstream.script = streaming();
    });

    it("comes to the client as the upstream sends it, without the usage that wasn't asked for", async () => {
      const chunks = await chatStream();
      expect(chunks.map(({ choices }) => choices[0].delta.content ?? "").join("")).to.equal("You may copy this.");
      expect(chunks.some((chunk) => chunk.usage)).to.equal(false);
      expect(upstream.received[0].body).to.deep.include({ stream: true, stream_options: { include_usage: true } });
      expect(await onlyReceipt()).to.include({ requests: 1n, inputTokens: 30n, outputTokens: 4n, flags: 0 });
    });

    it("keeps the usage for a client that asked for it", async () => {
      const chunks = await chatStream({ stream_options: { include_usage: true } });
      expect(chunks[chunks.length - 1].usage).to.deep.equal(USAGE);
    });

    it("is passed on byte for byte, comments and line ends included, and hashed as sent", async () => {
      const preamble = `: keep alive\r\n\r\nevent: message\nid: 7\n${eventOf({ choices: [] })}`;
      upstream.script = streaming({ preamble, words: ["ÿ€😀"] });
      const { text, headers } = await post(JSON.stringify({ model: "writer", messages: MESSAGES, stream: true }));
      const expected =
        preamble +
        eventOf({ choices: [{ index: 0, delta: { content: "ÿ€😀" }, finish_reason: null }] }) +
        eventOf({ choices: [{ index: 0, delta: {}, finish_reason: "stop" }] }) +
        "data: [DONE]\n\n";
      expect(text).to.equal(expected);
      expect(headers["content-type"]).to.equal("text/event-stream; charset=utf-8");
      expect(headers["x-licet-receipt-id"]).to.equal((await onlyReceipt()).requestId);
      expect((await onlyReceipt()).responseHash).to.equal(keccak256(concat([grantWith().salt, Buffer.from(expected)])));
    });

    it("comes promptly, and is measured to its first token and its end", async () => {
      upstream.script = streaming({ delayMs: 50 });
      const stream = await client().chat.completions.create({ model: "writer", messages: MESSAGES, stream: true });
      const arrivals = [];
      for await (const { choices } of stream) arrivals.push({ choices, at: performance.now() });
      expect(arrivals[arrivals.length - 1].at - arrivals[0].at).to.be.above(120);
      const { ttftMs, durationMs } = await onlyReceipt();
      expect(ttftMs).to.be.within(45, durationMs - 120);
    });

    it("has its receipt on disk before the client sees its end", async () => {
      let isWritten = false;
      const finishRequest = store.requests.finish.bind(store);
      store.requests.finish = async (...args) => {
        await wait(50);
        const stored = await finishRequest(...args);
        isWritten = true;
        return stored;
      };
      const { body } = await request(`${gateway.url}/v1/chat/completions`, {
        method: "POST",
        headers: { "content-type": "application/json", authorization: `Bearer ${keyFor()}` },
        body: JSON.stringify({ model: "writer", messages: MESSAGES, stream: true }),
      });
      const seen = [];
      for await (const piece of body) seen.push({ isEnd: String(piece).includes("[DONE]"), isWritten });
      expect(seen.filter(({ isEnd }) => isEnd)).to.deep.equal([{ isEnd: true, isWritten: true }]);
      expect(seen[0]).to.deep.equal({ isEnd: false, isWritten: false });
    });

    it("counts by the tokenizer where the upstream reports no usage, else by chunks", async () => {
      upstream.script = streaming({ usage: null });
      upstream.tokenizer = (text) => text.length;
      await chatStream();
      upstream.tokenizer = null;
      await chatStream();
      const [byTokenizer, byChunks] = await receipts();
      expect(byTokenizer).to.include({ inputTokens: 16n, outputTokens: 18n, flags: ReceiptFlag.estimated });
      expect(byChunks).to.include({ outputTokens: 4n, flags: ReceiptFlag.estimated });
    });

    it("counts what was delivered when the client hangs up, and stops the upstream", async () => {
      upstream.script = streaming({ words: Array.from({ length: 100 }, () => "word "), delayMs: 20 });
      upstream.tokenizer = (text) => text.trim().split(" ").length;
      const stream = await client().chat.completions.create({ model: "writer", messages: MESSAGES, stream: true });
      const taken = [];
      for await (const chunk of stream) if (taken.push(chunk) === 3) break;
      const receipt = await untilReceipt();
      expect(receipt.flags).to.equal(ReceiptFlag.cancelled | ReceiptFlag.estimated);
      expect(receipt).to.include({ requests: 1n, inputTokens: 4n });
      expect(receipt.outputTokens >= 3n && receipt.outputTokens < 100n).to.equal(true);
      await untilHungUp();
    });

    it("that takes too long is cut with an error, and charged as far as it was delivered", async () => {
      gateway = await start({ requestTimeoutMs: 400 });
      upstream.script = streaming({ words: Array.from({ length: 100 }, () => "word "), delayMs: 20 });
      const error = await chatStream().catch((cause: Error) => cause);
      expect(error).to.have.property("message").that.contains("took too long: ask for fewer tokens");
      const receipt = await onlyReceipt();
      expect(receipt).to.include({ requests: 1n, flags: ReceiptFlag.estimated });
      expect(receipt.outputTokens > 0n && receipt.outputTokens < 25n).to.equal(true);
    });

    it("costs nothing when the time is up before its first word", async () => {
      gateway = await start({ requestTimeoutMs: 400 });
      upstream.script = streaming({ delayMs: 800 });
      expect(await chatStream().catch((cause: Error) => cause)).to.be.instanceOf(APIError);
      expect(await onlyReceipt()).to.include({ requests: 0n, flags: ReceiptFlag.upstreamError });
    });

    it("that its client doesn't read is charged when the time is up", async () => {
      gateway = await start({ requestTimeoutMs: 300 });
      upstream.script = streaming({ words: Array.from({ length: 400 }, () => "word ".repeat(10_000)) });
      const { body } = await request(`${gateway.url}/v1/chat/completions`, {
        method: "POST",
        headers: { "content-type": "application/json", authorization: `Bearer ${keyFor()}` },
        body: JSON.stringify({ model: "writer", messages: MESSAGES, stream: true }),
      });
      const receipt = await untilReceipt();
      expect(receipt.requests).to.equal(1n);
      expect(receipt.outputTokens > 0n && receipt.outputTokens <= 100n).to.equal(true);
      body.destroy();
    });
  });

  describe("when the upstream fails", () => {
    it("answers 503 and owes nothing if it can't be reached", async () => {
      gateway = await start({ models: [writer(NOWHERE)] });
      await setBalance(WORST);
      await expectRefusal(chat(), 503, "upstream_unreachable", "model writer can't be reached");
      expect(await receipts()).to.deep.equal([]);
      expect(await store.requests.running()).to.deep.equal([]);
      await expectRefusal(chat(), 503, "upstream_unreachable", "model writer can't be reached");
    });

    it("passes an error of the upstream's on, with a receipt of zero use", async () => {
      upstream.script = failing(418, { error: { message: "I am a teapot", type: "kettle", code: "tea" } });
      const error = await expectRefusal(chat(), 418, "tea", "I am a teapot");
      const receipt = await onlyReceipt();
      expect(receipt).to.include({ requests: 0n, inputTokens: 0n, computeMs: 0n, flags: ReceiptFlag.upstreamError });
      expect(error.headers?.get("x-licet-receipt-id")).to.equal(receipt.requestId);
    });

    it("passes an error to a request for a stream on", async () => {
      upstream.script = failing(400, { error: { message: "context too long" } });
      expect((await refusalOf(chatStream())).status).to.equal(400);
      expect((await onlyReceipt()).flags).to.equal(ReceiptFlag.upstreamError);
    });

    for (const [what, script] of [["hangs up", hangingUp] as const, ["talks nonsense", babbling] as const]) {
      it(`answers 502 for nothing if it ${what}`, async () => {
        upstream.script = script;
        await expectRefusal(chat(), 502, "upstream_failed", "this request costs nothing");
        expect(await onlyReceipt()).to.include({ requests: 0n, flags: ReceiptFlag.upstreamError });
      });
    }

    it("answers 504 for nothing if it takes too long", async () => {
      gateway = await start({ requestTimeoutMs: 50 });
      upstream.script = silent;
      await expectRefusal(chat(), 504, "upstream_timeout", "ask for fewer tokens");
      expect(await onlyReceipt()).to.include({ requests: 0n, computeMs: 0n, flags: ReceiptFlag.upstreamError });
    });

    it("charges a client that hangs up while it waits for its prompt only", async () => {
      upstream.script = silent;
      upstream.tokenizer = (text) => text.length;
      const controller = new AbortController();
      const attempt = client().chat.completions.create(
        { model: "writer", messages: MESSAGES },
        { signal: controller.signal },
      );
      for (let i = 0; upstream.received.length === 0 && i < 200; i++) await wait(10);
      controller.abort();
      await attempt.catch(() => undefined);
      const receipt = await untilReceipt();
      expect(receipt).to.include({ requests: 1n, inputTokens: 16n, outputTokens: 0n, ttftMs: 0 });
      expect(receipt.flags).to.equal(ReceiptFlag.cancelled | ReceiptFlag.estimated);
      await untilHungUp();
    });
  });

  describe("when a client hangs up before its request is sent on", () => {
    it("sends nothing to the model and owes nothing", async () => {
      chain.latencyMs = 60;
      const openai = client();
      const controller = new AbortController();
      const attempt = openai.chat.completions.create(
        { model: "writer", messages: MESSAGES },
        { signal: controller.signal },
      );
      setTimeout(() => controller.abort(), 20);
      await attempt.catch(() => undefined);
      await wait(100);
      expect(upstream.received).to.deep.equal([]);
      expect(await receipts()).to.deep.equal([]);
      expect(await store.requests.running()).to.deep.equal([]);
      await setBalance(WORST);
      expect((await chat()).choices).to.have.length(1);
    });
  });

  describe("when the store fails", () => {
    const diskFull = () => Promise.reject(new Error("disk full"));

    it("gives no answer that it has no receipt of", async () => {
      await setBalance(2n * WORST + 20n);
      const { finish } = store.requests;
      store.requests.finish = diskFull;
      await expectRefusal(chat(), 500, "receipt_not_stored", "this request costs nothing");
      upstream.script = streaming();
      const body = JSON.stringify({ model: "writer", messages: MESSAGES, stream: true });
      expect((await post(body)).text)
        .to.contain("receipt_not_stored")
        .and.not.to.contain("[DONE]");
      upstream.script = whole();
      await expectRefusal(chat(), 429, "reserved_by_running_requests", "try again");
      store.requests.finish = finish;
      for (let i = 0; i < 500 && (await store.requests.running()).length > 0; i++) await wait(10);
      expect((await receipts()).map(({ flags }) => flags)).to.deep.equal([
        ReceiptFlag.recovered,
        ReceiptFlag.recovered,
      ]);
      expect((await chat()).choices).to.have.length(1);
    });

    it("keeps no grant on disk that nothing was served under", async () => {
      const served = grantWith({ salt: saltFrom(MANIFEST) });
      await setBalance(WORST - 1n);
      await expectRefusal(chat(), 402, "balance_exceeded", "deposit to it");
      expect(await store.grants.find(grantDigest(DOMAIN, grantWith()))).to.equal(null);
      await setBalance(WORST);
      await chat({}, client(keyFor(served)));
      expect((await store.grants.find(grantDigest(DOMAIN, served)))?.grant).to.deep.equal(served);
    });

    it("gives back what was set aside if it can't write a grant down", async () => {
      await setBalance(WORST);
      const { save } = store.grants;
      store.grants.save = () => {
        throw new Error("disk full");
      };
      await expectRefusal(chat(), 500, "request_not_stored", "wasn't sent on");
      store.grants.save = save;
      expect((await chat()).choices).to.have.length(1);
    });

    it("sends nothing to the model that it couldn't write down before", async () => {
      await setBalance(WORST);
      const { open } = store.requests;
      store.requests.open = diskFull;
      await expectRefusal(chat(), 500, "request_not_stored", "wasn't sent on");
      expect(upstream.received).to.deep.equal([]);
      store.requests.open = open;
      expect((await chat()).choices).to.have.length(1);
    });
  });

  describe("money", () => {
    it("must cover the worst case before a request is served", async () => {
      setLicense({ balance: WORST - 1n });
      const refusal = `the request may cost up to ${WORST} units; license 1 has ${WORST - 1n} left: deposit to it`;
      await expectRefusal(chat(), 402, "balance_exceeded", refusal);
      setLicense({ balance: WORST });
      await gateway.refresh(1n);
      expect((await chat()).choices).to.have.length(1);
    });

    it("that is thawing, or that the last term may still cost, doesn't count", async () => {
      setLicense({ balance: WORST + 6n, thawing: 3n, owed: 4n });
      const left = `has ${WORST - 1n} left, and 3 on their way out, and 4 that its last term may still cost: deposit`;
      await expectRefusal(chat(), 402, "balance_exceeded", left);
      setLicense({ thawing: 2n });
      await gateway.refresh(1n);
      expect((await chat()).choices).to.have.length(1);
    });

    it("is held to the cap of the term", async () => {
      setLicense({ cap: WORST + 99n, spent: 100n });
      await expectRefusal(chat(), 402, "cap_exceeded", `may spend ${WORST - 1n} more in this term`);
    });

    it("is held to the grant's cap over all of its requests, also after a restart", async () => {
      const capped = client(keyFor({ cap: WORST + 40n }));
      await chat({}, capped);
      await chat({}, capped);
      await expectRefusal(chat({}, capped), 402, "grant_exceeded", `the grant may spend ${WORST - 28n} more`);
      gateway = await start();
      const restarted = client(keyFor({ cap: WORST + 40n }));
      await expectRefusal(chat({}, restarted), 402, "grant_exceeded", `the grant may spend ${WORST - 28n} more`);
    });

    it("that is owed and not settled stays counted, also after a restart", async () => {
      setLicense({ balance: WORST + 10n });
      await chat();
      await expectRefusal(chat(), 402, "balance_exceeded", `has ${WORST - 24n} left`);
      gateway = await start();
      await expectRefusal(chat(), 402, "balance_exceeded", `has ${WORST - 24n} left`);
    });

    it("is released when a batch has settled and the license is read anew", async () => {
      setLicense({ balance: WORST + 10n });
      await chat();
      const lane = { operatorId: OPERATOR_ID, planId: PLAN_ID, versionId: VERSION_ID };
      await store.unbatched.void(lane, { epochStart: 0, epochEnd: chain.time + 1 });
      await gateway.refresh(1n);
      expect((await chat()).choices).to.have.length(1);
    });

    it("that a request costs counts even if it ends while the license is being read", async () => {
      await setBalance(WORST + 10n);
      upstream.script = whole({ delayMs: 50 });
      const running = chat();
      await wait(20);
      chain.latencyMs = 100;
      await gateway.refresh(1n);
      await running;
      await expectRefusal(chat(), 402, "balance_exceeded", `has ${WORST - 24n} left`);
    });

    it("isn't freed twice when a license is read twice at once after a settlement", async () => {
      setLicense({ balance: WORST + 10n });
      await chat();
      await store.unbatched.void(
        { operatorId: OPERATOR_ID, planId: PLAN_ID, versionId: VERSION_ID },
        { epochStart: 0, epochEnd: chain.time + 1 },
      );
      chain.latencyMs = 20;
      await Promise.all([gateway.refresh(1n), gateway.refresh(1n), gateway.refresh(1n)]);
      const refusal = `has ${WORST + 10n} left`;
      await expectRefusal(chat({ max_tokens: 1_000 }), 402, "balance_exceeded", refusal);
    });

    it("isn't spent twice when a settlement comes between a request's arrival and its admission", async () => {
      gateway = await start({ licenseCacheMs: 20 });
      await setBalance(WORST + 10n);
      await chat();
      await wait(30);
      const version = chain.version.bind(chain);
      chain.version = (id) => wait(100).then(() => version(id));
      const racing = chat().catch((cause: Error) => cause);
      await wait(50);
      await store.unbatched.void(
        { operatorId: OPERATOR_ID, planId: PLAN_ID, versionId: VERSION_ID },
        { epochStart: 0, epochEnd: chain.time + 1 },
      );
      await setBalance(WORST - 24n);
      expect(await racing).to.have.property("code", "balance_exceeded");
    });

    it("enough for one of two racing requests serves one, and the other when it tries again", async () => {
      setLicense({ balance: WORST + 34n });
      upstream.script = whole({ delayMs: 200 });
      const results = await Promise.allSettled([chat(), chat()]);
      const refused = results.filter((result) => result.status === "rejected");
      expect(refused).to.have.length(1);
      expect(refused[0].reason).to.include({ status: 429, code: "reserved_by_running_requests" });
      expect(refused[0].reason.headers.get("retry-after")).to.equal("1");
      expect(upstream.received).to.have.length(1);
      expect((await chat()).choices).to.have.length(1);
    });
  });

  describe("the operator's stake", () => {
    const OTHERS: Partial<Grant> = { licenseId: 2n };

    beforeEach(async () => {
      chain.licenses.set(2n, { ...chain.licenses.get(1n)!, licenseId: 2n });
    });

    async function setHeadroom(units: bigint): Promise<void> {
      chain.stakeHeadroom = units;
      await gateway.refresh(1n);
    }

    it("must secure the worst case before a request is served, and the log says if it doesn't", async () => {
      await setHeadroom(WORST - 1n);
      const refusal = `may cost up to ${WORST} units, and operator 2 has stake for ${WORST - 1n} more: try again later`;
      const error = await expectRefusal(chat(), 503, "stake_exceeded", refusal);
      expect(error.headers?.get("retry-after")).to.equal("60");
      expect(logged.join()).to.contain("stake doesn't secure more: add to it, or release batches");
      expect(upstream.received).to.deep.equal([]);
      await setHeadroom(WORST);
      expect((await chat()).choices).to.have.length(1);
    });

    it("is counted over all licenses: what they owe, also after a restart, and what runs", async () => {
      await setHeadroom(WORST + 33n);
      await chat();
      await expectRefusal(chat({}, client(keyFor(OTHERS))), 503, "stake_exceeded", `stake for ${WORST - 1n} more`);
      gateway = await start();
      await expectRefusal(chat({}, client(keyFor(OTHERS))), 503, "stake_exceeded", `stake for ${WORST - 1n} more`);

      await setHeadroom(2n * WORST + 33n);
      upstream.script = whole({ delayMs: 100 });
      const running = chat();
      while (upstream.received.length < 2) await wait(5);
      const error = await expectRefusal(
        chat({}, client(keyFor(OTHERS))),
        503,
        "stake_exceeded",
        "running requests hold",
      );
      expect(error.headers?.get("retry-after")).to.equal("1");
      await running;
    });

    it("is free again for what has settled, as soon as it is read anew", async () => {
      gateway = await start({ licenseCacheMs: 20 });
      chain.stakeHeadroom = WORST + 10n;
      await wait(120);
      await chat();
      await expectRefusal(chat(), 503, "stake_exceeded", "has stake for");
      await store.unbatched.void(
        { operatorId: OPERATOR_ID, planId: PLAN_ID, versionId: VERSION_ID },
        { epochStart: 0, epochEnd: chain.time + 1 },
      );
      await wait(120);
      expect((await chat()).choices).to.have.length(1);
    });

    it("serves on by what was last known of it while the chain is halted", async () => {
      gateway = await start({ licenseCacheMs: 0 });
      chain.stakeHeadroom = WORST + 40n;
      await chat();
      chain.isHalted = true;
      await chat();
      await expectRefusal(chat(), 503, "stake_exceeded", `stake for ${WORST - 28n} more`);
    });
  });

  describe("receipts", () => {
    it("are numbered and linked without gaps, however many run at once", async () => {
      await Promise.all(Array.from({ length: 25 }, () => chat()));
      const all = await receipts();
      expect(all.map(({ sequence }) => sequence)).to.deep.equal(Array.from({ length: 25 }, (_, i) => BigInt(i + 1)));
      all.forEach(({ previousHash }, i) => {
        expect(previousHash).to.equal(i === 0 ? ZeroHash : receiptDigest(DOMAIN, all[i - 1]));
      });
      expect(new Set(all.map(({ requestId }) => requestId))).to.have.property("size", 25);
    });

    it("are signed by a key that is elsewhere, in their order", async () => {
      const key = localSigner(OPERATOR_KEY.privateKey);
      const sign = async (signable: Signable) => {
        await wait(Math.random() * 5);
        return key.sign(signable);
      };
      gateway = await start({ signer: { address: key.address, sign } });
      await Promise.all(Array.from({ length: 10 }, () => chat()));
      const all = await receipts();
      expect(all.map(({ sequence }) => sequence)).to.deep.equal(Array.from({ length: 10 }, (_, i) => BigInt(i + 1)));
      all.forEach(({ previousHash }, i) => {
        expect(previousHash).to.equal(i === 0 ? ZeroHash : receiptDigest(DOMAIN, all[i - 1]));
      });
    });

    it("cost nothing that their key doesn't sign, and the next is served", async () => {
      const key = localSigner(OPERATOR_KEY.privateKey);
      let isAway = true;
      const sign = async (signable: Signable) => {
        if (isAway) throw new Error("the signer is away");
        return key.sign(signable);
      };
      gateway = await start({ signer: { address: key.address, sign } });
      await expectRefusal(chat(), 500, "receipt_not_stored", "this request costs nothing");
      expect(await receipts()).to.deep.equal([]);
      isAway = false;
      await chat();
      expect((await onlyReceipt()).sequence).to.equal(1n);
    });

    async function fetchReceipt(requestId: string, apiKey = keyFor()) {
      const { statusCode, body } = await request(`${gateway.url}/v1/receipts/${requestId}`, {
        headers: { authorization: `Bearer ${apiKey}` },
      });
      return { statusCode, json: (await body.json()) as { receipt: object; signature: string; hash: string } };
    }

    it("are given to their own license", async () => {
      await chat();
      const { statusCode, json } = await fetchReceipt((await onlyReceipt()).requestId);
      expect(statusCode).to.equal(200);
      const { receipt, signature } = json;
      expect(signedReceiptFromJson({ receipt, signature }).receipt).to.deep.equal(await onlyReceipt());
      expect(recoverSigner(json.hash, signature)).to.equal(OPERATOR_KEY.address);
    });

    it("are still given when the license has gone to another operator", async () => {
      await chat();
      setLicense({ operatorId: 8 });
      await gateway.refresh(1n);
      expect((await fetchReceipt((await onlyReceipt()).requestId)).statusCode).to.equal(200);
    });

    it("are given to nobody else", async () => {
      await chat();
      const { requestId } = await onlyReceipt();
      chain.licenses.set(2n, { ...chain.licenses.get(1n)!, licenseId: 2n });
      expect((await fetchReceipt(requestId, keyFor({ licenseId: 2n }))).statusCode).to.equal(404);
      expect((await fetchReceipt(requestId, "nonsense")).statusCode).to.equal(401);
      expect((await fetchReceipt("0x1234")).statusCode).to.equal(404);
    });
  });

  describe("closing", () => {
    it("finishes what runs and takes no more", async () => {
      upstream.script = streaming({ delayMs: 30 });
      const running = chatStream();
      while (upstream.received.length === 0) await wait(5);
      const closed = gateway.close();
      const chunks = await running;
      await closed;
      expect(chunks.map(({ choices }) => choices[0].delta.content ?? "").join("")).to.equal("You may copy this.");
      expect((await onlyReceipt()).flags).to.equal(0);
      const late = await chat().catch((cause: Error) => cause);
      expect(late).to.be.instanceOf(Error);
    });
  });
});
