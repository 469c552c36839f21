// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {IAssetRegistry} from "../interfaces/IAssetRegistry.sol";
import {VoucherTerms} from "../interfaces/ILicenseRegistry.sol";
import {BatchHeader, BatchStatus, IUsageEscrow} from "../interfaces/IUsageEscrow.sol";
import {Account, Aside} from "../types/Account.sol";
import {LicenseId} from "../types/Ids.sol";
import {BatchBook} from "./BatchDesk.sol";
import {IncomeBook} from "./IncomeBook.sol";
import {LicenseBook} from "./LicenseBook.sol";
import {Outcomes} from "./Outcomes.sol";
import {SettlementRules} from "./SettlementRules.sol";
import {Tariff, UsageCharge} from "./UsageCharge.sol";
import {UsageEntry, UsageEntryLib} from "./UsageEntry.sol";

/// @title What happens to one license's charge that is in dispute: it is split off its batch and frozen, then given back or let go
/// @notice A part of UsageEscrow, as LicenseDesk is: linked to it for ever, it runs in its storage. It moves no currency: what a
/// charge was, its license's balance or its asset's income is after a refund, so that as much is owed as before. Errors, events
/// and their meaning are IUsageEscrow's.
library ChargeDesk {
    using Outcomes for bytes;
    using UsageCharge for Tariff;

    /// @dev The counter that a charge was counted by: that of the account's term, that of the term before, or none that is known
    /// any more or that may go back.
    enum Counter {
        Lost,
        Account,
        Aside
    }

    function freeze(
        BatchBook storage book,
        SettlementRules calldata rules,
        bytes32 batchId,
        BatchHeader calldata header,
        bytes calldata entries,
        bytes calldata outcomes,
        LicenseId licenseId
    ) external returns (bytes32 chargeId, uint256 amount) {
        IUsageEscrow.Batch memory batch = book.batches[batchId];
        require(batch.status == BatchStatus.Held, IUsageEscrow.BatchNotHeld(batchId, batch.status));
        require(block.timestamp < batch.releasableAt, IUsageEscrow.HoldOver(batchId, batch.releasableAt));
        (chargeId, amount, ) = _chargeOf(book, rules, batchId, header, entries, outcomes, licenseId);
        require(amount > 0, IUsageEscrow.ChargeEmpty(chargeId));
        IUsageEscrow.Batch memory charge = book.batches[chargeId];

        if (charge.status == BatchStatus.None) {
            // A part of what the batch charged, with what is split off others of its licenses.
            book.batches[batchId].charged = uint64(batch.charged - amount);
            book.charges[chargeId] = IUsageEscrow.ChargeRecord({
                batchId: batchId,
                licenseId: licenseId,
                versionId: header.versionId,
                epochStart: header.epochStart,
                epochEnd: header.epochEnd
            });
            charge = batch;
            (charge.charged, charge.status) = (uint64(amount), BatchStatus.Frozen);
            book.batches[chargeId] = charge;
        } else {
            require(
                charge.status == BatchStatus.Held && block.timestamp < charge.releasableAt,
                IUsageEscrow.ChargeNotHeld(chargeId, charge.status)
            );
            book.batches[chargeId].status = BatchStatus.Frozen;
        }

        emit IUsageEscrow.ChargeFrozen(chargeId, batchId, licenseId, amount);
    }

    /// @return amount What was charged
    /// @return fee What of it is the protocol's, in currency units
    function refund(
        BatchBook storage book,
        LicenseBook storage licenses,
        IncomeBook storage incomes,
        SettlementRules calldata rules,
        bytes32 chargeId
    ) external returns (uint256 amount, uint256 fee) {
        IUsageEscrow.Batch memory charge = _frozen(book, chargeId);
        IUsageEscrow.ChargeRecord memory record = book.charges[chargeId];
        VoucherTerms memory plan = rules.licenses.voucherTermsOf(charge.planId);
        amount = charge.charged;

        book.batches[chargeId].status = BatchStatus.Refunded;
        uint256 toAsset = _uncharge(licenses, rules.assets, charge, record, plan);
        if (toAsset > 0) fee = incomes.creditAsset(plan.assetId, toAsset, rules.feeBps);

        emit IUsageEscrow.ChargeRefunded(
            chargeId,
            record.licenseId,
            plan.assetId,
            amount - toAsset,
            toAsset - fee,
            fee
        );

        rules.staking.release(charge.operatorId, amount, 0);
    }

    function letGo(BatchBook storage book, bytes32 chargeId, uint40 releasableAt) external {
        IUsageEscrow.Batch memory charge = _frozen(book, chargeId);

        if (releasableAt < charge.releasableAt) charge.releasableAt = releasableAt;
        charge.status = BatchStatus.Held;
        book.batches[chargeId] = charge;

        emit IUsageEscrow.ChargeReleased(chargeId, book.charges[chargeId].licenseId, charge.releasableAt);
    }

    // Views

    function chargeOf(
        BatchBook storage book,
        SettlementRules calldata rules,
        bytes32 batchId,
        BatchHeader calldata header,
        bytes calldata entries,
        bytes calldata outcomes,
        LicenseId licenseId
    ) external view returns (bytes32 chargeId, uint256 amount, uint256 entry) {
        require(book.batches[batchId].status != BatchStatus.None, IUsageEscrow.BatchNotSettled(batchId));
        return _chargeOf(book, rules, batchId, header, entries, outcomes, licenseId);
    }

    // Internals

    /// @dev Of a batch that has settled, of which `header` is: its entries are in order, and each has an outcome.
    function _chargeOf(
        BatchBook storage book,
        SettlementRules calldata rules,
        bytes32 batchId,
        BatchHeader calldata header,
        bytes calldata entries,
        bytes calldata outcomes,
        LicenseId licenseId
    ) private view returns (bytes32 chargeId, uint256 amount, uint256 entry) {
        bytes32 entriesHash = keccak256(entries);
        require(entriesHash == header.entriesHash, IUsageEscrow.EntriesMismatch(entriesHash, header.entriesHash));
        (uint256 index, UsageEntry found) = UsageEntryLib.find(entries, LicenseId.unwrap(licenseId));
        require(UsageEntry.unwrap(found) != 0, IUsageEscrow.EntryUnknown(batchId, licenseId));

        bytes32 committed = book.outcomesHashes[batchId];
        if (committed == 0) {
            Tariff memory tariff = UsageCharge.tariffOf(
                header,
                rules.licenses.chargeTermsOf(header.planId),
                book.batches[batchId].discountBps,
                rules.unit
            );
            (uint256 even, uint256 odd) = found.lanes();
            amount = tariff.priceOf(even, odd);
        } else {
            bytes32 outcomesHash = keccak256(outcomes);
            require(outcomesHash == committed, IUsageEscrow.OutcomesMismatch(outcomesHash, committed));
            amount = outcomes.amountAt(index);
        }
        return (keccak256(abi.encode(batchId, licenseId)), amount, UsageEntry.unwrap(found));
    }

    function _frozen(BatchBook storage book, bytes32 chargeId) private view returns (IUsageEscrow.Batch memory charge) {
        charge = book.batches[chargeId];
        require(charge.status == BatchStatus.Frozen, IUsageEscrow.ChargeNotFrozen(chargeId, charge.status));
    }

    /// @dev Gives a charge back to its account, and takes it off the counter of its term.
    /// @return toAsset What of it isn't given back, since the term is closed and now lacks that much to its minimum
    function _uncharge(
        LicenseBook storage licenses,
        IAssetRegistry assets,
        IUsageEscrow.Batch memory charge,
        IUsageEscrow.ChargeRecord memory record,
        VoucherTerms memory plan
    ) private returns (uint256 toAsset) {
        Account account = licenses.slotOf(record.licenseId).account;
        Aside memory aside;
        if (account.hasAside()) aside = licenses.asides[record.licenseId];
        uint256 amount = charge.charged;
        Counter counter = _counterOf(account, aside, charge, record, plan);
        if (counter == Counter.Account) {
            uint256 spent = account.spent();
            uint256 rest = Math.saturatingSub(spent, amount);
            if (account.isClosed() && !_isFreed(assets, plan, account.expiresAt())) {
                toAsset = Math.saturatingSub(plan.minimumSpend, rest) - Math.saturatingSub(plan.minimumSpend, spent);
            }
            account = account.withSpent(rest);
        } else if (counter == Counter.Aside) {
            // At most what it was.
            licenses.asides[record.licenseId].endedSpent = uint56(Math.saturatingSub(aside.endedSpent, amount));
        } else {
            toAsset = Math.min(amount, plan.minimumSpend);
        }
        // All that is owed has 64 bits, and a balance is a part of it.
        licenses.slotOf(record.licenseId).account = account.withBalance(account.balance() + amount - toAsset);
    }

    /// @dev Whether a recall that was announced in the term that ended at `endsAt`, and took effect in it, has freed it from its
    /// minimum: what LicenseDesk says of a term that is closed.
    function _isFreed(IAssetRegistry assets, VoucherTerms memory plan, uint256 endsAt) private view returns (bool) {
        uint256 earliest = endsAt - plan.termPeriod + assets.NOTICE_PERIOD();
        return assets.recallsBetween(plan.assetId, earliest, endsAt) > 0;
    }

    /// @dev Use counts in the term in which its epoch started; the first of all, and the first under another plan, also take the
    /// epoch in which they began. Vouchers are signed for all that a counter ever counted: one that goes back would let them be
    /// claimed again.
    function _counterOf(
        Account account,
        Aside memory aside,
        IUsageEscrow.Batch memory charge,
        IUsageEscrow.ChargeRecord memory record,
        VoucherTerms memory plan
    ) private pure returns (Counter) {
        if (account.onVoucherRoad()) return Counter.Lost;
        bool isOfPlan = charge.planId == account.planId();
        if (record.epochStart >= aside.endedAt) {
            bool isOfTerm = isOfPlan && _isOf(record, plan, account.expiresAt(), account.term() == 0);
            return isOfTerm ? Counter.Account : Counter.Lost;
        }
        if (isOfPlan && aside.formerPlanId.isPlan()) {
            return _isOf(record, plan, account.expiresAt(), true) ? Counter.Account : Counter.Lost;
        }
        bool isOfFormer = isOfPlan || charge.planId == aside.formerPlanId;
        return isOfFormer && _isOf(record, plan, aside.endedAt, account.term() == 1) ? Counter.Aside : Counter.Lost;
    }

    /// @dev Whether use counted in the term that ends at `endsAt`.
    function _isOf(
        IUsageEscrow.ChargeRecord memory record,
        VoucherTerms memory plan,
        uint256 endsAt,
        bool isFirst
    ) private pure returns (bool) {
        uint256 startedAt = endsAt - plan.termPeriod;
        return record.epochStart < endsAt && (isFirst ? record.epochEnd > startedAt : record.epochStart >= startedAt);
    }
}
