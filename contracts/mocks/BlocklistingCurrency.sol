// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {TestCurrency} from "./TestCurrency.sol";

/// @title A currency that some may not have any more, from the day it is told so
contract BlocklistingCurrency is TestCurrency {
    mapping(address account => bool) public isBlocked;

    error AccountBlocked(address account);

    function blockAccount(address account) external {
        isBlocked[account] = true;
    }

    function _update(address from, address to, uint256 value) internal override {
        require(!isBlocked[to], AccountBlocked(to));
        super._update(from, to, value);
    }
}
