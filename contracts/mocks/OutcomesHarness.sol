// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {EntryStatus} from "../interfaces/IUsageEscrow.sol";
import {Outcomes} from "../libraries/Outcomes.sol";

/// @title Outcomes, for tests to call
contract OutcomesHarness {
    /// @notice Packs the outcomes.
    /// @return packed What Outcomes made of them
    /// @return neighbour A word that was put into memory right behind them before, and must not have changed
    function pack(
        uint256[] memory amounts,
        EntryStatus[] memory statuses
    ) external pure returns (bytes memory packed, uint256[] memory neighbour) {
        packed = Outcomes.reserve(amounts.length);
        neighbour = new uint256[](1);
        neighbour[0] = type(uint256).max;
        for (uint256 i; i < amounts.length; ++i) {
            Outcomes.put(packed, i, amounts[i], statuses[i]);
        }
    }
}
