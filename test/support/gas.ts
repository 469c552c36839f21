import { reset, time } from "@nomicfoundation/hardhat-network-helpers";
import { id, keccak256, Signature, type TransactionResponse } from "ethers";
import hre from "hardhat";
import { FloorMarket__factory, type FloorMarket } from "../../typechain-types";
import { totalOf, packEntries } from "../../oracle/protocol/entries";
import type { BatchHeader, Entry } from "../../oracle/protocol/types";
import {
  addAsset,
  ANY_SHARES,
  ATTESTORS,
  creditAsset,
  deployMarket,
  HOUR,
  proofBy,
  purchaseOf,
  Relation,
  usd,
  type Market,
} from "./market";

/** One figure of a benchmark, beside what the same money costs to move without any rules. */
export interface Measurement {
  name: string;
  value: number;
  unit: "gas" | "gas/license";
  floor: number;
  ratio: number;
}

/** What the figures must stay below; the others are free. */
export const GAS_LIMITS: Record<string, number> = {
  "settle.attested.200": 9_000,
  "license.buy": 250_000,
  "escrow.deposit": 75_000,
  "batch.release": 130_000,
  "waterfall.distribute": 60_000,
};

const BATCH_SIZES = [1, 10, 50, 200];

/** Some terms of a floor license, in their place. */
const TERMS = (1n << 130n) - 1n;

/** A fixed time, far ahead: calldata and signatures, and so the gas, are the same in every run. */
const BENCH_TIME = 2_000_000_000;

/**
 * Measures every figure on the in-process network, on a market of its own. Settlements are of licenses of one plan that
 * were charged before, in a lane that settled before, with a discount and 2-of-3 signatures; everything is included.
 */
export async function measureGas(): Promise<Measurement[]> {
  // Addresses are in what is signed, and signatures in what is paid for: always the same ones.
  await reset();
  const market = await deployMarket();
  const { licet, licensee, operator, publisher, treasury, slasher, outsider } = market;
  const { escrow, staking, currency } = licet;
  const deployed = await hre.ethers.deployContract("FloorMarket", [await currency.getAddress(), ATTESTORS[0].address]);
  const floor = FloorMarket__factory.connect(await deployed.getAddress(), licensee);
  await currency.connect(licensee).approve(floor, usd(100_000));

  const measured: Measurement[] = [];
  const record = async (name: string, ours: Promise<TransactionResponse>, bare: Promise<TransactionResponse>) => {
    const [value, least] = [await gasOf(ours), await gasOf(bare)];
    measured.push({ name, value, unit: "gas", floor: least, ratio: round(value / least) });
  };

  // The first of a kind sets up totals and counters that every later one finds; that is paid once a market.
  await escrow.connect(licensee).buy(purchaseOf(market, { amount: usd(50) }));
  await floor.buy(TERMS);
  await floor.deposit(1, usd(50));
  await record("license.buy", escrow.connect(licensee).buy(purchaseOf(market, { capCode: 17 })), floor.buy(TERMS));
  await record("escrow.deposit", escrow.connect(licensee).deposit(2, usd(50)), floor.deposit(2, usd(50)));

  for (let licenseId = 3; licenseId <= 200; licenseId++) {
    await escrow.connect(licensee).buy(purchaseOf(market, { amount: usd(50) }));
    await floor.buy(TERMS);
    await floor.deposit(licenseId, usd(50));
  }
  await time.setNextBlockTimestamp(BENCH_TIME);
  await settleBoth(market, floor, 200);
  let lastBatch: { batchId: string; floorBatchId: string } | undefined;
  for (const size of BATCH_SIZES) {
    const { ours, bare, ...batch } = await settleBoth(market, floor, size);
    const [value, least] = [Math.round(ours / size), Math.round(bare / size)];
    measured.push({
      name: `settle.attested.${size}`,
      value,
      unit: "gas/license",
      floor: least,
      ratio: round(value / least),
    });
    lastBatch = batch;
  }

  await time.increase(4 * 24 * HOUR);
  await record(
    "batch.release",
    escrow.connect(outsider).release(lastBatch!.batchId),
    floor.release(lastBatch!.floorBatchId, operator, publisher, treasury),
  );
  await floor.addStake(usd(100));
  await record("stake.add", staking.connect(operator).addStake(1, usd(100), ...ANY_SHARES), floor.addStake(usd(100)));
  await record("stake.slash", staking.connect(slasher).slash(1, usd(5), treasury), floor.slash(outsider, usd(5)));

  // Behind an operator that others back, too; of what is put in, half is taken out again.
  await currency.mint(outsider, usd(100));
  await currency.connect(outsider).approve(staking, usd(100));
  const delegator = staking.connect(outsider);
  await record("stake.delegate", delegator.addStake(1, usd(100), ...ANY_SHARES), floor.delegate(usd(100)));
  const { shares } = await staking.positionOf(1, outsider);
  await delegator.thaw(1, shares / 2n);
  await time.increase((await staking.THAW_PERIOD()) + 1n);
  await record("stake.unstake", delegator.withdraw(1, outsider), floor.unstake(usd(50)));

  await creditChild(market);
  await record(
    "waterfall.distribute",
    licet.waterfall.connect(outsider).distribute(2),
    floor.distribute(publisher, treasury, operator),
  );
  return measured;
}

/** Has income wait for a model that came from the market's, of which everybody has had some before, and fetched it. */
async function creditChild(market: Market): Promise<void> {
  const { waterfall } = market.licet;
  const child = await addAsset(market, market.operator, {
    parents: [{ parentId: 1, relation: Relation.FineTunedFrom, incomeBps: 2_000 }],
  });
  await creditAsset(market, child, usd(10));
  for (const assetId of [child, 1]) await waterfall.distribute(assetId);
  for (const owner of [market.operator, market.publisher]) await waterfall.connect(owner).withdraw(owner);
  await creditAsset(market, child, usd(10));
}

/** Settles the next hour of the first `size` licenses, by the escrow and by the floor. */
async function settleBoth(market: Market, floor: FloorMarket, size: number) {
  const { escrow } = market.licet;
  const lane = await escrow.laneOf(market.operatorId, market.planId, market.versionId);
  const epochEnd = Math.max(Number(lane.epochEnd), BENCH_TIME) + HOUR;
  const entries = Array.from({ length: size }, (_, i) => usageOf(BigInt(i + 1)));
  const packed = packEntries(entries);
  const header: BatchHeader = {
    operatorId: market.operatorId,
    planId: market.planId,
    versionId: market.versionId,
    sequence: lane.sequence + 1n,
    epochStart: epochEnd - HOUR,
    epochEnd,
    root: id("root"),
    count: BigInt(size) * 1_217n,
    ...totalOf(entries),
    availabilityBps: 9_991,
    p95TtftMs: 951,
    samples: 288,
    entriesHash: keccak256(packed),
    evidenceHash: id("evidence"),
  };
  const batchId = await escrow.batchIdOf(header);
  const proof = proofBy(batchId);
  await time.setNextBlockTimestamp(epochEnd + 60);
  const ours = await gasOf(escrow.connect(market.outsider).settle(header, packed, proof));

  const payments = packPayments(entries, lane.sequence);
  const floorBatchId = keccak256(payments);
  const { r, yParityAndS } = Signature.from(ATTESTORS[0].signingKey.sign(floorBatchId));
  const bare = await gasOf(floor.settle(payments, r, yParityAndS));
  return { ours, bare, batchId, floorBatchId };
}

/** A day's use of one customer, with no meter at zero and none the same for two licenses. */
function usageOf(licenseId: bigint): Entry {
  return {
    licenseId,
    requests: 1_217n + licenseId,
    inputTokens: 234_567n + licenseId,
    cachedInputTokens: 81_234n + licenseId,
    outputTokens: 123_456n + licenseId,
    computeMs: 345_678n + licenseId,
  };
}

const packPayments = (entries: Entry[], salt: bigint): string =>
  `0x${entries
    .map(
      ({ licenseId }) => licenseId.toString(16).padStart(16, "0") + (1_000_003n + salt).toString(16).padStart(16, "0"),
    )
    .join("")}`;

async function gasOf(transaction: Promise<TransactionResponse>): Promise<number> {
  const receipt = await (await transaction).wait();
  return Number(receipt!.gasUsed);
}

const round = (ratio: number): number => Math.round(ratio * 100) / 100;
