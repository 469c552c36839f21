/** The whole settler's process, of which answering is one duty. */
import { loadFixture, mine } from "@nomicfoundation/hardhat-network-helpers";
import { expect } from "chai";
import hre from "hardhat";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { parseConfig } from "../../oracle/config";
import { runOracle } from "../../oracle/main";
import { sqliteDatabase } from "../../oracle/store/sqliteDatabase";
import { Store } from "../../oracle/store/store";
import { ACCOUNT, AnsweringBench } from "../support/answering";
import { ChallengeStatus, deployCourtMarket, RECEIPT_KEY } from "../support/court";
import { ATTESTORS } from "../support/market";
import { freePort } from "../support/processes";

describe("a settler that runs", function () {
  this.timeout(120_000);

  it("answers a challenge that came while nothing ran, and tells of it", async () => {
    const folder = mkdtempSync(path.join(tmpdir(), "licet-answerer-"));
    mkdirSync(path.join(folder, "data"));
    const market = await loadFixture(deployCourtMarket);
    const store = new Store(sqliteDatabase(path.join(folder, "data", "operator.sqlite")));
    const bench = await AnsweringBench.start(market, {}, store);
    const batch = await bench.settle(market.licenseId, [{}, {}]);
    const challengeId = await bench.challenge(batch, market.licenseId);
    await store.close();

    const { escrow, committee, court } = market.licet;
    const port = await freePort();
    const settings = {
      ...{ dataFolder: path.join(folder, "data"), clock: "chain", logLevel: "error", operations: { port } },
      settler: {
        ...{ keyVariable: "SETTLER", signingKeyVariable: "SIGNING", intervalSeconds: 1 },
        attestors: ATTESTORS.map(({ address }) => ({ address, url: "http://127.0.0.1:1" })),
      },
      disputes: { maxFee: "0.1" },
    };
    const config = parseConfig(JSON.stringify(settings), {
      SETTLER: ACCOUNT.privateKey,
      SIGNING: RECEIPT_KEY.privateKey,
    });
    const deployment = {
      ...{ provider: hre.ethers.provider, chainId: 31337n, fromBlock: 0 },
      escrow: await escrow.getAddress(),
      committee: await committee.getAddress(),
      court: await court.getAddress(),
    };
    const stop = new AbortController();
    const running = runOracle(config, deployment, stop.signal);
    const told = async () =>
      fetch(`http://127.0.0.1:${port}/metrics`).then(
        (answer) => answer.text(),
        () => "",
      );
    running.catch(() => stop.abort());
    while (!stop.signal.aborted && !(await told()).includes('licet_disputes_open{state="answered"} 1')) {
      await mine();
      await wait(100);
    }
    expect(await bench.statusOf(challengeId)).to.equal(ChallengeStatus.Answered);
    expect(await told()).to.contain("licet_disputes_failing 0");
    stop.abort();
    await running;
    rmSync(folder, { recursive: true });
  });
});
