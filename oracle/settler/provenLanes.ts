/**
 * Proves receipts under plans that demand it, as they come, and shows the proofs to attestors, which vouch for nothing else of
 * those plans. A proof is stored before it is shown. What can't be proven is left out of its epoch's batches, and charged to nobody:
 *
 *   no input or grant is kept of it, or its version names no verifier ──> left out once the epoch has ended
 *   not yet, or proving it fails ──> waited for, with its lane; left out when half of the window is over
 */
import { getBytes } from "ethers";
import { MOST_RECEIPTS_SENT, sendReceipts } from "../attestor/attestorApi";
import { MOST_PROOFS_SENT, sendProofs, type ShownProofs, type TakenProofs } from "../attestor/proofsApi";
import { signRetrieval } from "../attestor/retrievalApi";
import type { AttestorEndpoint, AttestorsConfig, MemberRefusal } from "./attestorPool";
import type { Chain } from "../chain/chain";
import type { Inferences } from "../chain/inferences";
import type { ReceiptProver } from "../disputes/receiptProver";
import type { DigestSigner } from "../keys/digestSigner";
import type { Log } from "../log";
import { oneAtATime } from "../oneAtATime";
import { reasonOf } from "../problem";
import { Tier } from "../protocol/tiers";
import type { Lane } from "../protocol/types";
import { chunks } from "../store/lists";
import type { Store } from "../store/store";

export interface ProvenLanesConfig extends AttestorsConfig {
  /** By version. */
  provers: ReadonlyMap<bigint, ReceiptProver>;
  /** With a signing key of the operator. */
  proposer: DigestSigner;
}

export interface ProvenLanesDeps {
  chain: Pick<Chain, "plan" | "now" | "domain" | "epochPeriod" | "windowPeriod">;
  inferences: Inferences;
  store: Pick<Store, "proofs" | "disputes" | "grants" | "receipts" | "unbatched">;
  log: Log;
}

export interface ProofFigures {
  /** Receipts whose proofs failed, and are tried again. */
  failing: number;
  /** Receipts that were left out since this process began. */
  leftOut: number;
}

/** When what failed is tried again, in seconds: twice as long after each further failure. */
const RETRY_SECONDS = 300;
const LONGEST_RETRY_SECONDS = 4_800;
/** How long a failure is remembered of a receipt that isn't tried again, as it is in no lane any more, in seconds. */
const FORGET_SECONDS = 3_600;
/** How many receipts of one lane are proven before others have their turn, and for how long. */
const PROVEN_IN_A_ROW = 3 * MOST_PROOFS_SENT;
const TURN_MS = 60_000;
/** How long an attestor is shown proofs in one go, before it is asked for a batch: another time it goes on from there. */
const SHOWING_MS = 60_000;
/** How many receipts without a proof are looked at in one go. */
const AT_ONCE = 1_000;
/** How many one line of the log lists. */
const MOST_LISTED = 20;
/** How many receipts are remembered to have been shown to one attestor. */
const MOST_REMEMBERED = 100_000;

/** It won't ever be proven. */
class Unprovable extends Error {}

interface Failure {
  /** A sentence. */
  reason: string;
  isHopeless: boolean;
  /** After so many seconds. */
  waited: number;
  /** When it is tried again, Unix seconds. */
  again: number;
}

export class ProvenLanes {
  /** By the hashes of receipts whose proofs failed. */
  private readonly failed = new Map<string, Failure>();
  /** By attestors' addresses, hashes of the receipts whose proofs they took. */
  private readonly shown = new Map<string, Set<string>>();
  /** By attestors' addresses, until when one that failed to answer isn't shown proofs ahead, Unix seconds. */
  private readonly away = new Map<string, number>();
  /** What was told, so that it is told once. */
  private readonly told = new Set<string>();
  /** By plan. */
  private readonly demands = new Map<number, boolean>();
  /** By attestors' addresses: each is shown some at a time. */
  private readonly inTurn = new Map<string, ReturnType<typeof oneAtATime>>();
  private leftOut = 0;

  constructor(
    private readonly deps: ProvenLanesDeps,
    private readonly config: ProvenLanesConfig,
  ) {}

  figures(): ProofFigures {
    return { failing: this.failed.size, leftOut: this.leftOut };
  }

  /** Plans never change. @throws if the chain can't be read */
  async demandsProofs({ planId }: Pick<Lane, "planId">): Promise<boolean> {
    const known = this.demands.get(planId);
    if (known !== undefined) return known;
    const plan = await this.deps.chain.plan(planId);
    if (plan === null) return false;
    this.demands.set(planId, plan.minEvidenceTier === Tier.proven);
    return plan.minEvidenceTier === Tier.proven;
  }

  /**
   * Proves what isn't proven yet, licenses by turns, and shows it. What never failed comes first. Made to be called again and again.
   * @param goesOn is asked before each proof
   * @throws if the store or the chain can't be read
   */
  async proveDue(goesOn: () => boolean = () => true): Promise<void> {
    const { chain, store } = this.deps;
    await this.forgetFailures();
    for (const { oldestFinishedAt, ...lane } of await store.unbatched.lanes()) {
      if (!(await this.demandsProofs(lane))) continue;
      const now = await chain.now();
      const span = { epochStart: oldestFinishedAt, epochEnd: now + 1 };
      const unproven = await store.proofs.unproven(lane, span, chain.epochPeriod, PROVEN_IN_A_ROW + this.failed.size);
      const failed = unproven.filter((hash) => this.failed.has(hash));
      const due = [
        ...unproven.filter((hash) => !this.failed.has(hash)),
        ...failed.filter((hash) => this.failed.get(hash)!.again <= now),
      ];
      const isOver = performance.now() + TURN_MS;
      for (const some of chunks(due.slice(0, PROVEN_IN_A_ROW), MOST_PROOFS_SENT)) {
        for (const hash of some) {
          if (!goesOn()) return;
          if (performance.now() < isOver) await this.attempt(lane, hash);
        }
        await this.show(some);
      }
    }
  }

  private async forgetFailures(): Promise<void> {
    const now = await this.deps.chain.now();
    for (const [hash, { again }] of this.failed) if (again + FORGET_SECONDS < now) this.failed.delete(hash);
  }

  /** One that fails stops no other. */
  private async attempt(lane: Lane, hash: string): Promise<void> {
    const { chain, store } = this.deps;
    try {
      await store.proofs.keep(hash, await this.proofOf(hash));
      this.failed.delete(hash);
    } catch (cause) {
      const reason = reasonOf(cause);
      const before = this.failed.get(hash)?.waited;
      const waited = before === undefined ? RETRY_SECONDS : Math.min(LONGEST_RETRY_SECONDS, 2 * before);
      const again = (await chain.now()) + waited;
      this.failed.set(hash, { reason, isHopeless: cause instanceof Unprovable, waited, again });
      this.tellOnce("Receipt can't be proven", hash, { lane, receipt: hash, reason });
    }
  }

  /** @throws Unprovable if something is lacking that won't come; Error if it may be tried again */
  private async proofOf(hash: string): Promise<Uint8Array> {
    const { store, inferences } = this.deps;
    const stored = await store.receipts.withHash(hash);
    if (stored === null) throw new Unprovable(`The store lacks receipt ${hash}`);
    const { receipt, versionId } = stored;
    const [input, grant, inference] = await Promise.all([
      store.disputes.input(receipt.requestId),
      store.grants.find(receipt.grantHash),
      inferences.inferenceOf(versionId),
    ]);
    if (inference === null) throw new Unprovable(`Version ${versionId} names no verifier`);
    if (input === null) {
      throw new Unprovable(
        `The store lacks what receipt ${hash} was asked: gateways keep inputs of models whose section says "keepInputs": true`,
      );
    }
    if (grant === null) throw new Unprovable(`The store lacks the grant of receipt ${hash}`);
    const prover = this.config.provers.get(versionId);
    if (prover === undefined) {
      throw new Error(`No prover is set for version ${versionId}: name its model's file in disputes.provers`);
    }
    const asked = { receipt, receiptHash: hash, input: [...input], grantSalt: grant.grant.salt, ...inference };
    const proof = getBytes(await prover.prove(asked));
    if (await inferences.isProven(inference, receipt, hash, proof)) return proof;
    throw new Error(
      `The verifier ${inference.verifier} of version ${versionId} doesn't take the proof that was made of receipt ${hash}: ` +
        `name the setup that the verifier is for in disputes.provers`,
    );
  }

  /**
   * Leaves out of a lane's batches what can't be proven in time, up to an epoch's end, and says what is still waited for; null if the
   * lane has nothing left that would be refused for want of a proof.
   * @param now Unix seconds
   */
  async waitsFor(lane: Lane, epochEnd: number, now: number): Promise<string | null> {
    const { chain, store } = this.deps;
    if (!(await this.demandsProofs(lane))) return null;
    const isLate = now > epochEnd + Math.floor(chain.windowPeriod / 2);
    for (;;) {
      const unproven = await store.proofs.unproven(lane, { epochStart: 0, epochEnd }, chain.epochPeriod, AT_ONCE);
      const isHopeless = (hash: string) => isLate || this.failed.get(hash)?.isHopeless === true;
      const hopeless = unproven.filter(isHopeless);
      const waiting = unproven.filter((hash) => !isHopeless(hash));
      await this.leaveOut(lane, hopeless);
      if (waiting.length > 0) {
        const why = this.failed.get(waiting[0])?.reason ?? "its turn hasn't come";
        return (
          `${waiting.length} receipts from before ${epochEnd} wait for proofs, which plan ${lane.planId} demands; ` +
          `the first, ${waiting[0]}: ${why}`
        );
      }
      if (unproven.length < AT_ONCE) return null;
    }
  }

  private async leaveOut(lane: Lane, hashes: string[]): Promise<void> {
    if (hashes.length === 0) return;
    const reasons = hashes.map((hash) => this.failed.get(hash)?.reason ?? `Receipt ${hash} wasn't proven in time`);
    const receipts = await this.deps.store.proofs.giveUp(hashes);
    this.leftOut += receipts;
    hashes.forEach((hash) => this.failed.delete(hash));
    this.deps.log.error(
      "Receipts left out, as their answers aren't proven: nobody is charged for them, and they may be challenged",
      {
        ...{ lane, receipts, hashes: hashes.slice(0, MOST_LISTED), reasons: reasons.slice(0, MOST_LISTED) },
      },
    );
  }

  // Showing

  /** Shows each attestor the proofs of these receipts that it hasn't taken; not one that failed to answer a while ago. */
  private async show(hashes: readonly string[]): Promise<void> {
    const { chain, log } = this.deps;
    const now = await chain.now();
    const there = this.config.attestors.filter(({ address }) => (this.away.get(address) ?? 0) <= now);
    await Promise.all(
      there.map(async (attestor) => {
        try {
          await this.showTo(attestor, hashes);
        } catch (cause) {
          log.warn("Attestor takes no proofs", { attestor: attestor.address, url: attestor.url, cause });
          this.away.set(attestor.address, (await chain.now()) + RETRY_SECONDS);
        }
      }),
    );
  }

  /**
   * Shows an attestor the proofs of these receipts that it hasn't taken.
   * @throws Error unless it answers, about all of them in time: asked to attest without them, it would refuse
   */
  async showTo(attestor: AttestorEndpoint, hashes: readonly string[], signal?: AbortSignal): Promise<void> {
    const { address } = attestor;
    const inTurn = this.inTurn.get(address) ?? oneAtATime();
    this.inTurn.set(address, inTurn);
    const over = AbortSignal.any([AbortSignal.timeout(SHOWING_MS), ...(signal === undefined ? [] : [signal])]);
    await inTurn(async () => {
      over.throwIfAborted();
      const taken = this.shown.get(address) ?? new Set();
      this.shown.set(address, taken);
      if (taken.size > MOST_REMEMBERED) taken.clear();
      const unshown = hashes.filter((hash) => !taken.has(hash));
      for (const some of chunks(unshown, MOST_PROOFS_SENT)) {
        for (const shown of await this.shownOf(some)) await this.showSome(attestor, shown, taken, over);
      }
      this.away.delete(address);
    });
  }

  /** What an attestor refuses is shown to it again: it may have lost what it was shown before. */
  noteRefused({ attestor, receipts }: Pick<MemberRefusal, "attestor" | "receipts">): void {
    receipts.forEach((hash) => this.shown.get(attestor)?.delete(hash));
  }

  private async showSome(
    attestor: AttestorEndpoint,
    shown: ShownProofs,
    taken: Set<string>,
    signal?: AbortSignal,
  ): Promise<void> {
    const { refused } = await this.send(attestor, shown, signal);
    const reasons = new Map(refused.map(({ hash, reason }) => [hash, reason]));
    for (const { name } of shown.proofs) if (!reasons.has(name.hash)) taken.add(name.hash);
    for (const [receipt, reason] of reasons) {
      const fields = { attestor: attestor.address, receipt, reason };
      this.tellOnce("Attestor takes a proof for none", `${attestor.address} ${receipt}`, fields);
    }
  }

  /** The proofs that there are, by their receipts' versions. */
  private async shownOf(hashes: readonly string[]): Promise<ShownProofs[]> {
    const { store } = this.deps;
    const proofs = await store.proofs.proofs(hashes);
    const byVersion = new Map<bigint, ShownProofs>();
    for (const [hash, proof] of proofs) {
      const stored = await store.receipts.withHash(hash);
      if (stored === null) continue;
      const { versionId, receipt } = stored;
      const { licenseId, sequence } = receipt;
      const shown = byVersion.get(versionId) ?? { versionId, proofs: [] };
      shown.proofs.push({ name: { licenseId, sequence, hash }, proof });
      byVersion.set(versionId, shown);
    }
    return [...byVersion.values()];
  }

  /** With receipts of which the attestor has no copies. @throws Error unless it has them then */
  private async send(
    { address, url }: AttestorEndpoint,
    shown: ShownProofs,
    signal?: AbortSignal,
  ): Promise<TakenProofs> {
    const { chain, store } = this.deps;
    const { proposer, attestorTimeoutMs } = this.config;
    const { receipt } = (await store.receipts.withHash(shown.proofs[0].name.hash))!;
    const retrieval = { operatorId: receipt.operatorId, attestor: address, at: await chain.now() };
    const signed = await signRetrieval(chain.domain, proposer, retrieval);
    const first = await sendProofs(url, signed, shown, attestorTimeoutMs, signal);
    if (first.lacking.length === 0) return first;
    for (const some of chunks(first.lacking, MOST_RECEIPTS_SENT)) {
      const { refused } = await sendReceipts(url, await store.receipts.records(some), attestorTimeoutMs, signal);
      if (refused.length > 0) throw new Error(`${url} doesn't keep receipts: ${refused[0].reason}`);
    }
    const second = await sendProofs(url, signed, shown, attestorTimeoutMs, signal);
    if (second.lacking.length === 0) return second;
    throw new Error(`${url} lacks ${second.lacking.length} receipts that were sent to it`);
  }

  private tellOnce(message: string, about: string, fields: Record<string, unknown>): void {
    const what = `${message} ${about}`;
    if (this.told.has(what)) return;
    if (this.told.size > MOST_REMEMBERED) this.told.clear();
    this.told.add(what);
    this.deps.log.warn(message, fields);
  }
}
