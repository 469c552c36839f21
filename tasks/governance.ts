import { hexlify, randomBytes, ZeroHash } from "ethers";
import { roleHolders, timelockHolders } from "../deploy/rolesOnChain";
import { ROLES } from "../deploy/roles";
import { percentOf, periodOf } from "../oracle/chain/refusal";
import { AS_OF_NOW } from "../oracle/chain/statuses";
import {
  address,
  bytes32,
  dateOf,
  describeCall,
  eventOf,
  optional,
  percent,
  period,
  readingTask,
  requireOne,
  send,
  sendingTask,
  text,
  timeOf,
  Problem,
  type Session,
  type TaskRecord,
} from "./support";

/** What governance is to do. Exactly one is given. */
export interface Change {
  /** Basis points. */
  fee?: number;
  /** The most that the escrow may hold, in whole units of the currency. */
  ceiling?: string;
  /** In place of those who are guardians. */
  guardian?: string;
  /** In place of those who propose and cancel. */
  proposer?: string;
  /** Seconds. */
  delay?: number;
}

/** Calls that the timelock makes one after the other, all or none. */
interface Act {
  targets: string[];
  payloads: string[];
  salt: string;
}

/** Announces an act of governance: anybody may execute it once its delay is over. */
export async function scheduleAct(session: Session, change: Change): Promise<TaskRecord> {
  requireOne({
    "--fee": change.fee,
    "--ceiling": change.ceiling,
    "--guardian": change.guardian,
    "--proposer": change.proposer,
    "--delay": change.delay,
  });
  const { timelock } = session.licet;
  const calls = await callsFor(session, change);
  const [targets, payloads] = [calls.map(({ target }) => target), calls.map(({ data }) => data)];
  // The same act may be wanted again one day: each has a salt of its own.
  const salt = hexlify(randomBytes(32));
  const delay = await timelock.getMinDelay();
  const values = targets.map(() => 0n);
  const sent = await send(timelock.scheduleBatch, targets, values, payloads, ZeroHash, salt, delay);
  const { id } = eventOf(sent, "CallScheduled");
  return { id, act: describe(session, { targets, payloads }), ...(await stateOf(session, id as string)) };
}

interface Call {
  target: string;
  data: string;
}

async function callsFor(session: Session, change: Change): Promise<Call[]> {
  const { escrow, timelock } = session.licet;
  if (change.fee !== undefined) {
    return [await callOf(escrow, escrow.interface.encodeFunctionData("setFee", [change.fee]))];
  }
  if (change.ceiling !== undefined) {
    const ceiling = session.money.parse(change.ceiling, "--ceiling");
    return [await callOf(escrow, escrow.interface.encodeFunctionData("raiseDepositCeiling", [ceiling]))];
  }
  if (change.delay !== undefined) {
    return [await callOf(timelock, timelock.interface.encodeFunctionData("updateDelay", [change.delay]))];
  }
  return change.guardian === undefined
    ? proposerCalls(session, change.proposer!)
    : guardianCalls(session, change.guardian);
}

const callOf = async (target: { getAddress(): Promise<string> }, data: string): Promise<Call> => ({
  target: await target.getAddress(),
  data,
});

async function guardianCalls({ licet, book }: Session, guardian: string): Promise<Call[]> {
  const { authority } = licet;
  const { GUARDIAN: present } = await roleHolders(licet, book.block);
  const calls = [
    ...present
      .filter((one) => one !== guardian)
      .map((one) => authority.interface.encodeFunctionData("revokeRole", [ROLES.GUARDIAN, one])),
    ...(present.includes(guardian)
      ? []
      : [authority.interface.encodeFunctionData("grantRole", [ROLES.GUARDIAN, guardian, 0])]),
  ];
  if (calls.length === 0) throw new Problem(`--guardian ${guardian}: it is the only guardian already.`);
  return Promise.all(calls.map((data) => callOf(authority, data)));
}

async function proposerCalls({ licet, book }: Session, proposer: string): Promise<Call[]> {
  const { timelock } = licet;
  const [holders, proposerRole, cancellerRole] = await Promise.all([
    timelockHolders(licet, book.block),
    timelock.PROPOSER_ROLE(),
    timelock.CANCELLER_ROLE(),
  ]);
  const replace = (role: string, present: string[]) => [
    ...(present.includes(proposer) ? [] : [timelock.interface.encodeFunctionData("grantRole", [role, proposer])]),
    ...present
      .filter((one) => one !== proposer)
      .map((one) => timelock.interface.encodeFunctionData("revokeRole", [role, one])),
  ];
  const calls = [...replace(proposerRole, holders.PROPOSER), ...replace(cancellerRole, holders.CANCELLER)];
  if (calls.length === 0) throw new Problem(`--proposer ${proposer}: it is the only one already.`);
  return Promise.all(calls.map((data) => callOf(timelock, data)));
}

/** Has an act done whose delay is over. */
export async function executeAct(session: Session, { id }: { id: string }): Promise<TaskRecord> {
  const { timelock } = session.licet;
  const act = await findAct(session, id);
  const { targets, payloads, salt } = act;
  const values = targets.map(() => 0n);
  if ((await timelock.hashOperationBatch(targets, values, payloads, ZeroHash, salt)) !== id) {
    throw new Problem(`--id ${id} wasn't scheduled by governance:schedule: execute it with what scheduled it.`);
  }
  await send(timelock.executeBatch, targets, values, payloads, ZeroHash, salt);
  return { id, act: describe(session, act), ...(await stateOf(session, id)) };
}

/** Forgets an act that wasn't done yet. */
export async function cancelAct(session: Session, { id }: { id: string }): Promise<TaskRecord> {
  const act = await findAct(session, id);
  await send(session.licet.timelock.cancel, id);
  return { id, act: describe(session, act), ...(await stateOf(session, id)) };
}

/** @throws Problem if nothing of that id was scheduled */
async function findAct({ licet, book }: Session, id: string): Promise<Act> {
  const { timelock } = licet;
  const [scheduled, [salted]] = await Promise.all([
    timelock.queryFilter(timelock.filters.CallScheduled(id), book.block),
    timelock.queryFilter(timelock.filters.CallSalt(id), book.block),
  ]);
  if (scheduled.length === 0) {
    throw new Problem(`--id ${id}: no such act was scheduled; governance:show lists those that were.`);
  }
  // What was cancelled and scheduled again has its calls twice.
  const calls = new Map(scheduled.map(({ args }) => [args.index, args]));
  return {
    targets: [...calls.values()].map(({ target }) => target),
    payloads: [...calls.values()].map(({ data }) => data),
    salt: salted?.args.salt ?? ZeroHash,
  };
}

const describe = ({ book }: Session, { targets, payloads }: Omit<Act, "salt">): string[] =>
  targets.map((target, i) => describeCall(target, payloads[i], book));

const STATES = ["Cancelled", "Waiting", "Ready", "Done"] as const;

async function stateOf({ licet }: Session, id: string) {
  const { timelock } = licet;
  const [state, readyAt] = await Promise.all([timelock.getOperationState(id, AS_OF_NOW), timelock.getTimestamp(id)]);
  const status = STATES[Number(state)];
  return { status, ...(status === "Waiting" ? { "can be executed from": dateOf(readyAt) } : {}) };
}

/** Who governs, what is set, and which acts wait. */
export async function showGovernance(session: Session): Promise<TaskRecord> {
  const { hre, licet, book, money } = session;
  const { timelock, escrow } = licet;
  const [{ GUARDIAN }, { PROPOSER, CANCELLER }, delay, fee, ceiling, pausedUntil, now, scheduled] = await Promise.all([
    roleHolders(licet, book.block),
    timelockHolders(licet, book.block),
    timelock.getMinDelay(),
    escrow.feeBps(),
    escrow.depositCeiling(),
    escrow.pausedUntil(),
    timeOf(hre),
    timelock.queryFilter(timelock.filters.CallScheduled(), book.block),
  ]);
  const ids = [...new Set(scheduled.map(({ args }) => args.id))];
  const acts = await Promise.all(
    ids.map(async (id) => ({
      act: describe(session, await findAct(session, id)),
      ...(await stateOf(session, id)),
      id,
    })),
  );
  return {
    timelock: await timelock.getAddress(),
    delay: periodOf(delay),
    proposers: PROPOSER,
    cancellers: CANCELLER,
    guardians: GUARDIAN,
    "protocol fee": percentOf(fee),
    "deposit ceiling": money.of(ceiling),
    "purchases and deposits": pausedUntil > BigInt(now) ? `paused until ${dateOf(pausedUntil).toISOString()}` : "open",
    acts: acts.filter(({ status }) => status === "Waiting" || status === "Ready"),
  };
}

/** Stops purchases and deposits for a while; the guardian may. */
export async function pauseMarket({ licet }: Session): Promise<TaskRecord> {
  const { until } = eventOf(await send(licet.escrow.pause), "Paused");
  return { "purchases and deposits": "paused", until: dateOf(until) };
}

/** Ends a pause before its time; the guardian may. */
export async function unpauseMarket({ licet }: Session): Promise<TaskRecord> {
  await send(licet.escrow.unpause);
  return { "purchases and deposits": "open" };
}

readingTask("governance:show", {
  about: "Shows who governs, what is set, and which acts of governance wait",
  example: "--network localhost",
  parameters: {},
  act: showGovernance,
});

sendingTask("governance:schedule", {
  about: "Announces an act of governance, which anybody may execute once the delay is over",
  example: "--fee 1.5",
  parameters: {
    fee: optional(percent("The protocol fee of what settles from then on, in percent, such as 1.5")),
    ceiling: optional(text("The most that the escrow may hold, such as 500000: more than now")),
    guardian: optional(address("Who may pause purchases and deposits, in place of who may now")),
    proposer: optional(address("Who schedules and cancels acts, in place of who does now")),
    delay: optional(period("How long acts wait that are scheduled from then on: longer than now")),
  },
  act: scheduleAct,
});

const ACT_ID = { id: bytes32("The act's id, as governance:show has it") };

sendingTask("governance:execute", {
  about: "Has an act of governance done whose delay is over; anybody may",
  example: "--id 0x1b3c6f1b3d8a0d1c6c3f6b4c6a5d3e2f1a0b9c8d7e6f5a4b3c2d1e0f9a8b7c6d",
  parameters: ACT_ID,
  act: executeAct,
});

sendingTask("governance:cancel", {
  about: "Forgets an act of governance that wasn't done yet",
  example: "--id 0x1b3c6f1b3d8a0d1c6c3f6b4c6a5d3e2f1a0b9c8d7e6f5a4b3c2d1e0f9a8b7c6d",
  parameters: ACT_ID,
  act: cancelAct,
});

sendingTask("governance:pause", {
  about: "Stops purchases and deposits for seven days, as the guardian; nothing else",
  example: "--account 1",
  parameters: {},
  act: pauseMarket,
});

sendingTask("governance:unpause", {
  about: "Ends a pause before its time, as the guardian",
  example: "--account 1",
  parameters: {},
  act: unpauseMarket,
});
