/**
 * What an attestor remembers of the receipts that it vouched for, so that none of them, nor its number or request, comes into a
 * second batch. Of each license's numbers it keeps spans: what may follow one, or come before it, hangs on its two ends alone. Of
 * requests, whose ids come in no order, it keeps each.
 */
import { bytesOfHex, hexOf } from "../protocol/hex";
import { breathe } from "../breathe";
import type { Receipt } from "../protocol/types";
import type { Queries, Row } from "./database";
import { chunks, marks } from "./lists";

/** A receipt that an attestor is about to vouch for, and what it costs under its plan. */
export interface AttestedReceipt {
  /** Its EIP-712 digest. */
  hash: string;
  receipt: Receipt;
  cost: bigint;
}

/** Receipts of a license that one batch has, one after the other, each of which names the one before it. */
export interface SeenSpan {
  operatorId: number;
  licenseId: bigint;
  /** The lowest of their numbers, and the highest. */
  first: bigint;
  last: bigint;
  batchId: string;
  /** What the first names as the one before it. */
  previousHash: string;
  lastHash: string;
  /** Unix seconds; null of what was attested before that was remembered. */
  firstFinishedAt: number | null;
  lastFinishedAt: number | null;
}

/** Numbers of a license. */
export type NumberSpan = Pick<SeenSpan, "operatorId" | "licenseId" | "first" | "last">;

/** What is there already: then nothing of a batch is remembered. */
export interface Repetition {
  receipt: Pick<Receipt, "licenseId" | "sequence">;
  batchId: string;
}

/** For each license the span from its lowest number to its highest. */
export function spansOf(receipts: Iterable<Pick<Receipt, "operatorId" | "licenseId" | "sequence">>): NumberSpan[] {
  const spans = new Map<number, Map<bigint, NumberSpan>>();
  let span: NumberSpan | undefined;
  for (const { operatorId, licenseId, sequence } of receipts) {
    if (span?.operatorId !== operatorId || span.licenseId !== licenseId) {
      let ofOperator = spans.get(operatorId);
      if (ofOperator === undefined) spans.set(operatorId, (ofOperator = new Map()));
      span = ofOperator.get(licenseId);
      if (span === undefined) {
        ofOperator.set(licenseId, (span = { operatorId, licenseId, first: sequence, last: sequence }));
      }
    }
    if (sequence < span.first) span.first = sequence;
    if (sequence > span.last) span.last = sequence;
  }
  return [...spans.values()].flatMap((ofOperator) => [...ofOperator.values()]);
}

/** The most that a column holds. */
const MOST_INTEGER = 2n ** 63n - 1n;

/** Which attested spans have numbers of these or next to them, in their order. */
export async function seenSpans(
  queries: Queries,
  { operatorId, licenseId, first, last }: NumberSpan,
): Promise<SeenSpan[]> {
  const rows = await queries.all(
    `SELECT seen_spans.*, attested_batches.batch_id FROM seen_spans JOIN attested_batches USING (number)
       WHERE seen_spans.operator_id = ? AND license_id = ? AND last >= ? AND first <= ? ORDER BY last`,
    [operatorId, licenseId, first - 1n, last < MOST_INTEGER ? last + 1n : last],
  );
  return rows.map(spanOf);
}

/** The batches that requests of an operator were in, by request id; those that were in none are left out. */
export async function seenRequests(
  queries: Queries,
  operatorId: number,
  requestIds: readonly string[],
): Promise<Map<string, string>> {
  const seen = new Map<string, string>();
  for (const some of chunks(requestIds)) {
    const rows = await queries.all(
      `SELECT request_id, batch_id FROM seen_requests JOIN attested_batches USING (number)
         WHERE seen_requests.operator_id = ? AND request_id IN (${marks(some)})`,
      [operatorId, ...some.map(bytesOfHex)],
    );
    for (const row of rows) seen.set(hexOf(row.request_id as Uint8Array), row.batch_id as string);
    await breathe();
  }
  return seen;
}

/** A request's place in the order in which they are looked through. */
export interface RequestPlace {
  operatorId: number;
  requestId: Uint8Array;
}

/**
 * Forgets the requests of batches whose epochs ended before a time, Unix seconds, among the next so many: an operator that gave one of
 * their ids again could as well take a new one.
 * @param after where the last look ended; null to begin
 * @returns where this one ended; null at the end
 */
export async function forgetRequests(
  queries: Queries,
  endedBefore: number,
  after: RequestPlace | null,
  most: number,
): Promise<RequestPlace | null> {
  const from = after === null ? [-1, Buffer.alloc(0)] : [after.operatorId, after.requestId];
  const last = await queries.row(
    `SELECT operator_id, request_id FROM seen_requests WHERE (operator_id, request_id) > (?, ?)
       ORDER BY operator_id, request_id LIMIT 1 OFFSET ${most - 1}`,
    from,
  );
  const kept = await queries.row("SELECT min(number) AS first FROM attested_batches WHERE epoch_end >= ?", [
    endedBefore,
  ]);
  const first = (kept!.first as bigint | null) ?? MOST_INTEGER;
  const upTo = last === null ? "" : "AND (operator_id, request_id) <= (?, ?)";
  await queries.run(`DELETE FROM seen_requests WHERE (operator_id, request_id) > (?, ?) ${upTo} AND number < ?`, [
    ...from,
    ...(last === null ? [] : [last.operator_id, last.request_id]),
    first,
  ]);
  return last && { operatorId: Number(last.operator_id), requestId: last.request_id as Uint8Array };
}

/** What the attested receipts under a grant cost, those of one batch left out. */
export async function attestedCost(queries: Queries, grantHash: string, exceptBatchId: string): Promise<bigint> {
  const row = await queries.row(
    `SELECT sum(cost) AS cost FROM seen_costs JOIN attested_batches USING (number)
       WHERE grant_hash = ? AND batch_id <> ?`,
    [grantHash, exceptBatchId],
  );
  return (row?.cost as bigint | null) ?? 0n;
}

/**
 * Remembers the receipts of a batch.
 * @param number the batch's, among all that were attested
 * @returns what of it another batch has, or the batch twice; then what was written must be undone
 */
export async function rememberReceipts(
  queries: Queries,
  number: bigint,
  batchId: string,
  receipts: readonly AttestedReceipt[],
): Promise<Repetition | null> {
  const inOrder = [...receipts].sort(byNumber);
  const spans: SeenSpan[] = [];
  for (const { hash, receipt } of inOrder) {
    const span = spans.at(-1);
    if (span !== undefined && follows(receipt, span)) {
      if (receipt.sequence === span.last) return { receipt, batchId };
      span.last = receipt.sequence;
      span.lastHash = hash;
      span.lastFinishedAt = receipt.finishedAt;
    } else spans.push(spanFrom(hash, receipt, batchId));
  }
  for (const some of chunks(spans, SPANS_AT_ONCE)) {
    const repetition = await insertSpans(queries, number, some);
    if (repetition !== null) return repetition;
    await breathe();
  }
  // In their index's order, pages of it aren't written to here and there, over and over.
  for (const some of chunks([...receipts].sort(byRequest))) {
    if ((await insertRequests(queries, number, some)) < some.length) return repeatedRequest(queries, number, inOrder);
    await breathe();
  }
  await insertCosts(queries, number, receipts);
  return null;
}

const SPANS_AT_ONCE = 500;

function byNumber({ receipt: a }: AttestedReceipt, { receipt: b }: AttestedReceipt): number {
  return a.operatorId - b.operatorId || sign(a.licenseId - b.licenseId) || sign(a.sequence - b.sequence);
}

function byRequest({ receipt: a }: AttestedReceipt, { receipt: b }: AttestedReceipt): number {
  return a.requestId < b.requestId ? -1 : Number(a.requestId > b.requestId);
}

function sign(difference: bigint): number {
  return difference < 0n ? -1 : Number(difference > 0n);
}

/** Whether a receipt goes on where a span ends, or has the number of its last. */
function follows({ operatorId, licenseId, sequence, previousHash }: Receipt, span: SeenSpan): boolean {
  if (operatorId !== span.operatorId || licenseId !== span.licenseId) return false;
  return sequence === span.last || (sequence === span.last + 1n && previousHash === span.lastHash);
}

function spanFrom(hash: string, receipt: Receipt, batchId: string): SeenSpan {
  const { operatorId, licenseId, sequence, previousHash, finishedAt } = receipt;
  return {
    ...{ operatorId, licenseId, first: sequence, last: sequence, batchId, previousHash, lastHash: hash },
    ...{ firstFinishedAt: finishedAt, lastFinishedAt: finishedAt },
  };
}

/** Writers come one after another, so that what isn't there now won't be at the commit. */
async function insertSpans(queries: Queries, number: bigint, spans: SeenSpan[]): Promise<Repetition | null> {
  for (const { operatorId, licenseId, first, last } of spans) {
    const other = await queries.row(
      `SELECT first, batch_id FROM seen_spans JOIN attested_batches USING (number)
         WHERE seen_spans.operator_id = ? AND license_id = ? AND last >= ? AND first <= ? ORDER BY last LIMIT 1`,
      [operatorId, licenseId, first, last],
    );
    if (other === null) continue;
    const sequence = (other.first as bigint) > first ? (other.first as bigint) : first;
    return { receipt: { licenseId, sequence }, batchId: other.batch_id as string };
  }
  const rows = spans.map((span) => [
    span.operatorId,
    span.licenseId,
    span.last,
    span.first,
    number,
    span.previousHash,
    span.lastHash,
    span.firstFinishedAt,
    span.lastFinishedAt,
  ]);
  await queries.run(`INSERT INTO seen_spans VALUES ${rows.map((row) => `(${marks(row)})`).join(", ")}`, rows.flat());
  return null;
}

function insertRequests(queries: Queries, number: bigint, receipts: AttestedReceipt[]): Promise<number> {
  return queries.run(
    `INSERT INTO seen_requests VALUES ${receipts.map(() => "(?, ?, ?)").join(", ")} ON CONFLICT DO NOTHING`,
    receipts.flatMap(({ receipt }) => [receipt.operatorId, bytesOfHex(receipt.requestId), number]),
  );
}

/** The first whose request another batch has, or one before it in this. */
async function repeatedRequest(
  queries: Queries,
  number: bigint,
  receipts: readonly AttestedReceipt[],
): Promise<Repetition> {
  const looked = new Set<string>();
  for (const { receipt } of receipts) {
    const request = `${receipt.operatorId}/${receipt.requestId}`;
    const row = await queries.row(
      `SELECT number, batch_id FROM seen_requests JOIN attested_batches USING (number)
         WHERE seen_requests.operator_id = ? AND request_id = ?`,
      [receipt.operatorId, bytesOfHex(receipt.requestId)],
    );
    if (row !== null && (row.number !== number || looked.has(request))) {
      return { receipt, batchId: row.batch_id as string };
    }
    looked.add(request);
  }
  throw new Error(`No request of batch ${number} is there twice, and yet not all could be written down`);
}

async function insertCosts(queries: Queries, number: bigint, receipts: readonly AttestedReceipt[]): Promise<void> {
  const costs = new Map<string, bigint>();
  for (const { receipt, cost } of receipts) costs.set(receipt.grantHash, (costs.get(receipt.grantHash) ?? 0n) + cost);
  for (const some of chunks([...costs])) {
    await queries.run(
      `INSERT INTO seen_costs VALUES ${some.map(() => "(?, ?, ?)").join(", ")}`,
      some.flatMap(([grantHash, cost]) => [grantHash, number, cost]),
    );
  }
}

function spanOf(row: Row): SeenSpan {
  return {
    operatorId: Number(row.operator_id),
    licenseId: row.license_id as bigint,
    first: row.first as bigint,
    last: row.last as bigint,
    batchId: row.batch_id as string,
    previousHash: row.previous_hash as string,
    lastHash: row.last_hash as string,
    firstFinishedAt: row.first_finished_at === null ? null : Number(row.first_finished_at),
    lastFinishedAt: row.last_finished_at === null ? null : Number(row.last_finished_at),
  };
}
