/** What an account and its plan, as the chain has them, mean for who serves the license. Pure. */
import type { LicenseRegistry, UsageEscrow } from "../../typechain-types";
import type { FormerPlan, LicenseState, PlanChange, Renewal, ServiceChange } from "./chain";

export type AccountView = Awaited<ReturnType<UsageEscrow["accountOf"]>>;
export type PlanTerms = Awaited<ReturnType<LicenseRegistry["termsOf"]>>;

/** What else must be known of a license. */
export interface LicenseFacts {
  licenseId: bigint;
  owner: string;
  account: AccountView;
  plan: PlanTerms;
  /** The money that the licensee's own cap code stands for; 0 is none. */
  ownCap: bigint;
  /** What is missing to the minimum of a term that is over and not closed. */
  owed: bigint;
  /** See `LicenseState`. */
  signedSince: number;
  /** Unix seconds. */
  now: number;
  /** The longest epoch, in seconds. */
  epochPeriod: number;
}

export function licenseStateOf({
  licenseId,
  owner,
  account,
  plan,
  ownCap,
  owed,
  signedSince,
  now,
  epochPeriod,
}: LicenseFacts): LicenseState {
  return {
    licenseId,
    owner,
    planId: Number(account.planId),
    operatorId: Number(account.operatorId),
    generation: Number(account.generation),
    balance: account.balance,
    thawing: account.thawing < account.balance ? account.thawing : account.balance,
    owed,
    spent: spentAt(now, account, plan, epochPeriod),
    cap: lowerCap(plan.cap, ownCap),
    expiresAt: Number(account.expiresAt),
    countsFrom: countsFromOf(account, plan),
    signedSince,
    renewal: renewalOf(account, plan),
    onVoucherRoad: account.onVoucherRoad,
    stop: stopOf(account),
    serviceChange: serviceChangeOf(account),
    planChange: planChangeOf(account),
    formerPlan: formerPlanOf(account),
  };
}

function stopOf({ stoppedAt, isEnded, nextPlanId }: AccountView): LicenseState["stop"] {
  if (stoppedAt === 0n || nextPlanId !== 0n) return null;
  return isEnded ? "ended" : "locked";
}

/** A lower cap that was announced is respected at once, though it is in force only later. */
export function capCodeToRespect({ capCode, capCutCode }: AccountView): bigint {
  return capCutCode === 0n ? capCode : capCutCode;
}

/** Use counts in the term in which its epoch started: for an epoch after a term's end, the ended term's cap may still bind. */
function spentAt(now: number, account: AccountView, plan: PlanTerms, epochPeriod: number): bigint {
  const { spent, expiresAt, endedAt, endedSpent, formerPlanId } = account;
  const isEpochOver = (termEnd: bigint) => now >= Number(termEnd) + epochPeriod;
  if (renewalOf(account, plan) === "settled" && isEpochOver(expiresAt)) return 0n;
  const goesOn = endedAt > 0n && endedAt === expiresAt - plan.termPeriod && formerPlanId === 0n;
  const isOfBoth = goesOn && !isEpochOver(endedAt);
  return isOfBoth && endedSpent > spent ? endedSpent : spent;
}

function renewalOf({ renews }: AccountView, { renewable, minimumSpend }: PlanTerms): Renewal {
  if (!renewable) return "none";
  if (minimumSpend === 0n) return "settled";
  return renews ? "called" : "none";
}

/**
 * The first term takes the epoch in which it began, and so does the first under another plan; one that goes on where another
 * ended leaves that one its epoch.
 */
function countsFromOf({ term, expiresAt, endedAt }: AccountView, { termPeriod }: PlanTerms): number {
  const startedAt = expiresAt - termPeriod;
  return term === 0n || endedAt === startedAt ? 0 : Number(startedAt);
}

function serviceChangeOf({
  nextOperatorId,
  nextOnVoucherRoad,
  serviceChangeReadyAt,
}: AccountView): ServiceChange | null {
  if (serviceChangeReadyAt === 0n) return null;
  return {
    operatorId: Number(nextOperatorId),
    onVoucherRoad: nextOnVoucherRoad,
    readyAt: Number(serviceChangeReadyAt),
  };
}

function planChangeOf({ nextPlanId, stoppedAt }: AccountView): PlanChange | null {
  return nextPlanId === 0n ? null : { planId: Number(nextPlanId), changesAt: Number(stoppedAt) };
}

function formerPlanOf({ formerPlanId, endedAt }: AccountView): FormerPlan | null {
  return formerPlanId === 0n ? null : { planId: Number(formerPlanId), endedAt: Number(endedAt) };
}

/** The lower of two caps, of which 0 is none. */
function lowerCap(a: bigint, b: bigint): bigint {
  if (a === 0n || b === 0n) return a + b;
  return a < b ? a : b;
}
