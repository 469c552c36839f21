import { readFileSync } from "node:fs";
import { keccak256, ZeroAddress } from "ethers";
import { METERS, type Usage } from "../oracle/protocol/types";
import { usageBy } from "../oracle/protocol/meters";
import { eventOf, licetTask, parsePeriod, UserError, type Money, type Session, type TaskRecord } from "./support";
import type { PlanTermsStruct } from "../typechain-types/contracts/LicenseRegistry";
import { types } from "hardhat/config";

/** A plan as people write it: money in whole units of the currency, times like 30d, shares in percent. */
export interface PlanFile {
  /** Price of a million units of each meter; a meter that isn't named is free. */
  rates: Partial<Record<keyof Usage, string>>;
  /** Of the charge before discounts; the operator gets the rest after the protocol fee. */
  publisherPercent: number;
  attestorPercent: number;
  /** From a charge to its release. */
  hold: string;
  term: string;
  renewable?: boolean;
  /** The most a term; none if it isn't named. */
  cap?: string;
  /** How many licenses may be sold; any number if it isn't named. */
  supply?: number;
  /** Share of requests served, in percent: below `floorPercent`, `discountPercent` is taken off. */
  availability?: [AvailabilityTier, AvailabilityTier];
  /** 95th percentile of the time to first token: above `ceilingMs`, `discountPercent` is taken off. */
  timeToFirstToken?: [TtftTier, TtftTier];
  permittedUses?: number;
}

interface AvailabilityTier {
  floorPercent: number;
  discountPercent: number;
}

interface TtftTier {
  ceilingMs: number;
  discountPercent: number;
}

export interface CreatePlan {
  asset: number;
  /** A JSON file of a PlanFile. */
  terms: string;
  /** The license text that people read. */
  licenseText: string;
  /** The attestor that vouches for batches; the deployment's committee if it isn't named. */
  attestor?: string;
}

const NO_TTFT_CEILING = 2 ** 32 - 1;

/** Offers licenses of a model on the terms of a file. */
export async function createPlan(session: Session, args: CreatePlan): Promise<TaskRecord & { plan: number }> {
  const terms = planTermsOf(readPlanFile(args.terms), session.money, {
    assetId: args.asset,
    attestor: args.attestor ?? session.book.contracts.CommitteeAttestor,
    licenseTextHash: keccak256(readFileSync(args.licenseText)),
  });
  const created = await eventOf(await session.licet.licenses.createPlan(terms), "PlanCreated");
  return {
    plan: Number(created.planId),
    asset: args.asset,
    attestor: terms.attestor,
    "license text": terms.licenseTextHash,
    ...Object.fromEntries(
      METERS.map((meter) => [`rate of ${meter}`, session.money.of(BigInt(terms.rates[meter] as bigint))]),
    ),
  };
}

function readPlanFile(file: string): PlanFile {
  try {
    return JSON.parse(readFileSync(file, "utf8")) as PlanFile;
  } catch (cause) {
    throw new UserError(`--terms ${file} must be a readable JSON file: ${(cause as Error).message}`, { cause });
  }
}

function planTermsOf(
  plan: PlanFile,
  money: Money,
  fixed: Pick<PlanTermsStruct, "assetId" | "attestor" | "licenseTextHash">,
): PlanTermsStruct {
  const unknown = Object.keys(plan.rates ?? {}).filter((name) => !METERS.some((meter) => meter === name));
  if (unknown.length > 0) throw new UserError(`rates: no meter is called ${unknown}; there are ${METERS.join(", ")}.`);
  const [available, scarcelyAvailable] = plan.availability ?? [
    { floorPercent: 0, discountPercent: 0 },
    { floorPercent: 0, discountPercent: 0 },
  ];
  const [slow, verySlow] = plan.timeToFirstToken ?? [
    { ceilingMs: NO_TTFT_CEILING, discountPercent: 0 },
    { ceilingMs: NO_TTFT_CEILING, discountPercent: 0 },
  ];
  return {
    ...fixed,
    rates: usageBy((meter) => money.parse(plan.rates[meter] ?? "0", `rates.${meter}`)),
    publisherBps: bps(plan.publisherPercent, "publisherPercent"),
    attestorBps: bps(plan.attestorPercent, "attestorPercent"),
    holdPeriod: parsePeriod(plan.hold, "hold"),
    termPeriod: parsePeriod(plan.term, "term"),
    renewable: plan.renewable ?? true,
    cap: plan.cap === undefined ? 0n : money.parse(plan.cap, "cap"),
    supply: plan.supply ?? 0,
    permittedUses: plan.permittedUses ?? 0,
    levels: {
      availabilityFloorBps: bps(available.floorPercent, "availability[0].floorPercent"),
      availabilityDiscountBps: bps(available.discountPercent, "availability[0].discountPercent"),
      severeAvailabilityFloorBps: bps(scarcelyAvailable.floorPercent, "availability[1].floorPercent"),
      severeAvailabilityDiscountBps: bps(scarcelyAvailable.discountPercent, "availability[1].discountPercent"),
      ttftCeilingMs: slow.ceilingMs,
      ttftDiscountBps: bps(slow.discountPercent, "timeToFirstToken[0].discountPercent"),
      severeTtftCeilingMs: verySlow.ceilingMs,
      severeTtftDiscountBps: bps(verySlow.discountPercent, "timeToFirstToken[1].discountPercent"),
    },
    upfrontPrice: 0n,
    minimumSpend: 0n,
    transferable: false,
    minEvidenceTier: 0,
    arbitrator: ZeroAddress,
  };
}

/** Basis points of a percentage with at most two decimals. */
function bps(percent: number, name: string): number {
  const value = Math.round(percent * 100);
  if (!(value >= 0 && value <= 10_000) || Math.abs(value - percent * 100) > 1e-6) {
    throw new UserError(`${name} must be between 0 and 100 with at most two decimals; it is ${percent}.`);
  }
  return value;
}

licetTask("plan:create", "Offers licenses of a model", createPlan)
  .addParam("asset", "The model's id", undefined, types.int)
  .addParam("terms", "A JSON file of the terms, such as models/lic380k.plan.json")
  .addParam("licenseText", "The file of the license text that people read")
  .addOptionalParam("attestor", "Address of the attestor (default: the deployment's committee)");
