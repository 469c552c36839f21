/**
 * Classifications: numbers in, a class and logits out. Their receipts' hashes are commitments that a proof of inference can
 * open, of what a body says and not of its bytes.
 */
import { parseArchitecture, requireArchitecture, sumBits, type Architecture } from "../../zk/architecture";
import { inputCommitment, outputCommitment, saltUnder } from "../../zk/commitments";
import type { Classification } from "../../zk/network";
import { reasonOf, shown } from "../problem";
import { MalformedMessage, saltedHash } from "./messages";

export const CLASSIFICATIONS_PATH = "/v1/classifications";

/** The most inputs of a network. */
const MOST_INPUTS = 65_535;

/** Whether a body that is sent there is a classification's. */
export const isOfClassifications = (url: string): boolean => url.split(/[?#]/)[0].endsWith(CLASSIFICATIONS_PATH);

/** The input of a request's body. @throws MalformedMessage unless it is a list of bytes */
export function inputOf(body: unknown): number[] {
  const { input } = (body ?? {}) as { input?: unknown };
  if (!Array.isArray(input) || input.length === 0 || input.length > MOST_INPUTS) {
    throw new MalformedMessage(`input must be a list of 1 to ${MOST_INPUTS} numbers, not ${shown(input)}`);
  }
  const wrong = input.findIndex((value) => !Number.isInteger(value) || value < 0 || value > 255);
  if (wrong < 0) return input as number[];
  throw new MalformedMessage(`input has ${shown(input[wrong])} at ${wrong}: send whole numbers from 0 to 255`);
}

/** The answer of a response's body. @throws MalformedMessage unless it is one of the architecture that it names */
export function answerOf(body: unknown): Classification & { architecture: Architecture } {
  const { architecture: name, class: answer, logits } = (body ?? {}) as Record<string, unknown>;
  const architecture = architectureOf(name);
  const bound = 2 ** sumBits(architecture).logit;
  const isLogit = (value: unknown) => Number.isInteger(value) && Math.abs(value as number) < bound;
  if (!Array.isArray(logits) || logits.length !== architecture.outputs || !logits.every(isLogit)) {
    throw new MalformedMessage(`logits must be ${architecture.outputs} whole numbers below ${bound} in size`);
  }
  if (answer === logits.indexOf(Math.max(...(logits as number[])))) return { architecture, class: answer, logits };
  throw new MalformedMessage(`class must be the number of the greatest logit, not ${shown(answer)}`);
}

/** What a receipt says of a request with this body. @throws MalformedMessage unless it is a classification's */
export function requestHashOf(salt: string, body: Uint8Array): string {
  const input = inputOf(jsonOf(body));
  // The commitment to an input says how long it is, and nothing else of the network.
  const architecture = requireArchitecture({ inputs: input.length, hidden: 1, outputs: 1, shift: 0 });
  return inputCommitment(architecture, input, saltUnder(salt, "input"));
}

/** What a receipt says of this answer. @throws MalformedMessage unless it is a classification's */
export function responseHashOf(salt: string, body: Uint8Array): string {
  const { architecture, ...answer } = answerOf(jsonOf(body));
  return outputCommitment(architecture, answer, saltUnder(salt, "output"));
}

/** Whether a receipt's hash is the commitment to a body, by one of the two functions above; not, if it is no classification's. */
export function isCommittedTo(hash: string, hashOf: typeof requestHashOf, salt: string, body: Uint8Array): boolean {
  try {
    return hashOf(salt, body) === hash;
  } catch (cause) {
    if (cause instanceof MalformedMessage) return false;
    throw cause;
  }
}

/** What a receipt says of a request that is sent to a URL. A body that is no classification's gets no receipt there. */
export function requestHashAt(url: string, salt: string, body: Uint8Array): string {
  if (!isOfClassifications(url)) return saltedHash(salt, body);
  try {
    return requestHashOf(salt, body);
  } catch (cause) {
    if (cause instanceof MalformedMessage) return saltedHash(salt, body);
    throw cause;
  }
}

function jsonOf(body: Uint8Array): unknown {
  try {
    return JSON.parse(Buffer.from(body).toString("utf8"));
  } catch (cause) {
    throw new MalformedMessage(`a classification is JSON: ${reasonOf(cause)}`, { cause });
  }
}

function architectureOf(name: unknown): Architecture {
  try {
    return parseArchitecture(String(name));
  } catch (cause) {
    throw new MalformedMessage(reasonOf(cause), { cause });
  }
}
