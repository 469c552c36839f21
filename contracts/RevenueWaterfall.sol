// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {AccessManaged} from "@openzeppelin/contracts/access/manager/AccessManaged.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ERC721} from "@openzeppelin/contracts/token/ERC721/ERC721.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import {IAssetRegistry} from "./interfaces/IAssetRegistry.sol";
import {IRevenueWaterfall} from "./interfaces/IRevenueWaterfall.sol";
import {Bps} from "./libraries/Bps.sol";
import {AssetId, PayeeId} from "./types/Ids.sol";

/// @title Where assets' income runs
/// @notice HOLDS assets' income: its balance is the sum of all pots and of all that is claimable.
/// Income comes into an asset's pot, from UsageEscrow and from its children's pots. `distribute` empties a pot: shares of it
/// go into the parents' pots, and become claimable by payees; the rest becomes claimable by the asset's owner. Each call is
/// one hop: it costs the same however deep a lineage is, and lineage has no cycles, so income comes to its end.
/// ALWAYS: an asset's parents and payees share at most the whole. Parents' shares are AssetRegistry's, fixed for ever; a
/// payee's share lasts until its holder gives it up.
/// WHO: UsageEscrow credits; an asset's owner, or whom the owner approved, adds payees; holders give up; anybody distributes;
/// whoever has something to claim withdraws it. Who owns an asset, or holds a payee's position, when a pot is distributed is
/// paid: it is theirs then, whoever buys the token later.
/// ASSUMES that UsageEscrow sent what it credits, that AssetRegistry's owners and parents are true and its assets never vanish,
/// and a currency that moves what it is told to move.
/// UNITS AND ROUNDING: currency units; shares round down, so that the owner gains what doesn't divide: less than a unit a
/// parent or payee and call.
contract RevenueWaterfall is IRevenueWaterfall, ERC721, AccessManaged, ReentrancyGuardTransient {
    using SafeCast for uint256;
    using SafeERC20 for IERC20;

    uint256 public constant MAX_PAYEES = 8;

    /// @dev What was ever received stands beside what is there: the word is never zero again, so that adding to it stays cheap.
    struct Pot {
        uint128 amount;
        uint128 received;
    }

    IERC20 public immutable CURRENCY;
    IAssetRegistry public immutable ASSETS;

    uint256 public payeeCount;
    mapping(AssetId assetId => Pot) private _pots;
    mapping(AssetId assetId => Payee[]) private _payees;
    mapping(PayeeId payeeId => AssetId) public assetOf;
    mapping(address payee => Pot) private _claimable;

    constructor(
        address authority,
        IERC20 currency,
        IAssetRegistry assets
    ) ERC721("Licet Payee", "LICET-P") AccessManaged(authority) {
        CURRENCY = currency;
        ASSETS = assets;
    }

    /// @inheritdoc IRevenueWaterfall
    function credit(AssetId assetId, uint256 amount) external restricted {
        _addToPot(assetId, AssetId.wrap(0), amount.toUint128());
    }

    /// @inheritdoc IRevenueWaterfall
    function addPayee(AssetId assetId, address holder, uint16 incomeBps) external returns (PayeeId payeeId) {
        Payee[] storage payees = _payees[assetId];
        require(ASSETS.isController(assetId, msg.sender), CallerNotAssetOwner(assetId, msg.sender));
        require(incomeBps > 0, IncomeShareZero(assetId));
        require(payees.length < MAX_PAYEES, PayeesAboveLimit(assetId, MAX_PAYEES));
        uint256 shared = _sharedOf(assetId) + incomeBps;
        require(shared <= Bps.WHOLE, IncomeAboveWhole(shared));

        uint256 tokenId = ++payeeCount;
        // Adding 2^32 payees would take more gas than 10^13 blocks have.
        payeeId = PayeeId.wrap(uint32(tokenId));
        payees.push(Payee(payeeId, incomeBps));
        assetOf[payeeId] = assetId;
        _mint(holder, tokenId);

        emit PayeeAdded(payeeId, assetId, holder, incomeBps);
    }

    /// @inheritdoc IRevenueWaterfall
    function giveUp(PayeeId payeeId) external {
        AssetId assetId = assetOf[payeeId];
        // Reverts unless the caller holds the position, or is approved by who does.
        address holder = _update(address(0), PayeeId.unwrap(payeeId), msg.sender);

        assetOf[payeeId] = AssetId.wrap(0);
        _remove(_payees[assetId], payeeId);

        emit PayeeGivenUp(payeeId, assetId, holder);
    }

    /// @inheritdoc IRevenueWaterfall
    function distribute(AssetId assetId) external {
        Pot storage pot = _pots[assetId];
        uint256 amount = pot.amount;
        require(amount > 0, PotEmpty(assetId));
        address owner = ASSETS.ownerOf(AssetId.unwrap(assetId));
        IAssetRegistry.Edge[] memory parents = ASSETS.parentsOf(assetId);
        Payee[] storage payees = _payees[assetId];

        pot.amount = 0;
        emit IncomeDistributed(assetId, amount);

        uint256 rest = amount;
        for (uint256 i; i < parents.length; ++i) {
            uint256 share = Bps.share(amount, parents[i].incomeBps);
            rest -= share;
            _addToPot(parents[i].parentId, assetId, share);
        }
        for (uint256 i; i < payees.length; ++i) {
            uint256 share = Bps.share(amount, payees[i].incomeBps);
            PayeeId payeeId = payees[i].payeeId;
            rest -= share;
            _addToClaimable(assetId, _requireOwned(PayeeId.unwrap(payeeId)), payeeId, share);
        }
        _addToClaimable(assetId, owner, PayeeId.wrap(0), rest);
    }

    /// @inheritdoc IRevenueWaterfall
    function withdraw(address to) external nonReentrant returns (uint256 amount) {
        Pot storage claimable = _claimable[msg.sender];
        amount = claimable.amount;
        require(amount > 0, IncomeEmpty(msg.sender));

        claimable.amount = 0;

        emit IncomeWithdrawn(msg.sender, to, amount);

        CURRENCY.safeTransfer(to, amount);
    }

    /// @inheritdoc IRevenueWaterfall
    function potOf(AssetId assetId) external view returns (uint256) {
        return _pots[assetId].amount;
    }

    /// @inheritdoc IRevenueWaterfall
    function incomeOf(AssetId assetId) external view returns (uint256) {
        return _pots[assetId].received;
    }

    /// @inheritdoc IRevenueWaterfall
    function claimableOf(address payee) external view returns (uint256) {
        return _claimable[payee].amount;
    }

    /// @inheritdoc IRevenueWaterfall
    function payeesOf(AssetId assetId) external view returns (Payee[] memory) {
        return _payees[assetId];
    }

    /// @dev What an asset's parents and payees have of its income, in basis points.
    function _sharedOf(AssetId assetId) private view returns (uint256 incomeBps) {
        IAssetRegistry.Edge[] memory parents = ASSETS.parentsOf(assetId);
        for (uint256 i; i < parents.length; ++i) incomeBps += parents[i].incomeBps;
        Payee[] memory payees = _payees[assetId];
        for (uint256 i; i < payees.length; ++i) incomeBps += payees[i].incomeBps;
    }

    function _addToPot(AssetId assetId, AssetId sourceId, uint256 amount) private {
        if (amount == 0) return;
        _add(_pots[assetId], amount);

        emit IncomeCredited(assetId, sourceId, amount);
    }

    function _addToClaimable(AssetId assetId, address holder, PayeeId payeeId, uint256 amount) private {
        if (amount == 0) return;
        _add(_claimable[holder], amount);

        emit IncomeClaimable(assetId, holder, payeeId, amount);
    }

    function _add(Pot storage pot, uint256 amount) private {
        // `credit` takes no more than 128 bits, and shares are parts of that.
        (pot.amount, pot.received) = (pot.amount + uint128(amount), pot.received + uint128(amount));
    }

    function _remove(Payee[] storage payees, PayeeId payeeId) private {
        uint256 last = payees.length - 1;
        for (uint256 i; i < last; ++i) {
            if (payees[i].payeeId == payeeId) payees[i] = payees[last];
        }
        payees.pop();
    }
}
