import { Pool, type PoolClient, type QueryConfig, types } from "pg";
import { type Database, type Queries, type Row, type SqlValue, StoreUnavailable } from "./database";
import { Problem, reasonOf } from "../problem";
import { MIGRATIONS } from "./storeSchema";

const CONNECTIONS = 10;
const CONNECT_TIMEOUT_MS = 5_000;
/** How long a statement may take, its wait for other clients included, and a transaction be left alone by its client. */
const STATEMENT_TIMEOUT_MS = 15_000;
/** How long is waited for a server that says nothing at all. */
const SILENCE_TIMEOUT_MS = 20_000;
/** How often a transaction that PostgreSQL gave up in favour of another is done anew. */
const MOST_ATTEMPTS = 5;
/** Plans of statements are kept on both sides: of those that come again, not of lists, which have many lengths. */
const MOST_NAMED_VALUES = 32;
const SCHEMA_NAME = /^[a-z][a-z0-9_]{0,47}$/;

/**
 * A store in one schema of a PostgreSQL database, for as many processes as there are. Creates it, and brings an older one up
 * to date.
 * @param url such as postgresql://licet:secret@host/database; isn't shown
 * @param patience beyond which it can't be reached, for whoever asks
 * @throws Problem if that can't be done
 */
export async function postgresDatabase(url: string, schema: string, patience = PATIENCE): Promise<Database> {
  if (!SCHEMA_NAME.test(schema)) {
    throw new Problem(`databaseSchema makes ${schema}: take lowercase letters, digits and _, at most 48 in all.`);
  }
  await bringUpToDate(url, schema);
  return new PostgresDatabase(poolOf(url, schema, patience), schema);
}

/** How long is waited, in milliseconds; 0 is for ever. */
interface Patience {
  statementMs: number;
  silenceMs: number;
}

const PATIENCE: Patience = { statementMs: STATEMENT_TIMEOUT_MS, silenceMs: SILENCE_TIMEOUT_MS };

function poolOf(url: string, schema: string, { statementMs, silenceMs }: Patience): Pool {
  const pool = new Pool({
    connectionString: url,
    max: CONNECTIONS,
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    statement_timeout: statementMs,
    // A process that stands still keeps others from writing no longer than that.
    idle_in_transaction_session_timeout: statementMs,
    query_timeout: silenceMs,
    application_name: schema,
    // What was answered is on disk, whatever the server's setting.
    options: `-c search_path=${schema} -c synchronous_commit=on -c client_min_messages=warning`,
    types: { getTypeParser: parserOf },
  });
  // Connections that break while nobody uses them are replaced when they are wanted.
  pool.on("error", () => undefined);
  // Those that break in use fail what is asked of them: that is told there.
  pool.on("connect", (client) => client.on("error", () => undefined));
  return pool;
}

/** However long that takes. @throws Problem */
async function bringUpToDate(url: string, schema: string): Promise<void> {
  const database = new PostgresDatabase(poolOf(url, schema, { statementMs: 0, silenceMs: 0 }), schema);
  try {
    await database.transaction((queries) => migrate(queries, schema));
  } catch (cause) {
    if (cause instanceof Problem) throw cause;
    throw new Problem(
      `The database ${database.name} can't be used (${reasonOf(cause)}): its server must run and let this user create a ` +
        `schema; the URL stands in the variable that databaseUrlVariable names.`,
      { cause },
    );
  } finally {
    await database.close();
  }
}

class PostgresDatabase implements Database {
  readonly name: string;
  readonly nowMs = "CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)";
  private readonly names = new Map<string, string>();
  /** This process's writers wait for each other here, and not with a connection each. */
  private last: Promise<unknown> = Promise.resolve();
  /** When a writer last gave up waiting: who had begun to wait before that has waited long enough, too. */
  private gaveUpAt = -Infinity;

  constructor(
    private readonly pool: Pool,
    private readonly schema: string,
  ) {
    this.name = `schema ${schema}`;
  }

  all(sql: string, values?: SqlValue[]): Promise<Row[]> {
    return told(async () => (await this.pool.query<Row>(this.statement(sql, values))).rows);
  }

  async row(sql: string, values?: SqlValue[]): Promise<Row | null> {
    return (await this.all(sql, values))[0] ?? null;
  }

  run(sql: string, values?: SqlValue[]): Promise<number> {
    return told(async () => (await this.pool.query(this.statement(sql, values))).rowCount ?? 0);
  }

  transaction<T>(work: (queries: Queries) => Promise<T>): Promise<T> {
    const askedAt = performance.now();
    const next = this.last.then(() => {
      if (askedAt > this.gaveUpAt) return this.untilDone(work);
      throw new StoreUnavailable("the database can't be reached (writers before this one waited in vain)");
    });
    this.last = next.catch(() => undefined);
    return next;
  }

  async close(): Promise<void> {
    await this.last;
    await this.pool.end();
  }

  private async untilDone<T>(work: (queries: Queries) => Promise<T>): Promise<T> {
    for (let attempt = 1; ; attempt++) {
      try {
        return await told(() => this.attempt(work));
      } catch (cause) {
        if (!wasGivenUp(cause) || attempt === MOST_ATTEMPTS) throw cause;
      }
    }
  }

  private async attempt<T>(work: (queries: Queries) => Promise<T>): Promise<T> {
    const client = await this.pool.connect();
    let isBroken = false;
    try {
      await client.query(`BEGIN; SELECT pg_advisory_xact_lock(${LOCKS}, hashtext('${this.schema}'))`);
      const result = await work(this.queriesOf(client));
      const { command } = await client.query("COMMIT");
      if (command !== "COMMIT") throw new Error("the database undid a transaction instead of committing it");
      return result;
    } catch (cause) {
      if (hasTakenTooLong(cause)) this.gaveUpAt = performance.now();
      if (isSilence(cause)) isBroken = true;
      else await client.query("ROLLBACK").catch(() => (isBroken = true));
      throw cause;
    } finally {
      client.release(isBroken);
    }
  }

  private queriesOf(client: PoolClient): Queries {
    const rows = async (sql: string, values?: SqlValue[]) =>
      (await client.query<Row>(this.statement(sql, values))).rows;
    return {
      all: rows,
      row: async (sql, values) => (await rows(sql, values))[0] ?? null,
      run: async (sql, values) => (await client.query(this.statement(sql, values))).rowCount ?? 0,
    };
  }

  private statement(sql: string, values: SqlValue[] = []): QueryConfig {
    let count = 0;
    const text = sql.replace(/\?/g, () => `$${++count}`);
    if (values.length > MOST_NAMED_VALUES) return { text, values };
    const name = this.names.get(sql) ?? `s${this.names.size}`;
    this.names.set(sql, name);
    return { name, text, values };
  }
}

/** Of all advisory locks of a database, those with which stores' writers wait for each other. */
const LOCKS = 0x6c69_6365;

async function migrate(queries: Queries, schema: string): Promise<void> {
  const isThere = await queries.row("SELECT 1 FROM pg_namespace WHERE nspname = ?", [schema]);
  if (isThere === null) await queries.run(`CREATE SCHEMA ${schema}`);
  const tables = await queries.all("SELECT tablename FROM pg_tables WHERE schemaname = ?", [schema]);
  const isStore = tables.some(({ tablename }) => tablename === "schema_version");
  if (!isStore && tables.length > 0) {
    throw new Problem(`schema ${schema} isn't a store of Licet's: name another databaseSchema.`);
  }
  if (!isStore) await queries.run("CREATE TABLE schema_version (version BIGINT NOT NULL)");
  const version = Number((await queries.row("SELECT version FROM schema_version"))?.version ?? 0);
  if (version > MIGRATIONS.length) {
    throw new Problem(`schema ${schema} has schema ${version}, this program knows ${MIGRATIONS.length}: update Licet.`);
  }
  for (const migration of MIGRATIONS.slice(version)) {
    for (const statement of inPostgres(migration)) await queries.run(statement);
  }
  await queries.run("DELETE FROM schema_version");
  await queries.run("INSERT INTO schema_version VALUES (?)", [MIGRATIONS.length]);
}

/** The same tables in PostgreSQL's words. Texts are compared byte by byte, as SQLite does. */
function inPostgres(migration: string): string[] {
  return migration
    .replace(/\bINTEGER\b/g, "BIGINT")
    .replace(/\bBLOB\b/g, "BYTEA")
    .replace(/\bTEXT\b/g, 'TEXT COLLATE "C"')
    .replace(/\) STRICT\b(, WITHOUT ROWID)?/g, ")")
    .replace(/\bunhex\((substr\([^()]*\))\)/g, "decode($1, 'hex')")
    .replace(/\binteger_of\((substr\([^()]*\))\)/g, "('x' || encode($1, 'hex'))::bit(64)::bigint")
    .split(";")
    .filter((statement) => statement.trim() !== "");
}

const WHOLE_NUMBERS: number[] = [types.builtins.INT8, types.builtins.INT4, types.builtins.INT2, types.builtins.NUMERIC];

function parserOf(type: number): (value: string) => unknown {
  return WHOLE_NUMBERS.includes(type) ? BigInt : types.getTypeParser(type);
}

/** Serialization failures and deadlocks: the transaction is undone, and may be done anew. */
function wasGivenUp(cause: unknown): boolean {
  return ["40001", "40P01"].includes(codeOf(cause));
}

/** Where the server can't be reached, says so by the error's class. */
async function told<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (cause) {
    if (!isUnreachable(cause)) throw cause;
    throw new StoreUnavailable(`the database can't be reached (${reasonOf(cause)})`, { cause });
  }
}

/** The server has said nothing for so long that its connection is of no use any more. */
function isSilence(cause: unknown): boolean {
  return (cause as Error | null)?.message === "Query read timeout";
}

/** So, or the server has ended a statement, or a transaction, as its time was over. */
function hasTakenTooLong(cause: unknown): boolean {
  return isSilence(cause) || ["57014", "25P03"].includes(codeOf(cause));
}

/** By PostgreSQL's classes 08 (connections) and 57P (its server's stops and starts), the system's codes, or the driver's words. */
function isUnreachable(cause: unknown): boolean {
  if (hasTakenTooLong(cause) || /^(08...|57P..|53300|E[A-Z]+)$/.test(codeOf(cause))) return true;
  return /Connection terminated|connection timeout|not queryable|timeout exceeded when trying to connect/i.test(
    (cause as Error | null)?.message ?? "",
  );
}

function codeOf(cause: unknown): string {
  return String((cause as { code?: unknown } | null)?.code ?? "");
}
