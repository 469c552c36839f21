import { expect } from "chai";
import { OPEN } from "../../deploy/roles";
import { measureEntryPoints, type EntryPoints } from "../support/entryPoints";
import { underCoverage } from "../support/market";
import committed from "./entryPoints.json";

describe("Gas of entry points", function () {
  let measured: EntryPoints;

  before(async function () {
    // Instrumented code costs more.
    if (underCoverage) this.skip();
    measured = await measureEntryPoints();
  });

  it("is measured of every contract that deals in money or rights", () => {
    expect(Object.keys(measured)).to.have.members(Object.keys(OPEN));
  });

  for (const contract of Object.keys(OPEN)) {
    it(`is what the committed snapshot says of every function of ${contract} (\`npm run snapshots\` makes a new one)`, () => {
      expect(measured[contract]).to.deep.equal((committed as EntryPoints)[contract]);
    });
  }
});
