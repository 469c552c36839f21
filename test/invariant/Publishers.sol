// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {IERC2981} from "@openzeppelin/contracts/interfaces/IERC2981.sol";
import {IERC721Metadata} from "@openzeppelin/contracts/token/ERC721/extensions/IERC721Metadata.sol";
import {AssetKind, DerivativePolicy, IAssetRegistry, Relation} from "../../contracts/interfaces/IAssetRegistry.sol";
import {ILicenseRegistry, Offer, PlanStatus, PlanTerms} from "../../contracts/interfaces/ILicenseRegistry.sol";
import {AssetId, PlanId} from "../../contracts/types/Ids.sol";
import {Count} from "./Ledger.sol";
import {Machine, Verb} from "./Statuses.sol";
import {VM} from "./Vm.sol";
import {Vouchers} from "./Vouchers.sol";

/// @title Assets, versions and plans: derived, sold, published, recalled, offered to all or to one, closed, and served
abstract contract Publishers is Vouchers {
    uint256 private constant MOST_RECALLS = 6;
    uint256 private constant MOST_PLANS = 10;
    uint256 private constant MOST_ASSETS = 9;
    uint256 private constant MOST_PARENTS = 3;

    /// @dev An offer that was accepted.
    struct SignedOffer {
        Offer offer;
        uint256 assetId;
        bytes signature;
        bytes32 hash;
    }

    /// @dev For who tries them again.
    SignedOffer[] internal offers;

    // Assets

    /// @dev A new asset, on what its parents ask for or what their owners have signed; mostly.
    function derive(uint256 seed) external attempt(seed) {
        if (assetCount == MOST_ASSETS) return _setPolicy();
        address registrant = publishers[_draw(publishers.length)];
        IAssetRegistry.Registration memory registration;
        registration.uri = "ipfs://derived";
        registration.kind = AssetKind(_draw(3));
        registration.permittedUses = uint32(_draw(8) == 0 ? 15 : _draw(8));
        registration.policy = DerivativePolicy(_draw(3));
        registration.minShareBps = uint16(_draw(2_000));
        registration.parents = _anyParents(registration.kind);
        Refusals memory refusals = _lineageRefusals(registration);
        uint256 count = registration.parents.length;
        IAssetRegistry.DerivationApproval[] memory approvals = new IAssetRegistry.DerivationApproval[](count);
        for (uint256 i; i < count; ++i) {
            approvals[i] = _approval(registration.parents[i], registrant, refusals);
        }
        bytes memory call = abi.encodeCall(assets.register, (registration, approvals));
        bytes memory result = _do(registrant, address(assets), call, refusals, "8: a derivation");
        if (refusals.count > 0) return;
        _noteParents(registration.parents);
        require(abi.decode(result, (uint256)) == assetCount, "8: an asset's number was used before");
        Asset storage asset = lineage[assetCount];
        (asset.kind, asset.policy) = (registration.kind, registration.policy);
        (asset.minShareBps, asset.permittedUses) = (registration.minShareBps, registration.permittedUses);
        asset.receiver = registrant;
        _publish(assetCount, 1);
        _requireSpent(registrant, call, registration, approvals);
        _requireAsset(assetCount);
    }

    /// @dev Binds who derives from then on.
    function setPolicy(uint256 seed) external attempt(seed) {
        _setPolicy();
    }

    /// @dev Whoever owns an asset when its pot is distributed is paid.
    function sellAsset(uint256 seed) external attempt(seed) {
        uint256 asset = 1 + _draw(assetCount);
        address owner = assets.ownerOf(asset);
        bytes memory call = abi.encodeCall(assets.transferFrom, (owner, publishers[_draw(publishers.length)], asset));
        _mustLand(owner, address(assets), call, "7: an asset's sale");
        _noteMove(address(assets), asset);
    }

    function describeAsset(uint256 seed) external attempt(seed) {
        uint256 id = 1 + _draw(assetCount);
        string memory uri = _draw(8) == 0 ? "" : string.concat("ipfs://", VM.toString(_draw(1_000)));
        Refusals memory refusals;
        _unless(refusals, bytes(uri).length > 0, abi.encodeWithSelector(IAssetRegistry.AssetUriEmpty.selector));
        bytes memory call = abi.encodeCall(assets.describe, (AssetId.wrap(uint32(id)), uri));
        _doFor(id, call, refusals, "8: a description");
        if (refusals.count > 0) return;
        string memory actual = IERC721Metadata(address(assets)).tokenURI(id);
        require(keccak256(bytes(actual)) == keccak256(bytes(uri)), "8: an asset's description is another one");
    }

    /// @dev Whoever gets the royalties of sales passes that on; an owner doesn't.
    function setRoyaltyReceiver(uint256 seed) external attempt(seed) {
        uint256 id = 1 + _draw(assetCount);
        address heir = publishers[_draw(publishers.length)];
        address sender = _draw(4) == 0 ? assets.ownerOf(id) : lineage[id].receiver;
        Refusals memory refusals;
        _unless(
            refusals,
            sender == lineage[id].receiver,
            abi.encodeWithSelector(IAssetRegistry.CallerNotRoyaltyReceiver.selector, id, sender)
        );
        bytes memory call = abi.encodeCall(assets.setRoyaltyReceiver, (AssetId.wrap(uint32(id)), heir));
        _do(sender, address(assets), call, refusals, "8: a royalty's heir");
        if (refusals.count == 0) lineage[id].receiver = heir;
        (address receiver, ) = IERC2981(address(assets)).royaltyInfo(id, USD);
        require(receiver == lineage[id].receiver, "8: the royalties of sales go to another one");
    }

    /// @dev One version is mostly left that may be used, or a new one takes its place.
    function recall(uint256 seed) external attempt(seed) {
        uint256 version = _anyVersion(1);
        if (recalls.length == MOST_RECALLS || _draw(3) != 0) return _recallOrPublish(version, recalledAt.length < 4);
        _recallOrPublish(version, false);
    }

    // Plans

    /// @dev Another one with the same terms takes its place, maybe for another asset.
    function closePlan(uint256 seed) external attempt(seed) {
        uint256 plan = _anyPlan();
        if (_planStatus(plan) == PlanStatus.Closed || plans.length == MOST_PLANS || _draw(3) == 0)
            return _settle(_draft(false));
        bytes memory call = abi.encodeCall(licenses.closePlan, (PlanId.wrap(uint32(plan))));
        _watch(Machine.Plan, plan);
        _mustLand(assets.ownerOf(_assetOf(plan)), address(licenses), call, "9: the end of a plan's sales");
        sales[plan].closed = true;
        _see(Machine.Plan, plan, Verb.ClosePlan);
        PlanTerms memory terms = plans[plan - 1];
        if (_draw(2) == 0) terms.assetId = AssetId.wrap(uint32(1 + _draw(assetCount)));
        _create(terms);
        _see(Machine.Plan, plans.length, Verb.CreatePlan);
    }

    /// @dev A plan for one buyer, that the asset's owner has signed and anybody brings; or that it took back.
    function offer(uint256 seed) external attempt(seed) {
        if (plans.length == MOST_PLANS) return _settle(_draft(false));
        Offer memory offer_;
        offer_.terms = plans[_anyPlan() - 1];
        offer_.terms.supply = uint32(_draw(3));
        offer_.buyer = licensees[_draw(licensees.length)];
        offer_.salt = _draw(type(uint256).max);
        offer_.deadline = _draw(8) == 0 ? clock - 1 : clock + _draw(1 days);
        bytes32 hash = licenses.offerHash(offer_);
        address owner = assets.ownerOf(AssetId.unwrap(offer_.terms.assetId));
        bool isForged = _draw(8) == 0;
        bytes memory signature = _signed(isForged ? publisherKeys[0] ^ 1 : _keyOf(owner), hash);
        bytes memory call = abi.encodeCall(licenses.acceptOffer, (offer_, signature));
        Refusals memory refusals;
        _unless(refusals, !isForged, abi.encodeWithSelector(ILicenseRegistry.OfferNotSigned.selector, hash, owner));
        _unless(
            refusals,
            clock <= offer_.deadline,
            abi.encodeWithSelector(ILicenseRegistry.OfferExpired.selector, offer_.deadline, clock)
        );
        if (_draw(8) == 0) {
            _mustLand(owner, address(licenses), abi.encodeCall(licenses.withdrawOffer, (offer_)), "10: an offer's end");
            _unless(refusals, false, abi.encodeWithSelector(ILicenseRegistry.OfferUsedBefore.selector, hash));
        }
        bytes memory result = _do(_anybody(), address(licenses), call, refusals, "10: an offer");
        if (refusals.count > 0) return;
        plans.push(offer_.terms);
        require(abi.decode(result, (uint256)) == plans.length, "10: a plan's number was used before");
        buyerOf[plans.length] = offer_.buyer;
        _serveAll(PlanId.wrap(uint32(plans.length)));
        _see(Machine.Plan, plans.length, Verb.CreatePlan);
        SignedOffer storage signed = offers.push();
        (signed.offer, signed.signature) = (offer_, signature);
        (signed.assetId, signed.hash) = (AssetId.unwrap(offer_.terms.assetId), hash);
    }

    /// @dev Mostly for it: who isn't served any more stays a licensee.
    function serve(uint256 seed) external attempt(seed) {
        uint256 operator = _anyOperator();
        PlanId plan = PlanId.wrap(uint32(_anyPlan()));
        bool isServed = _draw(6) != 0;
        bytes memory call = abi.encodeCall(operators.setServed, (_operatorId(operator), plan, isServed));
        _mustLand(operatorOwners[operator - 1], address(operators), call, "2: a word on who is served");
        refused[operator][PlanId.unwrap(plan)] = !isServed;
    }

    function _setPolicy() private {
        uint256 id = 1 + _draw(assetCount);
        DerivativePolicy policy = DerivativePolicy(_draw(3));
        uint16 minShareBps = uint16(_draw(8) == 0 ? 10_001 : _draw(3_000));
        Refusals memory refusals;
        bytes4 selector = IAssetRegistry.MinShareAboveWhole.selector;
        _unless(refusals, minShareBps <= 10_000, abi.encodeWithSelector(selector, minShareBps));
        bytes memory call = abi.encodeCall(assets.setPolicy, (AssetId.wrap(uint32(id)), policy, minShareBps));
        _doFor(id, call, refusals, "8: a policy");
        if (refusals.count == 0) (lineage[id].policy, lineage[id].minShareBps) = (policy, minShareBps);
        _requireAsset(id);
    }

    /// @dev An asset's owner, or who acts for it; who may not is refused.
    function _doFor(uint256 id, bytes memory call, Refusals memory refusals, string memory act) private {
        address sender = _anyController(id);
        _unless(
            refusals,
            _mayMove(address(assets), assets.ownerOf(id), id, sender),
            abi.encodeWithSelector(IAssetRegistry.CallerNotAssetOwner.selector, id, sender)
        );
        _do(sender, address(assets), call, refusals, act);
    }

    function _anyController(uint256 id) internal returns (address) {
        return _draw(6) == 0 ? BROKER : assets.ownerOf(id);
    }

    /// @dev Ascending, and mostly such as fit the kind.
    function _anyParents(AssetKind kind) private returns (IAssetRegistry.Edge[] memory parents) {
        parents = new IAssetRegistry.Edge[](MOST_PARENTS);
        uint256 count;
        for (uint256 id = 1; id <= assetCount && count < MOST_PARENTS; ++id) {
            if (_draw(assetCount) > 1) continue;
            Relation relation = Relation(_draw(7));
            for (uint256 i; i < 4 && !_fits(relation, kind, lineage[id].kind); ++i) relation = Relation(_draw(7));
            uint256 incomeBps = _draw(16) == 0 ? _draw(10_001) : lineage[id].minShareBps + _draw(500);
            parents[count++] = IAssetRegistry.Edge(AssetId.wrap(uint32(id)), relation, uint16(incomeBps));
        }
        assembly ("memory-safe") {
            mstore(parents, count)
        }
    }

    /// @dev Whether one asset can have come from another so.
    function _fits(Relation relation, AssetKind child, AssetKind parent) private pure returns (bool) {
        if (relation == Relation.TrainedOn || relation == Relation.EvaluatedOn) {
            return parent == AssetKind.Dataset && child != AssetKind.Dataset;
        }
        if (relation == Relation.AdapterOf) return parent == AssetKind.Model && child == AssetKind.Adapter;
        if (relation == Relation.FineTunedFrom || relation == Relation.QuantizedFrom) {
            return parent != AssetKind.Dataset && child != AssetKind.Dataset;
        }
        return true;
    }

    function _lineageRefusals(
        IAssetRegistry.Registration memory registration
    ) private view returns (Refusals memory refusals) {
        uint256 shared;
        for (uint256 i; i < registration.parents.length; ++i) {
            IAssetRegistry.Edge memory edge = registration.parents[i];
            uint256 id = AssetId.unwrap(edge.parentId);
            shared += edge.incomeBps;
            _unless(
                refusals,
                _fits(edge.relation, registration.kind, lineage[id].kind),
                abi.encodeWithSelector(
                    IAssetRegistry.RelationUnfit.selector,
                    id,
                    edge.relation,
                    registration.kind,
                    lineage[id].kind
                )
            );
            uint256 forbidden = registration.permittedUses & ~lineage[id].permittedUses;
            bytes4 selector = IAssetRegistry.UsesNotPermitted.selector;
            _unless(refusals, forbidden == 0, abi.encodeWithSelector(selector, id, forbidden));
        }
        bytes4 above = IAssetRegistry.IncomeAboveWhole.selector;
        _unless(refusals, shared <= 10_000, abi.encodeWithSelector(above, shared));
    }

    /// @dev What a parent's owner has signed, where its word is needed, mostly; and what speaks against it.
    function _approval(
        IAssetRegistry.Edge memory edge,
        address registrant,
        Refusals memory refusals
    ) private returns (IAssetRegistry.DerivationApproval memory approval) {
        uint256 id = AssetId.unwrap(edge.parentId);
        Asset storage parent = lineage[id];
        address owner = assets.ownerOf(id);
        if (owner == registrant) return approval;
        bool isOpen = parent.policy == DerivativePolicy.Open;
        if (isOpen && edge.incomeBps >= parent.minShareBps) return approval;
        _unless(
            refusals,
            parent.policy != DerivativePolicy.Closed,
            abi.encodeWithSelector(IAssetRegistry.DerivativesClosed.selector, id)
        );
        if (_draw(8) == 0) {
            bytes memory refusal = abi.encodeWithSelector(
                IAssetRegistry.DerivationNotApproved.selector,
                id,
                registrant
            );
            if (isOpen) {
                bytes4 selector = IAssetRegistry.IncomeShareBelowMinimum.selector;
                refusal = abi.encodeWithSelector(selector, id, edge.incomeBps, parent.minShareBps);
            }
            _unless(refusals, false, refusal);
            return approval;
        }
        approval.salt = _draw(type(uint256).max);
        approval.deadline = _draw(8) == 0 ? clock - 1 : clock + _draw(1 days);
        bytes32 digest = assets.derivationHash(_derivation(edge, registrant, approval));
        approval.signature = _signed(_keyOf(owner), digest);
        if (_draw(4) == 0) {
            IAssetRegistry.Derivation memory derivation = _derivation(edge, registrant, approval);
            bytes memory call = abi.encodeCall(assets.withdrawDerivation, (derivation));
            _mustLand(owner, address(assets), call, "10: an approval's end");
            bytes4 used = IAssetRegistry.DerivationUsedBefore.selector;
            _unless(refusals, false, abi.encodeWithSelector(used, id, digest));
        }
        _unless(
            refusals,
            clock <= approval.deadline,
            abi.encodeWithSelector(IAssetRegistry.DerivationExpired.selector, id, approval.deadline)
        );
    }

    /// @dev An approval counts once: the same call is refused from then on.
    function _requireSpent(
        address registrant,
        bytes memory call,
        IAssetRegistry.Registration memory registration,
        IAssetRegistry.DerivationApproval[] memory approvals
    ) private {
        for (uint256 i; i < approvals.length; ++i) {
            if (approvals[i].deadline == 0) continue;
            IAssetRegistry.Edge memory edge = registration.parents[i];
            bytes32 digest = assets.derivationHash(_derivation(edge, registrant, approvals[i]));
            bytes4 selector = IAssetRegistry.DerivationUsedBefore.selector;
            bytes memory refusal = abi.encodeWithSelector(selector, edge.parentId, digest);
            return _mustRefuse(registrant, address(assets), call, refusal, "10: an approval was used twice");
        }
    }

    function _derivation(
        IAssetRegistry.Edge memory edge,
        address registrant,
        IAssetRegistry.DerivationApproval memory approval
    ) private pure returns (IAssetRegistry.Derivation memory) {
        return
            IAssetRegistry.Derivation({
                parentId: edge.parentId,
                registrant: registrant,
                relation: edge.relation,
                incomeBps: edge.incomeBps,
                salt: approval.salt,
                deadline: approval.deadline
            });
    }

    function _recallOrPublish(uint256 version, bool publishes) private {
        if (publishes || recalledAt[version - 1] != 0) {
            _publish(MODEL, recalledAt.length + 1);
            recalledAt.push();
            _see(Machine.Version, recalledAt.length, Verb.Publish);
            return _settle(_draft(false));
        }
        _watch(Machine.Version, version);
        bytes memory call = abi.encodeCall(assets.recall, (_versionId(MODEL, version)));
        _mustLand(assets.ownerOf(MODEL), address(assets), call, "9: a recall");
        recalledAt[version - 1] = clock;
        recalls.push(clock);
        _see(Machine.Version, version, Verb.Recall);
        _count(Count.Recalls);
    }

    function _keyOf(address publisher) private view returns (uint256) {
        for (uint256 i; i < publishers.length; ++i) {
            if (publishers[i] == publisher) return publisherKeys[i];
        }
        revert("a publisher without a key");
    }

    function _signed(uint256 key, bytes32 digest) internal pure returns (bytes memory) {
        (uint8 v, bytes32 r, bytes32 s) = VM.sign(key, digest);
        return abi.encodePacked(r, s, v);
    }
}
