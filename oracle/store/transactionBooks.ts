import type { Database, Queries, Row } from "./database";
import type { Lease, Leases } from "./leases";
import { StoreConflict } from "./storeConflict";

/** One of the transactions that an account signed for a nonce: each has the same effect, and pays more for gas than the one before. */
export interface StoredTransaction {
  account: string;
  nonce: number;
  /** Counts from 0. */
  attempt: number;
  /** What it is for, in words that nothing else of the account is for. */
  purpose: string;
  raw: string;
  hash: string;
  /**
   * open: it may still be mined. confirmed, reverted: it was, and that is final. replaced: it never will, as its nonce went to
   * another.
   */
  state: "open" | "confirmed" | "reverted" | "replaced";
  /** That it was mined in, once that is final. */
  block: number | null;
}

/** The purpose of what only uses a nonce up: the one that any number of nonces may have. */
export const CANCEL = "cancel";

export type NewTransaction = Omit<StoredTransaction, "state" | "block">;

/** How often a purpose cost gas in vain: its transactions reverted, or their nonces went to nothing. */
export interface PurposeFailures {
  times: number;
  /** In which block it did last; null if it never did. */
  block: number | null;
}

/** How a nonce ended: by which of its transactions, or by none that is known here. */
export interface NonceEnd {
  hash: string;
  state: "confirmed" | "reverted";
  block: number;
}

/** The transactions that accounts signed, nonce by nonce. */
export class TransactionBooks {
  constructor(
    private readonly db: Database,
    private readonly leases: Leases,
  ) {}

  /**
   * Notes a transaction before it is sent.
   * Throws StoreConflict if the account signed another for the same attempt, or for the same purpose with another nonce, which is
   * under way or has served it: two processes that send for one account would do the same twice.
   * @param lease under which it is sent: throws TurnLost if another has that
   */
  async save({ account, nonce, attempt, purpose, raw, hash }: NewTransaction, lease?: Lease): Promise<void> {
    await this.db.transaction(async (queries) => {
      if (lease !== undefined) await this.leases.require(lease, queries);
      const before = await queries.row(
        "SELECT max(attempt) AS last FROM transactions WHERE account = ? AND nonce = ?",
        [account, nonce],
      );
      const next = before === null || before.last === null ? 0 : Number(before.last) + 1;
      if (attempt !== next) {
        throw new StoreConflict(`nonce ${nonce} of ${account} has ${next} transactions, and this is number ${attempt}`);
      }
      const other = await otherNonceFor(queries, account, purpose, nonce);
      if (attempt === 0 && purpose !== CANCEL && other !== null) {
        throw new StoreConflict(`nonce ${other} of ${account} is for "${purpose}" already, and this is ${nonce}`);
      }
      await queries.run("INSERT INTO transactions VALUES (?, ?, ?, ?, ?, ?, 'open', NULL)", [
        account,
        nonce,
        attempt,
        purpose,
        raw,
        hash,
      ]);
    });
  }

  /** The highest nonce that the account ever signed with; null before the first. */
  async lastNonce(account: string): Promise<number | null> {
    const row = await this.db.row("SELECT max(nonce) AS last FROM transactions WHERE account = ?", [account]);
    return row === null || row.last === null ? null : Number(row.last);
  }

  /** An account's transactions that may still be mined, by nonce and attempt. */
  async openOf(account: string): Promise<StoredTransaction[]> {
    return (
      await this.db.all("SELECT * FROM transactions WHERE account = ? AND state = 'open' ORDER BY nonce, attempt", [
        account,
      ])
    ).map(transactionOf);
  }

  /** All of a nonce, by attempt. */
  async ofNonce(account: string, nonce: number): Promise<StoredTransaction[]> {
    return (
      await this.db.all("SELECT * FROM transactions WHERE account = ? AND nonce = ? ORDER BY attempt", [account, nonce])
    ).map(transactionOf);
  }

  /** The last nonce that was signed with for a purpose; null if there is none. */
  async nonceFor(account: string, purpose: string): Promise<number | null> {
    const row = await this.db.row("SELECT max(nonce) AS last FROM transactions WHERE account = ? AND purpose = ?", [
      account,
      purpose,
    ]);
    return row === null || row.last === null ? null : Number(row.last);
  }

  /** Whether another nonce has served a purpose, or is under way for it. */
  async isServedElsewhere(account: string, purpose: string, nonce: number): Promise<boolean> {
    return purpose !== CANCEL && (await otherNonceFor(this.db, account, purpose, nonce)) !== null;
  }

  /** Of a purpose that nothing has served, and nothing is under way for. */
  async failuresOf(account: string, purpose: string): Promise<PurposeFailures> {
    const row = await this.db.row(
      `SELECT count(DISTINCT own.nonce) AS times, max(mined.block) AS block FROM transactions AS own
         JOIN transactions AS mined ON mined.account = own.account AND mined.nonce = own.nonce
           AND mined.block IS NOT NULL
         WHERE own.account = ? AND own.purpose = ? AND own.state IN ('reverted', 'replaced')`,
      [account, purpose],
    );
    const block = row?.block ?? null;
    return { times: Number(row?.times ?? 0), block: block === null ? null : Number(block) };
  }

  /** Those that ended in a block from `block` on. */
  async minedFrom(account: string, block: number): Promise<StoredTransaction[]> {
    return (
      await this.db.all("SELECT * FROM transactions WHERE account = ? AND block >= ? ORDER BY nonce", [account, block])
    ).map(transactionOf);
  }

  /** Once it is final which of a nonce's transactions was mined, if one was. */
  async endNonce(account: string, nonce: number, end: NonceEnd | null): Promise<void> {
    await this.db.transaction(async (queries) => {
      await queries.run("UPDATE transactions SET state = 'replaced', block = NULL WHERE account = ? AND nonce = ?", [
        account,
        nonce,
      ]);
      if (end === null) return;
      await queries.run("UPDATE transactions SET state = ?, block = ? WHERE hash = ?", [
        end.state,
        end.block,
        end.hash,
      ]);
    });
  }

  /** Where the chain has undone what was final: all of a nonce's may be mined again. */
  async reopenNonce(account: string, nonce: number): Promise<void> {
    await this.db.run("UPDATE transactions SET state = 'open', block = NULL WHERE account = ? AND nonce = ?", [
      account,
      nonce,
    ]);
  }
}

async function otherNonceFor(
  queries: Queries,
  account: string,
  purpose: string,
  nonce: number,
): Promise<number | null> {
  const row = await queries.row(
    "SELECT nonce FROM transactions WHERE account = ? AND purpose = ? AND nonce <> ? AND state IN ('open', 'confirmed')",
    [account, purpose, nonce],
  );
  return row === null ? null : Number(row.nonce);
}

function transactionOf(row: Row): StoredTransaction {
  return {
    account: row.account as string,
    nonce: Number(row.nonce),
    attempt: Number(row.attempt),
    purpose: row.purpose as string,
    raw: row.raw as string,
    hash: row.hash as string,
    state: row.state as StoredTransaction["state"],
    block: row.block === null ? null : Number(row.block),
  };
}
