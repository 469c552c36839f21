/** What settings a settler can't work with, told before it starts and not batch by batch. */
import { computeAddress } from "ethers";
import type { Committee } from "../attestor/inspection";
import type { Chain } from "../chain/chain";
import { Problem } from "../problem";
import type { SettlerConfig } from "./settler";

type Settings = Pick<SettlerConfig, "attestors" | "epochSeconds" | "proposalKey">;

/**
 * @param operatorId whose receipts are settled, if that is known already
 * @throws Problem if the chain contradicts the settings
 */
export async function requireUsable(
  { attestors, epochSeconds, proposalKey }: Settings,
  { chain, committee }: { chain: Chain; committee: Committee },
  operatorId?: number,
): Promise<void> {
  const stranger = attestors.find(({ address }) => !committee.members.includes(address));
  if (stranger !== undefined) {
    throw new Problem(
      `settler.attestors: ${stranger.address} is no member of the committee ${committee.address}; its members are ` +
        `${committee.members.join(", ")}.`,
    );
  }
  if (attestors.length < committee.threshold) {
    throw new Problem(
      `settler.attestors lists ${attestors.length} of the committee's members, and ${committee.threshold} of them must ` +
        `sign: list all, ${committee.members.join(", ")}.`,
    );
  }
  if (epochSeconds !== undefined && epochSeconds > chain.epochPeriod) {
    throw new Problem(
      `settler.epochSeconds is ${epochSeconds}; this deployment's longest epoch has ${chain.epochPeriod}. Leave it out to ` +
        `have that.`,
    );
  }
  if (operatorId === undefined) return;
  const key = computeAddress(proposalKey);
  if (await chain.isSigningKey(operatorId, key, await chain.now())) return;
  throw new Problem(
    `settler.signingKeyVariable: ${key} is no signing key of operator ${operatorId} at the moment, and attestors look at ` +
      `no batch that another proposes. Register it, or use another key.`,
  );
}
