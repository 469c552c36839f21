/** The whole daemon, as an operator runs it by a settings file, sells a license to x402's stock client, which then uses it. */
import { setBalance, time } from "@nomicfoundation/hardhat-network-helpers";
import { expect } from "chai";
import { id, parseEther, Wallet, type TypedDataDomain } from "ethers";
import hre from "hardhat";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import type { Server } from "node:http";
import { tmpdir } from "node:os";
import path from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import OpenAI from "openai";
import { mintGrant } from "../../oracle/licensee/mintGrant";
import { FakeUpstream } from "../support/fakeUpstream";
import { ATTESTORS, DAY, freshMarket, type Market, usd } from "../support/market";
import { freePort, OracleProcess, serveNode, shut, urlOf } from "../support/processes";
import { payingBy } from "../support/x402Payer";

const OPERATOR_KEY = new Wallet(id("operator's key"));
const SETTLER = new Wallet(id("settler"));
const SELLER = new Wallet(id("seller"));
const PAYER = new Wallet(id("payer"));
const DEPOSIT = usd(5);
const FEE = usd(0.1);

interface License {
  licenseId: string;
  owner: string;
  howToSignAGrant: { generation: number; domain: TypedDataDomain };
}

describe("a daemon that sells by x402", function () {
  this.timeout(180_000);
  let market: Market;
  let folder: string;
  let node: Server;
  let upstream: FakeUpstream;
  let daemon: OracleProcess;
  let gatewayUrl: string;
  let readyUrl: string;

  before(async () => {
    market = await freshMarket();
    const { operators, escrow, committee, currency } = market.licet;
    await operators.connect(market.operator).addKey(1, OPERATOR_KEY.address, (await time.latest()) + 90 * DAY);
    await setBalance(SETTLER.address, parseEther("1"));
    await currency.mint(PAYER.address, usd(100));
    folder = mkdtempSync(path.join(tmpdir(), "licet-x402-"));
    const contracts = { UsageEscrow: await escrow.getAddress(), CommitteeAttestor: await committee.getAddress() };
    writeFileSync(path.join(folder, "book.json"), JSON.stringify({ chainId: "31337", block: 0, contracts }));
    [node, upstream] = [await serveNode(), await FakeUpstream.start()];
    const [port, shown] = [await freePort(), await freePort()];
    gatewayUrl = `http://127.0.0.1:${port}`;
    readyUrl = `http://127.0.0.1:${shown}/readyz`;
    // The client goes by the machine's clock, and the chain's may have been moved.
    const ahead = Math.max(0, (await time.latest()) - Math.floor(Date.now() / 1_000));
    const x402 = { planId: 1, deposit: Number(DEPOSIT), fee: Number(FEE), keyVariable: "SELLER", confirmations: 1 };
    const config = {
      dataFolder: "data",
      clock: "chain",
      chain: { url: urlOf(node), deployment: "book.json" },
      operations: { port: shown },
      gateway: {
        port,
        operatorId: 1,
        signingKeyVariable: "KEY",
        models: [{ id: "m", upstreamUrl: upstream.url, versionId: String(market.versionId) }],
        x402: { ...x402, validSeconds: 600 + ahead },
      },
      settler: {
        keyVariable: "SETTLER",
        signingKeyVariable: "KEY",
        attestors: ATTESTORS.map(({ address }) => ({ address, url: "http://127.0.0.1:1" })),
      },
    };
    writeFileSync(path.join(folder, "oracle.json"), JSON.stringify(config));
    const env = { KEY: OPERATOR_KEY.privateKey, SETTLER: SETTLER.privateKey, SELLER: SELLER.privateKey };
    daemon = new OracleProcess("daemon", ["all", "--config", "oracle.json"], { cwd: folder, env }, readyUrl);
    await daemon.start();
  });

  after(async () => {
    await daemon?.stop();
    await upstream?.stop();
    if (node !== undefined) shut(node);
    if (folder !== undefined) rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
  });

  const buy = async (): Promise<License> => {
    const answer = await payingBy(PAYER)(`${gatewayUrl}/v1/licenses`, { method: "POST" });
    const body = await answer.text();
    expect(answer.status, body).to.equal(201);
    return JSON.parse(body) as License;
  };

  async function use({ licenseId, howToSignAGrant: { domain, generation } }: License): Promise<void> {
    const now = await time.latest();
    const terms = { licenseId: BigInt(licenseId), generation, cap: usd(1), notBefore: now, expiresAt: now + DAY };
    const { apiKey } = await mintGrant(domain, terms, PAYER);
    const openai = new OpenAI({ apiKey, baseURL: `${gatewayUrl}/v1`, maxRetries: 2 });
    const { choices } = await openai.chat.completions.create({
      model: "m",
      messages: [{ role: "user", content: "May I?" }],
    });
    expect(choices[0].message.content).to.equal("You may copy this.");
  }

  it("is ready while the account that sells has nothing to pay gas with, warns, and sells nothing", async () => {
    await daemon.untilReady();
    const { warnings } = (await (await fetch(readyUrl)).json()) as { warnings: string[] };
    expect(warnings).to.have.length(1);
    expect(warnings[0]).to.match(
      new RegExp(`^x402: gas account ${SELLER.address} has 0\\.0 coins, and needs 0\\.\\d+: send it some$`),
    );
    const metrics = await (await fetch(readyUrl.replace("readyz", "metrics"))).text();
    expect(metrics).to.match(/^licet_x402_gas_balance 0$/m);
    const answer = await fetch(`${gatewayUrl}/v1/licenses`, { method: "POST" });
    const { error } = (await answer.json()) as { error: { code: string; message: string } };
    expect([answer.status, error.code]).to.deep.equal([503, "not_on_sale"]);
    expect(error.message).to.contain("the account that sells them can't pay its gas: try again later");
    expect(answer.headers.get("payment-required")).to.equal(null);
    await setBalance(SELLER.address, parseEther("1"));
    const isSold = async () => (await fetch(`${gatewayUrl}/v1/licenses`, { method: "POST" })).status === 402;
    for (const deadline = Date.now() + 30_000; !(await isSold()); await wait(100)) {
      expect(Date.now()).to.be.lessThan(deadline);
    }
  });

  it("sells a license, which its owner uses", async () => {
    const license = await buy();
    expect(license).to.include({ licenseId: "1", owner: PAYER.address });
    expect((await market.licet.escrow.accountOf(1)).balance).to.equal(DEPOSIT);
    expect(await market.licet.currency.balanceOf(SELLER.address)).to.equal(FEE);
    await use(license);
  });

  it("serves licenses on when the account that sells has no gas any more", async () => {
    const license = await buy();
    const balance = await hre.ethers.provider.getBalance(SELLER.address);
    await setBalance(SELLER.address, 0n);
    while ((await fetch(`${gatewayUrl}/v1/licenses`, { method: "POST" })).status !== 503) await wait(100);
    await use(license);
    expect((await fetch(readyUrl)).status).to.equal(200);
    await setBalance(SELLER.address, balance);
    while ((await fetch(`${gatewayUrl}/v1/licenses`, { method: "POST" })).status !== 402) await wait(100);
  });

  it("sells another after it was killed", async () => {
    daemon.kill();
    await daemon.start();
    await daemon.untilReady();
    const license = await buy();
    expect(license.licenseId).to.equal("3");
    await use(license);
  });
});
