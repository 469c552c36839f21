// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {IAccessControl} from "@openzeppelin/contracts/access/IAccessControl.sol";
import {IAccessManaged} from "@openzeppelin/contracts/access/manager/IAccessManaged.sol";
import {IAccessManager} from "@openzeppelin/contracts/access/manager/IAccessManager.sol";
import {TimelockController} from "@openzeppelin/contracts/governance/TimelockController.sol";
import {Timelock} from "../../contracts/Timelock.sol";
import {DerivativePolicy, IAssetRegistry} from "../../contracts/interfaces/IAssetRegistry.sol";
import {ICommitteeAttestor} from "../../contracts/interfaces/ICommitteeAttestor.sol";
import {ILicenseRegistry, PlanTerms} from "../../contracts/interfaces/ILicenseRegistry.sol";
import {IOperatorRegistry} from "../../contracts/interfaces/IOperatorRegistry.sol";
import {IPerformanceStaking} from "../../contracts/interfaces/IPerformanceStaking.sol";
import {BatchHeader, IUsageEscrow} from "../../contracts/interfaces/IUsageEscrow.sol";
import {AssetId, OperatorId, PlanId} from "../../contracts/types/Ids.sol";
import {Trespassers} from "./Trespassers.sol";
import {VM} from "./Vm.sol";

/// @title Whoever takes an office that isn't its own, or more of its own than it has
abstract contract Usurpers is Trespassers {
    /// @dev Attestors who aren't the committee in force: too few, former or future ones, or those of another batch's.
    function usurpCommittee(uint256 seed) external attack(seed) {
        if (lastRotation.length > 0 && _draw(3) == 0) {
            (bool landed, ) = address(committee).call(lastRotation);
            require(!landed, "10: a rotation was announced twice by the same signatures");
            return;
        }
        uint256 present = _presentRotation();
        (Seat[] memory seats, uint64 threshold) = _anyCommittee();
        uint256 signers = 1 + _draw(2 ** ATTESTORS - 1);
        // The former committee still vouches for batches, and for nothing else.
        if (present > 0 && _draw(2) == 0) signers = _quorumOf(present - 1);
        if (_noteOfRotation(present, signers) != 0) return;
        uint256 deadline = clock + 1 days;
        bytes32 digest = committee.rotationHash(_membersOf(seats), threshold, deadline);
        bytes memory call = abi.encodeCall(
            committee.rotate,
            (_membersOf(seats), threshold, deadline, _proof(digest, signers))
        );
        bytes memory refusal = abi.encodeWithSelector(ICommitteeAttestor.RotationNotSigned.selector, digest);
        _mustRefuse(OUTSIDER, address(committee), call, refusal, "10: a committee was replaced by others than itself");
    }

    /// @dev A stranger at a publisher's model and plans.
    function impersonate(uint256 seed) external attack(seed) {
        uint256 kind = _draw(5);
        address stranger = [OUTSIDER, PROPOSER, operatorOwners[0], licensees[0]][_draw(4)];
        bytes memory refusal = abi.encodeWithSelector(IAssetRegistry.CallerNotAssetOwner.selector, MODEL, stranger);
        if (kind < 3) {
            bytes memory call = _anyPublishing();
            _mustRefuse(stranger, address(assets), call, refusal, "9: a stranger changed a model's history");
            return;
        }
        uint256 plan = _anyPlan();
        refusal = abi.encodeWithSelector(ILicenseRegistry.CallerNotPublisher.selector, _assetOf(plan), stranger);
        bytes memory offer =
            kind == 3
                ? abi.encodeCall(licenses.closePlan, (PlanId.wrap(uint32(plan))))
                : abi.encodeCall(licenses.createPlan, (plans[plan - 1]));
        _mustRefuse(stranger, address(licenses), offer, refusal, "9: a stranger changed a model's plans");
    }

    /// @dev One of a model's owner's own acts.
    function _anyPublishing() private returns (bytes memory) {
        AssetId model = AssetId.wrap(uint32(MODEL));
        IAssetRegistry.Derivation memory derivation;
        derivation.parentId = model;
        bytes[5] memory calls = [
            abi.encodeCall(assets.recall, (_versionId(MODEL, _draw(recalledAt.length) + 1))),
            abi.encodeCall(assets.publish, (model, bytes32(uint256(99)), 0, address(0), "ipfs://another", "")),
            abi.encodeCall(assets.describe, (model, "ipfs://another")),
            abi.encodeCall(assets.setPolicy, (model, DerivativePolicy.Closed, 0)),
            abi.encodeCall(assets.withdrawDerivation, (derivation))
        ];
        return calls[_draw(5)];
    }

    /// @dev A publisher whose plan names an arbitrator that can't rule by ERC-792, or asks for evidence of a tier that there isn't.
    function offerUnkeepable(uint256 seed) external attack(seed) {
        PlanTerms memory terms = plans[_anyPlan() - 1];
        bool names = _draw(2) == 0;
        if (names) terms.arbitrator = publishers[0];
        else terms.minEvidenceTier = uint8(5 + _draw(251));
        bytes memory refusal = abi.encodeWithSelector(
            ILicenseRegistry.EvidenceTierUnknown.selector,
            terms.minEvidenceTier,
            4
        );
        if (names) refusal = abi.encodeWithSelector(ILicenseRegistry.ArbitratorNotContract.selector, publishers[0]);
        address owner = assets.ownerOf(AssetId.unwrap(terms.assetId));
        bytes memory call = abi.encodeCall(licenses.createPlan, (terms));
        _mustRefuse(owner, address(licenses), call, refusal, "2: a plan promises what nothing enforces");
    }

    /// @dev A bond slashed for what its attestor never did: two batches of two numbers, one batch twice, a signature by another.
    function frame(uint256 seed) external attack(seed) {
        uint256 attestor = _draw(ATTESTORS);
        uint256 kind = _draw(3);
        BatchHeader memory first;
        first.sequence = uint64(1 + _draw(9));
        BatchHeader memory second = abi.decode(abi.encode(first), (BatchHeader));
        if (kind == 0) second.sequence += 1;
        if (kind == 2) second.root = bytes32(_draw(type(uint256).max));
        (bytes32 firstId, bytes32 secondId) = (escrow.batchIdOf(first), escrow.batchIdOf(second));
        bytes memory call = _reportCall(attestor, attestorPayees[attestor], first, second);
        bytes memory refusal = abi.encodeWithSelector(
            ICommitteeAttestor.BatchesOfTwoNumbers.selector,
            firstId,
            secondId
        );
        if (kind == 1) refusal = abi.encodeWithSelector(ICommitteeAttestor.BatchesAgree.selector, firstId);
        if (kind == 2) {
            refusal = abi.encodeWithSelector(ICommitteeAttestor.BatchNotSigned.selector, secondId, _signer(attestor));
            call = abi.encodeCall(
                ICommitteeAttestor.reportEquivocation,
                (
                    _signer(attestor),
                    attestorPayees[attestor],
                    first,
                    _signature(attestor, firstId),
                    second,
                    _signature((attestor + 1) % ATTESTORS, secondId)
                )
            );
        }
        _mustRefuse(OUTSIDER, address(_attestorOf(attestor)), call, refusal, "6: a bond was lost for nothing");
    }

    /// @dev Anybody, who schedules governance's acts included, at what only a role may do.
    function usurp(uint256 seed) external attack(seed) {
        address[5] memory usurpers = [PROPOSER, GUARDIAN, operatorOwners[0], address(committee), TREASURY];
        address usurper = usurpers[_draw(5)];
        (address target, bytes memory call) = _restrictedCall(usurper);
        bytes memory refusal = abi.encodeWithSelector(IAccessManaged.AccessManagedUnauthorized.selector, usurper);
        _mustRefuse(usurper, target, call, refusal, "11: a power was used by one who doesn't have it");
    }

    /// @dev Anybody who would rewire the market: its authority's own functions.
    function rewire(uint256 seed) external attack(seed) {
        address usurper = [PROPOSER, GUARDIAN, operatorOwners[0], address(committee), OUTSIDER][_draw(5)];
        bytes memory act = abi.encodeCall(escrow.setFee, (0));
        bytes4[] memory selectors = new bytes4[](1);
        selectors[0] = escrow.setFee.selector;
        bytes[10] memory calls = [
            abi.encodeCall(authority.labelRole, (GOVERNOR_ROLE, "nobody")),
            abi.encodeCall(authority.setGrantDelay, (GUARDIAN_ROLE, 0)),
            abi.encodeCall(authority.setRoleAdmin, (GUARDIAN_ROLE, GUARDIAN_ROLE)),
            abi.encodeCall(authority.setRoleGuardian, (GUARDIAN_ROLE, GUARDIAN_ROLE)),
            abi.encodeCall(authority.setTargetAdminDelay, (address(escrow), 0)),
            abi.encodeCall(authority.setTargetClosed, (address(escrow), true)),
            abi.encodeCall(authority.setTargetFunctionRole, (address(escrow), selectors, GUARDIAN_ROLE)),
            abi.encodeCall(authority.updateAuthority, (address(escrow), usurper)),
            abi.encodeCall(authority.grantRole, (GOVERNOR_ROLE, usurper, 0)),
            abi.encodeCall(authority.revokeRole, (ESCROW_ROLE, address(escrow)))
        ];
        bytes memory call = calls[_draw(10)];
        bytes4 selector = IAccessManager.AccessManagerUnauthorizedAccount.selector;
        bytes memory refusal = abi.encodeWithSelector(selector, usurper, ADMIN_ROLE);
        uint256 kind = _draw(8);
        if (kind < 2) {
            call =
                kind == 0
                    ? abi.encodeCall(authority.schedule, (address(escrow), act, 0))
                    : abi.encodeCall(authority.execute, (address(escrow), act));
            selector = IAccessManager.AccessManagerUnauthorizedCall.selector;
            refusal = abi.encodeWithSelector(selector, usurper, escrow, escrow.setFee.selector);
        } else if (kind == 2) {
            call = abi.encodeCall(authority.cancel, (address(timelock), address(escrow), act));
            selector = IAccessManager.AccessManagerNotScheduled.selector;
            bytes32 id = authority.hashOperation(address(timelock), address(escrow), act);
            refusal = abi.encodeWithSelector(selector, id);
        } else if (kind == 3) {
            // Asks its caller, which can't answer.
            (usurper, refusal) = (address(committee), "");
            call = abi.encodeCall(authority.consumeScheduledOp, (address(timelock), act));
        }
        _mustRefuse(usurper, address(authority), call, refusal, "11: the market was wired anew");
    }

    /// @dev A stranger at an operator's record: what it says of itself, its keys, whom it serves.
    function speakForOperator(uint256 seed) external attack(seed) {
        uint256 operator = _anyOperator();
        OperatorId id = _operatorId(operator);
        address stranger = _draw(2) == 0 ? THIEF : operatorOwners[2 - operator];
        bytes[4] memory calls = [
            abi.encodeCall(operators.describe, (id, "https://thief", "", 0)),
            abi.encodeCall(operators.addKey, (id, stranger, type(uint40).max)),
            abi.encodeCall(operators.revokeKey, (id, operatorSigners[operator - 1])),
            abi.encodeCall(operators.setServed, (id, PlanId.wrap(1), false))
        ];
        bytes memory refusal = abi.encodeWithSelector(IOperatorRegistry.CallerNotOperator.selector, id, stranger);
        _mustRefuse(stranger, address(operators), calls[_draw(4)], refusal, "9: a stranger spoke for an operator");
    }

    /// @dev Acts of governance that nobody scheduled, that wait, or that were called off; and schedules by others.
    function governEarly(uint256 seed) external attack(seed) {
        bytes memory act = abi.encodeCall(escrow.setFee, (uint16(_draw(501))));
        uint256 kind = _draw(4);
        if (kind == 0) {
            bytes memory refusal = abi.encodeWithSelector(
                IAccessControl.AccessControlUnauthorizedAccount.selector,
                GUARDIAN,
                timelock.PROPOSER_ROLE()
            );
            uint256 delay = timelock.getMinDelay();
            bytes memory schedule = abi.encodeCall(timelock.schedule, (address(escrow), 0, act, 0, 0, delay));
            return _mustRefuse(GUARDIAN, address(timelock), schedule, refusal, "11: another one governed");
        }
        bytes32 salt = bytes32(_draw(type(uint256).max));
        bytes32 id = timelock.hashOperation(address(escrow), 0, act, 0, salt);
        if (kind > 1) _schedule(address(escrow), act, salt);
        if (kind == 2) _pass(timelock.getMinDelay() - 1);
        if (kind == 3) {
            _pass(_draw(timelock.getMinDelay() + 1));
            _act(PROPOSER, address(timelock), abi.encodeCall(timelock.cancel, (id)));
        }
        bytes memory call = abi.encodeCall(timelock.execute, (address(escrow), 0, act, 0, salt));
        bytes memory refused_ = abi.encodeWithSelector(
            TimelockController.TimelockUnexpectedOperationState.selector,
            id,
            bytes32(1 << uint8(TimelockController.OperationState.Ready))
        );
        _mustRefuse(OUTSIDER, address(timelock), call, refused_, "11: governance didn't wait");
        if (kind == 2) _act(PROPOSER, address(timelock), abi.encodeCall(timelock.cancel, (id)));
    }

    /// @dev Governance beyond its powers, after its delay: a higher fee than the bound, a lower ceiling, a shorter delay, the
    /// wiring, another governor.
    function overreach(uint256 seed) external attack(seed) {
        bytes memory refusal = abi.encodeWithSelector(
            IAccessManager.AccessManagerUnauthorizedAccount.selector,
            timelock,
            ADMIN_ROLE
        );
        address target = address(authority);
        bytes memory act;
        uint256 kind = _draw(8);
        if (kind == 0) {
            uint16 fee = uint16(501 + _draw(60_000));
            (target, act) = (address(escrow), abi.encodeCall(escrow.setFee, (fee)));
            refusal = abi.encodeWithSelector(IUsageEscrow.FeeAboveBound.selector, fee, 500);
        } else if (kind == 1) {
            uint64 ceiling = escrow.depositCeiling();
            (target, act) = (address(escrow), abi.encodeCall(escrow.raiseDepositCeiling, (ceiling)));
            refusal = abi.encodeWithSelector(IUsageEscrow.CeilingNotRaised.selector, ceiling, ceiling);
        } else if (kind == 2) {
            uint256 present = timelock.getMinDelay();
            uint256 delay = _draw(present);
            (target, act) = (address(timelock), abi.encodeCall(timelock.updateDelay, (delay)));
            refusal = abi.encodeWithSelector(Timelock.DelayOutOfRange.selector, delay, present, 30 days);
        } else if (kind == 3) {
            act = abi.encodeCall(authority.grantRole, (ADMIN_ROLE, PROPOSER, 0));
        } else if (kind == 4) {
            act = abi.encodeCall(authority.grantRole, (GOVERNOR_ROLE, PROPOSER, 0));
        } else if (kind == 5) {
            act = abi.encodeCall(authority.grantRole, (SLASHER_ROLE, PROPOSER, 0));
        } else if (kind == 6) {
            act = abi.encodeCall(authority.setRoleAdmin, (GOVERNOR_ROLE, GOVERNOR_ROLE));
        } else {
            bytes4[] memory selectors = new bytes4[](1);
            selectors[0] = staking.slash.selector;
            act = abi.encodeCall(authority.setTargetFunctionRole, (address(staking), selectors, GOVERNOR_ROLE));
        }
        bytes32 salt = bytes32(_draw(type(uint256).max));
        _schedule(target, act, salt);
        _pass(timelock.getMinDelay());
        bytes memory call = abi.encodeCall(timelock.execute, (target, 0, act, 0, salt));
        _mustRefuse(OUTSIDER, address(timelock), call, refusal, "11: governance went beyond its powers");
    }

    /// @dev One of all functions that a role is for, and its contract.
    function _restrictedCall(address usurper) private returns (address, bytes memory) {
        uint256 kind = _draw(4);
        if (kind == 0) {
            BatchHeader memory header;
            bytes[8] memory calls = [
                abi.encodeCall(escrow.setFee, (0)),
                abi.encodeCall(escrow.raiseDepositCeiling, (type(uint64).max)),
                abi.encodeCall(escrow.freezeCharge, (header, "", "", _id(_anyLicense()))),
                abi.encodeCall(escrow.refundCharge, (0)),
                abi.encodeCall(escrow.releaseCharge, (0, 0)),
                abi.encodeCall(IAccessManaged.setAuthority, (usurper)),
                // Guardians may pause.
                abi.encodeCall(escrow.pause, ()),
                abi.encodeCall(escrow.unpause, ())
            ];
            return (address(escrow), calls[_draw(usurper == GUARDIAN ? 6 : 8)]);
        }
        if (kind == 1) {
            bytes[4] memory calls = [
                abi.encodeCall(licenses.changePlan, (_id(_anyLicense()), PlanId.wrap(1))),
                abi.encodeCall(licenses.mint, (usurper, PlanId.wrap(1))),
                abi.encodeCall(licenses.setMovable, (_id(_anyLicense()), 1)),
                abi.encodeCall(IAccessManaged.setAuthority, (usurper))
            ];
            return (address(licenses), calls[_draw(4)]);
        }
        if (kind == 2) {
            bytes[2] memory calls = [
                abi.encodeCall(waterfall.credit, (AssetId.wrap(uint32(MODEL)), USD)),
                abi.encodeCall(IAccessManaged.setAuthority, (usurper))
            ];
            return (address(waterfall), calls[_draw(2)]);
        }
        return (address(staking), _restrictedStakingCall(usurper, _operatorId(_anyOperator())));
    }

    function _restrictedStakingCall(address usurper, OperatorId operator) private returns (bytes memory) {
        IPerformanceStaking.Charge memory charged = IPerformanceStaking.Charge({
            operatorId: operator,
            planId: PlanId.wrap(1),
            amount: 1,
            day: clock / EPOCH,
            breached: true
        });
        bytes[7] memory calls = [
            abi.encodeCall(staking.charge, (charged)),
            abi.encodeCall(staking.release, (operator, 0, 0)),
            abi.encodeCall(staking.addIncome, (operator, 1)),
            abi.encodeCall(staking.slash, (operator, 1, usurper)),
            abi.encodeCall(staking.freeze, (operator, 1, uint40(clock))),
            abi.encodeCall(staking.unfreeze, (operator)),
            abi.encodeCall(IAccessManaged.setAuthority, (usurper))
        ];
        return calls[_draw(7)];
    }
}
