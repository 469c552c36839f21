/** What each side of a challenge may do next, and what comes of it if nobody does. */
import type { StatusName } from "../../oracle/chain/statuses";
import { coinOf, dateOf, textOf, type Money } from "../support";

/** What the arbitrator says of an appeal. */
export interface AppealFacts {
  /** Unix seconds; both 0 while there is nothing to appeal. */
  start: number;
  end: number;
  /** Wei. */
  cost: bigint;
  /** Who would win: 0 nobody, 1 the challenger, 2 the operator. */
  ruling: number;
  /** Who alone has paid for an appeal, by the same numbers. */
  appellant: number;
}

/** What the outlook of a challenge depends on. */
export interface ChallengeFacts {
  id: bigint;
  status: StatusName<"ChallengeStatus">;
  /** Unix seconds. */
  now: number;
  deadline: number;
  /** Currency units. */
  bond: bigint;
  /** Whether a breach of the charge was reported. */
  isReported: boolean;
  /** Whether it is about one receipt. */
  isOfReceipt: boolean;
  /** Whether nothing but a proof answers it. */
  isProvable: boolean;
  /** Whether requests' signatures must be shown that aren't yet. */
  lacksRequests: boolean;
  hasArbitrator: boolean;
  /** What a dispute costs, wei; null if the arbitrator doesn't say. */
  fee: bigint | null;
  /** Null before a dispute, or if the arbitrator doesn't say. */
  appeal: AppealFacts | null;
}

/** Sentences; a list is empty where there is nothing to do. */
export interface Outlook {
  challenger: string[];
  operator: string[];
  anybody: string[];
  otherwise: string;
}

const SIDES = ["nobody", "the challenger", "the operator"];

export function outlookOf(facts: ChallengeFacts, money: Money): Outlook {
  const { id, status, bond, now, deadline } = facts;
  const task = (name: string, more = "") => `dispute:${name} --challenge ${id}${more}`;
  const bondText = money.textOf(bond);
  const outcome = outcomeOf(facts, bondText);
  if (outcome === null) {
    const anybody = ["dispute:withdraw sends either side what it got"];
    return { challenger: [], operator: [], anybody, otherwise: "nothing: it is decided" };
  }
  if (facts.isReported || now > deadline) {
    const anybody = [`${task("close")}: ${outcome}`];
    return { challenger: [], operator: [], anybody, otherwise: "it stays as it is" };
  }
  const evidence = task("evidence", " --uri …");
  const fee = facts.fee === null ? "what the arbitrator asks" : textOf(coinOf(facts.fee));
  const otherwise = `after ${stamp(deadline)}, by dispute:close, ${outcome}`;
  const outlook: Outlook = { challenger: [evidence], operator: [evidence], anybody: [], otherwise };
  switch (status) {
    case "Open":
      outlook.operator.unshift(answerTo(facts, task, bondText));
      break;
    case "Answered":
      if (facts.hasArbitrator) outlook.challenger.unshift(`${task("escalate")}, for a fee of ${fee}`);
      break;
    case "Escalated":
      outlook.operator.unshift(`${task("pay-fee")}, for a fee of ${fee}: the dispute begins`);
      break;
    default:
      outlook.challenger.unshift(...appealBy(facts, 1));
      outlook.operator.unshift(...appealBy(facts, 2));
      outlook.otherwise = `${rulingIn(facts)}; if it never rules, ${otherwise}`;
  }
  return outlook;
}

function answerTo(
  { isProvable, lacksRequests }: ChallengeFacts,
  task: (name: string, more: string) => string,
  bond: string,
): string {
  const answer = task("answer", " --data …");
  if (isProvable)
    return `${task("prove", " --proof …")}: the charge is released at once, and the bond of ${bond} is the operator's`;
  const first = lacksRequests ? `${task("show-requests", " --store …")}, and then ` : "";
  return `${first}${answer}: unless that is escalated, the charge is released and the bond of ${bond} is the operator's`;
}

/** What `close` decides once the deadline has passed, or a breach was reported; null of what is decided. */
function outcomeOf({ status, isOfReceipt, isReported }: ChallengeFacts, bond: string): string | null {
  const refunded = "the charge is refunded and the bond goes back";
  const slashed = `${refunded}, with as much of the operator's stake (${bond})`;
  switch (status) {
    case "Open":
      return isOfReceipt ? slashed : refunded;
    case "Answered":
      return isReported ? slashed : `the charge is released, and the bond of ${bond} is the operator's`;
    case "Escalated":
      return `${slashed} and the challenger's fee`;
    case "Disputed":
      return isReported
        ? `${slashed} and what is left of the fees`
        : "nobody wins: the charge is released, the bond goes back, and the fees are halved";
    default:
      return null;
  }
}

const stamp = (seconds: number): string => dateOf(seconds).toISOString();

function rulingIn({ appeal }: ChallengeFacts): string {
  if (appeal === null || appeal.end === 0) return "the arbitrator rules";
  return `the arbitrator's ruling for ${SIDES[appeal.ruling] ?? SIDES[0]} stands unless it is appealed`;
}

/** Who is losing can pay in the first half of the time alone, and so can whoever is first where nobody is. */
function appealBy({ id, now, appeal }: ChallengeFacts, side: 1 | 2): string[] {
  if (appeal === null || appeal.appellant === side) return [];
  const { start, end, cost, ruling, appellant } = appeal;
  const isHalved = (ruling !== 0 && ruling !== side) || (ruling === 0 && appellant === 0);
  const until = isHalved ? Math.floor((start + end) / 2) : end;
  if (now < start || now >= until) return [];
  const follows = appellant === 0 ? "it wins unless the other side pays as much" : "the arbitrator rules again";
  return [
    `dispute:appeal --challenge ${id} --side ${SIDES[side].slice(4)}, for ${textOf(coinOf(cost))}, before ${stamp(until)}: ${follows}`,
  ];
}
