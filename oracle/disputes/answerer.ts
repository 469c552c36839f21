/**
 * Answers challenges of an operator's charges, so that none is lost while nobody looks. What is to be done stands on the chain, and
 * each step is a purpose of the account's sender, which serves it once: it can die anywhere, and go on from there.
 *
 *   open ── a receipt is doubted whose version names a verifier ──> proven: it is decided
 *      └─── else, if its own records have what was charged ──> requests shown, where that is demanded ──> answered
 *   answered ── nobody escalates in time ──> closed           escalated ── if the fee isn't too much ──> paid: disputed
 *   disputed ── the challenger appeals ──> its part is paid, too      └── the arbitrator is silent ──> closed
 *
 * What its records don't support, it doesn't answer: who does stands by the charge, with stake. One challenge never waits for
 * another: proofs are made meanwhile.
 */
import { hexlify } from "ethers";
import type { Chain } from "../chain/chain";
import { readEach } from "../chain/parallel";
import type { Log } from "../log";
import { dateOf, reasonOf } from "../problem";
import { sameUsage, sumUsage, zeroUsage } from "../protocol/meters";
import { type Call, CallTooLarge, ChainRefusal, type Sender, SenderBusy } from "../settler/sender";
import type { Store } from "../store/store";
import type { StoredReceipt } from "../store/receiptRows";
import type { Challenge, Court, Inference, ShownRequest } from "./court";
import { referenceTo } from "./reference";
import type { ReceiptProver } from "./receiptProver";
import { isDecided, isOperatorsTurn, turnOf } from "./turn";

export interface AnswererConfig {
  /** The account that sends. */
  account: string;
  /** The operator whose charges it answers for; others, too, whose batches the store has. */
  operatorId?: number;
  /** The most that is paid for one dispute or appeal, in wei. */
  maxFee: bigint;
  /** By version. */
  provers: ReadonlyMap<bigint, ReceiptProver>;
}

export interface AnswererDeps {
  chain: Pick<Chain, "now">;
  court: Court;
  store: Store;
  sender: Pick<Sender, "submit">;
  log: Log;
}

const OPEN_STATES = ["Open", "Answered", "Escalated", "Disputed"] as const;

/** What challenges there are of own charges. */
export interface DisputeFigures {
  open: Record<(typeof OPEN_STATES)[number], number>;
  /** Those that it can't answer at the moment. */
  failing: number;
  /** Those that are soon lost, as what it can do about them fails, or isn't mined. */
  endangered: number;
  /** The first that is to come by which the operator must do something, Unix seconds; null if there is none. */
  deadline: number | null;
}

/** So many requests are shown in a transaction, and fewer where signatures of contracts are long, or take much gas. */
const REQUESTS_AT_ONCE = 50;
/** When what failed is tried again, in seconds; what was sent and isn't mined by then is late. */
const RETRY_SECONDS = 300;
/** So long before its deadline a challenge whose answer fails or is late is told as one that is about to be lost, in seconds. */
const NEAR_SECONDS = 6 * 3_600;

/** How much of what was told is remembered. */
const MOST_TOLD = 10_000;

/** What a line of the log says, and by what it is told from others. */
interface Told {
  challengeId: bigint;
  step?: string;
  cause?: unknown;
  [field: string]: unknown;
}

/** It won't become better by itself: the message says what an engineer must do. */
class Indefensible extends Error {}

export class Answerer {
  /** Of those above what the store calls over, which are. */
  private readonly over = new Set<bigint>();
  private live: Challenge[] = [];
  /** Of the last round, Unix seconds. */
  private now = 0;
  /** Nothing helps them any more. */
  private readonly lost = new Set<bigint>();
  /** What was begun last for a challenge, and since when, Unix seconds. */
  private readonly begun = new Map<bigint, { step: string; since: number }>();
  /** Which challenges failed, and when they are tried again, Unix seconds. */
  private readonly later = new Map<bigint, number>();
  /** Why. */
  private readonly failures = new Map<bigint, Error>();
  /** What was told, so that it is told once. */
  private readonly told = new Set<string>();
  /** By the receipts that they are of. */
  private readonly proofs = new Map<string, string>();
  /** Of which receipts the court has refused one. */
  private readonly refusedProofs = new Set<string>();
  /** Those that are being made. */
  private readonly proving = new Map<string, Promise<void>>();

  constructor(
    private readonly deps: AnswererDeps,
    private readonly config: AnswererConfig,
  ) {}

  figures(): DisputeFigures {
    const open = OPEN_STATES.map((state) => [state, this.live.filter(({ status }) => status === state).length]);
    const deadlines = this.live.filter((one) => this.isDue(one)).map(({ deadline }) => deadline);
    return {
      open: Object.fromEntries(open) as DisputeFigures["open"],
      failing: this.live.filter(({ challengeId }) => this.failures.has(challengeId)).length,
      endangered: this.live.filter((one) => this.isEndangered(one)).length,
      deadline: deadlines.length === 0 ? null : Math.min(...deadlines),
    };
  }

  /**
   * Does what is due for each challenge, and begins proofs. Made to be called again and again.
   * @throws if not even the number of challenges can be read
   */
  async answerDue(): Promise<void> {
    this.now = await this.deps.chain.now();
    this.live = await this.look();
    for (const challenge of this.live.filter((one) => !isDecided(one))) {
      if ((this.later.get(challenge.challengeId) ?? 0) <= this.now) await this.attempt(challenge);
      if (this.isEndangered(challenge)) this.warn(challenge);
    }
  }

  /** Waits until no proof is being made any more, and all are sent. */
  async idle(): Promise<void> {
    await Promise.all(this.proving.values());
  }

  /** Whether it is lost unless the operator does something. */
  private isDue(challenge: Challenge): boolean {
    return isOperatorsTurn(challenge) && !this.lost.has(challenge.challengeId) && challenge.deadline >= this.now;
  }

  private isEndangered(challenge: Challenge): boolean {
    const { challengeId, deadline } = challenge;
    if (!this.isDue(challenge) || deadline - this.now > NEAR_SECONDS) return false;
    const begun = this.begun.get(challengeId);
    const isLate = begun !== undefined && this.now - begun.since >= RETRY_SECONDS;
    return this.failures.has(challengeId) || isLate;
  }

  private warn({ challengeId, licenseId, deadline }: Challenge): void {
    const begun = this.begun.get(challengeId);
    const cause =
      this.failures.get(challengeId) ??
      (begun && new Error(`"${begun.step}" was begun at ${dateOf(begun.since)}, and isn't mined yet`));
    this.tell("error", "Challenge is about to be lost", { challengeId, licenseId, until: dateOf(deadline), cause });
  }

  /** The challenges of own charges that aren't over, the most urgent first. */
  private async look(): Promise<Challenge[]> {
    const { court, store } = this.deps;
    let upTo = await store.disputes.overUpTo();
    const before = upTo;
    const ids: bigint[] = [];
    for (let id = upTo + 1n, count = await court.count(); id <= count; id++) if (!this.over.has(id)) ids.push(id);
    const live = (await readEach(ids, (id) => this.lookAt(id))).flat();
    while (this.over.delete(upTo + 1n)) upTo++;
    if (upTo > before) await store.disputes.noteOver(upTo);
    return live.sort((a, b) => a.deadline - b.deadline);
  }

  /** None if it is over; as it was last, if it can't be read. */
  private async lookAt(challengeId: bigint): Promise<Challenge[]> {
    try {
      const challenge = await this.deps.court.challenge(challengeId, "latest");
      const isOver = !(await this.isOwn(challenge.operatorId)) || (await this.isOver(challenge));
      if (!isOver) return [challenge];
      this.over.add(challengeId);
      return [];
    } catch (cause) {
      this.tell("warn", "Challenge can't be read", { challengeId, cause });
      return this.live.filter((one) => one.challengeId === challengeId);
    }
  }

  /** Not whoever calls the account its key: anybody may, and would have it pay for disputes of its own. */
  private async isOwn(operatorId: number): Promise<boolean> {
    return operatorId === this.config.operatorId || this.deps.store.batches.hasOf(operatorId);
  }

  /** Whether it is decided, and stays so. */
  private async isOver(challenge: Challenge): Promise<boolean> {
    if (!isDecided(challenge)) return false;
    const { challengeId, licenseId, chargeId, status, bond, receiptHash } = challenge;
    const what = { challengeId, licenseId, chargeId, bond };
    this.later.delete(challengeId);
    this.failures.delete(challengeId);
    this.begun.delete(challengeId);
    if (receiptHash !== null) this.proofs.delete(receiptHash);
    if (status === "Upheld") this.tell("error", "Challenge is lost: the charge went back", what);
    else this.tell("info", "Challenge is over: the charge is let go", { ...what, status });
    return isDecided(await this.deps.court.challenge(challengeId, "final"));
  }

  /** One that fails stops no other. */
  private async attempt(challenge: Challenge): Promise<void> {
    this.later.delete(challenge.challengeId);
    this.failures.delete(challenge.challengeId);
    try {
      await this.takeTurn(challenge, this.now);
    } catch (cause) {
      this.fail(challenge, cause as Error);
    }
  }

  private fail({ challengeId, licenseId, deadline }: Challenge, cause: Error): void {
    const what = { challengeId, licenseId, until: dateOf(deadline), cause };
    // With the next round the most urgent comes first again.
    if (!(cause instanceof SenderBusy)) this.later.set(challengeId, this.now + RETRY_SECONDS);
    this.failures.set(challengeId, cause);
    if (cause instanceof Indefensible) this.tell("error", "Charge can't be defended", what);
    else this.tell("warn", "Challenge has to wait", what);
  }

  private async takeTurn(challenge: Challenge, now: number): Promise<void> {
    const { court } = this.deps;
    const { challengeId, versionId, chargeId } = challenge;
    const [inference, isReported] = await Promise.all([court.inferenceOf(versionId), court.isReported(chargeId)]);
    switch (turnOf(challenge, { now, isProvable: inference !== null, isReported })) {
      case "prove":
        return this.prove(challenge, inference!);
      case "answer":
        return this.answer(challenge, now);
      case "payFee":
        return this.payFee(challenge);
      case "follow":
        return this.follow(challenge, now);
      case "close":
        return this.submit(challenge, "end", () => court.closing(challengeId), null);
      case "lost":
        this.lost.add(challengeId);
        return this.tell("error", "Challenge can't be won any more", { challengeId, chargeId, isReported });
      case "wait":
    }
  }

  // Proofs

  private async prove(challenge: Challenge, inference: Inference): Promise<void> {
    const { challengeId } = challenge;
    const stored = await this.doubtedOf(
      challenge.receiptHash!,
      "prove the receipt by hand (npx hardhat dispute:prove)",
    );
    const proof = this.proofs.get(stored.hash) ?? (await this.keptProofOf(stored.hash));
    if (proof !== undefined) return this.submitProof(challenge, stored, proof);
    if (this.proving.has(stored.hash)) return;
    const making = await this.proofOf(challenge, stored, inference);
    this.begin(challengeId, "making of the proof");
    const ending = making()
      .then((made) => {
        this.proofs.set(stored.hash, made);
        return this.submitProof(challenge, stored, made);
      })
      .catch((cause) => this.fail(challenge, cause as Error))
      .finally(() => this.proving.delete(stored.hash));
    this.proving.set(stored.hash, ending);
  }

  /** Where plans demand proofs, they are made and kept ahead. */
  private async keptProofOf(receiptHash: string): Promise<string | undefined> {
    if (this.refusedProofs.has(receiptHash)) return undefined;
    const kept = (await this.deps.store.proofs.proofs([receiptHash])).get(receiptHash);
    return kept && hexlify(kept);
  }

  /** @throws Indefensible unless the store has the receipt that is doubted */
  private async doubtedOf(receiptHash: string, otherwise: string): Promise<StoredReceipt> {
    const stored = await this.deps.store.receipts.withHash(receiptHash);
    if (stored !== null) return stored;
    throw new Indefensible(
      `The store lacks receipt ${receiptHash}, which one of the operator's keys signed: rebuild it ` +
        `(npx licet-oracle rebuild), or ${otherwise}`,
    );
  }

  /** One that the court doesn't take is made anew: what a processor does may be wrong. */
  private async submitProof(challenge: Challenge, { receipt, hash }: StoredReceipt, proof: string): Promise<void> {
    try {
      await this.submit(challenge, "proof", () => this.deps.court.proof(challenge.challengeId, receipt, proof));
    } catch (cause) {
      if (cause instanceof ChainRefusal) {
        this.proofs.delete(hash);
        this.refusedProofs.add(hash);
      }
      throw cause;
    }
  }

  /** @returns how it is made. @throws Indefensible where that can't be */
  private async proofOf(
    { versionId }: Challenge,
    stored: StoredReceipt,
    inference: Inference,
  ): Promise<() => Promise<string>> {
    const { store, log } = this.deps;
    const { receipt, hash } = stored;
    const prover = this.config.provers.get(versionId);
    if (prover === undefined) {
      throw new Indefensible(
        `No prover is set for version ${versionId}, whose receipts only a proof defends: name its model's file in ` +
          `disputes.provers, or prove receipt ${hash} by hand (npx hardhat dispute:prove)`,
      );
    }
    const [input, grant] = await Promise.all([
      store.disputes.input(receipt.requestId),
      store.grants.find(receipt.grantHash),
    ]);
    if (input === null || grant === null) {
      throw new Indefensible(
        `The store lacks ${input === null ? "the input" : "the grant"} of receipt ${hash}, which its proof is made of: ` +
          (input === null
            ? `the gateway keeps inputs of models whose section says "keepInputs": true`
            : "whoever has the API key can prove it"),
      );
    }
    log.info("Receipt is being proven", { receipt: hash, versionId });
    return () =>
      prover.prove({ receipt, receiptHash: hash, input: [...input], grantSalt: grant.grant.salt, ...inference });
  }

  // Data

  private async answer(challenge: Challenge, now: number): Promise<void> {
    const { court } = this.deps;
    const { challengeId, operatorId } = challenge;
    const batchId = await court.batchOf(challenge.chargeId);
    const receipts = await this.recordsOf(challenge, batchId);
    const { account } = this.config;
    if (!(await court.mayAnswer(operatorId, account, now))) {
      throw new Indefensible(
        `The settler's account ${account} is neither the owner nor a signing key of operator ${operatorId}, and may not ` +
          `answer: add it (npx hardhat operator:key), or answer by hand (npx hardhat dispute:answer)`,
      );
    }
    if (challenge.isSigned && !sameUsage(challenge.shown, challenge.usage)) return this.show(challenge, receipts);
    await this.submit(challenge, "answer", () => court.answer(challengeId, referenceTo(batchId, receipts)));
  }

  /** The receipts that an entry sums up. @throws Indefensible unless they are what was charged, and what is doubted is known */
  private async recordsOf({ licenseId, usage, receiptHash }: Challenge, batchId: string): Promise<StoredReceipt[]> {
    const { store } = this.deps;
    if (receiptHash !== null)
      await this.doubtedOf(
        receiptHash,
        "leave the challenge unanswered, if it was never served: a key may have leaked",
      );
    const receipts = await store.receipts.ofLicense(batchId, licenseId);
    const sum = sumUsage(receipts.map(({ receipt }) => receipt));
    if (sameUsage(sum, usage)) return receipts;
    throw new Indefensible(
      `The store has ${receipts.length} receipts of license ${licenseId} in batch ${batchId}, which sum up to ` +
        `${JSON.stringify(sum, asText)}; charged were ${JSON.stringify(usage, asText)}: if receipts were lost, rebuild the ` +
        `store (npx licet-oracle rebuild); if not, leave the challenge unanswered, since who answers pays stake for a wrong charge`,
    );
  }

  /** @throws Indefensible unless the store has what was charged: nothing else is paid for */
  private async requireSupported(challenge: Challenge): Promise<void> {
    await this.recordsOf(challenge, await this.deps.court.batchOf(challenge.chargeId));
  }

  /** Shows the next of an entry's requests; the first ones again, if what was shown isn't what they sum up to. */
  private async show(challenge: Challenge, receipts: readonly StoredReceipt[]): Promise<void> {
    const { challengeId, shown, shownThrough } = challenge;
    const requests = await this.requestsOf(challenge, receipts);
    const before = requests.filter(({ receipt }) => receipt.requestSignatureHash <= shownThrough);
    const isBegun = before.length > 0 && sameUsage(sumUsage(before.map(({ receipt }) => receipt)), shown);
    const rest = requests.slice(isBegun ? before.length : 0);
    const step = `requests from ${rest[0].receipt.requestSignatureHash} after ${shownThrough}`;
    for (let count = Math.min(rest.length, REQUESTS_AT_ONCE); ; count = Math.ceil(count / 2)) {
      try {
        return await this.submit(challenge, step, () => this.deps.court.showing(challengeId, rest.slice(0, count)));
      } catch (cause) {
        // Signatures of contracts may be long and take much gas; what lacks gas may say that it isn't signed.
        const mayBeTooLarge = cause instanceof CallTooLarge || cause instanceof ChainRefusal;
        if (!mayBeTooLarge || count === 1) throw cause;
      }
    }
  }

  /** What was charged of an entry, as its licensee's keys have asked for it, in the court's order. */
  private async requestsOf(
    { operatorId, usage, licenseId }: Challenge,
    receipts: readonly StoredReceipt[],
  ): Promise<ShownRequest[]> {
    const { store } = this.deps;
    const charged = receipts.filter(({ receipt }) => !sameUsage(receipt, zeroUsage()));
    const hashes = charged.map(({ receipt }) => receipt.requestSignatureHash);
    const signatures = await store.requestSignatures.of(operatorId, hashes);
    const requests: ShownRequest[] = [];
    for (const { receipt, signature } of charged) {
      const requestSignature = signatures.get(receipt.requestSignatureHash)?.packed;
      const grant = await store.grants.find(receipt.grantHash);
      if (requestSignature !== undefined && grant !== null)
        requests.push({ receipt, signature, grant, requestSignature });
    }
    if (sameUsage(sumUsage(requests.map(({ receipt }) => receipt)), usage)) return requests.sort(bySignature);
    throw new Indefensible(
      `License ${licenseId} demands signed requests, and the store has signatures and grants of ${requests.length} of ` +
        `${charged.length} that were charged: the others don't count in court. Rebuild the store if it was lost ` +
        `(npx licet-oracle rebuild); if not, nobody may have asked for them`,
    );
  }

  // Arbitration

  private async payFee(challenge: Challenge): Promise<void> {
    const { court } = this.deps;
    const { challengeId, arbitrator } = challenge;
    await this.requireSupported(challenge);
    const wei = await court.feeOf(arbitrator!);
    this.requireAffordable(wei, `Arbitrator ${arbitrator}'s fee`, "npx hardhat dispute:pay-fee");
    await this.submit(challenge, "fee", () => court.feePayment(challengeId, wei));
  }

  /** Who alone pays for an appeal wins. */
  private async follow(challenge: Challenge, now: number): Promise<void> {
    const { court } = this.deps;
    const { challengeId } = challenge;
    const appeal = await court.appealOf(challenge, now);
    if (appeal === null) return;
    const { cost, end, appellant, ruling } = appeal;
    if (appellant === "Challenger" && ruling !== "Challenger") {
      await this.requireSupported(challenge);
      this.requireAffordable(cost, "The operator's part of an appeal", "npx hardhat dispute:appeal");
      await this.submit(challenge, `appeal until ${end}`, () => court.appealPayment(challengeId, cost), end);
    } else if (ruling === "Challenger") {
      this.tell("warn", "Arbitrator rules for the challenger: npx hardhat dispute:appeal, if that is wrong", {
        ...{ challengeId, until: dateOf(end), cost },
      });
    }
  }

  private requireAffordable(wei: bigint, what: string, task: string): void {
    const { maxFee } = this.config;
    if (wei <= maxFee) return;
    throw new Indefensible(
      `${what} is ${wei} wei, and disputes.maxFee allows ${maxFee}: raise that, or pay by hand (${task})`,
    );
  }

  /** Once, whoever asks how often. A charge is challenged once, whatever numbers the chain gives again. */
  private async submit(
    challenge: Challenge,
    step: string,
    callOf: () => Promise<Call>,
    until: number | null = challenge.deadline,
  ): Promise<void> {
    const { challengeId, chargeId } = challenge;
    await this.deps.sender.submit(
      `challenge ${challengeId} of charge ${chargeId}: ${step}`,
      callOf,
      until ?? undefined,
    );
    this.begin(challengeId, step);
    this.tell("info", "Challenge's next step is sent", { challengeId, step });
  }

  private begin(challengeId: bigint, step: string): void {
    if (this.begun.get(challengeId)?.step !== step) this.begun.set(challengeId, { step, since: this.now });
  }

  private tell(level: "info" | "warn" | "error", message: string, what: Told): void {
    const cause = what.cause === undefined ? "" : reasonOf(what.cause);
    const key = `${message} ${what.challengeId} ${what.step ?? ""} ${cause}`;
    if (this.told.has(key)) return;
    if (this.told.size >= MOST_TOLD) this.told.clear();
    this.told.add(key);
    this.deps.log[level](message, what);
  }
}

function bySignature({ receipt: a }: ShownRequest, { receipt: b }: ShownRequest): number {
  return a.requestSignatureHash < b.requestSignatureHash ? -1 : 1;
}

function asText(_name: string, value: unknown): unknown {
  return typeof value === "bigint" ? String(value) : value;
}
