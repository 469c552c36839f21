// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";

/// @title An escrow that tells a committee of shares that it never sends
contract EscrowThatPaysNothing {
    uint256 public constant EPOCH_PERIOD = 1 days;
    uint256 public constant WINDOW_PERIOD = 2 days;

    IERC20 public immutable CURRENCY;

    constructor(IERC20 currency) {
        CURRENCY = currency;
    }

    /// @notice A share of a whole unit, signed for by the first member of the first committee.
    function collectAttestorShare(bytes32) external pure returns (uint256 amount, uint48 signers) {
        return (1e6, 1);
    }
}
