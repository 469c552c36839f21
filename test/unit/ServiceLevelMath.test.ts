import { loadFixture } from "@nomicfoundation/hardhat-network-helpers";
import { expect } from "chai";
import fc from "../support/fastCheck";
import hre from "hardhat";
import { ServiceLevelMathHarness__factory, type ServiceLevelMathHarness } from "../../typechain-types";
import { planTerms, type PlanTerms } from "../support/market";

type Levels = PlanTerms["levels"];

/** Floors 99 % (10 % off) and 90 % (30 % off); ceilings 800 ms (10 % off) and 3,000 ms (25 % off). */
const { levels: LEVELS } = planTerms(1, "");

const bps = fc.integer({ min: 0, max: 10_000 });
const ms = fc.integer({ min: 0, max: 2 ** 32 - 1 });
const anyLevels: fc.Arbitrary<Levels> = fc.record({
  availabilityFloorBps: bps,
  availabilityDiscountBps: bps,
  severeAvailabilityFloorBps: bps,
  severeAvailabilityDiscountBps: bps,
  ttftCeilingMs: ms,
  ttftDiscountBps: bps,
  severeTtftCeilingMs: ms,
  severeTtftDiscountBps: bps,
});

/** The reference: every tier that is breached, the dearest of each level, the dearer level. */
function discountOf(levels: Levels, availability: number, ttft: number, samples: number): number {
  if (samples < 20) return 0;
  const forAvailability =
    availability < levels.severeAvailabilityFloorBps
      ? levels.severeAvailabilityDiscountBps
      : availability < levels.availabilityFloorBps
        ? levels.availabilityDiscountBps
        : 0;
  const forTtft =
    ttft > levels.severeTtftCeilingMs
      ? levels.severeTtftDiscountBps
      : ttft > levels.ttftCeilingMs
        ? levels.ttftDiscountBps
        : 0;
  return Math.max(forAvailability, forTtft);
}

async function deploy(): Promise<ServiceLevelMathHarness> {
  const harness = await hre.ethers.deployContract("ServiceLevelMathHarness");
  return ServiceLevelMathHarness__factory.connect(await harness.getAddress(), hre.ethers.provider);
}

describe("ServiceLevelMath", () => {
  let library: ServiceLevelMathHarness;

  beforeEach(async () => {
    library = await loadFixture(deploy);
  });

  describe("discountOf", () => {
    const cases: [string, number, number, number, number][] = [
      ["is nothing at the floor and the ceiling", 9_900, 800, 20, 0],
      ["is the first tier's just below the floor", 9_899, 800, 20, 1_000],
      ["is the first tier's at the severe floor", 9_000, 800, 20, 1_000],
      ["is the severe tier's just below the severe floor", 8_999, 800, 20, 3_000],
      ["is the severe tier's when nothing was served", 0, 800, 20, 3_000],
      ["is the first tier's just above the ceiling", 9_900, 801, 20, 1_000],
      ["is the first tier's at the severe ceiling", 9_900, 3_000, 20, 1_000],
      ["is the severe tier's just above the severe ceiling", 9_900, 3_001, 20, 2_500],
      ["is the larger one, not the sum, when both levels are breached", 8_999, 3_001, 20, 3_000],
      ["is the larger one when the other level is the worse", 9_899, 3_001, 20, 2_500],
      ["is nothing below the minimum sample of 20 canaries", 0, 2 ** 32 - 1, 19, 0],
      ["is nothing without canaries", 0, 2 ** 32 - 1, 0, 0],
    ];
    for (const [title, availability, ttft, samples, discount] of cases) {
      it(title, async () => {
        expect(await library.discountOf(LEVELS, availability, ttft, samples)).to.equal(discount);
      });
    }

    it("is as the plan says for any levels and any measurement", async () => {
      await fc.assert(
        fc.asyncProperty(anyLevels, bps, ms, fc.integer({ min: 0, max: 60 }), async (levels, availability, ttft, n) => {
          expect(await library.discountOf(levels, availability, ttft, n)).to.equal(
            discountOf(levels, availability, ttft, n),
          );
        }),
      );
    });

    it("is never above largestDiscount for levels that are in order", async () => {
      const ordered = anyLevels.map((levels) => ({
        ...levels,
        severeAvailabilityDiscountBps: Math.max(levels.availabilityDiscountBps, levels.severeAvailabilityDiscountBps),
        severeTtftDiscountBps: Math.max(levels.ttftDiscountBps, levels.severeTtftDiscountBps),
      }));
      await fc.assert(
        fc.asyncProperty(ordered, bps, ms, async (levels, availability, ttft) => {
          const discount = await library.discountOf(levels, availability, ttft, 20);
          expect(discount <= (await library.largestDiscount(levels))).to.equal(true);
        }),
      );
    });
  });

  describe("areMet", () => {
    const free: Levels = { ...LEVELS, severeAvailabilityDiscountBps: 0, severeTtftDiscountBps: 0 };
    const cases: [string, Levels, number, number, boolean][] = [
      ["is true for 20 canaries that earned no discount", LEVELS, 0, 20, true],
      ["is false for too few canaries", LEVELS, 0, 19, false],
      ["is false where a discount was earned", LEVELS, 1, 20, false],
      ["is false for levels that cost nothing to miss", free, 0, 20, false],
      ["is true for levels of availability alone", { ...LEVELS, severeTtftDiscountBps: 0 }, 0, 20, true],
      ["is true for levels of time alone", { ...LEVELS, severeAvailabilityDiscountBps: 0 }, 0, 20, true],
    ];
    for (const [title, levels, discountBps, samples, expected] of cases) {
      it(title, async () => {
        expect(await library.areMet(levels, discountBps, samples)).to.equal(expected);
      });
    }
  });

  describe("largestDiscount", () => {
    it("is the dearer of the two severe tiers", async () => {
      expect(await library.largestDiscount(LEVELS)).to.equal(3_000);
      expect(await library.largestDiscount({ ...LEVELS, severeTtftDiscountBps: 3_001 })).to.equal(3_001);
    });
  });

  describe("areOrdered", () => {
    it("is true for levels whose severe tiers are further out and dearer, or the same", async () => {
      expect(await library.areOrdered(LEVELS)).to.equal(true);
      expect(
        await library.areOrdered({
          availabilityFloorBps: 10_000,
          availabilityDiscountBps: 7,
          severeAvailabilityFloorBps: 10_000,
          severeAvailabilityDiscountBps: 7,
          ttftCeilingMs: 7,
          ttftDiscountBps: 7,
          severeTtftCeilingMs: 7,
          severeTtftDiscountBps: 7,
        }),
      ).to.equal(true);
    });

    const wrong: Partial<Levels>[] = [
      { availabilityFloorBps: 10_001 },
      { severeAvailabilityFloorBps: 9_901 },
      { severeAvailabilityDiscountBps: 999 },
      { severeTtftCeilingMs: 799 },
      { severeTtftDiscountBps: 999 },
    ];
    for (const changes of wrong) {
      it(`is false for ${JSON.stringify(changes)}`, async () => {
        expect(await library.areOrdered({ ...LEVELS, ...changes })).to.equal(false);
      });
    }
  });
});
