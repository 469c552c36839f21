// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {AccessManaged} from "@openzeppelin/contracts/access/manager/AccessManaged.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {IERC20Metadata} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Metadata.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import {IAssetRegistry} from "./interfaces/IAssetRegistry.sol";
import {ILicenseRegistry, PlanShares, PlanTerms, ServiceLevels} from "./interfaces/ILicenseRegistry.sol";
import {IOperatorRegistry} from "./interfaces/IOperatorRegistry.sol";
import {IPerformanceStaking} from "./interfaces/IPerformanceStaking.sol";
import {IRevenueWaterfall} from "./interfaces/IRevenueWaterfall.sol";
import {
    Authorization,
    BatchHeader,
    BatchStatus,
    EntryStatus,
    IUsageEscrow,
    LicenseStatus,
    Purchase
} from "./interfaces/IUsageEscrow.sol";
import {BatchHash} from "./libraries/BatchHash.sol";
import {Bps} from "./libraries/Bps.sol";
import {ServiceLevelMath} from "./libraries/ServiceLevelMath.sol";
import {Till} from "./libraries/Till.sol";
import {LicenseBook, LicenseDesk} from "./libraries/LicenseDesk.sol";
import {Outcomes} from "./libraries/Outcomes.sol";
import {PaymentHash} from "./libraries/PaymentHash.sol";
import {Tariff, UsageCharge} from "./libraries/UsageCharge.sol";
import {UsageEntry, UsageEntryLib} from "./libraries/UsageEntry.sol";
import {Account, AccountLib, Aside} from "./types/Account.sol";
import {AssetId, LicenseId, OperatorId, PlanId, VersionId} from "./types/Ids.sol";

/// @title The escrow
/// @notice HOLDS all money of licensees, and what was charged to it until its payees fetch it: it owes (`totalOwed`) all
/// accounts' balances, all upfront prices and batches' charges that wait (held; then the attestor's share until collected),
/// the operators' and the assets' income and the protocol's fees. What somebody sends it unasked belongs to nobody.
/// STATES, drawn in docs/states.md, are derived from facts and time: `statusOf` a license, `batchStatusOf` a batch. An account
/// opens at purchase and stays for ever, so that nothing can be late for its money.
/// WHO: anybody buys, funds anyone, settles what a plan's attestor vouches for, renews and closes terms, and releases what is
/// due; a license's owner alone sets its cap, operator, road and renewal, locks and ends it, ends its grants and takes its
/// money out; an operator's owner fetches its earnings; the rest goes where it belongs, whoever sends it. Governance sets a
/// bounded fee, raises the ceiling, and pauses purchases and deposits for a bounded time: nothing else.
/// ASSUMES a currency that moves what it is told to move (while it is short of what is owed, no more money comes in), and
/// attestors that are right: a plan names its own, and caps, window and hold bound what a wrong one can do.
/// UNITS AND ROUNDING: money in currency units, times in Unix seconds. A price rounds down to the payer's gain; a split's
/// remainder is the operator's.
contract UsageEscrow is IUsageEscrow, AccessManaged, EIP712, ReentrancyGuardTransient {
    using LicenseDesk for LicenseBook;
    using SafeCast for uint256;
    using ServiceLevelMath for ServiceLevels;
    using UsageCharge for Tariff;
    using Outcomes for bytes;

    uint256 public constant MAX_FEE_BPS = Bps.MAX_FEE;
    uint256 public constant MAX_ENTRIES = 2_000;
    uint256 public constant PAUSE_PERIOD = 7 days;
    /// @dev More would leave too little room in the account's 64 bits.
    uint8 public constant MAX_DECIMALS = 8;

    IERC20 public immutable CURRENCY;
    IAssetRegistry public immutable ASSETS;
    ILicenseRegistry public immutable LICENSES;
    IOperatorRegistry public immutable OPERATORS;
    IPerformanceStaking public immutable STAKING;
    IRevenueWaterfall public immutable WATERFALL;
    address public immutable TREASURY;
    uint256 public immutable EPOCH_PERIOD;
    uint256 public immutable WINDOW_PERIOD;
    /// @dev What breaches of service levels are counted in: so long that what settles within a window is at most six of them
    /// late, and no longer than an epoch where that is long enough.
    uint256 private immutable BREACH_DAY;
    /// @dev One whole unit of the currency.
    uint256 private immutable UNIT;

    Till private _till;
    LicenseBook private _book;
    mapping(bytes32 lane => Lane) private _lanes;
    mapping(bytes32 batchId => Batch) private _batches;
    mapping(OperatorId operatorId => OperatorIncome) private _operatorIncomes;
    mapping(AssetId assetId => uint256) public assetIncomeOf;

    struct Deployment {
        address authority;
        IERC20 currency;
        ILicenseRegistry licenses;
        IOperatorRegistry operators;
        IPerformanceStaking staking;
        IRevenueWaterfall waterfall;
        address treasury;
        uint256 epochPeriod;
        uint256 windowPeriod;
        uint16 feeBps;
        uint64 depositCeiling;
    }

    constructor(Deployment memory d) AccessManaged(d.authority) EIP712("Licet UsageEscrow", "1") {
        uint8 decimals = IERC20Metadata(address(d.currency)).decimals();
        require(decimals <= MAX_DECIMALS, CurrencyDecimalsUnsupported(decimals, MAX_DECIMALS));
        require(d.treasury != address(0), TreasuryZero());
        _requireWithin(d.epochPeriod, 1 minutes, 7 days);
        _requireWithin(d.windowPeriod, 1 hours, 14 days);
        require(
            d.staking.CURRENCY() == d.currency &&
                d.staking.OPERATORS() == d.operators &&
                d.staking.TREASURY() == d.treasury,
            StakingOfAnotherMarket(address(d.staking))
        );
        require(
            d.waterfall.CURRENCY() == d.currency && d.waterfall.ASSETS() == d.licenses.ASSETS(),
            WaterfallOfAnotherMarket(address(d.waterfall))
        );
        uint256 stakeThaw = d.staking.THAW_PERIOD();
        uint256 shortestThaw = d.licenses.LONGEST_HOLD() + d.windowPeriod;
        require(stakeThaw >= shortestThaw, StakeThawTooShort(stakeThaw, shortestThaw));

        CURRENCY = d.currency;
        LICENSES = d.licenses;
        ASSETS = d.licenses.ASSETS();
        OPERATORS = d.operators;
        STAKING = d.staking;
        WATERFALL = d.waterfall;
        TREASURY = d.treasury;
        EPOCH_PERIOD = d.epochPeriod;
        WINDOW_PERIOD = d.windowPeriod;
        BREACH_DAY = Math.max(d.epochPeriod, Math.ceilDiv(d.windowPeriod, 5));
        UNIT = 10 ** decimals;
        _setFee(d.feeBps);
        _till.depositCeiling = d.depositCeiling;
    }

    // Buying and funding

    /// @inheritdoc IUsageEscrow
    function buy(Purchase calldata purchase) external nonReentrant returns (LicenseId licenseId) {
        return _book.buy(_till, CURRENCY, purchase);
    }

    /// @inheritdoc IUsageEscrow
    function buyWithPermit(
        Purchase calldata purchase,
        uint8 v,
        bytes32 r,
        bytes32 s
    ) external nonReentrant returns (LicenseId licenseId) {
        return _book.buyWithPermit(_till, CURRENCY, purchase, v, r, s);
    }

    /// @inheritdoc IUsageEscrow
    function buyWithAuthorization(
        Purchase calldata purchase,
        Authorization calldata authorization
    ) external nonReentrant returns (LicenseId licenseId) {
        return _book.buyWithAuthorization(_till, CURRENCY, purchase, authorization);
    }

    /// @inheritdoc IUsageEscrow
    function deposit(LicenseId licenseId, uint64 amount) external nonReentrant {
        _book.deposit(_till, CURRENCY, licenseId, amount);
    }

    /// @inheritdoc IUsageEscrow
    function depositWithPermit(
        LicenseId licenseId,
        uint64 amount,
        uint256 deadline,
        uint8 v,
        bytes32 r,
        bytes32 s
    ) external nonReentrant {
        _book.depositWithPermit(_till, CURRENCY, licenseId, amount, deadline, v, r, s);
    }

    /// @inheritdoc IUsageEscrow
    function depositWithAuthorization(
        LicenseId licenseId,
        uint64 amount,
        Authorization calldata authorization
    ) external nonReentrant {
        _book.depositWithAuthorization(_till, CURRENCY, licenseId, amount, authorization);
    }

    /// @inheritdoc IUsageEscrow
    function releaseUpfront(LicenseId licenseId) external {
        (AssetId assetId, uint256 amount, uint256 bps) = _book.takeUpfront(licenseId);
        if (amount == 0) return;

        uint256 fee = _creditAsset(assetId, amount, bps);

        emit UpfrontReleased(licenseId, assetId, amount - fee, fee);
    }

    // A licensee's own

    /// @inheritdoc IUsageEscrow
    function setCap(LicenseId licenseId, uint8 capCode) external {
        _book.setCap(licenseId, capCode);
    }

    /// @inheritdoc IUsageEscrow
    function applyCapCut(LicenseId licenseId) external {
        _book.applyCapCut(licenseId);
    }

    /// @inheritdoc IUsageEscrow
    function changeService(LicenseId licenseId, OperatorId operatorId, bool onVoucherRoad) external {
        _book.changeService(licenseId, operatorId, onVoucherRoad);
    }

    /// @inheritdoc IUsageEscrow
    function applyServiceChange(LicenseId licenseId) external {
        _book.applyServiceChange(licenseId);
    }

    /// @inheritdoc IUsageEscrow
    function setRenewal(LicenseId licenseId, bool renews) external {
        _book.setRenewal(licenseId, renews);
    }

    /// @inheritdoc IUsageEscrow
    function lock(LicenseId licenseId) external {
        _book.lock(licenseId);
    }

    /// @inheritdoc IUsageEscrow
    function unlock(LicenseId licenseId) external {
        _book.unlock(licenseId);
    }

    /// @inheritdoc IUsageEscrow
    function end(LicenseId licenseId) external {
        _book.end(licenseId);
    }

    /// @inheritdoc IUsageEscrow
    function raiseGeneration(LicenseId licenseId) external returns (uint16 generation) {
        return _book.raiseGeneration(licenseId);
    }

    /// @inheritdoc IUsageEscrow
    function thaw(LicenseId licenseId, uint64 amount) external {
        _book.thaw(licenseId, amount);
    }

    /// @inheritdoc IUsageEscrow
    function withdraw(LicenseId licenseId, address to) external nonReentrant returns (uint256 amount) {
        amount = _book.takeThawed(licenseId);

        emit Withdrawn(licenseId, to, amount);

        _till.pay(CURRENCY, to, amount);
    }

    // Terms

    /// @inheritdoc IUsageEscrow
    function renew(LicenseId licenseId) external {
        bool isOver = block.timestamp >= _book.accounts[licenseId].expiresAt();
        if (isOver && _book.asides[licenseId].endedAt != 0) closeTerm(licenseId);
        _book.renew(licenseId);
    }

    /// @inheritdoc IUsageEscrow
    function closeTerm(LicenseId licenseId) public returns (uint256 charged) {
        AssetId assetId;
        uint256 endedAt;
        (assetId, endedAt, charged) = _book.closeTerm(licenseId);
        uint256 fee = _creditAsset(assetId, charged, _till.feeBps);

        emit TermClosed(licenseId, assetId, endedAt, charged, fee);
    }

    // Settlement

    /// @inheritdoc IUsageEscrow
    function settle(
        BatchHeader calldata header,
        bytes calldata entries,
        bytes calldata proof
    ) external nonReentrant returns (bytes32 batchId) {
        batchId = batchIdOf(header);
        PlanTerms memory plan = LICENSES.termsOf(header.planId);
        _requireSettleable(batchId, header, entries, plan);
        uint48 signers = plan.attestor.vouches(batchId, proof);
        require(signers != 0, BatchNotVouchedFor(batchId, address(plan.attestor)));

        _advanceLane(header, entries);
        uint256 discountBps = plan.levels.discountOf(header.availabilityBps, header.p95TtftMs, header.samples);
        Tariff memory tariff = UsageCharge.tariffOf(header, plan, discountBps, UNIT);
        (uint256 charged, bytes memory outcomes, Account[] memory accounts) = _assess(tariff, header, entries);
        _store(header, entries, accounts, outcomes);
        bool isJailed = STAKING.charge(_chargeOf(header, charged, discountBps));
        _batches[batchId] = Batch({
            operatorId: header.operatorId,
            planId: header.planId,
            releasableAt: (block.timestamp + plan.holdPeriod).toUint40(),
            charged: charged.toUint64(),
            discountBps: uint16(discountBps),
            feeBps: _till.feeBps,
            signers: signers,
            earnsBonus: !isJailed && plan.levels.areMet(discountBps, header.samples),
            status: BatchStatus.Held
        });

        emit BatchSettled(
            batchId,
            header.operatorId,
            header.planId,
            header.versionId,
            header.sequence,
            header.epochStart,
            header.epochEnd,
            header.root,
            charged,
            discountBps,
            outcomes
        );
    }

    /// @inheritdoc IUsageEscrow
    function previewSettle(
        BatchHeader calldata header,
        bytes calldata entries
    ) external view returns (uint256 charged, uint256 discountBps, bytes memory outcomes) {
        PlanTerms memory plan = LICENSES.termsOf(header.planId);
        _requireSettleable(batchIdOf(header), header, entries, plan);

        discountBps = plan.levels.discountOf(header.availabilityBps, header.p95TtftMs, header.samples);
        Tariff memory tariff = UsageCharge.tariffOf(header, plan, discountBps, UNIT);
        (charged, outcomes, ) = _assess(tariff, header, entries);

        STAKING.previewCharge(_chargeOf(header, charged, discountBps));
    }

    /// @inheritdoc IUsageEscrow
    function release(bytes32 batchId) external nonReentrant {
        Batch memory batch = _batches[batchId];
        require(batch.status == BatchStatus.Held, BatchNotHeld(batchId, batch.status));
        require(block.timestamp >= batch.releasableAt, HoldRunning(batchId, batch.releasableAt));

        PlanShares memory shares = LICENSES.sharesOf(batch.planId);
        Split memory split = _split(batch, shares);
        _batches[batchId].status = BatchStatus.Released;
        assetIncomeOf[shares.assetId] += split.publisher;
        // All that is owed has 64 bits, and this is a part of it.
        _till.protocolFees += uint64(split.fee);
        uint256 forPool = STAKING.release(batch.operatorId, batch.charged, split.operator);
        _creditOperator(batch.operatorId, split.operator - forPool, forPool + split.bonus);

        emit BatchReleased(batchId, batch.operatorId, shares.assetId, split, forPool);
    }

    /// @inheritdoc IUsageEscrow
    function collectAttestorShare(bytes32 batchId) external nonReentrant returns (uint256 amount, uint48 signers) {
        Batch memory batch = _batches[batchId];
        require(batch.status == BatchStatus.Released, BatchNotReleased(batchId, batch.status));
        PlanShares memory shares = LICENSES.sharesOf(batch.planId);
        require(msg.sender == address(shares.attestor), CallerNotAttestor(batchId, msg.sender));

        (amount, signers) = (_split(batch, shares).attestor, batch.signers);
        _batches[batchId].status = BatchStatus.Collected;

        emit AttestorShareCollected(batchId, msg.sender, amount);

        _till.pay(CURRENCY, msg.sender, amount);
    }

    /// @inheritdoc IUsageEscrow
    function payPool(OperatorId operatorId) external nonReentrant returns (uint256 amount) {
        amount = _operatorIncomes[operatorId].forPool;
        require(amount > 0, PoolIncomeEmpty(operatorId));

        _operatorIncomes[operatorId].forPool = 0;

        emit PoolPaid(operatorId, amount);

        STAKING.addIncome(operatorId, amount);
        _till.pay(CURRENCY, address(STAKING), amount);
    }

    /// @inheritdoc IUsageEscrow
    function payAsset(AssetId assetId) external nonReentrant returns (uint256 amount) {
        amount = assetIncomeOf[assetId];
        require(amount > 0, AssetIncomeEmpty(assetId));

        delete assetIncomeOf[assetId];

        emit AssetPaid(assetId, amount);

        WATERFALL.credit(assetId, amount);
        _till.pay(CURRENCY, address(WATERFALL), amount);
    }

    /// @inheritdoc IUsageEscrow
    function withdrawEarnings(OperatorId operatorId, address to) external nonReentrant returns (uint256 amount) {
        require(OPERATORS.ownerOf(operatorId) == msg.sender, CallerNotOperator(operatorId, msg.sender));
        amount = _operatorIncomes[operatorId].earnings;
        require(amount > 0, EarningsEmpty(operatorId));

        _operatorIncomes[operatorId].earnings = 0;

        emit EarningsWithdrawn(operatorId, to, amount);

        _till.pay(CURRENCY, to, amount);
    }

    /// @inheritdoc IUsageEscrow
    function withdrawFees() external nonReentrant returns (uint256 amount) {
        amount = _till.protocolFees;
        require(amount > 0, FeesEmpty());

        _till.protocolFees = 0;

        emit FeesWithdrawn(TREASURY, amount);

        _till.pay(CURRENCY, TREASURY, amount);
    }

    // Administration

    /// @inheritdoc IUsageEscrow
    function setFee(uint16 newFeeBps) external restricted {
        _setFee(newFeeBps);
    }

    /// @inheritdoc IUsageEscrow
    function raiseDepositCeiling(uint64 ceiling) external restricted {
        require(ceiling > _till.depositCeiling, CeilingNotRaised(ceiling, _till.depositCeiling));

        _till.depositCeiling = ceiling;

        emit DepositCeilingRaised(ceiling);
    }

    /// @inheritdoc IUsageEscrow
    function pause() external restricted {
        uint256 pausedBefore = _till.pausedUntil;
        uint256 allowedAt = pausedBefore == 0 ? 0 : pausedBefore + PAUSE_PERIOD;
        require(block.timestamp >= allowedAt, PauseTooSoon(allowedAt));

        uint40 until = (block.timestamp + PAUSE_PERIOD).toUint40();
        _till.pausedUntil = until;

        emit Paused(until);
    }

    /// @inheritdoc IUsageEscrow
    function unpause() external restricted {
        if (block.timestamp < _till.pausedUntil) _till.pausedUntil = uint40(block.timestamp);

        emit Unpaused();
    }

    // Views

    /// @inheritdoc IUsageEscrow
    function batchIdOf(BatchHeader calldata header) public view returns (bytes32) {
        return _hashTypedDataV4(BatchHash.structHashOf(header));
    }

    /// @inheritdoc IUsageEscrow
    function batchOf(bytes32 batchId) external view returns (Batch memory) {
        return _batches[batchId];
    }

    /// @inheritdoc IUsageEscrow
    function splitOf(bytes32 batchId) external view returns (Split memory split) {
        Batch memory batch = _batches[batchId];
        if (batch.status != BatchStatus.None) split = _split(batch, LICENSES.sharesOf(batch.planId));
    }

    /// @inheritdoc IUsageEscrow
    function laneOf(OperatorId operatorId, PlanId planId, VersionId versionId) external view returns (Lane memory) {
        return _lanes[_laneKey(operatorId, planId, versionId)];
    }

    /// @inheritdoc IUsageEscrow
    function batchStatusOf(bytes32 batchId) external view returns (BatchStatus) {
        Batch memory batch = _batches[batchId];
        bool isReleasable = batch.status == BatchStatus.Held && block.timestamp >= batch.releasableAt;
        return isReleasable ? BatchStatus.Releasable : batch.status;
    }

    /// @inheritdoc IUsageEscrow
    function accountOf(LicenseId licenseId) external view returns (AccountView memory) {
        bytes memory encoded = _book.encodedAccountOf(licenseId);
        // What the library encoded is what this function returns: to decode it and encode it again takes a kilobyte of code.
        assembly ("memory-safe") {
            return(add(encoded, 0x20), mload(encoded))
        }
    }

    /// @inheritdoc IUsageEscrow
    function statusOf(LicenseId licenseId) external view returns (LicenseStatus) {
        return _book.statusOf(licenseId);
    }

    /// @inheritdoc IUsageEscrow
    function committedOf(LicenseId licenseId) external view returns (uint256) {
        return _book.committedOf(licenseId);
    }

    /// @inheritdoc IUsageEscrow
    function upfrontOf(LicenseId licenseId) external view returns (Upfront memory) {
        return _book.upfronts[licenseId];
    }

    /// @inheritdoc IUsageEscrow
    function operatorIncomeOf(OperatorId operatorId) external view returns (OperatorIncome memory) {
        return _operatorIncomes[operatorId];
    }

    /// @inheritdoc IUsageEscrow
    function feeBps() external view returns (uint16) {
        return _till.feeBps;
    }

    /// @inheritdoc IUsageEscrow
    function depositCeiling() external view returns (uint64) {
        return _till.depositCeiling;
    }

    /// @inheritdoc IUsageEscrow
    function pausedUntil() external view returns (uint40) {
        return _till.pausedUntil;
    }

    /// @inheritdoc IUsageEscrow
    function protocolFees() external view returns (uint64) {
        return _till.protocolFees;
    }

    /// @inheritdoc IUsageEscrow
    function totalOwed() external view returns (uint64) {
        return _till.totalOwed;
    }

    /// @inheritdoc IUsageEscrow
    function purchaseHash(Purchase calldata purchase, bytes32 salt) external pure returns (bytes32) {
        return PaymentHash.ofPurchase(purchase, salt);
    }

    /// @inheritdoc IUsageEscrow
    function depositHash(LicenseId licenseId, uint64 amount, bytes32 salt) external pure returns (bytes32) {
        return PaymentHash.ofDeposit(licenseId, amount, salt);
    }

    /// @inheritdoc IUsageEscrow
    function capOf(uint8 capCode) external view returns (uint256) {
        return AccountLib.capOf(capCode, UNIT);
    }

    // Internals

    /// @dev Credits `amount`, less the protocol fee, to an asset.
    function _creditAsset(AssetId assetId, uint256 amount, uint256 bps) private returns (uint256 fee) {
        fee = Bps.share(amount, bps);
        assetIncomeOf[assetId] += amount - fee;
        // All that is owed has 64 bits, and this is a part of it.
        _till.protocolFees += uint64(fee);
    }

    function _creditOperator(OperatorId operatorId, uint256 earnings, uint256 forPool) private {
        OperatorIncome memory income = _operatorIncomes[operatorId];
        // All that is owed has 64 bits, and these are parts of it.
        unchecked {
            income.earnings += uint64(earnings);
            income.forPool += uint64(forPool);
        }
        _operatorIncomes[operatorId] = income;
    }

    function _requireSettleable(
        bytes32 batchId,
        BatchHeader calldata header,
        bytes calldata entries,
        PlanTerms memory plan
    ) private view {
        require(_batches[batchId].status == BatchStatus.None, BatchSettledBefore(batchId));
        (uint256 epochStart, uint256 epochEnd) = (header.epochStart, header.epochEnd);
        require(
            epochStart < epochEnd && epochEnd - epochStart <= EPOCH_PERIOD,
            EpochInvalid(epochStart, epochEnd, EPOCH_PERIOD)
        );
        require(epochEnd <= block.timestamp, EpochNotEnded(epochEnd, block.timestamp));
        uint256 closedAt = epochEnd + WINDOW_PERIOD;
        require(block.timestamp <= closedAt, WindowClosed(closedAt, block.timestamp));
        _requireFollows(header, entries);
        require(header.versionId.assetOf() == plan.assetId, VersionNotOfModel(header.versionId, plan.assetId));
        uint256 usableUntil = ASSETS.usableUntil(header.versionId);
        require(epochEnd <= usableUntil, VersionNotUsable(header.versionId, usableUntil, epochEnd));
        require(
            header.count > 0 && header.availabilityBps <= Bps.WHOLE,
            SummaryInvalid(header.count, header.availabilityBps)
        );
        bytes32 entriesHash = keccak256(entries);
        require(entriesHash == header.entriesHash, EntriesMismatch(entriesHash, header.entriesHash));
    }

    /// @dev A batch's number is above its lane's last (numbers of batches that were signed and never settled stay unused,
    /// since attestors sign one batch a number), and its epoch comes after the last one's, or is the same one and the batch
    /// goes on where the last part of it ended.
    function _requireFollows(BatchHeader calldata header, bytes calldata entries) private view {
        uint256 length = entries.length;
        require(
            length > 0 && length % UsageEntryLib.SIZE == 0 && length <= MAX_ENTRIES * UsageEntryLib.SIZE,
            EntriesMalformed(length)
        );
        Lane memory lane = _lanes[_laneKey(header.operatorId, header.planId, header.versionId)];
        require(header.sequence > lane.sequence, BatchOutOfSequence(header.sequence, lane.sequence));
        if (header.epochStart == lane.epochStart && header.epochEnd == lane.epochEnd) {
            uint256 first = UsageEntryLib.at(_offsetOf(entries)).licenseId();
            require(first > lane.lastLicense, EntriesOutOfOrder(first, lane.lastLicense));
        } else {
            require(header.epochStart >= lane.epochEnd, EpochOverlaps(header.epochStart, lane.epochEnd));
        }
    }

    function _advanceLane(BatchHeader calldata header, bytes calldata entries) private {
        uint256 lastOffset = _offsetOf(entries) + entries.length - UsageEntryLib.SIZE;
        _lanes[_laneKey(header.operatorId, header.planId, header.versionId)] = Lane({
            sequence: header.sequence,
            epochStart: header.epochStart,
            epochEnd: header.epochEnd,
            lastLicense: uint64(UsageEntryLib.at(lastOffset).licenseId())
        });
    }

    /// @dev What a batch makes of the accounts that it names: what it charges in all, the outcome of each entry, and
    /// each account after it.
    function _assess(
        Tariff memory tariff,
        BatchHeader calldata header,
        bytes calldata entries
    ) private view returns (uint256 charged, bytes memory outcomes, Account[] memory accounts) {
        uint256 count = entries.length / UsageEntryLib.SIZE;
        outcomes = Outcomes.reserve(count);
        accounts = new Account[](count);
        uint256 evenTotals;
        uint256 oddTotals;
        uint256 previous;
        // At most MAX_ENTRIES entries: 64-bit sums of 32-bit meters and of 56-bit charges can't overflow.
        unchecked {
            for (uint256 i; i < count; ++i) {
                UsageEntry entry = UsageEntryLib.at(_offsetOf(entries) + i * UsageEntryLib.SIZE);
                uint256 licenseId = entry.licenseId();
                require(licenseId > previous, EntriesOutOfOrder(licenseId, previous));
                previous = licenseId;
                evenTotals += entry.evenMeters();
                oddTotals += entry.oddMeters();
                Account account = _book.accounts[LicenseId.wrap(uint64(licenseId))];
                uint256 amount;
                EntryStatus status;
                (account, amount, status) = account.hasAside()
                    ? tariff.chargeBeside(account, _book.asides[LicenseId.wrap(uint64(licenseId))], entry)
                    : tariff.chargeTo(account, entry);
                accounts[i] = account;
                charged += amount;
                outcomes.put(i, licenseId, amount, uint256(status));
            }
        }
        (uint256 evenSigned, uint256 oddSigned) = UsageEntryLib.lanesOf(header);
        require(evenTotals == evenSigned && oddTotals == oddSigned, TotalsMismatch());
    }

    function _store(
        BatchHeader calldata header,
        bytes calldata entries,
        Account[] memory accounts,
        bytes memory outcomes
    ) private {
        unchecked {
            for (uint256 i; i < accounts.length; ++i) {
                LicenseId licenseId = LicenseId.wrap(
                    uint64(UsageEntryLib.at(_offsetOf(entries) + i * UsageEntryLib.SIZE).licenseId())
                );
                Account account = accounts[i];
                _book.accounts[licenseId] = account;
                if (account.hasAside()) _storeAside(_book.asides[licenseId], header.epochStart, outcomes.amountAt(i));
            }
        }
    }

    /// @dev What was charged for the term before the running one counts there.
    function _storeAside(Aside storage aside, uint256 epochStart, uint256 amount) private {
        // A charge is at most what its term has room for: 56 bits.
        if (epochStart < aside.endedAt) aside.endedSpent += uint56(amount);
    }

    /// @dev Shares of the gross, which is the charge before the discount: the discount comes out of the operator's.
    function _split(Batch memory batch, PlanShares memory shares) private pure returns (Split memory split) {
        uint256 charged = batch.charged;
        uint256 gross = (charged * Bps.WHOLE) / (Bps.WHOLE - batch.discountBps);
        split.fee = Bps.share(gross, batch.feeBps);
        split.publisher = Bps.share(gross, shares.publisherBps);
        split.attestor = Bps.share(gross, shares.attestorBps);
        split.operator = charged - split.fee - split.publisher - split.attestor;
        if (batch.earnsBonus) split.bonus = split.fee / 2;
        split.fee -= split.bonus;
    }

    function _setFee(uint16 newFeeBps) private {
        require(newFeeBps <= MAX_FEE_BPS, FeeAboveBound(newFeeBps, MAX_FEE_BPS));

        _till.feeBps = newFeeBps;

        emit FeeSet(newFeeBps);
    }

    function _chargeOf(
        BatchHeader calldata header,
        uint256 amount,
        uint256 discountBps
    ) private view returns (IPerformanceStaking.Charge memory) {
        return
            IPerformanceStaking.Charge({
                operatorId: header.operatorId,
                planId: header.planId,
                amount: amount,
                day: header.epochStart / BREACH_DAY,
                breached: discountBps > 0
            });
    }

    function _requireWithin(uint256 period, uint256 shortest, uint256 longest) private pure {
        require(period >= shortest && period <= longest, PeriodOutOfRange(period, shortest, longest));
    }

    function _laneKey(OperatorId operatorId, PlanId planId, VersionId versionId) private pure returns (bytes32) {
        return keccak256(abi.encode(operatorId, planId, versionId));
    }

    function _offsetOf(bytes calldata data) private pure returns (uint256 offset) {
        assembly ("memory-safe") {
            offset := data.offset
        }
    }
}
