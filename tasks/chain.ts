import type { HardhatRuntimeEnvironment } from "hardhat/types";
import { isLocalChain } from "../deploy/deploy";
import { dateOf, defineTask, period, Problem, timeOf, type TaskRecord } from "./support";

export interface WaitOnChain {
  /** Seconds. */
  for: number;
}

/** Moves a local chain's clock on: what takes days elsewhere takes no time there. */
export async function waitOnChain(hre: HardhatRuntimeEnvironment, args: WaitOnChain): Promise<TaskRecord> {
  const { provider } = hre.ethers;
  const { chainId } = await provider.getNetwork();
  if (!isLocalChain(chainId)) throw new Problem(`Chain ${chainId} is not a local one: its time passes by itself.`);
  await provider.send("evm_increaseTime", [args.for]);
  await provider.send("evm_mine", []);
  return { time: dateOf(await timeOf(hre)) };
}

defineTask<WaitOnChain, object>(
  "chain:wait",
  {
    about: "Moves a local chain's clock on, as if so much time had passed",
    example: "--network localhost --for 3d",
    parameters: { for: period("How long, such as 12h or 3d") },
  },
  {},
  waitOnChain,
);
