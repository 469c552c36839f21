import { MaxUint256, Signature, type ContractTransactionReceipt } from "ethers";
import type { Purchase } from "../../oracle/protocol/payments";
import {
  address,
  allow,
  currencyDomainOf,
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
  const { escrow } = session.licet;
  const { purchase, price } = await purchaseOf(session, args);
  if (price > 0n) {
    await requireFunds(session, price);
    await allow(session, await escrow.getAddress(), price);
  }
  return boughtBy(session, purchase, await send(escrow.buy, purchase));
}

/** What to have bought, and what it costs now. @throws Problem if that is more than it may cost */
export async function purchaseOf(session: Session, args: BuyLicense): Promise<{ purchase: Purchase; price: bigint }> {
  const units = session.money.parse(args.fund ?? "0", "--fund");
  const capCode = args.cap === undefined ? 0 : capCodeOf(args.cap);
  const { upfrontPrice } = await session.licet.licenses.termsOf(args.plan);
  const price = upfrontPrice + units;
  const maxPrice = args.maxPrice === undefined ? price : session.money.parse(args.maxPrice, "--max-price");
  if (price > maxPrice) {
    const [cost, most] = [price, maxPrice].map((amount) => session.money.textOf(amount));
    throw new Problem(`It costs ${cost} in all, more than the --max-price of ${most}: nothing was bought.`);
  }
  const purchase = {
    planId: args.plan,
    operatorId: args.operator,
    to: args.to ?? session.signer.address,
    capCode,
    amount: units,
    maxPrice,
    deadline: (await timeOf(session.hre)) + (args.deadline ?? parsePeriod(DEADLINE, "--deadline")),
  };
  return { purchase, price };
}

/** What a purchase has brought. */
export async function boughtBy(
  { licet, money }: Session,
  { planId, operatorId, to, capCode, amount }: Purchase,
  receipt: ContractTransactionReceipt,
): Promise<TaskRecord & { license: bigint }> {
  const bought = eventOf(receipt, "LicenseBought");
  const { upfrontPrice } = await licet.licenses.termsOf(planId);
  return {
    license: bought.licenseId as bigint,
    plan: planId,
    operator: operatorId,
    owner: to,
    "term ends": dateOf(bought.expiresAt),
    "own cap": capCode === 0 ? "none" : money.of(await licet.escrow.capOf(capCode)),
    "upfront price": money.of(upfrontPrice),
    funded: money.of(BigInt(amount)),
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

async function signPermit(session: Session, value: bigint): Promise<Signature> {
  const { licet, signer } = session;
  const [domain, nonce, spender] = await Promise.all([
    currencyDomainOf(licet.currency),
    licet.currency.nonces(signer.address),
    licet.escrow.getAddress(),
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
  return Signature.from(await signer.signTypedData(domain, types, permit));
}

export const PURCHASE_PARAMETERS = {
  plan: planId(),
  operator: operatorId("The id of the operator that will serve it"),
  to: optional(address("Who will own it (default: you)")),
  cap: optional(text("Your own cap a term, in whole units of the currency, rounded down to one of 255 steps")),
  fund: optional(text("First deposit, such as 25 or 12.5")),
  maxPrice: optional(text("The most to pay in all, such as 30 (default: what it costs now)")),
  deadline: optional(period("How long the purchase counts, such as 10m or 1h"), DEADLINE),
};

sendingTask("license:buy", {
  about: "Buys a license",
  example: "--plan 1 --operator 1 --fund 25 --cap 100",
  parameters: PURCHASE_PARAMETERS,
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
