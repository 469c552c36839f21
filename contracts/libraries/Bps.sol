// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

/// @dev Shares in basis points: 10,000 are the whole.
library Bps {
    uint256 internal constant WHOLE = 10_000;

    /// @dev The highest protocol fee that governance may set.
    uint256 internal constant MAX_FEE = 500;

    /// @dev `bps` of `amount`, rounded down.
    function share(uint256 amount, uint256 bps) internal pure returns (uint256) {
        return (amount * bps) / WHOLE;
    }
}
