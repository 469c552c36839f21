/** Which charge a dispute is about, found on the chain alone. */
import type { TypedDataDomain } from "ethers";
import {
  chargesOf,
  settledEntryOf,
  stateOfCharge,
  type ChargeState,
  type LicenseCharge,
  type SettledEntry,
} from "../../oracle/chain/charges";
import { domainOf } from "../../oracle/protocol/messages";
import { dateOf as dated } from "../../oracle/problem";
import type { Receipt } from "../../oracle/protocol/types";
import { dateOf, Problem, textOf, type Session, type TaskRecord } from "../support";

/** A charge, and how far it can still be disputed. */
export type FoundCharge = LicenseCharge & { state: ChargeState };

export interface WhichCharge {
  license: bigint;
  /** Without it, the one that can be challenged, or that `receipt` stands in. */
  batch?: string;
  receipt?: Receipt;
}

/** @throws Problem unless there is just one charge that fits */
export async function findCharge(session: Session, which: WhichCharge): Promise<FoundCharge> {
  const { licet, book } = session;
  const { license, batch, receipt } = which;
  const charges = await chargesOf(licet.escrow, book.block, license, { batchId: batch });
  if (batch !== undefined) return found(session, await ofBatch(session, charges, batch, license));
  const fitting = charges.filter((charge) => receipt === undefined || mayHave(charge, receipt));
  if (receipt !== undefined && fitting.length === 0) {
    throw new Problem(
      `No batch of operator ${receipt.operatorId} has charged license ${license} for the epoch of receipt ${receipt.sequence}, ` +
        `which finished ${dated(receipt.finishedAt)}: it isn't settled yet, or never was.`,
    );
  }
  if (fitting.length === 0) throw new Problem(`No batch has charged license ${license} anything.`);
  const all = await Promise.all(fitting.map((charge) => found(session, charge)));
  const open = all.filter(({ charged, state }) => charged > 0n && isOpen(state));
  if (open.length === 1) return open[0];
  if (open.length === 0) {
    if (all.length === 1) return all[0];
    throw new Problem(
      `Nothing that license ${license} was charged can be challenged any more: each charge is held no longer, or was challenged before. ` +
        "`dispute:list` shows its challenges.",
    );
  }
  const choices = open.map(
    (charge) =>
      `${charge.batchId} (${textOf(session.money.of(charge.charged))}, from ${dated(charge.epochStart)} to ${dated(charge.epochEnd)})`,
  );
  throw new Problem(
    `Several batches have charged license ${license} what can be challenged: say --batch, one of ${choices.join("; ")}.`,
  );
}

async function ofBatch(
  { licet, book }: Session,
  [charge]: LicenseCharge[],
  batch: string,
  license: bigint,
): Promise<LicenseCharge> {
  if (charge !== undefined) return charge;
  const { escrow } = licet;
  const [settled] = await escrow.queryFilter(escrow.filters.BatchSettled(batch), book.block);
  throw new Problem(
    settled === undefined
      ? `--batch ${batch}: no such batch has settled.`
      : `Batch ${batch} has no entry of license ${license}: it charged that license nothing.`,
  );
}

const found = async ({ licet }: Session, charge: LicenseCharge): Promise<FoundCharge> => ({
  ...charge,
  state: await stateOfCharge(licet, charge),
});

/** The version is told by the receipt's manifest alone: it isn't looked at here. */
const mayHave = (charge: LicenseCharge, { operatorId, planId, finishedAt }: Receipt): boolean =>
  charge.operatorId === operatorId &&
  charge.planId === planId &&
  charge.epochStart <= finishedAt &&
  finishedAt < charge.epochEnd;

/** Whether a challenge can still freeze it. */
export const isOpen = ({ status, challengeId }: ChargeState): boolean => status === "Held" && challengeId === 0n;

/** @throws Problem that says why a charge can't be challenged any more */
export function requireOpen({ batchId, licenseId, charged, status: outcome, state }: FoundCharge): void {
  const what = `What batch ${batchId} charged license ${licenseId}`;
  if (charged === 0n) throw new Problem(`${what} is nothing (${outcome}): there is nothing to dispute.`);
  if (state.challengeId !== 0n) {
    throw new Problem(
      `${what} was challenged already: \`dispute:show --challenge ${state.challengeId}\` says what became of it.`,
    );
  }
  if (state.status === "Refunded") throw new Problem(`${what} was refunded already, by a report.`);
  if (state.status === "Held") return;
  throw new Problem(
    `${what} could be challenged until ${dated(state.releasableAt)}: its hold is over, and what is released stays so.`,
  );
}

/** The domain of all that is signed for the deployment's escrow. */
export async function escrowDomain({ licet, hre }: Session): Promise<TypedDataDomain> {
  const { chainId } = await hre.ethers.provider.getNetwork();
  return domainOf(chainId, await licet.escrow.getAddress());
}

/** The entry as the courts take it. */
export async function entryOf(session: Session, charge: LicenseCharge): Promise<SettledEntry> {
  const { licet, book } = session;
  return settledEntryOf(licet.escrow, await escrowDomain(session), book.block, charge);
}

/** A charge that can be challenged, for people. */
export async function showOpenCharge(session: Session, charge: FoundCharge): Promise<TaskRecord> {
  const { money, licet } = session;
  return {
    batch: charge.batchId,
    operator: charge.operatorId,
    plan: charge.planId,
    from: dateOf(charge.epochStart),
    to: dateOf(charge.epochEnd),
    charged: money.of(charge.charged),
    bond: money.of(await licet.court.bondFor(charge.charged)),
    until: dateOf(charge.state.releasableAt),
  };
}
