/** Has a request answered again, by a server of the same model that the attestor trusts, and compares. */
import { request } from "undici";
import { Generated } from "../gateway/generated";
import { generatedTexts, reportedUsage } from "../gateway/openai";
import { bytesOf } from "../gateway/upstream";
import { shown } from "../problem";

export interface ReexecutionConfig {
  url: string;
  /** What the server calls the model. */
  model: string;
  apiKey?: string;
  /** Whether it is the operator's engine and build: then a seed makes answers equal, and equal they must be. */
  exact: boolean;
}

/** A request and its answer, as far as they can be answered again. */
export interface Answered {
  /** The request's body. */
  body: Record<string, unknown>;
  path: string;
  outputTokens: number;
}

/** What the attestor's own server says. */
export interface OwnAnswer {
  text: string;
  promptTokens: number | null;
}

const TIMEOUT_MS = 120_000;
/** Of an answer on other hardware, at least so much from its beginning is the same: another model says other things at once. */
const LEAST_SAME = 0.3;
const MOST_TOKENS = 32_768;

/** Whether the same model answers the same again. */
export function isDeterministic(
  { temperature, top_k: topK, seed, n }: Record<string, unknown>,
  exact: boolean,
): boolean {
  if (n !== undefined && n !== null && n !== 1) return false;
  return temperature === 0 || topK === 1 || (exact && Number.isInteger(seed));
}

/** @throws Error unless the server answers */
export async function answerAgain(
  { url, model, apiKey }: ReexecutionConfig,
  { body, path, outputTokens }: Answered,
): Promise<OwnAnswer> {
  const isBounded = [body.max_tokens, body.max_completion_tokens].some((most) => typeof most === "number");
  const asked = {
    ...body,
    ...{ model, stream: false, stream_options: undefined },
    ...(isBounded ? {} : { max_tokens: Math.min(MOST_TOKENS, Math.max(1, outputTokens)) }),
  };
  const answer = await request(url + path, {
    method: "POST",
    headers: {
      "content-type": "application/json",
      ...(apiKey === undefined ? {} : { authorization: `Bearer ${apiKey}` }),
    },
    body: JSON.stringify(asked),
    signal: AbortSignal.timeout(TIMEOUT_MS),
  });
  const bytes = (await bytesOf(answer)).toString("utf8");
  if (answer.statusCode !== 200) throw new Error(`${url} answered ${answer.statusCode}: ${shown(bytes)}`);
  const json: unknown = JSON.parse(bytes);
  return { text: textIn([json]), promptTokens: reportedUsage(json).tokens?.prompt ?? null };
}

/** All that was generated in the JSON of an answer, or of a stream's events. */
export function textIn(events: readonly unknown[]): string {
  const generated = new Generated();
  for (const text of events.flatMap(generatedTexts)) generated.add(text);
  return generated.texts().join("\n");
}

/** Why an answer isn't the model's, going by what it says to the same; null if it may be. */
export function differenceOf(text: string, own: string, exact: boolean): string | null {
  const same = commonLength(text, own);
  if (same === text.length && (same === own.length || !exact)) return null;
  if (!exact && same >= LEAST_SAME * text.length) return null;
  const [said, here] = [text, own].map((one) => shown(one.slice(same, same + 40)));
  return `is answered otherwise by a server of the same model, from character ${same} of ${text.length} on: ${said}, and here ${here}`;
}

function commonLength(a: string, b: string): number {
  const most = Math.min(a.length, b.length);
  for (let i = 0; i < most; i++) if (a[i] !== b[i]) return i;
  return most;
}
