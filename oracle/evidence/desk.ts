/** Where an attestor takes operators' evidence: it gives seeds, judges what comes under them, and signs what it found. */
import type { FastifyInstance } from "fastify";
import { hexlify } from "ethers";
import { randomBytes } from "node:crypto";
import type { Chain } from "../chain/chain";
import { type DigestSigner, findingToSign } from "../keys/digestSigner";
import type { Log } from "../log";
import { MalformedMessage, recoverSigner, seedRequestDigest, signedSeedRequestFromJson } from "../protocol/messages";
import { Tier } from "../protocol/tiers";
import type { Finding, SeedRequest, SignedFinding } from "../protocol/types";
import type { Turn } from "../store/leases";
import { assess } from "./assess";
import type { EvidenceBooks } from "./books";
import { bundleOf, evidenceHashOf, LONGEST_BUNDLE } from "./bundle";
import { EVIDENCE_PATH, type EvidenceAnswer, evidenceAnswerToJson, SEEDS_PATH } from "./evidenceApi";
import type { EvidencePolicy } from "./policy";
import { Refused } from "./verdict";

export interface DeskDeps {
  chain: Pick<Chain, "domain" | "now" | "isSigningKey">;
  books: EvidenceBooks;
  policy: EvidencePolicy;
  /** The attestor's. */
  signer: DigestSigner;
  log: Log;
  /** Where several processes share the books: no finding is signed while it is another's. */
  turn?: Turn;
  /** Is told which tier each bundle reached. */
  onAssessed?: (tier: Tier) => void;
}

/** A signed request for a seed is fresh so long, in seconds, whichever of the clocks is ahead. */
const MOST_CLOCK_ERROR = 120;
/** Of one signer, that wait for their answers. */
const MOST_SEEDS = 16;
const REQUEST_BODY_LIMIT = 4_096;
/** A character has at most so many bytes. */
const BYTES_A_CHARACTER = 4;

/** The request can't be granted: it is answered with the status and the sentence. */
class DeskRefusal extends Error {
  constructor(
    readonly statusCode: number,
    message: string,
  ) {
    super(message);
  }
}

/** Adds `/v1/evidence/seeds` and `/v1/evidence` to an attestor's server. */
export function addDesk(server: FastifyInstance, deps: DeskDeps): void {
  server.post(SEEDS_PATH, { bodyLimit: REQUEST_BODY_LIMIT }, async ({ body }) => {
    const { request, signature } = signedSeedRequestFromJson(body);
    return { seed: await issueSeed(deps, request, signature) };
  });
  server.post(EVIDENCE_PATH, { bodyLimit: BYTES_A_CHARACTER * LONGEST_BUNDLE }, async ({ body }) => {
    if (typeof body !== "string") throw new DeskRefusal(415, "Send the bundle as it is, as text/plain");
    return evidenceAnswerToJson(await judge(deps, body));
  });
}

/** Only a key that signs the operator's receipts gets one, for itself. */
async function issueSeed({ chain, books, policy }: DeskDeps, request: SeedRequest, signature: string): Promise<string> {
  const { operatorId, at } = request;
  const receiptSigner = recoverSigner(seedRequestDigest(chain.domain, request), signature);
  const now = await chain.now();
  if (Math.abs(now - at) > MOST_CLOCK_ERROR) {
    throw new DeskRefusal(422, `The request is of ${at}, and it is ${now}: ${MOST_CLOCK_ERROR} s apart are the most`);
  }
  await requireKey(chain, operatorId, receiptSigner, now);
  const seed = { value: hexlify(randomBytes(32)), operatorId, receiptSigner, issuedAt: now };
  if (await books.issue(seed, now - policy.maxAgeSeconds, MOST_SEEDS)) return seed.value;
  throw new DeskRefusal(429, `${MOST_SEEDS} seeds of ${receiptSigner} wait for evidence: send it, or ask again later`);
}

async function judge(
  { chain, books, policy, signer, log, turn, onAssessed }: DeskDeps,
  text: string,
): Promise<EvidenceAnswer> {
  const bundle = readBundle(text);
  const seed = await books.find(bundle.seed);
  if (seed === undefined) {
    throw new DeskRefusal(422, `The seed ${bundle.seed} isn't one that this attestor issued. Ask it for one.`);
  }
  const { operatorId, receiptSigner } = seed;
  const at = await chain.now();
  await requireKey(chain, operatorId, receiptSigner, at);
  const { chainId, verifyingContract: contract } = chain.domain;
  const subject = { chainId, contract, operatorId, receiptSigner, at, recounted: false };
  const { tier, gpu, cpu, validUntil } = await assess(bundle, subject, { policy, seeds: books, devices: books });
  onAssessed?.(tier);
  const said = { operatorId, receiptSigner, tier, gpu: gpu.reason, cpu: cpu.reason };
  if (tier < Tier.gpu) {
    log.warn("Evidence reaches no tier", said);
    return { gpu, cpu, finding: null };
  }
  // It stands for what is served from the seed on: hardware can't have signed it earlier.
  const evidenceHash = evidenceHashOf(text);
  const finding: Finding = { operatorId, receiptSigner, tier, from: seed.issuedAt, until: validUntil, evidenceHash };
  await books.recordFinding(finding, turn?.lease);
  log.info("Evidence holds", { ...said, until: validUntil });
  return { gpu, cpu, finding: await signed(chain, signer, finding) };
}

async function signed({ domain }: DeskDeps["chain"], signer: DigestSigner, finding: Finding): Promise<SignedFinding> {
  return { finding, signature: await signer.sign(findingToSign(domain, finding)) };
}

async function requireKey(chain: DeskDeps["chain"], operatorId: number, key: string, at: number): Promise<void> {
  if (await chain.isSigningKey(operatorId, key, at)) return;
  throw new DeskRefusal(422, `${key} isn't a key of operator ${operatorId} at ${at}: register it, with operator:key`);
}

function readBundle(text: string) {
  try {
    return bundleOf(text);
  } catch (cause) {
    if (cause instanceof Refused) throw new MalformedMessage(cause.message, { cause });
    throw cause;
  }
}
