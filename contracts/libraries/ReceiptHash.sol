// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {MessageHashUtils} from "@openzeppelin/contracts/utils/cryptography/MessageHashUtils.sol";
import {Grant, Receipt} from "../types/Receipt.sol";

/// @dev EIP-712 digests of what operators and licensees sign off chain. Its domain is that of the escrow, whose `verifyingContract`
/// each function takes: it is worked out anew, so that nothing counts on another chain.
library ReceiptHash {
    bytes32 internal constant RECEIPT_TYPEHASH = keccak256(
        "Receipt(uint64 licenseId,uint24 operatorId,uint32 planId,bytes32 manifestHash,uint16 generation,bytes32 grantHash,"
        "uint64 sequence,bytes32 previousHash,bytes32 requestId,bytes32 requestHash,bytes32 responseHash,"
        "bytes32 requestSignatureHash,uint40 finishedAt,uint32 durationMs,uint32 ttftMs,uint32 requests,"
        "uint32 inputTokens,uint32 cachedInputTokens,uint32 outputTokens,uint32 computeMs,uint32 flags)"
    );
    bytes32 internal constant GRANT_TYPEHASH = keccak256(
        "Grant(uint64 licenseId,address key,uint64 cap,uint40 notBefore,uint40 expiresAt,uint16 generation,bytes32 salt)"
    );
    bytes32 internal constant REQUEST_TYPEHASH = keccak256("Request(bytes32 grantHash,bytes32 requestHash,uint40 at)");
    bytes32 internal constant PROPOSAL_TYPEHASH = keccak256("Proposal(bytes32 batchId)");

    bytes32 private constant DOMAIN_TYPEHASH = keccak256(
        "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
    );
    bytes32 private constant NAME_HASH = keccak256("Licet UsageEscrow");
    bytes32 private constant VERSION_HASH = keccak256("1");

    /// @dev All fields have one word each, so the struct encodes as its members do: here and below.
    function ofReceipt(address escrow, Receipt calldata receipt) internal view returns (bytes32) {
        return _digest(escrow, keccak256(abi.encode(RECEIPT_TYPEHASH, receipt)));
    }

    function ofGrant(address escrow, Grant calldata grant) internal view returns (bytes32) {
        return _digest(escrow, keccak256(abi.encode(GRANT_TYPEHASH, grant)));
    }

    function ofRequest(
        address escrow,
        bytes32 grantHash,
        bytes32 requestHash,
        uint40 at
    ) internal view returns (bytes32) {
        return _digest(escrow, keccak256(abi.encode(REQUEST_TYPEHASH, grantHash, requestHash, at)));
    }

    function ofProposal(address escrow, bytes32 batchId) internal view returns (bytes32) {
        return _digest(escrow, keccak256(abi.encode(PROPOSAL_TYPEHASH, batchId)));
    }

    /// @dev A receipt as it was signed, which is what a batch's tree has: nobody can say later that another key signed it.
    function asSigned(bytes32 receiptHash, bytes calldata signature) internal pure returns (bytes32) {
        return keccak256(abi.encodePacked(receiptHash, signature));
    }

    function _digest(address escrow, bytes32 structHash) private view returns (bytes32) {
        bytes32 domain = keccak256(abi.encode(DOMAIN_TYPEHASH, NAME_HASH, VERSION_HASH, block.chainid, escrow));
        return MessageHashUtils.toTypedDataHash(domain, structHash);
    }
}
