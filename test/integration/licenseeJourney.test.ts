import { loadFixture, time } from "@nomicfoundation/hardhat-network-helpers";
import { expect } from "chai";
import { everybodyLeaves, heldBy, owedBy } from "../support/books";
import {
  addOperator,
  addPlan,
  buyLicense,
  DAY,
  deployMarket,
  HOUR,
  LicenseStatus,
  settle,
  STOP_GRACE,
  usd,
  WAIT,
  worth,
  type Market,
} from "../support/market";

describe("a licensee", () => {
  let market: Market;

  beforeEach(async () => {
    market = await loadFixture(deployMarket);
  });

  it("buys, caps, changes its operator, renews, sells, and its buyer leaves with the last unit", async () => {
    const { licensee, operator, outsider: buyer, payees } = market;
    const { escrow, licenses, operators, currency } = market.licet;
    const own = escrow.connect(licensee);
    const supply = await currency.totalSupply();
    const atFirst = await currency.balanceOf(licensee);
    const expectEvenBooks = async () => expect(await heldBy(market)).to.deep.equal(await owedBy(market));
    const account = (license: bigint) => escrow.accountOf(license);

    // A subscription of at least 50 a month, of which it may sell the rest, funded by a friend, too.
    const planId = await addPlan(market, { minimumSpend: usd(50), transferable: true });
    const license = await buyLicense(market, usd(120), { planId, capCode: 30 });
    expect(await escrow.capOf(30)).to.equal(usd(112));
    await currency.mint(payees[8], usd(80));
    await currency.connect(payees[8]).approve(escrow, usd(80));
    await escrow.connect(payees[8]).deposit(license, usd(80));
    const expiresAt = Number((await account(license)).expiresAt);

    // Its gateway was greedy: the cap stops the bill; a lower one takes a wait.
    await settle(market, [worth(license, 30)], { planId });
    await own.setCap(license, 20);
    await settle(market, [worth(license, 90)], { planId });
    expect((await account(license)).spent).to.equal(usd(112));
    await time.increase(WAIT);
    await escrow.applyCapCut(license);
    expect((await account(license)).capCode).to.equal(20);

    // It goes to another operator, whose slow day costs a tenth less. The old one can't charge it any more.
    const rival = await addOperator(market, payees[6], usd(500));
    await operators.connect(payees[6]).setServed(rival, planId, true);
    await own.changeService(license, rival, false);
    await time.increase(WAIT + 1);
    await escrow.applyServiceChange(license);
    await settle(market, [worth(license, 9)], { planId });
    expect((await account(license)).balance).to.equal(usd(88));

    // The month is over. Anybody renews it, and the new operator serves.
    await time.increaseTo(expiresAt);
    await escrow.connect(operator).renew(license);
    await own.setCap(license, 0);
    const slow = await settle(market, [worth(license, 10)], { planId, operatorId: rival, p95TtftMs: 900 });
    expect((await escrow.batchOf(slow.batchId)).charged).to.equal(usd(9));
    expect(await escrow.committedOf(license)).to.equal(usd(41));
    await expectEvenBooks();

    // It needs it no more: what isn't committed comes out, all of the rest is sold with the license.
    await own.thaw(license, usd(29));
    await time.increase(WAIT + 1);
    await expect(own.withdraw(license, licensee)).to.changeTokenBalance(currency, licensee, usd(29));
    await own.lock(license);
    await own.raiseGeneration(license);
    await time.increase(STOP_GRACE + WAIT + 1);
    expect(await escrow.statusOf(license)).to.equal(LicenseStatus.Movable);
    await licenses.connect(licensee).approve(buyer, license);
    await licenses.connect(buyer).transferFrom(licensee, buyer, license);
    await expect(own.unlock(license))
      .to.be.revertedWithCustomError(escrow, "CallerNotOwner")
      .withArgs(license, licensee.address);

    // The buyer unlocks and uses it, and ends it early: what it didn't use of the minimum is due all the same.
    await escrow.closeTerm(license);
    const bought = escrow.connect(buyer);
    await bought.unlock(license);
    await time.increase(HOUR);
    await settle(market, [worth(license, 11)], { planId, operatorId: rival });
    await bought.end(license);
    expect(await escrow.statusOf(license)).to.equal(LicenseStatus.Ended);
    expect(await escrow.committedOf(license)).to.equal(usd(30));
    await bought.thaw(license, usd(39));
    await time.increase(STOP_GRACE + WAIT + 1);
    await escrow.closeTerm(license);
    expect(await escrow.statusOf(license)).to.equal(LicenseStatus.Closed);
    await expect(bought.withdraw(license, buyer)).to.changeTokenBalance(currency, buyer, usd(9));
    expect((await account(license)).balance).to.equal(0);

    // The seller paid 120, had 29 back, and what it sold.
    expect(await currency.balanceOf(licensee)).to.equal(atFirst - usd(120) + usd(29));
    await expectEvenBooks();
    await everybodyLeaves(market);
    expect(await heldBy(market)).to.deep.equal({ escrow: 0n, staking: 0n, waterfall: 0n, committee: 0n });
    // The friend's and the rival's money came in anew.
    expect(await currency.totalSupply()).to.equal(supply + usd(80) + usd(500));
  });

  it("leaves an operator that vanished, attestors that stopped, and a publisher that recalled", async () => {
    const { licensee, publisher } = market;
    const { escrow, assets, currency } = market.licet;
    const own = escrow.connect(licensee);
    const planId = await addPlan(market, { minimumSpend: usd(50) });
    const license = await buyLicense(market, usd(120), { planId });
    await time.increase(DAY);
    await assets.connect(publisher).recall(market.versionId);
    await own.setRenewal(license, false);
    await own.thaw(license, usd(120));
    await time.increase(WAIT + 1);
    await expect(own.withdraw(license, licensee)).to.changeTokenBalance(currency, licensee, usd(120));
    expect((await heldBy(market)).escrow).to.equal(0);
  });
});
