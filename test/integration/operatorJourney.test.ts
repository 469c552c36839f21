import { loadFixture, time } from "@nomicfoundation/hardhat-network-helpers";
import { expect } from "chai";
import { id, Wallet } from "ethers";
import { everybodyLeaves, heldBy, owedBy } from "../support/books";
import {
  addPlan,
  ANY_SHARES,
  buyLicense,
  DAY,
  deployMarket,
  KeyStatus,
  OperatorStatus,
  settle,
  stakeOf,
  usd,
  worth,
  type Market,
} from "../support/market";

const JAIL = 7 * DAY;
const CURE = 90 * DAY;
const STAKE_THAW = 32 * DAY;

describe("an operator", () => {
  let market: Market;

  beforeEach(async () => {
    market = await loadFixture(deployMarket);
  });

  it("registers, stakes, serves, fails, sits in jail, is cured, earns bonuses, and leaves", async () => {
    const { outsider: owner, treasury } = market;
    const { operators, staking, escrow, currency } = market.licet;
    const expectEvenBooks = async () => expect(await heldBy(market)).to.deep.equal(await owedBy(market));
    const status = () => staking.statusOf(operatorId);
    const key = new Wallet(id("an operator's key")).address;

    // It registers, with a key for a year, and serves the plan.
    await operators.connect(owner).register("https://gpu.example", "ipfs://me");
    const operatorId = Number(await operators.operatorCount());
    await operators.connect(owner).addKey(operatorId, key, (await time.latest()) + 365 * DAY);
    await operators.connect(owner).setServed(operatorId, market.planId, true);
    expect(await operators.statusOf(operatorId, key)).to.equal(KeyStatus.Active);
    expect(await status()).to.equal(OperatorStatus.Unstaked);

    // Without stake it can't charge anything.
    const license = await buyLicense(market, usd(5_000), { operatorId });
    const serve = async (dollars: number, changes = {}) =>
      (await settle(market, [worth(license, dollars)], { operatorId, ...changes })).batchId;
    await expect(serve(1))
      .to.be.revertedWithCustomError(staking, "InFlightAboveActiveStake")
      .withArgs(operatorId, usd(1), 0);
    await currency.mint(owner, usd(1_000));
    await currency.connect(owner).approve(staking, usd(1_000));
    await staking.connect(owner).addStake(operatorId, usd(1_000), ...ANY_SHARES);
    expect(await status()).to.equal(OperatorStatus.Active);

    // A good day earns 67 % after its hold, and half of the fee for the pool.
    const good = await serve(100);
    await time.increase(3 * DAY);
    await escrow.release(good);
    const earned = async () => (await escrow.operatorIncomeOf(operatorId)).earnings;
    expect(await earned()).to.equal(usd(67));
    await escrow.payPool(operatorId);
    expect(await stakeOf(market, operatorId)).to.equal(usd(1_000.5));

    // A bad week: a tenth off each day, and after the third 1 % of the pool is gone, and it sits for a week.
    const bad: string[] = [];
    for (let day = 0; day < 3; day += 1) {
      expect(await status()).to.equal(OperatorStatus.Active);
      bad.push(await serve(100, { availabilityBps: 9_500 }));
      await time.increase(DAY);
    }
    expect(await status()).to.equal(OperatorStatus.Jailed);
    const fine = usd(1_000.5) / 100n;
    expect(await staking.proceedsOf(treasury)).to.equal(fine);
    expect(await stakeOf(market, operatorId)).to.equal(usd(1_000.5) - fine);
    await expectEvenBooks();

    // Nobody may choose it; what it serves settles, and earns no bonus.
    await expect(buyLicense(market, 0n, { operatorId }))
      .to.be.revertedWithCustomError(escrow, "OperatorInJail")
      .withArgs(operatorId);
    const jailed = await serve(100);
    expect((await escrow.splitOf(jailed)).bonus).to.equal(0);
    await time.increase(JAIL);
    expect(await status()).to.equal(OperatorStatus.Active);
    for (const batchId of [...bad, jailed]) await escrow.release(batchId);
    // Of each bad day the others have their shares of 100, and the operator what is left of 90.
    expect(await earned()).to.equal(usd(67) + 3n * usd(57) + usd(67));

    // Cured, it fails again: a week, and not two.
    await time.increase(CURE);
    for (let day = 0; day < 3; day += 1) {
      await time.increase(DAY);
      await serve(10, { p95TtftMs: 9_000 });
    }
    const { jailedUntil, jailings } = await staking.poolOf(operatorId);
    expect([jailedUntil, jailings]).to.deep.equal([(await time.latest()) + JAIL, 1]);

    // Its key leaks. It stops to serve, and takes its stake home, once nothing is in flight.
    await operators.connect(owner).revokeKey(operatorId, key);
    expect(await operators.statusOf(operatorId, key)).to.equal(KeyStatus.Revoked);
    await operators.connect(owner).setServed(operatorId, market.planId, false);
    const stake = await stakeOf(market, operatorId);
    const { shares } = await staking.poolOf(operatorId);
    await staking.connect(owner).thaw(operatorId, shares);
    await time.increase(STAKE_THAW + 1);
    await expect(staking.connect(owner).withdraw(operatorId, owner))
      .to.be.revertedWithCustomError(staking, "StakeStillNeeded")
      .withArgs(operatorId, 0, usd(22.5), 0);
    const settled = await escrow.queryFilter(escrow.filters.BatchSettled(undefined, operatorId));
    for (const { args } of settled.slice(-3)) await escrow.release(args.batchId);
    await expect(staking.connect(owner).withdraw(operatorId, owner)).to.changeTokenBalance(currency, owner, stake);
    expect(await status()).to.equal(OperatorStatus.Unstaked);

    await expectEvenBooks();
    await everybodyLeaves(market);
    expect(await heldBy(market)).to.deep.equal({ escrow: 0n, staking: 0n, waterfall: 0n, committee: 0n });
  });

  it("is judged under each plan apart, and not by a day that was punished", async () => {
    const { staking } = market.licet;
    const other = await addPlan(market);
    const licenses = [await buyLicense(market, usd(50)), await buyLicense(market, usd(50), { planId: other })];
    const fail = async (planId: number, license: bigint) =>
      settle(market, [worth(license, 1)], { planId, availabilityBps: 0 });
    for (let day = 0; day < 2; day += 1) {
      await time.increase(DAY);
      await fail(market.planId, licenses[0]);
      await fail(other, licenses[1]);
    }
    expect(await staking.statusOf(1)).to.equal(OperatorStatus.Active);
    await time.increase(DAY);
    await fail(market.planId, licenses[0]);
    expect((await staking.poolOf(1)).jailings).to.equal(1);
    await fail(market.planId, licenses[0]);
    expect((await staking.poolOf(1)).jailings).to.equal(1);
    await fail(other, licenses[1]);
    expect((await staking.poolOf(1)).jailings).to.equal(2);
  });
});
