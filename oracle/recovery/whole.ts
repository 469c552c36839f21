import { UsageEscrow__factory } from "../../typechain-types";
import type { Chain } from "../chain/chain";
import { readEach } from "../chain/parallel";
import type { Deployment } from "../chain/deployment";
import { Problem } from "../problem";
import type { Store } from "../store/store";

const REMEDY = "npx licet-oracle rebuild --config FILE makes it whole, from the chain and the attestors";

/**
 * Makes sure that nothing is missing in an operator's store that was signed from it: numbers would be used twice.
 * @throws Problem if it waits to be rebuilt, lacks batches that the chain has, or has nothing though its operator's batches have settled
 */
export async function requireWhole(
  store: Store,
  { provider, escrow, fromBlock }: Deployment,
  chain: Pick<Chain, "lane">,
  operatorId: number | undefined,
): Promise<void> {
  const since = await store.recovery.incompleteSince();
  if (since !== null) {
    const when = new Date(since * 1_000).toISOString();
    throw new Problem(`The operator's store has waited to be rebuilt since ${when}: ${REMEDY}.`);
  }
  await requireUpToDate(store, chain);
  if (operatorId === undefined || !(await store.recovery.isEmpty())) return;
  const contract = UsageEscrow__factory.connect(escrow, { provider });
  const settled = await contract.queryFilter(contract.filters.BatchSettled(undefined, operatorId), fromBlock);
  if (settled.length === 0) return;
  throw new Problem(
    `The operator's store is empty, and ${settled.length} batches of operator ${operatorId} have settled: ${REMEDY}; ` +
      "or name the dataFolder or databaseSchema that was used before.",
  );
}

/** A copy that was put in place by hand is older than the chain, if anything has settled since. */
async function requireUpToDate(store: Store, chain: Pick<Chain, "lane">): Promise<void> {
  await readEach(await store.recovery.lanes(), async ({ lane, lastSequence }) => {
    const { sequence } = await chain.lane(lane.operatorId, lane.planId, lane.versionId);
    if (sequence <= lastSequence) return;
    throw new Problem(
      `The operator's store is older than the chain: of operator ${lane.operatorId}, plan ${lane.planId}, version ${lane.versionId} it ` +
        `has batches up to number ${lastSequence}, and number ${sequence} has settled: ${REMEDY}.`,
    );
  });
}
