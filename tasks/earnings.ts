import { address, optional, send, sendingTask, Problem, type Session, type TaskRecord } from "./support";

/** Sends all that the signer has earned, from the escrow, the committee and slashes, to `to`. */
export async function withdrawEarnings(session: Session, args: { to?: string }): Promise<TaskRecord> {
  const { money, signer } = session;
  const { escrow, committee, staking } = session.licet;
  const to = args.to ?? signer.address;
  const [earned, attested, proceeds] = await Promise.all([
    escrow.earningsOf(signer.address),
    committee.incomeOf(signer.address),
    staking.proceedsOf(signer.address),
  ]);
  if (earned + attested + proceeds === 0n) {
    throw new Problem(`${signer.address} has nothing to withdraw: releases bring earnings.`);
  }
  if (earned > 0n) await send(escrow.withdrawEarnings, to);
  if (attested > 0n) await send(committee.withdraw, to);
  if (proceeds > 0n) await send(staking.withdrawProceeds, to);
  return {
    to,
    "from charges": money.of(earned),
    "from attesting": money.of(attested),
    "from slashes": money.of(proceeds),
  };
}

sendingTask("earnings:withdraw", {
  about: "Sends you all that you have earned",
  example: "--account 2",
  parameters: { to: optional(address("Who gets it (default: you)")) },
  act: withdrawEarnings,
});
