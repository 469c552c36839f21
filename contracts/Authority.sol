// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {AccessManager} from "@openzeppelin/contracts/access/manager/AccessManager.sol";

/// @title Who may call what
/// @notice OpenZeppelin's AccessManager as it is. Deployment grants the roles of `deploy/roles.ts` and then gives up the
/// admin role, which nobody can hold again: the wiring is as immutable as the contracts.
contract Authority is AccessManager {
    constructor(address deployer) AccessManager(deployer) {}
}
