import type { Committee } from "./chain";

/** What signatures by some of a committee's members count for, each once. */
export function weightOf({ weights, unbonded }: Committee, signers: Iterable<string>): number {
  return [...new Set(signers)]
    .filter((signer) => !unbonded.includes(signer))
    .reduce((sum, signer) => sum + (weights[signer] ?? 0), 0);
}
