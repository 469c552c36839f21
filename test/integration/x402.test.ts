/** Licenses that are prepaid by x402's stock client, with a gateway in front of this process's chain. */
import { expect } from "chai";
import { setBalance, time } from "@nomicfoundation/hardhat-network-helpers";
import { decodePaymentResponseHeader } from "@x402/fetch";
import { setTimeout as wait } from "node:timers/promises";
import { id, parseEther, Signature, Wallet, type TypedDataDomain } from "ethers";
import hre from "hardhat";
import OpenAI from "openai";
import { AccountSender } from "../../oracle/chain/accountSender";
import { connectChain } from "../../oracle/chain/ethersChain";
import { onlyWitness } from "../../oracle/chain/witness";
import type { Chain } from "../../oracle/chain/chain";
import { GATEWAY_DEFAULTS, startGateway, type Gateway } from "../../oracle/gateway/gateway";
import { KeyAccount } from "../../oracle/keys/account";
import { localSigner } from "../../oracle/keys/digestSigner";
import { mintGrant } from "../../oracle/licensee/mintGrant";
import { Duty, type Post } from "../../oracle/duty";
import { createLog } from "../../oracle/log";
import { gasCheck } from "../../oracle/operations/readiness";
import { Problem } from "../../oracle/problem";
import type { Turn } from "../../oracle/store/leases";
import { Store } from "../../oracle/store/store";
import { connectPrepaymentChain } from "../../oracle/x402/prepaymentChain";
import { Tier } from "../../oracle/protocol/tiers";
import { Prepayments, type PayingSender, type PrepaymentConfig } from "../../oracle/x402/prepayments";
import { describeOnEach, type Place } from "../support/databases";
import { FakeUpstream } from "../support/fakeUpstream";
import { addPlan, DAY, freshMarket, type Market, usd } from "../support/market";
import { payingBy } from "../support/x402Payer";

const OPERATOR_KEY = new Wallet(id("operator's key"));
const SELLER = new Wallet(id("seller"));
const PAYER = new Wallet(id("payer"));
const DEPOSIT = usd(5);
const FEE = usd(0.1);
const PRICE = DEPOSIT + FEE;
const { provider } = hre.ethers;
const final = { finality: 1, witness: onlyWitness(provider), fromBlock: 0 };

interface License {
  licenseId: string;
  owner: string;
  deposit: string;
  transaction: string;
  paymentTransaction: string;
  howToSignAGrant: { generation: number; domain: TypedDataDomain };
}

describeOnEach("a license prepaid by x402", function (placeOf) {
  this.timeout(60_000);

  let market: Market;
  let chain: Chain;
  let place: Place;
  let store: Store;
  let upstream: FakeUpstream;
  let prepayments: Prepayments;
  let gateway: Gateway;
  /** Told of each step before its transaction is signed, and after it was sent. */
  let before: (step: string) => Promise<void> | void;
  let after: (step: string) => Promise<void> | void;
  let config: PrepaymentConfig;

  beforeEach(async () => {
    market = await freshMarket();
    const { operators, escrow, currency } = market.licet;
    await operators.connect(market.operator).addKey(1, OPERATOR_KEY.address, (await time.latest()) + 90 * DAY);
    await setBalance(SELLER.address, parseEther("10"));
    await currency.mint(PAYER.address, usd(100));
    chain = await connectChain(provider, { escrow: await escrow.getAddress(), fromBlock: 0, clock: "chain" });
    place = placeOf();
    upstream = await FakeUpstream.start();
    before = after = () => {};
    // The client goes by the machine's clock, and the chain's may have been moved.
    const ahead = Math.max(0, (await time.latest()) - Math.floor(Date.now() / 1_000));
    config = { operatorId: 1, planId: 1, deposit: DEPOSIT, fee: FEE, validSeconds: 600 + ahead, perHour: 5 };
    await open();
  });

  afterEach(async () => {
    await close();
    await upstream.stop();
    place.remove();
  });

  async function open(): Promise<void> {
    store = new Store(await place.open());
    ({ prepayments, gateway } = await gatewayWith(store));
  }

  async function gatewayWith(store: Store, turn?: Turn): Promise<{ prepayments: Prepayments; gateway: Gateway }> {
    const log = createLog("error", () => {});
    const escrow = await market.licet.escrow.getAddress();
    const account = SELLER.address;
    const own = await AccountSender.open(
      {
        ...{ provider, witness: onlyWitness(provider), store, log, turn },
        signer: new KeyAccount(localSigner(SELLER.privateKey)),
      },
      { finality: 1, pollMs: 10, timeoutMs: 2_000 },
    );
    const sender: PayingSender = {
      address: account,
      submit: async (purpose, callOf) => {
        await before(purpose.split(" ")[1]);
        const nonce = await own.submit(purpose, callOf);
        await after(purpose.split(" ")[1]);
        return nonce;
      },
      follow: (purpose, nonce) => own.follow(purpose, nonce),
    };
    const paying = await connectPrepaymentChain(provider, { escrow, account, ...final });
    const gas = gasCheck(own, async () => 400_000n);
    const deps = { chain: paying, sender, store, log, turn, gas, now: () => chain.now() };
    const prepayments = await Prepayments.open(config, deps, [{ assetId: 1 }]);
    const { manifestHash, assetId } = (await chain.version(market.versionId))!;
    const models = [
      { id: "m", upstreams: [{ url: upstream.url }], assetId, versionId: market.versionId, manifestHash },
    ];
    const signer = localSigner(OPERATOR_KEY.privateKey);
    const gateway = await startGateway(
      { ...GATEWAY_DEFAULTS, port: 0, operatorId: 1, signer, models, licenseCacheMs: 0 },
      { chain, store, log, prepayments },
    );
    return { prepayments, gateway };
  }

  async function close(): Promise<void> {
    await gateway.close();
    await store.close();
  }

  // The payer

  const paying = (wallet = PAYER, fetching: typeof fetch = fetch) => payingBy(wallet, fetching);

  const licenses = () => `${gateway.url}/v1/licenses`;

  /** What the stock client signs, without sending it; `change` alters the requirements that it is shown. */
  async function signed(
    wallet = PAYER,
    change: (accepts: Record<string, unknown>) => void = () => {},
  ): Promise<string> {
    let header = "";
    const spying = (async (request: Request) => {
      header = request.headers.get("payment-signature") ?? "";
      if (header !== "") return new Response("{}");
      const asked = await fetch(licenses(), { method: "POST" });
      const required = decoded(asked.headers.get("payment-required")!) as { accepts: Record<string, unknown>[] };
      required.accepts.forEach(change);
      return new Response("", { status: 402, headers: { "payment-required": encoded(required) } });
    }) as typeof fetch;
    await paying(wallet, spying)(licenses(), { method: "POST" });
    return header;
  }

  const pay = (header: string, at = gateway) =>
    fetch(`${at.url}/v1/licenses`, { method: "POST", headers: { "payment-signature": header } });

  async function bought(header: string, at = gateway): Promise<License> {
    const answer = await pay(header, at);
    const body = await answer.text();
    expect(answer.status, body).to.equal(201);
    return JSON.parse(body) as License;
  }

  async function refused(header: string): Promise<[number, string, string]> {
    const answer = await pay(header);
    const { error } = (await answer.json()) as { error: { code: string; message: string } };
    return [answer.status, error.code, error.message];
  }

  /** Has the payment made by somebody else, as anybody can. */
  async function madeByStranger(header: string): Promise<void> {
    const { authorization, signature } = (decoded(header) as Payload).payload;
    const { from, to, value, validAfter, validBefore, nonce } = authorization;
    const { v, r, s } = Signature.from(signature);
    await market.licet.currency
      .connect(market.outsider)
      ["transferWithAuthorization(address,address,uint256,uint256,uint256,bytes32,uint8,bytes32,bytes32)"](
        from,
        to,
        value,
        validAfter,
        validBefore,
        nonce,
        v,
        r,
        s,
      );
  }
  interface Payload {
    accepted: Record<string, unknown>;
    payload: { authorization: Record<string, string>; signature: string };
  }

  const held = async () => {
    const { currency } = market.licet;
    return { payer: await currency.balanceOf(PAYER.address), seller: await currency.balanceOf(SELLER.address) };
  };
  const sold = () => market.licet.licenses.licenseCount();
  const sentBySeller = () => provider.getTransactionCount(SELLER.address);

  it("is asked for, paid by the stock client, owned by the payer, and used with a key that its wallet signs", async () => {
    const body = JSON.stringify({ model: "m", messages: [{ role: "user", content: "May I?" }] });
    const asked = await fetch(`${gateway.url}/v1/chat/completions`, { method: "POST", body });
    expect(asked.status).to.equal(402);
    const { error } = (await asked.json()) as { error: { code: string; message: string } };
    expect([error.code, error.message]).to.deep.equal([
      "payment_required",
      "send your grant ('Authorization: Bearer <API key>'), or buy a license: 5100000 units buy and fund a license (x402), whose owner signs the API key",
    ]);
    const required = decoded(asked.headers.get("payment-required")!) as { resource: object; accepts: object[] };
    const currency = await market.licet.currency.getAddress();
    expect(required.resource).to.include({ url: licenses() });
    expect(required.accepts).to.deep.equal([
      {
        scheme: "exact",
        network: "eip155:31337",
        amount: "5100000",
        asset: currency,
        payTo: SELLER.address,
        maxTimeoutSeconds: config.validSeconds,
        extra: { name: "Test USD", version: "1" },
      },
    ]);

    const answer = await paying()(licenses(), { method: "POST" });
    expect(answer.status).to.equal(201);
    const license = (await answer.json()) as License;
    const settled = decodePaymentResponseHeader(answer.headers.get("payment-response")!);
    expect(settled).to.include({ success: true, payer: PAYER.address, network: "eip155:31337" });
    expect(settled.transaction).to.equal(license.paymentTransaction);
    expect(license).to.include({ licenseId: "1", owner: PAYER.address, deposit: "5000000" });
    expect(await market.licet.licenses.ownerOf(1)).to.equal(PAYER.address);
    expect((await market.licet.escrow.accountOf(1)).balance).to.equal(DEPOSIT);
    expect(await held()).to.deep.equal({ payer: usd(100) - PRICE, seller: FEE });

    const { domain, generation } = license.howToSignAGrant;
    const now = await time.latest();
    const terms = {
      licenseId: BigInt(license.licenseId),
      generation,
      cap: usd(1),
      notBefore: now,
      expiresAt: now + DAY,
    };
    const { apiKey } = await mintGrant(domain, terms, PAYER);
    const openai = new OpenAI({ apiKey, baseURL: `${gateway.url}/v1`, maxRetries: 0 });
    const messages = [{ role: "user" as const, content: "May I?" }];
    const { data, response } = await openai.chat.completions.create({ model: "m", messages }).withResponse();
    expect(data.choices).to.have.length(1);
    const receipt = await store.receipts.ofRequest(response.headers.get("x-licet-receipt-id")!);
    expect(receipt?.receipt.licenseId).to.equal(1n);
  });

  it("is what a payment brings wherever it is made, and nothing is served for it", async () => {
    const answer = await paying()(`${gateway.url}/v1/chat/completions`, { method: "POST", body: "{}" });
    expect(answer.status).to.equal(201);
    expect(await answer.json()).to.include({ object: "license", owner: PAYER.address });
    expect(upstream.received).to.deep.equal([]);
  });

  it("leaves the payer what it paid but the fee, to withdraw", async () => {
    const { licenseId } = await bought(await signed());
    await setBalance(PAYER.address, parseEther("1"));
    const escrow = market.licet.escrow.connect(PAYER.connect(provider));
    await escrow.thaw(licenseId, DEPOSIT);
    await time.increase(3 * DAY + 60);
    await escrow.withdraw(licenseId, PAYER.address);
    expect((await held()).payer).to.equal(usd(100) - FEE);
  });

  describe("for one payment", () => {
    it("is one, however often it is shown, after a restart and when its time is over, too", async () => {
      const header = await signed();
      const first = await bought(header);
      expect(await bought(header)).to.deep.equal(first);
      await close();
      await time.increase(2 * DAY);
      await open();
      expect(await bought(header)).to.deep.equal(first);
      expect([await sold(), (await held()).payer]).to.deep.equal([1n, usd(100) - PRICE]);
    });

    it("is one, if it is shown often at once", async () => {
      const header = await signed();
      const all = await Promise.all([header, header, header].map((one) => bought(one)));
      expect(new Set(all.map(({ licenseId }) => licenseId)).size).to.equal(1);
      expect([await sold(), (await held()).seller]).to.deep.equal([1n, FEE]);
    });

    it("is another for another payment at the same time", async () => {
      const all = await Promise.all([await signed(), await signed()].map((one) => bought(one)));
      expect(all.map(({ licenseId }) => licenseId).sort()).to.deep.equal(["1", "2"]);
      expect(await held()).to.deep.equal({ payer: usd(100) - 2n * PRICE, seller: 2n * FEE });
    });
  });

  describe("whose payment somebody else makes", () => {
    it("is bought all the same, if that came first", async () => {
      const header = await signed();
      await madeByStranger(header);
      const { owner, paymentTransaction } = await bought(header);
      expect(owner).to.equal(PAYER.address);
      expect((await provider.getTransaction(paymentTransaction))!.from).to.equal(market.outsider.address);
      expect(await held()).to.deep.equal({ payer: usd(100) - PRICE, seller: FEE });
    });

    it("isn't bought by a rebuilt store, which may have forgotten that it was", async () => {
      const header = await signed();
      await bought(header);
      await close();
      place.remove();
      place = placeOf();
      const rebuilt = new Store(await place.open());
      await rebuilt.recovery.end(await chain.now());
      await rebuilt.close();
      await open();
      const [status, , message] = await refused(header);
      expect(status).to.equal(402);
      expect(message).to.contain("has lost what became of those of a day");
      expect(await sold()).to.equal(1n);
      expect((await bought(await signed())).owner, "by a new payment").to.equal(PAYER.address);
    });

    it("is bought all the same, if that comes in between", async () => {
      const header = await signed();
      before = (step) => (step === "payment" ? madeByStranger(header) : undefined);
      expect((await bought(header)).owner).to.equal(PAYER.address);
      expect(await sold()).to.equal(1n);
    });

    it("isn't, if the money went elsewhere under the same nonce", async () => {
      const header = await signed();
      const { authorization } = (decoded(header) as Payload).payload;
      const other = await signed(PAYER, (accepts) => {
        accepts.payTo = market.outsider.address;
      });
      const elsewhere = decoded(other) as Payload;
      const domain = {
        name: "Test USD",
        version: "1",
        chainId: 31_337,
        verifyingContract: await market.licet.currency.getAddress(),
      };
      elsewhere.payload.authorization.nonce = authorization.nonce;
      elsewhere.payload.signature = await PAYER.signTypedData(domain, TRANSFER_TYPES, elsewhere.payload.authorization);
      await madeByStranger(encoded(elsewhere));
      expect(await refused(header)).to.deep.equal([402, "payment_refused", USED_OTHERWISE]);
      expect([await sold(), await sentBySeller()]).to.deep.equal([0n, 0]);
    });
  });

  describe("isn't bought, and nothing is sent, for", () => {
    const alter = (change: (payment: Payload) => void) => async () => {
      const payment = decoded(await signed()) as Payload;
      change(payment);
      return encoded(payment);
    };
    const asking = (change: (accepts: Record<string, unknown>) => void) => () => signed(PAYER, change);
    const rows: [string, () => Promise<string>, string, RegExp][] = [
      [
        "another currency",
        asking((asked) => (asked.asset = ELSEWHERE)),
        "payment_malformed",
        /accepted\.asset must be 0x/,
      ],
      [
        "another chain",
        asking((asked) => (asked.network = "eip155:1")),
        "payment_malformed",
        /accepted\.network must be eip155:31337/,
      ],
      [
        "another payee",
        asking((asked) => (asked.payTo = ELSEWHERE)),
        "payment_malformed",
        /accepted\.payTo must be 0x/,
      ],
      [
        "less than it costs",
        asking((asked) => (asked.amount = "5099999")),
        "payment_malformed",
        /amount must be 5100000, not "5099999"/,
      ],
      [
        "more than it costs",
        asking((asked) => (asked.amount = "5100001")),
        "payment_malformed",
        /amount must be 5100000/,
      ],
      [
        "less than is said to be accepted",
        alter(({ payload }) => (payload.authorization.value = "1")),
        "payment_malformed",
        /authorization\.value must be 5100000, not "1"/,
      ],
      [
        "another payee than is said to be accepted",
        alter(({ payload }) => (payload.authorization.to = ELSEWHERE)),
        "payment_malformed",
        /authorization\.to must be/,
      ],
      [
        "a signature that is about to expire",
        asking((asked) => (asked.maxTimeoutSeconds = Number(asked.maxTimeoutSeconds) - 580)),
        "payment_malformed",
        /authorization\.validBefore must be 60 to 86400 s from now/,
      ],
      [
        "one that counts for days",
        asking((asked) => (asked.maxTimeoutSeconds = Number(asked.maxTimeoutSeconds) + 5 * DAY)),
        "payment_malformed",
        /authorization\.validBefore must be 60 to 86400 s from now/,
      ],
      [
        "one that counts only later",
        alter(({ payload }) => (payload.authorization.validAfter = "99999999999")),
        "payment_malformed",
        /authorization\.validAfter is 99999999999/,
      ],
      [
        "another's signature",
        alter(({ payload }) => (payload.authorization.from = ELSEWHERE)),
        "payment_refused",
        /SignatureInvalid|signature/i,
      ],
      [
        "a payer without money",
        () => signed(new Wallet(id("pauper"))),
        "payment_refused",
        /has 0 .*needs|ERC20InsufficientBalance|balance/i,
      ],
      ["what is no payment", async () => "%%%", "payment_malformed", /must be base64 of JSON/],
      [
        "another version of x402",
        alter((payment) => Object.assign(payment, { x402Version: 1 })),
        "payment_malformed",
        /x402Version must be 2/,
      ],
      ["nothing in it", async () => encoded({ x402Version: 2 }), "payment_malformed", /payload must be an object/],
    ];
    for (const [what, header, code, sentence] of rows) {
      it(what, async () => {
        const [status, found, message] = await refused(await header());
        expect([status, found, message.match(sentence) ? "said" : message]).to.deep.equal([402, code, "said"]);
        expect([await sentBySeller(), await store.prepayments.unfinished()]).to.deep.equal([0, []]);
      });
    }

    it("a plan that is closed, or that the operator doesn't serve any more", async () => {
      const header = await signed();
      const { operators, licenses: registry } = market.licet;
      await operators.connect(market.operator).setServed(1, 1, false);
      expect((await refused(header)).slice(0, 2)).to.deep.equal([503, "not_on_sale"]);
      await operators.connect(market.operator).setServed(1, 1, true);
      await registry.connect(market.publisher).closePlan(1);
      expect(await refused(header)).to.deep.equal([503, "not_on_sale", "plan 1 sells no more licenses"]);
      expect(await sentBySeller()).to.equal(0);
    });

    it("a seller that can't pay its gas, who asks for no payment either, until it can", async () => {
      const header = await signed();
      const untilAsking = async (status: number) => {
        const asked = async () => (await fetch(licenses(), { method: "POST" })).status;
        for (const deadline = Date.now() + 30_000; (await asked()) !== status; await wait(50)) {
          expect(Date.now()).to.be.lessThan(deadline);
        }
      };
      await setBalance(SELLER.address, 0n);
      await untilAsking(503);
      const [status, code, message] = await refused(header);
      expect([status, code]).to.deep.equal([503, "not_on_sale"]);
      expect(message).to.contain(
        "no licenses are sold at the moment, since the account that sells them can't pay its gas",
      );
      expect([await sentBySeller(), await store.prepayments.unfinished()]).to.deep.equal([0, []]);
      await setBalance(SELLER.address, parseEther("10"));
      await untilAsking(402);
      expect(await bought(header)).to.include({ licenseId: "1" });
    });

    it("takes a payment all the same that somebody else made, and brings its license when there is gas", async () => {
      const header = await signed();
      await madeByStranger(header);
      await setBalance(SELLER.address, 0n);
      expect((await refused(header)).slice(0, 2)).to.deep.equal([503, "payment_under_way"]);
      await setBalance(SELLER.address, parseEther("10"));
      expect(await bought(header)).to.include({ licenseId: "1" });
    });

    it("more payers than the hour allows", async () => {
      for (let i = 0; i < config.perHour; i++) await bought(await signed());
      expect(await refused(await signed())).to.deep.equal([
        503,
        "not_on_sale",
        "5 licenses were sold within the hour: try again later",
      ]);
      await time.increase(3_601);
      await close();
      config = { ...config, validSeconds: config.validSeconds + 3_601 };
      await open();
      await bought(await signed());
    });
  });

  describe("that can't be bought", () => {
    beforeEach(() => {
      before = async (step) => {
        if (step === "purchase") await market.licet.licenses.connect(market.publisher).closePlan(1);
      };
    });

    it("brings the payment back, whole, and says so as often as it is asked", async () => {
      const header = await signed();
      const answer = await pay(header);
      expect(answer.status).to.equal(409);
      const settled = decodePaymentResponseHeader(answer.headers.get("payment-response")!);
      expect(settled).to.include({ success: false, errorReason: "refunded", payer: PAYER.address });
      expect((await provider.getTransactionReceipt(settled.transaction))!.status).to.equal(1);
      expect(await held()).to.deep.equal({ payer: usd(100), seller: 0n });
      const [status, code, message] = await refused(header);
      expect([status, code]).to.deep.equal([409, "payment_refunded"]);
      expect(message).to.match(/^no license was bought \(.*Plan 1 .*\), and the payment went back in transaction 0x/);
      expect(await held()).to.deep.equal({ payer: usd(100), seller: 0n });
    });
  });

  describe("whose gateway dies", () => {
    const died = new Error("died");
    const steps: [string, (step: string) => void][] = [
      ["before", (wanted) => (before = (step) => fail(step === wanted))],
      ["after", (wanted) => (after = (step) => fail(step === wanted))],
    ];
    const fail = (now: boolean) => {
      if (now) throw died;
    };
    for (const wanted of ["payment", "allowance", "purchase"]) {
      for (const [when, set] of steps) {
        it(`goes on by itself from ${when} its ${wanted} was sent`, async () => {
          const header = await signed();
          set(wanted);
          const answer = await pay(header);
          // Once the payment is made, the chain tells that.
          expect(answer.status).to.equal(when === "after" && wanted === "payment" ? 201 : 503);
          await close();
          before = after = () => {};
          await open();
          await prepayments.resume();
          expect(await held()).to.deep.equal({ payer: usd(100) - PRICE, seller: FEE });
          expect(await sold()).to.equal(1n);
          await prepayments.resume();
          expect((await bought(header)).licenseId).to.equal("1");
          expect(await sold()).to.equal(1n);
        });
      }
    }

    for (const [when, set] of steps) {
      it(`brings a payment back by itself from ${when} that was sent`, async () => {
        const header = await signed();
        set("refund");
        const rest = before;
        before = async (step) => {
          if (step === "purchase") await market.licet.licenses.connect(market.publisher).closePlan(1);
          await rest(step);
        };
        expect((await refused(header)).slice(0, 2)).to.deep.equal([503, "payment_under_way"]);
        before = after = () => {};
        await prepayments.resume();
        await prepayments.resume();
        expect(await held()).to.deep.equal({ payer: usd(100), seller: 0n });
        expect(await sold()).to.equal(0n);
      });
    }
  });

  describe("whose payer's money leaves just before", () => {
    const leave = () => market.licet.currency.connect(PAYER.connect(provider)).transfer(market.outsider, usd(100));

    beforeEach(async () => {
      await setBalance(PAYER.address, parseEther("1"));
      before = async (step) => {
        if (step === "payment") await leave();
        before = () => {};
      };
    });

    it("isn't bought, and is, if the money comes while the signature counts", async () => {
      const header = await signed();
      expect((await refused(header)).slice(0, 2)).to.deep.equal([402, "payment_refused"]);
      await prepayments.resume();
      expect(await sold()).to.equal(0n);
      await market.licet.currency.mint(PAYER.address, PRICE);
      await prepayments.resume();
      expect([await sold(), await held()]).to.deep.equal([1n, { payer: 0n, seller: FEE }]);
    });

    it("is given up when the signature counts no more", async () => {
      const header = await signed();
      await refused(header);
      await time.increase(2 * DAY);
      await prepayments.resume();
      expect(await store.prepayments.unfinished()).to.deep.equal([]);
      const [status, code] = await refused(header);
      expect([status, code, await sold()]).to.deep.equal([409, "payment_failed", 0n]);
    });
  });

  describe("at two gateways of one store", () => {
    const LEASE_MS = 5_000;
    const SELLING: Post = { name: "seller", who: "Seller" };
    let second: { prepayments: Prepayments; gateway: Gateway };
    let stores: Store[];
    let duties: Duty[];
    let looking: NodeJS.Timeout;

    beforeEach(async () => {
      await close();
      const database = await place.open();
      stores = [new Store(database), new Store(place.isShared ? await place.open() : database)];
      [store] = stores;
      duties = stores.map(({ leases }, i) => new Duty(SELLING, leases, `gateway ${i}`, createLog("error"), LEASE_MS));
    });

    afterEach(async () => {
      clearInterval(looking);
      await Promise.all([prepayments, second.prepayments].map((one) => one.idle()));
      await Promise.all(duties.map((duty) => duty.end()));
      await second.gateway.close();
      if (place.isShared) await stores[1].close();
    });

    /** As a daemon does. */
    const resumeOnAndOn = () => {
      const resume = () => [prepayments, second.prepayments].forEach((one) => void one.resume("new"));
      looking = setInterval(resume, 20);
    };

    it("is one for each payment, wherever it is shown, and one account pays", async () => {
      ({ prepayments, gateway } = await gatewayWith(stores[0], duties[0]));
      second = await gatewayWith(stores[1], duties[1]);
      for (const duty of duties) await duty.begin();
      resumeOnAndOn();
      const headers = await Promise.all([1, 2, 3, 4].map(() => signed()));
      const all = await Promise.all(
        headers
          .map((header, i) => [bought(header, i % 2 === 0 ? gateway : second.gateway), bought(header, gateway)])
          .flat(),
      );
      expect(all.map(({ licenseId }) => licenseId).sort()).to.deep.equal(["1", "1", "2", "2", "3", "3", "4", "4"]);
      expect(await held()).to.deep.equal({ payer: usd(100) - 4n * PRICE, seller: 4n * FEE });
      // For each a payment and a purchase, and an allowance for all.
      expect(await sentBySeller()).to.equal(9);
    });

    it("is brought about by the other where one dies in the middle, and by nobody twice", async () => {
      const lease = (await stores[0].leases.acquire(SELLING.name, "gateway 0", 60_000))!;
      ({ prepayments, gateway } = await gatewayWith(stores[0], { isMine: true, lease }));
      second = await gatewayWith(stores[1], duties[1]);
      before = async (step) => {
        if (step !== "purchase") return;
        before = () => {};
        // It hangs here for so long that the other has its turn, and then goes on as if nothing was.
        await stores[0].leases.release(lease);
        await duties[1].begin();
        expect(duties[1].isMine).to.equal(true);
        resumeOnAndOn();
      };
      expect((await bought(await signed())).licenseId).to.equal("1");
      expect([await sold(), await held()]).to.deep.equal([1n, { payer: usd(100) - PRICE, seller: FEE }]);
      expect(await sentBySeller()).to.equal(3);
    });
  });

  it("is bought anew where the chain undoes its purchase", async () => {
    const header = await signed();
    const { payer, nonce } = { payer: PAYER.address, nonce: (decoded(header) as Payload).payload.authorization.nonce };
    await bought(header);
    await prepayments.undone(`x402 purchase ${payer} ${nonce}`);
    expect((await store.prepayments.find(payer, nonce))?.state).to.equal("paid");
    expect((await bought(header)).licenseId).to.equal("1");
    await prepayments.undone("x402 allowance");
    await prepayments.undone("settle 0x12");
  });

  describe("is refused at the start", () => {
    const rows: [
      string,
      (change: Partial<PrepaymentConfig>) => Promise<Partial<PrepaymentConfig>>,
      number[],
      RegExp,
    ][] = [
      ["a plan that isn't there", async () => ({ planId: 9 }), [1], /planId: there is no plan 9 on this chain/],
      ["a plan of another model", async () => ({}), [2], /plan 1 is of asset 1, which the gateway doesn't serve/],
      [
        "a plan with a minimum",
        async () => ({ planId: await addPlan(market, { minimumSpend: usd(1) }) }),
        [1],
        /plan 2 has a minimum of 1000000 units, .*: name a pay-as-you-go plan/,
      ],
      [
        "a plan that demands proofs, of a model whose answers can't be proven",
        async () => ({ planId: await addPlan(market, { minEvidenceTier: Tier.proven }) }),
        [1],
        /plan 2 demands proven answers, and none of the gateway's models of asset 1 gives any: serve a version that names a verifier/,
      ],
      [
        "a plan that the operator doesn't serve",
        async () => ({ operatorId: 2 }),
        [1],
        /operator 2 doesn't serve plan 1: operator:serve/,
      ],
    ];
    const models = (assetIds: number[]) => assetIds.map((assetId) => ({ assetId, hasVerifier: true }));
    for (const [what, changes, assetIds, sentence] of rows) {
      it(what, async () => {
        const escrow = await market.licet.escrow.getAddress();
        const paying = await connectPrepaymentChain(provider, { escrow, account: SELLER.address, ...final });
        const deps = {
          chain: paying,
          sender: {} as PayingSender,
          store,
          log: createLog("error"),
          now: () => chain.now(),
        };
        const error = await Prepayments.open({ ...config, ...(await changes({})) }, deps, models(assetIds)).catch(
          (cause) => cause,
        );
        expect(error).to.be.instanceOf(Problem);
        expect((error as Problem).message).to.match(sentence);
      });
    }
  });
});

const ELSEWHERE = "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC";
const USED_OTHERWISE =
  "the authorization was used otherwise, or cancelled: 5100000 units buy and fund a license (x402), whose owner signs the API key";
const TRANSFER_TYPES = {
  TransferWithAuthorization: [
    { name: "from", type: "address" },
    { name: "to", type: "address" },
    { name: "value", type: "uint256" },
    { name: "validAfter", type: "uint256" },
    { name: "validBefore", type: "uint256" },
    { name: "nonce", type: "bytes32" },
  ],
};

const decoded = (header: string): unknown => JSON.parse(Buffer.from(header, "base64").toString());
const encoded = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString("base64");
