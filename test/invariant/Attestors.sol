// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {ICommitteeAttestor} from "../../contracts/interfaces/ICommitteeAttestor.sol";
import {Count} from "./Ledger.sol";
import {Publishers} from "./Publishers.sol";
import {Machine, Verb} from "./Statuses.sol";

/// @title Committees that hand over to each other, and are paid for what they signed
abstract contract Attestors is Publishers {
    /// @dev The last call that announced a committee.
    bytes internal lastRotation;

    /// @dev The present committee announces another one, in place of one that isn't in force yet.
    function rotate(uint256 seed) external attempt(seed) {
        uint256 present = _presentRotation();
        (uint256[] memory members, uint64 threshold) = _anyCommittee();
        uint256 deadline = clock + _draw(1 days);
        bytes32 digest = committee.rotationHash(_membersOf(members), threshold, deadline);
        bytes memory proof = _proof(digest, _quorumOf(present));
        if (_draw(8) == 0) _pass(_draw(2 days));
        // While they passed it round, another committee may have come into force.
        if (_presentRotation() != present) return;
        Refusals memory refusals;
        _unless(
            refusals,
            clock <= deadline,
            abi.encodeWithSelector(ICommitteeAttestor.RotationTooLate.selector, deadline)
        );
        _watch(Machine.Rotation, present + 1);
        bytes memory call = abi.encodeCall(committee.rotate, (_membersOf(members), threshold, deadline, proof));
        bytes memory result = _do(_anybody(), address(committee), call, refusals, "10: a rotation");
        if (refusals.count > 0) return;
        ++rotationNonce;
        lastRotation = call;
        if (rotations.length == present + 2) rotations.pop();
        rotations.push(Rotation(members, threshold, clock + EPOCH + 2 * WINDOW + 1 hours));
        require(abi.decode(result, (uint256)) == present + 1, "10: a rotation has another number");
        _see(Machine.Rotation, present + 1, Verb.Rotate);
        _count(Count.Rotations);
    }

    function withdrawIncome(uint256 seed) external attempt(seed) {
        uint256 start = _draw(ATTESTORS);
        for (uint256 i = 1; i < ATTESTORS && _incomeOf(start) == 0; ++i) start = (start + 1) % ATTESTORS;
        _withdrawIncome(start);
    }

    /// @dev One to three of those who may sit in it, and more than half of them to sign.
    function _anyCommittee() internal returns (uint256[] memory members, uint64 threshold) {
        uint256[5] memory candidates = [uint256(0), 1, 2, 4, 5];
        uint256 start = _draw(5);
        members = new uint256[](1 + _draw(3));
        for (uint256 i; i < members.length; ++i) members[i] = candidates[(start + i) % 5];
        threshold = uint64(members.length / 2 + 1);
        if (threshold < members.length && _draw(3) == 0) ++threshold;
    }

    function _membersOf(uint256[] memory members) internal view returns (ICommitteeAttestor.Member[] memory named) {
        named = new ICommitteeAttestor.Member[](members.length);
        for (uint256 i; i < members.length; ++i) named[i] = _member(members[i]);
    }

    function _incomeOf(uint256 attestor) internal view returns (uint256) {
        return incomeOf[address(_attestorOf(attestor))][attestorPayees[attestor]];
    }

    function _withdrawIncome(uint256 attestor) internal {
        address holder = address(_attestorOf(attestor));
        address payee = attestorPayees[attestor];
        uint256 due = incomeOf[holder][payee];
        Refusals memory refusals;
        _unless(refusals, due > 0, abi.encodeWithSelector(ICommitteeAttestor.IncomeEmpty.selector, payee));
        bytes memory call = abi.encodeCall(ICommitteeAttestor.withdraw, (WALLET));
        bytes memory result = _do(payee, holder, call, refusals, "7: an attestor's income");
        if (refusals.count > 0) return;
        _requireReceived(abi.decode(result, (uint256)), WALLET, due);
        incomes[holder] -= due;
        flows.attestorsPaid += due;
        incomeOf[holder][payee] = 0;
    }
}
