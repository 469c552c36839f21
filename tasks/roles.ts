import { departuresFromRoles, roleHolders, timelockHolders } from "../deploy/rolesOnChain";
import { readingTask, type Session, type TaskRecord } from "./support";

/** Whether the chain's permissions are those of `deploy/roles.ts`, and who holds each role. */
export async function checkRoles({ licet, book }: Session): Promise<TaskRecord & { departures: string[] }> {
  const [holders, { PROPOSER, CANCELLER }, departures] = await Promise.all([
    roleHolders(licet, book.block),
    timelockHolders(licet, book.block),
    departuresFromRoles(licet, book.block),
  ]);
  return { ...holders, PROPOSER, CANCELLER, departures };
}

readingTask("roles:check", {
  about: "Compares the chain's permissions with deploy/roles.ts; exit code 1 if they differ",
  example: "--network localhost",
  parameters: {},
  act: checkRoles,
  passes: ({ departures }) => (departures as string[]).length === 0,
});
