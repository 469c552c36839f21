interface Held<Value> {
  value: Value;
  readAt: number;
}

/** Keeps at most this many values, the most recently read ones. */
const CAPACITY = 10_000;

/**
 * Remembers what was read for a while. When reading fails, the last value serves on: a chain that halts must not stop
 * requests that are within their limits.
 */
export class Cached<Key, Value> {
  private readonly held = new Map<Key, Held<Value>>();
  private readonly reading = new Map<Key, Promise<Value>>();

  /** @param onStale is told when an old value had to serve. */
  constructor(
    private readonly read: (key: Key) => Promise<Value>,
    private readonly maxAgeMs: number,
    private readonly onStale: (key: Key, cause: unknown) => void,
  ) {}

  /** Throws what reading throws, if nothing is remembered. */
  async get(key: Key): Promise<Value> {
    const held = this.held.get(key);
    if (held !== undefined && performance.now() - held.readAt < this.maxAgeMs) return held.value;
    try {
      return await (this.reading.get(key) ?? this.readAnew(key));
    } catch (cause) {
      if (held === undefined) throw cause;
      this.onStale(key, cause);
      return held.value;
    }
  }

  /** Reads anew, whatever is remembered or being read. */
  async refresh(key: Key): Promise<Value> {
    await this.reading.get(key)?.catch(() => undefined);
    return this.readAnew(key);
  }

  private readAnew(key: Key): Promise<Value> {
    const reading = this.read(key)
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
    this.held.set(key, { value, readAt: performance.now() });
    if (this.held.size > CAPACITY) this.held.delete(this.held.keys().next().value as Key);
  }
}
