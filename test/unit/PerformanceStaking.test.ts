import {
  impersonateAccount,
  loadFixture,
  setBalance,
  setStorageAt,
  time,
} from "@nomicfoundation/hardhat-network-helpers";
import { expect } from "chai";
import { AbiCoder, keccak256 } from "ethers";
import fc from "fast-check";
import hre from "hardhat";
import { FeeOnTransferCurrency__factory } from "../../typechain-types";
import type { IPerformanceStaking } from "../../typechain-types/contracts/PerformanceStaking";
import { addOperator, DAY, deployMarket, OperatorStatus, structOf, usd, type Market } from "../support/market";

const THAW = 32 * DAY;
const JAIL = 7 * DAY;
const CURE = 90 * DAY;
/** A day of no particular meaning. */
const D_OTHER = 50_000;
/** Shares of a unit of stake, while nothing was slashed. */
const SHARES = 1_000n;

describe("PerformanceStaking", () => {
  let market: Market;
  let staking: Market["licet"]["staking"];
  /** As the owner of the market's operator, whose stake is 10,000. */
  const { operatorId, stake } = { operatorId: 1, stake: usd(10_000) };
  const allShares = stake * SHARES;

  beforeEach(async () => {
    market = await loadFixture(deployWithCallers);
    staking = market.licet.staking.connect(market.operator);
  });

  /** UsageEscrow as a caller. */
  const asEscrow = async () => staking.connect(await hre.ethers.getSigner(await market.licet.escrow.getAddress()));
  const slash = (amount: bigint, beneficiary = market.outsider.address) =>
    staking.connect(market.slasher).slash(operatorId, amount, beneficiary);
  const chargeOf = (amount: bigint, changes: Partial<IPerformanceStaking.ChargeStruct> = {}) => ({
    operatorId,
    planId: 1,
    amount,
    day: 20_000,
    breached: false,
    ...changes,
  });
  const charge = async (amount: bigint, changes = {}) => (await asEscrow()).charge(chargeOf(amount, changes));
  const release = async (amount: bigint) => (await asEscrow()).release(operatorId, amount, 0);
  const thawAndWait = async (shares: bigint) => {
    await staking.thaw(operatorId, shares);
    await time.increase(THAW + 1);
  };
  /** Writes a pool with nothing in flight and nothing thawing: the mapping is the contract's second slot. */
  const setPool = async (pool: { stake: bigint; shares: bigint }) => {
    const slot = keccak256(AbiCoder.defaultAbiCoder().encode(["uint24", "uint256"], [operatorId, 1]));
    await setStorageAt(await staking.getAddress(), slot, (pool.shares << 128n) | pool.stake);
  };
  const held = async () => market.licet.currency.balanceOf(staking);

  it("knows its currency, operators and thaw", async () => {
    expect(await staking.CURRENCY()).to.equal(await market.licet.currency.getAddress());
    expect(await staking.OPERATORS()).to.equal(await market.licet.operators.getAddress());
    expect(await staking.THAW_PERIOD()).to.equal(THAW);
    expect(await staking.TREASURY()).to.equal(market.treasury.address);
  });

  describe("addStake", () => {
    describe("when there is no such operator", () => {
      it("reverts with OperatorUnknown", async () => {
        await expect(staking.addStake(9, 1))
          .to.be.revertedWithCustomError(market.licet.operators, "OperatorUnknown")
          .withArgs(9);
      });
    });

    describe("when the caller isn't the operator's owner", () => {
      it("reverts with CallerNotOperator", async () => {
        await expect(staking.connect(market.outsider).addStake(operatorId, 1))
          .to.be.revertedWithCustomError(staking, "CallerNotOperator")
          .withArgs(operatorId, market.outsider.address);
      });
    });

    describe("when the amount is zero", () => {
      it("reverts with AmountZero", async () => {
        await expect(staking.addStake(operatorId, 0)).to.be.revertedWithCustomError(staking, "AmountZero").withArgs();
      });
    });

    describe("when the amount is worth no share", () => {
      it("reverts with StakeTooSmall", async () => {
        // Only years of withdrawals that round down could make a share this dear, so the pool is written as it would be.
        await setPool({ stake: 2n * SHARES + 1n, shares: 1n });
        expect(await staking.poolOf(operatorId)).to.deep.equal([2n * SHARES + 1n, 0, 1, 0, 0, 0]);

        await expect(staking.addStake(operatorId, 1))
          .to.be.revertedWithCustomError(staking, "StakeTooSmall")
          .withArgs(1);
      });
    });

    describe("when the currency takes a toll on the way", () => {
      it("reverts with TransferIncomplete", async () => {
        const tolled = await loadFixture(deployWithTolls);
        await FeeOnTransferCurrency__factory.connect(
          await tolled.licet.currency.getAddress(),
          tolled.deployer,
        ).takeToll(7);
        await expect(tolled.licet.staking.connect(tolled.operator).addStake(1, usd(5)))
          .to.be.revertedWithCustomError(staking, "TransferIncomplete")
          .withArgs(usd(5), usd(5) - 7n);
      });
    });

    describe("when the allowance is too small", () => {
      it("reverts with ERC20InsufficientAllowance", async () => {
        await market.licet.currency.connect(market.operator).approve(staking, 4);
        await expect(staking.addStake(operatorId, 5))
          .to.be.revertedWithCustomError(market.licet.currency, "ERC20InsufficientAllowance")
          .withArgs(await staking.getAddress(), 4, 5);
      });
    });

    describe("when all is well", () => {
      it("takes the money", async () => {
        await expect(staking.addStake(operatorId, usd(5))).to.changeTokenBalances(
          market.licet.currency,
          [market.operator, staking],
          [-usd(5), usd(5)],
        );
      });

      it("gives shares at their price, which is 1,000 a unit while nothing was slashed", async () => {
        await staking.addStake(operatorId, usd(5));

        const shares = allShares + usd(5) * SHARES;
        expect(await staking.poolOf(operatorId)).to.deep.equal([stake + usd(5), 0, shares, 0, 0, 0]);
        expect(await staking.positionOf(operatorId, market.operator)).to.deep.equal([shares, [0, 0]]);
        expect(await staking.activeStakeOf(operatorId)).to.equal(stake + usd(5));
      });

      it("emits StakeAdded", async () => {
        await expect(staking.addStake(operatorId, usd(5)))
          .to.emit(staking, "StakeAdded")
          .withArgs(operatorId, market.operator.address, usd(5), usd(5) * SHARES);
      });
    });
  });

  describe("thaw", () => {
    describe("when the caller holds fewer shares", () => {
      it("reverts with SharesAbovePosition", async () => {
        await expect(staking.thaw(operatorId, allShares + 1n))
          .to.be.revertedWithCustomError(staking, "SharesAbovePosition")
          .withArgs(operatorId, allShares + 1n, allShares);
        await expect(staking.connect(market.outsider).thaw(operatorId, 1))
          .to.be.revertedWithCustomError(staking, "SharesAbovePosition")
          .withArgs(operatorId, 1, 0);
      });
    });

    describe("when all is well", () => {
      it("takes the shares out of the active stake and leaves them in the pool", async () => {
        await staking.thaw(operatorId, allShares / 4n);
        const readyAt = (await time.latest()) + THAW;

        expect(await staking.positionOf(operatorId, market.operator)).to.deep.equal([
          allShares,
          [allShares / 4n, readyAt],
        ]);
        expect(await staking.poolOf(operatorId)).to.deep.equal([stake, 0, allShares, allShares / 4n, 0, 0]);
        expect(await staking.activeStakeOf(operatorId)).to.equal(usd(7_500));
      });

      it("emits StakeThawed", async () => {
        const now = (await time.latest()) + 5;
        await time.setNextBlockTimestamp(now);
        await expect(staking.thaw(operatorId, 400))
          .to.emit(staking, "StakeThawed")
          .withArgs(operatorId, market.operator.address, 400, now + THAW);
      });
    });

    describe("when a thaw was open", () => {
      it("replaces it, and the wait starts anew", async () => {
        await staking.thaw(operatorId, allShares);
        await time.increase(THAW - 10);
        await staking.thaw(operatorId, allShares / 2n);
        const readyAt = (await time.latest()) + THAW;
        await time.increase(60);

        expect((await staking.poolOf(operatorId)).thawingShares).to.equal(allShares / 2n);
        expect(await staking.activeStakeOf(operatorId)).to.equal(usd(5_000));
        await expect(staking.withdraw(operatorId, market.operator))
          .to.be.revertedWithCustomError(staking, "StakeStillThawing")
          .withArgs(operatorId, readyAt);
      });

      it("takes it back for zero shares", async () => {
        await staking.thaw(operatorId, allShares);
        await staking.thaw(operatorId, 0);

        expect((await staking.poolOf(operatorId)).thawingShares).to.equal(0);
        expect(await staking.activeStakeOf(operatorId)).to.equal(stake);
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

    describe("when the wait isn't over", () => {
      it("reverts with StakeStillThawing, up to the very second in which it ends", async () => {
        await staking.thaw(operatorId, allShares);
        const readyAt = (await time.latest()) + THAW;
        await time.setNextBlockTimestamp(readyAt);
        await expect(staking.withdraw(operatorId, market.operator))
          .to.be.revertedWithCustomError(staking, "StakeStillThawing")
          .withArgs(operatorId, readyAt);

        await time.setNextBlockTimestamp(readyAt + 1);
        await staking.withdraw(operatorId, market.operator);
      });
    });

    describe("when the rest would be less than what is in flight", () => {
      it("reverts with StakeBelowInFlight, and not once that is released", async () => {
        await charge(usd(100));
        await thawAndWait(allShares - usd(99) * SHARES);
        await expect(staking.withdraw(operatorId, market.operator))
          .to.be.revertedWithCustomError(staking, "StakeBelowInFlight")
          .withArgs(operatorId, usd(99), usd(100));

        await release(usd(1));
        await staking.withdraw(operatorId, market.operator);
        expect(await staking.headroomOf(operatorId)).to.equal(0);
      });
    });

    describe("when all is well", () => {
      it("sends the worth of the shares to whom the caller says", async () => {
        await thawAndWait(allShares / 4n);
        await expect(staking.withdraw(operatorId, market.outsider)).to.changeTokenBalances(
          market.licet.currency,
          [market.outsider, staking],
          [usd(2_500), -usd(2_500)],
        );
      });

      it("takes the shares out of the pool and the position", async () => {
        await thawAndWait(allShares / 4n);
        await staking.withdraw(operatorId, market.operator);

        const rest = (allShares * 3n) / 4n;
        expect(await staking.poolOf(operatorId)).to.deep.equal([usd(7_500), 0, rest, 0, 0, 0]);
        expect(await staking.positionOf(operatorId, market.operator)).to.deep.equal([rest, [0, 0]]);
      });

      it("emits StakeWithdrawn", async () => {
        await thawAndWait(allShares / 4n);
        await expect(staking.withdraw(operatorId, market.outsider))
          .to.emit(staking, "StakeWithdrawn")
          .withArgs(operatorId, market.operator.address, market.outsider.address, usd(2_500), allShares / 4n);
      });

      it("leaves nothing behind when all shares leave", async () => {
        await slash(usd(1) + 1n);
        await thawAndWait(allShares);
        await staking.withdraw(operatorId, market.operator);

        expect(await staking.poolOf(operatorId)).to.deep.equal([0, 0, 0, 0, 0, 0]);
        expect(await held()).to.equal(usd(1) + 1n);
      });

      it("lets the operator stake again afterwards, at the first price", async () => {
        await thawAndWait(allShares);
        await staking.withdraw(operatorId, market.operator);
        await staking.addStake(operatorId, usd(1));

        expect(await staking.poolOf(operatorId)).to.deep.equal([usd(1), 0, usd(1) * SHARES, 0, 0, 0]);
      });
    });
  });

  describe("charge", () => {
    describe("when the caller isn't the escrow", () => {
      it("reverts with AccessManagedUnauthorized", async () => {
        for (const caller of [market.operator, market.slasher, market.governor]) {
          await expect(staking.connect(caller).charge(chargeOf(1n)))
            .to.be.revertedWithCustomError(staking, "AccessManagedUnauthorized")
            .withArgs(caller.address);
        }
      });
    });

    describe("when more would be in flight than the active stake", () => {
      it("reverts with InFlightAboveActiveStake", async () => {
        await charge(stake);
        await expect(charge(1n))
          .to.be.revertedWithCustomError(staking, "InFlightAboveActiveStake")
          .withArgs(operatorId, stake + 1n, stake);
      });

      it("doesn't count stake that thaws, or that was slashed", async () => {
        await staking.thaw(operatorId, allShares / 4n);
        await slash(usd(1_000));
        const active = usd(6_750);
        expect(await staking.headroomOf(operatorId)).to.equal(active);

        await expect(charge(active + 1n))
          .to.be.revertedWithCustomError(staking, "InFlightAboveActiveStake")
          .withArgs(operatorId, active + 1n, active);
        await charge(active);
      });

      it("holds for an amount of any size", async () => {
        const most = 2n ** 256n - 1n;
        await expect(charge(most))
          .to.be.revertedWithCustomError(staking, "InFlightAboveActiveStake")
          .withArgs(operatorId, most, stake);
      });
    });

    describe("when nothing is added", () => {
      it("doesn't mind that more is in flight than the active stake", async () => {
        await charge(usd(100));
        await staking.thaw(operatorId, allShares);
        await charge(0n);
        await expect(charge(1n))
          .to.be.revertedWithCustomError(staking, "InFlightAboveActiveStake")
          .withArgs(operatorId, usd(100) + 1n, 0);
      });
    });

    describe("when all is well", () => {
      it("adds to what is in flight and takes it from the headroom", async () => {
        await charge(usd(1));
        await charge(usd(2));

        expect((await staking.poolOf(operatorId)).inFlight).to.equal(usd(3));
        expect(await staking.headroomOf(operatorId)).to.equal(stake - usd(3));
      });
    });
  });

  /** What of breaches is kept under a plan. */
  const breachesUnder = async (planId = 1) => structOf(await staking.breachesOf(operatorId, planId));
  const breach = (day: number, changes: Partial<IPerformanceStaking.ChargeStruct> = {}) =>
    charge(1n, { day, breached: true, ...changes });
  const breachOn = async (days: number[], changes: Partial<IPerformanceStaking.ChargeStruct> = {}) => {
    for (const day of days) await breach(day, changes);
  };
  const poolOf = async () => structOf(await staking.poolOf(operatorId)) as Record<string, bigint>;

  describe("charge of a breach", () => {
    const D = 20_000;

    describe("when nothing is charged", () => {
      it("notes nothing: nobody paid for bad service", async () => {
        for (const day of [D, D + 1, D + 2]) await charge(0n, { day, breached: true });
        expect(await breachesUnder()).to.deep.equal({ lastDay: 0n, bits: 0n, punishedThrough: 0n });
        expect(await staking.statusOf(operatorId)).to.equal(OperatorStatus.Active);
      });
    });

    describe("when the service was as promised", () => {
      it("notes nothing", async () => {
        await charge(1n, { day: D });
        expect(await breachesUnder()).to.deep.equal({ lastDay: 0n, bits: 0n, punishedThrough: 0n });
      });
    });

    describe("on a day without one", () => {
      it("sets the day's bit, and emits BreachRecorded", async () => {
        await expect(breach(D)).to.emit(staking, "BreachRecorded").withArgs(operatorId, 1, D);
        expect(await breachesUnder()).to.deep.equal({ lastDay: BigInt(D), bits: 0b1n, punishedThrough: 0n });
        await breach(D + 2);
        expect(await breachesUnder()).to.deep.equal({ lastDay: BigInt(D + 2), bits: 0b101n, punishedThrough: 0n });
      });

      it("forgets days that are seven or more before it", async () => {
        await breachOn([D, D + 6]);
        expect((await breachesUnder()).bits).to.equal(0b1000001n);
        await breach(D + 7);
        expect(await breachesUnder()).to.deep.equal({ lastDay: BigInt(D + 7), bits: 0b11n, punishedThrough: 0n });
        await breach(D + 1_000);
        expect(await breachesUnder()).to.deep.equal({ lastDay: BigInt(D + 1_000), bits: 0b1n, punishedThrough: 0n });
      });
    });

    describe("on a day before the last one", () => {
      it("sets that day's bit", async () => {
        await breachOn([D + 6, D]);
        expect(await breachesUnder()).to.deep.equal({ lastDay: BigInt(D + 6), bits: 0b1000001n, punishedThrough: 0n });
      });

      it("counts towards the third one", async () => {
        await breachOn([D + 6, D]);
        await expect(breach(D + 3)).to.emit(staking, "OperatorJailed");
      });

      it("is forgotten if it is seven or more before", async () => {
        await breachOn([D + 7, D, D - 500]);
        expect(await breachesUnder()).to.deep.equal({ lastDay: BigInt(D + 7), bits: 0b1n, punishedThrough: 0n });
      });
    });

    describe("on the same day again", () => {
      it("counts once", async () => {
        await breachOn([D, D, D, D + 1, D + 1]);
        expect(await breachesUnder()).to.deep.equal({ lastDay: BigInt(D + 1), bits: 0b11n, punishedThrough: 0n });
        expect(await staking.statusOf(operatorId)).to.equal(OperatorStatus.Active);
      });
    });

    describe("under several plans", () => {
      it("counts for each apart", async () => {
        await breachOn([D, D + 1]);
        await breachOn([D + 2, D + 3], { planId: 2 });
        expect(await staking.statusOf(operatorId)).to.equal(OperatorStatus.Active);
        expect((await breachesUnder(2)).bits).to.equal(0b11n);
        await expect(breach(D + 4, { planId: 2 }))
          .to.emit(staking, "OperatorJailed")
          .withArgs(operatorId, 2, (await time.latest()) + 1 + JAIL);
        expect((await breachesUnder(1)).bits).to.equal(0b11n);
      });
    });

    describe("of another operator", () => {
      it("counts for that one", async () => {
        const other = await addOperator(market, market.payees[5], usd(40));
        await breachOn([D, D + 1]);
        await breach(D + 2, { operatorId: other });
        expect(await staking.statusOf(operatorId)).to.equal(OperatorStatus.Active);
        expect(await staking.statusOf(other)).to.equal(OperatorStatus.Active);
      });
    });

    describe("the third of seven days", () => {
      it("slashes 1 % of the pool to the treasury, what thaws included, and moves no money", async () => {
        await staking.thaw(operatorId, allShares / 2n);
        await breachOn([D, D + 3]);
        await expect(breach(D + 6)).to.changeTokenBalance(market.licet.currency, staking, 0);
        expect((await poolOf()).stake).to.equal(usd(9_900));
        expect(await staking.proceedsOf(market.treasury)).to.equal(usd(100));
      });

      it("jails the operator for seven days, and not a second longer", async () => {
        await breachOn([D, D + 1, D + 2]);
        const until = (await time.latest()) + JAIL;
        const { jailedUntil, jailings } = await poolOf();
        expect([jailedUntil, jailings]).to.deep.equal([BigInt(until), 1n]);
        await time.increaseTo(until - 1);
        expect(await staking.statusOf(operatorId)).to.equal(OperatorStatus.Jailed);
        await time.increaseTo(until);
        expect(await staking.statusOf(operatorId)).to.equal(OperatorStatus.Active);
      });

      it("emits BreachRecorded, StakeSlashed and OperatorJailed", async () => {
        await breachOn([D, D + 1]);
        const now = (await time.latest()) + 10;
        await time.setNextBlockTimestamp(now);
        await expect(breach(D + 2))
          .to.emit(staking, "BreachRecorded")
          .withArgs(operatorId, 1, D + 2)
          .and.to.emit(staking, "StakeSlashed")
          .withArgs(operatorId, market.treasury.address, usd(100))
          .and.to.emit(staking, "OperatorJailed")
          .withArgs(operatorId, 1, now + JAIL);
      });

      it("starts the count anew, and punishes no day until then again", async () => {
        await breachOn([D, D + 1, D + 4]);
        const punished = { lastDay: BigInt(D + 4), bits: 0n, punishedThrough: BigInt(D + 4) };
        expect(await breachesUnder()).to.deep.equal(punished);
        for (const day of [D + 4, D + 3, D + 2, D, D - 30]) {
          await expect(breach(day)).not.to.emit(staking, "BreachRecorded");
        }
        expect(await breachesUnder()).to.deep.equal(punished);
        expect((await poolOf()).stake).to.equal(usd(9_900));

        await breachOn([D + 5, D + 6]);
        expect((await breachesUnder()).bits).to.equal(0b11n);
        expect((await poolOf()).stake).to.equal(usd(9_900));
        await breach(D + 7);
        expect((await poolOf()).stake).to.equal(usd(9_801));
      });

      it("is punished through the last of the days, also where the third that came in lies before it", async () => {
        await breachOn([D + 6, D + 4, D + 1]);
        expect((await breachesUnder()).punishedThrough).to.equal(D + 6);
      });

      it("tells the escrow that the operator is in jail, as every charge does until it is over", async () => {
        const asked = async (changes = {}) => (await asEscrow()).charge.staticCall(chargeOf(1n, changes));
        await breachOn([D, D + 1]);
        expect(await asked()).to.equal(false);
        expect(await asked({ day: D + 2, breached: true })).to.equal(true);
        await breach(D + 2);
        expect(await asked()).to.equal(true);
        await time.increase(JAIL);
        expect(await asked()).to.equal(false);
      });
    });

    describe("when more would then be in flight than is active after the slash", () => {
      it("reverts with InFlightAboveActiveStake, and notes nothing", async () => {
        await breachOn([D, D + 1]);
        const most = usd(9_900) - 2n;
        await expect(charge(most + 1n, { day: D + 2, breached: true }))
          .to.be.revertedWithCustomError(staking, "InFlightAboveActiveStake")
          .withArgs(operatorId, usd(9_900) + 1n, usd(9_900));
        expect((await breachesUnder()).bits).to.equal(0b11n);
        await charge(most, { day: D + 2, breached: true });
        expect(await staking.headroomOf(operatorId)).to.equal(0);
      });
    });
  });

  describe("jails", () => {
    let day = 30_000;
    /** Breaches on three days that had none; how long the jail is that they earn. */
    const jail = async () => {
      await breachOn([(day += 10), day + 1, day + 2]);
      return Number((await poolOf()).jailedUntil) - (await time.latest());
    };
    const leaveJail = async (later = 0) => time.increaseTo((await poolOf()).jailedUntil + BigInt(later));

    it("double each time, and stop to after the eighth", async () => {
      for (let doublings = 0; doublings <= 9; doublings += 1) {
        expect(await jail(), `after ${doublings}`).to.equal(JAIL * 2 ** Math.min(doublings, 8));
        expect((await poolOf()).jailings).to.equal(Math.min(doublings + 1, 8));
        await leaveJail(CURE - 10);
      }
    });

    it("double for breaches in jail, too, whatever their plan", async () => {
      expect(await jail()).to.equal(JAIL);
      await breachOn([D_OTHER, D_OTHER + 1, D_OTHER + 2], { planId: 2 });
      expect(Number((await poolOf()).jailedUntil) - (await time.latest())).to.equal(2 * JAIL);
    });

    it("are cured ninety days after the last one's end, to the second", async () => {
      await jail();
      await leaveJail();
      await jail();
      const { jailedUntil } = await poolOf();
      await breachOn([(day += 10), day + 1]);
      await time.setNextBlockTimestamp(jailedUntil + BigInt(CURE));
      await breach(day + 2);
      expect(Number((await poolOf()).jailedUntil) - (await time.latest())).to.equal(JAIL);
      expect((await poolOf()).jailings).to.equal(1);
    });

    it("aren't cured a second before", async () => {
      await jail();
      const { jailedUntil } = await poolOf();
      await breachOn([(day += 10), day + 1]);
      await time.setNextBlockTimestamp(jailedUntil + BigInt(CURE) - 1n);
      await breach(day + 2);
      expect(Number((await poolOf()).jailedUntil) - (await time.latest())).to.equal(2 * JAIL);
    });

    it("keep no stake: in jail one adds, thaws and withdraws as ever", async () => {
      await jail();
      await jail();
      await jail();
      await jail();
      await release(12n);
      await staking.addStake(operatorId, usd(1));
      const { shares } = await staking.poolOf(operatorId);
      await thawAndWait(shares);
      expect(await staking.statusOf(operatorId)).to.equal(OperatorStatus.Jailed);
      await staking.withdraw(operatorId, market.operator);
      expect((await poolOf()).stake).to.equal(0);
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

    describe("when the pool would be wider than its 64 bits", () => {
      it("reverts", async () => {
        await expect((await asEscrow()).addIncome(operatorId, 2n ** 64n)).to.be.revertedWithCustomError(
          staking,
          "SafeCastOverflowedUintDowncast",
        );
      });
    });

    describe("when all is well", () => {
      it("adds to the stake, and makes no shares", async () => {
        await (await asEscrow()).addIncome(operatorId, usd(10));
        expect(await staking.poolOf(operatorId)).to.deep.equal([stake + usd(10), 0, allShares, 0, 0, 0]);
        expect(await staking.worthOf(operatorId, allShares)).to.equal(stake + usd(10));
      });

      it("emits IncomeAdded", async () => {
        await expect((await asEscrow()).addIncome(operatorId, usd(10)))
          .to.emit(staking, "IncomeAdded")
          .withArgs(operatorId, usd(10));
      });
    });
  });

  describe("statusOf", () => {
    it("is Unstaked without stake, Active with it, and Jailed while a jail runs, whatever the stake", async () => {
      const other = await addOperator(market, market.payees[5], 0n);
      expect(await staking.statusOf(other)).to.equal(OperatorStatus.Unstaked);
      expect(await staking.statusOf(99)).to.equal(OperatorStatus.Unstaked);
      expect(await staking.statusOf(operatorId)).to.equal(OperatorStatus.Active);
      await breachOn([20_000, 20_001, 20_002]);
      expect(await staking.statusOf(operatorId)).to.equal(OperatorStatus.Jailed);
      await slash(stake);
      expect(await staking.statusOf(operatorId)).to.equal(OperatorStatus.Jailed);
      await time.increase(JAIL);
      expect(await staking.statusOf(operatorId)).to.equal(OperatorStatus.Unstaked);
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

    describe("when all is well", () => {
      it("takes from what is in flight", async () => {
        await charge(usd(3));
        await release(usd(2));
        expect((await staking.poolOf(operatorId)).inFlight).to.equal(usd(1));
      });
    });

    describe("when more is released than was in flight, which the escrow never does", () => {
      it("reverts", async () => {
        await charge(usd(3));
        await expect(release(usd(3) + 1n)).to.be.revertedWithPanic(0x11);
        await expect(release(2n ** 64n)).to.be.revertedWithCustomError(staking, "SafeCastOverflowedUintDowncast");
      });
    });
  });

  describe("slash", () => {
    describe("when the caller hasn't the role", () => {
      it("reverts with AccessManagedUnauthorized", async () => {
        for (const caller of [market.governor, market.guardian, market.deployer, market.operator]) {
          await expect(staking.connect(caller).slash(operatorId, 1, caller))
            .to.be.revertedWithCustomError(staking, "AccessManagedUnauthorized")
            .withArgs(caller.address);
        }
      });
    });

    describe("when there is no beneficiary", () => {
      it("reverts with BeneficiaryZero", async () => {
        await expect(slash(1n, "0x0000000000000000000000000000000000000000"))
          .to.be.revertedWithCustomError(staking, "BeneficiaryZero")
          .withArgs();
      });
    });

    describe("when all is well", () => {
      it("takes from the stake, for the beneficiary to fetch, and moves no money yet", async () => {
        await expect(slash(usd(100))).to.changeTokenBalance(market.licet.currency, staking, 0);

        expect(await staking.poolOf(operatorId)).to.deep.equal([usd(9_900), 0, allShares, 0, 0, 0]);
        expect(await staking.proceedsOf(market.outsider)).to.equal(usd(100));
      });

      it("emits StakeSlashed", async () => {
        await expect(slash(usd(100)))
          .to.emit(staking, "StakeSlashed")
          .withArgs(operatorId, market.outsider.address, usd(100));
      });

      it("takes from thawing stake in proportion", async () => {
        await thawAndWait(allShares / 4n);
        await slash(usd(1_000));

        await expect(staking.withdraw(operatorId, market.operator)).to.changeTokenBalance(
          market.licet.currency,
          market.operator,
          usd(2_250),
        );
      });
    });

    describe("when it asks for more than there is", () => {
      it("takes all", async () => {
        await expect(slash(2n ** 256n - 1n))
          .to.emit(staking, "StakeSlashed")
          .withArgs(operatorId, market.outsider.address, stake);
        expect((await staking.poolOf(operatorId)).stake).to.equal(0);
        expect(await staking.headroomOf(operatorId)).to.equal(0);
      });
    });

    describe("when all was slashed and new stake comes", () => {
      it("gives the old shares no part of it that matters", async () => {
        await thawAndWait(allShares);
        await slash(stake);
        await staking.addStake(operatorId, usd(50));

        expect(await staking.worthOf(operatorId, allShares)).to.equal(0);
        expect(await staking.activeStakeOf(operatorId)).to.equal(usd(50));
        await expect(staking.withdraw(operatorId, market.operator)).to.changeTokenBalance(
          market.licet.currency,
          market.operator,
          0,
        );
      });

      it("leaves nothing behind when that leaves, too", async () => {
        await slash(stake);
        await staking.addStake(operatorId, usd(50));
        const { shares } = await staking.positionOf(operatorId, market.operator);
        await thawAndWait(shares);
        await expect(staking.withdraw(operatorId, market.operator)).to.changeTokenBalance(
          market.licet.currency,
          market.operator,
          usd(50),
        );
      });
    });

    describe("when what is in flight is more than what is left", () => {
      it("lets no stake leave and none be put in flight, and lets what is in flight be released", async () => {
        await charge(usd(6_000));
        await thawAndWait(allShares / 4n);
        await slash(usd(5_000));

        expect(await staking.headroomOf(operatorId)).to.equal(0);
        await expect(staking.withdraw(operatorId, market.operator))
          .to.be.revertedWithCustomError(staking, "StakeBelowInFlight")
          .withArgs(operatorId, usd(3_750), usd(6_000));
        await expect(charge(1n))
          .to.be.revertedWithCustomError(staking, "InFlightAboveActiveStake")
          .withArgs(operatorId, usd(6_000) + 1n, usd(3_750));
        await release(usd(6_000));
        await staking.withdraw(operatorId, market.operator);
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
          market.licet.currency,
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

  describe("previewCharge", () => {
    it("takes no slash off for a breach on a day that was punished", async () => {
      await breachOn([20_000, 20_001, 20_002]);
      const most = usd(9_900) - 3n;
      await staking.previewCharge(chargeOf(most, { day: 20_001, breached: true }));
      await expect(staking.previewCharge(chargeOf(most + 1n, { day: 20_001, breached: true })))
        .to.be.revertedWithCustomError(staking, "InFlightAboveActiveStake")
        .withArgs(operatorId, usd(9_900) + 1n, usd(9_900));
    });

    it("agrees with charge on any breach, whatever came before and whatever is in flight", async () => {
      const anyCharge = fc.record({
        day: fc.integer({ min: 20_000, max: 20_012 }),
        planId: fc.constantFrom(1, 1, 2),
        breached: fc.constantFrom(true, true, false),
        amount: fc.oneof(fc.constant(0n), fc.bigInt({ min: 1n, max: usd(4_000) })),
      });
      const revertOf = (call: Promise<unknown>) =>
        call.then(
          () => "none",
          (error: { data?: string }) => error.data ?? "no data",
        );
      const seen = new Set<boolean>();
      await fc.assert(
        fc.asyncProperty(fc.array(anyCharge, { minLength: 6, maxLength: 14 }), async (charges) => {
          market = await loadFixture(deployWithCallers);
          staking = market.licet.staking.connect(market.operator);
          const escrow = await asEscrow();
          for (const { amount, ...changes } of charges) {
            const next = chargeOf(amount, changes);
            const preview = await revertOf(staking.previewCharge(next));
            expect(await revertOf(escrow.charge.staticCall(next))).to.equal(preview);
            seen.add(preview === "none");
            if (preview === "none") await escrow.charge(next);
            const { stake: pooled, inFlight } = await staking.poolOf(operatorId);
            expect(amount === 0n || preview !== "none" || inFlight <= pooled).to.equal(true);
          }
        }),
        { numRuns: 15 },
      );
      expect([...seen].sort()).to.deep.equal([false, true]);
    });

    it("says what charge would, without doing it", async () => {
      await staking.previewCharge(chargeOf(stake));
      await expect(staking.previewCharge(chargeOf(stake + 1n)))
        .to.be.revertedWithCustomError(staking, "InFlightAboveActiveStake")
        .withArgs(operatorId, stake + 1n, stake);
    });
  });

  describe("shares", () => {
    it("can't be made dear by a donation: money that nobody staked isn't stake", async () => {
      const owner = market.payees[5];
      const small = await addOperator(market, owner, 1n);
      await market.licet.currency.mint(staking, usd(1_000_000));

      expect(await staking.poolOf(small)).to.deep.equal([1, 0, SHARES, 0, 0, 0]);
      expect(await staking.worthOf(small, SHARES)).to.equal(1);
    });

    it("are apart from other operators': a slash of one leaves the other's alone", async () => {
      const other = await addOperator(market, market.payees[5], usd(40));
      await slash(stake);
      expect(await staking.activeStakeOf(other)).to.equal(usd(40));
    });

    it("never let anyone take more out than there is, nor a round trip gain, whatever comes in between", async () => {
      const anyAct = fc.oneof(
        fc.record({ act: fc.constant("add" as const), amount: fc.bigInt({ min: 1n, max: usd(50) }) }),
        fc.record({ act: fc.constant("slash" as const), amount: fc.bigInt({ min: 0n, max: usd(30) }) }),
        fc.record({ act: fc.constant("leave" as const), amount: fc.bigInt({ min: 1n, max: 100n }) }),
      );
      await fc.assert(
        fc.asyncProperty(fc.array(anyAct, { minLength: 3, maxLength: 8 }), async (acts) => {
          market = await loadFixture(deployWithCallers);
          staking = market.licet.staking.connect(market.operator);
          const operatorBefore = await market.licet.currency.balanceOf(market.operator);
          const heldBefore = await held();
          let slashed = 0n;
          for (const { act, amount } of acts) {
            const { stake: pooled, shares } = await staking.poolOf(operatorId);
            if (act === "add") await staking.addStake(operatorId, amount);
            if (act === "slash") {
              await slash(amount);
              slashed += amount < pooled ? amount : pooled;
            }
            if (act === "leave" && shares > 0n) {
              await thawAndWait((shares * amount) / 100n || 1n);
              await staking.withdraw(operatorId, market.operator);
            }
            const after = await staking.poolOf(operatorId);
            expect(await held()).to.equal(after.stake + (await staking.proceedsOf(market.outsider)));
            expect(await staking.worthOf(operatorId, after.shares)).to.equal(after.stake);
          }
          const { shares } = await staking.poolOf(operatorId);
          if (shares > 0n) {
            await thawAndWait(shares);
            await staking.withdraw(operatorId, market.operator);
          }
          const gained = (await market.licet.currency.balanceOf(market.operator)) - operatorBefore;
          expect(gained).to.equal(heldBefore - slashed);
          expect(await held()).to.equal(slashed);
        }),
        { numRuns: 12 },
      );
    });
  });
});

/** A market in which UsageEscrow can be spoken for. */
async function deployWithCallers(): Promise<Market> {
  const market = await deployMarket();
  const escrow = await market.licet.escrow.getAddress();
  await impersonateAccount(escrow);
  await setBalance(escrow, 10n ** 18n);
  return market;
}

/** A market whose currency can be told to take a toll. */
async function deployWithTolls(): Promise<Market> {
  const currency = await hre.ethers.deployContract("FeeOnTransferCurrency");
  return deployMarket({ currency: await currency.getAddress() });
}
