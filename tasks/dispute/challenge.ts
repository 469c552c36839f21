import { ZeroHash } from "ethers";
import { MalformedMessage, receiptDigest, recoverSigner } from "../../oracle/protocol/messages";
import type { Receipt, SignedReceipt } from "../../oracle/protocol/types";
import { reasonOf } from "../../oracle/problem";
import { ownAccountOf } from "../license/show";
import {
  allow,
  bytes32,
  eventOf,
  licenseId,
  optional,
  Problem,
  readReceipt,
  requireFunds,
  saySteps,
  send,
  sendingTask,
  text,
  type Session,
  type TaskRecord,
} from "../support";
import { entryOf, escrowDomain, findCharge, requireOpen, type FoundCharge } from "./charge";
import { showChallenge } from "./show";

export interface OpenChallenge {
  license: bigint;
  /** The batch; without it, the only one whose charge can be challenged, or that the receipt stands in. */
  batch?: string;
  /** File of the receipt that is doubted; the whole entry if it isn't named. */
  receipt?: string;
  /** Where the reasons are. */
  uri: string;
}

/** Challenges what a license of the signer's was charged, for a bond, which it says first. */
export async function openChallenge(session: Session, args: OpenChallenge): Promise<TaskRecord> {
  const { licet, money } = session;
  await ownAccountOf(session, args.license);
  const doubted = args.receipt === undefined ? undefined : readReceipt(args.receipt, "--receipt");
  const charge = await findCharge(session, { ...args, receipt: doubted?.receipt });
  requireOpen(charge);
  const entry = await entryOf(session, charge);
  if (doubted !== undefined) await requireOf(session, charge, doubted);

  const bond = await licet.court.bondFor(charge.charged);
  await requireFunds(session, bond);
  saySteps(`challenging a charge of ${money.textOf(charge.charged)}, for a bond of ${money.textOf(bond)}`);
  await allow(session, await licet.court.getAddress(), bond);
  const { receipt, signature } = doubted ?? NO_RECEIPT;
  const sent = await send(licet.court.challenge, entry, { receipt, signature }, args.uri);
  const { challengeId } = eventOf(sent, "ChallengeOpened");
  return { paid: money.of(bond), ...(await showChallenge(session, { challenge: challengeId as bigint })) };
}

/** @throws Problem unless the operator signed the receipt, and the entry sums it up: else the bond's allowance would be for nothing */
async function requireOf(session: Session, charge: FoundCharge, { receipt, signature }: SignedReceipt): Promise<void> {
  const { licet } = session;
  const { manifestHash } = await licet.assets.inferenceOf(charge.versionId);
  const expected = { licenseId: charge.licenseId, operatorId: charge.operatorId, planId: charge.planId, manifestHash };
  const wrong = (Object.keys(expected) as (keyof typeof expected)[]).filter((name) => receipt[name] !== expected[name]);
  const other = wrong.map((name) => `its ${name} is ${receipt[name]}, and the charge's ${expected[name]}`);
  if (receipt.finishedAt < charge.epochStart || receipt.finishedAt >= charge.epochEnd) {
    other.push(`it finished at ${receipt.finishedAt}, out of ${charge.epochStart} to ${charge.epochEnd}`);
  }
  if (other.length > 0) {
    throw new Problem(`Receipt ${receipt.sequence} isn't one of batch ${charge.batchId}: ${other.join("; ")}.`);
  }
  if (receipt.requests === 0n) {
    throw new Problem(`Receipt ${receipt.sequence} is of nothing that was charged: doubt another, or the whole entry.`);
  }
  const signer = signerOf(receiptDigest(await escrowDomain(session), receipt), signature);
  if (await licet.operators.isSigningKey(receipt.operatorId, signer, receipt.finishedAt)) return;
  throw new Problem(
    `Receipt ${receipt.sequence} is signed by ${signer}, which wasn't a key of operator ${receipt.operatorId} then, or was revoked ` +
      "since: challenge the whole entry instead.",
  );
}

function signerOf(digest: string, signature: string): string {
  try {
    return recoverSigner(digest, signature);
  } catch (cause) {
    if (!(cause instanceof MalformedMessage)) throw cause;
    throw new Problem(`The receipt's signature is none (${reasonOf(cause)}): challenge the whole entry instead.`, {
      cause,
    });
  }
}

/** In the place of a receipt, where the whole entry is doubted. */
const NO_RECEIPT: SignedReceipt = {
  receipt: {
    ...{ licenseId: 0n, operatorId: 0, planId: 0, manifestHash: ZeroHash, generation: 0, grantHash: ZeroHash },
    ...{ sequence: 0n, previousHash: ZeroHash, requestId: ZeroHash, requestHash: ZeroHash, responseHash: ZeroHash },
    ...{ requestSignatureHash: ZeroHash, finishedAt: 0, durationMs: 0, ttftMs: 0, requests: 0n, inputTokens: 0n },
    ...{ cachedInputTokens: 0n, outputTokens: 0n, computeMs: 0n, flags: 0 },
  } satisfies Receipt,
  signature: "0x",
};

sendingTask("dispute:challenge", {
  about: "Challenges what a batch charged your license, for a bond: --dry-run says how much",
  example: "--license 1 --receipt receipt.json",
  parameters: {
    license: licenseId(),
    batch: optional(bytes32("The batch's id (default: the only one whose charge can be challenged)")),
    receipt: optional(text("File with the receipt that you doubt, as GET /v1/receipts/{id} gave it (default: all)")),
    uri: optional(text("Where your reasons are"), ""),
  },
  act: openChallenge,
});
