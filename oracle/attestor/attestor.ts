/**
 * An attestor: over HTTP it states what its canaries measured, and vouches for batches that it has checked itself.
 * It signs nothing before its store remembers what, so that it can't be made to contradict itself, restarts included.
 */
import fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from "fastify";
import {
  type Attestation,
  type AttestationRefusal,
  ATTESTATIONS_PATH,
  evidenceFromJson,
  hashesToText,
  measurementRequestFromJson,
  MEASUREMENTS_PATH,
  MOST_SENTENCES,
  PROPOSAL_HEADER,
  type ProposedBatch,
  proposedBatchFromText,
} from "./attestorApi";
import { type AttestationRequest, type BatchFacts, gatherFacts, type JudgedBatch, proposalProblem } from "./batchFacts";
import type { Audits } from "./audits";
import { Copies, Unarchived } from "./copies";
import { serveCopies } from "./copiesApi";
import type { Chain, Committee, Committees } from "../chain/chain";
import type { Inferences } from "../chain/inferences";
import type { EvidenceBooks } from "../evidence/books";
import { addDesk } from "../evidence/desk";
import type { EvidencePolicy } from "../evidence/policy";
import { evidenceRefusals } from "./evidenceReasons";
import { serveProofs } from "./proofDesk";
import { recount } from "./recount";
import { committeeFor, type Refusal, refusalsOf } from "./inspection";
import { Intake } from "./intake";
import { batchToSign, type DigestSigner, measurementToSign } from "../keys/digestSigner";
import { listen, receivingWithin } from "../listen";
import type { Log } from "../log";
import { oneAtATime } from "../oneAtATime";
import { Problem } from "../problem";
import { measure, sampledTime } from "./measure";
import { recall } from "./memory";
import type { Plausible } from "./plausibility";
import { MalformedMessage, signedMeasurementToJson } from "../protocol/messages";
import { Tier } from "../protocol/tiers";
import type { Epoch, Lane, SignedMeasurement } from "../protocol/types";
import { ReceiptVerifier } from "./receiptVerifier";
import { requestRefusals } from "./requestReasons";
import { BATCH_LIMITS } from "../settler/batches";
import type { CopyArchive } from "../store/copyArchive";
import { type Lease, type Turn, TurnLost } from "../store/leases";
import type { Store } from "../store/store";
import { StoreConflict } from "../store/storeConflict";

export interface AttestorConfig {
  /** The key of the committee's member that this attestor is. */
  signer: DigestSigner;
  /** Address of the committee's contract. */
  committee: string;
  /** 0, the default, takes a free one. */
  port?: number;
  host?: string;
  /** Longest batch in bytes, and the most of all that are read at once: a receipt takes 107 of them, a grant about 550. */
  bodyLimit?: number;
  /** The most copies of receipts that are kept of one operator with stake, at about 600 bytes each. */
  copiesPerOperator?: number;
  /** How long they are kept at least, in seconds; as long as a batch with them may settle if left out. */
  keepCopiesSeconds?: number;
  /** How long a settler may take to send a request. */
  receiveTimeoutMs?: number;
}

export interface AttestorDeps {
  chain: Chain;
  store: Store;
  log: Log;
  /** Where several processes share the store: while it is another's turn, nobody is answered here, and nothing is signed. */
  turn?: Turn;
  /** Is told why a batch was refused; without a reason, it was attested. */
  onJudged?: (reasons: string[]) => void;
  /** Where evidence is taken. Without it, plans that demand evidence get no signature. */
  evidence?: { books: EvidenceBooks; policy: EvidencePolicy; onAssessed?: (tier: Tier) => void };
  /** Where proofs are verified. Without it, none are taken, and plans that demand them get no signature. */
  inferences?: Inferences;
  /** Where copies go that are in batches which can't settle any more. Without it, they are dropped. */
  archive?: Pick<CopyArchive, "archiveDue">;
  /** Is told how many of them couldn't go there. */
  onArchived?: (failed: number) => void;
  /** Its looks at disclosed requests. Without them, it asks for none. */
  audits?: Pick<Audits, "note" | "refusals">;
  /** What is believed of a lane's operator; `PLAUSIBLE` if left out. */
  plausible?: (lane: Lane) => Plausible;
}

export interface Attestor {
  url: string;
  /** The member's address. */
  address: string;
  close(): Promise<void>;
}

const DEFAULT_BODY_LIMIT = 32 * 2 ** 20;
const DEFAULT_RECEIVE_TIMEOUT_MS = 60_000;
const MEASUREMENT_BODY_LIMIT = 4_096;
const HEALTH_PATH = "/healthz";
/** How often copies that are too old are dropped. */
const DROPPING_MS = 600_000;

/** A batch is too much for one. */
class BatchTooLarge extends Error {
  readonly statusCode = 413;
}

/** Anybody may register as an operator, and send batches: more than this is read of those only who have a stake to lose. */
const SMALL_BODY = 2 ** 20;

/** Another process has the key's turn: whoever asks does so again, there. */
class StandsBy extends Error {
  readonly statusCode = 503;

  constructor() {
    super("Another process attests for this key at the moment, or none: try again");
  }
}

/** The attestor won't say what it was asked for: it answers 422 with the reason. */
class MeasurementRefused extends Error {}

/**
 * Serves `/v1/receipts`, `/v1/measurements`, `/v1/attestations` and `/healthz`.
 * @throws Problem if the key isn't a member's, or the port is taken
 */
export async function startAttestor(config: AttestorConfig, deps: AttestorDeps): Promise<Attestor> {
  const { address } = config.signer;
  await requireMember(address, await deps.chain.committees(config.committee), deps.log);
  const verifier = new ReceiptVerifier(deps.chain.domain);
  const copies = new Copies(deps, config, verifier);
  const server = createServer(config, deps, copies);
  const url = await listen(server, { host: config.host ?? "127.0.0.1", port: config.port ?? 0 });
  const drop = skipping(async () => isMine(deps) && dropOld(copies, deps));
  const dropping = setInterval(drop, DROPPING_MS);
  deps.log.info("Attestor started", { address, url });
  const close = async () => {
    clearInterval(dropping);
    await server.close();
    await verifier.close();
  };
  return { url, address, close };
}

function isMine({ turn }: AttestorDeps): boolean {
  return turn === undefined || turn.isMine;
}

/** Does a work that never fails, but not while it is still being done. */
function skipping(work: () => Promise<unknown>): () => void {
  let isRunning = false;
  return () => {
    if (isRunning) return;
    isRunning = true;
    void work().finally(() => (isRunning = false));
  };
}

async function dropOld(copies: Copies, { log, onArchived }: AttestorDeps): Promise<void> {
  try {
    const dropped = await copies.dropOld();
    onArchived?.(0);
    if (dropped > 0) log.info("Copies of receipts dropped: no batch with them can settle any more", { dropped });
  } catch (cause) {
    if (!(cause instanceof Unarchived))
      return log.warn("Copies of receipts that are too old can't be dropped", { cause });
    onArchived?.(cause.failed.length);
    log.error("Batches can't be archived: their copies stay in the store", { cause });
  }
}

async function requireMember(address: string, { present, former, announced }: Committees, log: Log): Promise<void> {
  const unbonded = [present, former, announced].some((one) => one?.unbonded.includes(address));
  if (unbonded)
    log.warn("Attestor's bond doesn't cover it: its signatures don't count; post one, with committee:bond", {
      address,
    });
  if (present.members.includes(address)) return;
  if (announced?.members.includes(address)) {
    return log.warn("Attestor's committee isn't in force yet", { address, since: announced.since });
  }
  if (former?.members.includes(address)) {
    return log.warn("Attestor's committee isn't in force any more: it attests for a window yet", { address });
  }
  throw new Problem(
    `${address} isn't a member of the committee ${present.address}: use the key of one, ${present.members.join(", ")}.`,
  );
}

function createServer(
  { signer, committee, bodyLimit = DEFAULT_BODY_LIMIT, receiveTimeoutMs = DEFAULT_RECEIVE_TIMEOUT_MS }: AttestorConfig,
  deps: AttestorDeps,
  copies: Copies,
): FastifyInstance {
  const server = fastify({ bodyLimit, forceCloseConnections: true, ...receivingWithin(receiveTimeoutMs) });
  const intake = new Intake(bodyLimit);
  const proposed = new WeakMap<FastifyRequest, ProposedBatch>();

  server.setErrorHandler((error: Error & { statusCode?: number }, _request, reply) => {
    if (error instanceof MalformedMessage) return reply.code(400).send({ error: error.message });
    if (error instanceof MeasurementRefused) return reply.code(422).send({ refusals: [error.message] });
    if (error instanceof TurnLost) {
      deps.log.warn("Attestor signs nothing: it isn't its turn any more", { cause: error });
      return reply.code(503).send({ error: error.message });
    }
    if (error instanceof StandsBy || (error.statusCode !== undefined && error.statusCode < 500)) {
      return reply.code(error.statusCode!).send({ error: error.message });
    }
    deps.log.error("Attestor failed", { cause: error });
    return reply.code(503).send({ error: "The chain or the store can't be read; try again" });
  });

  server.addHook("onRequest", async ({ routeOptions }) => {
    if (!isMine(deps) && routeOptions.url !== HEALTH_PATH) throw new StandsBy();
  });
  server.get(HEALTH_PATH, async () => ({ status: "ok", address: signer.address }));

  server.post(MEASUREMENTS_PATH, { bodyLimit: MEASUREMENT_BODY_LIMIT }, async ({ body }) => {
    const { lane, epoch } = measurementRequestFromJson(body);
    return signedMeasurementToJson(await signMeasurement(deps, signer, lane, epoch));
  });

  // Only the operator proposes, and under the committee's plans: whoever else has some of its receipts could use its lane's
  // numbers up, and anybody can be an operator of some plan.
  const admit = async (request: FastifyRequest, reply: FastifyReply) => {
    const batch = proposedBatchFromText(request.headers[PROPOSAL_HEADER]);
    const problem = await proposalProblem(deps.chain, batch, committee);
    if (problem !== null) return reply.code(422).send(refusalOf([{ reason: problem, receiptHash: null }]));
    if (Number(request.headers["content-length"]) > SMALL_BODY) await requireStake(deps.chain, batch.header.operatorId);
    intake.admit(request, reply);
    proposed.set(request, batch);
  };
  // A batch's receipts are in memory while it is judged: those of one batch are enough.
  const inTurn = oneAtATime();
  server.post(ATTESTATIONS_PATH, { onRequest: admit }, async (request, reply) => {
    const asked: AttestationRequest = { ...proposed.get(request)!, ...evidenceFromJson(request.body) };
    requireWithinLimits(asked);
    return inTurn(async () => {
      const { found, lacking } = await copies.find(asked.header.operatorId, asked.receipts, asked.leaves);
      if (lacking.length > 0) return reply.code(409).send({ lacking: hashesToText(lacking) });
      const batch = { ...asked, receipts: found };
      const answer = await attest(deps, await deps.chain.committees(committee), signer, batch);
      return reply.code("signature" in answer ? 200 : 422).send(answer);
    });
  });
  serveCopies(server, copies, signer.address);

  if (deps.inferences !== undefined)
    serveProofs(server, { ...deps, inferences: deps.inferences, copies }, signer.address);
  if (deps.evidence !== undefined) addDesk(server, { ...deps, ...deps.evidence, signer });
  return server;
}

/** @throws BatchTooLarge */
function requireWithinLimits({ receipts }: AttestationRequest): void {
  if (receipts.length <= BATCH_LIMITS.receipts) return;
  throw new BatchTooLarge(
    `The batch has ${receipts.length} receipts; ${BATCH_LIMITS.receipts} are the most: make batches smaller`,
  );
}

/** Only for epochs that a batch can have, and that have ended: what is measured then doesn't change any more. */
async function signMeasurement(
  { chain, store, turn }: AttestorDeps,
  signer: DigestSigner,
  lane: Lane,
  epoch: Epoch,
): Promise<SignedMeasurement> {
  const { epochStart, epochEnd } = epoch;
  if (epochEnd <= epochStart || epochEnd - epochStart > chain.epochPeriod) {
    throw new MeasurementRefused(
      `No epoch runs from ${epochStart} to ${epochEnd}: ${chain.epochPeriod} s are the most`,
    );
  }
  const now = await chain.now();
  if (now < epoch.epochEnd) throw new MeasurementRefused(`The epoch ends at ${epoch.epochEnd}; it is ${now}`);
  await store.canaries.noteMeasured(epochEnd, turn?.lease);
  const samples = await store.canaries.samples(lane, sampledTime(epoch, chain.epochPeriod));
  const measurement = measure(lane, epoch, samples, chain.epochPeriod);
  return { measurement, signature: await signer.sign(measurementToSign(chain.domain, measurement)) };
}

/** What the operator proposed, if nothing speaks against it. */
async function attest(
  { chain, store, log, turn, onJudged, plausible, evidence, audits }: AttestorDeps,
  committees: Committees,
  signer: DigestSigner,
  batch: JudgedBatch,
): Promise<Attestation | AttestationRefusal> {
  const facts = await gatherFacts(chain, batch);
  const { batchId, header } = facts;
  const { address } = signer;
  const committee = committeeFor(committees, facts.measurements, address);
  const lacking = [
    ...(await requestRefusals(chain, store, facts)),
    ...(await lackingEvidence(evidence, facts, store)),
    ...((await audits?.refusals(facts)) ?? []),
  ];
  const refusals =
    committee === null
      ? [notInForce(address)]
      : await inTurn(store, () =>
          judge({ store, lease: turn?.lease }, facts, batch, committee, address, lacking, plausible?.(header)),
        );
  onJudged?.(refusals.map(({ reason }) => reason));
  if (refusals.length > 0) {
    const refusal = refusalOf(refusals);
    log.warn("Batch refused", { batchId, header, reasons: refusal.refusals });
    return refusal;
  }
  log.info("Batch attested", { batchId, header });
  return { signer: address, signature: await signer.sign(batchToSign(chain.domain, header)) };
}

/** Which receipts aren't of what the attestor's own canaries got, or lack the evidence that their plan demands. */
async function lackingEvidence(
  evidence: AttestorDeps["evidence"],
  facts: BatchFacts,
  store: Store,
): Promise<Refusal[]> {
  const { plan, header } = facts;
  const { refusals, recounted } = recount(facts, await store.canaries.answers(header.operatorId, header));
  if (plan === null || plan.minEvidenceTier === Tier.signed) return refusals;
  const findings = (await evidence?.books.findings(header.operatorId, header)) ?? [];
  const isProofDemanded = plan.minEvidenceTier === Tier.proven;
  const proven = await store.proofs.provenOf(isProofDemanded ? facts.receipts.map(({ hash }) => hash) : []);
  return [...refusals, ...evidenceRefusals(facts, { findings, recounted, proven })];
}

/** @throws 402 if a batch of the operator's couldn't settle: it may be sent again once there is stake for it */
async function requireStake(chain: Chain, operatorId: number): Promise<void> {
  if ((await chain.headroom(operatorId)) > 0n) return;
  const message = `Operator ${operatorId}'s stake lets nothing more be in flight, so that no large batch of it is read: add stake, or release batches`;
  throw Object.assign(new Error(message), { statusCode: 402 });
}

/** Looks at a batch and, if nothing speaks against it, notes that it is vouched for. */
async function judge(
  books: Books,
  facts: BatchFacts,
  batch: JudgedBatch,
  committee: Committee,
  address: string,
  lacking: Refusal[],
  plausible?: Plausible,
): Promise<Refusal[]> {
  const refusals = [
    ...(await refusalsOf(facts, await recall(books.store, facts), committee, address, plausible)),
    ...lacking,
  ];
  return refusals.length === 0 ? remember(books, facts, batch) : refusals;
}

/** What is remembered, and the lease under which a batch is signed, where several processes remember it. */
interface Books {
  store: Store;
  lease?: Lease;
}

const turns = new WeakMap<Store, Promise<unknown>>();

/** One batch after another: what is remembered of one decides on the next. */
function inTurn<T>(store: Store, work: () => Promise<T>): Promise<T> {
  const turn = (turns.get(store) ?? Promise.resolve()).then(work);
  turns.set(
    store,
    turn.catch(() => undefined),
  );
  return turn;
}

function notInForce(address: string): Refusal {
  return { reason: `${address} isn't a member of the committee in force, nor of the one before`, receiptHash: null };
}

/** Another process with this key's store may have got in between the inspection and this: then nothing is signed. */
async function remember(
  { store, lease }: Books,
  { batchId, header, receipts }: BatchFacts,
  { measurements, proposal }: JudgedBatch,
): Promise<Refusal[]> {
  try {
    await store.attested.record(batchId, header, receipts, { measurements, proposal }, lease);
    return [];
  } catch (error) {
    if (error instanceof StoreConflict) return [{ reason: error.message, receiptHash: null }];
    throw error;
  }
}

function refusalOf(refusals: Refusal[]): AttestationRefusal {
  const sentences = refusals.slice(0, MOST_SENTENCES).map(({ reason }) => reason);
  if (refusals.length > MOST_SENTENCES) sentences.push(`There are ${refusals.length - MOST_SENTENCES} more reasons`);
  const receipts = new Set(refusals.flatMap(({ receiptHash }) => receiptHash ?? []));
  return { refusals: sentences, receipts: [...receipts] };
}
