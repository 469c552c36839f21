// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {IAssetRegistry} from "./interfaces/IAssetRegistry.sol";
import {IDisputeCourt, RequestProof} from "./interfaces/IDisputeCourt.sol";
import {ILicenseRegistry} from "./interfaces/ILicenseRegistry.sol";
import {IOperatorRegistry} from "./interfaces/IOperatorRegistry.sol";
import {IPerformanceStaking} from "./interfaces/IPerformanceStaking.sol";
import {Breach, IReportCourt, PlacedReceipt} from "./interfaces/IReportCourt.sol";
import {BatchHeader, BatchStatus, IUsageEscrow} from "./interfaces/IUsageEscrow.sol";
import {Bps} from "./libraries/Bps.sol";
import {InferenceProofs} from "./libraries/InferenceProofs.sol";
import {ReceiptHash} from "./libraries/ReceiptHash.sol";
import {ReceiptTree, TreeLeaf} from "./libraries/ReceiptTree.sol";
import {EntryScope, RequestProofs} from "./libraries/RequestProofs.sol";
import {SignedReceipts} from "./libraries/SignedReceipts.sol";
import {UsageEntry} from "./libraries/UsageEntry.sol";
import {LicenseId, OperatorId} from "./types/Ids.sol";
import {Grant, Receipt, SignedReceipt, Usage, UsageLib} from "./types/Receipt.sol";
import {SettledEntry} from "./types/SettledEntry.sol";

/// @title The court of what proves itself
/// @notice HOLDS no money: what it has taken from stake waits in PerformanceStaking, and what it refunds is the escrow's.
/// STATES of a charge: not reported → reported without guilt → punished, for ever; not proven → proven.
/// WHO: anybody reports, and proves ahead.
/// ALWAYS: one breach of a charge is reported at most once, and stake answers only for what its operator has signed: receipts that
/// contradict each other or their grant, or the batch. For anything else attestors are to blame, who can't be paid for that out
/// of an operator's stake: the charge is refunded, and nothing taken.
/// UNITS AND ROUNDING: money in currency units; shares round down.
contract ReportCourt is IReportCourt, ReentrancyGuardTransient {
    /// @dev Of a charge: what a breach costs the operator for the license's owner, and for the reporter.
    uint256 public constant DAMAGES_BPS = 2_000;
    uint256 public constant REWARD_BPS = 1_000;
    /// @dev What a proof ahead leaves of a hold.
    uint256 public constant PROVEN_HOLD_BPS = 2_500;
    /// @dev From an epoch's end on: a key that leaks must not endanger stake for ever.
    uint256 public constant REPORT_PERIOD = 60 days;

    /// @dev Refunded without anybody's guilt, or punished.
    enum Report {
        None,
        Refunded,
        Punished
    }

    IUsageEscrow public immutable ESCROW;
    IAssetRegistry private immutable ASSETS;
    ILicenseRegistry private immutable LICENSES;
    IOperatorRegistry private immutable OPERATORS;
    IPerformanceStaking private immutable STAKING;
    uint64 public immutable MIN_REWARD;

    mapping(bytes32 chargeId => Report) private _reports;
    mapping(bytes32 chargeId => bool) public isProven;

    /// @param minReward The least reward, in currency units
    constructor(IUsageEscrow escrow, uint64 minReward) {
        require(minReward > 0, RewardZero());

        ESCROW = escrow;
        ASSETS = escrow.ASSETS();
        LICENSES = escrow.LICENSES();
        OPERATORS = escrow.OPERATORS();
        STAKING = escrow.STAKING();
        MIN_REWARD = minReward;
    }

    /// @inheritdoc IReportCourt
    function reportContradiction(
        SettledEntry calldata entry,
        PlacedReceipt calldata placed,
        SignedReceipt calldata other
    ) external nonReentrant {
        bool found = _contradicts(entry, placed, other);
        _punish(entry, Breach.Contradiction, found, true);
    }

    /// @inheritdoc IReportCourt
    function reportOutsideGrant(
        SettledEntry calldata entry,
        PlacedReceipt calldata placed,
        Grant calldata grant
    ) external nonReentrant {
        bool found = _isOutsideGrant(entry, placed, grant);
        _punish(entry, Breach.OutsideGrant, found, true);
    }

    /// @inheritdoc IReportCourt
    function reportRepetition(
        SettledEntry calldata entry,
        PlacedReceipt calldata placed,
        BatchHeader calldata other,
        uint64 otherIndex,
        bytes calldata otherSiblings,
        bytes calldata proposal,
        bytes calldata otherProposal
    ) external nonReentrant {
        (bool found, bytes32 otherChargeId) = _repeats(entry, placed, other, otherIndex, otherSiblings);
        // One of two places is wrong, not both.
        bytes32 chargeId = _punish(
            entry,
            Breach.Repetition,
            found,
            _isProposed(entry.header, proposal) && _isProposed(other, otherProposal)
        );
        require(otherChargeId == chargeId || !isReported(otherChargeId), ChargeReportedBefore(otherChargeId));
    }

    /// @inheritdoc IReportCourt
    function reportDeadKey(
        SettledEntry calldata entry,
        PlacedReceipt calldata placed,
        bytes calldata proposal
    ) external nonReentrant {
        bool found = _isOfDeadKey(entry, placed);
        _punish(entry, Breach.DeadKey, found, _isProposed(entry.header, proposal));
    }

    /// @inheritdoc IReportCourt
    function reportWrongSum(
        SettledEntry calldata entry,
        TreeLeaf calldata before,
        TreeLeaf calldata behind,
        bytes calldata proposal
    ) external nonReentrant {
        bool found = _isAboveSum(entry, before, behind);
        _punish(entry, Breach.WrongSum, found, _isProposed(entry.header, proposal));
    }

    // Proofs ahead

    /// @inheritdoc IReportCourt
    function proveCharge(
        SettledEntry calldata entry,
        RequestProof[] calldata requests,
        bytes[] calldata proofs
    ) external nonReentrant returns (bytes32 chargeId) {
        require(requests.length == proofs.length, ProofsMismatch(requests.length, proofs.length));
        (chargeId, ) = ESCROW.freezeCharge(entry.header, entry.entries, entry.outcomes, entry.licenseId);
        require(!isProven[chargeId], ChargeProvenBefore(chargeId));
        EntryScope memory scope = _scopeOf(entry);
        Usage memory none;
        (Usage memory shown, ) = RequestProofs.sum(scope, requests, none, 0);
        require(ReceiptTree.isWithin(scope.usage, shown), IDisputeCourt.RequestsNotShown(shown, scope.usage));
        for (uint256 i; i < proofs.length; ++i) {
            Receipt calldata receipt = requests[i].receipt;
            InferenceProofs.requireProven(
                ASSETS,
                entry.header.versionId,
                receipt,
                ReceiptHash.ofReceipt(address(ESCROW), receipt),
                proofs[i]
            );
        }

        isProven[chargeId] = true;
        uint256 left = ESCROW.batchOf(chargeId).releasableAt - block.timestamp;
        // Timestamps stay far below 2^40.
        uint40 releasableAt = uint40(block.timestamp + Bps.share(left, PROVEN_HOLD_BPS));

        emit ChargeProven(chargeId, entry.licenseId, releasableAt);

        ESCROW.releaseCharge(chargeId, releasableAt);
    }

    // Views

    /// @inheritdoc IReportCourt
    function isReported(bytes32 chargeId) public view returns (bool) {
        return _reports[chargeId] != Report.None;
    }

    // Internals

    /// @dev Refunds the charge of a breach, where it is held, and takes from the operator's stake if it is guilty.
    function _punish(
        SettledEntry calldata entry,
        Breach breach,
        bool found,
        bool isGuilty
    ) private returns (bytes32 chargeId) {
        uint256 charged;
        (chargeId, charged, ) = ESCROW.chargeOf(entry.header, entry.entries, entry.outcomes, entry.licenseId);
        require(found, BreachNone(chargeId, breach));
        uint256 deadline = entry.header.epochEnd + REPORT_PERIOD;
        require(block.timestamp <= deadline, ReportTooLate(chargeId, deadline));
        Report before = _reports[chargeId];
        // Who shows no guilt can't spare the guilty: its stake can still be taken, once.
        require(before == Report.None || (isGuilty && before == Report.Refunded), ChargeReportedBefore(chargeId));

        _reports[chargeId] = isGuilty ? Report.Punished : Report.Refunded;
        uint256 refunded = charged == 0 ? 0 : _refund(entry, chargeId);
        (uint256 damages, uint256 reward) = (0, 0);
        if (isGuilty) {
            OperatorId operatorId = entry.header.operatorId;
            uint256 least = Math.max(Bps.share(charged, REWARD_BPS), MIN_REWARD);
            (damages, ) = STAKING.slash(
                operatorId,
                Bps.share(charged, DAMAGES_BPS),
                LICENSES.ownerOf(LicenseId.unwrap(entry.licenseId))
            );
            (reward, ) = STAKING.slash(operatorId, least, msg.sender);
        }

        emit BreachReported(chargeId, breach, msg.sender, refunded, damages, reward);
    }

    /// @dev What is released already stays so; what is frozen, its challenge refunds, which asks `isReported`.
    function _refund(SettledEntry calldata entry, bytes32 chargeId) private returns (uint256) {
        BatchStatus status = ESCROW.batchStatusOf(chargeId);
        if (status == BatchStatus.None) status = ESCROW.batchStatusOf(ESCROW.batchIdOf(entry.header));
        if (status != BatchStatus.Held) return 0;
        ESCROW.freezeCharge(entry.header, entry.entries, entry.outcomes, entry.licenseId);
        return ESCROW.refundCharge(chargeId);
    }

    /// @dev Whether two receipts of one license, both signed by keys that could, say different things of one sequence or of one
    /// request.
    function _contradicts(
        SettledEntry calldata entry,
        PlacedReceipt calldata placed,
        SignedReceipt calldata other
    ) private view returns (bool) {
        bytes32 receiptHash = _requirePlaced(entry, placed);
        _requireKey(entry.header, placed.receipt, receiptHash, placed.signature);
        bytes32 otherHash = ReceiptHash.ofReceipt(address(ESCROW), other.receipt);
        SignedReceipts.requireSigned(OPERATORS, other.receipt, otherHash, other.signature);
        Receipt calldata receipt = placed.receipt;
        return
            receiptHash != otherHash &&
            receipt.licenseId == other.receipt.licenseId &&
            receipt.operatorId == other.receipt.operatorId &&
            (receipt.sequence == other.receipt.sequence ||
                receipt.requestId == other.receipt.requestId ||
                (receipt.requestSignatureHash != 0 &&
                    receipt.requestSignatureHash == other.receipt.requestSignatureHash));
    }

    /// @dev Whether a receipt's own grant doesn't cover it. What came to nothing may end late.
    function _isOutsideGrant(
        SettledEntry calldata entry,
        PlacedReceipt calldata placed,
        Grant calldata grant
    ) private view returns (bool) {
        bytes32 receiptHash = _requirePlaced(entry, placed);
        Receipt calldata receipt = placed.receipt;
        _requireKey(entry.header, receipt, receiptHash, placed.signature);
        bytes32 grantHash = ReceiptHash.ofGrant(address(ESCROW), grant);
        require(grantHash == receipt.grantHash, GrantNotOfReceipt(grantHash, receipt.grantHash));
        Usage memory nothing;
        bool isNothing = ReceiptTree.isWithin(UsageLib.usageOf(receipt), nothing);
        return
            grant.licenseId != receipt.licenseId ||
            grant.generation != receipt.generation ||
            receipt.finishedAt < grant.notBefore ||
            (receipt.finishedAt > grant.expiresAt && !isNothing) ||
            (grant.key != address(0) && receipt.requestSignatureHash == 0);
    }

    /// @dev Whether a receipt stands in the batch and in another place of a batch that has settled.
    /// @return found Whether it does
    /// @return otherChargeId The charge of the license there
    function _repeats(
        SettledEntry calldata entry,
        PlacedReceipt calldata placed,
        BatchHeader calldata other,
        uint64 otherIndex,
        bytes calldata otherSiblings
    ) private view returns (bool found, bytes32 otherChargeId) {
        bytes32 receiptHash = _requirePlaced(entry, placed);
        bytes32 otherId = ESCROW.batchIdOf(other);
        // Anybody can make up a batch of another plan, with attestors of its own.
        bool isAlike = other.operatorId == entry.header.operatorId && other.planId == entry.header.planId;
        if (!isAlike || ESCROW.batchStatusOf(otherId) == BatchStatus.None) return (false, 0);
        _requireIn(other, placed, receiptHash, otherIndex, otherSiblings);
        found = otherId != ESCROW.batchIdOf(entry.header) || otherIndex != placed.index;
        otherChargeId = keccak256(abi.encode(otherId, entry.licenseId));
    }

    /// @dev Whether a key of the operator's signed a receipt before it was added, or when it had expired or was revoked. Who
    /// could never sign for the operator is nobody's fault but the attestors'.
    function _isOfDeadKey(SettledEntry calldata entry, PlacedReceipt calldata placed) private view returns (bool) {
        bytes32 receiptHash = _requirePlaced(entry, placed);
        Receipt calldata receipt = placed.receipt;
        address signer = SignedReceipts.signerOf(receiptHash, placed.signature);
        IOperatorRegistry.SigningKey memory key = OPERATORS.keyOf(receipt.operatorId, signer);
        require(key.addedAt != 0, SignedReceipts.ReceiptNotSigned(receiptHash, signer));
        return
            receipt.finishedAt < key.addedAt ||
            receipt.finishedAt >= key.expiresAt ||
            (key.revokedAt != 0 && receipt.finishedAt >= key.revokedAt);
    }

    /// @dev Whether an entry has more of some meter than all leaves between two that enclose its license's.
    function _isAboveSum(
        SettledEntry calldata entry,
        TreeLeaf calldata before,
        TreeLeaf calldata behind
    ) private view returns (bool) {
        BatchHeader calldata header = entry.header;
        bool isFirst = before.signedHash == 0;
        bool isLast = behind.signedHash == 0;
        require(
            (isFirst || entry.licenseId > before.licenseId) &&
                (isLast || behind.licenseId > entry.licenseId) &&
                (isFirst || isLast || before.index < behind.index),
            LeavesNotAround(before.licenseId, behind.licenseId, entry.licenseId)
        );
        Usage memory sum = isLast ? ReceiptTree.totalsOf(header) : ReceiptTree.requireIn(header, behind);
        if (!isFirst) {
            Usage memory sumBefore = ReceiptTree.requireIn(header, before);
            sum = ReceiptTree.subtract(sum, ReceiptTree.add(sumBefore, before.usage));
        }
        (, , uint256 usage) = ESCROW.chargeOf(header, entry.entries, entry.outcomes, entry.licenseId);
        return !ReceiptTree.isWithin(UsageLib.usageOf(UsageEntry.wrap(usage)), sum);
    }

    /// @dev Whether a key that can sign for the operator, or could when the epoch ended, has proposed the batch.
    function _isProposed(BatchHeader calldata header, bytes calldata proposal) private view returns (bool) {
        bytes32 digest = ReceiptHash.ofProposal(address(ESCROW), ESCROW.batchIdOf(header));
        (address signer, ECDSA.RecoverError error, ) = ECDSA.tryRecover(digest, proposal);
        if (error != ECDSA.RecoverError.NoError) return false;
        IOperatorRegistry operators = OPERATORS;
        return
            operators.isSigningKey(header.operatorId, signer, header.epochEnd) ||
            operators.isSigningKey(header.operatorId, signer, block.timestamp);
    }

    /// @dev Reverts unless the receipt is one of the entry's license and stands in its batch.
    function _requirePlaced(
        SettledEntry calldata entry,
        PlacedReceipt calldata placed
    ) private view returns (bytes32 receiptHash) {
        receiptHash = ReceiptHash.ofReceipt(address(ESCROW), placed.receipt);
        require(
            placed.receipt.licenseId == entry.licenseId && placed.receipt.operatorId == entry.header.operatorId,
            ReceiptNotOfLicense(receiptHash, entry.licenseId)
        );
        _requireIn(entry.header, placed, receiptHash, placed.index, placed.siblings);
    }

    /// @dev Reverts unless a key that could sign for the operator has signed the receipt, and wasn't revoked before the epoch ended:
    /// who revokes a key later can't take back what was settled by it.
    function _requireKey(
        BatchHeader calldata header,
        Receipt calldata receipt,
        bytes32 receiptHash,
        bytes calldata signature
    ) private view {
        address signer = SignedReceipts.signerOf(receiptHash, signature);
        IOperatorRegistry.SigningKey memory key = OPERATORS.keyOf(receipt.operatorId, signer);
        require(
            key.addedAt != 0 &&
                key.addedAt <= receipt.finishedAt &&
                receipt.finishedAt < key.expiresAt &&
                (key.revokedAt == 0 || key.revokedAt > header.epochEnd),
            SignedReceipts.ReceiptNotSigned(receiptHash, signer)
        );
    }

    function _requireIn(
        BatchHeader calldata header,
        PlacedReceipt calldata placed,
        bytes32 receiptHash,
        uint64 index,
        bytes calldata siblings
    ) private pure {
        ReceiptTree.requireIn(
            header,
            ReceiptHash.asSigned(receiptHash, placed.signature),
            placed.receipt.licenseId,
            UsageLib.usageOf(placed.receipt),
            index,
            siblings
        );
    }

    function _scopeOf(SettledEntry calldata entry) private view returns (EntryScope memory) {
        BatchHeader calldata header = entry.header;
        (bytes32 manifestHash, , ) = ASSETS.inferenceOf(header.versionId);
        (, , uint256 packed) = ESCROW.chargeOf(header, entry.entries, entry.outcomes, entry.licenseId);
        return
            EntryScope({
                escrow: address(ESCROW),
                operators: OPERATORS,
                owner: LICENSES.ownerOf(LicenseId.unwrap(entry.licenseId)),
                licenseId: entry.licenseId,
                operatorId: header.operatorId,
                planId: header.planId,
                manifestHash: manifestHash,
                epochStart: header.epochStart,
                epochEnd: header.epochEnd,
                usage: UsageLib.usageOf(UsageEntry.wrap(packed))
            });
    }
}
