// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {ERC721} from "@openzeppelin/contracts/token/ERC721/ERC721.sol";
import {ERC721URIStorage} from "@openzeppelin/contracts/token/ERC721/extensions/ERC721URIStorage.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import {Checkpoints} from "@openzeppelin/contracts/utils/structs/Checkpoints.sol";
import {IAssetRegistry, VersionStatus} from "./interfaces/IAssetRegistry.sol";
import {AssetId, VersionId, toVersionId} from "./types/Ids.sol";

/// @title The registry of models
/// @notice HOLDS no money. An asset is an ERC-721 token; a version is an entry in its append-only history.
/// STATES of a version: usable → recalling → recalled, each for ever once left.
/// WHO: anybody registers; an asset's owner, or whom the owner approved, publishes versions of it and recalls them. Nobody,
/// not even governance, changes or removes what was published.
/// ASSUMES nothing of other contracts: it calls none.
contract AssetRegistry is IAssetRegistry, ERC721URIStorage {
    using Checkpoints for Checkpoints.Trace208;

    uint256 public constant NOTICE_PERIOD = 7 days;

    uint256 public assetCount;

    mapping(AssetId assetId => uint32) public versionCountOf;
    mapping(VersionId versionId => Version) private _versions;
    mapping(AssetId assetId => mapping(bytes32 manifestHash => VersionId)) public versionOfManifest;
    /// @dev How many recalls of an asset's versions are in effect, by the time from which on.
    mapping(AssetId assetId => Checkpoints.Trace208) private _recalls;

    constructor() ERC721("Licet Asset", "LICET-A") {}

    /// @inheritdoc IAssetRegistry
    function register(string calldata uri) external returns (AssetId assetId) {
        require(bytes(uri).length > 0, AssetUriEmpty());

        uint256 tokenId = ++assetCount;
        // Registering 2^32 assets would take more gas than 10^14 blocks have.
        assetId = AssetId.wrap(uint32(tokenId));
        _mint(msg.sender, tokenId);
        _setTokenURI(tokenId, uri);

        emit AssetRegistered(assetId, msg.sender, uri);
    }

    /// @inheritdoc IAssetRegistry
    function publish(
        AssetId assetId,
        bytes32 manifestHash,
        bytes32 weightsCommitment,
        string calldata uri
    ) external returns (VersionId versionId) {
        require(isController(assetId, msg.sender), CallerNotAssetOwner(assetId, msg.sender));
        require(manifestHash != 0, ManifestHashZero(assetId));
        VersionId before = versionOfManifest[assetId][manifestHash];
        require(VersionId.unwrap(before) == 0, ManifestPublishedBefore(assetId, manifestHash, before));

        versionId = toVersionId(assetId, ++versionCountOf[assetId]);
        versionOfManifest[assetId][manifestHash] = versionId;
        _versions[versionId] = Version(manifestHash, weightsCommitment, uint40(block.timestamp), 0, uri);

        emit VersionPublished(assetId, versionId, manifestHash, weightsCommitment, uri);
        emit MetadataUpdate(AssetId.unwrap(assetId));
    }

    /// @inheritdoc IAssetRegistry
    function recall(VersionId versionId) external {
        Version storage version = _versions[versionId];
        AssetId assetId = versionId.assetOf();
        require(version.manifestHash != 0, VersionUnknown(versionId));
        require(isController(assetId, msg.sender), CallerNotAssetOwner(assetId, msg.sender));
        require(version.recallAt == 0, VersionRecalledBefore(versionId, version.recallAt));

        // Timestamps stay far below 2^40.
        version.recallAt = uint40(block.timestamp + NOTICE_PERIOD);
        Checkpoints.Trace208 storage recalls = _recalls[assetId];
        recalls.push(version.recallAt, recalls.latest() + 1);

        emit VersionRecalled(assetId, versionId, version.recallAt);
        emit MetadataUpdate(AssetId.unwrap(assetId));
    }

    /// @inheritdoc IAssetRegistry
    function versionOf(VersionId versionId) external view returns (Version memory version) {
        version = _versions[versionId];
        require(version.manifestHash != 0, VersionUnknown(versionId));
    }

    /// @inheritdoc IAssetRegistry
    function usableUntil(VersionId versionId) external view returns (uint40) {
        Version storage version = _versions[versionId];
        if (version.manifestHash == 0) return 0;
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

    /// @dev How many recalls take effect before `time`.
    function _recallsBefore(AssetId assetId, uint256 time) private view returns (uint256) {
        return time == 0 ? 0 : _recalls[assetId].upperLookupRecent(SafeCast.toUint48(time - 1));
    }
}
