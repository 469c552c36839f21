// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {IERC721} from "@openzeppelin/contracts/token/ERC721/IERC721.sol";
import {AssetId, LicenseId, PlanId} from "../types/Ids.sol";
import {IAssetRegistry} from "./IAssetRegistry.sol";
import {IAttestor} from "./IAttestor.sol";

/// @dev Currency units for 1,000,000 units of each meter.
struct Rates {
    uint48 requests;
    uint48 inputTokens;
    uint48 cachedInputTokens;
    uint48 outputTokens;
    uint48 computeMs;
}

/// @dev Two tiers a level. Availability below a floor, or a p95 time to first token above a ceiling, earns the
/// tier's discount; the severe tier is at least as far out and at least as dear.
struct ServiceLevels {
    uint16 availabilityFloorBps;
    uint16 availabilityDiscountBps;
    uint16 severeAvailabilityFloorBps;
    uint16 severeAvailabilityDiscountBps;
    uint32 ttftCeilingMs;
    uint16 ttftDiscountBps;
    uint32 severeTtftCeilingMs;
    uint16 severeTtftDiscountBps;
}

/// @dev All of a plan's terms. They never change. The first word is all that a release reads.
struct PlanTerms {
    /// The model that is licensed.
    AssetId assetId;
    /// Vouches for the batches of this plan.
    IAttestor attestor;
    uint16 publisherBps;
    uint16 attestorBps;
    /// From a charge to its release, in seconds.
    uint32 holdPeriod;
    Rates rates;
    ServiceLevels levels;
    /// Currency units, paid at purchase and held like a charge; the publisher's, less the protocol fee.
    uint56 upfrontPrice;
    /// Currency units a term; what isn't used of it is the publisher's, less the protocol fee.
    uint56 minimumSpend;
    /// Currency units a term; 0 is none.
    uint56 cap;
    /// Length of a term, in seconds.
    uint32 termPeriod;
    /// Whether a license may start a next term: by itself without a minimum spend, else by `renew`.
    bool renewable;
    /// Whether a license may be transferred.
    bool transferable;
    /// The least evidence that each receipt must have which costs something, or the plan's attestor vouches for no batch
    /// of it. 0: signed by the operator. 1: and the attestor recounts the operator's answers. 2: genuine GPUs answered the
    /// attestor. 3: measured code on a CPU closed to its host signed it, and gathered that evidence. 4: the version's
    /// inference verifier takes a proof of the receipt's answer, whatever ran it. The attestor alone keeps it: settlement
    /// doesn't look, and a voucher pays what its payer signed.
    uint8 minEvidenceTier;
    /// Bit field of permitted uses, as in `IAssetRegistry.Asset`: no more than the asset permits.
    uint32 permittedUses;
    /// How many licenses may be sold; 0 is any number.
    uint32 supply;
    /// Rules on challenges that were answered and escalated (ERC-792); zero is nobody.
    address arbitrator;
    /// keccak256 of the license text that people read.
    bytes32 licenseTextHash;
}

/// @dev What charging attested use reads of its plan's terms: their first four words.
struct ChargeTerms {
    AssetId assetId;
    IAttestor attestor;
    uint16 publisherBps;
    uint16 attestorBps;
    uint32 holdPeriod;
    Rates rates;
    ServiceLevels levels;
    uint56 minimumSpend;
    uint56 cap;
    uint32 termPeriod;
    bool renewable;
}

/// @dev What charging vouchers reads of their plan's terms: two words.
struct VoucherTerms {
    AssetId assetId;
    uint16 publisherBps;
    uint56 minimumSpend;
    uint56 cap;
    uint32 termPeriod;
    bool renewable;
}

/// @dev A plan for one buyer, which the model's owner signs by EIP-712, as `Offer` (see `ILicenseRegistry.offerHash`).
struct Offer {
    PlanTerms terms;
    /// The only one whose its licenses may be when they are bought.
    address buyer;
    /// Makes one offer differ from the next that is like it.
    uint256 salt;
    /// Unix seconds until which it can be accepted, inclusive. The plan is on sale from then on, until it is sold out or closed.
    uint256 deadline;
}

/// @dev Who gets a share of a plan's charges besides the operator, who gets the rest.
struct PlanShares {
    AssetId assetId;
    IAttestor attestor;
    uint16 publisherBps;
    uint16 attestorBps;
}

enum PlanStatus {
    None,
    Open,
    SoldOut,
    Closed
}

/// @title The registry of plans (immutable terms for a model) and of the licenses bought under them
interface ILicenseRegistry is IERC721 {
    event PlanCreated(PlanId indexed planId, AssetId indexed assetId, PlanTerms terms);
    /// @dev The plan that `PlanCreated` tells of is for `buyer` alone.
    event OfferAccepted(bytes32 indexed offerHash, PlanId indexed planId, address indexed buyer);
    event OfferWithdrawn(bytes32 indexed offerHash, AssetId indexed assetId);
    event PlanClosed(PlanId indexed planId);
    event LicenseMinted(LicenseId indexed licenseId, PlanId indexed planId, address indexed owner);
    event LicensePlanChanged(LicenseId indexed licenseId, PlanId indexed planId);
    event LicenseMovable(LicenseId indexed licenseId, uint256 movableAt);

    error ArbitratorNotContract(address arbitrator);
    error AttestorNotContract(address attestor);
    error BuyerZero();
    error CallerNotPublisher(AssetId assetId, address caller);
    error DiscountAboveOperatorShare(uint256 discountBps, uint256 operatorBps);
    error EvidenceTierUnknown(uint256 tier, uint256 highest);
    error HoldPeriodOutOfRange(uint256 holdPeriod, uint256 shortest, uint256 longest);
    /// @dev `movableAt` is 0 for a license that isn't locked.
    error LicenseNotMovable(LicenseId licenseId, uint256 movableAt);
    error MinimumAboveCap(uint256 minimumSpend, uint256 cap);
    error OfferExpired(uint256 deadline, uint256 time);
    error OfferNotSigned(bytes32 offerHash, address owner);
    error OfferUsedBefore(bytes32 offerHash);
    error PlanForAnother(PlanId planId, address buyer, address to);
    error PlanIsClosed(PlanId planId);
    error PlanSoldOut(PlanId planId, uint256 supply);
    error PlanUnknown(PlanId planId);
    error ServiceLevelsNotOrdered(ServiceLevels levels);
    error SharesAboveWhole(uint256 publisherBps, uint256 attestorBps, uint256 largestFeeBps);
    error TermPeriodOutOfRange(uint256 termPeriod, uint256 shortest, uint256 longest);
    /// @dev `uses` are those of the plan that the asset doesn't permit.
    error UsesNotPermitted(AssetId assetId, uint256 uses);

    /// @notice Offers licenses of a model on the given terms, by its owner or whom the owner approved.
    function createPlan(PlanTerms calldata terms) external returns (PlanId planId);

    /// @notice Creates the plan of an offer that the model's owner of now has signed, once. Anyone may call this: who comes
    /// second finds the plan by `planOfOffer`.
    /// @param signature The owner's: of its key, or what it takes as a smart account (ERC-1271)
    function acceptOffer(Offer calldata offer, bytes calldata signature) external returns (PlanId planId);

    /// @notice Makes an offer void that wasn't accepted, by the model's owner or whom the owner approved.
    function withdrawOffer(Offer calldata offer) external;

    /// @notice Stops sales under a plan for ever. Licenses that were bought run on.
    function closePlan(PlanId planId) external;

    /// @notice Mints a license, for which UsageEscrow, which alone may call this, opens the account.
    function mint(address to, PlanId planId) external returns (LicenseId licenseId);

    /// @notice Counts a license as sold under another plan, as if its owner bought it. UsageEscrow alone may call this.
    function changePlan(LicenseId licenseId, PlanId planId) external;

    /// @notice Lets a license be transferred after `movableAt`, in Unix seconds, or not at all for 0. UsageEscrow alone may
    /// call this. A transfer ends it.
    function setMovable(LicenseId licenseId, uint40 movableAt) external;

    /// @notice Where the models are that plans are for.
    function ASSETS() external view returns (IAssetRegistry);

    /// @notice The longest hold that a plan may have, in seconds.
    function LONGEST_HOLD() external view returns (uint256);

    /// @notice How many plans there are; they are numbered from 1.
    function planCount() external view returns (uint256);

    /// @notice How many licenses there are; they are numbered from 1.
    function licenseCount() external view returns (uint256);

    /// @notice A plan's terms. Reverts for a plan that doesn't exist.
    function termsOf(PlanId planId) external view returns (PlanTerms memory);

    /// @notice What charging attested use reads of a plan's terms: a part of them that is cheap to read. Reverts for a plan that
    /// doesn't exist.
    function chargeTermsOf(PlanId planId) external view returns (ChargeTerms memory);

    /// @notice What charging vouchers reads of a plan's terms: as `chargeTermsOf`, and cheaper.
    function voucherTermsOf(PlanId planId) external view returns (VoucherTerms memory);

    /// @notice Who rules on a plan's disputes; zero is nobody.
    function arbitratorOf(PlanId planId) external view returns (address);

    /// @notice A plan's shares: a part of its terms that is cheap to read. All zero for a plan that doesn't exist.
    function sharesOf(PlanId planId) external view returns (PlanShares memory);

    /// @notice What was sold under a plan; all zero for a plan that doesn't exist.
    /// @return sold How many licenses were sold
    /// @return closed Whether sales have ended
    function salesOf(PlanId planId) external view returns (uint32 sold, bool closed);

    /// @notice The only one who may buy licenses of a plan, and whose they are then; zero if anybody may.
    function buyerOf(PlanId planId) external view returns (address);

    /// @notice What a model's owner of now signs to make an offer: the EIP-712 digest of the struct and, as its last member, of
    /// the model's `transferCountOf`.
    function offerHash(Offer calldata offer) external view returns (bytes32);

    /// @notice The plan of an offer that was accepted; zero for any other.
    function planOfOffer(bytes32 offerHash) external view returns (PlanId);

    /// @notice Whether an offer was accepted or withdrawn.
    function isOfferUsed(bytes32 offerHash) external view returns (bool);

    /// @notice Reverts unless a license of the plan could be sold to `to` now.
    function requireOnSale(PlanId planId, address to) external view;

    /// @notice Whether a plan sells licenses.
    function statusOf(PlanId planId) external view returns (PlanStatus);

    /// @notice The time after which a license may be transferred, in Unix seconds; 0 if it may not.
    function movableAt(LicenseId licenseId) external view returns (uint40);

    /// @notice When a license was transferred last, in Unix seconds; 0 if it never was.
    function ownedSince(LicenseId licenseId) external view returns (uint40);
}
