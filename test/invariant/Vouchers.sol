// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {PlanTerms} from "../../contracts/interfaces/ILicenseRegistry.sol";
import {KeyStatus} from "../../contracts/interfaces/IOperatorRegistry.sol";
import {
    EntryStatus,
    IUsageEscrow,
    LicenseStatus,
    VoucherKey,
    VoucherKeyStatus,
    VoucherStatus
} from "../../contracts/interfaces/IUsageEscrow.sol";
import {PlanId} from "../../contracts/types/Ids.sol";
import {Count} from "./Ledger.sol";
import {Licensees} from "./Licensees.sol";
import {Demand, License, Model, Shares} from "./Model.sol";
import {Pool} from "./StakeModel.sol";
import {Verb} from "./Statuses.sol";
import {VM} from "./Vm.sol";

/// @title Vouchers: the keys that sign them, and what anybody settles of them
abstract contract Vouchers is Licensees {
    uint256 private constant MOST_VOUCHERS = 6;
    /// @dev The order of P-256's base point: signatures have the lower of two possible `s`.
    uint256 private constant P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551;

    /// @dev Somebody's statement of what a license has spent in a term, signed by a key.
    struct Voucher {
        uint256 licenseId;
        uint256 operator;
        uint256 plan;
        uint256 generation;
        uint256 term;
        uint256 spent;
        /// The number of the key.
        uint256 key;
        bytes packed;
    }

    /// @dev Of a license's generation.
    struct Key {
        uint256 cap;
        uint256 endsAt;
    }

    mapping(uint256 licenseId => mapping(uint256 generation => mapping(uint256 key => Key))) internal keys;
    /// @dev All that were ever signed, for who tries them again.
    Voucher[] internal vouchers;

    function addVoucherKey(uint256 seed) external attempt(seed) {
        uint256 id = _licenseThat(_isInUse);
        uint256 key = _draw(KEYS);
        _addVoucherKey(id, key, _draw(4) == 0 ? _draw(10 * USD) : _draw(200 * USD));
    }

    /// @dev Mostly one of many.
    function revokeVoucherKey(uint256 seed) external attempt(seed) {
        uint256 id = _anyLicense();
        uint256 key = _draw(KEYS);
        if (_draw(4) != 0) return _settleVouchers(_anyVouchers());
        License storage license = ledger[id - 1];
        Key storage record = keys[id][license.generation][key];
        Refusals memory refusals;
        _unless(
            refusals,
            record.cap > 0,
            abi.encodeWithSelector(IUsageEscrow.VoucherKeyUnknown.selector, id, _keyBytes(key))
        );
        _unless(
            refusals,
            record.endsAt == 0,
            abi.encodeWithSelector(IUsageEscrow.VoucherKeyRevoked.selector, id, _keyBytes(key))
        );
        bytes memory call = abi.encodeCall(escrow.revokeVoucherKey, (_id(id), _keyBytes(key)));
        _doTo(id, Verb.Nothing, license.owner, call, refusals, "10: an end of a key");
        if (refusals.count == 0) record.endsAt = clock + WAIT;
        _requireKey(id, license.generation, key);
    }

    function settleVouchers(uint256 seed) external attempt(seed) {
        if (_onVoucherRoad() * 3 < live.length) _goOver(_licenseThat(_isInUse));
        _settleVouchers(_anyVouchers());
    }

    /// @dev Of what was signed before: what is left of it is charged, and nothing of it twice.
    function settleVouchersAgain(uint256 seed) external attempt(seed) {
        if (vouchers.length == 0) return _settleVouchers(_anyVouchers());
        Voucher[] memory again = new Voucher[](1);
        again[0] = vouchers[_draw(vouchers.length)];
        _settleVouchers(again);
    }

    // What the acts above are made of

    /// @dev To the voucher road, mostly as soon as may be.
    function _goOver(uint256 id) private {
        License storage license = ledger[id - 1];
        if (license.onVoucherRoad || !_isInUse(id)) return;
        if (!license.nextOnVoucherRoad) _changeService(id, license.operator, true);
        if (!license.nextOnVoucherRoad || _draw(4) == 0) return;
        if (clock <= license.serviceReadyAt) _pass(license.serviceReadyAt + 1 - clock);
        _applyServiceChange(id);
    }

    function _addVoucherKey(uint256 id, uint256 key, uint256 cap) internal {
        License storage license = ledger[id - 1];
        Key storage record = keys[id][license.generation][key];
        Refusals memory refusals;
        _unlessIn(refusals, id, IN_USE);
        _unless(
            refusals,
            record.endsAt == 0,
            abi.encodeWithSelector(IUsageEscrow.VoucherKeyRevoked.selector, id, _keyBytes(key))
        );
        _unless(
            refusals,
            cap > record.cap,
            abi.encodeWithSelector(IUsageEscrow.VoucherCapNotRaised.selector, cap, record.cap)
        );
        bytes memory call = abi.encodeCall(escrow.addVoucherKey, (_id(id), _keyBytes(key), uint56(cap)));
        _doTo(id, Verb.Nothing, license.owner, call, refusals, "10: a key");
        if (refusals.count == 0) record.cap = cap;
        _requireKey(id, license.generation, key);
    }

    /// @dev By anybody, by the operator's owner, or by a key of its, which mostly may sign.
    function _settleVouchers(Voucher[] memory batch) internal {
        if (batch.length == 0) return;
        (uint256 operator, uint256 plan) = (batch[0].operator, batch[0].plan);
        (address sender, bool isByOperator) = _anySender(operator);
        bytes memory packed;
        bytes memory outcomes;
        uint256 charged;
        for (uint256 i; i < batch.length; ++i) {
            packed = abi.encodePacked(packed, batch[i].packed);
            (uint256 amount, VoucherStatus status) = _claim(batch[i], isByOperator);
            outcomes = abi.encodePacked(
                outcomes,
                uint64(batch[i].licenseId),
                uint16(batch[i].term),
                uint56(amount),
                uint8(status)
            );
            charged += amount;
        }
        bytes memory due = abi.encode(charged, outcomes);
        bytes memory preview = abi.encodeCall(
            escrow.previewVouchers,
            (_operatorId(operator), PlanId.wrap(uint32(plan)), packed)
        );
        bytes memory result = _mustLand(sender, address(escrow), preview, "2: a preview of vouchers");
        require(keccak256(result) == keccak256(due), "2: a voucher will be charged more or less than was signed");
        bytes memory call = abi.encodeCall(
            escrow.settleVouchers,
            (_operatorId(operator), PlanId.wrap(uint32(plan)), packed)
        );
        result = _mustLand(sender, address(escrow), call, "2: vouchers");
        require(keccak256(result) == keccak256(due), "2: a voucher was charged more or less than was signed");
        for (uint256 i; i < batch.length; ++i) {
            if (batch[i].licenseId <= ledger.length) _requireAccount(batch[i].licenseId);
        }
        _bookVouchers(operator, plan, charged);
    }

    function _anySender(uint256 operator) private returns (address, bool isOperators) {
        uint256 kind = _draw(3);
        if (kind == 0) return (_anybody(), false);
        if (kind == 1) return (operatorOwners[operator - 1], true);
        uint256 key = _keyThat(operator, _draw(8) == 0 ? KeyStatus.Revoked : KeyStatus.Active);
        return (_signerOf(operator, key), _keyStatus(operator, key) == KeyStatus.Active);
    }

    /// @dev Divided at once, with nothing to attestors.
    function _bookVouchers(uint256 operator, uint256 plan, uint256 charged) private {
        _count(Count.Vouchers);
        if (charged == 0) return;
        _count(Count.Claims);
        PlanTerms memory terms = plans[plan - 1];
        terms.attestorBps = 0;
        Shares memory shares = Model.split(charged, 0, escrow.feeBps(), terms, false);
        uint256 forPool = _poolShareOf(operator, shares.operator);
        balances -= charged;
        flows.charged += charged;
        flows.toOperators += shares.operator - forPool;
        flows.toPools += forPool;
        _earn(_assetOf(plan), shares.publisher);
        _payFee(shares.fee);
        pools[operator].earnings += shares.operator - forPool;
        pools[operator].income += forPool;
        _requirePool(operator);
    }

    /// @dev What a voucher comes to, which the ledger has from then on.
    function _claim(Voucher memory voucher, bool isByOperator) private returns (uint256 amount, VoucherStatus status) {
        License memory license;
        if (voucher.licenseId <= ledger.length) license = ledger[voucher.licenseId - 1];
        uint256 before = license.balance;
        PlanTerms memory terms = plans[voucher.plan - 1];
        Demand memory demand;
        (demand.plan, demand.operator, demand.isByOperator) = (voucher.plan, voucher.operator, isByOperator);
        (demand.time, demand.term, demand.spent) = (clock, voucher.term, voucher.spent);
        (demand.keyStatus, demand.keyCap) = _keyOf(voucher, license);
        (license, amount, status) = Model.redeem(license, terms, demand);
        if (amount == 0) return (amount, status);
        require(amount <= before, "2: a license was charged beyond its balance");
        uint256 counted = voucher.term == license.term.number ? license.term.spent : license.earlier.spent;
        require(counted <= voucher.spent, "2: a license was charged beyond what its key signed");
        require(terms.cap == 0 || counted <= terms.cap, "2: a license was charged beyond its plan's cap");
        require(counted <= Model.capOf(license.capCode), "2: a license was charged beyond its owner's cap");
        ledger[voucher.licenseId - 1] = license;
    }

    /// @dev How far a voucher's key may go, and what else is the matter with it.
    function _keyOf(Voucher memory voucher, License memory license) private view returns (VoucherStatus, uint256) {
        bool isPresent = voucher.generation == license.generation;
        if (!isPresent && clock > generationEnds[voucher.licenseId][voucher.generation]) {
            return (VoucherStatus.GenerationEnded, 0);
        }
        Key storage key = keys[voucher.licenseId][voucher.generation][voucher.key];
        if (voucher.key >= KEYS || key.cap == 0) return (VoucherStatus.KeyUnknown, 0);
        if (key.endsAt != 0 && clock > key.endsAt) return (VoucherStatus.KeyRevoked, 0);
        return (VoucherStatus.Charged, key.cap);
    }

    /// @dev One or some of each of some licenses that share an operator and a plan, mostly on the voucher road.
    function _anyVouchers() internal returns (Voucher[] memory batch) {
        uint256 first = _licenseThat(_isOnVoucherRoad);
        (uint256 operator, uint256 plan) = (ledger[first - 1].operator, ledger[first - 1].plan);
        uint256 former = ledger[first - 1].earlierPlan;
        if (former != 0 && _draw(2) == 0) plan = former;
        if (_draw(16) == 0) operator = 3 - operator;
        if (_draw(16) == 0) plan = _anyPlan();
        batch = new Voucher[](MOST_VOUCHERS);
        uint256 count;
        for (uint256 i; i < live.length && count < MOST_VOUCHERS; ++i) {
            License storage license = ledger[live[i] - 1];
            bool isIt = live[i] == first;
            bool isLike = license.operator == operator && license.plan == plan && license.onVoucherRoad;
            if (!isIt && !(isLike && _draw(4) != 0) && _draw(16) != 0) continue;
            for (uint256 n = 1 + _draw(_draw(3) + 1); n > 0 && count < MOST_VOUCHERS; --n) {
                batch[count++] = _voucher(live[i], operator, plan);
            }
        }
        assembly ("memory-safe") {
            mstore(batch, count)
        }
    }

    /// @dev Mostly for what was used of the running term, by a key that may sign for it.
    function _voucher(uint256 id, uint256 operator, uint256 plan) internal returns (Voucher memory voucher) {
        License storage license = ledger[id - 1];
        (voucher.licenseId, voucher.operator, voucher.plan) = (id, operator, plan);
        (voucher.generation, voucher.term) = (license.generation, license.term.number);
        voucher.spent = license.term.spent + _draw(4 * USD);
        if (license.earlier.open && _draw(3) == 0) {
            voucher.term = license.earlier.number;
            voucher.spent = license.earlier.spent + _draw(4 * USD);
        } else if (clock >= license.term.endsAt && _draw(4) != 0) {
            uint256 ahead = 1 + (clock - license.term.endsAt) / plans[license.plan - 1].termPeriod;
            (voucher.term, voucher.spent) = (license.term.number + ahead, _draw(4 * USD));
        }
        if (_draw(16) == 0) voucher.term = _draw(license.term.number + 3);
        if (_draw(16) == 0) voucher.generation = _draw(license.generation + 2);
        if (_draw(16) == 0) voucher.spent = _draw(2) == 0 ? type(uint56).max : license.term.spent;
        voucher.key = _anyKey(id, license.generation);
        voucher.packed = _sign(voucher, _voucherDigest(voucher, block.chainid, address(escrow)));
        vouchers.push(voucher);
    }

    /// @dev Mostly one that is registered; now and then a stranger's.
    function _anyKey(uint256 id, uint256 generation) private returns (uint256 key) {
        key = _draw(KEYS);
        if (_draw(16) == 0) return KEYS;
        for (uint256 i; i < KEYS; ++i) {
            Key storage record = keys[id][generation][(key + i) % KEYS];
            if (record.cap > 0 && record.endsAt == 0) return (key + i) % KEYS;
        }
        if (_isInUse(id) && keys[id][generation][key].endsAt == 0) _addVoucherKey(id, key, 100 * USD);
    }

    /// @dev As it goes into a call: the last of the keys that may be registered is a P-256 key.
    function _sign(Voucher memory voucher, bytes32 digest) internal pure returns (bytes memory) {
        bytes memory head = abi.encodePacked(
            uint8(voucher.key == KEYS - 1 ? 1 : 0),
            uint64(voucher.licenseId),
            uint16(voucher.generation),
            uint16(voucher.term),
            uint56(voucher.spent)
        );
        if (voucher.key == KEYS - 1) {
            (bytes32 pr, bytes32 ps) = VM.signP256(P256_KEY, sha256(abi.encodePacked(digest)));
            if (uint256(ps) > P256_ORDER / 2) ps = bytes32(P256_ORDER - uint256(ps));
            return abi.encodePacked(head, _keyBytes(voucher.key), pr, ps);
        }
        (uint8 v, bytes32 r, bytes32 s) = VM.sign(_voucherKey(voucher.key), digest);
        return abi.encodePacked(head, r, bytes32(uint256(s) | (uint256(v - 27) << 255)));
    }

    function _voucherDigest(Voucher memory voucher, uint256 chainId, address verifier) internal pure returns (bytes32) {
        bytes32 typehash = keccak256(
            "Voucher(uint64 licenseId,uint24 operatorId,uint16 generation,uint16 term,uint56 spent)"
        );
        bytes32 structHash = keccak256(
            abi.encode(typehash, voucher.licenseId, voucher.operator, voucher.generation, voucher.term, voucher.spent)
        );
        return _escrowDigest(structHash, chainId, verifier);
    }

    /// @dev A key as it is registered.
    function _keyBytes(uint256 key) internal pure returns (bytes memory) {
        if (key != KEYS - 1) return abi.encodePacked(VM.addr(_voucherKey(key)));
        (uint256 x, uint256 y) = VM.publicKeyP256(P256_KEY);
        return abi.encodePacked(x, y);
    }

    function _voucherKey(uint256 key) private pure returns (uint256) {
        return FIRST_VOUCHER_KEY + key;
    }

    function _requireKey(uint256 id, uint256 generation, uint256 key) internal view {
        Key memory due = keys[id][generation][key];
        VoucherKeyStatus dueStatus;
        if (due.cap > 0) {
            uint256 ends = generationEnds[id][generation];
            if (generation != ledger[id - 1].generation && (due.endsAt == 0 || ends < due.endsAt)) due.endsAt = ends;
            dueStatus = clock <= due.endsAt ? VoucherKeyStatus.Ending : VoucherKeyStatus.Ended;
            if (due.endsAt == 0) dueStatus = VoucherKeyStatus.Active;
        }
        (VoucherKeyStatus status, VoucherKey memory record) = escrow.voucherKeyOf(
            _id(id),
            uint16(generation),
            _keyBytes(key)
        );
        require(
            record.cap == due.cap && record.endsAt == due.endsAt && status == dueStatus,
            "10: a key may sign for more or longer than its owner said"
        );
    }

    function _onVoucherRoad() private view returns (uint256 count) {
        for (uint256 i; i < live.length; ++i) {
            if (_isOnVoucherRoad(live[i])) ++count;
        }
    }

    function _isOnVoucherRoad(uint256 id) internal view returns (bool) {
        License storage license = ledger[id - 1];
        return license.balance > 0 && license.onVoucherRoad;
    }
}
