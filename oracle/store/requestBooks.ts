import { ZeroHash } from "ethers";
import type { Refusal } from "../gateway/ledger";
import type { Receipt, Usage } from "../protocol/types";
import type { Database, Queries, Row } from "./database";
import { dropInput, keepInput } from "./disputeBooks";
import type { GroupCommit } from "./groupCommit";
import { insertReceipt, type ReceiptState, type StoredReceipt } from "./receiptRows";
import { greater } from "./lists";
import { rebuiltAt, receiptsAbove } from "./recovery";
import { freeRequestSignature, useRequestSignature } from "./requestSignatures";
import { StoreConflict } from "./storeConflict";
import { addToGrant, addToTallies, type Claim, limitAgainst } from "./tallies";
import { addToTerm } from "./voucherBooks";

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

/** A receipt that was just written. */
export interface WrittenReceipt extends StoredReceipt {
  /** What the license now owes in all for its term, in units of the currency, if it settles by vouchers. */
  owed?: bigint;
}

/** A gateway holds the lease of this name and its own as long as it runs. */
export const GATEWAY_LEASE = "gateway/";

/** An operator's requests, from when they go to the model until they have their receipts. */
export class RequestBooks {
  constructor(
    private readonly db: Database,
    private readonly group: GroupCommit,
  ) {}

  /**
   * Notes that a request goes to the model, and sets aside what it may cost. Its grant must have been saved.
   * @returns which limit stands against it, or that its signature was used by another: then nothing is noted
   */
  open(
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
  async drop(requestId: string): Promise<void> {
    await this.group.run(async (queries) => {
      await removeOpenRequest(queries, requestId, 0n);
      await freeRequestSignature(queries, requestId);
      await dropInput(queries, requestId);
    });
  }

  /** Those of other gateways that have ended without them. */
  async leftBehind(gateway: string): Promise<OpenRequest[]> {
    const rows = await this.db.all(
      `SELECT * FROM open_requests WHERE gateway <> ? AND NOT EXISTS (
         SELECT 1 FROM leases WHERE leases.name = ? || open_requests.gateway AND leases.until > ${this.db.nowMs}
       ) ORDER BY opened_at, request_id`,
      [gateway, GATEWAY_LEASE],
    );
    return rows.map(openRequestOf);
  }

  async running(): Promise<OpenRequest[]> {
    return (await this.db.all("SELECT * FROM open_requests ORDER BY opened_at, request_id")).map(openRequestOf);
  }

  /**
   * Closes a request with its receipt: numbers it, links it to the license's last, signs and stores it, all or nothing.
   * Its time is moved up to the previous receipt's, and out of an epoch that is already drafted, where it would never settle.
   * Throws StoreConflict if the request isn't open.
   * @param sign may be called again for a receipt that wasn't stored
   */
  finish(requestId: string, outcome: RequestOutcome, cost: bigint, sign: ReceiptSigner): Promise<WrittenReceipt> {
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
