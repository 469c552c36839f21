import { loadFixture, time } from "@nomicfoundation/hardhat-network-helpers";
import { expect } from "chai";
import { AbiCoder, concat, id, keccak256, Wallet, type Signer } from "ethers";
import hre from "hardhat";
import { CommitteeAttestor__factory } from "../../typechain-types";
import {
  ATTESTORS,
  batchOf,
  buyLicense,
  DAY,
  deployMarket,
  entryOf,
  proofBy,
  settle,
  usd,
  type Market,
} from "../support/market";

const DIGEST = id("digest");
const abi = AbiCoder.defaultAbiCoder();

describe("CommitteeAttestor", () => {
  let market: Market;
  let committee: Market["licet"]["committee"];

  beforeEach(async () => {
    market = await loadFixture(deployMarket);
    committee = market.licet.committee;
  });

  const deploy = async (members: { signer: string; payee: string }[], threshold: number) =>
    hre.ethers.deployContract("CommitteeAttestor", [await market.licet.escrow.getAddress(), members, threshold]);
  const membersOf = (count: number) =>
    Array.from({ length: count }, (_, i) => ({
      signer: Wallet.createRandom().address,
      payee: market.payees[i % 5].address,
    }));

  describe("constructor", () => {
    describe("when a member is named twice", () => {
      it("reverts with SignerTwice", async () => {
        const [member] = membersOf(1);
        await expect(deploy([member, member], 2))
          .to.be.revertedWithCustomError(committee, "SignerTwice")
          .withArgs(member.signer.toLowerCase());
      });
    });

    describe("when a signer is shorter than an address", () => {
      it("reverts with SignerInvalid", async () => {
        await expect(deploy([{ signer: "0x01", payee: market.outsider.address }], 1))
          .to.be.revertedWithCustomError(committee, "SignerInvalid")
          .withArgs("0x01");
      });
    });

    describe("when there are no members", () => {
      it("reverts with CommitteeEmpty", async () => {
        await expect(deploy([], 0)).to.be.revertedWithCustomError(committee, "CommitteeEmpty").withArgs();
      });
    });

    describe("when there are more than 32 members", () => {
      it("reverts with CommitteeTooLarge", async () => {
        await expect(deploy(membersOf(33), 17))
          .to.be.revertedWithCustomError(committee, "CommitteeTooLarge")
          .withArgs(33, 32);
        await deploy(membersOf(32), 17);
      });
    });

    describe("when the threshold is half of the members or less, so that two quorums could disagree, or more than all", () => {
      it("reverts with ThresholdNotMajority", async () => {
        for (const [threshold, count] of [
          [0, 2],
          [3, 2],
          [1, 2],
          [1, 3],
          [2, 4],
          [16, 32],
        ]) {
          await expect(deploy(membersOf(count), threshold))
            .to.be.revertedWithCustomError(committee, "ThresholdNotMajority")
            .withArgs(threshold, count);
        }
      });
    });

    describe("when a member has no payee", () => {
      it("reverts with PayeeZero", async () => {
        const [member] = membersOf(1);
        await expect(deploy([{ ...member, payee: "0x0000000000000000000000000000000000000000" }], 1))
          .to.be.revertedWithCustomError(committee, "PayeeZero")
          .withArgs(member.signer.toLowerCase());
      });
    });

    describe("when all is well", () => {
      it("keeps members and threshold", async () => {
        expect(await committee.members()).to.deep.equal(
          ATTESTORS.map(({ address }, i) => [address.toLowerCase(), market.payees[i].address]),
        );
        expect(await committee.threshold()).to.equal(2);
        expect(await committee.ESCROW()).to.equal(await market.licet.escrow.getAddress());
        expect(await committee.CURRENCY()).to.equal(await market.licet.currency.getAddress());
      });
    });
  });

  describe("vouches", () => {
    const [one, two, three] = ATTESTORS;
    const sorted = (wallets: Wallet[]) =>
      [...wallets].sort((a, b) => (keccak256(a.address) < keccak256(b.address) ? -1 : 1));
    const signatureOf = (wallet: Wallet, digest = DIGEST) => wallet.signingKey.sign(digest).serialized;
    const encode = (signers: string[], signatures: string[]) =>
      abi.encode(["bytes[]", "bytes[]"], [signers, signatures]);

    for (const [who, signers, note] of [
      ["the first two", [one, two], 0b011],
      ["the first and the last", [one, three], 0b101],
      ["the last two", [two, three], 0b110],
      ["all", [one, two, three], 0b111],
    ] as [string, Wallet[], number][]) {
      it(`notes who signed, when ${who} did`, async () => {
        expect(await committee.vouches(DIGEST, proofBy(DIGEST, signers))).to.equal(note);
      });
    }

    it("is zero when one signed", async () => {
      expect(await committee.vouches(DIGEST, proofBy(DIGEST, [one]))).to.equal(0);
    });

    it("is zero when one signed twice", async () => {
      const signature = signatureOf(one);
      const proof = encode([one.address, one.address], [signature, signature]);
      expect(await committee.vouches(DIGEST, proof)).to.equal(0);
    });

    it("is zero when one of the two isn't a member", async () => {
      expect(await committee.vouches(DIGEST, proofBy(DIGEST, [one, new Wallet(id("stranger"))]))).to.equal(0);
    });

    it("is zero when a quorum and one who isn't a member signed", async () => {
      expect(await committee.vouches(DIGEST, proofBy(DIGEST, [one, two, new Wallet(id("stranger"))]))).to.equal(0);
    });

    it("is zero for another digest", async () => {
      expect(await committee.vouches(id("another digest"), proofBy(DIGEST))).to.equal(0);
    });

    it("is zero when one member signed for both", async () => {
      const [a, b] = sorted([one, two]);
      const proof = encode([a.address, b.address], [signatureOf(one), signatureOf(one)]);
      expect(await committee.vouches(DIGEST, proof)).to.equal(0);
    });

    it("is zero when one signed twice, with another in between", async () => {
      const proof = encode(
        [one, two, one].map(({ address }) => address),
        [one, two, one].map((w) => signatureOf(w)),
      );
      expect(await committee.vouches(DIGEST, proof)).to.equal(0);
    });

    it("takes signers in any order", async () => {
      const [a, b] = sorted([one, two]);
      expect(
        await committee.vouches(DIGEST, encode([b.address, a.address], [signatureOf(b), signatureOf(a)])),
      ).to.equal(0b11);
    });

    it("is zero when there are fewer signatures than signers", async () => {
      const [a, b] = sorted([one, two]);
      expect(await committee.vouches(DIGEST, encode([a.address, b.address], [signatureOf(a)]))).to.equal(0);
    });

    it("is zero for a signature with the higher s, so that a message has one", async () => {
      const order = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141n;
      const [a, b] = sorted([one, two]);
      const { r, s, v } = a.signingKey.sign(DIGEST);
      const mirrored = concat([
        r,
        "0x" + (order - BigInt(s)).toString(16).padStart(64, "0"),
        v === 27 ? "0x1c" : "0x1b",
      ]);
      expect(await committee.vouches(DIGEST, encode([a.address, b.address], [mirrored, signatureOf(b)]))).to.equal(0);
    });

    it("is zero for nothing at all", async () => {
      expect(await committee.vouches(DIGEST, "0x")).to.equal(0);
      expect(await committee.vouches(DIGEST, encode([], []))).to.equal(0);
    });

    it("vouches for nothing that can't be decoded", async () => {
      expect(await committee.vouches(DIGEST, "0x1234")).to.equal(0);
      await expect(committee.vouches(DIGEST, proofBy(DIGEST).slice(0, -64))).to.be.revertedWithoutReason();
    });

    it("takes a member that is a smart account, by ERC-1271", async () => {
      const wallet = await hre.ethers.deployContract("SmartWallet", [one.address]);
      const payee = market.payees[0].address;
      const deployed = await deploy(
        [
          { signer: await wallet.getAddress(), payee },
          { signer: two.address, payee },
        ],
        2,
      );
      const mixed = CommitteeAttestor__factory.connect(await deployed.getAddress(), market.outsider);
      const [a, b] = [
        { address: await wallet.getAddress(), signature: signatureOf(one) },
        { address: two.address, signature: signatureOf(two) },
      ].sort((x, y) => (keccak256(x.address) < keccak256(y.address) ? -1 : 1));

      expect(await mixed.vouches(DIGEST, encode([a.address, b.address], [a.signature, b.signature]))).to.equal(0b11);
      expect(await mixed.vouches(DIGEST, encode([a.address, b.address], [b.signature, a.signature]))).to.equal(0);
    });
  });

  /** A released batch of one license that used `inputTokens` at 1 USD a million, signed by `signers`. */
  const releasedBatch = async (signers: Wallet[], inputTokens = 1_000_000n) => {
    const licenseId = await buyLicense(market, usd(50));
    await time.increase(3_600);
    const { escrow } = market.licet;
    const batch = await batchOf(market, [entryOf(licenseId, { requests: 0n, inputTokens, outputTokens: 0n })]);
    const batchId = await escrow.batchIdOf(batch.header);
    await escrow.settle(batch.header, batch.entries, proofBy(batchId, signers));
    await time.increase(3 * DAY);
    await escrow.release(batchId);
    return batchId;
  };
  const incomes = () => Promise.all([0, 1, 2].map((i) => committee.incomeOf(market.payees[i])));

  describe("shareIncome", () => {
    describe("when the batch isn't released", () => {
      it("reverts with BatchNotReleased", async () => {
        const { batchId } = await settle(market, [entryOf(await buyLicense(market, usd(50)))]);
        await expect(committee.shareIncome(batchId))
          .to.be.revertedWithCustomError(market.licet.escrow, "BatchNotReleased")
          .withArgs(batchId, 1);
        await expect(committee.shareIncome(id("no batch")))
          .to.be.revertedWithCustomError(market.licet.escrow, "BatchNotReleased")
          .withArgs(id("no batch"), 0);
      });
    });

    describe("when it was shared before", () => {
      it("reverts with BatchNotReleased", async () => {
        const batchId = await releasedBatch(ATTESTORS);
        await committee.shareIncome(batchId);
        await expect(committee.shareIncome(batchId))
          .to.be.revertedWithCustomError(market.licet.escrow, "BatchNotReleased")
          .withArgs(batchId, 4);
      });
    });

    describe("when the batch is another committee's", () => {
      it("reverts with CallerNotAttestor", async () => {
        const batchId = await releasedBatch(ATTESTORS);
        const deployed = await deploy(membersOf(1), 1);
        const other = CommitteeAttestor__factory.connect(await deployed.getAddress(), market.outsider);
        await expect(other.shareIncome(batchId))
          .to.be.revertedWithCustomError(market.licet.escrow, "CallerNotAttestor")
          .withArgs(batchId, await deployed.getAddress());
      });
    });

    describe("when all is well", () => {
      it("collects the share from the escrow", async () => {
        const batchId = await releasedBatch(ATTESTORS.slice(0, 2));
        await expect(committee.shareIncome(batchId)).to.changeTokenBalances(
          market.licet.currency,
          [market.licet.escrow, committee],
          [-20_000n, 20_000n],
        );
      });

      it("credits those who signed in equal parts, and nobody else", async () => {
        await committee.shareIncome(await releasedBatch([ATTESTORS[0], ATTESTORS[2]]));
        expect(await incomes()).to.deep.equal([10_000n, 0n, 10_000n]);
      });

      it("gives what doesn't divide to the first of them", async () => {
        // 2 % of 1 USD and 50 units are 20,001 units.
        await committee.shareIncome(await releasedBatch([ATTESTORS[1], ATTESTORS[2]], 1_000_050n));
        expect(await incomes()).to.deep.equal([0n, 10_001n, 10_000n]);
      });

      it("gives a share smaller than the signers are many to the first of them", async () => {
        await committee.shareIncome(await releasedBatch(ATTESTORS, 100n));
        expect(await incomes()).to.deep.equal([2n, 0n, 0n]);
      });

      it("shares nothing of a batch that earned nothing", async () => {
        await committee.shareIncome(await releasedBatch(ATTESTORS, 1n));
        expect(await incomes()).to.deep.equal([0n, 0n, 0n]);
      });

      it("emits IncomeShared", async () => {
        const batchId = await releasedBatch(ATTESTORS);
        await expect(committee.shareIncome(batchId))
          .to.emit(committee, "IncomeShared")
          .withArgs(batchId, 0b111, 20_000);
      });
    });
  });

  describe("withdraw", () => {
    const withdraw = (by: Signer, to: Signer) => committee.connect(by).withdraw(to);

    describe("when the caller earned nothing", () => {
      it("reverts with IncomeEmpty", async () => {
        await expect(withdraw(market.outsider, market.outsider))
          .to.be.revertedWithCustomError(committee, "IncomeEmpty")
          .withArgs(market.outsider.address);
      });
    });

    describe("when all is well", () => {
      beforeEach(async () => {
        await committee.shareIncome(await releasedBatch(ATTESTORS.slice(0, 2)));
      });

      it("sends all that the payee earned to whom it says, once", async () => {
        await expect(withdraw(market.payees[1], market.outsider)).to.changeTokenBalances(
          market.licet.currency,
          [committee, market.outsider],
          [-10_000n, 10_000n],
        );
        await expect(withdraw(market.payees[1], market.outsider))
          .to.be.revertedWithCustomError(committee, "IncomeEmpty")
          .withArgs(market.payees[1].address);
        expect(await incomes()).to.deep.equal([10_000n, 0n, 0n]);
      });

      it("emits IncomeWithdrawn", async () => {
        await expect(withdraw(market.payees[0], market.outsider))
          .to.emit(committee, "IncomeWithdrawn")
          .withArgs(market.payees[0].address, market.outsider.address, 10_000);
      });
    });
  });
});
