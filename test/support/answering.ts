/** An operator's store and answerer at a market with courts, whose receipts were served through the store. */
import { setBalance, time } from "@nomicfoundation/hardhat-network-helpers";
import { id, parseEther, Wallet, ZeroHash } from "ethers";
import hre from "hardhat";
import { AccountSender } from "../../oracle/chain/accountSender";
import { connectChain, type RpcProvider } from "../../oracle/chain/ethersChain";
import { connectCourt } from "../../oracle/chain/ethersCourt";
import { onlyWitness } from "../../oracle/chain/witness";
import { Answerer, type AnswererConfig } from "../../oracle/disputes/answerer";
import { createLog } from "../../oracle/log";
import { receiptDigest, requestDigest, signDigest } from "../../oracle/protocol/messages";
import {
  packRequestSignature,
  requestSignatureBytes,
  requestSignatureHash,
} from "../../oracle/protocol/requestSignature";
import type { Receipt } from "../../oracle/protocol/types";
import { sqliteDatabase } from "../../oracle/store/sqliteDatabase";
import { Store } from "../../oracle/store/store";
import type { StoredReceipt } from "../../oracle/store/receiptRows";
import { keyedGrant, NO_RECEIPT, RECEIPT_KEY, REQUEST_KEY, settleReceipts, entryIn } from "./court";
import type { CourtMarket, SettledBatch, SignedOne } from "./court";
import { domainOf, HOUR } from "./market";

/** The settler's, and a signing key of the operator's. */
export const ACCOUNT = new Wallet(id("settler that answers"));

export interface Served {
  isSigned?: boolean;
  hashes?: Pick<Receipt, "requestHash" | "responseHash">;
  input?: number[];
}

export class AnsweringBench {
  private requests = 0;

  private constructor(
    readonly market: CourtMarket,
    readonly answerer: Answerer,
    readonly sender: AccountSender,
    readonly store: Store,
    readonly lines: { level: string; message: string; cause?: { message: string } }[],
  ) {}

  static async start(
    market: CourtMarket,
    changes: Partial<AnswererConfig> = {},
    store = new Store(sqliteDatabase(":memory:")),
    account = ACCOUNT,
  ): Promise<AnsweringBench> {
    const provider = hre.ethers.provider as unknown as RpcProvider;
    const { escrow, court, operators } = market.licet;
    if ((await operators.statusOf(market.operatorId, account.address)) === 0n) {
      await operators.connect(market.operator).addKey(market.operatorId, account.address, 2 ** 40 - 1);
    }
    await setBalance(account.address, parseEther("10"));
    const witness = onlyWitness(provider);
    const chain = await connectChain(provider, { escrow: await escrow.getAddress(), fromBlock: 0, clock: "chain" });
    const lines: AnsweringBench["lines"] = [];
    const log = createLog("info", (line) => lines.push(JSON.parse(line)));
    const sender = await AccountSender.open(
      { provider, witness, signer: account, store, log },
      { finality: 1, pollMs: 1, timeoutMs: 20_000 },
    );
    const answerer = new Answerer(
      {
        chain,
        court: await connectCourt(provider, witness, { court: await court.getAddress(), finality: 1 }),
        store,
        sender,
        log,
      },
      {
        ...{ account: account.address, operatorId: market.operatorId, signingKey: RECEIPT_KEY.address },
        ...{ maxFee: parseEther("0.1"), provers: new Map() },
        ...changes,
      },
    );
    return new AnsweringBench(market, answerer, sender, store, lines);
  }

  /** Serves requests of a license's, and settles them: the batch, as it is on the chain and in the store. */
  async settle(licenseId: bigint, requests: Served[]): Promise<SettledBatch> {
    const { market, store } = this;
    await time.increase(HOUR);
    for (const request of requests) await this.serve(licenseId, request);
    await time.increase(10);
    const { operatorId, planId, versionId } = market;
    const lane = { operatorId, planId, versionId };
    const receipts = await store.unbatched.receipts(lane, { epochStart: 0, epochEnd: await time.latest() });
    const batch = await settleReceipts(market, receipts.map(signedOne));
    const { batchId, header, entries } = batch;
    await store.batches.saveDraft(batchId, header, entries, [], receipts.map(({ hash }) => hash)); // prettier-ignore
    await store.batches.markAttested(batchId, "0x");
    await store.batches.markSubmitted(batchId);
    await store.batches.markSettled(batchId);
    return batch;
  }

  private async serve(licenseId: bigint, { isSigned = false, hashes, input }: Served): Promise<void> {
    const { market, store } = this;
    const domain = await domainOf(market);
    const { grant, grantHash, signature } = await keyedGrant(market, licenseId, {
      notBefore: 0,
      expiresAt: 2 ** 40 - 1,
    });
    const requestId = id(`served request ${this.requests++}`);
    const { requestHash, responseHash } = hashes ?? {
      requestHash: id(`asked ${requestId}`),
      responseHash: id("answered"),
    };
    const at = await time.latest();
    const digest = requestDigest(domain, { grantHash, requestHash, at });
    const requestSignature = isSigned
      ? requestSignatureBytes(packRequestSignature(at, signDigest(REQUEST_KEY.privateKey, digest)))
      : undefined;
    await store.grants.save(grantHash, { grant, signature });
    const { operatorId, planId, versionId } = market;
    await store.requests.open({
      facts: {
        ...{
          requestId,
          licenseId,
          operatorId,
          planId,
          manifestHash: id("provable manifest"),
          generation: 0,
          grantHash,
        },
        requestHash,
        requestSignatureHash: requestSignature === undefined ? ZeroHash : requestSignatureHash(requestSignature),
      },
      ...{ versionId, openedAt: at, requestSignature },
      ...(input === undefined ? {} : { input: Uint8Array.from(input) }),
    });
    const usage = { requests: 1n, inputTokens: 999_900n, cachedInputTokens: 0n, outputTokens: 0n, computeMs: 0n };
    const ended = { responseHash, finishedAt: at, durationMs: 900, ttftMs: 300, flags: 0 };
    await store.requests.finish(requestId, { ...usage, ...ended }, 1n, (receipt) => {
      const hash = receiptDigest(domain, receipt);
      return { hash, signature: signDigest(RECEIPT_KEY.privateKey, hash), signer: RECEIPT_KEY.address };
    });
  }

  /** Has the license's owner challenge what a batch charged. @returns its number */
  async challenge(batch: SettledBatch, licenseId: bigint, doubted: SignedOne = NO_RECEIPT as never): Promise<bigint> {
    const { court } = this.market.licet;
    await court.connect(this.market.licensee).challenge(entryIn(batch, licenseId), doubted, "");
    return court.challengeCount();
  }

  async statusOf(challengeId: bigint): Promise<number> {
    return Number((await this.market.licet.court.challengeOf(challengeId)).status);
  }
}

const signedOne = ({ receipt, signature }: StoredReceipt): SignedOne => ({ receipt, signature });
