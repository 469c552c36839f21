// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

/// @title What a payee uses of EIP-3009: transfers that their payer has signed
interface IERC3009 {
    /// @notice Moves `value` from whom it is to whom it is for, who calls this: as the standard has it, for signatures of keys.
    function receiveWithAuthorization(
        address from,
        address to,
        uint256 value,
        uint256 validAfter,
        uint256 validBefore,
        bytes32 nonce,
        uint8 v,
        bytes32 r,
        bytes32 s
    ) external;

    /// @notice The same, for signatures of any kind: as USDC has it since its version 2.2, for smart accounts (ERC-1271).
    function receiveWithAuthorization(
        address from,
        address to,
        uint256 value,
        uint256 validAfter,
        uint256 validBefore,
        bytes32 nonce,
        bytes calldata signature
    ) external;
}
