import { expect } from "chai";
import { id } from "ethers";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { type ProverLimits, receiptProver } from "../../oracle/disputes/receiptProver";
import { Problem } from "../../oracle/problem";
import { until } from "../support/gatewayBench";

const ASKED = {
  receipt: { requestHash: id("request"), responseHash: id("response") },
  receiptHash: id("receipt"),
  input: [1, 2],
  grantSalt: id("salt"),
  weightsCommitment: id("weights"),
};

/** It tells of a process of its own, and then does nothing for ever. */
const HANGING = `
  const { spawn } = require("node:child_process");
  const { writeFileSync } = require("node:fs");
  const { parentPort, workerData } = require("node:worker_threads");
  const { pid } = spawn(process.execPath, ["-e", "setInterval(() => {}, 1000)"]);
  parentPort.postMessage({ pid });
  writeFileSync(workerData.modelFile, String(pid));
  setInterval(() => {}, 1000);
`;
const ANSWERING = `require("node:worker_threads").parentPort.postMessage({ proof: "0x01" });`;

describe("receiptProver", () => {
  let folder: string;
  beforeEach(() => (folder = mkdtempSync(path.join(tmpdir(), "licet-prover-"))));
  afterEach(() => rmSync(folder, { recursive: true }));

  const proverThat = (does: string, limits: ProverLimits = {}) => {
    const workerFile = path.join(folder, "worker.js");
    writeFileSync(workerFile, does);
    return receiptProver({ modelFile: path.join(folder, "pid") }, { ...limits, workerFile });
  };
  const pid = () => Number(readFileSync(path.join(folder, "pid"), "utf8"));
  const isRunning = () => {
    try {
      return process.kill(pid(), 0);
    } catch {
      return false;
    }
  };

  it("ends what hangs, its process, too, and proves the next in a thread of its own", async () => {
    const hanging = proverThat(HANGING, { limitMs: 3_000 }).prove(ASKED);
    const next = hanging.catch(() => proverThat(ANSWERING).prove(ASKED));
    await expect(hanging).to.be.rejectedWith(
      Problem,
      "The proof wasn't made within 3 s: its prover was ended, and is tried again",
    );
    await until(() => !isRunning());
    expect(await next).to.equal("0x01");
  });

  it("proves nothing any more when the process stops", async () => {
    const stop = new AbortController();
    const prover = proverThat(HANGING, { signal: stop.signal });
    const proving = prover.prove(ASKED).catch((cause: Error) => cause.message);
    await until(() => isRunning());
    stop.abort();
    expect(await proving).to.equal("The oracle stops: nothing is proven any more");
    await until(() => !isRunning());
    await expect(prover.prove(ASKED)).to.be.rejectedWith("aborted");
  });
});
