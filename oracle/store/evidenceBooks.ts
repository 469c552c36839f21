import type { EvidenceBooks } from "../evidence/books";
import type { HeldDevice } from "../evidence/devices";
import type { Seed } from "../evidence/seeds";
import type { Epoch, Finding } from "../protocol/types";
import type { Database, Row } from "./database";
import { type Lease, Leases } from "./leases";

/** An attestor's books of evidence, in its store: what it has promised to remember survives a power cut. */
export class StoredBooks implements EvidenceBooks {
  private readonly leases: Leases;

  constructor(private readonly db: Database) {
    this.leases = new Leases(db);
  }

  issue({ value, operatorId, receiptSigner, issuedAt }: Seed, forgetBefore: number, most: number): Promise<boolean> {
    return this.db.transaction(async (queries) => {
      await queries.run("DELETE FROM evidence_seeds WHERE issued_at < ?", [forgetBefore]);
      const waiting = await queries.row(
        "SELECT count(*) AS count FROM evidence_seeds WHERE operator_id = ? AND receipt_signer = ? AND used = 0",
        [operatorId, receiptSigner],
      );
      if (Number(waiting!.count) >= most) return false;
      await queries.run("INSERT INTO evidence_seeds VALUES (?, ?, ?, ?, 0)", [
        value,
        operatorId,
        receiptSigner,
        issuedAt,
      ]);
      return true;
    });
  }

  async find(value: string): Promise<(Seed & { used: boolean }) | undefined> {
    const row = await this.db.row("SELECT * FROM evidence_seeds WHERE seed = ?", [value]);
    if (row === null) return undefined;
    return {
      value,
      operatorId: Number(row.operator_id),
      receiptSigner: row.receipt_signer as string,
      issuedAt: Number(row.issued_at),
      used: Number(row.used) === 1,
    };
  }

  async use(value: string): Promise<boolean> {
    return (await this.db.run("UPDATE evidence_seeds SET used = 1 WHERE seed = ? AND used = 0", [value])) === 1;
  }

  /** Within one transaction, so that of two operators that show a device at once, one gets it. */
  claim(devices: readonly string[], operatorId: number, at: number, until: number): Promise<HeldDevice[]> {
    return this.db.transaction(async (queries) => {
      const held: HeldDevice[] = [];
      for (const device of devices) {
        const row = await queries.row(
          "SELECT * FROM evidence_devices WHERE device = ? AND operator_id <> ? AND held_until >= ?",
          [device, operatorId, at],
        );
        if (row !== null) held.push({ device, operatorId: Number(row.operator_id), until: Number(row.held_until) });
      }
      if (held.length > 0) return held;
      for (const device of devices) {
        await queries.run(
          `INSERT INTO evidence_devices VALUES (?, ?, ?)
             ON CONFLICT (device) DO UPDATE SET operator_id = excluded.operator_id, held_until = excluded.held_until`,
          [device, operatorId, until],
        );
      }
      return [];
    });
  }

  async recordFinding(finding: Finding, lease?: Lease): Promise<void> {
    const { operatorId, receiptSigner, tier, from, until, evidenceHash } = finding;
    await this.db.transaction(async (queries) => {
      if (lease !== undefined) await this.leases.require(lease, queries);
      await queries.run("INSERT INTO evidence_findings VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING", [
        evidenceHash,
        operatorId,
        receiptSigner,
        tier,
        from,
        until,
      ]);
    });
  }

  async findings(operatorId: number, { epochStart, epochEnd }: Epoch): Promise<Finding[]> {
    const rows = await this.db.all(
      `SELECT * FROM evidence_findings
         WHERE operator_id = ? AND from_time < ? AND until_time > ? ORDER BY until_time DESC, evidence_hash`,
      [operatorId, epochEnd, epochStart],
    );
    return rows.map(findingOf);
  }
}

function findingOf(row: Row): Finding {
  return {
    operatorId: Number(row.operator_id),
    receiptSigner: row.receipt_signer as string,
    tier: Number(row.tier),
    from: Number(row.from_time),
    until: Number(row.until_time),
    evidenceHash: row.evidence_hash as string,
  };
}
