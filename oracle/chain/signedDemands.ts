/** Whose requests must be signed: a license's owner says so in the deployment's court, where it has one. */
import { Contract, type ContractRunner } from "ethers";

/** What is read of a DisputeCourt. */
const COURT = ["function signedSince(uint64 licenseId) view returns (uint40)"];

/** Since when a license's requests must be signed, in epochs that start then or later, Unix seconds; 0 if it isn't demanded. */
export type SignedSince = (licenseId: bigint) => Promise<number>;

/** @param court the DisputeCourt's address; without one, it is never demanded */
export function connectDemands(runner: ContractRunner, court: string | undefined): SignedSince {
  if (court === undefined) return async () => 0;
  const contract = new Contract(court, COURT, runner);
  return async (licenseId) => Number(await contract.signedSince(licenseId));
}
