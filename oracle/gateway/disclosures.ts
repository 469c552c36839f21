/**
 * What licensees agreed to show attestors: the bodies of requests that they sent with `x-licet-disclose: attestors`, and of the
 * answers. Kept for a time and up to a size, and given to members of the committee that the license's plan names, and nobody else.
 */
import type { Chain } from "../chain/chain";
import type { Log } from "../log";
import {
  DISCLOSE_HEADER,
  DISCLOSE_TO,
  disclosureFromText,
  type DisclosedRequest,
  type SignedDisclosure,
} from "../protocol/disclosure";
import { reasonOf, shown } from "../problem";
import { disclosureDigest, MalformedMessage, recoverSigner } from "../protocol/messages";
import type { KeptBodies } from "../store/disclosureBooks";
import type { Store } from "../store/store";
import { ApiError } from "./openai";

export interface DisclosuresConfig {
  /** How long bodies are kept. */
  keepSeconds: number;
  /** How many bytes of all bodies are kept at the most; 0 keeps none. */
  mostBytes: number;
}

/** As long as a batch may settle, with the defaults of a deployment. */
export const DISCLOSURES_DEFAULTS: DisclosuresConfig = { keepSeconds: 3 * 86_400, mostBytes: 64 * 2 ** 20 };

/** Of one request and its answer. Longer ones aren't kept. */
export const MOST_BODIES_BYTES = 2 ** 20;
/** How long a signed request for bodies is good for, in seconds either way. */
const ASKED_WITHIN = 300;
/** How often bodies that are too old are forgotten. */
const DROPPING_MS = 600_000;

/** Whether the request says that attestors may see it. @throws ApiError 400 if it says something else */
export function isDisclosed(header: unknown): boolean {
  if (header === undefined) return false;
  if (header === DISCLOSE_TO) return true;
  throw new ApiError(
    400,
    "invalid_header",
    `${DISCLOSE_HEADER}: must be ${DISCLOSE_TO}, or left out; not ${shown(header)}`,
  );
}

export interface DisclosuresDeps {
  chain: Chain;
  store: Store;
  log: Log;
  now(): Promise<number>;
}

export class Disclosures {
  /** What all have, as was counted last and came since. */
  private bytes: number | null = null;
  private droppedAt = -Infinity;

  constructor(
    private readonly config: DisclosuresConfig,
    private readonly operatorId: number,
    private readonly deps: DisclosuresDeps,
  ) {}

  /** @returns whether they are kept, on disk: only then the receipt may say so */
  async keep(bodies: KeptBodies): Promise<boolean> {
    const { store, log } = this.deps;
    const bytes = bodies.request.length + bodies.response.length;
    if (bytes > MOST_BODIES_BYTES || this.config.mostBytes === 0) return false;
    try {
      const now = await this.deps.now();
      if ((await this.bytesAt(now)) + bytes > this.config.mostBytes) return false;
      this.bytes! += bytes;
      await store.disclosures.keep(bodies, now);
      return true;
    } catch (cause) {
      log.warn("Bodies that may be disclosed can't be kept", { requestId: bodies.requestId, cause });
      return false;
    }
  }

  /**
   * @param asked the header in which an attestor says that it asks
   * @throws ApiError 400, 403 or 404 that says what is wrong
   */
  async give(requestId: string, asked: unknown): Promise<DisclosedRequest> {
    const { store } = this.deps;
    const signed = signedIn(asked);
    const [bodies, stored] = await Promise.all([
      store.disclosures.kept(requestId),
      store.receipts.ofRequest(requestId),
    ]);
    if (bodies === null || stored === null) {
      throw new ApiError(404, "not_disclosed", `nothing is kept of request ${requestId} that attestors may see`);
    }
    await this.requireMember(signed, requestId, stored.receipt.planId);
    const grant = await store.grants.find(stored.receipt.grantHash);
    if (grant === null) throw new Error(`the store lacks grant ${stored.receipt.grantHash} of a receipt`);
    const [request, response] = [bodies.request, bodies.response].map((body) => Buffer.from(body));
    return { kind: bodies.kind, grant, request, response };
  }

  private async requireMember(
    { disclosure, signature }: SignedDisclosure,
    requestId: string,
    planId: number,
  ): Promise<void> {
    const { chain } = this.deps;
    const { operatorId, at } = disclosure;
    if (operatorId !== this.operatorId || disclosure.requestId !== requestId) {
      throw forbidden(
        `asked is operator ${operatorId} for ${disclosure.requestId}; this is ${this.operatorId}, ${requestId}`,
      );
    }
    const now = await this.deps.now();
    if (Math.abs(now - at) > ASKED_WITHIN) throw forbidden(`this was signed at ${at}, and it is ${now}: sign it anew`);
    const signer = signerOf(chain, disclosure, signature);
    const plan = await chain.plan(planId);
    const { present, former } = await chain.committees(plan!.attestor);
    if ([present, former].some((one) => one?.members.includes(signer))) return;
    throw forbidden(`${signer} isn't a member of the committee ${present.address}, which plan ${planId} names`);
  }

  private async bytesAt(now: number): Promise<number> {
    const { store } = this.deps;
    if (this.bytes === null || performance.now() - this.droppedAt > DROPPING_MS) {
      this.droppedAt = performance.now();
      await store.disclosures.drop(now - this.config.keepSeconds);
      this.bytes = await store.disclosures.keptBytes();
    }
    return this.bytes;
  }
}

function signedIn(asked: unknown): SignedDisclosure {
  try {
    return disclosureFromText(asked);
  } catch (cause) {
    if (!(cause instanceof MalformedMessage)) throw cause;
    throw new ApiError(400, "malformed_disclosure", reasonOf(cause), { cause });
  }
}

function signerOf({ domain }: Chain, disclosure: SignedDisclosure["disclosure"], signature: string): string {
  try {
    return recoverSigner(disclosureDigest(domain, disclosure), signature);
  } catch (cause) {
    if (!(cause instanceof MalformedMessage)) throw cause;
    throw forbidden(reasonOf(cause));
  }
}

function forbidden(message: string): ApiError {
  return new ApiError(403, "not_for_you", message);
}
