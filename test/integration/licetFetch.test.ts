import { time } from "@nomicfoundation/hardhat-network-helpers";
import { expect } from "chai";
import { generateKeyPairSync } from "node:crypto";
import hre from "hardhat";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { id, Wallet } from "ethers";
import OpenAI, { APIError } from "openai";
import { connectLicensee, licetFetch, mintGrant, type LicetFetch, type LicetFetchConfig } from "../../oracle/licensee";
import { checkReceipts, requestKeysOf } from "../../oracle/licensee/receiptCheck";
import { listReceipts } from "../../oracle/licensee/receiptList";
import { decodeBearer, grantDigest } from "../../oracle/protocol/messages";
import { ecdsaKeyBytes, p256KeyBytes } from "../../oracle/protocol/vouchers";
import { streaming, whole } from "../support/fakeUpstream";
import { HOUR, usd, WAIT } from "../support/market";
import {
  bringToVouchers,
  CREDIT,
  LICENSE,
  RECEIPT_KEY,
  TERM,
  VOUCHER_KEY,
  VoucherMarket,
} from "../support/voucherMarket";

const MESSAGES = [{ role: "user" as const, content: "May I copy this?" }];

describe("licetFetch", function () {
  this.timeout(120_000);
  let world: VoucherMarket;
  let apiKey: string;
  let folder: string;

  beforeEach(async () => {
    world = await VoucherMarket.open();
    apiKey = await world.apiKey();
    folder = mkdtempSync(join(tmpdir(), "licet-books-"));
  });

  afterEach(async () => {
    await world.close();
    rmSync(folder, { recursive: true });
  });

  async function helper(changes: Partial<LicetFetchConfig> = {}): Promise<LicetFetch> {
    const escrow = await world.market.licet.escrow.getAddress();
    const licensee = await connectLicensee(hre.ethers.provider, { escrow, fromBlock: 0, clock: "chain" });
    return licetFetch({ ...licensee, apiKey, voucherKey: VOUCHER_KEY, ...changes });
  }

  /** The package as it is, but for where it is told to send by. */
  const clientOf = (fetch: LicetFetch, maxRetries = 0) =>
    new OpenAI({ baseURL: `${world.gateway.url}/v1`, apiKey: "none", fetch, maxRetries });

  async function chat(openai: OpenAI, content = "May I copy this?"): Promise<string> {
    const messages = [{ role: "user" as const, content }];
    const answer = await openai.chat.completions.create({ model: "writer", messages });
    return answer.choices[0].message.content!;
  }

  async function chatStream(openai: OpenAI): Promise<string> {
    const stream = await openai.chat.completions.create({ model: "writer", messages: MESSAGES, stream: true });
    let text = "";
    for await (const chunk of stream) text += chunk.choices[0]?.delta.content ?? "";
    return text;
  }

  async function refusalOf(attempt: Promise<unknown>): Promise<APIError> {
    const error = await attempt.then(
      () => new Error("it was served"),
      (cause: Error) => cause,
    );
    if (error instanceof APIError) return error;
    throw error;
  }

  /** What the gateway counts of the terms that can be claimed. */
  const terms = async () =>
    (await world.store.vouchers.terms(1, LICENSE)).map(({ term, owed, signed }) => ({ term, owed, signed }));

  it("has an unmodified client go on and on: it signs what is due, and no more", async () => {
    const openai = clientOf(await helper());
    for (let i = 0; i < 40; i++) expect(await chat(openai)).to.equal("You may copy this.");
    const [{ owed, signed }] = await terms();
    expect(owed > CREDIT).to.equal(true);
    expect(signed <= owed && signed > owed - CREDIT).to.equal(true);
  });

  it("does so by a key of the curve P-256, as secure enclaves have them", async () => {
    const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
    const { licet, licensee } = world.market;
    await licet.escrow.connect(licensee).addVoucherKey(LICENSE, p256KeyBytes(privateKey), usd(2));
    const openai = clientOf(await helper({ voucherKey: privateKey }));
    for (let i = 0; i < 40; i++) expect(await chat(openai)).to.equal("You may copy this.");
    const [{ owed, signed }] = await terms();
    expect(owed > CREDIT).to.equal(true);
    expect(signed <= owed && signed > owed - CREDIT).to.equal(true);
  });

  for (const [what, key] of [
    ["another curve", generateKeyPairSync("ec", { namedCurve: "P-384" }).privateKey],
    ["a public half", generateKeyPairSync("ec", { namedCurve: "P-256" }).publicKey],
    ["another kind", generateKeyPairSync("ed25519").privateKey],
  ] as const) {
    it(`refuses a voucher key of ${what}`, async () => {
      const problem = await helper({ voucherKey: key }).catch((cause: Error) => cause);
      expect((problem as Error).message).to.match(
        /^voucherKey must be a private key of the curve P-256 \(prime256v1\), and this is another: (private|public), /,
      );
    });
  }

  it("does so for streams", async () => {
    world.upstream.script = streaming();
    const openai = clientOf(await helper());
    for (let i = 0; i < 30; i++) expect(await chatStream(openai)).to.equal("You may copy this.");
    const [{ owed, signed }] = await terms();
    expect(owed > CREDIT && signed > 0n && signed <= owed).to.equal(true);
  });

  it("does so for many requests at once", async () => {
    world.upstream.script = whole({ delayMs: 20 });
    const openai = clientOf(await helper(), 20);
    await Promise.all(Array.from({ length: 40 }, (_, i) => chat(openai, `Question ${i}?`)));
    const [{ owed, signed }] = await terms();
    expect(signed <= owed && owed > CREDIT).to.equal(true);
    expect(await world.store.receipts.from(1, LICENSE, 1n, 100)).to.have.length(40);
  });

  it("signs for all that is owed when it is told to pay", async () => {
    const fetch = await helper();
    const openai = clientOf(fetch);
    for (let i = 0; i < 3; i++) await chat(openai);
    await fetch.pay(world.gateway.url);
    const [{ owed, signed }] = await terms();
    expect(signed).to.equal(owed);
    expect((await world.store.vouchers.unposted())[0]).to.include({ signed: owed });
    await fetch.pay(world.gateway.url);
  });

  describe("a gateway that demands more than its receipts say", () => {
    /** As if the gateway asked for a unit more. */
    const greedy: typeof globalThis.fetch = async (input, init) => {
      const response = await globalThis.fetch(input, init);
      if (response.status !== 402) return response;
      const body = (await response.json()) as { error: { voucher: { owed: string } } };
      const { voucher } = body.error;
      voucher.owed = String(BigInt(voucher.owed) + 1n);
      return new Response(JSON.stringify(body), { status: 402, headers: { "content-type": "application/json" } });
    };

    it("is refused, with a sentence, and nothing is signed", async () => {
      const openai = clientOf(await helper({ fetch: greedy }));
      const work = async () => {
        for (let i = 0; i < 40; i++) await chat(openai);
      };
      const { status, code, message } = await refusalOf(work());
      expect({ status, code }).to.deep.equal({ status: 402, code: "voucher_refused" });
      const [{ owed, signed }] = await terms();
      expect(message).to.contain(
        `asks for a voucher for ${owed + 1n} units of term 0; the receipts that it shows are worth ${owed}`,
      );
      expect(signed).to.equal(0n);
    });
  });

  describe("receipts of requests that weren't sent", () => {
    const useUp = async (openai: OpenAI) => {
      for (let i = 0; i < 40; i++) await chat(openai);
    };

    it("are refused under its own grant", async () => {
      const openai = clientOf(await helper());
      await chat(openai);
      await time.increase(HOUR);
      await chat(world.client(apiKey), "Somebody else's question");
      const { code, message } = await refusalOf(useUp(openai));
      expect(code).to.equal("voucher_refused");
      expect(message).to.match(
        /Receipt 2 is of a request that wasn't sent from here \(0x[0-9a-f]{64}\); if another program/,
      );
      expect((await terms())[0]).to.include({ signed: 0n });
    });

    it("are paid under other grants, which other programs have", async () => {
      const openai = clientOf(await helper());
      await chat(openai);
      await time.increase(HOUR);
      await chat(world.client(await world.apiKey()), "Somebody else's question");
      await useUp(openai);
    });
  });

  describe("a receipt that doesn't hold", () => {
    it("is refused: one that its operator's key didn't sign", async () => {
      const fetch = await helper();
      for (let i = 0; i < 3; i++) await chat(clientOf(fetch));
      const { operators } = world.market.licet;
      await operators.connect(world.market.operator).revokeKey(1, RECEIPT_KEY.address);
      const problem = await fetch.pay(world.gateway.url).catch((cause: Error) => cause);
      expect(problem)
        .to.have.property("message")
        .that.matches(/A receipt doesn't hold, so nothing is signed: Receipt 1 is signed by/);
    });
  });

  it("works for two clients of one license at once", async () => {
    const [one, other] = [clientOf(await helper()), clientOf(await helper({ apiKey: await world.apiKey() }))];
    for (let i = 0; i < 20; i++) await Promise.all([chat(one), chat(other)]);
    const [{ owed, signed }] = await terms();
    expect(owed > CREDIT && signed > 0n && signed <= owed).to.equal(true);
  });

  it("hands a voucher over again that was lost on its way", async () => {
    let isLost = true;
    const lossy: typeof globalThis.fetch = async (input, init) => {
      if (isLost && new Headers(init?.headers).has("x-licet-voucher")) throw new TypeError("fetch failed");
      return globalThis.fetch(input, init);
    };
    const openai = clientOf(await helper({ fetch: lossy }));
    const lost = await (async () => {
      for (let i = 0; i < 40; i++) await chat(openai);
    })().catch((cause: Error) => cause);
    expect(lost).to.be.instanceOf(OpenAI.APIConnectionError);
    expect((await terms())[0]).to.include({ signed: 0n });
    isLost = false;
    await chat(openai);
    expect((await terms())[0].signed > 0n).to.equal(true);
  });

  it("goes on after the gateway was started anew", async () => {
    const fetch = await helper();
    for (let i = 0; i < 20; i++) await chat(clientOf(fetch));
    const before = (await terms())[0];
    await world.restart();
    for (let i = 0; i < 20; i++) await chat(clientOf(fetch));
    const [{ owed, signed }] = await terms();
    expect(signed > before.signed && owed > before.owed && signed <= owed).to.equal(true);
  });

  it("goes on after it was started anew, with its books and without", async () => {
    const file = join(folder, "books.json");
    for (const changes of [{ file }, { file }, {}]) {
      const openai = clientOf(await helper(changes));
      for (let i = 0; i < 15; i++) await chat(openai);
    }
    const [{ owed, signed }] = await terms();
    expect(owed > CREDIT && signed > 0n && signed <= owed).to.equal(true);
    const { licenseId, signed: vouchers } = JSON.parse(readFileSync(file, "utf8")) as {
      licenseId: string;
      signed: object[];
    };
    expect(licenseId).to.equal("1n");
    expect(vouchers).to.have.length(1);
  });

  it("signs for what is left of a term that ended, and then for the next", async () => {
    const expiresAt = Number((await world.market.licet.escrow.accountOf(LICENSE)).expiresAt);
    await time.increaseTo(expiresAt - HOUR);
    apiKey = await world.apiKey();
    const openai = clientOf(await helper());
    for (let i = 0; i < 5; i++) await chat(openai);
    await time.increaseTo(expiresAt + HOUR);
    for (let i = 0; i < 40; i++) await chat(openai);
    const [ended, present] = await terms();
    expect(ended.term).to.equal(0);
    expect(ended.signed).to.equal(ended.owed);
    expect(present.term).to.equal(1);
    expect(present.signed > 0n && present.signed <= present.owed).to.equal(true);
  });

  it("counts what batches charged in the term before the license came to vouchers", async () => {
    const openai = clientOf(await helper());
    for (let i = 0; i < 20; i++) await chat(openai);
    const { escrow } = world.market.licet;
    const [{ voucher }] = await world.store.vouchers.unposted();
    await escrow.connect(world.market.outsider).settleVouchers(1, 1, voucher!);
    for (let i = 0; i < 20; i++) await chat(openai);
    const [{ owed, signed }] = await terms();
    expect(signed <= owed && signed > owed - CREDIT).to.equal(true);
  });

  it("counts from what batches had charged, once the license has come back to vouchers", async () => {
    const { escrow } = world.market.licet;
    const fetch = await helper();
    for (let i = 0; i < 3; i++) await chat(clientOf(fetch));
    await fetch.pay(world.gateway.url);
    await escrow.settleVouchers(1, 1, (await world.store.vouchers.unposted())[0].voucher!);
    await escrow.connect(world.market.licensee).changeService(LICENSE, 1, false);
    await time.increase(WAIT + 1);
    await escrow.applyServiceChange(LICENSE);
    await chat(clientOf(fetch));
    await world.settleByBatch(LICENSE, 0.5);
    await bringToVouchers(world.market, LICENSE);
    for (let i = 0; i < 30; i++) await chat(clientOf(fetch));
    await fetch.pay(world.gateway.url);
    const [{ owed, signed }] = await terms();
    expect(signed).to.equal(owed);
    expect(owed > usd(0.5)).to.equal(true);
  });

  describe("limits", () => {
    const untilRefused = async (openai: OpenAI) =>
      refusalOf(
        (async () => {
          for (let i = 0; i < 80; i++) await chat(openai);
        })(),
      );

    it("of a term are kept", async () => {
      const { code, message } = await untilRefused(clientOf(await helper({ limits: { perTerm: 4_000n } })));
      expect(code).to.equal("voucher_refused");
      expect(message).to.match(/\d+ units would be signed for term 0, and the limit is 4000: raise it, or wait/);
      expect((await terms())[0].signed <= 4_000n).to.equal(true);
    });

    it("of a day are kept, until the next", async () => {
      const openai = clientOf(await helper({ limits: { perDay: 4_000n } }));
      expect((await untilRefused(openai)).message).to.match(/would be signed for today, and the limit is 4000/);
      await time.increase(24 * HOUR);
      await chat(openai);
    });

    it("of a key that was revoked are the gateway's to tell", async () => {
      const { escrow } = world.market.licet;
      await escrow.connect(world.market.licensee).revokeVoucherKey(LICENSE, ecdsaKeyBytes(VOUCHER_KEY.address));
      const { status, code, message } = await untilRefused(clientOf(await helper()));
      expect({ status, code }).to.deep.equal({ status: 403, code: "voucher_key" });
      expect(message).to.match(/was revoked for license 1: sign with another/);
    });
  });

  it("refuses books of another license, broken ones, and what is no key", async () => {
    const file = join(folder, "books.json");
    writeFileSync(file, '{"licenseId":"9n"}');
    const failureOf = (changes: Partial<LicetFetchConfig>) => helper(changes).catch((cause: Error) => cause);
    expect(await failureOf({ file }))
      .to.have.property("message")
      .that.matches(/has the books of license 9, and the API key is of 1/);
    writeFileSync(file, "{");
    expect(await failureOf({ file }))
      .to.have.property("message")
      .that.matches(/can't be read as books .* name another file/);
    const secret = "0xabc";
    const problem = (await failureOf({ voucherKey: secret })) as Error;
    expect(problem.message)
      .to.match(/a private key of 32 bytes in hex/)
      .and.not.contain(secret);
  });

  it("leaves what isn't about vouchers as it is", async () => {
    const openai = clientOf(await helper());
    expect((await openai.models.list()).data.map(({ id }) => id)).to.deep.equal(["writer"]);
    const { status, code } = await refusalOf(openai.chat.completions.create({ model: "nobody", messages: MESSAGES }));
    expect({ status, code }).to.deep.equal({ status: 404, code: "model_not_found" });
  });

  describe("with a grant that names a key", () => {
    const REQUEST_KEY = new Wallet(id("request key"));
    let keyed: string;

    beforeEach(async () => {
      keyed = await keyedBy(REQUEST_KEY.address);
    });

    async function keyedBy(key?: string): Promise<string> {
      const now = await time.latest();
      const terms = { licenseId: LICENSE, generation: 0, cap: 0n, notBefore: now, expiresAt: now + TERM, key };
      return (await mintGrant(world.chain.domain, terms, world.market.licensee)).apiKey;
    }

    const signing = (changes: Partial<LicetFetchConfig> = {}) =>
      helper({ apiKey: keyed, requestKey: REQUEST_KEY.privateKey, ...changes });

    it("signs each request unseen, and its receipts and vouchers hold", async () => {
      const fetch = await signing();
      const openai = clientOf(fetch);
      for (let i = 0; i < 30; i++) expect(await chat(openai, `Question ${i}?`)).to.equal("You may copy this.");
      world.upstream.script = streaming();
      expect(await chatStream(openai)).to.equal("You may copy this.");
      await fetch.pay(world.gateway.url);
      const [{ owed, signed }] = await terms();
      expect(signed).to.equal(owed);
      const receipts = await world.store.receipts.from(1, LICENSE, 1n, 100);
      expect(receipts).to.have.length(31);
      expect(new Set(receipts.map(({ receipt }) => receipt.requestSignatureHash)).size).to.equal(31);
      const problems = await listAndCheck();
      expect(problems).to.deep.equal([]);
    });

    async function listAndCheck(): Promise<string[]> {
      const listed = await listReceipts(world.gateway.url, keyed);
      const { grant } = decodeBearer(keyed);
      const keys = requestKeysOf(grantDigest(world.chain.domain, grant), grant);
      return (await checkReceipts(world.chain, LICENSE, listed, [], undefined, keys)).problems;
    }

    it("takes requests that are alike for as many, at once and with any wallet", async () => {
      const openai = clientOf(await signing({ requestKey: REQUEST_KEY }), 20);
      await Promise.all(Array.from({ length: 20 }, () => chat(openai)));
      expect(await world.store.receipts.from(1, LICENSE, 1n, 100)).to.have.length(20);
    });

    it("signs no vouchers without a key for them, and passes the gateway's demand on", async () => {
      const fetch = await signing({ voucherKey: undefined });
      const work = async () => {
        for (let i = 0; i < 40; i++) await chat(clientOf(fetch));
      };
      expect(await refusalOf(work())).to.include({ status: 402, code: "voucher_due" });
      const problem = await fetch.pay(world.gateway.url).catch((cause: Error) => cause);
      expect(problem)
        .to.have.property("message")
        .that.matches(/no voucherKey to sign with/);
    });

    it("refuses to begin without that key, and with one where the grant names none", async () => {
      const failureOf = (changes: Partial<LicetFetchConfig>) => helper(changes).catch((cause: Error) => cause);
      expect(await failureOf({ apiKey: keyed }))
        .to.have.property("message")
        .that.contains(`wants requests signed by ${REQUEST_KEY.address}: give licetFetch that key as requestKey`);
      expect(await failureOf({ requestKey: REQUEST_KEY }))
        .to.have.property("message")
        .that.contains("leave requestKey out");
      expect(await failureOf({ apiKey: keyed, requestKey: "0xabc" }))
        .to.have.property("message")
        .that.matches(/requestKey must be a signer, or a private key/);
    });

    it("refuses to sign with another key", async () => {
      const openai = clientOf(await signing({ requestKey: VOUCHER_KEY }));
      const failure = await chat(openai).catch((cause: Error) => cause);
      expect((failure as Error).cause ?? failure)
        .to.have.property("message")
        .that.contains(`the grant wants requests signed by ${REQUEST_KEY.address}`);
    });
  });

  it("takes grants that mintGrant signs", async () => {
    const now = await time.latest();
    const grantTerms = { licenseId: LICENSE, generation: 0, cap: 10_000n, notBefore: now, expiresAt: now + TERM };
    const minted = await mintGrant(world.chain.domain, grantTerms, world.market.licensee);
    expect(await chat(clientOf(await helper({ apiKey: minted.apiKey })))).to.equal("You may copy this.");
    const [{ receipt }] = await world.store.receipts.from(1, LICENSE, 1n, 1);
    expect(receipt.grantHash).to.equal(minted.hash);
  });
});
