import { DatabaseSync, type DatabaseSyncInstance } from "@photostructure/sqlite";
import { existsSync, mkdirSync, renameSync } from "node:fs";
import path from "node:path";
import { Problem, reasonOf } from "../problem";
import { copyStore, removeAll, sync } from "./backup";
import { sqliteDatabase } from "./sqliteDatabase";
import { type StoreFigures, Store } from "./store";
import { MIGRATIONS } from "./storeSchema";

/** What was put back. */
export interface Restored {
  /** Where it is now. */
  file: string;
  /** Of the copy, before it was brought up to date. */
  schema: number;
  figures: StoreFigures;
  /** When the last receipt in it finished, Unix seconds; null if there is none. */
  lastReceiptAt: number | null;
}

const OPERATOR = "operator.sqlite";
const ATTESTOR = "attestor.sqlite";

/**
 * Puts an operator's store back from a folder that `backUp` made. It waits to be rebuilt: nobody serves or settles from it before,
 * as what was signed after the copy was made isn't in it.
 * @param at now, Unix seconds
 * @throws Problem if there is a store already, the copy isn't there or isn't whole, or can't be put in place; then nothing is
 */
export async function restore(folder: string, dataFolder: string, at: number): Promise<Restored> {
  const [copy, file] = [path.join(folder, OPERATOR), path.join(dataFolder, OPERATOR)];
  if (existsSync(file)) {
    throw new Problem(`${file} is there already: move it away first, if this copy is to take its place.`);
  }
  if (!existsSync(copy)) throw missing(folder, copy);
  const { schema, lastReceiptAt } = inspect(copy);
  const part = `${file}.part`;
  try {
    mkdirSync(dataFolder, { recursive: true });
    removeAll(leftOf(part));
    copyStore(copy, part);
    const figures = await markIncomplete(part, at);
    sync(part);
    renameSync(part, file);
    sync(dataFolder);
    removeAll(leftOf(part));
    return { file, schema, figures, lastReceiptAt };
  } catch (cause) {
    removeAll(leftOf(part));
    if (cause instanceof Problem) throw cause;
    throw new Problem(`${copy} can't be put in ${dataFolder} (${reasonOf(cause)}): is there room, and may you write?`, {
      cause,
    });
  }
}

function missing(folder: string, copy: string): Problem {
  if (!existsSync(path.join(folder, ATTESTOR))) return new Problem(`${copy} isn't there: name a folder of a backup.`);
  return new Problem(
    `${folder} has an attestor's store alone. That isn't put back: an attestor might sign a second batch for one number, ` +
      `which costs its bond. It takes another key, with an empty store.`,
  );
}

function leftOf(part: string): string[] {
  return ["", "-wal", "-shm", ".lock"].map((ending) => part + ending);
}

/** @throws Problem unless it is a whole store, of a version that this program knows */
function inspect(copy: string): Pick<Restored, "schema" | "lastReceiptAt"> {
  let db: DatabaseSyncInstance | undefined;
  try {
    db = new DatabaseSync(copy, { readOnly: true });
    const said = valueOf(db, "PRAGMA integrity_check");
    if (said !== "ok") throw new Error(String(said));
    const schema = Number(valueOf(db, "PRAGMA user_version"));
    if (schema > MIGRATIONS.length) {
      throw new Problem(`${copy} has schema ${schema}, this program knows ${MIGRATIONS.length}: update Licet.`);
    }
    if (valueOf(db, "SELECT count(*) FROM sqlite_schema WHERE name = 'receipts'") === 0) {
      throw new Problem(`${copy} isn't a store of Licet's: name a folder of a backup.`);
    }
    const last = valueOf(db, "SELECT max(finished_at) FROM receipts");
    return { schema, lastReceiptAt: last === null ? null : Number(last) };
  } catch (cause) {
    if (cause instanceof Problem) throw cause;
    throw new Problem(`${copy} isn't whole (${reasonOf(cause)}): take another backup, or rebuild without one.`, {
      cause,
    });
  } finally {
    db?.close();
  }
}

function valueOf(db: DatabaseSyncInstance, query: string): unknown {
  return Object.values(db.prepare(query).get() as object)[0];
}

/** Brings it up to date, and has it wait to be rebuilt. */
async function markIncomplete(part: string, at: number): Promise<StoreFigures> {
  const store = new Store(sqliteDatabase(part));
  try {
    await store.recovery.begin(at);
    return await store.figures();
  } finally {
    await store.close();
  }
}
