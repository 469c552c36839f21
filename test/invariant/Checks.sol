// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {IAssetRegistry} from "../../contracts/interfaces/IAssetRegistry.sol";
import {ICommitteeAttestor} from "../../contracts/interfaces/ICommitteeAttestor.sol";
import {IDisputeCourt} from "../../contracts/interfaces/IDisputeCourt.sol";
import {IPerformanceStaking} from "../../contracts/interfaces/IPerformanceStaking.sol";
import {BatchStatus, IUsageEscrow} from "../../contracts/interfaces/IUsageEscrow.sol";
import {Bps} from "../../contracts/libraries/Bps.sol";
import {AssetId, LicenseId, OperatorId, PayeeId, PlanId} from "../../contracts/types/Ids.sol";
import {Ledger} from "./Ledger.sol";
import {License} from "./Model.sol";
import {Pool, Position, StakeModel} from "./StakeModel.sol";

/// @title The ledger compared with the contracts
/// @dev Each check quotes the number of the invariant in DESIGN §6 that it holds the contracts to; README.md lists them.
abstract contract Checks is Ledger {
    /// @dev What holds between any two calls: every sum, and in turn one of everything else. A handler has looked at what it
    /// touched.
    function _requireSums() internal view {
        _requireSolvency();
        _requireConservation();
        uint256 turn = _calls();
        _requireInTurn(turn % 6, turn / 6);
    }

    function _requireInTurn(uint256 kind, uint256 turn) internal view virtual {
        if (kind == 0) {
            _requirePool(1 + (turn % OPERATORS));
            _requirePosition(1 + (turn % OPERATORS), backers[turn % backers.length]);
        }
        if (kind == 1) _requireAccount(1 + (turn % ledger.length));
        if (kind == 2) _requireLicense(1 + (turn % ledger.length));
        if (kind == 3) _requireAsset(1 + (turn % assetCount));
        if (kind == 4) {
            _requireBond(turn % ATTESTORS, (turn / ATTESTORS) % 2 == 0 ? attestorPayees[turn % ATTESTORS] : OUTSIDER);
            _requireLane(1 + (turn % OPERATORS), 1 + (turn % plans.length), 1 + ((turn / 6) % recalledAt.length));
        }
        if (kind == 5 && batches.length > 0) _requireBatch(batches[turn % batches.length]);
        if (kind == 5 && cases.length > 0) _requireCase(1 + (turn % cases.length));
        if (kind == 3) _requireLitigant(litigants[turn % litigants.length]);
    }

    /// @dev Whether everything is as it should be that may still change.
    function _requireAll() internal view virtual {
        _requireSums();
        for (uint256 i = 1; i <= OPERATORS; ++i) {
            _requirePool(i);
            for (uint256 plan = 1; plan <= plans.length; ++plan) _requireLane(i, plan, 1);
        }
        require(escrow.feeBps() <= Bps.MAX_FEE, "11: the fee is above its bound");
        for (uint256 i; i < live.length; ++i) _requireAccount(live[i]);
        for (uint256 i; i < live.length; ++i) _requireLicense(live[i]);
        for (uint256 i = 1; i <= OPERATORS; ++i) _requireBackers(i);
        _requirePayees();
        for (uint256 i; i <= rotations.length; ++i) _requireRotation(i);
        for (uint256 i; i < pending.length; ++i) _requireCase(pending[i]);
        for (uint256 i; i < litigants.length; ++i) _requireLitigant(litigants[i]);
        _requireFrozen();
    }

    function _requireSolvency() internal view {
        require(
            currency.balanceOf(address(escrow)) == _escrowed() + donations[address(escrow)],
            "1: the escrow holds more or less than it owes"
        );
        require(escrow.totalOwed() == _escrowed(), "1: the escrow says that it owes more or less than it does");
        require(
            currency.balanceOf(address(waterfall)) == _flowing() + donations[address(waterfall)],
            "1: the waterfall holds more or less than it owes"
        );
        uint256 stakes = StakeModel.held(pools[1]) + StakeModel.held(pools[2]);
        require(
            currency.balanceOf(address(staking)) == stakes + _proceeds() + donations[address(staking)],
            "1: the staking contract holds more or less than it owes"
        );
        require(
            currency.balanceOf(address(committee)) == _owedBy(address(committee)) &&
                currency.balanceOf(address(lone)) == _owedBy(address(lone)),
            "1: a committee holds more or less than it owes"
        );
        require(
            currency.balanceOf(address(court)) == _atCourt() + donations[address(court)],
            "1: the court holds more or less than bonds that are at stake or were won"
        );
        require(
            address(court).balance == _feesAtCourt() && _feesAtCourt() + feesSpent + feesReturned == feesPaid,
            "1: the court holds more or less than fees that are at stake or were won"
        );
        require(
            currency.balanceOf(address(reports)) == donations[address(reports)] && address(reports).balance == 0,
            "1: the court of reports holds money"
        );
    }

    function _requireAccount(uint256 id) internal view {
        License memory license = ledger[id - 1];
        IUsageEscrow.AccountView memory account = escrow.accountOf(_id(id));
        require(account.balance == license.balance, "2: a balance isn't what was paid in less what was due");
        require(
            account.spent == license.term.spent && account.endedSpent == license.earlier.spent,
            "2: a license's spending differs from what was charged in its term"
        );
        require(
            account.term == license.term.number &&
                account.expiresAt == license.term.endsAt &&
                account.endedAt == license.earlier.endsAt &&
                account.isClosed != license.term.open,
            "2: a term is another one"
        );
        require(
            PlanId.unwrap(account.planId) == license.plan &&
                OperatorId.unwrap(account.operatorId) == license.operator &&
                account.onVoucherRoad == license.onVoucherRoad,
            "2: a license has another plan, operator or road"
        );
        require(
            OperatorId.unwrap(account.nextOperatorId) == license.nextOperator &&
                account.nextOnVoucherRoad == license.nextOnVoucherRoad &&
                account.serviceChangeReadyAt == license.serviceReadyAt,
            "2: an announced operator or road is another one"
        );
        require(account.capCode == license.capCode, "2: a licensee's cap is another one");
        require(
            account.capCutCode == license.capCutCode && account.capCutReadyAt == license.capCutReadyAt,
            "2: an announced cap is another one"
        );
        require(
            PlanId.unwrap(account.nextPlanId) == license.nextPlan &&
                PlanId.unwrap(account.formerPlanId) == license.earlierPlan,
            "2: a license goes over to another plan than its owner said, or came from another"
        );
        require(
            account.stoppedAt == license.stoppedAt && account.isEnded == license.ended,
            "2: a license was stopped at another time"
        );
        require(
            account.generation == license.generation && account.renews == license.renews,
            "10: a generation or a renewal is another one"
        );
        require(
            account.thawing == license.thawing && account.thawReadyAt == license.thawReadyAt,
            "4: a thaw is another one"
        );
    }

    /// @dev What a license's account doesn't say.
    function _requireLicense(uint256 id) internal view {
        License storage license = ledger[id - 1];
        require(licenses.ownerOf(id) == license.owner, "4: a license has another owner");
        require(licenses.movableAt(_id(id)) == license.movableAt, "4: a license may be moved at another time");
        require(escrow.committedOf(_id(id)) == _committed(id), "4: what is committed isn't what terms still owe");
        IUsageEscrow.Upfront memory upfront = escrow.upfrontOf(_id(id));
        require(
            upfront.amount == license.upfront &&
                upfront.paidAt == license.upfrontPaidAt &&
                upfront.releasableAt == license.upfrontReleasableAt &&
                upfront.feeBps == license.upfrontFeeBps,
            "7: an upfront price isn't what was paid"
        );
    }

    function _requireLane(uint256 operator, uint256 plan, uint256 version) internal view {
        if (plan == trapPlan) return;
        Lane memory lane = lanes[_laneKey(operator, plan, version)];
        IUsageEscrow.Lane memory actual = escrow.laneOf(
            OperatorId.wrap(uint24(operator)),
            PlanId.wrap(uint32(plan)),
            _versionId(_assetOf(plan), version)
        );
        require(
            actual.sequence == lane.sequence &&
                actual.epochStart == lane.epochStart &&
                actual.epochEnd == lane.epochEnd &&
                actual.lastLicense == lane.lastLicense,
            "3: a lane isn't where its last batch left it"
        );
    }

    function _requireBatch(Batch storage batch) internal view {
        IUsageEscrow.Batch memory actual = escrow.batchOf(batch.id);
        require(actual.status == batch.status, "9: a batch's status is another one");
        require(
            OperatorId.unwrap(actual.operatorId) == OperatorId.unwrap(batch.header.operatorId) &&
                PlanId.unwrap(actual.planId) == PlanId.unwrap(batch.header.planId) &&
                actual.charged == batch.charged &&
                actual.discountBps == batch.discountBps &&
                actual.feeBps == batch.feeBps &&
                actual.signers == batch.signers &&
                actual.earnsBonus == batch.earnsBonus &&
                actual.releasableAt == batch.releasableAt,
            "7: a batch's record isn't what was settled"
        );
    }

    /// @dev A challenge's record, and its charge's.
    function _requireCase(uint256 n) internal view {
        Case storage opened = cases[n - 1];
        Batch storage charge = batches[opened.place];
        IDisputeCourt.Challenge memory actual = court.challengeOf(n);
        require(actual.status == opened.status, "9: a challenge's status is another one");
        require(
            actual.chargeId == charge.id &&
                LicenseId.unwrap(actual.licenseId) == charge.licenseId &&
                OperatorId.unwrap(actual.operatorId) == OperatorId.unwrap(charge.header.operatorId) &&
                (actual.receiptHash != 0) == opened.names,
            "9: a challenge is about something else"
        );
        require(
            actual.challenger == opened.challenger &&
                actual.bond == opened.bond &&
                actual.deadline == opened.deadline &&
                actual.signed == opened.isSigned,
            "9: a challenge isn't what was opened"
        );
        IDisputeCourt.Arbitration memory arbitration = court.arbitrationOf(n);
        require(
            arbitration.pool == opened.pool && arbitration.appealPool == opened.appealPool,
            "7: what both sides have paid went elsewhere"
        );
    }

    function _requireLitigant(address who) private view {
        require(
            court.bondsOf(who) == bondsDue[who] && court.feesOf(who) == feesDue[who],
            "7: somebody may take more or less from the court than was won there"
        );
        require(staking.proceedsOf(who) == proceeds[who], "6: somebody may take more or less than slashes left for it");
    }

    /// @dev Just the charges of open challenges are frozen, each of them once.
    function _requireFrozen() private view {
        uint256 sum;
        for (uint256 i; i < pending.length; ++i) {
            IUsageEscrow.Batch memory charge = escrow.batchOf(batches[cases[pending[i] - 1].place].id);
            require(charge.status == BatchStatus.Frozen, "9: a challenge is open of a charge that isn't frozen");
            sum += charge.charged;
        }
        require(sum == frozen, "7: more or less is frozen than is challenged");
    }

    function _requirePool(uint256 operator) internal view {
        Pool memory pool = _vested(operator);
        IPerformanceStaking.Pool memory actual = staking.poolOf(_operatorId(operator));
        require(actual.inFlight == pool.inFlight, "5: in flight isn't what is charged and not released");
        require(
            actual.active == pool.active &&
                actual.thawing == pool.thawing &&
                actual.unvested == pool.unvested &&
                actual.vestsUntil == (pool.unvested == 0 ? 0 : pool.vestsUntil),
            "6: a pool's money isn't what was put in and earned less what was taken out"
        );
        require(
            actual.shares == pool.shares && actual.thawingShares == pool.thawingShares && actual.round == pool.round,
            "6: a pool's shares aren't its holders'"
        );
        uint256 frozen = clock < pool.frozenUntil ? pool.frozen : 0;
        require(
            actual.frozen == frozen && actual.frozenUntil == (frozen == 0 ? 0 : pool.frozenUntil),
            "5: more or less is frozen than was asked for"
        );
        require(
            actual.jailedUntil == pool.jailedUntil && actual.jailings == pool.jailings,
            "6: an operator is in jail for another time than its breaches earned"
        );
        require(
            staking.commissionOf(_operatorId(operator)).bps == 10_000 - StakeModel.shareBps(pool, clock),
            "6: a commission is another one than was announced in time"
        );
        IUsageEscrow.OperatorIncome memory income = escrow.operatorIncomeOf(_operatorId(operator));
        require(
            income.earnings == pool.earnings && income.forPool == pool.income,
            "7: an operator's income isn't its part of what was released"
        );
        require(
            pool.inFlight <= StakeModel.held(pool) + pool.shortfall,
            "5: in flight is above the stake, and no slash has left it there"
        );
    }

    function _requirePosition(uint256 operator, address backer) internal view {
        Pool memory pool = _vested(operator);
        Position storage position = positions[operator][backer];
        IPerformanceStaking.Position memory actual = staking.positionOf(_operatorId(operator), backer);
        if (position.round != pool.round) {
            require(actual.shares + actual.thawingShares == 0, "6: shares outlived a slash of everything");
            return;
        }
        uint256 thawingShares;
        for (uint256 i; i < position.thaws.length; ++i) thawingShares += position.thaws[i].shares;
        require(
            actual.shares == position.shares && actual.thawingShares == thawingShares,
            "6: somebody's shares aren't what it got for its stake"
        );
        require(
            actual.active == StakeModel.worthOf(position.shares, pool.active, pool.shares) &&
                actual.thawing == StakeModel.worthOf(thawingShares, pool.thawing, pool.thawingShares),
            "6: shares are worth more or less than their part of the stake"
        );
    }

    /// @dev Those who back an operator have all of its pool's shares.
    function _requireBackers(uint256 operator) internal view {
        uint256 shares;
        uint256 thawingShares;
        for (uint256 i; i < backers.length; ++i) {
            _requirePosition(operator, backers[i]);
            Position storage position = positions[operator][backers[i]];
            if (position.round != pools[operator].round) continue;
            shares += position.shares;
            for (uint256 j; j < position.thaws.length; ++j) thawingShares += position.thaws[j].shares;
        }
        require(
            shares == pools[operator].shares && thawingShares == pools[operator].thawingShares,
            "6: a pool has shares that nobody holds"
        );
    }

    /// @dev One committee of those that were announced, or the next one that wasn't.
    function _requireRotation(uint256 number) internal view {
        require(committee.presentRotation() == _presentRotation(), "10: another committee is in force");
        require(committee.rotationNonce() == rotationNonce, "10: a committee was announced once too often");
        ICommitteeAttestor.Rotation memory actual = committee.rotationOf(number);
        Rotation memory rotation;
        if (number < rotations.length) rotation = rotations[number];
        require(
            actual.threshold == rotation.threshold &&
                actual.since == rotation.since &&
                actual.members.length == rotation.seats.length,
            "10: a committee isn't the one that was announced"
        );
        if (number >= rotations.length) return;
        uint256[] memory weights = committee.weightsOf(number);
        bool isPast = number + 1 < _presentRotation();
        for (uint256 i; i < rotation.seats.length; ++i) {
            Seat memory seat = rotation.seats[i];
            require(
                keccak256(abi.encode(actual.members[i])) == keccak256(abi.encode(_member(seat.attestor, seat.weight))),
                "10: a committee has another member"
            );
            require(
                isPast || weights[i] == _weightOf(rotations[number].seats[i]),
                "10: a signature counts for more or less than its bond covers"
            );
        }
    }

    function _requireBond(uint256 attestor, address holder) internal view {
        ICommitteeAttestor.Bond memory actual = _attestorOf(attestor).bondOf(_signer(attestor), holder);
        Bond storage bond = bonds[attestor][holder];
        require(
            actual.weight == bond.weight && actual.readyAt == bond.readyAt && actual.isSlashed == bond.isSlashed,
            "7: a bond isn't what was posted less what was taken out or lost"
        );
    }

    /// @dev What a committee has to hold.
    function _owedBy(address attestor) private view returns (uint256) {
        return bonded[attestor] + incomes[attestor] + donations[attestor];
    }

    /// @dev Nothing is made and nothing is lost on the way from a deposit to its payees.
    function _requireConservation() internal view {
        require(
            flows.deposited + flows.upfrontsReturned == balances + flows.refunded + flows.charged + flows.closed,
            "7: deposits went elsewhere"
        );
        require(
            flows.upfrontsPaid == upfronts + flows.upfrontsReturned + flows.upfrontsReleased,
            "7: upfront prices went elsewhere"
        );
        require(
            flows.charged + flows.closed + flows.upfrontsReleased ==
                held + flows.toOperators + flows.toAssets + flows.toAttestors + flows.toTreasury + flows.toPools,
            "7: charges weren't divided whole"
        );
        require(
            flows.toOperators == pools[1].earnings + pools[2].earnings + flows.operatorsPaid &&
                flows.toPools == pools[1].income + pools[2].income + flows.poolsPaid,
            "7: operators' income went elsewhere"
        );
        uint256 waiting;
        for (uint256 i = 1; i <= assetCount; ++i) waiting += lineage[i].income;
        require(
            flows.toAssets == waiting + flows.assetsPaid && flows.assetsPaid == _flowing() + flows.ownersPaid,
            "7: assets' income went elsewhere"
        );
        require(
            flows.toAttestors + flows.bondsLost ==
                uncollected + incomes[address(committee)] + incomes[address(lone)] + flows.attestorsPaid,
            "7: attestors' income went elsewhere"
        );
        require(
            flows.toTreasury == fees + flows.treasuryPaid && fees == escrow.protocolFees(),
            "7: fees went elsewhere"
        );
    }

    function _requirePayees() internal view {
        for (uint256 i = 1; i <= assetCount; ++i) _requireAsset(i);
        for (uint256 i; i < publishers.length; ++i) _requireClaimable(publishers[i]);
        for (uint256 i; i < licensees.length; ++i) _requireClaimable(licensees[i]);
        for (uint256 i; i < ATTESTORS; ++i) {
            _requireBond(i, attestorPayees[i]);
            _requireIncome(attestorPayees[i]);
        }
        _requireIncome(TREASURY);
        _requireIncome(OUTSIDER);
    }

    /// @dev Its parents, payees and their shares are who and what they were made, and its income is where it came to.
    function _requireAsset(uint256 id) internal view {
        Asset storage asset = lineage[id];
        AssetId assetId = AssetId.wrap(uint32(id));
        require(
            keccak256(abi.encode(assets.parentsOf(assetId))) == keccak256(abi.encode(parentsOf[id])),
            "8: an asset's parents, or their shares, aren't those of its registration"
        );
        IAssetRegistry.Asset memory actual = assets.assetOf(assetId);
        require(
            actual.kind == asset.kind &&
                actual.permittedUses == asset.permittedUses &&
                actual.policy == asset.policy &&
                actual.minShareBps == asset.minShareBps,
            "8: an asset isn't what it was registered as, or asks of children what its owner didn't say"
        );
        require(
            keccak256(abi.encode(waterfall.payeesOf(assetId))) == keccak256(abi.encode(asset.payees)),
            "7: an asset's payees aren't those who were added and didn't give up"
        );
        for (uint256 i; i < asset.payees.length; ++i) {
            uint256 payee = PayeeId.unwrap(asset.payees[i].payeeId);
            require(waterfall.ownerOf(payee) == holderOf[payee], "7: a payee's position is another one's");
        }
        require(escrow.assetIncomeOf(assetId) == asset.income, "7: an asset's income isn't its shares");
        require(
            waterfall.potOf(assetId) == asset.pot && waterfall.incomeOf(assetId) == asset.received,
            "8: a pot isn't what the asset and its children earned less what was passed on"
        );
    }

    function _requireIncome(address payee) private view {
        require(
            committee.incomeOf(payee) == incomeOf[address(committee)][payee] &&
                lone.incomeOf(payee) == incomeOf[address(lone)][payee],
            "7: an attestor's income isn't its part of what it signed"
        );
    }

    function _requireClaimable(address owner) internal view {
        require(
            waterfall.claimableOf(owner) == claimable[owner],
            "7: somebody may claim more or less than was distributed to it"
        );
    }

    /// @dev All that users own, as the contracts have it.
    function _money() internal view returns (bytes32 digest) {
        for (uint256 i; i < live.length; ++i) {
            digest = keccak256(abi.encode(digest, escrow.accountOf(_id(live[i])), escrow.upfrontOf(_id(live[i]))));
        }
        for (uint256 i; i < OPERATORS; ++i) {
            OperatorId operator = _operatorId(i + 1);
            IPerformanceStaking.Pool memory pool = staking.poolOf(operator);
            uint256 stake = pool.active + pool.thawing + pool.unvested;
            digest = keccak256(abi.encode(digest, stake, pool.inFlight, escrow.operatorIncomeOf(operator)));
            for (uint256 j; j < backers.length; ++j) {
                IPerformanceStaking.Position memory position = staking.positionOf(operator, backers[j]);
                digest = keccak256(abi.encode(digest, position.shares, position.thawingShares));
            }
        }
        for (uint256 i; i < litigants.length; ++i) {
            address who = litigants[i];
            digest = keccak256(abi.encode(digest, staking.proceedsOf(who), court.bondsOf(who), court.feesOf(who)));
        }
        for (uint256 i = 1; i <= assetCount; ++i) {
            AssetId asset = AssetId.wrap(uint32(i));
            digest = keccak256(abi.encode(digest, escrow.assetIncomeOf(asset), waterfall.potOf(asset)));
        }
        for (uint256 i; i < publishers.length; ++i) {
            digest = keccak256(abi.encode(digest, waterfall.claimableOf(publishers[i])));
        }
        for (uint256 i; i < batches.length; ++i) {
            if (batches[i].status != BatchStatus.Collected) {
                digest = keccak256(abi.encode(digest, escrow.splitOf(batches[i].id)));
            }
        }
        digest = keccak256(abi.encode(digest, staking.proceedsOf(BENEFICIARY), staking.proceedsOf(TREASURY)));
        digest = keccak256(abi.encode(digest, escrow.protocolFees()));
        return
            keccak256(
                abi.encode(
                    digest,
                    currency.balanceOf(address(escrow)),
                    currency.balanceOf(address(staking)),
                    currency.balanceOf(address(committee))
                )
            );
    }
}
