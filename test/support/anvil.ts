/** A chain in a process of its own, which can be reorganized: a fork of this process's. */
import { JsonRpcProvider } from "ethers";
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import type { Server } from "node:http";
import path from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { freePort, serveNode, shut, urlOf } from "./processes";
import type { Rpc } from "./rpcProxy";

const LAUNCHER = path.join(path.dirname(require.resolve("@foundry-rs/anvil/package.json")), "bin.mjs");
const START_MS = 30_000;

export class Anvil {
  private constructor(
    readonly url: string,
    private readonly child: ChildProcess,
    private readonly origin: Server,
    readonly provider: JsonRpcProvider,
  ) {}

  /** With blocks only as they are asked for, and one for each transaction. */
  static async fork(): Promise<Anvil> {
    const origin = await serveNode();
    const port = await freePort();
    const words = ["--port", String(port), "--fork-url", urlOf(origin), "--chain-id", "31337", "--hardfork", "prague"];
    const child = spawn(process.execPath, [LAUNCHER, ...words, "--silent"], { stdio: "ignore", detached: true });
    const url = `http://127.0.0.1:${port}`;
    const provider = new JsonRpcProvider(url, 31337, { staticNetwork: true, batchMaxCount: 1, cacheTimeout: -1 });
    const anvil = new Anvil(url, child, origin, provider);
    for (const deadline = performance.now() + START_MS; performance.now() < deadline; await wait(100)) {
      const block = await fetch(url, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ jsonrpc: "2.0", id: 1, method: "eth_blockNumber", params: [] }),
      }).catch(() => null);
      if (block?.ok) return anvil;
    }
    await anvil.stop();
    throw new Error(`anvil doesn't answer at ${url} after ${START_MS} ms`);
  }

  readonly rpc: Rpc = (method, params) => this.provider.send(method, params).catch(asJsonRpc);

  mine(blocks = 1): Promise<unknown> {
    return this.rpc("anvil_mine", [`0x${blocks.toString(16)}`]);
  }

  async stop(): Promise<void> {
    const ended = once(this.child, "close");
    // The launcher has the chain in a process of its own: both are of one group.
    process.kill(-this.child.pid!, "SIGKILL");
    await ended;
    this.provider.destroy();
    shut(this.origin);
  }
}

/** The node's own error, and not what ethers makes of it. */
function asJsonRpc(cause: unknown): never {
  const { error, info } = cause as { error?: unknown; info?: { error?: unknown } };
  throw (info?.error ?? error ?? cause) as Error;
}
