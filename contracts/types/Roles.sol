// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

/// The roles of a deployment's AccessManager. `deploy/roles.ts` says which functions each may call and who holds it.

/// @dev May pause new purchases and deposits for a bounded time.
uint64 constant GUARDIAN_ROLE = 1;

/// @dev May set the protocol fee within its bound and raise the deposit ceiling.
uint64 constant GOVERNOR_ROLE = 2;

/// @dev Held by UsageEscrow alone: mints licenses and moves operators' in-flight income.
uint64 constant ESCROW_ROLE = 3;

/// @dev Held by contracts alone: slashes operators' stake.
uint64 constant SLASHER_ROLE = 4;
