/**
 * Where an attestor is shown proofs of receipts' answers, under plans that demand them. It has each verified once, by the verifier
 * that the version names, and remembers which receipts are proven; the proofs it forgets.
 */
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import type { CopiedReceipt } from "./batchFacts";
import type { Copies } from "./copies";
import { Intake } from "./intake";
import {
  LONGEST_PROOF,
  MOST_PROOFS_SENT,
  PROOFS_PATH,
  type ShownProofs,
  shownProofsFromJson,
  type TakenProofs,
  takenProofsToJson,
} from "./proofsApi";
import { RETRIEVAL_HEADER, retrievalFromText } from "./retrievalApi";
import type { Chain } from "../chain/chain";
import type { Inferences } from "../chain/inferences";
import { oneAtATime } from "../oneAtATime";
import { Tier, tierWord } from "../protocol/tiers";
import type { Store } from "../store/store";

export interface ProofDeskDeps {
  chain: Pick<Chain, "plan" | "version" | "headroom" | "now">;
  inferences: Inferences;
  store: Pick<Store, "proofs">;
  copies: Copies;
}

/** Base64 of as many proofs as there may be, and their receipts' names. */
const BODY_LIMIT = Math.ceil((4 / 3) * MOST_PROOFS_SENT * LONGEST_PROOF) + 4_096;
/** How much of such requests is read at once. */
const READ_AT_ONCE = 8 * BODY_LIMIT;

/** How many requests of one operator's are read, or wait, at once. */
const MOST_OF_ONE = 2;
/** How long an operator waits after proofs of it weren't taken; twice as long each time, until all are taken, in seconds. */
const FIRST_WAIT_SECONDS = 1;
const LONGEST_WAIT_SECONDS = 60;

/** An operator's request isn't looked at now. */
class NotNow extends Error {
  readonly statusCode = 429;
}

/** One of an operator's requests, until it is answered or given up. */
interface Visit {
  operatorId: number;
  /** Its body was read: it is there until its turn is over. */
  isRead: boolean;
  leave(): void;
}

/** Keeps one operator from using up what time there is for all: a verifier is its publisher's code, and keeps a node busy. */
class Turns {
  private readonly intake = new Intake(READ_AT_ONCE);
  private readonly inTurn = oneAtATime();
  /** By operators. */
  private readonly present = new Map<number, number>();
  /** By operators whose last proofs weren't all taken; until when, Unix seconds. */
  private readonly waits = new Map<number, { seconds: number; until: number }>();

  /**
   * @param now Unix seconds
   * @throws NotNow, or what says that it is too long
   */
  admit(operatorId: number, now: number, request: FastifyRequest, reply: FastifyReply): Visit {
    const left = (this.waits.get(operatorId)?.until ?? 0) - now;
    if (left > 0) throw new NotNow(`Proofs of operator ${operatorId} weren't taken: show others in ${left} s`);
    const present = this.present.get(operatorId) ?? 0;
    if (present >= MOST_OF_ONE) {
      throw new NotNow(`${present} requests of operator ${operatorId} are being looked at: wait for them`);
    }
    const giveBack = this.intake.take(request.headers["content-length"]);
    this.present.set(operatorId, present + 1);
    let isHere = true;
    const leave = () => {
      if (!isHere) return;
      isHere = false;
      giveBack();
      const others = this.present.get(operatorId)! - 1;
      if (others > 0) this.present.set(operatorId, others);
      else this.present.delete(operatorId);
    };
    const visit: Visit = { operatorId, isRead: false, leave };
    const onClose = () => void (visit.isRead || leave());
    if (reply.raw.closed) onClose();
    else reply.raw.once("close", onClose);
    return visit;
  }

  /** Does a visitor's work once that of those before it is done. Who has gone in the meantime isn't worked for. */
  async take(visit: Visit, reply: FastifyReply, work: () => Promise<TakenProofs>): Promise<TakenProofs> {
    visit.isRead = true;
    try {
      return await this.inTurn(async () => {
        if (reply.raw.closed) throw new NotNow("The request was given up");
        return work();
      });
    } finally {
      visit.leave();
    }
  }

  /** Whether some of an operator's proofs were refused. */
  note(operatorId: number, someWere: boolean, now: number): void {
    const before = this.waits.get(operatorId)?.seconds;
    this.waits.delete(operatorId);
    if (!someWere) return;
    const seconds = before === undefined ? FIRST_WAIT_SECONDS : Math.min(LONGEST_WAIT_SECONDS, 2 * before);
    this.waits.set(operatorId, { seconds, until: now + seconds });
  }
}

/** Adds `/v1/proofs` to an attestor's server. */
export function serveProofs(server: FastifyInstance, deps: ProofDeskDeps, self: string): void {
  const turns = new Turns();
  const visits = new WeakMap<FastifyRequest, Visit>();
  const onRequest = async (request: FastifyRequest, reply: FastifyReply) => {
    const operatorId = await deps.copies.operatorIn(retrievalFromText(request.headers[RETRIEVAL_HEADER]), self);
    if ((await deps.chain.headroom(operatorId)) <= 0n) throw withoutStake(operatorId);
    visits.set(request, turns.admit(operatorId, await deps.chain.now(), request, reply));
  };
  server.post(PROOFS_PATH, { bodyLimit: BODY_LIMIT, onRequest }, async (request, reply) => {
    const shown = shownProofsFromJson(request.body);
    const visit = visits.get(request)!;
    const { operatorId } = visit;
    const taken = await turns.take(visit, reply, () => takeProofs(deps, operatorId, shown));
    turns.note(operatorId, taken.refused.length > 0, await deps.chain.now());
    return takenProofsToJson(taken);
  });
}

/** Anybody may register as an operator, and send what isn't proven again and again. */
function withoutStake(operatorId: number): Error {
  const message = `Operator ${operatorId}'s stake lets nothing more be in flight, so that no proof of it is verified: add stake, or release batches`;
  return Object.assign(new Error(message), { statusCode: 402 });
}

/** @throws if the chain can't be read: then they may be shown again */
async function takeProofs(deps: ProofDeskDeps, operatorId: number, shown: ShownProofs): Promise<TakenProofs> {
  const { store, copies } = deps;
  const names = shown.proofs.map(({ name }) => name);
  const known = await store.proofs.provenOf(names.map(({ hash }) => hash));
  const { found, lacking } = await copies.find(
    operatorId,
    names.filter(({ hash }) => !known.has(hash)),
  );
  const proofs = new Map(shown.proofs.map(({ name, proof }) => [name.hash, proof]));
  const proven = new Map<string, number>();
  const refused: TakenProofs["refused"] = [];
  for (const copied of found) {
    const { hash, receipt } = copied;
    const reason = await problemOf(deps, shown.versionId, copied, proofs.get(hash)!);
    if (reason === null) proven.set(hash, receipt.finishedAt);
    else refused.push({ hash, reason });
  }
  await store.proofs.noteProven(proven);
  return { proven: known.size + proven.size, lacking, refused };
}

/** Why a receipt isn't taken for proven, a sentence; null if it is proven. */
async function problemOf(
  { chain, inferences }: ProofDeskDeps,
  versionId: bigint,
  { receipt, hash }: CopiedReceipt,
  proof: Uint8Array,
): Promise<string | null> {
  const { planId, manifestHash, licenseId, sequence } = receipt;
  const name = `Receipt ${sequence} of license ${licenseId}`;
  const [plan, version] = await Promise.all([chain.plan(planId), chain.version(versionId)]);
  if (plan?.minEvidenceTier !== Tier.proven) {
    return `${name} needs no proof: plan ${planId} demands ${tierWord(plan?.minEvidenceTier ?? Tier.signed)} receipts`;
  }
  // Anybody may publish the same manifest as an asset of their own, with a verifier that takes all.
  if (version?.assetId !== plan.assetId) {
    return `${name} is of asset ${plan.assetId}, and version ${versionId} is ${version === null ? "unknown" : `of asset ${version.assetId}`}`;
  }
  if (version.manifestHash !== manifestHash) {
    return `${name} is of the manifest ${manifestHash}, and version ${versionId} has ${version.manifestHash}`;
  }
  const inference = await inferences.inferenceOf(versionId);
  if (inference === null) return `${name} can't be proven: version ${versionId} names no verifier`;
  if (await inferences.isProven(inference, receipt, hash, proof)) return null;
  return `${name} isn't proven: the verifier ${inference.verifier} doesn't take the ${proof.length} bytes that were shown for a proof`;
}
