/** Whether a transaction brings more than its gas costs: pure, and the same for settlements and releases. */
import type { Epoch } from "../protocol/types";

export interface EconomyConfig {
  /** What one of the chain's native coin is worth, in whole units of the currency times 10^8. */
  gasTokenPrice: bigint;
  /** A transaction waits until it brings so many times what its gas costs. */
  minValueToGas: number;
  /** How long after its epoch's end a batch waits for that, in seconds: then it goes as long as it brings anything. */
  settleWithinSeconds?: number;
}

/** How much a transaction brings, and costs, in units of the currency. */
export interface Bargain {
  value: bigint;
  cost: bigint;
}

/** now: it pays. wait: it may pay better, or pay at all, later. never: it costs more than it brings, and others wait for it. */
export type Verdict = "now" | "wait" | "never";

const PRICE_SCALE = 10n ** 8n;
const WEI = 10n ** 18n;

/** Gas of settling so many licenses, as `test/snapshots/gas.json` has it. */
export const settlementGas = (licenses: number): bigint => 160_000n + 6_300n * BigInt(licenses);

/** So much gas money in units of a currency, rounded up. */
export function inCurrency(wei: bigint, { gasTokenPrice }: EconomyConfig, decimals: number): bigint {
  const scale = WEI * PRICE_SCALE;
  return (wei * gasTokenPrice * 10n ** BigInt(decimals) + scale - 1n) / scale;
}

/** Whether it brings as many times what it costs as the settings ask for. */
export function isWorthIt({ value, cost }: Bargain, { minValueToGas }: EconomyConfig): boolean {
  return value >= cost * BigInt(minValueToGas);
}

/**
 * @param windowPeriod how long after its epoch's end a batch can be settled, in seconds
 * @param isWaitedFor whether later epochs of its lane have ended: they settle after it, or without it
 */
export function verdictOf(
  bargain: Bargain,
  config: EconomyConfig,
  { epochEnd }: Epoch,
  { now, windowPeriod, isWaitedFor }: { now: number; windowPeriod: number; isWaitedFor: boolean },
): Verdict {
  if (isWorthIt(bargain, config)) return "now";
  const deadline = epochEnd + Math.min(config.settleWithinSeconds ?? windowPeriod / 2, windowPeriod);
  if (now < deadline) return "wait";
  if (bargain.cost < bargain.value) return "now";
  return isWaitedFor ? "never" : "wait";
}
