// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {IAttestor} from "./IAttestor.sol";
import {BatchHeader, IUsageEscrow} from "./IUsageEscrow.sol";

/// @dev Former: its signatures still count, for the settlement window of what it attested to.
enum RotationStatus {
    None,
    Announced,
    Present,
    Former,
    Past
}

/// @dev Posted: it covers its signer. Thawing: it is on its way out; Thawed: it may leave. Both may still be lost. Slashed: it was.
enum BondStatus {
    None,
    Posted,
    Thawing,
    Thawed,
    Slashed
}

/// @title Attestors whose signatures count by weight, each bonded, and paid for the batches that it signed
interface ICommitteeAttestor is IAttestor {
    /// @param signer An ERC-7913 signer: an address, or a verifier's address and a key
    /// @param weight What its signature counts for, and how many times the unit its bond is
    /// @param payee Who posts its bond, and may withdraw what it earns
    struct Member {
        bytes signer;
        uint16 weight;
        address payee;
    }

    /// @param members Who may sign, at most MAX_MEMBERS
    /// @param threshold How much weight must: more than half of all
    /// @param since From when on, in Unix seconds
    struct Rotation {
        Member[] members;
        uint64 threshold;
        uint40 since;
    }

    /// @param weight The weight that it covers, if it is Posted: it is so many times BOND
    /// @param readyAt When the wait for its withdrawal is over, in Unix seconds; 0 if none was announced
    /// @param isSlashed Whether it was lost to a report
    struct Bond {
        uint16 weight;
        uint40 readyAt;
        bool isSlashed;
    }

    event RotationAnnounced(uint256 indexed number, Member[] members, uint64 threshold, uint256 since);
    event IncomeShared(bytes32 indexed batchId, uint48 signers, uint256 amount);
    event IncomeWithdrawn(address indexed payee, address indexed to, uint256 amount);
    event BondPosted(address indexed holder, bytes signer, uint256 weight, uint256 amount);
    event BondThawed(address indexed holder, bytes signer, uint256 readyAt);
    event BondWithdrawn(address indexed holder, bytes signer, address to, uint256 amount);

    /// @param amount The whole bond, of which the reporter has earned `reward`, and the treasury the rest
    event BondSlashed(
        address indexed holder,
        bytes signer,
        address indexed reporter,
        bytes32 firstBatchId,
        bytes32 secondBatchId,
        uint256 amount,
        uint256 reward
    );

    error BatchesAgree(bytes32 batchId);
    error BatchesOfTwoNumbers(bytes32 firstBatchId, bytes32 secondBatchId);
    error BatchNotSigned(bytes32 batchId, bytes signer);
    error BondNone(bytes signer, address holder);
    error BondNotRaised(bytes signer, uint256 weight, uint256 present);
    error BondNotThawed(bytes signer, uint256 readyAt);
    error BondThawing(bytes signer, uint256 readyAt);
    error BondUnitZero();
    error CommitteeEmpty();
    error CommitteeTooLarge(uint256 members, uint256 most);
    error IncomeEmpty(address payee);
    error PayeeZero(bytes signer);
    error RotationNotSigned(bytes32 digest);
    error RotationTooLate(uint256 deadline);
    error RotationsExhausted(uint256 number);
    error SignerEquivocated(bytes signer);
    error SignerInvalid(bytes signer);
    error SignerTwice(bytes signer);
    error ThresholdNotMajority(uint256 threshold, uint256 weight);
    error TransferIncomplete(uint256 expected, uint256 received);
    error WeightZero(bytes signer);

    /// @notice Announces the next committee, in force after ROTATION_PERIOD, in place of one that is still announced.
    /// @param deadline Until when the signatures count, in Unix seconds
    /// @param proof By the present committee, in the form that `vouches` asks for, over `rotationHash`
    function rotate(
        Member[] calldata members,
        uint64 threshold,
        uint256 deadline,
        bytes calldata proof
    ) external returns (uint256 number);

    // Bonds

    /// @notice Brings the caller's bond for a signer to BOND times `weight`, of which the caller pays what is missing. It covers
    /// memberships of that signer and up to that weight of which the caller is the payee, those that begin later included.
    /// One that was thawing is in force again.
    function postBond(bytes calldata signer, uint16 weight) external returns (uint256 amount);

    /// @notice Announces the withdrawal of the caller's bond for a signer: its signatures count no more, from now on.
    function thawBond(bytes calldata signer) external returns (uint256 readyAt);

    /// @notice Sends the caller's bond for a signer to `to`, after the wait.
    function withdrawBond(bytes calldata signer, address to) external returns (uint256 amount);

    /// @notice Shows that a signer signed two batches for one number of a lane. Its bond is lost: the caller earns REWARD_BPS of
    /// it, the escrow's treasury the rest; and the signer counts no more, for ever. Anyone may call this.
    /// @param holder Whose bond for that signer
    function reportEquivocation(
        bytes calldata signer,
        address holder,
        BatchHeader calldata first,
        bytes calldata firstSignature,
        BatchHeader calldata second,
        bytes calldata secondSignature
    ) external returns (uint256 reward);

    // Income

    /// @notice Collects the committee's share of a released batch and credits it by weight to those who signed; what doesn't
    /// divide goes to the first of them. Anyone may call this.
    function shareIncome(bytes32 batchId) external returns (uint256 amount);

    /// @notice Sends all that the caller has earned, as a member or by reports, to `to`.
    function withdraw(address to) external returns (uint256 amount);

    // Views

    /// @notice The escrow whose batches the committee vouches for.
    function ESCROW() external view returns (IUsageEscrow);

    /// @notice The currency of bonds and incomes: the escrow's.
    function CURRENCY() external view returns (IERC20);

    /// @notice What a member's bond is for each unit of its weight, in currency units.
    function BOND() external view returns (uint256);

    /// @notice How long a bond that is on its way out can still be lost, in seconds.
    function BOND_THAW_PERIOD() external view returns (uint256);

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

    /// @notice How much of the weight in force must sign.
    function threshold() external view returns (uint64);

    /// @notice What the signatures of a committee's members count for, in its order: their weights, or 0 while their bonds don't
    /// cover them. Of a committee that is past, what they did at last.
    function weightsOf(uint256 number) external view returns (uint256[] memory);

    /// @notice The bond of a signer that `holder` posted.
    function bondOf(bytes calldata signer, address holder) external view returns (Bond memory);

    /// @notice What has become of the bond of a signer that `holder` posted.
    function bondStatusOf(bytes calldata signer, address holder) external view returns (BondStatus);

    /// @notice Whether a signer was shown to have contradicted itself: it counts no more.
    function hasEquivocated(bytes calldata signer) external view returns (bool);

    /// @notice What somebody has earned and not yet withdrawn, in currency units.
    function incomeOf(address payee) external view returns (uint256);
}
