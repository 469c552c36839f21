// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {AssetRegistry} from "../../contracts/AssetRegistry.sol";
import {Authority} from "../../contracts/Authority.sol";
import {CommitteeAttestor} from "../../contracts/CommitteeAttestor.sol";
import {LicenseRegistry} from "../../contracts/LicenseRegistry.sol";
import {OperatorRegistry} from "../../contracts/OperatorRegistry.sol";
import {PerformanceStaking} from "../../contracts/PerformanceStaking.sol";
import {UsageEscrow} from "../../contracts/UsageEscrow.sol";
import {IAttestor} from "../../contracts/interfaces/IAttestor.sol";
import {ICommitteeAttestor} from "../../contracts/interfaces/ICommitteeAttestor.sol";
import {PlanTerms, Rates, ServiceLevels} from "../../contracts/interfaces/ILicenseRegistry.sol";
import {BatchHeader} from "../../contracts/interfaces/IUsageEscrow.sol";
import {TestCurrency} from "../../contracts/mocks/TestCurrency.sol";
import {AssetId, OperatorId, PlanId, VersionId} from "../../contracts/types/Ids.sol";
import {Model, Usage} from "./Model.sol";
import {VM} from "./Vm.sol";

/// @title A whole market, wired as `deploy/modules/Licet.ts` wires one
/// @dev One model in two versions, three plans of it, two operators, two committees (two of three; one of one).
abstract contract Market {
    uint64 internal constant GUARDIAN_ROLE = 1;
    uint64 internal constant GOVERNOR_ROLE = 2;
    uint64 internal constant ESCROW_ROLE = 3;
    uint64 internal constant SLASHER_ROLE = 4;

    uint256 internal constant EPOCH = 1 days;
    uint256 internal constant WINDOW = 2 days;
    uint256 internal constant STAKE_THAW = 32 days;
    uint32 internal constant GOVERNANCE_DELAY = 2 days;
    uint256 internal constant USD = 1e6;

    uint256 internal constant PLANS = 3;
    uint256 internal constant OPERATORS = 2;
    uint256 internal constant VERSIONS = 2;

    address internal constant GOVERNOR = address(0xA001);
    address internal constant GUARDIAN = address(0xA002);
    address internal constant TREASURY = address(0xA003);
    address internal constant SLASHER = address(0xA004);
    address internal constant BENEFICIARY = address(0xA005);
    address internal constant OUTSIDER = address(0xA006);
    address internal constant DONOR = address(0xA007);
    address internal constant DEPUTY = address(0xA008);

    TestCurrency internal currency;
    Authority internal authority;
    AssetRegistry internal assets;
    LicenseRegistry internal licenses;
    OperatorRegistry internal operators;
    PerformanceStaking internal staking;
    UsageEscrow internal escrow;
    /// @dev The attestor of plans 1 and 2.
    CommitteeAttestor internal committee;
    /// @dev The attestor of plan 3.
    CommitteeAttestor internal lone;

    address[] internal licensees;
    uint256[] internal licenseeKeys;
    /// @dev Owners of operators 1 and 2.
    address[] internal operatorOwners;
    /// @dev They sell the model to each other.
    address[] internal publishers;
    /// @dev Of `committee`, in its order; the last key is the one of `lone`.
    uint256[] internal attestorKeys;
    address[] internal attestorPayees;

    /// @dev Of plan `i + 1`.
    PlanTerms[] internal plans;

    /// @dev The chain's time. Not `block.timestamp`, which the compiler may read once for a whole call.
    uint256 internal clock = 1_780_000_000;

    constructor() {
        VM.warp(clock);
        _name();
        _deploy();
        _seal();
        _offer();
    }

    function _name() private {
        for (uint256 i = 1; i <= 3; ++i) {
            licenseeKeys.push(0x11CE << (8 * i));
            licensees.push(VM.addr(0x11CE << (8 * i)));
        }
        for (uint256 i = 1; i <= 4; ++i) {
            attestorKeys.push(0xA77E << (8 * i));
            attestorPayees.push(address(uint160(0xB000 + i)));
        }
        for (uint256 i = 1; i <= 2; ++i) {
            operatorOwners.push(address(uint160(0xC000 + i)));
            publishers.push(address(uint160(0xD000 + i)));
        }
    }

    function _deploy() private {
        currency = new TestCurrency();
        authority = new Authority(address(this));
        assets = new AssetRegistry();
        licenses = new LicenseRegistry(address(authority), assets);
        operators = new OperatorRegistry();
        staking = new PerformanceStaking(address(authority), currency, operators, TREASURY, STAKE_THAW);
        escrow = new UsageEscrow(
            UsageEscrow.Deployment({
                authority: address(authority),
                currency: currency,
                licenses: licenses,
                operators: operators,
                staking: staking,
                treasury: TREASURY,
                epochPeriod: EPOCH,
                windowPeriod: WINDOW,
                feeBps: 100,
                depositCeiling: uint64(1_000 * USD)
            })
        );

        ICommitteeAttestor.Member[] memory members = new ICommitteeAttestor.Member[](3);
        for (uint256 i; i < 3; ++i) members[i] = _member(i);
        committee = new CommitteeAttestor(escrow, members, 2);
        members = new ICommitteeAttestor.Member[](1);
        members[0] = _member(3);
        lone = new CommitteeAttestor(escrow, members, 1);
    }

    function _seal() private {
        _restrict(address(escrow), GOVERNOR_ROLE, escrow.setFee.selector, escrow.raiseDepositCeiling.selector);
        _restrict(address(escrow), GUARDIAN_ROLE, escrow.pause.selector, escrow.unpause.selector);
        _restrict(address(licenses), ESCROW_ROLE, licenses.mint.selector, licenses.setMovable.selector);
        _restrict(address(staking), ESCROW_ROLE, staking.charge.selector, staking.release.selector);
        _restrict(address(staking), ESCROW_ROLE, staking.addBonus.selector, staking.addBonus.selector);
        _restrict(address(staking), SLASHER_ROLE, staking.slash.selector, staking.slash.selector);
        authority.grantRole(ESCROW_ROLE, address(escrow), 0);
        authority.grantRole(SLASHER_ROLE, SLASHER, 0);
        authority.grantRole(GUARDIAN_ROLE, GUARDIAN, 0);
        authority.grantRole(GOVERNOR_ROLE, GOVERNOR, GOVERNANCE_DELAY);
        authority.setRoleAdmin(GUARDIAN_ROLE, GOVERNOR_ROLE);
        authority.renounceRole(authority.ADMIN_ROLE(), address(this));
    }

    function _offer() private {
        VM.prank(publishers[0]);
        assets.register("ipfs://model");
        for (uint256 i = 1; i <= VERSIONS; ++i) {
            VM.prank(publishers[0]);
            assets.publish(AssetId.wrap(1), bytes32(i), 0, "ipfs://version");
        }
        for (uint256 i; i < OPERATORS; ++i) {
            VM.prank(operatorOwners[i]);
            operators.register("https://operator", "");
        }

        // Renews, has no cap of its own, and an uneven split.
        PlanTerms memory terms = _terms(committee, 2 days, true, 0);
        terms.holdPeriod = 3 days;
        (terms.publisherBps, terms.attestorBps) = (3_033, 217);
        _create(terms);
        // Renews every day under a cap; its severest discount is all that the operator has.
        terms = _terms(committee, 1 days, true, 15 * uint56(USD));
        terms.holdPeriod = 1 hours;
        (terms.publisherBps, terms.attestorBps) = (6_000, 500);
        _create(terms);
        // Ends for good after half a year; its attestor is another one.
        terms = _terms(lone, 180 days, false, 60 * uint56(USD));
        terms.holdPeriod = 30 days;
        (terms.publisherBps, terms.attestorBps) = (1_000, 1_111);
        _create(terms);
    }

    /// @dev 100 USD a million requests, 1, 0.25 and 3 USD a million tokens, 0.05 USD a thousand seconds.
    function _terms(
        IAttestor attestor,
        uint32 termPeriod,
        bool renewable,
        uint56 cap
    ) private pure returns (PlanTerms memory terms) {
        terms.assetId = AssetId.wrap(1);
        terms.attestor = attestor;
        terms.rates = Rates(100e6, 1e6, 250_000, 3e6, 50_000);
        terms.levels = ServiceLevels(9_900, 1_001, 9_000, 2_999, 800, 500, 3_000, 3_000);
        terms.termPeriod = termPeriod;
        terms.renewable = renewable;
        terms.cap = cap;
    }

    function _create(PlanTerms memory terms) private {
        plans.push(terms);
        VM.prank(publishers[0]);
        PlanId id = licenses.createPlan(terms);
        for (uint256 i = 1; i <= OPERATORS; ++i) _serve(i, id, true);
    }

    function _member(uint256 i) private view returns (ICommitteeAttestor.Member memory) {
        return ICommitteeAttestor.Member(abi.encodePacked(VM.addr(attestorKeys[i])), attestorPayees[i]);
    }

    function _restrict(address target, uint64 role, bytes4 first, bytes4 second) private {
        bytes4[] memory selectors = new bytes4[](2);
        (selectors[0], selectors[1]) = (first, second);
        authority.setTargetFunctionRole(target, selectors, role);
    }

    /// @dev Lets `time` pass.
    function _pass(uint256 time) internal {
        clock += time;
        VM.warp(clock);
    }

    function _serve(uint256 operator, PlanId plan, bool served) internal {
        VM.prank(operatorOwners[operator - 1]);
        operators.setServed(OperatorId.wrap(uint24(operator)), plan, served);
    }

    /// @dev The next batch of operator 1, of version 1 and of one license's use in an epoch until `end`.
    function _batchOf(
        PlanId plan,
        Usage memory usage,
        uint256 start,
        uint256 end
    ) internal view returns (BatchHeader memory header, bytes memory entries) {
        entries = Model.packed(usage);
        header.operatorId = OperatorId.wrap(1);
        header.planId = plan;
        header.versionId = VersionId.wrap((1 << 32) | 1);
        header.sequence = escrow.laneOf(header.operatorId, plan, header.versionId).sequence + 1;
        (header.epochStart, header.epochEnd) = (uint40(start), uint40(end));
        (header.count, header.availabilityBps, header.samples) = (1, 10_000, 60);
        (header.requests, header.inputTokens) = (uint64(usage.requests), uint64(usage.inputTokens));
        header.cachedInputTokens = uint64(usage.cachedInputTokens);
        (header.outputTokens, header.computeMs) = (uint64(usage.outputTokens), uint64(usage.computeMs));
        header.entriesHash = keccak256(entries);
    }

    /// @dev The proof by `lone`.
    function _loneProof(bytes32 digest) internal view returns (bytes memory) {
        bytes[] memory signers = new bytes[](1);
        bytes[] memory signatures = new bytes[](1);
        signers[0] = abi.encodePacked(VM.addr(attestorKeys[3]));
        (uint8 v, bytes32 r, bytes32 s) = VM.sign(attestorKeys[3], digest);
        signatures[0] = abi.encodePacked(r, s, v);
        return abi.encode(signers, signatures);
    }

    /// @dev The governor does `act` to `target`, after its delay.
    function _govern(address target, bytes memory act) internal {
        VM.prank(GOVERNOR);
        authority.schedule(target, act, 0);
        _pass(GOVERNANCE_DELAY);
        VM.prank(GOVERNOR);
        authority.execute(target, act);
    }

    function _mint(address to, uint256 amount, address spender) internal {
        currency.mint(to, amount);
        VM.prank(to);
        currency.approve(spender, amount);
    }
}
