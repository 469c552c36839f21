/** Signs grants: API keys, which cost nothing and send nothing. */
import { hexlify, randomBytes, ZeroAddress, type Signer, type TypedDataDomain } from "ethers";
import { encodeBearer, GRANT_TYPES, grantDigest, saltOf } from "../protocol/messages";
import type { Grant } from "../protocol/types";

/** What a grant is to allow. Times are Unix seconds. */
export interface GrantTerms extends Pick<Grant, "licenseId" | "generation" | "cap" | "notBefore" | "expiresAt"> {
  /** The address whose key must sign each request; left out, whoever has the API key can use it. */
  key?: string;
}

export interface MintedGrant {
  /** The API key: whoever has it, and the grant's key if it names one, can use the license as the grant says. */
  apiKey: string;
  /** The grant's EIP-712 digest, which names it in receipts. */
  hash: string;
  grant: Grant;
}

/** @param owner The license's owner, by an ordinary account; a smart account signs the same fields by means of its own */
export async function mintGrant(domain: TypedDataDomain, terms: GrantTerms, owner: Signer): Promise<MintedGrant> {
  const secret = hexlify(randomBytes(32));
  const grant = { ...terms, key: terms.key ?? ZeroAddress, salt: saltOf(secret) };
  const signature = await owner.signTypedData(domain, GRANT_TYPES, grant);
  return { apiKey: encodeBearer({ grant, signature }, secret), hash: grantDigest(domain, grant), grant };
}
