/**
 * The words that gateway, attestors, settler and contracts share, as TypeScript types.
 * Ids and times fit in a double and are numbers where the contract's width is at most 40 bits; what is wider, and all money, is bigint.
 */

/** Usage by meter, in the protocol's order. uint32 in a receipt and an entry, uint64 in sums. */
export interface Usage {
  requests: bigint;
  /** Prompt tokens that were not cached. */
  inputTokens: bigint;
  cachedInputTokens: bigint;
  /** Generated tokens, reasoning included. */
  outputTokens: bigint;
  /** Prefill and decode wall time × GPUs of the replica, in milliseconds. */
  computeMs: bigint;
}

/** The meters' names in the protocol's order: the order of entries, of tree sums and of a plan's rates. */
export const METERS = ["requests", "inputTokens", "cachedInputTokens", "outputTokens", "computeMs"] as const;

/** A licensee's signed permission to use its license: the API key. */
export interface Grant {
  licenseId: bigint;
  /** The address that must sign each request, or the zero address for a bearer grant. */
  key: string;
  /** The most that may be spent under this grant, in units of the currency; 0 is no limit of its own. */
  cap: bigint;
  notBefore: number;
  expiresAt: number;
  generation: number;
  /** keccak256 of 32 random bytes that only the API key has; keys the hashes of requests and responses. */
  salt: string;
}

export interface SignedGrant {
  grant: Grant;
  /** By the license's owner: 65 bytes of an EOA, or what its ERC-1271 account accepts. */
  signature: string;
}

/** The word of a grant's key that it sends a request. */
export interface RequestStatement {
  /** EIP-712 digest of the grant. */
  grantHash: string;
  /** As its receipt says it. */
  requestHash: string;
  /** Unix seconds. */
  at: number;
}

/** What a receipt's `flags` may say. */
export const ReceiptFlag = {
  /** The client hung up before the answer was complete. */
  cancelled: 1,
  /** The upstream failed after it had been reached, and no text came of it; nothing is charged. */
  upstreamError: 2,
  /** The counts are the gateway's own: the upstream reported none. */
  estimated: 4,
  /** Written after a restart found the request open. */
  recovered: 8,
  /** The upstream broke off in the middle of a stream: what it wrote until then is charged, and nothing else. */
  broken: 16,
  /** Its bodies are kept for attestors, as the licensee agreed to with the request. */
  disclosed: 32,
} as const;

/** An operator's signed statement of one served request. */
export interface Receipt extends Usage {
  licenseId: bigint;
  operatorId: number;
  planId: number;
  manifestHash: string;
  generation: number;
  /** EIP-712 digest of the grant that the request came under. */
  grantHash: string;
  /** Per license and operator, ascending; some are left out where the operator's store was rebuilt. */
  sequence: bigint;
  /** EIP-712 digest of the receipt before, or zero for the first that the operator knows of. */
  previousHash: string;
  requestId: string;
  /** keccak256(grant.salt ‖ request body as received). */
  requestHash: string;
  /** keccak256(grant.salt ‖ response body as sent). */
  responseHash: string;
  /** keccak256 of the packed request signature (see `requestSignature.ts`); zero under a bearer grant. */
  requestSignatureHash: string;
  /** Unix seconds; decides the epoch. */
  finishedAt: number;
  durationMs: number;
  /** Time to the first token, 0 if there was none. */
  ttftMs: number;
  flags: number;
}

/** What of a receipt a batch counts. */
export type ReceiptCounts = Usage & Pick<Receipt, "licenseId" | "sequence" | "finishedAt">;

export interface SignedReceipt {
  receipt: Receipt;
  /** 65 bytes, low s, by a key of the operator that was valid at `finishedAt`. */
  signature: string;
}

/** One operator's receipts under one plan for one version: what batches are numbered in. */
export interface Lane {
  operatorId: number;
  planId: number;
  /** See `versionId.ts`. */
  versionId: bigint;
}

export interface Epoch {
  /** Unix seconds, inclusive. */
  epochStart: number;
  /** Unix seconds, exclusive. */
  epochEnd: number;
}

/** What one attestor's own canaries measured in one epoch. */
export interface Measurement extends Lane, Epoch {
  availabilityBps: number;
  p95TtftMs: number;
  samples: number;
}

export interface SignedMeasurement {
  measurement: Measurement;
  signature: string;
}

/** A key that signs an operator's receipts asks an attestor for a seed, to show evidence under. */
export interface SeedRequest {
  operatorId: number;
  /** Unix seconds. */
  at: number;
}

/** What an attestor found of the evidence that an operator showed for one of its keys. */
export interface Finding {
  operatorId: number;
  /** The address of the key that signs receipts. */
  receiptSigner: string;
  /** See `Tier` in `assess.ts`. */
  tier: number;
  /** Unix seconds, inclusive. */
  from: number;
  /** Unix seconds, exclusive. */
  until: number;
  /** keccak256 of the bundle, as it was sent. */
  evidenceHash: string;
}

export interface SignedFinding {
  finding: Finding;
  signature: string;
}

/** The operator's word that a batch is its own: signed, attestors look at it. */
export interface Proposal {
  batchId: string;
}

/** A license's owner's word that one of its grants has ended, to the operator whose gateway it is shown to. */
export interface Revocation {
  /** EIP-712 digest of the grant. */
  grantHash: string;
  licenseId: bigint;
  operatorId: number;
  /** Unix seconds, exclusive: until when it can be shown. What it has ended stays so. */
  expiresAt: number;
}

export interface SignedRevocation {
  revocation: Revocation;
  /** Of the license's owner, ERC-1271 included. */
  signature: string;
}

/** An operator's request to an attestor for its copies of the operator's receipts. */
export interface Retrieval {
  operatorId: number;
  /** The member's address: no other gives anything for it. */
  attestor: string;
  /** Unix seconds. */
  at: number;
}

/** An attestor's request to an operator for the bodies of a disclosed request. */
export interface Disclosure {
  operatorId: number;
  requestId: string;
  /** Unix seconds. */
  at: number;
}

/** What attestors sign. */
export interface BatchHeader extends Lane, Epoch, Usage {
  /** Per lane, from 1. */
  sequence: bigint;
  root: string;
  /** Number of receipts. */
  count: bigint;
  availabilityBps: number;
  p95TtftMs: number;
  samples: number;
  /** keccak256 of the packed entries. */
  entriesHash: string;
  /** The operator's evidence on record. */
  evidenceHash: string;
}

/** One license's total in a batch. */
export interface Entry extends Usage {
  licenseId: bigint;
}
