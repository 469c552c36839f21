// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {IERC2981} from "@openzeppelin/contracts/interfaces/IERC2981.sol";
import {IERC721} from "@openzeppelin/contracts/token/ERC721/IERC721.sol";
import {AssetId, VersionId} from "../types/Ids.sol";

/// @dev An adapter changes a model that it is loaded beside; a dataset is what models are trained or evaluated on.
enum AssetKind {
    Model,
    Adapter,
    Dataset
}

/// @dev How an asset came from a parent. Datasets are what others were `TrainedOn` or `EvaluatedOn`; an adapter is
/// `AdapterOf` a model; models and adapters are `FineTunedFrom` and `QuantizedFrom` one another; anything is
/// `DistilledFrom` and `MergedFrom` anything.
enum Relation {
    FineTunedFrom,
    AdapterOf,
    DistilledFrom,
    MergedFrom,
    QuantizedFrom,
    TrainedOn,
    EvaluatedOn
}

/// @dev Who may register assets that came from an asset, besides its controllers: nobody; anybody who gives it its minimum
/// share of income, or less where its owner approves; whom its owner approves.
enum DerivativePolicy {
    Closed,
    Open,
    ByApproval
}

/// @dev Recalling while the notice runs: use of the version may still be charged.
enum VersionStatus {
    None,
    Usable,
    Recalling,
    Recalled
}

/// @title The registry of models, adapters and datasets: who owns them, what they came from, and every version that was
/// ever published
interface IAssetRegistry is IERC2981, IERC721 {
    /// @param permittedUses Bit field: 1 is to use it oneself, 2 to use it commercially, 4 to train others on its answers;
    /// what further bits mean the license texts of a lineage agree on
    /// @param minShareBps Least share of its income that a child must give, under an open policy
    struct Asset {
        AssetKind kind;
        DerivativePolicy policy;
        uint16 minShareBps;
        uint32 permittedUses;
    }

    /// @param incomeBps The parent's share of all that the child earns
    struct Edge {
        AssetId parentId;
        Relation relation;
        uint16 incomeBps;
    }

    /// @param uri Where its metadata (name, description, model card) is
    /// @param royaltyBps Share of the price that a sale of the token owes by ERC-2981, to its registrant at first
    /// @param parents What it came from, ascending by id
    struct Registration {
        AssetKind kind;
        string uri;
        uint32 permittedUses;
        DerivativePolicy policy;
        uint16 minShareBps;
        uint16 royaltyBps;
        Edge[] parents;
    }

    /// @dev What a parent's owner signs (EIP-712, see `derivationHash`) so that `registrant` may register one asset that came
    /// from it, on these terms.
    /// @param deadline The last second at which it counts, in Unix seconds
    struct Derivation {
        AssetId parentId;
        address registrant;
        Relation relation;
        uint16 incomeBps;
        uint256 salt;
        uint256 deadline;
    }

    /// @dev The rest of a signed derivation; all zero where none is needed.
    struct DerivationApproval {
        uint256 salt;
        uint256 deadline;
        bytes signature;
    }

    /// @param manifestHash keccak256 of the version's manifest, which names every file with its size and SHA-256
    /// @param weightsCommitment What a proof of inference is checked against, or zero
    /// @param inferenceVerifier The contract that checks proofs of inference against it, or zero
    /// @param publishedAt Unix seconds
    /// @param recallAt When a recall takes effect, in Unix seconds; 0 is no recall
    /// @param uri Where the manifest and the files are
    /// @param changes What changed since the version before, for people
    struct Version {
        bytes32 manifestHash;
        bytes32 weightsCommitment;
        uint40 publishedAt;
        uint40 recallAt;
        address publishedBy;
        address inferenceVerifier;
        string uri;
        string changes;
    }

    event AssetRegistered(
        AssetId indexed assetId,
        address indexed owner,
        AssetKind indexed kind,
        string uri,
        uint32 permittedUses,
        uint16 royaltyBps
    );
    event AssetDerived(AssetId indexed assetId, AssetId indexed parentId, Relation relation, uint16 incomeBps);
    event AssetDescribed(AssetId indexed assetId, string uri);
    event PolicySet(AssetId indexed assetId, DerivativePolicy policy, uint16 minShareBps);
    event RoyaltyReceiverSet(AssetId indexed assetId, address indexed receiver);
    event DerivationUsed(AssetId indexed parentId, bytes32 indexed digest);
    event DerivationWithdrawn(AssetId indexed parentId, bytes32 indexed digest);
    event VersionPublished(
        AssetId indexed assetId,
        VersionId indexed versionId,
        bytes32 indexed manifestHash,
        bytes32 weightsCommitment,
        address inferenceVerifier,
        address publishedBy,
        string uri,
        string changes
    );
    event VersionRecalled(AssetId indexed assetId, VersionId indexed versionId, uint256 recallAt);

    error ApprovalsNotParallel(uint256 approvals, uint256 parents);
    error AssetUnknown(AssetId assetId);
    error AssetUriEmpty();
    error CallerNotAssetOwner(AssetId assetId, address caller);
    error CallerNotRoyaltyReceiver(AssetId assetId, address caller);
    error DerivationExpired(AssetId parentId, uint256 deadline);
    error DerivationNotApproved(AssetId parentId, address registrant);
    error DerivationUsedBefore(AssetId parentId, bytes32 digest);
    error DerivativesClosed(AssetId parentId);
    error IncomeAboveWhole(uint256 incomeBps);
    error IncomeShareBelowMinimum(AssetId parentId, uint256 incomeBps, uint256 minShareBps);
    error ManifestHashZero(AssetId assetId);
    error ManifestPublishedBefore(AssetId assetId, bytes32 manifestHash, VersionId versionId);
    error MinShareAboveWhole(uint256 minShareBps);
    error ParentsAboveLimit(uint256 parents, uint256 most);
    error ParentsNotAscending(AssetId parentId, AssetId before);
    error RelationUnfit(AssetId parentId, Relation relation, AssetKind childKind, AssetKind parentKind);
    error RoyaltyAboveBound(uint256 royaltyBps, uint256 bound);
    /// @dev `uses` are those of the child that its parent doesn't permit.
    error UsesNotPermitted(AssetId assetId, uint256 uses);
    error VerifierNotContract(AssetId assetId, address inferenceVerifier);
    error VerifierWithoutCommitment(AssetId assetId, address inferenceVerifier);
    error VersionRecalledBefore(VersionId versionId, uint256 recallAt);
    error VersionUnknown(VersionId versionId);

    /// @notice Registers an asset as a new token of the caller. What it came from, on what terms, and what it permits never
    /// change.
    /// @param approvals One for each parent, in their order
    function register(
        Registration calldata registration,
        DerivationApproval[] calldata approvals
    ) external returns (AssetId assetId);

    /// @notice Says where an asset's metadata now is, by its owner or whom the owner approved.
    function describe(AssetId assetId, string calldata uri) external;

    /// @notice Says who may register assets that come from this one from now on, by its owner or whom the owner approved.
    function setPolicy(AssetId assetId, DerivativePolicy policy, uint16 minShareBps) external;

    /// @notice Hands the ERC-2981 royalty on a token's sales to another receiver, by the present one.
    function setRoyaltyReceiver(AssetId assetId, address receiver) external;

    /// @notice Takes back an approval that wasn't used, by the parent's owner or whom the owner approved.
    function withdrawDerivation(Derivation calldata derivation) external;

    /// @notice Appends a version to an asset, by its owner or whom the owner approved.
    /// @dev A manifest can be published once an asset, so that a manifest hash names one version.
    /// @param weightsCommitment What proofs of inference are checked against, as the verifier reads it; zero for none
    /// @param inferenceVerifier The contract that checks them, if there is a commitment; zero for none
    /// @param changes What changed since the version before, for people
    function publish(
        AssetId assetId,
        bytes32 manifestHash,
        bytes32 weightsCommitment,
        address inferenceVerifier,
        string calldata uri,
        string calldata changes
    ) external returns (VersionId versionId);

    /// @notice Recalls a version, for ever, by its asset's owner or whom the owner approved. After NOTICE_PERIOD, use of it in
    /// epochs that end later can't be charged, and licenses of its asset owe no minimum for a term in which it was recalled
    /// and that takes effect.
    function recall(VersionId versionId) external;

    /// @notice From a recall to its effect, in seconds.
    function NOTICE_PERIOD() external view returns (uint256);

    /// @notice How many parents an asset may have.
    function MAX_PARENTS() external view returns (uint256);

    /// @notice The highest ERC-2981 royalty, in basis points of a sale's price.
    function MAX_ROYALTY() external view returns (uint256);

    /// @notice How many assets there are; they are numbered from 1.
    function assetCount() external view returns (uint256);

    /// @notice What an asset is, permits, and asks of children. Reverts for one that doesn't exist.
    function assetOf(AssetId assetId) external view returns (Asset memory);

    /// @notice What an asset came from, and the shares of its income that are its parents', ascending by id.
    function parentsOf(AssetId assetId) external view returns (Edge[] memory);

    /// @notice How often an asset was transferred. It is a part of what its owners sign, for derivations and offers of its
    /// plans: what was signed before a transfer counts no more, whoever owns the asset later.
    function transferCountOf(AssetId assetId) external view returns (uint256);

    /// @notice The EIP-712 digest that a parent's owner of now signs to approve a derivation: of the struct and, as its last
    /// member, the parent's `transferCountOf`.
    function derivationHash(Derivation memory derivation) external view returns (bytes32);

    /// @notice Whether an approval, by its digest, was used or taken back: it counts once.
    function isDerivationUsed(bytes32 digest) external view returns (bool);

    /// @notice How many versions an asset has; they are numbered from 1.
    function versionCountOf(AssetId assetId) external view returns (uint32);

    /// @notice A version as it was published, and when its recall takes effect. Reverts for one that doesn't exist.
    function versionOf(VersionId versionId) external view returns (Version memory);

    /// @notice What a proof of a version's inference is checked with; all zero for one that doesn't exist.
    function inferenceOf(
        VersionId versionId
    ) external view returns (bytes32 manifestHash, bytes32 weightsCommitment, address inferenceVerifier);

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
