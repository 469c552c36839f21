// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {IAssetRegistry} from "../interfaces/IAssetRegistry.sol";
import {ILicenseRegistry} from "../interfaces/ILicenseRegistry.sol";
import {IOperatorRegistry} from "../interfaces/IOperatorRegistry.sol";
import {IPerformanceStaking} from "../interfaces/IPerformanceStaking.sol";

/// @dev What UsageEscrow knows and the libraries don't that settle for it: handed to them, since to ask for it takes calls.
struct SettlementRules {
    ILicenseRegistry licenses;
    IAssetRegistry assets;
    IOperatorRegistry operators;
    IPerformanceStaking staking;
    /// Seconds.
    uint256 epochPeriod;
    uint256 windowPeriod;
    /// One whole unit of the currency.
    uint256 unit;
    /// The protocol fee of what settles now.
    uint256 feeBps;
}
