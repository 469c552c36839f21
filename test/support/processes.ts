/** An oracle in processes of its own, which can be killed at moments that the world around them sees: nothing in them knows of it. */
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { createServer, request as httpRequest, type IncomingMessage, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import path from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as wait } from "node:timers/promises";
import hre from "hardhat";

const ROOT = path.join(__dirname, "../..");

/** Of which one at a time is waited for, and something done the very moment that it comes. */
export class Moments {
  private armed: { name: string; act: () => void } | null = null;

  /** Is called by whatever sees a moment come. */
  reach(name: string): void {
    if (this.armed?.name !== name) return;
    const { act } = this.armed;
    this.armed = null;
    act();
  }

  /** Acts when the moment comes, or once it can't come any more. @returns whether it came */
  async at(name: string, act: () => void, isOver: () => Promise<boolean>): Promise<boolean> {
    this.armed = { name, act };
    while (this.armed !== null && !(await isOver())) await wait(50);
    if (this.armed === null) return true;
    this.armed = null;
    act();
    return false;
  }
}

/** A part of the oracle that is started anew whenever it was killed. */
export class OracleProcess {
  private child: ChildProcess | null = null;
  private over: Promise<unknown> = Promise.resolve();
  /** What it said last, for whom a test fails. */
  readonly tail: string[] = [];

  /**
   * @param words the command line
   * @param readyUrl answers 200 when it works
   * @param onLine is told the message of each line of its log
   */
  constructor(
    readonly name: string,
    private readonly words: string[],
    private readonly where: { cwd: string; env: NodeJS.ProcessEnv },
    private readonly readyUrl: string,
    private readonly onLine: (message: string) => void = () => {},
  ) {}

  async start(): Promise<void> {
    await this.over;
    const child = spawn(process.execPath, [path.join(ROOT, "oracle/bin.js"), ...this.words], {
      cwd: this.where.cwd,
      env: { ...process.env, ...this.where.env },
      stdio: ["ignore", "ignore", "pipe"],
    });
    this.child = child;
    this.over = once(child, "close").then(([code]) => {
      this.tail.push(`ended with ${code}`);
      if (this.child === child) this.child = null;
    });
    createInterface(child.stderr!).on("line", (line) => {
      this.tail.push(line);
      if (this.tail.length > 60) this.tail.shift();
      this.onLine(messageOf(line));
    });
  }

  kill(signal: NodeJS.Signals = "SIGKILL"): void {
    this.child?.kill(signal);
  }

  /** Ends it in order. */
  async stop(): Promise<void> {
    this.kill("SIGTERM");
    await this.over;
  }

  /** @throws Error with what it said last, if it doesn't come to work in time, or has ended by itself */
  async untilReady(timeoutMs = 120_000): Promise<void> {
    for (const deadline = Date.now() + timeoutMs; Date.now() < deadline; await wait(50)) {
      if (await isOk(this.readyUrl)) return;
      if (this.child === null) break;
    }
    throw new Error(`${this.name} doesn't work:\n${this.tail.join("\n")}`);
  }
}

function messageOf(line: string): string {
  try {
    return String((JSON.parse(line) as { message: unknown }).message);
  } catch {
    return line;
  }
}

async function isOk(url: string): Promise<boolean> {
  try {
    return (await fetch(url, { signal: AbortSignal.timeout(2_000) })).ok;
  } catch {
    return false;
  }
}

interface Call {
  id: unknown;
  method: string;
  params: unknown[];
}

/**
 * This process's chain over HTTP.
 * @param onCall is told each call before it is done, and once more before it is answered
 */
export async function serveNode(onCall: (method: string, isDone: boolean) => void = () => {}): Promise<Server> {
  const answer = async ({ id, method, params }: Call) => {
    onCall(method, false);
    const outcome = await hre.network.provider.request({ method, params }).then(
      (result) => ({ result }),
      ({ code, message, data }) => ({ error: { code: code ?? -32603, message, data } }),
    );
    onCall(method, true);
    return { jsonrpc: "2.0", id, ...outcome };
  };
  return serve(async (request, body) => {
    const calls = JSON.parse(body.toString()) as Call | Call[];
    const json = Array.isArray(calls) ? await Promise.all(calls.map(answer)) : await answer(calls);
    return { status: 200, headers: { "content-type": "application/json" }, body: Buffer.from(JSON.stringify(json)) };
  });
}

export interface Exchange {
  path: string;
  headers: IncomingMessage["headers"];
  /** What came back; null while nothing did. */
  answer: { status: number; body: Buffer } | null;
}

/** Stands before a server and passes everything on. `onExchange` is told of requests before, and again when they are answered. */
export function serveBefore(targetUrl: () => string, onExchange: (exchange: Exchange) => void): Promise<Server> {
  return serve(async (request, body) => {
    const exchange = { path: request.url!, headers: request.headers };
    onExchange({ ...exchange, answer: null });
    const answer = await forward(targetUrl() + request.url!, request, body);
    onExchange({ ...exchange, answer });
    return answer;
  });
}

interface Answer {
  status: number;
  headers: IncomingMessage["headers"];
  body: Buffer;
}

async function forward(url: string, { method, headers }: IncomingMessage, body: Buffer): Promise<Answer> {
  const outgoing = httpRequest(url, { method, headers });
  outgoing.end(body);
  const [incoming] = (await once(outgoing, "response")) as [IncomingMessage];
  return { status: incoming.statusCode!, headers: incoming.headers, body: await bytesOf(incoming) };
}

/** Whom the work fails for sees the connection break. */
async function serve(work: (request: IncomingMessage, body: Buffer) => Promise<Answer>): Promise<Server> {
  const server = createServer((request, response) => {
    void (async () => {
      try {
        const { status, headers, body } = await work(request, await bytesOf(request));
        response.writeHead(status, { "content-type": headers["content-type"] ?? "", "content-length": body.length });
        response.end(body);
      } catch {
        response.destroy();
      }
    })();
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return server;
}

async function bytesOf(stream: IncomingMessage): Promise<Buffer> {
  const pieces: Buffer[] = [];
  for await (const piece of stream) pieces.push(piece as Buffer);
  return Buffer.concat(pieces);
}

export function urlOf(server: Server): string {
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

export function shut(server: Server): void {
  server.close();
  server.closeAllConnections();
}

export async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}
