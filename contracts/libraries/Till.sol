// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {IERC3009} from "../interfaces/IERC3009.sol";
import {Authorization, IUsageEscrow} from "../interfaces/IUsageEscrow.sol";

/// @dev What UsageEscrow keeps of all its money, in one storage word.
struct Till {
    /// Of what settles from now on, in basis points.
    uint16 feeBps;
    /// Currency units that may be owed after money came in.
    uint64 depositCeiling;
    /// Unix seconds until which no money comes in.
    uint40 pausedUntil;
    /// Currency units that wait for the treasury: a part of what is owed.
    uint64 protocolFees;
    /// Currency units that are owed to everybody.
    uint64 totalOwed;
}

using TillLib for Till global;

/// @dev The ways of money in and out. What comes in is owed from then on, and what goes out no more.
library TillLib {
    using SafeERC20 for IERC20;

    /// @dev The length of a key's signature: r, s and v.
    uint256 private constant KEY_SIGNATURE = 65;

    /// @dev Lets `amount` come in, which is owed from now on: all together at most the ceiling.
    function admit(Till storage self, uint256 amount) internal returns (uint256 owed) {
        require(block.timestamp >= self.pausedUntil, IUsageEscrow.DepositsPaused(self.pausedUntil));
        owed = self.totalOwed + amount;
        require(owed <= self.depositCeiling, IUsageEscrow.DepositCeilingReached(self.totalOwed, self.depositCeiling));

        // At most the ceiling, which has 64 bits.
        self.totalOwed = uint64(owed);
    }

    /// @dev Takes `amount`, after which `owed` is owed, from the caller.
    function take(IERC20 currency, uint256 amount, uint256 owed) internal {
        if (amount == 0) return;
        currency.safeTransferFrom(msg.sender, address(this), amount);
        _requireCovered(currency, owed);
    }

    /// @dev Takes `amount`, be it zero, after which `owed` is owed, from whoever signed for it, whoever calls. The currency does
    /// so once, and `nonce` says what it is for.
    function takeBy(
        Authorization calldata authorization,
        bytes32 nonce,
        IERC20 currency,
        uint256 amount,
        uint256 owed
    ) internal {
        _receive(IERC3009(address(currency)), amount, authorization, nonce);
        _requireCovered(currency, owed);
    }

    /// @dev Pays out a part of what is owed: 64 bits.
    function pay(Till storage self, IERC20 currency, address to, uint256 amount) internal {
        self.totalOwed -= uint64(amount);

        currency.safeTransfer(to, amount);
    }

    function _receive(IERC3009 currency, uint256 amount, Authorization calldata authorization, bytes32 nonce) private {
        bytes calldata signature = authorization.signature;
        if (signature.length == KEY_SIGNATURE) {
            currency.receiveWithAuthorization(
                authorization.from,
                address(this),
                amount,
                authorization.validAfter,
                authorization.validBefore,
                nonce,
                uint8(signature[64]),
                bytes32(signature[:32]),
                bytes32(signature[32:64])
            );
        } else {
            currency.receiveWithAuthorization(
                authorization.from,
                address(this),
                amount,
                authorization.validAfter,
                authorization.validBefore,
                nonce,
                signature
            );
        }
    }

    /// @dev A currency that lets less arrive than it was told to, or whose balances shrink, is short of what is owed.
    function _requireCovered(IERC20 currency, uint256 owed) private view {
        uint256 held = currency.balanceOf(address(this));
        require(held >= owed, IUsageEscrow.CurrencyShort(held, owed));
    }
}
