// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {VoucherTerms} from "../interfaces/ILicenseRegistry.sol";
import {IOperatorRegistry} from "../interfaces/IOperatorRegistry.sol";
import {IUsageEscrow, LicenseStatus, VoucherKey, VoucherKeyStatus, VoucherStatus} from "../interfaces/IUsageEscrow.sol";
import {Account, AccountLib, Aside} from "../types/Account.sol";
import {LicenseId, OperatorId, PlanId} from "../types/Ids.sol";
import {IncomeBook, IncomeBookLib} from "./IncomeBook.sol";
import {AccountSlot, LicenseBook} from "./LicenseBook.sol";
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
    /// Whether accounts are stored after that: a preview stores none.
    bool stores;
}

/// @title What happens by vouchers: a licensee's key signs what was spent in all, and its operator is paid what is new of it
/// @notice A part of UsageEscrow, as LicenseDesk is: linked to it for ever, it runs in its storage. It moves no currency. Errors,
/// events and their meaning are IUsageEscrow's.
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
        VoucherKey storage record = book.voucherKeyOf(licenseId, account.generation(), _signerOf(key));
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
        VoucherKey storage record = book.voucherKeyOf(licenseId, account.generation(), _signerOf(key));
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
        VoucherTerms memory plan = rules.licenses.voucherTermsOf(planId);
        VoucherRun memory run = _runOf(rules, domainSeparator, operatorId, planId, plan);
        (charged, outcomes) = _charge(book, run, vouchers);

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
        VoucherTerms memory plan = rules.licenses.voucherTermsOf(planId);
        VoucherRun memory run = _runOf(rules, domainSeparator, operatorId, planId, plan);
        run.stores = false;
        return _asView(_charge)(book, run, vouchers);
    }

    // Views

    function voucherKeyOf(
        LicenseBook storage book,
        LicenseId licenseId,
        uint16 generation,
        bytes calldata key
    ) external view returns (VoucherKeyStatus status, VoucherKey memory record) {
        record = book.voucherKeyOf(licenseId, generation, _signerOf(key));
        if (record.cap == 0) return (status, record);
        if (generation != book.slotOf(licenseId).account.generation()) {
            uint40 endsAt = book.generationEnds[licenseId][generation];
            if (record.endsAt == 0 || endsAt < record.endsAt) record.endsAt = endsAt;
        }
        if (record.endsAt == 0) return (VoucherKeyStatus.Active, record);
        status = block.timestamp <= record.endsAt ? VoucherKeyStatus.Ending : VoucherKeyStatus.Ended;
    }

    // Internals

    /// @dev Charges vouchers, and stores the accounts after that if the run is to.
    function _charge(
        LicenseBook storage book,
        VoucherRun memory run,
        bytes calldata vouchers
    ) private returns (uint256 charged, bytes memory outcomes) {
        uint256 most = vouchers.length / SignedVoucherLib.ECDSA_SIZE;
        require(most > 0 && most <= Outcomes.MOST, IUsageEscrow.VouchersMalformed(vouchers.length));
        outcomes = Outcomes.reserve(most * Outcomes.VOUCHER_SIZE);
        uint256 cursor = outcomes.start();
        LicenseId licenseId;
        Account account;
        Aside memory none;
        Aside memory aside;
        // At most that many vouchers, of calldata, which charge 56 bits each: no sum can overflow.
        unchecked {
            uint256 offset = _offsetOf(vouchers);
            uint256 end = offset + vouchers.length;
            while (offset < end) {
                SignedVoucher voucher = SignedVoucherLib.at(offset);
                uint256 next = offset + voucher.size();
                require(next <= end, IUsageEscrow.VouchersMalformed(vouchers.length));
                AccountSlot storage slot = book.slotOf(voucher.licenseId());
                if (voucher.licenseId() != licenseId) {
                    require(
                        voucher.licenseId() > licenseId,
                        IUsageEscrow.VouchersOutOfOrder(voucher.licenseId(), licenseId)
                    );
                    licenseId = voucher.licenseId();
                    account = slot.account;
                    if (account.hasAside()) aside = book.asides[licenseId];
                    else aside = none;
                }

                uint256 amount;
                VoucherStatus status;
                (account, amount, status) = _claim(book, run, account, aside, voucher, offset);
                if (run.stores && amount > 0) slot.account = account;
                charged += amount;
                cursor = Outcomes.putVoucher(
                    cursor,
                    LicenseId.unwrap(licenseId),
                    voucher.term(),
                    amount,
                    uint256(status)
                );
                offset = next;
            }
        }
        outcomes.finish(cursor);
    }

    /// @dev Charges one voucher to an account, which it gives back as it is after that.
    function _claim(
        LicenseBook storage book,
        VoucherRun memory run,
        Account account,
        Aside memory aside,
        SignedVoucher voucher,
        uint256 offset
    ) private returns (Account, uint256 amount, VoucherStatus status) {
        Account running = account;
        if (!_isOfRunningTerm(run, account, voucher)) {
            (running, status) = account.parties() == run.parties
                ? _inTerm(run, account, aside, voucher.term())
                : _inFormerTerm(run, account, aside, voucher.term());
            if (status != VoucherStatus.Charged) return (account, 0, status);
        }
        uint256 spent = running.spent();
        if (voucher.spent() <= spent) return (account, 0, VoucherStatus.NothingDue);
        uint256 cap;
        (cap, status) = _capOfKey(book, run, account, voucher, offset);
        if (status != VoucherStatus.Charged) return (account, 0, status);

        cap = Math.min(cap, _capOf(run, account));
        unchecked {
            amount = voucher.spent() - spent;
        }
        if (voucher.spent() > cap) (amount, status) = (Math.saturatingSub(cap, spent), VoucherStatus.CapReached);
        uint256 balance = account.balance();
        if (amount > balance) (amount, status) = (balance, VoucherStatus.BalanceExhausted);
        if (amount == 0) return (account, 0, status);

        running = running.charged(amount);
        if (running.term() >= account.term()) return (running, amount, status);
        // A counter has 56 bits.
        aside.endedSpent = uint56(running.spent());
        if (run.stores) book.asides[voucher.licenseId()].endedSpent = aside.endedSpent;
        return (account.withBalance(running.balance()), amount, status);
    }

    /// @dev Whether a voucher is of the running term of an account that is the run's to charge, with nothing aside: so is nearly
    /// every one, and `_inTerm` would find the same with more gas.
    function _isOfRunningTerm(
        VoucherRun memory run,
        Account account,
        SignedVoucher voucher
    ) private view returns (bool) {
        return
            account.partiesAndAside() == run.parties &&
            account.term() == voucher.term() &&
            _isOpen(run, account, account.expiresAt());
    }

    /// @dev Whether the running term of an account can be charged, where use of it ends at `endsAt`.
    function _isOpen(VoucherRun memory run, Account account, uint256 endsAt) private view returns (bool) {
        return run.hasMinimum ? !account.isClosed() : _isClaimable(run, endsAt);
    }

    /// @dev An account in a term, if that can be charged: the status is Charged then.
    function _inTerm(
        VoucherRun memory run,
        Account account,
        Aside memory aside,
        uint256 term
    ) private view returns (Account, VoucherStatus status) {
        bool isLocked = aside.stoppedAt != 0 && !aside.isEnded && !aside.nextPlanId.isPlan();
        if (isLocked && block.timestamp > aside.stoppedAt + run.waitPeriod) return (account, VoucherStatus.Stopped);

        uint256 present = account.term();
        if (term > present) return _inNextTerm(run, account, aside, term - present);
        if (term < present) {
            bool isAside = aside.endedAt != 0 && term + 1 == present;
            if (!isAside) return (account, VoucherStatus.TermClosed);
            if (aside.formerPlanId.isPlan()) return (account, VoucherStatus.WrongPlan);
            return (account.inEndedTerm(aside.endedAt, aside.endedSpent), status);
        }
        if (!_isOpen(run, account, _endOf(aside, account.expiresAt()))) status = VoucherStatus.TermClosed;
        return (account, status);
    }

    /// @dev As `_inTerm`, of a run under a plan that isn't the account's: its last term under that can be charged for a wait, in
    /// which the license can't have come to a second one under the present plan.
    function _inFormerTerm(
        VoucherRun memory run,
        Account account,
        Aside memory aside,
        uint256 term
    ) private view returns (Account, VoucherStatus status) {
        bool isFormer =
            aside.formerPlanId.isPlan() &&
                account.withPlan(aside.formerPlanId).parties() == run.parties &&
                term + 1 == account.term();
        if (!isFormer) return (account, _mismatch(account, run.parties));
        if (block.timestamp >= aside.endedAt + run.waitPeriod) return (account, VoucherStatus.TermClosed);
        return (account.inEndedTerm(aside.endedAt, aside.endedSpent), status);
    }

    /// @dev As `_inTerm`, of the term that is `ahead` terms after the account's: the license renews to that, and no term
    /// before it can be claimed any more. While one of them still can be, the operator alone may do this.
    function _inNextTerm(
        VoucherRun memory run,
        Account account,
        Aside memory aside,
        uint256 ahead
    ) private view returns (Account, VoucherStatus status) {
        uint256 startsAt = account.expiresAt() + (ahead - 1) * run.termPeriod;
        if (!run.renewsByUse || block.timestamp < startsAt) return (account, VoucherStatus.TermNotRunning);
        if (aside.stoppedAt != 0 && startsAt >= aside.stoppedAt) return (account, VoucherStatus.Stopped);
        uint256 endsAt = startsAt + run.termPeriod;
        if (!_isClaimable(run, _endOf(aside, endsAt))) return (account, VoucherStatus.TermClosed);
        // The term before ends where this one starts, and no earlier one ends later.
        if (_isClaimable(run, startsAt) && !_isByOperator(run)) return (account, VoucherStatus.TermNotRunning);
        return (account.renewed(ahead, endsAt), status);
    }

    /// @dev How far a voucher's key may bring the counter of a term, if it has signed the voucher: the status is Charged then.
    function _capOfKey(
        LicenseBook storage book,
        VoucherRun memory run,
        Account account,
        SignedVoucher voucher,
        uint256 offset
    ) private view returns (uint256 cap, VoucherStatus status) {
        uint256 generation = voucher.generation();
        LicenseId licenseId = voucher.licenseId();
        if (generation != account.generation() && block.timestamp > book.generationEnds[licenseId][generation]) {
            return (0, VoucherStatus.GenerationEnded);
        }

        bytes32 digest = voucher.digestOf(run.operatorId, run.domainSeparator);
        bool isP256 = voucher.scheme() == SignedVoucherLib.P256_SCHEME;
        address signer =
            isP256 ? SignedVoucherLib.p256SignerAt(offset) : SignedVoucherLib.ecdsaSignerAt(offset, digest);
        VoucherKey storage key = book.voucherKeyOf(licenseId, generation, signer);
        uint256 endsAt;
        (cap, endsAt) = (key.cap, key.endsAt);
        if (cap == 0) return (0, VoucherStatus.KeyUnknown);
        if (isP256 && !SignedVoucherLib.isP256SignedAt(offset, digest)) return (0, VoucherStatus.KeyUnknown);
        if (endsAt != 0 && block.timestamp > endsAt) return (0, VoucherStatus.KeyRevoked);
    }

    function _runOf(
        SettlementRules calldata rules,
        bytes32 domainSeparator,
        OperatorId operatorId,
        PlanId planId,
        VoucherTerms memory plan
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
                renewsByUse: plan.renewable && !hasMinimum,
                stores: true
            });
    }

    /// @dev The lower one of the plan's cap a term and the licensee's.
    function _capOf(VoucherRun memory run, Account account) private pure returns (uint256 cap) {
        cap = run.cap;
        uint256 code = account.capCode();
        if (code != 0) cap = Math.min(cap, AccountLib.capOf(code, run.unit));
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

    function _signerOf(bytes calldata key) private pure returns (address signer) {
        signer = SignedVoucherLib.signerOf(key);
        require(signer != address(0), IUsageEscrow.VoucherKeyInvalid(key));
    }

    function _ownAccount(LicenseBook storage book, LicenseId licenseId) private view returns (Account account) {
        account = book.slotOf(licenseId).account;
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

    /// @dev The same function, for a caller whose run stores nothing.
    function _asView(
        function(
            LicenseBook storage,
            VoucherRun memory,
            bytes calldata
        ) internal returns (uint256, bytes memory) writing
    )
        private
        pure
        returns (
            function(
                LicenseBook storage,
                VoucherRun memory,
                bytes calldata
            ) internal view returns (uint256, bytes memory) reading
        )
    {
        assembly ("memory-safe") {
            reading := writing
        }
    }
}
