/**
 * Sends receipts to attestors as they are written, ahead of the batches that will name them. Each attestor is sent all, in
 * their order, as fast as it takes them: one that is slow or away holds up no other, and goes on where it was.
 */
import { setTimeout as wait } from "node:timers/promises";
import { MOST_RECEIPTS_SENT, sendReceipts } from "../attestor/attestorApi";
import type { Log } from "../log";
import type { Store } from "../store/store";
import type { AttestorEndpoint, AttestorsConfig } from "./attestorPool";

/** How many requests are under way to one attestor: while it writes one down, it checks the next. */
const REQUESTS_AT_ONCE = 4;

const POLL_MS = 1_000;
/** The longest that an attestor which doesn't answer is left alone. */
const LONGEST_WAIT_MS = 60_000;

/** How many refused receipts one line of the log lists. */
const MOST_LISTED = 20;

export class ReceiptFeed {
  constructor(
    private readonly deps: { store: Store; log: Log },
    private readonly config: AttestorsConfig,
  ) {}

  /** Goes on until the signal aborts. */
  async run(signal: AbortSignal): Promise<void> {
    await Promise.all(this.config.attestors.map((attestor) => this.feedOnAndOn(attestor, signal)));
  }

  /**
   * Sends an attestor what it wasn't sent yet, as much as goes at once, and gives how many receipts these were.
   * @throws Error if it doesn't answer: then the same are sent again
   */
  async feed({ address, url }: AttestorEndpoint, signal?: AbortSignal): Promise<number> {
    const { store, log } = this.deps;
    const placed = await store.receiptsAfter(await store.fedUpTo(address), REQUESTS_AT_ONCE * MOST_RECEIPTS_SENT);
    if (placed.length === 0) return 0;
    const frames: Uint8Array[][] = [];
    for (let from = 0; from < placed.length; from += MOST_RECEIPTS_SENT) {
      frames.push(placed.slice(from, from + MOST_RECEIPTS_SENT).map(({ record }) => record));
    }
    const answers = await Promise.all(
      frames.map((records) => sendReceipts(url, records, this.config.attestorTimeoutMs, signal)),
    );
    const refused = answers.flatMap((answer) => answer.refused);
    if (refused.length > 0) {
      const reasons = refused.slice(0, MOST_LISTED).map(({ reason }) => reason);
      log.warn("Attestor doesn't keep receipts", { attestor: address, receipts: refused.length, reasons });
    }
    await store.markFed(address, placed[placed.length - 1].position);
    return placed.length;
  }

  private async feedOnAndOn(attestor: AttestorEndpoint, signal: AbortSignal): Promise<void> {
    let failures = 0;
    while (!signal.aborted) {
      let fed = 0;
      try {
        fed = await this.feed(attestor, signal);
        failures = 0;
      } catch (cause) {
        if (failures++ === 0 && !signal.aborted)
          this.deps.log.warn("Attestor takes no receipts", { ...attestor, cause });
      }
      if (fed > 0) continue;
      const pause = Math.min(LONGEST_WAIT_MS, POLL_MS * 2 ** failures);
      await wait(failures === 0 ? POLL_MS : pause, undefined, { signal }).catch(() => undefined);
    }
  }
}
