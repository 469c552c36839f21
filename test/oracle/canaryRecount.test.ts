import { expect } from "chai";
import { sendCanary } from "../../oracle/attestor/canary";
import type { CanaryAnswer } from "../../oracle/attestor/recount";
import { createLog } from "../../oracle/log";
import { GatewayBench, keyFor, LANE } from "../support/gatewayBench";
import { streaming } from "../support/fakeUpstream";

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
      const answers: CanaryAnswer[] = [];
      if (draw < 0.75) bench.upstreams[0].script = streaming({ words: ["May", " be", "€😀."] });
      await sendCanary(
        {
          lane: LANE,
          gatewayUrl: bench.gateway.url,
          apiKey: keyFor(),
          modelId: "writer",
          meanIntervalMs: 0,
          timeoutMs: 5_000,
          maxTokens: 50,
        },
        {
          chain: bench.chain,
          store: { recordCanary: async () => undefined, recordAnswer: async (one) => void answers.push(one) },
          log: createLog("error", () => {}),
          random: () => draw,
          isOnline: async () => true,
          wait: async () => undefined,
        },
        new AbortController().signal,
      );
      const { requestHash, responseHash, inputTokens, cachedInputTokens, outputTokens } = await bench.onlyReceipt();
      expect(answers).to.have.length(1);
      expect(answers[0]).to.include({ requestHash, responseHash, operatorId: LANE.operatorId });
      expect(Number(inputTokens + cachedInputTokens)).to.be.at.most(answers[0].mostInput);
      expect(Number(outputTokens)).to.be.at.most(answers[0].mostOutput);
    });
  }
});
