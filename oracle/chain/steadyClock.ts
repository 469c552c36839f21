import type { Chain } from "./chain";
import { withDeadline } from "./deadline";

/**
 * The chain's time and, while the chain can't be read or takes longer than the deadline, its last known time with what
 * has passed on this machine since.
 */
export function steadyClock(
  chain: Pick<Chain, "now">,
  deadlineMs: number,
  onStale: (cause: unknown) => void,
): () => Promise<number> {
  let last: { time: number; readAt: number } | null = null;
  return async () => {
    try {
      const time = await withDeadline(deadlineMs, () => chain.now());
      last = { time, readAt: performance.now() };
      return time;
    } catch (cause) {
      if (last === null) throw cause;
      onStale(cause);
      return last.time + Math.floor((performance.now() - last.readAt) / 1_000);
    }
  };
}
