/**
 * Sells licenses to whoever pays by x402. The gateway's own account is paid, buys a license for the payer, and funds it.
 * Every step is stored before it is done, and each of its transactions has a purpose that is served once (see AccountSender),
 * so that it can die anywhere and go on from there:
 *
 *   accepted ──> paid ──> bought
 *      │           └────> refunding ──> refunded      the escrow wouldn't sell
 *      └──> failed                                    the money never came, and can't come any more
 *
 * One payment brings one license, or comes back whole. Whoever makes the payment on the chain, it counts.
 */
import { setTimeout as wait } from "node:timers/promises";
import { ChainRefusal, type Sender, type Call } from "../settler/sender";
import { isProvable, type ModelConfig } from "../gateway/models";
import type { Log } from "../log";
import { type Turn, TurnLost } from "../store/leases";
import { Problem, reasonOf } from "../problem";
import { Tier } from "../protocol/tiers";
import type { PaymentFate, PlanOnSale, PrepaymentChain } from "./prepaymentChain";
import { identityIn, MOST_VALIDITY, paymentIn, type Requirements, type SignedPayment } from "./exact";
import type { Store } from "../store/store";

export interface PrepaymentConfig {
  operatorId: number;
  /** Of the licenses that are sold: without a minimum, of one of the gateway's models. */
  planId: number;
  /** What funds a license, in units of the currency. */
  deposit: bigint;
  /** What the gateway keeps for its gas and its trouble, in units of the currency. */
  fee: bigint;
  /** How long payers' signatures are asked to count, seconds. */
  validSeconds: number;
  /** How many payments are accepted an hour: what they may cost in gas at most. */
  perHour: number;
}

export type PrepaymentState = "accepted" | "paid" | "bought" | "refunding" | "refunded" | "failed";

export interface Prepayment {
  payment: SignedPayment;
  planId: number;
  /** Units of the currency: what funds the license, and what it costs in all. */
  deposit: bigint;
  price: bigint;
  /** Unix seconds. */
  acceptedAt: number;
  state: PrepaymentState;
  /** Of the transaction that made the payment. */
  paymentHash: string | null;
  /** Of the transaction that bought the license, or sent the money back. */
  resultHash: string | null;
  licenseId: bigint | null;
  /** Why it failed, or the money went back. */
  reason: string | null;
}

export interface PrepaymentDeps {
  chain: PrepaymentChain;
  sender: PayingSender;
  store: Pick<Store, "prepayments" | "recovery">;
  log: Log;
  /** Where several gateways sell with one account and store: each accepts payments, and one brings licenses about. */
  turn?: Turn;
  /** Why the account can't pay the gas of another sale; null if it can. */
  gas?: () => Promise<string | null> | string | null;
  /** When it aborts, what another gateway does isn't waited for any longer. */
  signal?: AbortSignal;
  now(): Promise<number>;
}

/** The account that is paid. */
export interface PayingSender extends Pick<Sender, "submit" | "follow"> {
  readonly address: string;
}

/** What is asked for can't be sold at the moment: the text says why. */
export class NotOnSale extends Error {
  override name = "NotOnSale";
}

/** The payment isn't made, and may still be: the text says what is in the way. */
export class PaymentRefused extends Error {
  override name = "PaymentRefused";
}

/** It goes on by itself: the same payment, sent again, tells what has become of it. */
export class StillUnderWay extends Error {
  override name = "StillUnderWay";
}

const USED_OTHERWISE = "the authorization was used otherwise, or cancelled";
const AN_HOUR = 3_600;
/** How long a purchase may wait for its block, in seconds. */
const PURCHASE_PERIOD = AN_HOUR;
const ENOUGH_ALLOWANCE = 2n ** 128n;
/** How many payments are looked at at once. */
const MOST_AT_ONCE = 16;
/** How long a payer waits for what another gateway does, and how often that is looked for. */
const OTHERS_TIMEOUT_MS = 120_000;
const OTHERS_POLL_MS = 200;

/** Anybody may ask what a license costs, as often as it likes: the chain is asked no more often than that. */
const GAS_MS = 2_000;

export class Prepayments {
  private gas: { until: number; problem: Promise<string | null> } = {
    until: -Infinity,
    problem: Promise.resolve(null),
  };
  private readonly running = new Map<string, Promise<Prepayment>>();
  /** What isn't finished and was looked at here. */
  private looked = new Set<string>();

  private constructor(
    private readonly config: PrepaymentConfig,
    private readonly deps: PrepaymentDeps,
    private readonly upfrontPrice: bigint,
  ) {}

  /** @throws Problem if licenses of the plan can't be sold like that */
  static async open(config: PrepaymentConfig, deps: PrepaymentDeps, models: readonly Offered[]): Promise<Prepayments> {
    const plan = await deps.chain.plan(config.planId);
    requireSellable(plan, config.planId, models);
    if (!(await deps.chain.serves(config.operatorId, config.planId))) {
      throw new Problem(
        `gateway.x402: operator ${config.operatorId} doesn't serve plan ${config.planId}: operator:serve.`,
      );
    }
    return new Prepayments(config, deps, plan.upfrontPrice);
  }

  /** What a license costs here. */
  get requirements(): Requirements {
    const { chain, sender } = this.deps;
    return {
      scheme: "exact",
      network: `eip155:${chain.chainId}`,
      amount: String(this.price + this.config.fee),
      asset: chain.currency,
      payTo: sender.address,
      maxTimeoutSeconds: this.config.validSeconds,
      extra: chain.domain,
    };
  }

  /** @throws NotOnSale while the account can't pay the gas of a sale: nobody is asked for money then */
  async requireGas(): Promise<void> {
    const { gas, log } = this.deps;
    if (gas === undefined) return;
    if (performance.now() >= this.gas.until) {
      const problem = (async () => gas())().catch((cause) => {
        log.warn("Whether there is gas for sales can't be told", { cause });
        return null;
      });
      this.gas = { until: performance.now() + GAS_MS, problem };
    }
    if ((await this.gas.problem) === null) return;
    throw new NotOnSale(
      "no licenses are sold at the moment, since the account that sells them can't pay its gas: try again later; API keys work as ever",
    );
  }

  private get price(): bigint {
    return this.config.deposit + this.upfrontPrice;
  }

  /**
   * Takes a payment, in a header, and buys its license; or says what became of it before.
   * @returns a prepayment that is bought, refunded or failed
   * @throws PaymentMalformed, PaymentRefused, NotOnSale, StillUnderWay
   */
  async take(header: string): Promise<Prepayment> {
    const { payer, nonce } = identityIn(header);
    const known = await this.deps.store.prepayments.find(payer, nonce);
    if (known === null && this.running.size >= MOST_AT_ONCE) {
      throw new NotOnSale(`${this.running.size} payments are under way: try again in a moment`);
    }
    return this.once({ payer, nonce }, async () => this.finish(known ?? (await this.accept(header))));
  }

  /**
   * Goes on with what isn't finished, if it is this one's turn; what fails is logged, and the next time comes.
   * @param which "new" is what it hasn't looked at yet: what other gateways have accepted
   */
  async resume(which: "all" | "new" = "all"): Promise<void> {
    const { store, sender, turn } = this.deps;
    if (turn?.isMine === false) return;
    const unfinished = (await store.prepayments.unfinished())
      .map(({ payment }) => payment)
      .filter(({ payTo }) => payTo === sender.address);
    const keys = unfinished.map(keyOf);
    this.looked = new Set(keys.filter((key) => this.looked.has(key)));
    const wanted = unfinished.filter((_payment, i) => {
      return !this.running.has(keys[i]) && (which === "all" || !this.looked.has(keys[i]));
    });
    const free = Math.max(0, MOST_AT_ONCE - this.running.size);
    await Promise.all(wanted.slice(0, free).map((payment) => this.goOn(payment)));
  }

  private async goOn(payment: SignedPayment): Promise<void> {
    const { payer, nonce } = payment;
    this.looked.add(keyOf(payment));
    try {
      await this.once(payment, async () => this.advance((await this.deps.store.prepayments.find(payer, nonce))!));
    } catch (cause) {
      this.deps.log.warn("Prepayment waits", { payer, nonce, reason: reasonOf(cause) });
    }
  }

  /** When nothing is under way here any more. */
  async idle(): Promise<void> {
    await Promise.allSettled(this.running.values());
  }

  /** What served a purpose is undone, by the chain: its step is to be done again. */
  async undone(purpose: string): Promise<void> {
    const [, step, payer, nonce] = purpose.split(" ");
    const known = nonce === undefined ? null : await this.deps.store.prepayments.find(payer, nonce);
    const state = ({ payment: "accepted", purchase: "paid", refund: "refunding" } as const)[step];
    if (known !== null && state !== undefined) await this.deps.store.prepayments.update({ ...known, state });
  }

  /** Two at once would do a step twice. */
  private once(payment: Identity, work: () => Promise<Prepayment>): Promise<Prepayment> {
    const key = keyOf(payment);
    const running = this.running.get(key) ?? work().finally(() => this.running.delete(key));
    this.running.set(key, running);
    return running;
  }

  /** Nothing is sent for a payment before the currency would make it, and it is stored. */
  private async accept(header: string): Promise<Prepayment> {
    const { chain, store, now } = this.deps;
    const at = await now();
    const payment = paymentIn(header, this.requirements, at);
    const { state } = await chain.fateOf(payment);
    if (state === "void") throw new PaymentRefused(USED_OTHERWISE);
    if (state !== "open") await this.requireUnforgotten(at);
    // One that is made already waits for gas, and brings its license then.
    if (state === "open") await this.requireGas();
    if (state === "open") await this.requirePayable(payment);
    await this.requireOnSale(at);
    const prepayment: Prepayment = {
      payment,
      planId: this.config.planId,
      deposit: this.config.deposit,
      price: this.price,
      acceptedAt: at,
      state: "accepted",
      paymentHash: null,
      resultHash: null,
      licenseId: null,
      reason: null,
    };
    await store.prepayments.save(prepayment);
    return (await store.prepayments.find(payment.payer, payment.nonce))!;
  }

  /** A payment that was made may have brought a license that a rebuilt store knows nothing of. */
  private async requireUnforgotten(at: number): Promise<void> {
    if (at > (await this.deps.store.recovery.rebuiltAt()) + MOST_VALIDITY) return;
    throw new PaymentRefused(
      "the payment was made already, and this gateway has lost what became of those of a day: if it brought no license, ask the operator",
    );
  }

  private async requireOnSale(at: number): Promise<void> {
    const { chain, store } = this.deps;
    const { planId, operatorId, perHour } = this.config;
    const [plan, serves, recent] = await Promise.all([
      chain.plan(planId),
      chain.serves(operatorId, planId),
      store.prepayments.countSince(at - AN_HOUR),
    ]);
    if (plan?.isOpen !== true) throw new NotOnSale(`plan ${planId} sells no more licenses`);
    if (!serves) throw new NotOnSale(`operator ${operatorId} doesn't serve plan ${planId} any more`);
    if (recent >= perHour) throw new NotOnSale(`${recent} licenses were sold within the hour: try again later`);
  }

  private async requirePayable(payment: SignedPayment): Promise<void> {
    await this.deps.chain.requirePayable(payment).catch((cause: Error) => {
      if (cause instanceof ChainRefusal) throw new PaymentRefused(cause.message, { cause });
      throw cause;
    });
  }

  /** Brings it about or, while it is another gateway's turn, waits until that has. */
  private async finish(prepayment: Prepayment): Promise<Prepayment> {
    const { store, turn, signal } = this.deps;
    const { payer, nonce } = prepayment.payment;
    let at = prepayment;
    const deadline = performance.now() + OTHERS_TIMEOUT_MS;
    while (performance.now() < deadline && signal?.aborted !== true) {
      try {
        if (turn?.isMine !== false || isFinished(at)) return await this.advance(at);
      } catch (cause) {
        if (!(cause instanceof TurnLost)) throw cause;
      }
      await wait(OTHERS_POLL_MS, undefined, { signal }).catch(() => undefined);
      at = (await store.prepayments.find(payer, nonce))!;
    }
    throw new StillUnderWay("another of the operator's gateways is at it");
  }

  /** As far as it gets: to bought, refunded or failed. */
  private async advance(prepayment: Prepayment): Promise<Prepayment> {
    let at = prepayment;
    if (at.state === "accepted") at = await this.collect(at);
    if (at.state === "paid") at = await this.buy(at);
    if (at.state === "refunding") at = await this.refund(at);
    return at;
  }

  /** Has the payment made, or finds that somebody else had. */
  private async collect(prepayment: Prepayment): Promise<Prepayment> {
    const { chain } = this.deps;
    const { payment } = prepayment;
    let fate = await chain.fateOf(payment);
    let problem: unknown;
    if (fate.state === "open") {
      try {
        const paymentHash = await this.serve("payment", payment, () => chain.payment(payment));
        return await this.step(prepayment, { state: "paid", paymentHash });
      } catch (cause) {
        problem = cause;
      }
      fate = await chain.fateOf(payment);
    }
    if (fate.state === "made") return this.step(prepayment, { state: "paid", paymentHash: fate.hash });
    if (fate.state === "void") {
      return this.step(prepayment, { state: "failed", reason: USED_OTHERWISE });
    }
    return this.unpaid(prepayment, fate, problem);
  }

  /** A signature that still counts may still be used, by anybody. */
  private async unpaid(prepayment: Prepayment, fate: PaymentFate, problem: unknown): Promise<Prepayment> {
    if (fate.state === "pending") throw new StillUnderWay("the payment isn't final yet");
    const reason = problem === undefined ? "the payment wasn't made" : reasonOf(problem);
    if (problem !== undefined && !(problem instanceof ChainRefusal)) throw underWay(problem);
    if ((await this.deps.now()) >= prepayment.payment.validBefore)
      return this.step(prepayment, { state: "failed", reason });
    throw new PaymentRefused(reason, { cause: problem });
  }

  private async buy(prepayment: Prepayment): Promise<Prepayment> {
    const { chain, now } = this.deps;
    const { payment, planId, deposit: amount, price: maxPrice } = prepayment;
    const { operatorId } = this.config;
    try {
      await this.requireAllowance();
      const hash = await this.serve("purchase", payment, async () =>
        chain.purchase({
          planId,
          operatorId,
          to: payment.payer,
          amount,
          maxPrice,
          deadline: (await now()) + PURCHASE_PERIOD,
        }),
      );
      const licenseId = await chain.licenseBoughtIn(hash);
      const bought = await this.step(prepayment, { state: "bought", resultHash: hash, licenseId });
      this.deps.log.info("License sold by x402", { licenseId, payer: payment.payer, transaction: hash });
      return bought;
    } catch (cause) {
      if (!(cause instanceof ChainRefusal)) throw underWay(cause);
      this.deps.log.warn("License can't be bought: the payment goes back", { payer: payment.payer, cause });
      return this.step(prepayment, { state: "refunding", reason: cause.message });
    }
  }

  /** The escrow takes from the account what licenses cost; the account has nothing else. */
  private async requireAllowance(): Promise<void> {
    const { chain, sender } = this.deps;
    if ((await chain.allowance(sender.address)) >= ENOUGH_ALLOWANCE) return;
    const purpose = "x402 allowance";
    await sender.follow(purpose, await sender.submit(purpose, () => chain.approval()));
  }

  private async refund(prepayment: Prepayment): Promise<Prepayment> {
    const { payer, amount } = prepayment.payment;
    try {
      const hash = await this.serve("refund", prepayment.payment, () => this.deps.chain.transfer(payer, amount));
      return await this.step(prepayment, { state: "refunded", resultHash: hash });
    } catch (cause) {
      throw underWay(cause);
    }
  }

  /** @returns the transaction's hash. @throws ChainRefusal if a contract refused it */
  private async serve(step: string, { payer, nonce }: SignedPayment, callOf: () => Promise<Call>): Promise<string> {
    const purpose = `x402 ${step} ${payer} ${nonce}`;
    const { sender } = this.deps;
    const { fate, hash } = await sender.follow(purpose, await sender.submit(purpose, callOf));
    if (fate === "confirmed") return hash;
    if (fate === "reverted") throw new ChainRefusal(`transaction ${hash} was reverted`);
    throw new Error(`transaction ${hash} was replaced: it is sent again`);
  }

  private async step(prepayment: Prepayment, changes: Partial<Prepayment>): Promise<Prepayment> {
    const changed = { ...prepayment, ...changes };
    const { store, turn } = this.deps;
    await store.prepayments.update(changed, turn?.lease);
    return changed;
  }
}

/** What isn't this process's any more is waited for; anything else is for the payer to ask about again. */
function underWay(cause: unknown): Error {
  return cause instanceof TurnLost ? cause : new StillUnderWay(reasonOf(cause), { cause });
}

type Identity = Pick<SignedPayment, "payer" | "nonce">;

function keyOf({ payer, nonce }: Identity): string {
  return `${payer} ${nonce}`;
}

function isFinished({ state }: Prepayment): boolean {
  return state === "bought" || state === "refunded" || state === "failed";
}

/** What of a gateway's models decides which plans it can sell. */
type Offered = Pick<ModelConfig, "assetId" | "hasVerifier" | "keepInputs">;

function requireSellable(
  plan: PlanOnSale | null,
  planId: number,
  models: readonly Offered[],
): asserts plan is PlanOnSale {
  if (plan === null) throw new Problem(`gateway.x402.planId: there is no plan ${planId} on this chain.`);
  const offered = models.filter(({ assetId }) => assetId === plan.assetId);
  if (offered.length === 0) {
    throw new Problem(
      `gateway.x402.planId: plan ${planId} is of asset ${plan.assetId}, which the gateway doesn't serve.`,
    );
  }
  if (plan.minEvidenceTier === Tier.proven && !offered.some(isProvable)) {
    throw new Problem(
      `gateway.x402.planId: plan ${planId} demands proven answers, and none of the gateway's models of asset ${plan.assetId} gives ` +
        `any: serve a version that names a verifier, with "keepInputs": true, or name another plan.`,
    );
  }
  if (plan.minimumSpend === 0n) return;
  throw new Problem(
    `gateway.x402.planId: plan ${planId} has a minimum of ${plan.minimumSpend} units, which would commit a payer who asked ` +
      `for none: name a pay-as-you-go plan.`,
  );
}
