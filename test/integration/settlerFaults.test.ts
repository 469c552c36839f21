/**
 * A settler and three attestors around a chain that is reorganized, through nodes that do all that nodes do wrong. After
 * each fault all that was served is settled once, and to the unit.
 */
import { expect } from "chai";
import { time } from "@nomicfoundation/hardhat-network-helpers";
import { HDNodeWallet, id, parseEther, toBeHex, Wallet, ZeroHash } from "ethers";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { type Attestor, startAttestor } from "../../oracle/attestor/attestor";
import { AccountSender } from "../../oracle/chain/accountSender";
import type { Chain } from "../../oracle/chain/chain";
import { connectChain, type RpcProvider } from "../../oracle/chain/ethersChain";
import { connectEscrow } from "../../oracle/chain/ethersEscrow";
import { type NodesProvider, openNodes, witnessOf } from "../../oracle/chain/nodes";
import { localSigner } from "../../oracle/keys/digestSigner";
import { createLog } from "../../oracle/log";
import { domainOf, grantDigest, receiptDigest, signDigest } from "../../oracle/protocol/messages";
import { Releaser } from "../../oracle/settler/releaser";
import { Settler } from "../../oracle/settler/settler";
import { sqliteDatabase } from "../../oracle/store/sqliteDatabase";
import { Store } from "../../oracle/store/store";
import { Anvil } from "../support/anvil";
import { grantWith, usage } from "../support/fakeMessages";
import { ATTESTORS, buyLicense, DAY, freshMarket, HOUR, type Market, usd } from "../support/market";
import { type Fault, FAULTS, HangUp, lyingAbout, RpcProxy, slowBy } from "../support/rpcProxy";
import { type Life, lifeOf, mortal } from "../support/stubCrash";

const KEY = new Wallet(id("operator's key"));
const SETTLER = new Wallet(id("settler of faults"));
const LICENSEE = HDNodeWallet.fromPhrase(
  "test test test test test test test test test test test junk",
  "",
  "m/44'/60'/0'/0/6",
);
/** Units that a request of 5 tokens costs under the market's plan: 100 for the request, and 15. */
const COST = 115n;
const FINALITY = 2;
const ROUNDS = 60;

describe("settling through faults", function () {
  this.timeout(180_000);

  let market: Market;
  let anvil: Anvil;
  let proxies: RpcProxy[];
  let folder: string;
  let store: Store;
  let attestors: Attestor[];
  let attestorStores: Store[];
  let truth: Chain;
  let licenseId: bigint;
  let lines: string[];
  /** Requests that were served so far, in all tests. */
  let served = 0;

  before(async () => {
    market = await freshMarket();
    const { operators, escrow, committee } = market.licet;
    await operators.connect(market.operator).addKey(1, KEY.address, (await time.latest()) + 90 * DAY);
    licenseId = await buyLicense(market, usd(1_000));
    anvil = await Anvil.fork();
    await anvil.rpc("anvil_setBalance", [SETTLER.address, toBeHex(parseEther("10"))]);
    proxies = await Promise.all([1, 2, 3].map(() => RpcProxy.start(anvil.rpc)));
    folder = mkdtempSync(path.join(tmpdir(), "licet-faults-"));
    store = open();
    truth = await chainOf(anvil.provider);
    attestorStores = ATTESTORS.map(() => new Store(sqliteDatabase(":memory:")));
    attestors = await Promise.all(
      ATTESTORS.map(async ({ privateKey }, i) =>
        startAttestor(
          { signer: localSigner(privateKey), committee: await committee.getAddress() },
          { chain: truth, store: attestorStores[i], log: createLog("error", () => {}) },
        ),
      ),
    );
    expect(await escrow.getAddress()).to.be.a("string");
  });

  after(async () => {
    await Promise.all([...attestors.map((attestor) => attestor.close()), ...proxies.map((proxy) => proxy.stop())]);
    await Promise.all([store, ...attestorStores].map((one) => one.close()));
    await anvil.stop();
    rmSync(folder, { recursive: true });
  });

  beforeEach(() => {
    lines = [];
  });

  afterEach(() => {
    for (const proxy of proxies) proxy.fault = FAULTS.none;
  });

  const open = () => new Store(sqliteDatabase(path.join(folder, "operator.sqlite")));
  const chainOf = async (provider: RpcProvider) =>
    connectChain(provider, { escrow: await market.licet.escrow.getAddress(), fromBlock: 0, clock: "chain" });
  const lane = () => ({ operatorId: 1, planId: 1, versionId: market.versionId });

  /** Has some requests served, and their epoch end. */
  async function serve(count = 3): Promise<void> {
    const now = await truth.now();
    const grant = grantWith({ licenseId, generation: 0 });
    const domain = domainOf(31337n, await market.licet.escrow.getAddress());
    const grantHash = grantDigest(domain, grant);
    await store.grants.save(grantHash, { grant, signature: signDigest(LICENSEE.privateKey, grantHash) });
    for (let i = 0; i < count; i++) {
      const requestId = id(`request ${served++}`);
      const facts = { requestId, licenseId, ...lane(), manifestHash: id("manifest"), generation: 0, grantHash };
      await store.requests.open({
        facts: { ...facts, requestHash: id("request"), requestSignatureHash: ZeroHash },
        versionId: market.versionId,
        openedAt: now,
      });
      const ended = { responseHash: id("response"), finishedAt: now + i, durationMs: 500, ttftMs: 30, flags: 0 };
      await store.requests.finish(
        requestId,
        { ...usage({ requests: 1n, outputTokens: 5n }), ...ended },
        COST,
        async (receipt) => {
          const hash = receiptDigest(domain, receipt);
          return { hash, signature: signDigest(KEY.privateKey, hash), signer: KEY.address };
        },
      );
    }
    await anvil.rpc("evm_increaseTime", [HOUR]);
    await anvil.mine();
  }

  interface Running {
    provider: NodesProvider;
    sender: AccountSender;
    settler: Settler;
    releaser: Releaser;
  }

  /** The settler as a process has it, with nodes of its own. */
  async function start({ quorum = 1, life, chain: ahead = 0, nodes = 3 } = {} as Partial<Options>): Promise<Running> {
    const log = createLog("debug", (line) => lines.push(line));
    const urls = proxies.slice(0, nodes).map(({ url }) => url);
    const provider = await openNodes({ urls, quorum, answerMs: 1_000, inspectMs: 200 }, 31337n);
    const [escrow, committee] = [await market.licet.escrow.getAddress(), await market.licet.committee.getAddress()];
    const witness = witnessOf(provider);
    const used = life === undefined ? store : mortal(store, life);
    const chain = await chainOf(provider);
    const clocked = new Proxy(chain, {
      get: (of, name) => {
        if (name === "now") return async () => (await of.now()) + ahead;
        const member = Reflect.get(of, name) as unknown;
        return typeof member === "function" ? member.bind(of) : member;
      },
    });
    const sender: AccountSender = await AccountSender.open(
      { provider, witness, signer: SETTLER, store: used, log, onUndone: (purpose) => settler.undone(purpose) },
      { finality: FINALITY, pollMs: 20, timeoutMs: 1_500, patience: { blocks: 30, ms: 5_000 } },
    );
    const deps = {
      chain: clocked,
      store: used,
      escrow: connectEscrow(provider, witness, { escrow, fromBlock: 0, finality: FINALITY }),
      sender,
      log,
    };
    const settler: Settler = new Settler(deps, {
      proposer: localSigner(KEY.privateKey),
      committee,
      epochSeconds: HOUR / 2,
      attestors: attestors.map(({ address, url }) => ({ address, url })),
      attestorTimeoutMs: 10_000,
    });
    return { provider, sender, settler, releaser: new Releaser(deps) };
  }

  interface Options {
    quorum: number;
    life: Life;
    /** How far its clock is off, in seconds. */
    chain: number;
    nodes: number;
  }

  /** One round, whatever it comes to; blocks come meanwhile. */
  async function round({ sender, settler }: Running): Promise<void> {
    let isDone = false;
    const work = settler
      .settleDue()
      .then(() => sender.tend())
      .catch((cause: unknown) => lines.push(String(cause)))
      .finally(() => (isDone = true));
    while (!isDone) {
      await anvil.mine();
      await wait(20);
    }
    await work;
  }

  const unsettled = () => store.tallies.unsettledOfAll();

  /** Goes on until all is settled, and holds it against what was served. */
  async function settleAll(running: Running): Promise<void> {
    const isBusy = async () =>
      (await unsettled()) > 0n || (await store.transactions.openOf(SETTLER.address)).length > 0;
    for (let i = 0; i < ROUNDS && (await isBusy()); i++) await round(running);
    await expectSettled();
  }

  async function expectSettled(): Promise<void> {
    expect(await unsettled(), lines.slice(-6).join("\n")).to.equal(0n);
    const { escrow } = market.licet;
    const spent = await (escrow.connect(anvil.provider) as typeof escrow).accountOf(licenseId);
    expect(spent.spent).to.equal(COST * BigInt(served));
    const settled = await (escrow.connect(anvil.provider) as typeof escrow).queryFilter(escrow.filters.BatchSettled());
    const ids = settled.map(({ args }) => args[0]);
    expect(new Set(ids).size).to.equal(ids.length);
    const known = await store.batches.in("settled");
    expect(known.map(({ batchId }) => batchId)).to.have.members(ids);
    expect(known.reduce((sum, { header }) => sum + header.count, 0n)).to.equal(BigInt(served));
    const open = await store.transactions.openOf(SETTLER.address);
    expect(open.map(({ purpose }) => purpose)).to.deep.equal([]);
  }

  const everywhere = (fault: Fault) => proxies.forEach((proxy) => (proxy.fault = fault));

  it("settles what was served where all is well", async () => {
    await serve();
    await settleAll(await start());
  });

  for (const depth of [2, 6, 20]) {
    it(`settles anew what a reorganization of ${depth} blocks has undone`, async () => {
      await serve();
      const running = await start();
      const before = await anvil.rpc("evm_snapshot", []);
      const height = await anvil.provider.getBlockNumber();
      await settleAll(running);
      const gone = Math.max(depth, (await anvil.provider.getBlockNumber()) - height);
      await anvil.mine(height + gone - (await anvil.provider.getBlockNumber()));
      await anvil.rpc("evm_revert", [before]);
      await anvil.mine(gone + 1);
      for (let i = 0; i < 6 && (await unsettled()) === 0n; i++) await round(running);
      expect(await unsettled()).to.equal(3n * COST);
      await settleAll(running);
    });
  }

  describe("with one node", () => {
    const faults: [string, Fault][] = [
      ["that is down for a while", FAULTS.down],
      ["that swallows transactions for a while", FAULTS.swallowing],
      ["that hangs up once it has taken a transaction", FAULTS.droppingAnswers],
      ["that passes transactions on twice", FAULTS.repeating],
      ["that is slow", slowBy(150)],
      ["that counts too few transactions", lyingAbout({ eth_getTransactionCount: () => "0x0" })],
      ["that counts too many", lyingAbout({ eth_getTransactionCount: (_p, t) => toBeHex(BigInt(t as string) + 5n) })],
      ["that knows no receipts", lyingAbout({ eth_getTransactionReceipt: () => null })],
      ["that is at a block far away", lyingAbout({ eth_blockNumber: () => "0xfffff" })],
    ];
    for (const [what, fault] of faults) {
      it(`settles by one ${what}`, async () => {
        await serve();
        const running = await start({ nodes: 1 });
        proxies[0].fault = fault;
        for (let i = 0; i < 3; i++) await round(running);
        proxies[0].fault = FAULTS.none;
        await settleAll(running);
      });
    }

    it("settles whatever call the node fails at", async () => {
      for (let step = 1; step <= 41; step += 10) {
        await serve(1);
        const running = await start({ nodes: 1 });
        let calls = 0;
        proxies[0].fault = async (_method, _params, pass) => {
          calls++;
          if (calls >= step && calls < step + 3) throw new HangUp();
          return pass();
        };
        await settleAll(running);
      }
    });
  });

  describe("with three nodes, of which two must agree", () => {
    const lies: [string, Fault][] = [
      ["is down", FAULTS.down],
      ["never answers", FAULTS.silent],
      ["swallows transactions", FAULTS.swallowing],
      ["counts too many transactions", lyingAbout({ eth_getTransactionCount: () => "0xff" })],
      ["knows no receipts", lyingAbout({ eth_getTransactionReceipt: () => null })],
      [
        "says that every transaction failed",
        lyingAbout({ eth_getTransactionReceipt: (_p, t) => t && { ...(t as object), status: "0x0" } }),
      ],
      [
        "is at a block far away",
        lyingAbout({ eth_getBlockByNumber: (_p, t) => t && { ...(t as object), number: "0xfffff" } }),
      ],
    ];
    for (const [what, fault] of lies) {
      it(`settles while one ${what}, without skipping a nonce`, async () => {
        const used = await anvil.provider.getTransactionCount(SETTLER.address);
        await serve();
        const running = await start({ quorum: 2 });
        proxies[0].fault = fault;
        await settleAll(running);
        expect(await anvil.provider.getTransactionCount(SETTLER.address)).to.equal(used + 1);
      });
    }

    it("waits while all are down, and goes on by itself", async () => {
      await serve();
      const running = await start({ quorum: 2 });
      everywhere(FAULTS.down);
      for (let i = 0; i < 2; i++) await round(running);
      expect(await unsettled()).to.equal(3n * COST);
      everywhere(FAULTS.none);
      await settleAll(running);
    });
  });

  for (const minutes of [-10, 10]) {
    it(`settles once though its clock is off by ${minutes} minutes`, async () => {
      await serve();
      await settleAll(await start({ chain: minutes * 60 }));
    });
  }

  it("settles once whatever step of the store the settler died at", async () => {
    for (let step = 1; step <= 37; step += 9) {
      await serve(1);
      const life = lifeOf(step, step % 2 === 0);
      await round(await start({ life })).catch(() => undefined);
      await store.close();
      store = open();
      await settleAll(await start());
    }
  });

  it("releases what it settled once the hold is over, and once", async () => {
    await serve();
    const running = await start();
    await settleAll(running);
    await anvil.rpc("evm_increaseTime", [4 * DAY]);
    await anvil.mine(3);
    const { escrow } = market.licet;
    for (let i = 0; i < 40 && (await store.batches.unreleased(1)).length > 0; i++) {
      await running.releaser.releaseDue();
      await anvil.mine(3);
      await running.sender.tend();
    }
    expect(await store.batches.unreleased(9), lines.slice(-4).join("\n")).to.deep.equal([]);
    const released = await (escrow.connect(anvil.provider) as typeof escrow).queryFilter(
      escrow.filters.BatchReleased(),
    );
    expect(released).to.have.length((await store.batches.in("settled")).length);
  });
});
