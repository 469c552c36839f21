import { AS_OF_NOW, statusName } from "../oracle/chain/statuses";
import {
  address,
  allow,
  dateOf,
  eventOf,
  operatorId,
  optional,
  readingTask,
  requireFunds,
  send,
  sendingTask,
  text,
  thawFlags,
  thawStep,
  timeOf,
  Problem,
  type Session,
  type TaskRecord,
} from "./support";

export interface AddStake {
  operator: number;
  amount: string;
}

/** Adds to the stake of the signer's operator. */
export async function addStake(session: Session, args: AddStake): Promise<TaskRecord> {
  const { staking } = session.licet;
  const units = session.money.parse(args.amount, "--amount");
  await requireFunds(session, units);
  await allow(session, await staking.getAddress(), units);
  await send(staking.addStake, args.operator, units);
  return { operator: args.operator, added: session.money.of(units), ...(await poolOf(session, args.operator)) };
}

/** The pool that backs an operator. */
async function poolOf({ licet, money }: Session, operator: number): Promise<TaskRecord> {
  const [status, { stake, inFlight, jailedUntil, jailings }, active, headroom] = await Promise.all([
    licet.staking.statusOf(operator, AS_OF_NOW),
    licet.staking.poolOf(operator),
    licet.staking.activeStakeOf(operator),
    licet.staking.headroomOf(operator),
  ]);
  return {
    status: statusName("OperatorStatus", status),
    ...(jailedUntil === 0n ? {} : { "jailed until": dateOf(jailedUntil), jailings }),
    stake: money.of(stake),
    active: money.of(active),
    "in flight": money.of(inFlight),
    "may still be in flight": money.of(headroom),
  };
}

export interface ShowStake {
  operator: number;
  /** Whose part of it; the operator's owner if nobody is named. */
  holder?: string;
}

/** An operator's stake, and what of it is whose. */
export async function showStake(session: Session, { operator, holder }: ShowStake): Promise<TaskRecord> {
  const { money } = session;
  const { operators, staking } = session.licet;
  const owner = await operators.ownerOf(operator);
  const { shares, thaw } = await staking.positionOf(operator, holder ?? owner);
  const worthOf = async (part: bigint) => money.of(await staking.worthOf(operator, part));
  return {
    operator,
    owner,
    ...(await poolOf(session, operator)),
    holder: holder ?? owner,
    "holder's stake": await worthOf(shares),
    "of it on its way out": await worthOf(thaw.amount),
    ...(thaw.amount === 0n ? {} : { "can be withdrawn after": dateOf(thaw.readyAt) }),
  };
}

export interface WithdrawStake {
  operator: number;
  /** All of the signer's, if it isn't named. */
  amount?: string;
  /** Who gets it; the signer if it isn't named. */
  to?: string;
  anew?: boolean;
  cancel?: boolean;
}

/** Announces a withdrawal of stake; called again once its wait is over, sends the money. */
export async function withdrawStake(session: Session, args: WithdrawStake): Promise<TaskRecord> {
  const { money, signer } = session;
  const { operators, staking } = session.licet;
  const { operator } = args;
  await operators.ownerOf(operator);
  const { shares, thaw } = await staking.positionOf(operator, signer.address);
  const worthOf = async (part: bigint) => money.of(await staking.worthOf(operator, part));
  const amount = args.amount === undefined ? undefined : await sharesFor(session, operator, shares, args.amount);
  const announce = async (part: bigint) => eventOf(await send(staking.thaw, operator, part), "StakeThawed");

  switch (thawStep(thaw, await timeOf(session.hre), { ...args, amount })) {
    case "announce": {
      if (shares === 0n) throw new Problem(`${signer.address} has no stake in operator ${operator}.`);
      const { shares: announced, readyAt } = await announce(amount ?? shares);
      return { operator, announced: await worthOf(announced), "can be withdrawn after": dateOf(readyAt) };
    }
    case "wait":
      return { operator, announced: await worthOf(thaw.amount), "can be withdrawn after": dateOf(thaw.readyAt) };
    case "collect": {
      const to = args.to ?? signer.address;
      const { amount: withdrawn } = eventOf(await send(staking.withdraw, operator, to), "StakeWithdrawn");
      return { operator, withdrawn: money.of(withdrawn), to };
    }
    case "cancel":
      await announce(0n);
      return { operator, "stays in": await worthOf(thaw.amount) };
  }
}

/** The shares that are worth `amount`: all that are held where that is all that they are worth. */
async function sharesFor({ licet, money }: Session, operator: number, held: bigint, amount: string): Promise<bigint> {
  const units = money.parse(amount, "--amount");
  const worth = await licet.staking.worthOf(operator, held);
  if (units > worth) {
    throw new Problem(`--amount ${amount} is more than your stake in operator ${operator}, ${money.textOf(worth)}.`);
  }
  return units === worth ? held : (units * held) / worth;
}

sendingTask("stake:add", {
  about: "Adds to your operator's stake",
  example: "--operator 1 --amount 1000",
  parameters: { operator: operatorId(), amount: text("Such as 1000") },
  act: addStake,
});

readingTask("stake:show", {
  about: "Shows an operator's stake",
  example: "--operator 1",
  parameters: {
    operator: operatorId(),
    holder: optional(address("Whose part of it to show (default: the operator's owner)")),
  },
  act: showStake,
});

sendingTask("stake:withdraw", {
  about: "Announces a withdrawal of your stake; run again after the wait, sends the money",
  example: "--operator 1 --amount 500",
  parameters: {
    operator: operatorId(),
    amount: optional(text("Such as 500 (default: all of yours)")),
    to: optional(address("Who gets it (default: you)")),
    ...thawFlags,
  },
  act: withdrawStake,
});
