/** What batches charged a license, and how far each charge can still be disputed: as the chain's log and transactions tell. */
import type { TypedDataDomain } from "ethers";
import { Problem } from "../problem";
import { chargeIdOf, unpackOutcomes, type EntryStatusName } from "../protocol/entries";
import type { BatchHeader } from "../protocol/types";
import type { DisputeCourt, ReportCourt, UsageEscrow } from "../../typechain-types";
import { batchShownBy } from "./settledBatches";
import { AS_OF_NOW, statusName, type StatusName } from "./statuses";

/** What one batch charged one license. */
export interface LicenseCharge {
  batchId: string;
  /** Where it is kept once it was split off its batch. */
  chargeId: string;
  licenseId: bigint;
  operatorId: number;
  planId: number;
  versionId: bigint;
  /** Unix seconds: from the first on, until before the second. */
  epochStart: number;
  epochEnd: number;
  /** Units of the currency. */
  charged: bigint;
  discountBps: number;
  status: EntryStatusName;
}

/** One license's entry of a settled batch, with what shows it to the courts. */
export interface SettledEntry {
  header: BatchHeader;
  /** All of the batch, packed, in hex. */
  entries: string;
  /** As the batch's event has them. */
  outcomes: string;
  licenseId: bigint;
}

/** How far a charge can still be disputed. */
export interface ChargeState {
  /** Its own once it was split off, else its batch's. */
  status: StatusName<"BatchStatus">;
  /** The end of its hold, Unix seconds. */
  releasableAt: number;
  /** 0 if it was never challenged. */
  challengeId: bigint;
  isReported: boolean;
  /** Whether it was proven ahead. */
  isProven: boolean;
}

/** The contracts that know of a charge. */
export interface Courts {
  escrow: UsageEscrow;
  court: DisputeCourt;
  reports: ReportCourt;
}

/** All that batches charged a license, or only an operator's, or one, in the order in which they settled. */
export async function chargesOf(
  escrow: UsageEscrow,
  fromBlock: number,
  licenseId: bigint,
  { operatorId, batchId }: { operatorId?: number | bigint; batchId?: string } = {},
): Promise<LicenseCharge[]> {
  const events = await escrow.queryFilter(escrow.filters.BatchSettled(batchId, operatorId), fromBlock);
  return events.flatMap(({ args }) =>
    unpackOutcomes(args.outcomes)
      .filter((outcome) => outcome.licenseId === licenseId)
      .map((outcome) => ({
        ...outcome,
        batchId: args.batchId,
        chargeId: chargeIdOf(args.batchId, licenseId),
        operatorId: Number(args.operatorId),
        planId: Number(args.planId),
        versionId: args.versionId,
        epochStart: Number(args.epochStart),
        epochEnd: Number(args.epochEnd),
        discountBps: Number(args.discountBps),
      })),
  );
}

/** @throws Problem if no such batch has settled, or its transaction doesn't show it */
export async function settledEntryOf(
  escrow: UsageEscrow,
  domain: TypedDataDomain,
  fromBlock: number,
  { batchId, licenseId }: Pick<LicenseCharge, "batchId" | "licenseId">,
): Promise<SettledEntry> {
  const [event] = await escrow.queryFilter(escrow.filters.BatchSettled(batchId), fromBlock);
  if (event === undefined) throw new Problem(`Batch ${batchId}: no such batch has settled.`);
  const shown = await batchShownBy(domain, event);
  if (shown !== null) {
    return { header: shown.header, entries: shown.entries, outcomes: event.args.outcomes, licenseId };
  }
  throw new Problem(
    `Batch ${batchId} was settled through another contract, in transaction ${event.transactionHash}, which doesn't show its ` +
      `entries: have its header and its entries from an attestor, and call the court with them.`,
  );
}

/** How far a charge can still be disputed, as of the block to come. */
export async function stateOfCharge(
  { escrow, court, reports }: Courts,
  { batchId, chargeId }: Pick<LicenseCharge, "batchId" | "chargeId">,
): Promise<ChargeState> {
  const own = statusName("BatchStatus", await escrow.batchStatusOf(chargeId, AS_OF_NOW));
  const keptAs = own === "None" ? batchId : chargeId;
  const [status, { releasableAt }, challengeId, isReported, isProven] = await Promise.all([
    escrow.batchStatusOf(keptAs, AS_OF_NOW),
    escrow.batchOf(keptAs),
    court.challengeOfCharge(chargeId),
    reports.isReported(chargeId),
    reports.isProven(chargeId),
  ]);
  return {
    status: statusName("BatchStatus", status),
    releasableAt: Number(releasableAt),
    challengeId,
    isReported,
    isProven,
  };
}
