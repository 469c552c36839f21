// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {ICommitteeAttestor} from "../../contracts/interfaces/ICommitteeAttestor.sol";
import {IPerformanceStaking} from "../../contracts/interfaces/IPerformanceStaking.sol";
import {Side} from "../../contracts/interfaces/IDisputeCourt.sol";
import {BatchHeader, BatchStatus} from "../../contracts/interfaces/IUsageEscrow.sol";
import {AssetId, OperatorId} from "../../contracts/types/Ids.sol";
import {HostileCurrency, Reenterer} from "./Hostile.sol";
import {License} from "./Model.sol";
import {Replayers} from "./Replayers.sol";
import {Pool, StakeModel} from "./StakeModel.sol";
import {Machine, Verb} from "./Statuses.sol";

/// @title Those who call back in the middle of a call, and those whom the currency refuses
abstract contract Reentrants is Replayers {
    /// @dev A contract's money moved while it moves money: refused, whoever calls and whatever it is.
    function reenter(uint256 seed) external attack(seed) {
        (address sender, address target, bytes memory outer) = _anyMove();
        if (target == address(0)) return;
        reenterer.prepare(target, _anyGuarded(target));
        currency.arm(reenterer);
        bytes memory refusal = abi.encodeWithSelector(ReentrancyGuardTransient.ReentrancyGuardReentrantCall.selector);
        _mustRefuse(sender, target, outer, refusal, "7: money was moved in the middle of a move of money");
        _disarm();
    }

    /// @dev Another contract's money moved meanwhile: both moves count, each for what it is. Income that arrives in the middle of
    /// a stake isn't taken for stake.
    function reenterElsewhere(uint256 seed) external attack(seed) {
        uint256 asset = _assetThat(_hasIncome);
        uint256 operator = pools[1].income > 0 ? 1 : 2;
        if (_draw(2) == 0 && _hasIncome(asset)) {
            address owner = _anyClaimant();
            if (claimable[owner] == 0) return;
            _arm(address(escrow), abi.encodeCall(escrow.payAsset, (AssetId.wrap(uint32(asset)))));
            _withdrawClaimable(owner);
            _bookAssetPayment(asset);
            _requireAsset(asset);
        } else if (pools[operator].income > 0) {
            Pool memory pool = _vested(operator);
            if (!StakeModel.hasRoom(pool) || StakeModel.sharesFor(USD, pool.active, pool.shares) == 0) return;
            uint256 income = pool.income;
            _mint(OUTSIDER, USD, address(staking));
            _arm(address(escrow), abi.encodeCall(escrow.payPool, (_operatorId(operator))));
            bytes memory call = abi.encodeCall(staking.addStake, (_operatorId(operator), uint64(USD), 0, clock));
            bytes4 selector = IPerformanceStaking.TransferIncomplete.selector;
            bytes memory refusal = abi.encodeWithSelector(selector, USD, USD + income);
            _mustRefuse(OUTSIDER, address(staking), call, refusal, "6: income was taken for stake");
            _disarm();
        }
    }

    /// @dev A buyer of a license that uses it before its purchase is over: it is its own by then.
    function receiveAndUse(uint256 seed) external attack(seed) {
        uint256 id = _licenseThat(_isLocked);
        License storage license = ledger[id - 1];
        if (license.movableAt == 0 || license.owner == address(reenterer)) return;
        if (clock <= license.movableAt) _pass(license.movableAt + 1 - clock);
        address seller = license.owner;
        reenterer.prepare(address(escrow), abi.encodeCall(escrow.unlock, (_id(id))));
        bytes memory call = abi.encodeWithSignature("safeTransferFrom(address,address,uint256)", seller, reenterer, id);
        _watch(Machine.License, id);
        _mustLand(seller, address(licenses), call, "4: a sale to one that calls back");
        (license.owner, license.movableAt) = (address(reenterer), 0);
        _noteMove(address(licenses), id);
        _bookUnlock(id);
        _see(Machine.License, id, Verb.Unlock);
        _requireAccount(id);
    }

    /// @dev One whom the currency refuses: it gets nothing where it is refused, keeps nobody from anything, and gets its own
    /// elsewhere.
    function grief(uint256 seed) external attack(seed) {
        address owner = _anyClaimant();
        if (claimable[owner] == 0) return;
        currency.setBlocked(owner, true);
        bytes memory refusal = abi.encodeWithSelector(HostileCurrency.AccountBlocked.selector, owner);
        bytes memory call = abi.encodeCall(waterfall.withdraw, (owner));
        _mustRefuse(owner, address(waterfall), call, refusal, "7: a payee was paid where it can't be");

        uint256 asset = _assetThat(_hasPot);
        if (_hasPot(asset)) _distribute(asset);
        uint256 i = _batchThat(BatchStatus.Releasable);
        if (i < batches.length) _release(i);
        i = _batchThat(BatchStatus.Released);
        if (i < batches.length) _collect(i);
        if (pools[1].income > 0) _payPool(1);
        _withdrawClaimable(owner);
        currency.setBlocked(owner, false);
    }

    function _arm(address target, bytes memory call) private {
        reenterer.prepare(target, call);
        currency.arm(reenterer);
    }

    /// @dev After a call that was refused: it has undone that it was called.
    function _disarm() private {
        reenterer.prepare(address(0), "");
        currency.arm(Reenterer(address(0)));
    }

    /// @dev A call that would move money; to nobody, if there is nothing to be moved.
    function _anyMove() private returns (address sender, address target, bytes memory call) {
        uint256 kind = _draw(6);
        uint256 asset = _assetThat(_hasIncome);
        if (kind == 0 && _hasIncome(asset)) {
            return (OUTSIDER, address(escrow), abi.encodeCall(escrow.payAsset, (AssetId.wrap(uint32(asset)))));
        }
        uint256 operator = _anyOperator();
        if (kind == 1 && pools[operator].earnings > 0) {
            call = abi.encodeCall(escrow.withdrawEarnings, (_operatorId(operator), WALLET));
            return (operatorOwners[operator - 1], address(escrow), call);
        }
        if (kind == 2 && proceeds[TREASURY] > 0) {
            return (TREASURY, address(staking), abi.encodeCall(staking.withdrawProceeds, (WALLET)));
        }
        address winner = litigants[_draw(litigants.length)];
        if (kind == 5 && bondsDue[winner] > 0) {
            return (winner, address(court), abi.encodeCall(court.withdrawBonds, (WALLET)));
        }
        address owner = _anyClaimant();
        if (kind == 3 && claimable[owner] > 0) {
            return (owner, address(waterfall), abi.encodeCall(waterfall.withdraw, (WALLET)));
        }
        uint256 attestor = _draw(ATTESTORS);
        if (kind == 4 && !hasEquivocated[attestor]) {
            uint256 weight = bonds[attestor][OUTSIDER].weight + 1;
            _mint(OUTSIDER, BOND, address(_attestorOf(attestor)));
            call = abi.encodeCall(ICommitteeAttestor.postBond, (_signer(attestor), uint16(weight)));
            return (OUTSIDER, address(_attestorOf(attestor)), call);
        }
    }

    /// @dev A call of the same contract that moves money, too.
    function _anyGuarded(address target) private returns (bytes memory) {
        OperatorId operator = _operatorId(1);
        if (target == address(waterfall)) return abi.encodeCall(waterfall.withdraw, (WALLET));
        if (target == address(staking)) {
            bytes[3] memory stakes = [
                abi.encodeCall(staking.addStake, (operator, 1, 0, clock)),
                abi.encodeCall(staking.withdraw, (operator, WALLET)),
                abi.encodeCall(staking.withdrawProceeds, (WALLET))
            ];
            return stakes[_draw(3)];
        }
        if (target == address(court)) return _anyGuardedOfCourt();
        if (target != address(escrow)) return _anyGuardedOfCommittee();
        bytes[8] memory calls = [
            abi.encodeCall(escrow.deposit, (_id(1), 1)),
            abi.encodeCall(escrow.withdraw, (_id(1), WALLET)),
            abi.encodeCall(escrow.release, (bytes32(0))),
            abi.encodeCall(escrow.collectAttestorShare, (bytes32(0))),
            abi.encodeCall(escrow.payPool, (operator)),
            abi.encodeCall(escrow.payAsset, (AssetId.wrap(uint32(MODEL)))),
            abi.encodeCall(escrow.withdrawEarnings, (operator, WALLET)),
            abi.encodeCall(escrow.withdrawFees, ())
        ];
        return calls[_draw(8)];
    }

    function _anyGuardedOfCourt() private returns (bytes memory) {
        bytes[7] memory calls = [
            abi.encodeCall(court.escalate, (1)),
            abi.encodeCall(court.payFee, (1)),
            abi.encodeCall(court.payAppeal, (1, Side.Operator)),
            abi.encodeCall(court.rule, (0, 1)),
            abi.encodeCall(court.close, (1)),
            abi.encodeCall(court.withdrawBonds, (WALLET)),
            abi.encodeCall(court.withdrawFees, (payable(WALLET)))
        ];
        return calls[_draw(7)];
    }

    function _anyGuardedOfCommittee() private returns (bytes memory) {
        BatchHeader memory header;
        bytes[5] memory calls = [
            abi.encodeCall(ICommitteeAttestor.postBond, (_signer(0), 9)),
            abi.encodeCall(ICommitteeAttestor.withdrawBond, (_signer(0), WALLET)),
            abi.encodeCall(ICommitteeAttestor.withdraw, (WALLET)),
            abi.encodeCall(ICommitteeAttestor.shareIncome, (bytes32(0))),
            abi.encodeCall(ICommitteeAttestor.reportEquivocation, (_signer(0), WALLET, header, "", header, ""))
        ];
        return calls[_draw(5)];
    }
}
