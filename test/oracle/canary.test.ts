import { expect } from "chai";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { type CanaryConfig, type CanaryDeps, CanaryRefused, runCanaries, sendCanary } from "../../oracle/canary";
import { createLog } from "../../oracle/log";
import type { CanarySample } from "../../oracle/store";
import { LANE } from "../support/stubMarket";

type Answer = (response: ServerResponse) => void;

const event = (data: string) => `data: ${data}\n\n`;
const token = event(JSON.stringify({ choices: [{ delta: { content: "word" } }] }));
const opening = event(JSON.stringify({ choices: [{ delta: { role: "assistant", content: "" } }] }));
const done = event("[DONE]");

describe("canary", () => {
  let server: Server;
  let answer: Answer;
  let samples: CanarySample[];
  let lines: string[];
  let bodies: { model: string; stream: boolean; max_tokens: number; messages: { content: string }[] }[];
  let authorization: string | undefined;
  let now: number;

  before(async () => {
    server = createServer((request, response) => void receive(request, response)).listen(0, "127.0.0.1");
    await once(server, "listening");
  });

  after(() => {
    server.closeAllConnections();
    server.close();
  });

  beforeEach(() => {
    [samples, lines, bodies, now] = [[], [], [], 1_000];
    answer = (response) => response.end(opening + token + done);
  });

  const receive = async (request: IncomingMessage, response: ServerResponse) => {
    const chunks = await request.toArray();
    bodies.push(JSON.parse(Buffer.concat(chunks).toString()));
    authorization = request.headers.authorization;
    answer(response);
  };

  const config = (fields: Partial<CanaryConfig> = {}): CanaryConfig => ({
    lane: LANE,
    gatewayUrl: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    apiKey: "the-grant",
    modelId: "lic380k",
    meanIntervalMs: 60_000,
    timeoutMs: 2_000,
    maxTokens: 8,
    ...fields,
  });

  const deps = (fields: Partial<CanaryDeps> = {}): CanaryDeps => ({
    chain: { now: async () => now },
    store: { recordCanary: (_lane, sample) => void samples.push(sample) },
    log: createLog("debug", (line) => lines.push(line)),
    random: Math.random,
    wait: async () => undefined,
    ...fields,
  });

  const send = (fields: Partial<CanaryConfig> = {}) => sendCanary(config(fields), deps(), new AbortController().signal);

  describe("sendCanary", () => {
    it("asks like any client: streaming, with the grant as its key", async () => {
      await send();
      expect(authorization).to.equal("Bearer the-grant");
      expect(bodies[0]).to.include({ model: "lic380k", stream: true, max_tokens: 8 });
    });

    it("measures the time to the first token, not to the first byte", async () => {
      answer = (response) => {
        response.write(opening);
        setTimeout(() => response.end(token + done), 150);
      };
      const { ok, ttftMs } = await send();
      expect(ok).to.equal(true);
      expect(ttftMs).to.be.within(140, 1_000);
    });

    it("records the sample at the time when the answer was whole", async () => {
      answer = (response) => {
        now = 1_007;
        response.end(token + done);
      };
      const sample = await send();
      expect(sample.at).to.equal(1_007);
      expect(samples).to.deep.equal([sample]);
    });

    const unavailable: [string, Answer][] = [
      ["an error of the server", (response) => response.writeHead(500).end()],
      ["too many requests", (response) => response.writeHead(429).end()],
      ["a connection that breaks", (response) => response.destroy()],
      ["a stream that breaks", (response) => response.write(token, () => response.destroy())],
      ["a stream that ends without saying so", (response) => response.end(token)],
      ["an answer without a token", (response) => response.end(opening + done)],
      ["an answer that isn't JSON", (response) => response.end(event("{") + done)],
    ];
    for (const [what, given] of unavailable) {
      it(`counts ${what} as not available`, async () => {
        answer = given;
        expect(await send()).to.deep.equal({ at: 1_000, ok: false, ttftMs: 0 });
        expect(samples).to.have.length(1);
      });
    }

    it("counts an answer that takes too long as not available", async () => {
      answer = (response) => void response.write(token);
      expect((await send({ timeoutMs: 100 })).ok).to.equal(false);
    });

    for (const status of [400, 401, 402, 403, 404]) {
      it(`takes ${status} for its own fault and records nothing`, async () => {
        answer = (response) => response.writeHead(status).end("top up");
        const problem = await send().catch((error) => error);
        expect(problem).to.be.instanceOf(CanaryRefused);
        expect(problem.message).to.contain(`answered ${status}: top up`);
        expect(samples).to.deep.equal([]);
      });
    }

    it("records nothing when it is told to stop", async () => {
      const stop = new AbortController();
      answer = () => stop.abort();
      await sendCanary(config(), deps(), stop.signal).catch(() => undefined);
      expect(samples).to.deep.equal([]);
    });

    it("asks something else each time", async () => {
      for (let canary = 0; canary < 20; canary++) await send();
      expect(new Set(bodies.map(({ messages }) => messages[0].content)).size).to.be.greaterThan(15);
    });
  });

  describe("runCanaries", () => {
    /** Runs until as many waits have begun, and gives their lengths. */
    const run = async (count: number, random: () => number): Promise<number[]> => {
      const stop = new AbortController();
      const waits: number[] = [];
      const wait = async (ms: number) => {
        waits.push(ms);
        if (waits.length === count) stop.abort();
      };
      await runCanaries(config(), deps({ wait, random }), stop.signal);
      return waits;
    };

    it("waits exponentially distributed times of the configured mean", async () => {
      const [half] = await run(1, () => 0.5);
      expect(half).to.be.closeTo(60_000 * Math.LN2, 1);
      expect(await run(1, () => 0)).to.deep.equal([0]);
    });

    it("goes on after a refusal, and logs it", async () => {
      answer = (response) => response.writeHead(402).end("top up");
      expect(await run(3, () => 0.5)).to.have.length(3);
      expect(lines.filter((line) => line.includes("top up"))).to.have.length(2);
    });
  });
});
