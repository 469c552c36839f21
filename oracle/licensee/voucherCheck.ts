/**
 * What a licensee holds against its vouchers: that the chain has paid no more by them than receipts say, nor than its own books have
 * signed for, and that the gateway asks for no more than both make.
 */
import type { VoucherAccount } from "../chain/voucherChain";
import { shown } from "../problem";
import { MalformedMessage } from "../protocol/messages";
import { unpackVoucher, type Voucher } from "../protocol/vouchers";
import { readJson } from "./receiptList";
import type { VoucherReceipt } from "./receiptCheck";
import type { SignedFor } from "./voucherBooks";
import { termAt } from "./voucherSigner";

/** What a voucher was charged, by the chain's own log. Units of the currency. */
export interface VoucherPayment {
  term: number;
  charged: bigint;
}

/** What a gateway says is owed for a term, in all. Nothing of it is believed. */
export interface ClaimedTerm {
  term: number;
  /** Units of the currency. */
  owed: bigint;
}

export interface VoucherFacts {
  licenseId: bigint;
  operatorId: number;
  /** Receipts that vouchers pay. */
  receipts: readonly VoucherReceipt[];
  /** All that the operator's vouchers were charged. */
  payments: readonly VoucherPayment[];
  /** As the chain has it; null if the license isn't on the voucher road now. */
  account: VoucherAccount | null;
  /** By the gateway's word; none if it wasn't asked. */
  claimed: readonly ClaimedTerm[];
  /** By the licensee's own books; null without any. */
  signed: readonly SignedFor[] | null;
}

export interface CheckedVouchers {
  /** Sentences with the values that don't fit; none if all does. */
  problems: string[];
  /** What the receipts cost that vouchers pay, what was paid, and what of it isn't yet, in units of the currency. */
  cost: bigint;
  paid: bigint;
  unpaid: bigint;
}

export function checkVouchers(facts: VoucherFacts): CheckedVouchers {
  const cost = sum(facts.receipts.map((receipt) => receipt.cost));
  const paid = sum(facts.payments.map(({ charged }) => charged));
  const problems = [...paymentProblems(cost, paid), ...termProblems(facts), ...bookProblems(facts)];
  return { problems, cost, paid, unpaid: cost > paid ? cost - paid : 0n };
}

function* paymentProblems(cost: bigint, paid: bigint): Iterable<string> {
  if (paid > cost) yield `Vouchers were charged ${paid} units; the receipts that they pay are worth ${cost}`;
}

/** Of terms that can still be claimed: of others the chain doesn't say when they ran. */
function* termProblems({ receipts, account, claimed, signed }: VoucherFacts): Iterable<string> {
  for (const { term, spent, vouched } of account?.terms ?? []) {
    const own = receipts.filter(({ finishedAt }) => termAt(account!.terms, finishedAt)?.term === term);
    const owed = spent - vouched + sum(own.map((receipt) => receipt.cost));
    const asked = claimed.find((one) => one.term === term)?.owed ?? 0n;
    if (asked > owed) {
      yield `The gateway says that ${asked} units are owed for term ${term}; its receipts, and what was charged before, make ${owed}`;
    }
    if (signed === null) continue;
    const held = signed.find((one) => one.term === term && one.operatorId === account!.operatorId)?.spent ?? 0n;
    if (vouched > 0n && spent > held) {
      yield `Term ${term} was charged up to ${spent} units, and the books have signed for ${held}: who else has the voucher key?`;
    }
    if (held > owed) {
      yield `The books have signed for ${held} units of term ${term}; its receipts, and what was charged before, make ${owed}`;
    }
  }
}

/** The books themselves may have been changed. */
function* bookProblems({ licenseId, signed }: VoucherFacts): Iterable<string> {
  for (const { operatorId, term, spent, voucher } of signed ?? []) {
    const said = saidBy(voucher, operatorId);
    const own = saidOf({ licenseId, term, spent });
    if (said !== own) yield `The books have signed for ${own}; the voucher in them says ${said}`;
  }
}

function saidOf({ licenseId, term, spent }: Pick<Voucher, "licenseId" | "term" | "spent">): string {
  return `${spent} units of license ${licenseId}'s term ${term}`;
}

function saidBy(packed: string, operatorId: number): string {
  try {
    return saidOf(unpackVoucher(packed, operatorId).voucher);
  } catch (cause) {
    if (cause instanceof RangeError) return `nothing (${cause.message})`;
    throw cause;
  }
}

/** What a gateway says is owed. @throws Problem if it doesn't */
export async function claimedTerms(gatewayUrl: string, apiKey: string): Promise<ClaimedTerm[]> {
  return readJson(gatewayUrl, "/v1/vouchers", apiKey, "account of vouchers", (json) => {
    const { terms } = (json ?? {}) as { terms?: unknown };
    if (!Array.isArray(terms)) throw new MalformedMessage(`it is no account of vouchers: ${shown(json)}`);
    return terms.map((one: unknown) => {
      const { term, owed } = (one ?? {}) as { term?: unknown; owed?: unknown };
      if (!Number.isSafeInteger(term) || typeof owed !== "string" || !/^[0-9]{1,20}$/.test(owed)) {
        throw new MalformedMessage(`a term has no number, or doesn't say what is owed: ${shown(one)}`);
      }
      return { term: term as number, owed: BigInt(owed) };
    });
  });
}

function sum(amounts: readonly bigint[]): bigint {
  return amounts.reduce((total, one) => total + one, 0n);
}
