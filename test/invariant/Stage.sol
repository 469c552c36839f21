// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {IUsageEscrow, LicenseStatus} from "../../contracts/interfaces/IUsageEscrow.sol";
import {Count} from "./Ledger.sol";
import {License, Model} from "./Model.sol";
import {Machine, Statuses, Verb} from "./Statuses.sol";
import {VM} from "./Vm.sol";

/// @title How everybody acts
/// @dev A call of the campaign is an attempt or an attack. An attempt lands, or is refused for a reason that the ledger
/// foresaw: whatever reverts otherwise, or lands although it had to be refused, ends the campaign. An attack must be refused, and
/// for the reason that the rule gives: being refused by luck doesn't count. Arguments are seeds, so that most attempts make sense.
abstract contract Stage is Statuses {
    address internal constant WALLET = address(0xE001);

    /// @dev The reasons for which a call has to be refused: any of them will do. None: it has to land.
    struct Refusals {
        bytes[16] reasons;
        uint256 count;
    }

    enum Outcome {
        Idle,
        Landed,
        Refused
    }

    /// @dev Makes campaigns with the same seeds differ.
    bytes32 private immutable NAME;
    uint256 private _draws;
    uint256 private _seed;
    Outcome private _outcome;

    constructor(string memory name) {
        NAME = keccak256(bytes(name));
    }

    modifier attempt(uint256 seed) {
        _begin(seed);
        _outcome = Outcome.Idle;
        _;
        if (_outcome == Outcome.Landed) _count(Count.Landed);
        else if (_outcome == Outcome.Refused) _count(Count.Refused);
        else _count(Count.Idle);
        _bury(_draw(live.length));
    }

    modifier attack(uint256 seed) {
        _begin(seed);
        _;
        _count(Count.Attacks);
    }

    /// @dev A call that lands unless there is a reason against it. What came of the last one is what came of an attempt.
    function _do(
        address sender,
        address target,
        bytes memory call,
        Refusals memory refusals,
        string memory act
    ) internal returns (bytes memory result) {
        return _doWith(0, sender, target, call, refusals, act);
    }

    /// @dev The same, with some wei.
    function _doWith(
        uint256 value,
        address sender,
        address target,
        bytes memory call,
        Refusals memory refusals,
        string memory act
    ) internal returns (bytes memory result) {
        bool landed;
        if (value > 0) VM.deal(sender, value);
        VM.prank(sender);
        (landed, result) = target.call{value: value}(call);
        _heed(target, call, landed);
        if (landed) {
            require(refusals.count == 0, string.concat(act, " landed that had to be refused"));
        } else {
            require(_isForeseen(result, refusals), string.concat(act, " was refused for no good reason"));
        }
        _outcome = landed ? Outcome.Landed : Outcome.Refused;
    }

    /// @dev An act on a license, whose status may move by `verb` alone.
    function _doTo(
        uint256 id,
        Verb verb,
        address sender,
        bytes memory call,
        Refusals memory refusals,
        string memory act
    ) internal returns (bytes memory result) {
        _watch(Machine.License, id);
        result = _do(sender, address(escrow), call, refusals, act);
        _see(Machine.License, id, refusals.count == 0 ? verb : Verb.Nothing);
    }

    /// @dev A call that has no reason to be refused.
    function _mustLand(
        address sender,
        address target,
        bytes memory call,
        string memory act
    ) internal returns (bytes memory) {
        Refusals memory none;
        return _do(sender, target, call, none, act);
    }

    /// @dev As `_mustRefuse`, for any of several reasons.
    function _mustRefuseFor(
        address sender,
        address target,
        bytes memory call,
        Refusals memory refusals,
        string memory rule
    ) internal {
        VM.prank(sender);
        (bool landed, bytes memory reason) = target.call(call);
        _heed(target, call, landed);
        require(!landed && _isForeseen(reason, refusals), rule);
    }

    /// @dev A reason, if it holds.
    function _unless(Refusals memory refusals, bool fine, bytes memory reason) internal pure {
        if (!fine) refusals.reasons[refusals.count++] = reason;
    }

    /// @dev The license must be in one of the statuses of a bit field.
    function _unlessIn(Refusals memory refusals, uint256 id, uint256 statuses) internal view {
        LicenseStatus status = _licenseStatus(id);
        bytes4 selector = IUsageEscrow.LicenseStatusUnfit.selector;
        _unless(refusals, (statuses >> uint8(status)) & 1 == 1, abi.encodeWithSelector(selector, id, status));
    }

    /// @dev Who withdrew got what the ledger says, where it said, and no more.
    function _requireReceived(uint256 amount, address at, uint256 due) internal {
        require(amount == due, "7: somebody was paid more or less than was due");
        require(currency.balanceOf(at) == due, "7: money was sent elsewhere");
        VM.prank(at);
        currency.transfer(DONOR, due);
        _count(Count.Withdrawals);
    }

    /// @dev What an escrow, somewhere, takes as signed by EIP-712.
    function _escrowDigest(bytes32 structHash, uint256 chainId, address verifier) internal pure returns (bytes32) {
        bytes32 domain = keccak256(
            abi.encode(
                keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"),
                keccak256("Licet UsageEscrow"),
                keccak256("1"),
                chainId,
                verifier
            )
        );
        return keccak256(abi.encodePacked("\x19\x01", domain, structHash));
    }

    /// @dev A number below `range`, or zero.
    function _draw(uint256 range) internal returns (uint256) {
        if (range == 0) return 0;
        return uint256(keccak256(abi.encode(_seed, ++_draws))) % range;
    }

    function _anyLicense() internal returns (uint256) {
        return live.length == 0 ? _draw(ledger.length) + 1 : live[_draw(live.length)];
    }

    /// @dev A license that is fit for something, from a random one on; any license now and then, or if none is.
    function _licenseThat(function(uint256) view returns (bool) isFit) internal returns (uint256) {
        if (_draw(16) == 0) return _anyLicense();
        uint256 start = _draw(live.length);
        for (uint256 i; i < live.length; ++i) {
            uint256 id = live[(start + i) % live.length];
            if (isFit(id)) return id;
        }
        return _anyLicense();
    }

    function _anybody() internal returns (address) {
        return [licensees[0], licensees[1], licensees[2], licensees[3], OUTSIDER][_draw(5)];
    }

    function _anyPlan() internal returns (uint256 plan) {
        for (plan = trapPlan; plan == trapPlan;) plan = _draw(plans.length) + 1;
    }

    function _anyOperator() internal returns (uint256) {
        return _draw(OPERATORS) + 1;
    }

    /// @dev A license is live until it is closed and has nothing left: nothing can come in any more.
    function _bury(uint256 i) private {
        if (i >= live.length) return;
        License storage license = ledger[live[i] - 1];
        if (license.balance + license.thawing + license.upfront > 0) return;
        if (_licenseStatus(live[i]) != LicenseStatus.Closed) return;
        // In their order, as entries of batches are.
        for (; i + 1 < live.length; ++i) live[i] = live[i + 1];
        live.pop();
    }

    function _begin(uint256 seed) private {
        VM.warp(clock);
        _seed = uint256(keccak256(abi.encode(NAME, seed, _draws, clock)));
    }

    function _isForeseen(bytes memory reason, Refusals memory refusals) private pure returns (bool) {
        for (uint256 i; i < refusals.count; ++i) {
            if (keccak256(reason) == keccak256(refusals.reasons[i])) return true;
        }
        return false;
    }
}
