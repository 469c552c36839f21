// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {SignatureChecker} from "@openzeppelin/contracts/utils/cryptography/SignatureChecker.sol";
import {IDisputeCourt, RequestProof} from "../interfaces/IDisputeCourt.sol";
import {IOperatorRegistry} from "../interfaces/IOperatorRegistry.sol";
import {LicenseId, OperatorId, PlanId} from "../types/Ids.sol";
import {Grant, Receipt, Usage, UsageLib} from "../types/Receipt.sol";
import {ReceiptHash} from "./ReceiptHash.sol";
import {ReceiptTree} from "./ReceiptTree.sol";
import {SignedReceipts} from "./SignedReceipts.sol";

/// @dev Which receipts an entry sums up.
struct EntryScope {
    address escrow;
    IOperatorRegistry operators;
    /// Of the license, who has signed its grants.
    address owner;
    LicenseId licenseId;
    OperatorId operatorId;
    PlanId planId;
    bytes32 manifestHash;
    uint40 epochStart;
    uint40 epochEnd;
    Usage usage;
}

/// @dev Whether an entry rests on requests that its licensee's keys have signed.
library RequestProofs {
    /// @dev Longer than any request takes: one that was asked before an epoch may end in it.
    uint256 private constant LONGEST_REQUEST = 2 hours;

    /// @dev Adds what `proofs` show to `shown`. They come by ascending hash of their signatures, so that none counts twice.
    /// @param through The hash of the last one before
    function sum(
        EntryScope memory scope,
        RequestProof[] calldata proofs,
        Usage memory shown,
        bytes32 through
    ) internal view returns (Usage memory, bytes32) {
        for (uint256 i; i < proofs.length; ++i) {
            Receipt calldata receipt = proofs[i].receipt;
            bytes32 signatureHash = receipt.requestSignatureHash;
            require(signatureHash > through, IDisputeCourt.RequestsOutOfOrder(signatureHash, through));
            through = signatureHash;
            requireOf(scope, receipt);
            require(receipt.requests <= 1, IDisputeCourt.ReceiptOfMany(receipt.requests));
            _requireSigned(scope, proofs[i]);
            shown = ReceiptTree.add(shown, UsageLib.usageOf(receipt));
        }
        require(ReceiptTree.isWithin(shown, scope.usage), IDisputeCourt.RequestsAboveEntry(shown, scope.usage));
        return (shown, through);
    }

    /// @dev Reverts unless the receipt is one that the entry sums up.
    function requireOf(EntryScope memory scope, Receipt calldata receipt) internal view {
        require(
            receipt.licenseId == scope.licenseId &&
                receipt.operatorId == scope.operatorId &&
                receipt.planId == scope.planId &&
                receipt.manifestHash == scope.manifestHash &&
                receipt.finishedAt >= scope.epochStart &&
                receipt.finishedAt < scope.epochEnd,
            IDisputeCourt.ReceiptNotOfEntry(ReceiptHash.ofReceipt(scope.escrow, receipt))
        );
    }

    function _requireSigned(EntryScope memory scope, RequestProof calldata proof) private view {
        Receipt calldata receipt = proof.receipt;
        Grant calldata grant = proof.grant;
        bytes32 receiptHash = ReceiptHash.ofReceipt(scope.escrow, receipt);
        bytes32 grantHash = ReceiptHash.ofGrant(scope.escrow, grant);
        require(grantHash == receipt.grantHash, IDisputeCourt.GrantNotOfReceipt(grantHash, receipt.grantHash));
        require(grant.key != address(0), IDisputeCourt.GrantWithoutKey(grantHash));
        require(
            grant.licenseId == scope.licenseId && _hasSigned(scope.owner, grantHash, proof.grantSignature),
            IDisputeCourt.GrantNotSigned(grantHash, scope.owner)
        );
        require(
            proof.at + LONGEST_REQUEST >= scope.epochStart && proof.at < scope.epochEnd,
            IDisputeCourt.RequestOutOfEpoch(receiptHash, proof.at)
        );
        bytes32 digest = ReceiptHash.ofRequest(scope.escrow, grantHash, receipt.requestHash, proof.at);
        (address signer, ECDSA.RecoverError error, ) = ECDSA.tryRecover(digest, proof.requestSignature);
        bytes32 signatureHash = keccak256(abi.encodePacked(proof.at, proof.requestSignature));
        require(
            error == ECDSA.RecoverError.NoError && signer == grant.key && signatureHash == receipt.requestSignatureHash,
            IDisputeCourt.RequestNotSigned(receiptHash, grant.key)
        );
        SignedReceipts.requireSigned(scope.operators, receipt, receiptHash, proof.signature);
    }

    /// @dev A key's own signature counts whatever code its account has been given since (EIP-7702): it can't unsay it.
    function _hasSigned(address owner, bytes32 digest, bytes calldata signature) private view returns (bool) {
        (address signer, ECDSA.RecoverError error, ) = ECDSA.tryRecover(digest, signature);
        if (error == ECDSA.RecoverError.NoError && signer == owner) return true;
        return SignatureChecker.isValidSignatureNow(owner, digest, signature);
    }
}
