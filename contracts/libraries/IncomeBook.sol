// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {IUsageEscrow} from "../interfaces/IUsageEscrow.sol";
import {AssetId, OperatorId} from "../types/Ids.sol";
import {Bps} from "./Bps.sol";

/// @dev All that UsageEscrow keeps of incomes, in currency units: but for the protocol's fees, which are the caller's to add.
struct IncomeBook {
    mapping(OperatorId operatorId => IUsageEscrow.OperatorIncome) ofOperators;
    mapping(AssetId assetId => uint256) ofAssets;
}

using IncomeBookLib for IncomeBook global;

library IncomeBookLib {
    /// @dev Credits `amount`, less the protocol fee, to an asset.
    function creditAsset(
        IncomeBook storage self,
        AssetId assetId,
        uint256 amount,
        uint256 feeBps
    ) internal returns (uint256 fee) {
        fee = Bps.share(amount, feeBps);
        self.ofAssets[assetId] += amount - fee;
    }

    /// @dev Credits the shares of a charge to operator and asset. `forPool` is at most the operator's.
    function credit(
        IncomeBook storage self,
        OperatorId operatorId,
        AssetId assetId,
        IUsageEscrow.Split memory shares,
        uint256 forPool
    ) internal {
        IUsageEscrow.OperatorIncome memory income = self.ofOperators[operatorId];
        // All that the escrow owes has 64 bits, and these are parts of it.
        unchecked {
            income.earnings += uint64(shares.operator - forPool);
            income.forPool += uint64(forPool + shares.bonus);
        }
        self.ofOperators[operatorId] = income;
        self.ofAssets[assetId] += shares.publisher;
    }

    /// @dev Shares of the gross, which is the charge before the discount: that comes out of the operator's, who gets the rest.
    function split(
        uint256 charged,
        uint256 discountBps,
        uint256 feeBps,
        uint256 publisherBps,
        uint256 attestorBps
    ) internal pure returns (IUsageEscrow.Split memory shares) {
        uint256 gross = (charged * Bps.WHOLE) / (Bps.WHOLE - discountBps);
        shares.fee = Bps.share(gross, feeBps);
        shares.publisher = Bps.share(gross, publisherBps);
        shares.attestor = Bps.share(gross, attestorBps);
        shares.operator = charged - shares.fee - shares.publisher - shares.attestor;
    }
}
