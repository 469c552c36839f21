import { loadFixture, setStorageAt, time } from "@nomicfoundation/hardhat-network-helpers";
import { expect } from "chai";
import { AbiCoder, keccak256, ZeroAddress } from "ethers";
import fc from "../support/fastCheck";
import type { IPerformanceStaking } from "../../typechain-types/contracts/PerformanceStaking";
import { addOperator, ANY_SHARES, DAY, OperatorStatus, stakeOf, structOf, usd, type Market } from "../support/market";
import {
  asEscrow,
  chargeOf,
  deployWithCallers,
  earn,
  SHARES,
  stakeAs,
  STAKE_THAW,
  thawAndWait,
  VESTING,
} from "../support/staking";

const JAIL = 7 * DAY;
const CURE = 90 * DAY;
const LONGEST_FREEZE = 90 * DAY;
/** A day of no particular meaning. */
const D_OTHER = 50_000;

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

  const slash = (amount: bigint, beneficiary = market.outsider.address) =>
    staking.connect(market.slasher).slash(operatorId, amount, beneficiary);
  const charge = async (amount: bigint, changes = {}) => (await asEscrow(market)).charge(chargeOf(amount, changes));
  const release = async (amount: bigint) => (await asEscrow(market)).release(operatorId, amount, 0);
  const positionOf = async (holder = market.operator) =>
    structOf(await staking.positionOf(operatorId, holder)) as Record<string, bigint>;

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
        expect(await stakeOf(market, operatorId)).to.equal(usd(9_900));
        expect(await staking.proceedsOf(market.treasury)).to.equal(usd(100));
      });

      it("is paid by delegations, too, and all of it is the treasury's, whoever owns the operator", async () => {
        await stakeAs(market, market.payees[0], usd(30_000));
        await breachOn([D, D + 1, D + 2]);
        expect(await staking.proceedsOf(market.treasury)).to.equal(usd(400));
        expect((await positionOf()).active).to.be.closeTo(usd(9_900), 1n);
        expect((await positionOf(market.payees[0])).active).to.be.closeTo(usd(29_700), 1n);
      });

      it("is paid by income that vests, too", async () => {
        await breachOn([D, D + 1]);
        await earn(market, usd(1_000));
        await time.increase(VESTING / 3);
        await breach(D + 2);
        expect(await staking.proceedsOf(market.treasury)).to.equal(usd(110));
        expect((await poolOf()).unvested).to.be.closeTo(usd(660), usd(0.1));
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
          .withArgs(operatorId, market.treasury.address, usd(100), 0, 0)
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
        expect(await stakeOf(market, operatorId)).to.equal(usd(9_900));

        await breachOn([D + 5, D + 6]);
        expect((await breachesUnder()).bits).to.equal(0b11n);
        expect(await stakeOf(market, operatorId)).to.equal(usd(9_900));
        await breach(D + 7);
        expect(await stakeOf(market, operatorId)).to.equal(usd(9_801));
      });

      it("is punished through the last of the days, also where the third that came in lies before it", async () => {
        await breachOn([D + 6, D + 4, D + 1]);
        expect((await breachesUnder()).punishedThrough).to.equal(D + 6);
      });

      it("tells the escrow that the operator is in jail, as every charge does until it is over", async () => {
        const asked = async (changes = {}) => (await asEscrow(market)).charge.staticCall(chargeOf(1n, changes));
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
      await staking.addStake(operatorId, usd(1), ...ANY_SHARES);
      await thawAndWait(market, market.operator);
      expect(await staking.statusOf(operatorId)).to.equal(OperatorStatus.Jailed);
      await staking.withdraw(operatorId, market.operator);
      expect(await stakeOf(market, operatorId)).to.equal(0);
    });
  });

  describe("statusOf", () => {
    it("is Jailed while a jail runs, whatever the stake", async () => {
      await breachOn([20_000, 20_001, 20_002]);
      expect(await staking.statusOf(operatorId)).to.equal(OperatorStatus.Jailed);
      await slash(stake);
      expect(await staking.statusOf(operatorId)).to.equal(OperatorStatus.Jailed);
      await time.increase(JAIL);
      expect(await staking.statusOf(operatorId)).to.equal(OperatorStatus.Unstaked);
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
        await expect(slash(1n, ZeroAddress)).to.be.revertedWithCustomError(staking, "BeneficiaryZero").withArgs();
      });
    });

    describe("when there is no such operator", () => {
      it("reverts with OperatorUnknown", async () => {
        await expect(staking.connect(market.slasher).slash(9, 1, market.outsider))
          .to.be.revertedWithCustomError(market.licet.operators, "OperatorUnknown")
          .withArgs(9);
      });
    });

    describe("when all stake is the operator's own", () => {
      it("takes it for the beneficiary to fetch, and moves no money yet", async () => {
        expect(
          await staking.connect(market.slasher).slash.staticCall(operatorId, usd(100), market.outsider),
        ).to.deep.equal([usd(100), 0]);
        await expect(slash(usd(100))).to.changeTokenBalance(market.licet.currency, staking, 0);

        expect(await poolOf()).to.include({ active: usd(9_900), shares: allShares });
        expect(await staking.proceedsOf(market.outsider)).to.equal(usd(100));
        expect(await staking.proceedsOf(market.treasury)).to.equal(0);
      });

      it("emits StakeSlashed", async () => {
        await expect(slash(usd(100)))
          .to.emit(staking, "StakeSlashed")
          .withArgs(operatorId, market.outsider.address, usd(100), 0, 0);
      });
    });

    describe("when others back the operator, too", () => {
      const [own, delegated] = [stake, usd(30_000)];
      beforeEach(async () => {
        await stakeAs(market, market.payees[0], usd(25_000));
        await stakeAs(market, market.payees[1], usd(5_000));
      });

      it("takes from all alike: what was the operator's own for the beneficiary, the rest for the treasury", async () => {
        await expect(slash(usd(400)))
          .to.emit(staking, "StakeSlashed")
          .withArgs(operatorId, market.outsider.address, usd(100), usd(300), 0);
        expect(await staking.proceedsOf(market.outsider)).to.equal(usd(100));
        expect(await staking.proceedsOf(market.treasury)).to.equal(usd(300));
        for (const [holder, left] of [
          [market.operator, usd(9_900)],
          [market.payees[0], usd(24_750)],
          [market.payees[1], usd(4_950)],
        ] as const) {
          expect((await positionOf(holder)).active).to.be.closeTo(left, 1n);
        }
      });

      it("takes from what thaws and from what vests alike, and says how much was on its way out", async () => {
        await staking.connect(market.payees[1]).thaw(operatorId, usd(5_000) * SHARES);
        await staking.thaw(operatorId, usd(5_000) * SHARES);
        await earn(market, usd(10_000));
        const before = await poolOf();
        // 10,000 of some 50,000 thaw; half of those are the operator's, as is a sixth of the rest.
        await expect(slash(usd(5_000)))
          .to.emit(staking, "StakeSlashed")
          .withArgs(
            operatorId,
            market.outsider.address,
            (value: bigint) => value - usd(500) - usd(4_000) / 6n <= 2n,
            (value: bigint) => value - usd(500) - (usd(4_000) * 5n) / 6n <= 2n,
            usd(1_000),
          );
        const { active, thawing, unvested } = await poolOf();
        expect(thawing).to.equal(usd(9_000));
        expect(active + unvested).to.equal(usd(36_000));
        expect((active * 10_000n) / before.active).to.be.closeTo(9_000n, 1n);
        expect((unvested * 10_000n) / before.unvested).to.be.closeTo(9_000n, 1n);
      });

      it("sums to what was slashed, to the unit, and never pays the beneficiary a unit of others'", async () => {
        await staking.thaw(operatorId, 1_234_567n);
        await staking.connect(market.payees[0]).thaw(operatorId, 7_654_321n);
        await earn(market, 1_001n);
        for (const amount of [1n, 2n, 3n, 7n, 1_000_003n, usd(1) + 1n]) {
          const paid = await staking.proceedsOf(market.outsider);
          const rest = await staking.proceedsOf(market.treasury);
          const held = await stakeOf(market, operatorId);
          const { active, thawing } = await positionOf();
          await slash(amount);
          const toBeneficiary = (await staking.proceedsOf(market.outsider)) - paid;
          const toTreasury = (await staking.proceedsOf(market.treasury)) - rest;
          expect(toBeneficiary + toTreasury).to.equal(amount);
          expect(await stakeOf(market, operatorId)).to.equal(held - amount);
          expect(toBeneficiary <= (amount * (active + thawing)) / held + 1n).to.equal(true);
        }
      });

      it("has nothing for the beneficiary where the operator has no stake of its own", async () => {
        await thawAndWait(market, market.operator);
        await staking.withdraw(operatorId, market.operator);
        await expect(slash(usd(300)))
          .to.emit(staking, "StakeSlashed")
          .withArgs(operatorId, market.outsider.address, 0, usd(300), 0);
        expect(await stakeOf(market, operatorId)).to.equal(delegated - usd(300));
      });

      it("goes all to the treasury where it is, and the beneficiary is, too", async () => {
        await slash(usd(400), market.treasury.address);
        expect(await staking.proceedsOf(market.treasury)).to.equal(usd(400));
        expect(own + delegated - (await stakeOf(market, operatorId))).to.equal(usd(400));
      });
    });

    describe("when it asks for more than there is", () => {
      it("takes all, of whatever kind", async () => {
        await earn(market, usd(10));
        await staking.thaw(operatorId, allShares / 2n);
        await expect(slash(2n ** 256n - 1n))
          .to.emit(staking, "StakeSlashed")
          .withArgs(operatorId, market.outsider.address, stake + usd(10), 0, (value: bigint) => value >= stake / 2n);
        expect(await poolOf()).to.include({ active: 0n, thawing: 0n, unvested: 0n, shares: 0n, thawingShares: 0n });
        expect(await staking.headroomOf(operatorId)).to.equal(0);
      });

      it("takes nothing from nothing, and voids nothing", async () => {
        const other = await addOperator(market, market.payees[5], 0n);
        await expect(staking.connect(market.slasher).slash(other, 5, market.outsider))
          .to.emit(staking, "StakeSlashed")
          .withArgs(other, market.outsider.address, 0, 0, 0);
        expect((await staking.poolOf(other)).round).to.equal(0);
      });
    });

    describe("when all was slashed", () => {
      beforeEach(async () => {
        await stakeAs(market, market.payees[0], usd(500));
        await staking.thaw(operatorId, allShares / 2n);
        await staking.connect(market.payees[0]).thaw(operatorId, 5_000_000n);
        await slash(2n ** 256n - 1n);
      });

      it("voids all shares and thaws", async () => {
        for (const holder of [market.operator, market.payees[0]]) {
          expect(await positionOf(holder)).to.deep.equal({ shares: 0n, active: 0n, thawingShares: 0n, thawing: 0n });
          expect(await staking.thawsOf(operatorId, holder)).to.deep.equal([]);
          const asHolder = staking.connect(holder);
          await time.increase(STAKE_THAW + 1);
          await expect(asHolder.thaw(operatorId, 1))
            .to.be.revertedWithCustomError(staking, "SharesAbovePosition")
            .withArgs(operatorId, 1, 0);
          await expect(asHolder.unthaw(operatorId)).to.be.revertedWithCustomError(staking, "ThawEmpty");
          await expect(asHolder.withdraw(operatorId, holder)).to.be.revertedWithCustomError(staking, "ThawEmpty");
        }
      });

      it("starts the pool anew: new stake is all its holders', at the first price, and leaves whole", async () => {
        await stakeAs(market, market.payees[0], usd(50));
        expect(await poolOf()).to.include({ active: usd(50), shares: usd(50) * SHARES, round: 1n });
        await earn(market, usd(5));
        expect((await positionOf()).active).to.equal(0);
        await slash(usd(11));
        expect(await staking.proceedsOf(market.treasury)).to.equal(usd(500) + usd(11));
        await thawAndWait(market, market.payees[0]);
        await expect(staking.connect(market.payees[0]).withdraw(operatorId, market.payees[0])).to.changeTokenBalance(
          market.licet.currency,
          market.payees[0],
          usd(44),
        );
      });

      it("does so any number of times", async () => {
        for (let round = 2n; round < 6n; round += 1n) {
          await staking.addStake(operatorId, usd(50), ...ANY_SHARES);
          await staking.thaw(operatorId, 12_345n);
          await slash(2n ** 256n - 1n);
          expect((await poolOf()).round).to.equal(round);
          expect(await staking.thawsOf(operatorId, market.operator)).to.deep.equal([]);
        }
      });

      it("is the end where it has happened 65,535 times, lest the first shares come to life again", async () => {
        const slot = keccak256(AbiCoder.defaultAbiCoder().encode(["uint24", "uint256"], [operatorId, 1]));
        const rounds = `0x${(BigInt(slot) + 1n).toString(16)}`;
        await setStorageAt(await staking.getAddress(), rounds, 65_534n << 224n);
        await staking.addStake(operatorId, usd(50), ...ANY_SHARES);
        expect(await poolOf()).to.include({ round: 65_534n, active: usd(50) });
        await slash(usd(50));
        await expect(staking.addStake(operatorId, usd(50), ...ANY_SHARES))
          .to.be.revertedWithCustomError(staking, "PoolWornOut")
          .withArgs(operatorId);
        await slash(usd(50));
        expect((await poolOf()).round).to.equal(65_535);
      });
    });

    describe("when next to nothing would be left", () => {
      const [most, dust] = [usd(160_000), 1n];

      beforeEach(async () => {
        await stakeAs(market, market.payees[0], most - stake);
      });

      it("takes that, too, where its shares could be counted in no unit, and starts the pool anew", async () => {
        await expect(slash(most - dust))
          .to.emit(staking, "StakeSlashed")
          .withArgs(operatorId, market.outsider.address, stake, most - stake, 0);
        expect(await poolOf()).to.include({ active: 0n, shares: 0n, round: 1n });
        expect(await staking.proceedsOf(market.outsider)).to.equal(stake);

        // Whoever held dust can't keep the others out by staying.
        await stakeAs(market, market.payees[1], usd(50));
        expect(await poolOf()).to.include({ active: usd(50), shares: usd(50) * SHARES, round: 1n });
        expect((await positionOf(market.payees[0])).active).to.equal(0);
      });

      it("does so with what thaws and what hasn't vested", async () => {
        await staking.connect(market.payees[0]).thaw(operatorId, usd(150_000) * SHARES);
        await earn(market, usd(900));
        const { active, thawing, unvested } = await poolOf();
        const held = active + thawing + unvested;
        await expect(slash(held - dust)).to.emit(staking, "StakeSlashed");
        expect(await poolOf()).to.include({ active: 0n, thawing: 0n, unvested: 0n, thawingShares: 0n, round: 1n });
        const proceeds = await Promise.all([market.outsider, market.treasury].map((one) => staking.proceedsOf(one)));
        expect(proceeds[0] + proceeds[1]).to.equal(held);
      });

      it("leaves it where the shares can still be counted, or where it is a millionth or more", async () => {
        await slash(most - 2n);
        expect(await poolOf()).to.include({ active: 2n, round: 0n });
        await stakeAs(market, market.payees[1], usd(100));
        await slash(usd(99.9));
        expect(await poolOf()).to.include({ active: usd(0.1) + 2n, round: 0n });
      });
    });

    describe("when what is in flight is more than what is left", () => {
      it("lets no stake leave and none be put in flight, and lets what is in flight be released", async () => {
        await charge(usd(6_000));
        await thawAndWait(market, market.operator, allShares / 4n);
        await slash(usd(5_000));

        expect(await staking.headroomOf(operatorId)).to.equal(0);
        await expect(staking.withdraw(operatorId, market.operator))
          .to.be.revertedWithCustomError(staking, "StakeStillNeeded")
          .withArgs(operatorId, usd(3_750), usd(6_000), 0);
        await expect(charge(1n))
          .to.be.revertedWithCustomError(staking, "InFlightAboveActiveStake")
          .withArgs(operatorId, usd(6_000) + 1n, usd(3_750));
        await release(usd(6_000));
        await staking.withdraw(operatorId, market.operator);
      });
    });
  });

  describe("freeze", () => {
    const freeze = async (amount: bigint, period: number) => {
      const until = (await time.latest()) + period;
      await staking.connect(market.slasher).freeze(operatorId, amount, until);
      return until;
    };

    describe("when the caller hasn't the role", () => {
      it("reverts with AccessManagedUnauthorized, to freeze and to unfreeze", async () => {
        for (const caller of [market.governor, market.guardian, market.deployer, market.operator]) {
          for (const act of [
            () => staking.connect(caller).freeze(operatorId, 1, 1),
            () => staking.connect(caller).unfreeze(operatorId),
          ]) {
            await expect(act())
              .to.be.revertedWithCustomError(staking, "AccessManagedUnauthorized")
              .withArgs(caller.address);
          }
        }
      });
    });

    describe("when it would end more than ninety days ahead", () => {
      it("reverts with FreezeTooLong", async () => {
        const now = (await time.latest()) + 10;
        await time.setNextBlockTimestamp(now);
        const latest = now + LONGEST_FREEZE;
        await expect(staking.connect(market.slasher).freeze(operatorId, 1, latest + 1))
          .to.be.revertedWithCustomError(staking, "FreezeTooLong")
          .withArgs(latest + 1, latest);
        await time.setNextBlockTimestamp(now + 1);
        await staking.connect(market.slasher).freeze(operatorId, 1, latest + 1);
      });
    });

    describe("when all is well", () => {
      it("keeps as much from withdrawals, beside what is in flight, until its end and not a second longer", async () => {
        await charge(usd(1_000));
        await thawAndWait(market, market.operator, allShares / 2n);
        const until = await freeze(usd(4_001), 10 * DAY);
        expect(await poolOf()).to.include({ frozen: usd(4_001), frozenUntil: BigInt(until) });
        expect(await staking.frozenOf(operatorId)).to.equal(usd(4_001));
        await time.setNextBlockTimestamp(until - 1);
        await expect(staking.withdraw(operatorId, market.operator))
          .to.be.revertedWithCustomError(staking, "StakeStillNeeded")
          .withArgs(operatorId, usd(5_000), usd(1_000), usd(4_001));
        await time.increaseTo(until);
        expect(await poolOf()).to.include({ frozen: 0n, frozenUntil: 0n });
        expect(await staking.frozenOf(operatorId)).to.equal(0);
        await staking.withdraw(operatorId, market.operator);
      });

      it("lets what is above it leave", async () => {
        await thawAndWait(market, market.operator, allShares / 2n);
        await freeze(usd(5_000), DAY);
        await staking.withdraw(operatorId, market.operator);
      });

      it("doesn't keep anybody from thawing, nor the operator from serving", async () => {
        await freeze(2n ** 64n - 1n, DAY);
        await staking.thaw(operatorId, allShares / 2n);
        await charge(stake / 2n);
        expect(await staking.headroomOf(operatorId)).to.equal(0);
      });

      it("comes in place of what was frozen before", async () => {
        await freeze(usd(100), 50 * DAY);
        const until = await freeze(usd(7), DAY);
        expect(await poolOf()).to.include({ frozen: usd(7), frozenUntil: BigInt(until) });
      });

      it("emits StakeFrozen", async () => {
        const until = (await time.latest()) + DAY;
        await expect(staking.connect(market.slasher).freeze(operatorId, 5, until))
          .to.emit(staking, "StakeFrozen")
          .withArgs(operatorId, 5, until);
      });
    });

    describe("when it is taken back", () => {
      it("freezes nothing any more, and emits StakeUnfrozen", async () => {
        await thawAndWait(market, market.operator);
        await freeze(1n, DAY);
        await expect(staking.withdraw(operatorId, market.operator)).to.be.revertedWithCustomError(
          staking,
          "StakeStillNeeded",
        );
        await expect(staking.connect(market.slasher).unfreeze(operatorId))
          .to.emit(staking, "StakeUnfrozen")
          .withArgs(operatorId);
        await staking.withdraw(operatorId, market.operator);
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
          const escrow = await asEscrow(market);
          for (const { amount, ...changes } of charges) {
            const next = chargeOf(amount, changes);
            const preview = await revertOf(staking.previewCharge(next));
            expect(await revertOf(escrow.charge.staticCall(next))).to.equal(preview);
            seen.add(preview === "none");
            if (preview === "none") await escrow.charge(next);
            const { active, inFlight } = await staking.poolOf(operatorId);
            expect(amount === 0n || preview !== "none" || inFlight <= active).to.equal(true);
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
});
