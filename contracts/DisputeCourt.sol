// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {Address} from "@openzeppelin/contracts/utils/Address.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import {IAssetRegistry} from "./interfaces/IAssetRegistry.sol";
import {IArbitrable, IArbitrator} from "./interfaces/IArbitrator.sol";
import {ChallengeStatus, IDisputeCourt, RequestProof, Side} from "./interfaces/IDisputeCourt.sol";
import {ILicenseRegistry} from "./interfaces/ILicenseRegistry.sol";
import {IOperatorRegistry} from "./interfaces/IOperatorRegistry.sol";
import {IPerformanceStaking} from "./interfaces/IPerformanceStaking.sol";
import {IReportCourt} from "./interfaces/IReportCourt.sol";
import {BatchHeader, IUsageEscrow} from "./interfaces/IUsageEscrow.sol";
import {Bps} from "./libraries/Bps.sol";
import {InferenceProofs} from "./libraries/InferenceProofs.sol";
import {ReceiptHash} from "./libraries/ReceiptHash.sol";
import {ReceiptTree} from "./libraries/ReceiptTree.sol";
import {EntryScope, RequestProofs} from "./libraries/RequestProofs.sol";
import {SignedReceipts} from "./libraries/SignedReceipts.sol";
import {UsageEntry} from "./libraries/UsageEntry.sol";
import {LicenseId, OperatorId, VersionId} from "./types/Ids.sol";
import {Receipt, SignedReceipt, Usage, UsageLib} from "./types/Receipt.sol";
import {SettledEntry} from "./types/SettledEntry.sol";

/// @title The court of disputes
/// @notice HOLDS the bonds of open challenges and what they have left for somebody (`bondsOf`), in the currency; the fees of open
/// arbitrations and what they have left for somebody (`feesOf`), in wei. Charges stay in the escrow: the court says what becomes
/// of them, and of no other money there than charges that are held.
/// STATES of a challenge, drawn in docs/states.md: open → answered → escalated → disputed, and from each to upheld, rejected or
/// undecided, for ever. Every wait has an end, after which anybody may `close` it.
/// WHO: anybody proves, pays and closes; a license's owner alone challenges its own charges and escalates; an operator's
/// owner or its keys show requests and answer with data; the plan's arbitrator alone rules.
/// ALWAYS: a charge is challenged at most once. An operator that loses pays as much stake as the challenger's bond, if it had
/// signed the receipt or answered; a silent arbitrator, or a proof that fails, costs nobody any.
/// ASSUMES that a plan's arbitrator is whom its licensees and operators accepted: it can cost either side what a challenge is about.
/// UNITS AND ROUNDING: bonds in currency units, fees in wei, times in Unix seconds. Shares round down; what doesn't halve of a
/// pool of fees is the operator's.
contract DisputeCourt is IDisputeCourt, ReentrancyGuardTransient {
    using SafeCast for uint256;
    using SafeERC20 for IERC20;

    /// @dev Of a charge: what its challenger's bond is at least, and what a lost challenge costs the operator.
    uint256 public constant BOND_BPS = 1_000;
    uint256 public constant RULING_PERIOD = 60 days;
    /// @dev Longer than any request takes: what has begun without a signature may still count.
    uint256 public constant SIGNING_NOTICE = 1 hours;
    /// @dev So many requests can be shown in one transaction; a challenge must not cost its answer more than that.
    uint256 private constant MOST_SHOWN = 200;
    uint256 private constant RULINGS = 2;
    uint256 private constant META_EVIDENCE = 0;

    IUsageEscrow public immutable ESCROW;
    IReportCourt public immutable REPORTS;
    IERC20 public immutable CURRENCY;
    IAssetRegistry private immutable ASSETS;
    ILicenseRegistry private immutable LICENSES;
    IOperatorRegistry private immutable OPERATORS;
    IPerformanceStaking private immutable STAKING;
    uint256 public immutable TURN_PERIOD;
    uint64 public immutable MIN_BOND;

    uint256 public challengeCount;
    mapping(uint256 challengeId => Challenge) private _challenges;
    mapping(uint256 challengeId => Arbitration) private _arbitrations;
    mapping(IArbitrator arbitrator => mapping(uint256 disputeId => uint256 challengeId)) private _disputes;
    mapping(bytes32 chargeId => uint256 challengeId) public challengeOfCharge;
    mapping(bytes32 chargeId => bool) public isProven;
    mapping(LicenseId licenseId => uint40) private _signingDemandedAt;
    mapping(address holder => uint256) public bondsOf;
    mapping(address holder => uint256) public feesOf;

    /// @param turnPeriod How long each side has for its turn, in seconds
    /// @param minBond The least bond of a challenge, in currency units
    /// @param metaEvidenceUri What arbitrators are told of these disputes (ERC-1497)
    constructor(IReportCourt reports, uint256 turnPeriod, uint64 minBond, string memory metaEvidenceUri) {
        require(turnPeriod >= 1 hours && turnPeriod <= 14 days, PeriodOutOfRange(turnPeriod, 1 hours, 14 days));
        require(minBond > 0, BondZero());

        IUsageEscrow escrow = reports.ESCROW();
        (ESCROW, REPORTS) = (escrow, reports);
        CURRENCY = escrow.CURRENCY();
        ASSETS = escrow.ASSETS();
        LICENSES = escrow.LICENSES();
        OPERATORS = escrow.OPERATORS();
        STAKING = escrow.STAKING();
        TURN_PERIOD = turnPeriod;
        MIN_BOND = minBond;

        emit MetaEvidence(META_EVIDENCE, metaEvidenceUri);
    }

    // Challenges

    /// @inheritdoc IDisputeCourt
    function demandSigning(LicenseId licenseId, bool demanded) external {
        _requireOwner(licenseId);

        // Timestamps stay far below 2^40.
        if (!demanded) delete _signingDemandedAt[licenseId];
        else if (signedSince(licenseId) == 0) _signingDemandedAt[licenseId] = uint40(block.timestamp);

        emit SigningDemanded(licenseId, signedSince(licenseId));
    }

    /// @inheritdoc IDisputeCourt
    function challenge(
        SettledEntry calldata entry,
        SignedReceipt calldata doubted,
        string calldata uri
    ) external nonReentrant returns (uint256 challengeId) {
        _requireOwner(entry.licenseId);
        (bytes32 chargeId, uint256 charged) = ESCROW.freezeCharge(
            entry.header,
            entry.entries,
            entry.outcomes,
            entry.licenseId
        );

        // Once challenged, a charge is never held any more: it can't be frozen again.
        challengeId = ++challengeCount;
        challengeOfCharge[chargeId] = challengeId;
        Challenge storage opened = _open(challengeId, entry, chargeId, charged);
        if (doubted.signature.length > 0) {
            RequestProofs.requireOf(_scopeOf(opened), doubted.receipt);
            require(doubted.receipt.requests > 0, ReceiptEmpty());
            opened.receiptHash = ReceiptHash.ofReceipt(address(ESCROW), doubted.receipt);
            SignedReceipts.requireSigned(OPERATORS, doubted.receipt, opened.receiptHash, doubted.signature);
        }

        emit ChallengeOpened(
            challengeId,
            chargeId,
            entry.licenseId,
            msg.sender,
            opened.receiptHash,
            charged,
            opened.bond,
            opened.deadline
        );
        _emitEvidence(opened.arbitrator, challengeId, uri);

        _collect(opened.bond);
    }

    /// @inheritdoc IDisputeCourt
    function showRequests(uint256 challengeId, RequestProof[] calldata proofs) external {
        Challenge storage opened = _requireTurn(challengeId, ChallengeStatus.Open);

        require(_isOperator(opened.operatorId, msg.sender), CallerNotOperator(opened.operatorId, msg.sender));
        if (proofs.length > 0 && proofs[0].receipt.requestSignatureHash <= opened.shownThrough) {
            delete opened.shown;
            delete opened.shownThrough;
        }
        (Usage memory shown, bytes32 through) = RequestProofs.sum(
            _scopeOf(opened),
            proofs,
            opened.shown,
            opened.shownThrough
        );
        (opened.shown, opened.shownThrough) = (shown, through);

        emit RequestsShown(challengeId, shown);
    }

    /// @inheritdoc IDisputeCourt
    function answer(uint256 challengeId, string calldata uri) external {
        Challenge storage opened = _requireTurn(challengeId, ChallengeStatus.Open);
        require(_isOperator(opened.operatorId, msg.sender), CallerNotOperator(opened.operatorId, msg.sender));
        require(!_isProvable(opened), ProofNeeded(challengeId, opened.receiptHash));
        require(
            !opened.signed || ReceiptTree.isWithin(opened.usage, opened.shown),
            RequestsNotShown(opened.shown, opened.usage)
        );

        _advance(opened, ChallengeStatus.Answered, TURN_PERIOD);

        emit ChallengeAnswered(challengeId, uri, opened.deadline);
        _emitEvidence(opened.arbitrator, challengeId, uri);
    }

    /// @inheritdoc IDisputeCourt
    function answerWithProof(
        uint256 challengeId,
        Receipt calldata receipt,
        bytes calldata proof
    ) external nonReentrant {
        Challenge storage opened = _requireTurn(challengeId, ChallengeStatus.Open);
        bytes32 receiptHash = ReceiptHash.ofReceipt(address(ESCROW), receipt);
        require(receiptHash == opened.receiptHash, ReceiptNotChallenged(receiptHash, opened.receiptHash));
        InferenceProofs.requireProven(ASSETS, opened.versionId, receipt, receiptHash, proof);

        isProven[opened.chargeId] = true;

        emit ChallengeProven(challengeId, receiptHash);

        _resolve(challengeId, ChallengeStatus.Rejected);
    }

    /// @inheritdoc IDisputeCourt
    function escalate(uint256 challengeId) external payable nonReentrant {
        Challenge storage opened = _requireTurn(challengeId, ChallengeStatus.Answered);
        require(msg.sender == opened.challenger, CallerNotChallenger(challengeId, msg.sender));
        require(address(opened.arbitrator) != address(0), ArbitratorNone(challengeId));
        uint256 cost = _takeFee(opened.arbitrator.arbitrationCost(""));

        _arbitrations[challengeId].pool = cost.toUint128();
        _advance(opened, ChallengeStatus.Escalated, TURN_PERIOD);

        emit ChallengeEscalated(challengeId, cost, opened.deadline);
    }

    /// @inheritdoc IDisputeCourt
    function payFee(uint256 challengeId) external payable nonReentrant {
        Challenge storage opened = _requireTurn(challengeId, ChallengeStatus.Escalated);
        IArbitrator arbitrator = opened.arbitrator;
        uint256 cost = _takeFee(arbitrator.arbitrationCost(""));

        _advance(opened, ChallengeStatus.Disputed, RULING_PERIOD);
        uint256 disputeId = arbitrator.createDispute{value: cost}(RULINGS, "");
        require(_disputes[arbitrator][disputeId] == 0, DisputeTaken(address(arbitrator), disputeId));
        _disputes[arbitrator][disputeId] = challengeId;
        _arbitrations[challengeId].disputeId = disputeId;

        emit Dispute(arbitrator, disputeId, META_EVIDENCE, challengeId);
    }

    /// @inheritdoc IDisputeCourt
    function payAppeal(uint256 challengeId, Side side) external payable nonReentrant {
        Challenge storage opened = _requireTurn(challengeId, ChallengeStatus.Disputed);
        Arbitration storage arbitration = _arbitrations[challengeId];
        IArbitrator arbitrator = opened.arbitrator;
        uint256 disputeId = arbitration.disputeId;
        require(side != Side.None && side != arbitration.appellant, AppealPaidBefore(challengeId, side));
        _requireAppealable(challengeId, arbitrator, disputeId, side);
        uint256 cost = _takeFee(arbitrator.appealCost(disputeId, ""));

        emit AppealPaid(challengeId, side, cost);

        if (arbitration.appellant == Side.None) {
            (arbitration.appellant, arbitration.appealPool) = (side, cost.toUint120());
        } else {
            arbitration.pool += arbitration.appealPool;
            (arbitration.appellant, arbitration.appealPool) = (Side.None, 0);
            _advance(opened, ChallengeStatus.Disputed, RULING_PERIOD);
            arbitrator.appeal{value: cost}(disputeId, "");
        }
    }

    /// @inheritdoc IArbitrable
    function rule(uint256 disputeId, uint256 ruling) external nonReentrant {
        uint256 challengeId = _disputes[IArbitrator(msg.sender)][disputeId];
        require(challengeId != 0, CallerNotArbitrator(disputeId, msg.sender));

        emit Ruling(IArbitrator(msg.sender), disputeId, ruling);

        // What a report or its silence has decided stays so.
        if (_challenges[challengeId].status != ChallengeStatus.Disputed) return;
        Side appellant = _arbitrations[challengeId].appellant;
        uint256 winner = appellant == Side.None ? ruling : uint256(appellant);
        if (winner == uint256(Side.Challenger)) _resolve(challengeId, ChallengeStatus.Upheld);
        else if (winner == uint256(Side.Operator)) _resolve(challengeId, ChallengeStatus.Rejected);
        else _resolve(challengeId, ChallengeStatus.Undecided);
    }

    /// @inheritdoc IDisputeCourt
    function submitEvidence(uint256 challengeId, string calldata uri) external {
        Challenge storage opened = _challenges[challengeId];
        require(
            opened.status != ChallengeStatus.None && opened.status < ChallengeStatus.Upheld,
            ChallengeStatusUnfit(challengeId, opened.status)
        );
        require(
            msg.sender == opened.challenger || _isOperator(opened.operatorId, msg.sender),
            CallerNotParty(challengeId, msg.sender)
        );

        _emitEvidence(opened.arbitrator, challengeId, uri);
    }

    /// @inheritdoc IDisputeCourt
    function close(uint256 challengeId) external nonReentrant {
        Challenge storage opened = _challenges[challengeId];
        ChallengeStatus status = opened.status;
        require(
            status != ChallengeStatus.None && status < ChallengeStatus.Upheld,
            ChallengeStatusUnfit(challengeId, status)
        );
        bool isReported = REPORTS.isReported(opened.chargeId);
        require(isReported || block.timestamp > opened.deadline, TurnRunning(challengeId, opened.deadline));

        if (status == ChallengeStatus.Answered) _resolve(challengeId, ChallengeStatus.Rejected);
        else if (status == ChallengeStatus.Disputed) _resolve(challengeId, ChallengeStatus.Undecided);
        else _resolve(challengeId, ChallengeStatus.Upheld);
    }

    // Money

    /// @inheritdoc IDisputeCourt
    function withdrawBonds(address to) external nonReentrant returns (uint256 amount) {
        amount = bondsOf[msg.sender];
        require(amount > 0, WithdrawalEmpty(msg.sender));

        delete bondsOf[msg.sender];

        emit BondsWithdrawn(msg.sender, to, amount);

        CURRENCY.safeTransfer(to, amount);
    }

    /// @inheritdoc IDisputeCourt
    function withdrawFees(address payable to) external nonReentrant returns (uint256 amount) {
        amount = feesOf[msg.sender];
        require(amount > 0, WithdrawalEmpty(msg.sender));

        delete feesOf[msg.sender];

        emit FeesWithdrawn(msg.sender, to, amount);

        Address.sendValue(to, amount);
    }

    // Views

    /// @inheritdoc IDisputeCourt
    function challengeOf(uint256 challengeId) external view returns (Challenge memory) {
        return _challenges[challengeId];
    }

    /// @inheritdoc IDisputeCourt
    function arbitrationOf(uint256 challengeId) external view returns (Arbitration memory) {
        return _arbitrations[challengeId];
    }

    /// @inheritdoc IDisputeCourt
    function signedSince(LicenseId licenseId) public view returns (uint40) {
        uint40 demandedAt = _signingDemandedAt[licenseId];
        // What an owner before has demanded is no word of the present one's.
        if (demandedAt == 0 || demandedAt < LICENSES.ownedSince(licenseId)) return 0;
        // Timestamps stay far below 2^40.
        return demandedAt + uint40(SIGNING_NOTICE);
    }

    /// @inheritdoc IDisputeCourt
    function bondFor(uint256 charged) public view returns (uint64) {
        // A share of what a batch charges, which has 64 bits.
        return uint64(Math.max(Bps.share(charged, BOND_BPS), MIN_BOND));
    }

    // Internals

    function _open(
        uint256 challengeId,
        SettledEntry calldata entry,
        bytes32 chargeId,
        uint256 charged
    ) private returns (Challenge storage opened) {
        BatchHeader calldata header = entry.header;
        uint256 since = signedSince(entry.licenseId);

        opened = _challenges[challengeId];
        opened.chargeId = chargeId;
        opened.challenger = msg.sender;
        opened.bond = bondFor(charged);
        opened.licenseId = entry.licenseId;
        opened.operatorId = header.operatorId;
        opened.planId = header.planId;
        opened.versionId = header.versionId;
        (opened.epochStart, opened.epochEnd) = (header.epochStart, header.epochEnd);
        opened.usage = _usageOf(entry);
        opened.signed = since != 0 && header.epochStart >= since && opened.usage.requests <= MOST_SHOWN;
        opened.arbitrator = IArbitrator(LICENSES.arbitratorOf(header.planId));
        _advance(opened, ChallengeStatus.Open, TURN_PERIOD);
    }

    /// @dev Ends a challenge: what was charged goes back or on, the loser's bond to the winner. A reported breach decides it,
    /// whatever else would.
    function _resolve(uint256 challengeId, ChallengeStatus status) private {
        Challenge storage opened = _challenges[challengeId];
        bool isReported = REPORTS.isReported(opened.chargeId);
        if (isReported) status = ChallengeStatus.Upheld;
        (address challenger, uint64 bond) = (opened.challenger, opened.bond);
        address operator = OPERATORS.ownerOf(opened.operatorId);
        // Before a dispute begins, only the challenger has paid.
        bool isDisputed = opened.status == ChallengeStatus.Disputed;
        // Attestors alone can have made up a batch: whoever neither signed anything of it nor stands by it owes no stake. A report
        // takes its own, where it shows guilt.
        bool isGuilty = !isReported && (opened.status != ChallengeStatus.Open || opened.receiptHash != 0);
        opened.status = status;
        bondsOf[status == ChallengeStatus.Rejected ? operator : challenger] += bond;
        _settleFees(challengeId, isDisputed ? status : ChallengeStatus.Upheld, challenger, operator);

        emit ChallengeResolved(challengeId, status);

        if (status == ChallengeStatus.Upheld) {
            ESCROW.refundCharge(opened.chargeId);
            if (isGuilty) STAKING.slash(opened.operatorId, bond, challenger);
        } else {
            // Timestamps stay far below 2^40.
            ESCROW.releaseCharge(opened.chargeId, uint40(block.timestamp));
        }
    }

    /// @dev The winner gets what both have paid and the arbitrator hasn't got; without one, it is halved, and an appeal that the
    /// other side didn't follow is its payer's.
    function _settleFees(uint256 challengeId, ChallengeStatus status, address challenger, address operator) private {
        Arbitration storage arbitration = _arbitrations[challengeId];
        (uint256 pool, uint256 appealPool) = (arbitration.pool, arbitration.appealPool);
        if (pool + appealPool == 0) return;
        Side appellant = arbitration.appellant;
        (arbitration.pool, arbitration.appealPool, arbitration.appellant) = (0, 0, Side.None);

        if (status == ChallengeStatus.Undecided) {
            feesOf[challenger] += pool / 2;
            feesOf[operator] += pool - pool / 2;
            feesOf[appellant == Side.Challenger ? challenger : operator] += appealPool;
        } else {
            feesOf[status == ChallengeStatus.Upheld ? challenger : operator] += pool + appealPool;
        }
    }

    function _advance(Challenge storage opened, ChallengeStatus status, uint256 period) private {
        // Timestamps and periods of at most months stay far below 2^40.
        (opened.status, opened.deadline) = (status, uint40(block.timestamp + period));
    }

    /// @dev Credits the caller what it has sent beyond `cost`.
    function _takeFee(uint256 cost) private returns (uint256) {
        require(msg.value >= cost, FeeTooSmall(msg.value, cost));
        if (msg.value > cost) feesOf[msg.sender] += msg.value - cost;
        return cost;
    }

    /// @dev Takes `amount` from the caller; the whole of it must arrive.
    function _collect(uint256 amount) private {
        uint256 held = CURRENCY.balanceOf(address(this));
        CURRENCY.safeTransferFrom(msg.sender, address(this), amount);
        uint256 received = CURRENCY.balanceOf(address(this)) - held;
        require(received == amount, TransferIncomplete(amount, received));
    }

    function _emitEvidence(IArbitrator arbitrator, uint256 challengeId, string calldata uri) private {
        if (bytes(uri).length > 0) emit Evidence(arbitrator, challengeId, msg.sender, uri);
    }

    /// @dev Either side can pay in the first half of the arbitrator's time, the side that isn't losing until its end.
    function _requireAppealable(
        uint256 challengeId,
        IArbitrator arbitrator,
        uint256 disputeId,
        Side side
    ) private view {
        (uint256 start, uint256 end) = arbitrator.appealPeriod(disputeId);
        uint256 ruling = arbitrator.currentRuling(disputeId);
        bool isLosing = ruling != uint256(Side.None) && ruling != uint256(side);
        // Where nobody is losing, who pays first must leave the other time to follow.
        bool isFirst = ruling == uint256(Side.None) && _arbitrations[challengeId].appellant == Side.None;
        if (isLosing || isFirst) end = Math.average(start, end);
        require(block.timestamp >= start && block.timestamp < end, AppealClosed(challengeId, start, end));
    }

    /// @dev A challenge that waits for its next step, in time.
    function _requireTurn(uint256 challengeId, ChallengeStatus status) private view returns (Challenge storage opened) {
        opened = _challenges[challengeId];
        require(opened.status == status, ChallengeStatusUnfit(challengeId, opened.status));
        require(block.timestamp <= opened.deadline, TurnOver(challengeId, opened.deadline));
    }

    function _requireOwner(LicenseId licenseId) private view {
        require(_ownerOf(licenseId) == msg.sender, CallerNotOwner(licenseId, msg.sender));
    }

    function _ownerOf(LicenseId licenseId) private view returns (address) {
        return LICENSES.ownerOf(LicenseId.unwrap(licenseId));
    }

    function _isOperator(OperatorId operatorId, address account) private view returns (bool) {
        return OPERATORS.ownerOf(operatorId) == account || OPERATORS.isSigningKey(operatorId, account, block.timestamp);
    }

    /// @dev Whether it is about a receipt that a proof can decide, which is the only answer then.
    function _isProvable(Challenge storage opened) private view returns (bool) {
        (, , address verifier) = ASSETS.inferenceOf(opened.versionId);
        return opened.receiptHash != 0 && verifier != address(0);
    }

    function _scopeOf(Challenge storage opened) private view returns (EntryScope memory) {
        return
            EntryScope({
                escrow: address(ESCROW),
                operators: OPERATORS,
                owner: opened.challenger,
                licenseId: opened.licenseId,
                operatorId: opened.operatorId,
                planId: opened.planId,
                manifestHash: _manifestHashOf(opened.versionId),
                epochStart: opened.epochStart,
                epochEnd: opened.epochEnd,
                usage: opened.usage
            });
    }

    function _usageOf(SettledEntry calldata entry) private view returns (Usage memory) {
        (, , uint256 packed) = ESCROW.chargeOf(entry.header, entry.entries, entry.outcomes, entry.licenseId);
        return UsageLib.usageOf(UsageEntry.wrap(packed));
    }

    function _manifestHashOf(VersionId versionId) private view returns (bytes32 manifestHash) {
        (manifestHash, , ) = ASSETS.inferenceOf(versionId);
    }
}
