import { constants } from "node:os";

const ENDING = ["SIGINT", "SIGTERM"] as const;

/** Aborts at the first signal that asks this process to end. At the second it ends at once, with 128 and the signal's number. */
export function untilAskedToEnd(): AbortSignal {
  const stop = new AbortController();
  for (const signal of ENDING) {
    process.on(signal, () => {
      if (stop.signal.aborted) process.exit(128 + constants.signals[signal]);
      stop.abort();
    });
  }
  return stop.signal;
}

/** Returns when the signal aborts, or if it has. */
export async function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  await new Promise((resolve) => signal.addEventListener("abort", resolve, { once: true }));
}
