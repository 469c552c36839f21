// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {IRevenueWaterfall} from "../../contracts/interfaces/IRevenueWaterfall.sol";
import {AssetKind, DerivativePolicy, IAssetRegistry} from "../../contracts/interfaces/IAssetRegistry.sol";
import {ICommitteeAttestor} from "../../contracts/interfaces/ICommitteeAttestor.sol";
import {ChallengeStatus, Side} from "../../contracts/interfaces/IDisputeCourt.sol";
import {KeyStatus} from "../../contracts/interfaces/IOperatorRegistry.sol";
import {BatchHeader, BatchStatus} from "../../contracts/interfaces/IUsageEscrow.sol";
import {AssetId, LicenseId, OperatorId, VersionId} from "../../contracts/types/Ids.sol";
import {Grant, Receipt} from "../../contracts/types/Receipt.sol";
import {Functions} from "./Functions.sol";
import {License, Model, Term} from "./Model.sol";
import {Pool, Position, StakeModel} from "./StakeModel.sol";
import {VM} from "./Vm.sol";

/// @dev What is counted: what came of the calls, and how often the rarer things happened.
enum Count {
    Landed,
    Refused,
    Idle,
    Attacks,
    Settlements,
    Charges,
    Vouchers,
    Claims,
    Releases,
    Collections,
    Freezes,
    Refunds,
    Challenges,
    Escalations,
    Rulings,
    Reports,
    ProofsAhead,
    Distributions,
    Withdrawals,
    Renewals,
    PlanChanges,
    Closings,
    Sales,
    Recalls,
    Rotations,
    Jailings,
    Equivocations,
    Governed
}

/// @title What everybody is owed, kept beside the contracts
abstract contract Ledger is Functions {
    /// @dev That an operator may have had.
    uint256 internal constant SIGNING_KEYS = 16;

    /// @dev Or what a batch has charged to one license, once that was split off it.
    struct Batch {
        bytes32 id;
        /// The license, of a charge; else 0.
        uint256 licenseId;
        BatchHeader header;
        bytes entries;
        bytes outcomes;
        bytes proof;
        /// Less what was split off.
        uint256 charged;
        uint256 discountBps;
        uint256 feeBps;
        uint256 releasableAt;
        uint48 signers;
        bool earnsBonus;
        /// Any but Releasable.
        BatchStatus status;
    }

    struct Lane {
        uint64 sequence;
        uint40 epochStart;
        uint40 epochEnd;
        uint64 lastLicense;
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

    /// @dev An attestor, by its number in `attestorKeys`, and what its signature counts for.
    struct Seat {
        uint256 attestor;
        uint256 weight;
    }

    /// @dev A bond for an attestor.
    struct Bond {
        uint256 weight;
        uint256 readyAt;
        bool isSlashed;
    }

    /// @dev A committee, in its order.
    struct Rotation {
        Seat[] seats;
        uint256 threshold;
        uint256 since;
    }

    /// @dev Of an operator's, which it never had without an end. A key that never was has no times.
    struct SigningKey {
        uint256 addedAt;
        uint256 expiresAt;
        uint256 revokedAt;
    }

    /// @dev A receipt that is one leaf of a batch's tree; what stands in the other leaves, nobody knows.
    struct Told {
        bool isThere;
        Receipt receipt;
        bytes signature;
        Grant grant;
        /// That signed it, by its number among the operator's.
        uint256 key;
        /// Of its license, among the batch's.
        uint256 entry;
        /// Input tokens of that entry which are in the leaf of another license.
        uint256 moved;
        /// Where it stood before, if it did.
        bytes32 formerId;
    }

    /// @dev A challenge, and what its arbitration has come to in wei.
    struct Case {
        /// Of the charge, among the batches.
        uint256 place;
        address challenger;
        uint256 bond;
        uint256 deadline;
        ChallengeStatus status;
        /// Whether it names a receipt, and which.
        bool names;
        Receipt receipt;
        /// Whether its answer has to show that the license's keys signed all requests, and whether that was shown.
        bool isSigned;
        bool isShown;
        uint256 disputeId;
        uint256 pool;
        uint256 appealPool;
        Side appellant;
    }

    /// @dev What was found of a charge.
    enum Finding {
        None,
        Refunded,
        Punished
    }

    /// @dev An asset, who shares in its income besides its parents and its owner, and what waits for all of them.
    struct Asset {
        AssetKind kind;
        /// What it asks of those who derive from it.
        DerivativePolicy policy;
        uint256 minShareBps;
        uint256 permittedUses;
        /// Who says where the royalties of its sales go.
        address receiver;
        IRevenueWaterfall.Payee[] payees;
        /// In the escrow, and in its pot.
        uint256 income;
        uint256 pot;
        /// All that ever came into its pot.
        uint256 received;
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
        uint256 toAssets;
        uint256 toAttestors;
        uint256 toTreasury;
        uint256 toPools;
        uint256 operatorsPaid;
        uint256 assetsPaid;
        uint256 bondsLost;
        uint256 attestorsPaid;
        uint256 treasuryPaid;
        uint256 poolsPaid;
        uint256 ownersPaid;
    }

    /// @dev Of license `i + 1`.
    License[] internal ledger;
    /// @dev Licenses that have money or may be charged.
    uint256[] internal live;
    Batch[] internal batches;
    mapping(bytes32 batchId => bool) internal settled;
    /// @dev Where a batch, or a charge that was split off one, stands among them, from 1 on; else 0.
    mapping(bytes32 batchId => uint256) internal placeOf;
    mapping(bytes32 key => Lane) internal lanes;
    mapping(uint256 operator => Pool) internal pools;
    mapping(uint256 operator => mapping(address backer => Position)) internal positions;
    mapping(uint256 operator => mapping(uint256 plan => Breaches)) internal breaches;
    /// @dev Until when vouchers of a generation count that ended.
    mapping(uint256 licenseId => mapping(uint256 generation => uint256)) internal generationEnds;
    /// @dev Plans that an operator doesn't serve any more.
    mapping(uint256 operator => mapping(uint256 plan => bool)) internal refused;
    mapping(uint256 plan => Sales) internal sales;
    /// @dev Of a batch.
    mapping(bytes32 batchId => Told) internal tolds;
    /// @dev The last batch of an operator, under a plan, of which a receipt is known.
    mapping(uint256 operator => mapping(uint256 plan => bytes32)) internal lastTold;
    /// @dev Challenge `i + 1`.
    Case[] internal cases;
    /// @dev Challenges that aren't decided, by their numbers.
    uint256[] internal pending;
    mapping(bytes32 chargeId => Finding) internal findings;
    mapping(bytes32 chargeId => bool) internal provenAhead;
    /// @dev When a license's owner asked for signed requests; 0 is never, or no longer.
    mapping(uint256 licenseId => uint256) internal demandedAt;
    mapping(uint256 licenseId => uint256) internal ownedSince;
    /// @dev Who may win in court.
    address[] internal litigants;
    /// @dev What waits in the court: bonds of challenges that aren't decided, bonds that were won, and wei of either kind.
    uint256 internal bondsAtStake;
    mapping(address holder => uint256) internal bondsDue;
    mapping(address holder => uint256) internal feesDue;
    /// @dev Charges that are frozen, in currency units.
    uint256 internal frozen;
    uint256 internal operatorCount = OPERATORS;
    mapping(uint256 operator => mapping(uint256 key => SigningKey)) internal signingKeys;
    /// @dev When version `i + 1` of the model was recalled; 0 is never. Other assets have one that never is.
    uint256[] internal recalledAt;
    /// @dev The same without those that weren't, in their order.
    uint256[] internal recalls;
    uint256[] private _noRecalls;
    /// @dev Of `committee`.
    Rotation[] internal rotations;
    uint256 internal rotationNonce;
    /// @dev Of `lone`, for ever.
    Seat internal loneSeat;
    mapping(uint256 attestor => mapping(address holder => Bond)) internal bonds;
    mapping(uint256 attestor => bool) internal hasEquivocated;
    /// @dev All bonds of a committee, in currency units.
    mapping(address attestor => uint256) internal bonded;
    /// @dev A plan of the model's that no operator serves; 0 is none.
    uint256 internal trapPlan;

    /// @dev What waits in the escrow, besides what waits for operators and their pools: balances; upfront prices; charges that
    /// are held or frozen; attestors' shares not collected; assets' income; fees.
    uint256 internal balances;
    uint256 internal upfronts;
    uint256 internal held;
    uint256 internal uncollected;
    uint256 internal fees;
    mapping(uint256 asset => Asset) internal lineage;
    /// @dev Whom the owner of a token (an asset, a license, a payee's position) let move it; and whether an owner let `BROKER`
    /// move all that it has.
    mapping(address token => mapping(uint256 id => address)) internal approvedOf;
    mapping(address token => mapping(address owner => bool)) internal hasBroker;
    mapping(uint256 payee => address) internal holderOf;
    uint256 internal payeeCount;
    /// @dev What waits in the waterfall besides the pots, in all and for each.
    uint256 internal claimables;
    mapping(address owner => uint256) internal claimable;
    /// @dev What waits in a committee, in all and for each payee.
    mapping(address attestor => uint256) internal incomes;
    mapping(address attestor => mapping(address payee => uint256)) internal incomeOf;
    /// @dev Of slashes, and of income that found no stake.
    mapping(address beneficiary => uint256) internal proceeds;
    mapping(address holder => uint256) internal donations;

    /// @dev Wei that the court was paid, has passed on to arbitrators, and has paid back.
    uint256 internal feesPaid;
    uint256 internal feesSpent;
    uint256 internal feesReturned;

    Flows internal flows;
    mapping(Count what => uint256) internal counts;
    address[] private _signers;

    constructor() {
        for (uint256 i; i < FIRST_VERSIONS; ++i) recalledAt.push();
        Rotation storage first = rotations.push();
        for (uint256 i; i < 3; ++i) {
            first.seats.push(Seat(i, i == 0 ? 2 : 1));
            bonds[i][attestorPayees[i]].weight = i == 0 ? 2 : 1;
        }
        (first.threshold, first.since) = (3, clock);
        loneSeat = Seat(3, 1);
        bonds[3][attestorPayees[3]].weight = 1;
        (bonded[address(committee)], bonded[address(lone)]) = (4 * BOND, BOND);
        for (uint256 i = 1; i <= assetCount; ++i) _enterAsset(i);
        for (uint256 i = 1; i <= OPERATORS; ++i) {
            signingKeys[i][0] = SigningKey(clock, type(uint40).max, 0);
            for (uint256 j; j < SIGNING_KEYS; ++j) _signers.push(VM.addr(_receiptKey(i, j)));
            litigants.push(operatorOwners[i - 1]);
        }
        for (uint256 i; i < licensees.length; ++i) litigants.push(licensees[i]);
        litigants.push(OUTSIDER);
    }

    /// @dev One of the first.
    function _enterAsset(uint256 id) private {
        IAssetRegistry.Asset memory first = assets.assetOf(AssetId.wrap(uint32(id)));
        Asset storage asset = lineage[id];
        (asset.kind, asset.policy) = (first.kind, first.policy);
        (asset.minShareBps, asset.permittedUses) = (first.minShareBps, first.permittedUses);
        asset.receiver = assets.ownerOf(id);
    }

    /// @dev What the escrow owes.
    function _escrowed() internal view returns (uint256 owed) {
        owed = balances + upfronts + held + uncollected + fees;
        for (uint256 i = 1; i <= OPERATORS; ++i) owed += pools[i].earnings + pools[i].income;
        for (uint256 i = 1; i <= assetCount; ++i) owed += lineage[i].income;
    }

    /// @dev What the waterfall owes.
    function _flowing() internal view returns (uint256 owed) {
        owed = claimables;
        for (uint256 i = 1; i <= assetCount; ++i) owed += lineage[i].pot;
    }

    function _recallsOf(uint256 plan) internal view returns (uint256[] storage) {
        return _assetOf(plan) == MODEL ? recalls : _noRecalls;
    }

    /// @dev Of the plan of the term before the running one.
    function _earlierMinimum(uint256 id) internal view returns (uint256) {
        License storage license = ledger[id - 1];
        uint256 plan = license.earlierPlan == 0 ? license.plan : license.earlierPlan;
        return plans[plan - 1].minimumSpend;
    }

    function _committed(uint256 id) internal view returns (uint256) {
        License storage license = ledger[id - 1];
        uint256[] storage recalls_ = _recallsOf(license.plan);
        uint256 minimum = plans[license.plan - 1].minimumSpend;
        return
            Model.missing(license.earlier, _earlierMinimum(id), recalls_) +
            Model.missing(license.term, minimum, recalls_);
    }

    /// @dev A pool as of now.
    function _vested(uint256 operator) internal view returns (Pool memory) {
        return StakeModel.vested(pools[operator], clock);
    }

    /// @dev The active stake once the pool was slashed for a third breach, if it is.
    function _activeAfter(uint256 operator, bool jails) internal view returns (uint256) {
        Pool memory pool = _vested(operator);
        if (jails) (pool, , ) = StakeModel.slashed(pool, StakeModel.held(pool) / 100);
        return pool.active;
    }

    /// @dev What slashes, and income that found no stake, have left for those who may get it.
    function _proceeds() internal view returns (uint256 sum) {
        sum = proceeds[BENEFICIARY] + proceeds[TREASURY];
        for (uint256 i; i < litigants.length; ++i) sum += proceeds[litigants[i]];
    }

    /// @dev What the court owes, in currency units.
    function _atCourt() internal view returns (uint256 owed) {
        owed = bondsAtStake;
        for (uint256 i; i < litigants.length; ++i) owed += bondsDue[litigants[i]];
    }

    /// @dev What the court owes, in wei.
    function _feesAtCourt() internal view returns (uint256 owed) {
        for (uint256 i; i < pending.length; ++i) owed += cases[pending[i] - 1].pool + cases[pending[i] - 1].appealPool;
        for (uint256 i; i < litigants.length; ++i) owed += feesDue[litigants[i]];
    }

    /// @dev From when on a license counts only what its keys have signed; 0 is never.
    function _signedSince(uint256 id) internal view returns (uint256) {
        return demandedAt[id] == 0 || demandedAt[id] < ownedSince[id] ? 0 : demandedAt[id] + 1 hours;
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

    /// @dev What a member's signature counts for now: nothing unless the bond by who is paid covers it.
    function _weightOf(Seat storage seat) internal view returns (uint256) {
        Bond storage bond = bonds[seat.attestor][attestorPayees[seat.attestor]];
        bool isCovered = bond.weight >= seat.weight && bond.readyAt == 0 && !hasEquivocated[seat.attestor];
        return isCovered ? seat.weight : 0;
    }

    /// @dev Whether somebody may move a token of `owner`'s, and act for an asset's.
    function _mayMove(address token, address owner, uint256 id, address who) internal view returns (bool) {
        return who == owner || approvedOf[token][id] == who || (who == BROKER && hasBroker[token][owner]);
    }

    /// @dev Who was approved for a token isn't for its next owner.
    function _noteMove(address token, uint256 id) internal {
        delete approvedOf[token][id];
        if (token == address(licenses)) ownedSince[id] = clock;
    }

    /// @dev An operator's key, by its number: the first one was there from the start.
    function _signerOf(uint256 operator, uint256 key) internal view returns (address) {
        return _signers[(operator - 1) * SIGNING_KEYS + key];
    }

    /// @dev Whether what a key signed at a time counts.
    function _couldSign(uint256 operator, uint256 key, uint256 time) internal view returns (bool) {
        SigningKey storage record = signingKeys[operator][key];
        return record.revokedAt == 0 && record.addedAt != 0 && record.addedAt <= time && time < record.expiresAt;
    }

    function _keyStatus(uint256 operator, uint256 key) internal view returns (KeyStatus) {
        SigningKey storage record = signingKeys[operator][key];
        if (record.expiresAt == 0) return KeyStatus.None;
        if (record.revokedAt != 0) return KeyStatus.Revoked;
        return clock < record.expiresAt ? KeyStatus.Active : KeyStatus.Expired;
    }

    function _keyId(uint256 operator, uint256 key) internal pure returns (uint256) {
        return operator * SIGNING_KEYS + key;
    }

    /// @dev Each attestor may have a bond by its payee and one by an outsider.
    function _bondId(uint256 attestor, address holder) internal pure returns (uint256) {
        return 2 * attestor + (holder == OUTSIDER ? 1 : 0);
    }

    /// @dev Where an attestor's income waits.
    function _attestorOf(uint256 attestor) internal view returns (ICommitteeAttestor) {
        return attestor == 3 ? lone : committee;
    }

    function _isLone(uint256 plan) internal view returns (bool) {
        return address(plans[plan - 1].attestor) == address(lone);
    }

    function _count(Count what) internal {
        ++counts[what];
    }

    /// @dev Calls by honest people so far.
    function _attempts() internal view returns (uint256) {
        return counts[Count.Landed] + counts[Count.Refused] + counts[Count.Idle];
    }

    /// @dev Calls of everybody so far.
    function _calls() internal view returns (uint256) {
        return _attempts() + counts[Count.Attacks];
    }

    function _laneKey(uint256 operator, uint256 plan, uint256 version) internal pure returns (bytes32) {
        return keccak256(abi.encode(operator, plan, version));
    }

    function _versionId(uint256 asset, uint256 version) internal pure returns (VersionId) {
        return VersionId.wrap(uint64((asset << 32) | version));
    }

    function _min(uint256 a, uint256 b) internal pure returns (uint256) {
        return a < b ? a : b;
    }

    function _id(uint256 id) internal pure returns (LicenseId) {
        return LicenseId.wrap(uint64(id));
    }
}
