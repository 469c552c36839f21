import { expect } from "chai";
import { isEquivalent, mutantsOf, mutate, shuffled } from "./mutants";

const SOURCE = `import {A} from "a + b";
contract C {
    /// Not a line of code: a >= b.
    function f(uint256 a, uint256 b) external restricted returns (uint256) {
        require(a >= b, TooSmall(a, b)); // a == b is fine
        total += a;
        return a - b;
    }
}`;

const mutants = mutantsOf("C.sol", SOURCE);

describe("mutants", () => {
  it("are slips of one line of code each, by every mutation that fits it", () => {
    expect(mutants.map(({ line, after }) => [line, after.trim()])).to.deep.equal([
      [4, "function f(uint256 a, uint256 b) external returns (uint256) {"],
      [5, "require(a > b, TooSmall(a, b)); // a == b is fine"],
      [6, "total -= a;"],
      [6, "{}"],
      [7, "return a + b;"],
    ]);
  });

  it("leave all other lines as they are", () => {
    const mutated = mutate(SOURCE, mutants[2]).split("\n");
    expect(mutated.filter((line, index) => line !== SOURCE.split("\n")[index])).to.deep.equal(["        total -= a;"]);
  });

  it("belong to the source that they were made of", () => {
    expect(() => mutate(SOURCE.replace("total", "sum"), mutants[2])).to.throw(`Line 6 isn't "        total += a;"`);
  });

  it("come in an order that only the seed decides, none left out", () => {
    expect(shuffled(mutants, 7)).to.deep.equal(shuffled(mutants, 7));
    expect(shuffled(mutants, 7)).not.to.deep.equal(shuffled(mutants, 8));
    expect(shuffled(mutants, 7)).to.have.deep.members(mutants);
  });

  it("are set aside if they are known to be equivalent, wherever their line has gone", () => {
    const [{ file, before, after }] = mutants;
    const known = [{ file, before: before.trim(), after: after.trim(), reason: "nobody calls it" }];
    expect(mutants.filter((mutant) => isEquivalent({ ...mutant, line: mutant.line + 9 }, known))).to.have.length(1);
  });
});
