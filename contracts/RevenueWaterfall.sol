// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {AccessManaged} from "@openzeppelin/contracts/access/manager/AccessManaged.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {IAssetRegistry} from "./interfaces/IAssetRegistry.sol";
import {IRevenueWaterfall} from "./interfaces/IRevenueWaterfall.sol";
import {AssetId} from "./types/Ids.sol";

/// @title Where assets' income runs
/// @notice HOLDS assets' income: its balance is the sum of all pots.
/// WHO: UsageEscrow credits.
/// ASSUMES that UsageEscrow sent what it credits.
contract RevenueWaterfall is IRevenueWaterfall, AccessManaged {
    IERC20 public immutable CURRENCY;
    IAssetRegistry public immutable ASSETS;

    mapping(AssetId assetId => uint256) public potOf;

    constructor(address authority, IERC20 currency, IAssetRegistry assets) AccessManaged(authority) {
        CURRENCY = currency;
        ASSETS = assets;
    }

    /// @inheritdoc IRevenueWaterfall
    function credit(AssetId assetId, uint256 amount) external restricted {
        potOf[assetId] += amount;

        emit IncomeCredited(assetId, AssetId.wrap(0), amount);
    }
}
