// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {ILicenseRegistry, PlanTerms} from "../../contracts/interfaces/ILicenseRegistry.sol";
import {IUsageEscrow} from "../../contracts/interfaces/IUsageEscrow.sol";
import {OperatorId, PlanId} from "../../contracts/types/Ids.sol";
import {Buyers} from "./Buyers.sol";
import {Count} from "./Ledger.sol";
import {License, Model, Term} from "./Model.sol";
import {Machine, Verb} from "./Statuses.sol";

/// @title Licenses: capped, changed, sold, renewed, ended, emptied
abstract contract Licensees is Buyers {
    // A licensee's own

    function setCap(uint256 seed) external attempt(seed) {
        uint256 id = _anyLicense();
        uint8 code = _draw(3) == 0 ? 0 : uint8(_draw(2) == 0 ? _draw(256) : _draw(24));
        require(escrow.capOf(code) == Model.capOf(code), "2: a code stands for another cap");
        _setCap(id, code);
    }

    /// @dev By anybody, the second after its wait at the soonest.
    function applyCapCut(uint256 seed) external attempt(seed) {
        uint256 id = _licenseThat(_hasCapCut);
        if (!_hasCapCut(id) && _draw(4) != 0) return _setCap(id, 1);
        uint256 readyAt = ledger[id - 1].capCutReadyAt;
        if (readyAt >= clock) {
            if (_draw(2) == 0) _pass(readyAt - clock);
            _applyCapCut(id);
            _pass(readyAt + 1 - clock);
        }
        _applyCapCut(id);
    }

    function raiseGeneration(uint256 seed) external attempt(seed) {
        uint256 id = _anyLicense();
        bytes memory call = abi.encodeCall(escrow.raiseGeneration, (_id(id)));
        Refusals memory none;
        bytes memory result = _doTo(id, Verb.Nothing, ledger[id - 1].owner, call, none, "10: a generation");
        // Nothing that an owner does lets use count longer than until a stop.
        uint256 stoppedAt = ledger[id - 1].stoppedAt;
        _endGeneration(id, stoppedAt == 0 ? clock : _min(stoppedAt, clock));
        require(abi.decode(result, (uint256)) == ledger[id - 1].generation, "10: a generation didn't rise by one");
    }

    function changeService(uint256 seed) external attempt(seed) {
        uint256 id = _licenseThat(_isInUse);
        bool onVoucherRoad = ledger[id - 1].onVoucherRoad ? _draw(4) != 0 : _draw(2) == 0;
        _changeService(id, _anyOperator(), onVoucherRoad);
    }

    /// @dev By anybody, the second after its wait at the soonest.
    function applyServiceChange(uint256 seed) external attempt(seed) {
        uint256 id = _licenseThat(_hasServiceChange);
        if (!_hasServiceChange(id) && _draw(8) != 0) {
            id = _licenseThat(_isInUse);
            return _changeService(id, 3 - ledger[id - 1].operator, false);
        }
        uint256 readyAt = ledger[id - 1].serviceReadyAt;
        if (readyAt >= clock) {
            if (_draw(2) == 0) _pass(readyAt - clock);
            _applyServiceChange(id);
            _pass(readyAt + 1 - clock);
        }
        _applyServiceChange(id);
    }

    /// @dev Mostly to a plan that it can go over to; now and then it is taken back.
    function changePlan(uint256 seed) external attempt(seed) {
        uint256 id = _licenseThat(_isInUse);
        License storage license = ledger[id - 1];
        if (license.nextPlan != 0 && _draw(2) == 0) return _changePlan(id, license.plan);
        uint256 plan = _anyPlan();
        for (uint256 i; i < 6 && !_canFollow(license.plan, plan); ++i) plan = _anyPlan();
        _changePlan(id, plan);
    }

    function setRenewal(uint256 seed) external attempt(seed) {
        uint256 id = _licenseThat(_hasMinimum);
        if (!_hasMinimum(id) && _draw(4) != 0) return _settle(_draft(false));
        _setRenewal(id, _draw(3) != 0);
    }

    function lock(uint256 seed) external attempt(seed) {
        _lockOne(_draw(4) != 0);
    }

    function unlock(uint256 seed) external attempt(seed) {
        uint256 id = _licenseThat(_isLocked);
        if (!_isLocked(id) && _draw(4) != 0) return _lockOne(true);
        _unlock(id);
    }

    /// @dev To another licensee, mostly as soon as it may be.
    function sell(uint256 seed) external attempt(seed) {
        uint256 id = _licenseThat(_isLocked);
        if (!_isLocked(id) && _draw(8) != 0) return _lockOne(true);
        // Who bought it mostly means to use it.
        if (ledger[id - 1].movableAt == 0 && _draw(4) != 0) return _unlock(id);
        uint256 movableAt = ledger[id - 1].movableAt;
        if (movableAt >= clock) {
            if (_draw(2) == 0) _pass(movableAt - clock);
            _sell(id, licensees[_draw(licensees.length)]);
            if (_draw(4) != 0) _pass(movableAt + 1 - clock);
        }
        _sell(id, licensees[_draw(licensees.length)]);
    }

    /// @dev Mostly those that stand in the way of new ones.
    function end(uint256 seed) external attempt(seed) {
        if (_isCrowded()) return _end(_licenseThat(_isInUse));
        _buy(_anyPlan(), _anyOperator(), _draw(licensees.length), _draw(60 * USD));
    }

    function thaw(uint256 seed) external attempt(seed) {
        uint256 id = _anyLicense();
        License storage license = ledger[id - 1];
        uint256 amount = _draw(3) == 0 ? license.balance : _draw(license.balance + 1);
        if (_draw(16) == 0) ++amount;
        _thaw(id, amount);
    }

    /// @dev A thaw that is ready is paid whatever else goes on; one that isn't is paid the second after it is.
    function withdraw(uint256 seed) external attempt(seed) {
        uint256 id = _licenseThat(_isThawing);
        if (!_isThawing(id) && _draw(4) != 0) return _thaw(_licenseThat(_isRich), USD);
        uint256 readyAt = ledger[id - 1].thawReadyAt;
        if (readyAt >= clock) {
            if (_draw(4) == 0) _pass(readyAt - clock);
            if (_draw(2) == 0) _withdraw(id);
            _pass(readyAt + 1 - clock);
        }
        _withdraw(id);
    }

    /// @dev What is neither spent nor committed comes back within one thaw, whatever others do about it meanwhile.
    function leave(uint256 seed) external attempt(seed) {
        uint256 id = live.length < MOST_LICENSES ? _licenseThat(_isRich) : _licenseThat(_isLeft);
        License storage license = ledger[id - 1];
        if (_isIn(id, LOCKED)) _unlock(id);
        uint256 free = license.balance - _min(_committed(id), license.balance);
        _thaw(id, license.balance);
        if (_draw(3) == 0) _pass(WAIT / 2);
        if (_draw(2) == 0) _renew(id, OUTSIDER);
        if (_draw(2) == 0) _closeTerm(id);
        _pass(license.thawReadyAt + 1 - clock);
        if (_draw(2) == 0) _renew(id, OUTSIDER);
        if (_draw(2) == 0) _closeTerm(id);
        uint256 before = license.balance;
        _withdraw(id);
        require(before - license.balance >= free, "4: money that was free didn't come back within one thaw");
    }

    // Terms

    /// @dev By anybody in time, by its owner also later; funded for it, mostly.
    function renew(uint256 seed) external attempt(seed) {
        uint256 id = _licenseThat(_isRenewable);
        if (!_isRenewable(id) && _draw(8) != 0) return _settle(_draft(false));
        License storage license = ledger[id - 1];
        uint256 endsAt = license.nextPlan == 0 ? license.term.endsAt : license.stoppedAt;
        if (clock < endsAt && _draw(8) != 0) _pass(endsAt - clock + (_draw(2) == 0 ? 0 : _draw(2 * EPOCH)));
        if (clock < endsAt + EPOCH && _draw(8) == 0) _pass(endsAt + EPOCH - clock);
        uint256 minimum = plans[(license.nextPlan == 0 ? license.plan : license.nextPlan) - 1].minimumSpend;
        uint256 taken = license.thawing + _committed(id) + minimum;
        if (taken > license.balance && _draw(4) != 0) _deposit(id, taken - license.balance);
        _renew(id, _draw(clock > endsAt + EPOCH ? 6 : 2) != 0 ? license.owner : _anybody());
    }

    /// @dev By anybody, the second after nothing can settle any more at the soonest.
    function closeTerm(uint256 seed) external attempt(seed) {
        uint256 id = _licenseThat(_isClosable);
        if (!_isClosable(id) && _draw(4) != 0) return _settle(_draft(false));
        uint256 closableAt = Model.closableAt(ledger[id - 1]);
        bool isSoon = closableAt >= clock && closableAt < clock + 2 * WAIT && _hasMinimum(id);
        if (isSoon) {
            if (_draw(2) == 0) _pass(closableAt - clock);
            _closeTerm(id);
            _pass(closableAt + 1 - clock);
        }
        _closeTerm(id);
    }

    // What the acts above are made of

    /// @dev A higher cap is in force at once; a lower one is announced.
    function _setCap(uint256 id, uint8 code) internal {
        License storage license = ledger[id - 1];
        Refusals memory none;
        _doTo(id, Verb.Nothing, license.owner, abi.encodeCall(escrow.setCap, (_id(id), code)), none, "2: a cap");
        if (Model.capOf(code) < Model.capOf(license.capCode)) {
            (license.capCutCode, license.capCutReadyAt) = (code, clock + WAIT);
        } else {
            (license.capCode, license.capCutCode, license.capCutReadyAt) = (code, 0, 0);
        }
    }

    function _applyCapCut(uint256 id) internal {
        License storage license = ledger[id - 1];
        Refusals memory refusals;
        _unless(refusals, license.capCutCode > 0, abi.encodeWithSelector(IUsageEscrow.CapCutNone.selector, id));
        _unless(
            refusals,
            clock > license.capCutReadyAt,
            abi.encodeWithSelector(IUsageEscrow.CapCutRunning.selector, id, license.capCutReadyAt)
        );
        bytes memory call = abi.encodeCall(escrow.applyCapCut, (_id(id)));
        _doTo(id, Verb.Nothing, _anybody(), call, refusals, "2: a lower cap");
        if (refusals.count > 0) return;
        (license.capCode, license.capCutCode, license.capCutReadyAt) = (license.capCutCode, 0, 0);
    }

    /// @dev Naming what is takes back what was announced.
    function _changeService(uint256 id, uint256 operator, bool onVoucherRoad) internal {
        License storage license = ledger[id - 1];
        Refusals memory refusals;
        _unlessIn(refusals, id, IN_USE);
        if (operator != license.operator) _unlessEligible(refusals, operator, license.plan);
        bytes memory call = abi.encodeCall(
            escrow.changeService,
            (_id(id), OperatorId.wrap(uint24(operator)), onVoucherRoad)
        );
        _doTo(id, Verb.Nothing, license.owner, call, refusals, "2: a change of operator");
        if (refusals.count > 0) return;
        bool isNew = operator != license.operator || onVoucherRoad != license.onVoucherRoad;
        _announceService(license, isNew ? operator : 0, isNew && onVoucherRoad, isNew ? clock + WAIT : 0);
    }

    function _applyServiceChange(uint256 id) internal {
        License storage license = ledger[id - 1];
        Refusals memory refusals;
        _unless(
            refusals,
            license.serviceReadyAt > 0,
            abi.encodeWithSelector(IUsageEscrow.ServiceChangeNone.selector, id)
        );
        _unless(
            refusals,
            clock > license.serviceReadyAt,
            abi.encodeWithSelector(IUsageEscrow.ServiceChangeRunning.selector, id, license.serviceReadyAt)
        );
        bool isNew = license.serviceReadyAt > 0 && license.nextOperator != license.operator;
        if (isNew) _unlessEligible(refusals, license.nextOperator, license.plan);
        bytes memory call = abi.encodeCall(escrow.applyServiceChange, (_id(id)));
        _doTo(id, Verb.Nothing, _anybody(), call, refusals, "2: another operator");
        if (refusals.count > 0) return;
        (license.operator, license.onVoucherRoad) = (license.nextOperator, license.nextOnVoucherRoad);
        _announceService(license, 0, false, 0);
    }

    function _announceService(License storage license, uint256 operator, bool onVoucherRoad, uint256 readyAt) private {
        (license.nextOperator, license.nextOnVoucherRoad) = (operator, onVoucherRoad);
        license.serviceReadyAt = readyAt;
    }

    /// @dev For the end of the term that runs by time. Naming the present plan takes it back.
    function _changePlan(uint256 id, uint256 plan) internal {
        License storage license = ledger[id - 1];
        bool isChanging = license.nextPlan != 0;
        bool isBack = plan == license.plan;
        Refusals memory refusals;
        _unlessIn(refusals, id, IN_USE);
        if (isBack) {
            _unless(refusals, isChanging, abi.encodeWithSelector(IUsageEscrow.PlanChangeNone.selector, id));
        } else {
            _unlessSuccessor(refusals, id, plan);
        }
        bytes memory call = abi.encodeCall(escrow.changePlan, (_id(id), PlanId.wrap(uint32(plan))));
        _doTo(id, isBack ? Verb.ChangePlan : Verb.Nothing, license.owner, call, refusals, "2: a change of plan");
        if (refusals.count > 0) return;
        // A change that is due stays due.
        bool isDue = isChanging && clock >= license.stoppedAt;
        if (isBack) (license.nextPlan, license.stoppedAt) = (0, 0);
        else (license.nextPlan, license.stoppedAt) = (plan, isDue ? license.stoppedAt : _termEnd(id));
        _requireAccount(id);
    }

    /// @dev Of the same asset, at no price at its door, with terms as long as use may still settle, served, and on sale.
    function _unlessSuccessor(Refusals memory refusals, uint256 id, uint256 plan) private view {
        License storage license = ledger[id - 1];
        PlanTerms memory present = plans[license.plan - 1];
        PlanTerms memory next = plans[plan - 1];
        bytes4 selector = IUsageEscrow.PlanOfAnotherAsset.selector;
        bool isSame = _assetOf(plan) == _assetOf(license.plan);
        _unless(refusals, isSame, abi.encodeWithSelector(selector, plan, _assetOf(plan)));
        selector = IUsageEscrow.PlanHasUpfrontPrice.selector;
        _unless(refusals, next.upfrontPrice == 0, abi.encodeWithSelector(selector, plan, next.upfrontPrice));
        selector = IUsageEscrow.TermTooShort.selector;
        _unless(refusals, present.termPeriod >= WAIT, abi.encodeWithSelector(selector, present.termPeriod, WAIT));
        _unless(refusals, next.termPeriod >= WAIT, abi.encodeWithSelector(selector, next.termPeriod, WAIT));
        _unlessServed(refusals, license.operator, plan);
        _unlessSold(refusals, plan, license.owner);
    }

    /// @dev The end of the term that runs by time; of a license that renews itself, an hour from now at the soonest.
    function _termEnd(uint256 id) private view returns (uint256 endsAt) {
        License storage license = ledger[id - 1];
        PlanTerms memory terms = plans[license.plan - 1];
        endsAt = license.term.endsAt;
        if (!Model.renewsItself(terms)) return endsAt;
        while (endsAt <= clock + Model.GRACE) endsAt += terms.termPeriod;
    }

    function _setRenewal(uint256 id, bool renews) internal {
        License storage license = ledger[id - 1];
        Refusals memory refusals;
        _unlessIn(refusals, id, IN_USE | LOCKED);
        _unlessMinimum(refusals, id);
        bytes memory call = abi.encodeCall(escrow.setRenewal, (_id(id), renews));
        _doTo(id, Verb.SetRenewal, license.owner, call, refusals, "4: a choice to renew");
        if (refusals.count == 0) license.renews = renews;
    }

    /// @dev A thaw that is open is taken back first, if it shall be.
    function _lockOne(bool takesBack) private {
        uint256 id = _licenseThat(_isLockable);
        if (takesBack && ledger[id - 1].thawing > 0) _thaw(id, 0);
        _lock(id);
    }

    function _lock(uint256 id) internal {
        License storage license = ledger[id - 1];
        Refusals memory refusals;
        _unlessIn(refusals, id, IN_USE);
        _unless(
            refusals,
            plans[license.plan - 1].transferable,
            abi.encodeWithSelector(IUsageEscrow.LicenseNotTransferable.selector, id)
        );
        _unless(
            refusals,
            license.thawing == 0,
            abi.encodeWithSelector(IUsageEscrow.ThawOpen.selector, id, license.thawing)
        );
        _doTo(id, Verb.Lock, license.owner, abi.encodeCall(escrow.lock, (_id(id))), refusals, "4: a lock");
        if (refusals.count > 0) return;
        _stop(license);
        license.movableAt = clock + Model.GRACE + WAIT;
        _announceService(license, 0, false, 0);
    }

    function _unlock(uint256 id) internal {
        License storage license = ledger[id - 1];
        Refusals memory refusals;
        _unlessIn(refusals, id, LOCKED);
        _doTo(id, Verb.Unlock, license.owner, abi.encodeCall(escrow.unlock, (_id(id))), refusals, "4: an unlocking");
        if (refusals.count == 0) _bookUnlock(id);
    }

    /// @dev Who bought it is rid of all that the seller signed.
    function _bookUnlock(uint256 id) internal {
        License storage license = ledger[id - 1];
        if (license.movableAt == 0) _endGeneration(id, license.stoppedAt);
        (license.stoppedAt, license.movableAt) = (0, 0);
    }

    /// @dev What was signed in it until `time` counts for a wait more.
    function _endGeneration(uint256 id, uint256 time) private {
        generationEnds[id][ledger[id - 1].generation++] = time + WAIT;
    }

    /// @dev A transfer needs a lock whose wait is over, and uses it up.
    function _sell(uint256 id, address to) internal {
        License storage license = ledger[id - 1];
        Refusals memory refusals;
        _unless(
            refusals,
            license.movableAt > 0 && clock > license.movableAt,
            abi.encodeWithSelector(ILicenseRegistry.LicenseNotMovable.selector, id, license.movableAt)
        );
        bytes memory call = abi.encodeCall(licenses.transferFrom, (license.owner, to, id));
        _watch(Machine.License, id);
        _do(license.owner, address(licenses), call, refusals, "4: a sale");
        if (refusals.count > 0) return;
        _see(Machine.License, id, Verb.Transfer);
        (license.owner, license.movableAt) = (to, 0);
        _noteMove(address(licenses), id);
        _count(Count.Sales);
    }

    function _end(uint256 id) internal {
        License storage license = ledger[id - 1];
        Refusals memory refusals;
        _unlessIn(refusals, id, IN_USE);
        _doTo(id, Verb.End, license.owner, abi.encodeCall(escrow.end, (_id(id))), refusals, "4: an end");
        if (refusals.count > 0) return;
        _stop(license);
        license.ended = true;
    }

    /// @dev What was to go over to another plan by now has stopped already.
    function _stop(License storage license) private {
        uint256 at = clock + Model.GRACE;
        license.stoppedAt = license.nextPlan == 0 ? at : _min(at, license.stoppedAt);
        license.nextPlan = 0;
    }

    function _thaw(uint256 id, uint256 amount) internal {
        License storage license = ledger[id - 1];
        Refusals memory refusals;
        _unlessIn(refusals, id, IN_USE | OVER);
        _unless(
            refusals,
            amount <= license.balance,
            abi.encodeWithSelector(IUsageEscrow.ThawAboveBalance.selector, id, amount, license.balance)
        );
        bytes memory call = abi.encodeCall(escrow.thaw, (_id(id), uint64(amount)));
        _doTo(id, Verb.Nothing, license.owner, call, refusals, "4: a thaw");
        if (refusals.count > 0) return;
        (license.thawing, license.thawReadyAt) = (amount, clock + WAIT);
        license.promised = _min(amount, license.balance - _min(_committed(id), license.balance));
    }

    /// @dev What has thawed and isn't committed; the rest of it stays ready, as far as there is a balance for it.
    function _withdraw(uint256 id) internal {
        License storage license = ledger[id - 1];
        uint256 committed = _committed(id);
        uint256 due = _min(license.thawing, license.balance - _min(committed, license.balance));
        Refusals memory refusals;
        _unless(refusals, license.thawing > 0, abi.encodeWithSelector(IUsageEscrow.ThawEmpty.selector, id));
        _unless(
            refusals,
            clock > license.thawReadyAt,
            abi.encodeWithSelector(IUsageEscrow.ThawRunning.selector, id, license.thawReadyAt)
        );
        _unless(
            refusals,
            due > 0 || license.balance == 0,
            abi.encodeWithSelector(IUsageEscrow.ThawCommitted.selector, id, license.balance, committed)
        );
        require(due >= license.promised, "4: what was free when it was announced was taken for something else");
        bytes memory call = abi.encodeCall(escrow.withdraw, (_id(id), WALLET));
        bytes memory result = _doTo(id, Verb.Nothing, license.owner, call, refusals, "4: a withdrawal");
        if (refusals.count > 0) return;
        _requireReceived(abi.decode(result, (uint256)), WALLET, due);
        license.balance -= due;
        license.thawing = _min(license.thawing - due, license.balance);
        if (license.thawing == 0) license.thawReadyAt = 0;
        license.promised = 0;
        balances -= due;
        flows.refunded += due;
    }

    /// @dev In time it goes on where the term ended; later it starts anew, and only for its owner. A term that still waits
    /// beside it is closed first. Where another plan was announced, the next term is under that one.
    function _renew(uint256 id, address sender) internal {
        License storage license = ledger[id - 1];
        PlanTerms memory next = plans[(license.nextPlan == 0 ? license.plan : license.nextPlan) - 1];
        Term memory last = _lastTerm(id);
        uint256 start = clock <= last.endsAt + EPOCH ? last.endsAt : clock;
        uint256 due = _min(_missingEarlier(id), license.balance);
        Refusals memory refusals = _renewalRefusals(id, sender, last, due);
        if (license.nextPlan != 0) _watch(Machine.Plan, license.nextPlan);
        _doTo(id, Verb.Renew, sender, abi.encodeCall(escrow.renew, (_id(id))), refusals, "4: a renewal");
        if (refusals.count > 0) return;
        if (license.earlier.open) _bookClosing(id, due);
        if (last.open) (license.earlier, license.earlierPlan) = (last, license.nextPlan == 0 ? 0 : license.plan);
        if (license.nextPlan != 0) _goOver(license);
        license.term = Model.nextTerm(last, next, start);
        _requireAccount(id);
        // A term without a minimum takes nothing.
        bool isKept = next.minimumSpend == 0 || _committed(id) + license.thawing <= license.balance;
        require(isKept, "4: a renewal took what is on its way out");
        _count(Count.Renewals);
    }

    /// @dev A renewal is everybody's in time, unless a recall takes effect in either term, and its owner's at any time.
    function _renewalRefusals(
        uint256 id,
        address sender,
        Term memory last,
        uint256 due
    ) private view returns (Refusals memory refusals) {
        License storage license = ledger[id - 1];
        PlanTerms memory next = plans[(license.nextPlan == 0 ? license.plan : license.nextPlan) - 1];
        bool isForAll =
            clock <= last.endsAt + EPOCH && !_isRecalled(license.plan, last.startedAt, last.endsAt + next.termPeriod);
        _unlessIn(refusals, id, LAPSED);
        _unless(
            refusals,
            isForAll || sender == license.owner,
            abi.encodeWithSelector(IUsageEscrow.RenewalForOwner.selector, id)
        );
        if (license.earlier.open) _unlessClosable(refusals, id);
        uint256 minimum = plans[license.plan - 1].minimumSpend;
        uint256 taken = due + license.thawing + Model.missing(last, minimum, _recallsOf(license.plan));
        _unlessCovered(refusals, license.balance - _min(taken, license.balance), next.minimumSpend);
        if (license.nextPlan == 0) return refusals;
        _unlessServed(refusals, license.operator, license.nextPlan);
        _unlessSold(refusals, license.nextPlan, license.owner);
    }

    /// @dev The last term under the present plan: of one that renews itself, maybe one that the account doesn't know of yet.
    function _lastTerm(uint256 id) private view returns (Term memory term) {
        License storage license = ledger[id - 1];
        term = license.term;
        if (license.nextPlan == 0) return term;
        PlanTerms memory terms = plans[license.plan - 1];
        while (term.endsAt < license.stoppedAt) term = Model.nextTerm(term, terms, term.endsAt);
    }

    function _missingEarlier(uint256 id) private view returns (uint256) {
        License storage license = ledger[id - 1];
        return Model.missing(license.earlier, _earlierMinimum(id), _recallsOf(license.plan));
    }

    function _goOver(License storage license) private {
        ++sales[license.nextPlan].sold;
        _see(Machine.Plan, license.nextPlan, Verb.Buy);
        (license.plan, license.nextPlan, license.stoppedAt) = (license.nextPlan, 0, 0);
        _count(Count.PlanChanges);
    }

    /// @dev What is missing to the minimum, as far as the balance goes, is the publisher's, less the protocol's fee.
    function _closeTerm(uint256 id) internal {
        License storage license = ledger[id - 1];
        uint256 minimum = plans[license.plan - 1].minimumSpend;
        bool isEarlier = license.earlier.open;
        Refusals memory refusals;
        _unless(refusals, minimum > 0 || isEarlier, abi.encodeWithSelector(IUsageEscrow.MinimumNone.selector, id));
        _unless(
            refusals,
            isEarlier || license.term.open,
            abi.encodeWithSelector(IUsageEscrow.TermClosedBefore.selector, id)
        );
        _unlessClosable(refusals, id);
        uint256 due = isEarlier ? _missingEarlier(id) : Model.missing(license.term, minimum, _recallsOf(license.plan));
        due = _min(due, license.balance);
        bytes memory call = abi.encodeCall(escrow.closeTerm, (_id(id)));
        bytes memory result = _doTo(id, Verb.CloseTerm, _anybody(), call, refusals, "2: a closing");
        if (refusals.count > 0) return;
        require(abi.decode(result, (uint256)) == due, "2: a closing charged more or less than the minimum's rest");
        _bookClosing(id, due);
    }

    /// @dev Of the oldest term that is open.
    function _bookClosing(uint256 id, uint256 due) private {
        License storage license = ledger[id - 1];
        license.balance -= due;
        balances -= due;
        flows.closed += due;
        _payPublisher(license.plan, due, escrow.feeBps());
        if (license.earlier.open) (license.earlier, license.earlierPlan) = (_noTerm(), 0);
        else license.term.open = false;
        _count(Count.Closings);
    }

    // What they are refused for

    function _unlessClosable(Refusals memory refusals, uint256 id) private view {
        uint256 closableAt = Model.closableAt(ledger[id - 1]);
        _unless(refusals, clock > closableAt, abi.encodeWithSelector(IUsageEscrow.TermOpen.selector, id, closableAt));
    }

    function _unlessMinimum(Refusals memory refusals, uint256 id) private view {
        _unless(refusals, _hasMinimum(id), abi.encodeWithSelector(IUsageEscrow.MinimumNone.selector, id));
    }

    // What they look for

    function _isInUse(uint256 id) internal view returns (bool) {
        return _isIn(id, IN_USE);
    }

    function _isLocked(uint256 id) internal view returns (bool) {
        return _isIn(id, LOCKED);
    }

    function _isLockable(uint256 id) internal view returns (bool) {
        return plans[ledger[id - 1].plan - 1].transferable && _isInUse(id);
    }

    function _isRich(uint256 id) internal view returns (bool) {
        return ledger[id - 1].balance > _committed(id);
    }

    function _isLeft(uint256 id) internal view returns (bool) {
        return _isIn(id, OVER) && _isRich(id);
    }

    function _isThawing(uint256 id) internal view returns (bool) {
        return ledger[id - 1].thawing > 0;
    }

    function _hasCapCut(uint256 id) internal view returns (bool) {
        return ledger[id - 1].capCutCode > 0;
    }

    function _hasServiceChange(uint256 id) internal view returns (bool) {
        return ledger[id - 1].serviceReadyAt > 0;
    }

    function _hasMinimum(uint256 id) internal view returns (bool) {
        return plans[ledger[id - 1].plan - 1].minimumSpend > 0;
    }

    function _canFollow(uint256 plan, uint256 next) private view returns (bool) {
        PlanTerms storage terms = plans[next - 1];
        bool isLong = terms.termPeriod >= WAIT && plans[plan - 1].termPeriod >= WAIT;
        return plan != next && isLong && _assetOf(plan) == _assetOf(next) && terms.upfrontPrice == 0;
    }

    function _noTerm() private pure returns (Term memory term) {}

    function _isRenewable(uint256 id) internal view returns (bool) {
        License storage license = ledger[id - 1];
        bool renews = license.nextPlan != 0 || (_hasMinimum(id) && plans[license.plan - 1].renewable);
        return renews && license.renews && _isInUse(id);
    }

    function _isClosable(uint256 id) internal view returns (bool) {
        License storage license = ledger[id - 1];
        bool isOpen = license.earlier.open || license.term.open;
        bool isOwed = _hasMinimum(id) || license.earlier.open;
        return isOwed && isOpen && Model.closableAt(license) < clock + WAIT;
    }
}
