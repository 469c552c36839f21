/** What proofs of inference cost: the circuit, the setup that it needs, the prover's time and memory, and gas. */
import { readFileSync } from "node:fs";
import path from "node:path";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { ContractFactory } from "ethers";
import hre from "hardhat";
import { UltraHonkInferenceVerifier__factory } from "../../typechain-types";
import { DIGITS, nameOf, parseArchitecture, type Architecture } from "../../zk/architecture";
import { nativeMultiply } from "../../zk/barretenberg";
import { proveWitness, witnessOf, type Proof } from "../../zk/prover";
import { CACHE, provingKit, type ProvingKit } from "../../zk/provingKit";
import { seeded } from "../../zk/random";
import { contribute, emptySetup, type OnProgress } from "../../zk/setup/ceremony";
import { DEVELOPMENT_SETUP, saveSetup } from "../../zk/setup/files";
import { verifierName } from "../../zk/verifierContract";
import { digitsModel, networkOf, RECEIPT_HASH, statementOf } from "./digits";

export interface ZkFigure {
  name: string;
  value: number;
  unit: "s" | "MB" | "gas" | "gates" | "bytes" | "points";
  /** The most that it shall be; null of a figure that only explains others. */
  goal: { atMost: number } | null;
  /** What a probe of the same route took, before it was built. */
  probe: number | null;
}

/** An architecture, the points that its setup needs, what its proofs may take, and what a probe took. */
interface Case {
  architecture: Architecture;
  points: number;
  goals: { cpuSeconds?: number; gas?: number };
  probe: { cpuSeconds?: number; memoryMb?: number; gas?: number; bytes?: number };
}

export const CASES: Record<string, Case> = {
  "64-32-10": {
    architecture: DIGITS,
    points: 2 ** 14,
    goals: { cpuSeconds: 2, gas: 850_000 },
    probe: { cpuSeconds: 0.7, memoryMb: 32, gas: 826_000, bytes: 8_000 },
  },
  "784-32-10": { architecture: parseArchitecture("784-32-10-s6"), points: 2 ** 17, goals: {}, probe: {} },
  "784-128-10": {
    architecture: parseArchitecture("784-128-10-s6"),
    points: 2 ** 19,
    goals: { cpuSeconds: 30 },
    probe: { cpuSeconds: 13.4, memoryMb: 508 },
  },
};

export async function measureProofs(name: string, runs: number, say: (step: string) => void): Promise<ZkFigure[]> {
  const { architecture, points, goals, probe } = CASES[name];
  const setup = await timed(() => setupOf(points, say));
  const kit = await timed(() => provingKit(architecture, { setup: setup.result, onStep: say }));
  const proofs: (Spent & { proof: Proof })[] = [];
  for (let run = 1; run <= runs; run++) {
    say(`proving, ${run} of ${runs}`);
    proofs.push(await provenBy(kit.result));
  }
  say("verifying");
  const gas = await gasOf(kit.result, proofs[0].proof);
  const least = (of: (spent: Spent) => number) => Math.min(...proofs.map(of));
  const figure = (what: string, value: number, unit: ZkFigure["unit"], atMost?: number, took?: number): ZkFigure => ({
    ...{ name: `zk.${name}.${what}`, value: Number(value.toPrecision(4)), unit },
    goal: atMost === undefined ? null : { atMost },
    probe: took ?? null,
  });
  return [
    { ...figure("gates", 0, "gates"), value: kit.result.gates },
    { ...figure("setup_points", 0, "points"), value: points },
    figure("setup_s", setup.seconds, "s"),
    figure("circuit_s", kit.seconds, "s"),
    figure(
      "witness_cpu_s",
      least((spent) => spent.witnessCpuSeconds),
      "s",
    ),
    figure(
      "prove_cpu_s",
      least((spent) => spent.cpuSeconds),
      "s",
      goals.cpuSeconds,
      probe.cpuSeconds,
    ),
    figure("rss_mb", Math.max(...proofs.map((spent) => spent.memoryMb)), "MB", undefined, probe.memoryMb),
    { ...figure("verify_gas", 0, "gas", goals.gas, probe.gas), value: gas },
    { ...figure("proof_bytes", 0, "bytes", undefined, probe.bytes), value: proofs[0].proof.proof.length / 2 - 1 },
  ];
}

interface Spent {
  /** Of the witness, in this process. */
  witnessCpuSeconds: number;
  /** Of witness and proof. */
  cpuSeconds: number;
  /** Of the prover, at its most. */
  memoryMb: number;
}

async function provenBy(kit: ProvingKit): Promise<Spent & { proof: Proof }> {
  const statement = statementFor(kit.architecture);
  const before = process.cpuUsage();
  const witness = await witnessOf(kit, statement);
  const { user, system } = process.cpuUsage(before);
  const watched = new WatchedProcess();
  const proof = await proveWitness(kit, witness, (pid) => watched.watch(pid));
  const { cpuSeconds, memoryMb } = watched.end();
  const witnessCpuSeconds = (user + system) / 1e6;
  return { proof, witnessCpuSeconds, cpuSeconds: witnessCpuSeconds + cpuSeconds, memoryMb };
}

/** Of other architectures than the shipped model's any weights do: the prover takes as long for all. */
function statementFor(architecture: Architecture) {
  if (nameOf(architecture) === nameOf(DIGITS)) return statementOf();
  const random = seeded(1);
  const below = (bound: number) => Math.floor(random() * bound);
  const network = networkOf(
    architecture,
    () => below(256) - 128,
    () => below(2 ** 16),
  );
  const input = Array.from({ length: architecture.inputs }, () => below(256));
  return statementOf({ model: { ...digitsModel(), network }, input });
}

/** The committed setup, or a larger one by one party alone, kept with the sums of its files. */
async function setupOf(points: number, say: (step: string) => void): Promise<string> {
  if (points <= 2 ** 14) return DEVELOPMENT_SETUP;
  const folder = path.join(CACHE, `setup-${points}`);
  const sums = path.join(folder, "sha256.json");
  if (existsSync(sums) && readFileSync(sums, "utf8") === sumsOf(folder)) return folder;
  mkdirSync(folder, { recursive: true });
  say(`making a setup of ${points} points`);
  const { multiply, close } = await nativeMultiply();
  let tenths = 0;
  const onProgress: OnProgress = (done, total) => {
    const now = Math.floor((done * 10) / total);
    if (now > tenths) say(`${(tenths = now) * 10} % of the setup's points`);
  };
  try {
    saveSetup(await contribute(emptySetup(points), "the benchmark", multiply, onProgress), folder);
  } finally {
    close();
  }
  writeFileSync(sums, sumsOf(folder));
  return folder;
}

function sumsOf(folder: string): string {
  const files = ["bn254_g1.dat", "bn254_g2.dat"].map((file) => path.join(folder, file));
  if (!files.every((file) => existsSync(file))) return "";
  return JSON.stringify(files.map((file) => createHash("sha256").update(readFileSync(file)).digest("hex")));
}

/** Of a verification by the adapter in a transaction of its own. */
async function gasOf(kit: ProvingKit, { publicInputs, proof }: Proof): Promise<number> {
  const [deployer] = await hre.ethers.getSigners();
  const { abi, bytecode } = compiled(readFileSync(kit.verifier, "utf8"), verifierName(kit.architecture));
  const honk = await new ContractFactory(abi, bytecode, deployer).deploy();
  const verifier = await new UltraHonkInferenceVerifier__factory(deployer).deploy(honk, kit.setupId);
  const { weightsCommitment, requestHash, responseHash } = publicInputs;
  const asked = [weightsCommitment, requestHash, responseHash, RECEIPT_HASH, proof] as const;
  if (!(await verifier.verify(...asked))) throw new Error(`the proof of ${nameOf(kit.architecture)} is none`);
  return Number(await verifier.verify.estimateGas(...asked));
}

/** As Hardhat compiles generated verifiers. */
function compiled(source: string, name: string): { abi: []; bytecode: string } {
  // eslint-disable-next-line @typescript-eslint/no-require-imports -- it brings no types
  const solc = require("solc") as { compile(input: string): string };
  const { overrides } = hre.config.solidity;
  const [{ settings }] = Object.values(overrides);
  const input = { language: "Solidity", sources: { verifier: { content: source } }, settings };
  const output = JSON.parse(solc.compile(JSON.stringify(input))) as {
    contracts: { verifier: Record<string, { abi: []; evm: { bytecode: { object: string } } }> };
  };
  const { abi, evm } = output.contracts.verifier[name];
  return { abi, bytecode: `0x${evm.bytecode.object}` };
}

/** A child's CPU time and its greatest memory, by what Linux says of it while it runs. */
class WatchedProcess {
  private static readonly EVERY_MS = 10;
  private static readonly TICKS_A_SECOND = 100;
  private ticks = 0;
  private kilobytes = 0;
  private timer: NodeJS.Timeout | undefined;

  watch(pid: number): void {
    this.timer = setInterval(() => {
      try {
        const [, after] = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ");
        const fields = after.split(" ");
        this.ticks = Math.max(this.ticks, Number(fields[11]) + Number(fields[12]));
        const [, peak] = /VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8")) ?? [];
        this.kilobytes = Math.max(this.kilobytes, Number(peak ?? 0));
      } catch {
        // It has ended, or this isn't Linux: then there is nothing to see.
      }
    }, WatchedProcess.EVERY_MS);
  }

  end(): { cpuSeconds: number; memoryMb: number } {
    clearInterval(this.timer);
    return { cpuSeconds: this.ticks / WatchedProcess.TICKS_A_SECOND, memoryMb: this.kilobytes / 1_000 };
  }
}

async function timed<T>(run: () => Promise<T>): Promise<{ result: T; seconds: number }> {
  const before = performance.now();
  return { result: await run(), seconds: (performance.now() - before) / 1_000 };
}
