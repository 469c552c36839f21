// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {PlanTerms} from "../interfaces/ILicenseRegistry.sol";
import {BatchHeader, EntryStatus} from "../interfaces/IUsageEscrow.sol";
import {Account, AccountLib, Aside} from "../types/Account.sol";
import {Bps} from "./Bps.sol";
import {UsageEntry} from "./UsageEntry.sol";

/// @dev What all entries of a batch have in common: worked out once, used for each.
struct Tariff {
    /// The plan, operator and road that an account must name.
    uint256 parties;
    uint256 epochStart;
    uint256 epochEnd;
    uint256 termPeriod;
    /// Whether a license starts its next term by being charged for it: one without a minimum does.
    bool renewable;
    /// The plan's cap a term, in currency units; the highest number is none.
    uint256 cap;
    /// One whole unit of the currency.
    uint256 unit;
    /// What is left of a price after the discount.
    uint256 keepBps;
    uint256 requestRate;
    uint256 inputTokenRate;
    uint256 cachedInputTokenRate;
    uint256 outputTokenRate;
    uint256 computeMsRate;
}

/// @dev The charge of one entry to one account. Prices round down, so that the payer gains the fraction.
library UsageCharge {
    /// @dev Rates are for this many units of a meter.
    uint256 internal constant RATE_UNITS = 1_000_000;

    function tariffOf(
        BatchHeader calldata header,
        PlanTerms memory plan,
        uint256 discountBps,
        uint256 unit
    ) internal pure returns (Tariff memory) {
        return
            Tariff({
                parties: AccountLib.attestedParties(header.planId, header.operatorId),
                epochStart: header.epochStart,
                epochEnd: header.epochEnd,
                termPeriod: plan.termPeriod,
                renewable: plan.renewable && plan.minimumSpend == 0,
                cap: plan.cap == 0 ? type(uint256).max : plan.cap,
                unit: unit,
                keepBps: Bps.WHOLE - discountBps,
                requestRate: plan.rates.requests,
                inputTokenRate: plan.rates.inputTokens,
                cachedInputTokenRate: plan.rates.cachedInputTokens,
                outputTokenRate: plan.rates.outputTokens,
                computeMsRate: plan.rates.computeMs
            });
    }

    /// @dev What becomes of `account` when `entry` is charged to it. Where nothing may be charged, it stays as it was.
    function chargeTo(
        Tariff memory tariff,
        Account account,
        UsageEntry entry
    ) internal pure returns (Account, uint256 amount, EntryStatus status) {
        if (account.parties() != tariff.parties) return (account, 0, _mismatch(account, tariff.parties));

        (Account running, bool runs) = _inTermOf(tariff, account);
        if (!runs) return (account, 0, EntryStatus.TermNotRunning);

        amount = _charge(tariff, entry);
        uint256 room = _roomUnderCaps(tariff, running);
        if (amount > room) (amount, status) = (room, EntryStatus.CapReached);
        uint256 balance = running.balance();
        if (amount > balance) (amount, status) = (balance, EntryStatus.BalanceExhausted);
        return (running.charged(amount), amount, status);
    }

    /// @dev As `chargeTo`, for an account with something aside: use that starts after a stop isn't charged, and use of the term
    /// before the running one is charged to the account as it was in that term.
    function chargeBeside(
        Tariff memory tariff,
        Account account,
        Aside memory aside,
        UsageEntry entry
    ) internal pure returns (Account, uint256 amount, EntryStatus status) {
        if (aside.stoppedAt != 0 && tariff.epochStart >= aside.stoppedAt && account.parties() == tariff.parties) {
            return (account, 0, EntryStatus.Stopped);
        }
        if (tariff.epochStart >= aside.endedAt) return chargeTo(tariff, account, entry);

        Account before = account.inEndedTerm(aside.endedAt, aside.endedSpent);
        (before, amount, status) = chargeTo(tariff, before, entry);
        return (account.withBalance(before.balance()), amount, status);
    }

    /// @dev The account in the term in which the epoch started. Use that straddles the end of a term counts in that
    /// term; the first term also takes the epoch in which the license was bought.
    function _inTermOf(Tariff memory tariff, Account account) private pure returns (Account, bool runs) {
        unchecked {
            uint256 expiresAt = account.expiresAt();
            if (tariff.epochStart >= expiresAt) {
                if (!tariff.renewable) return (account, false);
                // A plan's term is a day or more: the division is safe, and the new expiry is in (start, start + term].
                uint256 terms = (tariff.epochStart - expiresAt) / tariff.termPeriod + 1;
                return (account.renewed(terms, expiresAt + terms * tariff.termPeriod), true);
            }
            // An account's expiry is its purchase plus whole terms.
            uint256 startedAt = expiresAt - tariff.termPeriod;
            runs = account.term() == 0 ? tariff.epochEnd > startedAt : tariff.epochStart >= startedAt;
            return (account, runs);
        }
    }

    /// @dev Σ meter × rate / RATE_UNITS, less the discount. Meters have 32 bits and rates 48: nothing can overflow.
    function _charge(Tariff memory tariff, UsageEntry entry) private pure returns (uint256) {
        unchecked {
            uint256 price =
                (entry.requests() * tariff.requestRate +
                    entry.inputTokens() * tariff.inputTokenRate +
                    entry.cachedInputTokens() * tariff.cachedInputTokenRate +
                    entry.outputTokens() * tariff.outputTokenRate +
                    entry.computeMs() * tariff.computeMsRate) / RATE_UNITS;
            return (price * tariff.keepBps) / Bps.WHOLE;
        }
    }

    /// @dev What may still be spent in the term under the plan's cap, the licensee's, and the width of the counter.
    function _roomUnderCaps(Tariff memory tariff, Account account) private pure returns (uint256) {
        unchecked {
            uint256 cap = tariff.cap;
            uint256 own = AccountLib.capOf(account.capCode(), tariff.unit);
            if (own < cap) cap = own;
            if (cap > AccountLib.MAX_SPENT) cap = AccountLib.MAX_SPENT;
            uint256 spent = account.spent();
            return cap > spent ? cap - spent : 0;
        }
    }

    /// @dev Why an account isn't the batch's to charge. `parties` has the layout of an account.
    function _mismatch(Account account, uint256 parties) private pure returns (EntryStatus) {
        if (!account.exists()) return EntryStatus.UnknownLicense;
        Account wanted = Account.wrap(parties);
        if (account.planId() != wanted.planId()) return EntryStatus.WrongPlan;
        if (account.operatorId() != wanted.operatorId()) return EntryStatus.WrongOperator;
        return EntryStatus.WrongRoad;
    }
}
