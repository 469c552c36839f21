import { type ChildProcess, spawn } from "node:child_process";
import {
  cpSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import type { CompilerInput, CompilerOutput, HardhatRuntimeEnvironment } from "hardhat/types";
import { mutate, type Mutant } from "./mutants";

/** What became of a mutant; `by` is the test that failed, or what else ended it. */
export type Verdict =
  | { kind: "killed"; by: string }
  | { kind: "survived" }
  /** It doesn't compile, or compiles to the same bytes: there is nothing to test. */
  | { kind: "void"; why: string };

/** Longer than all tests take: a mutant that isn't done by then never ends. */
const LIMIT_MS = 30 * 60_000;

/** What a copy of the project needs to run its tests. */
const PARTS = [
  "artifacts",
  "cache",
  "contracts",
  "deploy",
  "docs",
  "models",
  "oracle",
  "tasks",
  "test",
  "typechain-types",
  "zk",
  "foundry.toml",
  "hardhat.config.ts",
  "package.json",
  "tsconfig.json",
];

/** A copy of the project whose contracts may be broken, and put together again. */
export class MutationBench {
  private readonly folder = mkdtempSync(path.join(tmpdir(), "licet-mutants-"));
  private running?: ChildProcess;

  constructor(private readonly hre: HardhatRuntimeEnvironment) {
    const { root } = hre.config.paths;
    for (const part of PARTS.filter((part) => existsSync(path.join(root, part)))) {
      cpSync(path.join(root, part), path.join(this.folder, part), { recursive: true });
    }
    symlinkSync(path.join(root, "node_modules"), path.join(this.folder, "node_modules"));
  }

  /** Tries a mutant against the suites, one after the other, until a test fails. */
  async judge(mutant: Mutant): Promise<Verdict> {
    const source = readFileSync(path.join(this.hre.config.paths.root, mutant.file), "utf8");
    const mutated = mutate(source, mutant);
    const compiled = await this.compile(mutant.file, mutated);
    if (typeof compiled === "string") return { kind: "void", why: compiled };

    const restore = this.put({ ...compiled, [mutant.file]: mutated });
    try {
      const failure = (await this.runHardhat(testFilesFor(mutant.file, this.folder))) ?? (await this.runForge());
      return failure === undefined ? { kind: "survived" } : { kind: "killed", by: failure };
    } finally {
      restore();
    }
  }

  /** What fails in the contracts as they are: nothing, or no verdict means anything. */
  async failureUnmutated(): Promise<string | undefined> {
    return this.runHardhat(testFilesFor("", this.folder));
  }

  close(): void {
    this.running?.kill();
    rmSync(this.folder, { recursive: true, force: true });
  }

  /** The artifacts that differ with `mutated` in place of a file, by path, or why there are none. */
  private async compile(file: string, mutated: string): Promise<Record<string, string> | string> {
    const changed: Record<string, string> = {};
    for (const [input, names] of await this.jobsWith(file)) {
      const output = compileWith(input, file, mutated, names);
      const error = output.errors?.find(({ severity }) => severity === "error");
      if (error !== undefined) return `doesn't compile: ${error.message}`;
      for (const name of names) {
        const artifact = await this.hre.artifacts.readArtifact(name);
        const { bytecode, deployedBytecode } = output.contracts[artifact.sourceName][artifact.contractName].evm;
        if (`0x${bytecode.object}` === artifact.bytecode) continue;
        const target = path.join("artifacts", artifact.sourceName, `${artifact.contractName}.json`);
        changed[target] = JSON.stringify({
          ...artifact,
          bytecode: `0x${bytecode.object}`,
          linkReferences: bytecode.linkReferences,
          deployedBytecode: `0x${deployedBytecode.object}`,
          deployedLinkReferences: deployedBytecode.linkReferences,
        });
      }
    }
    return Object.keys(changed).length === 0 ? "compiles to the same bytes" : changed;
  }

  /** The compilations that the file took part in, each with those of its contracts that have code of the file. */
  private async jobsWith(file: string): Promise<[CompilerInput, string[]][]> {
    const jobs = new Map<string, [CompilerInput, string[]]>();
    for (const name of await this.hre.artifacts.getAllFullyQualifiedNames()) {
      const artifact = await this.hre.artifacts.readArtifact(name);
      if (!artifact.sourceName.startsWith("contracts/") || artifact.bytecode === "0x") continue;
      const info = await this.hre.artifacts.getBuildInfo(name);
      if (info === undefined || !importsOf(info.input, artifact.sourceName).has(file)) continue;
      const job = jobs.get(info.id) ?? [info.input, []];
      job[1].push(name);
      jobs.set(info.id, job);
    }
    return [...jobs.values()];
  }

  /** Puts files into the copy. @returns what takes them out again */
  private put(files: Record<string, string>): () => void {
    const before = Object.keys(files).map((file) => [file, readFileSync(path.join(this.folder, file), "utf8")]);
    const write = (entries: string[][]) =>
      entries.forEach(([file, text]) => writeFileSync(path.join(this.folder, file), text));
    write(Object.entries(files));
    return () => write(before);
  }

  private async runHardhat(files: string[]): Promise<string | undefined> {
    const { code, output } = await this.run("node_modules/.bin/hardhat", ["test", "--no-compile", "--bail", ...files]);
    if (code === 0) return undefined;
    // A title's lines are indented by more than what is said below them.
    const title = /\n {2}1\) ([^]*?):\n(?! {7})/.exec(output)?.[1].replace(/\s+/g, " ");
    if (code !== null && title === undefined) throw new Error(`The tests didn't run:\n${output.slice(-3_000)}`);
    return title ?? `took longer than ${LIMIT_MS / 60_000} minutes`;
  }

  private async runForge(): Promise<string | undefined> {
    const { code, output } = await this.run("test/support/forge", ["test"]);
    if (code === 0) return undefined;
    return `forge: ${/\[FAIL[^\n]*/.exec(output)?.[0] ?? output.slice(-300)}`;
  }

  private run(program: string, args: string[]): Promise<{ code: number | null; output: string }> {
    return new Promise((resolve, reject) => {
      const child = spawn(program, args, { cwd: this.folder, timeout: LIMIT_MS, killSignal: "SIGKILL" });
      this.running = child;
      let output = "";
      child.stdout.on("data", (data) => (output += data));
      child.stderr.on("data", (data) => (output += data));
      child.on("error", reject);
      child.on("close", (code) => resolve({ code, output }));
    });
  }
}

/** Sources that a source is made of, itself included. */
function importsOf({ sources }: CompilerInput, name: string, found = new Set<string>()): Set<string> {
  if (found.has(name)) return found;
  found.add(name);
  for (const [, imported] of sources[name].content.matchAll(/^(?:import|\}).*?"([^"]+)";$/gm)) {
    importsOf({ sources } as CompilerInput, imported.startsWith(".") ? resolve(name, imported) : imported, found);
  }
  return found;
}

const resolve = (from: string, to: string): string => path.posix.join(path.posix.dirname(from), to);

/** What the compiler says, beyond what Hardhat's type has of it. */
type Compiled = CompilerOutput & { errors?: { severity: string; message: string }[] };

function compileWith(input: CompilerInput, file: string, mutated: string, names: string[]): Compiled {
  // eslint-disable-next-line @typescript-eslint/no-require-imports -- megabytes that only this needs
  const solc = require("solc") as { compile(input: string): string };
  const outputSelection: Record<string, Record<string, string[]>> = {};
  for (const name of names) {
    const [source, contract] = name.split(":");
    outputSelection[source] = { ...outputSelection[source], [contract]: ["evm.bytecode", "evm.deployedBytecode"] };
  }
  const settings = { ...input.settings, outputSelection };
  const sources = { ...input.sources, [file]: { content: mutated } };
  return JSON.parse(solc.compile(JSON.stringify({ ...input, sources, settings })));
}

/**
 * All tests of what contracts do, those named for the file first. Not the ones that compare bytes, gas or sizes, which
 * any change at all would fail.
 */
function testFilesFor(file: string, root: string): string[] {
  const subject = path.basename(file, ".sol");
  const files = ["unit", "deploy", "integration"].flatMap((folder) =>
    readdirSync(path.join(root, "test", folder))
      .filter((name) => name.endsWith(".test.ts"))
      .map((name) => path.join("test", folder, name)),
  );
  const judges = files.filter((name) => !/(?:docs|tasks|oracle|deployment|ethers)\.test\.ts$/.test(name));
  // What a library is a part of: the staking contract, or else the escrow.
  const whole = /^(?:Stake|Breach)/.test(subject) ? "PerformanceStaking" : "UsageEscrow";
  const isNear = (name: string) => path.basename(name).startsWith(`${whole}.`);
  const isOwn = (name: string) => path.basename(name).startsWith(`${subject}.`);
  const nearness = (name: string) => (isOwn(name) ? 0 : isNear(name) ? 1 : 2);
  return judges.sort((a, b) => nearness(a) - nearness(b));
}
