import type { JsonRpcPayload } from "ethers";

/** An error by JSON-RPC. */
export class NodeAnswer extends Error {
  /** Whether it is about the call or the transaction, so that another node would say the same. */
  readonly isAboutTheCall: boolean;

  constructor(readonly error: RpcError) {
    super(error.message);
    const { code, message, data } = error;
    const isRevert = typeof data === "string" && /^0x[0-9a-f]{8}/i.test(data);
    this.isAboutTheCall = code === EXECUTION_REVERTED || isRevert || ABOUT_THE_CALL.test(message);
  }
}

interface RpcError {
  code: number;
  message: string;
  data?: unknown;
}

/** What nodes say about a call or a transaction, and not about themselves. */
const ABOUT_THE_CALL =
  /revert|insufficient funds|enough funds|nonce|underpriced|already known|known transaction|already imported|gas required|out of gas|intrinsic gas|gas limit|max fee|fee cap|\btip\b|opcode/i;
const EXECUTION_REVERTED = 3;

const KNOWN_BEFORE = /already known|known transaction|already imported|nonce too low|nonce has already been used/i;

/** Whether a node doesn't take a transaction since it has it, or its nonce was used. */
export function isKnownBefore({ message }: Error): boolean {
  return KNOWN_BEFORE.test(message);
}

/** A node of the chain, asked by JSON-RPC. Its URL may have a key in it: nothing shows more of it than the host. */
export class ChainNode {
  private readonly target: string;
  private readonly headers: Record<string, string> = { "content-type": "application/json" };
  private calls = 0;

  constructor(
    url: string,
    readonly name: string,
  ) {
    const { username, password } = new URL(url);
    if (username !== "") {
      const secret = `${decodeURIComponent(username)}:${decodeURIComponent(password)}`;
      this.headers.authorization = `Basic ${Buffer.from(secret).toString("base64")}`;
    }
    const bare = new URL(url);
    bare.username = bare.password = "";
    this.target = bare.href;
  }

  /** @throws NodeAnswer if the answer is an error; Error if there is none within `ms` */
  async call(method: string, params: JsonRpcPayload["params"], ms: number): Promise<unknown> {
    const body = JSON.stringify({ jsonrpc: "2.0", id: ++this.calls, method, params });
    const response = await fetch(this.target, {
      method: "POST",
      headers: this.headers,
      body,
      signal: AbortSignal.timeout(ms),
    }).catch((cause: Error) => {
      if (cause.name === "TimeoutError") throw new Error(`no answer within ${ms} ms`);
      // What fetch says may repeat the URL.
      throw new Error(`no connection (${codeOf(cause)})`);
    });
    const answer = (await response.json().catch(() => null)) as Answer | null;
    if (isError(answer?.error)) throw new NodeAnswer(answer.error);
    if (!response.ok) throw new Error(`HTTP status ${response.status}`);
    if (answer === null || answer.result === undefined) throw new Error("no JSON-RPC");
    return answer.result;
  }
}

interface Answer {
  result?: unknown;
  error?: unknown;
}

function isError(error: unknown): error is RpcError {
  return typeof error === "object" && error !== null && "message" in error && typeof error.message === "string";
}

function codeOf(error: Error): string {
  const { code } = (error.cause ?? {}) as { code?: string };
  return code ?? error.name;
}

/** How messages call nodes: by their hosts, numbered where several have the same. */
export function namesOf(urls: string[]): string[] {
  const hosts = urls.map((url) => new URL(url).host);
  return hosts.map((host, i) => {
    const same = hosts.slice(0, i).filter((other) => other === host).length;
    return same === 0 ? host : `${host} (${same + 1})`;
  });
}
