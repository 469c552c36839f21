/** What who wants a gateway no good, or nothing to pay, can do to it. */
import { expect } from "chai";
import { once } from "node:events";
import type { ServerResponse } from "node:http";
import { connect, type Socket } from "node:net";
import { setTimeout as wait } from "node:timers/promises";
import { GATEWAY_DEFAULTS } from "../../oracle/gateway/gateway";
import { decodeBearer } from "../../oracle/protocol/messages";
import { describeOnEach } from "../support/databases";
import { bearerOf, DOMAIN, saltFrom } from "../support/fakeMessages";
import { eventOf, type FakeUpstream, streaming, whole } from "../support/fakeUpstream";
import { GatewayBench, keyFor, MANIFEST, MESSAGES, OWNER, STRANGER, until } from "../support/gatewayBench";

const CHAT = { model: "writer", messages: MESSAGES };
const STREAM = { ...CHAT, stream: true };
/** The most that the plain stream can cost: its bytes, the template and the most tokens of an answer. */
const WORST = JSON.stringify(STREAM).length + 10 + 100;
const { limits } = GATEWAY_DEFAULTS;

describeOnEach("a gateway under attack", function (placeOf) {
  this.timeout(60_000);

  let bench: GatewayBench;
  let upstream: FakeUpstream;
  const sockets: Socket[] = [];

  beforeEach(async () => {
    bench = await GatewayBench.start(1, placeOf());
    upstream = bench.upstreams[0];
  });

  afterEach(async () => {
    for (const socket of sockets.splice(0)) socket.destroy();
    await bench.close();
  });

  const portOf = () => Number(new URL(bench.gateway.url).port);

  /** A connection and all that comes back on it until it ends. */
  function open(): { socket: Socket; seen: () => string; ended: Promise<unknown> } {
    const socket = connect(portOf(), "127.0.0.1");
    sockets.push(socket);
    const pieces: Buffer[] = [];
    socket.on("data", (piece) => pieces.push(piece)).on("error", () => {});
    return { socket, seen: () => Buffer.concat(pieces).toString(), ended: once(socket, "close") };
  }

  const head = (more = "") =>
    `POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${keyFor()}\r\n${more}`;

  const errorIn = (answer: string) =>
    (JSON.parse(answer.slice(answer.indexOf("\r\n\r\n"))) as { error: { code: string; type: string } }).error;

  async function expectService() {
    upstream.script = whole();
    expect((await bench.chat()).choices).to.have.length(1);
  }

  describe("by connections", () => {
    it("cuts off those that never send a byte, and those whose headers trickle", async () => {
      await bench.serve({ receiveTimeoutMs: 200 });
      const mute = open();
      const slow = open();
      slow.socket.write(head());
      const trickle = setInterval(() => slow.socket.write("X-A: b\r\n"), 40);
      await Promise.all([mute.ended, slow.ended]);
      clearInterval(trickle);
      expect(slow.seen()).to.match(/^HTTP\/1.1 408 /);
      expect(errorIn(slow.seen())).to.include({ code: "request_timeout", type: "invalid_request_error" });
      await expectService();
    });

    it("serves others while two hundred requests trickle in", async () => {
      await bench.serve({ receiveTimeoutMs: 1_000 });
      const slow = Array.from({ length: 200 }, open);
      for (const { socket } of slow) socket.write("POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n");
      await expectService();
      await Promise.all(slow.map(({ ended }) => ended));
      await expectService();
    });

    it("closes those beyond the most that it takes, and takes others when these are gone", async () => {
      await bench.serve({ limits: { ...limits, connections: 3 } });
      const taken = Array.from({ length: 3 }, open);
      await wait(50);
      const late = open();
      await late.ended;
      expect(late.seen()).to.equal("");
      for (const { socket } of taken) socket.destroy();
      await wait(50);
      await expectService();
    });

    const askAndNotRead = async (body: object) => {
      const { socket, ended } = open();
      socket.pause();
      const sent = JSON.stringify(body);
      socket.write(`${head()}Content-Length: ${sent.length}\r\n\r\n${sent}`);
      await until(async () => (await bench.receipts()).length === 1);
      // A paused socket doesn't notice its end before it is read again.
      await wait(600);
      socket.resume();
      await ended;
      return socket.bytesRead;
    };
    const LONG = "word ".repeat(4_000_000);

    it("cuts off a client that doesn't take its whole answer", async () => {
      await bench.serve({ takeTimeoutMs: 300 });
      upstream.script = whole({ text: LONG });
      expect(await askAndNotRead(CHAT)).to.be.below(LONG.length);
      await expectService();
    });
  });

  describe("by headers", () => {
    const flood: [string, () => string][] = [
      ["a huge one", () => `X-A: ${"b".repeat(40_000)}\r\n\r\n`],
      ["thousands of small ones", () => `${Array.from({ length: 9_000 }, (_, i) => `X-${i}: b\r\n`).join("")}\r\n`],
    ];
    for (const [what, headers] of flood) {
      it(`answers 431 to ${what}, and reads no more of it`, async () => {
        await bench.serve();
        const { socket, seen, ended } = open();
        socket.write(head(headers()));
        await ended;
        expect(seen()).to.match(/^HTTP\/1.1 431 /);
        expect(errorIn(seen())).to.include({ code: "headers_too_large", type: "invalid_request_error" });
        await expectService();
      });
    }

    it("answers 400 to two lengths of one body, by which requests are smuggled", async () => {
      await bench.serve();
      const { socket, seen, ended } = open();
      socket.write(head("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"));
      await ended;
      expect(seen()).to.match(/^HTTP\/1.1 400 /);
      expect(errorIn(seen()).code).to.equal("invalid_http");
      expect(upstream.received).to.deep.equal([]);
    });
  });

  describe("by bodies", () => {
    it("refuses one that says that it is too long before it comes, and one that turns out to be", async () => {
      await bench.serve();
      const said = open();
      said.socket.write(head("Content-Length: 99999999999\r\n\r\n"));
      await until(() => said.seen().includes("\r\n\r\n{"));
      expect(said.seen()).to.match(/^HTTP\/1.1 413 /);

      const unsaid = open();
      unsaid.socket.write(head("Transfer-Encoding: chunked\r\n\r\n"));
      for (let i = 0; i < 30; i++) unsaid.socket.write(`400\r\n${"x".repeat(1_024)}\r\n`);
      await until(() => unsaid.seen().includes("\r\n\r\n{"));
      expect(unsaid.seen()).to.match(/^HTTP\/1.1 413 /);
      await expectService();
    });

    it("holds only so many bytes of them at once, and says to the others when to come again", async () => {
      await bench.serve({ limits: { ...limits, bodyBytes: 40_000 } });
      const slow = Array.from({ length: 2 }, open);
      for (const { socket } of slow) socket.write(head("Content-Length: 20000\r\n\r\n{"));
      await wait(100);
      const { status, headers, text } = await bench.post(CHAT);
      expect(status).to.equal(503);
      expect(headers["retry-after"]).to.equal("1");
      expect(JSON.parse(text).error.code).to.equal("gateway_full");
      for (const { socket } of slow) socket.destroy();
      await wait(100);
      await expectService();
    });

    it("counts one without a length as the longest", async () => {
      await bench.serve({ limits: { ...limits, bodyBytes: 20_000 } });
      const { socket } = open();
      socket.write(head("Transfer-Encoding: chunked\r\n\r\n"));
      await wait(100);
      expect((await bench.post(CHAT)).status).to.equal(503);
    });

    it("refuses deep and wide ones without losing its breath", async () => {
      await bench.serve({ maxBodyBytes: 4_000_000 });
      const deep = `{"model":"writer","messages":[{"role":"user","content":"a"}],"metadata":${"[".repeat(900_000)}${"]".repeat(900_000)}}`;
      const keys = Array.from({ length: 100_000 }, (_, i) => `"k${i}":1`).join(",");
      const wide = `{"model":"writer","messages":[{"role":"user","content":"a"}],${keys}}`;
      for (const body of [deep, wide]) {
        const startedAt = performance.now();
        expect((await bench.post(body)).status).to.equal(400);
        expect(performance.now() - startedAt).to.be.below(2_000);
      }
      await expectService();
    });
  });

  describe("by grants", () => {
    const refused = async (apiKey: string, code: string) => {
      const { status, text } = await bench.post(CHAT, { apiKey });
      expect({ status, code: JSON.parse(text).error.code }).to.deep.equal({ status: 401, code });
      expect(upstream.received).to.deep.equal([]);
    };

    beforeEach(() => bench.serve());

    it("refuses one of another chain or deployment", async () => {
      await refused(keyFor({}, OWNER, { ...DOMAIN, chainId: 1n }), "wrong_signature");
      await refused(keyFor({}, OWNER, { ...DOMAIN, verifyingContract: STRANGER.address }), "wrong_signature");
    });

    it("refuses one whose cap, time, generation, salt or license was changed", async () => {
      bench.setLicense({ licenseId: 2n });
      const { grant, signature } = decodeBearer(keyFor({ cap: 5n }));
      const changes = [{ cap: 0n }, { expiresAt: 2_100_000_000 }, { salt: saltFrom(MANIFEST) }, { licenseId: 2n }];
      for (const change of changes) {
        await refused(bearerOf({ grant: { ...grant, ...change }, signature }), "wrong_signature");
      }
    });

    it("refuses what an attestor, who is shown grants and signatures, can make of one", async () => {
      const { grant, signature } = decodeBearer(keyFor());
      const bytes = Buffer.from(keyFor(), "base64url");
      bytes.set(Buffer.from(grant.salt.slice(2), "hex"), 48);
      expect(Buffer.from(signature.slice(2), "hex")).to.deep.equal(bytes.subarray(80));
      await refused(bytes.toString("base64url"), "wrong_signature");
    });

    it("refuses another signature of the same grant: of the other s, or by somebody else", async () => {
      const { grant, signature } = decodeBearer(keyFor());
      const order = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141n;
      const s = (order - BigInt(`0x${signature.slice(66, 130)}`)).toString(16).padStart(64, "0");
      const v = signature.slice(130) === "1b" ? "1c" : "1b";
      await refused(bearerOf({ grant, signature: signature.slice(0, 66) + s + v }), "wrong_signature");
      await refused(keyFor({}, STRANGER), "wrong_signature");
    });

    it("asks the chain about only so many strangers at once, and serves whom it knows meanwhile", async () => {
      await bench.serve({ licenseCacheMs: 60_000 });
      await bench.chat();
      bench.chain.latencyMs = 1_000;
      const strangers = Array.from({ length: 120 }, (_, i) =>
        bench.post(CHAT, { apiKey: keyFor({ licenseId: BigInt(1_000 + i) }, STRANGER) }),
      );
      await wait(50);
      const startedAt = performance.now();
      await bench.chat();
      expect(performance.now() - startedAt).to.be.below(800);
      const answers = await Promise.all(strangers);
      const with401 = answers.filter(({ status }) => status === 401);
      const with503 = answers.filter(({ status }) => status === 503);
      expect([with401.length, with503.length]).to.deep.equal([64, 56]);
      expect(with503[0].headers["retry-after"]).to.equal("1");
      expect(JSON.parse(with503[0].text).error.code).to.equal("gateway_full");
    });
  });

  describe("by a licensee with a thousand streams on a small balance", () => {
    const PAID = 20;
    const generous = { requestsPerMinute: 5_000, concurrent: 5_000 };
    /** What became of the streams so far. */
    let answers: { status: number; code: string | undefined }[];
    /** Lets the upstream answer. */
    let letGo: () => void;

    beforeEach(() => {
      answers = [];
      const held = new Promise<void>((resolve) => (letGo = resolve));
      // What it says makes each stream cost its worst.
      const answer = streaming({ usage: { prompt_tokens: 1e6, completion_tokens: 1e6 } });
      upstream.script = async (...args) => {
        await held;
        await answer(...args);
      };
    });

    async function openStreams(count: number, apiKey = keyFor()): Promise<void> {
      const open = async () => {
        const { status, text } = await bench.post(STREAM, { apiKey });
        answers.push({ status, code: status === 200 ? undefined : (JSON.parse(text).error.code as string) });
      };
      await Promise.all(Array.from({ length: count }, open));
    }

    const untilRefused = async (count: number) => {
      for (let i = 0; i < 2_000 && answers.length < count; i++) await wait(20);
      expect(answers).to.have.length(count);
    };
    const served = () => answers.filter(({ status }) => status === 200);

    it("serves as many as the balance covers at their worst, and nothing beyond it is ever owed", async () => {
      bench.setLicense({ balance: BigInt(PAID * WORST) });
      await bench.serve({
        requestTimeoutMs: 50_000,
        limits: { ...limits, perGrant: generous, perLicense: generous },
      });
      const opened = openStreams(1_000);
      await untilRefused(1_000 - PAID);
      const refused = { status: 429, code: "reserved_by_running_requests" };
      expect(answers).to.deep.equal(Array.from({ length: 1_000 - PAID }, () => refused));
      letGo();
      await opened;
      expect(served()).to.have.length(PAID);
      expect(upstream.received).to.have.length(PAID);
      expect(await bench.store.tallies.unsettled(1n)).to.equal(BigInt(PAID * WORST));
      expect((await bench.post(CHAT)).status).to.equal(402);
    });

    it("serves no more at once than its grants and its license may have, where the balance is large", async () => {
      await bench.serve({
        requestTimeoutMs: 50_000,
        limits: {
          ...limits,
          perGrant: { requestsPerMinute: 5_000, concurrent: 30 },
          perLicense: { requestsPerMinute: 5_000, concurrent: 50 },
        },
      });
      const opened = [openStreams(150), openStreams(150, keyFor({ salt: saltFrom(MANIFEST) }))];
      await untilRefused(250);
      expect(answers).to.deep.equal(Array.from({ length: 250 }, () => ({ status: 429, code: "too_many_running" })));
      letGo();
      await Promise.all(opened);
      expect(served()).to.have.length(50);
      expect(upstream.received).to.have.length(50);
    });

    it("keeps little of answers in memory that nobody reads, and stops the upstream", async () => {
      const streams = 40;
      await bench.serve({ requestTimeoutMs: 4_000 });
      const padded = { choices: [{ index: 0, delta: { content: "word " } }], padding: "x".repeat(20_000) };
      const piece = eventOf(padded);
      let written = 0;
      /** Twenty megabytes, as fast as they are taken. */
      upstream.script = async (response: ServerResponse, _body, gone) => {
        response.writeHead(200, { "content-type": "text/event-stream" });
        for (let i = 0; i < 1_000 && !gone.aborted; i++) {
          written += piece.length;
          if (!response.write(piece)) await once(response, "drain", { signal: gone }).catch(() => undefined);
        }
        response.end("data: [DONE]\n\n");
      };
      const body = JSON.stringify(STREAM);
      const before = process.memoryUsage();
      for (let i = 0; i < streams; i++) {
        const { socket } = open();
        socket.pause();
        socket.write(`${head()}Content-Length: ${body.length}\r\n\r\n${body}`);
      }
      await until(() => upstream.received.length === streams);
      await wait(1_000);
      const { heapUsed, external } = process.memoryUsage();
      const grown = heapUsed + external - before.heapUsed - before.external;
      expect(grown).to.be.below(150 * 2 ** 20);
      await until(async () => (await bench.receipts()).length === streams, 20_000);
      expect(written).to.be.below((streams * 1_000 * piece.length) / 2);
      expect(upstream.hungUp).to.equal(streams);
      for (const { outputTokens } of await bench.receipts()) expect(outputTokens <= 100n).to.equal(true);
    });
  });
});
