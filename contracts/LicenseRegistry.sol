// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {AccessManaged} from "@openzeppelin/contracts/access/manager/AccessManaged.sol";
import {ERC721} from "@openzeppelin/contracts/token/ERC721/ERC721.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {SignatureChecker} from "@openzeppelin/contracts/utils/cryptography/SignatureChecker.sol";
import {IAssetRegistry} from "./interfaces/IAssetRegistry.sol";
import {
    ChargeTerms,
    ILicenseRegistry,
    Offer,
    PlanShares,
    PlanStatus,
    PlanTerms,
    ServiceLevels,
    VoucherTerms
} from "./interfaces/ILicenseRegistry.sol";
import {Bps} from "./libraries/Bps.sol";
import {OfferHash} from "./libraries/OfferHash.sol";
import {ServiceLevelMath} from "./libraries/ServiceLevelMath.sol";
import {AssetId, LicenseId, PlanId} from "./types/Ids.sol";

/// @title The registry of plans and licenses
/// @notice HOLDS no money. A plan is immutable from its creation; a license is an ERC-721 token.
/// STATES of a plan: open → sold out → closed, or closed at any time. A license lives for ever; whether it runs, and when it
/// may change hands, is a matter of its account in UsageEscrow.
/// WHO: a model's owner, or whom the owner approved, creates and closes its plans; anybody has a plan created that the
/// owner has signed an offer of, whose licenses are for one buyer alone; UsageEscrow alone mints, and says when a
/// license may be transferred; a license's owner, or whom the owner approved, then transfers it.
/// ASSUMES that AssetRegistry tells owners truthfully, and that UsageEscrow mints only what it opened an account for.
/// ASSUMES that a plan's attestor keeps to the plan's tier of evidence, which nothing on chain checks.
contract LicenseRegistry is ILicenseRegistry, ERC721, AccessManaged, EIP712 {
    using OfferHash for Offer;
    using ServiceLevelMath for ServiceLevels;

    uint256 public constant SHORTEST_TERM = 1 days;
    /// @dev An account's expiry has 32 bits, which end in 2106.
    uint256 public constant LONGEST_TERM = 3650 days;
    uint256 public constant SHORTEST_HOLD = 1 hours;
    uint256 public constant LONGEST_HOLD = 30 days;
    /// @dev Proven: see `PlanTerms.minEvidenceTier`.
    uint256 private constant HIGHEST_EVIDENCE_TIER = 4;

    struct Sales {
        uint32 sold;
        bool closed;
        /// Whose its licenses must be; anybody's for zero.
        address buyer;
    }

    IAssetRegistry public immutable ASSETS;

    uint256 public planCount;
    uint256 public licenseCount;
    mapping(PlanId planId => PlanTerms) private _terms;
    mapping(PlanId planId => Sales) private _sales;
    mapping(bytes32 offerHash => bool) public isOfferUsed;
    mapping(bytes32 offerHash => PlanId) public planOfOffer;
    mapping(LicenseId licenseId => uint40) public movableAt;
    mapping(LicenseId licenseId => uint40) public ownedSince;

    constructor(
        address authority,
        IAssetRegistry assets
    ) ERC721("Licet License", "LICET-L") AccessManaged(authority) EIP712("Licet LicenseRegistry", "1") {
        ASSETS = assets;
    }

    /// @inheritdoc ILicenseRegistry
    function createPlan(PlanTerms calldata terms) external returns (PlanId planId) {
        _requireController(terms.assetId);

        return _create(terms);
    }

    /// @inheritdoc ILicenseRegistry
    function acceptOffer(Offer calldata offer, bytes calldata signature) external returns (PlanId planId) {
        bytes32 hash = offerHash(offer);
        require(!isOfferUsed[hash], OfferUsedBefore(hash));
        require(block.timestamp <= offer.deadline, OfferExpired(offer.deadline, block.timestamp));
        require(offer.buyer != address(0), BuyerZero());
        address owner = ASSETS.ownerOf(AssetId.unwrap(offer.terms.assetId));
        require(SignatureChecker.isValidSignatureNowCalldata(owner, hash, signature), OfferNotSigned(hash, owner));

        isOfferUsed[hash] = true;
        planId = _create(offer.terms);
        planOfOffer[hash] = planId;
        _sales[planId].buyer = offer.buyer;

        emit OfferAccepted(hash, planId, offer.buyer);
    }

    /// @inheritdoc ILicenseRegistry
    function withdrawOffer(Offer calldata offer) external {
        _requireController(offer.terms.assetId);
        bytes32 hash = offerHash(offer);
        require(!isOfferUsed[hash], OfferUsedBefore(hash));

        isOfferUsed[hash] = true;

        emit OfferWithdrawn(hash, offer.terms.assetId);
    }

    /// @inheritdoc ILicenseRegistry
    function closePlan(PlanId planId) external {
        _requireController(termsOf(planId).assetId);
        Sales storage sales = _sales[planId];
        require(!sales.closed, PlanIsClosed(planId));

        sales.closed = true;

        emit PlanClosed(planId);
    }

    /// @inheritdoc ILicenseRegistry
    function mint(address to, PlanId planId) external restricted returns (LicenseId licenseId) {
        requireOnSale(planId, to);

        ++_sales[planId].sold;
        uint256 tokenId = ++licenseCount;
        // Minting 2^64 licenses can't happen.
        licenseId = LicenseId.wrap(uint64(tokenId));
        _mint(to, tokenId);

        emit LicenseMinted(licenseId, planId, to);
    }

    /// @inheritdoc ILicenseRegistry
    function changePlan(LicenseId licenseId, PlanId planId) external restricted {
        requireOnSale(planId, ownerOf(LicenseId.unwrap(licenseId)));

        ++_sales[planId].sold;

        emit LicensePlanChanged(licenseId, planId);
    }

    /// @inheritdoc ILicenseRegistry
    function setMovable(LicenseId licenseId, uint40 at) external restricted {
        movableAt[licenseId] = at;

        emit LicenseMovable(licenseId, at);
    }

    /// @inheritdoc ILicenseRegistry
    function requireOnSale(PlanId planId, address to) public view {
        PlanTerms storage terms = _terms[planId];
        require(AssetId.unwrap(terms.assetId) != 0, PlanUnknown(planId));
        uint256 supply = terms.supply;
        Sales memory sales = _sales[planId];
        require(!sales.closed, PlanIsClosed(planId));
        require(supply == 0 || sales.sold < supply, PlanSoldOut(planId, supply));
        require(sales.buyer == address(0) || sales.buyer == to, PlanForAnother(planId, sales.buyer, to));
    }

    /// @inheritdoc ILicenseRegistry
    function statusOf(PlanId planId) external view returns (PlanStatus) {
        PlanTerms storage terms = _terms[planId];
        Sales memory sales = _sales[planId];
        if (AssetId.unwrap(terms.assetId) == 0) return PlanStatus.None;
        if (sales.closed) return PlanStatus.Closed;
        return terms.supply != 0 && sales.sold >= terms.supply ? PlanStatus.SoldOut : PlanStatus.Open;
    }

    /// @inheritdoc ILicenseRegistry
    function termsOf(PlanId planId) public view returns (PlanTerms memory terms) {
        terms = _terms[planId];
        require(AssetId.unwrap(terms.assetId) != 0, PlanUnknown(planId));
    }

    /// @inheritdoc ILicenseRegistry
    function chargeTermsOf(PlanId planId) external view returns (ChargeTerms memory) {
        PlanTerms storage terms = _terms[planId];
        require(AssetId.unwrap(terms.assetId) != 0, PlanUnknown(planId));
        return
            ChargeTerms({
                assetId: terms.assetId,
                attestor: terms.attestor,
                publisherBps: terms.publisherBps,
                attestorBps: terms.attestorBps,
                holdPeriod: terms.holdPeriod,
                rates: terms.rates,
                levels: terms.levels,
                minimumSpend: terms.minimumSpend,
                cap: terms.cap,
                termPeriod: terms.termPeriod,
                renewable: terms.renewable
            });
    }

    /// @inheritdoc ILicenseRegistry
    function voucherTermsOf(PlanId planId) external view returns (VoucherTerms memory) {
        PlanTerms storage terms = _terms[planId];
        require(AssetId.unwrap(terms.assetId) != 0, PlanUnknown(planId));
        return
            VoucherTerms({
                assetId: terms.assetId,
                publisherBps: terms.publisherBps,
                minimumSpend: terms.minimumSpend,
                cap: terms.cap,
                termPeriod: terms.termPeriod,
                renewable: terms.renewable
            });
    }

    /// @inheritdoc ILicenseRegistry
    function arbitratorOf(PlanId planId) external view returns (address) {
        return _terms[planId].arbitrator;
    }

    /// @inheritdoc ILicenseRegistry
    function sharesOf(PlanId planId) external view returns (PlanShares memory) {
        PlanTerms storage terms = _terms[planId];
        return PlanShares(terms.assetId, terms.attestor, terms.publisherBps, terms.attestorBps);
    }

    /// @inheritdoc ILicenseRegistry
    function salesOf(PlanId planId) external view returns (uint32 sold, bool closed) {
        Sales memory sales = _sales[planId];
        return (sales.sold, sales.closed);
    }

    /// @inheritdoc ILicenseRegistry
    function buyerOf(PlanId planId) external view returns (address) {
        return _sales[planId].buyer;
    }

    /// @inheritdoc ILicenseRegistry
    function offerHash(Offer calldata offer) public view returns (bytes32) {
        return _hashTypedDataV4(offer.structHashOf(ASSETS.transferCountOf(offer.terms.assetId)));
    }

    function _create(PlanTerms calldata terms) private returns (PlanId planId) {
        _requireSupported(terms);
        _requireCoherent(terms);

        // Creating 2^32 plans would take more gas than 10^12 blocks have.
        planId = PlanId.wrap(uint32(++planCount));
        _terms[planId] = terms;

        emit PlanCreated(planId, terms.assetId, terms);
    }

    function _requireController(AssetId assetId) private view {
        require(ASSETS.isController(assetId, msg.sender), CallerNotPublisher(assetId, msg.sender));
    }

    /// @dev A transfer needs a lock whose wait is over, and uses it up: what may be charged at that very second comes first.
    function _update(address to, uint256 tokenId, address auth) internal override returns (address from) {
        from = super._update(to, tokenId, auth);
        if (from == address(0)) return from;

        // Token ids are license ids.
        LicenseId licenseId = LicenseId.wrap(uint64(tokenId));
        uint256 at = movableAt[licenseId];
        require(at != 0 && block.timestamp > at, LicenseNotMovable(licenseId, at));

        delete movableAt[licenseId];
        // Timestamps stay far below 2^40.
        ownedSince[licenseId] = uint40(block.timestamp);
    }

    function _requireSupported(PlanTerms calldata terms) private view {
        require(
            terms.minEvidenceTier <= HIGHEST_EVIDENCE_TIER,
            EvidenceTierUnknown(terms.minEvidenceTier, HIGHEST_EVIDENCE_TIER)
        );
        require(
            terms.arbitrator == address(0) || terms.arbitrator.code.length > 0,
            ArbitratorNotContract(terms.arbitrator)
        );
    }

    /// @dev The operator is left a share that covers the largest discount, whatever fee governance may set.
    function _requireCoherent(PlanTerms calldata terms) private view {
        uint256 forbidden = terms.permittedUses & ~ASSETS.assetOf(terms.assetId).permittedUses;
        require(forbidden == 0, UsesNotPermitted(terms.assetId, forbidden));
        require(address(terms.attestor).code.length > 0, AttestorNotContract(address(terms.attestor)));
        require(
            terms.termPeriod >= SHORTEST_TERM && terms.termPeriod <= LONGEST_TERM,
            TermPeriodOutOfRange(terms.termPeriod, SHORTEST_TERM, LONGEST_TERM)
        );
        require(
            terms.holdPeriod >= SHORTEST_HOLD && terms.holdPeriod <= LONGEST_HOLD,
            HoldPeriodOutOfRange(terms.holdPeriod, SHORTEST_HOLD, LONGEST_HOLD)
        );
        require(terms.cap == 0 || terms.minimumSpend <= terms.cap, MinimumAboveCap(terms.minimumSpend, terms.cap));
        uint256 others = uint256(terms.publisherBps) + terms.attestorBps + Bps.MAX_FEE;
        require(others <= Bps.WHOLE, SharesAboveWhole(terms.publisherBps, terms.attestorBps, Bps.MAX_FEE));
        require(terms.levels.areOrdered(), ServiceLevelsNotOrdered(terms.levels));
        uint256 discountBps = terms.levels.largestDiscount();
        uint256 operatorBps = Bps.WHOLE - others;
        require(discountBps <= operatorBps, DiscountAboveOperatorShare(discountBps, operatorBps));
    }
}
