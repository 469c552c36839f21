/**
 * Receipts that are settled, or never will be, and old enough that nobody disputes them, in compressed files: one of each batch, and
 * one a day of what no batch has. A file is on disk and read back before a row that is in it goes.
 *
 *   files   dataFolder/archive/NAME.ndjson.gz: JSON a line, of the batch first, then of each receipt. Each license's receipts are a
 *           gzip member of their own, so that one is read without the rest; `zcat` reads all.
 */
import { createHash } from "node:crypto";
import {
  closeSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readFileSync,
  readSync,
  renameSync,
  rmSync,
  writeSync,
} from "node:fs";
import path from "node:path";
import { gunzipSync, gzipSync } from "node:zlib";
import { hexlify } from "ethers";
import { breathe } from "../breathe";
import { reasonOf } from "../problem";
import {
  headerFromJson,
  headerToJson,
  signedGrantToJson,
  signedMeasurementToJson,
  signedReceiptFromJson,
  signedReceiptToJson,
} from "../protocol/messages";
import type { BatchHeader, SignedGrant } from "../protocol/types";
import { counted, summarize } from "../settler/batches";
import type { ArchivedSpan, ArchiveFacts, ArchiveRows, ArchiveUnit } from "./archiveRows";
import { sync } from "./backup";
import type { Store } from "./store";
import type { ReceiptState, StoredReceipt } from "./receiptRows";

/** How many places of a license's receipts are read for one page. */
const PLACES_A_PAGE = 10;

/** A license's receipts, and whether there may be more behind them. */
export interface ReceiptPage {
  receipts: StoredReceipt[];
  hasMore: boolean;
}

export class Archive {
  constructor(
    private readonly store: Store,
    private readonly dataFolder: string,
  ) {}

  /**
   * Archives what ended before a time, Unix seconds, and prunes what nobody asks for any more.
   * @param now Unix seconds
   * @returns the archives that were made
   * @throws Error if a file can't be written or isn't what was written; then its receipts stay rows
   */
  async archiveDue(before: number, now: number): Promise<ArchiveFacts[]> {
    const { archive } = this.store;
    const made: ArchiveFacts[] = [];
    for (const name of await archive.unmoved()) await this.move(name);
    for (let unit = await archive.due(before); unit !== null; unit = await archive.due(before)) {
      made.push(await this.write(unit, now));
      await this.move(unit.name);
    }
    await archive.removeFormerLast();
    await archive.prune(before);
    return made;
  }

  /** A request's receipt, wherever it is; null if there is none. */
  async receipt(requestId: string): Promise<StoredReceipt | null> {
    const stored = await this.store.receipts.ofRequest(requestId);
    if (stored !== null) return stored;
    const span = await this.store.archive.spanOfRequest(requestId);
    return span && (this.read(span).find(({ receipt }) => receipt.requestId === requestId) ?? null);
  }

  /** A license's receipts by an operator from a number on, in their order, at most so many. */
  async receiptsFrom(operatorId: number, licenseId: bigint, sequence: bigint, most: number): Promise<ReceiptPage> {
    const spans = await this.store.archive.spansFrom(operatorId, licenseId, sequence, PLACES_A_PAGE + 1);
    const rows = await this.store.receipts.from(operatorId, licenseId, sequence, most + 1);
    const bound = spans.at(PLACES_A_PAGE)?.first;
    const bySequence = new Map<bigint, StoredReceipt>();
    for (const span of spans.slice(0, PLACES_A_PAGE)) {
      for (const one of this.read(span)) bySequence.set(one.receipt.sequence, one);
      await breathe();
    }
    for (const row of rows) bySequence.set(row.receipt.sequence, row);
    const receipts = [...bySequence.values()]
      .filter(({ receipt }) => receipt.sequence >= sequence && (bound === undefined || receipt.sequence < bound))
      .sort((a, b) => Number(a.receipt.sequence - b.receipt.sequence));
    return { receipts: receipts.slice(0, most), hasMore: receipts.length > most || bound !== undefined };
  }

  private async write(unit: ArchiveUnit, archivedAt: number): Promise<ArchiveFacts> {
    const { archive } = this.store;
    const head = await this.headOf(unit);
    return writeArchive(this.dataFolder, archive, { name: unit.name, archivedAt }, head, this.membersOf(unit));
  }

  private async *membersOf(unit: ArchiveUnit): AsyncGenerator<ArchiveMember> {
    const { store } = this;
    const grantOf = (hash: string) => store.grants.find(hash);
    for (const { operatorId, licenseId } of await store.archive.licensesOf(unit)) {
      const own = await store.receipts.ofRequests(await store.archive.requestsOf(unit, operatorId, licenseId));
      yield { operatorId, licenseId, receipts: own, lines: await linesOf(store, operatorId, own, grantOf) };
    }
  }

  private async headOf({ name, day }: ArchiveUnit): Promise<object> {
    if (day !== null) return { day: name };
    const { header, entries, measurements, proof } = (await this.store.batches.find(name))!;
    return {
      batch: name,
      header: headerToJson(header),
      entries,
      measurements: measurements.map(signedMeasurementToJson),
      proof,
    };
  }

  /** From the rows into the file, where all is already. */
  private async move(name: string): Promise<void> {
    const { archive } = this.store;
    for (const span of await archive.spansOf(name)) {
      await archive.move(
        span,
        this.read(span).map(({ receipt }) => receipt.requestId),
      );
      await breathe();
    }
    await archive.markMoved(name);
  }

  private read(span: ArchivedSpan): StoredReceipt[] {
    return readArchived(this.dataFolder, span);
  }
}

/** A license's receipts in an archive. */
export interface ArchiveMember {
  operatorId: number;
  licenseId: bigint;
  receipts: readonly StoredReceipt[];
  lines: object[];
}

/**
 * Writes an archive, holds it against what was to be written, and notes it.
 * @throws Error if the file can't be written, or isn't what was written; then nothing is noted
 */
export async function writeArchive(
  dataFolder: string,
  rows: ArchiveRows,
  { name, archivedAt }: Pick<ArchiveFacts, "name" | "archivedAt">,
  head: object,
  members: AsyncIterable<ArchiveMember>,
): Promise<ArchiveFacts> {
  const file = fileOf(dataFolder, name);
  mkdirSync(path.dirname(file), { recursive: true });
  const part = openSync(`${file}.part`, "w");
  const hash = createHash("sha256");
  const spans: ArchivedSpan[] = [];
  let [bytes, receipts] = [0, 0];
  const append = (lines: object[]): number => {
    const member = gzipSync(lines.map((line) => `${JSON.stringify(line)}\n`).join(""));
    hash.update(member);
    for (let at = 0; at < member.length;) at += writeSync(part, member, at);
    bytes += member.length;
    return member.length;
  };
  try {
    append([head]);
    for await (const { operatorId, licenseId, receipts: own, lines } of members) {
      const at = bytes;
      const length = append(lines);
      const [first, last] = [own[0], own[own.length - 1]].map(({ receipt }) => receipt.sequence);
      spans.push({ name, operatorId, licenseId, first, last, at, bytes: length });
      receipts += own.length;
      await breathe();
    }
    fsyncSync(part);
  } finally {
    closeSync(part);
  }
  // Of a store that was lost, and had more of it.
  if (existsSync(file)) renameSync(file, `${file}.before-${archivedAt}`);
  renameSync(`${file}.part`, file);
  sync(path.dirname(file));
  const facts = { name, sha256: hash.digest("hex"), bytes, receipts, archivedAt };
  const problem = archiveProblem(dataFolder, facts);
  if (problem !== null) throw new Error(problem);
  await rows.add(facts, spans);
  return facts;
}

/** A license's receipts. @throws Error that names the file, if it can't be read */
export function readArchived(dataFolder: string, { name, at, bytes }: ArchivedSpan): StoredReceipt[] {
  const file = fileOf(dataFolder, name);
  try {
    const member = Buffer.alloc(bytes);
    const descriptor = openSync(file, "r");
    try {
      for (let done = 0; done < bytes;) {
        const read = readSync(descriptor, member, done, bytes - done, at + done);
        if (read === 0) throw new Error("it is cut short");
        done += read;
      }
    } finally {
      closeSync(descriptor);
    }
    return receiptsIn(gunzipSync(member).toString("utf8"));
  } catch (cause) {
    throw new Error(`The archive ${file} can't be read (${reasonOf(cause)}): put it back from a backup`, { cause });
  }
}

/** Takes an archive's file away. */
export function removeArchive(dataFolder: string, name: string): void {
  rmSync(fileOf(dataFolder, name), { force: true });
}

/**
 * Holds an archive's file against what was written down of it and, where it is of a batch, its receipts against the batch's root.
 * @returns what is wrong, in a sentence; null if nothing is
 */
export function archiveProblem(dataFolder: string, { name, sha256, receipts }: ArchiveFacts): string | null {
  const file = fileOf(dataFolder, name);
  try {
    const bytes = readFileSync(file);
    const found = createHash("sha256").update(bytes).digest("hex");
    if (found !== sha256) {
      return `${file} has the SHA-256 ${found}, and was written with ${sha256}: put it back from a backup`;
    }
    const text = gunzipSync(bytes).toString("utf8");
    const present = receiptsIn(text);
    if (present.length !== receipts) return `${file} has ${present.length} receipts, and was written with ${receipts}`;
    return rootProblem(file, text, present);
  } catch (cause) {
    return `${file} can't be read (${reasonOf(cause)}): put it back from a backup`;
  }
}

function fileOf(dataFolder: string, name: string): string {
  return path.join(dataFolder, "archive", `${name}.ndjson.gz`);
}

/** A rebuilt store may lack some of a batch's receipts: then there is nothing to hold them against. */
function rootProblem(file: string, text: string, receipts: StoredReceipt[]): string | null {
  const { header } = JSON.parse(text.slice(0, text.indexOf("\n"))) as { header?: unknown };
  if (header === undefined) return null;
  const { root, count }: BatchHeader = headerFromJson(header);
  if (BigInt(receipts.length) < count) return null;
  const made = summarize(receipts.map(counted)).summary.root;
  return made === root ? null : `${file} has receipts that make the root ${made}; the batch has ${root}`;
}

interface ReceiptLine {
  hash: string;
  versionId: string;
  state: ReceiptState;
  batchId: string | null;
  /** In hex; without 0x where an older version wrote it. */
  requestSignature?: string;
  /** Of the first of a license's receipts under it: what the request's signature is held against. */
  grant?: object;
}

/** A line for each receipt, with its request's signature, and its grant where no line before has that. */
export async function linesOf(
  store: Pick<Store, "requestSignatures">,
  operatorId: number,
  receipts: readonly StoredReceipt[],
  grantOf: (hash: string) => Promise<SignedGrant | null>,
): Promise<object[]> {
  const hashes = receipts.map(({ receipt }) => receipt.requestSignatureHash);
  const signatures = await store.requestSignatures.of(operatorId, hashes);
  const grants = new Set<string>();
  const lines: object[] = [];
  for (const stored of receipts) {
    const { hash, versionId, state, batchId, receipt } = stored;
    const packed = signatures.get(receipt.requestSignatureHash)?.packed;
    const line: ReceiptLine = { hash, versionId: String(versionId), state, batchId };
    if (packed !== undefined) line.requestSignature = hexlify(packed);
    const grant = grants.has(receipt.grantHash) ? null : await grantOf(receipt.grantHash);
    grants.add(receipt.grantHash);
    if (grant !== null) line.grant = signedGrantToJson(grant);
    lines.push({ ...signedReceiptToJson(stored), ...line });
  }
  return lines;
}

/** Of lines of which those that are no receipt's say so. */
function receiptsIn(text: string): StoredReceipt[] {
  return text
    .split("\n")
    .filter((line) => line !== "")
    .flatMap((line) => {
      const { receipt, signature, hash, versionId, state, batchId, requestSignature } = JSON.parse(
        line,
      ) as ReceiptLine & {
        receipt?: unknown;
        signature?: unknown;
      };
      if (receipt === undefined) return [];
      const stored: StoredReceipt = {
        ...signedReceiptFromJson({ receipt, signature }),
        ...{ hash, versionId: BigInt(versionId), state, batchId },
      };
      if (requestSignature !== undefined)
        stored.requestSignature = Buffer.from(requestSignature.replace(/^0x/, ""), "hex");
      return [stored];
    });
}
