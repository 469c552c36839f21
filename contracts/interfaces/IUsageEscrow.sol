// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {AssetId, LicenseId, OperatorId, PlanId, VersionId} from "../types/Ids.sol";
import {IAssetRegistry} from "./IAssetRegistry.sol";
import {ILicenseRegistry} from "./ILicenseRegistry.sol";
import {IOperatorRegistry} from "./IOperatorRegistry.sol";
import {IPerformanceStaking} from "./IPerformanceStaking.sol";
import {IRevenueWaterfall} from "./IRevenueWaterfall.sol";

/// @dev What attestors sign, by EIP-712, as `Batch`. A lane is the (operator, plan, version) that sequences count in.
struct BatchHeader {
    OperatorId operatorId;
    PlanId planId;
    VersionId versionId;
    /// Number of the batch in its lane, above that of the last that settled.
    uint64 sequence;
    /// Unix seconds, inclusive.
    uint40 epochStart;
    /// Unix seconds, exclusive.
    uint40 epochEnd;
    /// Of the Merkle sum tree over the receipts.
    bytes32 root;
    /// Number of receipts.
    uint64 count;
    /// Total usage, by meter.
    uint64 requests;
    uint64 inputTokens;
    uint64 cachedInputTokens;
    uint64 outputTokens;
    uint64 computeMs;
    /// Share of the attestors' canaries that were served.
    uint16 availabilityBps;
    /// 95th percentile of the canaries' time to first token.
    uint32 p95TtftMs;
    /// Number of canaries.
    uint32 samples;
    /// keccak256 of the packed entries.
    bytes32 entriesHash;
    /// The operator's evidence on record.
    bytes32 evidenceHash;
}

/// @dev What somebody wants to buy, and the most that it may cost.
struct Purchase {
    PlanId planId;
    OperatorId operatorId;
    /// Whose the license will be.
    address to;
    /// The licensee's own cap a term (see `IUsageEscrow.capOf`); 0 is none.
    uint8 capCode;
    /// Currency units that fund the license: they cover at least the plan's minimum.
    uint64 amount;
    /// Currency units that the payer pays at most in all: the plan's upfront price and `amount`.
    uint64 maxPrice;
    /// Unix seconds until which it counts, inclusive.
    uint40 deadline;
}

/// @dev A payment to the escrow that its payer has signed: as EIP-3009's `ReceiveWithAuthorization`, of exactly what is due,
/// with a nonce that says what it is for (`purchaseHash`, `depositHash`).
struct Authorization {
    /// Who signed, and pays.
    address from;
    /// Unix seconds, both exclusive.
    uint256 validAfter;
    uint256 validBefore;
    /// Makes the nonce of one payment differ from that of the next that is like it.
    bytes32 salt;
    /// 65 bytes of a key (r, s, v), or what the payer takes as a smart account (ERC-1271).
    bytes signature;
}

/// @dev What became of one entry of a batch. Only the first three charge anything.
enum EntryStatus {
    Charged,
    BalanceExhausted,
    CapReached,
    UnknownLicense,
    WrongPlan,
    WrongOperator,
    WrongRoad,
    TermNotRunning,
    Stopped
}

/// @dev What became of one voucher. Only the first three charge anything; what charges nothing changes nothing.
enum VoucherStatus {
    Charged,
    BalanceExhausted,
    /// The plan's, the licensee's or the key's.
    CapReached,
    /// No more than was charged already.
    NothingDue,
    UnknownLicense,
    WrongPlan,
    WrongOperator,
    WrongRoad,
    TermNotRunning,
    TermClosed,
    /// No key of the license's has signed it.
    KeyUnknown,
    KeyRevoked,
    GenerationEnded,
    Stopped
}

/// @dev Ending: what it signed still counts for a while, since it was revoked or its generation ended; Ended: no more.
enum VoucherKeyStatus {
    None,
    Active,
    Ending,
    Ended
}

/// @dev A key that signs vouchers for a license in one of its generations.
struct VoucherKey {
    /// The most that it can bring a term's counter to, in currency units.
    uint56 cap;
    /// Until when what it signed counts, in Unix seconds; 0 is for ever.
    uint40 endsAt;
}

/// @dev Held from settlement on, Releasable once its hold is over, Collected once the attestor has taken its share. One license's
/// charge, split off its batch, is Frozen while it is in dispute, and Refunded if it was wrong.
enum BatchStatus {
    None,
    Held,
    Releasable,
    Released,
    Collected,
    Frozen,
    Refunded
}

/// @dev Locked: no new use, so that it may be transferred; Movable: it may be now. Lapsed: its term is over, and it can be
/// renewed. Ended: no new use for ever; Closed: nor anything more to be charged.
enum LicenseStatus {
    None,
    Running,
    Locked,
    Movable,
    Lapsed,
    Ended,
    Closed
}

/// @title The escrow: licensees' money, what is charged to it, and what becomes of the charges
interface IUsageEscrow {
    /// @dev A batch, or one license's charge that was split off a batch.
    /// @param releasableAt Unix seconds from which anyone may release it, unless it is frozen
    /// @param charged Currency units taken from all its licenses, less what was split off it
    /// @param discountBps What its licensees were spared for bad service
    /// @param feeBps The protocol fee at settlement
    /// @param signers The attestor's note of who signed
    /// @param earnsBonus Whether half of the fee is the operator's pool's, for service that met the plan's levels
    /// @param status Never Releasable, which is a matter of time: see `batchStatusOf`
    struct Batch {
        OperatorId operatorId;
        PlanId planId;
        uint40 releasableAt;
        uint64 charged;
        uint16 discountBps;
        uint16 feeBps;
        uint48 signers;
        bool earnsBonus;
        BatchStatus status;
    }

    /// @dev Where a charge that was split off its batch comes from.
    struct ChargeRecord {
        bytes32 batchId;
        LicenseId licenseId;
        VersionId versionId;
        uint40 epochStart;
        uint40 epochEnd;
    }

    /// @dev The last batch of a lane.
    struct Lane {
        uint64 sequence;
        uint40 epochStart;
        uint40 epochEnd;
        uint64 lastLicense;
    }

    /// @dev A license's account, unpacked. Money in currency units, times in Unix seconds.
    struct AccountView {
        PlanId planId;
        OperatorId operatorId;
        uint64 balance;
        uint56 spent;
        uint8 capCode;
        uint16 term;
        uint32 expiresAt;
        uint16 generation;
        bool onVoucherRoad;
        /// Whether it starts a next term, if the plan allows that.
        bool renews;
        /// Whether the term above owes nothing more to its minimum.
        bool isClosed;
        uint64 thawing;
        uint40 thawReadyAt;
        /// The lower cap that was announced; 0 is none.
        uint8 capCutCode;
        uint40 capCutReadyAt;
        /// The operator and road that were announced, if the time is not 0.
        OperatorId nextOperatorId;
        bool nextOnVoucherRoad;
        uint40 serviceChangeReadyAt;
        /// The plan that it goes over to at `stoppedAt`; 0 is none.
        PlanId nextPlanId;
        /// Epochs that start from then on aren't charged: an hour after it was stopped, or when it goes over to another plan. 0
        /// is never.
        uint40 stoppedAt;
        /// Whether it was stopped for ever, and not for a transfer.
        bool isEnded;
        /// End of the term before, while that isn't closed; else 0.
        uint40 endedAt;
        uint56 endedSpent;
        /// The plan of that term, if it is another than the present one; else 0.
        PlanId formerPlanId;
    }

    /// @dev A price that was paid at purchase and waits out the plan's hold.
    struct Upfront {
        uint64 amount;
        uint40 paidAt;
        uint40 releasableAt;
        uint16 feeBps;
    }

    /// @dev How a charge is divided, in currency units.
    struct Split {
        /// What of it is for the operator's pool, the pool's shares and the commission say when it is paid.
        uint256 operator;
        uint256 publisher;
        uint256 attestor;
        uint256 fee;
        /// For the operator's pool, out of the fee.
        uint256 bonus;
    }

    /// @dev What waits for an operator, in currency units.
    struct OperatorIncome {
        /// For its owner.
        uint64 earnings;
        /// For its pool: income's part, and bonuses.
        uint64 forPool;
    }

    event LicenseBought(
        LicenseId indexed licenseId,
        PlanId indexed planId,
        OperatorId indexed operatorId,
        address owner,
        uint8 capCode,
        uint256 expiresAt
    );
    event UpfrontPaid(LicenseId indexed licenseId, uint256 amount, uint256 releasableAt);
    /// @param amount For the asset
    event UpfrontReleased(LicenseId indexed licenseId, AssetId indexed assetId, uint256 amount, uint256 fee);
    event UpfrontReturned(LicenseId indexed licenseId, uint256 amount);
    event Deposited(LicenseId indexed licenseId, address indexed payer, uint256 amount);
    event CapSet(LicenseId indexed licenseId, uint8 capCode);
    event CapCutStarted(LicenseId indexed licenseId, uint8 capCode, uint256 readyAt);
    event ServiceChangeStarted(
        LicenseId indexed licenseId,
        OperatorId indexed operatorId,
        bool onVoucherRoad,
        uint256 readyAt
    );
    event ServiceChanged(LicenseId indexed licenseId, OperatorId indexed operatorId, bool onVoucherRoad);
    /// @param changesAt The end of the term that runs by time
    event PlanChangeStarted(LicenseId indexed licenseId, PlanId indexed planId, uint256 changesAt);
    event PlanChangeCancelled(LicenseId indexed licenseId);
    /// @dev The term that ended is of the former plan; `TermRenewed` tells of the next.
    event PlanChanged(LicenseId indexed licenseId, PlanId indexed planId, PlanId indexed formerPlanId);
    event RenewalSet(LicenseId indexed licenseId, bool renews);
    event TermRenewed(LicenseId indexed licenseId, uint256 term, uint256 expiresAt);
    /// @param charged For the asset, but for the fee
    event TermClosed(
        LicenseId indexed licenseId,
        AssetId indexed assetId,
        uint256 endedAt,
        uint256 charged,
        uint256 fee
    );
    event LicenseLocked(LicenseId indexed licenseId, uint256 stoppedAt, uint256 movableAt);
    event LicenseUnlocked(LicenseId indexed licenseId);
    event LicenseEnded(LicenseId indexed licenseId, uint256 stoppedAt);
    /// @param endsAt Until when vouchers of the generation before count, in Unix seconds
    event GenerationRaised(LicenseId indexed licenseId, uint16 generation, uint256 endsAt);
    event VoucherKeyAdded(LicenseId indexed licenseId, uint16 generation, bytes key, uint256 cap);
    event VoucherKeyEnding(LicenseId indexed licenseId, uint16 generation, bytes key, uint256 endsAt);
    event ThawStarted(LicenseId indexed licenseId, uint256 amount, uint256 readyAt);
    event Withdrawn(LicenseId indexed licenseId, address indexed to, uint256 amount);

    /// @param outcomes Sixteen bytes an entry, in entry order: licenseId (64 bits), charged (56 bits), EntryStatus (8 bits)
    event BatchSettled(
        bytes32 indexed batchId,
        OperatorId indexed operatorId,
        PlanId indexed planId,
        VersionId versionId,
        uint64 sequence,
        uint40 epochStart,
        uint40 epochEnd,
        bytes32 root,
        uint256 charged,
        uint256 discountBps,
        bytes outcomes
    );
    /// @param forPool What of the operator's share its pool gets
    /// @param outcomes Eighteen bytes a voucher, in their order: licenseId (64 bits), term (16 bits), charged (56 bits),
    /// VoucherStatus (8 bits). A charge for a later term than the account's renews the license to that
    event VouchersSettled(
        OperatorId indexed operatorId,
        PlanId indexed planId,
        AssetId indexed assetId,
        uint256 charged,
        Split split,
        uint256 forPool,
        bytes outcomes
    );
    /// @param forPool What of the operator's share its pool gets, besides the bonus
    event BatchReleased(
        bytes32 indexed batchId,
        OperatorId indexed operatorId,
        AssetId indexed assetId,
        Split split,
        uint256 forPool
    );
    /// @dev The first time, this much is split off the batch.
    event ChargeFrozen(bytes32 indexed chargeId, bytes32 indexed batchId, LicenseId indexed licenseId, uint256 amount);
    /// @param toAsset What of it is missing to the minimum of a term that is closed, less the fee
    event ChargeRefunded(
        bytes32 indexed chargeId,
        LicenseId indexed licenseId,
        AssetId indexed assetId,
        uint256 toBalance,
        uint256 toAsset,
        uint256 fee
    );
    event ChargeReleased(bytes32 indexed chargeId, LicenseId indexed licenseId, uint256 releasableAt);
    event AttestorShareCollected(bytes32 indexed batchId, address indexed attestor, uint256 amount);
    event PoolPaid(OperatorId indexed operatorId, uint256 amount);
    event AssetPaid(AssetId indexed assetId, uint256 amount);
    event EarningsWithdrawn(OperatorId indexed operatorId, address indexed to, uint256 amount);
    event FeesWithdrawn(address indexed treasury, uint256 amount);

    event DepositCeilingRaised(uint64 ceiling);
    event FeeSet(uint16 feeBps);
    event Paused(uint256 until);
    event Unpaused();

    error AmountZero();
    error AssetIncomeEmpty(AssetId assetId);
    error BatchNotHeld(bytes32 batchId, BatchStatus status);
    error BatchNotReleased(bytes32 batchId, BatchStatus status);
    error BatchNotSettled(bytes32 batchId);
    error BatchNotVouchedFor(bytes32 batchId, address attestor);
    error BatchOutOfSequence(uint256 sequence, uint256 last);
    error BatchSettledBefore(bytes32 batchId);
    error CapCutNone(LicenseId licenseId);
    error CapCutRunning(LicenseId licenseId, uint256 readyAt);
    error CallerNotAttestor(bytes32 batchId, address caller);
    error CallerNotOperator(OperatorId operatorId, address caller);
    error CallerNotOwner(LicenseId licenseId, address caller);
    error CeilingNotRaised(uint256 ceiling, uint256 current);
    error ChargeEmpty(bytes32 chargeId);
    error ChargeNotFrozen(bytes32 chargeId, BatchStatus status);
    error ChargeNotHeld(bytes32 chargeId, BatchStatus status);
    error CurrencyDecimalsUnsupported(uint8 decimals, uint8 least, uint8 most);
    error CurrencyShort(uint256 held, uint256 owed);
    error DeadlinePassed(uint256 deadline, uint256 time);
    error DepositCeilingReached(uint256 owed, uint256 ceiling);
    error DepositsPaused(uint256 until);
    error EarningsEmpty(OperatorId operatorId);
    error EntriesMalformed(uint256 length);
    error EntriesMismatch(bytes32 actual, bytes32 signed);
    error EntriesOutOfOrder(uint256 licenseId, uint256 previous);
    error EntryUnknown(bytes32 batchId, LicenseId licenseId);
    error EpochInvalid(uint256 epochStart, uint256 epochEnd, uint256 longest);
    error EpochNotEnded(uint256 epochEnd, uint256 time);
    error EpochOverlaps(uint256 epochStart, uint256 previousEnd);
    error FeeAboveBound(uint256 feeBps, uint256 bound);
    error FeesEmpty();
    error GenerationExhausted(LicenseId licenseId);
    error HoldOver(bytes32 batchId, uint256 releasableAt);
    error HoldRunning(bytes32 batchId, uint256 releasableAt);
    error LicenseNotTransferable(LicenseId licenseId);
    error LicenseStatusUnfit(LicenseId licenseId, LicenseStatus status);
    error MinimumNone(LicenseId licenseId);
    error MinimumNotCovered(uint256 available, uint256 minimumSpend);
    error OperatorInJail(OperatorId operatorId);
    error OutcomesMismatch(bytes32 actual, bytes32 committed);
    error PlanChangeNone(LicenseId licenseId);
    error PlanHasUpfrontPrice(PlanId planId, uint256 upfrontPrice);
    error PlanNotServed(OperatorId operatorId, PlanId planId);
    error PlanOfAnotherAsset(PlanId planId, AssetId assetId);
    error PauseTooSoon(uint256 allowedAt);
    error PayerNotBuyer(PlanId planId, address buyer, address payer);
    error PeriodOutOfRange(uint256 period, uint256 shortest, uint256 longest);
    error PoolIncomeEmpty(OperatorId operatorId);
    error PriceAboveLimit(uint256 price, uint256 limit);
    error RenewalForOwner(LicenseId licenseId);
    error ServiceChangeNone(LicenseId licenseId);
    error ServiceChangeRunning(LicenseId licenseId, uint256 readyAt);
    error StakingOfAnotherMarket(address staking);
    error StakeThawTooShort(uint256 thawPeriod, uint256 shortest);
    error SummaryInvalid(uint256 count, uint256 availabilityBps);
    error TermClosedBefore(LicenseId licenseId);
    error TermOpen(LicenseId licenseId, uint256 closableAt);
    error TermTooShort(uint256 termPeriod, uint256 shortest);
    error ThawAboveBalance(LicenseId licenseId, uint256 amount, uint256 balance);
    error ThawCommitted(LicenseId licenseId, uint256 balance, uint256 committed);
    error ThawEmpty(LicenseId licenseId);
    error ThawOpen(LicenseId licenseId, uint256 amount);
    error ThawRunning(LicenseId licenseId, uint256 readyAt);
    error TotalsMismatch();
    error TreasuryZero();
    error UpfrontHeld(LicenseId licenseId, uint256 releasableAt);
    error UpfrontNone(LicenseId licenseId);
    error VersionNotOfModel(VersionId versionId, AssetId assetId);
    error VersionNotUsable(VersionId versionId, uint256 usableUntil, uint256 epochEnd);
    error VoucherCapNotRaised(uint256 cap, uint256 current);
    error VoucherKeyInvalid(bytes key);
    error VoucherKeyRevoked(LicenseId licenseId, bytes key);
    error VoucherKeyUnknown(LicenseId licenseId, bytes key);
    error VouchersMalformed(uint256 length);
    error VouchersOutOfOrder(LicenseId licenseId, LicenseId previous);
    error WaterfallOfAnotherMarket(address waterfall);
    error WindowClosed(uint256 closedAt, uint256 time);

    // Buying and funding

    /// @notice Buys a license with the caller's currency: the plan's upfront price and what funds it.
    function buy(Purchase calldata purchase) external returns (LicenseId licenseId);

    /// @notice Buys a license by EIP-2612: the caller's signed allowance of `maxPrice` until `deadline` comes along. A permit
    /// that was already used does no harm, as long as the allowance is there.
    function buyWithPermit(
        Purchase calldata purchase,
        uint8 v,
        bytes32 r,
        bytes32 s
    ) external returns (LicenseId licenseId);

    /// @notice Buys a license by EIP-3009, with the currency of whoever signed for it, under `purchaseHash`: exactly the plan's
    /// upfront price and what funds the license. Anyone may call this, and nobody can change what is bought.
    function buyWithAuthorization(
        Purchase calldata purchase,
        Authorization calldata authorization
    ) external returns (LicenseId licenseId);

    /// @notice Funds a license, anyone's, with the caller's currency.
    function deposit(LicenseId licenseId, uint64 amount) external;

    /// @notice Funds a license by EIP-2612: the caller's signed allowance comes along. A permit that was already used
    /// does no harm, as long as the allowance is there.
    function depositWithPermit(
        LicenseId licenseId,
        uint64 amount,
        uint256 deadline,
        uint8 v,
        bytes32 r,
        bytes32 s
    ) external;

    /// @notice Funds a license by EIP-3009, with the currency of whoever signed for it, under `depositHash`, as long as it is
    /// still its owner's of then. Anyone may call this.
    function depositWithAuthorization(
        LicenseId licenseId,
        uint64 amount,
        Authorization calldata authorization
    ) external;

    /// @notice Pays an upfront price to the publisher, less the protocol fee, once the plan's hold is over; or back into the
    /// license's account, at once, if a recall of one of the model's versions came before. Anyone may call this.
    function releaseUpfront(LicenseId licenseId) external;

    // A licensee's own

    /// @notice Sets the licensee's own cap a term. A higher one, or none, is in force at once. A lower one is announced: it
    /// is for operators to respect from now on, and for `applyCapCut` to put in force once use that was served under the
    /// higher cap has settled.
    function setCap(LicenseId licenseId, uint8 capCode) external;

    /// @notice Puts an announced lower cap in force, after the wait. Anyone may call this.
    function applyCapCut(LicenseId licenseId) external;

    /// @notice Announces another operator or road for a license: in force by `applyServiceChange`, once all use by the
    /// present operator has settled or could have. Naming the present ones takes it back.
    /// @param onVoucherRoad Whether it shall settle by vouchers, and not by attested batches
    function changeService(LicenseId licenseId, OperatorId operatorId, bool onVoucherRoad) external;

    /// @notice Puts an announced operator and road in force, after the wait. Anyone may call this.
    function applyServiceChange(LicenseId licenseId) external;

    /// @notice Announces another plan for a license, of the same model, without an upfront price and on sale to the license's
    /// owner: it goes over to that at the end of the term that runs by time (of a plan that renews by itself: that runs in an
    /// hour), when `renew` starts a term under it. Naming the present plan takes it back, also when the other one can't be
    /// had any more.
    function changePlan(LicenseId licenseId, PlanId planId) external;

    /// @notice Says whether a license whose plan has a minimum may start another term. Binds from the running term's end on.
    function setRenewal(LicenseId licenseId, bool renews) external;

    /// @notice Stops new use of a license, so that it may be transferred once all use so far has settled or could have.
    /// Nothing may be on its way out meanwhile, and an announced operator, road or plan is forgotten.
    function lock(LicenseId licenseId) external;

    /// @notice Lets a locked license be used again, by its owner of now. After a transfer this raises its generation.
    function unlock(LicenseId licenseId) external;

    /// @notice Ends a license for ever: no new use, and no other plan. What is missing to the minimum of its term stays due.
    function end(LicenseId licenseId) external;

    /// @notice Lets a key sign vouchers for a license, of its present generation and up to `cap` a term; or raises the cap of a
    /// key that may. To lower one, revoke it and add another key.
    /// @param key 20 bytes: the address of an ECDSA key; or 64: the coordinates of a P-256 key
    /// @param cap The most that it can bring a term's counter to, in currency units
    function addVoucherKey(LicenseId licenseId, bytes calldata key, uint56 cap) external;

    /// @notice Ends a key: what it signed counts as long as use of the running epoch may still settle, and never again. It
    /// can't come back in this generation.
    function revokeVoucherKey(LicenseId licenseId, bytes calldata key) external;

    /// @notice Ends all grants of a license, and all its voucher keys: vouchers of this generation count as long as use of the
    /// running epoch may still settle; of a license that was stopped, use until the stop.
    function raiseGeneration(LicenseId licenseId) external returns (uint16 generation);

    /// @notice Announces the withdrawal of `amount`, in place of any announced before: the wait starts anew. Zero takes
    /// it back. Use of the running epoch may still be charged to it.
    function thaw(LicenseId licenseId, uint64 amount) external;

    /// @notice Sends what was announced, or what is left of it, to `to`, after the wait. What is committed to a minimum
    /// stays; so much of the announced as that keeps back may be withdrawn as soon as it is free.
    function withdraw(LicenseId licenseId, address to) external returns (uint256 amount);

    // Terms

    /// @notice Starts the next term of a license whose plan has a minimum and whose term is over, if what isn't on its way out
    /// covers the next minimum. Anyone may call this within an epoch of the term's end, unless a recall takes effect in
    /// either term; its owner at any time: later than that, the term starts anew. Closes the term before, if that waits for it.
    /// Likewise starts the first term under the plan that the license goes over to, which its operator must serve.
    function renew(LicenseId licenseId) external;

    /// @notice Closes the oldest term that is over and not closed, once all use of it has settled or could have: charges what
    /// is missing to its minimum, as far as the balance goes, for the publisher; nothing if a recall took effect in it.
    /// Anyone may call this.
    function closeTerm(LicenseId licenseId) external returns (uint256 charged);

    // Settlement

    /// @notice Charges a batch to its licenses, once, within the window, if the plan's attestor vouches for it.
    /// @param entries 28 bytes a license: licenseId (8), the five meters (4 each), ascending by license
    /// @param proof What the attestor asks for
    function settle(
        BatchHeader calldata header,
        bytes calldata entries,
        bytes calldata proof
    ) external returns (bytes32 batchId);

    /// @notice What `settle` would do now with a batch that its attestor vouches for; reverts where it would.
    function previewSettle(
        BatchHeader calldata header,
        bytes calldata entries
    ) external view returns (uint256 charged, uint256 discountBps, bytes memory outcomes);

    /// @notice Charges licenses on the voucher road what their keys have signed, beyond what their terms' counters say, as far as
    /// balance and caps go: a voucher pays the rest later. It is divided at once. Anyone may call this; a charge that begins a
    /// term while the one before can still be claimed, the operator's owner and its signing keys alone may make.
    /// @param vouchers One after the other, ascending by license, at most as many bytes as MAX_ENTRIES of ECDSA have: scheme (1),
    /// licenseId (8), generation (2), term (2), spent (7), then for scheme 0, ECDSA, r (32) and vs (32, EIP-2098), for 1, P-256
    /// over the SHA-256 of the digest, qx, qy, r and s (32 each). Signed is the EIP-712
    /// `Voucher(uint64 licenseId,uint24 operatorId,uint16 generation,uint16 term,uint56 spent)`
    /// @return charged Currency units
    /// @return outcomes As in `VouchersSettled`
    function settleVouchers(
        OperatorId operatorId,
        PlanId planId,
        bytes calldata vouchers
    ) external returns (uint256 charged, bytes memory outcomes);

    /// @notice What `settleVouchers` would do now for this caller; reverts where it would.
    function previewVouchers(
        OperatorId operatorId,
        PlanId planId,
        bytes calldata vouchers
    ) external view returns (uint256 charged, bytes memory outcomes);

    /// @notice Divides a batch's charge, or one that was split off it, once its hold is over. Anyone may call this.
    function release(bytes32 batchId) external;

    /// @notice Sends the attestor's share of a released batch to the attestor, who calls this.
    function collectAttestorShare(bytes32 batchId) external returns (uint256 amount, uint48 signers);

    /// @notice Freezes what a batch that is held has charged to a license: it is split off, to a record of its own under
    /// `chargeId` that is settled, released and collected as a batch is, and the rest of the batch goes on. One that was frozen
    /// and let go before its hold was over can be frozen again. DisputeCourt alone may call this.
    /// @param entries The batch's, as they were settled
    /// @param outcomes Those of `BatchSettled`; not read where each entry was charged its price
    /// @return chargeId keccak256 of batch and license, encoded
    /// @return amount Currency units
    function freezeCharge(
        BatchHeader calldata header,
        bytes calldata entries,
        bytes calldata outcomes,
        LicenseId licenseId
    ) external returns (bytes32 chargeId, uint256 amount);

    /// @notice Gives a frozen charge back to its license's balance, whatever became of the license, and takes it off what was spent
    /// in its term. Where that term is closed, what it then lacks to its minimum is the asset's, as if it had been closed
    /// without the charge; where nothing is known any more of what else was spent in it, or the license is on the voucher road,
    /// whose counter can't go back, at most the minimum. DisputeCourt alone may call this.
    /// @return amount Currency units, for both
    function refundCharge(bytes32 chargeId) external returns (uint256 amount);

    /// @notice Lets a frozen charge go: it can be released from `releasableAt` on, or when its batch could be, if that is
    /// earlier. DisputeCourt alone may call this.
    function releaseCharge(bytes32 chargeId, uint40 releasableAt) external;

    /// @notice Sends what an operator's pool has earned there. Anyone may call this.
    function payPool(OperatorId operatorId) external returns (uint256 amount);

    /// @notice Sends what an asset has earned to its pot in the waterfall. Anyone may call this.
    function payAsset(AssetId assetId) external returns (uint256 amount);

    /// @notice Sends all that an operator has earned to `to`, on its owner's word.
    function withdrawEarnings(OperatorId operatorId, address to) external returns (uint256 amount);

    /// @notice Sends the protocol's fees to the treasury. Anyone may call this.
    function withdrawFees() external returns (uint256 amount);

    // Administration

    /// @notice Sets the protocol fee, at most MAX_FEE_BPS, for batches that settle from now on.
    function setFee(uint16 feeBps) external;

    /// @notice Raises how much the escrow may owe.
    function raiseDepositCeiling(uint64 ceiling) external;

    /// @notice Stops purchases and deposits for PAUSE_PERIOD. Can't be repeated before as long again has passed.
    function pause() external;

    /// @notice Ends a pause before its time.
    function unpause() external;

    // Views

    /// @notice The market's only currency.
    function CURRENCY() external view returns (IERC20);

    /// @notice Where the models are that plans are for.
    function ASSETS() external view returns (IAssetRegistry);

    /// @notice Who is sent the protocol's fees.
    function TREASURY() external view returns (address);

    /// @notice Where plans are, and the tokens of the licenses that have accounts here.
    function LICENSES() external view returns (ILicenseRegistry);

    /// @notice Where the operators are that licenses choose.
    function OPERATORS() external view returns (IOperatorRegistry);

    /// @notice Where the stake is that backs what operators charge.
    function STAKING() external view returns (IPerformanceStaking);

    /// @notice Where the pots are that assets' income runs through.
    function WATERFALL() external view returns (IRevenueWaterfall);

    /// @notice The nonce under which EIP-3009 pays for a purchase, and for nothing else.
    function purchaseHash(Purchase calldata purchase, bytes32 salt) external pure returns (bytes32);

    /// @notice The nonce under which EIP-3009 pays for a deposit, and for nothing else.
    /// @param owner Whose the license is: nothing is paid while it is another's
    function depositHash(
        LicenseId licenseId,
        address owner,
        uint64 amount,
        bytes32 salt
    ) external pure returns (bytes32);

    /// @notice A batch's id: the EIP-712 digest of its header, which attestors sign.
    function batchIdOf(BatchHeader calldata header) external view returns (bytes32);

    /// @notice What is kept of a batch, or of a charge that was split off; all zero for one that hasn't settled.
    function batchOf(bytes32 batchId) external view returns (Batch memory);

    /// @notice How a batch's charge is divided, or will be at its release; all zero for one that hasn't settled, or was refunded.
    function splitOf(bytes32 batchId) external view returns (Split memory);

    /// @notice What a settled batch has charged to a license.
    /// @param entries The batch's, as they were settled
    /// @param outcomes Those of `BatchSettled`; not read where each entry was charged its price
    /// @return chargeId keccak256 of batch and license, encoded: where the charge is kept once it was split off
    /// @return amount Currency units
    /// @return entry The license's 28 bytes, right-aligned
    function chargeOf(
        BatchHeader calldata header,
        bytes calldata entries,
        bytes calldata outcomes,
        LicenseId licenseId
    ) external view returns (bytes32 chargeId, uint256 amount, uint256 entry);

    /// @notice Where a charge that was split off comes from; all zero for any other. `batchOf` and `batchStatusOf` say the rest.
    function chargeRecordOf(bytes32 chargeId) external view returns (ChargeRecord memory);

    /// @notice The last batch of a lane; all zero before the first.
    function laneOf(OperatorId operatorId, PlanId planId, VersionId versionId) external view returns (Lane memory);

    /// @notice A license's account; all zero for a license that was never bought.
    function accountOf(LicenseId licenseId) external view returns (AccountView memory);

    /// @notice What a license is up to now.
    function statusOf(LicenseId licenseId) external view returns (LicenseStatus);

    /// @notice What a batch, or a charge that was split off, is up to now.
    function batchStatusOf(bytes32 batchId) external view returns (BatchStatus);

    /// @notice A key's record in a license's generation, and what it is up to now; its end is the generation's, where that comes
    /// first.
    function voucherKeyOf(
        LicenseId licenseId,
        uint16 generation,
        bytes calldata key
    ) external view returns (VoucherKeyStatus status, VoucherKey memory record);

    /// @notice What a withdrawal must leave, in currency units: what is missing to the minimum of the running term, and of
    /// terms that are over and not closed.
    function committedOf(LicenseId licenseId) external view returns (uint256);

    /// @notice The upfront price that waits; all zero if none does.
    function upfrontOf(LicenseId licenseId) external view returns (Upfront memory);

    /// @notice The cap that a code stands for, in currency units; the highest number for 0, which is none.
    function capOf(uint8 capCode) external view returns (uint256);

    /// @notice What waits for an operator's owner and its pool; all zero if nothing does.
    function operatorIncomeOf(OperatorId operatorId) external view returns (OperatorIncome memory);

    /// @notice What an asset has earned and waits for `payAsset`, in currency units.
    function assetIncomeOf(AssetId assetId) external view returns (uint256);

    /// @notice What the escrow owes to all together, in currency units: it holds at least as much.
    function totalOwed() external view returns (uint64);

    /// @notice What waits for the treasury, in currency units.
    function protocolFees() external view returns (uint64);

    /// @notice The protocol fee of what settles from now on, in basis points of the charge before discounts.
    function feeBps() external view returns (uint16);

    /// @notice The most that the escrow may owe after a purchase or a deposit, in currency units.
    function depositCeiling() external view returns (uint64);

    /// @notice Until when purchases and deposits are stopped, or were last, in Unix seconds; 0 if they never were.
    function pausedUntil() external view returns (uint40);

    /// @notice The longest epoch, in seconds.
    function EPOCH_PERIOD() external view returns (uint256);

    /// @notice How long after an epoch's end its batch may settle, in seconds.
    function WINDOW_PERIOD() external view returns (uint256);
}
