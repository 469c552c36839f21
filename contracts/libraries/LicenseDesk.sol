// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {IERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Permit.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {ILicenseRegistry, PlanTerms} from "../interfaces/ILicenseRegistry.sol";
import {OperatorStatus} from "../interfaces/IPerformanceStaking.sol";
import {Authorization, IUsageEscrow, LicenseStatus, Purchase} from "../interfaces/IUsageEscrow.sol";
import {Account, AccountLib, Aside} from "../types/Account.sol";
import {AssetId, LicenseId, OperatorId, PlanId} from "../types/Ids.sol";
import {LicenseBook} from "./LicenseBook.sol";
import {PaymentHash} from "./PaymentHash.sol";
import {Thaw} from "./Thaw.sol";
import {Till, TillLib} from "./Till.sol";

/// @title What happens to a license between its purchase and its end, but for its use
/// @notice The part of UsageEscrow that its own 24,576 bytes have no room for: a library that is linked to it for ever and
/// runs in its storage, as its own code does. Currency it moves only inwards. Errors, events and their meaning are IUsageEscrow's.
library LicenseDesk {
    /// @dev Longer than any request takes: one that was served before a stop may end after it, in another epoch.
    uint256 private constant STOP_GRACE = 1 hours;
    /// @dev The last one, which no owner but a new one reaches.
    uint256 private constant LAST_GENERATION = type(uint16).max;
    PlanId private constant NO_PLAN = PlanId.wrap(0);

    // Sets of statuses of a license, a bit each.
    uint256 private constant LAPSED = 1 << uint8(LicenseStatus.Lapsed);
    uint256 private constant LOCKED = (1 << uint8(LicenseStatus.Locked)) | (1 << uint8(LicenseStatus.Movable));
    uint256 private constant IN_USE = LAPSED | (1 << uint8(LicenseStatus.Running));
    uint256 private constant NOT_OVER = IN_USE | LOCKED;
    uint256 private constant OVER = (1 << uint8(LicenseStatus.Ended)) | (1 << uint8(LicenseStatus.Closed));

    // Buying and funding

    function buy(
        LicenseBook storage book,
        Till storage till,
        IERC20 currency,
        Purchase calldata purchase
    ) external returns (LicenseId licenseId) {
        return _buy(book, till, currency, purchase);
    }

    function buyWithPermit(
        LicenseBook storage book,
        Till storage till,
        IERC20 currency,
        Purchase calldata purchase,
        uint8 v,
        bytes32 r,
        bytes32 s
    ) external returns (LicenseId licenseId) {
        _usePermit(currency, purchase.maxPrice, purchase.deadline, v, r, s);
        return _buy(book, till, currency, purchase);
    }

    function buyWithAuthorization(
        LicenseBook storage book,
        Till storage till,
        IERC20 currency,
        Purchase calldata purchase,
        Authorization calldata authorization
    ) external returns (LicenseId licenseId) {
        bytes32 nonce = PaymentHash.ofPurchase(purchase, authorization.salt);
        uint256 price;
        uint256 owed;
        (licenseId, price, owed) = _open(book, till, purchase, authorization.from);
        TillLib.takeBy(authorization, nonce, currency, price, owed);
    }

    function deposit(
        LicenseBook storage book,
        Till storage till,
        IERC20 currency,
        LicenseId licenseId,
        uint64 amount
    ) external {
        _deposit(book, till, currency, licenseId, amount);
    }

    function depositWithPermit(
        LicenseBook storage book,
        Till storage till,
        IERC20 currency,
        LicenseId licenseId,
        uint64 amount,
        uint256 deadline,
        uint8 v,
        bytes32 r,
        bytes32 s
    ) external {
        _usePermit(currency, amount, deadline, v, r, s);
        _deposit(book, till, currency, licenseId, amount);
    }

    function depositWithAuthorization(
        LicenseBook storage book,
        Till storage till,
        IERC20 currency,
        LicenseId licenseId,
        uint64 amount,
        Authorization calldata authorization
    ) external {
        uint256 owed = _credit(book, till, licenseId, amount, authorization.from);
        bytes32 nonce = PaymentHash.ofDeposit(licenseId, _ownerOf(licenseId), amount, authorization.salt);
        TillLib.takeBy(authorization, nonce, currency, amount, owed);
    }

    // Caps, operator and road

    function setCap(LicenseBook storage book, LicenseId licenseId, uint8 capCode) external {
        Account account = _ownAccount(book, licenseId);

        if (_escrow().capOf(capCode) < _escrow().capOf(uint8(account.capCode()))) {
            uint256 readyAt = book.capCuts[licenseId].start(capCode, _waitPeriod());

            emit IUsageEscrow.CapCutStarted(licenseId, capCode, readyAt);
        } else {
            delete book.capCuts[licenseId];
            book.slotOf(licenseId).account = account.withCapCode(capCode);

            emit IUsageEscrow.CapSet(licenseId, capCode);
        }
    }

    function applyCapCut(LicenseBook storage book, LicenseId licenseId) external {
        Thaw memory cut = book.capCuts[licenseId];
        require(cut.amount > 0, IUsageEscrow.CapCutNone(licenseId));
        require(cut.isReady(), IUsageEscrow.CapCutRunning(licenseId, cut.readyAt));

        // A code that was announced: eight bits.
        uint8 capCode = uint8(cut.amount);
        delete book.capCuts[licenseId];
        book.slotOf(licenseId).account = book.slotOf(licenseId).account.withCapCode(capCode);

        emit IUsageEscrow.CapSet(licenseId, capCode);
    }

    function changeService(
        LicenseBook storage book,
        LicenseId licenseId,
        OperatorId operatorId,
        bool onVoucherRoad
    ) external {
        Account account = _ownAccount(book, licenseId);
        _requireStatus(book, licenseId, IN_USE);
        bool isOperatorNew = operatorId != account.operatorId();
        if (isOperatorNew) _requireEligible(operatorId, account.planId());

        if (isOperatorNew || onVoucherRoad != account.onVoucherRoad()) {
            uint128 service = (uint128(OperatorId.unwrap(operatorId)) << 1) | (onVoucherRoad ? 1 : 0);
            uint256 readyAt = book.serviceChanges[licenseId].start(service, _waitPeriod());

            emit IUsageEscrow.ServiceChangeStarted(licenseId, operatorId, onVoucherRoad, readyAt);
        } else {
            delete book.serviceChanges[licenseId];

            emit IUsageEscrow.ServiceChanged(licenseId, operatorId, onVoucherRoad);
        }
    }

    function applyServiceChange(LicenseBook storage book, LicenseId licenseId) external {
        Thaw memory change = book.serviceChanges[licenseId];
        require(change.amount > 0, IUsageEscrow.ServiceChangeNone(licenseId));
        require(change.isReady(), IUsageEscrow.ServiceChangeRunning(licenseId, change.readyAt));
        Account account = book.slotOf(licenseId).account;
        (OperatorId operatorId, bool onVoucherRoad) = _serviceOf(change);
        if (operatorId != account.operatorId()) _requireEligible(operatorId, account.planId());

        delete book.serviceChanges[licenseId];
        book.slotOf(licenseId).account = account.withService(operatorId, onVoucherRoad);

        emit IUsageEscrow.ServiceChanged(licenseId, operatorId, onVoucherRoad);
    }

    /// @dev What waits stops at the end of a term; what it goes over to is on sale to its owner, and served.
    function changePlan(LicenseBook storage book, LicenseId licenseId, PlanId planId) external {
        Account account = _ownAccount(book, licenseId);
        _requireStatus(book, licenseId, IN_USE);
        Aside storage aside = book.asides[licenseId];
        bool isChanging = aside.nextPlanId.isPlan();

        if (planId != account.planId()) {
            // A change that is due stays due: there was no use since.
            bool isDue = isChanging && block.timestamp >= aside.stoppedAt;
            uint256 termEnd = _requireSuccessor(account, planId);
            // Ends of terms have 32 bits.
            uint40 changesAt = isDue ? aside.stoppedAt : uint40(termEnd);
            (aside.stoppedAt, aside.nextPlanId) = (changesAt, planId);
            book.slotOf(licenseId).account = account.withAside(true);

            emit IUsageEscrow.PlanChangeStarted(licenseId, planId, changesAt);
        } else {
            require(isChanging, IUsageEscrow.PlanChangeNone(licenseId));
            (aside.stoppedAt, aside.nextPlanId) = (0, NO_PLAN);
            book.slotOf(licenseId).account = account.withAside(aside.endedAt != 0);

            emit IUsageEscrow.PlanChangeCancelled(licenseId);
        }
    }

    // Transfer and end

    function lock(LicenseBook storage book, LicenseId licenseId) external {
        Account account = _ownAccount(book, licenseId);
        _requireStatus(book, licenseId, IN_USE);
        require(_termsOf(account.planId()).transferable, IUsageEscrow.LicenseNotTransferable(licenseId));
        uint256 thawing = book.thaws[licenseId].amount;
        require(thawing == 0, IUsageEscrow.ThawOpen(licenseId, thawing));
        // One is left, for whoever unlocks it after a transfer.
        require(account.generation() < LAST_GENERATION, IUsageEscrow.GenerationExhausted(licenseId));

        delete book.serviceChanges[licenseId];
        uint256 stoppedAt = _stop(book, licenseId, account, false);
        // Timestamps and waits of at most weeks stay far below 2^40.
        uint40 movableAt = uint40(block.timestamp + STOP_GRACE + _waitPeriod());

        emit IUsageEscrow.LicenseLocked(licenseId, stoppedAt, movableAt);

        _escrow().LICENSES().setMovable(licenseId, movableAt);
    }

    function unlock(LicenseBook storage book, LicenseId licenseId) external {
        Account account = _ownAccount(book, licenseId);
        _requireStatus(book, licenseId, LOCKED);

        Aside storage aside = book.asides[licenseId];
        // A transfer has used up the lock: what the owner before signed is void, since the license stopped a wait ago.
        if (_escrow().LICENSES().movableAt(licenseId) == 0) account = _raise(book, licenseId, account, aside.stoppedAt);
        aside.stoppedAt = 0;
        book.slotOf(licenseId).account = account.withAside(aside.endedAt != 0);

        emit IUsageEscrow.LicenseUnlocked(licenseId);

        _escrow().LICENSES().setMovable(licenseId, 0);
    }

    function end(LicenseBook storage book, LicenseId licenseId) external {
        Account account = _ownAccount(book, licenseId);
        _requireStatus(book, licenseId, IN_USE);

        uint256 stoppedAt = _stop(book, licenseId, account, true);

        emit IUsageEscrow.LicenseEnded(licenseId, stoppedAt);
    }

    function raiseGeneration(LicenseBook storage book, LicenseId licenseId) external returns (uint16 generation) {
        Account account = _ownAccount(book, licenseId);
        require(account.generation() + 1 < LAST_GENERATION, IUsageEscrow.GenerationExhausted(licenseId));

        // All use of a license that was stopped came before that: nothing that its owner does now may let it count longer.
        uint256 stoppedAt = book.asides[licenseId].stoppedAt;
        uint256 endedAt = stoppedAt == 0 ? block.timestamp : Math.min(stoppedAt, block.timestamp);
        account = _raise(book, licenseId, account, endedAt);
        book.slotOf(licenseId).account = account;
        return uint16(account.generation());
    }

    // Terms

    function setRenewal(LicenseBook storage book, LicenseId licenseId, bool renews) external {
        Account account = _ownAccount(book, licenseId);
        _requireStatus(book, licenseId, NOT_OVER);
        _requireMinimum(_termsOf(account.planId()), licenseId);

        book.slotOf(licenseId).account = account.withRenewing(renews);

        emit IUsageEscrow.RenewalSet(licenseId, renews);
    }

    /// @dev Anyone may renew in time, which goes on where the term ended; its owner later, too, which starts a term now.
    /// No other term may be waiting aside to be closed. Where another plan was announced, the next term is under that one.
    function renew(LicenseBook storage book, LicenseId licenseId) external {
        Account account = _requireStatus(book, licenseId, LAPSED);
        PlanId nextPlanId = book.asides[licenseId].nextPlanId;
        PlanTerms memory plan = _termsOf(account.planId());
        PlanTerms memory nextPlan = nextPlanId.isPlan() ? _termsOf(nextPlanId) : plan;
        account = _atEndOfTerm(account, book.asides[licenseId], plan);
        uint256 endedAt = account.expiresAt();
        bool isInTime = block.timestamp <= endedAt + _escrow().EPOCH_PERIOD();
        uint256 expiresAt = (isInTime ? endedAt : block.timestamp) + nextPlan.termPeriod;
        bool isRecalled = _recalledBetween(plan.assetId, endedAt - plan.termPeriod, expiresAt);
        require((isInTime && !isRecalled) || _isOwner(licenseId), IUsageEscrow.RenewalForOwner(licenseId));
        uint256 taken = book.thaws[licenseId].amount;
        if (!account.isClosed()) taken += _shortfallOf(plan, account.spent(), endedAt);
        uint256 available = Math.saturatingSub(account.balance(), taken);
        require(available >= nextPlan.minimumSpend, IUsageEscrow.MinimumNotCovered(available, nextPlan.minimumSpend));

        account = _setAside(book, licenseId, account, nextPlanId);
        if (nextPlanId.isPlan()) account = _goOver(licenseId, account, nextPlanId);
        account = account.renewed(1, expiresAt).withClosed(false);
        book.slotOf(licenseId).account = account;

        emit IUsageEscrow.TermRenewed(licenseId, account.term(), expiresAt);
    }

    /// @return assetId The model, to whose income the charge goes
    /// @return endedAt When the term ended
    /// @return charged What was taken from the account
    function closeTerm(
        LicenseBook storage book,
        LicenseId licenseId
    ) external returns (AssetId assetId, uint256 endedAt, uint256 charged) {
        Account account = book.slotOf(licenseId).account;
        require(account.exists(), IUsageEscrow.LicenseStatusUnfit(licenseId, LicenseStatus.None));
        Aside memory aside = book.asides[licenseId];
        bool isRunningOne = aside.endedAt == 0;
        PlanTerms memory plan = _termsOf(isRunningOne ? account.planId() : _planBefore(account, aside));
        // A term aside is forgotten where its plan has none.
        if (isRunningOne) _requireMinimum(plan, licenseId);
        require(!isRunningOne || !account.isClosed(), IUsageEscrow.TermClosedBefore(licenseId));
        endedAt = isRunningOne ? account.expiresAt() : aside.endedAt;
        uint256 closableAt = (isRunningOne ? _endOf(account, aside, plan) : endedAt) + _waitPeriod();
        require(block.timestamp > closableAt, IUsageEscrow.TermOpen(licenseId, closableAt));

        uint256 spent = isRunningOne ? account.spent() : aside.endedSpent;
        charged = Math.min(_shortfallOf(plan, spent, endedAt), account.balance());
        account = account.withBalance(account.balance() - charged);
        if (isRunningOne) {
            account = account.withClosed(true);
        } else {
            (aside.endedAt, aside.endedSpent, aside.formerPlanId) = (0, 0, NO_PLAN);
            book.asides[licenseId] = aside;
            account = account.withAside(aside.stoppedAt != 0);
        }
        book.slotOf(licenseId).account = account;
        assetId = plan.assetId;
    }

    // Money

    function thaw(LicenseBook storage book, LicenseId licenseId, uint64 amount) external {
        Account account = _ownAccount(book, licenseId);
        _requireStatus(book, licenseId, IN_USE | OVER);
        uint256 balance = account.balance();
        require(amount <= balance, IUsageEscrow.ThawAboveBalance(licenseId, amount, balance));

        uint256 readyAt = book.thaws[licenseId].start(amount, _waitPeriod());

        emit IUsageEscrow.ThawStarted(licenseId, amount, readyAt);
    }

    /// @dev Takes out of an account what has thawed and isn't committed.
    function takeThawed(LicenseBook storage book, LicenseId licenseId) external returns (uint256 amount) {
        Account account = _ownAccount(book, licenseId);
        Thaw storage thawed = book.thaws[licenseId];
        uint256 announced = thawed.amount;
        require(announced > 0, IUsageEscrow.ThawEmpty(licenseId));
        require(thawed.isReady(), IUsageEscrow.ThawRunning(licenseId, thawed.readyAt));
        uint256 balance = account.balance();
        uint256 committed = _committedOf(book, licenseId);
        amount = Math.min(announced, Math.saturatingSub(balance, committed));
        require(amount > 0 || balance == 0, IUsageEscrow.ThawCommitted(licenseId, balance, committed));

        book.slotOf(licenseId).account = account.withBalance(balance - amount);
        // At most what was announced: 128 bits.
        uint128 rest = uint128(Math.min(announced - amount, balance - amount));
        if (rest > 0) thawed.amount = rest;
        else delete book.thaws[licenseId];
    }

    /// @dev Takes an upfront price that is due, or gives it back to the account.
    /// @return assetId The model, to whose income it goes
    /// @return amount What goes there: nothing if it was given back
    /// @return feeBps The protocol fee when it was paid
    function takeUpfront(
        LicenseBook storage book,
        LicenseId licenseId
    ) external returns (AssetId assetId, uint256 amount, uint256 feeBps) {
        IUsageEscrow.Upfront memory upfront = book.upfronts[licenseId];
        require(upfront.amount > 0, IUsageEscrow.UpfrontNone(licenseId));
        Account account = book.slotOf(licenseId).account;
        // Whatever its plan is now: it goes over to none of another asset.
        (assetId, feeBps) = (_escrow().LICENSES().sharesOf(account.planId()).assetId, upfront.feeBps);
        uint256 releasableAt = upfront.releasableAt;
        // A recall takes effect that long after it was announced.
        uint256 notice = _escrow().ASSETS().NOTICE_PERIOD();

        delete book.upfronts[licenseId];
        if (_recalledBetween(assetId, upfront.paidAt + notice, releasableAt + notice)) {
            // The escrow holds both, and never more than 64 bits.
            book.slotOf(licenseId).account = account.withBalance(account.balance() + upfront.amount);

            emit IUsageEscrow.UpfrontReturned(licenseId, upfront.amount);
        } else {
            require(block.timestamp >= releasableAt, IUsageEscrow.UpfrontHeld(licenseId, releasableAt));
            amount = upfront.amount;
        }
    }

    // Views

    function statusOf(LicenseBook storage book, LicenseId licenseId) external view returns (LicenseStatus) {
        return _statusOf(book, licenseId, book.slotOf(licenseId).account);
    }

    function committedOf(LicenseBook storage book, LicenseId licenseId) external view returns (uint256) {
        return _committedOf(book, licenseId);
    }

    /// @return An IUsageEscrow.AccountView, encoded
    function encodedAccountOf(LicenseBook storage book, LicenseId licenseId) external view returns (bytes memory) {
        Account account = book.slotOf(licenseId).account;
        Aside memory aside = book.asides[licenseId];
        Thaw memory thawing = book.thaws[licenseId];
        Thaw memory capCut = book.capCuts[licenseId];
        Thaw memory change = book.serviceChanges[licenseId];
        (OperatorId nextOperatorId, bool nextOnVoucherRoad) = _serviceOf(change);
        return
            abi.encode(
                IUsageEscrow.AccountView({
                    planId: account.planId(),
                    operatorId: account.operatorId(),
                    balance: uint64(account.balance()),
                    spent: uint56(account.spent()),
                    capCode: uint8(account.capCode()),
                    term: uint16(account.term()),
                    expiresAt: uint32(account.expiresAt()),
                    generation: uint16(account.generation()),
                    onVoucherRoad: account.onVoucherRoad(),
                    renews: account.isRenewing(),
                    isClosed: account.isClosed(),
                    thawing: uint64(thawing.amount),
                    thawReadyAt: thawing.readyAt,
                    capCutCode: uint8(capCut.amount),
                    capCutReadyAt: capCut.readyAt,
                    nextOperatorId: nextOperatorId,
                    nextOnVoucherRoad: nextOnVoucherRoad,
                    serviceChangeReadyAt: change.readyAt,
                    nextPlanId: aside.nextPlanId,
                    stoppedAt: aside.stoppedAt,
                    isEnded: aside.isEnded,
                    endedAt: aside.endedAt,
                    endedSpent: aside.endedSpent,
                    formerPlanId: aside.formerPlanId
                })
            );
    }

    // Internals

    function _buy(
        LicenseBook storage book,
        Till storage till,
        IERC20 currency,
        Purchase calldata purchase
    ) private returns (LicenseId licenseId) {
        uint256 price;
        uint256 owed;
        (licenseId, price, owed) = _open(book, till, purchase, msg.sender);
        TillLib.take(currency, price, owed);
    }

    function _deposit(
        LicenseBook storage book,
        Till storage till,
        IERC20 currency,
        LicenseId licenseId,
        uint64 amount
    ) private {
        uint256 owed = _credit(book, till, licenseId, amount, msg.sender);
        TillLib.take(currency, amount, owed);
    }

    /// @dev Whoever saw the permit could have used it already: what counts is the allowance.
    function _usePermit(IERC20 currency, uint256 amount, uint256 deadline, uint8 v, bytes32 r, bytes32 s) private {
        try IERC20Permit(address(currency)).permit(msg.sender, address(this), amount, deadline, v, r, s) {} catch {}
    }

    /// @return licenseId The new license, whose account has the purchase's amount
    /// @return price What `payer` has to pay for it, in currency units
    /// @return owed What the escrow owes in all from then on
    function _open(
        LicenseBook storage book,
        Till storage till,
        Purchase calldata purchase,
        address payer
    ) private returns (LicenseId licenseId, uint256 price, uint256 owed) {
        require(block.timestamp <= purchase.deadline, IUsageEscrow.DeadlinePassed(purchase.deadline, block.timestamp));
        (PlanId planId, OperatorId operatorId, uint64 amount) = (purchase.planId, purchase.operatorId, purchase.amount);
        ILicenseRegistry licenses = _escrow().LICENSES();
        PlanTerms memory plan = _termsOf(planId);
        price = uint256(plan.upfrontPrice) + amount;
        require(price <= purchase.maxPrice, IUsageEscrow.PriceAboveLimit(price, purchase.maxPrice));
        // Nobody else uses up what a plan has for its buyer.
        address buyer = licenses.buyerOf(planId);
        require(buyer == address(0) || buyer == payer, IUsageEscrow.PayerNotBuyer(planId, buyer, payer));
        _requireEligible(operatorId, planId);
        if (plan.minimumSpend > 0) {
            _requireLong(plan);
            require(amount >= plan.minimumSpend, IUsageEscrow.MinimumNotCovered(amount, plan.minimumSpend));
        }

        owed = till.admit(price);
        licenseId = licenses.mint(purchase.to, planId);
        uint256 expiresAt = block.timestamp + plan.termPeriod;
        book.slotOf(licenseId).account = AccountLib.opened(planId, operatorId, expiresAt, purchase.capCode).withBalance(
            amount
        );

        emit IUsageEscrow.LicenseBought(licenseId, planId, operatorId, purchase.to, purchase.capCode, expiresAt);

        if (plan.upfrontPrice > 0) _holdUpfront(book, till, licenseId, plan);
        if (amount > 0) emit IUsageEscrow.Deposited(licenseId, payer, amount);
    }

    function _credit(
        LicenseBook storage book,
        Till storage till,
        LicenseId licenseId,
        uint64 amount,
        address payer
    ) private returns (uint256 owed) {
        require(amount > 0, IUsageEscrow.AmountZero());
        Account account = _requireStatus(book, licenseId, NOT_OVER);

        owed = till.admit(amount);
        // Balances are a part of what is owed, which has 64 bits.
        book.slotOf(licenseId).account = account.withBalance(account.balance() + amount);

        emit IUsageEscrow.Deposited(licenseId, payer, amount);
    }

    /// @dev Whose code this is, too: its storage, and its constants.
    function _escrow() private view returns (IUsageEscrow) {
        return IUsageEscrow(address(this));
    }

    /// @dev How long use of the running epoch may still settle.
    function _waitPeriod() private view returns (uint256) {
        return _escrow().EPOCH_PERIOD() + _escrow().WINDOW_PERIOD();
    }

    function _holdUpfront(
        LicenseBook storage book,
        Till storage till,
        LicenseId licenseId,
        PlanTerms memory plan
    ) private {
        // Timestamps stay far below 2^40.
        (uint40 paidAt, uint40 releasableAt) = (uint40(block.timestamp), uint40(block.timestamp + plan.holdPeriod));
        book.upfronts[licenseId] = IUsageEscrow.Upfront(plan.upfrontPrice, paidAt, releasableAt, till.feeBps);

        emit IUsageEscrow.UpfrontPaid(licenseId, plan.upfrontPrice, releasableAt);
    }

    /// @dev Ends a generation at `time`: what was signed in it until then counts for a wait more.
    function _raise(
        LicenseBook storage book,
        LicenseId licenseId,
        Account account,
        uint256 time
    ) private returns (Account) {
        // Timestamps and waits of at most weeks stay far below 2^40.
        uint40 endsAt = uint40(time + _waitPeriod());
        book.generationEnds[licenseId][account.generation()] = endsAt;
        // Below the last generation.
        uint16 generation = uint16(account.generation() + 1);

        emit IUsageEscrow.GenerationRaised(licenseId, generation, endsAt);

        return account.withGeneration(generation);
    }

    /// @dev No new use: what has begun may still end, and count.
    function _stop(
        LicenseBook storage book,
        LicenseId licenseId,
        Account account,
        bool isEnded
    ) private returns (uint256 stoppedAt) {
        stoppedAt = block.timestamp + STOP_GRACE;
        Aside storage aside = book.asides[licenseId];
        // What was to go over to another plan by now has stopped already.
        if (aside.nextPlanId.isPlan()) stoppedAt = Math.min(stoppedAt, aside.stoppedAt);
        // Timestamps stay far below 2^40.
        (aside.stoppedAt, aside.isEnded, aside.nextPlanId) = (uint40(stoppedAt), isEnded, NO_PLAN);
        book.slotOf(licenseId).account = account.withAside(true);
    }

    function _ownAccount(LicenseBook storage book, LicenseId licenseId) private view returns (Account account) {
        account = book.slotOf(licenseId).account;
        require(account.exists() && _isOwner(licenseId), IUsageEscrow.CallerNotOwner(licenseId, msg.sender));
    }

    function _isOwner(LicenseId licenseId) private view returns (bool) {
        return _ownerOf(licenseId) == msg.sender;
    }

    /// @dev Of a license that exists.
    function _ownerOf(LicenseId licenseId) private view returns (address) {
        return _escrow().LICENSES().ownerOf(LicenseId.unwrap(licenseId));
    }

    /// @dev An operator that a license under the plan may choose.
    function _requireEligible(OperatorId operatorId, PlanId planId) private view {
        _requireServed(operatorId, planId);
        require(
            _escrow().STAKING().statusOf(operatorId) != OperatorStatus.Jailed,
            IUsageEscrow.OperatorInJail(operatorId)
        );
    }

    function _requireServed(OperatorId operatorId, PlanId planId) private view {
        require(_escrow().OPERATORS().serves(operatorId, planId), IUsageEscrow.PlanNotServed(operatorId, planId));
    }

    /// @dev `allowed` has a bit for each status.
    function _requireStatus(
        LicenseBook storage book,
        LicenseId licenseId,
        uint256 allowed
    ) private view returns (Account account) {
        account = book.slotOf(licenseId).account;
        LicenseStatus status = _statusOf(book, licenseId, account);
        require((allowed >> uint8(status)) & 1 != 0, IUsageEscrow.LicenseStatusUnfit(licenseId, status));
    }

    /// @dev A plan whose terms are long enough that the use of one has settled before the next one ends.
    function _requireLong(PlanTerms memory plan) private view {
        uint256 shortest = _waitPeriod();
        require(plan.termPeriod >= shortest, IUsageEscrow.TermTooShort(plan.termPeriod, shortest));
    }

    /// @dev A plan that a license of the caller's can go over to.
    /// @return termEnd When it would
    function _requireSuccessor(Account account, PlanId planId) private view returns (uint256 termEnd) {
        PlanTerms memory plan = _termsOf(account.planId());
        PlanTerms memory successor = _termsOf(planId);
        require(successor.assetId == plan.assetId, IUsageEscrow.PlanOfAnotherAsset(planId, successor.assetId));
        require(successor.upfrontPrice == 0, IUsageEscrow.PlanHasUpfrontPrice(planId, successor.upfrontPrice));
        _requireLong(plan);
        _requireLong(successor);
        _requireServed(account.operatorId(), planId);
        _escrow().LICENSES().requireOnSale(planId, msg.sender);

        termEnd = account.expiresAt();
        uint256 soonest = block.timestamp + STOP_GRACE;
        if (_renewsByItself(plan) && soonest >= termEnd) {
            termEnd += ((soonest - termEnd) / plan.termPeriod + 1) * plan.termPeriod;
        }
    }

    /// @dev The account of a license that lapsed, in its last term: where it renews by itself until it goes over to another plan,
    /// the account may know of an earlier one.
    function _atEndOfTerm(Account account, Aside memory aside, PlanTerms memory plan) private pure returns (Account) {
        uint256 expiresAt = account.expiresAt();
        if (!aside.nextPlanId.isPlan() || aside.stoppedAt == expiresAt) return account;
        // It stops at the end of a term, which is the account's or a later one.
        return account.renewed((aside.stoppedAt - expiresAt) / plan.termPeriod, aside.stoppedAt);
    }

    /// @dev Keeps the term that has ended aside, until all use of it has settled or could have, if it isn't closed.
    function _setAside(
        LicenseBook storage book,
        LicenseId licenseId,
        Account account,
        PlanId nextPlanId
    ) private returns (Account) {
        Aside memory aside;
        bool isOpen = !account.isClosed();
        if (isOpen) {
            // The account's own fields, of 32 and 56 bits.
            (aside.endedAt, aside.endedSpent) = (uint40(account.expiresAt()), uint56(account.spent()));
            if (nextPlanId.isPlan()) aside.formerPlanId = account.planId();
        }
        book.asides[licenseId] = aside;
        return account.withAside(isOpen);
    }

    /// @dev Has a license go over to another plan.
    function _goOver(LicenseId licenseId, Account account, PlanId planId) private returns (Account) {
        _requireServed(account.operatorId(), planId);
        _escrow().LICENSES().changePlan(licenseId, planId);

        emit IUsageEscrow.PlanChanged(licenseId, planId, account.planId());

        return account.withPlan(planId);
    }

    function _requireMinimum(PlanTerms memory plan, LicenseId licenseId) private pure {
        require(plan.minimumSpend > 0, IUsageEscrow.MinimumNone(licenseId));
    }

    function _statusOf(
        LicenseBook storage book,
        LicenseId licenseId,
        Account account
    ) private view returns (LicenseStatus) {
        if (!account.exists()) return LicenseStatus.None;
        Aside memory aside;
        if (account.hasAside()) aside = book.asides[licenseId];
        bool isChanging = aside.nextPlanId.isPlan();
        if (aside.stoppedAt != 0 && !aside.isEnded && !isChanging) {
            uint256 movableAt = _escrow().LICENSES().movableAt(licenseId);
            return movableAt != 0 && block.timestamp > movableAt ? LicenseStatus.Movable : LicenseStatus.Locked;
        }
        uint256 endsAt = isChanging ? aside.stoppedAt : account.expiresAt();
        if (!aside.isEnded && block.timestamp < endsAt) return LicenseStatus.Running;
        if (isChanging && account.isRenewing()) return LicenseStatus.Lapsed;

        PlanTerms memory plan = _termsOf(account.planId());
        bool hasMinimum = plan.minimumSpend > 0;
        if (!aside.isEnded && plan.renewable && account.isRenewing()) {
            return hasMinimum ? LicenseStatus.Lapsed : LicenseStatus.Running;
        }
        bool isClosed =
            hasMinimum
                ? account.isClosed() && aside.endedAt == 0
                : block.timestamp > _endOf(account, aside, plan) + _waitPeriod() && !_owesTermBefore(aside);
        return isClosed ? LicenseStatus.Closed : LicenseStatus.Ended;
    }

    function _committedOf(LicenseBook storage book, LicenseId licenseId) private view returns (uint256 committed) {
        Account account = book.slotOf(licenseId).account;
        if (!account.exists()) return 0;
        Aside memory aside = book.asides[licenseId];
        if (aside.endedAt != 0) {
            committed = _shortfallOf(_termsOf(_planBefore(account, aside)), aside.endedSpent, aside.endedAt);
        }
        if (!account.isClosed()) {
            committed += _shortfallOf(_termsOf(account.planId()), account.spent(), account.expiresAt());
        }
    }

    /// @dev What is missing to the minimum of a term that runs, or ran, until `endsAt`: nothing if a recall is announced and
    /// takes effect in it. Whoever bought or renewed after the announcement knew.
    function _shortfallOf(PlanTerms memory plan, uint256 spent, uint256 endsAt) private view returns (uint256) {
        if (spent >= plan.minimumSpend) return 0;
        uint256 earliest = endsAt - plan.termPeriod + _escrow().ASSETS().NOTICE_PERIOD();
        return _recalledBetween(plan.assetId, earliest, endsAt) ? 0 : plan.minimumSpend - spent;
    }

    /// @dev Whether a recall of one of a model's versions takes effect from `from` on and before `to`.
    function _recalledBetween(AssetId assetId, uint256 from, uint256 to) private view returns (bool) {
        return _escrow().ASSETS().recallsBetween(assetId, from, to) > 0;
    }

    /// @dev When the last use of an account's term starts at the latest: with the license's end, where that comes first. A
    /// license that renews by itself has terms that its account doesn't know of yet.
    function _endOf(Account account, Aside memory aside, PlanTerms memory plan) private pure returns (uint256) {
        if (!aside.isEnded) return account.expiresAt();
        return _renewsByItself(plan) ? aside.stoppedAt : Math.min(aside.stoppedAt, account.expiresAt());
    }

    function _renewsByItself(PlanTerms memory plan) private pure returns (bool) {
        return plan.renewable && plan.minimumSpend == 0;
    }

    /// @dev The plan of the term before the running one.
    function _planBefore(Account account, Aside memory aside) private pure returns (PlanId) {
        return aside.formerPlanId.isPlan() ? aside.formerPlanId : account.planId();
    }

    /// @dev Whether the term before, under another plan, had a minimum and isn't closed.
    function _owesTermBefore(Aside memory aside) private view returns (bool) {
        return aside.formerPlanId.isPlan() && _termsOf(aside.formerPlanId).minimumSpend > 0;
    }

    function _termsOf(PlanId planId) private view returns (PlanTerms memory) {
        return _escrow().LICENSES().termsOf(planId);
    }

    function _serviceOf(Thaw memory change) private pure returns (OperatorId operatorId, bool onVoucherRoad) {
        // What `changeService` announced: 24 bits and one.
        return (OperatorId.wrap(uint24(change.amount >> 1)), change.amount & 1 != 0);
    }
}
