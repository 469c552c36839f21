/** One disclosed request: whether what its operator shows is what the receipt says, is counted right, and is the model's answer. */
import type { TypedDataDomain } from "ethers";
import { EventSplitter } from "../gateway/upstream";
import type { DisclosedRequest } from "../protocol/disclosure";
import { isCommittedTo, requestHashOf, responseHashOf } from "../protocol/classification";
import { grantDigest, saltedHash } from "../protocol/messages";
import { ReceiptFlag, type Receipt } from "../protocol/types";
import type { Verdict } from "../store/disclosureBooks";
import { answerAgain, differenceOf, isDeterministic, type ReexecutionConfig, textIn } from "./reexecution";
import { answerOf, excessOf, mostOf, type Tokenizer } from "./recount";

/** What an attestor can look by, of one model. Without either, only hashes are compared. */
export interface Means {
  tokenizer?: Tokenizer;
  reexecute?: ReexecutionConfig;
}

export interface Finding {
  verdict: Exclude<Verdict, "due">;
  /** A sentence that goes on from "Receipt … of license …"; empty where they agree. */
  reason: string;
}

const PATHS: Record<string, string> = { chat: "/v1/chat/completions", text: "/v1/completions" };

/** @throws Error if what is to be asked doesn't answer: then it may be tried again */
export async function auditOf(
  domain: TypedDataDomain,
  receipt: Receipt,
  disclosed: DisclosedRequest,
  means: Means,
): Promise<Finding> {
  const forged = forgeryIn(domain, receipt, disclosed);
  if (forged !== null) return { verdict: "disagree", reason: forged };
  const { kind } = disclosed;
  const [body, events] = [objectIn(disclosed.request), eventsIn(disclosed.response)];
  if (body === null || events === null || !(kind in PATHS))
    return unknown(`is of a kind (${kind}) that isn't looked at`);
  const [counted, answered] = [
    await countsOf(receipt, disclosed, events, means),
    await reexecutionOf(receipt, body, PATHS[kind], events, means),
  ];
  const reason = counted.reason ?? answered.reason;
  if (reason !== null) return { verdict: "disagree", reason };
  if (counted.isDone || answered.isDone) return { verdict: "agree", reason: "" };
  return unknown("has what it says; nothing counts it, and nothing can answer it again");
}

const unknown = (reason: string): Finding => ({ verdict: "unknown", reason });

function forgeryIn(
  domain: TypedDataDomain,
  receipt: Receipt,
  { kind, grant, request, response }: DisclosedRequest,
): string | null {
  const grantHash = grantDigest(domain, grant.grant);
  if (grantHash !== receipt.grantHash) return `came under grant ${receipt.grantHash}; shown is ${grantHash}`;
  const { salt } = grant.grant;
  const bodies = [
    { what: "request", said: receipt.requestHash, body: request, hashOf: requestHashOf },
    { what: "answer", said: receipt.responseHash, body: response, hashOf: responseHashOf },
  ];
  for (const { what, said, body, hashOf } of bodies) {
    const found = saltedHash(salt, body);
    // What a server refused has the hash of the refusal's bytes, there, too.
    if (found === said || (kind === "classification" && isCommittedTo(said, hashOf, salt, body))) continue;
    return `says ${said} of its ${what}; the one shown has ${found}`;
  }
  return null;
}

interface Compared {
  /** Whether there was anything to compare with. */
  isDone: boolean;
  reason: string | null;
}

/** Tokens by the attestor's own tokenizer, where it has one; a chat's, whose template that can apply. */
async function countsOf(
  receipt: Receipt,
  { kind, grant, request, response }: DisclosedRequest,
  events: readonly unknown[],
  { tokenizer }: Means,
): Promise<Compared> {
  if (kind !== "chat" || tokenizer === undefined) return { isDone: false, reason: null };
  const { outputTokens, finishedAt } = receipt;
  const asked = { salt: grant.grant.salt, body: request.toString("utf8"), maxTokens: Number(outputTokens) };
  const answer = await answerOf(asked, { bytes: response, events }, tokenizer, finishedAt);
  return answer.isCounted ? { isDone: true, reason: excessOf(receipt, answer) } : { isDone: false, reason: null };
}

/** Of an answer that was whole, to a request that is answered the same each time. */
async function reexecutionOf(
  receipt: Receipt,
  body: Record<string, unknown>,
  path: string,
  events: readonly unknown[],
  { reexecute }: Means,
): Promise<Compared> {
  const isWhole = receipt.flags === ReceiptFlag.disclosed;
  if (reexecute === undefined || !isWhole || !isDeterministic(body, reexecute.exact))
    return { isDone: false, reason: null };
  const text = textIn(events);
  const own = await answerAgain(reexecute, { body, path, outputTokens: Number(receipt.outputTokens) });
  return {
    isDone: true,
    reason: differenceOf(text, own.text, reexecute.exact) ?? promptExcess(receipt, own.promptTokens),
  };
}

function promptExcess({ inputTokens, cachedInputTokens }: Receipt, counted: number | null): string | null {
  const said = inputTokens + cachedInputTokens;
  if (counted === null || said <= BigInt(mostOf(counted))) return null;
  return `has ${said} input tokens; a server of the same model counts ${counted}`;
}

function objectIn(bytes: Uint8Array): Record<string, unknown> | null {
  const json = parsed(Buffer.from(bytes).toString("utf8"));
  return typeof json === "object" && json !== null && !Array.isArray(json) ? (json as Record<string, unknown>) : null;
}

/** The JSON of a whole answer, or of a stream's events; null if it is neither. */
function eventsIn(bytes: Buffer): unknown[] | null {
  const whole = objectIn(bytes);
  if (whole !== null) return [whole];
  const events = new EventSplitter().push(bytes).flatMap(({ data }) => (data === null ? [] : [data]));
  return events.length === 0 ? null : events.map(parsed);
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
