/** Points of BN254 as barretenberg's files hold them: coordinates of 32 bytes, the highest first; of G2 the real part first. */
import { bn254 } from "@noble/curves/bn254";

export const G1_BYTES = 64;
export const G2_BYTES = 128;

const { G1, G2, fields } = bn254;
const { Fp12, Fr } = fields;

export type G1Point = InstanceType<typeof G1.ProjectivePoint>;
export type G2Point = InstanceType<typeof G2.ProjectivePoint>;

/** Order of both groups. */
export const ORDER = Fr.ORDER;
export const G1_GENERATOR: G1Point = G1.ProjectivePoint.BASE;
export const G2_GENERATOR: G2Point = G2.ProjectivePoint.BASE;

export const scalarToBytes = (scalar: bigint): Uint8Array => Buffer.from(scalar.toString(16).padStart(64, "0"), "hex");

export const bytesToScalar = (bytes: Uint8Array): bigint => BigInt(`0x${Buffer.from(bytes).toString("hex")}`);

export function g1ToBytes(point: G1Point): Uint8Array {
  const { x, y } = point.toAffine();
  return Buffer.concat([scalarToBytes(x), scalarToBytes(y)]);
}

export function g2ToBytes(point: G2Point): Uint8Array {
  const { x, y } = point.toAffine();
  return Buffer.concat([x.c0, x.c1, y.c0, y.c1].map(scalarToBytes));
}

/** @throws Error if it isn't on the curve; every point of that is in the group */
export function g1FromBytes(bytes: Uint8Array): G1Point {
  const point = G1.ProjectivePoint.fromAffine({ x: wordAt(bytes, 0), y: wordAt(bytes, 1) });
  point.assertValidity();
  return point;
}

/** @throws Error if it isn't on the curve, or not in the group */
export function g2FromBytes(bytes: Uint8Array): G2Point {
  const [x0, x1, y0, y1] = [0, 1, 2, 3].map((at) => wordAt(bytes, at));
  const point = G2.ProjectivePoint.fromAffine({ x: { c0: x0, c1: x1 }, y: { c0: y0, c1: y1 } });
  point.assertValidity();
  return point;
}

/** The sum of points, each as often as its scalar says. */
export const sumOf = (points: G1Point[], scalars: bigint[]): G1Point => G1.ProjectivePoint.msm(points, scalars);

/** Whether e(a, b) = e(c, d). */
export function pairsEqual(a: G1Point, b: G2Point, c: G1Point, d: G2Point): boolean {
  const product = bn254.pairingBatch([
    { g1: a, g2: b },
    { g1: c.negate(), g2: d },
  ]);
  return Fp12.eql(product, Fp12.ONE);
}

const wordAt = (bytes: Uint8Array, at: number): bigint => bytesToScalar(bytes.subarray(at * 32, at * 32 + 32));
