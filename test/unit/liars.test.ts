import { loadFixture, time } from "@nomicfoundation/hardhat-network-helpers";
import { expect } from "chai";
import { AbiCoder, id, keccak256 } from "ethers";
import hre from "hardhat";
import {
  BlocklistingCurrency__factory,
  CommitteeAttestor__factory,
  CurrencyThatSaysNo__factory,
  type BlocklistingCurrency,
} from "../../typechain-types";
import {
  addPlan,
  ANY_SHARES,
  ATTESTORS,
  batchOf,
  buyLicense,
  DAY,
  deployMarket,
  HOUR,
  purchaseOf,
  postBond,
  settle,
  usd,
  WAIT,
  worth,
  type Market,
} from "../support/market";

/** What a contract outside the protocol may lie about, one lie at a time, and whom it can harm by it. */
describe("liars", () => {
  describe("a currency that some may not have any more", () => {
    let market: Market;
    let escrow: Market["licet"]["escrow"];
    let currency: BlocklistingCurrency;

    beforeEach(async () => {
      market = await loadFixture(deployWithBlocklist);
      escrow = market.licet.escrow;
      currency = BlocklistingCurrency__factory.connect(await market.licet.currency.getAddress(), market.outsider);
      const licenseId = await buyLicense(market, usd(50));
      const { batchId } = await settle(market, [worth(licenseId, 10)]);
      await escrow.connect(market.licensee).thaw(licenseId, usd(40));
      await time.increase(WAIT + 1);
      await escrow.release(batchId);
      await market.licet.committee.shareIncome(batchId);
      await escrow.payAsset(1);
      await market.licet.waterfall.distribute(1);
    });

    const exits: [string, () => Market["licensee"], () => Promise<unknown>][] = [
      ["the licensee", () => market.licensee, () => escrow.connect(market.licensee).withdraw(1, market.licensee)],
      [
        "the operator",
        () => market.operator,
        () => escrow.connect(market.operator).withdrawEarnings(1, market.operator),
      ],
      [
        "the publisher",
        () => market.publisher,
        () => market.licet.waterfall.connect(market.publisher).withdraw(market.publisher),
      ],
      ["the treasury", () => market.treasury, () => escrow.withdrawFees()],
      [
        "an attestor's payee",
        () => market.payees[0],
        () => market.licet.committee.connect(market.payees[0]).withdraw(market.payees[0]),
      ],
    ];
    for (const [who, blocked, exit] of exits) {
      it(`stops nobody but ${who} whom it blocks, whose money waits`, async () => {
        await currency.blockAccount(blocked());
        await expect(exit()).to.be.revertedWithCustomError(currency, "AccountBlocked").withArgs(blocked().address);
        for (const [other, , leave] of exits) {
          if (other !== who) await leave();
        }
        await escrow.payPool(1);
      });
    }

    it("lets all but the treasury take their money elsewhere", async () => {
      const elsewhere = market.payees[9];
      for (const account of [market.licensee, market.operator]) await currency.blockAccount(account);
      await escrow.connect(market.licensee).withdraw(1, elsewhere);
      await escrow.connect(market.operator).withdrawEarnings(1, elsewhere);
      expect(await currency.balanceOf(elsewhere)).to.equal(usd(40) + usd(6.7));
    });
  });

  describe("a currency that says no instead of reverting", () => {
    it("isn't believed: what it didn't move wasn't paid, neither in nor out", async () => {
      const market = await loadFixture(deployWithNo);
      const { escrow, staking } = market.licet;
      const currency = CurrencyThatSaysNo__factory.connect(await market.licet.currency.getAddress(), market.outsider);
      const licenseId = await buyLicense(market, usd(50));
      await escrow.connect(market.licensee).thaw(licenseId, usd(50));
      await time.increase(WAIT + 1);
      await currency.sayNo();
      for (const act of [
        () => escrow.connect(market.licensee).deposit(licenseId, 1),
        () => escrow.connect(market.licensee).buy(purchaseOf(market, { amount: 1n })),
        () => escrow.connect(market.licensee).withdraw(licenseId, market.licensee),
        () => staking.connect(market.operator).addStake(1, 1, ...ANY_SHARES),
      ]) {
        await expect(act())
          .to.be.revertedWithCustomError(escrow, "SafeERC20FailedOperation")
          .withArgs(await currency.getAddress());
      }
      const { balance, thawing } = await escrow.accountOf(licenseId);
      expect([balance, thawing]).to.deep.equal([usd(50), usd(50)]);
    });
  });

  describe("an escrow that pays nothing of what it says it pays", () => {
    it("harms nobody but the committee that was made for it", async () => {
      const market = await loadFixture(deployMarket);
      const liar = await hre.ethers.deployContract("EscrowThatPaysNothing", [await market.licet.currency.getAddress()]);
      const payee = market.payees[0];
      const members = [{ signer: ATTESTORS[0].address, weight: 1, payee: payee.address }];
      const deployed = await hre.ethers.deployContract("CommitteeAttestor", [await liar.getAddress(), 1, members, 1]);
      const fooled = CommitteeAttestor__factory.connect(await deployed.getAddress(), market.outsider);
      await fooled.shareIncome(id("any batch"));

      expect(await fooled.incomeOf(payee)).to.equal(usd(1));
      await expect(fooled.connect(payee).withdraw(payee))
        .to.be.revertedWithCustomError(market.licet.currency, "ERC20InsufficientBalance")
        .withArgs(await fooled.getAddress(), 0, usd(1));
      expect(await market.licet.committee.incomeOf(payee)).to.equal(0);
    });
  });

  describe("a smart account that has signed whatever one asks it about", () => {
    it("counts for itself alone, as often as it is named", async () => {
      const market = await loadFixture(deployMarket);
      const deployed = await hre.ethers.deployContract("WalletThatAlwaysSigns");
      const wallet = await deployed.getAddress();
      const payee = market.payees[0].address;
      const members = [wallet, ATTESTORS[0].address, ATTESTORS[1].address].map((signer) => ({
        signer,
        weight: 1,
        payee,
      }));
      const escrow = await market.licet.escrow.getAddress();
      const committee = CommitteeAttestor__factory.connect(
        await (await hre.ethers.deployContract("CommitteeAttestor", [escrow, 1, members, 2])).getAddress(),
        market.outsider,
      );
      for (const { signer } of members) await postBond({ ...market.licet, committee }, signer, market.payees[0]);
      const digest = id("never shown to it");
      const proofOf = (signatures: [string, string][]) =>
        AbiCoder.defaultAbiCoder().encode(
          ["bytes[]", "bytes[]"],
          [signatures.map(([signer]) => signer), signatures.map(([, signature]) => signature)],
        );
      const bySigner = (signatures: [string, string][]) =>
        signatures.sort(([a], [b]) => (keccak256(a) < keccak256(b) ? -1 : 1));

      expect(await committee.vouches(digest, proofOf([[wallet, "0x"]]))).to.equal(0);
      expect(
        await committee.vouches(
          digest,
          proofOf([
            [wallet, "0x"],
            [wallet, "0x01"],
          ]),
        ),
      ).to.equal(0);
      const honest = ATTESTORS[0].signingKey.sign(digest).serialized;
      const both = bySigner([
        [wallet, "0x"],
        [ATTESTORS[0].address, honest],
      ]);
      expect(await committee.vouches(digest, proofOf(both))).to.equal(0b011);
    });
  });

  describe("an attestor that vouches for whatever it is shown", () => {
    it("reaches nobody who didn't buy under a plan that names it", async () => {
      const market = await loadFixture(deployMarket);
      const { escrow } = market.licet;
      const attestor = await hre.ethers.deployContract("AttestorThatAlwaysVouches");
      const planId = await addPlan(market, { attestor: await attestor.getAddress() });
      const victim = await buyLicense(market, usd(50));
      await time.increase(HOUR);
      const { header, entries } = await batchOf(market, [worth(victim, 50)], { planId });
      await escrow.settle(header, entries, "0x");
      expect((await escrow.accountOf(victim)).balance).to.equal(usd(50));
      await time.increase(3 * DAY);
      await expect(escrow.release(await escrow.batchIdOf(header))).to.changeTokenBalance(
        market.licet.currency,
        escrow,
        0,
      );
    });
  });
});

/** A market whose currency can be told to block accounts. */
async function deployWithBlocklist(): Promise<Market> {
  const currency = await hre.ethers.deployContract("BlocklistingCurrency");
  return deployMarket({ currency: await currency.getAddress() });
}

/** A market whose currency can be told to say no. */
async function deployWithNo(): Promise<Market> {
  const currency = await hre.ethers.deployContract("CurrencyThatSaysNo");
  return deployMarket({ currency: await currency.getAddress() });
}
