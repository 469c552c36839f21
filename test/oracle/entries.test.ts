import { expect } from "chai";
import fc from "../support/fastCheck";
import {
  entriesOf,
  EntryStatus,
  MAX_ENTRIES,
  packEntries,
  packOutcomes,
  totalOf,
  unpackEntries,
  unpackOutcomes,
  type EntryStatusName,
} from "../../oracle/protocol/entries";
import { sumUsage, usageOf } from "../../oracle/protocol/meters";
import type { Entry } from "../../oracle/protocol/types";
import { anyReceipt, anyUsage, receiptWith, usage } from "../support/fakeMessages";

const anyEntries: fc.Arbitrary<Entry[]> = fc
  .uniqueArray(fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), { maxLength: 30 })
  .map((ids) => ids.sort((a, b) => (a < b ? -1 : 1)))
  .chain((ids) => fc.tuple(...ids.map((licenseId) => anyUsage(32).map((used) => ({ licenseId, ...used })))));

describe("entries", () => {
  describe("entriesOf", () => {
    it("sums receipts by license, ascending", () => {
      const receipts = [
        receiptWith({ licenseId: 300n, inputTokens: 1n }),
        receiptWith({ licenseId: 20n, inputTokens: 2n }),
        receiptWith({ licenseId: 300n, inputTokens: 3n }),
      ];
      expect(entriesOf(receipts).map(({ licenseId, inputTokens }) => [licenseId, inputTokens])).to.deep.equal([
        [20n, 2n],
        [300n, 4n],
      ]);
    });

    it("loses nothing", () => {
      const anyReceipts = fc.array(
        anyReceipt.map((receipt) => ({ ...receipt, ...usage({ inputTokens: receipt.inputTokens / 64n }) })),
        { maxLength: 40 },
      );
      fc.assert(
        fc.property(anyReceipts, (receipts) => {
          expect(totalOf(entriesOf(receipts))).to.deep.equal(sumUsage(receipts.map(usageOf)));
        }),
      );
    });

    it("refuses a total above a uint32 and names the license and the meter", () => {
      const half = receiptWith({ licenseId: 7n, outputTokens: 2n ** 31n });
      expect(() => entriesOf([half, half])).to.throw(RangeError, "license 7 has over 2^32 - 1 of outputTokens");
    });
  });

  describe("packEntries", () => {
    it("is undone by unpackEntries", () => {
      fc.assert(
        fc.property(anyEntries, (entries) => {
          expect(unpackEntries(packEntries(entries))).to.deep.equal(entries);
        }),
      );
    });

    it("writes 28 bytes an entry, big-endian, in the meters' order", () => {
      const meters = { requests: 1n, inputTokens: 2n, cachedInputTokens: 3n, outputTokens: 4n, computeMs: 5n };
      const entry = { licenseId: 258n, ...meters };
      expect(packEntries([entry])).to.equal("0x" + "0000000000000102" + "0000000100000002000000030000000400000005");
    });

    it("refuses entries that don't ascend", () => {
      const entry = { licenseId: 5n, ...usage({}) };
      expect(() => packEntries([entry, entry])).to.throw("entries must ascend by license: 5 comes after 5");
    });

    it("refuses more than a batch holds", () => {
      const many = Array.from({ length: MAX_ENTRIES + 1 }, (_, i) => ({ licenseId: BigInt(i), ...usage({}) }));
      expect(() => packEntries(many)).to.throw("2001 entries: a batch holds 2000");
      expect(packEntries(many.slice(1))).to.have.length(2 + 2 * 28 * MAX_ENTRIES);
    });
  });

  describe("unpackEntries", () => {
    it("refuses a cut record", () => {
      expect(() => unpackEntries("0x" + "00".repeat(29))).to.throw("records of 28 bytes, not 29 bytes");
    });

    it("refuses records that don't ascend", () => {
      expect(() => unpackEntries("0x" + "00".repeat(56))).to.throw("entries must ascend");
    });
  });

  describe("outcomes", () => {
    it("are 64 bits of license, 56 of charge and 8 of status", () => {
      expect(packOutcomes([{ licenseId: 7n, charged: 258n, status: "CapReached" }])).to.equal(
        "0x" + "0000000000000007" + "0000000000010202",
      );
    });

    it("survive packing", () => {
      const anyOutcome = fc.record({
        licenseId: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
        charged: fc.bigInt({ min: 0n, max: 2n ** 56n - 1n }),
        status: fc.constantFrom(...(Object.keys(EntryStatus) as EntryStatusName[])),
      });
      fc.assert(
        fc.property(fc.array(anyOutcome), (outcomes) => {
          expect(unpackOutcomes(packOutcomes(outcomes))).to.deep.equal(outcomes);
        }),
      );
    });

    it("name every status by its number on chain", () => {
      const license = "0x" + "0000000000000009";
      expect(unpackOutcomes(license + "0000000000000008")).to.deep.equal([
        { licenseId: 9n, charged: 0n, status: "Stopped" },
      ]);
      expect(() => unpackOutcomes(license + "0000000000000009")).to.throw(RangeError, "9 is no entry status");
    });
  });
});
