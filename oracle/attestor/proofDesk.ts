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
  chain: Pick<Chain, "plan" | "version" | "headroom">;
  inferences: Inferences;
  store: Pick<Store, "proofs">;
  copies: Copies;
}

/** Base64 of as many proofs as there may be, and their receipts' names. */
const BODY_LIMIT = Math.ceil((4 / 3) * MOST_PROOFS_SENT * LONGEST_PROOF) + 4_096;
/** How much of such requests is read at once. */
const READ_AT_ONCE = 8 * BODY_LIMIT;

/** Adds `/v1/proofs` to an attestor's server. */
export function serveProofs(server: FastifyInstance, deps: ProofDeskDeps, self: string): void {
  const intake = new Intake(READ_AT_ONCE);
  // A verifier is its publisher's code, and keeps a node busy.
  const inTurn = oneAtATime();
  const asked = new WeakMap<FastifyRequest, number>();
  const onRequest = async (request: FastifyRequest, reply: FastifyReply) => {
    const operatorId = await deps.copies.operatorIn(retrievalFromText(request.headers[RETRIEVAL_HEADER]), self);
    if ((await deps.chain.headroom(operatorId)) <= 0n) throw withoutStake(operatorId);
    asked.set(request, operatorId);
    intake.admit(request, reply);
  };
  server.post(PROOFS_PATH, { bodyLimit: BODY_LIMIT, onRequest }, async (request) => {
    const shown = shownProofsFromJson(request.body);
    return takenProofsToJson(await inTurn(() => takeProofs(deps, asked.get(request)!, shown)));
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
  if (version?.manifestHash !== manifestHash) {
    return `${name} is of the manifest ${manifestHash}, and version ${versionId} has ${version?.manifestHash ?? "none"}`;
  }
  const inference = await inferences.inferenceOf(versionId);
  if (inference === null) return `${name} can't be proven: version ${versionId} names no verifier`;
  if (await inferences.isProven(inference, receipt, hash, proof)) return null;
  return `${name} isn't proven: the verifier ${inference.verifier} doesn't take the ${proof.length} bytes that were shown for a proof`;
}
