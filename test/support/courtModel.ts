import { ChallengeStatus, RULING, Side, TURN } from "./court";

/** What a side may do to a challenge, and what may happen to it. */
export type CourtAct =
  | "open"
  | "answer"
  | "prove"
  | "escalate"
  | "payFee"
  | "appealForChallenger"
  | "appealForOperator"
  | "ruleForChallenger"
  | "ruleForOperator"
  | "ruleForNobody"
  | "execute"
  | "report"
  | "close";

interface Case {
  status: number;
  deadline: number;
  heldUntil: number;
  /** Seconds: reports come no later. */
  reportableUntil: number;
  provable: boolean;
  reported: boolean;
  /** In the arbitrator: whether it waits for a ruling, can be appealed, or is solved. */
  stage: "none" | "waiting" | "appealable" | "solved";
  ruling: number;
  ruledAt: number;
  pool: number;
  appealPool: number;
  appellant: number;
}

/** The time that the arbitrator gives for appeals, in seconds. */
const APPEAL = TURN;

/**
 * What DisputeCourt should do, in so many words: who may do what when, and whose each bond and each fee is then. Bonds and fees
 * are counted in ones: all of a run's are alike.
 */
export class CourtModel {
  readonly cases: Case[];
  readonly bonds = { challenger: 0, operator: 0 };
  readonly fees = { challenger: 0, operator: 0 };
  refunds = 0;
  penalties = 0;

  constructor(charges: Pick<Case, "provable" | "heldUntil" | "reportableUntil">[]) {
    this.cases = charges.map(({ provable, heldUntil, reportableUntil }) => ({
      status: ChallengeStatus.None,
      deadline: 0,
      heldUntil,
      reportableUntil,
      provable,
      reported: false,
      stage: "none",
      ruling: 0,
      ruledAt: 0,
      pool: 0,
      appealPool: 0,
      appellant: Side.None,
    }));
  }

  /** Whether it may be done at `now`. */
  may(act: CourtAct, i: number, now: number): boolean {
    const copy: CourtModel = Object.assign(new CourtModel([]), structuredClone({ ...this }));
    return copy.does(act, i, now);
  }

  /** Does it at `now`, if it may be done. @returns whether it may */
  does(act: CourtAct, i: number, now: number): boolean {
    const it = this.cases[i];
    const isTurn = (status: number) => it.status === status && now <= it.deadline;
    switch (act) {
      case "open":
        // A report has refunded what was held, so that nothing is left to be frozen.
        if (it.status !== ChallengeStatus.None || it.reported || now >= it.heldUntil) return false;
        this.advance(it, ChallengeStatus.Open, now + TURN);
        return true;
      case "answer":
        if (!isTurn(ChallengeStatus.Open) || it.provable) return false;
        this.advance(it, ChallengeStatus.Answered, now + TURN);
        return true;
      case "prove":
        if (!it.provable || !isTurn(ChallengeStatus.Open)) return false;
        this.resolve(it, ChallengeStatus.Rejected);
        return true;
      case "escalate":
        if (!isTurn(ChallengeStatus.Answered)) return false;
        it.pool = 1;
        this.advance(it, ChallengeStatus.Escalated, now + TURN);
        return true;
      case "payFee":
        if (!isTurn(ChallengeStatus.Escalated)) return false;
        it.stage = "waiting";
        this.advance(it, ChallengeStatus.Disputed, now + RULING);
        return true;
      case "appealForChallenger":
        return this.appeals(it, Side.Challenger, now);
      case "appealForOperator":
        return this.appeals(it, Side.Operator, now);
      case "ruleForChallenger":
        return this.rules(it, Side.Challenger, now);
      case "ruleForOperator":
        return this.rules(it, Side.Operator, now);
      case "ruleForNobody":
        return this.rules(it, Side.None, now);
      case "execute":
        if (it.stage !== "appealable" || now < it.ruledAt + APPEAL) return false;
        it.stage = "solved";
        if (it.status === ChallengeStatus.Disputed) {
          const winner = it.appellant === Side.None ? it.ruling : it.appellant;
          this.resolve(it, [ChallengeStatus.Undecided, ChallengeStatus.Upheld, ChallengeStatus.Rejected][winner]);
        }
        return true;
      case "report":
        if (it.reported || now > it.reportableUntil) return false;
        it.reported = true;
        if (it.status === ChallengeStatus.None && now < it.heldUntil) this.refunds++;
        return true;
      case "close":
        if (it.status === ChallengeStatus.None || it.status >= ChallengeStatus.Upheld) return false;
        if (!it.reported && now <= it.deadline) return false;
        if (it.status === ChallengeStatus.Answered) this.resolve(it, ChallengeStatus.Rejected);
        else if (it.status === ChallengeStatus.Disputed) this.resolve(it, ChallengeStatus.Undecided);
        else this.resolve(it, ChallengeStatus.Upheld);
        return true;
    }
  }

  private advance(it: Case, status: number, deadline: number): void {
    it.status = status;
    it.deadline = deadline;
  }

  private rules(it: Case, ruling: number, now: number): boolean {
    if (it.stage !== "waiting") return false;
    it.stage = "appealable";
    it.ruling = ruling;
    it.ruledAt = now;
    return true;
  }

  private appeals(it: Case, side: number, now: number): boolean {
    const isOpen = it.status === ChallengeStatus.Disputed && now <= it.deadline && it.stage === "appealable";
    if (!isOpen || it.appellant === side) return false;
    const isLosing = it.ruling === Side.None ? it.appellant === Side.None : it.ruling !== side;
    if (now >= it.ruledAt + (isLosing ? APPEAL / 2 : APPEAL)) return false;
    if (it.appellant === Side.None) {
      it.appellant = side;
      it.appealPool = 1;
    } else {
      it.pool += it.appealPool;
      it.appealPool = 0;
      it.appellant = Side.None;
      it.stage = "waiting";
      it.deadline = now + RULING;
    }
    return true;
  }

  private resolve(it: Case, asked: number): void {
    const status = it.reported ? ChallengeStatus.Upheld : asked;
    const wasDisputed = it.status === ChallengeStatus.Disputed;
    // The operator had signed the receipt, or stood by the charge; and no report, which takes its own, found it out.
    const isGuilty = !it.reported && (it.provable || it.status !== ChallengeStatus.Open);
    if (status === ChallengeStatus.Rejected) this.bonds.operator++;
    else this.bonds.challenger++;
    if (!wasDisputed || status === ChallengeStatus.Upheld) {
      this.fees.challenger += it.pool + it.appealPool;
    } else if (status === ChallengeStatus.Rejected) {
      this.fees.operator += it.pool + it.appealPool;
    } else {
      this.fees.challenger += it.pool / 2 + (it.appellant === Side.Challenger ? it.appealPool : 0);
      this.fees.operator += it.pool / 2 + (it.appellant === Side.Operator ? it.appealPool : 0);
    }
    it.pool = it.appealPool = 0;
    it.appellant = Side.None;
    if (status === ChallengeStatus.Upheld) {
      this.refunds++;
      if (isGuilty) this.penalties++;
    }
    it.status = status;
  }
}
