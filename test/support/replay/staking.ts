import type { PerformanceStaking } from "../../../typechain-types";
import { Amounts, Ledger, nothing, type Reducer } from "./reducer";

const WHOLE = 10_000n;
/** Shares and a unit that nobody holds: what a share is worth is reckoned with them. */
const VIRTUAL_SHARES = 1_000n;
const VIRTUAL_UNITS = 1n;
const MOST_DOUBLINGS = 8n;

/** What the deployment can't change any more. */
export interface StakingConstants {
  treasury: string;
  curePeriod: bigint;
}

interface Pool {
  active: bigint;
  thawing: bigint;
  unvested: bigint;
  vestedAt: bigint;
  vestsUntil: bigint;
  inFlight: bigint;
  frozen: bigint;
  frozenUntil: bigint;
  shares: bigint;
  thawingShares: bigint;
  round: bigint;
  jailedUntil: bigint;
  jailings: bigint;
  commission: { bps: bigint; nextBps: bigint; raisedAt: bigint };
  positions: Ledger<string, Position>;
}

interface Position {
  shares: bigint;
  thaws: { shares: bigint; readyAt: bigint }[];
}

const newPool = (): Pool => ({
  active: 0n,
  thawing: 0n,
  unvested: 0n,
  vestedAt: 0n,
  vestsUntil: 0n,
  inFlight: 0n,
  frozen: 0n,
  frozenUntil: 0n,
  shares: 0n,
  thawingShares: 0n,
  round: 0n,
  jailedUntil: 0n,
  jailings: 0n,
  commission: { bps: WHOLE, nextBps: WHOLE, raisedAt: 0n },
  positions: new Ledger(() => ({ shares: 0n, thaws: [] })),
});

/** PerformanceStaking's books, by its logs and by what settlement puts in flight. Its views are named as the contract's. */
export class ReplayedStaking {
  private readonly pools = new Ledger<bigint, Pool>(newPool);
  private readonly proceeds = new Amounts<string>();

  constructor(private readonly constants: StakingConstants) {}

  readonly on: Reducer<PerformanceStaking> = {
    StakeAdded: ({ operatorId, holder, amount, shares }, at) => {
      const pool = this.vested(operatorId, at);
      pool.active += amount;
      pool.shares += shares;
      pool.positions.get(holder).shares += shares;
    },
    StakeThawed: ({ operatorId, holder, shares, amount, thawingShares, readyAt }, at) => {
      const pool = this.vested(operatorId, at);
      // The last holder takes along what hasn't vested.
      if (shares === pool.shares) [pool.active, pool.unvested] = [0n, 0n];
      else pool.active -= amount;
      pool.shares -= shares;
      pool.thawing += amount;
      pool.thawingShares += thawingShares;
      const position = pool.positions.get(holder);
      position.shares -= shares;
      position.thaws.push({ shares: thawingShares, readyAt });
    },
    StakeUnthawed: ({ operatorId, holder, thawingShares, amount, shares }, at) => {
      const pool = this.vested(operatorId, at);
      pool.thawing -= amount;
      pool.thawingShares -= thawingShares;
      pool.active += amount;
      pool.shares += shares;
      const position = pool.positions.get(holder);
      position.shares += shares;
      position.thaws.pop();
    },
    StakeWithdrawn: ({ operatorId, holder, amount, thawingShares }, at) => {
      const pool = this.vested(operatorId, at);
      pool.thawing -= amount;
      pool.thawingShares -= thawingShares;
      const position = pool.positions.get(holder);
      position.thaws = position.thaws.filter(({ readyAt }) => readyAt >= at);
    },
    CommissionSet: ({ operatorId, bps, bindsAt }, at) => {
      const present = this.commissionOf(operatorId, at).bps;
      const isRaise = bindsAt > at;
      const commission = { bps: isRaise ? present : bps, nextBps: bps, raisedAt: isRaise ? bindsAt : 0n };
      this.pools.get(operatorId).commission = commission;
    },
    IncomeAdded: ({ operatorId, amount, vestsUntil }, at) => {
      const pool = this.vested(operatorId, at);
      pool.unvested += amount;
      [pool.vestedAt, pool.vestsUntil] = [at, vestsUntil];
    },
    IncomeDiverted: ({ operatorId, beneficiary, amount }, at) => {
      this.vested(operatorId, at);
      this.proceeds.add(beneficiary, amount);
    },
    StakeSlashed: ({ operatorId, beneficiary, toBeneficiary, toTreasury, fromThawing }, at) => {
      this.slash(this.vested(operatorId, at), toBeneficiary + toTreasury, fromThawing);
      this.proceeds.add(beneficiary, toBeneficiary);
      this.proceeds.add(this.constants.treasury, toTreasury);
    },
    OperatorJailed: ({ operatorId, until }, at) => {
      const pool = this.pools.get(operatorId);
      const isCured = at >= pool.jailedUntil + this.constants.curePeriod;
      const jailings = (isCured ? 0n : pool.jailings) + 1n;
      pool.jailings = jailings < MOST_DOUBLINGS ? jailings : MOST_DOUBLINGS;
      pool.jailedUntil = until;
    },
    StakeFrozen: ({ operatorId, amount, until }) => {
      const pool = this.pools.get(operatorId);
      [pool.frozen, pool.frozenUntil] = [amount, until];
    },
    StakeUnfrozen: ({ operatorId }) => {
      const pool = this.pools.get(operatorId);
      [pool.frozen, pool.frozenUntil] = [0n, 0n];
    },
    ProceedsWithdrawn: ({ beneficiary, amount }) => {
      this.proceeds.add(beneficiary, -amount);
    },
    BreachRecorded: nothing,
    AuthorityUpdated: nothing,
  };

  /** A batch has settled: its charge is in flight. What has vested is only looked for where it is needed. */
  putInFlight(operatorId: bigint, amount: bigint, at: bigint): void {
    const pool = this.pools.get(operatorId);
    pool.inFlight += amount;
    if (pool.inFlight > pool.active) vest(pool, at);
  }

  /** A batch was released. */
  land(operatorId: bigint, amount: bigint): void {
    this.pools.get(operatorId).inFlight -= amount;
  }

  // Views

  poolOf(operatorId: bigint, at: bigint) {
    const pool = this.pools.get(operatorId);
    const vested = vestedOf(pool, at);
    const unvested = pool.unvested - vested;
    const frozen = at < pool.frozenUntil ? pool.frozen : 0n;
    return {
      active: pool.active + vested,
      thawing: pool.thawing,
      unvested,
      vestsUntil: unvested === 0n ? 0n : pool.vestsUntil,
      inFlight: pool.inFlight,
      frozen,
      frozenUntil: frozen === 0n ? 0n : pool.frozenUntil,
      shares: pool.shares,
      thawingShares: pool.thawingShares,
      round: pool.round,
      jailedUntil: pool.jailedUntil,
      jailings: pool.jailings,
    };
  }

  positionOf(operatorId: bigint, holder: string, at: bigint) {
    const { active, shares } = this.poolOf(operatorId, at);
    const held = this.pools.get(operatorId).positions.get(holder);
    const thaws = this.thawsOf(operatorId, holder);
    const thawingShares = thaws.reduce((sum, thaw) => sum + thaw.shares, 0n);
    return {
      shares: held.shares,
      active: worthOf(held.shares, active, shares),
      thawingShares,
      thawing: this.thawingWorthOf(operatorId, thawingShares),
    };
  }

  thawsOf(operatorId: bigint, holder: string) {
    const { thaws } = this.pools.get(operatorId).positions.get(holder);
    return thaws.map(({ shares, readyAt }) => ({ shares, amount: this.thawingWorthOf(operatorId, shares), readyAt }));
  }

  commissionOf(operatorId: bigint, at: bigint) {
    const { bps, nextBps, raisedAt } = this.pools.get(operatorId).commission;
    return at < raisedAt ? { bps, nextBps, raisedAt } : { bps: nextBps, nextBps, raisedAt: 0n };
  }

  proceedsOf(beneficiary: string): bigint {
    return this.proceeds.get(beneficiary);
  }

  private vested(operatorId: bigint, at: bigint): Pool {
    const pool = this.pools.get(operatorId);
    vest(pool, at);
    return pool;
  }

  /** Takes from all places alike; all of it voids every share. */
  private slash(pool: Pool, amount: bigint, fromThawing: bigint): void {
    const rest = amount - fromThawing;
    const fromActive = rest === 0n ? 0n : (rest * pool.active) / (pool.active + pool.unvested);
    pool.active -= fromActive;
    pool.unvested -= rest - fromActive;
    pool.thawing -= fromThawing;
    if (amount === 0n || pool.active + pool.unvested + pool.thawing > 0n) return;

    [pool.shares, pool.thawingShares, pool.round] = [0n, 0n, pool.round + 1n];
    pool.positions.clear();
  }

  private thawingWorthOf(operatorId: bigint, shares: bigint): bigint {
    const { thawing, thawingShares } = this.pools.get(operatorId);
    return worthOf(shares, thawing, thawingShares);
  }
}

function vestedOf({ unvested, vestedAt, vestsUntil }: Pool, at: bigint): bigint {
  if (unvested === 0n || at >= vestsUntil) return unvested;
  return (unvested * (at - vestedAt)) / (vestsUntil - vestedAt);
}

function vest(pool: Pool, at: bigint): void {
  const vested = vestedOf(pool, at);
  if (vested === 0n) return;
  pool.active += vested;
  pool.unvested -= vested;
  pool.vestedAt = at;
}

const worthOf = (part: bigint, units: bigint, shares: bigint): bigint =>
  part === shares ? units : (part * (units + VIRTUAL_UNITS)) / (shares + VIRTUAL_SHARES);
