// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {IOperatorRegistry} from "../interfaces/IOperatorRegistry.sol";
import {Receipt} from "../types/Receipt.sol";

/// @dev Who has signed a receipt.
library SignedReceipts {
    /// @dev r, s and v.
    uint256 private constant SIGNATURE_SIZE = 65;

    error ReceiptNotSigned(bytes32 receiptHash, address signer);
    error SignatureMalformed(uint256 length, uint256 needed);

    /// @dev Reverts unless a key that could sign for the receipt's operator has signed it, and wasn't revoked since.
    function requireSigned(
        IOperatorRegistry operators,
        Receipt calldata receipt,
        bytes32 receiptHash,
        bytes calldata signature
    ) internal view {
        address signer = signerOf(receiptHash, signature);
        require(
            operators.isSigningKey(receipt.operatorId, signer, receipt.finishedAt),
            ReceiptNotSigned(receiptHash, signer)
        );
    }

    function signerOf(bytes32 digest, bytes calldata signature) internal pure returns (address) {
        require(signature.length == SIGNATURE_SIZE, SignatureMalformed(signature.length, SIGNATURE_SIZE));
        return ECDSA.recover(digest, signature);
    }
}
