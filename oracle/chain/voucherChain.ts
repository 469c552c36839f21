/** What the chain says of licenses on the voucher road: what can be claimed of them, by whose signature, and what was. */
import { getAddress, type Provider } from "ethers";
import {
  LicenseRegistry__factory,
  OperatorRegistry__factory,
  UsageEscrow__factory,
  type LicenseRegistry,
  type OperatorRegistry,
  type UsageEscrow,
} from "../../typechain-types";
import type { AccountView, PlanTerms } from "./licenseState";
import type { Call } from "../settler/sender";
import { AS_OF_NOW, statusName, type StatusName } from "./statuses";
import { packVouchers, unpackVoucherOutcomes, type SignedVoucher, type VoucherOutcome } from "../protocol/vouchers";

/** A term of which vouchers can still be claimed. Times are Unix seconds, money is in units of the currency. */
export interface VoucherTerm {
  /** Its number, from 0. */
  term: number;
  planId: number;
  /** Use counts in it from then on: since it began or, if that was later, since the license came to its operator by vouchers. */
  since: number;
  endsAt: number;
  /** What was charged in it, by whatever road. */
  spent: bigint;
  /** Of that, what vouchers of the present operator were charged since then. */
  vouched: bigint;
}

/** A license on the voucher road. */
export interface VoucherAccount {
  licenseId: bigint;
  operatorId: number;
  generation: number;
  /** Those that can be claimed, in their order; the last may begin only within two hours. */
  terms: VoucherTerm[];
}

export interface VoucherKeyState {
  status: StatusName<"VoucherKeyStatus">;
  /** The most that it can bring a term's counter to, in units of the currency. */
  cap: bigint;
}

/** All methods throw if the chain can't be read. */
export interface VoucherChain {
  /** Null if the license isn't on the voucher road, or not there. @param now Unix seconds */
  account(licenseId: bigint, now: number): Promise<VoucherAccount | null>;
  /** @param key As the escrow registers it: 20 bytes or 64 */
  key(licenseId: bigint, generation: number, key: string): Promise<VoucherKeyState>;
  /** What would become of vouchers of licenses under one plan, if the operator's owner, or another poster, posted them now. */
  preview(
    operatorId: number,
    planId: number,
    vouchers: readonly SignedVoucher[],
    poster?: string,
  ): Promise<VoucherOutcome[]>;
  /** What became of the vouchers that a transaction posted. @throws Error if it posted none */
  outcomesOf(hash: string): Promise<VoucherOutcome[]>;
  /** The call that posts them. */
  settlement(operatorId: number, planId: number, vouchers: readonly SignedVoucher[]): Promise<Call>;
}

/** @param fromBlock The deployment's first: events before it are not looked for */
export async function connectVoucherChain(
  provider: Provider,
  { escrow: address, fromBlock }: { escrow: string; fromBlock: number },
): Promise<VoucherChain> {
  const runner = { provider };
  const escrow = UsageEscrow__factory.connect(address, runner);
  const [licenses, operators, epochPeriod, windowPeriod] = await Promise.all([
    escrow.LICENSES(),
    escrow.OPERATORS(),
    escrow.EPOCH_PERIOD(),
    escrow.WINDOW_PERIOD(),
  ]);
  return new EthersVoucherChain(
    provider,
    getAddress(address),
    escrow,
    LicenseRegistry__factory.connect(licenses, runner),
    OperatorRegistry__factory.connect(operators, runner),
    Number(epochPeriod + windowPeriod),
    fromBlock,
  );
}

class EthersVoucherChain implements VoucherChain {
  /** @param waitPeriod How long what was used may still be charged, in seconds */
  constructor(
    private readonly provider: Provider,
    private readonly address: string,
    private readonly escrow: UsageEscrow,
    private readonly licenses: LicenseRegistry,
    private readonly operators: OperatorRegistry,
    private readonly waitPeriod: number,
    private readonly fromBlock: number,
  ) {}

  async account(licenseId: bigint, now: number): Promise<VoucherAccount | null> {
    // What was charged and what vouchers were charged must be of one moment.
    const block = await this.provider.getBlockNumber();
    const account = await this.escrow.accountOf(licenseId, { blockTag: block });
    if (account.planId === 0n || !account.onVoucherRoad) return null;
    const [plan, former, arrival] = await Promise.all([
      this.licenses.termsOf(account.planId),
      account.formerPlanId === 0n ? null : this.licenses.termsOf(account.formerPlanId),
      this.arrivalOf(licenseId, block),
    ]);
    const terms = termsOf(account, plan, former ?? plan, now + AHEAD_SECONDS).filter(
      ({ endsAt }) => endsAt > arrival.at && endsAt + this.waitPeriod >= now,
    );
    const operatorId = Number(account.operatorId);
    const vouched = await this.vouchedOf(licenseId, operatorId, arrival.block, block);
    return {
      licenseId,
      operatorId,
      generation: Number(account.generation),
      terms: terms.map(({ startsAt, ...term }) => ({
        ...term,
        since: Math.max(startsAt, arrival.at),
        vouched: vouched.get(term.term) ?? 0n,
      })),
    };
  }

  async key(licenseId: bigint, generation: number, key: string): Promise<VoucherKeyState> {
    const [status, { cap }] = await this.escrow.voucherKeyOf(licenseId, generation, key, AS_OF_NOW);
    return { status: statusName("VoucherKeyStatus", status), cap };
  }

  async preview(
    operatorId: number,
    planId: number,
    vouchers: readonly SignedVoucher[],
    poster?: string,
  ): Promise<VoucherOutcome[]> {
    const from = poster ?? (await this.operators.ownerOf(operatorId));
    const packed = packVouchers(vouchers);
    const { outcomes } = await this.escrow.previewVouchers(operatorId, planId, packed, { ...AS_OF_NOW, from });
    return unpackVoucherOutcomes(outcomes);
  }

  async outcomesOf(hash: string): Promise<VoucherOutcome[]> {
    const logs = (await this.provider.getTransactionReceipt(hash))?.logs ?? [];
    for (const log of logs) {
      const event = log.address === this.address ? this.escrow.interface.parseLog(log) : null;
      if (event?.name === "VouchersSettled") return unpackVoucherOutcomes(event.args.outcomes as string);
    }
    throw new Error(`transaction ${hash} has posted no vouchers`);
  }

  settlement(operatorId: number, planId: number, vouchers: readonly SignedVoucher[]): Promise<Call> {
    return this.escrow.settleVouchers.populateTransaction(operatorId, planId, packVouchers(vouchers));
  }

  /** When the license came to its operator by vouchers. The same service, named again to take a change back, is no arrival. */
  private async arrivalOf(licenseId: bigint, until: number): Promise<{ at: number; block: number }> {
    const filter = this.escrow.filters.ServiceChanged(licenseId);
    const changes = await this.escrow.queryFilter(filter, this.fromBlock, until);
    const serviceOf = ({ args }: { args: { operatorId: bigint; onVoucherRoad: boolean } }) =>
      `${args.operatorId}/${args.onVoucherRoad}`;
    let first = changes.length - 1;
    if (first < 0)
      throw new Error(`no event says how license ${licenseId} came to vouchers: check the address book's block`);
    while (first > 0 && serviceOf(changes[first - 1]) === serviceOf(changes[first])) first--;
    const { timestamp, number } = await changes[first].getBlock();
    return { at: timestamp, block: number };
  }

  /** What an operator's vouchers were charged of a license between two blocks, both included, by term. */
  private async vouchedOf(licenseId: bigint, operatorId: number, from: number, until: number) {
    const settled = await this.escrow.queryFilter(this.escrow.filters.VouchersSettled(operatorId), from, until);
    const byTerm = new Map<number, bigint>();
    for (const outcome of settled.flatMap(({ args }) => unpackVoucherOutcomes(args.outcomes))) {
      if (outcome.licenseId !== licenseId) continue;
      byTerm.set(outcome.term, (byTerm.get(outcome.term) ?? 0n) + outcome.charged);
    }
    return byTerm;
  }
}

/** Terms are looked for so long ahead: a request may take an hour, and what the chain said may be some minutes old. */
const AHEAD_SECONDS = 7_200;

type Term = Pick<VoucherTerm, "term" | "planId" | "endsAt" | "spent"> & { startsAt: number };

/** The term before, while the account knows it; the account's; and those that began after it by time alone. */
export function termsOf(account: AccountView, plan: PlanTerms, formerPlan: PlanTerms, until: number): Term[] {
  const [number, endsAt, planId] = [Number(account.term), Number(account.expiresAt), Number(account.planId)];
  const period = Number(plan.termPeriod);
  const terms = [{ term: number, planId, startsAt: endsAt - period, endsAt, spent: account.spent }];
  if (account.endedAt > 0n) {
    const endedAt = Number(account.endedAt);
    terms.unshift({
      term: number - 1,
      planId: Number(account.formerPlanId) || planId,
      startsAt: endedAt - Number(formerPlan.termPeriod),
      endsAt: endedAt,
      spent: account.endedSpent,
    });
  }
  if (!plan.renewable || plan.minimumSpend > 0n || account.stoppedAt > 0n) return terms;
  for (let ahead = 0; endsAt + ahead * period <= until; ahead++) {
    const startsAt = endsAt + ahead * period;
    terms.push({ term: number + ahead + 1, planId, startsAt, endsAt: startsAt + period, spent: 0n });
  }
  return terms;
}
