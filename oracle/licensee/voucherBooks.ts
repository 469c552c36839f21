/**
 * What a licensee's own books say: which receipts it has verified, what they cost, and what it has signed for. They are kept as
 * one JSON file, or in memory: what is lost of them is read again from the gateway and the chain.
 */
import { existsSync, readFileSync } from "node:fs";
import { open, rename } from "node:fs/promises";
import { Problem, reasonOf } from "../problem";
import type { LastReceipt } from "./receiptCheck";

/** A voucher that was signed. */
export interface SignedFor {
  operatorId: number;
  term: number;
  /** Units of the currency, in all for the term. */
  spent: bigint;
  /** Packed. */
  voucher: string;
}

/** What verified receipts of a term cost. */
export interface TermCost {
  operatorId: number;
  term: number;
  /** From when on they count, Unix seconds. */
  since: number;
  /** Units of the currency. */
  cost: bigint;
}

export interface Books {
  licenseId: bigint;
  /** Whose receipts they are; null before the first. */
  operatorId: number | null;
  last: LastReceipt;
  terms: TermCost[];
  signed: SignedFor[];
  /** The day, counted from 1970, in which something was signed last, and how much more than before in all of it. */
  day: { number: number; signed: bigint };
}

export const emptyBooks = (licenseId: bigint): Books => ({
  licenseId,
  operatorId: null,
  last: { sequence: 0n, hash: `0x${"00".repeat(32)}`, finishedAt: 0 },
  terms: [],
  signed: [],
  day: { number: 0, signed: 0n },
});

/** Where books are kept. */
export interface Shelf {
  load(licenseId: bigint): Books;
  save(books: Books): Promise<void>;
}

export function inMemory(): Shelf {
  return { load: emptyBooks, save: async () => {} };
}

/** One process's at a time. */
export function inFile(path: string): Shelf {
  return {
    load: (licenseId) => {
      const books = existsSync(path) ? booksIn(path) : emptyBooks(licenseId);
      if (books.licenseId === licenseId) return books;
      throw new Problem(
        `${path} has the books of license ${books.licenseId}, and the API key is of ${licenseId}: name another.`,
      );
    },
    save: async (books) => {
      const written = `${path}.new`;
      const file = await open(written, "w", 0o600);
      await file.writeFile(
        JSON.stringify(books, (_key, value: unknown) => (typeof value === "bigint" ? `${value}n` : value)),
      );
      await file.sync();
      await file.close();
      await rename(written, path);
    },
  };
}

function booksIn(path: string): Books {
  try {
    return JSON.parse(readFileSync(path, "utf8"), (_key, value: unknown) =>
      typeof value === "string" && /^\d+n$/.test(value) ? BigInt(value.slice(0, -1)) : value,
    ) as Books;
  } catch (cause) {
    throw new Problem(`${path} can't be read as books (${reasonOf(cause)}): name another file, or remove it.`, {
      cause,
    });
  }
}
