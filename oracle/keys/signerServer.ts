/** Has keys sign for others, who never have them: `npx licet-oracle signer`. docs/oracle.md describes what is said there. */
import { createHash, timingSafeEqual } from "node:crypto";
import { chmodSync, mkdirSync, unlinkSync } from "node:fs";
import { connect } from "node:net";
import path from "node:path";
import fastify, { type FastifyInstance, type FastifyRequest } from "fastify";
import { listen, receivingWithin } from "../listen";
import type { Log } from "../log";
import { Problem, reasonOf } from "../problem";
import { domainOf, MalformedMessage } from "../protocol/messages";
import type { LocalSigner } from "./digestSigner";
import { openKeystore } from "./keystore";
import { SIGN_PATH } from "./remoteSigner";
import { SignedBatches } from "./signedBatches";
import type { ServedKey, SignerConfig } from "./signerConfig";
import { questionOf, requireAllowed, SigningRefused, type Question, type Rules } from "./signerRules";

/** A settlement of two thousand licenses has 130,000 bytes. */
const MOST_BODY_BYTES = 2 ** 20;
const RECEIVE_MS = 10_000;
/** Of its socket: this user and its group. */
const SOCKET_MODE = 0o660;

export interface SignerServer {
  url: string;
  addresses: string[];
  close(): Promise<void>;
}

interface OpenKey extends Rules {
  signer: LocalSigner;
  /** SHA-256 of its token. */
  token: Buffer;
}

/** @throws Problem if a keystore can't be opened, two are of one key, or the place can't be had */
export async function startSigner(config: SignerConfig, log: Log): Promise<SignerServer> {
  const domain = domainOf(config.chainId, config.escrow);
  const keys = new Map<string, OpenKey>();
  for (const key of config.keys) {
    const opened = await openServed(key, domain);
    const { address } = opened.signer;
    if (keys.has(address)) throw new Problem(`keys: ${key.keystore} is of ${address}, as another is: leave one out.`);
    keys.set(address, opened);
  }
  mkdirSync(config.dataFolder, { recursive: true });
  const batches = SignedBatches.open(path.join(config.dataFolder, "signer.sqlite"));
  const server = createServer(keys, batches, log);
  try {
    const url = await listenAt(server, config.place);
    const addresses = [...keys.keys()];
    log.info("Signer listens", { url, addresses });
    return {
      url,
      addresses,
      close: async () => {
        await server.close();
        batches.close();
      },
    };
  } catch (cause) {
    batches.close();
    throw cause;
  }
}

async function openServed(key: ServedKey, domain: Rules["domain"]): Promise<OpenKey> {
  const { purposes, calls } = key;
  return { signer: await openKeystore(key.keystore, key.password), token: hashOf(key.token), domain, purposes, calls };
}

function createServer(keys: Map<string, OpenKey>, batches: SignedBatches, log: Log): FastifyInstance {
  const server = fastify({ bodyLimit: MOST_BODY_BYTES, forceCloseConnections: true, ...receivingWithin(RECEIVE_MS) });

  server.setErrorHandler((error: Error & { statusCode?: number }, _request, reply) => {
    const status = statusOf(error);
    if (status === 500) log.error("Signer failed", { cause: error });
    return reply.code(status).send({ error: status === 500 ? "the signer failed: see its log" : error.message });
  });

  server.get("/healthz", async () => ({ status: "ok", addresses: [...keys.keys()] }));

  server.post(SIGN_PATH, async (request) => {
    const question = questionOf(request.body);
    const key = keyFor(request, question, keys);
    const { purpose, digest } = question;
    const { address } = key.signer;
    try {
      requireAllowed(question, key, batches);
    } catch (cause) {
      log.warn("Signer refused", { address, purpose, digest, reason: reasonOf(cause) });
      throw cause;
    }
    log.debug("Signer signed", { address, purpose, digest });
    return { signature: key.signer.sign({ digest }) };
  });
  return server;
}

class WrongToken extends Error {}

/** Whoever has no token for a key isn't told whether it is here. */
function keyFor({ headers }: FastifyRequest, { address }: Question, keys: Map<string, OpenKey>): OpenKey {
  const token = /^Bearer (\S+)$/.exec(headers.authorization ?? "")?.[1] ?? "";
  const key = keys.get(address);
  if (key !== undefined && timingSafeEqual(hashOf(token), key.token)) return key;
  throw new WrongToken(`the token isn't one for a key ${address}`);
}

function hashOf(token: string): Buffer {
  return createHash("sha256").update(token).digest();
}

function statusOf(error: Error & { statusCode?: number }): number {
  if (error instanceof WrongToken) return 401;
  if (error instanceof SigningRefused) return 403;
  if (error instanceof MalformedMessage) return 400;
  return error.statusCode ?? 500;
}

async function listenAt(server: FastifyInstance, place: SignerConfig["place"]): Promise<string> {
  if ("port" in place) return listen(server, { host: "127.0.0.1", port: place.port });
  await removeLeftOver(place.socket);
  try {
    await server.listen({ path: place.socket });
  } catch (cause) {
    throw new Problem(
      `socket ${place.socket} can't be listened at (${reasonOf(cause)}): end what uses it, or name another.`,
      {
        cause,
      },
    );
  }
  chmodSync(place.socket, SOCKET_MODE);
  return `unix:${place.socket}`;
}

/** A process that was killed leaves its socket behind: nobody answers there. */
async function removeLeftOver(socket: string): Promise<void> {
  const refused = await new Promise<boolean>((resolve) => {
    const attempt = connect(socket, () => {
      attempt.destroy();
      resolve(false);
    });
    attempt.on("error", (cause: NodeJS.ErrnoException) => resolve(cause.code === "ECONNREFUSED"));
  });
  if (refused) unlinkSync(socket);
}
