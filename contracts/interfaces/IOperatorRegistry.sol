// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {OperatorId, PlanId} from "../types/Ids.sol";

enum KeyStatus {
    None,
    Active,
    Expired,
    Revoked
}

/// @title The registry of operators: where they serve, what they serve, and the keys that sign their receipts
interface IOperatorRegistry {
    /// @param owner Whose stake backs it and who is paid
    /// @param evidenceHash keccak256 of the evidence about its hardware that it last published, or zero
    /// @param endpoint Base URL of its gateway
    /// @param metadataUri Where its description is
    struct Operator {
        address owner;
        bytes32 evidenceHash;
        string endpoint;
        string metadataUri;
    }

    /// @dev All in Unix seconds; `addedAt` is 0 for a key never added, `revokedAt` for one never revoked.
    struct SigningKey {
        uint40 addedAt;
        uint40 expiresAt;
        uint40 revokedAt;
    }

    event OperatorRegistered(OperatorId indexed operatorId, address indexed owner);
    event OperatorDescribed(OperatorId indexed operatorId, string endpoint, string metadataUri, bytes32 evidenceHash);
    event SigningKeyAdded(OperatorId indexed operatorId, address indexed key, uint40 expiresAt);
    event SigningKeyRevoked(OperatorId indexed operatorId, address indexed key);
    event PlanServed(OperatorId indexed operatorId, PlanId indexed planId, bool served);

    error CallerNotOperator(OperatorId operatorId, address caller);
    error EndpointEmpty();
    error KeyAddedBefore(OperatorId operatorId, address key);
    error KeyExpiryPast(address key, uint40 expiresAt);
    error KeyNotActive(OperatorId operatorId, address key);
    error KeyZero();
    error OperatorUnknown(OperatorId operatorId);

    /// @notice Registers the caller as an operator.
    function register(string calldata endpoint, string calldata metadataUri) external returns (OperatorId operatorId);

    /// @notice Replaces what an operator says of itself.
    function describe(
        OperatorId operatorId,
        string calldata endpoint,
        string calldata metadataUri,
        bytes32 evidenceHash
    ) external;

    /// @notice Lets `key` sign the operator's receipts from now until `expiresAt`.
    function addKey(OperatorId operatorId, address key, uint40 expiresAt) external;

    /// @notice Voids everything that `key` signed and that isn't settled. It can't be added again.
    function revokeKey(OperatorId operatorId, address key) external;

    /// @notice Says whether licenses of a plan may choose this operator from now on. Whoever serves a plan accepts its terms:
    /// its prices, shares and attestor.
    function setServed(OperatorId operatorId, PlanId planId, bool served) external;

    /// @notice How many operators there are; they are numbered from 1.
    function operatorCount() external view returns (uint256);

    /// @notice An operator's record. Reverts for an operator that doesn't exist.
    function operatorOf(OperatorId operatorId) external view returns (Operator memory);

    /// @notice Whose an operator is. Reverts for an operator that doesn't exist.
    function ownerOf(OperatorId operatorId) external view returns (address);

    /// @notice A signing key's dates; all zero for a key that was never added.
    function keyOf(OperatorId operatorId, address key) external view returns (SigningKey memory);

    /// @notice Whether a key may sign for an operator now.
    function statusOf(OperatorId operatorId, address key) external view returns (KeyStatus);

    /// @notice Whether `key` could sign for the operator at `time` (Unix seconds) and has not been revoked since.
    function isSigningKey(OperatorId operatorId, address key, uint256 time) external view returns (bool);

    /// @notice Whether licenses of a plan may choose an operator.
    function serves(OperatorId operatorId, PlanId planId) external view returns (bool);
}
