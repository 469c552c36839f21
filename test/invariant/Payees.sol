// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {IAssetRegistry} from "../../contracts/interfaces/IAssetRegistry.sol";
import {IRevenueWaterfall} from "../../contracts/interfaces/IRevenueWaterfall.sol";
import {IUsageEscrow} from "../../contracts/interfaces/IUsageEscrow.sol";
import {AssetId, PayeeId} from "../../contracts/types/Ids.sol";
import {Count} from "./Ledger.sol";
import {Publishers} from "./Publishers.sol";
import {Pool, StakeModel} from "./StakeModel.sol";

/// @title What was earned: passed on by anybody, and fetched by those whose it is
abstract contract Payees is Publishers {
    uint256 private constant MOST_PAYEES = 8;

    function payPool(uint256 seed) external attempt(seed) {
        uint256 operator = _anyOperator();
        if (pools[operator].income == 0) operator = 3 - operator;
        _payPool(operator);
    }

    function payAsset(uint256 seed) external attempt(seed) {
        _payAsset(_assetThat(_hasIncome));
    }

    /// @dev One hop, or as many as it takes from one asset to where its income ends.
    function distribute(uint256 seed) external attempt(seed) {
        uint256 asset = _assetThat(_hasPot);
        if (lineage[asset].pot == 0 && lineage[asset].income > 0 && _draw(4) != 0) _payAsset(asset);
        uint256 hops = _draw(4) == 0 ? asset : 1;
        for (; hops > 0 && asset > 0; --hops) {
            if (lineage[asset].pot > 0 || hops == 1) _distribute(asset);
            --asset;
        }
    }

    /// @dev Mostly a share that there is room for.
    function addPayee(uint256 seed) external attempt(seed) {
        uint256 asset = 1 + _draw(assetCount);
        address holder = _draw(2) == 0 ? licensees[_draw(licensees.length)] : publishers[_draw(publishers.length)];
        uint256 shared = _sharedOf(asset);
        uint256 most = _draw(8) == 0 ? 10_000 : (10_000 - shared) / 2;
        _addPayee(asset, holder, _draw(most + 1));
    }

    function movePayee(uint256 seed) external attempt(seed) {
        uint256 payee = _anyPayee();
        if (payee == 0) return _settle(_draft(false));
        address holder = holderOf[payee];
        address heir = licensees[_draw(licensees.length)];
        bytes memory call = abi.encodeCall(waterfall.transferFrom, (holder, heir, payee));
        _mustLand(holder, address(waterfall), call, "7: a payee's sale");
        holderOf[payee] = heir;
        _noteMove(address(waterfall), payee);
    }

    function giveUpPayee(uint256 seed) external attempt(seed) {
        uint256 payee = _anyPayee();
        if (payee == 0 || _draw(4) != 0) return _distribute(_assetThat(_hasPot));
        _giveUpPayee(payee);
    }

    function withdrawEarnings(uint256 seed) external attempt(seed) {
        uint256 operator = _anyOperator();
        if (pools[operator].earnings == 0) operator = 3 - operator;
        _withdrawEarnings(operator);
    }

    function withdrawClaimable(uint256 seed) external attempt(seed) {
        _withdrawClaimable(_anyClaimant());
    }

    function withdrawFees(uint256 seed) external attempt(seed) {
        _withdrawFees();
    }

    function withdrawProceeds(uint256 seed) external attempt(seed) {
        uint256 count = _beneficiaryCount();
        uint256 start = _draw(count);
        for (uint256 i; i < count; ++i) {
            address beneficiary = _beneficiary((start + i) % count);
            if (proceeds[beneficiary] > 0) return _withdrawProceeds(beneficiary);
        }
        _settle(_draft(false));
    }

    function donate(uint256 seed) external attempt(seed) {
        address holder = _holders()[_draw(7)];
        uint256 amount = _draw(USD) + 1;
        currency.mint(DONOR, amount);
        _mustLand(DONOR, address(currency), abi.encodeCall(currency.transfer, (holder, amount)), "1: a donation");
        donations[holder] += amount;
    }

    /// @dev Into the pool, where no more vests at a time than is active; the rest is the operator's owner's.
    function _payPool(uint256 operator) internal {
        Pool storage pool = pools[operator];
        Refusals memory refusals;
        _unless(refusals, pool.income > 0, abi.encodeWithSelector(IUsageEscrow.PoolIncomeEmpty.selector, operator));
        bytes memory call = abi.encodeCall(escrow.payPool, (_operatorId(operator)));
        bytes memory result = _do(_anybody(), address(escrow), call, refusals, "7: a pool's income");
        if (refusals.count > 0) return;
        uint256 due = pool.income;
        require(abi.decode(result, (uint256)) == due, "7: a pool was paid more or less than was due");
        Pool memory after_ = _vested(operator);
        after_.income = 0;
        uint256 vesting;
        if (StakeModel.hasRoom(after_) && after_.active > after_.unvested) {
            vesting = _min(due, after_.active - after_.unvested);
            after_ = StakeModel.withIncome(after_, vesting, clock);
            after_.shortfall -= _min(after_.shortfall, vesting);
        }
        pools[operator] = after_;
        proceeds[operatorOwners[operator - 1]] += due - vesting;
        flows.poolsPaid += due;
        _requirePool(operator);
    }

    /// @dev Into its pot.
    function _payAsset(uint256 id) internal {
        uint256 due = lineage[id].income;
        Refusals memory refusals;
        _unless(refusals, due > 0, abi.encodeWithSelector(IUsageEscrow.AssetIncomeEmpty.selector, id));
        bytes memory call = abi.encodeCall(escrow.payAsset, (AssetId.wrap(uint32(id))));
        bytes memory result = _do(_anybody(), address(escrow), call, refusals, "7: an asset's income");
        if (refusals.count > 0) return;
        require(abi.decode(result, (uint256)) == due, "7: an asset was paid more or less than was due");
        _bookAssetPayment(id);
    }

    function _bookAssetPayment(uint256 id) internal {
        Asset storage asset = lineage[id];
        flows.assetsPaid += asset.income;
        asset.pot += asset.income;
        asset.received += asset.income;
        asset.income = 0;
    }

    /// @dev To its parents what was agreed when it was registered, to whoever hold payees' positions theirs, and the rest to its
    /// owner of now.
    function _distribute(uint256 id) internal {
        Asset storage asset = lineage[id];
        uint256 due = asset.pot;
        Refusals memory refusals;
        _unless(refusals, due > 0, abi.encodeWithSelector(IRevenueWaterfall.PotEmpty.selector, id));
        bytes memory call = abi.encodeCall(waterfall.distribute, (AssetId.wrap(uint32(id))));
        _do(_anybody(), address(waterfall), call, refusals, "7: a distribution");
        if (refusals.count > 0) return;
        asset.pot = 0;
        uint256 rest = due;
        IAssetRegistry.Edge[] storage parents = parentsOf[id];
        for (uint256 i; i < parents.length; ++i) {
            uint256 share = (due * parents[i].incomeBps) / 10_000;
            uint256 parent = AssetId.unwrap(parents[i].parentId);
            lineage[parent].pot += share;
            lineage[parent].received += share;
            rest -= share;
            require(
                waterfall.potOf(parents[i].parentId) == lineage[parent].pot,
                "8: a parent got more or less than was agreed when its child was registered"
            );
        }
        for (uint256 i; i < asset.payees.length; ++i) {
            uint256 share = (due * asset.payees[i].incomeBps) / 10_000;
            _claim(holderOf[PayeeId.unwrap(asset.payees[i].payeeId)], share);
            rest -= share;
        }
        _claim(assets.ownerOf(id), rest);
        _requireAsset(id);
        _count(Count.Distributions);
    }

    function _claim(address owner, uint256 amount) private {
        claimable[owner] += amount;
        claimables += amount;
    }

    function _addPayee(uint256 id, address holder, uint256 incomeBps) internal {
        Asset storage asset = lineage[id];
        uint256 shared = _sharedOf(id) + incomeBps;
        Refusals memory refusals;
        _unless(refusals, incomeBps > 0, abi.encodeWithSelector(IRevenueWaterfall.IncomeShareZero.selector, id));
        _unless(
            refusals,
            asset.payees.length < MOST_PAYEES,
            abi.encodeWithSelector(IRevenueWaterfall.PayeesAboveLimit.selector, id, MOST_PAYEES)
        );
        _unless(
            refusals,
            shared <= 10_000,
            abi.encodeWithSelector(IRevenueWaterfall.IncomeAboveWhole.selector, shared)
        );
        address sender = _anyController(id);
        _unless(
            refusals,
            _mayMove(address(assets), assets.ownerOf(id), id, sender),
            abi.encodeWithSelector(IRevenueWaterfall.CallerNotAssetOwner.selector, id, sender)
        );
        bytes memory call = abi.encodeCall(waterfall.addPayee, (AssetId.wrap(uint32(id)), holder, uint16(incomeBps)));
        bytes memory result = _do(sender, address(waterfall), call, refusals, "8: a payee");
        if (refusals.count > 0) return;
        require(abi.decode(result, (uint256)) == ++payeeCount, "7: a payee's number was used before");
        asset.payees.push(IRevenueWaterfall.Payee(PayeeId.wrap(uint32(payeeCount)), uint16(incomeBps)));
        holderOf[payeeCount] = holder;
    }

    /// @dev The last one takes its place.
    function _giveUpPayee(uint256 payee) internal {
        PayeeId payeeId = PayeeId.wrap(uint32(payee));
        uint256 id = AssetId.unwrap(waterfall.assetOf(payeeId));
        bytes memory call = abi.encodeCall(waterfall.giveUp, (payeeId));
        _mustLand(holderOf[payee], address(waterfall), call, "7: a payee's farewell");
        IRevenueWaterfall.Payee[] storage payees = lineage[id].payees;
        for (uint256 i; i < payees.length; ++i) {
            if (PayeeId.unwrap(payees[i].payeeId) == payee) payees[i] = payees[payees.length - 1];
        }
        payees.pop();
        delete holderOf[payee];
        _noteMove(address(waterfall), payee);
        _requireAsset(id);
    }

    /// @dev What an asset's parents and payees have of its income, in basis points.
    function _sharedOf(uint256 id) internal view returns (uint256 shared) {
        for (uint256 i; i < parentsOf[id].length; ++i) shared += parentsOf[id][i].incomeBps;
        for (uint256 i; i < lineage[id].payees.length; ++i) shared += lineage[id].payees[i].incomeBps;
    }

    /// @dev One that holds a position, or zero.
    function _anyPayee() internal returns (uint256) {
        uint256 start = _draw(payeeCount);
        for (uint256 i; i < payeeCount; ++i) {
            uint256 payee = 1 + ((start + i) % payeeCount);
            if (holderOf[payee] != address(0)) return payee;
        }
        return 0;
    }

    function _assetThat(function(uint256) view returns (bool) isFit) internal returns (uint256) {
        uint256 start = _draw(assetCount);
        for (uint256 i; i < assetCount; ++i) {
            uint256 asset = 1 + ((start + i) % assetCount);
            if (isFit(asset)) return asset;
        }
        return start + 1;
    }

    function _hasIncome(uint256 asset) internal view returns (bool) {
        return lineage[asset].income > 0;
    }

    function _hasPot(uint256 asset) internal view returns (bool) {
        return lineage[asset].pot > 0;
    }

    /// @dev Somebody who has something to claim, if anybody has.
    function _anyClaimant() internal returns (address) {
        uint256 start = _draw(_claimantCount());
        for (uint256 i = 1; i < _claimantCount() && claimable[_claimant(start)] == 0; ++i) {
            start = (start + 1) % _claimantCount();
        }
        return _claimant(start);
    }

    /// @dev Who may have something to claim in the waterfall.
    function _claimant(uint256 i) internal view returns (address) {
        return i < publishers.length ? publishers[i] : licensees[i - publishers.length];
    }

    function _claimantCount() internal view returns (uint256) {
        return publishers.length + licensees.length;
    }

    function _withdrawEarnings(uint256 operator) internal {
        uint256 due = pools[operator].earnings;
        Refusals memory refusals;
        _unless(refusals, due > 0, abi.encodeWithSelector(IUsageEscrow.EarningsEmpty.selector, operator));
        bytes memory call = abi.encodeCall(escrow.withdrawEarnings, (_operatorId(operator), WALLET));
        bytes memory result = _do(operatorOwners[operator - 1], address(escrow), call, refusals, "7: earnings");
        if (refusals.count > 0) return;
        _requireReceived(abi.decode(result, (uint256)), WALLET, due);
        flows.operatorsPaid += due;
        pools[operator].earnings = 0;
    }

    function _withdrawClaimable(address owner) internal {
        uint256 due = claimable[owner];
        Refusals memory refusals;
        _unless(refusals, due > 0, abi.encodeWithSelector(IRevenueWaterfall.IncomeEmpty.selector, owner));
        bytes memory call = abi.encodeCall(waterfall.withdraw, (WALLET));
        bytes memory result = _do(owner, address(waterfall), call, refusals, "7: what was distributed");
        if (refusals.count > 0) return;
        _requireReceived(abi.decode(result, (uint256)), WALLET, due);
        flows.ownersPaid += due;
        claimables -= due;
        claimable[owner] = 0;
    }

    function _withdrawFees() internal {
        Refusals memory refusals;
        _unless(refusals, fees > 0, abi.encodeWithSelector(IUsageEscrow.FeesEmpty.selector));
        bytes memory call = abi.encodeCall(escrow.withdrawFees, ());
        bytes memory result = _do(_anybody(), address(escrow), call, refusals, "7: the protocol's fees");
        if (refusals.count > 0) return;
        _requireReceived(abi.decode(result, (uint256)), TREASURY, fees);
        flows.treasuryPaid += fees;
        fees = 0;
    }

    /// @dev All contracts that money may come to.
    function _holders() internal view returns (address[7] memory) {
        return
            [
                address(escrow),
                address(staking),
                address(waterfall),
                address(committee),
                address(lone),
                address(court),
                address(reports)
            ];
    }

    /// @dev Who may have something of slashes.
    function _beneficiary(uint256 i) internal view returns (address) {
        if (i == 0) return BENEFICIARY;
        return i == 1 ? TREASURY : litigants[i - 2];
    }

    function _beneficiaryCount() internal view returns (uint256) {
        return litigants.length + 2;
    }

    function _withdrawProceeds(address beneficiary) internal {
        bytes memory call = abi.encodeCall(staking.withdrawProceeds, (WALLET));
        bytes memory result = _mustLand(beneficiary, address(staking), call, "6: a slash's proceeds");
        _requireReceived(abi.decode(result, (uint256)), WALLET, proceeds[beneficiary]);
        proceeds[beneficiary] = 0;
    }
}
