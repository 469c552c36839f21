import { percentOf, periodOf } from "../oracle/chain/refusal";
import { dateOf, readingTask, timeOf, type Session, type TaskRecord } from "./support";

/** A deployment as it is: where its contracts are, what it is set to, and how much there is of everything. */
export async function showStatus({ hre, book, licet, money }: Session): Promise<TaskRecord> {
  const { assets, licenses, operators, staking, escrow } = licet;
  const { provider } = hre.ethers;
  const [block, now, owed, ceiling, fee, fees, pausedUntil, epoch, window, thaw, treasury] = await Promise.all([
    provider.getBlockNumber(),
    timeOf(hre),
    escrow.totalOwed(),
    escrow.depositCeiling(),
    escrow.feeBps(),
    escrow.protocolFees(),
    escrow.pausedUntil(),
    escrow.EPOCH_PERIOD(),
    escrow.WINDOW_PERIOD(),
    staking.THAW_PERIOD(),
    escrow.TREASURY(),
  ]);
  const [published, plans, sold, registered] = await Promise.all([
    assets.assetCount(),
    licenses.planCount(),
    licenses.licenseCount(),
    operators.operatorCount(),
  ]);
  return {
    network: hre.network.name,
    chain: book.chainId,
    block,
    time: dateOf(now),
    ...book.contracts,
    currency: `${money.symbol} at ${book.currency}, ${money.decimals} decimals`,
    treasury,
    "longest epoch": periodOf(epoch),
    window: periodOf(window),
    "thaw of licenses": periodOf(epoch + window),
    "thaw of stake": periodOf(thaw),
    "protocol fee": percentOf(fee),
    "fees for the treasury": money.of(fees),
    "owed by the escrow": money.of(owed),
    "deposit ceiling": money.of(ceiling),
    "of it used": percentOf(ceiling === 0n ? 0n : (owed * 10_000n) / ceiling),
    "purchases and deposits": pausedUntil > BigInt(now) ? `paused until ${dateOf(pausedUntil).toISOString()}` : "open",
    assets: published,
    plans,
    licenses: sold,
    operators: registered,
  };
}

readingTask("status", {
  about: "Shows a deployment: its contracts, what it is set to, and how much there is of everything",
  example: "--network localhost",
  parameters: {},
  act: showStatus,
});
