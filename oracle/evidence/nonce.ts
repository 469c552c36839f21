import { AbiCoder, getBytes, hexlify, keccak256, toUtf8Bytes } from "ethers";
import { keccak } from "../protocol/keccak";

/** What evidence is asked for, and from whom. */
export interface NonceParts {
  chainId: bigint;
  /** UsageEscrow: the contract that the signer's receipts are for. */
  contract: string;
  operatorId: number;
  /** The address of the key that signs the operator's receipts. */
  receiptSigner: string;
  /** 32 random bytes that an attestor chose for this one time. */
  seed: string;
}

/** Separates these hashes from every other use of the same words. */
export const NONCE_TAG = keccak256(toUtf8Bytes("Licet evidence nonce 1"));

/**
 * The 32 bytes that hardware is asked to sign: keccak256(abi.encode(tag, chainId, contract, operator, receiptSigner,
 * seed)), six words. It shows that the evidence was made after the seed and for this operator and signer; who holds the
 * signer's key it doesn't show.
 */
export function nonceOf({ chainId, contract, operatorId, receiptSigner, seed }: NonceParts): string {
  return keccak256(
    AbiCoder.defaultAbiCoder().encode(
      ["bytes32", "uint256", "address", "uint256", "address", "bytes32"],
      [NONCE_TAG, chainId, contract, operatorId, receiptSigner, seed],
    ),
  );
}

/**
 * The 64 bytes that a CPU's measured code must have put into its report: the nonce, which it made of a receipt key of its own,
 * and the digest of the GPU evidence that it gathered itself under that nonce. Without the second half, reports of a GPU in
 * another machine would do.
 */
export function reportDataOf(nonce: string, gpuDigest: string): Buffer {
  return Buffer.concat([getBytes(nonce), getBytes(gpuDigest)]);
}

/** keccak256 of the hashes of each GPU's evidence, in the order in which they are sent. */
export function gpuDigestOf(evidence: readonly Uint8Array[]): string {
  return hexlify(keccak(Buffer.concat(evidence.map((bytes) => keccak(bytes)))));
}
