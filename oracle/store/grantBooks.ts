import { signedGrantFromJson, signedGrantToJson } from "../protocol/messages";
import type { SignedGrant } from "../protocol/types";
import type { Database } from "./database";

/** The grants that an operator's receipts came under, and those that were revoked. */
export class GrantBooks {
  constructor(private readonly db: Database) {}

  /** Remembers a grant when it is first used: receipts refer to it, and attestors ask for it. */
  async save(grantHash: string, signed: SignedGrant): Promise<void> {
    await this.db.run(
      `INSERT INTO grants (grant_hash, license_id, body, expires_at) VALUES (?, ?, ?, ?) ON CONFLICT (grant_hash)
         DO UPDATE SET body = excluded.body, expires_at = excluded.expires_at WHERE grants.body = ''`,
      [grantHash, signed.grant.licenseId, JSON.stringify(signedGrantToJson(signed)), signed.grant.expiresAt],
    );
  }

  async find(grantHash: string): Promise<SignedGrant | null> {
    const row = await this.db.row("SELECT body FROM grants WHERE grant_hash = ? AND body <> ''", [grantHash]);
    return row && signedGrantFromJson(JSON.parse(row.body as string));
  }

  /** What all receipts under a grant cost, void ones too: they were served, and attestors may have counted them. */
  async used(grantHash: string): Promise<bigint> {
    const row = await this.db.row("SELECT used FROM grants WHERE grant_hash = ?", [grantHash]);
    return (row?.used as bigint | undefined) ?? 0n;
  }

  /**
   * Remembers that a grant of the license was revoked: from now on it is refused, whether it was seen before or not.
   * @param most how many of one license are remembered
   * @returns when it was revoked first, Unix seconds; null if there are too many
   */
  revoke(licenseId: bigint, grantHash: string, revokedAt: number, most: number): Promise<number | null> {
    return this.db.transaction(async (queries) => {
      const before = await queries.row(
        "SELECT revoked_at FROM revoked_grants WHERE license_id = ? AND grant_hash = ?",
        [licenseId, grantHash],
      );
      if (before !== null) return Number(before.revoked_at);
      const all = await queries.row("SELECT count(*) AS count FROM revoked_grants WHERE license_id = ?", [licenseId]);
      if (Number(all!.count) >= most) return null;
      await queries.run("INSERT INTO revoked_grants VALUES (?, ?, ?)", [licenseId, grantHash, revokedAt]);
      return revokedAt;
    });
  }

  async isRevoked(licenseId: bigint, grantHash: string): Promise<boolean> {
    const query = "SELECT 1 FROM revoked_grants WHERE license_id = ? AND grant_hash = ?";
    return (await this.db.row(query, [licenseId, grantHash])) !== null;
  }

  /** The grants that a batch's receipts came under. */
  async ofBatch(batchId: string): Promise<SignedGrant[]> {
    return (
      await this.db.all(
        `SELECT body FROM grants WHERE grant_hash IN (SELECT grant_hash FROM receipts WHERE batch_id = ?) AND body <> ''
         ORDER BY license_id, grant_hash`,
        [batchId],
      )
    ).map((row) => signedGrantFromJson(JSON.parse(row.body as string)));
  }
}
