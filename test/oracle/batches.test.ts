import { expect } from "chai";
import { id, keccak256 } from "ethers";
import fc from "../support/fastCheck";
import {
  counted,
  firstLicenses,
  firstPart,
  headerOf,
  nextEpoch,
  summarize,
  wholeEpoch,
} from "../../oracle/settler/batches";
import { sumUsage } from "../../oracle/protocol/meters";
import { MAX_ENTRIES, unpackEntries } from "../../oracle/protocol/entries";
import { MalformedMessage, signDigest } from "../../oracle/protocol/messages";
import type { Receipt } from "../../oracle/protocol/types";
import { receiptWith, usage } from "../support/fakeMessages";

const signature = signDigest(id("operator"), id("a receipt"));

const signedOf = (licenseId: bigint, sequence: bigint) => ({
  receipt: receiptWith({ licenseId, sequence }),
  hash: id(`${licenseId}/${sequence}`),
  signature,
});
const receiptOf = (licenseId: bigint, sequence: bigint) => counted(signedOf(licenseId, sequence));

const finished = (finishedAt: number, fields: Partial<Receipt> = {}) => ({
  receipt: receiptWith({ finishedAt, ...fields }),
  leaf: Buffer.alloc(32),
});

describe("batches", () => {
  const receipts = [receiptOf(300n, 1n), receiptOf(20n, 2n), receiptOf(20n, 1n)];

  describe("summarize", () => {
    it("refuses no receipts", () => {
      expect(() => summarize([])).to.throw(RangeError);
    });

    it("refuses more licenses than a batch holds", () => {
      const many = Array.from({ length: MAX_ENTRIES + 1 }, (_, i) => receiptOf(BigInt(i + 1), 1n));
      expect(() => summarize(many)).to.throw(RangeError, "2001 entries");
    });

    it("sums up by license, in the protocol's order, whatever order the receipts come in", () => {
      const { summary, entries } = summarize(receipts);
      expect(summarize([...receipts].reverse())).to.deep.equal({ summary, entries });
      expect(unpackEntries(entries).map(({ licenseId, requests }) => [licenseId, requests])).to.deep.equal([
        [20n, 2n],
        [300n, 1n],
      ]);
      expect(summary.entriesHash).to.equal(keccak256(entries));
      expect(summary.count).to.equal(3n);
      expect(summary).to.include(
        usage({ requests: 3n, inputTokens: 90n, cachedInputTokens: 30n, outputTokens: 150n, computeMs: 2_400n }),
      );
    });

    it("has another root where another key signed one of the receipts, and nothing else of it is another", () => {
      const [, ...others] = receipts;
      const first = signedOf(300n, 1n);
      const byAnother = counted({ ...first, signature: signDigest(id("another key"), first.hash) });
      const { root, ...rest } = summarize(receipts).summary;
      const { root: otherRoot, ...otherRest } = summarize([byAnother, ...others]).summary;
      expect(otherRoot).not.to.equal(root);
      expect(otherRest).to.deep.equal(rest);
    });

    it("refuses a signature that isn't in its one form", () => {
      const counting = (forged: string) => () => counted({ ...signedOf(1n, 1n), signature: forged });
      expect(counting(signature.slice(0, -2) + "00")).to.throw(MalformedMessage, "v must be 27 or 28, not 0");
      expect(counting(`0x${signature.slice(2, 66)}${"ff".repeat(32)}1b`)).to.throw("upper half of the order");
      expect(counting(signature.slice(0, -2))).to.throw("signature must have 65 bytes, not 64");
    });
  });

  describe("headerOf", () => {
    it("has the header's fields and nothing else of what it is made of", () => {
      const lane = { operatorId: 1, planId: 2, versionId: 3n, oldestFinishedAt: 9 };
      const epoch = { epochStart: 10, epochEnd: 20, length: 10 };
      const level = { availabilityBps: 1, p95TtftMs: 2, samples: 3, at: 4 };
      const { summary } = summarize(receipts);
      expect(headerOf(lane, epoch, 7n, summary, level, id("evidence"))).to.deep.equal({
        operatorId: 1,
        planId: 2,
        versionId: 3n,
        sequence: 7n,
        epochStart: 10,
        epochEnd: 20,
        ...summary,
        availabilityBps: 1,
        p95TtftMs: 2,
        samples: 3,
        evidenceHash: id("evidence"),
      });
    });
  });

  describe("firstPart", () => {
    it("takes all receipts of the lowest licenses, in the order they came", () => {
      const [a, b, c, d] = [receiptOf(9n, 1n), receiptOf(2n, 1n), receiptOf(5n, 1n), receiptOf(2n, 2n)];
      expect(firstPart([a, b, c, d], { licenses: 2, receipts: 9 })).to.deep.equal([b, c, d]);
      expect(firstPart([a, b, c, d])).to.deep.equal([a, b, c, d]);
    });

    it("takes no more licenses than a transaction can settle, whatever they have aside", () => {
      const many = Array.from({ length: 2_000 }, (_, i) => receiptOf(BigInt(i + 1), 1n));
      expect(firstPart(many)).to.have.length(1_000);
    });

    it("takes no license in part when there are too many receipts", () => {
      const [a, b, c] = [receiptOf(1n, 1n), receiptOf(2n, 1n), receiptOf(2n, 2n)];
      expect(firstPart([a, b, c], { licenses: 9, receipts: 2 })).to.deep.equal([a]);
      expect(firstPart([a, b, c], { licenses: 9, receipts: 3 })).to.deep.equal([a, b, c]);
    });

    it("leaves out a license that is too much for any batch", () => {
      const [a, b, c] = [receiptOf(1n, 1n), receiptOf(1n, 2n), receiptOf(2n, 1n)];
      expect(firstPart([a, b, c], { licenses: 9, receipts: 1 })).to.deep.equal([c]);
      expect(firstPart([a, b], { licenses: 9, receipts: 1 })).to.deep.equal([]);
      const heavy = [1n, 2n].map((sequence) => finished(0, { sequence, computeMs: 2n ** 31n }));
      expect(firstPart([...heavy, c])).to.deep.equal([c]);
    });
  });

  describe("nextEpoch", () => {
    const wanted = { epochStart: 100, epochEnd: 200 };
    const before = { epochStart: 50, epochEnd: 100 };

    it("is the wanted one where everything fits", () => {
      expect(nextEpoch([finished(100), finished(199)], wanted, before)).to.deep.equal(wanted);
      expect(nextEpoch([], wanted, before)).to.deep.equal(wanted);
    });

    it("starts when the lane's last one ended, if that was later", () => {
      const last = { epochStart: 90, epochEnd: 120 };
      expect(nextEpoch([finished(120)], wanted, last)).to.deep.equal({ epochStart: 120, epochEnd: 200 });
    });

    it("is the lane's last one while that has receipts left", () => {
      const last = { epochStart: 90, epochEnd: 120 };
      expect(nextEpoch([finished(150), finished(119)], wanted, last)).to.deep.equal(last);
    });

    it("ends before the second in which a license's totals exceed a uint32", () => {
      const half = { computeMs: 2n ** 31n };
      const heavy = [finished(170, half), finished(110, half)];
      expect(nextEpoch([...heavy, finished(180)], wanted, before)).to.deep.equal({ epochStart: 100, epochEnd: 170 });
      const ofTwo = [heavy[0], finished(110, { ...half, licenseId: 2n })];
      expect(nextEpoch(ofTwo, wanted, before)).to.deep.equal(wanted);
    });

    it("ends before the second in which a license has too many receipts", () => {
      const limits = { licenses: 9, receipts: 2 };
      const receipts = [finished(101), finished(102), finished(102), finished(103)];
      expect(nextEpoch(receipts, wanted, before, limits)).to.deep.equal({ epochStart: 100, epochEnd: 102 });
      expect(nextEpoch(receipts.slice(1), wanted, before, limits)).to.deep.equal({ epochStart: 100, epochEnd: 103 });
      const ofTwo = [receipts[0], finished(102, { licenseId: 2n }), receipts[1]];
      expect(nextEpoch(ofTwo, wanted, before, limits)).to.deep.equal(wanted);
    });

    it("ends after a single second that is too much by itself", () => {
      const limits = { licenses: 9, receipts: 1 };
      const receipts = [finished(103), finished(103), finished(104)];
      expect(nextEpoch(receipts, wanted, before, limits)).to.deep.equal({ epochStart: 100, epochEnd: 104 });
    });

    const totalsOf = (receipts: ReturnType<typeof finished>[]) =>
      [...new Set(receipts.map(({ receipt }) => receipt.licenseId))].sort().map((licenseId) => {
        const own = receipts.flatMap(({ receipt }) => (receipt.licenseId === licenseId ? [receipt] : []));
        return { licenseId, receipts: own.length, usage: sumUsage(own) };
      });

    it("is known from totals alone unless it has to be cut, or looked for elsewhere", () => {
      const limits = { licenses: 9, receipts: 3 };
      const anyReceipts = fc.array(
        fc.record({
          at: fc.integer({ min: 100, max: 199 }),
          licenseId: fc.bigInt({ min: 1n, max: 3n }),
          computeMs: fc.bigInt({ min: 0n, max: 2n ** 31n }),
        }),
        { minLength: 1, maxLength: 8 },
      );
      const anyLast = fc.constantFrom(before, { epochStart: 90, epochEnd: 120 }, { epochStart: 110, epochEnd: 200 });
      let known = 0;
      fc.assert(
        fc.property(anyReceipts, anyLast, (drawn, last) => {
          const receipts = drawn.map(({ at, ...fields }) => finished(at, fields));
          const oldest = Math.min(...drawn.map(({ at }) => at));
          const epoch = wholeEpoch(totalsOf(receipts), oldest, wanted, last, limits);
          if (epoch === null) return;
          known++;
          expect(epoch).to.deep.equal(nextEpoch(receipts, wanted, last, limits));
          const licenses = firstLicenses(totalsOf(receipts), limits);
          expect(firstPart(receipts, limits)).to.deep.equal(
            receipts.filter(({ receipt }) => licenses.includes(receipt.licenseId)),
          );
        }),
      );
      expect(known).to.be.above(20);
    });

    it("cuts any receipts into epochs that follow each other, fit, and leave none out", () => {
      const limits = { licenses: 9, receipts: 5 };
      const anyReceipts = fc.array(
        fc.record({
          at: fc.integer({ min: 100, max: 199 }),
          licenseId: fc.bigInt({ min: 1n, max: 3n }),
          computeMs: fc.bigInt({ min: 0n, max: 2n ** 31n }),
        }),
        { maxLength: 40 },
      );
      fc.assert(
        fc.property(anyReceipts, (drawn) => {
          let left = drawn.map(({ at, ...fields }) => finished(at, fields));
          let last = before;
          while (left.length > 0) {
            const epoch = nextEpoch(left, wanted, last, limits);
            expect(epoch.epochStart).to.be.at.least(last.epochEnd);
            expect(epoch.epochEnd).to.be.greaterThan(epoch.epochStart).and.at.most(wanted.epochEnd);
            const inEpoch = left.filter(({ receipt }) => receipt.finishedAt < epoch.epochEnd);
            expect(inEpoch).not.to.deep.equal([]);
            const isOneSecond = new Set(inEpoch.map(({ receipt }) => receipt.finishedAt)).size === 1;
            if (!isOneSecond) {
              let unsettled = inEpoch;
              while (unsettled.length > 0) {
                const part = firstPart(unsettled, limits);
                expect(part.length).to.be.within(1, limits.receipts);
                unsettled = unsettled.filter((each) => !part.includes(each));
              }
            }
            left = left.filter((each) => !inEpoch.includes(each));
            last = epoch;
          }
        }),
      );
    });
  });
});
