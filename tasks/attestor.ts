import { AS_OF_NOW, statusName } from "../oracle/chain/statuses";
import { CommitteeAttestor__factory, type CommitteeAttestor } from "../typechain-types";
import { address, dateOf, optional, readingTask, Problem, type Session, type TaskRecord } from "./support";

/** A committee of attestors: who is in it, how many must sign, and what each has earned. */
export async function showAttestor(session: Session, args: { attestor?: string }): Promise<TaskRecord> {
  const at = args.attestor ?? session.book.contracts.CommitteeAttestor;
  const committee = CommitteeAttestor__factory.connect(at, session.signer);
  const escrow = await committee.ESCROW().catch(() => undefined);
  if (escrow === undefined)
    throw new Problem(`--attestor ${at}: no committee is there; another kind of attestor may be.`);
  const [members, threshold, present] = await Promise.all([
    committee.members(AS_OF_NOW),
    committee.threshold(AS_OF_NOW),
    committee.presentRotation(AS_OF_NOW),
  ]);
  const incomes = await Promise.all(members.map(({ payee }) => committee.incomeOf(payee)));
  const around = [present - 1n, present, present + 1n].filter((number) => number >= 0n);
  const rotations = await Promise.all(around.map((number) => describeRotation(committee, number)));
  return {
    attestor: at,
    escrow,
    threshold: `${threshold} of ${members.length}`,
    rotations: rotations.filter(({ status }) => status !== "None"),
    members: members.map(({ signer, payee }, i) => ({ signer, payee, earned: session.money.of(incomes[i]) })),
  };
}

async function describeRotation(committee: CommitteeAttestor, number: bigint) {
  const [{ members, threshold, since }, status] = await Promise.all([
    committee.rotationOf(number),
    committee.statusOf(number, AS_OF_NOW),
  ]);
  return {
    number,
    status: statusName("RotationStatus", status),
    threshold: `${threshold} of ${members.length}`,
    since: dateOf(since),
  };
}

readingTask("attestor:show", {
  about: "Shows a committee of attestors",
  example: "--attestor 0x70997970C51812dc3A010C7d01b50e0d17dc79C8",
  parameters: { attestor: optional(address("Its address (default: the deployment's committee)")) },
  act: showAttestor,
});
