import { readFileSync } from "node:fs";
import { task } from "hardhat/config";
import type { HardhatRuntimeEnvironment } from "hardhat/types";
import { readAddressBook } from "../deploy/addressBook";
import { openNodes } from "../oracle/chain/nodes";
import { parseConfig, type OracleConfig } from "../oracle/config";
import { ConfigError } from "../oracle/configSection";
import { runOracle } from "../oracle/main";
import { untilAskedToEnd } from "../oracle/signals";
import { addExample, explain, Problem } from "./support";

task("oracle:run", "Runs a gateway, a settler or an attestor, as a configuration file says")
  .addParam("settings", "The configuration file: docs/oracle.md describes it")
  .setAction(async ({ settings }: { settings: string }, hre) => explain(() => run(hre, settings)));

async function run(hre: HardhatRuntimeEnvironment, file: string): Promise<void> {
  if (hre.network.name === "hardhat") {
    throw new Problem("The chain in memory ends with the task: name another with --network.");
  }
  const config = readConfig(file);
  const book = readAddressBook(hre.config.paths.root, hre.network.name);
  const chainId = BigInt(book.chainId);
  const deployment = {
    provider: config.chain === undefined ? hre.ethers.provider : await openNodes(config.chain, chainId),
    chainId,
    escrow: book.contracts.UsageEscrow,
    committee: book.contracts.CommitteeAttestor,
    court: book.contracts.DisputeCourt,
    fromBlock: book.block,
  };
  await runOracle(config, deployment, untilAskedToEnd());
}

function readConfig(file: string): OracleConfig {
  try {
    return parseConfig(readFileSync(file, "utf8"), process.env);
  } catch (cause) {
    if (cause instanceof ConfigError) throw new Problem(`${file}: ${cause.message}`, { cause });
    throw new Problem(`--settings ${file} can't be read: ${(cause as Error).message}`, { cause });
  }
}

addExample("oracle:run", "--network localhost --settings oracle.json");
