/** What operators and attestors say to each other about evidence, over HTTP. */
import { textOf as bodyOf } from "../attestor/reading";
import { shown } from "../problem";
import { MalformedMessage, seedRequestToJson, signedFindingFromJson, signedFindingToJson } from "../protocol/messages";
import type { SeedRequest, SignedFinding } from "../protocol/types";

export const SEEDS_PATH = "/v1/evidence/seeds";
export const EVIDENCE_PATH = "/v1/evidence";

/** What came of one kind of evidence, and why. */
export interface Outcome {
  result: "pass" | "fail" | "unknown";
  reason: string;
}

/** What an attestor says of a bundle. */
export interface EvidenceAnswer {
  gpu: Outcome;
  cpu: Outcome;
  /** Signed by the attestor; null where no tier was reached. */
  finding: SignedFinding | null;
}

const MOST_ANSWER_BYTES = 2 ** 16;
const MOST_SENTENCE = 500;

/** @throws Error unless the attestor gives a seed in time */
export async function requestSeed(
  url: string,
  request: SeedRequest,
  signature: string,
  timeoutMs: number,
): Promise<string> {
  const body = JSON.stringify({ request: seedRequestToJson(request), signature });
  const { seed } = objectOf(await answerTo(url + SEEDS_PATH, "application/json", body, timeoutMs));
  if (typeof seed === "string" && /^0x[0-9a-f]{64}$/.test(seed)) return seed;
  throw new Error(`${url} gave ${shown(seed)} for a seed: it must be 0x and 64 hex digits`);
}

/** @throws Error unless the attestor judges the bundle in time; the finding's signature isn't checked here */
export async function submitEvidence(url: string, bundle: string, timeoutMs: number): Promise<EvidenceAnswer> {
  const { gpu, cpu, finding } = objectOf(await answerTo(url + EVIDENCE_PATH, "text/plain", bundle, timeoutMs));
  return {
    gpu: outcomeOf(gpu),
    cpu: outcomeOf(cpu),
    finding: finding === null ? null : signedFindingFromJson(finding),
  };
}

export function evidenceAnswerToJson({ gpu, cpu, finding }: EvidenceAnswer) {
  const said = ({ result, reason }: Outcome) => ({ result, reason });
  return { gpu: said(gpu), cpu: said(cpu), finding: finding && signedFindingToJson(finding) };
}

function outcomeOf(json: unknown): Outcome {
  const { result, reason } = objectOf(json);
  if (typeof reason === "string" && (result === "pass" || result === "fail" || result === "unknown")) {
    return { result, reason };
  }
  throw new MalformedMessage(`an outcome must have a result (pass, fail or unknown) and a reason, not ${shown(json)}`);
}

async function answerTo(url: string, contentType: string, body: string, timeoutMs: number): Promise<unknown> {
  const response = await fetch(url, {
    method: "POST",
    headers: { "content-type": contentType },
    redirect: "error",
    body,
    signal: AbortSignal.timeout(timeoutMs),
  });
  const text = await bodyOf(response, MOST_ANSWER_BYTES);
  if (!response.ok) throw new Error(`${url} answered ${response.status}: ${sentenceIn(text)}`);
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new Error(`${url} answered ${response.status} and no JSON: ${shown(text)}`, { cause });
  }
}

/** An attestor's sentence, which is longer than what is shown of other texts. */
function sentenceIn(text: string): string {
  try {
    return (JSON.parse(text) as { error: string }).error.slice(0, MOST_SENTENCE);
  } catch {
    return shown(text);
  }
}

function objectOf(json: unknown): Record<string, unknown> {
  if (typeof json === "object" && json !== null && !Array.isArray(json)) return json as Record<string, unknown>;
  throw new MalformedMessage(`expected a JSON object, not ${shown(json)}`);
}
