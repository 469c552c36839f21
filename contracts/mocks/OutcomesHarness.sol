// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {Outcomes} from "../libraries/Outcomes.sol";

/// @title Outcomes, for tests to call
contract OutcomesHarness {
    /// @notice Packs the outcomes.
    /// @return packed What Outcomes made of them
    /// @return amounts What Outcomes reads out of them again
    /// @return neighbour A word that was put into memory right behind them before, and must not have changed
    function pack(
        uint256[] memory licenseIds,
        uint256[] memory charged,
        uint256[] memory statuses
    ) external pure returns (bytes memory packed, uint256[] memory amounts, uint256[] memory neighbour) {
        packed = Outcomes.reserve(charged.length);
        neighbour = new uint256[](1);
        neighbour[0] = type(uint256).max;
        amounts = new uint256[](charged.length);
        for (uint256 i; i < charged.length; ++i) {
            Outcomes.put(packed, i, licenseIds[i], charged[i], statuses[i]);
        }
        for (uint256 i; i < charged.length; ++i) {
            amounts[i] = Outcomes.amountAt(packed, i);
        }
    }
}
