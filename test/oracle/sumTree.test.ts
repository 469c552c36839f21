import { expect } from "chai";
import { concat, hexlify, keccak256, toBeHex } from "ethers";
import fc from "../support/fastCheck";
import { sumUsage } from "../../oracle/protocol/meters";
import { METERS } from "../../oracle/protocol/types";
import { SumTree, verifyInclusion, type Leaf } from "../../oracle/protocol/sumTree";
import { anyUsage, usage } from "../support/fakeMessages";

const anyLeaf: fc.Arbitrary<Leaf> = fc.record({
  signedReceiptHash: fc.uint8Array({ minLength: 32, maxLength: 32 }).map((bytes) => hexlify(bytes)),
  licenseId: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
  usage: anyUsage(32),
});
const anyLeaves = fc.array(anyLeaf, { minLength: 1, maxLength: 40 });
const anyPlaceIn = (leaves: Leaf[]) => fc.tuple(fc.constant(leaves), fc.nat(leaves.length - 1));

/** Flips one bit of the leaf: 256 of the hash, 64 of the license, 64 of each sum. */
function flipBit(leaf: Leaf, bit: number): Leaf {
  const flip = (value: bigint, at: number) => value ^ (1n << BigInt(at));
  if (bit < 256) return { ...leaf, signedReceiptHash: toBeHex(flip(BigInt(leaf.signedReceiptHash), bit), 32) };
  if (bit < 320) return { ...leaf, licenseId: flip(leaf.licenseId, bit - 256) };
  const meter = METERS[Math.floor((bit - 320) / 64)];
  return { ...leaf, usage: { ...leaf.usage, [meter]: flip(leaf.usage[meter], (bit - 320) % 64) } };
}

const sums = (used: Leaf["usage"]) => concat(METERS.map((meter) => toBeHex(used[meter], 8)));

describe("SumTree", () => {
  const leafOf = (id: number): Leaf => ({
    signedReceiptHash: toBeHex(id, 32),
    licenseId: BigInt(id),
    usage: usage({ requests: 1n, inputTokens: BigInt(id) }),
  });

  describe("of", () => {
    it("hashes three leaves as the protocol says, the odd one promoted", () => {
      const leaves = [leafOf(1), leafOf(2), leafOf(3)];
      const [a, b, c] = leaves.map(({ signedReceiptHash, licenseId, usage: used }) =>
        keccak256(concat(["0x00", signedReceiptHash, toBeHex(licenseId, 8), sums(used)])),
      );
      const [sumA, sumB, sumC] = leaves.map((leaf) => sums(leaf.usage));
      const sumAB = sums(sumUsage([leaves[0].usage, leaves[1].usage]));
      const ab = keccak256(concat(["0x01", a, sumA, b, sumB]));
      const top = keccak256(concat(["0x01", ab, sumAB, c, sumC]));
      const total = sums(sumUsage(leaves.map((leaf) => leaf.usage)));
      expect(SumTree.of(leaves).root).to.equal(keccak256(concat(["0x02", top, total, toBeHex(3, 8)])));
    });

    it("totals the leaves and counts them", () => {
      fc.assert(
        fc.property(anyLeaves, (leaves) => {
          const tree = SumTree.of(leaves);
          expect(tree.totals).to.deep.equal(sumUsage(leaves.map((leaf) => leaf.usage)));
          expect(tree.count).to.equal(BigInt(leaves.length));
        }),
      );
    });

    it("carries sums over 32 bits", () => {
      const leaves = [1, 2, 3].map((id) => ({
        ...leafOf(id),
        usage: usage({ computeMs: 2n ** 62n + 2n ** 32n - 1n }),
      }));
      expect(SumTree.of(leaves).totals.computeMs).to.equal(3n * (2n ** 62n + 2n ** 32n - 1n));
    });

    it("refuses sums over 64 bits", () => {
      const leaves = [1, 2].map((id) => ({ ...leafOf(id), usage: usage({ computeMs: 2n ** 63n }) }));
      expect(() => SumTree.of(leaves)).to.throw(RangeError, "exceeds a uint64");
    });

    it("refuses no leaves", () => {
      expect(() => SumTree.of([])).to.throw(RangeError, "at least one leaf");
    });

    it("tells trees apart that differ in one bit of one leaf", () => {
      fc.assert(
        fc.property(anyLeaves.chain(anyPlaceIn), fc.nat(639), ([leaves, place], bit) => {
          const changed = leaves.map((leaf, i) => (i === place ? flipBit(leaf, bit) : leaf));
          return SumTree.of(changed).root !== SumTree.of(leaves).root;
        }),
      );
    });
  });

  describe("verifyInclusion", () => {
    it("accepts every leaf with its proof", () => {
      fc.assert(
        fc.property(anyLeaves, (leaves) => {
          const tree = SumTree.of(leaves);
          return leaves.every((leaf, i) => verifyInclusion(tree, leaf, tree.proofOf(i)));
        }),
      );
    });

    it("refuses a leaf with any single bit changed", () => {
      fc.assert(
        fc.property(anyLeaves.chain(anyPlaceIn), fc.nat(639), ([leaves, place], bit) => {
          const tree = SumTree.of(leaves);
          return !verifyInclusion(tree, flipBit(leaves[place], bit), tree.proofOf(place));
        }),
      );
    });

    it("refuses a header with other totals or another count", () => {
      const leaves = [leafOf(1), leafOf(2), leafOf(3)];
      const tree = SumTree.of(leaves);
      const { root, totals, count } = tree;
      const proof = tree.proofOf(1);
      const more = { ...totals, inputTokens: totals.inputTokens + 1n };
      expect(verifyInclusion({ root, totals, count }, leaves[1], proof)).to.equal(true);
      expect(verifyInclusion({ root, totals: more, count }, leaves[1], proof)).to.equal(false);
      expect(verifyInclusion({ root, totals, count: count + 1n }, leaves[1], proof)).to.equal(false);
    });

    it("refuses money moved from one sibling to another", () => {
      const tree = SumTree.of([leafOf(1), leafOf(2)]);
      const proof = tree.proofOf(0);
      const thief = { ...leafOf(1), usage: usage({ requests: 1n, inputTokens: 3n }) };
      const robbed = { ...proof.siblings[0], sums: usage({ requests: 1n }) };
      expect(verifyInclusion(tree, thief, { index: 0, siblings: [robbed] })).to.equal(false);
    });

    it("refuses proofs that are too short, too long, out of place or malformed", () => {
      const leaves = [1, 2, 3, 4, 5].map(leafOf);
      const tree = SumTree.of(leaves);
      const { siblings } = tree.proofOf(2);
      const verify = (index: number, others: typeof siblings) =>
        verifyInclusion(tree, leaves[2], { index, siblings: others });
      expect(verify(2, siblings)).to.equal(true);
      expect(verify(2, siblings.slice(1))).to.equal(false);
      expect(verify(2, [...siblings, siblings[0]])).to.equal(false);
      expect(verify(3, siblings)).to.equal(false);
      expect(verify(5, siblings)).to.equal(false);
      expect(verify(2, [{ hash: "0x12", sums: siblings[0].sums }, ...siblings.slice(1)])).to.equal(false);
      expect(verify(2, [{ hash: "nonsense", sums: siblings[0].sums }, ...siblings.slice(1)])).to.equal(false);
    });
  });

  describe("proofOf", () => {
    it("refuses a leaf that isn't there", () => {
      expect(() => SumTree.of([leafOf(1)]).proofOf(1)).to.throw(RangeError, "leaf 1 isn't among the tree's 1");
    });
  });
});
