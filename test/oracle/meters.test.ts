import { expect } from "chai";
import fc from "../support/fastCheck";
import {
  addUsage,
  chargeOf,
  clampUsage,
  costOf,
  metersOverUint32,
  priceOf,
  sameUsage,
  sumUsage,
  zeroUsage,
} from "../../oracle/protocol/meters";
import { METERS } from "../../oracle/protocol/types";
import { anyUsage, usage } from "../support/fakeMessages";

const RATES = usage({
  requests: 1_000n,
  inputTokens: 2_000_000n,
  cachedInputTokens: 500_000n,
  outputTokens: 6_000_000n,
});

describe("meters", () => {
  describe("sums", () => {
    it("add meter by meter", () => {
      expect(addUsage(usage({ requests: 1n, computeMs: 2n }), usage({ computeMs: 3n }))).to.deep.equal(
        usage({ requests: 1n, computeMs: 5n }),
      );
      expect(sumUsage([])).to.deep.equal(zeroUsage());
    });

    it("come out the same in any order", () => {
      fc.assert(
        fc.property(fc.array(anyUsage(32)), (usages) => sameUsage(sumUsage(usages), sumUsage([...usages].reverse()))),
      );
    });
  });

  describe("priceOf", () => {
    it("multiplies each meter with its rate and divides once", () => {
      const used = usage({
        requests: 1n,
        inputTokens: 30n,
        cachedInputTokens: 10n,
        outputTokens: 50n,
        computeMs: 800n,
      });
      expect(priceOf(used, RATES)).to.equal(365n); // (1,000 + 60,000,000 + 5,000,000 + 300,000,000) / 1,000,000
    });

    it("rounds down, in the payer's favour", () => {
      expect(priceOf(usage({ requests: 999n }), RATES)).to.equal(0n);
      expect(priceOf(usage({ requests: 1_000n }), RATES)).to.equal(1n);
    });
  });

  describe("costOf", () => {
    it("over single receipts never sums to less than the price of their entry", () => {
      fc.assert(
        fc.property(fc.array(anyUsage(32), { maxLength: 20 }), anyUsage(40), (usages, rates) => {
          const setAside = usages.reduce((sum, used) => sum + costOf(used, rates), 0n);
          return setAside >= priceOf(sumUsage(usages), rates);
        }),
      );
    });
  });

  describe("chargeOf", () => {
    it("takes the discount off and rounds down", () => {
      expect(chargeOf(1_001n, 0)).to.equal(1_001n);
      expect(chargeOf(1_001n, 1_000)).to.equal(900n);
    });
  });

  describe("clampUsage", () => {
    it("holds every meter to its limit", () => {
      fc.assert(
        fc.property(anyUsage(32), anyUsage(32), (used, limit) => {
          const clamped = clampUsage(used, limit);
          return METERS.every((meter) => clamped[meter] <= limit[meter] && clamped[meter] <= used[meter]);
        }),
      );
    });
  });

  describe("metersOverUint32", () => {
    it("names what doesn't fit in an entry", () => {
      expect(metersOverUint32(usage({ inputTokens: 2n ** 32n, outputTokens: 2n ** 32n - 1n }))).to.deep.equal([
        "inputTokens",
      ]);
    });
  });
});
