import { loadFixture, time } from "@nomicfoundation/hardhat-network-helpers";
import { expect } from "chai";
import { addOperator, ANY_SHARES, DAY, HOUR, structOf, usd, type Market } from "../support/market";
import { asEscrow, chargeOf, deployWithCallers, earn, SHARES, stakeAs, STAKE_THAW, VESTING } from "../support/staking";

describe("PerformanceStaking", () => {
  let market: Market;
  let staking: Market["licet"]["staking"];
  const { operatorId, stake } = { operatorId: 1, stake: usd(10_000) };

  beforeEach(async () => {
    market = await loadFixture(deployWithCallers);
    staking = market.licet.staking.connect(market.operator);
  });

  const poolOf = async () => structOf(await staking.poolOf(operatorId)) as Record<string, bigint>;
  const commissionOf = async () => structOf(await staking.commissionOf(operatorId)) as Record<string, bigint>;
  /** Has the next transaction come `seconds` after the latest. */
  const after = async (seconds: number) => {
    const now = (await time.latest()) + seconds;
    await time.setNextBlockTimestamp(now);
    return now;
  };

  describe("setCommission", () => {
    describe("when the caller isn't the operator's owner", () => {
      it("reverts with CallerNotOperator", async () => {
        await expect(staking.connect(market.outsider).setCommission(operatorId, 1))
          .to.be.revertedWithCustomError(staking, "CallerNotOperator")
          .withArgs(operatorId, market.outsider.address);
      });
    });

    describe("when there is no such operator", () => {
      it("reverts with OperatorUnknown", async () => {
        await expect(staking.setCommission(9, 1))
          .to.be.revertedWithCustomError(market.licet.operators, "OperatorUnknown")
          .withArgs(9);
      });
    });

    describe("when it is more than the whole", () => {
      it("reverts with CommissionAboveWhole", async () => {
        await expect(staking.setCommission(operatorId, 10_001))
          .to.be.revertedWithCustomError(staking, "CommissionAboveWhole")
          .withArgs(10_001);
      });
    });

    describe("before it was ever set", () => {
      it("is the whole: the operator keeps all", async () => {
        expect(await commissionOf()).to.deep.equal({ bps: 10_000n, nextBps: 10_000n, raisedAt: 0n });
        expect(await staking.poolShareOf(operatorId, usd(100))).to.equal(0);
      });
    });

    describe("when it is lower than before", () => {
      it("binds at once", async () => {
        const now = await after(7);
        await expect(staking.setCommission(operatorId, 2_500))
          .to.emit(staking, "CommissionSet")
          .withArgs(operatorId, 2_500, now);
        expect(await commissionOf()).to.deep.equal({ bps: 2_500n, nextBps: 2_500n, raisedAt: 0n });
        expect(await staking.poolShareOf(operatorId, usd(100))).to.equal(usd(75));
      });

      it("may be nothing at all", async () => {
        await staking.setCommission(operatorId, 0);
        expect(await staking.poolShareOf(operatorId, 12_345)).to.equal(12_345);
      });
    });

    describe("when it is higher than before", () => {
      beforeEach(async () => {
        await staking.setCommission(operatorId, 2_000);
      });

      it("binds one thaw later, to the second, and nobody needs to call anything", async () => {
        const now = await after(7);
        const raisedAt = now + STAKE_THAW;
        await expect(staking.setCommission(operatorId, 9_000))
          .to.emit(staking, "CommissionSet")
          .withArgs(operatorId, 9_000, raisedAt);
        await time.increaseTo(raisedAt - 1);
        expect(await commissionOf()).to.deep.equal({ bps: 2_000n, nextBps: 9_000n, raisedAt: BigInt(raisedAt) });
        expect(await staking.poolShareOf(operatorId, 1_000)).to.equal(800);
        await time.increaseTo(raisedAt);
        expect(await commissionOf()).to.deep.equal({ bps: 9_000n, nextBps: 9_000n, raisedAt: 0n });
        expect(await staking.poolShareOf(operatorId, 1_000)).to.equal(100);
      });

      it("comes in place of a raise that was announced, and waits anew", async () => {
        await staking.setCommission(operatorId, 9_000);
        await time.increase(STAKE_THAW - 10);
        const raisedAt = (await after(5)) + STAKE_THAW;
        await staking.setCommission(operatorId, 3_000);
        expect(await commissionOf()).to.deep.equal({ bps: 2_000n, nextBps: 3_000n, raisedAt: BigInt(raisedAt) });
      });

      it("is forgotten by one that isn't higher", async () => {
        for (const bps of [2_000, 1_500]) {
          await staking.setCommission(operatorId, 9_000);
          await staking.setCommission(operatorId, bps);
          expect(await commissionOf()).to.deep.equal({ bps: BigInt(bps), nextBps: BigInt(bps), raisedAt: 0n });
          await time.increase(STAKE_THAW);
          expect(await staking.poolShareOf(operatorId, 10_000)).to.equal(10_000 - bps);
        }
      });

      it("counts as what is in force once it binds: less than it is lower", async () => {
        await staking.setCommission(operatorId, 9_000);
        await time.increase(STAKE_THAW + 1);
        await staking.setCommission(operatorId, 8_000);
        expect((await commissionOf()).bps).to.equal(8_000);
        await staking.setCommission(operatorId, 8_500);
        expect((await commissionOf()).bps).to.equal(8_000);
      });
    });
  });

  describe("release", () => {
    describe("when the caller isn't the escrow", () => {
      it("reverts with AccessManagedUnauthorized", async () => {
        await expect(staking.release(operatorId, 1, 0))
          .to.be.revertedWithCustomError(staking, "AccessManagedUnauthorized")
          .withArgs(market.operator.address);
      });
    });

    describe("when more is released than was in flight, which the escrow never does", () => {
      it("reverts", async () => {
        const escrow = await asEscrow(market);
        await escrow.charge(chargeOf(usd(3)));
        await expect(escrow.release(operatorId, usd(3) + 1n, 0)).to.be.revertedWithPanic(0x11);
        await expect(escrow.release(operatorId, 2n ** 64n, 0)).to.be.revertedWithCustomError(
          staking,
          "SafeCastOverflowedUintDowncast",
        );
      });
    });

    describe("when all is well", () => {
      it("takes from what is in flight, and leaves the pool alone", async () => {
        const escrow = await asEscrow(market);
        await escrow.charge(chargeOf(usd(3)));
        await escrow.release(operatorId, usd(2), usd(1));
        expect(await poolOf()).to.include({ inFlight: usd(1), active: stake, unvested: 0n });
      });

      it("says what of the operator's income is its pool's, rounded down", async () => {
        const escrow = await asEscrow(market);
        expect(await escrow.release.staticCall(operatorId, 0, usd(67))).to.equal(0);
        await staking.setCommission(operatorId, 3_333);
        for (const [income, forPool] of [
          [0n, 0n],
          [1n, 0n],
          [2n, 1n],
          [usd(100), 66_670_000n],
          [101n, 67n],
        ]) {
          expect(await escrow.release.staticCall(operatorId, 0, income)).to.equal(forPool);
          expect(await staking.poolShareOf(operatorId, income)).to.equal(forPool);
        }
      });

      it("leaves it all to an operator whom no active stake backs", async () => {
        const [owner] = market.payees;
        const other = await addOperator(market, owner, 0n);
        await staking.connect(owner).setCommission(other, 0);
        expect(await staking.poolShareOf(other, usd(100))).to.equal(0);

        await staking.setCommission(operatorId, 0);
        await staking.thaw(operatorId, stake * SHARES);
        expect(await (await asEscrow(market)).release.staticCall(operatorId, 0, usd(100))).to.equal(0);
      });
    });
  });

  describe("addIncome", () => {
    describe("when the caller isn't the escrow", () => {
      it("reverts with AccessManagedUnauthorized", async () => {
        for (const caller of [market.operator, market.slasher, market.governor]) {
          await expect(staking.connect(caller).addIncome(operatorId, 1))
            .to.be.revertedWithCustomError(staking, "AccessManagedUnauthorized")
            .withArgs(caller.address);
        }
      });
    });

    describe("when the amount is zero", () => {
      it("reverts with AmountZero", async () => {
        await expect(earn(market, 0n)).to.be.revertedWithCustomError(staking, "AmountZero").withArgs();
      });
    });

    describe("when all is well", () => {
      it("is nobody's at first: worth nothing to shares, not active, and not to be withdrawn", async () => {
        await after(10);
        await earn(market, usd(900));
        expect(await poolOf()).to.include({ active: stake, unvested: usd(900), shares: stake * SHARES });
        expect(await staking.worthOf(operatorId, stake * SHARES)).to.equal(stake);
        expect(await staking.headroomOf(operatorId)).to.equal(stake);
      });

      it("vests evenly, and is all active after three days", async () => {
        const start = await after(10);
        await earn(market, usd(900));
        expect((await poolOf()).vestsUntil).to.equal(start + VESTING);
        await time.increaseTo(start + DAY);
        expect(await poolOf()).to.include({ active: stake + usd(300), unvested: usd(600) });
        await time.increaseTo(start + VESTING - 1);
        expect((await poolOf()).unvested).to.equal(usd(900) / BigInt(VESTING) + 1n);
        await time.increaseTo(start + VESTING);
        expect(await poolOf()).to.include({ active: stake + usd(900), unvested: 0n, vestsUntil: 0n });
        await time.increaseTo(start + 10 * VESTING);
        expect(await staking.activeStakeOf(operatorId)).to.equal(stake + usd(900));
      });

      it("lets what has vested secure what is charged, and no more", async () => {
        const start = await after(10);
        await earn(market, usd(900));
        const escrow = await asEscrow(market);
        await time.increaseTo(start + DAY);
        const active = stake + usd(300);
        await expect(staking.previewCharge(chargeOf(active + 1n)))
          .to.be.revertedWithCustomError(staking, "InFlightAboveActiveStake")
          .withArgs(operatorId, active + 1n, active);
        await staking.previewCharge(chargeOf(active));
        await time.setNextBlockTimestamp(start + DAY + 1);
        await escrow.charge(chargeOf(active));
        expect((await poolOf()).inFlight).to.equal(active);
      });

      it("goes to shares by their number, commission or not", async () => {
        const [holder] = market.payees;
        await stakeAs(market, holder, usd(30_000));
        await earn(market, usd(400));
        await time.increase(VESTING);
        expect((await staking.positionOf(operatorId, market.operator)).active).to.be.closeTo(usd(10_100), 1n);
        expect((await staking.positionOf(operatorId, holder)).active).to.be.closeTo(usd(30_300), 1n);
      });

      it("emits IncomeAdded", async () => {
        const now = await after(100);
        await expect(earn(market, usd(10)))
          .to.emit(staking, "IncomeAdded")
          .withArgs(operatorId, usd(10), now + VESTING);
      });
    });

    describe("while other income vests", () => {
      it("vests with it, at the mean of the two waits by weight", async () => {
        const start = await after(10);
        await earn(market, usd(900));
        await time.setNextBlockTimestamp(start + 2 * DAY);
        await earn(market, usd(300));
        // 300 are left for a day, and 300 come for three: 600 for two.
        expect(await poolOf()).to.include({
          active: stake + usd(600),
          unvested: usd(600),
          vestsUntil: BigInt(start + 4 * DAY),
        });
        await time.increaseTo(start + 3 * DAY);
        expect((await poolOf()).active).to.equal(stake + usd(900));
      });

      it("never ends sooner for it, nor later than if it had come alone", async () => {
        let latest = 0n;
        await earn(market, usd(500));
        for (const [wait, amount] of [
          [HOUR, 1n],
          [DAY, usd(3)],
          [1, usd(100_000)],
          [2 * DAY, 5n],
          [5, 5n],
        ] as const) {
          await time.increase(wait);
          const before = (await poolOf()).vestsUntil;
          await earn(market, amount);
          const now = BigInt(await time.latest());
          const { vestsUntil } = await poolOf();
          expect(vestsUntil >= before && vestsUntil <= now + BigInt(VESTING)).to.equal(true);
          expect(vestsUntil >= latest).to.equal(true);
          latest = vestsUntil;
        }
      });
    });

    describe("when a unit takes longer than a second to vest", () => {
      it("vests all the same, by whatever it is touched in between", async () => {
        await earn(market, 3n);
        const { vestsUntil } = await poolOf();
        for (let i = 0; i < 20; i += 1) {
          await staking.thaw(operatorId, 1_000);
          await staking.unthaw(operatorId);
        }
        await time.increaseTo(vestsUntil - BigInt(2 * DAY));
        expect(await poolOf()).to.include({ active: stake + 1n, unvested: 2n });
        await time.increaseTo(vestsUntil);
        expect(await poolOf()).to.include({ active: stake + 3n, unvested: 0n });
      });
    });

    describe("when no stake is active", () => {
      it("is the operator's owner's, to withdraw as proceeds", async () => {
        await staking.thaw(operatorId, stake * SHARES);
        await expect(earn(market, usd(10)))
          .to.emit(staking, "IncomeDiverted")
          .withArgs(operatorId, market.operator.address, usd(10));
        expect(await poolOf()).to.include({ active: 0n, unvested: 0n, thawing: stake });
        await expect(staking.withdrawProceeds(market.outsider)).to.changeTokenBalance(
          market.licet.currency,
          market.outsider,
          usd(10),
        );
      });

      it("is so for an operator that never had any", async () => {
        const [owner] = market.payees;
        const other = await addOperator(market, owner, 0n);
        await expect((await asEscrow(market)).addIncome(other, 1))
          .to.emit(staking, "IncomeDiverted")
          .withArgs(other, owner.address, 1);
      });
    });

    describe("when the pool is worn out, or would be wider than its 64 bits", () => {
      it("is the owner's", async () => {
        const escrow = await asEscrow(market);
        await expect(escrow.addIncome(operatorId, 2n ** 64n - stake))
          .to.emit(staking, "IncomeDiverted")
          .withArgs(operatorId, market.operator.address, 2n ** 64n - stake);
        await stakeAs(market, market.payees[0], usd(150_000));
        const slasher = staking.connect(market.slasher);
        await slasher.slash(operatorId, usd(159_999), market.treasury);
        await slasher.slash(operatorId, usd(1) - 1n, market.treasury);
        await expect(escrow.addIncome(operatorId, 1))
          .to.emit(staking, "IncomeDiverted")
          .withArgs(operatorId, market.operator.address, 1);
      });
    });

    describe("when holders leave before it has vested", () => {
      it("stays with those who stay", async () => {
        const [holder] = market.payees;
        await stakeAs(market, holder, stake);
        await after(10);
        await earn(market, usd(600));
        await after(DAY);
        await staking.connect(holder).thaw(operatorId, stake * SHARES);
        expect((await staking.positionOf(operatorId, holder)).thawing).to.be.closeTo(stake + usd(100), 1n);
        await time.increase(VESTING);
        expect(await staking.activeStakeOf(operatorId)).to.be.closeTo(stake + usd(500), 1n);
      });

      it("goes along with the last of them: nothing is left that nobody has", async () => {
        const [holder] = market.payees;
        await stakeAs(market, holder, stake);
        await earn(market, usd(600));
        for (const one of [market.operator, holder]) {
          await staking.connect(one).thaw(operatorId, (await staking.positionOf(operatorId, one)).shares);
        }
        expect(await poolOf()).to.include({ active: 0n, unvested: 0n, thawing: 2n * stake + usd(600), shares: 0n });
        expect((await staking.positionOf(operatorId, market.operator)).thawing).to.be.closeTo(stake, usd(0.01));
        await time.increase(STAKE_THAW + 1);
        for (const one of [holder, market.operator]) await staking.connect(one).withdraw(operatorId, one);
        expect(await market.licet.currency.balanceOf(staking)).to.equal(0);
      });

      it("isn't a newcomer's, who stakes after the last of them left", async () => {
        const [holder] = market.payees;
        await earn(market, usd(600));
        await staking.thaw(operatorId, stake * SHARES);
        await staking.connect(holder).addStake(operatorId, usd(1), ...ANY_SHARES);
        await time.increase(VESTING);
        expect(await poolOf()).to.include({ active: usd(1), unvested: 0n, shares: usd(1) * SHARES });
      });
    });
  });
});
