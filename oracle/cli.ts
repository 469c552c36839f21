import { readFileSync } from "node:fs";
import { formatEther } from "ethers";
import path from "node:path";
import { inspect, parseArgs } from "node:util";
import type { AddressBook } from "../deploy/addressBook";
import { namesOf } from "./chain/node";
import { openNodes } from "./chain/nodes";
import { shownBatch } from "./attestor/shownBatch";
import { parseConfig, type ChainSection, type OracleConfig } from "./config";
import { ConfigError } from "./configSection";
import { describeShown, showEvidence } from "./evidence/command";
import { newKeystore, readPassword } from "./keys/keystore";
import type { KeySetting } from "./keys/keySetting";
import { describeKey, openKey } from "./keys/openKey";
import { parseSignerConfig, type SignerConfig } from "./keys/signerConfig";
import { startSigner } from "./keys/signerServer";
import { createLog } from "./log";
import { runOracle } from "./main";
import { Problem, reasonOf } from "./problem";
import { aborted, untilAskedToEnd } from "./signals";
import { describeRebuilt, rebuildStore } from "./recovery/command";
import { archiveProblem } from "./store/archive";
import { type ArchiveFacts, ArchiveRows } from "./store/archiveRows";
import { copiesFolder } from "./store/copyArchive";
import { backUp } from "./store/backup";
import { openToRead } from "./store/openDatabase";
import { restore } from "./store/restore";

const HELP = `Runs the parts of a Licet oracle that a configuration file has sections for: docs/oracle.md describes it.

  npx licet-oracle gateway --config FILE   serves licensees and signs their receipts
  npx licet-oracle settle  --config FILE   brings receipts to the attestors, and batches to the chain
  npx licet-oracle attest  --config FILE   vouches for others' batches, as a member of the committee
  npx licet-oracle all     --config FILE   all of these that have a section, in one process
  npx licet-oracle check   --config FILE   reads the file, says what would run, and ends
  npx licet-oracle evidence --config FILE  shows attestors evidence of an operator's hardware, names it on chain, and ends
  npx licet-oracle backup  --config FILE --to FOLDER   copies the stores as they are now, whoever writes to them
  npx licet-oracle restore --config FILE --from FOLDER   puts an operator's store back from a backup; rebuild it then
  npx licet-oracle rebuild --config FILE   makes an operator's store whole again that was lost, from chain and attestors
  npx licet-oracle archive --config FILE   lists the archives of old receipts, and says which aren't what was written
  npx licet-oracle batch   --config FILE --id BATCH   prints what an attestor has of a batch: for reports of breaches
  npx licet-oracle signer  --config FILE   has keys sign for the others, who then never have them
  npx licet-oracle key --keystore FILE --password-file FILE   makes a key, in an encrypted keystore

A first SIGTERM or Ctrl-C lets requests end; a second ends at once.
Exit codes: 0 it ended in order, 1 something must be put right (standard error says what), 2 the command isn't one,
130 and 143 a second signal ended it.
`;

const PARTS = { gateway: "gateway", settle: "settler", attest: "attestor" } as const;
type Part = (typeof PARTS)[keyof typeof PARTS];

/** The command line makes no sense. */
class UsageError extends Error {}

/** Where the command line writes, and its secrets are. */
export interface Surroundings {
  out(text: string): void;
  err(text: string): void;
  environment: NodeJS.ProcessEnv;
}

const OF_PROCESS: Surroundings = {
  out: (text) => void process.stdout.write(text),
  err: (text) => void process.stderr.write(text),
  environment: process.env,
};

/** Does what the words say, and gives the exit code. */
export async function main(words: string[], around = OF_PROCESS): Promise<number> {
  try {
    await run(words, around);
    return 0;
  } catch (cause) {
    if (cause instanceof UsageError) around.err(`${cause.message}\nSee npx licet-oracle --help.\n`);
    else around.err(`${cause instanceof Problem ? cause.message : inspect(cause)}\n`);
    return cause instanceof UsageError ? 2 : 1;
  }
}

async function run(words: string[], { out, environment }: Surroundings): Promise<void> {
  const { command, file, passwordFile, folder, id } = commandOf(words);
  if (command === "help") return out(HELP);
  if (command === "key") return out(`${await newKeystore(file, readPassword(passwordFile))}\n`);
  if (command === "signer") return runSigner(readConfig(file, (text) => parseSignerConfig(text, environment)));
  const config = readConfig(file, (text) => parseConfig(text, environment));
  if (command === "check") return out(await planOf(config));
  if (command === "backup") return out(backUpStores(config, folder));
  if (command === "archive") return out(await archivesOf(config));
  if (command === "batch") return out(await batchOf(config, id));
  if (command === "restore") return out(await restoredFrom(config, folder));
  if (command === "rebuild") return out(await rebuiltBy(config, file));
  if (command === "evidence") return out(await evidenceOf(config, file));
  const wanted = command === "all" ? config : onlyPart(config, PARTS[command], file);
  const chain = chainIn(wanted, file);
  const signal = untilAskedToEnd();
  await runOracle(wanted, await openDeploymentOf(chain), signal);
}

function chainIn({ chain }: OracleConfig, file: string): ChainSection {
  if (chain !== undefined) return chain;
  throw new Problem(`${file}: chain is missing: say { "url": …, "deployment": … }, the node and the address book.`);
}

function backUpStores({ database, dataFolder }: OracleConfig, folder: string): string {
  if (database !== undefined) {
    throw new Problem(
      `The stores are in PostgreSQL: pg_dump --schema=${database.schema}_operator (or _attestor) copies them.`,
    );
  }
  return backUp(dataFolder!, folder)
    .map((copy) => `${copy}\n`)
    .join("");
}

/** @throws Problem if one isn't whole */
async function archivesOf(config: OracleConfig): Promise<string> {
  const { dataFolder } = config;
  if (dataFolder === undefined) throw new Problem("Archives are in dataFolder, which isn't set: nothing is archived.");
  const problems: string[] = [];
  const lines: string[] = [];
  const look = (archives: readonly ArchiveFacts[], folder: string) => {
    for (const archive of archives) {
      const problem = archiveProblem(folder, archive);
      if (problem !== null) problems.push(problem);
      const { name, receipts, bytes, archivedAt } = archive;
      const when = new Date(archivedAt * 1_000).toISOString();
      const verdict = problem === null ? "whole" : "NOT WHOLE";
      lines.push(`${name}  ${receipts} receipts, ${bytes} bytes, of ${when}: ${verdict}\n`);
    }
  };
  const { gateway, settler, attestor } = config;
  if (gateway !== undefined || settler !== undefined) look(await listArchives(config, "operator"), dataFolder);
  if (attestor !== undefined) look(await listArchives(config, "attestor"), copiesFolder(dataFolder));
  if (problems.length > 0) throw new Problem(`${lines.join("")}${problems.map((one) => `${one}.`).join("\n")}`);
  return lines.length === 0 ? "There are no archives: nothing is old enough.\n" : lines.join("");
}

/** Of a file without opening it as a store, so that a gateway may use it meanwhile. */
async function listArchives(config: OracleConfig, role: "operator" | "attestor"): Promise<ArchiveFacts[]> {
  const database = await openToRead(config, role);
  try {
    return await new ArchiveRows(database).list();
  } finally {
    await database.close();
  }
}

/** @throws Problem unless the attestor signed it, and still keeps what it signed */
async function batchOf(config: OracleConfig, id: string): Promise<string> {
  const database = await openToRead(config, "attestor");
  try {
    return `${JSON.stringify(await shownBatch(database, id, config.dataFolder), null, 2)}\n`;
  } finally {
    await database.close();
  }
}

async function restoredFrom({ database, dataFolder }: OracleConfig, folder: string): Promise<string> {
  if (database !== undefined) {
    throw new Problem(
      `The stores are in PostgreSQL: psql puts ${database.schema}_operator back from what pg_dump wrote. Rebuild it then, before anybody ` +
        `serves from it: npx licet-oracle rebuild.`,
    );
  }
  const { file, schema, figures, lastReceiptAt } = await restore(folder, dataFolder!, Math.floor(Date.now() / 1_000));
  const last = lastReceiptAt === null ? "none" : `the last of ${new Date(lastReceiptAt * 1_000).toISOString()}`;
  return (
    `${file} is the copy of ${folder}, of schema ${schema}: receipts, ${last}; ${figures.unbatched + figures.batched} weren't settled then.\n` +
    "What was served and signed since isn't in it, and nobody is served from it yet: npx licet-oracle rebuild makes it whole.\n"
  );
}

async function rebuiltBy(config: OracleConfig, file: string): Promise<string> {
  const deployment = await openDeploymentOf(chainIn(config, file));
  return describeRebuilt(await rebuildStore(config, deployment, createLog(config.logLevel).with({ part: "rebuild" })));
}

async function evidenceOf(config: OracleConfig, file: string): Promise<string> {
  const deployment = await openDeploymentOf(chainIn(config, file));
  const shown = await showEvidence(config, deployment, createLog(config.logLevel).with({ part: "evidence" }));
  return describeShown(shown, config.gateway!.operatorId);
}

const COMMANDS = [
  ...(Object.keys(PARTS) as (keyof typeof PARTS)[]),
  "all",
  "check",
  "backup",
  "restore",
  "rebuild",
  "archive",
  "batch",
  "evidence",
  "signer",
  "key",
] as const;

interface Command {
  command: "help" | (typeof COMMANDS)[number];
  /** The configuration's, or the keystore's. */
  file: string;
  passwordFile: string;
  /** A backup's. */
  folder: string;
  /** A batch's. */
  id: string;
}

const NEEDS: Partial<Record<Command["command"], readonly (keyof ReturnType<typeof parsed>["values"])[]>> = {
  key: ["keystore", "password-file"],
  backup: ["config", "to"],
  restore: ["config", "from"],
  batch: ["config", "id"],
};

/** What an option's value is. */
const VALUES: Partial<Record<string, string>> = { to: "FOLDER", from: "FOLDER", id: "BATCH" };

function commandOf(words: string[]): Command {
  const { values, positionals } = parsed(words);
  if (values.help === true || positionals[0] === "help") {
    return { command: "help", file: "", passwordFile: "", folder: "", id: "" };
  }
  const [word, ...more] = positionals;
  const command = COMMANDS.find((one) => one === word);
  if (command === undefined) throw new UsageError(`${word ?? "No command"} is none of ${COMMANDS.join(", ")}.`);
  if (more.length > 0) throw new UsageError(`${command} takes no ${more[0]}.`);
  const needs = NEEDS[command] ?? ["config"];
  const missing = needs.find((option) => values[option] === undefined);
  if (missing !== undefined) {
    throw new UsageError(`${command} needs --${missing} ${VALUES[missing] ?? "FILE"}.`);
  }
  const { config = "", keystore = "", "password-file": passwordFile = "", to, from, id = "" } = values;
  const folder = to ?? from ?? "";
  return { command, file: command === "key" ? keystore : config, passwordFile, folder, id };
}

function parsed(words: string[]) {
  try {
    const options = {
      config: { type: "string" },
      keystore: { type: "string" },
      "password-file": { type: "string" },
      to: { type: "string" },
      from: { type: "string" },
      id: { type: "string" },
      help: { type: "boolean", short: "h" },
    } as const;
    return parseArgs({ args: words, options, allowPositionals: true });
  } catch (cause) {
    throw new UsageError(reasonOf(cause));
  }
}

function readConfig<T>(file: string, parse: (text: string) => T): T {
  try {
    return parse(readFileSync(file, "utf8"));
  } catch (cause) {
    if (cause instanceof ConfigError) throw new Problem(`${file}: ${cause.message}`, { cause });
    throw new Problem(`--config ${file} can't be read: ${reasonOf(cause)}.`, { cause });
  }
}

async function runSigner(config: SignerConfig): Promise<void> {
  const signal = untilAskedToEnd();
  const signer = await startSigner(config, createLog());
  await aborted(signal);
  await signer.close();
}

/** The same configuration, of which only one part runs. */
function onlyPart(config: OracleConfig, part: Part, file: string): OracleConfig {
  if (config[part] === undefined) throw new Problem(`${file}: there is no section ${part}, which is to run.`);
  const others = Object.values(PARTS).filter((one) => one !== part);
  return { ...config, ...Object.fromEntries(others.map((one) => [one, undefined])) };
}

async function openDeploymentOf({ deployment, ...nodes }: ChainSection) {
  const { chainId, block, contracts } = readBook(deployment);
  const id = BigInt(chainId);
  return {
    provider: await openNodes(nodes, id),
    chainId: id,
    escrow: contracts.UsageEscrow,
    committee: contracts.CommitteeAttestor,
    court: contracts.DisputeCourt,
    fromBlock: block,
  };
}

function readBook(file: string): AddressBook {
  try {
    const book = JSON.parse(readFileSync(file, "utf8")) as AddressBook;
    if (/^\d+$/.test(book.chainId) && "UsageEscrow" in book.contracts && "CommitteeAttestor" in book.contracts)
      return book;
  } catch (cause) {
    throw new Problem(`chain.deployment: ${file} can't be read as an address book (${reasonOf(cause)}).`, { cause });
  }
  throw new Problem(`chain.deployment: ${file} is no address book: name a file of deployments/.`);
}

function nodesOf({ urls, quorum }: ChainSection): string {
  const names = namesOf(urls).join(", ");
  return urls.length === 1 ? `node ${names}` : `nodes ${names}, of which ${quorum} must agree about money`;
}

function dataOf({ database, dataFolder }: OracleConfig): string {
  if (database !== undefined) return `PostgreSQL, schemas ${database.schema}_operator and ${database.schema}_attestor`;
  return path.resolve(dataFolder!);
}

/** What would run, without its secrets. */
async function planOf(config: OracleConfig): Promise<string> {
  const { gateway, settler, attestor, operations, chain, disputes } = config;
  const at = ({ host, port }: { host: string; port: number }) => `on ${host}, port ${port}`;
  const lines: [string, string][] = [["data", dataOf(config)]];
  if (chain !== undefined) lines.push(["chain", `${nodesOf(chain)}, address book ${chain.deployment}`]);
  if (gateway !== undefined) {
    const models = gateway.models.map(({ id, upstreams }) => `${id} (${upstreams.length} upstreams)`).join(", ");
    lines.push(["gateway", `${at(gateway)}, of operator ${gateway.operatorId}: ${models}`]);
    lines.push(["", `signs as ${await keyOf(gateway.signingKey)}`]);
  }
  if (settler !== undefined) {
    lines.push(["settler", `every ${settler.intervalMs / 1_000} s, ${settler.attestors.length} attestors`]);
    lines.push(["", `pays gas as ${await keyOf(settler.key)}`], ["", `proposes as ${await keyOf(settler.signingKey)}`]);
    const { maxFee, provers } = disputes;
    lines.push([
      "",
      `answers challenges, for fees up to ${formatEther(maxFee)}, with provers of ${provers.length} versions`,
    ]);
  }
  if (attestor !== undefined) {
    lines.push(["attestor", `${at(attestor)}, ${attestor.canaries.length} canaries`]);
    lines.push(["", `signs as ${await keyOf(attestor.key)}`]);
  }
  lines.push(["operations", operations === undefined ? "not shown: there is no section operations" : at(operations)]);
  return lines.map(([what, how]) => `${what.padEnd(12)}${how}\n`).join("");
}

/** Opens it, so that a wrong password is told before anything runs. */
async function keyOf(setting: KeySetting): Promise<string> {
  return `${(await openKey(setting)).address}, whose key is ${describeKey(setting)}`;
}
