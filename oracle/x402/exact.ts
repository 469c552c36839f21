/**
 * The wire of x402, version 2, scheme "exact" by EIP-3009: what a gateway asks for, and what a payer signs for it. Each of
 * the three headers is base64 of JSON.
 */
import { getAddress } from "ethers";
import { shown } from "../problem";

export const REQUIRED_HEADER = "payment-required";
export const PAYMENT_HEADER = "payment-signature";
export const RESPONSE_HEADER = "payment-response";

/** What is to be paid, and how. */
export interface Requirements {
  scheme: "exact";
  /** `eip155:` and the chain's id. */
  network: string;
  /** Units of the currency, exactly. */
  amount: string;
  /** The currency. */
  asset: string;
  payTo: string;
  /** How long a payer's signature should count, in seconds. */
  maxTimeoutSeconds: number;
  /** Of the currency's EIP-712 domain. */
  extra: { name: string; version: string };
}

/** A payment that its payer has signed: EIP-3009's `TransferWithAuthorization`. Anybody may have it made, once. */
export interface SignedPayment {
  payer: string;
  payTo: string;
  /** Units of the currency. */
  amount: bigint;
  /** Unix seconds, both exclusive. */
  validAfter: number;
  validBefore: number;
  /** 32 bytes: of one payer, no two payments have the same. */
  nonce: string;
  signature: string;
}

/** A payment that isn't what was asked for: the text says what is wrong. */
export class PaymentMalformed extends Error {
  override name = "PaymentMalformed";
}

/** A signature must count for so long, or it may be too late before a block takes it, seconds. */
export const LEAST_VALIDITY = 60;
/** And for no longer: as long as it counts, it may still be made. */
export const MOST_VALIDITY = 86_400;
const MOST_SIGNATURE_BYTES = 2_048;

export function requiredHeader(requirements: Requirements, resource: object, error: string): string {
  return encoded({ x402Version: 2, error, resource, accepts: [requirements] });
}

/** How a payment ended, for its payer. */
export interface Settled {
  success: boolean;
  /** Of the payment, or of its return; empty if there is none. */
  transaction: string;
  network: string;
  payer: string;
  errorReason?: string;
}

export const responseHeader = (settled: Settled): string => encoded(settled);

const encoded = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64");

/** Whose payment a header is, and its nonce, whatever else it says. @throws PaymentMalformed */
export function identityIn(header: string): Pick<SignedPayment, "payer" | "nonce"> {
  const { authorization } = objectOf("payload", objectIn(header).payload);
  const { from, nonce } = objectOf("payload.authorization", authorization);
  return { payer: addressOf(from), nonce: hexOf("authorization.nonce", nonce, 32) };
}

/**
 * The payment in a header, which is of just what is asked for now, and counts for long enough.
 * @param now Unix seconds
 * @throws PaymentMalformed
 */
export function paymentIn(header: string, wanted: Requirements, now: number): SignedPayment {
  const { x402Version, accepted, payload } = objectIn(header);
  if (x402Version !== 2) throw new PaymentMalformed(`x402Version must be 2, not ${shown(x402Version)}`);
  const chosen = objectOf("accepted", accepted);
  for (const field of ["scheme", "network", "asset", "payTo", "amount"] as const) {
    requireSame(`accepted.${field}`, chosen[field], wanted[field]);
  }
  const { authorization, signature } = objectOf("payload", payload);
  const { to, value, validAfter, validBefore } = objectOf("payload.authorization", authorization);
  requireSame("authorization.to", to, wanted.payTo);
  requireSame("authorization.value", value, wanted.amount);
  return {
    ...identityIn(header),
    payTo: wanted.payTo,
    amount: BigInt(wanted.amount),
    ...validity(validAfter, validBefore, now),
    signature: hexOf("signature", signature),
  };
}

function objectIn(header: string): Record<string, unknown> {
  try {
    return objectOf("the payment", JSON.parse(Buffer.from(header, "base64").toString("utf8")));
  } catch (cause) {
    if (cause instanceof PaymentMalformed) throw cause;
    throw new PaymentMalformed("the payment must be base64 of JSON", { cause });
  }
}

function objectOf(what: string, value: unknown): Record<string, unknown> {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
  throw new PaymentMalformed(`${what} must be an object, not ${shown(value)}`);
}

function requireSame(what: string, found: unknown, wanted: string): void {
  const isSame = typeof found === "string" && found.toLowerCase() === wanted.toLowerCase();
  if (!isSame) throw new PaymentMalformed(`${what} must be ${wanted}, not ${shown(found)}`);
}

function addressOf(value: unknown): string {
  try {
    return getAddress(String(value));
  } catch {
    throw new PaymentMalformed(`authorization.from must be an address, not ${shown(value)}`);
  }
}

function hexOf(what: string, value: unknown, bytes?: number): string {
  const isHex = typeof value === "string" && /^0x([0-9a-fA-F]{2})*$/.test(value);
  const length = isHex ? (value.length - 2) / 2 : -1;
  if (bytes === undefined ? length > 0 && length <= MOST_SIGNATURE_BYTES : length === bytes) {
    return (value as string).toLowerCase();
  }
  throw new PaymentMalformed(
    `${what} must be ${bytes ?? `1 to ${MOST_SIGNATURE_BYTES}`} bytes in hex, not ${shown(value)}`,
  );
}

function validity(after: unknown, before: unknown, now: number): Pick<SignedPayment, "validAfter" | "validBefore"> {
  const [validAfter, validBefore] = [secondsOf("validAfter", after), secondsOf("validBefore", before)];
  if (validAfter >= now) throw new PaymentMalformed(`authorization.validAfter is ${validAfter}, and it is ${now}`);
  if (validBefore < now + LEAST_VALIDITY || validBefore > now + MOST_VALIDITY) {
    throw new PaymentMalformed(
      `authorization.validBefore must be ${LEAST_VALIDITY} to ${MOST_VALIDITY} s from now, ${now}; it is ${validBefore}`,
    );
  }
  return { validAfter, validBefore };
}

function secondsOf(what: string, value: unknown): number {
  if (typeof value === "string" && /^\d{1,12}$/.test(value)) return Number(value);
  throw new PaymentMalformed(`authorization.${what} must be Unix seconds in quotes, not ${shown(value)}`);
}
