/** What settlers and attestors say to each other over HTTP: the JSON of both sides, and the settler's calls. */
import type { AttestationRequest } from "./batchFacts";
import {
  headerFromJson,
  headerToJson,
  MalformedMessage,
  signedGrantFromJson,
  signedGrantToJson,
  signedMeasurementFromJson,
  signedMeasurementToJson,
  signedReceiptFromJson,
  signedReceiptToJson,
} from "../protocol/messages";
import { shown } from "../problem";
import { textOf } from "./reading";
import type { Epoch, Lane, SignedMeasurement } from "../protocol/types";

export const MEASUREMENTS_PATH = "/v1/measurements";
export const ATTESTATIONS_PATH = "/v1/attestations";
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

/** @throws Error unless the attestor answers in time with a measurement; its signature isn't checked here */
export async function requestMeasurement(
  url: string,
  { operatorId, planId, versionId }: Lane,
  { epochStart, epochEnd }: Epoch,
  timeoutMs: number,
): Promise<SignedMeasurement> {
  const body = { lane: { operatorId, planId, versionId: String(versionId) }, epoch: { epochStart, epochEnd } };
  const response = await post(url + MEASUREMENTS_PATH, body, timeoutMs);
  if (!response.ok) throw await unexpected(response);
  return signedMeasurementFromJson(await jsonOf(response));
}

/** @throws Error unless the attestor signs or refuses in time; its signature isn't checked here */
export async function requestAttestation(
  url: string,
  request: AttestationRequest,
  timeoutMs: number,
): Promise<Attestation | AttestationRefusal> {
  const headers = { [PROPOSAL_HEADER]: proposedBatchToText(request) };
  const response = await post(url + ATTESTATIONS_PATH, evidenceToJson(request), timeoutMs, headers);
  if (response.ok) return attestationFromJson(await jsonOf(response));
  if (response.status === 422) return refusalFromJson(await jsonOf(response));
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
  const { header, proposal } = objectOf(jsonIn(Buffer.from(text, "base64url").toString("utf8")));
  return { header: headerFromJson(header), proposal: stringOf("proposal", proposal) };
}

function jsonIn(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new MalformedMessage(`${PROPOSAL_HEADER} must be base64url of JSON`, { cause });
  }
}

/** What a batch rests on: a request's body. */
export function evidenceToJson({ receipts, grants, measurements }: AttestationRequest) {
  return {
    receipts: receipts.map(signedReceiptToJson),
    grants: grants.map(signedGrantToJson),
    measurements: measurements.map(signedMeasurementToJson),
  };
}

/** @throws MalformedMessage */
export function evidenceFromJson(json: unknown): Omit<AttestationRequest, keyof ProposedBatch> {
  const { receipts, grants, measurements } = objectOf(json);
  return {
    receipts: listOf("receipts", receipts).map(signedReceiptFromJson),
    grants: listOf("grants", grants).map(signedGrantFromJson),
    measurements: listOf("measurements", measurements).map(signedMeasurementFromJson),
  };
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

function objectOf(json: unknown): Record<string, unknown> {
  if (typeof json === "object" && json !== null && !Array.isArray(json)) return json as Record<string, unknown>;
  throw new MalformedMessage(`expected a JSON object, not ${shown(json)}`);
}

function listOf(name: string, json: unknown): unknown[] {
  if (Array.isArray(json)) return json;
  throw new MalformedMessage(`${name} must be a list, not ${shown(json)}`);
}

function stringOf(name: string, json: unknown): string {
  if (typeof json === "string") return json;
  throw new MalformedMessage(`${name} must be a string, not ${shown(json)}`);
}

function number(name: string, json: unknown): number {
  if (Number.isSafeInteger(json)) return json as number;
  throw new MalformedMessage(`${name} must be a whole number, not ${shown(json)}`);
}

function id(json: unknown): bigint {
  if (typeof json === "string" && /^[0-9]{1,19}$/.test(json) && BigInt(json) < 2n ** 63n) return BigInt(json);
  throw new MalformedMessage(`versionId must be a decimal string below 2^63, not ${shown(json)}`);
}

function post(url: string, body: object, timeoutMs: number, headers: Record<string, string> = {}): Promise<Response> {
  return fetch(url, {
    method: "POST",
    headers: { "content-type": "application/json", ...headers },
    redirect: "error",
    body: JSON.stringify(body),
    signal: AbortSignal.timeout(timeoutMs),
  });
}

/** A refusal may name each of a batch's receipts. */
const MOST_ANSWER_BYTES = 16 * 2 ** 20;

async function jsonOf(response: Response): Promise<unknown> {
  const text = await textOf(response, MOST_ANSWER_BYTES);
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new Error(`${response.url} answered ${response.status} and no JSON: ${shown(text)}`, { cause });
  }
}

async function unexpected(response: Response): Promise<Error> {
  const text = await textOf(response, MOST_ANSWER_BYTES);
  return new Error(`${response.url} answered ${response.status}: ${shown(text)}`);
}
