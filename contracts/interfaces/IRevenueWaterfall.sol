// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {AssetId} from "../types/Ids.sol";
import {IAssetRegistry} from "./IAssetRegistry.sol";

/// @title Where assets' income waits, and runs on to whom it belongs
interface IRevenueWaterfall {
    /// @param sourceId The asset whose income it was before; zero for what comes from outside
    event IncomeCredited(AssetId indexed assetId, AssetId indexed sourceId, uint256 amount);
    event PotDistributed(AssetId indexed assetId, address indexed owner, uint256 amount);
    event Withdrawn(address indexed payee, address indexed to, uint256 amount);

    error ClaimableEmpty(address payee);
    error PotEmpty(AssetId assetId);

    /// @notice Puts what UsageEscrow, which alone may call this, has just sent here into an asset's pot.
    /// @param amount Currency units
    function credit(AssetId assetId, uint256 amount) external;

    /// @notice Moves an asset's pot on, to whom it belongs. Anyone may call this.
    function distribute(AssetId assetId) external;

    /// @notice Sends all that the caller may claim to `to`.
    function withdraw(address to) external returns (uint256 amount);

    /// @notice The currency of all income.
    function CURRENCY() external view returns (IERC20);

    /// @notice Where the assets are whose income it is.
    function ASSETS() external view returns (IAssetRegistry);

    /// @notice What somebody may withdraw, in currency units.
    function claimableOf(address payee) external view returns (uint256);

    /// @notice An asset's income that waits to be distributed, in currency units.
    function potOf(AssetId assetId) external view returns (uint256);
}
