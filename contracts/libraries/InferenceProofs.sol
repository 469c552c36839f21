// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {IAssetRegistry} from "../interfaces/IAssetRegistry.sol";
import {IInferenceVerifier} from "../interfaces/IInferenceVerifier.sol";
import {VersionId} from "../types/Ids.sol";
import {Receipt} from "../types/Receipt.sol";

/// @dev Whether a receipt's answer is what its version's weights give.
library InferenceProofs {
    error ProofInvalid(bytes32 receiptHash);
    error VerifierNone(bytes32 receiptHash);

    /// @dev Reverts unless `proof` proves the inference of a receipt by the weights of its version.
    function requireProven(
        IAssetRegistry assets,
        VersionId versionId,
        Receipt calldata receipt,
        bytes32 receiptHash,
        bytes calldata proof
    ) internal view {
        (, bytes32 weightsCommitment, address verifier) = assets.inferenceOf(versionId);
        require(verifier != address(0), VerifierNone(receiptHash));
        bool isValid = IInferenceVerifier(verifier).verify(
            weightsCommitment,
            receipt.requestHash,
            receipt.responseHash,
            receiptHash,
            proof
        );
        require(isValid, ProofInvalid(receiptHash));
    }
}
