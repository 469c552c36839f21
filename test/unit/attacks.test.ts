import { loadFixture, takeSnapshot, time } from "@nomicfoundation/hardhat-network-helpers";
import { expect } from "chai";
import { id, Wallet, ZeroAddress, ZeroHash } from "ethers";
import hre from "hardhat";
import { zeroUsage } from "../../oracle/protocol/meters";
import {
  AttestorThatAlwaysVouches__factory,
  ReentrantCurrency__factory,
  type ReentrantCurrency,
} from "../../typechain-types";
import {
  addOperator,
  addPlan,
  ANY_SHARES,
  ATTESTORS,
  batchOf,
  BOND,
  buyLicense,
  chargesIn,
  DAY,
  deployMarket,
  deploymentParameters,
  entryOf,
  HOUR,
  LicenseStatus,
  OperatorStatus,
  planTerms,
  postBond,
  proofBy,
  purchaseOf,
  registration,
  settle,
  signPayment,
  stakeOf,
  STOP_GRACE,
  usd,
  WAIT,
  worth,
  type Market,
} from "../support/market";
import { heldBy, owedBy } from "../support/books";
import { connectLicet, deployLicet } from "../../deploy/deploy";

const WINDOW = 2 * DAY;
const STAKE_THAW = 32 * DAY;

describe("attacks", () => {
  let market: Market;
  let escrow: Market["licet"]["escrow"];
  let licenseId: bigint;

  beforeEach(async () => {
    market = await loadFixture(deployMarket);
    escrow = market.licet.escrow.connect(market.outsider);
    licenseId = await buyLicense(market, usd(100));
  });

  const outcomesOf = async (batchId: string) => {
    const [event] = await escrow.queryFilter(escrow.filters.BatchSettled(batchId));
    return chargesIn(event.args.outcomes);
  };

  describe("on a licensee's money", () => {
    /** A plan whose attestor vouches for anything, and the attestor. */
    const crookedPlan = async () => {
      const deployed = await hre.ethers.deployContract("AttestorThatAlwaysVouches");
      const attestor = AttestorThatAlwaysVouches__factory.connect(await deployed.getAddress(), market.outsider);
      return { attestor, planId: await addPlan(market, { attestor: await attestor.getAddress(), cap: usd(20) }) };
    };

    it("an attestor that vouches for anything gets no further than its plan's cap a term", async () => {
      const { planId } = await crookedPlan();
      const victim = await buyLicense(market, usd(90), { planId });
      for (let i = 0; i < 3; i += 1) {
        await time.increase(HOUR);
        const { header, entries } = await batchOf(market, [worth(victim, 4_000)], { planId });
        await escrow.settle(header, entries, "0x");
      }
      expect((await escrow.accountOf(victim)).balance).to.equal(usd(70));
    });

    it("an attestor that vouches for anything can't charge a license of another plan", async () => {
      const { planId } = await crookedPlan();
      await time.increase(HOUR);
      const { header, entries } = await batchOf(market, [worth(licenseId, 50)], { planId });
      await escrow.settle(header, entries, "0x");

      expect(await outcomesOf(await escrow.batchIdOf(header))).to.deep.equal([{ charged: 0n, status: "WrongPlan" }]);
      expect((await escrow.accountOf(licenseId)).balance).to.equal(usd(100));
    });

    it("an attestor that vouches for anything can't collect the share of another plan's batch", async () => {
      const { attestor } = await crookedPlan();
      const { batchId } = await settle(market, [worth(licenseId, 50)]);
      await time.increase(3 * DAY);
      await escrow.release(batchId);
      await expect(attestor.collect(escrow, batchId))
        .to.be.revertedWithCustomError(escrow, "CallerNotAttestor")
        .withArgs(batchId, await attestor.getAddress());
    });

    it("an operator can't charge a license that chose another, however many attestors sign", async () => {
      const thief = await addOperator(market, market.payees[4], usd(500));
      const { batchId } = await settle(market, [worth(licenseId, 50)], { operatorId: thief });
      expect(await outcomesOf(batchId)).to.deep.equal([{ charged: 0n, status: "WrongOperator" }]);
    });

    it("a batch of years ago can't be charged to fresh deposits", async () => {
      const { header, entries } = await batchOf(market, [worth(licenseId, 50)]);
      const proof = proofBy(await escrow.batchIdOf(header), ATTESTORS);
      await time.increase(365 * DAY);
      await escrow.connect(market.licensee).deposit(licenseId, usd(900));
      await expect(escrow.settle(header, entries, proof)).to.be.revertedWithCustomError(escrow, "WindowClosed");
    });

    it("the same usage can't be charged twice by another number, root or proof", async () => {
      const { header, entries } = await settle(market, [worth(licenseId, 50)]);
      const again = { ...header, sequence: header.sequence + 1n, root: id("another root") };
      await expect(escrow.settle(again, entries, proofBy(await escrow.batchIdOf(again), ATTESTORS)))
        .to.be.revertedWithCustomError(escrow, "EntriesOutOfOrder")
        .withArgs(licenseId, licenseId);
    });

    it("signatures for one deployment are worth nothing to another on the same chain", async () => {
      const parameters = deploymentParameters(market);
      const second = connectLicet(await deployAgain(market, parameters), market.outsider);
      await time.increase(HOUR);
      const { header } = await batchOf(market, [worth(licenseId, 50)]);
      const proof = proofBy(await escrow.batchIdOf(header));

      expect(await second.escrow.batchIdOf(header)).not.to.equal(await escrow.batchIdOf(header));
      expect(await second.committee.vouches(await second.escrow.batchIdOf(header), proof)).to.equal(0);
    });

    it("a donation to the escrow changes nobody's balance and buys nothing", async () => {
      await market.licet.currency.mint(escrow, usd(1_000));
      expect((await escrow.accountOf(licenseId)).balance).to.equal(usd(100));
      await expect(escrow.withdrawEarnings(1, market.outsider))
        .to.be.revertedWithCustomError(escrow, "CallerNotOperator")
        .withArgs(1, market.outsider.address);
    });
  });

  describe("on those who are owed", () => {
    it("a licensee can't leave before use of the running epoch was charged, at the last second of the window", async () => {
      const owner = escrow.connect(market.licensee);
      // The longest epoch starts with the thaw, and is settled in the last second in which it may be.
      await owner.thaw(licenseId, usd(100));
      const epochStart = await time.latest();
      const epochEnd = epochStart + DAY;
      await time.setNextBlockTimestamp(epochEnd + WINDOW - 1);
      const { header, entries } = await batchOf(market, [worth(licenseId, 60)], { epochStart, epochEnd });
      const proof = proofBy(await escrow.batchIdOf(header));
      await expect(owner.withdraw(licenseId, market.licensee)).to.be.revertedWithCustomError(escrow, "ThawRunning");
      await time.setNextBlockTimestamp(epochEnd + WINDOW);
      await escrow.settle(header, entries, proof);

      await expect(owner.withdraw(licenseId, market.licensee)).to.changeTokenBalance(
        market.licet.currency,
        market.licensee,
        usd(40),
      );
    });

    it("a licensee can't take out more by announcing twice", async () => {
      const owner = escrow.connect(market.licensee);
      await owner.thaw(licenseId, usd(100));
      await owner.thaw(licenseId, usd(100));
      await time.increase(WAIT + 1);
      await owner.withdraw(licenseId, market.licensee);
      await expect(owner.withdraw(licenseId, market.licensee)).to.be.revertedWithCustomError(escrow, "ThawEmpty");
      expect(await market.licet.currency.balanceOf(escrow)).to.equal(0);
    });

    it("a licensee can't keep use that was served from being charged, by a lower cap", async () => {
      const owner = escrow.connect(market.licensee);
      await owner.setCap(licenseId, 1);
      const epochStart = await time.latest();
      const epochEnd = epochStart + DAY;
      await time.setNextBlockTimestamp(epochEnd + WINDOW - 1);
      const { header, entries } = await batchOf(market, [worth(licenseId, 60)], { epochStart, epochEnd });
      const proof = proofBy(await escrow.batchIdOf(header));
      await expect(escrow.applyCapCut(licenseId)).to.be.revertedWithCustomError(escrow, "CapCutRunning");
      await time.setNextBlockTimestamp(epochEnd + WINDOW);
      await escrow.settle(header, entries, proof);
      expect((await escrow.accountOf(licenseId)).spent).to.equal(usd(60));
    });

    it("an operator isn't bound to a plan whose terms it never accepted", async () => {
      const { licenses, committee } = market.licet;
      const terms = planTerms(1, await committee.getAddress(), { publisherBps: 9_300 });
      await licenses.connect(market.publisher).createPlan({ ...terms, levels: noDiscounts });
      await expect(buyLicense(market, usd(1), { planId: 2 }))
        .to.be.revertedWithCustomError(escrow, "PlanNotServed")
        .withArgs(1, 2);
    });

    it("a licensee can't sell a license whose bill hasn't come", async () => {
      const { licenses } = market.licet;
      await expect(licenses.connect(market.licensee).transferFrom(market.licensee, market.outsider, licenseId))
        .to.be.revertedWithCustomError(licenses, "LicenseNotMovable")
        .withArgs(licenseId, 0);
    });

    it("an operator can't take out the stake that secures what is in flight, however long before it thawed", async () => {
      const { staking } = market.licet;
      const owner = staking.connect(market.operator);
      const { shares } = await staking.poolOf(1);
      const planId = await addPlan(market, { holdPeriod: 30 * DAY });
      const funded = await buyLicense(market, usd(5_000), { planId });
      // Half of the stake leaves as soon as it may; the other half secures what is charged the day before.
      await owner.thaw(1, shares / 2n);
      await time.increase(STAKE_THAW - DAY);
      await settle(market, [worth(funded, 4_200)], { planId });
      await expect(owner.withdraw(1, market.operator)).to.be.revertedWithCustomError(staking, "StakeStillThawing");
      await time.increase(DAY);
      await owner.withdraw(1, market.operator);
      expect(await stakeOf(market, 1)).to.equal(usd(5_000));

      await owner.thaw(1, shares / 2n);
      await time.increase(STAKE_THAW + 1);
      await expect(owner.withdraw(1, market.operator))
        .to.be.revertedWithCustomError(staking, "StakeStillNeeded")
        .withArgs(1, 0, usd(4_200), 0);
    });

    it("a settlement doesn't count stake on its way out, in the very second before it leaves", async () => {
      const { staking } = market.licet;
      const { shares } = await staking.poolOf(1);
      await staking.connect(market.operator).thaw(1, shares);
      await time.increase(STAKE_THAW - HOUR);
      await expect(settle(market, [worth(licenseId, 1)]))
        .to.be.revertedWithCustomError(staking, "InFlightAboveActiveStake")
        .withArgs(1, usd(1), 0);
    });

    it("a stranger's settlement and release pay just whom they would have paid", async () => {
      const { batchId } = await settle(market, [worth(licenseId, 50)], {}, market.outsider);
      await time.increase(3 * DAY);
      await escrow.connect(market.payees[7]).release(batchId);
      expect((await escrow.operatorIncomeOf(1)).earnings).to.equal(usd(33.5));
      expect(await escrow.assetIncomeOf(1)).to.equal(usd(15));
      for (const stranger of [market.outsider, market.payees[7]]) {
        await expect(escrow.connect(stranger).withdrawEarnings(1, stranger))
          .to.be.revertedWithCustomError(escrow, "CallerNotOperator")
          .withArgs(1, stranger.address);
      }
    });

    it("one attestor can't speak for the committee with a second key of its own", async () => {
      await time.increase(HOUR);
      const { header, entries } = await batchOf(market, [worth(licenseId, 50)]);
      const batchId = await escrow.batchIdOf(header);
      const proof = proofBy(batchId, [ATTESTORS[0], new Wallet(id("a second key"))]);
      await expect(escrow.settle(header, entries, proof))
        .to.be.revertedWithCustomError(escrow, "BatchNotVouchedFor")
        .withArgs(batchId, await market.licet.committee.getAddress());
    });
  });

  /** Usage of some dollars' worth between two times, attested and ready to settle. */
  const attested = async (license: bigint, dollars: number, changes: Parameters<typeof batchOf>[2]) => {
    const { header, entries } = await batchOf(market, [worth(license, dollars)], changes);
    const batchId = await escrow.batchIdOf(header);
    return { batchId, submit: () => escrow.settle(header, entries, proofBy(batchId)) };
  };
  const balanceOf = async (license: bigint) => (await escrow.accountOf(license)).balance;
  const expiryOf = async (license: bigint) => Number((await escrow.accountOf(license)).expiresAt);

  describe("on the publisher's minimum, and the operator's bill", () => {
    const minimumSpend = usd(100);
    let planId: number;
    let owner: typeof escrow;

    beforeEach(async () => {
      planId = await addPlan(market, { minimumSpend, transferable: true });
      licenseId = await buyLicense(market, usd(300), { planId });
      owner = escrow.connect(market.licensee);
    });

    const leaveWith = async (expected: bigint) => {
      const { balance } = await escrow.accountOf(licenseId);
      await owner.thaw(licenseId, balance);
      await time.increase(WAIT + 1);
      await expect(owner.withdraw(licenseId, market.licensee)).to.changeTokenBalance(
        market.licet.currency,
        market.licensee,
        expected,
      );
    };

    it("a licensee sheds neither by a lock and an unlock", async () => {
      const began = await time.latest();
      await owner.lock(licenseId);
      await owner.unlock(licenseId);
      await time.increase(HOUR);
      const { submit } = await attested(licenseId, 30, { planId, epochStart: began, epochEnd: began + HOUR });
      await submit();
      expect(await escrow.committedOf(licenseId)).to.equal(usd(70));
      await leaveWith(usd(200));
    });

    it("a licensee sheds neither by a lock that lasts until the term is over", async () => {
      const expiresAt = await expiryOf(licenseId);
      await time.increaseTo(expiresAt - DAY);
      await owner.lock(licenseId);
      const began = await time.latest();
      const { submit } = await attested(licenseId, 30, { planId, epochStart: began - HOUR, epochEnd: began });
      await submit();
      await time.increaseTo(expiresAt + WAIT + 1);
      await escrow.closeTerm(licenseId);
      expect(await balanceOf(licenseId)).to.equal(usd(200));
    });

    it("a licensee sheds neither by an end", async () => {
      const began = await time.latest();
      await owner.end(licenseId);
      await time.increase(HOUR);
      const { submit } = await attested(licenseId, 30, { planId, epochStart: began, epochEnd: began + HOUR });
      await submit();
      await leaveWith(usd(200));
      await escrow.closeTerm(licenseId);
      expect(await balanceOf(licenseId)).to.equal(0);
    });

    it("a licensee doesn't get for nothing what began just before an end at an epoch's edge", async () => {
      const midnight = (Math.floor((await time.latest()) / DAY) + 1) * DAY;
      await time.setNextBlockTimestamp(midnight - 5);
      await owner.end(licenseId);
      await time.increaseTo(midnight + DAY);
      const { submit } = await attested(licenseId, 120, { planId, epochStart: midnight, epochEnd: midnight + DAY });
      await submit();
      expect(await balanceOf(licenseId)).to.equal(usd(180));
    });

    it("a licensee sheds neither by a sale: the last bill comes before the license can move", async () => {
      await owner.lock(licenseId);
      const epochStart = (await time.latest()) + STOP_GRACE - 1;
      const movableAt = epochStart + 1 + WAIT;
      await time.setNextBlockTimestamp(movableAt - 1);
      const { submit } = await attested(licenseId, 120, { planId, epochStart, epochEnd: epochStart + DAY });
      // The last second of the window; the first in which it may move is two later.
      await submit();
      const { licenses } = market.licet;
      await time.setNextBlockTimestamp(movableAt);
      await expect(licenses.connect(market.licensee).transferFrom(market.licensee, market.outsider, licenseId))
        .to.be.revertedWithCustomError(licenses, "LicenseNotMovable")
        .withArgs(licenseId, movableAt);
      expect(await balanceOf(licenseId)).to.equal(usd(180));
    });

    it("a licensee can't hide money that thaws from a buyer", async () => {
      await owner.thaw(licenseId, usd(200));
      await expect(owner.lock(licenseId))
        .to.be.revertedWithCustomError(escrow, "ThawOpen")
        .withArgs(licenseId, usd(200));
      await owner.thaw(licenseId, 0);
      await owner.lock(licenseId);
      await expect(owner.thaw(licenseId, usd(200)))
        .to.be.revertedWithCustomError(escrow, "LicenseStatusUnfit")
        .withArgs(licenseId, LicenseStatus.Locked);
    });

    for (const [what, changeTo] of [
      ["operator", async () => [await addRival(), false] as const],
      ["road", async () => [market.operatorId, true] as const],
    ] as const) {
      it(`a licensee doesn't shed an operator's bill by a change of ${what}: all of it could settle before`, async () => {
        const [operatorId, onVoucherRoad] = await changeTo();
        await owner.changeService(licenseId, operatorId, onVoucherRoad);
        const epochStart = await time.latest();
        const readyAt = epochStart + WAIT;
        const { submit } = await attested(licenseId, 120, { planId, epochStart, epochEnd: epochStart + DAY });
        await time.setNextBlockTimestamp(readyAt - 1);
        await expect(owner.applyServiceChange(licenseId))
          .to.be.revertedWithCustomError(escrow, "ServiceChangeRunning")
          .withArgs(licenseId, readyAt);
        await time.setNextBlockTimestamp(readyAt);
        await submit();
        expect(await balanceOf(licenseId)).to.equal(usd(180));
      });
    }

    it("a licensee doesn't shed the running term's minimum by not renewing", async () => {
      await owner.setRenewal(licenseId, false);
      await leaveWith(usd(200));
      await time.increaseTo((await expiryOf(licenseId)) + WAIT + 1);
      await escrow.closeTerm(licenseId);
      expect(await escrow.assetIncomeOf(1)).to.equal(usd(99));
      expect(await balanceOf(licenseId)).to.equal(0);
    });

    it("a publisher can't renew with money that its licensee has called back before", async () => {
      const expiresAt = await expiryOf(licenseId);
      await time.increaseTo(expiresAt - 60);
      await owner.thaw(licenseId, usd(150));
      await time.increaseTo(expiresAt);
      // 300, less 150 that thaw, less 100 that the ended term still owes.
      await expect(escrow.connect(market.publisher).renew(licenseId))
        .to.be.revertedWithCustomError(escrow, "MinimumNotCovered")
        .withArgs(usd(50), minimumSpend);
    });

    it("a publisher can't renew a term before it is over", async () => {
      await time.setNextBlockTimestamp((await expiryOf(licenseId)) - 1);
      await expect(escrow.connect(market.publisher).renew(licenseId))
        .to.be.revertedWithCustomError(escrow, "LicenseStatusUnfit")
        .withArgs(licenseId, LicenseStatus.Running);
    });

    it("a publisher can't renew late, with a top-up of its own or without; the owner can, for a whole term", async () => {
      const expiresAt = await expiryOf(licenseId);
      await market.licet.currency.mint(market.publisher, usd(40));
      await market.licet.currency.connect(market.publisher).approve(escrow, usd(40));
      await time.setNextBlockTimestamp(expiresAt + DAY);
      await escrow.connect(market.publisher).deposit(licenseId, usd(40));
      for (const at of [expiresAt + DAY + 1, expiresAt + 29 * DAY, expiresAt + 30 * DAY - 1]) {
        await time.setNextBlockTimestamp(at);
        await expect(escrow.connect(market.publisher).renew(licenseId))
          .to.be.revertedWithCustomError(escrow, "RenewalForOwner")
          .withArgs(licenseId);
      }
      await owner.renew(licenseId);
      expect(await expiryOf(licenseId)).to.equal((await time.latest()) + 30 * DAY);
    });

    it("a publisher can't have a minimum twice: not with the use that counts to it, nor by closing again", async () => {
      const expiresAt = await expiryOf(licenseId);
      await settle(market, [worth(licenseId, 30)], { planId });
      await time.increaseTo(expiresAt);
      await owner.setRenewal(licenseId, false);
      const last = { planId, epochStart: expiresAt - HOUR, epochEnd: expiresAt };
      await (await attested(licenseId, 30, last)).submit();
      const closableAt = expiresAt + WAIT;
      await time.setNextBlockTimestamp(closableAt);
      await expect(escrow.closeTerm(licenseId))
        .to.be.revertedWithCustomError(escrow, "TermOpen")
        .withArgs(licenseId, closableAt);
      await escrow.closeTerm(licenseId);
      expect(await balanceOf(licenseId)).to.equal(usd(200));
      await expect(escrow.closeTerm(licenseId))
        .to.be.revertedWithCustomError(escrow, "TermClosedBefore")
        .withArgs(licenseId);
    });

    it("a publisher gets one minimum for each of two terms, however they are closed", async () => {
      await time.increaseTo(await expiryOf(licenseId));
      await escrow.renew(licenseId);
      await owner.end(licenseId);
      await time.increase(STOP_GRACE + WAIT + 1);
      await escrow.closeTerm(licenseId);
      await escrow.closeTerm(licenseId);
      expect(await balanceOf(licenseId)).to.equal(usd(100));
      await expect(escrow.closeTerm(licenseId)).to.be.revertedWithCustomError(escrow, "TermClosedBefore");
    });

    it("a publisher that recalled its model gets no minimum, and can't renew into the next ones", async () => {
      await market.licet.assets.connect(market.publisher).recall(market.versionId);
      const expiresAt = await expiryOf(licenseId);
      for (let term = 0; term < 3; term += 1) {
        await time.increaseTo(expiresAt + term * 30 * DAY);
        await expect(escrow.connect(market.publisher).renew(licenseId))
          .to.be.revertedWithCustomError(escrow, "RenewalForOwner")
          .withArgs(licenseId);
      }
      await escrow.connect(market.publisher).closeTerm(licenseId);
      expect(await escrow.assetIncomeOf(1)).to.equal(0);
      await leaveWith(usd(300));
    });

    it("a stranger can't renew into a term in which a recall takes effect that was announced at the end of the last", async () => {
      const expiresAt = await expiryOf(licenseId);
      await time.increaseTo(expiresAt - DAY);
      await market.licet.assets.connect(market.publisher).recall(market.versionId);
      await time.increaseTo(expiresAt);
      await expect(escrow.connect(market.publisher).renew(licenseId))
        .to.be.revertedWithCustomError(escrow, "RenewalForOwner")
        .withArgs(licenseId);
      await owner.renew(licenseId);
      // Who renews after the announcement knew of it.
      expect(await escrow.committedOf(licenseId)).to.equal(usd(200));
    });

    it("a decoy that is recalled before a sale frees nobody, and keeps no later recall from it", async () => {
      const { assets } = market.licet;
      await assets.connect(market.publisher).publish(1, id("decoy"), ZeroHash, ZeroAddress, "", "");
      await assets.connect(market.publisher).recall((1n << 32n) | 2n);
      const informed = await buyLicense(market, usd(100), { planId });
      expect(await escrow.committedOf(informed)).to.equal(usd(100));
      await assets.connect(market.publisher).recall(market.versionId);
      expect(await escrow.committedOf(informed)).to.equal(0);
    });

    it("a buyer isn't served by an operator that the seller announced before the lock", async () => {
      const rival = await addRival();
      await owner.changeService(licenseId, rival, true);
      await owner.lock(licenseId);
      await time.increase(STOP_GRACE + WAIT + 1);
      await market.licet.licenses.connect(market.licensee).transferFrom(market.licensee, market.outsider, licenseId);
      await expect(escrow.applyServiceChange(licenseId))
        .to.be.revertedWithCustomError(escrow, "ServiceChangeNone")
        .withArgs(licenseId);
      const { operatorId, onVoucherRoad } = await escrow.accountOf(licenseId);
      expect([operatorId, onVoucherRoad]).to.deep.equal([1, false]);
    });

    it("a buyer of a license whose term is over isn't renewed against its will when it unlocks", async () => {
      await owner.lock(licenseId);
      await time.increase(30 * DAY + HOUR);
      await market.licet.licenses.connect(market.licensee).transferFrom(market.licensee, market.outsider, licenseId);
      await escrow.connect(market.outsider).setRenewal(licenseId, false);
      await escrow.connect(market.outsider).unlock(licenseId);
      await expect(escrow.connect(market.publisher).renew(licenseId))
        .to.be.revertedWithCustomError(escrow, "LicenseStatusUnfit")
        .withArgs(licenseId, LicenseStatus.Ended);
    });

    it("a license that renews by itself isn't called closed while its running epoch may still be charged", async () => {
      const renewing = await buyLicense(market, usd(100));
      await time.increase(40 * DAY);
      await owner.end(renewing);
      expect(await escrow.statusOf(renewing)).to.equal(LicenseStatus.Ended);
      await settle(market, [worth(renewing, 10)]);
      expect(await balanceOf(renewing)).to.equal(usd(90));
      await time.increase(WAIT + 1);
      expect(await escrow.statusOf(renewing)).to.equal(LicenseStatus.Closed);
    });

    /** Another operator that serves the plan. */
    const addRival = async () => {
      const rival = await addOperator(market, market.payees[4], usd(100));
      await market.licet.operators.connect(market.payees[4]).setServed(rival, planId, true);
      return rival;
    };
  });

  describe("by pausing", () => {
    it("nobody is kept from what is theirs: settlement, release, thaws and all withdrawals go on", async () => {
      const { committee, staking, waterfall } = market.licet;
      const owner = escrow.connect(market.licensee);
      await escrow.connect(market.guardian).pause();

      await owner.thaw(licenseId, usd(40));
      await owner.setCap(licenseId, 200);
      await owner.raiseGeneration(licenseId);
      const { batchId } = await settle(market, [worth(licenseId, 50)]);
      await time.increase(WAIT + 1);
      await escrow.release(batchId);
      await committee.shareIncome(batchId);
      await committee.connect(market.payees[0]).withdraw(market.payees[0]);
      await escrow.connect(market.operator).withdrawEarnings(1, market.operator);
      await escrow.payPool(1);
      await escrow.payAsset(1);
      await waterfall.distribute(1);
      await waterfall.connect(market.publisher).withdraw(market.publisher);
      await escrow.withdrawFees();
      await owner.withdraw(licenseId, market.licensee);
      await staking.connect(market.operator).addStake(1, usd(1), ...ANY_SHARES);
      await staking.connect(market.operator).thaw(1, 1);

      expect(await escrow.pausedUntil()).to.be.greaterThan(await time.latest());
      expect((await escrow.accountOf(licenseId)).balance).to.equal(usd(10));
    });

    it("deposits are open for at least half of the time, however often the guardian pauses", async () => {
      const owner = escrow.connect(market.licensee);
      for (let i = 0; i < 3; i += 1) {
        await escrow.connect(market.guardian).pause();
        const until = Number(await escrow.pausedUntil());
        await time.increaseTo(until + 1);
        await expect(escrow.connect(market.guardian).pause())
          .to.be.revertedWithCustomError(escrow, "PauseTooSoon")
          .withArgs(until + 7 * DAY);
        await owner.deposit(licenseId, 1);
        await time.increaseTo(until + 7 * DAY - 2);
        await owner.deposit(licenseId, 1);
        await time.increaseTo(until + 7 * DAY);
      }
    });
  });

  describe("by reentering from the currency", () => {
    let currency: ReentrantCurrency;
    let released: string;

    beforeEach(async () => {
      market = await loadFixture(deployWithReentrantCurrency);
      escrow = market.licet.escrow;
      currency = ReentrantCurrency__factory.connect(await market.licet.currency.getAddress(), market.outsider);
      licenseId = await buyLicense(market, usd(100));
      ({ batchId: released } = await settle(market, [worth(licenseId, 50)]));
      await escrow.connect(market.licensee).thaw(licenseId, usd(40));
      await time.increase(WAIT + 1);
      await escrow.release(released);
    });

    const pay = (hashOf: (salt: string) => Promise<string>) => signPayment(market, 1n, hashOf);
    const outer: [string, () => Promise<unknown>][] = [
      ["buy", () => escrow.connect(market.licensee).buy(purchaseOf(market, { amount: usd(1) }))],
      ["deposit", () => escrow.connect(market.licensee).deposit(licenseId, usd(1))],
      ["withdraw", () => escrow.connect(market.licensee).withdraw(licenseId, market.licensee)],
      [
        "buyWithAuthorization",
        async () => {
          const purchase = purchaseOf(market, { amount: 1n });
          return escrow.buyWithAuthorization(purchase, await pay((salt) => escrow.purchaseHash(purchase, salt)));
        },
      ],
      [
        "depositWithAuthorization",
        async () =>
          escrow.depositWithAuthorization(
            licenseId,
            1,
            await pay((salt) => escrow.depositHash(licenseId, market.licensee.address, 1, salt)),
          ),
      ],
      ["withdrawEarnings", () => escrow.connect(market.operator).withdrawEarnings(1, market.operator)],
      ["withdrawFees", () => escrow.withdrawFees()],
      ["payPool", () => escrow.payPool(1)],
      ["payAsset", () => escrow.payAsset(1)],
      ["collectAttestorShare", () => market.licet.committee.shareIncome(released)],
    ];
    for (const [name, act] of outer) {
      it(`nothing that moves money can be called in the middle of ${name}`, async () => {
        const { interface: abi } = escrow;
        const header = { ...zeroHeader, entriesHash: id("") };
        const unsigned = { from: ZeroAddress, validAfter: 0, validBefore: 0, salt: ZeroHash, signature: "0x" };
        const calls = [
          abi.encodeFunctionData("buy", [purchaseOf(market, { amount: 1n })]),
          abi.encodeFunctionData("buyWithPermit", [purchaseOf(market), 27, id("r"), id("s")]),
          abi.encodeFunctionData("buyWithAuthorization", [purchaseOf(market), unsigned]),
          abi.encodeFunctionData("depositWithAuthorization", [licenseId, 1, unsigned]),
          abi.encodeFunctionData("deposit", [licenseId, 1]),
          abi.encodeFunctionData("depositWithPermit", [licenseId, 1, 0, 27, id("r"), id("s")]),
          abi.encodeFunctionData("withdraw", [licenseId, market.outsider.address]),
          abi.encodeFunctionData("settle", [header, "0x", "0x"]),
          abi.encodeFunctionData("release", [released]),
          abi.encodeFunctionData("collectAttestorShare", [released]),
          abi.encodeFunctionData("payPool", [1]),
          abi.encodeFunctionData("payAsset", [1]),
          abi.encodeFunctionData("withdrawEarnings", [1, market.outsider.address]),
          abi.encodeFunctionData("withdrawFees"),
        ];
        for (const data of calls) {
          await currency.arm(escrow, data);
          await expect(act()).to.be.revertedWithCustomError(escrow, "ReentrancyGuardReentrantCall");
        }
      });
    }

    it("what moves no money can be called in the middle of what does, and no sum is wrong afterwards", async () => {
      const planId = await addPlan(market, { minimumSpend: usd(10), upfrontPrice: usd(3) });
      const { interface: abi } = escrow;
      const [, wayIn, wayOut] = outer;
      for (const [, act] of [wayIn, wayOut]) {
        const other = await buyLicense(market, usd(30), { planId });
        await escrow.connect(market.licensee).setCap(other, 200);
        await escrow.connect(market.licensee).changeService(other, 1, true);
        await time.increaseTo((await escrow.accountOf(other)).expiresAt);
        const due = await takeSnapshot();
        for (const name of ["releaseUpfront", "renew", "applyCapCut", "applyServiceChange", "closeTerm"] as const) {
          if (name === "closeTerm") await time.increase(WAIT);
          await currency.arm(escrow, abi.encodeFunctionData(name as "renew", [other]));
          await act();
          expect(await heldBy(market)).to.deep.equal(await owedBy(market));
          await due.restore();
        }
      }
    });

    it("stake can't be moved in the middle of a bonus, beyond what is there", async () => {
      const { staking } = market.licet;
      const { shares } = await staking.poolOf(1);
      await staking.connect(market.operator).thaw(1, shares);
      await time.increase(STAKE_THAW + 1);
      await currency.arm(staking, staking.interface.encodeFunctionData("withdraw", [1, market.outsider.address]));
      // The currency holds no stake: who may withdraw is who calls.
      await expect(escrow.payPool(1))
        .to.be.revertedWithCustomError(staking, "ThawEmpty")
        .withArgs(1, await currency.getAddress());
    });

    it("stake can't be moved in the middle of a stake's move", async () => {
      const { staking } = market.licet;
      const owner = staking.connect(market.operator);
      for (const data of [
        staking.interface.encodeFunctionData("addStake", [1, 1, ...ANY_SHARES]),
        staking.interface.encodeFunctionData("withdraw", [1, market.outsider.address]),
        staking.interface.encodeFunctionData("withdrawProceeds", [market.outsider.address]),
      ]) {
        await currency.arm(staking, data);
        await expect(owner.addStake(1, usd(1), ...ANY_SHARES)).to.be.revertedWithCustomError(
          staking,
          "ReentrancyGuardReentrantCall",
        );
      }
    });

    it("a bonus that arrives in the middle of a stake's move isn't taken for stake", async () => {
      const { staking } = market.licet;
      const { forPool: bonus } = await escrow.operatorIncomeOf(1);
      await currency.arm(escrow, escrow.interface.encodeFunctionData("payPool", [1]));
      await expect(staking.connect(market.operator).addStake(1, usd(1), ...ANY_SHARES))
        .to.be.revertedWithCustomError(staking, "TransferIncomplete")
        .withArgs(usd(1), usd(1) + bonus);
    });

    it("a committee's money can't be moved in the middle of a bond's move", async () => {
      const { committee } = market.licet;
      await committee.shareIncome(released);
      await committee.connect(market.payees[0]).thawBond(ATTESTORS[0].address);
      await time.increase((await committee.BOND_THAW_PERIOD()) + 1n);
      const member = ATTESTORS[0].address;
      await currency.mint(market.payees[1], BOND);
      await currency.connect(market.payees[1]).approve(committee, BOND);
      for (const data of [
        committee.interface.encodeFunctionData("withdraw", [market.outsider.address]),
        committee.interface.encodeFunctionData("postBond", [member, 1]),
        committee.interface.encodeFunctionData("withdrawBond", [member, market.outsider.address]),
      ]) {
        for (const move of [
          () => committee.connect(market.payees[0]).withdrawBond(member, market.payees[0]),
          () => committee.connect(market.payees[1]).postBond(member, 1),
        ]) {
          const before = await takeSnapshot();
          await currency.arm(committee, data);
          await expect(move()).to.be.revertedWithCustomError(committee, "ReentrancyGuardReentrantCall");
          await before.restore();
        }
      }
    });

    it("a committee's income can't be withdrawn in the middle of its withdrawal", async () => {
      const { committee } = market.licet;
      await committee.shareIncome(released);
      for (const data of [
        committee.interface.encodeFunctionData("withdraw", [market.outsider.address]),
        committee.interface.encodeFunctionData("shareIncome", [released]),
      ]) {
        await currency.arm(committee, data);
        await expect(committee.connect(market.payees[0]).withdraw(market.payees[0])).to.be.revertedWithCustomError(
          committee,
          "ReentrancyGuardReentrantCall",
        );
      }
    });
  });

  describe("on who may attest", () => {
    const strangers = ["eve", "mallory"].map((name) => new Wallet(id(name)));
    const takeover = () =>
      strangers.map(({ address }) => ({ signer: address, weight: 1, payee: market.outsider.address }));
    const deadline = 2n ** 40n;

    it("a minority can't hand the committee over, nor can those who would follow", async () => {
      const { committee } = market.licet;
      const digest = await committee.rotationHash(takeover(), 2, deadline);
      for (const signers of [[ATTESTORS[0]], strangers, [ATTESTORS[0], strangers[0]]]) {
        await expect(committee.rotate(takeover(), 2, deadline, proofBy(digest, signers)))
          .to.be.revertedWithCustomError(committee, "RotationNotSigned")
          .withArgs(digest);
      }
    });

    it("a former committee can't take its office back, though its batches still count", async () => {
      const { committee } = market.licet;
      const next = await committee.rotationHash(takeover(), 2, deadline);
      await committee.rotate(takeover(), 2, deadline, proofBy(next));
      await time.increase(await committee.ROTATION_PERIOD());

      const back = ATTESTORS.map(({ address }, i) => ({ signer: address, weight: 1, payee: market.payees[i].address }));
      const digest = await committee.rotationHash(back, 2, deadline);
      expect(await committee.vouches(digest, proofBy(digest))).not.to.equal(0);
      await expect(committee.rotate(back, 2, deadline, proofBy(digest, ATTESTORS)))
        .to.be.revertedWithCustomError(committee, "RotationNotSigned")
        .withArgs(digest);
    });

    it("signatures under a batch are none under a rotation, nor the other way round", async () => {
      const { committee } = market.licet;
      const { batchId } = await settle(market, [worth(licenseId, 1)]);
      const digest = await committee.rotationHash(takeover(), 2, deadline);
      await expect(committee.rotate(takeover(), 2, deadline, proofBy(batchId)))
        .to.be.revertedWithCustomError(committee, "RotationNotSigned")
        .withArgs(digest);
      const { header, entries } = await batchOf(market, [worth(licenseId, 1)]);
      await expect(escrow.settle(header, entries, proofBy(digest))).to.be.revertedWithCustomError(
        escrow,
        "BatchNotVouchedFor",
      );
    });

    it("licensees of a committee that hands over can leave before the next one's first signature counts", async () => {
      const { committee } = market.licet;
      const digest = await committee.rotationHash(takeover(), 2, deadline);
      await committee.rotate(takeover(), 2, deadline, proofBy(digest));
      for (const { address } of strangers) await postBond(market.licet, address, market.outsider);
      const owner = escrow.connect(market.licensee);
      await owner.thaw(licenseId, usd(100));
      await time.increase(WAIT);
      const { header, entries } = await batchOf(market, [worth(licenseId, 100)]);
      const batchId = await escrow.batchIdOf(header);
      await expect(escrow.settle(header, entries, proofBy(batchId, strangers)))
        .to.be.revertedWithCustomError(escrow, "BatchNotVouchedFor")
        .withArgs(batchId, await committee.getAddress());
      await owner.withdraw(licenseId, market.licensee);
      expect(await balanceOf(licenseId)).to.equal(0);
    });
  });

  describe("on the stake", () => {
    /** A stranger's own model and plan, whose attestor vouches for whatever the stranger says. */
    const crookedPlan = async () => {
      const { assets, licenses } = market.licet;
      await assets.connect(market.outsider).register(registration({ uri: "ipfs://bait" }), []);
      await assets.connect(market.outsider).publish(2, id("bait"), ZeroHash, ZeroAddress, "", "");
      const attestor = await hre.ethers.deployContract("AttestorThatAlwaysVouches");
      await licenses.connect(market.outsider).createPlan(planTerms(2, await attestor.getAddress()));
      return Number(await licenses.planCount());
    };
    /** Has three days' worth of failures of the market's operator settle, all within one window. */
    const slander = async (planId: number, versionId: bigint, license: bigint) => {
      const now = Math.ceil((await time.latest()) / DAY) * DAY + 6 * HOUR;
      await time.increaseTo(now);
      for (const epochEnd of [now - 2 * DAY + HOUR, now - DAY, now]) {
        const changes = { planId, versionId, epochStart: epochEnd - HOUR, epochEnd, availabilityBps: 0 };
        const { header, entries } = await batchOf(market, [entryOf(license)], changes);
        await escrow.settle(header, entries, proofBy(await escrow.batchIdOf(header)));
      }
    };
    const expectUnharmed = async () => {
      const { staking } = market.licet;
      expect(await staking.statusOf(1)).to.equal(OperatorStatus.Active);
      expect(await stakeOf(market, 1)).to.equal(market.stake);
    };

    it("a stranger can't slash and jail an operator by batches of a plan that the operator never accepted", async () => {
      const planId = await crookedPlan();
      expect(await market.licet.operators.serves(1, planId)).to.equal(false);
      await slander(planId, (2n << 32n) | 1n, 99n);
      await expectUnharmed();
      expect(await market.licet.staking.breachesOf(1, planId)).to.deep.equal([0, 0, 0]);
    });

    it("nor by licenses of that plan which another operator serves", async () => {
      const planId = await crookedPlan();
      const accomplice = await addOperator(market, market.payees[4], 0n);
      await market.licet.operators.connect(market.payees[4]).setServed(accomplice, planId, true);
      const bait = await buyLicense(market, usd(10), { planId, operatorId: accomplice });
      await slander(planId, (2n << 32n) | 1n, bait);
      await expectUnharmed();
    });

    it("bad service that charged nobody leaves what is in flight below the active stake", async () => {
      const { staking } = market.licet;
      const large = await buyLicense(market, usd(20_000));
      await settle(market, [worth(large, 4_200)]);
      await settle(market, [worth(large, 4_200)]);
      await settle(market, [worth(large, 1_600)]);
      await time.increase(3 * DAY);
      await slander(1, market.versionId, 999n);
      expect((await staking.poolOf(1)).inFlight).to.equal(await staking.activeStakeOf(1));
    });

    it("a slash in the middle of a settlement counts: no more is in flight after it than is active", async () => {
      const { staking } = market.licet;
      // A hundred times dearer than the market's plan, so that one entry can fill the stake.
      const planId = await addPlan(market, { rates: { ...zeroUsage(), inputTokens: usd(100) } });
      const large = await buyLicense(market, usd(20_000), { planId });
      const day = async (tokens: bigint) =>
        settle(market, [entryOf(large, { ...zeroUsage(), inputTokens: tokens })], { planId, availabilityBps: 9_500 });
      await day(10_000n);
      await time.increase(DAY);
      await day(10_000n);
      await time.increase(DAY);
      // Each of the two charged 90 cents; the third breach slashes 100 dollars.
      await expect(day(110_000_000n))
        .to.be.revertedWithCustomError(staking, "InFlightAboveActiveStake")
        .withArgs(1, usd(1.8) + usd(9_900), usd(9_900));
      await day(109_980_000n);
      const { inFlight, active } = await staking.poolOf(1);
      expect([inFlight, active]).to.deep.equal([usd(9_900), usd(9_900)]);
    });

    it("an operator in jail can't be chosen, neither by a purchase nor by a change that was announced before", async () => {
      const { staking } = market.licet;
      const rival = await addOperator(market, market.payees[4], usd(100));
      const owner = escrow.connect(market.licensee);
      await owner.changeService(licenseId, rival, false);
      const bait = await buyLicense(market, usd(100), { operatorId: rival });
      for (let day = 0; day < 3; day += 1) {
        await time.increase(DAY);
        await settle(market, [entryOf(bait)], { operatorId: rival, availabilityBps: 0 });
      }
      expect(await staking.statusOf(rival)).to.equal(OperatorStatus.Jailed);
      await time.increase(HOUR);

      for (const act of [
        () => escrow.applyServiceChange(licenseId),
        () => owner.changeService(licenseId, rival, true),
        () => buyLicense(market, 0n, { operatorId: rival }),
      ]) {
        await expect(act()).to.be.revertedWithCustomError(escrow, "OperatorInJail").withArgs(rival);
      }
      await time.increase(7 * DAY);
      await escrow.applyServiceChange(licenseId);
      expect((await escrow.accountOf(licenseId)).operatorId).to.equal(rival);
    });

    it("an operator in jail earns no bonus, and what it served settles all the same", async () => {
      for (let day = 0; day < 3; day += 1) {
        await time.increase(DAY);
        await settle(market, [entryOf(licenseId)], { availabilityBps: 0 });
      }
      const { batchId } = await settle(market, [worth(licenseId, 10)]);
      const { charged, earnsBonus } = await escrow.batchOf(batchId);
      expect([charged, earnsBonus]).to.deep.equal([usd(10), false]);
    });
    it("a first staker can't make the shares of the next dear by a donation", async () => {
      const { staking, currency } = market.licet;
      const owner = market.payees[4];
      const operatorId = await addOperator(market, owner, 1n);
      await currency.mint(staking, usd(1_000_000));
      await currency.mint(owner, usd(3));
      await currency.connect(owner).approve(staking, usd(3));
      await staking.connect(owner).addStake(operatorId, usd(3), ...ANY_SHARES);
      const { shares } = await staking.poolOf(operatorId);
      await staking.connect(owner).thaw(operatorId, shares);
      await time.increase(STAKE_THAW + 1);
      await expect(staking.connect(owner).withdraw(operatorId, owner)).to.changeTokenBalance(
        currency,
        owner,
        usd(3) + 1n,
      );
    });

    it("an operator can't step out of a slash by thawing before it", async () => {
      const { staking, currency } = market.licet;
      const { shares } = await staking.poolOf(1);
      await staking.connect(market.operator).thaw(1, shares);
      await time.increase(STAKE_THAW + 1);
      await staking.connect(market.slasher).slash(1, usd(4_000), market.treasury);
      await expect(staking.connect(market.operator).withdraw(1, market.operator)).to.changeTokenBalance(
        currency,
        market.operator,
        usd(6_000),
      );
    });
  });
});

const noDiscounts = {
  availabilityFloorBps: 0,
  availabilityDiscountBps: 0,
  severeAvailabilityFloorBps: 0,
  severeAvailabilityDiscountBps: 0,
  ttftCeilingMs: 0,
  ttftDiscountBps: 0,
  severeTtftCeilingMs: 0,
  severeTtftDiscountBps: 0,
};

const zeroHeader = {
  operatorId: 1,
  planId: 1,
  versionId: 1n,
  sequence: 1n,
  epochStart: 1,
  epochEnd: 2,
  root: id("root"),
  count: 1n,
  ...zeroUsage(),
  availabilityBps: 1,
  p95TtftMs: 1,
  samples: 1,
  evidenceHash: id("evidence"),
};

/** A second deployment on the same chain, for the same people and the same currency. */
async function deployAgain(market: Market, parameters: ReturnType<typeof deploymentParameters>) {
  return deployLicet(hre, { ...parameters, currency: await market.licet.currency.getAddress() });
}

/** A market whose currency calls back. */
async function deployWithReentrantCurrency(): Promise<Market> {
  const currency = await hre.ethers.deployContract("ReentrantCurrency");
  return deployMarket({ currency: await currency.getAddress() });
}
