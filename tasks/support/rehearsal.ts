/**
 * A dry run plays a task on a copy of the chain: Hardhat's network in memory, forked from the node's latest block. There the
 * task's transactions follow on each other as they would, and nothing reaches the chain itself.
 */
import { Interface, type ParamType, type Provider, type TransactionReceipt } from "ethers";
import { HardhatContext } from "hardhat/internal/context";
import { Environment } from "hardhat/internal/core/runtime-environment";
import { ProviderWrapper } from "hardhat/plugins";
import type {
  EIP1193Provider,
  HardhatConfig,
  HardhatRuntimeEnvironment,
  HttpNetworkConfig,
  RequestArguments,
} from "hardhat/types";
import type { AddressBook } from "../../deploy/addressBook";
import { connectLicet } from "../../deploy/deploy";
import * as factories from "../../typechain-types";
import { textOf, type Amount, type Money } from "./money";
import { timeOf, type Session } from "./session";
import { Problem } from "../../oracle/problem";

const IN_MEMORY = "hardhat";

/** A copy of a chain, on which a task is played. */
export interface Copy {
  hre: HardhatRuntimeEnvironment;
  /** The block that the task's transactions follow. */
  block: number;
}

/** Answers for a chain's accounts, without their keys. */
class WithAccounts extends ProviderWrapper {
  constructor(
    provider: EIP1193Provider,
    private readonly accounts: string[],
  ) {
    super(provider);
  }

  async request(asked: RequestArguments): Promise<unknown> {
    return asked.method === "eth_accounts" ? this.accounts : this._wrappedProvider.request(asked);
  }
}

/** A copy of the chain as it is now, with its accounts. */
export async function copyChain(hre: HardhatRuntimeEnvironment): Promise<Copy> {
  if (hre.network.name === IN_MEMORY) {
    throw new Problem("The chain in memory ends with the task: name another with --network, to try something on it.");
  }
  const [{ chainId }, block, time, signers] = await Promise.all([
    hre.ethers.provider.getNetwork(),
    hre.ethers.provider.getBlockNumber(),
    timeOf(hre),
    hre.ethers.getSigners(),
  ]);
  const accounts = signers.map(({ address }) => address);
  const copy = environmentOf(hre, forkedConfig(hre, Number(chainId), block), accounts);
  for (const account of accounts) await copy.network.provider.send("hardhat_impersonateAccount", [account]);
  // A block of its own, at the chain's time: it executes none of the chain's.
  await copy.network.provider.send("evm_setNextBlockTimestamp", [time]);
  await copy.network.provider.send("hardhat_mine", []);
  return { hre: copy, block: block + 1 };
}

function forkedConfig({ config, network }: HardhatRuntimeEnvironment, chainId: number, block: number): HardhatConfig {
  const { url, httpHeaders } = network.config as HttpNetworkConfig;
  const inMemory = config.networks[IN_MEMORY];
  const forking = { enabled: true, url, blockNumber: block, httpHeaders };
  return { ...config, networks: { ...config.networks, [IN_MEMORY]: { ...inMemory, chainId, forking, accounts: [] } } };
}

function environmentOf(
  hre: HardhatRuntimeEnvironment,
  config: HardhatConfig,
  accounts: string[],
): HardhatRuntimeEnvironment {
  const { tasksDSL, environmentExtenders, providerExtenders } = HardhatContext.getHardhatContext();
  const environment: unknown = new Environment(
    config,
    { ...hre.hardhatArguments, network: IN_MEMORY },
    tasksDSL.getTaskDefinitions(),
    tasksDSL.getScopesDefinitions(),
    environmentExtenders,
    hre.userConfig,
    [...providerExtenders, async (provider) => new WithAccounts(provider, accounts)],
  );
  return environment as HardhatRuntimeEnvironment;
}

/** The same session on a copy of the chain: its signer signs as ever, and acts there without its key. */
export async function rehearse(session: Session, { hre }: Copy): Promise<Session> {
  const actor = await hre.ethers.getSigner(session.signer.address);
  return { ...session, hre, licet: connectLicet(session.book, actor), rehearsal: true };
}

interface Move extends Amount {
  from: string;
  to: string;
}

/** A transaction that a task would send. */
export class Rehearsed {
  constructor(
    readonly contract: string,
    readonly call: string,
    readonly gas: bigint,
    /** Money that would change hands. */
    readonly moves: Move[],
  ) {}

  toString(): string {
    const moves = this.moves.map((move) => `; ${textOf(move)} from ${move.from} to ${move.to}`);
    return `${this.contract}.${this.call}: ${this.gas} gas${moves.join("")}`;
  }
}

/** Every transaction on a copy of the chain. */
export async function transactionsOn({ hre, block }: Copy, book: AddressBook, money: Money): Promise<Rehearsed[]> {
  const { provider } = hre.ethers;
  const latest = await provider.getBlockNumber();
  const hashes: string[] = [];
  for (let number = block + 1; number <= latest; number++) {
    hashes.push(...(await provider.getBlock(number))!.transactions);
  }
  return Promise.all(hashes.map((hash) => describe(provider, hash, book, money)));
}

async function describe(provider: Provider, hash: string, book: AddressBook, money: Money): Promise<Rehearsed> {
  const [transaction, receipt] = await Promise.all([
    provider.getTransaction(hash),
    provider.getTransactionReceipt(hash),
  ]);
  const target = receipt!.contractAddress ?? receipt!.to!;
  return new Rehearsed(
    nameOf(target, book),
    receipt!.contractAddress === null ? callOf(transaction!.data, book) : "constructor",
    receipt!.gasUsed,
    movesIn(receipt!, book, money),
  );
}

/** All functions of the contracts. */
const functions = new Interface(
  Object.values(factories).flatMap((factory) =>
    "abi" in factory ? [...factory.abi].filter(({ type }) => type === "function") : [],
  ),
);

/** A call for people: contract, function and arguments. */
export const describeCall = (target: string, data: string, book: AddressBook): string =>
  `${nameOf(target, book)}.${callOf(data, book)}`;

function callOf(data: string, book: AddressBook): string {
  const parsed = functions.parseTransaction({ data });
  if (parsed === null) return data.slice(0, 10);
  const values = parsed.fragment.inputs.map((input, i) => `${input.name} ${sayArgument(input, parsed.args[i], book)}`);
  return `${parsed.name}(${values.join(", ")})`;
}

const LONGEST_BYTES = 66;

function sayArgument(type: ParamType, value: unknown, book: AddressBook): string {
  if (type.isArray())
    return `[${(value as unknown[]).map((item) => sayArgument(type.arrayChildren, item, book)).join(", ")}]`;
  if (type.isTuple()) {
    const fields = type.components.map(
      (field, i) => `${field.name} ${sayArgument(field, (value as unknown[])[i], book)}`,
    );
    return `{${fields.join(", ")}}`;
  }
  const text = type.type === "address" ? nameOf(String(value), book) : String(value);
  return type.type === "bytes" && text.length > LONGEST_BYTES ? `${text.length / 2 - 1} bytes` : text;
}

function movesIn(receipt: TransactionReceipt, book: AddressBook, money: Money): Move[] {
  return receipt.logs
    .filter(({ address, topics }) => address === book.currency && topics[0] === transferred)
    .map(({ topics, data }) => {
      const [from, to, units] = currency.decodeEventLog("Transfer", data, topics);
      return { from: nameOf(from, book), to: nameOf(to, book), ...money.of(units) };
    });
}

const currency = factories.TestCurrency__factory.createInterface();
const transferred = currency.getEvent("Transfer").topicHash;

const nameOf = (address: string, { contracts }: AddressBook): string =>
  Object.entries(contracts).find(([, at]) => at === address)?.[0] ?? address;
