import { unpackOutcomes, type Outcome } from "../../../oracle/protocol/entries";
import { unpackVoucherOutcomes, type VoucherOutcome } from "../../../oracle/protocol/vouchers";
import type { UsageEscrow } from "../../../typechain-types";
import type { PlanTermsStructOutput } from "../../../typechain-types/contracts/LicenseRegistry";
import { BatchStatus } from "../market";
import type { ReplayedLicenses } from "./licenses";
import { Amounts, Ledger, nothing, type Reducer } from "./reducer";
import type { ReplayedStaking } from "./staking";

const newAccount = () => ({
  planId: 0n,
  operatorId: 0n,
  balance: 0n,
  spent: 0n,
  capCode: 0n,
  term: 0n,
  expiresAt: 0n,
  generation: 0n,
  onVoucherRoad: false,
  renews: false,
  isClosed: false,
  thawing: 0n,
  thawReadyAt: 0n,
  capCutCode: 0n,
  capCutReadyAt: 0n,
  nextOperatorId: 0n,
  nextOnVoucherRoad: false,
  serviceChangeReadyAt: 0n,
  nextPlanId: 0n,
  stoppedAt: 0n,
  isEnded: false,
  endedAt: 0n,
  endedSpent: 0n,
  formerPlanId: 0n,
});

export type Account = ReturnType<typeof newAccount>;

interface Batch {
  operatorId: bigint;
  planId: bigint;
  epochStart: bigint;
  epochEnd: bigint;
  charged: bigint;
  releasableAt: bigint;
  status: number;
}

const newVoucherKey = () => ({ cap: 0n, endsAt: 0n });
const newUpfront = () => ({ amount: 0n, paidAt: 0n, releasableAt: 0n, feeBps: 0n });
const newIncome = () => ({ earnings: 0n, forPool: 0n });

/** UsageEscrow's books, by its logs and by what plans say. Its views are named as the contract's. */
export class ReplayedEscrow {
  private readonly accounts = new Ledger<bigint, Account>(newAccount);
  private readonly upfronts = new Ledger<bigint, ReturnType<typeof newUpfront>>(newUpfront);
  private readonly batches = new Map<string, Batch>();
  private readonly outcomes = new Map<string, string>();
  private readonly generationEnds = new Amounts<string>();
  private readonly voucherKeys = new Ledger<string, ReturnType<typeof newVoucherKey>>(newVoucherKey);
  private readonly operatorIncomes = new Ledger<bigint, ReturnType<typeof newIncome>>(newIncome);
  private readonly assetIncomes = new Amounts<bigint>();
  private fees = 0n;
  private owed = 0n;
  private fee = 0n;
  private ceiling = 0n;
  private pauseEnd = 0n;

  constructor(
    private readonly licenses: ReplayedLicenses,
    private readonly staking: ReplayedStaking,
  ) {}

  readonly on: Reducer<UsageEscrow> = {
    // Buying and funding
    LicenseBought: ({ licenseId, planId, operatorId, capCode, expiresAt }) => {
      this.accounts.set(licenseId, { ...newAccount(), planId, operatorId, capCode, expiresAt, renews: true });
    },
    UpfrontPaid: ({ licenseId, amount, releasableAt }, at) => {
      this.upfronts.set(licenseId, { amount, paidAt: at, releasableAt, feeBps: this.fee });
      this.owed += amount;
    },
    UpfrontReleased: ({ licenseId, assetId, amount, fee }) => {
      this.upfronts.set(licenseId, newUpfront());
      this.assetIncomes.add(assetId, amount);
      this.fees += fee;
    },
    UpfrontReturned: ({ licenseId, amount }) => {
      this.upfronts.set(licenseId, newUpfront());
      this.accounts.get(licenseId).balance += amount;
    },
    Deposited: ({ licenseId, amount }) => {
      this.accounts.get(licenseId).balance += amount;
      this.owed += amount;
    },

    // A licensee's own
    CapSet: ({ licenseId, capCode }) => {
      this.change(licenseId, { capCode, capCutCode: 0n, capCutReadyAt: 0n });
    },
    CapCutStarted: ({ licenseId, capCode, readyAt }) => {
      this.change(licenseId, { capCutCode: capCode, capCutReadyAt: readyAt });
    },
    ServiceChangeStarted: ({ licenseId, operatorId, onVoucherRoad, readyAt }) => {
      const next = { nextOperatorId: operatorId, nextOnVoucherRoad: onVoucherRoad, serviceChangeReadyAt: readyAt };
      this.change(licenseId, next);
    },
    ServiceChanged: ({ licenseId, operatorId, onVoucherRoad }) => {
      this.change(licenseId, { operatorId, onVoucherRoad, ...noServiceChange });
    },
    PlanChangeStarted: ({ licenseId, planId, changesAt }) => {
      this.change(licenseId, { nextPlanId: planId, stoppedAt: changesAt });
    },
    PlanChangeCancelled: ({ licenseId }) => {
      this.change(licenseId, { nextPlanId: 0n, stoppedAt: 0n });
    },
    // The term that ended is kept aside, if it isn't closed, as it was under the former plan.
    PlanChanged: ({ licenseId, planId, formerPlanId }) => {
      const { isClosed, expiresAt, spent, stoppedAt } = this.accounts.get(licenseId);
      const ended = { endedAt: stoppedAt, endedSpent: expiresAt === stoppedAt ? spent : 0n, formerPlanId };
      this.change(licenseId, { planId, nextPlanId: 0n, stoppedAt: 0n, isClosed: true, ...(isClosed ? {} : ended) });
    },
    RenewalSet: ({ licenseId, renews }) => {
      this.change(licenseId, { renews });
    },
    LicenseLocked: ({ licenseId, stoppedAt }) => {
      this.change(licenseId, { stoppedAt, nextPlanId: 0n, ...noServiceChange });
    },
    LicenseUnlocked: ({ licenseId }) => {
      this.change(licenseId, { stoppedAt: 0n });
    },
    LicenseEnded: ({ licenseId, stoppedAt }) => {
      this.change(licenseId, { stoppedAt, nextPlanId: 0n, isEnded: true });
    },
    GenerationRaised: ({ licenseId, generation, endsAt }) => {
      this.generationEnds.set(`${licenseId} ${generation - 1n}`, endsAt);
      this.change(licenseId, { generation });
    },
    VoucherKeyAdded: ({ licenseId, generation, key, cap }) => {
      this.voucherKeys.get(`${licenseId} ${generation} ${key}`).cap = cap;
    },
    VoucherKeyEnding: ({ licenseId, generation, key, endsAt }) => {
      this.voucherKeys.get(`${licenseId} ${generation} ${key}`).endsAt = endsAt;
    },
    ThawStarted: ({ licenseId, amount, readyAt }) => {
      this.change(licenseId, { thawing: amount, thawReadyAt: readyAt });
    },
    // What was announced and is kept back may be withdrawn later, as far as the balance goes.
    Withdrawn: ({ licenseId, amount }) => {
      const account = this.accounts.get(licenseId);
      account.balance -= amount;
      account.thawing = least(account.thawing - amount, account.balance);
      if (account.thawing === 0n) account.thawReadyAt = 0n;
      this.owed -= amount;
    },

    // Terms
    TermRenewed: ({ licenseId, term, expiresAt }) => {
      const account = this.accounts.get(licenseId);
      if (!account.isClosed) this.change(licenseId, { endedAt: account.expiresAt, endedSpent: account.spent });
      this.change(licenseId, { term, expiresAt, spent: 0n, isClosed: false });
    },
    TermClosed: ({ licenseId, assetId, charged, fee }) => {
      const account = this.accounts.get(licenseId);
      account.balance -= charged;
      if (account.endedAt === 0n) account.isClosed = true;
      else [account.endedAt, account.endedSpent, account.formerPlanId] = [0n, 0n, 0n];
      this.assetIncomes.add(assetId, charged - fee);
      this.fees += fee;
    },

    // Settlement
    BatchSettled: ({ batchId, operatorId, planId, epochStart, epochEnd, charged, outcomes }, at) => {
      const plan = this.licenses.termsOf(planId);
      this.outcomes.set(batchId, outcomes);
      for (const outcome of unpackOutcomes(outcomes)) this.charge(planId, epochStart, outcome);
      const releasableAt = at + plan.holdPeriod;
      const status = BatchStatus.Held;
      this.batches.set(batchId, { operatorId, planId, epochStart, epochEnd, charged, releasableAt, status });
      this.staking.putInFlight(operatorId, charged, at);
    },
    VouchersSettled: ({ operatorId, planId, assetId, split, forPool, outcomes }) => {
      const plan = this.licenses.termsOf(planId);
      for (const outcome of unpackVoucherOutcomes(outcomes)) this.claim(plan, outcome);
      this.credit(operatorId, assetId, split, forPool);
    },
    BatchReleased: ({ batchId, operatorId, assetId, split, forPool }) => {
      const batch = this.batches.get(batchId)!;
      batch.status = BatchStatus.Released;
      this.staking.land(operatorId, batch.charged);
      this.credit(operatorId, assetId, split, forPool);
    },
    AttestorShareCollected: ({ batchId, amount }) => {
      this.batches.get(batchId)!.status = BatchStatus.Collected;
      this.owed -= amount;
    },

    // Disputes
    ChargeFrozen: ({ chargeId, batchId, amount }) => {
      const batch = this.batches.get(batchId)!;
      const charge = this.batches.get(chargeId);
      if (charge === undefined) batch.charged -= amount;
      this.batches.set(chargeId, { ...(charge ?? batch), charged: amount, status: BatchStatus.Frozen });
    },
    ChargeRefunded: ({ chargeId, licenseId, assetId, toBalance, toAsset, fee }) => {
      const charge = this.batches.get(chargeId)!;
      charge.status = BatchStatus.Refunded;
      this.staking.land(charge.operatorId, charge.charged);
      this.uncharge(charge, this.accounts.get(licenseId));
      this.accounts.get(licenseId).balance += toBalance;
      this.assetIncomes.add(assetId, toAsset);
      this.fees += fee;
    },
    ChargeReleased: ({ chargeId, releasableAt }) => {
      Object.assign(this.batches.get(chargeId)!, { releasableAt, status: BatchStatus.Held });
    },

    // Payment
    PoolPaid: ({ operatorId, amount }) => {
      this.operatorIncomes.get(operatorId).forPool -= amount;
      this.owed -= amount;
    },
    AssetPaid: ({ assetId, amount }) => {
      this.assetIncomes.add(assetId, -amount);
      this.owed -= amount;
    },
    EarningsWithdrawn: ({ operatorId, amount }) => {
      this.operatorIncomes.get(operatorId).earnings -= amount;
      this.owed -= amount;
    },
    FeesWithdrawn: ({ amount }) => {
      this.fees -= amount;
      this.owed -= amount;
    },

    // Administration
    FeeSet: ({ feeBps }) => {
      this.fee = feeBps;
    },
    DepositCeilingRaised: ({ ceiling }) => {
      this.ceiling = ceiling;
    },
    Paused: ({ until }) => {
      this.pauseEnd = until;
    },
    Unpaused: (_, at) => {
      this.pauseEnd = least(this.pauseEnd, at);
    },
    AuthorityUpdated: nothing,
    EIP712DomainChanged: nothing,
  };

  batchIds(): string[] {
    return [...this.batches.keys()];
  }

  // Views

  accountOf(licenseId: bigint): Account {
    return this.accounts.get(licenseId);
  }

  upfrontOf(licenseId: bigint) {
    return this.upfronts.get(licenseId);
  }

  /** A key of a generation that is over ends with that, where it didn't end before. */
  voucherKeyOf(licenseId: bigint, generation: bigint, key: string) {
    const { cap, endsAt } = this.voucherKeys.get(`${licenseId} ${generation} ${key}`);
    const generationEnd = this.generationEnds.get(`${licenseId} ${generation}`);
    const isFirst = generationEnd !== 0n && (endsAt === 0n || generationEnd < endsAt);
    return { cap, endsAt: isFirst ? generationEnd : endsAt };
  }

  /** What a batch that has settled charged to each license, as it was logged. */
  outcomesOf(batchId: string): string {
    return this.outcomes.get(batchId) ?? "0x";
  }

  batchStatusOf(batchId: string, at: bigint): bigint {
    const { status, releasableAt } = this.batches.get(batchId) ?? { status: BatchStatus.None, releasableAt: 0n };
    return BigInt(status === BatchStatus.Held && at >= releasableAt ? BatchStatus.Releasable : status);
  }

  operatorIncomeOf(operatorId: bigint) {
    return this.operatorIncomes.get(operatorId);
  }

  assetIncomeOf(assetId: bigint): bigint {
    return this.assetIncomes.get(assetId);
  }

  protocolFees(): bigint {
    return this.fees;
  }

  totalOwed(): bigint {
    return this.owed;
  }

  feeBps(): bigint {
    return this.fee;
  }

  depositCeiling(): bigint {
    return this.ceiling;
  }

  pausedUntil(): bigint {
    return this.pauseEnd;
  }

  private change(licenseId: bigint, changes: Partial<Account>): void {
    Object.assign(this.accounts.get(licenseId), changes);
  }

  /**
   * What was charged for an epoch counts in the term in which it began, which may be one that nobody has charged yet; under
   * another plan than before, in that plan's first term.
   */
  private charge(planId: bigint, epochStart: bigint, { licenseId, charged, status }: Outcome): void {
    if (!CHARGING.has(status)) return;
    const account = this.accounts.get(licenseId);
    account.balance -= charged;
    const isFirstOfPlan = account.formerPlanId !== 0n && account.planId === planId;
    if (epochStart < account.endedAt && !isFirstOfPlan) {
      account.endedSpent += charged;
      return;
    }
    const plan = this.licenses.termsOf(planId);
    if (epochStart >= account.expiresAt) {
      renew(account, plan, (epochStart - account.expiresAt) / plan.termPeriod + 1n);
    }
    account.spent += charged;
  }

  /** What is given back is taken off the term in which it counts, if its counter is known and no vouchers are signed for it. */
  private uncharge({ planId, epochStart, epochEnd, charged }: Batch, account: Account): void {
    const { termPeriod } = this.licenses.termsOf(planId);
    const isOf = (endsAt: bigint, isFirst: boolean) =>
      epochStart < endsAt && (isFirst ? epochEnd > endsAt - termPeriod : epochStart >= endsAt - termPeriod);
    const { onVoucherRoad, expiresAt, term, endedAt, formerPlanId } = account;
    if (onVoucherRoad) return;
    const isFirstOfPlan = formerPlanId !== 0n && account.planId === planId;
    if (epochStart >= endedAt || isFirstOfPlan) {
      const isFirst = isFirstOfPlan ? epochStart < endedAt : term === 0n;
      if (account.planId === planId && isOf(expiresAt, isFirst)) account.spent -= charged;
    } else if ((formerPlanId || account.planId) === planId && isOf(endedAt, term === 1n)) {
      account.endedSpent -= charged;
    }
  }

  /** What was claimed counts in the term that the voucher names: the one before, this one, or a later one that it begins. */
  private claim(plan: PlanTermsStructOutput, { licenseId, term, charged }: VoucherOutcome): void {
    if (charged === 0n) return;
    const account = this.accounts.get(licenseId);
    const ahead = BigInt(term) - account.term;
    account.balance -= charged;
    if (ahead > 0n) renew(account, plan, ahead);
    if (ahead < 0n) account.endedSpent += charged;
    else account.spent += charged;
  }

  private credit(
    operatorId: bigint,
    assetId: bigint,
    split: { operator: bigint; publisher: bigint; fee: bigint; bonus: bigint },
    forPool: bigint,
  ): void {
    const income = this.operatorIncomes.get(operatorId);
    income.earnings += split.operator - forPool;
    income.forPool += forPool + split.bonus;
    this.assetIncomes.add(assetId, split.publisher);
    this.fees += split.fee;
  }
}

const CHARGING = new Set<Outcome["status"]>(["Charged", "BalanceExhausted", "CapReached"]);

const noServiceChange = { nextOperatorId: 0n, nextOnVoucherRoad: false, serviceChangeReadyAt: 0n };

const least = (a: bigint, b: bigint): bigint => (a < b ? a : b);

function renew(account: Account, { termPeriod }: PlanTermsStructOutput, terms: bigint): void {
  account.term += terms;
  account.expiresAt += terms * termPeriod;
  account.spent = 0n;
}
