/** What an attestor holds against receipts whose plan demands evidence that it hasn't seen. */
import { sameUsage, zeroUsage } from "../protocol/meters";
import { Tier } from "../protocol/tiers";
import type { Finding } from "../protocol/types";
import type { BatchFacts } from "./batchFacts";
import type { Refusal } from "./inspection";

/** What the attestor knows of an operator, itself. */
export interface Known {
  /** What it found of the operator's evidence. */
  findings: Finding[];
  /** Whether it recounted some of the batch, and all that it recounted was right. */
  recounted: boolean;
  /** Hashes of the receipts that it found proven. */
  proven: ReadonlySet<string>;
}

/**
 * Why receipts lack the evidence that their plan demands: each must be of a time for which the attestor itself found that
 * the key that signed it is backed by such hardware. What is stale, failed or was never shown is none. What counts nothing
 * needs none.
 */
export function evidenceRefusals({ plan, receipts }: BatchFacts, { findings, recounted, proven }: Known): Refusal[] {
  const demanded = plan?.minEvidenceTier ?? Tier.signed;
  if (demanded === Tier.signed || (demanded === Tier.recounted && recounted)) return [];
  return receipts.flatMap(({ receipt, hash, signer }) => {
    const { finishedAt, sequence, licenseId } = receipt;
    if (sameUsage(receipt, zeroUsage())) return [];
    const own = findings.filter((one) => one.receiptSigner === signer);
    const then = own.filter(({ from, until }) => from <= finishedAt && finishedAt < until);
    const tier = proven.has(hash) ? Tier.proven : Math.max(Tier.signed, ...then.map((one) => one.tier));
    if (tier >= demanded) return [];
    const reason =
      `Receipt ${sequence} of license ${licenseId} has evidence of tier ${tier} for ${finishedAt}; ` +
      `plan ${plan!.planId} demands tier ${demanded}`;
    return [{ reason, receiptHash: hash }];
  });
}
