// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {OperatorStatus} from "../../contracts/interfaces/IPerformanceStaking.sol";
import {BatchStatus, LicenseStatus} from "../../contracts/interfaces/IUsageEscrow.sol";
import {Actors} from "./Actors.sol";
import {Attackers} from "./Attackers.sol";
import {Licensees} from "./Licensees.sol";
import {License, Model} from "./Model.sol";
import {Settlers} from "./Settlers.sol";
import {Stage} from "./Stage.sol";
import {Machine, Verb} from "./Statuses.sol";
import {FuzzSelector, say, VM} from "./Vm.sol";

/// @dev The market with everybody in it, a few licenses sold and both operators staked.
contract Campaign is Attackers {
    /// @dev Runs shorter than this prove nothing about how busy they were.
    uint256 private constant LONG = 200;
    uint256 private constant EVERY = 8;

    constructor(string memory name) Stage(name) {
        _see(Machine.Version, 1, Verb.Publish);
        _see(Machine.Version, 2, Verb.Publish);
        for (uint256 i = 1; i <= plans.length; ++i) _see(Machine.Plan, i, Verb.CreatePlan);
        _see(Machine.Rotation, 0, Verb.Deploy);
        for (uint256 i = 1; i <= OPERATORS; ++i) _addStake(i, 100 * USD);
        for (uint256 i; i < 8; ++i) _buy(1 + (i % 5), 1 + (i % 2), i % 3, 20 * USD);
    }

    /// @dev Everything, as often as time allows; in between, what every call may have changed.
    function requireAll() external view {
        if (_calls() % EVERY == 0) _requireAll();
        else _requireSums();
    }

    /// @dev Ends everything: unlocks, ends and closes all licenses, releases, collects, and lets everyone take what is theirs.
    /// Nothing may stay but donations.
    function windUp() external {
        VM.warp(clock);
        _releaseAll();
        _endAll();
        for (uint256 i = 1; i <= OPERATORS; ++i) {
            if (pools[i].bonus > 0) _payBonus(i);
            // A bonus that found no shares is whose who stakes next.
            if (pools[i].shares == 0 && pools[i].stake > 0) _addStake(i, pools[i].stake);
            _thawStake(i, pools[i].shares);
        }
        _pass(STAKE_THAW + 1);
        for (uint256 i = 1; i <= OPERATORS; ++i) {
            if (pools[i].thawingShares > 0) _withdrawStake(i);
            if (clock < pools[i].jailedUntil) _pass(pools[i].jailedUntil - clock);
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
        uint256 attempts = tally.landed + tally.refused + tally.idle;
        require(tally.landed * 100 >= attempts * 60, "the campaign idled: too few attempts landed");
        require(tally.settlements > 0 && tally.charges > 0, "the campaign idled: nothing was charged");
        uint256 later = tally.releases + tally.collections + tally.withdrawals + tally.governed;
        require(later > 0, "the campaign idled: nothing was released, collected, withdrawn or governed");
        require(tally.attacks > 0, "the campaign idled: nobody attacked");
    }

    /// @dev Tells of this run and of all before it in the campaign of that name. The chain forgets them; the process doesn't. Forge
    /// prints what the last run told, which it runs once more for that: it counts once.
    function report(string calldata name) external {
        string memory last = string.concat("LICET_", name, "_LAST");
        uint256 run = uint256(keccak256(abi.encode(tally, clock)));
        bool isNew = VM.envOr(last, uint256(0)) != run;
        VM.setEnv(last, VM.toString(run));
        uint256[16] memory sums = abi.decode(abi.encode(tally), (uint256[16]));
        for (uint256 i; i < sums.length; ++i) {
            string memory key = string.concat("LICET_", name, "_", VM.toString(i));
            sums[i] = VM.envOr(key, uint256(0)) + (isNew ? sums[i] : 0);
            VM.setEnv(key, VM.toString(sums[i]));
        }
        _tell(abi.decode(abi.encode(sums), (Tally)));
    }

    function _tell(Tally memory sum) private view {
        uint256 attempts = sum.landed + sum.refused + sum.idle;
        string memory line = string.concat(
            VM.toString(attempts + sum.attacks),
            " calls: ",
            VM.toString(attempts),
            " attempts, of which ",
            VM.toString((sum.landed * 100) / attempts),
            " % landed and the others were refused as foreseen; "
        );
        say(string.concat(line, VM.toString(sum.attacks), " attacks, all of them refused"));
        say(
            string.concat(
                string.concat(_s(sum.settlements, "settlements"), _s(sum.charges, "that charged")),
                string.concat(_s(sum.releases, "releases"), _s(sum.collections, "collections")),
                string.concat(_s(sum.withdrawals, "withdrawals"), _s(sum.renewals, "renewals")),
                string.concat(_s(sum.closings, "closings"), _s(sum.sales, "sales of licenses")),
                string.concat(_s(sum.recalls, "recalls"), _s(sum.rotations, "rotations")),
                string.concat(_s(sum.jailings, "jailings"), VM.toString(sum.governed), " acts of governance")
            )
        );
    }

    function _s(uint256 count, string memory what) private pure returns (string memory) {
        return string.concat(VM.toString(count), " ", what, ", ");
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
                uint256 due = license.upfrontPaidAt + plans[license.plan - 1].holdPeriod;
                if (clock < due) _pass(due - clock);
                _releaseUpfront(i);
            }
            if (_hasMinimum(i) && license.earlier.open) _closeTerm(i);
            if (_hasMinimum(i) && license.term.open) _closeTerm(i);
            _thaw(i, license.balance);
        }
    }

    function _payAll() private {
        for (uint256 i; i < 2; ++i) {
            if (earnings[operatorOwners[i]] > 0) _withdrawEarnings(operatorOwners[i]);
            if (earnings[publishers[i]] > 0) _withdrawEarnings(publishers[i]);
        }
        for (uint256 i; i < ATTESTORS; ++i) {
            if (_incomeOf(i) > 0) _withdrawIncome(i);
        }
        if (fees > 0) _withdrawFees();
        if (proceeds[BENEFICIARY] > 0) _withdrawProceeds(BENEFICIARY);
        if (proceeds[TREASURY] > 0) _withdrawProceeds(TREASURY);
    }

    function _requireEnded() private view {
        _requireAll();
        for (uint256 i = 1; i <= ledger.length; ++i) {
            _requireAccount(i);
            require(_licenseStatus(i) == LicenseStatus.Closed, "9: a license can't be closed");
            _requireStatus(Machine.License, i);
        }
        for (uint256 i; i < batches.length; ++i) {
            require(_batchStatus(i) == BatchStatus.Collected, "9: a batch can't be collected");
            _requireStatus(Machine.Batch, i);
        }
        for (uint256 i = 1; i <= OPERATORS; ++i) {
            require(_operatorStatus(i) == OperatorStatus.Unstaked, "9: an operator can't leave");
            _requireStatus(Machine.Operator, i);
        }
        address[4] memory holders = [address(escrow), address(staking), address(committee), address(lone)];
        for (uint256 i; i < 4; ++i) {
            require(
                currency.balanceOf(holders[i]) == donations[holders[i]],
                "7: the end left something that nobody can claim"
            );
        }
    }
}

/// @title The market under random calls from everybody
contract MoneyTest {
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
        bytes4[19] memory licensees = [
            Licensees.buy.selector,
            Licensees.deposit.selector,
            Licensees.depositByPermit.selector,
            Licensees.releaseUpfront.selector,
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
        bytes4[14] memory settlers = [
            Settlers.settle.selector,
            Settlers.settle.selector,
            Settlers.settle.selector,
            Settlers.settlePart.selector,
            Settlers.settleLate.selector,
            Settlers.serveBadly.selector,
            Settlers.release.selector,
            Settlers.release.selector,
            Settlers.collect.selector,
            Settlers.payBonus.selector,
            Settlers.addStake.selector,
            Settlers.thawStake.selector,
            Settlers.withdrawStake.selector,
            Settlers.slash.selector
        ];
        bytes4[12] memory others = [
            Actors.recall.selector,
            Actors.closePlan.selector,
            Actors.sellModel.selector,
            Actors.serve.selector,
            Actors.rotate.selector,
            Actors.withdrawEarnings.selector,
            Actors.withdrawFees.selector,
            Actors.withdrawIncome.selector,
            Actors.withdrawProceeds.selector,
            Actors.donate.selector,
            Actors.govern.selector,
            Actors.pause.selector
        ];
        bytes4[20] memory attackers = [
            Attackers.replay.selector,
            Attackers.replayRenumbered.selector,
            Attackers.forge.selector,
            Attackers.settleOutOfTurn.selector,
            Attackers.settleTampered.selector,
            Attackers.shedBill.selector,
            Attackers.trap.selector,
            Attackers.clingOn.selector,
            Attackers.overstay.selector,
            Attackers.renewOthers.selector,
            Attackers.closeEarly.selector,
            Attackers.moveEarly.selector,
            Attackers.sellAndStay.selector,
            Attackers.usurpCommittee.selector,
            Attackers.impersonate.selector,
            Attackers.endWrongly.selector,
            Attackers.trespass.selector,
            Attackers.pilfer.selector,
            Attackers.usurp.selector,
            Attackers.overreach.selector
        ];
        selectors = new bytes4[](65);
        for (uint256 i; i < 19; ++i) selectors[_place(i)] = licensees[i];
        for (uint256 i; i < 14; ++i) selectors[_place(19 + i)] = settlers[i];
        for (uint256 i; i < 12; ++i) selectors[_place(33 + i)] = others[i];
        for (uint256 i; i < 20; ++i) selectors[_place(45 + i)] = attackers[i];
    }

    /// @dev Where one of the 65 stands: forge draws places.
    function _place(uint256 i) internal pure virtual returns (uint256) {
        return i;
    }
}

/// @title The same with other luck
/// @dev Forge gives each contract a core of its own.
contract MoreMoneyTest is MoneyTest {
    function _name() internal pure override returns (string memory) {
        return "MORE_MONEY";
    }

    function _place(uint256 i) internal pure override returns (uint256) {
        return 64 - i;
    }
}
