import { TASK_HELP } from "hardhat/builtin-tasks/task-names";
import { task } from "hardhat/config";

/** A command of every task of ours, by the task's name. */
export const EXAMPLES = new Map<string, string>();

/** Has `npx hardhat help` show a command of the task. */
export function addExample(name: string, args = ""): void {
  EXAMPLES.set(name, `npx hardhat ${name} ${args}`.trim());
}

task(TASK_HELP).setAction(async ({ scopeOrTask }: { scopeOrTask?: string }, _hre, runSuper) => {
  await runSuper();
  const example = EXAMPLES.get(scopeOrTask ?? "");
  if (example !== undefined) console.log(`Example: ${example}\n`);
});
