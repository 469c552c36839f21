/** The benchmark's threads, one a core. */
import { availableParallelism } from "node:os";
import path from "node:path";
import { Worker } from "node:worker_threads";
import type { Answered, Jobs } from "./threadJobs";

type Given<N extends keyof Jobs> = Parameters<Jobs[N]>[0];
type Result<N extends keyof Jobs> = Awaited<ReturnType<Jobs[N]>>;

interface Waiting {
  succeed: (result: never) => void;
  fail: (cause: unknown) => void;
}

export class Threads {
  readonly count = availableParallelism();
  private readonly workers: Worker[];
  private readonly waiting = new Map<number, Waiting>();
  private lastId = 0;

  constructor() {
    this.workers = Array.from({ length: this.count }, () => {
      const worker = new Worker(path.join(__dirname, "thread.js"));
      worker.on("message", (answer: Answered) => {
        const { succeed, fail } = this.waiting.get(answer.id)!;
        this.waiting.delete(answer.id);
        if ("error" in answer) fail(new Error(answer.error));
        else succeed(answer.result as never);
      });
      return worker;
    });
  }

  /** Has one thread do a job. */
  on<N extends keyof Jobs>(thread: number, name: N, given: Given<N>): Promise<Result<N>> {
    const id = ++this.lastId;
    return new Promise<Result<N>>((succeed, fail) => {
      this.waiting.set(id, { succeed, fail });
      this.workers[thread % this.count].postMessage({ id, name, given });
    });
  }

  /** Has all threads do the same. */
  onAll<N extends keyof Jobs>(name: N, given: Given<N>): Promise<Result<N>[]> {
    return Promise.all(this.workers.map((_, thread) => this.on(thread, name, given)));
  }

  async close(): Promise<void> {
    await Promise.all(this.workers.map((worker) => worker.terminate()));
  }
}
