/** What an operator runs: a gateway in front of its inference servers, a settler, and who answers challenges. */
import path from "node:path";
import type { HDNodeWallet } from "ethers";
import { AccountSender } from "../../oracle/chain/accountSender";
import type { Chain } from "../../oracle/chain/chain";
import { connectCourt } from "../../oracle/chain/ethersCourt";
import { connectEscrow } from "../../oracle/chain/ethersEscrow";
import { onlyWitness } from "../../oracle/chain/witness";
import { Answerer } from "../../oracle/disputes/answerer";
import type { ReceiptProver } from "../../oracle/disputes/receiptProver";
import { GATEWAY_DEFAULTS, startGateway, type Gateway } from "../../oracle/gateway/gateway";
import type { ModelConfig } from "../../oracle/gateway/models";
import { localSigner, type DigestSigner } from "../../oracle/keys/digestSigner";
import type { Log } from "../../oracle/log";
import { Settler } from "../../oracle/settler/settler";
import { sqliteDatabase } from "../../oracle/store/sqliteDatabase";
import { Store } from "../../oracle/store/store";
import type { Cast } from "./cast";

export interface Operation {
  gateway: Gateway;
  store: Store;
  settler: Settler;
  answerer: Answerer;
  /** Where its store is. */
  folder: string;
  /** Signs its proposals to the attestors. */
  proposer: DigestSigner;
  close(): Promise<void>;
}

export interface OperationConfig {
  operatorId: number;
  /** Signs its receipts. */
  receiptKey: HDNodeWallet;
  /** Sends its settlements. */
  settlerKey: HDNodeWallet;
  models: ModelConfig[];
  /** Who proves doubted receipts, by version. */
  provers: ReadonlyMap<bigint, ReceiptProver>;
  /** Where attestors listen. */
  attestors: { address: string; url: string }[];
  /** Where its store is. */
  folder: string;
}

export async function startOperation(cast: Cast, chain: Chain, config: OperationConfig, log: Log): Promise<Operation> {
  const { operatorId, receiptKey, settlerKey, models, provers, attestors, folder } = config;
  const { provider } = cast.operator.hre.ethers;
  const { UsageEscrow: escrow, CommitteeAttestor: committee, DisputeCourt } = cast.book.contracts;
  const store = new Store(sqliteDatabase(path.join(folder, `operator-${operatorId}.sqlite`)));
  const signer = localSigner(receiptKey.privateKey);
  const gateway = await startGateway(
    {
      ...GATEWAY_DEFAULTS,
      port: 0,
      licenseCacheMs: 200,
      operatorId,
      signer,
      defaultMaxTokens: 64,
      requestTimeoutMs: 20_000,
      models,
    },
    { chain, store, log },
  );

  const witness = onlyWitness(provider);
  const sender = await AccountSender.open(
    { provider, witness, signer: settlerKey, store, log },
    { finality: 1, pollMs: 50, timeoutMs: 20_000 },
  );
  const settlement = connectEscrow(provider, witness, { escrow, fromBlock: cast.book.block, finality: 1 });
  const settler = new Settler(
    { chain, store, escrow: settlement, sender, log },
    { proposer: signer, committee, attestors, attestorTimeoutMs: 20_000 },
  );
  const court = await connectCourt(provider, witness, { court: DisputeCourt, finality: 1 });
  const answerer = new Answerer(
    { chain, court, store, sender, log },
    { account: sender.address, operatorId, maxFee: 0n, provers },
  );
  return {
    gateway,
    store,
    settler,
    answerer,
    folder,
    proposer: signer,
    close: async () => {
      await gateway.close();
      await store.close();
    },
  };
}
