// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {VersionStatus} from "../../contracts/interfaces/IAssetRegistry.sol";
import {ICommitteeAttestor} from "../../contracts/interfaces/ICommitteeAttestor.sol";
import {PlanTerms} from "../../contracts/interfaces/ILicenseRegistry.sol";
import {IPerformanceStaking} from "../../contracts/interfaces/IPerformanceStaking.sol";
import {
    BatchHeader,
    BatchStatus,
    EntryStatus,
    IUsageEscrow,
    LicenseStatus
} from "../../contracts/interfaces/IUsageEscrow.sol";
import {AssetId, OperatorId, PlanId, VersionId} from "../../contracts/types/Ids.sol";
import {Count} from "./Ledger.sol";
import {Claim, License, Model, Shares, Term, Usage} from "./Model.sol";
import {Receipts} from "./Receipts.sol";
import {Pool, StakeModel} from "./StakeModel.sol";
import {Machine, Verb} from "./Statuses.sol";
import {Trees} from "./Trees.sol";

/// @title Batches: what attestors sign, and what anybody settles, releases and collects
abstract contract Settlers is Receipts {
    uint256 internal constant MOST_ENTRIES = 12;

    /// @dev The signers are attestors, a bit each by their numbers in `attestorKeys`.
    struct Draft {
        BatchHeader header;
        Usage[] usages;
        bytes entries;
        bytes proof;
        bytes32 id;
        uint256 signers;
        Told told;
    }

    /// @dev What a batch should come to.
    struct Forecast {
        uint256 discountBps;
        uint256 charged;
        /// Whether its service is a breach, and whether that jails the operator.
        bool breaches;
        bool jails;
        uint256[] amounts;
        EntryStatus[] statuses;
        License[] after_;
    }

    // Settlement

    function settle(uint256 seed) external attempt(seed) {
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

    /// @dev Use about the end of a term, once the next one has begun; maybe under another plan.
    function settleBeside(uint256 seed) external attempt(seed) {
        uint256 id = _licenseThat(_hasEarlier);
        License storage license = ledger[id - 1];
        uint256 endedAt = license.earlier.endsAt;
        if (!_hasEarlier(id) || clock > endedAt + WINDOW) return _settle(_draft(true));
        uint256 plan = license.earlierPlan != 0 && _draw(3) != 0 ? license.earlierPlan : license.plan;
        uint256 start = endedAt - _draw(6 hours) - (_draw(4) == 0 ? 0 : 1);
        uint256 end = _min(start + 1 + _draw(12 hours), clock);
        if (end > start) _chargeUnder(plan, id, license.operator, start, end, 10_000);
    }

    function _hasEarlier(uint256 id) internal view returns (bool) {
        return ledger[id - 1].earlier.open;
    }

    /// @dev An operator below its plan's levels for some days in a row.
    function serveBadly(uint256 seed) external attempt(seed) {
        uint256 id = _licenseThat(_isChargeable);
        uint16 availabilityBps = uint16(9_899 - _draw(2) * 900);
        for (uint256 i = _draw(4); i < 4; ++i) {
            _pass(18 hours + _draw(12 hours));
            _chargeOne(id, ledger[id - 1].operator, clock - 1 - _draw(6 hours), clock, availabilityBps);
        }
    }

    /// @dev Those that may be, or one that may not yet.
    function release(uint256 seed) external attempt(seed) {
        for (uint256 n = _draw(4); n > 0; --n) {
            uint256 due = _batchThat(BatchStatus.Releasable);
            if (due < batches.length) _release(due);
        }
        uint256 i = _batchThat(BatchStatus.Releasable);
        if (i == batches.length) i = _batchThat(BatchStatus.Held);
        if (i == batches.length) return _settle(_draft(false));
        if (clock < batches[i].releasableAt) {
            if (_draw(2) == 0) _pass(batches[i].releasableAt - clock - 1);
            _release(i);
            if (_draw(3) == 0) _pass(batches[i].releasableAt - clock);
        }
        _release(i);
    }

    function collect(uint256 seed) external attempt(seed) {
        for (uint256 n = 1 + _draw(4); n > 0; --n) {
            uint256 i = _batchThat(BatchStatus.Released);
            if (i == batches.length) return _settle(_draft(false));
            _collect(i);
        }
    }

    // What the acts above are made of

    function _settle(Draft memory draft) internal {
        BatchHeader memory header = draft.header;
        uint256 operator = OperatorId.unwrap(header.operatorId);
        Forecast memory forecast = _forecast(draft);
        uint256 due = pools[operator].inFlight + forecast.charged;
        // An operator mostly sees to it that its stake covers what it settles, and a slash for it.
        if (forecast.charged > 0 && due > _activeAfter(operator, forecast.jails) && _draw(8) != 0) {
            uint256 missing = due - _activeAfter(operator, forecast.jails);
            _addStake(operator, _anyBacker(), missing + missing / 50 + _draw(10 * USD) + 1_000);
        }

        Refusals memory refusals;
        uint256 active = _activeAfter(operator, forecast.jails);
        // A batch that charges nothing raises nothing.
        _unless(
            refusals,
            forecast.charged == 0 || due <= active,
            abi.encodeWithSelector(IPerformanceStaking.InFlightAboveActiveStake.selector, operator, due, active)
        );
        uint256 usableUntil = _usableUntil(header.versionId);
        _unless(
            refusals,
            header.epochEnd <= usableUntil,
            abi.encodeWithSelector(
                IUsageEscrow.VersionNotUsable.selector,
                header.versionId,
                usableUntil,
                header.epochEnd
            )
        );
        _requirePreview(draft, forecast, refusals);
        uint48 note = _noteOf(PlanId.unwrap(header.planId), draft.signers);
        address attestor = address(plans[PlanId.unwrap(header.planId) - 1].attestor);
        _unless(
            refusals,
            note != 0,
            abi.encodeWithSelector(IUsageEscrow.BatchNotVouchedFor.selector, draft.id, attestor)
        );

        _watch(Machine.Operator, operator);
        bytes memory call = abi.encodeCall(escrow.settle, (header, draft.entries, draft.proof));
        bytes memory result = _do(_anybody(), address(escrow), call, refusals, "3: a settlement");
        if (refusals.count > 0) return;
        require(abi.decode(result, (bytes32)) == draft.id && !settled[draft.id], "3: a batch settled twice");
        _book(draft, forecast, note);
        _see(Machine.Operator, operator, Verb.Settle);
        _see(Machine.Batch, batches.length - 1, Verb.Settle);
    }

    /// @dev What a settled batch leaves in the ledger.
    function _book(Draft memory draft, Forecast memory forecast, uint48 note) private {
        BatchHeader memory header = draft.header;
        uint256 operator = OperatorId.unwrap(header.operatorId);
        uint256 plan = PlanId.unwrap(header.planId);
        for (uint256 i; i < draft.usages.length; ++i) {
            uint256 id = draft.usages[i].licenseId;
            if (id > ledger.length) continue;
            _requireNoOvercharge(ledger[id - 1], forecast.after_[i], header, forecast.amounts[i]);
            ledger[id - 1] = forecast.after_[i];
            _requireAccount(id);
        }

        if (forecast.breaches) _breach(operator, plan, header.epochStart / EPOCH, forecast.jails);
        _putInFlight(operator, forecast.charged);
        settled[draft.id] = true;
        batches.push(
            Batch({
                id: draft.id,
                licenseId: 0,
                header: header,
                entries: draft.entries,
                outcomes: _outcomesOf(draft, forecast),
                proof: draft.proof,
                charged: forecast.charged,
                discountBps: forecast.discountBps,
                feeBps: escrow.feeBps(),
                releasableAt: clock + plans[plan - 1].holdPeriod,
                signers: note,
                earnsBonus: _earnsBonus(operator, plans[plan - 1], header, forecast.discountBps),
                status: BatchStatus.Held
            })
        );
        placeOf[draft.id] = batches.length;
        if (draft.told.isThere) (tolds[draft.id], lastTold[operator][plan]) = (draft.told, draft.id);
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
        _count(Count.Settlements);
        if (forecast.charged > 0) {
            uint256 inFlight = staking.poolOf(header.operatorId).inFlight;
            require(inFlight <= staking.activeStakeOf(header.operatorId), "5: in flight is above the active stake");
            _count(Count.Charges);
        }
    }

    /// @dev At most up to what is active: what vested since counts where it takes that.
    function _putInFlight(uint256 operator, uint256 amount) internal {
        Pool storage pool = pools[operator];
        pool.inFlight += amount;
        if (pool.inFlight > pool.active) pools[operator] = _vested(operator);
        if (amount > 0) pool.shortfall = 0;
    }

    /// @dev The limits themselves, whatever the model made of them.
    function _requireNoOvercharge(
        License memory before,
        License memory after_,
        BatchHeader memory header,
        uint256 amount
    ) private view {
        require(amount <= before.balance, "2: a license was charged beyond its balance");
        if (amount == 0) return;
        PlanTerms memory terms = plans[PlanId.unwrap(header.planId) - 1];
        bool isEarlier = after_.earlier.spent != before.earlier.spent;
        Term memory term = isEarlier ? after_.earlier : after_.term;
        require(terms.cap == 0 || term.spent <= terms.cap, "2: a license was charged beyond its plan's cap");
        require(term.spent <= Model.capOf(before.capCode), "2: a license was charged beyond its owner's cap");
        bool isWithin = header.epochStart < term.endsAt && header.epochEnd > term.startedAt;
        require(isWithin, "2: a license was charged beyond its term");
        require(before.operator == OperatorId.unwrap(header.operatorId), "2: another operator charged a license");
        uint256 plan = isEarlier && before.earlierPlan != 0 ? before.earlierPlan : before.plan;
        require(plan == PlanId.unwrap(header.planId), "2: another plan's batch charged a license");
        require(!before.onVoucherRoad, "2: a batch charged a license that is on the voucher road");
        bool isBeforeStop = before.stoppedAt == 0 || header.epochStart < before.stoppedAt;
        require(isBeforeStop, "2: a license was charged for use after a lock or an end");
        require(
            header.epochEnd <= _usableUntil(header.versionId),
            "2: a license was charged for an epoch that ended after a recall took effect"
        );
    }

    /// @dev `previewSettle` says what `settle` will do, entry by entry.
    function _requirePreview(Draft memory draft, Forecast memory forecast, Refusals memory refusals) private {
        bytes memory call = abi.encodeCall(escrow.previewSettle, (draft.header, draft.entries));
        bytes memory result = _do(OUTSIDER, address(escrow), call, refusals, "3: a preview");
        if (refusals.count > 0) return;
        (uint256 charged, uint256 discountBps, bytes memory outcomes) = abi.decode(result, (uint256, uint256, bytes));
        require(charged == forecast.charged, "2: a batch charges more or less than its entries' prices");
        require(discountBps == forecast.discountBps, "2: a batch's discount isn't what its service earned");
        bytes memory due = _outcomesOf(draft, forecast);
        require(keccak256(outcomes) == keccak256(due), "2: an entry's charge or status isn't what became of it");
    }

    function _outcomesOf(Draft memory draft, Forecast memory forecast) private pure returns (bytes memory outcomes) {
        for (uint256 i; i < forecast.amounts.length; ++i) {
            uint64 id = uint64(draft.usages[i].licenseId);
            outcomes = abi.encodePacked(outcomes, id, uint56(forecast.amounts[i]), uint8(forecast.statuses[i]));
        }
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
        _slashForBreach(operator);
        Pool storage pool = pools[operator];
        if (clock >= pool.jailedUntil + 90 days) pool.jailings = 0;
        pool.jailedUntil = clock + 7 days * 2 ** pool.jailings;
        if (pool.jailings < 8) ++pool.jailings;
        _count(Count.Jailings);
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

    function _release(uint256 i) internal {
        Batch storage batch = batches[i];
        PlanTerms memory terms = plans[PlanId.unwrap(batch.header.planId) - 1];
        uint256 operator = OperatorId.unwrap(batch.header.operatorId);
        Shares memory shares = Model.split(batch.charged, batch.discountBps, batch.feeBps, terms, batch.earnsBonus);
        IUsageEscrow.Split memory split = escrow.splitOf(batch.id);
        require(
            keccak256(abi.encode(split)) ==
                keccak256(abi.encode(shares.operator, shares.publisher, shares.attestor, shares.fee, shares.bonus)),
            "7: a share isn't its part of the gross"
        );
        require(
            split.operator + split.publisher + split.attestor + split.fee + split.bonus == batch.charged,
            "7: a split doesn't sum to what was split"
        );

        Refusals memory refusals;
        bytes4 selector = IUsageEscrow.HoldRunning.selector;
        _unless(refusals, clock >= batch.releasableAt, abi.encodeWithSelector(selector, batch.id, batch.releasableAt));
        _watch(Machine.Batch, i);
        _do(_anybody(), address(escrow), abi.encodeCall(escrow.release, (batch.id)), refusals, "9: a release");
        if (refusals.count > 0) return;
        batch.status = BatchStatus.Released;
        _see(Machine.Batch, i, Verb.Release);
        _requireBatch(batch);

        held -= batch.charged;
        _earn(AssetId.unwrap(terms.assetId), shares.publisher);
        _payFee(shares.fee);
        uncollected += shares.attestor;
        flows.toAttestors += shares.attestor;
        Pool storage pool = pools[operator];
        uint256 forPool = _poolShareOf(operator, shares.operator);
        // Of what stake that left has backed, whoever stays has nothing.
        if (pool.active < pool.inFlight) forPool = (forPool * pool.active) / pool.inFlight;
        flows.toOperators += shares.operator - forPool;
        flows.toPools += shares.bonus + forPool;
        pool.earnings += shares.operator - forPool;
        pool.income += shares.bonus + forPool;
        pool.inFlight -= batch.charged;
        pool.shortfall -= pool.shortfall < batch.charged ? pool.shortfall : batch.charged;
        _count(Count.Releases);
    }

    /// @dev To those who signed, by their weights; what doesn't divide goes to the first of them.
    function _collect(uint256 i) internal {
        Batch storage batch = batches[i];
        uint256 plan = PlanId.unwrap(batch.header.planId);
        uint256 share = Model
            .split(batch.charged, batch.discountBps, batch.feeBps, plans[plan - 1], batch.earnsBonus)
            .attestor;
        address attestor = address(plans[plan - 1].attestor);
        _watch(Machine.Batch, i);
        bytes memory call = abi.encodeCall(ICommitteeAttestor.shareIncome, (batch.id));
        bytes memory result = _mustLand(_anybody(), attestor, call, "7: a collection");
        require(abi.decode(result, (uint256)) == share, "7: an attestor's share isn't its part of the gross");
        _heed(address(escrow), abi.encodeCall(escrow.collectAttestorShare, (batch.id)), true);
        batch.status = BatchStatus.Collected;
        _see(Machine.Batch, i, Verb.ShareIncome);
        _requireBatch(batch);

        Seat[] memory signers = _signersOf(plan, batch.signers);
        uint256 weight;
        for (uint256 j; j < signers.length; ++j) weight += signers[j].weight;
        uint256 rest = share;
        for (uint256 j; j < signers.length; ++j) {
            uint256 part = (share * signers[j].weight) / weight;
            incomeOf[attestor][attestorPayees[signers[j].attestor]] += part;
            rest -= part;
        }
        incomeOf[attestor][attestorPayees[signers[0].attestor]] += rest;
        uncollected -= share;
        incomes[attestor] += share;
        _count(Count.Collections);
    }

    /// @dev What of an operator's income is its pool's, if anybody backs it.
    function _poolShareOf(uint256 operator, uint256 income) internal view returns (uint256) {
        Pool storage pool = pools[operator];
        return pool.active == 0 ? 0 : (income * StakeModel.shareBps(pool, clock)) / 10_000;
    }

    /// @dev Waits for an asset, and for those whose parts of its income run on.
    function _earn(uint256 asset, uint256 amount) internal {
        lineage[asset].income += amount;
        flows.toAssets += amount;
    }

    function _payFee(uint256 amount) internal {
        fees += amount;
        flows.toTreasury += amount;
    }

    // Batches

    /// @dev The next batch of some lane: of an epoch that has just ended, or (`part`) of the lane's last one. Mostly a lane that
    /// has licenses.
    function _draft(bool part) internal returns (Draft memory draft) {
        uint256 operator = _anyOperator();
        uint256 plan = _anyPlan();
        if (_draw(4) != 0) {
            License storage license = ledger[_licenseThat(_isChargeable) - 1];
            (operator, plan) = (license.operator, license.plan);
        }
        draft = _draftOf(operator, plan, part);
    }

    function _draftOf(uint256 operator, uint256 plan, bool part) internal returns (Draft memory draft) {
        if (_draw(4) != 0) _renewKeys(operator);
        uint256 version = _anyVersion(plan);
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
        header.versionId = _versionId(_assetOf(plan), version);
        // Numbers that were signed for and never settled stay unused.
        header.sequence = lane.sequence + 1 + uint64(_draw(8) == 0 ? _draw(3) : 0);
        _measure(header);
        draft.usages = _usages(first, plan, operator);
        draft.told = _tell(header, draft.usages);
        draft.signers = _quorum(plan);
        _seal(draft);
    }

    /// @dev A batch of an operator that charges one license a dollar, if its lane isn't past that epoch.
    function _chargeOne(uint256 id, uint256 operator, uint256 start, uint256 end, uint16 availabilityBps) internal {
        _chargeUnder(ledger[id - 1].plan, id, operator, start, end, availabilityBps);
    }

    function _chargeUnder(
        uint256 plan,
        uint256 id,
        uint256 operator,
        uint256 start,
        uint256 end,
        uint16 availabilityBps
    ) private {
        uint256 version = _anyVersion(plan);
        Lane memory lane = lanes[_laneKey(operator, plan, version)];
        if (lane.epochEnd > start || clock > end + WINDOW) return;
        Draft memory draft;
        BatchHeader memory header = draft.header;
        header.operatorId = OperatorId.wrap(uint24(operator));
        header.planId = PlanId.wrap(uint32(plan));
        header.versionId = _versionId(_assetOf(plan), version);
        header.sequence = lane.sequence + 1;
        (header.epochStart, header.epochEnd) = (uint40(start), uint40(end));
        (header.availabilityBps, header.samples) = (availabilityBps, 60);
        draft.usages = new Usage[](1);
        draft.usages[0] = Usage(id, 0, uint32(USD), 0, 0, 0);
        draft.told = _tell(header, draft.usages);
        draft.signers = _quorum(plan);
        _seal(draft);
        _settle(draft);
    }

    /// @dev Whether use of now may be charged to a license.
    function _isChargeable(uint256 id) internal view returns (bool) {
        License storage license = ledger[id - 1];
        return license.balance > 0 && !license.onVoucherRoad && _licenseStatus(id) == LicenseStatus.Running;
    }

    /// @dev Mostly one that may be used.
    function _anyVersion(uint256 plan) internal returns (uint256) {
        if (_assetOf(plan) != MODEL) return 1;
        uint256 count = recalledAt.length;
        uint256 start = _draw(count);
        if (_draw(12) == 0) return start + 1;
        for (uint256 i; i < count; ++i) {
            uint256 version = 1 + ((start + i) % count);
            if (_versionStatus(version) == VersionStatus.Usable) return version;
        }
        return start + 1;
    }

    /// @dev Up to a day long, and up to half a day old.
    function _epochAfter(uint256 last) private returns (uint40 start, uint40 end) {
        uint256 endsAt = clock - _draw(_draw(4) == 0 ? 12 hours : 1 minutes);
        if (endsAt <= last) endsAt = clock;
        uint256 startsAt = endsAt - _draw(_draw(4) == 0 ? EPOCH : 6 hours) - 1;
        if (_draw(8) == 0) startsAt = endsAt - EPOCH;
        return (uint40(startsAt < last ? last : startsAt), uint40(endsAt));
    }

    /// @dev Service that is good for most of the batches, and bad in some way for the others.
    function _measure(BatchHeader memory header) private {
        (header.availabilityBps, header.p95TtftMs, header.samples) = (10_000, 300, 60);
        uint256 kind = _draw(16);
        if (kind == 0) header.availabilityBps = 9_899;
        if (kind == 1) header.availabilityBps = 8_999;
        if (kind == 2) header.p95TtftMs = 801;
        if (kind == 3) header.p95TtftMs = 3_001;
        if (kind == 4) (header.availabilityBps, header.samples) = (0, 19);
        if (kind == 5) (header.availabilityBps, header.p95TtftMs, header.samples) = (9_000, 3_000, 20);
        if (kind == 6) header.samples = 20;
    }

    /// @dev Ascending from `first`: mostly the lane's own licenses, some of others', now and then one never bought.
    function _usages(uint256 first, uint256 plan, uint256 operator) private returns (Usage[] memory usages) {
        uint256 most = _draw(MOST_ENTRIES) + 1;
        usages = new Usage[](most);
        uint256 count;
        for (uint256 i; i < live.length && count < most; ++i) {
            License storage license = ledger[live[i] - 1];
            bool own = license.plan == plan && license.operator == operator;
            if (live[i] < first || _draw(own ? 8 : 16) >= (own ? 7 : 1)) continue;
            // Who can't be charged is mostly left out.
            if (!own || _isChargeable(live[i]) || _draw(4) == 0) usages[count++] = _usage(live[i]);
        }
        if (count == 0 || (count < most && _draw(8) == 0)) {
            usages[count++] = _usage(_draw(4) == 0 ? type(uint64).max : ledger.length + 1 + _draw(1_000));
        }
        assembly ("memory-safe") {
            mstore(usages, count)
        }
    }

    /// @dev Up to about two USD worth, of a few requests mostly; now and then nothing, or as much as an entry can hold.
    function _usage(uint256 id) private returns (Usage memory) {
        uint256 kind = _draw(48);
        uint256 most = type(uint32).max;
        if (kind == 0) return Usage(id, most, most, most, most, most);
        if (kind == 1) return Usage(id, 0, 0, 0, 0, 0);
        uint256 requests = _draw(_draw(4) == 0 ? 100 : 5);
        return Usage(id, requests, _draw(600_000), _draw(400_000), _draw(300_000), _draw(5_000_000));
    }

    /// @dev Packs the entries, sums them, plants a tree and has the signers sign.
    function _seal(Draft memory draft) internal view {
        BatchHeader memory header = draft.header;
        _total(draft);
        if (!_isTold(draft.usages, draft.told)) delete draft.told;
        header.count = uint64(draft.usages.length);
        // Where nobody knows a receipt, nobody can show a leaf.
        header.root = draft.told.isThere ? Trees.rootOf(_leavesOf(draft.usages, draft.told)) : keccak256(draft.entries);
        header.entriesHash = keccak256(draft.entries);
        draft.id = escrow.batchIdOf(header);
        draft.proof = _proof(draft.id, draft.signers);
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

    function _forecast(Draft memory draft) internal view returns (Forecast memory forecast) {
        BatchHeader memory header = draft.header;
        PlanTerms memory terms = plans[PlanId.unwrap(header.planId) - 1];
        uint256 count = draft.usages.length;
        Claim memory claim = Claim({
            plan: PlanId.unwrap(header.planId),
            operator: OperatorId.unwrap(header.operatorId),
            epochStart: header.epochStart,
            epochEnd: header.epochEnd,
            discountBps: Model.discountOf(terms.levels, header.availabilityBps, header.p95TtftMs, header.samples)
        });
        forecast.discountBps = claim.discountBps;
        forecast.amounts = new uint256[](count);
        forecast.statuses = new EntryStatus[](count);
        forecast.after_ = new License[](count);
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
        // Bad service that nobody pays for is no breach.
        forecast.breaches = claim.discountBps > 0 && forecast.charged > 0;
        forecast.jails = forecast.breaches && _isThird(claim.operator, claim.plan, claim.epochStart / EPOCH);
    }

    /// @dev A batch of that status from a random one on, or the number of batches if there is none.
    function _batchThat(BatchStatus status) internal returns (uint256) {
        uint256 count = batches.length;
        uint256 start = _draw(count);
        for (uint256 i; i < count; ++i) {
            if (_batchStatus((start + i) % count) == status) return (start + i) % count;
        }
        return count;
    }

    /// @dev The last that settled, if any did.
    function _lastBatch() internal view returns (Batch storage batch) {
        uint256 i = batches.length - 1;
        // A charge comes after its batch.
        while (batches[i].licenseId != 0) --i;
        return batches[i];
    }

    /// @dev Until when use of a version may be charged.
    function _usableUntil(VersionId versionId) internal view returns (uint256) {
        if (VersionId.unwrap(versionId) >> 32 != MODEL) return type(uint40).max;
        uint256 at = recalledAt[uint32(VersionId.unwrap(versionId)) - 1];
        return at == 0 ? type(uint40).max : at + Model.NOTICE;
    }
}
