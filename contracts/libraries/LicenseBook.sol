// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {IUsageEscrow, VoucherKey} from "../interfaces/IUsageEscrow.sol";
import {Account, Aside} from "../types/Account.sol";
import {LicenseId} from "../types/Ids.sol";
import {Thaw} from "./Thaw.sol";

/// @dev All that UsageEscrow keeps of licenses; their accounts are where `slotOf` says.
struct LicenseBook {
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
    /// By the license, the generation and the key, all in one word: see `voucherKeyOf`.
    mapping(uint256 => VoucherKey) voucherKeys;
}

/// @dev An account where it is stored.
struct AccountSlot {
    Account account;
}

using LicenseBookLib for LicenseBook global;

library LicenseBookLib {
    /// @dev From here on accounts stand side by side, in the order of their licenses, so that settlement finds each without a
    /// hash: as far from all else in storage as a mapping's values are.
    uint256 private constant ACCOUNTS = uint256(keccak256("licet.accounts")) << 64;

    function slotOf(LicenseBook storage, LicenseId licenseId) internal pure returns (AccountSlot storage slot) {
        uint256 place = ACCOUNTS | LicenseId.unwrap(licenseId);
        assembly ("memory-safe") {
            slot.slot := place
        }
    }

    function voucherKeyOf(
        LicenseBook storage self,
        LicenseId licenseId,
        uint256 generation,
        address signer
    ) internal view returns (VoucherKey storage key) {
        return self.voucherKeys[(uint256(LicenseId.unwrap(licenseId)) << 176) | (generation << 160) | uint160(signer)];
    }
}
