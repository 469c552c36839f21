import { distributeIncome } from "./asset/income";
import { address, optional, send, sendingTask, Problem, type Session, type TaskRecord } from "./support";

/** Sends all that the signer has earned, from its operators, its models, the committee and slashes, to `to`. */
export async function withdrawEarnings(session: Session, args: { to?: string }): Promise<TaskRecord> {
  const { money, signer } = session;
  const { committee, staking } = session.licet;
  const to = args.to ?? signer.address;
  const served = await withdrawOfOperators(session, to);
  const published = await withdrawOfAssets(session, to);
  const [attested, proceeds] = await Promise.all([
    committee.incomeOf(signer.address),
    staking.proceedsOf(signer.address),
  ]);
  if (served + published + attested + proceeds === 0n) {
    throw new Problem(`${signer.address} has nothing to withdraw: releases bring earnings.`);
  }
  if (attested > 0n) await send(committee.withdraw, to);
  if (proceeds > 0n) await send(staking.withdrawProceeds, to);
  return {
    to,
    "from serving": money.of(served),
    "from models": money.of(published),
    "from attesting": money.of(attested),
    "from slashes": money.of(proceeds),
  };
}

async function withdrawOfOperators({ licet, signer, book }: Session, to: string): Promise<bigint> {
  const { escrow, operators } = licet;
  const registered = await operators.queryFilter(
    operators.filters.OperatorRegistered(undefined, signer.address),
    book.block,
  );
  let sum = 0n;
  for (const { args } of registered) {
    const { earnings } = await escrow.operatorIncomeOf(args.operatorId);
    if (earnings > 0n) await send(escrow.withdrawEarnings, args.operatorId, to);
    sum += earnings;
  }
  return sum;
}

/** What the signer's models have earned runs through their pots. */
async function withdrawOfAssets(session: Session, to: string): Promise<bigint> {
  const { licet, signer, book } = session;
  const { assets, waterfall } = licet;
  const received = await assets.queryFilter(assets.filters.Transfer(undefined, signer.address), book.block);
  for (const assetId of new Set(received.map(({ args }) => args.tokenId))) {
    if ((await assets.ownerOf(assetId)) !== signer.address) continue;
    await distributeIncome(session, Number(assetId));
  }
  const claimable = await waterfall.claimableOf(signer.address);
  if (claimable > 0n) await send(waterfall.withdraw, to);
  return claimable;
}

sendingTask("earnings:withdraw", {
  about: "Sends you all that you have earned",
  example: "--account 2",
  parameters: { to: optional(address("Who gets it (default: you)")) },
  act: withdrawEarnings,
});
