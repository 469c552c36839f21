/** A license's receipts, as its operator's gateway gives them to whoever has one of its grants. */
import { textOf } from "../attestor/reading";
import { Problem, reasonOf, shown } from "../problem";
import { MalformedMessage, signedReceiptFromJson } from "../protocol/messages";
import { requestSignatureBytes } from "../protocol/requestSignature";
import type { SignedReceipt } from "../protocol/types";

/** A receipt and what the gateway says of it, none of which is believed yet. */
export interface ListedReceipt extends SignedReceipt {
  state: string;
  /** The batch that it is in, if it is in one. */
  batchId: string | null;
  /** Packed; null if the gateway shows none. */
  requestSignature: Uint8Array | null;
}

const PAGE = 500;
/** Several times what as many receipts take. */
const MOST_BYTES = 8 * 2 ** 20;
const TIMEOUT_MS = 30_000;
/** A gateway that never comes to an end isn't followed for ever. */
const MOST_RECEIPTS = 5_000_000;

/** All receipts of the license that the API key is of, from a number on. @throws Problem if the gateway doesn't give them */
export async function listReceipts(gatewayUrl: string, apiKey: string, from = 1n): Promise<ListedReceipt[]> {
  const all: ListedReceipt[] = [];
  for (let hasMore = true; hasMore;) {
    const last = all.at(-1)?.receipt.sequence;
    const page = await readPage(gatewayUrl, apiKey, last === undefined ? from : last + 1n);
    all.push(...page.receipts);
    hasMore = page.hasMore && page.receipts.length > 0;
    if (all.length > MOST_RECEIPTS) throw new Problem(`${gatewayUrl} gives over ${MOST_RECEIPTS} receipts.`);
  }
  return all;
}

interface Page {
  receipts: ListedReceipt[];
  hasMore: boolean;
}

function readPage(gatewayUrl: string, apiKey: string, from: bigint): Promise<Page> {
  return readJson(gatewayUrl, `/v1/receipts?from=${from}&limit=${PAGE}`, apiKey, "receipts", pageOf);
}

/** What a gateway answers to whoever has an API key. @param what it is called in a Problem, which is thrown if it isn't that */
export async function readJson<T>(
  gatewayUrl: string,
  path: string,
  apiKey: string,
  what: string,
  parse: (json: unknown) => T,
): Promise<T> {
  const url = gatewayUrl.replace(/\/+$/, "") + path;
  const { status, text } = await read(url, apiKey);
  try {
    if (status !== 200) throw new MalformedMessage(`it answered ${status}: ${shown(errorIn(text))}`);
    return parse(JSON.parse(text));
  } catch (cause) {
    throw new Problem(`${url} gives no ${what} (${reasonOf(cause)}).`, { cause });
  }
}

async function read(url: string, apiKey: string): Promise<{ status: number; text: string }> {
  try {
    const signal = AbortSignal.timeout(TIMEOUT_MS);
    const response = await fetch(url, { headers: { authorization: `Bearer ${apiKey}` }, redirect: "manual", signal });
    return { status: response.status, text: await textOf(response, MOST_BYTES) };
  } catch (cause) {
    throw new Problem(`${url} can't be read (${reasonOf((cause as Error).cause ?? cause)}): is the gateway there?`, {
      cause,
    });
  }
}

function errorIn(text: string): string {
  try {
    return String((JSON.parse(text) as { error: { message: string } }).error.message);
  } catch {
    return text;
  }
}

function pageOf(json: unknown): Page {
  const { data, has_more: hasMore } = (json ?? {}) as { data?: unknown; has_more?: unknown };
  if (!Array.isArray(data) || typeof hasMore !== "boolean") throw new MalformedMessage("it is no list of receipts");
  return { receipts: data.map(listedOf), hasMore };
}

function listedOf(json: unknown): ListedReceipt {
  const listed = (json ?? {}) as Record<string, unknown>;
  const { receipt, signature, state, batch_id: batchId, request_signature: requestSignature = null } = listed;
  const isBatch = batchId === null || (typeof batchId === "string" && /^0x[0-9a-f]{64}$/.test(batchId));
  if (typeof state !== "string" || !isBatch) throw new MalformedMessage("a receipt has no state, or no batch's id");
  return {
    ...signedReceiptFromJson({ receipt, signature }),
    state,
    batchId: batchId as string | null,
    requestSignature: requestSignature === null ? null : requestSignatureBytes(requestSignature),
  };
}
