import type { DatabaseSyncInstance, StatementSyncInstance } from "@photostructure/sqlite";
import { ZeroHash } from "ethers";
import type { Attestation } from "../attestor/attestorApi";
import { GroupCommit, inTransaction } from "./groupCommit";
import {
  headerFromJson,
  headerToJson,
  receiptFromJson,
  signedGrantFromJson,
  signedGrantToJson,
  signedMeasurementFromJson,
  signedMeasurementToJson,
} from "../protocol/messages";
import type {
  BatchHeader,
  Epoch,
  Lane,
  Receipt,
  SignedGrant,
  SignedMeasurement,
  SignedReceipt,
  Usage,
} from "../protocol/types";
import { decodeReceipt, encodeReceipt } from "../protocol/receiptBytes";
import { Problem } from "../problem";
import { openStoreFile, type StoreFile } from "./storeFile";

/** What the store was asked for contradicts what it holds; nothing was written. */
export class StoreConflict extends Error {
  override readonly name = "StoreConflict";
}

/** An attestor was asked to sign a second digest for one sequence of a lane. */
export class Equivocation extends StoreConflict {}

/** What a receipt says that is known before the model answers. */
export type RequestFacts = Pick<
  Receipt,
  | "requestId"
  | "licenseId"
  | "operatorId"
  | "planId"
  | "manifestHash"
  | "generation"
  | "grantHash"
  | "requestHash"
  | "requestSignatureHash"
>;

/** A request that was let through to the model and whose receipt isn't written yet. */
export interface OpenRequest {
  facts: RequestFacts;
  versionId: bigint;
  /** Unix seconds. */
  openedAt: number;
  /** Whether its license settles by vouchers: no batch may have its receipt then. False if left out. */
  onVoucherRoad?: boolean;
}

/** How a request ended. */
export type RequestOutcome = Usage & Pick<Receipt, "responseHash" | "finishedAt" | "durationMs" | "ttftMs" | "flags">;

/** A receipt's digest, signed by one of the operator's keys. */
export interface SignedDigest {
  hash: string;
  signature: string;
  /** The key's address. */
  signer: string;
}

/** `voucher` is one that vouchers pay: it comes into no batch. */
export type ReceiptState = "unbatched" | "batched" | "settled" | "void" | "voucher";

export interface StoredReceipt extends SignedReceipt {
  /** The receipt's EIP-712 digest. */
  hash: string;
  versionId: bigint;
  state: ReceiptState;
  /** The batch that it is in, if it is in one. */
  batchId: string | null;
}

/** A receipt that was just written. */
export interface WrittenReceipt extends StoredReceipt {
  /** What the license now owes in all for its term, in units of the currency, if it settles by vouchers. */
  owed?: bigint;
}

/** A term of a license on the voucher road. */
export interface VoucherTermFacts {
  operatorId: number;
  licenseId: bigint;
  term: number;
  planId: number;
  /** From when on use counts in it, and its end, Unix seconds. */
  since: number;
  endsAt: number;
}

/** What a license owes for a term. Money is in units of the currency, and all that was spent in the term so far. */
export interface StoredVoucherTerm extends VoucherTermFacts {
  /** What was charged before its use was counted here, and what its receipts cost. */
  owed: bigint;
  /** What the voucher that is held says; what was charged before, if there is none. */
  signed: bigint;
  /** What is charged on the chain, as far as is known. */
  charged: bigint;
  /** The voucher that is held, packed; null if there is none. */
  voucher: string | null;
  /** Since when a voucher for more than was charged is held, Unix seconds; null if none is. */
  unpostedSince: number | null;
}

export type BatchState = "drafted" | "attested" | "submitted" | "settled" | "expired";

export interface StoredBatch {
  /** The header's EIP-712 digest. */
  batchId: string;
  header: BatchHeader;
  /** Packed, in hex. */
  entries: string;
  /** What the header's service level is the median of. */
  measurements: SignedMeasurement[];
  state: BatchState;
  /** The committee's, once attested. */
  proof: string | null;
}

/** What waits for its settlement. */
export interface StoreFigures {
  /** Receipts in no batch. */
  unbatched: number;
  /** Receipts in batches that aren't settled. */
  batched: number;
  /** What both cost, in units of the currency. */
  cost: bigint;
  /** Unix seconds; null if there are none in no batch. */
  oldestUnbatchedAt: number | null;
  /** How many batches are in each state. */
  batches: Record<BatchState, number>;
}

const NO_BATCHES: Record<BatchState, number> = { drafted: 0, attested: 0, submitted: 0, settled: 0, expired: 0 };

/** A receipt that an attestor is about to vouch for, and what it costs under its plan. */
export interface AttestedReceipt {
  hash: string;
  receipt: Receipt;
  cost: bigint;
}

/** One of the transactions that an account signed for a nonce: each has the same effect, and pays more for gas than the one before. */
export interface StoredTransaction {
  account: string;
  nonce: number;
  /** Counts from 0. */
  attempt: number;
  /** What it is for, in words that nothing else of the account is for. */
  purpose: string;
  raw: string;
  hash: string;
  /**
   * open: it may still be mined. confirmed, reverted: it was, and that is final. replaced: it never will, as its nonce went to
   * another.
   */
  state: "open" | "confirmed" | "reverted" | "replaced";
  /** That it was mined in, once that is final. */
  block: number | null;
}

export type NewTransaction = Omit<StoredTransaction, "state" | "block">;

/** How a nonce ended: by which of its transactions, or by none that is known here. */
export interface NonceEnd {
  hash: string;
  state: "confirmed" | "reverted";
  block: number;
}

/** What an attestor remembers of a receipt that it vouched for. */
export interface SeenReceipt {
  hash: string;
  previousHash: string;
  batchId: string;
  /** Unix seconds; left out of what was attested before that was remembered. */
  finishedAt?: number;
}

/** A receipt as an operator sent it to an attestor, ahead of any batch. */
export interface Copy {
  /** Of the receipt, 32 bytes. */
  hash: Uint8Array;
  operatorId: number;
  /** Unix seconds. */
  finishedAt: number;
  /** When it came first, Unix seconds. */
  arrivedAt: number;
  /** The address of the key that signed it. */
  signer: string;
  /** Its binary form. */
  record: Uint8Array;
}

/** A receipt's binary form, and its place in the order in which a store got them. */
export interface PlacedRecord {
  position: bigint;
  record: Uint8Array;
}

export interface CanarySample {
  /** Unix seconds. */
  at: number;
  ok: boolean;
  /** 0 unless ok and streamed. */
  ttftMs: number;
  /** Of the answer's tokens after the first; left out where that can't be told. */
  tokensPerSecond?: number;
}

/** Whose a store is, in words that a message can show; what isn't known is left out. */
export interface StoreOwner {
  role: "operator" | "attestor";
  chain: string;
  /** The chain's first: one that was started anew has another. */
  "first block": string;
  escrow: string;
  /** The operator's number. */
  operator?: string;
  /** The attestor's address. */
  attestor?: string;
}

type SqlValue = string | number | bigint | null | Uint8Array;
type Row = Record<string, SqlValue>;

/** Which states a batch may come from to reach another; an expired one goes nowhere, a settled one only back, if the chain does. */
const BATCH_EDGES: Record<BatchState, BatchState[]> = {
  drafted: ["attested", "submitted"],
  attested: ["drafted"],
  submitted: ["attested", "submitted"],
  settled: ["attested", "submitted"],
  expired: ["drafted", "attested", "submitted"],
};

/**
 * What gateway, settler and attestor must not forget, in one SQLite file (each part may have its own).
 * Whatever a method has returned, or a promise of it has resolved to, survives a power cut.
 */
export class Store {
  private readonly file: StoreFile;
  private readonly group: GroupCommit;
  private readonly statements = new Map<string, StatementSyncInstance>();
  /** Is told how many milliseconds each commit of requests and receipts took. */
  onCommit: (ms: number) => void = () => {};

  /**
   * Opens or creates the file, and brings an older one up to date.
   * @throws Problem if that can't be done, or another process has it open
   */
  constructor(private readonly path: string) {
    this.file = openStoreFile(path);
    this.group = new GroupCommit(this.db, (ms) => this.onCommit(ms));
  }

  close(): void {
    this.group.flush();
    this.file.close();
  }

  private get db(): DatabaseSyncInstance {
    return this.file.db;
  }

  /**
   * Notes whose store this is, or holds it against what was noted before.
   * @throws Problem if it is another's: what one chain, deployment or operator knows is wrong for any other
   */
  claim(owner: StoreOwner): void {
    this.transaction(() => {
      for (const [what, value] of Object.entries(owner)) {
        this.run("INSERT OR IGNORE INTO owner VALUES (?, ?)", [what, value]);
        const noted = this.row("SELECT value FROM owner WHERE what = ?", [what])!.value;
        if (noted === value) continue;
        throw new Problem(
          `${this.path} was used with ${what} ${noted}, and this is ${what} ${value}: name another dataFolder (a local ` +
            `chain that was started anew needs one), or go back to what it was used with.`,
        );
      }
    });
  }

  /**
   * Writes without a change, and waits for the disk.
   * @throws Error if nothing can be written at the moment
   */
  probe(): void {
    this.transaction(() => this.run("UPDATE owner SET value = value", []));
  }

  /** How much waits for its settlement. */
  figures(): StoreFigures {
    const unsettled = this.row(
      "SELECT count(*) AS count, sum(cost) AS cost FROM receipts WHERE state IN ('unbatched', 'batched')",
      [],
    )!;
    const unbatched = this.row(
      "SELECT count(*) AS count, min(finished_at) AS oldest FROM receipts WHERE state = 'unbatched'",
      [],
    )!;
    const batches = this.rows("SELECT state, count(*) AS count FROM batches GROUP BY state");
    return {
      unbatched: Number(unbatched.count),
      batched: Number(unsettled.count) - Number(unbatched.count),
      cost: (unsettled.cost as bigint | null) ?? 0n,
      oldestUnbatchedAt: unbatched.oldest === null ? null : Number(unbatched.oldest),
      batches: {
        ...NO_BATCHES,
        ...Object.fromEntries(batches.map(({ state, count }) => [state as BatchState, Number(count)])),
      },
    };
  }

  // Grants

  /** Remembers a grant when it is first used: receipts refer to it, and attestors ask for it. */
  saveGrant(grantHash: string, signed: SignedGrant): void {
    this.run("INSERT OR IGNORE INTO grants (grant_hash, license_id, body) VALUES (?, ?, ?)", [
      grantHash,
      signed.grant.licenseId,
      JSON.stringify(signedGrantToJson(signed)),
    ]);
  }

  grant(grantHash: string): SignedGrant | null {
    const row = this.row("SELECT body FROM grants WHERE grant_hash = ?", [grantHash]);
    return row && signedGrantFromJson(JSON.parse(row.body as string));
  }

  /** What all receipts under a grant cost, void ones too: they were served, and attestors may have counted them. */
  grantUsed(grantHash: string): bigint {
    return (this.row("SELECT used FROM grants WHERE grant_hash = ?", [grantHash])?.used as bigint | undefined) ?? 0n;
  }

  /** From now on the grant is refused, whether it was seen before or not. */
  /**
   * Remembers that a grant of the license was revoked.
   * @param most how many of one license are remembered
   * @returns when it was revoked first, Unix seconds; null if there are too many
   */
  async revokeGrant(licenseId: bigint, grantHash: string, revokedAt: number, most: number): Promise<number | null> {
    const before = this.row("SELECT revoked_at FROM revoked_grants WHERE license_id = ? AND grant_hash = ?", [
      licenseId,
      grantHash,
    ]);
    if (before !== null) return Number(before.revoked_at);
    const all = this.row("SELECT count(*) AS count FROM revoked_grants WHERE license_id = ?", [licenseId])!;
    if (Number(all.count) >= most) return null;
    this.run("INSERT INTO revoked_grants VALUES (?, ?, ?) ON CONFLICT DO NOTHING", [licenseId, grantHash, revokedAt]);
    return revokedAt;
  }

  isGrantRevoked(licenseId: bigint, grantHash: string): boolean {
    const query = "SELECT 1 FROM revoked_grants WHERE license_id = ? AND grant_hash = ?";
    return this.row(query, [licenseId, grantHash]) !== null;
  }

  // Requests and receipts

  /** Notes that a request goes to the model. Its grant must have been saved. */
  async openRequest({ facts, versionId, openedAt, onVoucherRoad = false }: OpenRequest): Promise<void> {
    await this.group.run(() =>
      this.run("INSERT INTO open_requests VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", [
        facts.requestId,
        facts.licenseId,
        facts.operatorId,
        facts.planId,
        versionId,
        facts.manifestHash,
        facts.generation,
        facts.grantHash,
        facts.requestHash,
        facts.requestSignatureHash,
        openedAt,
        onVoucherRoad ? 1 : 0,
      ]),
    );
  }

  /** Forgets a request that never reached the model. */
  async dropRequest(requestId: string): Promise<void> {
    await this.group.run(() => this.run("DELETE FROM open_requests WHERE request_id = ?", [requestId]));
  }

  openRequests(): OpenRequest[] {
    return this.rows("SELECT * FROM open_requests ORDER BY opened_at, request_id").map(openRequestOf);
  }

  /**
   * Closes a request with its receipt: numbers it, links it to the license's last, signs and stores it, all or nothing.
   * Its time is moved up to the previous receipt's, and out of an epoch that is already drafted, where it would never settle.
   * Throws StoreConflict if the request isn't open.
   */
  finishRequest(
    requestId: string,
    outcome: RequestOutcome,
    cost: bigint,
    sign: (receipt: Receipt) => SignedDigest,
  ): Promise<WrittenReceipt> {
    return this.group.run(() => {
      const open = this.takeOpenRequest(requestId);
      const receipt = this.numbered(open, outcome);
      const { hash, signature, signer } = sign(receipt);
      const due = open.onVoucherRoad ? this.addToTerm(receipt, cost) : null;
      const state: ReceiptState = due === null ? "unbatched" : "voucher";
      const stored = { receipt, hash, signature, versionId: open.versionId, state, batchId: null };
      this.insertReceipt(stored, signer, cost, due?.term ?? null);
      return due === null ? stored : { ...stored, owed: due.owed };
    });
  }

  private takeOpenRequest(requestId: string): OpenRequest {
    const row = this.row("DELETE FROM open_requests WHERE request_id = ? RETURNING *", [requestId]);
    if (row === null) throw new StoreConflict(`request ${requestId} isn't open: it has its receipt, or never began`);
    return openRequestOf(row);
  }

  private numbered({ facts, versionId }: OpenRequest, outcome: RequestOutcome): Receipt {
    const previous = this.row(
      "SELECT sequence, receipt_hash, finished_at FROM receipts WHERE operator_id = ? AND license_id = ? ORDER BY sequence DESC LIMIT 1",
      [facts.operatorId, facts.licenseId],
    );
    const drafted = this.row(
      "SELECT epoch_end FROM batches WHERE operator_id = ? AND plan_id = ? AND version_id = ? ORDER BY epoch_end DESC LIMIT 1",
      [facts.operatorId, facts.planId, versionId],
    );
    return {
      ...facts,
      ...outcome,
      sequence: previous === null ? 1n : (previous.sequence as bigint) + 1n,
      previousHash: previous === null ? ZeroHash : (previous.receipt_hash as string),
      finishedAt: Math.max(outcome.finishedAt, Number(previous?.finished_at ?? 0), Number(drafted?.epoch_end ?? 0)),
    };
  }

  /** One with a term is of no lane's business, whatever its state says: only vouchers pay it. */
  private insertReceipt(stored: StoredReceipt, signer: string, cost: bigint, term: number | null): void {
    const { receipt, hash, signature, versionId } = stored;
    this.run("INSERT INTO receipts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, NULL, '', '', ?, ?, ?, ?)", [
      hash,
      receipt.requestId,
      receipt.operatorId,
      receipt.licenseId,
      receipt.sequence,
      receipt.planId,
      versionId,
      receipt.grantHash,
      receipt.finishedAt,
      cost,
      term === null ? "unbatched" : "settled",
      signer,
      term,
      encodeReceipt({ receipt, signature }),
      ((this.row("SELECT max(position) AS last FROM receipts", [])!.last as bigint | null) ?? 0n) + 1n,
    ]);
    this.run("UPDATE grants SET used = used + ? WHERE grant_hash = ?", [cost, receipt.grantHash]);
  }

  receipt(requestId: string): StoredReceipt | null {
    const row = this.row("SELECT * FROM receipts WHERE request_id = ?", [requestId]);
    return row && receiptOf(row);
  }

  /** A license's receipts by an operator from a number on, in their order, and at most so many. */
  receiptsFrom(operatorId: number, licenseId: bigint, sequence: bigint, most: number): StoredReceipt[] {
    return this.rows(
      "SELECT * FROM receipts WHERE operator_id = ? AND license_id = ? AND sequence >= ? ORDER BY sequence LIMIT ?",
      [operatorId, licenseId, sequence, most],
    ).map(receiptOf);
  }

  /** What a license's receipts cost that may still be charged. */
  unsettledCost(licenseId: bigint): bigint {
    const row = this.row(
      "SELECT sum(cost) AS cost FROM receipts WHERE license_id = ? AND state IN ('unbatched', 'batched')",
      [licenseId],
    );
    return (row?.cost as bigint | null) ?? 0n;
  }

  /** What the receipts of all licenses cost that may still be charged. */
  unsettledCostOfAll(): bigint {
    const row = this.row("SELECT sum(cost) AS cost FROM receipts WHERE state IN ('unbatched', 'batched')", []);
    return (row?.cost as bigint | null) ?? 0n;
  }

  // Batches

  /** The lanes that have receipts in no batch, and when the oldest of these finished; the oldest first. */
  lanesWithUnbatched(): (Lane & { oldestFinishedAt: number })[] {
    return this.rows(
      "SELECT operator_id, plan_id, version_id, min(finished_at) AS oldest FROM receipts WHERE state = 'unbatched' GROUP BY 1, 2, 3 ORDER BY oldest",
    ).map((row) => ({ ...laneOf(row), oldestFinishedAt: Number(row.oldest) }));
  }

  /** A lane's receipts of an epoch that are in no batch, by license and sequence: the order of the sum tree. */
  unbatched(lane: Lane, { epochStart, epochEnd }: Epoch): StoredReceipt[] {
    return this.rows(
      `SELECT * FROM receipts WHERE state = 'unbatched' AND operator_id = ? AND plan_id = ? AND version_id = ?
         AND finished_at >= ? AND finished_at < ? ORDER BY license_id, sequence`,
      [...laneValues(lane), epochStart, epochEnd],
    ).map(receiptOf);
  }

  /** How many these are. */
  countUnbatched(lane: Lane, { epochStart, epochEnd }: Epoch): number {
    const row = this.row(
      `SELECT count(*) AS count FROM receipts WHERE state = 'unbatched' AND operator_id = ? AND plan_id = ?
         AND version_id = ? AND finished_at >= ? AND finished_at < ?`,
      [...laneValues(lane), epochStart, epochEnd],
    );
    return Number(row!.count);
  }

  /** Whose keys signed receipts that are in no batch. */
  signersOfUnbatched(): { operatorId: number; signer: string }[] {
    return this.rows(
      "SELECT DISTINCT operator_id, signer FROM receipts WHERE state = 'unbatched' AND signer IS NOT NULL",
    ).map((row) => ({ operatorId: Number(row.operator_id), signer: row.signer as string }));
  }

  /** Voids what a key signed and no batch has, and says how many these are. */
  voidSignedBy(operatorId: number, signer: string): number {
    return this.transaction(() =>
      this.voidReceipts("state = 'unbatched' AND operator_id = ? AND signer = ?", [operatorId, signer]),
    );
  }

  /**
   * Stores a batch with the receipts that it is of.
   * Throws StoreConflict if one of them is in a batch already, or the lane's sequence was used before: attestors may have
   * signed it.
   */
  saveDraft(
    batchId: string,
    header: BatchHeader,
    entries: string,
    measurements: SignedMeasurement[],
    receiptHashes: string[],
  ): void {
    this.transaction(() => {
      if (header.sequence <= this.lastSequence(header)) {
        throw new StoreConflict(`the lane of batch ${batchId} has a batch of sequence ${header.sequence}`);
      }
      this.run(
        `INSERT INTO batches (batch_id, operator_id, plan_id, version_id, sequence, epoch_end, state, header, entries, measurements)
         VALUES (?, ?, ?, ?, ?, ?, 'drafted', ?, ?, ?)`,
        [
          batchId,
          ...laneValues(header),
          header.sequence,
          header.epochEnd,
          JSON.stringify(headerToJson(header)),
          entries,
          JSON.stringify(measurements.map(signedMeasurementToJson)),
        ],
      );
      for (const hash of receiptHashes) {
        const changes = this.run(
          "UPDATE receipts SET state = 'batched', batch_id = ? WHERE receipt_hash = ? AND state = 'unbatched'",
          [batchId, hash],
        );
        if (changes === 0) throw new StoreConflict(`receipt ${hash} isn't free for batch ${batchId}`);
      }
    });
  }

  /** The highest sequence that a batch of the lane was ever drafted with; 0 before the first. */
  lastSequence(lane: Lane): bigint {
    const row = this.row(
      "SELECT max(sequence) AS last FROM batches WHERE operator_id = ? AND plan_id = ? AND version_id = ?",
      laneValues(lane),
    );
    return (row?.last as bigint | null) ?? 0n;
  }

  /** Ends a draft; its receipts are free for another, but for those that no batch will ever get through with. */
  discardDraft(batchId: string, hopelessReceipts: string[] = []): void {
    this.transaction(() => {
      if (this.batch(batchId)?.state !== "drafted") throw this.wrongState(batchId, "discarded");
      for (const hash of hopelessReceipts) this.voidReceipts("batch_id = ? AND receipt_hash = ?", [batchId, hash]);
      this.run("UPDATE receipts SET state = 'unbatched' WHERE batch_id = ? AND state = 'batched'", [batchId]);
      this.run("UPDATE receipts SET batch_id = NULL WHERE batch_id = ?", [batchId]);
      this.mark(batchId, "expired", {});
    });
  }

  batch(batchId: string): StoredBatch | null {
    const row = this.row("SELECT * FROM batches WHERE batch_id = ?", [batchId]);
    return row && batchOf(row);
  }

  /** Batches in one of the states, oldest epoch first. */
  batchesIn(...states: BatchState[]): StoredBatch[] {
    const marks = states.map(() => "?").join(", ");
    return this.rows(`SELECT * FROM batches WHERE state IN (${marks}) ORDER BY epoch_end, sequence`, states).map(
      batchOf,
    );
  }

  /** The receipts of a batch in the order of its sum tree. */
  receiptsOf(batchId: string): StoredReceipt[] {
    return this.rows("SELECT * FROM receipts WHERE batch_id = ? ORDER BY license_id, sequence", [batchId]).map(
      receiptOf,
    );
  }

  /** The hashes of a batch's receipts, in the order of its sum tree. */
  async hashesOf(batchId: string): Promise<string[]> {
    return this.rows("SELECT receipt_hash FROM receipts WHERE batch_id = ? ORDER BY license_id, sequence", [
      batchId,
    ]).map((row) => row.receipt_hash as string);
  }

  /** The grants that a batch's receipts came under. */
  async grantsOf(batchId: string): Promise<SignedGrant[]> {
    return this.rows(
      `SELECT body FROM grants WHERE grant_hash IN (SELECT grant_hash FROM receipts WHERE batch_id = ?)
         ORDER BY license_id, grant_hash`,
      [batchId],
    ).map((row) => signedGrantFromJson(JSON.parse(row.body as string)));
  }

  /** Receipts' binary forms, in the hashes' order; those that aren't there are left out. */
  async recordsOf(hashes: readonly string[]): Promise<Uint8Array[]> {
    return hashes.flatMap((hash) => {
      const row = this.row("SELECT record, body, signature FROM receipts WHERE receipt_hash = ?", [hash]);
      return row === null ? [] : [recordOf(row)];
    });
  }

  /** Receipts that may still settle and were written after a place in the order of all, in that order; at most so many. */
  async receiptsAfter(position: bigint, most: number): Promise<PlacedRecord[]> {
    return this.rows(
      `SELECT position, record, body, signature FROM receipts
         WHERE position > ? AND state IN ('unbatched', 'batched') ORDER BY position LIMIT ?`,
      [position, most],
    ).map((row) => ({ position: row.position as bigint, record: recordOf(row) }));
  }

  /** Up to which place an attestor was sent all receipts that may still settle. */
  async fedUpTo(attestor: string): Promise<bigint> {
    const row = this.row("SELECT position FROM feeds WHERE attestor = ?", [attestor]);
    if (row !== null) return row.position as bigint;
    const first = this.row("SELECT min(position) AS first FROM receipts WHERE state IN ('unbatched', 'batched')", []);
    return ((first!.first as bigint | null) ?? 1n) - 1n;
  }

  async markFed(attestor: string, position: bigint): Promise<void> {
    this.run("INSERT INTO feeds VALUES (?, ?) ON CONFLICT (attestor) DO UPDATE SET position = excluded.position", [
      attestor,
      position,
    ]);
  }

  /** Keeps what members signed of a batch, so that nobody need sign it at the same time as the others. */
  saveSignatures(batchId: string, signatures: Attestation[]): void {
    this.transaction(() => {
      for (const { signer, signature } of signatures) {
        this.run("INSERT OR REPLACE INTO signatures VALUES (?, ?, ?)", [batchId, signer, signature]);
      }
    });
  }

  signaturesOf(batchId: string): Attestation[] {
    return this.rows("SELECT signer, signature FROM signatures WHERE batch_id = ? ORDER BY signer", [batchId]).map(
      ({ signer, signature }) => ({ signer: signer as string, signature: signature as string }),
    );
  }

  /** The `mark…` methods throw StoreConflict unless the batch is in a state from which it may get there. */
  markAttested(batchId: string, proof: string): void {
    this.mark(batchId, "attested", { proof });
  }

  /** Where its proof isn't taken any more: it needs other signatures. */
  markUnproven(batchId: string): void {
    this.mark(batchId, "drafted", {});
  }

  /** Once there is a transaction for it. */
  markSubmitted(batchId: string): void {
    this.mark(batchId, "submitted", {});
  }

  /** Where the chain has undone a settlement that was final: its receipts aren't paid. */
  markUndone(batchId: string): void {
    this.transaction(() => {
      this.mark(batchId, "submitted", {}, ["settled"]);
      this.run("UPDATE receipts SET state = 'batched' WHERE batch_id = ? AND state = 'settled'", [batchId]);
    });
  }

  /** Once the settlement is final: its receipts no longer count against their licenses. */
  markSettled(batchId: string): void {
    this.transaction(() => {
      this.mark(batchId, "settled", {});
      this.run("UPDATE receipts SET state = 'settled' WHERE batch_id = ?", [batchId]);
    });
  }

  /** When its window has passed: the batch and its receipts can never be charged. */
  markExpired(batchId: string): void {
    this.transaction(() => {
      this.mark(batchId, "expired", {});
      this.voidReceipts("batch_id = ?", [batchId]);
    });
  }

  /** Voids a lane's receipts of an epoch that are in no batch, and says how many these are: nothing settles them any more. */
  voidUnbatched(lane: Lane, { epochStart, epochEnd }: Epoch): number {
    return this.transaction(() =>
      this.voidReceipts(
        `state = 'unbatched' AND operator_id = ? AND plan_id = ? AND version_id = ?
           AND finished_at >= ? AND finished_at < ?`,
        [...laneValues(lane), epochStart, epochEnd],
      ),
    );
  }

  private voidReceipts(condition: string, values: SqlValue[]): number {
    return this.run(`UPDATE receipts SET state = 'void' WHERE ${condition}`, values);
  }

  private mark(batchId: string, to: BatchState, fields: Record<string, string>, from = BATCH_EDGES[to]): void {
    const assignments = ["state = ?", ...Object.keys(fields).map((field) => `${field} = ?`)].join(", ");
    const changes = this.run(
      `UPDATE batches SET ${assignments} WHERE batch_id = ? AND state IN (${from.map(() => "?").join(", ")})`,
      [to, ...Object.values(fields), batchId, ...from],
    );
    if (changes === 0) throw this.wrongState(batchId, to);
  }

  private wrongState(batchId: string, wanted: string): StoreConflict {
    return new StoreConflict(`batch ${batchId} is ${this.batch(batchId)?.state ?? "unknown"} and can't be ${wanted}`);
  }

  // Transactions

  /**
   * Notes a transaction before it is sent.
   * Throws StoreConflict if the account signed another for the same attempt, or one for another purpose with that nonce is
   * under way.
   */
  async saveTransaction({ account, nonce, attempt, purpose, raw, hash }: NewTransaction): Promise<void> {
    this.transaction(() => {
      const before = this.row("SELECT max(attempt) AS last FROM transactions WHERE account = ? AND nonce = ?", [
        account,
        nonce,
      ]);
      const next = before === null || before.last === null ? 0 : Number(before.last) + 1;
      if (attempt !== next) {
        throw new StoreConflict(`nonce ${nonce} of ${account} has ${next} transactions, and this is number ${attempt}`);
      }
      this.run("INSERT INTO transactions VALUES (?, ?, ?, ?, ?, ?, 'open', NULL)", [
        account,
        nonce,
        attempt,
        purpose,
        raw,
        hash,
      ]);
    });
  }

  /** The highest nonce that the account ever signed with; null before the first. */
  async lastNonce(account: string): Promise<number | null> {
    const row = this.row("SELECT max(nonce) AS last FROM transactions WHERE account = ?", [account]);
    return row === null || row.last === null ? null : Number(row.last);
  }

  /** An account's transactions that may still be mined, by nonce and attempt. */
  async openTransactions(account: string): Promise<StoredTransaction[]> {
    return this.rows("SELECT * FROM transactions WHERE account = ? AND state = 'open' ORDER BY nonce, attempt", [
      account,
    ]).map(transactionOf);
  }

  /** All of a nonce, by attempt. */
  async transactionsWith(account: string, nonce: number): Promise<StoredTransaction[]> {
    return this.rows("SELECT * FROM transactions WHERE account = ? AND nonce = ? ORDER BY attempt", [
      account,
      nonce,
    ]).map(transactionOf);
  }

  /** The last nonce that was signed with for a purpose; null if there is none. */
  async nonceFor(account: string, purpose: string): Promise<number | null> {
    const row = this.row("SELECT max(nonce) AS last FROM transactions WHERE account = ? AND purpose = ?", [
      account,
      purpose,
    ]);
    return row === null || row.last === null ? null : Number(row.last);
  }

  /** Those that ended in a block from `block` on. */
  async transactionsMinedFrom(account: string, block: number): Promise<StoredTransaction[]> {
    return this.rows("SELECT * FROM transactions WHERE account = ? AND block >= ? ORDER BY nonce", [
      account,
      block,
    ]).map(transactionOf);
  }

  /** Once it is final which of a nonce's transactions was mined, if one was. */
  async endNonce(account: string, nonce: number, end: NonceEnd | null): Promise<void> {
    this.transaction(() => {
      this.run("UPDATE transactions SET state = 'replaced', block = NULL WHERE account = ? AND nonce = ?", [
        account,
        nonce,
      ]);
      if (end === null) return;
      this.run("UPDATE transactions SET state = ?, block = ? WHERE hash = ?", [end.state, end.block, end.hash]);
    });
  }

  /** Where the chain has undone what was final: all of a nonce's may be mined again. */
  async reopenNonce(account: string, nonce: number): Promise<void> {
    this.run("UPDATE transactions SET state = 'open', block = NULL WHERE account = ? AND nonce = ?", [account, nonce]);
  }

  // Vouchers

  /** Begins to count what is owed for a term, from what is charged in it already; anew if its license has come here again since. */
  async openVoucherTerm(
    { operatorId, licenseId, term, planId, since, endsAt }: VoucherTermFacts,
    charged: bigint,
  ): Promise<void> {
    this.run(
      `INSERT INTO voucher_terms (operator_id, license_id, term, plan_id, since, ends_at, owed, signed, charged)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
         ON CONFLICT (operator_id, license_id, term) DO UPDATE SET plan_id = excluded.plan_id, since = excluded.since,
           ends_at = excluded.ends_at, owed = excluded.owed, signed = excluded.signed, charged = excluded.charged,
           voucher = NULL, unposted_since = NULL, is_closed = 0
         WHERE voucher_terms.since < excluded.since`,
      [operatorId, licenseId, term, planId, since, endsAt, charged, charged, charged],
    );
  }

  /** A license's terms that aren't closed, in their order. */
  async voucherTerms(operatorId: number, licenseId: bigint): Promise<StoredVoucherTerm[]> {
    return this.rows(
      "SELECT * FROM voucher_terms WHERE operator_id = ? AND license_id = ? AND is_closed = 0 ORDER BY term",
      [operatorId, licenseId],
    ).map(voucherTermOf);
  }

  /** Adds a request's cost to the term in which it finished: to the first that is known, where clocks differ. */
  private addToTerm({ operatorId, licenseId, finishedAt }: Receipt, cost: bigint): { term: number; owed: bigint } {
    const row = this.row(
      `UPDATE voucher_terms SET owed = owed + ? WHERE operator_id = ? AND license_id = ? AND term = (
         SELECT term FROM voucher_terms WHERE operator_id = ? AND license_id = ?
           ORDER BY CASE WHEN since <= ? THEN term ELSE -1 - term END DESC LIMIT 1
       ) RETURNING term, owed`,
      [cost, operatorId, licenseId, operatorId, licenseId, finishedAt],
    );
    if (row === null) throw new StoreConflict(`license ${licenseId} has no term on the voucher road`);
    return { term: Number(row.term), owed: row.owed as bigint };
  }

  /** Keeps a voucher in the place of the one before, which must be for less. @param at Unix seconds @returns whether it did */
  async saveVoucher(
    term: Pick<VoucherTermFacts, "operatorId" | "licenseId" | "term">,
    signed: bigint,
    voucher: string,
    at: number,
  ): Promise<boolean> {
    const { operatorId, licenseId, term: number } = term;
    const changes = this.run(
      `UPDATE voucher_terms SET signed = ?, voucher = ?, unposted_since = coalesce(unposted_since, ?)
         WHERE operator_id = ? AND license_id = ? AND term = ? AND signed < ? AND is_closed = 0`,
      [signed, voucher, at, operatorId, licenseId, number, signed],
    );
    return changes > 0;
  }

  /** The terms of which a voucher is held that isn't posted, by license and term: the order in which they are posted. */
  async unpostedVouchers(): Promise<StoredVoucherTerm[]> {
    return this.rows(
      "SELECT * FROM voucher_terms WHERE unposted_since IS NOT NULL ORDER BY operator_id, plan_id, license_id, term",
    ).map(voucherTermOf);
  }

  /** What the chain's counter of a term says. A voucher that is for no more than that is posted. */
  async noteCharged(
    { operatorId, licenseId, term }: Pick<VoucherTermFacts, "operatorId" | "licenseId" | "term">,
    charged: bigint,
  ): Promise<void> {
    this.run(
      `UPDATE voucher_terms SET charged = ?, unposted_since = CASE WHEN signed <= ? THEN NULL ELSE unposted_since END
         WHERE operator_id = ? AND license_id = ? AND term = ? AND charged <= ?`,
      [charged, charged, operatorId, licenseId, term, charged],
    );
  }

  /** When nothing more of it can be charged: what is still owed for it is lost. */
  async closeVoucherTerm({
    operatorId,
    licenseId,
    term,
  }: Pick<VoucherTermFacts, "operatorId" | "licenseId" | "term">): Promise<void> {
    this.run(
      "UPDATE voucher_terms SET is_closed = 1, unposted_since = NULL WHERE operator_id = ? AND license_id = ? AND term = ?",
      [operatorId, licenseId, term],
    );
  }

  // The attestor's side

  /** Keeps copies of receipts, and gives those that weren't there yet. */
  keepCopies(copies: readonly Copy[]): Promise<Copy[]> {
    return this.group.run(() => {
      let position = (this.row("SELECT max(position) AS last FROM copies", [])!.last as bigint | null) ?? 0n;
      return copies.filter(({ hash, operatorId, finishedAt, arrivedAt, signer, record }) => {
        const added = this.run("INSERT INTO copies VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING", [
          position + 1n,
          hash,
          operatorId,
          finishedAt,
          arrivedAt,
          signer,
          record,
        ]);
        position += BigInt(added);
        return added > 0;
      });
    });
  }

  /** The copies of these receipts, in whatever order; those that aren't there are left out. */
  async copiesOf(hashes: readonly Uint8Array[]): Promise<Copy[]> {
    const marks = hashes.map(() => "?").join(", ");
    return this.rows(`SELECT * FROM copies WHERE receipt_hash IN (${marks})`, [...hashes]).map(copyOf);
  }

  /** An operator's copies that came after a place in the order of all, in that order; at most so many. */
  async copiesAfter(operatorId: number, position: bigint, most: number): Promise<PlacedRecord[]> {
    return this.rows(
      "SELECT position, record FROM copies WHERE operator_id = ? AND position > ? ORDER BY position LIMIT ?",
      [operatorId, position, most],
    ).map((row) => ({ position: row.position as bigint, record: row.record as Uint8Array }));
  }

  /** How many copies there are of each operator. */
  async countCopies(): Promise<Map<number, number>> {
    const rows = this.rows("SELECT operator_id, count(*) AS count FROM copies GROUP BY operator_id");
    return new Map(rows.map(({ operator_id, count }) => [Number(operator_id), Number(count)]));
  }

  /** Drops copies of receipts that finished before a time (Unix seconds), at most so many; gives how many these were. */
  async dropCopies(finishedBefore: number, most: number): Promise<number> {
    return this.run(
      "DELETE FROM copies WHERE position IN (SELECT position FROM copies WHERE finished_at < ? ORDER BY finished_at LIMIT ?)",
      [finishedBefore, most],
    );
  }

  /** The digest that was signed for a sequence of a lane. */
  attestedBatch(lane: Lane, sequence: bigint): string | null {
    const row = this.row(
      "SELECT batch_id FROM attested_batches WHERE operator_id = ? AND plan_id = ? AND version_id = ? AND sequence = ?",
      [...laneValues(lane), sequence],
    );
    return row && (row.batch_id as string);
  }

  /** The other batches that were signed for a lane above a sequence, of epochs that ended at or after a time. */
  attestedSince(lane: Lane, sequence: bigint, epochEndedFrom: number): { sequence: bigint; batchId: string }[] {
    return this.rows(
      `SELECT sequence, batch_id FROM attested_batches
         WHERE operator_id = ? AND plan_id = ? AND version_id = ? AND sequence > ? AND epoch_end >= ? ORDER BY sequence`,
      [...laneValues(lane), sequence, epochEndedFrom],
    ).map((row) => ({ sequence: row.sequence as bigint, batchId: row.batch_id as string }));
  }

  /**
   * Notes, before it is signed, what an attestor vouches for; the same batch may be noted again.
   * Throws Equivocation if another batch was signed for the lane's sequence, and StoreConflict if one of the receipts,
   * its request or its number was in another batch. Then nothing may be signed.
   */
  recordAttestation(batchId: string, header: BatchHeader, receipts: AttestedReceipt[]): void {
    this.transaction(() => {
      const signed = this.attestedBatch(header, header.sequence);
      if (signed === batchId) return;
      if (signed !== null)
        throw new Equivocation(`sequence ${header.sequence} was signed as ${signed}, not ${batchId}`);
      this.run("INSERT INTO attested_batches VALUES (?, ?, ?, ?, ?, ?)", [
        ...laneValues(header),
        header.sequence,
        header.epochEnd,
        batchId,
      ]);
      for (const attested of receipts) this.recordSeen(batchId, attested);
    });
  }

  private recordSeen(batchId: string, { hash, receipt, cost }: AttestedReceipt): void {
    const { requestId, operatorId, licenseId, sequence, previousHash, grantHash, finishedAt } = receipt;
    const seen = this.seenReceipt(operatorId, licenseId, sequence) ?? this.seenRequest(operatorId, requestId);
    if (seen !== null) {
      throw new StoreConflict(
        `receipt ${hash} (license ${licenseId}, sequence ${sequence}) repeats one of batch ${seen.batchId}`,
      );
    }
    this.run("INSERT INTO seen_receipts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", [
      hash,
      requestId,
      operatorId,
      licenseId,
      sequence,
      previousHash,
      grantHash,
      cost,
      batchId,
      finishedAt,
    ]);
  }

  /** The receipt that was attested under this number, if one was. */
  seenReceipt(operatorId: number, licenseId: bigint, sequence: bigint): SeenReceipt | null {
    const row = this.row("SELECT * FROM seen_receipts WHERE operator_id = ? AND license_id = ? AND sequence = ?", [
      operatorId,
      licenseId,
      sequence,
    ]);
    return row && seenReceiptOf(row);
  }

  /** The receipt of this request that was attested, if one was. */
  seenRequest(operatorId: number, requestId: string): SeenReceipt | null {
    const row = this.row("SELECT * FROM seen_receipts WHERE operator_id = ? AND request_id = ?", [
      operatorId,
      requestId,
    ]);
    return row && seenReceiptOf(row);
  }

  /** What the attested receipts under a grant cost, those of one batch left out. */
  attestedCost(grantHash: string, exceptBatchId: string): bigint {
    const row = this.row("SELECT sum(cost) AS cost FROM seen_receipts WHERE grant_hash = ? AND batch_id <> ?", [
      grantHash,
      exceptBatchId,
    ]);
    return (row?.cost as bigint | null) ?? 0n;
  }

  /** Not earlier than what was measured already, whatever the clock says: an epoch that was measured doesn't change. */
  recordCanary(lane: Lane, { at, ok, ttftMs, tokensPerSecond }: CanarySample): void {
    const measuredUntil = Number(this.row("SELECT until FROM measured", [])?.until ?? 0);
    this.run("INSERT INTO canaries VALUES (?, ?, ?, ?, ?, ?, ?)", [
      ...laneValues(lane),
      Math.max(at, measuredUntil),
      ok ? 1 : 0,
      ttftMs,
      tokensPerSecond ?? null,
    ]);
  }

  /** Notes, before it is signed, that the time until `until` (Unix seconds) is measured: no sample is put into it any more. */
  noteMeasured(until: number): void {
    this.run(
      `INSERT INTO measured VALUES ('canaries', ?)
         ON CONFLICT (what) DO UPDATE SET until = excluded.until WHERE excluded.until > measured.until`,
      [until],
    );
  }

  /** A lane's samples within an epoch, oldest first. */
  canarySamples(lane: Lane, { epochStart, epochEnd }: Epoch): CanarySample[] {
    return this.rows(
      `SELECT at, ok, ttft_ms, tokens_per_second FROM canaries
         WHERE operator_id = ? AND plan_id = ? AND version_id = ? AND at >= ? AND at < ? ORDER BY at, ok, ttft_ms`,
      [...laneValues(lane), epochStart, epochEnd],
    ).map((row) => ({
      at: Number(row.at),
      ok: row.ok === 1n,
      ttftMs: Number(row.ttft_ms),
      ...(row.tokens_per_second === null ? {} : { tokensPerSecond: Number(row.tokens_per_second) }),
    }));
  }

  // SQLite

  private transaction<T>(work: () => T): T {
    return inTransaction(this.db, work);
  }

  private statement(sql: string): StatementSyncInstance {
    let statement = this.statements.get(sql);
    if (statement === undefined) {
      statement = this.db.prepare(sql);
      this.statements.set(sql, statement);
    }
    return statement;
  }

  /** How many rows it changed. */
  private run(sql: string, values: SqlValue[]): number {
    return Number(this.statement(sql).run(...values).changes);
  }

  private row(sql: string, values: SqlValue[]): Row | null {
    return (this.statement(sql).get(...values) as Row | undefined) ?? null;
  }

  private rows(sql: string, values: SqlValue[] = []): Row[] {
    return this.statement(sql).all(...values) as Row[];
  }
}

function laneValues({ operatorId, planId, versionId }: Lane): SqlValue[] {
  return [operatorId, planId, versionId];
}

function laneOf(row: Row): Lane {
  return {
    operatorId: Number(row.operator_id),
    planId: Number(row.plan_id),
    versionId: row.version_id as bigint,
  };
}

function openRequestOf(row: Row): OpenRequest {
  return {
    facts: {
      requestId: row.request_id as string,
      licenseId: row.license_id as bigint,
      operatorId: Number(row.operator_id),
      planId: Number(row.plan_id),
      manifestHash: row.manifest_hash as string,
      generation: Number(row.generation),
      grantHash: row.grant_hash as string,
      requestHash: row.request_hash as string,
      requestSignatureHash: row.request_signature_hash as string,
    },
    versionId: row.version_id as bigint,
    openedAt: Number(row.opened_at),
    ...(row.on_voucher_road === 1n ? { onVoucherRoad: true } : {}),
  };
}

function signedReceiptOf({ record, body, signature }: Row): SignedReceipt {
  if (record !== null) return decodeReceipt(record as Uint8Array);
  return { receipt: receiptFromJson(JSON.parse(body as string)), signature: signature as string };
}

function receiptOf(row: Row): StoredReceipt {
  return {
    ...signedReceiptOf(row),
    hash: row.receipt_hash as string,
    versionId: row.version_id as bigint,
    state: row.term === null ? (row.state as ReceiptState) : "voucher",
    batchId: row.batch_id as string | null,
  };
}

function voucherTermOf(row: Row): StoredVoucherTerm {
  return {
    operatorId: Number(row.operator_id),
    licenseId: row.license_id as bigint,
    term: Number(row.term),
    planId: Number(row.plan_id),
    since: Number(row.since),
    endsAt: Number(row.ends_at),
    owed: row.owed as bigint,
    signed: row.signed as bigint,
    charged: row.charged as bigint,
    voucher: row.voucher as string | null,
    unpostedSince: row.unposted_since === null ? null : Number(row.unposted_since),
  };
}

function recordOf(row: Row): Uint8Array {
  return row.record === null ? encodeReceipt(signedReceiptOf(row)) : (row.record as Uint8Array);
}

function copyOf(row: Row): Copy {
  return {
    hash: row.receipt_hash as Uint8Array,
    operatorId: Number(row.operator_id),
    finishedAt: Number(row.finished_at),
    arrivedAt: Number(row.arrived_at),
    signer: row.signer as string,
    record: row.record as Uint8Array,
  };
}

function batchOf(row: Row): StoredBatch {
  return {
    batchId: row.batch_id as string,
    header: headerFromJson(JSON.parse(row.header as string)),
    entries: row.entries as string,
    measurements: (JSON.parse(row.measurements as string) as unknown[]).map(signedMeasurementFromJson),
    state: row.state as BatchState,
    proof: row.proof as string | null,
  };
}

function transactionOf(row: Row): StoredTransaction {
  return {
    account: row.account as string,
    nonce: Number(row.nonce),
    attempt: Number(row.attempt),
    purpose: row.purpose as string,
    raw: row.raw as string,
    hash: row.hash as string,
    state: row.state as StoredTransaction["state"],
    block: row.block === null ? null : Number(row.block),
  };
}

function seenReceiptOf(row: Row): SeenReceipt {
  return {
    hash: row.receipt_hash as string,
    previousHash: row.previous_hash as string,
    batchId: row.batch_id as string,
    ...(row.finished_at === null ? {} : { finishedAt: Number(row.finished_at) }),
  };
}
