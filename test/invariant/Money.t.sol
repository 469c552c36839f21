// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {BatchStatus} from "../../contracts/interfaces/IUsageEscrow.sol";
import {OperatorId} from "../../contracts/types/Ids.sol";
import {Attackers} from "./Attackers.sol";
import {License} from "./Model.sol";
import {FuzzSelector, VM} from "./Vm.sol";

/// @dev The market with everybody in it, a few licenses sold and both operators staked.
contract Campaign is Attackers {
    /// @dev Runs shorter than this prove nothing about how busy they were.
    uint256 private constant LONG = 200;

    constructor() {
        for (uint256 i = 1; i <= OPERATORS; ++i) _addStake(i, 100 * USD);
        for (uint256 i; i < 6; ++i) _buy((i % PLANS) + 1, (i / PLANS) + 1, i % 3, 20 * USD);
        delete tally;
    }

    function requireAll() external view {
        _requireAll();
    }

    /// @dev Ends everything: releases, collects, and lets everyone take what is theirs. Nothing may stay but donations.
    function windUp() external {
        VM.warp(clock);
        for (uint256 i; i < batches.length; ++i) {
            if (batches[i].status == BatchStatus.Held) {
                if (clock < batches[i].releasableAt) _pass(batches[i].releasableAt - clock);
                _release(i);
            }
            if (batches[i].status == BatchStatus.Released) _collect(i);
        }
        for (uint256 i = 1; i <= OPERATORS; ++i) {
            if (pools[i].bonus > 0) _payBonus(i);
            // A bonus that found no shares is whose who stakes next.
            if (pools[i].shares == 0 && pools[i].stake > 0) _addStake(i, pools[i].stake);
        }
        _thawAll();
        for (uint256 i = 1; i <= ledger.length; ++i) {
            if (ledger[i - 1].thawing > 0) _withdraw(i);
        }
        for (uint256 i = 1; i <= OPERATORS; ++i) {
            if (pools[i].thawingShares > 0) _withdrawStake(i);
        }
        for (uint256 i; i < 2; ++i) {
            if (earnings[operatorOwners[i]] > 0) _withdrawEarnings(operatorOwners[i]);
            if (earnings[publishers[i]] > 0) _withdrawEarnings(publishers[i]);
        }
        for (uint256 i; i < 4; ++i) {
            if (incomeOf[address(i < 3 ? committee : lone)][attestorPayees[i]] > 0) _withdrawIncome(i);
        }
        if (fees > 0) _requireReceived(escrow.withdrawFees(), TREASURY, fees);
        if (proceeds[BENEFICIARY] > 0) _withdrawProceeds(BENEFICIARY);
        if (proceeds[TREASURY] > 0) _withdrawProceeds(TREASURY);
        _requireNothingLeft(address(escrow));
        _requireNothingLeft(address(staking));
        _requireNothingLeft(address(committee));
        _requireNothingLeft(address(lone));
    }

    /// @dev A campaign that idles proves nothing.
    function requireBusy() external view {
        if (tally.attempts + tally.attacks < LONG) return;
        require(tally.landed * 100 >= tally.attempts * 60, "the campaign idled: too few attempts landed");
        require(tally.settlements > 0 && tally.charges > 0, "the campaign idled: nothing was charged");
        // Each of these takes time to pass, and a run may be unlucky with any one of them.
        uint256 later = tally.releases + tally.collections + tally.withdrawals + tally.governed;
        require(later > 0, "the campaign idled: nothing was released, collected, withdrawn or governed");
        require(tally.attacks > 0, "the campaign idled: nobody attacked");
    }

    function _thawAll() private {
        for (uint256 i; i < ledger.length; ++i) {
            License storage license = ledger[i];
            VM.prank(license.owner);
            escrow.thaw(_id(i + 1), uint64(license.balance));
            (license.thawing, license.thawReadyAt) = (license.balance, clock + EPOCH + WINDOW);
        }
        for (uint256 i = 1; i <= OPERATORS; ++i) {
            VM.prank(operatorOwners[i - 1]);
            staking.thaw(OperatorId.wrap(uint24(i)), uint128(pools[i].shares));
            (pools[i].thawingShares, pools[i].thawReadyAt) = (pools[i].shares, clock + STAKE_THAW);
        }
        _pass(STAKE_THAW + 1);
    }

    function _requireNothingLeft(address holder) private view {
        require(currency.balanceOf(holder) == donations[holder], "7: the end left something that nobody can claim");
    }
}

/// @title The market under random calls from everybody
contract MoneyTest {
    Campaign private _campaign;

    function setUp() external {
        _campaign = new Campaign();
    }

    function targetContracts() external view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(_campaign);
    }

    function targetSelectors() external view returns (FuzzSelector[] memory targets) {
        bytes4[38] memory selectors = [
            _campaign.buy.selector,
            _campaign.deposit.selector,
            _campaign.depositByPermit.selector,
            _campaign.setCap.selector,
            _campaign.applyCapCut.selector,
            _campaign.raiseGeneration.selector,
            _campaign.thaw.selector,
            _campaign.withdraw.selector,
            _campaign.addStake.selector,
            _campaign.thawStake.selector,
            _campaign.withdrawStake.selector,
            _campaign.serve.selector,
            _campaign.settle.selector,
            _campaign.settleAgain.selector,
            _campaign.settlePart.selector,
            _campaign.settleLate.selector,
            _campaign.release.selector,
            _campaign.collect.selector,
            _campaign.withdrawEarnings.selector,
            _campaign.withdrawFees.selector,
            _campaign.withdrawIncome.selector,
            _campaign.withdrawProceeds.selector,
            _campaign.slash.selector,
            _campaign.sellModel.selector,
            _campaign.donate.selector,
            _campaign.letTimePass.selector,
            _campaign.govern.selector,
            _campaign.pause.selector,
            _campaign.replay.selector,
            _campaign.replayRenumbered.selector,
            _campaign.forge.selector,
            _campaign.settleOutOfTurn.selector,
            _campaign.settleTampered.selector,
            _campaign.shedBill.selector,
            _campaign.trap.selector,
            _campaign.endWrongly.selector,
            _campaign.trespass.selector,
            _campaign.usurp.selector
        ];
        targets = new FuzzSelector[](1);
        targets[0] = FuzzSelector(address(_campaign), new bytes4[](41));
        for (uint256 i; i < 38; ++i) targets[0].selectors[i] = selectors[i];
        targets[0].selectors[38] = _campaign.pilfer.selector;
        targets[0].selectors[39] = _campaign.overreach.selector;
        targets[0].selectors[40] = _campaign.payBonus.selector;
    }

    function invariant_money() external view {
        _campaign.requireAll();
    }

    function afterInvariant() external {
        _campaign.requireBusy();
        _campaign.windUp();
    }
}
