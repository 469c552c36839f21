// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {TreeLeaf} from "../libraries/ReceiptTree.sol";
import {LicenseId} from "../types/Ids.sol";
import {Grant, Receipt, SignedReceipt} from "../types/Receipt.sol";
import {SettledEntry} from "../types/SettledEntry.sol";
import {RequestProof} from "./IDisputeCourt.sol";
import {BatchHeader, IUsageEscrow} from "./IUsageEscrow.sol";

/// @dev A receipt where it stands in a batch's tree: see `TreeLeaf`.
struct PlacedReceipt {
    Receipt receipt;
    bytes signature;
    uint64 index;
    bytes siblings;
}

/// @dev What proves itself. Of the last three the operator is guilty only if it proposed the batch, which its signature shows.
enum Breach {
    /// Two receipts for one sequence, or for one request.
    Contradiction,
    /// A receipt that its grant doesn't cover.
    OutsideGrant,
    /// One receipt in two places.
    Repetition,
    /// A signature by a key that had expired or was revoked.
    DeadKey,
    /// An entry above the sum of its receipts.
    WrongSum
}

/// @title The court of reports: a breach that proves itself is judged at once
interface IReportCourt {
    /// @param refunded Currency units that went back to the license, out of what was held
    /// @param damages Currency units of stake that were taken for the license's owner
    /// @param reward Currency units of stake that were taken for the reporter
    event BreachReported(
        bytes32 indexed chargeId,
        Breach indexed breach,
        address indexed reporter,
        uint256 refunded,
        uint256 damages,
        uint256 reward
    );
    event ChargeProven(bytes32 indexed chargeId, LicenseId indexed licenseId, uint256 releasableAt);

    error BreachNone(bytes32 chargeId, Breach breach);
    error ChargeProvenBefore(bytes32 chargeId);
    error ChargeReportedBefore(bytes32 chargeId);
    error GrantNotOfReceipt(bytes32 grantHash, bytes32 wanted);
    error LeavesNotAround(LicenseId before, LicenseId behind, LicenseId licenseId);
    error ProofsMismatch(uint256 receipts, uint256 proofs);
    error ReceiptNotOfLicense(bytes32 receiptHash, LicenseId licenseId);
    error ReportTooLate(bytes32 chargeId, uint256 deadline);
    error RewardZero();

    /// @notice Reports that the operator signed two receipts for one sequence of a license, or for one request, of which `placed`
    /// stands in the batch.
    function reportContradiction(
        SettledEntry calldata entry,
        PlacedReceipt calldata placed,
        SignedReceipt calldata other
    ) external;

    /// @notice Reports a receipt in the batch that its grant doesn't cover: of another license or generation, out of its time, or
    /// without the signature that its key should have given.
    function reportOutsideGrant(
        SettledEntry calldata entry,
        PlacedReceipt calldata placed,
        Grant calldata grant
    ) external;

    /// @notice Reports that a receipt stands in the batch and in another place, of this batch or of another of its operator and plan
    /// that has settled.
    /// @param proposal The operator's signature of the batch, as its settler sends it to attestors; empty if nobody has it
    /// @param otherProposal The same of the other: the operator is guilty only of what it has proposed twice
    function reportRepetition(
        SettledEntry calldata entry,
        PlacedReceipt calldata placed,
        BatchHeader calldata other,
        uint64 otherIndex,
        bytes calldata otherSiblings,
        bytes calldata proposal,
        bytes calldata otherProposal
    ) external;

    /// @notice Reports a receipt in the batch that a key of the operator's signed when it had expired or was revoked.
    /// @param proposal As for `reportRepetition`
    function reportDeadKey(
        SettledEntry calldata entry,
        PlacedReceipt calldata placed,
        bytes calldata proposal
    ) external;

    /// @notice Reports that an entry is above the sum of its receipts, by two leaves that enclose all of them: one of a license
    /// before it and one of a license after it.
    /// @param before Its `signedHash` is zero if there is none before
    /// @param behind Its `signedHash` is zero if there is none behind
    /// @param proposal As for `reportRepetition`
    function reportWrongSum(
        SettledEntry calldata entry,
        TreeLeaf calldata before,
        TreeLeaf calldata behind,
        bytes calldata proposal
    ) external;

    /// @notice Proves all receipts of an entry before anybody doubts them, and that its licensee's keys signed the requests: what is
    /// left of its hold becomes a quarter of that. Anybody may call this.
    /// @param requests By ascending `requestSignatureHash`
    /// @param proofs Of inference, one for each receipt
    function proveCharge(
        SettledEntry calldata entry,
        RequestProof[] calldata requests,
        bytes[] calldata proofs
    ) external returns (bytes32 chargeId);

    /// @notice Whose batches it judges.
    function ESCROW() external view returns (IUsageEscrow);

    /// @notice The least reward, in currency units.
    function MIN_REWARD() external view returns (uint64);

    /// @notice Whether a breach of a charge was reported: none is reported again, but for one that shows the operator's guilt after
    /// one that didn't.
    function isReported(bytes32 chargeId) external view returns (bool);

    /// @notice Whether all receipts of a charge were proven ahead.
    function isProven(bytes32 chargeId) external view returns (bool);
}
