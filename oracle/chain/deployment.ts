/** From an address book to the deployment that it means, or a sentence that says why there is none. */
import type { Chain } from "./chain";
import { withDeadline } from "./deadline";
import { connectChain, type Clock, type RpcProvider } from "./ethersChain";
import { isAnswer } from "./smartAccount";
import type { Log } from "../log";
import { Problem, reasonOf } from "../problem";

/** Where the deployment is. */
export interface Deployment {
  provider: RpcProvider;
  chainId: bigint;
  escrow: string;
  /** Address of the CommitteeAttestor. */
  committee: string;
  /** Address of the DisputeCourt, if there is one. */
  court?: string;
  fromBlock: number;
}

export interface OpenDeployment {
  chain: Chain;
  /** The hash of the chain's first block, by which it is told from one that was started anew. */
  firstBlock: string;
}

const READ_TIMEOUT_MS = 20_000;
/** A chain can't be ahead of a clock that is right by more than a block's time. */
const MOST_SECONDS_AHEAD = 120;
/** A chain that makes blocks as fast as any in use isn't behind by as much. */
const MOST_SECONDS_BEHIND = 3_600;

/** @throws Problem unless the node answers, is of the deployment's chain, has its contracts, and agrees on the time */
export async function openDeployment(deployment: Deployment, clock: Clock, log: Log): Promise<OpenDeployment> {
  await requireChain(deployment);
  await requireCode(deployment);
  const chain = await contractAt(deployment.escrow, "a UsageEscrow", () =>
    connectChain(deployment.provider, { ...deployment, clock }),
  );
  if (clock === "machine") await requireSameTime(deployment, log);
  await contractAt(deployment.committee, "a CommitteeAttestor", () => chain.committees(deployment.committee));
  return { chain, firstBlock: (await blockOf(deployment, 0)).hash };
}

async function requireChain({ provider, chainId }: Deployment): Promise<void> {
  const network = await read(() => provider.getNetwork());
  if (network.chainId === chainId) return;
  throw new Problem(
    `The address book is of chain ${chainId}, and the node is of chain ${network.chainId}: check --network and the ` +
      `network's URL.`,
  );
}

async function requireCode({ provider, escrow, committee }: Deployment): Promise<void> {
  for (const address of [escrow, committee]) {
    if ((await read(() => provider.getCode(address))) !== "0x") continue;
    throw new Problem(
      `No contract is at ${address}, which the address book names: a local chain that was started anew has forgotten ` +
        `it. Deploy again, and name another dataFolder.`,
    );
  }
}

/** What connecting gives. An answer that can't be read means another contract, no answer another problem. */
async function contractAt<T>(address: string, kind: string, connect: () => Promise<T>): Promise<T> {
  return read(async () => {
    try {
      return await connect();
    } catch (cause) {
      if (!isAnswer(cause as Error)) throw cause;
      throw new Problem(
        `The contract at ${address} doesn't answer as ${kind} of this release (${reasonOf(cause)}): the address book is ` +
          `wrong, or of another release.`,
        { cause },
      );
    }
  });
}

/** Receipts carry this machine's time, and batches are settled by the chain's. */
async function requireSameTime(deployment: Deployment, log: Log): Promise<void> {
  const { timestamp } = await blockOf(deployment, "latest");
  const ahead = Number(timestamp) - Math.floor(Date.now() / 1000);
  if (ahead > MOST_SECONDS_AHEAD) {
    throw new Problem(
      `The chain's time is ${ahead} s ahead of this machine's: set the machine's clock or, for a local chain whose clock ` +
        `was moved, say "clock": "chain".`,
    );
  }
  if (-ahead > MOST_SECONDS_BEHIND)
    log.warn("The chain's latest block is old: is its node in step?", { seconds: -ahead });
}

async function blockOf(
  { provider }: Deployment,
  which: number | "latest",
): Promise<{ hash: string; timestamp: string }> {
  const tag = typeof which === "number" ? `0x${which.toString(16)}` : which;
  const block = (await read(() => provider.send("eth_getBlockByNumber", [tag, false]))) as {
    hash?: string;
    timestamp?: string;
  } | null;
  if (typeof block?.hash === "string" && typeof block.timestamp === "string") {
    return { hash: block.hash, timestamp: block.timestamp };
  }
  throw new Problem(`The node doesn't give the chain's block ${which}: use one that has it.`);
}

async function read<T>(what: () => Promise<T>): Promise<T> {
  try {
    return await withDeadline(READ_TIMEOUT_MS, what);
  } catch (cause) {
    if (cause instanceof Problem) throw cause;
    throw new Problem(
      `The chain can't be read (${reasonOf(cause)}): check that its node runs, and the network's URL.`,
      { cause },
    );
  }
}
