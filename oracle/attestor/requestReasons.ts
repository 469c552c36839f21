/**
 * What an attestor holds against a batch's requests: under a grant with a key, each must have that key's signature, its own,
 * of about when it was served; and where a license's owner demands it, no grant may be without a key. Without them, an operator could write receipts of use that nobody asked for.
 */
import { ZeroAddress, ZeroHash } from "ethers";
import { breathe } from "../breathe";
import type { BatchFacts, CheckedReceipt } from "./batchFacts";
import type { Refusal } from "./inspection";
import { reasonOf } from "../problem";
import type { Chain } from "../chain/chain";
import { MalformedMessage } from "../protocol/messages";
import { sameUsage, zeroUsage } from "../protocol/meters";
import { requestSignedAt, requestSigner } from "../protocol/requestSignature";
import type { StoredRequestSignature } from "../store/requestSignatures";
import type { Store } from "../store/store";

/** How long a signed request may have waited until it was served, and its receipt for its time, in seconds. */
const MOST_WAIT = 3_600;
/** After so many signatures, others are answered. */
const SIGNATURES_AT_ONCE = 200;

/** All reasons that lie in the signatures of requests, or in their lack. */
export async function requestRefusals(
  { domain }: Pick<Chain, "domain">,
  store: Pick<Store, "requestSignatures">,
  { header, grants, licenses, receipts }: BatchFacts,
): Promise<Refusal[]> {
  const isDemanded = ({ receipt }: CheckedReceipt) => {
    const { signedSince = 0 } = licenses.get(receipt.licenseId) ?? {};
    return signedSince > 0 && header.epochStart >= signedSince;
  };
  const isKeyed = ({ receipt }: CheckedReceipt) => keyOf(grants, receipt.grantHash) !== ZeroAddress;
  const bearers = receipts.filter((checked) => !isKeyed(checked) && isDemanded(checked));
  const keyed = receipts.filter(isKeyed);
  const hashes = keyed.map(({ receipt }) => receipt.requestSignatureHash);
  const signatures = await store.requestSignatures.of(header.operatorId, hashes);
  const refusals = bearers.map((checked) =>
    refusalOf(checked, "came under a grant without a key; its license's owner demands that requests are signed"),
  );
  for (const [i, checked] of keyed.entries()) {
    if (i % SIGNATURES_AT_ONCE === 0) await breathe();
    const { receipt } = checked;
    const signature = signatures.get(receipt.requestSignatureHash);
    const reason = problemOf(domain, checked, keyOf(grants, receipt.grantHash), signature);
    if (reason !== null) refusals.push(refusalOf(checked, reason));
  }
  return refusals;
}

function refusalOf({ receipt: { sequence, licenseId }, hash }: CheckedReceipt, reason: string): Refusal {
  return { reason: `Receipt ${sequence} of license ${licenseId} ${reason}`, receiptHash: hash };
}

/** Of a grant that wasn't sent, that is the reason to refuse. */
function keyOf(grants: BatchFacts["grants"], grantHash: string): string {
  return grants.get(grantHash)?.grant.key ?? ZeroAddress;
}

function problemOf(
  domain: Chain["domain"],
  { receipt, hash }: CheckedReceipt,
  key: string,
  signature: StoredRequestSignature | undefined,
): string | null {
  if (receipt.requestSignatureHash === ZeroHash) return `has no request signature; its grant wants one of ${key}`;
  if (signature === undefined) {
    return `has the request signature ${receipt.requestSignatureHash}, which wasn't sent`;
  }
  if (signature.usedBy !== hash) return `has its request's signature from receipt ${signature.usedBy}`;
  const signer = signerOf(domain, receipt, signature.packed);
  if (signer !== key) return `is of a request that ${signer} signed; its grant wants the signature of ${key}`;

  const at = requestSignedAt(signature.packed);
  const { finishedAt, durationMs } = receipt;
  // What costs nothing is closed when it can be.
  if (sameUsage(receipt, zeroUsage())) return null;
  if (at > finishedAt) return `finished at ${finishedAt}, before its request was signed, at ${at}`;
  if (at < finishedAt - Math.ceil(durationMs / 1_000) - MOST_WAIT) {
    return `is of a request that was signed at ${at}, over ${MOST_WAIT} s before it was served, up to ${finishedAt}`;
  }
  return null;
}

function signerOf(domain: Chain["domain"], receipt: CheckedReceipt["receipt"], packed: Uint8Array): string {
  try {
    return requestSigner(domain, receipt, packed);
  } catch (error) {
    if (error instanceof MalformedMessage) return `nobody (${reasonOf(error)})`;
    throw error;
  }
}
