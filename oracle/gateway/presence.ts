import { randomUUID } from "node:crypto";
import { ZeroHash } from "ethers";
import type { Log } from "../log";
import { zeroUsage } from "../protocol/meters";
import { ReceiptFlag } from "../protocol/types";
import { StoreUnavailable } from "../store/database";
import type { Lease } from "../store/leases";
import { GATEWAY_LEASE, type ReceiptSigner, type Store, StoreConflict } from "../store/store";

/** How long a gateway that says nothing counts as running: then others of its store end its requests. */
const LEASE_MS = 15_000;

/** How soon it tries again to end a request whose end couldn't be stored. */
const RETRY_MS = 1_000;

/**
 * A gateway among those of one store. As long as it says that it runs, nobody else ends its requests; it ends those of gateways
 * that say so no more, and its own whose end couldn't be stored when it came.
 */
export class Presence {
  readonly id: string = randomUUID();
  /** Requests of this gateway that have ended, and whose end isn't stored. */
  private readonly unstored = new Set<string>();
  private lease: Lease | null = null;
  private timer: NodeJS.Timeout | undefined;
  private retry: NodeJS.Timeout | undefined;
  private beating: Promise<void> = Promise.resolve();

  constructor(
    private readonly store: Store,
    private readonly sign: ReceiptSigner,
    private readonly now: () => Promise<number>,
    private readonly log: Log,
    private readonly leaseMs = LEASE_MS,
  ) {}

  /** @throws if the store can't be used */
  async begin(): Promise<void> {
    await this.beat();
    this.timer = setInterval(() => this.beatNext(), this.leaseMs / 3).unref();
  }

  /** Has a request of this gateway ended as soon as the store can be used: until then, what it set aside stays so. */
  leave(requestId: string): void {
    this.unstored.add(requestId);
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
    const isHeld = this.lease !== null && (await leases.renew(this.lease, this.leaseMs));
    if (!isHeld) this.lease = await leases.acquire(GATEWAY_LEASE + this.id, this.id, this.leaseMs);
    const left = await this.store.requestsLeftBehind(this.id);
    await this.recover([...left.map(({ facts }) => facts.requestId), ...this.unstored]);
  }

  /** Gives each a receipt of zero use, so that sequences have no gaps and nobody pays for it. */
  private async recover(requestIds: string[]): Promise<void> {
    if (requestIds.length === 0) return;
    const outcome = {
      ...zeroUsage(),
      responseHash: ZeroHash,
      finishedAt: await this.now(),
      durationMs: 0,
      ttftMs: 0,
      flags: ReceiptFlag.recovered,
    };
    const results = await Promise.all(
      requestIds.map(async (requestId) => {
        const isOpen = await this.store.finishRequest(requestId, outcome, 0n, this.sign).then(
          () => true,
          // Another gateway was first, or it was stored after all.
          (cause) => (cause instanceof StoreConflict ? false : Promise.reject(cause)),
        );
        this.unstored.delete(requestId);
        return isOpen;
      }),
    );
    const count = results.filter((isOpen) => isOpen).length;
    if (count > 0) this.log.warn("requests left open by a crash got receipts of zero use", { count });
  }
}

/** Whether the same may succeed a moment later. */
export function isForNow(cause: unknown): boolean {
  return cause instanceof StoreUnavailable;
}
