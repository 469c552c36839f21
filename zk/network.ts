/** A quantised network, and the integer arithmetic that its circuit proves: there is one definition of the answer. */
import { BIAS_BITS, nameOf, requireArchitecture, weightCount, type Architecture } from "./architecture";
import { Problem } from "../oracle/problem";

export interface Network extends Architecture {
  /** int8: `hiddenWeights[h * inputs + i]`, then `outputWeights[o * hidden + h]`. */
  hiddenWeights: Int8Array;
  outputWeights: Int8Array;
  /** Signed, of BIAS_BITS bits. */
  hiddenBiases: Int32Array;
  outputBiases: Int32Array;
}

/** A network's answer. */
export interface Classification {
  /** The number of the greatest logit; of equal ones the first. */
  class: number;
  logits: number[];
}

/** A network with the salt that its commitment needs: what a publisher gives those who may serve and prove it. */
export interface Model {
  network: Network;
  /** 248 bits. */
  salt: bigint;
}

/** @param input `inputs` bytes */
export function classify(network: Network, input: readonly number[]): Classification {
  const { inputs, hidden, outputs, shift, hiddenWeights, outputWeights, hiddenBiases, outputBiases } = network;
  const activations = new Float64Array(hidden);
  for (let h = 0; h < hidden; h++) {
    let sum = hiddenBiases[h];
    for (let i = 0; i < inputs; i++) sum += hiddenWeights[h * inputs + i] * input[i];
    activations[h] = sum > 0 ? Math.floor(sum / 2 ** shift) : 0;
  }
  const logits = Array.from({ length: outputs }, (_, o) => {
    let sum = outputBiases[o];
    for (let h = 0; h < hidden; h++) sum += outputWeights[o * hidden + h] * activations[h];
    return sum;
  });
  return { class: logits.indexOf(Math.max(...logits)), logits };
}

/** @throws Problem unless it is as many bytes as the network takes */
export function requireInput({ inputs }: Pick<Architecture, "inputs">, input: unknown): number[] {
  if (!Array.isArray(input) || input.length !== inputs) {
    const found = Array.isArray(input) ? `${input.length} numbers` : typeof input;
    throw new Problem(`The input must be ${inputs} numbers; it is ${found}.`);
  }
  const wrong = input.findIndex((value) => !Number.isInteger(value) || value < 0 || value > 255);
  if (wrong < 0) return input as number[];
  throw new Problem(
    `The input must be whole numbers from 0 to 255; the one at ${wrong} is ${JSON.stringify(input[wrong])}.`,
  );
}

const FORMAT = "network/1";

/** The text of a model's file. */
export function modelToJson({ network, salt }: Model): string {
  const { inputs, hidden, outputs, shift } = network;
  const file = {
    licet: FORMAT,
    architecture: { inputs, hidden, outputs, shift },
    hiddenWeights: base64(network.hiddenWeights),
    hiddenBiases: base64(network.hiddenBiases),
    outputWeights: base64(network.outputWeights),
    outputBiases: base64(network.outputBiases),
    salt: `0x${salt.toString(16).padStart(64, "0")}`,
  };
  return `${JSON.stringify(file, null, 2)}\n`;
}

/** @throws Problem that says what of the file isn't a model's */
export function parseModel(text: string): Model {
  const file = parseFile(text);
  const { inputs, hidden, outputs, shift } = requireArchitecture((file.architecture ?? {}) as Architecture);
  const bytesOf = (name: string, length: number) => {
    const bytes = Buffer.from(String(file[name] ?? ""), "base64");
    if (bytes.length === length) return Uint8Array.from(bytes).buffer;
    throw new Problem(`The model's ${name} must be ${length} bytes in base64; they are ${bytes.length}.`);
  };
  const network = {
    ...{ inputs, hidden, outputs, shift },
    hiddenWeights: new Int8Array(bytesOf("hiddenWeights", hidden * inputs)),
    outputWeights: new Int8Array(bytesOf("outputWeights", outputs * hidden)),
    hiddenBiases: new Int32Array(bytesOf("hiddenBiases", hidden * 4)),
    outputBiases: new Int32Array(bytesOf("outputBiases", outputs * 4)),
  };
  return { network: requireBiases(network), salt: parseSalt(file.salt) };
}

/** @throws Problem if a bias has too many bits for the circuit */
export function requireBiases(network: Network): Network {
  const most = 2 ** (BIAS_BITS - 1);
  for (const [layer, biases] of Object.entries({ hidden: network.hiddenBiases, output: network.outputBiases })) {
    const wrong = biases.findIndex((bias) => bias < -most || bias >= most);
    if (wrong < 0) continue;
    throw new Problem(
      `Bias ${wrong} of the ${layer} layer of ${nameOf(network)} is ${biases[wrong]}, which ${BIAS_BITS} bits don't hold: train with smaller weights.`,
    );
  }
  if (network.hiddenWeights.length + network.outputWeights.length === weightCount(network)) return network;
  throw new Problem(`A network ${nameOf(network)} has ${weightCount(network)} weights.`);
}

function parseFile(text: string): Record<string, unknown> {
  let file: unknown;
  try {
    file = JSON.parse(text);
  } catch (cause) {
    throw new Problem(`The model isn't JSON: ${(cause as Error).message}`, { cause });
  }
  if ((file as Record<string, unknown> | null)?.licet === FORMAT) return file as Record<string, unknown>;
  throw new Problem(`A model's file says "licet": "${FORMAT}", as zk:train writes it; this one doesn't.`);
}

function parseSalt(salt: unknown): bigint {
  if (typeof salt === "string" && /^0x00[0-9a-f]{62}$/.test(salt)) return BigInt(salt);
  throw new Problem(`The model's salt must be 0x, 00 and 62 hex digits; it is ${JSON.stringify(salt)}.`);
}

function base64(numbers: Int8Array | Int32Array): string {
  return Buffer.from(numbers.buffer, numbers.byteOffset, numbers.byteLength).toString("base64");
}
