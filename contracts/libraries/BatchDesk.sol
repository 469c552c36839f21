// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import {ChargeTerms, PlanShares, ServiceLevels} from "../interfaces/ILicenseRegistry.sol";
import {IPerformanceStaking} from "../interfaces/IPerformanceStaking.sol";
import {BatchHeader, BatchStatus, EntryStatus, IUsageEscrow} from "../interfaces/IUsageEscrow.sol";
import {Account, Aside} from "../types/Account.sol";
import {LicenseId, OperatorId, PlanId, VersionId} from "../types/Ids.sol";
import {Bps} from "./Bps.sol";
import {IncomeBook, IncomeBookLib} from "./IncomeBook.sol";
import {AccountSlot, LicenseBook} from "./LicenseBook.sol";
import {Outcomes} from "./Outcomes.sol";
import {ServiceLevelMath} from "./ServiceLevelMath.sol";
import {SettlementRules} from "./SettlementRules.sol";
import {Tariff, UsageCharge} from "./UsageCharge.sol";
import {UsageEntry, UsageEntryLib} from "./UsageEntry.sol";

/// @dev All that UsageEscrow keeps of batches.
struct BatchBook {
    mapping(bytes32 lane => IUsageEscrow.Lane) lanes;
    /// And charges that were split off them, by their own ids.
    mapping(bytes32 batchId => IUsageEscrow.Batch) batches;
    /// Of batches of which any entry wasn't charged its price.
    mapping(bytes32 batchId => bytes32) outcomesHashes;
    mapping(bytes32 chargeId => IUsageEscrow.ChargeRecord) charges;
}

/// @title What happens by batches: attested use is charged, held, and divided
/// @notice A part of UsageEscrow, as LicenseDesk is: linked to it for ever, it runs in its storage. It moves no currency. Errors,
/// events and their meaning are IUsageEscrow's.
library BatchDesk {
    using Outcomes for bytes;
    using SafeCast for uint256;
    using ServiceLevelMath for ServiceLevels;
    using UsageCharge for Tariff;

    function settle(
        BatchBook storage book,
        LicenseBook storage licenses,
        SettlementRules calldata rules,
        bytes32 batchId,
        BatchHeader calldata header,
        bytes calldata entries,
        bytes calldata proof
    ) external {
        ChargeTerms memory plan = rules.licenses.chargeTermsOf(header.planId);
        _requireSettleable(book, rules, batchId, header, entries, plan);
        uint48 signers = plan.attestor.vouches(batchId, proof);
        require(signers != 0, IUsageEscrow.BatchNotVouchedFor(batchId, address(plan.attestor)));

        _advanceLane(book, header, entries);
        uint256 discountBps = plan.levels.discountOf(header.availabilityBps, header.p95TtftMs, header.samples);
        Tariff memory tariff = UsageCharge.tariffOf(header, plan, discountBps, rules.unit);
        (uint256 even, uint256 odd) = UsageEntryLib.lanesOf(header);
        (uint256 charged, bytes memory outcomes, uint256 statuses) = _charge(licenses, tariff, entries, even, odd);
        if (statuses != 0) book.outcomesHashes[batchId] = keccak256(outcomes);
        bool isJailed = rules.staking.charge(_chargeOf(rules, header, charged, discountBps));
        book.batches[batchId] = IUsageEscrow.Batch({
            operatorId: header.operatorId,
            planId: header.planId,
            releasableAt: (block.timestamp + plan.holdPeriod).toUint40(),
            charged: charged.toUint64(),
            discountBps: uint16(discountBps),
            feeBps: uint16(rules.feeBps),
            signers: signers,
            earnsBonus: !isJailed && plan.levels.areMet(discountBps, header.samples),
            status: BatchStatus.Held
        });

        emit IUsageEscrow.BatchSettled(
            batchId,
            header.operatorId,
            header.planId,
            header.versionId,
            header.sequence,
            header.epochStart,
            header.epochEnd,
            header.root,
            charged,
            discountBps,
            outcomes
        );
    }

    function previewSettle(
        BatchBook storage book,
        LicenseBook storage licenses,
        SettlementRules calldata rules,
        bytes32 batchId,
        BatchHeader calldata header,
        bytes calldata entries
    ) external view returns (uint256 charged, uint256 discountBps, bytes memory outcomes) {
        ChargeTerms memory plan = rules.licenses.chargeTermsOf(header.planId);
        _requireSettleable(book, rules, batchId, header, entries, plan);

        discountBps = plan.levels.discountOf(header.availabilityBps, header.p95TtftMs, header.samples);
        Tariff memory tariff = UsageCharge.tariffOf(header, plan, discountBps, rules.unit);
        tariff.stores = false;
        (uint256 even, uint256 odd) = UsageEntryLib.lanesOf(header);
        (charged, outcomes, ) = _asView(_charge)(licenses, tariff, entries, even, odd);

        rules.staking.previewCharge(_chargeOf(rules, header, charged, discountBps));
    }

    /// @return fee What of it is the protocol's, in currency units
    function release(
        BatchBook storage book,
        IncomeBook storage incomes,
        SettlementRules calldata rules,
        bytes32 batchId
    ) external returns (uint256 fee) {
        IUsageEscrow.Batch memory batch = book.batches[batchId];
        require(batch.status == BatchStatus.Held, IUsageEscrow.BatchNotHeld(batchId, batch.status));
        require(block.timestamp >= batch.releasableAt, IUsageEscrow.HoldRunning(batchId, batch.releasableAt));

        PlanShares memory shares = rules.licenses.sharesOf(batch.planId);
        IUsageEscrow.Split memory split = _split(batch, shares);
        book.batches[batchId].status = BatchStatus.Released;
        uint256 forPool = rules.staking.release(batch.operatorId, batch.charged, split.operator);
        incomes.credit(batch.operatorId, shares.assetId, split, forPool);
        fee = split.fee;

        emit IUsageEscrow.BatchReleased(batchId, batch.operatorId, shares.assetId, split, forPool);
    }

    /// @return amount The attestor's share, for the caller
    /// @return signers The attestor's note of who signed
    function takeAttestorShare(
        BatchBook storage book,
        SettlementRules calldata rules,
        bytes32 batchId
    ) external returns (uint256 amount, uint48 signers) {
        IUsageEscrow.Batch memory batch = book.batches[batchId];
        require(batch.status == BatchStatus.Released, IUsageEscrow.BatchNotReleased(batchId, batch.status));
        PlanShares memory shares = rules.licenses.sharesOf(batch.planId);
        require(msg.sender == address(shares.attestor), IUsageEscrow.CallerNotAttestor(batchId, msg.sender));

        (amount, signers) = (_split(batch, shares).attestor, batch.signers);
        book.batches[batchId].status = BatchStatus.Collected;

        emit IUsageEscrow.AttestorShareCollected(batchId, msg.sender, amount);
    }

    // Views

    function splitOf(
        BatchBook storage book,
        SettlementRules calldata rules,
        bytes32 batchId
    ) external view returns (IUsageEscrow.Split memory split) {
        IUsageEscrow.Batch memory batch = book.batches[batchId];
        bool isDivided = batch.status != BatchStatus.None && batch.status != BatchStatus.Refunded;
        if (isDivided) split = _split(batch, rules.licenses.sharesOf(batch.planId));
    }

    function statusOf(BatchBook storage book, bytes32 batchId) external view returns (BatchStatus) {
        IUsageEscrow.Batch memory batch = book.batches[batchId];
        bool isReleasable = batch.status == BatchStatus.Held && block.timestamp >= batch.releasableAt;
        return isReleasable ? BatchStatus.Releasable : batch.status;
    }

    function laneOf(
        BatchBook storage book,
        OperatorId operatorId,
        PlanId planId,
        VersionId versionId
    ) external view returns (IUsageEscrow.Lane memory) {
        return book.lanes[_laneKey(operatorId, planId, versionId)];
    }

    // Internals

    function _requireSettleable(
        BatchBook storage book,
        SettlementRules calldata rules,
        bytes32 batchId,
        BatchHeader calldata header,
        bytes calldata entries,
        ChargeTerms memory plan
    ) private view {
        require(book.batches[batchId].status == BatchStatus.None, IUsageEscrow.BatchSettledBefore(batchId));
        (uint256 epochStart, uint256 epochEnd) = (header.epochStart, header.epochEnd);
        require(
            epochStart < epochEnd && epochEnd - epochStart <= rules.epochPeriod,
            IUsageEscrow.EpochInvalid(epochStart, epochEnd, rules.epochPeriod)
        );
        require(epochEnd <= block.timestamp, IUsageEscrow.EpochNotEnded(epochEnd, block.timestamp));
        uint256 closedAt = epochEnd + rules.windowPeriod;
        require(block.timestamp <= closedAt, IUsageEscrow.WindowClosed(closedAt, block.timestamp));
        _requireFollows(book, header, entries);
        require(
            header.versionId.assetOf() == plan.assetId,
            IUsageEscrow.VersionNotOfModel(header.versionId, plan.assetId)
        );
        uint256 usableUntil = rules.assets.usableUntil(header.versionId);
        require(epochEnd <= usableUntil, IUsageEscrow.VersionNotUsable(header.versionId, usableUntil, epochEnd));
        require(
            header.count > 0 && header.availabilityBps <= Bps.WHOLE,
            IUsageEscrow.SummaryInvalid(header.count, header.availabilityBps)
        );
        bytes32 entriesHash = keccak256(entries);
        require(entriesHash == header.entriesHash, IUsageEscrow.EntriesMismatch(entriesHash, header.entriesHash));
    }

    /// @dev A batch's number is above its lane's last (numbers of batches that were signed and never settled stay unused,
    /// since attestors sign one batch a number), and its epoch comes after the last one's, or is the same one and the batch
    /// goes on where the last part of it ended.
    function _requireFollows(BatchBook storage book, BatchHeader calldata header, bytes calldata entries) private view {
        uint256 length = entries.length;
        require(
            length > 0 && length % UsageEntryLib.SIZE == 0 && length <= Outcomes.MOST * UsageEntryLib.SIZE,
            IUsageEscrow.EntriesMalformed(length)
        );
        IUsageEscrow.Lane memory lane = book.lanes[_laneKey(header.operatorId, header.planId, header.versionId)];
        require(header.sequence > lane.sequence, IUsageEscrow.BatchOutOfSequence(header.sequence, lane.sequence));
        if (header.epochStart == lane.epochStart && header.epochEnd == lane.epochEnd) {
            uint256 first = UsageEntryLib.at(_offsetOf(entries)).licenseId();
            require(first > lane.lastLicense, IUsageEscrow.EntriesOutOfOrder(first, lane.lastLicense));
        } else {
            require(header.epochStart >= lane.epochEnd, IUsageEscrow.EpochOverlaps(header.epochStart, lane.epochEnd));
        }
    }

    function _advanceLane(BatchBook storage book, BatchHeader calldata header, bytes calldata entries) private {
        uint256 lastOffset = _offsetOf(entries) + entries.length - UsageEntryLib.SIZE;
        book.lanes[_laneKey(header.operatorId, header.planId, header.versionId)] = IUsageEscrow.Lane({
            sequence: header.sequence,
            epochStart: header.epochStart,
            epochEnd: header.epochEnd,
            lastLicense: uint64(UsageEntryLib.at(lastOffset).licenseId())
        });
    }

    /// @dev Charges entries, whose meters add up to `even` and `odd`, to the accounts that they name, and stores these after that
    /// if the tariff is to. Statuses are zero if all entries were charged their prices.
    function _charge(
        LicenseBook storage licenses,
        Tariff memory tariff,
        bytes calldata entries,
        uint256 even,
        uint256 odd
    ) private returns (uint256 charged, bytes memory outcomes, uint256 statuses) {
        outcomes = Outcomes.reserve((entries.length / UsageEntryLib.SIZE) * Outcomes.ENTRY_SIZE);
        uint256 cursor = outcomes.start();
        uint256 offset = _offsetOf(entries);
        uint256 end = offset + entries.length;
        uint256 licenseId;
        // At most MAX_ENTRIES entries: a sum of 56-bit charges can't overflow. Nor can one of 32-bit meters in lanes of 86 bits, so
        // that nothing is left of the totals only where each meter's is right.
        unchecked {
            for (; offset < end; offset += UsageEntryLib.SIZE) {
                UsageEntry entry = UsageEntryLib.at(offset);
                require(entry.licenseId() > licenseId, IUsageEscrow.EntriesOutOfOrder(entry.licenseId(), licenseId));
                licenseId = entry.licenseId();
                (uint256 entryEven, uint256 entryOdd) = entry.lanes();
                (even, odd) = (even - entryEven, odd - entryOdd);
                uint256 amount = tariff.priceOf(entryEven, entryOdd);

                AccountSlot storage slot = licenses.slotOf(LicenseId.wrap(uint64(licenseId)));
                Account account = slot.account;
                uint256 status;
                if (tariff.isPlain(account, amount)) {
                    account = account.charged(amount);
                } else {
                    (account, amount, status) = _chargeOne(licenses, tariff, account, licenseId, amount);
                    statuses |= status;
                }
                if (tariff.stores) slot.account = account;

                charged += amount;
                cursor = Outcomes.putEntry(cursor, licenseId, amount, status);
            }
        }
        require(even == 0 && odd == 0, IUsageEscrow.TotalsMismatch());
    }

    /// @dev Charges an account of any kind. What was charged for the term before the running one counts there.
    /// @return status An EntryStatus, as a number
    function _chargeOne(
        LicenseBook storage licenses,
        Tariff memory tariff,
        Account account,
        uint256 licenseId,
        uint256 price
    ) private returns (Account, uint256 amount, uint256 status) {
        EntryStatus found;
        if (account.hasAside()) {
            Aside storage kept = licenses.asides[LicenseId.wrap(uint64(licenseId))];
            Aside memory aside = kept;
            uint256 endedSpent = aside.endedSpent;
            (account, amount, found) = tariff.chargeBeside(account, aside, price);
            if (tariff.stores && aside.endedSpent != endedSpent) kept.endedSpent = aside.endedSpent;
        } else {
            (account, amount, found) = tariff.chargeTo(account, price);
        }
        return (account, amount, uint256(found));
    }

    function _split(
        IUsageEscrow.Batch memory batch,
        PlanShares memory shares
    ) private pure returns (IUsageEscrow.Split memory split) {
        split = IncomeBookLib.split(
            batch.charged,
            batch.discountBps,
            batch.feeBps,
            shares.publisherBps,
            shares.attestorBps
        );
        if (batch.earnsBonus) split.bonus = split.fee / 2;
        split.fee -= split.bonus;
    }

    /// @dev Breaches of service levels are counted in days so long that what settles within a window is at most six of them
    /// late, and no longer than an epoch where that is long enough.
    function _chargeOf(
        SettlementRules calldata rules,
        BatchHeader calldata header,
        uint256 amount,
        uint256 discountBps
    ) private pure returns (IPerformanceStaking.Charge memory) {
        uint256 breachDay = Math.max(rules.epochPeriod, Math.ceilDiv(rules.windowPeriod, 5));
        return
            IPerformanceStaking.Charge({
                operatorId: header.operatorId,
                planId: header.planId,
                amount: amount,
                day: header.epochStart / breachDay,
                breached: discountBps > 0
            });
    }

    function _laneKey(OperatorId operatorId, PlanId planId, VersionId versionId) private pure returns (bytes32) {
        return keccak256(abi.encode(operatorId, planId, versionId));
    }

    function _offsetOf(bytes calldata data) private pure returns (uint256 offset) {
        assembly ("memory-safe") {
            offset := data.offset
        }
    }

    /// @dev The same function, for a caller whose tariff has it store nothing.
    function _asView(
        function(
            LicenseBook storage,
            Tariff memory,
            bytes calldata,
            uint256,
            uint256
        ) internal returns (uint256, bytes memory, uint256) writing
    )
        private
        pure
        returns (
            function(
                LicenseBook storage,
                Tariff memory,
                bytes calldata,
                uint256,
                uint256
            ) internal view returns (uint256, bytes memory, uint256) reading
        )
    {
        assembly ("memory-safe") {
            reading := writing
        }
    }
}
