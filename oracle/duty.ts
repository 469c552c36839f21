import { isForNow } from "./gateway/presence";
import type { Log } from "./log";
import { type Lease, type Leases, type Turn, TurnLost } from "./store/leases";

const LEASE_MS = 10_000;

/** What one of the processes that share a store does at a time. */
export interface Post {
  /** Of its lease. */
  name: string;
  /** Who has it, as the log says. */
  who: "Settler" | "Seller" | "Attestor";
}

/** To settle for a store. */
export const SETTLING: Post = { name: "settler", who: "Settler" };

/** To attest by a key, and to measure. */
export const ATTESTING: Post = { name: "attestor", who: "Attestor" };

/**
 * The right to do what one of the processes that share a store does at a time. The others wait until it ends, or hasn't said for a
 * while that it lives. One that comes too late can't sign a transaction, a batch or a measurement any more.
 */
export class Duty implements Turn {
  private held: Lease | null = null;
  private timer: NodeJS.Timeout | undefined;
  private beating: Promise<void> = Promise.resolve();
  private wasTold = false;

  /** @param holder a name that no other process has */
  constructor(
    private readonly post: Post,
    private readonly leases: Leases,
    private readonly holder: string,
    private readonly log: Log,
    private readonly leaseMs = LEASE_MS,
  ) {}

  get isMine(): boolean {
    return this.held !== null;
  }

  get lease(): Lease {
    if (this.held === null) throw new TurnLost(this.post.name);
    return this.held;
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
    if (this.held !== null) await this.leases.release(this.held).catch(() => undefined);
    this.held = null;
  }

  private async beat(): Promise<void> {
    try {
      if (this.held !== null && (await this.leases.renew(this.held, this.leaseMs))) return;
      if (this.held !== null) this.log.warn(`${this.post.who} has lost its turn`, { holder: this.holder });
      this.held = await this.leases.acquire(this.post.name, this.holder, this.leaseMs);
      this.tell();
    } catch (cause) {
      this.held = null;
      const { who } = this.post;
      this.log.warn(isForNow(cause) ? "Store can't be used, trying again" : `${who}'s turn can't be told`, { cause });
    }
  }

  private tell(): void {
    const { holder } = this;
    const { who } = this.post;
    if (this.held !== null) this.log.info(`${who} takes its turn`, { holder });
    else if (!this.wasTold) this.log.info(`${who} waits: it is another's turn`, { holder });
    this.wasTold = this.held === null;
  }
}
