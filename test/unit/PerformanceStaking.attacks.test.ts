import { loadFixture, mine, time } from "@nomicfoundation/hardhat-network-helpers";
import { expect } from "chai";
import { MaxUint256 } from "ethers";
import hre from "hardhat";
import { addOperator, ANY_SHARES, DAY, HOUR, stakeOf, usd, type Market } from "../support/market";
import {
  asEscrow,
  chargeOf,
  deployWithCallers,
  earn,
  MOST_THAWS,
  SHARES,
  stakeAs,
  STAKE_THAW,
  thawAndWait,
  VESTING,
} from "../support/staking";

describe("attacks on a pool of stake", () => {
  let market: Market;
  let staking: Market["licet"]["staking"];
  let currency: Market["licet"]["currency"];
  let attacker: Market["operator"];
  let victim: Market["operator"];
  const { operatorId, stake } = { operatorId: 1, stake: usd(10_000) };

  beforeEach(async () => {
    market = await loadFixture(deployWithCallers);
    ({ staking, currency } = market.licet);
    [attacker, victim] = market.payees;
  });

  const slash = (amount: bigint, beneficiary = market.outsider) =>
    staking.connect(market.slasher).slash(operatorId, amount, beneficiary);
  const positionOf = (holder = attacker) => staking.positionOf(operatorId, holder);
  const worthOf = async (holder = attacker) => {
    const { active, thawing } = await positionOf(holder);
    return active + thawing;
  };
  /** Has `holder` put all of its shares on their way out, and withdraw them as soon as it may; what it gets. */
  const leave = async (holder = attacker, id = operatorId) => {
    const before = await currency.balanceOf(holder);
    const { shares } = await staking.positionOf(id, holder);
    if (shares > 0n) await staking.connect(holder).thaw(id, shares);
    await time.increase(STAKE_THAW + 1);
    await staking.connect(holder).withdraw(id, holder);
    return (await currency.balanceOf(holder)) - before;
  };
  /** Sends transactions in one block, in this order. */
  const inOneBlock = async (...acts: (() => Promise<unknown>)[]) => {
    await hre.network.provider.send("evm_setAutomine", [false]);
    for (const act of acts) await act();
    await mine();
    await hre.network.provider.send("evm_setAutomine", [true]);
  };
  const GAS = { gasLimit: 1_000_000 };

  describe("a first depositor who makes shares dear", () => {
    /**
     * The attacker is the only one behind its own operator, with a unit, and feeds it with income of its own: the most that
     * vests at a time, which doubles what is there, thirty times. What it put in.
     */
    const inflate = async () => {
      const id = await addOperator(market, attacker, 1n);
      const escrow = await asEscrow(market);
      let income = 0n;
      for (let round = 0; round < 30; round++) {
        const most = await staking.activeStakeOf(id);
        await currency.mint(staking, most);
        await escrow.addIncome(id, most);
        await time.increase(VESTING);
        income += most;
      }
      return { id, income };
    };

    it("needs three months, loses half of what that costs, and gains nothing from who states the fewest shares it takes", async () => {
      const fair = usd(99) * SHARES;
      const { id, income } = await inflate();
      expect(income).to.equal(2n ** 30n - 1n);
      await expect(staking.connect(victim).addStake(id, usd(100), fair, MaxUint256))
        .to.be.revertedWithCustomError(staking, "SharesBelowLimit")
        .withArgs(await staking.sharesFor(id, usd(100)), fair);
    });

    it("takes from who states no limit less than the price of a share, which is a 2,000th of what it costs", async () => {
      const { id, income } = await inflate();
      await staking.connect(victim).addStake(id, usd(100), ...ANY_SHARES);
      const { active } = await staking.positionOf(id, victim);
      expect(usd(100) - active).to.be.lessThan(income / 2_000n + 2n);
      // While the victim stays, the attacker can't get its income back: half of it is behind shares that no one has.
      expect((await staking.positionOf(id, attacker)).active).to.be.lessThan(income / 2n + usd(51));
    });

    it("can't do it in one go: no more vests than there is stake, the rest is the operator's owner's", async () => {
      const id = await addOperator(market, attacker, 1n);
      await currency.mint(staking, usd(1_000));
      await expect((await asEscrow(market)).addIncome(id, usd(1_000)))
        .to.emit(staking, "IncomeDiverted")
        .withArgs(id, attacker.address, usd(1_000) - 1n);
    });

    it("can't give anybody nothing for something", async () => {
      const { id } = await inflate();
      await expect(staking.connect(victim).addStake(id, usd(0.25), ...ANY_SHARES))
        .to.be.revertedWithCustomError(staking, "StakeTooSmall")
        .withArgs(usd(0.25));
    });
  });

  describe("a donation", () => {
    it("of the currency to the contract is nobody's: it makes no share dearer and no stake larger", async () => {
      const before = await staking.sharesFor(operatorId, usd(1));
      await currency.connect(attacker).transfer(staking, usd(100_000));
      expect(await staking.sharesFor(operatorId, usd(1))).to.equal(before);
      expect(await staking.activeStakeOf(operatorId)).to.equal(stake);
      expect(await stakeOf(market, operatorId)).to.equal(stake);
    });
  });

  describe("who delegates a unit when the operator's stake has left", () => {
    const charged = usd(4_000);

    beforeEach(async () => {
      await staking.connect(market.operator).setCommission(operatorId, 5_000);
      await (await asEscrow(market)).charge(chargeOf(charged));
    });

    it("has no part of what that stake secured", async () => {
      const escrow = await asEscrow(market);
      expect(await escrow.release.staticCall(operatorId, charged, usd(1_000))).to.equal(usd(500));
      await staking.connect(market.operator).thaw(operatorId, stake * SHARES);
      await stakeAs(market, attacker, 1n);
      expect(await escrow.release.staticCall(operatorId, charged, usd(1_000))).to.equal(0);
    });

    it("has half of the part if it backs half of what is in flight", async () => {
      const escrow = await asEscrow(market);
      await staking.connect(market.operator).thaw(operatorId, stake * SHARES);
      await stakeAs(market, attacker, charged / 2n);
      expect(await escrow.release.staticCall(operatorId, charged, usd(1_000))).to.equal(usd(250));
    });

    it("gains a unit of the income that waited for the pool", async () => {
      await staking.connect(market.operator).thaw(operatorId, stake * SHARES);
      await stakeAs(market, attacker, 1n);
      await earn(market, usd(1_000));
      await time.increase(VESTING);
      expect(await worthOf()).to.equal(2n);
      expect(await staking.proceedsOf(market.operator)).to.equal(usd(1_000) - 1n);
    });
  });

  describe("who delegates just before income comes", () => {
    const income = usd(5_000);

    it("and thaws right after it has earned nothing of it, however much it delegates", async () => {
      await stakeAs(market, attacker, usd(900_000));
      await earn(market, income);
      expect(await leave()).to.be.closeTo(usd(900_000), (income * 10n) / BigInt(VESTING));
      expect(await staking.activeStakeOf(operatorId)).to.be.closeTo(stake + income, (income * 10n) / BigInt(VESTING));
    });

    it("and does all that in one block has earned not a unit", async () => {
      await staking.connect(attacker).addStake(operatorId, usd(900_000), ...ANY_SHARES);
      const shares = usd(900_000) * SHARES;
      const escrow = await asEscrow(market);
      await currency.mint(staking, income);
      await inOneBlock(
        () => escrow.addIncome(operatorId, income, GAS),
        () => staking.connect(attacker).thaw(operatorId, shares, GAS),
      );
      expect(await worthOf()).to.equal(usd(900_000));
    });

    it("earns from then on what its stake earns while it is active, and must wait out its thaw for it", async () => {
      await earn(market, income);
      await time.increase(VESTING - HOUR);
      await stakeAs(market, attacker, usd(990_000));
      await time.increase(HOUR);
      // 99 % of the stake for the last of 72 hours.
      expect((await worthOf()) - usd(990_000)).to.be.closeTo((income * 99n) / 100n / 72n, usd(1));
      await staking.connect(attacker).thaw(operatorId, (await positionOf()).shares);
      await expect(staking.connect(attacker).withdraw(operatorId, attacker)).to.be.revertedWithCustomError(
        staking,
        "StakeStillThawing",
      );
    });

    it("gains nothing by keeping a thaw open and taking it back for the moment", async () => {
      await stakeAs(market, attacker, usd(900_000));
      await thawAndWait(market, attacker);
      const escrow = await asEscrow(market);
      await currency.mint(staking, income);
      const before = await worthOf();
      await inOneBlock(
        () => staking.connect(attacker).unthaw(operatorId, GAS),
        () => escrow.addIncome(operatorId, income, GAS),
      );
      await staking.connect(attacker).thaw(operatorId, (await positionOf()).shares);
      expect((await worthOf()) - before).to.be.lessThan((income * 5n) / BigInt(VESTING));
      // And what it thaws waits as long as ever.
      await expect(staking.connect(attacker).withdraw(operatorId, attacker)).to.be.revertedWithCustomError(
        staking,
        "StakeStillThawing",
      );
    });
  });

  describe("an operator that raises its commission", () => {
    const owner = () => staking.connect(market.operator);
    beforeEach(async () => {
      await stakeAs(market, victim, usd(30_000));
      await owner().setCommission(operatorId, 1_000);
    });

    it("just before income comes shares that income as it promised", async () => {
      await owner().setCommission(operatorId, 10_000);
      expect(await (await asEscrow(market)).release.staticCall(operatorId, 0, usd(100))).to.equal(usd(90));
    });

    it("finds delegators gone by then, who thawed when it said so", async () => {
      await inOneBlock(
        () => owner().setCommission(operatorId, 10_000, GAS),
        () => staking.connect(victim).thaw(operatorId, usd(30_000) * SHARES, GAS),
      );
      const { raisedAt } = await staking.commissionOf(operatorId);
      await time.setNextBlockTimestamp(raisedAt + 1n);
      await expect(staking.connect(victim).withdraw(operatorId, victim)).to.changeTokenBalance(
        currency,
        victim,
        usd(30_000),
      );
    });

    it("can't bring the day forward by lowering and raising it, nor by naming it again and again", async () => {
      await owner().setCommission(operatorId, 10_000);
      for (let day = 0; day < 40; day += 8) {
        await time.increase(8 * DAY);
        await owner().setCommission(operatorId, day % 16 === 0 ? 900 : 10_000);
        expect(await staking.poolShareOf(operatorId, 10_000)).to.equal(9_100);
      }
    });
  });

  describe("an operator with a license of its own, which it harms to be paid for the harm", () => {
    const delegated = usd(30_000);
    beforeEach(async () => {
      await stakeAs(market, victim, delegated);
    });

    it("is paid no unit of its delegators', whatever is slashed: what it gets, it lost", async () => {
      for (const amount of [usd(1), usd(999) + 7n, usd(20_000), usd(1_000_000)]) {
        const [own, proceeds] = [await worthOf(market.operator), await staking.proceedsOf(market.outsider)];
        await slash(amount, market.outsider);
        const gained = (await staking.proceedsOf(market.outsider)) - proceeds;
        expect(gained <= own - (await worthOf(market.operator))).to.equal(true);
      }
      expect(await staking.proceedsOf(market.treasury)).to.be.closeTo(delegated, 4n);
    });

    it("gains nothing from breaches of its own making: they pay the treasury alone", async () => {
      for (const day of [20_000, 20_001, 20_002]) {
        await (await asEscrow(market)).charge(chargeOf(1n, { day, breached: true }));
      }
      expect(await staking.proceedsOf(market.treasury)).to.equal((stake + delegated) / 100n);
    });

    it("isn't paid more for having put its own stake in and out, nor for thawing it", async () => {
      const owner = staking.connect(market.operator);
      await owner.thaw(operatorId, (stake * SHARES) / 3n);
      await owner.unthaw(operatorId);
      await owner.thaw(operatorId, (stake * SHARES) / 2n);
      const own = await worthOf(market.operator);
      await slash(usd(4_000));
      const gained = await staking.proceedsOf(market.outsider);
      expect(gained).to.be.closeTo(usd(1_000), 2n);
      expect(gained <= own - (await worthOf(market.operator))).to.equal(true);
    });
  });

  describe("who sees a slash coming", () => {
    it("and thaws before it is slashed like the others", async () => {
      await stakeAs(market, attacker, stake);
      await staking.connect(attacker).thaw(operatorId, stake * SHARES);
      await slash(usd(4_000));
      expect(await leave()).to.equal(usd(8_000));
    });

    it("and keeps a thaw ready, to be gone in the same block, has earned nothing since it thawed", async () => {
      await stakeAs(market, attacker, stake);
      await thawAndWait(market, attacker);
      for (let month = 0; month < 3; month += 1) {
        await earn(market, usd(500));
        await time.increase(30 * DAY);
      }
      await expect(staking.connect(attacker).withdraw(operatorId, attacker)).to.changeTokenBalance(
        currency,
        attacker,
        stake,
      );
      expect(await worthOf(market.operator)).to.equal(stake + usd(1_500));
    });

    it("and keeps a thaw ready secured nothing that is still in flight, and can't leave what others need", async () => {
      await stakeAs(market, attacker, stake);
      await (await asEscrow(market)).charge(chargeOf(usd(15_000)));
      await thawAndWait(market, attacker);
      await expect(staking.connect(attacker).withdraw(operatorId, attacker))
        .to.be.revertedWithCustomError(staking, "StakeStillNeeded")
        .withArgs(operatorId, stake, usd(15_000), 0);
    });

    it("can't leave what was frozen for it", async () => {
      await stakeAs(market, attacker, stake);
      await thawAndWait(market, attacker);
      await staking.connect(market.slasher).freeze(operatorId, usd(12_000), (await time.latest()) + DAY);
      await expect(staking.connect(attacker).withdraw(operatorId, attacker))
        .to.be.revertedWithCustomError(staking, "StakeStillNeeded")
        .withArgs(operatorId, stake, 0, usd(12_000));
    });
  });

  describe("dust of income", () => {
    it("can't put off the vesting of what came before it, unless by its weight", async () => {
      await earn(market, usd(900));
      const { vestsUntil } = await staking.poolOf(operatorId);
      for (let i = 0; i < 50; i += 1) {
        await time.increase(HOUR);
        await earn(market, 1n);
      }
      expect((await staking.poolOf(operatorId)).vestsUntil).to.equal(vestsUntil);
      await time.increaseTo(vestsUntil);
      expect(await staking.activeStakeOf(operatorId)).to.equal(stake + usd(900) + 50n);
    });

    it("can't bring it forward either", async () => {
      await earn(market, 1n);
      const start = await time.latest();
      await time.increase(VESTING - 60);
      await earn(market, usd(900));
      const { vestsUntil } = await staking.poolOf(operatorId);
      expect(Number(vestsUntil) - start).to.be.greaterThan(2 * VESTING - 70);
    });
  });

  describe("a queue of thaws", () => {
    it("can't be filled for somebody else, nor somebody else's thaw be taken back or withdrawn", async () => {
      await stakeAs(market, victim, usd(100));
      await staking.connect(victim).thaw(operatorId, usd(100) * SHARES);
      await expect(staking.connect(attacker).unthaw(operatorId)).to.be.revertedWithCustomError(staking, "ThawEmpty");
      await time.increase(STAKE_THAW + 1);
      await expect(staking.connect(attacker).withdraw(operatorId, attacker)).to.be.revertedWithCustomError(
        staking,
        "ThawEmpty",
      );
      await expect(staking.connect(victim).withdraw(operatorId, victim)).to.changeTokenBalance(
        currency,
        victim,
        usd(100),
      );
    });

    it("costs no one else gas, and its holder what sixteen cost", async () => {
      await stakeAs(market, attacker, usd(100));
      await stakeAs(market, victim, usd(100));
      for (let i = 0; i < MOST_THAWS; i += 1) await staking.connect(attacker).thaw(operatorId, SHARES);
      await staking.connect(victim).thaw(operatorId, SHARES);
      await time.increase(STAKE_THAW + 1);
      const gasOf = async (holder: Market["operator"]) =>
        staking.connect(holder).withdraw.estimateGas(operatorId, holder);
      expect(await gasOf(victim)).to.be.lessThan(120_000n);
      expect(await gasOf(attacker)).to.be.lessThan(250_000n);
    });
  });

  describe("a holder of dust who stays to the last", () => {
    beforeEach(async () => {
      await stakeAs(market, attacker, 1n);
      await earn(market, usd(900));
    });

    it("gets what the others leave behind by leaving before it has vested", async () => {
      await time.increase(2 * DAY);
      await staking.connect(market.operator).thaw(operatorId, stake * SHARES);
      await time.increase(VESTING);
      expect(await worthOf()).to.be.lessThan(usd(300));
    });

    it("gets next to nothing if they wait until it has", async () => {
      await time.increase(VESTING);
      await staking.connect(market.operator).thaw(operatorId, stake * SHARES);
      expect(await worthOf()).to.be.lessThan(3n);
    });
  });

  describe("income for an operator behind whom nobody stands", () => {
    it("can't be caught by who delegates to it just then", async () => {
      const id = await addOperator(market, victim, 0n);
      await (await asEscrow(market)).addIncome(id, usd(70));
      await staking.connect(attacker).addStake(id, 1, ...ANY_SHARES);
      await time.increase(VESTING);
      expect((await staking.poolOf(id)).active).to.equal(1);
      expect(await staking.proceedsOf(victim)).to.equal(usd(70));
    });
  });

  describe("a slash of nearly all", () => {
    it("leaves those who were slashed no more of new stake than the units that were left", async () => {
      await slash(stake - 3n);
      await stakeAs(market, victim, usd(50));
      expect(await worthOf(market.operator)).to.be.lessThan(5n);
      expect(usd(50) - (await worthOf(victim))).to.be.lessThan(2n);
      expect(await leave(victim)).to.be.closeTo(usd(50), 2n);
    });

    it("leaves newcomers no more of the income that vests than what is left of it", async () => {
      await earn(market, usd(3_000));
      await slash(stake + usd(3_000) - 100n);
      await stakeAs(market, attacker, usd(50));
      await time.increase(VESTING);
      expect((await worthOf()) - usd(50)).to.be.lessThan(30n);
    });
  });
});
