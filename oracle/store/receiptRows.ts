import { receiptFromJson } from "../protocol/messages";
import { decodeReceipt, encodeReceipt } from "../protocol/receiptBytes";
import { type Epoch, type Lane, METERS, type SignedReceipt } from "../protocol/types";
import { counted } from "../settler/batches";
import type { Queries, Row, SqlValue } from "./database";
import { freeCost } from "./tallies";

/** `voucher` is one that vouchers pay: it comes into no batch. */
export type ReceiptState = "unbatched" | "batched" | "settled" | "void" | "voucher";

export interface StoredReceipt extends SignedReceipt {
  /** The receipt's EIP-712 digest. */
  hash: string;
  versionId: bigint;
  state: ReceiptState;
  /** The batch that it is in, if it is in one. */
  batchId: string | null;
  /** Its request's, where that isn't kept apart: 70 bytes. */
  requestSignature?: Uint8Array;
}

/** A lane's receipts that finished within a span and are in no batch: operator, plan, version, start, end. */
export const UNBATCHED_IN_SPAN =
  "state = 'unbatched' AND operator_id = ? AND plan_id = ? AND version_id = ? AND finished_at >= ? AND finished_at < ?";

/** Receipts with their batches' states: one in a batch is settled when that is, and nothing is written of it then. */
export const WITH_BATCH_STATE =
  "SELECT receipts.*, (SELECT state FROM batches WHERE batches.batch_id = receipts.batch_id) AS batch_state FROM receipts";

export const METER_COLUMNS = [
  "requests",
  "input_tokens",
  "cached_input_tokens",
  "output_tokens",
  "compute_ms",
] as const;

/** Whose receipts are read at once. */
export const LICENSES_AT_ONCE = 50;

/** One with a term is of no lane's business, whatever its state says: only vouchers pay it. */
export async function insertReceipt(
  queries: Queries,
  { receipt, hash, signature, versionId }: Pick<StoredReceipt, "receipt" | "hash" | "signature" | "versionId">,
  signer: string,
  cost: bigint,
  term: number | null,
): Promise<void> {
  const columns = "?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, NULL, '', '', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?";
  await queries.run(`INSERT INTO receipts VALUES (${columns})`, [
    hash,
    receipt.requestId,
    receipt.operatorId,
    receipt.licenseId,
    receipt.sequence,
    receipt.planId,
    versionId,
    receipt.grantHash,
    receipt.finishedAt,
    cost,
    term === null ? "unbatched" : "settled",
    signer,
    term,
    encodeReceipt({ receipt, signature }),
    (await lastPosition(queries)) + 1n,
    ...METERS.map((meter) => receipt[meter]),
    counted({ receipt, hash, signature }).leaf,
  ]);
}

export async function voidReceipts(queries: Queries, condition: string, values: SqlValue[]): Promise<number> {
  await freeCost(queries, `${condition} AND state IN ('unbatched', 'batched')`, values, 1);
  return queries.run(`UPDATE receipts SET state = 'void' WHERE ${condition}`, values);
}

export function signedReceiptOf({ record, body, signature }: Row): SignedReceipt {
  if (record !== null) return decodeReceipt(record as Uint8Array);
  return { receipt: receiptFromJson(JSON.parse(body as string)), signature: signature as string };
}

export function receiptOf(row: Row): StoredReceipt {
  return {
    ...signedReceiptOf(row),
    hash: row.receipt_hash as string,
    versionId: row.version_id as bigint,
    state: row.term !== null ? "voucher" : row.batch_state === "settled" ? "settled" : (row.state as ReceiptState),
    batchId: row.batch_id as string | null,
  };
}

export function recordOf(row: Row): Uint8Array {
  return row.record === null ? encodeReceipt(signedReceiptOf(row)) : (row.record as Uint8Array);
}

export async function lastPosition(queries: Queries): Promise<bigint> {
  return ((await queries.row("SELECT max(position) AS last FROM receipts"))!.last as bigint | null) ?? 0n;
}

export function spanValues({ operatorId, planId, versionId, epochStart, epochEnd }: Lane & Epoch): SqlValue[] {
  return [operatorId, planId, versionId, epochStart, epochEnd];
}
