// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {PlanTerms} from "../interfaces/ILicenseRegistry.sol";
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
    }

    function tariffOf(
        BatchHeader calldata header,
        PlanTerms memory plan,
        uint256 discountBps,
        uint256 unit
    ) external pure returns (Tariff memory) {
        return UsageCharge.tariffOf(header, plan, discountBps, unit);
    }

    /// @notice Charges each case alone.
    function chargeEach(Case[] memory cases) external pure returns (Result[] memory results) {
        results = new Result[](cases.length);
        for (uint256 i; i < cases.length; ++i) {
            (Account account, uint256 amount, EntryStatus status) = UsageCharge.chargeTo(
                cases[i].tariff,
                cases[i].account,
                cases[i].entry
            );
            results[i] = Result(account, amount, status);
        }
    }

    /// @notice Charges each case with something aside alone.
    function chargeEachBeside(CaseBeside[] memory cases) external pure returns (Result[] memory results) {
        results = new Result[](cases.length);
        for (uint256 i; i < cases.length; ++i) {
            (Account account, uint256 amount, EntryStatus status) = UsageCharge.chargeBeside(
                cases[i].tariff,
                cases[i].account,
                cases[i].aside,
                cases[i].entry
            );
            results[i] = Result(account, amount, status);
        }
    }
}
