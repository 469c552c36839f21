import { planId, send, sendingTask, type Session, type TaskRecord } from "../support";

/** Ends the sales of a plan of the signer's model, for ever. */
export async function closePlan({ licet }: Session, { plan }: { plan: number }): Promise<TaskRecord> {
  await send(licet.licenses.closePlan, plan);
  const { sold } = await licet.licenses.salesOf(plan);
  return { plan, status: "Closed", "licenses that run on": sold };
}

sendingTask("plan:close", {
  about: "Ends the sales of your plan for ever; licenses that were bought run on",
  example: "--plan 1",
  parameters: { plan: planId() },
  act: closePlan,
});
