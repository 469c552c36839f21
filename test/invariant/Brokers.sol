// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {IERC721} from "@openzeppelin/contracts/token/ERC721/IERC721.sol";
import {ILicenseRegistry} from "../../contracts/interfaces/ILicenseRegistry.sol";
import {Count} from "./Ledger.sol";
import {License} from "./Model.sol";
import {Payees} from "./Payees.sol";
import {Machine, Verb} from "./Statuses.sol";

/// @title Assets, licenses and payees' positions, moved by whom their owners approved
abstract contract Brokers is Payees {
    function approve(uint256 seed) external attempt(seed) {
        (address token, uint256 id) = _anyToken();
        address owner = IERC721(token).ownerOf(id);
        address sender = _draw(4) == 0 ? BROKER : owner;
        address approved = _draw(4) == 0 ? address(0) : BROKER;
        Refusals memory refusals;
        _unless(
            refusals,
            sender == owner || hasBroker[token][owner],
            abi.encodeWithSignature("ERC721InvalidApprover(address)", sender)
        );
        _do(sender, token, abi.encodeCall(IERC721.approve, (approved, id)), refusals, "4: an approval");
        if (refusals.count == 0) approvedOf[token][id] = approved;
        require(IERC721(token).getApproved(id) == approvedOf[token][id], "4: another one was approved");
    }

    /// @dev For all that somebody has of a kind, now and later.
    function approveForAll(uint256 seed) external attempt(seed) {
        (address token, uint256 id) = _anyToken();
        address owner = IERC721(token).ownerOf(id);
        bool approves = _draw(3) == 0;
        _mustLand(owner, token, abi.encodeCall(IERC721.setApprovalForAll, (BROKER, approves)), "4: an approval");
        hasBroker[token][owner] = approves;
    }

    /// @dev By who may, mostly; to who can have it, mostly.
    function broker(uint256 seed) external attempt(seed) {
        (address token, uint256 id) = _anyToken();
        address owner = IERC721(token).ownerOf(id);
        if (!_mayMove(token, owner, id, BROKER) && _draw(4) != 0) {
            _mustLand(owner, token, abi.encodeCall(IERC721.approve, (BROKER, id)), "4: an approval");
            approvedOf[token][id] = BROKER;
        }
        if (token == address(licenses) && _draw(4) != 0) {
            uint256 movableAt = ledger[id - 1].movableAt;
            if (movableAt >= clock) _pass(movableAt + 1 - clock);
        }
        _move(token, id, owner, token == address(assets) ? publishers[_draw(3)] : licensees[_draw(4)]);
    }

    function _move(address token, uint256 id, address owner, address to) private {
        Refusals memory refusals;
        bool isSafe = _draw(3) != 0;
        if (isSafe && _draw(12) == 0) {
            // A contract that takes no tokens.
            to = address(currency);
            _unless(refusals, false, abi.encodeWithSignature("ERC721InvalidReceiver(address)", to));
        }
        _unless(
            refusals,
            _mayMove(token, owner, id, BROKER),
            abi.encodeWithSignature("ERC721InsufficientApproval(address,uint256)", BROKER, id)
        );
        if (token == address(licenses)) {
            uint256 movableAt = ledger[id - 1].movableAt;
            bytes4 selector = ILicenseRegistry.LicenseNotMovable.selector;
            bool isMovable = movableAt > 0 && clock > movableAt;
            _unless(refusals, isMovable, abi.encodeWithSelector(selector, id, movableAt));
            _watch(Machine.License, id);
        }
        bytes memory call = abi.encodeCall(IERC721.transferFrom, (owner, to, id));
        if (isSafe) {
            call =
                _draw(2) == 0
                    ? abi.encodeWithSignature("safeTransferFrom(address,address,uint256)", owner, to, id)
                    : abi.encodeWithSignature("safeTransferFrom(address,address,uint256,bytes)", owner, to, id, "data");
        }
        _do(BROKER, token, call, refusals, "4: a broker's sale");
        if (refusals.count > 0) return;
        _noteMove(token, id);
        require(IERC721(token).ownerOf(id) == to, "4: a token went to another one");
        if (token == address(waterfall)) holderOf[id] = to;
        if (token != address(licenses)) return;
        License storage license = ledger[id - 1];
        (license.owner, license.movableAt) = (to, 0);
        _see(Machine.License, id, Verb.Transfer);
        _requireAccount(id);
        _count(Count.Sales);
    }

    function _anyToken() private returns (address token, uint256 id) {
        uint256 kind = _draw(3);
        if (kind == 0) return (address(licenses), _licenseThat(_isLocked));
        if (kind == 1) id = _anyPayee();
        return id == 0 ? (address(assets), 1 + _draw(assetCount)) : (address(waterfall), id);
    }
}
