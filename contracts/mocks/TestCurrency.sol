// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {ERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/ERC20Permit.sol";
import {SignatureChecker} from "@openzeppelin/contracts/utils/cryptography/SignatureChecker.sol";

/// @title A currency for tests and demos that behaves like USDC: six decimals, EIP-2612, EIP-3009
/// @notice Anybody may mint it: it is worth nothing.
contract TestCurrency is ERC20Permit {
    bytes32 public constant TRANSFER_WITH_AUTHORIZATION_TYPEHASH = keccak256(
        "TransferWithAuthorization(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce)"
    );
    bytes32 public constant RECEIVE_WITH_AUTHORIZATION_TYPEHASH = keccak256(
        "ReceiveWithAuthorization(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce)"
    );
    bytes32 public constant CANCEL_AUTHORIZATION_TYPEHASH = keccak256(
        "CancelAuthorization(address authorizer,bytes32 nonce)"
    );

    /// @dev A transfer that its payer has signed.
    struct Authorized {
        address from;
        address to;
        uint256 value;
        uint256 validAfter;
        uint256 validBefore;
        bytes32 nonce;
    }

    /// @notice Whether an authorization's nonce was used or cancelled.
    mapping(address authorizer => mapping(bytes32 nonce => bool)) public authorizationState;

    event AuthorizationUsed(address indexed authorizer, bytes32 indexed nonce);
    event AuthorizationCanceled(address indexed authorizer, bytes32 indexed nonce);

    error AuthorizationExpired(uint256 validBefore);
    error AuthorizationNotYetValid(uint256 validAfter);
    error AuthorizationUsedBefore(address authorizer, bytes32 nonce);
    error CallerNotPayee(address caller, address payee);
    error SignatureInvalid(address signer);

    constructor() ERC20("Test USD", "TUSD") ERC20Permit("Test USD") {}

    function decimals() public pure override returns (uint8) {
        return 6;
    }

    function mint(address to, uint256 amount) external {
        _mint(to, amount);
    }

    /// @notice EIP-3009: a transfer that anybody may execute.
    function transferWithAuthorization(
        address from,
        address to,
        uint256 value,
        uint256 validAfter,
        uint256 validBefore,
        bytes32 nonce,
        uint8 v,
        bytes32 r,
        bytes32 s
    ) external {
        Authorized memory transfer = Authorized(from, to, value, validAfter, validBefore, nonce);
        _moveBy(TRANSFER_WITH_AUTHORIZATION_TYPEHASH, transfer, abi.encodePacked(r, s, v));
    }

    /// @notice The same with a signature of any kind, as USDC has it since its version 2.2.
    function transferWithAuthorization(
        address from,
        address to,
        uint256 value,
        uint256 validAfter,
        uint256 validBefore,
        bytes32 nonce,
        bytes calldata signature
    ) external {
        Authorized memory transfer = Authorized(from, to, value, validAfter, validBefore, nonce);
        _moveBy(TRANSFER_WITH_AUTHORIZATION_TYPEHASH, transfer, signature);
    }

    /// @notice EIP-3009: a transfer that only its payee may execute, so that nobody can front-run what the payee does
    /// with it.
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
    ) external {
        require(msg.sender == to, CallerNotPayee(msg.sender, to));
        Authorized memory transfer = Authorized(from, to, value, validAfter, validBefore, nonce);
        _moveBy(RECEIVE_WITH_AUTHORIZATION_TYPEHASH, transfer, abi.encodePacked(r, s, v));
    }

    /// @notice The same with a signature of any kind, as USDC has it since its version 2.2.
    function receiveWithAuthorization(
        address from,
        address to,
        uint256 value,
        uint256 validAfter,
        uint256 validBefore,
        bytes32 nonce,
        bytes calldata signature
    ) external {
        require(msg.sender == to, CallerNotPayee(msg.sender, to));
        Authorized memory transfer = Authorized(from, to, value, validAfter, validBefore, nonce);
        _moveBy(RECEIVE_WITH_AUTHORIZATION_TYPEHASH, transfer, signature);
    }

    /// @notice EIP-3009: ends an authorization that wasn't used.
    function cancelAuthorization(address authorizer, bytes32 nonce, uint8 v, bytes32 r, bytes32 s) external {
        _cancel(authorizer, nonce, abi.encodePacked(r, s, v));
    }

    /// @notice The same with a signature of any kind, as USDC has it since its version 2.2.
    function cancelAuthorization(address authorizer, bytes32 nonce, bytes calldata signature) external {
        _cancel(authorizer, nonce, signature);
    }

    function _moveBy(bytes32 typehash, Authorized memory transfer, bytes memory signature) private {
        (address from, bytes32 nonce) = (transfer.from, transfer.nonce);
        require(block.timestamp > transfer.validAfter, AuthorizationNotYetValid(transfer.validAfter));
        require(block.timestamp < transfer.validBefore, AuthorizationExpired(transfer.validBefore));
        require(!authorizationState[from][nonce], AuthorizationUsedBefore(from, nonce));
        _requireSigned(from, keccak256(abi.encode(typehash, transfer)), signature);

        authorizationState[from][nonce] = true;

        emit AuthorizationUsed(from, nonce);

        _transfer(from, transfer.to, transfer.value);
    }

    function _cancel(address authorizer, bytes32 nonce, bytes memory signature) private {
        require(!authorizationState[authorizer][nonce], AuthorizationUsedBefore(authorizer, nonce));
        _requireSigned(authorizer, keccak256(abi.encode(CANCEL_AUTHORIZATION_TYPEHASH, authorizer, nonce)), signature);

        authorizationState[authorizer][nonce] = true;

        emit AuthorizationCanceled(authorizer, nonce);
    }

    function _requireSigned(address signer, bytes32 structHash, bytes memory signature) private view {
        bytes32 digest = _hashTypedDataV4(structHash);
        require(SignatureChecker.isValidSignatureNow(signer, digest, signature), SignatureInvalid(signer));
    }
}
