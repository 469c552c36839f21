/** How much is shown of what was served, in the order of what plans demand at least. */
export const Tier = {
  /** The operator signs its receipts: its word. */
  signed: 0,
  /** The attestor recounted what was disclosed to it. */
  recounted: 1,
  /** Genuine GPUs, with firmware on the allow-list, signed a fresh seed. */
  gpu: 2,
  /** Measured code on a genuine CPU holds the receipt key and gathered the GPUs' evidence. */
  cpuTee: 3,
  /** The version's inference verifier takes a proof of each answer that costs something. */
  proven: 4,
} as const;
export type Tier = (typeof Tier)[keyof typeof Tier];

/** What people call them, in their order. */
export const TIER_WORDS = ["signed", "recounted", "gpu", "cpu-tee", "proven"] as const;

/** For people; a tier that this release doesn't know is shown as its number. */
export function tierWord(tier: number | bigint): string {
  return TIER_WORDS[Number(tier)] ?? String(tier);
}
