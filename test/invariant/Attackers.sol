// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {IAccessManaged} from "@openzeppelin/contracts/access/manager/IAccessManaged.sol";
import {IAccessManager} from "@openzeppelin/contracts/access/manager/IAccessManager.sol";
import {ICommitteeAttestor} from "../../contracts/interfaces/ICommitteeAttestor.sol";
import {ILicenseRegistry, PlanTerms} from "../../contracts/interfaces/ILicenseRegistry.sol";
import {IPerformanceStaking} from "../../contracts/interfaces/IPerformanceStaking.sol";
import {BatchHeader, BatchStatus, IUsageEscrow} from "../../contracts/interfaces/IUsageEscrow.sol";
import {AttestorThatAlwaysVouches} from "../../contracts/mocks/AttestorThatAlwaysVouches.sol";
import {OperatorId, PlanId, VersionId} from "../../contracts/types/Ids.sol";
import {Actors} from "./Actors.sol";
import {Usage} from "./Model.sol";
import {VM} from "./Vm.sol";

/// @title Everybody doing what they may not
/// @dev Each attack must be refused, and for the reason that the rule gives: being refused by luck doesn't count.
abstract contract Attackers is Actors {
    AttestorThatAlwaysVouches private immutable YES = new AttestorThatAlwaysVouches();

    /// @dev A batch that settled, as it was.
    function replay(uint256 seed) external attack(seed) {
        if (batches.length == 0) return;
        Batch memory batch = batches[_draw(batches.length)];
        bytes memory refusal = abi.encodeWithSelector(IUsageEscrow.BatchSettledBefore.selector, batch.id);
        _mustRefuseBatch(batch.header, batch.entries, batch.proof, refusal, "3: a batch settled twice");
    }

    /// @dev The last batch of a lane with the next number, signed again.
    function replayRenumbered(uint256 seed) external attack(seed) {
        if (batches.length == 0) return;
        Batch memory batch = batches[batches.length - 1];
        Draft memory draft;
        draft.header = batch.header;
        draft.header.sequence += 1;
        draft.entries = batch.entries;
        (uint256 first, uint256 last) = (_idAt(batch.entries, 0), _idAt(batch.entries, batch.entries.length - 28));
        bytes memory refusal = abi.encodeWithSelector(IUsageEscrow.EntriesOutOfOrder.selector, first, last);
        if (clock > draft.header.epochEnd + WINDOW) refusal = _windowClosed(draft.header.epochEnd);
        draft.id = escrow.batchIdOf(draft.header);
        _mustRefuseBatch(draft.header, draft.entries, _proof(draft.id, 15), refusal, "3: an epoch settled twice");
    }

    /// @dev Too few signatures, another committee's, another batch's, another chain's, or none.
    function forge(uint256 seed) external attack(seed) {
        Draft memory draft = _draft(false);
        bool isLone = PlanId.unwrap(draft.header.planId) == 3;
        uint256 kind = _draw(6);
        if (kind == 0) draft.proof = _proof(draft.id, isLone ? 7 : 8);
        if (kind == 1) draft.proof = _proof(draft.id, isLone ? 1 : 4);
        if (kind == 2) draft.proof = _proof(_onAnotherChain(draft.header), isLone ? 8 : 7);
        if (kind == 3) draft.proof = "";
        if (kind == 4) draft.proof = _twice(draft.id, isLone ? 7 : 1);
        if (kind == 5) {
            if (batches.length == 0) return;
            draft.proof = batches[_draw(batches.length)].proof;
        }
        address attestor = address(isLone ? lone : committee);
        bytes4 selector = IUsageEscrow.BatchNotVouchedFor.selector;
        bytes memory refusal = abi.encodeWithSelector(selector, draft.id, attestor);
        _mustRefuseBatch(draft.header, draft.entries, draft.proof, refusal, "10: a forged proof was taken");
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
            header.versionId = VersionId.wrap(_draw(2) == 0 ? (2 << 32) | 1 : (1 << 32) | 3);
            header.sequence = 1;
            refusal =
                uint64(VersionId.unwrap(header.versionId)) >> 32 == 2
                    ? abi.encodeWithSelector(IUsageEscrow.VersionNotOfModel.selector, header.versionId, 1)
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
        Draft memory draft = _draft(false);
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
            uint256 readyAt = ledger[id - 1].capCutReadyAt;
            _applyCapCutTooEarly(id, abi.encodeWithSelector(IUsageEscrow.CapCutRunning.selector, id, readyAt));
        }
        uint256 count = batches.length;
        _settle(draft);
        // Its operator may lack the stake for it.
        if (batches.length == count) return;
        require(batches[count].charged == due, "2: a licensee shed what it had used by lowering its cap");
    }

    /// @dev The model's owner at an operator that doesn't serve its new plan: nobody can buy it there, and its batches take
    /// none of the operator's headroom, whatever its attestor vouches for.
    function trap(uint256 seed) external attack(seed) {
        PlanTerms memory terms = plans[_draw(PLANS)];
        terms.attestor = YES;
        (terms.holdPeriod, terms.cap) = (30 days, 0);
        address owner = assets.ownerOf(1);
        VM.prank(owner);
        PlanId plan = licenses.createPlan(terms);
        bytes memory refusal = abi.encodeWithSelector(IUsageEscrow.PlanNotServed.selector, 1, plan);
        if (clock < escrow.pausedUntil()) refusal = _pauseRefusal();
        bytes memory purchase = abi.encodeCall(escrow.buy, (plan, OperatorId.wrap(1), owner, 0, uint64(USD)));
        _mustRefuse(owner, address(escrow), purchase, refusal, "5: an operator got a licensee that it doesn't serve");

        _pass(1 hours);
        bytes32 before = _money();
        (BatchHeader memory header, bytes memory entries) = _batchOf(
            plan,
            Usage(_anyLicense(), 0, type(uint32).max, 0, 0, 0),
            clock - 1 hours,
            clock
        );
        VM.prank(owner);
        escrow.settle(header, entries, "");
        require(_money() == before, "5: a plan that nobody serves moved money or took headroom");
    }

    /// @dev Releasing and collecting out of order, twice, or in another's place.
    function endWrongly(uint256 seed) external attack(seed) {
        if (batches.length == 0) return;
        Batch memory batch = batches[_draw(batches.length)];
        bool isLone = PlanId.unwrap(batch.header.planId) == 3;
        address attestor = address(isLone ? lone : committee);
        if (batch.status == BatchStatus.Released) {
            address thief = _draw(2) == 0 ? OUTSIDER : address(isLone ? committee : lone);
            bytes4 selector = IUsageEscrow.CallerNotAttestor.selector;
            bytes memory refusal = abi.encodeWithSelector(selector, batch.id, thief);
            bytes memory call =
                thief == OUTSIDER
                    ? abi.encodeCall(escrow.collectAttestorShare, (batch.id))
                    : abi.encodeCall(committee.shareIncome, (batch.id));
            address target = thief == OUTSIDER ? address(escrow) : thief;
            _mustRefuse(OUTSIDER, target, call, refusal, "7: an attestor's share went to another one");
        } else {
            bytes4 selector = IUsageEscrow.BatchNotReleased.selector;
            bytes memory refusal = abi.encodeWithSelector(selector, batch.id, batch.status);
            bytes memory call = abi.encodeCall(committee.shareIncome, (batch.id));
            _mustRefuse(OUTSIDER, attestor, call, refusal, "9: a batch was collected twice or too early");
        }
        if (batch.status == BatchStatus.Held) return;
        bytes memory notHeld = abi.encodeWithSelector(IUsageEscrow.BatchNotHeld.selector, batch.id, batch.status);
        bytes memory again = abi.encodeCall(escrow.release, (batch.id));
        _mustRefuse(OUTSIDER, address(escrow), again, notHeld, "9: a batch was released twice");
    }

    /// @dev An outsider at a licensee's account.
    function trespass(uint256 seed) external attack(seed) {
        uint256 id = _anyLicense();
        bytes[4] memory calls = [
            abi.encodeCall(escrow.withdraw, (_id(id), OUTSIDER)),
            abi.encodeCall(escrow.thaw, (_id(id), uint64(_draw(2)))),
            abi.encodeCall(escrow.setCap, (_id(id), 0)),
            abi.encodeCall(escrow.raiseGeneration, (_id(id)))
        ];
        // Licensees are strangers to each other's licenses, and governance is one to all.
        address[5] memory strangers = [OUTSIDER, licensees[0], GOVERNOR, GUARDIAN, SLASHER];
        address stranger = strangers[_draw(5)];
        if (stranger == ledger[id - 1].owner) stranger = OUTSIDER;
        bytes4 selector = IUsageEscrow.CallerNotOwner.selector;
        bytes memory refusal = abi.encodeWithSelector(selector, id, stranger);
        _mustRefuse(stranger, address(escrow), calls[_draw(4)], refusal, "4: a stranger used an account");

        address owner = ledger[id - 1].owner;
        bytes memory sale = abi.encodeCall(licenses.transferFrom, (owner, OUTSIDER, id));
        refusal = abi.encodeWithSelector(ILicenseRegistry.LicenseNotMovable.selector, id, 0);
        _mustRefuse(owner, address(licenses), sale, refusal, "4: a license was sold with its bill");
    }

    /// @dev An outsider at what others have earned or staked.
    function pilfer(uint256 seed) external attack(seed) {
        uint256 kind = _draw(6);
        OperatorId operator = OperatorId.wrap(uint24(_draw(OPERATORS) + 1));
        address staked = address(staking);
        if (kind == 0) {
            bytes memory refusal = abi.encodeWithSelector(IUsageEscrow.EarningsEmpty.selector, OUTSIDER);
            bytes memory call = abi.encodeCall(escrow.withdrawEarnings, (OUTSIDER));
            _mustRefuse(OUTSIDER, address(escrow), call, refusal, "7: an outsider took earnings");
        } else if (kind == 1) {
            bytes memory refusal = abi.encodeWithSelector(ICommitteeAttestor.IncomeEmpty.selector, OUTSIDER);
            bytes memory call = abi.encodeCall(committee.withdraw, (OUTSIDER));
            _mustRefuse(OUTSIDER, address(committee), call, refusal, "7: an outsider took attestors' income");
        } else if (kind == 2) {
            bytes memory refusal = abi.encodeWithSelector(IPerformanceStaking.ProceedsEmpty.selector, OUTSIDER);
            bytes memory call = abi.encodeCall(staking.withdrawProceeds, (OUTSIDER));
            _mustRefuse(OUTSIDER, staked, call, refusal, "6: an outsider took a slash's proceeds");
        } else if (kind == 3) {
            bytes memory refusal = abi.encodeWithSelector(
                IPerformanceStaking.SharesAbovePosition.selector,
                operator,
                1,
                0
            );
            bytes memory call = abi.encodeCall(staking.thaw, (operator, 1));
            _mustRefuse(OUTSIDER, staked, call, refusal, "6: an outsider thawed stake");
        } else if (kind == 4) {
            bytes4 selector = IPerformanceStaking.ThawEmpty.selector;
            bytes memory refusal = abi.encodeWithSelector(selector, operator, OUTSIDER);
            bytes memory call = abi.encodeCall(staking.withdraw, (operator, OUTSIDER));
            _mustRefuse(OUTSIDER, staked, call, refusal, "6: an outsider withdrew stake");
        } else {
            bytes4 selector = IPerformanceStaking.CallerNotOperator.selector;
            bytes memory refusal = abi.encodeWithSelector(selector, operator, OUTSIDER);
            bytes memory call = abi.encodeCall(staking.addStake, (operator, 1));
            _mustRefuse(OUTSIDER, staked, call, refusal, "6: an outsider joined a pool");
        }
    }

    /// @dev Anybody, governance included, at what only a role may do.
    function usurp(uint256 seed) external attack(seed) {
        OperatorId operator = OperatorId.wrap(uint24(_draw(OPERATORS) + 1));
        address[5] memory usurpers = [OUTSIDER, GUARDIAN, operatorOwners[0], address(committee), TREASURY];
        address usurper = usurpers[_draw(5)];
        bytes memory refusal = abi.encodeWithSelector(IAccessManaged.AccessManagedUnauthorized.selector, usurper);
        string memory rule = "11: a power was used by one who doesn't have it";
        uint256 kind = _draw(9);
        if (kind == 0) {
            _mustRefuse(usurper, address(escrow), abi.encodeCall(escrow.setFee, (0)), refusal, rule);
        } else if (kind == 1) {
            bytes memory call = abi.encodeCall(escrow.raiseDepositCeiling, (type(uint64).max));
            _mustRefuse(usurper, address(escrow), call, refusal, rule);
        } else if (kind == 2) {
            bytes memory call = abi.encodeCall(staking.slash, (operator, 1, usurper));
            _mustRefuse(usurper, address(staking), call, refusal, rule);
        } else if (kind == 3) {
            IPerformanceStaking.Charge memory charged = IPerformanceStaking.Charge({
                operatorId: operator,
                planId: PlanId.wrap(1),
                amount: 1,
                day: clock / EPOCH,
                breached: true
            });
            bytes memory call = abi.encodeCall(staking.charge, (charged));
            _mustRefuse(usurper, address(staking), call, refusal, rule);
        } else if (kind == 4) {
            bytes memory call = abi.encodeCall(staking.release, (operator, 0));
            _mustRefuse(usurper, address(staking), call, refusal, rule);
        } else if (kind == 7) {
            bytes memory call = abi.encodeCall(staking.addBonus, (operator, 1));
            _mustRefuse(usurper, address(staking), call, refusal, rule);
        } else if (kind == 8) {
            bytes memory call = abi.encodeCall(licenses.setMovable, (_id(_anyLicense()), 1));
            _mustRefuse(usurper, address(licenses), call, refusal, rule);
        } else if (kind == 5) {
            bytes memory call = abi.encodeCall(licenses.mint, (usurper, PlanId.wrap(1)));
            _mustRefuse(usurper, address(licenses), call, refusal, rule);
        } else {
            bytes memory call = abi.encodeCall(escrow.setAuthority, (usurper));
            _mustRefuse(usurper, address(escrow), call, refusal, rule);
        }
    }

    /// @dev The governor beyond its powers: a higher fee than the bound, a lower ceiling, the wiring, another governor.
    function overreach(uint256 seed) external attack(seed) {
        uint256 kind = _draw(7);
        if (kind < 2) {
            uint16 fee = uint16(501 + _draw(60_000));
            uint64 ceiling = escrow.depositCeiling();
            bytes memory act =
                kind == 0
                    ? abi.encodeCall(escrow.setFee, (fee))
                    : abi.encodeCall(escrow.raiseDepositCeiling, (ceiling));
            bytes memory refusal =
                kind == 0
                    ? abi.encodeWithSelector(IUsageEscrow.FeeAboveBound.selector, fee, 500)
                    : abi.encodeWithSelector(IUsageEscrow.CeilingNotRaised.selector, ceiling, ceiling);
            VM.prank(GOVERNOR);
            authority.schedule(address(escrow), act, 0);
            _pass(GOVERNANCE_DELAY);
            bytes memory call = abi.encodeCall(authority.execute, (address(escrow), act));
            _mustRefuse(GOVERNOR, address(authority), call, refusal, "11: governance went beyond a bound");
            VM.prank(GOVERNOR);
            authority.cancel(GOVERNOR, address(escrow), act);
            return;
        }
        bytes4[] memory selectors = new bytes4[](1);
        selectors[0] = staking.slash.selector;
        bytes memory rewiring;
        if (kind == 2) rewiring = abi.encodeCall(authority.grantRole, (0, GOVERNOR, 0));
        if (kind == 3) rewiring = abi.encodeCall(authority.grantRole, (GOVERNOR_ROLE, GOVERNOR, 0));
        if (kind == 4) rewiring = abi.encodeCall(authority.grantRole, (GOVERNOR_ROLE, OUTSIDER, GOVERNANCE_DELAY));
        if (kind == 5) rewiring = abi.encodeCall(authority.setRoleAdmin, (GOVERNOR_ROLE, GOVERNOR_ROLE));
        if (kind == 6) {
            rewiring = abi.encodeCall(authority.setTargetFunctionRole, (address(staking), selectors, GOVERNOR_ROLE));
        }
        bytes memory sealed_ = abi.encodeWithSelector(
            IAccessManager.AccessManagerUnauthorizedAccount.selector,
            GOVERNOR,
            0
        );
        _mustRefuse(GOVERNOR, address(authority), rewiring, sealed_, "11: the wiring was changed");
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

    function _mustRefuse(
        address sender,
        address target,
        bytes memory call,
        bytes memory refusal,
        string memory rule
    ) private {
        VM.prank(sender);
        (bool landed, bytes memory reason) = target.call(call);
        require(!landed && keccak256(reason) == keccak256(refusal), rule);
    }

    /// @dev Signs what the entries were made into.
    function _sign(Draft memory draft) private view {
        draft.header.entriesHash = keccak256(draft.entries);
        draft.id = escrow.batchIdOf(draft.header);
        draft.proof = _proof(draft.id, PlanId.unwrap(draft.header.planId) == 3 ? 8 : 7);
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
        bytes32 here = _digest(structHash, block.chainid);
        require(here == escrow.batchIdOf(header), "10: a batch's digest isn't what EIP-712 says");
        return _digest(structHash, block.chainid + 1);
    }

    function _digest(bytes32 structHash, uint256 chainId) private view returns (bytes32) {
        bytes32 domain = keccak256(
            abi.encode(
                keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"),
                keccak256("Licet UsageEscrow"),
                keccak256("1"),
                chainId,
                address(escrow)
            )
        );
        return keccak256(abi.encodePacked("\x19\x01", domain, structHash));
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
