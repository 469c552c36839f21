import { ZeroHash } from "ethers";
import { breathe } from "../breathe";
import type { Attestation } from "../attestor/attestorApi";
import type { Database, Queries, Row, SqlValue } from "./database";
import { copiesOf, type PlacedCopy } from "./copyRows";
import { type NamedReceipt, namesToBytes } from "../protocol/namedReceipts";
import type { CanaryAnswer } from "../attestor/recount";
import type { EvidenceBooks } from "../evidence/books";
import { DisclosureBooks } from "./disclosureBooks";
import { DisputeBooks, dropInput, keepInput } from "./disputeBooks";
import { ArchiveRows } from "./archiveRows";
import { AttestedBatches } from "./attestedBatches";
import { StoredBooks } from "./evidenceBooks";
import {
  type AttestedReceipt,
  attestedCost,
  forgetRequests,
  type NumberSpan,
  rememberReceipts,
  type RequestPlace,
  seenRequests,
  type SeenSpan,
  seenSpans,
} from "./attestedReceipts";
import {
  dropRequestSignatures,
  freeRequestSignature,
  requestSignaturesBy,
  type StoredRequestSignature,
  useRequestSignature,
  withRequestSignatures,
} from "./requestSignatures";
import { GroupCommit } from "./groupCommit";
import { chunks, marks } from "./lists";
import { type Lease, Leases } from "./leases";
import { keepLast, OperatorCopies, type SignedOff, signedOffToJson } from "./operatorCopies";
import { batchesAbove, rebuiltAt, receiptsAbove, Recovery, type ReturnedBatch } from "./recovery";
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
import { usageBy } from "../protocol/meters";
import { METERS } from "../protocol/types";
import { counted, type CountedReceipt, type LicenseTotal } from "../settler/batches";
import { countsOf, decodeReceipt, encodeReceipt, subjectOf } from "../protocol/receiptBytes";
import { Problem } from "../problem";
import type { SignedPayment } from "../x402/exact";
import type { Prepayment, PrepaymentState } from "../x402/prepayments";
import {
  addToGrant,
  addToTallies,
  type Claim,
  freeCost,
  limitAgainst,
  reservedByVoucher,
  type Tally,
  tallyOf,
} from "./tallies";
import type { Refusal } from "../gateway/ledger";

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
  /** The packed signature of the grant's key, where it has one. */
  requestSignature?: Uint8Array;
  /** What it asks, a byte each number, where its answer may have to be proven. */
  input?: Uint8Array;
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

/** Hashes a receipt and signs it. */
export type ReceiptSigner = (receipt: Receipt) => SignedDigest | Promise<SignedDigest>;

/** `voucher` is one that vouchers pay: it comes into no batch. */
export type ReceiptState = "unbatched" | "batched" | "settled" | "void" | "voucher";

export interface StoredReceipt extends SignedReceipt {
  /** The receipt's EIP-712 digest. */
  hash: string;
  versionId: bigint;
  state: ReceiptState;
  /** The batch that it is in, if it is in one. */
  batchId: string | null;
  /** Its request's, where that isn't kept apart: 70 bytes. */
  requestSignature?: Uint8Array;
}

/** What licenses on the voucher road owe, in units of the currency. */
export interface VoucherFigures {
  /** What no voucher is held for. */
  unsigned: bigint;
  /** What vouchers that are held say beyond what is charged. */
  unposted: bigint;
  /** Unix seconds; null if no voucher waits. */
  oldestUnpostedAt: number | null;
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

/** The purpose of what only uses a nonce up: the one that any number of nonces may have. */
export const CANCEL = "cancel";

export type NewTransaction = Omit<StoredTransaction, "state" | "block">;

/** How a nonce ended: by which of its transactions, or by none that is known here. */
export interface NonceEnd {
  hash: string;
  state: "confirmed" | "reverted";
  block: number;
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
  /** The hash of its leaf in a batch's sum tree, 32 bytes. */
  leaf: Uint8Array;
  /** The packed signature of its request, where it came with one. */
  requestSignature?: Uint8Array;
}

/** A number of a license's, as a place among its receipts. */
export type NumberedReceipt = Pick<NamedReceipt, "licenseId" | "sequence">;

export interface NumberedRecord extends NumberedReceipt {
  record: Uint8Array;
}

/** What a lane's licenses have in no batch. */
export interface UnbatchedTotals {
  /** Of all, Unix seconds. */
  oldestFinishedAt: number;
  /** The place, in the order of all receipts, up to which they were looked at. */
  upTo: bigint;
  /** Ascending. */
  licenses: LicenseTotal[];
}

/** The receipts that some licenses have in a span, in no batch, as they were read before. */
export interface LicensesReceipts {
  span: Epoch;
  licenses: readonly bigint[];
  /** How many they are. */
  count: number;
}

/** A receipt's binary form, and its place in the order in which a store got them. */
export interface PlacedRecord {
  position: bigint;
  record: Uint8Array;
}

/** A batch that an attestor signed. */
export interface AttestedBatch {
  sequence: bigint;
  batchId: string;
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

/** A gateway holds the lease of this name and its own as long as it runs. */
export const GATEWAY_LEASE = "gateway/";

/** Which states a batch may come from to reach another; an expired one goes nowhere, a settled one only back, if the chain does. */
const BATCH_EDGES: Record<BatchState, BatchState[]> = {
  drafted: ["attested", "submitted"],
  attested: ["drafted"],
  submitted: ["attested", "submitted"],
  settled: ["attested", "submitted"],
  expired: ["drafted", "attested", "submitted"],
};

/** How far, in seconds, the time of a canary's answer and that of its receipt may be apart. */
const ANSWERS_APART = 3_600;

/**
 * What gateway, settler and attestor must not forget, in one database (each part may have its own).
 * Whatever a promise of it has resolved to survives a power cut.
 */
export class Store {
  readonly leases: Leases;
  private readonly group: GroupCommit;
  /** An attestor's, of operators' evidence. */
  readonly evidence: EvidenceBooks;
  /** An attestor's: what is in the batches that it signed, until that is in files (`copyArchive.ts`). */
  readonly attested: AttestedBatches;
  /** An attestor's, for operators that lose their stores. */
  readonly operatorCopies: OperatorCopies;
  /** An operator's: how the store becomes whole again. */
  readonly recovery: Recovery;
  /** What of it is in files: an operator's receipts (`archive.ts`), or an attestor's copies (`copyArchive.ts`). */
  readonly archive: ArchiveRows;
  /** Of requests that licensees disclosed: an operator's copies of the bodies, an attestor's verdicts. */
  readonly disclosures: DisclosureBooks;
  /** An operator's: what challenges of its charges want. */
  readonly disputes: DisputeBooks;
  /** Is told how many milliseconds each commit of requests and receipts took. */
  onCommit: (ms: number) => void = () => {};

  /** The store closes the database. */
  constructor(private readonly db: Database) {
    this.leases = new Leases(db);
    this.group = new GroupCommit(db, (ms) => this.onCommit(ms));
    this.evidence = new StoredBooks(db);
    this.operatorCopies = new OperatorCopies(db);
    this.attested = new AttestedBatches(db);
    this.archive = new ArchiveRows(db);
    this.recovery = new Recovery(db, {
      insertReceipt: (queries, { receipt, hash, signature, versionId, signer, cost }) =>
        insertReceipt(
          queries,
          { receipt, hash, signature, versionId, state: "unbatched", batchId: null },
          signer,
          cost,
          null,
        ),
      insertBatch,
      voidReceipts,
    });
    this.disclosures = new DisclosureBooks(db);
    this.disputes = new DisputeBooks(db);
  }

  /** When what is being written is written. */
  async close(): Promise<void> {
    await this.group.settled();
    await this.db.close();
  }

  /**
   * Notes whose store this is, or holds it against what was noted before.
   * @throws Problem if it is another's: what one chain, deployment or operator knows is wrong for any other
   */
  async claim(owner: StoreOwner): Promise<void> {
    await this.db.transaction(async (queries) => {
      for (const [what, value] of Object.entries(owner)) {
        if (value === undefined) continue;
        await queries.run("INSERT INTO owner VALUES (?, ?) ON CONFLICT DO NOTHING", [what, value]);
        const noted = (await queries.row("SELECT value FROM owner WHERE what = ?", [what]))!.value;
        if (noted === value) continue;
        throw new Problem(
          `${this.db.name} was used with ${what} ${noted}, and this is ${what} ${value}: name another dataFolder or databaseSchema (a local ` +
            `chain that was started anew needs one), or go back to what it was used with.`,
        );
      }
    });
  }

  /**
   * Writes without a change, and waits for the disk.
   * @throws Error if nothing can be written at the moment
   */
  async probe(): Promise<void> {
    await this.db.transaction((queries) => queries.run("UPDATE owner SET value = value"));
  }

  /** How much waits for its settlement. */
  async figures(): Promise<StoreFigures> {
    const open = await this.batchesIn("drafted", "attested", "submitted");
    const unbatched = (await this.db.row(
      "SELECT count(*) AS count, min(finished_at) AS oldest FROM receipts WHERE state = 'unbatched'",
    ))!;
    const batches = await this.db.all("SELECT state, count(*) AS count FROM batches GROUP BY state");
    return {
      unbatched: Number(unbatched.count),
      batched: open.reduce((sum, { header }) => sum + Number(header.count), 0),
      cost: await this.unsettledCostOfAll(),
      oldestUnbatchedAt: unbatched.oldest === null ? null : Number(unbatched.oldest),
      batches: {
        ...NO_BATCHES,
        ...Object.fromEntries(batches.map(({ state, count }) => [state as BatchState, Number(count)])),
      },
    };
  }

  // Grants

  /** Remembers a grant when it is first used: receipts refer to it, and attestors ask for it. */
  async saveGrant(grantHash: string, signed: SignedGrant): Promise<void> {
    await this.db.run(
      `INSERT INTO grants (grant_hash, license_id, body, expires_at) VALUES (?, ?, ?, ?) ON CONFLICT (grant_hash)
         DO UPDATE SET body = excluded.body, expires_at = excluded.expires_at WHERE grants.body = ''`,
      [grantHash, signed.grant.licenseId, JSON.stringify(signedGrantToJson(signed)), signed.grant.expiresAt],
    );
  }

  async grant(grantHash: string): Promise<SignedGrant | null> {
    const row = await this.db.row("SELECT body FROM grants WHERE grant_hash = ? AND body <> ''", [grantHash]);
    return row && signedGrantFromJson(JSON.parse(row.body as string));
  }

  /** What all receipts under a grant cost, void ones too: they were served, and attestors may have counted them. */
  async grantUsed(grantHash: string): Promise<bigint> {
    const row = await this.db.row("SELECT used FROM grants WHERE grant_hash = ?", [grantHash]);
    return (row?.used as bigint | undefined) ?? 0n;
  }

  /** From now on the grant is refused, whether it was seen before or not. */
  /**
   * Remembers that a grant of the license was revoked.
   * @param most how many of one license are remembered
   * @returns when it was revoked first, Unix seconds; null if there are too many
   */
  revokeGrant(licenseId: bigint, grantHash: string, revokedAt: number, most: number): Promise<number | null> {
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

  async isGrantRevoked(licenseId: bigint, grantHash: string): Promise<boolean> {
    const query = "SELECT 1 FROM revoked_grants WHERE license_id = ? AND grant_hash = ?";
    return (await this.db.row(query, [licenseId, grantHash])) !== null;
  }

  // Requests and receipts

  /**
   * Notes that a request goes to the model, and sets aside what it may cost. Its grant must have been saved.
   * @returns which limit stands against it, or that its signature was used by another: then nothing is noted
   */
  openRequest(
    { facts, versionId, openedAt, onVoucherRoad = false, requestSignature, input }: OpenRequest,
    claim: Claim = { gateway: "", amount: 0n, grantCap: 0n },
  ): Promise<Refusal | "replayed" | null> {
    const { licenseId, grantHash } = facts;
    const { gateway, amount } = claim;
    return this.group.run(async (queries) => {
      const refusal = await limitAgainst(queries, facts, claim);
      if (refusal !== null) return refusal;
      const isNew =
        requestSignature === undefined ||
        (await useRequestSignature(queries, facts.operatorId, requestSignature, facts.requestId));
      if (!isNew) return "replayed";
      await queries.run("INSERT INTO open_requests VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", [
        facts.requestId,
        licenseId,
        facts.operatorId,
        facts.planId,
        versionId,
        facts.manifestHash,
        facts.generation,
        grantHash,
        facts.requestHash,
        facts.requestSignatureHash,
        openedAt,
        onVoucherRoad ? 1 : 0,
        amount,
        gateway,
      ]);
      if (input !== undefined) await keepInput(queries, facts.requestId, input);
      await addToGrant(queries, grantHash, 0n, amount);
      if (!onVoucherRoad) await addToTallies(queries, licenseId, 0n, amount);
      return null;
    });
  }

  /** Forgets a request that never reached the model. */
  async dropRequest(requestId: string): Promise<void> {
    await this.group.run(async (queries) => {
      await removeOpenRequest(queries, requestId, 0n);
      await freeRequestSignature(queries, requestId);
      await dropInput(queries, requestId);
    });
  }

  /** Those of other gateways that have ended without them. */
  async requestsLeftBehind(gateway: string): Promise<OpenRequest[]> {
    const rows = await this.db.all(
      `SELECT * FROM open_requests WHERE gateway <> ? AND NOT EXISTS (
         SELECT 1 FROM leases WHERE leases.name = ? || open_requests.gateway AND leases.until > ${this.db.nowMs}
       ) ORDER BY opened_at, request_id`,
      [gateway, GATEWAY_LEASE],
    );
    return rows.map(openRequestOf);
  }

  async openRequests(): Promise<OpenRequest[]> {
    return (await this.db.all("SELECT * FROM open_requests ORDER BY opened_at, request_id")).map(openRequestOf);
  }

  /**
   * Closes a request with its receipt: numbers it, links it to the license's last, signs and stores it, all or nothing.
   * Its time is moved up to the previous receipt's, and out of an epoch that is already drafted, where it would never settle.
   * Throws StoreConflict if the request isn't open.
   * @param sign may be called again for a receipt that wasn't stored
   */
  finishRequest(
    requestId: string,
    outcome: RequestOutcome,
    cost: bigint,
    sign: ReceiptSigner,
  ): Promise<WrittenReceipt> {
    return this.group.run(async (queries) => {
      const open = await takeOpenRequest(queries, requestId, cost);
      const receipt = await numbered(queries, open, outcome);
      const { hash, signature, signer } = await sign(receipt);
      const due = open.onVoucherRoad ? await addToTerm(queries, receipt, cost) : null;
      const state: ReceiptState = due === null ? "unbatched" : "voucher";
      const stored = { receipt, hash, signature, versionId: open.versionId, state, batchId: null };
      await insertReceipt(queries, stored, signer, cost, due?.term ?? null);
      return due === null ? stored : { ...stored, owed: due.owed };
    });
  }

  async receipt(requestId: string): Promise<StoredReceipt | null> {
    const row = await this.db.row(`${WITH_BATCH_STATE} WHERE request_id = ?`, [requestId]);
    return row && receiptOf(row);
  }

  /** The receipts of some requests, in their requests' order; those that aren't there are left out. */
  async receiptsOfRequests(requestIds: readonly string[]): Promise<StoredReceipt[]> {
    const found = new Map<string, StoredReceipt>();
    for (const some of chunks(requestIds)) {
      const rows = await this.db.all(`${WITH_BATCH_STATE} WHERE request_id IN (${marks(some)})`, some);
      for (const row of rows) found.set(row.request_id as string, receiptOf(row));
    }
    return requestIds.flatMap((requestId) => found.get(requestId) ?? []);
  }

  /** A license's receipts by an operator from a number on, in their order, and at most so many. */
  async receiptsFrom(operatorId: number, licenseId: bigint, sequence: bigint, most: number): Promise<StoredReceipt[]> {
    const rows = await this.db.all(
      `${WITH_BATCH_STATE} WHERE operator_id = ? AND license_id = ? AND sequence >= ? ORDER BY sequence LIMIT ?`,
      [operatorId, licenseId, sequence, most],
    );
    return rows.map(receiptOf);
  }

  /** What a license's receipts cost that may still be charged. */
  async unsettledCost(licenseId: bigint): Promise<bigint> {
    const { cost, freed } = await this.tally(licenseId);
    return cost - freed;
  }

  /** What the receipts of all licenses cost that may still be charged. */
  async unsettledCostOfAll(): Promise<bigint> {
    const { cost, freed } = await this.tallyOfAll();
    return cost - freed;
  }

  tally(licenseId: bigint): Promise<Tally> {
    return tallyOf(this.db, "license", licenseId);
  }

  tallyOfAll(): Promise<Tally> {
    return tallyOf(this.db, "all", 0n);
  }

  /** How many licenses owe something for receipts that may still be charged by a batch. */
  async owingLicenses(): Promise<number> {
    const row = await this.db.row("SELECT count(*) AS count FROM tallies WHERE what = 'license' AND cost > freed");
    return Number(row!.count);
  }

  // Batches

  /** The lanes that have receipts in no batch, and when the oldest of these finished; the oldest first. */
  async lanesWithUnbatched(): Promise<(Lane & { oldestFinishedAt: number })[]> {
    const rows = await this.db.all(
      "SELECT operator_id, plan_id, version_id, min(finished_at) AS oldest FROM receipts WHERE state = 'unbatched' GROUP BY 1, 2, 3 ORDER BY oldest",
    );
    return rows.map((row) => ({ ...laneOf(row), oldestFinishedAt: Number(row.oldest) }));
  }

  /** A lane's receipts of an epoch that are in no batch, by license and sequence: the order of the sum tree. */
  async unbatched(lane: Lane, { epochStart, epochEnd }: Epoch): Promise<StoredReceipt[]> {
    const rows = await this.db.all(`${WITH_BATCH_STATE} WHERE ${UNBATCHED_IN_SPAN} ORDER BY license_id, sequence`, [
      ...laneValues(lane),
      epochStart,
      epochEnd,
    ]);
    return rows.map(receiptOf);
  }

  /**
   * What each license has of them, ascending by license, and when the oldest of all finished; null if there are none.
   * @returns "unknown" where some were written before their meters were kept apart
   */
  async unbatchedTotals(lane: Lane, { epochStart, epochEnd }: Epoch): Promise<UnbatchedTotals | "unknown" | null> {
    const upTo = await this.lastPosition();
    const sums = METER_COLUMNS.map((column) => `sum(${column}) AS ${column}`).join(", ");
    const rows = await this.db.all(
      `SELECT license_id, count(*) AS receipts, count(requests) AS known, min(finished_at) AS oldest, ${sums}
         FROM receipts WHERE ${UNBATCHED_IN_SPAN} GROUP BY license_id ORDER BY license_id`,
      [...laneValues(lane), epochStart, epochEnd],
    );
    if (rows.length === 0) return null;
    if (rows.some(({ receipts, known }) => receipts !== known)) return "unknown";
    return {
      upTo,
      oldestFinishedAt: rows.reduce((oldest, row) => Math.min(oldest, Number(row.oldest)), Infinity),
      licenses: rows.map((row) => ({
        licenseId: row.license_id as bigint,
        receipts: Number(row.receipts),
        usage: usageOfRow(row),
      })),
    };
  }

  /** The place of the last receipt that was written, in the order of all; 0 before the first. */
  async lastPosition(): Promise<bigint> {
    return ((await this.db.row("SELECT max(position) AS last FROM receipts"))!.last as bigint | null) ?? 0n;
  }

  /** What those of some licenses, ascending, count; by license and sequence. */
  async unbatchedOf(
    lane: Lane,
    { epochStart, epochEnd }: Epoch,
    licenses: readonly bigint[],
  ): Promise<CountedReceipt[]> {
    const found: CountedReceipt[] = [];
    for (const some of chunks(licenses, LICENSES_AT_ONCE)) {
      const condition = `${UNBATCHED_IN_SPAN} AND license_id IN (${marks(some)}) ORDER BY license_id, sequence`;
      const values = [...laneValues(lane), epochStart, epochEnd, ...some];
      let rows = await this.db.all(`SELECT leaf, record FROM receipts WHERE ${condition}`, values);
      if (rows.some(({ leaf }) => leaf === null)) {
        rows = await this.db.all(`SELECT * FROM receipts WHERE ${condition}`, values);
      }
      for (const row of rows) found.push(countedReceiptOf(row));
      await breathe();
    }
    return found;
  }

  /** How many these are. */
  countUnbatched(lane: Lane, span: Epoch): Promise<number> {
    return countUnbatched(this.db, lane, span);
  }

  /** Whose keys signed receipts that are in no batch. */
  async signersOfUnbatched(): Promise<{ operatorId: number; signer: string }[]> {
    const rows = await this.db.all(
      "SELECT DISTINCT operator_id, signer FROM receipts WHERE state = 'unbatched' AND signer IS NOT NULL",
    );
    return rows.map((row) => ({ operatorId: Number(row.operator_id), signer: row.signer as string }));
  }

  /** Voids what a key signed and no batch has, and says how many these are. */
  voidSignedBy(operatorId: number, signer: string): Promise<number> {
    return this.db.transaction((queries) =>
      voidReceipts(queries, "state = 'unbatched' AND operator_id = ? AND signer = ?", [operatorId, signer]),
    );
  }

  /**
   * Stores a batch with the receipts that it is of.
   * Throws StoreConflict if one of them is in a batch already, others came into the span that was looked at, or the lane's
   * sequence was used before: attestors may have signed it.
   * @param receipts their hashes, or whose they are
   * @param looked up to which place of the order of all receipts these were chosen from
   */
  async saveDraft(
    batchId: string,
    header: BatchHeader,
    entries: string,
    measurements: SignedMeasurement[],
    receipts: string[] | LicensesReceipts,
    looked?: { span: Epoch; upTo: bigint },
  ): Promise<void> {
    await this.db.transaction(async (queries) => {
      if (header.sequence <= (await lastSequence(queries, header))) {
        throw new StoreConflict(`the lane of batch ${batchId} has a batch of sequence ${header.sequence}`);
      }
      if (looked !== undefined) await requireNoLater(queries, header, looked);
      await insertBatch(queries, { batchId, header, entries, measurements, proof: null });
      await (Array.isArray(receipts)
        ? putInto(queries, batchId, receipts)
        : putAllInto(queries, batchId, header, receipts));
    });
  }

  /** The highest sequence that a batch of the lane was drafted with, or may have been before the store was rebuilt; 0 before the first. */
  lastSequence(lane: Lane): Promise<bigint> {
    return lastSequence(this.db, lane);
  }

  /** Ends a draft; its receipts are free for another, but for those that no batch will ever get through with. */
  async discardDraft(batchId: string, hopelessReceipts: string[] = []): Promise<void> {
    await this.db.transaction(async (queries) => {
      const draft = await batchBy(queries, batchId);
      if (draft?.state !== "drafted") throw wrongState(batchId, draft, "discarded");
      for (const hash of hopelessReceipts) {
        await voidReceipts(queries, "batch_id = ? AND receipt_hash = ?", [batchId, hash]);
      }
      await queries.run("UPDATE receipts SET state = 'unbatched' WHERE batch_id = ? AND state = 'batched'", [batchId]);
      await queries.run("UPDATE receipts SET batch_id = NULL WHERE batch_id = ?", [batchId]);
      await mark(queries, batchId, "expired", {});
    });
  }

  batch(batchId: string): Promise<StoredBatch | null> {
    return batchBy(this.db, batchId);
  }

  /** Batches in one of the states, oldest epoch first. */
  async batchesIn(...states: BatchState[]): Promise<StoredBatch[]> {
    const rows = await this.db.all(
      `SELECT * FROM batches WHERE state IN (${marks(states)}) ORDER BY epoch_end, sequence`,
      states,
    );
    return rows.map(batchOf);
  }

  /** The receipts of a batch in the order of its sum tree. */
  async receiptsOf(batchId: string): Promise<StoredReceipt[]> {
    const rows = await this.db.all(`${WITH_BATCH_STATE} WHERE batch_id = ? ORDER BY license_id, sequence`, [batchId]);
    return rows.map(receiptOf);
  }

  /** Those of one license, by their numbers. */
  async receiptsOfLicense(batchId: string, licenseId: bigint): Promise<StoredReceipt[]> {
    const rows = await this.db.all(`${WITH_BATCH_STATE} WHERE batch_id = ? AND license_id = ? ORDER BY sequence`, [
      batchId,
      licenseId,
    ]);
    return rows.map(receiptOf);
  }

  /** By its EIP-712 digest; null if it isn't here. */
  async receiptWith(hash: string): Promise<StoredReceipt | null> {
    const row = await this.db.row(`${WITH_BATCH_STATE} WHERE receipt_hash = ?`, [hash]);
    return row && receiptOf(row);
  }

  /** Whether a batch of the operator's was ever drafted here. */
  async hasBatchesOf(operatorId: number): Promise<boolean> {
    return (await this.db.row("SELECT 1 FROM batches WHERE operator_id = ? LIMIT 1", [operatorId])) !== null;
  }

  /**
   * A batch's receipts, in the order of its sum tree, and the hashes of their leaves; without these where a receipt was written
   * before leaves were kept.
   */
  async receiptsIn(batchId: string): Promise<{ receipts: NamedReceipt[]; leaves?: string[] }> {
    const rows = await this.db.all(
      "SELECT license_id, sequence, receipt_hash, leaf FROM receipts WHERE batch_id = ? ORDER BY license_id, sequence",
      [batchId],
    );
    const receipts = rows.map((row) => ({
      licenseId: row.license_id as bigint,
      sequence: row.sequence as bigint,
      hash: row.receipt_hash as string,
    }));
    if (rows.some(({ leaf }) => leaf === null)) return { receipts };
    return { receipts, leaves: rows.map(({ leaf }) => `0x${Buffer.from(leaf as Uint8Array).toString("hex")}`) };
  }

  /** The hashes of a batch's receipts, in the order of its sum tree. */
  async hashesOf(batchId: string): Promise<string[]> {
    return (
      await this.db.all("SELECT receipt_hash FROM receipts WHERE batch_id = ? ORDER BY license_id, sequence", [batchId])
    ).map((row) => row.receipt_hash as string);
  }

  /** The grants that a batch's receipts came under. */
  async grantsOf(batchId: string): Promise<SignedGrant[]> {
    return (
      await this.db.all(
        `SELECT body FROM grants WHERE grant_hash IN (SELECT grant_hash FROM receipts WHERE batch_id = ?) AND body <> ''
         ORDER BY license_id, grant_hash`,
        [batchId],
      )
    ).map((row) => signedGrantFromJson(JSON.parse(row.body as string)));
  }

  /** Receipts' binary forms with their requests' signatures, in the hashes' order; those that aren't there are left out. */
  async recordsOf(hashes: readonly string[]): Promise<Uint8Array[]> {
    const records = new Map<string, Uint8Array>();
    for (const some of chunks(hashes)) {
      const rows = await this.db.all(
        `SELECT receipt_hash, record, body, signature FROM receipts WHERE receipt_hash IN (${marks(some)})`,
        some,
      );
      const signed = await withRequestSignatures(this.db, rows.map(recordOf));
      rows.forEach((row, i) => records.set(row.receipt_hash as string, signed[i]));
    }
    return hashes.flatMap((hash) => records.get(hash) ?? []);
  }

  /**
   * Receipts that may still settle and were written after a place in the order of all, in that order, with their requests'
   * signatures; at most so many.
   */
  async receiptsAfter(position: bigint, most: number): Promise<PlacedRecord[]> {
    const rows = await this.db.all(
      `SELECT position, record, body, signature FROM receipts
       WHERE position > ? AND ${MAY_SETTLE} ORDER BY position LIMIT ?`,
      [position, most],
    );
    const records = await withRequestSignatures(this.db, rows.map(recordOf));
    return rows.map((row, i) => ({ position: row.position as bigint, record: records[i] }));
  }

  /** Those of these hashes that an operator's requests have, by their hash. */
  requestSignatures(operatorId: number, hashes: readonly string[]): Promise<Map<string, StoredRequestSignature>> {
    return requestSignaturesBy(this.db, operatorId, hashes);
  }

  /** Up to which place an attestor was sent all receipts that may still settle. */
  async fedUpTo(attestor: string): Promise<bigint> {
    const row = await this.db.row("SELECT position FROM feeds WHERE attestor = ?", [attestor]);
    if (row !== null) return row.position as bigint;
    const first = await this.db.row(`SELECT min(position) AS first FROM receipts WHERE ${MAY_SETTLE}`);
    return ((first!.first as bigint | null) ?? 1n) - 1n;
  }

  async markFed(attestor: string, position: bigint): Promise<void> {
    await this.db.run(
      "INSERT INTO feeds VALUES (?, ?) ON CONFLICT (attestor) DO UPDATE SET position = excluded.position",
      [attestor, position],
    );
  }

  /** Keeps what members signed of a batch, so that nobody need sign it at the same time as the others. */
  async saveSignatures(batchId: string, signatures: Attestation[]): Promise<void> {
    await this.db.transaction(async (queries) => {
      for (const { signer, signature } of signatures) {
        await queries.run(
          "INSERT INTO signatures VALUES (?, ?, ?) ON CONFLICT (batch_id, signer) DO UPDATE SET signature = excluded.signature",
          [batchId, signer, signature],
        );
      }
    });
  }

  async signaturesOf(batchId: string): Promise<Attestation[]> {
    const rows = await this.db.all("SELECT signer, signature FROM signatures WHERE batch_id = ? ORDER BY signer", [
      batchId,
    ]);
    return rows.map(({ signer, signature }) => ({ signer: signer as string, signature: signature as string }));
  }

  /** The `mark…` methods throw StoreConflict unless the batch is in a state from which it may get there. */
  async markAttested(batchId: string, proof: string): Promise<void> {
    await this.db.transaction((queries) => mark(queries, batchId, "attested", { proof }));
  }

  /** Where its proof isn't taken any more: it needs other signatures. */
  async markUnproven(batchId: string): Promise<void> {
    await this.db.transaction((queries) => mark(queries, batchId, "drafted", {}));
  }

  /** Once there is a transaction for it. */
  async markSubmitted(batchId: string): Promise<void> {
    await this.db.transaction((queries) => mark(queries, batchId, "submitted", {}));
  }

  /** Where the chain has undone a settlement that was final: its receipts aren't paid. */
  async markUndone(batchId: string): Promise<void> {
    await this.db.transaction(async (queries) => {
      await mark(queries, batchId, "submitted", {}, ["settled"]);
      await freeCost(queries, "batch_id = ? AND state IN ('batched', 'settled')", [batchId], -1);
      await queries.run("UPDATE receipts SET state = 'batched' WHERE batch_id = ? AND state = 'settled'", [batchId]);
    });
  }

  /** Once the settlement is final: its receipts no longer count against their licenses. That they are settled, the batch says. */
  async markSettled(batchId: string): Promise<void> {
    await this.db.transaction(async (queries) => {
      await mark(queries, batchId, "settled", {});
      await freeCost(queries, "batch_id = ? AND state = 'batched'", [batchId], 1);
    });
  }

  /** The oldest batches that are settled and not released, and whose they are. */
  async unreleased(most: number): Promise<{ batchId: string; operatorId: number }[]> {
    const rows = await this.db.all(
      "SELECT batch_id, operator_id FROM batches WHERE state = 'settled' AND released = 0 ORDER BY epoch_end, sequence LIMIT ?",
      [most],
    );
    return rows.map((row) => ({ batchId: row.batch_id as string, operatorId: Number(row.operator_id) }));
  }

  /** Once its release is final. */
  async markReleased(batchId: string): Promise<void> {
    await this.db.run("UPDATE batches SET released = 1 WHERE batch_id = ? AND state = 'settled'", [batchId]);
  }

  /** When its window has passed: the batch and its receipts can never be charged. */
  async markExpired(batchId: string): Promise<void> {
    await this.db.transaction(async (queries) => {
      await mark(queries, batchId, "expired", {});
      await voidReceipts(queries, "batch_id = ?", [batchId]);
    });
  }

  /** Voids a lane's receipts of an epoch that are in no batch, and says how many these are: nothing settles them any more. */
  voidUnbatched(lane: Lane, { epochStart, epochEnd }: Epoch): Promise<number> {
    return this.db.transaction((queries) =>
      voidReceipts(queries, UNBATCHED_IN_SPAN, [...laneValues(lane), epochStart, epochEnd]),
    );
  }

  // Renewals

  /** Notes that somebody wants to use a license whose term is over: whoever settles has it renewed. */
  async askToRenew(licenseId: bigint): Promise<void> {
    await this.db.run("INSERT INTO wanted_renewals VALUES (?) ON CONFLICT DO NOTHING", [licenseId]);
  }

  /** The licenses that were asked for since this was called last. */
  async takeWantedRenewals(): Promise<bigint[]> {
    const rows = await this.db.all("DELETE FROM wanted_renewals RETURNING license_id");
    return rows.map((row) => row.license_id as bigint);
  }

  // Transactions

  /**
   * Notes a transaction before it is sent.
   * Throws StoreConflict if the account signed another for the same attempt, or for the same purpose with another nonce, which is
   * under way or has served it: two processes that send for one account would do the same twice.
   * @param lease under which it is sent: throws TurnLost if another has that
   */
  async saveTransaction({ account, nonce, attempt, purpose, raw, hash }: NewTransaction, lease?: Lease): Promise<void> {
    await this.db.transaction(async (queries) => {
      if (lease !== undefined) await this.leases.require(lease, queries);
      const before = await queries.row(
        "SELECT max(attempt) AS last FROM transactions WHERE account = ? AND nonce = ?",
        [account, nonce],
      );
      const next = before === null || before.last === null ? 0 : Number(before.last) + 1;
      if (attempt !== next) {
        throw new StoreConflict(`nonce ${nonce} of ${account} has ${next} transactions, and this is number ${attempt}`);
      }
      const other = await queries.row(
        "SELECT nonce FROM transactions WHERE account = ? AND purpose = ? AND nonce <> ? AND state IN ('open', 'confirmed')",
        [account, purpose, nonce],
      );
      if (attempt === 0 && purpose !== CANCEL && other !== null) {
        throw new StoreConflict(`nonce ${other.nonce} of ${account} is for "${purpose}" already, and this is ${nonce}`);
      }
      await queries.run("INSERT INTO transactions VALUES (?, ?, ?, ?, ?, ?, 'open', NULL)", [
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
    const row = await this.db.row("SELECT max(nonce) AS last FROM transactions WHERE account = ?", [account]);
    return row === null || row.last === null ? null : Number(row.last);
  }

  /** An account's transactions that may still be mined, by nonce and attempt. */
  async openTransactions(account: string): Promise<StoredTransaction[]> {
    return (
      await this.db.all("SELECT * FROM transactions WHERE account = ? AND state = 'open' ORDER BY nonce, attempt", [
        account,
      ])
    ).map(transactionOf);
  }

  /** All of a nonce, by attempt. */
  async transactionsWith(account: string, nonce: number): Promise<StoredTransaction[]> {
    return (
      await this.db.all("SELECT * FROM transactions WHERE account = ? AND nonce = ? ORDER BY attempt", [account, nonce])
    ).map(transactionOf);
  }

  /** The last nonce that was signed with for a purpose; null if there is none. */
  async nonceFor(account: string, purpose: string): Promise<number | null> {
    const row = await this.db.row("SELECT max(nonce) AS last FROM transactions WHERE account = ? AND purpose = ?", [
      account,
      purpose,
    ]);
    return row === null || row.last === null ? null : Number(row.last);
  }

  /** Those that ended in a block from `block` on. */
  async transactionsMinedFrom(account: string, block: number): Promise<StoredTransaction[]> {
    return (
      await this.db.all("SELECT * FROM transactions WHERE account = ? AND block >= ? ORDER BY nonce", [account, block])
    ).map(transactionOf);
  }

  /** Once it is final which of a nonce's transactions was mined, if one was. */
  async endNonce(account: string, nonce: number, end: NonceEnd | null): Promise<void> {
    await this.db.transaction(async (queries) => {
      await queries.run("UPDATE transactions SET state = 'replaced', block = NULL WHERE account = ? AND nonce = ?", [
        account,
        nonce,
      ]);
      if (end === null) return;
      await queries.run("UPDATE transactions SET state = ?, block = ? WHERE hash = ?", [
        end.state,
        end.block,
        end.hash,
      ]);
    });
  }

  /** Where the chain has undone what was final: all of a nonce's may be mined again. */
  async reopenNonce(account: string, nonce: number): Promise<void> {
    await this.db.run("UPDATE transactions SET state = 'open', block = NULL WHERE account = ? AND nonce = ?", [
      account,
      nonce,
    ]);
  }

  // Vouchers

  /** Begins to count what is owed for a term, from what is charged in it already; anew if its license has come here again since. */
  async openVoucherTerm(
    { operatorId, licenseId, term, planId, since, endsAt }: VoucherTermFacts,
    charged: bigint,
  ): Promise<void> {
    await this.db.run(
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
    return (
      await this.db.all(
        "SELECT * FROM voucher_terms WHERE operator_id = ? AND license_id = ? AND is_closed = 0 ORDER BY term",
        [operatorId, licenseId],
      )
    ).map(voucherTermOf);
  }

  /** What running requests of a license on the voucher road may cost at worst, at whatever gateway, in units of the currency. */
  reservedByVoucher(licenseId: bigint): Promise<bigint> {
    return reservedByVoucher(this.db, licenseId);
  }

  /** Keeps a voucher in the place of the one before, which must be for less. @param at Unix seconds @returns whether it did */
  async saveVoucher(
    term: Pick<VoucherTermFacts, "operatorId" | "licenseId" | "term">,
    signed: bigint,
    voucher: string,
    at: number,
  ): Promise<boolean> {
    const { operatorId, licenseId, term: number } = term;
    const changes = await this.db.run(
      `UPDATE voucher_terms SET signed = ?, voucher = ?, unposted_since = coalesce(unposted_since, ?)
         WHERE operator_id = ? AND license_id = ? AND term = ? AND signed < ? AND is_closed = 0`,
      [signed, voucher, at, operatorId, licenseId, number, signed],
    );
    return changes > 0;
  }

  /** The terms of which a voucher is held that isn't posted, by license and term: the order in which they are posted. */
  async unpostedVouchers(): Promise<StoredVoucherTerm[]> {
    return (
      await this.db.all(
        "SELECT * FROM voucher_terms WHERE unposted_since IS NOT NULL ORDER BY operator_id, plan_id, license_id, term",
      )
    ).map(voucherTermOf);
  }

  /**
   * What the chain's counter of a term says. A voucher that is for no more than that is posted; one that is for more has waited
   * since `at`, Unix seconds.
   */
  async noteCharged(
    { operatorId, licenseId, term }: Pick<VoucherTermFacts, "operatorId" | "licenseId" | "term">,
    charged: bigint,
    at: number,
  ): Promise<void> {
    await this.db.run(
      `UPDATE voucher_terms SET charged = ?,
           unposted_since = CASE WHEN unposted_since IS NULL OR signed <= ? THEN NULL ELSE CAST(? AS BIGINT) END
         WHERE operator_id = ? AND license_id = ? AND term = ? AND charged <= ?`,
      [charged, charged, at, operatorId, licenseId, term, charged],
    );
  }

  /** Has all vouchers that are held be looked at as if none was posted, and were held since then. @param since Unix seconds */
  async markVouchersUnposted(since: number): Promise<void> {
    await this.db.run("UPDATE voucher_terms SET unposted_since = ? WHERE voucher IS NOT NULL AND is_closed = 0", [
      since,
    ]);
  }

  /** Closes the terms that ended before a time, Unix seconds, and of which no voucher waits: what is owed for them is lost. */
  async closeEndedTerms(before: number): Promise<void> {
    await this.db.run(
      "UPDATE voucher_terms SET is_closed = 1 WHERE is_closed = 0 AND unposted_since IS NULL AND ends_at < ?",
      [before],
    );
  }

  /** How much waits to be signed for, and to be posted. */
  async voucherFigures(): Promise<VoucherFigures> {
    const row = (await this.db.row(
      `SELECT sum(CASE WHEN owed > signed THEN owed - signed ELSE 0 END) AS unsigned,
           sum(CASE WHEN signed > charged THEN signed - charged ELSE 0 END) AS unposted, min(unposted_since) AS oldest
         FROM voucher_terms WHERE is_closed = 0`,
    ))!;
    return {
      unsigned: (row.unsigned as bigint | null) ?? 0n,
      unposted: (row.unposted as bigint | null) ?? 0n,
      oldestUnpostedAt: row.oldest === null ? null : Number(row.oldest),
    };
  }

  /** When nothing more of it can be charged: what is still owed for it is lost. */
  async closeVoucherTerm({
    operatorId,
    licenseId,
    term,
  }: Pick<VoucherTermFacts, "operatorId" | "licenseId" | "term">): Promise<void> {
    await this.db.run(
      "UPDATE voucher_terms SET is_closed = 1, unposted_since = NULL WHERE operator_id = ? AND license_id = ? AND term = ?",
      [operatorId, licenseId, term],
    );
  }

  // The attestor's side

  /** Keeps copies of receipts, and gives those that weren't there yet. */
  keepCopies(copies: readonly Copy[]): Promise<Copy[]> {
    return this.group.run(async (queries) => {
      const last = await queries.row("SELECT max(position) AS last FROM copies");
      let position = Number((last!.last as bigint | null) ?? 0n);
      const added: Copy[] = [];
      for (const some of chunks(copies, COPIES_AT_ONCE)) {
        added.push(...(await insertCopies(queries, position, some)));
        position += some.length;
      }
      for (const { operatorId, hash, requestSignature } of added) {
        if (requestSignature === undefined) continue;
        await useRequestSignature(queries, operatorId, requestSignature, `0x${Buffer.from(hash).toString("hex")}`);
      }
      return added;
    });
  }

  /** Keeps a receipt by another signature than it came with first. */
  async resignCopy({ hash, operatorId, signer, record, leaf }: Copy): Promise<void> {
    const { licenseId, sequence } = subjectOf(record);
    await this.db.run(
      `UPDATE copies SET signer = ?, record = ?, leaf = ?
       WHERE operator_id = ? AND license_id = ? AND sequence = ? AND receipt_hash = ?`,
      [signer, record, leaf, operatorId, licenseId, sequence, hash],
    );
  }

  /** An operator's copies of receipts, by their hashes; those that aren't there are left out. */
  async copiesOf(operatorId: number, names: readonly NamedReceipt[]): Promise<Map<string, PlacedCopy>> {
    return copiesOf(this.db, operatorId, names);
  }

  /**
   * An operator's copies after a license's number, by license and number, with their requests' signatures; at most so many, and
   * as many more that have the last one's number.
   */
  async copiesAfter(operatorId: number, after: NumberedReceipt, most: number): Promise<NumberedRecord[]> {
    const columns = "SELECT license_id, sequence, record FROM copies WHERE operator_id = ?";
    const some = await this.db.all(
      `${columns} AND (license_id, sequence) > (?, ?) ORDER BY license_id, sequence LIMIT ?`,
      [operatorId, after.licenseId, after.sequence, most],
    );
    const last = some.at(-1);
    if (last === undefined) return [];
    const isBefore = (row: Row) => row.license_id !== last.license_id || row.sequence !== last.sequence;
    const atEnd = await this.db.all(`${columns} AND license_id = ? AND sequence = ? LIMIT ?`, [
      operatorId,
      last.license_id,
      last.sequence,
      most,
    ]);
    const rows = [...some.filter(isBefore), ...atEnd];
    const records = await withRequestSignatures(
      this.db,
      rows.map(({ record }) => record as Uint8Array),
    );
    return rows.map((row, i) => ({
      licenseId: row.license_id as bigint,
      sequence: row.sequence as bigint,
      record: records[i],
    }));
  }

  /** How many copies there are of each operator. */
  async countCopies(): Promise<Map<number, number>> {
    const rows = await this.db.all("SELECT operator_id, count(*) AS count FROM copies GROUP BY operator_id");
    return new Map(rows.map(({ operator_id, count }) => [Number(operator_id), Number(count)]));
  }

  /**
   * Drops copies of receipts that finished before a time (Unix seconds), at most so many; gives how many these were. The last of
   * each license is kept apart.
   */
  dropCopies(finishedBefore: number, most: number): Promise<number> {
    return this.db.transaction(async (queries) => {
      const rows = await queries.all(
        "SELECT position, record FROM copies WHERE finished_at < ? ORDER BY finished_at LIMIT ?",
        [finishedBefore, most],
      );
      await keepLast(
        queries,
        rows.map(({ record }) => record as Uint8Array),
      );
      for (const some of chunks(rows)) {
        await queries.run(
          `DELETE FROM copies WHERE position IN (${marks(some)})`,
          some.map(({ position }) => position),
        );
      }
      return rows.length;
    });
  }

  /** Drops the signatures of requests that were signed before a time (Unix seconds). */
  async dropRequestSignatures(signedBefore: number): Promise<void> {
    await dropRequestSignatures(this.db, signedBefore);
  }

  /** The digest that was signed for a sequence of a lane. */
  attestedBatch(lane: Lane, sequence: bigint): Promise<string | null> {
    return attestedBatch(this.db, lane, sequence);
  }

  /** The other batches that were signed for a lane above a sequence, of epochs that ended at or after a time. */
  async attestedSince(lane: Lane, sequence: bigint, epochEndedFrom: number): Promise<AttestedBatch[]> {
    const rows = await this.db.all(
      `SELECT sequence, batch_id FROM attested_batches
         WHERE operator_id = ? AND plan_id = ? AND version_id = ? AND sequence > ? AND epoch_end >= ? ORDER BY sequence`,
      [...laneValues(lane), sequence, epochEndedFrom],
    );
    return rows.map((row) => ({ sequence: row.sequence as bigint, batchId: row.batch_id as string }));
  }

  /**
   * Notes, before it is signed, what an attestor vouches for; the same batch may be noted again.
   * Throws Equivocation if another batch was signed for the lane's sequence, and StoreConflict if one of the receipts,
   * its request or its number was in another batch. Then nothing may be signed.
   * @param rest what else the batch rests on: an operator that lost it gets it back
   * @param lease under which it is signed: throws TurnLost if another has that
   */
  async recordAttestation(
    batchId: string,
    header: BatchHeader,
    receipts: AttestedReceipt[],
    rest?: Omit<SignedOff, "header">,
    lease?: Lease,
  ): Promise<void> {
    await this.db.transaction(async (queries) => {
      if (lease !== undefined) await this.leases.require(lease, queries);
      const signed = await attestedBatch(queries, header, header.sequence);
      if (signed === batchId) return;
      if (signed !== null)
        throw new Equivocation(`sequence ${header.sequence} was signed as ${signed}, not ${batchId}`);
      const last = await queries.row("SELECT max(number) AS last FROM attested_batches");
      const number = ((last!.last as bigint | null) ?? 0n) + 1n;
      await queries.run("INSERT INTO attested_batches VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", [
        ...laneValues(header),
        header.sequence,
        header.epochEnd,
        batchId,
        number,
        rest === undefined ? null : JSON.stringify(signedOffToJson({ header, ...rest })),
        namesToBytes(receipts.map(({ hash, receipt }) => ({ ...receipt, hash }))),
      ]);
      const repetition = await rememberReceipts(queries, number, batchId, receipts);
      if (repetition === null) return;
      const { licenseId, sequence } = repetition.receipt;
      throw new StoreConflict(
        `receipt ${sequence} of license ${licenseId}, or its request, repeats one of batch ${repetition.batchId}`,
      );
    });
  }

  /** The attested spans that have numbers of these or next to them, license by license. */
  async seenSpans(numbers: readonly NumberSpan[]): Promise<SeenSpan[]> {
    const seen: SeenSpan[] = [];
    for (const some of chunks(numbers, SPANS_AT_ONCE)) {
      seen.push(...(await Promise.all(some.map((span) => seenSpans(this.db, span)))).flat());
      await breathe();
    }
    return seen;
  }

  /** The batches that an operator's requests were in, by request id; those that were in none are left out. */
  seenRequests(operatorId: number, requestIds: readonly string[]): Promise<Map<string, string>> {
    return seenRequests(this.db, operatorId, requestIds);
  }

  /** See `attestedReceipts.ts`. */
  forgetRequests(endedBefore: number, after: RequestPlace | null, most: number): Promise<RequestPlace | null> {
    return this.db.transaction((queries) => forgetRequests(queries, endedBefore, after, most));
  }

  /** What the attested receipts under a grant cost, those of one batch left out. */
  attestedCost(grantHash: string, exceptBatchId: string): Promise<bigint> {
    return attestedCost(this.db, grantHash, exceptBatchId);
  }

  /**
   * Not earlier than what was measured already, whatever the clock says: an epoch that was measured doesn't change.
   * @param lease under which it was sent: throws TurnLost if another has that
   */
  async recordCanary(lane: Lane, sample: CanarySample, lease?: Lease): Promise<void> {
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
    const { operatorId, requestHash, responseHash, mostInput, mostOutput, isCounted, difference, at } = answer;
    await this.db.run("INSERT INTO canary_answers VALUES (?, ?, ?, ?, ?, ?, ?, ?)", [
      operatorId,
      at,
      requestHash,
      responseHash,
      mostInput,
      mostOutput,
      isCounted ? 1 : 0,
      difference,
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
      operatorId,
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
  async canarySamples(lane: Lane, { epochStart, epochEnd }: Epoch): Promise<CanarySample[]> {
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

  // Prepayments

  /** @returns false if the payment is there already */
  async savePrepayment({ payment, ...prepayment }: Prepayment): Promise<boolean> {
    const { planId, deposit, price, acceptedAt, state, paymentHash, resultHash, licenseId, reason } = prepayment;
    const saved = await this.db.run(
      "INSERT INTO prepayments VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
      [
        ...[payment.payer, payment.nonce, JSON.stringify({ ...payment, amount: String(payment.amount) })],
        ...[planId, deposit, price, acceptedAt, state, paymentHash, resultHash, licenseId, reason],
      ],
    );
    return saved > 0;
  }

  async prepayment(payer: string, nonce: string): Promise<Prepayment | null> {
    const row = await this.db.row("SELECT * FROM prepayments WHERE payer = ? AND nonce = ?", [payer, nonce]);
    return row === null ? null : prepaymentOf(row);
  }

  /**
   * Its state and what came of it.
   * @param lease under which that came about: throws TurnLost if another has that
   */
  async updatePrepayment(prepayment: Prepayment, lease?: Lease): Promise<void> {
    const { payment, state, paymentHash, resultHash, licenseId, reason } = prepayment;
    await this.db.transaction(async (queries) => {
      if (lease !== undefined) await this.leases.require(lease, queries);
      await queries.run(
        "UPDATE prepayments SET state = ?, payment_hash = ?, result_hash = ?, license_id = ?, reason = ? WHERE payer = ? AND nonce = ?",
        [state, paymentHash, resultHash, licenseId, reason, payment.payer, payment.nonce],
      );
    });
  }

  /** In their order. */
  async unfinishedPrepayments(): Promise<Prepayment[]> {
    const query = "SELECT * FROM prepayments WHERE state IN ('accepted', 'paid', 'refunding') ORDER BY accepted_at";
    return (await this.db.all(query)).map(prepaymentOf);
  }

  /** How many were accepted since then, Unix seconds. */
  async prepaymentsSince(since: number): Promise<number> {
    const row = await this.db.row("SELECT count(*) AS count FROM prepayments WHERE accepted_at > ?", [since]);
    return Number(row!.count);
  }
}

/** A lane's receipts that finished within a span and are in no batch: operator, plan, version, start, end. */
const UNBATCHED_IN_SPAN =
  "state = 'unbatched' AND operator_id = ? AND plan_id = ? AND version_id = ? AND finished_at >= ? AND finished_at < ?";

/** Receipts with their batches' states: one in a batch is settled when that is, and nothing is written of it then. */
const WITH_BATCH_STATE =
  "SELECT receipts.*, (SELECT state FROM batches WHERE batches.batch_id = receipts.batch_id) AS batch_state FROM receipts";

/** Of receipts: that a batch may still charge them. */
const MAY_SETTLE = `state IN ('unbatched', 'batched')
  AND NOT EXISTS (SELECT 1 FROM batches WHERE batches.batch_id = receipts.batch_id AND batches.state = 'settled')`;

const METER_COLUMNS = ["requests", "input_tokens", "cached_input_tokens", "output_tokens", "compute_ms"] as const;

/** Whose receipts are read at once. */
const LICENSES_AT_ONCE = 50;

/** Of how many licenses attested spans are looked for at once. */
const SPANS_AT_ONCE = 100;

/** How many copies one statement writes. */
const COPIES_AT_ONCE = 100;

/** In the places after one, of which those of copies that are there already stay empty. @returns those that weren't there */
async function insertCopies(queries: Queries, after: number, copies: readonly Copy[]): Promise<readonly Copy[]> {
  const inserted = await queries.run(
    `INSERT INTO copies VALUES ${copies.map(() => "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?)").join(", ")} ON CONFLICT DO NOTHING`,
    copies.flatMap(({ hash, operatorId, finishedAt, arrivedAt, signer, record, leaf }, i) => {
      const { licenseId, sequence } = subjectOf(record);
      return [after + i + 1, operatorId, licenseId, sequence, hash, finishedAt, arrivedAt, signer, record, leaf];
    }),
  );
  if (inserted === copies.length) return copies;
  const rows = await queries.all("SELECT position FROM copies WHERE position > ?", [after]);
  const places = new Set(rows.map((row) => Number(row.position)));
  return copies.filter((_, i) => places.has(after + i + 1));
}

/** Gives back what it set aside, and counts what it cost in its place. Null if it isn't open. */
async function removeOpenRequest(queries: Queries, requestId: string, cost: bigint): Promise<OpenRequest | null> {
  const row = await queries.row("DELETE FROM open_requests WHERE request_id = ? RETURNING *", [requestId]);
  if (row === null) return null;
  const open = openRequestOf(row);
  const { licenseId, grantHash } = open.facts;
  const amount = row.reserved as bigint;
  await addToGrant(queries, grantHash, cost, -amount);
  if (!open.onVoucherRoad) await addToTallies(queries, licenseId, cost, -amount);
  return open;
}

async function takeOpenRequest(queries: Queries, requestId: string, cost: bigint): Promise<OpenRequest> {
  const open = await removeOpenRequest(queries, requestId, cost);
  if (open === null) throw new StoreConflict(`request ${requestId} isn't open: it has its receipt, or never began`);
  return open;
}

async function numbered(
  queries: Queries,
  { facts, versionId }: OpenRequest,
  outcome: RequestOutcome,
): Promise<Receipt> {
  const previous = await queries.row(
    "SELECT sequence, receipt_hash, finished_at FROM receipts WHERE operator_id = ? AND license_id = ? ORDER BY sequence DESC LIMIT 1",
    [facts.operatorId, facts.licenseId],
  );
  const drafted = await queries.row(
    "SELECT epoch_end FROM batches WHERE operator_id = ? AND plan_id = ? AND version_id = ? ORDER BY epoch_end DESC LIMIT 1",
    [facts.operatorId, facts.planId, versionId],
  );
  const rebuilt = await rebuiltAt(queries);
  const last = (previous?.sequence as bigint | undefined) ?? 0n;
  return {
    ...facts,
    ...outcome,
    sequence: greater(last, receiptsAbove(rebuilt)) + 1n,
    previousHash: previous === null ? ZeroHash : (previous.receipt_hash as string),
    finishedAt: Math.max(outcome.finishedAt, Number(previous?.finished_at ?? 0), Number(drafted?.epoch_end ?? 0)),
  };
}

/** Adds a request's cost to the term in which it finished: to the first that is known, where clocks differ. */
async function addToTerm(
  queries: Queries,
  { operatorId, licenseId, finishedAt }: Receipt,
  cost: bigint,
): Promise<{ term: number; owed: bigint }> {
  const row = await queries.row(
    `UPDATE voucher_terms SET owed = owed + ? WHERE operator_id = ? AND license_id = ? AND term = (
       SELECT term FROM voucher_terms WHERE operator_id = ? AND license_id = ?
         ORDER BY CASE WHEN since <= ? THEN term ELSE -1 - term END DESC LIMIT 1
     ) RETURNING term, owed`,
    [cost, operatorId, licenseId, operatorId, licenseId, finishedAt],
  );
  if (row === null) throw new StoreConflict(`license ${licenseId} has no term on the voucher road`);
  return { term: Number(row.term), owed: row.owed as bigint };
}

/** One with a term is of no lane's business, whatever its state says: only vouchers pay it. */
async function insertReceipt(
  queries: Queries,
  { receipt, hash, signature, versionId }: StoredReceipt,
  signer: string,
  cost: bigint,
  term: number | null,
): Promise<void> {
  const last = await queries.row("SELECT max(position) AS last FROM receipts");
  const columns = "?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, NULL, '', '', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?";
  await queries.run(`INSERT INTO receipts VALUES (${columns})`, [
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
    ((last!.last as bigint | null) ?? 0n) + 1n,
    ...METERS.map((meter) => receipt[meter]),
    counted({ receipt, hash, signature }).leaf,
  ]);
}

async function countUnbatched(queries: Queries, lane: Lane, { epochStart, epochEnd }: Epoch): Promise<number> {
  const row = await queries.row(`SELECT count(*) AS count FROM receipts WHERE ${UNBATCHED_IN_SPAN}`, [
    ...laneValues(lane),
    epochStart,
    epochEnd,
  ]);
  return Number(row!.count);
}

/** What is written between the choice and the draft would be shut out of the epoch. */
async function requireNoLater(
  queries: Queries,
  lane: Lane,
  { span, upTo }: { span: Epoch; upTo: bigint },
): Promise<void> {
  const row = await queries.row(`SELECT count(*) AS count FROM receipts WHERE position > ? AND ${UNBATCHED_IN_SPAN}`, [
    upTo,
    ...laneValues(lane),
    span.epochStart,
    span.epochEnd,
  ]);
  if (row!.count === 0n) return;
  throw new StoreConflict(
    `${row!.count} receipts from ${span.epochStart} to ${span.epochEnd} were written after the others were looked at`,
  );
}

/** Nothing was written among them since they were read: if they are as many, they are the same. */
async function putAllInto(
  queries: Queries,
  batchId: string,
  lane: Lane,
  { span, licenses, count }: LicensesReceipts,
): Promise<void> {
  let put = 0;
  for (const some of chunks(licenses, LICENSES_AT_ONCE)) {
    put += await queries.run(
      `UPDATE receipts SET state = 'batched', batch_id = ? WHERE ${UNBATCHED_IN_SPAN} AND license_id IN (${marks(some)})`,
      [batchId, ...laneValues(lane), span.epochStart, span.epochEnd, ...some],
    );
    await breathe();
  }
  if (put === count) return;
  throw new StoreConflict(`${put} of the ${count} receipts that batch ${batchId} is of are free for it`);
}

async function putInto(queries: Queries, batchId: string, receiptHashes: string[]): Promise<void> {
  for (const hashes of chunks(receiptHashes)) {
    const changes = await queries.run(
      `UPDATE receipts SET state = 'batched', batch_id = ? WHERE state = 'unbatched' AND receipt_hash IN (${marks(hashes)})`,
      [batchId, ...hashes],
    );
    if (changes < hashes.length) throw await takenFrom(queries, batchId, hashes);
    await breathe();
  }
}

async function takenFrom(queries: Queries, batchId: string, hashes: string[]): Promise<StoreConflict> {
  const rows = await queries.all(
    `SELECT receipt_hash FROM receipts WHERE batch_id = ? AND receipt_hash IN (${marks(hashes)})`,
    [batchId, ...hashes],
  );
  const put = new Set(rows.map((row) => row.receipt_hash));
  return new StoreConflict(`receipt ${hashes.find((hash) => !put.has(hash))} isn't free for batch ${batchId}`);
}

const greater = (a: bigint, b: bigint) => (a > b ? a : b);

async function lastSequence(queries: Queries, lane: Lane): Promise<bigint> {
  const row = await queries.row(
    "SELECT max(sequence) AS last FROM batches WHERE operator_id = ? AND plan_id = ? AND version_id = ?",
    laneValues(lane),
  );
  return greater((row?.last as bigint | null) ?? 0n, batchesAbove(await rebuiltAt(queries)));
}

async function insertBatch(
  queries: Queries,
  { batchId, header, entries, measurements, proof }: ReturnedBatch,
): Promise<void> {
  await queries.run(
    `INSERT INTO batches (batch_id, operator_id, plan_id, version_id, sequence, epoch_end, state, header, entries, measurements, proof)
       VALUES (?, ?, ?, ?, ?, ?, 'drafted', ?, ?, ?, ?)`,
    [
      batchId,
      ...laneValues(header),
      header.sequence,
      header.epochEnd,
      JSON.stringify(headerToJson(header)),
      entries,
      JSON.stringify(measurements.map(signedMeasurementToJson)),
      proof,
    ],
  );
}

async function batchBy(queries: Queries, batchId: string): Promise<StoredBatch | null> {
  const row = await queries.row("SELECT * FROM batches WHERE batch_id = ?", [batchId]);
  return row && batchOf(row);
}

async function voidReceipts(queries: Queries, condition: string, values: SqlValue[]): Promise<number> {
  await freeCost(queries, `${condition} AND state IN ('unbatched', 'batched')`, values, 1);
  return queries.run(`UPDATE receipts SET state = 'void' WHERE ${condition}`, values);
}

async function mark(
  queries: Queries,
  batchId: string,
  to: BatchState,
  fields: Record<string, string>,
  from = BATCH_EDGES[to],
): Promise<void> {
  const assignments = ["state = ?", ...Object.keys(fields).map((field) => `${field} = ?`)].join(", ");
  const changes = await queries.run(
    `UPDATE batches SET ${assignments} WHERE batch_id = ? AND state IN (${marks(from)})`,
    [to, ...Object.values(fields), batchId, ...from],
  );
  if (changes === 0) throw wrongState(batchId, await batchBy(queries, batchId), to);
}

function wrongState(batchId: string, batch: StoredBatch | null, wanted: string): StoreConflict {
  return new StoreConflict(`batch ${batchId} is ${batch?.state ?? "unknown"} and can't be ${wanted}`);
}

async function attestedBatch(queries: Queries, lane: Lane, sequence: bigint): Promise<string | null> {
  const row = await queries.row(
    "SELECT batch_id FROM attested_batches WHERE operator_id = ? AND plan_id = ? AND version_id = ? AND sequence = ?",
    [...laneValues(lane), sequence],
  );
  return row && (row.batch_id as string);
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
    state: row.term !== null ? "voucher" : row.batch_state === "settled" ? "settled" : (row.state as ReceiptState),
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

function usageOfRow(row: Row): Usage {
  return usageBy((meter) => row[METER_COLUMNS[METERS.indexOf(meter)]] as bigint);
}

function countedReceiptOf(row: Row): CountedReceipt {
  if (row.leaf !== null) return { receipt: countsOf(row.record as Uint8Array), leaf: row.leaf as Uint8Array };
  return counted({ ...signedReceiptOf(row), hash: row.receipt_hash as string });
}

function recordOf(row: Row): Uint8Array {
  return row.record === null ? encodeReceipt(signedReceiptOf(row)) : (row.record as Uint8Array);
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

function prepaymentOf(row: Row): Prepayment {
  const payment = JSON.parse(row.payment as string) as Omit<SignedPayment, "amount"> & { amount: string };
  return {
    payment: { ...payment, amount: BigInt(payment.amount) },
    planId: Number(row.plan_id),
    deposit: row.deposit as bigint,
    price: row.price as bigint,
    acceptedAt: Number(row.accepted_at),
    state: row.state as PrepaymentState,
    paymentHash: row.payment_hash as string | null,
    resultHash: row.result_hash as string | null,
    licenseId: row.license_id as bigint | null,
    reason: row.reason as string | null,
  };
}
