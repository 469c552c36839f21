import type { Database, Queries } from "./database";
import { signedGrantToJson } from "../protocol/messages";
import type { BatchHeader, Lane, SignedGrant, SignedMeasurement, SignedReceipt } from "../protocol/types";
import { useRequestSignature } from "./requestSignatures";
import { addToGrant, addToTallies, freeCost } from "./tallies";
import { laneOf } from "./laneRows";
import { insertReceipt, spanValues, UNBATCHED_IN_SPAN, voidReceipts } from "./receiptRows";
import { insertBatch } from "./batchRows";

/** A receipt that comes back to its store. */
export interface ReturnedReceipt extends SignedReceipt {
  /** Its EIP-712 digest. */
  hash: string;
  versionId: bigint;
  /** The address of the key that signed it. */
  signer: string;
  /** Under its plan, rounded up, in units of the currency. */
  cost: bigint;
  /** Its request's, 70 bytes; null if it has none, or nobody gave it back. */
  requestSignature: Uint8Array | null;
}

/** Two receipts that contradict each other: one is stored, the other isn't. */
export interface ReceiptConflict {
  licenseId: bigint;
  sequence: bigint;
  storedHash: string;
  otherHash: string;
}

/** A batch that comes back to its store. */
export interface ReturnedBatch {
  batchId: string;
  header: BatchHeader;
  /** Packed, in hex. */
  entries: string;
  measurements: SignedMeasurement[];
  proof: string | null;
}

/** So many numbers of a license are set aside for each second that a store lived before it was rebuilt: nobody is served as often. */
const NUMBERS_A_SECOND = 2n ** 20n;

/** Receipts' sequences are above this, once a store was rebuilt, whatever they were before. */
export function receiptsAbove(rebuiltAt: number): bigint {
  return BigInt(rebuiltAt) * NUMBERS_A_SECOND;
}

/** Batches' sequences, too: no lane has a draft each second. */
export function batchesAbove(rebuiltAt: number): bigint {
  return BigInt(rebuiltAt);
}

/** When the store was last rebuilt, Unix seconds; 0 if it never was. */
export async function rebuiltAt(queries: Queries): Promise<number> {
  return Number((await queries.row("SELECT at FROM recovery WHERE what = 'rebuilt at'"))?.at ?? 0);
}

/**
 * How a store that was lost, or is older than what was signed from it, becomes whole again. From `begin` to `end` nobody serves
 * or settles from it, and what comes between may be done again.
 */
export class Recovery {
  constructor(private readonly db: Database) {}

  /** Since when it has been waiting to be rebuilt, Unix seconds; null if it isn't. */
  async incompleteSince(): Promise<number | null> {
    const row = await this.db.row("SELECT at FROM recovery WHERE what = 'incomplete since'");
    return row && Number(row.at);
  }

  /** When it was rebuilt last, Unix seconds; 0 if it never was. */
  rebuiltAt(): Promise<number> {
    return rebuiltAt(this.db);
  }

  /** Receipts that are written from now on have numbers above this; 0 if the store was never rebuilt. */
  async numbersAbove(): Promise<bigint> {
    return receiptsAbove(await this.rebuiltAt());
  }

  /** Whether nothing was ever served or settled from it. */
  async isEmpty(): Promise<boolean> {
    const row = await this.db.row(
      "SELECT 1 FROM receipts UNION ALL SELECT 1 FROM batches UNION ALL SELECT 1 FROM recovery LIMIT 1",
    );
    return row === null;
  }

  /** The lanes that had batches, and the highest number that it knows of each. */
  async lanes(): Promise<{ lane: Lane; lastSequence: bigint }[]> {
    const rows = await this.db.all(
      "SELECT operator_id, plan_id, version_id, max(sequence) AS last FROM batches GROUP BY operator_id, plan_id, version_id",
    );
    return rows.map((row) => ({
      lane: laneOf(row),
      lastSequence: row.last as bigint,
    }));
  }

  /** From now on the store is incomplete. @param at Unix seconds */
  async begin(at: number): Promise<void> {
    await this.db.run("INSERT INTO recovery VALUES ('incomplete since', ?) ON CONFLICT DO NOTHING", [at]);
  }

  /**
   * The store is whole: what is written from now on has numbers that nothing had which was written before `at`, Unix seconds,
   * whether it is known here or not.
   */
  async end(at: number): Promise<void> {
    await this.db.transaction(async (queries) => {
      const highest = await queries.row("SELECT max(sequence) AS last FROM receipts");
      const last = Number(((highest!.last as bigint | null) ?? 0n) / NUMBERS_A_SECOND) + 1;
      await queries.run(
        `INSERT INTO recovery VALUES ('rebuilt at', ?) ON CONFLICT (what)
           DO UPDATE SET at = excluded.at WHERE recovery.at < excluded.at`,
        [last > 1 ? Math.max(at, last) : at],
      );
      await queries.run("DELETE FROM recovery WHERE what = 'incomplete since'");
    });
  }

  /** Takes back what isn't settled and was drafted here: the chain and the attestors say which batches there are. */
  async reopenReceipts(): Promise<void> {
    await this.db.transaction(async (queries) => {
      const open = "SELECT batch_id FROM batches WHERE state IN ('drafted', 'attested', 'submitted')";
      await queries.run(
        `UPDATE receipts SET state = 'unbatched', batch_id = NULL WHERE state = 'batched' AND batch_id IN (${open})`,
      );
      await queries.run("UPDATE batches SET state = 'expired' WHERE state IN ('drafted', 'attested', 'submitted')");
      // Requests that ran when the copy was made have ended since, with receipts or without.
      await queries.run("DELETE FROM open_requests");
      await queries.run("UPDATE grants SET reserved = 0");
      await queries.run("UPDATE tallies SET reserved = 0");
      await queries.run("DELETE FROM feeds");
      // What was taken for others' may have been of batches that it lacked.
      await queries.run("DELETE FROM challenges_over");
    });
  }

  /**
   * Adds receipts that aren't there, as of no batch.
   * @returns how many these were, and which contradict others that are there
   */
  addReceipts(receipts: readonly ReturnedReceipt[]): Promise<{ added: number; conflicts: ReceiptConflict[] }> {
    return this.db.transaction(async (queries) => {
      let added = 0;
      const conflicts: ReceiptConflict[] = [];
      for (const one of receipts) {
        const { receipt, hash, cost, requestSignature } = one;
        const { operatorId, licenseId, sequence, requestId, grantHash } = receipt;
        if (requestSignature !== null) await useRequestSignature(queries, operatorId, requestSignature, requestId);
        const present = await queries.row(
          "SELECT receipt_hash FROM receipts WHERE operator_id = ? AND license_id = ? AND sequence = ? OR request_id = ?",
          [operatorId, licenseId, sequence, requestId],
        );
        if (present !== null) {
          const storedHash = present.receipt_hash as string;
          if (storedHash !== hash) conflicts.push({ licenseId, sequence, storedHash, otherHash: hash });
          continue;
        }
        await queries.run(
          "INSERT INTO grants (grant_hash, license_id, body) VALUES (?, ?, '') ON CONFLICT DO NOTHING",
          [grantHash, licenseId],
        );
        await insertReceipt(queries, one, one.signer, cost, null);
        await addToTallies(queries, licenseId, cost, 0n);
        await addToGrant(queries, grantHash, cost, 0n);
        added++;
      }
      return { added, conflicts };
    });
  }

  /** The grants that receipts came under and nobody has shown since: their hashes, and of which license they are. */
  async lackingGrants(): Promise<{ hash: string; licenseId: bigint }[]> {
    const rows = await this.db.all("SELECT grant_hash, license_id FROM grants WHERE body = '' ORDER BY grant_hash");
    return rows.map((row) => ({ hash: row.grant_hash as string, licenseId: row.license_id as bigint }));
  }

  /** Keeps a grant, and that at least so much was used of it, in units of the currency. */
  async returnGrant(hash: string, signed: SignedGrant, used: bigint): Promise<void> {
    await this.db.run(
      `INSERT INTO grants (grant_hash, license_id, body, used, expires_at) VALUES (?, ?, ?, ?, ?) ON CONFLICT (grant_hash)
         DO UPDATE SET body = CASE WHEN grants.body = '' THEN excluded.body ELSE grants.body END,
           expires_at = excluded.expires_at,
           used = CASE WHEN grants.used < excluded.used THEN excluded.used ELSE grants.used END`,
      [hash, signed.grant.licenseId, JSON.stringify(signedGrantToJson(signed)), used, signed.grant.expiresAt],
    );
  }

  /** What the receipts of a grant cost that are in no batch. */
  async unbatchedCostUnder(grantHash: string): Promise<bigint> {
    const row = await this.db.row(
      "SELECT sum(cost) AS cost FROM receipts WHERE grant_hash = ? AND state = 'unbatched'",
      [grantHash],
    );
    return (row?.cost as bigint | null) ?? 0n;
  }

  /**
   * Stores a batch that is on the chain, and that its receipts are in it: all those of the licenses in its epoch.
   * @param isFinal whether nothing undoes it any more; if not, the settler follows it
   * @returns how many receipts these were
   */
  addSettled(
    batch: ReturnedBatch,
    licenses: readonly bigint[],
    isFinal: boolean,
    isReleased: boolean,
  ): Promise<number> {
    const { batchId, header } = batch;
    return this.db.transaction(async (queries) => {
      const before = await queries.row("SELECT state FROM batches WHERE batch_id = ?", [batchId]);
      if (before === null) await insertBatch(queries, batch);
      if (before?.state !== "settled") {
        await queries.run("UPDATE batches SET state = ?, proof = coalesce(proof, ?) WHERE batch_id = ?", [
          isFinal ? "settled" : "submitted",
          batch.proof,
          batchId,
        ]);
      }
      if (isReleased) await queries.run("UPDATE batches SET released = 1 WHERE batch_id = ?", [batchId]);
      let count = 0;
      for (let from = 0; from < licenses.length; from += MOST_LICENSES) {
        const some = licenses.slice(from, from + MOST_LICENSES);
        const condition = `${UNBATCHED_IN_SPAN} AND license_id IN (${some.map(() => "?").join(", ")})`;
        const values = [...spanValues(header), ...some];
        if (isFinal) await freeCost(queries, condition, values, 1);
        count += await queries.run(
          `UPDATE receipts SET state = '${isFinal ? "settled" : "batched"}', batch_id = ? WHERE ${condition}`,
          [batchId, ...values],
        );
      }
      return count;
    });
  }

  /** Stores a batch that attestors signed and that may still settle, of these receipts: the settler goes on with it. */
  async addDraft(batch: ReturnedBatch, hashes: readonly string[]): Promise<void> {
    const { batchId } = batch;
    await this.db.transaction(async (queries) => {
      const before = await queries.row("SELECT state FROM batches WHERE batch_id = ?", [batchId]);
      if (before === null) await insertBatch(queries, batch);
      else await queries.run("UPDATE batches SET state = 'drafted' WHERE batch_id = ?", [batchId]);
      for (let from = 0; from < hashes.length; from += MOST_LICENSES) {
        const some = hashes.slice(from, from + MOST_LICENSES);
        await queries.run(
          `UPDATE receipts SET state = 'batched', batch_id = ? WHERE state = 'unbatched'
             AND receipt_hash IN (${some.map(() => "?").join(", ")})`,
          [batchId, ...some],
        );
      }
    });
  }

  /** Voids what finished before a time, Unix seconds, and is in no batch. @returns how many receipts */
  voidOlder(finishedBefore: number): Promise<number> {
    return this.db.transaction((queries) =>
      voidReceipts(queries, "state = 'unbatched' AND finished_at < ?", [finishedBefore]),
    );
  }
}

/** A statement takes so many values at once in either database. */
const MOST_LICENSES = 900;
