import { AbstractSigner, copyRequest, getAddress, resolveAddress, Transaction, type Provider } from "ethers";
import type { TransactionRequest } from "ethers";
import type { DigestSigner, Signable } from "./digestSigner";

/** An account whose key is wherever a `DigestSigner` has it, as ethers takes it. It signs transactions, and nothing else. */
export class KeyAccount extends AbstractSigner {
  constructor(
    private readonly key: DigestSigner,
    provider: Provider | null = null,
  ) {
    super(provider);
  }

  get address(): string {
    return this.key.address;
  }

  override async getAddress(): Promise<string> {
    return this.key.address;
  }

  override connect(provider: Provider | null): KeyAccount {
    return new KeyAccount(this.key, provider);
  }

  override async signTransaction(request: TransactionRequest): Promise<string> {
    const { from, to, ...rest } = copyRequest(request);
    if (from !== undefined && from !== null && getAddress(await resolveAddress(from)) !== this.address) {
      throw new Error(`A transaction from ${String(from)} can't be signed by the account ${this.address}`);
    }
    const target = to === undefined || to === null ? null : await resolveAddress(to, this);
    const transaction = Transaction.from({ ...rest, to: target });
    transaction.signature = await this.key.sign(transactionToSign(transaction));
    return transaction.serialized;
  }

  override signMessage(): Promise<string> {
    return Promise.reject(new Error(`The account ${this.address} signs transactions only, and no texts`));
  }

  override signTypedData(): Promise<string> {
    return Promise.reject(new Error(`The account ${this.address} signs transactions only, and no typed data`));
  }
}

export function transactionToSign({ unsignedHash, unsignedSerialized }: Transaction): Signable {
  return { purpose: "transaction", digest: unsignedHash, domain: null, json: () => ({ unsigned: unsignedSerialized }) };
}
