/**
 * An attestor's copies of receipts: taken as operators send them, ahead of any batch, and kept as long as one may settle. A
 * batch then names its receipts by their hashes alone, and an operator that lost its own can have them back.
 *
 * A receipt proves whose it is, so anybody may bring it. What an operator can make an attestor keep is bounded.
 */
import { hexOf } from "../protocol/hex";
import { breathe } from "../breathe";
import { reasonOf } from "../problem";
import type { Audits } from "./audits";
import { MOST_RECEIPTS_SENT } from "./attestorApi";
import { type BatchFacts, type CopiedReceipt, planProblem } from "./batchFacts";
import { type ReceiptVerifier, signatureProblem } from "./receiptVerifier";
import { type KnownGrant, MOST_GRANTS_SENT, type SignedRetrieval } from "./retrievalApi";
import type { Chain } from "../chain/chain";
import { readEach } from "../chain/parallel";
import { grantDigest, headerFromJson, MalformedMessage, recoverSigner, retrievalDigest } from "../protocol/messages";
import {
  receiptIn,
  requestSignatureHashIn,
  requireCanonical,
  splitRecord,
  type SplitRecord,
  subjectOf,
} from "../protocol/receiptBytes";
import type { NamedReceipt } from "../protocol/namedReceipts";
import { requestSignatureHash } from "../protocol/requestSignature";
import type { SignedGrant } from "../protocol/types";
import type { RequestPlace } from "../store/attestedReceipts";
import type { Turn } from "../store/leases";
import type { CopyArchive, Unarchivable } from "../store/copyArchive";
import type { PlacedCopy } from "../store/copyRows";
import type { Store } from "../store/store";
import type { NumberedReceipt } from "../store/copyBooks";
import type { Copy } from "../store/copyRows";

/** What became of receipts that were brought. */
export interface Kept {
  /** How many were new. */
  kept: number;
  /** How many were there already. */
  known: number;
  /** Those that aren't kept. */
  refused: RefusedReceipt[];
}

export interface RefusedReceipt {
  hash: string;
  /** A sentence. */
  reason: string;
}

export interface CopiesConfig {
  /** Address of the committee's contract: only receipts under its plans are kept. */
  committee: string;
  /** The most copies of an operator that has a stake to lose, at about 600 bytes each; 10,000,000 if left out. */
  copiesPerOperator?: number;
  /** How long copies are kept at least, in seconds; as long as a batch with them may settle if left out. */
  keepCopiesSeconds?: number;
}

/** How long after its epoch's end a batch can be reported, in seconds: what shows a breach is kept as long. */
export const REPORT_SECONDS = 60 * 86_400;

export const COPIES_PER_OPERATOR = 10_000_000;

/** Anybody may register as an operator: of one whose stake secures nothing, no more than this is kept. */
export const COPIES_WITHOUT_STAKE = 1_000;

/** How long what the chain said of an operator or a key holds, in milliseconds. */
const FACTS_MS = 10_000;

const MOST_FACTS = 10_000;

const HASH_BYTES = 32;

/** A receipt of a clock that is further ahead, in seconds, would be kept for too long. */
const MOST_AHEAD = 3_600;

/** How many copies are read or dropped at a time: others are answered in between. */
const AT_ONCE = 1_000;

/** Of receipts that are wanted by another signature, as many as a batch may have. */
const MOST_WANTED = 100_000;

/** How many requests are looked at in one go, whether they can be forgotten. */
const REQUESTS_AT_ONCE = 50_000;

/** Those of one operator's receipts under one plan that one key signed. */
interface Group {
  operatorId: number;
  planId: number;
  signer: string;
  copies: Copy[];
}

/** How much older than its receipt a request's signature may be, in seconds, and some more. */
const OLDEST_SIGNATURE = 10_800;

/** How long an operator's request is good for, in seconds either way. */
const RETRIEVAL_SECONDS = 300;

/** Somebody asked for receipts that aren't its own. */
export class RetrievalRefused extends Error {
  readonly statusCode = 403;
}

/** Batches whose copies are kept, as they can't go into archives. */
export class Unarchived extends Error {
  constructor(readonly failed: readonly Unarchivable[]) {
    const [{ batchId, cause }] = failed;
    const others = failed.length === 1 ? "" : `, as ${failed.length - 1} others`;
    super(`Batch ${batchId} can't be archived${others}: ${reasonOf(cause)}`, { cause });
  }
}

export class Copies {
  /** Of each operator: counted once in a turn, since others keep copies in theirs, and kept up. */
  private counts: Promise<Map<number, number>> | undefined;
  private countedUnder: bigint | undefined;
  /** Up to where requests were looked at, whether they can be forgotten; null where the next look begins. */
  private looked: RequestPlace | null = null;
  /** By receipts' hashes, the leaves that proposed batches have of them, where the copies have others: by another signature. */
  private readonly wanted = new Map<string, string>();
  /** By what was asked. */
  private readonly facts = new Map<string, { value: Promise<unknown>; until: number }>();

  constructor(
    private readonly deps: {
      chain: Chain;
      store: Store;
      turn?: Turn;
      audits?: Pick<Audits, "note">;
      archive?: Pick<CopyArchive, "archiveDue">;
    },
    private readonly config: CopiesConfig,
    private readonly verifier: ReceiptVerifier,
  ) {}

  /**
   * Checks receipts, and keeps those that a batch may be of. Once it resolves, they survive a power cut.
   * @param brought records, each with its request's signature after it, if that was signed
   * @throws if the chain can't be read, or nothing can be written: then they may be brought again
   * @throws MalformedMessage if something isn't a receipt
   */
  async keep(brought: Buffer[]): Promise<Kept> {
    const split = brought.map(splitRecord);
    split.forEach(({ record }) => requireCanonical(record));
    const now = await this.deps.chain.now();
    const refused: RefusedReceipt[] = [];
    const groups = await this.groupsOf(split, now, refused);
    const fitting: Copy[] = [];
    for (const group of groups) {
      const problems = await this.problemsOf(group, now);
      for (const copy of group.copies) {
        const problem = problems(copy) ?? requestProblem(copy);
        if (problem === null) fitting.push(copy);
        else refused.push(refusedReceipt(copy, problem));
      }
    }
    const room = await this.withinQuota(fitting, refused);
    const kept = room.length === 0 ? 0 : await this.insert(room);
    if (this.wanted.size > 0) for (const copy of room) await this.heal(copy);
    return { kept, known: room.length - kept, refused };
  }

  /**
   * These receipts of an operator's, in their order, and the hashes of those that aren't there.
   * @param leaves that they have in a batch which the operator proposed, 32 bytes each: a copy with another is taken for none
   */
  async find(
    operatorId: number,
    names: readonly NamedReceipt[],
    leaves?: Uint8Array,
  ): Promise<{ found: CopiedReceipt[]; lacking: string[] }> {
    const found: CopiedReceipt[] = [];
    const lacking: string[] = [];
    for (let from = 0; from < names.length; from += AT_ONCE) {
      const some = names.slice(from, from + AT_ONCE);
      const copies = await this.deps.store.copies.find(operatorId, some);
      for (const [i, name] of some.entries()) {
        const { hash } = name;
        const copy = copies.get(hash);
        const leaf = leaves?.subarray(HASH_BYTES * (from + i), HASH_BYTES * (from + i + 1));
        const isOther = copy !== undefined && leaf !== undefined && Buffer.compare(copy.leaf, leaf) !== 0;
        if (isOther && !(await this.isAttested(operatorId, name))) this.want(hash, hexOf(leaf));
        if (copy === undefined || isOther) lacking.push(hash);
        else found.push(copiedReceipt(hash, copy));
      }
      await breathe();
    }
    return { found, lacking };
  }

  /**
   * Who asks for what is one operator's, or brings it.
   * @param self the attestor's address
   * @throws RetrievalRefused unless one of the operator's keys asks this attestor, now
   */
  async operatorIn({ retrieval, signature }: SignedRetrieval, self: string): Promise<number> {
    const { chain } = this.deps;
    const { operatorId, attestor, at } = retrieval;
    if (attestor !== self) throw new RetrievalRefused(`The request is to ${attestor}; this is ${self}`);
    const now = await chain.now();
    if (Math.abs(now - at) > RETRIEVAL_SECONDS) {
      throw new RetrievalRefused(`The request was signed at ${at}, and it is ${now}: sign it anew`);
    }
    const signer = recoverSigner(retrievalDigest(chain.domain, retrieval), signature);
    if (await chain.isSigningKey(operatorId, signer, now)) return operatorId;
    throw new RetrievalRefused(`${signer} isn't a key of operator ${operatorId} at ${now}`);
  }

  /** The copies of an operator's receipts after a place in the order of licenses and numbers, and the place of the last. */
  async copiesAfter(operatorId: number, after: bigint) {
    const numbered = await this.deps.store.copies.after(operatorId, numberAt(after), MOST_RECEIPTS_SENT);
    const last = numbered.at(-1);
    return { records: numbered.map(({ record }) => record), position: last === undefined ? after : placeOf(last) };
  }

  /** The last receipts of an operator's licenses above one, and the last of these licenses. */
  async lastReceiptsAfter(operatorId: number, after: bigint) {
    const { operatorCopies } = this.deps.store;
    const last = await operatorCopies.lastReceiptsAfter(operatorId, after, MOST_RECEIPTS_SENT);
    return { records: last.map(({ record }) => record), position: last.at(-1)?.licenseId ?? after };
  }

  /** Keeps an operator's grants, as many as there is room for. @returns how many of these are kept */
  async keepGrants(operatorId: number, grants: readonly SignedGrant[]): Promise<number> {
    const { chain, store } = this.deps;
    const used = grants.map((signed) => ({ hash: grantDigest(chain.domain, signed.grant), signed }));
    return store.operatorCopies.keepGrants(operatorId, used, await this.mostOf(operatorId));
  }

  /** An operator's grants after a hash, and what their receipts cost that were attested. */
  async grantsAfter(operatorId: number, after: string): Promise<KnownGrant[]> {
    const { store } = this.deps;
    const grants = await store.operatorCopies.grantsAfter(operatorId, after, MOST_GRANTS_SENT);
    return readEach(grants, async ({ hash, signed }) => {
      const used = signed.grant.cap === 0n ? 0n : await store.attested.cost(hash, "");
      return { hash, signed, used };
    });
  }

  /** What was signed of an operator's batches that may still settle, and hadn't: their JSON. */
  async openBatchesOf(operatorId: number): Promise<unknown[]> {
    const { chain, store } = this.deps;
    const signedOff = await store.operatorCopies.signedOff(operatorId, (await chain.now()) - chain.windowPeriod);
    const bodies = signedOff.map((body) => JSON.parse(body) as { header: unknown });
    const isOpen = await readEach(bodies, async ({ header }) => {
      const { planId, versionId, sequence } = headerFromJson(header);
      const lane = `lane ${operatorId} ${planId} ${versionId}`;
      return sequence > (await this.fact(lane, () => chain.lane(operatorId, planId, versionId))).sequence;
    });
    return bodies.filter((_, i) => isOpen[i]);
  }

  /**
   * Drops copies of receipts that no batch can settle any more, and gives how many these were; those in batches that were signed go
   * into archives first.
   * @throws Unarchived if some of these can't be, once all else is done; then they are kept
   */
  async dropOld(): Promise<number> {
    const { chain, store, archive } = this.deps;
    const now = await chain.now();
    const before = now - chain.epochPeriod - chain.windowPeriod;
    const endedBefore = now - Math.max(chain.windowPeriod, this.config.keepCopiesSeconds ?? 0);
    const { made, failed } = (await archive?.archiveDue(endedBefore, now)) ?? { made: [], failed: [] };
    if (made.length > 0) this.counts = undefined;
    if (archive === undefined) await store.attested.forget(endedBefore);
    // A batch that such a receipt is in has ended by then, however long its epoch.
    const copiedBefore =
      Math.min(endedBefore, ...failed.slice(0, 1).map(({ epochEnd }) => epochEnd)) - chain.epochPeriod;
    const dropped = await this.dropCopies(copiedBefore, now);
    await store.requestSignatures.drop(copiedBefore - OLDEST_SIGNATURE);
    await store.proofs.dropProven(copiedBefore);
    if (dropped > 0) this.counts = undefined;
    await store.operatorCopies.prune(Math.min(before, copiedBefore), chain.epochPeriod, now - REPORT_SECONDS);
    this.looked = await store.attested.forgetRequests(now - REPORT_SECONDS, this.looked, REQUESTS_AT_ONCE);
    if (failed.length > 0) throw new Unarchived(failed);
    return dropped;
  }

  private async dropCopies(finishedBefore: number, now: number): Promise<number> {
    let all = 0;
    for (let after: bigint | null = 0n; after !== null;) {
      const { dropped, next } = await this.deps.store.copies.drop(finishedBefore, now, after, AT_ONCE);
      all += dropped;
      after = next;
      await breathe();
    }
    return all;
  }

  private async groupsOf(brought: SplitRecord[], now: number, refused: RefusedReceipt[]): Promise<Group[]> {
    const groups = new Map<string, Group>();
    const verifieds = await this.verifier.verify(brought.map(({ record }) => record));
    for (const [i, verified] of verifieds.entries()) {
      const { record, hash, leaf, signer } = verified;
      if (signer === null) {
        refused.push(refusedReceipt(verified, `isn't signed: ${signatureProblem(verified)}`));
        continue;
      }
      const { operatorId, planId, finishedAt } = subjectOf(record);
      const key = `${operatorId}/${planId}/${signer}`;
      let group = groups.get(key);
      if (group === undefined) groups.set(key, (group = { operatorId, planId, signer, copies: [] }));
      const requestSignature = brought[i].requestSignature ?? undefined;
      group.copies.push({ hash, operatorId, finishedAt, arrivedAt: now, signer, record, leaf, requestSignature });
    }
    return [...groups.values()];
  }

  /** Gives for each copy of a group why it isn't kept; null if it is. */
  private async problemsOf({ operatorId, planId, signer, copies }: Group, now: number) {
    const { chain } = this.deps;
    const plan = await this.fact(`plan ${planId}`, () => chain.plan(planId));
    const unfit = planProblem({ planId } as BatchFacts["header"], plan, this.config.committee);
    if (unfit !== null) return () => `is under another's plan: ${unfit}`;

    const isKeyAt = (at: number) =>
      this.fact(`key ${operatorId} ${signer} ${at}`, () => chain.isSigningKey(operatorId, signer, at));
    const times = [...new Set(copies.map(({ finishedAt }) => finishedAt))].sort((a, b) => a - b);
    // A key is valid for one span of time: if at the first and the last of its receipts, then at all between.
    const isKeyThroughout = (await isKeyAt(times[0])) && (await isKeyAt(times[times.length - 1]));
    const areKey = isKeyThroughout ? times.map(() => true) : await readEach(times, isKeyAt);
    const validTimes = new Set(times.filter((_, i) => areKey[i]));

    const oldest = now - chain.epochPeriod - chain.windowPeriod;
    return ({ finishedAt }: Copy): string | null => {
      if (!validTimes.has(finishedAt)) {
        return `is signed by ${signer}, not a key of operator ${operatorId} at ${finishedAt}`;
      }
      if (finishedAt < oldest)
        return `finished at ${finishedAt}; no batch with what is older than ${oldest} can settle`;
      if (finishedAt > now + MOST_AHEAD) return `finished at ${finishedAt}, and it is ${now}: set the gateway's clock`;
      return null;
    };
  }

  /** Those for which there is room, and those that are there already. */
  private async withinQuota(copies: Copy[], refused: RefusedReceipt[]): Promise<Copy[]> {
    const within: Copy[] = [];
    for (const operatorId of new Set(copies.map((copy) => copy.operatorId))) {
      const own = copies.filter((copy) => copy.operatorId === operatorId);
      const most = await this.mostOf(operatorId);
      const count = (await this.counted()).get(operatorId) ?? 0;
      const known = count + own.length > most ? await this.knownOf(operatorId, own) : new Map<string, unknown>();
      let room = most - count;
      for (const copy of own) {
        const isKnown = known.has(hexOf(copy.hash));
        if (isKnown || room > 0) within.push(copy);
        else refused.push(refusedReceipt(copy, `is too much: ${most} of operator ${operatorId} are kept at the most`));
        if (!isKnown) room--;
      }
    }
    return within;
  }

  private knownOf(operatorId: number, copies: Copy[]): Promise<Map<string, unknown>> {
    const names = copies.map(({ hash, record }) => ({ ...subjectOf(record), hash: hexOf(hash) }));
    return this.deps.store.copies.find(operatorId, names);
  }

  private async mostOf(operatorId: number): Promise<number> {
    const headroom = await this.fact(`headroom ${operatorId}`, () => this.deps.chain.headroom(operatorId));
    return headroom > 0n ? (this.config.copiesPerOperator ?? COPIES_PER_OPERATOR) : COPIES_WITHOUT_STAKE;
  }

  private async insert(copies: Copy[]): Promise<number> {
    const kept = await this.deps.store.copies.keep(copies);
    void this.deps.audits?.note(kept);
    const counts = await this.counted();
    for (const { operatorId } of kept) counts.set(operatorId, (counts.get(operatorId) ?? 0) + 1);
    return kept.length;
  }

  /** Only what a batch asks for takes a copy's place, so that nobody can change copies to and fro. */
  private want(hash: string, leaf: string): void {
    if (this.wanted.size >= MOST_WANTED) this.wanted.clear();
    this.wanted.set(hash, leaf);
  }

  /** Whether a batch that this attestor signed has a license's number: no other will, and its copy stays as it was signed. */
  private async isAttested(operatorId: number, { licenseId, sequence }: NumberedReceipt): Promise<boolean> {
    const spans = await this.deps.store.attested.seenSpans([
      { operatorId, licenseId, first: sequence, last: sequence },
    ]);
    return spans.some(({ first, last }) => first <= sequence && sequence <= last);
  }

  private async heal(copy: Copy): Promise<void> {
    const hash = hexOf(copy.hash);
    if (this.wanted.get(hash) !== hexOf(copy.leaf)) return;
    await this.deps.store.copies.resign(copy);
    this.wanted.delete(hash);
  }

  private counted(): Promise<Map<number, number>> {
    const token = this.deps.turn?.lease.token;
    if (token !== this.countedUnder) this.counts = undefined;
    this.countedUnder = token;
    this.counts ??= this.deps.store.copies.count();
    return this.counts;
  }

  /** What the chain says, asked once in a while. */
  private fact<T>(about: string, read: () => Promise<T>): Promise<T> {
    const known = this.facts.get(about);
    if (known !== undefined && Date.now() < known.until) return known.value as Promise<T>;
    if (this.facts.size >= MOST_FACTS) this.facts.clear();
    const value = read();
    this.facts.set(about, { value, until: Date.now() + FACTS_MS });
    value.catch(() => this.facts.delete(about));
    return value;
  }
}

/** Whether the signature of its request came along, where it says that it was signed. */
function requestProblem({ record, requestSignature }: Copy): string | null {
  const said = requestSignatureHashIn(record);
  const brought = requestSignature === undefined ? null : requestSignatureHash(requestSignature);
  if (said === brought) return null;
  return `says ${said ?? "nothing"} of its request's signature; ${brought ?? "none"} came with it`;
}

const NUMBER_BITS = 64n;

function placeOf({ licenseId, sequence }: NumberedReceipt): bigint {
  return (licenseId << NUMBER_BITS) | sequence;
}

/** @throws MalformedMessage if it is no answer's */
function numberAt(place: bigint): NumberedReceipt {
  const licenseId = place >> NUMBER_BITS;
  const sequence = BigInt.asUintN(Number(NUMBER_BITS), place);
  if (sequence <= MOST_NUMBER) return { licenseId, sequence };
  throw new MalformedMessage(`${place} isn't the position of an answer`);
}

/** A store's numbers end here. */
const MOST_NUMBER = 2n ** 63n - 1n;

function refusedReceipt({ hash, record }: Pick<Copy, "hash" | "record">, problem: string): RefusedReceipt {
  const { licenseId, sequence } = subjectOf(record);
  return { hash: hexOf(hash), reason: `Receipt ${sequence} of license ${licenseId} ${problem}` };
}

function copiedReceipt(hash: string, { record, leaf, signer, arrivedAt }: PlacedCopy): CopiedReceipt {
  return { receipt: receiptIn(record), leaf, hash, signer, arrivedAt };
}
