/** Figures for Prometheus, in its text format 0.0.4. */

export type Labels = Record<string, string>;
type Kind = "counter" | "gauge" | "histogram";

/** A metric has at most so many series; what comes later is counted together, so that nobody can fill the memory. */
const MOST_SERIES = 500;
const OTHER = "other";

/** One name with its help, and a line for each set of labels. */
abstract class Metric<Value> {
  protected readonly series = new Map<string, Value>();

  constructor(
    readonly name: string,
    private readonly help: string,
    private readonly kind: Kind,
  ) {}

  /** The series of these labels. */
  protected slot(labels: Labels): string {
    const key = textOf(labels);
    if (this.series.has(key) || this.series.size < MOST_SERIES) return key;
    return textOf(Object.fromEntries(Object.keys(labels).map((name) => [name, OTHER])));
  }

  text(): string {
    const lines = [...this.series].flatMap(([labels, value]) => this.linesOf(labels, value));
    const help = this.help.replace(/\\/g, "\\\\").replace(/\n/g, "\\n");
    return [`# HELP ${this.name} ${help}`, `# TYPE ${this.name} ${this.kind}`, ...lines, ""].join("\n");
  }

  protected abstract linesOf(labels: string, value: Value): string[];
}

/** Only grows. */
export class Counter extends Metric<number> {
  constructor(name: string, help: string) {
    super(name, help, "counter");
  }

  add(labels: Labels = {}, by = 1): void {
    const key = this.slot(labels);
    this.series.set(key, (this.series.get(key) ?? 0) + by);
  }

  protected linesOf(labels: string, value: number): string[] {
    return [`${this.name}${braced(labels)} ${value}`];
  }
}

/** What is so now. */
export class Gauge extends Metric<number | bigint> {
  constructor(name: string, help: string) {
    super(name, help, "gauge");
  }

  set(value: number | bigint, labels: Labels = {}): void {
    this.series.set(this.slot(labels), value);
  }

  /** So that nothing is told of what isn't known any more. */
  clear(): void {
    this.series.clear();
  }

  protected linesOf(labels: string, value: number | bigint): string[] {
    return [`${this.name}${braced(labels)} ${value}`];
  }
}

interface Buckets {
  /** How many values were at most each bound, and above the one before. */
  counts: number[];
  sum: number;
  count: number;
}

/** How often values were as large as which. */
export class Histogram extends Metric<Buckets> {
  /** @param bounds rising */
  constructor(
    name: string,
    help: string,
    private readonly bounds: readonly number[],
  ) {
    super(name, help, "histogram");
  }

  observe(value: number, labels: Labels = {}): void {
    const key = this.slot(labels);
    const buckets = this.series.get(key) ?? { counts: this.bounds.map(() => 0), sum: 0, count: 0 };
    const bucket = this.bounds.findIndex((bound) => value <= bound);
    if (bucket >= 0) buckets.counts[bucket] += 1;
    buckets.sum += value;
    buckets.count += 1;
    this.series.set(key, buckets);
  }

  protected linesOf(labels: string, { counts, sum, count }: Buckets): string[] {
    let below = 0;
    const bucketOf = (bound: number | string, n: number) =>
      `${this.name}_bucket${braced([labels, `le="${bound}"`].filter((one) => one !== "").join(","))} ${n}`;
    return [
      ...this.bounds.map((bound, i) => bucketOf(bound, (below += counts[i]))),
      bucketOf("+Inf", count),
      `${this.name}_sum${braced(labels)} ${sum}`,
      `${this.name}_count${braced(labels)} ${count}`,
    ];
  }
}

/** All metrics of a process. What is only known by asking is asked for when they are read. */
export class Registry {
  private readonly metrics: { text(): string }[] = [];
  private readonly collectors: (() => Promise<void> | void)[] = [];

  with<T extends { text(): string }>(metric: T): T {
    this.metrics.push(metric);
    return metric;
  }

  /** @param collect sets gauges. If it fails, the others are told all the same */
  collect(collect: () => Promise<void> | void): void {
    this.collectors.push(collect);
  }

  async text(): Promise<string> {
    await Promise.allSettled(this.collectors.map(async (collect) => collect()));
    return this.metrics.map((metric) => metric.text()).join("");
  }
}

/** `a="1",b="2"`, in the order given. */
function textOf(labels: Labels): string {
  return Object.entries(labels)
    .map(([name, value]) => `${name}="${value.replace(/\\/g, "\\\\").replace(/"/g, '\\"').replace(/\n/g, "\\n")}"`)
    .join(",");
}

function braced(labels: string): string {
  return labels === "" ? "" : `{${labels}}`;
}
