// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {Hashes} from "@openzeppelin/contracts/utils/cryptography/Hashes.sol";
import {P256} from "@openzeppelin/contracts/utils/cryptography/P256.sol";
import {LicenseId, OperatorId} from "../types/Ids.sol";

/// @dev What a voucher says, as it stands packed in calldata before its signature.
///
/// | bits    | field      | unit                                                              |
/// | ------- | ---------- | ----------------------------------------------------------------- |
/// | 0–55    | spent      | currency units, all that was spent in the term                    |
/// | 56–71   | term       | number of the term                                                |
/// | 72–87   | generation | the license's, in which the key was registered                    |
/// | 88–151  | license    | LicenseId                                                         |
/// | 152–159 | scheme     | 0: r and vs follow (EIP-2098); 1: qx, qy, r and s, all of P-256   |
type SignedVoucher is uint256;

using SignedVoucherLib for SignedVoucher global;

library SignedVoucherLib {
    uint256 internal constant ECDSA_SCHEME = 0;
    uint256 internal constant P256_SCHEME = 1;

    /// @dev Bytes before the signature.
    uint256 internal constant HEAD_SIZE = 20;
    uint256 internal constant ECDSA_SIZE = HEAD_SIZE + 64;
    uint256 internal constant P256_SIZE = HEAD_SIZE + 128;

    bytes32 internal constant TYPEHASH = keccak256(
        "Voucher(uint64 licenseId,uint24 operatorId,uint16 generation,uint16 term,uint56 spent)"
    );

    /// @dev The voucher that starts at `offset` of the calldata.
    function at(uint256 offset) internal pure returns (SignedVoucher voucher) {
        // Reading past the end of calldata yields zeros, and `size` tells that too little was there.
        assembly ("memory-safe") {
            voucher := shr(96, calldataload(offset))
        }
    }

    function scheme(SignedVoucher voucher) internal pure returns (uint256) {
        return SignedVoucher.unwrap(voucher) >> 152;
    }

    function licenseId(SignedVoucher voucher) internal pure returns (LicenseId) {
        return LicenseId.wrap(uint64(SignedVoucher.unwrap(voucher) >> 88));
    }

    function generation(SignedVoucher voucher) internal pure returns (uint256) {
        return uint16(SignedVoucher.unwrap(voucher) >> 72);
    }

    function term(SignedVoucher voucher) internal pure returns (uint256) {
        return uint16(SignedVoucher.unwrap(voucher) >> 56);
    }

    function spent(SignedVoucher voucher) internal pure returns (uint256) {
        return uint56(SignedVoucher.unwrap(voucher));
    }

    /// @dev Its bytes with its signature, by its scheme; more than there can be for an unknown one.
    function size(SignedVoucher voucher) internal pure returns (uint256) {
        uint256 number = scheme(voucher);
        if (number == ECDSA_SCHEME) return ECDSA_SIZE;
        return number == P256_SCHEME ? P256_SIZE : type(uint128).max;
    }

    /// @dev What its key signs, by EIP-712.
    function digestOf(
        SignedVoucher voucher,
        OperatorId operatorId,
        bytes32 domainSeparator
    ) internal pure returns (bytes32 digest) {
        bytes32 typeHash = TYPEHASH;
        (LicenseId license, uint256 signedGeneration) = (licenseId(voucher), generation(voucher));
        (uint256 signedTerm, uint256 signedSpent) = (term(voucher), spent(voucher));
        // Both hashes are made behind the free memory pointer, which stays where it is: nothing is kept there.
        assembly ("memory-safe") {
            let free := mload(0x40)
            mstore(free, typeHash)
            mstore(add(free, 0x20), license)
            mstore(add(free, 0x40), operatorId)
            mstore(add(free, 0x60), signedGeneration)
            mstore(add(free, 0x80), signedTerm)
            mstore(add(free, 0xa0), signedSpent)
            let structHash := keccak256(free, 0xc0)
            mstore(free, shl(240, 0x1901))
            mstore(add(free, 0x02), domainSeparator)
            mstore(add(free, 0x22), structHash)
            digest := keccak256(free, 0x42)
        }
    }

    /// @dev The ECDSA key that signed the voucher that starts at `offset` of the calldata; zero for none.
    function ecdsaSignerAt(uint256 offset, bytes32 digest) internal pure returns (address signer) {
        (bytes32 r, bytes32 vs) = _pairAt(offset + HEAD_SIZE);
        (signer, , ) = ECDSA.tryRecover(digest, r, vs);
    }

    /// @dev The P-256 key that a voucher names.
    function p256SignerAt(uint256 offset) internal pure returns (address signer) {
        (bytes32 qx, bytes32 qy) = _pairAt(offset + HEAD_SIZE);
        return _p256Signer(qx, qy);
    }

    /// @dev Whether the P-256 key that a voucher names has signed it: as its usual signers do, over the SHA-256 of the digest.
    function isP256SignedAt(uint256 offset, bytes32 digest) internal view returns (bool) {
        (bytes32 qx, bytes32 qy) = _pairAt(offset + HEAD_SIZE);
        (bytes32 r, bytes32 s) = _pairAt(offset + HEAD_SIZE + 64);
        return P256.verify(sha256(abi.encodePacked(digest)), r, s, qx, qy);
    }

    /// @dev Who signs with a key, as it is registered: of 20 bytes the address of an ECDSA key, of 64 the point of a P-256 key; zero
    /// for what can't sign.
    function signerOf(bytes calldata key) internal pure returns (address) {
        if (key.length == 20) return address(bytes20(key));
        if (key.length != 64) return address(0);
        (bytes32 qx, bytes32 qy) = (bytes32(key[:32]), bytes32(key[32:]));
        return P256.isValidPublicKey(qx, qy) ? _p256Signer(qx, qy) : address(0);
    }

    /// @dev A P-256 key's address is made as an ECDSA key's is: of its point's hash.
    function _p256Signer(bytes32 qx, bytes32 qy) private pure returns (address) {
        return address(uint160(uint256(Hashes.efficientKeccak256(qx, qy))));
    }

    function _pairAt(uint256 offset) private pure returns (bytes32 first, bytes32 second) {
        // The whole voucher was found to be there.
        assembly ("memory-safe") {
            first := calldataload(offset)
            second := calldataload(add(offset, 0x20))
        }
    }
}
