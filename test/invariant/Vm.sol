// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

/// @dev The few of forge's cheatcodes that the campaign uses.
interface Vm {
    function addr(uint256 key) external pure returns (address);

    /// @dev Deploys a contract as the project compiles it, so that no test needs to be compiled again when it changes.
    function deployCode(string calldata artifact) external returns (address);

    function deployCode(string calldata artifact, bytes calldata arguments) external returns (address);

    function chainId(uint256 id) external;

    /// @dev Gives an account so many wei, whatever it had.
    function deal(address account, uint256 amount) external;

    function envOr(string calldata name, bytes calldata fallback_) external view returns (bytes memory);

    /// @dev Has a contract answer a call with something else.
    function mockCall(address contract_, bytes calldata call, bytes calldata answer) external;

    /// @dev Has a contract refuse a call.
    function mockCallRevert(address contract_, bytes calldata call, bytes calldata reason) external;

    /// @dev What a path leads to, encoded; of several strings, an array.
    function parseJson(string calldata json, string calldata path) external pure returns (bytes memory);

    function parseJsonKeys(string calldata json, string calldata path) external pure returns (string[] memory);

    function prank(address sender) external;

    function publicKeyP256(uint256 key) external pure returns (uint256 x, uint256 y);

    function readFile(string calldata path) external view returns (string memory);

    function setEnv(string calldata name, string calldata value) external;

    function sign(uint256 key, bytes32 digest) external pure returns (uint8 v, bytes32 r, bytes32 s);

    function signP256(uint256 key, bytes32 digest) external pure returns (bytes32 r, bytes32 s);

    function startPrank(address sender) external;

    function stopPrank() external;

    function toString(bytes calldata value) external pure returns (string memory);

    function toString(uint256 value) external pure returns (string memory);

    function warp(uint256 time) external;
}

Vm constant VM = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));

/// @dev What `targetSelectors` tells forge.
struct FuzzSelector {
    address addr;
    bytes4[] selectors;
}

/// @dev Prints a line, where forge shows what tests print.
function say(string memory line) view {
    address console = 0x000000000000000000636F6e736F6c652e6c6f67;
    (bool heard, ) = console.staticcall(abi.encodeWithSignature("log(string)", line));
    require(heard, "forge has no console");
}
