// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

/// @dev The few of forge's cheatcodes that the campaign uses.
interface Vm {
    function addr(uint256 key) external pure returns (address);

    function prank(address sender) external;

    function sign(uint256 key, bytes32 digest) external pure returns (uint8 v, bytes32 r, bytes32 s);

    function warp(uint256 time) external;
}

Vm constant VM = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));

/// @dev What `targetSelectors` tells forge.
struct FuzzSelector {
    address addr;
    bytes4[] selectors;
}
