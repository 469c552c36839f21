// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {PlanTerms, Rates, ServiceLevels} from "../../contracts/interfaces/ILicenseRegistry.sol";
import {BatchHeader, IUsageEscrow} from "../../contracts/interfaces/IUsageEscrow.sol";
import {AssetId, LicenseId, OperatorId, PlanId} from "../../contracts/types/Ids.sol";
import {Market} from "./Market.sol";
import {Model, Shares, Usage} from "./Model.sol";
import {VM} from "./Vm.sol";

/// @title Any charge under any plan that may be offered, divided to the last unit
contract SplitTest is Market {
    address private constant LICENSEE = address(0xF001);
    uint64 private constant STAKE = 2 ** 60;

    function setUp() external {
        _govern(address(escrow), abi.encodeCall(escrow.raiseDepositCeiling, (type(uint64).max)));
        _mint(operatorOwners[0], STAKE, address(staking));
        VM.prank(operatorOwners[0]);
        staking.addStake(OperatorId.wrap(1), STAKE, 0, clock);
    }

    /// @dev Shares and discount up to all that there is, a fee up to its bound, and a charge up to what a term can count.
    /// Service is as good as the plan promises, or as bad as can be.
    function testFuzz_ASplitIsExact(
        uint56 charged,
        uint16 publisherBps,
        uint16 attestorBps,
        uint16 discountBps,
        uint16 feeBps,
        bool atTheBound,
        bool isGood
    ) external {
        publisherBps %= 9_501;
        attestorBps = uint16(attestorBps % (9_501 - publisherBps));
        uint16 operatorBps = 9_500 - publisherBps - attestorBps;
        discountBps = atTheBound ? operatorBps : discountBps % (operatorBps + 1);
        feeBps = atTheBound ? 500 : feeBps % 501;
        _govern(address(escrow), abi.encodeCall(escrow.setFee, (feeBps)));

        PlanTerms memory terms = _plan(publisherBps, attestorBps, discountBps);
        bytes32 batchId = _charge(charged, terms, isGood);
        bool earnsBonus = isGood && Model.hasDiscounts(terms.levels);
        Shares memory due = Model.split(charged, isGood ? 0 : discountBps, feeBps, terms, earnsBonus);
        IUsageEscrow.Split memory split = escrow.splitOf(batchId);
        require(
            split.operator == due.operator &&
                split.publisher == due.publisher &&
                split.attestor == due.attestor &&
                split.fee == due.fee &&
                split.bonus == due.bonus,
            "7: a share isn't its part of the gross"
        );
        require(
            split.operator + split.publisher + split.attestor + split.fee + split.bonus == charged,
            "7: a split doesn't sum to what was split"
        );

        _pass(30 days);
        escrow.release(batchId);
        lone.shareIncome(batchId);
        _takeAll(due);
        require(currency.balanceOf(address(escrow)) == 0, "7: a split left something behind");
        require(currency.balanceOf(address(lone)) == BOND, "7: a split left something behind");
    }

    /// @dev A plan that leaves its operator less than its largest discount isn't offered.
    function testFuzz_APlanCoversItsDiscount(uint16 publisherBps, uint16 attestorBps, uint16 discountBps) external {
        (publisherBps, attestorBps, discountBps) = (publisherBps % 6_000, attestorBps % 6_000, discountBps % 6_000);
        PlanTerms memory terms = _plan(publisherBps, attestorBps, discountBps);
        bool covered = uint256(publisherBps) + attestorBps + discountBps + 500 <= 10_000;
        VM.prank(publishers[0]);
        try licenses.createPlan(terms) {
            require(covered, "7: a plan was offered whose split can fail");
        } catch {
            require(!covered, "7: a plan was refused whose split can't fail");
        }
    }

    /// @dev Settles a batch that takes the whole balance of a license, which is `charged`.
    function _charge(uint56 charged, PlanTerms memory terms, bool isGood) private returns (bytes32) {
        VM.prank(publishers[0]);
        PlanId plan = licenses.createPlan(terms);
        _serve(1, plan, true);
        _mint(LICENSEE, charged, address(escrow));
        VM.prank(LICENSEE);
        LicenseId id = escrow.buy(_purchase(plan, 1, LICENSEE, 0, charged));

        _pass(1 hours);
        uint32 most = type(uint32).max;
        Usage memory usage = Usage(LicenseId.unwrap(id), most, most, most, most, most);
        (BatchHeader memory header, bytes memory entries) = _batchOf(plan, usage, clock - 1 hours, clock);
        header.availabilityBps = isGood ? 10_000 : 0;
        return escrow.settle(header, entries, _loneProof(escrow.batchIdOf(header)));
    }

    function _takeAll(Shares memory due) private {
        OperatorId operator = OperatorId.wrap(1);
        if (due.operator > 0) {
            VM.prank(operatorOwners[0]);
            require(
                escrow.withdrawEarnings(operator, OUTSIDER) == due.operator,
                "7: an operator wasn't paid its share"
            );
        }
        if (due.publisher > 0) {
            require(escrow.payAsset(AssetId.wrap(uint32(MODEL))) == due.publisher, "7: an asset wasn't paid its share");
            require(
                waterfall.potOf(AssetId.wrap(uint32(MODEL))) == due.publisher,
                "7: an asset's share isn't in its pot"
            );
        }
        if (due.fee > 0) require(escrow.withdrawFees() == due.fee, "7: the treasury wasn't paid its share");
        if (due.bonus > 0) {
            require(escrow.payPool(operator) == due.bonus, "7: a pool wasn't paid its share");
            require(staking.poolOf(operator).unvested == due.bonus, "7: a bonus isn't in its pool");
        }
        if (due.attestor > 0) {
            VM.prank(attestorPayees[3]);
            require(lone.withdraw(OUTSIDER) == due.attestor, "7: an attestor wasn't paid its share");
        }
    }

    /// @dev The highest rates, and a discount for whoever isn't always there.
    function _plan(
        uint16 publisherBps,
        uint16 attestorBps,
        uint16 discountBps
    ) private view returns (PlanTerms memory terms) {
        uint48 most = type(uint48).max;
        terms.assetId = AssetId.wrap(uint32(MODEL));
        terms.attestor = lone;
        (terms.publisherBps, terms.attestorBps) = (publisherBps, attestorBps);
        terms.rates = Rates(most, most, most, most, most);
        terms.levels = ServiceLevels(10_000, discountBps, 0, discountBps, type(uint32).max, 0, type(uint32).max, 0);
        (terms.termPeriod, terms.holdPeriod) = (30 days, 30 days);
    }
}
