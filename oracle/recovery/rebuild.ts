/**
 * Makes an operator's store whole again that was lost, or is older than what was signed from it: by the chain, which says what
 * settled, and by the attestors, who have copies of what was served and have signed what may still settle.
 *
 * Nobody is believed: receipts count by the operator's own signature, grants by their owners', batches by the operator's proposal
 * and their receipts' sum. What nobody has is lost to the operator alone. Its numbers aren't used again: all that are given out
 * from now on are above any for which the time until now had room. It may be done any number of times: what is there stays.
 */
import type { Chain } from "../chain/chain";
import { readEach } from "../chain/parallel";
import type { SettledBatch } from "../chain/settledBatches";
import type { DigestSigner } from "../keys/digestSigner";
import type { Log } from "../log";
import { Problem } from "../problem";
import { batchDigest, grantDigest, MalformedMessage, proposalDigest, recoverSigner } from "../protocol/messages";
import type { BatchHeader, SignedGrant } from "../protocol/types";
import { medianOf } from "../attestor/measure";
import type { AttestorsConfig } from "../settler/attestorPool";
import { counted, summarize } from "../settler/batches";
import type { SignedOff } from "../store/operatorCopies";
import type { ReceiptConflict } from "../store/recovery";
import type { Store } from "../store/store";
import { AttestorSilent, type Returned, Source } from "./gathering";
import { Returns } from "./returns";

export interface RebuildConfig extends AttestorsConfig {
  operatorId: number;
}

export interface RebuildDeps {
  store: Store;
  chain: Chain;
  /** One of the operator's signing keys. */
  signer: DigestSigner;
  log: Log;
  /** The operator's batches that settled, in their order. */
  settled: readonly SettledBatch[];
  /** The highest block that nothing undoes. */
  finalBlock: number;
}

/** What came of it. */
export interface Rebuilt {
  /** Receipts that weren't there. */
  added: number;
  /** How many receipts weren't taken, and the first reasons for it, in sentences. */
  refused: number;
  reasons: string[];
  conflicts: ReceiptConflict[];
  /** Receipts that may still be charged, and what they cost, in units of the currency. */
  unsettled: number;
  unsettledCost: bigint;
  /** Receipts that have missed their window. */
  voided: number;
  /** How many batches are on the chain, and how many receipts are missing of those that aren't all gone. */
  settledBatches: number;
  lackingOfSettled: bigint;
  /** Batches that attestors signed, and that settle as they are. */
  resumed: string[];
  /** Batches that attestors signed and that can't be had again: until then, Unix seconds, they sign no other of the lane. */
  lost: { batchId: string; until: number }[];
  /** Grants that nobody has: what came under them settles once their licensees show them again. */
  lackingGrants: { hash: string; licenseId: bigint }[];
  /** Attestors that don't give back what they have, and why. */
  silent: { attestor: string; reason: string }[];
  /** Receipts' numbers are above this from now on. */
  numbersAbove: bigint;
}

/**
 * @throws Problem if no attestor answers; then nothing has changed
 * @throws Error if the chain can't be read, or the store written to: then it is to be done again
 */
export async function rebuild(config: RebuildConfig, deps: RebuildDeps): Promise<Rebuilt> {
  const { store, chain, settled, finalBlock } = deps;
  const { recovery } = store;
  const at = await chain.now();
  const silent: Rebuilt["silent"] = [];
  const sources = config.attestors.map(
    (attestor) => new Source(attestor, config.operatorId, config.attestorTimeoutMs, chain, deps.signer),
  );
  const returned = await restOf(sources, silent);

  await recovery.begin(at);
  await recovery.reopenReceipts();
  const receipts = await returnReceipts(config, deps, sources, silent);
  let lackingOfSettled = 0n;
  for (const batch of settled) {
    const isFinal = batch.block <= finalBlock;
    await recovery.addSettled({ ...batch, measurements: [] }, batch.licenses, isFinal, batch.isReleased);
    const present = BigInt((await store.receipts.hashesIn(batch.batchId)).length);
    // Those of long ago nobody keeps.
    if (present > 0n && present < batch.header.count) lackingOfSettled += batch.header.count - present;
  }
  const batches = await takeUp(config, deps, returned, at);
  const voided = await recovery.voidOlder(at - chain.epochPeriod - chain.windowPeriod);
  await returnGrants(deps, returned);
  await recovery.end(at);

  const { unbatched, batched, cost } = await store.figures();
  return {
    ...receipts,
    ...batches,
    unsettled: unbatched + batched,
    unsettledCost: cost,
    voided,
    settledBatches: settled.length,
    lackingOfSettled,
    lackingGrants: await recovery.lackingGrants(),
    silent,
    numbersAbove: await recovery.numbersAbove(),
  };
}

async function restOf(sources: readonly Source[], silent: Rebuilt["silent"]): Promise<Returned[]> {
  const returned = await Promise.all(sources.map((source) => unlessSilent(source, silent, () => source.rest())));
  const answers = returned.filter((one) => one !== null);
  if (answers.length > 0) return answers;
  const reasons = silent.map(({ attestor, reason }) => `${attestor}: ${reason}`).join("; ");
  throw new Problem(
    `No attestor gives back what it has (${reasons}): the store can't be rebuilt without one. See that the section settler ` +
      `lists those who vouched for this operator, and that its signing key is registered.`,
  );
}

async function unlessSilent<T>(
  { attestor }: Source,
  silent: Rebuilt["silent"],
  work: () => Promise<T>,
): Promise<T | null> {
  try {
    return await work();
  } catch (cause) {
    if (!(cause instanceof AttestorSilent)) throw cause;
    if (!silent.some((one) => one.attestor === attestor.address)) {
      silent.push({ attestor: attestor.address, reason: cause.message });
    }
    return null;
  }
}

async function returnReceipts(
  { operatorId }: RebuildConfig,
  { store, chain, log }: RebuildDeps,
  sources: readonly Source[],
  silent: Rebuilt["silent"],
): Promise<Pick<Rebuilt, "added" | "conflicts" | "refused" | "reasons">> {
  const returns = new Returns(operatorId, chain);
  const conflicts = new Map<string, ReceiptConflict>();
  let added = 0;
  try {
    for (const source of sources) {
      await unlessSilent(source, silent, async () => {
        for await (const records of source.receipts()) {
          const page = await store.recovery.addReceipts(await returns.check(records));
          added += page.added;
          page.conflicts.forEach((one) => conflicts.set(one.otherHash, one));
        }
      });
      log.info("Attestor was asked for receipts", { attestor: source.attestor.address, added });
    }
  } finally {
    await returns.close();
  }
  return { added, conflicts: [...conflicts.values()], refused: returns.refused, reasons: returns.reasons };
}

/** Drafts anew what attestors signed and what may still settle: until it does, or can't, they sign no other of its lane. */
async function takeUp(
  { operatorId }: RebuildConfig,
  { store, chain }: RebuildDeps,
  returned: readonly Returned[],
  now: number,
): Promise<Pick<Rebuilt, "resumed" | "lost">> {
  const resumed = new Set<string>();
  const lost = new Map<string, number>();
  const signedOff = await proposedOf(
    operatorId,
    chain,
    returned.flatMap(({ batches }) => batches),
    now,
  );
  // Of several of one lane, the last was proposed after the others were taken back.
  const latestFirst = signedOff.sort((a, b) => Number(b.header.sequence - a.header.sequence));
  for (const { batchId, header, measurements } of latestFirst) {
    const until = header.epochEnd + chain.windowPeriod;
    if (resumed.has(batchId) || until < now) continue;
    if ((await store.batches.find(batchId))?.state === "settled") continue;
    if ((await store.batches.find(batchId))?.state === "submitted") continue;
    lost.set(batchId, until);
    const candidates = (await store.unbatched.receipts(header, header)).slice(0, Number(header.count));
    if (candidates.length === 0 || !isMedian(header, measurements)) continue;
    const { summary, entries } = summarize(candidates.map(counted));
    if (summary.root !== header.root) continue;
    await store.recovery.addDraft(
      { batchId, header, entries, measurements, proof: null },
      candidates.map(({ hash }) => hash),
    );
    lost.delete(batchId);
    resumed.add(batchId);
  }
  return { resumed: [...resumed], lost: [...lost].map(([batchId, until]) => ({ batchId, until })) };
}

/** Only what the operator has proposed counts: an attestor could say that it signed anything. */
async function proposedOf(operatorId: number, chain: Chain, batches: readonly SignedOff[], now: number) {
  const checked = await readEach(batches, async (batch) => {
    const batchId = batchDigest(chain.domain, batch.header);
    const signer = signerOf(proposalDigest(chain.domain, { batchId }), batch.proposal);
    if (batch.header.operatorId !== operatorId || signer === null) return [];
    const times = [now, batch.header.epochEnd];
    const isKey = await Promise.all(times.map((at) => chain.isSigningKey(operatorId, signer, at)));
    return isKey.includes(true) ? [{ batchId, ...batch }] : [];
  });
  return checked.flat();
}

function signerOf(digest: string, signature: string): string | null {
  try {
    return recoverSigner(digest, signature);
  } catch (cause) {
    if (cause instanceof MalformedMessage) return null;
    throw cause;
  }
}

function isMedian(header: BatchHeader, measurements: SignedOff["measurements"]): boolean {
  if (measurements.length === 0) return false;
  const median = medianOf(measurements.map(({ measurement }) => measurement));
  return (
    header.availabilityBps === median.availabilityBps &&
    header.p95TtftMs === median.p95TtftMs &&
    header.samples === median.samples
  );
}

/** Grants are their owners' word. What was used of one is what the middle attestor says, so that no single one can say how much. */
async function returnGrants({ store, chain }: RebuildDeps, returned: readonly Returned[]): Promise<void> {
  const { recovery } = store;
  const lacking = new Set((await recovery.lackingGrants()).map(({ hash }) => hash));
  const known = new Map<string, { forms: SignedGrant[]; used: bigint[] }>();
  for (const { signed, used } of returned.flatMap(({ grants }) => grants)) {
    const hash = grantDigest(chain.domain, signed.grant);
    const one = known.get(hash) ?? { forms: [], used: [] };
    known.set(hash, { forms: [...one.forms, signed], used: [...one.used, used] });
  }
  await readEach([...known], async ([hash, { forms, used }]) => {
    const wasUsed = lowerMedian(used);
    if (!lacking.has(hash) && wasUsed === 0n) return;
    const license = await chain.license(forms[0].grant.licenseId);
    for (const signed of license === null ? [] : forms) {
      if (!(await chain.isSignatureOf(license!.owner, hash, signed.signature))) continue;
      return recovery.returnGrant(hash, signed, wasUsed + (await recovery.unbatchedCostUnder(hash)));
    }
  });
}

function lowerMedian(values: readonly bigint[]): bigint {
  return [...values].sort((a, b) => (a < b ? -1 : Number(a > b)))[(values.length - 1) >> 1];
}
