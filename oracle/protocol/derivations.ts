import type { TypedDataDomain } from "ethers";

/**
 * What a parent's owner signs so that somebody may register an asset that came from it, as EIP-712 has it: until the parent is
 * transferred.
 */
export const DERIVATION_TYPES = {
  Derivation: [
    { name: "parentId", type: "uint32" },
    { name: "registrant", type: "address" },
    { name: "relation", type: "uint8" },
    { name: "incomeBps", type: "uint16" },
    { name: "salt", type: "uint256" },
    { name: "deadline", type: "uint256" },
    { name: "transferCount", type: "uint256" },
  ],
};

/** The domain of what is signed for a registry of assets. */
export const derivationDomainOf = (chainId: bigint, verifyingContract: string): TypedDataDomain => ({
  name: "Licet AssetRegistry",
  version: "1",
  chainId,
  verifyingContract,
});
