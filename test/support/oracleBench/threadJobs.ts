/** What the benchmark's threads do: make signed receipts, check them in two ways, and send them. */
import { randomBytes } from "node:crypto";
import { parentPort } from "node:worker_threads";
import { hexlify, ZeroHash } from "ethers";
import { SIGNER_AT, verifyRecords, VERDICT_BYTES } from "../../../oracle/attestor/verifyRecords";
import { sendReceipts, RECEIPTS_PATH } from "../../../oracle/attestor/attestorApi";
import { keccakLoaded } from "../../../oracle/protocol/keccak";
import { recoverPublicKey, signDigest, signedReceiptToJson } from "../../../oracle/protocol/messages";
import {
  decodeReceipt,
  encodeReceipt,
  RECORD_BYTES,
  recordDigest,
  recordsOf,
  frameOf,
} from "../../../oracle/protocol/receiptBytes";
import type { LaneState } from "../../../oracle/chain/chain";
import { DOMAIN } from "../fakeMessages";
import { EPOCH, KEYS, receiptUnder, signGrant } from "../stubMarket";
import { type BenchAttestor, startBenchAttestor } from "./market";

/** Each job's name, what it is given and what it gives; byte arrays are handed over. */
export interface Jobs {
  /** The chained receipts of licenses, `each` of every one, one record after another. */
  make: (given: { firstLicense: number; licenses: number; each: number }) => Uint8Array<ArrayBuffer>;
  /** How many milliseconds recovering the keys alone takes, and nothing around it: the limit. */
  recover: (given: { records: Uint8Array }) => number;
  /** How many it takes to decode, digest, recover and compare with the signer that is expected. */
  verify: (given: { records: Uint8Array; signer: string }) => number;
  /** How many it takes until an attestor has answered all receipts of frames of `each`, `atOnce` under way at a time. */
  send: (given: {
    url: string;
    records: Uint8Array;
    each: number;
    atOnce: number;
    form: "binary" | "ndjson";
  }) => Promise<number>;
  /** Starts an attestor on a new store, and gives its URL. The thread then hears of each batch that settles, until it closes. */
  attest: (given: { path: string; licenses: number }) => Promise<string>;
  settled: (given: LaneState) => void;
  close: () => Promise<void>;
}

let attestor: BenchAttestor | undefined;

const SIGNATURE_AT = RECORD_BYTES - 65;

const jobs: Jobs = {
  make({ firstLicense, licenses, each }) {
    const records = new Uint8Array(licenses * each * RECORD_BYTES);
    const unsigned = signDigest(KEYS.operator, ZeroHash);
    for (let l = 0; l < licenses; l++) {
      const grant = signGrant({ licenseId: BigInt(firstLicense + l) });
      let previousHash = ZeroHash;
      for (let i = 0; i < each; i++) {
        const receipt = receiptUnder(grant, BigInt(i + 1), {
          previousHash,
          requestId: hexlify(randomBytes(32)),
          finishedAt: EPOCH.epochStart + Math.floor((i * 3_600) / each),
        });
        const record = encodeReceipt({ receipt, signature: unsigned });
        previousHash = hexlify(recordDigest(DOMAIN, record));
        record.write(signDigest(KEYS.operator, previousHash).slice(2), SIGNATURE_AT, "hex");
        records.set(record, (l * each + i) * RECORD_BYTES);
      }
    }
    return records;
  },

  recover({ records }) {
    const count = records.length / RECORD_BYTES;
    const recordAt = (i: number) => records.subarray(i * RECORD_BYTES, (i + 1) * RECORD_BYTES);
    const prepared = Array.from({ length: count }, (_, i) => {
      const record = recordAt(i);
      const digest = recordDigest(DOMAIN, record);
      return {
        digest,
        signature: record.slice(SIGNATURE_AT, SIGNATURE_AT + 64),
        recovery: record[RECORD_BYTES - 1] - 27,
      };
    });
    return timed(() => {
      for (const { digest, signature, recovery } of prepared) recoverPublicKey(digest, signature, recovery);
    });
  },

  verify({ records, signer }) {
    const expected = Buffer.from(signer.slice(2), "hex");
    return timed(() => {
      const verdicts = Buffer.from(verifyRecords(DOMAIN, records).buffer);
      for (let at = 0; at < verdicts.length; at += VERDICT_BYTES) {
        if (verdicts.compare(expected, 0, 20, at + SIGNER_AT, at + VERDICT_BYTES) !== 0)
          throw new Error("another signed it");
      }
    });
  },

  async send({ url, records, each, atOnce, form }) {
    const frames: Uint8Array[][] = [];
    for (let at = 0; at < records.length; at += each * RECORD_BYTES) {
      const frame = frameOf([records.subarray(at, Math.min(records.length, at + each * RECORD_BYTES))]);
      frames.push(recordsOf(frame));
    }
    const bodies = form === "binary" ? [] : frames.map(linesOf);
    const startedAt = performance.now();
    let next = 0;
    const sendOn = async () => {
      for (let i = next++; i < frames.length; i = next++) {
        if (form === "binary") await sendReceipts(url, frames[i], 60_000);
        else await sendLines(url, bodies[i]);
      }
    };
    await Promise.all(Array.from({ length: atOnce }, sendOn));
    return performance.now() - startedAt;
  },

  async attest({ path, licenses }) {
    attestor = await startBenchAttestor(path, licenses);
    return attestor.url;
  },
  settled: (last) => attestor!.settled(last),
  close: () => attestor!.close(),
};

function linesOf(records: Uint8Array[]): string {
  return records.map((record) => JSON.stringify(signedReceiptToJson(decodeReceipt(record)))).join("\n");
}

async function sendLines(url: string, body: string): Promise<void> {
  const headers = { "content-type": "application/x-ndjson" };
  const response = await fetch(url + RECEIPTS_PATH, { method: "POST", headers, body });
  if (!response.ok) throw new Error(`${response.status}: ${await response.text()}`);
  await response.json();
}

function timed(work: () => void): number {
  const startedAt = performance.now();
  work();
  return performance.now() - startedAt;
}

export interface Asked {
  id: number;
  name: keyof Jobs;
  given: never;
}

export type Answered = { id: number; result: unknown } | { id: number; error: string };

export async function serveJobs(): Promise<void> {
  await keccakLoaded;
  parentPort!.on("message", async ({ id, name, given }: Asked) => {
    try {
      const result = await jobs[name](given);
      const moved = result instanceof Uint8Array ? [result.buffer as ArrayBuffer] : [];
      parentPort!.postMessage({ id, result } satisfies Answered, moved);
    } catch (cause) {
      parentPort!.postMessage({ id, error: String(cause) } satisfies Answered);
    }
  });
}
