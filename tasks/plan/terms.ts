/** A plan's terms as people write them in a file, and as the contract has them. */
import { ZeroAddress } from "ethers";
import { usageBy } from "../../oracle/protocol/meters";
import { TIER_WORDS } from "../../oracle/protocol/tiers";
import { METERS } from "../../oracle/protocol/types";
import type { PlanTermsStruct } from "../../typechain-types/contracts/LicenseRegistry";
import { parseAddress, parsePeriod, Problem, type Money } from "../support";

/** All that a plan's file may say: money in whole units of the currency, times like 30d, shares in percent. */
export const PLAN_FIELDS = [
  /** Price of a million units of each meter; a meter that isn't named is free. */
  "rates",
  /** Of the charge before discounts; the operator gets the rest after the protocol fee. */
  "publisherPercent",
  "attestorPercent",
  /** From a charge to its release. */
  "hold",
  "term",
  /** Whether licenses start their next term by themselves; they do if it isn't said. */
  "renewable",
  /** Paid at purchase; none if it isn't named. */
  "upfrontPrice",
  /** The least that is paid for a term; none if it isn't named. */
  "minimumSpend",
  /** The most that is paid for a term; no limit if it isn't named. */
  "cap",
  /** Whether licenses may be sold on; they may not if it isn't said. */
  "transferable",
  /** How many licenses may be sold; any number if it isn't named. */
  "supply",
  /** Two tiers, each `{ floorPercent, discountPercent }`: a discount where a smaller share of requests was served. */
  "availability",
  /** Two tiers, each `{ ceilingMs, discountPercent }`: a discount where the 95th percentile is higher. */
  "timeToFirstToken",
  /** A bit field, as the license text defines it. */
  "permittedUses",
  /** The contract that rules on disputes (ERC-792); nobody if it isn't named. */
  "arbitrator",
  /** The least evidence that what is charged must have, by its word; signed receipts if it isn't named. */
  "evidence",
];

const UINT32_MAX = 2 ** 32 - 1;

type Fields = Record<string, unknown>;

/** @throws Problem that names the term which is wrong, and what it must be */
export function planTermsOf(
  file: object,
  money: Money,
  fixed: Pick<PlanTermsStruct, "assetId" | "attestor" | "licenseTextHash">,
): PlanTermsStruct {
  const plan = fieldsOf(file, "The plan", PLAN_FIELDS);
  const rates = fieldsOf(plan.rates ?? {}, "rates", METERS);
  const [available, scarcelyAvailable] = tiersOf(plan.availability, "availability", "floorPercent");
  const [slow, verySlow] = tiersOf(plan.timeToFirstToken, "timeToFirstToken", "ceilingMs");
  const amount = (name: string, bits: number) => money.parse(plan[name] ?? "0", name, bits);
  return {
    ...fixed,
    rates: usageBy((meter) => money.parse(rates[meter] ?? "0", `rates.${meter}`, 48)),
    publisherBps: bps(plan.publisherPercent, "publisherPercent"),
    attestorBps: bps(plan.attestorPercent, "attestorPercent"),
    holdPeriod: parsePeriod(String(plan.hold), "hold"),
    termPeriod: parsePeriod(String(plan.term), "term"),
    renewable: yes(plan.renewable ?? true, "renewable"),
    upfrontPrice: amount("upfrontPrice", 56),
    minimumSpend: amount("minimumSpend", 56),
    cap: amount("cap", 56),
    transferable: yes(plan.transferable ?? false, "transferable"),
    supply: whole(plan.supply ?? 0, "supply"),
    permittedUses: whole(plan.permittedUses ?? 0, "permittedUses"),
    levels: {
      availabilityFloorBps: bps(available.floorPercent ?? 0, "availability[0].floorPercent"),
      availabilityDiscountBps: bps(available.discountPercent ?? 0, "availability[0].discountPercent"),
      severeAvailabilityFloorBps: bps(scarcelyAvailable.floorPercent ?? 0, "availability[1].floorPercent"),
      severeAvailabilityDiscountBps: bps(scarcelyAvailable.discountPercent ?? 0, "availability[1].discountPercent"),
      ttftCeilingMs: whole(slow.ceilingMs ?? UINT32_MAX, "timeToFirstToken[0].ceilingMs"),
      ttftDiscountBps: bps(slow.discountPercent ?? 0, "timeToFirstToken[0].discountPercent"),
      severeTtftCeilingMs: whole(verySlow.ceilingMs ?? UINT32_MAX, "timeToFirstToken[1].ceilingMs"),
      severeTtftDiscountBps: bps(verySlow.discountPercent ?? 0, "timeToFirstToken[1].discountPercent"),
    },
    minEvidenceTier: tierOf(plan.evidence ?? "signed"),
    arbitrator: plan.arbitrator === undefined ? ZeroAddress : parseAddress(String(plan.arbitrator), "arbitrator"),
  };
}

function fieldsOf(value: unknown, name: string, known: readonly string[]): Fields {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new Problem(`${name} must be an object in braces; it is ${JSON.stringify(value)}.`);
  }
  const unknown = Object.keys(value).filter((key) => !known.includes(key));
  if (unknown.length > 0)
    throw new Problem(`${name} has no ${unknown.join(", no ")}; it may have ${known.join(", ")}.`);
  return value as Fields;
}

function tiersOf(value: unknown, name: string, limit: string): Fields[] {
  if (value === undefined) return [{}, {}];
  if (Array.isArray(value) && value.length === 2) {
    return value.map((tier, i) => fieldsOf(tier, `${name}[${i}]`, [limit, "discountPercent"]));
  }
  throw new Problem(`${name} must be a list of two tiers; it is ${JSON.stringify(value)}.`);
}

/** Basis points of a percentage with at most two decimals. */
function bps(percent: unknown, name: string): number {
  const value = typeof percent === "number" ? Math.round(percent * 100) : NaN;
  if (!(value >= 0 && value <= 10_000) || Math.abs(value - Number(percent) * 100) > 1e-6) {
    throw new Problem(`${name} must be between 0 and 100 with at most two decimals; it is ${JSON.stringify(percent)}.`);
  }
  return value;
}

function whole(value: unknown, name: string): number {
  if (Number.isInteger(value) && Number(value) >= 0 && Number(value) <= UINT32_MAX) return Number(value);
  throw new Problem(`${name} must be a whole number up to ${UINT32_MAX}; it is ${JSON.stringify(value)}.`);
}

function tierOf(evidence: unknown): number {
  const tier = TIER_WORDS.findIndex((word) => word === evidence);
  if (tier !== -1) return tier;
  throw new Problem(`evidence must be one of ${TIER_WORDS.join(", ")}; it is ${JSON.stringify(evidence)}.`);
}

function yes(value: unknown, name: string): boolean {
  if (typeof value === "boolean") return value;
  throw new Problem(`${name} must be true or false; it is ${JSON.stringify(value)}.`);
}
