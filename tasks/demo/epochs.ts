import { time } from "@nomicfoundation/hardhat-network-helpers";
import OpenAI from "openai";
import { unpackEntries, unpackOutcomes } from "../../oracle/protocol/entries";
import { addUsage, chargeOf, priceOf, sumUsage, usageBy, zeroUsage } from "../../oracle/protocol/meters";
import { METERS, type Entry, type Epoch, type Usage } from "../../oracle/protocol/types";
import type { SettlementOutcome } from "../../oracle/settler/settler";
import type { StoredBatch } from "../../oracle/store/batchRows";
import { textOf } from "../support";
import type { Narrator } from "./narrator";
import type { Customer, Market } from "./opening";
import { MODEL_ID, sendCanaries, type Oracle } from "./oracle";

const EPOCH_SECONDS = 20 * 60;
const CANARIES_EACH = 20;

/** A settled batch, with what the escrow made of it. */
export interface Settled {
  batch: StoredBatch;
  /** As the event has them. */
  outcomes: string;
  charged: bigint;
  discountBps: bigint;
}

/** What a licensee's own client counted. */
export type Counted = Pick<Usage, "requests" | "inputTokens" | "cachedInputTokens" | "outputTokens">;

/** An epoch that begins now. */
export async function epochFromNow({ chain }: Pick<Oracle, "chain">): Promise<Epoch> {
  const epochStart = await chain.now();
  return { epochStart, epochEnd: epochStart + EPOCH_SECONDS };
}

/** Real requests, streamed and not, while the attestors' canaries run; counted by the clients as they come. */
export async function useModel(
  narrator: Narrator,
  oracle: Oracle,
  market: Market,
  requestsEach: number,
): Promise<Map<bigint, Counted>> {
  const startedAt = Date.now();
  const [counted] = await Promise.all([
    Promise.all(market.customers.map((customer) => ask(oracle, customer, requestsEach))),
    sendCanaries(
      oracle,
      market.canaries.map(({ apiKey }) => apiKey),
      CANARIES_EACH,
    ),
  ]);
  const totals = counted.map(({ totals }) => totals);
  const requests = totals.reduce((sum, each) => sum + each.requests, 0n);
  const tokens = totals.reduce((sum, each) => sum + each.outputTokens, 0n);
  const failed = counted.reduce((sum, each) => sum + each.failed, 0);
  narrator.say(
    `${requests} requests answered and ${failed} failed in ${((Date.now() - startedAt) / 1000).toFixed(1)} s, beside ` +
      `${CANARIES_EACH * oracle.attestors.length} canaries: ${tokens} tokens written. One of them:`,
  );
  narrator.say(`  “${counted[0].sample.replace(/\s+/g, " ").trim().slice(0, 90)}…”`);
  return new Map(market.customers.map(({ license }, i) => [license, totals[i]]));
}

async function ask(oracle: Oracle, { apiKey }: Customer, requests: number) {
  const client = new OpenAI({ apiKey, baseURL: `${oracle.gateway.url}/v1`, maxRetries: 0 });
  let totals: Counted = zeroUsage();
  let sample = "";
  let failed = 0;
  for (let i = 0; i < requests; i++) {
    const prompt = `Section ${i + 1}: what does this license permit?`;
    try {
      const { text, usage } = i % 2 === 0 ? await answer(client, prompt) : await streamedAnswer(client, prompt);
      totals = addUsage(totals as Usage, countedOf(usage));
      sample ||= text;
    } catch (error) {
      if (!(error instanceof OpenAI.InternalServerError)) throw error;
      failed++;
    }
  }
  return { totals, sample, failed };
}

const MAX_TOKENS = 24;

async function answer(client: OpenAI, prompt: string) {
  const { choices, usage } = await client.chat.completions.create({
    model: MODEL_ID,
    messages: [{ role: "user", content: prompt }],
    max_tokens: MAX_TOKENS,
  });
  return { text: choices[0].message.content ?? "", usage: usage! };
}

async function streamedAnswer(client: OpenAI, prompt: string) {
  const stream = await client.chat.completions.create({
    model: MODEL_ID,
    messages: [{ role: "user", content: prompt }],
    max_tokens: MAX_TOKENS,
    stream: true,
    stream_options: { include_usage: true },
  });
  let text = "";
  let usage: OpenAI.CompletionUsage | undefined;
  for await (const chunk of stream) {
    text += chunk.choices[0]?.delta.content ?? "";
    usage = chunk.usage ?? usage;
  }
  return { text, usage: usage! };
}

export function countedOf(usage: OpenAI.CompletionUsage): Usage {
  const cached = usage.prompt_tokens_details?.cached_tokens ?? 0;
  return {
    requests: 1n,
    inputTokens: BigInt(usage.prompt_tokens - cached),
    cachedInputTokens: BigInt(cached),
    outputTokens: BigInt(usage.completion_tokens),
    computeMs: 0n,
  };
}

/** Moves the chain's clock to the epoch's end and has the settler settle it. */
export async function settleEpoch(
  { settler, lane }: Pick<Oracle, "settler" | "lane">,
  epoch: Epoch,
): Promise<SettlementOutcome> {
  if ((await time.latest()) < epoch.epochEnd) await time.increaseTo(epoch.epochEnd);
  const outcomes = await settler.settle(lane, epoch);
  return outcomes[outcomes.length - 1];
}

/** Shows a settled batch and compares what the contract charged with the receipts, and with what the clients counted. */
export async function checkSettled(
  narrator: Narrator,
  { store }: Pick<Oracle, "store">,
  market: Pick<Market, "cast" | "plan">,
  outcome: SettlementOutcome,
  counted: Map<bigint, Counted>,
): Promise<Settled> {
  narrator.checkEqual("the batch is", outcome.status, "settled");
  const batch = (await store.batches.find(outcome.batchId!))!;
  const { header } = batch;
  narrator.say(`batch ${batch.batchId}`);
  narrator.say(`root  ${header.root}, over ${header.count} receipts; sequence ${header.sequence}`);
  if (header.samples > 0) {
    narrator.say(
      `service, as the attestors measured it: ${header.availabilityBps / 100} % available, ` +
        `p95 to first token ${header.p95TtftMs} ms, ${header.samples} canaries each`,
    );
  }
  const { event, gasUsed } = await settledEvent(market, batch);
  narrator.say(`settled in ${gasUsed} gas, by ${signersOf(event.signers)} of 3 signatures`);

  const receipts = (await store.receipts.ofBatch(batch.batchId)).map(({ receipt }) => receipt);
  narrator.checkEqual("receipts in the operator's store", BigInt(receipts.length), header.count);
  const entries = unpackEntries(batch.entries);
  const summed = sumUsage(receipts);
  for (const meter of METERS) {
    if (summed[meter] !== header[meter]) narrator.checkEqual(`${meter} of all receipts`, summed[meter], header[meter]);
  }
  narrator.check(
    "the header's totals are the sums of the receipts",
    METERS.every((m) => summed[m] === header[m]),
  );
  checkClients(narrator, entries, counted);
  await checkCharges(narrator, market, entries, event);
  return { batch, outcomes: event.outcomes, charged: event.charged, discountBps: event.discountBps };
}

function checkClients(narrator: Narrator, entries: Entry[], counted: Map<bigint, Counted>): void {
  for (const [license, usage] of counted) {
    const entry = entries.find(({ licenseId }) => licenseId === license)!;
    const meters = ["requests", "inputTokens", "cachedInputTokens", "outputTokens"] as const;
    narrator.check(
      `license ${license}'s entry is what its own client counted: ${meters.map((m) => `${entry[m]} ${m}`).join(", ")}`,
      meters.every((meter) => entry[meter] === usage[meter]),
    );
  }
}

async function checkCharges(
  narrator: Narrator,
  { cast, plan }: Pick<Market, "cast" | "plan">,
  entries: Entry[],
  { charged, discountBps, outcomes }: SettledEvent,
): Promise<void> {
  const { rates } = await cast.licensee.licet.licenses.termsOf(plan);
  const prices = usageBy((meter) => rates[meter]);
  const expected = entries.map((entry) => chargeOf(priceOf(entry, prices), Number(discountBps)));
  const actual = unpackOutcomes(outcomes);
  narrator.check(
    `all ${entries.length} licenses are charged what their receipts cost` +
      (discountBps > 0n ? `, less ${Number(discountBps) / 100} %` : ""),
    actual.every((each, i) => each.charged === expected[i] && each.status === "Charged"),
  );
  const sum = expected.reduce((total, each) => total + each, 0n);
  const { money } = cast.licensee;
  narrator.check(`the contract charged ${textOf(money.of(charged))}, the sum of these`, charged === sum);
}

interface SettledEvent {
  charged: bigint;
  discountBps: bigint;
  outcomes: string;
  signers: bigint;
}

async function settledEvent(
  { cast }: Pick<Market, "cast">,
  batch: StoredBatch,
): Promise<{ event: SettledEvent; gasUsed: bigint }> {
  const { escrow } = cast.licensee.licet;
  const [log] = await escrow.queryFilter(escrow.filters.BatchSettled(batch.batchId));
  const { charged, discountBps, outcomes } = log.args;
  const { signers } = await escrow.batchOf(batch.batchId);
  const { gasUsed } = await log.getTransactionReceipt();
  return { event: { charged, discountBps, outcomes, signers }, gasUsed };
}

/** How many members a committee's note names. */
const signersOf = (note: bigint): number => [...note.toString(2)].filter((bit) => bit === "1").length;
