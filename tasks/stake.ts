import { types } from "hardhat/config";
import { allow, licetTask, requireFunds, type Session, type TaskRecord } from "./support";

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
  await (await staking.addStake(args.operator, units)).wait();
  const { stake, inFlight } = await staking.poolOf(args.operator);
  return {
    operator: args.operator,
    added: session.money.of(units),
    stake: session.money.of(stake),
    active: session.money.of(await staking.activeStakeOf(args.operator)),
    "in flight": session.money.of(inFlight),
  };
}

licetTask("stake:add", "Adds to your operator's stake", addStake)
  .addParam("operator", "The operator's id", undefined, types.int)
  .addParam("amount", "Such as 1000");
