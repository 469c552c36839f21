import type { BaseContract, ContractTransactionReceipt, EventLog, LogDescription } from "ethers";
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
  return sendWith({}, method, args);
}

/** As `send`, with `value` wei of native coin. */
export async function sendPaying<Args extends unknown[], Returned>(
  value: bigint,
  method: TypedContractMethod<Args, Returned, "payable">,
  ...args: Args
): Promise<ContractTransactionReceipt> {
  return sendWith({ value }, method, args);
}

async function sendWith<Args extends unknown[], Returned, Mutability extends "nonpayable" | "payable">(
  paid: { value?: bigint },
  method: TypedContractMethod<Args, Returned, Mutability>,
  args: Args,
): Promise<ContractTransactionReceipt> {
  type Call = ContractMethodArgs<Args, Mutability>;
  try {
    const gasLimit = gasLimitFor(await method.estimateGas(...([...args, paid] as unknown as Call)));
    const transaction = await method(...([...args, { ...paid, gasLimit }] as unknown as Call));
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

/** The arguments of the events `name` that a contract emitted in a transaction, whoever it was sent to, in their order. */
export async function eventsOf(
  contract: BaseContract,
  receipt: ContractTransactionReceipt,
  name: string,
): Promise<LogDescription["args"][]> {
  const address = await contract.getAddress();
  return receipt.logs
    .filter((log) => log.address === address)
    .map((log) => contract.interface.parseLog(log))
    .filter((event) => event?.name === name)
    .map((event) => event!.args);
}
