import { ZeroAddress, ZeroHash } from "ethers";
import fc from "./fastCheck";
import { usageBy, zeroUsage } from "../../oracle/protocol/meters";
import { encodeBearer, saltOf } from "../../oracle/protocol/messages";
import type { BatchHeader, Grant, Measurement, Receipt, SignedGrant, Usage } from "../../oracle/protocol/types";

export const DOMAIN = {
  name: "Licet UsageEscrow",
  version: "1",
  chainId: 31337n,
  verifyingContract: "0x7777777777777777777777777777777777777777",
};

export function usage(meters: Partial<Usage>): Usage {
  return { ...zeroUsage(), ...meters };
}

/** Secrets of the salts that were made here: grants don't have them. */
const secrets = new Map<string, string>();

/** A salt by which `bearerOf` finds its secret. */
export function saltFrom(secret: string): string {
  const salt = saltOf(secret);
  secrets.set(salt, secret);
  return salt;
}

/** The API key of a grant whose salt was made here. */
export function bearerOf(signed: SignedGrant): string {
  return encodeBearer(signed, secrets.get(signed.grant.salt)!);
}

export function grantWith(fields: Partial<Grant> = {}): Grant {
  return {
    licenseId: 1n,
    key: ZeroAddress,
    cap: 0n,
    notBefore: 0,
    expiresAt: 2_000_000_000,
    generation: 1,
    salt: saltFrom("0x" + "5a".repeat(32)),
    ...fields,
  };
}

export function receiptWith(fields: Partial<Receipt> = {}): Receipt {
  return {
    licenseId: 1n,
    operatorId: 2,
    planId: 3,
    manifestHash: "0x" + "4d".repeat(32),
    generation: 1,
    grantHash: "0x" + "47".repeat(32),
    sequence: 1n,
    previousHash: ZeroHash,
    requestId: "0x" + "01".repeat(32),
    requestHash: "0x" + "02".repeat(32),
    responseHash: "0x" + "03".repeat(32),
    requestSignatureHash: ZeroHash,
    finishedAt: 1_700_000_000,
    durationMs: 900,
    ttftMs: 100,
    requests: 1n,
    inputTokens: 30n,
    cachedInputTokens: 10n,
    outputTokens: 50n,
    computeMs: 800n,
    flags: 0,
    ...fields,
  };
}

const uint = (bits: number) => fc.bigInt({ min: 0n, max: 2n ** BigInt(bits) - 1n });
const uintNumber = (bits: number) => fc.integer({ min: 0, max: 2 ** bits - 1 });
const hex = (bytes: number) =>
  fc.uint8Array({ minLength: bytes, maxLength: bytes }).map((value) => "0x" + Buffer.from(value).toString("hex"));

/** Parsers take no greater ids and numbers. */
const counted = uint(63);

const lane = { operatorId: uintNumber(24), planId: uintNumber(32), versionId: counted };
const epoch = { epochStart: uintNumber(40), epochEnd: uintNumber(40) };
const service = { availabilityBps: uintNumber(16), p95TtftMs: uintNumber(32), samples: uintNumber(32) };

export const anyUsage = (bits: number): fc.Arbitrary<Usage> => fc.record(usageByArbitrary(bits));

function usageByArbitrary(bits: number) {
  const meter = uint(bits);
  return usageBy(() => meter as never) as unknown as Record<keyof Usage, fc.Arbitrary<bigint>>;
}

export const anyGrant: fc.Arbitrary<Grant> = fc.record({
  licenseId: counted,
  key: hex(20),
  cap: uint(64),
  notBefore: uintNumber(40),
  expiresAt: uintNumber(40),
  generation: uintNumber(16),
  salt: hex(32).map(saltFrom),
});

export const anyReceipt: fc.Arbitrary<Receipt> = fc.record({
  licenseId: counted,
  operatorId: uintNumber(24),
  planId: uintNumber(32),
  manifestHash: hex(32),
  generation: uintNumber(16),
  grantHash: hex(32),
  sequence: counted,
  previousHash: hex(32),
  requestId: hex(32),
  requestHash: hex(32),
  responseHash: hex(32),
  requestSignatureHash: hex(32),
  finishedAt: uintNumber(40),
  durationMs: uintNumber(32),
  ttftMs: uintNumber(32),
  ...usageByArbitrary(32),
  flags: uintNumber(32),
});

export const anyHeader: fc.Arbitrary<BatchHeader> = fc.record({
  ...lane,
  ...epoch,
  ...service,
  sequence: counted,
  root: hex(32),
  count: uint(64),
  ...usageByArbitrary(64),
  entriesHash: hex(32),
  evidenceHash: hex(32),
});

export const anyMeasurement: fc.Arbitrary<Measurement> = fc.record({ ...lane, ...epoch, ...service });
