import { DatabaseSync, type DatabaseSyncInstance } from "@photostructure/sqlite";
import { Problem, reasonOf } from "../problem";
import { MIGRATIONS } from "./storeSchema";

/** A store's file, open, and nobody else's until it is closed. */
export interface StoreFile {
  db: DatabaseSyncInstance;
  close(): void;
}

const IN_MEMORY = ":memory:";
const BUSY_TIMEOUT_MS = 5_000;

/** Hashes come in no order: what of their indexes isn't in memory is read, and written at each checkpoint, page by page. */
const CACHE_KIBIBYTES = 196_608;
/** Of 4 KiB. */
const CHECKPOINT_PAGES = 32_768;

/**
 * Opens or creates a store's file for this process alone, and brings an older one up to date.
 * @throws Problem if another process has it, it isn't a store, it is damaged, or a newer version of Licet wrote it
 */
export function openStoreFile(path: string): StoreFile {
  const lock = path === IN_MEMORY ? null : lockOf(path);
  try {
    const db = openDatabase(path);
    const close = () => {
      // The driver leaves that to the process's end: whoever copies the file of a store that is closed has all of it.
      db.exec("PRAGMA wal_checkpoint(TRUNCATE)");
      db.close();
      lock?.close();
    };
    return { db, close };
  } catch (cause) {
    lock?.close();
    throw explained(path, cause);
  }
}

/**
 * Held as long as this process lives and no longer, whatever ends it. It lies beside the store, which other programs may
 * go on reading: to back it up, say.
 */
function lockOf(path: string): DatabaseSyncInstance {
  try {
    return opened(`${path}.lock`, 0, (db) => db.exec("PRAGMA journal_mode = MEMORY; BEGIN EXCLUSIVE"));
  } catch (cause) {
    if (codeOf(cause) !== "SQLITE_BUSY") throw explained(path, cause);
    throw new Problem(
      `${path} is in use by another process: end that, or name another dataFolder. A gateway and a settler that share a ` +
        `store run from one settings file.`,
      { cause },
    );
  }
}

function openDatabase(path: string): DatabaseSyncInstance {
  return opened(path, BUSY_TIMEOUT_MS, (db) => {
    const version = versionOf(db, path);
    db.exec("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON");
    db.exec(`PRAGMA cache_size = -${CACHE_KIBIBYTES}; PRAGMA wal_autocheckpoint = ${CHECKPOINT_PAGES}`);
    // Of eight bytes: migrations need it.
    db.function("integer_of", (bytes: Uint8Array) => Buffer.from(bytes).readBigInt64BE());
    migrate(db, version);
    // The file is this process's: whoever held one is gone.
    db.exec("DELETE FROM leases");
  });
}

function opened(path: string, timeout: number, prepare: (db: DatabaseSyncInstance) => void): DatabaseSyncInstance {
  const db = new DatabaseSync(path, { readBigInts: true, timeout });
  try {
    prepare(db);
    return db;
  } catch (cause) {
    db.close();
    throw cause;
  }
}

/** How many migrations a store has had. @throws Problem if it isn't one, or had more than there are */
function versionOf(db: DatabaseSyncInstance, path: string): number {
  const version = numberFrom(db, "PRAGMA user_version");
  if (version > MIGRATIONS.length) {
    throw new Problem(`${path} has schema ${version}, this program knows ${MIGRATIONS.length}: update Licet.`);
  }
  const tables = numberFrom(db, "SELECT count(*) FROM sqlite_schema WHERE type = 'table'");
  const receipts = numberFrom(db, "SELECT count(*) FROM sqlite_schema WHERE name = 'receipts'");
  if (version === 0 ? tables > 0 : receipts === 0) throw foreign(path);
  return version;
}

function migrate(db: DatabaseSyncInstance, version: number): void {
  const steps = [...MIGRATIONS.slice(version), `PRAGMA user_version = ${MIGRATIONS.length};`];
  db.exec(["BEGIN IMMEDIATE;", ...steps, "COMMIT"].join("\n"));
}

function numberFrom(db: DatabaseSyncInstance, query: string): number {
  return Number(Object.values(db.prepare(query).get() as object)[0]);
}

/** What SQLite said, with what to do about it. */
function explained(path: string, cause: unknown): unknown {
  switch (codeOf(cause)) {
    case undefined:
      return cause;
    case "SQLITE_NOTADB":
      return foreign(path, cause);
    case "SQLITE_CORRUPT":
      return new Problem(
        `${path} is damaged (${reasonOf(cause)}): restore it from a backup. Without it nothing that it holds and isn't ` +
          `settled can be charged.`,
        { cause },
      );
    case "SQLITE_BUSY":
      return new Problem(`${path} is locked by another program: end that, and start again.`, { cause });
    default:
      return new Problem(
        `${path} can't be opened (${reasonOf(cause)}): its folder must be there and writable for this user, on a disk ` +
          `that isn't full.`,
        { cause },
      );
  }
}

function foreign(path: string, cause?: unknown): Problem {
  return new Problem(`${path} isn't a store of Licet's: move it away, or name another dataFolder.`, { cause });
}

function codeOf(cause: unknown): string | undefined {
  return (cause as { sqliteCodeName?: string } | null)?.sqliteCodeName;
}
