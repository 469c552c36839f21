/** Whose requests must be signed: a license's owner says so in the deployment's court, where it has one. */
import type { ContractRunner } from "ethers";
import { DisputeCourt__factory } from "../../typechain-types";

/** Since when a license's requests must be signed, in epochs that start then or later, Unix seconds; 0 if it isn't demanded. */
export type SignedSince = (licenseId: bigint) => Promise<number>;

/** @param court the DisputeCourt's address; without one, it is never demanded */
export function connectDemands(runner: ContractRunner, court: string | undefined): SignedSince {
  if (court === undefined) return async () => 0;
  const contract = DisputeCourt__factory.connect(court, runner);
  return async (licenseId) => Number(await contract.signedSince(licenseId));
}
