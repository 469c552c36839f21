import { dateOf, licenseId, planId, send, sendingTask, type Session, type TaskRecord } from "../support";
import { accountOf, type Account } from "./show";

export interface ChangePlan {
  license: bigint;
  /** The plan that it shall go over to, or the present one. */
  plan: number;
}

/** Announces another plan for a license, or takes that back. */
export async function changePlan(session: Session, { license, plan }: ChangePlan): Promise<TaskRecord> {
  await accountOf(session, license);
  await send(session.licet.escrow.changePlan, license, plan);
  return { license, ...planOf(await accountOf(session, license)) };
}

/** A license's plan, and what was announced instead. */
export function planOf({ planId, nextPlanId, stoppedAt }: Account): TaskRecord {
  const next = nextPlanId === 0n ? {} : { "next plan": nextPlanId, "goes over to it": dateOf(stoppedAt) };
  return { plan: planId, ...next };
}

sendingTask("license:plan", {
  about: "Announces another plan for your license, from its next term on; naming the present one takes it back",
  example: "--license 1 --plan 2",
  parameters: {
    license: licenseId(),
    plan: planId("The id of the plan that it shall go over to"),
  },
  act: changePlan,
});
