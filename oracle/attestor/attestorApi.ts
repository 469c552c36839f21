/** What settlers and attestors say to each other over HTTP: the form of both sides, and the settler's calls. */
import type { AttestationRequest } from "./batchFacts";
import type { Kept, RefusedReceipt } from "./copies";
import { NAME_BYTES, type NamedReceipt, namesFromBytes, namesToBytes } from "../protocol/namedReceipts";
import {
  headerFromJson,
  headerToJson,
  MalformedMessage,
  signedGrantFromJson,
  signedGrantToJson,
  signedMeasurementFromJson,
  signedMeasurementToJson,
} from "../protocol/messages";
import { frameOf, RECEIPTS_MEDIA_TYPE } from "../protocol/receiptBytes";
import { shown } from "../problem";
import { textOf } from "./reading";
import type { Epoch, Lane, SignedMeasurement } from "../protocol/types";

export const MEASUREMENTS_PATH = "/v1/measurements";
export const ATTESTATIONS_PATH = "/v1/attestations";
export const RECEIPTS_PATH = "/v1/receipts";
/** The most receipts that one request brings. */
export const MOST_RECEIPTS_SENT = 1_000;
/** How many reasons an answer lists. */
export const MOST_SENTENCES = 100;
/** Says whose batch it is before an attestor reads any of it: base64url of JSON. */
export const PROPOSAL_HEADER = "x-licet-proposal";

/** The part of a request that tells whether the rest is worth reading. */
export type ProposedBatch = Pick<AttestationRequest, "header" | "proposal">;

/** An attestor's signature over a batch's digest. */
export interface Attestation {
  signer: string;
  signature: string;
}

/** Why an attestor didn't sign. */
export interface AttestationRefusal {
  /** Sentences. */
  refusals: string[];
  /** The hashes of the receipts that it refuses, whatever batch they come in. */
  receipts: string[];
  /** Whether it would read a smaller batch. */
  isTooLarge?: true;
}

/** Receipts of a batch that an attestor has no copies of: it judges the batch once they were sent. */
export interface LackedReceipts {
  /** Their hashes. */
  lacking: string[];
}

/** @throws Error unless the attestor answers in time with a measurement; its signature isn't checked here */
export async function requestMeasurement(
  url: string,
  { operatorId, planId, versionId }: Lane,
  { epochStart, epochEnd }: Epoch,
  timeoutMs: number,
  signal?: AbortSignal,
): Promise<SignedMeasurement> {
  const body = { lane: { operatorId, planId, versionId: String(versionId) }, epoch: { epochStart, epochEnd } };
  const response = await post(url + MEASUREMENTS_PATH, body, within(timeoutMs, signal));
  if (!response.ok) throw await unexpected(response);
  return signedMeasurementFromJson(await jsonOf(response));
}

/**
 * Has an attestor keep copies of receipts, ahead of their batch.
 * @param records their binary form, with their requests' signatures; MOST_RECEIPTS_SENT at the most
 * @param signal ends the wait
 * @throws Error unless it answers in time what became of them
 */
export async function sendReceipts(
  url: string,
  records: readonly Uint8Array[],
  timeoutMs: number,
  signal?: AbortSignal,
): Promise<Kept> {
  const response = await fetch(url + RECEIPTS_PATH, {
    method: "POST",
    headers: { "content-type": RECEIPTS_MEDIA_TYPE },
    redirect: "error",
    body: frameOf(records) as Uint8Array<ArrayBuffer>,
    signal: within(timeoutMs, signal),
  });
  if (!response.ok) throw await unexpected(response);
  return keptFromJson(await jsonOf(response));
}

/** Gives receipts' binary forms by their hashes. */
export type RecordsOf = (hashes: string[]) => Promise<Uint8Array[]>;

/**
 * Asks for an attestation, and sends the receipts that the attestor lacks; one that it won't keep, it refuses.
 * @param signal ends the wait
 * @throws Error unless the attestor signs or refuses, each answer in time; its signature isn't checked here
 */
export async function askToAttest(
  url: string,
  request: AttestationRequest,
  recordsOf: RecordsOf,
  timeoutMs: number,
  signal?: AbortSignal,
): Promise<Attestation | AttestationRefusal> {
  const first = await requestAttestation(url, request, timeoutMs, signal);
  if (!("lacking" in first)) return first;
  const refused: RefusedReceipt[] = [];
  for (let from = 0; from < first.lacking.length; from += MOST_RECEIPTS_SENT) {
    const records = await recordsOf(first.lacking.slice(from, from + MOST_RECEIPTS_SENT));
    refused.push(...(await sendReceipts(url, records, timeoutMs, signal)).refused);
  }
  if (refused.length > 0) {
    const refusals = refused.slice(0, MOST_SENTENCES).map(({ reason }) => reason);
    return { refusals, receipts: refused.map(({ hash }) => hash) };
  }
  const second = await requestAttestation(url, request, timeoutMs, signal);
  if (!("lacking" in second)) return second;
  throw new Error(`${url} lacks ${second.lacking.length} receipts that were sent to it`);
}

/** @throws Error unless the attestor signs, refuses or lacks receipts in time; its signature isn't checked here */
export async function requestAttestation(
  url: string,
  request: AttestationRequest,
  timeoutMs: number,
  signal?: AbortSignal,
): Promise<Attestation | AttestationRefusal | LackedReceipts> {
  const headers = { [PROPOSAL_HEADER]: proposedBatchToText(request) };
  const response = await post(url + ATTESTATIONS_PATH, evidenceToJson(request), within(timeoutMs, signal), headers);
  if (response.ok) return attestationFromJson(await jsonOf(response));
  if (response.status === 422) return refusalFromJson(await jsonOf(response));
  if (response.status === 409) return lackedReceiptsFromJson(await jsonOf(response));
  if (response.status === 413)
    return { refusals: [(await unexpected(response)).message], receipts: [], isTooLarge: true };
  throw await unexpected(response);
}

export function proposedBatchToText({ header, proposal }: ProposedBatch): string {
  return Buffer.from(JSON.stringify({ header: headerToJson(header), proposal })).toString("base64url");
}

/** @throws MalformedMessage */
export function proposedBatchFromText(text: unknown): ProposedBatch {
  if (typeof text !== "string") {
    throw new MalformedMessage(`send the batch's header and its proposal in the header ${PROPOSAL_HEADER}`);
  }
  const { header, proposal } = objectOf(jsonIn(PROPOSAL_HEADER, Buffer.from(text, "base64url").toString("utf8")));
  return { header: headerFromJson(header), proposal: stringOf("proposal", proposal) };
}

/** @throws MalformedMessage */
export function jsonIn(header: string, text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new MalformedMessage(`${header} must be base64url of JSON`, { cause });
  }
}

/** What a batch rests on: a request's body. */
export function evidenceToJson({ receipts, leaves, grants, measurements }: AttestationRequest) {
  return {
    receipts: namesToText(receipts),
    leaves: leaves && Buffer.from(leaves).toString("base64"),
    grants: grants.map(signedGrantToJson),
    measurements: measurements.map(signedMeasurementToJson),
  };
}

/** @throws MalformedMessage */
export function evidenceFromJson(json: unknown): Omit<AttestationRequest, keyof ProposedBatch> {
  const { receipts, leaves, grants, measurements } = objectOf(json);
  const names = namesFromText(receipts);
  const hashes = leaves === undefined ? undefined : bytesFromText("leaves", leaves, HASH_BYTES, "a hash");
  if (hashes !== undefined && hashes.length !== HASH_BYTES * names.length) {
    throw new MalformedMessage(`there are ${hashes.length / HASH_BYTES} leaves, and ${names.length} receipts`);
  }
  return {
    receipts: names,
    leaves: hashes,
    grants: listOf("grants", grants).map(signedGrantFromJson),
    measurements: listOf("measurements", measurements).map(signedMeasurementFromJson),
  };
}

/** Receipts are many: they travel as base64 of their names' bytes. */
export function namesToText(names: readonly NamedReceipt[]): string {
  return namesToBytes(names).toString("base64");
}

/** @throws MalformedMessage */
export function namesFromText(text: unknown): NamedReceipt[] {
  return namesFromBytes(bytesFromText("receipts", text, NAME_BYTES, "a license's id, a number and a hash"));
}

const HASH_BYTES = 32;

export function hashesToText(hashes: readonly string[]): string {
  const bytes = Buffer.alloc(HASH_BYTES * hashes.length);
  hashes.forEach((hash, i) => bytes.write(hash.slice(2), HASH_BYTES * i, "hex"));
  return bytes.toString("base64");
}

/** @throws MalformedMessage */
export function hashesFromText(name: string, text: unknown): string[] {
  const bytes = bytesFromText(name, text, HASH_BYTES, "a hash");
  const hex = bytes.toString("hex");
  const digits = 2 * HASH_BYTES;
  return Array.from({ length: bytes.length / HASH_BYTES }, (_, i) => "0x" + hex.slice(digits * i, digits * (i + 1)));
}

/** @throws MalformedMessage unless it is as many bytes as several of a thing have */
function bytesFromText(name: string, text: unknown, each: number, thing: string): Buffer {
  const bytes = Buffer.from(stringOf(name, text), "base64");
  if (bytes.length % each === 0 && bytes.toString("base64") === text) return bytes;
  throw new MalformedMessage(
    `${name} must be base64 of ${each} bytes for each, ${thing}, not of ${bytes.length} bytes`,
  );
}

/** @throws MalformedMessage */
export function measurementRequestFromJson(json: unknown): { lane: Lane; epoch: Epoch } {
  const { lane, epoch } = objectOf(json);
  const { operatorId, planId, versionId } = objectOf(lane);
  const { epochStart, epochEnd } = objectOf(epoch);
  return {
    lane: { operatorId: number("operatorId", operatorId), planId: number("planId", planId), versionId: id(versionId) },
    epoch: { epochStart: number("epochStart", epochStart), epochEnd: number("epochEnd", epochEnd) },
  };
}

function attestationFromJson(json: unknown): Attestation {
  const { signer, signature } = objectOf(json);
  return { signer: stringOf("signer", signer), signature: stringOf("signature", signature) };
}

function refusalFromJson(json: unknown): AttestationRefusal {
  const { refusals, receipts } = objectOf(json);
  return {
    refusals: listOf("refusals", refusals).map((reason) => stringOf("refusal", reason)),
    receipts: listOf("receipts", receipts).map((hash) => stringOf("receipt", hash)),
  };
}

function lackedReceiptsFromJson(json: unknown): LackedReceipts {
  return { lacking: hashesFromText("lacking", objectOf(json).lacking) };
}

function keptFromJson(json: unknown): Kept {
  const { kept, known, refused } = objectOf(json);
  return {
    kept: number("kept", kept),
    known: number("known", known),
    refused: listOf("refused", refused).map((one) => {
      const { hash, reason } = objectOf(one);
      return { hash: stringOf("hash", hash), reason: stringOf("reason", reason) };
    }),
  };
}

export function objectOf(json: unknown): Record<string, unknown> {
  if (typeof json === "object" && json !== null && !Array.isArray(json)) return json as Record<string, unknown>;
  throw new MalformedMessage(`expected a JSON object, not ${shown(json)}`);
}

export function listOf(name: string, json: unknown): unknown[] {
  if (Array.isArray(json)) return json;
  throw new MalformedMessage(`${name} must be a list, not ${shown(json)}`);
}

export function stringOf(name: string, json: unknown): string {
  if (typeof json === "string") return json;
  throw new MalformedMessage(`${name} must be a string, not ${shown(json)}`);
}

function number(name: string, json: unknown): number {
  if (Number.isSafeInteger(json)) return json as number;
  throw new MalformedMessage(`${name} must be a whole number, not ${shown(json)}`);
}

export function id(json: unknown): bigint {
  if (typeof json === "string" && /^[0-9]{1,19}$/.test(json) && BigInt(json) < 2n ** 63n) return BigInt(json);
  throw new MalformedMessage(`versionId must be a decimal string below 2^63, not ${shown(json)}`);
}

function within(timeoutMs: number, signal?: AbortSignal): AbortSignal {
  const timeout = AbortSignal.timeout(timeoutMs);
  return signal === undefined ? timeout : AbortSignal.any([timeout, signal]);
}

function post(url: string, body: object, signal: AbortSignal, headers: Record<string, string> = {}): Promise<Response> {
  return fetch(url, {
    method: "POST",
    headers: { "content-type": "application/json", ...headers },
    redirect: "error",
    body: JSON.stringify(body),
    signal,
  });
}

/** A refusal may name each of a batch's receipts. */
export const MOST_ANSWER_BYTES = 16 * 2 ** 20;

export async function jsonOf(response: Response): Promise<unknown> {
  const text = await textOf(response, MOST_ANSWER_BYTES);
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new Error(`${response.url} answered ${response.status} and no JSON: ${shown(text)}`, { cause });
  }
}

export async function unexpected(response: Response): Promise<Error> {
  const text = await textOf(response, MOST_ANSWER_BYTES);
  return new Error(`${response.url} answered ${response.status}: ${shown(text)}`);
}
