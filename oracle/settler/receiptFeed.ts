/**
 * Sends receipts to attestors as they are written, ahead of the batches that will name them. Each attestor is sent all, in
 * their order, as fast as it takes them: one that is slow or away holds up no other, and goes on where it was.
 */
import { setTimeout as wait } from "node:timers/promises";
import { MOST_RECEIPTS_SENT, sendReceipts } from "../attestor/attestorApi";
import { GrantsRefused, MOST_GRANTS_SENT, sendGrants, signRetrieval } from "../attestor/retrievalApi";
import type { Chain } from "../chain/chain";
import { readEach } from "../chain/parallel";
import type { DigestSigner } from "../keys/digestSigner";
import type { Log } from "../log";
import { reasonOf } from "../problem";
import { grantHashIn, subjectOf } from "../protocol/receiptBytes";
import type { Store } from "../store/store";
import type { AttestorEndpoint, AttestorsConfig } from "./attestorPool";

/** How many requests are under way to one attestor: while it writes one down, it checks the next. */
const REQUESTS_AT_ONCE = 4;
/** How many follow one another before it is written down what the attestor has. */
const REQUESTS_IN_A_ROW = 12;

const POLL_MS = 1_000;
/** The longest that an attestor which doesn't answer is left alone. */
const LONGEST_WAIT_MS = 60_000;

/** How many refused receipts one line of the log lists. */
const MOST_LISTED = 20;

/** How many grants it remembers to have sent to one attestor. */
const MOST_REMEMBERED = 100_000;

/** A grant couldn't be signed for, so that none goes out: receipts do. */
class Unsigned extends Error {}

export class ReceiptFeed {
  /** The grants that an attestor was sent, or won't take, by its address. */
  private readonly grants = new Map<string, Set<string>>();
  /** What was told, so that it is told once. */
  private readonly told = new Set<string>();

  /** @param deps without a chain and a proposer, no grants are sent */
  constructor(
    private readonly deps: { store: Store; log: Log; chain?: Chain; proposer?: DigestSigner },
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
    const placed = await store.feeds.receiptsAfter(
      await store.feeds.upTo(address),
      REQUESTS_IN_A_ROW * MOST_RECEIPTS_SENT,
    );
    if (placed.length === 0) return 0;
    const frames: Uint8Array[][] = [];
    for (let from = 0; from < placed.length; from += MOST_RECEIPTS_SENT) {
      frames.push(placed.slice(from, from + MOST_RECEIPTS_SENT).map(({ record }) => record));
    }
    await this.feedGrants(
      { address, url },
      placed.map(({ record }) => record),
      signal,
    );
    const answers = await readEach(
      frames,
      (records) => sendReceipts(url, records, this.config.attestorTimeoutMs, signal),
      REQUESTS_AT_ONCE,
    );
    const refused = answers.flatMap((answer) => answer.refused);
    if (refused.length > 0) {
      const reasons = refused.slice(0, MOST_LISTED).map(({ reason }) => reason);
      log.warn("Attestor doesn't keep receipts", { attestor: address, receipts: refused.length, reasons });
    }
    await store.feeds.mark(address, placed[placed.length - 1].position);
    return placed.length;
  }

  /** The grants that receipts came under go before them: without these, nobody could settle them who has them back. */
  private async feedGrants(
    { address, url }: AttestorEndpoint,
    records: readonly Uint8Array[],
    signal?: AbortSignal,
  ): Promise<void> {
    const { store, chain, proposer } = this.deps;
    if (chain === undefined || proposer === undefined || records.length === 0) return;
    const sent = this.grants.get(address) ?? new Set();
    this.grants.set(address, sent);
    const hashes = [...new Set(records.map(grantHashIn))].filter((hash) => !sent.has(hash));
    const { operatorId } = subjectOf(records[0]);
    try {
      for (let from = 0; from < hashes.length; from += MOST_GRANTS_SENT) {
        const some = hashes.slice(from, from + MOST_GRANTS_SENT);
        const grants = (await Promise.all(some.map((hash) => store.grants.find(hash)))).filter(
          (grant) => grant !== null,
        );
        const retrieval = { operatorId, attestor: address, at: await chain.now() };
        const signed = await signRetrieval(chain.domain, proposer, retrieval).catch((cause) => {
          throw new Unsigned(reasonOf(cause), { cause });
        });
        const kept = await sendGrants(url, signed, grants, this.config.attestorTimeoutMs, signal);
        if (kept < grants.length) this.tellOnce("Attestor has no room for more grants", { attestor: address });
        if (sent.size > MOST_REMEMBERED) sent.clear();
        some.forEach((hash) => sent.add(hash));
      }
    } catch (cause) {
      if (!(cause instanceof GrantsRefused || cause instanceof Unsigned)) throw cause;
      hashes.forEach((hash) => sent.add(hash));
      this.tellOnce("Attestor isn't sent grants: it can't give them back", { attestor: address, cause });
    }
  }

  private tellOnce(message: string, fields: Record<string, unknown> & { attestor: string }): void {
    const what = `${message} ${fields.attestor}`;
    if (this.told.has(what)) return;
    this.told.add(what);
    this.deps.log.warn(message, fields);
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
