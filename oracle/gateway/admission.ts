import { ZeroAddress } from "ethers";
import { Cached } from "./cached";
import type { Chain, LicenseState, PlanState } from "../chain/chain";
import { withDeadline } from "../chain/deadline";
import { isRefusal, Ledger, type Refusal, type Reservation } from "./ledger";
import type { Limits } from "./limits";
import type { Log } from "../log";
import { dateOf } from "../problem";
import { decodeBearer, grantDigest, MalformedMessage, recoverSigner } from "../protocol/messages";
import { ApiError, type RequestKind } from "./openai";
import { isForNow } from "./presence";
import { CLASSIFICATIONS_PATH } from "../protocol/classification";
import { Tier } from "../protocol/tiers";
import type { Lane, SignedGrant, Usage } from "../protocol/types";
import type { Store } from "../store/store";
import type { Claim } from "../store/tallies";
import { unservable } from "./unservable";
import { isProvable, type ModelConfig } from "./models";
import type { VoucherDesk } from "./voucherDesk";
import { worstCost } from "./worstCase";

/** Who sent a request: a grant whose signature, generation and time are good, and the license that it is of. */
export interface Caller {
  grantHash: string;
  signed: SignedGrant;
  license: LicenseState;
}

/** A request that may go to its model: the money for its worst case is set aside. */
export interface Admitted {
  caller: Caller;
  plan: PlanState;
  model: ModelConfig;
  reservation: Reservation;
  /** The same, for the store, which holds it against what the operator's other gateways have set aside. */
  claim: Omit<Claim, "gateway">;
  /** What its usage is held to. */
  worst: Usage;
}

export interface AdmissionConfig {
  operatorId: number;
  /** How long a license's state on the chain is trusted. */
  licenseCacheMs: number;
  /** How long the chain may take to answer before its last known state serves. */
  chainTimeoutMs: number;
  /** The longest that a request may take: its receipt must still fall into its grant's time and its license's. */
  requestTimeoutMs: number;
  /** Length of the epochs that the operator's settler makes; the chain's longest if left out. */
  epochSeconds?: number;
  limits: Pick<Limits, "unproven">;
}

const PLANS_NEVER_CHANGE = Infinity;
/** How much later than its time a request's receipt may come: the model's connection, and a busy machine, take some. */
const LATE_SECONDS = 30;
const VERIFIED_CAPACITY = 10_000;
const MOST_STRANGERS = 64;
/** Stake changes seldom, and to sum up what all licenses owe takes a while: so many times longer than a license it is trusted. */
const HEADROOM_AGES = 5;
/** Stake is added, and batches are released, by somebody's hand. */
const STAKE_RETRY_SECONDS = 60;
/** A proof takes seconds. */
const BACKLOG_RETRY_SECONDS = 60;
const RENEWAL_RETRY_MS = 10_000;

/** Decides who may use a model while its receipts would count, and keeps the books of what running and unsettled requests may cost. */
export class Admission {
  readonly ledger = new Ledger();
  private readonly licenses: Cached<bigint, LicenseState | null>;
  private readonly plans: Cached<number, PlanState>;
  private readonly usableUntil: Cached<bigint, number>;
  private readonly signingKeys: Cached<string, boolean>;
  /** What the operator's stake still secures, and what was settled of all when it was read. */
  private readonly headroom: Cached<number, { headroom: bigint; freedOfAll: bigint }>;
  /** What was settled of a license before its state was read. */
  private readonly freedBefore = new WeakMap<LicenseState, bigint>();
  /** Sequence of a lane's last batch on the chain, by plan and version. */
  private readonly lastSettled: Cached<string, bigint>;
  /** Callers by API key, good as long as their license's state is the one that they were checked against. */
  private readonly verified = new Map<string, Caller>();
  /** When a settler was asked last to renew a license, by `performance.now()`. */
  private readonly renewalAskedAt = new Map<bigint, number>();
  /** When the log was told last that there is too little stake. */
  private complainedAt = -Infinity;
  /** Grants that are looked at for the first time, by API key: once, however many requests come under one. */
  private readonly strangers = new Map<string, Promise<Caller>>();

  /**
   * @param signer the address whose key signs receipts
   * @param desk takes vouchers; without it licenses that settle by them aren't served
   */
  constructor(
    private readonly config: AdmissionConfig,
    private readonly chain: Chain,
    private readonly store: Store,
    private readonly signer: string,
    private readonly log: Log,
    readonly desk?: VoucherDesk,
  ) {
    const { licenseCacheMs, chainTimeoutMs: deadlineMs } = config;
    const warn = (what: string) => (id: unknown, cause: unknown) =>
      log.warn("chain unreadable, serving by its last known state", { what, id, cause });
    const whileTrusted = { maxAgeMs: licenseCacheMs, deadlineMs };
    this.licenses = new Cached<bigint, LicenseState | null>(
      (id, signal) => this.readLicense(id, signal),
      whileTrusted,
      warn("license"),
    );
    this.plans = new Cached<number, PlanState>(
      (id) => this.readPlan(id),
      { maxAgeMs: PLANS_NEVER_CHANGE, deadlineMs },
      warn("plan"),
    );
    this.usableUntil = new Cached<bigint, number>(
      async (id) => (await chain.version(id))?.usableUntil ?? 0,
      whileTrusted,
      warn("version"),
    );
    this.signingKeys = new Cached<string, boolean>(
      (address) => this.readSigningKey(address),
      whileTrusted,
      warn("signing key"),
    );
    this.headroom = new Cached<number, { headroom: bigint; freedOfAll: bigint }>(
      (id, signal) => this.readHeadroom(id, signal),
      { ...whileTrusted, maxAgeMs: HEADROOM_AGES * licenseCacheMs },
      warn("stake"),
    );
    this.lastSettled = new Cached<string, bigint>(
      async (lane) => {
        const [planId, versionId] = lane.split("/");
        return (await chain.lane(config.operatorId, Number(planId), BigInt(versionId))).sequence;
      },
      whileTrusted,
      warn("lane"),
    );
  }

  /** Reads a license anew, and the stake that secures what it is charged: after a deposit, a withdrawal or a settlement. */
  async refresh(licenseId: bigint): Promise<void> {
    await Promise.all([this.licenses.refresh(licenseId), this.headroom.refresh(this.config.operatorId)]);
  }

  /** Who sends this authorization header. Throws ApiError 401 or 403. */
  async authenticate(authorization: string | undefined, now: number): Promise<Caller> {
    const caller = await this.identify(authorization);
    await this.requireInForce(caller, now);
    return caller;
  }

  /** The same, whether or not the grant is in force. */
  async identify(authorization: string | undefined): Promise<Caller> {
    const token = /^Bearer +(\S+)$/i.exec(authorization ?? "")?.[1];
    if (token === undefined)
      throw unauthorized("missing_api_key", "send your grant: 'Authorization: Bearer <API key>'");
    const signed = decodeToken(token);
    return this.verified.has(token) ? this.verify(token, signed) : this.meet(token, signed);
  }

  /**
   * Returns if the license's owner signed the digest. Throws ApiError 401 or 503.
   * @param what was signed, for the sentence
   */
  async requireOwnersSignature(licenseId: bigint, digest: string, signature: string, what: string): Promise<void> {
    await this.requireSignedBy(await this.licenseOf(licenseId), digest, signature, what);
  }

  /** Lets a caller's request through to a model and sets its worst cost aside. Throws ApiError 402, 403, 429 or 503. */
  async admit(caller: Caller, model: ModelConfig, kind: RequestKind, worst: Usage, now: number): Promise<Admitted> {
    await this.requireSigningKey();
    await this.requireServable(caller.license, now);
    this.requireSigned(caller, now);
    const plan = await this.planOf(caller.license, model);
    requireProvable(caller.license, plan, model, kind);
    await this.requireUsable(model, now);
    const lane = { operatorId: this.config.operatorId, planId: plan.planId, versionId: model.versionId };
    await this.requireOwnPast(lane);
    if (isProofDemanded(caller.license, plan)) await this.requireProofsInTime(lane);
    const { signed, grantHash } = caller;
    const grant = { hash: grantHash, cap: signed.grant.cap };
    if (caller.license.onVoucherRoad) return this.admitByVoucher(caller, { plan, model, grant, worst }, now);
    const { headroom, freedOfAll } = await fromChain(this.headroom.get(this.config.operatorId));
    // The ledger goes with the license as it was read last, which may have been since the caller was authenticated.
    const license = this.licenses.last(caller.license.licenseId) ?? caller.license;
    const answer = this.ledger.reserve(license, grant, worstCost(worst, plan.rates), headroom);
    if (isRefusal(answer)) throw this.refused(answer, license);
    const freed = this.freedBefore.get(license) ?? 0n;
    const claim = {
      amount: answer.amount,
      balance: freed + license.balance - license.thawing - license.owed,
      cap: license.cap === 0n ? undefined : freed + license.cap - license.spent,
      grantCap: grant.cap,
      stake: freedOfAll + headroom,
    };
    return { caller, plan, model, reservation: answer, claim, worst };
  }

  private async admitByVoucher(
    caller: Caller,
    {
      plan,
      model,
      grant,
      worst,
    }: Pick<Admitted, "plan" | "model" | "worst"> & { grant: { hash: string; cap: bigint } },
    now: number,
  ): Promise<Admitted> {
    const { license } = caller;
    const cost = worstCost(worst, plan.rates);
    const tab = await fromChain(this.desk!.tabOf(license, now, this.latestEnd(now)));
    const latest = this.licenses.last(license.licenseId) ?? license;
    const refusal = tab.refusalOf(latest, cost);
    if (refusal !== null) throw refused(refusal, license);
    const answer = this.ledger.reserveByVoucher(license.licenseId, grant, cost);
    if (isRefusal(answer)) throw this.refused(answer, license);
    const claim = { amount: answer.amount, grantCap: grant.cap, voucher: tab.claimOf(latest) };
    return { caller, plan, model, reservation: answer, claim, worst };
  }

  /** Ends a request's reservation with what it cost. */
  settle({ reservation }: Admitted, cost: bigint): void {
    this.ledger.settle(reservation, cost);
  }

  /** Takes a voucher of the caller's license, if that settles by them. Throws ApiError if it isn't worth what it says. */
  async takeVoucher(caller: Caller, packed: string, now: number): Promise<void> {
    if (this.paysHere(caller)) await fromChain(this.desk!.take(caller.license, packed, now, this.latestEnd(now)));
  }

  /** What the caller's license owes, as JSON. Throws ApiError 403 if it isn't on the voucher road. */
  async voucherAccount(caller: Caller, now: number): Promise<object> {
    const { license } = caller;
    if (this.paysHere(caller)) return fromChain(this.desk!.accountOf(license, now, this.latestEnd(now)));
    throw forbidden(
      "not_by_vouchers",
      `license ${license.licenseId} doesn't settle by vouchers here: nothing is to be signed for`,
    );
  }

  private paysHere({ license }: Caller): boolean {
    return license.onVoucherRoad && license.operatorId === this.config.operatorId && this.desk !== undefined;
  }

  /**
   * The chain's state and what it doesn't know yet. The store is read first: a batch that settles in between then counts
   * twice for a moment, and never not at all. What finishes in between is what the ledger has grown by.
   */
  private async readLicense(licenseId: bigint, signal: AbortSignal): Promise<LicenseState | null> {
    const { cost, freed } = await this.store.tallies.of(licenseId);
    const before = this.ledger.unsettled(licenseId);
    const license = await this.chain.license(licenseId);
    signal.throwIfAborted();
    if (license !== null) {
      this.freedBefore.set(license, freed);
      this.ledger.setUnsettled(licenseId, cost - freed + this.ledger.unsettled(licenseId) - before);
    }
    return license;
  }

  /** What the operator's stake still secures. Settlement would refuse what is beyond it: the store is read first, as above. */
  private async readHeadroom(
    operatorId: number,
    signal: AbortSignal,
  ): Promise<{ headroom: bigint; freedOfAll: bigint }> {
    const { cost, freed: freedOfAll } = await this.store.tallies.ofAll();
    const before = this.ledger.unsettledOfAll;
    const headroom = await this.chain.headroom(operatorId);
    signal.throwIfAborted();
    this.ledger.setUnsettledOfAll(cost - freedOfAll + this.ledger.unsettledOfAll - before);
    return { headroom, freedOfAll };
  }

  /** What a client is told if the store refused its request, since others came first. Throws ApiError 402 if a voucher is due. */
  async refusedLate(refusal: Refusal, { caller: { license } }: Admitted, now: number): Promise<ApiError> {
    if (refusal.limit === "credit") {
      const tab = await fromChain(this.desk!.tabOf(license, now, this.latestEnd(now)));
      tab.refusalOf(this.licenses.last(license.licenseId) ?? license, refusal.needed);
    }
    return this.refused(refusal, license);
  }

  /** What a client is told of the limit that stands against its request. */
  private refused(refusal: Refusal, license: LicenseState): ApiError {
    if (refusal.limit !== "stake") return refused(refusal, license);
    const { operatorId } = this.config;
    const { needed, available, reserved } = refusal;
    const isForNow = needed <= available + reserved;
    if (!isForNow) this.complainOfStake(refusal);
    return new ApiError(
      503,
      "stake_exceeded",
      `the request may cost up to ${needed} units, and operator ${operatorId} has stake for ${available} more` +
        `${isForNow ? `, and ${reserved} that running requests hold` : ""}: try again later, or lower max_tokens`,
      { retryAfterSeconds: isForNow ? 1 : STAKE_RETRY_SECONDS },
    );
  }

  /** Now and then: clients ask again and again. */
  private complainOfStake(refusal: Refusal): void {
    const now = performance.now();
    if (now - this.complainedAt < STAKE_RETRY_SECONDS * 1_000) return;
    this.complainedAt = now;
    const { operatorId } = this.config;
    this.log.error("stake doesn't secure more: add to it, or release batches", { operatorId, ...refusal });
  }

  private async readPlan(planId: number): Promise<PlanState> {
    const plan = await this.chain.plan(planId);
    if (plan === null) throw new Error(`the chain has no plan ${planId}, though a license is under it`);
    return plan;
  }

  /** Whether receipts signed with this key count for all requests that begin now. */
  private async readSigningKey(address: string): Promise<boolean> {
    const { operatorId } = this.config;
    const isValid = await this.chain.isSigningKey(operatorId, address, this.latestEnd(await this.chain.now()));
    if (!isValid) this.log.error("signing key isn't valid, serving nobody", { address, operatorId });
    return isValid;
  }

  /** The chain is asked about strangers, and some of them make their grants up: only so many at once. */
  private meet(token: string, signed: SignedGrant): Promise<Caller> {
    const meeting = this.strangers.get(token);
    if (meeting !== undefined) return meeting;
    if (this.strangers.size >= MOST_STRANGERS) {
      throw new ApiError(503, "gateway_full", "too many new grants come at once: try again in a moment", {
        retryAfterSeconds: 1,
      });
    }
    const verified = this.verify(token, signed).finally(() => this.strangers.delete(token));
    this.strangers.set(token, verified);
    return verified;
  }

  private async verify(token: string, signed: SignedGrant): Promise<Caller> {
    const { licenseId } = signed.grant;
    const license = await this.licenseOf(licenseId);
    const known = this.verified.get(token);
    if (known?.license === license) return known;

    const grantHash = grantDigest(this.chain.domain, signed.grant);
    await this.requireSignedBy(license, grantHash, signed.signature, "the grant");
    const before = this.ledger.grantUsed(grantHash);
    const stored = await this.store.grants.used(grantHash);
    this.ledger.setGrantUsed(grantHash, stored + this.ledger.grantUsed(grantHash) - before);
    return this.remember(token, { grantHash, signed, license });
  }

  private async licenseOf(licenseId: bigint): Promise<LicenseState> {
    const license = await fromChain(this.licenses.get(licenseId));
    if (license !== null) return license;
    throw unauthorized("unknown_license", `license ${licenseId} doesn't exist on this chain`);
  }

  private async requireSignedBy(
    { licenseId, owner }: LicenseState,
    digest: string,
    signature: string,
    what: string,
  ): Promise<void> {
    const { chainTimeoutMs } = this.config;
    if (await fromChain(withDeadline(chainTimeoutMs, () => this.chain.isSignatureOf(owner, digest, signature)))) return;
    throw unauthorized("wrong_signature", `${what} isn't signed by the owner of license ${licenseId}`);
  }

  private remember(token: string, caller: Caller): Caller {
    this.verified.delete(token);
    this.verified.set(token, caller);
    if (this.verified.size > VERIFIED_CAPACITY) this.verified.delete(this.verified.keys().next().value as string);
    return caller;
  }

  private async requireInForce({ grantHash, signed: { grant }, license }: Caller, now: number): Promise<void> {
    if (grant.generation !== license.generation) {
      throw unauthorized(
        "grant_ended",
        `the grant is of generation ${grant.generation}, the license's is ${license.generation}: sign a new grant`,
      );
    }
    if (now < grant.notBefore)
      throw unauthorized("grant_not_yet_valid", `the grant is valid from ${dateOf(grant.notBefore)}`);
    if (this.latestEnd(now) >= grant.expiresAt) {
      throw unauthorized(
        "grant_expired",
        `the grant expires at ${dateOf(grant.expiresAt)}, before a request may be done: sign a new one`,
      );
    }
    if (await this.store.grants.isRevoked(license.licenseId, grantHash))
      throw unauthorized("grant_revoked", "the grant was revoked: sign a new one");
  }

  private async requireSigningKey(): Promise<void> {
    if (await fromChain(this.signingKeys.get(this.signer))) return;
    throw new ApiError(
      503,
      "signing_key_invalid",
      `receipts by this gateway's key ${this.signer} wouldn't count: operator ${this.config.operatorId} must register it anew, or configure another`,
    );
  }

  private async requireServable(license: LicenseState, now: number): Promise<void> {
    const { operatorId, epochSeconds = this.chain.epochPeriod } = this.config;
    const { windowPeriod } = this.chain;
    const until = this.latestEnd(now);
    const reason = unservable(license, {
      ...{ operatorId, from: now, until, epochSeconds, windowPeriod },
      takesVouchers: this.desk !== undefined,
    });
    if (reason === null) return;
    if (reason.code === "term_over" && now >= license.expiresAt) await this.askToRenew(license.licenseId);
    throw new ApiError(reason.status, reason.code, reason.message);
  }

  /** Of whoever settles for this store, in whatever process; clients ask again and again. */
  private async askToRenew(licenseId: bigint): Promise<void> {
    const now = performance.now();
    if (now - (this.renewalAskedAt.get(licenseId) ?? -Infinity) < RENEWAL_RETRY_MS) return;
    this.renewalAskedAt.set(licenseId, now);
    await this.store.renewals.ask(licenseId).catch((cause) => {
      this.renewalAskedAt.delete(licenseId);
      this.log.warn("renewal can't be asked for", { licenseId, cause });
    });
  }

  /** The receipt may come into any epoch from now on. */
  private requireSigned({ signed: { grant, signature }, grantHash, license }: Caller, now: number): void {
    const { licenseId, owner, signedSince } = license;
    if (signedSince === 0 || this.latestEnd(now) < signedSince) return;
    const demand = `the owner of license ${licenseId} demands that each request is signed, from ${dateOf(signedSince)} on`;
    if (grant.key === ZeroAddress) {
      throw forbidden(
        "signed_requests_demanded",
        `${demand}: use a grant that names a key (license:grant --request-key)`,
      );
    }
    // A contract could unsay the grant before the court, which takes the operator's charge and stake then.
    if (!isSignedByKeyOf(owner, grantHash, signature)) {
      throw forbidden(
        "grant_unprovable",
        `${demand}, and ${owner} is a contract, which could deny later that it signed the grant: end the demand ` +
          `(demandSigning), or give the license to an account with a key of its own`,
      );
    }
  }

  /** When a request that begins now is done at the latest, Unix seconds. */
  private latestEnd(now: number): number {
    return now + Math.ceil(this.config.requestTimeoutMs / 1_000) + LATE_SECONDS;
  }

  private async planOf(license: LicenseState, model: ModelConfig): Promise<PlanState> {
    const plan = await fromChain(this.plans.get(license.planId));
    if (plan.assetId === model.assetId) return plan;
    throw forbidden(
      "wrong_model",
      `license ${license.licenseId} is for asset ${plan.assetId}, model ${model.id} is asset ${model.assetId}`,
    );
  }

  /** A store that lacks batches gives receipts numbers that were used before, and attestors let none of them pass. */
  private async requireOwnPast(lane: Lane): Promise<void> {
    const settled = await fromChain(this.lastSettled.get(`${lane.planId}/${lane.versionId}`));
    const known = await this.store.batches.lastSequence(lane);
    if (settled <= known) return;
    this.log.error("store lacks batches that the chain has: restore it", { lane, settled, known });
    throw new ApiError(
      503,
      "store_outdated",
      `this gateway's store knows batches up to ${known}, and the chain has ${settled}: its operator must restore the store`,
    );
  }

  /** Answers come faster than proofs: what isn't proven in time is paid by nobody. */
  private async requireProofsInTime(lane: Lane): Promise<void> {
    const { unproven } = this.config.limits;
    if (!(await this.store.proofs.hasUnproven(lane, unproven))) return;
    throw new ApiError(
      503,
      "proof_backlog",
      `${unproven} answers of plan ${lane.planId} wait for proofs, which it demands: try again when some have been proven`,
      { retryAfterSeconds: BACKLOG_RETRY_SECONDS },
    );
  }

  /** No epoch that ends after a recall is paid: the settler makes one end with it, and nothing may be done later. */
  private async requireUsable(model: ModelConfig, now: number): Promise<void> {
    const until = await fromChain(this.usableUntil.get(model.versionId));
    if (this.latestEnd(now) < until) return;
    throw forbidden(
      "model_recalled",
      `model ${model.id} was recalled by its publisher and isn't served beyond ${dateOf(until)}: use another, see /v1/models`,
    );
  }
}

async function fromChain<T>(reading: Promise<T>): Promise<T> {
  try {
    return await reading;
  } catch (cause) {
    if (cause instanceof ApiError) throw cause;
    if (isForNow(cause)) throw cause;
    throw new ApiError(503, "chain_unreadable", "the chain can't be read at the moment: try again", { cause });
  }
}

function decodeToken(token: string): SignedGrant {
  try {
    return decodeBearer(token);
  } catch (cause) {
    if (cause instanceof MalformedMessage) throw unauthorized("malformed_api_key", cause.message);
    throw cause;
  }
}

/** Where the licensee's own money or limits are in the way. */
function refused({ limit, needed, available, reserved }: Refusal, license: LicenseState): ApiError {
  const { licenseId, thawing, owed } = license;
  const worst = `the request may cost up to ${needed} units`;
  if (needed <= available + reserved) {
    return new ApiError(
      429,
      "reserved_by_running_requests",
      `${worst} and running requests hold ${reserved} of the ${available + reserved} that are left: try again when they have ended`,
      { retryAfterSeconds: 1 },
    );
  }
  const left = available + reserved;
  const leaving = thawing > 0n ? `, and ${thawing} on their way out` : "";
  const owing = owed > 0n ? `, and ${owed} that its last term may still cost` : "";
  const remedies: Partial<Record<Refusal["limit"], string>> = {
    balance: `license ${licenseId} has ${left} left${leaving}${owing}: deposit to it, or lower max_tokens`,
    cap: `license ${licenseId} may spend ${left} more in this term: raise its cap, wait for the next term, or lower max_tokens`,
    credit: `license ${licenseId} may owe ${left} more without having signed for it: sign a voucher (GET /v1/vouchers), or lower max_tokens`,
    grant: `the grant may spend ${left} more: use one with a higher cap, or lower max_tokens`,
  };
  return new ApiError(402, `${limit}_exceeded`, `${worst}; ${remedies[limit]}`);
}

function unauthorized(code: string, message: string): ApiError {
  return new ApiError(401, code, message);
}

function forbidden(code: string, message: string): ApiError {
  return new ApiError(403, code, message);
}

/** Where a plan demands proven answers, only what can be proven is served: no attestor would vouch for other use. Vouchers need none. */
export function requireProvable(license: LicenseState, plan: PlanState, model: ModelConfig, kind: RequestKind): void {
  if (!isProofDemanded(license, plan)) return;
  const [{ licenseId }, { planId }, { id, versionId }] = [license, plan, model];
  const demand = `plan ${planId} of license ${licenseId} demands proven answers`;
  if (kind !== "classification") {
    throw forbidden("proof_demanded", `${demand}, and this one couldn't be proven: ask at ${CLASSIFICATIONS_PATH}`);
  }
  if (isProvable(model)) return;
  const lacking =
    model.hasVerifier === true
      ? `the gateway keeps no inputs of model ${id} ("keepInputs")`
      : `version ${versionId} of model ${id} names no verifier`;
  throw new ApiError(503, "proof_impossible", `${demand}, and ${lacking}: have the operator see to it`);
}

/** What vouchers pay needs no proofs. */
function isProofDemanded({ onVoucherRoad }: LicenseState, { minEvidenceTier }: PlanState): boolean {
  return minEvidenceTier === Tier.proven && !onVoucherRoad;
}

/** Whether an account's own key signed; where a contract says so, it may say otherwise later. */
function isSignedByKeyOf(account: string, digest: string, signature: string): boolean {
  try {
    return recoverSigner(digest, signature) === account;
  } catch (cause) {
    if (cause instanceof MalformedMessage) return false;
    throw cause;
  }
}
