import type { DatabaseSyncInstance } from "@photostructure/sqlite";

interface Job {
  work: () => unknown;
  succeed: (value: unknown) => void;
  fail: (cause: unknown) => void;
}

/** Puts writes that arrive together into one transaction, so that they share the wait for the disk. */
export class GroupCommit {
  private waiting: Job[] = [];

  /** @param onCommit is told how many milliseconds a commit took, with the wait for the disk */
  constructor(
    private readonly db: DatabaseSyncInstance,
    private readonly onCommit: (ms: number) => void = () => {},
  ) {}

  /** Resolves with the work's result once it is on disk. Work that throws is undone alone; the others' isn't. */
  run<T>(work: () => T): Promise<T> {
    return new Promise<T>((succeed, fail) => {
      if (this.waiting.length === 0) setImmediate(() => this.flush());
      this.waiting.push({ work, succeed: succeed as Job["succeed"], fail });
    });
  }

  /** Commits what waits, now. */
  flush(): void {
    const jobs = this.waiting;
    this.waiting = [];
    if (jobs.length === 0) return;
    const startedAt = performance.now();
    try {
      const settle = inTransaction(this.db, () => jobs.map((job) => this.attempt(job)));
      this.onCommit(performance.now() - startedAt);
      settle.forEach((answer) => answer());
    } catch (cause) {
      jobs.forEach((job) => job.fail(cause));
    }
  }

  /** Does the job in its savepoint and gives back how to answer it after the commit. */
  private attempt({ work, succeed, fail }: Job): () => void {
    this.db.exec("SAVEPOINT job");
    try {
      const result = work();
      this.db.exec("RELEASE job");
      return () => succeed(result);
    } catch (cause) {
      // A disk that is full undoes the whole transaction, the others' work with it.
      if (!this.db.isTransaction) throw cause;
      this.db.exec("ROLLBACK TO job; RELEASE job");
      return () => fail(cause);
    }
  }
}

/** All of the work or, if it throws, nothing of it. */
export function inTransaction<T>(db: DatabaseSyncInstance, work: () => T): T {
  db.exec("BEGIN IMMEDIATE");
  try {
    const result = work();
    db.exec("COMMIT");
    return result;
  } catch (cause) {
    if (db.isTransaction) db.exec("ROLLBACK");
    throw cause;
  }
}
