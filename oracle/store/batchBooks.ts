import type { Attestation } from "../attestor/attestorApi";
import { breathe } from "../breathe";
import type { BatchHeader, Epoch, Lane, SignedMeasurement } from "../protocol/types";
import { batchBy, batchOf, type BatchState, insertBatch, type StoredBatch } from "./batchRows";
import type { Database, Queries } from "./database";
import { laneValues } from "./laneRows";
import { chunks, greater, marks } from "./lists";
import { LICENSES_AT_ONCE, UNBATCHED_IN_SPAN, voidReceipts } from "./receiptRows";
import { batchesAbove, rebuiltAt } from "./recovery";
import { StoreConflict } from "./storeConflict";
import { freeCost } from "./tallies";

/** The receipts that some licenses have in a span, in no batch, as they were read before. */
export interface LicensesReceipts {
  span: Epoch;
  licenses: readonly bigint[];
  /** How many they are. */
  count: number;
}

/** Which states a batch may come from to reach another; an expired one goes nowhere, a settled one only back, if the chain does. */
const BATCH_EDGES: Record<BatchState, BatchState[]> = {
  drafted: ["attested", "submitted"],
  attested: ["drafted"],
  submitted: ["attested", "submitted"],
  settled: ["attested", "submitted"],
  expired: ["drafted", "attested", "submitted"],
};

/** An operator's batches, from the draft to the release. */
export class BatchBooks {
  constructor(private readonly db: Database) {}

  /**
   * Stores a batch with the receipts that it is of.
   * Throws StoreConflict if one of them is in a batch already, others came into the span that was looked at, the lane's sequence was
   * used before, as attestors may have signed it, or the batch before it was taken back.
   * @param receipts their hashes, or whose they are
   * @param looked up to which place of the order of all receipts these were chosen from
   * @param before the batch before it, where that is still on its way
   */
  async saveDraft(
    batchId: string,
    header: BatchHeader,
    entries: string,
    measurements: SignedMeasurement[],
    receipts: string[] | LicensesReceipts,
    looked?: { span: Epoch; upTo: bigint },
    before?: string,
  ): Promise<void> {
    await this.db.transaction(async (queries) => {
      if (before !== undefined && (await batchBy(queries, before))?.state === "expired") {
        throw new StoreConflict(`batch ${before}, which batch ${batchId} comes after, was taken back`);
      }
      if (header.sequence <= (await lastSequence(queries, header))) {
        throw new StoreConflict(`the lane of batch ${batchId} has a batch of sequence ${header.sequence}`);
      }
      if (looked !== undefined) await requireNoLater(queries, header, looked);
      await insertBatch(queries, { batchId, header, entries, measurements, proof: null });
      await (Array.isArray(receipts)
        ? putInto(queries, batchId, receipts)
        : putAllInto(queries, batchId, header, receipts));
    });
  }

  /** The highest sequence that a batch of the lane was drafted with, or may have been before the store was rebuilt; 0 before the first. */
  lastSequence(lane: Lane): Promise<bigint> {
    return lastSequence(this.db, lane);
  }

  /**
   * Ends a draft; its receipts are free for another, but for those that no batch will ever get through with. The lane's later drafts
   * go with it: if one of them settled first, the lane's last epoch were theirs, which can't be cut any more.
   */
  async discardDraft(batchId: string, hopelessReceipts: string[] = []): Promise<void> {
    await this.db.transaction(async (queries) => {
      const draft = await batchBy(queries, batchId);
      if (draft?.state !== "drafted") throw wrongState(batchId, draft, "discarded");
      for (const hash of hopelessReceipts) {
        await voidReceipts(queries, "batch_id = ? AND receipt_hash = ?", [batchId, hash]);
      }
      for (const id of await draftsFrom(queries, draft.header)) {
        await queries.run("UPDATE receipts SET state = 'unbatched' WHERE batch_id = ? AND state = 'batched'", [id]);
        await queries.run("UPDATE receipts SET batch_id = NULL WHERE batch_id = ?", [id]);
        await mark(queries, id, "expired", {});
      }
    });
  }

  find(batchId: string): Promise<StoredBatch | null> {
    return batchBy(this.db, batchId);
  }

  /** Batches in one of the states, oldest epoch first. */
  async in(...states: BatchState[]): Promise<StoredBatch[]> {
    const rows = await this.db.all(
      `SELECT * FROM batches WHERE state IN (${marks(states)}) ORDER BY epoch_end, sequence`,
      states,
    );
    return rows.map(batchOf);
  }

  /** Whether a batch of the operator's was ever drafted here. */
  async hasOf(operatorId: number): Promise<boolean> {
    return (await this.db.row("SELECT 1 FROM batches WHERE operator_id = ? LIMIT 1", [operatorId])) !== null;
  }

  /** Keeps what members signed of a batch, so that nobody need sign it at the same time as the others. */
  async saveSignatures(batchId: string, signatures: Attestation[]): Promise<void> {
    await this.db.transaction(async (queries) => {
      for (const { signer, signature } of signatures) {
        await queries.run(
          "INSERT INTO signatures VALUES (?, ?, ?) ON CONFLICT (batch_id, signer) DO UPDATE SET signature = excluded.signature",
          [batchId, signer, signature],
        );
      }
    });
  }

  async signatures(batchId: string): Promise<Attestation[]> {
    const rows = await this.db.all("SELECT signer, signature FROM signatures WHERE batch_id = ? ORDER BY signer", [
      batchId,
    ]);
    return rows.map(({ signer, signature }) => ({ signer: signer as string, signature: signature as string }));
  }

  /** The `mark…` methods throw StoreConflict unless the batch is in a state from which it may get there. */
  async markAttested(batchId: string, proof: string): Promise<void> {
    await this.db.transaction((queries) => mark(queries, batchId, "attested", { proof }));
  }

  /** Where its proof isn't taken any more: it needs other signatures. */
  async markUnproven(batchId: string): Promise<void> {
    await this.db.transaction((queries) => mark(queries, batchId, "drafted", {}));
  }

  /** Once there is a transaction for it. */
  async markSubmitted(batchId: string): Promise<void> {
    await this.db.transaction((queries) => mark(queries, batchId, "submitted", {}));
  }

  /** Where the chain has undone a settlement that was final: its receipts aren't paid. */
  async markUndone(batchId: string): Promise<void> {
    await this.db.transaction(async (queries) => {
      await mark(queries, batchId, "submitted", {}, ["settled"]);
      await freeCost(queries, "batch_id = ? AND state IN ('batched', 'settled')", [batchId], -1);
      await queries.run("UPDATE receipts SET state = 'batched' WHERE batch_id = ? AND state = 'settled'", [batchId]);
    });
  }

  /** Once the settlement is final: its receipts no longer count against their licenses. That they are settled, the batch says. */
  async markSettled(batchId: string): Promise<void> {
    await this.db.transaction(async (queries) => {
      await mark(queries, batchId, "settled", {});
      await freeCost(queries, "batch_id = ? AND state = 'batched'", [batchId], 1);
    });
  }

  /** The oldest batches that are settled and not released, and whose they are. */
  async unreleased(most: number): Promise<{ batchId: string; operatorId: number }[]> {
    const rows = await this.db.all(
      "SELECT batch_id, operator_id FROM batches WHERE state = 'settled' AND released = 0 ORDER BY epoch_end, sequence LIMIT ?",
      [most],
    );
    return rows.map((row) => ({ batchId: row.batch_id as string, operatorId: Number(row.operator_id) }));
  }

  /** Once its release is final. */
  async markReleased(batchId: string): Promise<void> {
    await this.db.run("UPDATE batches SET released = 1 WHERE batch_id = ? AND state = 'settled'", [batchId]);
  }

  /** When its window has passed: the batch and its receipts can never be charged. */
  async markExpired(batchId: string): Promise<void> {
    await this.db.transaction(async (queries) => {
      await mark(queries, batchId, "expired", {});
      await voidReceipts(queries, "batch_id = ?", [batchId]);
    });
  }
}

/** What is written between the choice and the draft would be shut out of the epoch. */
async function requireNoLater(
  queries: Queries,
  lane: Lane,
  { span, upTo }: { span: Epoch; upTo: bigint },
): Promise<void> {
  const row = await queries.row(`SELECT count(*) AS count FROM receipts WHERE position > ? AND ${UNBATCHED_IN_SPAN}`, [
    upTo,
    ...laneValues(lane),
    span.epochStart,
    span.epochEnd,
  ]);
  if (row!.count === 0n) return;
  throw new StoreConflict(
    `${row!.count} receipts from ${span.epochStart} to ${span.epochEnd} were written after the others were looked at`,
  );
}

/** Nothing was written among them since they were read: if they are as many, they are the same. */
async function putAllInto(
  queries: Queries,
  batchId: string,
  lane: Lane,
  { span, licenses, count }: LicensesReceipts,
): Promise<void> {
  let put = 0;
  for (const some of chunks(licenses, LICENSES_AT_ONCE)) {
    put += await queries.run(
      `UPDATE receipts SET state = 'batched', batch_id = ? WHERE ${UNBATCHED_IN_SPAN} AND license_id IN (${marks(some)})`,
      [batchId, ...laneValues(lane), span.epochStart, span.epochEnd, ...some],
    );
    await breathe();
  }
  if (put === count) return;
  throw new StoreConflict(`${put} of the ${count} receipts that batch ${batchId} is of are free for it`);
}

async function putInto(queries: Queries, batchId: string, receiptHashes: string[]): Promise<void> {
  for (const hashes of chunks(receiptHashes)) {
    const changes = await queries.run(
      `UPDATE receipts SET state = 'batched', batch_id = ? WHERE state = 'unbatched' AND receipt_hash IN (${marks(hashes)})`,
      [batchId, ...hashes],
    );
    if (changes < hashes.length) throw await takenFrom(queries, batchId, hashes);
    await breathe();
  }
}

async function takenFrom(queries: Queries, batchId: string, hashes: string[]): Promise<StoreConflict> {
  const rows = await queries.all(
    `SELECT receipt_hash FROM receipts WHERE batch_id = ? AND receipt_hash IN (${marks(hashes)})`,
    [batchId, ...hashes],
  );
  const put = new Set(rows.map((row) => row.receipt_hash));
  return new StoreConflict(`receipt ${hashes.find((hash) => !put.has(hash))} isn't free for batch ${batchId}`);
}

async function lastSequence(queries: Queries, lane: Lane): Promise<bigint> {
  const row = await queries.row(
    "SELECT max(sequence) AS last FROM batches WHERE operator_id = ? AND plan_id = ? AND version_id = ?",
    laneValues(lane),
  );
  return greater((row?.last as bigint | null) ?? 0n, batchesAbove(await rebuiltAt(queries)));
}

async function mark(
  queries: Queries,
  batchId: string,
  to: BatchState,
  fields: Record<string, string>,
  from = BATCH_EDGES[to],
): Promise<void> {
  const assignments = ["state = ?", ...Object.keys(fields).map((field) => `${field} = ?`)].join(", ");
  const changes = await queries.run(
    `UPDATE batches SET ${assignments} WHERE batch_id = ? AND state IN (${marks(from)})`,
    [to, ...Object.values(fields), batchId, ...from],
  );
  if (changes === 0) throw wrongState(batchId, await batchBy(queries, batchId), to);
}

/** The ids of a lane's drafts from a batch's on. */
async function draftsFrom(queries: Queries, header: BatchHeader): Promise<string[]> {
  const rows = await queries.all(
    `SELECT batch_id FROM batches WHERE operator_id = ? AND plan_id = ? AND version_id = ? AND sequence >= ? AND state = 'drafted'`,
    [...laneValues(header), header.sequence],
  );
  return rows.map((row) => row.batch_id as string);
}

function wrongState(batchId: string, batch: StoredBatch | null, wanted: string): StoreConflict {
  return new StoreConflict(`batch ${batchId} is ${batch?.state ?? "unknown"} and can't be ${wanted}`);
}
