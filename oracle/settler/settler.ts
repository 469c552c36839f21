/**
 * The settler: turns an ended epoch's receipts into batches, has attestors vouch for them, and sees each through to a
 * final settlement. Every step is stored before the next begins, so that it can die anywhere and go on from there:
 *
 *      ┌───────────┬────────────┐ its proof isn't taken any more
 *   drafted ──> attested ──> submitted ──> settled
 *      └───────────┴────────────┴────────> expired, once the window is over
 *
 * Its transactions are the account's sender's, which stores before it sends and serves each purpose once: a batch can't be
 * paid twice. What goes wrong is classed by what to do about it, in the outcome's status. Lanes don't wait for each other; of one,
 * a batch must settle before attestors sign the next, which is drafted meanwhile.
 */
import { getAddress } from "ethers";
import type { Attestation } from "../attestor/attestorApi";
import type { AttestationRequest } from "../attestor/batchFacts";
import {
  type AttestorEndpoint,
  AttestorPool,
  type AttestorsConfig,
  committeeProof,
  type CommitteeAnswer,
} from "./attestorPool";
import {
  BATCH_LIMITS,
  type BatchLimits,
  counted,
  type ChosenReceipt,
  firstLicenses,
  firstPart,
  headerOf,
  nextEpoch,
  summarize,
  wholeEpoch,
} from "./batches";
import type { Chain, Committee, LaneState } from "../chain/chain";
import { weightOf } from "../chain/committee";
import { type DigestSigner, proposalToSign } from "../keys/digestSigner";
import type { Log } from "../log";
import { oneAtATime } from "../oneAtATime";
import { medianOf } from "../attestor/measure";
import type { Outcome } from "../protocol/entries";
import { costOf, sumUsage } from "../protocol/meters";
import { epochAt, isWithin } from "../protocol/epochs";
import { isSameLane } from "../protocol/lanes";
import { batchDigest } from "../protocol/messages";
import type { Epoch, Lane, SignedMeasurement } from "../protocol/types";
import { readEach } from "../chain/parallel";
import { inCurrency, settlementGas, verdictOf, type Bargain, type EconomyConfig } from "./economy";
import type { ProvenLanes } from "./provenLanes";
import { type Call, ChainRefusal, type Sender, type SettlementEscrow } from "./sender";
import type { Store } from "../store/store";
import type { LicensesReceipts } from "../store/batchBooks";
import type { StoredBatch } from "../store/batchRows";
import type { StoredReceipt } from "../store/receiptRows";
import type { UnbatchedTotals } from "../store/unbatchedReceipts";

export interface SettlerConfig extends AttestorsConfig {
  /** Address of the attestor that plans name: batches of plans with another are left to another settler. */
  committee: string;
  /** With a signing key of the operator: attestors look at nothing that no such key proposes. */
  proposer: DigestSigner;
  /** Length of the epochs that `settleDue` cuts time into, from 1970 on; the chain's longest if left out. */
  epochSeconds?: number;
  /** 1,000 if left out; fewer where blocks are small. */
  licensesPerBatch?: number;
  /** When a batch is worth its gas; it isn't asked for if this is left out. */
  economy?: EconomyConfig;
  /** 100,000 if left out. Attestors' limit on a request, 32 MiB if they don't say otherwise, must hold them. */
  receiptsPerBatch?: number;
}

export interface SettlerDeps {
  chain: Chain;
  store: Store;
  escrow: SettlementEscrow;
  sender: Sender;
  /** What proves receipts under plans that demand it. Without it, attestors refuse their batches. */
  proofs?: Pick<ProvenLanes, "demandsProofs" | "waitsFor" | "showTo" | "noteRefused">;
  log: Log;
}

/** What became of a batch, or of an epoch that has none yet (`batchId` is null). */
export interface SettlementOutcome {
  lane: Lane;
  batchId: string | null;
  /**
   * settled: final. retry: something didn't answer, try again soon. refused: the chain said no, see to it and try again.
   * abandoned: it can't settle any more, its receipts are void.
   */
  status: "settled" | "retry" | "refused" | "abandoned";
  /** A sentence; null if it settled. */
  reason: string | null;
}

/** How often a transaction is sent in one go before the settler leaves it for the next. */
const MOST_ATTEMPTS = 3;

/**
 * How often a draft that can't get enough signatures is asked for again before it is taken back: who refuses may only be a
 * block behind, and who signed it signs no other.
 */
const MOST_TRIES = 5;

/** How long members must have refused a receipt, in seconds, until it is void. */
const REFUSAL_PERIOD = 3_600;

/** How many lanes are settled at once. */
const LANES_AT_ONCE = 4;

/** How many entries a log line lists. */
const MOST_LISTED = 100;

/** What a lane's next batch is of. */
interface Part {
  epoch: Epoch;
  /** None if no batch can hold what is left up to the epoch's end. */
  receipts: ChosenReceipt[];
  /** Which of the store's they are. */
  stored: string[] | LicensesReceipts;
  /** The span that was looked at for it, and up to which place in the order of all receipts. */
  looked: { span: Epoch; upTo: bigint };
}

/** A receipt with which a draft got no quorum. */
interface Refused {
  /** Unix seconds. */
  since: number;
  times: number;
  /** The members who refused it last. */
  by: string;
}

/** What a batch's receipts are, and the grants that they came under. */
type NamedInBatch = Pick<AttestationRequest, "receipts" | "leaves" | "grants"> & { batchId: string };

/** Something that is needed isn't there at the moment. */
class NotYet extends Error {}

/** Its gas costs too much at the moment. */
class TooDear extends NotYet {}

/** What isn't settled since it isn't worth its gas, in units of the currency. */
export interface DearFigures {
  /** What waits for cheaper gas. */
  waiting: bigint;
  /** What was given up since this process began. */
  givenUp: bigint;
}

export class Settler {
  private readonly attestors: AttestorPool;
  private readonly limits: BatchLimits;
  private readonly rounds = oneAtATime();
  /** A batch at a time: its receipts are held in memory, and then their hashes. */
  private readonly drafting = oneAtATime();
  private readonly attesting = oneAtATime();
  /** Of the batch that was drafted last, so that it isn't read again: attestors would wait for it. */
  private drafted: NamedInBatch | null = null;
  /** What waits for cheaper gas, by lane and epoch, and what was given up for it. */
  private readonly dear = new Map<string, bigint>();
  private givenUp = 0n;
  /** How often drafts couldn't get enough signatures, by batch id. */
  private readonly tries = new Map<string, number>();
  /** By hash. */
  private readonly refused = new Map<string, Refused>();

  constructor(
    private readonly deps: SettlerDeps,
    private readonly config: SettlerConfig,
  ) {
    this.attestors = new AttestorPool(deps.chain.domain, config, deps.log);
    this.limits = {
      licenses: config.licensesPerBatch ?? BATCH_LIMITS.licenses,
      receipts: config.receiptsPerBatch ?? BATCH_LIMITS.receipts,
    };
  }

  figures(): DearFigures {
    return { waiting: [...this.dear.values()].reduce((sum, value) => sum + value, 0n), givenUp: this.givenUp };
  }

  /** Takes up every batch that isn't finished, wherever it was left. */
  resume(): Promise<SettlementOutcome[]> {
    return this.rounds(() => this.resumeOpen());
  }

  /** Takes up a batch whose settlement was final, and which the chain has undone all the same. */
  async undone(purpose: string): Promise<void> {
    const batchId = batchOfPurpose(purpose);
    if (batchId === null || (await this.deps.store.batches.find(batchId))?.state !== "settled") return;
    await this.deps.store.batches.markUndone(batchId);
    this.deps.log.error("Batch is settled anew, as the chain has undone its settlement", { batchId });
  }

  /** Settles a lane's epoch, in as many batches as it takes. Stops at the first that has to wait. */
  settle(lane: Lane, epoch: Epoch): Promise<SettlementOutcome[]> {
    return this.rounds(async () => {
      const resumed = (await this.resumeOpen()).filter((outcome) => isSameLane(outcome.lane, lane));
      if (resumed.some(isOpen)) return resumed;
      await this.voidRevoked();
      return [...resumed, ...(await this.settleEpoch(lane, epoch))];
    });
  }

  /**
   * Takes up what isn't finished, renews licenses that are waited for, then settles each lane's oldest epoch that has ended.
   * Made to be called again and again.
   * @throws if not even the time can be read
   */
  settleDue(): Promise<SettlementOutcome[]> {
    return this.rounds(async () => {
      const resumed = await this.resumeOpen();
      await this.renewAsked();
      await this.voidRevoked();
      const now = await this.deps.chain.now();
      const settled = await readEach(
        await this.deps.store.unbatched.lanes(),
        async ({ oldestFinishedAt, ...lane }) => {
          const epoch = epochAt(oldestFinishedAt, this.config.epochSeconds ?? this.deps.chain.epochPeriod);
          const isBlocked = resumed.some((outcome) => isSameLane(outcome.lane, lane) && isOpen(outcome));
          if (epoch.epochEnd > now || isBlocked) return [];
          return this.ifOwn(lane, null, () => this.settleEpoch(lane, epoch));
        },
        LANES_AT_ONCE,
      );
      return [...resumed, ...settled.flat()];
    });
  }

  /** A lane's batches one after the other: each must settle before the next. */
  private async resumeOpen(): Promise<SettlementOutcome[]> {
    const lanes = byLane(await this.deps.store.batches.in("drafted", "attested", "submitted"));
    const outcomes = await readEach(lanes, (batches) => this.resumeLane(batches), LANES_AT_ONCE);
    return outcomes.flat();
  }

  private async resumeLane(batches: StoredBatch[]): Promise<SettlementOutcome[]> {
    const outcomes: SettlementOutcome[] = [];
    for (const { batchId, header, state } of batches) {
      const lane = laneOf(header);
      const advanced = await this.ifOwn(lane, batchId, async () => {
        // Attestors sign no other while one may still settle; if one was taken back, so was this.
        if (state === "drafted" && outcomes.some(isOpen)) return [];
        return [await this.classed(lane, batchId, () => this.advance(batchId))];
      });
      outcomes.push(...advanced);
    }
    return outcomes;
  }

  /** The work's outcomes, where the lane is this settler's. */
  private async ifOwn(
    lane: Lane,
    batchId: string | null,
    work: () => Promise<SettlementOutcome[]>,
  ): Promise<SettlementOutcome[]> {
    const done = await this.classed(lane, batchId, async () => ((await this.isOfCommittee(lane)) ? work() : []));
    return Array.isArray(done) ? done : [done];
  }

  private async isOfCommittee({ planId }: Lane): Promise<boolean> {
    const plan = await this.deps.chain.plan(planId);
    return plan !== null && getAddress(plan.attestor) === getAddress(this.config.committee);
  }

  /** Without waiting for it: who asked looks at the license again. */
  private async renewAsked(): Promise<void> {
    const { chain, escrow, sender, store, log } = this.deps;
    for (const licenseId of await store.renewals.take()) {
      try {
        const license = await chain.license(licenseId);
        if (license === null) continue;
        const purpose = `renewal of license ${licenseId} from ${license.expiresAt} on`;
        await sender.submit(purpose, () => escrow.renewal(licenseId));
        log.info("License's renewal is sent", { licenseId });
      } catch (cause) {
        log.warn("License isn't renewed", { licenseId, cause });
      }
    }
  }

  /** A revoked key voids what it signed: no attestor would let a batch with any of it pass. */
  private async voidRevoked(): Promise<void> {
    const { chain, store, log } = this.deps;
    for (const { operatorId, signer } of await store.unbatched.signers()) {
      if (!(await chain.isRevokedKey(operatorId, signer))) continue;
      const receipts = await store.unbatched.voidSignedBy(operatorId, signer);
      log.error("Receipts void, as their key was revoked", { operatorId, signer, receipts });
    }
  }

  private async settleEpoch(lane: Lane, wanted: Epoch): Promise<SettlementOutcome[]> {
    const outcomes: SettlementOutcome[] = [];
    const draft = (work: () => Promise<string | SettlementOutcome | null>) =>
      this.drafting(() => this.classed(lane, null, work));
    const draftNext = () => draft(() => this.draftNext(lane, wanted));
    let next = await draftNext();
    while (next !== null) {
      let ahead: Promise<string | SettlementOutcome | null> | undefined;
      if (typeof next === "string") {
        const batchId = next;
        const meanwhile = () => void (ahead ??= draft(() => this.draftAhead(lane, wanted, batchId)));
        outcomes.push(await this.classed(lane, batchId, () => this.advance(batchId, meanwhile)));
      } else outcomes.push(next);
      const drafted = await ahead;
      if (isOpen(outcomes[outcomes.length - 1])) return outcomes;
      next = typeof drafted === "string" ? drafted : await draftNext();
    }
    return outcomes;
  }

  /**
   * Drafts as much of the wanted epoch as one batch holds, and gives its id; or voids what none can hold; null if nothing is left
   * of it.
   */
  private async draftNext(lane: Lane, wanted: Epoch): Promise<string | SettlementOutcome | null> {
    const { chain } = this.deps;
    const now = await chain.now();
    const last = await chain.lane(lane.operatorId, lane.planId, lane.versionId);
    const usable = await this.usableSpan(lane, wanted);
    if (now >= wanted.epochEnd) await this.awaitProofs(lane, usable, now);
    const part = await this.nextPart(lane, usable, last);
    if (part === null) return this.abandonRecalled(lane, usable, wanted);
    if (now < wanted.epochEnd) throw new NotYet(`The epoch ends at ${wanted.epochEnd} and hasn't yet`);

    const { epoch, receipts } = part;
    if (this.isTooLateAt(now, epoch)) return this.abandonReceipts(lane, upTo(epoch.epochEnd), windowIsOver(epoch));
    if (receipts.length === 0) {
      const reason = `What is left before ${epoch.epochEnd} came before the lane's last epoch, or is too much for a batch`;
      return this.abandonReceipts(lane, upTo(epoch.epochEnd), reason);
    }
    const tooDear = await this.abandonDear(lane, part, now);
    if (tooDear !== null) return tooDear;
    return this.draft(lane, last, part);
  }

  /** @throws NotYet while receipts of an epoch or earlier, whose plan demands proofs, may still be proven */
  private async awaitProofs(lane: Lane, { epochEnd }: Epoch, now: number): Promise<void> {
    const awaited = (await this.deps.proofs?.waitsFor(lane, epochEnd, now)) ?? null;
    if (awaited !== null) throw new NotYet(awaited);
  }

  /**
   * Drafts a further part of a batch's epoch while that batch is on its way; null if it is better waited for. Of another epoch
   * nothing is drafted: should the batch fall through, its receipts could come into no later one.
   */
  private async draftAhead(lane: Lane, wanted: Epoch, batchId: string): Promise<string | null> {
    const { header } = await this.load(batchId);
    const usable = await this.usableSpan(lane, wanted);
    const part = await this.nextPart(lane, usable, header);
    if (part === null || part.receipts.length === 0 || !isSameEpoch(part.epoch, header)) return null;
    const { economy } = this.config;
    const now = await this.deps.chain.now();
    if (economy !== undefined && (await this.judge(lane, part, now, economy)).verdict !== "now") return null;
    return this.draft(lane, header, part, batchId);
  }

  /**
   * Gives a part up that costs more than it brings, once later ones wait for it; null if it is worth its gas.
   * @throws TooDear if gas may still become cheap enough
   */
  private async abandonDear(lane: Lane, part: Part, now: number): Promise<SettlementOutcome | null> {
    const { economy } = this.config;
    if (economy === undefined) return null;
    const { log } = this.deps;
    const { epoch } = part;
    const { bargain, verdict } = await this.judge(lane, part, now, economy);
    const key = JSON.stringify({ ...lane, ...epoch }, (_name, value) =>
      typeof value === "bigint" ? `${value}` : value,
    );
    const reason = `Settling the epoch that ended at ${epoch.epochEnd} brings ${bargain.value} and costs ${bargain.cost} units`;
    if (verdict === "wait") {
      if (!this.dear.has(key)) log.info("Batch waits for cheaper gas", { lane, ...epoch, ...bargain });
      this.dear.set(key, bargain.value);
      throw new TooDear(reason);
    }
    this.dear.delete(key);
    if (verdict === "now") return null;
    this.givenUp += bargain.value;
    return this.abandonReceipts(lane, upTo(epoch.epochEnd), reason);
  }

  /** What settling a part brings and costs, and whether it is worth it. */
  private async judge(lane: Lane, part: Part, now: number, economy: EconomyConfig) {
    const { chain, store } = this.deps;
    const { epochEnd } = part.epoch;
    const bargain = await this.bargainOf(lane, part, economy);
    const newest = epochAt(now, this.config.epochSeconds ?? chain.epochPeriod).epochStart;
    const isWaitedFor = (await store.unbatched.count(lane, { epochStart: epochEnd, epochEnd: newest })) > 0;
    const times = { now, windowPeriod: chain.windowPeriod, isWaitedFor };
    return { bargain, verdict: verdictOf(bargain, economy, part.epoch, times) };
  }

  private async bargainOf({ planId }: Lane, { receipts }: Part, economy: EconomyConfig): Promise<Bargain> {
    const { chain, escrow } = this.deps;
    const plan = await chain.plan(planId);
    if (plan === null) throw new NotYet(`Plan ${planId} doesn't exist on this chain`);
    const [shareBps, price, decimals] = await Promise.all([
      escrow.operatorShareBps(planId),
      escrow.gasPrice(),
      escrow.decimals(),
    ]);
    const charge = costOf(sumUsage(receipts.map(({ receipt }) => receipt)), plan.rates);
    const licenses = new Set(receipts.map(({ receipt }) => receipt.licenseId)).size;
    return {
      value: (charge * BigInt(shareBps)) / 10_000n,
      cost: inCurrency(settlementGas(licenses) * price, economy, decimals),
    };
  }

  /** What of an epoch may still be charged: no epoch may end after a recall of its version, so that it ends with it. */
  private async usableSpan({ versionId }: Lane, { epochStart, epochEnd }: Epoch): Promise<Epoch> {
    const version = await this.deps.chain.version(versionId);
    if (version === null) throw new NotYet(`Version ${versionId} doesn't exist on this chain`);
    return { epochStart, epochEnd: Math.min(epochEnd, Math.max(epochStart, version.usableUntil)) };
  }

  /** Receipts of an epoch that came after its version was recalled; null if there are none. */
  private async abandonRecalled(lane: Lane, usable: Epoch, { epochEnd }: Epoch): Promise<SettlementOutcome | null> {
    const recalled = { epochStart: usable.epochEnd, epochEnd };
    if ((await this.deps.store.unbatched.count(lane, recalled)) === 0) return null;
    const reason = `Version ${lane.versionId} was recalled; what came from ${recalled.epochStart} on can't be charged`;
    return this.abandonReceipts(lane, recalled, reason);
  }

  /** What the lane's next batch is of, as far as is known now; null if nothing is left of the wanted epoch. */
  private async nextPart(lane: Lane, wanted: Epoch, last: LaneState): Promise<Part | null> {
    const { store } = this.deps;
    const totals = await store.unbatched.totals(lane, wanted);
    if (totals === null) return null;
    if (totals !== "unknown" && this.refused.size === 0) {
      const whole = wholeEpoch(totals.licenses, totals.oldestFinishedAt, wanted, last, this.limits);
      if (whole !== null) return this.wholePart(lane, whole, wanted, totals);
    }
    const upTo = await store.receipts.lastPosition();
    const left = await store.unbatched.receipts(lane, wanted);
    const epoch = nextEpoch(left, wanted, last, this.limits);
    if (epoch.epochStart < wanted.epochStart || epoch.epochEnd > wanted.epochEnd) {
      return this.partOf(await store.unbatched.receipts(lane, epoch), epoch, { span: epoch, upTo });
    }
    const inEpoch = left.filter(({ receipt }) => isWithin(epoch, receipt.finishedAt));
    return this.partOf(inEpoch, epoch, { span: wanted, upTo });
  }

  /** A part of an epoch in which every license fits: of a million receipts, only the part's own are read. */
  private async wholePart(lane: Lane, epoch: Epoch, span: Epoch, { licenses, upTo }: UnbatchedTotals): Promise<Part> {
    const inPart = firstLicenses(licenses, this.limits);
    const receipts = await this.deps.store.unbatched.ofLicenses(lane, span, inPart);
    return { epoch, receipts, stored: { span, licenses: inPart, count: receipts.length }, looked: { span, upTo } };
  }

  private partOf(receipts: StoredReceipt[], epoch: Epoch, looked: Part["looked"]): Part {
    const inPart = this.chosenOf(receipts);
    return { epoch, receipts: inPart.map(counted), stored: inPart.map(({ hash }) => hash), looked };
  }

  /** Of receipts that members refused, only where there are no others, and only those that the same members refused. */
  private chosenOf(receipts: StoredReceipt[]): StoredReceipt[] {
    const refusersOf = ({ hash }: StoredReceipt) => this.refused.get(hash)?.by ?? "";
    const [first] = receipts.map(refusersOf).sort();
    const part = firstPart(
      receipts.filter((receipt) => refusersOf(receipt) === first),
      this.limits,
    );
    return part.length > 0 ? part : firstPart(receipts, this.limits);
  }

  /** Tells failures apart by what is to be done about them, and logs them. */
  private async classed<T>(lane: Lane, batchId: string | null, work: () => Promise<T>): Promise<T | SettlementOutcome> {
    try {
      return await work();
    } catch (cause) {
      const reason = cause instanceof Error ? cause.message : String(cause);
      const status = cause instanceof ChainRefusal ? "refused" : "retry";
      if (cause instanceof TooDear) return { lane, batchId, status, reason };
      this.deps.log.warn(status === "refused" ? "Chain refused the batch" : "Batch has to wait", {
        lane,
        batchId,
        cause,
      });
      return { lane, batchId, status, reason };
    }
  }

  // Drafting

  /**
   * Stores a part as the lane's next batch.
   * @param before the batch before it, where that is still on its way
   */
  private async draft(
    lane: Lane,
    last: LaneState,
    { epoch, receipts, stored, looked }: Part,
    before?: string,
  ): Promise<string> {
    const { chain, store, log } = this.deps;
    await this.requireProposalKey(lane);
    const measurements = await this.measure(lane, epoch);
    const operator = await chain.operator(lane.operatorId);
    if (operator === null) throw new NotYet(`Operator ${lane.operatorId} doesn't exist on this chain`);

    const { summary, entries } = summarize(receipts);
    const level = medianOf(measurements.map(({ measurement }) => measurement));
    const header = headerOf(lane, epoch, await nextSequence(last, store, lane), summary, level, operator.evidenceHash);
    const batchId = batchDigest(chain.domain, header);
    await store.batches.saveDraft(batchId, header, entries, measurements, stored, looked, before);
    log.info("Batch drafted", { batchId, header });
    // What can't be read now is read when it is asked for.
    this.drafted = await this.namedIn(batchId, receipts).catch(() => null);
    return batchId;
  }

  private async namedIn(batchId: string, chosen: ChosenReceipt[]): Promise<NamedInBatch> {
    const receipts = chosen.map(({ receipt: { licenseId, sequence }, hash }) => ({ licenseId, sequence, hash }));
    const leaves = Buffer.concat(chosen.map(({ leaf }) => leaf));
    return { batchId, receipts, leaves, grants: await this.deps.store.grants.ofBatch(batchId) };
  }

  /** Attestors look at no batch that another proposes, and a draft that they refuse uses a number up. */
  private async requireProposalKey({ operatorId }: Lane): Promise<void> {
    const { chain } = this.deps;
    const key = this.config.proposer.address;
    if (await chain.isSigningKey(operatorId, key, await chain.now())) return;
    throw new NotYet(
      `${key} is no signing key of operator ${operatorId}: register another, and have the settler use it`,
    );
  }

  /** By members of as much weight as must sign, of the first committee of which as much answers. */
  private async measure(lane: Lane, epoch: Epoch): Promise<SignedMeasurement[]> {
    const problems: string[] = [];
    for (const committee of await this.committeesFor(epoch)) {
      const measurements = await this.attestors.measure(lane, epoch, committee);
      const weight = weightOf(committee, this.attestors.signersOf(measurements));
      if (weight >= committee.threshold) return measurements;
      const listed = this.attestors.membersOf(committee).length;
      problems.push(
        `${measurements.length} of the ${listed} attestors that are listed measured: a weight of ${weight}, ` +
          `and ${committee.threshold} is needed`,
      );
    }
    throw new NotYet(problems.join("; of the next committee, "));
  }

  /**
   * Who can vouch for an epoch. After a rotation, those who measured while it ran come first: their signatures count for as
   * long as its window is open.
   */
  private async committeesFor({ epochEnd }: Epoch): Promise<Committee[]> {
    const { present, former } = await this.deps.chain.committees(this.config.committee);
    return former !== null && epochEnd <= present.since ? [former, present] : [present];
  }

  // Advancing

  /**
   * Takes a batch as far as it gets.
   * @param meanwhile is called once attestors have been asked for it
   */
  private async advance(batchId: string, meanwhile?: () => void): Promise<SettlementOutcome> {
    const { state, header } = await this.load(batchId);
    if (state === "drafted") {
      if (await this.isTooLate(header)) return this.abandon(batchId);
      await this.attesting(() => this.attest(batchId, meanwhile));
    }
    return this.submit(batchId);
  }

  /** Gathers a committee's signatures. A draft that can't get enough any more is taken back. */
  private async attest(batchId: string, meanwhile?: () => void): Promise<void> {
    const { chain, store, log } = this.deps;
    const request = await this.attestationRequest(batchId);
    const committee = await this.committeeOf(request);
    if (committee === null) {
      await store.batches.discardDraft(batchId);
      throw new NotYet("The committee that measured for the draft isn't in force any more: it was taken back");
    }
    const before = await store.batches.signatures(batchId);
    const answering = this.attestors.attest(
      request,
      committee,
      (hashes) => store.receipts.records(hashes),
      before,
      await this.proofsOf(request),
    );
    meanwhile?.();
    const answer = await answering;
    const { signed, refused } = answer;
    await store.batches.saveSignatures(batchId, signed);
    const weight = weightOf(
      committee,
      signed.map(({ signer }) => signer),
    );
    if (weight >= committee.threshold) return this.prove(batchId, committee, signed);

    for (const refusal of refused) {
      log.warn("Attestor refused the batch", { batchId, ...refusal });
      this.deps.proofs?.noteRefused(refusal);
    }
    if (this.isLost(batchId, answer, committee)) await this.takeBack(batchId, answer, committee, await chain.now());
    throw new NotYet(
      `${signed.length} attestors signed and ${refused.length} refused: a weight of ${weight} signed, ` +
        `and ${committee.threshold} is needed`,
    );
  }

  /** Shows an attestor the proofs of a batch's receipts; undefined where its plan demands none. */
  private async proofsOf({ header, receipts }: AttestationRequest) {
    const { proofs } = this.deps;
    if (proofs === undefined || !(await proofs.demandsProofs(header))) return undefined;
    const hashes = receipts.map(({ hash }) => hash);
    return (attestor: AttestorEndpoint, signal: AbortSignal) => proofs.showTo(attestor, hashes, signal);
  }

  private async prove(batchId: string, { address }: Committee, signed: Attestation[]): Promise<void> {
    const { escrow, store, log } = this.deps;
    const proof = committeeProof(signed);
    if (!(await escrow.vouches(address, batchId, proof))) {
      throw new NotYet(`The committee ${address} doesn't take the signatures of ${signed.length} attestors`);
    }
    await store.batches.markAttested(batchId, proof);
    log.info("Batch attested", { batchId, signers: signed.map(({ signer }) => signer) });
  }

  /**
   * Whether a draft gets no quorum and another might. Who signed it, or may have, signs no other while it may still settle:
   * without those who refuse it being enough themselves, another would fare no better.
   */
  private isLost(batchId: string, { signed, refused, possible }: CommitteeAnswer, committee: Committee): boolean {
    if (possible >= committee.threshold) return false;
    if (possible === 0) return true;
    const tries = (this.tries.get(batchId) ?? 0) + 1;
    this.tries.set(batchId, tries);
    const refusers = refused.map(({ attestor }) => attestor);
    return tries >= MOST_TRIES && (signed.length === 0 || weightOf(committee, refusers) >= committee.threshold);
  }

  /** Whose members measured for a draft; null if that is none whose signatures count. */
  private async committeeOf({ measurements, header }: AttestationRequest): Promise<Committee | null> {
    const signers = this.attestors.signersOf(measurements);
    const committees = await this.committeesFor(header);
    return committees.find(({ members }) => signers.every((signer) => members.includes(signer))) ?? null;
  }

  private async attestationRequest(batchId: string): Promise<AttestationRequest> {
    const { header, measurements } = await this.load(batchId);
    const { drafted } = this;
    const named = drafted?.batchId === batchId ? drafted : await this.readNamed(batchId);
    // It is big, and isn't needed again.
    if (this.drafted === named) this.drafted = null;
    const proposal = await this.config.proposer.sign(proposalToSign(this.deps.chain.domain, { batchId }));
    return { header, measurements, proposal, receipts: named.receipts, leaves: named.leaves, grants: named.grants };
  }

  /** What a batch's request names: most of it. */
  private async readNamed(batchId: string): Promise<NamedInBatch> {
    const { store } = this.deps;
    const [named, grants] = await Promise.all([store.receipts.namesIn(batchId), store.grants.ofBatch(batchId)]);
    return { batchId, ...named, grants };
  }

  /**
   * Its receipts are free for another draft, of which those that a member refused are left out. What so many refuse for long
   * that no batch with it gets through is void. Where one found the draft too large to read, later ones are half as large.
   */
  private async takeBack(
    batchId: string,
    { refused, spare }: CommitteeAnswer,
    committee: Committee,
    now: number,
  ): Promise<void> {
    const { store, log } = this.deps;
    const hopeless: string[] = [];
    const refusedBy = refused.map(({ attestor, receipts }) => ({ attestor, hashes: new Set(receipts) }));
    for (const hash of await store.receipts.hashesIn(batchId)) {
      const refusers = refusedBy.filter(({ hashes }) => hashes.has(hash)).map(({ attestor }) => attestor);
      if (refusers.length === 0) continue;
      const { since, times } = this.refused.get(hash) ?? { since: now, times: 0 };
      this.refused.set(hash, { since, times: times + 1, by: refusers.sort().join() });
      const isForLong = times + 1 >= MOST_TRIES && now >= since + REFUSAL_PERIOD;
      if (weightOf(committee, refusers) > spare && isForLong) hopeless.push(hash);
    }
    if (refused.some(({ isTooLarge }) => isTooLarge))
      this.limits.receipts = half((await this.load(batchId)).header.count);
    await store.batches.discardDraft(batchId, hopeless);
    hopeless.forEach((hash) => this.refused.delete(hash));
    this.tries.delete(batchId);
    log.warn("Draft taken back", { batchId, voidReceipts: hopeless });
  }

  /** Sends the transaction and waits until it is final. Where its nonce is gone and the batch isn't settled, it is sent anew. */
  private async submit(batchId: string): Promise<SettlementOutcome> {
    const { escrow, sender, store, log } = this.deps;
    const purpose = purposeOf(batchId);
    for (let attempt = 0; attempt < MOST_ATTEMPTS; attempt++) {
      if (await escrow.isSettled(batchId, "final")) return this.finish(batchId);
      const { header } = await this.load(batchId);
      if ((await this.isTooLate(header)) && !(await escrow.isSettled(batchId, "latest"))) return this.abandon(batchId);

      const nonce = await sender.submit(purpose, () => this.settlementOf(batchId));
      await store.batches.markSubmitted(batchId);
      log.info("Batch submitted", { batchId, nonce });
      const { fate, hash } = await sender.follow(purpose, nonce);
      if (fate === "confirmed") return this.finish(batchId);
      log.warn("Settlement transaction failed", { batchId, hash, fate });
    }
    throw new NotYet(`${MOST_ATTEMPTS} transactions failed`);
  }

  private async settlementOf(batchId: string): Promise<Call> {
    const { escrow, store } = this.deps;
    const { header, entries, proof } = await this.load(batchId);
    if (proof === null) throw new Error(`Batch ${batchId} has no proof: it was never attested`);
    if (!(await escrow.vouches(this.config.committee, batchId, proof))) {
      await store.batches.markUnproven(batchId);
      throw new NotYet(
        `The committee ${this.config.committee} doesn't take the batch's proof any more: it needs another`,
      );
    }
    this.warnOfUncharged(batchId, await escrow.preview(header, entries));
    return escrow.settlement(header, entries, proof);
  }

  private warnOfUncharged(batchId: string, outcomes: Outcome[]): void {
    const uncharged = outcomes.filter(({ status }) => status !== "Charged");
    if (uncharged.length === 0) return;
    this.deps.log.warn("Entries aren't charged in full", { batchId, entries: uncharged.slice(0, MOST_LISTED) });
  }

  // Endings

  private async finish(batchId: string): Promise<SettlementOutcome> {
    const { header } = await this.load(batchId);
    await this.deps.store.batches.markSettled(batchId);
    await this.forget(batchId);
    this.deps.log.info("Batch settled", { batchId });
    return { lane: laneOf(header), batchId, status: "settled", reason: null };
  }

  private async abandon(batchId: string): Promise<SettlementOutcome> {
    const { header } = await this.load(batchId);
    await this.deps.sender.cancel(purposeOf(batchId));
    const reason = windowIsOver(header);
    await this.deps.store.batches.markExpired(batchId);
    await this.forget(batchId);
    this.deps.log.error("Batch abandoned", { batchId, receipts: header.count, reason });
    return { lane: laneOf(header), batchId, status: "abandoned", reason };
  }

  private async forget(batchId: string): Promise<void> {
    this.tries.delete(batchId);
    if (this.refused.size === 0) return;
    for (const hash of await this.deps.store.receipts.hashesIn(batchId)) this.refused.delete(hash);
  }

  private async abandonReceipts(lane: Lane, span: Epoch, reason: string): Promise<SettlementOutcome> {
    const receipts = await this.deps.store.unbatched.void(lane, span);
    this.deps.log.error("Receipts abandoned", { lane, ...span, receipts, reason });
    return { lane, batchId: null, status: "abandoned", reason };
  }

  private async isTooLate(epoch: Epoch): Promise<boolean> {
    return this.isTooLateAt(await this.deps.chain.now(), epoch);
  }

  private isTooLateAt(now: number, { epochEnd }: Epoch): boolean {
    return now > epochEnd + this.deps.chain.windowPeriod;
  }

  private async load(batchId: string): Promise<StoredBatch> {
    const batch = await this.deps.store.batches.find(batchId);
    if (batch === null) throw new Error(`The store lacks batch ${batchId}`);
    return batch;
  }
}

const PURPOSE = "settlement of batch ";

/** What a batch's transaction is for, as its sender knows it. */
function purposeOf(batchId: string): string {
  return PURPOSE + batchId;
}

function batchOfPurpose(purpose: string): string | null {
  return purpose.startsWith(PURPOSE) ? purpose.slice(PURPOSE.length) : null;
}

function byLane(batches: StoredBatch[]): StoredBatch[][] {
  const lanes = new Map<string, StoredBatch[]>();
  for (const batch of batches) {
    const { operatorId, planId, versionId } = batch.header;
    const key = `${operatorId} ${planId} ${versionId}`;
    lanes.set(key, [...(lanes.get(key) ?? []), batch]);
  }
  return [...lanes.values()];
}

/** Half of a count, and at least one. */
function half(count: bigint): number {
  return Math.max(1, Number(count / 2n));
}

/** All time before a moment. */
function upTo(epochEnd: number): Epoch {
  return { epochStart: 0, epochEnd };
}

function windowIsOver({ epochEnd }: Epoch): string {
  return `The window of the epoch that ended at ${epochEnd} is over`;
}

/** Above the lane's last batch on the chain, and above any that was drafted here and never settled. */
async function nextSequence(last: LaneState, store: Store, lane: Lane): Promise<bigint> {
  const drafted = await store.batches.lastSequence(lane);
  return (drafted > last.sequence ? drafted : last.sequence) + 1n;
}

function isSameEpoch(a: Epoch, b: Epoch): boolean {
  return a.epochStart === b.epochStart && a.epochEnd === b.epochEnd;
}

function laneOf({ operatorId, planId, versionId }: Lane): Lane {
  return { operatorId, planId, versionId };
}

/** Whether the lane's next batch has to wait for this one. */
function isOpen({ status }: SettlementOutcome): boolean {
  return status === "retry" || status === "refused";
}
