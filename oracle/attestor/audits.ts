/**
 * An attestor's looks at disclosed requests: it picks some of those whose receipts say that they may be seen, by chance that nobody else
 * knows, has their operator show them, and counts or answers them again. Those of undisclosed requests are never asked for.
 */
import { createHmac } from "node:crypto";
import { setTimeout as wait } from "node:timers/promises";
import type { Chain } from "../chain/chain";
import { disclosureToSign, type DigestSigner } from "../keys/digestSigner";
import type { Log } from "../log";
import { reasonOf, shown } from "../problem";
import { isSameLane } from "../protocol/lanes";
import { disclosedFromText, DISCLOSURE_HEADER, DISCLOSURES_PATH, disclosureToText } from "../protocol/disclosure";
import { decodeReceipt, flagsIn, subjectOf } from "../protocol/receiptBytes";
import { ReceiptFlag, type Lane, type Receipt } from "../protocol/types";
import type { DueAudit } from "../store/disclosureBooks";
import type { Turn } from "../store/leases";
import type { Store } from "../store/store";
import type { Copy } from "../store/copyRows";
import { auditOf, type Finding, type Means } from "./audit";
import type { BatchFacts } from "./batchFacts";
import type { Refusal } from "./inspection";
import { textOf } from "./reading";

/** How a lane's disclosed requests are looked at. */
export interface AuditedLane extends Means {
  lane: Lane;
  gatewayUrl: string;
  /** How many of a hundred are. */
  percent: number;
  /** Before as many were, they say nothing. */
  leastSamples: number;
  /** Of a hundred that were looked at, as many may disagree: chance, other hardware. */
  mostDisagreeing: number;
}

export interface AuditsDeps {
  chain: Pick<Chain, "domain" | "now" | "epochPeriod" | "windowPeriod" | "version">;
  store: Pick<Store, "disclosures">;
  signer: DigestSigner;
  log: Log;
  /** Where several processes attest for one key: only who has it looks. */
  turn?: Turn;
  /** 32 random bytes that nobody else knows. */
  secret: Uint8Array;
}

/** An operator whose requests come faster than they can be looked at has fewer looked at. */
const MOST_DUE = 1_000;
const MOST_TRIES = 5;
const AT_ONCE = 8;
/** Operators keep bodies for an hour at least: later, that they show nothing says nothing, in seconds. */
const MOST_AGE = 3_600;
const POLL_MS = 5_000;
const TIMEOUT_MS = 30_000;
/** Base64 of two bodies, and a grant. */
const MOST_BYTES = 4 * 2 ** 20;
/** How many verdicts a batch is judged by. */
const MOST_VERDICTS = 1_000;

export class Audits {
  constructor(
    private readonly lanes: readonly AuditedLane[],
    private readonly deps: AuditsDeps,
  ) {}

  /** Picks from receipts that are new. It says itself what fails. */
  async note(copies: readonly Copy[]): Promise<void> {
    const { store, log } = this.deps;
    const picked = copies.filter((copy) => this.isPicked(copy));
    if (picked.length === 0) return;
    try {
      await store.disclosures.note(picked.map(auditedReceipt), MOST_DUE);
    } catch (cause) {
      log.warn("Receipts to look at can't be noted", { receipts: picked.length, cause });
    }
  }

  /** Looks until the signal aborts. */
  async run(signal: AbortSignal): Promise<void> {
    const { turn } = this.deps;
    while (!signal.aborted && this.lanes.length > 0) {
      const round = turn === undefined || turn.isMine ? this.lookRound() : Promise.resolve(0);
      const looked = await round.catch((cause) => {
        this.deps.log.warn("Disclosed requests can't be looked at", { cause });
        return 0;
      });
      if (looked < AT_ONCE) await wait(POLL_MS, undefined, { signal }).catch(() => undefined);
    }
  }

  /** Looks at some that wait, and gives how many. @throws if the store or the chain can't be read */
  async lookRound(): Promise<number> {
    const { chain, store } = this.deps;
    await store.disclosures.dropAudits((await chain.now()) - 2 * (chain.epochPeriod + chain.windowPeriod));
    const due = await store.disclosures.due(AT_ONCE);
    await Promise.all(due.map((one) => this.look(one)));
    return due.length;
  }

  /** Whether too many of the lane's requests, in the longest epoch that ends with the batch's, aren't as their receipts say. */
  async refusals({ header, version }: Pick<BatchFacts, "header" | "version">): Promise<Refusal[]> {
    const audited = this.lanes.find(({ lane }) => isSameLane(lane, header));
    if (audited === undefined || version === null) return [];
    const { operatorId, planId, epochEnd } = header;
    const { manifestHash } = version;
    const span = { operatorId, planId, manifestHash, from: epochEnd - this.deps.chain.epochPeriod, until: epochEnd };
    const found = await this.deps.store.disclosures.verdicts(span, MOST_VERDICTS);
    const wrong = found.filter(({ verdict }) => verdict === "disagree");
    const { leastSamples, mostDisagreeing } = audited;
    if (found.length < leastSamples || 100 * wrong.length <= mostDisagreeing * found.length) return [];
    const reason =
      `Of ${found.length} disclosed requests that were looked at, ${wrong.length} aren't as their receipts say; ` +
      `${mostDisagreeing} % may be. The last: ${wrong[0].reason}`;
    return [{ reason, receiptHash: null }];
  }

  private isPicked({ hash, record }: Copy): boolean {
    if ((flagsIn(record) & ReceiptFlag.disclosed) === 0) return false;
    const { operatorId, planId } = subjectOf(record);
    const audited = this.lanes.find(({ lane }) => lane.operatorId === operatorId && lane.planId === planId);
    if (audited === undefined) return false;
    const chance = createHmac("sha256", this.deps.secret).update(hash).digest().readUInt32BE(0) / 2 ** 32;
    return 100 * chance < audited.percent;
  }

  private async look(due: DueAudit): Promise<void> {
    const { store, log } = this.deps;
    const { receipt } = decodeReceipt(due.record);
    const name = `Receipt ${receipt.sequence} of license ${receipt.licenseId}`;
    try {
      const { verdict, reason } = await this.findingOf(receipt);
      await store.disclosures.judge({ hash: due.hash, verdict, reason: reason && `${name} ${reason}` });
      if (verdict === "disagree")
        log.warn("Disclosed request isn't as its receipt says", { receipt: due.hash, reason });
    } catch (cause) {
      const verdict = due.tries + 1 < MOST_TRIES ? "due" : "unknown";
      await store.disclosures.judge({
        hash: due.hash,
        verdict,
        reason: `${name} wasn't looked at: ${reasonOf(cause)}`,
      });
    }
  }

  private async findingOf(receipt: Receipt): Promise<Finding> {
    const { chain } = this.deps;
    const audited = await this.laneOf(receipt);
    if (audited === undefined) return { verdict: "unknown", reason: "is of a version that isn't looked at" };
    const age = (await chain.now()) - receipt.finishedAt;
    if (age > MOST_AGE) return { verdict: "unknown", reason: `is ${age} s old: nobody need keep its request any more` };
    const answer = await this.ask(audited, receipt);
    if (answer.status === 404) {
      return {
        verdict: "disagree",
        reason: "says that its request is disclosed, and its operator shows nothing of it",
      };
    }
    const text = await textOf(answer, MOST_BYTES);
    if (!answer.ok) throw new Error(`${audited.gatewayUrl} answered ${answer.status}: ${shown(text)}`);
    return auditOf(chain.domain, receipt, disclosedFromText(text), audited);
  }

  private async laneOf({ operatorId, planId, manifestHash }: Receipt): Promise<AuditedLane | undefined> {
    for (const audited of this.lanes) {
      const { lane } = audited;
      if (lane.operatorId !== operatorId || lane.planId !== planId) continue;
      if ((await this.deps.chain.version(lane.versionId))?.manifestHash === manifestHash) return audited;
    }
    return undefined;
  }

  private async ask({ gatewayUrl }: AuditedLane, { operatorId, requestId }: Receipt): Promise<Response> {
    const { chain, signer } = this.deps;
    const disclosure = { operatorId, requestId, at: await chain.now() };
    const signature = await signer.sign(disclosureToSign(chain.domain, disclosure));
    return fetch(`${gatewayUrl}${DISCLOSURES_PATH}/${requestId}`, {
      headers: { [DISCLOSURE_HEADER]: disclosureToText({ disclosure, signature }) },
      redirect: "error",
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
  }
}

function auditedReceipt({ hash, record }: Copy) {
  const { operatorId, planId, manifestHash, finishedAt } = decodeReceipt(record).receipt;
  return { hash: `0x${Buffer.from(hash).toString("hex")}`, operatorId, planId, manifestHash, finishedAt, record };
}
