import { writeFileSync } from "node:fs";
import { task } from "hardhat/config";
import type { Figure } from "../test/support/oracleBench/records";
import { addExample } from "./support";

interface OracleBenchArguments {
  json?: string;
  quick?: boolean;
}

/** How much is measured. The quick form only shows that it runs. */
const WHOLE = { verified: 20_000, ingested: 40_000, requests: 200, sizes: [10_000, 100_000, 1_000_000], runs: 5 };
const QUICK = { verified: 400, ingested: 800, requests: 10, sizes: [400, 800], runs: 1 };

task("bench:oracle", "Measures how fast the oracle verifies, takes in, serves and settles, beside what limits it")
  .addOptionalParam("json", "Also write the figures to this file")
  .addFlag("quick", "Measure little, to see that it runs")
  .setAction(async ({ json, quick }: OracleBenchArguments) => {
    /* eslint-disable @typescript-eslint/no-require-imports --
       They need tests' libraries, so they aren't loaded together with the configuration. */
    const { Threads } = require("../test/support/oracleBench/threads") as typeof import("../test/support/oracleBench/threads"); // prettier-ignore
    const { measureVerification, measureIngest } = require("../test/support/oracleBench/verification") as typeof import("../test/support/oracleBench/verification"); // prettier-ignore
    const { measureGateway } = require("../test/support/oracleBench/gatewayCost") as typeof import("../test/support/oracleBench/gatewayCost"); // prettier-ignore
    const { measureBatches } = require("../test/support/oracleBench/batching") as typeof import("../test/support/oracleBench/batching"); // prettier-ignore
    const { isReached } = require("../test/support/oracleBench/records") as typeof import("../test/support/oracleBench/records"); // prettier-ignore
    /* eslint-enable @typescript-eslint/no-require-imports */
    const { verified, ingested, requests, sizes, runs } = quick ? QUICK : WHOLE;
    const threads = new Threads();
    try {
      const figures = [
        ...(await measureVerification(threads, verified, runs)),
        ...(await measureIngest(threads, ingested, Math.min(runs, 3))),
        ...(await measureGateway(requests, runs)),
        ...(await measureBatches(threads, sizes)),
      ];
      console.log(tableOf(figures, isReached));
      if (json !== undefined) writeFileSync(json, `${JSON.stringify(figures, null, 2)}\n`);
      return figures;
    } finally {
      await threads.close();
    }
  });

function tableOf(figures: Figure[], isReached: (figure: Figure) => boolean | null): string {
  const rows = figures.map((figure) => {
    const { name, value, unit, goal, samples } = figure;
    const wanted = goal === null ? "" : "atLeast" in goal ? `≥ ${goal.atLeast}` : `≤ ${goal.atMost}`;
    const reached = { true: "yes", false: "NO", null: "" }[String(isReached(figure)) as "true" | "false" | "null"];
    const range = samples.length > 1 ? `${Math.min(...samples)} to ${Math.max(...samples)}` : "";
    return [name, String(value), unit, wanted, reached, range];
  });
  const all = [["figure", "value", "unit", "goal", "reached", "runs"], ...rows];
  const widths = all[0].map((_, column) => Math.max(...all.map((row) => row[column].length)));
  return all.map((row) => row.map((cell, i) => cell.padEnd(widths[i])).join("  ").trimEnd()).join("\n"); // prettier-ignore
}

addExample("bench:oracle");
