// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {OperatorId, PlanId} from "../types/Ids.sol";
import {IOperatorRegistry} from "./IOperatorRegistry.sol";

/// @dev No license may choose a jailed operator, and it earns no bonus; what it served still settles.
enum OperatorStatus {
    Unstaked,
    Active,
    Jailed
}

/// @title The operators' slashable bonds
interface IPerformanceStaking {
    /// @dev What backs an operator, as of now. All amounts are currency units.
    /// @param active What secures income in flight
    /// @param thawing What is on its way out: still slashable, no longer active, and earning nothing
    /// @param unvested Income that is nobody's yet, and slashable: it becomes active evenly until `vestsUntil`
    /// @param vestsUntil Unix seconds; 0 if nothing is to vest
    /// @param inFlight What was charged and not released
    /// @param frozen What no withdrawal may touch until `frozenUntil`, beside what is in flight
    /// @param frozenUntil Unix seconds; 0 if nothing is frozen
    /// @param shares All shares of what is active
    /// @param thawingShares All shares of what is thawing
    /// @param round How often all was slashed, or all but dust: what was held in an earlier round is void
    /// @param jailedUntil Unix seconds; 0 if it never was
    /// @param jailings How often it was jailed since it was last cured
    struct Pool {
        uint256 active;
        uint256 thawing;
        uint256 unvested;
        uint256 vestsUntil;
        uint256 inFlight;
        uint256 frozen;
        uint256 frozenUntil;
        uint256 shares;
        uint256 thawingShares;
        uint256 round;
        uint256 jailedUntil;
        uint256 jailings;
    }

    /// @dev What of a pool is a holder's, as of now.
    /// @param shares Its shares of what is active
    /// @param active Their worth in currency units, rounded down
    /// @param thawingShares Its shares of what is thawing
    /// @param thawing Their worth in currency units, rounded down
    struct Position {
        uint256 shares;
        uint256 active;
        uint256 thawingShares;
        uint256 thawing;
    }

    /// @param shares Of what is thawing
    /// @param amount Their worth now in currency units, rounded down
    /// @param readyAt Unix second after which it may be withdrawn
    struct ThawingStake {
        uint256 shares;
        uint256 amount;
        uint256 readyAt;
    }

    /// @param bps What the operator keeps of its income; the rest is its pool's
    /// @param nextBps What it keeps from `raisedAt` on
    /// @param raisedAt Unix seconds; 0 if no raise was announced
    struct Commission {
        uint256 bps;
        uint256 nextBps;
        uint256 raisedAt;
    }

    /// @dev The breaches of an operator under one plan. Days are those of UsageEscrow, counted since 1970:
    /// its longest epochs, or a fifth of its window if that is longer.
    /// @param lastDay The latest day with a breach
    /// @param bits A bit for each of the seven days until `lastDay` that had one, the lowest for `lastDay`
    /// @param punishedThrough Breaches until that day were punished: they count no more
    struct Breaches {
        uint64 lastDay;
        uint8 bits;
        uint64 punishedThrough;
    }

    /// @dev What one batch does to its operator's pool.
    /// @param amount Currency units that it charges
    /// @param day Of its epoch's start, since 1970
    /// @param breached Whether the service was below the plan's levels: a breach if anything is charged
    struct Charge {
        OperatorId operatorId;
        PlanId planId;
        uint256 amount;
        uint256 day;
        bool breached;
    }

    event StakeAdded(OperatorId indexed operatorId, address indexed holder, uint256 amount, uint256 shares);
    event StakeThawed(
        OperatorId indexed operatorId,
        address indexed holder,
        uint256 shares,
        uint256 amount,
        uint256 thawingShares,
        uint256 readyAt
    );
    event StakeUnthawed(
        OperatorId indexed operatorId,
        address indexed holder,
        uint256 thawingShares,
        uint256 amount,
        uint256 shares
    );
    event StakeWithdrawn(
        OperatorId indexed operatorId,
        address indexed holder,
        address to,
        uint256 amount,
        uint256 thawingShares
    );
    event CommissionSet(OperatorId indexed operatorId, uint256 bps, uint256 bindsAt);
    event IncomeAdded(OperatorId indexed operatorId, uint256 amount, uint256 vestsUntil);
    event IncomeDiverted(OperatorId indexed operatorId, address indexed beneficiary, uint256 amount);
    event BreachRecorded(OperatorId indexed operatorId, PlanId indexed planId, uint256 day);
    event OperatorJailed(OperatorId indexed operatorId, PlanId indexed planId, uint256 until);
    /// @param toBeneficiary What was the operator's own
    /// @param toTreasury What was others'
    /// @param fromThawing What of both together was on its way out
    event StakeSlashed(
        OperatorId indexed operatorId,
        address indexed beneficiary,
        uint256 toBeneficiary,
        uint256 toTreasury,
        uint256 fromThawing
    );
    event StakeFrozen(OperatorId indexed operatorId, uint256 amount, uint256 until);
    event StakeUnfrozen(OperatorId indexed operatorId);
    event ProceedsWithdrawn(address indexed beneficiary, address indexed to, uint256 amount);

    error AmountZero();
    error BeneficiaryZero();
    error CallerNotOperator(OperatorId operatorId, address caller);
    error CommissionAboveWhole(uint256 bps);
    error DeadlinePassed(uint256 deadline, uint256 time);
    error FreezeTooLong(uint256 until, uint256 latest);
    error InFlightAboveActiveStake(OperatorId operatorId, uint256 inFlight, uint256 activeStake);
    error PoolWornOut(OperatorId operatorId);
    error ProceedsEmpty(address beneficiary);
    error SharesAbovePosition(OperatorId operatorId, uint256 shares, uint256 held);
    error SharesBelowLimit(uint256 shares, uint256 minShares);
    error StakeStillNeeded(OperatorId operatorId, uint256 stake, uint256 inFlight, uint256 frozen);
    error StakeStillThawing(OperatorId operatorId, uint256 readyAt);
    error StakeTooSmall(uint256 amount);
    error ThawEmpty(OperatorId operatorId, address holder);
    error ThawsTooMany(OperatorId operatorId, address holder, uint256 most);
    error TransferIncomplete(uint256 expected, uint256 received);
    error TreasuryZero();

    /// @notice Takes `amount` of the caller's currency as stake behind an operator: as the operator's own if its owner calls,
    /// otherwise as a delegation.
    /// @param minShares The fewest shares that the caller takes for it
    /// @param deadline Unix second after which the caller doesn't want it any more
    function addStake(
        OperatorId operatorId,
        uint64 amount,
        uint256 minShares,
        uint256 deadline
    ) external returns (uint256 shares);

    /// @notice Puts `shares` of the caller on their way out, at their worth now: from now on they earn nothing, and can still be
    /// slashed. Up to sixteen such thaws may be open.
    function thaw(OperatorId operatorId, uint256 shares) external returns (uint256 readyAt);

    /// @notice Takes back the caller's newest thaw: what it is worth now is active again.
    function unthaw(OperatorId operatorId) external returns (uint256 shares);

    /// @notice Sends all of the caller's stake whose thaw is over to `to`, at its worth now.
    function withdraw(OperatorId operatorId, address to) external returns (uint256 amount);

    /// @notice Says what an operator keeps of its income. Less than before binds at once; more than before, one THAW_PERIOD later.
    /// Nothing else was said before the first time: it keeps all. Its owner alone may call this.
    function setCommission(OperatorId operatorId, uint16 bps) external;

    /// @notice Puts a batch's charge in flight, at most up to the operator's active stake. A breach is noted first: the third
    /// within seven days under one plan slashes SLASH_BPS of the pool to the treasury and jails the operator. UsageEscrow alone
    /// may call this.
    /// @return jailed Whether the operator is in jail
    function charge(Charge calldata charged) external returns (bool jailed);

    /// @notice Takes from an operator's in-flight income what was released. UsageEscrow alone may call this.
    /// @param income What of it is the operator's, before its pool's part
    /// @return forPool The pool's part of that: `poolShareOf(operatorId, income)`, but where less stake is active than was in
    /// flight, only so much of it as is active
    function release(OperatorId operatorId, uint256 amount, uint256 income) external returns (uint256 forPool);

    /// @notice Adds to an operator's pool income that the caller sends: its part of releases, and bonuses. It vests over
    /// VESTING_PERIOD. No more vests at a time than there is active stake, and nothing in a pool that is worn out: the rest is the
    /// operator's owner's. UsageEscrow alone may call this.
    function addIncome(OperatorId operatorId, uint256 amount) external;

    /// @notice Takes `amount`, or all if there is less or too little would be left (below a millionth) for its shares to be
    /// counted in, from everyone who backs the operator, pro rata, thawing stake and unvested income included. What was the operator's own is `beneficiary`'s, what was others' the treasury's, to withdraw.
    /// Only contracts hold the role for this.
    function slash(
        OperatorId operatorId,
        uint256 amount,
        address beneficiary
    ) external returns (uint256 toBeneficiary, uint256 toTreasury);

    /// @notice Lets withdrawals leave at least `amount` in an operator's pool, beside what is in flight, until `until`, which is
    /// at most LONGEST_FREEZE ahead; in place of what was frozen before. Only contracts hold the role for this.
    function freeze(OperatorId operatorId, uint64 amount, uint40 until) external;

    /// @notice Freezes nothing any more. Only contracts hold the role for this.
    function unfreeze(OperatorId operatorId) external;

    /// @notice Sends what slashes, or income that found no stake, have left for the caller to `to`.
    function withdrawProceeds(address to) external returns (uint256 amount);

    /// @notice The currency of all stake.
    function CURRENCY() external view returns (IERC20);

    /// @notice Where the operators are whose pools these are.
    function OPERATORS() external view returns (IOperatorRegistry);

    /// @notice The wait before stake may leave and before a higher commission binds, in seconds.
    function THAW_PERIOD() external view returns (uint256);

    /// @notice Who gets what repeated breaches cost, and what slashes take from delegations.
    function TREASURY() external view returns (address);

    /// @notice Whether an operator is backed by stake, or in jail.
    function statusOf(OperatorId operatorId) external view returns (OperatorStatus);

    /// @notice An operator's breaches under a plan; all zero before the first.
    function breachesOf(OperatorId operatorId, PlanId planId) external view returns (Breaches memory);

    /// @notice What backs an operator; all zero if nothing ever did.
    function poolOf(OperatorId operatorId) external view returns (Pool memory);

    /// @notice What of an operator's pool is a holder's; all zero if nothing is.
    function positionOf(OperatorId operatorId, address holder) external view returns (Position memory);

    /// @notice A holder's stake on its way out, oldest first.
    function thawsOf(OperatorId operatorId, address holder) external view returns (ThawingStake[] memory);

    /// @notice What an operator keeps of its income.
    function commissionOf(OperatorId operatorId) external view returns (Commission memory);

    /// @notice The stake that secures income, vested income included, in currency units.
    function activeStakeOf(OperatorId operatorId) external view returns (uint256);

    /// @notice What no withdrawal may touch, beside what is in flight, in currency units.
    function frozenOf(OperatorId operatorId) external view returns (uint256);

    /// @notice Reverts where `charge` would.
    function previewCharge(Charge calldata charged) external view;

    /// @notice How much more income may be in flight, in currency units.
    function headroomOf(OperatorId operatorId) external view returns (uint256);

    /// @notice What of an operator's `income` is its pool's, in currency units: what its commission leaves, rounded down; nothing
    /// if no stake is active.
    function poolShareOf(OperatorId operatorId, uint256 income) external view returns (uint256);

    /// @notice The shares that `addStake` would give for `amount` now, rounded down.
    function sharesFor(OperatorId operatorId, uint256 amount) external view returns (uint256);

    /// @notice The worth of `shares` of a pool's active stake, in currency units, rounded down.
    function worthOf(OperatorId operatorId, uint256 shares) external view returns (uint256);

    /// @notice What slashes, or income that found no stake, have left for somebody and isn't withdrawn yet, in currency units.
    function proceedsOf(address beneficiary) external view returns (uint256);
}
