// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {ServiceLevels} from "../interfaces/ILicenseRegistry.sol";
import {ServiceLevelMath} from "../libraries/ServiceLevelMath.sol";

/// @title ServiceLevelMath, for tests to call
contract ServiceLevelMathHarness {
    function discountOf(
        ServiceLevels memory levels,
        uint256 availabilityBps,
        uint256 p95TtftMs,
        uint256 samples
    ) external pure returns (uint256) {
        return ServiceLevelMath.discountOf(levels, availabilityBps, p95TtftMs, samples);
    }

    function areMet(ServiceLevels memory levels, uint256 discountBps, uint256 samples) external pure returns (bool) {
        return ServiceLevelMath.areMet(levels, discountBps, samples);
    }

    function largestDiscount(ServiceLevels memory levels) external pure returns (uint256) {
        return ServiceLevelMath.largestDiscount(levels);
    }

    function areOrdered(ServiceLevels memory levels) external pure returns (bool) {
        return ServiceLevelMath.areOrdered(levels);
    }
}
