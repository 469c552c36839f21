import { referenceTo } from "../../oracle/disputes/reference";
import { sumUsage } from "../../oracle/protocol/meters";
import { METERS } from "../../oracle/protocol/types";
import { optional, Problem, requireOne, send, sendingTask, text, type Session, type TaskRecord } from "../support";
import { receiptsIn, requestProofsIn } from "./requests";
import { challengeNumber, challengeOf, showChallenge, statusOf, type Challenge } from "./show";

/** So many fit in a transaction, whatever accounts have signed their grants. */
const SHOWN_AT_ONCE = 50;

export interface AnswerChallenge {
  challenge: bigint;
  /** Where the data is. */
  data?: string;
  /** Or the operator's store, whose receipts the answer names. */
  store?: string;
}

/** Answers a challenge with data, for the operator. */
export async function answerChallenge(session: Session, { challenge, ...args }: AnswerChallenge): Promise<TaskRecord> {
  const found = await challengeOf(session, challenge);
  requireOne({ "--data": args.data, "--store": args.store });
  const data = args.data ?? (await referenceIn(session, args.store!, found));
  if (data === "") throw new Problem("--data must say where what was charged can be looked up; it is empty.");
  await send(session.licet.court.answer, challenge, data);
  return { answer: data, ...(await showChallenge(session, { challenge })) };
}

/** @throws Problem unless the store has just what was charged: who answers stands by that, with stake */
async function referenceIn(
  { licet }: Session,
  store: string,
  { chargeId, licenseId, usage }: Challenge,
): Promise<string> {
  const { batchId } = await licet.escrow.chargeRecordOf(chargeId);
  const receipts = await receiptsIn(store, batchId, licenseId);
  const sum = sumUsage(receipts.map(({ receipt }) => receipt));
  const other = METERS.filter((meter) => sum[meter] !== usage[meter]);
  if (other.length === 0) return referenceTo(batchId, receipts);
  throw new Problem(
    `--store ${store} has ${receipts.length} receipts of license ${licenseId} in the batch, which don't sum up to what was charged: ` +
      `${other.map((meter) => `${meter} ${sum[meter]}, and charged ${usage[meter]}`).join("; ")}. Who answers stands by the ` +
      "charge, with stake: let it be refunded, or rebuild the store if it lost some.",
  );
}

export interface ShowRequests {
  challenge: bigint;
  /** The operator's store. */
  store: string;
}

/** Shows the signatures of all requests that an entry rests on, out of the operator's store; goes on where it broke off. */
export async function showRequests(session: Session, { challenge, store }: ShowRequests): Promise<TaskRecord> {
  const { court, escrow } = session.licet;
  const found = await challengeOf(session, challenge);
  if (statusOf(found) !== "Open") {
    throw new Problem(
      `Challenge ${challenge} is ${statusOf(found).toLowerCase()}: requests are shown before it is answered.`,
    );
  }
  const { batchId } = await escrow.chargeRecordOf(found.chargeId);
  const all = await requestProofsIn(store, batchId, found.licenseId);
  const rest = all.filter(({ receipt }) => String(receipt.requestSignatureHash) > found.shownThrough);
  for (let at = 0; at < rest.length; at += SHOWN_AT_ONCE) {
    await send(court.showRequests, challenge, rest.slice(at, at + SHOWN_AT_ONCE));
  }
  const { shown, usage } = await court.challengeOf(challenge);
  const lacking = METERS.filter((meter) => shown[meter] < usage[meter]);
  return {
    "requests shown": all.length,
    "of the entry still lacking": lacking.map((meter) => `${usage[meter] - shown[meter]} ${meter}`),
    ...(await showChallenge(session, { challenge })),
  };
}

const challenge = challengeNumber();

sendingTask("dispute:answer", {
  about: "Answers a challenge of what your operator charged, with data: it stands unless the challenger escalates it",
  example: "--challenge 1 --store data/operator/operator.sqlite --account 2",
  parameters: {
    challenge,
    data: optional(text("Where the data is that shows what was charged")),
    store: optional(text("Or your store, operator.sqlite in its dataFolder: the answer names its receipts")),
  },
  act: answerChallenge,
});

sendingTask("dispute:show-requests", {
  about: "Shows the requests' signatures that an entry rests on, where its license demanded signing, before you answer",
  example: "--challenge 1 --store data/operator/operator.sqlite --account 2",
  parameters: { challenge, store: text("Your store: operator.sqlite in its dataFolder") },
  act: showRequests,
});
