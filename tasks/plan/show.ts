import { ZeroAddress } from "ethers";
import { percentOf, periodOf } from "../../oracle/chain/refusal";
import { statusName } from "../../oracle/chain/statuses";
import { tierWord } from "../../oracle/protocol/tiers";
import { METERS } from "../../oracle/protocol/types";
import type { PlanTermsStructOutput } from "../../typechain-types/contracts/LicenseRegistry";
import { planId, readingTask, type Money, type Session, type TaskRecord } from "../support";

/** A plan: its terms, and what was sold under it. */
export async function showPlan({ licet, money }: Session, { plan }: { plan: number }): Promise<TaskRecord> {
  const { licenses } = licet;
  const [terms, { sold }, buyer, status] = await Promise.all([
    licenses.termsOf(plan),
    licenses.salesOf(plan),
    licenses.buyerOf(plan),
    licenses.statusOf(plan),
  ]);
  return {
    plan,
    status: statusName("PlanStatus", status),
    sold,
    buyer: buyer === ZeroAddress ? "anybody" : buyer,
    ...describeTerms(terms, money),
  };
}

/** The terms of a plan, for people. */
export function describeTerms(terms: PlanTermsStructOutput, money: Money): TaskRecord {
  const { levels } = terms;
  return {
    asset: Number(terms.assetId),
    attestor: terms.attestor,
    arbitrator: terms.arbitrator === ZeroAddress ? "nobody" : terms.arbitrator,
    evidence: tierWord(terms.minEvidenceTier),
    ...Object.fromEntries(METERS.map((meter) => [`rate of a million ${meter}`, money.of(terms.rates[meter])])),
    "publisher's share": percentOf(terms.publisherBps),
    "attestors' share": percentOf(terms.attestorBps),
    hold: periodOf(terms.holdPeriod),
    term: periodOf(terms.termPeriod),
    "renews by itself": terms.renewable,
    "upfront price": money.of(terms.upfrontPrice),
    "minimum a term": money.of(terms.minimumSpend),
    "cap a term": terms.cap === 0n ? "none" : money.of(terms.cap),
    transferable: terms.transferable,
    supply: terms.supply === 0n ? "any number" : terms.supply,
    "discount for availability": [
      `${percentOf(levels.availabilityDiscountBps)} below ${percentOf(levels.availabilityFloorBps)}`,
      `${percentOf(levels.severeAvailabilityDiscountBps)} below ${percentOf(levels.severeAvailabilityFloorBps)}`,
    ],
    "discount for time to first token": [
      `${percentOf(levels.ttftDiscountBps)} above ${levels.ttftCeilingMs} ms`,
      `${percentOf(levels.severeTtftDiscountBps)} above ${levels.severeTtftCeilingMs} ms`,
    ],
    "permitted uses": terms.permittedUses,
    "license text": terms.licenseTextHash,
  };
}

readingTask("plan:show", {
  about: "Shows a plan's terms and what was sold under it",
  example: "--plan 1",
  parameters: { plan: planId() },
  act: showPlan,
});
