import { JsonRpcProvider } from "ethers";
import { withDeadline } from "./deadline";
import { Problem, reasonOf } from "../problem";

const ANSWER_MS = 20_000;

/**
 * A node by its URL, which messages don't repeat: it may have a key in it.
 * @throws Problem unless it answers and is of the chain
 */
export async function openNode(url: string, chainId: bigint): Promise<JsonRpcProvider> {
  // Each call goes by itself: waiting for others to go along would add to every request that is admitted.
  const provider = new JsonRpcProvider(url, chainId, { staticNetwork: true, batchMaxCount: 1, cacheTimeout: -1 });
  const found = await withDeadline(ANSWER_MS, async () =>
    BigInt((await provider.send("eth_chainId", [])) as string),
  ).catch((cause) => {
    throw new Problem(`The chain's node doesn't answer (${reasonOf(cause)}): check that it runs, and chain.url.`, {
      cause,
    });
  });
  if (found === chainId) return provider;
  throw new Problem(
    `The address book is of chain ${chainId}, and the node is of chain ${found}: check chain.url and chain.deployment.`,
  );
}
