/** Who is asked for facts that money hangs on: which block is the latest, which transactions are in it. */
import type { RpcProvider } from "./ethersChain";

export interface Witness {
  /** The highest block that is known for sure. */
  height(): Promise<number>;
  /**
   * What a call gives.
   * @param factOf what of an answer must be the same for all who are asked; the whole of it if left out
   * @throws if they contradict each other
   */
  ask(method: string, params: unknown[], factOf?: (answer: unknown) => unknown): Promise<unknown>;
}

/** The one node that there is. */
export function onlyWitness(provider: Pick<RpcProvider, "send">): Witness {
  return {
    height: async () => Number(await provider.send("eth_blockNumber", [])),
    ask: (method, params) => provider.send(method, params),
  };
}
