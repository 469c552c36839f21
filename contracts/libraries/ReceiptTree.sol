// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {BatchHeader} from "../interfaces/IUsageEscrow.sol";
import {LicenseId} from "../types/Ids.sol";
import {Usage} from "../types/Receipt.sol";

/// @dev A leaf of a batch's tree, and the path that shows it there.
/// @param signedHash Of the receipt as it was signed: see `ReceiptHash.asSigned`
/// @param index Its place among all, from 0
/// @param siblings What stands beside the path, from the leaf upwards: 72 bytes each, a hash and five sums. Where a node was
/// promoted, nothing does
struct TreeLeaf {
    bytes32 signedHash;
    LicenseId licenseId;
    Usage usage;
    uint64 index;
    bytes siblings;
}

/// @dev The Merkle sum tree over a batch's receipts, which are sorted by license and sequence. Every node commits to the hashes and
/// the sums of both its children: leaf = keccak256(0x00, signed hash, license, sums), node = keccak256(0x01, left hash, left sums,
/// right hash, right sums), an odd node is promoted, and root = keccak256(0x02, top hash, totals, count). Sums are five numbers of
/// 64 bits: a tree whose sums overflow has no paths.
library ReceiptTree {
    uint256 internal constant NODE_SIZE = 72;

    struct Node {
        bytes32 hash;
        Usage sums;
    }

    error LeafBeyondTree(uint256 index, uint256 count);
    error PathLengthWrong(uint256 length, uint256 needed);
    error PathNotOfBatch(bytes32 root, bytes32 attested);

    /// @dev As below.
    function requireIn(
        BatchHeader calldata header,
        TreeLeaf calldata leaf
    ) internal pure returns (Usage memory before) {
        return requireIn(header, leaf.signedHash, leaf.licenseId, leaf.usage, leaf.index, leaf.siblings);
    }

    /// @dev Reverts unless a leaf stands in the batch's tree at its place.
    /// @return before The sums of all leaves before it
    function requireIn(
        BatchHeader calldata header,
        bytes32 signedHash,
        LicenseId licenseId,
        Usage memory usage,
        uint64 index,
        bytes calldata siblings
    ) internal pure returns (Usage memory before) {
        require(index < header.count, LeafBeyondTree(index, header.count));
        Node memory node = Node(_leafHash(signedHash, licenseId, usage), usage);
        uint256 used;
        (uint256 place, uint256 width) = (index, header.count);
        while (width > 1) {
            if (place ^ 1 < width) {
                Node memory sibling = _nodeAt(siblings, used);
                used += NODE_SIZE;
                if (place & 1 == 0) {
                    node = _join(node, sibling);
                } else {
                    before = add(before, sibling.sums);
                    node = _join(sibling, node);
                }
            }
            (place, width) = (place >> 1, (width + 1) >> 1);
        }
        require(used == siblings.length, PathLengthWrong(siblings.length, used));
        bytes32 root = keccak256(abi.encodePacked(uint8(2), node.hash, _packed(totalsOf(header)), header.count));
        require(root == header.root && _equal(node.sums, totalsOf(header)), PathNotOfBatch(root, header.root));
    }

    function totalsOf(BatchHeader calldata header) internal pure returns (Usage memory) {
        return
            Usage(header.requests, header.inputTokens, header.cachedInputTokens, header.outputTokens, header.computeMs);
    }

    function add(Usage memory a, Usage memory b) internal pure returns (Usage memory) {
        return
            Usage(
                a.requests + b.requests,
                a.inputTokens + b.inputTokens,
                a.cachedInputTokens + b.cachedInputTokens,
                a.outputTokens + b.outputTokens,
                a.computeMs + b.computeMs
            );
    }

    /// @dev Of `a` and what is a part of it.
    function subtract(Usage memory a, Usage memory b) internal pure returns (Usage memory) {
        return
            Usage(
                a.requests - b.requests,
                a.inputTokens - b.inputTokens,
                a.cachedInputTokens - b.cachedInputTokens,
                a.outputTokens - b.outputTokens,
                a.computeMs - b.computeMs
            );
    }

    /// @dev Whether no meter of `a` is above that of `b`.
    function isWithin(Usage memory a, Usage memory b) internal pure returns (bool) {
        return
            a.requests <= b.requests &&
            a.inputTokens <= b.inputTokens &&
            a.cachedInputTokens <= b.cachedInputTokens &&
            a.outputTokens <= b.outputTokens &&
            a.computeMs <= b.computeMs;
    }

    function _leafHash(bytes32 signedHash, LicenseId licenseId, Usage memory usage) private pure returns (bytes32) {
        return keccak256(abi.encodePacked(uint8(0), signedHash, licenseId, _packed(usage)));
    }

    function _join(Node memory left, Node memory right) private pure returns (Node memory) {
        bytes memory children = abi.encodePacked(left.hash, _packed(left.sums), right.hash, _packed(right.sums));
        return Node(keccak256(abi.encodePacked(uint8(1), children)), add(left.sums, right.sums));
    }

    function _nodeAt(bytes calldata siblings, uint256 offset) private pure returns (Node memory node) {
        require(offset + NODE_SIZE <= siblings.length, PathLengthWrong(siblings.length, offset + NODE_SIZE));
        bytes calldata packed = siblings[offset:offset + NODE_SIZE];
        node.hash = bytes32(packed[:32]);
        node.sums = Usage(
            uint64(bytes8(packed[32:40])),
            uint64(bytes8(packed[40:48])),
            uint64(bytes8(packed[48:56])),
            uint64(bytes8(packed[56:64])),
            uint64(bytes8(packed[64:72]))
        );
    }

    function _packed(Usage memory sums) private pure returns (bytes memory) {
        return
            abi.encodePacked(
                sums.requests,
                sums.inputTokens,
                sums.cachedInputTokens,
                sums.outputTokens,
                sums.computeMs
            );
    }

    function _equal(Usage memory a, Usage memory b) private pure returns (bool) {
        return isWithin(a, b) && isWithin(b, a);
    }
}
