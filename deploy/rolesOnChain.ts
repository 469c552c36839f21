/** Compares what the chain's AccessManager says with the table in `roles.ts`. */
import { ZeroAddress, type BaseContract, type FunctionFragment } from "ethers";
import type { Licet } from "./deploy";
import { APPOINTED_BY, RESTRICTED, roleNameOf, ROLES, type ManagedContract, type RoleName } from "./roles";

/** The contracts that ask the authority who may call them. */
export const MANAGED: ManagedContract[] = ["LicenseRegistry", "PerformanceStaking", "RevenueWaterfall", "UsageEscrow"];

export const managedContract = ({ licenses, staking, waterfall, escrow }: Licet, name: ManagedContract) =>
  ({ LicenseRegistry: licenses, PerformanceStaking: staking, RevenueWaterfall: waterfall, UsageEscrow: escrow })[name];

/** Functions of a contract that change state. */
export function changingFunctions(abi: BaseContract["interface"]): FunctionFragment[] {
  const functions: FunctionFragment[] = [];
  abi.forEachFunction((fragment) => {
    if (fragment.stateMutability !== "view" && fragment.stateMutability !== "pure") functions.push(fragment);
  });
  return functions;
}

/** Who holds each role, by all grants and revocations since block `from`. */
export async function roleHolders({ authority }: Licet, from: number): Promise<Record<RoleName, string[]>> {
  const holdersOf = async (role: bigint) => {
    const granted = await authority.queryFilter(authority.filters.RoleGranted(role), from);
    const accounts = [...new Set(granted.map(({ args }) => args.account))];
    const members = await Promise.all(accounts.map((account) => authority.hasRole(role, account)));
    return accounts.filter((_, i) => members[i].isMember);
  };
  const names = Object.keys(ROLES) as RoleName[];
  const holders = await Promise.all(names.map((name) => holdersOf(ROLES[name])));
  return Object.fromEntries(names.map((name, i) => [name, holders[i]])) as Record<RoleName, string[]>;
}

export type TimelockRole = "DEFAULT_ADMIN" | "PROPOSER" | "CANCELLER" | "EXECUTOR";

/** Who holds each role of the timelock's own, by all grants and revocations since block `from`; the zero address is anybody. */
export async function timelockHolders({ timelock }: Licet, from: number): Promise<Record<TimelockRole, string[]>> {
  const holdersOf = async (role: string) => {
    const granted = await timelock.queryFilter(timelock.filters.RoleGranted(role), from);
    const accounts = [...new Set(granted.map(({ args }) => args.account))];
    const areHolders = await Promise.all(accounts.map((account) => timelock.hasRole(role, account)));
    return accounts.filter((_, i) => areHolders[i]);
  };
  const [DEFAULT_ADMIN, PROPOSER, CANCELLER, EXECUTOR] = await Promise.all([
    timelock.DEFAULT_ADMIN_ROLE().then(holdersOf),
    timelock.PROPOSER_ROLE().then(holdersOf),
    timelock.CANCELLER_ROLE().then(holdersOf),
    timelock.EXECUTOR_ROLE().then(holdersOf),
  ]);
  return { DEFAULT_ADMIN, PROPOSER, CANCELLER, EXECUTOR };
}

/** Every way in which the chain departs from the table, as a sentence; `from` is the deployment's first block. */
export async function departuresFromRoles(licet: Licet, from: number): Promise<string[]> {
  const departures = await Promise.all([
    ...MANAGED.map((contract) => departuresOfContract(licet, contract)),
    ...(Object.keys(ROLES) as RoleName[]).map((role) => departuresOfRole(licet, role)),
    unknownRoles(licet, from),
    departuresOfHolders(licet, from),
    departuresOfTimelock(licet, from),
  ]);
  return departures.flat();
}

async function departuresOfContract(licet: Licet, name: ManagedContract): Promise<string[]> {
  const { authority } = licet;
  const contract = managedContract(licet, name);
  const [obeys, manager, closed, delay] = await Promise.all([
    contract.authority(),
    authority.getAddress(),
    authority.isTargetClosed(contract),
    authority.getTargetAdminDelay(contract),
  ]);
  const departures = await Promise.all(
    changingFunctions(contract.interface).map(async (fragment) => {
      const expected = roleOf(name, fragment.format("sighash"));
      const actual = await authority.getTargetFunctionRole(contract, fragment.selector);
      if (actual === ROLES[expected]) return [];
      return [`${name}.${fragment.format("sighash")} takes role ${roleNameOf(actual)}, and the table says ${expected}`];
    }),
  );
  return [
    ...(obeys === manager ? [] : [`${name} obeys the authority ${obeys}, and not ${manager}`]),
    ...(closed ? [`${name} is closed: nobody may call its restricted functions`] : []),
    ...(delay === 0n ? [] : [`${name} has an admin delay of ${delay} seconds`]),
    ...departures.flat(),
  ];
}

async function departuresOfRole({ authority }: Licet, role: RoleName): Promise<string[]> {
  const [admin, guardian, delay] = await Promise.all([
    authority.getRoleAdmin(ROLES[role]),
    authority.getRoleGuardian(ROLES[role]),
    authority.getRoleGrantDelay(ROLES[role]),
  ]);
  const appointer = APPOINTED_BY.find((row) => row.role === role)?.by ?? "ADMIN";
  return [
    ...(admin === ROLES[appointer]
      ? []
      : [`${role} is appointed by ${roleNameOf(admin)}, and the table says ${appointer}`]),
    ...(guardian === ROLES.ADMIN ? [] : [`what ${role} schedules can be cancelled by ${roleNameOf(guardian)}`]),
    ...(delay === 0n ? [] : [`${role} is granted with a delay of ${delay} seconds`]),
  ];
}

async function unknownRoles({ authority }: Licet, from: number): Promise<string[]> {
  const [granted, assigned] = await Promise.all([
    authority.queryFilter(authority.filters.RoleGranted(), from),
    authority.queryFilter(authority.filters.TargetFunctionRoleUpdated(), from),
  ]);
  const known = Object.values(ROLES) as bigint[];
  const unknown = [...granted, ...assigned].map(({ args }) => args.roleId).filter((role) => !known.includes(role));
  return [...new Set(unknown)].map((role) => `role ${role} was handed out, and isn't in the table`);
}

async function departuresOfHolders(licet: Licet, from: number): Promise<string[]> {
  const holders = await roleHolders(licet, from);
  const addresses = [licet.escrow, licet.timelock, licet.reports, licet.court].map((contract) => contract.getAddress());
  const [escrow, timelock, ...courts] = await Promise.all(addresses);
  const onlyHeldBy = (role: RoleName, ...expected: string[]) =>
    [...holders[role]].sort().join() === [...expected].sort().join()
      ? []
      : [`${role} is held by ${holders[role].join(", ") || "nobody"}, and the table says ${expected.join(", ")}`];
  return [
    ...holders.ADMIN.map((holder) => `${holder} is an ADMIN, and could rewire everything`),
    ...onlyHeldBy("ESCROW", escrow),
    ...onlyHeldBy("GOVERNOR", timelock),
    ...onlyHeldBy("SLASHER", ...courts),
    ...onlyHeldBy("COURT", ...courts),
  ];
}

async function departuresOfTimelock(licet: Licet, from: number): Promise<string[]> {
  const [{ DEFAULT_ADMIN, EXECUTOR }, timelock] = await Promise.all([
    timelockHolders(licet, from),
    licet.timelock.getAddress(),
  ]);
  return [
    ...(isOnly(DEFAULT_ADMIN, timelock)
      ? []
      : [`the timelock's roles are given by ${DEFAULT_ADMIN.join(", ") || "nobody"}, and not by its own acts alone`]),
    ...(EXECUTOR.includes(ZeroAddress) ? [] : [`what is ready can be executed only by ${EXECUTOR.join(", ")}`]),
  ];
}

const isOnly = (holders: string[], holder: string): boolean => holders.length === 1 && holders[0] === holder;

const roleOf = (contract: ManagedContract, signature: string): RoleName =>
  RESTRICTED.find((row) => row.contract === contract && row.functions.includes(signature))?.role ?? "ADMIN";
