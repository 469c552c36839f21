import { task } from "hardhat/config";
import type { CLIArgumentType, HardhatRuntimeEnvironment } from "hardhat/types";
import { addExample } from "./examples";
import { explain, sentenceOf } from "./explain";
import { flag, optional, wholeNumber, type Parameter } from "./parameters";
import { copyChain, rehearse, transactionsOn } from "./rehearsal";
import { print, type TaskRecord } from "./report";
import { CallFailed } from "./send";
import { openSession, type Session } from "./session";
import { Problem } from "../../oracle/problem";

export type Parameters<Args> = { [Name in keyof Args]-?: Parameter<Args[Name]> };

/** What a task is for and what it takes. */
export interface TaskForm<Args> {
  about: string;
  /** The arguments of a command that works, or would with other ids. */
  example: string;
  parameters: Parameters<Args>;
}

export interface LicetTask<Args> extends TaskForm<Args> {
  act(session: Session, args: Args): Promise<TaskRecord>;
  /** Of a task that checks something: whether all is well. The exit code is 1 if it isn't. */
  passes?(found: TaskRecord): boolean;
}

const JSON_FLAG = { json: flag("Print JSON") };
const ACCOUNT = { account: optional(wholeNumber("Number of the account that acts", 0, 1_000_000), "0") };
export const DRY_RUN = { dryRun: flag("Say what it would send, and what would become of that, and send nothing") };

/** Defines a task that looks at a deployment, or signs for it, and sends nothing. */
export function readingTask<Args>(name: string, { act, passes, ...form }: LicetTask<Args>): void {
  defineTask(name, form, ACCOUNT, async (hre, args, { account }) => {
    const session = await openSession(hre, account, { onlyToLook: true });
    const found = await act(session, args).catch((error) => fail(error, session));
    if (passes?.(found) === false) process.exitCode = 1;
    return found;
  });
}

/** Defines a task that sends transactions, or with `--dry-run` only says which. */
export function sendingTask<Args>(name: string, { act, ...form }: LicetTask<Args>): void {
  defineTask(name, form, { ...ACCOUNT, ...DRY_RUN }, async (hre, args, { account, dryRun }) => {
    const session = await openSession(hre, account);
    if (dryRun) return rehearsed(session, (rehearsal) => act(rehearsal, args));
    return act(session, args).catch((error) => fail(error, session));
  });
}

/** Defines a task that prints a record, or JSON with `--json`; `common` are its parameters that others have, too. */
export function defineTask<Args, Common>(
  name: string,
  { about, example, parameters }: TaskForm<Args>,
  common: Parameters<Common>,
  run: (hre: HardhatRuntimeEnvironment, args: Args, common: Common) => Promise<TaskRecord>,
): void {
  const definition = task(name, about);
  const all: Record<string, Parameter<unknown>> = { ...parameters, ...common, ...JSON_FLAG };
  for (const [parameter, { about, kind, ifMissing }] of Object.entries(all)) {
    if (kind === "flag") definition.addFlag(parameter, about);
    else if (kind === "optional")
      definition.addOptionalParam(parameter, withDefault(about, ifMissing), undefined, anyText);
    else definition.addParam(parameter, about, undefined, anyText);
  }
  definition.setAction((raw: RawArguments, hre) =>
    explain(async () => {
      const record = await run(hre, parse(parameters, raw), parse(common, raw));
      print(record, raw.json === true);
      return record;
    }, raw.json === true),
  );
  addExample(name, example);
}

type RawArguments = Record<string, unknown>;

/** Arguments come as text from the command line, and as anything from other tasks: each parameter says what it takes. */
const anyText: CLIArgumentType<string> = { name: "string", parse: (_name, value) => value, validate: () => {} };

const withDefault = (about: string, ifMissing?: string) => (ifMissing ? `${about} (default: ${ifMissing})` : about);

function parse<Args>(parameters: Parameters<Args>, raw: RawArguments): Args {
  const parsed = Object.entries<Parameter<unknown>>(parameters).map(([name, parameter]) => {
    const value = raw[name] ?? parameter.ifMissing;
    if (parameter.kind === "flag") return [name, value === true];
    return [name, value === undefined ? undefined : parameter.parse(String(value), flagOf(name))];
  });
  return Object.fromEntries(parsed) as Args;
}

/** What a parameter is called on the command line. */
const flagOf = (name: string): string => `--${name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;

/** Plays a task on a copy of the chain. What the chain refuses there ends it, with exit code 1. */
async function rehearsed(session: Session, play: (rehearsal: Session) => Promise<TaskRecord>): Promise<TaskRecord> {
  const copy = await copyChain(session.hre);
  const outcome = await play(await rehearse(session, copy)).catch((error) => {
    const refused = error instanceof CallFailed ? sentenceOf(error, session.money) : undefined;
    if (refused === undefined) return fail(error, session);
    process.exitCode = 1;
    return { refused };
  });
  const transactions = await transactionsOn(copy, session.book, session.money);
  return { "dry run": "nothing was sent", transactions, ...outcome };
}

/** @throws the error in a sentence, with amounts in the session's currency, where it has one */
function fail(cause: unknown, { money }: Session): never {
  const sentence = sentenceOf(cause, money);
  throw sentence === undefined ? cause : new Problem(sentence, { cause });
}
