import { expect } from "chai";
import { time } from "@nomicfoundation/hardhat-network-helpers";
import { HDNodeWallet, id, Wallet } from "ethers";
import hre from "hardhat";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connectChain } from "../../oracle/chain/ethersChain";
import type { Deployment } from "../../oracle/chain/deployment";
import { parseConfig } from "../../oracle/config";
import { evidenceHashOf } from "../../oracle/evidence/bundle";
import { describeShown, showEvidence } from "../../oracle/evidence/command";
import { recordHashOf, recordOf } from "../../oracle/evidence/record";
import { createLog } from "../../oracle/log";
import { Problem } from "../../oracle/problem";
import { findingDigest, signDigest, signedFindingToJson } from "../../oracle/protocol/messages";
import { ATTESTORS, DAY, domainOf, freshMarket, type Market } from "../support/market";

const KEY = new Wallet(id("operator's key"));
const PHRASE = "test test test test test test test test test test test junk";
const SETTLER = HDNodeWallet.fromPhrase(PHRASE);
const OPERATORS_ACCOUNT = 7;
const OWNER = HDNodeWallet.fromPhrase(PHRASE, "", `m/44'/60'/0'/0/${OPERATORS_ACCOUNT}`);
const UNTIL = 2_000_000_000;

describe("licet-oracle evidence", () => {
  let market: Market;
  let folder: string;
  let deployment: Deployment;
  let servers: Server[];
  /** What attestors find, whatever they are shown. */
  let tier: number | null;

  beforeEach(async () => {
    [market, servers, tier] = [await freshMarket(), [], 2];
    const { operators, escrow, committee } = market.licet;
    await operators.connect(market.operator).addKey(1, KEY.address, (await time.latest()) + 90 * DAY);
    folder = mkdtempSync(join(tmpdir(), "licet-evidence-"));
    deployment = {
      provider: hre.ethers.provider,
      chainId: 31337n,
      escrow: await escrow.getAddress(),
      committee: await committee.getAddress(),
      fromBlock: 0,
    };
  });

  afterEach(() => {
    servers.forEach((server) => server.close());
    rmSync(folder, { recursive: true });
  });

  const attestorOf = async ({ privateKey, address }: { privateKey: string; address: string }) => {
    const domain = await domainOf(market);
    const server = createServer(async (request, response) => {
      const text = Buffer.concat(await request.toArray()).toString();
      if (request.url!.endsWith("/seeds")) return response.end(JSON.stringify({ seed: id("seed") }));
      const said = {
        operatorId: 1,
        receiptSigner: KEY.address,
        from: 1,
        until: UNTIL,
        evidenceHash: evidenceHashOf(text),
      };
      const finding = { ...said, tier: tier ?? 0 };
      const signature = signDigest(privateKey, findingDigest(domain, finding));
      const outcome = { result: tier === null ? "fail" : "pass", reason: "As the test says." };
      const signed = tier === null ? null : signedFindingToJson({ finding, signature });
      return response.end(JSON.stringify({ gpu: outcome, cpu: outcome, finding: signed }));
    }).listen(0, "127.0.0.1");
    servers.push(server);
    await once(server, "listening");
    return { address, url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` };
  };

  const show = async (ownerKey?: string) => {
    const attestors = await Promise.all(ATTESTORS.map((one) => attestorOf(one as never)));
    const environment = { KEY: KEY.privateKey, SETTLER: SETTLER.privateKey, OWNER: ownerKey };
    const config = parseConfig(
      JSON.stringify({
        dataFolder: join(folder, "data"),
        clock: "chain",
        gateway: {
          operatorId: 1,
          signingKeyVariable: "KEY",
          models: [{ id: "m", upstreamUrl: "http://127.0.0.1:1", versionId: String(market.versionId) }],
        },
        settler: { keyVariable: "SETTLER", signingKeyVariable: "KEY", attestors },
        evidence: {
          collectCommand: [process.execPath, "-e", "console.log('{}')"],
          ...(ownerKey === undefined ? {} : { ownerKeyVariable: "OWNER" }),
        },
      }),
      environment,
    );
    return showEvidence(
      config,
      deployment,
      createLog("error", () => {}),
    );
  };
  const problemOf = (attempt: Promise<unknown>): Promise<Problem> =>
    attempt.then(
      () => expect.fail("it was shown"),
      (cause: Problem) => cause,
    );
  const onChain = async () => (await market.licet.operators.operatorOf(1)).evidenceHash;

  it("keeps the record and names it on chain, leaving what else the operator says of itself", async () => {
    const { endpoint, metadataUri } = await market.licet.operators.operatorOf(1);
    const shown = await show(OWNER.privateKey);
    expect(shown).to.include({ tier: 2, until: UNTIL, isOnChain: true });
    expect(await onChain()).to.equal(shown.hash);
    const after = await market.licet.operators.operatorOf(1);
    expect([after.endpoint, after.metadataUri]).to.deep.equal([endpoint, metadataUri]);
    const text = readFileSync(shown.file, "utf8");
    expect(recordHashOf(text)).to.equal(shown.hash);
    const chain = await connectChain(deployment.provider, { ...deployment, clock: "chain" });
    const { present } = await chain.committees(deployment.committee);
    expect(recordOf(text, chain.domain, present)).to.deep.include({ operatorId: 1, tier: 2 });
    expect(describeShown(shown, 1)).to.contain("named on chain");
  });

  it("says what names it on chain, where it has no key for that", async () => {
    const before = await onChain();
    const shown = await show();
    expect(await onChain()).to.equal(before);
    expect(describeShown(shown, 1)).to.contain(`operator:describe --operator 1 --evidence ${shown.hash}`);
  });

  it("leaves the chain as it is where attestors aren't convinced", async () => {
    tier = null;
    const before = await onChain();
    const problem = await problemOf(show(OWNER.privateKey));
    expect(problem).to.be.instanceOf(Problem);
    expect(problem.message).to.contain(`Of ${ATTESTORS.length} attestors 0 were convinced`);
    expect(await onChain()).to.equal(before);
  });

  it("says whose account the operator isn't, and sends nothing for the settler's", async () => {
    const stranger = HDNodeWallet.fromPhrase(PHRASE, "", "m/44'/60'/0'/0/8");
    const refused = await problemOf(show(stranger.privateKey));
    expect(refused).to.be.instanceOf(Problem);
    expect(refused.message).to.contain(`from ${stranger.address}`).and.to.contain("CallerNotOperator");
    const settlers = await problemOf(show(SETTLER.privateKey));
    expect(settlers.message).to.contain("is the settler's account, for which nothing else may send");
  });
});
