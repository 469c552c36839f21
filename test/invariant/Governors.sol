// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {IAccessControl} from "@openzeppelin/contracts/access/IAccessControl.sol";
import {IAccessManager} from "@openzeppelin/contracts/access/manager/IAccessManager.sol";
import {TimelockController} from "@openzeppelin/contracts/governance/TimelockController.sol";
import {Multicall} from "@openzeppelin/contracts/utils/Multicall.sol";
import {IUsageEscrow} from "../../contracts/interfaces/IUsageEscrow.sol";
import {Brokers} from "./Brokers.sol";
import {Count} from "./Ledger.sol";

/// @title Governance and guardians, using their powers
abstract contract Governors is Brokers {
    /// @dev Whether they may pause.
    bool private _isDeputized;

    /// @dev What is announced at once, and done at once.
    struct Acts {
        address[] targets;
        uint256[] values;
        bytes[] calls;
        bytes32 salt;
    }

    /// @dev Each of its powers, one or two at once, after its delay and only then; users' money stays where it is.
    function govern(uint256 seed) external attempt(seed) {
        bytes32 before = _money();
        Acts memory acts = _anyActs();
        _announceActs(acts);
        bytes32 id = _idOf(acts);
        if (_draw(4) == 0) {
            _pass(_draw(timelock.getMinDelay()));
            _mustNotRun(acts, id);
        }
        _pass(timelock.getMinDelay());
        if (_draw(8) == 0) {
            _mustLand(PROPOSER, address(timelock), abi.encodeCall(timelock.cancel, (id)), "11: a cancellation");
            return _mustNotRun(acts, id);
        }
        _mustLand(_anybody(), address(timelock), _executionOf(acts), "11: an act of governance");
        for (uint256 i; i < acts.calls.length; ++i) {
            _heed(acts.targets[i], acts.calls[i], true);
            _noteDeputy(acts.calls[i]);
        }
        require(_money() == before, "11: governance moved users' money");
        _count(Count.Governed);
        _settle(_draft(false));
    }

    /// @dev A deputy gives up what it was appointed to, or tries to have another one give up.
    function stepDown(uint256 seed) external attempt(seed) {
        bytes32 role = timelock.PROPOSER_ROLE();
        bool isProposer = _draw(2) == 0;
        bool isAppointed = isProposer ? timelock.hasRole(role, DEPUTY) : _isDeputized;
        // Who has an office mostly keeps it.
        bool namesAnother = _draw(4) < (isAppointed ? 3 : 1);
        address named = namesAnother ? (isProposer ? PROPOSER : GUARDIAN) : DEPUTY;
        Refusals memory refusals;
        _unless(
            refusals,
            named == DEPUTY,
            isProposer
                ? abi.encodeWithSelector(IAccessControl.AccessControlBadConfirmation.selector)
                : abi.encodeWithSelector(IAccessManager.AccessManagerBadConfirmation.selector)
        );
        bytes memory call =
            isProposer
                ? abi.encodeCall(IAccessControl.renounceRole, (role, named))
                : abi.encodeCall(IAccessManager.renounceRole, (GUARDIAN_ROLE, named));
        address target = isProposer ? address(timelock) : address(authority);
        _do(DEPUTY, target, call, refusals, "11: an office given up");
        if (refusals.count == 0 && !isProposer) _isDeputized = false;
    }

    /// @dev Governance can have tokens, whoever sends them; saying so moves nothing.
    function tellTimelock(uint256 seed) external attempt(seed) {
        uint256[] memory none = new uint256[](0);
        bytes[3] memory calls = [
            abi.encodeCall(timelock.onERC721Received, (OUTSIDER, OUTSIDER, 1, "")),
            abi.encodeCall(timelock.onERC1155Received, (OUTSIDER, OUTSIDER, 1, 1, "")),
            abi.encodeCall(timelock.onERC1155BatchReceived, (OUTSIDER, OUTSIDER, none, none, ""))
        ];
        bytes memory call = calls[_draw(3)];
        bytes memory result = _mustLand(_anybody(), address(timelock), call, "11: a word about a token");
        require(abi.decode(result, (bytes4)) == bytes4(call), "11: a word about a token wasn't understood");
    }

    function pause(uint256 seed) external attempt(seed) {
        bytes32 before = _money();
        address guardian = _isDeputized && _draw(2) == 0 ? DEPUTY : GUARDIAN;
        uint256 until = escrow.pausedUntil();
        uint256 allowedAt = until == 0 ? 0 : until + 7 days;
        Refusals memory refusals;
        _unless(refusals, clock >= allowedAt, abi.encodeWithSelector(IUsageEscrow.PauseTooSoon.selector, allowedAt));
        (address target, bytes memory call) = _pauseCall();
        _do(guardian, target, call, refusals, "11: a pause");
        if (refusals.count == 0) {
            require(escrow.pausedUntil() == clock + 7 days, "11: a pause is longer than it may be");
        }
        // Mostly short, or there would be no deposits for half of the time.
        if (_draw(8) != 0)
            _mustLand(guardian, address(escrow), abi.encodeCall(escrow.unpause, ()), "11: a pause's end");
        require(_money() == before, "11: a pause moved users' money");
    }

    /// @dev At the escrow itself, or through the authority.
    function _pauseCall() private returns (address, bytes memory) {
        bytes memory call = abi.encodeCall(escrow.pause, ());
        uint256 kind = _draw(6);
        if (kind > 1) return (address(escrow), call);
        call = abi.encodeCall(authority.execute, (address(escrow), call));
        if (kind == 1) return (address(authority), call);
        bytes[] memory calls = new bytes[](1);
        calls[0] = call;
        return (address(authority), abi.encodeCall(Multicall.multicall, (calls)));
    }

    function _announceActs(Acts memory acts) private {
        bool isDeputys = timelock.hasRole(timelock.PROPOSER_ROLE(), DEPUTY) && _draw(2) == 0;
        uint256 delay = timelock.getMinDelay();
        bytes memory call =
            acts.calls.length == 1
                ? abi.encodeCall(timelock.schedule, (acts.targets[0], 0, acts.calls[0], 0, acts.salt, delay))
                : abi.encodeCall(timelock.scheduleBatch, (acts.targets, acts.values, acts.calls, 0, acts.salt, delay));
        _mustLand(isDeputys ? DEPUTY : PROPOSER, address(timelock), call, "11: an announcement");
    }

    function _mustNotRun(Acts memory acts, bytes32 id) private {
        Refusals memory refusals;
        bytes4 selector = TimelockController.TimelockUnexpectedOperationState.selector;
        bytes32 ready = bytes32(1 << uint8(TimelockController.OperationState.Ready));
        _unless(refusals, false, abi.encodeWithSelector(selector, id, ready));
        _do(_anybody(), address(timelock), _executionOf(acts), refusals, "11: governance didn't wait, and its act");
    }

    function _idOf(Acts memory acts) private view returns (bytes32) {
        if (acts.calls.length > 1) {
            return timelock.hashOperationBatch(acts.targets, acts.values, acts.calls, 0, acts.salt);
        }
        return timelock.hashOperation(acts.targets[0], 0, acts.calls[0], 0, acts.salt);
    }

    function _executionOf(Acts memory acts) private view returns (bytes memory) {
        if (acts.calls.length > 1) {
            return abi.encodeCall(timelock.executeBatch, (acts.targets, acts.values, acts.calls, 0, acts.salt));
        }
        return abi.encodeCall(timelock.execute, (acts.targets[0], 0, acts.calls[0], 0, acts.salt));
    }

    function _anyActs() private returns (Acts memory acts) {
        uint256 count = _draw(3) == 0 ? 2 : 1;
        (acts.targets, acts.values) = (new address[](count), new uint256[](count));
        (acts.calls, acts.salt) = (new bytes[](count), bytes32(_draw(type(uint256).max)));
        (acts.targets[0], acts.calls[0]) = _anyAct();
        if (count == 2) (acts.targets[1], acts.calls[1]) = (address(escrow), _newFee());
    }

    function _newFee() private returns (bytes memory) {
        return abi.encodeCall(escrow.setFee, (uint16(_draw(501))));
    }

    /// @dev A longer delay is rare: there is no way back.
    function _anyAct() private returns (address, bytes memory) {
        uint256 kind = _draw(8);
        if (kind < 2) return (address(escrow), _newFee());
        if (kind < 4) {
            uint64 ceiling = escrow.depositCeiling() + uint64(_draw(150 * USD) + 1);
            return (address(escrow), abi.encodeCall(escrow.raiseDepositCeiling, (ceiling)));
        }
        if (kind < 6) {
            return (
                address(authority),
                _isDeputized
                    ? abi.encodeCall(authority.revokeRole, (GUARDIAN_ROLE, DEPUTY))
                    : abi.encodeCall(authority.grantRole, (GUARDIAN_ROLE, DEPUTY, 0))
            );
        }
        uint256 delay = timelock.getMinDelay();
        if (kind == 6 && delay < 4 days && _draw(2) == 0) {
            return (address(timelock), abi.encodeCall(timelock.updateDelay, (delay + _draw(1 days))));
        }
        bytes32 role = timelock.PROPOSER_ROLE();
        bool isProposer = timelock.hasRole(role, DEPUTY);
        return (
            address(timelock),
            isProposer
                ? abi.encodeCall(timelock.revokeRole, (role, DEPUTY))
                : abi.encodeCall(timelock.grantRole, (role, DEPUTY))
        );
    }

    /// @dev A guardian more, or one less.
    function _noteDeputy(bytes memory call) private {
        if (bytes4(call) == IAccessManager.grantRole.selector) _isDeputized = true;
        if (bytes4(call) == IAccessManager.revokeRole.selector) _isDeputized = false;
    }
}
