/**
 * PostgreSQL for tests: a cluster of its own in a temporary folder, by Debian's package, with fsync on.
 *
 *   npx ts-node test/support/postgres.ts COMMAND…   runs the command with LICET_TEST_DATABASE_URL set, then stops the server
 */
import { execFileSync, spawn, spawnSync } from "node:child_process";
import { chmodSync, chownSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { postgresDatabase } from "../../oracle/store/postgresDatabase";
import type { Database } from "../../oracle/store/database";

/** Where Debian has the programs. */
export const POSTGRES_BINARIES = "/usr/lib/postgresql";

export interface Postgres {
  url: string;
  /** As an administrator would, without waiting for its clients. */
  stop(): void;
  start(): void;
  /** Has all of its processes stand still, their connections open; and go on. */
  freeze(): void;
  thaw(): void;
  /** Stops it, and removes the folder. */
  remove(): void;
}

/** Starts a server that listens on a socket in its folder. @throws if PostgreSQL isn't installed */
export function startPostgres(): Postgres {
  const bin = binaries();
  const folder = mkdtempSync(join(tmpdir(), "licet-postgres-"));
  const data = join(folder, "data");
  const runs = asServer(folder);
  runs(`${bin}/initdb`, ["-D", data, "-U", "licet", "--auth=trust", "--no-locale", "-E", "UTF8"]);
  const start = () =>
    runs(`${bin}/pg_ctl`, [
      "-D",
      data,
      "-w",
      "-l",
      join(folder, "log"),
      "-o",
      `-k ${folder} -c listen_addresses=''`,
      "start",
    ]);
  const stop = () => runs(`${bin}/pg_ctl`, ["-D", data, "-w", "-m", "immediate", "stop"]);
  start();
  const send = (signal: NodeJS.Signals) => {
    const first = Number(readFileSync(join(data, "postmaster.pid"), "utf8").split("\n")[0]);
    for (const pid of [first, ...childrenOf(first)]) process.kill(pid, signal);
  };
  const [freeze, thaw] = [() => send("SIGSTOP"), () => send("SIGCONT")];
  const remove = () => {
    try {
      stop();
    } finally {
      rmSync(folder, { recursive: true });
    }
  };
  return { url: `postgresql://licet@/postgres?host=${encodeURIComponent(folder)}`, start, stop, freeze, thaw, remove };
}

function childrenOf(parent: number): number[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => {
      try {
        return new RegExp(`^PPid:\\s+${parent}$`, "m").test(readFileSync(`/proc/${pid}/status`, "utf8"));
      } catch {
        return false;
      }
    })
    .map(Number);
}

function binaries(): string {
  try {
    const newest = readdirSync(POSTGRES_BINARIES).sort((a, b) => Number(b) - Number(a))[0];
    return join(POSTGRES_BINARIES, newest, "bin");
  } catch (cause) {
    throw new Error(`${POSTGRES_BINARIES} isn't there: install Debian's package postgresql`, { cause });
  }
}

/** PostgreSQL doesn't run as root: then the package's user runs it. */
function asServer(folder: string): (program: string, words: string[]) => void {
  const isRoot = process.getuid?.() === 0;
  if (isRoot) {
    const ids = ["-u", "-g"].map((flag) => Number(execFileSync("id", [flag, "postgres"], { encoding: "utf8" })));
    chownSync(folder, ids[0], ids[1]);
    chmodSync(folder, 0o755);
  }
  return (program, words) => {
    const [command, all] = isRoot ? ["runuser", ["-u", "postgres", "--", program, ...words]] : [program, words];
    const { status, stderr } = spawnSync(command, all, {
      cwd: folder,
      stdio: ["ignore", "ignore", "pipe"],
      encoding: "utf8",
    });
    if (status !== 0) throw new Error(`${program} ended with ${status}: ${stderr}`);
  };
}

export const TEST_DATABASE_URL = process.env.LICET_TEST_DATABASE_URL;

let schemas = 0;

/** A name for a schema that no other test has. */
export function freshSchema(): string {
  return `licet_test_${process.pid}_${Date.now()}_${++schemas}`;
}

/** A store's database that nothing else uses, on the server that LICET_TEST_DATABASE_URL names. */
export function freshPostgres(): Promise<Database> {
  return postgresDatabase(TEST_DATABASE_URL!, freshSchema());
}

async function main(words: string[]): Promise<void> {
  const server = startPostgres();
  try {
    const env = { ...process.env, LICET_TEST_DATABASE_URL: server.url };
    const child = spawn(words[0], words.slice(1), { stdio: "inherit", env });
    process.exitCode = await new Promise<number>((resolve, reject) => {
      child.once("error", reject);
      child.once("exit", (code) => resolve(code ?? 1));
    });
  } finally {
    server.remove();
  }
}

if (require.main === module) void main(process.argv.slice(2));
