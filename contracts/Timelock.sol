// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {TimelockController} from "@openzeppelin/contracts/governance/TimelockController.sol";

/// @title Governance, and the wait before each of its acts
/// @notice OpenZeppelin's TimelockController, with a delay that can only be lengthened, within bounds. It is the one holder of
/// the role GOVERNOR: whatever governance does is announced here first, and whoever minds has the delay to leave.
/// STATES of an act, which are OpenZeppelin's: unset → waiting → ready → done; cancelled, it is unset again.
/// WHO: proposers schedule and cancel; anybody executes what is ready. Who the proposers are is governance's own to change,
/// by an act like any other: there is no admin beside it.
contract Timelock is TimelockController {
    uint256 public constant SHORTEST_DELAY = 1 days;
    /// @dev More than this could only be a mistake, and one that nobody could take back.
    uint256 public constant LONGEST_DELAY = 30 days;

    error DelayOutOfRange(uint256 delay, uint256 shortest, uint256 longest);

    /// @param proposer Who schedules acts and may cancel them
    constructor(
        uint256 delay,
        address proposer
    ) TimelockController(delay, _listOf(proposer), _listOf(address(0)), address(0)) {
        _requireWithin(delay, SHORTEST_DELAY);
    }

    /// @notice Lengthens the delay of acts that are scheduled from then on; itself such an act.
    function updateDelay(uint256 newDelay) public override {
        _requireWithin(newDelay, getMinDelay());
        super.updateDelay(newDelay);
    }

    function _requireWithin(uint256 delay, uint256 shortest) private pure {
        require(delay >= shortest && delay <= LONGEST_DELAY, DelayOutOfRange(delay, shortest, LONGEST_DELAY));
    }

    function _listOf(address one) private pure returns (address[] memory list) {
        list = new address[](1);
        list[0] = one;
    }
}
