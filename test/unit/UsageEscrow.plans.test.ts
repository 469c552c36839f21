import { loadFixture, time } from "@nomicfoundation/hardhat-network-helpers";
import { expect } from "chai";
import { Wallet } from "ethers";
import { ecdsaKeyBytes, packVouchers, signVoucher, unpackVoucherOutcomes } from "../../oracle/protocol/vouchers";
import {
  addOperator,
  addPlan,
  batchOf,
  buyLicense,
  chargesIn,
  DAY,
  deployMarket,
  domainOf,
  HOUR,
  LicenseStatus,
  planTerms,
  proofBy,
  registration,
  signOffer,
  STOP_GRACE,
  structOf,
  usd,
  WAIT,
  worth,
  type Market,
  type PlanTerms,
} from "../support/market";
import { everybodyLeaves, heldBy, owedBy } from "../support/books";

const TERM = 30 * DAY;
const LONGER = 60 * DAY;

describe("UsageEscrow (plans that change)", () => {
  let market: Market;
  /** As the licensee. */
  let escrow: Market["licet"]["escrow"];
  let licenses: Market["licet"]["licenses"];
  /** A license with 300 USD under plan 1, which has no minimum. */
  let licenseId: bigint;
  let boughtAt: number;
  /** The end of its first term. */
  let termEnd: number;
  /** A plan at twice the price, with longer terms. */
  let dearer: number;

  beforeEach(async () => {
    market = await loadFixture(deployMarket);
    ({ licenses } = market.licet);
    escrow = market.licet.escrow.connect(market.licensee);
    licenseId = await buyLicense(market, usd(300));
    boughtAt = await time.latest();
    termEnd = boughtAt + TERM;
    dearer = await addPlan(market, { rates: rates(2), termPeriod: LONGER });
  });

  const rates = (price: number) => ({ ...planTerms(1, "").rates, inputTokens: usd(price) });
  const withMinimum = (dollars: number, changes: Partial<PlanTerms> = {}) =>
    addPlan(market, { minimumSpend: usd(dollars), transferable: true, ...changes });
  const accountOf = async (id = licenseId) => structOf(await escrow.accountOf(id)) as Record<string, bigint | boolean>;
  const announce = (planId = dearer, id = licenseId) => escrow.changePlan(id, planId);
  const recall = () => market.licet.assets.connect(market.publisher).recall(market.versionId);
  /** Use of `dollars` (at 1 USD a million tokens) under a plan between two times, settled now. */
  const settleUnder = async (planId: number, epochStart: number, epochEnd: number, dollars: number, id = licenseId) => {
    const { header, entries } = await batchOf(market, [worth(id, dollars)], { planId, epochStart, epochEnd });
    const [, , outcomes] = await escrow.previewSettle(header, entries);
    await escrow.settle(header, entries, proofBy(await escrow.batchIdOf(header)));
    return chargesIn(outcomes)[0];
  };
  const charged = (dollars: number) => ({ charged: usd(dollars), status: "Charged" });
  const refused = (status: string) => ({ charged: 0n, status });
  const reverts = (call: Promise<unknown>, error: string, args: unknown[], contract: unknown = escrow) =>
    expect(call)
      .to.be.revertedWithCustomError(contract as typeof escrow, error as "PlanNotServed")
      .withArgs(...(args as [number, number]));
  /** A license under a plan with a minimum of 10 USD, and another plan without one. */
  const withMinimumOf10 = async () => {
    const planId = await withMinimum(10);
    const id = await buyLicense(market, usd(50), { planId });
    return { planId, id, end: Number((await escrow.accountOf(id)).expiresAt) };
  };

  describe("changePlan", () => {
    describe("when the caller isn't the license's owner", () => {
      it("reverts with CallerNotOwner", async () => {
        await reverts(escrow.connect(market.outsider).changePlan(licenseId, dearer), "CallerNotOwner", [
          licenseId,
          market.outsider.address,
        ]);
        await reverts(escrow.changePlan(99, dearer), "CallerNotOwner", [99, market.licensee.address]);
      });
    });

    describe("when the license is locked, or over", () => {
      it("reverts with LicenseStatusUnfit", async () => {
        const { id } = await withMinimumOf10();
        await escrow.lock(id);
        await reverts(announce(dearer, id), "LicenseStatusUnfit", [id, LicenseStatus.Locked]);
        await escrow.end(licenseId);
        await reverts(announce(), "LicenseStatusUnfit", [licenseId, LicenseStatus.Ended]);
        await time.increase(STOP_GRACE + WAIT + 1);
        await reverts(announce(), "LicenseStatusUnfit", [licenseId, LicenseStatus.Closed]);
      });
    });

    describe("when there is no such plan", () => {
      it("reverts with PlanUnknown", async () => {
        await reverts(announce(99), "PlanUnknown", [99], licenses);
      });
    });

    describe("when the plan is another asset's", () => {
      it("reverts with PlanOfAnotherAsset", async () => {
        await market.licet.assets.connect(market.publisher).register(registration(), []);
        const planId = await addPlan(market, { assetId: 2 });
        await reverts(announce(planId), "PlanOfAnotherAsset", [planId, 2]);
      });
    });

    describe("when the plan has an upfront price", () => {
      it("reverts with PlanHasUpfrontPrice: nobody would have paid it", async () => {
        const planId = await addPlan(market, { upfrontPrice: 5n });
        await reverts(announce(planId), "PlanHasUpfrontPrice", [planId, 5]);
      });
    });

    describe("when either plan's terms are shorter than use of them takes to settle", () => {
      it("reverts with TermTooShort", async () => {
        const short = await addPlan(market, { termPeriod: WAIT - 1 });
        await reverts(announce(short), "TermTooShort", [WAIT - 1, WAIT]);
        const id = await buyLicense(market, usd(1), { planId: short });
        await reverts(announce(dearer, id), "TermTooShort", [WAIT - 1, WAIT]);
        await announce(await addPlan(market, { termPeriod: WAIT }));
      });
    });

    describe("when its operator doesn't serve the plan", () => {
      it("reverts with PlanNotServed", async () => {
        await market.licet.operators.connect(market.operator).setServed(1, dearer, false);
        await reverts(announce(), "PlanNotServed", [1, dearer]);
      });
    });

    describe("when the plan isn't on sale to its owner", () => {
      it("reverts with PlanIsClosed, PlanSoldOut or PlanForAnother", async () => {
        const soldOut = await addPlan(market, { supply: 1 });
        await buyLicense(market, 0n, { planId: soldOut });
        await reverts(announce(soldOut), "PlanSoldOut", [soldOut, 1], licenses);
        await licenses.connect(market.publisher).closePlan(dearer);
        await reverts(announce(), "PlanIsClosed", [dearer], licenses);
        const another = await offered(market, market.outsider.address);
        const { licensee, outsider } = market;
        await reverts(announce(another), "PlanForAnother", [another, outsider.address, licensee.address], licenses);
        await announce(await offered(market, licensee.address));
      });
    });

    describe("when it names the present plan, and no other was announced", () => {
      it("reverts with PlanChangeNone", async () => {
        await reverts(announce(1), "PlanChangeNone", [licenseId]);
      });
    });

    describe("when all is well", () => {
      it("has the license go over at the end of its term, and nothing else changes until then", async () => {
        const before = await accountOf();
        await announce();
        expect(await accountOf()).to.deep.equal({ ...before, nextPlanId: BigInt(dearer), stoppedAt: BigInt(termEnd) });
        expect(await escrow.statusOf(licenseId)).to.equal(LicenseStatus.Running);
        expect(await licenses.salesOf(dearer)).to.deep.equal([0, false]);
      });

      it("emits PlanChangeStarted", async () => {
        await expect(announce()).to.emit(escrow, "PlanChangeStarted").withArgs(licenseId, dearer, termEnd);
      });

      it("goes by the term that runs by time, which an account that isn't used doesn't know of", async () => {
        await time.increaseTo(termEnd + 2 * TERM + 1);
        await expect(announce())
          .to.emit(escrow, "PlanChangeStarted")
          .withArgs(licenseId, dearer, termEnd + 3 * TERM);
      });

      it("gives an hour's notice of the end of a term that nobody else announces", async () => {
        await time.setNextBlockTimestamp(termEnd - HOUR);
        await expect(announce())
          .to.emit(escrow, "PlanChangeStarted")
          .withArgs(licenseId, dearer, termEnd + TERM);
        const other = await buyLicense(market, 0n);
        const otherEnd = Number((await escrow.accountOf(other)).expiresAt);
        await time.setNextBlockTimestamp(otherEnd - HOUR - 1);
        await expect(announce(dearer, other)).to.emit(escrow, "PlanChangeStarted").withArgs(other, dearer, otherEnd);
      });

      it("gives none where the term's end is known to all: with a minimum, or one term alone", async () => {
        for (const terms of [{ minimumSpend: usd(10) }, { renewable: false }]) {
          const id = await buyLicense(market, usd(50), { planId: await addPlan(market, terms) });
          const end = Number((await escrow.accountOf(id)).expiresAt);
          await time.setNextBlockTimestamp(end - 1);
          await expect(announce(dearer, id)).to.emit(escrow, "PlanChangeStarted").withArgs(id, dearer, end);
        }
      });

      it("replaces what was announced before", async () => {
        const other = await addPlan(market);
        await announce();
        await announce(other);
        expect((await accountOf()).nextPlanId).to.equal(other);
        await time.increaseTo(termEnd);
        await announce(dearer);
        expect(await accountOf()).to.include({ nextPlanId: BigInt(dearer), stoppedAt: BigInt(termEnd) });
        expect(await escrow.statusOf(licenseId)).to.equal(LicenseStatus.Lapsed);
      });

      it("announces one for a license that has lapsed, too, which may be renewed at once", async () => {
        const { id, end } = await withMinimumOf10();
        await time.increaseTo(end + HOUR);
        await expect(announce(dearer, id)).to.emit(escrow, "PlanChangeStarted").withArgs(id, dearer, end);
        await escrow.connect(market.outsider).renew(id);
        expect(await accountOf(id)).to.include({ planId: BigInt(dearer), expiresAt: BigInt(end + LONGER) });
      });
    });

    describe("when it is taken back", () => {
      it("leaves the license as it would have been, and emits PlanChangeCancelled", async () => {
        const before = await accountOf();
        await announce();
        await expect(announce(1)).to.emit(escrow, "PlanChangeCancelled").withArgs(licenseId);
        expect(await accountOf()).to.deep.equal(before);
      });

      it("lets it go on under its plan also when the change is due, and the other plan can't be had any more", async () => {
        await announce();
        await time.increaseTo(termEnd + HOUR);
        await licenses.connect(market.publisher).closePlan(dearer);
        await reverts(escrow.renew(licenseId), "PlanIsClosed", [dearer], licenses);
        await announce(1);
        expect(await escrow.statusOf(licenseId)).to.equal(LicenseStatus.Running);
        await time.increase(HOUR);
        const now = await time.latest();
        expect(await settleUnder(1, now - HOUR, now, 5)).to.deep.equal(charged(5));
      });

      it("lets what had one term alone end", async () => {
        const id = await buyLicense(market, usd(5), { planId: await addPlan(market, { renewable: false }) });
        await announce(dearer, id);
        await time.increaseTo((await escrow.accountOf(id)).expiresAt);
        expect(await escrow.statusOf(id)).to.equal(LicenseStatus.Lapsed);
        await announce(Number((await escrow.accountOf(id)).planId), id);
        expect(await escrow.statusOf(id)).to.equal(LicenseStatus.Ended);
      });
    });
  });

  describe("settle", () => {
    it("charges use of epochs that start before the change, and none that start later until it is in force", async () => {
      await announce();
      await time.increaseTo(termEnd + 3 * HOUR);
      expect(await settleUnder(1, termEnd - HOUR, termEnd, 5)).to.deep.equal(charged(5));
      expect(await settleUnder(1, termEnd, termEnd + HOUR, 5)).to.deep.equal(refused("Stopped"));
      expect(await settleUnder(dearer, termEnd, termEnd + HOUR, 5)).to.deep.equal(refused("WrongPlan"));
    });

    it("charges an epoch that the change is in to the old plan, under it", async () => {
      await announce();
      await time.increaseTo(termEnd + HOUR);
      expect(await settleUnder(1, termEnd - HOUR, termEnd + 1, 5)).to.deep.equal(charged(5));
    });

    describe("when the other plan is in force", () => {
      beforeEach(async () => {
        await announce();
        await time.increaseTo(termEnd + 2 * HOUR);
        await escrow.connect(market.outsider).renew(licenseId);
      });

      it("charges late use under the old plan at its rates, to its term, within its cap and no longer than its window", async () => {
        expect(await settleUnder(1, termEnd - HOUR, termEnd, 5)).to.deep.equal(charged(5));
        expect(await accountOf()).to.include({ spent: 0n, endedSpent: usd(5), balance: usd(295) });
        expect(await settleUnder(1, termEnd, termEnd + HOUR, 5)).to.deep.equal(refused("WrongPlan"));
      });

      it("charges use under the new plan at its rates, to its term", async () => {
        expect(await settleUnder(dearer, termEnd, termEnd + HOUR, 5)).to.deep.equal(charged(10));
        expect(await accountOf()).to.include({ spent: usd(10), endedSpent: 0n, balance: usd(290) });
      });

      it("charges an epoch that the change was in to both, each under its plan", async () => {
        expect(await settleUnder(dearer, termEnd - HOUR, termEnd + HOUR, 5)).to.deep.equal(charged(10));
        expect(await settleUnder(1, termEnd - HOUR, termEnd + HOUR, 3)).to.deep.equal(charged(3));
        expect(await accountOf()).to.include({ spent: usd(10), endedSpent: usd(3), balance: usd(287) });
      });

      it("charges nothing under the new plan that was used before the change", async () => {
        expect(await settleUnder(dearer, termEnd - HOUR, termEnd, 5)).to.deep.equal(refused("TermNotRunning"));
      });

      it("charges nothing under either plan that a third names", async () => {
        const third = await addPlan(market);
        expect(await settleUnder(third, termEnd - HOUR, termEnd, 5)).to.deep.equal(refused("WrongPlan"));
        expect(await settleUnder(third, termEnd, termEnd + HOUR, 5)).to.deep.equal(refused("WrongPlan"));
      });
    });

    it("holds each plan's cap against its own use: a change doesn't lift that of the term that ends", async () => {
      const capped = await addPlan(market, { cap: usd(8) });
      const id = await buyLicense(market, usd(50), { planId: capped });
      const end = Number((await escrow.accountOf(id)).expiresAt);
      await announce(dearer, id);
      await time.increaseTo(end);
      expect(await settleUnder(capped, end - 2 * HOUR, end - HOUR, 5, id)).to.deep.equal(charged(5));
      await escrow.renew(id);
      expect(await settleUnder(capped, end - HOUR, end, 5, id)).to.deep.equal({
        charged: usd(3),
        status: "CapReached",
      });
      await time.increaseTo(end + HOUR);
      expect(await settleUnder(dearer, end, end + HOUR, 5, id)).to.deep.equal(charged(10));
    });

    it("holds the licensee's own cap against use under either plan", async () => {
      await escrow.setCap(licenseId, 1);
      await time.increase(WAIT + 1);
      await escrow.applyCapCut(licenseId);
      await announce();
      await time.increaseTo(termEnd + HOUR);
      await escrow.renew(licenseId);
      const stopped = { charged: usd(9), status: "CapReached" };
      expect(await settleUnder(1, termEnd - HOUR, termEnd, 20)).to.deep.equal(stopped);
      expect(await settleUnder(dearer, termEnd, termEnd + HOUR, 20)).to.deep.equal(stopped);
    });
  });

  describe("settleVouchers", () => {
    const key = Wallet.createRandom();
    /** The term that ends with the change. */
    const LAST = 0;

    beforeEach(async () => {
      await escrow.changeService(licenseId, 1, true);
      await escrow.addVoucherKey(licenseId, ecdsaKeyBytes(key.address), usd(100));
      await time.increase(WAIT + 1);
      await escrow.applyServiceChange(licenseId);
    });

    /** Posts a voucher for `dollars` of a term, under a plan. */
    const claim = async (planId: number, term: number, dollars: number, by = market.outsider) => {
      const voucher = { licenseId, operatorId: 1, generation: 0, term, spent: usd(dollars) };
      const packed = packVouchers([await signVoucher(await domainOf(market), voucher, key)]);
      const { settleVouchers } = escrow.connect(by);
      const [, outcomes] = await settleVouchers.staticCall(1, planId, packed);
      await settleVouchers(1, planId, packed);
      const [{ charged, status }] = unpackVoucherOutcomes(outcomes);
      return { charged, status };
    };
    const change = async (planId = dearer) => {
      await announce(planId);
      await time.increaseTo(termEnd);
      await escrow.renew(licenseId);
    };

    it("charges the last term until the change, and no other begins under the old plan", async () => {
      await announce();
      await time.increaseTo(termEnd + HOUR);
      expect(await claim(1, LAST, 5)).to.deep.equal(charged(5));
      expect(await claim(1, LAST + 1, 5)).to.deep.equal(refused("Stopped"));
      expect(await claim(dearer, LAST + 1, 5)).to.deep.equal(refused("WrongPlan"));
    });

    it("charges each term under its own plan afterwards, and under no other", async () => {
      await change();
      expect(await claim(dearer, LAST, 5)).to.deep.equal(refused("WrongPlan"));
      expect(await claim(1, LAST + 1, 5)).to.deep.equal(refused("WrongPlan"));
      expect(await claim(1, LAST, 5)).to.deep.equal(charged(5));
      expect(await claim(dearer, LAST + 1, 7)).to.deep.equal(charged(7));
      expect(await accountOf()).to.include({ endedSpent: usd(5), spent: usd(7), balance: usd(288) });
      expect(await claim(1, LAST, 5)).to.deep.equal(refused("NothingDue"));
    });

    it("charges a term under the old plan for a wait, and no longer", async () => {
      await change();
      await time.setNextBlockTimestamp(termEnd + WAIT - 1);
      const voucher = { licenseId, operatorId: 1, generation: 0, term: LAST, spent: usd(5) };
      const packed = packVouchers([await signVoucher(await domainOf(market), voucher, key)]);
      await escrow.settleVouchers(1, 1, packed);
      expect((await accountOf()).endedSpent).to.equal(usd(5));
      await time.increaseTo(termEnd + WAIT);
      expect(await claim(1, LAST, 6)).to.deep.equal(refused("TermClosed"));
    });

    it("takes no voucher of a term under the new plan for one of the old plan's, however many have begun", async () => {
      const quick = await addPlan(market, { termPeriod: WAIT });
      await change(quick);
      expect(await claim(quick, LAST + 1, 5)).to.deep.equal(charged(5));
      await time.increaseTo(termEnd + 2 * WAIT + 1);
      expect(await claim(quick, LAST + 3, 6, market.operator)).to.deep.equal(charged(6));
      for (const term of [LAST, LAST + 1, LAST + 2]) {
        expect((await claim(1, term, 50)).charged, `term ${term}`).to.equal(0);
      }
    });

    it("holds a key's cap against either term", async () => {
      await change();
      const capped = { charged: usd(100), status: "CapReached" };
      expect(await claim(1, LAST, 101)).to.deep.equal(capped);
      expect(await claim(dearer, LAST + 1, 101)).to.deep.equal(capped);
    });
  });

  describe("renew", () => {
    describe("before the change is due", () => {
      it("reverts with LicenseStatusUnfit", async () => {
        await announce();
        await time.setNextBlockTimestamp(termEnd - 1);
        await reverts(escrow.renew(licenseId), "LicenseStatusUnfit", [licenseId, LicenseStatus.Running]);
      });
    });

    describe("when the other plan can't be had any more", () => {
      it("reverts with PlanIsClosed, PlanSoldOut or PlanNotServed", async () => {
        const rare = await addPlan(market, { supply: 1 });
        const second = await buyLicense(market, 0n);
        for (const id of [licenseId, second]) await announce(rare, id);
        await time.increaseTo((await escrow.accountOf(second)).expiresAt);
        await escrow.renew(second);
        await reverts(escrow.renew(licenseId), "PlanSoldOut", [rare, 1], licenses);
        await announce();
        await market.licet.operators.connect(market.operator).setServed(1, dearer, false);
        await reverts(escrow.renew(licenseId), "PlanNotServed", [1, dearer]);
        await licenses.connect(market.publisher).closePlan(dearer);
        await market.licet.operators.connect(market.operator).setServed(1, dearer, true);
        await reverts(escrow.renew(licenseId), "PlanIsClosed", [dearer], licenses);
      });
    });

    describe("when what isn't on its way out doesn't cover the other plan's minimum, nor what the term before owes", () => {
      it("reverts with MinimumNotCovered", async () => {
        const next = await withMinimum(45);
        const { id, end } = await withMinimumOf10();
        await announce(next, id);
        await time.increaseTo(end);
        await reverts(escrow.renew(id), "MinimumNotCovered", [usd(40), usd(45)]);
        await escrow.deposit(id, usd(5));
        await escrow.thaw(id, 1);
        await reverts(escrow.renew(id), "MinimumNotCovered", [usd(45) - 1n, usd(45)]);
        await escrow.thaw(id, 0);
        await escrow.renew(id);
        expect(await escrow.committedOf(id)).to.equal(usd(55));
      });
    });

    describe("when it is late", () => {
      it("reverts with RenewalForOwner for others, and starts the owner's term now", async () => {
        await announce();
        await time.setNextBlockTimestamp(termEnd + DAY + 1);
        await reverts(escrow.connect(market.outsider).renew(licenseId), "RenewalForOwner", [licenseId]);
        const now = termEnd + DAY + HOUR;
        await time.setNextBlockTimestamp(now);
        await escrow.renew(licenseId);
        expect(await accountOf()).to.include({ expiresAt: BigInt(now + LONGER), endedAt: BigInt(termEnd) });
        await time.increaseTo(now + 2 * HOUR);
        expect(await settleUnder(dearer, now + HOUR, now + 2 * HOUR, 5)).to.deep.equal(charged(10));
        expect(await settleUnder(1, termEnd - HOUR, termEnd, 5)).to.deep.equal(charged(5));
      });
    });

    describe("when a recall takes effect in either term", () => {
      it("reverts with RenewalForOwner for others, and forgives the minimum of the term that ended", async () => {
        const { id, end } = await withMinimumOf10();
        await announce(dearer, id);
        await time.increaseTo(end - 10 * DAY);
        await recall();
        await time.increaseTo(end);
        await reverts(escrow.connect(market.outsider).renew(id), "RenewalForOwner", [id]);
        await escrow.renew(id);
        expect(await escrow.committedOf(id)).to.equal(0);
      });
    });

    describe("when all is well", () => {
      it("starts the first term under the other plan where the last one ended, whoever calls it", async () => {
        await settleUnder(1, boughtAt - HOUR, boughtAt + 1, 7);
        await announce();
        await time.increaseTo(termEnd + HOUR);
        const before = await accountOf();
        await escrow.connect(market.outsider).renew(licenseId);

        expect(await accountOf()).to.deep.equal({
          ...before,
          planId: BigInt(dearer),
          term: 1n,
          spent: 0n,
          expiresAt: BigInt(termEnd + LONGER),
          nextPlanId: 0n,
          stoppedAt: 0n,
          endedAt: BigInt(termEnd),
          endedSpent: usd(7),
          formerPlanId: 1n,
        });
        expect(await escrow.statusOf(licenseId)).to.equal(LicenseStatus.Running);
      });

      it("counts as a sale", async () => {
        await announce();
        await time.increaseTo(termEnd);
        await escrow.renew(licenseId);
        expect(await licenses.salesOf(dearer)).to.deep.equal([1, false]);
        expect(await licenses.salesOf(1)).to.deep.equal([1, false]);
      });

      it("emits LicensePlanChanged, PlanChanged and TermRenewed", async () => {
        await announce();
        await time.increaseTo(termEnd);
        await expect(escrow.renew(licenseId))
          .to.emit(licenses, "LicensePlanChanged")
          .withArgs(licenseId, dearer)
          .and.to.emit(escrow, "PlanChanged")
          .withArgs(licenseId, dearer, 1)
          .and.to.emit(escrow, "TermRenewed")
          .withArgs(licenseId, 1, termEnd + LONGER);
      });

      it("does so once", async () => {
        await announce();
        await time.increaseTo(termEnd);
        await escrow.renew(licenseId);
        await reverts(escrow.renew(licenseId), "LicenseStatusUnfit", [licenseId, LicenseStatus.Running]);
      });

      it("counts the terms that an unused account doesn't know of, and nothing as spent in the last", async () => {
        await settleUnder(1, boughtAt - HOUR, boughtAt + 1, 7);
        await time.increaseTo(termEnd + TERM + 1);
        await announce();
        await time.increaseTo(termEnd + 2 * TERM);
        await escrow.renew(licenseId);
        expect(await accountOf()).to.include({
          term: 3n,
          endedAt: BigInt(termEnd + 2 * TERM),
          endedSpent: 0n,
          expiresAt: BigInt(termEnd + 2 * TERM + LONGER),
        });
      });

      it("goes over again, once the term before is closed, which it does by itself", async () => {
        const quick = await addPlan(market, { termPeriod: WAIT });
        await announce(quick);
        await time.increaseTo(termEnd);
        await escrow.renew(licenseId);
        await announce(1);
        await time.increaseTo(termEnd + WAIT);
        await time.setNextBlockTimestamp(termEnd + WAIT + 1);
        await expect(escrow.renew(licenseId)).to.emit(escrow, "TermClosed").withArgs(licenseId, 1, termEnd, 0, 0);
        expect(await accountOf()).to.include({
          planId: 1n,
          formerPlanId: BigInt(quick),
          endedAt: BigInt(termEnd + WAIT),
          term: 2n,
        });
      });
    });
  });

  describe("closeTerm, of a term under the plan before", () => {
    it("charges what is missing to that plan's minimum: a change to a plan without one doesn't dodge it", async () => {
      const { planId, id, end } = await withMinimumOf10();
      await announce(dearer, id);
      await time.increaseTo(end);
      await escrow.renew(id);
      expect(await settleUnder(planId, end - HOUR, end, 4, id)).to.deep.equal(charged(4));
      expect(await escrow.committedOf(id)).to.equal(usd(6));
      await time.setNextBlockTimestamp(end + WAIT);
      await reverts(escrow.closeTerm(id), "TermOpen", [id, end + WAIT]);
      await expect(escrow.closeTerm(id)).to.emit(escrow, "TermClosed").withArgs(id, 1, end, usd(6), usd(0.06));
      expect(await accountOf(id)).to.include({ endedAt: 0n, endedSpent: 0n, formerPlanId: 0n, balance: usd(40) });
      await reverts(escrow.closeTerm(id), "MinimumNone", [id]);
    });

    it("keeps what it owes from being withdrawn", async () => {
      const { id, end } = await withMinimumOf10();
      await escrow.thaw(id, usd(50));
      await announce(dearer, id);
      await time.increaseTo(end);
      await escrow.renew(id);
      await expect(escrow.withdraw(id, market.licensee)).to.changeTokenBalance(
        market.licet.currency,
        market.licensee,
        usd(40),
      );
      expect((await accountOf(id)).balance).to.equal(usd(10));
    });

    it("isn't forgotten by a license that ends: it isn't closed before", async () => {
      const { id, end } = await withMinimumOf10();
      await announce(dearer, id);
      await time.increaseTo(end);
      await escrow.renew(id);
      await escrow.end(id);
      await time.increase(STOP_GRACE + WAIT + 1);
      expect(await escrow.statusOf(id)).to.equal(LicenseStatus.Ended);
      await expect(escrow.connect(market.outsider).closeTerm(id))
        .to.emit(escrow, "TermClosed")
        .withArgs(id, 1, end, usd(10), usd(0.1));
      expect(await escrow.statusOf(id)).to.equal(LicenseStatus.Closed);
    });

    it("forgets one without a minimum, which nobody need wait for", async () => {
      await announce();
      await time.increaseTo(termEnd);
      await escrow.renew(licenseId);
      await time.increaseTo(termEnd + WAIT);
      await expect(escrow.closeTerm(licenseId)).to.emit(escrow, "TermClosed").withArgs(licenseId, 1, termEnd, 0, 0);
      expect(await accountOf()).to.include({ endedAt: 0n, formerPlanId: 0n });
      await escrow.end(licenseId);
      await time.increase(STOP_GRACE + WAIT + 1);
      expect(await escrow.statusOf(licenseId)).to.equal(LicenseStatus.Closed);
    });
  });

  describe("what the owner does meanwhile", () => {
    it("forgets the change where the license is locked: its next owner gets it as it is", async () => {
      const { planId, id } = await withMinimumOf10();
      await announce(dearer, id);
      await escrow.lock(id);
      expect((await accountOf(id)).nextPlanId).to.equal(0);
      await time.increase(STOP_GRACE + WAIT + 1);
      await licenses.connect(market.licensee).transferFrom(market.licensee, market.outsider, id);
      await escrow.connect(market.outsider).unlock(id);
      expect(await accountOf(id)).to.include({ planId: BigInt(planId), stoppedAt: 0n, nextPlanId: 0n });
    });

    it("keeps what had stopped stopped where it is locked or ended after the change was due", async () => {
      const planId = await addPlan(market, { transferable: true });
      for (const act of ["lock", "end"] as const) {
        const id = await buyLicense(market, usd(10), { planId });
        const end = Number((await escrow.accountOf(id)).expiresAt);
        await announce(dearer, id);
        await time.increaseTo(end + 2 * HOUR);
        await escrow[act](id);
        expect(await accountOf(id)).to.include({ stoppedAt: BigInt(end), nextPlanId: 0n });
        expect(await settleUnder(planId, end, end + HOUR, 5, id)).to.deep.equal(refused("Stopped"));
      }
    });

    it("ends with its term where renewal is off, whatever was announced", async () => {
      const { id, end } = await withMinimumOf10();
      await announce(dearer, id);
      await escrow.setRenewal(id, false);
      await time.increaseTo(end);
      expect(await escrow.statusOf(id)).to.equal(LicenseStatus.Ended);
      await reverts(escrow.renew(id), "LicenseStatusUnfit", [id, LicenseStatus.Ended]);
      await time.increase(WAIT + 1);
      await escrow.closeTerm(id);
      expect(await escrow.statusOf(id)).to.equal(LicenseStatus.Closed);
    });

    it("needs an operator that serves both plans, who may be chosen while the change is due", async () => {
      const rival = await addOperator(market, market.payees[4], usd(10));
      await market.licet.operators.connect(market.payees[4]).setServed(rival, dearer, true);
      await announce();
      await market.licet.operators.connect(market.operator).setServed(1, dearer, false);
      await time.increaseTo(termEnd);
      await escrow.changeService(licenseId, rival, false);
      await time.increase(WAIT + 1);
      await escrow.applyServiceChange(licenseId);
      await escrow.renew(licenseId);
      expect(await accountOf()).to.include({ planId: BigInt(dearer), operatorId: BigInt(rival) });
    });
  });

  describe("releaseUpfront", () => {
    it("goes by the hold of the plan that it was paid for", async () => {
      const paid = await addPlan(market, { upfrontPrice: usd(7), holdPeriod: 30 * DAY, termPeriod: WAIT });
      const quick = await addPlan(market, { holdPeriod: HOUR });
      const id = await buyLicense(market, usd(10), { planId: paid });
      const now = await time.latest();
      await announce(quick, id);
      await time.increaseTo(now + WAIT);
      await escrow.renew(id);
      await reverts(escrow.releaseUpfront(id), "UpfrontHeld", [id, now + 30 * DAY]);
      await time.increaseTo(now + 30 * DAY);
      await expect(escrow.releaseUpfront(id)).to.emit(escrow, "UpfrontReleased").withArgs(id, 1, usd(6.93), usd(0.07));
    });
  });

  describe("under attack", () => {
    /** All that the owner can do once a change is due. */
    const acts: Record<string, () => Promise<unknown>> = {
      nothing: async () => {},
      renew: () => escrow.renew(licenseId),
      "take it back": () => announce(1),
      "announce another": async () => announce(await addPlan(market)),
      end: () => escrow.end(licenseId),
      "raise the generation": () => escrow.raiseGeneration(licenseId),
      "raise it and renew": async () => {
        await escrow.raiseGeneration(licenseId);
        return escrow.renew(licenseId);
      },
      "take it back, and announce it again": async () => {
        await announce(1);
        return announce();
      },
      "announce a withdrawal of all": async () => escrow.thaw(licenseId, (await escrow.accountOf(licenseId)).balance),
    };

    for (const [what, act] of Object.entries(acts)) {
      it(`lets nobody keep from being charged what was used until the change, by what may be done then: ${what}`, async () => {
        await announce();
        await time.increaseTo(termEnd + HOUR);
        await act();
        await time.increaseTo(termEnd + 2 * DAY - HOUR);
        expect(await settleUnder(1, termEnd - HOUR, termEnd, 5)).to.deep.equal(charged(5));
      });
    }

    it("puts off no stop that others count on, and brings none forward, however often it is announced", async () => {
      const next = termEnd + TERM;
      for (const at of [termEnd - HOUR / 2, termEnd - 1, termEnd, termEnd + HOUR]) {
        await time.setNextBlockTimestamp(at);
        await expect(announce()).to.emit(escrow, "PlanChangeStarted").withArgs(licenseId, dearer, next);
      }
      for (const at of [next, next + 5 * DAY]) {
        await time.setNextBlockTimestamp(at);
        await expect(announce()).to.emit(escrow, "PlanChangeStarted").withArgs(licenseId, dearer, next);
      }
    });

    it("can't be outrun by use: the account never comes to a term beyond the stop", async () => {
      await time.increaseTo(termEnd + HOUR);
      await announce();
      expect(await settleUnder(1, termEnd, termEnd + HOUR, 5)).to.deep.equal(charged(5));
      const stop = termEnd + TERM;
      expect(await accountOf()).to.include({ expiresAt: BigInt(stop), stoppedAt: BigInt(stop), spent: usd(5) });
      await time.increaseTo(stop + HOUR);
      expect(await settleUnder(1, stop, stop + HOUR, 5)).to.deep.equal(refused("Stopped"));
      await escrow.renew(licenseId);
      expect(await accountOf()).to.include({ endedAt: BigInt(stop), endedSpent: usd(5), term: 2n, spent: 0n });
    });

    it("charges no epoch to a plan that the license had left, or hadn't come to, on its way there and back", async () => {
      const quick = await addPlan(market, { termPeriod: WAIT });
      const back = termEnd + WAIT;
      await announce(quick);
      await time.increaseTo(termEnd);
      await escrow.renew(licenseId);
      await announce(1);
      await time.increaseTo(back + HOUR);
      await escrow.renew(licenseId);

      const { header, entries } = await batchOf(market, [worth(licenseId, 5)], {
        epochStart: termEnd - HOUR,
        epochEnd: termEnd,
      });
      const proof = proofBy(await escrow.batchIdOf(header));
      await expect(escrow.settle(header, entries, proof)).to.be.revertedWithCustomError(escrow, "WindowClosed");
      expect(await settleUnder(1, back - 2 * HOUR, back, 5)).to.deep.equal(refused("TermNotRunning"));
      expect(await settleUnder(quick, back - HOUR, back, 3)).to.deep.equal(charged(3));
      expect(await settleUnder(quick, back, back + HOUR, 3)).to.deep.equal(refused("WrongPlan"));
      expect(await settleUnder(1, back, back + HOUR, 5)).to.deep.equal(charged(5));
      expect(await accountOf()).to.include({ spent: usd(5), endedSpent: usd(3), balance: usd(292) });
    });

    it("starts a late term with its renewal: an epoch that began before isn't charged to it", async () => {
      await announce();
      const now = termEnd + 2 * DAY;
      await time.setNextBlockTimestamp(now);
      await escrow.renew(licenseId);
      await time.increaseTo(now + 2 * HOUR);
      expect(await settleUnder(dearer, now - HOUR, now + HOUR, 5)).to.deep.equal(refused("TermNotRunning"));
      expect(await settleUnder(dearer, now + HOUR, now + 2 * HOUR, 5)).to.deep.equal(charged(10));
    });

    it("owes each term's minimum once, on its way there and back, and no more where one was closed before", async () => {
      const { planId, id, end } = await withMinimumOf10();
      const next = await withMinimum(5, { termPeriod: WAIT });
      await announce(next, id);
      await time.increaseTo(end + WAIT + 1);
      await escrow.closeTerm(id);
      await escrow.renew(id);
      expect(await accountOf(id)).to.include({ balance: usd(40), endedAt: 0n, formerPlanId: 0n });
      expect(await escrow.committedOf(id)).to.equal(usd(5));

      await announce(planId, id);
      const second = Number((await escrow.accountOf(id)).expiresAt);
      await time.increaseTo(second);
      await escrow.renew(id);
      expect(await escrow.committedOf(id)).to.equal(usd(15));
      await time.increaseTo(second + WAIT + 1);
      await escrow.closeTerm(id);
      expect(await accountOf(id)).to.include({ balance: usd(35) });
      expect(await escrow.committedOf(id)).to.equal(usd(10));
      await time.increaseTo(second + TERM + WAIT + 1);
      await escrow.closeTerm(id);
      await reverts(escrow.closeTerm(id), "TermClosedBefore", [id]);
      expect(await accountOf(id)).to.include({ balance: usd(25) });
    });

    it("takes nothing for the other plan's minimum that was on its way out, or had left, before", async () => {
      const next = await withMinimum(5);
      const { id, end } = await withMinimumOf10();
      await announce(next, id);
      await escrow.thaw(id, usd(50));
      await time.increaseTo(end);
      await reverts(escrow.connect(market.publisher).renew(id), "MinimumNotCovered", [0, usd(5)]);
      await escrow.withdraw(id, market.licensee);
      await reverts(escrow.connect(market.publisher).renew(id), "MinimumNotCovered", [0, usd(5)]);
      expect(await accountOf(id)).to.include({ balance: usd(10), nextPlanId: BigInt(next), endedAt: 0n });
    });

    it("frees no place under a plan that a license leaves, and takes one each time that it comes", async () => {
      const rare = await addPlan(market, { supply: 2 });
      const quick = await addPlan(market, { termPeriod: WAIT });
      const id = await buyLicense(market, 0n, { planId: rare });
      for (const planId of [quick, rare]) {
        const { expiresAt } = await escrow.accountOf(id);
        await announce(planId, id);
        await time.increaseTo(expiresAt + 1n);
        await escrow.renew(id);
      }
      expect(await licenses.salesOf(rare)).to.deep.equal([2, false]);
      await reverts(buyLicense(market, 0n, { planId: rare }), "PlanSoldOut", [rare, 2], licenses);
    });

    it("ends a generation a wait after the stop, where that was before: its vouchers are of use until then", async () => {
      await announce();
      await time.increaseTo(termEnd + DAY);
      await expect(escrow.raiseGeneration(licenseId))
        .to.emit(escrow, "GenerationRaised")
        .withArgs(licenseId, 1, termEnd + WAIT);
    });
  });

  it("leaves nothing behind when everybody leaves, wherever a change had come to", async () => {
    const next = await withMinimum(5);
    const ids = [licenseId];
    for (let i = 0; i < 3; i += 1) ids.push((await withMinimumOf10()).id);
    const [, due, changed, back] = ids;
    await announce(dearer);
    for (const id of [due, changed, back]) await announce(next, id);
    await time.increaseTo((await escrow.accountOf(back)).expiresAt);
    for (const id of [changed, back]) await escrow.renew(id);
    await announce(1, changed);
    await time.increase(HOUR);
    expect(await heldBy(market)).to.deep.equal(await owedBy(market));
    await everybodyLeaves(market);
  });
});

/** A plan that the model's owner offers to `buyer` alone, which the market's operator serves. */
async function offered(market: Market, buyer: string): Promise<number> {
  const { licenses, operators, committee } = market.licet;
  const terms = planTerms(market.assetId, await committee.getAddress());
  const offer = { terms, buyer, salt: await time.latest(), deadline: 2 ** 40 };
  await licenses.acceptOffer(offer, await signOffer(market, offer));
  const planId = Number(await licenses.planCount());
  await operators.connect(market.operator).setServed(1, planId, true);
  return planId;
}
