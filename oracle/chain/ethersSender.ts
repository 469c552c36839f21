import { isError, Transaction, type Provider, type Signer, type TransactionRequest } from "ethers";
import { setTimeout as wait } from "node:timers/promises";
import { CommitteeAttestor__factory, UsageEscrow__factory } from "../../typechain-types";
import { gasLimitFor, lacksEther } from "./gas";
import { refusalOf } from "./refusal";
import { isAnswer } from "./smartAccount";
import { AS_OF_NOW, statusName } from "./statuses";
import { unpackOutcomes } from "../protocol/entries";
import { ChainRefusal, type SettlementSender, type SignedTransaction, type TransactionFate } from "../settler/sender";

export interface SenderConfig {
  escrow: string;
  pollMs: number;
  /** How long to wait for a transaction's fate in one go. */
  timeoutMs: number;
  /** When it aborts, no fate is waited for any longer. */
  signal?: AbortSignal;
}

/** What nodes say of a transaction that they have, or whose nonce was used. */
const KNOWN_BEFORE = /already known|known transaction|already imported|nonce too low/i;

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
    if (!lacksEther(error)) throw error;
    throw new Error(`The settler's account ${await signer.getAddress()} can't pay for gas: send it some`, {
      cause: error,
    });
  }

  /** With the account's next nonce. */
  async function sign(populated: Promise<TransactionRequest>, replaced?: string): Promise<SignedTransaction> {
    const call = await populated;
    const before = replaced === undefined ? null : Transaction.from(replaced);
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
      gasLimit: gasLimitFor(gas),
      maxFeePerGas: atLeast(fees.maxFeePerGas, before?.maxFeePerGas),
      maxPriorityFeePerGas: atLeast(fees.maxPriorityFeePerGas, before?.maxPriorityFeePerGas),
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
    async vouches(committee, digest, proof) {
      const attestor = CommitteeAttestor__factory.connect(committee, { provider });
      const signers = await attestor.vouches(digest, proof, AS_OF_NOW).catch((error: Error) => {
        if (isAnswer(error)) return 0n;
        throw error;
      });
      return signers > 0n;
    },

    async preview(header, entries) {
      const { outcomes } = await escrow.previewSettle(header, entries, AS_OF_NOW).catch(explain);
      return unpackOutcomes(outcomes);
    },

    async isSettled(batchId, confirmations) {
      const blockTag = (await provider.getBlockNumber()) - confirmations + 1;
      if (blockTag < 0) return false;
      const { status } = await escrow.batchOf(batchId, { blockTag });
      return statusName("BatchStatus", status) !== "None";
    },

    signSettle: (header, entries, proof, replaced) =>
      sign(escrow.settle.populateTransaction(header, entries, proof), replaced),

    async isOutpriced(raw) {
      const { maxFeePerGas } = Transaction.from(raw);
      const fee = (await provider.getBlock("latest"))?.baseFeePerGas ?? null;
      return fee !== null && maxFeePerGas !== null && maxFeePerGas < fee;
    },

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

/** Nodes take a transaction in another's place only if it pays a tenth more. */
const REPLACEMENT_PERMILLE = 1_125n;

function atLeast(fee: bigint | null, before: bigint | null | undefined): bigint | null {
  if (before === undefined || before === null) return fee;
  const raised = (before * REPLACEMENT_PERMILLE) / 1_000n + 1n;
  return fee !== null && fee > raised ? fee : raised;
}
