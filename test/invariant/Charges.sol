// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {BatchStatus, EntryStatus, IUsageEscrow} from "../../contracts/interfaces/IUsageEscrow.sol";
import {LicenseId, OperatorId, PlanId, VersionId} from "../../contracts/types/Ids.sol";
import {SettledEntry} from "../../contracts/types/SettledEntry.sol";
import {Count} from "./Ledger.sol";
import {Claim, License, Model, Usage} from "./Model.sol";
import {Settlers} from "./Settlers.sol";
import {Pool} from "./StakeModel.sol";

/// @title What batches have charged to single licenses: split off, frozen, refunded or let go
abstract contract Charges is Settlers {
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

    /// @dev What a charge takes along from its batch.
    function _splitOff(uint256 i, uint256 id, Charged memory charged) internal returns (uint256 place) {
        batches[i].charged -= charged.amount;
        Batch memory charge = batches[i];
        // As it was before: it is frozen only now.
        (charge.id, charge.licenseId, charge.charged) = (charged.id, id, charged.amount);
        batches.push(charge);
        place = batches.length;
        placeOf[charged.id] = place;
    }

    /// @dev Freezes what a batch has charged to a license, split off the batch.
    function _freezeCharge(uint256 i, uint256 id, Charged memory charged) internal returns (uint256 place) {
        place = placeOf[charged.id];
        if (place == 0) place = _splitOff(i, id, charged);
        --place;
        batches[place].status = BatchStatus.Frozen;
        frozen += charged.amount;
        _count(Count.Freezes);
    }

    function _bookRefund(Batch storage charge) internal {
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

    // What they are compared with

    function _requireFrozen(uint256 i, uint256 id, uint256 place, Charged memory charged) internal view {
        _requireBatch(batches[i]);
        _requireBatch(batches[place]);
        _requireRecord(batches[i], batches[place]);
        _requireCharged(batches[i], id, charged);
    }

    function _requireRecord(Batch storage batch, Batch storage charge) internal view {
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

    function _requireRefunded(Batch storage charge) internal {
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

    // What a freeze is refused for

    function _freezeRefusals(
        Batch storage batch,
        uint256 id,
        Charged memory charged
    ) internal view returns (Refusals memory refusals) {
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

    // What there is

    /// @dev The place of a batch, by its own or that of what was split off it.
    function _wholeOf(uint256 i) internal view returns (uint256) {
        return placeOf[escrow.batchIdOf(batches[i].header)] - 1;
    }

    /// @dev The place of a batch, or of a charge, that is held and has charged something, from a random one on.
    function _batchWorth() internal returns (uint256) {
        uint256 start = _draw(batches.length);
        for (uint256 i; i < batches.length; ++i) {
            uint256 place = (start + i) % batches.length;
            if (batches[place].charged > 0 && _batchStatus(place) == BatchStatus.Held) return place;
        }
        return batches.length;
    }

    /// @dev Mostly a license that a batch has charged, and that nobody has disputed.
    function _anyEntry(uint256 i) internal returns (uint256 id) {
        if (_draw(16) == 0) return _anyLicense();
        bytes memory outcomes = batches[i].outcomes;
        uint256 count = outcomes.length / OUTCOME;
        uint256 start = _draw(count);
        for (uint256 j; j < count; ++j) {
            uint256 word = _outcomeAt(outcomes, (start + j) % count);
            id = word >> 192;
            uint256 place = placeOf[keccak256(abi.encode(batches[i].id, uint64(id)))];
            bool isFree = place == 0 || batches[place - 1].status == BatchStatus.Held;
            if (isFree && (uint56(word >> 136) > 0 || _draw(16) == 0)) return id;
        }
    }

    /// @dev What a batch's entries say of a license; nothing, if it has none.
    function _usageIn(bytes memory entries, uint256 id) internal pure returns (Usage memory usage) {
        Usage[] memory usages = _usagesOf(entries);
        for (uint256 i; i < usages.length; ++i) {
            if (usages[i].licenseId == id) return usages[i];
        }
    }

    function _entryOf(uint256 i, uint256 id, Charged memory charged) internal view returns (SettledEntry memory entry) {
        (entry.header, entry.entries) = (batches[i].header, batches[i].entries);
        (entry.outcomes, entry.licenseId) = (charged.shown, _id(id));
    }

    /// @dev As the batch's outcomes say, of which now and then others are shown.
    function _chargedTo(uint256 i, uint256 id) internal returns (Charged memory charged) {
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

    function _isProvableCharge(Batch storage charge) internal view returns (bool) {
        uint256 versionId = VersionId.unwrap(charge.header.versionId);
        return _isProvable(versionId >> 32, uint32(versionId));
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
