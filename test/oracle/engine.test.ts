import { expect } from "chai";
import OpenAI from "openai";
import { type Engine, startEngine } from "../../oracle/engine";

const MODEL = "lic380k";

describe("engine", function () {
  this.timeout(60_000);
  let engine: Engine;
  let client: OpenAI;

  before(async () => {
    engine = await startEngine({ modelPath: "models/lic380k/lic380k.q8.gguf", modelId: MODEL, slots: 2 });
    client = new OpenAI({ baseURL: `${engine.url}/v1`, apiKey: "none", maxRetries: 0 });
  });

  after(() => engine.close());

  afterEach(() => {
    engine.faults.delayMs = 0;
    engine.faults.failEvery = 0;
  });

  const ask = (content: string, max_tokens = 12) => ({
    model: MODEL,
    max_tokens,
    messages: [{ role: "user" as const, content }],
  });

  const post = (path: string, body: unknown, signal?: AbortSignal) =>
    fetch(engine.url + path, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: typeof body === "string" ? body : JSON.stringify(body),
      signal,
    });

  const tokens = async (body: object): Promise<number[]> => (await (await post("/tokenize", body)).json()).tokens;

  describe("startEngine", () => {
    it("refuses a file that isn't a model, by name", async () => {
      let problem: Error | undefined;
      await startEngine({ modelPath: "package.json" }).catch((error) => (problem = error));
      expect(problem?.message).to.contain("package.json");
    });
  });

  describe("/v1/models", () => {
    it("names the one model", async () => {
      const models = await client.models.list();
      expect(models.data.map((model) => model.id)).to.deep.equal([MODEL]);
    });
  });

  describe("/tokenize", () => {
    it("counts what /v1/chat/completions counts as the prompt", async () => {
      const { messages } = ask("Write the MIT License.");
      const answer = await client.chat.completions.create(ask("Write the MIT License."));
      expect(await tokens({ messages })).to.have.length(answer.usage!.prompt_tokens);
    });

    it("refuses a body with neither content nor messages", async () => {
      expect((await post("/tokenize", {})).status).to.equal(400);
    });
  });

  describe("/v1/chat/completions", () => {
    it("writes text and counts its tokens", async () => {
      const answer = await client.chat.completions.create(ask("Write the ISC License."));
      expect(answer.choices[0].message.content).to.match(/[a-z]{3}/);
      expect(answer.choices[0].finish_reason).to.equal("length");
      expect(answer.usage!.completion_tokens).to.equal(12);
      expect(answer.usage!.total_tokens).to.equal(answer.usage!.prompt_tokens + 12);
    });

    it("reports how long prefill and decoding took, as llama.cpp does", async () => {
      const { timings, usage } = await (await post("/v1/chat/completions", ask("Write the Zlib License."))).json();
      expect(timings.prompt_n + timings.cache_n).to.equal(usage.prompt_tokens);
      expect(timings.predicted_n).to.equal(12);
      expect(timings.prompt_ms).to.be.greaterThan(0);
      expect(timings.predicted_ms).to.be.greaterThan(0);
    });

    it("takes a repeated prompt from the cache, all but its last token", async () => {
      const request = ask("Write a license that nobody asked for yet.");
      await client.chat.completions.create(request);
      const { usage } = await client.chat.completions.create(request);
      expect(usage!.prompt_tokens_details!.cached_tokens).to.equal(usage!.prompt_tokens - 1);
    });

    it("gives the same text again unless a temperature is asked for", async () => {
      const [one, two] = [
        await client.chat.completions.create(ask("Write the Apache License.")),
        await client.chat.completions.create(ask("Write the Apache License.")),
      ];
      expect(two.choices[0].message.content).to.equal(one.choices[0].message.content);
    });

    it("stops at the end of the context when no limit is given", async () => {
      const request = { ...ask("Write the BSD License."), max_tokens: undefined };
      const { usage, choices } = await client.chat.completions.create(request);
      expect(choices[0].finish_reason).to.equal("length");
      expect(usage!.total_tokens).to.equal(256);
    });

    it("serves more requests at once than it has slots", async () => {
      const answers = await Promise.all(
        ["a", "b", "c", "d", "e"].map((letter) => client.chat.completions.create(ask(`Write license ${letter}.`))),
      );
      expect(answers.map((answer) => answer.usage!.completion_tokens)).to.deep.equal([12, 12, 12, 12, 12]);
    });

    describe("when streaming", () => {
      it("sends the same text in pieces, and usage at the end when asked", async () => {
        const request = ask("Write the Unlicense.");
        const whole = await client.chat.completions.create(request);
        const stream = await client.chat.completions.create({
          ...request,
          stream: true,
          stream_options: { include_usage: true },
        });
        const chunks = [];
        for await (const chunk of stream) chunks.push(chunk);
        const text = chunks.map((chunk) => chunk.choices[0]?.delta.content ?? "").join("");
        expect(text).to.equal(whole.choices[0].message.content);
        expect(chunks.at(-1)!.usage!.completion_tokens).to.equal(12);
        expect(chunks.at(-2)!.choices[0].finish_reason).to.equal("length");
      });

      it("sends no usage when not asked", async () => {
        const stream = await client.chat.completions.create({ ...ask("Write the Unlicense."), stream: true });
        for await (const chunk of stream) expect(chunk.usage).to.equal(undefined);
      });
    });

    describe("when the client hangs up", () => {
      it("stops decoding and gives the slot back", async () => {
        for (let hungUp = 0; hungUp < 4; hungUp++) {
          const abort = new AbortController();
          const response = await post("/v1/chat/completions", { ...ask("Go on.", 200), stream: true }, abort.signal);
          await response.body!.getReader().read();
          abort.abort();
        }
        const answer = await client.chat.completions.create(ask("Write the MIT License."));
        expect(answer.usage!.completion_tokens).to.equal(12);
      });
    });

    describe("when the request is wrong", () => {
      const errorOf = async (response: Response) => {
        const { error } = await response.json();
        return { status: response.status, type: error.type, message: error.message, code: error.code };
      };

      it("answers 404 for another model", async () => {
        const error = await errorOf(await post("/v1/chat/completions", { ...ask("Hi"), model: "gpt-9" }));
        expect(error).to.include({ status: 404, type: "invalid_request_error", code: "model_not_found" });
        expect(error.message).to.contain('"gpt-9"').and.to.contain(MODEL);
      });

      it("answers 400 for a prompt that leaves no room in the context", async () => {
        const error = await errorOf(await post("/v1/chat/completions", ask("license ".repeat(300))));
        expect(error).to.include({ status: 400, code: "context_length_exceeded" });
        expect(error.message).to.contain("256");
      });

      const wrong: [string, object, string][] = [
        ["no messages", { messages: [] }, "messages"],
        ["a message without a role", { messages: [{ content: "Hi" }] }, "role"],
        ["a limit of no tokens", { max_tokens: 0 }, "max_tokens"],
        ["a limit in quotes", { max_tokens: "12" }, "max_tokens"],
        ["a negative temperature", { temperature: -1 }, "temperature"],
        ["two answers at once", { n: 2 }, "n "],
      ];
      for (const [what, fields, named] of wrong) {
        it(`answers 400 for ${what} and names the field`, async () => {
          const error = await errorOf(await post("/v1/chat/completions", { ...ask("Hi"), ...fields }));
          expect(error).to.include({ status: 400, type: "invalid_request_error" });
          expect(error.message).to.contain(named);
        });
      }

      it("answers 400 for a body that isn't JSON", async () => {
        expect((await post("/v1/chat/completions", "{")).status).to.equal(400);
      });
    });
  });

  describe("/v1/completions", () => {
    const request = { model: MODEL, prompt: "Permission is hereby granted", max_tokens: 8 };

    it("continues the prompt", async () => {
      const answer = await client.completions.create(request);
      expect(answer.choices[0].text).to.match(/[a-z]{3}/);
      expect(answer.usage!.completion_tokens).to.equal(8);
    });

    it("streams the same text", async () => {
      const whole = await client.completions.create(request);
      let text = "";
      for await (const chunk of await client.completions.create({ ...request, stream: true })) {
        text += chunk.choices[0]?.text ?? "";
      }
      expect(text).to.equal(whole.choices[0].text);
    });

    it("refuses an empty prompt", async () => {
      expect((await post("/v1/completions", { ...request, prompt: "" })).status).to.equal(400);
    });
  });

  describe("faults", () => {
    it("delayMs holds the first token back", async () => {
      engine.faults.delayMs = 300;
      const startedAt = performance.now();
      await client.chat.completions.create(ask("Write the MIT License.", 1));
      expect(performance.now() - startedAt).to.be.greaterThan(300);
    });

    it("failEvery answers 500 to every n-th request and says that it was told to", async () => {
      engine.faults.failEvery = 2;
      const answers = [];
      for (let request = 0; request < 4; request++) answers.push(await post("/v1/chat/completions", ask("Hi", 1)));
      expect(answers.map((answer) => answer.status).sort()).to.deep.equal([200, 200, 500, 500]);
      const failed = await answers.find((answer) => answer.status === 500)!.json();
      expect(failed.error.code).to.equal("injected_fault");
    });
  });
});
