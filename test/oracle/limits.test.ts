import { expect } from "chai";
import { setTimeout as wait } from "node:timers/promises";
import { Doorkeeper, type Limits } from "../../oracle/gateway/limits";
import type { ApiError } from "../../oracle/gateway/openai";
import { type FakeUpstream, whole } from "../support/fakeUpstream";
import { saltFrom } from "../support/fakeMessages";
import { GatewayBench, keyFor, MANIFEST, MESSAGES, refusalOf, until } from "../support/gatewayBench";

const LIMITS: Limits = {
  perGrant: { requestsPerMinute: 6, concurrent: 3 },
  perLicense: { requestsPerMinute: 12, concurrent: 5 },
  concurrent: 7,
  bodyBytes: 100,
  connections: 100,
  unproven: 100,
};

/** A caller under one of a license's grants. */
const caller = (grantHash: string, licenseId = 1n) => ({ grantHash, license: { licenseId } as never });

describe("Doorkeeper", () => {
  let now: number;
  let door: Doorkeeper;

  beforeEach(() => {
    now = 1_000;
    door = new Doorkeeper(LIMITS, () => now);
  });

  function refusalFor(work: () => unknown): Pick<ApiError, "status" | "code" | "message"> & { retry?: number } {
    try {
      work();
    } catch (cause) {
      const { status, code, message, details } = cause as ApiError;
      return { status, code, message, retry: details.retryAfterSeconds };
    }
    throw new Error("it was let in");
  }

  const pass = (grantHash: string, licenseId?: bigint) => door.admit(caller(grantHash, licenseId))();

  describe("admit", () => {
    it("lets a grant send so many requests at once, and then one each time that a part of the minute has passed", () => {
      for (let i = 0; i < 6; i++) pass("a");
      expect(refusalFor(() => pass("a"))).to.deep.equal({
        status: 429,
        code: "rate_limit_exceeded",
        message: "a grant may send 6 requests a minute: try again in 10 s",
        retry: 10,
      });
      now += 9_000;
      expect(refusalFor(() => pass("a")).retry).to.equal(1);
      now += 1_000;
      pass("a");
      expect(refusalFor(() => pass("a")).retry).to.equal(10);
      now += 600_000;
      for (let i = 0; i < 6; i++) pass("a");
      expect(refusalFor(() => pass("a")).retry).to.equal(10);
    });

    it("counts what it refuses for nobody", () => {
      for (let i = 0; i < 6; i++) pass("a");
      for (let i = 0; i < 50; i++) refusalFor(() => pass("a"));
      for (let i = 0; i < 6; i++) pass("b");
    });

    it("holds all grants of a license together to the license's own", () => {
      for (let i = 0; i < 12; i++) pass(`grant ${i}`);
      expect(refusalFor(() => pass("one more"))).to.include({
        code: "rate_limit_exceeded",
        message: "a license may send 12 requests a minute: try again in 5 s",
      });
      pass("of another license", 2n);
    });

    it("lets a grant, a license, and all together have so many requests running", () => {
      const running = Array.from({ length: 3 }, () => door.admit(caller("a")));
      expect(refusalFor(() => pass("a"))).to.deep.equal({
        status: 429,
        code: "too_many_running",
        message: "a grant may have 3 requests running at once: try again when one has ended",
        retry: 1,
      });
      running.push(door.admit(caller("b")), door.admit(caller("b")));
      expect(refusalFor(() => pass("c")).message).to.contain("a license may have 5 requests running at once");
      running.push(door.admit(caller("d", 2n)), door.admit(caller("d", 2n)));
      expect(refusalFor(() => pass("e", 3n))).to.include({ status: 503, code: "gateway_full", retry: 1 });
      for (const end of running) end();
      pass("c");
      pass("e", 3n);
    });

    it("gives a place back once, however often it is told to", () => {
      const end = door.admit(caller("a"));
      end();
      end();
      const others = Array.from({ length: 3 }, () => door.admit(caller("a")));
      expect(refusalFor(() => pass("a")).code).to.equal("too_many_running");
      for (const other of others) other();
    });

    it("forgets who has been away for a minute, and nobody who has a request running", () => {
      for (let i = 0; i < 5; i++) pass(`grant ${i}`, BigInt(i));
      const end = door.admit(caller("running", 9n));
      expect(door.size).to.equal(12);
      now += 60_000;
      pass("new", 10n);
      expect(door.size).to.equal(4);
      end();
      now += 60_000;
      pass("newer", 11n);
      expect(door.size).to.equal(2);
    });
  });

  describe("hold", () => {
    it("keeps room for bodies up to the last byte, until they are let go", () => {
      const letGo = door.hold(60);
      expect(refusalFor(() => door.hold(41))).to.deep.equal({
        status: 503,
        code: "gateway_full",
        message: "the gateway is full, 60 bytes of requests are held: try again in a moment",
        retry: 1,
      });
      door.hold(40);
      letGo();
      letGo();
      door.hold(60);
      expect(refusalFor(() => door.hold(1)).code).to.equal("gateway_full");
    });
  });
});

describe("a gateway's limits", () => {
  const limitsWith = (requestsPerMinute: number, concurrent: number): Limits => ({
    ...LIMITS,
    perGrant: { requestsPerMinute, concurrent },
    bodyBytes: 100_000,
  });

  let bench: GatewayBench;
  let upstream: FakeUpstream;

  beforeEach(async () => {
    bench = await GatewayBench.start();
    upstream = bench.upstreams[0];
  });

  afterEach(() => bench.close());

  it("answer 429 with the time to wait to a grant that asks too often, and to no other grant", async () => {
    await bench.serve({ limits: limitsWith(2, 9) });
    await bench.chat();
    await bench.chat();
    const error = await refusalOf(bench.chat());
    expect(error).to.include({ status: 429, code: "rate_limit_exceeded", type: "rate_limit_error" });
    expect(error.headers?.get("retry-after")).to.equal("30");
    expect((await bench.get(`/v1/receipts/${(await bench.receipts())[0].requestId}`)).status).to.equal(429);
    expect((await bench.chat({}, keyFor({ salt: saltFrom(MANIFEST) }))).choices).to.have.length(1);
    expect(upstream.received).to.have.length(3);
  });

  it("let a dozen run at once, of which Node says nothing", async () => {
    const warnings: string[] = [];
    const note = ({ message }: Error) => warnings.push(message);
    process.on("warning", note);
    await bench.serve();
    upstream.script = whole({ delayMs: 200 });
    await Promise.all(Array.from({ length: 12 }, () => bench.chat()));
    process.off("warning", note);
    expect(warnings).to.deep.equal([]);
  });

  it("count streams as running until they have ended, and free their places", async () => {
    await bench.serve({ limits: limitsWith(100, 2) });
    upstream.script = whole({ delayMs: 200 });
    const running = [bench.chat(), bench.chat()];
    await until(() => upstream.received.length === 2);
    const error = await refusalOf(bench.chat());
    expect(error).to.include({ status: 429, code: "too_many_running" });
    await Promise.all(running);
    expect((await bench.chat()).choices).to.have.length(1);
  });

  it("free the places of clients that hang up", async () => {
    await bench.serve({ limits: limitsWith(100, 1) });
    upstream.script = () => {};
    for (let i = 0; i < 3; i++) {
      const controller = new AbortController();
      const asked = { model: "writer", messages: MESSAGES };
      const asking = bench.client().chat.completions.create(asked, { signal: controller.signal });
      await until(() => upstream.received.length === i + 1);
      controller.abort();
      await asking.catch(() => undefined);
      await until(async () => (await bench.receipts()).length === i + 1);
    }
  });

  it("free the places of clients that hang up before the gateway knows whose they are", async () => {
    await bench.serve({ licenseCacheMs: 0, limits: limitsWith(100, 1) });
    await bench.chat();
    bench.chain.latencyMs = 150;
    for (let i = 0; i < 3; i++) {
      const asked = { model: "writer", messages: MESSAGES };
      await bench
        .client()
        .chat.completions.create(asked, { timeout: 50 })
        .catch(() => undefined);
    }
    await wait(300);
    bench.chain.latencyMs = 0;
    expect((await bench.chat()).choices).to.have.length(1);
    expect(upstream.received).to.have.length(2);
  });

  it("let the openai client, which waits as it is told, through in the end", async () => {
    await bench.serve({ limits: limitsWith(100, 1) });
    upstream.script = whole({ delayMs: 100 });
    const patient = bench.client();
    patient.maxRetries = 3;
    const asked = { model: "writer", messages: MESSAGES };
    const answers = await Promise.all([bench.chat(), patient.chat.completions.create(asked)]);
    expect(answers).to.have.length(2);
    expect(await bench.receipts()).to.have.length(2);
  });
});
