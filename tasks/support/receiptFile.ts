/** Receipts in files, as gateways show them, attestors copy them, and archives keep them. */
import { readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";
import { hexlify } from "ethers";
import { MalformedMessage, signedReceiptFromJson } from "../../oracle/protocol/messages";
import { requestSignatureBytes } from "../../oracle/protocol/requestSignature";
import type { SignedReceipt } from "../../oracle/protocol/types";
import { Problem, reasonOf } from "../../oracle/problem";
import { parseBytes } from "./parameters";

/** A receipt of a file. */
export interface FiledReceipt extends SignedReceipt {
  /** Its request's signature, packed, in hex; null if the file has none. */
  requestSignature: string | null;
}

export interface ReceiptFile {
  receipts: FiledReceipt[];
  /** The operator's signature of the batch that they are of, if the file has it. */
  proposal?: string;
}

const GZIP = Buffer.from([0x1f, 0x8b]);

/**
 * Reads one receipt or many: an object or a list of `GET /v1/receipts`, an array of them, an object with `receipts` and perhaps
 * the batch's `proposal`, or a line each, compressed or not.
 * @throws Problem that names what isn't a receipt
 */
export function readReceipts(file: string, flag: string): ReceiptFile {
  try {
    const values = valuesIn(textOf(readFileSync(file)));
    const items = values.flatMap(itemsIn);
    if (items.length === 0) throw new MalformedMessage("there is no receipt in it");
    const proposal = values.map(proposalIn).find((one) => one !== undefined);
    return { receipts: items.map(receiptIn), ...(proposal === undefined ? {} : { proposal }) };
  } catch (cause) {
    throw new Problem(`${flag} ${file} must be receipts in JSON, as a gateway gives them: ${reasonOf(cause)}.`, {
      cause,
    });
  }
}

/** @throws Problem unless it is just one receipt */
export function readReceipt(file: string, flag: string): FiledReceipt {
  const { receipts } = readReceipts(file, flag);
  if (receipts.length === 1) return receipts[0];
  throw new Problem(`${flag} ${file} has ${receipts.length} receipts: keep the one that is meant.`);
}

const textOf = (bytes: Buffer): string =>
  (bytes.subarray(0, 2).equals(GZIP) ? gunzipSync(bytes) : bytes).toString("utf8");

/** One value, or one a line. */
function valuesIn(text: string): unknown[] {
  const lines = text.split("\n").filter((line) => line.trim() !== "");
  try {
    return [JSON.parse(text)];
  } catch (cause) {
    if (lines.length < 2) throw cause;
    return lines.map((line) => JSON.parse(line) as unknown);
  }
}

function itemsIn(value: unknown): unknown[] {
  if (Array.isArray(value)) return value;
  const { receipt, receipts, data, header } = (value ?? {}) as Record<string, unknown>;
  const list = receipts ?? data;
  if (Array.isArray(list)) return list;
  // An archive's first line is of its batch.
  return receipt === undefined && header !== undefined ? [] : [value];
}

function proposalIn(value: unknown): string | undefined {
  const { proposal } = (value ?? {}) as Record<string, unknown>;
  return proposal === undefined ? undefined : parseBytes(proposal, "proposal");
}

function receiptIn(value: unknown, i: number): FiledReceipt {
  try {
    const { receipt, signature, ...rest } = (value ?? {}) as Record<string, unknown>;
    const packed = rest.request_signature ?? rest.requestSignature ?? null;
    return {
      ...signedReceiptFromJson({ receipt, signature }),
      requestSignature: packed === null ? null : hexlify(requestSignatureBytes(packed)),
    };
  } catch (cause) {
    throw new MalformedMessage(`receipt ${i + 1}: ${reasonOf(cause)}`, { cause });
  }
}
