// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {LicenseId, OperatorId, PlanId, VersionId} from "../types/Ids.sol";
import {Grant, Receipt, SignedReceipt, Usage} from "../types/Receipt.sol";
import {SettledEntry} from "../types/SettledEntry.sol";
import {IArbitrable, IArbitrator, IEvidence} from "./IArbitrator.sol";
import {IReportCourt} from "./IReportCourt.sol";
import {IUsageEscrow} from "./IUsageEscrow.sol";

/// @dev A request as its licensee's key has signed it, with the receipt that it led to.
struct RequestProof {
    Receipt receipt;
    /// The operator's, of the receipt.
    bytes signature;
    /// What the receipt's grant is; its key signed the request.
    Grant grant;
    /// The owner's, of the grant.
    bytes grantSignature;
    /// When it was asked, in Unix seconds.
    uint40 at;
    /// 65 bytes of the grant's key.
    bytes requestSignature;
}

/// @dev Open until it is answered; Answered until the challenger escalates it; Escalated until the other side pays its fee;
/// Disputed until the arbitrator rules. The last three are for ever. What has waited too long is decided by `close`.
enum ChallengeStatus {
    None,
    Open,
    Answered,
    Escalated,
    Disputed,
    Upheld,
    Rejected,
    Undecided
}

/// @dev The sides of a dispute, as arbitrators number their rulings.
enum Side {
    None,
    Challenger,
    Operator
}

/// @title The court of disputes: a challenge is answered or lost
interface IDisputeCourt is IArbitrable, IEvidence {
    /// @param chargeId The charge that is frozen: see `IUsageEscrow.freezeCharge`
    /// @param receiptHash The receipt that it is about; zero if it is about the whole entry
    /// @param bond Currency units, the loser's side's too
    /// @param deadline Unix seconds until which it waits for the next step of a side, or of the arbitrator
    /// @param usage What the license's entry says
    /// @param shown The sum of the receipts whose requests' signatures were shown
    /// @param shownThrough The last one's `requestSignatureHash`
    /// @param signed Whether its answer has to show all of them: not of more than MOST_SHOWN requests
    struct Challenge {
        bytes32 chargeId;
        bytes32 receiptHash;
        address challenger;
        uint64 bond;
        ChallengeStatus status;
        LicenseId licenseId;
        OperatorId operatorId;
        uint40 deadline;
        uint40 epochStart;
        uint40 epochEnd;
        bool signed;
        IArbitrator arbitrator;
        PlanId planId;
        VersionId versionId;
        Usage usage;
        Usage shown;
        bytes32 shownThrough;
    }

    /// @param disputeId The arbitrator's number
    /// @param pool Wei that both sides have paid and the arbitrator hasn't got: the winner's
    /// @param appealPool Wei that one side alone has paid for an appeal
    /// @param appellant That side
    struct Arbitration {
        uint256 disputeId;
        uint128 pool;
        uint120 appealPool;
        Side appellant;
    }

    event SigningDemanded(LicenseId indexed licenseId, uint256 since);
    event ChallengeOpened(
        uint256 indexed challengeId,
        bytes32 indexed chargeId,
        LicenseId indexed licenseId,
        address challenger,
        bytes32 receiptHash,
        uint256 charged,
        uint256 bond,
        uint256 deadline
    );
    event RequestsShown(uint256 indexed challengeId, Usage shown);
    event ChallengeAnswered(uint256 indexed challengeId, string uri, uint256 deadline);
    event ChallengeProven(uint256 indexed challengeId, bytes32 indexed receiptHash);
    event ChallengeEscalated(uint256 indexed challengeId, uint256 fee, uint256 deadline);
    event AppealPaid(uint256 indexed challengeId, Side indexed side, uint256 cost);
    event ChallengeResolved(uint256 indexed challengeId, ChallengeStatus indexed status);
    event BondsWithdrawn(address indexed holder, address indexed to, uint256 amount);
    event FeesWithdrawn(address indexed holder, address indexed to, uint256 amount);

    error AppealClosed(uint256 challengeId, uint256 start, uint256 end);
    error AppealPaidBefore(uint256 challengeId, Side side);
    error ArbitratorNone(uint256 challengeId);
    error BondZero();
    error CallerNotArbitrator(uint256 disputeId, address caller);
    error CallerNotChallenger(uint256 challengeId, address caller);
    error CallerNotOperator(OperatorId operatorId, address caller);
    error CallerNotOwner(LicenseId licenseId, address caller);
    error CallerNotParty(uint256 challengeId, address caller);
    error ChallengeStatusUnfit(uint256 challengeId, ChallengeStatus status);
    error TurnRunning(uint256 challengeId, uint256 deadline);
    error TurnOver(uint256 challengeId, uint256 deadline);
    error DisputeTaken(address arbitrator, uint256 disputeId);
    error FeeTooSmall(uint256 paid, uint256 cost);
    error GrantNotOfReceipt(bytes32 grantHash, bytes32 wanted);
    error GrantNotSigned(bytes32 grantHash, address owner);
    error GrantWithoutKey(bytes32 grantHash);
    error PeriodOutOfRange(uint256 period, uint256 shortest, uint256 longest);
    error ProofNeeded(uint256 challengeId, bytes32 receiptHash);
    error ReceiptEmpty();
    error ReceiptNotChallenged(bytes32 receiptHash, bytes32 challenged);
    error ReceiptNotOfEntry(bytes32 receiptHash);
    error ReceiptOfMany(uint256 requests);
    error RequestNotSigned(bytes32 receiptHash, address key);
    error RequestOutOfEpoch(bytes32 receiptHash, uint256 at);
    error RequestsAboveEntry(Usage shown, Usage entry);
    error RequestsNotShown(Usage shown, Usage entry);
    error RequestsOutOfOrder(bytes32 requestSignatureHash, bytes32 previous);
    error TransferIncomplete(uint256 expected, uint256 received);
    error WithdrawalEmpty(address holder);

    /// @notice Has only such use of a license counted as its keys have signed, from an hour ahead on, or no longer. Its owner alone
    /// may call this.
    function demandSigning(LicenseId licenseId, bool demanded) external;

    /// @notice Challenges what a license was charged, while it is held: it is frozen until that is decided. The license's owner
    /// alone may call this, once a charge, and pays `bondFor` what was charged.
    /// @param doubted A receipt of that epoch that the challenge is about, which a proof can then answer; its signature is empty if
    /// it is about the whole entry
    /// @param uri Where the challenger's reasons are; may be empty
    function challenge(
        SettledEntry calldata entry,
        SignedReceipt calldata doubted,
        string calldata uri
    ) external returns (uint256 challengeId);

    /// @notice Shows, in one call or several, the requests' signatures that an entry rests on, by ascending
    /// `requestSignatureHash`; a first one that doesn't come after the last begins anew. The operator's owner and its keys may
    /// call this.
    function showRequests(uint256 challengeId, RequestProof[] calldata proofs) external;

    /// @notice Answers a challenge with data that `uri` names: it is rejected unless the challenger escalates it in time. Where the
    /// license demanded signing, all requests must have been shown; where it is about a receipt of a version that names a
    /// verifier, nothing but a proof answers it. The operator's owner and its keys may call this.
    function answer(uint256 challengeId, string calldata uri) external;

    /// @notice Answers a challenge about a receipt with a proof of its inference, which decides it at once. Anybody may call this.
    function answerWithProof(uint256 challengeId, Receipt calldata receipt, bytes calldata proof) external;

    /// @notice Brings an answered challenge before the plan's arbitrator, for what that costs in wei. The challenger alone may call
    /// this.
    function escalate(uint256 challengeId) external payable;

    /// @notice Pays the operator's side of an escalated challenge: the dispute begins. Anybody may.
    function payFee(uint256 challengeId) external payable;

    /// @notice Pays a side's part of an appeal: it is made once both have, and who alone has paid wins. The side that is losing can
    /// pay in the first half of the arbitrator's time for that. Anybody may.
    function payAppeal(uint256 challengeId, Side side) external payable;

    /// @notice Gives the arbitrator something to look at. Both sides may, until it is decided.
    function submitEvidence(uint256 challengeId, string calldata uri) external;

    /// @notice Decides a challenge whose deadline has passed: for the challenger if it wasn't answered or the operator didn't pay
    /// its fee, for the operator if an answer wasn't escalated, for nobody if the arbitrator is silent. At any time for the
    /// challenger, if a breach of the charge was reported. Anybody may call this.
    function close(uint256 challengeId) external;

    // Money

    /// @notice Sends what bonds have left for the caller to `to`, in currency units.
    function withdrawBonds(address to) external returns (uint256 amount);

    /// @notice Sends what fees have left for the caller to `to`, in wei.
    function withdrawFees(address payable to) external returns (uint256 amount);

    // Views

    /// @notice Whose charges it judges.
    function ESCROW() external view returns (IUsageEscrow);

    /// @notice Whose findings decide a challenge, too.
    function REPORTS() external view returns (IReportCourt);

    /// @notice The currency of bonds.
    function CURRENCY() external view returns (IERC20);

    /// @notice How long each side has for its turn, in seconds.
    function TURN_PERIOD() external view returns (uint256);

    /// @notice How long an arbitrator has, from the dispute or its last appeal on, in seconds.
    function RULING_PERIOD() external view returns (uint256);

    /// @notice The least bond of a challenge, in currency units.
    function MIN_BOND() external view returns (uint64);

    /// @notice How many challenges there are; they are numbered from 1.
    function challengeCount() external view returns (uint256);

    /// @notice A challenge's record; all zero if there is none.
    function challengeOf(uint256 challengeId) external view returns (Challenge memory);

    /// @notice What its arbitration has come to; all zero before it begins.
    function arbitrationOf(uint256 challengeId) external view returns (Arbitration memory);

    /// @notice The challenge of a charge; 0 if there is none.
    function challengeOfCharge(bytes32 chargeId) external view returns (uint256);

    /// @notice Whether a challenged receipt of a charge was proven.
    function isProven(bytes32 chargeId) external view returns (bool);

    /// @notice From when on a license counts only what its keys have signed: epochs that start then or later, in Unix seconds; 0 is
    /// never.
    function signedSince(LicenseId licenseId) external view returns (uint40);

    /// @notice The bond of a challenge of what was charged, in currency units.
    function bondFor(uint256 charged) external view returns (uint64);

    /// @notice What bonds have left for somebody, in currency units.
    function bondsOf(address holder) external view returns (uint256);

    /// @notice What fees have left for somebody, in wei.
    function feesOf(address holder) external view returns (uint256);
}
