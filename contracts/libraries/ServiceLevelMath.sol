// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {ServiceLevels} from "../interfaces/ILicenseRegistry.sol";

/// @dev What measured service earns on a plan's levels.
library ServiceLevelMath {
    /// @dev Fewer canaries than this say nothing.
    uint256 internal constant MIN_SAMPLES = 20;

    /// @dev The larger of the discounts that availability and time to first token earn, in basis points.
    function discountOf(
        ServiceLevels memory levels,
        uint256 availabilityBps,
        uint256 p95TtftMs,
        uint256 samples
    ) internal pure returns (uint256) {
        if (samples < MIN_SAMPLES) return 0;
        uint256 forAvailability =
            availabilityBps < levels.severeAvailabilityFloorBps
                ? levels.severeAvailabilityDiscountBps
                : availabilityBps < levels.availabilityFloorBps
                    ? levels.availabilityDiscountBps
                    : 0;
        uint256 forTtft =
            p95TtftMs > levels.severeTtftCeilingMs
                ? levels.severeTtftDiscountBps
                : p95TtftMs > levels.ttftCeilingMs
                    ? levels.ttftDiscountBps
                    : 0;
        return forAvailability > forTtft ? forAvailability : forTtft;
    }

    /// @dev Whether service that earned `discountBps` was measured and met levels that cost something to miss.
    function areMet(ServiceLevels memory levels, uint256 discountBps, uint256 samples) internal pure returns (bool) {
        return discountBps == 0 && samples >= MIN_SAMPLES && largestDiscount(levels) > 0;
    }

    /// @dev The most that the levels can take off, in basis points: the severe tiers are the dearer ones.
    function largestDiscount(ServiceLevels memory levels) internal pure returns (uint256) {
        return
            levels.severeAvailabilityDiscountBps > levels.severeTtftDiscountBps
                ? levels.severeAvailabilityDiscountBps
                : levels.severeTtftDiscountBps;
    }

    /// @dev Whether the severe tiers are at least as far out and at least as dear as the first ones.
    function areOrdered(ServiceLevels memory levels) internal pure returns (bool) {
        return
            levels.availabilityFloorBps <= 10_000 &&
            levels.severeAvailabilityFloorBps <= levels.availabilityFloorBps &&
            levels.severeAvailabilityDiscountBps >= levels.availabilityDiscountBps &&
            levels.severeTtftCeilingMs >= levels.ttftCeilingMs &&
            levels.severeTtftDiscountBps >= levels.ttftDiscountBps;
    }
}
