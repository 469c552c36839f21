import { expect } from "chai";
import { id, ZeroHash } from "ethers";
import { createServer, type RequestListener, type Server } from "node:http";
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { checkReceipts, type Charge, type CheckedReceipts } from "../../oracle/licensee/receiptCheck";
import { type ListedReceipt, listReceipts } from "../../oracle/licensee/receiptList";
import { Problem } from "../../oracle/problem";
import {
  receiptDigest,
  requestDigest,
  saltedHash,
  signDigest,
  signedReceiptToJson,
} from "../../oracle/protocol/messages";
import {
  packRequestSignature,
  requestSignatureBytes,
  requestSignatureHash,
} from "../../oracle/protocol/requestSignature";
import { ReceiptFlag, type Receipt } from "../../oracle/protocol/types";
import { FakeChain } from "../support/fakeChain";
import { DOMAIN, grantWith, receiptWith, usage, saltFrom } from "../support/fakeMessages";
import { streaming } from "../support/fakeUpstream";
import { GatewayBench, keyFor, LANE, MANIFEST, MESSAGES, OPERATOR_KEY, STRANGER } from "../support/gatewayBench";

const BATCH = id("batch");

describe("checkReceipts", () => {
  let chain: FakeChain;

  beforeEach(() => {
    chain = new FakeChain();
    chain.signingKeys.set(2, [OPERATOR_KEY.address]);
    const rates = usage({ inputTokens: 1_000_000n, cachedInputTokens: 500_000n, outputTokens: 2_000_000n });
    chain.plans.set(3, { planId: 3, assetId: 5, rates, attestor: STRANGER.address, minEvidenceTier: 0 });
    for (const [i, manifestHash] of [id("old"), MANIFEST].entries()) {
      const versionId = (5n << 32n) | BigInt(i + 1);
      chain.versions.set(versionId, { versionId, assetId: 5, manifestHash, usableUntil: 2 ** 40 - 1 });
    }
  });

  /** Of 10 × 1 + 4 × 0.5 + 3 × 2 = 18 units. */
  const PLAIN = { inputTokens: 10n, cachedInputTokens: 4n, outputTokens: 3n };

  /** Receipts, each changed, that are numbered, linked and signed as they should be. */
  function chained(...changes: Partial<Receipt & Pick<ListedReceipt, "state" | "batchId">>[]): ListedReceipt[] {
    let previousHash = ZeroHash;
    return changes.map(({ state = "unbatched", batchId = null, ...change }, i) => {
      const numbered = { ...PLAIN, requestId: id(`request ${i}`), sequence: BigInt(i + 1), previousHash, ...change };
      const receipt = receiptWith(numbered);
      previousHash = receiptDigest(DOMAIN, receipt);
      const signature = signDigest(OPERATOR_KEY.privateKey, previousHash);
      return { receipt, signature, state, batchId, requestSignature: null };
    });
  }

  const check = (receipts: ListedReceipt[], charges: Charge[] = []): Promise<CheckedReceipts> =>
    checkReceipts(chain, 1n, receipts, charges);
  const problemsOf = async (receipts: ListedReceipt[], charges?: Charge[]) => (await check(receipts, charges)).problems;

  it("finds nothing wrong with what is right, and sums it up", async () => {
    const inBatch = { state: "settled", batchId: BATCH };
    const receipts = chained(inBatch, { ...inBatch, manifestHash: id("old") }, { grantHash: id("other grant") });
    const { problems, cost, unsettled, grants, ...rest } = await check(receipts, [
      { batchId: BATCH, charged: 36n, discountBps: 0 },
    ]);
    expect(problems).to.deep.equal([]);
    expect({ cost, unsettled }).to.deep.equal({ cost: 54n, unsettled: 18n });
    expect(rest.usage).to.include({ requests: 3n, inputTokens: 30n, cachedInputTokens: 12n, outputTokens: 9n });
    expect([...grants.values()]).to.deep.equal([
      { receipts: 2, cost: 36n },
      { receipts: 1, cost: 18n },
    ]);
  });

  it("finds nothing wrong with numbers that were left out, where none is missing by the hashes", async () => {
    const receipts = chained({}, { sequence: 2n ** 50n }, { sequence: 2n ** 50n + 1n });
    expect(await problemsOf(receipts)).to.deep.equal([]);
  });

  it("finds nothing in nothing", async () => {
    expect(await problemsOf([])).to.deep.equal([]);
  });

  const wrong: [string, () => ListedReceipt[], RegExp][] = [
    [
      "one that was left out",
      () => chained({}, {}, {}).filter((_, i) => i !== 1),
      /^Receipt 3 says that it follows 0x/,
    ],
    [
      "a chain that doesn't begin at its beginning",
      () => chained({}, {}).slice(1),
      /^Receipt 2 says that it follows 0x/,
    ],
    ["one that is there twice", () => [0, 0].map((i) => chained({})[i]), /^Receipt 1 comes after number 1/],
    [
      "one that follows another",
      () => chained({}, { previousHash: id("x") }),
      /^Receipt 2 says that it follows 0x\w+; the/,
    ],
    [
      "one that ended before the one before it",
      () => chained({}, { finishedAt: 1_699_999_999 }),
      /before the one before/,
    ],
    ["one of another license", () => chained({ licenseId: 8n }), /is of license 8$/],
    ["one of another operator", () => chained({}, { operatorId: 9 }), /is of operator 9, the first of 2$/],
    [
      "one that was changed after it was signed",
      () => chained({}).map((one) => ({ ...one, receipt: { ...one.receipt, outputTokens: 4n } })),
      /is signed by 0x\w+, which wasn't a key of operator 2/,
    ],
    [
      "one that a stranger signed",
      () =>
        chained({}).map((one) => ({
          ...one,
          signature: signDigest(STRANGER.privateKey, receiptDigest(DOMAIN, one.receipt)),
        })),
      new RegExp(`is signed by ${STRANGER.address}, which wasn't a key of operator 2 all the time around 1700000000`),
    ],
    [
      "one with a signature that is none",
      () => chained({}).map((one) => ({ ...one, signature: `0x${"00".repeat(64)}1b` })),
      /isn't signed: signature 0x0+1b is of no key/,
    ],
    ["one under a plan that doesn't exist", () => chained({ planId: 7 }), /is under plan 7, which doesn't exist/],
    ["one of another model", () => chained({ manifestHash: id("x") }), /asset 5 has no such version/],
    ["one that counts two requests", () => chained({ requests: 2n }), /counts 2 requests; a receipt is of one/],
    [
      "one that charges for a failure",
      () => chained({ flags: ReceiptFlag.upstreamError }),
      /charges for a request that/,
    ],
    [
      "one that charges a prompt for a stream that broke off",
      () => chained({ flags: ReceiptFlag.broken, requests: 0n, computeMs: 0n, cachedInputTokens: 0n }),
      /charges more than output for a stream that its flags \(16\) call broken/,
    ],
    ["a first token after the end", () => chained({ ttftMs: 901 }), /has its first token after 901 ms of 900/],
    [
      "a settlement that the chain doesn't know",
      () => chained({ state: "settled", batchId: BATCH }),
      /^Batch 0x\w+ is said to be settled, and the chain doesn't have it/,
    ],
  ];
  for (const [what, receipts, sentence] of wrong) {
    it(`finds ${what}`, async () => {
      const problems = await problemsOf(receipts());
      expect(
        problems.some((problem) => sentence.test(problem)),
        problems.join("; "),
      ).to.equal(true);
    });
  }

  it("finds a key that had expired when it signed the last", async () => {
    chain.keysExpireAt = 1_700_000_100;
    expect(await problemsOf(chained({}))).to.deep.equal([]);
    const [problem] = await problemsOf(chained({}, { finishedAt: 1_700_000_100 }));
    expect(problem).to.match(/wasn't a key of operator 2 all the time/);
  });

  describe("under a grant with a key", () => {
    const keys = new Map([[receiptWith().grantHash, STRANGER.address]]);
    /** Receipts, the requests of which a key signed at some times. */
    function asked(key: string, ...times: number[]): ListedReceipt[] {
      const signed = times.map((at) => {
        const signature = signDigest(key, requestDigest(DOMAIN, { ...receiptWith(), at }));
        return requestSignatureBytes(packRequestSignature(at, signature));
      });
      const receipts = chained(...signed.map((one) => ({ requestSignatureHash: requestSignatureHash(one) })));
      return receipts.map((one, i) => ({ ...one, requestSignature: signed[i] }));
    }
    const found = async (receipts: ListedReceipt[], requestKeys: ReadonlyMap<string, string> = keys) =>
      (await checkReceipts(chain, 1n, receipts, [], undefined, requestKeys)).problems;

    it("finds nothing wrong with requests that the key signed", async () => {
      expect(await found(asked(STRANGER.privateKey, 1, 2))).to.deep.equal([]);
    });

    it("finds one that nobody signed, or another than the key", async () => {
      expect(await found(chained({}))).to.deep.equal([
        `Receipt 1 has no signature of its request, which its grant wants of ${STRANGER.address}`,
      ]);
      expect(await found(asked(OPERATOR_KEY.privateKey, 1))).to.deep.equal([
        `Receipt 1 is of a request that isn't signed by its grant's key ${STRANGER.address}: ${OPERATOR_KEY.address}`,
      ]);
    });

    it("finds one that is charged twice", async () => {
      expect(await found(asked(STRANGER.privateKey, 1, 1))).to.deep.equal([
        "Receipt 2 has its request's signature from receipt 1",
      ]);
    });

    it("finds one whose signature isn't shown, or is another, under grants that it doesn't know, too", async () => {
      const [one, two] = asked(STRANGER.privateKey, 1, 2);
      const [hidden] = await found([{ ...one, requestSignature: null }], new Map());
      expect(hidden).to.match(/^Receipt 1 says 0x\w+ of its request's signature, which the gateway doesn't show$/);
      const [other] = await found([{ ...one, requestSignature: two.requestSignature }], new Map());
      expect(other).to.match(/^Receipt 1 says 0x\w+ of its request's signature; the one shown has 0x/);
      expect(await found([one], new Map())).to.deep.equal([]);
    });
  });

  it("finds a charge above what the receipts are worth, to the unit, discount included", async () => {
    const receipts = chained({ state: "settled", batchId: BATCH }, { state: "settled", batchId: BATCH });
    const charged = (units: bigint, discountBps: number) =>
      problemsOf(receipts, [{ batchId: BATCH, charged: units, discountBps }]);
    expect(await charged(36n, 0)).to.deep.equal([]);
    expect(await charged(20n, 0)).to.deep.equal([]);
    expect(await charged(37n, 0)).to.deep.equal([`Batch ${BATCH} charged 37 units; its 2 receipts are worth 36`]);
    expect(await charged(27n, 2_500)).to.deep.equal([]);
    expect(await charged(28n, 2_500)).to.deep.equal([`Batch ${BATCH} charged 28 units; its 2 receipts are worth 27`]);
  });

  it("finds a charge of which no receipt was shown, but not one of nothing", async () => {
    expect(await problemsOf(chained({}), [{ batchId: BATCH, charged: 5n, discountBps: 0 }])).to.deep.equal([
      `Batch ${BATCH} charged 5 units, and no receipt of it was shown`,
    ]);
    expect(await problemsOf(chained({}), [{ batchId: BATCH, charged: 0n, discountBps: 0 }])).to.deep.equal([]);
  });
});

describe("a gateway's list of receipts", () => {
  let bench: GatewayBench;

  beforeEach(async () => {
    bench = await GatewayBench.start();
    await bench.serve();
  });

  afterEach(() => bench.close());

  it("has all of a license's, in pages, whatever grants they came under, and checks out", async () => {
    const other = keyFor({ salt: saltFrom(MANIFEST) });
    for (let i = 0; i < 5; i++) await bench.chat({}, i % 2 === 0 ? keyFor() : other);
    const { json } = await bench.get("/v1/receipts?from=2&limit=3");
    const { object, data, has_more: hasMore } = json as unknown as { object: string; data: never[]; has_more: boolean };
    expect({ object, hasMore }).to.deep.equal({ object: "list", hasMore: true });
    const stored = await bench.store.receipts.from(LANE.operatorId, 1n, 2n, 3);
    const shown = ({ hash, state, batchId, ...signed }: (typeof stored)[0]) => ({
      ...signedReceiptToJson(signed),
      hash,
      state,
      batch_id: batchId,
    });
    expect(data).to.deep.equal(stored.map(shown));
    expect((await bench.get("/v1/receipts?from=5&limit=1")).json).to.include({ has_more: false });
    expect((await bench.get("/v1/receipts?from=6")).json).to.deep.equal({ object: "list", data: [], has_more: false });

    const listed = await listReceipts(bench.gateway.url, keyFor());
    expect(listed.map(({ receipt }) => receipt)).to.deep.equal(await bench.receipts());
    const { problems, cost } = await checkReceipts(bench.chain, 1n, listed, []);
    expect({ problems, cost }).to.deep.equal({ problems: [], cost: await bench.store.tallies.unsettled(1n) });
  });

  it("follows its pages to the end", async () => {
    let asked = 0;
    const receipt = receiptWith();
    const row = {
      ...signedReceiptToJson({ receipt, signature: `0x${"11".repeat(65)}` }),
      state: "void",
      batch_id: null,
    };
    const server = await serving((_request, response) => {
      asked += 1;
      response.end(JSON.stringify({ data: asked === 3 ? [row] : [row, row], has_more: asked < 3 }));
    });
    expect(await listReceipts(urlOf(server), "key")).to.have.length(5);
    await stop(server);
  });

  it("has the receipts of every ending: whole, streamed, cut off and failed, and each answer's hash", async () => {
    const [upstream] = bench.upstreams;
    const body = JSON.stringify({ model: "writer", messages: MESSAGES, stream: true });
    upstream.script = streaming();
    const whole = await bench.post(body);
    upstream.script = streaming({ dies: true });
    const broken = await bench.post(body);
    upstream.script = (response) => void response.destroy();
    const failed = await bench.post(body);
    const listed = await listReceipts(bench.gateway.url, keyFor());
    expect((await checkReceipts(bench.chain, 1n, listed, [])).problems).to.deep.equal([]);
    const { salt } = grantWith();
    for (const [i, { headers, text }] of [whole, broken, failed].entries()) {
      const { receipt } = listed[i];
      expect(headers["x-licet-receipt-id"]).to.equal(receipt.requestId);
      expect(receipt.requestHash).to.equal(saltedHash(salt, Buffer.from(body)));
      expect(receipt.responseHash).to.equal(saltedHash(salt, Buffer.from(text)));
    }
  });

  it("is of the caller's license alone, and of nobody's without a key", async () => {
    await bench.chat();
    bench.setLicense({ licenseId: 2n });
    expect((await bench.get("/v1/receipts", keyFor({ licenseId: 2n }))).json).to.deep.include({ data: [] });
    expect((await bench.get("/v1/receipts", "nonsense")).status).to.equal(401);
  });

  for (const query of [
    "from=0",
    "from=-1",
    "from=x",
    "limit=0",
    "limit=1001",
    "from=9223372036854775808",
    "from=1&from=2",
  ]) {
    it(`refuses ${query}`, async () => {
      const { status, json } = await bench.get(`/v1/receipts?${query}`);
      expect(status).to.equal(400);
      expect(json).to.have.nested.property("error.code", "invalid_parameter");
    });
  }

  const serving = async (listener: RequestListener): Promise<Server> => {
    const server = createServer(listener).listen(0, "127.0.0.1");
    await once(server, "listening");
    return server;
  };
  const urlOf = (server: Server) => `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const stop = async (server: Server) => {
    server.closeAllConnections();
    server.close();
    await once(server, "close");
  };

  const answers: [string, RequestListener, RegExp][] = [
    [
      "an error",
      (_, response) => void response.writeHead(401).end('{"error":{"message":"no key"}}'),
      /answered 401: "no key"/,
    ],
    ["HTML", (_, response) => void response.end("<html>"), /gives no receipts/],
    ["something else", (_, response) => void response.end('{"data":5}'), /it is no list of receipts/],
    ["receipts that are none", (_, response) => void response.end('{"data":[{}],"has_more":false}'), /has no state/],
    ["a flood", (_, response) => void response.end("x".repeat(9 * 2 ** 20)), /can't be read .*answered over/],
    ["nothing", (_, response) => void response.destroy(), /can't be read .*is the gateway there\?/],
  ];
  for (const [what, listener, sentence] of answers) {
    it(`says so where a gateway answers ${what}`, async () => {
      const server = await serving(listener);
      const problem = await listReceipts(urlOf(server), "key").catch((cause: Error) => cause);
      await stop(server);
      expect(problem).to.be.instanceOf(Problem).with.property("message").that.matches(sentence);
    });
  }
});
