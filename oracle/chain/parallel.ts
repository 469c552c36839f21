/** How many reads of the chain run at once: enough to hide their latency, few enough for a node to answer. */
const READS_AT_ONCE = 32;

/** Reads something of each item, a bounded number at a time, in the items' order. @throws what the first read throws that fails */
export async function readEach<T, R>(
  items: readonly T[],
  read: (item: T) => Promise<R>,
  atOnce = READS_AT_ONCE,
): Promise<R[]> {
  const results = new Array<R>(items.length);
  const waiting = items.entries();
  const readOn = async () => {
    for (const [i, item] of waiting) results[i] = await read(item);
  };
  await Promise.all(Array.from({ length: Math.min(atOnce, items.length) }, readOn));
  return results;
}
