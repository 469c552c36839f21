import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { expect } from "chai";
import { Interface, type InterfaceAbi } from "ethers";
import hre from "hardhat";

const FOLDERS = ["unit", "integration", "deploy"];

/** The text of all tests of the contracts, but this one. */
const TESTS = FOLDERS.map((folder) => path.join(hre.config.paths.tests, folder))
  .flatMap((folder) => readdirSync(folder).map((file) => path.join(folder, file)))
  .filter((file) => file.endsWith(".test.ts") && file !== __filename)
  .map((file) => readFileSync(file, "utf8"))
  .join("\n");

const unmentioned = (names: string[], text: string) => names.filter((name) => !text.includes(`"${name}"`));

describe("interfaces", () => {
  const interfaces = readdirSync(path.join(hre.config.paths.sources, "interfaces")).map((file) =>
    path.basename(file, ".sol"),
  );

  for (const name of [...interfaces, "TestCurrency"]) {
    it(`${name}: each error and each event is in some test`, async () => {
      const abi = new Interface((await hre.artifacts.readArtifact(name)).abi as InterfaceAbi);
      const inherited = name === "TestCurrency" ? await namesOf("ERC20Permit") : await namesOf("IERC721");
      const own = [...errorsOf(abi), ...eventsOf(abi)].filter((own) => !inherited.includes(own));
      expect(unmentioned(own, TESTS)).to.deep.equal([]);
    });
  }

  it("would miss one that isn't", () => {
    expect(unmentioned(["AmountZero", "AmountTwo"], TESTS)).to.deep.equal(["AmountTwo"]);
  });
});

async function namesOf(contract: string): Promise<string[]> {
  const abi = new Interface((await hre.artifacts.readArtifact(contract)).abi as InterfaceAbi);
  return [...errorsOf(abi), ...eventsOf(abi)];
}

function errorsOf(abi: Interface): string[] {
  const names: string[] = [];
  abi.forEachError(({ name }) => names.push(name));
  return names;
}

function eventsOf(abi: Interface): string[] {
  const names: string[] = [];
  abi.forEachEvent(({ name }) => names.push(name));
  return names;
}
