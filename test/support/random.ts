/** Tommy Ettinger's generator of 32 bits: the same numbers, from 0 to below 1, for the same seed, everywhere. */
export function mulberry32(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Choices that only a seed decides. */
export class Chance {
  private readonly next: () => number;

  constructor(seed: number) {
    this.next = mulberry32(seed);
  }

  /** Whether what happens so often, of 1, happens. */
  happens(often: number): boolean {
    return this.next() < often;
  }

  /** A whole number from `least` to `most`. */
  between(least: number, most: number): number {
    return least + Math.floor(this.next() * (most - least + 1));
  }

  pick<Item>(items: readonly Item[]): Item {
    return items[Math.floor(this.next() * items.length)];
  }

  /** One of those that fit, most often; else, or where none fits, any. */
  pickFitting<Item>(items: readonly Item[], fits: (item: Item) => boolean): Item {
    const fitting = this.happens(0.9) ? items.filter(fits) : [];
    return this.pick(fitting.length > 0 ? fitting : items);
  }
}
