// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {Address} from "@openzeppelin/contracts/utils/Address.sol";
import {TestCurrency} from "./TestCurrency.sol";

/// @title A currency that calls back in the middle of a transfer
contract ReentrantCurrency is TestCurrency {
    address private _target;
    bytes private _data;

    /// @notice Has the next transfer call `target` with `data`, and revert as that call does.
    function arm(address target, bytes calldata data) external {
        (_target, _data) = (target, data);
    }

    function _update(address from, address to, uint256 value) internal override {
        super._update(from, to, value);
        address target = _target;
        if (target == address(0)) return;
        delete _target;
        Address.functionCall(target, _data);
    }
}
