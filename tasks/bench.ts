import { writeFileSync } from "node:fs";
import { task } from "hardhat/config";
import type { Measurement } from "../test/support/gas";
import { addExample } from "./support";

task("bench:gas", "Measures what the contracts cost, beside a floor without rules")
  .addOptionalParam("json", "Also write the records to this file")
  .setAction(async ({ json }: { json?: string }) => {
    // It needs a running Hardhat, as tests do, so it can't be loaded together with the configuration.
    // eslint-disable-next-line @typescript-eslint/no-require-imports
    const { GAS_LIMITS, measureGas } = require("../test/support/gas") as typeof import("../test/support/gas");
    const measured = await measureGas();
    console.log(tableOf(measured, GAS_LIMITS));
    if (json !== undefined) writeFileSync(json, `${JSON.stringify(measured, null, 2)}\n`);
    return measured;
  });

function tableOf(measured: Measurement[], limits: Record<string, number>): string {
  const rows = [["figure", "gas", "floor", "ratio", "limit"], ...measured.map((row) => cellsOf(row, limits))];
  return rows
    .map(([name, ...numbers]) => name.padEnd(24) + numbers.map((cell) => cell.padStart(10)).join(""))
    .join("\n");
}

const cellsOf = ({ name, value, floor, ratio }: Measurement, limits: Record<string, number>): string[] => [
  name,
  String(value),
  String(floor),
  ratio.toFixed(2),
  limits[name] === undefined ? "" : `≤ ${limits[name]}`,
];

addExample("bench:gas");
