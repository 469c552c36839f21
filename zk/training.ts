/** Trains a network in floating point, and quantises it. The same seed gives the same weights, to the bit. */
import type { Architecture } from "./architecture";
import type { Example } from "./dataset";
import { classify, requireBiases, type Network } from "./network";
import { seeded, shuffle } from "./random";

export interface TrainingOptions {
  epochs: number;
  seed: number;
  /** Inputs are divided by it. */
  inputScale: number;
}

/** The rest of the recipe: Adam with a rate that falls along a cosine, and a little decay of weights. */
const RATE = 0.01;
const BATCH = 32;
const DECAY = 1e-4;
const [MOMENTUM, VARIANCE] = [0.9, 0.999];

/** A layer's numbers in floating point: `weights[to * from + at]`. */
interface Layer {
  from: number;
  to: number;
  weights: Float64Array;
  biases: Float64Array;
}

export interface FloatNetwork {
  inputScale: number;
  hidden: Layer;
  output: Layer;
}

/** @param onEpoch called after each: those done, and those there are */
export function train(
  { inputs, hidden, outputs }: Architecture,
  examples: readonly Example[],
  { epochs, seed, inputScale }: TrainingOptions,
  onEpoch: (done: number, total: number) => void = () => {},
): FloatNetwork {
  const random = seeded(seed);
  const network = { inputScale, hidden: layer(inputs, hidden, random), output: layer(hidden, outputs, random) };
  const adam = new Adam([network.hidden, network.output]);
  const order = [...examples];
  for (let epoch = 0; epoch < epochs; epoch++) {
    shuffle(order, random);
    const rate = RATE * 0.5 * (1 + Math.cos((Math.PI * epoch) / epochs));
    for (let at = 0; at < order.length; at += BATCH) {
      const batch = order.slice(at, at + BATCH);
      for (const example of batch) addGradient(network, example, adam, batch.length);
      adam.step(rate);
    }
    onEpoch(epoch + 1, epochs);
  }
  return network;
}

/** What the float network answers. */
export function predict(network: FloatNetwork, input: readonly number[]): number {
  const { logits } = forward(network, input);
  return logits.indexOf(Math.max(...logits));
}

/**
 * Weights as int8, each layer on a scale of its own; biases in units of their layer's sums. Hidden sums are shifted, not
 * clamped: the circuit has room for all of them.
 */
export function quantise({ inputScale, hidden, output }: FloatNetwork, shift: number): Network {
  const hiddenScale = 127 / largest(hidden.weights);
  const outputScale = 127 / largest(output.weights);
  const hiddenUnit = hiddenScale * inputScale;
  const outputUnit = (hiddenUnit / 2 ** shift) * outputScale;
  return requireBiases({
    ...{ inputs: hidden.from, hidden: hidden.to, outputs: output.to, shift },
    hiddenWeights: Int8Array.from(hidden.weights, (weight) => Math.round(weight * hiddenScale)),
    outputWeights: Int8Array.from(output.weights, (weight) => Math.round(weight * outputScale)),
    hiddenBiases: Int32Array.from(hidden.biases, (bias) => Math.round(bias * hiddenUnit)),
    outputBiases: Int32Array.from(output.biases, (bias) => Math.round(bias * outputUnit)),
  });
}

/** Of examples, the part that is answered right. */
export function accuracy(examples: readonly Example[], answer: (input: readonly number[]) => number): number {
  return examples.filter((example) => answer(example.input) === example.class).length / examples.length;
}

/** Accuracy by the integer arithmetic that proofs are of. */
export const integerAccuracy = (network: Network, examples: readonly Example[]): number =>
  accuracy(examples, (input) => classify(network, input).class);

function layer(from: number, to: number, random: () => number): Layer {
  const gauss = () => Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
  const weights = Float64Array.from({ length: from * to }, () => gauss() * Math.sqrt(2 / from));
  return { from, to, weights, biases: new Float64Array(to) };
}

/** A layer's sums for what comes into it. */
function sums({ from, to, weights, biases }: Layer, incoming: ArrayLike<number>): Float64Array {
  const result = Float64Array.from(biases);
  for (let t = 0; t < to; t++) for (let f = 0; f < from; f++) result[t] += weights[t * from + f] * incoming[f];
  return result;
}

function forward(network: FloatNetwork, input: readonly number[]) {
  const scaled = Float64Array.from(input, (value) => value / network.inputScale);
  const activations = sums(network.hidden, scaled).map((sum) => Math.max(0, sum));
  return { scaled, activations, logits: sums(network.output, activations) };
}

/** Adds what one example says: the gradient of the cross entropy. */
function addGradient(network: FloatNetwork, example: Example, adam: Adam, batchSize: number): void {
  const { scaled, activations, logits } = forward(network, example.input);
  const top = Math.max(...logits);
  const powers = logits.map((logit) => Math.exp(logit - top));
  const total = powers.reduce((sum, power) => sum + power, 0);
  const outputError = powers.map((power, o) => (power / total - (o === example.class ? 1 : 0)) / batchSize);
  const hiddenError = new Float64Array(activations.length);
  const { from, to, weights } = network.output;
  for (let o = 0; o < to; o++) for (let h = 0; h < from; h++) hiddenError[h] += outputError[o] * weights[o * from + h];
  adam.add(1, outputError, activations);
  adam.add(
    0,
    hiddenError.map((error, h) => (activations[h] > 0 ? error : 0)),
    scaled,
  );
}

/** The numbers of a layer beside each number that is learnt. */
interface Learnt {
  values: Float64Array;
  decay: number;
  gradient: Float64Array;
  mean: Float64Array;
  variance: Float64Array;
}

class Adam {
  private steps = 0;
  private readonly learnt: { weights: Learnt; biases: Learnt }[];

  constructor(private readonly layers: readonly Layer[]) {
    this.learnt = layers.map(({ weights, biases }) => ({ weights: learnt(weights, DECAY), biases: learnt(biases, 0) }));
  }

  /** @param errors of a layer's sums */
  add(at: number, errors: Float64Array, incoming: Float64Array): void {
    const { weights, biases } = this.learnt[at];
    const { from, to } = this.layers[at];
    for (let t = 0; t < to; t++) {
      biases.gradient[t] += errors[t];
      for (let f = 0; f < from; f++) weights.gradient[t * from + f] += errors[t] * incoming[f];
    }
  }

  step(rate: number): void {
    this.steps += 1;
    for (const { weights, biases } of this.learnt) {
      this.move(weights, rate);
      this.move(biases, rate);
    }
  }

  private move({ values, decay, gradient, mean, variance }: Learnt, rate: number): void {
    const [meanBias, varianceBias] = [1 - MOMENTUM ** this.steps, 1 - VARIANCE ** this.steps];
    for (let i = 0; i < values.length; i++) {
      const slope = gradient[i] + decay * values[i];
      mean[i] = MOMENTUM * mean[i] + (1 - MOMENTUM) * slope;
      variance[i] = VARIANCE * variance[i] + (1 - VARIANCE) * slope * slope;
      values[i] -= (rate * (mean[i] / meanBias)) / (Math.sqrt(variance[i] / varianceBias) + 1e-8);
    }
    gradient.fill(0);
  }
}

function learnt(values: Float64Array, decay: number): Learnt {
  const zeros = () => new Float64Array(values.length);
  return { values, decay, gradient: zeros(), mean: zeros(), variance: zeros() };
}

function largest(numbers: Float64Array): number {
  return numbers.reduce((most, number) => Math.max(most, Math.abs(number)), 0);
}
