import type { domainOf } from "../protocol/messages";
import type { Usage } from "../protocol/types";

/** A license's account, as the chain has it now. */
export interface LicenseState {
  licenseId: bigint;
  owner: string;
  planId: number;
  operatorId: number;
  generation: number;
  /** Units of the currency; includes what is thawing. */
  balance: bigint;
  /** The part of the balance that is on its way out and must not be served against. */
  thawing: bigint;
  /** What the term before may still cost it for its minimum: that must not be served against either. */
  owed: bigint;
  /** Spent in the term that runs. */
  spent: bigint;
  /** The lower of the plan's and the licensee's caps a term; 0 is none. */
  cap: bigint;
  expiresAt: number;
  /** Epochs that start earlier aren't charged: its term was started by hand, and late. 0 is any, Unix seconds. */
  countsFrom: number;
  /** Epochs that start then or later need a signature of each of its requests; 0 if its owner doesn't demand it, Unix seconds. */
  signedSince: number;
  renewal: Renewal;
  /** True while the license settles by vouchers and not by attested batches. */
  onVoucherRoad: boolean;
  /** Whether it was stopped: its use isn't charged any more. */
  stop: "locked" | "ended" | null;
  /** What was announced; null if nothing was. */
  serviceChange: ServiceChange | null;
  planChange: PlanChange | null;
  /** The plan of the term before, of which use may still settle; null if that was the present one. */
  formerPlan: FormerPlan | null;
}

/** How a license's next term starts: by settlement, which needs nobody; by anybody's call, for a plan with a minimum; or never. */
export type Renewal = "settled" | "called" | "none";

/** Another operator or road for a license. From then on the present operator's use of it isn't charged. */
export interface ServiceChange {
  operatorId: number;
  onVoucherRoad: boolean;
  /** Unix seconds. */
  readyAt: number;
}

/** Another plan for a license. From then on its use isn't charged, until a term under that plan is started. */
export interface PlanChange {
  planId: number;
  /** Unix seconds. */
  changesAt: number;
}

export interface FormerPlan {
  planId: number;
  /** Unix seconds. */
  endedAt: number;
}

export interface PlanState {
  planId: number;
  assetId: number;
  /** Units of the currency per 1,000,000 units of each meter. */
  rates: Usage;
  attestor: string;
  /** The least evidence that receipts must have which cost something: see `Tier`. */
  minEvidenceTier: number;
}

export interface VersionState {
  versionId: bigint;
  assetId: number;
  manifestHash: string;
  /** Unix seconds: use in epochs that end later is refused. */
  usableUntil: number;
}

export interface OperatorState {
  operatorId: number;
  owner: string;
  endpoint: string;
  evidenceHash: string;
}

/** Who vouches for the batches of a plan, for a span of time. Addresses are checksummed. */
export interface Committee {
  /** The attestor contract that plans name. */
  address: string;
  /** Those who are plain addresses: others can't be asked over HTTP. */
  members: string[];
  /** What each member's signature counts for, by its address, while its bond covers it. */
  weights: Record<string, number>;
  /** Members whose bonds don't cover them: their signatures count for nothing now. */
  unbonded: string[];
  /** How much weight must sign. */
  threshold: number;
  /** When it came, or comes, into force, Unix seconds. */
  since: number;
}

/** A committee and those before and after it, as its contract has them now. */
export interface Committees {
  present: Committee;
  /** Whose signatures still count, for the present one's first window; else null. */
  former: Committee | null;
  /** Who comes next, if that is announced; else null. */
  announced: Committee | null;
}

/** What the last settled batch of a lane was. All zero before the first. */
export interface LaneState {
  sequence: bigint;
  epochStart: number;
  epochEnd: number;
}

/** What the oracle reads from the chain. Everything is as of the latest block; unknown ids give null. */
export interface Chain {
  /** Of UsageEscrow, the domain of every message in `messages.ts`. */
  readonly domain: ReturnType<typeof domainOf>;
  /** Longest epoch and settlement window of the deployment, in seconds. */
  readonly epochPeriod: number;
  readonly windowPeriod: number;
  /** Unix seconds: of the machine, or of the next block where the clock is the chain's. */
  now(): Promise<number>;
  license(licenseId: bigint): Promise<LicenseState | null>;
  /** The license's generation at time `at`, Unix seconds; 0 where it didn't exist yet. */
  generationAt(licenseId: bigint, at: number): Promise<number>;
  plan(planId: number): Promise<PlanState | null>;
  version(versionId: bigint): Promise<VersionState | null>;
  operator(operatorId: number): Promise<OperatorState | null>;
  /** Whether `key` was a signing key of the operator at time `at` (and has not been revoked since). */
  isSigningKey(operatorId: number, key: string, at: number): Promise<boolean>;
  /** Whether `key` was a signing key of the operator and was revoked: nothing of it counts any more. */
  isRevokedKey(operatorId: number, key: string): Promise<boolean>;
  /** Whether `account` signed `digest`: ECDSA with low s, or ERC-1271. */
  isSignatureOf(account: string, digest: string, signature: string): Promise<boolean>;
  /** Of a plan's attestor. @throws if that is no committee */
  committees(attestor: string): Promise<Committees>;
  lane(operatorId: number, planId: number, versionId: bigint): Promise<LaneState>;
  /** How much more of an operator's income its active stake lets be in flight, in units of the currency. */
  headroom(operatorId: number): Promise<bigint>;
}
