// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {TestCurrency} from "./TestCurrency.sol";

/// @title A currency that keeps a part of what it is told to move, from the day it is told to
contract FeeOnTransferCurrency is TestCurrency {
    /// @notice What each transfer loses, in currency units.
    uint256 public toll;

    function takeToll(uint256 amount) external {
        toll = amount;
    }

    function _update(address from, address to, uint256 value) internal override {
        super._update(from, to, value);
        if (toll > 0 && from != address(0) && to != address(0)) super._update(to, address(0), toll);
    }
}
