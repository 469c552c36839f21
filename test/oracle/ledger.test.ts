import { expect } from "chai";
import fc from "../support/fastCheck";
import { isRefusal, Ledger, type Reservation } from "../../oracle/gateway/ledger";
import { worstCost, worstUsage } from "../../oracle/gateway/worstCase";
import { costOf } from "../../oracle/protocol/meters";
import { anyUsage, usage } from "../support/fakeMessages";

const LICENSE = { licenseId: 1n, balance: 1_000n, thawing: 0n, owed: 0n, spent: 0n, cap: 0n };
const GRANT = { hash: "0x01", cap: 0n };
/** More stake than any amount here. */
const PLENTY = 2n ** 63n;

function reserved(answer: ReturnType<Ledger["reserve"]>): Reservation {
  if (isRefusal(answer)) throw new Error(`refused by ${answer.limit}`);
  return answer;
}

describe("Ledger", () => {
  let ledger: Ledger;

  beforeEach(() => {
    ledger = new Ledger();
  });

  describe("reserve", () => {
    it("sets money aside up to the last unit of the balance", () => {
      expect(ledger.reserve(LICENSE, GRANT, 1_000n, PLENTY)).to.deep.equal({
        licenseId: 1n,
        grantHash: "0x01",
        amount: 1_000n,
      });
      expect(ledger.reserve(LICENSE, GRANT, 1n, PLENTY)).to.deep.equal({
        limit: "balance",
        needed: 1n,
        available: 0n,
        reserved: 1_000n,
      });
    });

    it("leaves out what is thawing", () => {
      const thawing = { ...LICENSE, thawing: 400n };
      expect(ledger.reserve(thawing, GRANT, 601n, PLENTY)).to.include({ limit: "balance", available: 600n });
      expect(ledger.reserve(thawing, GRANT, 600n, PLENTY)).to.have.property("amount", 600n);
    });

    it("counts what isn't settled yet", () => {
      ledger.setUnsettled(1n, 900n);
      expect(ledger.reserve(LICENSE, GRANT, 101n, PLENTY)).to.include({
        limit: "balance",
        available: 100n,
        reserved: 0n,
      });
    });

    it("keeps to the cap of the term, counting what is spent in it", () => {
      ledger.setUnsettled(1n, 50n);
      const capped = { ...LICENSE, spent: 300n, cap: 500n };
      expect(ledger.reserve(capped, GRANT, 151n, PLENTY)).to.include({ limit: "cap", needed: 151n, available: 150n });
      expect(ledger.reserve(capped, GRANT, 150n, PLENTY)).to.have.property("amount", 150n);
    });

    it("keeps to the grant's cap, counting what it has used", () => {
      ledger.setGrantUsed("0x01", 70n);
      const capped = { hash: "0x01", cap: 100n };
      expect(ledger.reserve(LICENSE, capped, 31n, PLENTY)).to.include({ limit: "grant", available: 30n });
      expect(ledger.reserve(LICENSE, capped, 30n, PLENTY)).to.have.property("amount", 30n);
      expect(ledger.reserve(LICENSE, { hash: "0x02", cap: 100n }, 100n, PLENTY)).to.have.property("amount", 100n);
    });

    it("keeps to what the operator's stake secures, counting what all licenses owe and hold", () => {
      ledger.setUnsettledOfAll(60n);
      expect(ledger.reserve(LICENSE, GRANT, 30n, 100n)).to.have.property("amount", 30n);
      const other = { ...LICENSE, licenseId: 2n };
      const refusal = { limit: "stake", needed: 11n, available: 10n, reserved: 30n };
      expect(ledger.reserve(other, { hash: "0x02", cap: 0n }, 11n, 100n)).to.deep.equal(refusal);
      expect(ledger.reserve(other, { hash: "0x02", cap: 0n }, 10n, 100n)).to.have.property("amount", 10n);
      expect(ledger.reserve(other, { hash: "0x02", cap: 0n }, 1n, 50n)).to.include({ limit: "stake", available: 0n });
    });

    it("says 0 is available, never less, when a withdrawal has overtaken use", () => {
      ledger.setUnsettled(1n, 2_000n);
      expect(ledger.reserve(LICENSE, GRANT, 1n, PLENTY)).to.include({ available: 0n });
    });

    it("changes nothing when it refuses", () => {
      ledger.reserve(LICENSE, { hash: "0x01", cap: 10n }, 11n, PLENTY);
      expect(ledger.reserve(LICENSE, GRANT, 1_000n, PLENTY)).to.have.property("amount", 1_000n);
    });
  });

  describe("reserveByVoucher", () => {
    it("keeps to the grant's cap, and needs neither balance nor stake", () => {
      ledger.setGrantUsed("0x01", 70n);
      const capped = { hash: "0x01", cap: 100n };
      expect(ledger.reserveByVoucher(1n, capped, 31n)).to.include({ limit: "grant", available: 30n });
      const reservation = reserved(ledger.reserveByVoucher(1n, capped, 30n));
      expect(ledger.reserveByVoucher(1n, capped, 1n)).to.include({ limit: "grant", available: 0n, reserved: 30n });
      expect(ledger.reservedOfAll).to.equal(0n);
      ledger.settle(reservation, 10n);
      expect([ledger.unsettled(1n), ledger.unsettledOfAll]).to.deep.equal([0n, 0n]);
      expect(ledger.reserve(LICENSE, capped, 21n, PLENTY)).to.include({ limit: "grant", available: 20n });
    });
  });

  describe("settle", () => {
    it("turns the reservation into what the request cost", () => {
      ledger.settle(reserved(ledger.reserve(LICENSE, GRANT, 800n, PLENTY)), 300n);
      expect(ledger.unsettled(1n)).to.equal(300n);
      expect(ledger.unsettledOfAll).to.equal(300n);
      expect(ledger.reserve(LICENSE, GRANT, 701n, PLENTY)).to.include({ available: 700n, reserved: 0n });
    });
  });

  describe("free", () => {
    it("gives everything back", () => {
      ledger.free(reserved(ledger.reserve(LICENSE, GRANT, 800n, PLENTY)));
      expect(ledger.unsettled(1n)).to.equal(0n);
      expect(ledger.reserve(LICENSE, GRANT, 1_000n, PLENTY)).to.have.property("amount", 1_000n);
    });
  });

  describe("size", () => {
    it("grows with money that is owed or set aside, not with questions", () => {
      for (let licenseId = 1n; licenseId <= 100n; licenseId++) {
        expect(ledger.unsettled(licenseId)).to.equal(0n);
        ledger.setUnsettled(licenseId, 0n);
        ledger.setGrantUsed(`0x${licenseId}`, 0n);
        ledger.reserve({ ...LICENSE, licenseId, balance: 0n }, GRANT, 1n, PLENTY);
      }
      expect(ledger.size).to.equal(0);
      const reservation = reserved(ledger.reserve(LICENSE, GRANT, 5n, PLENTY));
      expect(ledger.size).to.equal(2);
      ledger.free(reservation);
      expect(ledger.size).to.equal(0);
    });
  });

  it("never lets use and reservations exceed a limit, whatever comes in whatever order", () => {
    const step = fc.record({
      grant: fc.nat(2),
      amount: fc.bigInt(0n, 400n),
      ends: fc.nat(3),
      share: fc.bigInt(0n, 100n),
    });
    const limits = { licenseId: 1n, balance: 1_500n, thawing: 200n, owed: 250n, spent: 100n, cap: 1_200n };
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), fc.constantFrom(900n, PLENTY), (steps, headroom) => {
        const books = new Ledger();
        const running: Reservation[] = [];
        const used = new Map<string, bigint>();
        for (const { grant, amount, ends, share } of steps) {
          const answer = books.reserve(limits, { hash: `0x${grant}`, cap: 500n }, amount, headroom);
          if (!isRefusal(answer)) running.push(answer);
          for (const reservation of running.splice(0, ends)) {
            const cost = (reservation.amount * share) / 100n;
            books.settle(reservation, cost);
            used.set(reservation.grantHash, (used.get(reservation.grantHash) ?? 0n) + cost);
          }
          const sum = (amounts: Iterable<bigint>) => [...amounts].reduce((total, one) => total + one, 0n);
          const held = sum(running.map((reservation) => reservation.amount));
          expect(sum(used.values()) === books.unsettled(1n)).to.equal(true);
          expect(held + books.unsettled(1n) <= 1_050n).to.equal(true);
          expect(books.unsettledOfAll === books.unsettled(1n)).to.equal(true);
          expect(held + books.unsettledOfAll <= headroom).to.equal(true);
          for (const hash of ["0x0", "0x1", "0x2"]) {
            const ofGrant = running.filter((reservation) => reservation.grantHash === hash);
            const atMost = sum(ofGrant.map((reservation) => reservation.amount)) + (used.get(hash) ?? 0n);
            expect(atMost <= 500n).to.equal(true);
          }
        }
      }),
    );
  });
});

describe("worstUsage", () => {
  it("takes every byte for a token, every answer for full and all of the time for compute", () => {
    const bounds = { promptBytes: 100, templateTokens: 20, maxTokens: 50, choices: 3, timeoutMs: 1_000, gpus: 8 };
    expect(worstUsage(bounds)).to.deep.equal(
      usage({ requests: 1n, inputTokens: 120n, outputTokens: 150n, computeMs: 8_000n }),
    );
  });
});

describe("worstCost", () => {
  it("covers every split of the input into cached and not", () => {
    fc.assert(
      fc.property(anyUsage(20), anyUsage(40), fc.bigInt(0n, 100n), (worst, rates, share) => {
        const bound = { ...worst, cachedInputTokens: 0n };
        const cachedInputTokens = (bound.inputTokens * share) / 100n;
        const used = { ...bound, cachedInputTokens, inputTokens: bound.inputTokens - cachedInputTokens };
        return costOf(used, rates) <= worstCost(bound, rates);
      }),
    );
  });
});
