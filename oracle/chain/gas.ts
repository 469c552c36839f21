import { isError, type Provider } from "ethers";

/** A transaction takes what it was estimated at and a fifth more: what it reads may change until it is mined. */
const MARGIN_PERCENT = 120n;

/** The most that a transaction may ask for, by EIP-7825. */
export const MOST_GAS = 16_777_216n;

/** The gas limit for a transaction that was estimated at `estimated`, in a block that holds so much. */
export function gasLimitFor(estimated: bigint, ofBlock: bigint = MOST_GAS): bigint {
  const wanted = (estimated * MARGIN_PERCENT) / 100n;
  const allowed = ofBlock < MOST_GAS ? ofBlock : MOST_GAS;
  const most = estimated > allowed ? estimated : allowed;
  return wanted < most ? wanted : most;
}

/** What nodes say of a call that no transaction has enough gas for. */
const TOO_MUCH =
  /exceeds (the )?(allowance|block|transaction|gas)|gas limit|gas cap|out of gas|intrinsic gas|requires at least/i;

/** Whether a call takes more gas than nodes let a transaction have. */
export function lacksGas(error: Error): boolean {
  return TOO_MUCH.test(saidOf(error));
}

/** What nodes say of an account that can't pay. */
const CANT_PAY = /insufficient funds|enough funds/i;

/** Whether a transaction failed since its account has too little ether for its gas. */
export function lacksEther(error: Error): boolean {
  return isError(error, "INSUFFICIENT_FUNDS") || CANT_PAY.test(saidOf(error));
}

function saidOf(error: Error): string {
  return `${error.message} ${(error.cause as Error | undefined)?.message ?? ""}`;
}

/** What a unit of gas costs now, in wei. */
export async function gasPriceOf(provider: Pick<Provider, "getFeeData">): Promise<bigint> {
  const { gasPrice, maxFeePerGas } = await provider.getFeeData();
  const price = gasPrice ?? maxFeePerGas;
  if (price === null) throw new Error("the node tells no price of gas: use another");
  return price;
}
