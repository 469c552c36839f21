// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {IUsageEscrow, VoucherKey} from "../interfaces/IUsageEscrow.sol";
import {Account, Aside} from "../types/Account.sol";
import {LicenseId} from "../types/Ids.sol";
import {Thaw} from "./Thaw.sol";

/// @dev All that UsageEscrow keeps of licenses.
struct LicenseBook {
    /// The first field, so that `slotOf` finds it.
    mapping(LicenseId licenseId => Account) accounts;
    mapping(LicenseId licenseId => Aside) asides;
    /// Currency units on their way out.
    mapping(LicenseId licenseId => Thaw) thaws;
    /// Lower caps that were announced, by their codes.
    mapping(LicenseId licenseId => Thaw) capCuts;
    /// Operators and roads that were announced: twice the operator's id, and one more for the voucher road.
    mapping(LicenseId licenseId => Thaw) serviceChanges;
    mapping(LicenseId licenseId => IUsageEscrow.Upfront) upfronts;
    /// Until when vouchers of a generation that ended count, in Unix seconds.
    mapping(LicenseId licenseId => mapping(uint256 generation => uint40)) generationEnds;
    mapping(LicenseId licenseId => mapping(uint256 generation => mapping(bytes32 keyId => VoucherKey))) voucherKeys;
}

/// @dev An account where it is stored.
struct AccountSlot {
    Account account;
}

using LicenseBookLib for LicenseBook global;

library LicenseBookLib {
    /// @dev Where `accounts[licenseId]` is: found once, to read and to write it.
    function slotOf(LicenseBook storage book, LicenseId licenseId) internal pure returns (AccountSlot storage slot) {
        // As Solidity finds a mapping's value: by the hash of its key and of the mapping's slot, which is the book's.
        assembly ("memory-safe") {
            mstore(0x00, licenseId)
            mstore(0x20, book.slot)
            slot.slot := keccak256(0x00, 0x40)
        }
    }
}
