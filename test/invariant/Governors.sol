// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {IUsageEscrow} from "../../contracts/interfaces/IUsageEscrow.sol";
import {Count} from "./Ledger.sol";
import {Payees} from "./Payees.sol";
import {VM} from "./Vm.sol";

/// @title Governance and guardians, using their powers
abstract contract Governors is Payees {
    /// @dev After its delay, and only then; users' money stays where it is.
    function govern(uint256 seed) external attempt(seed) {
        address target = address(escrow);
        bytes memory act;
        uint256 kind = _draw(4);
        if (kind == 0) {
            target = address(authority);
            act = abi.encodeCall(authority.grantRole, (GUARDIAN_ROLE, DEPUTY, 0));
        } else if (kind == 1) {
            act = abi.encodeCall(escrow.raiseDepositCeiling, (escrow.depositCeiling() + uint64(_draw(150 * USD) + 1)));
        } else {
            act = abi.encodeCall(escrow.setFee, (uint16(_draw(501))));
        }
        bytes32 before = _money();
        VM.prank(PROPOSER);
        (bool early, ) = target.call(act);
        require(!early, "11: governance didn't wait");
        _govern(target, act);
        require(_money() == before, "11: governance moved users' money");
        _count(Count.Governed);
        _settle(_draft(false));
    }

    function pause(uint256 seed) external attempt(seed) {
        bytes32 before = _money();
        uint256 until = escrow.pausedUntil();
        uint256 allowedAt = until == 0 ? 0 : until + 7 days;
        Refusals memory refusals;
        _unless(refusals, clock >= allowedAt, abi.encodeWithSelector(IUsageEscrow.PauseTooSoon.selector, allowedAt));
        _do(GUARDIAN, address(escrow), abi.encodeCall(escrow.pause, ()), refusals, "11: a pause");
        if (refusals.count == 0)
            require(escrow.pausedUntil() == clock + 7 days, "11: a pause is longer than it may be");
        // Mostly short, or there would be no deposits for half of the time.
        if (_draw(8) != 0) {
            VM.prank(GUARDIAN);
            escrow.unpause();
        }
        require(_money() == before, "11: a pause moved users' money");
    }
}
