/** How fast receipts are verified and taken in, beside merely recovering the keys of their signatures. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { computeAddress, verifyTypedData } from "ethers";
import { startAttestor } from "../../../oracle/attestor/attestor";
import { localSigner } from "../../../oracle/keys/digestSigner";
import { createLog } from "../../../oracle/log";
import { RECEIPT_TYPES } from "../../../oracle/protocol/messages";
import { decodeReceipt, RECORD_BYTES } from "../../../oracle/protocol/receiptBytes";
import { DOMAIN } from "../fakeMessages";
import { COMMITTEE, KEYS, LANE, stubMarket } from "../stubMarket";
import { type Figure, figureOf } from "./records";
import { openBenchStore } from "./stores";
import type { Threads } from "./threads";

const SIGNER = computeAddress(KEYS.operator);
const EACH = 100;
const AT_ONCE = 8;

/** @param count receipts that each thread verifies in a run */
export async function measureVerification(threads: Threads, count: number, runs: number): Promise<Figure[]> {
  const records = await threads.on(0, "make", { firstLicense: 1, licenses: count / EACH, each: EACH });
  const rate = (ms: number[]) => ms.reduce((sum, one) => sum + (1_000 * count) / one, 0);
  const bare: number[] = [];
  const whole: number[] = [];
  const ethers: number[] = [];
  await threads.onAll("verify", { records, signer: SIGNER });
  for (let run = 0; run < runs; run++) {
    bare.push(rate(await threads.onAll("recover", { records })));
    whole.push(rate(await threads.onAll("verify", { records, signer: SIGNER })));
    ethers.push(ethersRate(records, Math.min(count, 200)));
  }
  return [
    figureOf("verify.ratio", "ratio", quotients(whole, bare), { atLeast: 0.8 }),
    figureOf(
      "verify.vs_ethers",
      "ratio",
      quotients(
        whole.map((one) => one / threads.count),
        ethers,
      ),
      { atLeast: 30 },
    ),
    figureOf("verify.recover_rate", "1/s", bare),
    figureOf("verify.rate", "1/s", whole),
    figureOf("verify.ethers_rate", "1/s", ethers),
  ];
}

function ethersRate(records: Uint8Array, count: number): number {
  const messages = Array.from({ length: count }, (_, i) =>
    decodeReceipt(records.subarray(i * RECORD_BYTES, (i + 1) * RECORD_BYTES)),
  );
  const startedAt = performance.now();
  for (const { receipt, signature } of messages) {
    if (verifyTypedData(DOMAIN, RECEIPT_TYPES, receipt, signature) !== SIGNER) throw new Error("another signed it");
  }
  return (1_000 * count) / (performance.now() - startedAt);
}

/** @param count receipts of a run, which an attestor takes by the hundred, over HTTP, onto a disk */
export async function measureIngest(threads: Threads, count: number, runs: number): Promise<Figure[]> {
  const figures: Record<"binary" | "ndjson" | "recover", number[]> = { binary: [], ndjson: [], recover: [] };
  const licenses = count / EACH;
  let firstLicense = 1;
  for (let run = 0; run < runs; run++) {
    for (const form of ["binary", "ndjson"] as const) {
      const records = await threads.on(0, "make", { firstLicense, licenses, each: EACH });
      firstLicense += licenses;
      figures[form].push((1_000 * count) / (await ingestMs(threads, records, form)));
    }
    const records = await threads.on(0, "make", { firstLicense: 1, licenses, each: EACH });
    figures.recover.push((1_000 * count) / (await threads.on(0, "recover", { records })));
  }
  return [
    figureOf("ingest.ratio", "ratio", quotients(figures.binary, figures.recover), { atLeast: 0.6 }),
    figureOf("ingest.ndjson_ratio", "ratio", quotients(figures.ndjson, figures.recover)),
    figureOf("ingest.rate", "1/s", figures.binary),
    figureOf("ingest.ndjson_rate", "1/s", figures.ndjson),
    figureOf("ingest.recover_rate", "1/s", figures.recover),
  ];
}

/** A fresh attestor takes a first frame to start its threads, then all. */
async function ingestMs(threads: Threads, records: Uint8Array, form: "binary" | "ndjson"): Promise<number> {
  const folder = mkdtempSync(join(tmpdir(), "licet-bench-"));
  const store = openBenchStore(join(folder, "attestor.sqlite"));
  const attestor = await startAttestor(
    { signer: localSigner(KEYS.attestors[0]), committee: COMMITTEE.address },
    { chain: stubMarket(), store, log: createLog("error", console.error) },
  );
  try {
    const warm = await threads.on(0, "make", { firstLicense: 2 ** 40, licenses: 2 * AT_ONCE, each: EACH });
    const to = { url: attestor.url, each: EACH, atOnce: AT_ONCE, form };
    await threads.on(0, "send", { ...to, records: warm });
    const ms = await threads.on(0, "send", { ...to, records });
    const kept = (await store.copies.count()).get(LANE.operatorId);
    const expected = (warm.length + records.length) / RECORD_BYTES;
    if (kept !== expected) throw new Error(`${kept} of ${expected} receipts were kept`);
    return ms;
  } finally {
    await attestor.close();
    await store.close();
    rmSync(folder, { recursive: true });
  }
}

function quotients(these: number[], those: number[]): number[] {
  return these.map((one, i) => one / those[i]);
}
