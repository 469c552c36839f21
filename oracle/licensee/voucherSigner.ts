/**
 * Signs vouchers for what a license has spent, and for nothing else: for no more than receipts say that its operator has signed,
 * that follow each other without a gap, that fit the chain, and that are of requests sent from here; within limits of its own.
 */
import { KeyObject } from "node:crypto";
import type { Signer } from "ethers";
import type { Chain } from "../chain/chain";
import type { VoucherAccount, VoucherChain, VoucherTerm } from "../chain/voucherChain";
import { oneAtATime } from "../oneAtATime";
import { Problem } from "../problem";
import { requestHashAt } from "../protocol/classification";
import { decodeBearer, grantDigest, receiptDigest } from "../protocol/messages";
import { costOf } from "../protocol/meters";
import type { Receipt, Usage } from "../protocol/types";
import { packVouchers, signVoucher, signVoucherByP256 } from "../protocol/vouchers";
import { checkReceipts, requestKeysOf } from "./receiptCheck";
import { listReceipts, type ListedReceipt } from "./receiptList";
import type { Books, Shelf, SignedFor, TermCost } from "./voucherBooks";

/** What a licensee reads of the chain. */
export interface LicenseeChain {
  chain: Pick<Chain, "domain" | "isSigningKey" | "plan" | "version" | "now">;
  vouchers: VoucherChain;
}

/** In units of the currency; none if left out. */
export interface VoucherLimits {
  /** The most that is signed for in all for a term. */
  perTerm?: bigint;
  /** The most that is signed for in a day, which begins at midnight UTC. */
  perDay?: bigint;
}

export interface VoucherSignerConfig extends LicenseeChain {
  apiKey: string;
  /** A key that was registered for the license (`license:key`), as an ethers signer or a private key of the curve P-256. */
  voucherKey: Signer | KeyObject;
  limits?: VoucherLimits;
  shelf: Shelf;
}

/** What a gateway asks to be signed: nothing of it is believed. */
export interface Demand {
  licenseId: bigint;
  operatorId: number;
  generation: number;
  term: number;
  /** Units of the currency, in all for the term. */
  owed: bigint;
}

const DAY_SECONDS = 86_400;
/** How far the gateway's clock may be off. */
const CLOCK_SECONDS = 120;
/** Requests that never get a receipt that costs something aren't remembered for ever. */
const MOST_SENT = 100_000;

export class VoucherSigner {
  private readonly licenseId: bigint;
  private readonly salt: string;
  private readonly grantHash: string;
  private readonly requestKeys: ReadonlyMap<string, string>;
  private readonly books: Books;
  /** How often each request was sent that has no receipt yet, by its salted hash. */
  private readonly sent = new Map<string, number>();
  /** From when on each request under the grant is one that was noted, by the chain's time. */
  private beganAt: number | null = null;
  private readonly inTurn = oneAtATime();

  /** @throws Problem if the books can't be read, or are another license's */
  constructor(private readonly config: VoucherSignerConfig) {
    const { grant } = decodeBearer(config.apiKey);
    this.licenseId = grant.licenseId;
    this.salt = grant.salt;
    this.grantHash = grantDigest(config.chain.domain, grant);
    this.requestKeys = requestKeysOf(this.grantHash, grant);
    this.books = config.shelf.load(grant.licenseId);
  }

  /** The voucher that was signed last, packed; null before the first. */
  get newest(): string | null {
    return this.books.signed.at(-1)?.voucher ?? null;
  }

  /** Notes a request before it is sent: only for such is signed. */
  async note(url: string, body: Uint8Array): Promise<void> {
    this.beganAt ??= await this.config.chain.now();
    const hash = requestHashAt(url, this.salt, body);
    this.sent.set(hash, (this.sent.get(hash) ?? 0) + 1);
    if (this.sent.size > MOST_SENT) this.sent.delete(this.sent.keys().next().value as string);
  }

  /**
   * The voucher that a gateway asks for, packed. One demand at a time.
   * @throws Problem if it asks for more than is owed, or more than the limits allow: nothing is signed then
   */
  answer(gatewayUrl: string, demand: Demand): Promise<string> {
    return this.inTurn(async () => {
      const account = await this.account();
      this.requireOwn(demand, account);
      const held = this.signedFor(demand);
      if (held !== undefined && held.spent >= demand.owed) return held.voucher;
      await this.readReceipts(gatewayUrl, account);
      const own = this.owed(account, demand.term);
      if (demand.owed > own) {
        throw new Problem(
          `The gateway asks for a voucher for ${demand.owed} units of term ${demand.term}; the receipts that it shows are worth ` +
            `${own}: nothing is signed. Ask its operator, and verify the receipts (receipts:verify).`,
        );
      }
      return this.sign(account, demand.term, demand.owed);
    });
  }

  /** Vouchers for all that is owed and isn't signed for yet, packed, in the order of their terms. */
  signAll(gatewayUrl: string): Promise<string[]> {
    return this.inTurn(async () => {
      const account = await this.account();
      await this.readReceipts(gatewayUrl, account);
      const vouchers: string[] = [];
      for (const { term, spent } of account.terms) {
        const owed = this.owed(account, term);
        const held = this.signedFor({ ...account, term })?.spent ?? spent;
        if (owed > held) vouchers.push(await this.sign(account, term, owed));
      }
      return vouchers;
    });
  }

  private async account(): Promise<VoucherAccount> {
    const { chain, vouchers } = this.config;
    const account = await vouchers.account(this.licenseId, await chain.now());
    if (account !== null) return account;
    throw new Problem(`License ${this.licenseId} isn't on the voucher road: nothing is to be signed for it.`);
  }

  private requireOwn(demand: Demand, account: VoucherAccount): void {
    for (const what of ["licenseId", "operatorId", "generation"] as const) {
      if (demand[what] === account[what]) continue;
      throw new Problem(
        `The gateway asks for a voucher of ${what} ${demand[what]}; by the chain it is ${account[what]}: nothing is signed.`,
      );
    }
    if (account.terms.some(({ term }) => term === demand.term)) return;
    const open = account.terms.map(({ term }) => term).join(", ");
    throw new Problem(
      `The gateway asks for a voucher of term ${demand.term}; those that can be claimed are ${open}: nothing is signed.`,
    );
  }

  /** What was charged before by batches, and what the term's receipts cost. */
  private owed({ operatorId, terms }: VoucherAccount, number: number): bigint {
    const { term, since, spent, vouched } = terms.find((one) => one.term === number)!;
    return spent - vouched + this.costOf(operatorId, term, since).cost;
  }

  private signedFor({ operatorId, term }: Pick<Demand, "operatorId" | "term">): SignedFor | undefined {
    return this.books.signed.find((one) => one.operatorId === operatorId && one.term === term);
  }

  private async sign({ operatorId, generation }: VoucherAccount, term: number, spent: bigint): Promise<string> {
    const { chain, voucherKey, limits = {}, shelf } = this.config;
    const { licenseId, books } = this;
    const held = this.signedFor({ operatorId, term });
    const number = Math.floor((await chain.now()) / DAY_SECONDS);
    const before = books.day.number === number ? books.day.signed : 0n;
    const today = before + spent - (held?.spent ?? 0n);
    requireWithin(spent, limits.perTerm, `term ${term}`);
    requireWithin(today, limits.perDay, "today");
    const message = { licenseId, operatorId, generation, term, spent };
    const signed =
      voucherKey instanceof KeyObject
        ? signVoucherByP256(chain.domain, message, voucherKey)
        : await signVoucher(chain.domain, message, voucherKey);
    const voucher = packVouchers([signed]);
    books.day = { number, signed: today };
    books.signed = [...books.signed.filter((one) => one !== held), { operatorId, term, spent, voucher }];
    await shelf.save(books);
    return voucher;
  }

  // Receipts

  /** Verifies those that are new, and adds what they cost to their terms. Nothing is added if one of them doesn't hold. */
  private async readReceipts(gatewayUrl: string, account: VoucherAccount): Promise<void> {
    const { apiKey, chain, shelf } = this.config;
    const { books, licenseId } = this;
    if (books.operatorId !== account.operatorId) this.beginWith(account.operatorId);
    const receipts = await listReceipts(gatewayUrl, apiKey, books.last.sequence + 1n);
    if (receipts.length === 0) return;
    const { problems } = await checkReceipts(chain, licenseId, receipts, [], books.last, this.requestKeys);
    const problem = problems[0] ?? this.problemOf(receipts, account);
    if (problem !== undefined) throw new Problem(`A receipt doesn't hold, so nothing is signed: ${problem}.`);
    const costs = await Promise.all(receipts.map(({ receipt }) => this.priceOf(receipt)));
    receipts.forEach(({ receipt }, i) => this.add(account, receipt, costs[i]));
    const { receipt } = receipts[receipts.length - 1];
    const { sequence, finishedAt } = receipt;
    books.last = { sequence, finishedAt, hash: receiptDigest(chain.domain, receipt) };
    const open = new Set(account.terms.map(({ term }) => term));
    books.terms = books.terms.filter(({ term }) => open.has(term));
    books.signed = books.signed.filter(({ term }) => open.has(term));
    await shelf.save(books);
  }

  /** Each operator numbers its receipts from 1. */
  private beginWith(operatorId: number): void {
    this.books.operatorId = operatorId;
    this.books.last = { sequence: 0n, hash: `0x${"00".repeat(32)}`, finishedAt: 0 };
    this.books.terms = [];
  }

  private problemOf(receipts: readonly ListedReceipt[], { operatorId }: VoucherAccount): string | undefined {
    const other = receipts.find(({ receipt }) => receipt.operatorId !== operatorId);
    if (other !== undefined)
      return `Receipt ${other.receipt.sequence} is of operator ${other.receipt.operatorId}, not ${operatorId}`;
    const left = new Map(this.sent);
    for (const { receipt } of receipts) {
      const { sequence, requestHash } = receipt;
      if (!this.mustBeOwn(receipt)) continue;
      const count = left.get(requestHash) ?? 0;
      if (count === 0) {
        return (
          `Receipt ${sequence} is of a request that wasn't sent from here (${requestHash}); if another program has the same ` +
          `API key, sign a grant for each`
        );
      }
      left.set(requestHash, count - 1);
    }
    return undefined;
  }

  /** Other grants are other programs'; and what came before this one began isn't remembered. */
  private mustBeOwn(receipt: Receipt): boolean {
    const { grantHash, finishedAt, durationMs } = receipt;
    if (grantHash !== this.grantHash || isFree(receipt)) return false;
    return this.beganAt !== null && finishedAt - Math.ceil(durationMs / 1_000) > this.beganAt + CLOCK_SECONDS;
  }

  private async priceOf(receipt: Receipt): Promise<bigint> {
    const plan = await this.config.chain.plan(receipt.planId);
    if (plan === null)
      throw new Problem(`Receipt ${receipt.sequence} is under plan ${receipt.planId}, which doesn't exist.`);
    return costOf(receipt, plan.rates);
  }

  private add({ operatorId, terms }: VoucherAccount, receipt: Receipt, cost: bigint): void {
    const own = this.sent.get(receipt.requestHash);
    if (own !== undefined && own > 1) this.sent.set(receipt.requestHash, own - 1);
    else this.sent.delete(receipt.requestHash);
    const term = termAt(terms, receipt.finishedAt);
    if (term !== undefined) this.costOf(operatorId, term.term, term.since).cost += cost;
  }

  /** Anew where the license has come to its operator once more since. */
  private costOf(operatorId: number, term: number, since: number): TermCost {
    const { terms } = this.books;
    const known = terms.find((one) => one.operatorId === operatorId && one.term === term);
    if (known !== undefined && known.since === since) return known;
    const fresh = { operatorId, term, since, cost: 0n };
    this.books.terms = [...terms.filter((one) => one !== known), fresh];
    return fresh;
  }
}

/** The term in which a receipt counts; none if that can't be claimed any more, or the receipt is from before vouchers. */
export function termAt(terms: readonly VoucherTerm[], finishedAt: number): VoucherTerm | undefined {
  return terms.filter(({ since }) => since <= finishedAt).at(-1);
}

function isFree(usage: Usage): boolean {
  return usage.requests + usage.inputTokens + usage.cachedInputTokens + usage.outputTokens + usage.computeMs === 0n;
}

function requireWithin(amount: bigint, limit: bigint | undefined, when: string): void {
  if (limit === undefined || amount <= limit) return;
  throw new Problem(`${amount} units would be signed for ${when}, and the limit is ${limit}: raise it, or wait.`);
}
