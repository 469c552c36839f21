/** The invariant campaign, as `test/invariant/README.md` tells of it: what it names is there, and nothing is left out. */
import { expect } from "chai";
import { spawnSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";

const CAMPAIGN = "test/invariant";
const INVARIANTS = 11;
const SUITES = ["test/deploy", "test/oracle", "test/unit"];

interface Attack {
  name: string;
  /** By their titles, which stand in the file or in a table there. */
  unit: { file: string; title: string }[];
  /** Of forge, by their functions. */
  forge: string[];
  /** What does the same in the campaign. */
  handlers: string[];
}

const matches = (text: string, pattern: RegExp) => [...text.matchAll(pattern)].map(([, found]) => found);

const cells = (row: string) =>
  row
    .split("|")
    .slice(1, -1)
    .map((cell) => cell.trim());

function attackOf(row: string): Attack {
  const [name, tests, handlers] = cells(row);
  const unit = tests.split("; ").flatMap((part) => {
    const file = /^`([\w.]+\.test\.ts)`: /.exec(part)?.[1];
    return file === undefined ? [] : matches(part, /"([^"]+)"/g).map((title) => ({ file, title }));
  });
  return { name, unit, forge: matches(tests, /`(test_\w+)`/g), handlers: matches(handlers, /`(\w+)`/g) };
}

describe("the invariant campaign", () => {
  const readme = readFileSync(path.join(CAMPAIGN, "README.md"), "utf8");
  const files = readdirSync(CAMPAIGN).filter((file) => file.endsWith(".sol"));
  const sources = new Map(files.map((file) => [file, readFileSync(path.join(CAMPAIGN, file), "utf8")]));
  const all = [...sources.values()].join("\n");
  const handlers = matches(all, /function (\w+)\(uint256 seed\) external att(?:empt|ack)\(seed\)/g);
  const called = matches(sources.get("Money.t.sol")!, /\w+\.(\w+)\.selector/g);

  it("fails the command that runs it, where it fails", () => {
    const { scripts } = JSON.parse(readFileSync("package.json", "utf8")) as { scripts: Record<string, string> };
    for (const name of ["test", "campaign"]) expect(scripts[name]).to.include("node test/support/forge test");
    expect(spawnSync(process.execPath, ["test/support/forge", "test", "--no-such-option"]).status).to.equal(2);
  });

  describe("calls", () => {
    it("every handler that there is", () => {
      expect(handlers).to.have.length.above(90);
      expect(handlers.filter((handler) => !called.includes(handler))).to.deep.equal([]);
    });
  });

  describe("checks", () => {
    const quoted = matches(all, /"(\d+): /g).map(Number);

    for (let number = 1; number <= INVARIANTS; number++) {
      it(`invariant ${number}, and quotes its number`, () => {
        expect(readme).to.match(new RegExp(`^${number}\\. \\*\\*\\w.*\\.\\*\\*`, "m"));
        expect(quoted).to.include(number);
        expect(sources.get("Bites.t.sol")).to.include(`function test_Invariant${number}IsChecked()`);
      });
    }

    it("no other", () => expect(quoted.filter((number) => number > INVARIANTS)).to.deep.equal([]));
  });

  describe("has a test for each attack on the design", () => {
    const rows = readme.slice(readme.indexOf("| attack |")).split("\n\n")[0].split("\n").slice(2);
    const attacks = rows.map(attackOf);
    const units = new Map(
      SUITES.flatMap((folder) =>
        readdirSync(folder).map((file) => [file, readFileSync(path.join(folder, file), "utf8")] as const),
      ),
    );
    const hasTest = ({ file, title }: Attack["unit"][number]) =>
      ["describe(", "it(", "["].some((start) => units.get(file)?.includes(`${start}"${title}"`));

    it("as its table says", () => expect(attacks).to.have.length.above(20));

    for (const { name, unit, forge, handlers: doing } of attacks) {
      it(name, () => {
        expect(unit.length + forge.length).to.be.above(0);
        expect(unit.filter((test) => !hasTest(test))).to.deep.equal([]);
        expect(forge.filter((test) => !all.includes(`function ${test}(`))).to.deep.equal([]);
        expect(doing.filter((handler) => !called.includes(handler))).to.deep.equal([]);
      });
    }
  });

  describe("is told of in a table of its files", () => {
    const named = matches(readme.slice(readme.indexOf("| file |")).split("\n\n")[0], /`(\w+(?:\.t)?\.sol)`/g);

    it("with all of them", () =>
      expect([...new Set(named)].sort()).to.deep.equal([...files].filter((file) => file !== "Vm.sol").sort()));
  });
});
