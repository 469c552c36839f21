// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

/// @dev What backs one operator. Its money stands in three places: `active` and `thawing`, each owned in shares of its own,
/// and `unvested`, which is no one's yet and moves to `active` as time goes by.
/// @param active Currency units behind `shares`, as of `vestedAt`
/// @param inFlight Currency units charged and not released
/// @param jailedUntil Unix seconds; 0 if it never was
/// @param jailings How often it was jailed since it was last cured
/// @param sharedBps What of the operator's income is the pool's: all but its commission
/// @param nextSharedBps What is in its place from `sharedUntil` on
/// @param sharedUntil Unix seconds at which a raise of the commission binds; 0 if none was announced
/// @param shares All shares of `active`
/// @param thawingShares All shares of `thawing`
/// @param round How often everything was slashed, or all but dust: positions of an earlier round are void
/// @param thawing Currency units on their way out
/// @param unvested Currency units of income that vest evenly from `vestedAt` until `vestsUntil`
/// @param frozen Currency units that no withdrawal may touch until `frozenUntil`
struct StakePool {
    uint64 active;
    uint64 inFlight;
    uint40 jailedUntil;
    uint8 jailings;
    uint16 sharedBps;
    uint16 nextSharedBps;
    uint40 sharedUntil;
    uint112 shares;
    uint112 thawingShares;
    uint16 round;
    uint64 thawing;
    uint64 unvested;
    uint40 vestedAt;
    uint40 vestsUntil;
    uint64 frozen;
    uint40 frozenUntil;
}

using StakePoolLib for StakePool global;

/// @dev The money of a pool. Verbs that change it, but for `vest`, want it vested.
/// BOUNDS that make the narrowing casts safe. Money: all three places together have 64 bits, since `hasRoomFor` what comes in.
/// Shares: where something comes in, a unit is worth at most 2^46 shares of either kind, so that all 64 bits of money are worth
/// at most 2^110. Slashes take from both places alike: what a unit is worth in shares rises as the units get fewer. Every
/// other verb rounds shares down on the way in and money down on the way out, which makes shares dearer. So at most 2^111
/// shares of a kind ever stand, and whoever leaves fits in 112 bits.
library StakePoolLib {
    /// @dev Shares that no one holds, beside one unit of money that no one has: they make it dear to raise the price of a
    /// share between two deposits (the inflation attack on vaults; see OpenZeppelin's ERC4626).
    uint256 private constant VIRTUAL_SHARES = 1_000;
    uint256 private constant VIRTUAL_UNITS = 1;
    /// @dev A unit of a pool that is as good as new is worth a thousand shares, about 2^10.
    uint256 private constant MOST_SHARES_A_UNIT = 2 ** 46;
    /// @dev What is left of a pool is dust if this many times as much isn't what was there.
    uint256 private constant DUST_PART = 2 ** 20;

    /// @dev Moves to `active` what vested since it was last done.
    function vest(StakePool storage self) internal {
        // At most what is unvested.
        uint64 vested = uint64(vestedOf(self));
        if (vested == 0) return;

        self.active += vested;
        self.unvested -= vested;
        self.vestedAt = uint40(block.timestamp);
    }

    /// @dev Adds stake, for the shares that it is worth.
    function add(StakePool storage self, uint256 amount) internal returns (uint256 shares) {
        shares = sharesFor(amount, self.active, self.shares);
        // See BOUNDS.
        self.active += uint64(amount);
        self.shares += uint112(shares);
    }

    /// @dev Adds income, which vests over `period`; what was vesting goes on with it, at the mean of the two waits by weight, so
    /// that a little income prolongs it a little.
    function addIncome(StakePool storage self, uint256 amount, uint256 period) internal {
        uint256 left = self.unvested;
        uint256 wait = left == 0 ? 0 : self.vestsUntil - block.timestamp;
        // See BOUNDS; a mean of two waits is at most the longer one.
        self.unvested = uint64(left + amount);
        self.vestedAt = uint40(block.timestamp);
        self.vestsUntil = uint40(block.timestamp + (left * wait + amount * period) / (left + amount));
    }

    /// @dev Moves the worth of `shares` from active to thawing. The last holder takes what hasn't vested along.
    function startThaw(
        StakePool storage self,
        uint256 shares
    ) internal returns (uint256 amount, uint256 thawingShares) {
        amount = worthOf(shares, self.active, self.shares);
        if (shares == self.shares) {
            amount += self.unvested;
            (self.active, self.unvested) = (0, 0);
        } else {
            self.active -= uint64(amount);
        }
        thawingShares = sharesFor(amount, self.thawing, self.thawingShares);
        // See BOUNDS.
        self.shares -= uint112(shares);
        self.thawing += uint64(amount);
        self.thawingShares += uint112(thawingShares);
    }

    /// @dev Takes `thawingShares` out at their worth.
    function take(StakePool storage self, uint256 thawingShares) internal returns (uint256 amount) {
        amount = worthOf(thawingShares, self.thawing, self.thawingShares);
        // Both are parts of what they are taken from.
        self.thawing -= uint64(amount);
        self.thawingShares -= uint112(thawingShares);
    }

    /// @dev Takes `amount`, at most all, from the three places alike; and the rest, too, if that is dust which can't carry the
    /// shares: whoever stayed with it would keep everybody else out. If it takes all, every share is void.
    /// A pool a unit of which is worth at most 2^25 shares is so never worn out by one slash: that leaves it a 2^20th, or nothing.
    /// @return slashed What it took
    /// @return fromThawing What of it was on its way out
    function slash(StakePool storage self, uint256 amount) internal returns (uint256 slashed, uint256 fromThawing) {
        if (amount == 0) return (0, 0);
        uint256 held = heldBy(self);
        uint256 fromActive;
        uint256 fromUnvested;
        (fromActive, fromUnvested, fromThawing) = partsOf(self, self.active, self.unvested, amount);
        // Parts of what they are taken from.
        self.active -= uint64(fromActive);
        self.unvested -= uint64(fromUnvested);
        self.thawing -= uint64(fromThawing);
        bool isDust = (held - amount) * DUST_PART < held;
        if (!isDust || (amount < held && _carriesShares(self))) return (amount, fromThawing);

        (slashed, fromThawing) = (held, fromThawing + self.thawing);
        (self.active, self.unvested, self.thawing) = (0, 0, 0);
        (self.shares, self.thawingShares, self.round) = (0, 0, self.round + 1);
    }

    /// @dev Where a slash of `amount` comes from, if `active` and `unvested` are what they are by then. What can't be divided
    /// comes from the unvested first, then from the active, so that nothing is left to vest to no stake.
    function partsOf(
        StakePool storage self,
        uint256 active,
        uint256 unvested,
        uint256 amount
    ) internal view returns (uint256 fromActive, uint256 fromUnvested, uint256 fromThawing) {
        if (amount == 0) return (0, 0, 0);
        fromThawing = (amount * self.thawing) / (active + unvested + self.thawing);
        uint256 rest = amount - fromThawing;
        fromActive = rest == 0 ? 0 : (rest * active) / (active + unvested);
        fromUnvested = rest - fromActive;
    }

    /// @dev What vested and isn't counted as active yet.
    function vestedOf(StakePool storage self) internal view returns (uint256) {
        uint256 unvested = self.unvested;
        if (unvested == 0 || block.timestamp >= self.vestsUntil) return unvested;
        return (unvested * (block.timestamp - self.vestedAt)) / (self.vestsUntil - self.vestedAt);
    }

    /// @dev What is active by now.
    function activeOf(StakePool storage self) internal view returns (uint256) {
        return self.active + vestedOf(self);
    }

    /// @dev All money of the pool.
    function heldBy(StakePool storage self) internal view returns (uint256) {
        return uint256(self.active) + self.unvested + self.thawing;
    }

    /// @dev Whether `amount` may come in: everybody could still leave, whatever happens. Otherwise the pool is worn out.
    function hasRoomFor(StakePool storage self, uint256 amount) internal view returns (bool) {
        return heldBy(self) + amount <= type(uint64).max && self.round < type(uint16).max && _carriesShares(self);
    }

    /// @dev The shares that `amount` is worth where `units` are owned in `shares`, rounded down.
    function sharesFor(uint256 amount, uint256 units, uint256 shares) internal pure returns (uint256) {
        return (amount * (shares + VIRTUAL_SHARES)) / (units + VIRTUAL_UNITS);
    }

    /// @dev The worth of `part` of the `shares` in which `units` are owned, rounded down. All shares are worth all units: nothing
    /// stays behind. Fewer are never worth more.
    function worthOf(uint256 part, uint256 units, uint256 shares) internal pure returns (uint256) {
        return part == shares ? units : (part * (units + VIRTUAL_UNITS)) / (shares + VIRTUAL_SHARES);
    }

    /// @dev Whether shares of either kind are still dear enough for more of them.
    function _carriesShares(StakePool storage self) private view returns (bool) {
        return
            self.shares + VIRTUAL_SHARES <= MOST_SHARES_A_UNIT * (self.active + VIRTUAL_UNITS) &&
            self.thawingShares + VIRTUAL_SHARES <= MOST_SHARES_A_UNIT * (self.thawing + VIRTUAL_UNITS);
    }
}
