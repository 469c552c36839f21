/**
 * The binary form of signed receipts, as gateways, settlers and attestors exchange and keep them: every field in the order
 * of the EIP-712 struct, in its own width, big-endian, then the signature's 65 bytes. Each receipt has one form, and what
 * decodes encodes to the same bytes.
 *
 * A receipt whose request was signed travels with that signature after it (`requestSignature.ts`). A frame of version 1 is a
 * version byte and any number of records; in one of version 2 a byte before each says whether a request's signature follows it.
 *
 * All work on records is done on the bytes as they are: digests are computed and signers recovered without an object.
 */
import { getAddress, type TypedDataDomain } from "ethers";
import { keccak } from "./keccak";
import { domainSeparator, highS, MalformedMessage, recoverPublicKey, RECEIPT_TYPES } from "./messages";
import { REQUEST_SIGNATURE_BYTES } from "./requestSignature";
import { usageBy } from "./meters";
import { METERS, type Receipt, type ReceiptCounts, type SignedReceipt } from "./types";

/** What a request with frames in it, or an answer, says that it is. */
export const RECEIPTS_MEDIA_TYPE = "application/vnd.licet.receipts";

const PLAIN_FRAME = 1;
const MIXED_FRAME = 2;
const SIGNATURE_BYTES = 65;
const SLOT_BYTES = 32;

interface Field {
  name: keyof Receipt;
  /** Where it begins in a record, and how long it is. */
  at: number;
  bytes: number;
  kind: "bytes" | "number" | "bigint";
}

/** A number wider than this is a bigint in the object. */
const WIDEST_NUMBER_BYTES = 5;

const FIELDS: Field[] = [];
let length = 0;
for (const { name, type } of RECEIPT_TYPES.Receipt) {
  const bytes = type === "bytes32" ? 32 : Number(type.slice("uint".length)) / 8;
  const isBigint = bytes > WIDEST_NUMBER_BYTES || (METERS as readonly string[]).includes(name);
  const kind = type === "bytes32" ? "bytes" : isBigint ? "bigint" : "number";
  FIELDS.push({ name: name as keyof Receipt, at: length, bytes, kind });
  length += bytes;
}

/** Where each begins in a record. */
const AT = Object.fromEntries(FIELDS.map(({ name, at }) => [name, at])) as Record<keyof Receipt, number>;

/** Where the signature begins: what comes before it is the receipt. */
const SIGNATURE_AT = length;

/** The length of a record. */
export const RECORD_BYTES = SIGNATURE_AT + SIGNATURE_BYTES;

/** Ids and numbers count from 1, and stores hold 63 bits of them. */
const COUNTED_FIELDS: (keyof Receipt)[] = ["licenseId", "sequence"];
const COUNTED_AT = COUNTED_FIELDS.map((name) => ({ name, at: fieldOf(name).at }));

function fieldOf(name: keyof Receipt): Field {
  return FIELDS.find((field) => field.name === name)!;
}

// Records

/** @throws MalformedMessage if a field doesn't fit in its width, or the signature isn't one of the lower s */
export function encodeReceipt({ receipt, signature }: SignedReceipt): Buffer {
  const record = Buffer.alloc(RECORD_BYTES);
  for (const { name, at, bytes, kind } of FIELDS) {
    const value = receipt[name];
    if (kind === "bytes") record.set(hexOf(name, value as string, bytes), at);
    else writeNumber(record, name, at, bytes, value as number | bigint);
  }
  record.set(hexOf("signature", signature, SIGNATURE_BYTES), SIGNATURE_AT);
  requireCanonical(record);
  return record;
}

/** @throws MalformedMessage unless it is exactly what `encodeReceipt` gives */
export function decodeReceipt(record: Uint8Array): SignedReceipt {
  const bytes = bufferOf(record);
  requireCanonical(bytes);
  const bytes32 = (at: number) => "0x" + bytes.toString("hex", at, at + 32);
  const uint32 = (at: number) => BigInt(bytes.readUInt32BE(at));
  // Written out: a loop over the fields takes half as long again, and attestors decode all receipts of a batch.
  const receipt: Receipt = {
    licenseId: bytes.readBigUInt64BE(AT.licenseId),
    operatorId: bytes.readUIntBE(AT.operatorId, 3),
    planId: bytes.readUInt32BE(AT.planId),
    manifestHash: bytes32(AT.manifestHash),
    generation: bytes.readUInt16BE(AT.generation),
    grantHash: bytes32(AT.grantHash),
    sequence: bytes.readBigUInt64BE(AT.sequence),
    previousHash: bytes32(AT.previousHash),
    requestId: bytes32(AT.requestId),
    requestHash: bytes32(AT.requestHash),
    responseHash: bytes32(AT.responseHash),
    requestSignatureHash: bytes32(AT.requestSignatureHash),
    finishedAt: bytes.readUIntBE(AT.finishedAt, 5),
    durationMs: bytes.readUInt32BE(AT.durationMs),
    ttftMs: bytes.readUInt32BE(AT.ttftMs),
    requests: uint32(AT.requests),
    inputTokens: uint32(AT.inputTokens),
    cachedInputTokens: uint32(AT.cachedInputTokens),
    outputTokens: uint32(AT.outputTokens),
    computeMs: uint32(AT.computeMs),
    flags: bytes.readUInt32BE(AT.flags),
  };
  return { receipt, signature: "0x" + bytes.toString("hex", SIGNATURE_AT, RECORD_BYTES) };
}

/**
 * A record's receipt, which lies in the record still: of the many receipts that a batch has, most fields are looked at once or
 * never, and are read then. It isn't to be spread: it has its fields by name alone.
 * @throws MalformedMessage unless the record is exactly what `encodeReceipt` gives
 */
export function receiptIn(record: Uint8Array): Receipt {
  requireCanonical(record);
  return new RecordedReceipt(bufferOf(record)) as unknown as Receipt;
}

class RecordedReceipt {
  // By these, receipts are sorted and looked up again and again.
  readonly licenseId: bigint;
  readonly sequence: bigint;
  readonly grantHash: string;
  readonly requestId: string;

  constructor(readonly record: Buffer) {
    this.licenseId = record.readBigUInt64BE(AT.licenseId);
    this.sequence = record.readBigUInt64BE(AT.sequence);
    this.grantHash = "0x" + record.toString("hex", AT.grantHash, AT.grantHash + 32);
    this.requestId = "0x" + record.toString("hex", AT.requestId, AT.requestId + 32);
  }
}

const READ_AT_ONCE: (keyof Receipt)[] = ["licenseId", "sequence", "grantHash", "requestId"];

for (const { name, at, bytes, kind } of FIELDS) {
  if (READ_AT_ONCE.includes(name)) continue;
  const read = {
    bytes: ({ record }: RecordedReceipt) => "0x" + record.toString("hex", at, at + bytes),
    number: ({ record }: RecordedReceipt) => record.readUIntBE(at, bytes),
    bigint: ({ record }: RecordedReceipt) => BigInt(record.readUIntBE(at, bytes)),
  }[kind];
  Object.defineProperty(RecordedReceipt.prototype, name, {
    get(this: RecordedReceipt) {
      return read(this);
    },
  });
}

/** @throws MalformedMessage unless it is a record that some receipt has; who signed it isn't looked at */
export function requireCanonical(record: Uint8Array): void {
  if (record.length !== RECORD_BYTES) {
    throw new MalformedMessage(`a receipt's record has ${RECORD_BYTES} bytes, not ${record.length}`);
  }
  for (const { name, at } of COUNTED_AT) {
    if (record[at] < 0x80) continue;
    throw new MalformedMessage(`${name} must be below 2^63, not ${bufferOf(record).readBigUInt64BE(at)}`);
  }
  const v = record[RECORD_BYTES - 1];
  if (v !== 27 && v !== 28) throw new MalformedMessage(`signature's v must be 27 or 28, not ${v}`);
  if (isHighS(record)) throw highS();
}

/** Most s differ from half of the order, 0x7fff…, in their first byte. */
function isHighS(record: Uint8Array): boolean {
  const at = SIGNATURE_AT + 32;
  if (record[at] !== 0x7f) return record[at] > 0x7f;
  return bufferOf(record).compare(HALF_ORDER, 0, 32, at, at + 32) > 0;
}

const HALF_ORDER = Buffer.from("7fffffffffffffffffffffffffffffff5d576e7357a4501ddfe92f46681b20a0", "hex");

function writeNumber(record: Buffer, name: string, at: number, bytes: number, value: number | bigint): void {
  const limit = 2n ** BigInt(8 * bytes);
  const whole = typeof value === "bigint" ? value : BigInt(requireWhole(name, value));
  if (whole < 0n || whole >= limit) throw new MalformedMessage(`${name} must fit in uint${8 * bytes}, not ${value}`);
  if (bytes === 8) record.writeBigUInt64BE(whole, at);
  else record.writeUIntBE(Number(whole), at, bytes);
}

function requireWhole(name: string, value: number): number {
  if (Number.isSafeInteger(value)) return value;
  throw new MalformedMessage(`${name} must be a whole number, not ${value}`);
}

function hexOf(name: string, hex: string, bytes: number): Buffer {
  const decoded = Buffer.from(hex.slice(2), "hex");
  if (hex.startsWith("0x") && decoded.length === bytes && hex.length === 2 + 2 * bytes) return decoded;
  throw new MalformedMessage(`${name} must be ${bytes} bytes in hex with 0x, not ${hex}`);
}

function bufferOf(bytes: Uint8Array): Buffer {
  return Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
}

/** What of a receipt tells whose it is, and when it ended. */
export type ReceiptSubject = Pick<Receipt, "operatorId" | "planId" | "licenseId" | "sequence" | "finishedAt">;

const SUBJECT_AT = {
  operatorId: fieldOf("operatorId").at,
  planId: fieldOf("planId").at,
  licenseId: fieldOf("licenseId").at,
  sequence: fieldOf("sequence").at,
  finishedAt: fieldOf("finishedAt").at,
};

/** Of a record, without the rest of it. */
export function subjectOf(record: Uint8Array): ReceiptSubject {
  const bytes = bufferOf(record);
  return {
    operatorId: bytes.readUIntBE(SUBJECT_AT.operatorId, 3),
    planId: bytes.readUInt32BE(SUBJECT_AT.planId),
    licenseId: bytes.readBigUInt64BE(SUBJECT_AT.licenseId),
    sequence: bytes.readBigUInt64BE(SUBJECT_AT.sequence),
    finishedAt: bytes.readUIntBE(SUBJECT_AT.finishedAt, 5),
  };
}

const GRANT_HASH_AT = fieldOf("grantHash").at;

/** The grant that a record names, in hex. */
export function grantHashIn(record: Uint8Array): string {
  return `0x${bufferOf(record).toString("hex", GRANT_HASH_AT, GRANT_HASH_AT + 32)}`;
}

// Requests' signatures

const REQUEST_SIGNATURE_HASH_AT = fieldOf("requestSignatureHash").at;
const NO_HASH = Buffer.alloc(32);

/** What a record says of its request's signature, in hex; null if that is nothing. */
export function requestSignatureHashIn(record: Uint8Array): string | null {
  const hash = bufferOf(record).subarray(REQUEST_SIGNATURE_HASH_AT, REQUEST_SIGNATURE_HASH_AT + 32);
  return hash.equals(NO_HASH) ? null : `0x${hash.toString("hex")}`;
}

const FLAGS_AT = fieldOf("flags").at;

/** Of a record, its flags. */
export function flagsIn(record: Uint8Array): number {
  return bufferOf(record).readUInt32BE(FLAGS_AT);
}

export interface SplitRecord {
  record: Buffer;
  /** Packed; null where none came along. */
  requestSignature: Buffer | null;
}

/** A record as it is brought, and the signature of its request. */
export function splitRecord(brought: Uint8Array): SplitRecord {
  const bytes = bufferOf(brought);
  const hasSignature = bytes.length === RECORD_BYTES + REQUEST_SIGNATURE_BYTES;
  return {
    record: hasSignature ? bytes.subarray(0, RECORD_BYTES) : bytes,
    requestSignature: hasSignature ? bytes.subarray(RECORD_BYTES) : null,
  };
}

// Frames

/** Many records for one message, each with its request's signature after it, if it has one. */
export function frameOf(records: readonly Uint8Array[]): Buffer {
  if (records.every(({ length }) => length % RECORD_BYTES === 0))
    return Buffer.concat([Buffer.of(PLAIN_FRAME), ...records]);
  const flagged = records.flatMap((record) => [Buffer.of(record.length === RECORD_BYTES ? 0 : 1), record]);
  return Buffer.concat([Buffer.of(MIXED_FRAME), ...flagged]);
}

/** A frame's records, which lie in it still. @throws MalformedMessage if it isn't one; the records aren't looked at */
export function recordsOf(frame: Uint8Array): Buffer[] {
  if (frame.length === 0) throw new MalformedMessage("a frame of receipts begins with its version: this is empty");
  switch (frame[0]) {
    case PLAIN_FRAME:
      return plainRecordsOf(bufferOf(frame));
    case MIXED_FRAME:
      return mixedRecordsOf(bufferOf(frame));
    default:
      throw new MalformedMessage(
        `a frame of receipts has version ${PLAIN_FRAME} or ${MIXED_FRAME}, not ${frame[0]}: update the other side`,
      );
  }
}

function plainRecordsOf(bytes: Buffer): Buffer[] {
  const excess = (bytes.length - 1) % RECORD_BYTES;
  if (excess > 0) throw cutShort(excess);
  const records: Buffer[] = [];
  for (let at = 1; at < bytes.length; at += RECORD_BYTES) records.push(bytes.subarray(at, at + RECORD_BYTES));
  return records;
}

function mixedRecordsOf(bytes: Buffer): Buffer[] {
  const records: Buffer[] = [];
  for (let at = 1; at < bytes.length;) {
    const flag = bytes[at++];
    if (flag > 1) throw new MalformedMessage(`a record in a frame is marked with 0 or 1, not ${flag}`);
    const end = at + RECORD_BYTES + flag * REQUEST_SIGNATURE_BYTES;
    if (end > bytes.length) throw cutShort(bytes.length - at);
    records.push(bytes.subarray(at, end));
    at = end;
  }
  return records;
}

function cutShort(excess: number): MalformedMessage {
  return new MalformedMessage(`a frame has records of ${RECORD_BYTES} bytes; this one is cut short after ${excess}`);
}

// Digests and signers

/** Bytes that go from a record to a struct's slots as they lie: neighbours of 32 bytes each go together. */
const RUNS: { from: number; to: number; bytes: number }[] = [];
FIELDS.forEach(({ at, bytes }, i) => {
  const to = SLOT_BYTES * (2 + i) - bytes;
  const last = RUNS.at(-1);
  if (last !== undefined && last.from + last.bytes === at && last.to + last.bytes === to) last.bytes += bytes;
  else RUNS.push({ from: at, to, bytes });
});

/** Below this, a loop is faster than a call. */
const SHORT_RUN = 16;

const typeSignature = `Receipt(${RECEIPT_TYPES.Receipt.map(({ type, name }) => `${type} ${name}`).join(",")})`;
/** Type hash and fields, filled anew for each record: what lies between the fields stays zero. */
const slots = Buffer.alloc(SLOT_BYTES * (1 + FIELDS.length));
slots.set(keccak(Buffer.from(typeSignature)));
const digested = Buffer.from("1901".padEnd(2 * (2 + 2 * SLOT_BYTES), "0"), "hex");

/** The receipt's EIP-712 digest, "the receipt hash": 32 bytes. */
export function recordDigest(domain: TypedDataDomain, record: Uint8Array): Uint8Array {
  for (const { from, to, bytes } of RUNS) {
    if (bytes >= SHORT_RUN) slots.set(record.subarray(from, from + bytes), to);
    else for (let i = 0; i < bytes; i++) slots[to + i] = record[from + i];
  }
  digested.set(domainSeparator(domain), 2);
  digested.set(keccak(slots), 2 + SLOT_BYTES);
  return keccak(digested);
}

const LEAF_TAG = 0;
const SUM_BYTES = 8;
const LICENSE_AT = fieldOf("licenseId").at;
const METERS_AT = METERS.map((meter) => fieldOf(meter).at);
const METER_BYTES = 4;
const signedReceipt = Buffer.alloc(32 + SIGNATURE_BYTES);
/** As `leafHash` has it: what lies before a meter's four bytes in its sum stays zero. */
const leaf = Buffer.alloc(1 + 32 + 8 + SUM_BYTES * METERS.length, LEAF_TAG);

/**
 * The hash of a receipt's leaf in its batch's sum tree: 32 bytes, the same as `leafHash` gives.
 * @param digest the record's
 */
export function recordLeaf(record: Uint8Array, digest: Uint8Array): Uint8Array {
  signedReceipt.set(digest);
  signedReceipt.set(record.subarray(SIGNATURE_AT, RECORD_BYTES), 32);
  leaf.set(keccak(signedReceipt), 1);
  leaf.set(record.subarray(LICENSE_AT, LICENSE_AT + 8), 33);
  METERS_AT.forEach((at, m) => {
    const to = 41 + SUM_BYTES * m + SUM_BYTES - METER_BYTES;
    for (let i = 0; i < METER_BYTES; i++) leaf[to + i] = record[at + i];
  });
  return keccak(leaf);
}

/** What of a receipt a batch counts, without the rest of it. */
export function countsOf(record: Uint8Array): ReceiptCounts {
  const bytes = bufferOf(record);
  return {
    licenseId: bytes.readBigUInt64BE(LICENSE_AT),
    sequence: bytes.readBigUInt64BE(SUBJECT_AT.sequence),
    finishedAt: bytes.readUIntBE(SUBJECT_AT.finishedAt, 5),
    ...usageBy((_, m) => BigInt(bytes.readUInt32BE(METERS_AT[m]))),
  };
}

/**
 * The 20 bytes of the address that signed a record's digest.
 * @throws MalformedMessage if the record isn't canonical, or its signature of no key
 */
export function recordSigner(record: Uint8Array, digest: Uint8Array): Uint8Array {
  requireCanonical(record);
  const signature = record.subarray(SIGNATURE_AT, SIGNATURE_AT + 64);
  const publicKey = recoverPublicKey(digest, signature, record[RECORD_BYTES - 1] - 27);
  return keccak(publicKey.subarray(1)).subarray(12);
}

/** A record's digest in hex and its signer's checksummed address. @throws MalformedMessage as `recordSigner` does */
export function checkRecord(domain: TypedDataDomain, record: Uint8Array): { hash: string; signer: string } {
  const digest = recordDigest(domain, record);
  const signer = recordSigner(record, digest);
  return { hash: "0x" + bufferOf(digest).toString("hex"), signer: getAddress("0x" + bufferOf(signer).toString("hex")) };
}
