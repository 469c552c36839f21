import { formatUnits, parseUnits, type ContractTransactionResponse, type EventLog } from "ethers";
import { task, types } from "hardhat/config";
import type { ConfigurableTaskDefinition, HardhatRuntimeEnvironment } from "hardhat/types";
import { NotDeployed, readAddressBook, type AddressBook } from "../deploy/addressBook";
import { connectLicet, type Licet } from "../deploy/deploy";
import { refusalOf } from "../oracle/chain/refusal";
import { Problem } from "../oracle/problem";

/** What a task works with: a deployment, who acts, and the currency's units. */
export interface Session {
  hre: HardhatRuntimeEnvironment;
  book: AddressBook;
  licet: Licet;
  signer: Awaited<ReturnType<HardhatRuntimeEnvironment["ethers"]["getSigner"]>>;
  money: Money;
}

/** An amount as tasks print it: in whole units of the currency, and in its smallest ones. */
export interface Amount {
  amount: string;
  symbol: string;
  units: bigint;
}

/** The currency of a deployment, for people. */
export class Money {
  constructor(
    readonly symbol: string,
    private readonly decimals: number,
  ) {}

  /** @throws if `text` is no amount of at most the currency's decimals that is 0 or more */
  parse(text: string, name: string): bigint {
    if (!/^\d+(\.\d+)?$/.test(text)) {
      throw new UserError(`${name} must be an amount of ${this.symbol} such as 12.5; it is "${text}".`);
    }
    try {
      return parseUnits(text, this.decimals);
    } catch {
      throw new UserError(`${name} may have at most ${this.decimals} decimals; it is "${text}".`);
    }
  }

  of(units: bigint): Amount {
    return { amount: formatUnits(units, this.decimals), symbol: this.symbol, units };
  }
}

/** Something that the user can put right: its message says how, and no stack is shown. */
export class UserError extends Error {
  override name = "UserError";
}

/** Opens the deployment of the network at hand for its `account`-th account. */
export async function openSession(hre: HardhatRuntimeEnvironment, account: number): Promise<Session> {
  const book = readAddressBook(hre.config.paths.root, hre.network.name);
  return sessionOf(hre, book, account);
}

export async function sessionOf(hre: HardhatRuntimeEnvironment, book: AddressBook, account: number): Promise<Session> {
  const signers = await hre.ethers.getSigners();
  const signer = signers[account];
  if (signer === undefined) {
    throw new UserError(`--account ${account}: network ${hre.network.name} has accounts 0 to ${signers.length - 1}.`);
  }
  const { chainId } = await hre.ethers.provider.getNetwork();
  if (chainId.toString() !== book.chainId) {
    throw new UserError(
      `The address book is of chain ${book.chainId}, and ${hre.network.name} is chain ${chainId}: ` +
        `check --network, or deploy anew.`,
    );
  }
  if ((await hre.ethers.provider.getCode(book.contracts.UsageEscrow)) === "0x") {
    throw new UserError(
      `No contract is at ${book.contracts.UsageEscrow} any more: the chain was started anew. ` +
        `Deploy again, with \`npx hardhat deploy --network ${hre.network.name}\`.`,
    );
  }
  const licet = connectLicet(book, signer);
  const [symbol, decimals] = await Promise.all([licet.currency.symbol(), licet.currency.decimals()]);
  return { hre, book, licet, signer, money: new Money(symbol, Number(decimals)) };
}

/** What a task prints and returns: one flat record. */
export type TaskRecord = Record<string, unknown>;

/**
 * Defines a task that opens a session, acts, and prints one record: a table for people, or JSON with `--json`.
 * Every such task takes `--account`, the number of the network's account that acts.
 */
export function licetTask<Args>(
  name: string,
  description: string,
  act: (session: Session, args: Args) => Promise<TaskRecord>,
): ConfigurableTaskDefinition {
  return task(name, description)
    .addOptionalParam("account", "Number of the account that acts", 0, types.int)
    .addFlag("json", "Print JSON")
    .setAction(async (args: Args & { account: number; json: boolean }, hre) =>
      report(args.json, async () => act(await openSession(hre, args.account), args)),
    );
}

/** Runs `work` and prints its record. */
export function report(json: boolean, work: () => Promise<TaskRecord>): Promise<TaskRecord | undefined> {
  return explain(async () => {
    const record = await work();
    console.log(json ? toJson(record) : toTable(record));
    return record;
  });
}

/** Runs `work`; what the user can put right, and what the chain refused, is said in a sentence, with exit code 1. */
export async function explain<T>(work: () => Promise<T>): Promise<T | undefined> {
  try {
    return await work();
  } catch (error) {
    const isSentence = error instanceof UserError || error instanceof NotDeployed || error instanceof Problem;
    const refusal = isSentence ? undefined : refusalOf(error);
    if (refusal === undefined && !isSentence) throw error;
    console.error(refusal === undefined ? (error as Error).message : `The chain refused: ${refusal}`);
    process.exitCode = 1;
    return undefined;
  }
}

function toTable(record: TaskRecord): string {
  const width = Math.max(0, ...Object.keys(record).map((key) => key.length));
  return Object.entries(record)
    .map(([key, value]) => `${key.padEnd(width)}  ${toText(value)}`)
    .join("\n");
}

/** An amount for people: `12.5 USD (12500000 units)`. */
export const textOf = ({ amount, symbol, units }: Amount): string => `${amount} ${symbol} (${units} units)`;

function toText(value: unknown): string {
  if (isAmount(value)) return textOf(value);
  if (value instanceof Date) return value.toISOString();
  if (Array.isArray(value)) return value.map(toText).join(", ") || "none";
  return String(value);
}

const isAmount = (value: unknown): value is Amount =>
  typeof value === "object" && value !== null && "units" in value && "symbol" in value;

/** JSON with big integers as decimal strings. */
export const toJson = (value: unknown): string =>
  JSON.stringify(value, (_key, field) => (typeof field === "bigint" ? field.toString() : field), 2);

/** The arguments of the one event `name` that a transaction's contract emitted. */
export async function eventOf(transaction: ContractTransactionResponse, name: string): Promise<EventLog["args"]> {
  const receipt = await transaction.wait();
  const event = receipt!.logs.find((log): log is EventLog => "eventName" in log && log.eventName === name);
  if (event === undefined) throw new Error(`Transaction ${transaction.hash} emitted no ${name}.`);
  return event.args;
}

const SECONDS: Record<string, number> = { s: 1, m: 60, h: 3600, d: 86_400 };

/** Seconds of a length of time such as 90s, 30m, 12h or 30d. */
export function parsePeriod(text: string, name: string): number {
  const match = /^(\d+)([smhd])$/.exec(text);
  if (match === null) throw new UserError(`${name} must be a length of time such as 30m, 12h or 30d; it is "${text}".`);
  return Number(match[1]) * SECONDS[match[2]];
}

/** A date for people; seconds since 1970 as the contracts have it. */
export const dateOf = (seconds: bigint | number): Date => new Date(Number(seconds) * 1000);

/** Gives the spender an allowance of exactly `units`, where it has less. */
export async function allow(session: Session, spender: string, units: bigint): Promise<void> {
  const { currency } = session.licet;
  const owner = session.signer.address;
  if ((await currency.allowance(owner, spender)) >= units) return;
  await (await currency.approve(spender, units)).wait();
}

/** @throws with what to do, if the signer has less than `units` */
export async function requireFunds(session: Session, units: bigint): Promise<void> {
  const held = await session.licet.currency.balanceOf(session.signer.address);
  if (held >= units) return;
  const { amount, symbol } = session.money.of(units);
  throw new UserError(
    `${session.signer.address} has ${session.money.of(held).amount} ${symbol} and needs ${amount}: send it the rest.`,
  );
}
