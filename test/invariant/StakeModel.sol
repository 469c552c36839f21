// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

/// @dev An operator's pool, with what waits for it in the escrow.
struct Pool {
    /// Money that secures income, that is on its way out, and that is nobody's yet.
    uint256 active;
    uint256 thawing;
    uint256 unvested;
    /// From when until when that vests.
    uint256 vestedAt;
    uint256 vestsUntil;
    uint256 shares;
    uint256 thawingShares;
    /// How often everything was slashed.
    uint256 round;
    uint256 inFlight;
    /// By how much a slash, and nothing else, left the pool below what is in flight.
    uint256 shortfall;
    uint256 frozen;
    uint256 frozenUntil;
    /// What the pool has of its operator's income, and what from some time on.
    uint256 sharedBps;
    uint256 nextSharedBps;
    uint256 sharedUntil;
    uint256 jailedUntil;
    uint256 jailings;
    /// What waits in the escrow for its owner, and for the pool.
    uint256 earnings;
    uint256 income;
}

/// @dev What of a pool is somebody's.
struct Position {
    uint256 round;
    uint256 shares;
    Thawing[] thaws;
}

struct Thawing {
    uint256 shares;
    uint256 readyAt;
}

/// @title What a pool's money and shares come to, a step at a time
/// @dev Shares of what is active and of what is thawing are apart. Of each, one unit and a thousand shares are nobody's.
library StakeModel {
    uint256 internal constant VESTING = 3 days;
    uint256 internal constant MOST_THAWS = 16;
    /// @dev Where something comes in, a unit isn't worth more shares than this.
    uint256 private constant MOST_SHARES = 2 ** 46;
    /// @dev What this many times isn't what was there.
    uint256 private constant DUST = 2 ** 20;

    function worthOf(uint256 part, uint256 money, uint256 shares) internal pure returns (uint256) {
        return part == shares ? money : (part * (money + 1)) / (shares + 1_000);
    }

    function sharesFor(uint256 amount, uint256 money, uint256 shares) internal pure returns (uint256) {
        return (amount * (shares + 1_000)) / (money + 1);
    }

    function held(Pool memory pool) internal pure returns (uint256) {
        return pool.active + pool.unvested + pool.thawing;
    }

    /// @dev The pool once all has vested that has by `time`.
    function vested(Pool memory pool, uint256 time) internal pure returns (Pool memory) {
        uint256 amount = pool.unvested;
        if (time < pool.vestsUntil) amount = (amount * (time - pool.vestedAt)) / (pool.vestsUntil - pool.vestedAt);
        if (amount == 0) return pool;
        pool.active += amount;
        pool.unvested -= amount;
        pool.vestedAt = time;
        return pool;
    }

    /// @dev What waits goes on with what comes, at the mean of their waits by weight.
    function withIncome(Pool memory pool, uint256 amount, uint256 time) internal pure returns (Pool memory) {
        uint256 wait = pool.unvested == 0 ? 0 : pool.vestsUntil - time;
        uint256 mean = (pool.unvested * wait + amount * VESTING) / (pool.unvested + amount);
        (pool.vestedAt, pool.vestsUntil) = (time, time + mean);
        pool.unvested += amount;
        return pool;
    }

    /// @dev The pool once `amount` of it was slashed, from all three places alike, with what is left of it if that is dust in
    /// which its shares can't be counted.
    function slashed(
        Pool memory pool,
        uint256 amount
    ) internal pure returns (Pool memory, uint256 fromStaying, uint256 fromThawing) {
        if (amount == 0) return (pool, 0, 0);
        uint256 all = held(pool);
        fromThawing = (amount * pool.thawing) / all;
        fromStaying = amount - fromThawing;
        uint256 staying = pool.active + pool.unvested;
        uint256 fromActive = staying == 0 ? 0 : (fromStaying * pool.active) / staying;
        pool.active -= fromActive;
        pool.unvested -= fromStaying - fromActive;
        pool.thawing -= fromThawing;
        bool isDust = (all - amount) * DUST < all && !_carriesShares(pool);
        if (amount < all && !isDust) return (pool, fromStaying, fromThawing);
        (fromStaying, fromThawing) = (fromStaying + pool.active + pool.unvested, fromThawing + pool.thawing);
        (pool.active, pool.unvested, pool.thawing) = (0, 0, 0);
        (pool.shares, pool.thawingShares, pool.round) = (0, 0, pool.round + 1);
        return (pool, fromStaying, fromThawing);
    }

    /// @dev Whether a pool takes anything in: not where shares have become so many that some couldn't leave.
    function hasRoom(Pool memory pool) internal pure returns (bool) {
        return _carriesShares(pool);
    }

    /// @dev What the pool has of its operator's income.
    function shareBps(Pool memory pool, uint256 time) internal pure returns (uint256) {
        return pool.sharedUntil != 0 && time >= pool.sharedUntil ? pool.nextSharedBps : pool.sharedBps;
    }

    function _carriesShares(Pool memory pool) private pure returns (bool) {
        return
            pool.shares + 1_000 <= MOST_SHARES * (pool.active + 1) &&
            pool.thawingShares + 1_000 <= MOST_SHARES * (pool.thawing + 1);
    }
}
