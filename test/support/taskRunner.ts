/**
 * A process that runs tasks one after the other, each as the command line would: their words come as messages, and what
 * they printed and their exit codes go back. It spares the seconds that Hardhat takes to start.
 */
import hre from "hardhat";
import { ArgumentsParser } from "hardhat/internal/cli/ArgumentsParser";
import { HardhatContext } from "hardhat/internal/context";
import { HardhatError } from "hardhat/internal/core/errors";

export interface TaskResult {
  exitCode: number;
  stdout: string;
  stderr: string;
}

async function runTask([name, ...words]: string[]): Promise<TaskResult> {
  const [out, err]: [string[], string[]] = [[], []];
  const { log, error } = console;
  console.log = (line = "") => out.push(String(line));
  console.error = (line = "") => err.push(String(line));
  process.exitCode = 0;
  try {
    const definition = HardhatContext.getHardhatContext().tasksDSL.getTaskDefinition(undefined, name)!;
    await hre.run(name, new ArgumentsParser().parseTaskArguments(definition, words));
  } catch (thrown) {
    // Hardhat's command line says its own errors in a sentence, and shows the stack of all others.
    console.error(HardhatError.isHardhatError(thrown) ? `Error ${thrown.message}` : (thrown as Error).stack);
    process.exitCode = 1;
  } finally {
    Object.assign(console, { log, error });
  }
  return { exitCode: Number(process.exitCode), stdout: out.join("\n"), stderr: err.join("\n") };
}

if (require.main === module) {
  process.on("message", (words: string[]) => void runTask(words).then((result) => process.send!(result)));
  process.send!("ready");
}
