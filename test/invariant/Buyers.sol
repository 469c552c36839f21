// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {ILicenseRegistry, PlanStatus, PlanTerms} from "../../contracts/interfaces/ILicenseRegistry.sol";
import {Authorization, IUsageEscrow, LicenseStatus, Purchase} from "../../contracts/interfaces/IUsageEscrow.sol";
import {TestCurrency} from "../../contracts/mocks/TestCurrency.sol";
import {OperatorId, PlanId} from "../../contracts/types/Ids.sol";
import {License, Model} from "./Model.sol";
import {Reporters} from "./Reporters.sol";
import {Machine, Verb} from "./Statuses.sol";
import {VM} from "./Vm.sol";

/// @title Licenses bought and funded: by an allowance, by a permit, and by a payment that its payer signed and anybody brings
abstract contract Buyers is Reporters {
    uint256 internal constant MOST_LICENSES = 12;
    uint256 internal constant MOST_IN_USE = 8;

    // Sets of statuses, a bit each.
    uint256 internal constant RUNNING = 1 << uint8(LicenseStatus.Running);
    uint256 internal constant LAPSED = 1 << uint8(LicenseStatus.Lapsed);
    uint256 internal constant LOCKED = (1 << uint8(LicenseStatus.Locked)) | (1 << uint8(LicenseStatus.Movable));
    uint256 internal constant OVER = (1 << uint8(LicenseStatus.Ended)) | (1 << uint8(LicenseStatus.Closed));
    uint256 internal constant IN_USE = RUNNING | LAPSED;

    /// @dev How somebody pays, and who.
    enum Road {
        Allowance,
        Permit,
        Authorization
    }

    struct Payment {
        Road road;
        address payer;
        /// Of the payer's key, if it signs.
        uint256 key;
        /// Until when a signature counts.
        uint256 deadline;
        /// What a permit allows.
        uint256 allowed;
    }

    /// @dev A payment that somebody signed, and that was taken: for a license that is there, or (none) for a purchase.
    struct SignedPayment {
        uint256 licenseId;
        uint256 amount;
        Purchase purchase;
        Authorization authorization;
        bytes32 nonce;
        bytes call;
    }

    /// @dev For who tries them again.
    SignedPayment[] internal payments;

    function buy(uint256 seed) external attempt(seed) {
        if (_isCrowded()) return _deposit(_licenseThat(_isNotOver), _draw(40 * USD) + 1);
        _buy(_anyPlan(), _anyOperator(), _draw(licensees.length), _draw(60 * USD));
    }

    function deposit(uint256 seed) external attempt(seed) {
        _deposit(_licenseThat(_isNotOver), _draw(60 * USD) + 1);
    }

    /// @dev To the publisher after the hold, by anybody; into the account as soon as a version was recalled.
    function releaseUpfront(uint256 seed) external attempt(seed) {
        uint256 id = _licenseThat(_hasUpfront);
        if (!_hasUpfront(id) && _draw(8) != 0) return _settle(_draft(false));
        License storage license = ledger[id - 1];
        uint256 releasableAt = license.upfrontReleasableAt;
        if (clock < releasableAt && !_isUpfrontReturned(id) && _draw(3) != 0) {
            _pass(releasableAt - clock - 1);
            _releaseUpfront(id);
            _pass(1);
        }
        _releaseUpfront(id);
    }

    // What the acts above are made of

    function _buy(uint256 plan, uint256 operator, uint256 owner, uint256 amount) internal {
        PlanTerms memory terms = plans[plan - 1];
        amount = _affordablePurchase(terms, amount);
        uint256 price = amount + terms.upfrontPrice;
        uint8 code = _draw(2) == 0 ? 0 : uint8(_draw(24));
        // A private plan is mostly bought by whom it is for.
        address to = buyerOf[plan] == address(0) || _draw(4) == 0 ? licensees[owner] : buyerOf[plan];
        Purchase memory purchase = _purchase(PlanId.wrap(uint32(plan)), operator, to, code, amount);
        if (_draw(4) == 0) purchase.maxPrice = uint64(price > 0 && _draw(4) == 0 ? price - 1 : price + _draw(USD));
        else purchase.maxPrice = uint64(price);
        purchase.deadline = uint40(_draw(16) == 0 ? clock - 1 : clock + _draw(1 days));
        Payment memory payment = _payment(price, purchase.maxPrice, purchase.deadline, buyerOf[plan]);
        Refusals memory refusals = _purchaseRefusals(purchase, terms, payment.payer);
        _watch(Machine.Plan, plan);
        bytes memory result = _do(
            payment.road == Road.Authorization ? _anybody() : payment.payer,
            address(escrow),
            _purchaseCall(purchase, payment, price, refusals),
            refusals,
            "2: a purchase"
        );
        if (refusals.count > 0) return;
        _see(Machine.Plan, plan, Verb.Buy);
        _bookPurchase(purchase, terms, abi.decode(result, (uint256)));
    }

    function _deposit(uint256 id, uint256 amount) internal {
        amount = _affordable(amount);
        Payment memory payment = _payment(amount, amount, clock + _draw(1 days), address(0));
        Refusals memory refusals;
        _unlessPaused(refusals);
        _unless(refusals, amount > 0, abi.encodeWithSelector(IUsageEscrow.AmountZero.selector));
        _unlessIn(refusals, id, IN_USE | LOCKED);
        _unlessRoom(refusals, amount);
        address sender = payment.road == Road.Authorization ? _anybody() : payment.payer;
        bytes memory call = _depositCall(id, amount, payment, refusals);
        _doTo(id, Verb.Nothing, sender, call, refusals, "4: a deposit");
        if (refusals.count == 0) _credit(id, amount);
    }

    /// @dev Somebody who has `amount`, and means to pay it some way: mostly `buyer`, if nobody else may.
    function _payment(
        uint256 amount,
        uint256 allowed,
        uint256 deadline,
        address buyer
    ) private returns (Payment memory payment) {
        bool isBuyer = buyer != address(0) && _draw(8) != 0;
        // Who has no key signs nothing.
        payment.road = isBuyer && buyer == address(reenterer) ? Road.Allowance : Road(_draw(3));
        (payment.deadline, payment.allowed) = (deadline, allowed);
        if (payment.road == Road.Allowance) {
            payment.payer = isBuyer ? buyer : _anybody();
            _mint(payment.payer, amount, address(escrow));
        } else {
            uint256 i = _draw(licenseeKeys.length);
            while (isBuyer && licensees[i] != buyer) i = (i + 1) % licenseeKeys.length;
            (payment.payer, payment.key) = (licensees[i], licenseeKeys[i]);
            currency.mint(payment.payer, amount);
        }
    }

    function _purchaseCall(
        Purchase memory purchase,
        Payment memory payment,
        uint256 price,
        Refusals memory refusals
    ) private returns (bytes memory call) {
        if (payment.road == Road.Allowance) return abi.encodeCall(escrow.buy, (purchase));
        if (payment.road == Road.Permit) {
            (uint8 v, bytes32 r, bytes32 s) = _permit(payment);
            return abi.encodeCall(escrow.buyWithPermit, (purchase, v, r, s));
        }
        bytes32 salt = bytes32(_draw(type(uint256).max));
        bytes32 nonce = escrow.purchaseHash(purchase, salt);
        Authorization memory authorization = _authorize(payment, price, nonce, salt, refusals);
        call = abi.encodeCall(escrow.buyWithAuthorization, (purchase, authorization));
        if (refusals.count == 0) payments.push(SignedPayment(0, price, purchase, authorization, nonce, call));
    }

    function _depositCall(
        uint256 id,
        uint256 amount,
        Payment memory payment,
        Refusals memory refusals
    ) private returns (bytes memory call) {
        if (payment.road == Road.Allowance) return abi.encodeCall(escrow.deposit, (_id(id), uint64(amount)));
        if (payment.road == Road.Permit) {
            (uint8 v, bytes32 r, bytes32 s) = _permit(payment);
            return abi.encodeCall(escrow.depositWithPermit, (_id(id), uint64(amount), payment.deadline, v, r, s));
        }
        bytes32 salt = bytes32(_draw(type(uint256).max));
        bytes32 nonce = escrow.depositHash(_id(id), licenses.ownerOf(id), uint64(amount), salt);
        Authorization memory authorization = _authorize(payment, amount, nonce, salt, refusals);
        call = abi.encodeCall(escrow.depositWithAuthorization, (_id(id), uint64(amount), authorization));
        Purchase memory none;
        if (refusals.count == 0) payments.push(SignedPayment(id, amount, none, authorization, nonce, call));
    }

    /// @dev An EIP-3009 authorization for just what `nonce` says, in time mostly.
    function _authorize(
        Payment memory payment,
        uint256 amount,
        bytes32 nonce,
        bytes32 salt,
        Refusals memory refusals
    ) private returns (Authorization memory authorization) {
        authorization.from = payment.payer;
        authorization.validAfter = _draw(16) == 0 ? clock : clock - 1;
        authorization.validBefore = _draw(16) == 0 ? clock : clock + 1 + _draw(1 days);
        authorization.salt = salt;
        bytes32 structHash = keccak256(
            abi.encode(
                currency.RECEIVE_WITH_AUTHORIZATION_TYPEHASH(),
                payment.payer,
                escrow,
                amount,
                authorization.validAfter,
                authorization.validBefore,
                nonce
            )
        );
        (uint8 v, bytes32 r, bytes32 s) = VM.sign(payment.key, _currencyDigest(structHash));
        authorization.signature = abi.encodePacked(r, s, v);
        _unlessInTime(refusals, authorization);
    }

    /// @dev An EIP-2612 permit. Somebody may have used it before: that does no harm.
    function _permit(Payment memory payment) private returns (uint8 v, bytes32 r, bytes32 s) {
        (address payer, uint256 allowed, uint256 deadline) = (payment.payer, payment.allowed, payment.deadline);
        bytes32 typehash = keccak256(
            "Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)"
        );
        uint256 nonce = currency.nonces(payer);
        bytes32 structHash = keccak256(abi.encode(typehash, payer, escrow, allowed, nonce, deadline));
        (v, r, s) = VM.sign(payment.key, _currencyDigest(structHash));
        if (clock <= deadline && _draw(4) == 0) currency.permit(payer, address(escrow), allowed, deadline, v, r, s);
    }

    function _currencyDigest(bytes32 structHash) private view returns (bytes32) {
        return keccak256(abi.encodePacked("\x19\x01", currency.DOMAIN_SEPARATOR(), structHash));
    }

    /// @dev Mostly as much as the minimum asks for, and as there is room for.
    function _affordablePurchase(PlanTerms memory terms, uint256 amount) private returns (uint256) {
        if (amount < terms.minimumSpend && _draw(8) != 0) amount += terms.minimumSpend;
        uint256 room = _room();
        bool fits = room >= terms.minimumSpend + terms.upfrontPrice;
        if (amount + terms.upfrontPrice > room && fits && _draw(6) != 0) amount = room - terms.upfrontPrice;
        return amount;
    }

    function _bookPurchase(Purchase memory purchase, PlanTerms memory terms, uint256 id) private {
        License storage license = ledger.push();
        require(id == ledger.length, "2: a license's id was used before");
        require(licenses.ownerOf(id) == purchase.to, "2: a license went to another one");
        _see(Machine.License, id, Verb.Buy);
        live.push(id);
        (license.bought, license.owner, license.renews) = (true, purchase.to, true);
        (license.plan, license.capCode) = (PlanId.unwrap(purchase.planId), purchase.capCode);
        license.operator = OperatorId.unwrap(purchase.operatorId);
        license.term = Model.firstTerm(terms, clock);
        if (terms.upfrontPrice > 0) {
            (license.upfront, license.upfrontPaidAt) = (terms.upfrontPrice, clock);
            license.upfrontReleasableAt = clock + terms.holdPeriod;
            license.upfrontFeeBps = escrow.feeBps();
            upfronts += terms.upfrontPrice;
            flows.upfrontsPaid += terms.upfrontPrice;
        }
        ++sales[license.plan].sold;
        _credit(id, purchase.amount);
    }

    function _credit(uint256 id, uint256 amount) private {
        ledger[id - 1].balance += amount;
        balances += amount;
        flows.deposited += amount;
    }

    function _releaseUpfront(uint256 id) internal {
        License storage license = ledger[id - 1];
        uint256 price = license.upfront;
        uint256 releasableAt = license.upfrontReleasableAt;
        bool isReturned = _isUpfrontReturned(id);
        Refusals memory refusals;
        _unless(refusals, price > 0, abi.encodeWithSelector(IUsageEscrow.UpfrontNone.selector, id));
        _unless(
            refusals,
            isReturned || clock >= releasableAt,
            abi.encodeWithSelector(IUsageEscrow.UpfrontHeld.selector, id, releasableAt)
        );
        bytes memory call = abi.encodeCall(escrow.releaseUpfront, (_id(id)));
        _doTo(id, Verb.Nothing, _anybody(), call, refusals, "7: an upfront price");
        if (refusals.count > 0) return;
        upfronts -= price;
        if (isReturned) {
            license.balance += price;
            balances += price;
            flows.upfrontsReturned += price;
        } else {
            flows.upfrontsReleased += price;
            _payPublisher(license.plan, price, license.upfrontFeeBps);
        }
        (license.upfront, license.upfrontPaidAt) = (0, 0);
        (license.upfrontReleasableAt, license.upfrontFeeBps) = (0, 0);
    }

    function _payPublisher(uint256 plan, uint256 amount, uint256 feeBps) internal {
        uint256 fee = (amount * feeBps) / 10_000;
        _earn(_assetOf(plan), amount - fee);
        _payFee(fee);
    }

    // What they are refused for

    function _purchaseRefusals(
        Purchase memory purchase,
        PlanTerms memory terms,
        address payer
    ) internal view returns (Refusals memory refusals) {
        uint256 plan = PlanId.unwrap(purchase.planId);
        uint256 price = purchase.amount + terms.upfrontPrice;
        _unlessPaused(refusals);
        _unless(
            refusals,
            clock <= purchase.deadline,
            abi.encodeWithSelector(IUsageEscrow.DeadlinePassed.selector, purchase.deadline, clock)
        );
        _unless(
            refusals,
            price <= purchase.maxPrice,
            abi.encodeWithSelector(IUsageEscrow.PriceAboveLimit.selector, price, purchase.maxPrice)
        );
        address buyer = buyerOf[plan];
        _unless(
            refusals,
            buyer == address(0) || buyer == payer,
            abi.encodeWithSelector(IUsageEscrow.PayerNotBuyer.selector, plan, buyer, payer)
        );
        _unlessEligible(refusals, OperatorId.unwrap(purchase.operatorId), plan);
        _unlessCovered(refusals, purchase.amount, terms.minimumSpend);
        _unlessSold(refusals, plan, purchase.to);
        _unlessRoom(refusals, price);
    }

    function _unlessInTime(Refusals memory refusals, Authorization memory authorization) internal view {
        _unless(
            refusals,
            clock > authorization.validAfter,
            abi.encodeWithSelector(TestCurrency.AuthorizationNotYetValid.selector, authorization.validAfter)
        );
        _unless(
            refusals,
            clock < authorization.validBefore,
            abi.encodeWithSelector(TestCurrency.AuthorizationExpired.selector, authorization.validBefore)
        );
    }

    function _unlessSold(Refusals memory refusals, uint256 plan, address to) internal view {
        uint256 supply = plans[plan - 1].supply;
        _unless(
            refusals,
            _planStatus(plan) != PlanStatus.Closed,
            abi.encodeWithSelector(ILicenseRegistry.PlanIsClosed.selector, plan)
        );
        _unless(
            refusals,
            supply == 0 || sales[plan].sold < supply,
            abi.encodeWithSelector(ILicenseRegistry.PlanSoldOut.selector, plan, supply)
        );
        address buyer = buyerOf[plan];
        _unless(
            refusals,
            buyer == address(0) || buyer == to,
            abi.encodeWithSelector(ILicenseRegistry.PlanForAnother.selector, plan, buyer, to)
        );
    }

    function _unlessPaused(Refusals memory refusals) internal view {
        uint256 until = escrow.pausedUntil();
        _unless(refusals, clock >= until, abi.encodeWithSelector(IUsageEscrow.DepositsPaused.selector, until));
    }

    function _unlessEligible(Refusals memory refusals, uint256 operator, uint256 plan) internal view {
        _unlessServed(refusals, operator, plan);
        _unless(
            refusals,
            clock >= pools[operator].jailedUntil,
            abi.encodeWithSelector(IUsageEscrow.OperatorInJail.selector, operator)
        );
    }

    function _unlessServed(Refusals memory refusals, uint256 operator, uint256 plan) internal view {
        _unless(
            refusals,
            !refused[operator][plan],
            abi.encodeWithSelector(IUsageEscrow.PlanNotServed.selector, operator, plan)
        );
    }

    function _unlessCovered(Refusals memory refusals, uint256 available, uint256 minimum) internal pure {
        _unless(
            refusals,
            available >= minimum,
            abi.encodeWithSelector(IUsageEscrow.MinimumNotCovered.selector, available, minimum)
        );
    }

    function _unlessRoom(Refusals memory refusals, uint256 amount) internal view {
        bytes4 selector = IUsageEscrow.DepositCeilingReached.selector;
        bytes memory refusal = abi.encodeWithSelector(selector, _escrowed(), escrow.depositCeiling());
        _unless(refusals, amount <= _room(), refusal);
    }

    // What they look for

    function _isIn(uint256 id, uint256 statuses) internal view returns (bool) {
        return (statuses >> uint8(_licenseStatus(id))) & 1 == 1;
    }

    function _isNotOver(uint256 id) internal view returns (bool) {
        return _isIn(id, IN_USE | LOCKED);
    }

    function _hasUpfront(uint256 id) internal view returns (bool) {
        return ledger[id - 1].upfront > 0;
    }

    function _isUpfrontReturned(uint256 id) internal view returns (bool) {
        License storage license = ledger[id - 1];
        if (license.upfront == 0) return false;
        uint256 start = license.upfrontPaidAt + Model.NOTICE;
        return _isRecalled(license.plan, start, license.upfrontReleasableAt + Model.NOTICE);
    }

    function _isCrowded() internal view returns (bool) {
        uint256 inUse;
        for (uint256 i; i < live.length; ++i) {
            if (_isNotOver(live[i])) ++inUse;
        }
        return inUse >= MOST_IN_USE || live.length >= MOST_LICENSES;
    }

    /// @dev Whether a recall takes effect from `start` on and before `stop`.
    function _isRecalled(uint256 plan, uint256 start, uint256 stop) internal view returns (bool) {
        uint256[] storage all = _recallsOf(plan);
        for (uint256 i; i < all.length; ++i) {
            if (all[i] + Model.NOTICE >= start && all[i] + Model.NOTICE < stop) return true;
        }
        return false;
    }

    /// @dev What the deposit ceiling leaves room for: income that nobody fetched takes it up as well.
    function _room() internal view returns (uint256) {
        uint256 owed = _escrowed();
        uint256 ceiling = escrow.depositCeiling();
        return owed < ceiling ? ceiling - owed : 0;
    }

    /// @dev Mostly what there is room for.
    function _affordable(uint256 amount) internal returns (uint256) {
        uint256 room = _room();
        return amount > room && room > 0 && _draw(6) != 0 ? room : amount;
    }
}
