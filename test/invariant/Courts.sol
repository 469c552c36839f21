// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {BatchStatus, EntryStatus, IUsageEscrow} from "../../contracts/interfaces/IUsageEscrow.sol";
import {LicenseId, OperatorId, PlanId, VersionId} from "../../contracts/types/Ids.sol";
import {Count} from "./Ledger.sol";
import {Claim, License, Model} from "./Model.sol";
import {Settlers} from "./Settlers.sol";
import {Pool} from "./StakeModel.sol";
import {Machine, Verb} from "./Statuses.sol";

/// @title Charges in dispute: what whoever has the court's role may do with them, at random
abstract contract Courts is Settlers {
    /// @dev Of one entry.
    uint256 private constant OUTCOME = 16;

    /// @dev What a batch has charged to a license, as its outcomes say.
    struct Charged {
        bool isThere;
        uint256 amount;
        bytes32 id;
        /// What the escrow is shown, and whether it has to refuse that.
        bytes shown;
        bool isLie;
    }

    // What the court does

    /// @dev Mostly what a batch that is held has charged to one of its licenses; now and then what can't be frozen.
    function freezeCharge(uint256 seed) external attempt(seed) {
        uint256 i = _batchThat(_draw(12) == 0 ? BatchStatus(1 + _draw(6)) : BatchStatus.Held);
        if (i == batches.length) return _settle(_draft(false));
        _freezeCharge(_wholeOf(i), _anyEntry(i));
    }

    function refundCharge(uint256 seed) external attempt(seed) {
        uint256 i = _frozen();
        if (i < batches.length) _refundCharge(i);
    }

    /// @dev At once, later in its hold, or when that is over.
    function releaseCharge(uint256 seed) external attempt(seed) {
        uint256 i = _frozen();
        if (i < batches.length) _releaseCharge(i, _draw(2) == 0 ? clock : clock + _draw(40 days));
    }

    // What the acts above are made of

    function _freezeCharge(uint256 i, uint256 id) internal {
        Charged memory charged = _chargedTo(i, id);
        uint256 place = placeOf[charged.id];
        if (place > 0) _watch(Machine.Batch, place - 1);
        if (!_doFreeze(i, id, charged)) return;

        if (place == 0) place = _splitOff(i, id, charged);
        batches[place - 1].status = BatchStatus.Frozen;
        _see(Machine.Batch, place - 1, Verb.FreezeCharge);
        _requireBatch(batches[i]);
        _requireBatch(batches[place - 1]);
        _requireRecord(batches[i], batches[place - 1]);
        _requireCharged(batches[i], id, charged);
        _count(Count.Freezes);
    }

    function _doFreeze(uint256 i, uint256 id, Charged memory charged) private returns (bool) {
        Batch memory batch = batches[i];
        Refusals memory refusals = _freezeRefusals(batches[i], id, charged);
        bytes memory call = abi.encodeCall(escrow.freezeCharge, (batch.header, batch.entries, charged.shown, _id(id)));
        bytes memory result = _do(COURT, address(escrow), call, refusals, "9: a freeze of a charge");
        if (refusals.count > 0) return false;
        bytes memory due = abi.encode(charged.id, charged.amount);
        require(keccak256(result) == keccak256(due), "7: another charge was frozen");
        return true;
    }

    function _refundCharge(uint256 i) internal {
        Batch storage charge = batches[i];
        Refusals memory refusals = _frozenRefusals(charge);
        bytes memory call = abi.encodeCall(escrow.refundCharge, (charge.id));
        if (refusals.count > 0) {
            _do(COURT, address(escrow), call, refusals, "9: a refund");
            return;
        }
        _watch(Machine.Batch, i);
        bytes memory result = _doTo(charge.licenseId, Verb.Nothing, COURT, call, refusals, "9: a refund");
        require(abi.decode(result, (uint256)) == charge.charged, "7: a refund is of more or less than the charge");
        charge.status = BatchStatus.Refunded;
        _see(Machine.Batch, i, Verb.RefundCharge);
        _bookRefund(charge);
        _requireRefunded(charge);
    }

    function _bookRefund(Batch storage charge) private {
        uint256 id = charge.licenseId;
        uint256 plan = PlanId.unwrap(charge.header.planId);
        (License memory after_, uint256 toAsset) = Model.giveBack(
            ledger[id - 1],
            plans[plan - 1],
            _claimOf(charge),
            charge.charged,
            _recallsOf(plan)
        );
        ledger[id - 1] = after_;
        _revive(id);
        held -= charge.charged;
        balances += charge.charged - toAsset;
        flows.charged -= charge.charged;
        flows.closed += toAsset;
        uint256 fee = (toAsset * escrow.feeBps()) / 10_000;
        _earn(_assetOf(plan), toAsset - fee);
        _payFee(fee);
        Pool storage pool = pools[OperatorId.unwrap(charge.header.operatorId)];
        pool.inFlight -= charge.charged;
        pool.shortfall -= _min(pool.shortfall, charge.charged);
    }

    function _releaseCharge(uint256 i, uint256 releasableAt) internal {
        Batch storage charge = batches[i];
        Refusals memory refusals = _frozenRefusals(charge);
        bytes memory call = abi.encodeCall(escrow.releaseCharge, (charge.id, uint40(releasableAt)));
        _watch(Machine.Batch, i);
        _do(COURT, address(escrow), call, refusals, "9: an end of a freeze of a charge");
        if (refusals.count > 0) return;
        charge.status = BatchStatus.Held;
        charge.releasableAt = _min(charge.releasableAt, releasableAt);
        _see(Machine.Batch, i, Verb.ReleaseCharge);
        _requireBatch(charge);
    }

    /// @dev What a charge takes along from its batch.
    function _splitOff(uint256 i, uint256 id, Charged memory charged) private returns (uint256 place) {
        batches[i].charged -= charged.amount;
        Batch memory charge = batches[i];
        // As it was before: it is frozen only now.
        (charge.id, charge.licenseId, charge.charged) = (charged.id, id, charged.amount);
        batches.push(charge);
        place = batches.length;
        placeOf[charged.id] = place;
    }

    function _requireRecord(Batch storage batch, Batch storage charge) private view {
        IUsageEscrow.ChargeRecord memory record = escrow.chargeRecordOf(charge.id);
        require(
            record.batchId == batch.id &&
                LicenseId.unwrap(record.licenseId) == charge.licenseId &&
                VersionId.unwrap(record.versionId) == VersionId.unwrap(batch.header.versionId) &&
                record.epochStart == batch.header.epochStart &&
                record.epochEnd == batch.header.epochEnd,
            "7: a charge comes from elsewhere"
        );
    }

    function _requireCharged(Batch memory batch, uint256 id, Charged memory charged) private view {
        (bytes32 chargeId, uint256 amount, ) = escrow.chargeOf(batch.header, batch.entries, charged.shown, _id(id));
        require(chargeId == charged.id && amount == charged.amount, "7: a charge isn't what was charged");
    }

    function _requireRefunded(Batch storage charge) private {
        IUsageEscrow.Split memory split = escrow.splitOf(charge.id);
        require(
            split.operator + split.publisher + split.attestor + split.fee + split.bonus == 0,
            "7: what was refunded is divided"
        );
        _requireAccount(charge.licenseId);
        _requireBatch(charge);
        _requirePool(OperatorId.unwrap(charge.header.operatorId));
        _count(Count.Refunds);
    }

    /// @dev A license that was closed and empty has something again.
    function _revive(uint256 id) private {
        uint256 place = live.length;
        while (place > 0 && live[place - 1] >= id) --place;
        if (place < live.length && live[place] == id) return;
        live.push();
        // In their order, as entries of batches are.
        for (uint256 i = live.length - 1; i > place; --i) live[i] = live[i - 1];
        live[place] = id;
    }

    // What it is refused for

    function _freezeRefusals(
        Batch storage batch,
        uint256 id,
        Charged memory charged
    ) private view returns (Refusals memory refusals) {
        _unless(
            refusals,
            batch.status == BatchStatus.Held,
            abi.encodeWithSelector(IUsageEscrow.BatchNotHeld.selector, batch.id, batch.status)
        );
        _unless(
            refusals,
            clock < batch.releasableAt,
            abi.encodeWithSelector(IUsageEscrow.HoldOver.selector, batch.id, batch.releasableAt)
        );
        bytes memory mismatch = abi.encodeWithSelector(
            IUsageEscrow.OutcomesMismatch.selector,
            keccak256(""),
            keccak256(batch.outcomes)
        );
        _unless(refusals, !charged.isLie, mismatch);
        bytes memory unknown = abi.encodeWithSelector(IUsageEscrow.EntryUnknown.selector, batch.id, id);
        _unless(refusals, charged.isThere, unknown);
        bool isEmpty = charged.isThere && charged.amount == 0;
        _unless(refusals, !isEmpty, abi.encodeWithSelector(IUsageEscrow.ChargeEmpty.selector, charged.id));
        if (placeOf[charged.id] == 0) return refusals;
        Batch storage charge = batches[placeOf[charged.id] - 1];
        _unless(
            refusals,
            charge.status == BatchStatus.Held && clock < charge.releasableAt,
            abi.encodeWithSelector(IUsageEscrow.ChargeNotHeld.selector, charge.id, charge.status)
        );
    }

    function _frozenRefusals(Batch storage charge) private view returns (Refusals memory refusals) {
        _unless(
            refusals,
            charge.status == BatchStatus.Frozen,
            abi.encodeWithSelector(IUsageEscrow.ChargeNotFrozen.selector, charge.id, charge.status)
        );
    }

    // What there is

    /// @dev The place of a batch, by its own or that of what was split off it.
    function _wholeOf(uint256 i) private view returns (uint256) {
        return placeOf[escrow.batchIdOf(batches[i].header)] - 1;
    }

    /// @dev Mostly a license that a batch has charged.
    function _anyEntry(uint256 i) private returns (uint256 id) {
        if (batches[i].licenseId != 0 && _draw(2) == 0) return batches[i].licenseId;
        if (_draw(16) == 0) return _anyLicense();
        bytes memory outcomes = batches[i].outcomes;
        uint256 count = outcomes.length / OUTCOME;
        uint256 start = _draw(count);
        for (uint256 j; j < count; ++j) {
            uint256 word = _outcomeAt(outcomes, (start + j) % count);
            id = word >> 192;
            if (uint56(word >> 136) > 0 || _draw(8) == 0) return id;
        }
    }

    /// @dev A charge that is frozen, else one that is made to be; now and then another one, or a batch.
    function _frozen() private returns (uint256 i) {
        if (_draw(16) == 0) return _draw(batches.length);
        i = _batchThat(BatchStatus.Frozen);
        if (i < batches.length) return i;
        i = _batchThat(BatchStatus.Held);
        if (i == batches.length) {
            _settle(_draft(false));
            return batches.length;
        }
        _freezeCharge(_wholeOf(i), _anyEntry(i));
        return _batchThat(BatchStatus.Frozen);
    }

    /// @dev As the batch's outcomes say, of which now and then others are shown.
    function _chargedTo(uint256 i, uint256 id) private returns (Charged memory charged) {
        bytes memory outcomes = batches[i].outcomes;
        charged.id = keccak256(abi.encode(batches[i].id, uint64(id)));
        bool isPlain = true;
        for (uint256 j; j < outcomes.length / OUTCOME; ++j) {
            uint256 word = _outcomeAt(outcomes, j);
            if (uint8(word >> 128) != uint8(EntryStatus.Charged)) isPlain = false;
            if (word >> 192 == id) (charged.isThere, charged.amount) = (true, uint56(word >> 136));
        }
        charged.isLie = !isPlain && _draw(8) == 0;
        // Nobody reads them where each entry was charged its price.
        if (!isPlain && !charged.isLie) charged.shown = outcomes;
    }

    /// @dev The license, what was charged to it, and the status, from the highest bits down.
    function _outcomeAt(bytes memory outcomes, uint256 j) private pure returns (uint256 word) {
        uint256 at = 32 + OUTCOME * j;
        assembly ("memory-safe") {
            word := mload(add(outcomes, at))
        }
    }

    function _claimOf(Batch storage charge) private view returns (Claim memory) {
        return
            Claim({
                plan: PlanId.unwrap(charge.header.planId),
                operator: OperatorId.unwrap(charge.header.operatorId),
                epochStart: charge.header.epochStart,
                epochEnd: charge.header.epochEnd,
                discountBps: charge.discountBps
            });
    }
}
