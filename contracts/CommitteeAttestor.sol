// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {SignatureChecker} from "@openzeppelin/contracts/utils/cryptography/SignatureChecker.sol";
import {IAttestor} from "./interfaces/IAttestor.sol";
import {BondStatus, ICommitteeAttestor, RotationStatus} from "./interfaces/ICommitteeAttestor.sol";
import {BatchHeader, IUsageEscrow} from "./interfaces/IUsageEscrow.sol";
import {Bps} from "./libraries/Bps.sol";

/// @title A committee of attestors
/// @notice HOLDS its members' bonds, and what members and reporters have earned and not withdrawn: its balance is the sum of
/// all bonds and all incomes.
/// STATES of a rotation: announced → present → former → past, by time alone; one that is announced may be replaced. Of a bond:
/// posted → thawing → thawed → gone, or back to posted; in each it may be slashed, for ever.
/// WHO: the present committee's members, as much weight as its threshold asks for, announce the next one; a member's payee posts
/// its bond, thaws and withdraws it; anybody shows that a signer contradicted itself, and has a released batch's share divided
/// among those who signed it; payees and reporters withdraw their own. Nobody else changes who may sign.
/// ALWAYS: a signature counts only while its signer's bond, posted by the payee that the committee named, covers its weight and
/// isn't on its way out; a bond covers no more than it holds.
/// ASSUMES that the escrow pays what it says it pays, and a currency that moves what it is told to move (checked on the way in).
/// UNITS AND ROUNDING: money in currency units, times in Unix seconds. What doesn't divide of an income is the first signer's, of a
/// slash the treasury's.
/// A note of who signed is the number of their rotation (upper 16 bits) and a bit field: bit i is its i-th member. A
/// threshold above half of the weight makes any two quorums of a rotation overlap; signers of two rotations never count together.
contract CommitteeAttestor is ICommitteeAttestor, EIP712, ReentrancyGuardTransient {
    using SafeERC20 for IERC20;

    /// @dev What settlement reads of a member, in one word.
    struct Place {
        uint8 index;
        uint16 weight;
        bool isBonded;
    }

    uint256 public constant MAX_MEMBERS = 32;
    /// @dev What a report earns of a bond: too little for a member to gain by reporting itself.
    uint256 public constant REWARD_BPS = 1_000;
    uint256 private constant MAX_ROTATIONS = 1 << 16;
    /// @dev How much longer a rotation waits than its effect on use can take.
    uint256 private constant MARGIN = 1 hours;
    bytes32 private constant MEMBER_TYPEHASH = keccak256("Member(bytes signer,uint16 weight,address payee)");
    bytes32 private constant ROTATION_TYPEHASH = keccak256(
        "Rotation(Member[] members,uint64 threshold,uint256 nonce,uint256 deadline)"
        "Member(bytes signer,uint16 weight,address payee)"
    );

    IUsageEscrow public immutable ESCROW;
    IERC20 public immutable CURRENCY;
    uint256 public immutable BOND;
    uint256 public immutable BOND_THAW_PERIOD;
    uint256 public immutable ROTATION_PERIOD;
    uint256 private immutable WINDOW_PERIOD;

    uint256 public rotationNonce;
    Rotation[] private _rotations;
    mapping(uint256 rotation => mapping(bytes32 signerHash => Place)) private _places;
    mapping(bytes32 signerHash => mapping(address holder => Bond)) private _bonds;
    mapping(bytes32 signerHash => bool) private _equivocated;
    mapping(address payee => uint256) public incomeOf;

    /// @param bond What a member's bond is for each unit of its weight, in currency units
    /// @param threshold_ How much weight must sign: more than half of all
    constructor(
        IUsageEscrow escrow,
        uint64 bond,
        Member[] memory first,
        uint64 threshold_
    ) EIP712("Licet CommitteeAttestor", "1") {
        require(bond > 0, BondUnitZero());

        ESCROW = escrow;
        CURRENCY = escrow.CURRENCY();
        BOND = bond;
        WINDOW_PERIOD = escrow.WINDOW_PERIOD();
        BOND_THAW_PERIOD = 30 days + WINDOW_PERIOD;
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
    /// @param proof abi.encode(bytes[] signers, bytes[] signatures); a member whose bond doesn't cover it is passed over
    function vouches(bytes32 digest, bytes calldata proof) external view returns (uint48 signers) {
        uint256 present = presentRotation();
        signers = _signersOf(present, digest, proof);
        if (signers == 0 && present > 0 && _statusOf(present - 1) == RotationStatus.Former) {
            signers = _signersOf(present - 1, digest, proof);
        }
    }

    // Bonds

    /// @inheritdoc ICommitteeAttestor
    function postBond(bytes calldata signer, uint16 weight) external nonReentrant returns (uint256 amount) {
        _requireSigner(signer);
        bytes32 signerHash = keccak256(signer);
        require(!_equivocated[signerHash], SignerEquivocated(signer));
        Bond storage bond = _bonds[signerHash][msg.sender];
        uint256 present = bond.weight;
        bool isThawing = bond.readyAt != 0;
        require(weight > present || (isThawing && weight == present), BondNotRaised(signer, weight, present));

        amount = (weight - present) * BOND;
        (bond.weight, bond.readyAt) = (weight, 0);
        _updatePlaces(signerHash);

        emit BondPosted(msg.sender, signer, weight, amount);

        _collect(amount);
    }

    /// @inheritdoc ICommitteeAttestor
    function thawBond(bytes calldata signer) external returns (uint256 readyAt) {
        bytes32 signerHash = keccak256(signer);
        Bond storage bond = _bonds[signerHash][msg.sender];
        require(bond.weight > 0, BondNone(signer, msg.sender));
        require(bond.readyAt == 0, BondThawing(signer, bond.readyAt));

        readyAt = block.timestamp + BOND_THAW_PERIOD;
        // Timestamps and periods of at most weeks stay far below 2^40.
        bond.readyAt = uint40(readyAt);
        _updatePlaces(signerHash);

        emit BondThawed(msg.sender, signer, readyAt);
    }

    /// @inheritdoc ICommitteeAttestor
    function withdrawBond(bytes calldata signer, address to) external nonReentrant returns (uint256 amount) {
        bytes32 signerHash = keccak256(signer);
        Bond memory bond = _bonds[signerHash][msg.sender];
        require(bond.weight > 0, BondNone(signer, msg.sender));
        require(_isThawed(bond), BondNotThawed(signer, bond.readyAt));

        amount = bond.weight * BOND;
        delete _bonds[signerHash][msg.sender];

        emit BondWithdrawn(msg.sender, signer, to, amount);

        CURRENCY.safeTransfer(to, amount);
    }

    /// @inheritdoc ICommitteeAttestor
    function reportEquivocation(
        bytes calldata signer,
        address holder,
        BatchHeader calldata first,
        bytes calldata firstSignature,
        BatchHeader calldata second,
        bytes calldata secondSignature
    ) external nonReentrant returns (uint256 reward) {
        (bytes32 firstId, bytes32 secondId) = (ESCROW.batchIdOf(first), ESCROW.batchIdOf(second));
        address treasury = ESCROW.TREASURY();
        require(firstId != secondId, BatchesAgree(firstId));
        require(_numberOf(first) == _numberOf(second), BatchesOfTwoNumbers(firstId, secondId));
        require(_hasSigned(signer, firstId, firstSignature), BatchNotSigned(firstId, signer));
        require(_hasSigned(signer, secondId, secondSignature), BatchNotSigned(secondId, signer));
        bytes32 signerHash = keccak256(signer);
        Bond memory bond = _bonds[signerHash][holder];
        require(bond.weight > 0, BondNone(signer, holder));

        uint256 amount = bond.weight * BOND;
        reward = Bps.share(amount, REWARD_BPS);
        _bonds[signerHash][holder] = Bond({weight: 0, readyAt: 0, isSlashed: true});
        _equivocated[signerHash] = true;
        _updatePlaces(signerHash);
        incomeOf[msg.sender] += reward;
        incomeOf[treasury] += amount - reward;

        emit BondSlashed(holder, signer, msg.sender, firstId, secondId, amount, reward);
    }

    // Income

    /// @inheritdoc ICommitteeAttestor
    function shareIncome(bytes32 batchId) external nonReentrant returns (uint256 amount) {
        uint48 signers;
        (amount, signers) = ESCROW.collectAttestorShare(batchId);

        _divide(amount, _rotations[signers >> MAX_MEMBERS].members, signers);

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

    // Views

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
            Member calldata member = next[i];
            hashes[i] = keccak256(abi.encode(MEMBER_TYPEHASH, keccak256(member.signer), member.weight, member.payee));
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

    /// @inheritdoc ICommitteeAttestor
    function weightsOf(uint256 number) external view returns (uint256[] memory weights) {
        if (number >= _rotations.length) return weights;
        Member[] storage committee = _rotations[number].members;
        weights = new uint256[](committee.length);
        for (uint256 i; i < weights.length; ++i) {
            Place memory place = _places[number][keccak256(committee[i].signer)];
            if (place.isBonded) weights[i] = place.weight;
        }
    }

    /// @inheritdoc ICommitteeAttestor
    function bondOf(bytes calldata signer, address holder) external view returns (Bond memory) {
        return _bonds[keccak256(signer)][holder];
    }

    /// @inheritdoc ICommitteeAttestor
    function bondStatusOf(bytes calldata signer, address holder) external view returns (BondStatus) {
        Bond memory bond = _bonds[keccak256(signer)][holder];
        if (bond.weight == 0) return bond.isSlashed ? BondStatus.Slashed : BondStatus.None;
        if (bond.readyAt == 0) return BondStatus.Posted;
        return _isThawed(bond) ? BondStatus.Thawed : BondStatus.Thawing;
    }

    /// @inheritdoc ICommitteeAttestor
    function hasEquivocated(bytes calldata signer) external view returns (bool) {
        return _equivocated[keccak256(signer)];
    }

    // Internals

    /// @dev Only the last of the rotations can be announced, and at most one.
    function _announce(Member[] memory next, uint64 nextThreshold, uint256 since) private returns (uint256 number) {
        number = _rotations.length;
        require(number < MAX_ROTATIONS, RotationsExhausted(number));
        require(next.length > 0, CommitteeEmpty());
        require(next.length <= MAX_MEMBERS, CommitteeTooLarge(next.length, MAX_MEMBERS));
        uint256 weight;
        for (uint256 i; i < next.length; ++i) weight += next[i].weight;
        require(
            uint256(nextThreshold) * 2 > weight && nextThreshold <= weight,
            ThresholdNotMajority(nextThreshold, weight)
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
        _requireSigner(member.signer);
        require(member.weight > 0, WeightZero(member.signer));
        require(member.payee != address(0), PayeeZero(member.signer));
        bytes32 signerHash = keccak256(member.signer);
        require(!_equivocated[signerHash], SignerEquivocated(member.signer));
        require(_places[number][signerHash].weight == 0, SignerTwice(member.signer));

        _places[number][signerHash] = Place({
            // At most MAX_MEMBERS.
            index: uint8(rotation.members.length),
            weight: member.weight,
            isBonded: _isCovered(signerHash, member.payee, member.weight)
        });
        rotation.members.push(member);
    }

    function _withdrawAnnounced() private {
        uint256 number = _rotations.length - 1;
        Member[] storage announced = _rotations[number].members;
        for (uint256 i; i < announced.length; ++i) {
            delete _places[number][keccak256(announced[i].signer)];
        }
        _rotations.pop();
    }

    /// @dev Notes in every rotation whose signatures count, or will, whether a signer's bond covers it there.
    function _updatePlaces(bytes32 signerHash) private {
        uint256 present = presentRotation();
        for (uint256 number = present == 0 ? 0 : present - 1; number < _rotations.length; ++number) {
            Place storage place = _places[number][signerHash];
            if (place.weight == 0) continue;
            address payee = _rotations[number].members[place.index].payee;
            place.isBonded = _isCovered(signerHash, payee, place.weight);
        }
    }

    /// @dev Credits `amount` by weight to the payees of the members in a note, of whom there is at least one.
    function _divide(uint256 amount, Member[] storage committee, uint48 signers) private {
        uint256 weight;
        for (uint256 i; i < committee.length; ++i) {
            if (_isIn(signers, i)) weight += committee[i].weight;
        }
        uint256 rest = amount;
        address first;
        for (uint256 i; i < committee.length; ++i) {
            if (!_isIn(signers, i)) continue;
            address payee = committee[i].payee;
            uint256 part = (amount * committee[i].weight) / weight;
            incomeOf[payee] += part;
            rest -= part;
            if (first == address(0)) first = payee;
        }
        incomeOf[first] += rest;
    }

    /// @dev Takes `amount` from the caller; the whole of it must arrive.
    function _collect(uint256 amount) private {
        uint256 held = CURRENCY.balanceOf(address(this));
        CURRENCY.safeTransferFrom(msg.sender, address(this), amount);
        uint256 received = CURRENCY.balanceOf(address(this)) - held;
        require(received == amount, TransferIncomplete(amount, received));
    }

    /// @dev The note of who signed, if all are members of that rotation and those that count have the weight it asks for; else
    /// zero.
    function _signersOf(uint256 number, bytes32 digest, bytes calldata proof) private view returns (uint48 signers) {
        // Two empty arrays take four words.
        if (proof.length < 128) return 0;
        (bytes[] memory signed, bytes[] memory signatures) = abi.decode(proof, (bytes[], bytes[]));
        if (signed.length != signatures.length) return 0;
        uint256 weight;
        for (uint256 i; i < signed.length; ++i) {
            Place memory place = _places[number][keccak256(signed[i])];
            if (place.weight == 0) return 0;
            if (!place.isBonded) continue;
            // An index is below MAX_MEMBERS.
            uint48 bit = uint48(1 << place.index);
            // Nobody counts twice.
            if (signers & bit != 0 || !_hasSigned(signed[i], digest, signatures[i])) return 0;
            signers |= bit;
            weight += place.weight;
        }
        if (weight < _rotations[number].threshold) return 0;
        // A number is below MAX_ROTATIONS: 16 bits.
        signers |= uint48(number << MAX_MEMBERS);
    }

    /// @dev A key's own signature counts whatever code its account has been given since (EIP-7702): it can't unsay it.
    function _hasSigned(bytes memory signer, bytes32 digest, bytes memory signature) private view returns (bool) {
        if (signer.length == 20) {
            (address recovered, ECDSA.RecoverError error, ) = ECDSA.tryRecover(digest, signature);
            if (error == ECDSA.RecoverError.NoError && recovered == address(bytes20(signer))) return true;
        }
        return SignatureChecker.isValidSignatureNow(signer, digest, signature);
    }

    function _isCovered(bytes32 signerHash, address payee, uint256 weight) private view returns (bool) {
        Bond memory bond = _bonds[signerHash][payee];
        return bond.weight >= weight && bond.readyAt == 0 && !_equivocated[signerHash];
    }

    /// @dev Strictly after the wait, as everything that thaws.
    function _isThawed(Bond memory bond) private view returns (bool) {
        return bond.readyAt != 0 && block.timestamp > bond.readyAt;
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

    function _requireSigner(bytes memory signer) private pure {
        require(signer.length >= 20, SignerInvalid(signer));
    }

    /// @dev What a batch's number counts in, with the number.
    function _numberOf(BatchHeader calldata header) private pure returns (bytes32) {
        return keccak256(abi.encode(header.operatorId, header.planId, header.versionId, header.sequence));
    }

    function _isIn(uint48 signers, uint256 index) private pure returns (bool) {
        return (signers >> index) & 1 == 1;
    }
}
