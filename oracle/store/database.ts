/** What a column can hold. Whole numbers come back as bigint, whatever they were given as. */
export type SqlValue = string | number | bigint | null | Uint8Array;
export type Row = Record<string, SqlValue>;

/** SQL in what SQLite and PostgreSQL have in common, with a `?` for each value. */
export interface Queries {
  all(sql: string, values?: SqlValue[]): Promise<Row[]>;
  /** The first row; null if there is none. */
  row(sql: string, values?: SqlValue[]): Promise<Row | null>;
  /** How many rows it changed. */
  run(sql: string, values?: SqlValue[]): Promise<number>;
}

/**
 * One store's tables. Writers come one after another: from its first query to its commit, a transaction is the only one,
 * of this process or of any other. Queries outside one see what was committed.
 */
export interface Database extends Queries {
  /** Where it is, in words that a message can show. */
  readonly name: string;
  /** The time by the database's clock, in milliseconds since 1970, as an expression. */
  readonly nowMs: string;
  /**
   * All of the work or, if it throws, nothing of it; once it resolves, it survives a power cut. The work asks only `queries`:
   * what it asked of the database itself would wait for its own end.
   */
  transaction<T>(work: (queries: Queries) => Promise<T>): Promise<T>;
  close(): Promise<void>;
}

/** The database can't be reached at the moment: what was asked for may be asked for again, and whether it was done isn't known. */
export class StoreUnavailable extends Error {
  override readonly name = "StoreUnavailable";
}
