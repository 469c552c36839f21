import { percentOf } from "../oracle/chain/refusal";
import { AS_OF_NOW, statusName } from "../oracle/chain/statuses";
import {
  address,
  allow,
  dateOf,
  eventOf,
  operatorId,
  optional,
  percent,
  readingTask,
  requireFunds,
  send,
  sendingTask,
  text,
  timeOf,
  Problem,
  type Session,
  type TaskRecord,
} from "./support";

export interface AddStake {
  operator: number;
  amount: string;
}

/** A stake that isn't mined as long after it was sent isn't wanted any more. */
const PATIENCE_SECONDS = 3600;
/** By how much of a share's price a slash or income may come first. */
const SLIPPAGE_BPS = 100n;

/** Adds to the stake of the signer's operator. */
export async function addStake(session: Session, args: AddStake): Promise<TaskRecord> {
  const { licet, signer } = session;
  const owner = await licet.operators.ownerOf(args.operator);
  if (owner === signer.address) return putIn(session, args);
  throw new Problem(
    `Operator ${args.operator} isn't ${signer.address}'s: act as its owner, or see \`stake:delegate\`.`,
  );
}

/** Backs somebody else's operator. */
export async function delegateStake(session: Session, args: AddStake): Promise<TaskRecord> {
  const { licet, signer } = session;
  const owner = await licet.operators.ownerOf(args.operator);
  if (owner !== signer.address) return putIn(session, args);
  throw new Problem(`Operator ${args.operator} is your own: see \`stake:add\`.`);
}

async function putIn(session: Session, { operator, amount }: AddStake): Promise<TaskRecord> {
  const { licet, money, signer } = session;
  const units = money.parse(amount, "--amount");
  await requireFunds(session, units);
  await allow(session, await licet.staking.getAddress(), units);
  const shares = await licet.staking.sharesFor(operator, units, AS_OF_NOW);
  const least = shares - (shares * SLIPPAGE_BPS) / 10_000n;
  await send(licet.staking.addStake, operator, units, least, (await timeOf(session.hre)) + PATIENCE_SECONDS);
  return {
    operator,
    added: money.of(units),
    ...(await positionOf(session, operator, signer.address)),
    ...(await poolOf(session, operator)),
  };
}

/** The pool that backs an operator. */
async function poolOf({ licet, money }: Session, operator: number): Promise<TaskRecord> {
  const { staking } = licet;
  const owner = await licet.operators.ownerOf(operator);
  const [status, pool, own, commission, headroom] = await Promise.all([
    staking.statusOf(operator, AS_OF_NOW),
    staking.poolOf(operator, AS_OF_NOW),
    staking.positionOf(operator, owner, AS_OF_NOW),
    staking.commissionOf(operator, AS_OF_NOW),
    staking.headroomOf(operator, AS_OF_NOW),
  ]);
  const stake = pool.active + pool.thawing;
  return {
    status: statusName("OperatorStatus", status),
    ...(pool.jailedUntil === 0n ? {} : { "jailed until": dateOf(pool.jailedUntil), jailings: pool.jailings }),
    stake: money.of(stake),
    "operator's own": money.of(own.active + own.thawing),
    delegated: money.of(stake - own.active - own.thawing),
    active: money.of(pool.active),
    "on its way out": money.of(pool.thawing),
    "still vesting": money.of(pool.unvested),
    ...(pool.vestsUntil === 0n ? {} : { "vests until": dateOf(pool.vestsUntil) }),
    "in flight": money.of(pool.inFlight),
    "may still be in flight": money.of(headroom),
    ...(pool.frozen === 0n ? {} : { frozen: money.of(pool.frozen), "frozen until": dateOf(pool.frozenUntil) }),
    commission: percentOf(commission.bps),
    ...(commission.raisedAt === 0n
      ? {}
      : { "next commission": percentOf(commission.nextBps), "in force from": dateOf(commission.raisedAt) }),
  };
}

/** What of a pool is a holder's. */
async function positionOf({ licet, money }: Session, operator: number, holder: string): Promise<TaskRecord> {
  const { staking } = licet;
  const [{ active, thawing }, thaws] = await Promise.all([
    staking.positionOf(operator, holder, AS_OF_NOW),
    staking.thawsOf(operator, holder, AS_OF_NOW),
  ]);
  return {
    holder,
    "holder's stake": money.of(active + thawing),
    "of it active": money.of(active),
    thaws: thaws.map(({ amount, readyAt }) => ({
      amount: money.of(amount),
      "can be withdrawn after": dateOf(readyAt),
    })),
  };
}

export interface ShowStake {
  operator: number;
  /** Whose part of it; the operator's owner if nobody is named. */
  holder?: string;
}

/** An operator's stake, and what of it is whose. */
export async function showStake(session: Session, { operator, holder }: ShowStake): Promise<TaskRecord> {
  const owner = await session.licet.operators.ownerOf(operator);
  return {
    operator,
    owner,
    ...(await poolOf(session, operator)),
    ...(await positionOf(session, operator, holder ?? owner)),
  };
}

export interface ThawStake {
  operator: number;
  /** All of the signer's that is active, if it isn't named. */
  amount?: string;
}

/** Puts stake of the signer's on its way out. */
export async function thawStake(session: Session, { operator, amount }: ThawStake): Promise<TaskRecord> {
  const { licet, money, signer } = session;
  await licet.operators.ownerOf(operator);
  const { shares } = await licet.staking.positionOf(operator, signer.address);
  if (shares === 0n) throw new Problem(`${signer.address} has no active stake in operator ${operator}.`);
  const part = amount === undefined ? shares : await sharesFor(session, operator, shares, amount);
  const thawed = eventOf(await send(licet.staking.thaw, operator, part), "StakeThawed");
  return { operator, announced: money.of(thawed.amount), "can be withdrawn after": dateOf(thawed.readyAt) };
}

/** Makes the signer's newest thaw active again. */
export async function unthawStake(session: Session, { operator }: { operator: number }): Promise<TaskRecord> {
  const { licet, money, signer } = session;
  await licet.operators.ownerOf(operator);
  const { amount } = eventOf(await send(licet.staking.unthaw, operator), "StakeUnthawed");
  return { operator, "stays in": money.of(amount), ...(await positionOf(session, operator, signer.address)) };
}

export interface WithdrawStake {
  operator: number;
  /** Who gets it; the signer if it isn't named. */
  to?: string;
}

/** Sends the signer's stake whose thaw is over. */
export async function withdrawStake(session: Session, args: WithdrawStake): Promise<TaskRecord> {
  const { licet, money, signer } = session;
  const { operator, to = signer.address } = args;
  await licet.operators.ownerOf(operator);
  const { amount } = eventOf(await send(licet.staking.withdraw, operator, to), "StakeWithdrawn");
  return { operator, withdrawn: money.of(amount), to };
}

export interface SetCommission {
  operator: number;
  /** Basis points. */
  percent: number;
}

/** Says what of its income the signer's operator keeps. */
export async function setCommission(session: Session, args: SetCommission): Promise<TaskRecord> {
  const { staking } = session.licet;
  const { bps, bindsAt } = eventOf(await send(staking.setCommission, args.operator, args.percent), "CommissionSet");
  return { operator: args.operator, commission: percentOf(bps), "in force from": dateOf(bindsAt) };
}

/** The fewest shares that are worth `amount`, but for roundings: all that are held where that is all that they are worth. */
async function sharesFor({ licet, money }: Session, operator: number, held: bigint, amount: string): Promise<bigint> {
  const units = money.parse(amount, "--amount");
  const worth = await licet.staking.worthOf(operator, held, AS_OF_NOW);
  if (units > worth) {
    const said = money.textOf(worth);
    throw new Problem(`--amount ${amount} is more than your active stake in operator ${operator}, ${said}.`);
  }
  return units === worth ? held : (units * held + worth - 1n) / worth;
}

sendingTask("stake:add", {
  about: "Adds to your operator's stake",
  example: "--operator 1 --amount 1000",
  parameters: { operator: operatorId(), amount: text("Such as 1000") },
  act: addStake,
});

sendingTask("stake:delegate", {
  about: "Backs somebody else's operator with your money: you share its income, and its losses",
  example: "--operator 1 --amount 250",
  parameters: { operator: operatorId(), amount: text("Such as 250") },
  act: delegateStake,
});

readingTask("stake:show", {
  about: "Shows an operator's stake, and what of it is whose",
  example: "--operator 1",
  parameters: {
    operator: operatorId(),
    holder: optional(address("Whose part of it to show (default: the operator's owner)")),
  },
  act: showStake,
});

sendingTask("stake:thaw", {
  about: "Puts stake of yours on its way out: it earns nothing more, and can be withdrawn after the wait",
  example: "--operator 1 --amount 500",
  parameters: { operator: operatorId(), amount: optional(text("Such as 500 (default: all of yours)")) },
  act: thawStake,
});

sendingTask("stake:unthaw", {
  about: "Takes back the newest thaw of your stake",
  example: "--operator 1",
  parameters: { operator: operatorId() },
  act: unthawStake,
});

sendingTask("stake:withdraw", {
  about: "Sends you your stake whose thaw is over",
  example: "--operator 1",
  parameters: { operator: operatorId(), to: optional(address("Who gets it (default: you)")) },
  act: withdrawStake,
});

sendingTask("stake:commission", {
  about: "Says what your operator keeps of its income; the rest is shared by all its active stake",
  example: "--operator 1 --percent 80",
  parameters: {
    operator: operatorId(),
    percent: percent("Such as 80; more than before binds after the thaw of stake"),
  },
  act: setCommission,
});
