import { loadFixture } from "@nomicfoundation/hardhat-network-helpers";
import { expect } from "chai";
import fc from "../support/fastCheck";
import hre from "hardhat";
import { EntryStatus, packOutcomes, type EntryStatusName, type Outcome } from "../../oracle/protocol/entries";
import { OutcomesHarness__factory, type OutcomesHarness } from "../../typechain-types";

const anyOutcomes = fc.array(
  fc.record({
    licenseId: fc.oneof(fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), fc.constantFrom(0n, 2n ** 64n - 1n)),
    charged: fc.oneof(fc.bigInt({ min: 0n, max: 2n ** 56n - 1n }), fc.constantFrom(0n, 2n ** 56n - 1n)),
    status: fc.constantFrom(...(Object.keys(EntryStatus) as EntryStatusName[])),
  }),
  { maxLength: 40 },
);

async function deploy(): Promise<OutcomesHarness> {
  const harness = await hre.ethers.deployContract("OutcomesHarness");
  return OutcomesHarness__factory.connect(await harness.getAddress(), hre.ethers.provider);
}

describe("Outcomes", () => {
  let library: OutcomesHarness;

  beforeEach(async () => {
    library = await loadFixture(deploy);
  });

  const structs = (outcomes: Outcome[], term = 0n) =>
    outcomes.map(({ status, ...outcome }) => ({ ...outcome, term, status: EntryStatus[status] }));
  const pack = (outcomes: Outcome[]) => library.packEntries(structs(outcomes));

  it("are packed as the oracle unpacks them", async () => {
    await fc.assert(
      fc.asyncProperty(anyOutcomes, async (outcomes) => {
        expect((await pack(outcomes)).packed).to.equal(packOutcomes(outcomes));
      }),
    );
  });

  it("of entries say what each was charged, by its place", async () => {
    await fc.assert(
      fc.asyncProperty(anyOutcomes, async (outcomes) => {
        const packed = packOutcomes(outcomes);
        for (const [i, { charged }] of outcomes.entries()) expect(await library.amountAt(packed, i)).to.equal(charged);
        await expect(library.amountAt(packed, outcomes.length)).to.be.revertedWithoutReason();
      }),
      { numRuns: 20 },
    );
  });

  it("of vouchers say the term, too, and end where the last one does", async () => {
    await fc.assert(
      fc.asyncProperty(
        anyOutcomes,
        fc.bigInt({ min: 0n, max: 2n ** 16n - 1n }),
        fc.nat({ max: 9 }),
        async (outcomes, term, spare) => {
          const { packed, neighbour } = await library.packVouchers(structs(outcomes, term), spare);
          const records = outcomes.map(({ licenseId, charged, status }) =>
            ((licenseId << 80n) | (term << 64n) | (charged << 8n) | BigInt(EntryStatus[status]))
              .toString(16)
              .padStart(36, "0"),
          );
          expect(packed).to.equal(`0x${records.join("")}`);
          expect(neighbour).to.deep.equal([2n ** 256n - 1n]);
        },
      ),
    );
  });

  it("write over nothing that stands behind them in memory", async () => {
    for (const count of [0, 1, 2, 3, 4, 5, 8]) {
      const { neighbour } = await pack(
        Array.from({ length: count }, () => ({ licenseId: 1n, charged: 1n, status: "Charged" })),
      );
      expect(neighbour, `${count} outcomes`).to.deep.equal([2n ** 256n - 1n]);
    }
  });
});
