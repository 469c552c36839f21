/** Before the plan's arbitrator: who pays what for it, and what it is shown. */
import { IArbitrator__factory } from "../../typechain-types";
import {
  choice,
  coinOf,
  Problem,
  requireCoin,
  saySteps,
  send,
  sendingTask,
  sendPaying,
  text,
  textOf,
  type Session,
  type TaskRecord,
} from "../support";
import { challengeNumber, challengeOf, showChallenge, statusOf, type Challenge } from "./show";

interface OfChallenge {
  challenge: bigint;
}

const arbitratorOf = ({ signer }: Session, { arbitrator }: Challenge) =>
  IArbitrator__factory.connect(arbitrator, signer);

/** Brings the signer's challenge, which was answered, before the arbitrator. */
export async function escalateChallenge(session: Session, args: OfChallenge): Promise<TaskRecord> {
  const { court } = session.licet;
  const found = await requireStatus(session, args, "Answered", "the operator has to answer it first");
  if (session.signer.address !== found.challenger) {
    throw new Problem(
      `Challenge ${args.challenge} is ${found.challenger}'s, who alone may escalate it: act as that account.`,
    );
  }
  if (BigInt(found.arbitrator) === 0n) {
    throw new Problem(
      `The plan of challenge ${args.challenge} names no arbitrator: the operator's answer stands, and \`dispute:close\` decides ` +
        "for it once this turn is over.",
    );
  }
  const fee = await arbitratorOf(session, found).arbitrationCost("0x");
  await payFor(session, fee, "escalating");
  await sendPaying(fee, court.escalate, args.challenge);
  return { paid: coinOf(fee), ...(await showChallenge(session, args)) };
}

/** Pays the operator's side of an escalated challenge. */
export async function payFee(session: Session, args: OfChallenge): Promise<TaskRecord> {
  const found = await requireStatus(session, args, "Escalated", "only one that was escalated takes a fee");
  const fee = await arbitratorOf(session, found).arbitrationCost("0x");
  await payFor(session, fee, "paying the operator's side");
  await sendPaying(fee, session.licet.court.payFee, args.challenge);
  return { paid: coinOf(fee), ...(await showChallenge(session, args)) };
}

const SIDE_NUMBERS = { challenger: 1, operator: 2 };

export interface PayAppeal extends OfChallenge {
  side: keyof typeof SIDE_NUMBERS;
}

/** Pays a side's part of an appeal against the arbitrator's ruling. */
export async function payAppeal(session: Session, { challenge, side }: PayAppeal): Promise<TaskRecord> {
  const { court } = session.licet;
  const found = await requireStatus(session, { challenge }, "Disputed", "there is no ruling to appeal");
  const { disputeId } = await court.arbitrationOf(challenge);
  const arbitrator = arbitratorOf(session, found);
  const { end } = await arbitrator.appealPeriod(disputeId);
  if (end === 0n) throw new Problem(`The arbitrator of challenge ${challenge} has given no ruling to appeal yet.`);
  const cost = await arbitrator.appealCost(disputeId, "0x");
  await payFor(session, cost, "appealing");
  await sendPaying(cost, court.payAppeal, challenge, SIDE_NUMBERS[side]);
  return { paid: coinOf(cost), ...(await showChallenge(session, { challenge })) };
}

export interface SubmitEvidence extends OfChallenge {
  /** Where it is. */
  uri: string;
}

/** Gives the arbitrator something to look at. */
export async function submitEvidence(session: Session, { challenge, uri }: SubmitEvidence): Promise<TaskRecord> {
  await challengeOf(session, challenge);
  if (uri === "") throw new Problem("--uri must say where the evidence is; it is empty.");
  await send(session.licet.court.submitEvidence, challenge, uri);
  return { evidence: uri, ...(await showChallenge(session, { challenge })) };
}

async function requireStatus(
  session: Session,
  { challenge }: OfChallenge,
  wanted: ReturnType<typeof statusOf>,
  why: string,
): Promise<Challenge> {
  const found = await challengeOf(session, challenge);
  const status = statusOf(found);
  if (status === wanted) return found;
  throw new Problem(`Challenge ${challenge} is ${status.toLowerCase()}: ${why}.`);
}

async function payFor(session: Session, fee: bigint, what: string): Promise<void> {
  await requireCoin(session, fee);
  saySteps(`${what}, for ${textOf(coinOf(fee))}`);
}

const challenge = challengeNumber();

sendingTask("dispute:escalate", {
  about:
    "Brings your challenge, which was answered, before the plan's arbitrator, for its fee: --dry-run says how much",
  example: "--challenge 1",
  parameters: { challenge },
  act: escalateChallenge,
});

sendingTask("dispute:pay-fee", {
  about: "Pays the operator's side of an escalated challenge, which is lost without it; anybody may",
  example: "--challenge 1",
  parameters: { challenge },
  act: payFee,
});

sendingTask("dispute:appeal", {
  about: "Pays a side's part of an appeal against the arbitrator's ruling; anybody may",
  example: "--challenge 1 --side challenger",
  parameters: { challenge, side: choice("Whose appeal it is", "challenger", "operator") },
  act: payAppeal,
});

sendingTask("dispute:evidence", {
  about: "Gives the arbitrator of a challenge something to look at; both sides may",
  example: "--challenge 1 --uri ipfs://evidence",
  parameters: { challenge, uri: text("Where the evidence is, as ERC-1497 has it") },
  act: submitEvidence,
});
