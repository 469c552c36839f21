// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {ChargeTerms} from "../interfaces/ILicenseRegistry.sol";
import {IOperatorRegistry} from "../interfaces/IOperatorRegistry.sol";
import {IUsageEscrow, LicenseStatus, VoucherKey, VoucherKeyStatus, VoucherStatus} from "../interfaces/IUsageEscrow.sol";
import {Account, AccountLib, Aside} from "../types/Account.sol";
import {LicenseId, OperatorId, PlanId} from "../types/Ids.sol";
import {IncomeBook, IncomeBookLib} from "./IncomeBook.sol";
import {LicenseBook} from "./LicenseBook.sol";
import {Outcomes} from "./Outcomes.sol";
import {SettlementRules} from "./SettlementRules.sol";
import {SignedVoucher, SignedVoucherLib} from "./SignedVoucher.sol";

/// @dev What all vouchers of a run have in common: worked out once, used for each.
struct VoucherRun {
    IOperatorRegistry operators;
    OperatorId operatorId;
    /// Of the escrow's EIP-712 domain.
    bytes32 domainSeparator;
    /// How long what was used may still be charged, in seconds: an epoch and the window.
    uint256 waitPeriod;
    /// One whole unit of the currency.
    uint256 unit;
    /// The plan, operator and road that an account must name.
    uint256 parties;
    /// The plan's cap a term, in currency units; the highest number is none.
    uint256 cap;
    uint256 termPeriod;
    /// Whether a term is open until it is closed, and not until some time.
    bool hasMinimum;
    /// Whether a license starts its next term by being charged for it.
    bool renewsByUse;
}

/// @dev The license whose vouchers are being charged, as it will be stored when the next one's turn comes.
struct OpenLicense {
    LicenseId licenseId;
    Account account;
    Aside aside;
    bool isAccountChanged;
    bool isAsideChanged;
}

/// @title What happens by vouchers: a licensee's key signs what was spent in all, and its operator is paid what is new of it
/// @notice A part of UsageEscrow, as LicenseDesk is: linked to it for ever, it runs in its storage. It moves no currency. Errors,
/// events and their meaning are IUsageEscrow's.
/// A license's vouchers come one after the other: it is read before the first and stored after the last of them.
library VoucherDesk {
    using Outcomes for bytes;

    // Keys

    function addVoucherKey(LicenseBook storage book, LicenseId licenseId, bytes calldata key, uint56 cap) external {
        Account account = _ownAccount(book, licenseId);
        LicenseStatus status = _escrow().statusOf(licenseId);
        require(
            status == LicenseStatus.Running || status == LicenseStatus.Lapsed,
            IUsageEscrow.LicenseStatusUnfit(licenseId, status)
        );
        VoucherKey storage record = book.voucherKeys[licenseId][account.generation()][_idOf(key)];
        require(record.endsAt == 0, IUsageEscrow.VoucherKeyRevoked(licenseId, key));
        require(cap > record.cap, IUsageEscrow.VoucherCapNotRaised(cap, record.cap));

        record.cap = cap;

        // A generation has 16 bits.
        emit IUsageEscrow.VoucherKeyAdded(licenseId, uint16(account.generation()), key, cap);
    }

    function revokeVoucherKey(
        LicenseBook storage book,
        LicenseId licenseId,
        bytes calldata key,
        uint256 waitPeriod
    ) external {
        Account account = _ownAccount(book, licenseId);
        VoucherKey storage record = book.voucherKeys[licenseId][account.generation()][_idOf(key)];
        require(record.cap != 0, IUsageEscrow.VoucherKeyUnknown(licenseId, key));
        require(record.endsAt == 0, IUsageEscrow.VoucherKeyRevoked(licenseId, key));

        // Timestamps and waits of at most weeks stay far below 2^40.
        record.endsAt = uint40(block.timestamp + waitPeriod);

        emit IUsageEscrow.VoucherKeyEnding(licenseId, uint16(account.generation()), key, record.endsAt);
    }

    // Settlement

    /// @return charged Currency units
    /// @return outcomes As in `VouchersSettled`
    /// @return fee What of the charge is the protocol's
    function settleVouchers(
        LicenseBook storage book,
        IncomeBook storage incomes,
        SettlementRules calldata rules,
        bytes32 domainSeparator,
        OperatorId operatorId,
        PlanId planId,
        bytes calldata vouchers
    ) external returns (uint256 charged, bytes memory outcomes, uint256 fee) {
        ChargeTerms memory plan = rules.licenses.chargeTermsOf(planId);
        VoucherRun memory run = _runOf(rules, domainSeparator, operatorId, planId, plan);
        (charged, outcomes) = _charge(book, run, vouchers, true);

        // Nobody attested to anything, nor promised a level of service.
        IUsageEscrow.Split memory split = IncomeBookLib.split(charged, 0, rules.feeBps, plan.publisherBps, 0);
        uint256 forPool = charged > 0 ? rules.staking.poolShareOf(operatorId, split.operator) : 0;
        incomes.credit(operatorId, plan.assetId, split, forPool);
        fee = split.fee;

        emit IUsageEscrow.VouchersSettled(operatorId, planId, plan.assetId, charged, split, forPool, outcomes);
    }

    function previewVouchers(
        LicenseBook storage book,
        SettlementRules calldata rules,
        bytes32 domainSeparator,
        OperatorId operatorId,
        PlanId planId,
        bytes calldata vouchers
    ) external view returns (uint256 charged, bytes memory outcomes) {
        ChargeTerms memory plan = rules.licenses.chargeTermsOf(planId);
        VoucherRun memory run = _runOf(rules, domainSeparator, operatorId, planId, plan);
        return _asView(_charge)(book, run, vouchers, false);
    }

    // Views

    function voucherKeyOf(
        LicenseBook storage book,
        LicenseId licenseId,
        uint16 generation,
        bytes calldata key
    ) external view returns (VoucherKeyStatus status, VoucherKey memory record) {
        record = book.voucherKeys[licenseId][generation][_idOf(key)];
        if (record.cap == 0) return (status, record);
        if (generation != book.accounts[licenseId].generation()) {
            uint40 endsAt = book.generationEnds[licenseId][generation];
            if (record.endsAt == 0 || endsAt < record.endsAt) record.endsAt = endsAt;
        }
        if (record.endsAt == 0) return (VoucherKeyStatus.Active, record);
        status = block.timestamp <= record.endsAt ? VoucherKeyStatus.Ending : VoucherKeyStatus.Ended;
    }

    // Internals

    /// @dev Charges all vouchers, and stores the licenses after that if `stores`.
    function _charge(
        LicenseBook storage book,
        VoucherRun memory run,
        bytes calldata vouchers,
        bool stores
    ) private returns (uint256 charged, bytes memory outcomes) {
        uint256 most = vouchers.length / SignedVoucherLib.ECDSA_SIZE;
        require(most > 0 && most <= Outcomes.MOST, IUsageEscrow.VouchersMalformed(vouchers.length));
        outcomes = Outcomes.reserve(most * Outcomes.VOUCHER_SIZE);
        OpenLicense memory open;
        uint256 cursor = outcomes.start();
        // At most that many vouchers, of calldata, which charge 56 bits each: no sum can overflow.
        unchecked {
            uint256 offset = _offsetOf(vouchers);
            uint256 end = offset + vouchers.length;
            while (offset < end) {
                SignedVoucher voucher = SignedVoucherLib.at(offset);
                require(offset + voucher.size() <= end, IUsageEscrow.VouchersMalformed(vouchers.length));
                LicenseId licenseId = voucher.licenseId();
                if (licenseId != open.licenseId) {
                    require(licenseId > open.licenseId, IUsageEscrow.VouchersOutOfOrder(licenseId, open.licenseId));
                    if (stores) _store(book, open);
                    _load(book, open, licenseId);
                }
                (uint256 amount, VoucherStatus status) = _claim(book, run, open, voucher, offset);
                charged += amount;
                cursor = Outcomes.putVoucher(
                    cursor,
                    LicenseId.unwrap(licenseId),
                    voucher.term(),
                    amount,
                    uint256(status)
                );
                offset += voucher.size();
            }
        }
        if (stores) _store(book, open);
        outcomes.finish(cursor);
    }

    /// @dev Charges one voucher to the open license.
    function _claim(
        LicenseBook storage book,
        VoucherRun memory run,
        OpenLicense memory open,
        SignedVoucher voucher,
        uint256 offset
    ) private view returns (uint256 amount, VoucherStatus status) {
        Account account = open.account;
        if (account.parties() == run.parties) (account, status) = _inTerm(run, open, voucher.term());
        else (account, status) = _inFormerTerm(run, open, voucher.term());
        if (status != VoucherStatus.Charged) return (0, status);
        uint256 spent = account.spent();
        if (voucher.spent() <= spent) return (0, VoucherStatus.NothingDue);
        uint256 cap;
        (cap, status) = _capOfKey(book, run, open, voucher, offset);
        if (status != VoucherStatus.Charged) return (0, status);

        amount = voucher.spent() - spent;
        cap = Math.min(Math.min(cap, run.cap), AccountLib.capOf(account.capCode(), run.unit));
        uint256 room = Math.saturatingSub(cap, spent);
        if (amount > room) (amount, status) = (room, VoucherStatus.CapReached);
        uint256 balance = account.balance();
        if (amount > balance) (amount, status) = (balance, VoucherStatus.BalanceExhausted);
        if (amount > 0) _put(open, account.charged(amount));
    }

    /// @dev The open license's account in a term, if that can be charged: the status is Charged then.
    function _inTerm(
        VoucherRun memory run,
        OpenLicense memory open,
        uint256 term
    ) private view returns (Account account, VoucherStatus status) {
        account = open.account;
        Aside memory aside = open.aside;
        bool isLocked = aside.stoppedAt != 0 && !aside.isEnded && !aside.nextPlanId.isPlan();
        if (isLocked && block.timestamp > aside.stoppedAt + run.waitPeriod) return (account, VoucherStatus.Stopped);

        uint256 present = account.term();
        if (term > present) return _inNextTerm(run, open, term - present);
        if (term < present) {
            bool isAside = aside.endedAt != 0 && term + 1 == present;
            if (!isAside) return (account, VoucherStatus.TermClosed);
            if (aside.formerPlanId.isPlan()) return (account, VoucherStatus.WrongPlan);
            return (account.inEndedTerm(aside.endedAt, aside.endedSpent), status);
        }
        bool isOpen = run.hasMinimum ? !account.isClosed() : _isClaimable(run, _endOf(aside, account.expiresAt()));
        if (!isOpen) status = VoucherStatus.TermClosed;
    }

    /// @dev As `_inTerm`, of a run under a plan that isn't the account's: its last term under that can be charged for a wait, in
    /// which the license can't have come to a second one under the present plan.
    function _inFormerTerm(
        VoucherRun memory run,
        OpenLicense memory open,
        uint256 term
    ) private view returns (Account account, VoucherStatus status) {
        account = open.account;
        Aside memory aside = open.aside;
        bool isFormer =
            aside.formerPlanId.isPlan() &&
                account.withPlan(aside.formerPlanId).parties() == run.parties &&
                term + 1 == account.term();
        if (!isFormer) return (account, _mismatch(account, run.parties));
        if (block.timestamp >= aside.endedAt + run.waitPeriod) return (account, VoucherStatus.TermClosed);
        account = account.inEndedTerm(aside.endedAt, aside.endedSpent);
    }

    /// @dev As `_inTerm`, of the term that is `ahead` terms after the account's: the license renews to that, and no term
    /// before it can be claimed any more. While one of them still can be, the operator alone may do this.
    function _inNextTerm(
        VoucherRun memory run,
        OpenLicense memory open,
        uint256 ahead
    ) private view returns (Account account, VoucherStatus status) {
        account = open.account;
        uint256 startsAt = account.expiresAt() + (ahead - 1) * run.termPeriod;
        if (!run.renewsByUse || block.timestamp < startsAt) return (account, VoucherStatus.TermNotRunning);
        uint256 stoppedAt = open.aside.stoppedAt;
        if (stoppedAt != 0 && startsAt >= stoppedAt) return (account, VoucherStatus.Stopped);
        uint256 endsAt = startsAt + run.termPeriod;
        if (!_isClaimable(run, _endOf(open.aside, endsAt))) return (account, VoucherStatus.TermClosed);
        // The term before ends where this one starts, and no earlier one ends later.
        if (_isClaimable(run, startsAt) && !_isByOperator(run)) return (account, VoucherStatus.TermNotRunning);
        account = account.renewed(ahead, endsAt);
    }

    /// @dev How far a voucher's key may bring the counter of a term, if it has signed the voucher: the status is Charged then.
    function _capOfKey(
        LicenseBook storage book,
        VoucherRun memory run,
        OpenLicense memory open,
        SignedVoucher voucher,
        uint256 offset
    ) private view returns (uint256 cap, VoucherStatus status) {
        uint256 generation = voucher.generation();
        if (
            generation != open.account.generation() && block.timestamp > book.generationEnds[open.licenseId][generation]
        ) return (0, VoucherStatus.GenerationEnded);

        bytes32 digest = voucher.digestOf(run.operatorId, run.domainSeparator);
        bool isP256 = voucher.scheme() == SignedVoucherLib.P256_SCHEME;
        bytes32 keyId = isP256 ? SignedVoucherLib.p256KeyAt(offset) : SignedVoucherLib.ecdsaSignerAt(offset, digest);
        VoucherKey memory key = book.voucherKeys[open.licenseId][generation][keyId];
        if (key.cap == 0) return (0, VoucherStatus.KeyUnknown);
        if (isP256 && !SignedVoucherLib.isP256SignedAt(offset, digest)) return (0, VoucherStatus.KeyUnknown);
        if (key.endsAt != 0 && block.timestamp > key.endsAt) return (0, VoucherStatus.KeyRevoked);
        cap = key.cap;
    }

    /// @dev Has the open license go on as `account`, which is its own, or as it was in the term before.
    function _put(OpenLicense memory open, Account account) private pure {
        if (account.term() < open.account.term()) {
            // A counter has 56 bits.
            open.aside.endedSpent = uint56(account.spent());
            open.isAsideChanged = true;
            account = open.account.withBalance(account.balance());
        }
        open.account = account;
        open.isAccountChanged = true;
    }

    function _load(LicenseBook storage book, OpenLicense memory open, LicenseId licenseId) private view {
        bool hadAside = open.account.hasAside();
        open.licenseId = licenseId;
        open.account = book.slotOf(licenseId).account;
        (open.isAccountChanged, open.isAsideChanged) = (false, false);
        if (open.account.hasAside()) open.aside = book.asides[licenseId];
        else if (hadAside) delete open.aside;
    }

    function _store(LicenseBook storage book, OpenLicense memory open) private {
        if (open.isAccountChanged) book.slotOf(open.licenseId).account = open.account;
        if (open.isAsideChanged) book.asides[open.licenseId].endedSpent = open.aside.endedSpent;
    }

    function _runOf(
        SettlementRules calldata rules,
        bytes32 domainSeparator,
        OperatorId operatorId,
        PlanId planId,
        ChargeTerms memory plan
    ) private pure returns (VoucherRun memory) {
        bool hasMinimum = plan.minimumSpend > 0;
        return
            VoucherRun({
                operators: rules.operators,
                operatorId: operatorId,
                domainSeparator: domainSeparator,
                waitPeriod: rules.epochPeriod + rules.windowPeriod,
                unit: rules.unit,
                parties: AccountLib.voucherParties(planId, operatorId),
                cap: plan.cap == 0 ? type(uint256).max : plan.cap,
                termPeriod: plan.termPeriod,
                hasMinimum: hasMinimum,
                renewsByUse: plan.renewable && !hasMinimum
            });
    }

    /// @dev Whether use until `endsAt` may still be charged.
    function _isClaimable(VoucherRun memory run, uint256 endsAt) private view returns (bool) {
        return block.timestamp <= endsAt + run.waitPeriod;
    }

    /// @dev When use of a term ends that would end at `expiresAt`: with the license's end, where that comes first.
    function _endOf(Aside memory aside, uint256 expiresAt) private pure returns (uint256) {
        return aside.isEnded ? Math.min(aside.stoppedAt, expiresAt) : expiresAt;
    }

    /// @dev Whether the caller is the operator: its owner, or a key that signs its receipts.
    function _isByOperator(VoucherRun memory run) private view returns (bool) {
        return
            run.operators.ownerOf(run.operatorId) == msg.sender ||
            run.operators.isSigningKey(run.operatorId, msg.sender, block.timestamp);
    }

    /// @dev Why an account isn't the run's to charge. `parties` has the layout of an account.
    function _mismatch(Account account, uint256 parties) private pure returns (VoucherStatus) {
        if (!account.exists()) return VoucherStatus.UnknownLicense;
        Account wanted = Account.wrap(parties);
        if (account.planId() != wanted.planId()) return VoucherStatus.WrongPlan;
        if (account.operatorId() != wanted.operatorId()) return VoucherStatus.WrongOperator;
        return VoucherStatus.WrongRoad;
    }

    function _idOf(bytes calldata key) private pure returns (bytes32 keyId) {
        keyId = SignedVoucherLib.keyIdOf(key);
        require(keyId != 0, IUsageEscrow.VoucherKeyInvalid(key));
    }

    function _ownAccount(LicenseBook storage book, LicenseId licenseId) private view returns (Account account) {
        account = book.accounts[licenseId];
        require(
            account.exists() && _escrow().LICENSES().ownerOf(LicenseId.unwrap(licenseId)) == msg.sender,
            IUsageEscrow.CallerNotOwner(licenseId, msg.sender)
        );
    }

    /// @dev Whose code this is, too: its storage, and its constants.
    function _escrow() private view returns (IUsageEscrow) {
        return IUsageEscrow(address(this));
    }

    function _offsetOf(bytes calldata data) private pure returns (uint256 offset) {
        assembly ("memory-safe") {
            offset := data.offset
        }
    }

    /// @dev The same function, for a caller that has it store nothing.
    function _asView(
        function(
            LicenseBook storage,
            VoucherRun memory,
            bytes calldata,
            bool
        ) internal returns (uint256, bytes memory) writing
    )
        private
        pure
        returns (
            function(
                LicenseBook storage,
                VoucherRun memory,
                bytes calldata,
                bool
            ) internal view returns (uint256, bytes memory) reading
        )
    {
        assembly ("memory-safe") {
            reading := writing
        }
    }
}
