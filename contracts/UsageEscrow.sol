// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {AccessManaged} from "@openzeppelin/contracts/access/manager/AccessManaged.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {IERC20Metadata} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Metadata.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import {IAssetRegistry} from "./interfaces/IAssetRegistry.sol";
import {ILicenseRegistry} from "./interfaces/ILicenseRegistry.sol";
import {IOperatorRegistry} from "./interfaces/IOperatorRegistry.sol";
import {IPerformanceStaking} from "./interfaces/IPerformanceStaking.sol";
import {IRevenueWaterfall} from "./interfaces/IRevenueWaterfall.sol";
import {
    Authorization,
    BatchHeader,
    BatchStatus,
    IUsageEscrow,
    LicenseStatus,
    Purchase,
    VoucherKey,
    VoucherKeyStatus
} from "./interfaces/IUsageEscrow.sol";
import {BatchBook, BatchDesk} from "./libraries/BatchDesk.sol";
import {BatchHash} from "./libraries/BatchHash.sol";
import {Bps} from "./libraries/Bps.sol";
import {ChargeDesk} from "./libraries/ChargeDesk.sol";
import {IncomeBook} from "./libraries/IncomeBook.sol";
import {LicenseBook} from "./libraries/LicenseBook.sol";
import {LicenseDesk} from "./libraries/LicenseDesk.sol";
import {Outcomes} from "./libraries/Outcomes.sol";
import {PaymentHash} from "./libraries/PaymentHash.sol";
import {SettlementRules} from "./libraries/SettlementRules.sol";
import {Till} from "./libraries/Till.sol";
import {VoucherDesk} from "./libraries/VoucherDesk.sol";
import {AccountLib} from "./types/Account.sol";
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
    using BatchDesk for BatchBook;
    using ChargeDesk for BatchBook;
    using LicenseDesk for LicenseBook;
    using VoucherDesk for LicenseBook;
    using SafeCast for uint256;

    uint256 public constant MAX_FEE_BPS = Bps.MAX_FEE;
    uint256 public constant MAX_ENTRIES = Outcomes.MOST;
    uint256 public constant PAUSE_PERIOD = 7 days;
    /// @dev Fewer would make a unit so dear that it matters who gains what a split rounds.
    uint8 public constant MIN_DECIMALS = 4;
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
    /// @dev One whole unit of the currency.
    uint256 private immutable UNIT;

    Till private _till;
    LicenseBook private _book;
    BatchBook private _batches;
    IncomeBook private _incomes;

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
        require(
            decimals >= MIN_DECIMALS && decimals <= MAX_DECIMALS,
            CurrencyDecimalsUnsupported(decimals, MIN_DECIMALS, MAX_DECIMALS)
        );
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
    function changePlan(LicenseId licenseId, PlanId planId) external {
        _book.changePlan(licenseId, planId);
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

    /// @inheritdoc IUsageEscrow
    function addVoucherKey(LicenseId licenseId, bytes calldata key, uint56 cap) external {
        _book.addVoucherKey(licenseId, key, cap);
    }

    /// @inheritdoc IUsageEscrow
    function revokeVoucherKey(LicenseId licenseId, bytes calldata key) external {
        _book.revokeVoucherKey(licenseId, key, EPOCH_PERIOD + WINDOW_PERIOD);
    }

    // Terms

    /// @inheritdoc IUsageEscrow
    function renew(LicenseId licenseId) external {
        bool isOver = block.timestamp >= _book.slotOf(licenseId).account.expiresAt();
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
        _batches.settle(_book, _rules(), batchId, header, entries, proof);
    }

    /// @inheritdoc IUsageEscrow
    function previewSettle(
        BatchHeader calldata header,
        bytes calldata entries
    ) external view returns (uint256 charged, uint256 discountBps, bytes memory outcomes) {
        return _batches.previewSettle(_book, _rules(), batchIdOf(header), header, entries);
    }

    /// @inheritdoc IUsageEscrow
    function settleVouchers(
        OperatorId operatorId,
        PlanId planId,
        bytes calldata vouchers
    ) external nonReentrant returns (uint256 charged, bytes memory outcomes) {
        uint256 fee;
        bytes32 domain = _domainSeparatorV4();
        (charged, outcomes, fee) = _book.settleVouchers(_incomes, _rules(), domain, operatorId, planId, vouchers);
        _addFee(fee);
    }

    /// @inheritdoc IUsageEscrow
    function previewVouchers(
        OperatorId operatorId,
        PlanId planId,
        bytes calldata vouchers
    ) external view returns (uint256 charged, bytes memory outcomes) {
        return _book.previewVouchers(_rules(), _domainSeparatorV4(), operatorId, planId, vouchers);
    }

    /// @inheritdoc IUsageEscrow
    function release(bytes32 batchId) external nonReentrant {
        _addFee(_batches.release(_incomes, _rules(), batchId));
    }

    /// @inheritdoc IUsageEscrow
    function collectAttestorShare(bytes32 batchId) external nonReentrant returns (uint256 amount, uint48 signers) {
        (amount, signers) = _batches.takeAttestorShare(_rules(), batchId);

        _till.pay(CURRENCY, msg.sender, amount);
    }

    // Disputes

    /// @inheritdoc IUsageEscrow
    function freezeCharge(
        BatchHeader calldata header,
        bytes calldata entries,
        bytes calldata outcomes,
        LicenseId licenseId
    ) external restricted returns (bytes32 chargeId, uint256 amount) {
        return _batches.freeze(_rules(), batchIdOf(header), header, entries, outcomes, licenseId);
    }

    /// @inheritdoc IUsageEscrow
    function refundCharge(bytes32 chargeId) external restricted returns (uint256 amount) {
        uint256 fee;
        (amount, fee) = _batches.refund(_book, _incomes, _rules(), chargeId);
        _addFee(fee);
    }

    /// @inheritdoc IUsageEscrow
    function releaseCharge(bytes32 chargeId, uint40 releasableAt) external restricted {
        _batches.letGo(chargeId, releasableAt);
    }

    // Incomes

    /// @inheritdoc IUsageEscrow
    function payPool(OperatorId operatorId) external nonReentrant returns (uint256 amount) {
        amount = _incomes.ofOperators[operatorId].forPool;
        require(amount > 0, PoolIncomeEmpty(operatorId));

        _incomes.ofOperators[operatorId].forPool = 0;

        emit PoolPaid(operatorId, amount);

        STAKING.addIncome(operatorId, amount);
        _till.pay(CURRENCY, address(STAKING), amount);
    }

    /// @inheritdoc IUsageEscrow
    function payAsset(AssetId assetId) external nonReentrant returns (uint256 amount) {
        amount = _incomes.ofAssets[assetId];
        require(amount > 0, AssetIncomeEmpty(assetId));

        delete _incomes.ofAssets[assetId];

        emit AssetPaid(assetId, amount);

        WATERFALL.credit(assetId, amount);
        _till.pay(CURRENCY, address(WATERFALL), amount);
    }

    /// @inheritdoc IUsageEscrow
    function withdrawEarnings(OperatorId operatorId, address to) external nonReentrant returns (uint256 amount) {
        require(OPERATORS.ownerOf(operatorId) == msg.sender, CallerNotOperator(operatorId, msg.sender));
        amount = _incomes.ofOperators[operatorId].earnings;
        require(amount > 0, EarningsEmpty(operatorId));

        _incomes.ofOperators[operatorId].earnings = 0;

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
        return _batches.batches[batchId];
    }

    /// @inheritdoc IUsageEscrow
    function splitOf(bytes32 batchId) external view returns (Split memory) {
        return _batches.splitOf(_rules(), batchId);
    }

    /// @inheritdoc IUsageEscrow
    function chargeOf(
        BatchHeader calldata header,
        bytes calldata entries,
        bytes calldata outcomes,
        LicenseId licenseId
    ) external view returns (bytes32 chargeId, uint256 amount, uint256 entry) {
        return _batches.chargeOf(_rules(), batchIdOf(header), header, entries, outcomes, licenseId);
    }

    /// @inheritdoc IUsageEscrow
    function chargeRecordOf(bytes32 chargeId) external view returns (ChargeRecord memory) {
        return _batches.charges[chargeId];
    }

    /// @inheritdoc IUsageEscrow
    function laneOf(OperatorId operatorId, PlanId planId, VersionId versionId) external view returns (Lane memory) {
        return _batches.laneOf(operatorId, planId, versionId);
    }

    /// @inheritdoc IUsageEscrow
    function batchStatusOf(bytes32 batchId) external view returns (BatchStatus) {
        return _batches.statusOf(batchId);
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
    function voucherKeyOf(
        LicenseId licenseId,
        uint16 generation,
        bytes calldata key
    ) external view returns (VoucherKeyStatus status, VoucherKey memory record) {
        return _book.voucherKeyOf(licenseId, generation, key);
    }

    /// @inheritdoc IUsageEscrow
    function upfrontOf(LicenseId licenseId) external view returns (Upfront memory) {
        return _book.upfronts[licenseId];
    }

    /// @inheritdoc IUsageEscrow
    function operatorIncomeOf(OperatorId operatorId) external view returns (OperatorIncome memory) {
        return _incomes.ofOperators[operatorId];
    }

    /// @inheritdoc IUsageEscrow
    function assetIncomeOf(AssetId assetId) external view returns (uint256) {
        return _incomes.ofAssets[assetId];
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
    function depositHash(
        LicenseId licenseId,
        address owner,
        uint64 amount,
        bytes32 salt
    ) external pure returns (bytes32) {
        return PaymentHash.ofDeposit(licenseId, owner, amount, salt);
    }

    /// @inheritdoc IUsageEscrow
    function capOf(uint8 capCode) external view returns (uint256) {
        return AccountLib.capOf(capCode, UNIT);
    }

    // Internals

    /// @dev Credits `amount`, less the protocol fee, to an asset.
    function _creditAsset(AssetId assetId, uint256 amount, uint256 bps) private returns (uint256 fee) {
        fee = _incomes.creditAsset(assetId, amount, bps);
        _addFee(fee);
    }

    function _addFee(uint256 fee) private {
        // All that is owed has 64 bits, and this is a part of it.
        _till.protocolFees += uint64(fee);
    }

    function _rules() private view returns (SettlementRules memory) {
        return
            SettlementRules({
                licenses: LICENSES,
                assets: ASSETS,
                operators: OPERATORS,
                staking: STAKING,
                epochPeriod: EPOCH_PERIOD,
                windowPeriod: WINDOW_PERIOD,
                unit: UNIT,
                feeBps: _till.feeBps
            });
    }

    function _setFee(uint16 newFeeBps) private {
        require(newFeeBps <= MAX_FEE_BPS, FeeAboveBound(newFeeBps, MAX_FEE_BPS));

        _till.feeBps = newFeeBps;

        emit FeeSet(newFeeBps);
    }

    function _requireWithin(uint256 period, uint256 shortest, uint256 longest) private pure {
        require(period >= shortest && period <= longest, PeriodOutOfRange(period, shortest, longest));
    }
}
