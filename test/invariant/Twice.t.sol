// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {MoneyTest} from "./Money.t.sol";

/// @title The campaign with other luck
/// @dev Forge gives each contract a core of its own. It shares them out by the order of files, so that this one has to stand far
/// enough from the other.
contract MoreMoneyTest is MoneyTest {
    function _name() internal pure override returns (string memory) {
        return "MORE_MONEY";
    }

    function _place(uint256 i) internal pure override returns (uint256) {
        return COUNT - 1 - i;
    }
}
