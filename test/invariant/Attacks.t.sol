// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {IAccessManager} from "@openzeppelin/contracts/access/manager/IAccessManager.sol";
import {IAccessManaged} from "@openzeppelin/contracts/access/manager/IAccessManaged.sol";
import {PlanTerms} from "../../contracts/interfaces/ILicenseRegistry.sol";
import {BatchHeader, IUsageEscrow} from "../../contracts/interfaces/IUsageEscrow.sol";
import {Timelock} from "../../contracts/Timelock.sol";
import {AttestorThatAlwaysVouches} from "../../contracts/mocks/AttestorThatAlwaysVouches.sol";
import {LicenseId, OperatorId, PlanId} from "../../contracts/types/Ids.sol";
import {Market} from "./Market.sol";
import {Usage} from "./Model.sol";
import {VM} from "./Vm.sol";

/// @title Attacks that worked once, step by step
contract AttacksTest is Market {
    string private constant RULE = "an attack wasn't refused for the reason given";
    PlanId private constant PLAN = PlanId.wrap(3);
    OperatorId private constant OPERATOR = OperatorId.wrap(1);

    function setUp() external {
        _mint(operatorOwners[0], 100 * USD, address(staking));
        VM.prank(operatorOwners[0]);
        staking.addStake(OPERATOR, uint64(100 * USD), 0, clock);
    }

    /// @dev The cap goes down after the service and before its settlement, and up again.
    function test_LoweringACapAfterUseShedsNoBill() external {
        LicenseId id = _buy(50 * USD);
        _pass(1 hours);
        _setCap(id, 1);
        require(_settle(id, 45 * USD, clock - 1 hours, clock) == 45 * USD, "2: a lower cap shed a bill");
        _setCap(id, 0);
        require(escrow.accountOf(id).capCutCode == 0, "2: a cap that was lifted is still to be lowered");
    }

    /// @dev Over and over, on one balance.
    function test_LoweringACapAgainAndAgainGivesNoFreeService() external {
        LicenseId id = _buy(50 * USD);
        uint256 paid;
        for (uint256 i; i < 4; ++i) {
            _pass(1 hours);
            _setCap(id, 1);
            paid += _settle(id, 40 * USD, clock - 1 hours, clock);
            _setCap(id, 0);
        }
        require(paid == 50 * USD, "2: service beyond the cap was free while there was a balance");
    }

    /// @dev An epoch may be running when the cap is lowered: it settles under the higher cap until its window ends, and the
    /// lower one takes hold the second after.
    function test_ALowerCapWaitsForTheRunningEpochsWindow() external {
        LicenseId id = _buy(50 * USD);
        _pass(1 hours);
        _setCap(id, 1);
        uint256 epochEnd = clock + EPOCH;
        uint256 readyAt = epochEnd + WINDOW;
        _pass(EPOCH + WINDOW);
        bytes memory refusal = abi.encodeWithSelector(IUsageEscrow.CapCutRunning.selector, id, readyAt);
        _mustRefuse(licensees[0], address(escrow), abi.encodeCall(escrow.applyCapCut, (id)), refusal, RULE);
        require(_settle(id, 30 * USD, epochEnd - EPOCH, epochEnd) == 30 * USD, "2: a lower cap shed a bill");

        _pass(1);
        VM.prank(OUTSIDER);
        escrow.applyCapCut(id);
        require(_settle(id, 10 * USD, clock - 1 hours, clock) == 0, "2: a lower cap wasn't in force after its wait");
        refusal = abi.encodeWithSelector(IUsageEscrow.CapCutNone.selector, id);
        _mustRefuse(OUTSIDER, address(escrow), abi.encodeCall(escrow.applyCapCut, (id)), refusal, RULE);
    }

    /// @dev Through a plan of its own, with an attestor of its own and the longest hold, filled by a licensee of its own.
    function test_APublisherCantBlockAnOperatorThroughAPlanOfItsOwn() external {
        LicenseId honest = _buy(50 * USD);
        PlanTerms memory terms = plans[0];
        terms.attestor = new AttestorThatAlwaysVouches();
        (terms.publisherBps, terms.attestorBps, terms.holdPeriod) = (5_000, 0, 30 days);
        VM.prank(publishers[0]);
        PlanId trap = licenses.createPlan(terms);
        _mint(publishers[0], 100 * USD, address(escrow));
        bytes memory purchase = abi.encodeCall(escrow.buy, (_purchase(trap, 1, publishers[0], 0, 100 * USD)));
        bytes memory refusal = abi.encodeWithSelector(IUsageEscrow.PlanNotServed.selector, OPERATOR, trap);
        _mustRefuse(publishers[0], address(escrow), purchase, refusal, RULE);

        // Nor does a batch of that plan charge whoever bought another.
        _pass(1 hours);
        Usage memory usage = Usage(LicenseId.unwrap(honest), 0, uint32(40 * USD), 0, 0, 0);
        (BatchHeader memory header, bytes memory entries) = _batchOf(trap, usage, clock - 1 hours, clock);
        require(escrow.batchOf(escrow.settle(header, entries, "")).charged == 0, "2: another plan's batch charged");
        require(staking.headroomOf(OPERATOR) == 100 * USD, "5: a plan that nobody serves took headroom");
        require(_settle(honest, 40 * USD, clock - 1 hours, clock) == 40 * USD, "5: an operator was blocked");
    }

    /// @dev By a shorter delay, or by appointing a governor whose acts don't wait: at once, or after its delay.
    function test_GovernanceCantShedItsDelay() external {
        bytes memory act = abi.encodeCall(timelock.updateDelay, (GOVERNANCE_DELAY - 1));
        bytes memory refusal = abi.encodeWithSelector(
            Timelock.DelayOutOfRange.selector,
            GOVERNANCE_DELAY - 1,
            GOVERNANCE_DELAY,
            30 days
        );
        _mustRefuseGovernance(address(timelock), act, refusal);

        address[2] memory heirs = [PROPOSER, OUTSIDER];
        bytes4 selector = IAccessManager.AccessManagerUnauthorizedAccount.selector;
        for (uint256 i; i < 2; ++i) {
            act = abi.encodeCall(authority.grantRole, (GOVERNOR_ROLE, heirs[i], 0));
            refusal = abi.encodeWithSelector(selector, heirs[i], ADMIN_ROLE);
            _mustRefuse(heirs[i], address(authority), act, refusal, RULE);
            _mustRefuseGovernance(address(authority), act, abi.encodeWithSelector(selector, timelock, ADMIN_ROLE));
        }
        bytes memory unauthorized = abi.encodeWithSelector(IAccessManaged.AccessManagedUnauthorized.selector, PROPOSER);
        _mustRefuse(PROPOSER, address(escrow), abi.encodeCall(escrow.setFee, (500)), unauthorized, RULE);
    }

    function test_GovernanceAppointsGuardiansAfterItsDelay() external {
        _govern(address(authority), abi.encodeCall(authority.grantRole, (GUARDIAN_ROLE, DEPUTY, 0)));
        VM.prank(DEPUTY);
        escrow.pause();
        require(escrow.pausedUntil() == clock + 7 days, "11: a guardian that was appointed can't pause");
    }

    function _buy(uint256 amount) private returns (LicenseId) {
        _mint(licensees[0], amount, address(escrow));
        VM.prank(licensees[0]);
        return escrow.buy(_purchase(PLAN, 1, licensees[0], 0, amount));
    }

    function _setCap(LicenseId id, uint8 code) private {
        VM.prank(licensees[0]);
        escrow.setCap(id, code);
    }

    /// @dev Settles use worth `price`, and says what of it was charged: a million input tokens are 1 USD.
    function _settle(LicenseId id, uint256 price, uint256 start, uint256 end) private returns (uint256) {
        Usage memory usage = Usage(LicenseId.unwrap(id), 0, uint32(price), 0, 0, 0);
        (BatchHeader memory header, bytes memory entries) = _batchOf(PLAN, usage, start, end);
        return escrow.batchOf(escrow.settle(header, entries, _loneProof(escrow.batchIdOf(header)))).charged;
    }

    /// @dev What was scheduled waits, and is refused when its time has come.
    function _mustRefuseGovernance(address target, bytes memory act, bytes memory refusal) private {
        _schedule(target, act, bytes32(clock));
        bytes memory call = abi.encodeCall(timelock.execute, (target, 0, act, 0, bytes32(clock)));
        _pass(GOVERNANCE_DELAY);
        _mustRefuse(PROPOSER, address(timelock), call, refusal, RULE);
    }
}
