/** How an operator shows an attestor proofs of its receipts' answers: the form of both sides, and the operator's call. */
import {
  hashesFromText,
  hashesToText,
  id,
  jsonOf,
  listOf,
  namesFromText,
  namesToText,
  objectOf,
  stringOf,
  unexpected,
} from "./attestorApi";
import type { RefusedReceipt } from "./copies";
import { RETRIEVAL_HEADER, retrievalToText, type SignedRetrieval } from "./retrievalApi";
import { MalformedMessage } from "../protocol/messages";
import type { NamedReceipt } from "../protocol/namedReceipts";

export const PROOFS_PATH = "/v1/proofs";
/** The most proofs that one message has, and each one's bytes: UltraHonk's have 8,000. */
export const MOST_PROOFS_SENT = 20;
export const LONGEST_PROOF = 65_536;

/** Proofs of receipts of one version's answers. */
export interface ShownProofs {
  versionId: bigint;
  proofs: { name: NamedReceipt; proof: Uint8Array }[];
}

/** What became of them. */
export interface TakenProofs {
  /** Of how many the verifier took the proof, now or before. */
  proven: number;
  /** Hashes of receipts that the attestor has no copies of: their proofs may be shown again, after them. */
  lacking: string[];
  refused: RefusedReceipt[];
}

/**
 * @param signal ends the wait
 * @throws Error unless the attestor answers in time what became of them
 */
export async function sendProofs(
  url: string,
  signed: SignedRetrieval,
  shown: ShownProofs,
  timeoutMs: number,
  signal?: AbortSignal,
): Promise<TakenProofs> {
  const timeout = AbortSignal.timeout(timeoutMs);
  const response = await fetch(url + PROOFS_PATH, {
    method: "POST",
    headers: { "content-type": "application/json", [RETRIEVAL_HEADER]: retrievalToText(signed) },
    redirect: "error",
    body: JSON.stringify(shownProofsToJson(shown)),
    signal: signal === undefined ? timeout : AbortSignal.any([timeout, signal]),
  });
  if (!response.ok) throw await unexpected(response);
  const { proven, lacking, refused } = objectOf(await jsonOf(response));
  if (!Number.isSafeInteger(proven)) throw new MalformedMessage(`${url} doesn't say how many receipts are proven`);
  return {
    proven: proven as number,
    lacking: hashesFromText("lacking", lacking),
    refused: listOf("refused", refused).map((one) => {
      const { hash, reason } = objectOf(one);
      return { hash: stringOf("hash", hash), reason: stringOf("reason", reason) };
    }),
  };
}

export function takenProofsToJson({ lacking, ...taken }: TakenProofs) {
  return { ...taken, lacking: hashesToText(lacking) };
}

export function shownProofsToJson({ versionId, proofs }: ShownProofs) {
  return {
    versionId: String(versionId),
    receipts: namesToText(proofs.map(({ name }) => name)),
    proofs: proofs.map(({ proof }) => Buffer.from(proof).toString("base64")),
  };
}

/** @throws MalformedMessage */
export function shownProofsFromJson(json: unknown): ShownProofs {
  const { versionId, receipts, proofs } = objectOf(json);
  const names = namesFromText(receipts);
  const texts = listOf("proofs", proofs);
  if (texts.length > MOST_PROOFS_SENT) {
    throw new MalformedMessage(`${texts.length} proofs came at once; ${MOST_PROOFS_SENT} are the most`);
  }
  if (texts.length !== names.length) {
    throw new MalformedMessage(`there are ${texts.length} proofs, and ${names.length} receipts`);
  }
  const hashes = new Set(names.map(({ hash }) => hash));
  if (hashes.size < names.length) throw new MalformedMessage("a receipt is named twice: show one proof of each");
  return { versionId: id(versionId), proofs: texts.map((text, i) => ({ name: names[i], proof: proofFromText(text) })) };
}

/** @throws MalformedMessage */
function proofFromText(text: unknown): Uint8Array {
  const proof = Buffer.from(stringOf("a proof", text), "base64");
  if (proof.length > LONGEST_PROOF) {
    throw new MalformedMessage(`a proof has ${proof.length} bytes; ${LONGEST_PROOF} are the most`);
  }
  if (proof.toString("base64") === text) return proof;
  throw new MalformedMessage("a proof must be base64 of its bytes");
}
