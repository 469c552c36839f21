/** Who pays by x402, with its stock client. */
import { ExactEvmScheme } from "@x402/evm/exact/client";
import { wrapFetchWithPayment, x402Client } from "@x402/fetch";
import type { Wallet } from "ethers";

interface SignTyped {
  domain: object;
  types: Record<string, { name: string; type: string }[]>;
  message: Record<string, unknown>;
}

/** A `fetch` that pays what it is asked for, with an ethers wallet. */
export function payingBy(wallet: Wallet, fetching: typeof fetch = fetch): typeof fetch {
  const signer = {
    address: wallet.address as `0x${string}`,
    signTypedData: async ({ domain, types, message }: SignTyped) =>
      (await wallet.signTypedData(domain, types, message)) as `0x${string}`,
  };
  // By itself it pays only currencies that it knows, and a dollar at the most.
  const schemes = [{ network: "eip155:*" as const, client: new ExactEvmScheme(signer as never) }];
  const client = x402Client.fromConfig({ schemes, spendControls: false });
  return wrapFetchWithPayment(fetching, client) as typeof fetch;
}
