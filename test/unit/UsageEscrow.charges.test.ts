import { anyValue } from "@nomicfoundation/hardhat-chai-matchers/withArgs";
import { loadFixture, time } from "@nomicfoundation/hardhat-network-helpers";
import { expect } from "chai";
import { id, keccak256, ZeroHash } from "ethers";
import fc from "../support/fastCheck";
import { chargeIdOf, packEntries, unpackOutcomes } from "../../oracle/protocol/entries";
import { usageBy, zeroUsage } from "../../oracle/protocol/meters";
import { METERS, type BatchHeader, type Entry } from "../../oracle/protocol/types";
import { everybodyLeaves, heldBy, owedBy } from "../support/books";
import {
  addPlan,
  batchOf,
  BatchStatus,
  buyLicense,
  DAY,
  deployMarket,
  HOUR,
  LicenseStatus,
  NOTICE,
  settle,
  STOP_GRACE,
  structOf,
  usd,
  WAIT,
  worth,
  type Market,
  type PlanTerms,
} from "../support/market";

const HOLD = 3 * DAY;
const LONG_HOLD = 30 * DAY;
const TERM = 30 * DAY;
const NONE = id("no charge");

type Settled = Awaited<ReturnType<typeof settle>>;

describe("UsageEscrow (charges in dispute)", () => {
  let market: Market;
  /** As the court. */
  let escrow: Market["licet"]["escrow"];
  /** Two licenses with 50 USD each. */
  let one: bigint;
  let two: bigint;

  beforeEach(async () => {
    market = await loadFixture(deployMarket);
    escrow = market.licet.escrow.connect(market.court);
    one = await buyLicense(market, usd(50));
    two = await buyLicense(market, usd(50));
  });

  /** Settles what two licenses have used, without a bonus: too few canaries ran. */
  const settleBoth = (changes: Partial<BatchHeader> = {}) =>
    settle(market, [worth(one, 4), worth(two, 6)], { samples: 19, ...changes });
  const outcomesOf = async ({ transaction }: Pick<Settled, "transaction">): Promise<string> => {
    const receipt = await transaction.wait();
    const logs = receipt!.logs.map((log) => escrow.interface.parseLog(log));
    return logs.find((log) => log?.name === "BatchSettled")!.args.outcomes;
  };
  const freeze = ({ header, entries }: Pick<Settled, "header" | "entries">, license = one, outcomes = "0x") =>
    escrow.freezeCharge(header, entries, outcomes, license);
  /** A charge of 4 USD, to the first license, that is frozen. */
  const frozen = async (changes: Partial<BatchHeader> = {}) => {
    const batch = await settleBoth(changes);
    await freeze(batch);
    return { ...batch, chargeId: chargeIdOf(batch.batchId, one) };
  };
  const accountOf = async (license = one) => structOf(await escrow.accountOf(license)) as Record<string, bigint>;
  const recordOf = async (batchId: string) => structOf(await escrow.batchOf(batchId));
  const inFlight = async () => (await market.licet.staking.poolOf(1)).inFlight;
  const reverts = (call: Promise<unknown>, error: string, args: unknown[]) =>
    expect(call)
      .to.be.revertedWithCustomError(escrow, error as "ChargeEmpty")
      .withArgs(...(args as [string]));
  const expectCovered = async () => expect(await heldBy(market)).to.deep.equal(await owedBy(market));

  describe("freezeCharge", () => {
    describe("when there is no such batch, or it was released", () => {
      it("reverts with BatchNotHeld", async () => {
        const unsettled = await batchOf(market, [worth(one, 4)]);
        await reverts(freeze(unsettled), "BatchNotHeld", [await escrow.batchIdOf(unsettled.header), BatchStatus.None]);

        const batch = await settleBoth();
        await time.increase(HOLD);
        await escrow.release(batch.batchId);
        await reverts(freeze(batch), "BatchNotHeld", [batch.batchId, BatchStatus.Released]);
      });
    });

    describe("when the batch's hold is over", () => {
      it("reverts with HoldOver from that second on", async () => {
        const batch = await settleBoth();
        const { releasableAt } = await escrow.batchOf(batch.batchId);
        await time.setNextBlockTimestamp(releasableAt - 1n);
        await freeze(batch);
        await time.setNextBlockTimestamp(releasableAt);
        await reverts(freeze(batch, two), "HoldOver", [batch.batchId, releasableAt]);
      });
    });

    describe("when the entries are others", () => {
      it("reverts with EntriesMismatch", async () => {
        const batch = await settleBoth();
        const entries = packEntries([worth(one, 4), worth(two, 7)]);
        const { header } = await batchOf(market, [worth(one, 4), worth(two, 7)]);
        await reverts(freeze({ ...batch, entries }), "EntriesMismatch", [header.entriesHash, batch.header.entriesHash]);
      });
    });

    describe("when the license has no entry", () => {
      it("reverts with EntryUnknown, below, between and above those that have one", async () => {
        const three = await buyLicense(market, usd(50));
        const five = 5n;
        await buyLicense(market, usd(50));
        await buyLicense(market, usd(50));
        const batch = await settle(market, [worth(two, 1), worth(three, 1), worth(five, 1)]);
        for (const license of [0n, 1n, 4n, 6n, 2n ** 64n - 1n]) {
          await reverts(freeze(batch, license), "EntryUnknown", [batch.batchId, license]);
        }
      });
    });

    describe("when nothing was charged", () => {
      it("reverts with ChargeEmpty", async () => {
        const free = await settle(market, [worth(one, 0)]);
        await reverts(freeze(free), "ChargeEmpty", [chargeIdOf(free.batchId, one)]);

        const refused = await settle(market, [worth(one, 1), worth(9n, 1)]);
        const outcomes = await outcomesOf(refused);
        await reverts(freeze(refused, 9n, outcomes), "ChargeEmpty", [chargeIdOf(refused.batchId, 9n)]);
      });
    });

    describe("when an entry wasn't charged its price, and the outcomes are others", () => {
      it("reverts with OutcomesMismatch", async () => {
        const batch = await settle(market, [worth(one, 4), worth(two, 60)]);
        const committed = keccak256(await outcomesOf(batch));
        await reverts(freeze(batch), "OutcomesMismatch", [id(""), committed]);
      });
    });

    describe("when it is frozen, or was refunded", () => {
      it("reverts with ChargeNotHeld", async () => {
        const batch = await frozen();
        await reverts(freeze(batch), "ChargeNotHeld", [batch.chargeId, BatchStatus.Frozen]);
        await escrow.refundCharge(batch.chargeId);
        await reverts(freeze(batch), "ChargeNotHeld", [batch.chargeId, BatchStatus.Refunded]);
      });
    });

    describe("when it was let go, to be released at once", () => {
      it("reverts with ChargeNotHeld, released or not", async () => {
        const batch = await frozen();
        await escrow.releaseCharge(batch.chargeId, await time.latest());
        await reverts(freeze(batch), "ChargeNotHeld", [batch.chargeId, BatchStatus.Held]);
        await escrow.release(batch.chargeId);
        await reverts(freeze(batch), "ChargeNotHeld", [batch.chargeId, BatchStatus.Released]);
      });
    });

    describe("when it was let go for later", () => {
      it("freezes it again, and splits off nothing more", async () => {
        const batch = await frozen();
        await escrow.releaseCharge(batch.chargeId, 2n ** 40n - 1n);
        await expect(freeze(batch))
          .to.emit(escrow, "ChargeFrozen")
          .withArgs(batch.chargeId, batch.batchId, one, usd(4));

        expect((await escrow.batchOf(batch.batchId)).charged).to.equal(usd(6));
        expect(await recordOf(batch.chargeId)).to.include({ charged: usd(4), status: BigInt(BatchStatus.Frozen) });
      });
    });

    describe("when all is well", () => {
      it("splits the charge off its batch, as a batch of the same terms", async () => {
        const batch = await settleBoth();
        const before = structOf(await escrow.batchOf(batch.batchId));
        await freeze(batch);

        const chargeId = chargeIdOf(batch.batchId, one);
        expect(structOf(await escrow.batchOf(batch.batchId))).to.deep.equal({ ...before, charged: usd(6) });
        expect(structOf(await escrow.batchOf(chargeId))).to.deep.equal({
          ...before,
          charged: usd(4),
          status: BigInt(BatchStatus.Frozen),
        });
        expect(structOf(await escrow.chargeRecordOf(chargeId))).to.deep.equal({
          batchId: batch.batchId,
          licenseId: one,
          versionId: market.versionId,
          epochStart: BigInt(batch.header.epochStart),
          epochEnd: BigInt(batch.header.epochEnd),
        });
        expect(structOf(await escrow.chargeRecordOf(NONE))).to.include({ batchId: ZeroHash, licenseId: 0n });
      });

      it("returns id and amount, and emits ChargeFrozen", async () => {
        const batch = await settleBoth();
        const chargeId = chargeIdOf(batch.batchId, two);
        const { header, entries } = batch;
        expect(await escrow.freezeCharge.staticCall(header, entries, "0x", two)).to.deep.equal([chargeId, usd(6)]);
        await expect(freeze(batch, two)).to.emit(escrow, "ChargeFrozen").withArgs(chargeId, batch.batchId, two, usd(6));
      });

      it("leaves all of it in flight and owed, and the account as it is", async () => {
        const batch = await settleBoth();
        const before = await accountOf();
        await freeze(batch);
        expect(await inFlight()).to.equal(usd(10));
        expect(await escrow.totalOwed()).to.equal(usd(100));
        expect(await accountOf()).to.deep.equal(before);
        await expectCovered();
      });

      it("keeps the charge from being released, and nothing else", async () => {
        const { batchId, chargeId } = await frozen();
        await time.increase(HOLD);
        expect(await escrow.batchStatusOf(chargeId)).to.equal(BatchStatus.Frozen);
        await reverts(escrow.release(chargeId), "BatchNotHeld", [chargeId, BatchStatus.Frozen]);
        await reverts(market.licet.escrow.connect(market.outsider).collectAttestorShare(chargeId), "BatchNotReleased", [
          chargeId,
          BatchStatus.Frozen,
        ]);

        await escrow.release(batchId);
        expect(await inFlight()).to.equal(usd(4));
        expect(await escrow.splitOf(batchId)).to.deep.equal([usd(4.02), usd(1.8), usd(0.12), usd(0.06), 0]);
      });

      it("takes all that there is of a batch of one entry, which is released all the same", async () => {
        const batch = await settle(market, [worth(one, 4)], { samples: 19 });
        await freeze(batch);
        expect((await escrow.batchOf(batch.batchId)).charged).to.equal(0);
        await time.increase(HOLD);
        await escrow.release(batch.batchId);
        await market.licet.committee.shareIncome(batch.batchId);
        expect(await escrow.splitOf(batch.batchId)).to.deep.equal([0, 0, 0, 0, 0]);
        await expectCovered();
      });

      it("takes what was charged after the discount", async () => {
        const batch = await settleBoth({ availabilityBps: 9_500, samples: 60 });
        await freeze(batch);
        const charge = await recordOf(chargeIdOf(batch.batchId, one));
        expect(charge).to.include({ charged: usd(3.6), discountBps: 1_000n });
        expect((await escrow.batchOf(batch.batchId)).charged).to.equal(usd(5.4));
      });

      it("takes what an entry was charged of its price, and others' whole", async () => {
        const batch = await settle(market, [worth(one, 4), worth(two, 60)]);
        const outcomes = await outcomesOf(batch);
        expect(unpackOutcomes(outcomes)[1]).to.include({ charged: usd(50), status: "BalanceExhausted" });
        await freeze(batch, two, outcomes);
        await freeze(batch, one, outcomes);
        expect((await escrow.batchOf(chargeIdOf(batch.batchId, two))).charged).to.equal(usd(50));
        expect((await escrow.batchOf(chargeIdOf(batch.batchId, one))).charged).to.equal(usd(4));
        expect((await escrow.batchOf(batch.batchId)).charged).to.equal(0);
      });

      it("is divided like its batch: no unit is created or lost by splitting, whatever the amounts", async () => {
        await fc.assert(
          fc.asyncProperty(
            fc.integer({ min: 1, max: 3_000 }),
            fc.integer({ min: 1, max: 3_000 }),
            fc.constantFrom(10_000, 9_500, 8_000),
            async (mine, others, availabilityBps) => {
              const entries = [mine, others].map((inputTokens, i) => ({
                ...zeroUsage(),
                licenseId: [one, two][i],
                inputTokens: BigInt(inputTokens),
              }));
              const batch = await settle(market, entries, { availabilityBps });
              const { charged, earnsBonus } = await escrow.batchOf(batch.batchId);
              await freeze(batch);
              const chargeId = chargeIdOf(batch.batchId, one);
              let whole = 0n;
              for (const part of [batch.batchId, chargeId]) {
                const record = await escrow.batchOf(part);
                expect(record.earnsBonus).to.equal(earnsBonus);
                const shares = [...(await escrow.splitOf(part))];
                expect(shares.reduce((sum, share) => sum + share, 0n)).to.equal(record.charged);
                whole += record.charged;
              }
              expect(whole).to.equal(charged);
            },
          ),
          { numRuns: 10 },
        );
      });
    });
  });

  describe("releaseCharge", () => {
    describe("when it isn't frozen", () => {
      it("reverts with ChargeNotFrozen", async () => {
        const { batchId, chargeId } = await frozen();
        await reverts(escrow.releaseCharge(NONE, 0), "ChargeNotFrozen", [NONE, BatchStatus.None]);
        await reverts(escrow.releaseCharge(batchId, 0), "ChargeNotFrozen", [batchId, BatchStatus.Held]);
        await escrow.releaseCharge(chargeId, 0);
        await reverts(escrow.releaseCharge(chargeId, 0), "ChargeNotFrozen", [chargeId, BatchStatus.Held]);
      });
    });

    describe("when all is well", () => {
      it("lets it be released when its batch can be, but not later, and emits ChargeReleased", async () => {
        const { chargeId } = await frozen();
        const { releasableAt } = await escrow.batchOf(chargeId);
        await expect(escrow.releaseCharge(chargeId, releasableAt + 1n))
          .to.emit(escrow, "ChargeReleased")
          .withArgs(chargeId, one, releasableAt);

        expect(await recordOf(chargeId)).to.include({ releasableAt, status: BigInt(BatchStatus.Held) });
        await time.setNextBlockTimestamp(releasableAt - 1n);
        await reverts(escrow.release(chargeId), "HoldRunning", [chargeId, releasableAt]);
        await time.setNextBlockTimestamp(releasableAt);
        await escrow.release(chargeId);
      });

      it("lets it be released at once, while its batch is held", async () => {
        const { batchId, chargeId } = await frozen();
        const now = await time.latest();
        await expect(escrow.releaseCharge(chargeId, now))
          .to.emit(escrow, "ChargeReleased")
          .withArgs(chargeId, one, now);
        expect(await escrow.batchStatusOf(chargeId)).to.equal(BatchStatus.Releasable);
        expect(await escrow.batchStatusOf(batchId)).to.equal(BatchStatus.Held);

        await expect(escrow.release(chargeId))
          .to.emit(escrow, "BatchReleased")
          .withArgs(chargeId, 1, 1, [usd(2.68), usd(1.2), usd(0.08), usd(0.04), 0], 0);
        expect(await inFlight()).to.equal(usd(6));
        await market.licet.committee.shareIncome(chargeId);
        expect(await escrow.batchStatusOf(chargeId)).to.equal(BatchStatus.Collected);
        await expectCovered();
      });
    });
  });

  describe("refundCharge", () => {
    describe("when it isn't frozen", () => {
      it("reverts with ChargeNotFrozen", async () => {
        const { batchId, chargeId } = await frozen();
        await reverts(escrow.refundCharge(NONE), "ChargeNotFrozen", [NONE, BatchStatus.None]);
        await reverts(escrow.refundCharge(batchId), "ChargeNotFrozen", [batchId, BatchStatus.Held]);
        await escrow.refundCharge(chargeId);
        await reverts(escrow.refundCharge(chargeId), "ChargeNotFrozen", [chargeId, BatchStatus.Refunded]);
        await reverts(escrow.releaseCharge(chargeId, 0), "ChargeNotFrozen", [chargeId, BatchStatus.Refunded]);
      });
    });

    describe("when all is well", () => {
      it("gives all back to the license, out of flight and off what was spent, and moves no money", async () => {
        const { chargeId } = await frozen();
        expect(await accountOf()).to.include({ balance: usd(46), spent: usd(4) });
        expect(await escrow.refundCharge.staticCall(chargeId)).to.equal(usd(4));
        await expect(escrow.refundCharge(chargeId)).to.changeTokenBalance(market.licet.currency, escrow, 0);

        expect(await accountOf()).to.include({ balance: usd(50), spent: 0n });
        expect(await inFlight()).to.equal(usd(6));
        expect(await escrow.totalOwed()).to.equal(usd(100));
        await expectCovered();
      });

      it("marks it as refunded, for ever, and says that nothing of it is divided", async () => {
        const { chargeId } = await frozen();
        await escrow.refundCharge(chargeId);
        await time.increase(HOLD);
        expect(await escrow.batchStatusOf(chargeId)).to.equal(BatchStatus.Refunded);
        expect(await escrow.splitOf(chargeId)).to.deep.equal([0, 0, 0, 0, 0]);
        await reverts(escrow.release(chargeId), "BatchNotHeld", [chargeId, BatchStatus.Refunded]);
      });

      it("emits ChargeRefunded", async () => {
        const { chargeId } = await frozen();
        await expect(escrow.refundCharge(chargeId))
          .to.emit(escrow, "ChargeRefunded")
          .withArgs(chargeId, one, 1, usd(4), 0, 0);
      });

      it("leaves the rest of the term's spending, and its room below the caps", async () => {
        const planId = await addPlan(market, { cap: usd(10) });
        const license = await buyLicense(market, usd(50), { planId });
        await settle(market, [worth(license, 3)], { planId });
        const batch = await settle(market, [worth(license, 7)], { planId });
        await freeze(batch, license);
        await escrow.refundCharge(chargeIdOf(batch.batchId, license));
        expect(await accountOf(license)).to.include({ balance: usd(47), spent: usd(3) });
        const next = await settle(market, [worth(license, 8)], { planId });
        expect(unpackOutcomes(await outcomesOf(next))[0]).to.include({ charged: usd(7), status: "CapReached" });
      });
    });

    describe("when the term that it was charged for is over", () => {
      /** A license of a plan with a minimum of 10 USD and a hold of 30 days, charged `dollars` in its first term's last hours. */
      const chargedLate = async (dollars: number, changes: Partial<PlanTerms> = {}) => {
        const planId = await addPlan(market, {
          minimumSpend: usd(10),
          holdPeriod: LONG_HOLD,
          transferable: true,
          ...changes,
        });
        const license = await buyLicense(market, usd(50), { planId });
        const { expiresAt } = await escrow.accountOf(license);
        await time.increaseTo(expiresAt - BigInt(2 * HOUR));
        const batch = await settle(market, [worth(license, dollars)], { planId, samples: 19 });
        await freeze(batch, license);
        await time.increaseTo(expiresAt);
        return { ...batch, planId, license, expiresAt, chargeId: chargeIdOf(batch.batchId, license) };
      };
      const asOwner = () => market.licet.escrow.connect(market.licensee);
      const recall = () => market.licet.assets.connect(market.publisher).recall(market.versionId);

      it("counts in that term while it is kept aside: its minimum is charged when it is closed", async () => {
        const { license, chargeId, expiresAt } = await chargedLate(8);
        await asOwner().renew(license);
        expect(await accountOf(license)).to.include({ spent: 0n, endedSpent: usd(8), balance: usd(42) });
        await escrow.refundCharge(chargeId);
        expect(await accountOf(license)).to.include({ spent: 0n, endedSpent: 0n, balance: usd(50) });
        await time.increaseTo(expiresAt + BigInt(WAIT));
        await expect(escrow.closeTerm(license))
          .to.emit(escrow, "TermClosed")
          .withArgs(license, 1, expiresAt, usd(10), usd(0.1));
        await expectCovered();
      });

      it("gives the asset what the closed term lacks then, as if it had been closed without the charge", async () => {
        for (const [dollars, lacks] of [
          [8, 8],
          [10, 10],
          [13, 10],
        ]) {
          const { license, chargeId, expiresAt } = await chargedLate(dollars);
          await time.increaseTo(expiresAt + BigInt(WAIT));
          await escrow.closeTerm(license);
          const { balance } = await accountOf(license);
          const income = await escrow.assetIncomeOf(1);
          await expect(escrow.refundCharge(chargeId))
            .to.emit(escrow, "ChargeRefunded")
            .withArgs(chargeId, license, 1, usd(dollars - lacks), usd(lacks * 0.99), usd(lacks * 0.01));
          expect(await accountOf(license)).to.include({ balance: balance + usd(dollars - lacks), spent: 0n });
          expect((await escrow.assetIncomeOf(1)) - income).to.equal(usd(lacks * 0.99));
          await expectCovered();
        }
      });

      it("gives all back to a license that used its minimum otherwise, though its term is closed", async () => {
        const planId = await addPlan(market, { minimumSpend: usd(10), holdPeriod: LONG_HOLD });
        const license = await buyLicense(market, usd(50), { planId });
        const { expiresAt } = await escrow.accountOf(license);
        await time.increaseTo(expiresAt - BigInt(4 * HOUR));
        const batches = [];
        for (const dollars of [11, 5, 4]) batches.push(await settle(market, [worth(license, dollars)], { planId }));
        for (const batch of batches) await freeze(batch, license);
        await time.increaseTo(expiresAt + BigInt(WAIT));
        await escrow.closeTerm(license);

        const refund = ({ batchId }: Settled) => escrow.refundCharge(chargeIdOf(batchId, license));
        await expect(refund(batches[1])).to.emit(escrow, "ChargeRefunded").withArgs(anyValue, license, 1, usd(5), 0, 0);
        // What is missing now is 6 USD, and nothing of the next can be given back.
        await expect(refund(batches[0]))
          .to.emit(escrow, "ChargeRefunded")
          .withArgs(anyValue, license, 1, usd(5), usd(5.94), usd(0.06));
        await expect(refund(batches[2]))
          .to.emit(escrow, "ChargeRefunded")
          .withArgs(anyValue, license, 1, 0, usd(3.96), usd(0.04));
        expect(await escrow.assetIncomeOf(1)).to.equal(usd(9.9));
      });

      it("gives all back where a recall has freed the term from its minimum", async () => {
        const planId = await addPlan(market, { minimumSpend: usd(10), holdPeriod: LONG_HOLD });
        const license = await buyLicense(market, usd(50), { planId });
        const { expiresAt } = await escrow.accountOf(license);
        await time.increaseTo(expiresAt - BigInt(NOTICE + 4 * HOUR));
        const batch = await settle(market, [worth(license, 8)], { planId, samples: 19 });
        await freeze(batch, license);
        await recall();
        await time.increaseTo(expiresAt + BigInt(WAIT));
        await escrow.closeTerm(license);
        await expect(escrow.refundCharge(chargeIdOf(batch.batchId, license)))
          .to.emit(escrow, "ChargeRefunded")
          .withArgs(chargeIdOf(batch.batchId, license), license, 1, usd(8), 0, 0);
      });

      it("gives the asset at most the minimum where the term was closed and forgotten, and the license the rest", async () => {
        for (const [dollars, toAsset] of [
          [8, 8],
          [13, 10],
        ]) {
          const { license, chargeId, expiresAt } = await chargedLate(dollars);
          await asOwner().renew(license);
          await time.increaseTo(expiresAt + BigInt(WAIT));
          await escrow.closeTerm(license);
          const before = await accountOf(license);
          await expect(escrow.refundCharge(chargeId))
            .to.emit(escrow, "ChargeRefunded")
            .withArgs(chargeId, license, 1, usd(dollars - toAsset), usd(toAsset * 0.99), usd(toAsset * 0.01));
          expect(await accountOf(license)).to.deep.equal({
            ...before,
            balance: before.balance + usd(dollars - toAsset),
          });
          await expectCovered();
        }
      });

      it("gives all back to a license without a minimum, and leaves the term that it renewed into", async () => {
        const planId = await addPlan(market, { holdPeriod: LONG_HOLD });
        const license = await buyLicense(market, usd(50), { planId });
        const { expiresAt } = await escrow.accountOf(license);
        await time.increaseTo(expiresAt - BigInt(2 * HOUR));
        const batch = await settle(market, [worth(license, 8)], { planId });
        await freeze(batch, license);
        await time.increaseTo(expiresAt + BigInt(HOUR));
        await settle(market, [worth(license, 2)], { planId });
        expect(await accountOf(license)).to.include({ term: 1n, spent: usd(2), balance: usd(40) });
        await escrow.refundCharge(chargeIdOf(batch.batchId, license));
        expect(await accountOf(license)).to.include({ term: 1n, spent: usd(2), balance: usd(48) });
      });

      it("counts under the plan of that time, where the license went over to another", async () => {
        const { license, chargeId, planId } = await chargedLate(8);
        const next = await addPlan(market, { rates: { ...zeroUsage(), inputTokens: usd(2) } });
        // Too late to announce it for the term that is over: the owner renews by hand, into the next plan.
        await asOwner().changePlan(license, next);
        await asOwner().renew(license);
        expect(await accountOf(license)).to.include({ formerPlanId: BigInt(planId), endedSpent: usd(8) });
        await escrow.refundCharge(chargeId);
        expect(await accountOf(license)).to.include({
          planId: BigInt(next),
          spent: 0n,
          endedSpent: 0n,
          balance: usd(50),
        });
      });

      it("counts in the first term under another plan, if its use ended in that", async () => {
        const { license } = await chargedLate(8);
        const next = await addPlan(market, { holdPeriod: LONG_HOLD });
        await asOwner().changePlan(license, next);
        await asOwner().renew(license);
        const startedAt = Number((await escrow.accountOf(license)).expiresAt) - TERM;
        const times = { epochStart: startedAt - 60, epochEnd: startedAt + 60 };
        const batch = await settle(market, [worth(license, 3)], { planId: next, ...times });
        expect(await accountOf(license)).to.include({ spent: usd(3), endedSpent: usd(8) });
        await freeze(batch, license);
        await escrow.refundCharge(chargeIdOf(batch.batchId, license));
        expect(await accountOf(license)).to.include({ spent: 0n, endedSpent: usd(8) });
      });
    });

    describe("when the license has begun in the epoch", () => {
      it("counts in its first term", async () => {
        const boughtAt = await time.latest();
        await time.increase(HOUR);
        const batch = await settle(market, [worth(one, 3)], { epochStart: boughtAt - HOUR, epochEnd: boughtAt + HOUR });
        expect(await accountOf()).to.include({ spent: usd(3) });
        await freeze(batch);
        await escrow.refundCharge(chargeIdOf(batch.batchId, one));
        expect(await accountOf()).to.include({ spent: 0n, balance: usd(50) });
      });
    });

    describe("whatever became of the license", () => {
      const asOwner = () => market.licet.escrow.connect(market.licensee);

      it("gives back to one that was locked and sold: whoever holds the token owns the balance", async () => {
        const planId = await addPlan(market, { transferable: true, holdPeriod: LONG_HOLD });
        const license = await buyLicense(market, usd(50), { planId });
        const batch = await settle(market, [worth(license, 8)], { planId });
        const other = await settle(market, [worth(license, 2)], { planId });
        for (const each of [batch, other]) await freeze(each, license);
        await asOwner().lock(license);
        await escrow.refundCharge(chargeIdOf(batch.batchId, license));
        expect(await accountOf(license)).to.include({ balance: usd(48), spent: usd(2) });
        await time.increase(STOP_GRACE + WAIT + 1);
        await market.licet.licenses.connect(market.licensee).transferFrom(market.licensee, market.outsider, license);
        await escrow.refundCharge(chargeIdOf(other.batchId, license));
        expect(await accountOf(license)).to.include({ balance: usd(50), spent: 0n });
        expect(await escrow.statusOf(license)).to.equal(LicenseStatus.Locked);
      });

      it("gives back to one that has ended, is closed and was emptied: its owner takes that out as well", async () => {
        const planId = await addPlan(market, { holdPeriod: LONG_HOLD });
        const license = await buyLicense(market, usd(50), { planId });
        const batch = await settle(market, [worth(license, 8)], { planId });
        await freeze(batch, license);
        await asOwner().thaw(license, usd(42));
        await asOwner().end(license);
        await time.increase(STOP_GRACE + WAIT + 1);
        await asOwner().withdraw(license, market.licensee);
        expect(await escrow.statusOf(license)).to.equal(LicenseStatus.Closed);
        await escrow.refundCharge(chargeIdOf(batch.batchId, license));
        expect(await escrow.statusOf(license)).to.equal(LicenseStatus.Closed);
        await asOwner().thaw(license, usd(8));
        await time.increase(WAIT + 1);
        await expect(asOwner().withdraw(license, market.licensee)).to.changeTokenBalance(
          market.licet.currency,
          market.licensee,
          usd(8),
        );
      });

      it("doesn't set the counter back on the voucher road: what it has signed could be claimed again", async () => {
        const planId = await addPlan(market, { holdPeriod: LONG_HOLD });
        const license = await buyLicense(market, usd(50), { planId });
        const batch = await settle(market, [worth(license, 8)], { planId });
        await freeze(batch, license);
        await asOwner().changeService(license, 1, true);
        await time.increase(WAIT + 1);
        await escrow.applyServiceChange(license);
        await escrow.refundCharge(chargeIdOf(batch.batchId, license));
        expect(await accountOf(license)).to.include({ balance: usd(50), spent: usd(8) });
      });

      it("gives the asset at most the minimum on the voucher road, whose counter still has the charge", async () => {
        const planId = await addPlan(market, { minimumSpend: usd(10), holdPeriod: LONG_HOLD });
        const license = await buyLicense(market, usd(50), { planId });
        const batch = await settle(market, [worth(license, 12)], { planId });
        await freeze(batch, license);
        await asOwner().changeService(license, 1, true);
        await time.increase(WAIT + 1);
        await escrow.applyServiceChange(license);
        await escrow.refundCharge(chargeIdOf(batch.batchId, license));
        expect(await accountOf(license)).to.include({ balance: usd(40), spent: usd(12) });
        expect(await escrow.assetIncomeOf(1)).to.equal(usd(9.9));
      });
    });

    it("leaves nothing behind, after freezes, releases and refunds, when all have taken what is theirs", async () => {
      const batches = [
        await settleBoth(),
        await settleBoth({ availabilityBps: 9_500, samples: 60 }),
        await settleBoth(),
      ];
      for (const batch of batches) await freeze(batch);
      await freeze(batches[2], two);
      await escrow.refundCharge(chargeIdOf(batches[0].batchId, one));
      await escrow.releaseCharge(chargeIdOf(batches[1].batchId, one), 0);
      await escrow.refundCharge(chargeIdOf(batches[2].batchId, one));
      await escrow.releaseCharge(chargeIdOf(batches[2].batchId, two), 2n ** 40n - 1n);
      await expectCovered();
      await everybodyLeaves(market);
      expect(await heldBy(market)).to.deep.equal({ escrow: 0n, staking: 0n, waterfall: 0n, committee: 0n });
    });
  });

  describe("chargeOf", () => {
    it("reverts with BatchNotSettled for a batch that hasn't", async () => {
      const { header, entries } = await batchOf(market, [worth(one, 4)]);
      await reverts(escrow.chargeOf(header, entries, "0x", one), "BatchNotSettled", [await escrow.batchIdOf(header)]);
    });

    it("reverts as freezeCharge does for other entries, licenses and outcomes", async () => {
      const batch = await settle(market, [worth(one, 4), worth(two, 60)]);
      const { header, entries, batchId } = batch;
      const other = packEntries([worth(one, 4)]);
      const committed = keccak256(await outcomesOf(batch));
      const { header: short } = await batchOf(market, [worth(one, 4)]);
      await reverts(escrow.chargeOf(header, other, "0x", one), "EntriesMismatch", [
        short.entriesHash,
        header.entriesHash,
      ]);
      await reverts(escrow.chargeOf(header, entries, "0x", 9n), "EntryUnknown", [batchId, 9n]);
      await reverts(escrow.chargeOf(header, entries, "0x", one), "OutcomesMismatch", [id(""), committed]);
    });

    it("says what a batch has charged, whatever its status and that of the charge", async () => {
      const { header, entries, batchId } = await settleBoth();
      const chargeId = chargeIdOf(batchId, two);
      const packed = BigInt(`0x${packEntries([worth(two, 6)]).slice(2)}`);
      const says = async () =>
        expect(await escrow.chargeOf(header, entries, "0x", two)).to.deep.equal([chargeId, usd(6), packed]);
      await says();
      await escrow.freezeCharge(header, entries, "0x", two);
      await says();
      await time.increase(HOLD);
      await escrow.release(batchId);
      await says();
      await market.licet.committee.shareIncome(batchId);
      await escrow.refundCharge(chargeId);
      await says();
    });

    it("agrees with what BatchSettled says of each entry, whatever was used, charged and spared", async () => {
      const capped = await buyLicense(market, usd(50), { capCode: 1 });
      const poor = await buyLicense(market, usd(0.5));
      const anyEntry = (licenseId: bigint): fc.Arbitrary<Entry> =>
        fc
          .array(fc.integer({ min: 0, max: 2_000_000 }), { minLength: 5, maxLength: 5 })
          .map((counts) => ({ licenseId, ...usageBy((meter) => BigInt(counts[METERS.indexOf(meter)])), requests: 2n }));
      await fc.assert(
        fc.asyncProperty(
          fc.subarray([one, two, capped, poor, 9n], { minLength: 1 }).chain((ids) => fc.tuple(...ids.map(anyEntry))),
          fc.constantFrom(10_000, 9_500, 8_000),
          async (entries, availabilityBps) => {
            const batch = await settle(market, entries, { availabilityBps });
            const outcomes = unpackOutcomes(await outcomesOf(batch));
            const isPlain = outcomes.every(({ status }) => status === "Charged");
            const shown = isPlain ? "0x" : await outcomesOf(batch);
            for (const { licenseId, charged } of outcomes) {
              const { amount } = await escrow.chargeOf(batch.header, batch.entries, shown, licenseId);
              expect(amount).to.equal(charged);
            }
          },
        ),
        { numRuns: 12 },
      );
    });
  });
});
