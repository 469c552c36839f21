// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {IInferenceVerifier} from "../interfaces/IInferenceVerifier.sol";

/// @title A verifier whose proof is the hash of its statement, and which anybody can make: for tests of what asks it
contract VerifierOfOneProof is IInferenceVerifier {
    error ProofMalformed(uint256 length);

    /// @inheritdoc IInferenceVerifier
    function verify(
        bytes32 weightsCommitment,
        bytes32 requestHash,
        bytes32 responseHash,
        bytes32 receiptHash,
        bytes calldata proof
    ) external pure returns (bool) {
        require(proof.length == 32, ProofMalformed(proof.length));
        return bytes32(proof) == keccak256(abi.encode(weightsCommitment, requestHash, responseHash, receiptHash));
    }
}
