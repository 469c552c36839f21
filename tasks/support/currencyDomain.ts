import { Contract, TypedDataEncoder, type TypedDataDomain } from "ethers";
import type { TestCurrency } from "../../typechain-types";
import { isAnswer } from "../../oracle/chain/smartAccount";
import { Problem } from "../../oracle/problem";

/**
 * The EIP-712 domain of what is signed for a currency: as it tells it (ERC-5267), or made of its name and version, as older
 * currencies want it, USDC among them.
 * @throws Problem if the currency's own `DOMAIN_SEPARATOR` is of another domain than that
 */
export async function currencyDomainOf(currency: TestCurrency): Promise<TypedDataDomain> {
  const told = await unlessRefused(currency.eip712Domain());
  if (told !== undefined) {
    const { name, version, chainId, verifyingContract } = told;
    return { name, version, chainId, verifyingContract };
  }
  const verifyingContract = await currency.getAddress();
  const { version } = new Contract(verifyingContract, ["function version() view returns (string)"], currency.runner);
  const [name, named, network, separator] = await Promise.all([
    currency.name(),
    unlessRefused<string>(version()),
    currency.runner!.provider!.getNetwork(),
    unlessRefused(currency.DOMAIN_SEPARATOR()),
  ]);
  const domain = { name, version: named ?? "1", chainId: network.chainId, verifyingContract };
  if (TypedDataEncoder.hashDomain(domain) === separator) return domain;
  throw new Problem(
    `The currency at ${verifyingContract} doesn't tell what domain its signatures are for (ERC-5267), and it isn't ` +
      `${JSON.stringify({ name, version: domain.version })}: pay by allowance, which needs no signature.`,
  );
}

/** What a contract answers; undefined where it has no answer. */
async function unlessRefused<Answer>(asked: Promise<Answer>): Promise<Answer | undefined> {
  try {
    return await asked;
  } catch (error) {
    if (isAnswer(error as Error)) return undefined;
    throw error;
  }
}
