/** The package brings types, but doesn't name them where TypeScript looks for them. */
declare module "@zkpassport/poseidon2" {
  /** The permutation of Poseidon2 over the field of BN254, of four elements. */
  export function permute(state: readonly bigint[]): bigint[];
}
