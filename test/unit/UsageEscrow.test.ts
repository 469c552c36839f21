import { loadFixture, setStorageAt, time } from "@nomicfoundation/hardhat-network-helpers";
import { expect } from "chai";
import { MaxUint256, toBeHex, type Signer } from "ethers";
import hre from "hardhat";
import { CurrencyOfDecimals__factory, FeeOnTransferCurrency__factory } from "../../typechain-types";
import {
  accountWord,
  addOperator,
  addPlan,
  buyLicense,
  DAY,
  deployMarket,
  entryOf,
  LicenseStatus,
  purchaseOf,
  settle,
  signPermit,
  structOf,
  usd,
  WAIT,
  type Market,
  type Purchase,
} from "../support/market";

const PAUSE = 7 * DAY;
/** An epoch and the window: what a licensee's thaw takes. */
const THAW = DAY + 2 * DAY;
const UINT64_MAX = 2n ** 64n - 1n;
const ZERO = "0x0000000000000000000000000000000000000000";

describe("UsageEscrow", () => {
  let market: Market;
  let escrow: Market["licet"]["escrow"];
  let currency: Market["licet"]["currency"];

  beforeEach(async () => {
    market = await loadFixture(deployMarket);
    escrow = market.licet.escrow.connect(market.licensee);
    currency = market.licet.currency;
  });

  const pause = () => escrow.connect(market.guardian).pause();
  const accountOf = async (licenseId: bigint) => structOf(await escrow.accountOf(licenseId));

  describe("buy", () => {
    const buy = (changes: Partial<Purchase> = {}) => escrow.buy(purchaseOf(market, changes));

    describe("when purchases are paused", () => {
      it("reverts with DepositsPaused", async () => {
        await pause();
        await expect(buy())
          .to.be.revertedWithCustomError(escrow, "DepositsPaused")
          .withArgs(await escrow.pausedUntil());
      });
    });

    describe("when the deadline has passed", () => {
      it("reverts with DeadlinePassed: its own second is in time", async () => {
        const deadline = (await time.latest()) + 10;
        await time.setNextBlockTimestamp(deadline);
        await buy({ deadline });
        await time.setNextBlockTimestamp(deadline + 1);
        await expect(buy({ deadline }))
          .to.be.revertedWithCustomError(escrow, "DeadlinePassed")
          .withArgs(deadline, deadline + 1);
      });
    });

    describe("when there is no such plan", () => {
      it("reverts with PlanUnknown", async () => {
        await expect(buy({ planId: 2 }))
          .to.be.revertedWithCustomError(market.licet.licenses, "PlanUnknown")
          .withArgs(2);
      });
    });

    describe("when upfront price and amount are more than the buyer would pay", () => {
      it("reverts with PriceAboveLimit", async () => {
        const planId = await addPlan(market, { upfrontPrice: usd(7) });
        await expect(buy({ planId, amount: usd(5), maxPrice: usd(12) - 1n }))
          .to.be.revertedWithCustomError(escrow, "PriceAboveLimit")
          .withArgs(usd(12), usd(12) - 1n);
        await buy({ planId, amount: usd(5), maxPrice: usd(12) });
      });
    });

    describe("when the operator doesn't serve the plan", () => {
      it("reverts with PlanNotServed", async () => {
        await expect(buy({ operatorId: 2 }))
          .to.be.revertedWithCustomError(escrow, "PlanNotServed")
          .withArgs(2, 1);
        await market.licet.operators.connect(market.operator).setServed(1, 1, false);
        await expect(buy()).to.be.revertedWithCustomError(escrow, "PlanNotServed").withArgs(1, 1);
      });
    });

    describe("when the operator is in jail", () => {
      it("reverts with OperatorInJail", async () => {
        const bait = await buyLicense(market, usd(10));
        for (let day = 0; day < 3; day += 1) {
          await time.increase(DAY);
          await settle(market, [entryOf(bait)], { availabilityBps: 0 });
        }
        await expect(buy()).to.be.revertedWithCustomError(escrow, "OperatorInJail").withArgs(1);
        await time.increase(7 * DAY);
        await buy();
      });
    });

    describe("when the plan has a minimum, and a term in which use can't settle", () => {
      it("reverts with TermTooShort", async () => {
        const planId = await addPlan(market, { minimumSpend: 1n, termPeriod: THAW - 1 });
        await expect(buy({ planId, amount: 1n }))
          .to.be.revertedWithCustomError(escrow, "TermTooShort")
          .withArgs(THAW - 1, THAW);
        await buy({ planId: await addPlan(market, { minimumSpend: 1n, termPeriod: THAW }), amount: 1n });
        await buy({ planId: await addPlan(market, { termPeriod: THAW - 1 }) });
      });
    });

    describe("when the plan has a minimum that the amount doesn't cover", () => {
      it("reverts with MinimumNotCovered: an upfront price doesn't count", async () => {
        const planId = await addPlan(market, { minimumSpend: usd(10), upfrontPrice: usd(50) });
        await expect(buy({ planId, amount: usd(10) - 1n }))
          .to.be.revertedWithCustomError(escrow, "MinimumNotCovered")
          .withArgs(usd(10) - 1n, usd(10));
        await buy({ planId, amount: usd(10) });
      });
    });

    describe("when the plan is closed", () => {
      it("reverts with PlanIsClosed", async () => {
        await market.licet.licenses.connect(market.publisher).closePlan(1);
        await expect(buy()).to.be.revertedWithCustomError(market.licet.licenses, "PlanIsClosed").withArgs(1);
      });
    });

    describe("when the plan is sold out", () => {
      it("reverts with PlanSoldOut", async () => {
        const planId = await addPlan(market, { supply: 1 });
        await buy({ planId });
        await expect(buy({ planId }))
          .to.be.revertedWithCustomError(market.licet.licenses, "PlanSoldOut")
          .withArgs(planId, 1);
      });
    });

    describe("when it is for nobody", () => {
      it("reverts with ERC721InvalidReceiver", async () => {
        await expect(buy({ to: ZERO }))
          .to.be.revertedWithCustomError(market.licet.licenses, "ERC721InvalidReceiver")
          .withArgs(ZERO);
      });
    });

    describe("when all is well", () => {
      it("mints the license to whom the buyer says", async () => {
        await buy({ to: market.outsider.address });
        expect(await market.licet.licenses.ownerOf(1)).to.equal(market.outsider.address);
      });

      it("opens its account", async () => {
        await buy({ capCode: 200, amount: usd(5) });

        expect(await accountOf(1n)).to.deep.equal({
          planId: 1n,
          operatorId: 1n,
          balance: usd(5),
          spent: 0n,
          capCode: 200n,
          term: 0n,
          expiresAt: BigInt((await time.latest()) + 30 * DAY),
          generation: 0n,
          onVoucherRoad: false,
          renews: true,
          isClosed: false,
          thawing: 0n,
          thawReadyAt: 0n,
          capCutCode: 0n,
          capCutReadyAt: 0n,
          nextOperatorId: 0n,
          nextOnVoucherRoad: false,
          serviceChangeReadyAt: 0n,
          nextPlanId: 0n,
          stoppedAt: 0n,
          isEnded: false,
          endedAt: 0n,
          endedSpent: 0n,
          formerPlanId: 0n,
        });
      });

      it("takes the buyer's money, for whomever it buys", async () => {
        await expect(buy({ to: market.outsider.address, amount: usd(5) })).to.changeTokenBalances(
          currency,
          [market.licensee, escrow],
          [-usd(5), usd(5)],
        );
      });

      it("emits LicenseMinted, LicenseBought and Deposited", async () => {
        const now = (await time.latest()) + 10;
        await time.setNextBlockTimestamp(now);
        await expect(buy({ to: market.outsider.address, capCode: 17, amount: usd(5) }))
          .to.emit(market.licet.licenses, "LicenseMinted")
          .withArgs(1, 1, market.outsider.address)
          .and.to.emit(escrow, "LicenseBought")
          .withArgs(1, 1, 1, market.outsider.address, 17, now + 30 * DAY)
          .and.to.emit(escrow, "Deposited")
          .withArgs(1, market.licensee.address, usd(5));
      });
    });

    describe("when the plan has an upfront price", () => {
      let planId: number;
      beforeEach(async () => {
        planId = await addPlan(market, { upfrontPrice: usd(7), holdPeriod: 5 * DAY });
      });

      it("takes it beside the amount, and holds it apart from the balance", async () => {
        await expect(buy({ planId, amount: usd(5) })).to.changeTokenBalances(
          currency,
          [market.licensee, escrow],
          [-usd(12), usd(12)],
        );
        expect((await escrow.accountOf(1)).balance).to.equal(usd(5));
        const paidAt = await time.latest();
        expect(await escrow.upfrontOf(1)).to.deep.equal([usd(7), paidAt, paidAt + 5 * DAY, 100]);
      });

      it("takes it alone, too, and emits UpfrontPaid and no Deposited", async () => {
        const now = (await time.latest()) + 10;
        await time.setNextBlockTimestamp(now);
        const bought = buy({ planId });
        await expect(bought)
          .to.emit(escrow, "UpfrontPaid")
          .withArgs(1, usd(7), now + 5 * DAY);
        await expect(bought).not.to.emit(escrow, "Deposited");
      });

      it("holds the fee of the day of the purchase", async () => {
        await escrow.connect(market.governor).setFee(500);
        await buy({ planId });
        expect((await escrow.upfrontOf(1)).feeBps).to.equal(500);
      });

      it("reverts with DepositCeilingReached where price and amount don't fit under the ceiling", async () => {
        const ceiling = await escrow.depositCeiling();
        await currency.mint(market.licensee, ceiling);
        await currency.connect(market.licensee).approve(escrow, ceiling);
        await expect(buy({ planId, amount: ceiling - usd(7) + 1n }))
          .to.be.revertedWithCustomError(escrow, "DepositCeilingReached")
          .withArgs(0, ceiling);
        await buy({ planId, amount: ceiling - usd(7) });
      });
    });

    describe("when no money comes along", () => {
      it("moves none and emits no Deposited", async () => {
        const bought = buy();
        await expect(bought).not.to.emit(escrow, "Deposited");
        await expect(bought).to.changeTokenBalance(currency, escrow, 0);
      });
    });
  });

  describe("deposit", () => {
    let licenseId: bigint;
    beforeEach(async () => {
      licenseId = await buyLicense(market, usd(10));
    });

    describe("when deposits are paused", () => {
      it("reverts with DepositsPaused", async () => {
        await pause();
        await expect(escrow.deposit(licenseId, 1))
          .to.be.revertedWithCustomError(escrow, "DepositsPaused")
          .withArgs(await escrow.pausedUntil());
      });
    });

    describe("when the amount is zero", () => {
      it("reverts with AmountZero", async () => {
        await expect(escrow.deposit(licenseId, 0)).to.be.revertedWithCustomError(escrow, "AmountZero").withArgs();
      });
    });

    describe("when there is no such license", () => {
      it("reverts with LicenseStatusUnfit", async () => {
        for (const none of [9, 0]) {
          await expect(escrow.deposit(none, 1))
            .to.be.revertedWithCustomError(escrow, "LicenseStatusUnfit")
            .withArgs(none, LicenseStatus.None);
        }
      });
    });

    describe("when the license has expired and isn't renewable", () => {
      it("reverts with LicenseStatusUnfit, from the second of its expiry on", async () => {
        const once = await buyLicense(market, 0n, { planId: await addPlan(market, { renewable: false }) });
        const { expiresAt } = await escrow.accountOf(once);
        await time.setNextBlockTimestamp(expiresAt - 1n);
        await escrow.deposit(once, 1);

        await time.setNextBlockTimestamp(expiresAt);
        await expect(escrow.deposit(once, 1))
          .to.be.revertedWithCustomError(escrow, "LicenseStatusUnfit")
          .withArgs(once, LicenseStatus.Ended);
      });
    });

    describe("when the license has expired and is renewable", () => {
      it("funds it", async () => {
        await time.increase(90 * DAY);
        await escrow.deposit(licenseId, usd(1));
        expect((await escrow.accountOf(licenseId)).balance).to.equal(usd(11));
      });
    });

    describe("when the balance would be wider than its 64 bits", () => {
      it("reverts with DepositCeilingReached, since no ceiling is wider: one unit less is taken", async () => {
        const amount = UINT64_MAX - usd(10);
        await escrow.connect(market.governor).raiseDepositCeiling(UINT64_MAX);
        await currency.mint(market.licensee, amount + 1n);
        await currency.connect(market.licensee).approve(escrow, amount + 1n);
        await expect(escrow.deposit(licenseId, amount + 1n))
          .to.be.revertedWithCustomError(escrow, "DepositCeilingReached")
          .withArgs(usd(10), UINT64_MAX);
        await escrow.deposit(licenseId, amount);
        expect((await escrow.accountOf(licenseId)).balance).to.equal(UINT64_MAX);
      });
    });

    describe("when the escrow would owe more than its ceiling", () => {
      it("reverts with DepositCeilingReached", async () => {
        const ceiling = await escrow.depositCeiling();
        await currency.mint(market.outsider, ceiling);
        await currency.connect(market.outsider).approve(escrow, ceiling);
        const rest = ceiling - usd(10);
        await expect(escrow.connect(market.outsider).deposit(licenseId, rest + 1n))
          .to.be.revertedWithCustomError(escrow, "DepositCeilingReached")
          .withArgs(usd(10), ceiling);
        await escrow.connect(market.outsider).deposit(licenseId, rest);
        expect(await escrow.totalOwed()).to.equal(ceiling);
      });

      it("doesn't count what somebody sent it unasked", async () => {
        await currency.mint(escrow, (await escrow.depositCeiling()) - usd(10));
        await escrow.deposit(licenseId, usd(1));
        expect(await escrow.totalOwed()).to.equal(usd(11));
      });
    });

    describe("when the payer hasn't allowed as much", () => {
      it("reverts with ERC20InsufficientAllowance", async () => {
        await expect(escrow.connect(market.outsider).deposit(licenseId, 5))
          .to.be.revertedWithCustomError(currency, "ERC20InsufficientAllowance")
          .withArgs(await escrow.getAddress(), 0, 5);
      });
    });

    describe("when the currency takes a toll on the way", () => {
      it("reverts with CurrencyShort", async () => {
        const tolled = await loadFixture(deployWithTolls);
        const id = await buyLicense(tolled, 0n);
        await FeeOnTransferCurrency__factory.connect(
          await tolled.licet.currency.getAddress(),
          tolled.deployer,
        ).takeToll(3);
        await expect(tolled.licet.escrow.connect(tolled.licensee).deposit(id, usd(5)))
          .to.be.revertedWithCustomError(escrow, "CurrencyShort")
          .withArgs(usd(5) - 3n, usd(5));
      });
    });

    describe("when all is well", () => {
      it("adds to the balance and to nothing else", async () => {
        const before = await accountOf(licenseId);
        await escrow.deposit(licenseId, usd(1));
        expect(await accountOf(licenseId)).to.deep.equal({ ...before, balance: usd(11) });
      });

      it("takes the payer's money, whoever's license it is", async () => {
        await currency.mint(market.outsider, usd(1));
        await currency.connect(market.outsider).approve(escrow, usd(1));
        await expect(escrow.connect(market.outsider).deposit(licenseId, usd(1))).to.changeTokenBalances(
          currency,
          [market.outsider, escrow],
          [-usd(1), usd(1)],
        );
      });

      it("emits Deposited", async () => {
        await expect(escrow.deposit(licenseId, usd(1)))
          .to.emit(escrow, "Deposited")
          .withArgs(licenseId, market.licensee.address, usd(1));
      });
    });
  });

  describe("depositWithPermit", () => {
    let licenseId: bigint;
    beforeEach(async () => {
      licenseId = await buyLicense(market, 0n);
      await currency.connect(market.licensee).approve(escrow, 0);
    });

    const permitOf = async (value: bigint, deadline: bigint = MaxUint256, signer = market.licensee) => {
      const { v, r, s } = await signPermit(market, value, deadline, signer);
      return [deadline, v, r, s] as const;
    };

    describe("when deposits are paused", () => {
      it("reverts with DepositsPaused", async () => {
        const permit = await permitOf(usd(5));
        await pause();
        await expect(escrow.depositWithPermit(licenseId, usd(5), ...permit))
          .to.be.revertedWithCustomError(escrow, "DepositsPaused")
          .withArgs(await escrow.pausedUntil());
      });
    });

    describe("when the permit isn't the caller's, and nothing was allowed otherwise", () => {
      it("reverts with ERC20InsufficientAllowance", async () => {
        const permit = await permitOf(usd(5), MaxUint256, market.outsider);
        await expect(escrow.depositWithPermit(licenseId, usd(5), ...permit))
          .to.be.revertedWithCustomError(currency, "ERC20InsufficientAllowance")
          .withArgs(await escrow.getAddress(), 0, usd(5));
      });
    });

    describe("when somebody else sends the caller's permit", () => {
      it("takes nothing of the caller's", async () => {
        const permit = await permitOf(usd(5));
        await expect(escrow.connect(market.outsider).depositWithPermit(licenseId, usd(5), ...permit))
          .to.be.revertedWithCustomError(currency, "ERC20InsufficientAllowance")
          .withArgs(await escrow.getAddress(), 0, usd(5));
      });
    });

    describe("when the permit is over its deadline, and nothing was allowed otherwise", () => {
      it("reverts with ERC20InsufficientAllowance", async () => {
        const permit = await permitOf(usd(5), BigInt(await time.latest()) - 1n);
        await expect(escrow.depositWithPermit(licenseId, usd(5), ...permit))
          .to.be.revertedWithCustomError(currency, "ERC20InsufficientAllowance")
          .withArgs(await escrow.getAddress(), 0, usd(5));
      });
    });

    describe("when all is well", () => {
      it("takes the money by the permit alone", async () => {
        const permit = await permitOf(usd(5));
        await expect(escrow.depositWithPermit(licenseId, usd(5), ...permit)).to.changeTokenBalances(
          currency,
          [market.licensee, escrow],
          [-usd(5), usd(5)],
        );
        expect((await escrow.accountOf(licenseId)).balance).to.equal(usd(5));
        expect(await currency.allowance(market.licensee, escrow)).to.equal(0);
      });

      it("emits Deposited", async () => {
        await expect(escrow.depositWithPermit(licenseId, usd(5), ...(await permitOf(usd(5)))))
          .to.emit(escrow, "Deposited")
          .withArgs(licenseId, market.licensee.address, usd(5));
      });
    });

    describe("when somebody used the permit first", () => {
      it("deposits all the same, by the allowance that the permit left", async () => {
        const [deadline, v, r, s] = await permitOf(usd(5));
        await currency.connect(market.outsider).permit(market.licensee, escrow, usd(5), deadline, v, r, s);

        await escrow.depositWithPermit(licenseId, usd(5), deadline, v, r, s);
        expect((await escrow.accountOf(licenseId)).balance).to.equal(usd(5));
      });
    });

    describe("when the currency knows no permits", () => {
      it("deposits by the allowance", async () => {
        const plain = await loadFixture(deployWithoutPermits);
        const id = await buyLicense(plain, 0n);
        await plain.licet.escrow.connect(plain.licensee).depositWithPermit(id, usd(5), ...(await permitOf(usd(5))));
        expect((await plain.licet.escrow.accountOf(id)).balance).to.equal(usd(5));
      });
    });
  });

  const ownersActs: [string, (licenseId: bigint, by: Signer) => Promise<unknown>][] = [
    ["setCap", (licenseId, by) => escrow.connect(by).setCap(licenseId, 1)],
    ["raiseGeneration", (licenseId, by) => escrow.connect(by).raiseGeneration(licenseId)],
    ["thaw", (licenseId, by) => escrow.connect(by).thaw(licenseId, 1)],
    ["withdraw", (licenseId, by) => escrow.connect(by).withdraw(licenseId, market.outsider)],
  ];
  for (const [name, act] of ownersActs) {
    describe(name, () => {
      describe("when the caller isn't the license's owner", () => {
        it("reverts with CallerNotOwner, for whom the owner approved, too", async () => {
          const licenseId = await buyLicense(market, usd(10));
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
          await expect(act(7n, market.licensee))
            .to.be.revertedWithCustomError(escrow, "CallerNotOwner")
            .withArgs(7, market.licensee.address);
        });
      });
    });
  }

  describe("setCap", () => {
    describe("when the cap is higher than before, or none", () => {
      it("sets the code at once and nothing else", async () => {
        const licenseId = await buyLicense(market, usd(10), { capCode: 3 });
        const before = await accountOf(licenseId);
        for (const capCode of [4, 255, 0]) {
          await escrow.setCap(licenseId, capCode);
          expect(await accountOf(licenseId)).to.deep.equal({ ...before, capCode: BigInt(capCode) });
        }
      });

      it("emits CapSet", async () => {
        const licenseId = await buyLicense(market, usd(10), { capCode: 3 });
        await expect(escrow.setCap(licenseId, 17)).to.emit(escrow, "CapSet").withArgs(licenseId, 17);
      });
    });

    describe("when the cap is lower than before", () => {
      it("announces the code and leaves the cap that is in force", async () => {
        const licenseId = await buyLicense(market, usd(10), { capCode: 17 });
        const before = await accountOf(licenseId);
        await escrow.setCap(licenseId, 16);
        const capCutReadyAt = BigInt((await time.latest()) + THAW);
        expect(await accountOf(licenseId)).to.deep.equal({ ...before, capCutCode: 16n, capCutReadyAt });
      });

      it("takes any cap as lower than none", async () => {
        const licenseId = await buyLicense(market, usd(10));
        await escrow.setCap(licenseId, 255);
        const { capCode, capCutCode } = await escrow.accountOf(licenseId);
        expect([capCode, capCutCode]).to.deep.equal([0, 255]);
      });

      it("emits CapCutStarted and no CapSet", async () => {
        const licenseId = await buyLicense(market, usd(10));
        const now = (await time.latest()) + 10;
        await time.setNextBlockTimestamp(now);
        const lowered = escrow.setCap(licenseId, 1);
        await expect(lowered)
          .to.emit(escrow, "CapCutStarted")
          .withArgs(licenseId, 1, now + THAW);
        await expect(lowered).not.to.emit(escrow, "CapSet");
      });
    });

    describe("when a lower cap was announced", () => {
      it("replaces it by another lower one, and the wait starts anew", async () => {
        const licenseId = await buyLicense(market, usd(10));
        await escrow.setCap(licenseId, 1);
        await time.increase(THAW - 10);
        await escrow.setCap(licenseId, 2);
        const readyAt = (await time.latest()) + THAW;
        await time.increase(60);
        await expect(escrow.applyCapCut(licenseId))
          .to.be.revertedWithCustomError(escrow, "CapCutRunning")
          .withArgs(licenseId, readyAt);
      });

      it("takes it back by the cap that is in force, or a higher one", async () => {
        const licenseId = await buyLicense(market, usd(10), { capCode: 17 });
        for (const capCode of [17, 18, 0]) {
          await escrow.setCap(licenseId, 1);
          await escrow.setCap(licenseId, capCode);
          const account = await escrow.accountOf(licenseId);
          expect([account.capCode, account.capCutCode, account.capCutReadyAt]).to.deep.equal([capCode, 0, 0]);
        }
      });
    });
  });

  describe("applyCapCut", () => {
    describe("when no lower cap was announced", () => {
      it("reverts with CapCutNone", async () => {
        const licenseId = await buyLicense(market, usd(10), { capCode: 17 });
        await expect(escrow.applyCapCut(licenseId))
          .to.be.revertedWithCustomError(escrow, "CapCutNone")
          .withArgs(licenseId);
        await expect(escrow.applyCapCut(9)).to.be.revertedWithCustomError(escrow, "CapCutNone").withArgs(9);
      });
    });

    describe("when use that was served under the higher cap may still settle", () => {
      it("reverts with CapCutRunning, up to the very second in which it may", async () => {
        const licenseId = await buyLicense(market, usd(10));
        await escrow.setCap(licenseId, 1);
        const readyAt = (await time.latest()) + THAW;
        await time.setNextBlockTimestamp(readyAt);
        await expect(escrow.applyCapCut(licenseId))
          .to.be.revertedWithCustomError(escrow, "CapCutRunning")
          .withArgs(licenseId, readyAt);

        await time.setNextBlockTimestamp(readyAt + 1);
        await escrow.applyCapCut(licenseId);
      });
    });

    describe("when all is well", () => {
      it("puts the lower cap in force, once, whoever calls, and touches nothing else", async () => {
        const licenseId = await buyLicense(market, usd(10), { capCode: 17 });
        const before = await accountOf(licenseId);
        await escrow.setCap(licenseId, 1);
        await time.increase(THAW + 1);
        await escrow.connect(market.outsider).applyCapCut(licenseId);

        expect(await accountOf(licenseId)).to.deep.equal({ ...before, capCode: 1n });
        await expect(escrow.applyCapCut(licenseId))
          .to.be.revertedWithCustomError(escrow, "CapCutNone")
          .withArgs(licenseId);
      });

      it("emits CapSet", async () => {
        const licenseId = await buyLicense(market, usd(10));
        await escrow.setCap(licenseId, 1);
        await time.increase(THAW + 1);
        await expect(escrow.applyCapCut(licenseId)).to.emit(escrow, "CapSet").withArgs(licenseId, 1);
      });
    });
  });

  describe("raiseGeneration", () => {
    it("raises it by one and nothing else", async () => {
      const licenseId = await buyLicense(market, usd(10), { capCode: 3 });
      const before = await accountOf(licenseId);
      await escrow.raiseGeneration(licenseId);
      await escrow.raiseGeneration(licenseId);
      expect(await accountOf(licenseId)).to.deep.equal({ ...before, generation: 2n });
    });

    it("emits GenerationRaised and returns the new one", async () => {
      const licenseId = await buyLicense(market, usd(10));
      expect(await escrow.raiseGeneration.staticCall(licenseId)).to.equal(1);
      const now = (await time.latest()) + 10;
      await time.setNextBlockTimestamp(now);
      await expect(escrow.raiseGeneration(licenseId))
        .to.emit(escrow, "GenerationRaised")
        .withArgs(licenseId, 1, now + WAIT);
    });

    describe("when the last generation was reached", () => {
      it("reverts with GenerationExhausted", async () => {
        const licenseId = await buyLicense(market, 0n);
        // 65,535 calls later: the account's word is written as it would be.
        const { slot, word } = await accountWord(market, licenseId);
        await setStorageAt(await escrow.getAddress(), slot, toBeHex(word | (0xfffdn << 232n), 32));
        await escrow.raiseGeneration(licenseId);
        expect((await escrow.accountOf(licenseId)).generation).to.equal(65_534);

        // One more is left, for the owner after a transfer.
        await expect(escrow.raiseGeneration(licenseId))
          .to.be.revertedWithCustomError(escrow, "GenerationExhausted")
          .withArgs(licenseId);
      });
    });
  });

  describe("thaw", () => {
    let licenseId: bigint;
    beforeEach(async () => {
      licenseId = await buyLicense(market, usd(10));
    });

    describe("when it is more than the balance", () => {
      it("reverts with ThawAboveBalance", async () => {
        await expect(escrow.thaw(licenseId, usd(10) + 1n))
          .to.be.revertedWithCustomError(escrow, "ThawAboveBalance")
          .withArgs(licenseId, usd(10) + 1n, usd(10));
      });
    });

    describe("when all is well", () => {
      it("announces the amount and leaves the balance as it is", async () => {
        await escrow.thaw(licenseId, usd(10));
        const { balance, thawing, thawReadyAt } = await escrow.accountOf(licenseId);
        expect([balance, thawing, thawReadyAt]).to.deep.equal([usd(10), usd(10), (await time.latest()) + THAW]);
      });

      it("emits ThawStarted", async () => {
        const now = (await time.latest()) + 10;
        await time.setNextBlockTimestamp(now);
        await expect(escrow.thaw(licenseId, usd(4)))
          .to.emit(escrow, "ThawStarted")
          .withArgs(licenseId, usd(4), now + THAW);
      });
    });

    describe("when a thaw was open", () => {
      it("replaces it, and the wait starts anew, for less, too", async () => {
        await escrow.thaw(licenseId, usd(10));
        await time.increase(THAW - 10);
        await escrow.thaw(licenseId, usd(1));
        const readyAt = (await time.latest()) + THAW;
        await time.increase(60);

        await expect(escrow.withdraw(licenseId, market.licensee))
          .to.be.revertedWithCustomError(escrow, "ThawRunning")
          .withArgs(licenseId, readyAt);
      });

      it("takes it back for zero", async () => {
        await escrow.thaw(licenseId, usd(10));
        await escrow.thaw(licenseId, 0);
        await time.increase(THAW + 1);
        await expect(escrow.withdraw(licenseId, market.licensee))
          .to.be.revertedWithCustomError(escrow, "ThawEmpty")
          .withArgs(licenseId);
      });
    });
  });

  describe("withdraw", () => {
    let licenseId: bigint;
    beforeEach(async () => {
      licenseId = await buyLicense(market, usd(10));
    });
    const thawAndWait = async (amount: bigint) => {
      await escrow.thaw(licenseId, amount);
      await time.increase(THAW + 1);
    };

    describe("when nothing was announced", () => {
      it("reverts with ThawEmpty", async () => {
        await expect(escrow.withdraw(licenseId, market.licensee))
          .to.be.revertedWithCustomError(escrow, "ThawEmpty")
          .withArgs(licenseId);
      });
    });

    describe("when the wait isn't over", () => {
      it("reverts with ThawRunning, up to the very second in which a batch may still settle", async () => {
        await escrow.thaw(licenseId, usd(10));
        const readyAt = (await time.latest()) + THAW;
        await time.setNextBlockTimestamp(readyAt);
        await expect(escrow.withdraw(licenseId, market.licensee))
          .to.be.revertedWithCustomError(escrow, "ThawRunning")
          .withArgs(licenseId, readyAt);

        await time.setNextBlockTimestamp(readyAt + 1);
        await escrow.withdraw(licenseId, market.licensee);
      });
    });

    describe("when all is well", () => {
      it("sends the amount to whom the owner says", async () => {
        await thawAndWait(usd(4));
        await expect(escrow.withdraw(licenseId, market.outsider)).to.changeTokenBalances(
          currency,
          [escrow, market.outsider],
          [-usd(4), usd(4)],
        );
      });

      it("takes it from the balance, and ends the thaw", async () => {
        const before = await accountOf(licenseId);
        await thawAndWait(usd(4));
        await escrow.withdraw(licenseId, market.outsider);

        expect(await accountOf(licenseId)).to.deep.equal({ ...before, balance: usd(6) });
        await expect(escrow.withdraw(licenseId, market.outsider))
          .to.be.revertedWithCustomError(escrow, "ThawEmpty")
          .withArgs(licenseId);
      });

      it("emits Withdrawn", async () => {
        await thawAndWait(usd(4));
        await expect(escrow.withdraw(licenseId, market.outsider))
          .to.emit(escrow, "Withdrawn")
          .withArgs(licenseId, market.outsider.address, usd(4));
      });
    });

    describe("when a charge came in the wait", () => {
      it("sends what is left of the balance, if that is less than was announced", async () => {
        await escrow.thaw(licenseId, usd(9));
        await settle(market, [entryOf(licenseId, { requests: 0n, inputTokens: 3_000_000n, outputTokens: 0n })]);
        await time.increase(THAW);

        await expect(escrow.withdraw(licenseId, market.licensee)).to.changeTokenBalance(
          currency,
          market.licensee,
          usd(7),
        );
        expect((await escrow.accountOf(licenseId)).balance).to.equal(0);
      });

      it("sends what was announced, if the balance still covers it", async () => {
        await escrow.thaw(licenseId, usd(6));
        await settle(market, [entryOf(licenseId, { requests: 0n, inputTokens: 3_000_000n, outputTokens: 0n })]);
        await time.increase(THAW);

        await expect(escrow.withdraw(licenseId, market.licensee)).to.changeTokenBalance(
          currency,
          market.licensee,
          usd(6),
        );
        expect((await escrow.accountOf(licenseId)).balance).to.equal(usd(1));
      });

      it("sends nothing, and ends the thaw, if nothing is left", async () => {
        await escrow.thaw(licenseId, usd(10));
        await settle(market, [entryOf(licenseId, { requests: 0n, inputTokens: 30_000_000n, outputTokens: 0n })]);
        await time.increase(THAW);

        await expect(escrow.withdraw(licenseId, market.licensee))
          .to.emit(escrow, "Withdrawn")
          .withArgs(licenseId, market.licensee.address, 0);
        expect((await escrow.accountOf(licenseId)).thawing).to.equal(0);
      });
    });

    describe("when the license expired long ago, its operator, plan and governance gone", () => {
      it("sends what remains all the same", async () => {
        const planId = await addPlan(market, { renewable: false });
        licenseId = await buyLicense(market, usd(3), { planId });
        await market.licet.licenses.connect(market.publisher).closePlan(planId);
        await market.licet.operators.connect(market.operator).setServed(1, 1, false);
        await time.increase(5 * 365 * DAY);
        await thawAndWait(usd(3));

        await expect(escrow.withdraw(licenseId, market.licensee)).to.changeTokenBalance(
          currency,
          market.licensee,
          usd(3),
        );
      });
    });
  });

  describe("setFee", () => {
    describe("when the caller isn't the governor", () => {
      it("reverts with AccessManagedUnauthorized", async () => {
        for (const caller of [market.guardian, market.deployer, market.treasury]) {
          await expect(escrow.connect(caller).setFee(0))
            .to.be.revertedWithCustomError(escrow, "AccessManagedUnauthorized")
            .withArgs(caller.address);
        }
      });
    });

    describe("when the fee is above 5 %", () => {
      it("reverts with FeeAboveBound", async () => {
        await expect(escrow.connect(market.governor).setFee(501))
          .to.be.revertedWithCustomError(escrow, "FeeAboveBound")
          .withArgs(501, 500);
      });
    });

    describe("when all is well", () => {
      it("sets it", async () => {
        await escrow.connect(market.governor).setFee(500);
        expect(await escrow.feeBps()).to.equal(500);
      });

      it("emits FeeSet", async () => {
        await expect(escrow.connect(market.governor).setFee(0)).to.emit(escrow, "FeeSet").withArgs(0);
      });
    });
  });

  describe("raiseDepositCeiling", () => {
    describe("when the caller isn't the governor", () => {
      it("reverts with AccessManagedUnauthorized", async () => {
        await expect(escrow.connect(market.guardian).raiseDepositCeiling(UINT64_MAX))
          .to.be.revertedWithCustomError(escrow, "AccessManagedUnauthorized")
          .withArgs(market.guardian.address);
      });
    });

    describe("when it isn't higher than before", () => {
      it("reverts with CeilingNotRaised", async () => {
        const ceiling = await escrow.depositCeiling();
        for (const next of [ceiling, ceiling - 1n, 0n]) {
          await expect(escrow.connect(market.governor).raiseDepositCeiling(next))
            .to.be.revertedWithCustomError(escrow, "CeilingNotRaised")
            .withArgs(next, ceiling);
        }
      });
    });

    describe("when all is well", () => {
      it("raises it and emits DepositCeilingRaised", async () => {
        await expect(escrow.connect(market.governor).raiseDepositCeiling(UINT64_MAX))
          .to.emit(escrow, "DepositCeilingRaised")
          .withArgs(UINT64_MAX);
        expect(await escrow.depositCeiling()).to.equal(UINT64_MAX);
      });
    });
  });

  describe("pause", () => {
    describe("when the caller isn't the guardian", () => {
      it("reverts with AccessManagedUnauthorized", async () => {
        await expect(escrow.connect(market.governor).pause())
          .to.be.revertedWithCustomError(escrow, "AccessManagedUnauthorized")
          .withArgs(market.governor.address);
      });
    });

    describe("when a pause runs, or ended less than its own length ago", () => {
      it("reverts with PauseTooSoon", async () => {
        await pause();
        const allowedAt = (await time.latest()) + 2 * PAUSE;
        for (const at of [(await time.latest()) + 60, allowedAt - PAUSE, allowedAt - 1]) {
          await time.setNextBlockTimestamp(at);
          await expect(pause()).to.be.revertedWithCustomError(escrow, "PauseTooSoon").withArgs(allowedAt);
        }
        await time.setNextBlockTimestamp(allowedAt);
        await pause();
      });
    });

    describe("when a pause was ended before its time", () => {
      it("reverts with PauseTooSoon until its length has passed since", async () => {
        await pause();
        await escrow.connect(market.guardian).unpause();
        const allowedAt = (await time.latest()) + PAUSE;
        await expect(pause()).to.be.revertedWithCustomError(escrow, "PauseTooSoon").withArgs(allowedAt);
        await time.setNextBlockTimestamp(allowedAt);
        await pause();
      });
    });

    describe("when all is well", () => {
      it("stops purchases and deposits for seven days and not a second longer", async () => {
        const licenseId = await buyLicense(market, 0n);
        await pause();
        const until = (await time.latest()) + PAUSE;
        expect(await escrow.pausedUntil()).to.equal(until);

        await time.setNextBlockTimestamp(until - 1);
        await expect(escrow.deposit(licenseId, 1))
          .to.be.revertedWithCustomError(escrow, "DepositsPaused")
          .withArgs(until);
        await time.setNextBlockTimestamp(until);
        await escrow.deposit(licenseId, 1);
      });

      it("emits Paused", async () => {
        const now = (await time.latest()) + 10;
        await time.setNextBlockTimestamp(now);
        await expect(pause())
          .to.emit(escrow, "Paused")
          .withArgs(now + PAUSE);
      });
    });
  });

  describe("unpause", () => {
    describe("when the caller isn't the guardian", () => {
      it("reverts with AccessManagedUnauthorized", async () => {
        await expect(escrow.connect(market.outsider).unpause())
          .to.be.revertedWithCustomError(escrow, "AccessManagedUnauthorized")
          .withArgs(market.outsider.address);
      });
    });

    describe("when a pause runs", () => {
      it("ends it at once and emits Unpaused", async () => {
        await pause();
        await expect(escrow.connect(market.guardian).unpause()).to.emit(escrow, "Unpaused").withArgs();
        await buyLicense(market, usd(1));
      });
    });

    describe("when none runs", () => {
      it("changes nothing", async () => {
        await pause();
        const until = await escrow.pausedUntil();
        await time.increase(8 * DAY);
        await escrow.connect(market.guardian).unpause();
        expect(await escrow.pausedUntil()).to.equal(until);
      });
    });
  });

  describe("accountOf", () => {
    it("is all zero for a license that doesn't exist, which nobody has kept from renewing", async () => {
      const { renews, ...rest } = await accountOf(5n);
      expect(renews).to.equal(true);
      expect(Object.values(rest).map(Number)).to.deep.equal(Array(23).fill(0));
    });
  });

  describe("capOf", () => {
    it("is the code's whole units in the currency's, or none", async () => {
      expect(await escrow.capOf(0)).to.equal(MaxUint256);
      expect(await escrow.capOf(1)).to.equal(usd(9));
      expect(await escrow.capOf(8)).to.equal(usd(16));
      expect(await escrow.capOf(255)).to.equal(usd(15 * 2 ** 31));
    });
  });

  describe("one license", () => {
    it("is served by the operator that its buyer chose, among those who serve its plan", async () => {
      const other = await addOperator(market, market.payees[4], 0n);
      const licenseId = await buyLicense(market, 0n, { operatorId: other });
      expect((await escrow.accountOf(licenseId)).operatorId).to.equal(other);
    });
  });
});

/** A market whose currency can be told to take a toll. */
async function deployWithTolls(): Promise<Market> {
  const currency = await hre.ethers.deployContract("FeeOnTransferCurrency");
  return deployMarket({ currency: await currency.getAddress() });
}

/** A market whose currency is a plain ERC-20. */
async function deployWithoutPermits(): Promise<Market> {
  const deployed = await hre.ethers.deployContract("CurrencyOfDecimals", [6]);
  const currency = CurrencyOfDecimals__factory.connect(await deployed.getAddress(), hre.ethers.provider);
  return deployMarket({ currency: await currency.getAddress() });
}
