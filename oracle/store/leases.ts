import type { Database, Queries } from "./database";

/** The right to be the only one who does something, for a while. */
export interface Lease {
  /** What it is for. */
  name: string;
  holder: string;
  /** Higher than that of any holder before: what is done under a lower one comes too late. */
  token: bigint;
}

/** It is another's turn by now: what was to be done wasn't, and is left to that one. */
export class TurnLost extends Error {
  override readonly name = "TurnLost";

  constructor(what: string) {
    super(`it isn't this process's turn any more (${what}): another goes on with it`);
  }
}

/** The right to do something alone, as this process has it at the moment. */
export interface Turn {
  /** As far as is known. */
  readonly isMine: boolean;
  /** For what is done under it. @throws TurnLost if it isn't this process's */
  readonly lease: Lease;
}

/** Who does what alone, among the processes that share a store. Time is the database's: their clocks may differ. */
export class Leases {
  constructor(private readonly db: Database) {}

  /** Takes a lease that is free, over, or this holder's own; null while it is another's. */
  async acquire(name: string, holder: string, forMs: number): Promise<Lease | null> {
    const row = await this.db.row(
      `INSERT INTO leases VALUES (?, ?, 1, ${this.db.nowMs} + ?) ON CONFLICT (name)
         DO UPDATE SET holder = excluded.holder, token = leases.token + 1, until = excluded.until
         WHERE leases.until <= ${this.db.nowMs} OR leases.holder = excluded.holder RETURNING token`,
      [name, holder, forMs],
    );
    return row && { name, holder, token: row.token as bigint };
  }

  /**
   * From now on for so long, also after it was over, if nobody has taken it since: nothing was done in between under another.
   * @returns false if it was taken or released: then it must be acquired anew
   */
  async renew({ name, token }: Lease, forMs: number): Promise<boolean> {
    const changes = await this.db.run(
      `UPDATE leases SET until = ${this.db.nowMs} + ? WHERE name = ? AND token = ? AND until > 0`,
      [forMs, name, token],
    );
    return changes > 0;
  }

  /** Lets others have it at once. */
  async release({ name, token }: Lease): Promise<void> {
    await this.db.run("UPDATE leases SET until = 0 WHERE name = ? AND token = ?", [name, token]);
  }

  /** The names of those that somebody holds. */
  async held(): Promise<string[]> {
    const rows = await this.db.all(`SELECT name FROM leases WHERE until > ${this.db.nowMs} ORDER BY name`);
    return rows.map(({ name }) => name as string);
  }

  /**
   * Whether it is still held. Asked in the transaction of what is done under it, nobody else has begun in between.
   * @param queries of that transaction
   */
  async holds({ name, token }: Lease, queries: Queries = this.db): Promise<boolean> {
    const sql = `SELECT 1 FROM leases WHERE name = ? AND token = ? AND until > ${this.db.nowMs}`;
    return (await queries.row(sql, [name, token])) !== null;
  }

  /** @throws TurnLost if it isn't held any more */
  async require(lease: Lease, queries: Queries): Promise<void> {
    if (!(await this.holds(lease, queries))) throw new TurnLost(lease.name);
  }
}
