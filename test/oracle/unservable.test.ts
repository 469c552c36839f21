import { expect } from "chai";
import type { LicenseState } from "../../oracle/chain/chain";
import { type Service, unservable } from "../../oracle/gateway/unservable";
import { LANE, stubMarket } from "../support/stubMarket";

const DAY = 86_400;
const NOON = 1_000 * DAY + DAY / 2;
const SERVICE: Service = {
  operatorId: LANE.operatorId,
  from: NOON - 300,
  until: NOON,
  epochSeconds: DAY,
  windowPeriod: 2 * DAY,
};

describe("unservable", () => {
  const codeOf = (fields: Partial<LicenseState>, service: Partial<Service> = {}) =>
    unservable({ ...stubMarket().licenses.get(7n)!, ...fields }, { ...SERVICE, ...service })?.code ?? null;

  it("has nothing against a license in order", () => {
    expect(codeOf({})).to.equal(null);
  });

  for (const renewal of ["none", "called"] as const) {
    it(`lets a license whose renewal is "${renewal}" be served up to its term's end`, () => {
      const code = renewal === "none" ? "license_expired" : "term_over";
      expect(codeOf({ renewal, expiresAt: NOON + 1 })).to.equal(null);
      expect(codeOf({ renewal, expiresAt: NOON })).to.equal(code);
    });
  }

  it("lets a license that settlement renews be served on", () => {
    expect(codeOf({ renewal: "settled", expiresAt: 1 })).to.equal(null);
  });

  it("has a license that was renewed late wait for the epoch after", () => {
    const midnight = 1_000 * DAY;
    expect(codeOf({ countsFrom: midnight })).to.equal(null);
    const late = { ...stubMarket().licenses.get(7n)!, countsFrom: midnight + 1 };
    expect(unservable(late, SERVICE)).to.deep.include({ status: 403, code: "term_new" });
    expect(unservable(late, SERVICE)?.message).to.contain("from the next epoch on, at 1972-09-28T00:00:00.000Z");
    expect(codeOf({ countsFrom: midnight + 1 }, { from: midnight + DAY })).to.equal(null);
  });

  it("lets a license that goes over to another plan be served up to then", () => {
    const changeAt = (changesAt: number) => ({ planChange: { planId: 5, changesAt } });
    expect(codeOf(changeAt(NOON + 1))).to.equal(null);
    expect(codeOf(changeAt(NOON))).to.equal("plan_over");
    const over = { ...stubMarket().licenses.get(7n)!, ...changeAt(NOON) };
    expect(unservable(over, SERVICE)).to.deep.include({ status: 402, code: "plan_over" });
    expect(unservable(over, SERVICE)?.message).to.contain("goes over to plan 5 at 1972-09-27T12:00:00.000Z");
    expect(codeOf({ ...changeAt(NOON), stop: "locked" })).to.equal("license_locked");
  });

  describe("when a change of operator was announced", () => {
    const changeAt = (readyAt: number) => ({ serviceChange: { operatorId: 5, onVoucherRoad: true, readyAt } });
    const midnight = 1_001 * DAY;

    it("lets it be served while its epoch's window closes before the change", () => {
      expect(codeOf(changeAt(midnight + 2 * DAY))).to.equal(null);
      expect(codeOf(changeAt(midnight + 2 * DAY - 1))).to.equal("service_changing");
    });

    it("goes by the epoch in which a request may be done, and not begin", () => {
      const until = midnight;
      expect(codeOf(changeAt(midnight + 2 * DAY), { until })).to.equal("service_changing");
      expect(codeOf(changeAt(midnight + 3 * DAY), { until })).to.equal(null);
    });

    it("goes by the operator's own epochs, which may be shorter", () => {
      const epochSeconds = 3_600;
      expect(codeOf(changeAt(NOON + 3_600 + 2 * DAY), { epochSeconds })).to.equal(null);
      expect(codeOf(changeAt(NOON + 3_600 + 2 * DAY - 1), { epochSeconds })).to.equal("service_changing");
    });

    it("lets all use of the epoch be served in which it was announced", () => {
      const announcedAt = NOON - 600;
      expect(codeOf(changeAt(announcedAt + DAY + 2 * DAY))).to.equal(null);
    });
  });

  it("lets a license on the voucher road be served where vouchers are taken, also in a term that was started late", () => {
    expect(codeOf({ onVoucherRoad: true })).to.equal("voucher_road");
    expect(codeOf({ onVoucherRoad: true }, { takesVouchers: true })).to.equal(null);
    expect(codeOf({ onVoucherRoad: true, countsFrom: NOON }, { takesVouchers: true })).to.equal(null);
    expect(codeOf({ onVoucherRoad: true, stop: "locked" }, { takesVouchers: true })).to.equal("license_locked");
  });

  it("names the operator first, then what stops all use, then what stops use from now on", () => {
    const serviceChange = { operatorId: 5, onVoucherRoad: true, readyAt: 1 };
    const all = { stop: "ended", renewal: "none", expiresAt: 1, countsFrom: NOON, serviceChange } as const;
    expect(codeOf({ ...all, operatorId: 5, onVoucherRoad: true })).to.equal("wrong_operator");
    expect(codeOf({ ...all, onVoucherRoad: true })).to.equal("voucher_road");
    expect(codeOf(all)).to.equal("license_ended");
    expect(codeOf({ ...all, stop: "locked" })).to.equal("license_locked");
    expect(codeOf({ ...all, stop: null })).to.equal("license_expired");
    expect(codeOf({ ...all, stop: null, renewal: "settled" })).to.equal("term_new");
    expect(codeOf({ ...all, stop: null, renewal: "settled", countsFrom: 0 })).to.equal("service_changing");
  });
});
