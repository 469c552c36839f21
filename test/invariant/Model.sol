// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {PlanTerms, Rates, ServiceLevels} from "../../contracts/interfaces/ILicenseRegistry.sol";
import {EntryStatus, LicenseStatus, VoucherStatus} from "../../contracts/interfaces/IUsageEscrow.sol";

/// @dev A license's account with a field for each thing, as large as it likes.
struct License {
    bool bought;
    address owner;
    uint256 plan;
    uint256 operator;
    bool onVoucherRoad;
    uint256 balance;
    uint256 capCode;
    /// A lower cap that was announced, and when it may be put in force.
    uint256 capCutCode;
    uint256 capCutReadyAt;
    /// An operator and a road that were announced, and when they may be put in force.
    uint256 nextOperator;
    bool nextOnVoucherRoad;
    uint256 serviceReadyAt;
    uint256 generation;
    uint256 thawing;
    uint256 thawReadyAt;
    /// What the thaw has to bring at least: what was free when it was announced, less what was charged since.
    uint256 promised;
    bool renews;
    /// The running term, or the one that ran last.
    Term term;
    /// The one before, while nobody has closed it, and its plan, if that is another one; else 0.
    Term earlier;
    uint256 earlierPlan;
    /// The plan that it goes over to when it stops; 0 is none.
    uint256 nextPlan;
    /// From when on its use isn't charged: for a transfer, for ever, or until it goes over to another plan; 0 is never.
    uint256 stoppedAt;
    bool ended;
    /// After when it may be transferred; 0 is never.
    uint256 movableAt;
    uint256 upfront;
    uint256 upfrontPaidAt;
    uint256 upfrontReleasableAt;
    uint256 upfrontFeeBps;
}

/// @dev A term of a license: open until nothing can be owed for it any more.
struct Term {
    bool open;
    uint256 number;
    uint256 startedAt;
    uint256 endsAt;
    uint256 spent;
}

/// @dev What a batch says of one license.
struct Usage {
    uint256 licenseId;
    uint256 requests;
    uint256 inputTokens;
    uint256 cachedInputTokens;
    uint256 outputTokens;
    uint256 computeMs;
}

/// @dev What a batch says of all its licenses.
struct Claim {
    uint256 plan;
    uint256 operator;
    uint256 epochStart;
    uint256 epochEnd;
    uint256 discountBps;
}

/// @dev What a voucher says, who brings it when, and what is the matter with its key: nothing, if the status is Charged.
struct Demand {
    uint256 plan;
    uint256 operator;
    bool isByOperator;
    uint256 time;
    uint256 term;
    /// All that was spent in the term.
    uint256 spent;
    VoucherStatus keyStatus;
    uint256 keyCap;
}

/// @dev What a charge is divided into.
struct Shares {
    uint256 operator;
    uint256 publisher;
    uint256 attestor;
    uint256 fee;
    uint256 bonus;
}

/// @title What DESIGN §5 says of money and of time, written a second time: from the text, not from the contracts
/// @dev Plain fields, loops where the contracts have formulas, nothing packed and nothing unchecked.
library Model {
    uint256 internal constant UNIT = 1e6;
    uint256 internal constant MOST_SPENT = 2 ** 56 - 1;
    uint256 internal constant EPOCH = 1 days;
    uint256 internal constant WINDOW = 2 days;
    /// @dev How long use of the running epoch may still settle.
    uint256 internal constant WAIT = EPOCH + WINDOW;
    /// @dev How long what had begun before a stop may still end.
    uint256 internal constant GRACE = 1 hours;
    /// @dev From a recall to its effect.
    uint256 internal constant NOTICE = 7 days;

    /// @dev The dearest discount of all tiers that a measurement misses.
    function discountOf(
        ServiceLevels memory levels,
        uint256 availabilityBps,
        uint256 p95TtftMs,
        uint256 samples
    ) internal pure returns (uint256 discount) {
        if (samples < 20) return 0;
        uint256[4] memory earned;
        if (availabilityBps < levels.availabilityFloorBps) earned[0] = levels.availabilityDiscountBps;
        if (availabilityBps < levels.severeAvailabilityFloorBps) earned[1] = levels.severeAvailabilityDiscountBps;
        if (p95TtftMs > levels.ttftCeilingMs) earned[2] = levels.ttftDiscountBps;
        if (p95TtftMs > levels.severeTtftCeilingMs) earned[3] = levels.severeTtftDiscountBps;
        for (uint256 i; i < 4; ++i) {
            if (earned[i] > discount) discount = earned[i];
        }
    }

    /// @dev Whether a plan's service levels can cost its operator anything.
    function hasDiscounts(ServiceLevels memory levels) internal pure returns (bool) {
        return
            levels.availabilityDiscountBps > 0 ||
            levels.severeAvailabilityDiscountBps > 0 ||
            levels.ttftDiscountBps > 0 ||
            levels.severeTtftDiscountBps > 0;
    }

    /// @dev A licensee's own cap, in currency units; the highest number is none.
    function capOf(uint256 code) internal pure returns (uint256) {
        if (code == 0) return type(uint256).max;
        return (8 + (code % 8)) * 2 ** (code / 8) * UNIT;
    }

    /// @dev Σ meter × rate, a million units a rate, less the discount; each division rounds down.
    function priceOf(Rates memory rates, Usage memory usage, uint256 discountBps) internal pure returns (uint256) {
        uint256 sum = usage.requests * rates.requests;
        sum += usage.inputTokens * rates.inputTokens;
        sum += usage.cachedInputTokens * rates.cachedInputTokens;
        sum += usage.outputTokens * rates.outputTokens;
        sum += usage.computeMs * rates.computeMs;
        return ((sum / 1_000_000) * (10_000 - discountBps)) / 10_000;
    }

    /// @dev Usage as an entry of a batch has it.
    function packed(Usage memory usage) internal pure returns (bytes memory) {
        return
            abi.encodePacked(
                uint64(usage.licenseId),
                uint32(usage.requests),
                uint32(usage.inputTokens),
                uint32(usage.cachedInputTokens),
                uint32(usage.outputTokens),
                uint32(usage.computeMs)
            );
    }

    /// @dev The first term of a license that is bought now.
    function firstTerm(PlanTerms memory terms, uint256 time) internal pure returns (Term memory) {
        return Term({open: true, number: 0, startedAt: time, endsAt: time + terms.termPeriod, spent: 0});
    }

    /// @dev The term that follows another one, from `start` on.
    function nextTerm(Term memory term, PlanTerms memory terms, uint256 start) internal pure returns (Term memory) {
        return
            Term({
                open: true,
                number: (term.number + 1) % 2 ** 16,
                startedAt: start,
                endsAt: start + terms.termPeriod,
                spent: 0
            });
    }

    /// @dev Without a minimum a license starts its terms by being used.
    function renewsItself(PlanTerms memory terms) internal pure returns (bool) {
        return terms.renewable && terms.minimumSpend == 0;
    }

    /// @dev The license after one entry of a batch, what was charged and why not more.
    function charge(
        License memory license,
        PlanTerms memory terms,
        Claim memory claim,
        Usage memory usage
    ) internal pure returns (License memory, uint256 amount, EntryStatus status) {
        status = mismatch(license, claim);
        if (status != EntryStatus.Charged) return (license, 0, status);
        if (license.stoppedAt != 0 && claim.epochStart >= license.stoppedAt) return (license, 0, EntryStatus.Stopped);

        bool isEarlier = license.earlier.open && claim.epochStart < license.earlier.endsAt;
        // The first term of all, or under another plan, takes the epoch in which it began.
        bool isFirst = isEarlier && license.earlierPlan != 0 && license.plan == claim.plan;
        isEarlier = isEarlier && !isFirst;
        Term memory term = isEarlier ? license.earlier : license.term;
        isFirst = isFirst || term.number == 0;
        if (claim.epochStart >= term.endsAt && !renewsItself(terms)) {
            return (license, 0, EntryStatus.TermNotRunning);
        }
        bool began = isFirst ? claim.epochEnd > term.startedAt : claim.epochStart >= term.startedAt;
        if (!began) return (license, 0, EntryStatus.TermNotRunning);
        while (claim.epochStart >= term.endsAt) term = nextTerm(term, terms, term.endsAt);

        amount = priceOf(terms.rates, usage, claim.discountBps);
        uint256 cap = capOf(license.capCode);
        if (terms.cap != 0 && terms.cap < cap) cap = terms.cap;
        if (MOST_SPENT < cap) cap = MOST_SPENT;
        uint256 room = term.spent < cap ? cap - term.spent : 0;
        if (amount > room) {
            amount = room;
            status = EntryStatus.CapReached;
        }
        if (amount > license.balance) {
            amount = license.balance;
            status = EntryStatus.BalanceExhausted;
        }
        term.spent += amount;
        license.balance -= amount;
        license.promised -= license.promised < amount ? license.promised : amount;
        if (isEarlier) license.earlier = term;
        else license.term = term;
        return (license, amount, status);
    }

    /// @dev Why a license isn't the batch's to charge, if it isn't: use before it went over to another plan is under the former.
    function mismatch(License memory license, Claim memory claim) internal pure returns (EntryStatus) {
        if (!license.bought) return EntryStatus.UnknownLicense;
        bool isFormer = license.earlier.open && license.earlierPlan != 0 && claim.epochStart < license.earlier.endsAt;
        bool isOther = license.operator != claim.operator || license.onVoucherRoad;
        bool isPresent = license.plan == claim.plan && !isOther;
        uint256 plan = isFormer && !isPresent ? license.earlierPlan : license.plan;
        if (plan != claim.plan) return EntryStatus.WrongPlan;
        if (license.operator != claim.operator) return EntryStatus.WrongOperator;
        return license.onVoucherRoad ? EntryStatus.WrongRoad : EntryStatus.Charged;
    }

    /// @dev The license after a voucher, what was charged and why not more. Where nothing is charged, nothing changes.
    function redeem(
        License memory license,
        PlanTerms memory terms,
        Demand memory demand
    ) internal pure returns (License memory, uint256 amount, VoucherStatus status) {
        if (!license.bought) return (license, 0, VoucherStatus.UnknownLicense);
        Term memory term;
        if (_isFormer(license, demand)) {
            term = license.earlier;
            if (demand.time >= term.endsAt + WAIT) return (license, 0, VoucherStatus.TermClosed);
        } else {
            if (license.plan != demand.plan) return (license, 0, VoucherStatus.WrongPlan);
            if (license.operator != demand.operator) return (license, 0, VoucherStatus.WrongOperator);
            if (!license.onVoucherRoad) return (license, 0, VoucherStatus.WrongRoad);
            (term, status) = _termOf(license, terms, demand);
        }
        if (status != VoucherStatus.Charged) return (license, 0, status);
        if (demand.spent <= term.spent) return (license, 0, VoucherStatus.NothingDue);
        if (demand.keyStatus != VoucherStatus.Charged) return (license, 0, demand.keyStatus);

        amount = demand.spent - term.spent;
        uint256 cap = capOf(license.capCode);
        if (terms.cap != 0 && terms.cap < cap) cap = terms.cap;
        if (demand.keyCap < cap) cap = demand.keyCap;
        uint256 room = term.spent < cap ? cap - term.spent : 0;
        if (amount > room) (amount, status) = (room, VoucherStatus.CapReached);
        if (amount > license.balance) (amount, status) = (license.balance, VoucherStatus.BalanceExhausted);
        if (amount == 0) return (license, 0, status);
        term.spent += amount;
        license.balance -= amount;
        license.promised -= license.promised < amount ? license.promised : amount;
        if (term.number < license.term.number) license.earlier = term;
        else license.term = term;
        return (license, amount, status);
    }

    /// @dev Whether a voucher is for the last term under the plan that a license has left.
    function _isFormer(License memory license, Demand memory demand) private pure returns (bool) {
        bool isTerm = license.earlier.open && license.earlierPlan != 0 && demand.term + 1 == license.term.number;
        bool isParty = license.operator == demand.operator && license.onVoucherRoad;
        return isTerm && isParty && license.earlierPlan == demand.plan;
    }

    /// @dev The term that a voucher names, if that can be claimed: the status is Charged then.
    function _termOf(
        License memory license,
        PlanTerms memory terms,
        Demand memory demand
    ) private pure returns (Term memory term, VoucherStatus status) {
        bool isLocked = license.stoppedAt != 0 && !license.ended && license.nextPlan == 0;
        if (isLocked && demand.time > license.stoppedAt + WAIT) return (term, VoucherStatus.Stopped);
        term = license.term;
        if (demand.term < term.number) {
            bool isOther = license.earlier.open && license.earlierPlan != 0 && demand.term + 1 == term.number;
            if (isOther) return (term, VoucherStatus.WrongPlan);
            bool isEarlier = license.earlierPlan == 0 && license.earlier.open && license.earlier.number == demand.term;
            return (license.earlier, isEarlier ? VoucherStatus.Charged : VoucherStatus.TermClosed);
        }
        bool canRenew = renewsItself(terms);
        while (canRenew && term.number < demand.term) term = nextTerm(term, terms, term.endsAt);
        bool isLater = demand.term > license.term.number;
        if (isLater && (!canRenew || demand.time < term.startedAt)) return (term, VoucherStatus.TermNotRunning);
        if (isLater && license.stoppedAt != 0 && term.startedAt >= license.stoppedAt) {
            return (term, VoucherStatus.Stopped);
        }
        if (terms.minimumSpend > 0) {
            return (term, term.open ? VoucherStatus.Charged : VoucherStatus.TermClosed);
        }
        bool stopsFirst = license.ended && license.stoppedAt < term.endsAt;
        uint256 lastUse = stopsFirst ? license.stoppedAt : term.endsAt;
        if (demand.time > lastUse + WAIT) return (term, VoucherStatus.TermClosed);
        // The operator alone may give up what it could still claim.
        bool givesUp = isLater && demand.time <= term.startedAt + WAIT;
        if (givesUp && !demand.isByOperator) return (term, VoucherStatus.TermNotRunning);
    }

    /// @dev The license after a charge was given back, and what of that is the asset's. It is taken off the term in which it was
    /// counted, if that is known and no vouchers are signed for it; a term that is closed owes what it lacks then.
    /// @param recalls When versions of the model were recalled
    function giveBack(
        License memory license,
        PlanTerms memory terms,
        Claim memory claim,
        uint256 amount,
        uint256[] storage recalls
    ) internal view returns (License memory, uint256 toAsset) {
        (Term memory term, bool isKnown) = _countedIn(license, claim);
        if (isKnown) toAsset = _uncount(term, terms.minimumSpend, amount, recalls);
        else toAsset = amount < terms.minimumSpend ? amount : terms.minimumSpend;
        license.balance += amount - toAsset;
        return (license, toAsset);
    }

    /// @dev The term in which use was charged, if its counter is still there and may go back.
    function _countedIn(
        License memory license,
        Claim memory claim
    ) private pure returns (Term memory term, bool isKnown) {
        bool isEarlier = license.earlier.open && claim.epochStart < license.earlier.endsAt;
        bool isFirst = isEarlier && license.earlierPlan != 0 && license.plan == claim.plan;
        isEarlier = isEarlier && !isFirst;
        term = isEarlier ? license.earlier : license.term;
        uint256 plan = isEarlier && license.earlierPlan != 0 ? license.earlierPlan : license.plan;
        isFirst = isFirst || license.term.number == (isEarlier ? 1 : 0);
        bool began = isFirst ? claim.epochEnd > term.startedAt : claim.epochStart >= term.startedAt;
        isKnown = plan == claim.plan && began && claim.epochStart < term.endsAt && !license.onVoucherRoad;
    }

    /// @dev Takes `amount` off what was spent in a term.
    function _uncount(
        Term memory term,
        uint256 minimum,
        uint256 amount,
        uint256[] storage recalls
    ) private view returns (uint256 lacks) {
        bool wasOpen = term.open;
        // What it lacked when it was closed, and what it would have lacked.
        term.open = true;
        uint256 lacked = missing(term, minimum, recalls);
        term.spent = term.spent < amount ? 0 : term.spent - amount;
        if (!wasOpen) lacks = missing(term, minimum, recalls) - lacked;
        term.open = wasOpen;
    }

    /// @dev What is missing to the minimum of a term: nothing once a recall is announced in it that takes effect in it.
    /// @param recalls When versions of the model were recalled
    function missing(Term memory term, uint256 minimum, uint256[] storage recalls) internal view returns (uint256) {
        if (!term.open || term.spent >= minimum) return 0;
        for (uint256 i; i < recalls.length; ++i) {
            if (recalls[i] >= term.startedAt && recalls[i] + NOTICE < term.endsAt) return 0;
        }
        return minimum - term.spent;
    }

    /// @dev After when the oldest open term may be closed: no use of it can settle any more.
    function closableAt(License storage license) internal view returns (uint256) {
        if (license.earlier.open) return license.earlier.endsAt + WAIT;
        bool stopsFirst = license.ended && license.stoppedAt < license.term.endsAt;
        return (stopsFirst ? license.stoppedAt : license.term.endsAt) + WAIT;
    }

    /// @dev docs/states.md in words.
    /// @param owesEarlier Whether the term before was under another plan, with a minimum, and isn't closed
    function statusOf(
        License storage license,
        PlanTerms storage terms,
        bool owesEarlier,
        uint256 time
    ) internal view returns (LicenseStatus) {
        if (license.nextPlan != 0) {
            if (time < license.stoppedAt) return LicenseStatus.Running;
            if (license.renews) return LicenseStatus.Lapsed;
        } else if (license.stoppedAt != 0 && !license.ended) {
            bool isMovable = license.movableAt != 0 && time > license.movableAt;
            return isMovable ? LicenseStatus.Movable : LicenseStatus.Locked;
        }
        bool hasMinimum = terms.minimumSpend > 0;
        bool renewsWithUse = terms.renewable && !hasMinimum;
        if (!license.ended) {
            if (time < license.term.endsAt || renewsWithUse) return LicenseStatus.Running;
            if (terms.renewable && license.renews) return LicenseStatus.Lapsed;
        }
        if (hasMinimum) {
            return license.term.open || license.earlier.open ? LicenseStatus.Ended : LicenseStatus.Closed;
        }
        uint256 lastUse = license.term.endsAt;
        if (license.ended && (renewsWithUse || license.stoppedAt < lastUse)) lastUse = license.stoppedAt;
        return time > lastUse + WAIT && !owesEarlier ? LicenseStatus.Closed : LicenseStatus.Ended;
    }

    /// @dev Bps of the gross to all but the operator, who gets the rest; a bonus is half of the fee.
    function split(
        uint256 charged,
        uint256 discountBps,
        uint256 feeBps,
        PlanTerms memory terms,
        bool earnsBonus
    ) internal pure returns (Shares memory shares) {
        uint256 gross = (charged * 10_000) / (10_000 - discountBps);
        shares.fee = (gross * feeBps) / 10_000;
        shares.publisher = (gross * terms.publisherBps) / 10_000;
        shares.attestor = (gross * terms.attestorBps) / 10_000;
        shares.operator = charged - shares.fee - shares.publisher - shares.attestor;
        if (earnsBonus) {
            shares.bonus = shares.fee / 2;
            shares.fee -= shares.bonus;
        }
    }
}
