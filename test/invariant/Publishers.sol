// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {PlanStatus} from "../../contracts/interfaces/ILicenseRegistry.sol";
import {OperatorId, PlanId} from "../../contracts/types/Ids.sol";
import {Count} from "./Ledger.sol";
import {Licensees} from "./Licensees.sol";
import {Machine, Verb} from "./Statuses.sol";

/// @title Versions and plans: published, recalled, offered, closed, and served
abstract contract Publishers is Licensees {
    uint256 private constant MOST_RECALLS = 6;
    uint256 private constant MOST_PLANS = 8;

    /// @dev One version is mostly left that may be used, or a new one takes its place.
    function recall(uint256 seed) external attempt(seed) {
        uint256 version = _anyVersion(1);
        if (recalls.length == MOST_RECALLS || _draw(3) != 0) return _recallOrPublish(version, recalledAt.length < 4);
        _recallOrPublish(version, false);
    }

    /// @dev Another one with the same terms takes its place.
    function closePlan(uint256 seed) external attempt(seed) {
        uint256 plan = _anyPlan();
        if (_planStatus(plan) == PlanStatus.Closed || plans.length == MOST_PLANS || _draw(3) == 0)
            return _settle(_draft(false));
        bytes memory call = abi.encodeCall(licenses.closePlan, (PlanId.wrap(uint32(plan))));
        _watch(Machine.Plan, plan);
        _mustLand(assets.ownerOf(_assetOf(plan)), address(licenses), call, "9: the end of a plan's sales");
        sales[plan].closed = true;
        _see(Machine.Plan, plan, Verb.ClosePlan);
        _create(plans[plan - 1]);
        _see(Machine.Plan, plans.length, Verb.CreatePlan);
    }

    /// @dev Whoever owns an asset when its pot is distributed is paid.
    function sellAsset(uint256 seed) external attempt(seed) {
        uint256 asset = 1 + _draw(assetCount);
        address owner = assets.ownerOf(asset);
        bytes memory call = abi.encodeCall(assets.transferFrom, (owner, publishers[_draw(publishers.length)], asset));
        _mustLand(owner, address(assets), call, "7: an asset's sale");
    }

    /// @dev Mostly for it: who isn't served any more stays a licensee.
    function serve(uint256 seed) external attempt(seed) {
        uint256 operator = _anyOperator();
        PlanId plan = PlanId.wrap(uint32(_anyPlan()));
        bool isServed = _draw(6) != 0;
        bytes memory call = abi.encodeCall(operators.setServed, (OperatorId.wrap(uint24(operator)), plan, isServed));
        _mustLand(operatorOwners[operator - 1], address(operators), call, "2: a word on who is served");
        refused[operator][PlanId.unwrap(plan)] = !isServed;
    }

    function _recallOrPublish(uint256 version, bool publishes) private {
        if (publishes || recalledAt[version - 1] != 0) {
            _publish(MODEL, recalledAt.length + 1);
            recalledAt.push();
            _see(Machine.Version, recalledAt.length, Verb.Publish);
            return _settle(_draft(false));
        }
        _watch(Machine.Version, version);
        bytes memory call = abi.encodeCall(assets.recall, (_versionId(MODEL, version)));
        _mustLand(assets.ownerOf(MODEL), address(assets), call, "9: a recall");
        recalledAt[version - 1] = clock;
        recalls.push(clock);
        _see(Machine.Version, version, Verb.Recall);
        _count(Count.Recalls);
    }
}
