import { time } from "@nomicfoundation/hardhat-network-helpers";
import { expect } from "chai";
import hre from "hardhat";
import { BatchStatus, BondStatus, DAY, LicenseStatus, stakeOf, STOP_GRACE, WAIT, type Market } from "./market";

const LONGEST_HOLD = 30 * DAY;
const STAKE_THAW = 32 * DAY;

const numbers = (count: bigint): number[] => Array.from({ length: Number(count) }, (_, i) => i + 1);
const sum = (amounts: bigint[]): bigint => amounts.reduce((total, amount) => total + amount, 0n);

/** Of all batches, and of all charges that were split off them. */
async function batchIdsOf({ licet: { escrow } }: Market): Promise<string[]> {
  const settled = await escrow.queryFilter(escrow.filters.BatchSettled());
  const frozen = await escrow.queryFilter(escrow.filters.ChargeFrozen());
  return [...settled.map(({ args }) => args.batchId), ...new Set(frozen.map(({ args }) => args.chargeId))];
}

/** Currency units, by the contract that holds them. */
export type Held = Record<"escrow" | "staking" | "waterfall" | "committee", bigint>;

/** What each contract that holds money owes to whom it may concern, added up: what its balance must be. */
export async function owedBy(market: Market): Promise<Held> {
  const { escrow, staking, waterfall, committee, assets, licenses, operators } = market.licet;
  const people = await hre.ethers.getSigners();
  const ofEach = async <T>(keys: T[], amountOf: (key: T) => Promise<bigint>) =>
    sum(await Promise.all(keys.map(amountOf)));
  const ids = numbers(await licenses.licenseCount());
  const operatorIds = numbers(await operators.operatorCount());
  const assetIds = numbers(await assets.assetCount());

  const waiting = async (batchId: string) => {
    const { status, charged } = await escrow.batchOf(batchId);
    if (status === BigInt(BatchStatus.Held) || status === BigInt(BatchStatus.Frozen)) return charged;
    return status === BigInt(BatchStatus.Released) ? (await escrow.splitOf(batchId)).attestor : 0n;
  };
  const owed = {
    escrow: sum([
      await ofEach(ids, async (id) => (await escrow.accountOf(id)).balance),
      await ofEach(ids, async (id) => (await escrow.upfrontOf(id)).amount),
      await ofEach(await batchIdsOf(market), waiting),
      await ofEach(operatorIds, async (operatorId) => {
        const { earnings, forPool } = await escrow.operatorIncomeOf(operatorId);
        return earnings + forPool;
      }),
      await ofEach(assetIds, (assetId) => escrow.assetIncomeOf(assetId)),
      await escrow.protocolFees(),
    ]),
    staking: sum([
      await ofEach(operatorIds, async (operatorId) => stakeOf(market, operatorId)),
      await ofEach(people, (person) => staking.proceedsOf(person)),
    ]),
    waterfall: sum([
      await ofEach(assetIds, (assetId) => waterfall.potOf(assetId)),
      await ofEach(people, (person) => waterfall.claimableOf(person)),
    ]),
    committee: sum([
      await ofEach(people, (person) => committee.incomeOf(person)),
      await ofEach(await bondsOf(market), async ({ signer, holder }) => {
        return (await committee.bondOf(signer, holder)).weight * (await committee.BOND());
      }),
    ]),
  };
  expect(await escrow.totalOwed(), "what the escrow says that it owes").to.equal(owed.escrow);
  return owed;
}

interface BondKey {
  signer: string;
  holder: string;
}

/** Every bond that was ever posted, once. */
async function bondsOf({ licet: { committee } }: Market): Promise<BondKey[]> {
  const posted = await committee.queryFilter(committee.filters.BondPosted());
  const bonds = posted.map(({ args: { signer, holder } }) => ({ signer, holder }));
  return [...new Map(bonds.map((bond) => [bond.signer + bond.holder, bond])).values()];
}

/** What each contract that holds money has. */
export async function heldBy({ licet }: Market): Promise<Held> {
  const { currency, escrow, staking, waterfall, committee } = licet;
  const [ofEscrow, ofStaking, ofWaterfall, ofCommittee] = await Promise.all(
    [escrow, staking, waterfall, committee].map((contract) => currency.balanceOf(contract)),
  );
  return { escrow: ofEscrow, staking: ofStaking, waterfall: ofWaterfall, committee: ofCommittee };
}

/** Ends every license, and has everybody take out what is theirs, whoever they are. Nothing stays behind. */
export async function everybodyLeaves(market: Market): Promise<void> {
  const { licenses, operators, assets } = market.licet;
  const ids = numbers(await licenses.licenseCount());
  const operatorIds = numbers(await operators.operatorCount());
  for (const id of ids) await endLicense(market, id);
  await time.increase(STOP_GRACE + WAIT + LONGEST_HOLD + 1);
  for (const id of ids) await closeLicense(market, id);
  for (const batchId of await batchIdsOf(market)) await payBatch(market, batchId);
  for (const operatorId of operatorIds) await payOperator(market, operatorId);
  // Assets come after their parents: what the last ones earn runs on to the first.
  for (const assetId of numbers(await assets.assetCount()).reverse()) await payAsset(market, assetId);
  await leaveWithBalances(market, ids, operatorIds);
  await leaveWithIncome(market);
}

const signerOf = (address: string) => hre.ethers.getSigner(address);

async function endLicense({ licet: { escrow, licenses } }: Market, id: number): Promise<void> {
  const asOwner = escrow.connect(await signerOf(await licenses.ownerOf(id)));
  const { Locked, Movable, Running, Lapsed } = LicenseStatus;
  const is = async (...statuses: number[]) => statuses.includes(Number(await escrow.statusOf(id)));
  if (await is(Locked, Movable)) await asOwner.unlock(id);
  if (await is(Running, Lapsed)) await asOwner.end(id);
}

async function closeLicense({ licet: { escrow } }: Market, id: number): Promise<void> {
  while ((await escrow.statusOf(id)) !== BigInt(LicenseStatus.Closed)) await escrow.closeTerm(id);
  if ((await escrow.upfrontOf(id)).amount > 0n) await escrow.releaseUpfront(id);
}

async function payBatch({ licet: { escrow, committee } }: Market, batchId: string): Promise<void> {
  const status = async () => Number(await escrow.batchStatusOf(batchId));
  if ((await status()) === BatchStatus.Releasable) await escrow.release(batchId);
  if ((await status()) === BatchStatus.Released) await committee.shareIncome(batchId);
}

async function payOperator({ licet: { escrow, operators } }: Market, operatorId: number): Promise<void> {
  const { earnings, forPool } = await escrow.operatorIncomeOf(operatorId);
  const owner = await signerOf(await operators.ownerOf(operatorId));
  if (earnings > 0n) await escrow.connect(owner).withdrawEarnings(operatorId, owner);
  if (forPool > 0n) await escrow.payPool(operatorId);
}

async function payAsset({ licet: { escrow, waterfall } }: Market, assetId: number): Promise<void> {
  if ((await escrow.assetIncomeOf(assetId)) > 0n) await escrow.payAsset(assetId);
  if ((await waterfall.potOf(assetId)) > 0n) await waterfall.distribute(assetId);
}

async function leaveWithBalances(market: Market, ids: number[], operatorIds: number[]): Promise<void> {
  const { escrow, staking, licenses } = market.licet;
  for (const id of ids) {
    const asOwner = escrow.connect(await signerOf(await licenses.ownerOf(id)));
    const { balance } = await escrow.accountOf(id);
    await asOwner.thaw(id, balance);
  }
  const holders = await hre.ethers.getSigners();
  for (const [operatorId, holder] of operatorIds.flatMap((id) => holders.map((one) => [id, one] as const))) {
    const { shares } = await staking.positionOf(operatorId, holder);
    if (shares > 0n) await staking.connect(holder).thaw(operatorId, shares);
  }
  const { committee } = market.licet;
  const { None, Posted, Slashed } = BondStatus;
  const bonds = await bondsOf(market);
  for (const { signer, holder } of bonds) {
    const isPosted = (await committee.bondStatusOf(signer, holder)) === BigInt(Posted);
    if (isPosted) await committee.connect(await signerOf(holder)).thawBond(signer);
  }
  await time.increase(STAKE_THAW + 1);
  for (const { signer, holder } of bonds) {
    const isGone = [None, Slashed].map(BigInt).includes(await committee.bondStatusOf(signer, holder));
    if (!isGone) await committee.connect(await signerOf(holder)).withdrawBond(signer, holder);
  }
  for (const id of ids) {
    const owner = await signerOf(await licenses.ownerOf(id));
    if ((await escrow.accountOf(id)).thawing > 0n) await escrow.connect(owner).withdraw(id, owner);
  }
  for (const [operatorId, holder] of operatorIds.flatMap((id) => holders.map((one) => [id, one] as const))) {
    const { thawingShares } = await staking.positionOf(operatorId, holder);
    if (thawingShares > 0n) await staking.connect(holder).withdraw(operatorId, holder);
  }
}

async function leaveWithIncome({ licet: { escrow, staking, waterfall, committee } }: Market): Promise<void> {
  for (const person of await hre.ethers.getSigners()) {
    if ((await waterfall.claimableOf(person)) > 0n) await waterfall.connect(person).withdraw(person);
    if ((await staking.proceedsOf(person)) > 0n) await staking.connect(person).withdrawProceeds(person);
    if ((await committee.incomeOf(person)) > 0n) await committee.connect(person).withdraw(person);
  }
  if ((await escrow.protocolFees()) > 0n) await escrow.withdrawFees();
}
