import type { FastifyInstance } from "fastify";
import type { AddressInfo } from "node:net";
import { Problem, reasonOf } from "./problem";

/** Headers are small, and a connection without a whole one keeps others out. */
const HEADERS_MS = 15_000;

/** Server options by which a client has only so long to send a request. */
export function receivingWithin(ms: number) {
  const headersTimeout = Math.min(ms, HEADERS_MS);
  return {
    requestTimeout: ms,
    http: { requestTimeout: ms, headersTimeout, connectionsCheckingInterval: headersTimeout / 4 },
  };
}

/** Where a server is to be had; port 0 takes a free one. */
export interface Place {
  host: string;
  port: number;
}

/**
 * Starts to serve, and gives the server's root.
 * @throws Problem if the place can't be had
 */
export async function listen(server: FastifyInstance, { host, port }: Place): Promise<string> {
  try {
    await server.listen({ host, port });
  } catch (cause) {
    throw refused({ host, port }, cause as NodeJS.ErrnoException);
  }
  const { port: taken } = server.server.address() as AddressInfo;
  return `http://${host.includes(":") ? `[${host}]` : host}:${taken}`;
}

function refused({ host, port }: Place, cause: NodeJS.ErrnoException): Error {
  switch (cause.code) {
    case "EADDRINUSE":
      return new Problem(`Port ${port} of ${host} is in use: end what uses it, or set another port.`, { cause });
    case "EACCES":
      return new Problem(`Port ${port} of ${host} isn't this user's to take: set one from 1024 on.`, { cause });
    default:
      return new Problem(
        `${host}, port ${port}, can't be served at (${reasonOf(cause)}): set a host of this machine's.`,
        {
          cause,
        },
      );
  }
}
