import { existsSync, writeFileSync } from "node:fs";
import { percentOf } from "../oracle/chain/refusal";
import { AS_OF_NOW, statusName } from "../oracle/chain/statuses";
import { unpackEntries, unpackOutcomes, type Outcome } from "../oracle/protocol/entries";
import { headerFromJson, headerToJson } from "../oracle/protocol/messages";
import type { BatchHeader } from "../oracle/protocol/types";
import { sqliteDatabase } from "../oracle/store/sqliteDatabase";
import { Store } from "../oracle/store/store";
import {
  bytes32,
  dateOf,
  defineTask,
  parseBytes,
  readingTask,
  readJson,
  send,
  sendingTask,
  text,
  toJson,
  Problem,
  type Session,
  type TaskRecord,
} from "./support";

/** Releases a batch whose hold is over, and has the committee share its part. */
export async function releaseBatch(session: Session, args: { batch: string }): Promise<TaskRecord> {
  const { escrow, committee, licenses } = session.licet;
  await send(escrow.release, args.batch);
  const { charged, planId } = await escrow.batchOf(args.batch);
  const { attestor } = await licenses.sharesOf(planId);
  if (attestor === session.book.contracts.CommitteeAttestor) await send(committee.shareIncome, args.batch);
  return { batch: args.batch, charged: session.money.of(charged), ...(await splitOf(session, args.batch)) };
}

async function splitOf({ licet, money }: Session, batch: string): Promise<TaskRecord> {
  const { operator, publisher, attestor, fee, bonus } = await licet.escrow.splitOf(batch);
  return {
    operator: money.of(operator),
    publisher: money.of(publisher),
    attestors: money.of(attestor),
    "protocol fee": money.of(fee),
    "bonus of the operator's pool": money.of(bonus),
  };
}

/** A batch that has settled. */
export async function showBatch(session: Session, { batch }: { batch: string }): Promise<TaskRecord> {
  const { money, book } = session;
  const { escrow } = session.licet;
  const [{ operatorId, planId, releasableAt, charged, discountBps }, status, [settled]] = await Promise.all([
    escrow.batchOf(batch),
    escrow.batchStatusOf(batch, AS_OF_NOW),
    escrow.queryFilter(escrow.filters.BatchSettled(batch), book.block),
  ]);
  if (settled === undefined) throw new Problem(`--batch ${batch}: no such batch has settled.`);
  const { versionId, sequence, outcomes } = settled.args;
  return {
    batch,
    status: statusName("BatchStatus", status),
    "operator's id": operatorId,
    plan: planId,
    version: versionId,
    sequence,
    "releasable from": dateOf(releasableAt),
    charged: money.of(charged),
    discount: percentOf(discountBps),
    entries: countByStatus(unpackOutcomes(outcomes)),
    ...(await splitOf(session, batch)),
  };
}

const countByStatus = (outcomes: Outcome[]): Record<string, number> =>
  outcomes.reduce<Record<string, number>>(
    (counts, { status }) => ({ ...counts, [status]: (counts[status] ?? 0) + 1 }),
    {},
  );

/** Settles a batch that its attestors have signed, as the escrow's preview says it would. */
export async function settleBatch(session: Session, { file }: { file: string }): Promise<TaskRecord> {
  const { escrow } = session.licet;
  const { money } = session;
  const { header, entries, proof } = readBatch(file);
  const batch = await escrow.batchIdOf(header);
  const { charged, discountBps, outcomes } = await escrow.previewSettle(header, entries, AS_OF_NOW);
  await send(escrow.settle, header, entries, proof);
  const found = unpackOutcomes(outcomes);
  const incomplete = found
    .filter(({ status }) => status !== "Charged")
    .map(({ licenseId, charged, status }) => ({ license: licenseId, charged: money.of(charged), status }));
  return {
    batch,
    charged: money.of(charged),
    discount: percentOf(discountBps),
    entries: countByStatus(found),
    "not charged in full": incomplete,
  };
}

interface AttestedBatch {
  header: BatchHeader;
  /** Packed. */
  entries: string;
  proof: string;
}

function readBatch(file: string): AttestedBatch {
  const { header, entries, proof } = readJson(file, "--file") as Record<keyof AttestedBatch, unknown>;
  try {
    const batch = {
      header: headerFromJson(header),
      entries: parseBytes(entries, "entries"),
      proof: parseBytes(proof, "proof"),
    };
    unpackEntries(batch.entries);
    return batch;
  } catch (cause) {
    throw new Problem(`--file ${file} is no batch: ${(cause as Error).message}`, { cause });
  }
}

export interface ExportBatch {
  /** The settler's store. */
  store: string;
  batch: string;
  out: string;
}

/** Writes an attested batch from a settler's store to a file, for anybody to settle. */
export async function exportBatch({ store: file, batch, out }: ExportBatch): Promise<TaskRecord> {
  if (!existsSync(file)) throw new Problem(`--store ${file}: there is no such file.`);
  const store = new Store(sqliteDatabase(file));
  try {
    const stored = await store.batches.find(batch);
    if (stored === null) throw new Problem(`--batch ${batch}: the store ${file} has no such batch.`);
    const { header, entries, proof, state } = stored;
    if (proof === null) throw new Problem(`--batch ${batch} is ${state}: its attestors haven't signed it.`);
    writeFileSync(out, toJson({ header: headerToJson(header), entries, proof }));
    return { batch, state, "epoch ended": dateOf(header.epochEnd), entries: unpackEntries(entries).length, file: out };
  } finally {
    await store.close();
  }
}

const batchParameter = { batch: bytes32("The batch's id") };

readingTask("batch:show", {
  about: "Shows a batch that has settled",
  example: `--batch 0x${"ab".repeat(32)}`,
  parameters: batchParameter,
  act: showBatch,
});

sendingTask("batch:settle", {
  about: "Settles a batch that its attestors have signed",
  example: "--file batch.json",
  parameters: { file: text("What batch:export wrote: JSON of a header, its packed entries and its attestors' proof") },
  act: settleBatch,
});

defineTask<ExportBatch, object>(
  "batch:export",
  {
    about: "Writes an attested batch from a settler's store to a file, for batch:settle; the settler must be down",
    example: `--store data/operator/operator.sqlite --batch 0x${"ab".repeat(32)} --out batch.json`,
    parameters: {
      ...batchParameter,
      store: text("The settler's store: operator.sqlite in its dataFolder"),
      out: text("The file to write"),
    },
  },
  {},
  (_hre, args) => exportBatch(args),
);

sendingTask("batch:release", {
  about: "Releases a batch whose hold is over",
  example: `--batch 0x${"ab".repeat(32)}`,
  parameters: batchParameter,
  act: releaseBatch,
});
