// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {AccessManaged} from "@openzeppelin/contracts/access/manager/AccessManaged.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {IAssetRegistry} from "./interfaces/IAssetRegistry.sol";
import {IRevenueWaterfall} from "./interfaces/IRevenueWaterfall.sol";
import {AssetId} from "./types/Ids.sol";

/// @title Where assets' income runs
/// @notice HOLDS assets' income: its balance is the sum of all pots.
/// WHO: UsageEscrow credits.
/// ASSUMES that UsageEscrow sent what it credits.
contract RevenueWaterfall is IRevenueWaterfall, AccessManaged {
    using SafeERC20 for IERC20;

    IERC20 public immutable CURRENCY;
    IAssetRegistry public immutable ASSETS;

    mapping(AssetId assetId => uint256) public potOf;
    mapping(address payee => uint256) public claimableOf;

    constructor(address authority, IERC20 currency, IAssetRegistry assets) AccessManaged(authority) {
        CURRENCY = currency;
        ASSETS = assets;
    }

    /// @inheritdoc IRevenueWaterfall
    function credit(AssetId assetId, uint256 amount) external restricted {
        potOf[assetId] += amount;

        emit IncomeCredited(assetId, AssetId.wrap(0), amount);
    }

    /// @inheritdoc IRevenueWaterfall
    function distribute(AssetId assetId) external {
        uint256 amount = potOf[assetId];
        require(amount > 0, PotEmpty(assetId));
        address owner = ASSETS.ownerOf(AssetId.unwrap(assetId));

        delete potOf[assetId];
        claimableOf[owner] += amount;

        emit PotDistributed(assetId, owner, amount);
    }

    /// @inheritdoc IRevenueWaterfall
    function withdraw(address to) external returns (uint256 amount) {
        amount = claimableOf[msg.sender];
        require(amount > 0, ClaimableEmpty(msg.sender));

        delete claimableOf[msg.sender];

        emit Withdrawn(msg.sender, to, amount);

        CURRENCY.safeTransfer(to, amount);
    }
}
