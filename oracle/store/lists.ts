/** A statement takes so many rows' values at once in either database. */
const MOST_ROWS = 1_000;

/** Parts of a list that a statement takes at once. */
export function* chunks<T>(items: readonly T[], most = MOST_ROWS): Iterable<T[]> {
  for (let from = 0; from < items.length; from += most) yield items.slice(from, from + most);
}

/** As many places for values. */
export function marks(values: readonly unknown[]): string {
  return values.map(() => "?").join(", ");
}

export const greater = (a: bigint, b: bigint) => (a > b ? a : b);
