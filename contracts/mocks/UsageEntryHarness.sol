// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {BatchHeader} from "../interfaces/IUsageEscrow.sol";
import {UsageEntry, UsageEntryLib} from "../libraries/UsageEntry.sol";

/// @title UsageEntry, for tests to call
contract UsageEntryHarness {
    struct Fields {
        uint256 licenseId;
        uint256 requests;
        uint256 inputTokens;
        uint256 cachedInputTokens;
        uint256 outputTokens;
        uint256 computeMs;
    }

    /// @notice The `index`-th of packed entries, taken apart.
    function fieldsAt(bytes calldata entries, uint256 index) external pure returns (Fields memory) {
        UsageEntry entry = _at(entries, index);
        return
            Fields({
                licenseId: entry.licenseId(),
                requests: entry.requests(),
                inputTokens: entry.inputTokens(),
                cachedInputTokens: entry.cachedInputTokens(),
                outputTokens: entry.outputTokens(),
                computeMs: entry.computeMs()
            });
    }

    /// @notice Where the entry of a license is.
    function find(bytes calldata entries, uint256 licenseId) external pure returns (uint256 index, UsageEntry entry) {
        return UsageEntryLib.find(entries, licenseId);
    }

    /// @notice Adds entries up as settlement does.
    function lanesOfAll(bytes calldata entries) external pure returns (uint256 even, uint256 odd) {
        for (uint256 i; i < entries.length / UsageEntryLib.SIZE; ++i) {
            (uint256 entryEven, uint256 entryOdd) = _at(entries, i).lanes();
            (even, odd) = (even + entryEven, odd + entryOdd);
        }
    }

    function lanesOf(BatchHeader calldata header) external pure returns (uint256 even, uint256 odd) {
        return UsageEntryLib.lanesOf(header);
    }

    function _at(bytes calldata entries, uint256 index) private pure returns (UsageEntry) {
        uint256 offset;
        assembly ("memory-safe") {
            offset := entries.offset
        }
        return UsageEntryLib.at(offset + index * UsageEntryLib.SIZE);
    }
}
