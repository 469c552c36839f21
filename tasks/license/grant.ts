import { hexlify, randomBytes, ZeroAddress } from "ethers";
import { domainOf, encodeBearer, GRANT_TYPES, grantDigest, saltOf } from "../../oracle/protocol/messages";
import type { Grant } from "../../oracle/protocol/types";
import {
  dateOf,
  eventOf,
  licenseId,
  optional,
  period,
  readingTask,
  send,
  sendingTask,
  text,
  timeOf,
  type Session,
  type TaskRecord,
} from "../support";
import { accountOf, ownAccountOf } from "./show";

export interface GrantUse {
  license: bigint;
  /** How long it is valid, in seconds. */
  valid: number;
  /** The most that may be spent under it; no limit of its own if it isn't named. */
  cap?: string;
}

/** Signs a grant of the signer's license: the API key. Nothing is sent to the chain. */
export async function grantUse(session: Session, args: GrantUse): Promise<TaskRecord & { key: string; hash: string }> {
  const { escrow } = session.licet;
  const account = await ownAccountOf(session, args.license);
  const notBefore = await timeOf(session.hre);
  const secret = hexlify(randomBytes(32));
  const grant: Grant = {
    licenseId: args.license,
    key: ZeroAddress,
    cap: session.money.parse(args.cap ?? "0", "--cap"),
    notBefore,
    expiresAt: notBefore + args.valid,
    generation: Number(account.generation),
    salt: saltOf(secret),
  };
  const { chainId } = await session.hre.ethers.provider.getNetwork();
  const domain = domainOf(chainId, await escrow.getAddress());
  const signature = await session.signer.signTypedData(domain, GRANT_TYPES, grant);
  return {
    license: args.license,
    cap: grant.cap === 0n ? "none" : session.money.of(grant.cap),
    "valid until": dateOf(grant.expiresAt),
    generation: grant.generation,
    hash: grantDigest(domain, grant),
    key: encodeBearer({ grant, signature }, secret),
  };
}

/** Ends all grants of the signer's license. */
export async function revokeGrants(session: Session, { license }: { license: bigint }): Promise<TaskRecord> {
  await accountOf(session, license);
  const { generation } = eventOf(await send(session.licet.escrow.raiseGeneration, license), "GenerationRaised");
  return { license, generation, grants: "all that were signed before have ended: sign new ones with license:grant" };
}

readingTask("license:grant", {
  about: "Signs a grant of your license: the API key",
  example: "--license 1 --valid 30d --cap 5",
  parameters: {
    license: licenseId(),
    valid: optional(period("How long it is valid, such as 12h or 30d"), "30d"),
    cap: optional(text("The most that may be spent under it, such as 5")),
  },
  act: grantUse,
});

sendingTask("license:revoke", {
  about: "Ends all grants of your license",
  example: "--license 1",
  parameters: { license: licenseId() },
  act: revokeGrants,
});
