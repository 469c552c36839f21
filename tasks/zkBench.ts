import { writeFileSync } from "node:fs";
import { task } from "hardhat/config";
import type { ZkFigure } from "../test/support/zkBench";
import { addExample } from "./support";

interface ZkBenchArguments {
  json?: string;
  quick?: boolean;
}

task("bench:zk", "Measures what proofs of inference cost, for three sizes of networks")
  .addOptionalParam("json", "Also write the figures to this file")
  .addFlag("quick", "Only the smallest, and once")
  .setAction(async ({ json, quick }: ZkBenchArguments) => {
    // eslint-disable-next-line @typescript-eslint/no-require-imports -- it needs a running Hardhat, as tests do
    const { CASES, measureProofs } = require("../test/support/zkBench") as typeof import("../test/support/zkBench");
    const names = quick ? Object.keys(CASES).slice(0, 1) : Object.keys(CASES);
    const figures: ZkFigure[] = [];
    for (const name of names) {
      figures.push(...(await measureProofs(name, quick ? 1 : 3, (step) => console.error(`${name}: ${step} …`))));
      if (json !== undefined) writeFileSync(json, `${JSON.stringify(figures, null, 2)}\n`);
    }
    console.log(tableOf(figures));
    return figures;
  });

function tableOf(figures: ZkFigure[]): string {
  const rows = figures.map(({ name, value, unit, goal, probe }) => {
    const reached = goal === null ? "" : value <= goal.atMost ? "yes" : "NO";
    return [name, String(value), unit, goal === null ? "" : `≤ ${goal.atMost}`, reached, String(probe ?? "")];
  });
  const all = [["figure", "value", "unit", "goal", "reached", "probe"], ...rows];
  const widths = all[0].map((_, column) => Math.max(...all.map((row) => row[column].length)));
  return all.map((row) => row.map((cell, i) => cell.padEnd(widths[i])).join("  ").trimEnd()).join("\n"); // prettier-ignore
}

addExample("bench:zk", "--quick --json zk.json");
