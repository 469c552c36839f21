// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {AccessManaged} from "@openzeppelin/contracts/access/manager/AccessManaged.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import {IOperatorRegistry} from "./interfaces/IOperatorRegistry.sol";
import {IPerformanceStaking, OperatorStatus} from "./interfaces/IPerformanceStaking.sol";
import {Bps} from "./libraries/Bps.sol";
import {Thaw} from "./libraries/Thaw.sol";
import {OperatorId, PlanId} from "./types/Ids.sol";

/// @title The operators' slashable bonds
/// @notice HOLDS stake and the proceeds of slashes: its balance is the sum of all pools' stake and all proceeds.
/// An operator's pool is owned in shares. Stake on its way out stays in the pool, and is slashed like all of it, until it
/// is withdrawn at what it is then worth; it only stops to count as active.
/// STATES of an operator: unstaked ⇄ active → jailed → active. A jail ends by itself; the next one is twice as long, unless
/// CURE_PERIOD went by since.
/// ALWAYS: after income is put in flight, in flight ≤ active stake; after a withdrawal, in flight ≤ stake.
/// WHO: an operator's owner stakes, thaws and withdraws; UsageEscrow moves in-flight income,
/// notes breaches and pays income; contracts with the role slash.
/// ASSUMES a currency that moves what it is told to move, and UsageEscrow to lower in flight by what it raised.
/// UNITS AND ROUNDING: money in currency units; shares and their worth round down, so that the pool gains the fraction.
contract PerformanceStaking is IPerformanceStaking, AccessManaged, ReentrancyGuardTransient {
    using SafeERC20 for IERC20;
    using SafeCast for uint256;

    /// @dev Shares that no one holds, beside one unit of stake that no one has: they make it dear to raise the price of a
    /// share between two deposits (the inflation attack on vaults; see OpenZeppelin's ERC4626).
    uint256 private constant VIRTUAL_SHARES = 1_000;
    uint256 private constant VIRTUAL_STAKE = 1;

    /// @dev What repeated breaches cost of a pool.
    uint256 public constant SLASH_BPS = 100;
    uint256 public constant BREACHES_TO_JAIL = 3;
    uint256 public constant JAIL_PERIOD = 7 days;
    /// @dev As long after a jail's end, the operator's next one is the first again.
    uint256 public constant CURE_PERIOD = 90 days;
    uint256 private constant BREACH_DAYS = 7;
    /// @dev Jails stop to double at five years.
    uint256 private constant MOST_DOUBLINGS = 8;

    IERC20 public immutable CURRENCY;
    IOperatorRegistry public immutable OPERATORS;
    address public immutable TREASURY;
    uint256 public immutable THAW_PERIOD;

    mapping(OperatorId operatorId => Pool) private _pools;
    mapping(OperatorId operatorId => mapping(address holder => Position)) private _positions;
    mapping(OperatorId operatorId => mapping(PlanId planId => Breaches)) private _breaches;
    mapping(address beneficiary => uint256) public proceedsOf;

    /// @param thawPeriod Seconds. UsageEscrow refuses a staking contract whose stake could leave before what it secured
    /// may be released
    constructor(
        address authority,
        IERC20 currency,
        IOperatorRegistry operators,
        address treasury,
        uint256 thawPeriod
    ) AccessManaged(authority) {
        require(treasury != address(0), TreasuryZero());

        CURRENCY = currency;
        OPERATORS = operators;
        TREASURY = treasury;
        THAW_PERIOD = thawPeriod;
    }

    /// @inheritdoc IPerformanceStaking
    function addStake(OperatorId operatorId, uint64 amount) external nonReentrant returns (uint256 shares) {
        require(OPERATORS.ownerOf(operatorId) == msg.sender, CallerNotOperator(operatorId, msg.sender));
        require(amount > 0, AmountZero());
        Pool storage pool = _pools[operatorId];
        shares = Math.mulDiv(amount, pool.shares + VIRTUAL_SHARES, pool.stake + VIRTUAL_STAKE);
        require(shares > 0, StakeTooSmall(amount));

        pool.stake = (uint256(pool.stake) + amount).toUint64();
        pool.shares = (pool.shares + shares).toUint128();
        _positions[operatorId][msg.sender].shares += uint128(shares);

        emit StakeAdded(operatorId, msg.sender, amount, shares);

        uint256 before = CURRENCY.balanceOf(address(this));
        CURRENCY.safeTransferFrom(msg.sender, address(this), amount);
        uint256 received = CURRENCY.balanceOf(address(this)) - before;
        require(received == amount, TransferIncomplete(amount, received));
    }

    /// @inheritdoc IPerformanceStaking
    function thaw(OperatorId operatorId, uint128 shares) external {
        Position storage position = _positions[operatorId][msg.sender];
        require(shares <= position.shares, SharesAbovePosition(operatorId, shares, position.shares));

        Pool storage pool = _pools[operatorId];
        pool.thawingShares = pool.thawingShares - position.thaw.amount + shares;
        uint256 readyAt = position.thaw.start(shares, THAW_PERIOD);

        emit StakeThawed(operatorId, msg.sender, shares, readyAt);
    }

    /// @inheritdoc IPerformanceStaking
    function withdraw(OperatorId operatorId, address to) external nonReentrant returns (uint256 amount) {
        Position storage position = _positions[operatorId][msg.sender];
        Thaw memory thawed = position.thaw;
        require(thawed.amount > 0, ThawEmpty(operatorId, msg.sender));
        require(thawed.isReady(), StakeStillThawing(operatorId, thawed.readyAt));
        Pool storage pool = _pools[operatorId];
        amount = _worthOf(pool, pool.stake, thawed.amount);
        uint256 stake = pool.stake - amount;
        require(stake >= pool.inFlight, StakeBelowInFlight(operatorId, stake, pool.inFlight));

        position.shares -= thawed.amount;
        delete position.thaw;
        pool.stake = uint64(stake);
        pool.shares -= thawed.amount;
        pool.thawingShares -= thawed.amount;

        emit StakeWithdrawn(operatorId, msg.sender, to, amount, thawed.amount);

        CURRENCY.safeTransfer(to, amount);
    }

    /// @inheritdoc IPerformanceStaking
    function charge(Charge calldata charged) external restricted returns (bool jailed) {
        OperatorId operatorId = charged.operatorId;
        Pool storage pool = _pools[operatorId];
        if (_isBreach(charged)) _recordBreach(pool, charged);
        _requireHeadroom(pool, pool.stake, charged);

        // At most the stake, which has 64 bits.
        pool.inFlight += uint64(charged.amount);
        return block.timestamp < pool.jailedUntil;
    }

    /// @inheritdoc IPerformanceStaking
    function release(
        OperatorId operatorId,
        uint256 amount,
        uint256 income
    ) external restricted returns (uint256 forPool) {
        _pools[operatorId].inFlight -= amount.toUint64();
        return poolShareOf(operatorId, income);
    }

    /// @inheritdoc IPerformanceStaking
    function addIncome(OperatorId operatorId, uint256 amount) external restricted {
        Pool storage pool = _pools[operatorId];
        pool.stake = (pool.stake + amount).toUint64();

        emit IncomeAdded(operatorId, amount);
    }

    /// @inheritdoc IPerformanceStaking
    function slash(
        OperatorId operatorId,
        uint256 amount,
        address beneficiary
    ) external restricted returns (uint256 slashed) {
        require(beneficiary != address(0), BeneficiaryZero());
        slashed = Math.min(amount, _pools[operatorId].stake);

        _slash(operatorId, slashed, beneficiary);
    }

    /// @inheritdoc IPerformanceStaking
    function withdrawProceeds(address to) external nonReentrant returns (uint256 amount) {
        amount = proceedsOf[msg.sender];
        require(amount > 0, ProceedsEmpty(msg.sender));

        delete proceedsOf[msg.sender];

        emit ProceedsWithdrawn(msg.sender, to, amount);

        CURRENCY.safeTransfer(to, amount);
    }

    /// @inheritdoc IPerformanceStaking
    function poolOf(OperatorId operatorId) external view returns (Pool memory) {
        return _pools[operatorId];
    }

    /// @inheritdoc IPerformanceStaking
    function positionOf(OperatorId operatorId, address holder) external view returns (Position memory) {
        return _positions[operatorId][holder];
    }

    /// @inheritdoc IPerformanceStaking
    function activeStakeOf(OperatorId operatorId) external view returns (uint256) {
        return _activeStakeOf(_pools[operatorId]);
    }

    /// @inheritdoc IPerformanceStaking
    function statusOf(OperatorId operatorId) external view returns (OperatorStatus) {
        Pool storage pool = _pools[operatorId];
        if (block.timestamp < pool.jailedUntil) return OperatorStatus.Jailed;
        return pool.stake == 0 ? OperatorStatus.Unstaked : OperatorStatus.Active;
    }

    /// @inheritdoc IPerformanceStaking
    function breachesOf(OperatorId operatorId, PlanId planId) external view returns (Breaches memory) {
        return _breaches[operatorId][planId];
    }

    /// @inheritdoc IPerformanceStaking
    function previewCharge(Charge calldata charged) external view {
        Pool storage pool = _pools[charged.operatorId];
        uint256 stake = pool.stake;
        if (_isBreach(charged) && _countOf(_withBreach(charged).bits) >= BREACHES_TO_JAIL) {
            stake -= Bps.share(stake, SLASH_BPS);
        }
        _requireHeadroom(pool, stake, charged);
    }

    /// @inheritdoc IPerformanceStaking
    function headroomOf(OperatorId operatorId) external view returns (uint256) {
        Pool storage pool = _pools[operatorId];
        return Math.saturatingSub(_activeStakeOf(pool), pool.inFlight);
    }

    /// @inheritdoc IPerformanceStaking
    function poolShareOf(OperatorId, uint256) public pure returns (uint256) {
        return 0;
    }

    /// @inheritdoc IPerformanceStaking
    function worthOf(OperatorId operatorId, uint256 shares) external view returns (uint256) {
        Pool storage pool = _pools[operatorId];
        return _worthOf(pool, pool.stake, shares);
    }

    /// @dev Bad service that nobody pays for is no breach: only licenses that chose the operator can be charged, and whoever
    /// made up a plan and an attestor could otherwise have anybody slashed.
    function _isBreach(Charge calldata charged) private pure returns (bool) {
        return charged.breached && charged.amount > 0;
    }

    /// @dev A breach on a day that was punished, or that lies before the seven that are kept, changes nothing.
    function _recordBreach(Pool storage pool, Charge calldata charged) private {
        (OperatorId operatorId, PlanId planId) = (charged.operatorId, charged.planId);
        if (charged.day <= _breaches[operatorId][planId].punishedThrough) return;
        Breaches memory breaches = _withBreach(charged);
        bool isPunished = _countOf(breaches.bits) >= BREACHES_TO_JAIL;
        if (isPunished) (breaches.bits, breaches.punishedThrough) = (0, breaches.lastDay);
        _breaches[operatorId][planId] = breaches;

        emit BreachRecorded(operatorId, planId, charged.day);

        if (isPunished) {
            _slash(operatorId, Bps.share(pool.stake, SLASH_BPS), TREASURY);
            _jail(pool, operatorId, planId);
        }
    }

    /// @dev The breaches under a plan, with that of a charge.
    function _withBreach(Charge calldata charged) private view returns (Breaches memory breaches) {
        breaches = _breaches[charged.operatorId][charged.planId];
        uint256 day = charged.day;
        if (day <= breaches.punishedThrough) return breaches;

        // A day is a time divided by the length of an epoch. Bits that are shifted out of the seven are forgotten.
        if (day > breaches.lastDay) {
            uint256 shifted = uint256(breaches.bits) << Math.min(day - breaches.lastDay, BREACH_DAYS);
            breaches.bits = uint8((shifted | 1) & ((1 << BREACH_DAYS) - 1));
            breaches.lastDay = uint64(day);
        } else if (breaches.lastDay - day < BREACH_DAYS) {
            breaches.bits |= uint8(1 << (breaches.lastDay - day));
        }
    }

    function _jail(Pool storage pool, OperatorId operatorId, PlanId planId) private {
        bool isCured = block.timestamp >= pool.jailedUntil + CURE_PERIOD;
        uint256 jailings = isCured ? 0 : pool.jailings;
        // Five years and a time stay far below 2^40.
        pool.jailedUntil = uint40(block.timestamp + (JAIL_PERIOD << jailings));
        pool.jailings = uint8(Math.min(jailings + 1, MOST_DOUBLINGS));

        emit OperatorJailed(operatorId, planId, pool.jailedUntil);
    }

    /// @dev `amount` is at most the stake.
    function _slash(OperatorId operatorId, uint256 amount, address beneficiary) private {
        // The stake has 64 bits.
        _pools[operatorId].stake -= uint64(amount);
        proceedsOf[beneficiary] += amount;

        emit StakeSlashed(operatorId, beneficiary, amount);
    }

    /// @dev Reverts if a charge would bring more in flight than is active of `stake`.
    function _requireHeadroom(Pool storage pool, uint256 stake, Charge calldata charged) private view {
        uint256 inFlight = pool.inFlight + charged.amount;
        uint256 active = _worthOf(pool, stake, pool.shares - pool.thawingShares);
        require(
            charged.amount == 0 || inFlight <= active,
            InFlightAboveActiveStake(charged.operatorId, inFlight, active)
        );
    }

    function _countOf(uint256 bits) private pure returns (uint256 count) {
        for (; bits != 0; bits &= bits - 1) ++count;
    }

    /// @dev All stake less the worth of what is thawing, rounded against the operator.
    function _activeStakeOf(Pool storage pool) private view returns (uint256) {
        return _worthOf(pool, pool.stake, pool.shares - pool.thawingShares);
    }

    /// @dev The worth of `shares` of a pool if it has `stake`. All shares are worth all stake: nothing stays behind. Fewer are
    /// never worth more than it.
    function _worthOf(Pool storage pool, uint256 stake, uint256 shares) private view returns (uint256) {
        if (shares == pool.shares) return stake;
        return Math.mulDiv(shares, stake + VIRTUAL_STAKE, pool.shares + VIRTUAL_SHARES);
    }
}
