/** Makes proofs: the witness in JavaScript, the proof by the native prover. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { hexlify } from "ethers";
import { nameOf } from "./architecture";
import { runBarretenberg } from "./barretenberg";
import { publicInputsOf, witnessInputs, type PublicInputs, type Statement } from "./circuit";
import { executeCircuit, type CompiledCircuit } from "./noir";
import type { ProvingKit } from "./provingKit";
import { reasonOf, Problem } from "../oracle/problem";

export interface Proof {
  publicInputs: PublicInputs;
  /** As the verifier takes it. */
  proof: string;
}

/**
 * @param shown the public inputs, if they aren't those of the statement
 * @param onStart told the prover's process id
 * @throws Problem if the statement isn't true, or isn't of the kit's architecture
 */
export async function prove(
  kit: ProvingKit,
  statement: Statement,
  shown: PublicInputs = publicInputsOf(statement),
  onStart?: (pid: number) => void,
): Promise<Proof> {
  return proveWitness(kit, await witnessOf(kit, statement, shown), onStart);
}

/** The witness, compressed, as the prover takes it. @throws Problem if the statement isn't true */
export async function witnessOf(
  kit: ProvingKit,
  statement: Statement,
  shown: PublicInputs = publicInputsOf(statement),
): Promise<Uint8Array> {
  const { network } = statement.model;
  if (nameOf(network) !== nameOf(kit.architecture)) {
    throw new Problem(`The model is ${nameOf(network)}, and the circuit ${nameOf(kit.architecture)}: use its own.`);
  }
  const circuit = JSON.parse(readFileSync(kit.circuit, "utf8")) as CompiledCircuit;
  try {
    return await executeCircuit(circuit, witnessInputs(statement, shown));
  } catch (cause) {
    throw new Problem(`What is to be proven isn't true: ${reasonOf(cause)}.`, { cause });
  }
}

/** Proves whatever witness is given: of a false one the proof is false, too. */
export async function proveWitness(
  { circuit, verificationKey, setup }: ProvingKit,
  witness: Uint8Array,
  onStart?: (pid: number) => void,
): Promise<Proof> {
  const folder = mkdtempSync(path.join(tmpdir(), "licet-proof-"));
  try {
    const file = path.join(folder, "witness.gz");
    writeFileSync(file, witness);
    const files = ["-c", setup, "-b", circuit, "-w", file, "-k", verificationKey, "-o", folder];
    await runBarretenberg(["prove", ...files, "-t", "evm"], onStart);
    const inputs = readFileSync(path.join(folder, "public_inputs"));
    const [weightsCommitment, requestHash, responseHash, context] = [0, 32, 64, 96].map((at) =>
      hexlify(inputs.subarray(at, at + 32)),
    );
    return {
      publicInputs: { weightsCommitment, requestHash, responseHash, context },
      proof: hexlify(readFileSync(path.join(folder, "proof"))),
    };
  } finally {
    rmSync(folder, { recursive: true });
  }
}
