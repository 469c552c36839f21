// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {Rates} from "../interfaces/ILicenseRegistry.sol";
import {BatchHeader} from "../interfaces/IUsageEscrow.sol";

/// @dev One license's usage in a batch, as it stands packed in calldata: licenseId in bits 160–223, then the five
/// meters of 32 bits each.
type UsageEntry is uint256;

using UsageEntryLib for UsageEntry global;

library UsageEntryLib {
    /// @dev Bytes of an entry in calldata.
    uint256 internal constant SIZE = 28;

    // Meters stand alone in lanes of 86 bits, three in a word. Sums of entries are one addition then; and a word of meters times a
    // word of rates in the opposite order has, in its highest lane, the sum of each meter times its rate. No product of 32 and 48
    // bits, nor the sum of five, reaches into the next lane, and what is beyond the highest one falls off the word.
    uint256 private constant LANE = 86;
    uint256 private constant METER = 0xffffffff;

    /// @dev The entry that starts at `offset` of the calldata.
    function at(uint256 offset) internal pure returns (UsageEntry entry) {
        // Reading past the end of calldata yields zeros, and these are shifted out.
        assembly ("memory-safe") {
            entry := shr(32, calldataload(offset))
        }
    }

    function licenseId(UsageEntry entry) internal pure returns (uint256) {
        return UsageEntry.unwrap(entry) >> 160;
    }

    function requests(UsageEntry entry) internal pure returns (uint256) {
        return uint32(UsageEntry.unwrap(entry) >> 128);
    }

    function inputTokens(UsageEntry entry) internal pure returns (uint256) {
        return uint32(UsageEntry.unwrap(entry) >> 96);
    }

    function cachedInputTokens(UsageEntry entry) internal pure returns (uint256) {
        return uint32(UsageEntry.unwrap(entry) >> 64);
    }

    function outputTokens(UsageEntry entry) internal pure returns (uint256) {
        return uint32(UsageEntry.unwrap(entry) >> 32);
    }

    function computeMs(UsageEntry entry) internal pure returns (uint256) {
        return uint32(UsageEntry.unwrap(entry));
    }

    /// @dev The entry of a license among entries that ascend by license, and its place; zero if it has none there.
    function find(bytes calldata entries, uint256 id) internal pure returns (uint256 index, UsageEntry entry) {
        uint256 offset;
        assembly ("memory-safe") {
            offset := entries.offset
        }
        uint256 count = entries.length / SIZE;
        uint256 end = count;
        // Calldata is short: no sum of offsets or places can overflow.
        unchecked {
            while (index < end) {
                uint256 middle = (index + end) / 2;
                if (at(offset + middle * SIZE).licenseId() < id) index = middle + 1;
                else end = middle;
            }
            if (index < count) entry = at(offset + index * SIZE);
        }
        if (entry.licenseId() != id) entry = UsageEntry.wrap(0);
    }

    /// @dev An entry's meters: requests, cached input tokens and compute time from the highest lane of `even` to its lowest, input
    /// and output tokens in the two highest of `odd`.
    function lanes(UsageEntry entry) internal pure returns (uint256 even, uint256 odd) {
        uint256 word = UsageEntry.unwrap(entry);
        even =
            ((word << (2 * LANE - 128)) & (METER << (2 * LANE))) |
            ((word << (LANE - 64)) & (METER << LANE)) |
            (word & METER);
        odd = ((word << (2 * LANE - 96)) & (METER << (2 * LANE))) | ((word << (LANE - 32)) & (METER << LANE));
    }

    /// @dev A header's totals in the same lanes.
    function lanesOf(BatchHeader calldata header) internal pure returns (uint256 even, uint256 odd) {
        even =
            (uint256(header.requests) << (2 * LANE)) |
            (uint256(header.cachedInputTokens) << LANE) |
            header.computeMs;
        odd = (uint256(header.inputTokens) << (2 * LANE)) | (uint256(header.outputTokens) << LANE);
    }

    /// @dev Rates in the opposite lanes.
    function lanesOf(Rates memory rates) internal pure returns (uint256 even, uint256 odd) {
        even = rates.requests | (uint256(rates.cachedInputTokens) << LANE) | (uint256(rates.computeMs) << (2 * LANE));
        odd = rates.inputTokens | (uint256(rates.outputTokens) << LANE);
    }

    /// @dev Σ meter × rate, of meters and rates in their lanes.
    function cost(uint256 even, uint256 odd, uint256 evenRates, uint256 oddRates) internal pure returns (uint256) {
        // What the products have in their lower lanes has at most 83 bits in each.
        unchecked {
            return (even * evenRates + odd * oddRates) >> (2 * LANE);
        }
    }
}
