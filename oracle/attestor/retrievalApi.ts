/** How an operator gets back from an attestor what it lost, and has it keep what it may lose: the form of both sides, and the operator's calls. */
import {
  jsonIn,
  jsonOf,
  listOf,
  MOST_ANSWER_BYTES,
  objectOf,
  RECEIPTS_PATH,
  stringOf,
  unexpected,
} from "./attestorApi";
import { piecesOf } from "./reading";
import { type DigestSigner, retrievalToSign } from "../keys/digestSigner";
import {
  MalformedMessage,
  retrievalFromJson,
  retrievalToJson,
  signedGrantFromJson,
  signedGrantToJson,
} from "../protocol/messages";
import { recordsOf, requireCanonical, splitRecord } from "../protocol/receiptBytes";
import type { Retrieval, SignedGrant } from "../protocol/types";
import type { TypedDataDomain } from "ethers";
import { type SignedOff, signedOffFromJson, type UsedGrant } from "../store/operatorCopies";

/** Of each license the last receipt, where no copy is kept of it otherwise. */
export const LAST_RECEIPTS_PATH = `${RECEIPTS_PATH}/last`;
export const GRANTS_PATH = "/v1/grants";
export const BATCHES_PATH = "/v1/batches";
/** The most grants that one message has. */
export const MOST_GRANTS_SENT = 500;
/** Says which operator asks: base64url of JSON. */
export const RETRIEVAL_HEADER = "x-licet-retrieval";
/** Up to where an answer goes: a license's id, or that and a receipt's number in one. */
export const POSITION_HEADER = "x-licet-position";
export const POSITION = /^[0-9]{1,39}$/;

export interface SignedRetrieval {
  retrieval: Retrieval;
  /** By a key of the operator's. */
  signature: string;
}

/** A grant as an attestor knows it. */
export interface KnownGrant extends UsedGrant {
  /** What its receipts cost that were attested, if it has a cap; 0 if not. Units of the currency. */
  used: bigint;
}

export async function signRetrieval(
  domain: TypedDataDomain,
  signer: DigestSigner,
  retrieval: Retrieval,
): Promise<SignedRetrieval> {
  return { retrieval, signature: await signer.sign(retrievalToSign(domain, retrieval)) };
}

/**
 * An operator's receipts from an attestor's copies, in the order in which it got them, MOST_RECEIPTS_SENT at a time.
 * @param after the position of the last answer; 0 to begin
 * @returns none at the end
 * @throws Error unless the attestor gives them in time; MalformedMessage if it gives something else
 */
export function retrieveReceipts(
  url: string,
  signed: SignedRetrieval,
  after: bigint,
  timeoutMs: number,
): Promise<{ records: Buffer[]; position: bigint }> {
  return retrieveRecords(`${url}${RECEIPTS_PATH}?after=${after}`, signed, timeoutMs);
}

/** The last receipts of licenses above one, by license, as `retrieveReceipts` gives others. */
export function retrieveLastReceipts(
  url: string,
  signed: SignedRetrieval,
  after: bigint,
  timeoutMs: number,
): Promise<{ records: Buffer[]; position: bigint }> {
  return retrieveRecords(`${url}${LAST_RECEIPTS_PATH}?after=${after}`, signed, timeoutMs);
}

/**
 * Grants that the operator used, by their hashes, MOST_GRANTS_SENT at a time.
 * @param after the hash of the last; "0x" to begin
 */
export async function retrieveGrants(
  url: string,
  signed: SignedRetrieval,
  after: string,
  timeoutMs: number,
): Promise<KnownGrant[]> {
  const response = await ask(`${url}${GRANTS_PATH}?after=${after}`, signed, timeoutMs);
  return listOf("grants", objectOf(await jsonOf(response)).grants).map(knownGrantFromJson);
}

/** The batches of the operator's that the attestor signed, that haven't settled, and may still. */
export async function retrieveBatches(url: string, signed: SignedRetrieval, timeoutMs: number): Promise<SignedOff[]> {
  const response = await ask(url + BATCHES_PATH, signed, timeoutMs);
  return listOf("batches", objectOf(await jsonOf(response)).batches).map(signedOffFromJson);
}

/**
 * Has an attestor keep grants; MOST_GRANTS_SENT at the most.
 * @returns how many of them it keeps
 * @throws Error unless it answers in time; GrantsRefused if it wouldn't take them later either
 */
export async function sendGrants(
  url: string,
  signed: SignedRetrieval,
  grants: readonly SignedGrant[],
  timeoutMs: number,
  signal?: AbortSignal,
): Promise<number> {
  const timeout = AbortSignal.timeout(timeoutMs);
  const response = await fetch(url + GRANTS_PATH, {
    method: "POST",
    headers: { "content-type": "application/json", [RETRIEVAL_HEADER]: retrievalToText(signed) },
    redirect: "error",
    body: JSON.stringify({ grants: grants.map(signedGrantToJson) }),
    signal: signal === undefined ? timeout : AbortSignal.any([timeout, signal]),
  });
  if (!response.ok) {
    const cause = await unexpected(response);
    throw response.status < 500 && response.status !== 429 ? new GrantsRefused(cause.message, { cause }) : cause;
  }
  const { kept } = objectOf(await jsonOf(response));
  if (Number.isSafeInteger(kept)) return kept as number;
  throw new MalformedMessage(`${url} doesn't say how many grants it keeps`);
}

/** An attestor takes no grants: it is of an older release, or doesn't know the key. */
export class GrantsRefused extends Error {}

async function ask(url: string, signed: SignedRetrieval, timeoutMs: number): Promise<Response> {
  const response = await fetch(url, {
    headers: { [RETRIEVAL_HEADER]: retrievalToText(signed) },
    redirect: "error",
    signal: AbortSignal.timeout(timeoutMs),
  });
  if (!response.ok) throw await unexpected(response);
  return response;
}

async function retrieveRecords(
  url: string,
  signed: SignedRetrieval,
  timeoutMs: number,
): Promise<{ records: Buffer[]; position: bigint }> {
  const response = await ask(url, signed, timeoutMs);
  const pieces: Uint8Array[] = [];
  for await (const piece of piecesOf(response, MOST_ANSWER_BYTES)) pieces.push(piece);
  const records = recordsOf(Buffer.concat(pieces));
  records.forEach((record) => requireCanonical(splitRecord(record).record));
  return { records, position: positionIn(response) };
}

function positionIn({ headers, url }: Response): bigint {
  const position = headers.get(POSITION_HEADER) ?? "";
  if (POSITION.test(position)) return BigInt(position);
  throw new MalformedMessage(`${url} doesn't say in ${POSITION_HEADER} up to where its answer goes`);
}

export function retrievalToText({ retrieval, signature }: SignedRetrieval): string {
  return Buffer.from(JSON.stringify({ retrieval: retrievalToJson(retrieval), signature })).toString("base64url");
}

/** @throws MalformedMessage */
export function retrievalFromText(text: unknown): SignedRetrieval {
  if (typeof text !== "string") throw new MalformedMessage(`say which operator asks in the header ${RETRIEVAL_HEADER}`);
  const { retrieval, signature } = objectOf(jsonIn(RETRIEVAL_HEADER, Buffer.from(text, "base64url").toString("utf8")));
  return { retrieval: retrievalFromJson(retrieval), signature: stringOf("signature", signature) };
}

export function knownGrantToJson({ hash, signed, used }: KnownGrant) {
  return { hash, ...signedGrantToJson(signed), used: String(used) };
}

function knownGrantFromJson(json: unknown): KnownGrant {
  const { used, hash, ...signed } = objectOf(json);
  if (typeof used !== "string" || !/^[0-9]{1,19}$/.test(used))
    throw new MalformedMessage("a grant lacks what was used");
  return { hash: stringOf("hash", hash), signed: signedGrantFromJson(signed), used: BigInt(used) };
}
