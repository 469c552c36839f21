import { expect } from "chai";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { sendCanary, type CanaryConfig } from "../../oracle/attestor/canary";
import type { CanaryAnswer } from "../../oracle/attestor/recount";
import { createLog } from "../../oracle/log";
import { classify, modelToJson, type Network } from "../../zk/network";
import { startClassifier, type Classifier } from "../../zk/server";
import { digitsModel } from "../support/digits";
import { GatewayBench, keyFor, LANE, modelAt } from "../support/gatewayBench";
import { streaming } from "../support/fakeUpstream";

/** Sends one canary, and gives what is kept of its answer. */
async function answerAt(bench: GatewayBench, fields: Partial<CanaryConfig>, draw = 0.5): Promise<CanaryAnswer[]> {
  const answers: CanaryAnswer[] = [];
  await sendCanary(
    {
      lane: LANE,
      gatewayUrl: bench.gateway.url,
      apiKey: keyFor(),
      modelId: "writer",
      meanIntervalMs: 0,
      timeoutMs: 5_000,
      maxTokens: 50,
      ...fields,
    },
    {
      chain: bench.chain,
      store: { canaries: { record: async () => undefined, recordAnswer: async (one) => void answers.push(one) } },
      log: createLog("error", () => {}),
      random: () => draw,
      isOnline: async () => true,
      wait: async () => undefined,
    },
    new AbortController().signal,
  );
  return answers;
}

describe("a canary at a gateway", () => {
  let bench: GatewayBench;

  beforeEach(async () => {
    bench = await GatewayBench.start();
    await bench.serve();
  });

  afterEach(() => bench.close());

  for (const [how, draw] of [
    ["streamed", 0.5],
    ["streamed, with its usage asked for", 0.3],
    ["sent whole", 0.9],
  ] as const) {
    it(`gets an answer, ${how}, whose receipt says the same of request and answer`, async () => {
      if (draw < 0.75) bench.upstreams[0].script = streaming({ words: ["May", " be", "€😀."] });
      const answers = await answerAt(bench, {}, draw);
      const { requestHash, responseHash, inputTokens, cachedInputTokens, outputTokens } = await bench.onlyReceipt();
      expect(answers).to.have.length(1);
      expect(answers[0]).to.include({ requestHash, responseHash, operatorId: LANE.operatorId });
      expect(Number(inputTokens + cachedInputTokens)).to.be.at.most(answers[0].mostInput);
      expect(Number(outputTokens)).to.be.at.most(answers[0].mostOutput);
    });
  }

  describe("that classifies", () => {
    const { network, salt } = digitsModel();
    const classification = { inputs: 64, network };
    let folder: string;
    let classifier: Classifier;

    beforeEach(() => (folder = mkdtempSync(path.join(tmpdir(), "licet-canary-"))));
    afterEach(async () => {
      await classifier.close();
      rmSync(folder, { recursive: true });
    });

    const serve = async (served: Network) => {
      const modelPath = path.join(folder, "model.json");
      writeFileSync(modelPath, modelToJson({ network: served, salt }));
      classifier = await startClassifier({ modelPath, modelId: "digits" });
      await bench.serve({ models: [{ ...modelAt({ url: classifier.url }), id: "digits" }] });
    };

    it("gets an answer whose receipt has the same commitments and counts", async () => {
      await serve(network);
      const answers = await answerAt(bench, { modelId: "digits", classification });
      const { requestHash, responseHash, inputTokens, outputTokens } = await bench.onlyReceipt();
      expect(answers).to.have.length(1);
      expect(answers[0]).to.include({ requestHash, responseHash, isCounted: true, difference: null });
      expect([Number(inputTokens), Number(outputTokens)]).to.deep.equal([answers[0].mostInput, answers[0].mostOutput]);
    });

    it("finds out weights that differ from the model's by one bit of one weight", async () => {
      // Of an input that the canary's draws all make 128.
      const outputWeights = Int8Array.from(network.outputWeights, (weight, i) => (i === 0 ? weight ^ 1 : weight));
      const served = { ...network, outputWeights };
      const input = new Array<number>(64).fill(128);
      expect(classify(served, input).logits[0]).not.to.equal(classify(network, input).logits[0]);
      await serve(served);
      const [{ difference, responseHash }] = await answerAt(bench, { modelId: "digits", classification });
      expect(responseHash).to.equal((await bench.onlyReceipt()).responseHash);
      expect(difference).to.match(/^is answered otherwise by the attestor's own copy of the model: .*logit 0 is /);
    });
  });
});
