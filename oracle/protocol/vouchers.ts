import { createPublicKey, sign, verify, type KeyObject } from "node:crypto";
import {
  concat,
  getAddress,
  getBytes,
  hexlify,
  isHexString,
  Signature,
  TypedDataEncoder,
  type Signer,
  type TypedDataDomain,
} from "ethers";
import { shown } from "../problem";
import { MAX_ENTRIES } from "./entries";
import { recoverSigner } from "./messages";

/** A licensee's word on all that it has spent with an operator in a term: the next one replaces it. */
export interface Voucher {
  licenseId: bigint;
  operatorId: number;
  /** The license's, in which the key was registered. */
  generation: number;
  /** Number of the term, from 0. */
  term: number;
  /** Units of the currency, cumulative. */
  spent: bigint;
}

export interface SignedVoucher {
  voucher: Voucher;
  /** 64 bytes of an ECDSA key, r ‖ vs (EIP-2098), or 128 of a P-256 key, qx ‖ qy ‖ r ‖ s; each with the lower s. */
  signature: string;
}

/** What settlement did with a voucher. */
export const VoucherStatus = {
  Charged: 0,
  /** Charged as far as the balance went: the rest is due once there is more. */
  BalanceExhausted: 1,
  /** Charged as far as a cap allowed: the plan's, the licensee's or the key's. */
  CapReached: 2,
  /** No more than was charged before. */
  NothingDue: 3,
  UnknownLicense: 4,
  WrongPlan: 5,
  WrongOperator: 6,
  WrongRoad: 7,
  /** The term hasn't begun, or isn't for this caller to begin yet. */
  TermNotRunning: 8,
  TermClosed: 9,
  /** No key of the license's has signed it. */
  KeyUnknown: 10,
  KeyRevoked: 11,
  GenerationEnded: 12,
  /** The license was locked or ended before. */
  Stopped: 13,
} as const;

export type VoucherStatusName = keyof typeof VoucherStatus;
const STATUS_NAMES = Object.keys(VoucherStatus) as VoucherStatusName[];

export interface VoucherOutcome {
  licenseId: bigint;
  term: number;
  /** Units of the currency. */
  charged: bigint;
  status: VoucherStatusName;
}

/** A voucher as ethers' `signTypedData` and `TypedDataEncoder` take it. The domain is that of all messages of the escrow. */
export const VOUCHER_TYPES = {
  Voucher: [
    { name: "licenseId", type: "uint64" },
    { name: "operatorId", type: "uint24" },
    { name: "generation", type: "uint16" },
    { name: "term", type: "uint16" },
    { name: "spent", type: "uint56" },
  ],
};

const HEAD_BYTES = 20;
const OUTCOME_BYTES = 18;
const SPENT_LIMIT = 2n ** 56n;
/** Of the schemes by their numbers: ECDSA, P-256. */
const SIGNATURE_BYTES = [64, 128];
/** The escrow takes no more bytes than so many vouchers of ECDSA keys have. */
const MOST_BYTES = MAX_ENTRIES * (HEAD_BYTES + SIGNATURE_BYTES[0]);

/** Of one half of a P-256 key or signature. */
const HALF_BYTES = 32;
const P256_ORDER = 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n;

/** What a voucher's key signs: the EIP-712 digest. */
export const voucherDigest = (domain: TypedDataDomain, voucher: Voucher): string =>
  TypedDataEncoder.hash(domain, VOUCHER_TYPES, voucher);

/** A voucher signed by a wallet, whose address is an ECDSA key. */
export async function signVoucher(domain: TypedDataDomain, voucher: Voucher, signer: Signer): Promise<SignedVoucher> {
  const signature = Signature.from(await signer.signTypedData(domain, VOUCHER_TYPES, voucher));
  return { voucher, signature: signature.compactSerialized };
}

/** A voucher signed by a P-256 key as passkeys and secure enclaves sign: over the SHA-256 of the digest. */
export function signVoucherByP256(domain: TypedDataDomain, voucher: Voucher, privateKey: KeyObject): SignedVoucher {
  const point = p256KeyBytes(privateKey);
  const digest = getBytes(voucherDigest(domain, voucher));
  const pair = sign("sha256", digest, { key: privateKey, dsaEncoding: "ieee-p1363" });
  return { voucher, signature: concat([point, withLowerS(pair)]) };
}

/** An ECDSA key as the escrow registers it: its address. */
export const ecdsaKeyBytes = (address: string): string => getAddress(address).toLowerCase();

/** A P-256 key as the escrow registers it: qx ‖ qy. Throws RangeError on a key of another curve. */
export function p256KeyBytes(key: KeyObject): string {
  const { crv, x, y } = key.export({ format: "jwk" });
  if (crv !== "P-256" || x === undefined || y === undefined) {
    throw new RangeError(`a voucher's key must be of the curve P-256, not ${crv ?? key.asymmetricKeyType}`);
  }
  return hexlify(Buffer.concat([Buffer.from(x, "base64url"), Buffer.from(y, "base64url")]));
}

/**
 * The key that signed a voucher, as the escrow registers it. Throws RangeError if none did: a P-256 key that it names hasn't, or
 * its signature is of no ECDSA key or not the one with the lower s.
 */
export function voucherKeyOf(domain: TypedDataDomain, { voucher, signature }: SignedVoucher): string {
  const digest = voucherDigest(domain, voucher);
  const signed = Buffer.from(getBytes(signature));
  if (signed.length === SIGNATURE_BYTES[0]) return ecdsaKeyBytes(ecdsaSignerOf(digest, signature));
  const [point, pair] = [signed.subarray(0, 2 * HALF_BYTES), signed.subarray(2 * HALF_BYTES)];
  if (!withLowerS(pair).equals(pair)) throw new RangeError("a voucher's signature must be the one with the lower s");
  if (!isSignedByPoint(point, pair, digest)) throw new RangeError(`${hexlify(point)} hasn't signed the voucher`);
  return hexlify(point);
}

function ecdsaSignerOf(digest: string, signature: string): string {
  try {
    return recoverSigner(digest, Signature.from(signature).serialized);
  } catch (cause) {
    throw new RangeError(`no ECDSA key has signed the voucher: ${(cause as Error).message}`, { cause });
  }
}

function isSignedByPoint(point: Buffer, pair: Buffer, digest: string): boolean {
  const [x, y] = [point.subarray(0, HALF_BYTES), point.subarray(HALF_BYTES)].map((half) => half.toString("base64url"));
  try {
    const key = createPublicKey({ key: { kty: "EC", crv: "P-256", x, y }, format: "jwk" });
    return verify("sha256", getBytes(digest), { key, dsaEncoding: "ieee-p1363" }, pair);
  } catch {
    // The point isn't on the curve.
    return false;
  }
}

/** One voucher of an operator's, as `packVouchers` packs it. Throws RangeError unless it is exactly that. */
export function unpackVoucher(packed: string, operatorId: number): SignedVoucher {
  if (!isHexString(packed)) throw new RangeError(`a voucher must be hex with 0x, not ${shown(packed)}`);
  const bytes = Buffer.from(getBytes(packed));
  const signatureBytes = SIGNATURE_BYTES[bytes[0] ?? SIGNATURE_BYTES.length];
  if (signatureBytes === undefined) throw new RangeError(`a voucher's first byte must be 0 or 1, not ${bytes[0]}`);
  if (bytes.length !== HEAD_BYTES + signatureBytes) {
    throw new RangeError(
      `a voucher of scheme ${bytes[0]} has ${HEAD_BYTES + signatureBytes} bytes, not ${bytes.length}`,
    );
  }
  const voucher = {
    licenseId: bytes.readBigUInt64BE(1),
    operatorId,
    generation: bytes.readUInt16BE(9),
    term: bytes.readUInt16BE(11),
    spent: bytes.readBigUInt64BE(12) & (SPENT_LIMIT - 1n),
  };
  return { voucher, signature: hexlify(bytes.subarray(HEAD_BYTES)) };
}

/**
 * Vouchers as settlement takes them, in hex: those of a license in the order in which they shall be charged. Throws RangeError
 * unless they are of one operator, ascend by license, and fit.
 */
export function packVouchers(vouchers: readonly SignedVoucher[]): string {
  refuseMixture(vouchers.map(({ voucher }) => voucher));
  const packed = concat(vouchers.map(packVoucher));
  const length = packed.length / 2 - 1;
  if (length > MOST_BYTES) throw new RangeError(`${length} bytes of vouchers: a call takes ${MOST_BYTES}`);
  return packed;
}

export function packVoucherOutcomes(outcomes: readonly VoucherOutcome[]): string {
  const packed = Buffer.alloc(outcomes.length * OUTCOME_BYTES);
  outcomes.forEach(({ licenseId, term, charged, status }, i) => {
    const start = i * OUTCOME_BYTES;
    packed.writeBigUInt64BE(licenseId, start);
    packed.writeUInt16BE(term, start + 8);
    packed.writeBigUInt64BE((charged << 8n) | BigInt(VoucherStatus[status]), start + 10);
  });
  return hexlify(packed);
}

/** What a VouchersSettled event says of each voucher, in the vouchers' order. Throws RangeError on an unknown status. */
export function unpackVoucherOutcomes(packed: string): VoucherOutcome[] {
  const bytes = Buffer.from(getBytes(packed));
  if (bytes.length % OUTCOME_BYTES !== 0) {
    throw new RangeError(
      `outcomes of vouchers must come in records of ${OUTCOME_BYTES} bytes, not ${bytes.length} bytes`,
    );
  }
  return Array.from({ length: bytes.length / OUTCOME_BYTES }, (_, i) => {
    const start = i * OUTCOME_BYTES;
    const code = bytes[start + OUTCOME_BYTES - 1];
    if (code >= STATUS_NAMES.length) throw new RangeError(`${code} is no voucher status`);
    return {
      licenseId: bytes.readBigUInt64BE(start),
      term: bytes.readUInt16BE(start + 8),
      charged: bytes.readBigUInt64BE(start + 10) >> 8n,
      status: STATUS_NAMES[code],
    };
  });
}

function packVoucher({ voucher, signature }: SignedVoucher): Buffer {
  const { licenseId, generation, term, spent } = voucher;
  const signed = getBytes(signature);
  const scheme = SIGNATURE_BYTES.indexOf(signed.length);
  if (scheme < 0) {
    throw new RangeError(`a voucher's signature must have ${SIGNATURE_BYTES.join(" or ")} bytes, not ${signed.length}`);
  }
  if (spent < 0n || spent >= SPENT_LIMIT) throw new RangeError(`spent must fit in uint56, not ${spent}`);
  const head = Buffer.alloc(HEAD_BYTES);
  head.writeUInt8(scheme, 0);
  head.writeBigUInt64BE(licenseId, 1);
  head.writeUInt16BE(generation, 9);
  // Eight bytes, of which `spent` has the last seven: the term's second byte is written over the first.
  head.writeBigUInt64BE(spent, 12);
  head.writeUInt16BE(term, 11);
  return Buffer.concat([head, signed]);
}

function refuseMixture(vouchers: readonly Voucher[]): void {
  vouchers.slice(1).forEach(({ licenseId, operatorId }, i) => {
    const before = vouchers[i];
    if (operatorId !== before.operatorId) {
      throw new RangeError(`vouchers must be of one operator, not of ${before.operatorId} and ${operatorId}`);
    }
    if (licenseId < before.licenseId) {
      throw new RangeError(`vouchers must ascend by license: ${licenseId} comes after ${before.licenseId}`);
    }
  });
}

/** The signature r ‖ s, or its twin for the same message: the escrow takes the one with the lower s. */
function withLowerS(pair: Buffer): Buffer {
  const s = BigInt(hexlify(pair.subarray(32)));
  if (s <= P256_ORDER / 2n) return pair;
  const lower = (P256_ORDER - s).toString(16).padStart(64, "0");
  return Buffer.concat([pair.subarray(0, 32), Buffer.from(lower, "hex")]);
}
