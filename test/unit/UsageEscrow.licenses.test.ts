import { loadFixture, time } from "@nomicfoundation/hardhat-network-helpers";
import { expect } from "chai";
import type { Signer } from "ethers";
import {
  addOperator,
  addPlan,
  batchOf,
  buyLicense,
  DAY,
  deployMarket,
  HOUR,
  LicenseStatus,
  proofBy,
  settle,
  STOP_GRACE,
  structOf,
  usd,
  WAIT,
  worth,
  type Market,
} from "../support/market";

const TERM = 30 * DAY;
const MINIMUM = usd(100);
const NONE = 99n;

describe("UsageEscrow", () => {
  let market: Market;
  /** As the licensee. */
  let escrow: Market["licet"]["escrow"];
  /** A plan with a minimum, whose licenses may be sold, and a license under it with 300 USD. */
  let planId: number;
  let licenseId: bigint;
  let boughtAt: number;
  let expiresAt: number;

  beforeEach(async () => {
    market = await loadFixture(deployWithMinimum);
    escrow = market.licet.escrow.connect(market.licensee);
    planId = Number(await market.licet.licenses.planCount());
    licenseId = await market.licet.licenses.licenseCount();
    expiresAt = Number((await escrow.accountOf(licenseId)).expiresAt);
    boughtAt = expiresAt - TERM;
  });

  const accountOf = async (id = licenseId) => structOf(await escrow.accountOf(id)) as Record<string, bigint | boolean>;
  const balanceOf = async (id = licenseId) => (await escrow.accountOf(id)).balance;
  const statusOf = (id = licenseId) => escrow.statusOf(id);
  /** Another operator who serves the plan. */
  const addRival = async () => {
    const rival = await addOperator(market, market.payees[4], usd(100));
    await market.licet.operators.connect(market.payees[4]).setServed(rival, planId, true);
    return rival;
  };
  const transfer = (to = market.outsider) =>
    market.licet.licenses.connect(market.licensee).transferFrom(market.licensee, to, licenseId);
  const recall = () => market.licet.assets.connect(market.publisher).recall(market.versionId);
  /** Has an operator breach three days in a row. */
  const jail = async (operatorId: number) => {
    const bait = await buyLicense(market, usd(10), { operatorId });
    for (let day = 0; day < 3; day += 1) {
      await time.increase(DAY);
      await settle(market, [worth(bait, 1)], { operatorId, availabilityBps: 0 });
    }
  };
  /** Use of `dollars` between two times, settled now. */
  const settleBetween = async (epochStart: number, epochEnd: number, dollars: number, id = licenseId) => {
    const { header, entries } = await batchOf(market, [worth(id, dollars)], { planId, epochStart, epochEnd });
    const [, , outcomes] = await escrow.previewSettle(header, entries);
    await escrow.settle(header, entries, proofBy(await escrow.batchIdOf(header)));
    return outcomes;
  };
  const expectUnfit = async (call: Promise<unknown>, status: number, id = licenseId) =>
    expect(call).to.be.revertedWithCustomError(escrow, "LicenseStatusUnfit").withArgs(id, status);

  const ownersActs: [string, (id: bigint, by: Signer) => Promise<unknown>][] = [
    ["changeService", (id, by) => escrow.connect(by).changeService(id, 1, true)],
    ["setRenewal", (id, by) => escrow.connect(by).setRenewal(id, false)],
    ["lock", (id, by) => escrow.connect(by).lock(id)],
    ["unlock", (id, by) => escrow.connect(by).unlock(id)],
    ["end", (id, by) => escrow.connect(by).end(id)],
  ];
  for (const [name, act] of ownersActs) {
    describe(name, () => {
      describe("when the caller isn't the license's owner", () => {
        it("reverts with CallerNotOwner, for whom the owner approved, too", async () => {
          await market.licet.licenses.connect(market.licensee).approve(market.outsider, licenseId);
          for (const caller of [market.outsider, market.operator, market.publisher, market.governor]) {
            await expect(act(licenseId, caller))
              .to.be.revertedWithCustomError(escrow, "CallerNotOwner")
              .withArgs(licenseId, caller.address);
          }
        });
      });

      describe("when there is no such license", () => {
        it("reverts with CallerNotOwner", async () => {
          await expect(act(NONE, market.licensee))
            .to.be.revertedWithCustomError(escrow, "CallerNotOwner")
            .withArgs(NONE, market.licensee.address);
        });
      });
    });
  }

  describe("changeService", () => {
    describe("when the license is locked, ended or closed", () => {
      it("reverts with LicenseStatusUnfit", async () => {
        await escrow.lock(licenseId);
        await expectUnfit(escrow.changeService(licenseId, 1, true), LicenseStatus.Locked);
        await time.increase(STOP_GRACE + WAIT);
        await expectUnfit(escrow.changeService(licenseId, 1, true), LicenseStatus.Movable);
        await escrow.unlock(licenseId);
        await escrow.end(licenseId);
        await expectUnfit(escrow.changeService(licenseId, 1, true), LicenseStatus.Ended);
        await time.increase(STOP_GRACE + WAIT);
        await escrow.closeTerm(licenseId);
        await expectUnfit(escrow.changeService(licenseId, 1, true), LicenseStatus.Closed);
      });
    });

    describe("when another operator doesn't serve the plan", () => {
      it("reverts with PlanNotServed", async () => {
        const stranger = await addOperator(market, market.payees[4], usd(100));
        for (const operatorId of [stranger, 77, 0]) {
          await expect(escrow.changeService(licenseId, operatorId, false))
            .to.be.revertedWithCustomError(escrow, "PlanNotServed")
            .withArgs(operatorId, planId);
        }
      });
    });

    describe("when another operator is in jail", () => {
      it("reverts with OperatorInJail", async () => {
        const rival = await addRival();
        await jail(rival);
        await expect(escrow.changeService(licenseId, rival, false))
          .to.be.revertedWithCustomError(escrow, "OperatorInJail")
          .withArgs(rival);
      });
    });

    describe("when all is well", () => {
      it("announces operator and road, and leaves those that are in force", async () => {
        const rival = await addRival();
        const before = await accountOf();
        await escrow.changeService(licenseId, rival, true);
        expect(await accountOf()).to.deep.equal({
          ...before,
          nextOperatorId: BigInt(rival),
          nextOnVoucherRoad: true,
          serviceChangeReadyAt: BigInt((await time.latest()) + WAIT),
        });
      });

      it("emits ServiceChangeStarted", async () => {
        const rival = await addRival();
        const now = (await time.latest()) + 10;
        await time.setNextBlockTimestamp(now);
        await expect(escrow.changeService(licenseId, rival, true))
          .to.emit(escrow, "ServiceChangeStarted")
          .withArgs(licenseId, rival, true, now + WAIT);
      });

      it("changes the road alone at an operator that has stopped to serve the plan since, and is in jail", async () => {
        await jail(1);
        await market.licet.operators.connect(market.operator).setServed(1, planId, false);
        await escrow.changeService(licenseId, 1, true);
        const { nextOperatorId, nextOnVoucherRoad } = await accountOf();
        expect([nextOperatorId, nextOnVoucherRoad]).to.deep.equal([1n, true]);
      });

      it("is for a license that has lapsed, too", async () => {
        await time.increaseTo(expiresAt);
        await escrow.changeService(licenseId, 1, true);
        expect((await accountOf()).nextOnVoucherRoad).to.equal(true);
      });
    });

    describe("when a change was announced", () => {
      it("replaces it by another, and the wait starts anew", async () => {
        const rival = await addRival();
        await escrow.changeService(licenseId, 1, true);
        await time.increase(WAIT - 10);
        await escrow.changeService(licenseId, rival, false);
        const readyAt = (await time.latest()) + WAIT;
        await time.increase(60);
        await expect(escrow.applyServiceChange(licenseId))
          .to.be.revertedWithCustomError(escrow, "ServiceChangeRunning")
          .withArgs(licenseId, readyAt);
      });

      it("takes it back by the present operator and road, and emits ServiceChanged", async () => {
        const before = await accountOf();
        await escrow.changeService(licenseId, 1, true);
        await expect(escrow.changeService(licenseId, 1, false))
          .to.emit(escrow, "ServiceChanged")
          .withArgs(licenseId, 1, false);
        expect(await accountOf()).to.deep.equal(before);
      });
    });
  });

  describe("applyServiceChange", () => {
    describe("when none was announced", () => {
      it("reverts with ServiceChangeNone", async () => {
        for (const id of [licenseId, NONE]) {
          await expect(escrow.applyServiceChange(id))
            .to.be.revertedWithCustomError(escrow, "ServiceChangeNone")
            .withArgs(id);
        }
      });
    });

    describe("when use by the present operator may still settle", () => {
      it("reverts with ServiceChangeRunning, up to the very second in which it may", async () => {
        await escrow.changeService(licenseId, 1, true);
        const readyAt = (await time.latest()) + WAIT;
        await time.setNextBlockTimestamp(readyAt);
        await expect(escrow.applyServiceChange(licenseId))
          .to.be.revertedWithCustomError(escrow, "ServiceChangeRunning")
          .withArgs(licenseId, readyAt);
        await time.setNextBlockTimestamp(readyAt + 1);
        await escrow.applyServiceChange(licenseId);
      });
    });

    describe("when the operator has stopped to serve the plan, or is in jail, since", () => {
      it("reverts with PlanNotServed or OperatorInJail, and goes on once that is over", async () => {
        const rival = await addRival();
        await escrow.changeService(licenseId, rival, false);
        await jail(rival);
        await time.increase(HOUR);
        await market.licet.operators.connect(market.payees[4]).setServed(rival, planId, false);
        await expect(escrow.applyServiceChange(licenseId))
          .to.be.revertedWithCustomError(escrow, "PlanNotServed")
          .withArgs(rival, planId);
        await market.licet.operators.connect(market.payees[4]).setServed(rival, planId, true);
        await expect(escrow.applyServiceChange(licenseId))
          .to.be.revertedWithCustomError(escrow, "OperatorInJail")
          .withArgs(rival);
        await time.increase(7 * DAY);
        await escrow.applyServiceChange(licenseId);
      });
    });

    describe("when all is well", () => {
      it("puts operator and road in force, once, whoever calls, and touches nothing else", async () => {
        const rival = await addRival();
        const before = await accountOf();
        await escrow.changeService(licenseId, rival, true);
        await time.increase(WAIT + 1);
        await escrow.connect(market.outsider).applyServiceChange(licenseId);
        expect(await accountOf()).to.deep.equal({ ...before, operatorId: BigInt(rival), onVoucherRoad: true });
        await expect(escrow.applyServiceChange(licenseId))
          .to.be.revertedWithCustomError(escrow, "ServiceChangeNone")
          .withArgs(licenseId);
      });

      it("emits ServiceChanged", async () => {
        await escrow.changeService(licenseId, 1, true);
        await time.increase(WAIT + 1);
        await expect(escrow.applyServiceChange(licenseId))
          .to.emit(escrow, "ServiceChanged")
          .withArgs(licenseId, 1, true);
      });
    });
  });

  describe("setRenewal", () => {
    describe("when the license is over", () => {
      it("reverts with LicenseStatusUnfit: who let it end can't take that back", async () => {
        await escrow.setRenewal(licenseId, false);
        await time.increaseTo(expiresAt);
        await expectUnfit(escrow.setRenewal(licenseId, true), LicenseStatus.Ended);
        await time.increase(WAIT);
        await escrow.closeTerm(licenseId);
        await expectUnfit(escrow.setRenewal(licenseId, true), LicenseStatus.Closed);
      });
    });

    describe("when the plan has no minimum, so that renewing costs nothing", () => {
      it("reverts with MinimumNone", async () => {
        const free = await buyLicense(market, 0n);
        await expect(escrow.setRenewal(free, false))
          .to.be.revertedWithCustomError(escrow, "MinimumNone")
          .withArgs(free);
      });
    });

    describe("when all is well", () => {
      it("says so and unsays it, and touches nothing else", async () => {
        const before = await accountOf();
        await escrow.setRenewal(licenseId, false);
        expect(await accountOf()).to.deep.equal({ ...before, renews: false });
        await escrow.setRenewal(licenseId, true);
        expect(await accountOf()).to.deep.equal(before);
      });

      it("emits RenewalSet", async () => {
        for (const renews of [false, true]) {
          await expect(escrow.setRenewal(licenseId, renews)).to.emit(escrow, "RenewalSet").withArgs(licenseId, renews);
        }
      });

      it("binds while it runs, has lapsed, or is locked", async () => {
        await time.increaseTo(expiresAt);
        await escrow.lock(licenseId);
        await escrow.setRenewal(licenseId, false);
        await escrow.setRenewal(licenseId, true);
        await escrow.unlock(licenseId);
        expect(await statusOf()).to.equal(LicenseStatus.Lapsed);
        await escrow.setRenewal(licenseId, false);
        expect(await statusOf()).to.equal(LicenseStatus.Ended);
      });
    });
  });

  describe("lock", () => {
    describe("when the license is locked or over", () => {
      it("reverts with LicenseStatusUnfit", async () => {
        await escrow.lock(licenseId);
        await expectUnfit(escrow.lock(licenseId), LicenseStatus.Locked);
        await time.increase(STOP_GRACE + WAIT);
        await expectUnfit(escrow.lock(licenseId), LicenseStatus.Movable);
        await escrow.unlock(licenseId);
        await escrow.end(licenseId);
        await expectUnfit(escrow.lock(licenseId), LicenseStatus.Ended);
      });
    });

    describe("when its plan lets no license be transferred", () => {
      it("reverts with LicenseNotTransferable", async () => {
        const own = await buyLicense(market, 0n);
        await expect(escrow.lock(own)).to.be.revertedWithCustomError(escrow, "LicenseNotTransferable").withArgs(own);
      });
    });

    describe("when a thaw is open", () => {
      it("reverts with ThawOpen, after its wait, too", async () => {
        await escrow.thaw(licenseId, usd(7));
        for (const wait of [0, WAIT + 1]) {
          await time.increase(wait + 1);
          await expect(escrow.lock(licenseId))
            .to.be.revertedWithCustomError(escrow, "ThawOpen")
            .withArgs(licenseId, usd(7));
        }
      });
    });

    describe("when all is well", () => {
      it("stops new use in an hour, and touches nothing else of the account", async () => {
        const before = await accountOf();
        await escrow.lock(licenseId);
        const stoppedAt = BigInt((await time.latest()) + STOP_GRACE);
        expect(await accountOf()).to.deep.equal({ ...before, stoppedAt });
      });

      it("lets it be moved once the last use could have settled", async () => {
        await escrow.lock(licenseId);
        const movableAt = (await time.latest()) + STOP_GRACE + WAIT;
        expect(await market.licet.licenses.movableAt(licenseId)).to.equal(movableAt);
        await time.increaseTo(movableAt);
        expect(await statusOf()).to.equal(LicenseStatus.Locked);
        await time.increaseTo(movableAt + 1);
        expect(await statusOf()).to.equal(LicenseStatus.Movable);
        await transfer();
        expect(await market.licet.licenses.ownerOf(licenseId)).to.equal(market.outsider.address);
        expect(await statusOf()).to.equal(LicenseStatus.Locked);
      });

      it("forgets an announced operator or road", async () => {
        await escrow.changeService(licenseId, 1, true);
        await escrow.lock(licenseId);
        expect((await accountOf()).serviceChangeReadyAt).to.equal(0);
        await expect(escrow.applyServiceChange(licenseId))
          .to.be.revertedWithCustomError(escrow, "ServiceChangeNone")
          .withArgs(licenseId);
      });

      it("emits LicenseLocked and LicenseMovable", async () => {
        const now = (await time.latest()) + 10;
        const movableAt = now + STOP_GRACE + WAIT;
        await time.setNextBlockTimestamp(now);
        await expect(escrow.lock(licenseId))
          .to.emit(escrow, "LicenseLocked")
          .withArgs(licenseId, now + STOP_GRACE, movableAt)
          .and.to.emit(market.licet.licenses, "LicenseMovable")
          .withArgs(licenseId, movableAt);
      });

      it("keeps money in: it takes deposits, and no thaw", async () => {
        await escrow.lock(licenseId);
        await escrow.deposit(licenseId, usd(1));
        expect(await balanceOf()).to.equal(usd(301));
        await expectUnfit(escrow.thaw(licenseId, 1), LicenseStatus.Locked);
      });

      it("goes beside an ended term that isn't closed", async () => {
        await time.increaseTo(expiresAt);
        await escrow.renew(licenseId);
        await escrow.lock(licenseId);
        const { stoppedAt, endedAt } = await accountOf();
        expect([stoppedAt, endedAt]).to.deep.equal([BigInt((await time.latest()) + STOP_GRACE), BigInt(expiresAt)]);
        await time.increase(STOP_GRACE + WAIT + 1);
        await escrow.closeTerm(licenseId);
        expect(await statusOf()).to.equal(LicenseStatus.Movable);
      });
    });
  });

  describe("unlock", () => {
    describe("when the caller has sold it", () => {
      it("reverts with CallerNotOwner", async () => {
        await escrow.lock(licenseId);
        await time.increase(STOP_GRACE + WAIT + 1);
        await transfer();
        await expect(escrow.unlock(licenseId))
          .to.be.revertedWithCustomError(escrow, "CallerNotOwner")
          .withArgs(licenseId, market.licensee.address);
        await escrow.connect(market.outsider).unlock(licenseId);
      });
    });

    describe("when it isn't locked", () => {
      it("reverts with LicenseStatusUnfit", async () => {
        await expectUnfit(escrow.unlock(licenseId), LicenseStatus.Running);
        await escrow.end(licenseId);
        await expectUnfit(escrow.unlock(licenseId), LicenseStatus.Ended);
      });
    });

    describe("when all is well", () => {
      it("leaves the account as it was before the lock, and the license where it is", async () => {
        const before = await accountOf();
        await escrow.lock(licenseId);
        await time.increase(STOP_GRACE + WAIT + 1);
        await escrow.unlock(licenseId);
        expect(await accountOf()).to.deep.equal(before);
        expect(await statusOf()).to.equal(LicenseStatus.Running);
        await expect(transfer())
          .to.be.revertedWithCustomError(market.licet.licenses, "LicenseNotMovable")
          .withArgs(licenseId, 0);
      });

      it("emits LicenseUnlocked and LicenseMovable", async () => {
        await escrow.lock(licenseId);
        await expect(escrow.unlock(licenseId))
          .to.emit(escrow, "LicenseUnlocked")
          .withArgs(licenseId)
          .and.to.emit(market.licet.licenses, "LicenseMovable")
          .withArgs(licenseId, 0);
      });

      it("keeps an ended term that isn't closed, and what was spent in it", async () => {
        await settle(market, [worth(licenseId, 30)], { planId });
        await time.increaseTo(expiresAt);
        await escrow.renew(licenseId);
        const before = await accountOf();
        await escrow.lock(licenseId);
        await escrow.unlock(licenseId);
        expect(await accountOf()).to.deep.equal(before);
        await settleBetween(expiresAt - HOUR, expiresAt, 20);
        expect((await accountOf()).endedSpent).to.equal(usd(50));
      });
    });
  });

  describe("end", () => {
    describe("when the license is locked or over", () => {
      it("reverts with LicenseStatusUnfit", async () => {
        await escrow.lock(licenseId);
        await expectUnfit(escrow.end(licenseId), LicenseStatus.Locked);
        await escrow.unlock(licenseId);
        await escrow.end(licenseId);
        await expectUnfit(escrow.end(licenseId), LicenseStatus.Ended);
        await time.increase(STOP_GRACE + WAIT);
        await escrow.closeTerm(licenseId);
        await expectUnfit(escrow.end(licenseId), LicenseStatus.Closed);
      });
    });

    describe("when all is well", () => {
      it("stops new use in an hour for ever, and touches nothing else of the account", async () => {
        const before = await accountOf();
        await escrow.end(licenseId);
        const stoppedAt = BigInt((await time.latest()) + STOP_GRACE);
        expect(await accountOf()).to.deep.equal({ ...before, stoppedAt, isEnded: true });
        expect(await statusOf()).to.equal(LicenseStatus.Ended);
      });

      it("emits LicenseEnded", async () => {
        const now = (await time.latest()) + 10;
        await time.setNextBlockTimestamp(now);
        await expect(escrow.end(licenseId))
          .to.emit(escrow, "LicenseEnded")
          .withArgs(licenseId, now + STOP_GRACE);
      });

      it("refuses deposits and renewal, and lets money out, less what the term still owes", async () => {
        await escrow.end(licenseId);
        await expectUnfit(escrow.deposit(licenseId, 1), LicenseStatus.Ended);
        await expectUnfit(escrow.renew(licenseId), LicenseStatus.Ended);
        await escrow.thaw(licenseId, usd(300));
        expect(await escrow.committedOf(licenseId)).to.equal(MINIMUM);
      });
    });

    describe("when its term is over and closed", () => {
      it("is closed at once", async () => {
        await time.increaseTo(expiresAt + WAIT + 1);
        await escrow.closeTerm(licenseId);
        expect(await statusOf()).to.equal(LicenseStatus.Lapsed);
        await escrow.end(licenseId);
        expect(await statusOf()).to.equal(LicenseStatus.Closed);
      });
    });

    describe("when its plan has no minimum", () => {
      it("closes by time, once its last use could have settled", async () => {
        const free = await buyLicense(market, usd(5));
        await escrow.end(free);
        const closesAt = (await time.latest()) + STOP_GRACE + WAIT;
        await time.increaseTo(closesAt);
        expect(await statusOf(free)).to.equal(LicenseStatus.Ended);
        await time.increaseTo(closesAt + 1);
        expect(await statusOf(free)).to.equal(LicenseStatus.Closed);
      });

      it("closes by its term's end where that comes first, if the plan isn't renewable", async () => {
        const oneTerm = await addPlan(market, { renewable: false });
        const free = await buyLicense(market, usd(5), { planId: oneTerm });
        const end = Number((await escrow.accountOf(free)).expiresAt);
        await time.setNextBlockTimestamp(end - 60);
        await escrow.end(free);
        await time.increaseTo(end + WAIT);
        expect(await statusOf(free)).to.equal(LicenseStatus.Ended);
        await time.increaseTo(end + WAIT + 1);
        expect(await statusOf(free)).to.equal(LicenseStatus.Closed);
      });
    });
  });

  describe("renew", () => {
    const renew = (by: Signer = market.outsider) => escrow.connect(by).renew(licenseId);

    describe("when the license isn't one whose term is over", () => {
      it("reverts with LicenseStatusUnfit", async () => {
        await expectUnfit(escrow.renew(NONE), LicenseStatus.None, NONE);
        await expectUnfit(renew(), LicenseStatus.Running);
        await escrow.lock(licenseId);
        await time.increaseTo(expiresAt);
        await expectUnfit(renew(), LicenseStatus.Movable);
        await escrow.unlock(licenseId);
        await escrow.setRenewal(licenseId, false);
        await expectUnfit(renew(), LicenseStatus.Ended);
      });

      it("reverts with LicenseStatusUnfit for plans whose licenses renew by themselves, or not at all", async () => {
        const free = await buyLicense(market, 0n);
        const oneTerm = await addPlan(market, { renewable: false, minimumSpend: MINIMUM });
        const once = await buyLicense(market, MINIMUM, { planId: oneTerm });
        await time.increase(TERM);
        await expectUnfit(escrow.renew(free), LicenseStatus.Running, free);
        await expectUnfit(escrow.renew(once), LicenseStatus.Ended, once);
      });
    });

    describe("when the caller isn't the owner, and it is late, or a version was recalled", () => {
      it("reverts with RenewalForOwner from an epoch after the term's end on", async () => {
        await time.setNextBlockTimestamp(expiresAt + DAY + 1);
        await expect(renew()).to.be.revertedWithCustomError(escrow, "RenewalForOwner").withArgs(licenseId);
        await renew(market.licensee);
      });

      it("renews in the last second of that epoch", async () => {
        await time.setNextBlockTimestamp(expiresAt + DAY);
        await renew();
        expect((await accountOf()).expiresAt).to.equal(expiresAt + TERM);
      });

      it("reverts with RenewalForOwner when a recall takes effect in the ended term or the next", async () => {
        await time.increaseTo(expiresAt - DAY);
        await recall();
        await time.setNextBlockTimestamp(expiresAt);
        await expect(renew()).to.be.revertedWithCustomError(escrow, "RenewalForOwner").withArgs(licenseId);
        await renew(market.licensee);
      });
    });

    describe("when the term before the one that is over isn't closed", () => {
      it("closes it, and so renews term after term", async () => {
        await time.increaseTo(expiresAt);
        await renew();
        await escrow.deposit(licenseId, usd(1_000));
        await time.increaseTo(expiresAt + TERM);
        await expect(renew())
          .to.emit(escrow, "TermClosed")
          .withArgs(licenseId, market.assetId, expiresAt, MINIMUM, MINIMUM / 100n);
        expect(await accountOf()).to.include({ term: 2n, endedAt: BigInt(expiresAt + TERM) });
      });
    });

    describe("when what is there doesn't cover the next minimum", () => {
      it("reverts with MinimumNotCovered: less what thaws and what the ended term still owes", async () => {
        await settle(market, [worth(licenseId, 40)], { planId });
        await escrow.thaw(licenseId, usd(101));
        await time.increaseTo(expiresAt);
        // 260, less 101 that thaw, less 60 that are missing to the minimum.
        await expect(renew()).to.be.revertedWithCustomError(escrow, "MinimumNotCovered").withArgs(usd(99), MINIMUM);
        await escrow.thaw(licenseId, usd(100));
        await renew();
      });

      it("says 0 where more is taken than there is", async () => {
        await escrow.thaw(licenseId, usd(300));
        await time.increaseTo(expiresAt);
        await expect(renew()).to.be.revertedWithCustomError(escrow, "MinimumNotCovered").withArgs(0, MINIMUM);
      });

      it("owes nothing more of a term that is closed", async () => {
        await time.increaseTo(expiresAt + WAIT + 1);
        await escrow.closeTerm(licenseId);
        await escrow.thaw(licenseId, usd(101));
        await expect(renew(market.licensee))
          .to.be.revertedWithCustomError(escrow, "MinimumNotCovered")
          .withArgs(usd(99), MINIMUM);
        await escrow.thaw(licenseId, usd(100));
        await renew(market.licensee);
      });
    });

    describe("when all is well", () => {
      it("starts the next term where the last ended, and puts that one aside", async () => {
        await settle(market, [worth(licenseId, 40)], { planId });
        const before = await accountOf();
        await time.increaseTo(expiresAt);
        await renew();
        expect(await accountOf()).to.deep.equal({
          ...before,
          spent: 0n,
          term: 1n,
          expiresAt: BigInt(expiresAt + TERM),
          endedAt: BigInt(expiresAt),
          endedSpent: usd(40),
        });
        expect(await statusOf()).to.equal(LicenseStatus.Running);
      });

      it("starts it now when its owner renews late", async () => {
        await time.setNextBlockTimestamp(expiresAt + DAY + 1);
        await renew(market.licensee);
        const account = await accountOf();
        expect([account.term, account.expiresAt, account.endedAt]).to.deep.equal([
          1n,
          BigInt(expiresAt + DAY + 1 + TERM),
          BigInt(expiresAt),
        ]);
      });

      it("puts no term aside that was closed before", async () => {
        await time.increaseTo(expiresAt + WAIT + 1);
        await escrow.closeTerm(licenseId);
        await renew(market.licensee);
        const { isClosed, endedAt, term } = await accountOf();
        expect([isClosed, endedAt, term]).to.deep.equal([false, 0n, 1n]);
      });

      it("emits TermRenewed", async () => {
        await time.increaseTo(expiresAt);
        await expect(renew())
          .to.emit(escrow, "TermRenewed")
          .withArgs(licenseId, 1, expiresAt + TERM);
      });
    });
  });

  describe("closeTerm", () => {
    const earned = () => escrow.assetIncomeOf(market.assetId);

    describe("when there is no such license", () => {
      it("reverts with LicenseStatusUnfit", async () => {
        await expectUnfit(escrow.closeTerm(NONE), LicenseStatus.None, NONE);
      });
    });

    describe("when its plan has no minimum", () => {
      it("reverts with MinimumNone", async () => {
        const free = await buyLicense(market, 0n);
        await expect(escrow.closeTerm(free)).to.be.revertedWithCustomError(escrow, "MinimumNone").withArgs(free);
      });
    });

    describe("when the term was closed before", () => {
      it("reverts with TermClosedBefore", async () => {
        await time.increaseTo(expiresAt + WAIT + 1);
        await escrow.closeTerm(licenseId);
        await expect(escrow.closeTerm(licenseId))
          .to.be.revertedWithCustomError(escrow, "TermClosedBefore")
          .withArgs(licenseId);
      });
    });

    describe("when use of the term may still settle", () => {
      it("reverts with TermOpen up to the very second in which it may", async () => {
        for (const at of [boughtAt + DAY, expiresAt, expiresAt + WAIT]) {
          await time.setNextBlockTimestamp(at);
          await expect(escrow.closeTerm(licenseId))
            .to.be.revertedWithCustomError(escrow, "TermOpen")
            .withArgs(licenseId, expiresAt + WAIT);
        }
        await time.setNextBlockTimestamp(expiresAt + WAIT + 1);
        await escrow.closeTerm(licenseId);
      });

      it("reverts with TermOpen a wait after a license's end, if that comes before its term's", async () => {
        await escrow.end(licenseId);
        const closableAt = (await time.latest()) + STOP_GRACE + WAIT;
        await time.setNextBlockTimestamp(closableAt);
        await expect(escrow.closeTerm(licenseId))
          .to.be.revertedWithCustomError(escrow, "TermOpen")
          .withArgs(licenseId, closableAt);
        await escrow.closeTerm(licenseId);
      });

      it("reverts with TermOpen a wait after the term's end, if the license's end comes after it", async () => {
        await time.setNextBlockTimestamp(expiresAt - 60);
        await escrow.end(licenseId);
        await time.setNextBlockTimestamp(expiresAt + WAIT);
        await expect(escrow.closeTerm(licenseId))
          .to.be.revertedWithCustomError(escrow, "TermOpen")
          .withArgs(licenseId, expiresAt + WAIT);
        await escrow.closeTerm(licenseId);
      });

      it("reverts with TermOpen of the older one, where two are open", async () => {
        await time.increaseTo(expiresAt);
        await escrow.renew(licenseId);
        await expect(escrow.closeTerm(licenseId))
          .to.be.revertedWithCustomError(escrow, "TermOpen")
          .withArgs(licenseId, expiresAt + WAIT);
        await time.increaseTo(expiresAt + WAIT + 1);
        await escrow.closeTerm(licenseId);
        await expect(escrow.closeTerm(licenseId))
          .to.be.revertedWithCustomError(escrow, "TermOpen")
          .withArgs(licenseId, expiresAt + TERM + WAIT);
      });
    });

    describe("when all is well", () => {
      it("charges what is missing to the minimum to the account, for the publisher, less the fee of the day", async () => {
        await settle(market, [worth(licenseId, 40)], { planId });
        await escrow.connect(market.governor).setFee(500);
        await time.increaseTo(expiresAt + WAIT + 1);
        expect(await escrow.closeTerm.staticCall(licenseId)).to.equal(usd(60));
        await expect(escrow.connect(market.outsider).closeTerm(licenseId)).to.changeTokenBalance(
          market.licet.currency,
          escrow,
          0,
        );
        expect(await balanceOf()).to.equal(usd(200));
        expect(await earned()).to.equal(usd(57));
        expect(await escrow.protocolFees()).to.equal(usd(3));
      });

      it("marks the term as closed, and touches nothing else but the balance", async () => {
        const before = await accountOf();
        await time.increaseTo(expiresAt + WAIT + 1);
        await escrow.closeTerm(licenseId);
        expect(await accountOf()).to.deep.equal({ ...before, balance: usd(200), isClosed: true });
        expect(await escrow.committedOf(licenseId)).to.equal(0);
      });

      it("clears a term that stands aside, and leaves the running one", async () => {
        await time.increaseTo(expiresAt);
        await escrow.renew(licenseId);
        await settleBetween(expiresAt - HOUR, expiresAt, 30);
        const before = await accountOf();
        await time.increaseTo(expiresAt + WAIT + 1);
        await escrow.closeTerm(licenseId);
        expect(await accountOf()).to.deep.equal({ ...before, balance: usd(200), endedAt: 0n, endedSpent: 0n });
      });

      it("emits TermClosed", async () => {
        await settle(market, [worth(licenseId, 40)], { planId });
        await time.increaseTo(expiresAt + WAIT + 1);
        await expect(escrow.closeTerm(licenseId))
          .to.emit(escrow, "TermClosed")
          .withArgs(licenseId, market.assetId, expiresAt, usd(60), usd(0.6));
      });

      it("pays the model, whoever owns it", async () => {
        await market.licet.assets.connect(market.publisher).transferFrom(market.publisher, market.outsider, 1);
        await time.increaseTo(expiresAt + WAIT + 1);
        await escrow.closeTerm(licenseId);
        expect(await earned()).to.equal(usd(99));
      });
    });

    describe("when the minimum was spent, or more", () => {
      it("charges nothing", async () => {
        await settle(market, [worth(licenseId, 100)], { planId });
        await time.increaseTo(expiresAt + WAIT + 1);
        await expect(escrow.closeTerm(licenseId))
          .to.emit(escrow, "TermClosed")
          .withArgs(licenseId, market.assetId, expiresAt, 0, 0);
        expect(await balanceOf()).to.equal(usd(200));
      });
    });

    describe("when less is there than is missing", () => {
      it("charges what is there", async () => {
        // Two terms' minimums, and late use of the first beyond its own.
        await time.increaseTo(expiresAt);
        await escrow.renew(licenseId);
        await settleBetween(expiresAt - HOUR, expiresAt, 270);
        await time.increaseTo(expiresAt + WAIT + 1);
        await escrow.closeTerm(licenseId);
        expect(await balanceOf()).to.equal(usd(30));
        await time.increaseTo(expiresAt + TERM + WAIT + 1);
        await expect(escrow.closeTerm(licenseId))
          .to.emit(escrow, "TermClosed")
          .withArgs(licenseId, market.assetId, expiresAt + TERM, usd(30), usd(0.3));
        expect(await balanceOf()).to.equal(0);
      });
    });

    describe("when a recall was announced and took effect in the term", () => {
      for (const [title, at, charged] of [
        ["charges nothing: at the term's start", 0, 0n],
        ["charges nothing: as late as a notice before its end", TERM - 7 * DAY - 1, 0n],
        ["charges all: so late that it takes effect in the next", TERM - 7 * DAY, MINIMUM],
      ] as const) {
        it(title, async () => {
          await time.increaseTo(boughtAt + DAY);
          if (at > DAY) await time.setNextBlockTimestamp(boughtAt + at);
          await recall();
          await time.increaseTo(expiresAt + WAIT + 1);
          expect(await escrow.closeTerm.staticCall(licenseId)).to.equal(charged);
        });
      }

      it("charges all when it was announced before the purchase", async () => {
        await recall();
        const informed = await buyLicense(market, MINIMUM, { planId });
        await time.increase(TERM + WAIT + 1);
        expect(await escrow.closeTerm.staticCall(informed)).to.equal(MINIMUM);
      });
    });
  });

  describe("committedOf", () => {
    it("is nothing for a license that doesn't exist, or without a minimum", async () => {
      const free = await buyLicense(market, usd(5));
      for (const id of [NONE, free]) expect(await escrow.committedOf(id)).to.equal(0);
    });

    it("is what is missing to the minimum of the running term, and of one that is over", async () => {
      expect(await escrow.committedOf(licenseId)).to.equal(MINIMUM);
      await settle(market, [worth(licenseId, 40)], { planId });
      expect(await escrow.committedOf(licenseId)).to.equal(usd(60));
      await time.increaseTo(expiresAt);
      expect(await escrow.committedOf(licenseId)).to.equal(usd(60));
      await escrow.renew(licenseId);
      expect(await escrow.committedOf(licenseId)).to.equal(usd(160));
      await settleBetween(expiresAt - HOUR, expiresAt, 100);
      expect(await escrow.committedOf(licenseId)).to.equal(MINIMUM);
    });

    it("is nothing of a term that is closed, or in which a recall takes effect", async () => {
      await time.increaseTo(boughtAt + HOUR);
      await recall();
      expect(await escrow.committedOf(licenseId)).to.equal(0);
    });
  });

  describe("withdraw of a license with a minimum", () => {
    describe("when all of it is committed", () => {
      it("reverts with ThawCommitted, and leaves the thaw as it was", async () => {
        const poor = await buyLicense(market, MINIMUM, { planId });
        await escrow.thaw(poor, MINIMUM);
        await time.increase(WAIT + 1);
        await expect(escrow.withdraw(poor, market.licensee))
          .to.be.revertedWithCustomError(escrow, "ThawCommitted")
          .withArgs(poor, MINIMUM, MINIMUM);
        expect((await accountOf(poor)).thawing).to.equal(MINIMUM);
      });
    });

    describe("when a part of it is", () => {
      it("sends the rest, and what is kept back stays ready, to leave as soon as it is free", async () => {
        await escrow.thaw(licenseId, usd(300));
        const readyAt = BigInt((await time.latest()) + WAIT);
        await time.increase(WAIT + 1);
        await expect(escrow.withdraw(licenseId, market.outsider))
          .to.emit(escrow, "Withdrawn")
          .withArgs(licenseId, market.outsider.address, usd(200));
        const { balance, thawing, thawReadyAt } = await accountOf();
        expect([balance, thawing, thawReadyAt]).to.deep.equal([usd(100), usd(100), readyAt]);

        await recall();
        await expect(escrow.withdraw(licenseId, market.licensee)).to.changeTokenBalance(
          market.licet.currency,
          market.licensee,
          usd(100),
        );
        expect((await accountOf()).thawing).to.equal(0);
      });

      it("keeps ready no more than is left in the account", async () => {
        await escrow.thaw(licenseId, usd(300));
        await settle(market, [worth(licenseId, 250)], { planId });
        await time.increase(WAIT);
        await escrow.withdraw(licenseId, market.licensee);
        const { balance, thawing } = await accountOf();
        expect([balance, thawing]).to.deep.equal([0n, 0n]);
      });
    });

    describe("when it leaves what is committed", () => {
      it("sends all of it", async () => {
        await escrow.thaw(licenseId, usd(200));
        await time.increase(WAIT + 1);
        await escrow.withdraw(licenseId, market.licensee);
        const { balance, thawing } = await accountOf();
        expect([balance, thawing]).to.deep.equal([usd(100), 0n]);
      });
    });
  });

  describe("statusOf", () => {
    it("is None for a license that doesn't exist", async () => {
      expect(await statusOf(NONE)).to.equal(LicenseStatus.None);
    });

    it("is Running until the second in which the term ends, then Lapsed where it could be renewed", async () => {
      await time.increaseTo(expiresAt - 1);
      expect(await statusOf()).to.equal(LicenseStatus.Running);
      await time.increaseTo(expiresAt);
      expect(await statusOf()).to.equal(LicenseStatus.Lapsed);
    });

    it("stays Running without a minimum, whatever its word says of its term", async () => {
      const free = await buyLicense(market, 0n);
      await time.increase(7 * TERM);
      expect(await statusOf(free)).to.equal(LicenseStatus.Running);
    });

    it("is Ended, and with time Closed, for a plan of one term without a minimum", async () => {
      const once = await buyLicense(market, 0n, { planId: await addPlan(market, { renewable: false }) });
      const end = Number((await escrow.accountOf(once)).expiresAt);
      await time.increaseTo(end);
      expect(await statusOf(once)).to.equal(LicenseStatus.Ended);
      await time.increaseTo(end + WAIT + 1);
      expect(await statusOf(once)).to.equal(LicenseStatus.Closed);
    });

    it("isn't Closed while a term that stands aside is open", async () => {
      await time.increaseTo(expiresAt);
      await escrow.renew(licenseId);
      await escrow.end(licenseId);
      await time.increase(STOP_GRACE + WAIT + 1);
      await escrow.closeTerm(licenseId);
      expect(await statusOf()).to.equal(LicenseStatus.Ended);
      await escrow.closeTerm(licenseId);
      expect(await statusOf()).to.equal(LicenseStatus.Closed);
    });
  });
});

/** A market with a plan that has a minimum and lets licenses be sold, and a license under it. */
async function deployWithMinimum(): Promise<Market> {
  const market = await deployMarket();
  const planId = await addPlan(market, { minimumSpend: MINIMUM, transferable: true });
  await buyLicense(market, usd(300), { planId });
  return market;
}
