import type { Log } from "../log";
import type { ModelConfig, UpstreamConfig } from "./models";

/** A server that says so often in a row that it isn't well, or nothing, is taken for down. */
const PROBES_TO_BE_DOWN = 2;

/** One of the inference servers that serve a model. */
export class Replica {
  /** Requests that it works on for this gateway. */
  running = 0;
  isUp = true;
  /** Which pick of its model's it was last. */
  pickedAt = 0;
  private failedProbes = 0;

  constructor(
    readonly modelId: string,
    private readonly config: UpstreamConfig,
    private readonly log: Log,
  ) {}

  get url(): string {
    return this.config.url;
  }

  /** What it calls the model. */
  get name(): string {
    return this.config.model ?? this.modelId;
  }

  get gpus(): number {
    return this.config.gpus ?? 1;
  }

  get apiKey(): string | undefined {
    return this.config.apiKey;
  }

  /** It took no connection: nothing is sent to it while another is up, until it says that it is well. */
  noteDown(cause: unknown): void {
    this.failedProbes = PROBES_TO_BE_DOWN;
    if (!this.isUp) return;
    this.isUp = false;
    this.log.warn("upstream is down", { model: this.modelId, upstreamUrl: this.url, cause });
  }

  noteProbe(isWell: boolean): void {
    if (!isWell) {
      this.failedProbes += 1;
      if (this.failedProbes >= PROBES_TO_BE_DOWN) this.noteDown("it doesn't say that it is well");
      return;
    }
    this.failedProbes = 0;
    if (this.isUp) return;
    this.isUp = true;
    this.log.info("upstream is up again", { model: this.modelId, upstreamUrl: this.url });
  }
}

/** Which servers serve which model, which of them are up, and which one a request goes to. */
export class Replicas {
  private readonly byModel: Map<string, Replica[]>;
  private picks = 0;
  private timer: NodeJS.Timeout | undefined;
  private isProbing = false;

  constructor(models: readonly ModelConfig[], log: Log) {
    this.byModel = new Map(
      models.map(({ id, upstreams }) => [id, upstreams.map((config) => new Replica(id, config, log))] as const),
    );
  }

  of(modelId: string): readonly Replica[] {
    return this.byModel.get(modelId) ?? [];
  }

  /**
   * The one that has least to do for its GPUs, of those that weren't tried; in turns where several have. Those that are down
   * come last: if all are, one of them may be back before a probe has found it out. Null if all were tried.
   */
  pick(modelId: string, tried: ReadonlySet<Replica>): Replica | null {
    const left = this.of(modelId).filter((replica) => !tried.has(replica));
    if (left.length === 0) return null;
    const best = left.reduce((one, other) => (isBetter(other, one) ? other : one));
    best.pickedAt = ++this.picks;
    return best;
  }

  /** Asks all of them again and again whether they are well, until `close`. */
  watch(isWell: (replica: Replica) => Promise<boolean>, intervalMs: number): void {
    this.timer = setInterval(() => void this.probe(isWell), intervalMs);
    this.timer.unref();
  }

  close(): void {
    clearInterval(this.timer);
  }

  private async probe(isWell: (replica: Replica) => Promise<boolean>): Promise<void> {
    if (this.isProbing) return;
    this.isProbing = true;
    const all = [...this.byModel.values()].flat();
    await Promise.all(all.map(async (replica) => replica.noteProbe(await isWell(replica))));
    this.isProbing = false;
  }
}

function isBetter(one: Replica, other: Replica): boolean {
  if (one.isUp !== other.isUp) return one.isUp;
  const [load, otherLoad] = [one.running / one.gpus, other.running / other.gpus];
  return load === otherLoad ? one.pickedAt < other.pickedAt : load < otherLoad;
}
