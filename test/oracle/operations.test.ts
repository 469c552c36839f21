import { expect } from "chai";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { createLog } from "../../oracle/log";
import { Figures } from "../../oracle/operations/figures";
import { Counter, Gauge, Histogram, Registry } from "../../oracle/operations/metrics";
import { startOperations, type Operations } from "../../oracle/operations/operations";
import {
  chainCheck,
  disputesCheck,
  gasCheck,
  membershipCheck,
  Readiness,
  storeCheck,
  upstreamsCheck,
} from "../../oracle/operations/readiness";
import type { Committee } from "../../oracle/chain/chain";
import { ReceiptFlag } from "../../oracle/protocol/types";
import { StoreUnavailable } from "../../oracle/store/database";
import { sqliteDatabase } from "../../oracle/store/sqliteDatabase";
import { Store } from "../../oracle/store/store";
import { receiptWith } from "../support/fakeMessages";
import { hangingUp, silent, streaming } from "../support/fakeUpstream";
import { GatewayBench, until } from "../support/gatewayBench";
import { COMMITTEE, evenly, serveReceipt } from "../support/stubMarket";

describe("Registry", () => {
  const linesOf = async (registry: Registry) => (await registry.text()).split("\n");

  it("tells each metric's help, type and series", async () => {
    const registry = new Registry();
    const counter = registry.with(new Counter("requests_total", "All\nof \\ them."));
    counter.add({ route: "/a" });
    counter.add({ route: "/a" }, 2);
    counter.add({ route: "/b" });
    registry.with(new Gauge("depth", "How deep.")).set(2n ** 60n);
    expect(await registry.text()).to.equal(
      [
        "# HELP requests_total All\\nof \\\\ them.",
        "# TYPE requests_total counter",
        'requests_total{route="/a"} 3',
        'requests_total{route="/b"} 1',
        "# HELP depth How deep.",
        "# TYPE depth gauge",
        "depth 1152921504606846976",
        "",
      ].join("\n"),
    );
  });

  it("escapes what labels hold", async () => {
    const registry = new Registry();
    registry.with(new Gauge("g", "G.")).set(1, { path: 'a\\b"c\nd' });
    expect(await linesOf(registry)).to.include('g{path="a\\\\b\\"c\\nd"} 1');
  });

  it("counts into buckets that include those below", async () => {
    const registry = new Registry();
    const histogram = registry.with(new Histogram("t_seconds", "T.", [1, 2]));
    for (const value of [0.5, 1, 1.5, 9]) histogram.observe(value, { of: "x" });
    expect((await linesOf(registry)).slice(2, 7)).to.deep.equal([
      't_seconds_bucket{of="x",le="1"} 2',
      't_seconds_bucket{of="x",le="2"} 3',
      't_seconds_bucket{of="x",le="+Inf"} 4',
      't_seconds_sum{of="x"} 12',
      't_seconds_count{of="x"} 4',
    ]);
  });

  it("keeps so many series of a metric, and counts the others together", async () => {
    const registry = new Registry();
    const counter = registry.with(new Counter("c_total", "C."));
    for (let i = 0; i < 1_000; i++) counter.add({ reason: String(i) });
    const lines = (await linesOf(registry)).filter((line) => line.startsWith("c_total"));
    expect(lines).to.have.length(501);
    expect(lines.at(-1)).to.equal('c_total{reason="other"} 500');
  });

  it("asks when it is read, and tells the rest where that fails", async () => {
    const registry = new Registry();
    const gauge = registry.with(new Gauge("g", "G."));
    registry.collect(() => Promise.reject(new Error("gone")));
    registry.collect(() => gauge.set(7));
    expect(await linesOf(registry)).to.include("g 7");
  });
});

describe("Figures", () => {
  let figures: Figures;
  let ending: AbortController;
  const lines = async () => (await figures.registry.text()).split("\n");

  beforeEach(() => {
    ending = new AbortController();
    figures = new Figures(ending.signal);
  });

  afterEach(() => ending.abort());

  it("counts requests, and what their receipts say", async () => {
    const ended = figures.ofGateway.began({ kind: "chat", stream: true });
    figures.ofGateway.began({ kind: "chat", stream: true });
    ended();
    figures.ofGateway.answered("/v1/chat/completions", 200);
    const meters = { requests: 1n, inputTokens: 10n, cachedInputTokens: 4n, outputTokens: 7n, computeMs: 9n };
    figures.ofGateway.charged(receiptWith({ ...meters, ttftMs: 200, durationMs: 1_500, flags: 0 }), 11n);
    figures.ofGateway.charged(receiptWith({ ...meters, flags: ReceiptFlag.cancelled | ReceiptFlag.estimated }), 1n);
    expect(await lines()).to.include.members([
      'licet_gateway_running_requests{kind="chat",mode="stream"} 1',
      'licet_gateway_requests_total{route="/v1/chat/completions",status="200"} 1',
      'licet_gateway_receipts_total{ending="complete"} 1',
      'licet_gateway_receipts_total{ending="cancelled"} 1',
      "licet_gateway_charged_units_total 12",
      'licet_gateway_tokens_total{kind="input"} 20',
      'licet_gateway_tokens_total{kind="cached"} 8',
      'licet_gateway_tokens_total{kind="output"} 14',
      'licet_gateway_request_seconds_bucket{le="1"} 1',
    ]);
  });

  it("tells what a store holds, how long it writes, and what the stake still lets be served", async () => {
    const store = new Store(sqliteDatabase(":memory:"));
    figures.watchCommits(store, "operator.sqlite");
    figures.watchOperatorStore(store, () => 100_110);
    const upstreams = [{ model: "m", count: 3, up: 2 }];
    figures.watchGateway(
      () => ({ running: 1, reserved: 20n, upstreams }),
      store,
      async () => 100n,
    );
    await serveReceipt(store, { finishedAt: 100_010 });
    expect(await lines()).to.include.members([
      'licet_unsettled_receipts{state="unbatched"} 1',
      'licet_unsettled_receipts{state="batched"} 0',
      "licet_unsettled_units 11",
      "licet_oldest_unbatched_seconds 100",
      'licet_voucher_units{state="unsigned"} 0',
      'licet_voucher_units{state="unposted"} 0',
      "licet_oldest_unposted_seconds 0",
      'licet_batches{state="drafted"} 0',
      "licet_gateway_reserved_units 20",
      'licet_gateway_upstreams{model="m",state="up"} 2',
      'licet_gateway_upstreams{model="m",state="down"} 1',
      "licet_stake_headroom_units 69",
      'licet_store_commit_seconds_count{file="operator.sqlite"} 2',
    ]);
    await store.close();
  });

  it("tells nothing of the stake while the chain doesn't", async () => {
    const store = new Store(sqliteDatabase(":memory:"));
    const answers = [async () => 5n, () => Promise.reject(new Error("no answer"))];
    figures.watchGateway(
      () => ({ running: 0, reserved: 0n, upstreams: [] }),
      store,
      () => answers.shift()!(),
    );
    expect(await lines()).to.include("licet_stake_headroom_units 5");
    const later = await lines();
    expect(later.filter((line) => line.startsWith("licet_stake_headroom_units"))).to.deep.equal([]);
    await store.close();
  });

  it("counts refusals by their reasons without values", async () => {
    figures.judged([]);
    figures.judged(["Sequence 7 was signed as 0xab", "Sequence 9 was signed as 0xcd", "Too old"]);
    expect(await lines()).to.include.members([
      'licet_attestor_batches_total{verdict="attested"} 1',
      'licet_attestor_batches_total{verdict="refused"} 1',
      'licet_attestor_refusals_total{reason="Sequence # was signed as #"} 1',
      'licet_attestor_refusals_total{reason="Too old"} 1',
    ]);
  });

  it("tells how many batches couldn't be archived the last time", async () => {
    for (const failed of [2, 0]) {
      figures.archived(failed);
      expect(await lines()).to.include(`licet_attestor_unarchived_batches ${failed}`);
    }
  });

  it("tells how many challenges are open, how many fail, and when the next is lost, if one may be", async () => {
    const open = { Open: 2, Answered: 1, Escalated: 0, Disputed: 0 };
    let deadline: number | null = 1_900;
    figures.watchDisputes({ figures: () => ({ open, failing: 1, endangered: 2, deadline }) }, async () => 1_000);
    expect(await lines()).to.include.members([
      'licet_disputes_open{state="open"} 2',
      'licet_disputes_open{state="answered"} 1',
      'licet_disputes_open{state="disputed"} 0',
      "licet_disputes_failing 1",
      "licet_disputes_endangered 2",
      "licet_disputes_deadline_seconds 900",
    ]);
    deadline = null;
    expect((await lines()).filter((line) => line.startsWith("licet_disputes_deadline_seconds"))).to.deep.equal([]);
  });

  it("counts what happens to transactions", async () => {
    for (const state of ["signed", "sent", "confirmed", "signed"] as const) figures.transaction(state);
    expect(await lines()).to.include.members([
      'licet_settler_transactions_total{state="signed"} 2',
      'licet_settler_transactions_total{state="sent"} 1',
      'licet_settler_transactions_total{state="confirmed"} 1',
    ]);
  });

  it("counts warnings and errors of the log by part and message, and writes them", async () => {
    const written: string[] = [];
    const log = figures.log(createLog("info", (line) => written.push(line)));
    log.with({ part: "gateway" }).with({ model: "m" }).warn("upstream is down");
    log.error("it broke", { cause: 1 });
    log.info("all is well");
    expect(written).to.have.length(3);
    expect(JSON.parse(written[0])).to.include({ part: "gateway", model: "m", message: "upstream is down" });
    expect((await lines()).filter((line) => line.startsWith("licet_log_lines_total"))).to.deep.equal([
      'licet_log_lines_total{level="warn",part="gateway",message="upstream is down"} 1',
      'licet_log_lines_total{level="error",part="oracle",message="it broke"} 1',
    ]);
  });

  it("tells how late the event loop was, and what the process uses", async () => {
    await new Promise((resolve) => setTimeout(resolve, 30));
    const until = performance.now() + 80;
    while (performance.now() < until);
    await new Promise((resolve) => setTimeout(resolve, 30));
    const told = await lines();
    const of = (name: string) => Number(told.find((line) => line.startsWith(`${name} `))!.split(" ")[1]);
    expect(of('licet_event_loop_delay_seconds{quantile="1"}')).to.be.within(0.05, 5);
    expect(of("process_resident_memory_bytes")).to.be.greaterThan(1e7);
    expect(of("process_cpu_seconds")).to.be.greaterThan(0);
  });
});

describe("a gateway that is watched", () => {
  let bench: GatewayBench;
  let figures: Figures;
  const ending = new AbortController();
  const lines = async () => (await figures.registry.text()).split("\n");

  beforeEach(async () => {
    bench = await GatewayBench.start();
    figures = new Figures(ending.signal);
    bench.observer = figures.ofGateway;
    await bench.serve();
    figures.watchGateway(bench.gateway.figures, bench.store, () => bench.chain.headroom());
  });

  afterEach(() => bench.close());
  after(() => ending.abort());

  it("tells what runs and is reserved while a stream does, and what became of it", async () => {
    bench.upstreams[0].script = streaming({ delayMs: 40 });
    const running = bench.chatStream();
    const isRunning = 'licet_gateway_running_requests{kind="chat",mode="stream"} 1';
    for (let i = 0; !(await lines()).includes(isRunning) && i < 100; i++) await wait(5);
    const told = await lines();
    expect(told).to.include.members([isRunning, 'licet_gateway_upstreams{model="writer",state="up"} 1']);
    const { reserved } = bench.gateway.figures();
    expect(reserved > 0n).to.equal(true);
    expect(told).to.include(`licet_gateway_reserved_units ${reserved}`);

    await running;
    await wait(20);
    const receipt = await bench.onlyReceipt();
    const after = await lines();
    expect(after).to.include.members([
      'licet_gateway_running_requests{kind="chat",mode="stream"} 0',
      "licet_gateway_reserved_units 0",
      'licet_gateway_requests_total{route="/v1/chat/completions",status="200"} 1',
      'licet_gateway_receipts_total{ending="complete"} 1',
      `licet_gateway_tokens_total{kind="output"} ${receipt.outputTokens}`,
      `licet_gateway_first_token_seconds_sum ${receipt.ttftMs / 1_000}`,
      "licet_gateway_request_seconds_count 1",
      `licet_stake_headroom_units ${bench.chain.stakeHeadroom - (await bench.store.tallies.unsettledOfAll())}`,
    ]);
  });

  it("counts a receipt that came late, as the store was away when its request ended", async () => {
    const finish = bench.store.requests.finish.bind(bench.store);
    let isAway = true;
    bench.store.requests.finish = (...ended) =>
      isAway ? Promise.reject(new StoreUnavailable("away")) : finish(...ended);
    bench.upstreams[0].script = streaming();
    await bench.chatStream();
    expect((await lines()).some((line) => line.startsWith("licet_gateway_receipts_total{"))).to.equal(false);
    isAway = false;
    await until(async () => (await lines()).includes('licet_gateway_receipts_total{ending="complete"} 1'));
    expect(await lines()).to.include(
      `licet_gateway_tokens_total{kind="output"} ${(await bench.onlyReceipt()).outputTokens}`,
    );
  });

  it("counts errors by code, and what nobody knows as one route", async () => {
    await bench.post({}, { apiKey: "nonsense" });
    await bench.get("/nowhere/1");
    await bench.get("/nowhere/2");
    expect(await lines()).to.include.members([
      'licet_gateway_errors_total{code="malformed_api_key",status="401"} 1',
      'licet_gateway_requests_total{route="/v1/chat/completions",status="401"} 1',
      'licet_gateway_requests_total{route="unknown",status="404"} 2',
    ]);
  });

  it("counts requests that ended with an error as ended", async () => {
    bench.upstreams[0].script = hangingUp;
    await bench.chat().catch(() => undefined);
    expect(await lines()).to.include.members([
      'licet_gateway_running_requests{kind="chat",mode="whole"} 0',
      'licet_gateway_receipts_total{ending="upstreamError"} 1',
    ]);
  });
});

describe("a gateway that is told to stop", () => {
  let bench: GatewayBench;
  const body = { model: "writer", messages: [{ role: "user", content: "May I?" }] };

  beforeEach(async () => {
    bench = await GatewayBench.start();
  });

  afterEach(() => bench.close());

  const health = async () => (await fetch(`${bench.gateway.url}/healthz`)).status;

  it("refuses requests with 503 that says when to come again, and finishes its streams", async () => {
    await bench.serve();
    await bench.chat();
    const { requestId } = await bench.onlyReceipt();
    const words = Array.from({ length: 25 }, (_, i) => `w${i} `);
    bench.upstreams[0].script = streaming({ words, delayMs: 20 });
    const running = bench.chatStream();
    while (bench.upstreams[0].received.length < 2) await wait(5);
    expect(await health()).to.equal(200);
    const closed = bench.gateway.close();
    const { status, headers, text: said } = await bench.post(body);
    expect([status, headers["retry-after"], JSON.parse(said).error.code]).to.deep.equal([503, "5", "gateway_stops"]);
    expect(await health()).to.equal(503);
    expect((await bench.get(`/v1/receipts/${requestId}`)).status).to.equal(200);
    expect(bench.upstreams[0].received).to.have.length(2);

    expect(await running).to.match(/^w0 .*w24 $/);
    await closed;
    expect((await bench.receipts()).map(({ flags }) => flags)).to.deep.equal([0, 0]);
    expect(await health().catch(() => "gone")).to.equal("gone");
  });

  it("cuts off what takes longer than it may, and charges what came of it without the prompt", async () => {
    await bench.serve({ stopTimeoutMs: 100 });
    const words = Array.from({ length: 50 }, (_, i) => `w${i} `);
    bench.upstreams[0].script = streaming({ words, delayMs: 20 });
    const answer = bench.post({ ...body, stream: true });
    while (bench.upstreams[0].received.length === 0) await wait(5);
    await wait(60);
    const startedAt = performance.now();
    await bench.gateway.close();
    expect(performance.now() - startedAt).to.be.within(90, 900);
    const { status, text } = await answer;
    expect(status).to.equal(200);
    expect(text).to.contain("w1 ").and.to.contain('"code":"gateway_stops"').and.not.to.contain("w49");
    const receipt = await bench.onlyReceipt();
    expect(receipt.flags & ReceiptFlag.broken).to.equal(ReceiptFlag.broken);
    expect(receipt.inputTokens).to.equal(0n);
    expect(receipt.outputTokens > 0n).to.equal(true);
  });

  it("cuts off for nothing what has no answer yet", async () => {
    await bench.serve({ stopTimeoutMs: 50 });
    bench.upstreams[0].script = silent;
    const answer = bench.post(body);
    while (bench.upstreams[0].received.length === 0) await wait(5);
    await bench.gateway.close();
    const { status, headers } = await answer;
    expect([status, headers["retry-after"]]).to.deep.equal([503, "5"]);
    expect(await bench.store.tallies.unsettledOfAll()).to.equal(0n);
  });
});

describe("Readiness", () => {
  const ready = (checks: Record<string, () => string | null>) => {
    const readiness = new Readiness();
    for (const [name, check] of Object.entries(checks)) readiness.add(name, check);
    return readiness;
  };

  it("isn't there before the start is over, nor once it stops", async () => {
    const readiness = ready({});
    expect(await readiness.reasons()).to.deep.equal(["the oracle starts"]);
    readiness.started();
    expect(await readiness.reasons()).to.deep.equal([]);
    readiness.stopping();
    expect(await readiness.reasons()).to.deep.equal(["the oracle stops"]);
    readiness.started();
    expect(await readiness.reasons()).to.deep.equal(["the oracle stops"]);
  });

  it("names all reasons, those of checks that throw among them", async () => {
    const fails = () => {
      throw new Error("disk full");
    };
    const readiness = ready({ a: () => null, b: fails, c: () => "down" });
    readiness.started();
    expect(await readiness.reasons()).to.deep.equal(["b: disk full", "c: down"]);
  });

  it("asks at most once a second", async () => {
    let asked = 0;
    const readiness = ready({ a: () => (asked++, null) });
    readiness.started();
    await Promise.all([readiness.reasons(), readiness.reasons(), readiness.reasons()]);
    expect(asked).to.equal(1);
  });

  it("takes a chain for stale whose latest block is old, by the machine's clock", async () => {
    const provider = { send: async () => ({ timestamp: "0x3e8" }) };
    expect(await chainCheck(provider, "machine", 60, () => 1_060)()).to.equal(null);
    expect(await chainCheck(provider, "machine", 60, () => 1_061)()).to.match(
      /block is 61 s old, and 60 s are the most/,
    );
    expect(await chainCheck(provider, "chain", 60, () => 9_999)()).to.equal(null);
    expect(await chainCheck({ send: async () => null }, "machine", 60)()).to.match(/no latest block/);
  });

  it("wants a server that is up for each model", async () => {
    const upstreams = [
      { model: "a", count: 2, up: 1 },
      { model: "b", count: 1, up: 0 },
    ];
    expect(await upstreamsCheck(() => ({ upstreams }))()).to.equal("none is up of b");
    expect(await upstreamsCheck(() => ({ upstreams: upstreams.slice(0, 1) }))()).to.equal(null);
  });

  it("wants an account to have what the gas of its next transaction may cost, and says how much that is", async () => {
    let balance = 10n ** 16n;
    const account = { address: "0xA1", balance: async () => balance, mostFor: async (gas: bigint) => gas * 10n ** 11n };
    const check = gasCheck(account, async () => 100_000n);
    expect(await check()).to.equal(null);
    balance -= 1n;
    expect(await check()).to.equal("gas account 0xA1 has 0.009999999999999999 coins, and needs 0.01: send it some");
  });

  it("wants an attestor to be a bonded member of the committee in force, or of the one before", async () => {
    const [self, ...others] = COMMITTEE.members;
    const without = { ...COMMITTEE, ...evenly(others) };
    const unbonded = { ...COMMITTEE, unbonded: [self] };
    const ask = (present: Committee, former: Committee | null = null) =>
      membershipCheck(self, () => Promise.resolve({ present, former, announced: COMMITTEE }))();
    expect(await ask(COMMITTEE)).to.equal(null);
    expect(await ask(without)).to.equal(`${self} isn't a member of the committee in force, nor of the one before`);
    expect(await ask(without, COMMITTEE)).to.equal(null);
    expect(await ask(unbonded)).to.contain(`the bond doesn't cover ${self}`);
    expect(await ask(unbonded, unbonded)).to.contain("post one, with committee:bond");
  });

  it("warns of challenges that are soon lost, and says by when", async () => {
    const check = (endangered: number, deadline: number | null) => disputesCheck(() => ({ endangered, deadline }))();
    expect(await check(0, 1_800_000_000)).to.equal(null);
    expect(await check(2, 1_800_000_000)).to.match(
      /^2 of the challenges .* the first at 2027-01-15T08:00:00.000Z, since/,
    );
    expect(await check(1, null)).to.match(
      /^1 of the challenges of charges are lost soon, since what answers them fails/,
    );
  });

  it("wants a store that can be written to", async () => {
    const folder = mkdtempSync(join(tmpdir(), "licet-operations-"));
    const store = new Store(sqliteDatabase(join(folder, "store.sqlite")));
    await store.claim({ role: "operator", chain: "1", "first block": "0x", escrow: "0x1" });
    expect(await storeCheck(store)()).to.equal(null);
    const { db } = Reflect.get(Reflect.get(store, "db") as object, "file") as { db: { exec(sql: string): void } };
    db.exec("PRAGMA query_only = ON");
    await expect(store.probe()).to.be.rejectedWith(/readonly/);
    db.exec("PRAGMA query_only = OFF");
    expect(await storeCheck(store)()).to.equal(null);
    await store.close();
    rmSync(folder, { recursive: true });
  });
});

describe("startOperations", () => {
  let operations: Operations;
  let readiness: Readiness;

  beforeEach(async () => {
    const registry = new Registry();
    registry.with(new Gauge("g", "G.")).set(1);
    readiness = new Readiness();
    operations = await startOperations({ host: "127.0.0.1", port: 0 }, registry, readiness);
  });

  afterEach(() => operations.close());

  const get = (path: string) => fetch(operations.url + path);

  it("says that the process lives, whether it is ready or not", async () => {
    const answer = await get("/healthz");
    expect([answer.status, await answer.json()]).to.deep.equal([200, { status: "ok" }]);
  });

  it("says 503 with the reasons until it is ready", async () => {
    const before = await get("/readyz");
    const starting = { ready: false, reasons: ["the oracle starts"], warnings: [] };
    expect([before.status, await before.json()]).to.deep.equal([503, starting]);
    readiness.started();
    const after = await get("/readyz");
    expect([after.status, await after.json()]).to.deep.equal([200, { ready: true, reasons: [], warnings: [] }]);
    expect(after.headers.get("cache-control")).to.equal("no-store");
  });

  it("says 200 with warnings of what it can't do beside its work", async () => {
    readiness.addWarning("x402", () => "no gas");
    readiness.started();
    const answer = await get("/readyz");
    expect([answer.status, await answer.json()]).to.deep.equal([
      200,
      { ready: true, reasons: [], warnings: ["x402: no gas"] },
    ]);
  });

  it("gives the metrics in Prometheus's format", async () => {
    const answer = await get("/metrics");
    expect(answer.headers.get("content-type")).to.equal("text/plain; version=0.0.4; charset=utf-8");
    expect(await answer.text()).to.equal("# HELP g G.\n# TYPE g gauge\ng 1\n");
  });
});
