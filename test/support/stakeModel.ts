/** Fractions of a currency unit that the model knows. */
const FINE = 10n ** 18n;
/** Shares that no one holds, and what they are worth at first. */
const VIRTUAL_SHARES = 1_000n;
const VIRTUAL_WORTH = FINE;

interface Holding {
  active: bigint;
  /** What each thaw is worth, oldest first, and when it is ready. */
  thaws: { amount: bigint; readyAt: number }[];
}

/**
 * What a pool of stake should be, without shares and without rounding: what each holder has in it, as fractions of a unit, and
 * what the shares hold back that no one has. It says what is whose after each step; until when income vests, it is told.
 */
export class StakeModel {
  private readonly holdings = new Map<string, Holding>();
  private virtual = VIRTUAL_WORTH;
  private unvested = 0n;
  private vestedAt = 0;
  private vestsUntil = 0;
  /** Fractions of a unit by which roundings may have parted the pool from this model, for any one holder. */
  private slack = FINE;

  constructor(private readonly thawPeriod: number) {}

  stake(holder: string, amount: bigint, now: number): void {
    this.step(now);
    this.add(holder, amount * FINE);
  }

  /** Thaws `part` of `whole` of what `holder` has active. The last one to thaw takes all that no one has. */
  thaw(holder: string, part: bigint, whole: bigint, now: number): void {
    this.step(now);
    const holding = this.of(holder);
    let amount = (holding.active * part) / whole;
    holding.active -= amount;
    if (part === whole && this.sum(({ active }) => active) === 0n) {
      amount += this.unvested + this.virtual - VIRTUAL_WORTH;
      [this.unvested, this.virtual] = [0n, VIRTUAL_WORTH];
    }
    holding.thaws.push({ amount, readyAt: now + this.thawPeriod });
  }

  unthaw(holder: string, now: number): void {
    this.step(now);
    this.add(holder, this.of(holder).thaws.pop()!.amount);
  }

  withdraw(holder: string, now: number): void {
    this.step(now);
    const holding = this.of(holder);
    holding.thaws = holding.thaws.filter(({ readyAt }) => now <= readyAt);
  }

  earn(amount: bigint, now: number, vestsUntil: number): void {
    this.step(now);
    this.unvested += amount * FINE;
    this.vestedAt = now;
    this.vestsUntil = vestsUntil;
  }

  /** Takes `part` of `whole`, which is all that there is, from everything alike. */
  slash(part: bigint, whole: bigint, now: number): void {
    this.step(now);
    if (part === 0n) return;
    const left = (amount: bigint) => amount - (amount * part) / whole;
    const active = this.sum((holding) => holding.active) + this.virtual;
    const activeAfter = left(active - VIRTUAL_WORTH) + VIRTUAL_WORTH;
    const isAll = part === whole;
    this.unvested = left(this.unvested);
    for (const holding of this.holdings.values()) {
      holding.active = isAll ? 0n : (holding.active * activeAfter) / active;
      holding.thaws = isAll ? [] : holding.thaws.map((thaw) => ({ ...thaw, amount: left(thaw.amount) }));
    }
    this.virtual = isAll ? VIRTUAL_WORTH : (this.virtual * activeAfter) / active;
  }

  /** Whether a holder's worth of so many units is what it should be, but for roundings. */
  isFair(holder: string, { active, thawing }: { active: bigint; thawing: bigint }): boolean {
    const holding = this.of(holder);
    const due = holding.thaws.reduce((sum, { amount }) => sum + amount, 0n);
    // Who has all shares has all that they are worth.
    const isAlone = holding.active > 0n && holding.active === this.sum((one) => one.active);
    const alsoDue = isAlone ? this.virtual - VIRTUAL_WORTH : 0n;
    return this.isClose(active, holding.active + alsoDue) && this.isClose(thawing, due);
  }

  isVestedFairly(unvested: bigint): boolean {
    return this.isClose(unvested, this.unvested);
  }

  /** Lets income vest until now. What a step divides, it may round by a unit or two. */
  step(now: number): void {
    const [left, elapsed] = [this.unvested, BigInt(now - this.vestedAt)];
    const active = this.sum((holding) => holding.active);
    if (left > 0n && active > 0n) {
      const vested = now >= this.vestsUntil ? left : (left * elapsed) / BigInt(this.vestsUntil - this.vestedAt);
      const all = active + this.virtual;
      for (const holding of this.holdings.values()) holding.active += (vested * holding.active) / all;
      this.virtual += (vested * this.virtual) / all;
      this.unvested -= vested;
      // What was rounded before earns like the rest.
      this.slack += (this.slack * vested) / active;
    }
    this.vestedAt = now;
    this.slack += 2n * FINE;
  }

  /** A part of a share that is too little for one is rounded away. */
  private add(holder: string, amount: bigint): void {
    this.of(holder).active += amount;
    this.slack += this.virtual / VIRTUAL_SHARES;
  }

  private of(holder: string): Holding {
    if (!this.holdings.has(holder)) this.holdings.set(holder, { active: 0n, thaws: [] });
    return this.holdings.get(holder)!;
  }

  private sum(of: (holding: Holding) => bigint): bigint {
    return [...this.holdings.values()].reduce((sum, holding) => sum + of(holding), 0n);
  }

  private isClose(units: bigint, fractions: bigint): boolean {
    const apart = units * FINE - fractions;
    return (apart < 0n ? -apart : apart) <= this.slack;
  }
}
