/**
 * Shapes of networks that can be proven: one hidden layer, int8 weights, uint8 inputs, everything in integers. One circuit,
 * one proving key and one verifier serve every model of an architecture.
 */
import { Problem } from "../oracle/problem";

export interface Architecture {
  inputs: number;
  hidden: number;
  outputs: number;
  /** By so many bits the hidden layer's sums are shifted right. */
  shift: number;
}

/** Biases are signed integers of so many bits. */
export const BIAS_BITS = 24;

/** The circuit computes in a field of 254 bits; integers in TypeScript are exact to 2^53, with room to spare for signs. */
const MOST_SUM_BITS = 50;
const MOST_NEURONS = 0xffff;
const MOST_SHIFT = 24;

const WEIGHT_MAX = 128;
const INPUT_MAX = 255;
const BIAS_MAX = 2 ** (BIAS_BITS - 1);

/** The shipped model's. */
export const DIGITS: Architecture = { inputs: 64, hidden: 32, outputs: 10, shift: 4 };

/** Names circuits, keys and files of an architecture. */
export function nameOf({ inputs, hidden, outputs, shift }: Architecture): string {
  return `${inputs}-${hidden}-${outputs}-s${shift}`;
}

/** How many weights there are, biases not counted. */
export function weightCount({ inputs, hidden, outputs }: Architecture): number {
  return (inputs + outputs) * hidden;
}

/** Any sum of the hidden layer, and any logit, is less than 2^bits in size. */
export function sumBits({ inputs, hidden, shift }: Architecture): { hidden: number; logit: number } {
  const hiddenBits = Math.ceil(Math.log2(inputs * WEIGHT_MAX * INPUT_MAX + BIAS_MAX + 1));
  const activation = 2 ** Math.max(0, hiddenBits - shift);
  return { hidden: hiddenBits, logit: Math.ceil(Math.log2(hidden * WEIGHT_MAX * activation + BIAS_MAX + 1)) };
}

/** @throws Problem if it is none that can be proven */
export function requireArchitecture(given: Architecture): Architecture {
  const { inputs, hidden, outputs, shift } = given;
  for (const [what, count] of Object.entries({ inputs, hidden, outputs })) {
    if (Number.isInteger(count) && count >= 1 && count <= MOST_NEURONS) continue;
    throw new Problem(`A network's ${what} must be a whole number from 1 to ${MOST_NEURONS}; they are ${count}.`);
  }
  if (!Number.isInteger(shift) || shift < 0 || shift > MOST_SHIFT) {
    throw new Problem(`A network's shift must be 0 to ${MOST_SHIFT} bits; it is ${shift}.`);
  }
  const { logit } = sumBits(given);
  if (logit <= MOST_SUM_BITS) return given;
  throw new Problem(
    `The logits of ${nameOf(given)} may need ${logit} bits, and ${MOST_SUM_BITS} are the most: take a larger shift.`,
  );
}

/** @throws Problem unless it reads like 64-32-10-s4 */
export function parseArchitecture(text: string): Architecture {
  const match = /^(\d{1,5})-(\d{1,5})-(\d{1,5})-s(\d{1,2})$/.exec(text);
  if (match === null) {
    throw new Problem(`An architecture is inputs-hidden-outputs-sSHIFT, such as ${nameOf(DIGITS)}; not "${text}".`);
  }
  const [inputs, hidden, outputs, shift] = match.slice(1).map(Number);
  return requireArchitecture({ inputs, hidden, outputs, shift });
}
