/** A gateway whose database's server is killed under it, or stands still, and comes back. */
import { expect } from "chai";
import { existsSync } from "node:fs";
import { Readiness, storeCheck } from "../../oracle/operations/readiness";
import { Registry } from "../../oracle/operations/metrics";
import { type Operations, startOperations } from "../../oracle/operations/operations";
import { ReceiptFlag } from "../../oracle/protocol/types";
import { postgresDatabase } from "../../oracle/store/postgresDatabase";
import { streaming, whole } from "../support/fakeUpstream";
import { GatewayBench, MESSAGES, refusalOf, until } from "../support/gatewayBench";
import { freshSchema, type Postgres, POSTGRES_BINARIES, startPostgres } from "../support/postgres";

describe("a gateway whose PostgreSQL server fails it", function () {
  this.timeout(120_000);
  let server: Postgres;
  let bench: GatewayBench;
  let operations: Operations;
  let isUp = true;
  let schema: string;
  /** As an operator has it, unless a test can't wait so long. */
  let patience: Parameters<typeof postgresDatabase>[2];

  const stop = () => {
    server.stop();
    isUp = false;
  };
  const start = () => {
    server.start();
    isUp = true;
  };

  before(function () {
    if (!existsSync(POSTGRES_BINARIES)) return this.skip();
    server = startPostgres();
  });

  after(() => server?.remove());

  beforeEach(async () => {
    schema = freshSchema();
    const open = () => postgresDatabase(server.url, schema, patience);
    bench = await GatewayBench.start(1, { isShared: true, open, remove: () => undefined });
    // To stop a server and start it takes seconds.
    await bench.serve({ requestTimeoutMs: 20_000 });
    const readiness = new Readiness();
    readiness.add("operator", storeCheck(bench.store));
    readiness.started();
    operations = await startOperations({ host: "127.0.0.1", port: 0 }, new Registry(), readiness);
  });

  afterEach(async () => {
    if (!isUp) start();
    await operations.close();
    await bench.close();
  });

  const ready = async () => {
    const answer = await fetch(`${operations.url}/readyz`);
    return { status: answer.status, ...((await answer.json()) as { reasons: string[] }) };
  };
  /** Without anybody's help. */
  const untilServed = () =>
    until(
      () =>
        bench.chat().then(
          () => true,
          () => false,
        ),
      20_000,
    );
  const costs = async () => {
    const { cost, reserved } = await bench.store.tallies.of(1n);
    return { cost, reserved };
  };

  describe("as it stands still", () => {
    const WAITED_MS = 15_000;
    let isFrozen = false;
    before(() => void (patience = { statementMs: 1_000, silenceMs: 1_500 }));
    after(() => void (patience = undefined));

    afterEach(() => {
      if (isFrozen) server.thaw();
      isFrozen = false;
    });

    const expectRefusals = async () => {
      const asked = bench.upstreams[0].received.length;
      const startedAt = performance.now();
      const errors = await Promise.all(Array.from({ length: 12 }, () => refusalOf(bench.chat())));
      expect(performance.now() - startedAt).to.be.lessThan(WAITED_MS);
      for (const error of errors) expect(error).to.include({ status: 503, code: "store_unavailable" });
      expect(bench.upstreams[0].received).to.have.length(asked);
    };

    it("answers 503 in bounded time while its processes are frozen, says so at /readyz, and goes on by itself", async () => {
      await bench.chat();
      const { cost } = await costs();
      server.freeze();
      isFrozen = true;
      await expectRefusals();
      expect((await ready()).status).to.equal(503);
      server.thaw();
      isFrozen = false;
      await untilServed();
      await until(async () => (await costs()).reserved === 0n, 20_000);
      expect((await costs()).cost).to.equal(cost * BigInt(bench.upstreams[0].received.length));
    });

    it("answers 503 in bounded time while another client keeps it from writing", async () => {
      const other = await postgresDatabase(server.url, schema);
      let free = () => {};
      const begun = new Promise<void>((resolve) => {
        void other.transaction(() => (resolve(), new Promise<void>((end) => (free = end))));
      });
      await begun;
      await expectRefusals();
      free();
      await untilServed();
      await other.close();
    });
  });

  it("answers 503 that says what to do while it is away, asks no model, and charges nothing", async () => {
    await bench.chat();
    const before = await costs();
    const asked = bench.upstreams[0].received.length;
    stop();
    for (let i = 0; i < 5; i++) {
      const error = await refusalOf(bench.chat());
      expect(error).to.include({ status: 503, code: "store_unavailable", type: "api_error" });
      expect(error.headers?.get("retry-after")).to.match(/^\d+$/);
      expect(error.message).to.contain("the gateway's store can't be reached at the moment: try again");
    }
    expect(bench.upstreams[0].received).to.have.length(asked);
    start();
    await until(async () => (await costs()).reserved === 0n, 20_000);
    expect(await costs()).to.deep.equal(before);
  });

  it("says at /readyz that it isn't ready, and why, and that it is again", async () => {
    expect(await ready()).to.deep.include({ status: 200, ready: true, reasons: [] });
    stop();
    await until(async () => (await ready()).status === 503);
    expect((await ready()).reasons[0]).to.match(/^operator: the database can't be reached/);
    start();
    await until(async () => (await ready()).status === 200, 20_000);
  });

  it("goes on with a stream that outlasts it, and charges it as ever", async () => {
    let words = 0;
    bench.upstreams[0].script = streaming({
      words: Array.from({ length: 40 }, () => "word "),
      delayMs: 50,
      beside: () => ({ ...(words++ === 5 && (stop(), start(), {})) }),
    });
    expect(await bench.chatStream({ max_tokens: 50 })).to.equal("word ".repeat(40));
    await until(async () => (await bench.receipts()).length === 1, 20_000);
    const { flags, outputTokens } = await bench.onlyReceipt();
    expect(flags).to.equal(0);
    expect(outputTokens).to.be.greaterThan(0n);
    await untilServed();
  });

  it("ends a stream well that ends while it is away, and charges it once it is back", async () => {
    let hasBegun = false;
    bench.upstreams[0].script = streaming({
      words: ["You", " may", "."],
      delayMs: 20,
      beside: () => {
        if (!hasBegun) stop();
        hasBegun = true;
        return {};
      },
    });
    const { text, headers } = await bench.post({ model: "writer", messages: MESSAGES, stream: true, max_tokens: 9 });
    expect(text).to.match(/data: \[DONE\]\n\n$/);
    start();
    await until(async () => (await bench.receipts()).length === 1, 20_000);
    const receipt = await bench.onlyReceipt();
    expect(receipt.requestId).to.equal(headers["x-licet-receipt-id"]);
    expect(receipt.flags).to.equal(0);
    const { cost, reserved } = await costs();
    expect(cost).to.equal(receipt.inputTokens + receipt.cachedInputTokens + receipt.outputTokens);
    expect(reserved).to.equal(0n);
    expect(bench.said("warn")).to.include("requests that ended while the store was away have receipts now");
    await untilServed();
    const sequences = (await bench.receipts()).map(({ sequence }) => sequence);
    expect(sequences).to.deep.equal(sequences.map((_, i) => BigInt(i + 1)));
  });

  it("charges what a client got that hung up while it was away", async () => {
    bench.upstreams[0].script = streaming({ words: Array.from({ length: 100 }, () => "word "), delayMs: 20 });
    const stream = await bench.client().chat.completions.create({ model: "writer", messages: MESSAGES, stream: true });
    let seen = 0;
    for await (const { choices } of stream) {
      seen += choices.length;
      if (seen === 2) stop();
      if (seen === 4) break;
    }
    await until(() => bench.upstreams[0].hungUp === 1);
    start();
    await until(async () => (await bench.receipts()).length === 1, 20_000);
    const { flags, outputTokens } = await bench.onlyReceipt();
    expect(flags & ReceiptFlag.cancelled).to.equal(ReceiptFlag.cancelled);
    expect(outputTokens).to.be.greaterThan(2n);
  });

  it("gives no whole answer that it couldn't charge, and makes it free", async () => {
    bench.upstreams[0].script = async (...exchange) => {
      stop();
      await whole()(...exchange);
    };
    const error = await refusalOf(bench.chat());
    expect(error).to.include({ status: 503, code: "store_unavailable" });
    start();
    await until(async () => (await bench.receipts()).length === 1, 20_000);
    expect(await bench.onlyReceipt()).to.include({ flags: ReceiptFlag.recovered, outputTokens: 0n, inputTokens: 0n });
    expect(await costs()).to.deep.equal({ cost: 0n, reserved: 0n });
    bench.upstreams[0].script = whole();
    await untilServed();
  });
});
