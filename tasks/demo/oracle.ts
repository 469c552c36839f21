import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { sendCanary, type CanaryConfig } from "../../oracle/attestor/canary";
import type { Chain } from "../../oracle/chain/chain";
import { startAttestor, type Attestor } from "../../oracle/attestor/attestor";
import { startEngine, type Engine } from "../../oracle/engine";
import { connectChain } from "../../oracle/chain/ethersChain";
import { receiptProver } from "../../oracle/disputes/receiptProver";
import type { ModelConfig } from "../../oracle/gateway/models";
import { localSigner } from "../../oracle/keys/digestSigner";
import type { Log } from "../../oracle/log";
import type { Lane } from "../../oracle/protocol/types";
import type { Database } from "../../oracle/store/database";
import { sqliteDatabase } from "../../oracle/store/sqliteDatabase";
import { Store } from "../../oracle/store/store";
import { startClassifier } from "../../zk/server";
import type { RegisteredModel } from "../model";
import type { Cast } from "./cast";
import { startOperation, type Operation } from "./operation";

/** What the gateways' clients call the models. */
export const MODEL_ID = "lic380k";
export const DIGITS_ID = "digits";

/** An operator's gateway and settler, in front of real inference servers, and three attestors, each with a store of its own. */
export interface Oracle extends Operation {
  chain: Chain;
  lane: Lane;
  log: Log;
  engine: Engine;
  attestors: RunningAttestor[];
}

export interface RunningAttestor extends Attestor {
  store: Store;
  /** Of the store. */
  database: Database;
}

/** What the operator serves: each model by the file of its weights. */
export interface ServedModels {
  model: RegisteredModel;
  weights: string;
  /** Whose answers can be proven. */
  digits: RegisteredModel;
  digitsWeights: string;
}

export async function startOracle(cast: Cast, served: ServedModels, lane: Lane, log: Log): Promise<Oracle> {
  const { UsageEscrow: escrow } = cast.book.contracts;
  const { provider } = cast.operator.hre.ethers;
  const chain = await connectChain(provider, { escrow, fromBlock: cast.book.block, clock: "chain" });
  const folder = mkdtempSync(path.join(tmpdir(), "licet-demo-"));

  const engine = await startEngine({ modelPath: served.weights, modelId: MODEL_ID });
  const classifier = await startClassifier({ modelPath: served.digitsWeights, modelId: DIGITS_ID });
  const attestors = await startAttestors(cast, chain, folder, log);
  const { receiptKey, settlerKey } = cast;
  const digits = { ...modelAt(DIGITS_ID, served.digits, classifier.url), keepInputs: true };
  const models = [modelAt(MODEL_ID, served.model, engine.url), digits];
  const provers = new Map([[digits.versionId, receiptProver({ modelFile: served.digitsWeights })]]);
  const config = { operatorId: lane.operatorId, receiptKey, settlerKey, models, provers, attestors, folder };
  const operation = await startOperation(cast, chain, config, log);
  return {
    ...operation,
    chain,
    lane,
    log,
    engine,
    attestors,
    close: async () => {
      await operation.close();
      await Promise.all(attestors.map((attestor) => attestor.close()));
      await Promise.all([engine.close(), classifier.close()]);
      for (const { store } of attestors) await store.close();
      rmSync(folder, { recursive: true });
    },
  };
}

/** A registered model as a gateway serves it from one server. */
export const modelAt = (id: string, { asset, version, manifest }: RegisteredModel, url: string): ModelConfig => ({
  id,
  upstreams: [{ url }],
  assetId: asset,
  versionId: version,
  manifestHash: manifest,
});

async function startAttestors(cast: Cast, chain: Chain, folder: string, log: Log): Promise<RunningAttestor[]> {
  const committee = cast.book.contracts.CommitteeAttestor;
  return Promise.all(
    cast.attestors.map(async ({ wallet }, i) => {
      const database = sqliteDatabase(path.join(folder, `attestor-${i + 1}.sqlite`));
      const store = new Store(database);
      const config = { signer: localSigner(wallet.privateKey), committee };
      return { ...(await startAttestor(config, { chain, store, log })), store, database };
    }),
  );
}

/** Has every attestor send as many canaries, one after the other, with a license of its own. */
export async function sendCanaries(oracle: Oracle, apiKeys: string[], count: number): Promise<void> {
  await Promise.all(
    oracle.attestors.map(async ({ store }, i) => {
      const config: CanaryConfig = {
        lane: oracle.lane,
        gatewayUrl: oracle.gateway.url,
        apiKey: apiKeys[i],
        modelId: MODEL_ID,
        meanIntervalMs: 0,
        timeoutMs: 15_000,
        maxTokens: 8,
      };
      const deps = {
        chain: oracle.chain,
        store,
        log: oracle.log,
        random: Math.random,
        isOnline: () => Promise.resolve(true),
        wait: () => Promise.resolve(),
      };
      for (let sent = 0; sent < count; sent++) await sendCanary(config, deps, new AbortController().signal);
    }),
  );
}
