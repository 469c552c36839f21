// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {IERC721} from "@openzeppelin/contracts/token/ERC721/IERC721.sol";
import {AssetId, VersionId} from "../types/Ids.sol";

/// @dev Recalling while the notice runs: use of the version may still be charged.
enum VersionStatus {
    None,
    Usable,
    Recalling,
    Recalled
}

/// @title The registry of models: who owns them, and every version that was ever published
interface IAssetRegistry is IERC721 {
    /// @param manifestHash keccak256 of the version's manifest, which names every file with its size and SHA-256
    /// @param weightsCommitment What a proof of inference is checked against, or zero
    /// @param publishedAt Unix seconds
    /// @param recallAt When a recall takes effect, in Unix seconds; 0 is no recall
    /// @param uri Where the manifest and the files are
    struct Version {
        bytes32 manifestHash;
        bytes32 weightsCommitment;
        uint40 publishedAt;
        uint40 recallAt;
        string uri;
    }

    event AssetRegistered(AssetId indexed assetId, address indexed owner, string uri);
    event VersionPublished(
        AssetId indexed assetId,
        VersionId indexed versionId,
        bytes32 indexed manifestHash,
        bytes32 weightsCommitment,
        string uri
    );
    event VersionRecalled(AssetId indexed assetId, VersionId indexed versionId, uint256 recallAt);

    error AssetUriEmpty();
    error CallerNotAssetOwner(AssetId assetId, address caller);
    error ManifestHashZero(AssetId assetId);
    error ManifestPublishedBefore(AssetId assetId, bytes32 manifestHash, VersionId versionId);
    error VersionRecalledBefore(VersionId versionId, uint256 recallAt);
    error VersionUnknown(VersionId versionId);

    /// @notice Registers a model as a new token of the caller.
    /// @param uri Where its metadata (name, description, model card) is
    function register(string calldata uri) external returns (AssetId assetId);

    /// @notice Appends a version to an asset, by its owner or whom the owner approved.
    /// @dev A manifest can be published once an asset, so that a manifest hash names one version.
    function publish(
        AssetId assetId,
        bytes32 manifestHash,
        bytes32 weightsCommitment,
        string calldata uri
    ) external returns (VersionId versionId);

    /// @notice Recalls a version, for ever, by its asset's owner or whom the owner approved. After NOTICE_PERIOD, use of it in
    /// epochs that end later can't be charged, and licenses of its asset owe no minimum for a term in which it was recalled
    /// and that takes effect.
    function recall(VersionId versionId) external;

    /// @notice From a recall to its effect, in seconds.
    function NOTICE_PERIOD() external view returns (uint256);

    /// @notice How many assets there are; they are numbered from 1.
    function assetCount() external view returns (uint256);

    /// @notice How many versions an asset has; they are numbered from 1.
    function versionCountOf(AssetId assetId) external view returns (uint32);

    /// @notice A version as it was published, and when its recall takes effect. Reverts for one that doesn't exist.
    function versionOf(VersionId versionId) external view returns (Version memory);

    /// @notice The version that a manifest was published as, or zero.
    function versionOfManifest(AssetId assetId, bytes32 manifestHash) external view returns (VersionId);

    /// @notice Until when use of a version may be charged, in Unix seconds: an epoch that ends later is refused.
    /// @return Zero for a version that doesn't exist
    function usableUntil(VersionId versionId) external view returns (uint40);

    /// @notice Whether a version may be used now.
    function statusOf(VersionId versionId) external view returns (VersionStatus);

    /// @notice How many recalls of an asset's versions take effect from `from` on and before `to`, in Unix seconds.
    function recallsBetween(AssetId assetId, uint256 from, uint256 to) external view returns (uint256);

    /// @notice Whether `account` may act for an asset: as its owner or as one whom the owner approved.
    function isController(AssetId assetId, address account) external view returns (bool);
}
