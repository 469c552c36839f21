/** What a gateway adds to a request: processor time, and time to the first token. */
import OpenAI from "openai";
import { GatewayBench, keyFor, MESSAGES } from "../gatewayBench";
import { streaming, whole } from "../fakeUpstream";
import { type Figure, figureOf, median } from "./records";

const AT_ONCE = 8;

/** @param count requests of a run, to the server itself and through the gateway */
export async function measureGateway(count: number, runs: number): Promise<Figure[]> {
  const bench = await GatewayBench.start();
  try {
    await bench.serve({ requestTimeoutMs: 60_000 });
    const bare = new OpenAI({ apiKey: "none", baseURL: `${bench.upstreams[0].url}/v1`, maxRetries: 0 });
    const served = new OpenAI({ apiKey: keyFor(), baseURL: `${bench.gateway.url}/v1`, maxRetries: 0 });
    const cpu: number[] = [];
    const ttft: number[] = [];
    for (let run = 0; run <= runs; run++) {
      bench.upstreams[0].script = whole();
      const cpuMs = (await cpuMsOf(served, count)) - (await cpuMsOf(bare, count));
      bench.upstreams[0].script = streaming();
      const ttftMs = (await ttftMsOf(served, count)) - (await ttftMsOf(bare, count));
      // The first run warms up.
      if (run === 0) continue;
      cpu.push(cpuMs);
      ttft.push(ttftMs);
    }
    return [
      figureOf("gateway.cpu_ms", "ms", cpu, { atMost: 5 }),
      figureOf("gateway.ttft_added_ms", "ms", ttft, { atMost: 5 }),
    ];
  } finally {
    await bench.close();
  }
}

/** Of this process, the client's and the server's included, for each request. */
async function cpuMsOf(client: OpenAI, count: number): Promise<number> {
  const before = process.cpuUsage();
  let next = 0;
  const askOn = async () => {
    while (next++ < count) await client.chat.completions.create({ model: "writer", messages: MESSAGES });
  };
  await Promise.all(Array.from({ length: AT_ONCE }, askOn));
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1_000 / count;
}

/** At p50, of one request at a time. */
async function ttftMsOf(client: OpenAI, count: number): Promise<number> {
  const times: number[] = [];
  for (let i = 0; i < count; i++) {
    const startedAt = performance.now();
    const stream = await client.chat.completions.create({ model: "writer", messages: MESSAGES, stream: true });
    let firstAt: number | undefined;
    for await (const { choices } of stream) if (choices[0]?.delta.content) firstAt ??= performance.now();
    times.push(firstAt! - startedAt);
  }
  return median(times);
}
