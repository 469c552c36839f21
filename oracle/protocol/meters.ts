import { METERS, type Usage } from "./types";

export const UINT32_MAX = 2n ** 32n - 1n;

/** Rates are per this many units of a meter. */
const RATE_UNITS = 1_000_000n;
export const BPS = 10_000n;

/** A usage whose every meter is what `valueOf` gives for its name and its place in METERS. */
export function usageBy(valueOf: (meter: (typeof METERS)[number], place: number) => bigint): Usage {
  return {
    requests: valueOf("requests", 0),
    inputTokens: valueOf("inputTokens", 1),
    cachedInputTokens: valueOf("cachedInputTokens", 2),
    outputTokens: valueOf("outputTokens", 3),
    computeMs: valueOf("computeMs", 4),
  };
}

export function zeroUsage(): Usage {
  return usageBy(() => 0n);
}

/** The meters of anything that has them, and nothing else of it. */
export function usageOf(source: Usage): Usage {
  return usageBy((meter) => source[meter]);
}

export function addUsage(a: Usage, b: Usage): Usage {
  return usageBy((meter) => a[meter] + b[meter]);
}

export function sumUsage(usages: Iterable<Usage>): Usage {
  let sum = zeroUsage();
  for (const usage of usages) sum = addUsage(sum, usage);
  return sum;
}

export function sameUsage(a: Usage, b: Usage): boolean {
  return METERS.every((meter) => a[meter] === b[meter]);
}

/** Each meter, but at most what `limit` has for it. */
export function clampUsage(usage: Usage, limit: Usage): Usage {
  return usageBy((meter) => (usage[meter] < limit[meter] ? usage[meter] : limit[meter]));
}

/** The meters' names that are above a uint32, which a receipt or an entry can't hold. */
export function metersOverUint32(usage: Usage): string[] {
  return METERS.filter((meter) => usage[meter] > UINT32_MAX);
}

function millionths(usage: Usage, rates: Usage): bigint {
  let sum = 0n;
  for (const meter of METERS) sum += usage[meter] * rates[meter];
  return sum;
}

/** What the contract asks for an entry, in units of the currency: divided once, rounded down in the payer's favour. */
export function priceOf(usage: Usage, rates: Usage): bigint {
  return millionths(usage, rates) / RATE_UNITS;
}

/**
 * The price rounded up. An entry's price is rounded once over many receipts, so it can exceed the sum of their
 * rounded-down prices, but never the sum of these: what a gateway sets aside for a receipt until it has settled.
 */
export function costOf(usage: Usage, rates: Usage): bigint {
  return (millionths(usage, rates) + RATE_UNITS - 1n) / RATE_UNITS;
}

/** What remains of a price after a discount, rounded down. */
export function chargeOf(price: bigint, discountBps: number): bigint {
  return (price * (BPS - BigInt(discountBps))) / BPS;
}
