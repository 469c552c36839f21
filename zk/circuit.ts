/**
 * The circuit of an architecture, in Noir. It computes what `classify` and `commitments` do: the answer of a network whose
 * weights nobody sees. Its public inputs are four words, in this order: the weights commitment, the request hash, the
 * response hash, and the context, which the proof is bound to and which has no other meaning here.
 */
import { mkdtempSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { BIAS_BITS, nameOf, sumBits, weightCount, type Architecture } from "./architecture";
import {
  BIASES_A_WORD,
  BYTES_A_WORD,
  inputCommitment,
  outputCommitment,
  tagOf,
  weightsCommitment,
} from "./commitments";
import { classify, type Model } from "./network";
import { compilePackage, type CircuitInputs } from "./noir";

/** Everything that a proof shows, and what it is shown by. */
export interface Statement {
  model: Model;
  /** Bytes. */
  input: readonly number[];
  inputSalt: bigint;
  outputSalt: bigint;
  /** A word of 248 bits. */
  context: string;
}

/** The public inputs, in the circuit's order. */
export interface PublicInputs {
  weightsCommitment: string;
  requestHash: string;
  responseHash: string;
  context: string;
}

export function publicInputsOf({ model, input, inputSalt, outputSalt, context }: Statement): PublicInputs {
  const { network } = model;
  return {
    weightsCommitment: weightsCommitment(model),
    requestHash: inputCommitment(network, input, inputSalt),
    responseHash: outputCommitment(network, classify(network, input), outputSalt),
    context,
  };
}

/** What the circuit takes, in its names. */
export function witnessInputs(statement: Statement, shown: PublicInputs = publicInputsOf(statement)): CircuitInputs {
  const { network, salt } = statement.model;
  const shifted = (numbers: Int8Array | Int32Array, by: number) => Array.from(numbers, (number) => String(number + by));
  return {
    weights_commitment: shown.weightsCommitment,
    request_hash: shown.requestHash,
    response_hash: shown.responseHash,
    context: shown.context,
    hidden_weights: shifted(network.hiddenWeights, 128),
    hidden_biases: shifted(network.hiddenBiases, 2 ** (BIAS_BITS - 1)),
    output_weights: shifted(network.outputWeights, 128),
    output_biases: shifted(network.outputBiases, 2 ** (BIAS_BITS - 1)),
    weights_salt: String(salt),
    input: statement.input.map(String),
    input_salt: String(statement.inputSalt),
    output_salt: String(statement.outputSalt),
  };
}

/** Compiles the circuit of an architecture. @returns the text of Noir's JSON */
export async function compileCircuit(architecture: Architecture): Promise<string> {
  const folder = mkdtempSync(path.join(tmpdir(), "licet-circuit-"));
  try {
    mkdirSync(path.join(folder, "src"));
    const name = `licet_${nameOf(architecture).replaceAll("-", "_")}`;
    writeFileSync(path.join(folder, "Nargo.toml"), `[package]\nname = "${name}"\ntype = "bin"\nauthors = [""]\n`);
    writeFileSync(path.join(folder, "src/main.nr"), circuitSource(architecture));
    // Where it was compiled is no part of what it is.
    const { abi, bytecode } = await compilePackage(folder);
    return JSON.stringify({ abi, bytecode });
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** The circuit's text in Noir. */
export function circuitSource(architecture: Architecture): string {
  const { inputs, hidden, outputs, shift } = architecture;
  const bits = sumBits(architecture);
  const weights = weightCount(architecture);
  const weightWords = Math.ceil(weights / BYTES_A_WORD);
  const biasWords = Math.ceil((hidden + outputs) / BIASES_A_WORD);
  const inputWords = Math.ceil(inputs / BYTES_A_WORD);
  const hex = (value: bigint) => `0x${value.toString(16)}`;
  const power = (exponent: number) => hex(1n << BigInt(exponent));
  return `// The network ${nameOf(architecture)}, made by zk/circuit.ts.
use std::hash::poseidon2_permutation;

global INPUTS: u32 = ${inputs};
global HIDDEN: u32 = ${hidden};
global OUTPUTS: u32 = ${outputs};
global HIDDEN_WEIGHTS: u32 = ${inputs * hidden};
global OUTPUT_WEIGHTS: u32 = ${outputs * hidden};
global WEIGHTS: u32 = ${weights};
global BIASES: u32 = ${hidden + outputs};
global WEIGHT_WORDS: u32 = ${weightWords};
global BIAS_WORDS: u32 = ${biasWords};
global INPUT_WORDS: u32 = ${inputWords};
global ZERO_BIAS: Field = ${power(BIAS_BITS - 1)};

// Poseidon2 of width 4: three elements a time are added, the fourth begins with the tag and the length.
fn sponge<let N: u32>(tag: Field, elements: [Field; N]) -> Field {
    let mut state = [0, 0, 0, tag * 0x100000000 + (N as Field)];
    for block in 0..(N + 2) / 3 {
        for i in 0..3 {
            if block * 3 + i < N {
                state[i] += elements[block * 3 + i];
            }
        }
        state = poseidon2_permutation(state);
    }
    state[0]
}

// Numbers below base, so many a word. What is packed must be in range: else two lists had one packing.
fn pack<let N: u32, let WORDS: u32>(numbers: [Field; N], base: Field, per_word: u32) -> [Field; WORDS] {
    let mut words = [0; WORDS];
    for at in 0..WORDS {
        let mut word = 0;
        let mut scale = 1;
        for i in at * per_word..(at + 1) * per_word {
            if i < N {
                word += numbers[i] * scale;
                scale *= base;
            }
        }
        words[at] = word;
    }
    words
}

// A sum below 2^${bits.hidden} in size: zero if it is negative, else shifted right.
fn activate(sum: Field) -> Field {
    let raised = sum + ${power(bits.hidden)};
    raised.assert_max_bit_size::<${bits.hidden + 1}>();
    let raised = raised as u64;
    if raised >= ${power(bits.hidden)} {
        ((raised - ${power(bits.hidden)}) >> ${shift}) as Field
    } else {
        0
    }
}

fn main(
    weights_commitment: pub Field,
    request_hash: pub Field,
    response_hash: pub Field,
    context: pub Field,
    hidden_weights: [u8; HIDDEN_WEIGHTS],
    hidden_biases: [u32; HIDDEN],
    output_weights: [u8; OUTPUT_WEIGHTS],
    output_biases: [u32; OUTPUTS],
    weights_salt: Field,
    input: [u8; INPUTS],
    input_salt: Field,
    output_salt: Field,
) {
    // It is part of what is proven, and of no constraint but this.
    context.assert_max_bit_size::<248>();

    // The weights are the registered ones.
    let mut biases = [0; BIASES];
    for i in 0..HIDDEN {
        biases[i] = hidden_biases[i] as Field;
    }
    for i in 0..OUTPUTS {
        biases[HIDDEN + i] = output_biases[i] as Field;
    }
    for bias in biases {
        bias.assert_max_bit_size::<${BIAS_BITS}>();
    }
    let mut model = [0; WEIGHT_WORDS + BIAS_WORDS + 1];
    for at in 0..WEIGHT_WORDS {
        let mut word = 0;
        let mut scale = 1;
        for i in at * ${BYTES_A_WORD}..(at + 1) * ${BYTES_A_WORD} {
            if i < WEIGHTS {
                let weight = if i < HIDDEN_WEIGHTS {
                    hidden_weights[i]
                } else {
                    output_weights[i - HIDDEN_WEIGHTS]
                };
                word += (weight as Field) * scale;
                scale *= 0x100;
            }
        }
        model[at] = word;
    }
    let bias_words: [Field; BIAS_WORDS] = pack(biases, ${power(BIAS_BITS)}, ${BIASES_A_WORD});
    for i in 0..BIAS_WORDS {
        model[WEIGHT_WORDS + i] = bias_words[i];
    }
    model[WEIGHT_WORDS + BIAS_WORDS] = weights_salt;
    assert(sponge(${hex(tagOf("weights", architecture))}, model) == weights_commitment, "these aren't the model's weights");

    // The input is the request's.
    let mut values = [0; INPUTS];
    for i in 0..INPUTS {
        values[i] = input[i] as Field;
    }
    let input_words: [Field; INPUT_WORDS] = pack(values, 0x100, ${BYTES_A_WORD});
    let mut request = [0; INPUT_WORDS + 1];
    for i in 0..INPUT_WORDS {
        request[i] = input_words[i];
    }
    request[INPUT_WORDS] = input_salt;
    assert(sponge(${hex(tagOf("input", architecture))}, request) == request_hash, "this isn't the request's input");

    // The network answers it.
    let mut activations = [0; HIDDEN];
    for h in 0..HIDDEN {
        let mut sum = biases[h] - ZERO_BIAS;
        for i in 0..INPUTS {
            sum += (hidden_weights[h * INPUTS + i] as Field - 128) * values[i];
        }
        activations[h] = activate(sum);
    }
    let mut logits = [0 as u64; OUTPUTS];
    for o in 0..OUTPUTS {
        let mut sum = biases[HIDDEN + o] - ZERO_BIAS + ${power(bits.logit)};
        for h in 0..HIDDEN {
            sum += (output_weights[o * HIDDEN + h] as Field - 128) * activations[h];
        }
        sum.assert_max_bit_size::<${bits.logit + 1}>();
        logits[o] = sum as u64;
    }
    let mut class = 0;
    let mut best = logits[0];
    for o in 1..OUTPUTS {
        if logits[o] > best {
            best = logits[o];
            class = o as Field;
        }
    }

    // The answer is the response's.
    let mut response = [0; OUTPUTS + 2];
    response[0] = class;
    for o in 0..OUTPUTS {
        response[1 + o] = logits[o] as Field;
    }
    response[OUTPUTS + 1] = output_salt;
    assert(sponge(${hex(tagOf("output", architecture))}, response) == response_hash, "this isn't the response");
}
`;
}
