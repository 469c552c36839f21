// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {BatchHeader} from "../interfaces/IUsageEscrow.sol";

/// @dev One license's usage in a batch, as it stands packed in calldata: licenseId in bits 160–223, then the five
/// meters of 32 bits each.
type UsageEntry is uint256;

using UsageEntryLib for UsageEntry global;

library UsageEntryLib {
    /// @dev Bytes of an entry in calldata.
    uint256 internal constant SIZE = 28;

    /// @dev The lower half of each of three 64-bit lanes.
    uint256 private constant LANES = (0xffffffff << 128) | (0xffffffff << 64) | 0xffffffff;

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

    /// @dev Requests, cached input tokens and compute time, each alone in a lane of 64 bits, so that the sum of entries
    /// is one addition.
    function evenMeters(UsageEntry entry) internal pure returns (uint256) {
        return UsageEntry.unwrap(entry) & LANES;
    }

    /// @dev Input and output tokens, likewise.
    function oddMeters(UsageEntry entry) internal pure returns (uint256) {
        return (UsageEntry.unwrap(entry) >> 32) & (LANES >> 64);
    }

    /// @dev A header's totals in the same lanes.
    function lanesOf(BatchHeader calldata header) internal pure returns (uint256 even, uint256 odd) {
        even = (uint256(header.requests) << 128) | (uint256(header.cachedInputTokens) << 64) | header.computeMs;
        odd = (uint256(header.inputTokens) << 64) | header.outputTokens;
    }
}
