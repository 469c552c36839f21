/**
 * An attestor's copies of the receipts that it vouched for, in compressed files, one of each batch, from when that can't settle any
 * more until no breach of it can be reported. A file is on disk and read back before a row that is in it goes.
 *
 *   files   dataFolder/attestor/archive/BATCH.ndjson.gz: in the form of an operator's archives (`archive.ts`), its first line with
 *           the operator's proposal
 */
import path from "node:path";
import { breathe } from "../breathe";
import { decodeReceipt, encodeReceipt } from "../protocol/receiptBytes";
import { type ArchiveMember, archiveProblem, linesOf, readArchived, removeArchive, writeArchive } from "./archive";
import type { ArchiveFacts, ArchiveRows } from "./archiveRows";
import type { UnarchivedBatch } from "./attestedBatches";
import { chunks } from "./lists";
import type { Store } from "./store";
import type { StoredReceipt } from "./receiptRows";

/** Where an attestor's archives are, of what `archiveProblem` takes for a data folder. */
export const copiesFolder = (dataFolder: string): string => path.join(dataFolder, "attestor");

/** A batch whose receipts stay rows. */
export interface Unarchivable {
  batchId: string;
  /** Unix seconds. */
  epochEnd: number;
  cause: unknown;
}

export interface Archived {
  made: ArchiveFacts[];
  failed: Unarchivable[];
}

export class CopyArchive {
  private readonly folder: string;

  /** @param keepSeconds how long a file is kept */
  constructor(
    private readonly store: Pick<Store, "archive" | "attested" | "copies" | "operatorCopies" | "requestSignatures">,
    dataFolder: string,
    private readonly keepSeconds: number,
  ) {
    this.folder = copiesFolder(dataFolder);
  }

  /**
   * Archives batches whose epochs ended before a time, and removes files that were kept long enough. Unix seconds. A batch that
   * can't be archived doesn't hold up the others: its receipts stay rows, and it is tried again the next time.
   */
  async archiveDue(before: number, now: number): Promise<Archived> {
    const { archive, attested } = this.store;
    const done: Archived = { made: [], failed: [] };
    for (let batch = await attested.unarchived(before); batch !== null;) {
      try {
        if (!(await this.isWritten(batch))) done.made.push(await this.write(batch, now));
        await attested.dropCopies(batch);
      } catch (cause) {
        done.failed.push({ batchId: batch.batchId, epochEnd: batch.epochEnd, cause });
      }
      await breathe();
      batch = await attested.unarchived(before, batch);
    }
    for (const name of await archive.removeOlder(now - this.keepSeconds)) removeArchive(this.folder, name);
    return done;
  }

  /**
   * Whether it is in a file here: the process that wrote it may have died before the rows went, or been another, with a folder of
   * its own. No copy goes that isn't in a file which this process can read.
   * @throws Error if it isn't, and some of its copies are gone
   */
  private async isWritten({ batchId, operatorId, receipts }: UnarchivedBatch): Promise<boolean> {
    const facts = await this.store.archive.find(batchId);
    if (facts === null) return false;
    const problem = archiveProblem(this.folder, facts);
    if (problem === null) return true;
    let left = 0;
    for (const some of chunks(receipts)) left += (await this.store.copies.find(operatorId, some)).size;
    if (left >= facts.receipts) return false;
    throw new Error(`${problem}, or have the attestor's processes share the folder`);
  }

  private write(batch: UnarchivedBatch, archivedAt: number): Promise<ArchiveFacts> {
    const { batchId: name, signedOff } = batch;
    const head = { batch: name, ...(signedOff === null ? {} : (JSON.parse(signedOff) as object)) };
    return writeArchive(this.folder, this.store.archive, { name, archivedAt }, head, this.membersOf(batch));
  }

  private async *membersOf({
    batchId,
    operatorId,
    versionId,
    receipts,
  }: UnarchivedBatch): AsyncGenerator<ArchiveMember> {
    const { operatorCopies } = this.store;
    const member = async (receipts: StoredReceipt[]): Promise<ArchiveMember> => {
      const lines = await linesOf(this.store, operatorId, receipts, (hash) => operatorCopies.grant(operatorId, hash));
      return { operatorId, licenseId: receipts[0].receipt.licenseId, receipts, lines };
    };
    let own: StoredReceipt[] = [];
    for (const some of chunks(receipts)) {
      const copies = await this.store.copies.find(operatorId, some);
      for (const { hash } of some) {
        const copy = copies.get(hash);
        if (copy === undefined) continue;
        const stored = { ...decodeReceipt(copy.record), hash, versionId, state: "batched" as const, batchId };
        if (own.length > 0 && own[0].receipt.licenseId !== stored.receipt.licenseId) {
          yield await member(own);
          own = [];
        }
        own.push(stored);
      }
    }
    if (own.length > 0) yield await member(own);
  }
}

/**
 * The receipts of a batch that an attestor archived, in the order of its sum tree, each with its request's signature after it, if it
 * has one; none if it isn't archived.
 * @throws Error that names the file, if it can't be read
 */
export async function archivedRecords(rows: ArchiveRows, dataFolder: string, batchId: string): Promise<Buffer[]> {
  return (await rows.spansOf(batchId)).flatMap((span) =>
    readArchived(copiesFolder(dataFolder), span).map((stored) =>
      Buffer.concat([encodeReceipt(stored), stored.requestSignature ?? Buffer.alloc(0)]),
    ),
  );
}
