import { address, coinOf, optional, Problem, send, sendingTask, type Session, type TaskRecord } from "../support";
import { decisionIn } from "./decision";
import { challengeNumber, challengeOf, showChallenge } from "./show";

/** Decides a challenge whose turn is over, or a breach of whose charge was reported. */
export async function closeChallenge(session: Session, args: { challenge: bigint }): Promise<TaskRecord> {
  await challengeOf(session, args.challenge);
  const sent = await send(session.licet.court.close, args.challenge);
  return { ...(await decisionIn(session, sent)), ...(await showChallenge(session, args)) };
}

/** Sends all that disputes have left for the signer: bonds, arbitrators' fees, and what slashes took for it. */
export async function withdrawFromDisputes(session: Session, args: { to?: string }): Promise<TaskRecord> {
  const { money, signer, licet } = session;
  const { court, staking } = licet;
  const to = args.to ?? signer.address;
  const [bonds, fees, proceeds] = await Promise.all([
    court.bondsOf(signer.address),
    court.feesOf(signer.address),
    staking.proceedsOf(signer.address),
  ]);
  if (bonds + fees + proceeds === 0n) {
    throw new Problem(`${signer.address} has nothing to withdraw: disputes and reports that are decided bring it.`);
  }
  if (bonds > 0n) await send(court.withdrawBonds, to);
  if (fees > 0n) await send(court.withdrawFees, to);
  if (proceeds > 0n) await send(staking.withdrawProceeds, to);
  return { to, "from bonds": money.of(bonds), "from fees": coinOf(fees), "from slashes": money.of(proceeds) };
}

sendingTask("dispute:close", {
  about: "Decides a challenge whose turn is over: against whoever was silent; anybody may",
  example: "--challenge 1",
  parameters: { challenge: challengeNumber() },
  act: closeChallenge,
});

sendingTask("dispute:withdraw", {
  about: "Sends you what disputes have left for you: bonds, arbitrators' fees, and stake that was slashed for you",
  example: "--account 3",
  parameters: { to: optional(address("Who gets it (default: you)")) },
  act: withdrawFromDisputes,
});
