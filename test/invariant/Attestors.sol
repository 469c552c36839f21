// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {ICommitteeAttestor} from "../../contracts/interfaces/ICommitteeAttestor.sol";
import {BatchHeader} from "../../contracts/interfaces/IUsageEscrow.sol";
import {PlanId} from "../../contracts/types/Ids.sol";
import {Count} from "./Ledger.sol";
import {Stakers} from "./Stakers.sol";
import {Machine, Verb} from "./Statuses.sol";
import {VM} from "./Vm.sol";

/// @title Committees: who signs, hands over, puts up bonds, loses them, and is paid
abstract contract Attestors is Stakers {
    /// @dev Of the first, and only, member of `lone`.
    uint256 internal constant LONE = 1 << 3;
    /// @dev Few enough that there is always a committee left that can sign.
    uint256 private constant MOST_EQUIVOCATIONS = 3;

    /// @dev The last call that announced a committee.
    bytes internal lastRotation;
    uint256 private _equivocations;

    /// @dev The present committee announces another one, in place of one that isn't in force yet.
    function rotate(uint256 seed) external attempt(seed) {
        uint256 present = _presentRotation();
        (Seat[] memory seats, uint64 threshold) = _anyCommittee();
        uint256 deadline = clock + _draw(1 days);
        bytes32 digest = committee.rotationHash(_membersOf(seats), threshold, deadline);
        uint256 signers = _quorumOf(present);
        bytes memory proof = _proof(digest, signers);
        if (_draw(8) == 0) _pass(_draw(2 days));
        // While they passed it round, another committee may have come into force.
        if (_presentRotation() != present) return;
        Refusals memory refusals;
        _unless(
            refusals,
            clock <= deadline,
            abi.encodeWithSelector(ICommitteeAttestor.RotationTooLate.selector, deadline)
        );
        _unless(
            refusals,
            _noteOfRotation(present, signers) != 0,
            abi.encodeWithSelector(ICommitteeAttestor.RotationNotSigned.selector, digest)
        );
        for (uint256 i; i < seats.length; ++i) _unlessTrue(refusals, seats[i].attestor);
        bytes memory call = abi.encodeCall(committee.rotate, (_membersOf(seats), threshold, deadline, proof));
        _announce(call, seats, threshold, refusals);
    }

    /// @dev By who is paid, mostly; a bond by anybody else covers nothing.
    function postBond(uint256 seed) external attempt(seed) {
        uint256 attestor = _draw(ATTESTORS);
        _postBond(attestor, _anyHolder(attestor), 1 + _draw(4));
    }

    /// @dev Not so many that nobody could sign any more, mostly.
    function thawBond(uint256 seed) external attempt(seed) {
        uint256 attestor = _draw(ATTESTORS);
        if (_draw(4) != 0 && _isSeated(attestor)) return _postBond(attestor, attestorPayees[attestor], 1 + _draw(4));
        _thawBond(attestor, _anyHolder(attestor));
    }

    function withdrawBond(uint256 seed) external attempt(seed) {
        uint256 start = _draw(ATTESTORS);
        for (uint256 i; i < ATTESTORS; ++i) {
            uint256 attestor = (start + i) % ATTESTORS;
            address holder = _anyHolder(attestor);
            uint256 readyAt = bonds[attestor][holder].readyAt;
            if (readyAt == 0) continue;
            if (readyAt >= clock) {
                if (_draw(4) == 0) _pass(readyAt - clock);
                _withdrawBond(attestor, holder);
                if (_draw(4) == 0) _pass(readyAt + 1 - clock);
            }
            return _withdrawBond(attestor, holder);
        }
        _thawBond(start, attestorPayees[start]);
    }

    /// @dev An attestor that signs two batches of one number. Whoever shows it is paid, and be it that attestor's own payee: it
    /// loses nine tenths all the same.
    function equivocate(uint256 seed) external attempt(seed) {
        uint256 attestor = _draw(ATTESTORS);
        address holder = _anyHolder(attestor);
        if (_equivocations == MOST_EQUIVOCATIONS || _isNeeded(attestor)) return _postBond(attestor, holder, 3);
        BatchHeader memory first;
        (first.sequence, first.planId) = (uint64(1 + _draw(9)), PlanId.wrap(uint32(1 + _draw(plans.length))));
        BatchHeader memory second = abi.decode(abi.encode(first), (BatchHeader));
        second.root = bytes32(1 + _draw(type(uint256).max - 1));
        _report(attestor, holder, _draw(2) == 0 ? attestorPayees[attestor] : OUTSIDER, first, second);
    }

    function withdrawIncome(uint256 seed) external attempt(seed) {
        uint256 start = _draw(2 * _earnerCount());
        for (uint256 i; i < 2 * _earnerCount(); ++i) {
            uint256 at = (start + i) % (2 * _earnerCount());
            address holder = at % 2 == 0 ? address(committee) : address(lone);
            if (incomeOf[holder][_earner(at / 2)] > 0) return _withdrawIncome(holder, _earner(at / 2));
        }
        _withdrawIncome(address(committee), _earner(start / 2));
    }

    // What the acts above are made of

    function _announce(bytes memory call, Seat[] memory seats, uint256 threshold, Refusals memory refusals) private {
        uint256 number = _presentRotation() + 1;
        _watch(Machine.Rotation, number);
        bytes memory result = _do(_anybody(), address(committee), call, refusals, "10: a rotation");
        if (refusals.count > 0) return;
        require(abi.decode(result, (uint256)) == number, "10: a rotation has another number");
        ++rotationNonce;
        lastRotation = call;
        if (rotations.length == number + 1) rotations.pop();
        Rotation storage rotation = rotations.push();
        for (uint256 i; i < seats.length; ++i) rotation.seats.push(seats[i]);
        (rotation.threshold, rotation.since) = (threshold, clock + EPOCH + 2 * WINDOW + 1 hours);
        _see(Machine.Rotation, number, Verb.Rotate);
        _requireRotation(number);
        _count(Count.Rotations);
    }

    /// @dev What is missing to as many units of bond.
    function _postBond(uint256 attestor, address holder, uint256 weight) internal {
        Bond storage bond = bonds[attestor][holder];
        uint256 amount = weight > bond.weight ? (weight - bond.weight) * BOND : 0;
        _mint(holder, amount, address(_attestorOf(attestor)));
        Refusals memory refusals;
        _unlessTrue(refusals, attestor);
        _unless(
            refusals,
            weight > bond.weight || (bond.readyAt > 0 && weight == bond.weight),
            abi.encodeWithSelector(ICommitteeAttestor.BondNotRaised.selector, _signer(attestor), weight, bond.weight)
        );
        bytes memory call = abi.encodeCall(ICommitteeAttestor.postBond, (_signer(attestor), uint16(weight)));
        bytes memory result = _bondCall(attestor, holder, Verb.PostBond, holder, call, refusals);
        if (refusals.count > 0) return;
        require(abi.decode(result, (uint256)) == amount, "7: a bond cost more or less than its weight");
        bonded[address(_attestorOf(attestor))] += amount;
        (bond.weight, bond.readyAt, bond.isSlashed) = (weight, 0, false);
        _requireBond(attestor, holder);
    }

    function _thawBond(uint256 attestor, address holder) internal {
        Bond storage bond = bonds[attestor][holder];
        Refusals memory refusals;
        _unlessBonded(refusals, attestor, holder);
        _unless(
            refusals,
            bond.readyAt == 0,
            abi.encodeWithSelector(ICommitteeAttestor.BondThawing.selector, _signer(attestor), bond.readyAt)
        );
        bytes memory call = abi.encodeCall(ICommitteeAttestor.thawBond, (_signer(attestor)));
        _bondCall(attestor, holder, Verb.ThawBond, holder, call, refusals);
        if (refusals.count == 0) bond.readyAt = clock + STAKE_THAW;
        _requireBond(attestor, holder);
    }

    function _withdrawBond(uint256 attestor, address holder) internal {
        Bond storage bond = bonds[attestor][holder];
        Refusals memory refusals;
        _unlessBonded(refusals, attestor, holder);
        _unless(
            refusals,
            bond.readyAt > 0 && clock > bond.readyAt,
            abi.encodeWithSelector(ICommitteeAttestor.BondNotThawed.selector, _signer(attestor), bond.readyAt)
        );
        bytes memory call = abi.encodeCall(ICommitteeAttestor.withdrawBond, (_signer(attestor), WALLET));
        bytes memory result = _bondCall(attestor, holder, Verb.WithdrawBond, holder, call, refusals);
        if (refusals.count > 0) return;
        _requireReceived(abi.decode(result, (uint256)), WALLET, bond.weight * BOND);
        bonded[address(_attestorOf(attestor))] -= bond.weight * BOND;
        delete bonds[attestor][holder];
        _requireBond(attestor, holder);
    }

    /// @dev A tenth to who reports, and the rest to the treasury.
    function _report(
        uint256 attestor,
        address holder,
        address reporter,
        BatchHeader memory first,
        BatchHeader memory second
    ) private {
        Bond storage bond = bonds[attestor][holder];
        address target = address(_attestorOf(attestor));
        Refusals memory refusals;
        _unlessBonded(refusals, attestor, holder);
        bytes memory call = _reportCall(attestor, holder, first, second);
        bytes memory result = _bondCall(attestor, holder, Verb.Report, reporter, call, refusals);
        if (refusals.count > 0) return;
        uint256 amount = bond.weight * BOND;
        require(abi.decode(result, (uint256)) == amount / 10, "6: a report was worth more than a tenth of the bond");
        bonds[attestor][holder] = Bond({weight: 0, readyAt: 0, isSlashed: true});
        if (!hasEquivocated[attestor]) ++_equivocations;
        hasEquivocated[attestor] = true;
        bonded[target] -= amount;
        incomes[target] += amount;
        flows.bondsLost += amount;
        incomeOf[target][reporter] += amount / 10;
        incomeOf[target][TREASURY] += amount - amount / 10;
        _requireBond(attestor, holder);
        _count(Count.Equivocations);
    }

    function _reportCall(
        uint256 attestor,
        address holder,
        BatchHeader memory first,
        BatchHeader memory second
    ) internal view returns (bytes memory) {
        return
            abi.encodeCall(
                ICommitteeAttestor.reportEquivocation,
                (
                    _signer(attestor),
                    holder,
                    first,
                    _signature(attestor, escrow.batchIdOf(first)),
                    second,
                    _signature(attestor, escrow.batchIdOf(second))
                )
            );
    }

    function _withdrawIncome(address holder, address payee) internal {
        uint256 due = incomeOf[holder][payee];
        Refusals memory refusals;
        _unless(refusals, due > 0, abi.encodeWithSelector(ICommitteeAttestor.IncomeEmpty.selector, payee));
        bytes memory call = abi.encodeCall(ICommitteeAttestor.withdraw, (WALLET));
        bytes memory result = _do(payee, holder, call, refusals, "7: an attestor's income");
        if (refusals.count > 0) return;
        _requireReceived(abi.decode(result, (uint256)), WALLET, due);
        incomes[holder] -= due;
        flows.attestorsPaid += due;
        incomeOf[holder][payee] = 0;
    }

    /// @dev An act on a bond, whose status may move by `verb` alone.
    function _bondCall(
        uint256 attestor,
        address holder,
        Verb verb,
        address sender,
        bytes memory call,
        Refusals memory refusals
    ) private returns (bytes memory result) {
        uint256 id = _bondId(attestor, holder);
        _watch(Machine.Bond, id);
        result = _do(sender, address(_attestorOf(attestor)), call, refusals, "7: a bond");
        _see(Machine.Bond, id, refusals.count == 0 ? verb : Verb.Nothing);
    }

    function _unlessBonded(Refusals memory refusals, uint256 attestor, address holder) private view {
        _unless(
            refusals,
            bonds[attestor][holder].weight > 0,
            abi.encodeWithSelector(ICommitteeAttestor.BondNone.selector, _signer(attestor), holder)
        );
    }

    /// @dev Who contradicted itself counts no more.
    function _unlessTrue(Refusals memory refusals, uint256 attestor) private view {
        _unless(
            refusals,
            !hasEquivocated[attestor],
            abi.encodeWithSelector(ICommitteeAttestor.SignerEquivocated.selector, _signer(attestor))
        );
    }

    // Who signs

    /// @dev One to three of those who may sit in it, and more than half of their weight to sign.
    function _anyCommittee() internal returns (Seat[] memory seats, uint64 threshold) {
        uint256 start = _draw(ATTESTORS);
        seats = new Seat[](1 + _draw(3));
        uint256 weight;
        uint256 count;
        for (uint256 i; i < ATTESTORS && count < seats.length; ++i) {
            uint256 attestor = (start + i) % ATTESTORS;
            if (attestor == 3 || (hasEquivocated[attestor] && _draw(16) != 0)) continue;
            seats[count] = Seat(attestor, 1 + _draw(3));
            weight += seats[count++].weight;
        }
        threshold = uint64(weight / 2 + 1);
        if (threshold < weight && _draw(3) == 0) ++threshold;
    }

    function _membersOf(Seat[] memory seats) internal view returns (ICommitteeAttestor.Member[] memory named) {
        named = new ICommitteeAttestor.Member[](seats.length);
        for (uint256 i; i < seats.length; ++i) named[i] = _member(seats[i].attestor, seats[i].weight);
    }

    /// @dev Enough attestors of a plan to vouch for a batch: of the committee in force, or now and then of the one before, whose
    /// time may be over. They mostly see to it that their bonds are there.
    function _quorum(uint256 plan) internal returns (uint256) {
        if (_isLone(plan)) {
            _cover(loneSeat);
            return LONE;
        }
        uint256 present = _presentRotation();
        Seat[] storage seats = rotations[present].seats;
        for (uint256 i; i < seats.length && !_canSign(present); ++i) _cover(seats[i]);
        return _quorumOf(present > 0 && _draw(8) == 0 ? present - 1 : present);
    }

    function _cover(Seat storage seat) private {
        if (_weightOf(seat) > 0 || hasEquivocated[seat.attestor] || _draw(8) == 0) return;
        address payee = attestorPayees[seat.attestor];
        uint256 present = bonds[seat.attestor][payee].weight;
        _postBond(seat.attestor, payee, present > seat.weight ? present : seat.weight);
    }

    /// @dev As much weight of a committee as it asks for, or some more; all of it if that isn't enough.
    function _quorumOf(uint256 number) internal returns (uint256 signers) {
        Rotation storage rotation = rotations[number];
        uint256 start = _draw(rotation.seats.length);
        uint256 weight;
        for (uint256 i; i < rotation.seats.length; ++i) {
            Seat storage seat = rotation.seats[(start + i) % rotation.seats.length];
            if (weight < rotation.threshold || _draw(3) == 0) signers |= 1 << seat.attestor;
            weight += _weightOf(seat);
        }
    }

    /// @dev The note by which an attestor says who signed: all of one committee whose signatures count, the one in force if
    /// it can be that. Zero is that it doesn't vouch.
    function _noteOf(uint256 plan, uint256 signers) internal view returns (uint48 note) {
        if (_isLone(plan)) return signers == LONE && _weightOf(loneSeat) > 0 ? 1 : 0;
        uint256 present = _presentRotation();
        note = _noteOfRotation(present, signers);
        if (note == 0 && present > 0 && _counts(present - 1)) note = _noteOfRotation(present - 1, signers);
    }

    /// @dev Members whose bonds don't cover them are passed over.
    function _noteOfRotation(uint256 number, uint256 signers) internal view returns (uint48) {
        Rotation storage rotation = rotations[number];
        uint256 bits;
        uint256 weight;
        for (uint256 i; i < rotation.seats.length; ++i) {
            Seat storage seat = rotation.seats[i];
            if ((signers >> seat.attestor) & 1 == 0) continue;
            signers ^= 1 << seat.attestor;
            if (_weightOf(seat) == 0) continue;
            bits |= 1 << i;
            weight += seat.weight;
        }
        return signers == 0 && weight >= rotation.threshold ? uint48((number << 32) | bits) : 0;
    }

    /// @dev The seats of a note, in their committee's order.
    function _signersOf(uint256 plan, uint48 note) internal view returns (Seat[] memory signers) {
        if (_isLone(plan)) {
            signers = new Seat[](1);
            signers[0] = loneSeat;
            return signers;
        }
        Seat[] memory seats = rotations[note >> 32].seats;
        uint256 count;
        signers = new Seat[](seats.length);
        for (uint256 i; i < seats.length; ++i) {
            if ((note >> i) & 1 == 1) signers[count++] = seats[i];
        }
        assembly ("memory-safe") {
            mstore(signers, count)
        }
    }

    /// @dev The proof by the attestors of a bit field.
    function _proof(bytes32 digest, uint256 mask) internal view returns (bytes memory) {
        bytes[] memory signers = new bytes[](ATTESTORS);
        bytes[] memory signatures = new bytes[](ATTESTORS);
        uint256 count;
        for (uint256 i; i < ATTESTORS; ++i) {
            if ((mask >> i) & 1 == 0) continue;
            (signers[count], signatures[count]) = (_signer(i), _signature(i, digest));
            ++count;
        }
        assembly ("memory-safe") {
            mstore(signers, count)
            mstore(signatures, count)
        }
        return abi.encode(signers, signatures);
    }

    function _signature(uint256 attestor, bytes32 digest) internal view returns (bytes memory) {
        (uint8 v, bytes32 r, bytes32 s) = VM.sign(attestorKeys[attestor], digest);
        return abi.encodePacked(r, s, v);
    }

    function _anyHolder(uint256 attestor) private returns (address) {
        return _draw(8) == 0 ? OUTSIDER : attestorPayees[attestor];
    }

    /// @dev Who may have earned something in a committee.
    function _earner(uint256 i) internal view returns (address) {
        if (i < ATTESTORS) return attestorPayees[i];
        return i == ATTESTORS ? TREASURY : OUTSIDER;
    }

    function _earnerCount() internal pure returns (uint256) {
        return ATTESTORS + 2;
    }

    /// @dev Whether those of a committee whose bonds cover them can sign for it.
    function _canSign(uint256 number) private view returns (bool) {
        Rotation storage rotation = rotations[number];
        uint256 weight;
        for (uint256 i; i < rotation.seats.length; ++i) weight += _weightOf(rotation.seats[i]);
        return weight >= rotation.threshold;
    }

    function _isSeated(uint256 attestor) private view returns (bool) {
        if (attestor == 3) return true;
        for (uint256 number = _presentRotation(); number < rotations.length; ++number) {
            Seat[] storage seats = rotations[number].seats;
            for (uint256 i; i < seats.length; ++i) {
                if (seats[i].attestor == attestor) return true;
            }
        }
        return false;
    }

    /// @dev Whether a committee could never sign any more without an attestor.
    function _isNeeded(uint256 attestor) private view returns (bool) {
        if (attestor == 3) return true;
        for (uint256 number = _presentRotation(); number < rotations.length; ++number) {
            Rotation storage rotation = rotations[number];
            uint256 weight;
            for (uint256 i; i < rotation.seats.length; ++i) {
                Seat storage seat = rotation.seats[i];
                if (seat.attestor != attestor && !hasEquivocated[seat.attestor]) weight += seat.weight;
            }
            if (weight < rotation.threshold) return true;
        }
        return false;
    }
}
