// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {ICommitteeAttestor} from "../../contracts/interfaces/ICommitteeAttestor.sol";
import {ChallengeStatus, IDisputeCourt, RequestProof} from "../../contracts/interfaces/IDisputeCourt.sol";
import {ILicenseRegistry} from "../../contracts/interfaces/ILicenseRegistry.sol";
import {IPerformanceStaking} from "../../contracts/interfaces/IPerformanceStaking.sol";
import {IRevenueWaterfall} from "../../contracts/interfaces/IRevenueWaterfall.sol";
import {BatchStatus, IUsageEscrow, LicenseStatus} from "../../contracts/interfaces/IUsageEscrow.sol";
import {AssetId, OperatorId, PayeeId, PlanId} from "../../contracts/types/Ids.sol";
import {SignedReceipt} from "../../contracts/types/Receipt.sol";
import {SettledEntry} from "../../contracts/types/SettledEntry.sol";
import {Forgers} from "./Forgers.sol";
import {License, Model} from "./Model.sol";
import {VM} from "./Vm.sol";

/// @title Strangers at what is others': licenses, income, stake, bonds, challenges
abstract contract Trespassers is Forgers {
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
        _act(license.owner, address(licenses), abi.encodeCall(licenses.approve, (OUTSIDER, id)));
        approvedOf[address(licenses)][id] = OUTSIDER;
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

    /// @dev A stranger at what others have earned, staked or put up.
    function pilfer(uint256 seed) external attack(seed) {
        uint256 kind = _draw(5);
        if (kind == 0) return _pilferPool();
        if (kind == 1) return _pilferPot();
        if (kind == 2) return _pilferBond();
        if (kind == 3) {
            OperatorId operator = _operatorId(_anyOperator());
            bytes4 selector = IUsageEscrow.CallerNotOperator.selector;
            bytes memory refusal = abi.encodeWithSelector(selector, operator, THIEF);
            bytes memory call = abi.encodeCall(escrow.withdrawEarnings, (operator, THIEF));
            return _mustRefuse(THIEF, address(escrow), call, refusal, "7: a stranger took earnings");
        }
        bytes memory empty = abi.encodeWithSelector(IPerformanceStaking.ProceedsEmpty.selector, THIEF);
        bytes memory take = abi.encodeCall(staking.withdrawProceeds, (THIEF));
        _mustRefuse(THIEF, address(staking), take, empty, "6: a stranger took a slash's proceeds");
    }

    /// @dev A stranger in court: at others' challenges, in others' names, at what others won, or too early.
    function meddle(uint256 seed) external attack(seed) {
        string memory rule = "9: a stranger had a say in court";
        uint256 id = _anyLicense();
        bytes memory call;
        bytes memory refusal;
        uint256 kind = _draw(6);
        if (kind < 2) {
            SettledEntry memory entry;
            SignedReceipt memory none;
            entry.licenseId = _id(id);
            call = abi.encodeCall(court.challenge, (entry, none, ""));
            if (kind == 0) call = abi.encodeCall(court.demandSigning, (_id(id), true));
            refusal = abi.encodeWithSelector(IDisputeCourt.CallerNotOwner.selector, id, THIEF);
        } else if (kind < 4) {
            call = abi.encodeCall(court.withdrawBonds, (THIEF));
            if (kind == 2) call = abi.encodeCall(court.withdrawFees, (payable(THIEF)));
            refusal = abi.encodeWithSelector(IDisputeCourt.WithdrawalEmpty.selector, THIEF);
        } else if (pending.length > 0 && kind == 4) {
            (call, refusal) = _stepOfOthers(pending[_draw(pending.length)]);
        } else {
            uint256 disputeId = _draw(4);
            call = abi.encodeCall(court.rule, (disputeId, 1));
            refusal = abi.encodeWithSelector(IDisputeCourt.CallerNotArbitrator.selector, disputeId, THIEF);
        }
        _mustRefuse(THIEF, address(court), call, refusal, rule);
    }

    /// @dev What a challenge waits for, by one who isn't its party; or its end before its time.
    function _stepOfOthers(uint256 n) private returns (bytes memory call, bytes memory refusal) {
        Case storage opened = cases[n - 1];
        Batch storage charge = batches[opened.place];
        bool isInTime = clock <= opened.deadline;
        if (isInTime && opened.status == ChallengeStatus.Open) {
            call = abi.encodeCall(court.answer, (n, "ipfs://thief"));
            if (_draw(2) == 0) call = abi.encodeCall(court.showRequests, (n, new RequestProof[](0)));
            bytes4 selector = IDisputeCourt.CallerNotOperator.selector;
            return (call, abi.encodeWithSelector(selector, charge.header.operatorId, THIEF));
        }
        if (isInTime && opened.status == ChallengeStatus.Answered) {
            call = abi.encodeCall(court.escalate, (n));
            return (call, abi.encodeWithSelector(IDisputeCourt.CallerNotChallenger.selector, n, THIEF));
        }
        if (isInTime && findings[charge.id] == Finding.None) {
            call = abi.encodeCall(court.close, (n));
            return (call, abi.encodeWithSelector(IDisputeCourt.TurnRunning.selector, n, opened.deadline));
        }
        call = abi.encodeCall(court.submitEvidence, (n, "ipfs://thief"));
        return (call, abi.encodeWithSelector(IDisputeCourt.CallerNotParty.selector, n, THIEF));
    }

    function _pilferPool() private {
        uint256 kind = _draw(4);
        OperatorId operator = _operatorId(_anyOperator());
        bytes memory call = abi.encodeCall(staking.setCommission, (operator, 0));
        bytes4 selector = IPerformanceStaking.CallerNotOperator.selector;
        bytes memory refusal = abi.encodeWithSelector(selector, operator, THIEF);
        if (kind == 0) {
            call = abi.encodeCall(staking.thaw, (operator, 1));
            selector = IPerformanceStaking.SharesAbovePosition.selector;
            refusal = abi.encodeWithSelector(selector, operator, 1, 0);
        } else if (kind < 3) {
            call =
                kind == 1
                    ? abi.encodeCall(staking.withdraw, (operator, THIEF))
                    : abi.encodeCall(staking.unthaw, (operator));
            refusal = abi.encodeWithSelector(IPerformanceStaking.ThawEmpty.selector, operator, THIEF);
        }
        _mustRefuse(THIEF, address(staking), call, refusal, "6: a stranger used another one's stake");
    }

    function _pilferPot() private {
        uint256 asset = 1 + _draw(assetCount);
        bytes memory call = abi.encodeCall(waterfall.withdraw, (THIEF));
        bytes memory refusal = abi.encodeWithSelector(IRevenueWaterfall.IncomeEmpty.selector, THIEF);
        uint256 payee = _anyPayee();
        if (payee > 0 && _draw(3) == 0) {
            call = abi.encodeCall(waterfall.giveUp, (PayeeId.wrap(uint32(payee))));
            refusal = abi.encodeWithSignature("ERC721InsufficientApproval(address,uint256)", THIEF, payee);
        } else if (_draw(2) == 0) {
            call = abi.encodeCall(waterfall.addPayee, (AssetId.wrap(uint32(asset)), THIEF, 1));
            refusal = abi.encodeWithSelector(IRevenueWaterfall.CallerNotAssetOwner.selector, asset, THIEF);
        }
        _mustRefuse(THIEF, address(waterfall), call, refusal, "7: a stranger took an asset's income");
    }

    function _pilferBond() private {
        uint256 attestor = _draw(ATTESTORS);
        uint256 kind = _draw(3);
        bytes memory call = abi.encodeCall(ICommitteeAttestor.withdraw, (THIEF));
        bytes memory refusal = abi.encodeWithSelector(ICommitteeAttestor.IncomeEmpty.selector, THIEF);
        if (kind > 0) {
            call =
                kind == 1
                    ? abi.encodeCall(ICommitteeAttestor.withdrawBond, (_signer(attestor), THIEF))
                    : abi.encodeCall(ICommitteeAttestor.thawBond, (_signer(attestor)));
            refusal = abi.encodeWithSelector(ICommitteeAttestor.BondNone.selector, _signer(attestor), THIEF);
        }
        _mustRefuse(THIEF, address(_attestorOf(attestor)), call, refusal, "7: a stranger took an attestor's money");
    }

    /// @dev A use of a license's account by one who doesn't own it.
    function _mustRefuseAt(uint256 id, address stranger, string memory rule) private {
        bytes[12] memory calls = [
            abi.encodeCall(escrow.withdraw, (_id(id), stranger)),
            abi.encodeCall(escrow.thaw, (_id(id), uint64(_draw(2)))),
            abi.encodeCall(escrow.setCap, (_id(id), 0)),
            abi.encodeCall(escrow.raiseGeneration, (_id(id))),
            abi.encodeCall(escrow.changeService, (_id(id), OperatorId.wrap(1), false)),
            abi.encodeCall(escrow.setRenewal, (_id(id), _draw(2) == 0)),
            abi.encodeCall(escrow.lock, (_id(id))),
            abi.encodeCall(escrow.unlock, (_id(id))),
            abi.encodeCall(escrow.end, (_id(id))),
            abi.encodeCall(escrow.addVoucherKey, (_id(id), _keyBytes(0), uint56(USD))),
            abi.encodeCall(escrow.revokeVoucherKey, (_id(id), _keyBytes(0))),
            abi.encodeCall(escrow.changePlan, (_id(id), PlanId.wrap(1)))
        ];
        bytes memory refusal = abi.encodeWithSelector(IUsageEscrow.CallerNotOwner.selector, id, stranger);
        _mustRefuse(stranger, address(escrow), calls[_draw(12)], refusal, rule);
    }
}
