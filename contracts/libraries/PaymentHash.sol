// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {Purchase} from "../interfaces/IUsageEscrow.sol";
import {LicenseId} from "../types/Ids.sol";

/// @dev The EIP-3009 nonces that say what a payment is for, as EIP-712 struct hashes: chain, currency and escrow are said by
/// the authorization that they are in.
library PaymentHash {
    bytes32 internal constant PURCHASE_TYPEHASH = keccak256(
        "Purchase(uint32 planId,uint24 operatorId,address to,uint8 capCode,uint64 amount,uint64 maxPrice,uint40 deadline,"
        "bytes32 salt)"
    );
    bytes32 internal constant DEPOSIT_TYPEHASH = keccak256(
        "Deposit(uint64 licenseId,address owner,uint64 amount,bytes32 salt)"
    );

    function ofPurchase(Purchase calldata purchase, bytes32 salt) internal pure returns (bytes32) {
        return keccak256(abi.encode(PURCHASE_TYPEHASH, purchase, salt));
    }

    function ofDeposit(
        LicenseId licenseId,
        address owner,
        uint64 amount,
        bytes32 salt
    ) internal pure returns (bytes32) {
        return keccak256(abi.encode(DEPOSIT_TYPEHASH, licenseId, owner, amount, salt));
    }
}
