/** Ends a grant at its operator's gateway, at once and without a transaction. */
import { textOf } from "../attestor/reading";
import { Problem, reasonOf, shown } from "../problem";
import { signedRevocationToJson } from "../protocol/messages";
import type { SignedRevocation } from "../protocol/types";

const TIMEOUT_MS = 30_000;
const MOST_BYTES = 16_384;

/** What ends a grant: its API key itself, or the license's owner's signature. */
export type RevocationProof = { apiKey: string } | SignedRevocation;

/** @returns the Unix second in which the gateway ended it. @throws Problem if the gateway doesn't end it */
export async function revokeGrantAt(gatewayUrl: string, proof: RevocationProof): Promise<number> {
  const url = `${gatewayUrl.replace(/\/+$/, "")}/v1/grants/revoke`;
  const isKey = "apiKey" in proof;
  const init: RequestInit = {
    method: "POST",
    headers: isKey ? { authorization: `Bearer ${proof.apiKey}` } : { "content-type": "application/json" },
    body: isKey ? undefined : JSON.stringify(signedRevocationToJson(proof)),
    redirect: "manual",
    signal: AbortSignal.timeout(TIMEOUT_MS),
  };
  const { status, text } = await ask(url, init);
  const { revoked_at: revokedAt, error } = parsed(text);
  if (status === 200 && Number.isSafeInteger(revokedAt)) return revokedAt as number;
  throw new Problem(`${url} doesn't revoke the grant: it answered ${status}, ${shown(error?.message ?? text)}.`);
}

async function ask(url: string, init: RequestInit): Promise<{ status: number; text: string }> {
  try {
    const response = await fetch(url, init);
    return { status: response.status, text: await textOf(response, MOST_BYTES) };
  } catch (cause) {
    throw new Problem(`${url} can't be asked (${reasonOf((cause as Error).cause ?? cause)}): is the gateway there?`, {
      cause,
    });
  }
}

interface Answer {
  revoked_at?: unknown;
  error?: { message?: unknown };
}

function parsed(text: string): Answer {
  try {
    return (JSON.parse(text) ?? {}) as Answer;
  } catch {
    return {};
  }
}
