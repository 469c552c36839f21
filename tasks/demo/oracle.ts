import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { sendCanary, type CanaryConfig } from "../../oracle/attestor/canary";
import type { Chain } from "../../oracle/chain/chain";
import { startAttestor, type Attestor } from "../../oracle/attestor/attestor";
import { startEngine, type Engine } from "../../oracle/engine";
import { connectChain } from "../../oracle/chain/ethersChain";
import { AccountSender } from "../../oracle/chain/accountSender";
import { connectEscrow } from "../../oracle/chain/ethersEscrow";
import { onlyWitness } from "../../oracle/chain/witness";
import { GATEWAY_DEFAULTS, startGateway, type Gateway } from "../../oracle/gateway/gateway";
import { localSigner, type DigestSigner } from "../../oracle/keys/digestSigner";
import type { Log } from "../../oracle/log";
import type { Lane } from "../../oracle/protocol/types";
import { Settler } from "../../oracle/settler/settler";
import { sqliteDatabase } from "../../oracle/store/sqliteDatabase";
import { Store } from "../../oracle/store/store";
import type { RegisteredModel } from "../model";
import type { Cast } from "./cast";

/** What the gateway's clients call the model. */
export const MODEL_ID = "lic380k";

/** An operator's gateway and settler and three attestors, each with a store of its own, in front of a real engine. */
export interface Oracle {
  chain: Chain;
  lane: Lane;
  log: Log;
  engine: Engine;
  gateway: Gateway;
  /** The operator's. */
  store: Store;
  settler: Settler;
  /** The operator's, for its proposals to the attestors. */
  proposer: DigestSigner;
  attestors: RunningAttestor[];
  close(): Promise<void>;
}

export interface RunningAttestor extends Attestor {
  store: Store;
}

export async function startOracle(
  cast: Cast,
  model: RegisteredModel,
  lane: Lane,
  weights: string,
  log: Log,
): Promise<Oracle> {
  const { provider } = cast.operator.hre.ethers;
  const { UsageEscrow: escrow, CommitteeAttestor: committee } = cast.book.contracts;
  const chain = await connectChain(provider, { escrow, fromBlock: cast.book.block, clock: "chain" });
  const folder = mkdtempSync(path.join(tmpdir(), "licet-demo-"));

  const engine = await startEngine({ modelPath: weights, modelId: MODEL_ID });
  const store = new Store(sqliteDatabase(path.join(folder, "operator.sqlite")));
  const receiptKey = localSigner(cast.receiptKey.privateKey);
  const gateway = await startGateway(
    {
      ...GATEWAY_DEFAULTS,
      port: 0,
      licenseCacheMs: 200,
      operatorId: lane.operatorId,
      signer: receiptKey,
      defaultMaxTokens: 64,
      requestTimeoutMs: 20_000,
      models: [
        {
          id: MODEL_ID,
          upstreams: [{ url: engine.url }],
          assetId: model.asset,
          versionId: model.version,
          manifestHash: model.manifest,
        },
      ],
    },
    { chain, store, log },
  );

  const attestors = await Promise.all(
    cast.attestors.map(async ({ wallet }, i) => {
      const own = new Store(sqliteDatabase(path.join(folder, `attestor-${i + 1}.sqlite`)));
      const config = { signer: localSigner(wallet.privateKey), committee };
      return { ...(await startAttestor(config, { chain, store: own, log })), store: own };
    }),
  );
  const witness = onlyWitness(provider);
  const sender = await AccountSender.open(
    { provider, witness, signer: cast.settlerKey, store, log },
    { finality: 1, pollMs: 50, timeoutMs: 20_000 },
  );
  const settlement = connectEscrow(provider, witness, { escrow, fromBlock: cast.book.block, finality: 1 });
  const settler = new Settler(
    { chain, store, escrow: settlement, sender, log },
    { proposer: receiptKey, committee, attestors, attestorTimeoutMs: 20_000 },
  );

  return {
    chain,
    lane,
    log,
    engine,
    gateway,
    store,
    settler,
    proposer: receiptKey,
    attestors,
    close: async () => {
      await gateway.close();
      await Promise.all(attestors.map((attestor) => attestor.close()));
      await engine.close();
      for (const each of [store, ...attestors.map((attestor) => attestor.store)]) await each.close();
      rmSync(folder, { recursive: true });
    },
  };
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
