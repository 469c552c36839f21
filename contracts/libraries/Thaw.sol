// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

/// @dev What takes a wait to come about: money (or shares of it) on its way out, or the code of a lower cap. `readyAt` is
/// the Unix second after which it may.
struct Thaw {
    uint128 amount;
    uint40 readyAt;
}

using ThawLib for Thaw global;

library ThawLib {
    /// @dev Replaces what was on its way: the wait starts anew.
    function start(Thaw storage self, uint128 amount, uint256 period) internal returns (uint40 readyAt) {
        // Timestamps and periods of at most years stay far below 2^40.
        readyAt = uint40(block.timestamp + period);
        self.amount = amount;
        self.readyAt = readyAt;
    }

    /// @dev Whether the wait is over: strictly after `readyAt`, so that what may be charged at that second comes first.
    function isReady(Thaw memory self) internal view returns (bool) {
        return block.timestamp > self.readyAt;
    }
}
