import { mkdirSync } from "node:fs";
import path from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { getAddress, Wallet } from "ethers";
import { CommitteeAttestor__factory } from "../typechain-types";
import { startAttestor } from "./attestor/attestor";
import { runCanaries } from "./attestor/canary";
import type { Chain } from "./chain/chain";
import type { OracleConfig } from "./config";
import { connectChain, type RpcProvider } from "./chain/ethersChain";
import { createSender } from "./chain/ethersSender";
import { GATEWAY_DEFAULTS, startGateway } from "./gateway/gateway";
import type { Committee } from "./attestor/inspection";
import { createLog, type Log } from "./log";
import { Settler } from "./settler/settler";
import { Store } from "./store/store";

/** Where the deployment is. */
export interface Deployment {
  provider: RpcProvider;
  escrow: string;
  /** Address of the CommitteeAttestor. */
  committee: string;
  fromBlock: number;
}

const SETTLEMENT_POLL_MS = 2_000;
const SETTLEMENT_TIMEOUT_MS = 120_000;
const ATTESTOR_TIMEOUT_MS = 60_000;

/** Runs what the configuration has sections for until the signal aborts, then stops in order. */
export async function runOracle(config: OracleConfig, deployment: Deployment, signal: AbortSignal): Promise<void> {
  const log = createLog(config.logLevel);
  const chain = await connectChain(deployment.provider, { ...deployment, clock: config.clock });
  const committee = await readCommittee(deployment);
  mkdirSync(config.dataFolder, { recursive: true });
  const context: Context = { config, deployment, chain, committee, log, signal };

  const stops: (() => Promise<void>)[] = [];
  try {
    if (config.gateway !== undefined || config.settler !== undefined) stops.push(await startOperator(context));
    if (config.attestor !== undefined) stops.push(await startAttesting(context));
    log.info("Oracle runs", { escrow: deployment.escrow, chainId: chain.domain.chainId });
    await aborted(signal);
    log.info("Oracle stops", {});
  } finally {
    for (const stop of stops) await stop();
  }
}

interface Context {
  config: OracleConfig;
  deployment: Deployment;
  chain: Chain;
  committee: Committee;
  log: Log;
  signal: AbortSignal;
}

/** The committee as its contract has it; its members must be plain addresses to be asked over HTTP. */
async function readCommittee({ provider, committee }: Deployment): Promise<Committee> {
  const contract = CommitteeAttestor__factory.connect(committee, { provider });
  const [members, threshold] = await Promise.all([contract.members(), contract.threshold()]);
  return {
    address: getAddress(committee),
    members: members.map(({ signer }) => getAddress(signer)),
    threshold: Number(threshold),
  };
}

/** Gateway and settler share the operator's store. */
async function startOperator(context: Context): Promise<() => Promise<void>> {
  const { gateway, settler, dataFolder } = context.config;
  const store = new Store(path.join(dataFolder, "operator.sqlite"));
  const running = gateway === undefined ? undefined : await serve(context, gateway, store);
  const settling = settler === undefined ? undefined : settleOnAndOn(context, settler, store);
  return async () => {
    await running?.close();
    await settling;
    store.close();
  };
}

async function serve(
  { chain, log }: Context,
  section: NonNullable<OracleConfig["gateway"]>,
  store: Store,
): ReturnType<typeof startGateway> {
  const models = await Promise.all(
    section.models.map(async (model) => {
      const version = await chain.version(model.versionId);
      if (version === null) throw new Error(`gateway.models: version ${model.versionId} of ${model.id} doesn't exist.`);
      return { ...model, assetId: version.assetId, manifestHash: version.manifestHash };
    }),
  );
  return startGateway(
    { ...GATEWAY_DEFAULTS, ...section, models },
    { chain, store, log: log.with({ part: "gateway" }) },
  );
}

/** A round that fails is logged, and the next one comes all the same. */
async function settleOnAndOn(
  { deployment, chain, committee, log, signal }: Context,
  section: NonNullable<OracleConfig["settler"]>,
  store: Store,
): Promise<void> {
  const { provider, escrow } = deployment;
  const sender = createSender(provider, new Wallet(section.privateKey), {
    escrow,
    pollMs: SETTLEMENT_POLL_MS,
    timeoutMs: SETTLEMENT_TIMEOUT_MS,
  });
  const settler = new Settler(
    { chain, store, sender, log: log.with({ part: "settler" }) },
    {
      ...section,
      committee: committee.address,
      threshold: committee.threshold,
      attestorTimeoutMs: ATTESTOR_TIMEOUT_MS,
    },
  );
  while (!signal.aborted) {
    await settler.settleDue().catch((cause) => log.error("Settler's round failed", { cause }));
    await wait(section.intervalMs, undefined, { signal }).catch(() => undefined);
  }
}

async function startAttesting({ config, chain, committee, log, signal }: Context): Promise<() => Promise<void>> {
  const section = config.attestor!;
  const own = log.with({ part: "attestor" });
  const store = new Store(path.join(config.dataFolder, "attestor.sqlite"));
  const attestor = await startAttestor({ ...section, committee }, { chain, store, log: own });
  const canaries = section.canaries.map(({ operatorId, planId, versionId, ...canary }) =>
    runCanaries(
      { lane: { operatorId, planId, versionId }, ...canary },
      { chain, store, log: own, random: Math.random, wait: (ms, until) => wait(ms, undefined, { signal: until }) },
      signal,
    ),
  );
  return async () => {
    await attestor.close();
    await Promise.all(canaries);
    store.close();
  };
}

async function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  await new Promise((resolve) => signal.addEventListener("abort", resolve, { once: true }));
}
