// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {SignatureChecker} from "@openzeppelin/contracts/utils/cryptography/SignatureChecker.sol";
import {IAttestor} from "./interfaces/IAttestor.sol";
import {ICommitteeAttestor, RotationStatus} from "./interfaces/ICommitteeAttestor.sol";
import {IUsageEscrow} from "./interfaces/IUsageEscrow.sol";

/// @title A committee of attestors
/// @notice HOLDS what its members have earned and not withdrawn: its balance is the sum of all incomes.
/// STATES of a rotation: announced → present → former → past, by time alone; one that is announced may be replaced.
/// WHO: the present committee's members, as many as its threshold asks for, announce the next one; anybody has a released
/// batch's share divided among those who signed it; a payee withdraws its own. Nobody else changes who may sign.
/// ASSUMES that the escrow pays what it says it pays.
/// A note of who signed is the number of their rotation (upper 16 bits) and a bit field: bit i is its i-th member. A
/// threshold above half makes any two quorums of a rotation overlap; signers of two rotations never count together.
contract CommitteeAttestor is ICommitteeAttestor, EIP712, ReentrancyGuardTransient {
    using SafeERC20 for IERC20;

    uint256 public constant MAX_MEMBERS = 32;
    uint256 private constant MAX_ROTATIONS = 1 << 16;
    /// @dev How much longer a rotation waits than its effect on use can take.
    uint256 private constant MARGIN = 1 hours;
    bytes32 private constant MEMBER_TYPEHASH = keccak256("Member(bytes signer,address payee)");
    bytes32 private constant ROTATION_TYPEHASH = keccak256(
        "Rotation(Member[] members,uint64 threshold,uint256 nonce,uint256 deadline)Member(bytes signer,address payee)"
    );

    IUsageEscrow public immutable ESCROW;
    IERC20 public immutable CURRENCY;
    uint256 public immutable ROTATION_PERIOD;
    uint256 private immutable WINDOW_PERIOD;

    uint256 public rotationNonce;
    Rotation[] private _rotations;
    /// @dev By number and signer: the member's index and one.
    mapping(uint256 rotation => mapping(bytes32 signerHash => uint256)) private _places;
    mapping(address payee => uint256) public incomeOf;

    /// @param threshold_ How many must sign: more than half of the members
    constructor(IUsageEscrow escrow, Member[] memory first, uint64 threshold_) EIP712("Licet CommitteeAttestor", "1") {
        ESCROW = escrow;
        CURRENCY = escrow.CURRENCY();
        WINDOW_PERIOD = escrow.WINDOW_PERIOD();
        ROTATION_PERIOD = escrow.EPOCH_PERIOD() + 2 * WINDOW_PERIOD + MARGIN;
        _announce(first, threshold_, block.timestamp);
    }

    /// @inheritdoc ICommitteeAttestor
    function rotate(
        Member[] calldata next,
        uint64 nextThreshold,
        uint256 deadline,
        bytes calldata proof
    ) external returns (uint256 number) {
        require(block.timestamp <= deadline, RotationTooLate(deadline));
        uint256 present = presentRotation();
        bytes32 digest = rotationHash(next, nextThreshold, deadline);
        require(_signersOf(present, digest, proof) != 0, RotationNotSigned(digest));

        ++rotationNonce;
        if (_rotations.length > present + 1) _withdrawAnnounced();
        number = _announce(next, nextThreshold, block.timestamp + ROTATION_PERIOD);
    }

    /// @inheritdoc IAttestor
    /// @param proof abi.encode(bytes[] signers, bytes[] signatures), signers ascending by their keccak256
    function vouches(bytes32 digest, bytes calldata proof) external view returns (uint48 signers) {
        uint256 present = presentRotation();
        signers = _signersOf(present, digest, proof);
        if (signers == 0 && present > 0 && _statusOf(present - 1) == RotationStatus.Former) {
            signers = _signersOf(present - 1, digest, proof);
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
    function presentRotation() public view returns (uint256) {
        uint256 last = _rotations.length - 1;
        return block.timestamp < _rotations[last].since ? last - 1 : last;
    }

    /// @inheritdoc ICommitteeAttestor
    function rotationOf(uint256 number) external view returns (Rotation memory rotation) {
        if (number < _rotations.length) rotation = _rotations[number];
    }

    /// @inheritdoc ICommitteeAttestor
    function statusOf(uint256 number) external view returns (RotationStatus) {
        return _statusOf(number);
    }

    /// @inheritdoc ICommitteeAttestor
    function rotationHash(
        Member[] calldata next,
        uint64 nextThreshold,
        uint256 deadline
    ) public view returns (bytes32) {
        bytes32[] memory hashes = new bytes32[](next.length);
        for (uint256 i; i < next.length; ++i) {
            hashes[i] = keccak256(abi.encode(MEMBER_TYPEHASH, keccak256(next[i].signer), next[i].payee));
        }
        bytes32 membersHash = keccak256(abi.encodePacked(hashes));
        return
            _hashTypedDataV4(
                keccak256(abi.encode(ROTATION_TYPEHASH, membersHash, nextThreshold, rotationNonce, deadline))
            );
    }

    /// @inheritdoc ICommitteeAttestor
    function members() external view returns (Member[] memory) {
        return _rotations[presentRotation()].members;
    }

    /// @inheritdoc ICommitteeAttestor
    function threshold() external view returns (uint64) {
        return _rotations[presentRotation()].threshold;
    }

    /// @dev Only the last of the rotations can be announced, and at most one.
    function _announce(Member[] memory next, uint64 nextThreshold, uint256 since) private returns (uint256 number) {
        number = _rotations.length;
        require(number < MAX_ROTATIONS, RotationsExhausted(number));
        require(next.length > 0, CommitteeEmpty());
        require(next.length <= MAX_MEMBERS, CommitteeTooLarge(next.length, MAX_MEMBERS));
        require(
            uint256(nextThreshold) * 2 > next.length && nextThreshold <= next.length,
            ThresholdNotMajority(nextThreshold, next.length)
        );

        Rotation storage rotation = _rotations.push();
        // Timestamps and periods of at most weeks stay far below 2^40.
        (rotation.threshold, rotation.since) = (nextThreshold, uint40(since));
        for (uint256 i; i < next.length; ++i) {
            _admit(number, rotation, next[i]);
        }

        emit RotationAnnounced(number, next, nextThreshold, since);
    }

    function _admit(uint256 number, Rotation storage rotation, Member memory member) private {
        require(member.signer.length >= 20, SignerInvalid(member.signer));
        require(member.payee != address(0), PayeeZero(member.signer));
        bytes32 signerHash = keccak256(member.signer);
        require(_places[number][signerHash] == 0, SignerTwice(member.signer));

        rotation.members.push(member);
        _places[number][signerHash] = rotation.members.length;
    }

    function _withdrawAnnounced() private {
        uint256 number = _rotations.length - 1;
        Member[] storage announced = _rotations[number].members;
        for (uint256 i; i < announced.length; ++i) {
            delete _places[number][keccak256(announced[i].signer)];
        }
        _rotations.pop();
    }

    /// @dev The note of who signed, if all are of that rotation and as many as it asks for; else zero.
    function _signersOf(uint256 number, bytes32 digest, bytes calldata proof) private view returns (uint48 signers) {
        // Two empty arrays take four words.
        if (proof.length < 128) return 0;
        (bytes[] memory signed, bytes[] memory signatures) = abi.decode(proof, (bytes[], bytes[]));
        if (signed.length < _rotations[number].threshold) return 0;
        for (uint256 i; i < signed.length; ++i) {
            uint256 place = _places[number][keccak256(signed[i])];
            if (place == 0) return 0;
            // A place is at most MAX_MEMBERS.
            signers |= uint48(1 << (place - 1));
        }
        // Ascending, so that nobody counts twice.
        if (!SignatureChecker.areValidSignaturesNow(digest, signed, signatures)) return 0;
        // A number is below MAX_ROTATIONS: 16 bits.
        signers |= uint48(number << MAX_MEMBERS);
    }

    function _statusOf(uint256 number) private view returns (RotationStatus) {
        if (number >= _rotations.length) return RotationStatus.None;
        uint256 present = presentRotation();
        if (number > present) return RotationStatus.Announced;
        if (number == present) return RotationStatus.Present;
        return
            number + 1 == present && block.timestamp <= _rotations[present].since + WINDOW_PERIOD
                ? RotationStatus.Former
                : RotationStatus.Past;
    }

    /// @dev The payees of the members in a note, in the committee's order. A note has at least one.
    function _payeesOf(uint48 signers) private view returns (address[] memory payees) {
        Member[] storage committee = _rotations[signers >> MAX_MEMBERS].members;
        uint256 count;
        payees = new address[](committee.length);
        for (uint256 i; i < payees.length; ++i) {
            if ((signers >> i) & 1 == 1) payees[count++] = committee[i].payee;
        }
        // Shortens the array to those found, which are at most its length.
        assembly ("memory-safe") {
            mstore(payees, count)
        }
    }
}
