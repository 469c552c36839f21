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
import type { Epoch, Lane, SignedMeasurement } from "../protocol/types";

export const MEASUREMENTS_PATH = "/v1/measurements";
export const ATTESTATIONS_PATH = "/v1/attestations";

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
  return signedMeasurementFromJson(await response.json());
}

/** @throws Error unless the attestor signs or refuses in time; its signature isn't checked here */
export async function requestAttestation(
  url: string,
  request: AttestationRequest,
  timeoutMs: number,
): Promise<Attestation | AttestationRefusal> {
  const response = await post(url + ATTESTATIONS_PATH, attestationRequestToJson(request), timeoutMs);
  if (response.ok) return attestationFromJson(await response.json());
  if (response.status === 422) return refusalFromJson(await response.json());
  throw await unexpected(response);
}

export function attestationRequestToJson({ header, receipts, grants, measurements, proposal }: AttestationRequest) {
  return {
    header: headerToJson(header),
    proposal,
    receipts: receipts.map(signedReceiptToJson),
    grants: grants.map(signedGrantToJson),
    measurements: measurements.map(signedMeasurementToJson),
  };
}

/**
 * The part of a request that tells whether the rest is worth reading.
 * @throws MalformedMessage
 */
export function proposalFromJson(json: unknown): Pick<AttestationRequest, "header" | "proposal"> {
  const { header, proposal } = objectOf(json);
  return { header: headerFromJson(header), proposal: text("proposal", proposal) };
}

/** @throws MalformedMessage */
export function attestationRequestFromJson(json: unknown): AttestationRequest {
  const { receipts, grants, measurements } = objectOf(json);
  return {
    ...proposalFromJson(json),
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
  return { signer: text("signer", signer), signature: text("signature", signature) };
}

function refusalFromJson(json: unknown): AttestationRefusal {
  const { refusals, receipts } = objectOf(json);
  return {
    refusals: listOf("refusals", refusals).map((reason) => text("refusal", reason)),
    receipts: listOf("receipts", receipts).map((hash) => text("receipt", hash)),
  };
}

function objectOf(json: unknown): Record<string, unknown> {
  if (typeof json === "object" && json !== null && !Array.isArray(json)) return json as Record<string, unknown>;
  throw new MalformedMessage(`expected a JSON object, not ${JSON.stringify(json)}`);
}

function listOf(name: string, json: unknown): unknown[] {
  if (Array.isArray(json)) return json;
  throw new MalformedMessage(`${name} must be a list, not ${JSON.stringify(json)}`);
}

function text(name: string, json: unknown): string {
  if (typeof json === "string") return json;
  throw new MalformedMessage(`${name} must be a string, not ${JSON.stringify(json)}`);
}

function number(name: string, json: unknown): number {
  if (Number.isSafeInteger(json)) return json as number;
  throw new MalformedMessage(`${name} must be a whole number, not ${JSON.stringify(json)}`);
}

function id(json: unknown): bigint {
  if (typeof json === "string" && /^[0-9]{1,20}$/.test(json)) return BigInt(json);
  throw new MalformedMessage(`versionId must be a decimal string, not ${JSON.stringify(json)}`);
}

function post(url: string, body: object, timeoutMs: number): Promise<Response> {
  return fetch(url, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
    signal: AbortSignal.timeout(timeoutMs),
  });
}

async function unexpected(response: Response): Promise<Error> {
  return new Error(`${response.url} answered ${response.status}: ${(await response.text()).slice(0, 500)}`);
}
