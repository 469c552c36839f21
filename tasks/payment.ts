import { writeFileSync } from "node:fs";
import { hexlify, randomBytes } from "ethers";
import {
  depositHash,
  purchaseHash,
  signPayment,
  type Authorization,
  type Deposit,
  type Purchase,
} from "../oracle/protocol/payments";
import { accountOf, boughtBy, PURCHASE_PARAMETERS, purchaseOf, type BuyLicense } from "./license";
import {
  currencyDomainOf,
  dateOf,
  licenseId,
  optional,
  parseAddress,
  parseBytes,
  period,
  Problem,
  readingTask,
  readJson,
  send,
  sendingTask,
  text,
  timeOf,
  toJson,
  type Session,
  type TaskRecord,
} from "./support";

/** What a payment is for: one of both. */
type Paid = { purchase: Purchase } | { deposit: Deposit };

export interface PayForLicense extends BuyLicense {
  /** Where the payment is written to. */
  out: string;
}

/** Signs a payment for a purchase, for anybody to have made. Nothing is sent to the chain. */
export async function payForLicense(session: Session, { out, ...args }: PayForLicense): Promise<TaskRecord> {
  const { purchase, price } = await purchaseOf(session, args);
  const { planId, operatorId, to, deadline } = purchase;
  const signed = await sign(session, out, { purchase }, price, deadline);
  return { plan: planId, operator: operatorId, owner: to, ...signed };
}

export interface PayForDeposit {
  license: bigint;
  amount: string;
  /** How long it counts, in seconds. */
  deadline: number;
  /** Where the payment is written to. */
  out: string;
}

/** Signs a payment for a deposit, for anybody to have made. Nothing is sent to the chain. */
export async function payForDeposit(session: Session, args: PayForDeposit): Promise<TaskRecord> {
  const { license, out } = args;
  const amount = session.money.parse(args.amount, "--amount");
  if (amount === 0n) throw new Problem("--amount must be above 0.");
  await accountOf(session, license);
  const owner = await session.licet.licenses.ownerOf(license);
  const until = (await timeOf(session.hre)) + args.deadline;
  const signed = await sign(session, out, { deposit: { licenseId: license, owner, amount } }, amount, until);
  return { license, owner, ...signed };
}

async function sign(session: Session, file: string, paid: Paid, value: bigint, until: number): Promise<TaskRecord> {
  const { licet, money, signer } = session;
  const salt = hexlify(randomBytes(32));
  const nonce = nonceOf(paid, salt);
  const escrow = await licet.escrow.getAddress();
  const payment = { escrow, value, validBefore: until + 1, nonce, salt };
  const authorization = await signPayment(signer, await currencyDomainOf(session.licet.currency), payment);
  writeFileSync(file, toJson({ ...paid, authorization }));
  return { payer: signer.address, pays: money.of(value), "counts until": dateOf(until), hash: nonce, file };
}

/** Has a signed payment made, and what it pays for done: anybody may, who pays the gas. */
export async function relayPayment(session: Session, { file }: { file: string }): Promise<TaskRecord> {
  const { escrow } = session.licet;
  const { authorization, ...paid } = readPayment(file);
  const payer = authorization.from;
  if ("purchase" in paid) {
    const { purchase } = paid;
    return {
      payer,
      ...(await boughtBy(session, purchase, await send(escrow.buyWithAuthorization, purchase, authorization))),
    };
  }
  const { licenseId, amount } = paid.deposit;
  await send(escrow.depositWithAuthorization, licenseId, amount, authorization);
  const { balance } = await escrow.accountOf(licenseId);
  return { payer, license: licenseId, deposited: session.money.of(BigInt(amount)), balance: session.money.of(balance) };
}

function nonceOf(paid: Paid, salt: string): string {
  return "purchase" in paid ? purchaseHash(paid.purchase, salt) : depositHash(paid.deposit, salt);
}

/** @throws Problem unless the file is what `payment:license` or `payment:deposit` has written */
function readPayment(file: string): Paid & { authorization: Authorization } {
  const written = readJson(file, "--file") as Paid & { authorization: Authorization };
  try {
    const { from, salt, signature } = written.authorization;
    parseAddress(from, "from");
    parseBytes(signature, "signature");
    nonceOf(written, salt);
    return written;
  } catch (cause) {
    throw new Problem(`--file ${file} is no payment: ${(cause as Error).message}`, { cause });
  }
}

const OUT = { out: text("The file that the payment is written to") };

readingTask("payment:license", {
  about: "Signs a payment for a license, for anybody to have made, who pays the gas; nothing is sent to the chain",
  example: "--plan 1 --operator 1 --fund 25 --out payment.json",
  parameters: { ...PURCHASE_PARAMETERS, ...OUT },
  act: payForLicense,
});

readingTask("payment:deposit", {
  about:
    "Signs a payment into a license, anybody's, for anybody to have made, who pays the gas; nothing is sent to the chain",
  example: "--license 1 --amount 25 --out payment.json",
  parameters: {
    license: licenseId(),
    amount: text("Such as 25 or 12.5"),
    deadline: optional(period("How long the payment counts, such as 10m or 1h"), "1h"),
    ...OUT,
  },
  act: payForDeposit,
});

sendingTask("payment:relay", {
  about: "Has a signed payment made, and buys or funds what it is for; anybody may",
  example: "--file payment.json",
  parameters: { file: text("What payment:license or payment:deposit has written") },
  act: relayPayment,
});
