import { time } from "@nomicfoundation/hardhat-network-helpers";
import { expect } from "chai";
import { Wallet, id } from "ethers";
import { APIError } from "openai";
import { setTimeout as wait } from "node:timers/promises";
import { generateKeyPairSync } from "node:crypto";
import { ecdsaKeyBytes, p256KeyBytes, packVouchers, signVoucherByP256 } from "../../oracle/protocol/vouchers";
import { describeOnEach } from "../support/databases";
import { streaming, USAGE, whole } from "../support/fakeUpstream";
import { DAY, usd, WAIT } from "../support/market";
import { bringToVouchers, CREDIT, KEY_CAP, LICENSE, TERM, VOUCHER_KEY, VoucherMarket } from "../support/voucherMarket";

const MESSAGES = [{ role: "user" as const, content: "May I copy this?" }];

interface Account {
  licenseId: string;
  credit: string;
  terms: { term: number; owed: string; signed: string; charged: string }[];
}

describeOnEach("gateway, for licenses on the voucher road", function (placeOf) {
  this.timeout(60_000);
  let world: VoucherMarket;
  let apiKey: string;

  beforeEach(async () => {
    world = await VoucherMarket.open({}, placeOf());
    apiKey = await world.apiKey();
  });

  afterEach(() => world.close());

  /** One request; what it left in the head of its answer. */
  async function chat(voucher?: string, key = apiKey): Promise<Headers> {
    const headers = voucher === undefined ? {} : { "x-licet-voucher": voucher };
    const { response } = await world
      .client(key)
      .chat.completions.create({ model: "writer", messages: MESSAGES }, { headers })
      .withResponse();
    return response.headers;
  }

  async function errorOf(attempt: Promise<unknown>): Promise<APIError & { error: Record<string, unknown> }> {
    const error = await attempt.then(
      () => new Error("it was served"),
      (cause: Error) => cause,
    );
    if (error instanceof APIError) return error as APIError & { error: Record<string, unknown> };
    throw error;
  }

  async function expectError(attempt: Promise<unknown>, status: number, code: string, sentence: RegExp) {
    const error = await errorOf(attempt);
    expect({ status: error.status, code: error.code }).to.deep.equal({ status, code });
    expect(error.message).to.match(sentence);
    return error;
  }

  /** Asks until the credit is used up, and says what the gateway wants then. */
  async function untilDue(key = apiKey) {
    for (let i = 0; i < 50; i++) {
      const error = await chat(undefined, key).then(
        () => null,
        (cause: APIError) => cause,
      );
      if (error !== null) return expectError(Promise.reject(error), 402, "voucher_due", /sign a voucher for \d+ /);
    }
    throw new Error("credit never ended");
  }

  async function account(key = apiKey): Promise<Account> {
    const headers = { authorization: `Bearer ${key}` };
    return (await (await fetch(`${world.gateway.url}/v1/vouchers`, { headers })).json()) as Account;
  }

  async function post(voucher: unknown, key = apiKey) {
    const answer = await fetch(`${world.gateway.url}/v1/vouchers`, {
      method: "POST",
      headers: { authorization: `Bearer ${key}`, "content-type": "application/json" },
      body: JSON.stringify({ voucher }),
    });
    const json = (await answer.json()) as Account & { error?: { code: string; message: string } };
    return { status: answer.status, code: json.error?.code, message: json.error?.message, terms: json.terms };
  }

  it("are served on credit, and told what they owe in all", async () => {
    const first = BigInt((await chat()).get("x-licet-spent")!);
    const second = BigInt((await chat()).get("x-licet-spent")!);
    expect(first > 0n && second > first).to.equal(true);
    const { terms, credit, licenseId } = await account();
    expect({ credit, licenseId }).to.deep.equal({ credit: String(CREDIT), licenseId: "1" });
    const [{ owed, signed, charged }] = terms;
    expect({ owed, signed, charged }).to.deep.equal({ owed: String(second), signed: "0", charged: "0" });
  });

  it("get receipts that come into no batch, and owe their sum", async () => {
    for (let i = 0; i < 3; i++) await chat();
    const headers = { authorization: `Bearer ${apiKey}` };
    const answer = await fetch(`${world.gateway.url}/v1/receipts`, { headers });
    const { data } = (await answer.json()) as {
      data: { state: string; batch_id: null; receipt: { sequence: string } }[];
    };
    expect(data.map(({ state, batch_id, receipt }) => [state, batch_id, receipt.sequence])).to.deep.equal([
      ["voucher", null, "1"],
      ["voucher", null, "2"],
      ["voucher", null, "3"],
    ]);
    expect(await world.store.unbatched.lanes()).to.deep.equal([]);
    expect(await world.store.tallies.unsettled(LICENSE)).to.equal(0n);
  });

  it("pay for streams, whose bytes are the server's", async () => {
    world.upstream.script = streaming();
    const stream = await world
      .client(apiKey)
      .chat.completions.create({ model: "writer", messages: MESSAGES, stream: true });
    let text = "";
    for await (const chunk of stream) text += chunk.choices[0]?.delta.content ?? "";
    expect(text).to.equal("You may copy this.");
    const [{ owed }] = (await account()).terms;
    expect(BigInt(owed) >= 100n + BigInt(USAGE.prompt_tokens)).to.equal(true);
  });

  it("are asked for a voucher when the credit is used up, in words and as JSON", async () => {
    const { error } = await untilDue();
    const [{ owed }] = (await account()).terms;
    expect(error.voucher).to.deep.equal({
      licenseId: "1",
      operatorId: 1,
      generation: 0,
      term: 0,
      owed,
      credit: String(CREDIT),
    });
    expect(BigInt(owed) <= CREDIT).to.equal(true);
  });

  it("are served on by a voucher that comes with the request", async () => {
    await untilDue();
    const [{ owed }] = (await account()).terms;
    const spent = BigInt((await chat(await world.voucher(BigInt(owed)))).get("x-licet-spent")!);
    expect(spent > BigInt(owed)).to.equal(true);
    expect((await account()).terms[0]).to.include({ signed: owed, owed: String(spent) });
  });

  it("are served on by a voucher that was posted", async () => {
    await untilDue();
    const [{ owed }] = (await account()).terms;
    expect((await post(await world.voucher(BigInt(owed)))).terms[0]).to.include({ owed, signed: owed });
    await chat();
  });

  it("may sign in advance, up to what the chain would pay", async () => {
    expect((await post(await world.voucher(KEY_CAP))).status).to.equal(200);
    for (let i = 0; i < 40; i++) await chat();
    const above = await post(await world.voucher(KEY_CAP + 1n));
    expect(above).to.include({ status: 402, code: "voucher_unpayable" });
    expect(above.message).to.match(/the chain would pay 2000000 units of the voucher for 2000001, .*CapReached/);
  });

  it("lose nothing by an older voucher, whose like changes nothing", async () => {
    await chat();
    const [older, newer] = [await world.voucher(50n), await world.voucher(100n)];
    await post(newer);
    expect((await post(older)).terms[0]).to.include({ signed: "100" });
    await chat(older);
    expect((await account()).terms[0]).to.include({ signed: "100" });
  });

  it("are known with what they owe and have signed after a restart", async () => {
    await untilDue();
    await world.restart();
    const error = await untilDue();
    const { owed } = error.error.voucher as { owed: string };
    await post(await world.voucher(BigInt(owed)));
    await world.restart();
    expect((await account()).terms[0]).to.include({ owed, signed: owed });
    await chat();
  });

  it("can't have more than the credit by asking for much at once", async () => {
    world.upstream.script = whole({ delayMs: 300 });
    const answers = await Promise.allSettled(Array.from({ length: 30 }, () => chat()));
    const codes = answers.map((one) => (one.status === "rejected" ? (one.reason as APIError).code : "served"));
    expect(codes).to.include("served").and.to.include("reserved_by_running_requests");
    const [{ owed }] = (await account()).terms;
    expect(BigInt(owed) <= CREDIT).to.equal(true);
  });

  it("have one credit at all of an operator's gateways together", async () => {
    world.upstream.script = whole({ delayMs: 500 });
    const first = world.client(apiKey);
    await world.start();
    const clients = [first, world.client(apiKey)];
    const answers = await Promise.allSettled(
      Array.from({ length: 40 }, (_, i) =>
        clients[i % 2].chat.completions.create({ model: "writer", messages: MESSAGES }),
      ),
    );
    const refusals = answers.flatMap((one) => (one.status === "rejected" ? [one.reason as APIError] : []));
    expect(new Set(refusals.map(({ code }) => code))).to.deep.equal(new Set(["reserved_by_running_requests"]));
    const worst = BigInt(/may cost up to (\d+) units/.exec(refusals[0].message)![1]);
    const served = BigInt(answers.length - refusals.length);
    expect(served).to.equal(CREDIT / worst);
    await chat();
  });

  it("can't have a request that the credit doesn't cover, unless they sign in advance", async () => {
    const dear = () =>
      world.client(apiKey).chat.completions.create({ model: "writer", messages: MESSAGES, max_tokens: 5_000 });
    const sentence =
      /may cost up to \d+ units, and this gateway serves on a credit of 3000: .*sign a voucher for \d+ in adv/;
    const { message } = await expectError(dear(), 402, "credit_exceeded", sentence);
    await post(await world.voucher(BigInt(/voucher for (\d+)/.exec(message)![1])));
    await dear();
  });

  it("free what a request that fails had reserved", async () => {
    world.upstream.script = (response) => void response.destroy();
    for (let i = 0; i < 12; i++) await errorOf(chat());
    world.upstream.script = whole();
    await chat();
  });

  it("are held to their balance and their cap", async () => {
    const { escrow } = world.market.licet;
    await escrow.connect(world.market.licensee).thaw(LICENSE, usd(5) - 100n);
    await expectError(chat(), 402, "balance_exceeded", /license 1 has 100 left, and 4999900 on their way out/);
  });

  describe("a voucher", () => {
    it("must be one", async () => {
      expect(await post("0x00")).to.include({ status: 400, code: "voucher_malformed" });
      expect((await post("0x02")).message).to.match(/first byte must be 0 or 1, not 2: send what voucher:sign prints/);
      expect((await post("hello")).message).to.match(/must be hex with 0x, not "hello"/);
      expect(await post(7)).to.include({ status: 400, code: "invalid_parameter" });
    });

    it("must be of the caller's license", async () => {
      const { code, message } = await post(await world.voucher(1n, { licenseId: 2n, term: 0, generation: 0 }));
      expect(code).to.equal("voucher_of_another");
      expect(message).to.match(/it is of license 2, and your API key of 1/);
    });

    it("must be of the license's generation", async () => {
      const { code, message } = await post(await world.voucher(1n, { generation: 9 }));
      expect(code).to.equal("voucher_generation");
      expect(message).to.match(/generation 9, the license's is 0/);
    });

    it("must be of a term that can be claimed", async () => {
      const { code, message } = await post(await world.voucher(1n, { term: 5 }));
      expect(code).to.equal("voucher_term");
      expect(message).to.match(/of term 5; those that can be signed for are 0/);
    });

    it("must be signed by a key that is registered, for this operator", async () => {
      const stranger = new Wallet(id("stranger"));
      const { code, message } = await post(await world.voucher(1n, {}, stranger));
      expect(code).to.equal("voucher_key");
      expect(message).to.contain(`key ${ecdsaKeyBytes(stranger.address)} isn't registered for license 1`);
      expect(await post(await world.voucher(1n, { operatorId: 2 }))).to.include({ code: "voucher_key" });
    });

    it("must be signed by a key that wasn't revoked", async () => {
      const { escrow } = world.market.licet;
      const voucher = await world.voucher(1n);
      await escrow.connect(world.market.licensee).revokeVoucherKey(LICENSE, ecdsaKeyBytes(VOUCHER_KEY.address));
      const { code, message } = await post(voucher);
      expect(code).to.equal("voucher_key");
      expect(message).to.match(/was revoked for license 1: sign with another/);
    });
  });

  it("are served for a passkey's vouchers, too", async () => {
    const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
    const { escrow } = world.market.licet;
    await escrow.connect(world.market.licensee).addVoucherKey(LICENSE, p256KeyBytes(privateKey), usd(1));
    const voucher = { licenseId: LICENSE, operatorId: 1, generation: 0, term: 0, spent: 700n };
    const packed = packVouchers([signVoucherByP256(world.chain.domain, voucher, privateKey)]);
    await chat(packed);
    expect((await account()).terms[0]).to.include({ signed: "700" });
    const forged = packVouchers([
      { ...signVoucherByP256(world.chain.domain, voucher, privateKey), voucher: { ...voucher, spent: 900n } },
    ]);
    expect(await post(forged)).to.include({ status: 403, code: "voucher_signature" });
  });

  it("sign with a key of their new generation, once the old one's grants and keys have ended", async () => {
    const { escrow } = world.market.licet;
    const owner = escrow.connect(world.market.licensee);
    await chat();
    const old = await world.voucher(10n);
    await owner.raiseGeneration(LICENSE);
    await expectError(chat(), 401, "grant_ended", /is of generation 0, the license's is 1: sign a new grant/);
    apiKey = await world.apiKey();
    expect(await post(old)).to.include({ code: "voucher_generation" });
    expect(await post(await world.voucher(10n))).to.include({ code: "voucher_key" });
    await owner.addVoucherKey(LICENSE, ecdsaKeyBytes(VOUCHER_KEY.address), KEY_CAP);
    expect((await post(await world.voucher(10n))).terms[0]).to.include({ signed: "10" });
  });

  it("that change their road and come back pay each receipt on one road, once", async () => {
    const { market, store } = world;
    const { escrow } = market.licet;
    const states = async () => (await store.receipts.from(1, LICENSE, 1n, 9)).map(({ state }) => state);
    await chat();
    const [{ owed: first }] = (await account()).terms;
    await post(await world.voucher(BigInt(first)));
    await escrow.settleVouchers(1, 1, (await store.vouchers.unposted())[0].voucher!);

    await escrow.connect(market.licensee).changeService(LICENSE, 1, false);
    await time.increase(WAIT + 1);
    await escrow.applyServiceChange(LICENSE);
    const attested = await chat(await world.voucher(BigInt(first) + 1n));
    expect(attested.get("x-licet-spent")).to.equal(null);
    expect(await states()).to.deep.equal(["voucher", "unbatched"]);
    expect(await post(await world.voucher(BigInt(first) + 1n))).to.include({ status: 403, code: "not_by_vouchers" });
    expect((await world.settleByBatch(LICENSE, 0.5)).spent).to.equal(BigInt(first) + usd(0.5));

    await bringToVouchers(market, LICENSE);
    const owed = BigInt((await chat()).get("x-licet-spent")!);
    expect(owed > usd(0.5) + BigInt(first)).to.equal(true);
    expect(await states()).to.deep.equal(["voucher", "unbatched", "voucher"]);
    const [{ signed }] = (await account()).terms;
    expect(BigInt(signed)).to.equal(usd(0.5) + BigInt(first));
    await post(await world.voucher(owed));
    await escrow.settleVouchers(1, 1, (await store.vouchers.unposted())[0].voucher!);
    expect((await escrow.accountOf(LICENSE)).spent).to.equal(owed);
    expect(await post(await world.voucher(owed + 1n))).to.include({ status: 200 });
  });

  describe("when a term ends", () => {
    it("sign for what is left of it first, and then for the next", async () => {
      await chat();
      const [{ owed }] = (await account()).terms;
      await time.increase(TERM - WAIT);
      apiKey = await world.apiKey();
      const { error } = await expectError(chat(), 402, "voucher_due", /owes \d+ units for its term 0/);
      expect(error.voucher).to.include({ term: 0, owed });
      await chat(await world.voucher(BigInt(owed)));
      const { terms } = await account();
      expect(terms.map(({ term, signed }) => [term, signed])).to.deep.equal([
        [0, owed],
        [1, "0"],
      ]);
      expect(BigInt(terms[1].owed) > 0n).to.equal(true);
      expect(await post(await world.voucher(BigInt(terms[1].owed), { term: 1 }))).to.include({ status: 200 });
    });

    it("aren't asked for what can't be claimed any more", async () => {
      await chat();
      await time.increase(TERM + DAY);
      expect((await account()).terms.map(({ term, owed }) => [term, owed])).to.deep.equal([[1, "0"]]);
      await chat();
    });
  });

  it("aren't served where no vouchers are taken", async () => {
    await world.restart({ voucherCredit: 0n });
    await expectError(chat(), 403, "voucher_road", /settles by vouchers, which this gateway doesn't take: ask another/);
    expect(await post(await world.voucher(1n))).to.include({ status: 403, code: "not_by_vouchers" });
  });

  it("need none of the operator's stake", async () => {
    const { staking } = world.market.licet;
    const { shares } = await staking.positionOf(1, world.market.operator);
    await staking.connect(world.market.operator).thaw(1, shares);
    expect(await staking.headroomOf(1)).to.equal(0n);
    await chat();
  });

  it("whose client hangs up owe what was delivered", async () => {
    world.upstream.script = streaming({ delayMs: 50, usage: null });
    const stream = await world
      .client(apiKey)
      .chat.completions.create({ model: "writer", messages: MESSAGES, stream: true });
    for await (const chunk of stream) if (chunk.choices[0]?.delta.content !== undefined) break;
    stream.controller.abort();
    for (let i = 0; i < 100 && (await account()).terms[0].owed === "0"; i++) await wait(20);
    expect(BigInt((await account()).terms[0].owed) > 0n).to.equal(true);
  });
});
