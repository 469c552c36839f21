/**
 * The whole truth about who may call what. Administration goes through one AccessManager; everything else that changes
 * state is open to all, or checked inline against a party to the deal. `test/deploy/roles.test.ts` compares this table
 * with the chain, and fails on a function that is in neither part.
 */

export const ROLES = {
  /** Could rewire the deployment: nobody holds it, once it stands. */
  ADMIN: 0n,
  /** May pause new purchases and deposits for a bounded time. */
  GUARDIAN: 1n,
  /** Timelock alone: sets the protocol fee within its bound, raises the deposit ceiling, appoints guardians. */
  GOVERNOR: 2n,
  /** UsageEscrow alone: mints licenses, moves operators' in-flight income and credits assets'. */
  ESCROW: 3n,
  /** The two courts alone: slash and freeze stake. */
  SLASHER: 4n,
  /** The two courts alone: freeze, release and refund charges of batches that are held. */
  COURT: 5n,
} as const;

export type RoleName = keyof typeof ROLES;

export const roleNameOf = (id: bigint): string =>
  Object.entries(ROLES).find(([, role]) => role === id)?.[0] ?? `number ${id}`;

export type ManagedContract = "LicenseRegistry" | "PerformanceStaking" | "RevenueWaterfall" | "UsageEscrow";

const BATCH_HEADER =
  "(uint24,uint32,uint64,uint64,uint40,uint40,bytes32,uint64,uint64,uint64,uint64,uint64,uint64,uint16,uint32,uint32,bytes32,bytes32)";

/** Functions that only a role may call, by signature. */
export const RESTRICTED: { contract: ManagedContract; role: RoleName; functions: string[] }[] = [
  { contract: "UsageEscrow", role: "GOVERNOR", functions: ["setFee(uint16)", "raiseDepositCeiling(uint64)"] },
  { contract: "UsageEscrow", role: "GUARDIAN", functions: ["pause()", "unpause()"] },
  {
    contract: "UsageEscrow",
    role: "COURT",
    functions: [
      `freezeCharge(${BATCH_HEADER},bytes,bytes,uint64)`,
      "refundCharge(bytes32)",
      "releaseCharge(bytes32,uint40)",
    ],
  },
  {
    contract: "LicenseRegistry",
    role: "ESCROW",
    functions: ["mint(address,uint32)", "changePlan(uint64,uint32)", "setMovable(uint64,uint40)"],
  },
  {
    contract: "PerformanceStaking",
    role: "ESCROW",
    functions: [
      "charge((uint24,uint32,uint256,uint256,bool))",
      "release(uint24,uint256,uint256)",
      "addIncome(uint24,uint256)",
    ],
  },
  { contract: "RevenueWaterfall", role: "ESCROW", functions: ["credit(uint32,uint256)"] },
  {
    contract: "PerformanceStaking",
    role: "SLASHER",
    functions: ["slash(uint24,uint256,address)", "freeze(uint24,uint64,uint40)", "unfreeze(uint24)"],
  },
];

/** Functions that anybody may call, or that check inline who is a party, by name. */
export const OPEN: Record<string, string[]> = {
  AssetRegistry: [
    "register",
    "describe",
    "setPolicy",
    "setRoyaltyReceiver",
    "withdrawDerivation",
    "publish",
    "recall",
    "approve",
    "setApprovalForAll",
    "transferFrom",
    "safeTransferFrom",
  ],
  LicenseRegistry: [
    "createPlan",
    "acceptOffer",
    "withdrawOffer",
    "closePlan",
    "approve",
    "setApprovalForAll",
    "transferFrom",
    "safeTransferFrom",
  ],
  OperatorRegistry: ["register", "describe", "addKey", "revokeKey", "setServed"],
  PerformanceStaking: ["addStake", "thaw", "unthaw", "withdraw", "setCommission", "withdrawProceeds"],
  RevenueWaterfall: [
    "addPayee",
    "giveUp",
    "distribute",
    "withdraw",
    "approve",
    "setApprovalForAll",
    "transferFrom",
    "safeTransferFrom",
  ],
  ReportCourt: [
    "reportContradiction",
    "reportOutsideGrant",
    "reportRepetition",
    "reportDeadKey",
    "reportWrongSum",
    "proveCharge",
  ],
  DisputeCourt: [
    "demandSigning",
    "challenge",
    "showRequests",
    "answer",
    "answerWithProof",
    "escalate",
    "payFee",
    "payAppeal",
    "rule",
    "submitEvidence",
    "close",
    "withdrawBonds",
    "withdrawFees",
  ],
  UsageEscrow: [
    "buy",
    "buyWithPermit",
    "buyWithAuthorization",
    "deposit",
    "depositWithPermit",
    "depositWithAuthorization",
    "releaseUpfront",
    "setCap",
    "applyCapCut",
    "changeService",
    "applyServiceChange",
    "changePlan",
    "setRenewal",
    "lock",
    "unlock",
    "end",
    "raiseGeneration",
    "addVoucherKey",
    "revokeVoucherKey",
    "thaw",
    "withdraw",
    "renew",
    "closeTerm",
    "settle",
    "settleVouchers",
    "release",
    "collectAttestorShare",
    "payPool",
    "payAsset",
    "withdrawEarnings",
    "withdrawFees",
  ],
  CommitteeAttestor: [
    "rotate",
    "postBond",
    "thawBond",
    "withdrawBond",
    "reportEquivocation",
    "shareIncome",
    "withdraw",
  ],
};

/** Functions of Timelock, which keeps roles of its own, by who may call them. */
export const TIMELOCK = {
  PROPOSER: ["schedule", "scheduleBatch"],
  CANCELLER: ["cancel"],
  ITSELF: ["updateDelay", "grantRole", "revokeRole"],
  ANYBODY: [
    "execute",
    "executeBatch",
    "renounceRole",
    "onERC721Received",
    "onERC1155Received",
    "onERC1155BatchReceived",
  ],
};

/** Of every managed contract: only the authority itself may call it, on an admin's word, and there is no admin. */
export const SEALED = ["setAuthority"];

/**
 * Who appoints the holders of a role. A role that isn't named here is appointed by ADMIN: by nobody. A governor that could
 * appoint governors could appoint one whose acts don't wait. Those who schedule governance's acts are Timelock's own affair.
 */
export const APPOINTED_BY: { role: RoleName; by: RoleName }[] = [{ role: "GUARDIAN", by: "GOVERNOR" }];
