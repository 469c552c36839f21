import { monitorEventLoopDelay } from "node:perf_hooks";
import type { CanaryDeps } from "../attestor/canary";
import type { AccountSender, SenderEvent } from "../chain/accountSender";
import type { Answerer } from "../disputes/answerer";
import type { GatewayFigures, GatewayObserver } from "../gateway/observer";
import type { Log } from "../log";
import { ReceiptFlag, type Receipt } from "../protocol/types";
import type { ProvenLanes } from "../settler/provenLanes";
import type { Settler } from "../settler/settler";
import type { Store } from "../store/store";
import { Counter, Gauge, Histogram, Registry } from "./metrics";

const SECONDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300];
const DISK_SECONDS = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5];
/** What a store is asked for its figures is remembered so long, however often they are read. */
const STORE_MS = 2_000;
const LOOP_RESOLUTION_MS = 10;
const LOOP_MS = 60_000;

/** What this process counts of itself, whatever parts of the oracle run in it. */
export class Figures {
  readonly registry = new Registry();

  private readonly answers = this.counter("gateway_requests_total", "Requests that a gateway answered.");
  private readonly refusals = this.counter("gateway_errors_total", "Errors that a gateway answered, by their code.");
  private readonly receipts = this.counter("gateway_receipts_total", "Receipts by how their requests ended.");
  private readonly tokens = this.counter("gateway_tokens_total", "Tokens on receipts.");
  private readonly charged = this.counter("gateway_charged_units_total", "What receipts cost, in currency units.");
  private readonly running = this.gauge("gateway_running_requests", "Requests that run.");
  private readonly reserved = this.gauge("gateway_reserved_units", "What running requests may cost at worst.");
  private readonly upstreams = this.gauge("gateway_upstreams", "Inference servers of a model.");
  private readonly headroom = this.gauge(
    "stake_headroom_units",
    "What the operator's stake still lets be served: in flight by the chain, less what is unsettled and reserved.",
  );
  private readonly firstToken = this.registry.with(
    new Histogram("licet_gateway_first_token_seconds", "Time to the first token.", SECONDS),
  );
  private readonly duration = this.registry.with(
    new Histogram("licet_gateway_request_seconds", "Time from a request to the end of its answer.", SECONDS),
  );

  private readonly unsettled = this.gauge("unsettled_receipts", "Receipts that may still be charged.");
  private readonly unsettledUnits = this.gauge("unsettled_units", "What those cost, in currency units.");
  private readonly oldest = this.gauge("oldest_unbatched_seconds", "Age of the oldest receipt in no batch.");
  private readonly vouchers = this.gauge("voucher_units", "What is owed by vouchers, in currency units.");
  private readonly oldestVoucher = this.gauge("oldest_unposted_seconds", "How long the oldest voucher has waited.");
  private readonly batches = this.gauge("batches", "Batches by state.");
  private readonly transactions = this.counter("settler_transactions_total", "The settler's transactions by state.");
  private readonly dear = this.gauge(
    "settler_dear_units",
    "What isn't settled as gas costs too much, in currency units.",
  );
  private readonly gas = this.gauge("settler_gas_balance", "What the settler's account pays gas with, in whole coins.");
  private readonly disputes = this.gauge("disputes_open", "Challenges of own charges that aren't decided, by state.");
  private readonly failingDisputes = this.gauge(
    "disputes_failing",
    "Those of them that can't be answered at the moment.",
  );
  private readonly endangeredDisputes = this.gauge(
    "disputes_endangered",
    "Those that are soon lost, as what answers them fails or isn't mined.",
  );
  private readonly disputeDeadline = this.gauge(
    "disputes_deadline_seconds",
    "How long until the first of them is lost unless it is answered, or its fee paid.",
  );
  private readonly unproven = this.gauge(
    "settler_unproven_receipts",
    "Receipts whose plan demands proofs: those that failed and are tried again, and those left out since the start.",
  );
  private readonly sellerGas = this.gauge(
    "x402_gas_balance",
    "What the account that sells licenses pays gas with, in whole coins.",
  );
  private readonly nodes = this.gauge("chain_nodes", "1 for each node of the chain, by how it is.");
  private readonly rounds = this.counter("settler_rounds_total", "The settler's rounds by result.");
  private readonly roundAt = this.gauge("settler_round_timestamp_seconds", "When the settler's last round ended.");

  private readonly verdicts = this.counter("attestor_batches_total", "Batches that the attestor judged.");
  private readonly reasons = this.counter(
    "attestor_refusals_total",
    "Reasons for which the attestor refused, values as #.",
  );

  private readonly unarchived = this.gauge(
    "attestor_unarchived_batches",
    "Batches whose copies are kept as they couldn't be archived, the last time.",
  );
  private readonly evidence = this.counter("attestor_evidence_total", "Bundles of evidence by the tier they reached.");

  private readonly canaries = this.counter("attestor_canaries_total", "Canaries by what came of them.");
  private readonly canaryFirstToken = this.registry.with(
    new Histogram("licet_attestor_first_token_seconds", "Time to the first token of canaries.", SECONDS),
  );
  private readonly canarySpeed = this.gauge(
    "attestor_tokens_per_second",
    "Of the latest canary that could tell, after its first token.",
  );

  private readonly commits = this.registry.with(
    new Histogram("licet_store_commit_seconds", "Time that a store's commits took.", DISK_SECONDS),
  );
  private readonly logged = this.counter("log_lines_total", "Warnings and errors in the log, by message.");
  private readonly loop = this.gauge("event_loop_delay_seconds", "How late the event loop was, within a minute.");
  private readonly memory = this.registry.with(new Gauge("process_resident_memory_bytes", "Memory in use."));
  private readonly cpu = this.registry.with(new Gauge("process_cpu_seconds", "CPU time used."));

  /** Until the signal aborts, the event loop is measured. */
  constructor(signal: AbortSignal) {
    const delay = monitorEventLoopDelay({ resolution: LOOP_RESOLUTION_MS });
    const timer = setInterval(() => delay.reset(), LOOP_MS).unref();
    delay.enable();
    signal.addEventListener("abort", () => {
      clearInterval(timer);
      delay.disable();
    });
    this.registry.collect(() => {
      const late = (ns: number) => Math.max(0, ns / 1e9 - LOOP_RESOLUTION_MS / 1_000);
      for (const quantile of [0.5, 0.99, 1]) {
        this.loop.set(late(delay.count === 0 ? 0 : delay.percentile(quantile * 100)), { quantile: String(quantile) });
      }
      const { user, system } = process.cpuUsage();
      this.cpu.set((user + system) / 1e6);
      this.memory.set(process.memoryUsage.rss());
    });
  }

  readonly ofGateway: GatewayObserver = {
    began: ({ kind, stream }) => {
      const labels = { kind, mode: stream ? "stream" : "whole" };
      this.count(labels, 1);
      return () => this.count(labels, -1);
    },
    answered: (route, status) => this.answers.add({ route, status: String(status) }),
    refused: ({ code, status }) => this.refusals.add({ code, status: String(status) }),
    charged: (receipt, cost) => this.note(receipt, cost),
  };

  private readonly runningBy = new Map<string, number>();

  private count(labels: { kind: string; mode: string }, by: number): void {
    const key = `${labels.kind} ${labels.mode}`;
    const now = (this.runningBy.get(key) ?? 0) + by;
    this.runningBy.set(key, now);
    this.running.set(now, labels);
  }

  private note(receipt: Receipt, cost: bigint): void {
    this.receipts.add({ ending: endingOf(receipt.flags) });
    this.charged.add({}, Number(cost));
    this.tokens.add({ kind: "input" }, Number(receipt.inputTokens));
    this.tokens.add({ kind: "cached" }, Number(receipt.cachedInputTokens));
    this.tokens.add({ kind: "output" }, Number(receipt.outputTokens));
    if (receipt.ttftMs > 0) this.firstToken.observe(receipt.ttftMs / 1_000);
    this.duration.observe(receipt.durationMs / 1_000);
  }

  /** @param headroom what the chain says that the operator's stake lets be in flight */
  watchGateway(figures: () => GatewayFigures, store: Store, headroom: () => Promise<bigint>): void {
    this.registry.collect(async () => {
      const { reserved, upstreams } = figures();
      this.reserved.set(reserved);
      for (const { model, count, up } of upstreams) {
        this.upstreams.set(up, { model, state: "up" });
        this.upstreams.set(count - up, { model, state: "down" });
      }
      this.headroom.clear();
      this.headroom.set((await headroom()) - (await store.tallies.unsettledOfAll()) - reserved);
    });
  }

  /** @param now Unix seconds, by the clock that receipts go by */
  watchOperatorStore(store: Store, now: () => number | Promise<number>): void {
    let readAt = -Infinity;
    this.registry.collect(async () => {
      if (performance.now() - readAt < STORE_MS) return;
      readAt = performance.now();
      const { unbatched, batched, cost, oldestUnbatchedAt, batches } = await store.figures();
      this.unsettled.set(unbatched, { state: "unbatched" });
      this.unsettled.set(batched, { state: "batched" });
      this.unsettledUnits.set(cost);
      for (const [state, count] of Object.entries(batches)) this.batches.set(count, { state });
      const { unsigned, unposted, oldestUnpostedAt } = await store.vouchers.figures();
      this.vouchers.set(unsigned, { state: "unsigned" });
      this.vouchers.set(unposted, { state: "unposted" });
      this.oldestVoucher.set(oldestUnpostedAt === null ? 0 : Math.max(0, (await now()) - oldestUnpostedAt));
      this.oldest.set(oldestUnbatchedAt === null ? 0 : Math.max(0, (await now()) - oldestUnbatchedAt));
    });
  }

  watchSettler(settler: Pick<Settler, "figures">, account: Pick<AccountSender, "balance">): void {
    this.registry.collect(async () => {
      const { waiting, givenUp } = settler.figures();
      this.dear.set(waiting, { state: "waiting" });
      this.dear.set(givenUp, { state: "given up" });
      this.gas.clear();
      this.gas.set(Number(await account.balance()) / 1e18);
    });
  }

  /** @param now Unix seconds, by the chain's clock */
  watchDisputes(answerer: Pick<Answerer, "figures">, now: () => Promise<number>): void {
    this.registry.collect(async () => {
      const { open, failing, endangered, deadline } = answerer.figures();
      for (const [state, count] of Object.entries(open)) this.disputes.set(count, { state: state.toLowerCase() });
      this.failingDisputes.set(failing);
      this.endangeredDisputes.set(endangered);
      this.disputeDeadline.clear();
      if (deadline !== null) this.disputeDeadline.set(Math.max(0, deadline - (await now())));
    });
  }

  watchProofs(proofs: Pick<ProvenLanes, "figures">): void {
    this.registry.collect(() => {
      const { failing, leftOut } = proofs.figures();
      this.unproven.set(failing, { state: "failing" });
      this.unproven.set(leftOut, { state: "left out" });
    });
  }

  watchSeller(account: Pick<AccountSender, "balance">): void {
    this.registry.collect(async () => {
      this.sellerGas.clear();
      this.sellerGas.set(Number(await account.balance()) / 1e18);
    });
  }

  watchNodes(states: () => { node: string; state: string }[]): void {
    this.registry.collect(() => {
      this.nodes.clear();
      for (const labels of states()) this.nodes.set(1, labels);
    });
  }

  watchCommits(store: Store, file: string): void {
    store.onCommit = (ms) => this.commits.observe(ms / 1_000, { file });
  }

  roundEnded(isWell: boolean): void {
    this.rounds.add({ result: isWell ? "done" : "failed" });
    this.roundAt.set(Math.floor(Date.now() / 1_000));
  }

  /** @param reasons none if it signed */
  judged(reasons: string[]): void {
    this.verdicts.add({ verdict: reasons.length === 0 ? "attested" : "refused" });
    for (const reason of new Set(reasons.map(withoutValues))) this.reasons.add({ reason });
  }

  readonly canarySampled: NonNullable<CanaryDeps["onSampled"]> = ({ operatorId, planId }, result, sample) => {
    const lane = { operator: String(operatorId), plan: String(planId) };
    this.canaries.add({ ...lane, result });
    if (sample === null) return;
    if (sample.ttftMs > 0) this.canaryFirstToken.observe(sample.ttftMs / 1_000, lane);
    if (sample.tokensPerSecond !== undefined) this.canarySpeed.set(sample.tokensPerSecond, lane);
  };

  /** @param tier that a bundle of evidence reached */
  assessed(tier: number): void {
    this.evidence.add({ tier: String(tier) });
  }

  /** @param failed how many batches the attestor couldn't archive */
  archived(failed: number): void {
    this.unarchived.set(failed);
  }

  /** Something happened to one of the settler's transactions. */
  transaction(state: SenderEvent): void {
    this.transactions.add({ state });
  }

  /** The same log, with its warnings and errors counted: its messages are fixed. */
  log(log: Log, part = "oracle"): Log {
    const counted = (level: "warn" | "error"): Log["warn"] => {
      return (message, fields) => {
        this.logged.add({ level, part, message });
        log[level](message, fields);
      };
    };
    return {
      debug: log.debug,
      info: log.info,
      warn: counted("warn"),
      error: counted("error"),
      with: (fields) => this.log(log.with(fields), typeof fields.part === "string" ? fields.part : part),
    };
  }

  private counter(name: string, help: string): Counter {
    return this.registry.with(new Counter(`licet_${name}`, help));
  }

  private gauge(name: string, help: string): Gauge {
    return this.registry.with(new Gauge(`licet_${name}`, help));
  }
}

/** How a request ended, by its receipt. */
function endingOf(flags: number): string {
  const endings = ["upstreamError", "recovered", "broken", "cancelled"] as const;
  return endings.find((flag) => (flags & ReceiptFlag[flag]) !== 0) ?? "complete";
}

/** A sentence that is the same for all values: those with which it is told would make as many series. */
function withoutValues(reason: string): string {
  return reason.replace(/0x[0-9a-f]+/gi, "#").replace(/\d+/g, "#");
}
