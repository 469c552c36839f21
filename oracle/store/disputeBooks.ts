/** What an operator's store keeps for challenges: how far they are over, and inputs whose answers may have to be proven. */
import type { Database, Queries } from "./database";

export class DisputeBooks {
  constructor(private readonly db: Database) {}

  /** All challenges up to this number are decided, for good, or others'. */
  async overUpTo(): Promise<bigint> {
    const row = await this.db.row("SELECT up_to FROM challenges_over WHERE what = 'all'");
    return (row?.up_to as bigint | undefined) ?? 0n;
  }

  /** Never less than before. */
  async noteOver(upTo: bigint): Promise<void> {
    await this.db.run(
      `INSERT INTO challenges_over VALUES ('all', ?) ON CONFLICT (what)
         DO UPDATE SET up_to = excluded.up_to WHERE challenges_over.up_to < excluded.up_to`,
      [upTo],
    );
  }

  /** What a request asked, a byte each number; null if that isn't kept. */
  async input(requestId: string): Promise<Uint8Array | null> {
    const row = await this.db.row("SELECT input FROM provable_inputs WHERE request_id = ?", [requestId]);
    return row && (row.input as Uint8Array);
  }

  /**
   * Forgets the inputs of requests whose charges can't be challenged any more, and have no challenge. A challenge may name any
   * receipt of its license and epoch, even one that nobody is charged for, or that another batch has. Looks at whole lanes: that
   * keeps a little more, and costs as little for many receipts as for few.
   * @param longestEpoch in seconds
   * @returns how many
   */
  dropInputs(longestEpoch: number): Promise<number> {
    return this.db.run(
      `WITH waiting AS MATERIALIZED (SELECT operator_id, plan_id, version_id, min(finished_at) AS oldest FROM receipts
           WHERE state = 'unbatched' AND term IS NULL GROUP BY operator_id, plan_id, version_id)
       DELETE FROM provable_inputs WHERE NOT EXISTS (SELECT 1 FROM open_requests
           WHERE open_requests.request_id = provable_inputs.request_id)
         AND NOT EXISTS (SELECT 1 FROM receipts
           JOIN batches ON ${sameLane("batches")} AND batches.epoch_end > receipts.finished_at
             AND batches.epoch_end <= receipts.finished_at + ? AND batches.released = 0 AND batches.state <> 'expired'
           WHERE receipts.request_id = provable_inputs.request_id)
         AND NOT EXISTS (SELECT 1 FROM receipts
           JOIN waiting ON ${sameLane("waiting")} AND waiting.oldest < receipts.finished_at + ?
           WHERE receipts.request_id = provable_inputs.request_id)`,
      [longestEpoch, longestEpoch],
    );
  }
}

function sameLane(table: string): string {
  return ["operator_id", "plan_id", "version_id"].map((name) => `${table}.${name} = receipts.${name}`).join(" AND ");
}

export async function keepInput(queries: Queries, requestId: string, input: Uint8Array): Promise<void> {
  await queries.run("INSERT INTO provable_inputs VALUES (?, ?)", [requestId, input]);
}

export async function dropInput(queries: Queries, requestId: string): Promise<void> {
  await queries.run("DELETE FROM provable_inputs WHERE request_id = ?", [requestId]);
}
