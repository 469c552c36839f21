import { hexlify, MaxUint256, randomBytes, Signature, ZeroAddress } from "ethers";
import { types } from "hardhat/config";
import { encodeBearer, GRANT_TYPES, grantDigest } from "../oracle/protocol/messages";
import type { Grant } from "../oracle/protocol/types";
import {
  allow,
  dateOf,
  eventOf,
  licetTask,
  parsePeriod,
  requireFunds,
  UserError,
  type Session,
  type TaskRecord,
} from "./support";

export interface BuyLicense {
  plan: number;
  operator: number;
  /** Who will own it; the signer if it isn't named. */
  to?: string;
  /** The licensee's own cap a term, in whole units of the currency. */
  cap?: string;
  /** First deposit. */
  fund?: string;
}

/** Buys a license under a plan, served by an operator, and funds it. */
export async function buyLicense(session: Session, args: BuyLicense): Promise<TaskRecord & { license: bigint }> {
  const { escrow } = session.licet;
  const units = session.money.parse(args.fund ?? "0", "--fund");
  const capCode = args.cap === undefined ? 0 : capCodeOf(args.cap);
  if (units > 0n) {
    await requireFunds(session, units);
    await allow(session, await escrow.getAddress(), units);
  }
  const to = args.to ?? session.signer.address;
  const bought = await eventOf(await escrow.buy(args.plan, args.operator, to, capCode, units), "LicenseBought");
  return {
    license: bought.licenseId as bigint,
    plan: args.plan,
    operator: args.operator,
    owner: to,
    "term ends": dateOf(bought.expiresAt),
    "own cap": capCode === 0 ? "none" : session.money.of(await escrow.capOf(capCode)),
    funded: session.money.of(units),
  };
}

export interface FundLicense {
  license: bigint;
  amount: string;
  /** Sign an EIP-2612 permit instead of sending an approval. */
  permit?: boolean;
}

/** Funds a license, anybody's, from the signer's money. */
export async function fundLicense(session: Session, args: FundLicense): Promise<TaskRecord> {
  const { escrow } = session.licet;
  const units = session.money.parse(args.amount, "--amount");
  await requireFunds(session, units);
  if (args.permit === true) {
    const { v, r, s } = await signPermit(session, units);
    await (await escrow.depositWithPermit(args.license, units, MaxUint256, v, r, s)).wait();
  } else {
    await allow(session, await escrow.getAddress(), units);
    await (await escrow.deposit(args.license, units)).wait();
  }
  const { balance } = await escrow.accountOf(args.license);
  return { license: args.license, deposited: session.money.of(units), balance: session.money.of(balance) };
}

async function signPermit({ licet, signer }: Session, value: bigint): Promise<Signature> {
  const { currency, escrow } = licet;
  const [{ name, version, chainId, verifyingContract }, nonce, spender] = await Promise.all([
    currency.eip712Domain(),
    currency.nonces(signer.address),
    escrow.getAddress(),
  ]);
  const types = {
    Permit: [
      { name: "owner", type: "address" },
      { name: "spender", type: "address" },
      { name: "value", type: "uint256" },
      { name: "nonce", type: "uint256" },
      { name: "deadline", type: "uint256" },
    ],
  };
  const permit = { owner: signer.address, spender, value, nonce, deadline: MaxUint256 };
  return Signature.from(await signer.signTypedData({ name, version, chainId, verifyingContract }, types, permit));
}

export interface GrantUse {
  license: bigint;
  /** How long it is valid. */
  valid: string;
  /** The most that may be spent under it; no limit of its own if it isn't named. */
  cap?: string;
}

/** Signs a grant of the signer's license: the API key. Nothing is sent to the chain. */
export async function grantUse(session: Session, args: GrantUse): Promise<TaskRecord & { key: string; hash: string }> {
  const { escrow, licenses } = session.licet;
  const account = await escrow.accountOf(args.license);
  if (account.planId === 0n) throw new UserError(`--license ${args.license}: no such license.`);
  const owner = await licenses.ownerOf(args.license);
  if (owner !== session.signer.address) {
    throw new UserError(`License ${args.license} is ${owner}'s, and only its owner can sign grants of it.`);
  }
  const notBefore = (await session.hre.ethers.provider.getBlock("latest"))!.timestamp;
  const grant: Grant = {
    licenseId: args.license,
    key: ZeroAddress,
    cap: session.money.parse(args.cap ?? "0", "--cap"),
    notBefore,
    expiresAt: notBefore + parsePeriod(args.valid, "--valid"),
    generation: Number(account.generation),
    salt: hexlify(randomBytes(32)),
  };
  const { chainId } = await session.hre.ethers.provider.getNetwork();
  const domain = {
    name: "Licet UsageEscrow",
    version: "1",
    chainId,
    verifyingContract: await escrow.getAddress(),
  };
  const signature = await session.signer.signTypedData(domain, GRANT_TYPES, grant);
  return {
    license: args.license,
    cap: grant.cap === 0n ? "none" : session.money.of(grant.cap),
    "valid until": dateOf(grant.expiresAt),
    generation: grant.generation,
    hash: grantDigest(domain, grant),
    key: encodeBearer({ grant, signature }),
  };
}

/** Everything about a license. */
export async function showLicense(session: Session, args: { license: bigint }): Promise<TaskRecord> {
  const { escrow, licenses } = session.licet;
  const account = await escrow.accountOf(args.license);
  if (account.planId === 0n) throw new UserError(`--license ${args.license}: no such license.`);
  const { money } = session;
  return {
    license: args.license,
    owner: await licenses.ownerOf(args.license),
    plan: account.planId,
    operator: account.operatorId,
    balance: money.of(account.balance),
    "spent this term": money.of(account.spent),
    "own cap a term": account.capCode === 0n ? "none" : money.of(await escrow.capOf(account.capCode)),
    "lower cap": account.capCutCode === 0n ? "none announced" : money.of(await escrow.capOf(account.capCutCode)),
    term: account.term,
    "term ends": dateOf(account.expiresAt),
    generation: account.generation,
    road: account.onVoucherRoad ? "vouchers" : "attested",
    thawing: money.of(account.thawing),
    "thaw ready": account.thawing === 0n ? "nothing thaws" : dateOf(account.thawReadyAt),
  };
}

/** The highest cap code that stands for at most `text` whole units of the currency. */
export function capCodeOf(text: string): number {
  const whole = Math.floor(Number(text));
  if (!(whole >= SMALLEST_CAP)) {
    throw new UserError(`--cap must be at least ${SMALLEST_CAP} whole units of the currency; it is "${text}".`);
  }
  let code = 1;
  while (code < 255 && capOfCode(code + 1) <= whole) code++;
  return code;
}

const capOfCode = (code: number): number => (8 | (code & 7)) * 2 ** (code >> 3);
const SMALLEST_CAP = capOfCode(1);

licetTask("license:buy", "Buys a license", buyLicense)
  .addParam("plan", "The plan's id", undefined, types.int)
  .addParam("operator", "The operator that will serve it", undefined, types.int)
  .addOptionalParam("to", "Who will own it (default: the buyer)")
  .addOptionalParam("cap", "Your own cap a term, in whole units of the currency, rounded down to one of 255 steps")
  .addOptionalParam("fund", "First deposit, such as 25 or 12.5");

licetTask("license:fund", "Funds a license, anybody's", fundLicense)
  .addParam("license", "The license's id", undefined, types.bigint)
  .addParam("amount", "Such as 25 or 12.5")
  .addFlag("permit", "Sign an EIP-2612 permit instead of sending an approval");

licetTask("license:grant", "Signs a grant of your license: the API key", grantUse)
  .addParam("license", "The license's id", undefined, types.bigint)
  .addOptionalParam("valid", "How long it is valid, such as 12h or 30d", "30d")
  .addOptionalParam("cap", "The most that may be spent under it, such as 5");

licetTask("license:show", "Shows all about a license", showLicense).addParam(
  "license",
  "The license's id",
  undefined,
  types.bigint,
);
