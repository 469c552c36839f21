/** What a signer sees for itself before it signs: that the digest is of what it is said to be, and that the key is for that. */
import { Transaction, type TypedDataDomain } from "ethers";
import { shown } from "../problem";
import {
  batchDigest,
  disclosureDigest,
  disclosureFromJson,
  findingDigest,
  findingFromJson,
  headerFromJson,
  MalformedMessage,
  measurementDigest,
  measurementFromJson,
  proposalDigest,
  receiptDigest,
  receiptFromJson,
  retrievalDigest,
  retrievalFromJson,
  seedRequestDigest,
  seedRequestFromJson,
} from "../protocol/messages";
import { PURPOSES, type Purpose } from "./digestSigner";
import type { SignedBatches } from "./signedBatches";

/** What is asked of a signer. */
export interface Question {
  address: string;
  purpose: Purpose;
  digest: string;
  message: unknown;
}

/** The key doesn't sign this: a sentence that says why. */
export class SigningRefused extends Error {
  override name = "SigningRefused";
}

export interface Rules {
  domain: TypedDataDomain & { chainId: bigint };
  purposes: readonly Purpose[];
  calls: readonly string[];
}

/** @throws MalformedMessage */
export function questionOf(body: unknown): Question {
  const { address, purpose, digest, message } = (body ?? {}) as Record<string, unknown>;
  if (typeof address !== "string") throw new MalformedMessage(`address must be a key's, not ${shown(address)}`);
  if (!(PURPOSES as readonly unknown[]).includes(purpose)) {
    throw new MalformedMessage(`purpose must be one of ${PURPOSES.join(", ")}, not ${shown(purpose)}`);
  }
  if (typeof digest !== "string" || !/^0x[0-9a-f]{64}$/.test(digest)) {
    throw new MalformedMessage(`digest must be 32 bytes in lowercase hex, not ${shown(digest)}`);
  }
  return { address, purpose: purpose as Purpose, digest, message };
}

/**
 * Returns if the key may sign.
 * @throws SigningRefused, MalformedMessage
 */
export function requireAllowed(
  { address, purpose, digest, message }: Question,
  rules: Rules,
  batches: SignedBatches,
): void {
  refuseUnless(rules.purposes.includes(purpose), `${address} signs ${rules.purposes.join(", ")}, and no ${purpose}`);
  const found =
    purpose === "transaction"
      ? transactionDigest(address, message, rules)
      : messageDigest(purpose, message, rules.domain);
  refuseUnless(
    found === digest,
    `the ${purpose}'s digest is ${found} on chain ${rules.domain.chainId}, and not ${digest}`,
  );
  if (purpose !== "batch") return;
  const header = headerFromJson(message);
  const before = batches.note(address, header, digest);
  refuseUnless(
    before === digest,
    `${address} signed batch ${before} for number ${header.sequence} of this lane: another would cost its bond`,
  );
}

type OfMessage = Exclude<Purpose, "transaction">;

function messageDigest(purpose: OfMessage, message: unknown, domain: TypedDataDomain): string {
  switch (purpose) {
    case "receipt":
      return receiptDigest(domain, receiptFromJson(message));
    case "proposal":
      return proposalDigest(domain, { batchId: (message as { batchId?: unknown } | null)?.batchId as string });
    case "measurement":
      return measurementDigest(domain, measurementFromJson(message));
    case "batch":
      return batchDigest(domain, headerFromJson(message));
    case "seed request":
      return seedRequestDigest(domain, seedRequestFromJson(message));
    case "finding":
      return findingDigest(domain, findingFromJson(message));
    case "disclosure":
      return disclosureDigest(domain, disclosureFromJson(message));
    case "retrieval":
      return retrievalDigest(domain, retrievalFromJson(message));
  }
}

/** Of a transaction that moves no ether, and calls whom it may; or nobody, as one that takes the place of a stuck one does. */
function transactionDigest(account: string, message: unknown, { domain, calls }: Rules): string {
  const { chainId, to, value, data, unsignedHash } = transactionOf(message);
  refuseUnless(
    chainId === domain.chainId,
    `the transaction is for chain ${chainId}, and this key is for ${domain.chainId}`,
  );
  refuseUnless(
    to !== null && (calls.includes(to) || (to === account && data === "0x")),
    `the transaction calls ${to ?? "nobody"}, and not ${calls.join(" or ")}`,
  );
  refuseUnless(value === 0n, `the transaction sends ${value} wei, and this key sends none`);
  return unsignedHash;
}

function transactionOf(message: unknown): Transaction {
  const { unsigned } = (message ?? {}) as { unsigned?: unknown };
  try {
    return Transaction.from(unsigned as string);
  } catch (cause) {
    throw new MalformedMessage(`unsigned must be a transaction without a signature, not ${shown(unsigned)}`, { cause });
  }
}

function refuseUnless(holds: boolean, sentence: string): void {
  if (!holds) throw new SigningRefused(sentence);
}
