// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {IPerformanceStaking} from "../interfaces/IPerformanceStaking.sol";

/// @dev The days of bad service that are kept of an operator under one plan: the last seven.
library BreachDays {
    uint256 private constant DAYS = 7;

    /// @dev Adds a day. One that was punished, or that lies before the seven that are kept, changes nothing.
    function add(IPerformanceStaking.Breaches memory self, uint256 day) internal pure {
        if (day <= self.punishedThrough) return;

        // A day is a time divided by the length of an epoch. Bits that are shifted out of the seven are forgotten.
        if (day > self.lastDay) {
            uint256 shifted = uint256(self.bits) << Math.min(day - self.lastDay, DAYS);
            self.bits = uint8((shifted | 1) & ((1 << DAYS) - 1));
            self.lastDay = uint64(day);
        } else if (self.lastDay - day < DAYS) {
            self.bits |= uint8(1 << (self.lastDay - day));
        }
    }

    /// @dev Counts none of the days any more.
    function punish(IPerformanceStaking.Breaches memory self) internal pure {
        (self.bits, self.punishedThrough) = (0, self.lastDay);
    }

    function count(IPerformanceStaking.Breaches memory self) internal pure returns (uint256 days_) {
        for (uint256 bits = self.bits; bits != 0; bits &= bits - 1) ++days_;
    }
}
