// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

/// Identities. Each counts from 1, so that zero is always "none".

/// @dev A model, an adapter or a dataset: a token of AssetRegistry.
type AssetId is uint32;

/// @dev A published version: its asset's id in the upper 32 bits, its number within the asset in the lower 32.
type VersionId is uint64;

/// @dev A plan of LicenseRegistry.
type PlanId is uint32;

/// @dev A license: a token of LicenseRegistry and an account of UsageEscrow.
type LicenseId is uint64;

/// @dev A payee of an asset: a token of RevenueWaterfall.
type PayeeId is uint32;

/// @dev An operator of OperatorRegistry and its pool in PerformanceStaking.
type OperatorId is uint24;

using {assetsEqual as ==} for AssetId global;
using {payeesEqual as ==} for PayeeId global;
using {plansEqual as ==, plansDiffer as !=, isPlan} for PlanId global;
using {licensesEqual as ==, licensesDiffer as !=, licenseIsAbove as >} for LicenseId global;
using {operatorsEqual as ==, operatorsDiffer as !=} for OperatorId global;

function assetsEqual(AssetId a, AssetId b) pure returns (bool) {
    return AssetId.unwrap(a) == AssetId.unwrap(b);
}

function payeesEqual(PayeeId a, PayeeId b) pure returns (bool) {
    return PayeeId.unwrap(a) == PayeeId.unwrap(b);
}

function plansEqual(PlanId a, PlanId b) pure returns (bool) {
    return PlanId.unwrap(a) == PlanId.unwrap(b);
}

function plansDiffer(PlanId a, PlanId b) pure returns (bool) {
    return PlanId.unwrap(a) != PlanId.unwrap(b);
}

function licensesEqual(LicenseId a, LicenseId b) pure returns (bool) {
    return LicenseId.unwrap(a) == LicenseId.unwrap(b);
}

function licensesDiffer(LicenseId a, LicenseId b) pure returns (bool) {
    return LicenseId.unwrap(a) != LicenseId.unwrap(b);
}

function licenseIsAbove(LicenseId a, LicenseId b) pure returns (bool) {
    return LicenseId.unwrap(a) > LicenseId.unwrap(b);
}

/// @dev Whether an id is a plan's, and not "none".
function isPlan(PlanId planId) pure returns (bool) {
    return PlanId.unwrap(planId) != 0;
}

function operatorsEqual(OperatorId a, OperatorId b) pure returns (bool) {
    return OperatorId.unwrap(a) == OperatorId.unwrap(b);
}

function operatorsDiffer(OperatorId a, OperatorId b) pure returns (bool) {
    return OperatorId.unwrap(a) != OperatorId.unwrap(b);
}

using {assetOf} for VersionId global;

/// @dev The asset that a version belongs to, whether or not either exists.
function assetOf(VersionId versionId) pure returns (AssetId) {
    return AssetId.wrap(uint32(VersionId.unwrap(versionId) >> 32));
}

/// @dev The id of an asset's `number`-th version.
function toVersionId(AssetId assetId, uint32 number) pure returns (VersionId) {
    return VersionId.wrap((uint64(AssetId.unwrap(assetId)) << 32) | number);
}
