import { VoidSigner, ZeroAddress, type Signer } from "ethers";
import type { HardhatRuntimeEnvironment } from "hardhat/types";
import { readAddressBook, type AddressBook } from "../../deploy/addressBook";
import { connectLicet, type Licet } from "../../deploy/deploy";
import { pendingTime } from "../../oracle/chain/ethersChain";
import { coinOf, Money, textOf } from "./money";
import { send } from "./send";
import { Problem } from "../../oracle/problem";

/** What a task works with: a deployment, who acts, and the currency's units. */
export interface Session {
  hre: HardhatRuntimeEnvironment;
  book: AddressBook;
  /** Its transactions are the signer's. */
  licet: Licet;
  signer: Account;
  money: Money;
  /** Whether this is a copy of the chain, on which a task is only tried: it must write no file. */
  rehearsal: boolean;
}

/** Who acts, or looks on. */
export type Account = Signer & { readonly address: string };

/** The network's `account`-th account. */
export async function accountOf(hre: HardhatRuntimeEnvironment, account: number): Promise<Account> {
  const signers = await hre.ethers.getSigners();
  if (signers.length === 0) {
    throw new Problem(`Network ${hre.network.name} has no account to act for: set LICET_PRIVATE_KEY.`);
  }
  if (signers[account] === undefined) {
    throw new Problem(`--account ${account}: network ${hre.network.name} has accounts 0 to ${signers.length - 1}.`);
  }
  return signers[account];
}

/** The network's `account`-th account, or on a network without accounts somebody who can only look. */
async function onlookerOf(hre: HardhatRuntimeEnvironment, account: number): Promise<Account> {
  const signers = await hre.ethers.getSigners();
  return signers.length === 0 ? new VoidSigner(ZeroAddress, hre.ethers.provider) : accountOf(hre, account);
}

/** Opens the deployment of the network at hand for its `account`-th account. */
export async function openSession(
  hre: HardhatRuntimeEnvironment,
  account: number,
  { onlyToLook = false } = {},
): Promise<Session> {
  const book = readAddressBook(hre.config.paths.root, hre.network.name);
  return openBook(hre, book, await (onlyToLook ? onlookerOf : accountOf)(hre, account));
}

/** Opens a deployment for the network's `account`-th account. */
export async function sessionOf(hre: HardhatRuntimeEnvironment, book: AddressBook, account: number): Promise<Session> {
  return openBook(hre, book, await accountOf(hre, account));
}

async function openBook(hre: HardhatRuntimeEnvironment, book: AddressBook, signer: Account): Promise<Session> {
  const { chainId } = await hre.ethers.provider.getNetwork();
  if (chainId.toString() !== book.chainId) {
    throw new Problem(
      `The address book is of chain ${book.chainId}, and ${hre.network.name} is chain ${chainId}: ` +
        `check --network, or deploy anew.`,
    );
  }
  if ((await hre.ethers.provider.getCode(book.contracts.UsageEscrow)) === "0x") {
    throw new Problem(
      `No contract is at ${book.contracts.UsageEscrow} any more: the chain was started anew. ` +
        `Deploy again, with \`npx hardhat deploy --network ${hre.network.name}\`.`,
    );
  }
  const licet = connectLicet(book, signer);
  return { hre, book, licet, signer, money: await moneyOf(licet), rehearsal: false };
}

/** The currency of a deployment. */
export async function moneyOf({ currency }: Licet): Promise<Money> {
  const [symbol, decimals] = await Promise.all([currency.symbol(), currency.decimals()]);
  return new Money(symbol, Number(decimals));
}

/** The chain's time, in Unix seconds: of the block to come, or of the latest where the node doesn't tell of that. */
export async function timeOf({ ethers }: HardhatRuntimeEnvironment): Promise<number> {
  return (await pendingTime(ethers.provider)) ?? (await ethers.provider.getBlock("latest"))!.timestamp;
}

/** Gives the spender an allowance of exactly `units`, where it has less. */
export async function allow(session: Session, spender: string, units: bigint): Promise<void> {
  const { currency } = session.licet;
  const owner = session.signer.address;
  if ((await currency.allowance(owner, spender)) >= units) return;
  await send(currency.approve, spender, units);
}

/** @throws Problem with what to do, if the signer has less than `units` */
export async function requireFunds(session: Session, units: bigint): Promise<void> {
  const held = await session.licet.currency.balanceOf(session.signer.address);
  if (held >= units) return;
  const { amount, symbol } = session.money.of(units);
  throw new Problem(
    `${session.signer.address} has ${session.money.of(held).amount} ${symbol} and needs ${amount}: send it the rest.`,
  );
}

/** @throws Problem with what to do, if the signer has less than `wei` of native coin; gas comes on top */
export async function requireCoin({ hre, signer }: Session, wei: bigint): Promise<void> {
  const held = await hre.ethers.provider.getBalance(signer.address);
  if (held >= wei) return;
  throw new Problem(
    `${signer.address} has ${textOf(coinOf(held))} and needs ${textOf(coinOf(wei))}: send it the rest.`,
  );
}
