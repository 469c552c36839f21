// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {IPerformanceStaking} from "../../contracts/interfaces/IPerformanceStaking.sol";
import {BatchHeader, BatchStatus, IUsageEscrow} from "../../contracts/interfaces/IUsageEscrow.sol";
import {Bps} from "../../contracts/libraries/Bps.sol";
import {LicenseId, OperatorId, PlanId, VersionId} from "../../contracts/types/Ids.sol";
import {License} from "./Model.sol";
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

    /// @dev Currency units over the life of the market.
    struct Flows {
        uint256 deposited;
        uint256 refunded;
        uint256 charged;
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

    struct Tally {
        uint256 attempts;
        uint256 landed;
        uint256 attacks;
        uint256 settlements;
        uint256 charges;
        uint256 releases;
        uint256 collections;
        uint256 withdrawals;
        uint256 jailings;
        uint256 governed;
    }

    /// @dev Of license `i + 1`.
    License[] internal ledger;
    Batch[] internal batches;
    mapping(bytes32 batchId => bool) internal settled;
    mapping(bytes32 key => Lane) internal lanes;
    mapping(uint256 operator => Pool) internal pools;
    mapping(uint256 operator => mapping(uint256 plan => Breaches)) internal breaches;
    /// @dev Plans that an operator doesn't serve any more.
    mapping(uint256 operator => mapping(uint256 plan => bool)) internal refused;

    /// @dev What waits in the escrow: balances; charges that are held; attestors' shares not collected; earnings; fees.
    uint256 internal balances;
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

    /// @dev Everything that always holds, between any two calls.
    function _requireAll() internal view {
        _requireSolvency();
        for (uint256 i; i < ledger.length; ++i) _requireAccount(i + 1);
        uint256 turn = tally.attempts + tally.attacks;
        _requireLane(1 + (turn % OPERATORS), 1 + (turn % PLANS), 1 + ((turn / 6) % VERSIONS));
        if (batches.length > 0) _requireBatch(batches[turn % batches.length]);
        for (uint256 i = 1; i <= OPERATORS; ++i) _requirePool(i);
        _requireConservation();
        require(escrow.feeBps() <= Bps.MAX_FEE, "11: the fee is above its bound");
    }

    function _requireSolvency() internal view {
        require(
            currency.balanceOf(address(escrow)) ==
                balances + held + uncollected + earned + fees + _bonuses() + donations[address(escrow)],
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
        IUsageEscrow.AccountView memory account = escrow.accountOf(LicenseId.wrap(uint64(id)));
        require(account.balance == license.balance, "2: a balance isn't what was paid in less what was due");
        require(account.spent == license.spent, "2: a license's spending differs from what was charged in its term");
        require(account.term == license.term && account.expiresAt == license.termEndsAt, "2: a term is another one");
        require(
            PlanId.unwrap(account.planId) == license.plan && OperatorId.unwrap(account.operatorId) == license.operator,
            "2: a license has another plan or operator"
        );
        require(account.capCode == license.capCode, "2: a licensee's cap is another one");
        require(
            account.capCutCode == license.capCutCode && account.capCutReadyAt == license.capCutReadyAt,
            "2: an announced cap is another one"
        );
        require(account.generation == license.generation && !account.onVoucherRoad, "2: an account was disturbed");
        require(
            account.thawing == license.thawing && account.thawReadyAt == license.thawReadyAt,
            "4: a thaw is another one"
        );
    }

    function _requireLane(uint256 operator, uint256 plan, uint256 version) internal view {
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

    function _requireBatch(Batch memory batch) internal view {
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
            "9: an operator is in jail for another time than its breaches earned"
        );
        require(escrow.bonusOf(OperatorId.wrap(uint24(operator))) == pool.bonus, "7: a bonus went elsewhere");
        require(
            pool.inFlight <= pool.stake + pool.shortfall,
            "5: in flight is above the stake, and no slash has left it there"
        );
    }

    /// @dev Nothing is made and nothing is lost on the way from a deposit to its payees.
    function _requireConservation() internal view {
        require(flows.deposited == balances + flows.refunded + flows.charged, "7: deposits went elsewhere");
        require(
            flows.charged ==
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
        for (uint256 i; i < 2; ++i) {
            require(
                escrow.earningsOf(operatorOwners[i]) == earnings[operatorOwners[i]] &&
                    escrow.earningsOf(publishers[i]) == earnings[publishers[i]],
                "7: a payee's earnings aren't its shares"
            );
        }
        for (uint256 i; i < 4; ++i) {
            address attestor = i < 3 ? address(committee) : address(lone);
            require(
                (i < 3 ? committee : lone).incomeOf(attestorPayees[i]) == incomeOf[attestor][attestorPayees[i]],
                "7: an attestor's income isn't its part of what it signed"
            );
        }
    }

    /// @dev All that users own, as the contracts have it.
    function _money() internal view returns (bytes32 digest) {
        for (uint256 i = 1; i <= ledger.length; ++i) {
            digest = keccak256(abi.encode(digest, escrow.accountOf(LicenseId.wrap(uint64(i)))));
        }
        for (uint256 i; i < OPERATORS; ++i) {
            OperatorId operator = OperatorId.wrap(uint24(i + 1));
            digest = keccak256(abi.encode(digest, staking.poolOf(operator)));
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

    /// @dev The worth of shares of a pool: all of them are all the stake; one unit and a thousand shares are nobody's.
    function _worth(Pool memory pool, uint256 shares) internal pure returns (uint256) {
        if (shares == pool.shares) return pool.stake;
        return (shares * (pool.stake + 1)) / (pool.shares + 1_000);
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

    function _active(uint256 operator) internal view returns (uint256) {
        Pool memory pool = pools[operator];
        return _worth(pool, pool.shares - pool.thawingShares);
    }

    function _laneKey(uint256 operator, uint256 plan, uint256 version) internal pure returns (bytes32) {
        return keccak256(abi.encode(operator, plan, version));
    }

    function _versionId(uint256 version) internal pure returns (VersionId) {
        return VersionId.wrap(uint64((1 << 32) | version));
    }
}
