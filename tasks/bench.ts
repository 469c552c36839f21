import { writeFileSync } from "node:fs";
import { task, types } from "hardhat/config";
import type { EntryPoints } from "../test/support/entryPoints";
import type { Measurement } from "../test/support/gas";
import type { GasAccount } from "../test/support/gasAccount";
import type { Peer } from "../test/support/peers";
import { addExample } from "./support";

interface BenchArguments {
  json?: string;
  entryPoints?: string;
  explain?: number;
}

task("bench:gas", "Measures what the contracts cost, beside a floor without rules and beside others")
  .addOptionalParam("json", "Also write the figures to this file")
  .addOptionalParam("entryPoints", "Also write what every function of the money contracts takes to this file")
  .addOptionalParam("explain", "Also say where the gas goes of settlements of so many licenses", undefined, types.int)
  .setAction(async ({ json, entryPoints: entryPointsFile, explain }: BenchArguments) => {
    /* eslint-disable @typescript-eslint/no-require-imports --
       They need a running Hardhat, as tests do, so they can't be loaded together with the configuration. */
    const gas = require("../test/support/gas") as typeof import("../test/support/gas");
    const { measureEntryPoints } =
      require("../test/support/entryPoints") as typeof import("../test/support/entryPoints");
    const { gasAccountOf } = require("../test/support/gasAccount") as typeof import("../test/support/gasAccount");
    const { PEERS } = require("../test/support/peers") as typeof import("../test/support/peers");
    /* eslint-enable @typescript-eslint/no-require-imports */
    const accounts: { name: string; size: number; account: GasAccount }[] = [];
    const measured = await gas.measureGas(gas.ALL_SIZES, async (name, size, hash) => {
      if (size === explain) accounts.push({ name, size, account: await gasAccountOf(hash) });
    });
    console.log(tableOfFigures(measured, PEERS, gas));
    if (accounts.length > 0) console.log(`\n${tableOfAccounts(accounts)}`);
    console.log(`\n${tableOfPeers(measured, PEERS)}`);
    const entryPoints = await measureEntryPoints();
    console.log(`\n${tableOfEntryPoints(entryPoints)}`);
    if (json !== undefined) writeFileSync(json, toJson(measured));
    if (entryPointsFile !== undefined) writeFileSync(entryPointsFile, toJson(entryPoints));
    return measured;
  });

type Gas = Pick<typeof import("../test/support/gas"), "GAS_LIMITS" | "RECEIPTS_A_LICENSE">;

const toJson = (value: object): string => `${JSON.stringify(value, null, 2)}\n`;

/** Every figure: of a settlement a license, and a receipt; beside the floor, a transfer of the currency, and the best peer. */
function tableOfFigures(measured: Measurement[], peers: Peer[], gas: Gas): string {
  const transfer = measured.find(({ name }) => name === "erc20.transfer")!.value;
  const rows = measured.map(({ name, value, unit, floor, ratio }) => {
    const limit = gas.GAS_LIMITS[name];
    const [peer] = peers.filter(({ beside }) => beside.includes(name)).sort((a, b) => a.gas - b.gas);
    return [
      name,
      String(value),
      unit === "gas/license" ? (value / gas.RECEIPTS_A_LICENSE).toFixed(2) : "",
      limit === undefined ? "" : `${value > limit ? "ABOVE" : "≤"} ${limit}`,
      String(floor),
      ratio.toFixed(2),
      (value / transfer).toFixed(2),
      ...(peer === undefined ? ["", ""] : [String(peer.gas), (peer.gas / value).toFixed(2)]),
    ];
  });
  return aligned([
    ["figure", "gas", "a receipt", "goal", "floor", "/ floor", "/ transfer", "best peer", "/ ours"],
    ...rows,
  ]);
}

/** Gas a license, by kinds of work. */
function tableOfAccounts(accounts: { name: string; size: number; account: GasAccount }[]): string {
  const kinds = Object.keys(accounts[0].account) as (keyof GasAccount)[];
  return aligned([
    ["gas a license", ...accounts.map(({ name }) => name)],
    ...kinds.map((kind) => [kind, ...accounts.map(({ account, size }) => (account[kind] / size).toFixed(1))]),
  ]);
}

function tableOfPeers(measured: Measurement[], peers: Peer[]): string {
  const rows = peers.flatMap(({ system, gas, beside }) =>
    measured
      .filter(({ name }) => beside.includes(name))
      .map(({ name, value }) => [system, String(gas), name, (gas / value).toFixed(2)]),
  );
  return aligned([["peer", "gas", "beside", "/ ours"], ...rows]);
}

const tableOfEntryPoints = (entryPoints: EntryPoints): string =>
  aligned([
    ["entry point", "gas"],
    ...Object.entries(entryPoints).flatMap(([contract, functions]) =>
      Object.entries(functions).map(([name, gas]) => [`${contract}.${name}`, String(gas)]),
    ),
  ]);

/** The first column to the left, the others to the right. */
function aligned(rows: string[][]): string {
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)));
  return rows
    .map(([first, ...cells]) => {
      const rest = cells.map((cell, i) => cell.padStart(widths[i + 1]));
      return [first.padEnd(widths[0]), ...rest].join("  ").trimEnd();
    })
    .join("\n");
}

addExample("bench:gas");
