import { randomUUID } from "node:crypto";
import { ZeroHash } from "ethers";
import type { Log } from "../log";
import { zeroUsage } from "../protocol/meters";
import { ReceiptFlag } from "../protocol/types";
import { StoreUnavailable } from "../store/database";
import type { Lease } from "../store/leases";
import type { Store } from "../store/store";
import { GATEWAY_LEASE, type ReceiptSigner, type RequestOutcome } from "../store/requestBooks";
import { StoreConflict } from "../store/storeConflict";
import type { GatewayObserver } from "./observer";

/** How long a gateway that says nothing counts as running: then others of its store end its requests. */
const LEASE_MS = 15_000;

/** How soon it tries again to end a request whose end couldn't be stored. */
const RETRY_MS = 1_000;

/** How a request ended, and what it costs. */
export interface Ended {
  outcome: RequestOutcome;
  cost: bigint;
}

/**
 * A gateway among those of one store. As long as it says that it runs, nobody else ends its requests; it ends those of gateways
 * that say so no more, and its own whose end couldn't be stored when it came.
 */
export class Presence {
  readonly id: string = randomUUID();
  /** Requests of this gateway that have ended, and whose end isn't stored; null if they are free. */
  private readonly unstored = new Map<string, Ended | null>();
  /** Until when nobody else's requests are ended, by `performance.now()`. */
  private patientUntil = -Infinity;
  private lease: Lease | null = null;
  private timer: NodeJS.Timeout | undefined;
  private retry: NodeJS.Timeout | undefined;
  private beating: Promise<void> = Promise.resolve();

  constructor(
    private readonly store: Store,
    private readonly sign: ReceiptSigner,
    private readonly now: () => Promise<number>,
    private readonly log: Log,
    private readonly observer?: Pick<GatewayObserver, "charged">,
    private readonly leaseMs = LEASE_MS,
  ) {}

  /** @throws if the store can't be used */
  async begin(): Promise<void> {
    await this.beat();
    this.timer = setInterval(() => this.beatNext(), this.leaseMs / 3).unref();
  }

  /**
   * Has a request of this gateway ended as soon as the store can be used: until then, what it set aside stays so.
   * @param ended left out, it costs nothing
   */
  leave(requestId: string, ended: Ended | null = null): void {
    this.unstored.set(requestId, ended);
    this.retry ??= setTimeout(() => {
      this.retry = undefined;
      this.beatNext();
    }, RETRY_MS).unref();
  }

  /** When none of its requests runs any more. */
  async end(): Promise<void> {
    clearInterval(this.timer);
    clearTimeout(this.retry);
    await this.beating;
    await this.tryToBeat();
    if (this.lease !== null) await this.store.leases.release(this.lease).catch(() => undefined);
  }

  private beatNext(): void {
    this.beating = this.beating.then(() => this.tryToBeat());
  }

  private async tryToBeat(): Promise<void> {
    try {
      await this.beat();
    } catch (cause) {
      this.log.warn("store can't be used, trying again", { cause });
    }
  }

  private async beat(): Promise<void> {
    const { leases } = this.store;
    const isHeld =
      this.lease !== null && (await leases.holds(this.lease)) && (await leases.renew(this.lease, this.leaseMs));
    // Where the store was away, the leases of others that run are over, too: they get the time to say so.
    if (!isHeld && this.lease !== null) this.patientUntil = performance.now() + this.leaseMs;
    if (!isHeld) this.lease = await leases.acquire(GATEWAY_LEASE + this.id, this.id, this.leaseMs);
    if (this.unstored.size > 0) await this.storeEnds();
    if (performance.now() >= this.patientUntil) await this.recover();
  }

  private async storeEnds(): Promise<void> {
    const free = { outcome: await this.noUse(), cost: 0n };
    const ended = [...this.unstored].map(async ([requestId, own]) => {
      const isStored = await this.finish(requestId, own ?? free);
      this.unstored.delete(requestId);
      return isStored;
    });
    const count = (await Promise.all(ended)).filter((isStored) => isStored).length;
    if (count > 0) this.log.warn("requests that ended while the store was away have receipts now", { count });
  }

  /** Gives what others left open a receipt of zero use, so that sequences have no gaps and nobody pays for it. */
  private async recover(): Promise<void> {
    const left = await this.store.requests.leftBehind(this.id);
    if (left.length === 0) return;
    const free = { outcome: await this.noUse(), cost: 0n };
    const ended = await Promise.all(left.map(({ facts }) => this.finish(facts.requestId, free)));
    const count = ended.filter((isStored) => isStored).length;
    if (count > 0) this.log.warn("requests left open by a crash got receipts of zero use", { count });
  }

  private async noUse(): Promise<RequestOutcome> {
    return {
      ...zeroUsage(),
      responseHash: ZeroHash,
      finishedAt: await this.now(),
      durationMs: 0,
      ttftMs: 0,
      flags: ReceiptFlag.recovered,
    };
  }

  /** @returns false if another gateway was first, or it was stored after all */
  private async finish(requestId: string, { outcome, cost }: Ended): Promise<boolean> {
    try {
      const { receipt } = await this.store.requests.finish(requestId, outcome, cost, this.sign);
      this.observer?.charged(receipt, cost);
      return true;
    } catch (cause) {
      if (cause instanceof StoreConflict) return false;
      throw cause;
    }
  }
}

/** Whether the same may succeed a moment later. */
export function isForNow(cause: unknown): boolean {
  return cause instanceof StoreUnavailable;
}
