/**
 * How long it takes to build batches, have an attestor take in and judge their receipts, and encode them for settlement;
 * beside merely recovering the keys of the receipts' signatures on all cores.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "@photostructure/sqlite";
import { computeAddress, hexlify } from "ethers";
import { sendReceipts } from "../../../oracle/attestor/attestorApi";
import type { LaneState } from "../../../oracle/chain/chain";
import { localSigner } from "../../../oracle/keys/digestSigner";
import { grantDigest, signedGrantToJson } from "../../../oracle/protocol/messages";
import {
  decodeReceipt,
  frameOf,
  RECORD_BYTES,
  recordDigest,
  recordLeaf,
  recordsOf,
} from "../../../oracle/protocol/receiptBytes";
import { METERS } from "../../../oracle/protocol/types";
import { ReceiptFeed } from "../../../oracle/settler/receiptFeed";
import { Settler } from "../../../oracle/settler/settler";
import { DOMAIN } from "../fakeMessages";
import { StubEscrow } from "../stubEscrow";
import { COMMITTEE, EPOCH, KEYS, LANE, signGrant } from "../stubMarket";
import type { StubChain } from "../stubChain";
import { BENCH_LOG, marketOf } from "./market";
import { type Figure, figureOf, rounded } from "./records";
import { openBenchStore } from "./stores";
import type { Threads } from "./threads";

const EACH = 100;
const LICENSES_AT_ONCE = 50;
const ATTESTOR_TIMEOUT_MS = 600_000;
const SAMPLE_MS = 100;
const WARMING = 20_000;

/** The thread that it runs in. */
const ATTESTOR = 0;

/** Of whose settlements the attestor hears as soon as they are final. */
class ToldEscrow extends StubEscrow {
  constructor(
    private readonly market: StubChain,
    private readonly tell: (last: LaneState) => Promise<void>,
  ) {
    super(market);
  }

  override async follow(purpose: string, nonce: number) {
    const served = await super.follow(purpose, nonce);
    await this.tell(this.market.lastBatch);
    return served;
  }
}

/** @param sizes how many receipts; each license has a hundred */
export async function measureBatches(threads: Threads, sizes: number[]): Promise<Figure[]> {
  const figures: Figure[] = [];
  const ratios: number[] = [];
  let peak = 0;
  // A settler and an attestor run for months: that their code is compiled isn't measured.
  await measureSize(threads, Math.min(WARMING, ...sizes));
  for (const size of sizes) {
    const run = await measureSize(threads, size);
    ratios.push(run.ms / run.recoverMs);
    peak = Math.max(peak, run.rssMb);
    figures.push(
      figureOf(`batch.ratio_${size}`, "ratio", [run.ms / run.recoverMs]),
      figureOf(`batch.feed_share_${size}`, "ratio", [run.feedMs / run.ms]),
      figureOf(`batch.loop_blocked_ms_${size}`, "ms", [run.blockedMs]),
    );
    console.error(`${size} receipts in ${run.batches} batches:`, rounded(run.ms), "ms,", rounded(run.feedMs), "ms of it feeding;", rounded(run.cpuMs), "ms of processors,", rounded(run.feedCpuMs), "of it feeding;", rounded(run.recoverMs), "ms to recover;", rounded(run.rssMb), "MB"); // prettier-ignore
  }
  return [
    figureOf("batch.ratio", "ratio", [ratios[ratios.length - 1]], { atMost: 3 }),
    figureOf("batch.rss_mb", "MB", [peak], { atMost: 2_048 }),
    figureOf("batch.flatness", "ratio", [Math.max(...ratios) / Math.min(...ratios)], { atMost: 1.3 }),
    ...figures,
  ];
}

interface Run {
  ms: number;
  /** Of that, until the attestor had all receipts. */
  feedMs: number;
  /** What the process, with its threads, used of the processors; in all, and until the attestor had all receipts. */
  cpuMs: number;
  feedCpuMs: number;
  /** What recovering all signatures takes on all cores. */
  recoverMs: number;
  batches: number;
  /** The process's largest, its threads included. */
  rssMb: number;
  /** The longest that the event loop stood still. */
  blockedMs: number;
}

async function measureSize(threads: Threads, size: number): Promise<Run> {
  const folder = mkdtempSync(join(tmpdir(), "licet-bench-"));
  const operatorPath = join(folder, "operator.sqlite");
  const licenses = size / EACH;
  const sample = await writeReceipts(threads, operatorPath, licenses);
  const store = openBenchStore(operatorPath);
  const chain = marketOf(licenses);
  const url = await threads.on(ATTESTOR, "attest", { path: join(folder, "attestor.sqlite"), licenses });
  const config = {
    attestors: [{ address: computeAddress(KEYS.attestors[0]), url }],
    attestorTimeoutMs: ATTESTOR_TIMEOUT_MS,
  };
  const escrow = new ToldEscrow(chain, (last) => threads.on(ATTESTOR, "settled", last));
  const settler = new Settler(
    { chain, store, escrow, sender: escrow, log: BENCH_LOG },
    { ...config, committee: COMMITTEE.address, proposer: localSigner(KEYS.proposer) },
  );
  // It has been running for a while: its threads are there.
  const warm = await threads.on(0, "make", { firstLicense: licenses + 1, licenses: 1, each: EACH });
  await sendReceipts(url, recordsOf(frameOf([warm])), ATTESTOR_TIMEOUT_MS);
  const recoverBefore = await recoverTime(threads, sample, size);
  const watch = watching();
  try {
    const startedAt = performance.now();
    const cpuBefore = process.cpuUsage();
    const feed = new ReceiptFeed({ store, log: BENCH_LOG }, config);
    while ((await feed.feed(config.attestors[0])) > 0);
    const feedMs = performance.now() - startedAt;
    const feedCpuMs = cpuMsSince(cpuBefore);
    const outcomes = await settler.settle(LANE, EPOCH);
    const ms = performance.now() - startedAt;
    const cpuMs = cpuMsSince(cpuBefore);
    const open = outcomes.find(({ status }) => status !== "settled");
    if (open !== undefined) throw new Error(`A batch is ${open.status}: ${open.reason}`);
    const { rssMb, blockedMs } = watch.stop();
    const recoverAfter = await recoverTime(threads, sample, size);
    const recoverMs = (recoverBefore + recoverAfter) / 2;
    return { ms, feedMs, cpuMs, feedCpuMs, recoverMs, batches: outcomes.length, rssMb, blockedMs };
  } finally {
    watch.stop();
    await Promise.all([threads.on(ATTESTOR, "close", undefined), store.close()]);
    rmSync(folder, { recursive: true });
  }
}

async function recoverTime(threads: Threads, sample: Uint8Array, size: number): Promise<number> {
  const count = sample.length / RECORD_BYTES;
  const times = await threads.onAll("recover", { records: sample });
  const perMs = times.reduce((sum, ms) => sum + count / ms, 0);
  return size / perMs;
}

function cpuMsSince(before: NodeJS.CpuUsage): number {
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1_000;
}

/** As a gateway has written them down, and gives some of them. */
async function writeReceipts(threads: Threads, path: string, licenses: number): Promise<Uint8Array> {
  await openBenchStore(path).close();
  const db = new DatabaseSync(path);
  db.exec("PRAGMA synchronous = OFF");
  const insertGrant = db.prepare("INSERT INTO grants (grant_hash, license_id, body) VALUES (?, ?, ?)");
  const insertReceipt = db.prepare(
    `INSERT INTO receipts (receipt_hash, request_id, operator_id, license_id, sequence, plan_id, version_id, grant_hash,
       finished_at, cost, state, body, signature, signer, record, position, requests, input_tokens, cached_input_tokens,
       output_tokens, compute_ms, leaf)
       VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 101, 'unbatched', '', '', ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
  );
  const signer = computeAddress(KEYS.operator);
  let position = 0;
  let sample: Uint8Array | undefined;
  const write = (records: Uint8Array, firstLicense: number, count: number) => {
    db.exec("BEGIN");
    for (let l = 0; l < count; l++) {
      const grant = signGrant({ licenseId: BigInt(firstLicense + l) });
      const json = JSON.stringify(signedGrantToJson(grant));
      insertGrant.run(grantDigest(DOMAIN, grant.grant), grant.grant.licenseId, json);
    }
    for (let at = 0; at < records.length; at += RECORD_BYTES) {
      const record = records.subarray(at, at + RECORD_BYTES);
      const { receipt } = decodeReceipt(record);
      const digest = recordDigest(DOMAIN, record);
      insertReceipt.run(
        hexlify(digest),
        receipt.requestId,
        receipt.operatorId,
        receipt.licenseId,
        receipt.sequence,
        receipt.planId,
        LANE.versionId,
        receipt.grantHash,
        receipt.finishedAt,
        signer,
        record,
        ++position,
        ...METERS.map((meter) => receipt[meter]),
        recordLeaf(record, digest),
      );
    }
    db.exec("COMMIT");
  };
  let next = 1;
  const makeOn = async (thread: number) => {
    for (let first = next; first <= licenses; first = next) {
      const count = Math.min(LICENSES_AT_ONCE, licenses + 1 - first);
      next += count;
      const records = await threads.on(thread, "make", { firstLicense: first, licenses: count, each: EACH });
      sample ??= records;
      write(records, first, count);
    }
  };
  await Promise.all(Array.from({ length: threads.count }, (_, thread) => makeOn(thread)));
  db.close();
  return sample!;
}

/** Looks at the process until it is stopped. */
function watching() {
  let rss = 0;
  let blockedMs = 0;
  let last = performance.now();
  const timer = setInterval(() => {
    rss = Math.max(rss, process.memoryUsage.rss());
    blockedMs = Math.max(blockedMs, performance.now() - last - SAMPLE_MS);
    last = performance.now();
  }, SAMPLE_MS);
  return {
    stop() {
      clearInterval(timer);
      return { rssMb: Math.max(rss, process.memoryUsage.rss()) / 2 ** 20, blockedMs };
    },
  };
}
