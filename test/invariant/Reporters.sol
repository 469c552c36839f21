// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {IDisputeCourt, RequestProof} from "../../contracts/interfaces/IDisputeCourt.sol";
import {Breach, IReportCourt, PlacedReceipt} from "../../contracts/interfaces/IReportCourt.sol";
import {BatchHeader, BatchStatus, IUsageEscrow} from "../../contracts/interfaces/IUsageEscrow.sol";
import {InferenceProofs} from "../../contracts/libraries/InferenceProofs.sol";
import {TreeLeaf} from "../../contracts/libraries/ReceiptTree.sol";
import {SignedReceipts} from "../../contracts/libraries/SignedReceipts.sol";
import {LicenseId, OperatorId} from "../../contracts/types/Ids.sol";
import {Receipt, SignedReceipt, Usage as Meters} from "../../contracts/types/Receipt.sol";
import {SettledEntry} from "../../contracts/types/SettledEntry.sol";
import {Courts} from "./Courts.sol";
import {Count} from "./Ledger.sol";
import {Usage} from "./Model.sol";
import {Machine, Verb} from "./Statuses.sol";
import {Leaf, Trees} from "./Trees.sol";

/// @title Breaches that prove themselves, by whoever has found them; and operators that prove what they did ahead
abstract contract Reporters is Courts {
    uint256 private constant REPORT_TIME = 60 days;

    /// @dev A report: of which entry, what it says, and what has to come of it.
    struct Accusation {
        /// Of the batch among the batches.
        uint256 place;
        /// Of the batch in which the receipt stands as well, if it does.
        uint256 other;
        uint256 id;
        uint256 operator;
        Charged charged;
        SettledEntry entry;
        PlacedReceipt placed;
        Breach breach;
        bool isFound;
        bool isGuilty;
        bytes call;
        Refusals refusals;
    }

    /// @dev Mostly what there is to be found in a batch that is held, and sometimes what there isn't.
    function report(uint256 seed) external attempt(seed) {
        uint256 place = _toldBatch();
        if (place == batches.length) return _settle(_draft(false));
        Accusation memory accusation = _accuse(place);
        if (accusation.breach == Breach.Contradiction) _accuseOfContradiction(accusation);
        else if (accusation.breach == Breach.OutsideGrant) _accuseOfUseOutsideGrant(accusation);
        else if (accusation.breach == Breach.Repetition) _accuseOfRepetition(accusation);
        else if (accusation.breach == Breach.DeadKey) _accuseOfDeadKey(accusation);
        else _accuseOfWrongSum(accusation);
        _report(accusation);
    }

    /// @dev An entry of few requests under a version whose inference can be proven, by anybody.
    function proveAhead(uint256 seed) external attempt(seed) {
        uint256 place = _provableBatch();
        if (place == batches.length) return _settle(_draft(false));
        place = _wholeOf(place);
        uint256 id = _anyEntry(place);
        if (id > ledger.length) return _settle(_draft(false));
        if (_usageIn(batches[place].entries, id).requests > MOST_SHOWN) return _challenge(place, id);
        _proveAhead(place, id);
    }

    // Reports

    function _accuse(uint256 place) private returns (Accusation memory accusation) {
        Told memory told = tolds[batches[place].id];
        accusation.id = LicenseId.unwrap(told.receipt.licenseId);
        accusation.operator = OperatorId.unwrap(batches[place].header.operatorId);
        accusation.breach = _draw(4) == 0 ? Breach(_draw(5)) : _likelyBreach(told, accusation.operator);
        (accusation.place, accusation.other) = (place, place);
        if (accusation.breach == Breach.Repetition && told.formerId != 0) {
            accusation.isFound = true;
            accusation.other = placeOf[told.formerId] - 1;
            if (_draw(2) == 0) (accusation.place, accusation.other) = (accusation.other, place);
            place = accusation.place;
        }
        accusation.charged = _chargedTo(place, accusation.id);
        accusation.entry = _entryOf(place, accusation.id, accusation.charged);
        accusation.placed = _placed(place);
        bytes4 selector = IUsageEscrow.OutcomesMismatch.selector;
        bytes memory mismatch = abi.encodeWithSelector(selector, keccak256(""), keccak256(batches[place].outcomes));
        _unless(accusation.refusals, !accusation.charged.isLie, mismatch);
    }

    function _likelyBreach(Told memory told, uint256 operator) private view returns (Breach) {
        if (told.formerId != 0) return Breach.Repetition;
        if (told.moved > 0) return Breach.WrongSum;
        if (!_couldSign(operator, told.key, told.receipt.finishedAt)) return Breach.DeadKey;
        return _isOutside(told.receipt, told.grant) ? Breach.OutsideGrant : Breach.Contradiction;
    }

    /// @dev With another receipt: mostly of the same sequence or request; now and then of neither, or the same one.
    function _accuseOfContradiction(Accusation memory accusation) private {
        uint256 kind = _draw(8);
        Receipt memory other = _copyOf(accusation.placed.receipt);
        if (kind != 0) other.responseHash = bytes32(_draw(type(uint256).max));
        if (kind < 4 && kind != 0) other.requestId = bytes32(_draw(type(uint256).max));
        if (kind == 1 || kind > 5) other.sequence += 1_000_000;
        uint256 key = _keyFor(accusation.operator, other.finishedAt);
        _unlessKey(accusation.refusals, other, accusation.operator, key);
        _unlessSignedThen(accusation);
        (accusation.isFound, accusation.isGuilty) = (kind > 1, true);
        SignedReceipt memory signed = SignedReceipt(other, _signReceipt(other, key));
        accusation.call = abi.encodeCall(reports.reportContradiction, (accusation.entry, accusation.placed, signed));
    }

    function _accuseOfUseOutsideGrant(Accusation memory accusation) private view {
        Told memory told = tolds[batches[accusation.place].id];
        _unlessSignedThen(accusation);
        (accusation.isFound, accusation.isGuilty) = (_isOutside(told.receipt, told.grant), true);
        accusation.call = abi.encodeCall(reports.reportOutsideGrant, (accusation.entry, accusation.placed, told.grant));
    }

    /// @dev In both places the receipt is the same. Of two charges, one is wrong.
    function _accuseOfRepetition(Accusation memory accusation) private {
        uint256 other = accusation.other;
        bytes memory proposal;
        bytes memory otherProposal;
        bool isGuilty;
        (proposal, accusation.isGuilty) = _anyProposal(accusation.place);
        (otherProposal, isGuilty) = _anyProposal(other);
        accusation.isGuilty = accusation.isGuilty && isGuilty;
        bytes32 otherId = keccak256(abi.encode(batches[other].id, uint64(accusation.id)));
        bool isFree = otherId == accusation.charged.id || findings[otherId] == Finding.None;
        bytes4 selector = IReportCourt.ChargeReportedBefore.selector;
        _unless(accusation.refusals, isFree, abi.encodeWithSelector(selector, otherId));
        PlacedReceipt memory there = _placed(other);
        accusation.call = abi.encodeCall(
            reports.reportRepetition,
            (
                accusation.entry,
                accusation.placed,
                batches[other].header,
                there.index,
                there.siblings,
                proposal,
                otherProposal
            )
        );
    }

    function _accuseOfDeadKey(Accusation memory accusation) private {
        SigningKey memory key = signingKeys[accusation.operator][tolds[batches[accusation.place].id].key];
        uint256 time = accusation.placed.receipt.finishedAt;
        bool isRevoked = key.revokedAt != 0 && time >= key.revokedAt;
        accusation.isFound = time < key.addedAt || time >= key.expiresAt || isRevoked;
        bytes memory proposal;
        (proposal, accusation.isGuilty) = _anyProposal(accusation.place);
        accusation.call = abi.encodeCall(reports.reportDeadKey, (accusation.entry, accusation.placed, proposal));
    }

    /// @dev By the leaves on both sides of the license's one.
    function _accuseOfWrongSum(Accusation memory accusation) private {
        Told memory told = tolds[batches[accusation.place].id];
        accusation.isFound = told.moved > 0;
        bytes memory proposal;
        (proposal, accusation.isGuilty) = _anyProposal(accusation.place);
        TreeLeaf memory before;
        TreeLeaf memory behind;
        if (told.entry > 0) before = _leafAt(accusation.place, told.entry - 1);
        if (told.entry + 1 < batches[accusation.place].header.count) {
            behind = _leafAt(accusation.place, told.entry + 1);
        }
        accusation.call = abi.encodeCall(reports.reportWrongSum, (accusation.entry, before, behind, proposal));
    }

    /// @dev A breach of a charge is reported once; once more, if guilt wasn't shown before.
    function _report(Accusation memory accusation) private {
        bytes32 chargeId = accusation.charged.id;
        uint256 deadline = uint256(accusation.entry.header.epochEnd) + REPORT_TIME;
        bytes4 selector = IReportCourt.BreachNone.selector;
        bytes memory none = abi.encodeWithSelector(selector, chargeId, accusation.breach);
        _unless(accusation.refusals, accusation.isFound, none);
        selector = IReportCourt.ReportTooLate.selector;
        _unless(accusation.refusals, clock <= deadline, abi.encodeWithSelector(selector, chargeId, deadline));
        Finding before = findings[chargeId];
        bool isNew = before == Finding.None || (accusation.isGuilty && before == Finding.Refunded);
        selector = IReportCourt.ChargeReportedBefore.selector;
        _unless(accusation.refusals, isNew, abi.encodeWithSelector(selector, chargeId));

        address reporter = litigants[_draw(litigants.length)];
        if (placeOf[chargeId] > 0) _watch(Machine.Batch, placeOf[chargeId] - 1);
        _watch(Machine.Operator, accusation.operator);
        _watch(Machine.License, accusation.id);
        _do(reporter, address(reports), accusation.call, accusation.refusals, "6: a report");
        if (accusation.refusals.count > 0) return;
        findings[chargeId] = accusation.isGuilty ? Finding.Punished : Finding.Refunded;
        bool isRefunded = accusation.charged.amount > 0 && _refundReported(accusation);
        if (accusation.isGuilty) _punish(accusation, reporter);
        if (isRefunded) _requireRefunded(batches[placeOf[chargeId] - 1]);
        _see(Machine.Operator, accusation.operator, accusation.isGuilty ? Verb.Slash : Verb.Nothing);
        _see(Machine.License, accusation.id, Verb.Nothing);
        require(reports.isReported(chargeId), "6: a report is forgotten");
        _count(Count.Reports);
    }

    /// @dev At once, if nobody has challenged it and it is held.
    function _refundReported(Accusation memory accusation) private returns (bool) {
        uint256 place = placeOf[accusation.charged.id];
        BatchStatus status = _batchStatus(place == 0 ? accusation.place : place - 1);
        if (status != BatchStatus.Held) return false;
        if (place == 0) place = _splitOff(accusation.place, accusation.id, accusation.charged);
        --place;
        batches[place].status = BatchStatus.Refunded;
        _bookRefund(batches[place]);
        _see(Machine.Batch, place, Verb.ReportBreach);
        _requireRecord(batches[accusation.place], batches[place]);
        return true;
    }

    /// @dev A fifth of the charge for who owns the license, and a tenth, at least the least, for who reported: each out of the
    /// operator's own.
    function _punish(Accusation memory accusation, address reporter) private {
        address owner = ledger[accusation.id - 1].owner;
        uint256 reward = accusation.charged.amount / 10;
        _bookSlash(accusation.operator, accusation.charged.amount / 5, owner);
        _bookSlash(accusation.operator, reward < LEAST_PENALTY ? LEAST_PENALTY : reward, reporter);
        _requireSlashed(accusation.operator, owner);
        require(staking.proceedsOf(reporter) == proceeds[reporter], "6: a reporter's reward went elsewhere");
    }

    /// @dev The key that has signed the receipt could do so, and wasn't revoked before the epoch was over.
    function _unlessSignedThen(Accusation memory accusation) private view {
        Told memory told = tolds[batches[accusation.place].id];
        SigningKey memory key = signingKeys[accusation.operator][told.key];
        uint256 time = told.receipt.finishedAt;
        bool isInTime = key.addedAt <= time && time < key.expiresAt;
        bool isRevoked = key.revokedAt != 0 && key.revokedAt <= accusation.entry.header.epochEnd;
        address signer = _signerOf(accusation.operator, told.key);
        bytes4 selector = SignedReceipts.ReceiptNotSigned.selector;
        bytes memory refusal = abi.encodeWithSelector(selector, _receiptHash(told.receipt), signer);
        _unless(accusation.refusals, isInTime && !isRevoked, refusal);
    }

    /// @dev What the operator's settler has signed of a batch, and whether that counts; or nothing.
    function _anyProposal(uint256 place) private returns (bytes memory proposal, bool counts) {
        Batch storage batch = batches[place];
        uint256 operator = OperatorId.unwrap(batch.header.operatorId);
        uint256 key = _keyFor(operator, batch.header.epochEnd);
        if (_draw(4) == 0) return ("", false);
        proposal = _propose(batch.id, operator, key);
        counts = _couldSign(operator, key, batch.header.epochEnd) || _couldSign(operator, key, clock);
    }

    function _placed(uint256 place) private view returns (PlacedReceipt memory placed) {
        Told memory told = tolds[batches[place].id];
        Leaf[] memory leaves = _leavesOf(_usagesOf(batches[place].entries), told);
        (placed.receipt, placed.signature) = (told.receipt, told.signature);
        (placed.index, placed.siblings) = (uint64(told.entry), Trees.siblingsOf(leaves, told.entry));
    }

    function _leafAt(uint256 place, uint256 index) private view returns (TreeLeaf memory leaf) {
        Leaf[] memory leaves = _leavesOf(_usagesOf(batches[place].entries), tolds[batches[place].id]);
        Usage memory usage = leaves[index].usage;
        (leaf.signedHash, leaf.licenseId) = (leaves[index].signedHash, _id(usage.licenseId));
        leaf.usage = Meters(
            uint64(usage.requests),
            uint64(usage.inputTokens),
            uint64(usage.cachedInputTokens),
            uint64(usage.outputTokens),
            uint64(usage.computeMs)
        );
        (leaf.index, leaf.siblings) = (uint64(index), Trees.siblingsOf(leaves, index));
    }

    function _copyOf(Receipt memory receipt) private pure returns (Receipt memory) {
        return abi.decode(abi.encode(receipt), (Receipt));
    }

    // Proofs ahead

    function _proveAhead(uint256 place, uint256 id) private {
        Charged memory charged = _chargedTo(place, id);
        BatchHeader memory header = batches[place].header;
        uint256 operator = OperatorId.unwrap(header.operatorId);
        uint256 key = _keyFor(operator, header.epochEnd - 1);
        address owner = ledger[id - 1].owner;
        Usage memory usage = _usageIn(batches[place].entries, id);
        usage.licenseId = id;
        RequestProof[] memory requests = _requestsOf(header, usage, owner, key);
        Refusals memory refusals = _freezeRefusals(batches[place], id, charged);
        _unlessSigned(refusals, requests, owner, operator, key);
        bytes[] memory proofs = _proofsOf(place, requests, refusals);
        bytes4 selector = IReportCourt.ChargeProvenBefore.selector;
        _unless(refusals, !provenAhead[charged.id], abi.encodeWithSelector(selector, charged.id));
        bytes memory call = abi.encodeCall(reports.proveCharge, (_entryOf(place, id, charged), requests, proofs));
        if (placeOf[charged.id] > 0) _watch(Machine.Batch, placeOf[charged.id] - 1);
        _do(_anybody(), address(reports), call, refusals, "9: a proof ahead");
        if (refusals.count == 0) _bookProof(place, id, charged);
    }

    /// @dev Of each receipt's inference; now and then one too few, or a false one.
    function _proofsOf(
        uint256 place,
        RequestProof[] memory requests,
        Refusals memory refusals
    ) private returns (bytes[] memory proofs) {
        Batch storage batch = batches[place];
        bytes32 first = _receiptHash(requests[0].receipt);
        uint256 kind = _draw(16);
        proofs = new bytes[](kind == 0 ? requests.length - 1 : requests.length);
        for (uint256 i; i < proofs.length; ++i) {
            proofs[i] = _inferenceProof(batch.header.versionId, requests[i].receipt);
        }
        if (kind == 1) proofs[0] = abi.encode(first);
        bytes4 selector = IReportCourt.ProofsMismatch.selector;
        _unless(refusals, kind > 0, abi.encodeWithSelector(selector, requests.length, proofs.length));
        _unless(refusals, kind != 1, abi.encodeWithSelector(InferenceProofs.ProofInvalid.selector, first));
        bool isProvable = _isProvableCharge(batch);
        _unless(refusals, isProvable, abi.encodeWithSelector(InferenceProofs.VerifierNone.selector, first));
    }

    /// @dev A quarter of what was left of the hold is left.
    function _bookProof(uint256 place, uint256 id, Charged memory charged) private {
        uint256 at = placeOf[charged.id];
        if (at == 0) at = _splitOff(place, id, charged);
        --at;
        Batch storage charge = batches[at];
        charge.releasableAt = clock + (charge.releasableAt - clock) / 4;
        provenAhead[charged.id] = true;
        _see(Machine.Batch, at, Verb.ProveCharge);
        _requireBatch(batches[place]);
        _requireBatch(charge);
        _requireRecord(batches[place], charge);
        require(reports.isProven(charged.id), "9: a proof is forgotten");
        _count(Count.ProofsAhead);
    }

    // What there is

    /// @dev The place of a batch of which a receipt is known, mostly one that is held; or the number of batches, if there is none.
    function _toldBatch() private returns (uint256) {
        uint256 start = _draw(batches.length);
        bool isAny = _draw(8) == 0;
        bool isFlawed = _draw(3) != 0;
        for (uint256 i; i < batches.length; ++i) {
            uint256 place = (start + i) % batches.length;
            Told storage told = tolds[batches[place].id];
            if (batches[place].licenseId != 0 || !told.isThere) continue;
            if (isFlawed && told.formerId == 0 && told.moved == 0) continue;
            if (isAny || _batchStatus(place) == BatchStatus.Held) return place;
        }
        return batches.length;
    }

    /// @dev The place of a batch or charge that is held and can be proven, mostly.
    function _provableBatch() private returns (uint256) {
        uint256 start = _draw(batches.length);
        bool isAny = _draw(8) == 0;
        for (uint256 i; i < batches.length; ++i) {
            uint256 place = (start + i) % batches.length;
            if (_batchStatus(place) != BatchStatus.Held) continue;
            if (isAny || _isProvableCharge(batches[place])) return place;
        }
        return batches.length;
    }
}
