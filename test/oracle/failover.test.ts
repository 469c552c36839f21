import { expect } from "chai";
import { once } from "node:events";
import { setTimeout as wait } from "node:timers/promises";
import type OpenAI from "openai";
import { createLog } from "../../oracle/log";
import { ReceiptFlag } from "../../oracle/protocol/types";
import { Replicas, type Replica } from "../../oracle/gateway/replicas";
import { describeOnEach } from "../support/databases";
import { babbling, eventOf, failing, type FakeUpstream, hangingUp, streaming, whole } from "../support/fakeUpstream";
import { GatewayBench, MESSAGES, modelAt, refusalOf, until } from "../support/gatewayBench";

/** Where nothing listens. */
const NOWHERE = "http://127.0.0.1:1";
const THREE = modelAt({ url: "http://a" }, { url: "http://b", gpus: 2 }, { url: "http://c" });

describe("Replicas", () => {
  let replicas: Replicas;

  beforeEach(() => {
    replicas = new Replicas(
      [THREE],
      createLog("error", () => {}),
    );
  });

  const none = new Set<Replica>();
  const picked = (tried = none) => replicas.pick("writer", tried)?.url ?? null;
  const named = (letter: string) => replicas.of("writer").find(({ url }) => url.endsWith(letter))!;

  it("gives requests to servers with nothing to do in turns", () => {
    expect([picked(), picked(), picked(), picked()]).to.deep.equal(["http://a", "http://b", "http://c", "http://a"]);
  });

  it("gives a request to the one with the least to do for its GPUs", () => {
    named("a").running = 2;
    named("b").running = 3;
    named("c").running = 2;
    expect(picked()).to.equal("http://b");
    named("b").running = 5;
    expect(picked()).to.equal("http://a");
  });

  it("gives none to a server that was tried, and says when all were", () => {
    expect(picked(new Set([named("a"), named("b")]))).to.equal("http://c");
    expect(picked(new Set(replicas.of("writer")))).to.equal(null);
    expect(replicas.pick("other", none)).to.equal(null);
  });

  it("gives one to a server that is down only where no other is left", () => {
    named("a").noteDown("gone");
    expect([picked(), picked(), picked()]).to.not.include("http://a");
    expect(picked(new Set([named("b"), named("c")]))).to.equal("http://a");
  });

  it("takes one for down that isn't well twice in a row, and for up when it is once", () => {
    named("a").noteProbe(false);
    named("a").noteProbe(true);
    named("a").noteProbe(false);
    expect(named("a").isUp).to.equal(true);
    named("a").noteProbe(false);
    expect(named("a").isUp).to.equal(false);
    named("a").noteProbe(true);
    expect(named("a").isUp).to.equal(true);
  });
});

describeOnEach("a gateway with several upstreams", (placeOf) => {
  let bench: GatewayBench;
  let first: FakeUpstream;
  let second: FakeUpstream;
  let third: FakeUpstream;

  beforeEach(async () => {
    bench = await GatewayBench.start(3, placeOf());
    [first, second, third] = bench.upstreams;
    for (const upstream of bench.upstreams) upstream.names = ["writer"];
  });

  afterEach(() => bench.close());

  /** Two of them: a request's first try is at the first. */
  const serveTwo = () => bench.serve({ models: [modelAt({ url: first.url }, { url: second.url })] });
  const asked = () => bench.upstreams.map(({ received }) => received.length);

  it("shares requests out among them", async () => {
    await bench.serve();
    for (const upstream of bench.upstreams) upstream.script = whole({ delayMs: 50 });
    await Promise.all(Array.from({ length: 9 }, () => bench.chat()));
    expect(asked()).to.deep.equal([3, 3, 3]);
  });

  it("serves each of many models from its own, by the name and with the key that they want", async () => {
    const models = [
      { ...modelAt({ url: first.url }), id: "small" },
      { ...modelAt({ url: second.url, model: "org/large-v2", apiKey: "sk-own" }), id: "org/large" },
    ];
    second.names = ["org/large-v2"];
    await bench.serve({ models });
    await bench.chat({ model: "small" });
    await bench.chat({ model: "org/large" });
    expect(asked()).to.deep.equal([1, 1, 0]);
    expect(first.received[0].headers).to.not.have.property("authorization");
    expect(second.received[0].headers.authorization).to.equal("Bearer sk-own");
    expect(second.received[0].body.model).to.equal("org/large-v2");
    const { id } = await bench.client().models.retrieve("org/large");
    expect(id).to.equal("org/large");
    expect((await refusalOf(bench.client().models.retrieve("huge"))).status).to.equal(404);
  });

  const failures: [string, (upstream: FakeUpstream) => void][] = [
    ["hangs up without an answer", (upstream) => void (upstream.script = hangingUp)],
    ["answers 500", (upstream) => void (upstream.script = failing(500, { error: { message: "out of memory" } }))],
    ["answers 503", (upstream) => void (upstream.script = failing(503, { error: { message: "loading" } }))],
    ["answers 429", (upstream) => void (upstream.script = failing(429, { error: { message: "queue is full" } }))],
    ["talks nonsense", (upstream) => void (upstream.script = babbling)],
  ];
  for (const [what, fail] of failures) {
    it(`asks the next where one ${what}, for one receipt`, async () => {
      await serveTwo();
      fail(first);
      const { choices } = await bench.chat();
      expect(choices[0].message.content).to.equal("You may copy this.");
      expect(asked()).to.deep.equal([1, 1, 0]);
      expect(await bench.onlyReceipt()).to.include({ requests: 1n, inputTokens: 30n, outputTokens: 4n, flags: 0 });
      expect(bench.said("warn")).to.deep.equal(["upstream failed, trying another"]);
    });
  }

  it("asks the next where a stream breaks off before its first byte", async () => {
    await serveTwo();
    first.script = streaming({ words: [], dies: true });
    second.script = streaming();
    expect(await bench.chatStream()).to.equal("You may copy this.");
    expect(await bench.onlyReceipt()).to.include({ requests: 1n, outputTokens: 4n, flags: 0 });
  });

  it("asks the next where a stream begins with an error", async () => {
    await serveTwo();
    first.script = (response) =>
      void response
        .writeHead(200, { "content-type": "text/event-stream" })
        .end(eventOf({ error: { message: "busy" } }));
    second.script = streaming();
    expect(await bench.chatStream()).to.equal("You may copy this.");
  });

  it("asks the next where a stream doesn't begin in time, and lets the slow one go", async () => {
    await bench.serve({ models: [modelAt({ url: first.url }, { url: second.url })], firstByteTimeoutMs: 100 });
    first.script = streaming({ headDelayMs: 1_500 });
    second.script = streaming({ words: ["You ", "may."] });
    expect(await bench.chatStream()).to.equal("You may.");
    expect(asked()).to.deep.equal([1, 1, 0]);
    expect(await bench.onlyReceipt()).to.include({ requests: 1n, flags: 0 });
    await until(() => first.hungUp === 1);
  });

  it("waits for a slow stream where no other can take over, and for one that has begun", async () => {
    await bench.serve({ models: [modelAt({ url: first.url })], firstByteTimeoutMs: 100 });
    first.script = streaming({ headDelayMs: 300 });
    expect(await bench.chatStream()).to.equal("You may copy this.");
    await bench.serve({ models: [modelAt({ url: first.url }, { url: second.url })], firstByteTimeoutMs: 100 });
    first.script = streaming({ delayMs: 60 });
    expect(await bench.chatStream()).to.equal("You may copy this.");
    expect(asked()).to.deep.equal([2, 0, 0]);
  });

  it("asks nobody else once a byte of a stream was delivered", async () => {
    await serveTwo();
    first.script = streaming({ dies: true });
    await bench.chatStream().catch(() => undefined);
    expect(asked()).to.deep.equal([1, 0, 0]);
  });

  it("asks nobody else what the client did wrong", async () => {
    await serveTwo();
    first.script = failing(400, { error: { message: "context too long" } });
    expect((await refusalOf(bench.chat())).message).to.contain("context too long");
    expect(asked()).to.deep.equal([1, 0, 0]);
  });

  it("asks nobody else for a client that is gone", async () => {
    await serveTwo();
    first.script = () => {};
    const controller = new AbortController();
    const asking = bench
      .client()
      .chat.completions.create({ model: "writer", messages: MESSAGES }, { signal: controller.signal });
    await until(() => first.received.length === 1);
    controller.abort();
    await asking.catch(() => undefined);
    await until(async () => (await bench.receipts()).length === 1);
    await wait(30);
    expect(asked()).to.deep.equal([1, 0, 0]);
    expect((await bench.onlyReceipt()).flags & ReceiptFlag.cancelled).to.equal(ReceiptFlag.cancelled);
  });

  it("gives up after two that fail, for a request that breaks servers mustn't break them all", async () => {
    await bench.serve();
    for (const upstream of bench.upstreams) upstream.script = hangingUp;
    expect((await refusalOf(bench.chat())).status).to.equal(502);
    expect(asked()).to.deep.equal([1, 1, 0]);
    expect(await bench.onlyReceipt()).to.include({ requests: 0n, flags: ReceiptFlag.upstreamError });
  });

  it("shares requests out as before when a server that failed them is well again", async () => {
    await serveTwo();
    for (const fail of [hangingUp, failing(500, { error: {} }), streaming({ dies: true }), streaming({ words: [] })]) {
      first.script = fail;
      await bench.chatStream().catch(() => undefined);
      await bench.chatStream().catch(() => undefined);
    }
    for (const { received } of [first, second]) received.length = 0;
    for (const upstream of [first, second]) upstream.script = whole({ delayMs: 100 });
    await Promise.all(Array.from({ length: 8 }, () => bench.chat()));
    expect(asked()).to.deep.equal([4, 4, 0]);
  });

  it("passes on when a server that is busy wants to be asked again", async () => {
    await bench.serve({ models: [modelAt({ url: first.url })] });
    first.script = (response) =>
      void response
        .writeHead(429, { "content-type": "application/json", "retry-after": "7" })
        .end('{"error":{"message":"queue is full"}}');
    const error = await refusalOf(bench.chat());
    expect(error.message).to.contain("queue is full");
    expect(error.headers?.get("retry-after")).to.equal("7");
    expect(await bench.onlyReceipt()).to.include({ requests: 0n, flags: ReceiptFlag.upstreamError });
  });

  it("passes the last one's error on where all fail", async () => {
    await serveTwo();
    first.script = hangingUp;
    second.script = failing(503, { error: { message: "loading model" } });
    const error = await refusalOf(bench.chat());
    expect(error.status).to.equal(503);
    expect(error.message).to.contain("loading model");
    expect(await bench.onlyReceipt()).to.include({ requests: 0n, flags: ReceiptFlag.upstreamError });
  });

  it("goes past any number of servers that take no connection, at once and for nothing", async () => {
    await bench.serve({
      models: [modelAt({ url: NOWHERE }, { url: `${NOWHERE}/b` }, { url: `${NOWHERE}/c` }, { url: first.url })],
    });
    expect((await bench.chat()).choices).to.have.length(1);
    expect(await bench.onlyReceipt()).to.include({ requests: 1n, flags: 0 });
    expect(bench.said("warn").filter((message) => message === "upstream is down")).to.have.length(3);
    await bench.chat();
    expect(bench.said("warn").filter((message) => message.includes("trying another"))).to.have.length(3);
  });

  it("says 503 and when to come again where none takes a connection, and writes no receipt", async () => {
    await bench.serve({ models: [modelAt({ url: NOWHERE }, { url: `${NOWHERE}/b` })] });
    const error = await refusalOf(bench.chat());
    expect(error).to.include({ status: 503, code: "upstream_unreachable" });
    expect(error.headers?.get("retry-after")).to.equal("5");
    expect(await bench.receipts()).to.deep.equal([]);
    expect(await bench.store.requests.running()).to.deep.equal([]);
  });

  it("counts compute time from when the server that answered had the request, and the wait from the client's", async () => {
    await serveTwo();
    first.script = (response) => void setTimeout(() => response.destroy(), 150);
    await bench.chat();
    const { computeMs, ttftMs, durationMs } = await bench.onlyReceipt();
    expect(ttftMs).to.be.at.least(145);
    expect(durationMs).to.be.at.least(145);
    expect(computeMs < 120n).to.equal(true);
  });

  it("counts the GPUs of the server that answered", async () => {
    const timings = { prompt_ms: 10, predicted_ms: 20 };
    second.script = whole({ extra: { usage: { prompt_tokens: 9, completion_tokens: 1 }, timings } });
    first.script = hangingUp;
    await bench.serve({ models: [modelAt({ url: first.url, gpus: 8 }, { url: second.url, gpus: 2 })] });
    await bench.chat();
    expect((await bench.onlyReceipt()).computeMs).to.equal(60n);
  });

  describe("whose health is asked for", () => {
    const up = async () => (await bench.get("/healthz")).json.models as { up: number; upstreams: number }[];

    it("sends nothing to a server that says it isn't well, until it is", async () => {
      await bench.serve({
        healthIntervalMs: 20,
        models: [modelAt({ url: first.url }, { url: second.url })],
      });
      first.health = 503;
      await until(() => bench.said("warn").includes("upstream is down"));
      expect(await up()).to.deep.equal([{ id: "writer", upstreams: 2, up: 1 }]);
      await bench.chat();
      await bench.chat();
      expect(asked()).to.deep.equal([0, 2, 0]);

      first.health = 200;
      await until(() => bench.said("info").includes("upstream is up again"));
      await bench.chat();
      expect(asked()).to.deep.equal([1, 2, 0]);
    });

    it("takes a server without a health page for well as long as it answers", async () => {
      await bench.serve({ healthIntervalMs: 20 });
      for (const upstream of bench.upstreams) upstream.health = 404;
      await until(() => first.probes > 4);
      expect(bench.said("warn")).to.deep.equal([]);
    });

    it("serves on from servers that all say that they aren't well, for they may be wrong", async () => {
      await bench.serve({ healthIntervalMs: 20, models: [modelAt({ url: first.url })] });
      first.health = 500;
      await until(() => bench.said("warn").includes("upstream is down"));
      expect((await bench.chat()).choices).to.have.length(1);
    });

    it("notices a server that died and came back", async () => {
      await bench.serve({ healthIntervalMs: 20, models: [modelAt({ url: third.url }, { url: first.url })] });
      const { port } = new URL(third.url);
      await third.stop();
      bench.upstreams.splice(2, 1);
      await until(() => bench.said("warn").includes("upstream is down"));
      await bench.chat();
      expect(bench.said("warn")).to.deep.equal(["upstream is down"]);

      const { createServer } = await import("node:http");
      const back = createServer((_request, response) => void response.end("{}")).listen(Number(port), "127.0.0.1");
      await until(() => bench.said("info").includes("upstream is up again"));
      back.close();
      back.closeAllConnections();
      await once(back, "close");
    });
  });

  it("streams a slow first token in time, with headers at the first byte", async () => {
    await serveTwo();
    first.script = streaming({ headDelayMs: 150 });
    const stream: AsyncIterable<OpenAI.ChatCompletionChunk> = await bench
      .client()
      .chat.completions.create({ model: "writer", messages: MESSAGES, stream: true });
    for await (const chunk of stream) expect(chunk.choices).to.have.length.at.least(1);
    expect((await bench.onlyReceipt()).ttftMs).to.be.at.least(145);
    expect(asked()).to.deep.equal([1, 0, 0]);
  });
});
