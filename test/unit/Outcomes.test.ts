import { loadFixture } from "@nomicfoundation/hardhat-network-helpers";
import { expect } from "chai";
import fc from "fast-check";
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

  const pack = (outcomes: Outcome[]) =>
    library.pack(
      outcomes.map(({ licenseId }) => licenseId),
      outcomes.map(({ charged }) => charged),
      outcomes.map(({ status }) => EntryStatus[status]),
    );

  it("are packed as the oracle unpacks them", async () => {
    await fc.assert(
      fc.asyncProperty(anyOutcomes, async (outcomes) => {
        expect((await pack(outcomes)).packed).to.equal(packOutcomes(outcomes));
      }),
    );
  });

  it("say again what was charged", async () => {
    await fc.assert(
      fc.asyncProperty(anyOutcomes, async (outcomes) => {
        expect((await pack(outcomes)).amounts).to.deep.equal(outcomes.map(({ charged }) => charged));
      }),
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
