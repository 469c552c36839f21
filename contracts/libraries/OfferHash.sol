// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {Offer, PlanTerms} from "../interfaces/ILicenseRegistry.sol";

/// @dev The EIP-712 struct hash of what a model's owner signs for one buyer.
library OfferHash {
    bytes32 internal constant TYPEHASH = keccak256(
        "Offer(PlanTerms terms,address buyer,uint256 salt,uint256 deadline,uint256 transferCount)"
        "PlanTerms(uint32 assetId,address attestor,uint16 publisherBps,uint16 attestorBps,uint32 holdPeriod,Rates rates,"
        "ServiceLevels levels,uint56 upfrontPrice,uint56 minimumSpend,uint56 cap,uint32 termPeriod,bool renewable,"
        "bool transferable,uint8 minEvidenceTier,uint32 permittedUses,uint32 supply,address arbitrator,"
        "bytes32 licenseTextHash)"
        "Rates(uint48 requests,uint48 inputTokens,uint48 cachedInputTokens,uint48 outputTokens,uint48 computeMs)"
        "ServiceLevels(uint16 availabilityFloorBps,uint16 availabilityDiscountBps,uint16 severeAvailabilityFloorBps,"
        "uint16 severeAvailabilityDiscountBps,uint32 ttftCeilingMs,uint16 ttftDiscountBps,uint32 severeTtftCeilingMs,"
        "uint16 severeTtftDiscountBps)"
    );
    bytes32 internal constant TERMS_TYPEHASH = keccak256(
        "PlanTerms(uint32 assetId,address attestor,uint16 publisherBps,uint16 attestorBps,uint32 holdPeriod,Rates rates,"
        "ServiceLevels levels,uint56 upfrontPrice,uint56 minimumSpend,uint56 cap,uint32 termPeriod,bool renewable,"
        "bool transferable,uint8 minEvidenceTier,uint32 permittedUses,uint32 supply,address arbitrator,"
        "bytes32 licenseTextHash)"
        "Rates(uint48 requests,uint48 inputTokens,uint48 cachedInputTokens,uint48 outputTokens,uint48 computeMs)"
        "ServiceLevels(uint16 availabilityFloorBps,uint16 availabilityDiscountBps,uint16 severeAvailabilityFloorBps,"
        "uint16 severeAvailabilityDiscountBps,uint32 ttftCeilingMs,uint16 ttftDiscountBps,uint32 severeTtftCeilingMs,"
        "uint16 severeTtftDiscountBps)"
    );
    bytes32 internal constant RATES_TYPEHASH = keccak256(
        "Rates(uint48 requests,uint48 inputTokens,uint48 cachedInputTokens,uint48 outputTokens,uint48 computeMs)"
    );
    bytes32 internal constant LEVELS_TYPEHASH = keccak256(
        "ServiceLevels(uint16 availabilityFloorBps,uint16 availabilityDiscountBps,uint16 severeAvailabilityFloorBps,"
        "uint16 severeAvailabilityDiscountBps,uint32 ttftCeilingMs,uint16 ttftDiscountBps,uint32 severeTtftCeilingMs,"
        "uint16 severeTtftDiscountBps)"
    );

    /// @param transferCount How often the model was transferred
    function structHashOf(Offer calldata offer, uint256 transferCount) internal pure returns (bytes32) {
        bytes32 termsHash = _hashOf(offer.terms);
        return keccak256(abi.encode(TYPEHASH, termsHash, offer.buyer, offer.salt, offer.deadline, transferCount));
    }

    /// @dev Two halves, since a struct within a struct stands there as its hash.
    function _hashOf(PlanTerms calldata terms) private pure returns (bytes32) {
        bytes memory first = abi.encode(
            TERMS_TYPEHASH,
            terms.assetId,
            terms.attestor,
            terms.publisherBps,
            terms.attestorBps,
            terms.holdPeriod,
            keccak256(abi.encode(RATES_TYPEHASH, terms.rates)),
            keccak256(abi.encode(LEVELS_TYPEHASH, terms.levels))
        );
        bytes memory second = abi.encode(
            terms.upfrontPrice,
            terms.minimumSpend,
            terms.cap,
            terms.termPeriod,
            terms.renewable,
            terms.transferable,
            terms.minEvidenceTier,
            terms.permittedUses,
            terms.supply,
            terms.arbitrator,
            terms.licenseTextHash
        );
        return keccak256(bytes.concat(first, second));
    }
}
