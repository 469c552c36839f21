import { receiptDigest } from "../../oracle/protocol/messages";
import type { Receipt } from "../../oracle/protocol/types";
import { entryOf, escrowDomain, findCharge, requireOpen } from "../dispute/charge";
import { requireProven } from "../dispute/prove";
import { requestProofsIn } from "../dispute/requests";
import { readProof } from "../zk";
import {
  bytes32,
  dateOf,
  eventOf,
  licenseId,
  listOf,
  Problem,
  send,
  sendingTask,
  text,
  type Session,
  type TaskRecord,
} from "../support";

export interface ProveCharge {
  license: bigint;
  batch: string;
  /** The operator's store. */
  store: string;
  /** Files of proofs, one of each receipt. */
  proofs: string[];
}

/** Proves all receipts of a charge before anybody doubts them: what is left of its hold becomes a quarter. */
export async function proveCharge(session: Session, args: ProveCharge): Promise<TaskRecord> {
  const { licet, money } = session;
  const charge = await findCharge(session, args);
  if (charge.state.isProven)
    throw new Problem(`What batch ${args.batch} charged license ${args.license} was proven before.`);
  requireOpen(charge);
  const domain = await escrowDomain(session);
  const requests = await requestProofsIn(args.store, args.batch, args.license);
  const made = new Map(args.proofs.map((file) => [file, readProof(file, "--proofs")]));
  const proofs: string[] = [];
  for (const { receipt: asked } of requests) {
    const receipt = asked as Receipt;
    const receiptHash = receiptDigest(domain, receipt);
    const own = [...made.values()].find((proof) => proof.receiptHash === receiptHash);
    if (own === undefined) {
      throw new Problem(
        `--proofs has none of receipt ${receipt.sequence} (${receiptHash}): a charge is proven by all of its ${requests.length}.`,
      );
    }
    await requireProven(session, { versionId: charge.versionId, receipt, receiptHash, proof: own.proof });
    proofs.push(own.proof);
  }
  const sent = await send(licet.reports.proveCharge, await entryOf(session, charge), requests, proofs);
  return {
    license: args.license,
    batch: args.batch,
    charged: money.of(charge.charged),
    "receipts proven": proofs.length,
    "was held until": dateOf(charge.state.releasableAt),
    "can be released from": dateOf(eventOf(sent, "ChargeProven").releasableAt as bigint),
  };
}

sendingTask("report:prove-charge", {
  about: "Proves all receipts of a charge before anybody doubts them: a quarter of what is left of its hold remains",
  example: `--license 1 --batch 0x${"ab".repeat(32)} --store data/operator/operator.sqlite --proofs one.json,two.json`,
  parameters: {
    license: licenseId(),
    batch: bytes32("The batch that charged it"),
    store: text("Your store: operator.sqlite in its dataFolder"),
    proofs: listOf(text("Files of proofs, as zk:prove wrote them, with commas between them")),
  },
  act: proveCharge,
});
