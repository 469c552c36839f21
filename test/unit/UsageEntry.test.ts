import { loadFixture } from "@nomicfoundation/hardhat-network-helpers";
import { expect } from "chai";
import fc from "../support/fastCheck";
import hre from "hardhat";
import { packEntries, totalOf } from "../../oracle/protocol/entries";
import { usageBy, UINT32_MAX } from "../../oracle/protocol/meters";
import type { Entry } from "../../oracle/protocol/types";
import { UsageEntryHarness__factory, type UsageEntryHarness } from "../../typechain-types";
import { anyHeader, anyUsage } from "../support/fakeMessages";
import { structOf } from "../support/market";

const anyEntries: fc.Arbitrary<Entry[]> = fc
  .uniqueArray(fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), { minLength: 1, maxLength: 20 })
  .map((ids) => ids.sort((a, b) => (a < b ? -1 : 1)))
  .chain((ids) => fc.tuple(...ids.map((licenseId) => anyUsage(32).map((used) => ({ licenseId, ...used })))));

async function deploy(): Promise<UsageEntryHarness> {
  const harness = await hre.ethers.deployContract("UsageEntryHarness");
  return UsageEntryHarness__factory.connect(await harness.getAddress(), hre.ethers.provider);
}

describe("UsageEntry", () => {
  let library: UsageEntryHarness;

  beforeEach(async () => {
    library = await loadFixture(deploy);
  });

  describe("at", () => {
    it("reads every entry that the oracle packs, field by field", async () => {
      await fc.assert(
        fc.asyncProperty(anyEntries, async (entries) => {
          const packed = packEntries(entries);
          for (const [i, entry] of entries.entries()) {
            expect(structOf(await library.fieldsAt(packed, i))).to.deep.equal(entry);
          }
        }),
        { numRuns: 25 },
      );
    });

    it("keeps full neighbours apart", async () => {
      const full = { licenseId: 2n ** 64n - 1n, ...usageBy(() => UINT32_MAX) };
      const empty = { licenseId: 1n, ...usageBy(() => 0n) };
      const packed = packEntries([empty, full]);
      expect(structOf(await library.fieldsAt(packed, 0))).to.deep.equal(empty);
      expect(structOf(await library.fieldsAt(packed, 1))).to.deep.equal(full);
    });

    it("reads zeros behind the end of the calldata", async () => {
      expect(structOf(await library.fieldsAt("0x", 0))).to.deep.equal({ licenseId: 0n, ...usageBy(() => 0n) });
    });
  });

  describe("find", () => {
    it("finds every license that has an entry, and none that hasn't", async () => {
      await fc.assert(
        fc.asyncProperty(anyEntries, async (entries) => {
          const packed = packEntries(entries);
          const ids = new Set(entries.map(({ licenseId }) => licenseId));
          for (const [i, { licenseId }] of entries.entries()) {
            const entry = BigInt(`0x${packed.slice(2 + 56 * i, 2 + 56 * (i + 1))}`);
            // A license's id counts from 1.
            if (licenseId > 0n) expect(await library.find(packed, licenseId)).to.deep.equal([i, entry]);
            for (const other of [licenseId - 1n, licenseId + 1n]) {
              if (other < 1n || other >= 2n ** 64n || ids.has(other)) continue;
              expect((await library.find(packed, other)).entry).to.equal(0);
            }
          }
        }),
        { numRuns: 20 },
      );
    });

    it("finds nothing where there are no entries, or behind them", async () => {
      expect(await library.find("0x", 1)).to.deep.equal([0, 0]);
      const packed = packEntries([{ licenseId: 7n, ...usageBy(() => 1n) }]);
      expect(await library.find(`${packed}00000000000000ff`, 255)).to.deep.equal([1, 0]);
    });
  });

  describe("lanes", () => {
    it("add up to the lanes of a header with the entries' totals", async () => {
      await fc.assert(
        fc.asyncProperty(anyEntries, anyHeader, async (entries, header) => {
          const lanes = await library.lanesOf({ ...header, ...totalOf(entries) });
          expect(await library.lanesOfAll(packEntries(entries))).to.deep.equal(lanes);
        }),
        { numRuns: 50 },
      );
    });

    it("don't carry into each other when 2,000 entries are full", async () => {
      const entries = Array.from({ length: 2_000 }, (_, i) => ({
        licenseId: BigInt(i + 1),
        ...usageBy(() => UINT32_MAX),
      }));
      const [even, odd] = await library.lanesOfAll(packEntries(entries));
      const sum = 2_000n * UINT32_MAX;
      expect(even).to.equal((sum << 172n) | (sum << 86n) | sum);
      expect(odd).to.equal((sum << 172n) | (sum << 86n));
    });
  });

  describe("lanesOf", () => {
    it("gives each of a header's totals a lane of 86 bits", async () => {
      await fc.assert(
        fc.asyncProperty(anyHeader, async (header) => {
          const { requests, inputTokens, cachedInputTokens, outputTokens, computeMs } = header;
          expect(await library.lanesOf(header)).to.deep.equal([
            (requests << 172n) | (cachedInputTokens << 86n) | computeMs,
            (inputTokens << 172n) | (outputTokens << 86n),
          ]);
        }),
        { numRuns: 50 },
      );
    });
  });
});
