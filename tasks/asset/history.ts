import { toBeHex, type EventLog, type LogDescription } from "ethers";
import { readEach } from "../../oracle/chain/parallel";
import { percentOf } from "../../oracle/chain/refusal";
import { LINEAGE } from "../../oracle/chain/statuses";
import { numberOf } from "../../oracle/protocol/versionId";
import { assetId, dateOf, readingTask, type Session, type TaskRecord } from "../support";

type Arguments = EventLog["args"];

/** What each event of an asset says, for people. */
const SENTENCES: Record<string, (args: Arguments) => string> = {
  AssetRegistered: ({ kind, uri }) => `registered as a ${LINEAGE.AssetKind[Number(kind)].toLowerCase()}, at ${uri}`,
  AssetDerived: ({ parentId, relation, incomeBps }) =>
    `came from asset ${parentId} (${LINEAGE.Relation[Number(relation)]}), which gets ${percentOf(incomeBps)}`,
  AssetDescribed: ({ uri }) => `described at ${uri}`,
  PolicySet: ({ policy, minShareBps }) =>
    `derivatives: ${LINEAGE.DerivativePolicy[Number(policy)]}, at ${percentOf(minShareBps)} or more`,
  RoyaltyReceiverSet: ({ receiver }) => `royalty handed on to ${receiver}`,
  DerivationUsed: ({ digest }) => `approval ${digest} used`,
  DerivationWithdrawn: ({ digest }) => `approval ${digest} taken back`,
  VersionPublished: ({ versionId, uri, changes }) =>
    `version ${numberOf(versionId)} published at ${uri}${changes === "" ? "" : `: ${changes}`}`,
  VersionRecalled: ({ versionId, recallAt }) =>
    `version ${numberOf(versionId)} recalled: usable until ${dateOf(recallAt).toISOString()}`,
  Transfer: ({ to }) => `handed to ${to}`,
};

/** All that ever became of an asset: when, by whom, and what. */
export async function showHistory(session: Session, { asset }: { asset: number }): Promise<TaskRecord> {
  const { assets } = session.licet;
  await assets.ownerOf(asset);
  const logs = await logsOf(session, asset);
  const events = await readEach(logs, async (log) => {
    const { name, args } = assets.interface.parseLog(log) as LogDescription;
    const [block, transaction] = await Promise.all([log.getBlock(), log.getTransaction()]);
    return { when: dateOf(block.timestamp), who: transaction.from, what: SENTENCES[name](args) };
  });
  return { asset, events };
}

/** The first topic of an asset's events is its id; of a token's transfer, the third, and that of its registration says nothing new. */
async function logsOf({ hre, book, licet }: Session, asset: number) {
  const address = await licet.assets.getAddress();
  const topic = toBeHex(asset, 32);
  const filter = { address, fromBlock: book.block };
  const { topicHash } = licet.assets.getEvent("Transfer").fragment;
  const [own, transfers] = await Promise.all([
    hre.ethers.provider.getLogs({ ...filter, topics: [null, topic] }),
    hre.ethers.provider.getLogs({ ...filter, topics: [topicHash, null, null, topic] }),
  ]);
  return [...own, ...transfers.slice(1)].sort((a, b) => a.blockNumber - b.blockNumber || a.index - b.index);
}

readingTask("asset:history", {
  about: "Shows all that ever became of an asset: when, by whom, and what",
  example: "--asset 1",
  parameters: { asset: assetId() },
  act: showHistory,
});
