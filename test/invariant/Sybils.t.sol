// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {IAssetRegistry} from "../../contracts/interfaces/IAssetRegistry.sol";
import {ICommitteeAttestor} from "../../contracts/interfaces/ICommitteeAttestor.sol";
import {ILicenseRegistry, PlanTerms} from "../../contracts/interfaces/ILicenseRegistry.sol";
import {IPerformanceStaking} from "../../contracts/interfaces/IPerformanceStaking.sol";
import {IRevenueWaterfall} from "../../contracts/interfaces/IRevenueWaterfall.sol";
import {Authorization, BatchHeader, IUsageEscrow, Purchase} from "../../contracts/interfaces/IUsageEscrow.sol";
import {AttestorThatAlwaysVouches} from "../../contracts/mocks/AttestorThatAlwaysVouches.sol";
import {TestCurrency} from "../../contracts/mocks/TestCurrency.sol";
import {AssetId, LicenseId, OperatorId, PlanId, VersionId} from "../../contracts/types/Ids.sol";
import {Market} from "./Market.sol";
import {Usage} from "./Model.sol";
import {VM} from "./Vm.sol";

/// @title Attacks that shaped the design, by those who are several at once, step by step
contract SybilsTest is Market {
    string private constant RULE = "an attack wasn't refused for the reason given";
    PlanId private constant PLAN = PlanId.wrap(3);
    OperatorId private constant OPERATOR = OperatorId.wrap(1);
    address private constant DELEGATOR = address(0xF001);

    function setUp() external {
        _stake(operatorOwners[0], 100 * USD);
    }

    /// @dev One person is publisher, operator and attestor of a plan that somebody trusted: a term's cap is all that is charged, and
    /// nothing of it leaves before the hold is over, by when the licensee has long left with the rest.
    function test_SybilsGetATermsCapAtMostAndAfterTheHoldAlone() external {
        PlanTerms memory terms = plans[0];
        terms.attestor = new AttestorThatAlwaysVouches();
        (terms.cap, terms.holdPeriod, terms.publisherBps) = (uint56(10 * USD), 5 days, 9_000);
        terms.levels.severeTtftDiscountBps = 0;
        (terms.levels.ttftDiscountBps, terms.levels.availabilityDiscountBps) = (0, 0);
        terms.levels.severeAvailabilityDiscountBps = 0;
        terms.attestorBps = 0;
        VM.prank(publishers[0]);
        PlanId plan = licenses.createPlan(terms);
        _serve(1, plan, true);
        LicenseId id = _buy(plan, 50 * USD);

        _pass(1 hours);
        Usage memory usage = Usage(LicenseId.unwrap(id), 0, uint32(50 * USD), 0, 0, 0);
        (BatchHeader memory header, bytes memory entries) = _batchOf(plan, usage, clock - 1 hours, clock);
        bytes32 batchId = escrow.settle(header, entries, "");
        require(escrow.batchOf(batchId).charged == 10 * USD, "2: sybils drained more than a term's cap");
        bytes memory refusal = abi.encodeWithSelector(IUsageEscrow.HoldRunning.selector, batchId, clock + 5 days);
        _mustRefuse(operatorOwners[0], address(escrow), abi.encodeCall(escrow.release, (batchId)), refusal, RULE);

        VM.prank(licensees[0]);
        escrow.thaw(id, uint64(40 * USD));
        _pass(WAIT + 1);
        VM.prank(licensees[0]);
        require(escrow.withdraw(id, licensees[0]) == 40 * USD, "4: a licensee couldn't leave before the hold was over");
        _mustRefuse(operatorOwners[0], address(escrow), abi.encodeCall(escrow.release, (batchId)), refusal, RULE);
    }

    /// @dev An operator whose own license was harmed, as whoever judges it says: delegations don't pay for that.
    function test_AnOperatorsOwnLicenseHarvestsNoDelegation() external {
        _stake(DELEGATOR, 300 * USD);
        VM.prank(SLASHER);
        (uint256 toBeneficiary, uint256 toTreasury) = staking.slash(OPERATOR, 200 * USD, licensees[0]);
        require(toBeneficiary + toTreasury == 200 * USD, "6: a slash took more or less than it could");
        require(toBeneficiary <= 50 * USD, "6: a licensee was paid from delegations");
        require(staking.proceedsOf(TREASURY) == toTreasury, "6: a slash of delegations isn't the treasury's");
    }

    /// @dev Right before a payment to the pool, and gone right after: with a thousand times the stake of all others.
    function test_ADelegationJustInTimeEarnsNothing() external {
        VM.prank(operatorOwners[0]);
        staking.setCommission(OPERATOR, 0);
        bytes32 batchId = _charge(PLAN, MODEL, _buy(PLAN, 50 * USD), 40 * USD);
        _pass(30 days);
        _stake(DELEGATOR, 100_000 * USD);
        escrow.release(batchId);
        require(escrow.payPool(OPERATOR) > 0, "7: a pool earned nothing");
        IPerformanceStaking.Position memory held = staking.positionOf(OPERATOR, DELEGATOR);
        require(held.active <= 100_000 * USD, "6: who came for one payment earned of it");
        VM.prank(DELEGATOR);
        staking.thaw(OPERATOR, held.shares);
        _pass(STAKE_THAW + 1);
        VM.prank(DELEGATOR);
        require(staking.withdraw(OPERATOR, DELEGATOR) <= 100_000 * USD, "6: who came for one payment earned of it");
    }

    /// @dev Nine tenths are the treasury's, whoever reports.
    function test_AnEquivocatorLosesItsBondByReportingItself() external {
        BatchHeader memory first;
        first.sequence = 1;
        BatchHeader memory second = abi.decode(abi.encode(first), (BatchHeader));
        second.root = bytes32(uint256(1));
        bytes[2] memory signatures = [
            _loneSignature(escrow.batchIdOf(first)),
            _loneSignature(escrow.batchIdOf(second))
        ];
        address payee = attestorPayees[3];
        VM.prank(payee);
        lone.reportEquivocation(_signer(3), payee, first, signatures[0], second, signatures[1]);
        require(lone.incomeOf(payee) == BOND / 10, "6: a reporter earned more than a tenth");
        require(lone.incomeOf(TREASURY) == BOND - BOND / 10, "6: a bond wasn't lost");
        require(lone.hasEquivocated(_signer(3)), "10: who contradicted itself still counts");
        bytes memory refusal = abi.encodeWithSelector(ICommitteeAttestor.SignerEquivocated.selector, _signer(3));
        _mustRefuse(payee, address(lone), abi.encodeCall(lone.postBond, (_signer(3), 1)), refusal, RULE);
    }

    /// @dev What a payer signed for a purchase can't be moved to the escrow as a mere transfer, nor be taken by another; brought by
    /// anybody, it buys just what it is for.
    function test_AStockTransferByAStrangerTakesNoPaymentForNothing() external {
        Purchase memory purchase = _purchase(PLAN, 1, licensees[0], 0, 20 * USD);
        Authorization memory authorization = _authorizationOf(purchase, 20 * USD);
        bytes32 nonce = escrow.purchaseHash(purchase, authorization.salt);
        bytes memory stock = abi.encodeWithSignature(
            "transferWithAuthorization(address,address,uint256,uint256,uint256,bytes32,bytes)",
            licensees[0],
            escrow,
            20 * USD,
            0,
            type(uint256).max,
            nonce,
            authorization.signature
        );
        bytes memory refusal = abi.encodeWithSelector(TestCurrency.SignatureInvalid.selector, licensees[0]);
        _mustRefuse(OUTSIDER, address(currency), stock, refusal, RULE);

        purchase.to = OUTSIDER;
        bytes memory diverted = abi.encodeCall(escrow.buyWithAuthorization, (purchase, authorization));
        _mustRefuse(OUTSIDER, address(escrow), diverted, refusal, RULE);

        purchase.to = licensees[0];
        VM.prank(OUTSIDER);
        LicenseId id = escrow.buyWithAuthorization(purchase, authorization);
        require(escrow.accountOf(id).balance == 20 * USD, "4: a payment isn't where it was meant");
        bytes memory used = abi.encodeWithSelector(TestCurrency.AuthorizationUsedBefore.selector, licensees[0], nonce);
        bytes memory again = abi.encodeCall(escrow.buyWithAuthorization, (purchase, authorization));
        _mustRefuse(OUTSIDER, address(escrow), again, used, RULE);
    }

    /// @dev A child's owner that gives all that is left to payees of its own; a parent's that asks for more from now on.
    function test_ARoyaltyIsNeitherLoweredNorRaised() external {
        AssetId child = AssetId.wrap(uint32(ADAPTER));
        VM.prank(publishers[0]);
        waterfall.addPayee(child, OUTSIDER, 10_000 - 1_507);
        bytes memory call = abi.encodeCall(waterfall.addPayee, (child, OUTSIDER, 1));
        bytes memory refusal = abi.encodeWithSelector(IRevenueWaterfall.IncomeAboveWhole.selector, 10_001);
        _mustRefuse(publishers[0], address(waterfall), call, refusal, RULE);
        IAssetRegistry.Asset memory parent = assets.assetOf(AssetId.wrap(uint32(MODEL)));
        VM.prank(publishers[0]);
        assets.setPolicy(AssetId.wrap(uint32(MODEL)), parent.policy, 10_000);

        PlanTerms memory terms = plans[5];
        terms.attestor = lone;
        VM.prank(publishers[0]);
        PlanId plan = licenses.createPlan(terms);
        _serve(1, plan, true);
        bytes32 batchId = _charge(plan, ADAPTER, _buy(plan, 20 * USD), 20 * USD);
        _pass(terms.holdPeriod);
        escrow.release(batchId);
        uint256 income = escrow.payAsset(child);
        waterfall.distribute(child);
        uint256 due = (income * 1_507) / 10_000;
        require(waterfall.potOf(AssetId.wrap(uint32(MODEL))) == due, "8: a parent got more or less than was agreed");
    }

    /// @dev Nothing enforces what an arbitrator would say: no plan names one.
    function test_APlanWhoseArbitratorIsNoContractIsntOffered() external {
        PlanTerms memory terms = plans[0];
        terms.arbitrator = publishers[0];
        bytes memory call = abi.encodeCall(licenses.createPlan, (terms));
        bytes memory refusal = abi.encodeWithSelector(ILicenseRegistry.ArbitratorNotContract.selector, publishers[0]);
        _mustRefuse(publishers[0], address(licenses), call, refusal, RULE);
    }

    function _stake(address backer, uint256 amount) private {
        _mint(backer, amount, address(staking));
        VM.prank(backer);
        staking.addStake(OPERATOR, uint64(amount), 0, clock);
    }

    function _buy(PlanId plan, uint256 amount) private returns (LicenseId) {
        _mint(licensees[0], amount, address(escrow));
        VM.prank(licensees[0]);
        return escrow.buy(_purchase(plan, 1, licensees[0], 0, amount));
    }

    /// @dev Settles use worth `price` of an hour: a million input tokens are 1 USD.
    function _charge(PlanId plan, uint256 asset, LicenseId id, uint256 price) private returns (bytes32) {
        _pass(1 hours);
        Usage memory usage = Usage(LicenseId.unwrap(id), 0, uint32(price), 0, 0, 0);
        (BatchHeader memory header, bytes memory entries) = _batchOf(plan, usage, clock - 1 hours, clock);
        header.versionId = VersionId.wrap(uint64((asset << 32) | 1));
        return escrow.settle(header, entries, _loneProof(escrow.batchIdOf(header)));
    }

    function _loneSignature(bytes32 digest) private view returns (bytes memory) {
        (uint8 v, bytes32 r, bytes32 s) = VM.sign(attestorKeys[3], digest);
        return abi.encodePacked(r, s, v);
    }

    /// @dev Of the first licensee, who has that much.
    function _authorizationOf(
        Purchase memory purchase,
        uint256 price
    ) private returns (Authorization memory authorization) {
        currency.mint(licensees[0], price);
        (authorization.from, authorization.validBefore) = (licensees[0], type(uint256).max);
        bytes32 structHash = keccak256(
            abi.encode(
                currency.RECEIVE_WITH_AUTHORIZATION_TYPEHASH(),
                licensees[0],
                escrow,
                price,
                0,
                type(uint256).max,
                escrow.purchaseHash(purchase, authorization.salt)
            )
        );
        bytes32 digest = keccak256(abi.encodePacked("\x19\x01", currency.DOMAIN_SEPARATOR(), structHash));
        (uint8 v, bytes32 r, bytes32 s) = VM.sign(licenseeKeys[0], digest);
        authorization.signature = abi.encodePacked(r, s, v);
    }
}
