import { DatabaseSync, type DatabaseSyncInstance, type StatementSyncInstance } from "@photostructure/sqlite";
import { Problem, reasonOf } from "../problem";
import type { Database, Queries, Row, SqlValue } from "./database";
import { openStoreFile, type StoreFile } from "./storeFile";

/**
 * A store in one SQLite file, which is this process's alone.
 * Opens or creates the file, and brings an older one up to date; `:memory:` is forgotten when it is closed.
 * @throws Problem if that can't be done, or another process has it open
 */
export function sqliteDatabase(path: string): Database {
  return new SqliteDatabase(path, openStoreFile(path));
}

/** To look at a store that another process may have open. @throws Problem if there is none */
export function readOnlySqlite(path: string): Database {
  try {
    const db = new DatabaseSync(path, { readOnly: true, readBigInts: true, timeout: 5_000 });
    return new SqliteDatabase(path, { db, close: () => db.close() });
  } catch (cause) {
    throw new Problem(`${path} can't be read (${reasonOf(cause)}).`, { cause });
  }
}

class SqliteDatabase implements Database {
  readonly nowMs = "CAST(unixepoch('subsec') * 1000 AS INTEGER)";
  private readonly queries: Queries;
  /** Ends with the transaction that runs: whoever else asks waits for it, and sees nothing that may be undone. */
  private running: Promise<void> | null = null;

  constructor(
    readonly name: string,
    private readonly file: StoreFile,
  ) {
    this.queries = queriesOf(file.db);
  }

  async all(sql: string, values?: SqlValue[]): Promise<Row[]> {
    while (this.running !== null) await this.running;
    return this.queries.all(sql, values);
  }

  async row(sql: string, values?: SqlValue[]): Promise<Row | null> {
    while (this.running !== null) await this.running;
    return this.queries.row(sql, values);
  }

  async run(sql: string, values?: SqlValue[]): Promise<number> {
    while (this.running !== null) await this.running;
    return this.queries.run(sql, values);
  }

  async transaction<T>(work: (queries: Queries) => Promise<T>): Promise<T> {
    while (this.running !== null) await this.running;
    let end = () => {};
    this.running = new Promise((resolve) => (end = resolve));
    try {
      return await inTransaction(this.file.db, () => work(this.queries));
    } finally {
      this.running = null;
      end();
    }
  }

  async close(): Promise<void> {
    while (this.running !== null) await this.running;
    this.file.close();
  }
}

async function inTransaction<T>(db: DatabaseSyncInstance, work: () => Promise<T>): Promise<T> {
  db.exec("BEGIN IMMEDIATE");
  try {
    const result = await work();
    db.exec("COMMIT");
    return result;
  } catch (cause) {
    // A disk that is full has undone it already.
    if (db.isTransaction) db.exec("ROLLBACK");
    throw cause;
  }
}

/** Lists make many statements, of which those of other lengths may never come again. */
const MOST_STATEMENTS = 500;

function queriesOf(db: DatabaseSyncInstance): Queries {
  const statements = new Map<string, StatementSyncInstance>();
  const statement = (sql: string): StatementSyncInstance => {
    const known = statements.get(sql);
    if (known !== undefined) return known;
    if (statements.size >= MOST_STATEMENTS) statements.clear();
    const prepared = db.prepare(sql);
    statements.set(sql, prepared);
    return prepared;
  };
  return {
    all: async (sql, values = []) => statement(sql).all(...values) as Row[],
    row: async (sql, values = []) => (statement(sql).get(...values) as Row | undefined) ?? null,
    run: async (sql, values = []) => Number(statement(sql).run(...values).changes),
  };
}
