// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

/// @dev What became of what was to be charged: records without gaps, each of a license (64 bits), of a voucher's term (16 bits)
/// for vouchers alone, of what was charged (56 bits), and of a status (8 bits). They are put in order, at a cursor into memory.
library Outcomes {
    /// @dev How many a call may have.
    uint256 internal constant MOST = 2_000;

    uint256 internal constant ENTRY_SIZE = 16;
    uint256 internal constant VOUCHER_SIZE = 18;

    /// @dev Room for `length` bytes of records, and for the rest of the word that is written with the last of them.
    function reserve(uint256 length) internal pure returns (bytes memory outcomes) {
        outcomes = new bytes(length + 32);
        assembly ("memory-safe") {
            mstore(outcomes, length)
        }
    }

    /// @dev Where the first record goes.
    function start(bytes memory outcomes) internal pure returns (uint256 cursor) {
        assembly ("memory-safe") {
            cursor := add(outcomes, 0x20)
        }
    }

    /// @dev Ends them at the cursor: what was reserved beyond it is none of them.
    function finish(bytes memory outcomes, uint256 cursor) internal pure {
        assembly ("memory-safe") {
            mstore(outcomes, sub(cursor, add(outcomes, 0x20)))
        }
    }

    /// @dev Puts an entry's record. `licenseId` has at most 64 bits, `amount` 56, and `status` 8.
    function putEntry(
        uint256 cursor,
        uint256 licenseId,
        uint256 amount,
        uint256 status
    ) internal pure returns (uint256 next) {
        return _put(cursor, (licenseId << 192) | (amount << 136) | (status << 128), ENTRY_SIZE);
    }

    /// @dev Puts a voucher's record; `term` has at most 16 bits.
    function putVoucher(
        uint256 cursor,
        uint256 licenseId,
        uint256 term,
        uint256 amount,
        uint256 status
    ) internal pure returns (uint256 next) {
        uint256 record = (licenseId << 192) | (term << 176) | (amount << 120) | (status << 112);
        return _put(cursor, record, VOUCHER_SIZE);
    }

    /// @dev What was charged of the `index`-th of entries' outcomes.
    function amountAt(bytes calldata outcomes, uint256 index) internal pure returns (uint256) {
        uint256 start_ = index * ENTRY_SIZE;
        return uint56(uint128(bytes16(outcomes[start_:start_ + ENTRY_SIZE])) >> 8);
    }

    /// @dev Writes zeros over what comes after the record: a word's room was reserved for that.
    function _put(uint256 cursor, uint256 record, uint256 size) private pure returns (uint256 next) {
        assembly ("memory-safe") {
            mstore(cursor, record)
            next := add(cursor, size)
        }
    }
}
