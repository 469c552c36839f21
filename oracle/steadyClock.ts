import type { Chain } from "./chain";

/** The chain's time and, while the chain can't be read, its last known time with what has passed on this machine since. */
export function steadyClock(chain: Pick<Chain, "now">, onStale: (cause: unknown) => void): () => Promise<number> {
  let last: { time: number; readAt: number } | null = null;
  return async () => {
    try {
      const time = await chain.now();
      last = { time, readAt: performance.now() };
      return time;
    } catch (cause) {
      if (last === null) throw cause;
      onStale(cause);
      return last.time + Math.floor((performance.now() - last.readAt) / 1_000);
    }
  };
}
