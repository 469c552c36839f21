// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {Thaw} from "./Thaw.sol";

/// @dev What of a pool is one holder's: shares of what is active, and a queue of thaws, each of some shares of what is thawing.
/// @param thawingShares All shares of the queue
/// @param round The pool's round in which it was opened: it is void in any other
/// @param first Where in `thaws` the oldest of the queue is
/// @param count How many the queue has
struct StakePosition {
    uint112 shares;
    uint112 thawingShares;
    uint16 round;
    uint8 first;
    uint8 count;
    Thaw[16] thaws;
}

using StakePositionLib for StakePosition global;

/// @dev The verbs of a position. The callers keep shares within 112 bits: they are parts of a pool's.
library StakePositionLib {
    uint256 internal constant MAX_THAWS = 16;

    /// @dev Forgets what an earlier round voided.
    function enter(StakePosition storage self, uint16 round) internal {
        if (self.round == round) return;

        (self.shares, self.thawingShares, self.round, self.first, self.count) = (0, 0, round, 0, 0);
    }

    /// @dev Adds a thaw to the queue, which isn't full.
    function push(StakePosition storage self, uint256 shares, uint256 period) internal returns (uint40 readyAt) {
        self.thawingShares += uint112(shares);
        // The queue is at most 16 long.
        uint8 count = self.count++;
        return self.thaws[(self.first + count) % MAX_THAWS].start(uint128(shares), period);
    }

    /// @dev Takes the newest thaw off the queue, which isn't empty.
    function pop(StakePosition storage self) internal returns (uint256 shares) {
        uint256 newest = (self.first + --self.count) % MAX_THAWS;
        shares = self.thaws[newest].amount;
        self.thawingShares -= uint112(shares);
        delete self.thaws[newest];
    }

    /// @dev Takes all thaws that are ready off the queue.
    function shiftReady(StakePosition storage self) internal returns (uint256 shares) {
        (uint256 first, uint256 count) = (self.first, self.count);
        for (; count > 0 && self.thaws[first].isReady(); --count) {
            shares += self.thaws[first].amount;
            delete self.thaws[first];
            first = (first + 1) % MAX_THAWS;
        }
        (self.first, self.count) = (uint8(first), uint8(count));
        self.thawingShares -= uint112(shares);
    }

    /// @dev The thaw at a place of the queue, counted from the oldest.
    function thawAt(StakePosition storage self, uint256 place) internal view returns (Thaw memory) {
        return self.thaws[(self.first + place) % MAX_THAWS];
    }
}
