import type { Log } from "../log";
import { isForNow } from "../gateway/presence";
import type { Leases, Lease } from "../store/leases";

const SETTLER_LEASE = "settler";
const LEASE_MS = 10_000;

/**
 * The right to settle for a store, which one of the processes that share it has at a time. The others wait until it ends, or
 * hasn't said for a while that it lives. One that comes too late does no harm: each number of a lane has one draft, each
 * nonce one purpose, and a batch settles once.
 */
export class Duty {
  private lease: Lease | null = null;
  private timer: NodeJS.Timeout | undefined;
  private beating: Promise<void> = Promise.resolve();
  private wasTold = false;

  /** @param holder a name that no other process has */
  constructor(
    private readonly leases: Leases,
    private readonly holder: string,
    private readonly log: Log,
    private readonly leaseMs = LEASE_MS,
  ) {}

  /** Whether it is this process's, as far as is known. */
  get isMine(): boolean {
    return this.lease !== null;
  }

  /** Takes it as soon as it is free, and keeps it, until the end. */
  async begin(): Promise<void> {
    await this.beat();
    const beatNext = () => {
      this.beating = this.beating.then(() => this.beat());
    };
    this.timer = setInterval(beatNext, this.leaseMs / 3).unref();
  }

  /** Leaves it to the others. */
  async end(): Promise<void> {
    clearInterval(this.timer);
    await this.beating;
    if (this.lease !== null) await this.leases.release(this.lease).catch(() => undefined);
    this.lease = null;
  }

  private async beat(): Promise<void> {
    try {
      if (this.lease !== null && (await this.leases.renew(this.lease, this.leaseMs))) return;
      if (this.lease !== null) this.log.warn("Another settles for this store now", { holder: this.holder });
      this.lease = await this.leases.acquire(SETTLER_LEASE, this.holder, this.leaseMs);
      this.tell();
    } catch (cause) {
      this.lease = null;
      this.log.warn(isForNow(cause) ? "Store can't be used, trying again" : "Settler's turn can't be told", { cause });
    }
  }

  private tell(): void {
    const { holder } = this;
    if (this.lease !== null) this.log.info("Settler takes its turn", { holder });
    else if (!this.wasTold) this.log.info("Settler waits: another settles for this store", { holder });
    this.wasTold = this.lease === null;
  }
}
