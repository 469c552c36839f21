// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {Thaw} from "../libraries/Thaw.sol";
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
    /// @param stake Currency units that back the operator, thawing ones included
    /// @param inFlight Currency units charged and not released
    /// @param shares All shares of the pool
    /// @param thawingShares Those of them that are on their way out: still slashable, no longer active
    /// @param jailedUntil Unix seconds; 0 if it never was
    /// @param jailings How often it was jailed since it was last cured
    struct Pool {
        uint64 stake;
        uint64 inFlight;
        uint128 shares;
        uint128 thawingShares;
        uint40 jailedUntil;
        uint8 jailings;
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

    /// @param shares All shares of the holder, thawing ones included
    /// @param thaw Those of them that are on their way out
    struct Position {
        uint128 shares;
        Thaw thaw;
    }

    event StakeAdded(OperatorId indexed operatorId, address indexed holder, uint256 amount, uint256 shares);
    event StakeThawed(OperatorId indexed operatorId, address indexed holder, uint256 shares, uint256 readyAt);
    event StakeWithdrawn(
        OperatorId indexed operatorId,
        address indexed holder,
        address to,
        uint256 amount,
        uint256 shares
    );
    event BreachRecorded(OperatorId indexed operatorId, PlanId indexed planId, uint256 day);
    event OperatorJailed(OperatorId indexed operatorId, PlanId indexed planId, uint256 until);
    event IncomeAdded(OperatorId indexed operatorId, uint256 amount);
    event StakeSlashed(OperatorId indexed operatorId, address indexed beneficiary, uint256 amount);
    event ProceedsWithdrawn(address indexed beneficiary, address indexed to, uint256 amount);

    error AmountZero();
    error BeneficiaryZero();
    error CallerNotOperator(OperatorId operatorId, address caller);
    error InFlightAboveActiveStake(OperatorId operatorId, uint256 inFlight, uint256 activeStake);
    error ProceedsEmpty(address beneficiary);
    error SharesAbovePosition(OperatorId operatorId, uint256 shares, uint256 held);
    error StakeBelowInFlight(OperatorId operatorId, uint256 stake, uint256 inFlight);
    error StakeStillThawing(OperatorId operatorId, uint256 readyAt);
    error StakeTooSmall(uint256 amount);
    error ThawEmpty(OperatorId operatorId, address holder);
    error TransferIncomplete(uint256 expected, uint256 received);
    error TreasuryZero();

    /// @notice Takes `amount` of the operator owner's currency as its own stake.
    function addStake(OperatorId operatorId, uint64 amount) external returns (uint256 shares);

    /// @notice Puts `shares` of the caller on their way out, in place of what was on its way before: the wait starts anew.
    /// Zero takes back a thaw.
    function thaw(OperatorId operatorId, uint128 shares) external;

    /// @notice Sends the caller's thawed stake to `to`, at its worth now.
    function withdraw(OperatorId operatorId, address to) external returns (uint256 amount);

    /// @notice Puts a batch's charge in flight, at most up to the operator's active stake. A breach is noted first: the third
    /// within seven days under one plan slashes SLASH_BPS of the pool to the treasury and jails the operator. UsageEscrow alone
    /// may call this.
    /// @return jailed Whether the operator is in jail
    function charge(Charge calldata charged) external returns (bool jailed);

    /// @notice Takes from an operator's in-flight income what was released. UsageEscrow alone may call this.
    /// @param income What of it is the operator's, before its pool's part
    /// @return forPool The pool's part of that: `poolShareOf(operatorId, income)`
    function release(OperatorId operatorId, uint256 amount, uint256 income) external returns (uint256 forPool);

    /// @notice Adds to an operator's pool income that the caller sends: its part of releases, and bonuses. UsageEscrow alone
    /// may call this.
    function addIncome(OperatorId operatorId, uint256 amount) external;

    /// @notice Takes `amount`, or all if there is less, from everyone who backs the operator, thawing stake included,
    /// for `beneficiary` to withdraw. Only contracts hold the role for this.
    function slash(OperatorId operatorId, uint256 amount, address beneficiary) external returns (uint256 slashed);

    /// @notice Sends what slashes have left for the caller to `to`.
    function withdrawProceeds(address to) external returns (uint256 amount);

    /// @notice The currency of all stake.
    function CURRENCY() external view returns (IERC20);

    /// @notice Where the operators are whose pools these are.
    function OPERATORS() external view returns (IOperatorRegistry);

    /// @notice The wait before stake may leave, in seconds.
    function THAW_PERIOD() external view returns (uint256);

    /// @notice Who gets what repeated breaches cost.
    function TREASURY() external view returns (address);

    /// @notice Whether an operator is backed by stake, or in jail.
    function statusOf(OperatorId operatorId) external view returns (OperatorStatus);

    /// @notice An operator's breaches under a plan; all zero before the first.
    function breachesOf(OperatorId operatorId, PlanId planId) external view returns (Breaches memory);

    /// @notice What backs an operator; all zero if nothing ever did.
    function poolOf(OperatorId operatorId) external view returns (Pool memory);

    /// @notice What of an operator's pool is a holder's; all zero if nothing is.
    function positionOf(OperatorId operatorId, address holder) external view returns (Position memory);

    /// @notice The stake that isn't thawing, in currency units, rounded down.
    function activeStakeOf(OperatorId operatorId) external view returns (uint256);

    /// @notice Reverts where `charge` would.
    function previewCharge(Charge calldata charged) external view;

    /// @notice How much more income may be in flight, in currency units.
    function headroomOf(OperatorId operatorId) external view returns (uint256);

    /// @notice What of an operator's `income` is its pool's, in currency units: what its commission leaves, rounded down.
    function poolShareOf(OperatorId operatorId, uint256 income) external view returns (uint256);

    /// @notice The worth of `shares` of a pool, in currency units, rounded down.
    function worthOf(OperatorId operatorId, uint256 shares) external view returns (uint256);

    /// @notice What slashes have left for somebody and isn't withdrawn yet, in currency units.
    function proceedsOf(address beneficiary) external view returns (uint256);
}
