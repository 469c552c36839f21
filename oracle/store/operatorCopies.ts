import type { Database, Queries } from "./database";
import { listOf, objectOf, stringOf } from "../attestor/attestorApi";
import {
  headerFromJson,
  headerToJson,
  signedGrantFromJson,
  signedGrantToJson,
  signedMeasurementFromJson,
  signedMeasurementToJson,
} from "../protocol/messages";
import type { BatchHeader, SignedGrant, SignedMeasurement } from "../protocol/types";
import { subjectOf } from "../protocol/receiptBytes";
import { withRequestSignatures } from "./requestSignatures";

/** A grant that an operator uses, and what it served under it. */
export interface UsedGrant {
  /** Its EIP-712 digest. */
  hash: string;
  signed: SignedGrant;
}

/** What of a batch that an attestor signed isn't in its receipts: an operator that lost it can bring it again. */
export interface SignedOff {
  header: BatchHeader;
  measurements: SignedMeasurement[];
  /** The operator's signature over the batch's Proposal. */
  proposal: string;
}

/** A batch that an attestor signed. */
export interface SignedBatch {
  /** Null once no breach of it can be reported any more. */
  signedOff: SignedOff | null;
  /** Receipts' binary forms, each with its request's signature after it, if it has one. */
  records: Uint8Array[];
}

/** How far clocks of canaries and receipts may be apart, in seconds. */
const AN_HOUR = 3_600;

/** A license's last receipt. */
export interface LastReceipt {
  licenseId: bigint;
  record: Uint8Array;
}

/**
 * What an attestor keeps of operators besides copies of receipts that may still settle, for those who lose theirs: their grants,
 * the last receipt of each license, and the batches that it signed.
 */
export class OperatorCopies {
  constructor(private readonly db: Database) {}

  /** Keeps grants of an operator, as long as it has no more than `most`. @returns how many of them are kept now */
  keepGrants(operatorId: number, grants: readonly UsedGrant[], most: number): Promise<number> {
    return this.db.transaction(async (queries) => {
      const { count } = (await queries.row("SELECT count(*) AS count FROM grant_copies WHERE operator_id = ?", [
        operatorId,
      ]))!;
      let [room, kept] = [most - Number(count), 0];
      for (const { hash, signed } of grants) {
        const known = await queries.row("SELECT 1 FROM grant_copies WHERE operator_id = ? AND grant_hash = ?", [
          operatorId,
          hash,
        ]);
        if (known === null && room <= 0) continue;
        kept++;
        if (known !== null) continue;
        room--;
        const body = JSON.stringify(signedGrantToJson(signed));
        await queries.run("INSERT INTO grant_copies VALUES (?, ?, ?, ?)", [
          operatorId,
          hash,
          signed.grant.expiresAt,
          body,
        ]);
      }
      return kept;
    });
  }

  /** An operator's grants whose hashes come after one, in their order; at most so many. */
  async grantsAfter(operatorId: number, hash: string, most: number): Promise<UsedGrant[]> {
    const rows = await this.db.all(
      "SELECT grant_hash, body FROM grant_copies WHERE operator_id = ? AND grant_hash > ? ORDER BY grant_hash LIMIT ?",
      [operatorId, hash, most],
    );
    return rows.map((row) => ({
      hash: row.grant_hash as string,
      signed: signedGrantFromJson(JSON.parse(row.body as string)),
    }));
  }

  /** One that an operator used, by its hash; null if it isn't kept. */
  async grant(operatorId: number, hash: string): Promise<SignedGrant | null> {
    const row = await this.db.row("SELECT body FROM grant_copies WHERE operator_id = ? AND grant_hash = ?", [
      operatorId,
      hash,
    ]);
    return row && signedGrantFromJson(JSON.parse(row.body as string));
  }

  /** Drops grants that ended before a time, Unix seconds. @returns how many */
  dropGrants(endedBefore: number): Promise<number> {
    return this.db.run("DELETE FROM grant_copies WHERE expires_at < ?", [endedBefore]);
  }

  /**
   * Forgets what an attestor needs no more once nothing that ended before a time, Unix seconds, can settle: what else the batches of
   * then rest on, and what canaries saw and evidence showed before the epochs that end with them.
   * @param longestEpoch in seconds
   * @param reportedBefore of batches whose epochs ended before it, no breach can be reported any more
   */
  async prune(before: number, longestEpoch: number, reportedBefore: number): Promise<void> {
    const measuredFrom = before - longestEpoch;
    await this.db.run("UPDATE attested_batches SET body = NULL WHERE epoch_end < ? AND body IS NOT NULL", [
      reportedBefore,
    ]);
    await this.db.run(
      "DELETE FROM seen_costs WHERE grant_hash IN (SELECT grant_hash FROM grant_copies WHERE expires_at < ?)",
      [before],
    );
    await this.db.run("DELETE FROM canaries WHERE at < ?", [measuredFrom]);
    await this.db.run("DELETE FROM canary_answers WHERE at < ?", [measuredFrom - AN_HOUR]);
    await this.db.run("DELETE FROM evidence_findings WHERE until_time < ?", [measuredFrom]);
    await this.dropGrants(before);
  }

  /** The last receipts of an operator's licenses above one, by license, as far as no copy is kept of them otherwise; at most so many. */
  async lastReceiptsAfter(operatorId: number, licenseId: bigint, most: number): Promise<LastReceipt[]> {
    const rows = await this.db.all(
      "SELECT license_id, record FROM last_copies WHERE operator_id = ? AND license_id > ? ORDER BY license_id LIMIT ?",
      [operatorId, licenseId, most],
    );
    return rows.map((row) => ({ licenseId: row.license_id as bigint, record: row.record as Uint8Array }));
  }

  /** What was signed as a batch, and what is left of its receipts, in the order of its sum tree; null if nothing was. */
  async signedBatch(batchId: string): Promise<SignedBatch | null> {
    const row = await this.db.row("SELECT operator_id, number, body FROM attested_batches WHERE batch_id = ?", [
      batchId,
    ]);
    if (row === null) return null;
    if (row.body === null) return { signedOff: null, records: [] };
    const signedOff = signedOffFromJson(JSON.parse(row.body as string));
    const spans = await this.db.all("SELECT license_id, first, last FROM seen_spans WHERE number = ?", [row.number]);
    const { epochStart, epochEnd } = signedOff.header;
    const records: Uint8Array[] = [];
    for (const { license_id, first, last } of spans) {
      const rows = await this.db.all(
        `SELECT record FROM copies WHERE operator_id = ? AND license_id = ? AND sequence >= ? AND sequence <= ?
           AND finished_at >= ? AND finished_at < ?`,
        [row.operator_id, license_id, first, last, epochStart, epochEnd],
      );
      records.push(...rows.map(({ record }) => record as Uint8Array));
    }
    return { signedOff, records: await withRequestSignatures(this.db, records.sort(byNumber)) };
  }

  /** What was signed of an operator's batches whose epochs ended at or after a time, Unix seconds: JSON of `SignedOff`. */
  async signedOff(operatorId: number, endedFrom: number): Promise<string[]> {
    const rows = await this.db.all(
      "SELECT body FROM attested_batches WHERE operator_id = ? AND epoch_end >= ? AND body IS NOT NULL ORDER BY epoch_end, sequence",
      [operatorId, endedFrom],
    );
    return rows.map((row) => row.body as string);
  }
}

function byNumber(a: Uint8Array, b: Uint8Array): number {
  const [first, second] = [subjectOf(a), subjectOf(b)];
  const difference = first.licenseId - second.licenseId || first.sequence - second.sequence;
  return difference < 0n ? -1 : Number(difference > 0n);
}

/** @throws MalformedMessage */
export function signedOffFromJson(json: unknown): SignedOff {
  const { header, measurements, proposal } = objectOf(json);
  return {
    header: headerFromJson(header),
    measurements: listOf("measurements", measurements).map(signedMeasurementFromJson),
    proposal: stringOf("proposal", proposal),
  };
}

export function signedOffToJson({ header, measurements, proposal }: SignedOff) {
  return { header: headerToJson(header), measurements: measurements.map(signedMeasurementToJson), proposal };
}

/** Of each license the receipt with the highest number is kept, whatever becomes of its copy. */
export async function keepLast(queries: Queries, records: readonly Uint8Array[]): Promise<void> {
  const last = new Map<string, Uint8Array>();
  for (const record of records) {
    const { operatorId, licenseId, sequence } = subjectOf(record);
    const key = `${operatorId}/${licenseId}`;
    const other = last.get(key);
    if (other === undefined || subjectOf(other).sequence < sequence) last.set(key, record);
  }
  for (const record of last.values()) {
    const { operatorId, licenseId, sequence } = subjectOf(record);
    await queries.run(
      `INSERT INTO last_copies VALUES (?, ?, ?, ?) ON CONFLICT (operator_id, license_id)
         DO UPDATE SET sequence = excluded.sequence, record = excluded.record WHERE last_copies.sequence < excluded.sequence`,
      [operatorId, licenseId, sequence, record],
    );
  }
}
