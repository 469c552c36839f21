/**
 * What proofs of an architecture are made with: the circuit, its verification key, and the verifier's source. They take
 * time to make, so they are kept; before they are used they must be what their maker wrote, byte by byte.
 */
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { nameOf, type Architecture } from "./architecture";
import { runBarretenberg } from "./barretenberg";
import { circuitSource, compileCircuit } from "./circuit";
import { DEVELOPMENT_SETUP, loadPowers, setupIdOf } from "./setup/files";
import { G1_BYTES } from "./setup/points";
import { writeVerifier } from "./verifierContract";
import { Problem } from "../oracle/problem";

export interface ProvingKit {
  architecture: Architecture;
  /** Folder of the setup. */
  setup: string;
  setupId: string;
  /** Size of the circuit. */
  gates: number;
  /** Files. */
  circuit: string;
  verificationKey: string;
  verifier: string;
}

export interface KitOptions {
  /** Folder of the setup; the committed one if left out. */
  setup?: string;
  /** Folder in which kits are kept. */
  cache?: string;
  /** Told what is done next. */
  onStep?: (step: string) => void;
}

export const CACHE = path.join(__dirname, "../cache/zk");

const FILES = { circuit: "circuit.json", verificationKey: "vk", verifier: "verifier.sol" } as const;
const INDEX = "index.json";

/** What a kit was made of, and what it is. */
interface Index {
  madeOf: string;
  gates: number;
  files: Record<string, string>;
}

/** The kit of an architecture, made anew if it isn't there, is of something else, or was changed. */
export async function provingKit(architecture: Architecture, options: KitOptions = {}): Promise<ProvingKit> {
  const { setup = DEVELOPMENT_SETUP, cache = CACHE, onStep = () => {} } = options;
  const { powers, powerInG2 } = loadPowers(setup);
  const setupId = setupIdOf(powerInG2);
  const folder = path.join(cache, `${nameOf(architecture)}-${setupId.slice(2, 10)}`);
  const madeOf = sha256(circuitSource(architecture) + setupId + versions());
  const kept = readIndex(folder);
  const index =
    kept !== undefined && kept.madeOf === madeOf && isWhole(folder, kept)
      ? kept
      : await make({ architecture, folder, setup, points: powers.length / G1_BYTES, powerInG2, madeOf, onStep });
  const at = (file: string) => path.join(folder, file);
  const { circuit, verificationKey, verifier } = FILES;
  return {
    ...{ architecture, setup, setupId, gates: index.gates },
    ...{ circuit: at(circuit), verificationKey: at(verificationKey), verifier: at(verifier) },
  };
}

interface Making {
  architecture: Architecture;
  folder: string;
  setup: string;
  points: number;
  powerInG2: Uint8Array;
  madeOf: string;
  onStep: (step: string) => void;
}

async function make({ architecture, folder, setup, points, powerInG2, madeOf, onStep }: Making): Promise<Index> {
  const temporary = `${folder}.${process.pid}`;
  const at = (file: string) => path.join(temporary, file);
  mkdirSync(temporary, { recursive: true });
  try {
    onStep(`compiling the circuit ${nameOf(architecture)}`);
    writeFileSync(at(FILES.circuit), await compileCircuit(architecture));
    const gates = await gatesOf(at(FILES.circuit));
    requirePoints(architecture, gates, points);
    onStep("making its verification key");
    await runBarretenberg(["write_vk", "-c", setup, "-b", at(FILES.circuit), "-o", temporary, "-t", "evm"]);
    onStep("writing its verifier");
    writeFileSync(at(FILES.verifier), await writeVerifier(architecture, at(FILES.verificationKey), powerInG2));
    const files = Object.fromEntries(Object.values(FILES).map((file) => [file, sha256(readFileSync(at(file)))]));
    const index = { madeOf, gates, files };
    writeFileSync(at(INDEX), JSON.stringify(index, null, 2));
    rmSync(folder, { recursive: true, force: true });
    renameSync(temporary, folder);
    return index;
  } finally {
    rmSync(temporary, { recursive: true, force: true });
  }
}

/** How many gates a circuit has. */
export async function gatesOf(circuit: string): Promise<number> {
  const printed = await runBarretenberg(["gates", "-b", circuit, "-t", "evm"]);
  const found = JSON.parse(printed.slice(printed.indexOf("{"))) as { functions: { circuit_size: number }[] };
  return found.functions[0].circuit_size;
}

/** A setup must have a point for each row: the power of two that holds all gates. */
export const pointsFor = (gates: number): number => 2 ** Math.ceil(Math.log2(gates));

function requirePoints(architecture: Architecture, gates: number, points: number): void {
  const needed = pointsFor(gates);
  if (points >= needed) return;
  throw new Problem(
    `${nameOf(architecture)} has ${gates} gates and needs a setup of ${needed} points; this one has ${points}. ` +
      `Make a larger one: npx hardhat zk:setup --points ${needed} --folder FOLDER`,
  );
}

function readIndex(folder: string): Index | undefined {
  const file = path.join(folder, INDEX);
  if (!existsSync(file)) return undefined;
  try {
    return JSON.parse(readFileSync(file, "utf8")) as Index;
  } catch {
    return undefined;
  }
}

function isWhole(folder: string, { files }: Index): boolean {
  return Object.values(FILES).every((file) => {
    const found = path.join(folder, file);
    return existsSync(found) && sha256(readFileSync(found)) === files?.[file];
  });
}

/** Another version of a tool may make something else of the same circuit. */
function versions(): string {
  const root = path.join(__dirname, "../node_modules");
  return ["@noir-lang/noir_wasm", "@aztec/bb.js"]
    .map((name) => JSON.parse(readFileSync(path.join(root, name, "package.json"), "utf8")) as { version: string })
    .map(({ version }) => version)
    .join();
}

const sha256 = (content: string | Uint8Array): string => createHash("sha256").update(content).digest("hex");
