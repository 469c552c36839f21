import { expect } from "chai";
import { ReceiptFlag } from "../../oracle/protocol/types";
import { Generated } from "../../oracle/gateway/generated";
import { saltedHash } from "../../oracle/protocol/messages";
import { describeOnEach } from "../support/databases";
import { grantWith } from "../support/fakeMessages";
import {
  babbling,
  embedding,
  eventOf,
  failing,
  type FakeUpstream,
  type Script,
  streaming,
  whole,
} from "../support/fakeUpstream";
import { GatewayBench, MESSAGES, modelAt, refusalOf, until } from "../support/gatewayBench";

const VLLM = {
  prompt_tokens: 40,
  total_tokens: 52,
  completion_tokens: 12,
  prompt_tokens_details: { cached_tokens: 32 },
  completion_tokens_details: { reasoning_tokens: 9 },
};
const LLAMA_CPP = { usage: { prompt_tokens: 40, completion_tokens: 12, total_tokens: 52 } };
const LLAMA_CPP_TIMINGS = { cache_n: 32, prompt_n: 8, prompt_ms: 20.4, predicted_n: 12, predicted_ms: 60.1 };
const OLLAMA = { prompt_tokens: 40, completion_tokens: 12, total_tokens: 52 };

describeOnEach("what a gateway counts", (placeOf) => {
  let bench: GatewayBench;
  let upstream: FakeUpstream;

  beforeEach(async () => {
    bench = await GatewayBench.start(1, placeOf());
    upstream = bench.upstreams[0];
    await bench.serve();
  });

  afterEach(() => bench.close());

  describe("of the usage that servers report", () => {
    const shapes: [string, object, object][] = [
      ["vLLM", { usage: VLLM }, { inputTokens: 8n, cachedInputTokens: 32n, outputTokens: 12n, flags: 0 }],
      [
        "llama.cpp",
        { ...LLAMA_CPP, timings: LLAMA_CPP_TIMINGS },
        { inputTokens: 8n, cachedInputTokens: 32n, outputTokens: 12n, computeMs: 81n, flags: 0 },
      ],
      [
        "llama.cpp that says timings alone",
        { timings: LLAMA_CPP_TIMINGS },
        { inputTokens: 8n, cachedInputTokens: 32n, outputTokens: 12n, computeMs: 81n, flags: 0 },
      ],
      ["Ollama", { usage: OLLAMA }, { inputTokens: 40n, cachedInputTokens: 0n, outputTokens: 12n, flags: 0 }],
      [
        "a server with null for details",
        { usage: { ...OLLAMA, prompt_tokens_details: null } },
        { inputTokens: 40n, cachedInputTokens: 0n, outputTokens: 12n, flags: 0 },
      ],
    ];
    for (const [server, extra, receipt] of shapes) {
      it(`takes ${server}'s of a whole answer`, async () => {
        upstream.script = whole({ extra: extra as Record<string, unknown> });
        await bench.chat({ max_tokens: 20 });
        expect(await bench.onlyReceipt()).to.include(receipt);
      });

      it(`takes ${server}'s of a stream`, async () => {
        const { usage = null, ...rest } = extra as Record<string, Record<string, unknown>>;
        // Without usage, the timings come with the last chunk that has a choice.
        upstream.script =
          usage === null
            ? streaming({ usage, beside: (words) => (words === 4 ? rest : {}) })
            : streaming({ usage, extra: rest });
        await bench.chatStream({ max_tokens: 20 });
        expect(await bench.onlyReceipt()).to.include(receipt);
      });
    }

    it("takes the last of vLLM's running totals, which a client may ask for, when it hangs up", async () => {
      upstream.script = streaming({
        words: Array.from({ length: 100 }, () => "word "),
        delayMs: 10,
        beside: (words) => ({
          usage: { prompt_tokens: 40, completion_tokens: words * 2, total_tokens: 40 + words * 2 },
        }),
      });
      const asked = { include_usage: true, continuous_usage_stats: true };
      const stream = await bench.client().chat.completions.create({
        model: "writer",
        messages: MESSAGES,
        stream: true,
        stream_options: asked,
      });
      let seen = 0;
      for await (const { usage } of stream) {
        expect(usage).to.include({ completion_tokens: ++seen * 2 });
        if (seen === 3) break;
      }
      await until(async () => (await bench.receipts()).length === 1);
      const { inputTokens, outputTokens, flags } = await bench.onlyReceipt();
      expect(upstream.received[0].body.stream_options).to.deep.equal(asked);
      expect(inputTokens).to.equal(40n);
      expect(outputTokens >= 6n && outputTokens <= 100n && outputTokens % 2n === 0n).to.equal(true);
      expect(flags).to.equal(ReceiptFlag.cancelled);
    });

    it("holds output to max_tokens for each of n answers, and cached input to the input", async () => {
      const usage = { prompt_tokens: 9, completion_tokens: 10_000, prompt_tokens_details: { cached_tokens: 10 } };
      upstream.script = whole({ extra: { usage } });
      await bench.chat({ max_tokens: 7, n: 3 });
      expect(await bench.onlyReceipt()).to.include({ inputTokens: 0n, cachedInputTokens: 9n, outputTokens: 21n });
    });
  });

  describe("by itself, where a server reports nothing", () => {
    beforeEach(() => {
      upstream.tokenizer = (text) => text.length;
    });

    it("counts each of several answers apart, however their pieces came", async () => {
      const piece = (index: number, content: string) => eventOf({ choices: [{ index, delta: { content } }] });
      const counted: string[] = [];
      upstream.tokenizer = (text) => counted.push(text) && text.length;
      upstream.script = (response) => {
        response.writeHead(200, { "content-type": "text/event-stream" });
        response.end(
          [piece(0, "You "), piece(1, "No, "), piece(0, "may."), piece(1, "never."), "data: [DONE]\n\n"].join(""),
        );
      };
      await bench.chatStream({ n: 2, max_tokens: 50 });
      expect(counted).to.include.members(["You may.", "No, never."]);
      expect(await bench.onlyReceipt()).to.include({ outputTokens: 18n, flags: ReceiptFlag.estimated });
    });

    it("counts reasoning, refusals and calls of tools and functions", async () => {
      const message = {
        role: "assistant",
        reasoning_content: "hmm ",
        content: "no",
        refusal: "sorry",
        tool_calls: [{ id: "1", type: "function", function: { name: "read", arguments: '{"page":1}' } }],
        function_call: { name: "write", arguments: "{}" },
      };
      upstream.script = (response) =>
        void response
          .writeHead(200, { "content-type": "application/json" })
          .end(JSON.stringify({ choices: [{ index: 0, message }] }));
      await bench.chat();
      const text = 'hmm nosorrywrite{}read{"page":1}';
      expect(await bench.onlyReceipt()).to.include({ outputTokens: BigInt(text.length), flags: ReceiptFlag.estimated });
    });

    it("counts prompts that came as tokens without asking", async () => {
      upstream.tokenizer = () => expect.fail("it was asked to count tokens");
      upstream.script = embedding(null);
      await bench.client().embeddings.create({ model: "writer", input: [[7, 8, 9], [1]] });
      expect(await bench.onlyReceipt()).to.include({ inputTokens: 4n, outputTokens: 0n, flags: ReceiptFlag.estimated });
    });

    it("asks another server that serves the same, where the one that had the request is gone", async () => {
      const other = await GatewayBench.start(1);
      try {
        const [spare] = other.upstreams;
        spare.tokenizer = (text) => text.length;
        upstream.tokenizer = null;
        upstream.script = streaming({ usage: null });
        await bench.serve({
          models: [modelAt({ url: upstream.url }, { url: spare.url })],
        });
        await bench.chatStream();
        expect(await bench.onlyReceipt()).to.include({ outputTokens: 18n, flags: ReceiptFlag.estimated });
        expect(spare.received).to.deep.equal([]);
      } finally {
        await other.close();
      }
    });
  });

  describe("of a stream that breaks off", () => {
    const said = eventOf({ choices: [{ index: 0, delta: { content: "You may" } }] });
    const events =
      (...all: string[]): Script =>
      (response) =>
        void response.writeHead(200, { "content-type": "text/event-stream" }).end(all.join(""));
    const breaks: [string, Script][] = [
      ["dies", streaming({ words: ["You ", "may"], dies: true })],
      ["ends before it is complete", events(said)],
      ["says that it failed", events(said, eventOf({ error: { message: "out of memory" } }), "data: [DONE]\n\n")],
      ["becomes one endless event", events(said, `data: ${"x".repeat(2 ** 23)}`)],
    ];
    for (const [what, script] of breaks) {
      it(`is what came, by the model's own tokenizer, where it ${what}; not the prompt, which must be sent again`, async () => {
        upstream.script = script;
        upstream.tokenizer = (text) => text.length;
        const { status, text } = await bench.post({ model: "writer", messages: MESSAGES, stream: true });
        expect(status).to.equal(200);
        expect(text).to.contain("broke off: what it wrote is charged, and nothing else").and.not.to.contain("[DONE]");
        expect(text).not.to.contain("out of memory");
        const receipt = await bench.onlyReceipt();
        expect(receipt).to.include({ requests: 0n, inputTokens: 0n, cachedInputTokens: 0n, computeMs: 0n });
        expect(receipt).to.include({ outputTokens: 7n, flags: ReceiptFlag.broken | ReceiptFlag.estimated });
        expect(receipt.ttftMs).to.be.within(1, receipt.durationMs);
        expect(receipt.responseHash).to.equal(saltedHash(grantWith().salt, Buffer.from(text)));
        expect(await bench.store.tallies.unsettled(1n)).to.equal(7n);
      });
    }

    it("is what the server reported before, and at most what was reserved", async () => {
      const beside = (words: number) => ({ usage: { prompt_tokens: 40, completion_tokens: words * 30 } });
      upstream.script = streaming({ words: ["a", "b"], beside, dies: true });
      await bench.chatStream({ max_tokens: 50 }).catch(() => undefined);
      expect(await bench.onlyReceipt()).to.include({ inputTokens: 0n, outputTokens: 50n, flags: ReceiptFlag.broken });
    });

    it("tells the openai client, and gives the rest of the reservation back", async () => {
      upstream.script = streaming({ dies: true });
      const error = await refusalOf(bench.chatStream());
      expect(error.message).to.contain("model writer broke off");
      expect(error.code).to.equal("upstream_broke_off");
      expect(await bench.onlyReceipt()).to.include({
        outputTokens: 4n,
        flags: ReceiptFlag.broken | ReceiptFlag.estimated,
      });
      bench.setLicense({ balance: 4n + BigInt(JSON.stringify({ model: "writer", messages: MESSAGES }).length + 110) });
      await bench.gateway.refresh(1n);
      upstream.script = whole();
      expect((await bench.chat()).choices).to.have.length(1);
    });
  });

  describe("of embeddings", () => {
    it("is their input alone, and the openai client gets its vectors", async () => {
      upstream.script = embedding();
      const { data, usage } = await bench.client().embeddings.create({ model: "writer", input: ["May I?", "Must I?"] });
      expect(data.map((each) => each.embedding)).to.deep.equal([
        [0.5, -0.25],
        [0.5, -0.25],
      ]);
      expect(usage.prompt_tokens).to.equal(8);
      expect(upstream.received[0]).to.deep.include({
        path: "/v1/embeddings",
        body: { model: "writer", input: ["May I?", "Must I?"], encoding_format: "base64" },
      });
      const receipt = await bench.onlyReceipt();
      expect(receipt).to.include({ requests: 1n, inputTokens: 8n, outputTokens: 0n, ttftMs: 0, flags: 0 });
    });

    it("takes vLLM's usage, which says that nothing was completed", async () => {
      upstream.script = embedding({
        prompt_tokens: 8,
        total_tokens: 8,
        completion_tokens: 0,
        prompt_tokens_details: null,
      });
      await bench.client().embeddings.create({ model: "writer", input: "May I?" });
      expect(await bench.onlyReceipt()).to.include({ inputTokens: 8n, flags: 0 });
    });

    it("passes an answer on byte for byte", async () => {
      const said = '{"object":"list", "data":[{"embedding":[1e-3]}],\n"usage":{"prompt_tokens":2,"total_tokens":2}}';
      upstream.script = (response) => void response.writeHead(200, { "content-type": "application/json" }).end(said);
      const { status, text } = await bench.post({ model: "writer", input: "a" }, { path: "/v1/embeddings" });
      expect({ status, text }).to.deep.equal({ status: 200, text: said });
    });

    it("is reserved for by the bytes of the input, and by nothing for output", async () => {
      const body = { model: "writer", input: "May I?" };
      const worst = BigInt(JSON.stringify(body).length + 10);
      bench.setLicense({ balance: worst - 1n });
      expect((await bench.post(body, { path: "/v1/embeddings" })).status).to.equal(402);
      bench.setLicense({ balance: worst });
      await bench.gateway.refresh(1n);
      upstream.script = embedding();
      expect((await bench.post(body, { path: "/v1/embeddings" })).status).to.equal(200);
    });

    const refused: [string, object, RegExp][] = [
      ["no input", {}, /input: send a text or a list of texts/],
      ["an input that is an object", { input: {} }, /input: send a text/],
      ["an empty list", { input: [] }, /input: send a text/],
      ["inputs of both kinds", { input: ["a", 1] }, /every input must be a text or a list of tokens/],
      ["too many inputs", { input: Array.from({ length: 2_049 }, () => "a") }, /at most 2048 inputs/],
      ["a parameter of chats", { input: "a", max_tokens: 5 }, /max_tokens: isn't taken here/],
      ["a model that isn't served", { input: "a", model: "bert" }, /bert isn't served here/],
    ];
    for (const [what, body, sentence] of refused) {
      it(`refuses ${what}`, async () => {
        const { status, text } = await bench.post({ model: "writer", ...body }, { path: "/v1/embeddings" });
        expect(status).to.be.oneOf([400, 404]);
        expect(text).to.match(sentence);
        expect(upstream.received).to.deep.equal([]);
      });
    }

    it("is nothing where the server fails, or answers something else", async () => {
      upstream.script = failing(400, { error: { message: "this model doesn't embed" } });
      const asked = () => bench.client().embeddings.create({ model: "writer", input: "a" });
      expect((await refusalOf(asked())).message).to.contain("this model doesn't embed");
      for (const script of [babbling, whole()]) {
        upstream.script = script;
        expect((await refusalOf(asked())).status).to.equal(502);
      }
      for (const receipt of await bench.receipts()) expect(receipt).to.include({ inputTokens: 0n, flags: 2 });
      expect(await bench.receipts()).to.have.length(3);
    });
  });
});

describe("Generated", () => {
  it("gives each choice's text whole, however long", () => {
    const generated = new Generated();
    expect(generated.isEmpty).to.equal(true);
    for (let i = 0; i < 5_000; i++) {
      generated.add({ choice: 0, text: `ÿ${i} ` });
      generated.add({ choice: 1, text: "€" });
    }
    const first = Array.from({ length: 5_000 }, (_, i) => `ÿ${i} `).join("");
    expect(generated.texts()).to.deep.equal([first, "€".repeat(5_000)]);
    expect(generated.chunks).to.equal(10_000);
  });
});
