// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {Position, StakeModel} from "./StakeModel.sol";
import {Reentrants} from "./Reentrants.sol";

/// @title Those who are several, or were never there before
abstract contract Sybils is Reentrants {
    /// @dev Who joins a pool for one payment to it, and leaves right after: it has earned nothing, whatever was paid.
    function joinJustInTime(uint256 seed) external attack(seed) {
        uint256 operator = _anyOperator();
        address backer = _anyBacker();
        uint256 amount = 1 + _draw(500 * USD);
        uint256 before = _sharesOf(operator, backer);
        if (_isLeaving(operator, backer) && positions[operator][backer].thaws.length == StakeModel.MOST_THAWS) return;
        _addStake(operator, backer, amount);
        uint256 shares = _sharesOf(operator, backer) - before;
        if (shares == 0) return;
        if (pools[operator].income > 0) _payPool(operator);
        if (before > 0 || shares == pools[operator].shares) return;
        _thawStake(operator, backer, shares);
        uint256 last = positions[operator][backer].thaws.length - 1;
        uint256 worth = StakeModel.worthOf(
            positions[operator][backer].thaws[last].shares,
            pools[operator].thawing,
            pools[operator].thawingShares
        );
        require(worth <= amount, "6: who joined for one payment earned of it");
    }
}
