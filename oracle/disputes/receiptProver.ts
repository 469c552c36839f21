/** Proves receipts in a thread of its own: a large network keeps a processor for many seconds. */
import path from "node:path";
import { Worker } from "node:worker_threads";
import { oneAtATime } from "../oneAtATime";
import { Problem } from "../problem";
import type { Receipt } from "../protocol/types";

export interface ProverConfig {
  /** The model's file, as `zk:train` writes it. */
  modelFile: string;
  /** The folder of the setup that the version's verifier is for; the one for development if left out. */
  setup?: string;
}

export interface ProofAsked {
  receipt: Pick<Receipt, "requestHash" | "responseHash">;
  /** The receipt's EIP-712 digest. */
  receiptHash: string;
  /** What was asked, a number each. */
  input: number[];
  grantSalt: string;
  /** As the version has it. */
  weightsCommitment: string;
}

/** What a thread does. */
export type ProverJob = ProverConfig & ProofAsked;

/** What it says: which process makes the proof, and in the end what came of it. */
export type ProverAnswer = { pid: number } | { proof: string } | { problem: string };

export interface ReceiptProver {
  /** @throws Problem if it isn't true, by these weights, or no proof can be made on this machine, or not in time */
  prove(asked: ProofAsked): Promise<string>;
}

/** How the threads live. */
export interface ProverLimits {
  /** How long a proof may take; a quarter of an hour if left out. */
  limitMs?: number;
  /** When it aborts, nothing is proven any more. */
  signal?: AbortSignal;
  /** The thread's file, which tests put their own in place of. */
  workerFile?: string;
}

const LIMIT_MS = 15 * 60_000;
const WORKER_FILE = path.join(__dirname, "proverWorker.js");
/** How long a thread whose prover was killed has to put away what that has left. */
const CLEARING_MS = 2_000;

/** Of all models: each proof takes whole processors. */
const inTurn = oneAtATime();

export function receiptProver(config: ProverConfig, limits: ProverLimits = {}): ReceiptProver {
  return { prove: (asked) => inTurn(() => inThread({ ...config, ...asked }, limits)) };
}

/** One that takes too long is killed: the next has a thread of its own. */
function inThread(job: ProverJob, { limitMs = LIMIT_MS, signal, workerFile }: ProverLimits): Promise<string> {
  signal?.throwIfAborted();
  const worker = new Worker(workerFile ?? WORKER_FILE, { workerData: job });
  let pid: number | undefined;
  return new Promise<string>((resolve, reject) => {
    const kill = (cause: Error) => {
      reject(cause);
      if (pid !== undefined) killProcess(pid);
      setTimeout(() => void worker.terminate(), pid === undefined ? 0 : CLEARING_MS);
    };
    const overdue = setTimeout(() => {
      kill(new Problem(`The proof wasn't made within ${limitMs / 1_000} s: its prover was ended, and is tried again`));
    }, limitMs);
    const stop = () => kill(new Error("The oracle stops: nothing is proven any more"));
    signal?.addEventListener("abort", stop, { once: true });
    worker.on("message", (answer: ProverAnswer) => {
      if ("pid" in answer) return void (pid = answer.pid);
      if ("proof" in answer) resolve(answer.proof);
      else reject(new Problem(answer.problem));
      void worker.terminate();
    });
    worker.once("error", reject);
    worker.once("exit", (code) => {
      clearTimeout(overdue);
      signal?.removeEventListener("abort", stop);
      reject(new Error(`The thread that proves ended with ${code}: it is tried again`));
    });
  });
}

/** It may have ended by itself. */
function killProcess(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== "ESRCH") throw cause;
  }
}
