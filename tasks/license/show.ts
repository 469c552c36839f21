import { AS_OF_NOW, statusName, type StatusName } from "../../oracle/chain/statuses";
import type { IUsageEscrow } from "../../typechain-types/contracts/UsageEscrow";
import { dateOf, licenseId, Problem, readingTask, type Session, type TaskRecord } from "../support";
import { capsOf } from "./cap";
import { planOf } from "./plan";

export type Account = IUsageEscrow.AccountViewStructOutput;

/** A license's account. @throws Problem if there is no such license */
export async function accountOf({ licet }: Session, license: bigint): Promise<Account> {
  const account = await licet.escrow.accountOf(license);
  if (account.planId === 0n) throw new Problem(`--license ${license}: no such license.`);
  return account;
}

/** The account of a license of the signer's. @throws Problem if it is somebody else's, or none */
export async function ownAccountOf(session: Session, license: bigint): Promise<Account> {
  const account = await accountOf(session, license);
  const owner = await session.licet.licenses.ownerOf(license);
  if (owner === session.signer.address) return account;
  throw new Problem(`License ${license} is ${owner}'s, and not ${session.signer.address}'s: act as its owner.`);
}

/** What a license is up to now. */
export async function statusOf({ licet }: Session, license: bigint): Promise<StatusName<"LicenseStatus">> {
  return statusName("LicenseStatus", await licet.escrow.statusOf(license, AS_OF_NOW));
}

/** Everything about a license. */
export async function showLicense(session: Session, { license }: { license: bigint }): Promise<TaskRecord> {
  const account = await accountOf(session, license);
  const { licet, money } = session;
  const [status, movableAt, owner, committed, upfront] = await Promise.all([
    statusOf(session, license),
    licet.licenses.movableAt(license),
    licet.licenses.ownerOf(license),
    licet.escrow.committedOf(license),
    licet.escrow.upfrontOf(license),
  ]);
  return {
    license,
    status,
    owner,
    ...planOf(account),
    ...serviceOf(account),
    balance: money.of(account.balance),
    "committed to its minimum": money.of(committed),
    "on its way out": money.of(account.thawing),
    ...(account.thawing === 0n ? {} : { "can be withdrawn after": dateOf(account.thawReadyAt) }),
    "upfront price that waits": money.of(upfront.amount),
    term: account.term,
    "term ends": dateOf(account.expiresAt),
    "spent this term": money.of(account.spent),
    "starts another term": account.renews,
    ...(account.endedAt === 0n ? {} : { "term to be closed ended": dateOf(account.endedAt) }),
    ...(account.stoppedAt === 0n || account.nextPlanId !== 0n ? {} : { "no use from": dateOf(account.stoppedAt) }),
    ...(movableAt === 0n ? {} : { "can be transferred after": dateOf(movableAt) }),
    ...(await capsOf(session, license)),
    generation: account.generation,
  };
}

/** Who serves a license and how it settles, and what was announced instead. */
export function serviceOf(account: Account): TaskRecord {
  return {
    operator: account.operatorId,
    road: roadOf(account.onVoucherRoad),
    ...(account.serviceChangeReadyAt === 0n
      ? {}
      : {
          "next operator": account.nextOperatorId,
          "next road": roadOf(account.nextOnVoucherRoad),
          "change may be applied after": dateOf(account.serviceChangeReadyAt),
        }),
  };
}

export const ATTESTED = "attested";
export const VOUCHERS = "vouchers";

const roadOf = (onVoucherRoad: boolean): string => (onVoucherRoad ? VOUCHERS : ATTESTED);

readingTask("license:show", {
  about: "Shows all about a license",
  example: "--license 1",
  parameters: { license: licenseId() },
  act: showLicense,
});
