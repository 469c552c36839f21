import type { Caller } from "./admission";
import { ApiError } from "./openai";

/** What one grant, or all grants of one license together, may ask for. */
export interface Quota {
  /** As many may also come at once, after a minute without any. */
  requestsPerMinute: number;
  /** Requests that are received, run, or whose answers are on their way. */
  concurrent: number;
}

/** What a gateway takes on, so that no number of requests fills its memory, and no client takes the others' share. */
export interface Limits {
  perGrant: Quota;
  perLicense: Quota;
  /** Requests of everybody at once. */
  concurrent: number;
  /** Bytes of requests' bodies that are held at once. */
  bodyBytes: number;
  /** Connections that are open at once; further ones are closed. */
  connections: number;
  /** Receipts of one plan and version that wait for proofs, where the plan demands them. */
  unproven: number;
}

interface Use {
  /** Requests that may still come now. */
  left: number;
  /** When that was so, by the clock. */
  at: number;
  running: number;
}

const MINUTE_MS = 60_000;
const BUSY_RETRY_SECONDS = 1;

/** Of each key, how many requests came within the last minute, and how many run. */
class Uses {
  private readonly kept = new Map<string, Use>();

  constructor(
    private readonly quota: Quota,
    private readonly whose: string,
  ) {}

  get size(): number {
    return this.kept.size;
  }

  /** @throws ApiError 429 if another request would be too much */
  require(key: string, now: number): void {
    const { requestsPerMinute, concurrent } = this.quota;
    const { left, running } = this.useOf(key, now);
    if (running >= concurrent) {
      throw tooMany(
        "too_many_running",
        `${this.whose} may have ${concurrent} requests running at once: try again when one has ended`,
        BUSY_RETRY_SECONDS,
      );
    }
    if (left >= 1) return;
    const seconds = Math.ceil(((1 - left) * MINUTE_MS) / requestsPerMinute / 1_000);
    throw tooMany(
      "rate_limit_exceeded",
      `${this.whose} may send ${requestsPerMinute} requests a minute: try again in ${seconds} s`,
      seconds,
    );
  }

  begin(key: string, now: number): void {
    const { left, running } = this.useOf(key, now);
    this.kept.set(key, { left: left - 1, at: now, running: running + 1 });
  }

  end(key: string): void {
    const use = this.kept.get(key);
    if (use !== undefined) use.running -= 1;
  }

  /** Forgets those who may do everything again. */
  sweep(now: number): void {
    for (const [key, { running, at }] of this.kept) {
      if (running === 0 && now - at >= MINUTE_MS) this.kept.delete(key);
    }
  }

  private useOf(key: string, now: number): Use {
    const most = this.quota.requestsPerMinute;
    const { left, at, running } = this.kept.get(key) ?? { left: most, at: now, running: 0 };
    return { left: Math.min(most, left + ((now - at) * most) / MINUTE_MS), at: now, running };
  }
}

/** Lets requests in as long as there is room for them. What they hold is given back by the functions that it gives. */
export class Doorkeeper {
  private readonly grants: Uses;
  private readonly licenses: Uses;
  private running = 0;
  private heldBytes = 0;
  private sweptAt: number;

  /** @param clock in milliseconds, never backwards */
  constructor(
    private readonly limits: Limits,
    private readonly clock: () => number = () => performance.now(),
  ) {
    this.grants = new Uses(limits.perGrant, "a grant");
    this.licenses = new Uses(limits.perLicense, "a license");
    this.sweptAt = clock();
  }

  /** How many grants and licenses it remembers. */
  get size(): number {
    return this.grants.size + this.licenses.size;
  }

  /**
   * Counts a caller's request as running until the function that it gives is called.
   * @throws ApiError 429 if its grant or its license asks for too much, 503 if all together do
   */
  admit({ grantHash, license }: Pick<Caller, "grantHash" | "license">): () => void {
    const now = this.clock();
    const licenseId = license.licenseId.toString();
    if (now - this.sweptAt >= MINUTE_MS) this.sweep(now);
    this.licenses.require(licenseId, now);
    this.grants.require(grantHash, now);
    if (this.running >= this.limits.concurrent) throw full(`${this.running} requests run`);
    this.licenses.begin(licenseId, now);
    this.grants.begin(grantHash, now);
    this.running += 1;
    return once(() => {
      this.licenses.end(licenseId);
      this.grants.end(grantHash);
      this.running -= 1;
    });
  }

  /**
   * Keeps room for a body until the function that it gives is called.
   * @throws ApiError 503 if there is none
   */
  hold(bytes: number): () => void {
    if (this.heldBytes + bytes > this.limits.bodyBytes) throw full(`${this.heldBytes} bytes of requests are held`);
    this.heldBytes += bytes;
    return once(() => void (this.heldBytes -= bytes));
  }

  private sweep(now: number): void {
    this.grants.sweep(now);
    this.licenses.sweep(now);
    this.sweptAt = now;
  }
}

function once(work: () => void): () => void {
  let isDone = false;
  return () => {
    if (!isDone) work();
    isDone = true;
  };
}

function tooMany(code: string, message: string, retryAfterSeconds: number): ApiError {
  return new ApiError(429, code, message, { retryAfterSeconds });
}

function full(why: string): ApiError {
  return new ApiError(503, "gateway_full", `the gateway is full, ${why}: try again in a moment`, {
    retryAfterSeconds: BUSY_RETRY_SECONDS,
  });
}
