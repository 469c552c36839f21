import { bearerOf } from "../support/fakeMessages";
import { expect } from "chai";
import { computeAddress } from "ethers";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import {
  type CanaryConfig,
  type CanaryDeps,
  CanaryCutOff,
  CanaryRefused,
  runCanaries,
  sendCanary,
} from "../../oracle/attestor/canary";
import type { LicenseState } from "../../oracle/chain/chain";
import { canaryBody } from "../../oracle/attestor/canaryBody";
import { onlineCheck } from "../../oracle/attestor/online";
import type { ClassificationCanary } from "../../oracle/attestor/classificationCanary";
import type { CanaryAnswer } from "../../oracle/attestor/recount";
import { inputOf, requestHashOf, responseHashOf } from "../../oracle/protocol/classification";
import { saltedHash } from "../../oracle/protocol/messages";
import { createLog } from "../../oracle/log";
import { type Turn, TurnLost } from "../../oracle/store/leases";
import type { CanarySample } from "../../oracle/store/canaryBooks";
import { classify } from "../../zk/network";
import { digits, digitsModel } from "../support/digits";
import type { StubChain } from "../support/stubChain";
import { AFTER_EPOCH, KEYS, LANE, signGrant, stubMarket } from "../support/stubMarket";

/** A grant of license 7, which has 1,000,000 units: a canary of two seconds and 8 tokens costs 17 at worst. */
const API_KEY = bearerOf(signGrant());
const OPERATOR = computeAddress(KEYS.operator);

type Answer = (response: ServerResponse) => void;

const event = (data: string) => `data: ${data}\n\n`;
const token = event(JSON.stringify({ choices: [{ delta: { content: "word" } }] }));
const opening = event(JSON.stringify({ choices: [{ delta: { role: "assistant", content: "" } }] }));
const done = event("[DONE]");

describe("canary", () => {
  let server: Server;
  let answer: Answer;
  let samples: CanarySample[];
  let answers: CanaryAnswer[];
  let lines: string[];
  let bodies: {
    model: string;
    stream: boolean;
    max_tokens: number;
    messages: { content: string }[];
    input: number[];
  }[];
  let path: string | undefined;
  let authorization: string | undefined;
  let chain: StubChain;
  let isOnline: boolean;

  before(async () => {
    server = createServer((request, response) => void receive(request, response)).listen(0, "127.0.0.1");
    await once(server, "listening");
  });

  after(() => {
    server.closeAllConnections();
    server.close();
  });

  beforeEach(() => {
    [samples, lines, bodies, chain] = [[], [], [], stubMarket()];
    [isOnline, answers] = [true, []];
    answer = (response) => response.end(opening + token + done);
  });

  const receive = async (request: IncomingMessage, response: ServerResponse) => {
    const chunks = await request.toArray();
    if (request.method === "POST") bodies.push(JSON.parse(Buffer.concat(chunks).toString()));
    ({ url: path } = request);
    authorization = request.headers.authorization;
    answer(response);
  };

  const config = (fields: Partial<CanaryConfig> = {}): CanaryConfig => ({
    lane: LANE,
    gatewayUrl: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    apiKey: API_KEY,
    modelId: "lic380k",
    meanIntervalMs: 60_000,
    timeoutMs: 2_000,
    maxTokens: 8,
    ...fields,
  });

  const deps = (fields: Partial<CanaryDeps> = {}): CanaryDeps => ({
    chain,
    store: {
      canaries: {
        record: async (_lane, sample) => void samples.push(sample),
        recordAnswer: async (one) => void answers.push(one),
      },
    },
    log: createLog("debug", (line) => lines.push(line)),
    // Streamed.
    random: () => 0.5,
    isOnline: async () => isOnline,
    wait: async () => undefined,
    ...fields,
  });

  const send = (fields: Partial<CanaryConfig> = {}) => sendCanary(config(fields), deps(), new AbortController().signal);

  describe("sendCanary", () => {
    it("asks like any client: streaming, with the grant as its key", async () => {
      await send();
      expect(authorization).to.equal(`Bearer ${API_KEY}`);
      expect(bodies[0]).to.include({ model: "lic380k", stream: true, max_tokens: 6 });
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
        chain.time += 7;
        response.end(token + done);
      };
      const sample = await send();
      expect(sample.at).to.equal(AFTER_EPOCH + 7);
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
        expect(await send()).to.deep.equal({ at: AFTER_EPOCH, ok: false, ttftMs: 0 });
        expect(samples).to.have.length(1);
      });
    }

    it("counts an answer that takes too long as not available", async () => {
      answer = (response) => void response.write(token);
      expect((await send({ timeoutMs: 100 })).ok).to.equal(false);
    });

    for (const status of [400, 401, 402, 403, 404]) {
      it(`counts ${status} as not available when its license is in order, and logs what was said`, async () => {
        answer = (response) => response.writeHead(status).end("top up");
        expect(await send()).to.deep.equal({ at: AFTER_EPOCH, ok: false, ttftMs: 0 });
        expect(samples).to.have.length(1);
        expect(lines.join()).to.contain(`answered ${status}: top up`);
      });
    }

    const license = (fields: Partial<LicenseState>) => () => {
      chain.licenses.set(7n, { ...chain.licenses.get(7n)!, ...fields });
      return API_KEY;
    };
    const grant =
      (...signed: Parameters<typeof signGrant>) =>
      () =>
        bearerOf(signGrant(...signed));
    const recalled = () => {
      chain.versions.get(LANE.versionId)!.usableUntil = AFTER_EPOCH;
      return API_KEY;
    };
    const ownFaults: [string, () => string, string][] = [
      ["an API key that is none", () => "sesame", "the API key is none"],
      ["a license that doesn't exist", grant({ licenseId: 9n }), "license 9 or plan 3 doesn't exist"],
      ["a license of another operator", license({ operatorId: 5 }), "is served by operator 5, this is 2"],
      ["a license under another plan", license({ planId: 5 }), "is under plan 5, not 3"],
      ["a license on the voucher road", license({ onVoucherRoad: true }), "settles by vouchers"],
      ["a license that expired", license({ renewal: "none", expiresAt: AFTER_EPOCH }), "expires at 1970-01-02T"],
      ["a locked license", license({ stop: "locked" }), "is locked, to be transferred"],
      ["an ended license", license({ stop: "ended" }), "was ended by its owner"],
      ["a license whose term is over", license({ renewal: "called", expiresAt: AFTER_EPOCH }), "renew it then"],
      [
        "a license that goes to another operator",
        license({ serviceChange: { operatorId: 5, onVoucherRoad: false, readyAt: AFTER_EPOCH } }),
        "goes to operator 5",
      ],
      ["a recalled version", recalled, `version ${LANE.versionId} is recalled from ${AFTER_EPOCH} on`],
      ["what its last term may cost", license({ balance: 2_000n, owed: 301n }), "may spend 1699; 1700 would be plenty"],
      ["a grant of an old generation", license({ generation: 2 }), "is of generation 1, not 2"],
      ["a grant that isn't valid yet", grant({ notBefore: AFTER_EPOCH + 1 }), `runs from ${AFTER_EPOCH + 1}`],
      ["a grant that ends soon", grant({ expiresAt: AFTER_EPOCH + 3_599 }), `to ${AFTER_EPOCH + 3_599}, and it is`],
      ["a grant with a cap", grant({ cap: 5n }), "has a cap of 5: sign one without"],
      ["a grant with a key", grant({ key: OPERATOR }), `wants requests signed by ${OPERATOR}: sign one without a key`],
      ["a license that demands signatures", license({ signedSince: 1 }), "demands signed requests: take that back"],
      ["a grant by another than the owner", grant({}, KEYS.outsider), "isn't signed by the license's owner"],
      ["little money", license({ balance: 2_000n, thawing: 301n }), "may spend 1699; 1700 would be plenty"],
      ["little left of its cap", license({ cap: 2_000n, spent: 301n }), "may spend 1699; 1700 would be plenty"],
    ];
    for (const [what, apiKey, ground] of ownFaults) {
      it(`takes a refusal for its own fault with ${what}, and records nothing`, async () => {
        answer = (response) => response.writeHead(402).end("top up");
        const problem = await send({ apiKey: apiKey() }).catch((error) => error);
        expect(problem).to.be.instanceOf(CanaryRefused);
        expect(problem.message).to.contain("answered 402: top up").and.to.contain(ground);
        expect(samples).to.deep.equal([]);
      });
    }

    it("counts a refusal with just enough money", async () => {
      answer = (response) => response.writeHead(402).end();
      expect((await send({ apiKey: license({ balance: 1_700n })() })).ok).to.equal(false);
    });

    it("records nothing when it is told to stop", async () => {
      const stop = new AbortController();
      answer = () => stop.abort();
      await sendCanary(config(), deps(), stop.signal).catch(() => undefined);
      expect(samples).to.deep.equal([]);
    });

    const unreachable: [string, Answer][] = [
      ["breaks the connection", (response) => response.destroy()],
      ["breaks the stream", (response) => response.write(token, () => response.destroy())],
      ["says nothing in time", () => undefined],
    ];
    for (const [what, given] of unreachable) {
      it(`says nothing of a gateway that ${what} while nothing else can be reached either`, async () => {
        answer = given;
        isOnline = false;
        const problem = await send({ timeoutMs: 100 }).catch((error) => error);
        expect(problem).to.be.instanceOf(CanaryCutOff);
        expect(problem.message).to.contain("can't be reached, and nor can anything else");
        expect(samples).to.deep.equal([]);
      });
    }

    it("says nothing of a gateway that isn't there while nothing else can be reached either", async () => {
      const gatewayUrl = "http://127.0.0.1:1";
      expect((await send({ gatewayUrl })).ok).to.equal(false);
      isOnline = false;
      expect(await send({ gatewayUrl }).catch((error) => error)).to.be.instanceOf(CanaryCutOff);
      expect(samples).to.have.length(1);
    });

    it("counts what only the gateway can have said, whether anything else can be reached or not", async () => {
      isOnline = false;
      answer = (response) => response.writeHead(500).end();
      expect((await send()).ok).to.equal(false);
      answer = (response) => response.end(event("{") + done);
      expect((await send()).ok).to.equal(false);
    });

    it("measures how fast tokens come after the first", async () => {
      answer = (response) => {
        response.write(opening + token);
        setTimeout(() => response.end(token.repeat(20) + done), 200);
      };
      const { tokensPerSecond } = await send();
      expect(tokensPerSecond).to.be.within(10, 200);
    });

    it("leaves the speed out where all tokens came at once", async () => {
      answer = (response) => response.end(opening + token + token + done);
      expect(await send()).to.not.have.property("tokensPerSecond");
    });

    describe("that isn't streamed", () => {
      const whole = (message: object) => JSON.stringify({ choices: [{ message }] });
      const sendWhole = () => sendCanary(config(), deps({ random: () => 0.9 }), new AbortController().signal);

      it("counts for availability, and says nothing of the first token, which nobody sees", async () => {
        answer = (response) => response.end(whole({ content: "word" }));
        expect(await sendWhole()).to.deep.equal({ at: AFTER_EPOCH, ok: true, ttftMs: 0 });
        expect(bodies[0]).to.not.have.property("stream");
      });

      it("isn't answered by nothing, or by what is no JSON", async () => {
        for (const text of [whole({ content: "" }), "{}", "null", "<html>"]) {
          answer = (response) => response.end(text);
          expect((await sendWhole()).ok, text).to.equal(false);
        }
      });
    });

    describe("keeps of an answer that came whole", () => {
      const SALT = signGrant().grant.salt;
      const hashOf = (text: string) => saltedHash(SALT, Buffer.from(text));
      const counting = {
        countPrompt: async () => 40,
        countTexts: async (texts: readonly string[]) => texts.join().length,
      };

      it("what its receipt must say, byte for byte, and no more tokens than there can be", async () => {
        answer = (response) => response.end(opening + token + token + done);
        await send();
        const { length } = JSON.stringify(bodies[0]);
        expect(answers).to.deep.equal([
          {
            ...{ ...LANE, at: AFTER_EPOCH, isCounted: false, difference: null },
            requestHash: hashOf(JSON.stringify(bodies[0])),
            responseHash: hashOf(opening + token + token + done),
            ...{ mostInput: length + 256, mostOutput: 8 },
          },
        ]);
      });

      it("what a tokenizer of the attestor's own counts, and three hundredths and eight tokens more", async () => {
        answer = (response) => response.end(opening + token.repeat(25) + done);
        await send({ tokenizer: counting });
        expect(answers[0]).to.include({ isCounted: true, mostInput: 50, mostOutput: Math.ceil(100 / 0.97) + 8 });
      });

      it("the same of one that isn't streamed", async () => {
        const whole = JSON.stringify({ choices: [{ message: { content: "word" } }] });
        answer = (response) => response.end(whole);
        const tokenizer = { ...counting, countPrompt: async () => null };
        await sendCanary(config({ tokenizer }), deps({ random: () => 0.9 }), new AbortController().signal);
        expect(answers[0]).to.include({ responseHash: hashOf(whole), isCounted: false, mostOutput: 13 });
      });

      it("nothing where it failed", async () => {
        answer = (response) => response.end(opening + token);
        await send();
        expect(answers).to.deep.equal([]);
      });
    });

    describe("of a classification", () => {
      const { network } = digitsModel();
      const SALT = signGrant().grant.salt;
      const classified = (fields: object = {}) => JSON.stringify({ architecture: "64-32-10-s4", ...fields });
      const honest = () => {
        answer = (response) => response.end(classified(classify(network, bodies.at(-1)!.input)));
      };
      const sendInput = (canary: Partial<ClassificationCanary> = {}) =>
        sendCanary(
          config({ modelId: "digits", classification: { inputs: 64, ...canary } }),
          deps({ random: Math.random }),
          new AbortController().signal,
        );

      it("asks for as many numbers as the model takes, at the place of classifications, and counts for availability", async () => {
        honest();
        expect(await sendInput()).to.deep.equal({ at: AFTER_EPOCH, ok: true, ttftMs: 0 });
        expect(path).to.equal("/v1/classifications");
        expect(Object.keys(bodies[0])).to.deep.equal(["model", "input"]);
        expect(bodies[0].model).to.equal("digits");
        expect(inputOf(bodies[0])).to.have.length(64);
      });

      it("keeps the commitments that its receipt must have, and its count, which is known", async () => {
        honest();
        await sendInput();
        const asked = Buffer.from(JSON.stringify(bodies[0]));
        const came = Buffer.from(classified(classify(network, bodies[0].input)));
        expect(answers).to.deep.equal([
          {
            ...{ ...LANE, at: AFTER_EPOCH, isCounted: true, difference: null },
            ...{ requestHash: requestHashOf(SALT, asked), responseHash: responseHashOf(SALT, came) },
            ...{ mostInput: 64, mostOutput: 0 },
          },
        ]);
      });

      const none: [string, string][] = [
        ["a text", JSON.stringify({ choices: [{ message: { content: "seven" } }] })],
        ["a class that isn't its logits'", classified({ class: 1, logits: [9, 0, 0, 0, 0, 0, 0, 0, 0, 0] })],
        ["too few logits", classified({ class: 0, logits: [1] })],
        ["nothing", "null"],
      ];
      for (const [what, given] of none) {
        it(`isn't answered by ${what}`, async () => {
          answer = (response) => response.end(given);
          expect((await sendInput()).ok).to.equal(false);
          expect(answers).to.deep.equal([]);
        });
      }

      it("finds no difference to what its own copy of the model answers, where the model answers", async () => {
        honest();
        for (let sent = 0; sent < 5; sent++) await sendInput({ network });
        expect(answers.map(({ difference }) => difference)).to.deep.equal([null, null, null, null, null]);
      });

      it("keeps what its own copy of the model answers otherwise, and logs it at once", async () => {
        const logits = () => classify(network, bodies[0].input).logits;
        const other = () => {
          const changed = logits();
          changed[9] = Math.max(...changed) + 1;
          return changed;
        };
        answer = (response) => response.end(classified({ class: 9, logits: other() }));
        expect((await sendInput({ network })).ok).to.equal(true);
        const own = classify(network, bodies[0].input).class;
        const reason =
          `is answered otherwise by the attestor's own copy of the model: class 9, and there ${own}; ` +
          `logit 9 is ${other()[9]}, and there ${logits()[9]}`;
        expect(answers[0].difference).to.equal(reason);
        expect(lines.join()).to.contain("Canary isn't answered by the model").and.to.contain("class 9");
      });

      it("finds out a model of another shape", async () => {
        answer = (response) => response.end(JSON.stringify({ architecture: "64-8-2-s4", class: 0, logits: [1, 0] }));
        await sendInput({ network });
        expect(answers[0].difference).to.equal(
          "is answered by a model 64-8-2-s4; the attestor's own copy is 64-32-10-s4",
        );
      });

      it("can be made of inputs that look like those of everybody else, and are new all the same", async () => {
        honest();
        const examples = digits().heldOut.map(({ input }) => input);
        for (let sent = 0; sent < 20; sent++) await sendInput({ examples });
        const asked = bodies.map(({ input }) => input);
        const known = new Set(examples.map((example) => example.join()));
        expect(asked.filter((input) => !known.has(input.join())).length).to.be.greaterThan(10);
        for (const input of asked) {
          const nearest = Math.max(...examples.map((example) => example.filter((v, i) => v === input[i]).length));
          expect(nearest).to.be.greaterThan(40);
          expect(Math.max(...input)).to.be.at.most(16);
        }
      });
    });

    it("tells who counts what came of it", async () => {
      const told: unknown[] = [];
      const telling = deps({ onSampled: (lane, result, sample) => told.push({ lane, result, ok: sample?.ok }) });
      await sendCanary(config(), telling, new AbortController().signal);
      answer = (response) => response.writeHead(500).end();
      await sendCanary(config(), telling, new AbortController().signal);
      expect(told).to.deep.equal([
        { lane: LANE, result: "answered", ok: true },
        { lane: LANE, result: "failed", ok: false },
      ]);
    });
  });

  describe("what canaries ask", () => {
    const SENT = 600;
    const asking = (fields: Partial<CanaryConfig> = {}) =>
      Array.from({ length: SENT }, () => {
        const { body, isStreamed } = canaryBody({ modelId: "m", maxTokens: 64, ...fields }, Math.random);
        return { ...(JSON.parse(body) as (typeof bodies)[0]), isStreamed };
      });
    const share = (some: unknown[]) => some.length / SENT;

    it("is something else nearly each time, with no word that all have", () => {
      const prompts = asking().map(({ messages }) => messages.at(-1)!.content);
      expect(new Set(prompts).size).to.be.greaterThan(0.8 * SENT);
      const words = prompts.map((prompt) => new Set(prompt.toLowerCase().split(/\W+/)));
      for (const word of new Set(prompts.slice(0, 20).join(" ").toLowerCase().split(/\W+/))) {
        if (word !== "") expect(share(words.filter((had) => had.has(word))), word).to.be.lessThan(0.8);
      }
    });

    it("has no one form: streamed or not, with a system message or not, of several lengths", () => {
      const sent = asking();
      const isSome = (some: unknown[]) => expect(share(some)).to.be.within(0.1, 0.9);
      isSome(sent.filter(({ stream }) => stream));
      isSome(sent.filter(({ messages }) => messages.length === 2));
      isSome(sent.filter((body) => "temperature" in body));
      isSome(sent.filter((body) => "stream_options" in body));
      expect(new Set(sent.map(({ max_tokens }) => max_tokens)).size).to.be.greaterThan(20);
      expect(Math.max(...sent.map(({ max_tokens }) => max_tokens))).to.be.at.most(64);
      expect(sent.every(({ stream, isStreamed }) => Boolean(stream) === isStreamed)).to.equal(true);
    });

    it("is the attestor's own where it has questions of its own", () => {
      const prompts = ["one?", "two?", "three?"];
      const asked = new Set(asking({ prompts }).map(({ messages }) => messages.at(-1)!.content));
      expect([...asked].sort()).to.deep.equal([...prompts].sort());
    });
  });

  describe("onlineCheck", () => {
    const url = () => `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    const fails = () => Promise.reject(new Error("no node"));

    it("says yes where one of the controls answers, whatever it says", async () => {
      answer = (response) => response.writeHead(500).end();
      expect(await onlineCheck(["http://127.0.0.1:1", url()], fails)()).to.equal(true);
      expect(await onlineCheck(["http://127.0.0.1:1"], () => Promise.resolve(1))()).to.equal(false);
    });

    it("asks the chain's node where there are no controls", async () => {
      expect(await onlineCheck([], () => Promise.resolve(1))()).to.equal(true);
      expect(await onlineCheck([], fails)()).to.equal(false);
    });
  });

  describe("runCanaries", () => {
    /** Runs until as many waits have begun, and gives their lengths. */
    const run = async (count: number, random: () => number, fields: Partial<CanaryDeps> = {}): Promise<number[]> => {
      const stop = new AbortController();
      const waits: number[] = [];
      const wait = async (ms: number) => {
        waits.push(ms);
        if (waits.length === count) stop.abort();
      };
      await runCanaries(config(), deps({ wait, random, ...fields }), stop.signal);
      return waits;
    };

    it("waits exponentially distributed times of the configured mean", async () => {
      const [half] = await run(1, () => 0.5);
      expect(half).to.be.closeTo(60_000 * Math.LN2, 1);
      expect(await run(1, () => 0)).to.deep.equal([0]);
    });

    it("sends none while it is another process's turn, and goes on when it is its own", async () => {
      const lease = { name: "attestor", holder: "a", token: 7n };
      const rounds = [false, false, true];
      const turn: Turn = {
        get isMine() {
          return rounds.shift() ?? false;
        },
        lease,
      };
      const leases: unknown[] = [];
      const canaries = {
        recordAnswer: async () => undefined,
        record: async (_lane: unknown, sample: CanarySample, under?: unknown) => {
          samples.push(sample);
          leases.push(under);
        },
      };
      await run(6, () => 0.5, { turn, store: { canaries } });
      expect(bodies).to.have.length(1);
      expect(leases).to.deep.equal([lease]);
    });

    it("warns of one that came back when the turn was lost, and counts it for nothing", async () => {
      const turn: Turn = { isMine: true, lease: { name: "attestor", holder: "a", token: 7n } };
      const canaries = { recordAnswer: async () => undefined, record: () => Promise.reject(new TurnLost("attestor")) };
      const results: string[] = [];
      const onSampled = (_lane: unknown, result: string) => void results.push(result);
      await run(2, () => 0.5, { turn, store: { canaries }, onSampled });
      expect(results).to.deep.equal(["uncounted"]);
      const [{ level, message }] = lines.map((line) => JSON.parse(line) as { level: string; message: string });
      expect({ level, message }).to.deep.equal({ level: "warn", message: "Canary wasn't sampled" });
    });

    it("goes on after a refusal, and logs it", async () => {
      answer = (response) => response.writeHead(402).end("top up");
      chain.licenses.clear();
      expect(await run(3, () => 0.5)).to.have.length(3);
      expect(lines.filter((line) => line.includes("top up"))).to.have.length(2);
    });
  });
});
