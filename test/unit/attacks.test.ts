import { loadFixture, time } from "@nomicfoundation/hardhat-network-helpers";
import { expect } from "chai";
import { id, Wallet } from "ethers";
import hre from "hardhat";
import { unpackOutcomes } from "../../oracle/protocol/entries";
import { zeroUsage } from "../../oracle/protocol/meters";
import {
  AttestorThatAlwaysVouches__factory,
  ReentrantCurrency__factory,
  type ReentrantCurrency,
} from "../../typechain-types";
import {
  addOperator,
  addPlan,
  ATTESTORS,
  batchOf,
  buyLicense,
  DAY,
  deployMarket,
  deploymentParameters,
  entryOf,
  HOUR,
  planTerms,
  proofBy,
  settle,
  usd,
  type Market,
} from "../support/market";
import { connectLicet, deployLicet } from "../../deploy/deploy";

const WINDOW = 2 * DAY;
const LICENSEE_THAW = 3 * DAY;
const STAKE_THAW = 32 * DAY;

/** Usage that costs so many whole units under the market's plan. */
const worth = (licenseId: bigint, dollars: number) =>
  entryOf(licenseId, { ...zeroUsage(), inputTokens: BigInt(dollars) * 1_000_000n });

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
    return unpackOutcomes(event.args.outcomes);
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
      await expect(escrow.withdrawEarnings(market.outsider)).to.be.revertedWithCustomError(escrow, "EarningsEmpty");
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
      await time.increase(LICENSEE_THAW + 1);
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
      expect((await staking.poolOf(1)).stake).to.equal(usd(5_000));

      await owner.thaw(1, shares / 2n);
      await time.increase(STAKE_THAW + 1);
      await expect(owner.withdraw(1, market.operator))
        .to.be.revertedWithCustomError(staking, "StakeBelowInFlight")
        .withArgs(1, 0, usd(4_200));
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
      expect(await escrow.earningsOf(market.outsider)).to.equal(0);
      expect(await escrow.earningsOf(market.payees[7])).to.equal(0);
      expect(await escrow.earningsOf(market.operator)).to.equal(usd(33.5));
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

  describe("by pausing", () => {
    it("nobody is kept from what is theirs: settlement, release, thaws and all withdrawals go on", async () => {
      const { committee, staking } = market.licet;
      const owner = escrow.connect(market.licensee);
      await escrow.connect(market.guardian).pause();

      await owner.thaw(licenseId, usd(40));
      await owner.setCap(licenseId, 200);
      await owner.raiseGeneration(licenseId);
      const { batchId } = await settle(market, [worth(licenseId, 50)]);
      await time.increase(LICENSEE_THAW + 1);
      await escrow.release(batchId);
      await committee.shareIncome(batchId);
      await committee.connect(market.payees[0]).withdraw(market.payees[0]);
      await escrow.connect(market.operator).withdrawEarnings(market.operator);
      await escrow.connect(market.publisher).withdrawEarnings(market.publisher);
      await escrow.withdrawFees();
      await owner.withdraw(licenseId, market.licensee);
      await staking.connect(market.operator).addStake(1, usd(1));
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
      await time.increase(LICENSEE_THAW + 1);
      await escrow.release(released);
    });

    const outer: [string, () => Promise<unknown>][] = [
      ["buy", () => escrow.connect(market.licensee).buy(1, 1, market.licensee, 0, usd(1))],
      ["deposit", () => escrow.connect(market.licensee).deposit(licenseId, usd(1))],
      ["withdraw", () => escrow.connect(market.licensee).withdraw(licenseId, market.licensee)],
      ["withdrawEarnings", () => escrow.connect(market.operator).withdrawEarnings(market.operator)],
      ["withdrawFees", () => escrow.withdrawFees()],
      ["collectAttestorShare", () => market.licet.committee.shareIncome(released)],
    ];
    for (const [name, act] of outer) {
      it(`nothing that moves money can be called in the middle of ${name}`, async () => {
        const { interface: abi } = escrow;
        const header = { ...zeroHeader, entriesHash: id("") };
        const calls = [
          abi.encodeFunctionData("buy", [1, 1, market.outsider.address, 0, 1]),
          abi.encodeFunctionData("deposit", [licenseId, 1]),
          abi.encodeFunctionData("depositWithPermit", [licenseId, 1, 0, 27, id("r"), id("s")]),
          abi.encodeFunctionData("withdraw", [licenseId, market.outsider.address]),
          abi.encodeFunctionData("settle", [header, "0x", "0x"]),
          abi.encodeFunctionData("release", [released]),
          abi.encodeFunctionData("collectAttestorShare", [released]),
          abi.encodeFunctionData("withdrawEarnings", [market.outsider.address]),
          abi.encodeFunctionData("withdrawFees"),
        ];
        for (const data of calls) {
          await currency.arm(escrow, data);
          await expect(act()).to.be.revertedWithCustomError(escrow, "ReentrancyGuardReentrantCall");
        }
      });
    }

    it("stake can't be moved in the middle of a stake's move", async () => {
      const { staking } = market.licet;
      const owner = staking.connect(market.operator);
      for (const data of [
        staking.interface.encodeFunctionData("addStake", [1, 1]),
        staking.interface.encodeFunctionData("withdraw", [1, market.outsider.address]),
        staking.interface.encodeFunctionData("withdrawProceeds", [market.outsider.address]),
      ]) {
        await currency.arm(staking, data);
        await expect(owner.addStake(1, usd(1))).to.be.revertedWithCustomError(staking, "ReentrancyGuardReentrantCall");
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

  describe("on the stake", () => {
    it("a first staker can't make the shares of the next dear by a donation", async () => {
      const { staking, currency } = market.licet;
      const owner = market.payees[4];
      const operatorId = await addOperator(market, owner, 1n);
      await currency.mint(staking, usd(1_000_000));
      await currency.mint(owner, usd(3));
      await currency.connect(owner).approve(staking, usd(3));
      await staking.connect(owner).addStake(operatorId, usd(3));
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
