/** A node in a process of its own, and tasks that run against it: a market for the command line. */
import { type ChildProcess, execFile, fork, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { JsonRpcProvider } from "ethers";
import type { TaskResult } from "./taskRunner";

const ROOT = path.join(__dirname, "../..");
const HARDHAT = path.join(ROOT, "node_modules/hardhat/internal/cli/bootstrap.js");
const CONFIG = path.join(__dirname, "nodeConfig.ts");
export const NETWORK = "node";

export class TaskBench {
  private constructor(
    /** Where address book and journals are, and whatever a test puts there. */
    readonly folder: string,
    readonly provider: JsonRpcProvider,
    private readonly environment: NodeJS.ProcessEnv,
    private readonly node: ChildProcess,
    private readonly runner: ChildProcess,
  ) {}

  static async start(): Promise<TaskBench> {
    const port = await freePort();
    const url = `http://127.0.0.1:${port}`;
    const folder = mkdtempSync(path.join(tmpdir(), "licet-tasks-"));
    const environment = {
      ...process.env,
      TS_NODE_TRANSPILE_ONLY: "1",
      LICET_TEST_NODE: url,
      LICET_TEST_FOLDER: folder,
    };
    const node = spawn(process.execPath, [HARDHAT, "node", "--port", String(port)], { cwd: ROOT, stdio: "ignore" });
    const runner = fork(path.join(__dirname, "taskRunner.ts"), {
      cwd: ROOT,
      execArgv: ["--require", "hardhat/register"],
      env: { ...environment, HARDHAT_NETWORK: NETWORK, HARDHAT_CONFIG: CONFIG },
    });
    const provider = new JsonRpcProvider(url, undefined, { staticNetwork: true, cacheTimeout: -1 });
    await Promise.all([once(runner, "message"), answering(url)]);
    return new TaskBench(folder, provider, environment, node, runner);
  }

  /** Runs a task in a process that is there already. */
  async run(words: string[]): Promise<TaskResult> {
    this.runner.send(words);
    const [result] = await once(this.runner, "message");
    return result as TaskResult;
  }

  /** Runs `npx hardhat` with these words, as people do. */
  async hardhat(words: string[], environment: NodeJS.ProcessEnv = {}): Promise<TaskResult> {
    const options = { cwd: ROOT, env: { ...this.environment, ...environment } };
    const all = [HARDHAT, "--config", CONFIG, "--network", NETWORK, ...words];
    return new Promise((resolve) => {
      execFile(process.execPath, all, options, (error, stdout, stderr) =>
        resolve({ exitCode: Number(error?.code ?? 0), stdout, stderr }),
      );
    });
  }

  /** The time of the latest block, in Unix seconds. */
  async now(): Promise<number> {
    return (await this.provider.getBlock("latest"))!.timestamp;
  }

  async later(seconds: number): Promise<void> {
    await this.provider.send("evm_increaseTime", [seconds]);
    await this.provider.send("evm_mine", []);
  }

  async close(): Promise<void> {
    this.provider.destroy();
    const ended = [this.node, this.runner].map((child) => once(child, "exit"));
    this.runner.kill();
    this.node.kill();
    await Promise.all(ended);
    rmSync(this.folder, { recursive: true });
  }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}

async function answering(url: string): Promise<void> {
  const body = JSON.stringify({ jsonrpc: "2.0", id: 1, method: "eth_chainId", params: [] });
  for (;;) {
    const answer = await fetch(url, { method: "POST", body }).catch(() => undefined);
    if (answer?.ok) return;
    await wait(100);
  }
}
