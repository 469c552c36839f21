/** Why use of a license might never be charged: gateways don't serve it then, and attestors don't take that for bad service. */
import type { LicenseState, ServiceChange } from "../chain/chain";
import { dateOf } from "../problem";
import { epochAt } from "../protocol/epochs";

/** Who would serve a license, and for how long. */
export interface Service {
  operatorId: number;
  /** When a request begins, and when it is done at the latest, Unix seconds. */
  from: number;
  until: number;
  /** Of the operator's epochs, which are counted from 1970 on, and of the deployment's window, in seconds. */
  epochSeconds: number;
  windowPeriod: number;
  /** Whether it takes vouchers. */
  takesVouchers?: boolean;
}

/** The first reason, as an HTTP answer says it. */
export interface Unservable {
  status: 402 | 403;
  code: string;
  message: string;
}

/** Null if whatever is served of the license until then can be charged, as far as its balance and its caps go. */
export function unservable(license: LicenseState, service: Service): Unservable | null {
  return (
    unservedHere(license, service) ??
    stopped(license) ??
    planOver(license, service) ??
    termOver(license, service) ??
    termNew(license, service) ??
    changing(license, service)
  );
}

function unservedHere(
  { licenseId, operatorId, onVoucherRoad }: LicenseState,
  { operatorId: own, takesVouchers = false }: Service,
): Unservable | null {
  if (operatorId !== own) {
    return forbidden(
      "wrong_operator",
      `license ${licenseId} is served by operator ${operatorId}, this is ${own}: ask there or change it (license:operator)`,
    );
  }
  if (!onVoucherRoad || takesVouchers) return null;
  return forbidden(
    "voucher_road",
    `license ${licenseId} settles by vouchers, which this gateway doesn't take: ask another operator, or change its road (license:operator)`,
  );
}

function stopped({ licenseId, stop }: LicenseState): Unservable | null {
  switch (stop) {
    case null:
      return null;
    case "locked":
      return forbidden(
        "license_locked",
        `license ${licenseId} is locked, to be transferred: its owner can unlock it (license:transfer --unlock)`,
      );
    case "ended":
      return forbidden("license_ended", `license ${licenseId} was ended by its owner: buy a new one (license:buy)`);
  }
}

/** Use under the present plan ends with its term. */
function planOver({ licenseId, planChange }: LicenseState, { until }: Service): Unservable | null {
  if (planChange === null || until < planChange.changesAt) return null;
  const { planId, changesAt } = planChange;
  return {
    status: 402,
    code: "plan_over",
    message:
      `license ${licenseId} goes over to plan ${planId} at ${dateOf(changesAt)}, before a request may be done: renew it then ` +
      `(license:renew), or take the change back (license:plan)`,
  };
}

/** Use counts in the term in which its epoch started: what is done before the end of a term is sure to be within it. */
function termOver({ licenseId, expiresAt, renewal }: LicenseState, { until }: Service): Unservable | null {
  if (until < expiresAt || renewal === "settled") return null;
  const when = `at ${dateOf(expiresAt)}, before a request may be done`;
  if (renewal === "none") {
    return forbidden("license_expired", `license ${licenseId} expires ${when}: buy a new one (license:buy)`);
  }
  return {
    status: 402,
    code: "term_over",
    message: `the term of license ${licenseId} ends ${when}: renew it then (license:renew)`,
  };
}

/** A term that was started late can't be charged for the epoch in which that was, but by vouchers, which know no epochs. */
function termNew(
  { licenseId, countsFrom, onVoucherRoad }: LicenseState,
  { from, epochSeconds }: Service,
): Unservable | null {
  if (onVoucherRoad || epochAt(from, epochSeconds).epochStart >= countsFrom) return null;
  const next = epochAt(countsFrom, epochSeconds).epochEnd;
  return forbidden(
    "term_new",
    `license ${licenseId} was renewed late, at ${dateOf(countsFrom)}: it can be used from the next epoch on, at ${dateOf(next)}`,
  );
}

/** The present operator is paid for an epoch only if that settles before the change. */
function changing({ licenseId, serviceChange }: LicenseState, service: Service): Unservable | null {
  const { until, epochSeconds, windowPeriod } = service;
  const { epochEnd } = epochAt(until, epochSeconds);
  if (serviceChange === null || epochEnd + windowPeriod <= serviceChange.readyAt) return null;
  return forbidden(
    "service_changing",
    `license ${licenseId} goes to ${destination(serviceChange)} at ${dateOf(serviceChange.readyAt)}, before use of now is ` +
      `sure to be settled: ask there from then on, or take the change back (license:operator)`,
  );
}

function destination({ operatorId, onVoucherRoad }: ServiceChange): string {
  return `operator ${operatorId}, ${onVoucherRoad ? "by vouchers" : "by attested batches"},`;
}

function forbidden(code: string, message: string): Unservable {
  return { status: 403, code, message };
}
