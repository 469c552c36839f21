// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {CommitteeAttestor} from "../../contracts/CommitteeAttestor.sol";
import {PlanTerms} from "../../contracts/interfaces/ILicenseRegistry.sol";
import {IPerformanceStaking} from "../../contracts/interfaces/IPerformanceStaking.sol";
import {
    BatchHeader,
    BatchStatus,
    EntryStatus,
    IUsageEscrow,
    LicenseStatus
} from "../../contracts/interfaces/IUsageEscrow.sol";
import {LicenseId, OperatorId, PlanId, VersionId} from "../../contracts/types/Ids.sol";
import {Ledger} from "./Ledger.sol";
import {Claim, License, Model, Shares, Usage} from "./Model.sol";
import {VM} from "./Vm.sol";

/// @title Everybody who may touch the market, doing all that they may
/// @dev An attempt either lands, and the ledger follows, or is refused for the reason that the ledger foresaw: a call
/// that reverts otherwise ends the campaign. Arguments are seeds, so that most attempts make sense.
abstract contract Actors is Ledger {
    uint256 internal constant MOST_LICENSES = 12;
    uint256 internal constant MOST_ENTRIES = 12;
    address internal constant WALLET = address(0xE001);

    struct Draft {
        BatchHeader header;
        Usage[] usages;
        bytes entries;
        bytes proof;
        bytes32 id;
        uint48 signers;
    }

    /// @dev What a batch should come to.
    struct Forecast {
        uint256 discountBps;
        uint256 charged;
        /// Whether it jails the operator.
        bool jails;
        uint256[] amounts;
        EntryStatus[] statuses;
        License[] after_;
    }

    uint256 private _draws;
    uint256 private _seed;

    modifier attempt(uint256 seed) {
        _begin(seed);
        ++tally.attempts;
        _;
    }

    modifier attack(uint256 seed) {
        _begin(seed);
        ++tally.attacks;
        _;
    }

    // Licensees

    function buy(uint256 seed) external attempt(seed) {
        if (ledger.length >= MOST_LICENSES) return _deposit(_anyLicense(), _draw(40 * USD) + 1);
        _buy(_draw(PLANS) + 1, _draw(OPERATORS) + 1, _draw(3), _draw(60 * USD));
    }

    function deposit(uint256 seed) external attempt(seed) {
        _deposit(_anyLicense(), _draw(60 * USD) + 1);
    }

    function depositByPermit(uint256 seed) external attempt(seed) {
        uint256 id = _anyLicense();
        uint256 amount = _affordable(_draw(60 * USD) + 1);
        uint256 payer = _draw(3);
        currency.mint(licensees[payer], amount);
        (uint8 v, bytes32 r, bytes32 s) = _permit(payer, amount);
        // Somebody may have used the permit before: that does no harm.
        if (_draw(4) == 0) {
            currency.permit(licensees[payer], address(escrow), amount, type(uint256).max, v, r, s);
        }
        bytes memory refusal = _depositRefusal(id, amount);
        VM.prank(licensees[payer]);
        try escrow.depositWithPermit(_id(id), uint64(amount), type(uint256).max, v, r, s) {
            require(refusal.length == 0, "11: a deposit was taken that had to be refused");
            _credit(id, amount);
        } catch (bytes memory reason) {
            _requireReason(reason, refusal, "4: a deposit by permit was refused for no good reason");
        }
    }

    function setCap(uint256 seed) external attempt(seed) {
        uint256 id = _anyLicense();
        uint8 code = _draw(3) == 0 ? 0 : uint8(_draw(2) == 0 ? _draw(256) : _draw(24));
        require(escrow.capOf(code) == Model.capOf(code), "2: a code stands for another cap");
        _setCap(id, code);
        ++tally.landed;
    }

    /// @dev By anybody, the second after its wait at the soonest.
    function applyCapCut(uint256 seed) external attempt(seed) {
        uint256 id = _anyLicense();
        for (uint256 i; i < ledger.length && ledger[id - 1].capCutCode == 0; ++i) id = 1 + (id % ledger.length);
        License storage license = ledger[id - 1];
        if (license.capCutCode == 0) {
            return _applyCapCutTooEarly(id, abi.encodeWithSelector(IUsageEscrow.CapCutNone.selector, id));
        }
        if (license.capCutReadyAt >= clock) {
            if (_draw(2) == 0) _pass(license.capCutReadyAt - clock);
            bytes4 selector = IUsageEscrow.CapCutRunning.selector;
            _applyCapCutTooEarly(id, abi.encodeWithSelector(selector, id, license.capCutReadyAt));
            _pass(license.capCutReadyAt - clock + 1);
        }
        VM.prank(_anybody());
        escrow.applyCapCut(_id(id));
        (license.capCode, license.capCutCode, license.capCutReadyAt) = (license.capCutCode, 0, 0);
        ++tally.landed;
    }

    function raiseGeneration(uint256 seed) external attempt(seed) {
        uint256 id = _anyLicense();
        VM.prank(ledger[id - 1].owner);
        uint256 generation = escrow.raiseGeneration(_id(id));
        require(generation == ++ledger[id - 1].generation, "10: a generation didn't rise by one");
        ++tally.landed;
    }

    function thaw(uint256 seed) external attempt(seed) {
        uint256 id = _anyLicense();
        License storage license = ledger[id - 1];
        uint256 amount = _draw(3) == 0 ? license.balance : _draw(license.balance + 1);
        VM.prank(license.owner);
        escrow.thaw(_id(id), uint64(amount));
        (license.thawing, license.thawReadyAt) = (amount, clock + EPOCH + WINDOW);
        ++tally.landed;
    }

    /// @dev A thaw that is ready is paid whatever else goes on; one that isn't is paid the second after it is.
    function withdraw(uint256 seed) external attempt(seed) {
        uint256 id = _anyLicense();
        for (uint256 i; i < ledger.length && ledger[id - 1].thawing == 0; ++i) id = 1 + (id % ledger.length);
        License storage license = ledger[id - 1];
        if (license.thawing == 0) {
            return _withdrawTooEarly(id, abi.encodeWithSelector(IUsageEscrow.ThawEmpty.selector, id));
        }
        if (license.thawReadyAt >= clock && _draw(4) == 0) {
            if (_draw(2) == 0) _pass(license.thawReadyAt - clock);
            bytes4 selector = IUsageEscrow.ThawRunning.selector;
            return _withdrawTooEarly(id, abi.encodeWithSelector(selector, id, license.thawReadyAt));
        }
        if (license.thawReadyAt >= clock) _pass(license.thawReadyAt - clock + 1);
        _withdraw(id);
    }

    // Operators

    function addStake(uint256 seed) external attempt(seed) {
        _addStake(_draw(OPERATORS) + 1, _draw(50 * USD) + 1);
    }

    function thawStake(uint256 seed) external attempt(seed) {
        uint256 operator = _draw(OPERATORS) + 1;
        Pool storage pool = pools[operator];
        uint256 shares = _draw(8) == 0 ? pool.shares : _draw(pool.shares / 2 + 1);
        VM.prank(operatorOwners[operator - 1]);
        staking.thaw(OperatorId.wrap(uint24(operator)), uint128(shares));
        (pool.thawingShares, pool.thawReadyAt) = (shares, clock + STAKE_THAW);
        ++tally.landed;
    }

    function withdrawStake(uint256 seed) external attempt(seed) {
        uint256 operator = _draw(OPERATORS) + 1;
        if (pools[operator].thawingShares == 0) operator = 3 - operator;
        Pool storage pool = pools[operator];
        if (pool.thawingShares == 0) {
            bytes4 selector = IPerformanceStaking.ThawEmpty.selector;
            return
                _withdrawStakeTooEarly(
                    operator,
                    abi.encodeWithSelector(selector, operator, operatorOwners[operator - 1])
                );
        }
        if (pool.thawReadyAt >= clock && _draw(4) != 0) {
            if (_draw(4) == 0) _pass(pool.thawReadyAt - clock);
            bytes4 selector = IPerformanceStaking.StakeStillThawing.selector;
            return _withdrawStakeTooEarly(operator, abi.encodeWithSelector(selector, operator, pool.thawReadyAt));
        }
        if (pool.thawReadyAt >= clock) _pass(pool.thawReadyAt - clock + 1);
        _withdrawStake(operator);
    }

    /// @dev Mostly for it: who isn't served any more stays a licensee.
    function serve(uint256 seed) external attempt(seed) {
        uint256 operator = _draw(OPERATORS) + 1;
        uint256 plan = _draw(PLANS) + 1;
        refused[operator][plan] = _draw(4) == 0;
        _serve(operator, PlanId.wrap(uint32(plan)), !refused[operator][plan]);
        ++tally.landed;
    }

    // Settlement

    function settle(uint256 seed) external attempt(seed) {
        _settle(_draft(false));
    }

    function settleAgain(uint256 seed) external attempt(seed) {
        _settle(_draft(false));
    }

    /// @dev The next part of an epoch that settled in part.
    function settlePart(uint256 seed) external attempt(seed) {
        _settle(_draft(true));
    }

    /// @dev Within the window's last minute, its last second included.
    function settleLate(uint256 seed) external attempt(seed) {
        Draft memory draft = _draft(false);
        _pass(draft.header.epochEnd + WINDOW - clock - (_draw(2) == 0 ? 0 : _draw(60)));
        _settle(draft);
    }

    function release(uint256 seed) external attempt(seed) {
        uint256 i = _batchThat(BatchStatus.Held);
        if (i == batches.length) return _settle(_draft(false));
        if (clock < batches[i].releasableAt && _draw(6) == 0) return _releaseTooEarly(i);
        if (clock < batches[i].releasableAt) _pass(batches[i].releasableAt - clock);
        _release(i);
    }

    function collect(uint256 seed) external attempt(seed) {
        uint256 i = _batchThat(BatchStatus.Released);
        if (i == batches.length) return _settle(_draft(false));
        _collect(i);
    }

    // Payees

    function withdrawEarnings(uint256 seed) external attempt(seed) {
        address[4] memory payees = [operatorOwners[0], operatorOwners[1], publishers[0], publishers[1]];
        uint256 start = _draw(4);
        for (uint256 i; i < 4; ++i) {
            address payee = payees[(start + i) % 4];
            if (earnings[payee] > 0) return _withdrawEarnings(payee);
        }
    }

    function withdrawFees(uint256 seed) external attempt(seed) {
        if (fees == 0) return;
        VM.prank(_anybody());
        _requireReceived(escrow.withdrawFees(), TREASURY, fees);
        flows.feesPaid += fees;
        fees = 0;
    }

    function withdrawIncome(uint256 seed) external attempt(seed) {
        uint256 start = _draw(4);
        for (uint256 i; i < 4; ++i) {
            uint256 member = (start + i) % 4;
            address attestor = address(member < 3 ? committee : lone);
            if (incomeOf[attestor][attestorPayees[member]] > 0) return _withdrawIncome(member);
        }
    }

    function withdrawProceeds(uint256 seed) external attempt(seed) {
        address beneficiary = _draw(2) == 0 ? BENEFICIARY : TREASURY;
        if (proceeds[beneficiary] == 0) beneficiary = beneficiary == TREASURY ? BENEFICIARY : TREASURY;
        if (proceeds[beneficiary] > 0) _withdrawProceeds(beneficiary);
    }

    function payBonus(uint256 seed) external attempt(seed) {
        uint256 operator = _draw(OPERATORS) + 1;
        if (pools[operator].bonus == 0) operator = 3 - operator;
        if (pools[operator].bonus > 0) _payBonus(operator);
    }

    // Everybody else

    function slash(uint256 seed) external attempt(seed) {
        uint256 operator = _draw(OPERATORS) + 1;
        // Now and then everything, and more than there is.
        uint256 amount = _draw(64) == 0 ? pools[operator].stake + _draw(USD) : _draw(pools[operator].stake / 4 + 1);
        _slash(operator, amount);
    }

    /// @dev Whoever owns the model when a batch is released earns its publisher's share.
    function sellModel(uint256 seed) external attempt(seed) {
        address owner = assets.ownerOf(1);
        VM.prank(owner);
        assets.transferFrom(owner, owner == publishers[0] ? publishers[1] : publishers[0], 1);
        ++tally.landed;
    }

    function donate(uint256 seed) external attempt(seed) {
        address[4] memory holders = [address(escrow), address(staking), address(committee), address(lone)];
        address holder = holders[_draw(4)];
        uint256 amount = _draw(USD) + 1;
        currency.mint(DONOR, amount);
        VM.prank(DONOR);
        currency.transfer(holder, amount);
        donations[holder] += amount;
        ++tally.landed;
    }

    function letTimePass(uint256 seed) external attempt(seed) {
        _pass(_draw(1 days) + 1);
        ++tally.landed;
    }

    // Governance

    /// @dev After its delay, and only then.
    function govern(uint256 seed) external attempt(seed) {
        address target = address(escrow);
        bytes memory act;
        uint256 kind = _draw(4);
        if (kind == 0) {
            target = address(authority);
            act = abi.encodeCall(authority.grantRole, (GUARDIAN_ROLE, DEPUTY, 0));
        } else if (kind == 1) {
            act = abi.encodeCall(escrow.raiseDepositCeiling, (escrow.depositCeiling() + uint64(_draw(150 * USD) + 1)));
        } else {
            act = abi.encodeCall(escrow.setFee, (uint16(_draw(501))));
        }
        bytes32 before = _money();
        VM.prank(GOVERNOR);
        (bool early, ) = target.call(act);
        require(!early, "11: governance didn't wait");
        _govern(target, act);
        require(_money() == before, "11: governance moved users' money");
        ++tally.governed;
        ++tally.landed;
    }

    function pause(uint256 seed) external attempt(seed) {
        bytes32 before = _money();
        uint256 until = escrow.pausedUntil();
        uint256 allowedAt = until == 0 ? 0 : until + 7 days;
        VM.prank(GUARDIAN);
        try escrow.pause() {
            require(clock >= allowedAt, "11: a pause came too soon");
            require(escrow.pausedUntil() == clock + 7 days, "11: a pause is longer than it may be");
            ++tally.landed;
        } catch (bytes memory reason) {
            _requireReason(
                reason,
                clock < allowedAt ? abi.encodeWithSelector(IUsageEscrow.PauseTooSoon.selector, allowedAt) : bytes(""),
                "11: a pause was refused for no good reason"
            );
        }
        // Mostly short, or there would be no deposits for half of the time.
        if (_draw(4) != 0) {
            VM.prank(GUARDIAN);
            escrow.unpause();
        }
        require(_money() == before, "11: a pause moved users' money");
    }

    // What the acts above are made of

    function _buy(uint256 plan, uint256 operator, uint256 owner, uint256 amount) internal {
        uint8 code = _draw(2) == 0 ? 0 : uint8(_draw(24));
        amount = _affordable(amount);
        bytes memory refusal = _pauseRefusal();
        uint256 room = _room();
        if (refusal.length == 0 && refused[operator][plan]) {
            refusal = abi.encodeWithSelector(IUsageEscrow.PlanNotServed.selector, operator, plan);
        }
        if (refusal.length == 0 && clock < pools[operator].jailedUntil) {
            refusal = abi.encodeWithSelector(IUsageEscrow.OperatorInJail.selector, operator);
        }
        if (refusal.length == 0 && amount > room) refusal = _ceilingRefusal();
        address payer = _anybody();
        _mint(payer, amount, address(escrow));
        VM.prank(payer);
        try
            escrow.buy(
                PlanId.wrap(uint32(plan)),
                OperatorId.wrap(uint24(operator)),
                licensees[owner],
                code,
                uint64(amount)
            )
        returns (LicenseId id) {
            require(refusal.length == 0, "11: a purchase was taken that had to be refused");
            License storage license = ledger.push();
            require(LicenseId.unwrap(id) == ledger.length, "2: a license's id was used before");
            require(licenses.ownerOf(ledger.length) == licensees[owner], "2: a license went to another one");
            (license.bought, license.owner) = (true, licensees[owner]);
            (license.plan, license.operator, license.capCode) = (plan, operator, code);
            (license.termStartedAt, license.termEndsAt) = (clock, clock + plans[plan - 1].termPeriod);
            _credit(ledger.length, amount);
        } catch (bytes memory reason) {
            _requireReason(reason, refusal, "2: a purchase was refused for no good reason");
        }
    }

    function _deposit(uint256 id, uint256 amount) internal {
        amount = _affordable(amount);
        bytes memory refusal = _depositRefusal(id, amount);
        address payer = _anybody();
        _mint(payer, amount, address(escrow));
        VM.prank(payer);
        try escrow.deposit(_id(id), uint64(amount)) {
            require(refusal.length == 0, "11: a deposit was taken that had to be refused");
            _credit(id, amount);
        } catch (bytes memory reason) {
            _requireReason(reason, refusal, "2: a deposit was refused for no good reason");
        }
    }

    function _credit(uint256 id, uint256 amount) internal {
        ledger[id - 1].balance += amount;
        balances += amount;
        flows.deposited += amount;
        ++tally.landed;
    }

    /// @dev A higher cap is in force at once; a lower one is announced.
    function _setCap(uint256 id, uint8 code) internal {
        License storage license = ledger[id - 1];
        VM.prank(license.owner);
        escrow.setCap(_id(id), code);
        if (Model.capOf(code) < Model.capOf(license.capCode)) {
            (license.capCutCode, license.capCutReadyAt) = (code, clock + EPOCH + WINDOW);
        } else {
            (license.capCode, license.capCutCode, license.capCutReadyAt) = (code, 0, 0);
        }
    }

    function _applyCapCutTooEarly(uint256 id, bytes memory refusal) internal {
        VM.prank(_anybody());
        try escrow.applyCapCut(_id(id)) {
            revert("2: a lower cap was in force before what was used under the higher one could settle");
        } catch (bytes memory reason) {
            _requireReason(reason, refusal, "2: a lower cap was refused for no good reason");
        }
    }

    function _withdraw(uint256 id) internal {
        License storage license = ledger[id - 1];
        uint256 due = license.thawing < license.balance ? license.thawing : license.balance;
        VM.prank(license.owner);
        _requireReceived(escrow.withdraw(_id(id), WALLET), WALLET, due);
        license.balance -= due;
        (license.thawing, license.thawReadyAt) = (0, 0);
        balances -= due;
        flows.refunded += due;
        ++tally.withdrawals;
    }

    function _withdrawTooEarly(uint256 id, bytes memory refusal) private {
        VM.prank(ledger[id - 1].owner);
        try escrow.withdraw(_id(id), WALLET) {
            revert("4: money left before its thaw was over");
        } catch (bytes memory reason) {
            _requireReason(reason, refusal, "4: a withdrawal was refused for no good reason");
        }
    }

    function _addStake(uint256 operator, uint256 amount) internal {
        Pool storage pool = pools[operator];
        address owner = operatorOwners[operator - 1];
        uint256 shares = (amount * (pool.shares + 1_000)) / (pool.stake + 1);
        _mint(owner, amount, address(staking));
        if (pool.shares + shares > type(uint128).max || shares == 0) return;
        VM.prank(owner);
        require(staking.addStake(OperatorId.wrap(uint24(operator)), uint64(amount)) == shares, "6: shares misjudged");
        pool.stake += amount;
        pool.shares += shares;
        pool.shortfall -= pool.shortfall < amount ? pool.shortfall : amount;
        ++tally.landed;
    }

    function _withdrawStake(uint256 operator) internal {
        Pool storage pool = pools[operator];
        uint256 due = _worth(pool, pool.thawingShares);
        if (pool.stake - due < pool.inFlight) {
            bytes4 selector = IPerformanceStaking.StakeBelowInFlight.selector;
            return
                _withdrawStakeTooEarly(
                    operator,
                    abi.encodeWithSelector(selector, operator, pool.stake - due, pool.inFlight)
                );
        }
        _requireProRata(operator, pool.thawingShares);
        VM.prank(operatorOwners[operator - 1]);
        uint256 amount = staking.withdraw(OperatorId.wrap(uint24(operator)), WALLET);
        _requireReceived(amount, WALLET, due);
        pool.stake -= due;
        pool.shares -= pool.thawingShares;
        (pool.thawingShares, pool.thawReadyAt, pool.shortfall) = (0, 0, 0);
        require(
            staking.poolOf(OperatorId.wrap(uint24(operator))).stake >= pool.inFlight,
            "5: stake left that was in flight"
        );
        ++tally.withdrawals;
    }

    function _withdrawStakeTooEarly(uint256 operator, bytes memory refusal) private {
        VM.prank(operatorOwners[operator - 1]);
        try staking.withdraw(OperatorId.wrap(uint24(operator)), WALLET) {
            revert("5: stake left that had to stay");
        } catch (bytes memory reason) {
            _requireReason(reason, refusal, "5: stake was kept for no good reason");
        }
    }

    function _slash(uint256 operator, uint256 amount) internal {
        OperatorId id = OperatorId.wrap(uint24(operator));
        Pool storage pool = pools[operator];
        uint256 due = amount < pool.stake ? amount : pool.stake;
        VM.prank(SLASHER);
        require(staking.slash(id, amount, BENEFICIARY) == due, "6: a slash took more or less than it could");
        pool.stake -= due;
        proceeds[BENEFICIARY] += due;
        pool.shortfall = pool.inFlight > pool.stake ? pool.inFlight - pool.stake : 0;
        _requireSlashed(operator, BENEFICIARY);
        ++tally.landed;
    }

    /// @dev Everybody bore it alike, and its beneficiary has it.
    function _requireSlashed(uint256 operator, address beneficiary) private view {
        Pool storage pool = pools[operator];
        require(staking.proceedsOf(beneficiary) == proceeds[beneficiary], "6: a slash's proceeds went elsewhere");
        _requireProRata(operator, pool.thawingShares);
        _requireProRata(operator, pool.shares - pool.thawingShares);
    }

    /// @dev Shares are worth their part of the stake, give or take two units that rounding and nobody's shares take.
    function _requireProRata(uint256 operator, uint256 shares) internal view {
        Pool memory pool = pools[operator];
        uint256 worth = staking.worthOf(OperatorId.wrap(uint24(operator)), shares);
        uint256 exact = shares * pool.stake;
        uint256 margin = 2 * pool.shares;
        require(worth * pool.shares <= exact + margin, "6: shares are worth more than their part of the stake");
        require(exact <= worth * pool.shares + margin, "6: shares bore more than their part of a slash");
    }

    function _settle(Draft memory draft) internal {
        uint256 operator = OperatorId.unwrap(draft.header.operatorId);
        Forecast memory forecast = _forecast(draft);
        uint256 due = pools[operator].inFlight + forecast.charged;
        // An operator mostly sees to it that its stake covers what it settles, and a slash for it.
        if (forecast.charged > 0 && due > _activeAfter(operator, forecast.jails) && _draw(4) != 0) {
            uint256 missing = due - _activeAfter(operator, forecast.jails);
            _addStake(operator, missing + missing / 50 + _draw(10 * USD) + 1_000);
        }
        uint256 active = _activeAfter(operator, forecast.jails);
        bytes memory refusal;
        // A batch that charges nothing raises nothing.
        if (forecast.charged > 0 && due > active) {
            bytes4 selector = IPerformanceStaking.InFlightAboveActiveStake.selector;
            refusal = abi.encodeWithSelector(selector, operator, due, active);
        }
        _requirePreview(draft, forecast, refusal);

        VM.prank(_anybody());
        try escrow.settle(draft.header, draft.entries, draft.proof) returns (bytes32 id) {
            require(refusal.length == 0, "5: a settlement raised in flight above the active stake");
            require(id == draft.id && !settled[id], "3: a batch settled twice");
            _book(draft, forecast);
        } catch (bytes memory reason) {
            _requireReason(reason, refusal, "3: a batch was refused for no good reason");
        }
    }

    /// @dev The active stake when the pool has been slashed for a third breach, if it is.
    function _activeAfter(uint256 operator, bool jails) private view returns (uint256) {
        Pool memory pool = pools[operator];
        if (jails) pool.stake -= pool.stake / 100;
        return _worth(pool, pool.shares - pool.thawingShares);
    }

    /// @dev A day of bad service; the third of seven costs a hundredth of the pool and seven days in jail, and each jail
    /// is twice as long as the last unless ninety days went by since.
    function _breach(uint256 operator, uint256 plan, uint256 day, bool jails) private {
        Breaches storage record = breaches[operator][plan];
        if (day <= record.punishedThrough) return;
        record.on[day] = true;
        if (day > record.lastDay) record.lastDay = day;
        if (!jails) return;
        record.punishedThrough = record.lastDay;
        Pool storage pool = pools[operator];
        uint256 due = pool.stake / 100;
        pool.stake -= due;
        proceeds[TREASURY] += due;
        pool.shortfall = pool.inFlight > pool.stake ? pool.inFlight - pool.stake : 0;
        if (clock >= pool.jailedUntil + 90 days) pool.jailings = 0;
        pool.jailedUntil = clock + 7 days * 2 ** pool.jailings;
        if (pool.jailings < 8) ++pool.jailings;
        ++tally.jailings;
        _requireSlashed(operator, TREASURY);
    }

    /// @dev What a settled batch leaves in the ledger.
    function _book(Draft memory draft, Forecast memory forecast) private {
        BatchHeader memory header = draft.header;
        uint256 operator = OperatorId.unwrap(header.operatorId);
        uint256 plan = PlanId.unwrap(header.planId);
        for (uint256 i; i < draft.usages.length; ++i) {
            uint256 id = draft.usages[i].licenseId;
            if (id > ledger.length) continue;
            _requireNoOvercharge(ledger[id - 1], forecast.after_[i], plans[plan - 1], forecast.amounts[i]);
            ledger[id - 1] = forecast.after_[i];
            _requireAccount(id);
        }

        if (forecast.discountBps > 0) _breach(operator, plan, header.epochStart / EPOCH, forecast.jails);
        settled[draft.id] = true;
        batches.push(
            Batch({
                id: draft.id,
                header: header,
                entries: draft.entries,
                proof: draft.proof,
                charged: forecast.charged,
                discountBps: forecast.discountBps,
                feeBps: escrow.feeBps(),
                releasableAt: clock + plans[plan - 1].holdPeriod,
                signers: draft.signers,
                earnsBonus: _earnsBonus(operator, plans[plan - 1], header, forecast.discountBps),
                status: BatchStatus.Held
            })
        );
        uint256 version = uint32(VersionId.unwrap(header.versionId));
        lanes[_laneKey(operator, plan, version)] = Lane(
            header.sequence,
            header.epochStart,
            header.epochEnd,
            uint64(draft.usages[draft.usages.length - 1].licenseId)
        );
        _requireLane(operator, plan, version);
        _requireBatch(batches[batches.length - 1]);

        balances -= forecast.charged;
        held += forecast.charged;
        flows.charged += forecast.charged;
        pools[operator].inFlight += forecast.charged;
        ++tally.settlements;
        if (forecast.charged > 0) {
            pools[operator].shortfall = 0;
            uint256 inFlight = staking.poolOf(header.operatorId).inFlight;
            require(inFlight <= staking.activeStakeOf(header.operatorId), "5: in flight is above the active stake");
            ++tally.charges;
        }
        ++tally.landed;
    }

    /// @dev Service that was measured, was as good as a plan promised that it costs something to break, by who isn't in jail.
    function _earnsBonus(
        uint256 operator,
        PlanTerms memory terms,
        BatchHeader memory header,
        uint256 discountBps
    ) private view returns (bool) {
        return
            discountBps == 0 &&
            header.samples >= 20 &&
            Model.hasDiscounts(terms.levels) &&
            clock >= pools[operator].jailedUntil;
    }

    /// @dev The limits themselves, whatever the model made of them.
    function _requireNoOvercharge(
        License memory before,
        License memory after_,
        PlanTerms memory terms,
        uint256 amount
    ) private pure {
        require(amount <= before.balance, "2: a license was charged beyond its balance");
        if (amount == 0) return;
        require(terms.cap == 0 || after_.spent <= terms.cap, "2: a license was charged beyond its plan's cap");
        require(after_.spent <= Model.capOf(after_.capCode), "2: a license was charged beyond its owner's cap");
        require(terms.renewable || after_.term == 0, "2: a license was charged beyond its term");
    }

    /// @dev `previewSettle` says what `settle` will do, entry by entry.
    function _requirePreview(Draft memory draft, Forecast memory forecast, bytes memory refusal) private view {
        try escrow.previewSettle(draft.header, draft.entries) returns (
            uint256 charged,
            uint256 discountBps,
            bytes memory outcomes
        ) {
            require(refusal.length == 0, "5: a preview allowed more in flight than there is stake");
            require(charged == forecast.charged, "2: a batch charges more or less than its entries' prices");
            require(discountBps == forecast.discountBps, "2: a batch's discount isn't what its service earned");
            require(outcomes.length == 8 * forecast.amounts.length, "2: an entry has no outcome");
            for (uint256 i; i < forecast.amounts.length; ++i) {
                uint64 outcome;
                for (uint256 j; j < 8; ++j) outcome = (outcome << 8) | uint8(outcomes[8 * i + j]);
                require(outcome >> 8 == forecast.amounts[i], "2: an entry was charged more or less than its price");
                require(uint8(outcome) == uint8(forecast.statuses[i]), "2: an entry's status isn't what became of it");
            }
        } catch (bytes memory reason) {
            _requireReason(reason, refusal, "2: a preview was refused for no good reason");
        }
    }

    function _release(uint256 i) internal {
        Batch storage batch = batches[i];
        PlanTerms memory terms = plans[PlanId.unwrap(batch.header.planId) - 1];
        uint256 operator = OperatorId.unwrap(batch.header.operatorId);
        Shares memory shares = Model.split(batch.charged, batch.discountBps, batch.feeBps, terms, batch.earnsBonus);
        IUsageEscrow.Split memory split = escrow.splitOf(batch.id);
        require(
            split.operator == shares.operator &&
                split.publisher == shares.publisher &&
                split.attestor == shares.attestor &&
                split.fee == shares.fee &&
                split.bonus == shares.bonus,
            "7: a share isn't its part of the gross"
        );
        require(
            split.operator + split.publisher + split.attestor + split.fee + split.bonus == batch.charged,
            "7: a split doesn't sum to what was split"
        );

        address publisher = assets.ownerOf(1);
        VM.prank(_anybody());
        escrow.release(batch.id);
        batch.status = BatchStatus.Released;
        held -= batch.charged;
        earnings[operatorOwners[operator - 1]] += shares.operator;
        earnings[publisher] += shares.publisher;
        earned += shares.operator + shares.publisher;
        fees += shares.fee;
        uncollected += shares.attestor;
        flows.toOperators += shares.operator;
        flows.toPublishers += shares.publisher;
        flows.toAttestors += shares.attestor;
        flows.toTreasury += shares.fee;
        flows.toPools += shares.bonus;
        Pool storage pool = pools[operator];
        pool.bonus += shares.bonus;
        pool.inFlight -= batch.charged;
        pool.shortfall -= pool.shortfall < batch.charged ? pool.shortfall : batch.charged;
        _requireBatch(batch);
        ++tally.releases;
        ++tally.landed;
    }

    function _releaseTooEarly(uint256 i) private {
        Batch storage batch = batches[i];
        if (_draw(2) == 0) _pass(batch.releasableAt - clock - 1);
        try escrow.release(batch.id) {
            revert("9: a batch was released before its hold was over");
        } catch (bytes memory reason) {
            bytes4 selector = IUsageEscrow.HoldRunning.selector;
            bytes memory refusal = abi.encodeWithSelector(selector, batch.id, batch.releasableAt);
            _requireReason(reason, refusal, "9: a release was refused for no good reason");
        }
    }

    /// @dev In equal parts to those who signed; what doesn't divide goes to the first of them.
    function _collect(uint256 i) internal {
        Batch storage batch = batches[i];
        PlanTerms memory terms = plans[PlanId.unwrap(batch.header.planId) - 1];
        uint256 share = Model.split(batch.charged, batch.discountBps, batch.feeBps, terms, batch.earnsBonus).attestor;
        CommitteeAttestor attestor = CommitteeAttestor(address(terms.attestor));
        VM.prank(_anybody());
        require(attestor.shareIncome(batch.id) == share, "7: an attestor's share isn't its part of the gross");

        uint256 signers = _bitsOf(batch.signers);
        uint256 part = share / signers + (share % signers);
        for (uint256 member; member < 3; ++member) {
            if ((batch.signers >> member) & 1 == 0) continue;
            incomeOf[address(attestor)][attestorPayees[address(attestor) == address(lone) ? 3 : member]] += part;
            part = share / signers;
        }
        batch.status = BatchStatus.Collected;
        uncollected -= share;
        incomes[address(attestor)] += share;
        _requireBatch(batch);
        ++tally.collections;
        ++tally.landed;
    }

    function _withdrawEarnings(address payee) internal {
        VM.prank(payee);
        _requireReceived(escrow.withdrawEarnings(WALLET), WALLET, earnings[payee]);
        earned -= earnings[payee];
        flows.earningsPaid += earnings[payee];
        earnings[payee] = 0;
        ++tally.withdrawals;
    }

    function _withdrawProceeds(address beneficiary) internal {
        VM.prank(beneficiary);
        _requireReceived(staking.withdrawProceeds(WALLET), WALLET, proceeds[beneficiary]);
        proceeds[beneficiary] = 0;
    }

    /// @dev Into the pool, where it is everybody's who backs the operator.
    function _payBonus(uint256 operator) internal {
        Pool storage pool = pools[operator];
        VM.prank(_anybody());
        require(escrow.payBonus(OperatorId.wrap(uint24(operator))) == pool.bonus, "7: a bonus isn't half of the fees");
        pool.stake += pool.bonus;
        pool.shortfall -= pool.shortfall < pool.bonus ? pool.shortfall : pool.bonus;
        flows.bonusesPaid += pool.bonus;
        pool.bonus = 0;
        ++tally.landed;
    }

    function _withdrawIncome(uint256 member) internal {
        CommitteeAttestor attestor = member < 3 ? committee : lone;
        address payee = attestorPayees[member];
        uint256 due = incomeOf[address(attestor)][payee];
        VM.prank(payee);
        _requireReceived(attestor.withdraw(WALLET), WALLET, due);
        incomes[address(attestor)] -= due;
        flows.incomePaid += due;
        incomeOf[address(attestor)][payee] = 0;
        ++tally.withdrawals;
    }

    // Batches

    /// @dev The next batch of some lane: of an epoch that has just ended, or (`part`) of the lane's last one.
    function _draft(bool part) internal returns (Draft memory draft) {
        uint256 operator = _draw(OPERATORS) + 1;
        uint256 plan = _draw(PLANS) + 1;
        uint256 version = _draw(VERSIONS) + 1;
        Lane memory lane = lanes[_laneKey(operator, plan, version)];
        BatchHeader memory header = draft.header;
        uint256 first = 1;
        if (part && lane.sequence > 0 && lane.lastLicense < ledger.length && clock <= lane.epochEnd + WINDOW) {
            first = lane.lastLicense + 1;
            (header.epochStart, header.epochEnd) = (lane.epochStart, lane.epochEnd);
        } else {
            _pass(1 minutes + _draw(4 hours));
            (header.epochStart, header.epochEnd) = _epochAfter(lane.epochEnd);
        }
        header.operatorId = OperatorId.wrap(uint24(operator));
        header.planId = PlanId.wrap(uint32(plan));
        header.versionId = _versionId(version);
        // Numbers that were signed for and never settled stay unused.
        header.sequence = lane.sequence + 1 + uint64(_draw(8) == 0 ? _draw(3) : 0);
        header.root = bytes32(_draw(type(uint256).max));
        header.count = 1;
        _measure(header);
        draft.usages = _usages(first, plan, operator);
        _seal(draft);
    }

    /// @dev Up to a day long, and up to half a day old.
    function _epochAfter(uint256 last) private returns (uint40 start, uint40 end) {
        uint256 endsAt = clock - _draw(_draw(4) == 0 ? 12 hours : 1 minutes);
        if (endsAt <= last) endsAt = clock;
        uint256 startsAt = endsAt - _draw(_draw(4) == 0 ? EPOCH : 6 hours) - 1;
        if (_draw(8) == 0) startsAt = endsAt - EPOCH;
        return (uint40(startsAt < last ? last : startsAt), uint40(endsAt));
    }

    /// @dev Service that is good for half of the batches, and bad in some way for the other half.
    function _measure(BatchHeader memory header) private {
        (header.availabilityBps, header.p95TtftMs, header.samples) = (10_000, 300, 60);
        uint256 kind = _draw(10);
        if (kind == 0) header.availabilityBps = 9_899;
        if (kind == 1) header.availabilityBps = 8_999;
        if (kind == 2) header.p95TtftMs = 801;
        if (kind == 3) header.p95TtftMs = 3_001;
        if (kind == 4) (header.availabilityBps, header.samples) = (0, 19);
        if (kind == 5) (header.availabilityBps, header.p95TtftMs, header.samples) = (9_000, 3_000, 20);
    }

    /// @dev Ascending from `first`: mostly the lane's own licenses, some of others', now and then one never bought.
    function _usages(uint256 first, uint256 plan, uint256 operator) private returns (Usage[] memory usages) {
        uint256 most = _draw(MOST_ENTRIES) + 1;
        usages = new Usage[](most);
        uint256 count;
        for (uint256 id = first; id <= ledger.length && count < most; ++id) {
            bool own = ledger[id - 1].plan == plan && ledger[id - 1].operator == operator;
            if (_draw(8) < (own ? 7 : 1)) usages[count++] = _usage(id);
        }
        if (count == 0 || (count < most && _draw(8) == 0)) {
            usages[count++] = _usage(_draw(4) == 0 ? type(uint64).max : ledger.length + 1 + _draw(1_000));
        }
        assembly ("memory-safe") {
            mstore(usages, count)
        }
    }

    /// @dev Up to about two USD worth; now and then nothing, or as much as an entry can hold.
    function _usage(uint256 id) private returns (Usage memory) {
        uint256 kind = _draw(48);
        uint256 most = type(uint32).max;
        if (kind == 0) return Usage(id, most, most, most, most, most);
        if (kind == 1) return Usage(id, 0, 0, 0, 0, 0);
        return Usage(id, _draw(100), _draw(600_000), _draw(400_000), _draw(300_000), _draw(5_000_000));
    }

    /// @dev Packs the entries, sums them and has enough attestors sign.
    function _seal(Draft memory draft) internal {
        BatchHeader memory header = draft.header;
        _total(draft);
        header.entriesHash = keccak256(draft.entries);
        draft.id = escrow.batchIdOf(header);
        if (PlanId.unwrap(header.planId) == 3) {
            draft.signers = 1;
            draft.proof = _proof(draft.id, 8);
        } else {
            uint48[4] memory quorums = [uint48(3), 5, 6, 7];
            draft.signers = quorums[_draw(4)];
            draft.proof = _proof(draft.id, draft.signers);
        }
    }

    function _total(Draft memory draft) internal pure {
        BatchHeader memory header = draft.header;
        (header.requests, header.inputTokens, header.cachedInputTokens) = (0, 0, 0);
        (header.outputTokens, header.computeMs) = (0, 0);
        draft.entries = "";
        for (uint256 i; i < draft.usages.length; ++i) {
            Usage memory usage = draft.usages[i];
            header.requests += uint64(usage.requests);
            header.inputTokens += uint64(usage.inputTokens);
            header.cachedInputTokens += uint64(usage.cachedInputTokens);
            header.outputTokens += uint64(usage.outputTokens);
            header.computeMs += uint64(usage.computeMs);
            draft.entries = abi.encodePacked(draft.entries, Model.packed(usage));
        }
    }

    /// @dev The proof by the attestors of a bit field, signers ascending by their hash.
    function _proof(bytes32 digest, uint256 mask) internal view returns (bytes memory) {
        uint256[] memory keys = new uint256[](4);
        uint256 count;
        for (uint256 i; i < 4; ++i) {
            if ((mask >> i) & 1 == 0) continue;
            uint256 at = count++;
            for (; at > 0 && _rank(keys[at - 1]) > _rank(attestorKeys[i]); --at) keys[at] = keys[at - 1];
            keys[at] = attestorKeys[i];
        }
        bytes[] memory signers = new bytes[](count);
        bytes[] memory signatures = new bytes[](count);
        for (uint256 i; i < count; ++i) {
            signers[i] = abi.encodePacked(VM.addr(keys[i]));
            (uint8 v, bytes32 r, bytes32 s) = VM.sign(keys[i], digest);
            signatures[i] = abi.encodePacked(r, s, v);
        }
        return abi.encode(signers, signatures);
    }

    function _rank(uint256 key) private pure returns (bytes32) {
        return keccak256(abi.encodePacked(VM.addr(key)));
    }

    function _forecast(Draft memory draft) internal view returns (Forecast memory forecast) {
        BatchHeader memory header = draft.header;
        PlanTerms memory terms = plans[PlanId.unwrap(header.planId) - 1];
        uint256 count = draft.usages.length;
        forecast.discountBps = Model.discountOf(terms.levels, header.availabilityBps, header.p95TtftMs, header.samples);
        forecast.jails =
            forecast.discountBps > 0 &&
            _isThird(
                OperatorId.unwrap(header.operatorId),
                PlanId.unwrap(header.planId),
                uint256(header.epochStart) / EPOCH
            );
        forecast.amounts = new uint256[](count);
        forecast.statuses = new EntryStatus[](count);
        forecast.after_ = new License[](count);
        Claim memory claim = Claim({
            plan: PlanId.unwrap(header.planId),
            operator: OperatorId.unwrap(header.operatorId),
            epochStart: header.epochStart,
            epochEnd: header.epochEnd,
            discountBps: forecast.discountBps
        });
        for (uint256 i; i < count; ++i) {
            License memory license;
            uint256 id = draft.usages[i].licenseId;
            if (id <= ledger.length) license = ledger[id - 1];
            (forecast.after_[i], forecast.amounts[i], forecast.statuses[i]) = Model.charge(
                license,
                terms,
                claim,
                draft.usages[i]
            );
            forecast.charged += forecast.amounts[i];
        }
    }

    // Odds and ends

    function _begin(uint256 seed) private {
        VM.warp(clock);
        _seed = uint256(keccak256(abi.encode(seed, _draws, clock)));
    }

    /// @dev A number below `range`.
    function _draw(uint256 range) internal returns (uint256) {
        return uint256(keccak256(abi.encode(_seed, ++_draws))) % range;
    }

    function _anyLicense() internal returns (uint256) {
        return _draw(ledger.length) + 1;
    }

    function _anybody() internal returns (address) {
        return [licensees[0], licensees[1], licensees[2], OUTSIDER][_draw(4)];
    }

    /// @dev A batch of that status from a random one on, or the number of batches if there is none.
    function _batchThat(BatchStatus status) internal returns (uint256) {
        uint256 count = batches.length;
        uint256 start = count == 0 ? 0 : _draw(count);
        for (uint256 i; i < count; ++i) {
            if (batches[(start + i) % count].status == status) return (start + i) % count;
        }
        return count;
    }

    /// @dev What the deposit ceiling leaves room for, which donations and uncollected income take as well.
    function _room() internal view returns (uint256) {
        uint256 holding = balances + held + uncollected + earned + fees + _bonuses() + donations[address(escrow)];
        uint256 ceiling = escrow.depositCeiling();
        return holding < ceiling ? ceiling - holding : 0;
    }

    /// @dev Mostly what there is room for.
    function _affordable(uint256 amount) internal returns (uint256) {
        uint256 room = _room();
        return amount > room && room > 0 && _draw(6) != 0 ? room : amount;
    }

    function _depositRefusal(uint256 id, uint256 amount) internal view returns (bytes memory refusal) {
        refusal = _pauseRefusal();
        if (refusal.length > 0) return refusal;
        License memory license = ledger[id - 1];
        if (clock >= license.termEndsAt && !plans[license.plan - 1].renewable) {
            bool closed = clock > license.termEndsAt + EPOCH + WINDOW;
            LicenseStatus status = closed ? LicenseStatus.Closed : LicenseStatus.Ended;
            return abi.encodeWithSelector(IUsageEscrow.LicenseStatusUnfit.selector, id, status);
        }
        if (amount > _room()) return _ceilingRefusal();
    }

    function _pauseRefusal() internal view returns (bytes memory) {
        uint256 until = escrow.pausedUntil();
        return clock < until ? abi.encodeWithSelector(IUsageEscrow.DepositsPaused.selector, until) : bytes("");
    }

    function _ceilingRefusal() internal view returns (bytes memory) {
        bytes4 selector = IUsageEscrow.DepositCeilingReached.selector;
        return abi.encodeWithSelector(selector, currency.balanceOf(address(escrow)), escrow.depositCeiling());
    }

    function _permit(uint256 payer, uint256 amount) internal view returns (uint8, bytes32, bytes32) {
        bytes32 typehash = keccak256(
            "Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)"
        );
        uint256 nonce = currency.nonces(licensees[payer]);
        bytes32 structHash = keccak256(
            abi.encode(typehash, licensees[payer], address(escrow), amount, nonce, type(uint256).max)
        );
        bytes32 digest = keccak256(abi.encodePacked("\x19\x01", currency.DOMAIN_SEPARATOR(), structHash));
        return VM.sign(licenseeKeys[payer], digest);
    }

    /// @dev Who withdrew got what the ledger says, where it said, and no more.
    function _requireReceived(uint256 amount, address at, uint256 due) internal {
        require(amount == due, "7: somebody was paid more or less than was due");
        require(currency.balanceOf(at) == due, "7: money was sent elsewhere");
        VM.prank(at);
        currency.transfer(DONOR, due);
        ++tally.landed;
    }

    /// @dev A call was refused as it had to be: `refusal` is empty where it had to land.
    function _requireReason(bytes memory reason, bytes memory refusal, string memory rule) internal pure {
        require(refusal.length > 0 && keccak256(reason) == keccak256(refusal), rule);
    }

    function _id(uint256 id) internal pure returns (LicenseId) {
        return LicenseId.wrap(uint64(id));
    }

    function _bitsOf(uint48 mask) private pure returns (uint256 count) {
        for (; mask > 0; mask >>= 1) count += mask & 1;
    }
}
