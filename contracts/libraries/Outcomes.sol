// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

/// @dev What became of what was to be charged, sixteen bytes each: licenseId (64 bits), charged (56 bits), status (8 bits).
library Outcomes {
    uint256 internal constant SIZE = 16;

    /// @dev Room for `count` outcomes, and for the rest of the word that `put` writes with the last of them.
    function reserve(uint256 count) internal pure returns (bytes memory outcomes) {
        outcomes = new bytes(count * SIZE + 32 - SIZE);
        // Shortens the array that was just made.
        assembly ("memory-safe") {
            mstore(outcomes, mul(count, SIZE))
        }
    }

    /// @dev Writes the `index`-th outcome, and zeros over the next one: outcomes are put in order. `licenseId` has at most 64
    /// bits, `amount` 56, and `status` 8.
    function put(
        bytes memory outcomes,
        uint256 index,
        uint256 licenseId,
        uint256 amount,
        uint256 status
    ) internal pure {
        // `index` is below the count that was reserved, with a word's room at each.
        assembly ("memory-safe") {
            mstore(
                add(add(outcomes, 0x20), mul(index, SIZE)),
                or(shl(192, licenseId), or(shl(136, amount), shl(128, status)))
            )
        }
    }

    /// @dev The amount that was put as the `index`-th outcome.
    function amountAt(bytes memory outcomes, uint256 index) internal pure returns (uint256 amount) {
        // `index` is below the count that was reserved, with a word's room at each.
        assembly ("memory-safe") {
            amount := shr(200, shl(64, mload(add(add(outcomes, 0x20), mul(index, SIZE)))))
        }
    }
}
