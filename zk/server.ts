/** An inference server for a model of `zk:train`, such as a gateway has behind it. Answers are those that proofs are of. */
import { readFileSync } from "node:fs";
import path from "node:path";
import fastify, { type FastifyInstance } from "fastify";
import { nameOf } from "./architecture";
import { classify, parseModel, requireInput, type Model } from "./network";
import { listen } from "../oracle/listen";
import { Problem, reasonOf, shown } from "../oracle/problem";
import { CLASSIFICATIONS_PATH } from "../oracle/protocol/classification";

export interface ClassifierOptions {
  /** The model's file. */
  modelPath: string;
  /** What clients call it; the name of the file's folder if left out. */
  modelId?: string;
  host?: string;
  /** 0, or left out, takes a free one. */
  port?: number;
}

export interface Classifier {
  /** The server's root, without `/v1`. */
  url: string;
  modelId: string;
  close(): Promise<void>;
}

/** @throws Problem if the file isn't a model, or the port is taken */
export async function startClassifier(options: ClassifierOptions): Promise<Classifier> {
  const { modelPath, host = "127.0.0.1", port = 0 } = options;
  const modelId = options.modelId ?? path.basename(path.dirname(path.resolve(modelPath)));
  const server = createServer(readModel(modelPath), modelId);
  const url = await listen(server, { host, port });
  return { url, modelId, close: () => server.close() };
}

function createServer({ network }: Model, modelId: string): FastifyInstance {
  const server = fastify();
  server.setErrorHandler((error, _request, reply) => {
    const status = error instanceof Problem ? 400 : ((error as { statusCode?: number }).statusCode ?? 500);
    const type = status < 500 ? "invalid_request_error" : "api_error";
    void reply.code(status).send({ error: { message: reasonOf(error), type, param: null, code: null } });
  });
  server.get("/health", () => ({ status: "ok" }));
  server.get("/v1/models", () => ({ object: "list", data: [{ id: modelId, object: "model" }] }));
  server.post(CLASSIFICATIONS_PATH, ({ body }) => {
    const { model, input } = (body ?? {}) as { model?: unknown; input?: unknown };
    if (model !== modelId) throw new Problem(`Model ${shown(model)} isn't here: ask for ${modelId}.`);
    const values = requireInput(network, input);
    const answer = classify(network, values);
    const usage = { prompt_tokens: values.length, completion_tokens: 0, total_tokens: values.length };
    return { object: "classification", model: modelId, architecture: nameOf(network), ...answer, usage };
  });
  return server;
}

function readModel(file: string): Model {
  try {
    return parseModel(readFileSync(file, "utf8"));
  } catch (cause) {
    throw new Problem(`${file} can't be served: ${reasonOf(cause)}`, { cause });
  }
}
