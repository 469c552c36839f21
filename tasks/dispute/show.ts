import { ZeroAddress, ZeroHash } from "ethers";
import { isAnswer } from "../../oracle/chain/smartAccount";
import { AS_OF_NOW, statusName } from "../../oracle/chain/statuses";
import { isDecided } from "../../oracle/disputes/turn";
import { METERS } from "../../oracle/protocol/types";
import { IArbitrator__factory } from "../../typechain-types";
import type { IDisputeCourt } from "../../typechain-types/contracts/DisputeCourt";
import {
  dateOf,
  Problem,
  readingTask,
  timeOf,
  wholeNumber,
  type Parameter,
  type Session,
  type TaskRecord,
} from "../support";
import { outlookOf, type AppealFacts, type ChallengeFacts } from "./outlook";

export type Challenge = IDisputeCourt.ChallengeStructOutput;

export const challengeNumber = (): Parameter<bigint> => {
  const number = wholeNumber("The challenge's number", 1, Number.MAX_SAFE_INTEGER);
  return { ...number, parse: (value, flag) => BigInt(number.parse(value, flag)) };
};

/** A challenge's record. @throws Problem if there is none */
export async function challengeOf({ licet }: Session, challenge: bigint): Promise<Challenge> {
  const found = await licet.court.challengeOf(challenge);
  if (found.challenger !== ZeroAddress) return found;
  throw new Problem(`--challenge ${challenge}: no such challenge; \`dispute:list\` says which there are.`);
}

export const statusOf = ({ status }: Challenge) => statusName("ChallengeStatus", status);

/** All about a challenge: where it stands, what each side may do next, and what comes of it if nobody does. */
export async function showChallenge(session: Session, args: { challenge: bigint }): Promise<TaskRecord> {
  const { licet, money } = session;
  const found = await challengeOf(session, args.challenge);
  const [record, { charged, releasableAt }, facts] = await Promise.all([
    licet.escrow.chargeRecordOf(found.chargeId),
    licet.escrow.batchOf(found.chargeId),
    factsOf(session, args.challenge, found),
  ]);
  const { challenger, operator, anybody, otherwise } = outlookOf(facts, money);
  const charge = statusName("BatchStatus", await licet.escrow.batchStatusOf(found.chargeId, AS_OF_NOW));
  return {
    challenge: args.challenge,
    status: facts.status,
    license: found.licenseId,
    challenger: found.challenger,
    operator: found.operatorId,
    batch: record.batchId,
    "charge's id": found.chargeId,
    "epoch began": dateOf(found.epochStart),
    "epoch ended": dateOf(found.epochEnd),
    about: facts.isOfReceipt ? `receipt ${found.receiptHash}` : "the whole entry",
    charged: money.of(charged),
    charge: charge === "Held" ? `Held until ${dateOf(releasableAt).toISOString()}` : charge,
    bond: money.of(found.bond),
    arbitrator: facts.hasArbitrator ? found.arbitrator : "none",
    ...(isDecided(facts) ? {} : { "this turn ends": dateOf(found.deadline) }),
    ...(challenger.length === 0 ? {} : { "the challenger may": challenger }),
    ...(operator.length === 0 ? {} : { "the operator may": operator }),
    ...(anybody.length === 0 ? {} : { "anybody may": anybody }),
    otherwise,
  };
}

/** What the outlook of a challenge depends on, as of the block to come. */
async function factsOf(session: Session, id: bigint, found: Challenge): Promise<ChallengeFacts> {
  const { licet, hre } = session;
  const [now, isReported, { inferenceVerifier }] = await Promise.all([
    timeOf(hre),
    licet.reports.isReported(found.chargeId),
    licet.assets.inferenceOf(found.versionId),
  ]);
  const isOfReceipt = found.receiptHash !== ZeroHash;
  return {
    id,
    status: statusOf(found),
    now,
    deadline: Number(found.deadline),
    bond: found.bond,
    isReported,
    isOfReceipt,
    isProvable: isOfReceipt && inferenceVerifier !== ZeroAddress,
    lacksRequests: found.signed && METERS.some((meter) => found.shown[meter] < found.usage[meter]),
    hasArbitrator: found.arbitrator !== ZeroAddress,
    ...(await askArbitrator(session, id, found)),
  };
}

/** What the arbitrator says, which may be anybody's contract: it need not answer. */
async function askArbitrator(
  session: Session,
  id: bigint,
  found: Challenge,
): Promise<Pick<ChallengeFacts, "fee" | "appeal">> {
  if (found.arbitrator === ZeroAddress) return { fee: null, appeal: null };
  const arbitrator = IArbitrator__factory.connect(found.arbitrator, session.signer);
  const fee = await told(arbitrator.arbitrationCost("0x"));
  if (statusOf(found) !== "Disputed") return { fee, appeal: null };
  const { disputeId, appellant } = await session.licet.court.arbitrationOf(id);
  const appeal = await told<AppealFacts>(
    (async () => {
      const { start, end } = await arbitrator.appealPeriod(disputeId);
      const cost = await arbitrator.appealCost(disputeId, "0x");
      const ruling = Number(await arbitrator.currentRuling(disputeId));
      return { start: Number(start), end: Number(end), cost, ruling, appellant: Number(appellant) };
    })(),
  );
  return { fee, appeal };
}

/** What a contract answers; null where it has no answer. */
async function told<Answer>(asked: Promise<Answer>): Promise<Answer | null> {
  try {
    return await asked;
  } catch (error) {
    if (isAnswer(error as Error)) return null;
    throw error;
  }
}

readingTask("dispute:show", {
  about: "Shows a challenge: where it stands, what each side may do next, until when, and what becomes of the money",
  example: "--challenge 1",
  parameters: { challenge: challengeNumber() },
  act: showChallenge,
});
