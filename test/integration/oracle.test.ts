import { expect } from "chai";
import { time } from "@nomicfoundation/hardhat-network-helpers";
import { HDNodeWallet, id, Wallet } from "ethers";
import hre from "hardhat";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { once } from "node:events";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import type { AddressInfo } from "node:net";
import type { Deployment } from "../../oracle/chain/deployment";
import type { RpcProvider } from "../../oracle/chain/ethersChain";
import { parseConfig } from "../../oracle/config";
import { runOracle } from "../../oracle/main";
import { Problem } from "../../oracle/problem";
import { sqliteDatabase } from "../../oracle/store/sqliteDatabase";
import { Store } from "../../oracle/store/store";
import { bearerOf, grantWith } from "../support/fakeMessages";
import { ATTESTORS, DAY, freshMarket, type Market } from "../support/market";

/** The operator's key for receipts and proposals, and its settler's account. */
const KEY = new Wallet(id("operator's key"));
const SETTLER = HDNodeWallet.fromPhrase("test test test test test test test test test test test junk");
const STRANGER = new Wallet(id("stranger"));

const ENVIRONMENT = {
  KEY: KEY.privateKey,
  SETTLER: SETTLER.privateKey,
  STRANGER: STRANGER.privateKey,
  MEMBER: ATTESTORS[0].privateKey,
  CANARY: bearerOf({ grant: grantWith(), signature: `0x${"11".repeat(65)}` }),
};

/** A settings file's section, changed. */
type Fields = Record<string, unknown>;

describe("runOracle", () => {
  let market: Market;
  let folder: string;
  let deployment: Deployment;

  beforeEach(async () => {
    market = await freshMarket();
    const { operators, escrow, committee } = market.licet;
    await operators.connect(market.operator).addKey(1, KEY.address, (await time.latest()) + 90 * DAY);
    folder = mkdtempSync(join(tmpdir(), "licet-oracle-"));
    deployment = {
      provider: hre.ethers.provider,
      chainId: 31337n,
      escrow: await escrow.getAddress(),
      committee: await committee.getAddress(),
      fromBlock: 0,
    };
  });

  afterEach(() => rmSync(folder, { recursive: true }));

  const gateway = (changes: Fields = {}): Fields => ({
    port: 0,
    operatorId: 1,
    signingKeyVariable: "KEY",
    models: [{ id: "m", upstreamUrl: "http://127.0.0.1:1", versionId: String(market.versionId) }],
    ...changes,
  });
  const settler = (changes: Fields = {}): Fields => ({
    keyVariable: "SETTLER",
    signingKeyVariable: "KEY",
    attestors: ATTESTORS.map(({ address }) => ({ address, url: "http://127.0.0.1:1" })),
    ...changes,
  });
  const attestor = (changes: Fields = {}): Fields => ({
    port: 0,
    keyVariable: "MEMBER",
    canaries: [
      {
        operatorId: 1,
        planId: 1,
        versionId: String(market.versionId),
        gatewayUrl: "http://127.0.0.1:1",
        apiKeyVariable: "CANARY",
        modelId: "m",
        meanIntervalSeconds: 86_400,
      },
    ],
    ...changes,
  });
  const settings = (sections: Fields) =>
    parseConfig(
      JSON.stringify({ dataFolder: join(folder, "data"), clock: "chain", logLevel: "error", ...sections }),
      ENVIRONMENT,
    );

  const run = (sections: Fields, where: Partial<Deployment> = {}, signal = AbortSignal.timeout(30_000)) =>
    runOracle(settings(sections), { ...deployment, ...where }, signal);

  /** What it says instead of running. Whatever had begun must have ended: the stores are to be had again. */
  async function expectProblem(attempt: Promise<void>, sentence: RegExp) {
    const problem = await attempt.then(
      () => new Error("it ran"),
      (cause: Error) => cause,
    );
    expect(problem.message).to.match(sentence);
    expect(problem).to.be.instanceOf(Problem);
    if (await dataFolderExists()) {
      for (const file of ["operator.sqlite", "attestor.sqlite"]) {
        await new Store(sqliteDatabase(join(folder, "data", file))).close();
      }
    }
  }

  const dataFolderExists = async () => {
    try {
      await new Store(sqliteDatabase(join(folder, "data", "probe.sqlite"))).close();
      return true;
    } catch {
      return false;
    }
  };

  it("runs a gateway, a settler and an attestor until it is told to stop", async () => {
    const stop = new AbortController();
    const running = run({ gateway: gateway(), settler: settler(), attestor: attestor() }, {}, stop.signal);
    setTimeout(() => stop.abort(), 500);
    await running;
    await expectProblem(run({ gateway: gateway({ signingKeyVariable: "STRANGER" }) }), /no signing key/);
  });

  it("shows how it does, at a place of its own, until it has stopped", async () => {
    const port = await freePort();
    const stop = new AbortController();
    const sections = { gateway: gateway(), settler: settler(), attestor: attestor(), operations: { port } };
    const running = run(sections, {}, stop.signal);
    const get = async (path: string) => {
      const answer = await fetch(`http://127.0.0.1:${port}${path}`).catch(() => null);
      return { status: answer?.status, text: (await answer?.text()) ?? "" };
    };
    while ((await get("/readyz")).status !== 200) await wait(20);
    const { text } = await get("/metrics");
    expect(text).to.match(/^licet_stake_headroom_units [1-9]\d+$/m);
    expect(text).to.match(/^licet_unsettled_units 0$/m);
    expect(text).to.match(/^licet_settler_rounds_total\{result="done"\} 1$/m);
    expect(text).to.contain('licet_log_lines_total{level="warn",part="gateway",message="upstream can');
    stop.abort();
    await running;
    expect((await get("/healthz")).status).to.equal(undefined);
  });

  it("isn't ready while the chain doesn't answer", async () => {
    const port = await freePort();
    const stop = new AbortController();
    let isDown = false;
    const provider = new Proxy(hre.ethers.provider as RpcProvider, {
      get(target, name) {
        const value = Reflect.get(target, name) as unknown;
        if (name === "send" && isDown) return () => Promise.reject(new Error("connect ECONNREFUSED"));
        return typeof value === "function" ? value.bind(target) : value;
      },
    });
    const running = run({ gateway: gateway(), operations: { port } }, { provider }, stop.signal);
    const ready = async () => {
      const answer = await fetch(`http://127.0.0.1:${port}/readyz`).catch(() => null);
      return (await answer?.json()) as { ready: boolean; reasons: string[] } | undefined;
    };
    while ((await ready())?.ready !== true) await wait(20);
    isDown = true;
    await wait(1_050);
    expect(await ready()).to.deep.include({ ready: false, reasons: ["chain: connect ECONNREFUSED"] });
    stop.abort();
    await running;
  });

  describe("a deployment that isn't there", () => {
    /** The node's provider, but for one method. */
    const providerWith = (methods: Partial<RpcProvider>): RpcProvider =>
      new Proxy(hre.ethers.provider as RpcProvider, {
        get(target, name) {
          if (name in methods) return Reflect.get(methods, name) as unknown;
          const value = Reflect.get(target, name) as unknown;
          return typeof value === "function" ? value.bind(target) : value;
        },
      });
    const licenses = async () => ({ escrow: await market.licet.licenses.getAddress() });

    const rows: [string, () => Partial<Deployment> | Promise<Partial<Deployment>>, RegExp][] = [
      [
        "another chain",
        () => ({ chainId: 1n }),
        /address book is of chain 1, and the node is of chain 31337: check --net/,
      ],
      ["an escrow without code", () => ({ escrow: STRANGER.address }), /No contract is at 0x.* Deploy again/],
      ["a committee without code", () => ({ committee: STRANGER.address }), /No contract is at 0x.* Deploy again/],
      ["another contract for the escrow", licenses, /doesn't answer as a UsageEscrow of this release .* address book/],
      [
        "another contract for the committee",
        () => ({ committee: deployment.escrow }),
        /doesn't answer as a CommitteeAttestor of this release .* address book/,
      ],
      [
        "a node that is down",
        () => ({ provider: providerWith({ getNetwork: () => Promise.reject(new Error("connect ECONNREFUSED")) }) }),
        /The chain can't be read \(connect ECONNREFUSED\): check that its node runs/,
      ],
      [
        "a node that answers rubbish",
        () => ({
          provider: providerWith({ call: () => Promise.reject(new Error("Invalid JSON-RPC response: <html>")) }),
        }),
        /The chain can't be read \(Invalid JSON-RPC response: <html>\)/,
      ],
      [
        "a node that knows no block to come",
        () => ({ provider: providerWith({ send: () => Promise.resolve(null) }) }),
        /The chain can't be read \(the node tells no pending block: say "clock": "machine"/,
      ],
      [
        "a node that has lost the chain's beginning",
        () => ({
          provider: providerWith({
            send: (method, params) =>
              params[0] === "0x0" ? Promise.resolve(null) : hre.ethers.provider.send(method, params),
          }),
        }),
        /The node doesn't give the chain's block 0: use one that has it/,
      ],
    ];
    for (const [what, where, sentence] of rows) {
      it(`is refused: ${what}`, async () => {
        await expectProblem(run({ gateway: gateway() }, await where()), sentence);
      });
    }

    it("is refused: a chain whose clock was moved, by the machine's clock", async () => {
      await time.increase(DAY);
      const ahead = /The chain's time is \d+ s ahead of this machine's: .* say "clock": "chain"/;
      await expectProblem(run({ clock: "machine", gateway: gateway() }), ahead);
    });
  });

  describe("settings that the chain contradicts", () => {
    const model = (versionId: string) => [{ id: "m", upstreamUrl: "http://127.0.0.1:1", versionId }];
    const x402 = (changes: Fields): Fields => ({ planId: 1, deposit: 1, fee: 0, keyVariable: "STRANGER", ...changes });
    const rows: [string, () => Fields, RegExp][] = [
      [
        "a version that isn't there",
        () => ({ gateway: gateway({ models: model("99") }) }),
        /version 99 of m doesn't exist/,
      ],
      [
        "an operator's key that isn't registered",
        () => ({ gateway: gateway({ signingKeyVariable: "STRANGER" }) }),
        /is no signing key of operator 1 at the moment: register it/,
      ],
      ["an operator that isn't there", () => ({ gateway: gateway({ operatorId: 9 }) }), /no signing key of operator 9/],
      [
        "an attestor who is no member",
        () => ({ settler: settler({ attestors: [{ address: STRANGER.address, url: "http://a" }] }) }),
        new RegExp(`settler.attestors: ${STRANGER.address} is no member of the committee .*${ATTESTORS[0].address}`),
      ],
      [
        "fewer attestors than must sign",
        () => ({ settler: settler({ attestors: [{ address: ATTESTORS[0].address, url: "http://a" }] }) }),
        new RegExp(`lists members with a weight of 1, and 2 must sign: add ${ATTESTORS[1].address}`),
      ],
      [
        "epochs longer than the chain allows",
        () => ({ settler: settler({ epochSeconds: 2 * DAY }) }),
        /settler.epochSeconds is 172800; this deployment's longest epoch has 86400/,
      ],
      [
        "a settler whose proposals nobody would look at",
        () => ({ gateway: gateway(), settler: settler({ signingKeyVariable: "STRANGER" }) }),
        /settler.signingKey: .* is no signing key of operator 1 at the moment/,
      ],
      [
        "licenses for sale by the settler's account",
        () => ({ gateway: gateway({ x402: x402({ keyVariable: "SETTLER" }) }), settler: settler() }),
        /gateway.x402.key: 0x\w+ is the settler's account: nothing else may send for it/,
      ],
      [
        "licenses for sale under a plan that isn't there",
        () => ({ gateway: gateway({ x402: x402({ planId: 7 }) }) }),
        /gateway.x402.planId: there is no plan 7 on this chain/,
      ],
      [
        "an attestor whose key is no member's",
        () => ({ attestor: attestor({ keyVariable: "STRANGER" }) }),
        /isn't a member of the committee .*: use the key of one/,
      ],
    ];
    for (const [what, sections, sentence] of rows) {
      it(`are refused: ${what}`, () => expectProblem(run(sections()), sentence));
    }

    it("are refused, and nothing that had started runs on", async () => {
      const port = await freePort();
      const sections = {
        gateway: gateway({ port }),
        settler: settler(),
        attestor: attestor({ keyVariable: "STRANGER" }),
      };
      await expectProblem(run(sections), /isn't a member of the committee/);
      const server = createServer().listen(port, "127.0.0.1");
      await once(server, "listening");
      server.close();
    });
  });

  describe("places that can't be had", () => {
    it("are refused: a port in use", async () => {
      const server = createServer().listen(0, "127.0.0.1");
      await once(server, "listening");
      const { port } = server.address() as AddressInfo;
      await expectProblem(
        run({ gateway: gateway({ port }) }),
        new RegExp(`Port ${port} of 127.0.0.1 is in use: end what`),
      );
      await expectProblem(
        run({ attestor: attestor({ port }) }),
        new RegExp(`Port ${port} of 127.0.0.1 is in use: end what`),
      );
      server.close();
    });

    it("are refused: a host of another machine", () =>
      expectProblem(
        run({ gateway: gateway({ host: "203.0.113.7" }) }),
        /203.0.113.7, port 0, can't be served at .*set a host/,
      ));

    it("are refused: a data folder that is a file", () =>
      expectProblem(run({ dataFolder: __filename, gateway: gateway() }), /dataFolder .* can't be made .* written to/));
  });

  describe("a store that was used otherwise", () => {
    const claimed = async (file: string, owner: Partial<Parameters<Store["claim"]>[0]>) => {
      const store = new Store(sqliteDatabase(join(folder, file)));
      const owned = { role: "operator", chain: "31337", escrow: deployment.escrow, ...owner };
      await store.claim(owned as Parameters<Store["claim"]>[0]);
      await store.close();
    };

    it("is refused: another operator's", async () => {
      const stop = new AbortController();
      const running = run({ dataFolder: folder, gateway: gateway() }, {}, stop.signal);
      setTimeout(() => stop.abort(), 300);
      await running;
      await market.licet.operators.connect(market.outsider).register("http://127.0.0.1:1", "ipfs://other");
      const attempt = run({ dataFolder: folder, gateway: gateway({ operatorId: 2 }) });
      await expectProblem(
        attempt,
        /operator.sqlite was used with operator 1, and this is operator 2: name another dataFolder/,
      );
    });

    const rows: [string, string, Parameters<typeof claimed>[1], RegExp][] = [
      ["another chain's", "operator.sqlite", { chain: "1" }, /was used with chain 1, and this is chain 31337/],
      [
        "that of the chain before it was started anew",
        "operator.sqlite",
        { "first block": "0x" },
        /with first block 0x, and .*started anew/,
      ],
      ["another deployment's", "operator.sqlite", { escrow: "0x1" }, /escrow 0x1, and this is/],
      [
        "an operator's, for an attestor",
        "attestor.sqlite",
        {},
        /was used with role operator, and this is role attestor/,
      ],
    ];
    for (const [what, file, owner, sentence] of rows) {
      it(`is refused: ${what}`, async () => {
        await claimed(file, owner);
        const sections = file.startsWith("attestor") ? { attestor: attestor() } : { gateway: gateway() };
        await expectProblem(run({ dataFolder: folder, ...sections }), sentence);
      });
    }

    it("is refused: one that another process has open", async () => {
      const store = new Store(sqliteDatabase(join(folder, "operator.sqlite")));
      const attempt = run({ dataFolder: folder, gateway: gateway() });
      await expectProblem(
        attempt,
        /operator.sqlite is in use by another process: end that, or name another dataFolder/,
      );
      await store.close();
    });
  });
});

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}
