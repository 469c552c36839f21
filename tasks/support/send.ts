import type { ContractTransactionReceipt, EventLog } from "ethers";
import { gasLimitFor } from "../../oracle/chain/gas";
import type { ContractMethodArgs, TypedContractMethod } from "../../typechain-types/common";

/** A transaction that can't be sent, for the reason that is its cause. */
export class CallFailed extends Error {
  override name = "CallFailed";

  constructor(
    readonly call: string,
    override readonly cause: unknown,
  ) {
    super(`${call} failed: ${(cause as Error).message}`);
  }
}

/**
 * Sends a transaction and waits until it is mined.
 * @throws CallFailed if the chain would refuse it: nothing is sent then
 */
export async function send<Args extends unknown[], Returned, Mutability extends "nonpayable" | "payable">(
  method: TypedContractMethod<Args, Returned, Mutability>,
  ...args: Args
): Promise<ContractTransactionReceipt> {
  type Call = ContractMethodArgs<Args, Mutability>;
  try {
    const gasLimit = gasLimitFor(await method.estimateGas(...(args as Call)));
    const transaction = await method(...([...args, { gasLimit }] as unknown as Call));
    return (await transaction.wait())!;
  } catch (cause) {
    throw new CallFailed(method.name, cause);
  }
}

/** The arguments of the one event `name` that a transaction's contract emitted. */
export function eventOf(receipt: ContractTransactionReceipt, name: string): EventLog["args"] {
  const event = receipt.logs.find((log): log is EventLog => "eventName" in log && log.eventName === name);
  if (event === undefined) throw new Error(`Transaction ${receipt.hash} emitted no ${name}.`);
  return event.args;
}
