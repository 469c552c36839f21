/** Breaches that prove themselves: judged in the transaction that shows them. */
import type { ContractTransactionReceipt, TypedDataDomain } from "ethers";
import type { SettledEntry } from "../../oracle/chain/charges";
import { reasonOf } from "../../oracle/problem";
import { unpackEntries } from "../../oracle/protocol/entries";
import {
  batchDigest,
  decodeBearer,
  grantFromJson,
  MalformedMessage,
  proposalDigest,
  receiptDigest,
  recoverSigner,
} from "../../oracle/protocol/messages";
import type { BatchHeader, Grant } from "../../oracle/protocol/types";
import { entryOf, escrowDomain, findCharge, type FoundCharge } from "../dispute/charge";
import {
  bytes,
  bytes32,
  eventOf,
  licenseId,
  optional,
  Problem,
  readJson,
  readReceipt,
  requireOne,
  send,
  sendingTask,
  text,
  timeOf,
  type Session,
  type TaskRecord,
} from "../support";
import { contradictedBy, isDead, type KeySpan, metersAbove, outsideOf, repeatedIn } from "./breaches";
import { BatchReceipts, type PlacedReceipt } from "./placed";

export interface ReportBreach {
  /** Whose charge it is about. */
  license: bigint;
  batch: string;
  /** File with all receipts of the batch. */
  receipts: string;
}

/** What every report is made of. */
interface Case {
  charge: FoundCharge;
  entry: SettledEntry;
  domain: TypedDataDomain;
  all: BatchReceipts;
  /** Of the license. */
  own: PlacedReceipt[];
}

async function openCase(session: Session, { license, batch, receipts }: ReportBreach): Promise<Case> {
  const charge = await findCharge(session, { license, batch });
  const [entry, domain] = await Promise.all([entryOf(session, charge), escrowDomain(session)]);
  const all = BatchReceipts.read(receipts, "--receipts", domain, entry.header);
  return { charge, entry, domain, all, own: all.of(license) };
}

/** What became of the money, and what comes next. */
function verdictOf(session: Session, { charge }: Case, sent: ContractTransactionReceipt): TaskRecord {
  const { money } = session;
  const { refunded, damages, reward } = eventOf(sent, "BreachReported");
  const { challengeId, status } = charge.state;
  const isFrozen = status === "Frozen";
  const next = isFrozen ? [`dispute:close --challenge ${challengeId} refunds the charge`] : [];
  if ((damages as bigint) + (reward as bigint) > 0n) next.push("dispute:withdraw sends what was taken of stake");
  return {
    license: charge.licenseId,
    batch: charge.batchId,
    operator: charge.operatorId,
    charged: money.of(charge.charged),
    "back in the license's balance": money.of(refunded as bigint),
    ...((refunded as bigint) === 0n && !isFrozen ? { "not refunded since it": WHY_NOT[status] } : {}),
    "for the license's owner": money.of(damages as bigint),
    "for you": money.of(reward as bigint),
    next,
  };
}

const WHY_NOT: Record<string, string> = {
  Held: "was nothing",
  Releasable: "was held no longer",
  Released: "was released before",
  Collected: "was released before",
  Refunded: "was refunded before",
};

const nothingFound = ({ charge, own }: Case, why: string): Problem =>
  new Problem(
    `Nothing to report: of the ${own.length} receipts of license ${charge.licenseId} in batch ${charge.batchId}, ${why}.`,
  );

// Two receipts for one thing

export interface ReportContradiction extends ReportBreach {
  /** File with the other receipt. */
  other: string;
}

/** Reports a receipt of the batch that another one by the same operator contradicts. */
export async function reportContradiction(session: Session, args: ReportContradiction): Promise<TaskRecord> {
  const found = await openCase(session, args);
  const other = readReceipt(args.other, "--other");
  const placed = contradictedBy(found.domain, found.own, other);
  if (placed === undefined) {
    const { sequence } = other.receipt;
    throw nothingFound(found, `none has the sequence ${sequence} of the other, its request or its request's signature`);
  }
  const { receipt, signature } = other;
  const sent = await send(session.licet.reports.reportContradiction, found.entry, found.all.place(placed), {
    receipt,
    signature,
  });
  return {
    breach: `two receipts, for one thing: ${placed.hash} and ${receiptDigest(found.domain, receipt)}`,
    ...verdictOf(session, found, sent),
  };
}

// A receipt that its grant doesn't cover

export interface ReportOutsideGrant extends ReportBreach {
  /** An API key made of the grant, or a file with the grant. */
  key?: string;
  grant?: string;
}

/** Reports a receipt of the batch that its own grant doesn't cover. */
export async function reportOutsideGrant(session: Session, args: ReportOutsideGrant): Promise<TaskRecord> {
  requireOne({ "--key": args.key, "--grant": args.grant });
  const grant = args.key === undefined ? readGrant(args.grant!) : decodeBearer(args.key).grant;
  const found = await openCase(session, args);
  const { under, outside } = outsideOf(found.domain, found.own, grant);
  if (under.length === 0) throw nothingFound(found, "none came under this grant");
  if (outside === undefined) throw nothingFound(found, `the grant covers all ${under.length} that came under it`);
  const sent = await send(session.licet.reports.reportOutsideGrant, found.entry, found.all.place(outside), grant);
  return { breach: `receipt ${outside.hash} is outside of its grant`, ...verdictOf(session, found, sent) };
}

/** A grant alone, or with its signature, which nobody asks for here. */
function readGrant(file: string): Grant {
  const content = readJson(file, "--grant") as { grant?: unknown };
  try {
    return grantFromJson(content.grant ?? content);
  } catch (cause) {
    if (!(cause instanceof MalformedMessage)) throw cause;
    throw new Problem(`--grant ${file} is no grant: ${cause.message}.`, { cause });
  }
}

// A receipt that is paid twice

export interface ReportRepetition extends ReportBreach {
  proposal?: string;
  /** The other batch; the same if it isn't named. */
  otherBatch?: string;
  /** File with all of its receipts. */
  otherReceipts?: string;
  otherProposal?: string;
}

/** Reports a receipt that stands in two places of settled batches of one plan. */
export async function reportRepetition(session: Session, args: ReportRepetition): Promise<TaskRecord> {
  const found = await openCase(session, args);
  const { otherBatch, otherReceipts } = args;
  if ((otherBatch === undefined) !== (otherReceipts === undefined)) {
    throw new Problem("Say --other-batch and --other-receipts together, or neither if it is in one batch twice.");
  }
  const other =
    otherBatch === undefined
      ? found
      : await openCase(session, { license: args.license, batch: otherBatch, receipts: otherReceipts! });
  const twice = repeatedIn(found.own, other.own, other.charge.batchId === found.charge.batchId);
  if (twice === undefined) throw nothingFound(found, `none stands in batch ${other.charge.batchId}, too`);
  const sent = await send(
    session.licet.reports.reportRepetition,
    found.entry,
    found.all.place(twice.here),
    other.entry.header,
    twice.there.index,
    other.all.siblings(twice.there.index),
    await proposalOf(session, found, args.proposal, "--proposal"),
    await proposalOf(
      session,
      other,
      args.otherProposal ?? (other === found ? args.proposal : undefined),
      "--other-proposal",
    ),
  );
  const there = `in batch ${other.charge.batchId}, at place ${twice.there.index}`;
  return { breach: `receipt ${twice.here.hash} stands there, too: ${there}`, ...verdictOf(session, found, sent) };
}

// A receipt by a key that couldn't sign any more

export interface ReportProposed extends ReportBreach {
  proposal?: string;
}

/** Reports a receipt of the batch that a key signed when it had expired, was revoked, or wasn't added yet. */
export async function reportDeadKey(session: Session, args: ReportProposed): Promise<TaskRecord> {
  const found = await openCase(session, args);
  const dead = await deadIn(session, found);
  if (dead === undefined) throw nothingFound(found, "each is signed by a key that could sign then");
  const { placed, signer } = dead;
  const sent = await send(
    session.licet.reports.reportDeadKey,
    found.entry,
    found.all.place(placed),
    await proposalOf(session, found, args.proposal, "--proposal"),
  );
  return {
    breach: `receipt ${placed.hash} is signed by ${signer}, which couldn't`,
    ...verdictOf(session, found, sent),
  };
}

async function deadIn({ licet }: Session, { own, charge }: Case) {
  const keys = new Map<string, KeySpan>();
  for (const placed of own) {
    const signer = recoverSigner(placed.hash, placed.signature);
    const key = keys.get(signer) ?? keySpanOf(await licet.operators.keyOf(charge.operatorId, signer));
    keys.set(signer, key);
    if (isDead(key, placed.receipt.finishedAt)) return { placed, signer };
  }
  return undefined;
}

const keySpanOf = ({ addedAt, expiresAt, revokedAt }: Record<keyof KeySpan, bigint>): KeySpan => ({
  addedAt: Number(addedAt),
  expiresAt: Number(expiresAt),
  revokedAt: Number(revokedAt),
});

// An entry above its receipts

/** Reports an entry that has more than the license's receipts add up to. */
export async function reportWrongSum(session: Session, args: ReportProposed): Promise<TaskRecord> {
  const found = await openCase(session, args);
  const { entry, charge, own } = found;
  const said = unpackEntries(entry.entries).find((one) => one.licenseId === charge.licenseId)!;
  const above = metersAbove(said, own);
  if (above.length === 0) throw nothingFound(found, "all are counted: its entry isn't above their sum");
  const { before, behind } = found.all.around(charge.licenseId);
  const sent = await send(
    session.licet.reports.reportWrongSum,
    entry,
    before,
    behind,
    await proposalOf(session, found, args.proposal, "--proposal"),
  );
  return {
    breach: `the entry is above the sum of its receipts: ${above.join(", ")}`,
    ...verdictOf(session, found, sent),
  };
}

/**
 * The operator's signature of a batch, as it was said or stands in the receipts' file; "0x" if nobody has it.
 * @throws Problem if it is another's: it would show nothing
 */
async function proposalOf(
  { licet, hre }: Session,
  { domain, entry, all }: Case,
  said: string | undefined,
  flag: string,
): Promise<string> {
  const proposal = said ?? all.proposal;
  if (proposal === undefined) return "0x";
  const { operatorId, epochEnd } = entry.header;
  const signer = proposerOf(domain, entry.header, proposal, flag);
  const [isKey, wasKey] = await Promise.all([
    licet.operators.isSigningKey(operatorId, signer, await timeOf(hre)),
    licet.operators.isSigningKey(operatorId, signer, epochEnd),
  ]);
  if (isKey || wasKey) return proposal;
  throw new Problem(
    `${flag} is signed by ${signer}, which isn't a key of operator ${operatorId}: without the operator's own signature of this ` +
      "batch the charge is refunded, and no stake is taken; leave it out for that.",
  );
}

function proposerOf(domain: TypedDataDomain, header: BatchHeader, proposal: string, flag: string): string {
  try {
    return recoverSigner(proposalDigest(domain, { batchId: batchDigest(domain, header) }), proposal);
  } catch (cause) {
    if (!(cause instanceof MalformedMessage)) throw cause;
    throw new Problem(`${flag} must be the operator's signature of the batch: ${reasonOf(cause)}.`, { cause });
  }
}

const breach = {
  license: licenseId(),
  batch: bytes32("The batch that charged it"),
  receipts: text("File with all receipts of the batch, as attestors and archives have them"),
};
const proposal = {
  proposal: optional(
    bytes(
      "The operator's signature of the batch, as attestors have it (default: the file's): without it, no stake is taken",
    ),
  ),
};
const example = `--license 1 --batch 0x${"ab".repeat(32)} --receipts receipts.ndjson`;

sendingTask("report:contradiction", {
  about: "Reports two receipts for one sequence, request or request's signature: it is refunded, and stake is taken",
  example: `${example} --other receipt.json`,
  parameters: { ...breach, other: text("File with the receipt that contradicts one of them") },
  act: reportContradiction,
});

sendingTask("report:outside-grant", {
  about: "Reports a receipt that its own grant doesn't cover: it is refunded, and stake is taken",
  example: `${example} --key AAAA…`,
  parameters: {
    ...breach,
    key: optional(text("The API key that is made of the grant")),
    grant: optional(text("Or a file with the grant in JSON")),
  },
  act: reportOutsideGrant,
});

sendingTask("report:repetition", {
  about: "Reports a receipt that was charged twice: it is refunded, and stake is taken if the operator proposed both",
  example: `${example} --other-batch 0x${"cd".repeat(32)} --other-receipts others.ndjson`,
  parameters: {
    ...breach,
    ...proposal,
    otherBatch: optional(bytes32("The other batch that it stands in (default: the same)")),
    otherReceipts: optional(text("File with all receipts of that")),
    otherProposal: optional(bytes("The operator's signature of that (default: the file's)")),
  },
  act: reportRepetition,
});

sendingTask("report:dead-key", {
  about:
    "Reports a receipt whose key couldn't sign then: it is refunded, and stake is taken if the operator proposed it",
  example,
  parameters: { ...breach, ...proposal },
  act: reportDeadKey,
});

sendingTask("report:wrong-sum", {
  about: "Reports an entry above its receipts' sum: it is refunded, and stake is taken if the operator proposed it",
  example,
  parameters: { ...breach, ...proposal },
  act: reportWrongSum,
});
