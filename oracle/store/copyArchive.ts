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
import { type ArchiveMember, linesOf, readArchived, removeArchive, writeArchive } from "./archive";
import type { ArchiveFacts, ArchiveRows } from "./archiveRows";
import type { UnarchivedBatch } from "./attestedBatches";
import { chunks } from "./lists";
import type { Store, StoredReceipt } from "./store";

/** Where an attestor's archives are, of what `archiveProblem` takes for a data folder. */
export const copiesFolder = (dataFolder: string): string => path.join(dataFolder, "attestor");

export class CopyArchive {
  private readonly folder: string;

  /** @param keepSeconds how long a file is kept */
  constructor(
    private readonly store: Pick<Store, "archive" | "attested" | "copiesOf" | "grant" | "requestSignatures">,
    dataFolder: string,
    private readonly keepSeconds: number,
  ) {
    this.folder = copiesFolder(dataFolder);
  }

  /**
   * Archives batches whose epochs ended before a time, and removes files that were kept long enough. Unix seconds.
   * @returns the archives that were made
   * @throws Error if a file can't be written or isn't what was written; then its receipts stay rows
   */
  async archiveDue(before: number, now: number): Promise<ArchiveFacts[]> {
    const { archive, attested } = this.store;
    const made: ArchiveFacts[] = [];
    for (let batch = await attested.unarchived(before); batch !== null; batch = await attested.unarchived(before)) {
      // It may have died between the file and the rows.
      const isWritten = (await archive.unmoved()).includes(batch.batchId);
      if (!isWritten) made.push(await this.write(batch, now));
      await attested.dropCopies(batch);
      await breathe();
    }
    for (const name of await archive.removeOlder(now - this.keepSeconds)) removeArchive(this.folder, name);
    return made;
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
    const member = async (receipts: StoredReceipt[]): Promise<ArchiveMember> => {
      const lines = await linesOf(this.store, operatorId, receipts);
      return { operatorId, licenseId: receipts[0].receipt.licenseId, receipts, lines };
    };
    let own: StoredReceipt[] = [];
    for (const some of chunks(receipts)) {
      const copies = await this.store.copiesOf(operatorId, some);
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
