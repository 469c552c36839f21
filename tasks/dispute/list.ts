import { AS_OF_NOW } from "../../oracle/chain/statuses";
import { chargesOf, stateOfCharge } from "../../oracle/chain/charges";
import { isDecided } from "../../oracle/disputes/turn";
import { accountOf } from "../license/show";
import {
  dateOf,
  licenseId,
  operatorId,
  optional,
  readingTask,
  requireOne,
  timeOf,
  type Session,
  type TaskRecord,
} from "../support";
import { isOpen, showOpenCharge } from "./charge";
import { statusOf, type Challenge } from "./show";

export interface ListChallenges {
  license?: bigint;
  operator?: number;
}

/** A license's challenges, and what of it can still be challenged; or all of an operator. */
export async function listChallenges(session: Session, { license, operator }: ListChallenges): Promise<TaskRecord> {
  requireOne({ "--license": license, "--operator": operator });
  if (license !== undefined) {
    await accountOf(session, license);
    const challenges = await challengesOf(session, license);
    return { license, challenges, "can be challenged": await openChargesOf(session, license) };
  }
  const owner = await session.licet.operators.ownerOf(operator!);
  const all = await challengesOf(session);
  return { operator, owner, challenges: all.filter((one) => Number(one.operator) === operator) };
}

async function challengesOf(session: Session, license?: bigint) {
  const { licet, book } = session;
  const { court } = licet;
  const events = await court.queryFilter(court.filters.ChallengeOpened(undefined, undefined, license), book.block);
  const now = await timeOf(session.hre);
  return Promise.all(
    events.map(async ({ args }) =>
      showBriefly(session, args.challengeId, args.charged, await court.challengeOf(args.challengeId, AS_OF_NOW), now),
    ),
  );
}

function showBriefly({ money }: Session, challenge: bigint, charged: bigint, found: Challenge, now: number) {
  const status = statusOf(found);
  const turn = now > Number(found.deadline) ? "is over: dispute:close" : dateOf(found.deadline);
  return {
    challenge,
    status,
    license: found.licenseId,
    operator: found.operatorId,
    charged: money.of(charged),
    bond: money.of(found.bond),
    ...(isDecided({ status }) ? {} : { "this turn ends": turn }),
  };
}

async function openChargesOf(session: Session, license: bigint): Promise<TaskRecord[]> {
  const charges = await chargesOf(session.licet.escrow, session.book.block, license);
  const found = await Promise.all(
    charges
      .filter(({ charged }) => charged > 0n)
      .map(async (charge) => ({ ...charge, state: await stateOfCharge(session.licet, charge) })),
  );
  return Promise.all(found.filter(({ state }) => isOpen(state)).map((charge) => showOpenCharge(session, charge)));
}

readingTask("dispute:list", {
  about: "Lists the challenges of a license, and what of its charges can still be challenged; or those of an operator",
  example: "--license 1",
  parameters: { license: optional(licenseId()), operator: optional(operatorId()) },
  act: listChallenges,
});
