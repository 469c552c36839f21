import { DatabaseSync } from "@photostructure/sqlite";
import { expect } from "chai";
import { id, Wallet } from "ethers";
import { once } from "node:events";
import {
  chmodSync,
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { createServer, type RequestListener, type Server } from "node:http";
import { connect, type AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { request } from "undici";
import { startAttestor, type Attestor } from "../../oracle/attestor/attestor";
import { evidenceToJson, namesToText, PROPOSAL_HEADER, proposedBatchToText } from "../../oracle/attestor/attestorApi";
import { parseConfig } from "../../oracle/config";
import { startEngine } from "../../oracle/engine";
import { GATEWAY_DEFAULTS, startGateway, type Gateway } from "../../oracle/gateway/gateway";
import { localSigner } from "../../oracle/keys/digestSigner";
import { createLog } from "../../oracle/log";
import { Problem } from "../../oracle/problem";
import { grantDigest, signDigest, signedReceiptToJson } from "../../oracle/protocol/messages";
import { encodeReceipt, frameOf, RECEIPTS_MEDIA_TYPE } from "../../oracle/protocol/receiptBytes";
import { ReceiptFlag, type Receipt } from "../../oracle/protocol/types";
import { Settler } from "../../oracle/settler/settler";
import { sqliteDatabase } from "../../oracle/store/sqliteDatabase";
import { Store } from "../../oracle/store/store";
import { FakeChain } from "../support/fakeChain";
import { bearerOf, DOMAIN, grantWith, usage } from "../support/fakeMessages";
import {
  babbling,
  eventOf,
  failing,
  FakeUpstream,
  hangingUp,
  silent,
  streaming,
  whole,
  type Script,
} from "../support/fakeUpstream";
import { StubEscrow } from "../support/stubEscrow";
import {
  chained,
  COMMITTEE,
  EPOCH,
  KEYS,
  LANE,
  offer,
  receiptUnder,
  requestOf,
  serveReceipt,
  signGrant,
  stubMarket,
} from "../support/stubMarket";

/** What is wrong, how it comes in, and the sentence that says what to do about it. */
type Row<How> = [what: string, how: How, sentence: RegExp];

const quiet = createLog("error", () => {});

describe("bad input", () => {
  let folder: string;

  before(() => {
    folder = mkdtempSync(join(tmpdir(), "licet-bad-input-"));
  });

  after(() => rmSync(folder, { recursive: true }));

  describe("in a settings file", () => {
    const KEY = id("key");
    const ENVIRONMENT = {
      KEY,
      EMPTY: "",
      SHORT: KEY.slice(0, 40),
      BARE: KEY.slice(2),
      ZERO: `0x${"00".repeat(32)}`,
      PUBLIC: new Wallet(KEY).signingKey.compressedPublicKey,
      ADDRESS: new Wallet(KEY).address,
      GRANT: bearerOf({ grant: grantWith(), signature: `0x${"11".repeat(65)}` }),
      CUT: bearerOf({ grant: grantWith(), signature: `0x${"11".repeat(65)}` }).slice(0, 60),
    };
    const model = (changes: object = {}) => ({
      models: [{ id: "m", upstreamUrl: "http://127.0.0.1:8000", versionId: "4294967297", ...changes }],
    });
    const several = (...upstreams: object[]) => model({ upstreamUrl: undefined, upstreams });
    const gateway = (changes: object) => ({
      gateway: { operatorId: 1, signingKeyVariable: "KEY", ...model(), ...changes },
    });
    const member = { address: "0x70997970C51812dc3A010C7d01b50e0d17dc79C8", url: "http://127.0.0.1:8091" };
    const settler = (changes: object) => ({
      settler: { keyVariable: "KEY", signingKeyVariable: "KEY", attestors: [member], ...changes },
    });
    const canary = { operatorId: 1, planId: 1, versionId: "1", gatewayUrl: "http://127.0.0.1:8080", modelId: "m" };
    const attestor = (changes: object, canaryChanges: object = {}) => ({
      attestor: {
        keyVariable: "KEY",
        canaries: [{ ...canary, apiKeyVariable: "GRANT", ...canaryChanges }],
        ...changes,
      },
    });

    const rows: Row<object | string>[] = [
      ["nothing", "", /is no JSON: Unexpected end/],
      ["half of it", '{"dataFolder": "data", "gatew', /is no JSON: /],
      ["another file", "<html>", /is no JSON: Unexpected token/],
      ["a number", "7", /must be an object; it is 7/],
      ["a section that is none", { gateway: [] }, /gateway must be an object; it is \[\]/],
      ["null for a section", { gateway: null }, /gateway must be an object; it is null/],
      ["null for a field", gateway({ port: null }), /gateway.port must be a whole number from 0 to 65535; it is null/],
      ["a misspelt field", gateway({ prot: 8080 }), /gateway.prot is no setting; there are .*port/],
      [
        "a misspelt field of a list's",
        gateway(model({ gpu: 1 })),
        /gateway.models\[0\].gpu is no setting; there are .*gpus/,
      ],
      ["no operator", gateway({ operatorId: undefined }), /gateway.operatorId is missing/],
      [
        "an operator beyond all ids",
        gateway({ operatorId: 2 ** 24 }),
        /operatorId must be a whole number from 1 to 16777215/,
      ],
      ["a negative port", gateway({ port: -1 }), /port must be a whole number from 0 to 65535; it is -1/],
      ["a fraction of a port", gateway({ port: 80.5 }), /port must be a whole number .* it is 80.5/],
      ["true for a host", gateway({ host: true }), /gateway.host must be a text; it is true/],
      ["an empty data folder", { dataFolder: "", ...gateway({}) }, /dataFolder must be a text; it is ""/],
      ["one model twice", gateway({ models: [...model().models, ...model().models] }), /has id "m" twice: leave one/],
      [
        "an upstream with /v1",
        gateway(model({ upstreamUrl: "http://a/v1/" })),
        /must be the server's root, without \/v1/,
      ],
      ["an upstream that is a path", gateway(model({ upstreamUrl: "/models/x" })), /must be a URL such as http/],
      ["an upstream with a query", gateway(model({ upstreamUrl: "http://a/?k=v" })), /must be a URL such as http/],
      ["a version beyond all ids", gateway(model({ versionId: String(2n ** 63n) })), /must be an id in quotes/],
      ["a model without an upstream", gateway(model({ upstreamUrl: undefined })), /models\[0\].upstreamUrl is missing/],
      ["an empty list of upstreams", gateway(several()), /models\[0\].upstreams must be a list of at least one/],
      ["one upstream twice", gateway(several({ url: "http://a/" }, { url: "http://a" })), /url "http:\/\/a" twice/],
      [
        "a misspelt field of an upstream's",
        gateway(several({ url: "http://a", gpu: 1 })),
        /upstreams\[0\].gpu is no sett/,
      ],
      [
        "one upstream besides several",
        gateway(model({ upstreams: [{ url: "http://a" }] })),
        /models\[0\].upstreamUrl is no setting; there are .*upstreams/,
      ],
      [
        "an upstream's key for its variable",
        gateway(model({ upstreamKeyVariable: "sk-1234567890" })),
        /upstreamKeyVariable must be the name of an environment variable/,
      ],
      [
        "an upstream's unset key",
        gateway(several({ url: "http://a", keyVariable: "NONE" })),
        /upstreams\[0\].keyVariable names the environment variable NONE, which isn't set/,
      ],
      [
        "no time for a first byte",
        gateway({ firstByteTimeoutSeconds: 0 }),
        /firstByteTimeoutSeconds must be .* from 1/,
      ],
      ["limits that are a number", gateway({ limits: 5 }), /gateway.limits must be an object; it is 5/],
      [
        "no requests at all",
        gateway({ limits: { perGrant: { requestsPerMinute: 0 } } }),
        /perGrant.requestsPerMinute must be/,
      ],
      [
        "a misspelt limit",
        gateway({ limits: { perLicence: {} } }),
        /limits.perLicence is no setting; there are .*perLicense/,
      ],
      [
        "less room than a request needs",
        gateway({ limits: { bodyMebibytes: 3 } }),
        /bodyMebibytes must be .* from 4 to 65536/,
      ],
      [
        "health asked for all the time",
        gateway({ healthIntervalSeconds: 0 }),
        /healthIntervalSeconds must be .* from 1/,
      ],
      [
        "GPUs beyond what a receipt counts",
        gateway(model({ gpus: 1_001 })),
        /gpus must be a whole number from 1 to 1000/,
      ],
      [
        "no time for a request",
        gateway({ requestTimeoutSeconds: 0 }),
        /requestTimeoutSeconds must be .* from 1 to 3600/,
      ],
      [
        "a month for a request",
        gateway({ requestTimeoutSeconds: 2_592_000 }),
        /requestTimeoutSeconds must be .* to 3600/,
      ],
      ["an hour for the chain", gateway({ chainTimeoutSeconds: 3_600 }), /chainTimeoutSeconds must be .* from 1 to 60/],
      ["no time to receive", gateway({ receiveTimeoutSeconds: 0 }), /receiveTimeoutSeconds must be .* from 1 to 3600/],
      [
        "a default above its ceiling",
        gateway({ maxTokensCeiling: 9, defaultMaxTokens: 10 }),
        /defaultMaxTokens .* 1 to 9;/,
      ],
      [
        "tokens beyond what a receipt counts",
        gateway({ maxTokensCeiling: 1e9 }),
        /maxTokensCeiling .* from 1 to 1000000/,
      ],
      ["an unset key", gateway({ signingKeyVariable: "NONE" }), /names the environment variable NONE, which isn't set/],
      [
        "an empty key",
        gateway({ signingKeyVariable: "EMPTY" }),
        /names the environment variable EMPTY, which isn't set/,
      ],
      ["half a key", gateway({ signingKeyVariable: "SHORT" }), /must hold a private key, 0x and 64 hex digits/],
      ["a key without 0x", gateway({ signingKeyVariable: "BARE" }), /must hold a private key, 0x and 64 hex digits/],
      ["a key that is zero", gateway({ signingKeyVariable: "ZERO" }), /must hold a private key, 0x and 64 hex digits/],
      ["a public key", gateway({ signingKeyVariable: "PUBLIC" }), /must hold a private key, 0x and 64 hex digits/],
      [
        "an address for a key",
        gateway({ signingKeyVariable: "ADDRESS" }),
        /must hold a private key, 0x and 64 hex digits/,
      ],
      ["a key for its variable", gateway({ signingKeyVariable: KEY }), /must be the name of an environment variable/],
      [
        "a bare key for its variable",
        gateway({ signingKeyVariable: "ab".repeat(32) }),
        /must be the name of an environment/,
      ],
      ["no attestors", settler({ attestors: [] }), /settler.attestors must be a list of at least one/],
      [
        "one attestor twice",
        settler({ attestors: [member, member] }),
        /attestors has address "0x7099.*" twice: leave one/,
      ],
      [
        "an attestor without a URL",
        settler({ attestors: [{ address: member.address }] }),
        /attestors\[0\].url is missing/,
      ],
      [
        "an address with a typo",
        settler({ attestors: [{ ...member, address: member.address.slice(0, -1) + "9" }] }),
        /address/,
      ],
      [
        "a price that is none",
        settler({ economy: { gasTokenPrice: 0 } }),
        /economy\.gasTokenPrice must be an amount above 0/,
      ],
      [
        "gas for nothing",
        settler({ economy: { gasTokenPrice: "1", minValueToGas: 0 } }),
        /minValueToGas must be .* from 1/,
      ],
      ["a price of nothing", settler({ economy: {} }), /economy\.gasTokenPrice is missing/],
      ["a release in words", settler({ release: "yes" }), /release must be true or false/],
      ["a fee that is none", settler({ maxFeeGwei: "0" }), /maxFeeGwei must be an amount above 0 .*; it is "0"/],
      ["a fee in words", settler({ maxFeeGwei: "much" }), /maxFeeGwei must be an amount above 0 .*; it is "much"/],
      ["too fine a fee", settler({ maxFeeGwei: "0.0000000001" }), /maxFeeGwei must be .* at most 9 decimals/],
      ["no confirmations", settler({ confirmations: 0 }), /confirmations must be a whole number from 1 to 100/],
      [
        "more than nodes remember",
        settler({ confirmations: 1_000 }),
        /confirmations must be .* from 1 to 100, or "finalized"; it is 1000/,
      ],
      ["a settler that never rests", settler({ intervalSeconds: 0 }), /intervalSeconds must be .* from 1 to 86400/],
      [
        "a settler that waits for years",
        settler({ intervalSeconds: 1e8 }),
        /intervalSeconds must be .* from 1 to 86400/,
      ],
      [
        "batches that nobody reads",
        settler({ receiptsPerBatch: 100_001 }),
        /receiptsPerBatch must be .* from 1 to 100000/,
      ],
      ["no canaries", attestor({ canaries: [] }), /attestor.canaries must be a list of at least one/],
      ["half an API key", attestor({}, { apiKeyVariable: "CUT" }), /must hold an API key, as license:grant prints it/],
      [
        "an API key for its variable",
        attestor({}, { apiKeyVariable: ENVIRONMENT.GRANT }),
        /must be the name of an env/,
      ],
      [
        "canaries that never come",
        attestor({}, { meanIntervalSeconds: 1e9 }),
        /meanIntervalSeconds must be .* to 86400/,
      ],
      [
        "a plan beyond all ids",
        attestor({}, { planId: 2 ** 32 }),
        /planId must be a whole number from 1 to 4294967295/,
      ],
      [
        "a value of a megabyte",
        gateway({ host: ["x".repeat(1e6)] }),
        /host must be a text; it is \["x{100,}… \(10000\d\d char/,
      ],
    ];
    for (const [what, how, sentence] of rows) {
      it(`is refused: ${what}`, () => {
        const text = typeof how === "string" ? how : JSON.stringify({ dataFolder: "data", ...how });
        expect(() => parseConfig(text, ENVIRONMENT)).to.throw(Problem, sentence);
      });
    }

    it("never shows a secret that stands where its name should", () => {
      for (const secret of [KEY, KEY.slice(2), ENVIRONMENT.GRANT]) {
        const text = JSON.stringify({ dataFolder: "data", ...gateway({ signingKeyVariable: secret }) });
        expect(() => parseConfig(text, ENVIRONMENT))
          .to.throw(Problem)
          .with.property("message")
          .that.does.not.contain(secret.slice(0, 20));
      }
    });

    it("reads one that an editor began with a byte order mark", () => {
      const text = `\uFEFF${JSON.stringify({ dataFolder: "data", ...gateway({}) })}`;
      expect(parseConfig(text, ENVIRONMENT).gateway?.operatorId).to.equal(1);
    });
  });

  describe("in a store's file", () => {
    let number = 0;
    let path: string;

    /** A store with a grant in it, closed. */
    beforeEach(async () => {
      path = join(folder, `store-${++number}.sqlite`);
      const store = new Store(sqliteDatabase(path));
      await store.grants.save(id("grant"), { grant: grantWith(), signature: "0x11" });
      await store.close();
    });

    const otherwise = (sql: string) => () => {
      rmSync(path);
      const db = new DatabaseSync(path);
      db.exec(sql);
      db.close();
    };
    const rows: Row<() => void>[] = [
      [
        "rubbish",
        () => writeFileSync(path, "rubbish ".repeat(1_000)),
        /isn't a store of Licet's: move it away, or name/,
      ],
      ["another program's", otherwise("CREATE TABLE songs (title TEXT)"), /isn't a store of Licet's: move it away/],
      ["half written", otherwise("PRAGMA user_version = 1"), /isn't a store of Licet's: move it away/],
      [
        "of a newer program",
        otherwise("PRAGMA user_version = 99"),
        /has schema 99, this program knows \d+: update Licet/,
      ],
      ["cut off in the middle", () => truncateSync(path, 8_192), /is damaged \(.*\): restore it from a backup/],
      ["cut off at its beginning", () => truncateSync(path, 50), /is damaged \(.*\): restore it from a backup/],
      [
        "a folder",
        () => void (rmSync(path), mkdirSync(path)),
        /can't be opened \(.*\): its folder must be there and writable/,
      ],
      [
        "in a folder that isn't there",
        () => void (path = join(folder, "none", "store.sqlite")),
        /its folder must be there/,
      ],
    ];
    for (const [what, spoil, sentence] of rows) {
      it(`is refused, and left as it is: ${what}`, () => {
        spoil();
        const before = contentOf(path);
        expect(() => new Store(sqliteDatabase(path))).to.throw(Problem, sentence);
        expect(contentOf(path)).to.deep.equal(before);
      });
    }

    it("is refused, and left as it is: one that another has open", async () => {
      const first = new Store(sqliteDatabase(path));
      expect(() => new Store(sqliteDatabase(path))).to.throw(
        Problem,
        /is in use by another process: end that, or name another dataFolder/,
      );
      expect(await first.grants.find(id("grant"))).not.to.equal(null);
      await first.close();
      await new Store(sqliteDatabase(path)).close();
    });

    it("is refused, and left as it is: one that another program writes to", async function () {
      this.timeout(20_000);
      const other = new DatabaseSync(path);
      other.exec("BEGIN EXCLUSIVE");
      expect(() => new Store(sqliteDatabase(path))).to.throw(
        Problem,
        /is locked by another program: end that, and start again/,
      );
      other.close();
      await new Store(sqliteDatabase(path)).close();
    });

    it("is refused, and left as it is: one that this user may only read", () => {
      const own = join(folder, "read-only");
      mkdirSync(own);
      copyFileSync(path, join(own, "store.sqlite"));
      chmodSync(own, 0o555);
      chmodSync(join(own, "store.sqlite"), 0o444);
      asNobody(() =>
        expect(() => new Store(sqliteDatabase(join(own, "store.sqlite")))).to.throw(
          Problem,
          /must be there and writable/,
        ),
      );
      chmodSync(own, 0o755);
    });

    it("can be read while it is in use, for a backup", async () => {
      const store = new Store(sqliteDatabase(path));
      const backup = join(folder, "backup.sqlite");
      const reader = new DatabaseSync(path, { readOnly: true });
      reader.exec(`VACUUM INTO '${backup}'`);
      reader.close();
      await store.close();
      const restored = new Store(sqliteDatabase(backup));
      expect(await restored.grants.find(id("grant"))).not.to.equal(null);
      await restored.close();
    });
  });

  describe("to a gateway", () => {
    const OWNER = new Wallet(`0x${"11".repeat(32)}`);
    const OPERATOR_KEY = new Wallet(`0x${"33".repeat(32)}`);
    const VERSION_ID = (5n << 32n) | 1n;
    const MANIFEST = id("manifest");
    const MESSAGES = [{ role: "user", content: "May I copy this?" }];
    const GOOD = { model: "writer", messages: MESSAGES };
    /** What the good request may cost at worst: its bytes, the template and the most tokens of an answer. */
    const WORST = BigInt(JSON.stringify(GOOD).length + 10 + 100);

    let chain: FakeChain;
    let store: Store;
    let upstream: FakeUpstream;
    let gateway: Gateway;
    let logged: string[];

    beforeEach(async () => {
      store = new Store(sqliteDatabase(":memory:"));
      upstream = await FakeUpstream.start();
      logged = [];
      chain = new FakeChain();
      chain.signingKeys.set(2, [OPERATOR_KEY.address]);
      const rates = usage({ inputTokens: 1_000_000n, outputTokens: 1_000_000n });
      chain.plans.set(3, { planId: 3, assetId: 5, rates, attestor: OWNER.address, minEvidenceTier: 0 });
      chain.versions.set(VERSION_ID, {
        versionId: VERSION_ID,
        assetId: 5,
        manifestHash: MANIFEST,
        usableUntil: 2 ** 40 - 1,
      });
      chain.licenses.set(1n, {
        ...stubMarket().licenses.get(7n)!,
        licenseId: 1n,
        owner: OWNER.address,
        planId: 3,
        operatorId: 2,
        // Exactly what the good request needs: whatever isn't given back shows.
        balance: WORST,
      });
      const model = {
        id: "writer",
        upstreams: [{ url: upstream.url }],
        assetId: 5,
        versionId: VERSION_ID,
        manifestHash: MANIFEST,
      };
      gateway = await startGateway(
        {
          ...GATEWAY_DEFAULTS,
          port: 0,
          operatorId: 2,
          signer: localSigner(OPERATOR_KEY.privateKey),
          models: [model],
          defaultMaxTokens: 100,
          maxTokensCeiling: 100,
          maxChoices: 2,
          templateTokens: 10,
          requestTimeoutMs: 400,
          receiveTimeoutMs: 300,
          maxBodyBytes: 20_000,
        },
        { chain, store, log: createLog("debug", (line) => logged.push(line)) },
      );
    });

    afterEach(async () => {
      await gateway.close();
      await upstream.stop();
      await store.close();
    });

    const apiKey = (signer = OWNER, changes: Parameters<typeof grantWith>[0] = {}) => {
      const grant = grantWith(changes);
      return bearerOf({ grant, signature: signDigest(signer.privateKey, grantDigest(DOMAIN, grant)) });
    };

    interface Sent {
      method?: "GET" | "POST" | "PUT";
      path?: string;
      authorization?: string | null;
      headers?: Record<string, string>;
      /** Changes of the good request, or what is sent in its place. */
      body?: object | string | Buffer;
    }

    async function send({ method = "POST", path = "/v1/chat/completions", authorization, headers, body = {} }: Sent) {
      const bearer = authorization === undefined ? `Bearer ${apiKey()}` : authorization;
      const raw = typeof body === "string" || Buffer.isBuffer(body) ? body : JSON.stringify({ ...GOOD, ...body });
      const answer = await request(gateway.url + path, {
        method,
        headers: {
          "content-type": "application/json",
          ...(bearer === null ? {} : { authorization: bearer }),
          ...headers,
        },
        body: method === "GET" ? undefined : raw,
      });
      return { status: answer.statusCode, text: await answer.body.text() };
    }

    async function receipts(): Promise<Receipt[]> {
      const lane = { operatorId: 2, planId: 3, versionId: VERSION_ID };
      return (await store.unbatched.receipts(lane, { epochStart: 0, epochEnd: 2 ** 40 })).map(({ receipt }) => receipt);
    }

    /** Nobody owes anything, no request is left open, and the next good one is served as if nothing had been. */
    async function expectNothingLost() {
      expect(await store.tallies.unsettled(1n)).to.equal(0n);
      expect(await store.requests.running()).to.deep.equal([]);
      upstream.script = whole();
      expect(await send({})).to.include({ status: 200 });
    }

    const errorIn = (text: string) => (JSON.parse(text) as { error: { message: string; type: string } }).error;

    describe("by a client", () => {
      const TEXT = "/v1/completions";
      const deep = `{"model":"writer","messages":${"[".repeat(9_000)}${"]".repeat(9_000)}}`;
      const rows: [string, Sent, number, RegExp][] = [
        ["no body", { body: "" }, 400, /body isn't JSON in UTF-8/],
        ["half a body", { body: '{"model":"wri' }, 400, /body isn't JSON in UTF-8/],
        ["a form", { body: "model=writer" }, 400, /body isn't JSON in UTF-8/],
        ["a zipped body", { body: Buffer.from([0x1f, 0x8b, 8, 0]) }, 400, /body isn't JSON in UTF-8/],
        ["a body in UTF-16", { body: Buffer.from(JSON.stringify(GOOD), "utf16le") }, 400, /body isn't JSON in UTF-8/],
        ["a list for a body", { body: "[]" }, 400, /must be a JSON object/],
        ["null for a body", { body: "null" }, 400, /must be a JSON object/],
        ["a body nested like an onion", { body: deep }, 400, /nested deeper than 100 levels/],
        ["a body that is too large", { body: { user: "x".repeat(20_001) } }, 413, /too large/],
        ["no model", { body: { model: null } }, 400, /model: name a model, see \/v1\/models/],
        ["an unknown model", { body: { model: "gpt-99" } }, 404, /gpt-99 isn't served here; these are: writer/],
        ["messages that are a text", { body: { messages: "hi" } }, 400, /messages: send at least one message/],
        ["a message that is null", { body: { messages: [null] } }, 400, /every message must be an object/],
        ["a picture", { body: { messages: [{ content: [{ type: "image_url" }] }] } }, 400, /only text is served here/],
        [
          "absurdly many tokens",
          { body: { max_tokens: 1e308 } },
          400,
          /max_tokens: must be a whole number from 1 to 100/,
        ],
        ["no tokens", { body: { max_tokens: 0 } }, 400, /max_tokens: must be a whole number from 1 to 100, not 0/],
        [
          "fewer than no tokens",
          { body: { max_completion_tokens: -5 } },
          400,
          /max_completion_tokens: must be .* not -5/,
        ],
        ["fewer than no answers", { body: { n: -1 } }, 400, /n: must be a whole number from 1 to 2, not -1/],
        ["a thousand answers", { body: { n: 1_000 } }, 400, /n: must be a whole number from 1 to 2, not 1000/],
        ["half an answer", { body: { n: 0.5 } }, 400, /n: must be a whole number/],
        ["a stream that is a text", { body: { stream: "true" } }, 400, /stream: must be true or false/],
        [
          "a parameter that isn't taken",
          { body: { num_predict: 9 } },
          400,
          /num_predict: isn't taken here.*leave it out/,
        ],
        [
          "a prototype",
          { body: `{"model":"writer","messages":[{}],"__proto__":{"n":99}}` },
          400,
          /__proto__: isn't taken/,
        ],
        ["no prompt", { path: TEXT, body: '{"model":"writer"}' }, 400, /prompt: send a text or a list of texts/],
        [
          "a prompt of objects",
          { path: TEXT, body: '{"model":"writer","prompt":[{}]}' },
          400,
          /every prompt must be a text/,
        ],
        ["an unknown address", { path: "/v2/chat" }, 404, /there is no POST \/v2\/chat here/],
        ["a broken address", { path: "/v1/receipts/%zz", method: "GET" }, 400, /is not a valid url component/],
        ["a wrong method", { method: "PUT" }, 404, /there is no PUT \/v1\/chat\/completions here/],
        ["no API key", { authorization: null }, 401, /send your grant: 'Authorization: Bearer/],
        ["another way to log in", { authorization: "Basic YTpi" }, 401, /send your grant/],
        ["another API's key", { authorization: "Bearer sk-abcdefgh" }, 401, /API key is cut short/],
        [
          "an API key with stray characters",
          { authorization: "Bearer a+b/c=" },
          401,
          /must be base64url without padding/,
        ],
        [
          "half an API key",
          { authorization: `Bearer ${apiKey().slice(0, 90)}` },
          401,
          /cut short: a grant and its sig/,
        ],
        [
          "an API key of nobody",
          { authorization: `Bearer ${apiKey(OPERATOR_KEY)}` },
          401,
          /isn't signed by the owner of/,
        ],
        [
          "an API key that is over",
          { authorization: `Bearer ${apiKey(OWNER, { expiresAt: 9 })}` },
          401,
          /sign a new one/,
        ],
        [
          "a license that isn't there",
          { authorization: `Bearer ${apiKey(OWNER, { licenseId: 9n })}` },
          401,
          /doesn't exist/,
        ],
        ["a receipt of nobody's", { method: "GET", path: "/v1/receipts/0x00" }, 404, /has no receipt of request 0x00/],
        [
          "more than it can pay",
          { body: { user: "x".repeat(50) } },
          402,
          /has \d+ left: deposit to it, or lower max_tokens/,
        ],
      ];
      for (const [what, sent, status, sentence] of rows) {
        it(`is refused: ${what}`, async () => {
          const answer = await send(sent);
          expect(answer.status).to.equal(status);
          expect(errorIn(answer.text).message).to.match(sentence);
          expect(errorIn(answer.text).type).to.match(/^[a-z_]+_error$|^insufficient_quota$/);
          expect(upstream.received).to.deep.equal([]);
          expect(await receipts()).to.deep.equal([]);
          await expectNothingLost();
        });
      }

      it("is cut off: a body that trickles", async () => {
        const { port } = new URL(gateway.url);
        const socket = connect(Number(port), "127.0.0.1");
        const head = `POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${apiKey()}\r\n`;
        socket.write(`${head}Content-Length: 9000\r\n\r\n{`);
        const trickle = setInterval(() => socket.write(" "), 50);
        const seen: Buffer[] = [];
        socket.on("data", (piece) => seen.push(piece)).on("error", () => {});
        await once(socket, "close");
        clearInterval(trickle);
        expect(Buffer.concat(seen).toString()).to.match(/^HTTP\/1.1 408 /);
        await expectNothingLost();
      });

      it("is cut off: something else than HTTP", async () => {
        const { port } = new URL(gateway.url);
        const socket = connect(Number(port), "127.0.0.1");
        socket.write("\x16\x03\x01\x02 hello over TLS\r\n\r\n");
        const [answer] = await once(socket, "data");
        socket.destroy();
        expect(String(answer)).to.match(/^HTTP\/1.1 400 /);
        await expectNothingLost();
      });
    });

    describe("by its upstream", () => {
      const html: Script = (response) =>
        void response.writeHead(200, { "content-type": "text/html" }).end("<html>login</html>");
      const gone: Script = (response) => void response.writeHead(302, { location: "http://127.0.0.1:1/" }).end();
      const raw =
        (status: number, text: string, type = "application/json"): Script =>
        (response) =>
          void response.writeHead(status, { "content-type": type }).end(text);
      const halfAnAnswer: Script = (response) => {
        response.writeHead(200, { "content-type": "application/json", "content-length": "999" }).write('{"choices":[');
        setTimeout(() => response.destroy(), 20);
      };
      const hangingAnswer: Script = (response) =>
        void response.writeHead(200, { "content-type": "application/json" }).write('{"choices":[');
      const stream =
        (...events: string[]): Script =>
        (response) =>
          void response.writeHead(200, { "content-type": "text/event-stream" }).end(events.join(""));
      const failed = eventOf({ error: { message: "out of memory" } });

      const FAILED = /model writer failed; this request costs nothing/;
      const rows: [string, Script, boolean, number, RegExp][] = [
        ["hangs up", hangingUp, false, 502, FAILED],
        ["never answers", silent, false, 504, /took too long: stream the answer, or ask for fewer tokens/],
        ["stops in the middle of an answer", halfAnAnswer, false, 502, FAILED],
        ["never ends its answer", hangingAnswer, false, 504, /took too long/],
        ["answers HTML", html, false, 502, FAILED],
        ["answers nothing", raw(200, ""), false, 502, FAILED],
        ["answers null", raw(200, "null"), false, 502, FAILED],
        ["answers something else", raw(200, '{"object":"list","data":[]}'), false, 502, FAILED],
        ["answers no choices", raw(200, '{"choices":[],"usage":{"prompt_tokens":9}}'), false, 502, FAILED],
        ["answers 200 with an error", raw(200, '{"choices":[{}],"error":"busy"}'), false, 502, FAILED],
        ["fails with HTML", raw(500, "<html>oops</html>", "text/html"), false, 502, FAILED],
        ["fails with a reason", failing(500, { error: { message: "out of memory" } }), false, 500, /out of memory/],
        ["is busy", failing(503, { error: { message: "try later" } }), false, 503, /try later/],
        [
          "doesn't like the request",
          failing(400, { error: { message: "context too long" } }),
          false,
          400,
          /context too/,
        ],
        ["wants a key of its own", failing(401, { error: { message: "no key" } }), false, 502, FAILED],
        ["calls the model otherwise", failing(404, { error: { message: "no such model" } }), false, 502, FAILED],
        ["is elsewhere", gone, false, 502, FAILED],
        ["answers 201", raw(201, '{"choices":[{"text":"hi"}]}'), false, 502, FAILED],
        ["streams nothing", stream("data: [DONE]\n\n"), true, 502, FAILED],
        ["streams rubbish", stream("data: {{{\n\n", "data: [DONE]\n\n"), true, 200, FAILED],
        ["streams an error", stream(failed, "data: [DONE]\n\n"), true, 502, FAILED],
        ["streams an opening and then dies", streaming({ words: [""], dies: true }), true, 200, FAILED],
        ["streams one endless event", stream(`data: ${"x".repeat(2 ** 23)}`), true, 502, FAILED],
        ["streams HTML", babbling, true, 502, FAILED],
      ];
      for (const [what, script, isStream, status, sentence] of rows) {
        it(`costs nothing if it ${what}`, async () => {
          upstream.script = script;
          const answer = await send({ body: isStream ? { stream: true, max_tokens: 60 } : {} });
          expect(answer.status).to.equal(status);
          expect(answer.text).to.match(sentence).and.not.to.contain("[DONE]");
          const [receipt] = await receipts();
          expect(receipt).to.include({
            requests: 0n,
            inputTokens: 0n,
            outputTokens: 0n,
            flags: ReceiptFlag.upstreamError,
          });
          await expectNothingLost();
        });
      }

      it("tells the operator's log what the upstream said, and not the client", async () => {
        upstream.script = failing(401, { error: { message: "bad key sk-secret" } });
        expect((await send({})).text).not.to.contain("sk-secret");
        expect(logged.join()).to.contain("the upstream answered 401").and.to.contain("bad key");
      });

      const usages: [string, object, object][] = [
        [
          "negative tokens",
          { prompt_tokens: -5, completion_tokens: -9 },
          { flags: ReceiptFlag.estimated, outputTokens: 1n },
        ],
        ["fractions of tokens", { prompt_tokens: 1.5, completion_tokens: 2 }, { flags: ReceiptFlag.estimated }],
        ["half of its use", { prompt_tokens: 5 }, { flags: ReceiptFlag.estimated, outputTokens: 1n }],
        ["texts for numbers", { prompt_tokens: "5", completion_tokens: "5" }, { flags: ReceiptFlag.estimated }],
        ["more than was asked for", { prompt_tokens: 1e9, completion_tokens: 1e9 }, { outputTokens: 100n, flags: 0 }],
        ["more than a receipt holds", { prompt_tokens: 2 ** 52, completion_tokens: 2 ** 52 }, { outputTokens: 100n }],
        ["numbers beyond numbers", { prompt_tokens: 1e300, completion_tokens: 1 }, { flags: ReceiptFlag.estimated }],
        [
          "more cached than there were",
          { prompt_tokens: 9, completion_tokens: 1, prompt_tokens_details: { cached_tokens: 99 } },
          { inputTokens: 0n, cachedInputTokens: 9n, outputTokens: 1n },
        ],
      ];
      for (const [what, reported, receipt] of usages) {
        it(`is charged for what it can have used if it reports ${what}`, async () => {
          upstream.script = whole({ extra: { usage: reported } });
          expect(await send({})).to.include({ status: 200 });
          expect((await receipts())[0]).to.include(receipt);
          expect((await store.tallies.unsettled(1n)) <= WORST).to.equal(true);
        });
      }
    });

    describe("by its disk", () => {
      it("is answered in a sentence when it is full, loses nothing, and goes on when it isn't any more", async () => {
        chain.licenses.get(1n)!.balance = 1_000_000n;
        await send({});
        const before = await receipts();
        const { db } = Reflect.get(Reflect.get(store, "db") as object, "file") as { db: { exec(sql: string): void } };
        db.exec("PRAGMA max_page_count = 1");
        const full: string[] = [];
        for (let i = 0; i < 60 && full.length < 3; i++) {
          const { status, text } = await send({});
          if (status !== 200) full.push(errorIn(text).message);
        }
        expect(full).to.have.length(3);
        expect(full.join()).to.match(/can't be stored/);
        expect(logged.join()).to.contain("database or disk is full");
        db.exec("PRAGMA max_page_count = 100000");
        expect(await send({})).to.include({ status: 200 });
        const after = await receipts();
        expect(after.slice(0, before.length)).to.deep.equal(before);
        expect(after.map(({ sequence }) => sequence)).to.deep.equal(after.map((_, i) => BigInt(i + 1)));
      });
    });
  });

  describe("to an attestor", () => {
    let store: Store;
    let attestor: Attestor;
    const grant = signGrant();
    const good = requestOf({ grants: [grant], receipts: chained([receiptUnder(grant, 1n)]) });

    beforeEach(async () => {
      store = new Store(sqliteDatabase(":memory:"));
      const config = { signer: localSigner(KEYS.attestors[0]), committee: COMMITTEE.address };
      attestor = await startAttestor(config, { chain: stubMarket(), store, log: quiet });
    });

    afterEach(async () => {
      await attestor.close();
      await store.close();
    });

    const post = async (path: string, body: string | Buffer, headers: Record<string, string> = {}) => {
      const response = await fetch(attestor.url + path, {
        method: "POST",
        headers: { "content-type": "application/json", ...headers },
        body: body as string,
      });
      return { status: response.status, said: await response.text() };
    };
    const expectStillSigns = async () => {
      expect(await offer(attestor.url, good)).to.have.property("signature");
    };

    const lane = { ...LANE, versionId: String(LANE.versionId) };
    const measurements: [string, unknown, number, RegExp][] = [
      ["no JSON", "{", 400, /JSON/],
      ["nothing", null, 400, /expected a JSON object, not null/],
      ["no lane", { epoch: EPOCH }, 400, /expected a JSON object/],
      [
        "a text for an operator",
        { lane: { ...lane, operatorId: "2" }, epoch: EPOCH },
        400,
        /operatorId must be a whole/,
      ],
      [
        "a negative operator",
        { lane: { ...lane, operatorId: -2 }, epoch: EPOCH },
        400,
        /operatorId must fit in uint24/,
      ],
      ["a version beyond ids", { lane: { ...lane, versionId: "9".repeat(19) }, epoch: EPOCH }, 400, /below 2\^63/],
      ["an epoch backwards", { lane, epoch: { epochStart: 5, epochEnd: 5 } }, 422, /No epoch runs from 5 to 5/],
      ["all of time", { lane, epoch: { epochStart: 0, epochEnd: 103_600 } }, 422, /86400 s are the most/],
      [
        "the future",
        { lane, epoch: { epochStart: 2 ** 40, epochEnd: 2 ** 40 + 9 } },
        422,
        /The epoch ends at \d+; it is/,
      ],
      ["a megabyte", { lane, epoch: EPOCH, more: "x".repeat(1e6) }, 413, /too large/],
    ];
    for (const [what, body, status, sentence] of measurements) {
      it(`is refused when it is asked to measure ${what}`, async () => {
        const answer = await post("/v1/measurements", typeof body === "string" ? body : JSON.stringify(body));
        expect(answer.status).to.equal(status);
        expect(answer.said).to.match(sentence);
        await expectStillSigns();
      });
    }

    const proposed = { [PROPOSAL_HEADER]: proposedBatchToText(good) };
    const evidence = evidenceToJson(good);
    const attestations: [string, Record<string, string>, unknown, number, RegExp][] = [
      ["without a proposal", {}, evidence, 400, /send the batch's header and its proposal/],
      [
        "with half a proposal",
        { [PROPOSAL_HEADER]: proposed[PROPOSAL_HEADER].slice(0, 90) },
        evidence,
        400,
        /base64url of/,
      ],
      ["with no JSON", proposed, "{", 400, /JSON/],
      ["with a list", proposed, [], 400, /expected a JSON object, not \[\]/],
      ["without receipts", proposed, { ...evidence, receipts: undefined }, 400, /receipts must be a string/],
      ["with receipts that are none", proposed, { ...evidence, receipts: [7] }, 400, /receipts must be a string/],
      [
        "with half a hash",
        proposed,
        { ...evidence, receipts: "AAAA" },
        400,
        /48 bytes for each, a license's id, a number and a hash, not of 3 bytes/,
      ],
      ["with no base64", proposed, { ...evidence, receipts: `~${evidence.receipts}` }, 400, /must be base64/],
      [
        "with a receipt that it was never sent",
        proposed,
        { ...evidence, receipts: namesToText([{ licenseId: 7n, sequence: 9n, hash: id("another") }]) },
        409,
        /^{"lacking":"[A-Za-z0-9+/=]{44}"}$/,
      ],
      [
        "with more receipts than it reads",
        proposed,
        {
          ...evidence,
          receipts: namesToText(
            Array.from({ length: 100_001 }, () => ({ licenseId: 7n, sequence: 1n, hash: id("any") })),
          ),
        },
        413,
        /has 100001 receipts; 100000 are the most: make batches smaller/,
      ],
      [
        "with a text of a megabyte",
        proposed,
        { ...evidence, grants: "x".repeat(1e6) },
        400,
        /grants must be a list, not .*x{100,}…/,
      ],
    ];
    const [signed] = good.signed;
    const record = encodeReceipt(signed);
    const json = signedReceiptToJson(signed) as { receipt: object; signature: string };
    const line = (changes: object) => JSON.stringify({ ...json, receipt: { ...json.receipt, ...changes } });
    const binary = RECEIPTS_MEDIA_TYPE;
    const lines = "application/x-ndjson";
    const brought: [string, string, string | Buffer, number, RegExp][] = [
      ["nothing at all", binary, "", 400, /begins with its version: this is empty/],
      ["a frame of another version", binary, Buffer.of(7), 400, /has version 1 or 2, not 7/],
      ["a frame that is cut short", binary, frameOf([record]).subarray(0, 300), 400, /cut short after 299/],
      [
        "a request's signature that its receipt doesn't name",
        binary,
        frameOf([Buffer.concat([record, Buffer.alloc(70)])]),
        200,
        /"kept":0.*says nothing of its request's signature; 0x/,
      ],
      [
        "half a request's signature",
        lines,
        JSON.stringify({ ...json, requestSignature: "0x12" }),
        400,
        /receipt 1: a request's signature must be 70 bytes/,
      ],
      ["a high s", binary, frameOf([Buffer.from(record).fill(0xff, 318, 319)]), 400, /upper half of the order/],
      [
        "a signature of no key",
        binary,
        frameOf([Buffer.from(record).fill(0, 286, 350)]),
        200,
        /"kept":0.* isn't signed/,
      ],
      [
        "too many",
        binary,
        frameOf(Array.from({ length: 1_001 }, () => record)),
        400,
        /1001 receipts came at once; 1000/,
      ],
      ["too much", binary, Buffer.alloc(2 ** 21 + 1), 413, /2097152 are the most|too large/],
      ["JSON", "application/json", line({}), 400, /come as application\/vnd.licet.receipts or as/],
      ["a list", lines, "[]", 400, /receipt 1: signed receipt must be a JSON object/],
      ["no JSON", lines, `${line({})}\n{`, 400, /receipt 2: /],
      ["a negative count", lines, line({ outputTokens: "-1" }), 400, /outputTokens must be a decimal/],
      ["a count beyond its bits", lines, line({ outputTokens: String(2 ** 32) }), 400, /must fit in uint32/],
      ["a field too many", lines, line({ tip: "1" }), 400, /Receipt has unknown fields .*tip/],
      ["half a signature", lines, JSON.stringify({ ...json, signature: "0x12" }), 400, /65 bytes, not 1/],
      ["another's receipt", lines, line({ licenseId: "8" }), 200, /"kept":0.*is signed by 0x/],
    ];
    for (const [what, type, body, status, sentence] of brought) {
      it(`keeps nothing when it is brought ${what}`, async () => {
        const answer = await post("/v1/receipts", body, { "content-type": type });
        expect(answer.said).to.match(sentence);
        expect(answer.status).to.equal(status);
        expect(answer.said.length).to.be.below(4_000);
        expect([...(await store.copies.count())]).to.deep.equal([]);
        await expectStillSigns();
      });
    }

    for (const [what, headers, body, status, sentence] of attestations) {
      it(`signs nothing when it is asked ${what}`, async () => {
        const text = typeof body === "string" ? body : JSON.stringify(body);
        const answer = await post("/v1/attestations", text, headers);
        expect(answer.status).to.equal(status);
        expect(answer.said).to.match(sentence);
        expect(answer.said.length).to.be.below(4_000);
        expect(await store.attested.at(LANE, 1n)).to.equal(null);
        await expectStillSigns();
      });
    }
  });

  describe("to a settler, by an attestor", () => {
    let attestors: { attestor: Attestor; store: Store }[];
    let server: Server;
    let store: Store;
    let lines: string[];

    const chain = stubMarket();
    const rubbish: [string, RequestListener, RegExp][] = [
      ["HTML", (_, response) => void response.end("<html>hello</html>"), /answered 200 and no JSON: .*html/],
      ["an error", (_, response) => void response.writeHead(500).end("oops"), /answered 500: .*oops/],
      ["another place", (_, response) => void response.writeHead(302, { location: "/x" }).end(), /fetch failed/],
      ["nothing", () => {}, /aborted due to timeout/],
      [
        "half an answer",
        (_, response) => void (response.write("{"), setTimeout(() => response.destroy(), 20)),
        /terminated/,
      ],
      [
        "something else",
        (_, response) => void response.end('{"ok":true}'),
        /signed measurement lacks measurement, signature/,
      ],
      ["a flood", (_, response) => flood(response), /answered over \d+ bytes/],
    ];

    beforeEach(async () => {
      lines = [];
      store = new Store(sqliteDatabase(":memory:"));
      attestors = await Promise.all(
        KEYS.attestors.slice(0, 2).map(async (key) => {
          const own = new Store(sqliteDatabase(":memory:"));
          const config = { signer: localSigner(key), committee: COMMITTEE.address };
          return { attestor: await startAttestor(config, { chain, store: own, log: quiet }), store: own };
        }),
      );
    });

    afterEach(async () => {
      server.closeAllConnections();
      server.close();
      for (const { attestor, store: own } of attestors) {
        await attestor.close();
        await own.close();
      }
      await store.close();
    });

    for (const [what, listener, sentence] of rubbish) {
      it(`is as if it hadn't answered: ${what}`, async () => {
        server = createServer(listener).listen(0, "127.0.0.1");
        await once(server, "listening");
        const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
        const requestId = await serveReceipt(store);
        const escrow = new StubEscrow(chain);
        chain.lastBatch = { sequence: 0n, epochStart: 0, epochEnd: 0 };
        const [one, two] = attestors.map(({ attestor: { address, url } }) => ({ address, url }));
        const settle = (alive: { address: string; url: string }[]) =>
          new Settler(
            { chain, store, escrow, sender: escrow, log: createLog("warn", (line) => lines.push(line)) },
            {
              committee: COMMITTEE.address,
              proposer: localSigner(KEYS.proposer),
              attestors: [...alive, { address: COMMITTEE.members[2], url }],
              attestorTimeoutMs: 1_000,
            },
          ).settle(LANE, EPOCH);

        expect((await settle([one])).map(({ status }) => status)).to.deep.equal(["retry"]);
        expect(lines.join("\n")).to.match(sentence);
        expect((await store.receipts.ofRequest(requestId))?.state).to.equal("unbatched");
        expect((await settle([one, two])).map(({ status }) => status)).to.deep.equal(["settled"]);
        expect((await store.receipts.ofRequest(requestId))?.state).to.equal("settled");
      });
    }
  });

  describe("to an engine", () => {
    const shipped = "models/lic380k/lic380k.q8.gguf";
    const file = (name: string, content: Buffer | string) => () => {
      writeFileSync(join(folder, name), content);
      return join(folder, name);
    };
    const rows: Row<() => string>[] = [
      ["no file", () => join(folder, "none.gguf"), /none.gguf can't be loaded \(ENOENT.*\): name a GGUF file/],
      ["a folder", () => folder, /can't be loaded \(EISDIR.*\): name a GGUF file/],
      ["an empty file", file("empty.gguf", ""), /can't be loaded \(.*GGUF.*\): name a GGUF file/],
      ["another file", file("text.gguf", "once upon a time"), /can't be loaded \(.*GGUF.*\): name a GGUF file/],
      [
        "half a model",
        file("half.gguf", readFileSync(shipped).subarray(0, 200_000)),
        /can't be loaded .*name a GGUF file/,
      ],
    ];
    for (const [what, path, sentence] of rows) {
      it(`is refused: ${what}`, async function () {
        this.timeout(60_000);
        const problem = await startEngine({ modelPath: path() }).catch((cause: Error) => cause);
        expect(problem).to.be.instanceOf(Problem);
        expect((problem as Problem).message).to.match(sentence);
      });
    }

    it("is refused: a port in use", async function () {
      this.timeout(60_000);
      const server = createServer().listen(0, "127.0.0.1");
      await once(server, "listening");
      const { port } = server.address() as AddressInfo;
      const problem = await startEngine({ modelPath: shipped, port }).catch((cause: Error) => cause);
      server.close();
      expect(problem).to.be.instanceOf(Problem);
      expect((problem as Problem).message).to.match(
        /Port \d+ of 127.0.0.1 is in use: end what uses it, or set another/,
      );
    });
  });
});

/** What is in a file; null for what is none. */
function contentOf(path: string): Buffer | null {
  try {
    return readFileSync(path);
  } catch {
    return null;
  }
}

/** Does something as a user who may do little, where this one may do everything. */
function asNobody(work: () => void): void {
  const NOBODY = 65_534;
  if (process.geteuid?.() !== 0) return work();
  process.seteuid!(NOBODY);
  try {
    work();
  } finally {
    process.seteuid!(0);
  }
}

/** More than anybody should read. */
function flood(response: Parameters<RequestListener>[1]): void {
  const piece = Buffer.alloc(2 ** 20, "x");
  const more = () => {
    while (!response.destroyed && response.write(piece));
    if (!response.destroyed) response.once("drain", more);
  };
  response.on("error", () => {});
  more();
}
