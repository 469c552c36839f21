import { withDeadline } from "../chain/deadline";

interface Held<Value> {
  value: Value;
  /** When it was read, or failed to be. */
  triedAt: number;
  /** Whether it failed to be. */
  isStale: boolean;
}

export interface CacheTimes {
  /** How long a value serves before it is read anew. */
  maxAgeMs: number;
  /** How long reading may take. */
  deadlineMs: number;
}

/** Keeps at most this many values, the most recently read ones. */
const CAPACITY = 10_000;

/**
 * Remembers what was read for a while. When reading fails or takes too long, the last value serves on, and nobody waits for
 * the next attempts until one succeeds: a chain that halts or hangs must not stop requests that are within their limits. A
 * key is read once at a time.
 */
export class Cached<Key, Value> {
  private readonly held = new Map<Key, Held<Value>>();
  private readonly reading = new Map<Key, Promise<Value>>();

  /**
   * @param read must have no effect once its signal is aborted: then another reading may have begun.
   * @param onStale is told when an old value had to serve.
   */
  constructor(
    private readonly read: (key: Key, signal: AbortSignal) => Promise<Value>,
    private readonly times: CacheTimes,
    private readonly onStale: (key: Key, cause: unknown) => void,
  ) {}

  /** Throws what reading throws, if nothing is remembered. */
  async get(key: Key): Promise<Value> {
    const held = this.held.get(key);
    if (held !== undefined && performance.now() - held.triedAt < this.times.maxAgeMs) return held.value;
    const reading = (this.reading.get(key) ?? this.readAnew(key)).catch((cause) => this.lastInstead(key, cause));
    if (held?.isStale !== true) return reading;
    reading.catch(() => undefined);
    return held.value;
  }

  private lastInstead(key: Key, cause: unknown): Value {
    const last = this.held.get(key);
    if (last === undefined) throw cause;
    this.onStale(key, cause);
    this.held.set(key, { ...last, triedAt: performance.now(), isStale: true });
    return last.value;
  }

  /** What was read last, however long ago; undefined if nothing is remembered. */
  last(key: Key): Value | undefined {
    return this.held.get(key)?.value;
  }

  /** Reads anew, whatever is remembered or being read. Throws what reading throws. */
  async refresh(key: Key): Promise<Value> {
    while (this.reading.has(key)) await this.reading.get(key)?.catch(() => undefined);
    return this.readAnew(key);
  }

  private readAnew(key: Key): Promise<Value> {
    const reading = withDeadline(this.times.deadlineMs, (signal) => this.read(key, signal))
      .then((value) => {
        this.hold(key, value);
        return value;
      })
      .finally(() => this.reading.delete(key));
    this.reading.set(key, reading);
    return reading;
  }

  private hold(key: Key, value: Value): void {
    this.held.delete(key);
    this.held.set(key, { value, triedAt: performance.now(), isStale: false });
    if (this.held.size > CAPACITY) this.held.delete(this.held.keys().next().value as Key);
  }
}
