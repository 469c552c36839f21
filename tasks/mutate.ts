import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { task, types } from "hardhat/config";
import type { HardhatRuntimeEnvironment } from "hardhat/types";
import { MutationBench, type Verdict } from "../test/mutation/bench";
import { isEquivalent, mutantsOf, shuffled, type Equivalent, type Mutant } from "../test/mutation/mutants";
import { addExample } from "./support";

/** The contracts that hold money. All libraries are parts of them. */
const MONEY = ["UsageEscrow", "PerformanceStaking", "RevenueWaterfall", "CommitteeAttestor", "types/Account"];

interface MutateArguments {
  mutants: number;
  seed: number;
  json?: string;
}

task("mutate", "Breaks the money contracts one line at a time, and counts how often the tests notice")
  .addOptionalParam("mutants", "How many mutants to try", 72, types.int)
  .addOptionalParam("seed", "Which mutants: others for another number", 1, types.int)
  .addOptionalParam("json", "Also write the records to this file", undefined, types.string)
  .setAction(runMutants);
addExample("mutate", "--mutants 5 --json mutants.json");

/** @returns the records `mutants` (that were tried and aren't equivalent to the contract) and `killed` */
async function runMutants({ mutants, seed, json }: MutateArguments, hre: HardhatRuntimeEnvironment) {
  await hre.run("compile", { quiet: true });
  const bench = new MutationBench(hre);
  try {
    const failure = await bench.failureUnmutated();
    if (failure !== undefined) throw new Error(`The contracts as they are fail already: ${failure}`);
    const verdicts: Verdict[] = [];
    for (const mutant of candidatesIn(hre.config.paths.root, seed)) {
      if (verdicts.length === mutants) break;
      const verdict = await bench.judge(mutant);
      console.log(describe(mutant, verdict));
      if (verdict.kind !== "void") verdicts.push(verdict);
    }
    const killed = verdicts.filter(({ kind }) => kind === "killed").length;
    const records = [
      { name: "mutants", value: verdicts.length, unit: "mutants" },
      { name: "killed", value: killed, unit: "mutants" },
    ];
    console.log(`${killed} of ${verdicts.length} mutants killed (${((100 * killed) / verdicts.length).toFixed(1)} %)`);
    if (json !== undefined) writeFileSync(json, `${JSON.stringify(records, null, 2)}\n`);
    return records;
  } finally {
    bench.close();
  }
}

/** All mutants that aren't known to be equivalent, in the seed's order. */
function candidatesIn(root: string, seed: number): Mutant[] {
  const known = JSON.parse(readFileSync(path.join(root, "test/mutation/equivalent.json"), "utf8")) as Equivalent[];
  const libraries = readdirSync(path.join(root, "contracts/libraries")).map((name) => `contracts/libraries/${name}`);
  const all = [...MONEY.map((name) => `contracts/${name}.sol`), ...libraries].flatMap((file) =>
    mutantsOf(file, readFileSync(path.join(root, file), "utf8")),
  );
  return shuffled(
    all.filter((mutant) => !isEquivalent(mutant, known)),
    seed,
  );
}

function describe({ file, line, before, after }: Mutant, verdict: Verdict): string {
  const outcome = { killed: "killed  ", survived: "SURVIVED", void: "void    " }[verdict.kind];
  const detail = verdict.kind === "killed" ? verdict.by : verdict.kind === "void" ? verdict.why : "";
  return `${outcome} ${file}:${line}\n  - ${before.trim()}\n  + ${after.trim()}\n  ${detail}`;
}
