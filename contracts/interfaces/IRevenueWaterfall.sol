// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {AssetId} from "../types/Ids.sol";

/// @title Where assets' income waits, and runs on to whom it belongs
interface IRevenueWaterfall {
    /// @param sourceId The asset whose income it was before; zero for what comes from outside
    event IncomeCredited(AssetId indexed assetId, AssetId indexed sourceId, uint256 amount);

    /// @notice Puts what UsageEscrow, which alone may call this, has just sent here into an asset's pot.
    /// @param amount Currency units
    function credit(AssetId assetId, uint256 amount) external;

    /// @notice An asset's income that waits to be distributed, in currency units.
    function potOf(AssetId assetId) external view returns (uint256);
}
