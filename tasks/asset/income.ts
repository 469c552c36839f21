import type { EventLog } from "ethers";
import {
  address,
  assetId,
  flag,
  optional,
  Problem,
  send,
  sendingTask,
  type Session,
  type TaskRecord,
} from "../support";

/** Has an asset's income distributed: what waits in the escrow, and what its children's distributions brought. */
export async function distributeIncome({ licet, money }: Session, asset: number): Promise<TaskRecord[]> {
  const { escrow, waterfall } = licet;
  if ((await escrow.assetIncomeOf(asset)) > 0n) await send(escrow.payAsset, asset);
  if ((await waterfall.potOf(asset)) === 0n) return [];
  const { logs } = await send(waterfall.distribute, asset);
  return logs
    .filter((log): log is EventLog => "eventName" in log)
    .flatMap(({ eventName, args }) => {
      if (eventName === "IncomeCredited")
        return [{ from: asset, to: `asset ${args.assetId}`, ...money.of(args.amount) }];
      return eventName === "IncomeClaimable" ? [{ from: asset, to: args.holder, ...money.of(args.amount) }] : [];
    });
}

export interface ShareIncome {
  asset: number;
  /** Whether what this brings the asset's parents is distributed, too, and what that brings theirs. */
  through: boolean;
}

/** Has an asset's income distributed, and with `through` that of all that it came from. */
export async function shareIncome(session: Session, { asset, through }: ShareIncome): Promise<TaskRecord> {
  await session.licet.assets.ownerOf(asset);
  const parts: TaskRecord[] = [];
  const waiting = new Set([asset]);
  while (waiting.size > 0) {
    // A parent's id is below its children's: each comes when all that its children send it is there.
    const next = Math.max(...waiting);
    waiting.delete(next);
    parts.push(...(await distributeIncome(session, next)));
    if (!through) break;
    for (const { parentId } of await session.licet.assets.parentsOf(next)) waiting.add(Number(parentId));
  }
  if (parts.length === 0) throw new Problem(`No income of asset ${asset} waits: releases of batches bring it.`);
  return { asset, distributed: parts };
}

/** Sends all that distributions made the signer's to `to`. */
export async function withdrawIncome({ licet, money, signer }: Session, args: { to?: string }): Promise<TaskRecord> {
  const { waterfall } = licet;
  const to = args.to ?? signer.address;
  const claimable = await waterfall.claimableOf(signer.address);
  await send(waterfall.withdraw, to);
  return { to, withdrawn: money.of(claimable) };
}

sendingTask("asset:income", {
  about: "Distributes an asset's income to its parents, its payees and its owner; anybody may",
  example: "--asset 1 --through",
  parameters: {
    asset: assetId(),
    through: flag("Also distribute what that brings its parents, and theirs"),
  },
  act: shareIncome,
});

sendingTask("asset:withdraw", {
  about: "Sends you all that distributions of assets' income made yours",
  example: "--account 1",
  parameters: { to: optional(address("Who gets it (default: you)")) },
  act: withdrawIncome,
});
