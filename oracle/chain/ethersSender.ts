import { isError, Transaction, type Provider, type Signer, type TransactionRequest } from "ethers";
import { setTimeout as wait } from "node:timers/promises";
import { UsageEscrow__factory } from "../../typechain-types";
import { refusalOf } from "./refusal";
import { unpackOutcomes } from "../protocol/entries";
import { ChainRefusal, type SettlementSender, type SignedTransaction, type TransactionFate } from "../settler/settler";

export interface SenderConfig {
  escrow: string;
  pollMs: number;
  /** How long to wait for a transaction's fate in one go. */
  timeoutMs: number;
  /** When it aborts, no fate is waited for any longer. */
  signal?: AbortSignal;
}

/** A transaction takes what it was estimated at and a fifth more: the batch's accounts may change until it is mined. */
const GAS_MARGIN_PERCENT = 120n;

/** What nodes say of a transaction that they have, or whose nonce was used. */
const KNOWN_BEFORE = /already known|known transaction|already imported|nonce too low/i;

/** What they say of an account that can't pay. */
const CANT_PAY = /insufficient funds|enough funds/i;

/** Sends settlements by ethers for an account that nothing else sends for. */
export function createSender(
  provider: Provider,
  account: Signer,
  { escrow: address, pollMs, timeoutMs, signal }: SenderConfig,
): SettlementSender {
  const signer = account.connect(provider);
  const escrow = UsageEscrow__factory.connect(address, signer);
  const nonces = new Map<string, number>();

  /** Throws what failed, as far as it can be told what to do about it. */
  async function explain(error: Error): Promise<never> {
    const refusal = refusalOf(error);
    if (refusal !== undefined) throw new ChainRefusal(refusal, { cause: error });
    if (!isError(error, "INSUFFICIENT_FUNDS") && !CANT_PAY.test(error.message)) throw error;
    throw new Error(`The settler's account ${await signer.getAddress()} can't pay for gas: send it some`, {
      cause: error,
    });
  }

  /** With the account's next nonce. */
  async function sign(populated: Promise<TransactionRequest>): Promise<SignedTransaction> {
    const call = await populated;
    const [nonce, fees, { chainId }, gas] = await Promise.all([
      provider.getTransactionCount(signer, "latest"),
      provider.getFeeData(),
      provider.getNetwork(),
      signer.estimateGas(call).catch(explain),
    ]);
    const raw = await signer.signTransaction({
      ...call,
      type: 2,
      chainId,
      nonce,
      gasLimit: (gas * GAS_MARGIN_PERCENT) / 100n,
      maxFeePerGas: fees.maxFeePerGas,
      maxPriorityFeePerGas: fees.maxPriorityFeePerGas,
    });
    return { raw, hash: Transaction.from(raw).hash! };
  }

  async function fateOf(hash: string, nonce: number, confirmations: number): Promise<TransactionFate | null> {
    const [receipt, latest, account] = await Promise.all([
      provider.getTransactionReceipt(hash),
      provider.getBlockNumber(),
      signer.getAddress(),
    ]);
    const settledBlock = latest - confirmations + 1;
    if (receipt !== null) {
      if (receipt.blockNumber > settledBlock) return null;
      return receipt.status === 1 ? "confirmed" : "reverted";
    }
    const nonceThen = settledBlock < 0 ? 0 : await provider.getTransactionCount(account, settledBlock);
    return nonceThen > nonce ? "replaced" : null;
  }

  return {
    async preview(header, entries) {
      // As of the block to come: on a chain that makes blocks on demand, the latest one's time may be long past.
      const { outcomes } = await escrow.previewSettle(header, entries, { blockTag: "pending" }).catch(explain);
      return unpackOutcomes(outcomes);
    },

    async isSettled(batchId, confirmations) {
      const blockTag = (await provider.getBlockNumber()) - confirmations + 1;
      if (blockTag < 0) return false;
      const { status } = await escrow.batchOf(batchId, { blockTag });
      return status !== 0n;
    },

    signSettle: (header, entries, proof) => sign(escrow.settle.populateTransaction(header, entries, proof)),

    signRenewal: (licenseId) => sign(escrow.renew.populateTransaction(licenseId)),

    async broadcast(raw) {
      const { hash, nonce } = Transaction.from(raw);
      nonces.set(hash!, nonce);
      try {
        await provider.broadcastTransaction(raw);
      } catch (error) {
        if (isError(error, "NONCE_EXPIRED") || KNOWN_BEFORE.test((error as Error).message)) return;
        await explain(error as Error);
      }
    },

    async waitFor(hash, confirmations) {
      const nonce = nonces.get(hash);
      if (nonce === undefined) throw new Error(`Transaction ${hash} was never broadcast here: broadcast it first`);
      for (const deadline = Date.now() + timeoutMs; Date.now() < deadline; await wait(pollMs, undefined, { signal })) {
        const fate = await fateOf(hash, nonce, confirmations);
        if (fate !== null) return fate;
      }
      throw new Error(`Transaction ${hash} isn't final after ${timeoutMs} ms: it stays submitted and is followed up`);
    },
  };
}
