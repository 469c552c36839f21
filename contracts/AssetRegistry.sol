// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {IERC165} from "@openzeppelin/contracts/interfaces/IERC165.sol";
import {ERC721} from "@openzeppelin/contracts/token/ERC721/ERC721.sol";
import {ERC721URIStorage} from "@openzeppelin/contracts/token/ERC721/extensions/ERC721URIStorage.sol";
import {ERC2981} from "@openzeppelin/contracts/token/common/ERC2981.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {SignatureChecker} from "@openzeppelin/contracts/utils/cryptography/SignatureChecker.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import {Checkpoints} from "@openzeppelin/contracts/utils/structs/Checkpoints.sol";
import {AssetKind, DerivativePolicy, IAssetRegistry, Relation, VersionStatus} from "./interfaces/IAssetRegistry.sol";
import {Bps} from "./libraries/Bps.sol";
import {AssetId, VersionId, toVersionId} from "./types/Ids.sol";

/// @title The registry of models, adapters and datasets
/// @notice HOLDS no money. An asset is an ERC-721 token; a version is an entry in its append-only history; its lineage is the
/// list of assets that it came from, each with a share of what it earns.
/// STATES of a version: usable → recalling → recalled, each for ever once left.
/// ALWAYS: an asset's parents were there before it, so lineage has no cycles; parents, their shares and the permitted uses
/// stay as they were registered; no asset permits a use that a parent forbids.
/// WHO: anybody registers, with the permission of the parents; an asset's owner, or whom the owner approved, publishes
/// versions of it, recalls them, describes it, and says who may derive from it. Nobody, not even governance, changes or
/// removes what was registered or published.
/// ASSUMES nothing of other contracts: it calls none but owners' own accounts, for their signatures (ERC-1271).
contract AssetRegistry is IAssetRegistry, ERC721URIStorage, ERC2981, EIP712 {
    using Checkpoints for Checkpoints.Trace208;

    bytes32 private constant DERIVATION_TYPEHASH = keccak256(
        "Derivation(uint32 parentId,address registrant,uint8 relation,uint16 incomeBps,uint256 salt,uint256 deadline,"
        "uint256 transferCount)"
    );

    uint256 public constant NOTICE_PERIOD = 7 days;
    uint256 public constant MAX_PARENTS = 8;
    uint256 public constant MAX_ROYALTY = 1_000;

    uint256 public assetCount;

    mapping(AssetId assetId => uint256) public transferCountOf;
    mapping(AssetId assetId => Asset) private _assets;
    mapping(AssetId assetId => Edge[]) private _parents;
    mapping(bytes32 digest => bool) public isDerivationUsed;
    mapping(AssetId assetId => uint32) public versionCountOf;
    mapping(VersionId versionId => Version) private _versions;
    mapping(AssetId assetId => mapping(bytes32 manifestHash => VersionId)) public versionOfManifest;
    /// @dev How many recalls of an asset's versions are in effect, by the time from which on.
    mapping(AssetId assetId => Checkpoints.Trace208) private _recalls;

    constructor() ERC721("Licet Asset", "LICET-A") EIP712("Licet AssetRegistry", "1") {}

    /// @inheritdoc IAssetRegistry
    function register(
        Registration calldata registration,
        DerivationApproval[] calldata approvals
    ) external returns (AssetId assetId) {
        Edge[] calldata parents = registration.parents;
        require(bytes(registration.uri).length > 0, AssetUriEmpty());
        require(registration.royaltyBps <= MAX_ROYALTY, RoyaltyAboveBound(registration.royaltyBps, MAX_ROYALTY));
        require(parents.length <= MAX_PARENTS, ParentsAboveLimit(parents.length, MAX_PARENTS));
        require(approvals.length == parents.length, ApprovalsNotParallel(approvals.length, parents.length));
        _requireLineage(registration);
        for (uint256 i; i < parents.length; ++i) _obtainPermission(parents[i], approvals[i]);

        uint256 tokenId = ++assetCount;
        // Registering 2^32 assets would take more gas than 10^14 blocks have.
        assetId = AssetId.wrap(uint32(tokenId));
        _assets[assetId].kind = registration.kind;
        _assets[assetId].permittedUses = registration.permittedUses;
        for (uint256 i; i < parents.length; ++i) _parents[assetId].push(parents[i]);

        _mint(msg.sender, tokenId);
        emit AssetRegistered(
            assetId,
            msg.sender,
            registration.kind,
            registration.uri,
            registration.permittedUses,
            registration.royaltyBps
        );
        for (uint256 i; i < parents.length; ++i) {
            emit AssetDerived(assetId, parents[i].parentId, parents[i].relation, parents[i].incomeBps);
        }
        _setTokenURI(tokenId, registration.uri);
        _setTokenRoyalty(tokenId, msg.sender, registration.royaltyBps);
        _setPolicy(assetId, registration.policy, registration.minShareBps);
    }

    /// @inheritdoc IAssetRegistry
    function describe(AssetId assetId, string calldata uri) external {
        _requireController(assetId);
        require(bytes(uri).length > 0, AssetUriEmpty());

        emit AssetDescribed(assetId, uri);
        _setTokenURI(AssetId.unwrap(assetId), uri);
    }

    /// @inheritdoc IAssetRegistry
    function setPolicy(AssetId assetId, DerivativePolicy policy, uint16 minShareBps) external {
        _requireController(assetId);

        _setPolicy(assetId, policy, minShareBps);
    }

    /// @inheritdoc IAssetRegistry
    function setRoyaltyReceiver(AssetId assetId, address receiver) external {
        uint256 tokenId = AssetId.unwrap(assetId);
        (address present, uint256 royaltyBps) = royaltyInfo(tokenId, Bps.WHOLE);
        require(present == msg.sender, CallerNotRoyaltyReceiver(assetId, msg.sender));

        // At most MAX_ROYALTY.
        _setTokenRoyalty(tokenId, receiver, uint96(royaltyBps));

        emit RoyaltyReceiverSet(assetId, receiver);
    }

    /// @inheritdoc IAssetRegistry
    function withdrawDerivation(Derivation calldata derivation) external {
        AssetId parentId = derivation.parentId;
        _requireController(parentId);
        bytes32 digest = derivationHash(derivation);
        require(!isDerivationUsed[digest], DerivationUsedBefore(parentId, digest));

        isDerivationUsed[digest] = true;

        emit DerivationWithdrawn(parentId, digest);
    }

    /// @inheritdoc IAssetRegistry
    function publish(
        AssetId assetId,
        bytes32 manifestHash,
        bytes32 weightsCommitment,
        address inferenceVerifier,
        string calldata uri,
        string calldata changes
    ) external returns (VersionId versionId) {
        _requireController(assetId);
        require(manifestHash != 0, ManifestHashZero(assetId));
        VersionId before = versionOfManifest[assetId][manifestHash];
        require(VersionId.unwrap(before) == 0, ManifestPublishedBefore(assetId, manifestHash, before));
        if (inferenceVerifier != address(0)) {
            require(weightsCommitment != 0, VerifierWithoutCommitment(assetId, inferenceVerifier));
            require(inferenceVerifier.code.length > 0, VerifierNotContract(assetId, inferenceVerifier));
        }

        versionId = toVersionId(assetId, ++versionCountOf[assetId]);
        versionOfManifest[assetId][manifestHash] = versionId;
        _versions[versionId] = Version({
            manifestHash: manifestHash,
            weightsCommitment: weightsCommitment,
            publishedAt: uint40(block.timestamp),
            recallAt: 0,
            publishedBy: msg.sender,
            inferenceVerifier: inferenceVerifier,
            uri: uri,
            changes: changes
        });

        emit VersionPublished(
            assetId,
            versionId,
            manifestHash,
            weightsCommitment,
            inferenceVerifier,
            msg.sender,
            uri,
            changes
        );
        emit MetadataUpdate(AssetId.unwrap(assetId));
    }

    /// @inheritdoc IAssetRegistry
    function recall(VersionId versionId) external {
        Version storage version = _versions[versionId];
        AssetId assetId = versionId.assetOf();
        require(version.manifestHash != 0, VersionUnknown(versionId));
        _requireController(assetId);
        require(version.recallAt == 0, VersionRecalledBefore(versionId, version.recallAt));

        // Timestamps stay far below 2^40.
        version.recallAt = uint40(block.timestamp + NOTICE_PERIOD);
        Checkpoints.Trace208 storage recalls = _recalls[assetId];
        recalls.push(version.recallAt, recalls.latest() + 1);

        emit VersionRecalled(assetId, versionId, version.recallAt);
        emit MetadataUpdate(AssetId.unwrap(assetId));
    }

    /// @inheritdoc IAssetRegistry
    function assetOf(AssetId assetId) external view returns (Asset memory) {
        _requireExists(assetId);
        return _assets[assetId];
    }

    /// @inheritdoc IAssetRegistry
    function parentsOf(AssetId assetId) external view returns (Edge[] memory) {
        return _parents[assetId];
    }

    /// @inheritdoc IAssetRegistry
    function versionOf(VersionId versionId) external view returns (Version memory version) {
        version = _versions[versionId];
        require(version.manifestHash != 0, VersionUnknown(versionId));
    }

    /// @inheritdoc IAssetRegistry
    function inferenceOf(
        VersionId versionId
    ) external view returns (bytes32 manifestHash, bytes32 weightsCommitment, address inferenceVerifier) {
        Version storage version = _versions[versionId];
        return (version.manifestHash, version.weightsCommitment, version.inferenceVerifier);
    }

    /// @inheritdoc IAssetRegistry
    function usableUntil(VersionId versionId) external view returns (uint40) {
        Version storage version = _versions[versionId];
        // Both times are in one word.
        if (version.publishedAt == 0) return 0;
        return version.recallAt == 0 ? type(uint40).max : version.recallAt;
    }

    /// @inheritdoc IAssetRegistry
    function statusOf(VersionId versionId) external view returns (VersionStatus) {
        Version storage version = _versions[versionId];
        if (version.manifestHash == 0) return VersionStatus.None;
        if (version.recallAt == 0) return VersionStatus.Usable;
        return block.timestamp < version.recallAt ? VersionStatus.Recalling : VersionStatus.Recalled;
    }

    /// @inheritdoc IAssetRegistry
    function recallsBetween(AssetId assetId, uint256 from, uint256 to) external view returns (uint256) {
        return to <= from ? 0 : _recallsBefore(assetId, to) - _recallsBefore(assetId, from);
    }

    /// @inheritdoc IAssetRegistry
    function isController(AssetId assetId, address account) public view returns (bool) {
        uint256 tokenId = AssetId.unwrap(assetId);
        address owner = _ownerOf(tokenId);
        return owner != address(0) && _isAuthorized(owner, account, tokenId);
    }

    /// @inheritdoc IAssetRegistry
    function derivationHash(Derivation memory derivation) public view returns (bytes32) {
        uint256 transferCount = transferCountOf[derivation.parentId];
        // All fields have one word each, so the struct encodes as its members do.
        return _hashTypedDataV4(keccak256(abi.encode(DERIVATION_TYPEHASH, derivation, transferCount)));
    }

    /// @inheritdoc IERC165
    function supportsInterface(
        bytes4 interfaceId
    ) public view override(ERC721URIStorage, ERC2981, IERC165) returns (bool) {
        return super.supportsInterface(interfaceId);
    }

    /// @dev What the owners before signed counts no more, also if the asset comes back to them.
    function _update(address to, uint256 tokenId, address auth) internal override returns (address from) {
        from = super._update(to, tokenId, auth);
        // Token ids are asset ids.
        if (from != address(0)) ++transferCountOf[AssetId.wrap(uint32(tokenId))];
    }

    function _setPolicy(AssetId assetId, DerivativePolicy policy, uint16 minShareBps) private {
        require(minShareBps <= Bps.WHOLE, MinShareAboveWhole(minShareBps));

        _assets[assetId].policy = policy;
        _assets[assetId].minShareBps = minShareBps;

        emit PolicySet(assetId, policy, minShareBps);
    }

    /// @dev Reverts unless the parents exist, are what the relations say, share at most the whole, and permit the uses.
    function _requireLineage(Registration calldata registration) private view {
        AssetId before;
        uint256 incomeBps;
        for (uint256 i; i < registration.parents.length; ++i) {
            Edge calldata edge = registration.parents[i];
            AssetId parentId = edge.parentId;
            _requireExists(parentId);
            require(AssetId.unwrap(before) < AssetId.unwrap(parentId), ParentsNotAscending(parentId, before));
            Asset memory parent = _assets[parentId];
            require(
                _fits(edge.relation, registration.kind, parent.kind),
                RelationUnfit(parentId, edge.relation, registration.kind, parent.kind)
            );
            uint256 forbidden = registration.permittedUses & ~parent.permittedUses;
            require(forbidden == 0, UsesNotPermitted(parentId, forbidden));
            (before, incomeBps) = (parentId, incomeBps + edge.incomeBps);
        }
        require(incomeBps <= Bps.WHOLE, IncomeAboveWhole(incomeBps));
    }

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

    /// @dev Reverts unless the caller may derive from a parent, and uses up the approval that it needs for that.
    function _obtainPermission(Edge calldata edge, DerivationApproval calldata approval) private {
        AssetId parentId = edge.parentId;
        if (isController(parentId, msg.sender)) return;
        Asset memory parent = _assets[parentId];
        require(parent.policy != DerivativePolicy.Closed, DerivativesClosed(parentId));
        bool isOpen = parent.policy == DerivativePolicy.Open;
        if (isOpen && edge.incomeBps >= parent.minShareBps) return;
        require(
            !isOpen || approval.deadline != 0,
            IncomeShareBelowMinimum(parentId, edge.incomeBps, parent.minShareBps)
        );
        _useApproval(edge, approval);
    }

    function _useApproval(Edge calldata edge, DerivationApproval calldata approval) private {
        AssetId parentId = edge.parentId;
        (uint256 salt, uint256 deadline) = (approval.salt, approval.deadline);
        require(deadline != 0, DerivationNotApproved(parentId, msg.sender));
        require(block.timestamp <= deadline, DerivationExpired(parentId, deadline));
        bytes32 digest = derivationHash(
            Derivation(parentId, msg.sender, edge.relation, edge.incomeBps, salt, deadline)
        );
        require(!isDerivationUsed[digest], DerivationUsedBefore(parentId, digest));
        address owner = _requireOwned(AssetId.unwrap(parentId));
        require(
            SignatureChecker.isValidSignatureNowCalldata(owner, digest, approval.signature),
            DerivationNotApproved(parentId, msg.sender)
        );

        isDerivationUsed[digest] = true;

        emit DerivationUsed(parentId, digest);
    }

    function _requireController(AssetId assetId) private view {
        require(isController(assetId, msg.sender), CallerNotAssetOwner(assetId, msg.sender));
    }

    function _requireExists(AssetId assetId) private view {
        require(_ownerOf(AssetId.unwrap(assetId)) != address(0), AssetUnknown(assetId));
    }

    /// @dev How many recalls take effect before `time`.
    function _recallsBefore(AssetId assetId, uint256 time) private view returns (uint256) {
        return time == 0 ? 0 : _recalls[assetId].upperLookupRecent(SafeCast.toUint48(time - 1));
    }
}
