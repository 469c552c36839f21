import type { BatchFacts } from "./batchFacts";
import { type SeenSpan, spansOf } from "../store/attestedReceipts";
import type { Store } from "../store/store";
import type { AttestedBatch } from "../store/attestedBatches";

/** What an attestor remembers of the batches that it signed before, as far as it concerns one batch. */
export interface Memory {
  /** What was signed for the batch's own sequence. */
  signed: string | null;
  /** What was signed for its lane and may still settle. */
  open: AttestedBatch[];
  /** Of a license's numbers that were attested, those of the batch's receipts and next to them, ascending. */
  seenSpans(operatorId: number, licenseId: bigint): readonly SeenSpan[];
  /** The batch that a request was in; null if it was in none. */
  batchOfRequest(operatorId: number, requestId: string): string | null;
  /** What the receipts of other batches under a grant cost. */
  attestedCost(grantHash: string): bigint;
}

/** Reads all of it at once, so that nothing need be waited for while the batch is looked at. */
export async function recall(store: Pick<Store, "attested">, facts: BatchFacts): Promise<Memory> {
  const { batchId, header, lane, now, windowPeriod, grants } = facts;
  const receipts = facts.receipts.map(({ receipt }) => receipt);
  const capped = [...grants].flatMap(([hash, { grant }]) => (grant.cap === 0n ? [] : [hash]));
  const operators = [...new Set(receipts.map(({ operatorId }) => operatorId))];
  const requestsOf = (operatorId: number) =>
    receipts.flatMap((receipt) => (receipt.operatorId === operatorId ? [receipt.requestId] : []));
  const [signed, open, spans, requests, costs] = await Promise.all([
    store.attested.at(header, header.sequence),
    store.attested.since(header, lane.sequence, now - windowPeriod),
    store.attested.seenSpans(spansOf(receipts)),
    Promise.all(operators.map(async (id) => [id, await store.attested.seenRequests(id, requestsOf(id))] as const)),
    Promise.all(capped.map(async (hash) => [hash, await store.attested.cost(hash, batchId)] as const)),
  ]);
  const spansByLicense = new Map<string, SeenSpan[]>();
  for (const span of spans) {
    const license = `${span.operatorId}/${span.licenseId}`;
    const others = spansByLicense.get(license);
    if (others === undefined) spansByLicense.set(license, [span]);
    else others.push(span);
  }
  const batchesOf = new Map(requests);
  const costOf = new Map(costs);
  return {
    signed,
    open,
    seenSpans: (operatorId, licenseId) => spansByLicense.get(`${operatorId}/${licenseId}`) ?? [],
    batchOfRequest: (operatorId, requestId) => batchesOf.get(operatorId)?.get(requestId) ?? null,
    attestedCost: (hash) => costOf.get(hash) ?? 0n,
  };
}
