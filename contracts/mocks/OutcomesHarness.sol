// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {Outcomes} from "../libraries/Outcomes.sol";

/// @title Outcomes, for tests to call
contract OutcomesHarness {
    using Outcomes for bytes;

    struct Outcome {
        uint256 licenseId;
        uint256 term;
        uint256 charged;
        uint256 status;
    }

    /// @notice Packs the outcomes of entries.
    /// @return packed What Outcomes made of them
    /// @return neighbour A word that was put into memory right behind them before, and must not have changed
    function packEntries(
        Outcome[] memory outcomes
    ) external pure returns (bytes memory packed, uint256[] memory neighbour) {
        packed = Outcomes.reserve(outcomes.length * Outcomes.ENTRY_SIZE);
        neighbour = _neighbour();
        uint256 cursor = packed.start();
        for (uint256 i; i < outcomes.length; ++i) {
            Outcome memory each = outcomes[i];
            cursor = Outcomes.putEntry(cursor, each.licenseId, each.charged, each.status);
        }
    }

    /// @notice What was charged of one of packed outcomes of entries.
    function amountAt(bytes calldata outcomes, uint256 index) external pure returns (uint256) {
        return outcomes.amountAt(index);
    }

    /// @notice Packs the outcomes of vouchers, into room for `spare` more.
    /// @return packed What Outcomes made of them
    /// @return neighbour As of `packEntries`
    function packVouchers(
        Outcome[] memory outcomes,
        uint256 spare
    ) external pure returns (bytes memory packed, uint256[] memory neighbour) {
        packed = Outcomes.reserve((outcomes.length + spare) * Outcomes.VOUCHER_SIZE);
        neighbour = _neighbour();
        uint256 cursor = packed.start();
        for (uint256 i; i < outcomes.length; ++i) {
            Outcome memory each = outcomes[i];
            cursor = Outcomes.putVoucher(cursor, each.licenseId, each.term, each.charged, each.status);
        }
        packed.finish(cursor);
    }

    function _neighbour() private pure returns (uint256[] memory neighbour) {
        neighbour = new uint256[](1);
        neighbour[0] = type(uint256).max;
    }
}
