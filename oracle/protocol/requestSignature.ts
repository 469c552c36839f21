/**
 * The signature of a request by its grant's key, as it travels, is kept and is hashed: when it was signed, in 5 bytes, and the
 * 65 bytes of the signature. A receipt has the hash of these 70 bytes; who shows them proves, with the grant and the receipt,
 * that the licensee asked.
 */
import { hexOf } from "./hex";
import type { TypedDataDomain } from "ethers";
import { keccak } from "./keccak";
import { MalformedMessage, recoverSigner, requestDigest } from "./messages";
import type { Receipt, RequestStatement } from "./types";

/** The HTTP header in which a request's signature comes, in hex with 0x. */
export const REQUEST_SIGNATURE_HEADER = "x-licet-request-signature";

export const REQUEST_SIGNATURE_BYTES = 70;
const TIME_BYTES = 5;

/** @param signature 65 bytes with the lower s, over the request's digest */
export function packRequestSignature(at: number, signature: string): string {
  return `0x${at.toString(16).padStart(2 * TIME_BYTES, "0")}${signature.slice(2)}`;
}

/** @throws MalformedMessage unless it is 70 bytes in hex */
export function requestSignatureBytes(packed: unknown): Buffer {
  if (typeof packed === "string" && /^0x([0-9a-fA-F]{2}){70}$/.test(packed)) return Buffer.from(packed.slice(2), "hex");
  throw new MalformedMessage(
    `a request's signature must be ${REQUEST_SIGNATURE_BYTES} bytes in hex with 0x: its time in ${TIME_BYTES}, and the signature`,
  );
}

/** What a receipt says of a request's signature. */
export function requestSignatureHash(packed: Uint8Array): string {
  return hexOf(keccak(packed));
}

/** When it was signed, Unix seconds. */
export function requestSignedAt(packed: Uint8Array): number {
  return Buffer.from(packed).readUIntBE(0, TIME_BYTES);
}

/**
 * The checksummed address that signed a request, by what its receipt says of it.
 * @throws MalformedMessage if the signature is of nobody, or isn't the one with the lower s
 */
export function requestSigner(
  domain: TypedDataDomain,
  { grantHash, requestHash }: Pick<Receipt, "grantHash" | "requestHash">,
  packed: Uint8Array,
): string {
  const request: RequestStatement = { grantHash, requestHash, at: requestSignedAt(packed) };
  return recoverSigner(requestDigest(domain, request), hexOf(packed.subarray(TIME_BYTES)));
}
