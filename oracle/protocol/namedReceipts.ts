/** Receipts by what names them: so many that they are kept, and travel, as bytes one after another. */
import { MalformedMessage } from "./messages";

/** One of an operator's receipts. */
export interface NamedReceipt {
  licenseId: bigint;
  sequence: bigint;
  /** Its EIP-712 digest. */
  hash: string;
}

const HASH_BYTES = 32;
/** Of a license's id, and as many of the receipt's number. */
const ID_BYTES = 8;

/** A license's id, a number and a hash. */
export const NAME_BYTES = 2 * ID_BYTES + HASH_BYTES;

export function namesToBytes(names: readonly NamedReceipt[]): Buffer {
  const bytes = Buffer.alloc(NAME_BYTES * names.length);
  names.forEach(({ licenseId, sequence, hash }, i) => {
    const at = NAME_BYTES * i;
    bytes.writeBigInt64BE(licenseId, at);
    bytes.writeBigInt64BE(sequence, at + ID_BYTES);
    bytes.write(hash.slice(2), at + 2 * ID_BYTES, "hex");
  });
  return bytes;
}

/** @throws MalformedMessage */
export function namesFromBytes(bytes: Buffer): NamedReceipt[] {
  return Array.from({ length: bytes.length / NAME_BYTES }, (_, i) => {
    const at = NAME_BYTES * i;
    const [licenseId, sequence] = [bytes.readBigInt64BE(at), bytes.readBigInt64BE(at + ID_BYTES)];
    if (licenseId < 0n || sequence < 0n) {
      throw new MalformedMessage(`receipt ${i} has a number of 2^63 or above, or its license has`);
    }
    return { licenseId, sequence, hash: `0x${bytes.toString("hex", at + 2 * ID_BYTES, at + NAME_BYTES)}` };
  });
}

/** Receipts that a license numbered one after another. */
export interface NamedSpan {
  licenseId: bigint;
  first: bigint;
  last: bigint;
  /** Without repetitions. */
  hashes: string[];
}

/** Cuts names, in whatever order, where a license or its numbers break off. */
export function namedSpans(names: readonly NamedReceipt[]): NamedSpan[] {
  const spans: NamedSpan[] = [];
  let before: NamedReceipt | undefined;
  for (const name of [...names].sort(byPlace)) {
    const { licenseId, sequence, hash } = name;
    if (before !== undefined && byPlace(before, name) === 0) continue;
    const span = spans.at(-1);
    if (span !== undefined && span.licenseId === licenseId && span.last + 1n >= sequence) {
      span.last = sequence;
      span.hashes.push(hash);
    } else spans.push({ licenseId, first: sequence, last: sequence, hashes: [hash] });
    before = name;
  }
  return spans;
}

/** By license, number and hash. */
function byPlace(a: NamedReceipt, b: NamedReceipt): number {
  if (a.licenseId !== b.licenseId) return a.licenseId < b.licenseId ? -1 : 1;
  if (a.sequence !== b.sequence) return a.sequence < b.sequence ? -1 : 1;
  return a.hash < b.hash ? -1 : Number(a.hash > b.hash);
}
