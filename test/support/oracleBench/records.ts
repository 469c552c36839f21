/** What the benchmark finds: figures as ratios to a limit that was measured in the same run, or as they are. */
export interface Figure {
  name: string;
  value: number;
  unit: "ratio" | "ms" | "MB" | "1/s";
  /** What is wanted of it; null of a figure that only explains others. */
  goal: { atLeast: number } | { atMost: number } | null;
  /** Which runs it is the median of. */
  samples: number[];
}

export function figureOf(name: string, unit: Figure["unit"], samples: number[], goal: Figure["goal"] = null): Figure {
  return { name, value: rounded(median(samples)), unit, goal, samples: samples.map(rounded) };
}

export function isReached({ value, goal }: Figure): boolean | null {
  if (goal === null) return null;
  return "atLeast" in goal ? value >= goal.atLeast : value <= goal.atMost;
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/** Of four digits: no clock is better. */
export function rounded(value: number): number {
  return Number(value.toPrecision(4));
}
