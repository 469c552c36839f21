// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {ICommitteeAttestor} from "../../contracts/interfaces/ICommitteeAttestor.sol";
import {PlanStatus} from "../../contracts/interfaces/ILicenseRegistry.sol";
import {IUsageEscrow} from "../../contracts/interfaces/IUsageEscrow.sol";
import {PlanId} from "../../contracts/types/Ids.sol";
import {Licensees} from "./Licensees.sol";
import {Machine, Verb} from "./Statuses.sol";
import {VM} from "./Vm.sol";

/// @title Publishers, committees, payees, governance, and whoever else passes by
abstract contract Actors is Licensees {
    uint256 private constant MOST_RECALLS = 6;
    uint256 private constant MOST_PLANS = 8;

    /// @dev The last call that announced a committee, and until when its signatures counted.
    bytes internal lastRotation;
    uint256 internal lastDeadline;

    // Publishers

    /// @dev One version is mostly left that may be used, or a new one takes its place.
    function recall(uint256 seed) external attempt(seed) {
        uint256 version = _anyVersion();
        if (recalls.length == MOST_RECALLS || _draw(3) != 0) return _recallOrPublish(version, recalledAt.length < 4);
        _recallOrPublish(version, false);
    }

    /// @dev Another one with the same terms takes its place.
    function closePlan(uint256 seed) external attempt(seed) {
        uint256 plan = _anyPlan();
        if (_planStatus(plan) == PlanStatus.Closed || plans.length == MOST_PLANS || _draw(3) == 0)
            return _settle(_draft(false));
        bytes memory call = abi.encodeCall(licenses.closePlan, (PlanId.wrap(uint32(plan))));
        _watch(Machine.Plan, plan);
        _mustLand(assets.ownerOf(1), address(licenses), call, "9: the end of a plan's sales");
        sales[plan].closed = true;
        _see(Machine.Plan, plan, Verb.ClosePlan);
        _create(plans[plan - 1]);
        _see(Machine.Plan, plans.length, Verb.CreatePlan);
    }

    /// @dev Whoever owns the model when a batch is released earns its publisher's share.
    function sellModel(uint256 seed) external attempt(seed) {
        address owner = assets.ownerOf(1);
        address heir = owner == publishers[0] ? publishers[1] : publishers[0];
        bytes memory call = abi.encodeCall(assets.transferFrom, (owner, heir, 1));
        _mustLand(owner, address(assets), call, "7: a model's sale");
    }

    // Operators

    /// @dev Mostly for it: who isn't served any more stays a licensee.
    function serve(uint256 seed) external attempt(seed) {
        uint256 operator = _anyOperator();
        uint256 plan = _anyPlan();
        refused[operator][plan] = _draw(6) == 0;
        _serve(operator, PlanId.wrap(uint32(plan)), !refused[operator][plan]);
        _settle(_draft(false));
    }

    // Committees

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
        (lastRotation, lastDeadline) = (call, deadline);
        if (rotations.length == present + 2) rotations.pop();
        rotations.push(Rotation(members, threshold, clock + EPOCH + 2 * WINDOW + 1 hours));
        require(abi.decode(result, (uint256)) == present + 1, "10: a rotation has another number");
        _see(Machine.Rotation, present + 1, Verb.Rotate);
        ++tally.rotations;
    }

    // Payees

    function withdrawEarnings(uint256 seed) external attempt(seed) {
        address[5] memory payees = [operatorOwners[0], operatorOwners[1], publishers[0], publishers[1], OUTSIDER];
        uint256 start = _draw(5);
        for (uint256 i; i < 4 && earnings[payees[start]] == 0; ++i) start = (start + 1) % 5;
        _withdrawEarnings(payees[start]);
    }

    function withdrawFees(uint256 seed) external attempt(seed) {
        _withdrawFees();
    }

    function withdrawIncome(uint256 seed) external attempt(seed) {
        uint256 start = _draw(ATTESTORS);
        for (uint256 i = 1; i < ATTESTORS && _incomeOf(start) == 0; ++i) start = (start + 1) % ATTESTORS;
        _withdrawIncome(start);
    }

    function withdrawProceeds(uint256 seed) external attempt(seed) {
        address beneficiary = _draw(2) == 0 ? BENEFICIARY : TREASURY;
        if (proceeds[beneficiary] == 0) beneficiary = beneficiary == TREASURY ? BENEFICIARY : TREASURY;
        if (proceeds[beneficiary] == 0) return _settle(_draft(false));
        _withdrawProceeds(beneficiary);
    }

    // Everybody else

    function donate(uint256 seed) external attempt(seed) {
        address[4] memory holders = [address(escrow), address(staking), address(committee), address(lone)];
        address holder = holders[_draw(4)];
        uint256 amount = _draw(USD) + 1;
        currency.mint(DONOR, amount);
        _mustLand(DONOR, address(currency), abi.encodeCall(currency.transfer, (holder, amount)), "1: a donation");
        donations[holder] += amount;
    }

    // Governance

    /// @dev After its delay, and only then.
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
        VM.prank(GOVERNOR);
        (bool early, ) = target.call(act);
        require(!early, "11: governance didn't wait");
        _govern(target, act);
        require(_money() == before, "11: governance moved users' money");
        ++tally.governed;
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

    // What the acts above are made of

    function _recallOrPublish(uint256 version, bool publishes) private {
        address owner = assets.ownerOf(1);
        bool isUsable = recalledAt[version - 1] == 0;
        if (publishes || !isUsable) {
            _publish(recalledAt.length + 1);
            recalledAt.push();
            _see(Machine.Version, recalledAt.length, Verb.Publish);
            return _settle(_draft(false));
        }
        _watch(Machine.Version, version);
        bytes memory call = abi.encodeCall(assets.recall, (_versionId(version)));
        _mustLand(owner, address(assets), call, "9: a recall");
        recalledAt[version - 1] = clock;
        recalls.push(clock);
        _see(Machine.Version, version, Verb.Recall);
        ++tally.recalls;
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

    function _withdrawEarnings(address payee) internal {
        uint256 due = earnings[payee];
        Refusals memory refusals;
        _unless(refusals, due > 0, abi.encodeWithSelector(IUsageEscrow.EarningsEmpty.selector, payee));
        bytes memory call = abi.encodeCall(escrow.withdrawEarnings, (WALLET));
        bytes memory result = _do(payee, address(escrow), call, refusals, "7: earnings");
        if (refusals.count > 0) return;
        _requireReceived(abi.decode(result, (uint256)), WALLET, due);
        earned -= due;
        flows.earningsPaid += due;
        earnings[payee] = 0;
    }

    function _withdrawFees() internal {
        Refusals memory refusals;
        _unless(refusals, fees > 0, abi.encodeWithSelector(IUsageEscrow.EarningsEmpty.selector, TREASURY));
        bytes memory call = abi.encodeCall(escrow.withdrawFees, ());
        bytes memory result = _do(_anybody(), address(escrow), call, refusals, "7: the protocol's fees");
        if (refusals.count > 0) return;
        _requireReceived(abi.decode(result, (uint256)), TREASURY, fees);
        flows.feesPaid += fees;
        fees = 0;
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
        flows.incomePaid += due;
        incomeOf[holder][payee] = 0;
    }

    function _withdrawProceeds(address beneficiary) internal {
        bytes memory call = abi.encodeCall(staking.withdrawProceeds, (WALLET));
        bytes memory result = _mustLand(beneficiary, address(staking), call, "6: a slash's proceeds");
        _requireReceived(abi.decode(result, (uint256)), WALLET, proceeds[beneficiary]);
        proceeds[beneficiary] = 0;
    }
}
