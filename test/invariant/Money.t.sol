// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {OperatorStatus} from "../../contracts/interfaces/IPerformanceStaking.sol";
import {BatchStatus, LicenseStatus} from "../../contracts/interfaces/IUsageEscrow.sol";
import {Attestors} from "./Attestors.sol";
import {Brokers} from "./Brokers.sol";
import {Buyers} from "./Buyers.sol";
import {Courts} from "./Courts.sol";
import {Reporters} from "./Reporters.sol";
import {Forgers} from "./Forgers.sol";
import {Trespassers} from "./Trespassers.sol";
import {Usurpers} from "./Usurpers.sol";
import {Replayers} from "./Replayers.sol";
import {Reentrants} from "./Reentrants.sol";
import {Sybils} from "./Sybils.sol";
import {Governors} from "./Governors.sol";
import {Count} from "./Ledger.sol";
import {Licensees} from "./Licensees.sol";
import {License, Model} from "./Model.sol";
import {Parts} from "./Market.sol";
import {Operators} from "./Operators.sol";
import {Payees} from "./Payees.sol";
import {Publishers} from "./Publishers.sol";
import {Settlers} from "./Settlers.sol";
import {Stage} from "./Stage.sol";
import {Stakers} from "./Stakers.sol";
import {Machine, Verb} from "./Statuses.sol";
import {FuzzSelector, say, VM} from "./Vm.sol";
import {Vouchers} from "./Vouchers.sol";

/// @dev The market with everybody in it, a few licenses sold and both operators staked.
contract Campaign is Sybils {
    /// @dev Runs shorter than this prove nothing about how busy they were.
    uint256 private constant LONG = 200;
    uint256 private constant EVERY = 32;
    uint256 private constant LAST = uint256(type(Count).max);
    /// @dev After so many runs everything has been called.
    uint256 private constant MANY = 100;

    /// @dev Of some runs: what was counted, and how often each function landed and was refused.
    struct Report {
        bytes32 lastRun;
        uint256 runs;
        uint256[] sums;
        uint256[] calls;
    }

    constructor(string memory name) Stage(name) {
        VM.warp(clock);
        _see(Machine.Version, 1, Verb.Publish);
        _see(Machine.Version, 2, Verb.Publish);
        for (uint256 i = 1; i <= plans.length; ++i) _see(Machine.Plan, i, Verb.CreatePlan);
        _see(Machine.Rotation, 0, Verb.Deploy);
        for (uint256 i; i < 4; ++i) _see(Machine.Bond, 2 * i, Verb.PostBond);
        for (uint256 i = 1; i <= OPERATORS; ++i) _addStake(i, operatorOwners[i - 1], 100 * USD);
        for (uint256 i = 1; i <= OPERATORS; ++i) _see(Machine.SigningKey, _keyId(i, 0), Verb.AddKey);
        for (uint256 i; i < 8; ++i) _buy(1 + (i % plans.length), 1 + (i % 2), i % 3, 20 * USD);
        _listFunctions();
    }

    function parts() external view returns (Parts memory) {
        return Parts(IERC20(address(currency)), assets, licenses, staking, escrow, committee, court, reports);
    }

    /// @dev Everything, as often as time allows; in between, what every call may have changed.
    function requireAll() external view {
        if (_calls() % EVERY == 0) _requireAll();
        else _requireSums();
    }

    /// @dev Everything, now.
    function requireEverything() external view {
        _requireAll();
    }

    /// @dev Ends everything: lets all challenges' time run out, unlocks, ends and closes all licenses, releases, collects, and lets
    /// everyone take what is theirs. Nothing may stay but donations.
    function windUp() external {
        VM.warp(clock);
        _closeAll();
        _releaseAll();
        for (uint256 i; i < ATTESTORS; ++i) {
            _leaveCommittee(i, attestorPayees[i]);
            _leaveCommittee(i, OUTSIDER);
        }
        _endAll();
        for (uint256 i = 1; i <= OPERATORS; ++i) {
            if (pools[i].income > 0) _payPool(i);
            _leavePool(i);
        }
        for (uint256 i = 1; i <= ledger.length; ++i) {
            if (ledger[i - 1].thawing > 0) _withdraw(i);
        }
        _payAll();
        _requireEnded();
    }

    /// @dev A campaign that idles proves nothing. Each of the rarer things takes time to pass, and a run may be unlucky with any
    /// one of them.
    function requireBusy() external view {
        if (_calls() < LONG) return;
        require(counts[Count.Landed] * 100 >= _attempts() * 50, "the campaign idled: too few attempts landed");
        require(counts[Count.Charges] > 0, "the campaign idled: nothing was charged");
        uint256 later;
        for (uint256 i = uint256(Count.Vouchers); i <= LAST; ++i) later += counts[Count(i)];
        require(later > 0, "the campaign idled: nothing came of what was charged");
        require(counts[Count.Attacks] > 0, "the campaign idled: nobody attacked");
    }

    /// @dev Tells of this run and of all before it in the campaign of that name. The chain forgets them; the process doesn't. Forge
    /// prints what the last run told, which it runs once more for that: it counts once.
    function report(string calldata name) external {
        string memory key = string.concat("LICET_", name);
        Report memory report_ = _report();
        bytes32 run = keccak256(abi.encode(report_, clock));
        bytes memory before = VM.envOr(key, bytes(""));
        if (before.length > 0) {
            Report memory all = abi.decode(before, (Report));
            bool isNew = all.lastRun != run;
            all.runs += isNew ? 1 : 0;
            for (uint256 i; isNew && i < all.sums.length; ++i) all.sums[i] += report_.sums[i];
            for (uint256 i; isNew && i < all.calls.length; ++i) all.calls[i] += report_.calls[i];
            report_ = all;
        }
        report_.lastRun = run;
        VM.setEnv(key, VM.toString(abi.encode(report_)));
        if (_attempts() == 0) return;
        _tell(report_.sums);
        _tellFunctions(report_.calls);
        if (report_.runs < MANY) return;
        _requireCovered(report_.calls);
        require(_shareOf(report_.sums) >= 70, "the campaign idled: too few attempts landed");
    }

    /// @dev Of all attempts, what landed, in percent.
    function _shareOf(uint256[] memory sums) private pure returns (uint256) {
        uint256 landed = sums[uint256(Count.Landed)];
        return (landed * 100) / (landed + sums[uint256(Count.Refused)] + sums[uint256(Count.Idle)]);
    }

    function _report() private view returns (Report memory report_) {
        (report_.runs, report_.sums, report_.calls) = (1, new uint256[](LAST + 1), new uint256[](2 * functions.length));
        for (uint256 i; i <= LAST; ++i) report_.sums[i] = counts[Count(i)];
        for (uint256 i; i < functions.length; ++i) {
            (report_.calls[2 * i], report_.calls[2 * i + 1]) = (functions[i].landed, functions[i].refused);
        }
    }

    function _tell(uint256[] memory sums) private view {
        uint256 landed = sums[uint256(Count.Landed)];
        uint256 attempts = landed + sums[uint256(Count.Refused)] + sums[uint256(Count.Idle)];
        uint256 attacks = sums[uint256(Count.Attacks)];
        string memory line = string.concat(
            VM.toString(attempts + attacks),
            " calls: ",
            VM.toString(attempts),
            " attempts, of which ",
            VM.toString(_shareOf(sums)),
            " % landed and the others were refused as foreseen; "
        );
        say(string.concat(line, VM.toString(attacks), " attacks, all of them refused"));
        string[24] memory names = _names();
        line = "";
        for (uint256 i; i < names.length; ++i) {
            uint256 sum = sums[uint256(Count.Settlements) + i];
            line = string.concat(line, i == 0 ? "" : ", ", VM.toString(sum), " ", names[i]);
        }
        say(line);
    }

    /// @dev Of what is counted, but for what came of the calls.
    function _names() private pure returns (string[24] memory) {
        return
            [
                "settlements",
                "that charged",
                "calls of vouchers",
                "that charged",
                "releases",
                "collections",
                "freezes of charges",
                "refunds",
                "challenges",
                "escalations",
                "rulings",
                "reports",
                "proofs ahead",
                "distributions",
                "withdrawals",
                "renewals",
                "changes of plan",
                "closings",
                "sales of licenses",
                "recalls",
                "rotations",
                "jailings",
                "equivocations",
                "acts of governance"
            ];
    }

    /// @dev Whatever state a challenge is in, waiting alone ends it.
    function _closeAll() private {
        while (pending.length > 0) {
            uint256 n = pending[0];
            if (clock <= cases[n - 1].deadline) _pass(cases[n - 1].deadline + 1 - clock);
            _close(n);
            require(_isDecided(n), "9: a challenge doesn't end");
        }
        require(frozen == 0, "7: a charge stays frozen");
    }

    function _releaseAll() private {
        uint256 last = clock;
        for (uint256 i; i < batches.length; ++i) {
            if (batches[i].releasableAt > last) last = batches[i].releasableAt;
        }
        _pass(last - clock);
        for (uint256 i; i < batches.length; ++i) {
            if (batches[i].status == BatchStatus.Held) _release(i);
            if (batches[i].status == BatchStatus.Released) _collect(i);
        }
    }

    function _endAll() private {
        for (uint256 i = 1; i <= ledger.length; ++i) {
            if (_isLocked(i)) _unlock(i);
            if (_isInUse(i)) _end(i);
        }
        _pass(Model.GRACE + WAIT + 1);
        for (uint256 i = 1; i <= ledger.length; ++i) {
            License storage license = ledger[i - 1];
            if (license.upfront > 0) {
                uint256 due = license.upfrontReleasableAt;
                if (clock < due) _pass(due - clock);
                _releaseUpfront(i);
            }
            if (license.earlier.open) _closeTerm(i);
            if (_hasMinimum(i) && license.term.open) _closeTerm(i);
            _thaw(i, license.balance);
        }
    }

    function _leaveCommittee(uint256 attestor, address holder) private {
        Bond storage bond = bonds[attestor][holder];
        if (bond.weight == 0) return;
        if (bond.readyAt == 0) _thawBond(attestor, holder);
        if (clock <= bond.readyAt) _pass(bond.readyAt + 1 - clock);
        _withdrawBond(attestor, holder);
    }

    /// @dev All who back an operator, once nothing is frozen there.
    function _leavePool(uint256 operator) private {
        uint256 until = pools[operator].frozenUntil;
        if (until > clock) _pass(until - clock);
        for (uint256 i; i < backers.length; ++i) {
            address backer = backers[i];
            if (!_isBacking(operator, backer)) continue;
            // Who has too many thaws open waits for the first of them.
            if (_isLeaving(operator, backer)) _pass(STAKE_THAW + 1);
            if (_isLeaving(operator, backer)) _withdrawStake(operator, backer);
            _thawStake(operator, backer, _sharesOf(operator, backer));
        }
        _pass(STAKE_THAW + 1);
        for (uint256 i; i < backers.length; ++i) {
            if (_isLeaving(operator, backers[i])) _withdrawStake(operator, backers[i]);
        }
        if (clock < pools[operator].jailedUntil) _pass(pools[operator].jailedUntil - clock);
    }

    function _payAll() private {
        for (uint256 i = 1; i <= OPERATORS; ++i) {
            if (pools[i].earnings > 0) _withdrawEarnings(i);
        }
        // Children come after their parents.
        for (uint256 i = assetCount; i > 0; --i) {
            if (lineage[i].income > 0) _payAsset(i);
            if (lineage[i].pot > 0) _distribute(i);
        }
        for (uint256 i; i < _claimantCount(); ++i) {
            if (claimable[_claimant(i)] > 0) _withdrawClaimable(_claimant(i));
        }
        for (uint256 i; i < _earnerCount(); ++i) {
            if (incomeOf[address(committee)][_earner(i)] > 0) _withdrawIncome(address(committee), _earner(i));
            if (incomeOf[address(lone)][_earner(i)] > 0) _withdrawIncome(address(lone), _earner(i));
        }
        if (fees > 0) _withdrawFees();
        for (uint256 i; i < _beneficiaryCount(); ++i) {
            if (proceeds[_beneficiary(i)] > 0) _withdrawProceeds(_beneficiary(i));
        }
        for (uint256 i; i < litigants.length; ++i) {
            if (bondsDue[litigants[i]] > 0) _withdrawBonds(litigants[i]);
            if (feesDue[litigants[i]] > 0) _withdrawCourtFees(litigants[i]);
        }
    }

    function _requireEnded() private view {
        _requireAll();
        for (uint256 i = 1; i <= ledger.length; ++i) {
            _requireAccount(i);
            require(_licenseStatus(i) == LicenseStatus.Closed, "9: a license can't be closed");
            _requireStatus(Machine.License, i);
        }
        for (uint256 i; i < batches.length; ++i) {
            require(_isPast(_batchStatus(i)), "9: a batch can't be collected");
            _requireStatus(Machine.Batch, i);
        }
        for (uint256 i = 1; i <= OPERATORS; ++i) {
            require(_operatorStatus(i) == OperatorStatus.Unstaked, "9: an operator can't leave");
            _requireStatus(Machine.Operator, i);
        }
        address[7] memory holders = _holders();
        for (uint256 i; i < holders.length; ++i) {
            require(
                currency.balanceOf(holders[i]) == donations[holders[i]] && holders[i].balance == 0,
                "7: the end left something that nobody can claim"
            );
        }
    }
}

/// @title The market under random calls from everybody
contract MoneyTest {
    uint256 internal constant COUNT = 131;

    Campaign private _campaign;

    function setUp() external {
        _campaign = Campaign(VM.deployCode("Money.t.sol:Campaign", abi.encode(_name())));
    }

    function targetContracts() external view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(_campaign);
    }

    function targetSelectors() external view returns (FuzzSelector[] memory targets) {
        targets = new FuzzSelector[](1);
        targets[0] = FuzzSelector(address(_campaign), _selectors());
    }

    function invariant_money() external view {
        _campaign.requireAll();
    }

    function afterInvariant() external {
        _campaign.requireBusy();
        _campaign.report(_name());
        _campaign.windUp();
    }

    function _name() internal pure virtual returns (string memory) {
        return "MONEY";
    }

    /// @dev Who is named several times is called as much more often.
    function _selectors() private pure returns (bytes4[] memory selectors) {
        bytes4[25] memory licensees = [
            Licensees.changePlan.selector,
            Vouchers.addVoucherKey.selector,
            Vouchers.revokeVoucherKey.selector,
            Vouchers.settleVouchers.selector,
            Vouchers.settleVouchers.selector,
            Vouchers.settleVouchersAgain.selector,
            Buyers.buy.selector,
            Buyers.deposit.selector,
            Buyers.deposit.selector,
            Buyers.releaseUpfront.selector,
            Licensees.setCap.selector,
            Licensees.applyCapCut.selector,
            Licensees.raiseGeneration.selector,
            Licensees.changeService.selector,
            Licensees.applyServiceChange.selector,
            Licensees.setRenewal.selector,
            Licensees.lock.selector,
            Licensees.unlock.selector,
            Licensees.sell.selector,
            Licensees.end.selector,
            Licensees.thaw.selector,
            Licensees.withdraw.selector,
            Licensees.leave.selector,
            Licensees.renew.selector,
            Licensees.closeTerm.selector
        ];
        bytes4[14] memory litigants = [
            Courts.challenge.selector,
            Courts.challenge.selector,
            Courts.challenge.selector,
            Courts.litigate.selector,
            Courts.litigate.selector,
            Courts.litigate.selector,
            Courts.litigate.selector,
            Courts.closeChallenge.selector,
            Courts.demandSigning.selector,
            Courts.withdrawFromCourt.selector,
            Reporters.report.selector,
            Reporters.report.selector,
            Reporters.proveAhead.selector,
            Reporters.proveAhead.selector
        ];
        bytes4[17] memory settlers = [
            Settlers.settle.selector,
            Settlers.settle.selector,
            Settlers.settle.selector,
            Settlers.settlePart.selector,
            Settlers.settleLate.selector,
            Settlers.settleBeside.selector,
            Settlers.serveBadly.selector,
            Settlers.release.selector,
            Settlers.release.selector,
            Settlers.collect.selector,
            Stakers.addStake.selector,
            Stakers.thawStake.selector,
            Stakers.unthawStake.selector,
            Stakers.withdrawStake.selector,
            Stakers.setCommission.selector,
            Stakers.slash.selector,
            Stakers.freeze.selector
        ];
        bytes4[26] memory others = [
            Publishers.recall.selector,
            Publishers.derive.selector,
            Publishers.setPolicy.selector,
            Publishers.offer.selector,
            Publishers.closePlan.selector,
            Publishers.sellAsset.selector,
            Publishers.serve.selector,
            Attestors.rotate.selector,
            Attestors.withdrawIncome.selector,
            Attestors.postBond.selector,
            Attestors.thawBond.selector,
            Attestors.withdrawBond.selector,
            Attestors.equivocate.selector,
            Payees.payPool.selector,
            Payees.payAsset.selector,
            Payees.distribute.selector,
            Payees.addPayee.selector,
            Payees.movePayee.selector,
            Payees.giveUpPayee.selector,
            Payees.withdrawEarnings.selector,
            Payees.withdrawClaimable.selector,
            Payees.withdrawFees.selector,
            Payees.withdrawProceeds.selector,
            Payees.donate.selector,
            Governors.govern.selector,
            Governors.pause.selector
        ];
        bytes4[30] memory attackers = [
            Forgers.replay.selector,
            Forgers.replayRenumbered.selector,
            Forgers.forge.selector,
            Forgers.settleOutOfTurn.selector,
            Forgers.settleTampered.selector,
            Forgers.shedBill.selector,
            Forgers.trap.selector,
            Forgers.clingOn.selector,
            Forgers.overstay.selector,
            Trespassers.renewOthers.selector,
            Trespassers.closeEarly.selector,
            Trespassers.moveEarly.selector,
            Trespassers.sellAndStay.selector,
            Trespassers.endWrongly.selector,
            Trespassers.trespass.selector,
            Trespassers.pilfer.selector,
            Trespassers.meddle.selector,
            Usurpers.usurpCommittee.selector,
            Usurpers.impersonate.selector,
            Usurpers.offerUnkeepable.selector,
            Usurpers.frame.selector,
            Usurpers.usurp.selector,
            Usurpers.governEarly.selector,
            Usurpers.overreach.selector,
            Replayers.replayPayment.selector,
            Replayers.divertPayment.selector,
            Replayers.replayOffer.selector,
            Replayers.replayElsewhere.selector,
            Reentrants.reenter.selector,
            Reentrants.reenterElsewhere.selector
        ];
        bytes4[19] memory more = [
            Operators.registerOperator.selector,
            Operators.describeOperator.selector,
            Operators.addKey.selector,
            Operators.revokeKey.selector,
            Publishers.describeAsset.selector,
            Publishers.setRoyaltyReceiver.selector,
            Brokers.approve.selector,
            Brokers.approveForAll.selector,
            Brokers.broker.selector,
            Governors.stepDown.selector,
            Governors.tellTimelock.selector,
            Usurpers.rewire.selector,
            Usurpers.speakForOperator.selector,
            Forgers.forgeVoucher.selector,
            Forgers.settleMalformedVouchers.selector,
            Replayers.replayVoucherElsewhere.selector,
            Reentrants.receiveAndUse.selector,
            Reentrants.grief.selector,
            Sybils.joinJustInTime.selector
        ];
        selectors = new bytes4[](COUNT);
        for (uint256 i; i < 25; ++i) selectors[_place(i)] = licensees[i];
        for (uint256 i; i < 17; ++i) selectors[_place(25 + i)] = settlers[i];
        for (uint256 i; i < 26; ++i) selectors[_place(42 + i)] = others[i];
        for (uint256 i; i < 30; ++i) selectors[_place(68 + i)] = attackers[i];
        for (uint256 i; i < 19; ++i) selectors[_place(98 + i)] = more[i];
        for (uint256 i; i < 14; ++i) selectors[_place(117 + i)] = litigants[i];
    }

    /// @dev Where one of them stands: forge draws places.
    function _place(uint256 i) internal pure virtual returns (uint256) {
        return i;
    }
}
