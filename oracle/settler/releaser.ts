/** Releases the batches whose hold is over, and what was split off them to be disputed and was let go; and brings an operator's pool what is its: nobody else need do it. */
import type { Chain } from "../chain/chain";
import type { Log } from "../log";
import type { Store } from "../store/store";
import { inCurrency, isWorthIt, type EconomyConfig } from "./economy";
import type { Call, PricedSender, SettlementEscrow } from "./sender";

export interface ReleaserDeps {
  chain: Chain;
  store: Store;
  escrow: SettlementEscrow;
  sender: PricedSender;
  log: Log;
}

/** How many batches are looked at in a round. */
const MOST_BATCHES = 100;
const DAY = 86_400;

export class Releaser {
  /** When the next of a batch may be released, Unix seconds, as far as that is known. */
  private readonly releasableAt = new Map<string, number>();
  /** Of what waits for cheaper gas, so that it is told once. */
  private readonly told = new Set<string>();

  constructor(
    private readonly deps: ReleaserDeps,
    private readonly economy?: EconomyConfig,
  ) {}

  /** Made to be called again and again. What it sends is followed by the sender. @throws if not even the time can be read */
  async releaseDue(): Promise<void> {
    const { chain, store } = this.deps;
    const now = await chain.now();
    const operators = new Set<number>();
    for (const { batchId, operatorId } of await store.batches.unreleased(MOST_BATCHES)) {
      operators.add(operatorId);
      if ((this.releasableAt.get(batchId) ?? 0) > now) continue;
      await this.guarded({ batchId }, () => this.release(batchId));
    }
    for (const operatorId of operators) await this.guarded({ operatorId }, () => this.payPool(operatorId, now));
  }

  /** A batch is released once nothing of it is in dispute, either. */
  private async release(batchId: string): Promise<void> {
    const { escrow, store, log } = this.deps;
    const parts = [batchId, ...(await escrow.chargesOf(batchId))];
    const holds = await Promise.all(parts.map(async (id) => ({ id, ...(await escrow.holdOf(id)) })));
    const waiting = holds.filter(({ status }) => status !== "Released");
    if (waiting.length === 0) {
      await store.batches.markReleased(batchId);
      this.releasableAt.delete(batchId);
      return log.info("Batch is released", { batchId });
    }
    this.releasableAt.set(batchId, Math.min(...waiting.map(({ releasableAt }) => releasableAt)));
    for (const { id, income } of waiting.filter(({ status }) => status === "Releasable")) {
      const what = id === batchId ? "batch" : "charge";
      await this.send(`release of ${what} ${id}`, income, () => escrow.release(id));
    }
  }

  /** At most once a day: what comes in meanwhile goes along. */
  private async payPool(operatorId: number, now: number): Promise<void> {
    const { escrow } = this.deps;
    const income = await escrow.poolIncomeOf(operatorId);
    if (income === 0n) return;
    const day = Math.floor(now / DAY);
    await this.send(`pool of operator ${operatorId} on day ${day}`, income, () => escrow.poolPayment(operatorId));
  }

  private async send(purpose: string, value: bigint, callOf: () => Promise<Call>): Promise<void> {
    const { escrow, sender, log } = this.deps;
    const call = await callOf();
    if (this.economy !== undefined) {
      const cost = inCurrency(await sender.costOf(call), this.economy, await escrow.decimals());
      if (!isWorthIt({ value, cost }, this.economy)) {
        if (!this.told.has(purpose)) log.info("Release waits for cheaper gas", { purpose, value, cost });
        return void this.told.add(purpose);
      }
    }
    this.told.delete(purpose);
    await sender.submit(purpose, async () => call);
  }

  /** One that fails stops no other. */
  private async guarded(what: object, work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (cause) {
      this.deps.log.warn("Release has to wait", { ...what, cause });
    }
  }
}
