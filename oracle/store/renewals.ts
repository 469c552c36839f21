import type { Database } from "./database";

/** Licenses whose terms are over and that somebody wants to use. */
export class Renewals {
  constructor(private readonly db: Database) {}

  /** Notes that somebody wants to use a license whose term is over: whoever settles has it renewed. */
  async ask(licenseId: bigint): Promise<void> {
    await this.db.run("INSERT INTO wanted_renewals VALUES (?) ON CONFLICT DO NOTHING", [licenseId]);
  }

  /** The licenses that were asked for since this was called last. */
  async take(): Promise<bigint[]> {
    const rows = await this.db.all("DELETE FROM wanted_renewals RETURNING license_id");
    return rows.map((row) => row.license_id as bigint);
  }
}
