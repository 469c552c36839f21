/** Models whose answers can be proven: trained, committed to, proven and verified. */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { randomBytes } from "node:crypto";
import path from "node:path";
import { task, types } from "hardhat/config";
import type { HardhatRuntimeEnvironment } from "hardhat/types";
import { deployInferenceVerifier } from "../deploy/inferenceVerifier";
import { isLocalChain } from "../deploy/deploy";
import { UltraHonkInferenceVerifier__factory } from "../typechain-types";
import { DIGITS, nameOf, parseArchitecture } from "../zk/architecture";
import { nativeMultiply } from "../zk/barretenberg";
import { contextOf, saltUnder, weightsCommitment } from "../zk/commitments";
import { loadExamples, splitExamples } from "../zk/dataset";
import { classify, modelToJson, parseModel, requireInput, type Model } from "../zk/network";
import { prove } from "../zk/prover";
import { provingKit } from "../zk/provingKit";
import { contribute, emptySetup, verifySetup, type Setup } from "../zk/setup/ceremony";
import { CANONICAL_POWER_IN_G2, DEVELOPMENT_SETUP, loadSetup, saveSetup, setupIdOf } from "../zk/setup/files";
import { G1_BYTES } from "../zk/setup/points";
import { startClassifier } from "../zk/server";
import { accuracy, integerAccuracy, predict, quantise, train } from "../zk/training";
import { verifierName } from "../zk/verifierContract";
import { asReceiptProof, parseReceiptProof, type ReceiptProof } from "../zk/receiptProof";
import {
  addExample,
  address,
  bytes32,
  defineTask,
  explain,
  optional,
  Problem,
  progressBar,
  saySteps,
  text,
  wholeNumber,
  type TaskRecord,
} from "./support";

const DIGITS_MODEL = "models/digits/model.json";
const DIGITS_EXAMPLES = "models/digits/digits.csv.gz";
/** Which examples are held out is no choice of whoever trains. */
const SPLIT_SEED = 1;
/** Inputs of the digits are at most that. */
const INPUT_SCALE = 16;

const percentOf = (part: number): string => `${(part * 100).toFixed(2)} %`;

export interface TrainModel {
  out: string;
  data: string;
  hidden: number;
  shift: number;
  epochs: number;
  seed: number;
}

/** Trains a network, quantises it, and keeps it with a salt for its commitment. */
export async function trainModel({ out, data, hidden, shift, epochs, seed }: TrainModel): Promise<TaskRecord> {
  requireNothingAt(out);
  const examples = loadExamples(data);
  const { training, heldOut } = splitExamples(examples, SPLIT_SEED);
  const outputs = Math.max(...examples.map((example) => example.class)) + 1;
  const architecture = { inputs: examples[0].input.length, hidden, outputs, shift };
  const bar = progressBar("training", "epochs");
  const float = train(architecture, training, { epochs, seed, inputScale: INPUT_SCALE }, bar.update);
  bar.end();
  const network = quantise(float, shift);
  const model = { network, salt: BigInt(`0x${randomBytes(31).toString("hex")}`) };
  write(out, modelToJson(model));
  return {
    model: out,
    architecture: nameOf(architecture),
    "trained on": training.length,
    "held out": heldOut.length,
    "accuracy in floating point": percentOf(accuracy(heldOut, (input) => predict(float, input))),
    "accuracy in integers": percentOf(integerAccuracy(network, heldOut)),
    weightsCommitment: weightsCommitment(model),
  };
}

/** What a model's version is registered with, as `model:register --weights-commitment` takes it. */
export async function commitModel({ model }: { model: string }): Promise<TaskRecord> {
  const read = readModel(model);
  return { model, architecture: nameOf(read.network), weightsCommitment: weightsCommitment(read) };
}

export interface MakeSetup {
  folder: string;
  points: number;
  parties: number;
}

/** Makes a setup for development in a folder, or verifies the one that is there. */
export async function makeSetup({ folder, points, parties }: MakeSetup): Promise<TaskRecord> {
  const isThere = existsSync(path.join(folder, "transcript.json"));
  const setup = isThere ? loadSetup(folder) : await ceremony(points, parties);
  saySteps("verifying the setup");
  verifySetup(setup);
  if (!isThere) saveSetup(setup, folder);
  return {
    folder,
    setup: setupIdOf(setup.powerInG2),
    points: setup.powers.length / G1_BYTES,
    parties: setup.transcript.map(({ party }) => party),
    [isThere ? "verified" : "made"]: true,
    "for development only": Buffer.compare(setup.powerInG2, CANONICAL_POWER_IN_G2) !== 0,
  };
}

async function ceremony(points: number, parties: number): Promise<Setup> {
  const { multiply, close } = await nativeMultiply();
  try {
    let setup = emptySetup(points);
    for (let party = 1; party <= parties; party++) {
      const bar = progressBar(`party ${party} of ${parties}`, "points");
      setup = await contribute(setup, `party ${party}`, multiply, bar.update);
      bar.end();
    }
    return setup;
  } finally {
    close();
  }
}

export interface WriteVerifier {
  architecture: string;
  setup: string;
  out: string;
}

/** Writes the Solidity verifier of an architecture, for a setup. */
export async function writeVerifierFile({ architecture, setup, out }: WriteVerifier): Promise<TaskRecord> {
  const kit = await provingKit(parseArchitecture(architecture), { setup, onStep: saySteps });
  const file = path.join(out, `${verifierName(kit.architecture)}.sol`);
  write(file, readFileSync(kit.verifier, "utf8"));
  return { verifier: file, architecture, gates: kit.gates, setup: kit.setupId };
}

/** What a proof is of. */
export interface ProvableAnswer {
  /** File of the model. */
  model: string;
  /** The request's. */
  input: unknown;
  salt: string;
  receipt: string;
  /** Folder. */
  setup: string;
}

export interface ProveAnswer extends ProvableAnswer {
  /** File of the request's input. */
  input: string;
  out: string;
}

/** Proves a receipt: that the model answered the request's input with the response's class and logits. */
export async function proveAnswer({ out, ...asked }: ProveAnswer): Promise<TaskRecord> {
  const { proof, answer } = await makeProof({ ...asked, input: readNumbers(asked.input) });
  write(out, `${JSON.stringify(proof, null, 2)}\n`);
  const { weightsCommitment, requestHash, responseHash } = proof;
  return { proof: out, class: answer, weightsCommitment, requestHash, responseHash, receipt: asked.receipt };
}

/** A receipt's proof as its file has it, and the class that the model answers. */
export async function makeProof({ model, input, salt, receipt, setup }: ProvableAnswer) {
  const read = readModel(model);
  const values = requireInput(read.network, input);
  const kit = await provingKit(read.network, { setup, onStep: saySteps });
  saySteps("proving");
  const statement = {
    model: read,
    input: values,
    inputSalt: saltUnder(salt, "input"),
    outputSalt: saltUnder(salt, "output"),
    context: contextOf(receipt),
  };
  const proof = asReceiptProof(await prove(kit, statement), receipt, kit);
  return { proof, answer: classify(read.network, values).class };
}

/** A proof that `zk:prove` wrote to a file. */
export const readProof = (file: string, flag: string): ReceiptProof => parseReceiptProof(readText(file, flag));

export interface VerifyProof {
  proof: string;
  verifier?: string;
}

/** Asks a verifier whether a proof is one: that at an address, or on a local chain a new one. */
export async function verifyProof(
  hre: HardhatRuntimeEnvironment,
  { proof, verifier }: VerifyProof,
): Promise<TaskRecord & { proven: boolean }> {
  const read = readProof(proof, "--proof");
  const at = verifier ?? (await verifierHere(hre, read));
  const contract = UltraHonkInferenceVerifier__factory.connect(at, hre.ethers.provider);
  if ((await hre.ethers.provider.getCode(at)) === "0x") {
    throw new Problem(
      `There is no contract at ${at} on ${hre.network.name}: name the verifier of the model's version.`,
    );
  }
  const { weightsCommitment, requestHash, responseHash, receiptHash } = read;
  const asked = [weightsCommitment, requestHash, responseHash, receiptHash, read.proof] as const;
  // Whatever goes wrong, nothing is proven: the verifier reverts at most proofs that are none.
  const proven = await contract.verify(...asked).catch(() => false);
  const gas = proven ? await contract.verify.estimateGas(...asked) : "none";
  return { proof, verifier: at, weightsCommitment, requestHash, responseHash, receipt: receiptHash, proven, gas };
}

async function verifierHere(hre: HardhatRuntimeEnvironment, { architecture }: ReceiptProof): Promise<string> {
  const { chainId } = await hre.ethers.provider.getNetwork();
  if (!isLocalChain(chainId)) {
    throw new Problem(`Name the verifier on chain ${chainId} with --verifier: none is deployed just to ask it.`);
  }
  if (nameOf(architecture) !== nameOf(DIGITS)) {
    throw new Problem(
      `The proof is of ${nameOf(architecture)}; only of ${nameOf(DIGITS)} a verifier is compiled here.`,
    );
  }
  const [deployer] = await hre.ethers.getSigners();
  return (await deployInferenceVerifier(hre.artifacts, deployer)).verifier.getAddress();
}

/** Deploys the verifier of the shipped model's architecture. */
export async function deployVerifier(hre: HardhatRuntimeEnvironment, { account }: { account: number }) {
  const signers = await hre.ethers.getSigners();
  if (signers[account] === undefined) {
    throw new Problem(`--account ${account} isn't there: ${hre.network.name} has ${signers.length} accounts.`);
  }
  const { verifier, honk, architecture, setupId } = await deployInferenceVerifier(hre.artifacts, signers[account]);
  return {
    verifier: await verifier.getAddress(),
    honk,
    architecture: nameOf(architecture),
    setup: setupId,
    "for development only": await verifier.isDevelopmentSetup(),
  };
}

const readModel = (file: string): Model => parseModel(readText(file, "--model"));

/** The input that a file has, which isn't looked at yet. */
export function readNumbers(file: string): unknown {
  try {
    return JSON.parse(readText(file, "--input"));
  } catch (cause) {
    if (cause instanceof Problem) throw cause;
    throw new Problem(`--input ${file} isn't JSON: write the numbers as [0, 12, …].`, { cause });
  }
}

function readText(file: string, flag: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch (cause) {
    throw new Problem(`${flag} ${file} can't be read: ${(cause as Error).message}`, { cause });
  }
}

function write(file: string, content: string): void {
  mkdirSync(path.dirname(path.resolve(file)), { recursive: true });
  writeFileSync(file, content);
}

function requireNothingAt(file: string): void {
  if (existsSync(file)) throw new Problem(`--out ${file} is there already, with its salt: name another file.`);
}

const setupParameter = optional(text("Folder of the setup"), DEVELOPMENT_SETUP);

defineTask(
  "zk:train",
  {
    about: "Trains a network in integers, whose answers can be proven, and says how accurate it is",
    example: "--out model.json",
    parameters: {
      out: text("The model's file, which isn't there yet"),
      data: optional(text("Examples: a compressed CSV file, the class last"), DIGITS_EXAMPLES),
      hidden: optional(wholeNumber("Neurons of the hidden layer", 1, 65_535), String(DIGITS.hidden)),
      shift: optional(wholeNumber("By how many bits hidden sums are shifted", 0, 24), String(DIGITS.shift)),
      epochs: optional(wholeNumber("How often all examples are seen", 1, 10_000), "40"),
      seed: optional(wholeNumber("The same seed gives the same weights", 0, 2 ** 32 - 1), "7"),
    },
  },
  {},
  (_hre, args: TrainModel) => trainModel(args),
);

defineTask(
  "zk:setup",
  {
    about: "Makes a setup for proofs by a ceremony, for development only; verifies the one that is there",
    example: "--folder zk/development-setup",
    parameters: {
      folder: text("The setup's folder"),
      points: optional(wholeNumber("Points, at least as many as a circuit has gates", 2, 2 ** 22), String(2 ** 14)),
      parties: optional(wholeNumber("How many add a secret, one after the other", 1, 100), "3"),
    },
  },
  {},
  (_hre, args: MakeSetup) => makeSetup(args),
);

defineTask(
  "zk:commit",
  {
    about: "Shows a model's weights commitment, which its version is registered with",
    example: `--model ${DIGITS_MODEL}`,
    parameters: { model: text("The model's file") },
  },
  {},
  (_hre, args: { model: string }) => commitModel(args),
);

defineTask(
  "zk:verifier",
  {
    about: "Writes the Solidity verifier of an architecture, for a setup",
    example: `--architecture ${nameOf(DIGITS)} --out contracts/zk/generated`,
    parameters: {
      architecture: text(`inputs-hidden-outputs-sSHIFT, such as ${nameOf(DIGITS)}`),
      setup: setupParameter,
      out: text("The folder to write it to"),
    },
  },
  {},
  (_hre, args: WriteVerifier) => writeVerifierFile(args),
);

const exampleWord = `0x${"ab".repeat(32)}`;

defineTask(
  "zk:prove",
  {
    about: "Proves a receipt: that the committed weights answer the request's input with the response",
    example: `--model ${DIGITS_MODEL} --input input.json --salt ${exampleWord} --receipt ${exampleWord} --out proof.json`,
    parameters: {
      model: text("The model's file"),
      input: text("File with the request's input, a list of numbers in JSON"),
      salt: bytes32("The salt of the grant that the request came under"),
      receipt: bytes32("The receipt's hash, its EIP-712 digest"),
      setup: setupParameter,
      out: text("The file to write the proof to"),
    },
  },
  {},
  (_hre, args: ProveAnswer) => proveAnswer(args),
);

defineTask(
  "zk:verify",
  {
    about: "Asks a verifier on chain whether a proof is one; exit code 1 if it isn't",
    example: "--proof proof.json",
    parameters: {
      proof: text("The proof's file"),
      verifier: optional(address("The verifier (default, on a local chain: a new one)")),
    },
  },
  {},
  async (hre, args: VerifyProof) => {
    const found = await verifyProof(hre, args);
    if (!found.proven) process.exitCode = 1;
    return found;
  },
);

task("zk:serve", "Serves a model whose answers can be proven: an upstream for a gateway's classifications")
  .addOptionalParam("model", "The model's file", DIGITS_MODEL)
  .addOptionalParam("port", "Where to listen on 127.0.0.1", 8001, types.int)
  .setAction(async ({ model, port }: { model: string; port: number }) => explain(() => serve(model, port)));

async function serve(model: string, port: number): Promise<void> {
  const classifier = await startClassifier({ modelPath: model, port });
  console.log(`${classifier.url}/v1 serves ${model} as ${classifier.modelId}. Ctrl-C stops it.`);
  await new Promise((resolve) => {
    for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, resolve);
  });
  await classifier.close();
}

addExample("zk:serve", "--port 8001");

defineTask(
  "zk:deploy",
  {
    about: "Deploys the verifier of the shipped model's architecture, for versions to point to",
    example: "--network localhost",
    parameters: { account: optional(wholeNumber("Number of the account that acts", 0, 1_000_000), "0") },
  },
  {},
  (hre, args: { account: number }) => deployVerifier(hre, args),
);
