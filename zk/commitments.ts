/**
 * Salted commitments that a circuit can open: a Poseidon2 sponge over the field of BN254 (width 4, rate 3). The sponge's
 * capacity begins with a tag that names role, architecture and length, so that no commitment passes for another kind.
 */
import { permute } from "@zkpassport/poseidon2";
import { concat, keccak256, toBeHex, toUtf8Bytes } from "ethers";
import { BIAS_BITS, sumBits, type Architecture } from "./architecture";
import type { Classification, Model } from "./network";

/** Order of the field that proofs compute in. */
export const FIELD = 21888242871839275222246405745257275088548364400416034343698204186575808495617n;

/** How many bytes, and how many biases, one field element holds. */
export const BYTES_A_WORD = 31;
export const BIASES_A_WORD = Math.floor(248 / BIAS_BITS);

export type Role = "weights" | "input" | "output";

const ROLE_NUMBERS: Record<Role, bigint> = { weights: 1n, input: 2n, output: 3n };
const FORMAT = 0x4c5a31n;

/** What the sponge begins with, the length left out. An input's and an output's say nothing of hidden layers. */
export function tagOf(role: Role, { inputs, hidden, outputs, shift }: Architecture): bigint {
  const shape = role === "weights" ? [inputs, hidden, outputs, shift] : role === "input" ? [inputs, 0, 0, 0] : [0, 0, outputs, shift]; // prettier-ignore
  return shape.reduce((tag, number) => (tag << 16n) | BigInt(number), (FORMAT << 8n) | ROLE_NUMBERS[role]);
}

/** What a model's version is registered with. */
export function weightsCommitment({ network, salt }: Model): string {
  const { hiddenWeights, outputWeights, hiddenBiases, outputBiases } = network;
  const bytes = [...hiddenWeights, ...outputWeights].map((weight) => BigInt(weight + 128));
  const biases = [...hiddenBiases, ...outputBiases].map((bias) => BigInt(bias + 2 ** (BIAS_BITS - 1)));
  const words = [...pack(bytes, 8, BYTES_A_WORD), ...pack(biases, BIAS_BITS, BIASES_A_WORD)];
  return toWord(sponge(tagOf("weights", network), [...words, salt]));
}

/** A receipt's request hash. */
export function inputCommitment(architecture: Architecture, input: readonly number[], salt: bigint): string {
  return toWord(sponge(tagOf("input", architecture), [...pack(input.map(BigInt), 8, BYTES_A_WORD), salt]));
}

/** A receipt's response hash. Logits are shifted so that none is negative. */
export function outputCommitment(architecture: Architecture, answer: Classification, salt: bigint): string {
  const zero = 1n << BigInt(sumBits(architecture).logit);
  const logits = answer.logits.map((logit) => BigInt(logit) + zero);
  return toWord(sponge(tagOf("output", architecture), [BigInt(answer.class), ...logits, salt]));
}

/** The salt of an input or an output under a grant: 248 bits of keccak256(grant's salt, "licet:" and the role). */
export function saltUnder(grantSalt: string, role: "input" | "output"): bigint {
  return BigInt(keccak256(concat([grantSalt, toUtf8Bytes(`licet:${role}`)]))) >> 8n;
}

/** What a proof is bound to: 248 bits of a receipt's EIP-712 digest. */
export function contextOf(receiptHash: string): string {
  return toWord(BigInt(receiptHash) >> 8n);
}

/** 32 bytes, as contracts take a field element. */
export function toWord(element: bigint): string {
  return toBeHex(element, 32);
}

/** Numbers of `bits` bits, so many a field element, the first lowest. */
function pack(numbers: readonly bigint[], bits: number, perWord: number): bigint[] {
  const words: bigint[] = [];
  for (let at = 0; at < numbers.length; at += perWord) {
    const part = numbers.slice(at, at + perWord);
    words.push(part.reduceRight((word, number) => (word << BigInt(bits)) | number, 0n));
  }
  return words;
}

function sponge(tag: bigint, elements: readonly bigint[]): bigint {
  let state = [0n, 0n, 0n, (tag << 32n) | BigInt(elements.length)];
  for (let at = 0; at < elements.length; at += 3) {
    const block = elements.slice(at, at + 3);
    state = permute(state.map((value, i) => (value + (block[i] ?? 0n)) % FIELD));
  }
  return state[0];
}
