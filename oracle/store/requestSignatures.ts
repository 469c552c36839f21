/**
 * The signatures of requests (`requestSignature.ts`): an operator's, each used by one request, and an attestor's, each of one
 * receipt of an operator's. One that is here already can't be used again.
 */
import type { Database, Queries } from "./database";
import { requestSignatureHashIn, subjectOf } from "../protocol/receiptBytes";
import { requestSignatureHash, requestSignedAt } from "../protocol/requestSignature";

/** A statement takes so many values at once. */
const AT_ONCE = 1_000;

export interface StoredRequestSignature {
  /** Its time and the signature: 70 bytes. */
  packed: Uint8Array;
  /** The request, by its id, or the receipt, by its hash, that had it first. */
  usedBy: string;
}

export class RequestSignatures {
  constructor(private readonly db: Database) {}

  /** Those of these hashes that an operator's requests have, by their hash. */
  of(operatorId: number, hashes: readonly string[]): Promise<Map<string, StoredRequestSignature>> {
    return requestSignaturesBy(this.db, operatorId, hashes);
  }

  /** Drops the signatures of requests that were signed before a time (Unix seconds). */
  async drop(signedBefore: number): Promise<void> {
    await dropRequestSignatures(this.db, signedBefore);
  }
}

/** Notes what a signature is used by. @returns false if it was used before, by this operator: then nothing changes */
export async function useRequestSignature(
  queries: Queries,
  operatorId: number,
  packed: Uint8Array,
  usedBy: string,
): Promise<boolean> {
  const changes = await queries.run("INSERT INTO request_signatures VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING", [
    operatorId,
    requestSignatureHash(packed),
    packed,
    usedBy,
    requestSignedAt(packed),
  ]);
  return changes > 0;
}

/** Forgets what a request used that wasn't served. */
export async function freeRequestSignature(queries: Queries, requestId: string): Promise<void> {
  await queries.run("DELETE FROM request_signatures WHERE used_by = ?", [requestId]);
}

/** Those of these hashes that an operator's receipts have, by their hash. */
export async function requestSignaturesBy(
  queries: Queries,
  operatorId: number,
  hashes: readonly string[],
): Promise<Map<string, StoredRequestSignature>> {
  const found = new Map<string, StoredRequestSignature>();
  for (let from = 0; from < hashes.length; from += AT_ONCE) {
    const some = hashes.slice(from, from + AT_ONCE);
    const rows = await queries.all(
      `SELECT request_signature_hash, packed, used_by FROM request_signatures
       WHERE operator_id = ? AND request_signature_hash IN (${some.map(() => "?").join(", ")})`,
      [operatorId, ...some],
    );
    for (const row of rows) {
      const signature = { packed: row.packed as Uint8Array, usedBy: row.used_by as string };
      found.set(row.request_signature_hash as string, signature);
    }
  }
  return found;
}

/** Records of an operator's receipts, and after each the signature of its request, if it has one that is here. */
export async function withRequestSignatures(queries: Queries, records: readonly Uint8Array[]): Promise<Uint8Array[]> {
  const hashes = records.map(requestSignatureHashIn);
  const signed = hashes.flatMap((hash) => hash ?? []);
  if (signed.length === 0) return [...records];
  const found = await requestSignaturesBy(queries, subjectOf(records[0]).operatorId, signed);
  return records.map((record, i) => {
    const signature = found.get(hashes[i] ?? "");
    return signature === undefined ? record : Buffer.concat([record, signature.packed]);
  });
}

/** @returns how many were signed before a time, Unix seconds, and are forgotten */
export function dropRequestSignatures(queries: Queries, signedBefore: number): Promise<number> {
  return queries.run("DELETE FROM request_signatures WHERE signed_at < ?", [signedBefore]);
}
