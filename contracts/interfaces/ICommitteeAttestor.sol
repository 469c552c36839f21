// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {IAttestor} from "./IAttestor.sol";

/// @dev Former: its signatures still count, for the settlement window of what it attested to.
enum RotationStatus {
    None,
    Announced,
    Present,
    Former,
    Past
}

/// @title k-of-n attestors, each of whom is paid for the batches that it signed
interface ICommitteeAttestor is IAttestor {
    /// @param signer An ERC-7913 signer: an address, or a verifier's address and a key
    /// @param payee Who may withdraw what the member earns
    struct Member {
        bytes signer;
        address payee;
    }

    /// @param members Who may sign, at most MAX_MEMBERS
    /// @param threshold How many must: more than half of them
    /// @param since From when on, in Unix seconds
    struct Rotation {
        Member[] members;
        uint64 threshold;
        uint40 since;
    }

    event RotationAnnounced(uint256 indexed number, Member[] members, uint64 threshold, uint256 since);
    event IncomeShared(bytes32 indexed batchId, uint48 signers, uint256 amount);
    event IncomeWithdrawn(address indexed payee, address indexed to, uint256 amount);

    error CommitteeEmpty();
    error CommitteeTooLarge(uint256 members, uint256 most);
    error IncomeEmpty(address payee);
    error PayeeZero(bytes signer);
    error RotationNotSigned(bytes32 digest);
    error RotationTooLate(uint256 deadline);
    error RotationsExhausted(uint256 number);
    error SignerInvalid(bytes signer);
    error SignerTwice(bytes signer);
    error ThresholdNotMajority(uint256 threshold, uint256 members);

    /// @notice Announces the next committee, in force after ROTATION_PERIOD, in place of one that is still announced.
    /// @param deadline Until when the signatures count, in Unix seconds
    /// @param proof By the present committee, in the form that `vouches` asks for, over `rotationHash`
    function rotate(
        Member[] calldata members,
        uint64 threshold,
        uint256 deadline,
        bytes calldata proof
    ) external returns (uint256 number);

    /// @notice Collects the committee's share of a released batch and credits it in equal parts to those who signed;
    /// what doesn't divide goes to the first of them. Anyone may call this.
    function shareIncome(bytes32 batchId) external returns (uint256 amount);

    /// @notice Sends all that the caller has earned to `to`.
    function withdraw(address to) external returns (uint256 amount);

    /// @notice From a rotation's announcement to its effect, in seconds: longer than licensees need to leave, and then some
    /// for what the committee that they trusted may still settle.
    function ROTATION_PERIOD() external view returns (uint256);

    /// @notice The number of the committee in force; the first one's is 0.
    function presentRotation() external view returns (uint256);

    /// @notice A committee by its number; no members if it doesn't exist.
    function rotationOf(uint256 number) external view returns (Rotation memory);

    /// @notice Whether a committee's signatures count now.
    function statusOf(uint256 number) external view returns (RotationStatus);

    /// @notice What the present committee signs to announce `members` and `threshold` as its next one, by EIP-712.
    function rotationHash(
        Member[] calldata members,
        uint64 threshold,
        uint256 deadline
    ) external view returns (bytes32);

    /// @notice How often a rotation was announced: each signature announces once.
    function rotationNonce() external view returns (uint256);

    /// @notice The members in force.
    function members() external view returns (Member[] memory);

    /// @notice How many members in force must sign.
    function threshold() external view returns (uint64);

    /// @notice What a payee has earned and not yet withdrawn, in currency units.
    function incomeOf(address payee) external view returns (uint256);
}
