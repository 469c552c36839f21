import { expect } from "chai";
import { id, keccak256 } from "ethers";
import { firstPart, headerOf, summarize } from "../../oracle/batches";
import { MAX_ENTRIES, unpackEntries } from "../../oracle/entries";
import { receiptWith, usage } from "../support/fakeMessages";

const receiptOf = (licenseId: bigint, sequence: bigint) => ({
  receipt: receiptWith({ licenseId, sequence }),
  hash: id(`${licenseId}/${sequence}`),
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
      expect(firstPart([a, b, c, d], 2)).to.deep.equal([b, c, d]);
      expect(firstPart([a, b, c, d])).to.deep.equal([a, b, c, d]);
    });
  });
});
