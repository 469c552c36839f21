import type { BatchFacts } from "./batchFacts";
import type { AttestedBatch, SeenReceipt, Store } from "../store/store";

/** What an attestor remembers of the batches that it signed before, as far as it concerns one batch. */
export interface Memory {
  /** What was signed for the batch's own sequence. */
  signed: string | null;
  /** What was signed for its lane and may still settle. */
  open: AttestedBatch[];
  /** By numbers next to those of the batch's receipts, too. */
  seenReceipt(operatorId: number, licenseId: bigint, sequence: bigint): SeenReceipt | null;
  seenRequest(operatorId: number, requestId: string): SeenReceipt | null;
  /** What the receipts of other batches under a grant cost. */
  attestedCost(grantHash: string): bigint;
}

type Stored = Pick<Store, "attestedBatch" | "attestedSince" | "seenNumbers" | "seenRequests" | "attestedCost">;

/** Reads all of it at once, so that nothing need be waited for while the batch is looked at. */
export async function recall(store: Stored, facts: BatchFacts): Promise<Memory> {
  const { batchId, header, lane, now, windowPeriod, grants } = facts;
  const receipts = facts.receipts.map(({ receipt }) => receipt);
  const capped = [...grants].flatMap(([hash, { grant }]) => (grant.cap === 0n ? [] : [hash]));
  const [signed, open, numbers, requests, costs] = await Promise.all([
    store.attestedBatch(header, header.sequence),
    store.attestedSince(header, lane.sequence, now - windowPeriod),
    store.seenNumbers(receipts),
    store.seenRequests(receipts),
    Promise.all(capped.map(async (hash) => [hash, await store.attestedCost(hash, batchId)] as const)),
  ]);
  const costOf = new Map(costs);
  return {
    signed,
    open,
    seenReceipt: (...number) => numbers.get(number.join("/")) ?? null,
    seenRequest: (...request) => requests.get(request.join("/")) ?? null,
    attestedCost: (hash) => costOf.get(hash) ?? 0n,
  };
}
