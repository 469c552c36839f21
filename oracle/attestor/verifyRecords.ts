/** The work of a thread that checks receipts' signatures: records in, who signed them out, both as bytes. */
import { parentPort, workerData } from "node:worker_threads";
import type { TypedDataDomain } from "ethers";
import { MalformedMessage } from "../protocol/messages";
import { keccakLoaded } from "../protocol/keccak";
import { RECORD_BYTES, recordDigest, recordLeaf, recordSigner } from "../protocol/receiptBytes";

/** Of each record: its hash, its leaf's, and the signer's address, which is zeros if its signature is of nobody. */
export const VERDICT_BYTES = 32 + 32 + 20;
export const LEAF_AT = 32;
export const SIGNER_AT = 64;

/** @param records one after another, without a frame's version */
export function verifyRecords(domain: TypedDataDomain, records: Uint8Array): Uint8Array<ArrayBuffer> {
  const count = records.length / RECORD_BYTES;
  const verdicts = new Uint8Array(count * VERDICT_BYTES);
  for (let i = 0; i < count; i++) {
    const record = records.subarray(i * RECORD_BYTES, (i + 1) * RECORD_BYTES);
    const digest = recordDigest(domain, record);
    verdicts.set(digest, i * VERDICT_BYTES);
    verdicts.set(recordLeaf(record, digest), i * VERDICT_BYTES + LEAF_AT);
    try {
      verdicts.set(recordSigner(record, digest), i * VERDICT_BYTES + SIGNER_AT);
    } catch (error) {
      if (!(error instanceof MalformedMessage)) throw error;
    }
  }
  return verdicts;
}

/** What goes to a thread and comes back: which job it is, and its bytes. */
export interface VerifierMessage {
  job: number;
  bytes: Uint8Array<ArrayBuffer>;
}

/** In a thread: answers each message, until the process ends. */
export async function serveVerifier(): Promise<void> {
  await keccakLoaded;
  const { domain } = workerData as { domain: TypedDataDomain };
  parentPort!.on("message", ({ job, bytes }: VerifierMessage) => {
    const verdicts = verifyRecords(domain, bytes);
    parentPort!.postMessage({ job, bytes: verdicts } satisfies VerifierMessage, [verdicts.buffer]);
  });
}
