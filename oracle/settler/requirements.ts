/** What settings a settler can't work with, told before it starts and not batch by batch. */
import type { Chain, Committees } from "../chain/chain";
import { weightOf } from "../chain/committee";
import type { Log } from "../log";
import { dateOf, Problem } from "../problem";
import type { SettlerConfig } from "./settler";

type Settings = Pick<SettlerConfig, "committee" | "attestors" | "epochSeconds" | "proposer">;

/**
 * @param operatorId whose receipts are settled, if that is known already
 * @throws Problem if the chain contradicts the settings
 */
export async function requireUsable(
  { committee, attestors, epochSeconds, proposer }: Settings,
  { chain, log }: { chain: Chain; log: Log },
  operatorId?: number,
): Promise<void> {
  const committees = await chain.committees(committee);
  const listed = attestors.map(({ address }) => address);
  requireMembers(listed, committees);
  requireEnough(listed, committees, log);
  if (epochSeconds !== undefined && epochSeconds > chain.epochPeriod) {
    throw new Problem(
      `settler.epochSeconds is ${epochSeconds}; this deployment's longest epoch has ${chain.epochPeriod}. Leave it out to ` +
        `have that.`,
    );
  }
  if (operatorId === undefined) return;
  const key = proposer.address;
  if (await chain.isSigningKey(operatorId, key, await chain.now())) return;
  throw new Problem(
    `settler.signingKey: ${key} is no signing key of operator ${operatorId} at the moment, and attestors look at ` +
      `no batch that another proposes. Register it, or use another key.`,
  );
}

function requireMembers(listed: string[], { present, former, announced }: Committees): void {
  const known = [present, former, announced].flatMap((one) => one?.members ?? []);
  const stranger = listed.find((address) => !known.includes(address));
  if (stranger === undefined) return;
  throw new Problem(
    `settler.attestors: ${stranger} is no member of the committee ${present.address}; its members are ` +
      `${present.members.join(", ")}.`,
  );
}

function requireEnough(listed: string[], { present, announced }: Committees, log: Log): void {
  const missing = present.members.filter((member) => !listed.includes(member));
  // Bonds may still be posted: that some are missing is no fault of the settings.
  const weight = weightOf({ ...present, unbonded: [] }, listed);
  if (weight < present.threshold) {
    throw new Problem(
      `settler.attestors lists members with a weight of ${weight}, and ${present.threshold} must sign: ` +
        `add ${missing.join(", ")}.`,
    );
  }
  if (weightOf(present, listed) < present.threshold) {
    log.warn("Too few attestors are bonded: nothing settles until they are", { unbonded: present.unbonded });
  }
  const coming = announced?.members.filter((member) => !listed.includes(member)) ?? [];
  if (announced === null || coming.length === 0) return;
  log.warn("Another committee is coming: add its members to settler.attestors before", {
    since: dateOf(announced.since),
    missing: coming,
  });
}
