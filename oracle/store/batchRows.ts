import { headerFromJson, headerToJson, signedMeasurementFromJson, signedMeasurementToJson } from "../protocol/messages";
import type { BatchHeader, SignedMeasurement } from "../protocol/types";
import type { Queries, Row } from "./database";
import { laneValues } from "./laneRows";
import type { ReturnedBatch } from "./recovery";

export type BatchState = "drafted" | "attested" | "submitted" | "settled" | "expired";

export interface StoredBatch {
  /** The header's EIP-712 digest. */
  batchId: string;
  header: BatchHeader;
  /** Packed, in hex. */
  entries: string;
  /** What the header's service level is the median of. */
  measurements: SignedMeasurement[];
  state: BatchState;
  /** The committee's, once attested. */
  proof: string | null;
}

export async function insertBatch(
  queries: Queries,
  { batchId, header, entries, measurements, proof }: ReturnedBatch,
): Promise<void> {
  await queries.run(
    `INSERT INTO batches (batch_id, operator_id, plan_id, version_id, sequence, epoch_end, state, header, entries, measurements, proof)
       VALUES (?, ?, ?, ?, ?, ?, 'drafted', ?, ?, ?, ?)`,
    [
      batchId,
      ...laneValues(header),
      header.sequence,
      header.epochEnd,
      JSON.stringify(headerToJson(header)),
      entries,
      JSON.stringify(measurements.map(signedMeasurementToJson)),
      proof,
    ],
  );
}

export async function batchBy(queries: Queries, batchId: string): Promise<StoredBatch | null> {
  const row = await queries.row("SELECT * FROM batches WHERE batch_id = ?", [batchId]);
  return row && batchOf(row);
}

export function batchOf(row: Row): StoredBatch {
  return {
    batchId: row.batch_id as string,
    header: headerFromJson(JSON.parse(row.header as string)),
    entries: row.entries as string,
    measurements: (JSON.parse(row.measurements as string) as unknown[]).map(signedMeasurementFromJson),
    state: row.state as BatchState,
    proof: row.proof as string | null,
  };
}
