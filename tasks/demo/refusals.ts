import OpenAI from "openai";
import { askToAttest, requestMeasurement } from "../../oracle/attestor/attestorApi";
import { proposalToSign } from "../../oracle/keys/digestSigner";
import { counted, headerOf, summarize } from "../../oracle/settler/batches";
import { medianOf } from "../../oracle/attestor/measure";
import { batchDigest, receiptDigest } from "../../oracle/protocol/messages";
import { encodeReceipt } from "../../oracle/protocol/receiptBytes";
import type { Epoch, SignedReceipt } from "../../oracle/protocol/types";
import { refusalOf } from "../../oracle/chain/refusal";
import type { StoredBatch } from "../../oracle/store/batchRows";
import type { Session } from "../support";
import type { Narrator } from "./narrator";
import { withKey, type Customer, type Market } from "./opening";
import { MODEL_ID, type Oracle } from "./oracle";

const ATTESTOR_TIMEOUT_MS = 20_000;

/** Why the chain refuses a call; nothing if it doesn't. */
export async function refusalBy(call: Promise<unknown>): Promise<string | undefined> {
  try {
    await call;
    return undefined;
  } catch (error) {
    return refusalOf(error) ?? (error as Error).message;
  }
}

/** A grant whose cap is below what one request may cost. */
export async function tryOverCap(narrator: Narrator, oracle: Oracle, { session, license }: Customer): Promise<void> {
  const capped = await withKey(session, license, "0.0001");
  await narrator.checkRefused("a request that may cost more than its grant's cap", /cap/, () =>
    gatewayRefusal(oracle, capped.apiKey),
  );
}

/** Ends all grants of a license, shows that its key is dead, and signs a new one. */
export async function tryRevokedGrant(narrator: Narrator, oracle: Oracle, customer: Customer): Promise<void> {
  const { session, license, apiKey } = customer;
  await (await session.licet.escrow.raiseGeneration(license)).wait();
  await oracle.gateway.refresh(license);
  await narrator.checkRefused("a revoked grant", /generation/, () => gatewayRefusal(oracle, apiKey));
  customer.apiKey = (await withKey(session, license)).apiKey;
  narrator.check("with a new grant it is served again", (await gatewayRefusal(oracle, customer.apiKey)) === undefined);
}

async function gatewayRefusal(oracle: Oracle, apiKey: string): Promise<string | undefined> {
  const client = new OpenAI({ apiKey, baseURL: `${oracle.gateway.url}/v1`, maxRetries: 0 });
  try {
    await client.chat.completions.create({
      model: MODEL_ID,
      messages: [{ role: "user", content: "May I?" }],
      max_tokens: 8,
    });
    return undefined;
  } catch (error) {
    return (error as Error).message;
  }
}

/** Has an attestor asked to sign a batch with a receipt in which the operator wrote ten times the tokens. */
export async function tryForgedReceipt(narrator: Narrator, oracle: Oracle, epoch: Epoch): Promise<void> {
  const { chain, lane, store, attestors, proposer } = oracle;
  const receipts = (await store.unbatched.receipts(lane, epoch)).map(({ receipt, signature }) => ({
    receipt,
    signature,
  }));
  const victim = receipts.findIndex(({ receipt }) => receipt.outputTokens > 0n);
  receipts[victim] = withTenfoldTokens(receipts[victim]);

  const measurements = await Promise.all(
    attestors.map(({ url }) => requestMeasurement(url, lane, epoch, ATTESTOR_TIMEOUT_MS)),
  );
  const hashed = receipts.map((signed) => ({ ...signed, hash: receiptDigest(chain.domain, signed.receipt) }));
  const { sequence } = await chain.lane(lane.operatorId, lane.planId, lane.versionId);
  const { evidenceHash } = (await chain.operator(lane.operatorId))!;
  const level = medianOf(measurements.map(({ measurement }) => measurement));
  const header = headerOf(lane, epoch, sequence + 1n, summarize(hashed.map(counted)).summary, level, evidenceHash);
  const grantHashes = [...new Set(receipts.map(({ receipt }) => receipt.grantHash))];
  const grants = await Promise.all(grantHashes.map(async (hash) => (await store.grants.find(hash))!));

  const batchId = batchDigest(chain.domain, header);
  const proposal = await proposer.sign(proposalToSign(chain.domain, { batchId }));
  await narrator.checkRefused("a batch with a forged receipt", /Receipt .* sign/, async () => {
    const records = new Map(receipts.map((signed, i) => [hashed[i].hash, encodeReceipt(signed)]));
    const names = hashed.map(({ receipt: { licenseId, sequence }, hash }) => ({ licenseId, sequence, hash }));
    const request = { header, receipts: names, grants, measurements, proposal };
    const recordsOf = async (hashes: string[]) => hashes.map((hash) => records.get(hash)!);
    const answer = await askToAttest(attestors[0].url, request, recordsOf, ATTESTOR_TIMEOUT_MS);
    return "refusals" in answer ? answer.refusals[0] : undefined;
  });
}

function withTenfoldTokens({ receipt, signature }: SignedReceipt): SignedReceipt {
  return { receipt: { ...receipt, outputTokens: receipt.outputTokens * 10n }, signature };
}

/** Sends a batch to the escrow as it stands. */
export function resettle({ licet }: Session, { header, entries, proof }: StoredBatch): Promise<string | undefined> {
  return refusalBy(licet.escrow.settle.staticCall(header, entries, proof!));
}

/** With all stake on its way out, nothing may be charged: the settler is told so and keeps the batch. */
export async function tryAboveStake(
  narrator: Narrator,
  oracle: Oracle,
  { cast, operator }: Market,
  settle: () => Promise<{ status: string; reason: string | null; batchId: string | null }>,
): Promise<string> {
  const { staking } = cast.operator.licet;
  const { shares } = await staking.positionOf(operator, cast.operator.signer.address);
  await (await staking.thaw(operator, shares)).wait();
  const outcome = await settle();
  await narrator.checkRefused("a settlement above the operator's active stake", /InFlightAboveActiveStake/, async () =>
    outcome.status === "refused" ? outcome.reason! : undefined,
  );
  await (await staking.unthaw(operator)).wait();
  return outcome.batchId!;
}
