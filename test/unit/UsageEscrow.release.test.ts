import { loadFixture, time } from "@nomicfoundation/hardhat-network-helpers";
import { expect } from "chai";
import { id, type Signer } from "ethers";
import fc from "../support/fastCheck";
import hre from "hardhat";
import { zeroUsage } from "../../oracle/protocol/meters";
import { AttestorThatAlwaysVouches__factory } from "../../typechain-types";
import {
  addPlan,
  BatchStatus,
  ATTESTORS,
  buyLicense,
  DAY,
  deployMarket,
  entryOf,
  planTerms,
  proofBy,
  batchOf,
  settle,
  stakeOf,
  structOf,
  usd,
  type Market,
} from "../support/market";

const HOLD = 3 * DAY;
const NONE = id("no batch");

describe("UsageEscrow", () => {
  let market: Market;
  let escrow: Market["licet"]["escrow"];
  let licenseId: bigint;

  beforeEach(async () => {
    market = await loadFixture(deployMarket);
    escrow = market.licet.escrow.connect(market.outsider);
    licenseId = await buyLicense(market, usd(50));
  });

  /** Settles a batch that charges `amount` before any discount, and earns no bonus: too few canaries ran. */
  const charge = async (amount: bigint, changes: Parameters<typeof settle>[2] = {}) => {
    const entries = [entryOf(licenseId, { ...zeroUsage(), inputTokens: amount })];
    return (await settle(market, entries, { samples: 19, ...changes })).batchId;
  };
  const chargeAndRelease = async (amount: bigint, changes: Parameters<typeof settle>[2] = {}) => {
    const batchId = await charge(amount, changes);
    await time.increase(HOLD);
    await escrow.release(batchId);
    return batchId;
  };

  describe("release", () => {
    describe("when there is no such batch", () => {
      it("reverts with BatchNotHeld", async () => {
        await expect(escrow.release(NONE)).to.be.revertedWithCustomError(escrow, "BatchNotHeld").withArgs(NONE, 0);
      });
    });

    describe("when it was released before", () => {
      it("reverts with BatchNotHeld, after the attestor's share was collected, too", async () => {
        const batchId = await chargeAndRelease(usd(10));
        await expect(escrow.release(batchId))
          .to.be.revertedWithCustomError(escrow, "BatchNotHeld")
          .withArgs(batchId, 3);
        await market.licet.committee.shareIncome(batchId);
        await expect(escrow.release(batchId))
          .to.be.revertedWithCustomError(escrow, "BatchNotHeld")
          .withArgs(batchId, 4);
      });
    });

    describe("when its hold runs", () => {
      it("reverts with HoldRunning until the second in which it ends", async () => {
        const batchId = await charge(usd(10));
        const { releasableAt } = await escrow.batchOf(batchId);
        expect(releasableAt).to.equal((await time.latest()) + HOLD);
        await time.setNextBlockTimestamp(releasableAt - 1n);
        await expect(escrow.release(batchId))
          .to.be.revertedWithCustomError(escrow, "HoldRunning")
          .withArgs(batchId, releasableAt);

        await time.setNextBlockTimestamp(releasableAt);
        await escrow.release(batchId);
      });
    });

    describe("when all is well", () => {
      it("credits operator, model and the protocol, and moves no money", async () => {
        const batchId = await charge(usd(10));
        await time.increase(HOLD);
        await expect(escrow.release(batchId)).to.changeTokenBalance(market.licet.currency, escrow, 0);

        expect(await escrow.operatorIncomeOf(1)).to.deep.equal([usd(6.7), 0]);
        expect(await escrow.assetIncomeOf(1)).to.equal(usd(3));
        expect(await escrow.protocolFees()).to.equal(usd(0.1));
        expect(await escrow.totalOwed()).to.equal(usd(50));
      });

      it("takes the charge out of flight", async () => {
        const held = await charge(usd(4));
        await chargeAndRelease(usd(10));
        expect((await market.licet.staking.poolOf(1)).inFlight).to.equal(usd(4));
        await escrow.release(held);
        expect((await market.licet.staking.poolOf(1)).inFlight).to.equal(0);
      });

      it("marks the batch as released and leaves its record", async () => {
        const batchId = await charge(usd(10));
        const before = structOf(await escrow.batchOf(batchId));
        await time.increase(HOLD);
        await escrow.release(batchId);
        expect(structOf(await escrow.batchOf(batchId))).to.deep.equal({ ...before, status: 3n });
      });

      it("emits BatchReleased", async () => {
        const batchId = await charge(usd(10));
        await time.increase(HOLD);
        await expect(escrow.release(batchId))
          .to.emit(escrow, "BatchReleased")
          .withArgs(batchId, 1, 1, [usd(6.7), usd(3), usd(0.2), usd(0.1), 0], 0);
      });

      it("releases a batch that charged nothing", async () => {
        const batchId = await chargeAndRelease(0n);
        expect(await escrow.splitOf(batchId)).to.deep.equal([0, 0, 0, 0, 0]);
      });
    });

    describe("when the hold of its plan is another", () => {
      it("waits for as long as the plan says", async () => {
        const planId = await addPlan(market, { holdPeriod: 30 * DAY });
        licenseId = await buyLicense(market, usd(5), { planId });
        const batchId = await charge(usd(1), { planId });
        expect((await escrow.batchOf(batchId)).releasableAt).to.equal((await time.latest()) + 30 * DAY);
      });
    });

    describe("when the fee was changed after the settlement", () => {
      it("takes the fee of the day of the settlement", async () => {
        const before = await charge(usd(10));
        await escrow.connect(market.governor).setFee(500);
        const after = await charge(usd(10));
        await escrow.connect(market.governor).setFee(0);

        expect((await escrow.splitOf(before)).fee).to.equal(usd(0.1));
        expect((await escrow.splitOf(after)).fee).to.equal(usd(0.5));
        await time.increase(HOLD);
        await escrow.release(before);
        await escrow.release(after);
        expect(await escrow.protocolFees()).to.equal(usd(0.6));
      });
    });
  });

  describe("batchStatusOf", () => {
    it("goes from Held to Releasable by time, and to Released and Collected by those who act", async () => {
      expect(await escrow.batchStatusOf(NONE)).to.equal(BatchStatus.None);
      const batchId = await charge(usd(10));
      const { releasableAt } = await escrow.batchOf(batchId);
      await time.increaseTo(releasableAt - 1n);
      expect(await escrow.batchStatusOf(batchId)).to.equal(BatchStatus.Held);
      await time.increaseTo(releasableAt);
      expect(await escrow.batchStatusOf(batchId)).to.equal(BatchStatus.Releasable);
      expect((await escrow.batchOf(batchId)).status).to.equal(BatchStatus.Held);
      await escrow.release(batchId);
      expect(await escrow.batchStatusOf(batchId)).to.equal(BatchStatus.Released);
      await market.licet.committee.shareIncome(batchId);
      expect(await escrow.batchStatusOf(batchId)).to.equal(BatchStatus.Collected);
    });
  });

  describe("a bonus", () => {
    const good = { samples: 60 };

    it("is half of the fee, rounded down, of a batch that met its plan's levels", async () => {
      const batchId = await charge(usd(10), good);
      expect((await escrow.batchOf(batchId)).earnsBonus).to.equal(true);
      expect(await escrow.splitOf(batchId)).to.deep.equal([usd(6.7), usd(3), usd(0.2), usd(0.05), usd(0.05)]);
      // The fee of 199 units is 1, and half of it is nothing.
      const small = await charge(199n, good);
      expect((await escrow.splitOf(small)).bonus).to.equal(0);
      const odd = await charge(300n, good);
      const { fee, bonus } = await escrow.splitOf(odd);
      expect([fee, bonus]).to.deep.equal([2, 1]);
    });

    it("isn't earned with a discount, by too few canaries, or under levels that cost nothing to miss", async () => {
      const free = {
        ...planTerms(1, "").levels,
        availabilityDiscountBps: 0,
        severeAvailabilityDiscountBps: 0,
        ttftDiscountBps: 0,
        severeTtftDiscountBps: 0,
      };
      const planId = await addPlan(market, { levels: free });
      const batchIds = [await charge(usd(10), { ...good, p95TtftMs: 801 }), await charge(usd(10), { samples: 19 })];
      licenseId = await buyLicense(market, usd(50), { planId });
      batchIds.push(await charge(usd(10), { ...good, planId }));
      for (const batchId of batchIds) {
        expect((await escrow.batchOf(batchId)).earnsBonus).to.equal(false);
        expect((await escrow.splitOf(batchId)).bonus).to.equal(0);
      }
    });

    it("isn't earned in jail, and is again after it", async () => {
      for (let day = 0; day < 3; day += 1) {
        await time.increase(DAY);
        await charge(usd(1), { samples: 20, availabilityBps: 0 });
      }
      expect((await escrow.batchOf(await charge(usd(1), good))).earnsBonus).to.equal(false);
      await time.increase(7 * DAY);
      expect((await escrow.batchOf(await charge(usd(1), good))).earnsBonus).to.equal(true);
    });

    it("waits for payPool from its batch's release on, and is no fee of the protocol's", async () => {
      const batchId = await charge(usd(10), good);
      expect(await escrow.operatorIncomeOf(1)).to.deep.equal([0, 0]);
      await time.increase(HOLD);
      await expect(escrow.release(batchId))
        .to.emit(escrow, "BatchReleased")
        .withArgs(batchId, 1, 1, [usd(6.7), usd(3), usd(0.2), usd(0.05), usd(0.05)], 0);
      expect((await escrow.operatorIncomeOf(1)).forPool).to.equal(usd(0.05));
      expect(await escrow.protocolFees()).to.equal(usd(0.05));
      await chargeAndRelease(usd(10), good);
      expect((await escrow.operatorIncomeOf(1)).forPool).to.equal(usd(0.1));
    });
  });

  describe("payPool", () => {
    describe("when nothing waits", () => {
      it("reverts with PoolIncomeEmpty", async () => {
        await chargeAndRelease(usd(10));
        for (const operatorId of [1, 9]) {
          await expect(escrow.payPool(operatorId))
            .to.be.revertedWithCustomError(escrow, "PoolIncomeEmpty")
            .withArgs(operatorId);
        }
      });
    });

    describe("when all is well", () => {
      beforeEach(async () => {
        await chargeAndRelease(usd(10), { samples: 60 });
      });

      it("sends it to the staking, as stake of the operator's pool, whoever calls, once", async () => {
        const { staking, currency } = market.licet;
        await expect(escrow.payPool(1)).to.changeTokenBalances(currency, [escrow, staking], [-usd(0.05), usd(0.05)]);
        expect(await stakeOf(market, 1)).to.equal(market.stake + usd(0.05));
        expect(await escrow.operatorIncomeOf(1)).to.deep.equal([usd(6.7), 0]);
        expect(await escrow.totalOwed()).to.equal(usd(50) - usd(0.05));
        await expect(escrow.payPool(1)).to.be.revertedWithCustomError(escrow, "PoolIncomeEmpty").withArgs(1);
      });

      it("emits PoolPaid and IncomeAdded, and returns the amount", async () => {
        expect(await escrow.payPool.staticCall(1)).to.equal(usd(0.05));
        const now = (await time.latest()) + 10;
        await time.setNextBlockTimestamp(now);
        await expect(escrow.payPool(1))
          .to.emit(escrow, "PoolPaid")
          .withArgs(1, usd(0.05))
          .and.to.emit(market.licet.staking, "IncomeAdded")
          .withArgs(1, usd(0.05), now + 3 * DAY);
      });
    });
  });

  describe("payAsset", () => {
    describe("when nothing waits", () => {
      it("reverts with AssetIncomeEmpty", async () => {
        await charge(usd(10));
        for (const assetId of [1, 9]) {
          await expect(escrow.payAsset(assetId))
            .to.be.revertedWithCustomError(escrow, "AssetIncomeEmpty")
            .withArgs(assetId);
        }
      });
    });

    describe("when all is well", () => {
      beforeEach(async () => {
        await chargeAndRelease(usd(10));
      });

      it("sends it to the asset's pot in the waterfall, whoever calls, once", async () => {
        const { waterfall, currency } = market.licet;
        await expect(escrow.payAsset(1)).to.changeTokenBalances(currency, [escrow, waterfall], [-usd(3), usd(3)]);
        expect(await waterfall.potOf(1)).to.equal(usd(3));
        expect(await escrow.assetIncomeOf(1)).to.equal(0);
        expect(await escrow.totalOwed()).to.equal(usd(50) - usd(3));
        await expect(escrow.payAsset(1)).to.be.revertedWithCustomError(escrow, "AssetIncomeEmpty").withArgs(1);
      });

      it("emits AssetPaid and IncomeCredited, and returns the amount", async () => {
        expect(await escrow.payAsset.staticCall(1)).to.equal(usd(3));
        await expect(escrow.payAsset(1))
          .to.emit(escrow, "AssetPaid")
          .withArgs(1, usd(3))
          .and.to.emit(market.licet.waterfall, "IncomeCredited")
          .withArgs(1, 0, usd(3));
      });
    });
  });

  describe("releaseUpfront", () => {
    const PRICE = usd(7);
    let paidAt: number;
    beforeEach(async () => {
      const planId = await addPlan(market, { upfrontPrice: PRICE });
      licenseId = await buyLicense(market, usd(5), { planId });
      paidAt = await time.latest();
    });
    const recall = () => market.licet.assets.connect(market.publisher).recall(market.versionId);
    const balance = async () => (await escrow.accountOf(licenseId)).balance;

    describe("when there is none", () => {
      it("reverts with UpfrontNone, also once it was released", async () => {
        const free = await buyLicense(market, 0n);
        for (const none of [free, 99n]) {
          await expect(escrow.releaseUpfront(none)).to.be.revertedWithCustomError(escrow, "UpfrontNone").withArgs(none);
        }
        await time.increase(HOLD);
        await escrow.releaseUpfront(licenseId);
        await expect(escrow.releaseUpfront(licenseId))
          .to.be.revertedWithCustomError(escrow, "UpfrontNone")
          .withArgs(licenseId);
      });
    });

    describe("when its hold runs, and nothing was recalled", () => {
      it("reverts with UpfrontHeld until the second in which it ends", async () => {
        await time.setNextBlockTimestamp(paidAt + HOLD - 1);
        await expect(escrow.releaseUpfront(licenseId))
          .to.be.revertedWithCustomError(escrow, "UpfrontHeld")
          .withArgs(licenseId, paidAt + HOLD);
        await time.setNextBlockTimestamp(paidAt + HOLD);
        await escrow.releaseUpfront(licenseId);
      });
    });

    describe("when all is well", () => {
      it("credits the model, less the fee of the day of the purchase, and moves no money", async () => {
        await escrow.connect(market.governor).setFee(500);
        await time.increase(HOLD);
        await expect(escrow.releaseUpfront(licenseId)).to.changeTokenBalance(market.licet.currency, escrow, 0);
        expect(await escrow.assetIncomeOf(1)).to.equal(usd(6.93));
        expect(await escrow.protocolFees()).to.equal(usd(0.07));
        expect(await escrow.upfrontOf(licenseId)).to.deep.equal([0, 0, 0, 0]);
        expect(await balance()).to.equal(usd(5));
      });

      it("emits UpfrontReleased", async () => {
        await time.increase(HOLD);
        await expect(escrow.releaseUpfront(licenseId))
          .to.emit(escrow, "UpfrontReleased")
          .withArgs(licenseId, market.assetId, usd(6.93), usd(0.07));
      });
    });

    describe("when a recall was announced while it was held", () => {
      it("returns it to the license's account, at once, and emits UpfrontReturned", async () => {
        await recall();
        const released = escrow.releaseUpfront(licenseId);
        await expect(released).to.emit(escrow, "UpfrontReturned").withArgs(licenseId, PRICE);
        await expect(released).not.to.emit(escrow, "UpfrontReleased");
        expect(await balance()).to.equal(usd(5) + PRICE);
        expect(await escrow.upfrontOf(licenseId)).to.deep.equal([0, 0, 0, 0]);
        expect([await escrow.assetIncomeOf(1), await escrow.protocolFees()]).to.deep.equal([0, 0]);
      });

      it("returns it long after, too, if nobody came before", async () => {
        await time.setNextBlockTimestamp(paidAt + HOLD - 1);
        await recall();
        await time.increase(365 * DAY);
        await escrow.releaseUpfront(licenseId);
        expect(await balance()).to.equal(usd(5) + PRICE);
      });

      it("returns it to a license that has ended", async () => {
        await escrow.connect(market.licensee).end(licenseId);
        await recall();
        await escrow.releaseUpfront(licenseId);
        expect(await balance()).to.equal(usd(5) + PRICE);
      });
    });

    describe("when a recall was announced before the purchase, or after the hold", () => {
      it("releases it: the buyer knew, or had its time", async () => {
        await time.setNextBlockTimestamp(paidAt + HOLD);
        await recall();
        const planId = await addPlan(market, { upfrontPrice: PRICE });
        const informed = await buyLicense(market, 0n, { planId });
        await time.increase(HOLD);
        for (const license of [licenseId, informed]) {
          await expect(escrow.releaseUpfront(license)).to.emit(escrow, "UpfrontReleased");
        }
      });
    });
  });

  describe("splitOf", () => {
    it("is all zero for a batch that doesn't exist", async () => {
      expect(await escrow.splitOf(NONE)).to.deep.equal([0, 0, 0, 0, 0]);
    });

    it("stays the same from settlement on", async () => {
      const batchId = await charge(usd(10));
      const split = await escrow.splitOf(batchId);
      await time.increase(HOLD);
      await escrow.release(batchId);
      expect(await escrow.splitOf(batchId)).to.deep.equal(split);
      await market.licet.committee.shareIncome(batchId);
      expect(await escrow.splitOf(batchId)).to.deep.equal(split);
    });

    it("takes a discount out of the operator's share alone", async () => {
      // 30 % off 10 USD: the others get their shares of 10 USD, the operator what is left of 7.
      const batchId = await charge(usd(10), { availabilityBps: 8_000, samples: 60 });
      expect((await escrow.batchOf(batchId)).charged).to.equal(usd(7));
      expect(await escrow.splitOf(batchId)).to.deep.equal([usd(3.7), usd(3), usd(0.2), usd(0.1), 0]);
    });

    it("rounds each share down and gives the operator what remains", async () => {
      const batchId = await charge(99n);
      expect(await escrow.splitOf(batchId)).to.deep.equal([99n - 29n - 1n - 0n, 29n, 1n, 0n, 0n]);
    });

    it("gives the operator all of a single unit", async () => {
      expect(await escrow.splitOf(await charge(1n))).to.deep.equal([1n, 0n, 0n, 0n, 0n]);
    });

    it("leaves the operator nothing, and never less, at the largest discount and fee", async () => {
      await escrow.connect(market.governor).setFee(500);
      const levels = { ...planTerms(1, "").levels, severeAvailabilityDiscountBps: 6_300 };
      const planId = await addPlan(market, { levels });
      licenseId = await buyLicense(market, usd(5), { planId });
      const batchId = await charge(usd(1), { planId, availabilityBps: 0, samples: 60 });
      expect(await escrow.splitOf(batchId)).to.deep.equal([0, usd(0.3), usd(0.02), usd(0.05), 0]);
    });

    it("sums to the charge to the unit, for any charge, shares, fee and discount", async () => {
      const anyCase = fc
        .record({
          publisherBps: fc.integer({ min: 0, max: 9_500 }),
          attestorBps: fc.integer({ min: 0, max: 9_500 }),
          feeBps: fc.integer({ min: 0, max: 500 }),
          amount: fc.oneof(fc.bigInt({ min: 0n, max: 200n }), fc.bigInt({ min: 0n, max: usd(50) })),
          discount: fc.integer({ min: 0, max: 9_500 }),
          isGood: fc.boolean(),
        })
        .filter(({ publisherBps, attestorBps }) => publisherBps + attestorBps <= 9_500);
      await fc.assert(
        fc.asyncProperty(anyCase, async ({ publisherBps, attestorBps, feeBps, amount, discount, isGood }) => {
          market = await loadFixture(deployMarket);
          escrow = market.licet.escrow.connect(market.outsider);
          const discountBps = Math.min(discount, 9_500 - publisherBps - attestorBps);
          const levels = {
            ...planTerms(1, "").levels,
            availabilityDiscountBps: discountBps,
            severeAvailabilityDiscountBps: discountBps,
            ttftDiscountBps: 0,
            severeTtftDiscountBps: 0,
          };
          const planId = await addPlan(market, { publisherBps, attestorBps, levels });
          await escrow.connect(market.governor).setFee(feeBps);
          licenseId = await buyLicense(market, usd(50), { planId });
          const batchId = await charge(amount, { planId, availabilityBps: isGood ? 10_000 : 0, samples: 60 });

          const { charged } = await escrow.batchOf(batchId);
          const gross = isGood ? charged : (charged * 10_000n) / (10_000n - BigInt(discountBps));
          const share = (bps: number) => (gross * BigInt(bps)) / 10_000n;
          const [publisher, attestor, fee] = [share(publisherBps), share(attestorBps), share(feeBps)];
          const operator = charged - publisher - attestor - fee;
          const bonus = isGood && discountBps > 0 ? fee / 2n : 0n;
          expect(operator >= 0n).to.equal(true);
          expect(await escrow.splitOf(batchId)).to.deep.equal([operator, publisher, attestor, fee - bonus, bonus]);
        }),
        { numRuns: 25 },
      );
    });
  });

  describe("collectAttestorShare", () => {
    describe("when the batch isn't released, or its share was collected before", () => {
      it("reverts with BatchNotReleased", async () => {
        const batchId = await charge(usd(10));
        await expect(escrow.collectAttestorShare(batchId))
          .to.be.revertedWithCustomError(escrow, "BatchNotReleased")
          .withArgs(batchId, 1);
        await time.increase(HOLD);
        await escrow.release(batchId);
        await market.licet.committee.shareIncome(batchId);
        await expect(escrow.collectAttestorShare(batchId))
          .to.be.revertedWithCustomError(escrow, "BatchNotReleased")
          .withArgs(batchId, 4);
      });
    });

    describe("when the caller isn't the plan's attestor", () => {
      it("reverts with CallerNotAttestor", async () => {
        const batchId = await chargeAndRelease(usd(10));
        for (const caller of [market.outsider, market.publisher, market.operator]) {
          await expect(escrow.connect(caller).collectAttestorShare(batchId))
            .to.be.revertedWithCustomError(escrow, "CallerNotAttestor")
            .withArgs(batchId, caller.address);
        }
      });
    });

    describe("when all is well", () => {
      const attestedByAnother = async () => {
        const deployed = await hre.ethers.deployContract("AttestorThatAlwaysVouches");
        const attestor = AttestorThatAlwaysVouches__factory.connect(await deployed.getAddress(), market.outsider);
        const planId = await addPlan(market, { attestor: await attestor.getAddress() });
        licenseId = await buyLicense(market, usd(50), { planId });
        return { attestor, batchId: await chargeAndRelease(usd(10), { planId }) };
      };

      it("sends the share to the attestor, with its own note of who signed", async () => {
        const { attestor, batchId } = await attestedByAnother();
        expect(await attestor.collect.staticCall(escrow, batchId)).to.deep.equal([usd(0.2), 2n ** 48n - 1n]);
        await expect(attestor.collect(escrow, batchId)).to.changeTokenBalances(
          market.licet.currency,
          [escrow, attestor],
          [-usd(0.2), usd(0.2)],
        );
        expect((await escrow.batchOf(batchId)).status).to.equal(4);
      });

      it("emits AttestorShareCollected", async () => {
        const { attestor, batchId } = await attestedByAnother();
        await expect(attestor.collect(escrow, batchId))
          .to.emit(escrow, "AttestorShareCollected")
          .withArgs(batchId, await attestor.getAddress(), usd(0.2));
      });
    });
  });

  describe("withdrawEarnings", () => {
    const withdraw = (by: Signer, to: Signer) => escrow.connect(by).withdrawEarnings(1, to);

    describe("when the caller isn't the operator's owner", () => {
      it("reverts with CallerNotOperator", async () => {
        await chargeAndRelease(usd(10));
        await expect(withdraw(market.outsider, market.outsider))
          .to.be.revertedWithCustomError(escrow, "CallerNotOperator")
          .withArgs(1, market.outsider.address);
      });
    });

    describe("when the operator earned nothing", () => {
      it("reverts with EarningsEmpty", async () => {
        await charge(usd(10));
        await expect(withdraw(market.operator, market.operator))
          .to.be.revertedWithCustomError(escrow, "EarningsEmpty")
          .withArgs(1);
      });
    });

    describe("when all is well", () => {
      beforeEach(async () => {
        await chargeAndRelease(usd(10));
        await chargeAndRelease(usd(5));
      });

      it("sends the earnings of all batches to whom the owner says, once", async () => {
        await expect(withdraw(market.operator, market.outsider)).to.changeTokenBalances(
          market.licet.currency,
          [escrow, market.outsider],
          [-usd(10.05), usd(10.05)],
        );
        await expect(withdraw(market.operator, market.outsider))
          .to.be.revertedWithCustomError(escrow, "EarningsEmpty")
          .withArgs(1);
        expect(await escrow.assetIncomeOf(1)).to.equal(usd(4.5));
        expect(await escrow.totalOwed()).to.equal(usd(50) - usd(10.05));
      });

      it("emits EarningsWithdrawn", async () => {
        await expect(withdraw(market.operator, market.outsider))
          .to.emit(escrow, "EarningsWithdrawn")
          .withArgs(1, market.outsider.address, usd(10.05));
      });
    });
  });

  describe("withdrawFees", () => {
    describe("when there are none", () => {
      it("reverts with FeesEmpty", async () => {
        await expect(escrow.withdrawFees()).to.be.revertedWithCustomError(escrow, "FeesEmpty");
      });
    });

    describe("when all is well", () => {
      beforeEach(async () => {
        await chargeAndRelease(usd(10));
        await chargeAndRelease(usd(5));
      });

      it("sends the fees to the treasury, whoever calls, once", async () => {
        await expect(escrow.withdrawFees()).to.changeTokenBalances(
          market.licet.currency,
          [escrow, market.treasury],
          [-usd(0.15), usd(0.15)],
        );
        await expect(escrow.withdrawFees()).to.be.revertedWithCustomError(escrow, "FeesEmpty");
      });

      it("emits FeesWithdrawn", async () => {
        await expect(escrow.withdrawFees())
          .to.emit(escrow, "FeesWithdrawn")
          .withArgs(market.treasury.address, usd(0.15));
      });
    });
  });

  describe("a batch that nobody vouched for", () => {
    it("has no record, and no share to collect", async () => {
      await time.increase(3_600);
      const { header, entries } = await batchOf(market, [entryOf(licenseId)]);
      const batchId = await escrow.batchIdOf(header);
      await expect(escrow.settle(header, entries, proofBy(batchId, [ATTESTORS[0]]))).to.be.revertedWithCustomError(
        escrow,
        "BatchNotVouchedFor",
      );
      expect((await escrow.batchOf(batchId)).status).to.equal(0);
      await expect(escrow.release(batchId)).to.be.revertedWithCustomError(escrow, "BatchNotHeld").withArgs(batchId, 0);
    });
  });
});
