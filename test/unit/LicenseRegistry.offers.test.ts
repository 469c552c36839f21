import { loadFixture, time } from "@nomicfoundation/hardhat-network-helpers";
import { expect } from "chai";
import { id, TypedDataEncoder, Wallet } from "ethers";
import hre from "hardhat";
import { OFFER_TYPES } from "../../oracle/protocol/offers";
import {
  buyLicense,
  DAY,
  deployMarket,
  planTerms,
  purchaseOf,
  signOffer,
  signPayment,
  structOf,
  usd,
  type Market,
} from "../support/market";

const ZERO = "0x0000000000000000000000000000000000000000";

describe("LicenseRegistry (offers)", () => {
  let market: Market;
  let licenses: Market["licet"]["licenses"];
  let attestor: string;

  beforeEach(async () => {
    market = await loadFixture(deployMarket);
    licenses = market.licet.licenses.connect(market.outsider);
    attestor = await market.licet.committee.getAddress();
  });

  /** An offer of a license of the market's model to the licensee, for a day. */
  const offerOf = async (changes: object = {}) => ({
    terms: planTerms(1, attestor, { upfrontPrice: usd(3), cap: usd(90), supply: 1 }),
    buyer: market.licensee.address,
    salt: 7n,
    deadline: (await time.latest()) + DAY,
    ...changes,
  });
  type Offer = Awaited<ReturnType<typeof offerOf>>;
  const sign = (offer: Offer) => signOffer(market, offer);
  const accept = async (offer: Offer, signature?: string) =>
    licenses.acceptOffer(offer, signature ?? (await sign(offer)));

  describe("acceptOffer", () => {
    describe("when the offer was accepted before", () => {
      it("reverts with OfferUsedBefore", async () => {
        const offer = await offerOf();
        await accept(offer);
        await expect(accept(offer))
          .to.be.revertedWithCustomError(licenses, "OfferUsedBefore")
          .withArgs(await licenses.offerHash(offer));
        expect(await licenses.planCount()).to.equal(2);
      });

      it("says which plan it is, so that whoever was overtaken has lost nothing", async () => {
        const offer = await offerOf();
        const hash = await licenses.offerHash(offer);
        expect(await licenses.planOfOffer(hash)).to.equal(0);
        await licenses.connect(market.payees[0]).acceptOffer(offer, await sign(offer));
        const planId = await licenses.planOfOffer(hash);
        await market.licet.operators.connect(market.operator).setServed(1, planId, true);
        await buyLicense(market, usd(5), { planId: Number(planId) });
        expect(await licenses.ownerOf(1)).to.equal(market.licensee.address);
      });

      it("takes one that differs in its salt alone", async () => {
        await accept(await offerOf());
        await accept(await offerOf({ salt: 8n }));
        expect(await licenses.planCount()).to.equal(3);
      });
    });

    describe("when the offer was withdrawn", () => {
      it("reverts with OfferUsedBefore", async () => {
        const offer = await offerOf();
        await licenses.connect(market.publisher).withdrawOffer(offer);
        await expect(accept(offer))
          .to.be.revertedWithCustomError(licenses, "OfferUsedBefore")
          .withArgs(await licenses.offerHash(offer));
      });
    });

    describe("when its deadline has passed", () => {
      it("reverts with OfferExpired: its own second is in time", async () => {
        const [first, second] = [await offerOf(), await offerOf({ salt: 8n })];
        await time.setNextBlockTimestamp(first.deadline);
        await accept(first);
        await time.setNextBlockTimestamp(second.deadline + 1);
        await expect(accept(second))
          .to.be.revertedWithCustomError(licenses, "OfferExpired")
          .withArgs(second.deadline, second.deadline + 1);
      });
    });

    describe("when it is for nobody", () => {
      it("reverts with BuyerZero: it would be for all", async () => {
        await expect(accept(await offerOf({ buyer: ZERO })))
          .to.be.revertedWithCustomError(licenses, "BuyerZero")
          .withArgs();
      });
    });

    describe("when there is no such model", () => {
      it("reverts with ERC721NonexistentToken", async () => {
        await expect(accept(await offerOf({ terms: planTerms(9, attestor) })))
          .to.be.revertedWithCustomError(market.licet.assets, "ERC721NonexistentToken")
          .withArgs(9);
      });
    });

    describe("when the model's owner didn't sign it", () => {
      const refuses = async (offer: Offer, signature: string) =>
        expect(accept(offer, signature))
          .to.be.revertedWithCustomError(licenses, "OfferNotSigned")
          .withArgs(await licenses.offerHash(offer), await market.licet.assets.ownerOf(1));

      it("reverts with OfferNotSigned", async () => {
        const offer = await offerOf();
        await refuses(offer, await signOffer(market, offer, market.licensee));
        await refuses(offer, "0x");
      });

      it("reverts with OfferNotSigned where it was signed by whom the owner approved", async () => {
        await market.licet.assets.connect(market.publisher).approve(market.payees[0], 1);
        const offer = await offerOf();
        await refuses(offer, await signOffer(market, offer, market.payees[0]));
      });

      it("reverts with OfferNotSigned where the model has been sold since: the former owner's offers are void", async () => {
        const offer = await offerOf();
        const signature = await sign(offer);
        await market.licet.assets
          .connect(market.publisher)
          .transferFrom(market.publisher, market.payees[0], market.assetId);
        await refuses(offer, signature);
        await accept(offer, await signOffer(market, offer, market.payees[0]));
      });

      it("reverts with OfferNotSigned also where the model came back: what was signed before a sale stays void", async () => {
        const { assets } = market.licet;
        const [buyer] = market.payees;
        const offer = await offerOf();
        const signature = await sign(offer);
        await assets.connect(market.publisher).transferFrom(market.publisher, buyer, market.assetId);
        await assets.connect(buyer).transferFrom(buyer, market.publisher, market.assetId);
        await refuses(offer, signature);
        await accept(offer, await sign(offer));
      });

      it("reverts with OfferNotSigned where anything but the signature was changed", async () => {
        const offer = await offerOf();
        const signature = await sign(offer);
        const { terms } = offer;
        const changes: Partial<Offer>[] = [
          { buyer: market.outsider.address },
          { salt: 8n },
          { deadline: offer.deadline + 1 },
          { terms: { ...terms, upfrontPrice: 0n } },
          { terms: { ...terms, supply: 0 } },
          { terms: { ...terms, rates: { ...terms.rates, computeMs: 0n } } },
          { terms: { ...terms, levels: { ...terms.levels, severeTtftDiscountBps: 3_000 } } },
          { terms: { ...terms, licenseTextHash: id("another text") } },
        ];
        for (const change of changes) await refuses({ ...offer, ...change }, signature);
        await accept(offer, signature);
      });

      it("reverts with OfferNotSigned where it was signed for another chain, or another registry", async () => {
        const offer = await offerOf();
        for (const change of [{ chainId: 1n }, { verifyingContract: attestor }, { name: "Licet UsageEscrow" }]) {
          await refuses(offer, await signOffer(market, offer, market.publisher, change));
        }
      });
    });

    describe("when its terms aren't a plan's", () => {
      it("reverts as createPlan does, and the offer isn't used", async () => {
        const offer = await offerOf({ terms: planTerms(1, attestor, { minEvidenceTier: 5 }) });
        await expect(accept(offer)).to.be.revertedWithCustomError(licenses, "EvidenceTierUnknown").withArgs(5, 4);
        expect(await licenses.isOfferUsed(await licenses.offerHash(offer))).to.equal(false);
      });
    });

    describe("when all is well", () => {
      it("creates the plan for its buyer alone, whoever sends it", async () => {
        const offer = await offerOf();
        await accept(offer);

        const { upfrontPrice, cap, supply } = structOf(await licenses.termsOf(2));
        expect({ upfrontPrice, cap, supply }).to.deep.equal({ upfrontPrice: usd(3), cap: usd(90), supply: 1n });
        expect(await licenses.buyerOf(2)).to.equal(market.licensee.address);
        expect(await licenses.isOfferUsed(await licenses.offerHash(offer))).to.equal(true);
        expect(await licenses.salesOf(2)).to.deep.equal([0, false]);
      });

      it("emits PlanCreated and OfferAccepted", async () => {
        const offer = await offerOf();
        await expect(accept(offer))
          .to.emit(licenses, "PlanCreated")
          .withArgs(2, 1, (terms: unknown) => structOf(terms as object).upfrontPrice === usd(3))
          .and.to.emit(licenses, "OfferAccepted")
          .withArgs(await licenses.offerHash(offer), 2, market.licensee.address);
      });

      it("takes the signature of an owner that is a smart account (ERC-1271)", async () => {
        const key = Wallet.createRandom();
        const wallet = await hre.ethers.deployContract("SmartWallet", [key.address]);
        await market.licet.assets.connect(market.publisher).transferFrom(market.publisher, wallet, market.assetId);
        const offer = await offerOf();
        await expect(
          accept(offer, await signOffer(market, offer, Wallet.createRandom())),
        ).to.be.revertedWithCustomError(licenses, "OfferNotSigned");
        await accept(offer, await signOffer(market, offer, key));
        expect(await licenses.buyerOf(2)).to.equal(market.licensee.address);
      });

      it("hashes an offer as EIP-712 has it", async () => {
        const offer = await offerOf();
        const [, name, version, chainId, verifyingContract] = await licenses.eip712Domain();
        expect(name).to.equal("Licet LicenseRegistry");
        for (const transferCount of [0, 1]) {
          expect(await licenses.offerHash(offer)).to.equal(
            TypedDataEncoder.hash({ name, version, chainId, verifyingContract }, OFFER_TYPES, {
              ...offer,
              transferCount,
            }),
          );
          await market.licet.assets.connect(market.publisher).transferFrom(market.publisher, market.publisher, 1);
        }
      });
    });
  });

  describe("withdrawOffer", () => {
    describe("when the caller isn't the model's owner nor approved by it", () => {
      it("reverts with CallerNotPublisher", async () => {
        await expect(licenses.withdrawOffer(await offerOf()))
          .to.be.revertedWithCustomError(licenses, "CallerNotPublisher")
          .withArgs(1, market.outsider.address);
      });
    });

    describe("when the offer was accepted or withdrawn before", () => {
      it("reverts with OfferUsedBefore", async () => {
        const [accepted, withdrawn] = [await offerOf(), await offerOf({ salt: 8n })];
        await accept(accepted);
        await licenses.connect(market.publisher).withdrawOffer(withdrawn);
        for (const offer of [accepted, withdrawn]) {
          await expect(licenses.connect(market.publisher).withdrawOffer(offer))
            .to.be.revertedWithCustomError(licenses, "OfferUsedBefore")
            .withArgs(await licenses.offerHash(offer));
        }
      });
    });

    describe("when all is well", () => {
      it("emits OfferWithdrawn, for whom the owner approved, too", async () => {
        await market.licet.assets.connect(market.publisher).approve(market.outsider, 1);
        const offer = await offerOf();
        await expect(licenses.withdrawOffer(offer))
          .to.emit(licenses, "OfferWithdrawn")
          .withArgs(await licenses.offerHash(offer), 1);
      });
    });
  });

  describe("mint", () => {
    beforeEach(async () => {
      await accept(await offerOf());
      await market.licet.operators.connect(market.operator).setServed(1, 2, true);
    });

    describe("when the license would be another's than the plan's buyer's", () => {
      it("reverts with PlanForAnother, whoever pays", async () => {
        await expect(buyLicense(market, 0n, { planId: 2, to: market.outsider.address }))
          .to.be.revertedWithCustomError(licenses, "PlanForAnother")
          .withArgs(2, market.licensee.address, market.outsider.address);
      });
    });

    describe("when another pays for the buyer's", () => {
      it("reverts with PayerNotBuyer: nobody uses up what there is for the buyer, at an operator of its own", async () => {
        const { escrow, operators } = market.licet;
        const { outsider, licensee } = market;
        await operators.connect(outsider).register("https://gateway.evil", "");
        await operators.connect(outsider).setServed(2, 2, true);
        const purchase = purchaseOf(market, { planId: 2, operatorId: 2, maxPrice: usd(3) });
        const refused = (sent: Promise<unknown>) =>
          expect(sent)
            .to.be.revertedWithCustomError(escrow, "PayerNotBuyer")
            .withArgs(2, licensee.address, outsider.address);
        await refused(escrow.connect(outsider).buy(purchase));
        await refused(escrow.connect(outsider).buyWithPermit(purchase, 27, id("r"), id("s")));
        const paid = await signPayment(market, usd(3), (salt) => escrow.purchaseHash(purchase, salt), {
          signer: outsider,
        });
        await refused(escrow.connect(licensee).buyWithAuthorization(purchase, paid));
        expect(await licenses.salesOf(2)).to.deep.equal([0, false]);
      });
    });

    describe("when it is the buyer's", () => {
      it("mints it where the buyer has signed the payment, whoever relays that", async () => {
        const purchase = purchaseOf(market, { planId: 2, maxPrice: usd(3) });
        const { escrow } = market.licet;
        const paid = await signPayment(market, usd(3), (salt) => escrow.purchaseHash(purchase, salt));
        await escrow.connect(market.outsider).buyWithAuthorization(purchase, paid);
        expect(await licenses.ownerOf(1)).to.equal(market.licensee.address);
      });

      it("mints it, as often as the terms say", async () => {
        expect(await buyLicense(market, usd(5), { planId: 2 })).to.equal(1n);
        expect(await licenses.ownerOf(1)).to.equal(market.licensee.address);
        await expect(buyLicense(market, 0n, { planId: 2 }))
          .to.be.revertedWithCustomError(licenses, "PlanSoldOut")
          .withArgs(2, 1);
      });
    });

    describe("when the publisher has closed the plan", () => {
      it("reverts with PlanIsClosed", async () => {
        await licenses.connect(market.publisher).closePlan(2);
        await expect(buyLicense(market, 0n, { planId: 2 }))
          .to.be.revertedWithCustomError(licenses, "PlanIsClosed")
          .withArgs(2);
      });
    });
  });

  it("has no buyer for a plan that its publisher created", async () => {
    expect(await licenses.buyerOf(1)).to.equal(ZERO);
  });
});
