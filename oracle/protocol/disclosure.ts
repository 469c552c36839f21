/** How bodies of disclosed requests come from an operator to an attestor that asks for them: the form of both sides. */
import {
  disclosureFromJson,
  disclosureToJson,
  MalformedMessage,
  signedGrantFromJson,
  signedGrantToJson,
} from "./messages";
import type { Disclosure, SignedGrant } from "./types";
import { shown } from "../problem";

/** With `attestors` in it, a request may be shown to the attestors of its license's plan. */
export const DISCLOSE_HEADER = "x-licet-disclose";
export const DISCLOSE_TO = "attestors";

/** The request's id comes behind it. */
export const DISCLOSURES_PATH = "/v1/disclosures";
/** Says which attestor asks: base64url of JSON. */
export const DISCLOSURE_HEADER = "x-licet-disclosure";

export interface SignedDisclosure {
  disclosure: Disclosure;
  /** By the key of a member of the plan's committee. */
  signature: string;
}

/** What was asked and answered, to the byte, and the grant whose salt makes their hashes. */
export interface DisclosedRequest {
  kind: string;
  grant: SignedGrant;
  request: Buffer;
  response: Buffer;
}

export function disclosureToText({ disclosure, signature }: SignedDisclosure): string {
  return Buffer.from(JSON.stringify({ disclosure: disclosureToJson(disclosure), signature })).toString("base64url");
}

/** @throws MalformedMessage */
export function disclosureFromText(text: unknown): SignedDisclosure {
  if (typeof text !== "string") throw new MalformedMessage(`say who asks in the header ${DISCLOSURE_HEADER}`);
  const { disclosure, signature } = objectIn(DISCLOSURE_HEADER, Buffer.from(text, "base64url").toString("utf8"));
  if (typeof signature !== "string") throw new MalformedMessage(`signature must be in hex, not ${shown(signature)}`);
  return { disclosure: disclosureFromJson(disclosure), signature };
}

export function disclosedToJson({ kind, grant, request, response }: DisclosedRequest): object {
  const [asked, answered] = [request, response].map((bytes) => bytes.toString("base64"));
  return { kind, grant: signedGrantToJson(grant), request: asked, response: answered };
}

/** @throws MalformedMessage */
export function disclosedFromText(text: string): DisclosedRequest {
  const { kind, grant, request, response } = objectIn("the disclosed request", text);
  for (const field of [kind, request, response]) {
    if (typeof field !== "string") throw new MalformedMessage(`a disclosed request has texts, not ${shown(field)}`);
  }
  const [asked, answered] = [request, response].map((body) => Buffer.from(body as string, "base64"));
  return { kind: kind as string, grant: signedGrantFromJson(grant), request: asked, response: answered };
}

function objectIn(what: string, text: string): Record<string, unknown> {
  try {
    return (JSON.parse(text) ?? {}) as Record<string, unknown>;
  } catch (cause) {
    throw new MalformedMessage(`${what} must be JSON, not ${shown(text)}`, { cause });
  }
}
