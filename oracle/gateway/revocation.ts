/** Ends grants at this gateway at once: by whoever has the API key, or by the license's owner, who needn't have it. */
import type { Admission } from "./admission";
import { ApiError } from "./openai";
import { dateOf } from "../problem";
import { MalformedMessage, revocationDigest, signedRevocationFromJson } from "../protocol/messages";
import type { SignedRevocation } from "../protocol/types";
import type { Chain } from "../chain/chain";
import type { Store } from "../store/store";

/** So many of one license are kept; its generation ends all at once. */
export const MOST_REVOKED = 1_000;
/** The chain is asked about signatures of strangers: only so many at once. */
const MOST_AT_ONCE = 16;

export interface Revoked {
  licenseId: bigint;
  grantHash: string;
  /** Unix seconds: when it was revoked first. */
  revokedAt: number;
}

export interface RevocationDeps {
  admission: Admission;
  chain: Chain;
  store: Store;
  now: () => Promise<number>;
  operatorId: number;
}

export class Revocations {
  private running = 0;

  constructor(private readonly deps: RevocationDeps) {}

  /** Ends the grant that the request comes under, if it hasn't ended. Throws ApiError 401, 403, 409 or 503. */
  async byBearer(authorization: string | undefined): Promise<Revoked> {
    const { grantHash, license } = await this.deps.admission.identify(authorization);
    return this.revoke(license.licenseId, grantHash);
  }

  /** Ends the grant that the license's owner names. Throws ApiError 400, 401, 403, 409 or 503. */
  async byOwner(body: Buffer): Promise<Revoked> {
    const signed = parsed(body);
    if (this.running >= MOST_AT_ONCE) {
      throw new ApiError(503, "gateway_full", "too many grants are revoked at once: try again in a moment", {
        retryAfterSeconds: 1,
      });
    }
    this.running += 1;
    try {
      await this.requireOwners(signed);
    } finally {
      this.running -= 1;
    }
    const { licenseId, grantHash } = signed.revocation;
    return this.revoke(licenseId, grantHash);
  }

  private async requireOwners({ revocation, signature }: SignedRevocation): Promise<void> {
    const { admission, chain, now, operatorId } = this.deps;
    if (revocation.operatorId !== operatorId) {
      throw new ApiError(
        403,
        "wrong_operator",
        `the revocation is for operator ${revocation.operatorId}, this is ${operatorId}'s gateway`,
      );
    }
    if ((await now()) >= revocation.expiresAt) {
      const at = dateOf(revocation.expiresAt);
      throw new ApiError(401, "revocation_expired", `the revocation counted until ${at}: sign another`);
    }
    const digest = revocationDigest(chain.domain, revocation);
    await admission.requireOwnersSignature(revocation.licenseId, digest, signature, "the revocation");
  }

  private async revoke(licenseId: bigint, grantHash: string): Promise<Revoked> {
    const { store, now } = this.deps;
    const revokedAt = await store.grants.revoke(licenseId, grantHash, await now(), MOST_REVOKED);
    if (revokedAt !== null) return { licenseId, grantHash, revokedAt };
    throw new ApiError(
      409,
      "too_many_revoked",
      `license ${licenseId} has ${MOST_REVOKED} revoked grants here: raise its generation, which ends all (license:revoke)`,
    );
  }
}

function parsed(body: Buffer): SignedRevocation {
  try {
    return signedRevocationFromJson(JSON.parse(body.toString("utf8")));
  } catch (cause) {
    const problem = cause instanceof MalformedMessage ? cause.message : "the body must be JSON";
    throw new ApiError(400, "malformed_revocation", problem, { cause });
  }
}

export function revokedToShow({ licenseId, grantHash, revokedAt }: Revoked): object {
  return { object: "grant.revoked", license_id: licenseId.toString(), grant: grantHash, revoked_at: revokedAt };
}
