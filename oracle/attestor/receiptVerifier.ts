/** Who signed receipts: few at a time are looked at here, many in threads, so that the process answers others meanwhile. */
import { availableParallelism } from "node:os";
import path from "node:path";
import { Worker } from "node:worker_threads";
import { getAddress, type TypedDataDomain } from "ethers";
import { reasonOf } from "../problem";
import { RECORD_BYTES, recordSigner } from "../protocol/receiptBytes";
import { LEAF_AT, SIGNER_AT, VERDICT_BYTES, verifyRecords, type VerifierMessage } from "./verifyRecords";

/** Whose a record is. */
export interface VerifiedRecord {
  record: Buffer;
  /** Of the receipt, 32 bytes. */
  hash: Buffer;
  /** The hash of its leaf in a batch's sum tree, 32 bytes. */
  leaf: Buffer;
  /** The key's checksummed address; null if the signature is of nobody. */
  signer: string | null;
}

/** As many take about as long as it does to hand them over twice. */
const FEW = 32;

interface Job {
  succeed: (verdicts: Uint8Array) => void;
  fail: (cause: unknown) => void;
}

interface Thread {
  worker: Worker;
  jobs: Map<number, Job>;
}

export class ReceiptVerifier {
  /** Started with the first that are many: an attestor of quiet operators needs none. */
  private threads: Thread[] | undefined;
  private lastJob = 0;
  /** Few signers sign many receipts. */
  private readonly addresses = new Map<string, string>();

  constructor(
    private readonly domain: TypedDataDomain,
    private readonly threadCount = availableParallelism(),
  ) {}

  /** @throws Error if a thread broke down; then the same may be asked again */
  async verify(records: Buffer[]): Promise<VerifiedRecord[]> {
    const bytes = new Uint8Array(records.length * RECORD_BYTES);
    records.forEach((record, i) => bytes.set(record, i * RECORD_BYTES));
    const verdicts = records.length <= FEW ? verifyRecords(this.domain, bytes) : await this.inThread(bytes);
    return records.map((record, i) => {
      const verdict = Buffer.from(verdicts.buffer, verdicts.byteOffset + i * VERDICT_BYTES, VERDICT_BYTES);
      return {
        record,
        hash: verdict.subarray(0, LEAF_AT),
        leaf: verdict.subarray(LEAF_AT, SIGNER_AT),
        signer: this.addressOf(verdict.subarray(SIGNER_AT)),
      };
    });
  }

  /** Ends the threads; what they still had to do fails. */
  async close(): Promise<void> {
    await Promise.all((this.threads ?? []).map(({ worker }) => worker.terminate()));
  }

  private addressOf(bytes: Buffer): string | null {
    const hex = bytes.toString("hex");
    if (hex === NOBODY) return null;
    let address = this.addresses.get(hex);
    if (address === undefined) {
      if (this.addresses.size >= MOST_ADDRESSES) this.addresses.clear();
      address = getAddress(`0x${hex}`);
      this.addresses.set(hex, address);
    }
    return address;
  }

  private inThread(bytes: Uint8Array<ArrayBuffer>): Promise<Uint8Array> {
    this.threads ??= Array.from({ length: this.threadCount }, () => this.start());
    const { worker, jobs } = this.threads.reduce((least, one) => (one.jobs.size < least.jobs.size ? one : least));
    return new Promise((succeed, fail) => {
      const job = ++this.lastJob;
      jobs.set(job, { succeed, fail });
      worker.postMessage({ job, bytes } satisfies VerifierMessage, [bytes.buffer]);
    });
  }

  private start(): Thread {
    const worker = new Worker(path.join(__dirname, "verifyWorker.js"), { workerData: { domain: this.domain } });
    const jobs = new Map<number, Job>();
    worker.unref();
    worker.on("message", ({ job, bytes }: VerifierMessage) => {
      jobs.get(job)!.succeed(bytes);
      jobs.delete(job);
    });
    const end = (cause: unknown) => {
      this.threads = this.threads?.filter((thread) => thread.worker !== worker);
      if (this.threads?.length === 0) this.threads = undefined;
      jobs.forEach(({ fail }) => fail(cause));
    };
    worker.on("error", end);
    worker.on("exit", (code) => end(new Error(`A thread that checks signatures ended with ${code}: try again`)));
    return { worker, jobs };
  }
}

const NOBODY = "00".repeat(20);
const MOST_ADDRESSES = 10_000;

/** Why a record's signature is of nobody. */
export function signatureProblem({ record, hash }: VerifiedRecord): string {
  try {
    recordSigner(record, hash);
  } catch (error) {
    return reasonOf(error);
  }
  throw new Error("the record's signature is somebody's");
}
