import type { CanaryAnswer } from "../attestor/recount";
import type { Epoch, Lane } from "../protocol/types";
import type { Database } from "./database";
import { laneValues } from "./laneRows";
import type { Lease, Leases } from "./leases";

export interface CanarySample {
  /** Unix seconds. */
  at: number;
  ok: boolean;
  /** 0 unless ok and streamed. */
  ttftMs: number;
  /** Of the answer's tokens after the first; left out where that can't be told. */
  tokensPerSecond?: number;
}

/** How far, in seconds, the time of a canary's answer and that of its receipt may be apart. */
const ANSWERS_APART = 3_600;

/** What an attestor's canaries measured and were answered. */
export class CanaryBooks {
  constructor(
    private readonly db: Database,
    private readonly leases: Leases,
  ) {}

  /**
   * Not earlier than what was measured already, whatever the clock says: an epoch that was measured doesn't change.
   * @param lease under which it was sent: throws TurnLost if another has that
   */
  async record(lane: Lane, sample: CanarySample, lease?: Lease): Promise<void> {
    const { at, ok, ttftMs, tokensPerSecond } = sample;
    await this.db.transaction(async (queries) => {
      if (lease !== undefined) await this.leases.require(lease, queries);
      const measuredUntil = Number((await queries.row("SELECT until FROM measured"))?.until ?? 0);
      await queries.run("INSERT INTO canaries VALUES (?, ?, ?, ?, ?, ?, ?)", [
        ...laneValues(lane),
        Math.max(at, measuredUntil),
        ok ? 1 : 0,
        ttftMs,
        tokensPerSecond ?? null,
      ]);
    });
  }

  /** Notes what a canary got, before its receipt can be in a batch. */
  async recordAnswer(answer: CanaryAnswer): Promise<void> {
    const { requestHash, responseHash, mostInput, mostOutput, isCounted, difference, at } = answer;
    await this.db.run("INSERT INTO canary_answers VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", [
      answer.operatorId,
      at,
      requestHash,
      responseHash,
      mostInput,
      mostOutput,
      isCounted ? 1 : 0,
      difference,
      answer.planId,
      answer.versionId,
    ]);
  }

  /** What canaries got of an operator in an epoch, and somewhat before and after it, where clocks differ. */
  async answers(operatorId: number, { epochStart, epochEnd }: Epoch): Promise<CanaryAnswer[]> {
    const rows = await this.db.all("SELECT * FROM canary_answers WHERE operator_id = ? AND at >= ? AND at < ?", [
      operatorId,
      epochStart - ANSWERS_APART,
      epochEnd + ANSWERS_APART,
    ]);
    return rows.map((row) => ({
      ...{ operatorId, planId: Number(row.plan_id), versionId: row.version_id as bigint },
      requestHash: row.request_hash as string,
      responseHash: row.response_hash as string,
      mostInput: Number(row.most_input),
      mostOutput: Number(row.most_output),
      isCounted: Number(row.is_counted) === 1,
      difference: row.difference as string | null,
      at: Number(row.at),
    }));
  }

  /**
   * Notes, before it is signed, that the time until `until` (Unix seconds) is measured: no sample is put into it any more.
   * @param lease under which it is signed: throws TurnLost if another has that
   */
  async noteMeasured(until: number, lease?: Lease): Promise<void> {
    await this.db.transaction(async (queries) => {
      if (lease !== undefined) await this.leases.require(lease, queries);
      await queries.run(
        `INSERT INTO measured VALUES ('canaries', ?)
           ON CONFLICT (what) DO UPDATE SET until = excluded.until WHERE excluded.until > measured.until`,
        [until],
      );
    });
  }

  /** A lane's samples within an epoch, oldest first. */
  async samples(lane: Lane, { epochStart, epochEnd }: Epoch): Promise<CanarySample[]> {
    const rows = await this.db.all(
      `SELECT at, ok, ttft_ms, tokens_per_second FROM canaries
         WHERE operator_id = ? AND plan_id = ? AND version_id = ? AND at >= ? AND at < ? ORDER BY at, ok, ttft_ms`,
      [...laneValues(lane), epochStart, epochEnd],
    );
    return rows.map((row) => ({
      at: Number(row.at),
      ok: row.ok === 1n,
      ttftMs: Number(row.ttft_ms),
      ...(row.tokens_per_second === null ? {} : { tokensPerSecond: Number(row.tokens_per_second) }),
    }));
  }
}
