/** An account's transactions on a chain of this process, whose blocks are made by hand. */
import { expect } from "chai";
import { setBalance, time } from "@nomicfoundation/hardhat-network-helpers";
import { id, parseEther, parseUnits, toQuantity, Transaction, Wallet } from "ethers";
import hre from "hardhat";
import { AccountSender, type AccountSenderConfig, type SenderEvent } from "../../oracle/chain/accountSender";
import type { RpcProvider } from "../../oracle/chain/ethersChain";
import { onlyWitness } from "../../oracle/chain/witness";
import { createLog } from "../../oracle/log";
import { CallTooLarge, ChainRefusal, SenderBusy } from "../../oracle/settler/sender";
import { type Turn, TurnLost } from "../../oracle/store/leases";
import { sqliteDatabase } from "../../oracle/store/sqliteDatabase";
import { Store } from "../../oracle/store/store";
import { TestCurrency__factory } from "../../typechain-types";
import { type Life, lifeOf, mortal } from "../support/stubCrash";

const { provider } = hre.ethers;
const rpc = (method: string, params: unknown[] = []) => hre.network.provider.send(method, params);
const mine = (blocks = 1) => rpc("hardhat_mine", [toQuantity(blocks)]);

/** What a node says in place of the truth; nothing of it is said if it gives nothing. */
type Lie = (method: string, params: unknown[]) => unknown;

/** The chain's node, which may lie, or be down. */
class LyingNode {
  lie: Lie = () => undefined;
  /** Transactions that it took and never passed on. */
  swallows = false;

  get provider(): RpcProvider {
    return new Proxy(provider as unknown as RpcProvider, {
      get: (target, name) => {
        if (name === "send") return this.send.bind(this);
        if (name === "broadcastTransaction") return this.broadcast.bind(this);
        const member = Reflect.get(target, name) as unknown;
        return typeof member === "function" ? member.bind(target) : member;
      },
    });
  }

  private async send(method: string, params: unknown[]): Promise<unknown> {
    const said = this.lie(method, params);
    if (said instanceof Error) throw said;
    return said === undefined ? rpc(method, params) : said;
  }

  private async broadcast(raw: string): Promise<unknown> {
    const said = this.lie("eth_sendRawTransaction", [raw]);
    if (said instanceof Error) throw said;
    return this.swallows ? Transaction.from(raw).hash : rpc("eth_sendRawTransaction", [raw]);
  }
}

describe("AccountSender", () => {
  let account: Wallet;
  let store: Store;
  let node: LyingNode;
  let events: SenderEvent[];
  let undone: string[];
  let lines: string[];
  let snapshot: string;

  beforeEach(async () => {
    snapshot = await rpc("evm_snapshot");
    account = Wallet.createRandom() as unknown as Wallet;
    await setBalance(account.address, parseEther("10"));
    await mine(5);
    await rpc("evm_setAutomine", [false]);
    store = new Store(sqliteDatabase(":memory:"));
    node = new LyingNode();
    [events, undone, lines] = [[], [], []];
  });

  afterEach(async () => {
    await store.close();
    await rpc("evm_setAutomine", [true]);
    await rpc("evm_revert", [snapshot]);
  });

  const open = (config: Partial<AccountSenderConfig> = {}, life?: Life, turn?: Turn) => {
    const own = life === undefined ? node.provider : mortal(node.provider, life);
    return AccountSender.open(
      {
        provider: own,
        witness: onlyWitness(own),
        signer: new Wallet(account.privateKey),
        store: life === undefined ? store : mortal(store, life),
        log: createLog("debug", (line) => lines.push(line)),
        turn,
        onEvent: (event) => events.push(event),
        onUndone: async (purpose) => void undone.push(purpose),
      },
      { finality: 2, pollMs: 1, timeoutMs: 5_000, patience: { blocks: 2, ms: 0 }, ...config },
    );
  };

  const nothing = async () => ({ to: id("somebody").slice(0, 42), data: "0x" });
  const countOf = () => provider.getTransactionCount(account.address);
  const rowsOf = (nonce: number) => store.transactions.ofNonce(account.address, nonce);
  const messages = () => lines.map((line) => JSON.parse(line).message as string);
  const only = async (nonce: number) => {
    const rows = await rowsOf(nonce);
    expect(rows).to.have.length(1);
    return rows[0];
  };

  /** Mines a block whenever something waits, until the work is done. */
  async function mining<T>(work: Promise<T>): Promise<T> {
    let isDone = false;
    const done = work.finally(() => (isDone = true));
    done.catch(() => undefined);
    while (!isDone) {
      await mine();
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
    return done;
  }

  const tend = async (sender: AccountSender, times = 3) => {
    for (let i = 0; i < times; i++) await sender.tend();
  };

  describe("where several processes send for an account", () => {
    const LEASE = "settler";

    it("signs and sends nothing for one whose turn was lost in the middle of a step", async () => {
      const lease = (await store.leases.acquire(LEASE, "this", 60_000))!;
      const sender = await open({}, undefined, { isMine: true, lease });
      const attempt = sender.submit("a purpose", async () => {
        await store.leases.release(lease);
        await store.leases.acquire(LEASE, "another", 60_000);
        return nothing();
      });
      await expectTurnLost(attempt);
      expect(await store.transactions.lastNonce(account.address)).to.equal(null);
      expect(events).to.deep.equal(["unsigned"]);
      expect(await rpc("eth_pendingTransactions", [])).to.deep.equal([]);
    });

    it("leaves what waits to whose turn it is, and sees what came of it", async () => {
      const lease = (await store.leases.acquire(LEASE, "this", 60_000))!;
      const turn = { isMine: true, lease };
      const sender = await open({ patience: { blocks: 0, ms: 0 } }, undefined, turn);
      const nonce = await sender.submit("a purpose", nothing);
      turn.isMine = false;
      events = [];
      await tend(sender);
      expect(events).to.deep.equal([]);
      const another = await open();
      const following = sender.follow("a purpose", nonce);
      expect((await mining(another.follow("a purpose", nonce))).fate).to.equal("confirmed");
      expect((await following).fate).to.equal("confirmed");
    });

    async function expectTurnLost(attempt: Promise<unknown>): Promise<void> {
      const cause = await attempt.catch((error: unknown) => error);
      expect(cause).to.be.instanceOf(TurnLost);
      expect((cause as Error).message).to.equal(
        "it isn't this process's turn any more (settler): another goes on with it",
      );
    }
  });

  describe("serve", () => {
    it("has a call mined, and tells its fate when that is final", async () => {
      const sender = await open();
      const { fate, hash } = await mining(sender.serve("a purpose", nothing));
      expect(fate).to.equal("confirmed");
      const { state, block, nonce } = (await rowsOf(0))[0];
      expect({ state, nonce }).to.deep.equal({ state: "confirmed", nonce: 0 });
      const receipt = (await provider.getTransactionReceipt(hash))!;
      expect(receipt.blockNumber).to.equal(block);
      expect(await provider.getBlockNumber()).to.be.at.least(block! + 1);
      expect(events).to.include.members(["signed", "sent", "confirmed"]);
    });

    it("serves a purpose once, however often it is asked to", async () => {
      const sender = await open();
      const first = await mining(sender.serve("a purpose", nothing));
      expect(await sender.serve("a purpose", () => Promise.reject(new Error("never asked for")))).to.deep.equal(first);
      expect(await countOf()).to.equal(1);
    });

    it("waits as many blocks as make it final, and says that it is followed up if that takes too long", async () => {
      const sender = await open({ finality: 4, timeoutMs: 60 });
      const nonce = await sender.submit("a purpose", nothing);
      await mine(3);
      const late = `Nonce 0 of ${account.address} isn't final after 60 ms: it is followed up`;
      await expect(sender.follow("a purpose", nonce)).to.be.rejectedWith(late);
      await mine();
      expect((await sender.follow("a purpose", nonce)).fate).to.equal("confirmed");
    });

    it("goes by the block that the chain calls final where it is told to", async () => {
      const sender = await open({ finality: "finalized", timeoutMs: 60 });
      let final = "0x0";
      node.lie = (method, [tag]) =>
        method === "eth_getBlockByNumber" && tag === "finalized" ? { number: final } : undefined;
      const nonce = await sender.submit("a purpose", nothing);
      await mine(9);
      await expect(sender.follow("a purpose", nonce)).to.be.rejectedWith("isn't final");
      final = toQuantity(await provider.getBlockNumber());
      expect((await sender.follow("a purpose", nonce)).fate).to.equal("confirmed");
    });

    it("signs nothing that a contract would refuse, and says why", async () => {
      await rpc("evm_setAutomine", [true]);
      const currency = await hre.ethers.deployContract("TestCurrency");
      const sender = await open();
      const call = async () => currency.transfer.populateTransaction(account.address, 5n);
      await expect(sender.serve("a purpose", call)).to.be.rejectedWith(ChainRefusal, "ERC20InsufficientBalance");
      expect(await store.transactions.lastNonce(account.address)).to.equal(null);
      expect(events).to.deep.equal(["unsigned"]);
    });

    it("tells a call that reverted, and makes another for the same purpose when it is asked again", async () => {
      const [holder] = await hre.ethers.getSigners();
      await rpc("evm_setAutomine", [true]);
      const currency = await hre.ethers.deployContract("TestCurrency");
      await currency.mint(account.address, 5n);
      await TestCurrency__factory.connect(
        await currency.getAddress(),
        new Wallet(account.privateKey, provider),
      ).approve(holder, 5n);
      await rpc("evm_setAutomine", [false]);
      const sender = await open();
      const call = async () => currency.transfer.populateTransaction(holder, 5n);
      const nonce = await sender.submit("a purpose", call);
      await currency.transferFrom(account.address, holder, 5n, { gasPrice: parseUnits("99", "gwei") });
      await mine(3);
      expect((await sender.follow("a purpose", nonce)).fate).to.equal("reverted");
      await currency.mint(account.address, 5n);
      await mine();
      expect((await mining(sender.serve("a purpose", call))).fate).to.equal("confirmed");
      expect(await countOf()).to.equal(3);
    });

    it("says whose account can't pay for gas, and sends when it can", async () => {
      const sender = await open({ timeoutMs: 200 });
      const cant = `The account ${account.address} can't pay for gas: send it some`;
      await setBalance(account.address, 1n);
      await expect(sender.serve("a purpose", nothing)).to.be.rejectedWith(cant);
      expect(messages()).to.include("Transaction isn't taken");
      expect(events).to.include("unsent");
      await setBalance(account.address, parseEther("1"));
      expect((await mining(sender.serve("a purpose", nothing))).fate).to.equal("confirmed");
      expect(await countOf()).to.equal(1);
    });

    it("waits no longer when it is told to stop", async () => {
      const stop = new AbortController();
      const sender = await open({ signal: stop.signal, pollMs: 60_000 });
      const nonce = await sender.submit("a purpose", nothing);
      const following = sender.follow("a purpose", nonce);
      setTimeout(() => stop.abort(), 50);
      await expect(following).to.be.rejectedWith("aborted");
    });
  });

  describe("submit", () => {
    it("stores what it signed before it sends it", async () => {
      const sender = await open();
      let stored: unknown;
      node.lie = (method, [raw]) => {
        if (method === "eth_sendRawTransaction") void rowsOf(0).then((rows) => (stored = rows[0]?.raw === raw));
        return undefined;
      };
      await sender.submit("a purpose", nothing);
      expect(stored).to.equal(true);
    });

    it("sends several in a row without waiting, each with the next nonce", async () => {
      const sender = await open();
      const purposes = ["one", "two", "three"];
      expect(await Promise.all(purposes.map((purpose) => sender.submit(purpose, nothing)))).to.deep.equal([0, 1, 2]);
      await mine(2);
      const served = await Promise.all(purposes.map((purpose, nonce) => sender.follow(purpose, nonce)));
      expect(served.map(({ fate }) => fate)).to.deep.equal(["confirmed", "confirmed", "confirmed"]);
    });

    it("has no more than eight under way", async () => {
      const sender = await open();
      for (let i = 0; i < 8; i++) await sender.submit(`purpose ${i}`, nothing);
      await expect(sender.submit("one more", nothing)).to.be.rejectedWith("8 transactions of 0x");
      await mine(2);
      await tend(sender);
      expect(await sender.submit("one more", nothing)).to.equal(8);
    });

    it("counts as under way what isn't mined, however long it takes to be final", async () => {
      const sender = await open({ finality: 50 });
      for (let i = 0; i < 8; i++) await sender.submit(`purpose ${i}`, nothing);
      await expect(sender.submit("one more", nothing)).to.be.rejectedWith(SenderBusy);
      await mine();
      expect(await sender.submit("one more", nothing)).to.equal(8);
      expect(await store.transactions.openOf(account.address)).to.have.length(9);
    });

    it("takes no nonce that it gave out, whatever the node says of the count", async () => {
      const sender = await open();
      await sender.submit("one", nothing);
      for (const count of ["0x0", "0x1"]) {
        node.lie = (method) => (method === "eth_getTransactionCount" ? count : undefined);
        await sender.submit(`another at ${count}`, nothing);
      }
      expect((await store.transactions.openOf(account.address)).map(({ nonce }) => nonce)).to.deep.equal([0, 1, 2]);
    });
  });

  describe("when a transaction gets lost", () => {
    it("sends the same one again", async () => {
      const sender = await open({ patience: { blocks: 10_000, ms: 0 } });
      node.swallows = true;
      await sender.submit("a purpose", nothing);
      node.swallows = false;
      expect((await mining(sender.serve("a purpose", nothing))).fate).to.equal("confirmed");
      expect((await only(0)).state).to.equal("confirmed");
    });

    it("sends what a process stored that died, when another starts", async () => {
      node.swallows = true;
      await (await open()).submit("a purpose", nothing);
      node.swallows = false;
      const next = await open();
      await next.tend();
      await mine(2);
      expect((await next.serve("a purpose", nothing)).hash).to.equal((await only(0)).hash);
    });

    it("goes on when the node is down for a while", async () => {
      const sender = await open();
      const following = sender.follow("a purpose", await sender.submit("a purpose", nothing));
      node.lie = () => new Error("connect ECONNREFUSED");
      await new Promise((resolve) => setTimeout(resolve, 50));
      node.lie = () => undefined;
      expect((await mining(following)).fate).to.equal("confirmed");
      expect(await countOf()).to.equal(1);
    });
  });

  describe("when a transaction is too cheap", () => {
    const baseFee = async (gwei: number) => {
      await rpc("hardhat_setNextBlockBaseFeePerGas", [toQuantity(parseUnits(String(gwei), "gwei"))]);
      await mine();
    };

    it("signs another of the same nonce, for an eighth more at least, whichever of which is mined serves", async () => {
      const sender = await open();
      await sender.submit("a purpose", nothing);
      const [cheap] = await rowsOf(0);
      await baseFee(500);
      const { fate, hash } = await mining(sender.serve("a purpose", nothing));
      const rows = await rowsOf(0);
      expect(fate).to.equal("confirmed");
      expect(rows.length).to.be.greaterThan(1);
      expect(hash).not.to.equal(cheap.hash);
      const [before, after] = rows.map(({ raw }) => Transaction.from(raw));
      for (const fee of ["maxFeePerGas", "maxPriorityFeePerGas"] as const) {
        expect(after[fee]! * 1_000n >= before[fee]! * 1_125n, fee).to.equal(true);
      }
      expect([after.nonce, after.data, after.to]).to.deep.equal([before.nonce, before.data, before.to]);
      expect(events).to.include("raised");
    });

    it("sends along what the call pays, also when it is signed again for more", async () => {
      const sender = await open();
      await sender.submit("a purpose", async () => ({ ...(await nothing()), value: 7n }));
      await baseFee(500);
      const to = (await nothing()).to;
      const had = await provider.getBalance(to);
      await mining(sender.follow("a purpose", 0));
      const values = (await rowsOf(0)).map(({ raw }) => Transaction.from(raw).value);
      expect(values.length).to.be.greaterThan(1);
      expect(new Set(values)).to.deep.equal(new Set([7n]));
      expect((await provider.getBalance(to)) - had).to.equal(7n);
    });

    it("pays more, too, where it has only waited for long", async () => {
      const sender = await open({ patience: { blocks: 2, ms: 0 } });
      node.swallows = true;
      await sender.submit("a purpose", nothing);
      await mine(2);
      await sender.tend();
      expect(await rowsOf(0)).to.have.length(2);
    });

    it("pays no more while no node takes it, and is sent when its account has been filled up by as much as it takes", async () => {
      const sender = await open();
      node.lie = (method) =>
        method === "eth_sendRawTransaction" ? new Error("insufficient funds for gas * price + value") : undefined;
      await sender.submit("a purpose", nothing);
      const price = Transaction.from((await only(0)).raw).maxFeePerGas!;
      for (let i = 0; i < 30; i++) {
        await mine(3);
        await sender.tend();
      }
      const rows = await rowsOf(0);
      expect(
        rows.map(({ purpose }) => purpose),
        "it isn't given up, either",
      ).to.deep.equal(rows.map(() => "a purpose"));
      expect(rows.every(({ raw }) => Transaction.from(raw).maxFeePerGas! <= price)).to.equal(true);
      node.lie = () => undefined;
      await setBalance(account.address, price * 30_000n);
      expect((await mining(sender.follow("a purpose", 0))).fate).to.equal("confirmed");
    });

    it("pays more again where nodes, which didn't take it, have one before it that costs too much to replace", async () => {
      const sender = await open();
      await sender.submit("a purpose", nothing);
      await baseFee(500);
      const refuse = (message: string) =>
        (node.lie = (method) => (method === "eth_sendRawTransaction" ? new Error(message) : undefined));
      refuse("insufficient funds for gas * price + value");
      await tend(sender, 2);
      expect(await rowsOf(0)).to.have.length(2);
      refuse("replacement transaction underpriced");
      for (let i = 0; i < 3; i++) {
        await mine(2);
        await sender.tend();
      }
      const fees = (await rowsOf(0)).map(({ raw }) => Transaction.from(raw).maxFeePerGas!);
      expect(fees.length).to.be.greaterThan(2);
      expect(fees[2] * 1_000n >= fees[1] * 1_125n).to.equal(true);
    });

    it("asks for less again where fees have fallen since nobody took it", async () => {
      const sender = await open();
      await baseFee(500);
      node.lie = (method) =>
        method === "eth_sendRawTransaction" ? new Error("insufficient funds for gas * price + value") : undefined;
      await sender.submit("a purpose", nothing);
      await baseFee(1);
      await mine(3);
      await tend(sender, 3);
      const fees = (await rowsOf(0)).map(({ raw }) => Transaction.from(raw).maxFeePerGas!);
      expect(fees).to.have.length(2);
      expect(fees[1] * 2n < fees[0]).to.equal(true);
      node.lie = () => undefined;
      expect((await mining(sender.follow("a purpose", 0))).fate).to.equal("confirmed");
    });

    it("pays no more where blocks don't come", async () => {
      const sender = await open({ patience: { blocks: 2, ms: 0 } });
      await sender.submit("a purpose", nothing);
      await tend(sender, 5);
      expect(await rowsOf(0)).to.have.length(1);
    });

    it("pays no more than it may, tells so once, and goes on when fees fall", async () => {
      const most = parseUnits("20", "gwei");
      const sender = await open({ maxFeePerGas: most });
      await sender.submit("a purpose", nothing);
      await rpc("hardhat_dropTransaction", [(await only(0)).hash]);
      await baseFee(400);
      node.swallows = true;
      await tend(sender, 60);
      node.swallows = false;
      const fees = (await rowsOf(0)).map(({ raw }) => Transaction.from(raw).maxFeePerGas!);
      expect(fees.every((fee) => fee <= most)).to.equal(true);
      const told = "Fees are above maxFeeGwei: transactions wait until they fall";
      expect(messages().filter((message) => message === told).length).to.be.within(1, 2);
      expect(events).to.include("capped");
      await baseFee(1);
      expect((await mining(sender.serve("a purpose", nothing))).fate).to.equal("confirmed");
    });
  });

  describe("when its nonce goes to another transaction", () => {
    it("tells so once that is final, and takes another nonce when it is asked again", async () => {
      const sender = await open();
      node.swallows = true;
      const nonce = await sender.submit("a purpose", nothing);
      node.swallows = false;
      await rpc("evm_setAutomine", [true]);
      await new Wallet(account.privateKey, provider).sendTransaction({ to: account.address });
      await mine(2);
      expect((await sender.follow("a purpose", nonce)).fate).to.equal("replaced");
      await rpc("evm_setAutomine", [false]);
      expect((await mining(sender.serve("a purpose", nothing))).fate).to.equal("confirmed");
      expect((await rowsOf(1))[0].state).to.equal("confirmed");
    });
  });

  describe("when no node takes a transaction", () => {
    const refusing = (of: string, message: string) => {
      node.lie = (method, [raw]) =>
        method === "eth_sendRawTransaction" && Transaction.from(raw as string).data === of
          ? new Error(message)
          : undefined;
    };
    const unwanted = async () => ({ ...(await nothing()), data: "0x1234" });

    it("gives its nonce to nothing, so that what waits behind it is mined, and tells why", async () => {
      refusing("0x1234", "oversized data: transaction size 140000, limit 131072");
      const sender = await open();
      const nonce = await sender.submit("too large", unwanted);
      await sender.submit("good", nothing);
      expect((await mining(sender.follow("good", 1))).fate).to.equal("confirmed");
      expect((await mining(sender.follow("too large", nonce))).fate).to.equal("replaced");
      const line = lines.find((one) => one.includes("Transaction is cancelled"))!;
      expect(JSON.parse(line)).to.include({
        purpose: "too large",
        reason: "no node takes it: oversized data: transaction size 140000, limit 131072",
      });
      const [first, cancel] = (await rowsOf(nonce)).map(({ raw }) => Transaction.from(raw).maxFeePerGas!);
      expect(cancel <= first, "nobody has what it takes the place of").to.equal(true);
    });

    for (const passing of [
      "insufficient funds for gas * price + value",
      "no node of the chain takes the transaction (one: no answer within 4000 ms)",
      "txpool is full",
      "429 Too Many Requests",
      "Your app has exceeded its compute units per second capacity",
      "daily request count exceeded",
    ]) {
      it(`keeps its nonce where that has nothing to do with the transaction: ${passing}`, async () => {
        refusing("0x1234", passing);
        const sender = await open();
        await sender.submit("a purpose", unwanted);
        for (let i = 0; i < 20; i++) {
          await mine();
          await sender.tend();
        }
        expect((await rowsOf(0)).map(({ purpose }) => purpose)).to.deep.equal(["a purpose"]);
        node.lie = () => undefined;
        expect((await mining(sender.follow("a purpose", 0))).fate).to.equal("confirmed");
      });
    }

    it("keeps its nonce where a node has it, although another refuses it", async () => {
      refusing("0x1234", "oversized data");
      const sender = await open();
      await sender.submit("a purpose", unwanted);
      await sender.tend();
      refusing("0x1234", "already known");
      await sender.tend();
      refusing("0x1234", "oversized data");
      await tend(sender, 2);
      expect((await rowsOf(0)).map(({ purpose }) => purpose)).to.deep.equal(["a purpose"]);
    });

    it("keeps its nonce where a node has it, although none takes it again", async () => {
      node.lie = (method) => {
        if (method === "eth_getTransactionByHash") return {};
        return method === "eth_sendRawTransaction" ? new Error("oversized data") : undefined;
      };
      const sender = await open();
      await sender.submit("a purpose", unwanted);
      await tend(sender, 9);
      expect((await rowsOf(0)).map(({ purpose }) => purpose)).to.deep.equal(["a purpose"]);
    });

    it("keeps the nonces of those behind it, which may be refused since it is there", async () => {
      node.lie = (method) => (method === "eth_sendRawTransaction" ? new Error("oversized data") : undefined);
      const sender = await open();
      await sender.submit("first", unwanted);
      await sender.submit("second", unwanted);
      await tend(sender, 9);
      const purposes = await Promise.all([0, 1].map(async (nonce) => (await rowsOf(nonce)).at(-1)!.purpose));
      expect(purposes).to.deep.equal(["cancel", "second"]);
    });

    it("waits for long before it does", async () => {
      const patient = await open({ patience: { blocks: 2, ms: 60_000 } });
      refusing("0x1234", "oversized data");
      await patient.submit("too large", unwanted);
      await tend(patient, 9);
      expect(await rowsOf(0)).to.have.length(1);
    });

    for (const cheap of [
      "transaction underpriced",
      "max fee per gas less than block base fee: maxFeePerGas: 100, baseFee: 200",
      "FeeTooLow",
      "Gas price below configured minimum gas price",
    ]) {
      it(`keeps its nonce where fees alone are in the way: ${cheap}`, async () => {
        refusing("0x1234", cheap);
        const sender = await open({ patience: { blocks: 99, ms: 0 } });
        await sender.submit("cheap", unwanted);
        await tend(sender, 9);
        expect((await rowsOf(0)).map(({ purpose }) => purpose)).to.deep.equal(["cheap"]);
      });
    }

    it("signs nothing that is too large for all, or for a block", async () => {
      const sender = await open();
      const bytes = (count: number) => async () => ({ ...(await nothing()), data: `0x${"00".repeat(count)}` });
      await expect(sender.submit("too long", bytes(130_001))).to.be.rejectedWith(
        CallTooLarge,
        "The call has 130001 bytes, and nodes take 130000 at most: split it",
      );
      expect(await sender.submit("long", bytes(130_000))).to.equal(0);
      await rpc("evm_setBlockGasLimit", [toQuantity(30_000n)]);
      await mine();
      await expect(sender.submit("dear", bytes(4_000))).to.be.rejectedWith(CallTooLarge);
      expect(await sender.submit("cheap", nothing)).to.equal(1);
      expect(Transaction.from((await rowsOf(1))[0].raw).gasLimit <= 30_000n).to.equal(true);
    });
  });

  describe("when transactions for a purpose revert", () => {
    it("rests for a quarter of what is left at most, where it must be served by a time", async () => {
      await rpc("evm_setAutomine", [true]);
      const sender = await open();
      const now = await time.latest();
      const failures = { times: 9, block: await provider.getBlockNumber() };
      store.transactions.failuresOf = async () => failures;
      store.transactions.nonceFor = async () => 0;
      store.transactions.ofNonce = async () => [
        {
          account: account.address,
          nonce: 0,
          attempt: 0,
          purpose: "a purpose",
          raw: "0x",
          hash: id("hash"),
          state: "reverted",
          block: 1,
        },
      ];
      const attempt = (until?: number) => sender.submit("a purpose", nothing, until);
      const restsUntil = (seconds: number) =>
        `is signed from ${new Date((now + seconds) * 1_000).toISOString().slice(0, 19)}`;
      await expect(attempt(), "three hours are the most").to.be.rejectedWith(restsUntil(10_800));
      await expect(attempt(now + 4_000)).to.be.rejectedWith(restsUntil(1_000));
      const hasty = await open({ mostRestSeconds: 225 });
      await expect(hasty.submit("a purpose", nothing)).to.be.rejectedWith(restsUntil(225));
    });

    /** Approved to others, who take it before the account's transfer is mined. */
    it("signs another at once, then ever more rarely, and serves other purposes meanwhile", async () => {
      await rpc("evm_setAutomine", [true]);
      const [holder] = await hre.ethers.getSigners();
      const currency = await hre.ethers.deployContract("TestCurrency");
      const own = TestCurrency__factory.connect(await currency.getAddress(), new Wallet(account.privateKey, provider));
      await own.approve(holder, 100n);
      await rpc("evm_setAutomine", [false]);
      const call = async () => currency.transfer.populateTransaction(holder, 5n);
      const revert = async (sender: AccountSender) => {
        await currency.mint(account.address, 5n);
        await mine();
        const nonce = await sender.submit("a purpose", call);
        await currency.transferFrom(account.address, holder, 5n, { gasPrice: parseUnits("99", "gwei") });
        await mine(3);
        expect((await sender.follow("a purpose", nonce)).fate).to.equal("reverted");
      };
      const sender = await open();
      await revert(sender);
      for (const seconds of [0, 60, 240]) {
        await time.increase(seconds + 60);
        await revert(sender);
        // By another process, too.
        const next = await open();
        await expect(next.submit("a purpose", call)).to.be.rejectedWith(
          /transactions for "a purpose" have failed, the last one in block \d+: another is signed from 20.* on/,
        );
        expect(await next.submit(`another ${seconds}`, nothing)).to.be.a("number");
        await mine(3);
        await tend(next);
      }
    });
  });

  describe("when a purpose must be served by a time", () => {
    const soon = async () => (await time.latest()) + 3_600;

    it("has room behind as many others as there may be", async () => {
      const sender = await open();
      for (let i = 0; i < 8; i++) await sender.submit(`purpose ${i}`, nothing);
      await expect(sender.submit("one more", nothing)).to.be.rejectedWith("8 transactions of 0x");
      expect(await sender.submit("urgent", nothing, await soon())).to.equal(8);
    });

    it("pays more for all before it, too, and not only for the next", async () => {
      const sender = await open({ patience: { blocks: 2, ms: 0 } });
      node.swallows = true;
      for (const purpose of ["one", "two", "three"]) await sender.submit(purpose, nothing);
      await sender.submit("urgent", nothing, await soon());
      await sender.submit("behind", nothing);
      await mine(2);
      await sender.tend();
      const counts = await Promise.all([0, 1, 2, 3, 4].map(async (nonce) => (await rowsOf(nonce)).length));
      expect(counts).to.deep.equal([2, 2, 2, 2, 1]);
    });

    it("is given up when that is over, and its nonce goes to nothing", async () => {
      const sender = await open();
      node.swallows = true;
      await sender.submit("urgent", nothing, await soon());
      await time.increase(3_602);
      await tend(sender, 3);
      node.swallows = false;
      expect((await mining(sender.follow("urgent", 0))).fate).to.equal("replaced");
      expect(lines.join()).to.contain("it had to be mined by 20");
    });

    it("isn't given up for one block of a wrong time", async () => {
      const sender = await open();
      node.swallows = true;
      await sender.submit("urgent", nothing, await soon());
      node.lie = (method, [block]) =>
        method === "eth_getBlockByNumber"
          ? { number: block, timestamp: toQuantity(2_000_000_000_000), hash: id("a block"), transactions: [] }
          : undefined;
      await tend(sender, 2);
      node.lie = () => undefined;
      await sender.tend();
      expect((await rowsOf(0)).map(({ purpose }) => purpose)).to.not.include("cancel");
    });
  });

  describe("cancel", () => {
    it("gives the nonce to nothing, so that others go on", async () => {
      const sender = await open();
      node.swallows = true;
      const nonce = await sender.submit("unwanted", nothing);
      node.swallows = false;
      await sender.submit("wanted", nothing);
      await sender.cancel("unwanted");
      await mine(2);
      expect((await sender.follow("unwanted", nonce)).fate).to.equal("replaced");
      expect((await sender.follow("wanted", 1)).fate).to.equal("confirmed");
      const [mined] = (await rowsOf(nonce)).filter(({ state }) => state === "confirmed");
      expect(Transaction.from(mined.raw)).to.include({ to: account.address, value: 0n, data: "0x" });
    });

    it("does nothing to what is final, or never was", async () => {
      const sender = await open();
      await mining(sender.serve("done", nothing));
      await sender.cancel("done");
      await sender.cancel("never heard of");
      expect(await rowsOf(0)).to.have.length(1);
    });
  });

  describe("when the chain reorganizes", () => {
    it("sends what was mined and isn't any more", async () => {
      const sender = await open({ finality: 8 });
      const nonce = await sender.submit("a purpose", nothing);
      const { raw, hash } = await only(0);
      await rpc("hardhat_dropTransaction", [hash]);
      const fork = await rpc("evm_snapshot");
      await rpc("eth_sendRawTransaction", [raw]);
      await mine(6);
      await sender.tend();
      expect(await provider.getTransactionReceipt(hash)).not.to.equal(null);
      await rpc("evm_revert", [fork]);
      await mine(7);
      expect(await provider.getTransactionReceipt(hash)).to.equal(null);
      await sender.tend();
      await mine(8);
      expect((await sender.follow("a purpose", nonce)).fate).to.equal("confirmed");
      expect(undone).to.deep.equal([]);
    });

    it("opens again what was final, tells whose purpose it was, and has it mined again", async () => {
      const sender = await open();
      const fork = await rpc("evm_snapshot");
      const first = await mining(sender.serve("a purpose", nothing));
      expect(first.fate).to.equal("confirmed");
      await rpc("evm_revert", [fork]);
      await mine(10);
      await tend(sender, 4);
      expect(undone).to.deep.equal(["a purpose"]);
      expect(messages()).to.include("The chain has undone a transaction that was final: it is sent again");
      const again = await mining(sender.serve("a purpose", nothing));
      expect(again.fate).to.equal("confirmed");
      expect(await countOf()).to.equal(1);
    });
  });

  describe("when the node lies", () => {
    it("isn't shaken by one wrong answer about what was mined", async () => {
      const sender = await open();
      await mining(sender.serve("a purpose", nothing));
      node.lie = (method) => (method === "eth_getTransactionReceipt" ? null : undefined);
      await tend(sender, 2);
      node.lie = () => undefined;
      await tend(sender, 3);
      expect(undone).to.deep.equal([]);
      expect((await only(0)).state).to.equal("confirmed");
    });

    it("fills the gap that a count too high has made at the start", async () => {
      node.lie = (method) => (method === "eth_getTransactionCount" ? "0x3" : undefined);
      const sender = await open();
      expect(await sender.submit("a purpose", nothing)).to.equal(3);
      node.lie = () => undefined;
      expect((await mining(sender.serve("a purpose", nothing))).fate).to.equal("confirmed");
      expect(await countOf()).to.equal(4);
      expect(messages()).to.include("A nonce was skipped: it goes to nothing");
    });

    it("finds to the right nonce after a count too low", async () => {
      await rpc("evm_setAutomine", [true]);
      for (let i = 0; i < 3; i++) {
        await new Wallet(account.privateKey, provider).sendTransaction({ to: account.address });
      }
      await rpc("evm_setAutomine", [false]);
      node.lie = (method) => (method === "eth_getTransactionCount" ? "0x0" : undefined);
      const sender = await open();
      const nonce = await sender.submit("a purpose", nothing);
      expect(nonce).to.equal(0);
      node.lie = () => undefined;
      await mine();
      expect((await mining(sender.follow("a purpose", nonce))).fate).to.equal("replaced");
      expect((await mining(sender.serve("a purpose", nothing))).fate).to.equal("confirmed");
      expect(await countOf()).to.equal(4);
    });

    it("serves no purpose twice where a nonce that it gave up is free after all", async () => {
      const sender = await open();
      node.swallows = true;
      const nonce = await sender.submit("a purpose", nothing);
      // Nodes say for long that another has used its nonce.
      node.lie = (method) => (method === "eth_getTransactionCount" ? toQuantity(nonce + 1) : undefined);
      await mine(3);
      await tend(sender, 4);
      expect((await only(nonce)).state).to.equal("replaced");
      node.swallows = false;
      expect(await sender.submit("a purpose", nothing)).to.equal(nonce + 1);
      node.lie = () => undefined;
      expect((await mining(sender.follow("a purpose", nonce + 1))).fate).to.equal("confirmed");
      await tend(sender, 4);
      const mined = (await rowsOf(nonce)).filter(({ state }) => state === "confirmed");
      expect(mined.map(({ purpose }) => purpose)).to.deep.equal(["cancel"]);
      expect(await countOf()).to.equal(2);
    });

    for (const lastCallHappens of [false, true]) {
      const moment = lastCallHappens ? "after the call's effect" : "before the call";

      it(`nor where the process dies while it opens that nonce again, ${moment}`, async () => {
        let steps = 0;
        for (let survived = false; !survived; steps++) {
          const sender = await open();
          const purpose = `purpose ${steps}`;
          node.swallows = true;
          const nonce = await sender.submit(purpose, nothing);
          node.lie = (method) => (method === "eth_getTransactionCount" ? toQuantity(nonce + 1) : undefined);
          await mine(3);
          await tend(sender, 4);
          node.swallows = false;
          await sender.submit(purpose, nothing);
          node.lie = () => undefined;
          const life = lifeOf(steps + 1, lastCallHappens);
          const dying = open({}, life).then((mortalOne) => tend(mortalOne, 4));
          await dying.catch(() => undefined);
          survived = !life.isOver;
          const next = await open();
          expect((await mining(next.follow(purpose, nonce + 1))).fate).to.equal("confirmed");
          await mining(tend(next, 4));
          const mined = (await rowsOf(nonce)).filter(({ state }) => state === "confirmed");
          expect(
            mined.map((row) => row.purpose),
            `died at call ${steps + 1}`,
          ).to.deep.equal(["cancel"]);
        }
        expect(steps).to.be.greaterThan(12);
      });
    }

    it("opens what it gave up when it hears that the nonce is free", async () => {
      const sender = await open();
      node.swallows = true;
      const nonce = await sender.submit("a purpose", nothing);
      node.lie = (method) => (method === "eth_getTransactionCount" ? "0x9" : undefined);
      expect((await sender.follow("a purpose", nonce)).fate).to.equal("replaced");
      node.lie = () => undefined;
      node.swallows = false;
      await sender.submit("the next", nothing);
      await mining(sender.serve("the next", nothing));
      expect((await rowsOf(nonce))[0].state).to.equal("confirmed");
    });
  });

  for (const lastCallHappens of [false, true]) {
    const moment = lastCallHappens ? "after the call's effect" : "before the call";

    it(`serves exactly once whatever call the process died at, ${moment}`, async () => {
      let steps = 0;
      for (let survived = false; !survived; steps++) {
        const life = lifeOf(steps + 1, lastCallHappens);
        const purpose = `purpose ${steps}`;
        const used = await countOf();
        const dying = open({ timeoutMs: 300 }, life).then((sender) => sender.serve(purpose, nothing));
        await mining(dying.catch(() => undefined));
        survived = !life.isOver;
        const next = await open();
        expect((await mining(next.serve(purpose, nothing))).fate).to.equal("confirmed");
        expect(await countOf(), `died at call ${steps + 1}`).to.equal(used + 1);
      }
      expect(steps).to.be.greaterThan(12);
    });
  }
});
