// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ERC721} from "@openzeppelin/contracts/token/ERC721/ERC721.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";

/// @title The floor of gas: a market without any of the rules
/// @notice Does the least that moves the same money: one packed slot a payer, one signature a batch, no checks beyond the
/// arithmetic. It stands beside UsageEscrow in `npm run bench:gas`, so that what the rules cost can be read off one run.
contract FloorMarket is ERC721 {
    using SafeERC20 for IERC20;

    IERC20 private immutable CURRENCY;
    address private immutable ATTESTOR;

    uint256 private _licenses;
    /// @dev balance (64 bits), spent (56 bits), terms (136 bits)
    mapping(uint256 licenseId => uint256) private _accounts;
    mapping(uint256 licenseId => address) private _keys;
    mapping(address payee => uint256) private _earnings;
    mapping(uint256 assetId => uint256) private _pots;
    mapping(bytes32 batchId => uint256) private _charged;
    uint256 private _stake;
    mapping(address holder => uint256) private _delegations;

    error SignatureWrong();

    constructor(IERC20 currency, address attestor) ERC721("Floor", "FLOOR") {
        CURRENCY = currency;
        ATTESTOR = attestor;
    }

    function buy(uint256 terms) external {
        uint256 licenseId = ++_licenses;
        _accounts[licenseId] = terms << 120;
        _mint(msg.sender, licenseId);
    }

    function deposit(uint256 licenseId, uint256 amount) external {
        _accounts[licenseId] += amount;
        CURRENCY.safeTransferFrom(msg.sender, address(this), amount);
    }

    /// @dev As so many purchases and deposits leave it.
    function open(uint256 count, uint256 terms, uint256 amount) external {
        uint256 last = _licenses + count;
        for (uint256 licenseId = _licenses + 1; licenseId <= last; ++licenseId) {
            _accounts[licenseId] = (terms << 120) + amount;
            _mint(msg.sender, licenseId);
        }
        _licenses = last;
        CURRENCY.safeTransferFrom(msg.sender, address(this), count * amount);
    }

    /// @param entries 16 bytes a license: licenseId (8), amount (8)
    function settle(bytes calldata entries, bytes32 r, bytes32 vs) external {
        bytes32 batchId = keccak256(entries);
        require(ECDSA.recover(batchId, r, vs) == ATTESTOR, SignatureWrong());
        uint256 total;
        for (uint256 i; i < entries.length; i += 16) {
            uint256 entry = uint128(bytes16(entries[i:i + 16]));
            uint256 amount = uint64(entry);
            _accounts[entry >> 64] += (amount << 64) - amount;
            total += amount;
        }
        _charged[batchId] = total;
    }

    function addKeys(uint256 first, uint256 last, address key) external {
        for (uint256 licenseId = first; licenseId <= last; ++licenseId) _keys[licenseId] = key;
    }

    /// @param vouchers 80 bytes a license: licenseId (8), all that was spent (8), r (32), vs (32)
    function claim(bytes calldata vouchers) external {
        uint256 total;
        for (uint256 i; i < vouchers.length; i += 80) {
            bytes calldata voucher = vouchers[i:i + 80];
            uint256 licenseId = uint64(bytes8(voucher));
            bytes32 digest = keccak256(voucher[:16]);
            address signer = ECDSA.recover(digest, bytes32(voucher[16:48]), bytes32(voucher[48:]));
            require(signer == _keys[licenseId], SignatureWrong());
            uint256 account = _accounts[licenseId];
            uint256 amount = uint64(bytes8(voucher[8:16])) - uint56(account >> 64);
            _accounts[licenseId] = account + (amount << 64) - amount;
            total += amount;
        }
        _earnings[msg.sender] += total;
    }

    /// @dev Half of a pot is the parent's, the rest its owner's.
    function distribute(uint256 assetId, uint256 parentId, address owner) external {
        uint256 amount = _pots[assetId];
        _pots[assetId] = 1;
        _pots[parentId] += amount / 2;
        _earnings[owner] += amount - amount / 2;
    }

    function fill(uint256 assetId, uint256 amount) external {
        _pots[assetId] += amount;
    }

    function release(bytes32 batchId, address operator, address publisher, address treasury) external {
        uint256 charged = _charged[batchId];
        _charged[batchId] = 1;
        _earnings[operator] += (charged * 67) / 100;
        _earnings[publisher] += (charged * 30) / 100;
        _earnings[treasury] += (charged * 3) / 100;
    }

    function addStake(uint256 amount) external {
        _stake += amount;
        CURRENCY.safeTransferFrom(msg.sender, address(this), amount);
    }

    function delegate(uint256 amount) external {
        _delegations[msg.sender] += amount;
        CURRENCY.safeTransferFrom(msg.sender, address(this), amount);
    }

    function unstake(uint256 amount) external {
        _delegations[msg.sender] -= amount;
        CURRENCY.safeTransfer(msg.sender, amount);
    }

    function slash(address beneficiary, uint256 amount) external {
        _stake -= amount;
        _earnings[beneficiary] += amount;
    }
}
