/**
 * A setup for proofs, made by several parties: the powers of a number that nobody knows, as points. Each party multiplies
 * the number by a secret of its own and forgets that; who trusts one of them trusts the setup. The transcript proves that
 * each knew its secret and that the last powers are powers of one number.
 */
import { createHash, randomBytes } from "node:crypto";
import {
  bytesToScalar,
  G1_BYTES,
  G1_GENERATOR,
  g1FromBytes,
  g1ToBytes,
  G2_GENERATOR,
  g2FromBytes,
  g2ToBytes,
  ORDER,
  pairsEqual,
  scalarToBytes,
  sumOf,
  type G1Point,
} from "./points";
import { Problem } from "../../oracle/problem";

/** What a party adds to the transcript. Points in hex. */
export interface Contribution {
  party: string;
  /** The number's first power, with this party's secret in it. */
  power: string;
  /** The same in G2. */
  powerInG2: string;
  /** A Schnorr proof that the party knew its secret: of `power` over the power before. */
  proof: { commitment: string; response: string };
}

export interface Setup {
  /** Points of G1 in a row: the generator, then the generator times each power of the number. */
  powers: Uint8Array;
  /** The generator of G2 times the number. */
  powerInG2: Uint8Array;
  transcript: Contribution[];
}

/** Multiplies points of G1, which takes almost all of a ceremony's time. */
export type Multiply = (point: Uint8Array, scalar: Uint8Array) => Uint8Array;
export type OnProgress = (done: number, total: number) => void;

/** So many points are multiplied before others get a turn. */
const AT_ONCE = 256;
const WEIGHT_BYTES = 16;

/** A setup of no number yet: all powers are those of 1. */
export function emptySetup(size: number): Setup {
  const powers = new Uint8Array(size * G1_BYTES);
  for (let at = 0; at < size; at++) powers.set(g1ToBytes(G1_GENERATOR), at * G1_BYTES);
  return { powers, powerInG2: g2ToBytes(G2_GENERATOR), transcript: [] };
}

/** Adds a party's secret, which nothing keeps. */
export async function contribute(
  { powers, powerInG2, transcript }: Setup,
  party: string,
  multiply: Multiply,
  onProgress: OnProgress = () => {},
): Promise<Setup> {
  const secret = randomScalar();
  const count = powers.length / G1_BYTES;
  const next = Uint8Array.from(powers);
  let factor = secret;
  for (let at = 1; at < count; at++) {
    next.set(multiply(powerAt(powers, at), scalarToBytes(factor)), at * G1_BYTES);
    factor = (factor * secret) % ORDER;
    if (at % AT_ONCE !== 0 && at + 1 < count) continue;
    onProgress(at + 1, count);
    await new Promise(setImmediate);
  }
  const contribution = signed({
    ...{ party, secret, transcript },
    before: powerAt(powers, 1),
    power: powerAt(next, 1),
    powerInG2: g2ToBytes(g2FromBytes(powerInG2).multiply(secret)),
  });
  return { powers: next, powerInG2: bytesOf(contribution.powerInG2), transcript: [...transcript, contribution] };
}

interface Signing {
  party: string;
  secret: bigint;
  transcript: readonly Contribution[];
  before: Uint8Array;
  power: Uint8Array;
  powerInG2: Uint8Array;
}

function signed({ party, secret, transcript, before, power, powerInG2 }: Signing): Contribution {
  const nonce = randomScalar();
  const commitment = g1ToBytes(g1FromBytes(before).multiply(nonce));
  const challenge = challengeOf(transcript, party, before, power, commitment);
  const response = (nonce + challenge * secret) % ORDER;
  return {
    party,
    power: hexOf(power),
    powerInG2: hexOf(powerInG2),
    proof: { commitment: hexOf(commitment), response: hexOf(scalarToBytes(response)) },
  };
}

/** @throws Problem that says what of the setup isn't what its transcript says */
export function verifySetup({ powers, powerInG2, transcript }: Setup): void {
  if (transcript.length === 0) throw new Problem("The setup's transcript names no party: it is one of the number 1.");
  const last = transcript.reduce((before, contribution, at) => {
    requireContribution(contribution, before, transcript.slice(0, at));
    return bytesOf(contribution.power);
  }, g1ToBytes(G1_GENERATOR));
  if (!same(powerAt(powers, 0), g1ToBytes(G1_GENERATOR)) || !same(powerAt(powers, 1), last)) {
    throw new Problem("The setup's first powers aren't those that its transcript ends with: fetch both anew.");
  }
  if (hexOf(powerInG2) !== transcript[transcript.length - 1].powerInG2) {
    throw new Problem("The setup's power in G2 isn't that which its transcript ends with: fetch both anew.");
  }
  requirePowers(powers, powerInG2);
}

function requireContribution(contribution: Contribution, before: Uint8Array, earlier: readonly Contribution[]): void {
  const { party, proof } = contribution;
  const power = bytesOf(contribution.power);
  const [from, to] = [g1FromBytes(before), g1FromBytes(power)];
  const challenge = challengeOf(earlier, party, before, power, bytesOf(proof.commitment));
  const shown = from.multiply(bytesToScalar(bytesOf(proof.response)));
  if (!shown.equals(g1FromBytes(bytesOf(proof.commitment)).add(to.multiply(challenge)))) {
    throw new Problem(`${party} doesn't prove that it knew the secret of its contribution to the setup.`);
  }
  if (to.equals(from)) throw new Problem(`${party}'s secret in the setup is 1: it contributed nothing.`);
}

/** By random weights: were one power wrong, the sums would differ but for a chance of 2^-128. */
function requirePowers(powers: Uint8Array, powerInG2: Uint8Array): void {
  const count = powers.length / G1_BYTES;
  const points = Array.from({ length: count }, (_, at) => pointOf(powers, at));
  const inG2 = g2FromBytes(powerInG2);
  const weights = Array.from({ length: count - 1 }, () => bytesToScalar(randomBytes(WEIGHT_BYTES)) + 1n);
  const lower = sumOf(points.slice(0, -1), weights);
  const upper = sumOf(points.slice(1), weights);
  if (pairsEqual(points[1], G2_GENERATOR, G1_GENERATOR, inG2) && pairsEqual(upper, G2_GENERATOR, lower, inG2)) return;
  throw new Problem("The setup's powers aren't those of one number: fetch it anew.");
}

function pointOf(powers: Uint8Array, at: number): G1Point {
  try {
    return g1FromBytes(powerAt(powers, at));
  } catch (cause) {
    throw new Problem(`Power ${at} of the setup is no point of the curve: fetch it anew.`, { cause });
  }
}

function challengeOf(earlier: readonly Contribution[], party: string, ...points: Uint8Array[]): bigint {
  const hash = createHash("sha512").update(JSON.stringify([earlier, party]));
  for (const point of points) hash.update(point);
  return bytesToScalar(hash.digest()) % ORDER;
}

export const powerAt = (powers: Uint8Array, at: number): Uint8Array =>
  powers.subarray(at * G1_BYTES, (at + 1) * G1_BYTES);

const randomScalar = (): bigint => (bytesToScalar(randomBytes(64)) % (ORDER - 1n)) + 1n;
const hexOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");
const bytesOf = (hex: string): Uint8Array => Buffer.from(hex, "hex");
const same = (a: Uint8Array, b: Uint8Array): boolean => Buffer.compare(a, b) === 0;
