/** A version's id is its asset's id in the upper 32 bits, and its number within the asset, from 1, in the lower 32. */
const NUMBER_BITS = 32n;

export const versionIdOf = (assetId: number, number: number): bigint =>
  (BigInt(assetId) << NUMBER_BITS) | BigInt(number);

export const assetOf = (versionId: bigint): number => Number(versionId >> NUMBER_BITS);

export const numberOf = (versionId: bigint): number => Number(BigInt.asUintN(Number(NUMBER_BITS), versionId));
