import { loadFixture, time } from "@nomicfoundation/hardhat-network-helpers";
import { p256 } from "@noble/curves/p256";
import { expect } from "chai";
import { AbiCoder, concat, getBytes, hexlify, id, Wallet, type Signer } from "ethers";
import hre from "hardhat";
import { batchDigest } from "../../oracle/protocol/messages";
import type { BatchHeader } from "../../oracle/protocol/types";
import {
  CommitteeAttestor__factory,
  FeeOnTransferCurrency__factory,
  type CommitteeAttestor,
} from "../../typechain-types";
import { heldBy, owedBy } from "../support/books";
import {
  addPlan,
  ATTESTORS,
  batchOf,
  BOND,
  BondStatus,
  buyLicense,
  DAY,
  deployMarket,
  domainOf,
  entryOf,
  HOUR,
  postBond,
  proofBy,
  settle,
  usd,
  worth,
  type Market,
} from "../support/market";

const DIGEST = id("digest");
const THAW = 32 * DAY;
const [ONE, TWO, THREE] = ATTESTORS;
const abi = AbiCoder.defaultAbiCoder();

interface Member {
  signer: string;
  weight: number;
  payee: string;
}

describe("CommitteeAttestor's bonds", () => {
  let market: Market;
  let licet: Market["licet"];
  let committee: CommitteeAttestor;
  let escrow: Market["licet"]["escrow"];
  let currency: Market["licet"]["currency"];
  /** Who posted the attestors' bonds. */
  let holders: Market["payees"];

  beforeEach(async () => {
    market = await loadFixture(deployMarket);
    licet = market.licet;
    ({ committee, escrow, currency } = licet);
    holders = market.payees;
  });

  const bytesOf = (wallet: { address: string }) => wallet.address.toLowerCase();
  const bond = (signer: string, holder: Signer, weight = 1, at = committee) =>
    postBond({ ...licet, committee: at }, signer, holder, weight);
  const as = (holder: Signer) => committee.connect(holder);
  const vouches = (signers: Wallet[], at = committee) => at.vouches(DIGEST, proofBy(DIGEST, signers));
  const statusOf = (wallet: { address: string }, holder: { address: string }) =>
    committee.bondStatusOf(wallet.address, holder.address);

  /** A committee of these wallets, with these weights, whose payee is `holders[0]`. Nobody is bonded yet. */
  const committeeOf = async (weights: number[], threshold: number, unit = BOND) => {
    const wallets = weights.map((_, i) => new Wallet(id(`weighty ${i}`)));
    const members = wallets.map(({ address }, i) => ({
      signer: address,
      weight: weights[i],
      payee: holders[0].address,
    }));
    const deployed = await hre.ethers.deployContract("CommitteeAttestor", [
      await escrow.getAddress(),
      unit,
      members,
      threshold,
    ]);
    const at = CommitteeAttestor__factory.connect(await deployed.getAddress(), market.outsider);
    return { at, wallets, members };
  };
  /** Announces a committee, signed by the first two attestors. */
  const rotate = async (members: Member[], threshold: number) => {
    const deadline = (await time.latest()) + HOUR;
    const digest = await committee.rotationHash(members, threshold, deadline);
    return committee.rotate(members, threshold, deadline, proofBy(digest));
  };
  const takeOffice = async (number: number) => time.increaseTo((await committee.rotationOf(number)).since);
  const sameMembers = async (weights = [1, 1, 1]): Promise<Member[]> =>
    ATTESTORS.map(({ address }, i) => ({ signer: address, weight: weights[i], payee: holders[i].address }));

  describe("constructor", () => {
    it("reverts with BondUnitZero when a bond would be nothing", async () => {
      await expect(committeeOf([1], 1, 0n))
        .to.be.revertedWithCustomError(committee, "BondUnitZero")
        .withArgs();
    });

    it("reverts with ThresholdNotMajority by weight, whatever the members are many", async () => {
      for (const threshold of [5, 11]) {
        await expect(committeeOf([5, 3, 2], threshold))
          .to.be.revertedWithCustomError(committee, "ThresholdNotMajority")
          .withArgs(threshold, 10);
      }
      await committeeOf([5, 3, 2], 6);
      await committeeOf([5, 3, 2], 10);
    });

    it("reverts with WeightZero when a member's signature would count for nothing", async () => {
      await expect(committeeOf([5, 0], 3))
        .to.be.revertedWithCustomError(committee, "WeightZero")
        .withArgs(bytesOf(new Wallet(id("weighty 1"))));
    });

    it("keeps what a bond is, and how long it can still be lost", async () => {
      expect(await committee.BOND()).to.equal(BOND);
      expect(await committee.BOND_THAW_PERIOD()).to.equal(THAW);
      expect(await committee.REWARD_BPS()).to.equal(1_000);
    });
  });

  describe("a threshold", () => {
    const noteOf = (indices: number[]) => indices.reduce((note, i) => note | (1n << BigInt(i)), 0n);

    it("counts weight, and not heads", async () => {
      const { at, wallets } = await committeeOf([5, 3, 2, 1], 6);
      for (const [i, { address }] of wallets.entries()) await bond(address, holders[0], [5, 3, 2, 1][i], at);
      for (const [indices, isEnough] of [
        [[0], false],
        [[0, 3], true],
        [[1, 2], false],
        [[1, 2, 3], true],
        [[0, 1], true],
        [[2, 3], false],
      ] as [number[], boolean][]) {
        const note = isEnough ? noteOf(indices) : 0n;
        expect(
          await vouches(
            indices.map((i) => wallets[i]),
            at,
          ),
          indices.join(),
        ).to.equal(note);
      }
    });

    it("never has two quorums without a common member, whatever the weights", async () => {
      for (const weights of [
        [1, 1],
        [1, 1, 1],
        [2, 1, 1],
        [3, 2, 2, 1],
        [65_535, 65_534, 1],
      ]) {
        const total = weights.reduce((sum, weight) => sum + weight, 0);
        const { at, wallets } = await committeeOf(weights, Math.floor(total / 2) + 1, 1n);
        for (const [i, { address }] of wallets.entries()) {
          await currency.mint(holders[0], weights[i]);
          await currency.connect(holders[0]).approve(at, weights[i]);
          await at.connect(holders[0]).postBond(address, weights[i]);
        }
        const quorums: number[] = [];
        for (let subset = 1; subset < 1 << weights.length; subset += 1) {
          const signers = wallets.filter((_, i) => (subset >> i) & 1);
          const weight = weights.filter((_, i) => (subset >> i) & 1).reduce((sum, one) => sum + one, 0);
          const isQuorum = (await vouches(signers, at)) > 0n;
          expect(isQuorum).to.equal(weight * 2 > total);
          if (isQuorum) quorums.push(subset);
        }
        for (const a of quorums) for (const b of quorums) expect(a & b, weights.join()).not.to.equal(0);
      }
    });

    it("is reached by nobody before bonds are posted, and by as many as are", async () => {
      const { at, wallets, members } = await committeeOf([1, 1, 1], 2);
      expect(await vouches(wallets, at)).to.equal(0);
      await bond(members[0].signer, holders[0], 1, at);
      expect(await vouches(wallets, at)).to.equal(0);
      expect(await at.weightsOf(0)).to.deep.equal([1, 0, 0]);
      await bond(members[2].signer, holders[0], 1, at);
      expect(await vouches(wallets, at)).to.equal(0b101);
      expect(await at.weightsOf(0)).to.deep.equal([1, 0, 1]);
      expect(await at.weightsOf(1)).to.deep.equal([]);
    });
  });

  describe("postBond", () => {
    describe("when the signer is shorter than an address", () => {
      it("reverts with SignerInvalid", async () => {
        await expect(as(holders[0]).postBond("0x01", 1))
          .to.be.revertedWithCustomError(committee, "SignerInvalid")
          .withArgs("0x01");
      });
    });

    describe("when the signer has equivocated", () => {
      it("reverts with SignerEquivocated, whoever would post", async () => {
        await report(ONE, holders[0]);
        for (const holder of [holders[0], market.outsider]) {
          await expect(as(holder).postBond(ONE.address, 1))
            .to.be.revertedWithCustomError(committee, "SignerEquivocated")
            .withArgs(bytesOf(ONE));
        }
      });
    });

    describe("when it is no more than what is there", () => {
      it("reverts with BondNotRaised", async () => {
        for (const weight of [0, 1]) {
          await expect(as(holders[0]).postBond(ONE.address, weight))
            .to.be.revertedWithCustomError(committee, "BondNotRaised")
            .withArgs(bytesOf(ONE), weight, 1);
        }
        await expect(as(market.outsider).postBond(ONE.address, 0))
          .to.be.revertedWithCustomError(committee, "BondNotRaised")
          .withArgs(bytesOf(ONE), 0, 0);
      });
    });

    describe("when the currency keeps a part of it", () => {
      it("reverts with TransferIncomplete", async () => {
        const keeping = await deployWithToll();
        const signer = new Wallet(id("new"));
        await FeeOnTransferCurrency__factory.connect(
          await keeping.licet.currency.getAddress(),
          market.outsider,
        ).takeToll(usd(1));
        await expect(postBond(keeping.licet, signer.address, market.outsider))
          .to.be.revertedWithCustomError(keeping.licet.committee, "TransferIncomplete")
          .withArgs(BOND, BOND - usd(1));
      });
    });

    describe("when all is well", () => {
      const newcomer = new Wallet(id("newcomer"));

      it("takes a unit for each of the weight, and then what is missing to more", async () => {
        await expect(bond(newcomer.address, market.outsider, 2)).to.changeTokenBalance(currency, committee, 2n * BOND);
        expect(await committee.bondOf(newcomer.address, market.outsider)).to.deep.equal([2, 0, false]);
        await currency.mint(market.outsider, 3n * BOND);
        await currency.connect(market.outsider).approve(committee, 3n * BOND);
        await expect(as(market.outsider).postBond(newcomer.address, 5)).to.changeTokenBalance(
          currency,
          committee,
          3n * BOND,
        );
        expect(await statusOf(newcomer, market.outsider)).to.equal(BondStatus.Posted);
        expect(await heldBy(market)).to.deep.equal(await owedBy(market));
      });

      it("emits BondPosted with what was paid now", async () => {
        await expect(bond(newcomer.address, market.outsider, 2))
          .to.emit(committee, "BondPosted")
          .withArgs(market.outsider.address, bytesOf(newcomer), 2, 2n * BOND);
        await expect(bond(newcomer.address, market.outsider, 3))
          .to.emit(committee, "BondPosted")
          .withArgs(market.outsider.address, bytesOf(newcomer), 3, BOND);
      });

      it("covers a member that is admitted later, from its first second in office", async () => {
        const members = [newcomer, ONE, TWO].map(({ address }, i) => ({
          signer: address,
          weight: 1,
          payee: [market.outsider, holders[0], holders[1]][i].address,
        }));
        await bond(newcomer.address, market.outsider);
        await rotate(members, 2);
        await takeOffice(1);
        expect(await vouches([newcomer, TWO])).to.equal((1n << 32n) | 0b101n);
      });

      it("covers a member that was announced, and one that has left office, at once", async () => {
        const members = [newcomer, TWO, THREE].map(({ address }, i) => ({
          signer: address,
          weight: 1,
          payee: [market.outsider, holders[1], holders[2]][i].address,
        }));
        await rotate(members, 2);
        expect(await committee.weightsOf(1)).to.deep.equal([0, 1, 1]);
        await bond(newcomer.address, market.outsider);
        expect(await committee.weightsOf(1)).to.deep.equal([1, 1, 1]);

        await as(holders[0]).thawBond(ONE.address);
        await takeOffice(1);
        expect(await vouches([ONE, TWO])).to.equal(0);
        await as(holders[0]).postBond(ONE.address, 1);
        expect(await vouches([ONE, TWO])).to.equal(0b011);
      });
    });

    describe("with too small a weight", () => {
      it("covers nothing until it is raised, nor more than one of two memberships", async () => {
        const { at, wallets } = await committeeOf([3, 2], 3);
        await bond(wallets[0].address, holders[0], 2, at);
        expect(await vouches(wallets, at)).to.equal(0);
        await bond(wallets[0].address, holders[0], 3, at);
        expect(await vouches(wallets, at)).to.equal(0b01);

        await rotate(await sameMembers([2, 1, 1]), 3);
        expect(await committee.weightsOf(0)).to.deep.equal([1, 1, 1]);
        expect(await committee.weightsOf(1)).to.deep.equal([0, 1, 1]);
        await bond(ONE.address, holders[0], 2);
        expect(await committee.weightsOf(0)).to.deep.equal([1, 1, 1]);
        expect(await committee.weightsOf(1)).to.deep.equal([2, 1, 1]);
      });
    });

    describe("by somebody who isn't the member's payee", () => {
      it("covers nothing, and keeps the payee from nothing", async () => {
        const { at, wallets } = await committeeOf([1, 1], 2);
        for (const { address } of wallets) await bond(address, market.outsider, 1, at);
        expect(await vouches(wallets, at)).to.equal(0);

        for (const { address } of wallets) await bond(address, holders[0], 1, at);
        expect(await vouches(wallets, at)).to.equal(0b11);
        for (const { address } of wallets) await at.connect(market.outsider).thawBond(address);
        expect(await vouches(wallets, at)).to.equal(0b11);
      });

      it("covers nothing of a membership that has passed to another payee", async () => {
        const members = await sameMembers();
        await rotate([{ ...members[0], payee: market.outsider.address }, ...members.slice(1)], 2);
        expect(await committee.weightsOf(0)).to.deep.equal([1, 1, 1]);
        expect(await committee.weightsOf(1)).to.deep.equal([0, 1, 1]);
        await bond(ONE.address, market.outsider);
        expect(await committee.weightsOf(1)).to.deep.equal([1, 1, 1]);
      });
    });
  });

  describe("thawBond", () => {
    describe("when the caller has no bond for the signer", () => {
      it("reverts with BondNone", async () => {
        await expect(as(market.outsider).thawBond(ONE.address))
          .to.be.revertedWithCustomError(committee, "BondNone")
          .withArgs(bytesOf(ONE), market.outsider.address);
        await expect(as(holders[0]).thawBond(TWO.address))
          .to.be.revertedWithCustomError(committee, "BondNone")
          .withArgs(bytesOf(TWO), holders[0].address);
      });
    });

    describe("when it thaws already", () => {
      it("reverts with BondThawing", async () => {
        await as(holders[0]).thawBond(ONE.address);
        const readyAt = (await time.latest()) + THAW;
        await expect(as(holders[0]).thawBond(ONE.address))
          .to.be.revertedWithCustomError(committee, "BondThawing")
          .withArgs(bytesOf(ONE), readyAt);
      });
    });

    describe("when all is well", () => {
      it("emits BondThawed and keeps when it may leave", async () => {
        const readyAt = (await time.latest()) + 10 + THAW;
        await time.setNextBlockTimestamp(readyAt - THAW);
        await expect(as(holders[0]).thawBond(ONE.address))
          .to.emit(committee, "BondThawed")
          .withArgs(holders[0].address, bytesOf(ONE), readyAt);
        expect(await committee.bondOf(ONE.address, holders[0])).to.deep.equal([1, readyAt, false]);
        expect(await statusOf(ONE, holders[0])).to.equal(BondStatus.Thawing);
      });

      it("ends its signatures at once, in office, in the next committee and in the former one", async () => {
        await rotate(await sameMembers(), 2);
        await as(holders[0]).thawBond(ONE.address);
        expect(await vouches([ONE, TWO])).to.equal(0);
        expect(await committee.weightsOf(1)).to.deep.equal([0, 1, 1]);
        await takeOffice(1);
        expect(await vouches([ONE, TWO])).to.equal(0);
        await as(holders[1]).thawBond(TWO.address);
        expect(await vouches([TWO, THREE])).to.equal(0);
        expect(await committee.weightsOf(0)).to.deep.equal([0, 0, 1]);
      });

      it("in front of a settlement keeps the others' signatures from nothing", async () => {
        const licenseId = await buyLicense(market, usd(50));
        await time.increase(HOUR);
        const batch = await batchOf(market, [entryOf(licenseId)]);
        const batchId = await escrow.batchIdOf(batch.header);
        const proof = proofBy(batchId, ATTESTORS);
        await as(holders[0]).thawBond(ONE.address);
        await escrow.settle(batch.header, batch.entries, proof);
        expect((await escrow.batchOf(batchId)).signers).to.equal(0b110);
      });

      it("takes no income of what was signed before", async () => {
        const { batchId } = await settle(market, [worth(await buyLicense(market, usd(50)), 10)]);
        await as(holders[0]).thawBond(ONE.address);
        await time.increase(3 * DAY);
        await escrow.release(batchId);
        await committee.shareIncome(batchId);
        expect(await committee.incomeOf(holders[0])).to.equal(usd(0.1));
      });
    });
  });

  describe("withdrawBond", () => {
    describe("when the caller has none for the signer", () => {
      it("reverts with BondNone", async () => {
        await expect(as(market.outsider).withdrawBond(ONE.address, market.outsider))
          .to.be.revertedWithCustomError(committee, "BondNone")
          .withArgs(bytesOf(ONE), market.outsider.address);
      });
    });

    describe("when its withdrawal wasn't announced, or its wait isn't over", () => {
      it("reverts with BondNotThawed up to the last second", async () => {
        await expect(as(holders[0]).withdrawBond(ONE.address, holders[0]))
          .to.be.revertedWithCustomError(committee, "BondNotThawed")
          .withArgs(bytesOf(ONE), 0);
        await as(holders[0]).thawBond(ONE.address);
        const readyAt = (await time.latest()) + THAW;
        await time.setNextBlockTimestamp(readyAt);
        await expect(as(holders[0]).withdrawBond(ONE.address, holders[0]))
          .to.be.revertedWithCustomError(committee, "BondNotThawed")
          .withArgs(bytesOf(ONE), readyAt);
        await as(holders[0]).withdrawBond(ONE.address, holders[0]);
      });
    });

    describe("when all is well", () => {
      beforeEach(async () => {
        await as(holders[0]).thawBond(ONE.address);
        await time.increase(THAW + 1);
      });

      it("sends the whole bond to whom the holder says, once", async () => {
        expect(await statusOf(ONE, holders[0])).to.equal(BondStatus.Thawed);
        await expect(as(holders[0]).withdrawBond(ONE.address, market.outsider)).to.changeTokenBalances(
          currency,
          [committee, market.outsider],
          [-BOND, BOND],
        );
        expect(await statusOf(ONE, holders[0])).to.equal(BondStatus.None);
        await expect(as(holders[0]).withdrawBond(ONE.address, market.outsider))
          .to.be.revertedWithCustomError(committee, "BondNone")
          .withArgs(bytesOf(ONE), holders[0].address);
        expect(await heldBy(market)).to.deep.equal(await owedBy(market));
      });

      it("emits BondWithdrawn", async () => {
        await expect(as(holders[0]).withdrawBond(ONE.address, market.outsider))
          .to.emit(committee, "BondWithdrawn")
          .withArgs(holders[0].address, bytesOf(ONE), market.outsider.address, BOND);
      });
    });
  });

  describe("leaving and coming back", () => {
    it("costs nothing while the bond is there, and makes the next wait begin anew", async () => {
      for (const [wait, status] of [
        [THAW - HOUR, BondStatus.Thawing],
        [THAW + 1, BondStatus.Thawed],
      ]) {
        await as(holders[0]).thawBond(ONE.address);
        await time.increase(wait);
        expect(await statusOf(ONE, holders[0])).to.equal(status);
        await expect(as(holders[0]).postBond(ONE.address, 1)).to.changeTokenBalance(currency, committee, 0);
        expect(await vouches([ONE, TWO])).to.equal(0b011);
        await expect(as(holders[0]).withdrawBond(ONE.address, holders[0]))
          .to.be.revertedWithCustomError(committee, "BondNotThawed")
          .withArgs(bytesOf(ONE), 0);
      }
      await as(holders[0]).thawBond(ONE.address);
      await time.increase(THAW - HOUR);
      await expect(as(holders[0]).withdrawBond(ONE.address, holders[0])).to.be.revertedWithCustomError(
        committee,
        "BondNotThawed",
      );
    });

    it("costs the bond again once it was taken", async () => {
      await as(holders[0]).thawBond(ONE.address);
      await time.increase(THAW + 1);
      await as(holders[0]).withdrawBond(ONE.address, holders[0]);
      expect(await vouches([ONE, TWO])).to.equal(0);
      await expect(bond(ONE.address, holders[0])).to.changeTokenBalance(currency, committee, BOND);
      expect(await vouches([ONE, TWO])).to.equal(0b011);
    });
  });

  // Reports

  const headerOf = async (changes: Partial<BatchHeader> = {}) =>
    (await batchOf(market, [entryOf(1n)], { root: id("one root"), epochStart: 1, epochEnd: 2, ...changes })).header;
  const signedBy = async (wallet: Wallet, header: BatchHeader) =>
    wallet.signingKey.sign(await escrow.batchIdOf(header)).serialized;

  /** Two batches of one number, and what shows that `sign` signed both. */
  interface Evidence {
    first: BatchHeader;
    firstSignature: string;
    second: BatchHeader;
    secondSignature: string;
  }
  const evidenceBy = async (
    sign: (digest: string) => string,
    changes: Partial<BatchHeader> = {},
  ): Promise<Evidence> => {
    const [first, second] = [await headerOf(), await headerOf({ root: id("another root"), ...changes })];
    return {
      first,
      firstSignature: sign(await escrow.batchIdOf(first)),
      second,
      secondSignature: sign(await escrow.batchIdOf(second)),
    };
  };
  const by = (wallet: Wallet) => (digest: string) => wallet.signingKey.sign(digest).serialized;
  const show = (
    signer: string,
    holder: { address: string },
    { first, firstSignature, second, secondSignature }: Evidence,
    reporter: Signer = market.outsider,
    at = committee,
  ) => at.connect(reporter).reportEquivocation(signer, holder.address, first, firstSignature, second, secondSignature);
  const report = async (wallet: Wallet, holder: { address: string }, reporter: Signer = market.outsider) =>
    show(wallet.address, holder, await evidenceBy(by(wallet)), reporter);

  describe("reportEquivocation", () => {
    describe("when both are the same batch", () => {
      it("reverts with BatchesAgree: a signature twice, or two of one digest", async () => {
        const header = await headerOf();
        const signature = await signedBy(ONE, header);
        const same = { first: header, firstSignature: signature, second: header, secondSignature: signature };
        await expect(show(ONE.address, holders[0], same))
          .to.be.revertedWithCustomError(committee, "BatchesAgree")
          .withArgs(await escrow.batchIdOf(header));
      });
    });

    describe("when they are of two numbers, or of two lanes", () => {
      it("reverts with BatchesOfTwoNumbers", async () => {
        for (const changes of [{ sequence: 9n }, { operatorId: 9 }, { planId: 9 }, { versionId: 9n }]) {
          const evidence = await evidenceBy(by(ONE), { sequence: (await headerOf()).sequence, ...changes });
          await expect(show(ONE.address, holders[0], evidence))
            .to.be.revertedWithCustomError(committee, "BatchesOfTwoNumbers")
            .withArgs(await escrow.batchIdOf(evidence.first), await escrow.batchIdOf(evidence.second));
        }
      });
    });

    describe("when the signer didn't sign both", () => {
      it("reverts with BatchNotSigned: another did, it did once, or the signatures are exchanged", async () => {
        const [own, other] = [await evidenceBy(by(ONE)), await evidenceBy(by(TWO))];
        const [first, second] = [await escrow.batchIdOf(own.first), await escrow.batchIdOf(own.second)];
        for (const [evidence, unsigned] of [
          [other, first],
          [{ ...own, firstSignature: other.firstSignature }, first],
          [{ ...own, secondSignature: other.secondSignature }, second],
          [{ ...own, firstSignature: own.secondSignature, secondSignature: own.firstSignature }, first],
          [{ ...own, secondSignature: own.firstSignature }, second],
          [{ ...own, secondSignature: "0x" }, second],
        ] as [Evidence, string][]) {
          await expect(show(ONE.address, holders[0], evidence))
            .to.be.revertedWithCustomError(committee, "BatchNotSigned")
            .withArgs(unsigned, bytesOf(ONE));
        }
      });

      it("reverts with BatchNotSigned: batches of another deployment, or of another chain", async () => {
        const { first, second } = await evidenceBy(by(ONE));
        const domain = await domainOf(market);
        for (const elsewhere of [
          { ...domain, chainId: 1n },
          { ...domain, verifyingContract: await licet.staking.getAddress() },
        ]) {
          const digest = (header: BatchHeader) => batchDigest(elsewhere, header);
          const evidence = {
            first,
            firstSignature: by(ONE)(digest(first)),
            second,
            secondSignature: by(ONE)(digest(second)),
          };
          await expect(show(ONE.address, holders[0], evidence)).to.be.revertedWithCustomError(
            committee,
            "BatchNotSigned",
          );
        }
      });

      it("reverts with BatchNotSigned: a rotation that it signed is no batch", async () => {
        const deadline = 2n ** 40n;
        const digest = await committee.rotationHash(await sameMembers(), 2, deadline);
        const evidence = await evidenceBy(() => by(ONE)(digest));
        await expect(show(ONE.address, holders[0], evidence)).to.be.revertedWithCustomError(
          committee,
          "BatchNotSigned",
        );
      });
    });

    describe("when there is no bond to lose", () => {
      it("reverts with BondNone: of another holder, or of a signer who never had one", async () => {
        const stranger = new Wallet(id("stranger"));
        for (const [wallet, holder] of [
          [ONE, holders[1]],
          [ONE, market.outsider],
          [stranger, market.outsider],
        ] as [Wallet, Market["outsider"]][]) {
          await expect(report(wallet, holder))
            .to.be.revertedWithCustomError(committee, "BondNone")
            .withArgs(bytesOf(wallet), holder.address);
        }
      });

      it("reverts with BondNone: the same report again, by whomever, with other batches, in the other order", async () => {
        const evidence = await evidenceBy(by(ONE));
        await show(ONE.address, holders[0], evidence);
        const { first, firstSignature, second, secondSignature } = evidence;
        for (const again of [
          evidence,
          { first: second, firstSignature: secondSignature, second: first, secondSignature: firstSignature },
          await evidenceBy(by(ONE), { root: id("a third root") }),
        ]) {
          await expect(show(ONE.address, holders[0], again, market.licensee))
            .to.be.revertedWithCustomError(committee, "BondNone")
            .withArgs(bytesOf(ONE), holders[0].address);
        }
      });

      it("reverts with BondNone once it was withdrawn", async () => {
        await as(holders[0]).thawBond(ONE.address);
        await time.increase(THAW + 1);
        await as(holders[0]).withdrawBond(ONE.address, holders[0]);
        await expect(report(ONE, holders[0])).to.be.revertedWithCustomError(committee, "BondNone");
      });
    });

    describe("when all is well", () => {
      it("gives the reporter a tenth and the treasury the rest, to withdraw", async () => {
        await expect(report(ONE, holders[0])).to.changeTokenBalance(currency, committee, 0);
        expect(await committee.incomeOf(market.outsider)).to.equal(BOND / 10n);
        expect(await committee.incomeOf(market.treasury)).to.equal((BOND * 9n) / 10n);
        expect(await heldBy(market)).to.deep.equal(await owedBy(market));
        await expect(as(market.treasury).withdraw(market.treasury)).to.changeTokenBalance(
          currency,
          market.treasury,
          (BOND * 9n) / 10n,
        );
        await expect(as(market.outsider).withdraw(market.outsider)).to.changeTokenBalance(
          currency,
          market.outsider,
          BOND / 10n,
        );
      });

      it("takes the whole bond, however far it is above the weight, and no other", async () => {
        await bond(ONE.address, holders[0], 7);
        await report(ONE, holders[0]);
        expect(await committee.incomeOf(market.outsider)).to.equal((7n * BOND) / 10n);
        expect(await statusOf(TWO, holders[1])).to.equal(BondStatus.Posted);
        expect(await committee.bondOf(ONE.address, holders[0])).to.deep.equal([0, 0, true]);
        expect(await statusOf(ONE, holders[0])).to.equal(BondStatus.Slashed);
        expect(await committee.hasEquivocated(ONE.address)).to.equal(true);
        expect(await committee.hasEquivocated(TWO.address)).to.equal(false);
      });

      it("emits BondSlashed and returns the reward", async () => {
        const evidence = await evidenceBy(by(ONE));
        const { first, firstSignature, second, secondSignature } = evidence;
        expect(
          await committee.reportEquivocation.staticCall(
            ONE.address,
            holders[0],
            first,
            firstSignature,
            second,
            secondSignature,
          ),
        ).to.equal(BOND / 10n);
        await expect(show(ONE.address, holders[0], evidence))
          .to.emit(committee, "BondSlashed")
          .withArgs(
            holders[0].address,
            bytesOf(ONE),
            market.outsider.address,
            await escrow.batchIdOf(first),
            await escrow.batchIdOf(second),
            BOND,
            BOND / 10n,
          );
      });

      it("ends the signer's signatures in office, in the next committee and in the former one, for ever", async () => {
        await rotate(await sameMembers(), 2);
        await report(ONE, holders[0]);
        expect(await vouches([ONE, TWO])).to.equal(0);
        expect(await vouches([TWO, THREE])).to.equal(0b110);
        expect(await committee.weightsOf(1)).to.deep.equal([0, 1, 1]);
        await takeOffice(1);
        expect(await vouches([ONE, TWO])).to.equal(0);
        expect(await vouches([TWO, THREE])).to.equal((1n << 32n) | 0b110n);
        expect(await committee.weightsOf(0)).to.deep.equal([0, 1, 1]);
      });

      it("lets one of its batches settle that was signed before, and pays it for that", async () => {
        const { batchId } = await settle(market, [worth(await buyLicense(market, usd(50)), 10)]);
        await report(ONE, holders[0]);
        await time.increase(3 * DAY);
        await escrow.release(batchId);
        await committee.shareIncome(batchId);
        expect(await committee.incomeOf(holders[0])).to.equal(usd(0.1));
      });
    });

    describe("by the member itself", () => {
      it("costs it nine tenths all the same", async () => {
        await report(ONE, holders[0], holders[0]);
        expect(await committee.incomeOf(holders[0])).to.equal(BOND / 10n);
        expect(await committee.incomeOf(market.treasury)).to.equal((BOND * 9n) / 10n);
      });
    });

    describe("after the bond began to leave", () => {
      it("takes it as well: thawing, and thawed but not withdrawn", async () => {
        await as(holders[0]).thawBond(ONE.address);
        await report(ONE, holders[0]);
        expect(await statusOf(ONE, holders[0])).to.equal(BondStatus.Slashed);
        await as(holders[1]).thawBond(TWO.address);
        await time.increase(THAW + 1);
        await report(TWO, holders[1]);
        for (const [wallet, holder] of [
          [ONE, holders[0]],
          [TWO, holders[1]],
        ] as [Wallet, Market["outsider"]][]) {
          await expect(as(holder).withdrawBond(wallet.address, holder))
            .to.be.revertedWithCustomError(committee, "BondNone")
            .withArgs(bytesOf(wallet), holder.address);
        }
      });
    });

    describe("of a signer for whom two posted bonds", () => {
      it("ends what either covers; the other can be reported too, or leaves after its wait", async () => {
        await bond(ONE.address, market.outsider);
        await bond(ONE.address, market.licensee);
        await report(ONE, holders[0], market.operator);
        expect(await committee.weightsOf(0)).to.deep.equal([0, 1, 1]);
        const members = await sameMembers();
        await expect(rotate([{ ...members[0], payee: market.outsider.address }, ...members.slice(1)], 2)).to.be
          .reverted;

        await report(ONE, market.outsider, market.operator);
        expect(await committee.incomeOf(market.operator)).to.equal(BOND / 5n);
        await as(market.licensee).thawBond(ONE.address);
        await time.increase(THAW + 1);
        await expect(as(market.licensee).withdrawBond(ONE.address, market.licensee)).to.changeTokenBalance(
          currency,
          market.licensee,
          BOND,
        );
      });
    });

    describe("of a member that isn't a plain key", () => {
      /** A committee whose only member is `signer`, bonded. */
      const alone = async (signer: string) => {
        const deployed = await hre.ethers.deployContract("CommitteeAttestor", [
          await escrow.getAddress(),
          BOND,
          [{ signer, weight: 1, payee: holders[0].address }],
          1,
        ]);
        const at = CommitteeAttestor__factory.connect(await deployed.getAddress(), market.outsider);
        await bond(signer, holders[0], 1, at);
        return at;
      };
      const vouchesAlone = (at: CommitteeAttestor, signer: string, signature: string) =>
        at.vouches(DIGEST, abi.encode(["bytes[]", "bytes[]"], [[signer], [signature]]));

      it("takes a smart account's bond, by ERC-1271", async () => {
        const wallet = await (await hre.ethers.deployContract("SmartWallet", [ONE.address])).getAddress();
        const at = await alone(wallet);
        expect(await vouchesAlone(at, wallet, by(ONE)(DIGEST))).to.equal(1);
        await expect(show(wallet, holders[0], await evidenceBy(by(TWO)), market.outsider, at))
          .to.be.revertedWithCustomError(at, "BatchNotSigned")
          .withArgs(await escrow.batchIdOf(await headerOf()), wallet.toLowerCase());
        await show(wallet, holders[0], await evidenceBy(by(ONE)), market.outsider, at);
        expect(await at.hasEquivocated(wallet)).to.equal(true);
        expect(await vouchesAlone(at, wallet, by(ONE)(DIGEST))).to.equal(0);
      });

      it("can't show it of an account that has since unsaid it: what that can cost its committee, it chose", async () => {
        const wallet = await (await hre.ethers.deployContract("SmartWallet", [ONE.address])).getAddress();
        const at = await alone(wallet);
        const evidence = await evidenceBy(by(ONE));
        const another = await hre.ethers.deployContract("SmartWallet", [TWO.address]);
        await hre.network.provider.send("hardhat_setCode", [wallet, await hre.ethers.provider.getCode(another)]);
        await expect(show(wallet, holders[0], evidence, market.outsider, at)).to.be.revertedWithCustomError(
          at,
          "BatchNotSigned",
        );
      });

      it("takes a P-256 key's bond, by a verifier", async () => {
        const verifier = await (await hre.ethers.deployContract("P256Verifier")).getAddress();
        const key = getBytes(id("P-256"));
        const signer = concat([verifier, p256.getPublicKey(key, false).slice(1)]);
        const at = await alone(signer);
        const sign = (digest: string) => hexlify(p256.sign(getBytes(digest), key, { lowS: true }).toCompactRawBytes());
        expect(await vouchesAlone(at, signer, sign(DIGEST))).to.equal(1);
        await show(signer, holders[0], await evidenceBy(sign), market.outsider, at);
        expect(await vouchesAlone(at, signer, sign(DIGEST))).to.equal(0);
      });

      it("takes the bond of a key that was given code since (EIP-7702): it can't unsay its signature", async () => {
        const evidence = await evidenceBy(by(ONE));
        const unsaying = await hre.ethers.deployContract("SmartWallet", [TWO.address]);
        await hre.network.provider.send("hardhat_setCode", [ONE.address, await hre.ethers.provider.getCode(unsaying)]);
        expect(await vouches([ONE, THREE])).to.equal(0b101);
        await show(ONE.address, holders[0], evidence);
        expect(await statusOf(ONE, holders[0])).to.equal(BondStatus.Slashed);
      });
    });
  });

  describe("a rotation with a member that was slashed", () => {
    it("reverts with SignerEquivocated when it is announced afterwards", async () => {
      await report(THREE, holders[2]);
      await expect(rotate(await sameMembers(), 2))
        .to.be.revertedWithCustomError(committee, "SignerEquivocated")
        .withArgs(bytesOf(THREE));
    });

    it("comes into force without its weight when it was announced before: the others have to be enough", async () => {
      await rotate(await sameMembers(), 2);
      await report(THREE, holders[2]);
      await takeOffice(1);
      expect(await vouches([ONE, THREE])).to.equal(0);
      expect(await vouches([ONE, TWO, THREE])).to.equal((1n << 32n) | 0b011n);
    });
  });

  describe("a quorum after slashes", () => {
    it("is made by those who are left, as long as their weight is enough", async () => {
      await report(THREE, holders[2]);
      expect(await vouches([ONE, TWO])).to.equal(0b011);
      await report(TWO, holders[1]);
      expect(await vouches(ATTESTORS)).to.equal(0);

      // No committee follows one that can't sign: its plans don't settle, and nobody is charged.
      const next = [{ signer: new Wallet(id("next")).address, weight: 1, payee: market.outsider.address }];
      const digest = await committee.rotationHash(next, 1, 2n ** 40n);
      await expect(committee.rotate(next, 1, 2n ** 40n, proofBy(digest, ATTESTORS)))
        .to.be.revertedWithCustomError(committee, "RotationNotSigned")
        .withArgs(digest);
      // The one who did nothing wrong leaves with its bond.
      await as(holders[0]).thawBond(ONE.address);
      await time.increase(THAW + 1);
      await as(holders[0]).withdrawBond(ONE.address, holders[0]);
    });

    it("is all the weight that was agreed on, and not half of what is left", async () => {
      const { at, wallets } = await committeeOf([2, 2, 1], 3);
      for (const [i, { address }] of wallets.entries()) await bond(address, holders[0], [2, 2, 1][i], at);
      const evidence = await evidenceBy(by(wallets[0]));
      await show(wallets[0].address, holders[0], evidence, market.outsider, at);
      expect(await vouches([wallets[1]], at)).to.equal(0);
      expect(await vouches(wallets, at)).to.equal(0b110);
    });
  });

  describe("income", () => {
    it("is divided by weight among those who signed, and what doesn't divide is the first one's", async () => {
      const { at, wallets } = await committeeOf([5, 3, 2], 6);
      for (const [i, { address }] of wallets.entries()) await bond(address, holders[0], [5, 3, 2][i], at);
      const members = wallets.map(({ address }, i) => ({
        signer: address,
        weight: [5, 3, 2][i],
        payee: holders[i].address,
      }));
      const deadline = 2n ** 40n;
      const digest = await at.rotationHash(members, 6, deadline);
      await at.rotate(members, 6, deadline, proofBy(digest, wallets));
      for (const [i, { address }] of wallets.slice(1).entries()) await bond(address, holders[i + 1], [3, 2][i], at);
      await time.increaseTo((await at.rotationOf(1)).since);

      const planId = await addPlan(market, { attestor: await at.getAddress() });
      const licenseId = await buyLicense(market, usd(50), { planId });
      await time.increase(HOUR);
      // 2 % of 1.00005 USD are 20,001 units.
      const batch = await batchOf(
        market,
        [entryOf(licenseId, { requests: 0n, inputTokens: 1_000_050n, outputTokens: 0n })],
        {
          planId,
        },
      );
      const batchId = await escrow.batchIdOf(batch.header);
      await escrow.settle(batch.header, batch.entries, proofBy(batchId, [wallets[0], wallets[2]]));
      await time.increase(3 * DAY);
      await escrow.release(batchId);
      await at.shareIncome(batchId);
      // Of seven parts, five and two.
      expect(await at.incomeOf(holders[0])).to.equal(14_287);
      expect(await at.incomeOf(holders[1])).to.equal(0);
      expect(await at.incomeOf(holders[2])).to.equal(5_714);
    });
  });

  it("are all gone when all have left: every bond is its holder's, the treasury's or a reporter's", async () => {
    await report(ONE, holders[0]);
    await as(holders[1]).thawBond(TWO.address);
    await as(holders[2]).thawBond(THREE.address);
    await time.increase(THAW + 1);
    await as(holders[1]).withdrawBond(TWO.address, holders[1]);
    await as(holders[2]).withdrawBond(THREE.address, holders[2]);
    await as(market.outsider).withdraw(market.outsider);
    await as(market.treasury).withdraw(market.treasury);
    expect(await currency.balanceOf(committee)).to.equal(0);
  });
});

/** A market whose currency can be told to keep a part of each transfer. */
async function deployWithToll(): Promise<Market> {
  const currency = await hre.ethers.deployContract("FeeOnTransferCurrency");
  return deployMarket({ currency: await currency.getAddress() });
}
