/**
 * What `work` gives. Throws if it takes longer than `ms` milliseconds; the signal then tells work that goes on that
 * nobody waits for it any more.
 */
export async function withDeadline<T>(ms: number, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const overdue = new AbortController();
  const timer = setTimeout(() => overdue.abort(new Error(`no answer within ${ms} ms`)), ms);
  const { signal } = overdue;
  const deadline = new Promise<never>((_resolve, reject) => {
    signal.addEventListener("abort", () => reject(signal.reason as Error), { once: true });
  });
  try {
    return await Promise.race([work(signal), deadline]);
  } finally {
    clearTimeout(timer);
  }
}
