/** The contracts' statuses, by their numbers. A test compares them with the Solidity. */
export const STATUSES = {
  VersionStatus: ["None", "Usable", "Recalling", "Recalled"],
  PlanStatus: ["None", "Open", "SoldOut", "Closed"],
  LicenseStatus: ["None", "Running", "Locked", "Movable", "Lapsed", "Ended", "Closed"],
  BatchStatus: ["None", "Held", "Releasable", "Released", "Collected", "Frozen", "Refunded"],
  OperatorStatus: ["Unstaked", "Active", "Jailed"],
  KeyStatus: ["None", "Active", "Expired", "Revoked"],
  VoucherKeyStatus: ["None", "Active", "Ending", "Ended"],
  RotationStatus: ["None", "Announced", "Present", "Former", "Past"],
  ChallengeStatus: ["None", "Open", "Answered", "Escalated", "Disputed", "Upheld", "Rejected", "Undecided"],
  BondStatus: ["None", "Posted", "Thawing", "Thawed", "Slashed"],
} as const;

/** What assets are, how they came from one another, and who may derive from them, by the contracts' numbers. */
export const LINEAGE = {
  AssetKind: ["Model", "Adapter", "Dataset"],
  Relation: ["FineTunedFrom", "AdapterOf", "DistilledFrom", "MergedFrom", "QuantizedFrom", "TrainedOn", "EvaluatedOn"],
  DerivativePolicy: ["Closed", "Open", "ByApproval"],
} as const;

/** Statuses are a matter of time: they are asked for as of the block to come, since the latest may be long past. */
export const AS_OF_NOW = { blockTag: "pending" } as const;

export type StatusKind = keyof typeof STATUSES;
export type StatusName<Kind extends StatusKind> = (typeof STATUSES)[Kind][number];

/** The name of a status that a contract returned. */
export function statusName<Kind extends StatusKind>(kind: Kind, status: bigint): StatusName<Kind> {
  return STATUSES[kind][Number(status)];
}
