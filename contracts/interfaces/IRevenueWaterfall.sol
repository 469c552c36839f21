// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {IERC721} from "@openzeppelin/contracts/token/ERC721/IERC721.sol";
import {AssetId, PayeeId} from "../types/Ids.sol";
import {IAssetRegistry} from "./IAssetRegistry.sol";

/// @title Where assets' income runs: to the assets that they came from, to payees, and to their owners
/// @dev A payee's position is an ERC-721 token: whoever holds it when income is distributed is paid.
interface IRevenueWaterfall is IERC721 {
    /// @param incomeBps Its share of all that the asset earns
    struct Payee {
        PayeeId payeeId;
        uint16 incomeBps;
    }

    /// @param sourceId The child whose income it was; zero for what UsageEscrow sent
    event IncomeCredited(AssetId indexed assetId, AssetId indexed sourceId, uint256 amount);
    event IncomeDistributed(AssetId indexed assetId, uint256 amount);
    /// @param payeeId Whose holder it is; zero for the asset's owner
    event IncomeClaimable(AssetId indexed assetId, address indexed holder, PayeeId indexed payeeId, uint256 amount);
    event IncomeWithdrawn(address indexed payee, address indexed to, uint256 amount);
    event PayeeAdded(PayeeId indexed payeeId, AssetId indexed assetId, address indexed holder, uint16 incomeBps);
    event PayeeGivenUp(PayeeId indexed payeeId, AssetId indexed assetId, address indexed holder);

    error CallerNotAssetOwner(AssetId assetId, address caller);
    error IncomeAboveWhole(uint256 incomeBps);
    error IncomeEmpty(address payee);
    error IncomeShareZero(AssetId assetId);
    error PayeesAboveLimit(AssetId assetId, uint256 most);
    error PotEmpty(AssetId assetId);

    /// @notice Puts what UsageEscrow, which alone may call this, has just sent here into an asset's pot.
    /// @param amount Currency units
    function credit(AssetId assetId, uint256 amount) external;

    /// @notice Gives `holder` a share of an asset's income, until it gives it up, by the asset's owner or whom the owner
    /// approved.
    function addPayee(AssetId assetId, address holder, uint16 incomeBps) external returns (PayeeId payeeId);

    /// @notice Ends a payee's share, by its holder or whom the holder approved: it is the asset's owner's again.
    function giveUp(PayeeId payeeId) external;

    /// @notice Moves an asset's pot on by one hop: its parents' shares into their pots, its payees' to their holders, the rest
    /// to its owner. Anyone may call this.
    function distribute(AssetId assetId) external;

    /// @notice Sends the caller all that is its to claim.
    /// @return amount Currency units
    function withdraw(address to) external returns (uint256 amount);

    /// @notice Where the assets are whose income runs here.
    function ASSETS() external view returns (IAssetRegistry);

    /// @notice What income is in.
    function CURRENCY() external view returns (IERC20);

    /// @notice How many payees an asset may have.
    function MAX_PAYEES() external view returns (uint256);

    /// @notice How many payees there ever were; they are numbered from 1.
    function payeeCount() external view returns (uint256);

    /// @notice An asset's income that waits to be distributed, in currency units.
    function potOf(AssetId assetId) external view returns (uint256);

    /// @notice All income that an asset ever had, in currency units: what its children and their children sent it, too.
    function incomeOf(AssetId assetId) external view returns (uint256);

    /// @notice What `payee` may withdraw, in currency units.
    function claimableOf(address payee) external view returns (uint256);

    /// @notice An asset's payees, in no particular order.
    function payeesOf(AssetId assetId) external view returns (Payee[] memory);

    /// @notice Whose income a payee has a share of; zero for a payee that doesn't exist any more, or never did.
    function assetOf(PayeeId payeeId) external view returns (AssetId);
}
