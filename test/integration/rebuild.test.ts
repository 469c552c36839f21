/**
 * An operator that loses its store, between attestors and a chain that have seen some of it. Where LICET_TEST_DATABASE_URL names a
 * PostgreSQL server, the stores are there.
 */
import { expect } from "chai";
import { setBalance, time } from "@nomicfoundation/hardhat-network-helpers";
import { HDNodeWallet, id, Wallet } from "ethers";
import hre from "hardhat";
import { cpSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { Client } from "pg";
import { retrieveBatches, retrieveReceipts } from "../../oracle/attestor/retrievalApi";
import { connectChain } from "../../oracle/chain/ethersChain";
import type { Deployment } from "../../oracle/chain/deployment";
import { parseConfig, type OracleConfig } from "../../oracle/config";
import { checkReceipts } from "../../oracle/licensee/receiptCheck";
import { listReceipts, type ListedReceipt } from "../../oracle/licensee/receiptList";
import { createLog } from "../../oracle/log";
import { runOracle } from "../../oracle/main";
import { unpackEntries, unpackOutcomes } from "../../oracle/protocol/entries";
import {
  batchDigest,
  domainOf,
  grantDigest,
  receiptDigest,
  retrievalDigest,
  signDigest,
} from "../../oracle/protocol/messages";
import { sumUsage } from "../../oracle/protocol/meters";
import { describeRebuilt, rebuildStore } from "../../oracle/recovery/command";
import { backUp } from "../../oracle/store/backup";
import { restore } from "../../oracle/store/restore";
import { bearerOf, grantWith } from "../support/fakeMessages";
import { FakeUpstream, whole } from "../support/fakeUpstream";
import { ATTESTORS, buyLicense, DAY, freshMarket, type Market, usd } from "../support/market";
import { freshSchema, TEST_DATABASE_URL } from "../support/postgres";
import { freePort } from "../support/processes";

const KEY = new Wallet(id("operator's key"));
const MNEMONIC = "test test test test test test test test test test test junk";
const LICENSEE = HDNodeWallet.fromPhrase(MNEMONIC, "", "m/44'/60'/0'/0/6");
/** Pays the settler's gas, when it has some. */
const SETTLER = new Wallet(id("settler's account"));
const DEPOSIT = usd(1_000);
const PATIENCE_MS = 60_000;
const silent = createLog("error", () => {});

interface Customer {
  licenseId: bigint;
  apiKey: string;
}

interface Running {
  stop(): Promise<void>;
}

describe("an operator that loses its store", function () {
  this.timeout(180_000);

  const schema = freshSchema();
  let market: Market;
  let folder: string;
  let deployment: Deployment;
  let upstream: FakeUpstream;
  let ports: number[];
  let gatewayUrl: string;
  let customers: Customer[];
  let running: Map<string, Running>;
  let lives = 0;

  beforeEach(async () => {
    [running, lives] = [new Map(), lives + 1];
    market = await freshMarket();
    const { operators, escrow, committee } = market.licet;
    await operators.connect(market.operator).addKey(1, KEY.address, (await time.latest()) + 300 * DAY);
    folder = mkdtempSync(join(tmpdir(), "licet-rebuild-"));
    const provider = hre.ethers.provider;
    const [escrowAt, committeeAt] = [await escrow.getAddress(), await committee.getAddress()];
    deployment = { provider, chainId: 31337n, escrow: escrowAt, committee: committeeAt, fromBlock: 0 };
    upstream = await FakeUpstream.start();
    upstream.script = whole();
    ports = await Promise.all([0, 1, 2, 3].map(freePort));
    gatewayUrl = `http://127.0.0.1:${ports[3]}`;
    customers = [await addCustomer(), await addCustomer()];
    await setBalance(SETTLER.address, 10n ** 20n);
    for (const i of [0, 1, 2]) await startAttestor(i);
  });

  afterEach(async () => {
    await Promise.allSettled([...running.values()].map((one) => one.stop()));
    await upstream.stop();
    rmSync(folder, { recursive: true, force: true });
  });

  async function addCustomer(): Promise<Customer> {
    const licenseId = await buyLicense(market, DEPOSIT);
    const fields = { notBefore: 0, expiresAt: (await time.latest()) + 300 * DAY, cap: usd(900) };
    const grant = grantWith({ licenseId, generation: 0, ...fields });
    const signature = signDigest(LICENSEE.privateKey, grantDigest(domain(), grant));
    return { licenseId, apiKey: bearerOf({ grant, signature }) };
  }

  const domain = () => domainOf(31337n, deployment.escrow);

  const store = (name: string): object =>
    TEST_DATABASE_URL === undefined
      ? { dataFolder: join(folder, name) }
      : { databaseUrlVariable: "DATABASE_URL", databaseSchema: `${schema}_${lives}${name.at(0)}${name.at(-1)}` };

  /** As if the disk were gone. */
  async function loseStore(): Promise<void> {
    if (TEST_DATABASE_URL === undefined) return rmSync(join(folder, "operator"), { recursive: true });
    const client = new Client({ connectionString: TEST_DATABASE_URL });
    await client.connect();
    await client.query(`DROP SCHEMA ${schema}_${lives}or_operator CASCADE`);
    await client.end();
  }

  const environment = () => ({
    KEY: KEY.privateKey,
    SETTLER: SETTLER.privateKey,
    CANARY: customers[0].apiKey,
    DATABASE_URL: TEST_DATABASE_URL,
    ...Object.fromEntries(ATTESTORS.map(({ privateKey }, i) => [`MEMBER${i}`, privateKey])),
  });

  const settings = (name: string, sections: object): OracleConfig =>
    parseConfig(JSON.stringify({ clock: "chain", logLevel: "error", ...store(name), ...sections }), environment());

  const operatorSettings = () =>
    settings("operator", {
      gateway: {
        port: ports[3],
        operatorId: 1,
        signingKeyVariable: "KEY",
        models: [{ id: "m", upstreamUrl: upstream.url, versionId: String(market.versionId) }],
      },
      settler: {
        keyVariable: "SETTLER",
        signingKeyVariable: "KEY",
        confirmations: 1,
        intervalSeconds: 1,
        attestors: [0, 1, 2].map((i) => ({ address: ATTESTORS[i].address, url: attestorUrl(i) })),
      },
    });

  const attestorUrl = (i: number) => `http://127.0.0.1:${ports[i]}`;

  function start(name: string, config: OracleConfig): Running {
    const ending = new AbortController();
    const over = runOracle(config, deployment, ending.signal);
    over.catch(() => undefined);
    const stop = async () => {
      running.delete(name);
      ending.abort();
      await over;
    };
    running.set(name, { stop });
    return { stop };
  }

  const startAttestor = async (i: number) => {
    const canary = { operatorId: 1, planId: 1, versionId: String(market.versionId), gatewayUrl, modelId: "m" };
    const canaries = [{ ...canary, apiKeyVariable: "CANARY", meanIntervalSeconds: DAY }];
    start(
      `attestor ${i}`,
      settings(`attestor${i}`, { attestor: { port: ports[i], keyVariable: `MEMBER${i}`, canaries } }),
    );
    await until("the attestor runs", async () => (await fetch(`${attestorUrl(i)}/healthz`)).ok);
  };

  const startOperator = async () => {
    const operator = start("operator", operatorSettings());
    await until("the gateway runs", async () => (await fetch(`${gatewayUrl}/healthz`)).ok);
    return operator;
  };

  async function until(what: string, isSo: () => Promise<boolean>): Promise<void> {
    for (const deadline = Date.now() + PATIENCE_MS; Date.now() < deadline; await wait(50)) {
      if (await isSo().catch(() => false)) return;
    }
    throw new Error(`not so after ${PATIENCE_MS} ms: ${what}`);
  }

  async function serve({ apiKey }: Customer, count = 1): Promise<void> {
    for (let i = 0; i < count; i++) {
      const response = await fetch(`${gatewayUrl}/v1/chat/completions`, {
        method: "POST",
        body: JSON.stringify({ model: "m", messages: [{ role: "user", content: "May I?" }] }),
        headers: { authorization: `Bearer ${apiKey}`, "content-type": "application/json" },
      });
      expect(response.status, await response.text()).to.equal(200);
    }
  }

  const listed = async () =>
    (await Promise.all(customers.map(({ apiKey }) => listReceipts(gatewayUrl, apiKey)))).flat();

  /** How many of the operator's receipts an attestor would give back. */
  async function copiesAt(i: number): Promise<number> {
    const retrieval = { operatorId: 1, attestor: ATTESTORS[i].address, at: await time.latest() };
    const signature = signDigest(KEY.privateKey, retrievalDigest(domain(), retrieval));
    return (await retrieveReceipts(attestorUrl(i), { retrieval, signature }, 0n, 5_000)).records.length;
  }

  const untilFed = (count: number, to = [0, 1, 2]) =>
    until(`attestors have ${count} copies`, async () =>
      (await Promise.all(to.map(copiesAt))).every((copies) => copies === count),
    );

  const untilSettled = () =>
    until("all is settled", async () => (await listed()).every(({ state }) => state === "settled"));

  const rebuilt = () => rebuildStore(operatorSettings(), deployment, silent);

  async function settledOnChain() {
    const { escrow } = market.licet;
    const events = await escrow.queryFilter(escrow.filters.BatchSettled());
    const entries = await Promise.all(
      events.map(async (event) => {
        const { data } = await event.getTransaction();
        return unpackEntries(escrow.interface.decodeFunctionData("settle", data)[1] as string);
      }),
    );
    return {
      batchIds: events.map(({ args }) => args.batchId),
      usage: sumUsage(entries.flat()),
      charges: events.flatMap(({ args }) =>
        unpackOutcomes(args.outcomes).map(({ licenseId, charged }) => ({
          ...{ batchId: args.batchId, licenseId, charged },
          discountBps: Number(args.discountBps),
        })),
      ),
    };
  }

  /** Each license was charged what its receipts say that are there, once, and its receipts stand a licensee's check. */
  async function expectSettledOnce(receipts: ListedReceipt[]): Promise<void> {
    const { usage, charges } = await settledOnChain();
    expect(usage).to.deep.equal(sumUsage(receipts.map(({ receipt }) => receipt)));
    const chain = await connectChain(hre.ethers.provider, { ...deployment, clock: "chain" });
    for (const { licenseId } of customers) {
      const own = receipts.filter(({ receipt }) => receipt.licenseId === licenseId);
      const charged = charges.filter((one) => one.licenseId === licenseId);
      const { problems } = await checkReceipts(chain, licenseId, own, charged);
      expect(problems).to.deep.equal([]);
      const { balance } = await market.licet.escrow.accountOf(licenseId);
      expect(DEPOSIT - balance).to.equal(charged.reduce((sum, one) => sum + one.charged, 0n));
    }
  }

  const numberOf = ({ receipt }: ListedReceipt) => `${receipt.licenseId}/${receipt.sequence}`;

  it("goes on from what chain and attestors have, with no number used twice, and settles it to the unit", async () => {
    const [one, other] = customers;
    const before = await startOperator();
    await serve(one, 3);
    await serve(other, 2);
    await untilFed(5);
    await time.increase(DAY);
    await untilSettled();
    await serve(one, 2);
    await untilFed(7);
    await running.get("attestor 2")!.stop();
    await serve(other);
    await untilFed(8, [0, 1]);
    await running.get("attestor 0")!.stop();
    await running.get("attestor 1")!.stop();
    await serve(other);
    await serve(one);
    const all = await listed();
    await before.stop();
    const unseen = all.filter(({ receipt }) => receipt.sequence === 4n && receipt.licenseId === other.licenseId);
    const lost = [...unseen, ...all.filter(({ receipt }) => receipt.sequence === 6n)];
    expect(lost).to.have.length(2);

    await loseStore();
    await startAttestor(0);
    await startAttestor(2);
    const refusal = await runOracle(operatorSettings(), deployment, new AbortController().signal).catch(
      (e: Error) => e,
    );
    expect((refusal as Error).message).to.match(/store is empty, and 1 batches of operator 1 have settled: npx licet/);

    const result = await rebuilt();
    expect(result).to.deep.include({
      added: 8,
      refused: 0,
      conflicts: [],
      unsettled: 3,
      voided: 0,
      resumed: [],
      lost: [],
    });
    expect(result).to.deep.include({ settledBatches: 1, lackingOfSettled: 0n, lackingGrants: [] });
    expect(result.silent.map(({ attestor }) => attestor)).to.deep.equal([ATTESTORS[1].address]);
    expect(describeRebuilt(result)).to.contain("8 receipts came back; 3 in the store may still settle");
    await startAttestor(1);
    const again = await rebuilt();
    expect(again).to.deep.include({ added: 0, unsettled: 3, silent: [] });

    await startOperator();
    expect((await listed()).map(numberOf)).to.have.members(all.filter((r) => !lost.includes(r)).map(numberOf));
    await serve(one, 2);
    await serve(other, 1);
    const fresh = (await listed()).filter(({ receipt }) => receipt.sequence > again.numbersAbove);
    expect(fresh).to.have.length(3);
    const last = all.find(({ receipt }) => receipt.sequence === 3n && receipt.licenseId === other.licenseId)!;
    const next = fresh.find(({ receipt }) => receipt.licenseId === other.licenseId)!;
    expect(next.receipt.previousHash).to.equal(receiptDigest(domain(), last.receipt));
    expect(next.receipt.sequence).to.equal(again.numbersAbove + 1n);

    await time.increase(DAY);
    await untilSettled();
    const settled = await listed();
    expect(settled).to.have.length(11);
    await expectSettledOnce(settled);
    const used = new Set([...settled, ...lost].map(numberOf));
    expect(used.size).to.equal(13);
  });

  it("goes on with a batch that attestors have signed, and can sign no other for", async () => {
    const [one, other] = customers;
    const before = await startOperator();
    await serve(one, 2);
    await serve(other, 1);
    await setBalance(SETTLER.address, 0n);
    await untilFed(3);
    await time.increase(DAY);
    await until("the batch is attested", async () => {
      const signed = await signedBatches();
      return signed.length > 0;
    });
    await before.stop();
    await loseStore();
    await setBalance(SETTLER.address, 10n ** 20n);

    const result = await rebuilt();
    expect(result).to.deep.include({ added: 3, unsettled: 3, lost: [], settledBatches: 0 });
    expect(result.resumed).to.deep.equal(await signedBatches());
    await startOperator();
    await serve(one);
    await time.increase(DAY);
    await untilSettled();
    const { batchIds } = await settledOnChain();
    expect(batchIds).to.have.length(2);
    expect(batchIds[0]).to.equal(result.resumed[0]);
    await expectSettledOnce(await listed());
  });

  it("goes on from a backup that is older than what was signed and settled since", async function () {
    // In PostgreSQL a backup is another program's.
    if (TEST_DATABASE_URL !== undefined) this.skip();
    const [one, other] = customers;
    const before = await startOperator();
    await serve(one, 2);
    await serve(other, 1);
    const [data, copy] = [join(folder, "operator"), join(folder, "backup")];
    backUp(data, copy);
    await serve(one, 1);
    await untilFed(4);
    await time.increase(DAY);
    await untilSettled();
    await serve(other, 2);
    await untilFed(6);
    const all = await listed();
    await before.stop();

    await loseStore();
    const { figures } = await restore(copy, data, Math.floor(Date.now() / 1_000));
    expect(figures.unbatched).to.equal(3);
    expect(await problemOf()).to.match(/store has waited to be rebuilt since 20\S+: npx licet-oracle rebuild/);

    const result = await rebuilt();
    expect(result).to.deep.include({ added: 3, unsettled: 2, settledBatches: 1, conflicts: [] });
    await startOperator();
    expect((await listed()).map(numberOf)).to.have.members(all.map(numberOf));
    await serve(one);
    await time.increase(DAY);
    await untilSettled();
    const settled = await listed();
    expect(new Set(settled.map(numberOf)).size).to.equal(7);
    await expectSettledOnce(settled);

    // A copy that somebody puts in place by hand.
    backUp(data, join(folder, "later"));
    await serve(one);
    await time.increase(DAY);
    await untilSettled();
    await running.get("operator")!.stop();
    await loseStore();
    cpSync(join(folder, "later"), data, { recursive: true });
    expect(await problemOf()).to.match(
      /is older than the chain: of operator 1, plan 1, version \d+ it has batches up to/,
    );
  });

  const problemOf = async () =>
    ((await runOracle(operatorSettings(), deployment, new AbortController().signal).catch((e: Error) => e)) as Error)
      .message;

  /** The ids of what attestor 0 signed and hasn't settled. */
  async function signedBatches(): Promise<string[]> {
    const retrieval = { operatorId: 1, attestor: ATTESTORS[0].address, at: await time.latest() };
    const signature = signDigest(KEY.privateKey, retrievalDigest(domain(), retrieval));
    const batches = await retrieveBatches(attestorUrl(0), { retrieval, signature }, 5_000);
    return batches.map(({ header }) => batchDigest(domain(), header));
  }
});
