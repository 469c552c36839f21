// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {IAccessManaged} from "@openzeppelin/contracts/access/manager/IAccessManaged.sol";
import {IAccessManager} from "@openzeppelin/contracts/access/manager/IAccessManager.sol";
import {TimelockController} from "@openzeppelin/contracts/governance/TimelockController.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {Address} from "@openzeppelin/contracts/utils/Address.sol";
import {AssetKind, DerivativePolicy, IAssetRegistry, Relation} from "../../contracts/interfaces/IAssetRegistry.sol";
import {IAttestor} from "../../contracts/interfaces/IAttestor.sol";
import {ICommitteeAttestor} from "../../contracts/interfaces/ICommitteeAttestor.sol";
import {IDisputeCourt} from "../../contracts/interfaces/IDisputeCourt.sol";
import {ILicenseRegistry, PlanTerms, Rates, ServiceLevels} from "../../contracts/interfaces/ILicenseRegistry.sol";
import {IOperatorRegistry} from "../../contracts/interfaces/IOperatorRegistry.sol";
import {IPerformanceStaking} from "../../contracts/interfaces/IPerformanceStaking.sol";
import {IReportCourt} from "../../contracts/interfaces/IReportCourt.sol";
import {IRevenueWaterfall} from "../../contracts/interfaces/IRevenueWaterfall.sol";
import {BatchHeader, IUsageEscrow, Purchase} from "../../contracts/interfaces/IUsageEscrow.sol";
import {CentralArbitrator} from "../../contracts/mocks/CentralArbitrator.sol";
import {VerifierOfOneProof} from "../../contracts/mocks/VerifierOfOneProof.sol";
import {AssetId, OperatorId, PlanId, VersionId} from "../../contracts/types/Ids.sol";
import {HostileCurrency, Reenterer} from "./Hostile.sol";
import {Model, Usage} from "./Model.sol";
import {VM} from "./Vm.sol";

/// @dev What of a market may be looked at from without.
struct Parts {
    IERC20 currency;
    IAssetRegistry assets;
    ILicenseRegistry licenses;
    IPerformanceStaking staking;
    IUsageEscrow escrow;
    ICommitteeAttestor committee;
    IDisputeCourt court;
    IReportCourt reports;
}

/// @title A whole market, wired as `deploy/modules/Licet.ts` wires one
/// @dev A dataset, a base model trained on it, the market's model that came from both, in two versions, and an adapter of that.
/// Five plans of the model and one of the adapter, two operators, two committees (by weight: two of three; one of one), both courts
/// and an arbitrator.
abstract contract Market {
    uint64 internal constant ADMIN_ROLE = 0;
    uint64 internal constant GUARDIAN_ROLE = 1;
    uint64 internal constant GOVERNOR_ROLE = 2;
    uint64 internal constant ESCROW_ROLE = 3;
    uint64 internal constant SLASHER_ROLE = 4;
    uint64 internal constant COURT_ROLE = 5;

    uint256 internal constant EPOCH = Model.EPOCH;
    uint256 internal constant WINDOW = Model.WINDOW;
    uint256 internal constant WAIT = Model.WAIT;
    uint256 internal constant STAKE_THAW = 32 days;
    uint256 internal constant GOVERNANCE_DELAY = 2 days;
    uint256 internal constant USD = 1e6;

    uint256 internal constant OPERATORS = 2;
    uint256 internal constant FIRST_PLANS = 6;
    /// @dev The model that most plans are for; 1 and 2 are its parents.
    uint256 internal constant MODEL = 3;
    /// @dev A child of the model's, with a plan of its own.
    uint256 internal constant ADAPTER = 4;
    uint256 internal constant FIRST_VERSIONS = 2;
    uint256 internal constant ATTESTORS = 8;
    /// @dev That may sign vouchers: ECDSA keys, and the last a P-256 key.
    uint256 internal constant KEYS = 3;
    uint256 internal constant P256_KEY = 0xB256;
    uint256 internal constant FIRST_VOUCHER_KEY = 0x5EC2E7;
    /// @dev For each unit of an attestor's weight.
    uint256 internal constant BOND = 10 * USD;
    /// @dev How long each side of a challenge has for its turn.
    uint256 internal constant TURN = 2 days;
    /// @dev The least bond of a challenge, and the least reward of a report: what a charge of half a dollar takes.
    uint256 internal constant LEAST_PENALTY = USD / 20;

    address internal constant PROPOSER = address(0xA001);
    address internal constant GUARDIAN = address(0xA002);
    address internal constant TREASURY = address(0xA003);
    address internal constant SLASHER = address(0xA004);
    address internal constant BENEFICIARY = address(0xA005);
    address internal constant OUTSIDER = address(0xA006);
    address internal constant DONOR = address(0xA007);
    address internal constant DEPUTY = address(0xA008);
    address internal constant THIEF = address(0xA009);
    address internal constant BROKER = address(0xA00A);

    struct Deployment {
        address authority;
        address currency;
        address licenses;
        address operators;
        address staking;
        address waterfall;
        address treasury;
        uint256 epochPeriod;
        uint256 windowPeriod;
        uint16 feeBps;
        uint64 depositCeiling;
    }

    HostileCurrency internal currency;
    IAccessManager internal authority;
    TimelockController internal timelock;
    IAssetRegistry internal assets;
    ILicenseRegistry internal licenses;
    IOperatorRegistry internal operators;
    IPerformanceStaking internal staking;
    IRevenueWaterfall internal waterfall;
    IUsageEscrow internal escrow;
    IReportCourt internal reports;
    IDisputeCourt internal court;
    /// @dev Rules under the plans that `committee` attests.
    CentralArbitrator internal arbitrator;
    /// @dev Of the model's versions with an even number.
    VerifierOfOneProof internal verifier;
    /// @dev The attestor of plans 1, 2, 4 and 6. Its committee changes.
    ICommitteeAttestor internal committee;
    /// @dev The attestor of plans 3 and 5: one attestor for ever.
    ICommitteeAttestor internal lone;

    /// @dev The last is `reenterer`, which has no key.
    address[] internal licensees;
    uint256[] internal licenseeKeys;
    Reenterer internal immutable reenterer;
    /// @dev Owners of operators 1 and 2.
    address[] internal operatorOwners;
    /// @dev The first keys that sign for operators 1 and 2.
    address[] internal operatorSigners;
    /// @dev Who may have stake: those, and those who delegate.
    address[] internal backers;
    /// @dev They register assets and sell them to each other; the first is the model's, and the adapter's, at first.
    address[] internal publishers;
    uint256[] internal publisherKeys;
    /// @dev The first three are the first members of `committee`; the fourth is `lone`; the others may follow those.
    address[] internal attestors;
    uint256[] internal attestorKeys;
    address[] internal attestorPayees;

    /// @dev Of plan `i + 1`.
    PlanTerms[] internal plans;
    /// @dev Whose licenses under a private plan are; zero is everybody.
    mapping(uint256 plan => address) internal buyerOf;
    uint256 internal assetCount;
    /// @dev As they were registered.
    mapping(uint256 asset => IAssetRegistry.Edge[]) internal parentsOf;

    /// @dev The chain's time. Not `block.timestamp`, which the compiler may read once for a whole call.
    uint256 internal clock = 1_780_000_000;

    constructor() {
        VM.warp(clock);
        reenterer = Reenterer(VM.deployCode("Hostile.sol:Reenterer"));
        _name();
        licensees.push(address(reenterer));
        backers.push(address(reenterer));
        _deploy();
        _seal();
        _offer();
    }

    function _name() private {
        for (uint256 i = 1; i <= 3; ++i) {
            licenseeKeys.push(0x11CE << (8 * i));
            licensees.push(VM.addr(0x11CE << (8 * i)));
        }
        for (uint256 i = 1; i <= ATTESTORS; ++i) {
            attestorKeys.push(0xA77E << (8 * i));
            attestors.push(VM.addr(0xA77E << (8 * i)));
            attestorPayees.push(address(uint160(0xB000 + i)));
        }
        for (uint256 i = 1; i <= 2; ++i) {
            operatorOwners.push(address(uint160(0xC000 + i)));
            operatorSigners.push(VM.addr(_receiptKey(i, 0)));
        }
        for (uint256 i; i < OPERATORS; ++i) backers.push(operatorOwners[i]);
        for (uint256 i = 1; i <= 3; ++i) backers.push(address(uint160(0xF000 + i)));
        for (uint256 i = 1; i <= 3; ++i) {
            publisherKeys.push(0xD0 << (8 * i));
            publishers.push(VM.addr(0xD0 << (8 * i)));
        }
    }

    function _deploy() private {
        currency = HostileCurrency(VM.deployCode("Hostile.sol:HostileCurrency"));
        authority = IAccessManager(VM.deployCode("Authority.sol:Authority", abi.encode(address(this))));
        timelock = TimelockController(
            payable(VM.deployCode("Timelock.sol:Timelock", abi.encode(GOVERNANCE_DELAY, PROPOSER)))
        );
        assets = IAssetRegistry(VM.deployCode("AssetRegistry.sol:AssetRegistry"));
        licenses = ILicenseRegistry(
            VM.deployCode("LicenseRegistry.sol:LicenseRegistry", abi.encode(authority, assets))
        );
        operators = IOperatorRegistry(VM.deployCode("OperatorRegistry.sol:OperatorRegistry"));
        staking = IPerformanceStaking(
            VM.deployCode(
                "PerformanceStaking.sol:PerformanceStaking",
                abi.encode(authority, currency, operators, TREASURY, STAKE_THAW)
            )
        );
        waterfall = IRevenueWaterfall(
            VM.deployCode("RevenueWaterfall.sol:RevenueWaterfall", abi.encode(authority, currency, assets))
        );
        escrow = IUsageEscrow(VM.deployCode("UsageEscrow.sol:UsageEscrow", abi.encode(_deployment())));
        _deployCourts();

        ICommitteeAttestor.Member[] memory members = new ICommitteeAttestor.Member[](3);
        for (uint256 i; i < 3; ++i) members[i] = _member(i, i == 0 ? 2 : 1);
        committee = _committee(members, 3);
        members = new ICommitteeAttestor.Member[](1);
        members[0] = _member(3, 1);
        lone = _committee(members, 1);
        for (uint256 i; i < 3; ++i) _bond(committee, i, i == 0 ? 2 : 1);
        _bond(lone, 3, 1);
    }

    function _deployCourts() private {
        reports = IReportCourt(VM.deployCode("ReportCourt.sol:ReportCourt", abi.encode(escrow, LEAST_PENALTY)));
        bytes memory arguments = abi.encode(reports, TURN, LEAST_PENALTY, "ipfs://disputes");
        court = IDisputeCourt(VM.deployCode("DisputeCourt.sol:DisputeCourt", arguments));
        arbitrator = new CentralArbitrator();
        verifier = new VerifierOfOneProof();
    }

    function _bond(ICommitteeAttestor attestor, uint256 i, uint256 weight) private {
        _mint(attestorPayees[i], weight * BOND, address(attestor));
        VM.prank(attestorPayees[i]);
        attestor.postBond(_signer(i), uint16(weight));
    }

    /// @dev UsageEscrow's constructor names the fields.
    function _deployment() private view returns (Deployment memory) {
        return
            Deployment({
                authority: address(authority),
                currency: address(currency),
                licenses: address(licenses),
                operators: address(operators),
                staking: address(staking),
                waterfall: address(waterfall),
                treasury: TREASURY,
                epochPeriod: EPOCH,
                windowPeriod: WINDOW,
                feeBps: 100,
                depositCeiling: uint64(1_000 * USD)
            });
    }

    function _committee(
        ICommitteeAttestor.Member[] memory members,
        uint64 threshold
    ) private returns (ICommitteeAttestor) {
        bytes memory arguments = abi.encode(escrow, BOND, members, threshold);
        return ICommitteeAttestor(VM.deployCode("CommitteeAttestor.sol:CommitteeAttestor", arguments));
    }

    function _seal() private {
        _restrict(address(escrow), GOVERNOR_ROLE, escrow.setFee.selector, escrow.raiseDepositCeiling.selector);
        _restrict(address(escrow), GUARDIAN_ROLE, escrow.pause.selector, escrow.unpause.selector);
        _restrict(address(escrow), COURT_ROLE, escrow.freezeCharge.selector, escrow.refundCharge.selector);
        _restrict(address(escrow), COURT_ROLE, escrow.releaseCharge.selector, escrow.releaseCharge.selector);
        _restrict(address(licenses), ESCROW_ROLE, licenses.mint.selector, licenses.setMovable.selector);
        _restrict(address(licenses), ESCROW_ROLE, licenses.changePlan.selector, licenses.changePlan.selector);
        _restrict(address(staking), ESCROW_ROLE, staking.charge.selector, staking.release.selector);
        _restrict(address(staking), ESCROW_ROLE, staking.addIncome.selector, staking.addIncome.selector);
        _restrict(address(staking), SLASHER_ROLE, staking.slash.selector, staking.slash.selector);
        _restrict(address(staking), SLASHER_ROLE, staking.freeze.selector, staking.unfreeze.selector);
        _restrict(address(waterfall), ESCROW_ROLE, waterfall.credit.selector, waterfall.credit.selector);
        authority.grantRole(ESCROW_ROLE, address(escrow), 0);
        // Courts slash as much as a breach costs; whoever has their role may slash anything.
        authority.grantRole(SLASHER_ROLE, SLASHER, 0);
        authority.grantRole(SLASHER_ROLE, address(reports), 0);
        authority.grantRole(SLASHER_ROLE, address(court), 0);
        authority.grantRole(COURT_ROLE, address(reports), 0);
        authority.grantRole(COURT_ROLE, address(court), 0);
        authority.grantRole(GUARDIAN_ROLE, GUARDIAN, 0);
        authority.grantRole(GOVERNOR_ROLE, address(timelock), 0);
        authority.setRoleAdmin(GUARDIAN_ROLE, GOVERNOR_ROLE);
        authority.renounceRole(ADMIN_ROLE, address(this));
    }

    function _offer() private {
        _derive();
        for (uint256 i = 1; i <= FIRST_VERSIONS; ++i) _publish(MODEL, i);
        for (uint256 i = 1; i <= assetCount; ++i) {
            if (i != MODEL) _publish(i, 1);
        }
        for (uint256 i; i < OPERATORS; ++i) {
            VM.prank(operatorOwners[i]);
            operators.register("https://operator", "");
            VM.prank(operatorOwners[i]);
            operators.addKey(_operatorId(i + 1), operatorSigners[i], type(uint40).max);
        }

        // Renews, has no cap of its own, an uneven split, and may be sold.
        PlanTerms memory terms = _terms(committee, 4 days, true, 0);
        (terms.holdPeriod, terms.transferable) = (3 days, true);
        (terms.publisherBps, terms.attestorBps) = (3_033, 217);
        _create(terms);
        // Renews every day under a cap; its severest discount is all that the operator has.
        terms = _terms(committee, 1 days, true, 15 * uint56(USD));
        terms.holdPeriod = 1 hours;
        (terms.publisherBps, terms.attestorBps) = (6_000, 500);
        _create(terms);
        // Ends for good after three weeks; its attestor is another one, its hold the longest.
        terms = _terms(lone, 21 days, false, 60 * uint56(USD));
        terms.holdPeriod = 30 days;
        (terms.publisherBps, terms.attestorBps) = (1_000, 1_111);
        _create(terms);
        // A subscription with a price at its door, which may be sold.
        terms = _terms(committee, 10 days, true, 40 * uint56(USD));
        (terms.holdPeriod, terms.upfrontPrice, terms.minimumSpend) = (5 days, uint56(3 * USD + 1), uint56(5 * USD));
        (terms.publisherBps, terms.attestorBps, terms.transferable) = (4_000, 333, true);
        _create(terms);
        // A minimum once, for a few.
        terms = _terms(lone, 4 days, false, 0);
        (terms.holdPeriod, terms.minimumSpend, terms.supply) = (1 days, uint56(4 * USD), 8);
        (terms.publisherBps, terms.attestorBps, terms.transferable) = (2_500, 100, true);
        _create(terms);
        // The adapter's.
        terms = _terms(committee, 7 days, true, 30 * uint56(USD));
        (terms.assetId, terms.holdPeriod) = (AssetId.wrap(uint32(ADAPTER)), 2 days);
        (terms.publisherBps, terms.attestorBps) = (5_501, 77);
        _create(terms);
    }

    /// @dev Uneven shares, two ways to the dataset, and room for payees.
    function _derive() private {
        IAssetRegistry.Edge[] memory parents = new IAssetRegistry.Edge[](0);
        _register(publishers[1], AssetKind.Dataset, 300, parents);
        parents = new IAssetRegistry.Edge[](1);
        parents[0] = IAssetRegistry.Edge(AssetId.wrap(1), Relation.TrainedOn, 1_001);
        _register(publishers[2], AssetKind.Model, 1_000, parents);
        parents = new IAssetRegistry.Edge[](2);
        parents[0] = IAssetRegistry.Edge(AssetId.wrap(1), Relation.TrainedOn, 505);
        parents[1] = IAssetRegistry.Edge(AssetId.wrap(2), Relation.FineTunedFrom, 2_003);
        _register(publishers[0], AssetKind.Model, 700, parents);
        parents = new IAssetRegistry.Edge[](1);
        parents[0] = IAssetRegistry.Edge(AssetId.wrap(uint32(MODEL)), Relation.AdapterOf, 1_507);
        _register(publishers[0], AssetKind.Adapter, 10_000, parents);
    }

    /// @dev 100 USD a million requests, 1, 0.25 and 3 USD a million tokens, 0.05 USD a thousand seconds.
    function _terms(
        IAttestor attestor,
        uint32 termPeriod,
        bool renewable,
        uint56 cap
    ) private view returns (PlanTerms memory terms) {
        terms.assetId = AssetId.wrap(uint32(MODEL));
        terms.attestor = attestor;
        if (address(attestor) == address(committee)) terms.arbitrator = address(arbitrator);
        terms.rates = Rates(100e6, 1e6, 250_000, 3e6, 50_000);
        terms.levels = ServiceLevels(9_900, 1_001, 9_000, 2_999, 800, 500, 3_000, 3_000);
        terms.termPeriod = termPeriod;
        terms.renewable = renewable;
        terms.cap = cap;
    }

    /// @dev An asset that others may derive from for `minShareBps` of their income.
    function _register(
        address owner,
        AssetKind kind,
        uint16 minShareBps,
        IAssetRegistry.Edge[] memory parents
    ) private {
        IAssetRegistry.Registration memory registration = IAssetRegistry.Registration({
            kind: kind,
            uri: "ipfs://asset",
            permittedUses: 7,
            policy: DerivativePolicy.Open,
            minShareBps: minShareBps,
            royaltyBps: 250,
            parents: parents
        });
        VM.prank(owner);
        assets.register(registration, new IAssetRegistry.DerivationApproval[](parents.length));
        _noteParents(parents);
    }

    /// @dev Of an asset that was just registered.
    function _noteParents(IAssetRegistry.Edge[] memory parents) internal {
        ++assetCount;
        for (uint256 i; i < parents.length; ++i) parentsOf[assetCount].push(parents[i]);
    }

    /// @dev An asset's owner publishes its next version. Its number is the hash of its manifest, and of its weights where its
    /// inference can be proven.
    function _publish(uint256 asset, uint256 version) internal {
        bool isProvable = _isProvable(asset, version);
        bytes memory call = abi.encodeCall(
            assets.publish,
            (
                AssetId.wrap(uint32(asset)),
                bytes32(version),
                isProvable ? bytes32(version) : bytes32(0),
                isProvable ? address(verifier) : address(0),
                "ipfs://version",
                ""
            )
        );
        _act(assets.ownerOf(asset), address(assets), call);
    }

    /// @dev An asset's owner offers a plan, and all operators serve it.
    function _create(PlanTerms memory terms) internal {
        plans.push(terms);
        address owner = assets.ownerOf(AssetId.unwrap(terms.assetId));
        bytes memory result = _act(owner, address(licenses), abi.encodeCall(licenses.createPlan, (terms)));
        _serveAll(abi.decode(result, (PlanId)));
    }

    /// @dev All operators serve a plan.
    function _serveAll(PlanId plan) internal {
        for (uint256 i = 1; i <= OPERATORS; ++i) _serve(i, plan, true);
    }

    function _isProvable(uint256 asset, uint256 version) internal pure returns (bool) {
        return asset == MODEL && version % 2 == 0;
    }

    /// @dev What one of an operator's keys signs with, by its number.
    function _receiptKey(uint256 operator, uint256 key) internal pure returns (uint256) {
        return 0xC10000 + (operator << 8) + key;
    }

    function _operatorId(uint256 operator) internal pure returns (OperatorId) {
        return OperatorId.wrap(uint24(operator));
    }

    /// @dev What a plan is for.
    function _assetOf(uint256 plan) internal view returns (uint256) {
        return AssetId.unwrap(plans[plan - 1].assetId);
    }

    function _member(uint256 i, uint256 weight) internal view returns (ICommitteeAttestor.Member memory) {
        return ICommitteeAttestor.Member(_signer(i), uint16(weight), attestorPayees[i]);
    }

    /// @dev An attestor as an ERC-7913 signer.
    function _signer(uint256 i) internal view returns (bytes memory) {
        return abi.encodePacked(attestors[i]);
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
        header.versionId = VersionId.wrap(uint64((MODEL << 32) | 1));
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
        signers[0] = _signer(3);
        (uint8 v, bytes32 r, bytes32 s) = VM.sign(attestorKeys[3], digest);
        signatures[0] = abi.encodePacked(r, s, v);
        return abi.encode(signers, signatures);
    }

    /// @dev Governance does `act` to `target`, after its delay.
    function _govern(address target, bytes memory act) internal {
        bytes32 salt = bytes32(clock);
        _schedule(target, act, salt);
        _pass(timelock.getMinDelay());
        timelock.execute(target, 0, act, 0, salt);
    }

    function _schedule(address target, bytes memory act, bytes32 salt) internal {
        uint256 delay = timelock.getMinDelay();
        _act(PROPOSER, address(timelock), abi.encodeCall(timelock.schedule, (target, 0, act, 0, salt, delay)));
    }

    function _mustRefuse(
        address sender,
        address target,
        bytes memory call,
        bytes memory refusal,
        string memory rule
    ) internal {
        VM.prank(sender);
        (bool landed, bytes memory reason) = target.call(call);
        _heed(target, call, landed);
        require(!landed && keccak256(reason) == keccak256(refusal), rule);
    }

    /// @dev A call that must land. It bubbles up why it didn't.
    function _act(address sender, address target, bytes memory call) internal returns (bytes memory) {
        VM.prank(sender);
        (bool landed, bytes memory result) = target.call(call);
        _heed(target, call, landed);
        return Address.verifyCallResult(landed, result);
    }

    /// @dev Hears of every call to a contract, and whether it landed.
    function _heed(address target, bytes memory call, bool landed) internal virtual {}

    /// @dev A purchase for whatever it costs.
    function _purchase(
        PlanId plan,
        uint256 operator,
        address to,
        uint8 capCode,
        uint256 amount
    ) internal pure returns (Purchase memory) {
        return
            Purchase({
                planId: plan,
                operatorId: OperatorId.wrap(uint24(operator)),
                to: to,
                capCode: capCode,
                amount: uint64(amount),
                maxPrice: type(uint64).max,
                deadline: type(uint40).max
            });
    }

    function _mint(address to, uint256 amount, address spender) internal {
        currency.mint(to, amount);
        VM.prank(to);
        currency.approve(spender, amount);
    }
}
