import { percentOf, periodOf } from "../oracle/chain/refusal";
import { AS_OF_NOW, statusName } from "../oracle/chain/statuses";
import type { CommitteeAttestor } from "../typechain-types";
import { committeeOf } from "./committee";
import { address, dateOf, optional, readingTask, type Session, type TaskRecord } from "./support";

/** A committee of attestors: who is in it, how much weight must sign, whether they are bonded, and what each has earned. */
export async function showAttestor(session: Session, args: { attestor?: string }): Promise<TaskRecord> {
  const { money } = session;
  const committee = await committeeOf(session, args);
  const [escrow, unit, thaw, reward, present] = await Promise.all([
    committee.ESCROW(),
    committee.BOND(),
    committee.BOND_THAW_PERIOD(),
    committee.REWARD_BPS(),
    committee.presentRotation(AS_OF_NOW),
  ]);
  const [{ members, threshold }, counting] = await Promise.all([
    committee.rotationOf(present),
    committee.weightsOf(present),
  ]);
  const around = [present - 1n, present, present + 1n].filter((number) => number >= 0n);
  const rotations = await Promise.all(around.map((number) => describeRotation(committee, number)));
  return {
    attestor: await committee.getAddress(),
    escrow,
    threshold: `${threshold} of ${sum(members.map(({ weight }) => weight))}`,
    "weight that is bonded": sum(counting),
    "bond a unit of weight": money.of(unit),
    "thaw of bonds": periodOf(thaw),
    "reward of a report": percentOf(reward),
    rotations: rotations.filter(({ status }) => status !== "None"),
    members: await Promise.all(
      members.map(async ({ signer, weight, payee }) => ({
        signer,
        weight,
        payee,
        bond: statusName("BondStatus", await committee.bondStatusOf(signer, payee, AS_OF_NOW)),
        earned: money.of(await committee.incomeOf(payee)),
      })),
    ),
  };
}

const sum = (numbers: bigint[]): bigint => numbers.reduce((total, number) => total + number, 0n);

async function describeRotation(committee: CommitteeAttestor, number: bigint) {
  const [{ members, threshold, since }, status] = await Promise.all([
    committee.rotationOf(number),
    committee.statusOf(number, AS_OF_NOW),
  ]);
  return {
    number,
    status: statusName("RotationStatus", status),
    threshold: `${threshold} of ${sum(members.map(({ weight }) => weight))}`,
    since: dateOf(since),
  };
}

readingTask("attestor:show", {
  about: "Shows a committee of attestors",
  example: "--attestor 0x70997970C51812dc3A010C7d01b50e0d17dc79C8",
  parameters: { attestor: optional(address("Its address (default: the deployment's committee)")) },
  act: showAttestor,
});
