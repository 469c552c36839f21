// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import {ChargeTerms} from "../interfaces/ILicenseRegistry.sol";
import {BatchHeader, EntryStatus} from "../interfaces/IUsageEscrow.sol";
import {Account, AccountLib, Aside} from "../types/Account.sol";
import {Bps} from "./Bps.sol";
import {UsageEntryLib} from "./UsageEntry.sol";

/// @dev What all entries of a batch have in common: worked out once, used for each.
struct Tariff {
    /// The plan, operator and road that an account must name.
    uint256 parties;
    uint256 epochStart;
    uint256 epochEnd;
    uint256 termPeriod;
    /// Whether a license starts its next term by being charged for it: one without a minimum does.
    bool renewable;
    /// The plan's cap a term, in currency units; what an account can count is as high as it gets.
    uint256 cap;
    /// One whole unit of the currency.
    uint256 unit;
    /// What is left of a price after the discount.
    uint256 keepBps;
    /// Rates in the lanes opposite to their meters: see UsageEntryLib.
    uint256 evenRates;
    uint256 oddRates;
    /// Whether accounts are stored after that: a preview stores none.
    bool stores;
}

/// @dev The charge of one entry to one account. Prices round down, so that the payer gains the fraction.
library UsageCharge {
    /// @dev Rates are for this many units of a meter.
    uint256 internal constant RATE_UNITS = 1_000_000;

    function tariffOf(
        BatchHeader calldata header,
        ChargeTerms memory plan,
        uint256 discountBps,
        uint256 unit
    ) internal pure returns (Tariff memory) {
        (uint256 evenRates, uint256 oddRates) = UsageEntryLib.lanesOf(plan.rates);
        return
            Tariff({
                parties: AccountLib.attestedParties(header.planId, header.operatorId),
                epochStart: header.epochStart,
                epochEnd: header.epochEnd,
                termPeriod: plan.termPeriod,
                renewable: plan.renewable && plan.minimumSpend == 0,
                cap: plan.cap == 0 ? AccountLib.MAX_SPENT : plan.cap,
                unit: unit,
                keepBps: Bps.WHOLE - discountBps,
                evenRates: evenRates,
                oddRates: oddRates,
                stores: true
            });
    }

    /// @dev Σ meter × rate / RATE_UNITS, less the discount, of meters in their lanes. Meters have 32 bits and rates 48: nothing
    /// can overflow, and a price has at most 63 bits.
    function priceOf(Tariff memory tariff, uint256 even, uint256 odd) internal pure returns (uint256) {
        unchecked {
            uint256 cost = UsageEntryLib.cost(even, odd, tariff.evenRates, tariff.oddRates);
            return ((cost / RATE_UNITS) * tariff.keepBps) / Bps.WHOLE;
        }
    }

    /// @dev Whether all of `price` can be charged to `account` as it stands: what `chargeTo` makes of nearly every account, told
    /// with less gas. Where this is so, `account.charged(price)` is all that becomes of it.
    function isPlain(Tariff memory tariff, Account account, uint256 price) internal pure returns (bool plain) {
        // A price has at most 63 bits, a counter 56.
        uint256 spent;
        unchecked {
            spent = price + account.spent();
        }
        // Zero if nothing speaks against it; all at once, since a branch costs more than what it spares.
        uint256 against =
            (account.partiesAndAside() ^ tariff.parties) |
                SafeCast.toUint(!account.isInTerm(tariff.epochStart, tariff.termPeriod)) |
                SafeCast.toUint(price > account.balance()) |
                SafeCast.toUint(spent > tariff.cap);
        uint256 code = account.capCode();
        plain = against == 0 && (code == 0 || spent <= AccountLib.capOf(code, tariff.unit));
    }

    /// @dev What becomes of `account` when `price` is charged to it. Where nothing may be charged, it stays as it was.
    function chargeTo(
        Tariff memory tariff,
        Account account,
        uint256 price
    ) internal pure returns (Account, uint256 amount, EntryStatus status) {
        if (account.parties() != tariff.parties) return (account, 0, _mismatch(tariff, account));
        (Account running, bool runs) = _inTermOf(tariff, account);
        if (!runs) return (account, 0, EntryStatus.TermNotRunning);
        return _chargeIn(tariff, running, price);
    }

    /// @dev As `chargeTo`, for an account with something aside: use that starts after a stop isn't charged, and use of the term
    /// before the running one is charged to the account as it was in that term, under the plan of that time. That counts in
    /// `aside.endedSpent`.
    function chargeBeside(
        Tariff memory tariff,
        Account account,
        Aside memory aside,
        uint256 price
    ) internal pure returns (Account, uint256 amount, EntryStatus status) {
        if (aside.stoppedAt != 0 && tariff.epochStart >= aside.stoppedAt && account.parties() == tariff.parties) {
            return (account, 0, EntryStatus.Stopped);
        }
        if (tariff.epochStart >= aside.endedAt) return chargeTo(tariff, account, price);

        Account before = account.inEndedTerm(aside.endedAt, aside.endedSpent);
        if (aside.formerPlanId.isPlan()) {
            if (account.parties() == tariff.parties) return _chargeToFirstTerm(tariff, account, price);
            before = before.withPlan(aside.formerPlanId);
        }
        (before, amount, status) = chargeTo(tariff, before, price);
        // A counter has 56 bits.
        aside.endedSpent = uint56(before.spent());
        return (account.withBalance(before.balance()), amount, status);
    }

    /// @dev The first term under another plan takes the epoch in which it began, as the first of all does: what came before it
    /// is in batches under the plan of that time.
    function _chargeToFirstTerm(
        Tariff memory tariff,
        Account account,
        uint256 price
    ) private pure returns (Account, uint256, EntryStatus) {
        bool runs = tariff.epochEnd > account.expiresAt() - tariff.termPeriod;
        if (!runs) return (account, 0, EntryStatus.TermNotRunning);
        return _chargeIn(tariff, account, price);
    }

    /// @dev Charges what a term has room for.
    function _chargeIn(
        Tariff memory tariff,
        Account running,
        uint256 price
    ) private pure returns (Account, uint256 amount, EntryStatus status) {
        amount = price;
        uint256 room = Math.saturatingSub(_capOf(tariff, running), running.spent());
        if (amount > room) (amount, status) = (room, EntryStatus.CapReached);
        uint256 balance = running.balance();
        if (amount > balance) (amount, status) = (balance, EntryStatus.BalanceExhausted);
        return (running.charged(amount), amount, status);
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

    /// @dev The lowest of the plan's cap, the licensee's, and the width of the counter.
    function _capOf(Tariff memory tariff, Account account) private pure returns (uint256 cap) {
        cap = tariff.cap;
        uint256 code = account.capCode();
        if (code != 0) {
            uint256 own = AccountLib.capOf(code, tariff.unit);
            if (own < cap) cap = own;
        }
    }

    /// @dev Why an account isn't the batch's to charge.
    function _mismatch(Tariff memory tariff, Account account) private pure returns (EntryStatus) {
        if (!account.exists()) return EntryStatus.UnknownLicense;
        // The parties have the layout of an account.
        Account wanted = Account.wrap(tariff.parties);
        if (account.planId() != wanted.planId()) return EntryStatus.WrongPlan;
        if (account.operatorId() != wanted.operatorId()) return EntryStatus.WrongOperator;
        return EntryStatus.WrongRoad;
    }
}
