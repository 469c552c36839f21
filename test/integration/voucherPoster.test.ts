import { setBalance, time } from "@nomicfoundation/hardhat-network-helpers";
import { expect } from "chai";
import { parseEther, Wallet } from "ethers";
import hre from "hardhat";
import OpenAI from "openai";
import { AccountSender } from "../../oracle/chain/accountSender";
import { connectEscrow } from "../../oracle/chain/ethersEscrow";
import type { RpcProvider } from "../../oracle/chain/ethersChain";
import { onlyWitness } from "../../oracle/chain/witness";
import { connectLicensee, licetFetch } from "../../oracle/licensee";
import { createLog } from "../../oracle/log";
import type { PricedSender } from "../../oracle/settler/sender";
import { VoucherPoster, type VoucherPosterConfig } from "../../oracle/settler/voucherPoster";
import { describeOnEach } from "../support/databases";
import { DAY, HOUR, usd, WAIT } from "../support/market";
import { FUNDS, LICENSE, RECEIPT_KEY, VOUCHER_KEY, VoucherMarket } from "../support/voucherMarket";

/** And a while: chains' clocks go by blocks. */
const A_DAY = DAY + HOUR;
const provider = hre.ethers.provider as RpcProvider;

describeOnEach("VoucherPoster", function (placeOf) {
  this.timeout(120_000);
  let world: VoucherMarket;
  let lines: string[];
  /** Anybody's account, with money for gas. */
  let account: Wallet;

  beforeEach(async () => {
    world = await VoucherMarket.open({ voucherCredit: usd(10) }, placeOf());
    lines = [];
    account = Wallet.createRandom() as unknown as Wallet;
    await setBalance(account.address, parseEther("10"));
  });

  afterEach(() => world.close());

  async function senderOf(by = account): Promise<AccountSender> {
    await setBalance(by.address, parseEther("10"));
    return AccountSender.open(
      { provider, witness: onlyWitness(provider), signer: new Wallet(by.privateKey), store: world.store, log: log() },
      { finality: 1, pollMs: 1, timeoutMs: 5_000 },
    );
  }

  const log = () => createLog("debug", (line) => lines.push(line));
  const messages = () => lines.map((line) => (JSON.parse(line) as { message: string }).message);

  async function poster(changes: { sender?: PricedSender; by?: Wallet } & Partial<VoucherPosterConfig> = {}) {
    const { by = account, sender = await senderOf(by), ...config } = changes;
    const { chain, vouchers, store, market } = world;
    const escrow = connectEscrow(provider, onlyWitness(provider), {
      escrow: await market.licet.escrow.getAddress(),
      fromBlock: 0,
      finality: 1,
    });
    return new VoucherPoster({ chain, vouchers, store, escrow, sender, log: log() }, { poster: by.address, ...config });
  }

  /** Has the gateway serve a license for so much, and hold a voucher for it. */
  async function owe(amount: bigint, licenseId = LICENSE, term?: number): Promise<void> {
    const apiKey = await world.apiKey(licenseId);
    const headers = { authorization: `Bearer ${apiKey}`, "content-type": "application/json" };
    const voucher = await world.voucher(amount, { licenseId, ...(term === undefined ? {} : { term }) });
    const answer = await fetch(`${world.gateway.url}/v1/vouchers`, {
      method: "POST",
      headers,
      body: JSON.stringify({ voucher }),
    });
    expect(answer.status, await answer.text()).to.equal(200);
  }

  const earned = async () => (await world.market.licet.escrow.operatorIncomeOf(1)).earnings;
  const spentOf = async (licenseId = LICENSE) => (await world.market.licet.escrow.accountOf(licenseId)).spent;
  const postings = async () => {
    const { escrow } = world.market.licet;
    return (await escrow.queryFilter(escrow.filters.VouchersSettled())).length;
  };
  const held = () => world.store.vouchers.unposted();

  it("posts a voucher that has waited a day: the operator is paid at once", async () => {
    await owe(usd(1));
    const own = await poster();
    expect(await own.postDue()).to.deep.equal([]);
    await time.increase(A_DAY);
    const [outcome] = await own.postDue();
    expect(outcome).to.deep.equal({ licenseId: LICENSE, term: 0, charged: usd(1), status: "posted", reason: null });
    expect(await spentOf()).to.equal(usd(1));
    // Less the protocol's 1 % and the publisher's 30 %.
    expect(await earned()).to.equal(usd(0.69));
    expect(await held()).to.deep.equal([]);
    expect(await own.postDue()).to.deep.equal([]);
    expect(messages()).to.include("Vouchers posted");
  });

  it("posts sooner where it is told to, and never later than a third of an epoch and a window", async () => {
    await owe(usd(1));
    await time.increase(HOUR);
    expect(await (await poster({ intervalSeconds: 2 * HOUR })).postDue()).to.deep.equal([]);
    await time.increase(2 * HOUR);
    expect(await (await poster({ intervalSeconds: 2 * HOUR })).postDue()).to.have.length(1);
    await owe(usd(1.5));
    await time.increase(A_DAY);
    expect(await (await poster({ intervalSeconds: 10 * DAY })).postDue()).to.have.length(1);
  });

  it("posts the vouchers of many licenses of a plan in one call, also those that have waited less", async () => {
    const { market } = world;
    const other = await world.buyUnder({});
    const planId = Number((await market.licet.escrow.accountOf(other)).planId);
    const third = await world.buy(planId);
    await owe(usd(0.25));
    await owe(usd(0.5), other);
    await time.increase(A_DAY);
    await owe(usd(0.75), third);
    const outcomes = await (await poster()).postDue();
    expect(outcomes.map(({ licenseId, charged }) => [licenseId, charged])).to.deep.equal([
      [LICENSE, usd(0.25)],
      [other, usd(0.5)],
      [third, usd(0.75)],
    ]);
    expect(await postings()).to.equal(2);
  });

  it("posts what came while it posted, a day later", async () => {
    const sender = await senderOf();
    const slow: PricedSender = {
      submit: (purpose, callOf) => sender.submit(purpose, callOf),
      cancel: (purpose) => sender.cancel(purpose),
      costOf: (call) => sender.costOf(call),
      follow: async (purpose, nonce) => {
        const served = await sender.follow(purpose, nonce);
        if (!messages().includes("Vouchers posted")) await owe(usd(1.5));
        return served;
      },
    };
    await owe(usd(1));
    await time.increase(A_DAY);
    const own = await poster({ sender: slow });
    await own.postDue();
    expect(await spentOf()).to.equal(usd(1));
    expect(await own.postDue()).to.deep.equal([]);
    await time.increase(A_DAY);
    expect((await own.postDue())[0]).to.include({ charged: usd(0.5), status: "posted" });
  });

  describe("where gas has its price", () => {
    /** A sender whose calls cost so much, where a coin is worth a whole unit of the currency. */
    const economy = { gasTokenPrice: 10n ** 8n, minValueToGas: 10 };
    const priced = async (dollars: string): Promise<PricedSender> => {
      const sender = await senderOf();
      return {
        submit: (purpose, callOf) => sender.submit(purpose, callOf),
        follow: (purpose, nonce) => sender.follow(purpose, nonce),
        cancel: (purpose) => sender.cancel(purpose),
        costOf: async () => parseEther(dollars),
      };
    };
    /** Of a voucher for 1 the operator has 0.67, by what its plan's batches would leave it. */
    const [CHEAP, DEAR, TOO_DEAR] = ["0.06", "0.07", "0.68"];

    it("has vouchers posted when they bring as many times what they cost as is asked for", async () => {
      await owe(usd(1));
      await time.increase(A_DAY);
      const [dear] = await (await poster({ sender: await priced(DEAR), economy })).postDue();
      expect(dear).to.include({ status: "retry", reason: "it isn't worth its gas yet" });
      expect(messages()).to.include("Vouchers wait for cheaper gas");
      expect(await postings()).to.equal(0);
      const [cheap] = await (await poster({ sender: await priced(CHEAP), economy })).postDue();
      expect(cheap).to.include({ status: "posted", charged: usd(1) });
    });

    it("has them posted at last if they bring more than they cost, and looked at every hour until then", async () => {
      await owe(usd(1));
      await time.increase(A_DAY);
      const [dear, tooDear] = [
        await poster({ sender: await priced(DEAR), economy }),
        await poster({ sender: await priced(TOO_DEAR), economy }),
      ];
      expect(await dear.postDue()).to.have.length(1);
      expect(await dear.postDue()).to.have.length(0);
      await time.increase(A_DAY);
      expect((await tooDear.postDue())[0]).to.include({ status: "retry" });
      expect((await dear.postDue())[0]).to.include({ status: "posted" });
    });
  });

  describe("a term's end", () => {
    /** Vouchers of two terms: the second has begun, and the account doesn't know it yet. */
    const oweForTwoTerms = async () => {
      await owe(usd(0.5));
      const { expiresAt } = await world.market.licet.escrow.accountOf(LICENSE);
      await time.increaseTo(Number(expiresAt) + HOUR);
      await owe(usd(0.25), LICENSE, 1);
    };

    it("has the old term's voucher posted before the new one's, by a key of the operator's", async () => {
      await oweForTwoTerms();
      const outcomes = await (await poster({ by: RECEIPT_KEY })).postDue();
      expect(outcomes.map(({ term, charged, status }) => [term, charged, status])).to.deep.equal([
        [0, usd(0.5), "posted"],
        [1, usd(0.25), "posted"],
      ]);
      expect(await postings()).to.equal(1);
      const { term, spent } = await world.market.licet.escrow.accountOf(LICENSE);
      expect([term, spent]).to.deep.equal([1n, usd(0.25)]);
    });

    it("has the new term's voucher wait until anybody may post it, where the account isn't the operator's", async () => {
      await oweForTwoTerms();
      const own = await poster();
      const [old, next] = await own.postDue();
      expect(old).to.include({ term: 0, charged: usd(0.5), status: "posted" });
      expect(next).to.include({ term: 1, charged: 0n, status: "retry", reason: "TermNotRunning" });
      expect(lines.join()).to.contain("make the settler's account one of its signing keys");
      expect(await own.postDue()).to.deep.equal([]);
      await time.increase(WAIT);
      expect((await own.postDue())[0]).to.include({ term: 1, charged: usd(0.25), status: "posted" });
    });
  });

  it("takes for posted what somebody else has posted, and sends nothing", async () => {
    await owe(usd(1));
    const { escrow } = world.market.licet;
    await escrow.connect(world.market.outsider).settleVouchers(1, 1, (await held())[0].voucher!);
    await time.increase(A_DAY);
    expect((await (await poster()).postDue())[0]).to.include({ charged: 0n, status: "posted" });
    expect(await postings()).to.equal(1);
    expect((await world.store.vouchers.terms(1, LICENSE))[0]).to.include({ charged: usd(1) });
  });

  it("posts what a balance had no money for again, once it has", async () => {
    const { escrow } = world.market.licet;
    const { licensee } = world.market;
    await owe(usd(1));
    // What leaves was announced before, and nobody posted for days.
    await escrow.connect(licensee).thaw(LICENSE, FUNDS - usd(0.25));
    await time.increase(WAIT + 1);
    await escrow.connect(licensee).withdraw(LICENSE, licensee.address);
    const own = await poster();
    expect((await own.postDue())[0]).to.include({ charged: usd(0.25), status: "retry", reason: "BalanceExhausted" });
    expect((await world.store.vouchers.terms(1, LICENSE))[0]).to.include({ charged: usd(0.25) });
    expect(await own.postDue()).to.deep.equal([]);
    await escrow.connect(licensee).deposit(LICENSE, usd(2));
    await time.increase(A_DAY);
    expect((await own.postDue())[0]).to.include({ charged: usd(0.75), status: "posted" });
    expect(await spentOf()).to.equal(usd(1));
  });

  it("gives up what can't be charged any more, and says so", async () => {
    const { escrow } = world.market.licet;
    await owe(usd(1));
    await escrow.connect(world.market.licensee).changeService(LICENSE, 1, false);
    await time.increase(WAIT + 1);
    await escrow.applyServiceChange(LICENSE);
    expect((await (await poster()).postDue())[0]).to.include({ charged: 0n, status: "lost", reason: "WrongRoad" });
    expect(await held()).to.deep.equal([]);
    expect(messages()).to.include("Voucher can't be charged any more");
    expect(await postings()).to.equal(0);
  });

  it("leaves the others' vouchers alone when one of them can't be charged", async () => {
    const { escrow } = world.market.licet;
    const other = await world.buy(1);
    await owe(usd(1));
    await owe(usd(0.5), other);
    await escrow.connect(world.market.licensee).changeService(LICENSE, 1, false);
    await time.increase(WAIT + 1);
    await escrow.applyServiceChange(LICENSE);
    const outcomes = await (await poster()).postDue();
    expect(outcomes.map(({ status }) => status)).to.deep.equal(["lost", "posted"]);
    expect(await spentOf(other)).to.equal(usd(0.5));
  });

  describe("when it dies", () => {
    /** Dies at one of its sender's steps. */
    const dyingAt = async (step: "submit" | "follow"): Promise<PricedSender> => {
      const sender = await senderOf();
      const die = async () => Promise.reject(new Error("killed"));
      return {
        cancel: (purpose) => sender.cancel(purpose),
        costOf: (call) => sender.costOf(call),
        submit: step === "submit" ? die : (purpose, callOf) => sender.submit(purpose, callOf),
        follow: die,
      };
    };

    for (const step of ["submit", "follow"] as const) {
      it(`pays once, wherever that was: at ${step}`, async () => {
        await owe(usd(1));
        await time.increase(A_DAY);
        const [outcome] = await (await poster({ sender: await dyingAt(step) })).postDue();
        expect(outcome).to.include({ status: "retry", reason: "killed" });
        await world.restart({ voucherCredit: usd(10) });
        await owe(usd(1.25));
        const again = await poster();
        await again.postDue();
        expect(await spentOf()).to.equal(usd(1.25));
        expect(await held()).to.deep.equal([]);
        expect(await earned()).to.equal(usd(1.25) - usd(0.0125) - usd(0.375));
      });
    }
  });

  it("posts anew what the chain has undone", async () => {
    const snapshot = await hre.network.provider.send("evm_snapshot", []);
    await owe(usd(1));
    await time.increase(A_DAY);
    const own = await poster();
    await own.postDue();
    expect(await spentOf()).to.equal(usd(1));
    await hre.network.provider.send("evm_revert", [snapshot]);
    await time.increase(2 * A_DAY);
    expect(await spentOf()).to.equal(0n);
    expect(await own.postDue()).to.deep.equal([]);
    await own.undone("settlement of a batch");
    expect(await held()).to.deep.equal([]);
    await own.undone("vouchers 0x01");
    account = Wallet.createRandom() as unknown as Wallet;
    expect((await (await poster()).postDue())[0]).to.include({ charged: usd(1), status: "posted" });
    expect(await spentOf()).to.equal(usd(1));
  });

  it("brings an operator the money for what an OpenAI client used", async () => {
    await world.restart();
    const apiKey = await world.apiKey();
    const escrow = await world.market.licet.escrow.getAddress();
    const licensee = await connectLicensee(provider, { escrow, fromBlock: 0, clock: "chain" });
    const fetch = licetFetch({ ...licensee, apiKey, voucherKey: VOUCHER_KEY });
    const openai = new OpenAI({ baseURL: `${world.gateway.url}/v1`, apiKey, fetch, maxRetries: 0 });
    const ask = () =>
      openai.chat.completions.create({ model: "writer", messages: [{ role: "user", content: "May I?" }] });
    for (let i = 0; i < 30; i++) await ask();
    await fetch.pay(world.gateway.url);
    const [{ owed }] = await world.store.vouchers.terms(1, LICENSE);
    await time.increase(A_DAY);
    expect((await (await poster()).postDue())[0]).to.include({ charged: owed, status: "posted" });
    expect(await spentOf()).to.equal(owed);
    const before = await world.market.licet.currency.balanceOf(world.market.operator);
    await world.market.licet.escrow.connect(world.market.operator).withdrawEarnings(1, world.market.operator.address);
    const gained = (await world.market.licet.currency.balanceOf(world.market.operator)) - before;
    expect(gained >= (owed * 69n) / 100n).to.equal(true);
    for (let i = 0; i < 30; i++) await ask();
    const [present] = await world.store.vouchers.terms(1, LICENSE);
    expect(present.signed > owed && present.signed <= present.owed).to.equal(true);
  });
});
