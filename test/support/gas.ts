import { reset, time } from "@nomicfoundation/hardhat-network-helpers";
import { id, keccak256, Signature, Wallet, type TransactionReceipt, type TransactionResponse } from "ethers";
import hre from "hardhat";
import type { FloorMarket } from "../../typechain-types";
import { packEntries, totalOf, unpackOutcomes } from "../../oracle/protocol/entries";
import { packVouchers, signVoucher, unpackVoucherOutcomes, type Voucher } from "../../oracle/protocol/vouchers";
import type { BatchHeader, Entry } from "../../oracle/protocol/types";
import {
  addAsset,
  ANY_SHARES,
  ATTESTORS,
  creditAsset,
  DAY,
  deployMarket,
  domainOf,
  HOUR,
  proofBy,
  purchaseOf,
  Relation,
  usd,
  WAIT,
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
  "license.buy": 180_000,
  "escrow.deposit": 62_000,
  "settle.attested.200": 7_000,
  "settle.voucher.50": 15_500,
  "settle.voucher.200": 14_500,
  "batch.release": 90_000,
  "waterfall.distribute": 60_000,
};

/** How many licenses a settlement is of; the most take long, and are for the benchmark alone. */
export const SIZES = [1, 10, 50, 200];
export const ALL_SIZES = [...SIZES, 1_000];

/** What one license's entry, or voucher, stands for in the benchmark. */
export const RECEIPTS_A_LICENSE = 1_217;

/** Some terms of a floor license, in their place. */
const TERMS = (1n << 130n) - 1n;

/** A fixed time, far ahead: calldata and signatures, and so the gas, are the same in every run. */
export const START = 2_000_000_000;

/** Signs the vouchers of all licenses. */
export const VOUCHER_KEY = new Wallet(id("voucher key"));

/** Is shown every settlement that was measured, while its chain is there. */
export type Watch = (name: string, size: number, hash: string) => Promise<void>;

interface Bench {
  sizes: number[];
  market: Market;
  floor: FloorMarket;
  measured: Measurement[];
  watch: Watch;
}

/**
 * Measures every figure on the in-process network, on a market of its own. Settlements are of licenses of one plan that
 * were charged before, in a lane that settled before, with a discount and 2-of-3 signatures; everything is included. What
 * the first of a kind sets up is paid once a market, and isn't in the figures but where their names say so.
 */
export async function measureGas(sizes = SIZES, watch: Watch = async () => {}): Promise<Measurement[]> {
  // Addresses are in what is signed, and signatures in what is paid for: always the same ones.
  await reset();
  await time.setNextBlockTimestamp(START - DAY);
  const market = await deployMarket();
  const { currency, escrow } = market.licet;
  const constructed = [await currency.getAddress(), ATTESTORS[0].address];
  const floor = await hre.ethers.deployContract("FloorMarket", constructed, market.licensee);
  await currency.mint(market.licensee, usd(1_000_000));
  for (const payee of [escrow, floor]) await currency.connect(market.licensee).approve(payee, usd(1_000_000));

  const bench: Bench = { sizes, market, floor: floor as unknown as FloorMarket, measured: [], watch };
  await measureTransfer(bench);
  await measurePurchase(bench);
  await time.setNextBlockTimestamp(START);
  const batches = await measureBatches(bench);
  await measureRelease(bench, batches);
  await measureVouchers(bench);
  await measureWaterfall(bench);
  await measureStake(bench);
  return bench.measured;
}

/** The least that pays anybody anything: a plain transfer, to who has some of the currency already. */
async function measureTransfer({ market, measured }: Bench): Promise<void> {
  const { licet, licensee, publisher } = market;
  const pay = () => licet.currency.connect(licensee).transfer(publisher, usd(1));
  await pay();
  const value = await gasOf(pay());
  measured.push({ name: "erc20.transfer", value, unit: "gas", floor: value, ratio: 1 });
}

async function measurePurchase(bench: Bench): Promise<void> {
  const { market, floor } = bench;
  const escrow = market.licet.escrow.connect(market.licensee);
  const buyOne = () => escrow.buy(purchaseOf(market, { amount: usd(50) }));
  await buyOne();
  await floor.buy(TERMS);
  await floor.deposit(1, usd(50));
  await record(bench, "license.buy", escrow.buy(purchaseOf(market, { capCode: 17 })), floor.buy(TERMS));
  await record(bench, "escrow.deposit", escrow.deposit(2, usd(50)), floor.deposit(2, usd(50)));

  const others = Math.max(...bench.sizes) - 2;
  await forEach(others, buyOne);
  await inParts(others, (first, last) => floor.open(last - first + 1, TERMS, usd(50)));
}

/** Settles batches of every size, and of the largest first, so that every license was charged before. */
async function measureBatches(bench: Bench): Promise<{ batchId: string; floorBatchId: string }[]> {
  const batches = [await settleBoth(bench, Math.max(...bench.sizes))];
  for (const size of bench.sizes) {
    const settled = await settleBoth(bench, size);
    await recordEach(bench, `settle.attested.${size}`, size, settled);
    batches.push(settled);
  }
  return batches;
}

/** Brings all licenses to the voucher road, and settles as `measureBatches` does. */
async function measureVouchers(bench: Bench): Promise<void> {
  const { market, floor } = bench;
  const escrow = market.licet.escrow.connect(market.licensee);
  const { operatorId } = market;
  const most = Math.max(...bench.sizes);
  await forEach(most, (licenseId) => escrow.changeService(licenseId, operatorId, true));
  await time.increase(WAIT + HOUR);
  await forEach(most, (licenseId) => escrow.applyServiceChange(licenseId));
  await forEach(most, (licenseId) => escrow.addVoucherKey(licenseId, VOUCHER_KEY.address, usd(50)));
  await inParts(most, (first, last) => floor.addKeys(first, last, VOUCHER_KEY.address));
  await claimBoth(bench, most, 1);
  for (const [i, size] of bench.sizes.entries()) {
    await recordEach(bench, `settle.voucher.${size}`, size, await claimBoth(bench, size, i + 2));
  }
}

/** Releases two batches: the first begins the incomes that all later ones add to. */
async function measureRelease(bench: Bench, batches: { batchId: string; floorBatchId: string }[]): Promise<void> {
  const { market, floor } = bench;
  const { operator, publisher, treasury, outsider } = market;
  const [first, second] = batches;
  const release = (batchId: string) => market.licet.escrow.connect(outsider).release(batchId);
  const bare = (batchId: string) => floor.release(batchId, operator, publisher, treasury);
  await time.increase(4 * DAY);
  await record(bench, "batch.release.first", release(first.batchId), bare(first.floorBatchId));
  await record(bench, "batch.release", release(second.batchId), bare(second.floorBatchId));
}

/** Moves a pot on whose asset, parent and owner have had income before. */
async function measureWaterfall(bench: Bench): Promise<void> {
  const { market, floor } = bench;
  const { assetId, outsider } = market;
  const { waterfall } = market.licet;
  const parents = [{ parentId: assetId, relation: Relation.FineTunedFrom, incomeBps: 5_000 }];
  const child = await addAsset(market, outsider, { parents });
  const fill = async () => {
    await creditAsset(market, child, usd(10));
    await floor.fill(child, usd(10));
  };
  const distribute = (): [Promise<TransactionResponse>, Promise<TransactionResponse>] => [
    waterfall.distribute(child),
    floor.distribute(child, assetId, outsider),
  ];
  await fill();
  await Promise.all(distribute());
  await fill();
  await record(bench, "waterfall.distribute", ...distribute());
}

async function measureStake(bench: Bench): Promise<void> {
  const { market, floor } = bench;
  const { operator, outsider, slasher, treasury } = market;
  const { staking, currency } = market.licet;
  await floor.addStake(usd(100));
  const owner = staking.connect(operator);
  await record(bench, "stake.add", owner.addStake(1, usd(100), ...ANY_SHARES), floor.addStake(usd(100)));
  const slash = staking.connect(slasher).slash(1, usd(5), treasury);
  await record(bench, "stake.slash", slash, floor.slash(outsider, usd(5)));

  // Behind an operator that others back, too; of what is put in, half is taken out again.
  await currency.mint(outsider, usd(100));
  await currency.connect(outsider).approve(staking, usd(100));
  const delegator = staking.connect(outsider);
  await record(bench, "stake.delegate", delegator.addStake(1, usd(100), ...ANY_SHARES), floor.delegate(usd(100)));
  const { shares } = await staking.positionOf(1, outsider);
  await delegator.thaw(1, shares / 2n);
  await time.increase((await staking.THAW_PERIOD()) + 1n);
  await record(bench, "stake.unstake", delegator.withdraw(1, outsider), floor.unstake(usd(50)));
}

/** Settles the next hour of the first `size` licenses, by the escrow and by the floor. */
async function settleBoth({ market, floor }: Bench, size: number) {
  const { escrow } = market.licet;
  const lane = await escrow.laneOf(market.operatorId, market.planId, market.versionId);
  const epochEnd = Math.max(Number(lane.epochEnd), START) + HOUR;
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
    count: BigInt(size * RECEIPTS_A_LICENSE),
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
  const settled = await receiptOf(escrow.connect(market.outsider).settle(header, packed, proof));
  requireCharged(unpackOutcomes(outcomesIn(market, settled, "BatchSettled")), size);

  const payments = packPayments(entries, lane.sequence);
  const floorBatchId = keccak256(payments);
  const { r, yParityAndS } = Signature.from(ATTESTORS[0].signingKey.sign(floorBatchId));
  const bare = await gasOf(floor.settle(payments, r, yParityAndS));
  return { ours: settled, bare, batchId, floorBatchId };
}

/** Settles the `round`-th vouchers of the first `size` licenses, by the escrow and by the floor. */
async function claimBoth({ market, floor }: Bench, size: number, round: number) {
  const { escrow } = market.licet;
  const { operatorId, planId } = market;
  const domain = await domainOf(market);
  const spent = usd(20) + BigInt(round) * 1_000_003n;
  const vouchers: Voucher[] = Array.from({ length: size }, (_, i) => ({
    licenseId: BigInt(i + 1),
    operatorId,
    generation: 0,
    term: 0,
    spent,
  }));
  const signed = await Promise.all(vouchers.map((voucher) => signVoucher(domain, voucher, VOUCHER_KEY)));
  const packed = packVouchers(signed);
  const settled = await receiptOf(escrow.connect(market.outsider).settleVouchers(operatorId, planId, packed));
  requireCharged(unpackVoucherOutcomes(outcomesIn(market, settled, "VouchersSettled")), size);
  const bare = await gasOf(floor.claim(packClaims(vouchers)));
  return { ours: settled, bare };
}

function outcomesIn(
  { licet }: Market,
  { logs }: TransactionReceipt,
  event: "BatchSettled" | "VouchersSettled",
): string {
  const found = logs.map((log) => licet.escrow.interface.parseLog(log)).find((parsed) => parsed?.name === event);
  return found!.args.outcomes as string;
}

/** @throws Error if what was measured isn't what it is called */
function requireCharged(outcomes: { status: string }[], size: number): void {
  const charged = outcomes.filter(({ status }) => status === "Charged").length;
  if (charged !== size)
    throw new Error(`Of ${size} licenses ${charged} were charged in full, so the figure says nothing.`);
}

/** A day's use of one customer, with no meter at zero and none the same for two licenses. */
export function usageOf(licenseId: bigint): Entry {
  return {
    licenseId,
    requests: BigInt(RECEIPTS_A_LICENSE) + licenseId,
    inputTokens: 234_567n + licenseId,
    cachedInputTokens: 81_234n + licenseId,
    outputTokens: 123_456n + licenseId,
    computeMs: 345_678n + licenseId,
  };
}

const uint64 = (value: bigint): string => value.toString(16).padStart(16, "0");

const packPayments = (entries: Entry[], salt: bigint): string =>
  `0x${entries.map(({ licenseId }) => uint64(licenseId) + uint64(1_000_003n + salt)).join("")}`;

const packClaims = (vouchers: Voucher[]): string =>
  `0x${vouchers
    .map(({ licenseId, spent }) => {
      const claim = uint64(licenseId) + uint64(spent);
      const { r, yParityAndS } = Signature.from(VOUCHER_KEY.signingKey.sign(keccak256(`0x${claim}`)));
      return claim + r.slice(2) + yParityAndS.slice(2);
    })
    .join("")}`;

async function record(
  { measured }: Bench,
  name: string,
  ours: Promise<TransactionResponse>,
  bare: Promise<TransactionResponse>,
): Promise<void> {
  const [value, floor] = [await gasOf(ours), await gasOf(bare)];
  measured.push({ name, value, unit: "gas", floor, ratio: round(value / floor) });
}

interface Settled {
  ours: TransactionReceipt;
  /** The floor's gas. */
  bare: number;
}

async function recordEach(
  { measured, watch }: Bench,
  name: string,
  size: number,
  { ours, bare }: Settled,
): Promise<void> {
  const [value, floor] = [Math.round(Number(ours.gasUsed) / size), Math.round(bare / size)];
  measured.push({ name, value, unit: "gas/license", floor, ratio: round(value / floor) });
  await watch(name, size, ours.hash);
}

/** Has something done for the numbers 1 to `count`, one after the other. */
async function forEach(count: number, act: (number: number) => Promise<TransactionResponse>): Promise<void> {
  for (let number = 1; number <= count; number++) await act(number);
}

/** How many licenses the floor sets up in one transaction. */
const TOGETHER = 100;

/** As `forEach`, in parts that fit into a block. */
async function inParts(
  count: number,
  act: (first: number, last: number) => Promise<TransactionResponse>,
): Promise<void> {
  for (let first = 1; first <= count; first += TOGETHER) await act(first, Math.min(first + TOGETHER - 1, count));
}

const receiptOf = async (transaction: Promise<TransactionResponse>): Promise<TransactionReceipt> =>
  (await (await transaction).wait())!;

const gasOf = async (transaction: Promise<TransactionResponse>): Promise<number> =>
  Number((await receiptOf(transaction)).gasUsed);

const round = (ratio: number): number => Math.round(ratio * 100) / 100;
