import { mintGrant } from "../../oracle/licensee/mintGrant";
import { revokeGrantAt } from "../../oracle/licensee/revoke";
import { decodeBearer, domainOf, grantDigest, REVOCATION_TYPES } from "../../oracle/protocol/messages";
import {
  address,
  bytes32,
  dateOf,
  eventOf,
  licenseId,
  optional,
  period,
  Problem,
  readingTask,
  requireOne,
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
  /** The address whose key must sign each request; whoever has the API key can use it if it isn't named. */
  requestKey?: string;
}

/** Signs a grant of the signer's license: the API key. Nothing is sent to the chain. */
export async function grantUse(session: Session, args: GrantUse): Promise<TaskRecord & { key: string; hash: string }> {
  const { escrow } = session.licet;
  const account = await ownAccountOf(session, args.license);
  const notBefore = await timeOf(session.hre);
  const { chainId } = await session.hre.ethers.provider.getNetwork();
  const domain = domainOf(chainId, await escrow.getAddress());
  const terms = {
    licenseId: args.license,
    cap: session.money.parse(args.cap ?? "0", "--cap"),
    notBefore,
    expiresAt: notBefore + args.valid,
    generation: Number(account.generation),
    key: args.requestKey,
  };
  const { grant, hash, apiKey } = await mintGrant(domain, terms, session.signer);
  return {
    license: args.license,
    cap: grant.cap === 0n ? "none" : session.money.of(grant.cap),
    "valid until": dateOf(grant.expiresAt),
    generation: grant.generation,
    "requests signed by": args.requestKey ?? "nobody: whoever has the key can use it",
    hash,
    key: apiKey,
  };
}

/** Ends all grants of the signer's license. */
export async function revokeGrants(session: Session, { license }: { license: bigint }): Promise<TaskRecord> {
  await accountOf(session, license);
  const { generation } = eventOf(await send(session.licet.escrow.raiseGeneration, license), "GenerationRaised");
  return { license, generation, grants: "all that were signed before have ended: sign new ones with license:grant" };
}

export interface RevokeGrant {
  /** The API key; or else the grant's hash and its license. */
  key?: string;
  hash?: string;
  license?: bigint;
  /** Base URL of the gateway; the endpoint that the license's operator has registered, if it isn't named. */
  url?: string;
}

/** How long a signed revocation can be shown, in seconds. */
const SHOWN_WITHIN = 600;

/** Ends one grant at the operator's gateway, at once: by its key, or by the signer's word as the license's owner. */
export async function revokeGrant(session: Session, { key, hash, license, url }: RevokeGrant): Promise<TaskRecord> {
  requireOne({ "--key": key, "--hash": hash });
  if (hash !== undefined && license === undefined) throw new Problem("--hash needs --license: whose grant it is.");
  const { licet, signer, hre } = session;
  const domain = domainOf((await hre.ethers.provider.getNetwork()).chainId, await licet.escrow.getAddress());
  const signed = key === undefined ? undefined : decodeBearer(key);
  const grantHash = signed === undefined ? hash! : grantDigest(domain, signed.grant);
  const licenseId = signed?.grant.licenseId ?? license!;
  const { operatorId } = await accountOf(session, licenseId);
  const gateway = url ?? (await licet.operators.operatorOf(operatorId)).endpoint;
  const expiresAt = (await timeOf(hre)) + SHOWN_WITHIN;
  const revocation = { grantHash, licenseId, operatorId: Number(operatorId), expiresAt };
  const proof =
    key === undefined
      ? { revocation, signature: await signer.signTypedData(domain, REVOCATION_TYPES, revocation) }
      : { apiKey: key };
  return { license: licenseId, grant: grantHash, gateway, revoked: dateOf(await revokeGrantAt(gateway, proof)) };
}

readingTask("license:grant", {
  about: "Signs a grant of your license: the API key",
  example: "--license 1 --valid 30d --cap 5",
  parameters: {
    license: licenseId(),
    valid: optional(period("How long it is valid, such as 12h or 30d"), "30d"),
    cap: optional(text("The most that may be spent under it, such as 5")),
    requestKey: optional(address("Address whose key must sign each request (licetFetch does)")),
  },
  act: grantUse,
});

readingTask("grant:revoke", {
  about: "Ends one grant at its operator's gateway, at once and without a transaction",
  example: "--key AAAA…",
  parameters: {
    key: optional(text("Its API key, as license:grant printed it")),
    hash: optional(bytes32("The grant's hash, in the key's place: you sign as its license's owner")),
    license: optional(licenseId()),
    url: optional(text("Base URL of the gateway (default: the endpoint that the license's operator has registered)")),
  },
  act: revokeGrant,
});

sendingTask("license:revoke", {
  about: "Ends all grants of your license",
  example: "--license 1",
  parameters: { license: licenseId() },
  act: revokeGrants,
});
