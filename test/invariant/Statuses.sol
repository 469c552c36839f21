// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {VersionStatus} from "../../contracts/interfaces/IAssetRegistry.sol";
import {BondStatus, RotationStatus} from "../../contracts/interfaces/ICommitteeAttestor.sol";
import {PlanStatus} from "../../contracts/interfaces/ILicenseRegistry.sol";
import {KeyStatus} from "../../contracts/interfaces/IOperatorRegistry.sol";
import {ChallengeStatus} from "../../contracts/interfaces/IDisputeCourt.sol";
import {OperatorStatus} from "../../contracts/interfaces/IPerformanceStaking.sol";
import {BatchStatus, LicenseStatus} from "../../contracts/interfaces/IUsageEscrow.sol";
import {OperatorId, PlanId} from "../../contracts/types/Ids.sol";
import {Checks} from "./Checks.sol";
import {License, Model} from "./Model.sol";
import {Pool, StakeModel} from "./StakeModel.sol";

enum Machine {
    Version,
    Plan,
    License,
    Batch,
    Operator,
    Rotation,
    Bond,
    SigningKey,
    Challenge
}

/// @dev What moves statuses, by its name in docs/states.md. `Nothing` is every act that isn't drawn; a report of a breach freezes and
/// refunds a charge at once, and a proof ahead freezes it and lets it go.
enum Verb {
    Nothing,
    Time,
    Deploy,
    Publish,
    Recall,
    CreatePlan,
    ClosePlan,
    Buy,
    Lock,
    Unlock,
    Transfer,
    End,
    SetRenewal,
    ChangePlan,
    Renew,
    CloseTerm,
    Settle,
    Release,
    ShareIncome,
    FreezeCharge,
    RefundCharge,
    ReleaseCharge,
    AddStake,
    Withdraw,
    Slash,
    Rotate,
    PostBond,
    ThawBond,
    WithdrawBond,
    Report,
    AddKey,
    RevokeKey,
    ReportBreach,
    ProveCharge,
    Challenge,
    Answer,
    AnswerWithProof,
    Escalate,
    PayFee,
    Rule,
    Close
}

/// @title Every status before and after every act
/// @dev A status is what the ledger says it is, and whatever moved it is an arrow of docs/states.md. Time may move several
/// arrows at once.
abstract contract Statuses is Checks {
    /// @dev What was last seen.
    mapping(Machine machine => mapping(uint256 id => uint8)) private _seen;

    /// @dev Before an act: nothing but time has moved it since it was last seen.
    function _watch(Machine machine, uint256 id) internal {
        _see(machine, id, Verb.Time);
    }

    /// @dev After an act.
    function _see(Machine machine, uint256 id, Verb verb) internal {
        uint8 status = _statusOf(machine, id);
        _requireEdge(machine, _seen[machine][id], status, verb);
        _seen[machine][id] = status;
    }

    /// @dev Whatever wasn't acted upon has moved by time alone, and stands where the ledger says.
    function _requireStatus(Machine machine, uint256 id) internal view {
        uint8 status = _statusOf(machine, id);
        require(status == _statusDue(machine, id), "9: a status isn't what its facts and the time make it");
        _requireEdge(machine, _seen[machine][id], status, Verb.Time);
    }

    function _requireInTurn(uint256 kind, uint256 turn) internal view override {
        super._requireInTurn(kind, turn);
        if (kind == 0) _requireStatus(Machine.Operator, 1 + (turn % OPERATORS));
        if (kind == 1) _requireStatus(Machine.License, 1 + (turn % ledger.length));
        if (kind == 2) _requireStatus(Machine.Plan, 1 + (turn % plans.length));
        if (kind == 3) _requireStatus(Machine.Version, 1 + (turn % recalledAt.length));
        if (kind == 3) _requireStatus(Machine.SigningKey, SIGNING_KEYS + (turn % (OPERATORS * SIGNING_KEYS)));
        if (kind == 4) _requireStatus(Machine.Bond, turn % (2 * ATTESTORS));
        if (kind == 4) _requireStatus(Machine.Rotation, turn % (rotations.length + 1));
        if (kind == 5 && batches.length > 0) _requireStatus(Machine.Batch, turn % batches.length);
        if (kind == 5 && cases.length > 0) _requireStatus(Machine.Challenge, 1 + (turn % cases.length));
    }

    function _requireAll() internal view virtual override {
        super._requireAll();
        for (uint256 i = 1; i <= recalledAt.length; ++i) _requireStatus(Machine.Version, i);
        for (uint256 i = 1; i <= plans.length; ++i) _requireStatus(Machine.Plan, i);
        for (uint256 i; i < live.length; ++i) _requireStatus(Machine.License, live[i]);
        for (uint256 i; i < batches.length; ++i) {
            if (batches[i].status != BatchStatus.Collected) _requireStatus(Machine.Batch, i);
        }
        for (uint256 i; i < pending.length; ++i) _requireStatus(Machine.Challenge, pending[i]);
        for (uint256 i; i <= rotations.length; ++i) _requireStatus(Machine.Rotation, i);
        for (uint256 i; i < 2 * ATTESTORS; ++i) _requireStatus(Machine.Bond, i);
        for (uint256 i = 1; i <= OPERATORS; ++i) _requireStatus(Machine.Operator, i);
    }

    function _statusOf(Machine machine, uint256 id) private view returns (uint8) {
        if (machine == Machine.Version) return uint8(assets.statusOf(_versionId(MODEL, id)));
        if (machine == Machine.Plan) return uint8(licenses.statusOf(PlanId.wrap(uint32(id))));
        if (machine == Machine.License) return uint8(escrow.statusOf(_id(id)));
        if (machine == Machine.Batch) return uint8(escrow.batchStatusOf(batches[id].id));
        if (machine == Machine.Operator) return uint8(staking.statusOf(OperatorId.wrap(uint24(id))));
        if (machine == Machine.Rotation) return uint8(committee.statusOf(id));
        if (machine == Machine.Challenge) return uint8(court.challengeOf(id).status);
        if (machine == Machine.SigningKey) {
            (uint256 operator, uint256 key) = (id / SIGNING_KEYS, id % SIGNING_KEYS);
            return uint8(operators.statusOf(_operatorId(operator), _signerOf(operator, key)));
        }
        return uint8(_attestorOf(id / 2).bondStatusOf(_signer(id / 2), _bondHolder(id)));
    }

    function _statusDue(Machine machine, uint256 id) private view returns (uint8) {
        if (machine == Machine.Version) return uint8(_versionStatus(id));
        if (machine == Machine.Plan) return uint8(_planStatus(id));
        if (machine == Machine.License) return uint8(_licenseStatus(id));
        if (machine == Machine.Batch) return uint8(_batchStatus(id));
        if (machine == Machine.Operator) return uint8(_operatorStatus(id));
        if (machine == Machine.Rotation) return uint8(_rotationStatus(id));
        if (machine == Machine.SigningKey) return uint8(_keyStatus(id / SIGNING_KEYS, id % SIGNING_KEYS));
        if (machine == Machine.Challenge) return uint8(_challengeStatus(id));
        return uint8(_bondStatus(id));
    }

    function _versionStatus(uint256 version) internal view returns (VersionStatus) {
        if (version > recalledAt.length) return VersionStatus.None;
        uint256 at = recalledAt[version - 1];
        if (at == 0) return VersionStatus.Usable;
        return clock < at + Model.NOTICE ? VersionStatus.Recalling : VersionStatus.Recalled;
    }

    function _planStatus(uint256 plan) internal view returns (PlanStatus) {
        if (sales[plan].closed) return PlanStatus.Closed;
        uint256 supply = plans[plan - 1].supply;
        return supply != 0 && sales[plan].sold == supply ? PlanStatus.SoldOut : PlanStatus.Open;
    }

    function _licenseStatus(uint256 id) internal view returns (LicenseStatus) {
        if (id > ledger.length) return LicenseStatus.None;
        License storage license = ledger[id - 1];
        bool owesEarlier = license.earlierPlan != 0 && _earlierMinimum(id) > 0;
        return Model.statusOf(license, plans[license.plan - 1], owesEarlier, clock);
    }

    function _batchStatus(uint256 i) internal view returns (BatchStatus) {
        Batch storage batch = batches[i];
        bool isReleasable = batch.status == BatchStatus.Held && clock >= batch.releasableAt;
        return isReleasable ? BatchStatus.Releasable : batch.status;
    }

    /// @dev Whether nothing can become of a batch or a charge any more.
    function _isPast(BatchStatus status) internal pure returns (bool) {
        return status == BatchStatus.Collected || status == BatchStatus.Refunded;
    }

    function _operatorStatus(uint256 operator) internal view returns (OperatorStatus) {
        Pool storage pool = pools[operator];
        if (clock < pool.jailedUntil) return OperatorStatus.Jailed;
        return StakeModel.held(pool) == 0 ? OperatorStatus.Unstaked : OperatorStatus.Active;
    }

    function _challengeStatus(uint256 number) internal view returns (ChallengeStatus) {
        return number > cases.length ? ChallengeStatus.None : cases[number - 1].status;
    }

    function _rotationStatus(uint256 number) internal view returns (RotationStatus) {
        if (number >= rotations.length) return RotationStatus.None;
        uint256 present = _presentRotation();
        if (number > present) return RotationStatus.Announced;
        if (number == present) return RotationStatus.Present;
        return _counts(number) ? RotationStatus.Former : RotationStatus.Past;
    }

    function _bondStatus(uint256 id) internal view returns (BondStatus) {
        Bond storage bond = bonds[id / 2][_bondHolder(id)];
        if (bond.weight == 0) return bond.isSlashed ? BondStatus.Slashed : BondStatus.None;
        if (bond.readyAt == 0) return BondStatus.Posted;
        return clock > bond.readyAt ? BondStatus.Thawed : BondStatus.Thawing;
    }

    function _bondHolder(uint256 id) private view returns (address) {
        return id % 2 == 0 ? attestorPayees[id / 2] : OUTSIDER;
    }

    function _requireEdge(Machine machine, uint8 from, uint8 to, Verb verb) private pure {
        if (from == to) return;
        bool isDrawn;
        if (machine == Machine.Version) isDrawn = _isVersionEdge(VersionStatus(from), VersionStatus(to), verb);
        if (machine == Machine.Plan) isDrawn = _isPlanEdge(PlanStatus(from), PlanStatus(to), verb);
        if (machine == Machine.License) isDrawn = _isLicenseEdge(LicenseStatus(from), LicenseStatus(to), verb);
        if (machine == Machine.Batch) isDrawn = _isBatchEdge(BatchStatus(from), BatchStatus(to), verb);
        if (machine == Machine.Operator) isDrawn = _isOperatorEdge(OperatorStatus(from), OperatorStatus(to), verb);
        if (machine == Machine.Rotation) isDrawn = _isRotationEdge(RotationStatus(from), RotationStatus(to), verb);
        if (machine == Machine.Bond) isDrawn = _isBondEdge(BondStatus(from), BondStatus(to), verb);
        if (machine == Machine.SigningKey) isDrawn = _isKeyEdge(KeyStatus(from), KeyStatus(to), verb);
        if (machine == Machine.Challenge) {
            isDrawn = _isChallengeEdge(ChallengeStatus(from), ChallengeStatus(to), verb);
        }
        require(isDrawn, "9: a status moved where docs/states.md has no arrow");
    }

    function _isVersionEdge(VersionStatus from, VersionStatus to, Verb verb) private pure returns (bool) {
        if (verb == Verb.Publish) return from == VersionStatus.None && to == VersionStatus.Usable;
        if (verb == Verb.Recall) return from == VersionStatus.Usable && to == VersionStatus.Recalling;
        if (verb == Verb.Time) return from == VersionStatus.Recalling && to == VersionStatus.Recalled;
        return false;
    }

    function _isPlanEdge(PlanStatus from, PlanStatus to, Verb verb) private pure returns (bool) {
        if (verb == Verb.CreatePlan) return from == PlanStatus.None && to == PlanStatus.Open;
        if (verb == Verb.Buy) return from == PlanStatus.Open && to == PlanStatus.SoldOut;
        if (verb == Verb.ClosePlan) return from != PlanStatus.None && to == PlanStatus.Closed;
        return false;
    }

    function _isLicenseEdge(LicenseStatus from, LicenseStatus to, Verb verb) private pure returns (bool) {
        bool isInUse = from == LicenseStatus.Running || from == LicenseStatus.Lapsed;
        bool isLocked = from == LicenseStatus.Locked || from == LicenseStatus.Movable;
        bool isOver = to == LicenseStatus.Ended || to == LicenseStatus.Closed;
        if (verb == Verb.Buy) return from == LicenseStatus.None && to == LicenseStatus.Running;
        if (verb == Verb.Lock) return isInUse && to == LicenseStatus.Locked;
        if (verb == Verb.Unlock)
            return isLocked && (isOver || to == LicenseStatus.Running || to == LicenseStatus.Lapsed);
        if (verb == Verb.Transfer) return from == LicenseStatus.Movable && to == LicenseStatus.Locked;
        if (verb == Verb.Renew) return from == LicenseStatus.Lapsed && to == LicenseStatus.Running;
        if (verb == Verb.SetRenewal) return from == LicenseStatus.Lapsed && isOver;
        if (verb == Verb.ChangePlan) return from == LicenseStatus.Lapsed && (isOver || to == LicenseStatus.Running);
        if (verb == Verb.End) {
            return
                (isInUse && to == LicenseStatus.Ended) || (from == LicenseStatus.Lapsed && to == LicenseStatus.Closed);
        }
        if (verb == Verb.CloseTerm) return from == LicenseStatus.Ended && to == LicenseStatus.Closed;
        if (verb != Verb.Time) return false;
        if (from == LicenseStatus.Running) return isOver || to == LicenseStatus.Lapsed;
        if (from == LicenseStatus.Locked) return to == LicenseStatus.Movable;
        return from == LicenseStatus.Ended && to == LicenseStatus.Closed;
    }

    function _isBatchEdge(BatchStatus from, BatchStatus to, Verb verb) private pure returns (bool) {
        if (verb == Verb.Settle) return from == BatchStatus.None && to == BatchStatus.Held;
        if (verb == Verb.Time) return from == BatchStatus.Held && to == BatchStatus.Releasable;
        if (verb == Verb.Release) return from == BatchStatus.Releasable && to == BatchStatus.Released;
        if (verb == Verb.ShareIncome) return from == BatchStatus.Released && to == BatchStatus.Collected;
        if (verb == Verb.RefundCharge) return from == BatchStatus.Frozen && to == BatchStatus.Refunded;
        bool isFree = from == BatchStatus.None || from == BatchStatus.Held;
        if (verb == Verb.ReportBreach) return isFree && to == BatchStatus.Refunded;
        if (verb == Verb.ProveCharge) return isFree && (to == BatchStatus.Held || to == BatchStatus.Releasable);
        if (verb == Verb.FreezeCharge) {
            return isFree && to == BatchStatus.Frozen;
        }
        if (verb == Verb.ReleaseCharge) {
            return from == BatchStatus.Frozen && (to == BatchStatus.Held || to == BatchStatus.Releasable);
        }
        return false;
    }

    function _isChallengeEdge(ChallengeStatus from, ChallengeStatus to, Verb verb) private pure returns (bool) {
        if (verb == Verb.Challenge) return from == ChallengeStatus.None && to == ChallengeStatus.Open;
        if (verb == Verb.Answer) return from == ChallengeStatus.Open && to == ChallengeStatus.Answered;
        if (verb == Verb.AnswerWithProof) {
            return from == ChallengeStatus.Open && (to == ChallengeStatus.Rejected || to == ChallengeStatus.Upheld);
        }
        if (verb == Verb.Escalate) return from == ChallengeStatus.Answered && to == ChallengeStatus.Escalated;
        if (verb == Verb.PayFee) return from == ChallengeStatus.Escalated && to == ChallengeStatus.Disputed;
        if (verb == Verb.Rule) return from == ChallengeStatus.Disputed && to >= ChallengeStatus.Upheld;
        if (verb != Verb.Close || from == ChallengeStatus.None || from >= ChallengeStatus.Upheld) return false;
        if (to == ChallengeStatus.Rejected) return from == ChallengeStatus.Answered;
        if (to == ChallengeStatus.Undecided) return from == ChallengeStatus.Disputed;
        return to == ChallengeStatus.Upheld;
    }

    function _isOperatorEdge(OperatorStatus from, OperatorStatus to, Verb verb) private pure returns (bool) {
        if (verb == Verb.AddStake) return from == OperatorStatus.Unstaked && to == OperatorStatus.Active;
        if (verb == Verb.Withdraw || verb == Verb.Slash) {
            return from == OperatorStatus.Active && to == OperatorStatus.Unstaked;
        }
        if (verb == Verb.Settle) return from == OperatorStatus.Active && to == OperatorStatus.Jailed;
        if (verb == Verb.Time) return from == OperatorStatus.Jailed;
        return false;
    }

    function _isRotationEdge(RotationStatus from, RotationStatus to, Verb verb) private pure returns (bool) {
        if (verb == Verb.Deploy) return from == RotationStatus.None && to == RotationStatus.Present;
        if (verb == Verb.Rotate) return from == RotationStatus.None && to == RotationStatus.Announced;
        // One after the other, and several while nobody looked.
        if (verb == Verb.Time) return from != RotationStatus.None && uint8(to) > uint8(from);
        return false;
    }

    function _isKeyEdge(KeyStatus from, KeyStatus to, Verb verb) private pure returns (bool) {
        if (verb == Verb.AddKey) return from == KeyStatus.None && to == KeyStatus.Active;
        if (verb == Verb.RevokeKey) return from != KeyStatus.None && to == KeyStatus.Revoked;
        return verb == Verb.Time && from == KeyStatus.Active && to == KeyStatus.Expired;
    }

    function _isBondEdge(BondStatus from, BondStatus to, Verb verb) private pure returns (bool) {
        bool isOnItsWay = from == BondStatus.Thawing || from == BondStatus.Thawed;
        if (verb == Verb.PostBond) return to == BondStatus.Posted && (from == BondStatus.None || isOnItsWay);
        if (verb == Verb.ThawBond) return from == BondStatus.Posted && to == BondStatus.Thawing;
        if (verb == Verb.WithdrawBond) return from == BondStatus.Thawed && to == BondStatus.None;
        if (verb == Verb.Report) return to == BondStatus.Slashed && (from == BondStatus.Posted || isOnItsWay);
        return verb == Verb.Time && from == BondStatus.Thawing && to == BondStatus.Thawed;
    }
}
