import { loadFixture, time } from "@nomicfoundation/hardhat-network-helpers";
import { expect } from "chai";
import fc from "../support/fastCheck";
import { ANY_SHARES, DAY, stakeOf, structOf, usd, type Market } from "../support/market";
import { StakeModel } from "../support/stakeModel";
import { deployWithCallers, earn, MOST_THAWS, SHARES, STAKE_THAW, VESTING } from "../support/staking";

const OPERATOR_ID = 1;
/** The operator's owner, and three who delegate. */
const HOLDERS = 4;

const holder = fc.integer({ min: 0, max: HOLDERS - 1 });
const amount = fc.oneof(
  fc.bigInt({ min: usd(0.5), max: usd(2_000) }),
  fc.bigInt({ min: usd(1_000), max: usd(100_000) }),
);
const percent = fc.bigInt({ min: 1n, max: 100n });
const anyAct = fc.oneof(
  { weight: 4, arbitrary: fc.record({ act: fc.constant("stake" as const), holder, amount }) },
  { weight: 4, arbitrary: fc.record({ act: fc.constant("thaw" as const), holder, percent }) },
  { weight: 2, arbitrary: fc.record({ act: fc.constant("unthaw" as const), holder }) },
  { weight: 3, arbitrary: fc.record({ act: fc.constant("withdraw" as const), holder }) },
  { weight: 4, arbitrary: fc.record({ act: fc.constant("earn" as const), amount }) },
  { weight: 2, arbitrary: fc.record({ act: fc.constant("slash" as const), percent }) },
);
const anyWait = fc.oneof(
  fc.integer({ min: 1, max: DAY }),
  fc.integer({ min: 1, max: 2 * VESTING }),
  fc.constant(STAKE_THAW + 1),
);
type Act = typeof anyAct extends fc.Arbitrary<infer T> ? T : never;

/** A pool of stake beside the model of what it should be. */
class Twins {
  readonly model = new StakeModel(STAKE_THAW);
  readonly done: Record<Act["act"], number> = { stake: 0, thaw: 0, unthaw: 0, withdraw: 0, earn: 0, slash: 0 };
  private readonly holders: Market["payees"];

  constructor(private readonly market: Market) {
    this.holders = [market.operator, ...market.payees.slice(0, HOLDERS - 1)];
  }

  private get staking() {
    return this.market.licet.staking;
  }

  /** Has the next transaction come `wait` seconds after the latest. */
  async after(wait: number): Promise<number> {
    const now = (await time.latest()) + wait;
    await time.setNextBlockTimestamp(now);
    return now;
  }

  async does(act: Act, wait: number): Promise<void> {
    const actor = "holder" in act ? await this.actorOf(act) : 0;
    const staking = this.staking.connect(this.holders[actor]);
    const [name, position] = [String(actor), await this.positionOf(actor)];
    const pool = await this.staking.poolOf(OPERATOR_ID);
    switch (act.act) {
      case "stake": {
        const now = await this.after(wait);
        await staking.addStake(OPERATOR_ID, act.amount, ...ANY_SHARES);
        this.model.stake(name, act.amount, now);
        break;
      }
      case "thaw": {
        const shares = (position.shares * act.percent) / 100n;
        if (shares === 0n || position.thaws.length === MOST_THAWS) return;
        const now = await this.after(wait);
        await staking.thaw(OPERATOR_ID, shares);
        this.model.thaw(name, shares, position.shares, now);
        break;
      }
      case "unthaw": {
        // A thaw that is worth less than a share can't be taken back.
        if ((position.thaws.at(-1)?.amount ?? 0n) < 2n) return;
        const now = await this.after(wait);
        await staking.unthaw(OPERATOR_ID);
        this.model.unthaw(name, now);
        break;
      }
      case "withdraw": {
        const now = await this.after(wait);
        if (!(Number(position.thaws[0]?.readyAt ?? Infinity) < now)) return;
        await staking.withdraw(OPERATOR_ID, this.holders[actor]);
        this.model.withdraw(name, now);
        break;
      }
      case "earn": {
        if (pool.active === 0n) return;
        const now = await this.after(wait);
        const before = await this.staking.proceedsOf(this.market.operator);
        await earn(this.market, act.amount);
        const { active, unvested, vestsUntil } = await this.staking.poolOf(OPERATOR_ID);
        const rest = (await this.staking.proceedsOf(this.market.operator)) - before;
        // Stake that left since may have left more behind than there is stake now: nothing is added to that.
        expect(rest === 0n || unvested >= active, "the owner has only what is beyond the stake").to.equal(true);
        if (act.amount === rest) break;
        expect(unvested <= active, "no more vests than there is stake").to.equal(true);
        expect(Number(vestsUntil)).to.be.within(now + 1, now + VESTING);
        this.model.earn(act.amount - rest, now, Number(vestsUntil));
        break;
      }
      case "slash": {
        const whole = pool.active + pool.unvested + pool.thawing;
        const part = (whole * act.percent) / 100n;
        const now = await this.after(wait);
        await this.staking.connect(this.market.slasher).slash(OPERATOR_ID, part, this.market.outsider);
        this.model.slash(part, whole, now);
        break;
      }
    }
    this.done[act.act] += 1;
  }

  /** Who does it: whom it names, or the next one who can. */
  private async actorOf(act: Act & { holder: number }): Promise<number> {
    for (let i = act.holder; i < act.holder + HOLDERS; i += 1) {
      const { shares, thaws } = await this.positionOf(i % HOLDERS);
      const canThaw = act.act === "thaw" && shares > 0n;
      if (act.act === "stake" || canThaw || (act.act !== "thaw" && thaws.length > 0)) return i % HOLDERS;
    }
    return act.holder;
  }

  /** All that must hold at any time. */
  async compare(): Promise<void> {
    const { staking, currency } = this.market.licet;
    this.model.step(await time.latest());
    const pool = await staking.poolOf(OPERATOR_ID);
    const positions = await Promise.all(this.holders.map((_, i) => this.positionOf(i)));
    const sum = (of: (position: (typeof positions)[number]) => bigint) =>
      positions.reduce((total, position) => total + of(position), 0n);

    // Every unit is somewhere, and every share somebody's.
    const { outsider, treasury, operator } = this.market;
    const owed = await Promise.all([outsider, treasury, operator].map((payee) => staking.proceedsOf(payee)));
    const proceeds = owed.reduce((total, amount) => total + amount, 0n);
    expect(await currency.balanceOf(staking)).to.equal((await stakeOf(this.market, OPERATOR_ID)) + proceeds);
    expect(sum(({ shares }) => shares)).to.equal(pool.shares);
    expect(sum(({ thawingShares }) => thawingShares)).to.equal(pool.thawingShares);
    // Nobody has more than the pool, and each what the model says.
    expect(sum(({ active }) => active) <= pool.active).to.equal(true);
    expect(sum(({ thawing }) => thawing) <= pool.thawing).to.equal(true);
    expect(this.model.isVestedFairly(pool.unvested), "unvested").to.equal(true);
    for (const [i, position] of positions.entries()) {
      expect(this.model.isFair(String(i), position), `holder ${i}`).to.equal(true);
      const inQueue = position.thaws.reduce((total, { shares }) => total + shares, 0n);
      expect(inQueue).to.equal(position.thawingShares);
    }
  }

  /** Everybody leaves, and nothing stays behind. */
  async leave(): Promise<void> {
    for (let i = 0; i < HOLDERS; i += 1) {
      const staking = this.staking.connect(this.holders[i]);
      const { shares, thaws } = await this.positionOf(i);
      if (shares === 0n) continue;
      if (thaws.length === MOST_THAWS) {
        await time.increase(STAKE_THAW + 1);
        await staking.withdraw(OPERATOR_ID, this.holders[i]);
      }
      await staking.thaw(OPERATOR_ID, shares);
    }
    await time.increase(STAKE_THAW + 1);
    for (let i = 0; i < HOLDERS; i += 1) {
      const { thaws } = await this.positionOf(i);
      if (thaws.length > 0) await this.staking.connect(this.holders[i]).withdraw(OPERATOR_ID, this.holders[i]);
    }
    expect(await stakeOf(this.market, OPERATOR_ID)).to.equal(0);
    for (const person of [this.market.outsider, this.market.treasury, this.market.operator]) {
      if ((await this.staking.proceedsOf(person)) > 0n) await this.staking.connect(person).withdrawProceeds(person);
    }
    expect(await this.market.licet.currency.balanceOf(this.staking)).to.equal(0);
  }

  private async positionOf(i: number) {
    const position = structOf(await this.staking.positionOf(OPERATOR_ID, this.holders[i])) as Record<
      "shares" | "active" | "thawingShares" | "thawing",
      bigint
    >;
    return { ...position, thaws: [...(await this.staking.thawsOf(OPERATOR_ID, this.holders[i]))] };
  }
}

describe("PerformanceStaking", () => {
  it("gives each holder what a model without shares and roundings gives it, and loses no unit, whatever they do", async function () {
    this.timeout(300_000);
    const done: Record<string, number> = {};
    await fc.assert(
      fc.asyncProperty(fc.array(fc.tuple(anyAct, anyWait), { minLength: 8, maxLength: 24 }), async (acts) => {
        const market = await loadFixture(deployWithCallers);
        const twins = new Twins(market);
        twins.model.stake("0", market.stake, await time.latest());
        for (const [act, wait] of acts) {
          await twins.does(act, wait);
          await twins.compare();
        }
        await twins.leave();
        for (const [act, times] of Object.entries(twins.done)) done[act] = (done[act] ?? 0) + times;
      }),
      { numRuns: 30, endOnFailure: true },
    );
    for (const [act, times] of Object.entries(done)) expect(times, act).to.be.greaterThan(5);
  });

  it("gives nobody more for going in and out, at any price of a share", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.bigInt({ min: 1n, max: usd(50_000) }),
        fc.bigInt({ min: 0n, max: usd(50_000) }),
        fc.bigInt({ min: 0n, max: 9_999n }),
        fc.bigInt({ min: 2n, max: usd(10_000) }),
        fc.integer({ min: 1, max: 4 }),
        async (staked, income, slashedBps, put, parts) => {
          const market = await loadFixture(deployWithCallers);
          const { staking } = market.licet;
          const [first, second] = market.payees;
          await staking.connect(market.operator).thaw(OPERATOR_ID, market.stake * SHARES);
          await staking.connect(first).addStake(OPERATOR_ID, staked, ...ANY_SHARES);
          if (income > 0n) await earn(market, income);
          await time.increase(VESTING);
          const held = await stakeOf(market, OPERATOR_ID);
          await staking.connect(market.slasher).slash(OPERATOR_ID, (held * slashedBps) / 10_000n, market.outsider);

          const shares = await staking.sharesFor(OPERATOR_ID, put);
          if (shares < BigInt(parts)) return;
          await staking.connect(second).addStake(OPERATOR_ID, put, ...ANY_SHARES);
          const thawed = { unthawed: 0n };
          for (let i = 0; i < parts; i += 1) await staking.connect(second).thaw(OPERATOR_ID, shares / BigInt(parts));
          if ((await staking.thawsOf(OPERATOR_ID, second)).at(-1)!.amount > 0n) {
            thawed.unthawed = await staking.connect(second).unthaw.staticCall(OPERATOR_ID);
            await staking.connect(second).unthaw(OPERATOR_ID);
          }
          const { active, thawing } = await staking.positionOf(OPERATOR_ID, second);
          expect(active + thawing <= put).to.equal(true);
        },
      ),
      { numRuns: 40 },
    );
  });
});
