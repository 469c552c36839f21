/** Canaries of classifications: numbers in, a class out. An attestor that has the network computes what the answer must be. */
import { nameOf, type Architecture } from "../../zk/architecture";
import { classify, type Classification, type Network } from "../../zk/network";
import { MalformedMessage } from "../protocol/messages";
import { answerOf, inputOf, requestHashOf, responseHashOf } from "../protocol/classification";
import type { HeardAnswer } from "./recount";

/** What is asked of a model that classifies, and what its answers are held against. */
export interface ClassificationCanary {
  /** How many numbers from 0 to 255 the model takes. */
  inputs: number;
  /** Inputs that what is asked is made of; without them, all numbers are as likely. */
  examples?: readonly (readonly number[])[];
  /** The model's weights, where the attestor has them. */
  network?: Network;
}

/** How many of a hundred numbers come from another example, so that no input is asked twice. */
const MIXED_PERCENT = 10;

export function classificationBody(modelId: string, canary: ClassificationCanary, random: () => number): string {
  return JSON.stringify({ model: modelId, input: inputFor(canary, random) });
}

function inputFor({ inputs, examples }: ClassificationCanary, random: () => number): number[] {
  if (examples === undefined) return Array.from({ length: inputs }, () => Math.floor(random() * 256));
  const [one, other] = [random(), random()].map((draw) => examples[Math.floor(draw * examples.length)]);
  return one.map((value, at) => (100 * random() < MIXED_PERCENT ? other[at] : value));
}

/** Whether it is an answer at all. */
export function isClassified(body: unknown): boolean {
  try {
    answerOf(body);
    return true;
  } catch (cause) {
    if (cause instanceof MalformedMessage) return false;
    throw cause;
  }
}

/** What the receipt for a canary must say. @param bytes an answer that `isClassified` */
export function classifiedAnswer(
  { salt, body }: { salt: string; body: string },
  bytes: Uint8Array,
  network: Network | undefined,
  at: number,
): HeardAnswer {
  const input = inputOf(JSON.parse(body));
  const answer = answerOf(JSON.parse(Buffer.from(bytes).toString("utf8")));
  return {
    requestHash: requestHashOf(salt, Buffer.from(body)),
    responseHash: responseHashOf(salt, bytes),
    mostInput: input.length,
    mostOutput: 0,
    isCounted: true,
    difference: network === undefined ? null : differenceFrom(network, input, answer),
    at,
  };
}

/** Why an answer isn't the network's; null if it is. Goes on from "Receipt … of license …". */
function differenceFrom(
  network: Network,
  input: readonly number[],
  answer: Classification & { architecture: Architecture },
): string | null {
  if (nameOf(answer.architecture) !== nameOf(network)) {
    return `is answered by a model ${nameOf(answer.architecture)}; the attestor's own copy is ${nameOf(network)}`;
  }
  const own = classify(network, input);
  // The class follows from the logits.
  const at = own.logits.findIndex((logit, i) => logit !== answer.logits[i]);
  if (at < 0) return null;
  return (
    `is answered otherwise by the attestor's own copy of the model: class ${answer.class}, and there ${own.class}; ` +
    `logit ${at} is ${answer.logits[at]}, and there ${own.logits[at]}`
  );
}
