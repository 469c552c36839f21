import { impersonateAccount, loadFixture, setBalance } from "@nomicfoundation/hardhat-network-helpers";
import { expect } from "chai";
import hre from "hardhat";
import { deployMarket, usd, type Market } from "../support/market";

describe("RevenueWaterfall", () => {
  let market: Market;
  let waterfall: Market["licet"]["waterfall"];

  beforeEach(async () => {
    market = await loadFixture(deployWithEscrow);
    waterfall = market.licet.waterfall;
  });

  const asEscrow = async () => waterfall.connect(await hre.ethers.getSigner(await market.licet.escrow.getAddress()));

  describe("credit", () => {
    describe("when the caller isn't UsageEscrow", () => {
      it("reverts with AccessManagedUnauthorized", async () => {
        await expect(waterfall.connect(market.outsider).credit(1, usd(5)))
          .to.be.revertedWithCustomError(waterfall, "AccessManagedUnauthorized")
          .withArgs(market.outsider.address);
      });
    });

    describe("when all is well", () => {
      it("adds to the asset's pot and emits IncomeCredited", async () => {
        await (await asEscrow()).credit(1, usd(5));
        await expect((await asEscrow()).credit(1, usd(2)))
          .to.emit(waterfall, "IncomeCredited")
          .withArgs(1, 0, usd(2));

        expect(await waterfall.potOf(1)).to.equal(usd(7));
        expect(await waterfall.potOf(2)).to.equal(0);
      });
    });
  });

  describe("distribute", () => {
    it("reverts with PotEmpty where nothing waits", async () => {
      await expect(waterfall.distribute(1)).to.be.revertedWithCustomError(waterfall, "PotEmpty").withArgs(1);
    });

    it("moves the pot to its owner's claims and emits PotDistributed", async () => {
      await (await asEscrow()).credit(1, usd(5));
      await expect(waterfall.distribute(1))
        .to.emit(waterfall, "PotDistributed")
        .withArgs(1, market.publisher.address, usd(5));
      expect(await waterfall.potOf(1)).to.equal(0);
      expect(await waterfall.claimableOf(market.publisher)).to.equal(usd(5));
    });
  });

  describe("withdraw", () => {
    it("reverts with ClaimableEmpty where nothing is the caller's", async () => {
      await expect(waterfall.connect(market.outsider).withdraw(market.outsider))
        .to.be.revertedWithCustomError(waterfall, "ClaimableEmpty")
        .withArgs(market.outsider.address);
    });

    it("sends all that is the caller's, once, and emits Withdrawn", async () => {
      await (await asEscrow()).credit(1, usd(5));
      await market.licet.currency.mint(waterfall, usd(5));
      await waterfall.distribute(1);
      const withdraw = () => waterfall.connect(market.publisher).withdraw(market.outsider);
      await expect(withdraw())
        .to.emit(waterfall, "Withdrawn")
        .withArgs(market.publisher.address, market.outsider.address, usd(5));
      expect(await market.licet.currency.balanceOf(market.outsider)).to.equal(usd(5));
      await expect(withdraw()).to.be.revertedWithCustomError(waterfall, "ClaimableEmpty");
    });
  });
});

/** A market where UsageEscrow can call by itself. */
async function deployWithEscrow(): Promise<Market> {
  const market = await deployMarket();
  const escrow = await market.licet.escrow.getAddress();
  await impersonateAccount(escrow);
  await setBalance(escrow, 10n ** 18n);
  return market;
}
