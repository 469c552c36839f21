/**
 * Processes of an oracle, killed at every step of their work with streams in flight: a gateway with its settler, and three
 * attestors, around a chain. Whatever dies, at the end all that clients were answered is settled once and to the unit.
 *
 * `KILLS=200` kills as often, 20 times if it is left out. Where LICET_TEST_DATABASE_URL names a PostgreSQL server, stores are
 * there, and a gateway and two settlers are processes that share one.
 */
import { expect } from "chai";
import { time } from "@nomicfoundation/hardhat-network-helpers";
import { HDNodeWallet, id, Wallet } from "ethers";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import type { Server } from "node:http";
import { tmpdir } from "node:os";
import path from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import {
  ATTESTATIONS_PATH,
  MEASUREMENTS_PATH,
  PROPOSAL_HEADER,
  proposedBatchFromText,
  RECEIPTS_PATH,
} from "../../oracle/attestor/attestorApi";
import { type ListedReceipt, listReceipts } from "../../oracle/licensee/receiptList";
import { unpackEntries } from "../../oracle/protocol/entries";
import { batchDigest, domainOf, grantDigest, receiptDigest, signDigest } from "../../oracle/protocol/messages";
import { addUsage, sumUsage, zeroUsage } from "../../oracle/protocol/meters";
import type { Usage } from "../../oracle/protocol/types";
import { bearerOf, grantWith } from "../support/fakeMessages";
import { FakeUpstream, streaming, whole, type Script } from "../support/fakeUpstream";
import { ATTESTORS, buyLicense, DAY, freshMarket, type Market, usd } from "../support/market";
import { freshSchema, TEST_DATABASE_URL } from "../support/postgres";
import { freePort, Moments, OracleProcess, serveBefore, serveNode, shut, urlOf } from "../support/processes";
import { Chance } from "../support/random";

const KILLS = Number(process.env.KILLS ?? 20);
const SEED = Number(process.env.SEED ?? 1);

const KEY = new Wallet(id("operator's key"));
const MNEMONIC = "test test test test test test test test test test test junk";
/** Its first account deployed everything, and pays the settler's gas here. */
const SETTLER = HDNodeWallet.fromPhrase(MNEMONIC);
const LICENSEE = HDNodeWallet.fromPhrase(MNEMONIC, "", "m/44'/60'/0'/0/6");
const DEPOSIT = usd(10_000);
const CLIENTS = 3;
/** A moment of settling that hasn't come so long after all is settled comes no more: then it is killed wherever it is. */
const AFTERWARDS_MS = 1_000;
const RECOVERY_MS = 120_000;

const OPERATOR = "operator";
/** Who settles: gateway and settler are one process, unless they can share a store. */
const SETTLES = TEST_DATABASE_URL === undefined ? OPERATOR : "whoever's turn it is to settle";
const SETTLERS = ["settler 0", "settler 1"];
const ATTESTOR = ["attestor 0", "attestor 1", "attestor 2"];

/** When somebody is killed: what the world sees, and who dies of it; in the order of a request's and a batch's life. */
const SERVING: [string, string][] = [
  ["the upstream is asked", OPERATOR],
  ["the upstream has begun", OPERATOR],
  ["the upstream is done", OPERATOR],
  ["attestor 0 is sent receipts", SETTLES],
  ["attestor 1 has receipts", ATTESTOR[1]],
  ["attestor 2 has receipts", SETTLES],
  ["nothing in particular", OPERATOR],
];
const SETTLING: [string, string][] = [
  ["attestor 0 is asked for a measurement", SETTLES],
  ["attestor 1 is asked for a measurement", ATTESTOR[1]],
  ["Batch drafted", SETTLES],
  ["attestor 0 is asked to attest", ATTESTOR[0]],
  ["attestor 2 has answered", SETTLES],
  ["attestor 1 has answered", ATTESTOR[1]],
  ["Batch attested", SETTLES],
  ["a transaction comes", SETTLES],
  ["a transaction is mined", SETTLES],
  ["Batch submitted", SETTLES],
  ["Batch settled", SETTLES],
  ["nothing in particular", ATTESTOR[2]],
];

/** What is seen at an attestor's door, before and after it answers. */
const SEEN: Record<string, [string, string]> = {
  [MEASUREMENTS_PATH]: ["is asked for a measurement", "has measured"],
  [RECEIPTS_PATH]: ["is sent receipts", "has receipts"],
  [ATTESTATIONS_PATH]: ["is asked to attest", "has answered"],
};

describe("an oracle whose processes are killed", function () {
  this.timeout(60_000 + KILLS * 30_000);

  const chance = new Chance(SEED);
  const schema = freshSchema();
  const moments = new Moments();
  const processes = new Map<string, OracleProcess>();
  const servers: Server[] = [];
  /** What each attestor signed: by its name and the batch's sequence, the batches. */
  const signed = new Map<string, Set<string>>();
  /** By receipt id, what its client was shown. */
  const seen = new Map<string, string>();
  /** Whose answer came whole, and whose receipts clients haven't fetched yet. */
  const answered = new Set<string>();
  let market: Market;
  let licenseId: bigint;
  let folder: string;
  let upstream: FakeUpstream;
  let gatewayUrl: string;
  let apiKey: string;
  /** Who settles now, where several could. */
  let onDuty = SETTLERS[0];
  let isOver = false;

  before(async () => {
    market = await freshMarket();
    const { operators, escrow, committee } = market.licet;
    await operators.connect(market.operator).addKey(1, KEY.address, (await time.latest()) + 300 * DAY);
    licenseId = await buyLicense(market, DEPOSIT);
    const domain = domainOf(31337n, await escrow.getAddress());
    const expiresAt = (await time.latest()) + 300 * DAY;
    const grant = grantWith({ licenseId, generation: 0, notBefore: 0, expiresAt, cap: 0n });
    apiKey = bearerOf({ grant, signature: signDigest(LICENSEE.privateKey, grantDigest(domain, grant)) });

    folder = mkdtempSync(path.join(tmpdir(), "licet-kills-"));
    const contracts = { UsageEscrow: await escrow.getAddress(), CommitteeAttestor: await committee.getAddress() };
    writeFileSync(path.join(folder, "book.json"), JSON.stringify({ chainId: "31337", block: 0, contracts }));
    const node = await serveNode((method, isDone) => {
      if (method === "eth_sendRawTransaction") moments.reach(isDone ? "a transaction is mined" : "a transaction comes");
    });
    servers.push(node);
    upstream = await FakeUpstream.start();
    upstream.script = script;

    const [port, shown] = [await freePort(), await freePort()];
    gatewayUrl = `http://127.0.0.1:${port}`;
    const attestors = [];
    for (const [i, name] of ATTESTOR.entries()) attestors.push(await addAttestor(i, name, urlOf(node), domain));
    const common = { clock: "chain", chain: { url: urlOf(node), deployment: "book.json" }, ...stores(OPERATOR) };
    const gateway = {
      port,
      operatorId: 1,
      signingKeyVariable: "KEY",
      models: [{ id: "m", upstreamUrl: upstream.url, versionId: String(market.versionId) }],
    };
    const settler = {
      keyVariable: "SETTLER",
      signingKeyVariable: "KEY",
      confirmations: 1,
      intervalSeconds: 1,
      attestors,
    };
    const readyUrl = `http://127.0.0.1:${shown}/readyz`;
    const onLine = (line: string) => moments.reach(line);
    if (SETTLES === OPERATOR) {
      add(OPERATOR, ["all"], readyUrl, onLine, { ...common, operations: { port: shown }, gateway, settler });
    } else {
      add(OPERATOR, ["gateway"], readyUrl, onLine, { ...common, operations: { port: shown }, gateway });
      for (const name of SETTLERS) {
        const beside = await freePort();
        const watch = (line: string) => {
          if (line === "Settler takes its turn") onDuty = name;
          onLine(line);
        };
        const settlerUrl = `http://127.0.0.1:${beside}/readyz`;
        add(name, ["settle"], settlerUrl, watch, { ...common, operations: { port: beside }, settler });
      }
    }
    await Promise.all([...processes.values()].map((one) => one.start()));
    await Promise.all([...processes.values()].map((one) => one.untilReady()));
  });

  after(async () => {
    isOver = true;
    for (const one of processes.values()) one.kill();
    servers.forEach(shut);
    await upstream?.stop();
    if (folder !== undefined) rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
  });

  /** Behind a door at which is seen what it is asked and what it answers. */
  async function addAttestor(i: number, name: string, nodeUrl: string, domain: ReturnType<typeof domainOf>) {
    const port = await freePort();
    const door = await serveBefore(
      () => `http://127.0.0.1:${port}`,
      ({ path: asked, headers, answer }) => {
        const [before, after] = SEEN[asked] ?? [];
        moments.reach(`${name} ${answer === null ? before : after}`);
        if (asked !== ATTESTATIONS_PATH || answer === null) return;
        if (answer.status !== 200 || !answer.body.includes("signature")) return;
        const { header } = proposedBatchFromText(headers[PROPOSAL_HEADER]);
        const slot = `${name}/${header.sequence}`;
        signed.set(slot, (signed.get(slot) ?? new Set()).add(batchDigest(domain, header)));
      },
    );
    servers.push(door);
    // It hardly ever comes: service isn't what is looked at here.
    const canary = {
      operatorId: 1,
      planId: market.planId,
      versionId: String(market.versionId),
      gatewayUrl,
      apiKeyVariable: "CANARY",
      modelId: "m",
      meanIntervalSeconds: DAY,
    };
    add(name, ["attest"], `http://127.0.0.1:${port}/healthz`, () => {}, {
      ...stores(name),
      clock: "chain",
      chain: { url: nodeUrl, deployment: "book.json" },
      attestor: { port, keyVariable: `MEMBER${i}`, canaries: [canary] },
    });
    return { address: ATTESTORS[i].address, url: urlOf(door) };
  }

  const stores = (name: string): object =>
    TEST_DATABASE_URL === undefined
      ? { dataFolder: `data of ${name}` }
      : { databaseUrlVariable: "DATABASE_URL", databaseSchema: `${schema}_${name.at(-1)}` };

  function add(name: string, [part]: string[], readyUrl: string, onLine: (line: string) => void, config: object): void {
    const file = `${name.replace(" ", "-")}.json`;
    writeFileSync(path.join(folder, file), JSON.stringify(config));
    const keys = Object.fromEntries(ATTESTORS.map(({ privateKey }, i) => [`MEMBER${i}`, privateKey]));
    const env = {
      ...keys,
      KEY: KEY.privateKey,
      SETTLER: SETTLER.privateKey,
      CANARY: apiKey,
      DATABASE_URL: TEST_DATABASE_URL,
    };
    const words = [part, "--config", file];
    processes.set(name, new OracleProcess(name, words, { cwd: folder, env }, readyUrl, onLine));
  }

  /** Whole answers and streams, each seen as it begins and ends. */
  const script: Script = async (response, body, gone) => {
    moments.reach("the upstream is asked");
    const words = Array.from({ length: 8 }, (_, i) => `w${i} `);
    const beside = () => {
      moments.reach("the upstream has begun");
      return {};
    };
    if (body.stream === true) await streaming({ words, delayMs: 15, beside })(response, body, gone);
    else await whole({ delayMs: 60 })(response, body, gone);
    moments.reach("the upstream is done");
  };

  /** Asks without end, whole and streamed, and fetches the receipt of each whole answer until it is shown. */
  async function beClient(): Promise<void> {
    while (!isOver) {
      const stream = chance.happens(0.5);
      const receiptId = await ask({ model: "m", messages: [{ role: "user", content: "May I?" }], stream });
      if (receiptId === null) await wait(100);
      else answered.add(receiptId);
      for (const one of answered) await look(one);
    }
  }

  const headers = () => ({ authorization: `Bearer ${apiKey}`, "content-type": "application/json" });

  /** @returns the id of the receipt, if the answer came whole */
  async function ask(body: object): Promise<string | null> {
    try {
      const signal = AbortSignal.timeout(20_000);
      const url = `${gatewayUrl}/v1/chat/completions`;
      const response = await fetch(url, { method: "POST", body: JSON.stringify(body), headers: headers(), signal });
      const text = await response.text();
      const isWhole = response.headers.get("content-type")!.includes("json") || text.endsWith("data: [DONE]\n\n");
      return response.status === 200 && isWhole ? response.headers.get("x-licet-receipt-id") : null;
    } catch {
      return null;
    }
  }

  async function look(receiptId: string): Promise<void> {
    try {
      const response = await fetch(`${gatewayUrl}/v1/receipts/${receiptId}`, { headers: headers() });
      if (response.status !== 200) return;
      const { hash } = (await response.json()) as { hash: string };
      answered.delete(receiptId);
      seen.set(receiptId, hash);
    } catch {
      // Looked at again, once the gateway is back.
    }
  }

  /** Whether nothing of an epoch that has ended waits any more, as far as the gateway can be asked. */
  async function isSettled(): Promise<boolean> {
    const epochStart = (await time.latest()) - ((await time.latest()) % DAY);
    const receipts = await listReceipts(gatewayUrl, apiKey).catch(() => null);
    const isDone = ({ receipt, state }: ListedReceipt) => state === "settled" || receipt.finishedAt >= epochStart;
    return receipts?.every(isDone) ?? false;
  }

  async function untilSettled(): Promise<void> {
    for (const deadline = Date.now() + RECOVERY_MS; Date.now() < deadline; await wait(200)) {
      if (await isSettled()) return;
    }
    const tails = [...processes.values()].map(({ name, tail }) => `${name}:\n${tail.slice(-15).join("\n")}`);
    throw new Error(`Something isn't settled after ${RECOVERY_MS} ms:\n${tails.join("\n")}`);
  }

  /** Kills somebody at a moment and starts it again. @returns whether the moment came */
  async function killAt(kill: [string, string]): Promise<boolean> {
    const [moment, name] = kill;
    const victim = processes.get(name) ?? processes.get(onDuty)!;
    const isAny = moment === "nothing in particular";
    const isOver = isAny
      ? elapsed(chance.between(0, 1_500))
      : SERVING.includes(kill)
        ? elapsed(RECOVERY_MS)
        : afterSettling();
    const came = await moments.at(moment, () => victim.kill(), isOver);
    await victim.start();
    return came || isAny;
  }

  function elapsed(ms: number): () => Promise<boolean> {
    const deadline = Date.now() + ms;
    return async () => Date.now() >= deadline;
  }

  function afterSettling(): () => Promise<boolean> {
    const isTooLong = elapsed(RECOVERY_MS);
    let since: number | null = null;
    return async () => {
      if (await isSettled()) since ??= Date.now();
      return (since !== null && Date.now() - since >= AFTERWARDS_MS) || isTooLong();
    };
  }

  /** What was settled: of each transaction to the escrow that emitted it, the entries and the charges. */
  async function settledOnChain() {
    const { escrow } = market.licet;
    const settle = escrow.interface.getFunction("settle");
    const events = await escrow.queryFilter(escrow.filters.BatchSettled());
    let usage: Usage = zeroUsage();
    let charged = 0n;
    for (const event of events) {
      const { data } = await event.getTransaction();
      const [, entries] = escrow.interface.decodeFunctionData(settle, data);
      usage = addUsage(usage, sumUsage(unpackEntries(entries as string)));
      charged += event.args.charged;
    }
    return { batchIds: events.map(({ args }) => args.batchId), usage, charged };
  }

  const came = new Set<string>();
  let kills = 0;
  let listed: ListedReceipt[];

  it(`goes on by itself after each of ${KILLS} kills`, async () => {
    const clients = Array.from({ length: CLIENTS }, beClient);
    while (kills < KILLS) {
      for (const kill of [...SERVING, null, ...SETTLING]) {
        if (kill === null) {
          await untilSettled();
          await processes.get(OPERATOR)!.untilReady();
          await time.increase(DAY);
        } else if (kills < KILLS && chance.happens(0.5)) {
          kills++;
          if (await killAt(kill)) came.add(kill.join(": "));
        }
      }
      await untilSettled();
    }
    isOver = true;
    await Promise.all(clients);
    for (const one of processes.values()) await one.untilReady();
    for (const deadline = Date.now() + RECOVERY_MS; answered.size > 0 && Date.now() < deadline; await wait(100)) {
      for (const one of answered) await look(one);
    }
    await time.increase(DAY);
    await untilSettled();
    listed = await listReceipts(gatewayUrl, apiKey);
    const meant = [...SERVING, ...SETTLING].map((kill) => kill.join(": "));
    const missed = meant.filter((kill) => !came.has(kill));
    console.log(`      (${listed.length} receipts, ${seen.size} of them seen, ${signed.size} attestations)`);
    const most = KILLS < 100 ? meant.length - 4 : 0;
    expect(missed, `moments at which nobody was killed: ${missed.join("; ")}`).to.have.length.at.most(most);
  });

  it("has kept each receipt that a client could see, unchanged", () => {
    const domain = domainOf(31337n, market.licet.escrow.target as string);
    const hashes = new Map(listed.map(({ receipt }) => [receipt.requestId, receiptDigest(domain, receipt)]));
    expect([...answered], "whole answers without a receipt").to.deep.equal([]);
    expect(seen.size).to.be.greaterThan(KILLS);
    for (const [receiptId, hash] of seen) expect(hashes.get(receiptId)).to.equal(hash);
  });

  it("has numbered receipts without a gap, each following the one before, and each request once", () => {
    const domain = domainOf(31337n, market.licet.escrow.target as string);
    expect(listed.map(({ receipt }) => receipt.sequence)).to.deep.equal(listed.map((_, i) => BigInt(i + 1)));
    for (const [i, { receipt }] of listed.entries()) {
      if (i > 0) expect(receipt.previousHash).to.equal(receiptDigest(domain, listed[i - 1].receipt));
    }
    expect(new Set(listed.map(({ receipt }) => receipt.requestId)).size).to.equal(listed.length);
  });

  it("has settled all of it, once and to the unit", async () => {
    const { usage, charged, batchIds } = await settledOnChain();
    const { balance } = await market.licet.escrow.accountOf(licenseId);
    expect(new Set(listed.map(({ state }) => state))).to.deep.equal(new Set(["settled"]));
    expect(new Set(listed.map(({ batchId }) => batchId))).to.deep.equal(new Set(batchIds));
    expect(usage).to.deep.equal(sumUsage(listed.map(({ receipt }) => receipt)));
    expect(DEPOSIT - balance).to.equal(charged);
    expect(charged).to.be.greaterThan(0n);
  });

  it("has never signed two batches for one number", () => {
    expect(signed.size).to.be.greaterThan(0);
    for (const [slot, batches] of signed) expect([...batches], slot).to.have.length(1);
  });
});
