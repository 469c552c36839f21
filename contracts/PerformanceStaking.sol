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
import {BreachDays} from "./libraries/BreachDays.sol";
import {StakePool, StakePoolLib} from "./libraries/StakePool.sol";
import {StakePosition, StakePositionLib} from "./libraries/StakePosition.sol";
import {Thaw} from "./libraries/Thaw.sol";
import {OperatorId, PlanId} from "./types/Ids.sol";

/// @title The operators' slashable bonds
/// @notice HOLDS stake, income on its way to it, and proceeds: its balance is the sum of all pools' active, thawing and
/// unvested money and of all proceeds.
/// An operator's stake is the position of its owner; everybody else's in its pool is a delegation. Active stake secures
/// income in flight and earns; thawing stake does neither any more, but stays slashable until it is withdrawn. So nobody keeps
/// a thaw ready to leave ahead of a slash and is paid all the while, and what a ready thaw secured was released long ago.
/// Income belongs to no share until it vests: who joins for one payment has earned next to nothing of it. Who leaves, leaves
/// behind what hasn't vested; the last one takes it along.
/// STATES of an operator: unstaked ⇄ active → jailed → active. A jail ends by itself; the next one is twice as long, unless
/// CURE_PERIOD went by since. A slash of everything, or of all but dust, voids all shares, and the pool starts anew.
/// ALWAYS: (1) after income is put in flight, in flight ≤ active stake; (2) after a withdrawal, in flight + frozen ≤ active +
/// thawing; (3) a position is worth at most what its holder put in and what vested while it was active, and falls only by
/// slashes and roundings; (4) a slash takes from active, unvested and thawing money alike, and pays a beneficiary from the
/// operator's own alone; (5) the pool's part of income falls only a THAW_PERIOD after that was announced; (6) whoever holds
/// shares can thaw and, once nothing in flight or frozen needs it, withdraw them: a pool that shares couldn't leave any more
/// takes nothing in, and no one slash brings one there that isn't far on its way.
/// WHO: anyone stakes, and thaws and withdraws its own; an operator's owner sets the commission; UsageEscrow moves in-flight
/// income, notes breaches and pays income; contracts with the role slash and freeze.
/// ASSUMES a currency that moves what it is told to move, and UsageEscrow to lower in flight by what it raised.
/// UNITS AND ROUNDING: money in currency units; shares and their worth round down, so that those who stay gain the fraction.
contract PerformanceStaking is IPerformanceStaking, AccessManaged, ReentrancyGuardTransient {
    using BreachDays for Breaches;
    using SafeERC20 for IERC20;
    using SafeCast for uint256;

    /// @dev What repeated breaches cost of a pool.
    uint256 public constant SLASH_BPS = 100;
    uint256 public constant BREACHES_TO_JAIL = 3;
    uint256 public constant JAIL_PERIOD = 7 days;
    /// @dev As long after a jail's end, the operator's next one is the first again.
    uint256 public constant CURE_PERIOD = 90 days;
    uint256 public constant VESTING_PERIOD = 3 days;
    uint256 public constant LONGEST_FREEZE = 90 days;
    /// @dev Jails stop to double at five years.
    uint256 private constant MOST_DOUBLINGS = 8;

    IERC20 public immutable CURRENCY;
    IOperatorRegistry public immutable OPERATORS;
    address public immutable TREASURY;
    uint256 public immutable THAW_PERIOD;

    mapping(OperatorId operatorId => StakePool) private _pools;
    mapping(OperatorId operatorId => mapping(address holder => StakePosition)) private _positions;
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

    // Staking

    /// @inheritdoc IPerformanceStaking
    function addStake(
        OperatorId operatorId,
        uint64 amount,
        uint256 minShares,
        uint256 deadline
    ) external nonReentrant returns (uint256 shares) {
        require(block.timestamp <= deadline, DeadlinePassed(deadline, block.timestamp));
        require(amount > 0, AmountZero());
        OPERATORS.ownerOf(operatorId);
        (StakePool storage pool, StakePosition storage position) = _enter(operatorId, msg.sender);
        require(pool.hasRoomFor(amount), PoolWornOut(operatorId));

        shares = _join(pool, position, amount);
        require(shares >= minShares, SharesBelowLimit(shares, minShares));

        emit StakeAdded(operatorId, msg.sender, amount, shares);

        uint256 before = CURRENCY.balanceOf(address(this));
        CURRENCY.safeTransferFrom(msg.sender, address(this), amount);
        uint256 received = CURRENCY.balanceOf(address(this)) - before;
        require(received == amount, TransferIncomplete(amount, received));
    }

    /// @inheritdoc IPerformanceStaking
    function thaw(OperatorId operatorId, uint256 shares) external returns (uint256 readyAt) {
        (StakePool storage pool, StakePosition storage position) = _enter(operatorId, msg.sender);
        require(shares > 0, AmountZero());
        require(shares <= position.shares, SharesAbovePosition(operatorId, shares, position.shares));
        uint256 most = StakePositionLib.MAX_THAWS;
        require(position.count < most, ThawsTooMany(operatorId, msg.sender, most));

        // At most the position's shares.
        position.shares -= uint112(shares);
        (uint256 amount, uint256 thawingShares) = pool.startThaw(shares);
        readyAt = position.push(thawingShares, THAW_PERIOD);

        emit StakeThawed(operatorId, msg.sender, shares, amount, thawingShares, readyAt);
    }

    /// @inheritdoc IPerformanceStaking
    function unthaw(OperatorId operatorId) external returns (uint256 shares) {
        (StakePool storage pool, StakePosition storage position) = _enter(operatorId, msg.sender);
        require(position.count > 0, ThawEmpty(operatorId, msg.sender));
        require(pool.hasRoomFor(0), PoolWornOut(operatorId));

        uint256 thawingShares = position.pop();
        uint256 amount = pool.take(thawingShares);
        shares = _join(pool, position, amount);

        emit StakeUnthawed(operatorId, msg.sender, thawingShares, amount, shares);
    }

    /// @inheritdoc IPerformanceStaking
    function withdraw(OperatorId operatorId, address to) external nonReentrant returns (uint256 amount) {
        (StakePool storage pool, StakePosition storage position) = _enter(operatorId, msg.sender);
        require(position.count > 0, ThawEmpty(operatorId, msg.sender));
        Thaw memory oldest = position.thawAt(0);
        require(oldest.isReady(), StakeStillThawing(operatorId, oldest.readyAt));

        uint256 thawingShares = position.shiftReady();
        amount = pool.take(thawingShares);
        (uint256 stake, uint256 frozen) = (uint256(pool.active) + pool.thawing, _frozenOf(pool));
        require(stake >= pool.inFlight + frozen, StakeStillNeeded(operatorId, stake, pool.inFlight, frozen));

        emit StakeWithdrawn(operatorId, msg.sender, to, amount, thawingShares);

        CURRENCY.safeTransfer(to, amount);
    }

    /// @inheritdoc IPerformanceStaking
    function setCommission(OperatorId operatorId, uint16 bps) external {
        require(OPERATORS.ownerOf(operatorId) == msg.sender, CallerNotOperator(operatorId, msg.sender));
        require(bps <= Bps.WHOLE, CommissionAboveWhole(bps));
        StakePool storage pool = _pools[operatorId];
        // Both are parts of the whole.
        uint16 sharedBps = uint16(_sharedBpsOf(pool));
        uint16 nextSharedBps = uint16(Bps.WHOLE - bps);
        bool isRaise = nextSharedBps < sharedBps;
        uint256 bindsAt = isRaise ? block.timestamp + THAW_PERIOD : block.timestamp;

        pool.sharedBps = isRaise ? sharedBps : nextSharedBps;
        pool.nextSharedBps = nextSharedBps;
        pool.sharedUntil = isRaise ? bindsAt.toUint40() : 0;

        emit CommissionSet(operatorId, bps, bindsAt);
    }

    // Settlement

    /// @inheritdoc IPerformanceStaking
    function charge(Charge calldata charged) external restricted returns (bool jailed) {
        OperatorId operatorId = charged.operatorId;
        StakePool storage pool = _pools[operatorId];
        if (_isBreach(charged)) _recordBreach(pool, charged);
        uint256 inFlight = pool.inFlight + charged.amount;
        // Most often what had vested when the pool was last touched is enough, and there is one slot less to read.
        if (inFlight > pool.active) {
            pool.vest();
            _requireHeadroom(charged, inFlight, pool.active);
        }

        // At most the active stake, or what it was before: 64 bits.
        pool.inFlight = uint64(inFlight);
        return block.timestamp < pool.jailedUntil;
    }

    /// @inheritdoc IPerformanceStaking
    function release(
        OperatorId operatorId,
        uint256 amount,
        uint256 income
    ) external restricted returns (uint256 forPool) {
        StakePool storage pool = _pools[operatorId];
        (uint256 active, uint256 inFlight) = (pool.active, pool.inFlight);
        forPool = poolShareOf(operatorId, income);
        // Stake that left has given up its part: whoever stays, or comes, has no more of it than what it backs.
        if (active < inFlight) forPool = (forPool * active) / inFlight;
        pool.inFlight -= amount.toUint64();
    }

    /// @inheritdoc IPerformanceStaking
    function addIncome(OperatorId operatorId, uint256 amount) external restricted {
        require(amount > 0, AmountZero());
        StakePool storage pool = _pools[operatorId];
        pool.vest();
        // Nobody earns more than its stake in one VESTING_PERIOD: a unit that comes before a payment has a unit of it.
        uint256 most = pool.hasRoomFor(amount) ? Math.saturatingSub(pool.active, pool.unvested) : 0;
        uint256 vesting = Math.min(amount, most);
        uint256 rest = amount - vesting;
        if (vesting > 0) {
            pool.addIncome(vesting, VESTING_PERIOD);
            emit IncomeAdded(operatorId, vesting, pool.vestsUntil);
        }
        if (rest > 0) {
            address owner = OPERATORS.ownerOf(operatorId);
            proceedsOf[owner] += rest;
            emit IncomeDiverted(operatorId, owner, rest);
        }
    }

    // Slashing

    /// @inheritdoc IPerformanceStaking
    function slash(
        OperatorId operatorId,
        uint256 amount,
        address beneficiary
    ) external restricted returns (uint256 toBeneficiary, uint256 toTreasury) {
        require(beneficiary != address(0), BeneficiaryZero());
        (StakePool storage pool, StakePosition storage own) = _enter(operatorId, OPERATORS.ownerOf(operatorId));
        (uint256 shares, uint256 thawingShares) = (pool.shares, pool.thawingShares);

        (uint256 slashed, uint256 fromThawing) = pool.slash(Math.min(amount, pool.heldBy()));
        toBeneficiary =
            _partOf(slashed - fromThawing, own.shares, shares) + _partOf(fromThawing, own.thawingShares, thawingShares);
        toTreasury = slashed - toBeneficiary;
        proceedsOf[beneficiary] += toBeneficiary;
        proceedsOf[TREASURY] += toTreasury;

        emit StakeSlashed(operatorId, beneficiary, toBeneficiary, toTreasury, fromThawing);
    }

    /// @inheritdoc IPerformanceStaking
    function freeze(OperatorId operatorId, uint64 amount, uint40 until) external restricted {
        uint256 latest = block.timestamp + LONGEST_FREEZE;
        require(until <= latest, FreezeTooLong(until, latest));

        (_pools[operatorId].frozen, _pools[operatorId].frozenUntil) = (amount, until);

        emit StakeFrozen(operatorId, amount, until);
    }

    /// @inheritdoc IPerformanceStaking
    function unfreeze(OperatorId operatorId) external restricted {
        (_pools[operatorId].frozen, _pools[operatorId].frozenUntil) = (0, 0);

        emit StakeUnfrozen(operatorId);
    }

    /// @inheritdoc IPerformanceStaking
    function withdrawProceeds(address to) external nonReentrant returns (uint256 amount) {
        amount = proceedsOf[msg.sender];
        require(amount > 0, ProceedsEmpty(msg.sender));

        delete proceedsOf[msg.sender];

        emit ProceedsWithdrawn(msg.sender, to, amount);

        CURRENCY.safeTransfer(to, amount);
    }

    // Views

    /// @inheritdoc IPerformanceStaking
    function poolOf(OperatorId operatorId) external view returns (Pool memory) {
        StakePool storage pool = _pools[operatorId];
        uint256 unvested = pool.unvested - pool.vestedOf();
        uint256 frozen = _frozenOf(pool);
        return
            Pool({
                active: pool.activeOf(),
                thawing: pool.thawing,
                unvested: unvested,
                vestsUntil: unvested == 0 ? 0 : pool.vestsUntil,
                inFlight: pool.inFlight,
                frozen: frozen,
                frozenUntil: frozen == 0 ? 0 : pool.frozenUntil,
                shares: pool.shares,
                thawingShares: pool.thawingShares,
                round: pool.round,
                jailedUntil: pool.jailedUntil,
                jailings: pool.jailings
            });
    }

    /// @inheritdoc IPerformanceStaking
    function positionOf(OperatorId operatorId, address holder) external view returns (Position memory held) {
        StakePool storage pool = _pools[operatorId];
        StakePosition storage position = _positions[operatorId][holder];
        if (position.round != pool.round) return held;

        (held.shares, held.thawingShares) = (position.shares, position.thawingShares);
        held.active = StakePoolLib.worthOf(held.shares, pool.activeOf(), pool.shares);
        held.thawing = StakePoolLib.worthOf(held.thawingShares, pool.thawing, pool.thawingShares);
    }

    /// @inheritdoc IPerformanceStaking
    function thawsOf(OperatorId operatorId, address holder) external view returns (ThawingStake[] memory thaws) {
        StakePool storage pool = _pools[operatorId];
        StakePosition storage position = _positions[operatorId][holder];
        if (position.round != pool.round) return thaws;

        thaws = new ThawingStake[](position.count);
        for (uint256 i; i < thaws.length; ++i) {
            Thaw memory one = position.thawAt(i);
            uint256 amount = StakePoolLib.worthOf(one.amount, pool.thawing, pool.thawingShares);
            thaws[i] = ThawingStake(one.amount, amount, one.readyAt);
        }
    }

    /// @inheritdoc IPerformanceStaking
    function commissionOf(OperatorId operatorId) external view returns (Commission memory) {
        StakePool storage pool = _pools[operatorId];
        bool isRaised = block.timestamp < pool.sharedUntil;
        uint256 bps = Bps.WHOLE - _sharedBpsOf(pool);
        return Commission(bps, isRaised ? Bps.WHOLE - pool.nextSharedBps : bps, isRaised ? pool.sharedUntil : 0);
    }

    /// @inheritdoc IPerformanceStaking
    function activeStakeOf(OperatorId operatorId) external view returns (uint256) {
        return _pools[operatorId].activeOf();
    }

    /// @inheritdoc IPerformanceStaking
    function frozenOf(OperatorId operatorId) external view returns (uint256) {
        return _frozenOf(_pools[operatorId]);
    }

    /// @inheritdoc IPerformanceStaking
    function statusOf(OperatorId operatorId) external view returns (OperatorStatus) {
        StakePool storage pool = _pools[operatorId];
        if (block.timestamp < pool.jailedUntil) return OperatorStatus.Jailed;
        return pool.heldBy() == 0 ? OperatorStatus.Unstaked : OperatorStatus.Active;
    }

    /// @inheritdoc IPerformanceStaking
    function breachesOf(OperatorId operatorId, PlanId planId) external view returns (Breaches memory) {
        return _breaches[operatorId][planId];
    }

    /// @inheritdoc IPerformanceStaking
    function previewCharge(Charge calldata charged) external view {
        StakePool storage pool = _pools[charged.operatorId];
        uint256 active = pool.activeOf();
        if (_isBreach(charged)) {
            (, bool isPunished) = _withBreach(charged);
            if (isPunished) {
                uint256 slashed = Bps.share(pool.heldBy(), SLASH_BPS);
                (uint256 fromActive, , ) = pool.partsOf(active, pool.unvested - pool.vestedOf(), slashed);
                active -= fromActive;
            }
        }
        _requireHeadroom(charged, pool.inFlight + charged.amount, active);
    }

    /// @inheritdoc IPerformanceStaking
    function headroomOf(OperatorId operatorId) external view returns (uint256) {
        StakePool storage pool = _pools[operatorId];
        return Math.saturatingSub(pool.activeOf(), pool.inFlight);
    }

    /// @inheritdoc IPerformanceStaking
    function poolShareOf(OperatorId operatorId, uint256 income) public view returns (uint256) {
        StakePool storage pool = _pools[operatorId];
        return pool.active == 0 ? 0 : Bps.share(income, _sharedBpsOf(pool));
    }

    /// @inheritdoc IPerformanceStaking
    function sharesFor(OperatorId operatorId, uint256 amount) external view returns (uint256) {
        StakePool storage pool = _pools[operatorId];
        return StakePoolLib.sharesFor(amount, pool.activeOf(), pool.shares);
    }

    /// @inheritdoc IPerformanceStaking
    function worthOf(OperatorId operatorId, uint256 shares) external view returns (uint256) {
        StakePool storage pool = _pools[operatorId];
        return StakePoolLib.worthOf(shares, pool.activeOf(), pool.shares);
    }

    // Internals

    /// @dev An operator's pool with all that has vested, and a holder's position in it with nothing that is void.
    function _enter(
        OperatorId operatorId,
        address holder
    ) private returns (StakePool storage pool, StakePosition storage position) {
        (pool, position) = (_pools[operatorId], _positions[operatorId][holder]);
        pool.vest();
        position.enter(pool.round);
    }

    function _join(
        StakePool storage pool,
        StakePosition storage position,
        uint256 amount
    ) private returns (uint256 shares) {
        shares = pool.add(amount);
        require(shares > 0, StakeTooSmall(amount));
        // A part of the pool's.
        position.shares += uint112(shares);
    }

    /// @dev Bad service that nobody pays for is no breach: only licenses that chose the operator can be charged, and whoever
    /// made up a plan and an attestor could otherwise have anybody slashed.
    function _isBreach(Charge calldata charged) private pure returns (bool) {
        return charged.breached && charged.amount > 0;
    }

    /// @dev A breach on a day that was punished, or that lies before the seven that are kept, changes nothing.
    function _recordBreach(StakePool storage pool, Charge calldata charged) private {
        (OperatorId operatorId, PlanId planId) = (charged.operatorId, charged.planId);
        if (charged.day <= _breaches[operatorId][planId].punishedThrough) return;
        (Breaches memory breaches, bool isPunished) = _withBreach(charged);
        if (isPunished) breaches.punish();
        _breaches[operatorId][planId] = breaches;

        emit BreachRecorded(operatorId, planId, charged.day);

        if (isPunished) {
            pool.vest();
            (uint256 slashed, uint256 fromThawing) = pool.slash(Bps.share(pool.heldBy(), SLASH_BPS));
            proceedsOf[TREASURY] += slashed;

            emit StakeSlashed(operatorId, TREASURY, slashed, 0, fromThawing);

            _jail(pool, operatorId, planId);
        }
    }

    /// @dev The breaches under a plan with that of a charge, and whether they are now punished.
    function _withBreach(Charge calldata charged) private view returns (Breaches memory breaches, bool isPunished) {
        breaches = _breaches[charged.operatorId][charged.planId];
        breaches.add(charged.day);
        isPunished = breaches.count() >= BREACHES_TO_JAIL;
    }

    function _jail(StakePool storage pool, OperatorId operatorId, PlanId planId) private {
        bool isCured = block.timestamp >= pool.jailedUntil + CURE_PERIOD;
        uint256 jailings = isCured ? 0 : pool.jailings;
        // Five years and a time stay far below 2^40.
        pool.jailedUntil = uint40(block.timestamp + (JAIL_PERIOD << jailings));
        pool.jailings = uint8(Math.min(jailings + 1, MOST_DOUBLINGS));

        emit OperatorJailed(operatorId, planId, pool.jailedUntil);
    }

    /// @dev Reverts if a charge brings more in flight than is active.
    function _requireHeadroom(Charge calldata charged, uint256 inFlight, uint256 active) private pure {
        require(
            charged.amount == 0 || inFlight <= active,
            InFlightAboveActiveStake(charged.operatorId, inFlight, active)
        );
    }

    function _sharedBpsOf(StakePool storage pool) private view returns (uint256) {
        bool isOver = pool.sharedUntil != 0 && block.timestamp >= pool.sharedUntil;
        return isOver ? pool.nextSharedBps : pool.sharedBps;
    }

    function _frozenOf(StakePool storage pool) private view returns (uint256) {
        return block.timestamp < pool.frozenUntil ? pool.frozen : 0;
    }

    /// @dev `amount` × `part` / `all`, rounded down; nothing of nothing.
    function _partOf(uint256 amount, uint256 part, uint256 all) private pure returns (uint256) {
        return all == 0 ? 0 : (amount * part) / all;
    }
}
