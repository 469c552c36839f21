import { expect } from "chai";
import fc from "../support/fastCheck";
import { measure, medianOf, p95 } from "../../oracle/attestor/measure";
import type { CanarySample } from "../../oracle/store/canaryBooks";

const LANE = { operatorId: 7, planId: 3, versionId: (5n << 32n) | 1n };
const EPOCH = { epochStart: 1_000, epochEnd: 2_000 };
/** Of the epoch's length, so that nothing before it counts. */
const LONGEST = 1_000;

const answered = (at: number, ttftMs: number): CanarySample => ({ at, ok: true, ttftMs });
const unanswered = (at: number): CanarySample => ({ at, ok: false, ttftMs: 0 });
const level = (availabilityBps: number, p95TtftMs: number, samples: number) => ({
  availabilityBps,
  p95TtftMs,
  samples,
});

describe("measure", () => {
  describe("p95", () => {
    it("is 0 of nothing", () => {
      expect(p95([])).to.equal(0);
    });

    it("is the largest of up to 19 values", () => {
      expect(p95([5])).to.equal(5);
      expect(p95(Array.from({ length: 19 }, (_, i) => i + 1))).to.equal(19);
    });

    it("leaves one value of 20 out", () => {
      expect(p95(Array.from({ length: 20 }, (_, i) => 20 - i))).to.equal(19);
    });

    it("is 95 of 1 to 100", () => {
      expect(p95(Array.from({ length: 100 }, (_, i) => 100 - i))).to.equal(95);
    });

    it("compares numbers, not their digits", () => {
      expect(p95([9, 10, 100])).to.equal(100);
    });

    it("is the smallest value that 95 % of all don't exceed", () => {
      fc.assert(
        fc.property(fc.array(fc.nat(10_000), { minLength: 1, maxLength: 300 }), (values) => {
          const covers = (limit: number) => values.filter((value) => value <= limit).length * 100 >= values.length * 95;
          expect(p95(values)).to.equal(Math.min(...values.filter(covers)));
        }),
      );
    });
  });

  describe("measure", () => {
    it("states lane and epoch", () => {
      expect(measure(LANE, EPOCH, [], LONGEST)).to.deep.equal({ ...LANE, ...EPOCH, ...level(0, 0, 0) });
    });

    it("rounds availability down", () => {
      const samples = [answered(1_000, 40), answered(1_500, 50), unanswered(1_600)];
      expect(measure(LANE, EPOCH, samples, LONGEST)).to.include(level(6_666, 50, 3));
    });

    it("counts the epoch's first second and not the one after its last", () => {
      const samples = [answered(999, 1), answered(1_000, 2), answered(1_999, 3), answered(2_000, 4)];
      expect(measure(LANE, EPOCH, samples, LONGEST)).to.include(level(10_000, 3, 2));
    });

    it("leaves the time to first token of failed canaries out", () => {
      const samples = [answered(1_100, 80), { ...unanswered(1_200), ttftMs: 9_999 }];
      expect(measure(LANE, EPOCH, samples, LONGEST)).to.include(level(5_000, 80, 2));
    });

    it("is wholly unavailable when every canary failed", () => {
      expect(measure(LANE, EPOCH, [unanswered(1_100), unanswered(1_200)], LONGEST)).to.include(level(0, 0, 2));
    });
  });

  describe("measure of a short epoch", () => {
    const longest = 3_000;
    const short = { epochStart: 5_000, epochEnd: 5_010 };
    const before = Array.from({ length: 30 }, (_, i) => answered(2_009 + i * 90, 100 + i));

    it("counts as many of the latest samples before it as make it 20", () => {
      const samples = [...before, unanswered(5_001), unanswered(5_009), answered(5_010, 1)];
      expect(measure(LANE, short, samples, longest)).to.deep.equal({ ...LANE, ...short, ...level(9_000, 129, 20) });
    });

    it("counts none that is older than the longest epoch", () => {
      const samples = [answered(2_009, 900), answered(2_010, 70), unanswered(5_000)];
      expect(measure(LANE, short, samples, longest)).to.include(level(5_000, 70, 2));
    });

    it("counts only the epoch's own when these are 20", () => {
      const own = Array.from({ length: 20 }, () => unanswered(5_005));
      expect(measure(LANE, short, [...before, ...own], longest)).to.include(level(0, 0, 20));
      expect(measure(LANE, short, [...before, ...own.slice(1)], longest)).to.include(level(500, 129, 20));
    });
  });

  describe("medianOf", () => {
    it("refuses no measurements", () => {
      expect(() => medianOf([])).to.throw(RangeError);
    });

    it("takes the middle of each field by itself", () => {
      expect(medianOf([level(9_000, 300, 30), level(10_000, 100, 20), level(8_000, 200, 40)])).to.deep.equal(
        level(9_000, 200, 30),
      );
    });

    it("takes the middle one less favourable to the operator of an even number", () => {
      expect(medianOf([level(9_000, 300, 30), level(10_000, 100, 20)])).to.deep.equal(level(9_000, 300, 20));
    });

    it("stays within what honest members measured, whatever fewer than half of them say", () => {
      const anyLevel = fc.record({
        availabilityBps: fc.integer({ min: 0, max: 10_000 }),
        p95TtftMs: fc.integer({ min: 0, max: 2 ** 32 - 1 }),
        samples: fc.integer({ min: 0, max: 2 ** 32 - 1 }),
      });
      const committees = fc
        .integer({ min: 0, max: 4 })
        .chain((liars) =>
          fc.tuple(
            fc.array(anyLevel, { minLength: liars, maxLength: liars }),
            fc.array(anyLevel, { minLength: liars + 1, maxLength: liars + 5 }),
            fc.nat(),
          ),
        );
      fc.assert(
        fc.property(committees, ([liars, honest, place]) => {
          const said = [...honest];
          said.splice(place % (said.length + 1), 0, ...liars);
          const median = medianOf(said);
          for (const field of ["availabilityBps", "p95TtftMs", "samples"] as const) {
            const truths = honest.map((one) => one[field]);
            expect(median[field], field).to.be.within(Math.min(...truths), Math.max(...truths));
          }
        }),
      );
    });

    it("isn't moved by a minority, however it lies", () => {
      const honest = [level(9_900, 110, 50), level(9_950, 120, 52)];
      expect(medianOf([...honest, level(0, 60_000, 1)]).availabilityBps).to.be.within(9_900, 9_950);
      expect(medianOf([...honest, level(0, 60_000, 1)]).p95TtftMs).to.be.within(110, 120);
    });
  });
});
