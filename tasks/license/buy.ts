import { MaxUint256, Signature } from "ethers";
import {
  address,
  allow,
  dateOf,
  eventOf,
  flag,
  licenseId,
  operatorId,
  optional,
  parsePeriod,
  period,
  planId,
  Problem,
  requireFunds,
  send,
  sendingTask,
  text,
  timeOf,
  type Session,
  type TaskRecord,
} from "../support";
import { capCodeOf } from "./cap";

export interface BuyLicense {
  plan: number;
  operator: number;
  /** Who will own it; the signer if it isn't named. */
  to?: string;
  /** The licensee's own cap a term, in whole units of the currency. */
  cap?: string;
  /** First deposit. */
  fund?: string;
  /** The most to pay in all; what it costs now, if it isn't named. */
  maxPrice?: string;
  /** How long the purchase counts, in seconds. */
  deadline?: number;
}

/** Long enough for a transaction to be mined. */
const DEADLINE = "1h";

/** Buys a license under a plan, served by an operator, and funds it. */
export async function buyLicense(session: Session, args: BuyLicense): Promise<TaskRecord & { license: bigint }> {
  const { escrow, licenses } = session.licet;
  const units = session.money.parse(args.fund ?? "0", "--fund");
  const capCode = args.cap === undefined ? 0 : capCodeOf(args.cap);
  const { upfrontPrice } = await licenses.termsOf(args.plan);
  const price = upfrontPrice + units;
  const maxPrice = args.maxPrice === undefined ? price : session.money.parse(args.maxPrice, "--max-price");
  if (price > maxPrice) {
    const [cost, most] = [price, maxPrice].map((amount) => session.money.textOf(amount));
    throw new Problem(`It costs ${cost} in all, more than the --max-price of ${most}: nothing was bought.`);
  }
  if (price > 0n) {
    await requireFunds(session, price);
    await allow(session, await escrow.getAddress(), price);
  }
  const to = args.to ?? session.signer.address;
  const purchase = {
    planId: args.plan,
    operatorId: args.operator,
    to,
    capCode,
    amount: units,
    maxPrice,
    deadline: (await timeOf(session.hre)) + (args.deadline ?? parsePeriod(DEADLINE, "--deadline")),
  };
  const bought = eventOf(await send(escrow.buy, purchase), "LicenseBought");
  return {
    license: bought.licenseId as bigint,
    plan: args.plan,
    operator: args.operator,
    owner: to,
    "term ends": dateOf(bought.expiresAt),
    "own cap": capCode === 0 ? "none" : session.money.of(await escrow.capOf(capCode)),
    "upfront price": session.money.of(upfrontPrice),
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
    await send(escrow.depositWithPermit, args.license, units, MaxUint256, v, r, s);
  } else {
    await allow(session, await escrow.getAddress(), units);
    await send(escrow.deposit, args.license, units);
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

sendingTask("license:buy", {
  about: "Buys a license",
  example: "--plan 1 --operator 1 --fund 25 --cap 100",
  parameters: {
    plan: planId(),
    operator: operatorId("The id of the operator that will serve it"),
    to: optional(address("Who will own it (default: you)")),
    cap: optional(text("Your own cap a term, in whole units of the currency, rounded down to one of 255 steps")),
    fund: optional(text("First deposit, such as 25 or 12.5")),
    maxPrice: optional(text("The most to pay in all, such as 30 (default: what it costs now)")),
    deadline: optional(period("How long the purchase counts, such as 10m or 1h"), DEADLINE),
  },
  act: buyLicense,
});

sendingTask("license:fund", {
  about: "Funds a license, anybody's",
  example: "--license 1 --amount 25",
  parameters: {
    license: licenseId(),
    amount: text("Such as 25 or 12.5"),
    permit: flag("Sign an EIP-2612 permit instead of sending an approval"),
  },
  act: fundLicense,
});
