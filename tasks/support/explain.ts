import { isError } from "ethers";
import { HardhatError } from "hardhat/internal/core/errors";
import { lacksEther } from "../../oracle/chain/gas";
import { refusalOf, type Currency } from "../../oracle/chain/refusal";
import { MalformedMessage } from "../../oracle/protocol/messages";
import { toJson } from "./report";
import { CallFailed } from "./send";
import { Problem } from "../../oracle/problem";

/** Runs `work`; what the user can put right is said in a sentence on standard error, as JSON if asked for, with exit code 1. */
export async function explain<T>(work: () => Promise<T>, json = false): Promise<T | undefined> {
  try {
    return await work();
  } catch (error) {
    const sentence = sentenceOf(error);
    if (sentence === undefined) throw error;
    console.error(json ? toJson({ error: sentence }) : sentence);
    process.exitCode = 1;
    return undefined;
  }
}

/** What went wrong and what to do; nothing for what only a programmer can put right. */
export function sentenceOf(error: unknown, currency?: Currency): string | undefined {
  if (!(error instanceof Error)) return undefined;
  if (FOR_USERS.some((kind) => error instanceof kind)) return error.message;
  const refusal = refusalOf(error, currency);
  if (refusal !== undefined)
    return `The chain refused${error instanceof CallFailed ? ` ${error.call}` : ""}: ${refusal}.`;
  if (error instanceof CallFailed) return sentenceOf(error.cause, currency);
  if (HardhatError.isHardhatError(error)) return error.message.replace(/^HH\d+: /, "").trim();
  if (isFileError(error)) return `${error.path} can't be used: ${FILE_PROBLEMS[error.code] ?? error.message}.`;
  return connectionProblem(error);
}

const FOR_USERS = [Problem, MalformedMessage];

interface FileError extends Error {
  code: string;
  path: string;
}

const isFileError = (error: Error): error is FileError => "syscall" in error && "path" in error && "code" in error;

const FILE_PROBLEMS: Record<string, string> = {
  ENOENT: "there is no such file or folder",
  ENOTDIR: "it isn't a folder",
  EISDIR: "it is a folder, and a file is wanted",
  EACCES: "you aren't allowed to",
  ENOSPC: "the disk is full",
};

/** What the way to the chain failed on; the chain's node has words of its own for it. */
function connectionProblem(error: Error): string | undefined {
  if (lacksEther(error)) return "The account that acts has too little ether to pay for gas: send it some.";
  const told = `${(error as FileError).code} ${error.message} ${(error.cause as Error | undefined)?.message ?? ""}`;
  if (/ECONNREFUSED|ENOTFOUND|ECONNRESET|ETIMEDOUT|UND_ERR|timeout/i.test(told)) {
    return `The chain's node doesn't answer (${error.message}): check --network and that the node runs, then try again.`;
  }
  if (isError(error, "BAD_DATA")) {
    return "A contract of the address book doesn't answer as it should: the book is of another release; deploy again.";
  }
  return error.name === "ProviderError" ? `The chain's node refused: ${error.message.replace(/\.$/, "")}.` : undefined;
}
