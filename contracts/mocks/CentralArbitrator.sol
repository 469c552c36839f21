// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {IArbitrable, IArbitrator} from "../interfaces/IArbitrator.sol";

/// @title An arbitrator whose owner rules: for tests, and for people who agree on a person
/// @notice As ERC-792 has it: a ruling can be appealed for APPEAL_PERIOD, by who pays `fee` for it, and is final then.
contract CentralArbitrator is IArbitrator {
    struct Case {
        IArbitrable arbitrable;
        uint256 choices;
        uint256 ruling;
        uint256 ruledAt;
        DisputeStatus status;
    }

    uint256 public constant APPEAL_PERIOD = 2 days;

    address public immutable OWNER = msg.sender;
    /// @notice What a dispute or an appeal costs, in wei.
    uint256 public fee = 0.1 ether;
    Case[] public cases;

    error NotOwner();
    error FeeTooLow(uint256 paid, uint256 cost);
    error NotWaiting(uint256 disputeId);
    error NotAppealable(uint256 disputeId);

    function setFee(uint256 fee_) external {
        require(msg.sender == OWNER, NotOwner());
        fee = fee_;
    }

    /// @inheritdoc IArbitrator
    function createDispute(uint256 choices, bytes calldata) external payable returns (uint256 disputeId) {
        require(msg.value >= fee, FeeTooLow(msg.value, fee));
        disputeId = cases.length;
        cases.push(Case(IArbitrable(msg.sender), choices, 0, 0, DisputeStatus.Waiting));
        emit DisputeCreation(disputeId, IArbitrable(msg.sender));
    }

    /// @notice Gives a ruling that can be appealed.
    function giveRuling(uint256 disputeId, uint256 ruling) external {
        require(msg.sender == OWNER, NotOwner());
        Case storage found = cases[disputeId];
        require(found.status == DisputeStatus.Waiting, NotWaiting(disputeId));
        (found.ruling, found.ruledAt, found.status) = (ruling, block.timestamp, DisputeStatus.Appealable);
        emit AppealPossible(disputeId, found.arbitrable);
    }

    /// @notice Makes a ruling final that nobody has appealed in time.
    function executeRuling(uint256 disputeId) external {
        Case storage found = cases[disputeId];
        require(
            found.status == DisputeStatus.Appealable && block.timestamp >= found.ruledAt + APPEAL_PERIOD,
            NotAppealable(disputeId)
        );
        found.status = DisputeStatus.Solved;
        found.arbitrable.rule(disputeId, found.ruling);
    }

    /// @inheritdoc IArbitrator
    function appeal(uint256 disputeId, bytes calldata) external payable {
        Case storage found = cases[disputeId];
        require(msg.value >= fee, FeeTooLow(msg.value, fee));
        require(found.status == DisputeStatus.Appealable, NotAppealable(disputeId));
        found.status = DisputeStatus.Waiting;
        emit AppealDecision(disputeId, found.arbitrable);
    }

    /// @inheritdoc IArbitrator
    function arbitrationCost(bytes calldata) external view returns (uint256) {
        return fee;
    }

    /// @inheritdoc IArbitrator
    function appealCost(uint256, bytes calldata) external view returns (uint256) {
        return fee;
    }

    /// @inheritdoc IArbitrator
    function appealPeriod(uint256 disputeId) external view returns (uint256 start, uint256 end) {
        Case memory found = cases[disputeId];
        if (found.status == DisputeStatus.Appealable) return (found.ruledAt, found.ruledAt + APPEAL_PERIOD);
    }

    /// @inheritdoc IArbitrator
    function disputeStatus(uint256 disputeId) external view returns (DisputeStatus) {
        return cases[disputeId].status;
    }

    /// @inheritdoc IArbitrator
    function currentRuling(uint256 disputeId) external view returns (uint256) {
        return cases[disputeId].ruling;
    }
}
