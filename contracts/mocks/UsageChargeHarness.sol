// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {ChargeTerms} from "../interfaces/ILicenseRegistry.sol";
import {BatchHeader, EntryStatus} from "../interfaces/IUsageEscrow.sol";
import {Tariff, UsageCharge} from "../libraries/UsageCharge.sol";
import {UsageEntry} from "../libraries/UsageEntry.sol";
import {Account, Aside} from "../types/Account.sol";

/// @title UsageCharge, for tests to call
contract UsageChargeHarness {
    struct Case {
        Tariff tariff;
        Account account;
        UsageEntry entry;
    }

    struct CaseBeside {
        Tariff tariff;
        Account account;
        Aside aside;
        UsageEntry entry;
    }

    struct Result {
        Account account;
        uint256 amount;
        EntryStatus status;
        bool plain;
        /// What was spent in the term aside, after that.
        uint56 endedSpent;
    }

    function tariffOf(
        BatchHeader calldata header,
        ChargeTerms memory plan,
        uint256 discountBps,
        uint256 unit
    ) external pure returns (Tariff memory) {
        return UsageCharge.tariffOf(header, plan, discountBps, unit);
    }

    /// @notice Charges each case alone.
    function chargeEach(Case[] memory cases) external pure returns (Result[] memory results) {
        results = new Result[](cases.length);
        for (uint256 i; i < cases.length; ++i) {
            (Tariff memory tariff, Account account) = (cases[i].tariff, cases[i].account);
            uint256 price = _priceOf(tariff, cases[i].entry);
            Result memory result = results[i];
            result.plain = UsageCharge.isPlain(tariff, account, price);
            (result.account, result.amount, result.status) = UsageCharge.chargeTo(tariff, account, price);
        }
    }

    /// @notice Charges each case with something aside alone.
    function chargeEachBeside(CaseBeside[] memory cases) external pure returns (Result[] memory results) {
        results = new Result[](cases.length);
        for (uint256 i; i < cases.length; ++i) {
            (Tariff memory tariff, Account account) = (cases[i].tariff, cases[i].account);
            uint256 price = _priceOf(tariff, cases[i].entry);
            Result memory result = results[i];
            result.plain = UsageCharge.isPlain(tariff, account, price);
            (result.account, result.amount, result.status) = UsageCharge.chargeBeside(
                tariff,
                account,
                cases[i].aside,
                price
            );
            result.endedSpent = cases[i].aside.endedSpent;
        }
    }

    function _priceOf(Tariff memory tariff, UsageEntry entry) private pure returns (uint256) {
        (uint256 even, uint256 odd) = entry.lanes();
        return UsageCharge.priceOf(tariff, even, odd);
    }
}
