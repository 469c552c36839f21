import { ZeroHash } from "ethers";
import type { Appeal, Challenge, Court, Inference, ShownRequest } from "../../oracle/disputes/court";
import { addUsage, sumUsage, zeroUsage } from "../../oracle/protocol/meters";
import type { Receipt } from "../../oracle/protocol/types";
import { type Call, CallTooLarge, ChainRefusal, type Sender, SenderBusy } from "../../oracle/settler/sender";
import { EPOCH, LANE } from "./stubMarket";

const TURN = 172_800;

/** A court, and the sender of the account that acts before it, whose memory survives the answerer's. What is sent is mined by `mine`. */
export class StubCourt implements Court {
  readonly challenges: Challenge[] = [];
  /** How many of them may still be undone. */
  unfinal = 0;
  /** Those whose end may still be undone. */
  readonly unfinalEnds = new Set<bigint>();
  readonly batches = new Map<string, string>();
  readonly reported = new Set<string>();
  inference: Inference | null = null;
  /** Of the operator. */
  readonly keys = new Set<string>();
  fee = 10n;
  appeal: Appeal | null = null;
  /** What the court says to every transaction. */
  refusal: string | null = null;
  isAway = false;
  /** Challenges that can't be read. */
  readonly unreadable = new Set<bigint>();
  /** By when what was signed for must be mined. */
  readonly untils: (number | undefined)[] = [];
  /** So many transactions have room before they are mined. */
  mostOpen = Infinity;
  /** So many requests have room in a transaction. */
  mostShown = Infinity;
  /** What was signed for, in its order. */
  readonly purposes: string[] = [];
  /** What of it was mined. */
  readonly done: string[] = [];
  /** What was paid along, in wei. */
  paid = 0n;
  private readonly deeds: (() => void)[] = [];
  private readonly calls = new Map<string, { deed: () => void; value: bigint }>();

  constructor(private readonly clock: { time: number }) {}

  /** @returns its number */
  open(changes: Partial<Challenge> = {}): bigint {
    const challengeId = BigInt(this.challenges.length + 1);
    this.challenges.push({
      ...LANE,
      ...EPOCH,
      challengeId,
      status: "Open",
      chargeId: `0x${"c".repeat(60)}${String(challengeId).padStart(4, "0")}`,
      licenseId: 7n,
      receiptHash: null,
      bond: 5n,
      deadline: this.clock.time + TURN,
      usage: zeroUsage(),
      isSigned: false,
      shown: zeroUsage(),
      shownThrough: ZeroHash,
      arbitrator: "0x00000000000000000000000000000000000a4b17",
      ...changes,
    });
    return challengeId;
  }

  of(challengeId: bigint): Challenge {
    return this.challenges[Number(challengeId) - 1];
  }

  /** Mines all that was sent. */
  mine(): void {
    for (const deed of this.deeds.splice(0)) deed();
  }

  readonly sender: Pick<Sender, "submit"> = {
    submit: async (purpose, callOf, until) => {
      const before = this.purposes.indexOf(purpose);
      if (before >= 0) return before;
      if (this.deeds.length >= this.mostOpen) throw new SenderBusy(`${this.deeds.length} are under way`);
      const { data } = await callOf();
      const [, shown] = /^show (\d+) /.exec(data) ?? [];
      if (Number(shown) > this.mostShown) throw new CallTooLarge(`${shown} are too many`);
      if (this.refusal !== null) throw new ChainRefusal(this.refusal);
      const { deed, value } = this.calls.get(data)!;
      this.purposes.push(purpose);
      this.untils.push(until);
      this.deeds.push(() => {
        deed();
        this.paid += value;
      });
      return this.purposes.length - 1;
    },
  };

  async count(): Promise<bigint> {
    if (this.isAway) throw new Error("the chain is away");
    return BigInt(this.challenges.length - this.unfinal);
  }

  async challenge(challengeId: bigint, by: "latest" | "final"): Promise<Challenge> {
    if (this.unreadable.has(challengeId)) throw new Error("the node says nothing");
    const found = { ...this.of(challengeId) };
    return by === "final" && this.unfinalEnds.has(challengeId) ? { ...found, status: "Open" } : found;
  }

  async batchOf(chargeId: string): Promise<string> {
    return this.batches.get(chargeId) ?? ZeroHash;
  }

  async isReported(chargeId: string): Promise<boolean> {
    return this.reported.has(chargeId);
  }

  async inferenceOf(): Promise<Inference | null> {
    return this.inference;
  }

  async mayAnswer(operatorId: number, account: string): Promise<boolean> {
    return operatorId === LANE.operatorId && this.keys.has(account);
  }

  async feeOf(): Promise<bigint> {
    return this.fee;
  }

  async appealOf(): Promise<Appeal | null> {
    return this.appeal;
  }

  async showing(challengeId: bigint, requests: readonly ShownRequest[]): Promise<Call> {
    const hashes = requests.map(({ receipt }) => receipt.requestSignatureHash);
    return this.call(`show ${requests.length} of ${challengeId} from ${hashes[0]}`, () => {
      const one = this.of(challengeId);
      if (hashes[0] <= one.shownThrough) Object.assign(one, { shown: zeroUsage(), shownThrough: ZeroHash });
      for (const hash of hashes) {
        if (hash <= one.shownThrough) throw new Error("requests are out of order");
        one.shownThrough = hash;
      }
      one.shown = addUsage(one.shown, sumUsage(requests.map(({ receipt }) => receipt)));
    });
  }

  async answer(challengeId: bigint, uri: string): Promise<Call> {
    return this.call(`answer ${challengeId} ${uri}`, () => this.advance(challengeId, "Answered"));
  }

  async proof(challengeId: bigint, receipt: Receipt, proof: string): Promise<Call> {
    return this.call(`prove ${challengeId} ${receipt.requestId} ${proof}`, () => this.advance(challengeId, "Rejected"));
  }

  async feePayment(challengeId: bigint, wei: bigint): Promise<Call> {
    return this.call(`fee ${challengeId}`, () => this.advance(challengeId, "Disputed"), wei);
  }

  async appealPayment(challengeId: bigint, wei: bigint): Promise<Call> {
    return this.call(`appeal ${challengeId}`, () => this.advance(challengeId, "Disputed"), wei);
  }

  async closing(challengeId: bigint): Promise<Call> {
    const { status } = this.of(challengeId);
    const end = status === "Answered" ? "Rejected" : status === "Disputed" ? "Undecided" : "Upheld";
    return this.call(`close ${challengeId}`, () => this.advance(challengeId, end));
  }

  advance(challengeId: bigint, status: Challenge["status"]): void {
    Object.assign(this.of(challengeId), { status, deadline: this.clock.time + TURN });
  }

  private call(what: string, effect: () => void, value = 0n): Call {
    const deed = () => {
      effect();
      this.done.push(what);
    };
    this.calls.set(what, { deed, value });
    return { to: "0x00000000000000000000000000000000000c0027", data: what, value };
  }
}
