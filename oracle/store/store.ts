import { Problem } from "../problem";
import type { EvidenceBooks } from "../evidence/books";
import { ArchiveRows } from "./archiveRows";
import { AttestedBatches } from "./attestedBatches";
import { BatchBooks } from "./batchBooks";
import type { BatchState } from "./batchRows";
import { CanaryBooks } from "./canaryBooks";
import { CopyBooks } from "./copyBooks";
import type { Database } from "./database";
import { DisclosureBooks } from "./disclosureBooks";
import { DisputeBooks } from "./disputeBooks";
import { StoredBooks } from "./evidenceBooks";
import { Feeds } from "./feeds";
import { GrantBooks } from "./grantBooks";
import { GroupCommit } from "./groupCommit";
import { Leases } from "./leases";
import { OperatorCopies } from "./operatorCopies";
import { PrepaymentBooks } from "./prepaymentBooks";
import { ProofBooks } from "./proofBooks";
import { ReceiptBooks } from "./receiptBooks";
import { Recovery } from "./recovery";
import { Renewals } from "./renewals";
import { RequestBooks } from "./requestBooks";
import { RequestSignatures } from "./requestSignatures";
import { Tallies } from "./tallies";
import { TransactionBooks } from "./transactionBooks";
import { UnbatchedReceipts } from "./unbatchedReceipts";
import { VoucherBooks } from "./voucherBooks";

/** What waits for its settlement. */
export interface StoreFigures {
  /** Receipts in no batch. */
  unbatched: number;
  /** Receipts in batches that aren't settled. */
  batched: number;
  /** What both cost, in units of the currency. */
  cost: bigint;
  /** Unix seconds; null if there are none in no batch. */
  oldestUnbatchedAt: number | null;
  /** How many batches are in each state. */
  batches: Record<BatchState, number>;
}

const NO_BATCHES: Record<BatchState, number> = { drafted: 0, attested: 0, submitted: 0, settled: 0, expired: 0 };

/** Whose a store is, in words that a message can show; what isn't known is left out. */
export interface StoreOwner {
  role: "operator" | "attestor";
  chain: string;
  /** The chain's first: one that was started anew has another. */
  "first block": string;
  escrow: string;
  /** The operator's number. */
  operator?: string;
  /** The attestor's address. */
  attestor?: string;
}

/**
 * What gateway, settler and attestor must not forget, in one database (each part may have its own).
 * Whatever a promise of it has resolved to survives a power cut.
 */
export class Store {
  readonly leases: Leases;
  private readonly group: GroupCommit;

  /** An operator's: requests under way. */
  readonly requests: RequestBooks;
  readonly requestSignatures: RequestSignatures;
  /** An operator's. */
  readonly receipts: ReceiptBooks;
  /** An operator's: receipts that wait for a batch. */
  readonly unbatched: UnbatchedReceipts;
  readonly batches: BatchBooks;
  readonly grants: GrantBooks;
  /** What licenses owe, as running sums. */
  readonly tallies: Tallies;
  /** An operator's: what attestors were sent ahead of batches. */
  readonly feeds: Feeds;
  readonly renewals: Renewals;
  readonly vouchers: VoucherBooks;
  readonly prepayments: PrepaymentBooks;
  readonly transactions: TransactionBooks;
  /** An operator's: how the store becomes whole again. */
  readonly recovery: Recovery;
  /** An operator's: what challenges of its charges want. */
  readonly disputes: DisputeBooks;
  /** Of requests that licensees disclosed: an operator's copies of the bodies, an attestor's verdicts. */
  readonly disclosures: DisclosureBooks;
  /** What of it is in files: an operator's receipts (`archive.ts`), or an attestor's copies (`copyArchive.ts`). */
  readonly archive: ArchiveRows;

  /** An operator's and an attestor's, of answers under plans that demand proofs. */
  readonly proofs: ProofBooks;

  /** An attestor's. */
  readonly copies: CopyBooks;
  /** An attestor's: the batches that it signed, and what is in them until that is in files (`copyArchive.ts`). */
  readonly attested: AttestedBatches;
  /** An attestor's. */
  readonly canaries: CanaryBooks;
  /** An attestor's, of operators' evidence. */
  readonly evidence: EvidenceBooks;
  /** An attestor's, for operators that lose their stores. */
  readonly operatorCopies: OperatorCopies;

  /** Is told how many milliseconds each commit of requests and receipts took. */
  onCommit: (ms: number) => void = () => {};

  /** The store closes the database. */
  constructor(private readonly db: Database) {
    this.leases = new Leases(db);
    this.group = new GroupCommit(db, (ms) => this.onCommit(ms));
    this.requests = new RequestBooks(db, this.group);
    this.requestSignatures = new RequestSignatures(db);
    this.receipts = new ReceiptBooks(db);
    this.unbatched = new UnbatchedReceipts(db);
    this.batches = new BatchBooks(db);
    this.grants = new GrantBooks(db);
    this.tallies = new Tallies(db);
    this.feeds = new Feeds(db);
    this.renewals = new Renewals(db);
    this.vouchers = new VoucherBooks(db);
    this.prepayments = new PrepaymentBooks(db, this.leases);
    this.transactions = new TransactionBooks(db, this.leases);
    this.recovery = new Recovery(db);
    this.disputes = new DisputeBooks(db);
    this.disclosures = new DisclosureBooks(db);
    this.archive = new ArchiveRows(db);
    this.copies = new CopyBooks(db, this.group);
    this.attested = new AttestedBatches(db, this.leases);
    this.canaries = new CanaryBooks(db, this.leases);
    this.evidence = new StoredBooks(db);
    this.operatorCopies = new OperatorCopies(db);
    this.proofs = new ProofBooks(db);
  }

  /** When what is being written is written. */
  async close(): Promise<void> {
    await this.group.settled();
    await this.db.close();
  }

  /**
   * Notes whose store this is, or holds it against what was noted before.
   * @throws Problem if it is another's: what one chain, deployment or operator knows is wrong for any other
   */
  async claim(owner: StoreOwner): Promise<void> {
    await this.db.transaction(async (queries) => {
      for (const [what, value] of Object.entries(owner)) {
        if (value === undefined) continue;
        await queries.run("INSERT INTO owner VALUES (?, ?) ON CONFLICT DO NOTHING", [what, value]);
        const noted = (await queries.row("SELECT value FROM owner WHERE what = ?", [what]))!.value;
        if (noted === value) continue;
        throw new Problem(
          `${this.db.name} was used with ${what} ${noted}, and this is ${what} ${value}: name another dataFolder or databaseSchema (a local ` +
            `chain that was started anew needs one), or go back to what it was used with.`,
        );
      }
    });
  }

  /**
   * Writes without a change, and waits for the disk.
   * @throws Error if nothing can be written at the moment
   */
  async probe(): Promise<void> {
    await this.db.transaction((queries) => queries.run("UPDATE owner SET value = value"));
  }

  /** How much waits for its settlement. */
  async figures(): Promise<StoreFigures> {
    const open = await this.batches.in("drafted", "attested", "submitted");
    const unbatched = (await this.db.row(
      "SELECT count(*) AS count, min(finished_at) AS oldest FROM receipts WHERE state = 'unbatched'",
    ))!;
    const batches = await this.db.all("SELECT state, count(*) AS count FROM batches GROUP BY state");
    return {
      unbatched: Number(unbatched.count),
      batched: open.reduce((sum, { header }) => sum + Number(header.count), 0),
      cost: await this.tallies.unsettledOfAll(),
      oldestUnbatchedAt: unbatched.oldest === null ? null : Number(unbatched.oldest),
      batches: {
        ...NO_BATCHES,
        ...Object.fromEntries(batches.map(({ state, count }) => [state as BatchState, Number(count)])),
      },
    };
  }
}
