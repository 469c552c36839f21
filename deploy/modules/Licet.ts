import { buildModule } from "@nomicfoundation/hardhat-ignition/modules";
import { id } from "ethers";
import { APPOINTED_BY, RESTRICTED, ROLES } from "../roles";

/**
 * A whole deployment but its currency and its committees. The deployer wires it and then gives up the admin role: from
 * its last transaction on, nobody can change who may call what.
 */
export default buildModule("Licet", (m) => {
  const deployer = m.getAccount(0);
  const currency = m.getParameter<string>("currency");
  const treasury = m.getParameter<string>("treasury");

  const authority = m.contract("Authority", [deployer]);
  const timelock = m.contract("Timelock", [
    m.getParameter<number>("governanceDelay"),
    m.getParameter<string>("governor"),
  ]);
  const assets = m.contract("AssetRegistry");
  const licenses = m.contract("LicenseRegistry", [authority, assets]);
  const operators = m.contract("OperatorRegistry");
  const staking = m.contract("PerformanceStaking", [
    authority,
    currency,
    operators,
    treasury,
    m.getParameter<number>("stakeThawPeriod"),
  ]);
  const waterfall = m.contract("RevenueWaterfall", [authority, currency, assets]);
  const libraries = {
    BatchDesk: m.library("BatchDesk"),
    ChargeDesk: m.library("ChargeDesk"),
    LicenseDesk: m.library("LicenseDesk"),
    VoucherDesk: m.library("VoucherDesk"),
  };
  const escrow = m.contract(
    "UsageEscrow",
    [
      {
        authority,
        currency,
        licenses,
        operators,
        staking,
        waterfall,
        treasury,
        epochPeriod: m.getParameter<number>("epochPeriod"),
        windowPeriod: m.getParameter<number>("windowPeriod"),
        feeBps: m.getParameter<number>("feeBps"),
        depositCeiling: m.getParameter<bigint>("depositCeiling"),
      },
    ],
    { libraries },
  );

  const leastPenalty = m.getParameter<bigint>("leastPenalty");
  const reports = m.contract("ReportCourt", [escrow, leastPenalty]);
  const court = m.contract("DisputeCourt", [
    reports,
    m.getParameter<number>("turnPeriod"),
    leastPenalty,
    m.getParameter<string>("metaEvidence"),
  ]);

  const managed = {
    LicenseRegistry: licenses,
    PerformanceStaking: staking,
    RevenueWaterfall: waterfall,
    UsageEscrow: escrow,
  };
  const restrictions = RESTRICTED.map(({ contract, role, functions }) =>
    m.call(
      authority,
      "setTargetFunctionRole",
      [managed[contract], functions.map((signature) => id(signature).slice(0, 10)), ROLES[role]],
      { id: `restrict_${contract}_to_${role}` },
    ),
  );
  const grants = [
    m.call(authority, "grantRole", [ROLES.ESCROW, escrow, 0], { id: "grant_ESCROW" }),
    m.call(authority, "grantRole", [ROLES.SLASHER, reports, 0], { id: "grant_SLASHER_to_ReportCourt" }),
    m.call(authority, "grantRole", [ROLES.SLASHER, court, 0], { id: "grant_SLASHER_to_DisputeCourt" }),
    m.call(authority, "grantRole", [ROLES.COURT, reports, 0], { id: "grant_COURT_to_ReportCourt" }),
    m.call(authority, "grantRole", [ROLES.COURT, court, 0], { id: "grant_COURT_to_DisputeCourt" }),
    m.call(authority, "grantRole", [ROLES.GUARDIAN, m.getParameter<string>("guardian"), 0], { id: "grant_GUARDIAN" }),
    m.call(authority, "grantRole", [ROLES.GOVERNOR, timelock, 0], { id: "grant_GOVERNOR" }),
  ];
  const appointments = APPOINTED_BY.map(({ role, by }) =>
    m.call(authority, "setRoleAdmin", [ROLES[role], ROLES[by]], { id: `let_${by}_appoint_${role}`, after: grants }),
  );
  m.call(authority, "renounceRole", [ROLES.ADMIN, deployer], {
    after: [...restrictions, ...grants, ...appointments],
  });

  return { authority, timelock, assets, licenses, operators, staking, waterfall, escrow, reports, court };
});
