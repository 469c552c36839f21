// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

/// @title Whoever vouches for the batches of a plan
interface IAttestor {
    /// @notice Whether `proof` vouches for `digest`.
    /// @return signers Zero if it doesn't. Otherwise a note of who signed, in a form of the attestor's own, which is
    /// given back to it when it collects its share of the batch.
    function vouches(bytes32 digest, bytes calldata proof) external view returns (uint48 signers);
}
