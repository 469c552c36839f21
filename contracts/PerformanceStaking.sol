// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {AccessManaged} from "@openzeppelin/contracts/access/manager/AccessManaged.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import {IOperatorRegistry} from "./interfaces/IOperatorRegistry.sol";
import {IPerformanceStaking} from "./interfaces/IPerformanceStaking.sol";
import {Thaw} from "./libraries/Thaw.sol";
import {OperatorId} from "./types/Ids.sol";

/// @title The operators' slashable bonds
/// @notice HOLDS stake and the proceeds of slashes: its balance is the sum of all pools' stake and all proceeds.
/// An operator's pool is owned in shares. Stake on its way out stays in the pool, and is slashed like all of it, until it
/// is withdrawn at what it is then worth; it only stops to count as active.
/// ALWAYS: after income is put in flight, in flight ≤ active stake; after a withdrawal, in flight ≤ stake.
/// WHO: an operator's owner stakes, thaws and withdraws; UsageEscrow moves in-flight income; contracts with the role slash.
/// ASSUMES a currency that moves what it is told to move, and UsageEscrow to lower in flight by what it raised.
/// UNITS AND ROUNDING: money in currency units; shares and their worth round down, so that the pool gains the fraction.
contract PerformanceStaking is IPerformanceStaking, AccessManaged, ReentrancyGuardTransient {
    using SafeERC20 for IERC20;
    using SafeCast for uint256;

    /// @dev Shares that no one holds, beside one unit of stake that no one has: they make it dear to raise the price of a
    /// share between two deposits (the inflation attack on vaults; see OpenZeppelin's ERC4626).
    uint256 private constant VIRTUAL_SHARES = 1_000;
    uint256 private constant VIRTUAL_STAKE = 1;

    IERC20 public immutable CURRENCY;
    IOperatorRegistry public immutable OPERATORS;
    uint256 public immutable THAW_PERIOD;

    mapping(OperatorId operatorId => Pool) private _pools;
    mapping(OperatorId operatorId => mapping(address holder => Position)) private _positions;
    mapping(address beneficiary => uint256) public proceedsOf;

    /// @param thawPeriod Seconds. UsageEscrow refuses a staking contract whose stake could leave before what it secured
    /// may be released
    constructor(
        address authority,
        IERC20 currency,
        IOperatorRegistry operators,
        uint256 thawPeriod
    ) AccessManaged(authority) {
        CURRENCY = currency;
        OPERATORS = operators;
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
        amount = _worthOf(pool, thawed.amount);
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
    function raiseInFlight(OperatorId operatorId, uint256 amount) external restricted {
        requireHeadroom(operatorId, amount);

        // At most the stake, which has 64 bits.
        _pools[operatorId].inFlight += uint64(amount);
    }

    /// @inheritdoc IPerformanceStaking
    function lowerInFlight(OperatorId operatorId, uint256 amount) external restricted {
        _pools[operatorId].inFlight -= amount.toUint64();
    }

    /// @inheritdoc IPerformanceStaking
    function slash(
        OperatorId operatorId,
        uint256 amount,
        address beneficiary
    ) external restricted returns (uint256 slashed) {
        require(beneficiary != address(0), BeneficiaryZero());
        Pool storage pool = _pools[operatorId];
        slashed = Math.min(amount, pool.stake);

        // At most the stake, which has 64 bits.
        pool.stake -= uint64(slashed);
        proceedsOf[beneficiary] += slashed;

        emit StakeSlashed(operatorId, beneficiary, slashed);
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
    function requireHeadroom(OperatorId operatorId, uint256 amount) public view {
        Pool storage pool = _pools[operatorId];
        uint256 inFlight = pool.inFlight + amount;
        uint256 active = _activeStakeOf(pool);
        require(amount == 0 || inFlight <= active, InFlightAboveActiveStake(operatorId, inFlight, active));
    }

    /// @inheritdoc IPerformanceStaking
    function headroomOf(OperatorId operatorId) external view returns (uint256) {
        Pool storage pool = _pools[operatorId];
        return Math.saturatingSub(_activeStakeOf(pool), pool.inFlight);
    }

    /// @inheritdoc IPerformanceStaking
    function worthOf(OperatorId operatorId, uint256 shares) external view returns (uint256) {
        return _worthOf(_pools[operatorId], shares);
    }

    /// @dev All stake less the worth of what is thawing, rounded against the operator.
    function _activeStakeOf(Pool storage pool) private view returns (uint256) {
        return _worthOf(pool, pool.shares - pool.thawingShares);
    }

    /// @dev All shares are worth all stake: nothing stays behind. Fewer are never worth more than it.
    function _worthOf(Pool storage pool, uint256 shares) private view returns (uint256) {
        if (shares == pool.shares) return pool.stake;
        return Math.mulDiv(shares, pool.stake + VIRTUAL_STAKE, pool.shares + VIRTUAL_SHARES);
    }
}
