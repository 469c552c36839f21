// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {IPerformanceStaking} from "../../contracts/interfaces/IPerformanceStaking.sol";
import {OperatorId} from "../../contracts/types/Ids.sol";
import {Count} from "./Ledger.sol";
import {Operators} from "./Operators.sol";
import {Pool, Position, StakeModel, Thawing} from "./StakeModel.sol";
import {Machine, Verb} from "./Statuses.sol";

/// @title Stake: put in by operators and delegators, thawed, taken back, taken out, slashed, frozen
abstract contract Stakers is Operators {
    /// @dev What a slash should come to: the pool after it, all that it takes, and what of that is the operator's own.
    struct Slash {
        Pool pool;
        uint256 due;
        uint256 own;
    }

    function addStake(uint256 seed) external attempt(seed) {
        uint256 operator = _anyOperator();
        uint256 amount = _draw(64) == 0 ? 0 : _draw(50 * USD) + 1;
        uint256 shares = _sharesFor(operator, amount);
        uint256 minShares = _draw(8) == 0 ? shares + 1 + _draw(1_000) : _draw(shares + 1);
        uint256 deadline = _draw(16) == 0 ? clock - 1 : clock + _draw(1 days);
        _addStake(operator, _anyBacker(), amount, minShares, deadline);
    }

    function thawStake(uint256 seed) external attempt(seed) {
        uint256 operator = _anyOperator();
        address backer = _backerThat(operator, _isBacking);
        uint256 shares = _sharesOf(operator, backer);
        _thawStake(operator, backer, _draw(8) == 0 ? shares + _draw(2) : _draw(shares / 2 + 1));
    }

    function unthawStake(uint256 seed) external attempt(seed) {
        uint256 operator = _anyOperator();
        address backer = _backerThat(operator, _isLeaving);
        if (!_isLeaving(operator, backer) && _draw(8) != 0) {
            return _thawStake(operator, backer, _sharesOf(operator, backer) / 4);
        }
        _unthawStake(operator, backer);
    }

    function withdrawStake(uint256 seed) external attempt(seed) {
        uint256 operator = _anyOperator();
        address backer = _backerThat(operator, _isLeaving);
        if (!_isLeaving(operator, backer)) {
            backer = _backerThat(operator, _isBacking);
            if (_draw(8) != 0) return _thawStake(operator, backer, _sharesOf(operator, backer) / 4);
        } else {
            uint256 readyAt = positions[operator][backer].thaws[0].readyAt;
            if (readyAt >= clock) {
                if (_draw(4) == 0) _pass(readyAt - clock);
                _withdrawStake(operator, backer);
                if (_draw(4) == 0) _pass(readyAt + 1 - clock);
            }
        }
        _withdrawStake(operator, backer);
    }

    /// @dev Less at once, and more after a thaw.
    function setCommission(uint256 seed) external attempt(seed) {
        uint256 operator = _anyOperator();
        uint256 bps =
            _draw(16) == 0
                ? 10_001 + _draw(1_000)
                : _draw(3) == 0
                    ? 10_000
                    : _draw(10_001);
        Pool storage pool = pools[operator];
        Refusals memory refusals;
        bytes4 selector = IPerformanceStaking.CommissionAboveWhole.selector;
        _unless(refusals, bps <= 10_000, abi.encodeWithSelector(selector, bps));
        bytes memory call = abi.encodeCall(staking.setCommission, (_operatorId(operator), uint16(bps)));
        _do(operatorOwners[operator - 1], address(staking), call, refusals, "6: a commission");
        if (refusals.count > 0) return;
        uint256 present = StakeModel.shareBps(pool, clock);
        bool isRaise = 10_000 - bps < present;
        pool.sharedBps = isRaise ? present : 10_000 - bps;
        pool.nextSharedBps = 10_000 - bps;
        pool.sharedUntil = isRaise ? clock + STAKE_THAW : 0;
        _requirePool(operator);
    }

    function slash(uint256 seed) external attempt(seed) {
        uint256 operator = _anyOperator();
        uint256 held = StakeModel.held(pools[operator]);
        // Now and then everything, and more than there is, or all but a few units.
        if (_draw(64) != 0) return _slash(operator, _draw(held / 4 + 1));
        _slash(operator, held > 9 && _draw(2) == 0 ? held - 1 - _draw(9) : held + _draw(USD));
    }

    /// @dev Mostly for a part of what is there, and for days.
    function freeze(uint256 seed) external attempt(seed) {
        uint256 operator = _anyOperator();
        if (_draw(2) == 0) return _unfreeze(operator);
        uint256 amount = _draw(StakeModel.held(pools[operator]) / 2 + 1);
        uint256 until = clock + (_draw(8) == 0 ? _draw(100 days) : _draw(20 days));
        Refusals memory refusals;
        bytes4 selector = IPerformanceStaking.FreezeTooLong.selector;
        _unless(refusals, until <= clock + 90 days, abi.encodeWithSelector(selector, until, clock + 90 days));
        bytes memory call = abi.encodeCall(staking.freeze, (_operatorId(operator), uint64(amount), uint40(until)));
        _do(SLASHER, address(staking), call, refusals, "5: a freeze");
        if (refusals.count > 0) return;
        (pools[operator].frozen, pools[operator].frozenUntil) = (amount, until);
        _requirePool(operator);
    }

    // What the acts above are made of

    function _addStake(uint256 operator, address backer, uint256 amount) internal {
        _addStake(operator, backer, amount, 0, clock);
    }

    function _addStake(uint256 operator, address backer, uint256 amount, uint256 minShares, uint256 deadline) internal {
        Pool memory pool = _vested(operator);
        uint256 shares = StakeModel.sharesFor(amount, pool.active, pool.shares);
        Refusals memory refusals;
        _unless(
            refusals,
            clock <= deadline,
            abi.encodeWithSelector(IPerformanceStaking.DeadlinePassed.selector, deadline, clock)
        );
        _unless(refusals, amount > 0, abi.encodeWithSelector(IPerformanceStaking.AmountZero.selector));
        _unless(
            refusals,
            StakeModel.hasRoom(pool),
            abi.encodeWithSelector(IPerformanceStaking.PoolWornOut.selector, operator)
        );
        _unless(refusals, shares > 0, abi.encodeWithSelector(IPerformanceStaking.StakeTooSmall.selector, amount));
        _unless(
            refusals,
            shares >= minShares,
            abi.encodeWithSelector(IPerformanceStaking.SharesBelowLimit.selector, shares, minShares)
        );
        _mint(backer, amount, address(staking));
        bytes memory call = abi.encodeCall(
            staking.addStake,
            (_operatorId(operator), uint64(amount), minShares, deadline)
        );
        bytes memory result = _stake(operator, Verb.AddStake, backer, call, refusals, "6: a stake");
        if (refusals.count > 0) return;
        require(abi.decode(result, (uint256)) == shares, "6: shares misjudged");
        pool.active += amount;
        pool.shares += shares;
        pool.shortfall -= _min(pool.shortfall, amount);
        require(StakeModel.worthOf(shares, pool.active, pool.shares) <= amount, "7: who joined gained by it");
        _keep(operator, pool);
        _position(operator, backer).shares += shares;
        _requireBacker(operator, backer);
    }

    function _thawStake(uint256 operator, address backer, uint256 shares) internal {
        Pool memory pool = _vested(operator);
        Position storage position = _position(operator, backer);
        Refusals memory refusals;
        _unless(refusals, shares > 0, abi.encodeWithSelector(IPerformanceStaking.AmountZero.selector));
        _unless(
            refusals,
            shares <= position.shares,
            abi.encodeWithSelector(IPerformanceStaking.SharesAbovePosition.selector, operator, shares, position.shares)
        );
        _unless(
            refusals,
            position.thaws.length < StakeModel.MOST_THAWS,
            abi.encodeWithSelector(IPerformanceStaking.ThawsTooMany.selector, operator, backer, StakeModel.MOST_THAWS)
        );
        bytes memory call = abi.encodeCall(staking.thaw, (_operatorId(operator), shares));
        bytes memory result = _stake(operator, Verb.Nothing, backer, call, refusals, "5: a thaw of stake");
        if (refusals.count > 0) return;
        require(abi.decode(result, (uint256)) == clock + STAKE_THAW, "5: stake thaws for another time");
        uint256 amount = StakeModel.worthOf(shares, pool.active, pool.shares);
        pool.active -= amount;
        if (shares == pool.shares) (amount, pool.unvested) = (amount + pool.unvested, 0);
        uint256 thawingShares = StakeModel.sharesFor(amount, pool.thawing, pool.thawingShares);
        pool.shares -= shares;
        pool.thawing += amount;
        pool.thawingShares += thawingShares;
        _keep(operator, pool);
        position.shares -= shares;
        position.thaws.push(Thawing(thawingShares, clock + STAKE_THAW));
        _requireBacker(operator, backer);
    }

    /// @dev The newest.
    function _unthawStake(uint256 operator, address backer) internal {
        Pool memory pool = _vested(operator);
        Thawing[] storage thaws = _position(operator, backer).thaws;
        uint256 thawingShares = thaws.length == 0 ? 0 : thaws[thaws.length - 1].shares;
        uint256 amount = StakeModel.worthOf(thawingShares, pool.thawing, pool.thawingShares);
        uint256 shares = StakeModel.sharesFor(amount, pool.active, pool.shares);
        Refusals memory refusals;
        _unlessThawing(refusals, operator, backer);
        _unless(
            refusals,
            StakeModel.hasRoom(pool),
            abi.encodeWithSelector(IPerformanceStaking.PoolWornOut.selector, operator)
        );
        _unless(refusals, shares > 0, abi.encodeWithSelector(IPerformanceStaking.StakeTooSmall.selector, amount));
        bytes memory call = abi.encodeCall(staking.unthaw, (_operatorId(operator)));
        bytes memory result = _stake(operator, Verb.Nothing, backer, call, refusals, "5: a thaw taken back");
        if (refusals.count > 0) return;
        require(abi.decode(result, (uint256)) == shares, "6: shares misjudged");
        pool.thawing -= amount;
        pool.thawingShares -= thawingShares;
        pool.active += amount;
        pool.shares += shares;
        _keep(operator, pool);
        thaws.pop();
        _position(operator, backer).shares += shares;
        _requireBacker(operator, backer);
    }

    /// @dev All that is ready.
    function _withdrawStake(uint256 operator, address backer) internal {
        Pool memory pool = _vested(operator);
        Thawing[] storage thaws = _position(operator, backer).thaws;
        (uint256 ready, uint256 thawingShares) = _ready(thaws);
        uint256 due = StakeModel.worthOf(thawingShares, pool.thawing, pool.thawingShares);
        pool.thawing -= due;
        pool.thawingShares -= thawingShares;
        Refusals memory refusals;
        _unlessThawing(refusals, operator, backer);
        if (thaws.length > 0) {
            _unless(
                refusals,
                clock > thaws[0].readyAt,
                abi.encodeWithSelector(IPerformanceStaking.StakeStillThawing.selector, operator, thaws[0].readyAt)
            );
        }
        uint256 frozen = clock < pool.frozenUntil ? pool.frozen : 0;
        _unless(
            refusals,
            pool.active + pool.thawing >= pool.inFlight + frozen,
            abi.encodeWithSelector(
                IPerformanceStaking.StakeStillNeeded.selector,
                operator,
                pool.active + pool.thawing,
                pool.inFlight,
                frozen
            )
        );
        bytes memory call = abi.encodeCall(staking.withdraw, (_operatorId(operator), WALLET));
        bytes memory result = _stake(operator, Verb.Withdraw, backer, call, refusals, "5: a withdrawal of stake");
        if (refusals.count > 0) return;
        _requireReceived(abi.decode(result, (uint256)), WALLET, due);
        pool.shortfall = 0;
        _keep(operator, pool);
        for (uint256 i; i < thaws.length; ++i) {
            if (i + ready < thaws.length) thaws[i] = thaws[i + ready];
        }
        for (; ready > 0; --ready) thaws.pop();
        _requireBacker(operator, backer);
        IPerformanceStaking.Pool memory actual = staking.poolOf(_operatorId(operator));
        require(
            actual.active + actual.thawing >= actual.inFlight + actual.frozen,
            "5: stake left that was in flight or frozen"
        );
    }

    /// @dev What was the operator's own is the beneficiary's, and what was others' the treasury's.
    function _slash(uint256 operator, uint256 amount) internal {
        Slash memory slash_ = _forecastSlash(operator, amount);
        bytes memory call = abi.encodeCall(staking.slash, (_operatorId(operator), amount, BENEFICIARY));
        Refusals memory none;
        bytes memory result = _stake(operator, Verb.Slash, SLASHER, call, none, "6: a slash");
        (uint256 toBeneficiary, uint256 toTreasury) = abi.decode(result, (uint256, uint256));
        require(toBeneficiary + toTreasury == slash_.due, "6: a slash took more or less than it could");
        require(toBeneficiary == slash_.own, "6: a beneficiary was paid more or less than what was the operator's own");
        _bookSlash(operator, slash_, BENEFICIARY);
        _requireSlashed(operator, BENEFICIARY);
    }

    /// @dev What a court has slashed.
    function _bookSlash(uint256 operator, uint256 amount, address beneficiary) internal {
        _bookSlash(operator, _forecastSlash(operator, amount), beneficiary);
    }

    function _bookSlash(uint256 operator, Slash memory slash_, address beneficiary) private {
        Pool memory pool = slash_.pool;
        pool.shortfall = pool.inFlight > StakeModel.held(pool) ? pool.inFlight - StakeModel.held(pool) : 0;
        pools[operator] = pool;
        proceeds[beneficiary] += slash_.own;
        proceeds[TREASURY] += slash_.due - slash_.own;
    }

    function _forecastSlash(uint256 operator, uint256 amount) private view returns (Slash memory slash_) {
        Pool memory pool = _vested(operator);
        (uint256 shares, uint256 thawingShares, uint256 worth) = _ownOf(operator, pool);
        uint256 held = StakeModel.held(pool);
        slash_.due = _min(amount, held);
        (uint256 allShares, uint256 allThawing) = (pool.shares, pool.thawingShares);
        uint256 fromStaying;
        uint256 fromThawing;
        (slash_.pool, fromStaying, fromThawing) = StakeModel.slashed(pool, slash_.due);
        slash_.due = fromStaying + fromThawing;
        if (allShares > 0) slash_.own = (fromStaying * shares) / allShares;
        if (allThawing > 0) slash_.own += (fromThawing * thawingShares) / allThawing;
        require(slash_.own * held <= slash_.due * (worth + 2) + held, "6: a beneficiary is paid from delegations");
    }

    function _unfreeze(uint256 operator) internal {
        bytes memory call = abi.encodeCall(staking.unfreeze, (_operatorId(operator)));
        _mustLand(SLASHER, address(staking), call, "5: an end of a freeze");
        (pools[operator].frozen, pools[operator].frozenUntil) = (0, 0);
        _requirePool(operator);
    }

    /// @dev A third breach, whose slash is the treasury's, whoever's stake it was.
    function _slashForBreach(uint256 operator) internal {
        Pool memory pool = _vested(operator);
        uint256 due = StakeModel.held(pool) / 100;
        (pool, , ) = StakeModel.slashed(pool, due);
        pools[operator] = pool;
        proceeds[TREASURY] += due;
    }

    /// @dev Everybody bore it alike, and those have it whose it is.
    function _requireSlashed(uint256 operator, address beneficiary) internal view {
        _requirePool(operator);
        for (uint256 i; i < backers.length; ++i) _requirePosition(operator, backers[i]);
        require(
            staking.proceedsOf(beneficiary) == proceeds[beneficiary] &&
                staking.proceedsOf(TREASURY) == proceeds[TREASURY],
            "6: a slash's proceeds went elsewhere"
        );
    }

    /// @dev An act on a pool, whose operator's status may move by `verb` alone.
    function _stake(
        uint256 operator,
        Verb verb,
        address sender,
        bytes memory call,
        Refusals memory refusals,
        string memory act
    ) private returns (bytes memory result) {
        _watch(Machine.Operator, operator);
        result = _do(sender, address(staking), call, refusals, act);
        _see(Machine.Operator, operator, refusals.count == 0 ? verb : Verb.Nothing);
    }

    /// @dev Who stays in a pool doesn't pay for who comes or goes: a share's worth doesn't fall.
    function _keep(uint256 operator, Pool memory pool) private {
        Pool memory before = _vested(operator);
        if (pool.shares > 0) {
            require(
                (pool.active + 1) * (before.shares + 1_000) >= (before.active + 1) * (pool.shares + 1_000),
                "7: who stayed in a pool paid for who came or went"
            );
        }
        pools[operator] = pool;
    }

    function _requireBacker(uint256 operator, address backer) private view {
        _requirePool(operator);
        _requirePosition(operator, backer);
    }

    function _unlessThawing(Refusals memory refusals, uint256 operator, address backer) private view {
        _unless(
            refusals,
            _isLeaving(operator, backer),
            abi.encodeWithSelector(IPerformanceStaking.ThawEmpty.selector, operator, backer)
        );
    }

    function _ready(Thawing[] storage thaws) private view returns (uint256 count, uint256 shares) {
        for (; count < thaws.length && clock > thaws[count].readyAt; ++count) shares += thaws[count].shares;
    }

    /// @dev What an operator's owner has of its pool, and its worth with its part of what hasn't vested.
    function _ownOf(
        uint256 operator,
        Pool memory pool
    ) private view returns (uint256 shares, uint256 thawingShares, uint256 worth) {
        Position storage position = positions[operator][operatorOwners[operator - 1]];
        if (position.round != pool.round) return (0, 0, 0);
        shares = position.shares;
        for (uint256 i; i < position.thaws.length; ++i) thawingShares += position.thaws[i].shares;
        worth = StakeModel.worthOf(shares, pool.active, pool.shares);
        worth += StakeModel.worthOf(thawingShares, pool.thawing, pool.thawingShares);
        if (pool.shares > 0) worth += (pool.unvested * shares) / pool.shares;
    }

    /// @dev With nothing that a slash of everything voided.
    function _position(uint256 operator, address backer) private returns (Position storage position) {
        position = positions[operator][backer];
        if (position.round == pools[operator].round) return position;
        delete positions[operator][backer];
        position.round = pools[operator].round;
    }

    function _sharesOf(uint256 operator, address backer) internal view returns (uint256) {
        Position storage position = positions[operator][backer];
        return position.round == pools[operator].round ? position.shares : 0;
    }

    function _sharesFor(uint256 operator, uint256 amount) private view returns (uint256) {
        Pool memory pool = _vested(operator);
        return StakeModel.sharesFor(amount, pool.active, pool.shares);
    }

    function _anyBacker() internal returns (address) {
        return backers[_draw(backers.length)];
    }

    /// @dev Somebody who is fit for something, from a random one on; anybody if nobody is.
    function _backerThat(
        uint256 operator,
        function(uint256, address) view returns (bool) isFit
    ) internal returns (address) {
        uint256 start = _draw(backers.length);
        for (uint256 i; i < backers.length; ++i) {
            address backer = backers[(start + i) % backers.length];
            if (isFit(operator, backer)) return backer;
        }
        return backers[start];
    }

    function _isBacking(uint256 operator, address backer) internal view returns (bool) {
        return _sharesOf(operator, backer) > 0;
    }

    function _isLeaving(uint256 operator, address backer) internal view returns (bool) {
        Position storage position = positions[operator][backer];
        return position.round == pools[operator].round && position.thaws.length > 0;
    }
}
