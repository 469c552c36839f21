import { time } from "@nomicfoundation/hardhat-network-helpers";
import { AbiCoder, concat, id, keccak256, MaxUint256, toBeHex, Wallet, ZeroHash, type TypedDataDomain } from "ethers";
import { entriesOf } from "../../oracle/protocol/entries";
import {
  grantDigest,
  proposalDigest,
  receiptDigest,
  requestDigest,
  signDigest,
  signedReceiptHash,
} from "../../oracle/protocol/messages";
import { usageOf } from "../../oracle/protocol/meters";
import { packSiblings, SumTree, type Leaf } from "../../oracle/protocol/sumTree";
import type { BatchHeader, Entry, Grant, Receipt } from "../../oracle/protocol/types";
import { CentralArbitrator__factory, VerifierOfOneProof__factory, type CentralArbitrator } from "../../typechain-types";
import { addPlan, batchOf, buyLicense, DAY, deployMarket, domainOf, HOUR, proofBy, usd, type Market } from "./market";

/** The key that signs the operator's receipts and proposals. */
export const RECEIPT_KEY = new Wallet(id("receipt key"));
/** The key that signs a keyed grant's requests. */
export const REQUEST_KEY = new Wallet(id("request key"));

export interface SignedOne {
  receipt: Receipt;
  signature: string;
}

/** A batch that was settled, with all that shows what is in it. */
export interface SettledBatch {
  header: BatchHeader;
  batchId: string;
  entries: string;
  outcomes: string;
  signed: SignedOne[];
  tree: SumTree;
  leaves: Leaf[];
}

/** A receipt of a license under the market's plan that finished now, cost a dollar, and came under a grant; `changes` say what is different. */
export async function receiptOf(market: Market, licenseId: bigint, changes: Partial<Receipt> = {}): Promise<Receipt> {
  const sequence = changes.sequence ?? 1n;
  return {
    licenseId,
    operatorId: market.operatorId,
    planId: market.planId,
    manifestHash: id("provable manifest"),
    generation: 0,
    grantHash: id("grant"),
    sequence,
    previousHash: ZeroHash,
    requestId: id(`request ${licenseId} ${sequence}`),
    requestHash: id(`asked ${licenseId} ${sequence}`),
    responseHash: id(`answered ${licenseId} ${sequence}`),
    requestSignatureHash: ZeroHash,
    finishedAt: await time.latest(),
    durationMs: 900,
    ttftMs: 300,
    requests: 1n,
    inputTokens: 1_000_000n - 100n,
    cachedInputTokens: 0n,
    outputTokens: 0n,
    computeMs: 0n,
    flags: 0,
    ...changes,
  };
}

export const signReceipt = (domain: TypedDataDomain, receipt: Receipt, key: Wallet = RECEIPT_KEY): SignedOne => ({
  receipt,
  signature: signDigest(key.privateKey, receiptDigest(domain, receipt)),
});

const leafOf = (domain: TypedDataDomain, { receipt, signature }: SignedOne): Leaf => ({
  signedReceiptHash: signedReceiptHash(receiptDigest(domain, receipt), signature),
  licenseId: receipt.licenseId,
  usage: usageOf(receipt),
});

/** Settles a batch over the receipts, in the order that they come in; its entries are their sums, unless they are said to be others. */
export async function settleReceipts(
  market: Market,
  signed: SignedOne[],
  { entries, ...changes }: Partial<BatchHeader> & { entries?: Entry[] } = {},
): Promise<SettledBatch> {
  const domain = await domainOf(market);
  const leaves = signed.map((one) => leafOf(domain, one));
  const tree = SumTree.of(leaves);
  const { header, entries: packed } = await batchOf(
    market,
    entries ?? entriesOf(signed.map(({ receipt }) => receipt)),
    {
      root: tree.root,
      count: tree.count,
      ...changes,
    },
  );
  const { escrow } = market.licet;
  const batchId = await escrow.batchIdOf(header);
  await escrow.connect(market.outsider).settle(header, packed, proofBy(batchId));
  const [settled] = await escrow.queryFilter(escrow.filters.BatchSettled(batchId));
  return { header, batchId, entries: packed, outcomes: settled.args.outcomes, signed, tree, leaves };
}

/** What shows a license's entry of a settled batch. */
export const entryIn = ({ header, entries, outcomes }: SettledBatch, licenseId: bigint) => ({
  header,
  entries,
  outcomes,
  licenseId,
});

/** A receipt where it stands in a batch. */
export const placedIn = (batch: SettledBatch, index: number) => ({
  ...batch.signed[index],
  index,
  siblings: packSiblings(batch.tree.proofOf(index)),
});

/** A leaf where it stands in a batch. */
export const leafIn = (batch: SettledBatch, index: number) => ({
  signedHash: batch.leaves[index].signedReceiptHash,
  licenseId: batch.leaves[index].licenseId,
  usage: batch.leaves[index].usage,
  index,
  siblings: packSiblings(batch.tree.proofOf(index)),
});

/** In the place of a leaf before the first, or behind the last. */
export const NO_LEAF = {
  signedHash: ZeroHash,
  licenseId: 0,
  usage: { requests: 0, inputTokens: 0, cachedInputTokens: 0, outputTokens: 0, computeMs: 0 },
  index: 0,
  siblings: "0x",
};

/** The operator's signature of a batch, as its settler sends it to attestors. */
export async function proposalOf(
  market: Market,
  { batchId }: SettledBatch,
  key: Wallet = RECEIPT_KEY,
): Promise<string> {
  return signDigest(key.privateKey, proposalDigest(await domainOf(market), { batchId }));
}

/** A keyed grant of a license, with its digest and its owner's signature. */
export async function keyedGrant(market: Market, licenseId: bigint, changes: Partial<Grant> = {}) {
  const domain = await domainOf(market);
  const now = await time.latest();
  const grant: Grant = {
    licenseId,
    key: REQUEST_KEY.address,
    cap: 0n,
    notBefore: now - HOUR,
    expiresAt: now + 1_000 * HOUR,
    generation: 0,
    salt: id("salt"),
    ...changes,
  };
  const types = {
    Grant: [
      ["uint64", "licenseId"],
      ["address", "key"],
      ["uint64", "cap"],
      ["uint40", "notBefore"],
      ["uint40", "expiresAt"],
      ["uint16", "generation"],
      ["bytes32", "salt"],
    ].map(([type, name]) => ({ type, name })),
  };
  const signature = await market.licensee.signTypedData(domain, types, grant);
  return { grant, grantHash: grantDigest(domain, grant), signature };
}

/** A receipt of a request that the grant's key has signed, and what proves that. */
export async function signedRequest(
  market: Market,
  { grant, grantHash, signature: grantSignature }: Awaited<ReturnType<typeof keyedGrant>>,
  changes: Partial<Receipt> = {},
  { key = REQUEST_KEY, at }: { key?: Wallet; at?: number } = {},
) {
  const domain = await domainOf(market);
  const receipt = await receiptOf(market, grant.licenseId, { grantHash, ...changes });
  const askedAt = at ?? receipt.finishedAt;
  const { requestHash } = receipt;
  const requestSignature = signDigest(key.privateKey, requestDigest(domain, { grantHash, requestHash, at: askedAt }));
  receipt.requestSignatureHash = keccak256(concat([toBeHex(askedAt, 5), requestSignature]));
  const { signature } = signReceipt(domain, receipt);
  return { receipt, signature, grant, grantSignature, at: askedAt, requestSignature };
}

/** In the place of a receipt that nobody doubts. */
export const NO_RECEIPT = {
  receipt: {
    licenseId: 0,
    operatorId: 0,
    planId: 0,
    manifestHash: ZeroHash,
    generation: 0,
    grantHash: ZeroHash,
    sequence: 0,
    previousHash: ZeroHash,
    requestId: ZeroHash,
    requestHash: ZeroHash,
    responseHash: ZeroHash,
    requestSignatureHash: ZeroHash,
    finishedAt: 0,
    durationMs: 0,
    ttftMs: 0,
    requests: 0,
    inputTokens: 0,
    cachedInputTokens: 0,
    outputTokens: 0,
    computeMs: 0,
    flags: 0,
  },
  signature: "0x",
};

/** What VerifierOfOneProof takes for a proof of a receipt's inference by the market's weights. */
export function proofOf(receipt: Receipt, receiptHash: string, weights = id("weights")): string {
  const words = [weights, receipt.requestHash, receipt.responseHash, receiptHash];
  return keccak256(AbiCoder.defaultAbiCoder().encode(["bytes32", "bytes32", "bytes32", "bytes32"], words));
}

/** The statuses of challenges, the sides of disputes and the breaches, as the courts number them. */
export const ChallengeStatus = {
  None: 0,
  Open: 1,
  Answered: 2,
  Escalated: 3,
  Disputed: 4,
  Upheld: 5,
  Rejected: 6,
  Undecided: 7,
} as const;
export const Side = { None: 0, Challenger: 1, Operator: 2 } as const;
export const Breach = { Contradiction: 0, OutsideGrant: 1, Repetition: 2, DeadKey: 3, WrongSum: 4 } as const;

/** How long each side of a challenge has for its turn, and the arbitrator, in seconds. */
export const TURN = 2 * DAY;
export const RULING = 60 * DAY;

export interface CourtMarket extends Market {
  arbitrator: CentralArbitrator;
  verifier: string;
  /** Of the licensee, under a plan that names the arbitrator, for a version that names the verifier. */
  licenseId: bigint;
  /** Of somebody else, under the same plan. */
  otherId: bigint;
}

/** A market whose plan names an arbitrator and whose version names a verifier, with a license of the licensee's and another's. */
export const deployCourtMarket = async (): Promise<CourtMarket> => courtMarketOf(await deployMarket());

/** @param inference by what the version's proofs are checked; by default a stand-in that anybody can prove anything to */
export async function courtMarketOf(
  market: Market,
  inference?: { verifier: string; weights: string },
): Promise<CourtMarket> {
  const { licet, publisher, operator, licensee, outsider, payees } = market;
  const arbitrator = await new CentralArbitrator__factory(outsider).deploy();
  const verifier =
    inference?.verifier ?? (await (await new VerifierOfOneProof__factory(outsider).deploy()).getAddress());
  const weights = inference?.weights ?? id("weights");
  const { assets, operators, currency, court } = licet;
  await assets.connect(publisher).publish(1, id("provable manifest"), weights, verifier, "ipfs://version-2", "");
  const planId = await addPlan(market, { arbitrator: await arbitrator.getAddress(), transferable: true });
  await operators.connect(operator).addKey(1, RECEIPT_KEY.address, 2 ** 40 - 1);
  await currency.connect(licensee).approve(court, MaxUint256);
  const at = { ...market, planId };
  const licenseId = await buyLicense(at, usd(100));
  const otherId = await buyLicense(at, usd(100), { to: payees[5].address });
  return {
    ...at,
    versionId: market.versionId + 1n,
    arbitrator,
    verifier,
    licenseId,
    otherId,
  };
}
