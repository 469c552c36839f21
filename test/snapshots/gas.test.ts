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
    expect(measured).to.deep.equal(committed);
  });

  for (const [name, limit] of Object.entries(GAS_LIMITS)) {
    it(`is at most ${limit} for ${name}`, () => {
      expect(measured.find((row) => row.name === name)!.value).to.be.at.most(limit);
    });
  }
});
