// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {IAccessManaged} from "@openzeppelin/contracts/access/manager/IAccessManaged.sol";
import {IAccessManager} from "@openzeppelin/contracts/access/manager/IAccessManager.sol";
import {IAssetRegistry, VersionStatus} from "../../contracts/interfaces/IAssetRegistry.sol";
import {ICommitteeAttestor} from "../../contracts/interfaces/ICommitteeAttestor.sol";
import {ILicenseRegistry, PlanTerms} from "../../contracts/interfaces/ILicenseRegistry.sol";
import {IPerformanceStaking} from "../../contracts/interfaces/IPerformanceStaking.sol";
import {BatchHeader, BatchStatus, IUsageEscrow, LicenseStatus} from "../../contracts/interfaces/IUsageEscrow.sol";
import {Timelock} from "../../contracts/Timelock.sol";
import {AttestorThatAlwaysVouches} from "../../contracts/mocks/AttestorThatAlwaysVouches.sol";
import {AssetId, OperatorId, PlanId, VersionId} from "../../contracts/types/Ids.sol";
import {Governors} from "./Governors.sol";
import {License, Model, Usage} from "./Model.sol";
import {Machine, Verb} from "./Statuses.sol";
import {VM} from "./Vm.sol";

/// @title Everybody doing what they may not
abstract contract Attackers is Governors {
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
            VM.prank(owner);
            escrow.settle(header, entries, "");
        }
        require(_money() == before, "5: a plan that nobody serves moved money, took headroom or jailed an operator");
    }

    function _layTrap(address owner) private {
        PlanTerms memory terms = plans[_draw(3)];
        terms.attestor = YES;
        (terms.holdPeriod, terms.cap) = (30 days, 0);
        VM.prank(owner);
        licenses.createPlan(terms);
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

    /// @dev A license that runs, renewed by somebody to take its money for another term.
    function renewOthers(uint256 seed) external attack(seed) {
        uint256 id = _licenseThat(_isRenewable);
        if (_licenseStatus(id) != LicenseStatus.Running) return;
        bytes memory refusal = abi.encodeWithSelector(
            IUsageEscrow.LicenseStatusUnfit.selector,
            id,
            LicenseStatus.Running
        );
        address stranger = _draw(2) == 0 ? OUTSIDER : assets.ownerOf(MODEL);
        bytes memory call = abi.encodeCall(escrow.renew, (_id(id)));
        _mustRefuse(stranger, address(escrow), call, refusal, "4: a stranger renewed a license that runs");
    }

    /// @dev A minimum taken while use may still settle: at the very last second, too.
    function closeEarly(uint256 seed) external attack(seed) {
        uint256 id = _licenseThat(_hasMinimum);
        License storage license = ledger[id - 1];
        uint256 closableAt = Model.closableAt(license);
        if (!_hasMinimum(id) || !(license.earlier.open || license.term.open) || clock > closableAt) return;
        if (closableAt < clock + 2 * WAIT) _pass(closableAt - clock);
        bytes memory refusal = abi.encodeWithSelector(IUsageEscrow.TermOpen.selector, id, closableAt);
        bytes memory call = abi.encodeCall(escrow.closeTerm, (_id(id)));
        _mustRefuse(
            assets.ownerOf(_assetOf(license.plan)),
            address(escrow),
            call,
            refusal,
            "2: a minimum was taken before late use counted"
        );
    }

    /// @dev A license sold before its bill can have come, by its owner or by whom it approved.
    function moveEarly(uint256 seed) external attack(seed) {
        uint256 id = _draw(2) == 0 ? _licenseThat(_isLocked) : _anyLicense();
        License storage license = ledger[id - 1];
        if (_licenseStatus(id) == LicenseStatus.Movable) return;
        if (license.movableAt > 0 && _draw(2) == 0) _pass(license.movableAt - clock);
        VM.prank(license.owner);
        licenses.approve(OUTSIDER, id);
        address seller = _draw(2) == 0 ? OUTSIDER : license.owner;
        bytes memory sale = abi.encodeCall(licenses.transferFrom, (license.owner, OUTSIDER, id));
        bytes memory refusal = abi.encodeWithSelector(
            ILicenseRegistry.LicenseNotMovable.selector,
            id,
            license.movableAt
        );
        _mustRefuse(seller, address(licenses), sale, refusal, "4: a license was sold with its bill");
    }

    /// @dev Who sold a license, at the account that isn't its own any more.
    function sellAndStay(uint256 seed) external attack(seed) {
        uint256 id = _licenseThat(_isLocked);
        License storage license = ledger[id - 1];
        if (license.movableAt == 0) return;
        if (clock <= license.movableAt) _pass(license.movableAt + 1 - clock);
        address seller = license.owner;
        _sell(id, seller == licensees[0] ? licensees[1] : licensees[0]);
        _mustRefuseAt(id, seller, "4: a seller used the account that it had sold");
        address target = address(licenses);
        bytes memory call = abi.encodeCall(licenses.transferFrom, (license.owner, seller, id));
        bytes memory refusal = abi.encodeWithSignature("ERC721InsufficientApproval(address,uint256)", seller, id);
        _mustRefuse(seller, target, call, refusal, "4: a seller took a license back");
    }

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
        uint256 kind = _draw(4);
        address stranger = [OUTSIDER, PROPOSER, operatorOwners[0], licensees[0]][_draw(4)];
        bytes memory refusal = abi.encodeWithSelector(IAssetRegistry.CallerNotAssetOwner.selector, MODEL, stranger);
        if (kind < 2) {
            bytes memory call =
                kind == 0
                    ? abi.encodeCall(assets.recall, (_versionId(MODEL, _draw(recalledAt.length) + 1)))
                    : abi.encodeCall(
                        assets.publish,
                        (AssetId.wrap(uint32(MODEL)), bytes32(uint256(99)), 0, "ipfs://another", "")
                    );
            _mustRefuse(stranger, address(assets), call, refusal, "9: a stranger changed a model's history");
            return;
        }
        uint256 plan = _anyPlan();
        refusal = abi.encodeWithSelector(ILicenseRegistry.CallerNotPublisher.selector, _assetOf(plan), stranger);
        bytes memory offer =
            kind == 2
                ? abi.encodeCall(licenses.closePlan, (PlanId.wrap(uint32(plan))))
                : abi.encodeCall(licenses.createPlan, (plans[plan - 1]));
        _mustRefuse(stranger, address(licenses), offer, refusal, "9: a stranger changed a model's plans");
    }

    /// @dev Releasing and collecting out of order, twice, or in another's place.
    function endWrongly(uint256 seed) external attack(seed) {
        if (batches.length == 0) return;
        Batch memory batch = batches[_draw(batches.length)];
        bool isLone = _isLone(PlanId.unwrap(batch.header.planId));
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

    /// @dev A stranger at a licensee's account. Licensees are strangers to each other's licenses, and governance is one to all.
    function trespass(uint256 seed) external attack(seed) {
        uint256 id = _anyLicense();
        address[6] memory strangers = [OUTSIDER, licensees[0], PROPOSER, GUARDIAN, SLASHER, publishers[0]];
        address stranger = strangers[_draw(6)];
        if (stranger == ledger[id - 1].owner) stranger = OUTSIDER;
        _mustRefuseAt(id, stranger, "4: a stranger used an account");
    }

    /// @dev An outsider at what others have earned or staked.
    function pilfer(uint256 seed) external attack(seed) {
        uint256 kind = _draw(6);
        OperatorId operator = OperatorId.wrap(uint24(_draw(OPERATORS) + 1));
        address staked = address(staking);
        if (kind == 0) {
            bytes4 selector = IUsageEscrow.CallerNotOperator.selector;
            bytes memory refusal = abi.encodeWithSelector(selector, operator, OUTSIDER);
            bytes memory call = abi.encodeCall(escrow.withdrawEarnings, (operator, OUTSIDER));
            _mustRefuse(OUTSIDER, address(escrow), call, refusal, "7: an outsider took earnings");
        } else if (kind == 1) {
            bytes memory refusal = abi.encodeWithSelector(ICommitteeAttestor.IncomeEmpty.selector, DONOR);
            bytes memory call = abi.encodeCall(committee.withdraw, (DONOR));
            _mustRefuse(DONOR, address(committee), call, refusal, "7: an outsider took attestors' income");
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
            bytes memory call = abi.encodeCall(staking.setCommission, (operator, 0));
            _mustRefuse(OUTSIDER, staked, call, refusal, "6: an outsider changed a commission");
        }
    }

    /// @dev Anybody, governance included, at what only a role may do.
    function usurp(uint256 seed) external attack(seed) {
        OperatorId operator = OperatorId.wrap(uint24(_draw(OPERATORS) + 1));
        address[5] memory usurpers = [PROPOSER, GUARDIAN, operatorOwners[0], address(committee), TREASURY];
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
            bytes memory call = abi.encodeCall(staking.release, (operator, 0, 0));
            _mustRefuse(usurper, address(staking), call, refusal, rule);
        } else if (kind == 7) {
            bytes memory call = abi.encodeCall(staking.addIncome, (operator, 1));
            _mustRefuse(usurper, address(staking), call, refusal, rule);
        } else if (kind == 8) {
            bytes memory call = abi.encodeCall(licenses.setMovable, (_id(_anyLicense()), 1));
            _mustRefuse(usurper, address(licenses), call, refusal, rule);
        } else if (kind == 5) {
            bytes memory call = abi.encodeCall(licenses.mint, (usurper, PlanId.wrap(1)));
            _mustRefuse(usurper, address(licenses), call, refusal, rule);
        } else {
            bytes memory call = abi.encodeCall(IAccessManaged.setAuthority, (usurper));
            _mustRefuse(usurper, address(escrow), call, refusal, rule);
        }
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
        _schedule(target, act);
        _pass(GOVERNANCE_DELAY);
        bytes memory call = abi.encodeCall(timelock.execute, (target, 0, act, 0, bytes32(clock)));
        _mustRefuse(OUTSIDER, address(timelock), call, refusal, "11: governance went beyond its powers");
    }

    /// @dev A use of a license's account by one who doesn't own it.
    function _mustRefuseAt(uint256 id, address stranger, string memory rule) private {
        bytes[10] memory calls = [
            abi.encodeCall(escrow.withdraw, (_id(id), stranger)),
            abi.encodeCall(escrow.thaw, (_id(id), uint64(_draw(2)))),
            abi.encodeCall(escrow.setCap, (_id(id), 0)),
            abi.encodeCall(escrow.raiseGeneration, (_id(id))),
            abi.encodeCall(escrow.changeService, (_id(id), OperatorId.wrap(1), false)),
            abi.encodeCall(escrow.setRenewal, (_id(id), _draw(2) == 0)),
            abi.encodeCall(escrow.lock, (_id(id))),
            abi.encodeCall(escrow.unlock, (_id(id))),
            abi.encodeCall(escrow.end, (_id(id))),
            abi.encodeCall(escrow.end, (_id(id)))
        ];
        bytes memory refusal = abi.encodeWithSelector(IUsageEscrow.CallerNotOwner.selector, id, stranger);
        _mustRefuse(stranger, address(escrow), calls[_draw(10)], refusal, rule);
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
