// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {Usage} from "./Model.sol";

/// @dev What was signed of one receipt, and what it says.
struct Leaf {
    bytes32 signedHash;
    Usage usage;
}

/// @dev A part of a tree: its hash, and the sums of its leaves.
struct Node {
    bytes32 hash;
    Usage sums;
}

/// @title Sum trees, level by level: written from docs/protocol.md, not from the contracts
library Trees {
    /// @dev What a header has of all leaves.
    function rootOf(Leaf[] memory leaves) internal pure returns (bytes32) {
        Node[] memory level = _lowest(leaves);
        while (level.length > 1) level = _above(level);
        bytes memory totals = _packed(level[0].sums);
        return keccak256(abi.encodePacked(uint8(2), level[0].hash, totals, uint64(leaves.length)));
    }

    /// @dev What stands beside the path of one leaf, from it upwards.
    function siblingsOf(Leaf[] memory leaves, uint256 place) internal pure returns (bytes memory siblings) {
        Node[] memory level = _lowest(leaves);
        while (level.length > 1) {
            uint256 beside = place % 2 == 0 ? place + 1 : place - 1;
            if (beside < level.length) {
                siblings = abi.encodePacked(siblings, level[beside].hash, _packed(level[beside].sums));
            }
            (level, place) = (_above(level), place / 2);
        }
    }

    function _lowest(Leaf[] memory leaves) private pure returns (Node[] memory level) {
        level = new Node[](leaves.length);
        for (uint256 i; i < leaves.length; ++i) {
            Usage memory usage = leaves[i].usage;
            bytes memory head = abi.encodePacked(uint8(0), leaves[i].signedHash, uint64(usage.licenseId));
            level[i] = Node(keccak256(abi.encodePacked(head, _packed(usage))), usage);
        }
    }

    /// @dev Two by two; an odd one goes up as it is.
    function _above(Node[] memory level) private pure returns (Node[] memory above) {
        above = new Node[]((level.length + 1) / 2);
        for (uint256 i; i < above.length; ++i) {
            above[i] = 2 * i + 1 < level.length ? _join(level[2 * i], level[2 * i + 1]) : level[2 * i];
        }
    }

    function _join(Node memory left, Node memory right) private pure returns (Node memory node) {
        bytes memory first = abi.encodePacked(left.hash, _packed(left.sums));
        node.hash = keccak256(abi.encodePacked(uint8(1), first, right.hash, _packed(right.sums)));
        node.sums.requests = left.sums.requests + right.sums.requests;
        node.sums.inputTokens = left.sums.inputTokens + right.sums.inputTokens;
        node.sums.cachedInputTokens = left.sums.cachedInputTokens + right.sums.cachedInputTokens;
        node.sums.outputTokens = left.sums.outputTokens + right.sums.outputTokens;
        node.sums.computeMs = left.sums.computeMs + right.sums.computeMs;
    }

    function _packed(Usage memory sums) private pure returns (bytes memory) {
        return
            abi.encodePacked(
                uint64(sums.requests),
                uint64(sums.inputTokens),
                uint64(sums.cachedInputTokens),
                uint64(sums.outputTokens),
                uint64(sums.computeMs)
            );
    }
}
