import { loadFixture, time } from "@nomicfoundation/hardhat-network-helpers";
import { expect } from "chai";
import { id, ZeroAddress, ZeroHash, type Signer } from "ethers";
import { zeroUsage } from "../../oracle/protocol/meters";
import type { BatchHeader, Entry, Usage } from "../../oracle/protocol/types";
import { everybodyLeaves, heldBy } from "../support/books";
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
  entryOf,
  HOUR,
  proofBy,
  settle,
  usd,
  type Market,
} from "../support/market";

const HOLD = 3 * DAY;
const LICENSEE_THAW = 3 * DAY;
const STAKE_THAW = 32 * DAY;

/** Usage of so many thousand tokens in and out, by so many requests. */
const tokens = (requests: number, input: number, output: number): Partial<Usage> => ({
  ...zeroUsage(),
  requests: BigInt(requests),
  inputTokens: BigInt(input) * 1_000n,
  cachedInputTokens: BigInt(input) * 300n,
  outputTokens: BigInt(output) * 1_000n,
  computeMs: BigInt(output) * 9_000n,
});

describe("a market", () => {
  let market: Market;
  let licet: Market["licet"];

  beforeEach(async () => {
    market = await loadFixture(deployMarket);
    licet = market.licet;
  });

  const money = (of: Signer) => licet.currency.balanceOf(of);
  const outcomesOf = async (batchId: string) => {
    const [event] = await licet.escrow.queryFilter(licet.escrow.filters.BatchSettled(batchId));
    return chargesIn(event.args.outcomes);
  };
  const releaseAndShare = async (...batchIds: string[]) => {
    await time.increase(HOLD);
    for (const batchId of batchIds) {
      await licet.escrow.connect(market.outsider).release(batchId);
      await licet.committee.connect(market.outsider).shareIncome(batchId);
    }
  };

  const expectNothingLeft = async () =>
    expect(await heldBy(market)).to.deep.equal({ escrow: 0n, staking: 0n, waterfall: 0n, committee: 0n });

  it("pays everybody for a license's life, and ends with every unit where it belongs", async () => {
    const { publisher, licensee, operator, treasury, payees } = market;
    const { escrow, currency, licenses } = licet;
    const people = [publisher, licensee, operator, treasury, ...payees.slice(0, 3)];
    const before = await Promise.all(people.map(money));
    const supply = await currency.totalSupply();

    // The licensee buys a license with a cap of 9 USD a term, and funds it.
    const licenseId = await buyLicense(market, usd(12), { capCode: 1 });
    expect(await licenses.ownerOf(licenseId)).to.equal(licensee.address);
    await escrow.connect(licensee).deposit(licenseId, usd(8));
    expect((await escrow.accountOf(licenseId)).balance).to.equal(usd(20));

    // The operator serves well for an hour: 4 USD of input, 1.2 of cached input, 3 of output and a little more.
    const good = await settle(market, [entryOf(licenseId, tokens(1_000, 4_000, 1_000))]);
    const price = usd(0.1) + usd(4) + usd(0.3) + usd(3) + usd(0.45);
    expect(await outcomesOf(good.batchId)).to.deep.equal([{ charged: price, status: "Charged" }]);

    // The next hour it is slow: a tenth off; and the licensee's cap stops the charge.
    const slow = await settle(market, [entryOf(licenseId, tokens(1_000, 4_000, 1_000))], { p95TtftMs: 900 });
    const rest = usd(9) - price;
    expect(await outcomesOf(slow.batchId)).to.deep.equal([{ charged: rest, status: "CapReached" }]);
    expect((await escrow.batchOf(slow.batchId)).discountBps).to.equal(1_000);

    // Nobody is paid before the hold is over, and then everybody: half of the first hour's fee is the operator's bonus.
    await expect(escrow.release(good.batchId)).to.be.revertedWithCustomError(escrow, "HoldRunning");
    await releaseAndShare(good.batchId, slow.batchId);
    const gross = (rest * 10_000n) / 9_000n;
    const share = (bps: bigint) => (price * bps) / 10_000n + (gross * bps) / 10_000n;
    expect(await escrow.assetIncomeOf(market.assetId)).to.equal(share(3_000n));
    const bonus = price / 100n / 2n;
    expect(await escrow.protocolFees()).to.equal(share(100n) - bonus);
    const attested = share(200n);
    const operated = usd(9) - share(3_000n) - share(100n) - attested;
    expect(await escrow.operatorIncomeOf(market.operatorId)).to.deep.equal([operated, bonus]);

    // All leave. The license outlives its money.
    const staked = market.stake;
    await everybodyLeaves(market);
    const gained = (await Promise.all(people.map(money))).map((after, i) => after - before[i]);
    expect(gained.slice(0, 4)).to.deep.equal([share(3_000n), -usd(9), operated + staked + bonus, share(100n) - bonus]);
    expect(gained.slice(4, 6).reduce((sum, gain) => sum + gain, -2n * BOND)).to.equal(attested);
    expect(gained[6], "who didn't sign").to.equal(BOND);
    await expectNothingLeft();
    expect(await currency.totalSupply()).to.equal(supply);
    expect(await licenses.ownerOf(licenseId)).to.equal(licensee.address);
  });

  it("goes on when its publisher publishes, closes a plan, opens another and sells the model", async () => {
    const { publisher, outsider } = market;
    const { assets, licenses, escrow, waterfall } = licet;
    const old = await buyLicense(market, usd(10));

    // A new version is charged under the same plan, in a lane of its own.
    await assets.connect(publisher).publish(1, id("manifest 2"), ZeroHash, ZeroAddress, "ipfs://version-2", "");
    const versionId = await assets.versionOfManifest(1, id("manifest 2"));
    const first = await settle(market, [entryOf(old, tokens(0, 1_000, 0))]);
    const second = await settle(market, [entryOf(old, tokens(0, 1_000, 0))], { versionId });
    const { header } = second;
    expect((await escrow.laneOf(1, 1, versionId)).sequence).to.equal(1);
    expect((await escrow.laneOf(1, 1, market.versionId)).sequence).to.equal(1);
    expect(header.versionId).to.equal(versionId);

    // The plan is closed: nobody buys, but the license runs on. Another plan is dearer.
    await licenses.connect(publisher).closePlan(1);
    await expect(buyLicense(market, 0n)).to.be.revertedWithCustomError(licenses, "PlanIsClosed").withArgs(1);
    const rates = { requests: 0n, inputTokens: usd(2), cachedInputTokens: 0n, outputTokens: 0n, computeMs: 0n };
    const dearer = await addPlan(market, { rates, supply: 1 });
    const young = await buyLicense(market, usd(10), { planId: dearer });
    await expect(buyLicense(market, 0n, { planId: dearer })).to.be.revertedWithCustomError(licenses, "PlanSoldOut");
    const third = await settle(market, [entryOf(old, tokens(0, 1_000, 0))]);
    const fourth = await settle(market, [entryOf(young, tokens(0, 1_000, 0))], { planId: dearer });
    expect((await escrow.batchOf(fourth.batchId)).charged).to.equal(usd(2));

    // The model is sold: what wasn't distributed before goes to the buyer.
    await releaseAndShare(first.batchId, second.batchId);
    const soFar = await escrow.assetIncomeOf(1);
    await escrow.payAsset(1);
    await waterfall.distribute(1);
    await assets.connect(publisher).transferFrom(publisher, outsider, 1);
    await releaseAndShare(third.batchId, fourth.batchId);
    const later = (await escrow.splitOf(third.batchId)).publisher + usd(0.6);
    await escrow.payAsset(1);
    await waterfall.distribute(1);
    expect(await waterfall.claimableOf(publisher)).to.equal(soFar);
    expect(await waterfall.claimableOf(outsider)).to.equal(later);
    await waterfall.connect(outsider).withdraw(outsider);

    await everybodyLeaves(market);
    await expectNothingLeft();
  });

  it("serves many licensees by two operators, in parts, over weeks, and pays out to the unit", async () => {
    const { payees } = market;
    const { escrow, currency, staking } = licet;
    const rival = payees[5];
    const rivalId = await addOperator(market, rival, usd(77));
    const supply = await currency.totalSupply();
    const licenses = [];
    for (let i = 0; i < 6; i += 1) licenses.push(await buyLicense(market, usd(3) + BigInt(i) * 333_331n));
    const rivals = [await buyLicense(market, usd(30), { operatorId: rivalId })];

    const batchIds: string[] = [];
    for (let week = 0; week < 6; week += 1) {
      await time.increase(7 * DAY - 2 * HOUR);
      const usage = tokens(7 + week, 130 + week, 41);
      const first = await settle(
        market,
        licenses.slice(0, 3).map((license) => entryOf(license, usage)),
      );
      const { epochStart, epochEnd } = first.header;
      const part = await settleNow(
        market,
        licenses.slice(3).map((license) => entryOf(license, usage)),
        {
          epochStart,
          epochEnd,
          availabilityBps: 10_000 - 400 * week,
        },
      );
      const other = await settle(
        market,
        rivals.map((license) => entryOf(license, tokens(1, 999, 777))),
        {
          operatorId: rivalId,
          p95TtftMs: 500 * week,
        },
      );
      batchIds.push(first.batchId, part, other.batchId);
      if (week % 2 === 1) await releaseAndShare(...batchIds.splice(0));
    }

    const accounts = await Promise.all([...licenses, ...rivals].map((license) => escrow.accountOf(license)));
    expect(accounts.map(({ term }) => term)).to.deep.equal(accounts.map(() => 1n));
    expect((await staking.poolOf(1)).inFlight).to.equal(0);
    expect((await staking.poolOf(rivalId)).inFlight).to.equal(0);
    const incomes = [await escrow.operatorIncomeOf(1), await escrow.operatorIncomeOf(rivalId)];
    const served = incomes.reduce((sum, { earnings, forPool }) => sum + earnings + forPool, 0n);
    const earned = served + (await escrow.assetIncomeOf(1));
    const balances = accounts.reduce((sum, { balance }) => sum + balance, 0n);
    expect(await currency.balanceOf(escrow)).to.equal(balances + earned + (await escrow.protocolFees()));

    await everybodyLeaves(market);
    await expectNothingLeft();
    expect(await currency.totalSupply()).to.equal(supply);
  });

  it("lets a licensee leave while its operator, its attestors and its governance are gone", async () => {
    const { licensee } = market;
    const licenseId = await buyLicense(market, usd(40));
    const { batchId } = await settle(market, [entryOf(licenseId, tokens(0, 5_000, 0))]);

    // A batch is drawn up that nobody submits in time; a year passes in which nobody does anything.
    await time.increase(HOUR);
    const late = await batchOf(market, [entryOf(licenseId, tokens(0, 5_000, 0))]);
    await time.increase(365 * DAY);
    const proof = proofBy(await licet.escrow.batchIdOf(late.header), ATTESTORS);
    await expect(licet.escrow.settle(late.header, late.entries, proof)).to.be.revertedWithCustomError(
      licet.escrow,
      "WindowClosed",
    );

    const { balance } = await licet.escrow.accountOf(licenseId);
    await licet.escrow.connect(licensee).thaw(licenseId, balance);
    await time.increase(LICENSEE_THAW + 1);
    await licet.escrow.connect(licensee).withdraw(licenseId, licensee);

    // What was held for the others waits for them, whoever releases it.
    await licet.escrow.connect(licensee).release(batchId);
    const { charged } = await licet.escrow.batchOf(batchId);
    expect(await licet.currency.balanceOf(licet.escrow)).to.equal(charged);
    await licet.committee.shareIncome(batchId);
    await everybodyLeaves(market);
    await expectNothingLeft();
  });

  it("lets an operator who was slashed wait for its releases, stake anew, serve on, and leave", async () => {
    const { operator, slasher, treasury } = market;
    const { staking, escrow, currency } = licet;
    const licenseId = await buyLicense(market, usd(9_000));
    const { batchId } = await settle(market, [entryOf(licenseId, tokens(0, 2_000_000, 0))]);
    await staking.connect(slasher).slash(1, usd(9_900), treasury);

    // In flight is more than the stake: no more is charged until it is released, and no stake leaves.
    await expect(settle(market, [entryOf(licenseId, tokens(0, 1, 0))])).to.be.revertedWithCustomError(
      staking,
      "InFlightAboveActiveStake",
    );
    const position = await staking.positionOf(1, operator);
    await staking.connect(operator).thaw(1, position.shares);
    await time.increase(STAKE_THAW + 1);
    await expect(staking.connect(operator).withdraw(1, operator))
      .to.be.revertedWithCustomError(staking, "StakeStillNeeded")
      .withArgs(1, 0, (await escrow.batchOf(batchId)).charged, 0);
    await staking.connect(operator).unthaw(1);

    await staking.connect(operator).addStake(1, usd(500), ...ANY_SHARES);
    await releaseAndShare(batchId);
    const again = await settle(market, [entryOf(licenseId, tokens(0, 400, 0))]);
    await releaseAndShare(again.batchId);

    await staking.connect(treasury).withdrawProceeds(treasury);
    expect(await currency.balanceOf(treasury)).to.equal(usd(9_900));
    await everybodyLeaves(market);
    await expectNothingLeft();
  });
});

/** Settles at once, without letting time pass: a further part of an epoch. */
async function settleNow(market: Market, entries: Entry[], changes: Partial<BatchHeader>): Promise<string> {
  const { escrow } = market.licet;
  const batch = await batchOf(market, entries, changes);
  const batchId = await escrow.batchIdOf(batch.header);
  await escrow.settle(batch.header, batch.entries, proofBy(batchId));
  return batchId;
}
