// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {TestCurrency} from "./TestCurrency.sol";

/// @title A currency that moves nothing and says so instead of reverting, from the day it is told to
contract CurrencyThatSaysNo is TestCurrency {
    bool private _saysNo;

    function sayNo() external {
        _saysNo = true;
    }

    function transfer(address to, uint256 value) public override returns (bool) {
        return !_saysNo && super.transfer(to, value);
    }

    function transferFrom(address from, address to, uint256 value) public override returns (bool) {
        return !_saysNo && super.transferFrom(from, to, value);
    }
}
