/** An operator's copies of disclosed requests' bodies, and an attestor's verdicts on those that it looked at. */
import type { Database, Row } from "./database";
import type { RequestKind } from "../gateway/openai";

/** The bodies of a request and its answer, as they were received and sent. */
export interface KeptBodies {
  requestId: string;
  kind: RequestKind;
  request: Uint8Array;
  response: Uint8Array;
}

/** What became of a look at a disclosed request: `due` is one that isn't over. */
export type Verdict = "due" | "agree" | "disagree" | "unknown";

/** A receipt whose request is to be looked at. */
export interface AuditedReceipt {
  /** The receipt's hash. */
  hash: string;
  operatorId: number;
  planId: number;
  manifestHash: string;
  /** Unix seconds. */
  finishedAt: number;
  /** The receipt's binary form. */
  record: Uint8Array;
}

/** How often a look was tried in vain. */
export interface DueAudit extends AuditedReceipt {
  tries: number;
}

export interface Audit {
  hash: string;
  verdict: Verdict;
  /** A sentence; empty where they agree. */
  reason: string;
}

/** Whose audits count for a batch, and of which time. */
export type AuditedSpan = Pick<AuditedReceipt, "operatorId" | "planId" | "manifestHash"> & {
  /** Unix seconds, inclusive and exclusive. */
  from: number;
  until: number;
};

export class DisclosureBooks {
  constructor(private readonly db: Database) {}

  // The operator's side

  async keep({ requestId, kind, request, response }: KeptBodies, keptAt: number): Promise<void> {
    const bytes = request.length + response.length;
    await this.db.run("INSERT INTO disclosures VALUES (?, ?, ?, ?, ?, ?)", [
      ...[requestId, kind, request, response],
      bytes,
      keptAt,
    ]);
  }

  async kept(requestId: string): Promise<KeptBodies | null> {
    const row = await this.db.row("SELECT * FROM disclosures WHERE request_id = ?", [requestId]);
    return row && bodiesOf(row);
  }

  /** How many bytes are kept of all. */
  async keptBytes(): Promise<number> {
    const row = await this.db.row("SELECT sum(bytes) AS bytes FROM disclosures");
    return Number(row?.bytes ?? 0);
  }

  /** Forgets what was kept before a time, Unix seconds. */
  async drop(keptBefore: number): Promise<void> {
    await this.db.run("DELETE FROM disclosures WHERE kept_at < ?", [keptBefore]);
  }

  // The attestor's side

  /** Notes what is to be looked at, once each, as long as fewer than `most` wait. */
  async note(receipts: readonly AuditedReceipt[], most: number): Promise<void> {
    await this.db.transaction(async (queries) => {
      const due = await queries.row("SELECT count(*) AS count FROM audits WHERE verdict = 'due'");
      const room = Math.max(0, most - Number(due!.count));
      for (const { hash, operatorId, planId, manifestHash, finishedAt, record } of receipts.slice(0, room)) {
        await queries.run("INSERT INTO audits VALUES (?, ?, ?, ?, ?, ?, 0, 'due', '') ON CONFLICT DO NOTHING", [
          ...[hash, operatorId, planId, manifestHash, finishedAt],
          record,
        ]);
      }
    });
  }

  /** Those that wait, the least tried and then the oldest first. */
  async due(most: number): Promise<DueAudit[]> {
    const rows = await this.db.all("SELECT * FROM audits WHERE verdict = 'due' ORDER BY tries, finished_at LIMIT ?", [
      most,
    ]);
    return rows.map(dueOf);
  }

  async judge({ hash, verdict, reason }: Audit): Promise<void> {
    await this.db.run("UPDATE audits SET verdict = ?, reason = ?, tries = tries + 1 WHERE receipt_hash = ?", [
      verdict,
      reason,
      hash,
    ]);
  }

  /** Those that agree or disagree, the latest first, and at most so many. */
  async verdicts({ operatorId, planId, manifestHash, from, until }: AuditedSpan, most: number): Promise<Audit[]> {
    const rows = await this.db.all(
      `SELECT receipt_hash, verdict, reason FROM audits WHERE operator_id = ? AND plan_id = ? AND manifest_hash = ?
         AND finished_at >= ? AND finished_at < ? AND verdict IN ('agree', 'disagree')
         ORDER BY finished_at DESC, receipt_hash LIMIT ?`,
      [operatorId, planId, manifestHash, from, until, most],
    );
    return rows.map((row) => ({
      hash: row.receipt_hash as string,
      verdict: row.verdict as Verdict,
      reason: row.reason as string,
    }));
  }

  /** Forgets those of receipts that finished before a time, Unix seconds. */
  async dropAudits(finishedBefore: number): Promise<void> {
    await this.db.run("DELETE FROM audits WHERE finished_at < ?", [finishedBefore]);
  }
}

function bodiesOf(row: Row): KeptBodies {
  return {
    requestId: row.request_id as string,
    kind: row.kind as RequestKind,
    request: row.request as Uint8Array,
    response: row.response as Uint8Array,
  };
}

function dueOf(row: Row): DueAudit {
  return {
    hash: row.receipt_hash as string,
    operatorId: Number(row.operator_id),
    planId: Number(row.plan_id),
    manifestHash: row.manifest_hash as string,
    finishedAt: Number(row.finished_at),
    record: row.record as Uint8Array,
    tries: Number(row.tries),
  };
}
