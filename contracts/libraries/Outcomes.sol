// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {EntryStatus} from "../interfaces/IUsageEscrow.sol";

/// @dev What became of a batch's entries, eight bytes each: charged (56 bits), status (8 bits).
library Outcomes {
    uint256 internal constant SIZE = 8;

    /// @dev Room for `count` outcomes, and for the rest of the word that `put` writes with the last of them.
    function reserve(uint256 count) internal pure returns (bytes memory outcomes) {
        outcomes = new bytes(count * SIZE + 32 - SIZE);
        // Shortens the array that was just made.
        assembly ("memory-safe") {
            mstore(outcomes, mul(count, SIZE))
        }
    }

    /// @dev Writes the outcome of the `index`-th entry, and zeros over the next three: outcomes are put in order.
    /// `amount` has at most 56 bits.
    function put(bytes memory outcomes, uint256 index, uint256 amount, EntryStatus status) internal pure {
        // `index` is below the count that was reserved, with a word's room at each.
        assembly ("memory-safe") {
            mstore(add(add(outcomes, 0x20), mul(index, SIZE)), shl(192, or(shl(8, amount), status)))
        }
    }

    /// @dev The amount that was put as the `index`-th outcome.
    function amountAt(bytes memory outcomes, uint256 index) internal pure returns (uint256 amount) {
        // `index` is below the count that was reserved, with a word's room at each.
        assembly ("memory-safe") {
            amount := shr(200, mload(add(add(outcomes, 0x20), mul(index, SIZE))))
        }
    }
}
