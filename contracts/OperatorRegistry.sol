// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import {IOperatorRegistry, KeyStatus} from "./interfaces/IOperatorRegistry.sol";
import {OperatorId, PlanId} from "./types/Ids.sol";

/// @title The registry of operators
/// @notice HOLDS no money. An operator is a record of its owner's; its id is what licenses, batches and stake name.
/// STATES of a signing key: none → active → expired → revoked, or active → revoked; each for ever once left.
/// WHO: anybody registers; an operator's owner alone changes its record.
/// ASSUMES nothing of other contracts: it calls none. What an operator says of itself is its word and no more.
contract OperatorRegistry is IOperatorRegistry {
    uint256 public operatorCount;

    mapping(OperatorId operatorId => Operator) private _operators;
    mapping(OperatorId operatorId => mapping(address key => SigningKey)) private _keys;
    mapping(OperatorId operatorId => mapping(PlanId planId => bool)) public serves;

    /// @inheritdoc IOperatorRegistry
    function register(string calldata endpoint, string calldata metadataUri) external returns (OperatorId operatorId) {
        require(bytes(endpoint).length > 0, EndpointEmpty());

        operatorId = OperatorId.wrap(SafeCast.toUint24(++operatorCount));
        _operators[operatorId] = Operator(msg.sender, 0, endpoint, metadataUri);

        emit OperatorRegistered(operatorId, msg.sender);
        emit OperatorDescribed(operatorId, endpoint, metadataUri, 0);
    }

    /// @inheritdoc IOperatorRegistry
    function describe(
        OperatorId operatorId,
        string calldata endpoint,
        string calldata metadataUri,
        bytes32 evidenceHash
    ) external {
        _requireOwner(operatorId);
        require(bytes(endpoint).length > 0, EndpointEmpty());

        _operators[operatorId] = Operator(msg.sender, evidenceHash, endpoint, metadataUri);

        emit OperatorDescribed(operatorId, endpoint, metadataUri, evidenceHash);
    }

    /// @inheritdoc IOperatorRegistry
    function addKey(OperatorId operatorId, address key, uint40 expiresAt) external {
        _requireOwner(operatorId);
        require(key != address(0), KeyZero());
        require(expiresAt > block.timestamp, KeyExpiryPast(key, expiresAt));
        require(_keys[operatorId][key].addedAt == 0, KeyAddedBefore(operatorId, key));

        _keys[operatorId][key] = SigningKey(uint40(block.timestamp), expiresAt, 0);

        emit SigningKeyAdded(operatorId, key, expiresAt);
    }

    /// @inheritdoc IOperatorRegistry
    function revokeKey(OperatorId operatorId, address key) external {
        _requireOwner(operatorId);
        SigningKey storage record = _keys[operatorId][key];
        require(record.addedAt != 0 && record.revokedAt == 0, KeyNotActive(operatorId, key));

        record.revokedAt = uint40(block.timestamp);

        emit SigningKeyRevoked(operatorId, key);
    }

    /// @inheritdoc IOperatorRegistry
    function setServed(OperatorId operatorId, PlanId planId, bool served) external {
        _requireOwner(operatorId);

        serves[operatorId][planId] = served;

        emit PlanServed(operatorId, planId, served);
    }

    /// @inheritdoc IOperatorRegistry
    function operatorOf(OperatorId operatorId) external view returns (Operator memory operator) {
        operator = _operators[operatorId];
        require(operator.owner != address(0), OperatorUnknown(operatorId));
    }

    /// @inheritdoc IOperatorRegistry
    function ownerOf(OperatorId operatorId) public view returns (address owner) {
        owner = _operators[operatorId].owner;
        require(owner != address(0), OperatorUnknown(operatorId));
    }

    /// @inheritdoc IOperatorRegistry
    function keyOf(OperatorId operatorId, address key) external view returns (SigningKey memory) {
        return _keys[operatorId][key];
    }

    /// @inheritdoc IOperatorRegistry
    function statusOf(OperatorId operatorId, address key) external view returns (KeyStatus) {
        SigningKey memory record = _keys[operatorId][key];
        if (record.addedAt == 0) return KeyStatus.None;
        if (record.revokedAt != 0) return KeyStatus.Revoked;
        return block.timestamp < record.expiresAt ? KeyStatus.Active : KeyStatus.Expired;
    }

    /// @inheritdoc IOperatorRegistry
    function isSigningKey(OperatorId operatorId, address key, uint256 time) external view returns (bool) {
        SigningKey memory record = _keys[operatorId][key];
        return record.revokedAt == 0 && record.addedAt != 0 && record.addedAt <= time && time < record.expiresAt;
    }

    function _requireOwner(OperatorId operatorId) private view {
        require(ownerOf(operatorId) == msg.sender, CallerNotOperator(operatorId, msg.sender));
    }
}
