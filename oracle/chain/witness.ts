/** Who is asked for facts that money hangs on: which block is the latest, and what is in it. */
import { toQuantity } from "ethers";
import type { RpcProvider } from "./ethersChain";

/** When a block counts as final: so many blocks deep, itself included, or as soon as the chain calls it so. */
export type Finality = number | "finalized";

export interface Witness {
  /** The highest block, or the highest that the chain calls final, that is known for sure; -1 if there is none. */
  height(of?: "latest" | "finalized"): Promise<number>;
  /**
   * What a call gives.
   * @param factOf what of an answer must be the same for all who are asked; the whole of it if left out
   * @throws if they contradict each other
   */
  ask(method: string, params: unknown[], factOf?: (answer: unknown) => unknown): Promise<unknown>;
  /** Whether anybody who is asked has a transaction, waiting or mined. */
  knows(hash: string): Promise<boolean>;
}

/** The one node that there is. */
export function onlyWitness(provider: Pick<RpcProvider, "send">): Witness {
  return {
    height: async (of = "latest") =>
      of === "latest"
        ? Number(await provider.send("eth_blockNumber", []))
        : numberOf(await provider.send("eth_getBlockByNumber", [of, false])),
    ask: (method, params) => provider.send(method, params),
    knows: async (hash) => (await provider.send("eth_getTransactionByHash", [hash])) !== null,
  };
}

/** A block's number, as a node tells of it; -1 if it tells of none. */
export function numberOf(block: unknown): number {
  return block === null ? -1 : Number((block as { number: string }).number);
}

/** The highest block that counts as final; below 0 if none does. */
export async function finalHeight(witness: Witness, finality: Finality): Promise<number> {
  return finality === "finalized" ? witness.height("finalized") : (await witness.height()) - finality + 1;
}

/** Spans of so many blocks every node tells the logs of. */
const LEAST_SPAN = 1_000;

/**
 * The logs of a span of blocks, both ends included. Many nodes tell of so many blocks, or so many logs, at once, and each says so in its
 * own words: whatever a span fails of, its halves are asked for.
 * @param factOf what of them must be the same for all who are asked
 */
export async function logsIn(
  witness: Pick<Witness, "ask">,
  filter: object,
  { from, to }: { from: number; to: number },
  factOf: (logs: unknown) => unknown,
): Promise<unknown[]> {
  try {
    return (await witness.ask(
      "eth_getLogs",
      [{ ...filter, fromBlock: tagOf(from), toBlock: tagOf(to) }],
      factOf,
    )) as unknown[];
  } catch (cause) {
    if (to - from < LEAST_SPAN) throw cause;
    const middle = Math.floor((from + to) / 2);
    const first = await logsIn(witness, filter, { from, to: middle }, factOf);
    return [...first, ...(await logsIn(witness, filter, { from: middle + 1, to }, factOf))];
  }
}

/** How nodes are told which block is meant. */
export const tagOf = (block: number): string => toQuantity(block);
