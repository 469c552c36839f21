// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {UsageEntry} from "../libraries/UsageEntry.sol";
import {LicenseId, OperatorId, PlanId} from "./Ids.sol";

/// @dev An operator's statement of one served request, as its key signs it by EIP-712 in the domain of UsageEscrow.
struct Receipt {
    LicenseId licenseId;
    OperatorId operatorId;
    PlanId planId;
    /// Of the model's version.
    bytes32 manifestHash;
    uint16 generation;
    /// EIP-712 digest of the grant that the request came under.
    bytes32 grantHash;
    /// Per license and operator, from 1.
    uint64 sequence;
    /// EIP-712 digest of the receipt with the sequence before, or zero.
    bytes32 previousHash;
    /// The operator's number of the request: random.
    bytes32 requestId;
    bytes32 requestHash;
    bytes32 responseHash;
    /// Of the request's signature and its time, or zero: see `RequestProof`.
    bytes32 requestSignatureHash;
    /// Unix seconds; decides the epoch.
    uint40 finishedAt;
    uint32 durationMs;
    uint32 ttftMs;
    uint32 requests;
    uint32 inputTokens;
    uint32 cachedInputTokens;
    uint32 outputTokens;
    uint32 computeMs;
    uint32 flags;
}

/// @dev A receipt with its operator's signature: 65 bytes, r, s and v, with a low s.
struct SignedReceipt {
    Receipt receipt;
    bytes signature;
}

/// @dev What a license's owner signs by EIP-712, in the domain of UsageEscrow, to let a key or a bearer use it.
struct Grant {
    LicenseId licenseId;
    /// Signs each request, or is zero.
    address key;
    /// Currency units; 0 is no cap of its own.
    uint64 cap;
    /// Unix seconds, both inclusive.
    uint40 notBefore;
    uint40 expiresAt;
    uint16 generation;
    bytes32 salt;
}

/// @dev The five meters of a license in a batch, or of several receipts together.
struct Usage {
    uint64 requests;
    uint64 inputTokens;
    uint64 cachedInputTokens;
    uint64 outputTokens;
    uint64 computeMs;
}

library UsageLib {
    function usageOf(Receipt calldata receipt) internal pure returns (Usage memory) {
        return
            Usage(
                receipt.requests,
                receipt.inputTokens,
                receipt.cachedInputTokens,
                receipt.outputTokens,
                receipt.computeMs
            );
    }

    function usageOf(UsageEntry entry) internal pure returns (Usage memory) {
        // Meters of an entry have 32 bits.
        return
            Usage(
                uint64(entry.requests()),
                uint64(entry.inputTokens()),
                uint64(entry.cachedInputTokens()),
                uint64(entry.outputTokens()),
                uint64(entry.computeMs())
            );
    }
}
