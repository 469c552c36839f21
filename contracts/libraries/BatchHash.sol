// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {BatchHeader} from "../interfaces/IUsageEscrow.sol";

/// @dev The EIP-712 struct hash of what attestors sign.
library BatchHash {
    bytes32 internal constant TYPEHASH = keccak256(
        "Batch(uint24 operatorId,uint32 planId,uint64 versionId,uint64 sequence,uint40 epochStart,uint40 epochEnd,"
        "bytes32 root,uint64 count,uint64 requests,uint64 inputTokens,uint64 cachedInputTokens,uint64 outputTokens,"
        "uint64 computeMs,uint16 availabilityBps,uint32 p95TtftMs,uint32 samples,bytes32 entriesHash,"
        "bytes32 evidenceHash)"
    );

    /// @dev All fields have one word each, so the struct encodes as its members do.
    function structHashOf(BatchHeader calldata header) internal pure returns (bytes32) {
        return keccak256(abi.encode(TYPEHASH, header));
    }
}
