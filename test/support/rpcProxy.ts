/** A node between a client and the true one, which does everything that nodes do wrong. */
import { once } from "node:events";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { setTimeout as wait } from "node:timers/promises";

export type Rpc = (method: string, params: unknown[]) => Promise<unknown>;

/** Hangs up instead of answering. */
export class HangUp extends Error {}

/** What is done with a call; `pass` asks the true node. */
export type Fault = (method: string, params: unknown[], pass: () => Promise<unknown>) => Promise<unknown>;

export const FAULTS = {
  none: (_method, _params, pass) => pass(),
  down: () => Promise.reject(new HangUp()),
  silent: () => new Promise<never>(() => {}),
  /** Takes transactions and passes none on. */
  swallowing: async (method, [raw], pass) =>
    method === "eth_sendRawTransaction" ? `0x${"00".repeat(31)}${String(raw).slice(-2)}` : pass(),
  /** Does what it is asked to, and then hangs up. */
  droppingAnswers: async (method, _params, pass) => {
    const answer = await pass();
    if (method === "eth_sendRawTransaction") throw new HangUp();
    return answer;
  },
  /** Passes transactions on twice. */
  repeating: async (method, _params, pass) => {
    if (method === "eth_sendRawTransaction") await pass();
    return pass();
  },
} satisfies Record<string, Fault>;

/** Answers so late. */
export const slowBy =
  (ms: number): Fault =>
  async (_method, _params, pass) => {
    await wait(ms);
    return pass();
  };

/** Says something else of some calls. */
export const lyingAbout =
  (lies: Record<string, (params: unknown[], truth: unknown) => unknown>): Fault =>
  async (method, params, pass) => {
    const lie = lies[method];
    const truth = await pass();
    return lie === undefined ? truth : lie(params, truth);
  };

export class RpcProxy {
  fault: Fault = FAULTS.none;
  /** What it was asked for. */
  readonly calls: string[] = [];

  private constructor(
    private readonly server: Server,
    private readonly rpc: Rpc,
  ) {
    server.on("request", (request, response) => void this.answer(request, response));
  }

  static async start(rpc: Rpc): Promise<RpcProxy> {
    const server = createServer().listen(0, "127.0.0.1");
    await once(server, "listening");
    return new RpcProxy(server, rpc);
  }

  get url(): string {
    return `http://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  /** Everything fails from now on, as if its machine had gone. */
  async stop(): Promise<void> {
    this.server.closeAllConnections();
    this.server.close();
    await once(this.server, "close");
  }

  private async answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const pieces: Buffer[] = [];
    for await (const piece of request) pieces.push(piece as Buffer);
    const { id, method, params } = JSON.parse(Buffer.concat(pieces).toString()) as {
      id: number;
      method: string;
      params: unknown[];
    };
    this.calls.push(method);
    try {
      const result = await this.fault(method, params, () => this.rpc(method, params));
      response.end(JSON.stringify({ jsonrpc: "2.0", id, result }));
    } catch (error) {
      if (error instanceof HangUp) return void response.destroy();
      const { code, message, data } = error as { code?: number; message: string; data?: unknown };
      response.end(JSON.stringify({ jsonrpc: "2.0", id, error: { code: code ?? -32603, message, data } }));
    }
  }
}
