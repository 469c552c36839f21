// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {IOperatorRegistry, KeyStatus} from "../../contracts/interfaces/IOperatorRegistry.sol";
import {Stage} from "./Stage.sol";
import {Machine, Verb} from "./Statuses.sol";

/// @title Operators' records, and the keys that sign for them
abstract contract Operators is Stage {
    /// @dev Whoever registers becomes one more, whom nobody backs and no license has chosen.
    function registerOperator(uint256 seed) external attempt(seed) {
        string memory endpoint = _draw(8) == 0 ? "" : "https://another";
        Refusals memory refusals;
        _unlessEndpoint(refusals, endpoint);
        address owner = _anybody();
        bytes memory call = abi.encodeCall(operators.register, (endpoint, "ipfs://another"));
        bytes memory result = _do(owner, address(operators), call, refusals, "9: a registration");
        if (refusals.count > 0) return;
        require(abi.decode(result, (uint256)) == ++operatorCount, "9: an operator's number was used before");
        require(operators.ownerOf(_operatorId(operatorCount)) == owner, "9: an operator is another one's");
    }

    function describeOperator(uint256 seed) external attempt(seed) {
        uint256 operator = _anyOperator();
        string memory endpoint = _draw(8) == 0 ? "" : "https://elsewhere";
        bytes32 evidenceHash = bytes32(_draw(type(uint256).max));
        Refusals memory refusals;
        _unlessEndpoint(refusals, endpoint);
        bytes memory call = abi.encodeCall(
            operators.describe,
            (_operatorId(operator), endpoint, "ipfs://described", evidenceHash)
        );
        address owner = operatorOwners[operator - 1];
        _do(owner, address(operators), call, refusals, "9: a description");
        if (refusals.count > 0) return;
        IOperatorRegistry.Operator memory due = IOperatorRegistry.Operator(
            owner,
            evidenceHash,
            endpoint,
            "ipfs://described"
        );
        bytes memory actual = abi.encode(operators.operatorOf(_operatorId(operator)));
        require(keccak256(actual) == keccak256(abi.encode(due)), "9: an operator's record isn't what it said");
    }

    /// @dev Mostly one that was never added, for some weeks.
    function addKey(uint256 seed) external attempt(seed) {
        _addKey(_anyOperator(), _draw(16) == 0 ? clock : clock + 1 + _draw(60 days));
    }

    function _addKey(uint256 operator, uint256 expiresAt) private {
        uint256 key = _keyThat(operator, KeyStatus.None);
        address signer = _signerOf(operator, key);
        Refusals memory refusals;
        _unless(
            refusals,
            expiresAt > clock,
            abi.encodeWithSelector(IOperatorRegistry.KeyExpiryPast.selector, signer, expiresAt)
        );
        _unless(
            refusals,
            _keyStatus(operator, key) == KeyStatus.None,
            abi.encodeWithSelector(IOperatorRegistry.KeyAddedBefore.selector, operator, signer)
        );
        bytes memory call = abi.encodeCall(operators.addKey, (_operatorId(operator), signer, uint40(expiresAt)));
        _keyCall(operator, key, call, refusals);
        if (refusals.count > 0) return;
        signingKeys[operator][key] = SigningKey(clock, expiresAt, 0);
        _see(Machine.SigningKey, _keyId(operator, key), Verb.AddKey);
    }

    /// @dev Mostly one that may sign.
    function revokeKey(uint256 seed) external attempt(seed) {
        uint256 operator = _anyOperator();
        uint256 key = _keyThat(operator, _draw(4) == 0 ? KeyStatus.Expired : KeyStatus.Active);
        address signer = _signerOf(operator, key);
        KeyStatus status = _keyStatus(operator, key);
        Refusals memory refusals;
        _unless(
            refusals,
            status == KeyStatus.Active || status == KeyStatus.Expired,
            abi.encodeWithSelector(IOperatorRegistry.KeyNotActive.selector, operator, signer)
        );
        bytes memory call = abi.encodeCall(operators.revokeKey, (_operatorId(operator), signer));
        _keyCall(operator, key, call, refusals);
        if (refusals.count > 0) return;
        signingKeys[operator][key].revokedAt = clock;
        _see(Machine.SigningKey, _keyId(operator, key), Verb.RevokeKey);
    }

    /// @dev An operator adds a key when none of its keys signs any more.
    function _renewKeys(uint256 operator) internal {
        for (uint256 key; key < SIGNING_KEYS; ++key) {
            if (_couldSign(operator, key, clock)) return;
        }
        _addKey(operator, clock + 30 days);
    }

    /// @dev Of an operator's, from a random one on; any if none is.
    function _keyThat(uint256 operator, KeyStatus status) internal returns (uint256 key) {
        uint256 start = _draw(SIGNING_KEYS);
        for (uint256 i; i < SIGNING_KEYS; ++i) {
            key = (start + i) % SIGNING_KEYS;
            if (_keyStatus(operator, key) == status) return key;
        }
        return start;
    }

    function _keyCall(uint256 operator, uint256 key, bytes memory call, Refusals memory refusals) private {
        _watch(Machine.SigningKey, _keyId(operator, key));
        _do(operatorOwners[operator - 1], address(operators), call, refusals, "9: a signing key");
    }

    function _unlessEndpoint(Refusals memory refusals, string memory endpoint) private pure {
        bytes4 selector = IOperatorRegistry.EndpointEmpty.selector;
        _unless(refusals, bytes(endpoint).length > 0, abi.encodeWithSelector(selector));
    }
}
