// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {MultiSignerERC7913} from "@openzeppelin/contracts/utils/cryptography/signers/MultiSignerERC7913.sol";
import {IAttestor} from "./interfaces/IAttestor.sol";
import {ICommitteeAttestor} from "./interfaces/ICommitteeAttestor.sol";
import {IUsageEscrow} from "./interfaces/IUsageEscrow.sol";

/// @title A committee of attestors
/// @notice HOLDS what its members have earned and not withdrawn: its balance is the sum of all incomes.
/// STATES: none; members and threshold are fixed at deployment.
/// WHO: anybody has a released batch's share divided among those who signed it; a payee withdraws its own.
/// ASSUMES that the escrow pays what it says it pays.
/// A note of who signed is a bit field: bit i is the i-th member. A threshold above half makes any two quorums overlap.
contract CommitteeAttestor is ICommitteeAttestor, MultiSignerERC7913, ReentrancyGuardTransient {
    using SafeERC20 for IERC20;

    /// @dev The note has 48 bits, of which the upper 16 are left for the number of a rotation.
    uint256 public constant MAX_MEMBERS = 32;

    IUsageEscrow public immutable ESCROW;
    IERC20 public immutable CURRENCY;

    Member[] private _members;
    mapping(bytes32 signerHash => uint256 index) private _indexOf;
    mapping(address payee => uint256) public incomeOf;

    /// @param threshold How many must sign: more than half of the members
    constructor(
        IUsageEscrow escrow,
        Member[] memory committee,
        uint64 threshold
    ) MultiSignerERC7913(_signersOf(committee), threshold) {
        require(committee.length <= MAX_MEMBERS, CommitteeTooLarge(committee.length, MAX_MEMBERS));
        require(uint256(threshold) * 2 > committee.length, ThresholdNotMajority(threshold, committee.length));

        ESCROW = escrow;
        CURRENCY = escrow.CURRENCY();
        for (uint256 i; i < committee.length; ++i) {
            require(committee[i].payee != address(0), PayeeZero(committee[i].signer));
            _indexOf[keccak256(committee[i].signer)] = i;
            _members.push(committee[i]);
        }
    }

    /// @inheritdoc IAttestor
    /// @param proof abi.encode(bytes[] signers, bytes[] signatures), signers ascending by their keccak256
    function vouches(bytes32 digest, bytes calldata proof) external view returns (uint48 signers) {
        if (!_rawSignatureValidation(digest, proof)) return 0;
        (bytes[] memory signed, ) = abi.decode(proof, (bytes[], bytes[]));
        for (uint256 i; i < signed.length; ++i) {
            // Every signer is a member, or the validation would have failed, and an index is below MAX_MEMBERS.
            signers |= uint48(1 << _indexOf[keccak256(signed[i])]);
        }
    }

    /// @inheritdoc ICommitteeAttestor
    function shareIncome(bytes32 batchId) external nonReentrant returns (uint256 amount) {
        uint48 signers;
        (amount, signers) = ESCROW.collectAttestorShare(batchId);

        address[] memory payees = _payeesOf(signers);
        uint256 each = amount / payees.length;
        for (uint256 i; i < payees.length; ++i) {
            incomeOf[payees[i]] += each;
        }
        incomeOf[payees[0]] += amount - each * payees.length;

        emit IncomeShared(batchId, signers, amount);
    }

    /// @inheritdoc ICommitteeAttestor
    function withdraw(address to) external nonReentrant returns (uint256 amount) {
        amount = incomeOf[msg.sender];
        require(amount > 0, IncomeEmpty(msg.sender));

        delete incomeOf[msg.sender];

        emit IncomeWithdrawn(msg.sender, to, amount);

        CURRENCY.safeTransfer(to, amount);
    }

    /// @inheritdoc ICommitteeAttestor
    function members() external view returns (Member[] memory) {
        return _members;
    }

    /// @dev The payees of the members in a note, in the committee's order. A note has at least one.
    function _payeesOf(uint48 signers) private view returns (address[] memory payees) {
        uint256 count;
        payees = new address[](_members.length);
        for (uint256 i; i < payees.length; ++i) {
            if ((signers >> i) & 1 == 1) payees[count++] = _members[i].payee;
        }
        // Shortens the array to those found, which are at most its length.
        assembly ("memory-safe") {
            mstore(payees, count)
        }
    }

    function _signersOf(Member[] memory committee) private pure returns (bytes[] memory signers) {
        signers = new bytes[](committee.length);
        for (uint256 i; i < committee.length; ++i) {
            signers[i] = committee[i].signer;
        }
    }
}
