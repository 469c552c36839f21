import { task, types } from "hardhat/config";
import { startEngine } from "../oracle/engine";
import { addExample, explain } from "./support";

task("engine:run", "Serves a GGUF model by llama.cpp on this machine's CPU, OpenAI-compatible: an upstream to try with")
  .addOptionalParam("model", "The GGUF file", "models/lic380k/lic380k.q8.gguf")
  .addOptionalParam("port", "Where to listen on 127.0.0.1", 8000, types.int)
  .setAction(async ({ model, port }: { model: string; port: number }) => explain(() => run(model, port)));

async function run(model: string, port: number): Promise<void> {
  const engine = await startEngine({ modelPath: model, port });
  console.log(`${engine.url}/v1 serves ${model}. Ctrl-C stops it.`);
  await new Promise((resolve) => {
    for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, resolve);
  });
  await engine.close();
}

addExample("engine:run", "--port 8000");
