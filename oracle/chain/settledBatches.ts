/** An operator's batches that settled, as the chain's log and the transactions tell. */
import type { TypedDataDomain } from "ethers";
import type { BatchSettledEvent } from "../../typechain-types/contracts/UsageEscrow";
import { UsageEscrow__factory } from "../../typechain-types";
import { unpackOutcomes } from "../protocol/entries";
import { batchDigest, headerFromJson } from "../protocol/messages";
import type { BatchHeader } from "../protocol/types";
import type { Chain } from "./chain";
import type { RpcProvider } from "./ethersChain";
import { readEach } from "./parallel";
import { AS_OF_NOW, statusName } from "./statuses";

export interface SettledBatch {
  batchId: string;
  header: BatchHeader;
  /** Packed, in hex. */
  entries: string;
  proof: string;
  /** Whose use it is of, ascending. */
  licenses: bigint[];
  /** That it settled in. */
  block: number;
  isReleased: boolean;
}

/**
 * In the order in which they settled.
 * @returns the ids of those, too, that somebody else's contract sent, whose transactions don't show them
 */
export async function settledBatches(
  provider: RpcProvider,
  { domain }: Pick<Chain, "domain">,
  { escrow: address, fromBlock }: { escrow: string; fromBlock: number },
  operatorId: number,
): Promise<{ batches: SettledBatch[]; hidden: string[] }> {
  const escrow = UsageEscrow__factory.connect(address, { provider });
  const events = await escrow.queryFilter(escrow.filters.BatchSettled(undefined, operatorId), fromBlock);
  const hidden: string[] = [];
  const read = await readEach(events, async (event: BatchSettledEvent.Log) => {
    const { batchId, outcomes } = event.args;
    const shown = await batchShownBy(domain, event);
    if (shown === null) {
      hidden.push(batchId);
      return [];
    }
    const status = statusName("BatchStatus", await escrow.batchStatusOf(batchId, AS_OF_NOW));
    const batch: SettledBatch = {
      ...{ batchId, ...shown },
      licenses: unpackOutcomes(outcomes).map(({ licenseId }) => licenseId),
      block: event.blockNumber,
      isReleased: status === "Released" || status === "Collected",
    };
    return [batch];
  });
  return { batches: read.flat(), hidden };
}

/** What a batch's transaction shows of it; null if somebody else's contract sent it. */
export async function batchShownBy(
  domain: TypedDataDomain,
  event: BatchSettledEvent.Log,
): Promise<Pick<SettledBatch, "header" | "entries" | "proof"> | null> {
  const { data } = await event.getTransaction();
  const call = UsageEscrow__factory.createInterface().parseTransaction({ data });
  const header = call?.name === "settle" ? headerOf(call.args[0] as object) : null;
  if (call === null || header === null || batchDigest(domain, header) !== event.args.batchId) return null;
  return { header, entries: call.args[1] as string, proof: call.args[2] as string };
}

const NUMBERS = ["operatorId", "planId", "epochStart", "epochEnd", "availabilityBps", "p95TtftMs", "samples"];

/** As `messages.ts` reads it: what fits in a double is a number there, and the rest is text. */
function headerOf(args: object): BatchHeader {
  const fields = (args as { toObject(): Record<string, unknown> }).toObject();
  const json = Object.entries(fields).map(([name, value]) => {
    if (typeof value !== "bigint") return [name, value];
    return [name, NUMBERS.includes(name) ? Number(value) : String(value)];
  });
  return headerFromJson(Object.fromEntries(json));
}
