import { DatabaseSync } from "@photostructure/sqlite";
import { closeSync, existsSync, fsyncSync, mkdirSync, openSync, readdirSync, renameSync, rmSync } from "node:fs";
import path from "node:path";
import { Problem, reasonOf } from "../problem";

const STORE = /^(operator|attestor)\.sqlite$/;

/**
 * Copies a data folder's stores into another folder, each as it is at one moment, whoever writes to it meanwhile. A copy is
 * whole, read back and on disk before it has its name.
 * @returns the copies
 * @throws Problem if there is no store, a copy is there already, or one can't be made; then none is made
 */
export function backUp(dataFolder: string, folder: string): string[] {
  const stores = storesIn(dataFolder);
  const copies = stores.map((store) => path.join(folder, store));
  const present = copies.find((copy) => existsSync(copy));
  if (present !== undefined) throw new Problem(`${present} is there already: name another folder for this backup.`);
  const parts = copies.map((copy) => `${copy}.part`);
  try {
    mkdirSync(folder, { recursive: true });
    removeAll(parts);
    stores.forEach((store, i) => copyStore(path.join(dataFolder, store), parts[i]));
    parts.forEach((part, i) => renameSync(part, copies[i]));
    sync(folder);
    return copies;
  } catch (cause) {
    removeAll(parts);
    throw new Problem(`The backup in ${folder} can't be made (${reasonOf(cause)}): is there room, and may you write?`, {
      cause,
    });
  }
}

export function removeAll(files: string[]): void {
  files.filter((file) => existsSync(file)).forEach((file) => rmSync(file));
}

function storesIn(dataFolder: string): string[] {
  try {
    const stores = readdirSync(dataFolder).filter((name) => STORE.test(name));
    if (stores.length > 0) return stores;
  } catch (cause) {
    throw new Problem(`dataFolder ${dataFolder} can't be read (${reasonOf(cause)}).`, { cause });
  }
  throw new Problem(`dataFolder ${dataFolder} has no store: nothing to back up.`);
}

export function copyStore(store: string, copy: string): void {
  const source = new DatabaseSync(store, { readOnly: true, timeout: 5_000 });
  try {
    source.prepare("VACUUM INTO ?").run(copy);
  } finally {
    source.close();
  }
  const written = new DatabaseSync(copy, { readOnly: true });
  try {
    const said = Object.values(written.prepare("PRAGMA integrity_check").get() as object)[0];
    if (said !== "ok") throw new Error(`the copy of ${store} is damaged: ${String(said)}`);
  } finally {
    written.close();
  }
  sync(copy);
}

export function sync(file: string): void {
  const descriptor = openSync(file, "r");
  try {
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
}
