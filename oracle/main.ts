import { randomBytes, randomUUID } from "node:crypto";
import { mkdirSync } from "node:fs";
import { setTimeout as wait } from "node:timers/promises";
import { startAttestor } from "./attestor/attestor";
import { Audits, type AuditedLane } from "./attestor/audits";
import { runCanaries } from "./attestor/canary";
import { onlineCheck } from "./attestor/online";
import { tokenizerOf } from "./attestor/recount";
import type { AttestorSection, GatewaySection, OracleConfig, SettlerSection, X402Section } from "./config";
import { withDeadline } from "./chain/deadline";
import { openDeployment, type Deployment, type OpenDeployment } from "./chain/deployment";
import { connectInferences } from "./chain/inferences";
import { connectVoucherChain } from "./chain/voucherChain";
import { AccountSender } from "./chain/accountSender";
import { connectCourt } from "./chain/ethersCourt";
import { connectEscrow } from "./chain/ethersEscrow";
import { NodesProvider, witnessOf } from "./chain/nodes";
import type { Witness } from "./chain/witness";
import { GATEWAY_DEFAULTS, startGateway } from "./gateway/gateway";
import type { ModelConfig } from "./gateway/models";
import { KeyAccount } from "./keys/account";
import { openKey } from "./keys/openKey";
import { ATTESTING, Duty, type Post, SETTLING } from "./duty";
import { Answerer } from "./disputes/answerer";
import { provingProblems } from "./disputes/provable";
import { receiptProver, type ReceiptProver } from "./disputes/receiptProver";
import { createLog, type Log } from "./log";
import { Figures } from "./operations/figures";
import { startOperations, type Operations } from "./operations/operations";
import {
  chainCheck,
  disputesCheck,
  gasCheck,
  membershipCheck,
  Readiness,
  storeCheck,
  turnCheck,
  upstreamsCheck,
} from "./operations/readiness";
import { Problem, reasonOf } from "./problem";
import { isSameLane } from "./protocol/lanes";
import type { Lane } from "./protocol/types";
import { BATCH_LIMITS } from "./settler/batches";
import { settlementGas } from "./settler/economy";
import { ReceiptFeed } from "./settler/receiptFeed";
import { requireUsable } from "./settler/requirements";
import { ProvenLanes } from "./settler/provenLanes";
import { Releaser } from "./settler/releaser";
import { Settler } from "./settler/settler";
import { VoucherPoster } from "./settler/voucherPoster";
import { connectPrepaymentChain } from "./x402/prepaymentChain";
import { Prepayments } from "./x402/prepayments";
import { aborted } from "./signals";
import { requireWhole } from "./recovery/whole";
import { openDatabase } from "./store/openDatabase";
import { Archive } from "./store/archive";
import { CopyArchive } from "./store/copyArchive";
import { Store, type StoreOwner } from "./store/store";

const SETTLEMENT_POLL_MS = 2_000;
/** A payer waits for it. */
const X402_POLL_MS = 500;
/** Of a payment, of the license that it buys, and of an allowance. */
const SALE_GAS = 400_000n;
/** What fails on the chain again and again is tried so many times, at least, while an epoch may settle. */
const RESTS_IN_WINDOW = 16;
const SETTLEMENT_TIMEOUT_MS = 120_000;
const ATTESTOR_TIMEOUT_MS = 60_000;
/** How often it is looked what is old enough to be archived. */
const ARCHIVE_MS = 3_600_000;
/** How often transactions are looked after that nobody waits for. */
const TEND_MS = 15_000;

/**
 * Runs what the configuration has sections for until the signal aborts, then stops in order.
 * @throws Problem if something of it can't start; then nothing runs on
 */
export async function runOracle(config: OracleConfig, deployment: Deployment, signal: AbortSignal): Promise<void> {
  const failing = new AbortController();
  const ending = AbortSignal.any([signal, failing.signal]);
  const readiness = new Readiness();
  const figures = new Figures(ending);
  const log = figures.log(createLog(config.logLevel));

  if (deployment.provider instanceof NodesProvider) {
    const { nodes } = deployment.provider;
    nodes.watch((message, fields) => log.warn(message, fields));
    figures.watchNodes(() => nodes.states());
  }

  const stops: (() => Promise<void>)[] = [];
  let operations: Operations | undefined;
  try {
    operations = await startWatching(config, deployment, figures, readiness, log);
    const opened = await openDeployment(deployment, config.clock, log);
    if (config.dataFolder !== undefined) makeFolder(config.dataFolder);
    const context: Context = { config, deployment, ...opened, log, signal: ending, figures, readiness };
    if (config.gateway !== undefined || config.settler !== undefined) stops.push(await startOperator(context));
    if (config.attestor !== undefined) stops.push(await startAttesting(context));
    readiness.started();
    log.info("Oracle runs", { escrow: deployment.escrow, chainId: deployment.chainId });
    await aborted(signal);
    log.info("Oracle stops", {});
  } finally {
    readiness.stopping();
    failing.abort();
    const stopped = await Promise.allSettled(stops.map((stop) => stop()));
    await operations?.close();
    for (const one of stopped) {
      if (one.status === "rejected") log.error("Oracle didn't stop in order", { cause: one.reason as unknown });
    }
  }
}

/** Before anything else, so that it can be seen what takes long to start. */
async function startWatching(
  { operations, clock }: OracleConfig,
  { provider }: Deployment,
  { registry }: Figures,
  readiness: Readiness,
  log: Log,
): Promise<Operations | undefined> {
  if (operations === undefined) return undefined;
  readiness.add("chain", chainCheck(provider, clock, operations.chainStaleSeconds));
  const running = await startOperations(operations, registry, readiness);
  log.info("Operations are shown", { url: running.url });
  return running;
}

interface Context extends OpenDeployment {
  config: OracleConfig;
  deployment: Deployment;
  log: Log;
  signal: AbortSignal;
  figures: Figures;
  readiness: Readiness;
}

function makeFolder(folder: string): void {
  try {
    mkdirSync(folder, { recursive: true });
  } catch (cause) {
    throw new Problem(
      `dataFolder ${folder} can't be made (${reasonOf(cause)}): name a folder that can be written to.`,
      {
        cause,
      },
    );
  }
}

type StoreUser = Pick<StoreOwner, "role" | "operator" | "attestor">;

/** Opens one of the stores, and makes sure that it is this one's. */
async function openStore(context: Context, whose: StoreUser): Promise<Store> {
  const { config, deployment, firstBlock, figures, readiness } = context;
  const store = new Store(await openDatabase(config, whose.role));
  const name = whose.role;
  try {
    await store.claim({
      ...whose,
      chain: String(deployment.chainId),
      "first block": firstBlock,
      escrow: deployment.escrow,
    });
    figures.watchCommits(store, name);
    readiness.add(name, storeCheck(store));
    return store;
  } catch (cause) {
    await store.close();
    throw cause;
  }
}

/** Gateway and settler share the operator's store, and the settler renews whom a gateway can't serve without. */
async function startOperator(context: Context): Promise<() => Promise<void>> {
  const { gateway, settler: section } = context.config;
  const whose = gateway === undefined ? {} : { operator: String(gateway.operatorId) };
  const store = await openStore(context, { role: "operator", ...whose });
  context.figures.watchOperatorStore(store, () => context.chain.now());
  try {
    await requireWhole(store, context.deployment, context.chain, gateway?.operatorId);
    const settling = section === undefined ? undefined : await createSettler(context, section, store);
    const jobs: Promise<void>[] = [];
    const running = gateway === undefined ? undefined : await serve(context, gateway, store, jobs);
    if (settling !== undefined) {
      await settling.duty.begin();
      jobs.push(
        inTurn(context, settling, section!.intervalMs, () => settleRound(context, settling)),
        inTurn(context, settling, section!.intervalMs, () => proveRound(context, settling)),
        inTurn(context, settling, section!.intervalMs, () => postRound(context, settling)),
        inTurn(context, settling, section!.intervalMs, () => answerRound(context, settling)),
        inTurn(context, settling, TEND_MS, () => tendRound(context, settling)),
        inTurn(context, settling, ARCHIVE_MS, () => archiveRound(context, store)),
        settling.feed.run(context.signal),
      );
    }
    return async () => {
      await running?.close();
      await Promise.all(jobs);
      await settling?.answerer?.idle();
      await settling?.duty.end();
      await store.close();
    };
  } catch (cause) {
    await store.close();
    throw cause;
  }
}

async function serve(
  context: Context,
  section: GatewaySection,
  store: Store,
  jobs: Promise<void>[],
): ReturnType<typeof startGateway> {
  const { config, deployment, chain, log, figures, readiness } = context;
  const inferences = await connectInferences(deployment.provider, deployment.escrow);
  const models = await Promise.all(
    section.models.map(async (model) => {
      const version = await chain.version(model.versionId);
      if (version === null) {
        throw new Problem(`gateway.models: version ${model.versionId} of ${model.id} doesn't exist on this chain.`);
      }
      const hasVerifier = (await inferences.inferenceOf(model.versionId)) !== null;
      return { ...model, assetId: version.assetId, manifestHash: version.manifestHash, hasVerifier };
    }),
  );
  const signer = await openKey(section.signingKey);
  const selling = section.x402 && (await sellByX402(context, section, section.x402, store, models));
  const gateway = await startGateway(
    {
      ...GATEWAY_DEFAULTS,
      ...section,
      signer,
      models,
      epochSeconds: config.settler?.epochSeconds,
    },
    {
      ...{ chain, store, log: log.with({ part: "gateway" }), observer: figures.ofGateway },
      vouchers: await connectVoucherChain(deployment.provider, deployment),
      prepayments: selling?.prepayments,
      archive: archiveOf(config, store),
    },
  );
  if (selling !== undefined) jobs.push(sellOnAndOn(context, selling));
  figures.watchGateway(gateway.figures, store, () =>
    withDeadline(section.chainTimeoutMs, () => chain.headroom(section.operatorId)),
  );
  readiness.add("upstreams", upstreamsCheck(gateway.figures));
  return gateway;
}

interface Selling {
  prepayments: Prepayments;
  sender: AccountSender;
  duty: Duty;
}

/** By an account of its own, or of several gateways of the operator's. */
async function sellByX402(
  { config, deployment, chain, log: all, signal, figures, readiness }: Context,
  { operatorId }: GatewaySection,
  section: X402Section,
  store: Store,
  models: ModelConfig[],
): Promise<Selling> {
  const { provider } = deployment;
  const log = all.with({ part: "x402" });
  const key = await openKey(section.key);
  if (config.settler !== undefined && (await openKey(config.settler.key)).address === key.address) {
    throw new Problem(`gateway.x402.key: ${key.address} is the settler's account: nothing else may send for it.`);
  }
  const [witness, finality] = [witnessOf(provider), section.confirmations];
  const duty = dutyOf({ name: `seller ${key.address}`, who: "Seller" }, config, store, log);
  const sender = await AccountSender.open(
    {
      ...{ provider, witness, store, log, turn: duty },
      signer: new KeyAccount(key),
      onUndone: (purpose) => prepayments.undone(purpose),
    },
    {
      ...{ finality, maxFeePerGas: section.maxFeePerGas, signal },
      pollMs: X402_POLL_MS,
      timeoutMs: SETTLEMENT_TIMEOUT_MS,
    },
  );
  const gas = gasCheck(sender, async () => SALE_GAS);
  const prepayments: Prepayments = await Prepayments.open(
    { ...section, operatorId },
    {
      chain: await connectPrepaymentChain(provider, { ...deployment, account: key.address, finality, witness }),
      ...{ sender, store, log, turn: duty, signal, gas },
      now: () => chain.now(),
    },
    models,
  );
  if ((await sender.balance()) === 0n) {
    log.error("The account that sells licenses has nothing to pay gas with: send it some", { account: key.address });
  }
  figures.watchSeller(sender);
  // Licenses that are sold already are served without it.
  readiness.addWarning("x402", gas);
  return { prepayments, sender, duty };
}

/** What other gateways have accepted waits for it. */
async function sellOnAndOn(context: Context, selling: Selling): Promise<void> {
  const { log, signal } = context;
  const { prepayments, duty } = selling;
  await duty.begin();
  const resume = (which: "all" | "new") =>
    prepayments.resume(which).catch((cause) => log.warn("Prepayments can't be looked after", { cause }));
  const tending = inTurn(context, selling, TEND_MS, async () => {
    await tendRound(context, selling);
    void resume("all");
  });
  while (!signal.aborted) {
    void resume("new");
    await wait(X402_POLL_MS, undefined, { signal }).catch(() => undefined);
  }
  await tending;
  await prepayments.idle();
  await duty.end();
}

interface Settling {
  settler: Settler;
  poster: VoucherPoster;
  /** Null if others release. */
  releaser: Releaser | null;
  /** Null where the deployment has no court. */
  answerer: Answerer | null;
  proofs: ProvenLanes;
  sender: AccountSender;
  feed: ReceiptFeed;
  duty: Duty;
}

async function createSettler(context: Context, section: SettlerSection, store: Store): Promise<Settling> {
  const { config, deployment, chain, signal, figures, readiness } = context;
  const { provider, committee } = deployment;
  const log = context.log.with({ part: "settler" });
  const proposer = await openKey(section.signingKey);
  await requireUsable({ ...section, proposer, committee }, context, config.gateway?.operatorId);
  const [witness, finality] = [witnessOf(provider), section.confirmations];
  const duty = dutyOf(SETTLING, config, store, log);
  const sender = await AccountSender.open(
    {
      provider,
      witness,
      signer: new KeyAccount(await openKey(section.key)),
      store,
      log,
      turn: duty,
      onEvent: (event) => figures.transaction(event),
      onUndone: async (purpose) => {
        await settler.undone(purpose);
        await poster.undone(purpose);
      },
    },
    {
      mostRestSeconds: Math.floor(chain.windowPeriod / RESTS_IN_WINDOW),
      finality,
      maxFeePerGas: section.maxFeePerGas,
      pollMs: SETTLEMENT_POLL_MS,
      timeoutMs: SETTLEMENT_TIMEOUT_MS,
      signal,
    },
  );
  const deps = { chain, store, escrow: connectEscrow(provider, witness, { ...deployment, finality }), sender, log };
  const provers = new Map(
    config.disputes.provers.map(({ versionId, ...prover }) => [versionId, receiptProver(prover, { signal })]),
  );
  const inferences = await connectInferences(provider, deployment.escrow);
  const asking = { ...section, proposer, attestorTimeoutMs: ATTESTOR_TIMEOUT_MS };
  const proofs = new ProvenLanes({ chain, inferences, store, log }, { ...asking, provers });
  const settler: Settler = new Settler({ ...deps, proofs }, { ...asking, committee });
  // It may still be paid in before the first batch is due.
  if ((await sender.balance()) === 0n) {
    log.error("Settler's account has nothing to pay gas with: send it some", { account: sender.address });
  }
  const feed = new ReceiptFeed({ store, log, chain, proposer }, asking);
  const vouchers = await connectVoucherChain(provider, deployment);
  const poster: VoucherPoster = new VoucherPoster(
    { ...deps, vouchers },
    { poster: sender.address, intervalSeconds: section.voucherIntervalSeconds, economy: section.economy },
  );
  const releaser = section.release ? new Releaser(deps, section.economy) : null;
  const answerer = await createAnswerer(context, { ...deps, provers }, witness, section);
  figures.watchSettler(settler, sender);
  figures.watchProofs(proofs);
  if (answerer !== null) {
    figures.watchDisputes(answerer, () => chain.now());
    readiness.addWarning(
      "disputes",
      disputesCheck(() => answerer.figures()),
    );
  }
  const licenses = async () => Math.min(Math.max(1, await store.tallies.owingLicenses()), BATCH_LIMITS.licenses);
  readiness.add(
    "settler",
    gasCheck(sender, async () => settlementGas(await licenses())),
  );
  return { settler, poster, releaser, answerer, proofs, sender, feed, duty };
}

interface AnsweringDeps {
  store: Store;
  sender: AccountSender;
  log: Log;
  provers: ReadonlyMap<bigint, ReceiptProver>;
}

/** Who answers challenges of what is settled here. */
async function createAnswerer(
  { config, deployment, chain }: Context,
  { store, sender, log, provers }: AnsweringDeps,
  witness: Witness,
  { confirmations: finality }: SettlerSection,
): Promise<Answerer | null> {
  const { provider, court: at } = deployment;
  if (at === undefined) return null;
  const { maxFee } = config.disputes;
  const court = await connectCourt(provider, witness, { court: at, finality });
  const operatorId = config.gateway?.operatorId;
  if (operatorId !== undefined && !(await court.mayAnswer(operatorId, sender.address, await chain.now()))) {
    log.warn(
      "Settler's account may not answer challenges with data: make it one of the operator's keys (operator:key)",
      {
        ...{ account: sender.address, operatorId },
      },
    );
  }
  const models = config.gateway?.models ?? [];
  for (const problem of await provingProblems(court, models, new Set(provers.keys()))) {
    log.warn("Receipts of a model couldn't be defended", { problem });
  }
  return new Answerer(
    { chain, court, store, sender, log: log.with({ part: "disputes" }) },
    { account: sender.address, operatorId, maxFee, provers },
  );
}

/** A file has one process at a time: what the one before it held is its own. */
function dutyOf(post: Post, { database }: OracleConfig, store: Store, log: Log): Duty {
  return new Duty(post, store.leases, database === undefined ? "the only one" : randomUUID(), log);
}

/** Does the work again and again, while it is this process's turn to settle. It says itself what fails. */
async function inTurn(
  { signal }: Context,
  { duty }: Pick<Settling, "duty">,
  everyMs: number,
  work: () => Promise<void>,
): Promise<void> {
  while (!signal.aborted) {
    if (duty.isMine) await work();
    await wait(everyMs, undefined, { signal }).catch(() => undefined);
  }
}

/** A round that fails is logged, and the next one comes all the same. */
async function settleRound({ log, figures }: Context, { settler, releaser }: Settling): Promise<void> {
  try {
    await settler.settleDue();
    await releaser?.releaseDue();
    figures.roundEnded(true);
  } catch (cause) {
    figures.roundEnded(false);
    log.error("Settler's round failed", { cause });
  }
}

/** Ends before a proof, once it isn't this process's turn any more. */
async function proveRound({ log, signal }: Context, { proofs, duty }: Settling): Promise<void> {
  const goesOn = () => duty.isMine && !signal.aborted;
  await proofs.proveDue(goesOn).catch((cause) => log.error("Receipts can't be proven at the moment", { cause }));
}

async function postRound({ log }: Context, { poster }: Settling): Promise<void> {
  await poster.postDue().catch((cause) => log.error("Vouchers can't be looked after", { cause }));
}

async function answerRound({ log }: Context, { answerer }: Settling): Promise<void> {
  await answerer?.answerDue().catch((cause) => log.error("Challenges can't be looked after", { cause }));
}

/** Where there is no folder, receipts stay in the database. */
function archiveOf({ dataFolder }: OracleConfig, store: Store): Archive | undefined {
  return dataFolder === undefined ? undefined : new Archive(store, dataFolder);
}

async function archiveRound({ config, chain, log }: Context, store: Store): Promise<void> {
  try {
    await store.disputes.dropInputs(chain.epochPeriod);
    await store.proofs.drop();
    const now = await chain.now();
    const made = (await archiveOf(config, store)?.archiveDue(now - config.retentionSeconds, now)) ?? [];
    for (const archive of made) log.info("Receipts are in an archive", { ...archive });
  } catch (cause) {
    log.error("Receipts can't be archived: they stay in the store", { cause });
  }
}

async function tendRound({ log }: Context, { sender }: Pick<Settling, "sender">): Promise<void> {
  await sender.tend().catch((cause) => log.warn("Transactions can't be looked after", { cause }));
}

async function startAttesting(context: Context): Promise<() => Promise<void>> {
  const { config, deployment, chain, log, signal, figures, readiness } = context;
  const section = config.attestor!;
  const own = log.with({ part: "attestor" });
  const signer = await openKey(section.key);
  const store = await openStore(context, { role: "attestor", attestor: signer.address });
  const turn = dutyOf(ATTESTING, config, store, own);
  try {
    const plausible = (lane: Lane) => (section.canaries.find((one) => isSameLane(one, lane)) ?? section).plausible;
    const policy = section.evidencePolicy;
    const secret = randomBytes(32);
    const audits = new Audits(auditedLanes(section, own), { chain, store, signer, log: own, turn, secret });
    const attestor = await startAttestor(
      { ...section, signer, committee: deployment.committee },
      {
        inferences: await connectInferences(deployment.provider, deployment.escrow),
        ...{ chain, store, log: own, turn, onJudged: (reasons) => figures.judged(reasons), plausible, audits },
        onArchived: (failed) => figures.archived(failed),
        evidence: policy && { policy, books: store.evidence, onAssessed: (tier) => figures.assessed(tier) },
        archive:
          config.dataFolder === undefined
            ? undefined
            : new CopyArchive(store, config.dataFolder, config.retentionSeconds),
      },
    );
    await turn.begin();
    readiness.add("attestor's turn", turnCheck(turn));
    readiness.add(
      "committee",
      membershipCheck(signer.address, () => chain.committees(deployment.committee)),
    );
    const isOnline = onlineCheck(section.controls, () => deployment.provider.getBlockNumber());
    const canaries = section.canaries.map(({ operatorId, planId, versionId, tokenizer, ...canary }) =>
      runCanaries(
        {
          lane: { operatorId, planId, versionId },
          prompts: section.prompts,
          tokenizer: tokenizer && tokenizerOf(tokenizer, own),
          ...canary,
        },
        {
          ...{ chain, store, log: own, turn, random: Math.random, isOnline, onSampled: figures.canarySampled },
          wait: (ms, until) => wait(ms, undefined, { signal: until }),
        },
        signal,
      ),
    );
    const looking = audits.run(signal);
    return async () => {
      await attestor.close();
      await Promise.all([...canaries, looking]);
      await turn.end();
      await store.close();
    };
  } catch (cause) {
    await store.close();
    throw cause;
  }
}

/** Of lanes with several canaries, the first that says so. */
function auditedLanes({ canaries }: AttestorSection, log: Log): AuditedLane[] {
  return canaries.flatMap(({ operatorId, planId, versionId, gatewayUrl, tokenizer, disclosed }) => {
    if (disclosed === undefined) return [];
    const lane = { operatorId, planId, versionId };
    return [{ lane, gatewayUrl, tokenizer: tokenizer && tokenizerOf(tokenizer, log), ...disclosed }];
  });
}
