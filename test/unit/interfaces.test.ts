import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { expect } from "chai";
import { Interface, type Fragment, type InterfaceAbi } from "ethers";
import hre from "hardhat";

const FOLDERS = ["unit", "integration", "deploy"];

/** The text of all tests of the contracts, but this one. */
const TESTS = FOLDERS.map((folder) => path.join(hre.config.paths.tests, folder))
  .flatMap((folder) => readdirSync(folder).map((file) => path.join(folder, file)))
  .filter((file) => file.endsWith(".test.ts") && file !== __filename)
  .map((file) => readFileSync(file, "utf8"))
  .join("\n");

/** By which names tests call the contracts. */
const CALLED: Record<string, string> = {
  IArbitrator: "arbitrator",
  IAssetRegistry: "assets",
  ICommitteeAttestor: "committee",
  IDisputeCourt: "court",
  ILicenseRegistry: "licenses",
  IOperatorRegistry: "operators",
  IPerformanceStaking: "staking",
  IReportCourt: "reports",
  IRevenueWaterfall: "waterfall",
  IUsageEscrow: "escrow",
  TestCurrency: "currency",
};
const INTERFACES = readdirSync(path.join(hre.config.paths.sources, "interfaces"))
  .map((file) => path.basename(file, ".sol"))
  .concat("TestCurrency");

/** An error or an event of an interface's own. */
interface Named {
  name: string;
  hasArguments: boolean;
  /** Whether another interface has one of that name: then a test says whose it means. */
  isShared: boolean;
}

/** Those that no test asserts, or none with the arguments that they have. */
const unasserted = (all: Named[], called: string, tests: string) =>
  all.filter((named) => !patternOf(named, called).test(tests)).map(({ name }) => name);

/** `"Name").withArgs(`, or a row of a table: `"Name", [`. */
function patternOf({ name, hasArguments, isShared }: Named, called: string): RegExp {
  const whose = isShared ? String.raw`\b${called}, ` : "";
  return new RegExp(whose + (hasArguments ? String.raw`"${name}"(\)\s*\.withArgs\(|,\s*\[)` : `"${name}"`));
}

describe("interfaces", () => {
  for (const name of INTERFACES) {
    it(`${name}: each error and each event is asserted in some test, with its arguments`, async () => {
      expect(unasserted(await namesOf(name), CALLED[name], TESTS)).to.deep.equal([]);
    });
  }

  it("would miss one that isn't mentioned, one that is without its arguments, and one that is another contract's", () => {
    const tests = `revertedWithCustomError(escrow, "One")
      .withArgs(1); revertedWithCustomError(escrow, "Two"); ["Three", [1]]; emit(staking, "Four").withArgs(4); "Five"`;
    const all = ["One", "Two", "Three", "Four", "Five", "Six"].map((name) => ({
      name,
      hasArguments: name !== "Five" && name !== "Six",
      isShared: name === "One" || name === "Four",
    }));
    expect(unasserted(all, "escrow", tests)).to.deep.equal(["Two", "Four", "Six"]);
  });
});

/** The errors and events that an interface doesn't inherit. */
async function namesOf(interfaceName: string): Promise<Named[]> {
  const inherited = (await fragmentsOf(interfaceName === "TestCurrency" ? "ERC20Permit" : "IERC721")).map(nameOf);
  const others = await Promise.all(INTERFACES.filter((other) => other !== interfaceName).map(fragmentsOf));
  const elsewhere = new Set(others.flat().map(nameOf));
  return (await fragmentsOf(interfaceName))
    .map((fragment) => ({
      name: nameOf(fragment),
      hasArguments: fragment.inputs.length > 0,
      isShared: elsewhere.has(nameOf(fragment)),
    }))
    .filter(({ name }) => !inherited.includes(name));
}

const nameOf = (fragment: Fragment) => (fragment as Fragment & { name: string }).name;

async function fragmentsOf(contract: string): Promise<readonly Fragment[]> {
  const { fragments } = new Interface((await hre.artifacts.readArtifact(contract)).abi as InterfaceAbi);
  return fragments.filter(({ type }) => type === "error" || type === "event");
}
