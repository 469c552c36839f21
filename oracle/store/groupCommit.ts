import { type Database, type Queries, StoreUnavailable } from "./database";

interface Job {
  work: (queries: Queries) => Promise<unknown>;
  succeed: (value: unknown) => void;
  fail: (cause: unknown) => void;
}

/** Puts writes that arrive together into one transaction, so that they share the wait for the disk. */
export class GroupCommit {
  private waiting: Job[] = [];
  private flushing: Promise<void> | null = null;

  /** @param onCommit is told how many milliseconds a commit took, with the wait for the disk */
  constructor(
    private readonly db: Database,
    private readonly onCommit: (ms: number) => void = () => {},
  ) {}

  /**
   * Resolves with the work's result once it is on disk. Work that throws is undone alone; the others' isn't, but they are done
   * a second time then. What a database that is away fails, fails together.
   */
  run<T>(work: (queries: Queries) => Promise<T>): Promise<T> {
    return new Promise<T>((succeed, fail) => {
      this.waiting.push({ work, succeed: succeed as Job["succeed"], fail });
      this.flushing ??= this.flush();
    });
  }

  /** Resolves when nothing waits any more. */
  async settled(): Promise<void> {
    await this.flushing;
  }

  private async flush(): Promise<void> {
    do {
      await new Promise((resolve) => setImmediate(resolve));
      const jobs = this.waiting;
      this.waiting = [];
      if (!(await this.commit(jobs)) && jobs.length > 1) for (const job of jobs) await this.commit([job]);
    } while (this.waiting.length > 0);
    // At once, or whoever comes next would wait for a flush that has ended.
    this.flushing = null;
  }

  /** Whether the jobs are answered: one that failed alone is, too. */
  private async commit(jobs: Job[]): Promise<boolean> {
    const startedAt = performance.now();
    try {
      const results = await this.db.transaction(async (queries) => {
        const done: unknown[] = [];
        for (const { work } of jobs) done.push(await work(queries));
        return done;
      });
      this.onCommit(performance.now() - startedAt);
      jobs.forEach(({ succeed }, i) => succeed(results[i]));
      return true;
    } catch (cause) {
      const isForAll = jobs.length === 1 || cause instanceof StoreUnavailable;
      if (isForAll) jobs.forEach(({ fail }) => fail(cause));
      return isForAll;
    }
  }
}
