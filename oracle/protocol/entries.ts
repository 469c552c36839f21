import { AbiCoder, getBytes, hexlify, keccak256 } from "ethers";
import { metersOverUint32, sumUsage, usageBy, usageOf } from "./meters";
import { METERS, type Entry, type Receipt, type Usage } from "./types";

/** The most entries that the escrow takes in a batch. */
export const MAX_ENTRIES = 2_000;
const ENTRY_BYTES = 28;
const OUTCOME_BYTES = 16;

/** What settlement did with an entry. */
export const EntryStatus = {
  Charged: 0,
  /** Charged as far as the balance went. */
  BalanceExhausted: 1,
  /** Charged as far as a cap allowed. */
  CapReached: 2,
  UnknownLicense: 3,
  WrongPlan: 4,
  WrongOperator: 5,
  WrongRoad: 6,
  TermNotRunning: 7,
  /** The epoch began after the license was locked or ended. */
  Stopped: 8,
} as const;

export type EntryStatusName = keyof typeof EntryStatus;
const STATUS_NAMES = Object.keys(EntryStatus) as EntryStatusName[];

export interface Outcome {
  licenseId: bigint;
  /** Units of the currency. */
  charged: bigint;
  status: EntryStatusName;
}

/**
 * The total of each license over the receipts, ascending by license.
 * Throws RangeError if a license's total exceeds a uint32: the epoch must be cut shorter.
 */
export function entriesOf(receipts: Iterable<Usage & Pick<Receipt, "licenseId">>): Entry[] {
  const totals = new Map<bigint, Usage>();
  for (const receipt of receipts) {
    const total = totals.get(receipt.licenseId);
    if (total === undefined) totals.set(receipt.licenseId, usageOf(receipt));
    else for (const meter of METERS) total[meter] += receipt[meter];
  }
  const entries = [...totals].map(([licenseId, usage]) => ({ licenseId, ...usage }));
  entries.forEach(refuseOverUint32);
  return entries.sort((a, b) => (a.licenseId < b.licenseId ? -1 : 1));
}

/** The sum of the entries, which a batch's header must state. */
export function totalOf(entries: Iterable<Entry>): Usage {
  return sumUsage(entries);
}

/** The entries as settlement takes them, in hex. Throws RangeError unless they ascend, fit and are at most MAX_ENTRIES. */
export function packEntries(entries: readonly Entry[]): string {
  if (entries.length > MAX_ENTRIES) throw new RangeError(`${entries.length} entries: a batch holds ${MAX_ENTRIES}`);
  refuseDisorder(entries);
  const packed = Buffer.alloc(entries.length * ENTRY_BYTES);
  entries.forEach((entry, i) => {
    refuseOverUint32(entry);
    const start = i * ENTRY_BYTES;
    packed.writeBigUInt64BE(entry.licenseId, start);
    METERS.forEach((meter, m) => packed.writeUInt32BE(Number(entry[meter]), start + 8 + 4 * m));
  });
  return hexlify(packed);
}

/** The inverse of `packEntries`, and as strict. */
export function unpackEntries(packed: string): Entry[] {
  const entries = records("entries", packed, ENTRY_BYTES).map((record) => ({
    licenseId: record.readBigUInt64BE(0),
    ...usageBy((meter) => BigInt(record.readUInt32BE(8 + 4 * METERS.indexOf(meter)))),
  }));
  refuseDisorder(entries);
  return entries;
}

export function packOutcomes(outcomes: readonly Outcome[]): string {
  const packed = Buffer.alloc(outcomes.length * OUTCOME_BYTES);
  outcomes.forEach(({ licenseId, charged, status }, i) => {
    packed.writeBigUInt64BE(licenseId, i * OUTCOME_BYTES);
    packed.writeBigUInt64BE((charged << 8n) | BigInt(EntryStatus[status]), i * OUTCOME_BYTES + 8);
  });
  return hexlify(packed);
}

/** What a BatchSettled event says of each entry, in the entries' order. Throws RangeError on an unknown status. */
export function unpackOutcomes(packed: string): Outcome[] {
  return records("outcomes", packed, OUTCOME_BYTES).map((record) => {
    const code = record[OUTCOME_BYTES - 1];
    if (code >= STATUS_NAMES.length) throw new RangeError(`${code} is no entry status`);
    return {
      licenseId: record.readBigUInt64BE(0),
      charged: record.readBigUInt64BE(8) >> 8n,
      status: STATUS_NAMES[code],
    };
  });
}

/** Where what a batch has charged to a license is kept, once it was split off the batch. */
export const chargeIdOf = (batchId: string, licenseId: bigint): string =>
  keccak256(AbiCoder.defaultAbiCoder().encode(["bytes32", "uint64"], [batchId, licenseId]));

function records(what: string, packed: string, recordBytes: number): Buffer[] {
  const bytes = Buffer.from(getBytes(packed));
  if (bytes.length % recordBytes !== 0) {
    throw new RangeError(`${what} must come in records of ${recordBytes} bytes, not ${bytes.length} bytes`);
  }
  return Array.from({ length: bytes.length / recordBytes }, (_, i) =>
    bytes.subarray(i * recordBytes, (i + 1) * recordBytes),
  );
}

function refuseOverUint32(entry: Entry): void {
  const over = metersOverUint32(usageOf(entry));
  if (over.length > 0) {
    throw new RangeError(`license ${entry.licenseId} has over 2^32 - 1 of ${over.join(", ")}: cut the epoch shorter`);
  }
}

function refuseDisorder(entries: readonly Entry[]): void {
  const misplaced = entries.findIndex((entry, i) => i > 0 && entry.licenseId <= entries[i - 1].licenseId);
  if (misplaced > 0) {
    const [before, after] = [entries[misplaced - 1].licenseId, entries[misplaced].licenseId];
    throw new RangeError(`entries must ascend by license: ${after} comes after ${before}`);
  }
}
