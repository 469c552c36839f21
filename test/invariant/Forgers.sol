// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {ILicenseRegistry, PlanTerms} from "../../contracts/interfaces/ILicenseRegistry.sol";
import {VersionStatus} from "../../contracts/interfaces/IAssetRegistry.sol";
import {BatchHeader, IUsageEscrow} from "../../contracts/interfaces/IUsageEscrow.sol";
import {AttestorThatAlwaysVouches} from "../../contracts/mocks/AttestorThatAlwaysVouches.sol";
import {OperatorId, PlanId, VersionId} from "../../contracts/types/Ids.sol";
import {Governors} from "./Governors.sol";
import {License, Usage} from "./Model.sol";
import {Machine, Verb} from "./Statuses.sol";

/// @title Batches that mustn't settle, and batches that mustn't charge
abstract contract Forgers is Governors {
    AttestorThatAlwaysVouches private immutable YES = new AttestorThatAlwaysVouches();

    /// @dev A batch that settled, as it was.
    function replay(uint256 seed) external attack(seed) {
        if (batches.length == 0) return;
        Batch memory batch = batches[_draw(batches.length)];
        bytes32 id = escrow.batchIdOf(batch.header);
        bytes memory refusal = abi.encodeWithSelector(IUsageEscrow.BatchSettledBefore.selector, id);
        _mustRefuseBatch(batch.header, batch.entries, batch.proof, refusal, "3: a batch settled twice");
    }

    /// @dev The last batch of a lane with the next number, signed again.
    function replayRenumbered(uint256 seed) external attack(seed) {
        if (batches.length == 0) return;
        Batch memory batch = _lastBatch();
        Draft memory draft;
        draft.header = batch.header;
        draft.header.sequence += 1;
        draft.entries = batch.entries;
        (uint256 first, uint256 last) = (_idAt(batch.entries, 0), _idAt(batch.entries, batch.entries.length - 28));
        bytes memory refusal = abi.encodeWithSelector(IUsageEscrow.EntriesOutOfOrder.selector, first, last);
        if (clock > draft.header.epochEnd + WINDOW) refusal = _windowClosed(draft.header.epochEnd);
        draft.id = escrow.batchIdOf(draft.header);
        bytes memory proof = _proof(draft.id, _quorum(PlanId.unwrap(draft.header.planId)));
        _mustRefuseBatch(draft.header, draft.entries, proof, refusal, "3: an epoch settled twice");
    }

    /// @dev Signatures of attestors who don't make a committee, another batch's, another chain's, one twice, or none.
    function forge(uint256 seed) external attack(seed) {
        Draft memory draft = _draft(false);
        uint256 plan = PlanId.unwrap(draft.header.planId);
        uint256 kind = _draw(6);
        if (kind < 2) {
            draft.signers = _impostors(plan);
            draft.proof = _proof(draft.id, draft.signers);
        }
        if (kind == 2) draft.proof = _proof(_onAnotherChain(draft.header), draft.signers);
        if (kind == 3) draft.proof = "";
        if (kind == 4)
            draft.proof = _twice(draft.id, _isLone(plan) ? LONE : 1 << rotations[_presentRotation()].seats[0].attestor);
        if (kind == 5) {
            if (batches.length == 0) return;
            draft.proof = batches[_draw(batches.length)].proof;
        }
        _mustRefuseVouching(draft, "10: a forged proof was taken");
    }

    /// @dev A batch that its attestors signed although it is out of time or out of turn.
    function settleOutOfTurn(uint256 seed) external attack(seed) {
        Draft memory draft = _draft(false);
        BatchHeader memory header = draft.header;
        bytes memory refusal;
        uint256 kind = _draw(6);
        if (kind == 0) {
            _pass(header.epochEnd + WINDOW + 1 - clock);
            refusal = _windowClosed(header.epochEnd);
        } else if (kind == 1) {
            (header.epochStart, header.epochEnd) = (uint40(clock), uint40(clock + 1));
            refusal = abi.encodeWithSelector(IUsageEscrow.EpochNotEnded.selector, clock + 1, clock);
        } else if (kind == 2) {
            header.epochStart = uint40(header.epochEnd - (_draw(2) == 0 ? 0 : EPOCH + 1));
            bytes4 selector = IUsageEscrow.EpochInvalid.selector;
            refusal = abi.encodeWithSelector(selector, header.epochStart, header.epochEnd, EPOCH);
        } else if (kind == 3) {
            uint64 last = _laneOf(header).sequence;
            header.sequence = _draw(2) == 0 ? last : uint64(_draw(uint256(last) + 1));
            bytes4 selector = IUsageEscrow.BatchOutOfSequence.selector;
            refusal = abi.encodeWithSelector(selector, header.sequence, last);
        } else if (kind == 4) {
            uint40 last = _laneOf(header).epochEnd;
            if (last == 0 || clock > last + WINDOW || header.epochEnd > last - 1 + EPOCH) return;
            header.epochStart = last - 1;
            refusal = abi.encodeWithSelector(IUsageEscrow.EpochOverlaps.selector, last - 1, last);
        } else {
            uint256 asset = _assetOf(PlanId.unwrap(header.planId));
            header.versionId = VersionId.wrap(uint64(_draw(2) == 0 ? ((asset + 1) << 32) | 1 : (asset << 32) | 99));
            header.sequence = 1;
            refusal =
                VersionId.unwrap(header.versionId) >> 32 != asset
                    ? abi.encodeWithSelector(IUsageEscrow.VersionNotOfModel.selector, header.versionId, asset)
                    : abi.encodeWithSelector(
                        IUsageEscrow.VersionNotUsable.selector,
                        header.versionId,
                        0,
                        header.epochEnd
                    );
        }
        _seal(draft);
        _mustRefuseBatch(header, draft.entries, draft.proof, refusal, "3: a batch out of time or turn settled");
    }

    /// @dev Entries that aren't what was signed, or that attestors signed although they don't add up.
    function settleTampered(uint256 seed) external attack(seed) {
        Draft memory draft = _soundDraft();
        if (draft.usages.length == 0) return;
        BatchHeader memory header = draft.header;
        bytes memory refusal;
        uint256 kind = _draw(5);
        if (kind == 0) {
            draft.entries[draft.entries.length - 1] ^= 0x01;
            bytes4 selector = IUsageEscrow.EntriesMismatch.selector;
            refusal = abi.encodeWithSelector(selector, keccak256(draft.entries), header.entriesHash);
        } else if (kind == 1) {
            uint256 meter = _draw(5);
            if (meter == 0) ++header.requests;
            if (meter == 1) ++header.inputTokens;
            if (meter == 2) ++header.cachedInputTokens;
            if (meter == 3) ++header.outputTokens;
            if (meter == 4) ++header.computeMs;
            refusal = abi.encodeWithSelector(IUsageEscrow.TotalsMismatch.selector);
            _sign(draft);
        } else if (kind == 2) {
            Usage memory first = draft.usages[0];
            draft.usages = new Usage[](2);
            (draft.usages[0], draft.usages[1]) = (first, first);
            _seal(draft);
            bytes4 selector = IUsageEscrow.EntriesOutOfOrder.selector;
            refusal = abi.encodeWithSelector(selector, first.licenseId, first.licenseId);
        } else if (kind == 3) {
            draft.entries = _draw(2) == 0 ? bytes("") : abi.encodePacked(draft.entries, uint8(0));
            bytes4 selector = IUsageEscrow.EntriesMalformed.selector;
            refusal = abi.encodeWithSelector(selector, draft.entries.length);
            _sign(draft);
        } else {
            (header.count, header.availabilityBps) = _draw(2) == 0 ? (0, 10_000) : (1, 10_001);
            bytes4 selector = IUsageEscrow.SummaryInvalid.selector;
            refusal = abi.encodeWithSelector(selector, header.count, header.availabilityBps);
            _sign(draft);
        }
        _mustRefuseBatch(header, draft.entries, draft.proof, refusal, "2: a batch that doesn't add up settled");
    }

    /// @dev A voucher that no key of the license's has signed for this operator, here: its signature is another operator's,
    /// another chain's or another deployment's, or not the key's at all.
    function forgeVoucher(uint256 seed) external attack(seed) {
        uint256 id = _licenseThat(_isOnVoucherRoad);
        Voucher memory voucher = _voucher(id, ledger[id - 1].operator, ledger[id - 1].plan);
        uint256 kind = _draw(4);
        (uint256 chainId, address verifier) = (block.chainid, address(escrow));
        if (kind == 0) voucher.operator = 3 - voucher.operator;
        if (kind == 1) ++chainId;
        if (kind == 2) verifier = address(licenses);
        bytes32 digest = _voucherDigest(voucher, chainId, verifier);
        voucher.packed = _sign(voucher, kind == 3 ? keccak256(abi.encode(digest)) : digest);
        if (kind == 0) voucher.operator = 3 - voucher.operator;
        // As good as one by a key that nobody registered.
        voucher.key = KEYS;
        Voucher[] memory forged = new Voucher[](1);
        forged[0] = voucher;
        uint256 before = ledger[id - 1].balance;
        _settleVouchers(forged);
        require(ledger[id - 1].balance == before, "10: a forged voucher charged a license");
    }

    /// @dev Vouchers that aren't whole, of no scheme, or out of order: refused, all of them.
    function settleMalformedVouchers(uint256 seed) external attack(seed) {
        uint256 id = _licenseThat(_isOnVoucherRoad);
        (uint256 operator, uint256 plan) = (ledger[id - 1].operator, ledger[id - 1].plan);
        Voucher memory voucher = _voucher(id, operator, plan);
        bytes memory packed = abi.encodePacked(voucher.packed);
        uint256 kind = _draw(4);
        if (kind == 0) packed = "";
        if (kind == 1) packed = abi.encodePacked(packed, uint8(0));
        if (kind == 2) packed[0] = bytes1(uint8(2 + _draw(254)));
        bytes memory refusal = abi.encodeWithSelector(IUsageEscrow.VouchersMalformed.selector, packed.length);
        if (kind == 3) {
            Voucher memory later = _voucher(id, operator, plan);
            later.licenseId = id + 1;
            packed = abi.encodePacked(_sign(later, bytes32(0)), packed);
            refusal = abi.encodeWithSelector(IUsageEscrow.VouchersOutOfOrder.selector, id, id + 1);
        }
        bytes memory call = abi.encodeCall(
            escrow.settleVouchers,
            (_operatorId(operator), PlanId.wrap(uint32(plan)), packed)
        );
        _mustRefuse(operatorOwners[operator - 1], address(escrow), call, refusal, "3: vouchers out of shape settled");
    }

    /// @dev Licensees that lower their caps once they were served: what they used under the higher ones is charged in full,
    /// as late as it may be. Half of the time the epoch begins with the lowering, and is as long as an epoch can be.
    function shedBill(uint256 seed) external attack(seed) {
        Draft memory draft = _draft(false);
        BatchHeader memory header = draft.header;
        if (_draw(2) == 0) (header.epochStart, header.epochEnd) = (uint40(clock), uint40(clock + EPOCH));
        // 12 USD: more than the lowest cap.
        draft.usages[0].outputTokens = 4_000_000;
        _seal(draft);
        uint256 due = _forecast(draft).charged;
        for (uint256 i; i < draft.usages.length; ++i) {
            uint256 id = draft.usages[i].licenseId;
            if (id <= ledger.length && ledger[id - 1].capCode != 1) _setCap(id, 1);
        }

        _pass(header.epochEnd + WINDOW - clock);
        for (uint256 i; i < draft.usages.length; ++i) {
            uint256 id = draft.usages[i].licenseId;
            if (id > ledger.length || ledger[id - 1].capCutCode == 0) continue;
            _applyCapCut(id);
            require(ledger[id - 1].capCutCode > 0, "2: a lower cap was in force before what was used could settle");
        }
        uint256 count = batches.length;
        _settle(draft);
        // Its operator may lack the stake for it.
        if (batches.length == count) return;
        require(batches[count].charged == due, "2: a licensee shed what it had used by lowering its cap");
    }

    /// @dev The model's owner at an operator that doesn't serve its new plan: nobody can buy it there, and its batches take
    /// none of the operator's headroom, whatever its attestor vouches for; nor do three days of bad service cost a stake
    /// anything that nobody was charged for.
    function trap(uint256 seed) external attack(seed) {
        address owner = assets.ownerOf(MODEL);
        if (trapPlan == 0) _layTrap(owner);
        PlanId plan = PlanId.wrap(uint32(trapPlan));
        uint256 operator = _anyOperator();
        OperatorId operatorId = OperatorId.wrap(uint24(operator));
        bytes memory refusal = abi.encodeWithSelector(IUsageEscrow.PlanNotServed.selector, operator, trapPlan);
        bytes memory purchase = abi.encodeCall(escrow.buy, (_purchase(plan, operator, owner, 0, USD)));
        _mustRefuse(owner, address(escrow), purchase, refusal, "5: an operator got a licensee that it doesn't serve");

        uint256 version = _anyVersion(1);
        if (_versionStatus(version) != VersionStatus.Usable) return;
        bytes32 before = _money();
        Usage memory usage = Usage(_anyLicense(), 0, type(uint32).max, 0, 0, 0);
        for (uint256 i; i < 3; ++i) {
            uint256 start = clock - WINDOW - EPOCH + i * EPOCH;
            (BatchHeader memory header, bytes memory entries) = _batchOf(plan, usage, start, start + EPOCH);
            (header.operatorId, header.versionId, header.availabilityBps) = (operatorId, _versionId(MODEL, version), 0);
            IUsageEscrow.Lane memory lane = escrow.laneOf(operatorId, plan, header.versionId);
            header.sequence = lane.sequence + 1;
            if (start < lane.epochEnd) continue;
            _act(owner, address(escrow), abi.encodeCall(escrow.settle, (header, entries, "")));
            // What vested since is counted, where less than what is in flight was active.
            _putInFlight(operator, 0);
        }
        require(_money() == before, "5: a plan that nobody serves moved money, took headroom or jailed an operator");
    }

    function _layTrap(address owner) private {
        PlanTerms memory terms = plans[_draw(3)];
        terms.attestor = YES;
        (terms.holdPeriod, terms.cap) = (30 days, 0);
        _act(owner, address(licenses), abi.encodeCall(licenses.createPlan, (terms)));
        plans.push(terms);
        trapPlan = plans.length;
        _see(Machine.Plan, trapPlan, Verb.CreatePlan);
    }

    /// @dev The operator that a license has left, right after the change was put in force. Until then it may charge.
    function clingOn(uint256 seed) external attack(seed) {
        uint256 id = _licenseThat(_isInUse);
        License storage license = ledger[id - 1];
        (uint256 old, uint256 next) = (license.operator, 3 - license.operator);
        _changeService(id, next, false);
        if (license.nextOperator != next) return;
        _pass(WAIT);
        _chargeOne(id, old, clock - WINDOW - EPOCH, clock - WINDOW, 10_000);
        _pass(1);
        _applyServiceChange(id);
        if (license.operator != next) return;
        uint256 before = license.balance;
        _chargeOne(id, old, clock - _draw(EPOCH) - 1, clock, 10_000);
        require(license.balance == before, "2: an operator charged a license that had left it");
    }

    /// @dev Use that starts when a license is locked or ended, or a second before: that is the last to be charged.
    function overstay(uint256 seed) external attack(seed) {
        uint256 id = _licenseThat(_isLockable);
        License storage license = ledger[id - 1];
        if (_draw(8) == 0) {
            _end(id);
        } else {
            if (license.thawing > 0) _thaw(id, 0);
            _lock(id);
        }
        if (license.stoppedAt == 0 || clock > license.stoppedAt + EPOCH / 2) return;
        if (clock <= license.stoppedAt) _pass(license.stoppedAt + 1 + _draw(6 hours) - clock);
        bool isLate = _draw(3) != 0;
        uint256 start = isLate ? license.stoppedAt : license.stoppedAt - 1;
        uint256 before = license.balance;
        _chargeOne(id, license.operator, start, clock, 10_000);
        require(!isLate || license.balance == before, "2: a license was charged for use after a lock or an end");
        if (!license.ended) _unlock(id);
    }

    function _mustRefuseBatch(
        BatchHeader memory header,
        bytes memory entries,
        bytes memory proof,
        bytes memory refusal,
        string memory rule
    ) private {
        bytes memory call = abi.encodeCall(escrow.settle, (header, entries, proof));
        _mustRefuse(_anybody(), address(escrow), call, refusal, rule);
    }

    /// @dev A draft must be refused for who signed it, unless it had to be refused before anybody looked.
    function _mustRefuseVouching(Draft memory draft, string memory rule) private {
        bytes memory refusal = abi.encodeWithSelector(
            IUsageEscrow.BatchNotVouchedFor.selector,
            draft.id,
            plans[PlanId.unwrap(draft.header.planId) - 1].attestor
        );
        uint256 usableUntil = _usableUntil(draft.header.versionId);
        if (draft.header.epochEnd > usableUntil) refusal = _notUsable(draft.header, usableUntil);
        _mustRefuseBatch(draft.header, draft.entries, draft.proof, refusal, rule);
    }

    function _notUsable(BatchHeader memory header, uint256 usableUntil) private pure returns (bytes memory) {
        bytes4 selector = IUsageEscrow.VersionNotUsable.selector;
        return abi.encodeWithSelector(selector, header.versionId, usableUntil, header.epochEnd);
    }

    /// @dev Attestors who make up no committee that may vouch under a plan.
    function _impostors(uint256 plan) private returns (uint256 signers) {
        for (signers = 1 + _draw(2 ** ATTESTORS - 1); _noteOf(plan, signers) != 0;)
            signers = 1 + _draw(2 ** ATTESTORS - 1);
    }

    /// @dev A batch of the committee in force, of a version that may be used; else an empty one.
    function _soundDraft() private returns (Draft memory draft) {
        draft = _draft(false);
        uint256 plan = PlanId.unwrap(draft.header.planId);
        if (draft.header.epochEnd > _usableUntil(draft.header.versionId)) delete draft.usages;
        draft.signers = _isLone(plan) ? LONE : _quorumOf(_presentRotation());
        if (_noteOf(plan, draft.signers) == 0) delete draft.usages;
        _seal(draft);
    }

    /// @dev Signs what the entries were made into.
    function _sign(Draft memory draft) private view {
        draft.header.entriesHash = keccak256(draft.entries);
        draft.id = escrow.batchIdOf(draft.header);
        draft.proof = _proof(draft.id, draft.signers);
    }

    /// @dev One attestor's signature in the place of two.
    function _twice(bytes32 digest, uint256 mask) private view returns (bytes memory) {
        (bytes[] memory signers, bytes[] memory signatures) = abi.decode(_proof(digest, mask), (bytes[], bytes[]));
        bytes[] memory twoSigners = new bytes[](2);
        bytes[] memory twoSignatures = new bytes[](2);
        (twoSigners[0], twoSigners[1]) = (signers[0], signers[0]);
        (twoSignatures[0], twoSignatures[1]) = (signatures[0], signatures[0]);
        return abi.encode(twoSigners, twoSignatures);
    }

    /// @dev The digest that the same batch has in the same contract on another chain.
    function _onAnotherChain(BatchHeader memory header) private view returns (bytes32) {
        bytes32 typehash = keccak256(
            "Batch(uint24 operatorId,uint32 planId,uint64 versionId,uint64 sequence,uint40 epochStart,uint40 epochEnd,bytes32 root,uint64 count,uint64 requests,uint64 inputTokens,uint64 cachedInputTokens,uint64 outputTokens,uint64 computeMs,uint16 availabilityBps,uint32 p95TtftMs,uint32 samples,bytes32 entriesHash,bytes32 evidenceHash)"
        );
        bytes32 structHash = keccak256(abi.encode(typehash, header));
        bytes32 here = _escrowDigest(structHash, block.chainid, address(escrow));
        require(here == escrow.batchIdOf(header), "10: a batch's digest isn't what EIP-712 says");
        return _escrowDigest(structHash, block.chainid + 1, address(escrow));
    }

    function _windowClosed(uint256 epochEnd) private view returns (bytes memory) {
        return abi.encodeWithSelector(IUsageEscrow.WindowClosed.selector, epochEnd + WINDOW, clock);
    }

    function _laneOf(BatchHeader memory header) private view returns (Lane memory) {
        uint256 version = uint32(VersionId.unwrap(header.versionId));
        return lanes[_laneKey(OperatorId.unwrap(header.operatorId), PlanId.unwrap(header.planId), version)];
    }

    function _idAt(bytes memory entries, uint256 offset) private pure returns (uint256 id) {
        for (uint256 i; i < 8; ++i) id = (id << 8) | uint8(entries[offset + i]);
    }
}
