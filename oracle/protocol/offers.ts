import type { TypedDataDomain } from "ethers";

/** What the owner of a model signs to offer licenses of it to one buyer, as EIP-712 has it: until the model is transferred. */
export const OFFER_TYPES = {
  Offer: [
    { name: "terms", type: "PlanTerms" },
    { name: "buyer", type: "address" },
    { name: "salt", type: "uint256" },
    { name: "deadline", type: "uint256" },
    { name: "transferCount", type: "uint256" },
  ],
  PlanTerms: [
    { name: "assetId", type: "uint32" },
    { name: "attestor", type: "address" },
    { name: "publisherBps", type: "uint16" },
    { name: "attestorBps", type: "uint16" },
    { name: "holdPeriod", type: "uint32" },
    { name: "rates", type: "Rates" },
    { name: "levels", type: "ServiceLevels" },
    { name: "upfrontPrice", type: "uint56" },
    { name: "minimumSpend", type: "uint56" },
    { name: "cap", type: "uint56" },
    { name: "termPeriod", type: "uint32" },
    { name: "renewable", type: "bool" },
    { name: "transferable", type: "bool" },
    { name: "minEvidenceTier", type: "uint8" },
    { name: "permittedUses", type: "uint32" },
    { name: "supply", type: "uint32" },
    { name: "arbitrator", type: "address" },
    { name: "licenseTextHash", type: "bytes32" },
  ],
  Rates: [
    { name: "requests", type: "uint48" },
    { name: "inputTokens", type: "uint48" },
    { name: "cachedInputTokens", type: "uint48" },
    { name: "outputTokens", type: "uint48" },
    { name: "computeMs", type: "uint48" },
  ],
  ServiceLevels: [
    { name: "availabilityFloorBps", type: "uint16" },
    { name: "availabilityDiscountBps", type: "uint16" },
    { name: "severeAvailabilityFloorBps", type: "uint16" },
    { name: "severeAvailabilityDiscountBps", type: "uint16" },
    { name: "ttftCeilingMs", type: "uint32" },
    { name: "ttftDiscountBps", type: "uint16" },
    { name: "severeTtftCeilingMs", type: "uint32" },
    { name: "severeTtftDiscountBps", type: "uint16" },
  ],
};

/** The domain of what is signed for a registry of plans. */
export const offerDomainOf = (chainId: bigint, verifyingContract: string): TypedDataDomain => ({
  name: "Licet LicenseRegistry",
  version: "1",
  chainId,
  verifyingContract,
});
