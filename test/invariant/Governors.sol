// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {IUsageEscrow} from "../../contracts/interfaces/IUsageEscrow.sol";
import {Count} from "./Ledger.sol";
import {Payees} from "./Payees.sol";
import {VM} from "./Vm.sol";

/// @title Governance and guardians, using their powers
abstract contract Governors is Payees {
    /// @dev Whether they may pause.
    bool private _isDeputized;

    /// @dev Each of its powers, after its delay and only then; users' money stays where it is.
    function govern(uint256 seed) external attempt(seed) {
        (address target, bytes memory act) = _anyAct();
        bytes32 before = _money();
        bytes32 salt = bytes32(_draw(type(uint256).max));
        _schedule(target, act, salt);
        if (_draw(4) == 0) {
            _pass(_draw(timelock.getMinDelay()));
            (bool early, ) = address(timelock).call(abi.encodeCall(timelock.execute, (target, 0, act, 0, salt)));
            require(!early, "11: governance didn't wait");
        }
        _pass(timelock.getMinDelay());
        bytes memory call = abi.encodeCall(timelock.execute, (target, 0, act, 0, salt));
        _mustLand(_anybody(), address(timelock), call, "11: an act of governance");
        require(_money() == before, "11: governance moved users' money");
        _count(Count.Governed);
        _settle(_draft(false));
    }

    function pause(uint256 seed) external attempt(seed) {
        bytes32 before = _money();
        address guardian = _isDeputized && _draw(2) == 0 ? DEPUTY : GUARDIAN;
        uint256 until = escrow.pausedUntil();
        uint256 allowedAt = until == 0 ? 0 : until + 7 days;
        Refusals memory refusals;
        _unless(refusals, clock >= allowedAt, abi.encodeWithSelector(IUsageEscrow.PauseTooSoon.selector, allowedAt));
        _do(guardian, address(escrow), abi.encodeCall(escrow.pause, ()), refusals, "11: a pause");
        if (refusals.count == 0)
            require(escrow.pausedUntil() == clock + 7 days, "11: a pause is longer than it may be");
        // Mostly short, or there would be no deposits for half of the time.
        if (_draw(8) != 0) {
            VM.prank(guardian);
            escrow.unpause();
        }
        require(_money() == before, "11: a pause moved users' money");
    }

    /// @dev A longer delay is rare: there is no way back.
    function _anyAct() private returns (address, bytes memory) {
        uint256 kind = _draw(8);
        if (kind < 3) return (address(escrow), abi.encodeCall(escrow.setFee, (uint16(_draw(501)))));
        if (kind < 5) {
            uint64 ceiling = escrow.depositCeiling() + uint64(_draw(150 * USD) + 1);
            return (address(escrow), abi.encodeCall(escrow.raiseDepositCeiling, (ceiling)));
        }
        if (kind == 5) {
            _isDeputized = !_isDeputized;
            return (
                address(authority),
                _isDeputized
                    ? abi.encodeCall(authority.grantRole, (GUARDIAN_ROLE, DEPUTY, 0))
                    : abi.encodeCall(authority.revokeRole, (GUARDIAN_ROLE, DEPUTY))
            );
        }
        uint256 delay = timelock.getMinDelay();
        if (kind == 6 && delay < 4 days && _draw(4) == 0) {
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
}
