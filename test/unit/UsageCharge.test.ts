import { loadFixture } from "@nomicfoundation/hardhat-network-helpers";
import { expect } from "chai";
import { id } from "ethers";
import fc from "../support/fastCheck";
import hre from "hardhat";
import { EntryStatus, packEntries, type EntryStatusName } from "../../oracle/protocol/entries";
import { BPS, priceOf, UINT32_MAX, usageBy } from "../../oracle/protocol/meters";
import type { Usage } from "../../oracle/protocol/types";
import { UsageChargeHarness__factory, type UsageChargeHarness } from "../../typechain-types";
import { anyUsage } from "../support/fakeMessages";
import { DAY, planTerms, structOf, usd } from "../support/market";

/** The reference: what a batch has in common, and an account, as plain structs. */
interface Terms {
  planId: bigint;
  operatorId: bigint;
  epochStart: bigint;
  epochEnd: bigint;
  termPeriod: bigint;
  renewable: boolean;
  /** 0 is none. */
  cap: bigint;
  unit: bigint;
  discountBps: bigint;
  rates: Usage;
}

interface Account {
  planId: bigint;
  operatorId: bigint;
  onVoucherRoad: boolean;
  balance: bigint;
  spent: bigint;
  capCode: bigint;
  term: bigint;
  expiresAt: bigint;
  generation: bigint;
}

interface Charge {
  account: Account;
  amount: bigint;
  status: EntryStatusName;
}

const MAX_SPENT = 2n ** 56n - 1n;
const NO_ACCOUNT: Account = {
  planId: 0n,
  operatorId: 0n,
  onVoucherRoad: false,
  balance: 0n,
  spent: 0n,
  capCode: 0n,
  term: 0n,
  expiresAt: 0n,
  generation: 0n,
};

function charge(terms: Terms, account: Account, usage: Usage): Charge {
  const refused = (status: EntryStatusName): Charge => ({ account, amount: 0n, status });
  if (Object.values(account).every((field) => !field)) return refused("UnknownLicense");
  if (account.planId !== terms.planId) return refused("WrongPlan");
  if (account.operatorId !== terms.operatorId) return refused("WrongOperator");
  if (account.onVoucherRoad) return refused("WrongRoad");

  const running = { ...account };
  if (terms.epochStart >= account.expiresAt) {
    if (!terms.renewable) return refused("TermNotRunning");
    while (running.expiresAt <= terms.epochStart) {
      running.expiresAt += terms.termPeriod;
      running.term = (running.term + 1n) % 2n ** 16n;
      running.spent = 0n;
    }
  } else {
    const startedAt = account.expiresAt - terms.termPeriod;
    const counts = account.term === 0n ? terms.epochEnd > startedAt : terms.epochStart >= startedAt;
    if (!counts) return refused("TermNotRunning");
  }

  const due = (priceOf(usage, terms.rates) * (BPS - terms.discountBps)) / BPS;
  const own =
    account.capCode === 0n ? MAX_SPENT : ((8n | (account.capCode & 7n)) << (account.capCode >> 3n)) * terms.unit;
  const cap = [terms.cap === 0n ? MAX_SPENT : terms.cap, own, MAX_SPENT].reduce((a, b) => (b < a ? b : a));
  const room = cap > running.spent ? cap - running.spent : 0n;
  const underCap = due < room ? due : room;
  const amount = underCap < running.balance ? underCap : running.balance;
  return {
    account: { ...running, balance: running.balance - amount, spent: running.spent + amount },
    amount,
    status: amount < underCap ? "BalanceExhausted" : amount < due ? "CapReached" : "Charged",
  };
}

interface Aside {
  stoppedAt: bigint;
  isEnded: boolean;
  endedAt: bigint;
  endedSpent: bigint;
  nextPlanId: bigint;
  formerPlanId: bigint;
}

/**
 * The reference for an account with something aside: two counters, maybe under two plans, one balance, and a time from which
 * nothing is new.
 */
function chargeBeside(terms: Terms, account: Account, aside: Aside, usage: Usage): Charge & { endedSpent: bigint } {
  const { endedSpent } = aside;
  const isTheirs = account.planId === terms.planId && account.operatorId === terms.operatorId && !account.onVoucherRoad;
  if (isTheirs && aside.stoppedAt > 0n && terms.epochStart >= aside.stoppedAt) {
    return { account, amount: 0n, status: "Stopped", endedSpent };
  }
  if (terms.epochStart >= aside.endedAt) return { ...charge(terms, account, usage), endedSpent };
  if (aside.formerPlanId > 0n && isTheirs) {
    // The first term under a plan counts as the first of all.
    const { account: after, ...charged } = charge(terms, { ...account, term: 0n }, usage);
    return { ...charged, account: { ...after, term: account.term }, endedSpent };
  }
  const term = (account.term + 2n ** 16n - 1n) % 2n ** 16n;
  const planId = aside.formerPlanId || account.planId;
  const ended = { ...account, planId, term, spent: endedSpent, expiresAt: aside.endedAt };
  const charged = charge(terms, ended, usage);
  const { balance, spent } = charged.account;
  return { ...charged, account: { ...account, balance }, endedSpent: spent };
}

function pack(account: Account): bigint {
  return (
    account.balance |
    (account.spent << 64n) |
    (account.capCode << 120n) |
    (account.term << 128n) |
    (account.planId << 144n) |
    (account.expiresAt << 176n) |
    (account.operatorId << 208n) |
    (account.generation << 232n) |
    (account.onVoucherRoad ? 1n << 248n : 0n)
  );
}

const tariffOf = (terms: Terms) => ({
  parties: (terms.planId << 144n) | (terms.operatorId << 208n),
  epochStart: terms.epochStart,
  epochEnd: terms.epochEnd,
  termPeriod: terms.termPeriod,
  renewable: terms.renewable,
  cap: terms.cap === 0n ? MAX_SPENT : terms.cap,
  unit: terms.unit,
  keepBps: BPS - terms.discountBps,
  evenRates: terms.rates.requests | (terms.rates.cachedInputTokens << 86n) | (terms.rates.computeMs << 172n),
  oddRates: terms.rates.inputTokens | (terms.rates.outputTokens << 86n),
  stores: true,
});

const T0 = 1_900_000_000n;
const TERM = BigInt(30 * DAY);

const termsWith = (changes: Partial<Terms> = {}): Terms => ({
  planId: 3n,
  operatorId: 4n,
  epochStart: T0,
  epochEnd: T0 + 3_600n,
  termPeriod: TERM,
  renewable: true,
  cap: 0n,
  unit: usd(1),
  discountBps: 0n,
  rates: { ...usageBy(() => 0n), inputTokens: usd(1) },
  ...changes,
});

const accountWith = (changes: Partial<Account> = {}): Account => ({
  planId: 3n,
  operatorId: 4n,
  onVoucherRoad: false,
  balance: usd(100),
  spent: 0n,
  capCode: 0n,
  term: 0n,
  expiresAt: T0 + TERM / 2n,
  generation: 9n,
  ...changes,
});

/** A million input tokens cost 1 USD. */
const tokens = (millions: number): Usage => ({ ...usageBy(() => 0n), inputTokens: BigInt(millions * 1e6) });

const uint = (bits: number) => fc.bigInt({ min: 0n, max: 2n ** BigInt(bits) - 1n });
const anyRates: fc.Arbitrary<Usage> = fc.oneof(anyUsage(48), anyUsage(24), anyUsage(8));
const anyMeters: fc.Arbitrary<Usage> = fc.oneof(anyUsage(32), anyUsage(16));
const anyCase = fc
  .record({
    terms: fc.record({
      planId: fc.constant(3n),
      operatorId: fc.constant(4n),
      epochStart: fc.bigInt({ min: T0 - 3n * TERM, max: T0 + 3n * TERM }),
      epochPeriod: fc.bigInt({ min: 60n, max: BigInt(7 * DAY) }),
      termPeriod: fc.constantFrom(BigInt(DAY), BigInt(7 * DAY), TERM),
      renewable: fc.boolean(),
      cap: fc.oneof(fc.constant(0n), uint(56), uint(30)),
      unit: fc.constantFrom(1n, usd(1), 10n ** 8n),
      discountBps: fc.oneof(fc.constant(0n), fc.bigInt({ min: 0n, max: 9_500n })),
      rates: anyRates,
    }),
    account: fc.record({
      planId: fc.constantFrom(3n, 3n, 3n, 3n, 3n, 5n),
      operatorId: fc.constantFrom(4n, 4n, 4n, 4n, 4n, 6n),
      onVoucherRoad: fc.constantFrom(false, false, false, false, false, true),
      balance: fc.oneof(uint(64), uint(40), fc.constant(0n)),
      spent: fc.oneof(uint(56), uint(20), fc.constant(0n)),
      capCode: fc.oneof(fc.constant(0n), uint(8)),
      term: fc.oneof(fc.constant(0n), fc.constant(1n), uint(16)),
      expiresAt: fc.bigInt({ min: T0 - 2n * TERM, max: T0 + 4n * TERM }),
      generation: uint(16),
    }),
    usage: anyMeters,
  })
  .map(({ terms: { epochPeriod, ...terms }, account, usage }) => ({
    terms: { ...terms, epochEnd: terms.epochStart + epochPeriod },
    account,
    usage,
  }));

async function deploy(): Promise<UsageChargeHarness> {
  const harness = await hre.ethers.deployContract("UsageChargeHarness");
  return UsageChargeHarness__factory.connect(await harness.getAddress(), hre.ethers.provider);
}

describe("UsageCharge", () => {
  let library: UsageChargeHarness;

  beforeEach(async () => {
    library = await loadFixture(deploy);
  });

  /** What the library makes of the cases, and what the reference does. */
  const compare = async (cases: { terms: Terms; account: Account; usage: Usage }[]) => {
    const results = await library.chargeEach(
      cases.map(({ terms, account, usage }) => ({
        tariff: tariffOf(terms),
        account: pack(account),
        entry: BigInt(packEntries([{ licenseId: 1n, ...usage }])),
      })),
    );
    const actual = results.map(({ account, amount, status }) => ({ account, amount, status: Number(status) }));
    cases.forEach(({ terms, account }, i) => {
      // Plain is what is charged in full, in the account's own term, without the grace of the first.
      const startedAt = account.expiresAt - terms.termPeriod;
      const inTerm = terms.epochStart >= startedAt && terms.epochStart < account.expiresAt;
      const isCharged = results[i].status === BigInt(EntryStatus.Charged);
      // To charge nothing is in full, also beyond a cap that was lowered below what is spent: that isn't plain.
      if (results[i].plain || results[i].amount > 0n) {
        expect(results[i].plain, `case ${i} is plain`).to.equal(isCharged && inTerm);
      }
    });
    const expected = cases.map(({ terms, account, usage }) => {
      const { account: after, amount, status } = charge(terms, account, usage);
      return { account: pack(after), amount, status: EntryStatus[status] };
    });
    return { actual, expected };
  };

  /** One case, which the library must treat as the reference does, and as `expected` says. */
  const expectCharge = async (
    {
      terms = {},
      account = {},
      usage = tokens(10),
    }: { terms?: Partial<Terms>; account?: Partial<Account>; usage?: Usage },
    expected: { amount: bigint; status: EntryStatusName; after?: Partial<Account> },
  ) => {
    const before = accountWith(account);
    const { actual, expected: modelled } = await compare([{ terms: termsWith(terms), account: before, usage }]);
    expect(actual).to.deep.equal(modelled);
    const after = { ...before, balance: before.balance - expected.amount, spent: before.spent + expected.amount };
    expect(actual[0]).to.deep.equal({
      account: pack({ ...after, ...expected.after }),
      amount: expected.amount,
      status: EntryStatus[expected.status],
    });
  };

  describe("chargeTo", () => {
    it("does what the reference model does, whatever the rates, meters, caps, balances, terms and discounts", async () => {
      const statuses = new Set<number>();
      await fc.assert(
        fc.asyncProperty(fc.array(anyCase, { minLength: 40, maxLength: 40 }), async (cases) => {
          const { actual, expected } = await compare(cases);
          actual.forEach(({ status }) => statuses.add(status));
          expect(actual).to.deep.equal(expected);
        }),
        { numRuns: 40 },
      );
      const { UnknownLicense, Stopped, ...rest } = EntryStatus;
      expect([...statuses]).not.to.include.members([UnknownLicense, Stopped]);
      const common = Object.values(rest);
      expect([...statuses].sort()).to.deep.equal(common);
    });

    describe("whom it may charge", () => {
      it("says UnknownLicense of an account that was never opened, whatever the batch names", async () => {
        await expectCharge({ account: NO_ACCOUNT }, { amount: 0n, status: "UnknownLicense" });
      });

      it("says WrongPlan of an account under another plan, also when its operator is another, too", async () => {
        await expectCharge({ account: { planId: 5n } }, { amount: 0n, status: "WrongPlan" });
        await expectCharge({ account: { planId: 5n, operatorId: 6n } }, { amount: 0n, status: "WrongPlan" });
      });

      it("says WrongOperator of an account that names another operator", async () => {
        await expectCharge({ account: { operatorId: 6n } }, { amount: 0n, status: "WrongOperator" });
      });

      it("says WrongRoad of an account on the voucher road", async () => {
        await expectCharge({ account: { onVoucherRoad: true } }, { amount: 0n, status: "WrongRoad" });
      });
    });

    describe("the price", () => {
      it("is the meters times the rates, per million", async () => {
        const rates = {
          requests: 100n,
          inputTokens: 200n,
          cachedInputTokens: 300n,
          outputTokens: 400n,
          computeMs: 500n,
        };
        const usage = usageBy(() => 2_000_000n);
        await expectCharge({ terms: { rates }, usage }, { amount: 3_000n, status: "Charged" });
      });

      it("is divided once, over the sum, and rounded down", async () => {
        const rates = usageBy(() => 1n);
        const almost = { ...usageBy(() => 0n), requests: 999_999n };
        await expectCharge({ terms: { rates }, usage: almost }, { amount: 0n, status: "Charged" });
        const halves = { ...usageBy(() => 0n), requests: 500_000n, computeMs: 500_000n };
        await expectCharge({ terms: { rates }, usage: halves }, { amount: 1n, status: "Charged" });
        await expectCharge({ terms: { rates }, usage: usageBy(() => 599_999n) }, { amount: 2n, status: "Charged" });
      });

      it("is less by the discount, rounded down again", async () => {
        await expectCharge({ terms: { discountBps: 2_500n } }, { amount: usd(7.5), status: "Charged" });
        const rates = { ...usageBy(() => 0n), inputTokens: 7n };
        await expectCharge({ terms: { rates, discountBps: 1n }, usage: tokens(1) }, { amount: 6n, status: "Charged" });
      });

      it("is nothing for no usage", async () => {
        await expectCharge({ usage: usageBy(() => 0n) }, { amount: 0n, status: "Charged" });
      });
    });

    describe("limits", () => {
      it("stop at the balance", async () => {
        await expectCharge({ account: { balance: usd(10) } }, { amount: usd(10), status: "Charged" });
        await expectCharge(
          { account: { balance: usd(10) - 1n } },
          { amount: usd(10) - 1n, status: "BalanceExhausted" },
        );
        await expectCharge({ account: { balance: 0n } }, { amount: 0n, status: "BalanceExhausted" });
      });

      it("stop at the plan's cap", async () => {
        await expectCharge({ terms: { cap: usd(10) } }, { amount: usd(10), status: "Charged" });
        await expectCharge({ terms: { cap: usd(10) - 1n } }, { amount: usd(10) - 1n, status: "CapReached" });
        await expectCharge(
          { terms: { cap: usd(10) }, account: { spent: usd(4) } },
          { amount: usd(6), status: "CapReached" },
        );
      });

      it("stop at the licensee's own cap, here 9 USD", async () => {
        await expectCharge({ account: { capCode: 1n } }, { amount: usd(9), status: "CapReached" });
        await expectCharge({ account: { capCode: 2n } }, { amount: usd(10), status: "Charged" });
      });

      it("stop at the lower of the two caps", async () => {
        await expectCharge(
          { terms: { cap: usd(5) }, account: { capCode: 1n } },
          { amount: usd(5), status: "CapReached" },
        );
        await expectCharge(
          { terms: { cap: usd(9.5) }, account: { capCode: 1n } },
          { amount: usd(9), status: "CapReached" },
        );
      });

      it("charge nothing more when a cap was lowered below what was spent", async () => {
        await expectCharge({ account: { capCode: 1n, spent: usd(50) } }, { amount: 0n, status: "CapReached" });
      });

      it("say BalanceExhausted when the balance is below the cap that stops the charge, too", async () => {
        await expectCharge(
          { terms: { cap: usd(5) }, account: { balance: usd(3) } },
          { amount: usd(3), status: "BalanceExhausted" },
        );
      });

      it("say CapReached when balance and cap leave the same", async () => {
        await expectCharge(
          { terms: { cap: usd(5) }, account: { balance: usd(5) } },
          { amount: usd(5), status: "CapReached" },
        );
      });
    });

    describe("the term", () => {
      const end = T0 + TERM / 2n;
      const epoch = (epochStart: bigint, period = 3_600n) => ({ epochStart, epochEnd: epochStart + period });

      it("takes an epoch that starts in its last second and ends after it", async () => {
        await expectCharge({ terms: { ...epoch(end - 1n), renewable: false } }, { amount: usd(10), status: "Charged" });
      });

      it("is over for an epoch that starts when it ends, if the plan isn't renewable", async () => {
        await expectCharge({ terms: { ...epoch(end), renewable: false } }, { amount: 0n, status: "TermNotRunning" });
      });

      it("is followed by the next for an epoch that starts when it ends, if the plan is renewable", async () => {
        await expectCharge(
          { terms: epoch(end), account: { spent: usd(70) } },
          { amount: usd(10), status: "Charged", after: { term: 1n, expiresAt: end + TERM, spent: usd(10) } },
        );
      });

      it("skips the terms in which nothing was used", async () => {
        await expectCharge(
          { terms: epoch(end + 4n * TERM + 5n) },
          { amount: usd(10), status: "Charged", after: { term: 5n, expiresAt: end + 5n * TERM } },
        );
        await expectCharge(
          { terms: epoch(end + 5n * TERM - 1n) },
          { amount: usd(10), status: "Charged", after: { term: 5n, expiresAt: end + 5n * TERM } },
        );
      });

      it("has its own room under the caps", async () => {
        await expectCharge(
          { terms: { ...epoch(end), cap: usd(8) }, account: { spent: usd(8) } },
          { amount: usd(8), status: "CapReached", after: { term: 1n, expiresAt: end + TERM, spent: usd(8) } },
        );
      });

      it("renews also where nothing is left to charge", async () => {
        await expectCharge(
          { terms: epoch(end), account: { balance: 0n, spent: usd(8) } },
          { amount: 0n, status: "BalanceExhausted", after: { term: 1n, expiresAt: end + TERM, spent: 0n } },
        );
      });

      it("takes the epoch in which the license was bought, if it is the first", async () => {
        const boughtAt = end - TERM;
        await expectCharge({ terms: epoch(boughtAt - 3_599n) }, { amount: usd(10), status: "Charged" });
        await expectCharge({ terms: epoch(boughtAt - 3_600n) }, { amount: 0n, status: "TermNotRunning" });
      });

      it("doesn't take an epoch that started in the term before, once the license has renewed", async () => {
        const startedAt = end - TERM;
        await expectCharge({ terms: epoch(startedAt), account: { term: 1n } }, { amount: usd(10), status: "Charged" });
        await expectCharge(
          { terms: epoch(startedAt - 1n), account: { term: 1n } },
          { amount: 0n, status: "TermNotRunning" },
        );
      });
    });

    describe("extremes", () => {
      const everything: Usage = usageBy(() => UINT32_MAX);
      const dearest: Usage = usageBy(() => 2n ** 48n - 1n);

      it("don't overflow: all meters and rates full, balance full, room up to the counter's width", async () => {
        await expectCharge(
          { terms: { rates: dearest }, account: { balance: 2n ** 64n - 1n }, usage: everything },
          { amount: MAX_SPENT, status: "CapReached" },
        );
      });

      it("leave what the counter can't count uncharged", async () => {
        await expectCharge(
          { terms: { rates: dearest }, account: { balance: 2n ** 64n - 1n, spent: MAX_SPENT - 7n }, usage: everything },
          { amount: 7n, status: "CapReached" },
        );
        await expectCharge(
          { account: { balance: 2n ** 64n - 1n, spent: MAX_SPENT } },
          { amount: 0n, status: "CapReached" },
        );
      });

      it("hold with caps above the counter's width", async () => {
        await expectCharge(
          {
            terms: { rates: dearest, unit: 10n ** 8n, cap: MAX_SPENT },
            account: { capCode: 255n, balance: 2n ** 64n - 1n },
            usage: everything,
          },
          { amount: MAX_SPENT, status: "CapReached" },
        );
      });

      it("hold with the largest discount", async () => {
        const rates = { ...usageBy(() => 0n), inputTokens: 2n ** 48n - 1n };
        await expectCharge(
          { terms: { rates, discountBps: 9_500n }, account: { balance: 2n ** 64n - 1n }, usage: tokens(1) },
          { amount: ((2n ** 48n - 1n) * 500n) / 10_000n, status: "Charged" },
        );
      });
    });
  });

  describe("chargeBeside", () => {
    const anyAside = anyCase.chain((of) =>
      fc.record({
        of: fc.constant(of),
        aside: fc.record({
          stoppedAt: fc.oneof(
            fc.constant(0n),
            fc.constantFrom(of.terms.epochStart - 1n, of.terms.epochStart, of.terms.epochStart + 1n),
            uint(32),
          ),
          isEnded: fc.boolean(),
          endedAt: fc.oneof(
            fc.constant(0n),
            fc.constantFrom(of.terms.epochStart, of.terms.epochStart + 1n),
            fc.bigInt({ min: T0 - TERM, max: T0 + 4n * TERM }),
          ),
          endedSpent: fc.oneof(fc.constant(0n), uint(56), uint(30)),
          nextPlanId: fc.constantFrom(0n, 7n),
          formerPlanId: fc.constantFrom(0n, 3n, 5n),
        }),
      }),
    );
    // A term under another plan ends after the one before it.
    const anyCaseBeside = anyAside.filter(
      ({ of, aside }) => aside.formerPlanId === 0n || of.account.expiresAt > aside.endedAt,
    );

    it("does what the reference model does, whatever stands aside", async () => {
      const statuses = new Set<EntryStatusName>();
      let late = 0;
      await fc.assert(
        fc.asyncProperty(fc.array(anyCaseBeside, { minLength: 40, maxLength: 40 }), async (cases) => {
          const results = await library.chargeEachBeside(
            cases.map(({ of: { terms, account, usage }, aside }) => ({
              tariff: tariffOf(terms),
              account: pack(account),
              aside,
              entry: BigInt(packEntries([{ licenseId: 1n, ...usage }])),
            })),
          );
          cases.forEach(({ of: { terms, account, usage }, aside }, i) => {
            const { account: after, amount, status, endedSpent } = chargeBeside(terms, account, aside, usage);
            statuses.add(status);
            if (endedSpent > aside.endedSpent) late += 1;
            expect(structOf(results[i])).to.deep.include({
              account: pack(after),
              amount,
              status: BigInt(EntryStatus[status]),
              endedSpent,
            });
          });
        }),
        { numRuns: 20 },
      );
      const { UnknownLicense, ...rest } = EntryStatus;
      expect(statuses.size).to.equal(Object.keys(rest).length);
      expect([...statuses].map((status) => EntryStatus[status])).not.to.include(UnknownLicense);
      expect(late).to.be.above(0);
    });
  });

  describe("tariffOf", () => {
    const header = {
      operatorId: 4,
      planId: 3,
      versionId: 1n,
      sequence: 1n,
      epochStart: T0,
      epochEnd: T0 + 60n,
      root: id("root"),
      count: 1n,
      ...usageBy(() => 1n),
      availabilityBps: 10_000,
      p95TtftMs: 1,
      samples: 20,
      entriesHash: id("entries"),
      evidenceHash: id("evidence"),
    };
    const rates = { requests: 1n, inputTokens: 2n, cachedInputTokens: 3n, outputTokens: 4n, computeMs: 5n };
    const attestor = "0x00000000000000000000000000000000000000A1";

    for (const [cap, meaning] of [
      [0n, "no cap"],
      [77n, "a cap"],
    ] as const) {
      it(`gathers what a batch and a plan with ${meaning} say`, async () => {
        const plan = planTerms(1, attestor, { rates, cap, termPeriod: DAY, renewable: false });
        const expected = termsWith({
          epochEnd: T0 + 60n,
          termPeriod: BigInt(DAY),
          renewable: false,
          cap,
          discountBps: 1_234n,
          rates,
        });
        const tariff = await library.tariffOf(header, plan, 1_234, usd(1));
        expect(structOf(tariff)).to.deep.equal(tariffOf(expected));
      });
    }
  });
});
