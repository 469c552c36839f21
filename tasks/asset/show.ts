import { readEach } from "../../oracle/chain/parallel";
import { percentOf } from "../../oracle/chain/refusal";
import { LINEAGE } from "../../oracle/chain/statuses";
import { assetId, readingTask, type Session, type TaskRecord } from "../support";

/** An asset: what it is, permits and came from, and where its income goes. */
export async function showAsset(session: Session, { asset }: { asset: number }): Promise<TaskRecord> {
  const { licet, money } = session;
  const { assets, escrow, waterfall } = licet;
  // Alone, since it is the one that says it best if there is no such asset.
  const { kind, policy, minShareBps, permittedUses } = await assets.assetOf(asset);
  const [owner, uri, [receiver, royalty], parents, payees] = await Promise.all([
    assets.ownerOf(asset),
    assets.tokenURI(asset),
    assets.royaltyInfo(asset, 10_000),
    assets.parentsOf(asset),
    payeesOf(session, asset),
  ]);
  const [earned, inPot, inEscrow] = await Promise.all([
    waterfall.incomeOf(asset),
    waterfall.potOf(asset),
    escrow.assetIncomeOf(asset),
  ]);
  return {
    asset,
    kind: LINEAGE.AssetKind[Number(kind)],
    owner,
    uri,
    "permitted uses": permittedUses,
    derivatives: LINEAGE.DerivativePolicy[Number(policy)],
    "least share of derivatives": percentOf(minShareBps),
    royalty: `${percentOf(royalty)} to ${receiver}`,
    parents: parents.map(({ parentId, relation, incomeBps }) => ({
      asset: parentId,
      relation: LINEAGE.Relation[Number(relation)],
      share: percentOf(incomeBps),
    })),
    payees,
    "income so far": money.of(earned + inEscrow),
    "of it to be distributed": money.of(inPot + inEscrow),
  };
}

async function payeesOf({ licet: { waterfall } }: Session, asset: number) {
  return readEach(await waterfall.payeesOf(asset), async ({ payeeId, incomeBps }) => ({
    payee: payeeId,
    holder: await waterfall.ownerOf(payeeId),
    share: percentOf(incomeBps),
  }));
}

interface Step {
  asset: number;
  relation: string;
  /** What came from it. */
  of: number;
  incomeBps: bigint;
}

/** What an asset came from, as far back as lineage goes, and what came from it. */
export async function showLineage({ licet, book }: Session, { asset }: { asset: number }): Promise<TaskRecord> {
  const { assets } = licet;
  const { kind } = await assets.assetOf(asset);
  const steps = await ancestryOf(licet, asset);
  const derived = await assets.queryFilter(assets.filters.AssetDerived(undefined, asset), book.block);
  return {
    asset,
    kind: LINEAGE.AssetKind[Number(kind)],
    "came from": steps.map(({ incomeBps, ...step }) => ({ ...step, share: percentOf(incomeBps) })),
    "of its income runs on to": reachOf(asset, steps),
    "led to": derived.map(({ args: { assetId, relation, incomeBps } }) => ({
      asset: assetId,
      relation: LINEAGE.Relation[Number(relation)],
      share: percentOf(incomeBps),
    })),
  };
}

/** All edges above an asset. A parent's id is below its children's: the highest first meets each asset once. */
async function ancestryOf({ assets }: Session["licet"], asset: number): Promise<Step[]> {
  const steps: Step[] = [];
  const waiting = new Set([asset]);
  while (waiting.size > 0) {
    const of = Math.max(...waiting);
    waiting.delete(of);
    for (const { parentId, relation, incomeBps } of await assets.parentsOf(of)) {
      steps.push({ asset: Number(parentId), relation: LINEAGE.Relation[Number(relation)], of, incomeBps });
      waiting.add(Number(parentId));
    }
  }
  return steps;
}

/** What of an asset's income reaches each of those that it came from, by all ways. */
function reachOf(asset: number, steps: Step[]): TaskRecord[] {
  const reach = new Map([[asset, 1]]);
  for (const { asset: parent, of, incomeBps } of steps) {
    reach.set(parent, (reach.get(parent) ?? 0) + (reach.get(of)! * Number(incomeBps)) / 10_000);
  }
  reach.delete(asset);
  return [...reach].map(([one, part]) => ({ asset: one, share: `${Number((part * 100).toFixed(4))} %` }));
}

readingTask("asset:show", {
  about: "Shows what an asset is and permits, and where its income goes",
  example: "--asset 1",
  parameters: { asset: assetId() },
  act: showAsset,
});

readingTask("asset:lineage", {
  about: "Shows what an asset came from, as far back as lineage goes, and what came from it",
  example: "--asset 1",
  parameters: { asset: assetId() },
  act: showLineage,
});
