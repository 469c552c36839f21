/** A receipt's proof as it is kept in a file and sent about. */
import { isHexString } from "ethers";
import { nameOf, parseArchitecture, type Architecture } from "./architecture";
import type { PublicInputs } from "./circuit";
import type { Proof } from "./prover";
import { Problem, shown } from "../oracle/problem";

export interface ReceiptProof extends Omit<PublicInputs, "context"> {
  architecture: Architecture;
  /** The receipt's EIP-712 digest. */
  receiptHash: string;
  proof: string;
}

const FORMAT = "proof/1";
const WORDS = ["weightsCommitment", "requestHash", "responseHash", "receiptHash"] as const;

/** The file's content. */
export function asReceiptProof(
  { publicInputs, proof }: Proof,
  receiptHash: string,
  { architecture }: { architecture: Architecture },
) {
  const { weightsCommitment, requestHash, responseHash } = publicInputs;
  const words = { weightsCommitment, requestHash, responseHash, receiptHash };
  return { licet: FORMAT, architecture: nameOf(architecture), ...words, proof };
}

/** @throws Problem that names what isn't a proof's */
export function parseReceiptProof(text: string): ReceiptProof {
  let file: Record<string, unknown> | null;
  try {
    file = JSON.parse(text) as Record<string, unknown> | null;
  } catch (cause) {
    throw new Problem(`The proof isn't JSON: ${(cause as Error).message}`, { cause });
  }
  if (file?.licet !== FORMAT) {
    throw new Problem(`A proof's file says "licet": "${FORMAT}", as zk:prove writes it; this one doesn't.`);
  }
  for (const name of WORDS) {
    if (!isHexString(file[name], 32)) throw new Problem(`The proof's ${name} must be 32 bytes; it is ${shown(file[name])}.`); // prettier-ignore
  }
  if (!isHexString(file.proof)) throw new Problem(`The proof itself must be bytes; it is ${shown(file.proof)}.`);
  return { ...(file as unknown as ReceiptProof), architecture: parseArchitecture(String(file.architecture)) };
}
