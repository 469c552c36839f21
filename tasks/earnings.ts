import { licetTask, UserError, type Session, type TaskRecord } from "./support";

/** Sends all that the signer has earned, from the escrow and from the committee, to `to`. */
export async function withdrawEarnings(session: Session, args: { to?: string }): Promise<TaskRecord> {
  const { escrow, committee } = session.licet;
  const { address } = session.signer;
  const to = args.to ?? address;
  const [earned, attested] = await Promise.all([escrow.earningsOf(address), committee.incomeOf(address)]);
  if (earned + attested === 0n) throw new UserError(`${address} has nothing to withdraw: releases bring earnings.`);
  if (earned > 0n) await (await escrow.withdrawEarnings(to)).wait();
  if (attested > 0n) await (await committee.withdraw(to)).wait();
  return { to, "from charges": session.money.of(earned), "from attesting": session.money.of(attested) };
}

licetTask("earnings:withdraw", "Sends you all that you have earned", withdrawEarnings).addOptionalParam(
  "to",
  "Who gets it (default: you)",
);
