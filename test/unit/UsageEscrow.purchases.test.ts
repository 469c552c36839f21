import { loadFixture, time } from "@nomicfoundation/hardhat-network-helpers";
import { expect } from "chai";
import { id, Wallet, type Signer } from "ethers";
import hre from "hardhat";
import { depositHash, purchaseHash } from "../../oracle/protocol/payments";
import { FeeOnTransferCurrency__factory } from "../../typechain-types";
import {
  addOperator,
  addPlan,
  buyLicense,
  DAY,
  deployMarket,
  LicenseStatus,
  NO_LIMITS,
  purchaseOf,
  signPayment,
  signPermit,
  STOP_GRACE,
  usd,
  WAIT,
  type Market,
  type Purchase,
} from "../support/market";

describe("UsageEscrow (payments that come with a signature)", () => {
  let market: Market;
  /** As a relayer calls it, who has no money of the market's. */
  let escrow: Market["licet"]["escrow"];
  let currency: Market["licet"]["currency"];

  beforeEach(async () => {
    market = await loadFixture(deployMarket);
    escrow = market.licet.escrow.connect(market.outsider);
    currency = market.licet.currency;
    await currency.connect(market.licensee).approve(escrow, 0);
  });

  type Changes = Parameters<typeof signPayment>[3];
  const payFor = (purchase: Purchase, value: bigint, changes?: Changes) =>
    signPayment(market, value, (salt) => escrow.purchaseHash(purchase, salt), changes);
  const payInto = (licenseId: bigint, value: bigint, changes?: Changes) =>
    signPayment(market, value, (salt) => escrow.depositHash(licenseId, market.licensee.address, value, salt), changes);

  /** What is wrong with a payment, whatever it is for. */
  const spoiled: [string, Changes][] = [
    ["to another escrow", { to: "0x00000000000000000000000000000000000000A1" }],
    ["on another chain", { chainId: 1n }],
    ["as a transfer that anybody may execute", { as: "TransferWithAuthorization" }],
  ];

  describe("buyWithAuthorization", () => {
    const price = usd(12);
    let purchase: Purchase;

    beforeEach(async () => {
      const planId = await addPlan(market, { upfrontPrice: usd(7) });
      purchase = purchaseOf(market, { planId, amount: usd(5), maxPrice: price, to: market.payees[0].address });
    });

    const buy = async (bought = purchase, changes?: Changes) =>
      escrow.buyWithAuthorization(bought, await payFor(purchase, price, changes));

    describe("when purchases are paused", () => {
      it("reverts with DepositsPaused", async () => {
        await escrow.connect(market.guardian).pause();
        await expect(buy())
          .to.be.revertedWithCustomError(escrow, "DepositsPaused")
          .withArgs(await escrow.pausedUntil());
      });
    });

    describe("when the deadline has passed", () => {
      it("reverts with DeadlinePassed, whatever the currency would say", async () => {
        purchase.deadline = await time.latest();
        await expect(buy())
          .to.be.revertedWithCustomError(escrow, "DeadlinePassed")
          .withArgs(purchase.deadline, purchase.deadline + 1);
      });
    });

    describe("when it costs more than its limit", () => {
      it("reverts with PriceAboveLimit", async () => {
        purchase.maxPrice = price - 1n;
        await expect(buy())
          .to.be.revertedWithCustomError(escrow, "PriceAboveLimit")
          .withArgs(price, price - 1n);
      });
    });

    describe("when the relayer changes what is bought", () => {
      const changes: [string, (market: Market) => Partial<Purchase>][] = [
        ["the plan", () => ({ planId: 1, amount: usd(12) })],
        ["the operator", () => ({ operatorId: 2 })],
        ["whose it will be", (market) => ({ to: market.outsider.address })],
        ["the cap", () => ({ capCode: 1 })],
        ["the limit", () => ({ maxPrice: NO_LIMITS.maxPrice })],
        ["the deadline", () => ({ deadline: 2 ** 39 })],
      ];
      for (const [what, change] of changes) {
        it(`reverts, as the currency does for what its payer didn't sign: ${what}`, async () => {
          await addOperator(market, market.payees[5], usd(1));
          await market.licet.operators.connect(market.payees[5]).setServed(2, purchase.planId, true);
          await expect(buy({ ...purchase, ...change(market) }))
            .to.be.revertedWithCustomError(currency, "SignatureInvalid")
            .withArgs(market.licensee.address);
        });
      }

      it("reverts for another amount, since it costs another price then", async () => {
        for (const amount of [usd(5) - 1n, 0n]) {
          await expect(buy({ ...purchase, amount }))
            .to.be.revertedWithCustomError(currency, "SignatureInvalid")
            .withArgs(market.licensee.address);
        }
      });

      it("reverts for another salt, or another payer", async () => {
        const payment = await payFor(purchase, price);
        await expect(escrow.buyWithAuthorization(purchase, { ...payment, salt: id("another") }))
          .to.be.revertedWithCustomError(currency, "SignatureInvalid")
          .withArgs(market.licensee.address);
        await expect(escrow.buyWithAuthorization(purchase, { ...payment, from: market.operator.address }))
          .to.be.revertedWithCustomError(currency, "SignatureInvalid")
          .withArgs(market.operator.address);
      });
    });

    for (const [what, changes] of spoiled) {
      describe(`when the payment was signed ${what}`, () => {
        it("reverts, as the currency does", async () => {
          await expect(buy(purchase, changes))
            .to.be.revertedWithCustomError(currency, "SignatureInvalid")
            .withArgs(market.licensee.address);
        });
      });
    }

    describe("when it was signed for less than the price", () => {
      it("reverts, as the currency does", async () => {
        await expect(escrow.buyWithAuthorization(purchase, await payFor(purchase, price - 1n)))
          .to.be.revertedWithCustomError(currency, "SignatureInvalid")
          .withArgs(market.licensee.address);
      });
    });

    describe("when it was signed for a deposit", () => {
      it("reverts, as the currency does", async () => {
        const licenseId = await buyLicense(market, 0n);
        await expect(escrow.buyWithAuthorization(purchase, await payInto(licenseId, price)))
          .to.be.revertedWithCustomError(currency, "SignatureInvalid")
          .withArgs(market.licensee.address);
      });
    });

    describe("when it isn't valid yet, or no more", () => {
      it("reverts, as the currency does", async () => {
        const now = (await time.latest()) + 100;
        await time.setNextBlockTimestamp(now);
        await expect(buy(purchase, { validAfter: now }))
          .to.be.revertedWithCustomError(currency, "AuthorizationNotYetValid")
          .withArgs(now);
        await time.setNextBlockTimestamp(now + 1);
        await expect(buy(purchase, { validBefore: now + 1 }))
          .to.be.revertedWithCustomError(currency, "AuthorizationExpired")
          .withArgs(now + 1);
      });
    });

    describe("when it was used before", () => {
      it("reverts, as the currency does, whoever relays it", async () => {
        await buy();
        const nonce = await escrow.purchaseHash(purchase, id("salt"));
        expect(await currency.authorizationState(market.licensee, nonce)).to.equal(true);
        await expect(buy())
          .to.be.revertedWithCustomError(currency, "AuthorizationUsedBefore")
          .withArgs(market.licensee.address, nonce);
        await buy(purchase, { salt: id("another") });
        expect(await market.licet.licenses.licenseCount()).to.equal(2);
      });

      it("is used up by a purchase that costs nothing, too", async () => {
        purchase = purchaseOf(market);
        const payment = await payFor(purchase, 0n);
        await escrow.buyWithAuthorization(purchase, payment);
        await expect(escrow.buyWithAuthorization(purchase, payment))
          .to.be.revertedWithCustomError(currency, "AuthorizationUsedBefore")
          .withArgs(market.licensee.address, await escrow.purchaseHash(purchase, payment.salt));
      });
    });

    describe("when its payer cancelled it", () => {
      it("reverts, as the currency does", async () => {
        const payment = await payFor(purchase, price);
        const nonce = await escrow.purchaseHash(purchase, payment.salt);
        const [, name, version, chainId, verifyingContract] = await currency.eip712Domain();
        const signature = await market.licensee.signTypedData(
          { name, version, chainId, verifyingContract },
          {
            CancelAuthorization: [
              { name: "authorizer", type: "address" },
              { name: "nonce", type: "bytes32" },
            ],
          },
          { authorizer: market.licensee.address, nonce },
        );
        await currency["cancelAuthorization(address,bytes32,bytes)"](market.licensee, nonce, signature);
        await expect(escrow.buyWithAuthorization(purchase, payment))
          .to.be.revertedWithCustomError(currency, "AuthorizationUsedBefore")
          .withArgs(market.licensee.address, nonce);
      });
    });

    describe("when a stranger takes the payment to the currency", () => {
      it("can't execute it: only the escrow may, for what it pays for", async () => {
        const { from, validAfter, validBefore, salt, signature } = await payFor(purchase, price);
        const nonce = await escrow.purchaseHash(purchase, salt);
        const execute = currency.connect(market.outsider).getFunction(RECEIVE);
        await expect(execute(from, escrow, price, validAfter, validBefore, nonce, signature))
          .to.be.revertedWithCustomError(currency, "CallerNotPayee")
          .withArgs(market.outsider.address, await escrow.getAddress());
      });
    });

    describe("when the payer hasn't the money", () => {
      it("reverts, and nothing was bought", async () => {
        const held = await currency.balanceOf(market.licensee);
        await currency.connect(market.licensee).transfer(market.outsider, held - price + 1n);
        await expect(buy())
          .to.be.revertedWithCustomError(currency, "ERC20InsufficientBalance")
          .withArgs(market.licensee.address, price - 1n, price);
        expect(await market.licet.licenses.licenseCount()).to.equal(0);
        expect(await escrow.totalOwed()).to.equal(0);
      });
    });

    describe("when the escrow would owe more than its ceiling", () => {
      it("reverts with DepositCeilingReached", async () => {
        const ceiling = await escrow.depositCeiling();
        await currency.mint(market.licensee, ceiling);
        purchase = { ...purchase, amount: ceiling - usd(7) + 1n, maxPrice: NO_LIMITS.maxPrice };
        await expect(escrow.buyWithAuthorization(purchase, await payFor(purchase, ceiling + 1n)))
          .to.be.revertedWithCustomError(escrow, "DepositCeilingReached")
          .withArgs(0, ceiling);
      });
    });

    describe("when the currency takes a toll on the way", () => {
      it("reverts with CurrencyShort", async () => {
        market = await loadFixture(deployWithTolls);
        escrow = market.licet.escrow.connect(market.outsider);
        purchase = purchaseOf(market, { amount: price });
        await FeeOnTransferCurrency__factory.connect(
          await market.licet.currency.getAddress(),
          market.deployer,
        ).takeToll(3);
        await expect(buy())
          .to.be.revertedWithCustomError(escrow, "CurrencyShort")
          .withArgs(price - 3n, price);
      });
    });

    describe("when the currency knows no such payments", () => {
      it("reverts", async () => {
        const payment = await payFor(purchase, price);
        market = await loadFixture(deployWithoutSignatures);
        await expect(market.licet.escrow.buyWithAuthorization(purchaseOf(market), payment)).to.be.reverted;
      });
    });

    describe("when all is well", () => {
      it("takes the payer's money and gives the license to whom the purchase says, whoever relays it", async () => {
        await expect(buy()).to.changeTokenBalances(
          currency,
          [market.licensee, market.outsider, escrow],
          [-price, 0, price],
        );
        expect(await market.licet.licenses.ownerOf(1)).to.equal(market.payees[0].address);
        expect((await escrow.accountOf(1)).balance).to.equal(usd(5));
        expect((await escrow.upfrontOf(1)).amount).to.equal(usd(7));
        expect(await escrow.totalOwed()).to.equal(price);
      });

      it("emits Deposited by the payer", async () => {
        await expect(buy()).to.emit(escrow, "Deposited").withArgs(1, market.licensee.address, usd(5));
      });

      it("takes the signature of a payer that is a smart account (ERC-1271), be it as long as a key's or not", async () => {
        const key = Wallet.createRandom();
        const wallet = await hre.ethers.deployContract("SmartWallet", [key.address]);
        const trustful = await hre.ethers.deployContract("WalletThatAlwaysSigns");
        for (const [payer, signer] of [
          [wallet, key],
          [trustful, undefined],
        ] as const) {
          const from = await payer.getAddress();
          await currency.mint(from, price);
          const payment = await payFor(purchase, price, { signer: signer as Signer | undefined, from });
          if (signer === undefined) payment.signature = "0x1234";
          await expect(escrow.buyWithAuthorization(purchase, payment)).to.changeTokenBalance(currency, from, -price);
        }
        expect(await market.licet.licenses.licenseCount()).to.equal(2);
      });

      it("refuses a smart account's payment that its key didn't sign", async () => {
        const wallet = await hre.ethers.deployContract("SmartWallet", [Wallet.createRandom().address]);
        const from = await wallet.getAddress();
        await currency.mint(from, price);
        await expect(buy(purchase, { from }))
          .to.be.revertedWithCustomError(currency, "SignatureInvalid")
          .withArgs(from);
      });
    });
  });

  describe("buyWithPermit", () => {
    let purchase: Purchase;

    beforeEach(async () => {
      const planId = await addPlan(market, { upfrontPrice: usd(7) });
      purchase = purchaseOf(market, { planId, amount: usd(5), maxPrice: usd(13) });
    });

    const permit = (signer?: Signer) => signPermit(market, purchase.maxPrice, purchase.deadline, signer);
    const buy = async ({ v, r, s }: Awaited<ReturnType<typeof permit>>, by: Signer = market.licensee) =>
      escrow.connect(by).buyWithPermit(purchase, v, r, s);

    describe("when purchases are paused", () => {
      it("reverts with DepositsPaused", async () => {
        await escrow.connect(market.guardian).pause();
        await expect(buy(await permit()))
          .to.be.revertedWithCustomError(escrow, "DepositsPaused")
          .withArgs(await escrow.pausedUntil());
      });
    });

    describe("when it costs more than its limit", () => {
      it("reverts with PriceAboveLimit", async () => {
        purchase.maxPrice = usd(12) - 1n;
        await expect(buy(await permit()))
          .to.be.revertedWithCustomError(escrow, "PriceAboveLimit")
          .withArgs(usd(12), usd(12) - 1n);
      });
    });

    describe("when the permit isn't the caller's", () => {
      it("reverts with ERC20InsufficientAllowance, and takes nothing of its signer's", async () => {
        for (const [signature, by] of [
          [await permit(market.outsider), market.licensee],
          [await permit(), market.outsider],
        ] as const) {
          await expect(buy(signature, by))
            .to.be.revertedWithCustomError(currency, "ERC20InsufficientAllowance")
            .withArgs(await escrow.getAddress(), 0, usd(12));
        }
      });
    });

    describe("when all is well", () => {
      it("takes the price by the permit alone: what it allowed beyond it stays allowed", async () => {
        const signature = await permit();
        await expect(buy(signature)).to.changeTokenBalances(currency, [market.licensee, escrow], [-usd(12), usd(12)]);
        expect(await market.licet.licenses.ownerOf(1)).to.equal(market.licensee.address);
        expect(await currency.allowance(market.licensee, escrow)).to.equal(usd(1));
      });

      it("buys all the same when somebody used the permit first", async () => {
        const { v, r, s } = await permit();
        await currency
          .connect(market.outsider)
          .permit(market.licensee, escrow, purchase.maxPrice, purchase.deadline, v, r, s);
        await buy({ v, r, s });
        expect((await escrow.accountOf(1)).balance).to.equal(usd(5));
      });
    });
  });

  describe("depositWithAuthorization", () => {
    let licenseId: bigint;

    beforeEach(async () => {
      licenseId = await buyLicense(market, 0n);
    });

    const deposit = async (changes?: Changes) =>
      escrow.depositWithAuthorization(licenseId, usd(5), await payInto(licenseId, usd(5), changes));

    describe("when deposits are paused", () => {
      it("reverts with DepositsPaused", async () => {
        await escrow.connect(market.guardian).pause();
        await expect(deposit())
          .to.be.revertedWithCustomError(escrow, "DepositsPaused")
          .withArgs(await escrow.pausedUntil());
      });
    });

    describe("when the amount is zero", () => {
      it("reverts with AmountZero", async () => {
        await expect(escrow.depositWithAuthorization(licenseId, 0, await payInto(licenseId, 0n)))
          .to.be.revertedWithCustomError(escrow, "AmountZero")
          .withArgs();
      });
    });

    describe("when there is no such license", () => {
      it("reverts with LicenseStatusUnfit", async () => {
        await expect(escrow.depositWithAuthorization(9, 1, await payInto(9n, 1n)))
          .to.be.revertedWithCustomError(escrow, "LicenseStatusUnfit")
          .withArgs(9, LicenseStatus.None);
      });
    });

    describe("when the relayer changes the license, the amount or the salt", () => {
      it("reverts, as the currency does for what its payer didn't sign", async () => {
        const other = await buyLicense(market, 0n);
        const payment = await payInto(licenseId, usd(5));
        for (const [license, amount, salt] of [
          [other, usd(5), payment.salt],
          [licenseId, usd(5) - 1n, payment.salt],
          [licenseId, usd(5), id("another")],
        ] as const) {
          await expect(escrow.depositWithAuthorization(license, amount, { ...payment, salt }))
            .to.be.revertedWithCustomError(currency, "SignatureInvalid")
            .withArgs(market.licensee.address);
        }
      });
    });

    describe("when the license was sold since the payment was signed", () => {
      it("reverts, as the currency does: the money isn't for another's license, unless that comes back", async () => {
        const { licenses } = market.licet;
        const { licensee, outsider: buyer } = market;
        const planId = await addPlan(market, { transferable: true });
        const sold = await buyLicense(market, 0n, { planId });
        const payment = await payInto(sold, usd(5));
        const hand = async (from: typeof buyer, to: typeof buyer) => {
          await escrow.connect(from).lock(sold);
          await time.increase(WAIT + STOP_GRACE + 1);
          await licenses.connect(from).transferFrom(from, to, sold);
        };
        const relay = () => escrow.depositWithAuthorization(sold, usd(5), payment);

        await hand(licensee, buyer);
        for (const unlocks of [false, true]) {
          if (unlocks) await escrow.connect(buyer).unlock(sold);
          await expect(relay()).to.be.revertedWithCustomError(currency, "SignatureInvalid").withArgs(licensee.address);
        }
        await hand(buyer, licensee);
        await relay();
        expect((await escrow.accountOf(sold)).balance).to.equal(usd(5));
      });
    });

    for (const [what, changes] of spoiled) {
      describe(`when the payment was signed ${what}`, () => {
        it("reverts, as the currency does", async () => {
          await expect(deposit(changes))
            .to.be.revertedWithCustomError(currency, "SignatureInvalid")
            .withArgs(market.licensee.address);
        });
      });
    }

    describe("when it was signed for a purchase of the same price", () => {
      it("reverts, as the currency does", async () => {
        const purchase = purchaseOf(market, { amount: usd(5) });
        await expect(escrow.depositWithAuthorization(licenseId, usd(5), await payFor(purchase, usd(5))))
          .to.be.revertedWithCustomError(currency, "SignatureInvalid")
          .withArgs(market.licensee.address);
      });
    });

    describe("when it was used before", () => {
      it("reverts, as the currency does", async () => {
        await deposit();
        await expect(deposit())
          .to.be.revertedWithCustomError(currency, "AuthorizationUsedBefore")
          .withArgs(
            market.licensee.address,
            await escrow.depositHash(licenseId, market.licensee.address, usd(5), id("salt")),
          );
      });
    });

    describe("when all is well", () => {
      it("takes the payer's money, whoever relays it, and whoever's license it is", async () => {
        await expect(deposit()).to.changeTokenBalances(
          currency,
          [market.licensee, market.outsider, escrow],
          [-usd(5), 0, usd(5)],
        );
        expect((await escrow.accountOf(licenseId)).balance).to.equal(usd(5));
        expect(await escrow.totalOwed()).to.equal(usd(5));
      });

      it("emits Deposited by the payer", async () => {
        await expect(deposit()).to.emit(escrow, "Deposited").withArgs(licenseId, market.licensee.address, usd(5));
      });
    });
  });

  describe("purchaseHash and depositHash", () => {
    it("are the EIP-712 struct hashes of what is paid for", async () => {
      const salt = id("salt");
      const purchase = purchaseOf(market, { amount: usd(5), capCode: 17, deadline: (await time.latest()) + DAY });
      expect(await escrow.purchaseHash(purchase, salt)).to.equal(purchaseHash(purchase, salt));
      const owner = market.licensee.address;
      expect(await escrow.depositHash(3, owner, usd(5), salt)).to.equal(
        depositHash({ licenseId: 3n, owner, amount: usd(5) }, salt),
      );
    });
  });
});

const RECEIVE = "receiveWithAuthorization(address,address,uint256,uint256,uint256,bytes32,bytes)";

/** A market whose currency can take a toll. */
async function deployWithTolls(): Promise<Market> {
  const currency = await hre.ethers.deployContract("FeeOnTransferCurrency");
  return deployMarket({ currency: await currency.getAddress() });
}

/** A market whose currency is a plain ERC-20. */
async function deployWithoutSignatures(): Promise<Market> {
  const currency = await hre.ethers.deployContract("CurrencyOfDecimals", [6]);
  return deployMarket({ currency: await currency.getAddress() });
}
