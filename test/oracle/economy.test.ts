import { expect } from "chai";
import { type EconomyConfig, inCurrency, isWorthIt, settlementGas, verdictOf } from "../../oracle/settler/economy";
import fc from "../support/fastCheck";

const WINDOW = 172_800;
const EPOCH = { epochStart: 1_000, epochEnd: 4_600 };
/** A coin is worth 2,500 units of the currency. */
const CONFIG: EconomyConfig = { gasTokenPrice: 2_500n * 10n ** 8n, minValueToGas: 10 };

describe("economy", () => {
  it("turns gas money into units of the currency, rounded up", () => {
    expect(inCurrency(10n ** 18n, CONFIG, 6)).to.equal(2_500_000_000n);
    expect(inCurrency(1n, CONFIG, 6)).to.equal(1n);
    expect(inCurrency(0n, CONFIG, 6)).to.equal(0n);
    expect(inCurrency(10n ** 18n, { ...CONFIG, gasTokenPrice: 1n }, 8)).to.equal(1n);
  });

  it("knows about what settling takes", () => {
    expect(Number(settlementGas(1))).to.be.closeTo(164_295, 4_000);
    expect(Number(settlementGas(1_000))).to.be.closeTo(6_381_000, 100_000);
  });

  const verdict = (value: bigint, cost: bigint, at: number, isWaitedFor = false, config = CONFIG) =>
    verdictOf({ value, cost }, config, EPOCH, { now: EPOCH.epochEnd + at, windowPeriod: WINDOW, isWaitedFor });

  const rows: [string, ReturnType<typeof verdict>, string][] = [
    ["settles what is worth it at once", verdict(1_000n, 100n, 0), "now"],
    ["waits while it isn't", verdict(999n, 100n, 0), "wait"],
    ["waits up to half of the window", verdict(999n, 100n, WINDOW / 2 - 1), "wait"],
    ["settles then whatever brings anything", verdict(101n, 100n, WINDOW / 2), "now"],
    ["waits on for what would cost as much as it brings", verdict(100n, 100n, WINDOW / 2), "wait"],
    ["gives it up then, where later ones wait for it", verdict(100n, 100n, WINDOW / 2, true), "never"],
    ["doesn't give it up before", verdict(100n, 100n, WINDOW / 2 - 1, true), "wait"],
    ["waits as long as it is told", verdict(101n, 100n, 60, false, { ...CONFIG, settleWithinSeconds: 60 }), "now"],
    [
      "never waits beyond the window",
      verdict(101n, 100n, WINDOW, false, { ...CONFIG, settleWithinSeconds: 9e9 }),
      "now",
    ],
  ];
  for (const [title, found, expected] of rows) it(title, () => expect(found).to.equal(expected));

  it("never lets a batch that brings more than it costs go past the middle of its window", () => {
    fc.assert(
      fc.property(fc.bigInt(1n, 10n ** 12n), fc.bigInt(0n, 10n ** 12n), fc.boolean(), (cost, more, isWaitedFor) => {
        expect(verdict(cost + more + 1n, cost, WINDOW / 2, isWaitedFor)).to.equal("now");
        expect(verdict(cost, cost + more, WINDOW / 2, isWaitedFor)).not.to.equal("now");
      }),
    );
  });

  it("asks for as many times what it costs as it is told", () => {
    expect(isWorthIt({ value: 30n, cost: 10n }, { ...CONFIG, minValueToGas: 3 })).to.equal(true);
    expect(isWorthIt({ value: 29n, cost: 10n }, { ...CONFIG, minValueToGas: 3 })).to.equal(false);
  });
});
