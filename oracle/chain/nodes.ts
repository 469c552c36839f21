/**
 * Several nodes of one chain, of which one is enough: the first of the list that is well is asked, and the next where it
 * fails, takes too long, is behind the others or of another chain. Transactions go to all. What money hangs on, as many as
 * the quorum says must agree about.
 */
import { JsonRpcProvider, Network, type JsonRpcError, type JsonRpcPayload, type JsonRpcResult } from "ethers";
import { Problem, reasonOf } from "../problem";
import { ChainNode, isKnownBefore, namesOf, NodeAnswer } from "./node";
import type { RpcProvider } from "./ethersChain";
import { numberOf, onlyWitness, type Witness } from "./witness";

export interface NodesConfig {
  urls: string[];
  /** How many must say the same of what money hangs on. */
  quorum: number;
  /** How long a node may take that isn't the only one. */
  answerMs?: number;
  /** How far its latest block may be behind the others'. */
  lagSeconds?: number;
  /** How often all are looked at, as long as one is asked anything. */
  inspectMs?: number;
}

export type NodeState = "up" | "down" | "behind" | "foreign";

const DEFAULTS = { answerMs: 4_000, lagSeconds: 60, inspectMs: 5_000 };
/** The only node there is may take longer. */
const ONLY_MS = 20_000;
const OPENING_MS = 20_000;

/** A node, and what is known of it. */
interface Known {
  node: ChainNode;
  /** Its first block's hash; null until it has told. */
  genesis: string | null;
  state: NodeState;
  /** Why it isn't up. */
  reason: string | null;
  /** Of its latest block, Unix seconds. */
  time: number;
}

/** Told of what whoever runs this should know. */
export type Tell = (message: string, fields: Record<string, unknown>) => void;

export class Nodes implements Witness {
  private tell: Tell = () => {};
  private readonly known: Known[];
  private readonly config: Required<NodesConfig>;
  private readonly answerMs: number;
  private inspectedAt = -Infinity;
  private inspecting: Promise<void> | null = null;

  constructor(
    config: NodesConfig,
    private readonly chainId: bigint,
  ) {
    this.config = { ...DEFAULTS, ...config };
    const names = namesOf(config.urls);
    this.known = config.urls.map((url, i) => ({
      node: new ChainNode(url, names[i]),
      genesis: null,
      state: "up",
      reason: null,
      time: 0,
    }));
    this.answerMs = this.known.length === 1 ? ONLY_MS : this.config.answerMs;
  }

  /** @throws Problem unless one answers, and all that answer are of the chain */
  async open(): Promise<void> {
    const failures = await Promise.all(
      this.known.map(async (one) => {
        try {
          await this.identify(one, OPENING_MS);
          return [];
        } catch (cause) {
          if (cause instanceof Problem) throw cause;
          return [this.known.length === 1 ? reasonOf(cause) : `${one.node.name}: ${reasonOf(cause)}`];
        }
      }),
    );
    const reasons = failures.flat();
    if (reasons.length === this.known.length) {
      throw new Problem(
        `The chain's node doesn't answer (${reasons.join("; ")}): check that it runs, and chain.url or chain.urls.`,
      );
    }
    await this.inspect();
  }

  /** Tells from now on what is wrong with nodes, and what is already. */
  watch(tell: Tell): void {
    this.tell = tell;
    this.known.filter(({ state }) => state !== "up").forEach((one) => this.tellOf(one));
  }

  /** What nodes there are, and how each is. */
  states(): { node: string; state: NodeState }[] {
    return this.known.map(({ node, state }) => ({ node: node.name, state }));
  }

  /** What the first says that is well. @throws NodeAnswer; Error if none answers */
  async request(method: string, params: JsonRpcPayload["params"]): Promise<unknown> {
    this.inspectSometimes();
    if (method === "eth_sendRawTransaction") return this.broadcast(params);
    const failures: string[] = [];
    let said: NodeAnswer | null = null;
    for (const one of this.ranked()) {
      try {
        return await one.node.call(method, params, this.answerMs);
      } catch (cause) {
        if (cause instanceof NodeAnswer) {
          if (cause.isAboutTheCall) throw cause;
          said ??= cause;
        } else this.note(one, "down", reasonOf(cause));
        failures.push(`${one.node.name}: ${reasonOf(cause)}`);
      }
    }
    if (said !== null) throw said;
    throw new Error(`no node of the chain answers ${method} (${failures.join("; ")})`);
  }

  // What money hangs on

  async height(of: "latest" | "finalized" = "latest"): Promise<number> {
    if (this.config.quorum === 1) return numberOf(await this.request("eth_getBlockByNumber", [of, false]));
    const heights: number[] = [];
    await Promise.all(
      this.askable().map(async ({ node }) => {
        const block = await node.call("eth_getBlockByNumber", [of, false], this.answerMs).catch(() => undefined);
        if (block !== undefined) heights.push(numberOf(block));
      }),
    );
    const { quorum } = this.config;
    if (heights.length < quorum) throw new Error(`${heights.length} nodes tell of a block, and ${quorum} must`);
    return heights.sort((a, b) => b - a)[quorum - 1];
  }

  async ask(
    method: string,
    params: unknown[],
    factOf: (answer: unknown) => unknown = (answer) => answer,
  ): Promise<unknown> {
    if (this.config.quorum === 1) return this.request(method, params);
    const answers: { name: string; fact: string; answer: unknown }[] = [];
    const enough = (): unknown[] | null => {
      const agreed = answers.filter(
        ({ fact }) => answers.filter((other) => other.fact === fact).length >= this.config.quorum,
      );
      return agreed.length === 0 ? null : [agreed[0].answer];
    };
    return new Promise((resolve, reject) => {
      const asked = this.askable().map(async ({ node }) => {
        const answer = await node.call(method, params, this.answerMs).catch((cause: Error) => cause);
        if (answer instanceof Error && !(answer instanceof NodeAnswer && answer.isAboutTheCall)) return;
        const fact = answer instanceof Error ? answer.message : JSON.stringify(factOf(answer));
        answers.push({ name: node.name, fact, answer });
        const agreed = enough();
        if (agreed === null) return;
        if (agreed[0] instanceof Error) reject(agreed[0]);
        else resolve(agreed[0]);
      });
      void Promise.all(asked).then(() => {
        if (enough() !== null) return;
        const said = answers.map(({ name, fact }) => `${name} says ${fact.slice(0, MOST_SHOWN)}`).join(", ");
        if (answers.length > 1) this.tell("Nodes of the chain contradict each other", { method, said });
        reject(new Error(`${this.config.quorum} nodes must agree on ${method}: ${said || "none answers"}`));
      });
    });
  }

  /** What waits to be mined isn't the same everywhere: all are asked that are well, or all if none is. */
  async knows(hash: string): Promise<boolean> {
    const well = this.askable().filter(({ state }) => state === "up");
    const asked = (well.length > 0 ? well : this.askable()).map(async ({ node }) => {
      const answer = await node.call("eth_getTransactionByHash", [hash], this.answerMs);
      if (answer === null) throw new Unheard();
      return true;
    });
    return Promise.any(asked).catch(({ errors }: AggregateError) => {
      if (errors.some((error) => error instanceof Unheard)) return false;
      throw new Error(`no node of the chain says whether it has ${hash} (${errors.map(reasonOf).join("; ")})`);
    });
  }

  // Sending

  /** To all at once: the first that takes it is enough. */
  private async broadcast(params: JsonRpcPayload["params"]): Promise<unknown> {
    const failures: Error[] = [];
    const sent = this.askable().map(async ({ node }) => {
      try {
        return await node.call("eth_sendRawTransaction", params, this.answerMs);
      } catch (cause) {
        failures.push(cause instanceof NodeAnswer ? cause : new Error(`${node.name}: ${reasonOf(cause)}`));
        throw cause;
      }
    });
    return Promise.any(sent).catch(() => {
      const answers = failures.filter((failure) => failure instanceof NodeAnswer);
      throw (
        answers.find(isKnownBefore) ??
        answers[0] ??
        new Error(`no node of the chain takes the transaction (${failures.map(reasonOf).join("; ")})`)
      );
    });
  }

  // How they are

  /** All that are of the chain, as far as is known; those first that are well. */
  private ranked(): Known[] {
    const order: NodeState[] = ["up", "down", "behind"];
    return this.askable().sort((a, b) => order.indexOf(a.state) - order.indexOf(b.state));
  }

  private askable(): Known[] {
    return this.known.filter(({ state, genesis }) => state !== "foreign" && genesis !== null);
  }

  private inspectSometimes(): void {
    if (performance.now() - this.inspectedAt < this.config.inspectMs) return;
    this.inspectedAt = performance.now();
    if (this.known.length > 1) void this.inspect();
  }

  /** Looks at all of them. */
  inspect(): Promise<void> {
    this.inspecting ??= this.inspectAll().finally(() => (this.inspecting = null));
    return this.inspecting;
  }

  private async inspectAll(): Promise<void> {
    const failures = await Promise.all(this.known.map((one) => this.look(one)));
    const times = this.known.filter((_, i) => failures[i] === null).map(({ time }) => time);
    const best = times.sort((a, b) => b - a)[Math.min(this.config.quorum, times.length) - 1] ?? 0;
    this.known.forEach((one, i) => {
      const failure = failures[i];
      if (failure !== null) return this.note(one, failure.state, failure.reason);
      const behind = best - one.time;
      if (behind <= this.config.lagSeconds) return this.note(one, "up", null);
      return this.note(one, "behind", `its latest block is ${behind} s older than the others'`);
    });
  }

  private async look(one: Known): Promise<{ state: NodeState; reason: string } | null> {
    try {
      await this.identify(one, this.answerMs);
      const block = await one.node.call("eth_getBlockByNumber", ["latest", false], this.answerMs);
      one.time = Number((block as { timestamp: string }).timestamp);
      return null;
    } catch (cause) {
      return { state: cause instanceof Problem ? "foreign" : "down", reason: reasonOf(cause) };
    }
  }

  /** @throws Problem if it is of another chain */
  private async identify(one: Known, ms: number): Promise<void> {
    if (one.genesis !== null) return;
    const found = BigInt((await one.node.call("eth_chainId", [], ms)) as string);
    const which = this.known.length === 1 ? "the node" : `the node ${one.node.name}`;
    if (found !== this.chainId) {
      throw new Problem(
        `The address book is of chain ${this.chainId}, and ${which} is of chain ${found}: check chain.url and ` +
          `chain.deployment.`,
      );
    }
    const block = (await one.node.call("eth_getBlockByNumber", ["0x0", false], ms)) as { hash?: string } | null;
    if (typeof block?.hash !== "string") throw new Error("it doesn't give the chain's first block");
    const other = this.known.find(({ genesis }) => genesis !== null && genesis !== block.hash);
    if (other !== undefined) {
      throw new Problem(
        `The nodes ${other.node.name} and ${one.node.name} have different first blocks, though both are of chain ` +
          `${this.chainId}: leave the wrong one out of chain.urls.`,
      );
    }
    one.genesis = block.hash;
  }

  private note(one: Known, state: NodeState, reason: string | null): void {
    if (one.state === state) return;
    Object.assign(one, { state, reason });
    this.tellOf(one);
  }

  private tellOf({ node, state, reason }: Known): void {
    if (state === "up") this.tell("Node of the chain is well again", { node: node.name });
    else this.tell("Node of the chain isn't asked while others are well", { node: node.name, state, reason });
  }
}

/** A node that doesn't have a transaction. */
class Unheard extends Error {}

/** How much of an answer a message shows. */
const MOST_SHOWN = 120;

/** Nodes as ethers takes them. */
export class NodesProvider extends JsonRpcProvider {
  constructor(
    readonly nodes: Nodes,
    chainId: bigint,
  ) {
    // Each call goes by itself: waiting for others to go along would add to every request that is admitted.
    const options = { staticNetwork: Network.from(chainId), batchMaxCount: 1, cacheTimeout: -1 };
    super(undefined, Network.from(chainId), options);
  }

  override async _send(payload: JsonRpcPayload | JsonRpcPayload[]): Promise<JsonRpcResult[]> {
    const payloads = Array.isArray(payload) ? payload : [payload];
    const answers = payloads.map(async ({ id, method, params }): Promise<JsonRpcResult | JsonRpcError> => {
      try {
        return { id, result: await this.nodes.request(method, params) };
      } catch (cause) {
        if (cause instanceof NodeAnswer) return { id, error: cause.error };
        throw cause;
      }
    });
    // Ethers takes both, and says that it takes only one of them.
    return (await Promise.all(answers)) as JsonRpcResult[];
  }
}

/**
 * The nodes of a chain by their URLs.
 * @throws Problem unless one answers, and all that answer are of the chain
 */
export async function openNodes(config: NodesConfig, chainId: bigint): Promise<NodesProvider> {
  const nodes = new Nodes(config, chainId);
  await nodes.open();
  return new NodesProvider(nodes, chainId);
}

/** Whom to ask about money: as many nodes as there are, or the one. */
export function witnessOf(provider: RpcProvider): Witness {
  return provider instanceof NodesProvider ? provider.nodes : onlyWitness(provider);
}
