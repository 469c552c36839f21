import { expect } from "chai";
import { id, Transaction, Wallet } from "ethers";
import hre from "hardhat";
import { setTimeout as wait } from "node:timers/promises";
import { namesOf } from "../../oracle/chain/node";
import { openNodes, witnessOf, type NodesConfig, type NodesProvider } from "../../oracle/chain/nodes";
import { refusalOf } from "../../oracle/chain/refusal";
import { Problem } from "../../oracle/problem";
import { connectLicet, deployLicet } from "../../deploy/deploy";
import { deploymentParameters, namedActors } from "../support/market";
import { FAULTS, lyingAbout, RpcProxy, slowBy } from "../support/rpcProxy";

const CHAIN = 31337n;
const rpc = (method: string, params: unknown[]) => hre.network.provider.request({ method, params });

describe("openNodes", () => {
  let proxies: RpcProxy[];
  let lines: { message: string; [field: string]: unknown }[];

  beforeEach(async () => {
    proxies = await Promise.all([1, 2, 3].map(() => RpcProxy.start(rpc)));
    lines = [];
  });

  afterEach(() => Promise.all(proxies.map((proxy) => proxy.stop())));

  const open = async (config: Partial<NodesConfig> = {}): Promise<NodesProvider> => {
    const urls = proxies.map(({ url }) => url);
    const provider = await openNodes({ urls, quorum: 1, answerMs: 300, inspectMs: 40, ...config }, CHAIN);
    provider.nodes.watch((message, fields) => lines.push({ message, ...fields }));
    return provider;
  };

  const statesOf = ({ nodes }: NodesProvider) => nodes.states().map(({ state }) => state);
  const asked = () => proxies.map(({ calls }) => calls.splice(0).includes("eth_gasPrice"));
  const price = (provider: NodesProvider) => provider.send("eth_gasPrice", []);

  describe("asking", () => {
    it("asks the first alone while it is well", async () => {
      const provider = await open();
      asked();
      expect(await price(provider)).to.match(/^0x/);
      expect(asked()).to.deep.equal([true, false, false]);
    });

    for (const [what, fault] of [
      ["hangs up", FAULTS.down],
      ["doesn't answer", FAULTS.silent],
      ["answers too late", slowBy(5_000)],
      ["answers nonsense", async () => undefined],
      ["is asked too often", () => Promise.reject(Object.assign(new Error("rate limit exceeded"), { code: -32005 }))],
    ] as const) {
      it(`asks the next where one ${what}`, async () => {
        const provider = await open();
        proxies[0].fault = fault;
        expect(await price(provider)).to.match(/^0x/);
        asked();
        await price(provider);
        expect(asked()[1]).to.equal(true);
      });
    }

    it("says what is wrong with a node, and goes back to it when it is well again", async () => {
      const provider = await open();
      proxies[0].fault = FAULTS.down;
      await price(provider);
      expect(statesOf(provider)).to.deep.equal(["down", "up", "up"]);
      expect(lines[0].message).to.equal("Node of the chain isn't asked while others are well");
      expect(lines[0]).to.include({ node: new URL(proxies[0].url).host, state: "down" });
      proxies[0].fault = FAULTS.none;
      await provider.nodes.inspect();
      expect(lines.at(-1)).to.include({ message: "Node of the chain is well again" });
      asked();
      await price(provider);
      expect(asked()).to.deep.equal([true, false, false]);
    });

    it("looks at all of them by itself, now and then", async () => {
      const provider = await open();
      proxies[2].fault = FAULTS.down;
      for (let i = 0; i < 50 && statesOf(provider)[2] === "up"; i++) {
        await price(provider);
        await wait(20);
      }
      expect(statesOf(provider)).to.deep.equal(["up", "up", "down"]);
    });

    it("doesn't ask one that is behind the others while another isn't", async () => {
      const old = lyingAbout({
        eth_getBlockByNumber: (_params, truth) => ({ ...(truth as object), timestamp: "0x1" }),
      });
      const provider = await open();
      proxies[0].fault = old;
      await provider.nodes.inspect();
      expect(statesOf(provider)).to.deep.equal(["behind", "up", "up"]);
      expect(String(lines[0].reason)).to.match(/its latest block is \d+ s older than the others'/);
      asked();
      await price(provider);
      expect(asked()).to.deep.equal([false, true, false]);
    });

    it("gives a contract's refusal as it is, and asks nobody else", async () => {
      const actors = await namedActors();
      const licet = connectLicet(await deployLicet(hre, deploymentParameters(actors)), actors.deployer);
      const provider = await open();
      asked();
      const { escrow } = licet;
      const refused = await provider
        .call(await escrow.release.populateTransaction(id("no batch")))
        .catch((error: Error) => error);
      expect(refusalOf(refused)).to.contain("unknown");
      expect(proxies.map(({ calls }) => calls.includes("eth_call"))).to.deep.equal([true, false, false]);
    });

    it("says that none answers, and names them without their secrets", async () => {
      const urls = proxies.map(({ url }) => url.replace("http://", "http://user:SECRET@") + "/v2/SECRET");
      const provider = await open({ urls });
      expect(await price(provider)).to.match(/^0x/);
      proxies.forEach((proxy) => (proxy.fault = FAULTS.down));
      const problem: Error = await price(provider).catch((error) => error);
      expect(problem.message).to.match(/no node of the chain answers eth_gasPrice \(127\.0\.0\.1:\d+: no connection/);
      expect(problem.message + JSON.stringify(lines)).not.to.contain("SECRET");
    });
  });

  describe("starting", () => {
    it("does with those that answer", async () => {
      proxies[0].fault = FAULTS.down;
      const provider = await open();
      expect(lines[0]).to.include({ state: "down" });
      expect(await price(provider)).to.match(/^0x/);
      expect(proxies[0].calls).not.to.include("eth_gasPrice");
    });

    it("is refused where none answers", async () => {
      proxies.forEach((proxy) => (proxy.fault = FAULTS.down));
      await expect(open()).to.be.rejectedWith(
        Problem,
        /^The chain's node doesn't answer \(127.*; 127.*; 127.*chain\.urls/,
      );
    });

    it("is refused where one is of another chain, or of another of the same number", async () => {
      const host = new URL(proxies[1].url).host;
      proxies[1].fault = lyingAbout({ eth_chainId: () => "0x1" });
      await expect(open()).to.be.rejectedWith(
        Problem,
        `The address book is of chain 31337, and the node ${host} is of chain 1`,
      );
      proxies[1].fault = lyingAbout({
        eth_getBlockByNumber: (_params, truth) => ({ ...(truth as object), hash: id("x") }),
      });
      await expect(open()).to.be.rejectedWith(Problem, "have different first blocks, though both are of chain 31337");
    });

    it("never asks one that turns out to be of another chain later", async () => {
      proxies[0].fault = FAULTS.down;
      const provider = await open();
      proxies[0].fault = lyingAbout({ eth_chainId: () => "0x1" });
      await provider.nodes.inspect();
      expect(statesOf(provider)).to.deep.equal(["foreign", "up", "up"]);
      proxies.slice(1).forEach((proxy) => (proxy.fault = FAULTS.down));
      await expect(price(provider)).to.be.rejectedWith("no node of the chain answers");
      expect(proxies[0].calls).not.to.include("eth_gasPrice");
    });
  });

  describe("sending", () => {
    const signed = async () => {
      const wallet = Wallet.createRandom();
      return wallet.signTransaction({
        chainId: CHAIN,
        to: wallet.address,
        gasLimit: 21_000,
        maxFeePerGas: 1n,
        type: 2,
      });
    };

    it("sends a transaction to all", async () => {
      const provider = await open();
      await provider.broadcastTransaction(await signed()).catch(() => undefined);
      expect(proxies.map(({ calls }) => calls.includes("eth_sendRawTransaction"))).to.deep.equal([true, true, true]);
    });

    it("is content if one takes it", async () => {
      const provider = await open();
      const raw = await signed();
      const hash = Transaction.from(raw).hash!;
      proxies[0].fault = FAULTS.down;
      proxies[1].fault = FAULTS.silent;
      proxies[2].fault = lyingAbout({});
      proxies[2].fault = async (method, _params, pass) => (method === "eth_sendRawTransaction" ? hash : pass());
      expect(await provider.send("eth_sendRawTransaction", [raw])).to.equal(hash);
    });

    it("says what nodes have against it, if none takes it", async () => {
      const provider = await open();
      proxies[0].fault = FAULTS.down;
      await expect(provider.send("eth_sendRawTransaction", [await signed()])).to.be.rejectedWith(/fee|funds/i);
    });
  });

  describe("whether a transaction is known", () => {
    const HASH = `0x${"7a".repeat(32)}`;
    const having = lyingAbout({ eth_getTransactionByHash: () => ({ hash: HASH }) });

    it("goes by any that has it, whatever the others say", async () => {
      const { nodes } = await open();
      expect(await nodes.knows(HASH)).to.equal(false);
      proxies[0].fault = FAULTS.down;
      expect(await nodes.knows(HASH)).to.equal(false);
      proxies[2].fault = having;
      expect(await nodes.knows(HASH)).to.equal(true);
    });

    it("asks those that are well alone, as long as there are any", async () => {
      proxies[0].fault = FAULTS.down;
      const { nodes } = await open();
      proxies[0].fault = having;
      expect(await nodes.knows(HASH)).to.equal(false);
    });

    it("isn't known while none answers", async () => {
      const { nodes } = await open();
      proxies.forEach((proxy) => (proxy.fault = FAULTS.down));
      await expect(nodes.knows(HASH)).to.be.rejectedWith(`no node of the chain says whether it has ${HASH}`);
    });
  });

  describe("what money hangs on", () => {
    const height = lyingAbout({
      eth_getBlockByNumber: (_params, truth) => ({ ...(truth as object), number: "0xffffff" }),
    });
    const count = lyingAbout({ eth_getTransactionCount: () => "0x99" });
    const someone = Wallet.createRandom().address;

    it("is what as many nodes say as must, whatever the others do", async () => {
      const witness = witnessOf(await open({ quorum: 2 }));
      const latest = Number(await rpc("eth_blockNumber", []));
      for (const fault of [height, count, FAULTS.down, FAULTS.silent]) {
        proxies[0].fault = fault;
        expect(await witness.height()).to.equal(latest);
        expect(await witness.ask("eth_getTransactionCount", [someone, "latest"])).to.equal("0x0");
      }
    });

    it("isn't known while too few agree, and says who says what", async () => {
      const urls = proxies.slice(1).map(({ url }) => url);
      const witness = witnessOf(await open({ quorum: 2, urls }));
      proxies[1].fault = count;
      const asking = witness.ask("eth_getTransactionCount", [someone, "latest"]);
      await expect(asking).to.be.rejectedWith(/2 nodes must agree on eth_getTransactionCount: 127.* says "0x/);
      expect(lines.at(-1)?.message).to.equal("Nodes of the chain contradict each other");
      proxies[1].fault = FAULTS.down;
      await expect(witness.height()).to.be.rejectedWith("1 nodes tell of a block, and 2 must");
    });

    it("compares of an answer what it is told to", async () => {
      const witness = witnessOf(await open({ quorum: 3 }));
      proxies[0].fault = lyingAbout({
        eth_getBlockByNumber: (_params, truth) => ({ ...(truth as object), size: "0x9" }),
      });
      const block = ["latest", false];
      await expect(witness.ask("eth_getBlockByNumber", block)).to.be.rejectedWith("3 nodes must agree");
      const hashOf = (answer: unknown) => (answer as { hash: string }).hash;
      expect(hashOf(await witness.ask("eth_getBlockByNumber", block, hashOf))).to.match(/^0x/);
    });

    it("is the word of the only one, where one is enough", async () => {
      const witness = witnessOf(await open({ quorum: 1 }));
      expect(await witness.height("finalized")).to.be.at.most(await witness.height());
      proxies[0].fault = count;
      expect(await witness.ask("eth_getTransactionCount", [someone, "latest"])).to.equal("0x99");
    });
  });

  it("tells several nodes of one host apart", () => {
    expect(namesOf(["http://a.example/1", "https://a.example/2", "http://b.example:8545"])).to.deep.equal([
      "a.example",
      "a.example (2)",
      "b.example:8545",
    ]);
  });
});
