import { loadFixture, setStorageAt, time } from "@nomicfoundation/hardhat-network-helpers";
import { expect } from "chai";
import { AbiCoder, concat, id, keccak256, toBeHex, TypedDataEncoder, Wallet, ZeroAddress, type Signer } from "ethers";
import hre from "hardhat";
import { CommitteeAttestor__factory } from "../../typechain-types";
import {
  ATTESTORS,
  batchOf,
  BOND,
  buyLicense,
  DAY,
  deployMarket,
  entryOf,
  HOUR,
  postBond,
  proofBy,
  RotationStatus,
  settle,
  usd,
  type Market,
} from "../support/market";

const DIGEST = id("digest");
const abi = AbiCoder.defaultAbiCoder();

interface Member {
  signer: string;
  weight: number;
  payee: string;
}

describe("CommitteeAttestor", () => {
  let market: Market;
  let committee: Market["licet"]["committee"];

  beforeEach(async () => {
    market = await loadFixture(deployMarket);
    committee = market.licet.committee;
  });

  const deploy = async (members: Member[], threshold: number, bond = BOND) =>
    hre.ethers.deployContract("CommitteeAttestor", [await market.licet.escrow.getAddress(), bond, members, threshold]);
  const membersOf = (count: number, weight = 1): Member[] =>
    Array.from({ length: count }, (_, i) => ({
      signer: Wallet.createRandom().address,
      weight,
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
        await expect(deploy([{ signer: "0x01", weight: 1, payee: market.outsider.address }], 1))
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
      it("emits RotationAnnounced of the first committee, which is in force at once", async () => {
        const members = membersOf(3);
        const deployed = CommitteeAttestor__factory.connect(
          await (await deploy(members, 2)).getAddress(),
          market.outsider,
        );
        const since = await time.latest();
        await expect(await lastTransaction())
          .to.emit(deployed, "RotationAnnounced")
          .withArgs(0, tuplesOf(members), 2, since);
        expect(await deployed.statusOf(0)).to.equal(RotationStatus.Present);
        expect(await deployed.presentRotation()).to.equal(0);
      });

      it("keeps members and threshold", async () => {
        expect(await committee.members()).to.deep.equal(
          ATTESTORS.map(({ address }, i) => [address.toLowerCase(), 1, market.payees[i].address]),
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
          { signer: await wallet.getAddress(), weight: 1, payee },
          { signer: two.address, weight: 1, payee },
        ],
        2,
      );
      const mixed = CommitteeAttestor__factory.connect(await deployed.getAddress(), market.outsider);
      for (const { signer } of await mixed.members()) await bond(signer, market.payees[0], 1, mixed);
      const [a, b] = [
        { address: await wallet.getAddress(), signature: signatureOf(one) },
        { address: two.address, signature: signatureOf(two) },
      ].sort((x, y) => (keccak256(x.address) < keccak256(y.address) ? -1 : 1));

      expect(await mixed.vouches(DIGEST, encode([a.address, b.address], [a.signature, b.signature]))).to.equal(0b11);
      expect(await mixed.vouches(DIGEST, encode([a.address, b.address], [b.signature, a.signature]))).to.equal(0);
    });
  });

  /** Another committee of three, of whom two must sign. */
  const NEXT = ["next one", "next two", "next three"].map((name) => new Wallet(id(name)));
  const nextMembers = () => membersBy(NEXT, 3);
  const membersBy = (wallets: Wallet[], firstPayee = 0): Member[] =>
    wallets.map(({ address }, i) => ({ signer: address, weight: 1, payee: market.payees[firstPayee + i].address }));
  const tuplesOf = (members: Member[]) =>
    members.map(({ signer, weight, payee }) => [signer.toLowerCase(), weight, payee]);
  /** Has a member's payee post its bond. */
  const bond = (signer: string, holder: Signer, weight = 1, at = committee) =>
    postBond({ ...market.licet, committee: at }, signer, holder, weight);
  const bondAll = async (members: Member[]) => {
    for (const { signer, weight, payee } of members) await bond(signer, await hre.ethers.getSigner(payee), weight);
  };
  const lastTransaction = async () => (await hre.ethers.provider.getBlock("latest", true))!.getPrefetchedTransaction(0);

  interface RotationCall {
    members: Member[];
    threshold: number;
    deadline: number;
    signers: Wallet[];
  }
  /** Announces the next committee, with the present one's signatures; `changes` say what is different. */
  const rotate = async (changes: Partial<RotationCall> = {}) => {
    const { members, threshold, deadline, signers } = {
      members: nextMembers(),
      threshold: 2,
      deadline: (await time.latest()) + HOUR,
      signers: ATTESTORS.slice(0, 2),
      ...changes,
    };
    const digest = await committee.rotationHash(members, threshold, deadline);
    return committee.rotate(members, threshold, deadline, proofBy(digest, signers));
  };
  const PERIOD = DAY + 2 * (2 * DAY) + HOUR;
  /** Lets the announced committee come into force, to the second. */
  const takeOffice = async (number: number) => time.increaseTo((await committee.rotationOf(number)).since);

  describe("rotate", () => {
    describe("when the signatures' time is over", () => {
      it("reverts with RotationTooLate, one second after the last in which they count", async () => {
        const members = nextMembers();
        const deadline = (await time.latest()) + HOUR;
        const proof = proofBy(await committee.rotationHash(members, 2, deadline));
        await time.setNextBlockTimestamp(deadline + 1);
        await expect(committee.rotate(members, 2, deadline, proof))
          .to.be.revertedWithCustomError(committee, "RotationTooLate")
          .withArgs(deadline);
      });

      it("takes them in the last second", async () => {
        const members = nextMembers();
        const deadline = (await time.latest()) + HOUR;
        const proof = proofBy(await committee.rotationHash(members, 2, deadline));
        await time.setNextBlockTimestamp(deadline);
        await committee.rotate(members, 2, deadline, proof);
      });
    });

    describe("when the present committee didn't sign just this", () => {
      const expectNotSigned = async (call: RotationCall, proof: string) => {
        const { members, threshold, deadline } = call;
        await expect(committee.rotate(members, threshold, deadline, proof))
          .to.be.revertedWithCustomError(committee, "RotationNotSigned")
          .withArgs(await committee.rotationHash(members, threshold, deadline));
      };
      let call: RotationCall;
      let digest: string;
      beforeEach(async () => {
        call = { members: nextMembers(), threshold: 2, deadline: (await time.latest()) + HOUR, signers: [] };
        digest = await committee.rotationHash(call.members, call.threshold, call.deadline);
      });

      it("reverts with RotationNotSigned: a minority, nobody, strangers, or those who would follow", async () => {
        await expectNotSigned(call, "0x");
        for (const signers of [[ATTESTORS[0]], NEXT, [ATTESTORS[0], NEXT[0]], [...ATTESTORS, NEXT[0]]]) {
          await expectNotSigned(call, proofBy(digest, signers));
        }
      });

      it("reverts with RotationNotSigned: other members, another payee, weight, order, threshold or deadline", async () => {
        const proof = proofBy(digest, ATTESTORS);
        const [first, ...rest] = call.members;
        for (const changes of [
          { members: [{ ...first, signer: market.outsider.address }, ...rest] },
          { members: [{ ...first, payee: market.outsider.address }, ...rest] },
          { members: [{ ...first, weight: 2 }, ...rest] },
          { members: [...rest, first] },
          { members: rest },
          { threshold: 3 },
          { deadline: call.deadline + 1 },
        ]) {
          await expectNotSigned({ ...call, ...changes }, proof);
        }
      });

      it("reverts with RotationNotSigned: signatures for another committee, or on another chain", async () => {
        const deployed = await deploy(membersBy(ATTESTORS), 2);
        const other = CommitteeAttestor__factory.connect(await deployed.getAddress(), market.outsider);
        const elsewhere = await other.rotationHash(call.members, call.threshold, call.deadline);
        expect(elsewhere).not.to.equal(digest);
        await expectNotSigned(call, proofBy(elsewhere, ATTESTORS));

        const domain = {
          name: "Licet CommitteeAttestor",
          version: "1",
          verifyingContract: await committee.getAddress(),
        };
        for (const chainId of [1n, 31_338n]) {
          await expectNotSigned(call, proofBy(rotationDigest({ ...domain, chainId }, call, 0n), ATTESTORS));
        }
      });

      it("reverts with RotationNotSigned: signatures that announced it before", async () => {
        await committee.rotate(call.members, call.threshold, call.deadline, proofBy(digest));
        await expectNotSigned(call, proofBy(digest));
      });

      it("reverts with RotationNotSigned: the former committee, whose batches still count", async () => {
        await bondAll(nextMembers());
        await rotate();
        await takeOffice(1);
        call.deadline += PERIOD;
        await expectNotSigned(call, proofBy(await committee.rotationHash(call.members, 2, call.deadline), ATTESTORS));
      });
    });

    describe("when no number is left", () => {
      it("reverts with RotationsExhausted", async () => {
        await bondAll(nextMembers());
        await rotate();
        await takeOffice(1);
        // 65,536 rotations later: their array's length is written as it would be.
        const slot = await lengthSlot(2n);
        await setStorageAt(await committee.getAddress(), slot, toBeHex(65_536, 32));
        await plantCommittee(slot, 65_535n, 1n);
        expect(await committee.presentRotation()).to.equal(65_535);
        await expect(rotate({ signers: NEXT }))
          .to.be.revertedWithCustomError(committee, "RotationsExhausted")
          .withArgs(65_536);
      });
    });

    describe("when the next committee is none that may be", () => {
      it("reverts as the constructor does", async () => {
        const [first, second] = nextMembers();
        for (const [members, threshold, error, args] of [
          [[], 0, "CommitteeEmpty", []],
          [membersOf(33), 17, "CommitteeTooLarge", [33, 32]],
          [[first, second], 1, "ThresholdNotMajority", [1, 2]],
          [[{ ...first, signer: "0x01" }], 1, "SignerInvalid", ["0x01"]],
          [[first, { ...second, weight: 0 }], 1, "WeightZero", [second.signer.toLowerCase()]],
          [[{ ...first, payee: ZeroAddress }], 1, "PayeeZero", [first.signer.toLowerCase()]],
          [[first, first], 2, "SignerTwice", [first.signer.toLowerCase()]],
        ] as [RotationCall["members"], number, string, unknown[]][]) {
          await expect(rotate({ members, threshold }))
            .to.be.revertedWithCustomError(committee, error as "PayeeZero")
            .withArgs(...(args as [string]));
        }
      });
    });

    describe("when all is well", () => {
      it("announces the committee for a wait later, and leaves the present one in office", async () => {
        await rotate();
        const since = (await time.latest()) + PERIOD;
        expect(await committee.ROTATION_PERIOD()).to.equal(PERIOD);
        expect(await committee.rotationOf(1)).to.deep.equal([tuplesOf(nextMembers()), 2, since]);
        expect(await committee.presentRotation()).to.equal(0);
        expect(await committee.members()).to.deep.equal(tuplesOf(membersBy(ATTESTORS)));
      });

      it("counts the nonce", async () => {
        expect(await committee.rotationNonce()).to.equal(0);
        await rotate();
        expect(await committee.rotationNonce()).to.equal(1);
      });

      it("emits RotationAnnounced and returns the number", async () => {
        const members = nextMembers();
        const deadline = (await time.latest()) + HOUR;
        const proof = proofBy(await committee.rotationHash(members, 3, deadline));
        expect(await committee.rotate.staticCall(members, 3, deadline, proof)).to.equal(1);
        const now = (await time.latest()) + 10;
        await time.setNextBlockTimestamp(now);
        await expect(committee.rotate(members, 3, deadline, proof))
          .to.emit(committee, "RotationAnnounced")
          .withArgs(1, tuplesOf(members), 3, now + PERIOD);
      });

      it("comes into force by itself, in the second that was announced", async () => {
        await rotate({ threshold: 3 });
        const { since } = await committee.rotationOf(1);
        await time.increaseTo(since - 1n);
        expect([await committee.presentRotation(), await committee.threshold()]).to.deep.equal([0, 2]);
        await time.increaseTo(since);
        expect([await committee.presentRotation(), await committee.threshold()]).to.deep.equal([1, 3]);
        expect(await committee.members()).to.deep.equal(tuplesOf(nextMembers()));
      });
    });

    describe("when another is announced already", () => {
      const SECOND = ["second one", "second two"].map((name) => new Wallet(id(name)));

      it("replaces it, and the wait starts anew", async () => {
        await rotate();
        await time.increase(PERIOD - 60);
        await rotate({ members: membersBy(SECOND) });
        const since = (await time.latest()) + PERIOD;
        expect(await committee.rotationOf(1)).to.deep.equal([tuplesOf(membersBy(SECOND)), 2, since]);
        expect(await committee.statusOf(2)).to.equal(RotationStatus.None);
        await time.increase(120);
        expect(await committee.presentRotation()).to.equal(0);
      });

      it("forgets those who were announced, but for those who are named again", async () => {
        await rotate();
        await rotate({ members: membersBy([NEXT[2], ...SECOND]) });
        await bondAll(nextMembers());
        await bondAll(membersBy([NEXT[2], ...SECOND]));
        await takeOffice(1);
        expect(await committee.vouches(DIGEST, proofBy(DIGEST, NEXT.slice(0, 2)))).to.equal(0);
        expect(await committee.vouches(DIGEST, proofBy(DIGEST, [NEXT[2], SECOND[0]]))).to.equal((1n << 32n) | 0b011n);
        expect(await committee.vouches(DIGEST, proofBy(DIGEST, SECOND))).to.equal((1n << 32n) | 0b110n);
      });
    });
  });

  describe("a rotation's signatures", () => {
    const FIRST_NOTE = 0b011n;
    const NEXT_NOTE = (1n << 32n) | 0b011n;
    const firstVouches = () => committee.vouches(DIGEST, proofBy(DIGEST));
    const nextVouches = () => committee.vouches(DIGEST, proofBy(DIGEST, NEXT.slice(0, 2)));

    beforeEach(async () => {
      await rotate();
      await bondAll(nextMembers());
    });

    it("count for nothing while it is announced", async () => {
      await time.increaseTo((await committee.rotationOf(1)).since - 1n);
      expect([await firstVouches(), await nextVouches()]).to.deep.equal([FIRST_NOTE, 0n]);
    });

    it("count for the window after the next took office, to the second, and for nothing afterwards", async () => {
      const { since } = await committee.rotationOf(1);
      await time.increaseTo(since);
      expect([await firstVouches(), await nextVouches()]).to.deep.equal([FIRST_NOTE, NEXT_NOTE]);
      await time.increaseTo(since + BigInt(2 * DAY));
      expect([await firstVouches(), await nextVouches()]).to.deep.equal([FIRST_NOTE, NEXT_NOTE]);
      await time.increaseTo(since + BigInt(2 * DAY + 1));
      expect([await firstVouches(), await nextVouches()]).to.deep.equal([0n, NEXT_NOTE]);
    });

    it("count with none of another rotation's", async () => {
      await takeOffice(1);
      for (const signers of [
        [ATTESTORS[0], NEXT[0]],
        [...ATTESTORS, NEXT[0]],
        [ATTESTORS[0], ...NEXT],
      ]) {
        expect(await committee.vouches(DIGEST, proofBy(DIGEST, signers))).to.equal(0);
      }
    });

    it("of one who is in both count for the present one, as its member there", async () => {
      await takeOffice(1);
      const both = [NEXT[0], ATTESTORS[1], ATTESTORS[2]];
      await rotate({ members: membersBy(both), signers: NEXT });
      await bondAll(membersBy(both).slice(0, 1));
      await takeOffice(2);
      const signers = ATTESTORS.slice(1);
      expect(await committee.vouches(DIGEST, proofBy(DIGEST, signers))).to.equal((2n << 32n) | 0b110n);
      // The first committee is past: of the two before, only the last one counts.
      expect(await firstVouches()).to.equal(0);
      expect(await nextVouches()).to.equal(NEXT_NOTE);
    });
  });

  describe("statusOf", () => {
    it("goes from Announced to Present to Former to Past, by time alone", async () => {
      expect(await committee.statusOf(1)).to.equal(RotationStatus.None);
      await rotate();
      const { since } = await committee.rotationOf(1);
      const statuses = () => Promise.all([committee.statusOf(0), committee.statusOf(1), committee.statusOf(2)]);
      const { Announced, Former, None, Past, Present } = RotationStatus;
      expect(await statuses()).to.deep.equal([Present, Announced, None]);
      await time.increaseTo(since);
      expect(await statuses()).to.deep.equal([Former, Present, None]);
      await time.increaseTo(since + BigInt(2 * DAY));
      expect(await statuses()).to.deep.equal([Former, Present, None]);
      await time.increaseTo(since + BigInt(2 * DAY + 1));
      expect(await statuses()).to.deep.equal([Past, Present, None]);
    });

    it("is Past of all but the last before the present one", async () => {
      await bondAll(nextMembers());
      await rotate();
      await takeOffice(1);
      await rotate({ members: membersBy(ATTESTORS), signers: NEXT });
      await takeOffice(2);
      expect(await committee.statusOf(0)).to.equal(RotationStatus.Past);
      expect(await committee.statusOf(1)).to.equal(RotationStatus.Former);
    });
  });

  describe("rotationOf", () => {
    it("is of no members for a rotation that doesn't exist", async () => {
      expect(await committee.rotationOf(1)).to.deep.equal([[], 0, 0]);
    });
  });

  /** Of which slot the length of the rotations' array is: after the nonce's. */
  const lengthSlot = async (length: bigint) => {
    for (let slot = 0; slot < 10; slot += 1) {
      const [before, at] = await Promise.all(
        [slot - 1, slot].map(async (index) =>
          BigInt(await hre.ethers.provider.getStorage(committee, Math.max(index, 0))),
        ),
      );
      if (slot > 0 && before === length - 1n && at === length) return slot;
    }
    throw new Error(`no slot holds ${length}`);
  };
  /** Copies a rotation, with the first three places of its members, to another number. */
  const plantCommittee = async (slot: number, to: bigint, from: bigint) => {
    const address = await committee.getAddress();
    const at = BigInt(keccak256(toBeHex(slot, 32)));
    const word = (position: bigint) => hre.ethers.provider.getStorage(committee, position);
    const write = async (position: bigint, value: string) => setStorageAt(address, toBeHex(position, 32), value);
    for (let offset = 0n; offset < 2n; offset += 1n)
      await write(at + to * 2n + offset, await word(at + from * 2n + offset));
    for (const { address: signer } of NEXT) {
      const place = (number: bigint) => {
        const outer = keccak256(abi.encode(["uint256", "uint256"], [number, slot + 1]));
        return BigInt(keccak256(abi.encode(["bytes32", "bytes32"], [keccak256(signer), outer])));
      };
      await write(place(to), await word(place(from)));
    }
  };
  /** What `rotationHash` is, worked out off the chain. */
  const rotationDigest = (
    domain: Parameters<typeof TypedDataEncoder.hash>[0],
    { members, threshold, deadline }: RotationCall,
    nonce: bigint,
  ) =>
    TypedDataEncoder.hash(
      domain,
      {
        Rotation: [
          { name: "members", type: "Member[]" },
          { name: "threshold", type: "uint64" },
          { name: "nonce", type: "uint256" },
          { name: "deadline", type: "uint256" },
        ],
        Member: [
          { name: "signer", type: "bytes" },
          { name: "weight", type: "uint16" },
          { name: "payee", type: "address" },
        ],
      },
      { members, threshold, nonce, deadline },
    );

  describe("rotationHash", () => {
    it("is what wallets sign by EIP-712, for the nonce of now", async () => {
      const domain = {
        name: "Licet CommitteeAttestor",
        version: "1",
        chainId: (await hre.ethers.provider.getNetwork()).chainId,
        verifyingContract: await committee.getAddress(),
      };
      const call = { members: nextMembers(), threshold: 2, deadline: 2_000_000_000, signers: [] };
      for (const nonce of [0n, 1n]) {
        expect(await committee.rotationHash(call.members, call.threshold, call.deadline)).to.equal(
          rotationDigest(domain, call, nonce),
        );
        await rotate();
      }
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

  describe("a former committee's income", () => {
    it("goes to those who signed, in their rotation, whoever is in office when it is shared", async () => {
      const signedByFirst = await releasedBatch([ATTESTORS[0], ATTESTORS[2]]);
      await bondAll(nextMembers());
      await rotate();
      await takeOffice(1);
      const signedByFormer = await releasedBatch([ATTESTORS[0], ATTESTORS[1]]);
      const signedByNext = await releasedBatch([NEXT[1], NEXT[2]]);
      for (const batchId of [signedByFirst, signedByFormer, signedByNext]) await committee.shareIncome(batchId);

      const all = await Promise.all([0, 1, 2, 3, 4, 5].map((i) => committee.incomeOf(market.payees[i])));
      expect(all).to.deep.equal([20_000n, 10_000n, 10_000n, 0n, 10_000n, 10_000n]);
      const before = await market.licet.currency.balanceOf(market.payees[0]);
      await committee.connect(market.payees[0]).withdraw(market.payees[0]);
      expect(await market.licet.currency.balanceOf(market.payees[0])).to.equal(before + 20_000n);
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
