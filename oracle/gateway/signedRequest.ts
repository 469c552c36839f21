/** Whether a request is its grant's: under a grant with a key, the key must have signed it, now. */
import { ZeroAddress } from "ethers";
import type { Caller } from "./admission";
import type { Chain } from "../chain/chain";
import { reasonOf } from "../problem";
import { MalformedMessage } from "../protocol/messages";
import {
  REQUEST_SIGNATURE_HEADER,
  requestSignatureBytes,
  requestSignedAt,
  requestSigner,
} from "../protocol/requestSignature";
import { ApiError } from "./openai";

/** How long ago a request may have been signed, in seconds. */
const MOST_AGE = 120;
/** How far ahead, in seconds: its receipt, which isn't of before, is then still of as early as was reckoned with. */
const MOST_AHEAD = 30;

/** What a request's receipt will say of it. */
export interface ProvenRequest {
  requestHash: string;
  /** The packed signature of the grant's key; null under a bearer grant. */
  requestSignature: Buffer | null;
}

/**
 * @param header what came as the request's signature
 * @param now Unix seconds
 * @throws ApiError 401 that says what is wrong with the signature
 */
export function provenRequest(
  domain: Chain["domain"],
  { grantHash, signed: { grant } }: Pick<Caller, "grantHash" | "signed">,
  requestHash: string,
  header: unknown,
  now: number,
): ProvenRequest {
  if (grant.key === ZeroAddress) return { requestHash, requestSignature: null };
  if (header === undefined) {
    throw unsigned(
      "request_unsigned",
      `each request under this grant must be signed by ${grant.key}, in the header ${REQUEST_SIGNATURE_HEADER}: licetFetch does it, or use a grant without a key`,
    );
  }
  const { packed, signer } = signatureIn(domain, { grantHash, requestHash }, header);
  if (signer !== grant.key) {
    throw unsigned(
      "wrong_request_signature",
      `the request's signature is by ${signer} if its grant is ${grantHash} and its hash ${requestHash}; the grant's key is ${grant.key}: sign the bytes that are sent`,
    );
  }
  const at = requestSignedAt(packed);
  if (now - at > MOST_AGE || at - now > MOST_AHEAD) {
    throw unsigned(
      "request_signature_expired",
      `the request was signed at ${at}, and it is ${now}: sign it within ${MOST_AGE} seconds, and set the clock`,
    );
  }
  return { requestHash, requestSignature: packed };
}

/** Of a signature that another request was served for. */
export function signatureUsed(): ApiError {
  return unsigned(
    "request_signature_used",
    "another request came with this signature: sign each anew, at another time",
  );
}

function signatureIn(
  domain: Chain["domain"],
  request: { grantHash: string; requestHash: string },
  header: unknown,
): { packed: Buffer; signer: string } {
  try {
    const packed = requestSignatureBytes(header);
    return { packed, signer: requestSigner(domain, request, packed) };
  } catch (cause) {
    if (!(cause instanceof MalformedMessage)) throw cause;
    throw unsigned("malformed_request_signature", `${REQUEST_SIGNATURE_HEADER}: ${reasonOf(cause)}`);
  }
}

function unsigned(code: string, message: string): ApiError {
  return new ApiError(401, code, message);
}
