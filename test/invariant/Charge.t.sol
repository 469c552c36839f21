// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {ChargeTerms, PlanTerms, Rates} from "../../contracts/interfaces/ILicenseRegistry.sol";
import {BatchHeader, EntryStatus} from "../../contracts/interfaces/IUsageEscrow.sol";
import {Tariff, UsageCharge} from "../../contracts/libraries/UsageCharge.sol";
import {UsageEntry, UsageEntryLib} from "../../contracts/libraries/UsageEntry.sol";
import {Account, AccountLib, Aside} from "../../contracts/types/Account.sol";
import {OperatorId, PlanId} from "../../contracts/types/Ids.sol";
import {Claim, License, Model, Term, Usage} from "./Model.sol";

/// @title One charge to one account, over the whole range of every number in it
contract ChargeTest {
    using UsageCharge for Tariff;

    /// @dev What an account says, a field at a time.
    struct Fields {
        uint32 plan;
        uint24 operator;
        uint64 balance;
        uint56 spent;
        uint8 capCode;
        uint16 term;
        uint32 expiresAt;
        uint16 generation;
        bool onVoucherRoad;
        bool hasAside;
        bool isRenewing;
        bool isClosed;
    }

    /// @dev What a fuzzer makes of a charge.
    struct Case {
        uint32 plan;
        uint24 operator;
        uint64 balance;
        uint56 spent;
        uint8 capCode;
        uint16 generation;
        uint16 term;
        uint32 termStartedAt;
        uint32 termPeriod;
        bool renewable;
        bool hasMinimum;
        bool onVoucherRoad;
        uint56 cap;
        Rates rates;
        uint16 discountBps;
        uint32 epochStart;
        uint32 epochPeriod;
        uint32[5] meters;
        uint8 twist;
        /// Of what stands beside the account: nothing, a stop, an earlier term, or both.
        uint8 beside;
        uint32 stoppedAt;
        uint32 pause;
        uint56 earlierSpent;
    }

    /// @dev An account does as a struct would, whatever is done to it in whatever order: no field touches another.
    function testFuzz_AnAccountIsAStruct(Fields memory fields, uint64[16] calldata acts) external pure {
        Account account = _accountOf(fields);
        _requireSame(account, fields);
        for (uint256 i; i < acts.length; ++i) {
            uint256 kind = acts[i] % 9;
            uint64 value = acts[i] / 9;
            if (kind == 0) {
                fields.balance = value;
                account = account.withBalance(value);
            } else if (kind == 1) {
                fields.capCode = uint8(value);
                account = account.withCapCode(uint8(value));
            } else if (kind == 2) {
                fields.generation = uint16(value);
                account = account.withGeneration(uint16(value));
            } else if (kind == 3) {
                (fields.balance, fields.generation) = (type(uint64).max, type(uint16).max);
                account = account.withBalance(type(uint64).max).withGeneration(type(uint16).max);
            } else if (kind == 6) {
                (fields.operator, fields.onVoucherRoad) = (uint24(value), value >> 63 == 1);
                account = account.withService(OperatorId.wrap(uint24(value)), value >> 63 == 1);
            } else if (kind == 7) {
                (fields.hasAside, fields.isRenewing) = (value & 1 == 1, value & 2 == 2);
                fields.isClosed = value & 4 == 4;
                account = account.withAside(fields.hasAside).withRenewing(fields.isRenewing);
                account = account.withClosed(fields.isClosed);
            } else if (kind == 8) {
                Account before = account.inEndedTerm(uint32(value), uint56(value >> 8));
                Fields memory past = abi.decode(abi.encode(fields), (Fields));
                (past.expiresAt, past.spent) = (uint32(value), uint56(value >> 8));
                past.term = fields.term == 0 ? type(uint16).max : fields.term - 1;
                _requireSame(before, past);
            } else if (kind == 4) {
                uint256 room = type(uint56).max - fields.spent;
                if (room > fields.balance) room = fields.balance;
                uint256 amount = value % 4 == 0 ? room : value % (room + 1);
                fields.balance -= uint64(amount);
                fields.spent += uint56(amount);
                account = account.charged(amount);
            } else {
                uint256 terms = value % 70_000;
                (fields.term, fields.spent) = (uint16((fields.term + terms) % 2 ** 16), 0);
                fields.expiresAt = uint32(value >> 20);
                account = account.renewed(terms, fields.expiresAt);
            }
            _requireSame(account, fields);
        }
    }

    /// @dev A charge is what the model says, to the unit, with the highest meters, rates, balances and caps.
    function testFuzz_AChargeIsTheModels(Case memory c) external view {
        _bound(c);
        License memory license = _licenseOf(c);
        PlanTerms memory terms;
        (terms.rates, terms.cap, terms.termPeriod, terms.renewable) = (c.rates, c.cap, c.termPeriod, c.renewable);
        terms.minimumSpend = c.hasMinimum ? 1 : 0;
        Claim memory claim = Claim({
            plan: c.twist == 1 ? uint256(c.plan) ^ 1 : c.plan,
            operator: c.twist == 2 ? uint256(c.operator) ^ 1 : c.operator,
            epochStart: c.epochStart,
            epochEnd: uint256(c.epochStart) + c.epochPeriod,
            discountBps: c.discountBps
        });
        Usage memory usage = Usage(0, c.meters[0], c.meters[1], c.meters[2], c.meters[3], c.meters[4]);

        Account before = _accountOf(_fieldsOf(license));
        Aside memory aside = _asideOf(license);
        (Account account, uint256 amount, EntryStatus status) = this.chargeTo(before, aside, terms, claim, usage);
        uint256 earlier = license.earlier.spent;
        (License memory expected, uint256 due, EntryStatus why) = Model.charge(license, terms, claim, usage);
        require(amount == due, "2: a charge isn't the model's");
        require(status == why, "2: a status isn't the model's");
        _requireSame(account, _fieldsOf(expected));
        if (claim.epochStart < expected.earlier.endsAt) earlier += due;
        require(expected.earlier.spent == earlier, "2: an earlier term's spending isn't what was charged in it");
        require(account.balance() + amount == before.balance(), "7: a charge isn't what left the balance");
    }

    /// @dev A code's cap is the model's, and higher codes are higher caps.
    function testFuzz_ACapCodeIsTheModels(uint8 code) external pure {
        require(AccountLib.capOf(code, Model.UNIT) == Model.capOf(code), "2: a code stands for another cap");
        if (code > 1) {
            require(AccountLib.capOf(code, 1) > AccountLib.capOf(code - 1, 1), "2: a higher code is a lower cap");
        }
    }

    function chargeTo(
        Account account,
        Aside memory aside,
        PlanTerms calldata terms,
        Claim calldata claim,
        Usage calldata usage
    ) external view returns (Account, uint256, EntryStatus) {
        BatchHeader memory header;
        header.operatorId = OperatorId.wrap(uint24(claim.operator));
        header.planId = PlanId.wrap(uint32(claim.plan));
        (header.epochStart, header.epochEnd) = (uint40(claim.epochStart), uint40(claim.epochEnd));
        Tariff memory tariff = this.tariffOf(header, terms, claim.discountBps);
        (uint256 even, uint256 odd) = this.entryOf(Model.packed(usage)).lanes();
        uint256 price = tariff.priceOf(even, odd);
        if (tariff.isPlain(account, price)) return (account.charged(price), price, EntryStatus.Charged);
        return account.hasAside() ? tariff.chargeBeside(account, aside, price) : tariff.chargeTo(account, price);
    }

    function tariffOf(
        BatchHeader calldata header,
        PlanTerms calldata terms,
        uint256 discountBps
    ) external pure returns (Tariff memory) {
        ChargeTerms memory charged;
        (charged.rates, charged.cap, charged.minimumSpend) = (terms.rates, terms.cap, terms.minimumSpend);
        (charged.termPeriod, charged.renewable) = (terms.termPeriod, terms.renewable);
        return UsageCharge.tariffOf(header, charged, discountBps, Model.UNIT);
    }

    function entryOf(bytes calldata entries) external pure returns (UsageEntry) {
        uint256 offset;
        assembly ("memory-safe") {
            offset := entries.offset
        }
        return UsageEntryLib.at(offset);
    }

    /// @dev Into what the registries and the escrow let happen, with the edges of terms and epochs more often than chance.
    function _bound(Case memory c) private pure {
        c.plan = c.plan == 0 ? 1 : c.plan;
        c.discountBps %= 9_501;
        c.termPeriod = 1 days + (c.termPeriod % 3_649 days);
        c.epochPeriod = 1 + (c.epochPeriod % 7 days);
        // Through 2096, so that terms end while an expiry has 32 bits.
        c.termStartedAt %= 4_000_000_000 - 3_650 days;
        uint256 end = uint256(c.termStartedAt) + c.termPeriod;
        uint256[6] memory edges = [
            uint256(c.termStartedAt),
            c.termStartedAt < c.epochPeriod ? 0 : c.termStartedAt - c.epochPeriod,
            end,
            end == 0 ? 0 : end - 1,
            end + c.termPeriod,
            c.epochStart
        ];
        uint256 start = edges[(c.twist >> 3) % 6];
        // At most fifty terms on: the model counts them one by one.
        uint256 latest = end + 50 * uint256(c.termPeriod);
        if (latest > type(uint32).max - c.termPeriod) latest = end;
        c.epochStart = uint32(start > latest ? latest : start);
        c.term %= 60_000;
        c.twist %= 8;
        c.pause = c.twist < 4 ? 0 : c.pause % 100 days;
        // Now and then a stop or an earlier term's end at the epoch's very start.
        if (c.twist == 3) c.stoppedAt = c.epochStart;
        if (c.twist == 5 && c.epochStart <= c.termStartedAt) c.pause = c.termStartedAt - c.epochStart;
        bool hasRoom = c.termStartedAt >= uint256(c.pause) + c.termPeriod;
        if (c.term == 0 || !hasRoom) c.beside &= 1;
    }

    function _licenseOf(Case memory c) private pure returns (License memory license) {
        (license.bought, license.renews) = (true, true);
        (license.plan, license.operator, license.onVoucherRoad) = (c.plan, c.operator, c.onVoucherRoad);
        (license.balance, license.capCode, license.generation) = (c.balance, c.capCode, c.generation);
        license.term = Term(true, c.term, c.termStartedAt, uint256(c.termStartedAt) + c.termPeriod, c.spent);
        if (c.beside & 1 == 1) license.stoppedAt = c.stoppedAt;
        if (c.beside & 2 == 0) return license;
        uint256 endsAt = c.termStartedAt - c.pause;
        license.earlier = Term(true, c.term - 1, endsAt - c.termPeriod, endsAt, c.earlierSpent);
    }

    function _asideOf(License memory license) private pure returns (Aside memory) {
        return
            Aside({
                stoppedAt: uint40(license.stoppedAt),
                isEnded: false,
                endedAt: uint40(license.earlier.endsAt),
                endedSpent: uint56(license.earlier.spent),
                nextPlanId: PlanId.wrap(0),
                formerPlanId: PlanId.wrap(0)
            });
    }

    function _fieldsOf(License memory license) private pure returns (Fields memory) {
        return
            Fields({
                plan: uint32(license.plan),
                operator: uint24(license.operator),
                balance: uint64(license.balance),
                spent: uint56(license.term.spent),
                capCode: uint8(license.capCode),
                term: uint16(license.term.number),
                expiresAt: uint32(license.term.endsAt),
                generation: uint16(license.generation),
                onVoucherRoad: license.onVoucherRoad,
                hasAside: license.stoppedAt != 0 || license.earlier.open,
                isRenewing: license.renews,
                isClosed: !license.term.open
            });
    }

    function _accountOf(Fields memory f) private pure returns (Account account) {
        account = AccountLib.opened(PlanId.wrap(f.plan), OperatorId.wrap(f.operator), 0, f.capCode);
        account = account.renewed(f.term, f.expiresAt).withGeneration(f.generation);
        account = account.withService(OperatorId.wrap(f.operator), f.onVoucherRoad).withAside(f.hasAside);
        account = account.withRenewing(f.isRenewing).withClosed(f.isClosed);
        // What was spent was once a balance.
        return account.withBalance(f.spent).charged(f.spent).withBalance(f.balance);
    }

    function _requireSame(Account account, Fields memory f) private pure {
        require(PlanId.unwrap(account.planId()) == f.plan, "2: a plan was disturbed");
        require(OperatorId.unwrap(account.operatorId()) == f.operator, "2: an operator was disturbed");
        require(account.balance() == f.balance, "2: a balance was disturbed");
        require(account.spent() == f.spent, "2: spending was disturbed");
        require(account.capCode() == f.capCode, "2: a cap was disturbed");
        require(account.term() == f.term, "2: a term was disturbed");
        require(account.expiresAt() == f.expiresAt, "2: an expiry was disturbed");
        require(account.generation() == f.generation, "2: a generation was disturbed");
        require(account.onVoucherRoad() == f.onVoucherRoad, "2: a road was disturbed");
        require(account.hasAside() == f.hasAside, "2: what stands beside an account was disturbed");
        require(account.isRenewing() == f.isRenewing, "2: a renewal was disturbed");
        require(account.isClosed() == f.isClosed, "2: a closing was disturbed");
    }
}
