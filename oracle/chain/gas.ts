import { isError, type Provider } from "ethers";

/** A transaction takes what it was estimated at and a fifth more: what it reads may change until it is mined. */
const MARGIN_PERCENT = 120n;

/** The most that a transaction may ask for, by EIP-7825. */
export const MOST_GAS = 16_777_216n;

/** The gas limit for a transaction that was estimated at `estimated`. */
export function gasLimitFor(estimated: bigint): bigint {
  const wanted = (estimated * MARGIN_PERCENT) / 100n;
  const most = estimated > MOST_GAS ? estimated : MOST_GAS;
  return wanted < most ? wanted : most;
}

/** What nodes say of an account that can't pay. */
const CANT_PAY = /insufficient funds|enough funds/i;

/** Whether a transaction failed since its account has too little ether for its gas. */
export function lacksEther(error: Error): boolean {
  const said = `${error.message} ${(error.cause as Error | undefined)?.message ?? ""}`;
  return isError(error, "INSUFFICIENT_FUNDS") || CANT_PAY.test(said);
}

/** What a unit of gas costs now, in wei. */
export async function gasPriceOf(provider: Pick<Provider, "getFeeData">): Promise<bigint> {
  const { gasPrice, maxFeePerGas } = await provider.getFeeData();
  const price = gasPrice ?? maxFeePerGas;
  if (price === null) throw new Error("the node tells no price of gas: use another");
  return price;
}
