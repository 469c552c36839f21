import { Agent, request } from "undici";
import { reasonOf } from "../problem";
import { recoverSigner } from "../protocol/messages";
import type { DigestSigner, Signable } from "./digestSigner";
import type { SignerSetting } from "./keySetting";

/** Where a signer is asked; docs/oracle.md describes what is said there. */
export const SIGN_PATH = "/v1/sign";

/** The store waits for a receipt's signature. */
const ANSWER_MS = 3_000;
const MOST_ANSWER_BYTES = 4_096;
/** Characters of its reasons that a message repeats. */
const MOST_SAID = 400;

/** A signature couldn't be had of the signer, or isn't one. */
export class SignerFailed extends Error {
  override name = "SignerFailed";
}

/** A key that another process has. What it answers is recovered before anybody believes it. */
export function remoteSigner({ url, address, token }: SignerSetting, answerMs = ANSWER_MS): DigestSigner {
  const socketPath = url.startsWith("unix:") ? url.slice("unix:".length) : undefined;
  const dispatcher = new Agent({ connect: { socketPath, timeout: answerMs }, maxResponseSize: MOST_ANSWER_BYTES });
  const target = `${socketPath === undefined ? url : "http://localhost"}${SIGN_PATH}`;

  async function ask({ purpose, digest, domain, json }: Signable): Promise<{ status: number; body: unknown }> {
    const question = { address, purpose, digest, domain, message: json() };
    try {
      const { statusCode, body } = await request(target, {
        method: "POST",
        headers: { "content-type": "application/json", authorization: `Bearer ${token}` },
        body: JSON.stringify(question, (_key, value: unknown) => (typeof value === "bigint" ? String(value) : value)),
        dispatcher,
        signal: AbortSignal.timeout(answerMs),
      });
      return { status: statusCode, body: await body.json() };
    } catch (cause) {
      throw new SignerFailed(`The signer at ${url} doesn't answer (${reasonOf(cause)}): check that it runs`, { cause });
    }
  }

  return {
    address,
    async sign(signable) {
      const { status, body } = await ask(signable);
      const { signature, error } = (body ?? {}) as { signature?: unknown; error?: unknown };
      if (status !== 200) {
        throw new SignerFailed(
          `The signer at ${url} signs no ${signable.purpose}: ${status}, ${JSON.stringify(error)?.slice(0, MOST_SAID)}`,
        );
      }
      const signer = recovered(signable.digest, signature);
      if (signer === address) return signature as string;
      throw new SignerFailed(
        `The signer at ${url} answered a ${signable.purpose} with ${signer ?? "no signature"}, not with one by ${address}`,
      );
    },
  };
}

/** Whose signature it is, in the one form that counts; null if it is none. */
function recovered(digest: string, signature: unknown): string | null {
  try {
    return recoverSigner(digest, String(signature));
  } catch {
    return null;
  }
}
