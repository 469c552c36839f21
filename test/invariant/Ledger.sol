// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {IPerformanceStaking} from "../../contracts/interfaces/IPerformanceStaking.sol";
import {ICommitteeAttestor} from "../../contracts/interfaces/ICommitteeAttestor.sol";
import {BatchHeader, BatchStatus, IUsageEscrow} from "../../contracts/interfaces/IUsageEscrow.sol";
import {Bps} from "../../contracts/libraries/Bps.sol";
import {LicenseId, OperatorId, PlanId, VersionId} from "../../contracts/types/Ids.sol";
import {License, Model, Term} from "./Model.sol";
import {Market} from "./Market.sol";

/// @title What everybody is owed, kept beside the contracts and compared with them
/// @dev Each check quotes the number of the invariant in DESIGN §6 that it holds the contracts to; README.md lists them.
abstract contract Ledger is Market {
    struct Batch {
        bytes32 id;
        BatchHeader header;
        bytes entries;
        bytes proof;
        uint256 charged;
        uint256 discountBps;
        uint256 feeBps;
        uint256 releasableAt;
        uint48 signers;
        bool earnsBonus;
        /// None, Held, Released or Collected.
        BatchStatus status;
    }

    struct Lane {
        uint64 sequence;
        uint40 epochStart;
        uint40 epochEnd;
        uint64 lastLicense;
    }

    struct Pool {
        uint256 stake;
        uint256 shares;
        uint256 thawingShares;
        uint256 thawReadyAt;
        uint256 inFlight;
        /// By how much a slash, and nothing else, left the stake below what is in flight.
        uint256 shortfall;
        uint256 bonus;
        uint256 jailedUntil;
        uint256 jailings;
    }

    /// @dev An operator's breaches under one plan, a day at a time.
    struct Breaches {
        mapping(uint256 day => bool) on;
        uint256 lastDay;
        uint256 punishedThrough;
    }

    struct Sales {
        uint256 sold;
        bool closed;
    }

    /// @dev A committee: the numbers of its attestors in `attestorKeys`, in its order.
    struct Rotation {
        uint256[] members;
        uint256 threshold;
        uint256 since;
    }

    /// @dev Currency units over the life of the market.
    struct Flows {
        uint256 deposited;
        uint256 refunded;
        uint256 charged;
        uint256 closed;
        uint256 upfrontsPaid;
        uint256 upfrontsReturned;
        uint256 upfrontsReleased;
        uint256 toOperators;
        uint256 toPublishers;
        uint256 toAttestors;
        uint256 toTreasury;
        uint256 toPools;
        uint256 earningsPaid;
        uint256 feesPaid;
        uint256 bonusesPaid;
        uint256 incomePaid;
    }

    /// @dev What came of the calls, and how often the rarer things happened.
    struct Tally {
        uint256 landed;
        uint256 refused;
        uint256 idle;
        uint256 attacks;
        uint256 settlements;
        uint256 charges;
        uint256 releases;
        uint256 collections;
        uint256 withdrawals;
        uint256 renewals;
        uint256 closings;
        uint256 sales;
        uint256 recalls;
        uint256 rotations;
        uint256 jailings;
        uint256 governed;
    }

    /// @dev Of license `i + 1`.
    License[] internal ledger;
    /// @dev Licenses that have money or may be charged.
    uint256[] internal live;
    Batch[] internal batches;
    mapping(bytes32 batchId => bool) internal settled;
    mapping(bytes32 key => Lane) internal lanes;
    mapping(uint256 operator => Pool) internal pools;
    mapping(uint256 operator => mapping(uint256 plan => Breaches)) internal breaches;
    /// @dev Plans that an operator doesn't serve any more.
    mapping(uint256 operator => mapping(uint256 plan => bool)) internal refused;
    mapping(uint256 plan => Sales) internal sales;
    /// @dev When version `i + 1` was recalled; 0 is never.
    uint256[] internal recalledAt;
    /// @dev The same without those that weren't, in their order.
    uint256[] internal recalls;
    /// @dev Of `committee`.
    Rotation[] internal rotations;
    uint256 internal rotationNonce;
    /// @dev A plan of the model's that no operator serves; 0 is none.
    uint256 internal trapPlan;

    /// @dev What waits in the escrow: balances; upfront prices; charges that are held; attestors' shares not collected;
    /// earnings; fees.
    uint256 internal balances;
    uint256 internal upfronts;
    uint256 internal held;
    uint256 internal uncollected;
    uint256 internal earned;
    uint256 internal fees;
    mapping(address payee => uint256) internal earnings;
    /// @dev What waits in a committee, in all and for each payee.
    mapping(address attestor => uint256) internal incomes;
    mapping(address attestor => mapping(address payee => uint256)) internal incomeOf;
    /// @dev Of slashes.
    mapping(address beneficiary => uint256) internal proceeds;
    mapping(address holder => uint256) internal donations;

    Flows internal flows;
    Tally internal tally;

    constructor() {
        for (uint256 i; i < FIRST_VERSIONS; ++i) recalledAt.push();
        Rotation storage first = rotations.push();
        for (uint256 i; i < 3; ++i) first.members.push(i);
        (first.threshold, first.since) = (2, clock);
    }

    /// @dev What holds between any two calls: every sum, both pools, and one of each of the many in turn. A handler has looked at
    /// what it touched.
    function _requireSums() internal view virtual {
        uint256 turn = _calls();
        _requireSolvency();
        _requireConservation();
        for (uint256 i = 1; i <= OPERATORS; ++i) _requirePool(i);
        _requireAccount(1 + (turn % ledger.length));
        _requireLicense(1 + (turn % ledger.length));
        _requireLane(1 + (turn % OPERATORS), 1 + (turn % plans.length), 1 + ((turn / 6) % recalledAt.length));
        if (batches.length > 0) _requireBatch(batches[turn % batches.length]);
        require(escrow.feeBps() <= Bps.MAX_FEE, "11: the fee is above its bound");
    }

    /// @dev Whether everything is as it should be that may still change.
    function _requireAll() internal view virtual {
        _requireSums();
        for (uint256 i; i < live.length; ++i) _requireAccount(live[i]);
        for (uint256 i; i < live.length; ++i) _requireLicense(live[i]);
        _requirePayees();
        for (uint256 i; i <= rotations.length; ++i) _requireRotation(i);
    }

    function _requireSolvency() internal view {
        require(
            currency.balanceOf(address(escrow)) == _escrowed() + donations[address(escrow)],
            "1: the escrow holds more or less than it owes"
        );
        uint256 stakes = pools[1].stake + pools[2].stake;
        require(
            currency.balanceOf(address(staking)) ==
                stakes + proceeds[BENEFICIARY] + proceeds[TREASURY] + donations[address(staking)],
            "1: the staking contract holds more or less than it owes"
        );
        require(
            currency.balanceOf(address(committee)) == incomes[address(committee)] + donations[address(committee)] &&
                currency.balanceOf(address(lone)) == incomes[address(lone)] + donations[address(lone)],
            "1: a committee holds more or less than it owes"
        );
    }

    function _requireAccount(uint256 id) internal view {
        License memory license = ledger[id - 1];
        IUsageEscrow.AccountView memory account = escrow.accountOf(_id(id));
        require(account.balance == license.balance, "2: a balance isn't what was paid in less what was due");
        require(
            account.spent == license.term.spent && account.endedSpent == license.earlier.spent,
            "2: a license's spending differs from what was charged in its term"
        );
        require(
            account.term == license.term.number &&
                account.expiresAt == license.term.endsAt &&
                account.endedAt == license.earlier.endsAt &&
                account.isClosed != license.term.open,
            "2: a term is another one"
        );
        require(
            PlanId.unwrap(account.planId) == license.plan &&
                OperatorId.unwrap(account.operatorId) == license.operator &&
                account.onVoucherRoad == license.onVoucherRoad,
            "2: a license has another plan, operator or road"
        );
        require(
            OperatorId.unwrap(account.nextOperatorId) == license.nextOperator &&
                account.nextOnVoucherRoad == license.nextOnVoucherRoad &&
                account.serviceChangeReadyAt == license.serviceReadyAt,
            "2: an announced operator or road is another one"
        );
        require(account.capCode == license.capCode, "2: a licensee's cap is another one");
        require(
            account.capCutCode == license.capCutCode && account.capCutReadyAt == license.capCutReadyAt,
            "2: an announced cap is another one"
        );
        require(
            account.stoppedAt == license.stoppedAt && account.isEnded == license.ended,
            "2: a license was stopped at another time"
        );
        require(
            account.generation == license.generation && account.renews == license.renews,
            "10: a generation or a renewal is another one"
        );
        require(
            account.thawing == license.thawing && account.thawReadyAt == license.thawReadyAt,
            "4: a thaw is another one"
        );
    }

    /// @dev What a license's account doesn't say.
    function _requireLicense(uint256 id) internal view {
        License storage license = ledger[id - 1];
        require(licenses.ownerOf(id) == license.owner, "4: a license has another owner");
        require(licenses.movableAt(_id(id)) == license.movableAt, "4: a license may be moved at another time");
        require(escrow.committedOf(_id(id)) == _committed(id), "4: what is committed isn't what terms still owe");
        IUsageEscrow.Upfront memory upfront = escrow.upfrontOf(_id(id));
        require(
            upfront.amount == license.upfront &&
                upfront.paidAt == license.upfrontPaidAt &&
                upfront.feeBps == license.upfrontFeeBps,
            "7: an upfront price isn't what was paid"
        );
    }

    function _requireLane(uint256 operator, uint256 plan, uint256 version) internal view {
        if (plan == trapPlan) return;
        Lane memory lane = lanes[_laneKey(operator, plan, version)];
        IUsageEscrow.Lane memory actual = escrow.laneOf(
            OperatorId.wrap(uint24(operator)),
            PlanId.wrap(uint32(plan)),
            _versionId(version)
        );
        require(
            actual.sequence == lane.sequence &&
                actual.epochStart == lane.epochStart &&
                actual.epochEnd == lane.epochEnd &&
                actual.lastLicense == lane.lastLicense,
            "3: a lane isn't where its last batch left it"
        );
    }

    function _requireBatch(Batch storage batch) internal view {
        IUsageEscrow.Batch memory actual = escrow.batchOf(batch.id);
        require(actual.status == batch.status, "9: a batch's status is another one");
        require(
            OperatorId.unwrap(actual.operatorId) == OperatorId.unwrap(batch.header.operatorId) &&
                PlanId.unwrap(actual.planId) == PlanId.unwrap(batch.header.planId) &&
                actual.charged == batch.charged &&
                actual.discountBps == batch.discountBps &&
                actual.feeBps == batch.feeBps &&
                actual.signers == batch.signers &&
                actual.earnsBonus == batch.earnsBonus &&
                actual.releasableAt == batch.releasableAt,
            "7: a batch's record isn't what was settled"
        );
    }

    function _requirePool(uint256 operator) internal view {
        Pool memory pool = pools[operator];
        IPerformanceStaking.Pool memory actual = staking.poolOf(OperatorId.wrap(uint24(operator)));
        require(actual.inFlight == pool.inFlight, "5: in flight isn't what is charged and not released");
        require(actual.stake == pool.stake, "6: a stake isn't what was put in less what was taken out");
        require(
            actual.shares == pool.shares && actual.thawingShares == pool.thawingShares,
            "6: a pool's shares aren't its holders'"
        );
        require(
            actual.jailedUntil == pool.jailedUntil && actual.jailings == pool.jailings,
            "6: an operator is in jail for another time than its breaches earned"
        );
        require(escrow.bonusOf(OperatorId.wrap(uint24(operator))) == pool.bonus, "7: a bonus went elsewhere");
        require(
            pool.inFlight <= pool.stake + pool.shortfall,
            "5: in flight is above the stake, and no slash has left it there"
        );
    }

    /// @dev One committee of those that were announced, or the next one that wasn't.
    function _requireRotation(uint256 number) internal view {
        require(committee.presentRotation() == _presentRotation(), "10: another committee is in force");
        require(committee.rotationNonce() == rotationNonce, "10: a committee was announced once too often");
        ICommitteeAttestor.Rotation memory actual = committee.rotationOf(number);
        Rotation memory rotation;
        if (number < rotations.length) rotation = rotations[number];
        require(
            actual.threshold == rotation.threshold &&
                actual.since == rotation.since &&
                actual.members.length == rotation.members.length,
            "10: a committee isn't the one that was announced"
        );
        for (uint256 i; i < rotation.members.length; ++i) {
            require(
                keccak256(abi.encode(actual.members[i])) == keccak256(abi.encode(_member(rotation.members[i]))),
                "10: a committee has another member"
            );
        }
    }

    /// @dev Nothing is made and nothing is lost on the way from a deposit to its payees.
    function _requireConservation() internal view {
        require(
            flows.deposited + flows.upfrontsReturned == balances + flows.refunded + flows.charged + flows.closed,
            "7: deposits went elsewhere"
        );
        require(
            flows.upfrontsPaid == upfronts + flows.upfrontsReturned + flows.upfrontsReleased,
            "7: upfront prices went elsewhere"
        );
        require(
            flows.charged + flows.closed + flows.upfrontsReleased ==
                held + flows.toOperators + flows.toPublishers + flows.toAttestors + flows.toTreasury + flows.toPools,
            "7: charges weren't divided whole"
        );
        require(flows.toPools == _bonuses() + flows.bonusesPaid, "7: bonuses went elsewhere");
        require(flows.toOperators + flows.toPublishers == earned + flows.earningsPaid, "7: earnings went elsewhere");
        require(
            flows.toAttestors == uncollected + incomes[address(committee)] + incomes[address(lone)] + flows.incomePaid,
            "7: attestors' income went elsewhere"
        );
        require(flows.toTreasury == fees + flows.feesPaid && fees == escrow.protocolFees(), "7: fees went elsewhere");
    }

    function _requirePayees() internal view {
        for (uint256 i; i < 2; ++i) {
            require(
                escrow.earningsOf(operatorOwners[i]) == earnings[operatorOwners[i]] &&
                    escrow.earningsOf(publishers[i]) == earnings[publishers[i]],
                "7: a payee's earnings aren't its shares"
            );
        }
        for (uint256 i; i < ATTESTORS; ++i) {
            address payee = attestorPayees[i];
            address attestor = address(_attestorOf(i));
            require(
                _attestorOf(i).incomeOf(payee) == incomeOf[attestor][payee],
                "7: an attestor's income isn't its part of what it signed"
            );
        }
    }

    /// @dev All that users own, as the contracts have it.
    function _money() internal view returns (bytes32 digest) {
        for (uint256 i = 1; i <= ledger.length; ++i) {
            digest = keccak256(abi.encode(digest, escrow.accountOf(_id(i)), escrow.upfrontOf(_id(i))));
        }
        for (uint256 i; i < OPERATORS; ++i) {
            OperatorId operator = OperatorId.wrap(uint24(i + 1));
            digest = keccak256(abi.encode(digest, staking.poolOf(operator), escrow.bonusOf(operator)));
            digest = keccak256(abi.encode(digest, staking.positionOf(operator, operatorOwners[i])));
            digest = keccak256(abi.encode(digest, escrow.earningsOf(operatorOwners[i])));
            digest = keccak256(abi.encode(digest, escrow.earningsOf(publishers[i])));
        }
        for (uint256 i; i < batches.length; ++i) {
            if (batches[i].status != BatchStatus.Collected) {
                digest = keccak256(abi.encode(digest, escrow.splitOf(batches[i].id)));
            }
        }
        digest = keccak256(abi.encode(digest, staking.proceedsOf(BENEFICIARY), staking.proceedsOf(TREASURY)));
        digest = keccak256(abi.encode(digest, escrow.protocolFees()));
        return
            keccak256(
                abi.encode(
                    digest,
                    currency.balanceOf(address(escrow)),
                    currency.balanceOf(address(staking)),
                    currency.balanceOf(address(committee))
                )
            );
    }

    /// @dev What the escrow owes.
    function _escrowed() internal view returns (uint256) {
        return balances + upfronts + held + uncollected + earned + fees + _bonuses();
    }

    function _committed(uint256 id) internal view returns (uint256) {
        License storage license = ledger[id - 1];
        return Model.committed(license, plans[license.plan - 1].minimumSpend, recalls);
    }

    /// @dev The worth of shares of a pool: all of them are all the stake; one unit and a thousand shares are nobody's.
    function _worth(Pool memory pool, uint256 shares) internal pure returns (uint256) {
        if (shares == pool.shares) return pool.stake;
        return (shares * (pool.stake + 1)) / (pool.shares + 1_000);
    }

    /// @dev The active stake once the pool was slashed for a third breach, if it is.
    function _activeAfter(uint256 operator, bool jails) internal view returns (uint256) {
        Pool memory pool = pools[operator];
        if (jails) pool.stake -= pool.stake / 100;
        return _worth(pool, pool.shares - pool.thawingShares);
    }

    function _bonuses() internal view returns (uint256) {
        return pools[1].bonus + pools[2].bonus;
    }

    /// @dev Whether a breach on `day` is the third on seven days, of which the latest breach's is the last: days that were
    /// punished don't count, nor does one that is too old.
    function _isThird(uint256 operator, uint256 plan, uint256 day) internal view returns (bool) {
        Breaches storage record = breaches[operator][plan];
        uint256 last = day > record.lastDay ? day : record.lastDay;
        if (day <= record.punishedThrough || last - day >= 7) return false;
        uint256 count;
        for (uint256 i = last - 6; i <= last; ++i) {
            if (i > record.punishedThrough && (i == day || record.on[i])) ++count;
        }
        return count >= 3;
    }

    /// @dev The last committee whose time has come.
    function _presentRotation() internal view returns (uint256 number) {
        for (uint256 i; i < rotations.length; ++i) {
            if (rotations[i].since <= clock) number = i;
        }
    }

    /// @dev Whether a committee's signatures count: the one in force, and for a window the one before.
    function _counts(uint256 number) internal view returns (bool) {
        uint256 present = _presentRotation();
        return number == present || (number + 1 == present && clock <= rotations[present].since + WINDOW);
    }

    /// @dev Where an attestor's income waits.
    function _attestorOf(uint256 attestor) internal view returns (ICommitteeAttestor) {
        return attestor == 3 ? lone : committee;
    }

    function _isLone(uint256 plan) internal view returns (bool) {
        return address(plans[plan - 1].attestor) == address(lone);
    }

    /// @dev Calls of everybody so far.
    function _calls() internal view returns (uint256) {
        return tally.landed + tally.refused + tally.idle + tally.attacks;
    }

    function _laneKey(uint256 operator, uint256 plan, uint256 version) internal pure returns (bytes32) {
        return keccak256(abi.encode(operator, plan, version));
    }

    function _versionId(uint256 version) internal pure returns (VersionId) {
        return VersionId.wrap(uint64((1 << 32) | version));
    }

    function _id(uint256 id) internal pure returns (LicenseId) {
        return LicenseId.wrap(uint64(id));
    }
}
