// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

/// @title Whoever can tell by a proof alone that a model of one architecture gave an answer
/// @notice A proof is of this statement: somebody knows weights that `weightsCommitment` binds, an input that
/// `requestHash` binds and an output that `responseHash` binds, and the network with those weights answers that input
/// with that output. It says nothing else of any of them.
interface IInferenceVerifier {
    /// @notice Whether `proof` shows the statement, made for the receipt that `receiptHash` names and for no other.
    /// @dev False, a revert and too little gas all mean "not proven", which says nothing about who is wrong: never slash
    /// for it. A proof can be made anew for the same statement as often as one likes: don't tell proofs apart by bytes.
    /// @param weightsCommitment What the model's version is registered with.
    /// @param requestHash The receipt's: a salted commitment to the input.
    /// @param responseHash The receipt's: a salted commitment to the output.
    /// @param receiptHash The receipt's EIP-712 digest, which names chain, escrow, license and receipt.
    function verify(
        bytes32 weightsCommitment,
        bytes32 requestHash,
        bytes32 responseHash,
        bytes32 receiptHash,
        bytes calldata proof
    ) external view returns (bool);
}
