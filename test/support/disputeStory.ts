/** A batch that can be disputed in every way, as files that tasks take. */
import { writeFileSync } from "node:fs";
import path from "node:path";
import { gzipSync } from "node:zlib";
import {
  concat,
  getBytes,
  id,
  keccak256,
  toBeHex,
  ZeroAddress,
  ZeroHash,
  type Wallet,
  type TypedDataDomain,
} from "ethers";
import { entriesOf, packEntries, totalOf } from "../../oracle/protocol/entries";
import {
  batchDigest,
  grantDigest,
  headerToJson,
  proposalDigest,
  receiptDigest,
  requestDigest,
  saltOf,
  signDigest,
  signedReceiptHash,
  signedReceiptToJson,
} from "../../oracle/protocol/messages";
import { usageOf } from "../../oracle/protocol/meters";
import { packRequestSignature } from "../../oracle/protocol/requestSignature";
import { SumTree } from "../../oracle/protocol/sumTree";
import type { BatchHeader, Entry, Grant, Lane, Receipt, SignedGrant, SignedReceipt } from "../../oracle/protocol/types";
import { committeeProof } from "../../oracle/settler/attestorPool";
import { sqliteDatabase } from "../../oracle/store/sqliteDatabase";
import { Store } from "../../oracle/store/store";

export type Key = Pick<Wallet, "address" | "privateKey">;

/** What all receipts and batches of a story have in common. */
export interface StoryFacts extends Lane {
  domain: TypedDataDomain;
  manifestHash: string;
  /** Signs receipts and proposals. */
  operatorKey: Key;
  /** Signs grants. */
  owner: Key;
  attestors: Key[];
  folder: string;
}

/** A receipt of a dollar, where a million input tokens cost that. */
export function dollarReceipt(facts: StoryFacts, licenseId: bigint, changes: Partial<Receipt>): Receipt {
  return {
    ...{ licenseId, operatorId: facts.operatorId, planId: facts.planId, manifestHash: facts.manifestHash },
    ...{ generation: 0, grantHash: id("a grant"), sequence: 1n, previousHash: ZeroHash },
    requestId: id(`disputed request ${licenseId}`),
    ...{ requestHash: id("asked"), responseHash: id("answered"), requestSignatureHash: ZeroHash },
    ...{ finishedAt: 0, durationMs: 900, ttftMs: 300, requests: 1n, inputTokens: 1_000_000n },
    ...{ cachedInputTokens: 0n, outputTokens: 0n, computeMs: 0n, flags: 0 },
    ...changes,
  };
}

export const signed = ({ domain, operatorKey }: StoryFacts, receipt: Receipt, key = operatorKey): SignedReceipt => ({
  receipt,
  signature: signDigest(key.privateKey, receiptDigest(domain, receipt)),
});

/** A grant of the owner's; a bearer's where no key is named. */
export function grantOf({ domain, owner }: StoryFacts, licenseId: bigint, changes: Partial<Grant> = {}) {
  const salt = saltOf(id(`secret ${licenseId}`));
  const grant: Grant = {
    ...{ licenseId, key: ZeroAddress, cap: 0n, notBefore: 0, expiresAt: 2 ** 40 - 1, generation: 0, salt },
    ...changes,
  };
  const grantHash = grantDigest(domain, grant);
  const own: SignedGrant = { grant, signature: signDigest(owner.privateKey, grantHash) };
  return { grantHash, signed: own };
}

/** A request that a grant's key has signed, as its receipt names it, and its packed signature. */
export function requestSignedBy({ domain }: StoryFacts, key: Key, grantHash: string, requestHash: string, at: number) {
  const signature = signDigest(key.privateKey, requestDigest(domain, { grantHash, requestHash, at }));
  return {
    packed: getBytes(packRequestSignature(at, signature)),
    requestSignatureHash: keccak256(concat([toBeHex(at, 5), signature])),
  };
}

/**
 * Writes a batch over receipts, in the order that they come in, signed by its attestors.
 * @param corrected what entries say, if it isn't the receipts' sums
 */
export function writeBatch(
  facts: StoryFacts,
  name: string,
  receipts: SignedReceipt[],
  { sequence, epochStart, epochEnd }: Pick<BatchHeader, "sequence" | "epochStart" | "epochEnd">,
  corrected: (entries: Entry[]) => Entry[] = (entries) => entries,
) {
  const { domain, operatorId, planId, versionId, attestors, operatorKey } = facts;
  const entries = corrected(entriesOf(receipts.map(({ receipt }) => receipt)));
  const packed = packEntries(entries);
  const leaves = receipts.map(({ receipt, signature }) => ({
    signedReceiptHash: signedReceiptHash(receiptDigest(domain, receipt), signature),
    licenseId: receipt.licenseId,
    usage: usageOf(receipt),
  }));
  const { root, count } = SumTree.of(leaves);
  const header: BatchHeader = {
    ...{ operatorId, planId, versionId, sequence, epochStart, epochEnd, root, count, ...totalOf(entries) },
    ...{ availabilityBps: 10_000, p95TtftMs: 300, samples: 60, entriesHash: keccak256(packed), evidenceHash: ZeroHash },
  };
  const batchId = batchDigest(domain, header);
  const proof = committeeProof(
    attestors.map(({ address, privateKey }) => ({ signer: address, signature: signDigest(privateKey, batchId) })),
  );
  const proposal = signDigest(operatorKey.privateKey, proposalDigest(domain, { batchId }));
  const write = (suffix: string, content: string | Buffer) =>
    writeFileSync(path.join(facts.folder, `${name}${suffix}`), content);
  write(".json", JSON.stringify({ header: headerToJson(header), entries: packed, proof }));
  const json = receipts.map(signedReceiptToJson);
  // As an archive has them, and as `licet-oracle batch` prints them.
  const lines = [{ batch: batchId, header: headerToJson(header) }, ...json].map((line) => `${JSON.stringify(line)}\n`);
  write(".ndjson.gz", gzipSync(lines.join("")));
  const shown = json.map((one) => ({ ...one, request_signature: null }));
  const head = { batch: batchId, header: headerToJson(header), proposal, measurements: [], missing: 0 };
  write("-receipts.json", JSON.stringify({ ...head, receipts: shown }));
  return { header, packed, batchId, proposal };
}

/** Writes an operator's store with some of the batch's requests: what their licensees' keys have signed, and what was asked. */
export async function writeStore(
  facts: StoryFacts,
  file: string,
  { header, packed, batchId }: Pick<ReturnType<typeof writeBatch>, "header" | "packed" | "batchId">,
  requests: { receipt: Receipt; grant: SignedGrant; packed?: Uint8Array; input?: Uint8Array }[],
): Promise<void> {
  const store = new Store(sqliteDatabase(file));
  try {
    const hashes: string[] = [];
    for (const { receipt, grant, packed: requestSignature, input } of requests) {
      await store.grants.save(receipt.grantHash, grant);
      await store.requests.open({
        facts: receipt,
        versionId: facts.versionId,
        openedAt: receipt.finishedAt,
        requestSignature,
        input,
      });
      const written = await store.requests.finish(receipt.requestId, receipt, 1_000_000n, async (numbered) => ({
        hash: receiptDigest(facts.domain, numbered),
        signature: signed(facts, numbered).signature,
        signer: facts.operatorKey.address,
      }));
      hashes.push(written.hash);
    }
    await store.batches.saveDraft(batchId, header, packed, [], hashes);
  } finally {
    await store.close();
  }
}
