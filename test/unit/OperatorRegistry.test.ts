import { loadFixture, time } from "@nomicfoundation/hardhat-network-helpers";
import { expect } from "chai";
import { id, ZeroAddress, ZeroHash } from "ethers";
import { DAY, deployMarket, KeyStatus, type Market } from "../support/market";

const KEY = "0x00000000000000000000000000000000000000A1";
const OTHER_KEY = "0x00000000000000000000000000000000000000A2";

describe("OperatorRegistry", () => {
  let market: Market;
  let operators: Market["licet"]["operators"];

  beforeEach(async () => {
    market = await loadFixture(deployMarket);
    operators = market.licet.operators.connect(market.operator);
  });

  describe("register", () => {
    describe("when the endpoint is empty", () => {
      it("reverts with EndpointEmpty", async () => {
        await expect(operators.register("", "ipfs://me"))
          .to.be.revertedWithCustomError(operators, "EndpointEmpty")
          .withArgs();
      });
    });

    describe("when all is well", () => {
      const register = () => operators.connect(market.outsider).register("https://gpu.example", "ipfs://me");

      it("makes the caller the owner of the next operator", async () => {
        await register();

        expect(await operators.operatorCount()).to.equal(2);
        expect(await operators.ownerOf(2)).to.equal(market.outsider.address);
        expect(await operators.operatorOf(2)).to.deep.equal([
          market.outsider.address,
          ZeroHash,
          "https://gpu.example",
          "ipfs://me",
        ]);
      });

      it("emits OperatorRegistered and OperatorDescribed", async () => {
        await expect(register())
          .to.emit(operators, "OperatorRegistered")
          .withArgs(2, market.outsider.address)
          .and.to.emit(operators, "OperatorDescribed")
          .withArgs(2, "https://gpu.example", "ipfs://me", ZeroHash);
      });
    });
  });

  describe("describe", () => {
    const redescribe = (operatorId = 1, endpoint = "https://new.example") =>
      operators.describe(operatorId, endpoint, "ipfs://new", id("evidence"));

    describe("when there is no such operator", () => {
      it("reverts with OperatorUnknown", async () => {
        await expect(redescribe(7)).to.be.revertedWithCustomError(operators, "OperatorUnknown").withArgs(7);
      });
    });

    describe("when the caller isn't the owner", () => {
      it("reverts with CallerNotOperator", async () => {
        await expect(operators.connect(market.outsider).describe(1, "https://new.example", "", ZeroHash))
          .to.be.revertedWithCustomError(operators, "CallerNotOperator")
          .withArgs(1, market.outsider.address);
      });
    });

    describe("when the endpoint is empty", () => {
      it("reverts with EndpointEmpty", async () => {
        await expect(redescribe(1, "")).to.be.revertedWithCustomError(operators, "EndpointEmpty").withArgs();
      });
    });

    describe("when all is well", () => {
      it("replaces the record but not its owner", async () => {
        await redescribe();

        expect(await operators.operatorOf(1)).to.deep.equal([
          market.operator.address,
          id("evidence"),
          "https://new.example",
          "ipfs://new",
        ]);
      });

      it("emits OperatorDescribed", async () => {
        await expect(redescribe())
          .to.emit(operators, "OperatorDescribed")
          .withArgs(1, "https://new.example", "ipfs://new", id("evidence"));
      });
    });
  });

  describe("addKey", () => {
    const expiry = async () => (await time.latest()) + 90 * DAY;

    describe("when the caller isn't the owner", () => {
      it("reverts with CallerNotOperator", async () => {
        await expect(operators.connect(market.outsider).addKey(1, KEY, await expiry()))
          .to.be.revertedWithCustomError(operators, "CallerNotOperator")
          .withArgs(1, market.outsider.address);
      });
    });

    describe("when the key is the zero address, which a bad signature could recover to", () => {
      it("reverts with KeyZero", async () => {
        await expect(operators.addKey(1, ZeroAddress, await expiry()))
          .to.be.revertedWithCustomError(operators, "KeyZero")
          .withArgs();
      });
    });

    describe("when the expiry isn't in the future", () => {
      it("reverts with KeyExpiryPast", async () => {
        const now = (await time.latest()) + 10;
        await time.setNextBlockTimestamp(now);
        await expect(operators.addKey(1, KEY, now))
          .to.be.revertedWithCustomError(operators, "KeyExpiryPast")
          .withArgs(KEY, now);
      });
    });

    describe("when the key was added before, and even if it was revoked since", () => {
      it("reverts with KeyAddedBefore", async () => {
        await operators.addKey(1, KEY, await expiry());
        await operators.revokeKey(1, KEY);
        await expect(operators.addKey(1, KEY, await expiry()))
          .to.be.revertedWithCustomError(operators, "KeyAddedBefore")
          .withArgs(1, KEY);
      });
    });

    describe("when all is well", () => {
      it("records the key, for this operator alone", async () => {
        const expiresAt = await expiry();
        await operators.addKey(1, KEY, expiresAt);

        expect(await operators.keyOf(1, KEY)).to.deep.equal([await time.latest(), expiresAt, 0]);
        expect(await operators.keyOf(2, KEY)).to.deep.equal([0, 0, 0]);
      });

      it("emits SigningKeyAdded", async () => {
        const expiresAt = await expiry();
        await expect(operators.addKey(1, KEY, expiresAt))
          .to.emit(operators, "SigningKeyAdded")
          .withArgs(1, KEY, expiresAt);
      });
    });
  });

  describe("revokeKey", () => {
    beforeEach(async () => {
      await operators.addKey(1, KEY, (await time.latest()) + 90 * DAY);
    });

    describe("when the caller isn't the owner", () => {
      it("reverts with CallerNotOperator", async () => {
        await expect(operators.connect(market.outsider).revokeKey(1, KEY))
          .to.be.revertedWithCustomError(operators, "CallerNotOperator")
          .withArgs(1, market.outsider.address);
      });
    });

    describe("when the key was never added, or was revoked before", () => {
      it("reverts with KeyNotActive", async () => {
        await expect(operators.revokeKey(1, OTHER_KEY))
          .to.be.revertedWithCustomError(operators, "KeyNotActive")
          .withArgs(1, OTHER_KEY);
        await operators.revokeKey(1, KEY);
        await expect(operators.revokeKey(1, KEY))
          .to.be.revertedWithCustomError(operators, "KeyNotActive")
          .withArgs(1, KEY);
      });
    });

    describe("when all is well", () => {
      it("records when", async () => {
        await operators.revokeKey(1, KEY);
        expect((await operators.keyOf(1, KEY)).revokedAt).to.equal(await time.latest());
      });

      it("emits SigningKeyRevoked", async () => {
        await expect(operators.revokeKey(1, KEY)).to.emit(operators, "SigningKeyRevoked").withArgs(1, KEY);
      });
    });
  });

  describe("isSigningKey", () => {
    it("is true from the second in which the key was added until the second before it expires", async () => {
      const expiresAt = (await time.latest()) + 90 * DAY;
      await operators.addKey(1, KEY, expiresAt);
      const addedAt = await time.latest();

      expect(await operators.isSigningKey(1, KEY, addedAt - 1)).to.equal(false);
      expect(await operators.isSigningKey(1, KEY, addedAt)).to.equal(true);
      expect(await operators.isSigningKey(1, KEY, expiresAt - 1)).to.equal(true);
      expect(await operators.isSigningKey(1, KEY, expiresAt)).to.equal(false);
    });

    it("is false at any time for a key that was revoked, also before the revocation", async () => {
      await operators.addKey(1, KEY, (await time.latest()) + 90 * DAY);
      const addedAt = await time.latest();
      await operators.revokeKey(1, KEY);

      expect(await operators.isSigningKey(1, KEY, addedAt)).to.equal(false);
    });

    it("is false for a key that was never added, and for another operator's", async () => {
      await operators.addKey(1, KEY, (await time.latest()) + 90 * DAY);

      expect(await operators.isSigningKey(1, OTHER_KEY, 0)).to.equal(false);
      expect(await operators.isSigningKey(2, KEY, await time.latest())).to.equal(false);
    });
  });

  describe("statusOf", () => {
    it("is None for a key that was never added, and for another operator's", async () => {
      await operators.addKey(1, KEY, (await time.latest()) + 90 * DAY);
      expect(await operators.statusOf(1, OTHER_KEY)).to.equal(KeyStatus.None);
      expect(await operators.statusOf(2, KEY)).to.equal(KeyStatus.None);
    });

    it("is Active until the second in which it expires, and Expired from then on", async () => {
      const expiresAt = (await time.latest()) + 90 * DAY;
      await operators.addKey(1, KEY, expiresAt);
      await time.increaseTo(expiresAt - 1);
      expect(await operators.statusOf(1, KEY)).to.equal(KeyStatus.Active);
      await time.increaseTo(expiresAt);
      expect(await operators.statusOf(1, KEY)).to.equal(KeyStatus.Expired);
    });

    it("is Revoked for ever once it was revoked, after it expired, too", async () => {
      await operators.addKey(1, KEY, (await time.latest()) + DAY);
      await operators.addKey(1, OTHER_KEY, (await time.latest()) + DAY);
      await operators.revokeKey(1, KEY);
      expect(await operators.statusOf(1, KEY)).to.equal(KeyStatus.Revoked);
      await time.increase(DAY);
      await operators.revokeKey(1, OTHER_KEY);
      for (const key of [KEY, OTHER_KEY]) expect(await operators.statusOf(1, key)).to.equal(KeyStatus.Revoked);
    });
  });

  describe("setServed", () => {
    describe("when the caller isn't the owner", () => {
      it("reverts with CallerNotOperator", async () => {
        await expect(operators.connect(market.outsider).setServed(1, 1, false))
          .to.be.revertedWithCustomError(operators, "CallerNotOperator")
          .withArgs(1, market.outsider.address);
      });
    });

    describe("when all is well", () => {
      it("says and unsays it", async () => {
        expect(await operators.serves(1, 2)).to.equal(false);
        await operators.setServed(1, 2, true);
        expect(await operators.serves(1, 2)).to.equal(true);
        await operators.setServed(1, 2, false);
        expect(await operators.serves(1, 2)).to.equal(false);
      });

      it("emits PlanServed", async () => {
        await expect(operators.setServed(1, 2, true))
          .to.emit(operators, "PlanServed")
          .withArgs(1, 2, true);
      });
    });
  });

  describe("operatorOf and ownerOf", () => {
    it("revert with OperatorUnknown for an operator that doesn't exist", async () => {
      await expect(operators.operatorOf(2)).to.be.revertedWithCustomError(operators, "OperatorUnknown").withArgs(2);
      await expect(operators.ownerOf(0)).to.be.revertedWithCustomError(operators, "OperatorUnknown").withArgs(0);
    });
  });
});
