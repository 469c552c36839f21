import { loadFixture, time } from "@nomicfoundation/hardhat-network-helpers";
import { expect } from "chai";
import { MaxUint256, ZeroAddress } from "ethers";
import hre from "hardhat";
import { FeeOnTransferCurrency__factory } from "../../typechain-types";
import { addOperator, ANY_SHARES, deployMarket, OperatorStatus, structOf, usd, type Market } from "../support/market";
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

const NOTHING = { shares: 0n, active: 0n, thawingShares: 0n, thawing: 0n };

describe("PerformanceStaking", () => {
  let market: Market;
  let staking: Market["licet"]["staking"];
  let currency: Market["licet"]["currency"];
  /** As the owner of the market's operator, whose stake is 10,000. */
  const { operatorId, stake } = { operatorId: 1, stake: usd(10_000) };
  const allShares = stake * SHARES;

  beforeEach(async () => {
    market = await loadFixture(deployWithCallers);
    ({ currency } = market.licet);
    staking = market.licet.staking.connect(market.operator);
  });

  const slash = (amount: bigint) => staking.connect(market.slasher).slash(operatorId, amount, market.outsider);
  /** Leaves so many units of a pool that doesn't vest: by two slashes, since one that leaves dust would take that, too. */
  const wearOut = async (units: bigint) => {
    const { active, thawing } = await poolOf();
    await slash(active + thawing - usd(1));
    await slash(usd(1) - units);
  };
  const poolOf = async (id = operatorId) => structOf(await staking.poolOf(id)) as Record<string, bigint>;
  const positionOf = async (holder = market.operator) =>
    structOf(await staking.positionOf(operatorId, holder)) as Record<string, bigint>;
  const thawsOf = async (holder = market.operator) =>
    (await staking.thawsOf(operatorId, holder)).map((one) => structOf(one) as Record<string, bigint>);

  it("knows its currency, operators, treasury and waits", async () => {
    expect(await staking.CURRENCY()).to.equal(await currency.getAddress());
    expect(await staking.OPERATORS()).to.equal(await market.licet.operators.getAddress());
    expect(await staking.TREASURY()).to.equal(market.treasury.address);
    expect(await staking.THAW_PERIOD()).to.equal(STAKE_THAW);
    expect(await staking.VESTING_PERIOD()).to.equal(VESTING);
  });

  it("is all zero where nobody ever staked", async () => {
    for (const value of Object.values(await poolOf(9))) expect(value).to.equal(0);
    expect(structOf(await staking.positionOf(9, market.operator))).to.deep.equal(NOTHING);
    expect(await staking.thawsOf(9, market.operator)).to.deep.equal([]);
    expect(await staking.activeStakeOf(9)).to.equal(0);
    expect(await staking.headroomOf(9)).to.equal(0);
    expect(await staking.worthOf(9, 1_000_000n)).to.equal(1_000);
    expect(await staking.sharesFor(9, 7)).to.equal(7n * SHARES);
  });

  describe("addStake", () => {
    describe("when the deadline has passed", () => {
      it("reverts with DeadlinePassed, and not in the last second before", async () => {
        const deadline = (await time.latest()) + 100;
        await time.setNextBlockTimestamp(deadline);
        await staking.addStake(operatorId, 1, 0, deadline);
        await time.setNextBlockTimestamp(deadline + 1);
        await expect(staking.addStake(operatorId, 1, 0, deadline))
          .to.be.revertedWithCustomError(staking, "DeadlinePassed")
          .withArgs(deadline, deadline + 1);
      });
    });

    describe("when the amount is zero", () => {
      it("reverts with AmountZero", async () => {
        await expect(staking.addStake(operatorId, 0, ...ANY_SHARES))
          .to.be.revertedWithCustomError(staking, "AmountZero")
          .withArgs();
      });
    });

    describe("when there is no such operator", () => {
      it("reverts with OperatorUnknown", async () => {
        await expect(staking.addStake(9, 1, ...ANY_SHARES))
          .to.be.revertedWithCustomError(market.licet.operators, "OperatorUnknown")
          .withArgs(9);
      });
    });

    describe("when the pool is worn out", () => {
      it("reverts with PoolWornOut, where a unit would be worth more shares than can be counted", async () => {
        const [holder] = market.payees;
        await stakeAs(market, holder, usd(150_000));
        await wearOut(1n);
        expect(await staking.activeStakeOf(operatorId)).to.equal(1);
        expect(await staking.sharesFor(operatorId, 1)).to.be.greaterThan(2n ** 46n);
        await expect(stakeAs(market, holder, 1n))
          .to.be.revertedWithCustomError(staking, "PoolWornOut")
          .withArgs(operatorId);
      });

      it("reverts with PoolWornOut, where that is so for what thaws", async () => {
        const [holder] = market.payees;
        await stakeAs(market, holder, usd(250_000));
        await staking.connect(holder).thaw(operatorId, usd(250_000) * SHARES);
        await wearOut(2n);
        const { active, thawing, shares, thawingShares } = await poolOf();
        expect([active, thawing]).to.deep.equal([0n, 2n]);
        expect([shares < 2n ** 46n, thawingShares > 3n * 2n ** 46n]).to.deep.equal([true, true]);
        await expect(stakeAs(market, holder, 1n))
          .to.be.revertedWithCustomError(staking, "PoolWornOut")
          .withArgs(operatorId);
      });

      it("reverts with PoolWornOut, where the pool would be wider than its 64 bits", async () => {
        await currency.mint(market.operator, 2n ** 65n);
        await currency.connect(market.operator).approve(staking, MaxUint256);
        await expect(staking.addStake(operatorId, 2n ** 64n - stake, ...ANY_SHARES))
          .to.be.revertedWithCustomError(staking, "PoolWornOut")
          .withArgs(operatorId);
        await staking.addStake(operatorId, 2n ** 64n - 1n - stake, ...ANY_SHARES);
        expect(await staking.activeStakeOf(operatorId)).to.equal(2n ** 64n - 1n);
      });

      it("lets everybody leave all the same", async () => {
        const [holder] = market.payees;
        await stakeAs(market, holder, usd(300_000));
        await staking.connect(holder).thaw(operatorId, usd(150_000) * SHARES);
        await wearOut(3n);
        await expect(stakeAs(market, holder, 1n)).to.be.revertedWithCustomError(staking, "PoolWornOut");
        const before = await currency.balanceOf(staking);
        await thawAndWait(market, market.operator);
        await thawAndWait(market, holder);
        await staking.withdraw(operatorId, market.operator);
        await staking.connect(holder).withdraw(operatorId, holder);
        expect(before - (await currency.balanceOf(staking))).to.equal(3);
      });
    });

    describe("when the amount is worth no share", () => {
      it("reverts with StakeTooSmall", async () => {
        const [owner] = market.payees;
        const small = await addOperator(market, owner, 1n);
        const escrow = await asEscrow(market);
        // No more vests at a time than is there: it takes as many doublings until a share is worth more than a unit.
        for (let active = 1n; active < 2n * SHARES; active *= 2n) {
          await escrow.addIncome(small, active);
          await time.increase(VESTING);
        }
        await expect(staking.addStake(small, 1, ...ANY_SHARES))
          .to.be.revertedWithCustomError(staking, "StakeTooSmall")
          .withArgs(1);
        expect(await staking.addStake.staticCall(small, 2, ...ANY_SHARES)).to.equal(1);
      });
    });

    describe("when the shares are fewer than the caller takes", () => {
      it("reverts with SharesBelowLimit", async () => {
        const fair = await staking.sharesFor(operatorId, usd(5));
        expect(fair).to.equal(usd(5) * SHARES);
        await earn(market, usd(100));
        await time.increase(VESTING);
        const now = await staking.sharesFor(operatorId, usd(5));
        expect(now).to.be.lessThan(fair);
        await expect(staking.addStake(operatorId, usd(5), fair, MaxUint256))
          .to.be.revertedWithCustomError(staking, "SharesBelowLimit")
          .withArgs(now, fair);
        await staking.addStake(operatorId, usd(5), now, MaxUint256);
      });
    });

    describe("when the currency takes a toll on the way", () => {
      it("reverts with TransferIncomplete", async () => {
        const tolled = await loadFixture(deployWithTolls);
        await FeeOnTransferCurrency__factory.connect(
          await tolled.licet.currency.getAddress(),
          tolled.deployer,
        ).takeToll(7);
        await expect(tolled.licet.staking.connect(tolled.operator).addStake(1, usd(5), ...ANY_SHARES))
          .to.be.revertedWithCustomError(staking, "TransferIncomplete")
          .withArgs(usd(5), usd(5) - 7n);
      });
    });

    describe("when the allowance is too small", () => {
      it("reverts with ERC20InsufficientAllowance", async () => {
        await currency.connect(market.operator).approve(staking, 4);
        await expect(staking.addStake(operatorId, 5, ...ANY_SHARES))
          .to.be.revertedWithCustomError(currency, "ERC20InsufficientAllowance")
          .withArgs(await staking.getAddress(), 4, 5);
      });
    });

    describe("when all is well", () => {
      it("takes the money", async () => {
        await expect(staking.addStake(operatorId, usd(5), ...ANY_SHARES)).to.changeTokenBalances(
          currency,
          [market.operator, staking],
          [-usd(5), usd(5)],
        );
      });

      it("gives shares at their price, which is 1,000 a unit of a new pool, and says how many", async () => {
        expect(await staking.addStake.staticCall(operatorId, usd(5), ...ANY_SHARES)).to.equal(usd(5) * SHARES);
        await staking.addStake(operatorId, usd(5), ...ANY_SHARES);

        const shares = allShares + usd(5) * SHARES;
        expect(await poolOf()).to.include({ active: stake + usd(5), shares, thawing: 0n, thawingShares: 0n });
        expect(await positionOf()).to.deep.equal({ ...NOTHING, shares, active: stake + usd(5) });
        expect(await staking.activeStakeOf(operatorId)).to.equal(stake + usd(5));
      });

      it("takes a delegation of anybody's, who then holds shares like the owner", async () => {
        const [holder] = market.payees;
        await stakeAs(market, holder, usd(2_500));
        expect(await positionOf(holder)).to.deep.equal({
          ...NOTHING,
          shares: usd(2_500) * SHARES,
          active: usd(2_500),
        });
        expect((await positionOf()).active).to.equal(stake);
        expect(await staking.headroomOf(operatorId)).to.equal(usd(12_500));
      });

      it("gives fewer shares once some income has vested, and more after a slash", async () => {
        const [holder] = market.payees;
        await earn(market, usd(1_000));
        await time.increase(VESTING);
        expect(await staking.addStake.staticCall(operatorId, usd(11), ...ANY_SHARES)).to.be.closeTo(
          usd(10) * SHARES,
          SHARES,
        );
        await slash(usd(6_000));
        await stakeAs(market, holder, usd(5));
        const { shares, active } = await positionOf(holder);
        expect(shares).to.be.closeTo(usd(10) * SHARES, SHARES);
        expect(active).to.be.closeTo(usd(5), 1n);
      });

      it("emits StakeAdded", async () => {
        await expect(staking.addStake(operatorId, usd(5), ...ANY_SHARES))
          .to.emit(staking, "StakeAdded")
          .withArgs(operatorId, market.operator.address, usd(5), usd(5) * SHARES);
      });
    });
  });

  describe("thaw", () => {
    describe("when no shares are named", () => {
      it("reverts with AmountZero", async () => {
        await expect(staking.thaw(operatorId, 0)).to.be.revertedWithCustomError(staking, "AmountZero").withArgs();
      });
    });

    describe("when the caller holds fewer shares", () => {
      it("reverts with SharesAbovePosition, and doesn't count what thaws already", async () => {
        await expect(staking.thaw(operatorId, allShares + 1n))
          .to.be.revertedWithCustomError(staking, "SharesAbovePosition")
          .withArgs(operatorId, allShares + 1n, allShares);
        await expect(staking.connect(market.outsider).thaw(operatorId, 1))
          .to.be.revertedWithCustomError(staking, "SharesAbovePosition")
          .withArgs(operatorId, 1, 0);
        await staking.thaw(operatorId, allShares - 5n);
        await expect(staking.thaw(operatorId, 6))
          .to.be.revertedWithCustomError(staking, "SharesAbovePosition")
          .withArgs(operatorId, 6, 5);
      });
    });

    describe("when sixteen thaws are open", () => {
      it("reverts with ThawsTooMany, for that holder alone, until one was withdrawn or taken back", async () => {
        const [holder] = market.payees;
        await stakeAs(market, holder, usd(1));
        for (let i = 0; i < MOST_THAWS; i += 1) await staking.thaw(operatorId, 1_000);
        await expect(staking.thaw(operatorId, 1))
          .to.be.revertedWithCustomError(staking, "ThawsTooMany")
          .withArgs(operatorId, market.operator.address, MOST_THAWS);
        await staking.connect(holder).thaw(operatorId, 1_000);
        await staking.unthaw(operatorId);
        await staking.thaw(operatorId, 1_000);
        await time.increase(STAKE_THAW + 1);
        await staking.withdraw(operatorId, market.operator);
        for (let i = 0; i < MOST_THAWS; i += 1) await staking.thaw(operatorId, 1_000);
        expect(await thawsOf()).to.have.length(MOST_THAWS);
      });
    });

    describe("when all is well", () => {
      it("takes the worth of the shares out of the active stake and leaves it in the pool", async () => {
        await staking.thaw(operatorId, allShares / 4n);
        const readyAt = BigInt((await time.latest()) + STAKE_THAW);

        const [moved, rest] = [usd(2_500), usd(7_500)];
        expect(await poolOf()).to.include({ active: rest, thawing: moved, shares: rest * SHARES });
        expect(await positionOf()).to.deep.equal({
          shares: rest * SHARES,
          active: rest,
          thawingShares: moved * SHARES,
          thawing: moved,
        });
        expect(await thawsOf()).to.deep.equal([{ shares: moved * SHARES, amount: moved, readyAt }]);
        expect(await staking.activeStakeOf(operatorId)).to.equal(rest);
        expect(await staking.headroomOf(operatorId)).to.equal(rest);
      });

      it("keeps thaws in a queue, each with its own wait", async () => {
        await staking.thaw(operatorId, 1_000_000);
        const first = BigInt((await time.latest()) + STAKE_THAW);
        await time.increase(500);
        await staking.thaw(operatorId, 3_000_000);
        const second = BigInt((await time.latest()) + STAKE_THAW);
        expect(await thawsOf()).to.deep.equal([
          { shares: 1_000_000n, amount: 1_000n, readyAt: first },
          { shares: 3_000_000n, amount: 3_000n, readyAt: second },
        ]);
      });

      it("emits StakeThawed, and says when it is ready", async () => {
        const now = (await time.latest()) + 5;
        await time.setNextBlockTimestamp(now);
        await expect(staking.thaw(operatorId, 4_999))
          .to.emit(staking, "StakeThawed")
          .withArgs(operatorId, market.operator.address, 4_999, 4, 4_000, now + STAKE_THAW);
        expect(await staking.thaw.staticCall(operatorId, 1)).to.be.closeTo(now + STAKE_THAW, 10);
      });
    });

    it("stops to earn: what thaws gets nothing of later income", async () => {
      const [holder] = market.payees;
      await stakeAs(market, holder, stake);
      await staking.connect(holder).thaw(operatorId, stake * SHARES);
      await earn(market, usd(600));
      await time.increase(VESTING);
      expect((await positionOf(holder)).thawing).to.equal(stake);
      expect((await positionOf()).active).to.equal(stake + usd(600));
    });
  });

  describe("unthaw", () => {
    describe("when nothing thaws", () => {
      it("reverts with ThawEmpty", async () => {
        await expect(staking.unthaw(operatorId))
          .to.be.revertedWithCustomError(staking, "ThawEmpty")
          .withArgs(operatorId, market.operator.address);
      });
    });

    describe("when the pool is worn out", () => {
      it("reverts with PoolWornOut, and the thaw goes on", async () => {
        const [holder] = market.payees;
        await stakeAs(market, holder, usd(150_000));
        await staking.thaw(operatorId, 1_000);
        await wearOut(2n);
        await expect(staking.unthaw(operatorId))
          .to.be.revertedWithCustomError(staking, "PoolWornOut")
          .withArgs(operatorId);
        await time.increase(STAKE_THAW + 1);
        await staking.withdraw(operatorId, market.operator);
      });
    });

    describe("when what thaws is worth no share any more", () => {
      it("reverts with StakeTooSmall, and withdraw clears it away", async () => {
        await staking.thaw(operatorId, 999);
        await expect(staking.unthaw(operatorId)).to.be.revertedWithCustomError(staking, "StakeTooSmall").withArgs(0);
        await time.increase(STAKE_THAW + 1);
        await staking.withdraw(operatorId, market.operator);
        expect(await thawsOf()).to.deep.equal([]);
      });
    });

    describe("when all is well", () => {
      it("makes the newest thaw active again, and leaves the others", async () => {
        await staking.thaw(operatorId, 1_000_000);
        await staking.thaw(operatorId, 3_000_000);
        expect(await staking.unthaw.staticCall(operatorId)).to.equal(3_000_000);
        await staking.unthaw(operatorId);
        expect((await thawsOf()).map(({ amount }) => amount)).to.deep.equal([1_000n]);
        expect(await positionOf()).to.include({ shares: allShares - 1_000_000n, thawingShares: 1_000_000n });
        await staking.unthaw(operatorId);
        expect(await poolOf()).to.include({ active: stake, thawing: 0n, shares: allShares, thawingShares: 0n });
      });

      it("gives shares at the price of now: what was earned in between isn't the holder's", async () => {
        const [holder] = market.payees;
        await stakeAs(market, holder, stake);
        await staking.connect(holder).thaw(operatorId, stake * SHARES);
        await earn(market, stake);
        await time.increase(VESTING);
        await staking.connect(holder).unthaw(operatorId);
        expect((await positionOf(holder)).active).to.be.closeTo(stake, 1n);
        expect((await positionOf(holder)).shares).to.be.closeTo((stake * SHARES) / 2n, SHARES);
        expect((await positionOf()).active).to.be.closeTo(2n * stake, 1n);
      });

      it("works on a thaw that is ready, too", async () => {
        await thawAndWait(market, market.operator);
        await staking.unthaw(operatorId);
        expect(await staking.activeStakeOf(operatorId)).to.equal(stake);
      });

      it("emits StakeUnthawed", async () => {
        await staking.thaw(operatorId, 7_000);
        await slash(usd(5_000));
        await expect(staking.unthaw(operatorId))
          .to.emit(staking, "StakeUnthawed")
          .withArgs(operatorId, market.operator.address, 7_000, 4, 8_000);
      });
    });
  });

  describe("withdraw", () => {
    describe("when nothing thaws", () => {
      it("reverts with ThawEmpty", async () => {
        await expect(staking.withdraw(operatorId, market.operator))
          .to.be.revertedWithCustomError(staking, "ThawEmpty")
          .withArgs(operatorId, market.operator.address);
      });
    });

    describe("when no wait is over", () => {
      it("reverts with StakeStillThawing, up to the very second in which the oldest ends", async () => {
        await staking.thaw(operatorId, allShares / 2n);
        const readyAt = (await time.latest()) + STAKE_THAW;
        await time.increase(1_000);
        await staking.thaw(operatorId, allShares / 2n);
        await time.setNextBlockTimestamp(readyAt);
        await expect(staking.withdraw(operatorId, market.operator))
          .to.be.revertedWithCustomError(staking, "StakeStillThawing")
          .withArgs(operatorId, readyAt);

        await time.setNextBlockTimestamp(readyAt + 1);
        await expect(staking.withdraw(operatorId, market.operator)).to.changeTokenBalance(
          currency,
          market.operator,
          stake / 2n,
        );
        await expect(staking.withdraw(operatorId, market.operator))
          .to.be.revertedWithCustomError(staking, "StakeStillThawing")
          .withArgs(operatorId, readyAt + 1_001);
      });
    });

    describe("when the rest would be less than what is in flight", () => {
      it("reverts with StakeStillNeeded, and not once that is released", async () => {
        const escrow = await asEscrow(market);
        await escrow.charge(chargeOf(usd(100)));
        await thawAndWait(market, market.operator, allShares - usd(99) * SHARES);
        await expect(staking.withdraw(operatorId, market.operator))
          .to.be.revertedWithCustomError(staking, "StakeStillNeeded")
          .withArgs(operatorId, usd(99), usd(100), 0);

        await escrow.release(operatorId, usd(1), 0);
        await staking.withdraw(operatorId, market.operator);
        expect(await staking.headroomOf(operatorId)).to.equal(0);
      });

      it("doesn't count what hasn't vested", async () => {
        const [holder] = market.payees;
        await stakeAs(market, holder, usd(100));
        await (await asEscrow(market)).charge(chargeOf(usd(150)));
        await thawAndWait(market, market.operator);
        const now = (await time.latest()) + 10;
        await time.setNextBlockTimestamp(now);
        await earn(market, usd(60));
        await time.setNextBlockTimestamp(now + 1);
        await expect(staking.withdraw(operatorId, market.operator))
          .to.be.revertedWithCustomError(staking, "StakeStillNeeded")
          .withArgs(operatorId, usd(100) + usd(60) / BigInt(VESTING), usd(150), 0);
        await time.increase(VESTING);
        await staking.withdraw(operatorId, market.operator);
      });
    });

    describe("when all is well", () => {
      it("sends the worth of all that is ready to whom the caller says", async () => {
        await staking.thaw(operatorId, allShares / 8n);
        await staking.thaw(operatorId, allShares / 8n);
        await time.increase(STAKE_THAW + 1);
        await staking.thaw(operatorId, allShares / 8n);
        expect(await staking.withdraw.staticCall(operatorId, market.outsider)).to.equal(usd(2_500));
        await expect(staking.withdraw(operatorId, market.outsider)).to.changeTokenBalances(
          currency,
          [market.outsider, staking],
          [usd(2_500), -usd(2_500)],
        );
        expect((await thawsOf()).map(({ amount }) => amount)).to.deep.equal([usd(1_250)]);
      });

      it("takes the shares out of the pool and the position", async () => {
        await thawAndWait(market, market.operator, allShares / 4n);
        await staking.withdraw(operatorId, market.operator);

        const rest = usd(7_500);
        expect(await poolOf()).to.include({ active: rest, shares: rest * SHARES, thawing: 0n, thawingShares: 0n });
        expect(await positionOf()).to.deep.equal({ ...NOTHING, shares: rest * SHARES, active: rest });
      });

      it("emits StakeWithdrawn", async () => {
        await thawAndWait(market, market.operator, allShares / 4n);
        await expect(staking.withdraw(operatorId, market.outsider))
          .to.emit(staking, "StakeWithdrawn")
          .withArgs(operatorId, market.operator.address, market.outsider.address, usd(2_500), allShares / 4n);
      });

      it("leaves nothing behind when all shares leave", async () => {
        await slash(usd(1) + 1n);
        await thawAndWait(market, market.operator);
        await staking.withdraw(operatorId, market.operator);

        for (const value of Object.values(await poolOf())) expect(value).to.equal(0);
        expect(await currency.balanceOf(staking)).to.equal(usd(1) + 1n);
      });

      it("lets the operator stake again afterwards, at the first price", async () => {
        await thawAndWait(market, market.operator);
        await staking.withdraw(operatorId, market.operator);
        await staking.addStake(operatorId, usd(1), ...ANY_SHARES);
        expect(await poolOf()).to.include({ active: usd(1), shares: usd(1) * SHARES });
      });

      it("goes around the queue's sixteen places any number of times", async () => {
        let left = stake;
        for (let round = 0n; round < 5n; round += 1n) {
          for (let i = 1n; i <= 7n; i += 1n) {
            await staking.thaw(operatorId, (round * 10n + i) * SHARES);
            left -= round * 10n + i;
          }
          await time.increase(STAKE_THAW + 1);
          await staking.thaw(operatorId, SHARES);
          expect((await thawsOf()).map(({ amount }) => amount)).to.deep.equal(
            [1n, 2n, 3n, 4n, 5n, 6n, 7n].map((i) => round * 10n + i).concat(1n),
          );
          expect(await staking.withdraw.staticCall(operatorId, market.operator)).to.equal(28n + 70n * round);
          await staking.withdraw(operatorId, market.operator);
          await staking.unthaw(operatorId);
        }
        expect(await poolOf()).to.include({ active: left, thawing: 0n });
      });
    });

    describe("when the receiver is nobody", () => {
      it("reverts, and keeps the thaw", async () => {
        await thawAndWait(market, market.operator);
        await expect(staking.withdraw(operatorId, ZeroAddress))
          .to.be.revertedWithCustomError(currency, "ERC20InvalidReceiver")
          .withArgs(ZeroAddress);
        expect((await positionOf()).thawing).to.equal(stake);
      });
    });
  });

  describe("withdrawProceeds", () => {
    describe("when there are none", () => {
      it("reverts with ProceedsEmpty", async () => {
        await expect(staking.connect(market.outsider).withdrawProceeds(market.outsider))
          .to.be.revertedWithCustomError(staking, "ProceedsEmpty")
          .withArgs(market.outsider.address);
      });
    });

    describe("when all is well", () => {
      beforeEach(async () => {
        await slash(usd(100));
        await slash(usd(20));
      });

      it("sends what all slashes left to whom the beneficiary says, once", async () => {
        const proceeds = staking.connect(market.outsider);
        await expect(proceeds.withdrawProceeds(market.treasury)).to.changeTokenBalances(
          currency,
          [market.treasury, staking],
          [usd(120), -usd(120)],
        );
        await expect(proceeds.withdrawProceeds(market.treasury))
          .to.be.revertedWithCustomError(staking, "ProceedsEmpty")
          .withArgs(market.outsider.address);
      });

      it("emits ProceedsWithdrawn", async () => {
        await expect(staking.connect(market.outsider).withdrawProceeds(market.treasury))
          .to.emit(staking, "ProceedsWithdrawn")
          .withArgs(market.outsider.address, market.treasury.address, usd(120));
      });
    });
  });

  describe("statusOf", () => {
    it("is Unstaked without stake, and Active with any, also if all of it thaws", async () => {
      const [owner] = market.payees;
      const other = await addOperator(market, owner, 0n);
      expect(await staking.statusOf(other)).to.equal(OperatorStatus.Unstaked);
      expect(await staking.statusOf(99)).to.equal(OperatorStatus.Unstaked);
      expect(await staking.statusOf(operatorId)).to.equal(OperatorStatus.Active);
      await thawAndWait(market, market.operator);
      expect(await staking.statusOf(operatorId)).to.equal(OperatorStatus.Active);
      await staking.withdraw(operatorId, market.operator);
      expect(await staking.statusOf(operatorId)).to.equal(OperatorStatus.Unstaked);
    });

    it("is Active by delegations alone", async () => {
      const [owner, holder] = market.payees;
      const other = await addOperator(market, owner, 0n);
      await staking.connect(holder).addStake(other, 1, ...ANY_SHARES);
      expect(await staking.statusOf(other)).to.equal(OperatorStatus.Active);
    });
  });

  describe("pools", () => {
    it("are apart from other operators': a slash of one leaves the other's alone", async () => {
      const other = await addOperator(market, market.payees[5], usd(40));
      await slash(stake);
      expect(await staking.activeStakeOf(other)).to.equal(usd(40));
    });
  });
});

/** A market whose currency can be told to take a toll. */
async function deployWithTolls(): Promise<Market> {
  const currency = await hre.ethers.deployContract("FeeOnTransferCurrency");
  return deployMarket({ currency: await currency.getAddress() });
}
