/** What an attestor gives to who reports a breach: the operator's signature of a batch, and its receipts. */
import { hexlify } from "ethers";
import { Problem, shown } from "../problem";
import { headerToJson, signedMeasurementToJson, signedReceiptToJson } from "../protocol/messages";
import { decodeReceipt, splitRecord } from "../protocol/receiptBytes";
import { ArchiveRows } from "../store/archiveRows";
import { archivedRecords } from "../store/copyArchive";
import type { Database } from "../store/database";
import { OperatorCopies } from "../store/operatorCopies";

/**
 * A batch that the attestor signed, in JSON: its header, the operator's proposal of it, what its service level rests on, and the copies
 * that are left of its receipts, in the order of its tree.
 * @param dataFolder where its archives are, if it has any
 * @throws Problem if it never signed it, or has forgotten what
 */
export async function shownBatch(database: Database, batchId: string, dataFolder?: string): Promise<object> {
  if (!/^0x[0-9a-f]{64}$/.test(batchId)) {
    throw new Problem(`--id must be a batch's, 0x and 64 lowercase hex digits, as batch:show prints it; it is ${shown(batchId)}.`); // prettier-ignore
  }
  const batch = await new OperatorCopies(database).signedBatch(batchId);
  if (batch === null) throw new Problem(`This attestor never signed a batch ${batchId}: ask another of the committee.`);
  const archived =
    dataFolder === undefined ? [] : await archivedRecords(new ArchiveRows(database), dataFolder, batchId);
  const { signedOff } = batch;
  const records = archived.length > 0 ? archived : batch.records;
  if (signedOff === null) {
    throw new Problem(`Batch ${batchId} ended over sixty days ago: breaches of it can't be reported any more.`);
  }
  const { header, measurements, proposal } = signedOff;
  return {
    batch: batchId,
    header: headerToJson(header),
    proposal,
    measurements: measurements.map(signedMeasurementToJson),
    missing: Number(header.count) - records.length,
    receipts: records.map(receiptToShow),
  };
}

/** As gateways show them. */
function receiptToShow(bytes: Uint8Array): object {
  const { record, requestSignature } = splitRecord(Buffer.from(bytes));
  const signature = requestSignature === null ? null : hexlify(requestSignature);
  return { ...signedReceiptToJson(decodeReceipt(record)), request_signature: signature };
}
