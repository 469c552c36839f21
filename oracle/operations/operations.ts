import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import path from "node:path";
import fastify from "fastify";
import { listen, receivingWithin, type Place } from "../listen";
import type { Registry } from "./metrics";
import type { Readiness } from "./readiness";

export interface Operations {
  url: string;
  close(): Promise<void>;
}

const RECEIVE_TIMEOUT_MS = 10_000;
const MOST_CONNECTIONS = 64;

/**
 * Serves `/healthz` (the process lives), `/readyz` (it can work, or 503 with the reasons; with warnings of what it can't do
 * beside) and `/metrics` to whoever runs the oracle, at a place of its own; and a page that shows them.
 * @throws Problem if the place can't be had
 */
export async function startOperations(place: Place, registry: Registry, readiness: Readiness): Promise<Operations> {
  const server = fastify({ forceCloseConnections: true, ...receivingWithin(RECEIVE_TIMEOUT_MS) });
  server.server.maxConnections = MOST_CONNECTIONS;
  server.addHook("onSend", async (_request, reply) => void reply.header("cache-control", "no-store"));
  server.get("/healthz", () => ({ status: "ok" }));
  server.get("/readyz", async (_request, reply) => {
    const [reasons, warnings] = await Promise.all([readiness.reasons(), readiness.warnings()]);
    return reply.code(reasons.length === 0 ? 200 : 503).send({ ready: reasons.length === 0, reasons, warnings });
  });
  server.get("/metrics", async (_request, reply) =>
    reply.type("text/plain; version=0.0.4; charset=utf-8").send(await registry.text()),
  );
  const page = readFileSync(path.join(__dirname, "dashboard.html"), "utf8");
  const policy = policyOf(page);
  server.get("/", async (_request, reply) =>
    reply.type("text/html; charset=utf-8").header("content-security-policy", policy).send(page),
  );
  const url = await listen(server, place);
  return { url, close: () => server.close() };
}

/** Only what stands in the page itself runs in it, and it asks nobody but its own server. */
function policyOf(page: string): string {
  const hashOf = (tag: string) => {
    const [, text] = new RegExp(`<${tag}>(.*?)</${tag}>`, "s").exec(page)!;
    return `'sha256-${createHash("sha256").update(text).digest("base64")}'`;
  };
  const own = `script-src ${hashOf("script")}; style-src ${hashOf("style")}; connect-src 'self'`;
  return `default-src 'none'; ${own}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'`;
}
