import { expect } from "chai";
import { GAS_LIMITS, measureGas, type Measurement } from "../support/gas";
import { underCoverage } from "../support/market";
import committed from "./gas.json";

describe("Gas", function () {
  let measured: Measurement[];

  before(async function () {
    // Instrumented code costs more.
    if (underCoverage) this.skip();
    measured = await measureGas();
  });

  it("is what the committed snapshot says (`npm run snapshots` makes a new one)", () => {
    // What takes minutes is measured by the benchmark alone.
    const names = new Set(measured.map(({ name }) => name));
    expect(measured).to.deep.equal(committed.filter(({ name }) => names.has(name)));
  });

  for (const [name, limit] of Object.entries(GAS_LIMITS)) {
    it(`is at most ${limit} for ${name}`, () => {
      expect(measured.find((row) => row.name === name)!.value).to.be.at.most(limit);
    });
  }
});
