import { impersonateAccount, setBalance, setStorageAt, time } from "@nomicfoundation/hardhat-network-helpers";
import { AbiCoder, keccak256, MaxUint256, type Signer } from "ethers";
import hre from "hardhat";
import type { IPerformanceStaking } from "../../typechain-types/contracts/PerformanceStaking";
import { ANY_SHARES, DAY, deployMarket, usd, type Market } from "./market";

export const STAKE_THAW = 32 * DAY;
export const VESTING = 3 * DAY;
export const MOST_THAWS = 16;
/** Shares of a unit of stake, while nothing was slashed and nothing earned. */
export const SHARES = 1_000n;

/** A market in which UsageEscrow can be spoken for, and whose operator and `payees` have money that they may stake. */
export async function deployWithCallers(): Promise<Market> {
  const market = await deployMarket();
  const { escrow, staking, currency } = market.licet;
  await impersonateAccount(await escrow.getAddress());
  await setBalance(await escrow.getAddress(), 10n ** 18n);
  for (const holder of [market.operator, ...market.payees.slice(0, 4)]) {
    await currency.mint(holder, usd(10_000_000));
    await currency.connect(holder).approve(staking, MaxUint256);
  }
  return market;
}

/** The staking as UsageEscrow calls it. */
export async function asEscrow({ licet }: Market) {
  return licet.staking.connect(await hre.ethers.getSigner(await licet.escrow.getAddress()));
}

export const chargeOf = (amount: bigint, changes: Partial<IPerformanceStaking.ChargeStruct> = {}) => ({
  operatorId: 1,
  planId: 1,
  amount,
  day: 20_000,
  breached: false,
  ...changes,
});

/** Has `holder` stake behind the market's operator. */
export const stakeAs = ({ licet }: Market, holder: Signer, amount: bigint) =>
  licet.staking.connect(holder).addStake(1, amount, ...ANY_SHARES);

/** Income for the pool of the market's operator, as UsageEscrow pays it; the money comes from nowhere, in no time. */
export async function earn(market: Market, amount: bigint) {
  const { staking, currency } = market.licet;
  const held = (await currency.balanceOf(staking)) + amount;
  const balances = 0;
  const slot = keccak256(
    AbiCoder.defaultAbiCoder().encode(["address", "uint256"], [await staking.getAddress(), balances]),
  );
  await setStorageAt(await currency.getAddress(), slot, held);
  return (await asEscrow(market)).addIncome(1, amount);
}

/** Has `holder` thaw `shares`, all of its own if none are named, and wait until they are ready. */
export async function thawAndWait({ licet }: Market, holder: Signer, shares?: bigint) {
  const all = (await licet.staking.positionOf(1, holder)).shares;
  await licet.staking.connect(holder).thaw(1, shares ?? all);
  await time.increase(STAKE_THAW + 1);
}
