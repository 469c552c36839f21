import type { Suite } from "mocha";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Database } from "../../oracle/store/database";
import { postgresDatabase } from "../../oracle/store/postgresDatabase";
import { sqliteDatabase } from "../../oracle/store/sqliteDatabase";
import { freshSchema, TEST_DATABASE_URL } from "./postgres";

/** Where a test's store is. */
export interface Place {
  /** Whether more than one may open it at once. */
  isShared: boolean;
  open(): Promise<Database>;
  remove(): void;
}

export function sqlitePlace(): Place {
  const folder = mkdtempSync(join(tmpdir(), "licet-store-"));
  return {
    isShared: false,
    open: async () => sqliteDatabase(join(folder, "store.sqlite")),
    remove: () => rmSync(folder, { recursive: true }),
  };
}

/** The server is removed with all of its schemas. */
function postgresPlace(): Place {
  const schema = freshSchema();
  return { isShared: true, open: () => postgresDatabase(TEST_DATABASE_URL!, schema), remove: () => undefined };
}

/** Forgotten when it is closed. */
export function memoryPlace(): Place {
  return { isShared: false, open: async () => sqliteDatabase(":memory:"), remove: () => undefined };
}

/** Describes the same of what uses a store in SQLite or, where LICET_TEST_DATABASE_URL names a server, in PostgreSQL. */
export function describeOnEach(title: string, body: (this: Suite, place: () => Place) => void): void {
  const [where, place] = TEST_DATABASE_URL === undefined ? ["SQLite", sqlitePlace] : ["PostgreSQL", postgresPlace];
  describe(`${title} in ${where}`, function () {
    body.call(this, place);
  });
}
