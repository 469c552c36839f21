// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {PlanTerms, Rates, ServiceLevels} from "../../contracts/interfaces/ILicenseRegistry.sol";
import {EntryStatus} from "../../contracts/interfaces/IUsageEscrow.sol";

/// @dev A license's account with a field for each thing, as large as it likes.
struct License {
    bool bought;
    address owner;
    uint256 plan;
    uint256 operator;
    uint256 balance;
    uint256 spent;
    uint256 capCode;
    /// A lower cap that was announced, and when it may be put in force.
    uint256 capCutCode;
    uint256 capCutReadyAt;
    uint256 term;
    uint256 termStartedAt;
    uint256 termEndsAt;
    uint256 generation;
    uint256 thawing;
    uint256 thawReadyAt;
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

/// @dev What a charge is divided into.
struct Shares {
    uint256 operator;
    uint256 publisher;
    uint256 attestor;
    uint256 fee;
    uint256 bonus;
}

/// @title What DESIGN §5 says of money, written a second time: from the text, not from the contracts
/// @dev Plain fields, loops where the contracts have formulas, nothing packed and nothing unchecked.
library Model {
    uint256 internal constant UNIT = 1e6;
    uint256 internal constant MOST_SPENT = 2 ** 56 - 1;

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

    /// @dev The license after one entry of a batch, what was charged and why not more.
    function charge(
        License memory license,
        PlanTerms memory terms,
        Claim memory claim,
        Usage memory usage
    ) internal pure returns (License memory, uint256 amount, EntryStatus status) {
        if (!license.bought) return (license, 0, EntryStatus.UnknownLicense);
        if (license.plan != claim.plan) return (license, 0, EntryStatus.WrongPlan);
        if (license.operator != claim.operator) return (license, 0, EntryStatus.WrongOperator);

        if (license.term == 0 && license.termStartedAt >= claim.epochEnd) {
            return (license, 0, EntryStatus.TermNotRunning);
        }
        if (license.term > 0 && license.termStartedAt > claim.epochStart) {
            return (license, 0, EntryStatus.TermNotRunning);
        }
        if (claim.epochStart >= license.termEndsAt && !terms.renewable) {
            return (license, 0, EntryStatus.TermNotRunning);
        }
        while (claim.epochStart >= license.termEndsAt) {
            license.term += 1;
            license.spent = 0;
            license.termStartedAt = license.termEndsAt;
            license.termEndsAt += terms.termPeriod;
        }

        amount = priceOf(terms.rates, usage, claim.discountBps);
        uint256 cap = capOf(license.capCode);
        if (terms.cap != 0 && terms.cap < cap) cap = terms.cap;
        if (MOST_SPENT < cap) cap = MOST_SPENT;
        uint256 room = license.spent < cap ? cap - license.spent : 0;
        if (amount > room) {
            amount = room;
            status = EntryStatus.CapReached;
        }
        if (amount > license.balance) {
            amount = license.balance;
            status = EntryStatus.BalanceExhausted;
        }
        license.spent += amount;
        license.balance -= amount;
        return (license, amount, status);
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

    /// @dev Whether a plan's service levels can cost its operator anything.
    function hasDiscounts(ServiceLevels memory levels) internal pure returns (bool) {
        return
            levels.availabilityDiscountBps > 0 ||
            levels.severeAvailabilityDiscountBps > 0 ||
            levels.ttftDiscountBps > 0 ||
            levels.severeTtftDiscountBps > 0;
    }
}
