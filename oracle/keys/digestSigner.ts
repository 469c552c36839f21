import { computeAddress, type TypedDataDomain } from "ethers";
import {
  batchDigest,
  disclosureDigest,
  disclosureToJson,
  findingDigest,
  findingToJson,
  headerToJson,
  measurementDigest,
  measurementToJson,
  proposalDigest,
  receiptDigest,
  receiptToJson,
  retrievalDigest,
  retrievalToJson,
  seedRequestDigest,
  seedRequestToJson,
  signDigest,
} from "../protocol/messages";
import type {
  BatchHeader,
  Disclosure,
  Finding,
  Measurement,
  Proposal,
  Receipt,
  Retrieval,
  SeedRequest,
} from "../protocol/types";

/** What a key of an operator or an attestor signs. */
export const PURPOSES = [
  "receipt",
  "proposal",
  "measurement",
  "batch",
  "seed request",
  "finding",
  "retrieval",
  "disclosure",
  "transaction",
] as const;
export type Purpose = (typeof PURPOSES)[number];

/** A digest, and what it is of, so that whoever signs can see for itself. */
export interface Signable {
  purpose: Purpose;
  /** 32 bytes, in hex. */
  digest: string;
  /** Of the message; a transaction has none. */
  domain: TypedDataDomain | null;
  /** What the digest is of, as JSON. */
  json(): unknown;
}

/** A key that signs, wherever it is. */
export interface DigestSigner {
  /** Checksummed. */
  readonly address: string;
  /**
   * The 65-byte signature r ‖ s ‖ v of the digest, with the lower s, v being 27 or 28.
   * @throws if it can't be had
   */
  sign(signable: Signable): string | Promise<string>;
}

/** A key in this process. It signs anything. */
export interface LocalSigner extends DigestSigner {
  sign(signable: Pick<Signable, "digest">): string;
}

/** @param privateKey 32 bytes, in hex */
export function localSigner(privateKey: string): LocalSigner {
  return { address: computeAddress(privateKey), sign: ({ digest }) => signDigest(privateKey, digest) };
}

type OfMessage<T> = (domain: TypedDataDomain, message: T) => Signable;

const ofMessage =
  <T>(purpose: Purpose, digest: (domain: TypedDataDomain, message: T) => string, json: (message: T) => unknown) =>
  (domain: TypedDataDomain, message: T): Signable => ({
    purpose,
    digest: digest(domain, message),
    domain,
    json: () => json(message),
  });

export const receiptToSign: OfMessage<Receipt> = ofMessage("receipt", receiptDigest, receiptToJson);
export const proposalToSign: OfMessage<Proposal> = ofMessage("proposal", proposalDigest, ({ batchId }) => ({
  batchId,
}));
export const retrievalToSign: OfMessage<Retrieval> = ofMessage("retrieval", retrievalDigest, retrievalToJson);
export const disclosureToSign: OfMessage<Disclosure> = ofMessage("disclosure", disclosureDigest, disclosureToJson);
export const measurementToSign: OfMessage<Measurement> = ofMessage("measurement", measurementDigest, measurementToJson);
export const seedRequestToSign: OfMessage<SeedRequest> = ofMessage(
  "seed request",
  seedRequestDigest,
  seedRequestToJson,
);
export const findingToSign: OfMessage<Finding> = ofMessage("finding", findingDigest, findingToJson);
export const batchToSign: OfMessage<BatchHeader> = ofMessage("batch", batchDigest, headerToJson);
