import { createRequire } from "node:module";
import {
  getAddress,
  getBytes,
  Signature,
  SigningKey,
  TypedDataEncoder,
  type TypedDataDomain,
  type TypedDataField,
} from "ethers";
import type * as Secp256k1 from "secp256k1";
import { shown } from "../problem";
import { hexOf } from "./hex";
import { keccak, RunningKeccak } from "./keccak";
import {
  METERS,
  type BatchHeader,
  type Disclosure,
  type Finding,
  type Grant,
  type Measurement,
  type Proposal,
  type Receipt,
  type RequestStatement,
  type Retrieval,
  type Revocation,
  type SeedRequest,
  type SignedFinding,
  type SignedGrant,
  type SignedMeasurement,
  type SignedReceipt,
  type SignedRevocation,
} from "./types";

/** Something from outside that isn't a well-formed message. The text says which part is wrong and what was expected. */
export class MalformedMessage extends Error {
  override readonly name = "MalformedMessage";
}

type Types = Record<string, TypedDataField[]>;
type JsonObject = Record<string, unknown>;

/** How one field of a message is hashed and how it travels as JSON. */
interface FieldCodec {
  name: string;
  /** Writes the field into its 32-byte slot, whose other bytes are zero already. */
  write(slots: Buffer, offset: number, value: unknown): void;
  toJson(value: unknown): unknown;
  fromJson(json: unknown): unknown;
}

const SLOT_BYTES = 32;
const WIDEST_NUMBER_BITS = 40;

/** Ids and numbers count from 1, and are kept in SQLite, which holds 63 bits of them. */
const COUNTED_FIELDS = ["licenseId", "versionId", "sequence"];
const COUNTED_LIMIT = 2n ** 63n;

function hexBytes(name: string, value: unknown, length?: number): Buffer {
  if (typeof value !== "string" || !/^0x([0-9a-fA-F]{2})*$/.test(value)) {
    throw new MalformedMessage(`${name} must be a hex string with 0x, not ${shown(value)}`);
  }
  const bytes = Buffer.from(value.slice(2), "hex");
  if (length !== undefined && bytes.length !== length) {
    throw new MalformedMessage(`${name} must have ${length} bytes, not ${bytes.length}`);
  }
  return bytes;
}

function bytesCodec(name: string, length: number, fromBytes: (bytes: Buffer) => string): FieldCodec {
  return {
    name,
    write: (slots, offset, value) => slots.set(hexBytes(name, value, length), offset + SLOT_BYTES - length),
    toJson: (value) => value,
    fromJson: (json) => fromBytes(hexBytes(name, json, length)),
  };
}

/** Refuses a field from outside that no counter will ever reach. */
function reachable(name: string, value: bigint): bigint {
  if (value < COUNTED_LIMIT || !COUNTED_FIELDS.includes(name)) return value;
  throw new MalformedMessage(`${name} must be below 2^63, not ${value}`);
}

function uintCodec(name: string, bits: number): FieldCodec {
  const limit = 2n ** BigInt(bits);
  const inRange = (value: bigint) => {
    if (value < 0n || value >= limit) throw new MalformedMessage(`${name} must fit in uint${bits}, not ${value}`);
    return value;
  };
  const isBigint = bits > WIDEST_NUMBER_BITS || (METERS as readonly string[]).includes(name);
  return {
    name,
    write: (slots, offset, value) =>
      void slots.writeBigUInt64BE(inRange(BigInt(value as bigint | number)), offset + SLOT_BYTES - 8),
    toJson: (value) => (isBigint ? String(value) : value),
    fromJson: (json) => {
      if (isBigint) {
        if (typeof json === "string" && /^(0|[1-9][0-9]{0,19})$/.test(json))
          return reachable(name, inRange(BigInt(json)));
        throw new MalformedMessage(`${name} must be a decimal string, not ${shown(json)}`);
      }
      if (Number.isSafeInteger(json)) return Number(inRange(BigInt(json as number)));
      throw new MalformedMessage(`${name} must be a whole number, not ${shown(json)}`);
    },
  };
}

function codecOf({ name, type }: TypedDataField): FieldCodec {
  if (type === "bytes32") return bytesCodec(name, 32, hexOf);
  if (type === "address") return bytesCodec(name, 20, (bytes) => getAddress(hexOf(bytes)));
  return uintCodec(name, Number(type.slice("uint".length)));
}

/** One EIP-712 struct: its types as ethers takes them, its digest, and its strict JSON form. */
class MessageType<T extends object> {
  readonly types: Types;
  private readonly typeName: string;
  private readonly codecs: FieldCodec[];
  /** Type hash and fields, filled anew for each struct: digests are computed without allocating. */
  private readonly slots: Buffer;

  constructor(signature: string) {
    const [typeName, fields] = signature.slice(0, -1).split("(");
    const typed = fields.split(",").map((field) => {
      const [type, name] = field.split(" ");
      return { name, type };
    });
    this.typeName = typeName;
    this.types = { [typeName]: typed };
    this.codecs = typed.map(codecOf);
    this.slots = Buffer.alloc(SLOT_BYTES * (1 + typed.length));
    this.slots.set(keccak(Buffer.from(signature)));
  }

  digest(domain: TypedDataDomain, message: T): string {
    this.codecs.forEach((codec, i) => codec.write(this.slots, SLOT_BYTES * (1 + i), message[codec.name as keyof T]));
    return hexOf(keccak(Buffer.concat([EIP712_PREFIX, domainSeparator(domain), keccak(this.slots)])));
  }

  toJson(message: T): JsonObject {
    return Object.fromEntries(
      this.codecs.map((codec) => [codec.name, codec.toJson(message[codec.name as keyof T])] as const),
    );
  }

  fromJson(json: unknown): T {
    const object = objectWithKeys(
      this.typeName,
      json,
      this.codecs.map((codec) => codec.name),
    );
    return Object.fromEntries(this.codecs.map((codec) => [codec.name, codec.fromJson(object[codec.name])])) as T;
  }
}

/** The domain of every message here: those of one escrow on one chain. */
export function domainOf(chainId: bigint, escrow: string) {
  return { name: "Licet UsageEscrow", version: "1", chainId, verifyingContract: escrow };
}

const EIP712_PREFIX = Buffer.from("1901", "hex");
const separators = new WeakMap<TypedDataDomain, Buffer>();

/** The 32 bytes that bind a digest to its domain. */
export function domainSeparator(domain: TypedDataDomain): Buffer {
  let separator = separators.get(domain);
  if (separator === undefined) {
    separator = hexBytes("domain separator", TypedDataEncoder.hashDomain(domain), 32);
    separators.set(domain, separator);
  }
  return separator;
}

function objectWithKeys(what: string, json: unknown, keys: string[]): JsonObject {
  if (typeof json !== "object" || json === null || Array.isArray(json)) {
    throw new MalformedMessage(`${what} must be a JSON object`);
  }
  const missing = keys.filter((key) => !(key in json));
  const unknown = Object.keys(json).filter((key) => !keys.includes(key));
  if (missing.length > 0) throw new MalformedMessage(`${what} lacks ${missing.join(", ")}`);
  if (unknown.length > 0) throw new MalformedMessage(`${what} has unknown fields ${shown(unknown)}`);
  return json as JsonObject;
}

const grants = new MessageType<Grant>(
  "Grant(uint64 licenseId,address key,uint64 cap,uint40 notBefore,uint40 expiresAt,uint16 generation,bytes32 salt)",
);
const receipts = new MessageType<Receipt>(
  "Receipt(uint64 licenseId,uint24 operatorId,uint32 planId,bytes32 manifestHash,uint16 generation,bytes32 grantHash," +
    "uint64 sequence,bytes32 previousHash,bytes32 requestId,bytes32 requestHash,bytes32 responseHash," +
    "bytes32 requestSignatureHash,uint40 finishedAt,uint32 durationMs,uint32 ttftMs,uint32 requests," +
    "uint32 inputTokens,uint32 cachedInputTokens,uint32 outputTokens,uint32 computeMs,uint32 flags)",
);
const batches = new MessageType<BatchHeader>(
  "Batch(uint24 operatorId,uint32 planId,uint64 versionId,uint64 sequence,uint40 epochStart,uint40 epochEnd," +
    "bytes32 root,uint64 count,uint64 requests,uint64 inputTokens,uint64 cachedInputTokens,uint64 outputTokens," +
    "uint64 computeMs,uint16 availabilityBps,uint32 p95TtftMs,uint32 samples,bytes32 entriesHash,bytes32 evidenceHash)",
);
const measurements = new MessageType<Measurement>(
  "Measurement(uint24 operatorId,uint32 planId,uint64 versionId,uint40 epochStart,uint40 epochEnd," +
    "uint16 availabilityBps,uint32 p95TtftMs,uint32 samples)",
);
const proposals = new MessageType<Proposal>("Proposal(bytes32 batchId)");
const disclosures = new MessageType<Disclosure>("Disclosure(uint24 operatorId,bytes32 requestId,uint40 at)");
const retrievals = new MessageType<Retrieval>("Retrieval(uint24 operatorId,address attestor,uint40 at)");
const requests = new MessageType<RequestStatement>("Request(bytes32 grantHash,bytes32 requestHash,uint40 at)");
const revocations = new MessageType<Revocation>(
  "Revocation(bytes32 grantHash,uint64 licenseId,uint24 operatorId,uint40 expiresAt)",
);
const seedRequests = new MessageType<SeedRequest>("SeedRequest(uint24 operatorId,uint40 at)");
const findings = new MessageType<Finding>(
  "Finding(uint24 operatorId,address receiptSigner,uint8 tier,uint40 from,uint40 until,bytes32 evidenceHash)",
);

/** The structs as ethers' `signTypedData` and `TypedDataEncoder` take them. */
export const GRANT_TYPES = grants.types;
export const RECEIPT_TYPES = receipts.types;
export const BATCH_TYPES = batches.types;
export const MEASUREMENT_TYPES = measurements.types;
export const PROPOSAL_TYPES = proposals.types;
export const DISCLOSURE_TYPES = disclosures.types;
export const RETRIEVAL_TYPES = retrievals.types;
export const REQUEST_TYPES = requests.types;
export const REVOCATION_TYPES = revocations.types;
export const SEED_REQUEST_TYPES = seedRequests.types;
export const FINDING_TYPES = findings.types;

/** The EIP-712 digest of a grant: the "grant hash". Like all digests here, it throws MalformedMessage on a field out of range. */
export const grantDigest = (domain: TypedDataDomain, grant: Grant): string => grants.digest(domain, grant);
/** The EIP-712 digest of a receipt: the "receipt hash". */
export const receiptDigest = (domain: TypedDataDomain, receipt: Receipt): string => receipts.digest(domain, receipt);
/** The EIP-712 digest of a batch's header: the "batch id", and what attestors sign. */
export const batchDigest = (domain: TypedDataDomain, header: BatchHeader): string => batches.digest(domain, header);
export const measurementDigest = (domain: TypedDataDomain, measurement: Measurement): string =>
  measurements.digest(domain, measurement);
/** What an operator's key signs to have a batch attested: without it, anybody with receipts could use a lane's numbers up. */
export const seedRequestDigest = (domain: TypedDataDomain, request: SeedRequest): string =>
  seedRequests.digest(domain, request);
export const findingDigest = (domain: TypedDataDomain, finding: Finding): string => findings.digest(domain, finding);
export const proposalDigest = (domain: TypedDataDomain, proposal: Proposal): string =>
  proposals.digest(domain, proposal);

/** What an attestor's key signs to be shown the bodies of a disclosed request. */
export const disclosureDigest = (domain: TypedDataDomain, disclosure: Disclosure): string =>
  disclosures.digest(domain, disclosure);

/** What an operator's key signs to have its receipts back from an attestor. */
export const retrievalDigest = (domain: TypedDataDomain, retrieval: Retrieval): string =>
  retrievals.digest(domain, retrieval);

/** What a grant's key signs to have a request served. */
export const requestDigest = (domain: TypedDataDomain, request: RequestStatement): string =>
  requests.digest(domain, request);

export const revocationDigest = (domain: TypedDataDomain, revocation: Revocation): string =>
  revocations.digest(domain, revocation);

const SIGNATURE_BYTES = 65;
const HALF_ORDER = Buffer.from("7fffffffffffffffffffffffffffffff5d576e7357a4501ddfe92f46681b20a0", "hex");

/** The package would fall back to a slow JavaScript curve without a word, so its native binding is asked for by name. */
function loadNativeCurve(): typeof Secp256k1 | null {
  try {
    return createRequire(__filename)("secp256k1/bindings.js");
  } catch {
    process.emitWarning(
      `secp256k1 has no native build for ${process.platform}-${process.arch}: signatures are checked by ethers, about 40 times slower`,
    );
    return null;
  }
}

const nativeCurve = loadNativeCurve();

/** The 65-byte low-s signature r ‖ s ‖ v of a digest, v being 27 or 28. Deterministic (RFC 6979). */
export function signDigest(privateKey: string, digest: string): string {
  if (nativeCurve === null) return new SigningKey(privateKey).sign(digest).serialized;
  const { signature, recid } = nativeCurve.ecdsaSign(
    hexBytes("digest", digest, 32),
    hexBytes("private key", privateKey, 32),
  );
  return hexOf(signature) + (27 + recid).toString(16);
}

/**
 * The checksummed address that signed a digest.
 * Throws MalformedMessage on anything but 65 bytes with v 27 or 28 and the lower s, so that a message has one signature.
 */
export function recoverSigner(digest: string, signature: string): string {
  const bytes = canonicalSignature(signature);
  const publicKey = recoverPublicKey(hexBytes("digest", digest, 32), bytes.subarray(0, 64), bytes[64] - 27);
  return getAddress(hexOf(keccak(publicKey.subarray(1)).subarray(12)));
}

function canonicalSignature(signature: string): Buffer {
  const bytes = hexBytes("signature", signature, SIGNATURE_BYTES);
  const v = bytes[64];
  if (v !== 27 && v !== 28) throw new MalformedMessage(`signature's v must be 27 or 28, not ${v}`);
  if (bytes.subarray(32, 64).compare(HALF_ORDER) > 0) throw highS();
  return bytes;
}

/**
 * keccak256(receipt hash ‖ signature): what names a receipt with the key that signed it, as a batch's tree does. The hash alone
 * says nothing of the key.
 * @throws MalformedMessage unless the signature is the one that `recoverSigner` takes of its r and s
 */
export function signedReceiptHash(receiptHash: string, signature: string): string {
  return hexOf(keccak(Buffer.concat([hexBytes("receipt hash", receiptHash, 32), canonicalSignature(signature)])));
}

/** Of a message that has another signature with the lower s. */
export const highS = () =>
  new MalformedMessage("signature's s is in the upper half of the order: sign with the lower s");

/**
 * The 65 bytes of the key that signed a digest. Whether s is the lower one isn't looked at.
 * @param recovery 0 or 1: v less 27
 * @throws MalformedMessage if the 64 bytes are no signature of any key
 */
export function recoverPublicKey(digest: Uint8Array, signature: Uint8Array, recovery: number): Uint8Array {
  const whole = () => hexOf(signature) + (27 + recovery).toString(16);
  try {
    if (nativeCurve !== null) return nativeCurve.ecdsaRecover(signature, recovery, digest, false);
    return getBytes(SigningKey.recoverPublicKey(digest, Signature.from(whole())));
  } catch (cause) {
    throw new MalformedMessage(`signature ${whole()} is of no key`, { cause });
  }
}

const GRANT_BYTES = 80;

/** The salt of a grant, from the secret in its API key. */
export const saltOf = (secret: string): string => hexOf(keccak(hexBytes("secret", secret, 32)));

/**
 * The API key: base64url of the grant's 80 packed bytes, with the secret in place of the salt that it makes, and its signature.
 * Attestors are shown grants and their signatures: without the secret, they can't use them.
 * Throws MalformedMessage if the grant's salt is another secret's.
 */
export function encodeBearer({ grant, signature }: SignedGrant, secret: string): string {
  if (saltOf(secret) !== grant.salt.toLowerCase()) throw new MalformedMessage("the grant's salt isn't this secret's");
  const packed = Buffer.alloc(GRANT_BYTES);
  packed.writeBigUInt64BE(grant.licenseId, 0);
  packed.set(hexBytes("key", grant.key, 20), 8);
  packed.writeBigUInt64BE(grant.cap, 28);
  packed.writeUIntBE(grant.notBefore, 36, 5);
  packed.writeUIntBE(grant.expiresAt, 41, 5);
  packed.writeUInt16BE(grant.generation, 46);
  packed.set(hexBytes("secret", secret, 32), 48);
  return Buffer.concat([packed, hexBytes("signature", signature)]).toString("base64url");
}

/** Even a smart account's of several keys is shorter; attestors are sent it with each batch. */
const MOST_SIGNATURE_BYTES = 2_048;

/** The grant in an API key; its signature isn't checked. Throws MalformedMessage unless the token is exactly what `encodeBearer` gives. */
export function decodeBearer(token: string): SignedGrant {
  if (!/^[A-Za-z0-9_-]+$/.test(token)) throw new MalformedMessage("API key must be base64url without padding");
  const bytes = Buffer.from(token, "base64url");
  if (bytes.length <= GRANT_BYTES) {
    throw new MalformedMessage(`API key is cut short: a grant and its signature have over ${GRANT_BYTES} bytes`);
  }
  if (bytes.length > GRANT_BYTES + MOST_SIGNATURE_BYTES) {
    throw new MalformedMessage(`API key is too long: a grant's signature has at most ${MOST_SIGNATURE_BYTES} bytes`);
  }
  if (bytes.toString("base64url") !== token) throw new MalformedMessage("API key ends in stray bits: copy it whole");
  return {
    grant: {
      licenseId: reachable("licenseId", bytes.readBigUInt64BE(0)),
      key: getAddress(hexOf(bytes.subarray(8, 28))),
      cap: bytes.readBigUInt64BE(28),
      notBefore: bytes.readUIntBE(36, 5),
      expiresAt: bytes.readUIntBE(41, 5),
      generation: bytes.readUInt16BE(46),
      salt: saltOf(hexOf(bytes.subarray(48, GRANT_BYTES))),
    },
    signature: hexOf(bytes.subarray(GRANT_BYTES)),
  };
}

/** keccak256(salt ‖ bytes): what a receipt says of a request's or a response's body. */
export function saltedHash(salt: string, bytes: Uint8Array): string {
  return hexOf(keccak(Buffer.concat([hexBytes("salt", salt, 32), bytes])));
}

/** The same of a body that comes in pieces. */
export class SaltedHasher {
  private constructor(private readonly running: RunningKeccak) {}

  static async start(salt: string): Promise<SaltedHasher> {
    const running = await RunningKeccak.start();
    running.update(hexBytes("salt", salt, 32));
    return new SaltedHasher(running);
  }

  update(bytes: Uint8Array): void {
    this.running.update(bytes);
  }

  /** The hash of what came so far. */
  digest(): string {
    return hexOf(this.running.digest());
  }
}

// ---------------------------------------------------------------------------------------------- JSON
// Numbers above 40 bits and meters travel as decimal strings. Parsing is strict: no field may lack, be unknown or be out of range.

export const grantToJson = (grant: Grant): JsonObject => grants.toJson(grant);
export const grantFromJson = (json: unknown): Grant => grants.fromJson(json);
export const receiptToJson = (receipt: Receipt): JsonObject => receipts.toJson(receipt);
export const receiptFromJson = (json: unknown): Receipt => receipts.fromJson(json);
export const headerToJson = (header: BatchHeader): JsonObject => batches.toJson(header);
export const headerFromJson = (json: unknown): BatchHeader => batches.fromJson(json);
export const retrievalToJson = (retrieval: Retrieval): JsonObject => retrievals.toJson(retrieval);
export const retrievalFromJson = (json: unknown): Retrieval => retrievals.fromJson(json);
export const disclosureToJson = (disclosure: Disclosure): JsonObject => disclosures.toJson(disclosure);
export const disclosureFromJson = (json: unknown): Disclosure => disclosures.fromJson(json);
export const measurementToJson = (measurement: Measurement): JsonObject => measurements.toJson(measurement);
export const measurementFromJson = (json: unknown): Measurement => measurements.fromJson(json);

export const seedRequestToJson = (request: SeedRequest): JsonObject => seedRequests.toJson(request);
export const seedRequestFromJson = (json: unknown): SeedRequest => seedRequests.fromJson(json);
export const findingFromJson = (json: unknown): Finding => findings.fromJson(json);
export const findingToJson = (finding: Finding): JsonObject => findings.toJson(finding);

export const signedGrantToJson = ({ grant, signature }: SignedGrant): JsonObject => ({
  grant: grantToJson(grant),
  signature,
});
export const signedReceiptToJson = ({ receipt, signature }: SignedReceipt): JsonObject => ({
  receipt: receiptToJson(receipt),
  signature,
});
export const signedMeasurementToJson = ({ measurement, signature }: SignedMeasurement): JsonObject => ({
  measurement: measurementToJson(measurement),
  signature,
});

export function signedGrantFromJson(json: unknown): SignedGrant {
  const { grant, signature } = objectWithKeys("signed grant", json, ["grant", "signature"]);
  return { grant: grantFromJson(grant), signature: hexOf(hexBytes("signature", signature)) };
}

export function signedReceiptFromJson(json: unknown): SignedReceipt {
  const { receipt, signature } = objectWithKeys("signed receipt", json, ["receipt", "signature"]);
  return { receipt: receiptFromJson(receipt), signature: hexOf(hexBytes("signature", signature, SIGNATURE_BYTES)) };
}

export function signedMeasurementFromJson(json: unknown): SignedMeasurement {
  const { measurement, signature } = objectWithKeys("signed measurement", json, ["measurement", "signature"]);
  return {
    measurement: measurementFromJson(measurement),
    signature: hexOf(hexBytes("signature", signature, SIGNATURE_BYTES)),
  };
}

export const signedRevocationToJson = ({ revocation, signature }: SignedRevocation): JsonObject => ({
  revocation: revocations.toJson(revocation),
  signature,
});

export function signedRevocationFromJson(json: unknown): SignedRevocation {
  const { revocation, signature } = objectWithKeys("signed revocation", json, ["revocation", "signature"]);
  const bytes = hexBytes("signature", signature);
  if (bytes.length <= MOST_SIGNATURE_BYTES)
    return { revocation: revocations.fromJson(revocation), signature: hexOf(bytes) };
  throw new MalformedMessage(`signature must have at most ${MOST_SIGNATURE_BYTES} bytes, not ${bytes.length}`);
}

export const signedFindingToJson = ({ finding, signature }: SignedFinding): JsonObject => ({
  finding: findingToJson(finding),
  signature,
});

export function signedFindingFromJson(json: unknown): SignedFinding {
  const { finding, signature } = objectWithKeys("signed finding", json, ["finding", "signature"]);
  return {
    finding: findings.fromJson(finding),
    signature: hexOf(hexBytes("signature", signature, SIGNATURE_BYTES)),
  };
}

export function signedSeedRequestFromJson(json: unknown): { request: SeedRequest; signature: string } {
  const { request, signature } = objectWithKeys("signed seed request", json, ["request", "signature"]);
  return {
    request: seedRequests.fromJson(request),
    signature: hexOf(hexBytes("signature", signature, SIGNATURE_BYTES)),
  };
}
