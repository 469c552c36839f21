// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {RequestProof} from "../../contracts/interfaces/IDisputeCourt.sol";
import {KeyStatus} from "../../contracts/interfaces/IOperatorRegistry.sol";
import {BatchHeader} from "../../contracts/interfaces/IUsageEscrow.sol";
import {LicenseId, OperatorId, PlanId, VersionId} from "../../contracts/types/Ids.sol";
import {Grant, Receipt} from "../../contracts/types/Receipt.sol";
import {Attestors} from "./Attestors.sol";
import {Usage} from "./Model.sol";
import {Leaf, Trees} from "./Trees.sol";
import {VM} from "./Vm.sol";

/// @title What operators and licensees sign of single requests, and the trees in which that stands
abstract contract Receipts is Attestors {
    /// @dev Bytes of an entry.
    uint256 private constant ENTRY = 28;
    /// @dev Signs requests, for whichever license.
    uint256 private constant REQUEST_KEY = 0x4E9E57;
    bytes32 private constant RECEIPT_TYPE = keccak256(
        "Receipt(uint64 licenseId,uint24 operatorId,uint32 planId,bytes32 manifestHash,uint16 generation,bytes32 grantHash,"
        "uint64 sequence,bytes32 previousHash,bytes32 requestId,bytes32 requestHash,bytes32 responseHash,"
        "bytes32 requestSignatureHash,uint40 finishedAt,uint32 durationMs,uint32 ttftMs,uint32 requests,"
        "uint32 inputTokens,uint32 cachedInputTokens,uint32 outputTokens,uint32 computeMs,uint32 flags)"
    );
    bytes32 private constant GRANT_TYPE = keccak256(
        "Grant(uint64 licenseId,address key,uint64 cap,uint40 notBefore,uint40 expiresAt,uint16 generation,bytes32 salt)"
    );
    bytes32 private constant REQUEST_TYPE = keccak256("Request(bytes32 grantHash,bytes32 requestHash,uint40 at)");
    bytes32 private constant PROPOSAL_TYPE = keccak256("Proposal(bytes32 batchId)");

    uint64 private _receiptCount;

    // Receipts that stand in batches

    /// @dev What its operator has signed of one entry of every other batch: mostly a receipt of all that the entry says, under a
    /// grant that covers it. Else it is less than that, was in a batch before, or its grant is another one's.
    function _tell(BatchHeader memory header, Usage[] memory usages) internal returns (Told memory told) {
        uint256 kind = _draw(16);
        if (kind >= 8) return told;
        if (kind < 2 && _repeat(header, usages, told)) return told;
        uint256 start = _draw(usages.length);
        for (uint256 i; i < usages.length && !told.isThere; ++i) {
            told.entry = (start + i) % usages.length;
            told.isThere = usages[told.entry].licenseId <= ledger.length;
        }
        if (!told.isThere) return told;
        Usage memory usage = usages[told.entry];
        if (kind == 2 && usages.length > 1) told.moved = _draw(usage.inputTokens + 1);
        told.receipt = _receiptOf(header, usage);
        told.receipt.inputTokens -= uint32(told.moved);
        told.grant = _grantOf(told.receipt, kind == 3 ? 1 + _draw(5) : 0);
        told.receipt.grantHash = _grantHash(told.grant);
        told.key = _keyFor(OperatorId.unwrap(header.operatorId), told.receipt.finishedAt);
        told.signature = _signReceipt(told.receipt, told.key);
    }

    /// @dev A receipt that stood in the last batch of the same operator and plan, if its license is in this one, too.
    function _repeat(BatchHeader memory header, Usage[] memory usages, Told memory told) private view returns (bool) {
        bytes32 formerId = lastTold[OperatorId.unwrap(header.operatorId)][PlanId.unwrap(header.planId)];
        if (formerId == 0) return false;
        Told memory former = tolds[formerId];
        for (uint256 i; i < usages.length; ++i) {
            if (usages[i].licenseId != LicenseId.unwrap(former.receipt.licenseId)) continue;
            usages[i] = _usageOf(former.receipt);
            (told.isThere, told.receipt, told.signature) = (true, former.receipt, former.signature);
            (told.grant, told.key, told.entry, told.formerId) = (former.grant, former.key, i, formerId);
            return true;
        }
        return false;
    }

    /// @dev Of a request that finished in a batch's epoch, and of all that `usage` says.
    function _receiptOf(BatchHeader memory header, Usage memory usage) internal returns (Receipt memory receipt) {
        receipt.licenseId = _id(usage.licenseId);
        (receipt.operatorId, receipt.planId) = (header.operatorId, header.planId);
        receipt.manifestHash = bytes32(uint256(uint32(VersionId.unwrap(header.versionId))));
        receipt.sequence = ++_receiptCount;
        receipt.requestId = bytes32(_draw(type(uint256).max));
        receipt.requestHash = keccak256(abi.encode(receipt.requestId));
        receipt.responseHash = keccak256(abi.encode(receipt.requestHash));
        receipt.finishedAt = header.epochStart;
        if (header.epochEnd > header.epochStart)
            receipt.finishedAt += uint40(_draw(header.epochEnd - header.epochStart));
        (receipt.durationMs, receipt.ttftMs) = (900, 300);
        (receipt.requests, receipt.inputTokens) = (uint32(usage.requests), uint32(usage.inputTokens));
        receipt.cachedInputTokens = uint32(usage.cachedInputTokens);
        (receipt.outputTokens, receipt.computeMs) = (uint32(usage.outputTokens), uint32(usage.computeMs));
    }

    /// @dev A bearer's, which covers the receipt unless there is a flaw in it.
    function _grantOf(Receipt memory receipt, uint256 flaw) private returns (Grant memory grant) {
        (grant.licenseId, grant.generation) = (receipt.licenseId, receipt.generation);
        (grant.notBefore, grant.expiresAt) = (receipt.finishedAt - 1 hours, receipt.finishedAt);
        grant.salt = bytes32(_draw(type(uint256).max));
        if (flaw == 1) grant.licenseId = _id(LicenseId.unwrap(receipt.licenseId) + 1);
        if (flaw == 2) ++grant.generation;
        if (flaw == 3) grant.notBefore = receipt.finishedAt + 1;
        if (flaw == 4) --grant.expiresAt;
        if (flaw == 5) grant.key = VM.addr(REQUEST_KEY);
    }

    /// @dev Whether a receipt is outside its grant. What came to nothing may end late.
    function _isOutside(Receipt memory receipt, Grant memory grant) internal pure returns (bool) {
        uint256 all = uint256(receipt.requests) + receipt.inputTokens + receipt.cachedInputTokens;
        all += uint256(receipt.outputTokens) + receipt.computeMs;
        return
            LicenseId.unwrap(grant.licenseId) != LicenseId.unwrap(receipt.licenseId) ||
            grant.generation != receipt.generation ||
            receipt.finishedAt < grant.notBefore ||
            (receipt.finishedAt > grant.expiresAt && all > 0) ||
            (grant.key != address(0) && receipt.requestSignatureHash == 0);
    }

    // Trees

    /// @dev A leaf for each entry.
    function _leavesOf(Usage[] memory usages, Told memory told) internal view returns (Leaf[] memory leaves) {
        leaves = new Leaf[](usages.length);
        for (uint256 i; i < leaves.length; ++i) {
            leaves[i] = Leaf(keccak256(abi.encode("nobody knows", i, usages[i])), usages[i]);
        }
        if (!told.isThere) return leaves;
        leaves[told.entry].signedHash = keccak256(abi.encodePacked(_receiptHash(told.receipt), told.signature));
        if (told.moved == 0) return leaves;
        // It is all the same batch's.
        uint256 other = told.entry + 1 < leaves.length ? told.entry + 1 : told.entry - 1;
        leaves[told.entry].usage = _with(usages[told.entry], usages[told.entry].inputTokens - told.moved);
        leaves[other].usage = _with(usages[other], usages[other].inputTokens + told.moved);
    }

    function _with(Usage memory usage, uint256 inputTokens) private pure returns (Usage memory) {
        return
            Usage(
                usage.licenseId,
                usage.requests,
                inputTokens,
                usage.cachedInputTokens,
                usage.outputTokens,
                usage.computeMs
            );
    }

    /// @dev What a batch's entries say.
    function _usagesOf(bytes memory entries) internal pure returns (Usage[] memory usages) {
        usages = new Usage[](entries.length / ENTRY);
        for (uint256 i; i < usages.length; ++i) {
            uint256 at = 32 + i * ENTRY;
            uint256 word;
            assembly ("memory-safe") {
                word := mload(add(entries, at))
            }
            usages[i] = Usage(
                word >> 192,
                uint32(word >> 160),
                uint32(word >> 128),
                uint32(word >> 96),
                uint32(word >> 64),
                uint32(word >> 32)
            );
        }
    }

    /// @dev Whether what is told of an entry is what it says, with what was moved to another leaf.
    function _isTold(Usage[] memory usages, Told memory told) internal pure returns (bool) {
        if (!told.isThere || told.entry >= usages.length) return false;
        if (told.moved > 0 && usages.length < 2) return false;
        Usage memory said = _usageOf(told.receipt);
        said.inputTokens += told.moved;
        return keccak256(abi.encode(said)) == keccak256(abi.encode(usages[told.entry]));
    }

    function _usageOf(Receipt memory receipt) internal pure returns (Usage memory) {
        return
            Usage(
                LicenseId.unwrap(receipt.licenseId),
                receipt.requests,
                receipt.inputTokens,
                receipt.cachedInputTokens,
                receipt.outputTokens,
                receipt.computeMs
            );
    }

    // Signatures

    /// @dev Mostly one whose signatures of then count.
    function _keyFor(uint256 operator, uint256 time) internal returns (uint256 key) {
        uint256 start = _draw(SIGNING_KEYS);
        bool isAny = _draw(12) == 0;
        for (uint256 i; i < SIGNING_KEYS; ++i) {
            key = (start + i) % SIGNING_KEYS;
            bool isFit = isAny ? _keyStatus(operator, key) != KeyStatus.None : _couldSign(operator, key, time);
            if (isFit) return key;
        }
        return 0;
    }

    function _signReceipt(Receipt memory receipt, uint256 key) internal view returns (bytes memory) {
        return _signBy(_receiptKey(OperatorId.unwrap(receipt.operatorId), key), _receiptHash(receipt));
    }

    /// @dev An operator's, of a batch.
    function _propose(bytes32 batchId, uint256 operator, uint256 key) internal view returns (bytes memory) {
        return _signBy(_receiptKey(operator, key), _digest(keccak256(abi.encode(PROPOSAL_TYPE, batchId))));
    }

    /// @dev Requests that the license's key has signed, with the receipts that they led to: one receipt a request, and all tokens
    /// in the first. They come as courts ask for them.
    /// @param owner Who has signed the grant, if it has a key
    /// @param key The operator's, of the receipts
    function _requestsOf(
        BatchHeader memory header,
        Usage memory usage,
        address owner,
        uint256 key
    ) internal returns (RequestProof[] memory proofs) {
        Grant memory grant;
        (grant.licenseId, grant.key, grant.expiresAt) = (_id(usage.licenseId), VM.addr(REQUEST_KEY), header.epochEnd);
        bytes32 grantHash = _grantHash(grant);
        bytes memory grantSignature = _signBy(_licenseeKey(owner), grantHash);
        proofs = new RequestProof[](usage.requests == 0 ? 1 : usage.requests);
        for (uint256 i; i < proofs.length; ++i) {
            Receipt memory receipt = _receiptOf(header, usage);
            receipt.requests = usage.requests == 0 ? 0 : 1;
            receipt.finishedAt = header.epochEnd - 1;
            if (i > 0) _empty(receipt);
            receipt.grantHash = grantHash;
            proofs[i] = RequestProof(receipt, "", grant, grantSignature, receipt.finishedAt, "");
            _signRequest(proofs[i], key);
        }
        _sort(proofs);
    }

    function _signRequest(RequestProof memory proof, uint256 key) private view {
        Receipt memory receipt = proof.receipt;
        bytes32 hash = keccak256(abi.encode(REQUEST_TYPE, receipt.grantHash, receipt.requestHash, proof.at));
        proof.requestSignature = _signBy(REQUEST_KEY, _digest(hash));
        receipt.requestSignatureHash = keccak256(abi.encodePacked(proof.at, proof.requestSignature));
        proof.signature = _signReceipt(receipt, key);
    }

    function _empty(Receipt memory receipt) private pure {
        (receipt.inputTokens, receipt.cachedInputTokens) = (0, 0);
        (receipt.outputTokens, receipt.computeMs) = (0, 0);
    }

    /// @dev By the hashes of their requests' signatures.
    function _sort(RequestProof[] memory proofs) private pure {
        for (uint256 i = 1; i < proofs.length; ++i) {
            for (uint256 j = i; j > 0; --j) {
                bytes32 before = proofs[j - 1].receipt.requestSignatureHash;
                if (before < proofs[j].receipt.requestSignatureHash) break;
                (proofs[j - 1], proofs[j]) = (proofs[j], proofs[j - 1]);
            }
        }
    }

    /// @dev Zero's is nobody's.
    function _licenseeKey(address owner) private view returns (uint256) {
        for (uint256 i; i < licenseeKeys.length; ++i) {
            if (VM.addr(licenseeKeys[i]) == owner) return licenseeKeys[i];
        }
        return REQUEST_KEY;
    }

    /// @dev What the verifier takes for a proof that a version's weights answered a request so.
    function _inferenceProof(VersionId versionId, Receipt memory receipt) internal view returns (bytes memory) {
        bytes32 weights = bytes32(uint256(uint32(VersionId.unwrap(versionId))));
        return
            abi.encode(
                keccak256(abi.encode(weights, receipt.requestHash, receipt.responseHash, _receiptHash(receipt)))
            );
    }

    function _receiptHash(Receipt memory receipt) internal view returns (bytes32) {
        return _digest(keccak256(abi.encode(RECEIPT_TYPE, receipt)));
    }

    function _grantHash(Grant memory grant) internal view returns (bytes32) {
        return _digest(keccak256(abi.encode(GRANT_TYPE, grant)));
    }

    function _digest(bytes32 structHash) private view returns (bytes32) {
        return _escrowDigest(structHash, block.chainid, address(escrow));
    }

    function _signBy(uint256 key, bytes32 digest) private pure returns (bytes memory) {
        (uint8 v, bytes32 r, bytes32 s) = VM.sign(key, digest);
        return abi.encodePacked(r, s, v);
    }
}
