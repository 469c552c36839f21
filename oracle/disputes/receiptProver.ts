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

/** What it says in the end. */
export type ProverAnswer = { proof: string } | { problem: string };

export interface ReceiptProver {
  /** @throws Problem if it isn't true, by these weights, or no proof can be made on this machine */
  prove(asked: ProofAsked): Promise<string>;
}

/** Of all models: each proof takes whole processors. */
const inTurn = oneAtATime();

export function receiptProver(config: ProverConfig): ReceiptProver {
  return { prove: (asked) => inTurn(() => inThread({ ...config, ...asked })) };
}

function inThread(job: ProverJob): Promise<string> {
  const worker = new Worker(path.join(__dirname, "proverWorker.js"), { workerData: job });
  return new Promise((resolve, reject) => {
    worker.once("message", (answer: ProverAnswer) => {
      if ("proof" in answer) resolve(answer.proof);
      else reject(new Problem(answer.problem));
      void worker.terminate();
    });
    worker.once("error", reject);
    worker.once("exit", (code) => reject(new Error(`The thread that proves ended with ${code}: it is tried again`)));
  });
}
