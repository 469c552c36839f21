/** Accounts that are contracts, asked whether they signed something (ERC-1271). Their code is anybody's: nothing that it does may harm who asks. */
import { Interface, isError, type Provider, zeroPadBytes } from "ethers";

const ERC1271 = new Interface(["function isValidSignature(bytes32 hash, bytes signature) view returns (bytes4)"]);
const YES = zeroPadBytes("0x1626ba7e", 32);

/** What an account may take to look at a signature. */
const MOST_GAS = 500_000n;

/**
 * Whether an account with code says that it signed a digest. Whatever else it says or does is no.
 * @throws if the chain can't be asked
 */
export async function isSignedByAccount(
  provider: Provider,
  account: string,
  digest: string,
  signature: string,
): Promise<boolean> {
  const data = ERC1271.encodeFunctionData("isValidSignature", [digest, signature]);
  try {
    return (await provider.call({ to: account, data, gasLimit: MOST_GAS })) === YES;
  } catch (error) {
    if (isAnswer(error as Error)) return false;
    throw error;
  }
}

/** How nodes say that code failed. */
const FAILED =
  /revert|out ?of ?gas|opcode|invalid ?jump|stack|gas uint64 overflow|write protection|return ?data|evm|vm ex/i;

/** Whether a contract itself refused, broke off, or isn't made for the question; a chain that can't be asked is no answer. */
export function isAnswer(error: Error): boolean {
  if (!isError(error, "CALL_EXCEPTION")) return isError(error, "BAD_DATA") || FAILED.test(error.message);
  // Ethers takes any error of a call for the contract's, also that there were too many calls.
  const { error: said } = (error.info ?? {}) as { error?: { message?: string } };
  return error.data !== null || said === undefined || FAILED.test(said.message ?? "");
}
