import { constants, createHash, generateKeyPairSync, type KeyObject, sign } from "node:crypto";

/** Writes DER, and with it certificates, revocation lists and OCSP answers: authorities of a test's own. */

export function der(tag: number, ...contents: Buffer[]): Buffer {
  const content = Buffer.concat(contents);
  const length = content.length;
  if (length < 0x80) return Buffer.concat([Buffer.from([tag, length]), content]);
  const bytes = Buffer.from(length.toString(16).padStart(length < 0x100 ? 2 : length < 0x10000 ? 4 : 6, "0"), "hex");
  return Buffer.concat([Buffer.from([tag, 0x80 | bytes.length]), bytes, content]);
}

export const sequence = (...items: Buffer[]) => der(0x30, ...items);
export const context = (number: number, ...items: Buffer[]) => der(0xa0 | number, ...items);
export const octets = (bytes: Buffer) => der(0x04, bytes);
export const bits = (bytes: Buffer) => der(0x03, Buffer.from([0]), bytes);
export const boolean = (value: boolean) => der(0x01, Buffer.from([value ? 0xff : 0]));
export const enumerated = (value: number) => der(0x0a, Buffer.from([value]));
export const nothing = () => der(0x05);

export function integer(value: bigint | number): Buffer {
  const hex = value.toString(16);
  const bytes = Buffer.from(hex.padStart(hex.length + (hex.length % 2), "0"), "hex");
  return der(0x02, bytes[0] >= 0x80 ? Buffer.concat([Buffer.from([0]), bytes]) : bytes);
}

export function objectId(text: string): Buffer {
  const [first, second, ...rest] = text.split(".").map(Number);
  const base128 = (value: number): number[] => {
    const digits = [value % 128];
    for (let left = Math.floor(value / 128); left > 0; left = Math.floor(left / 128))
      digits.unshift(0x80 | (left % 128));
    return digits;
  };
  return der(0x06, Buffer.from([first * 40 + second, ...rest].flatMap(base128)));
}

export function time(unixSeconds: number): Buffer {
  const text = new Date(unixSeconds * 1_000).toISOString().replace(/[-:T]|\.\d+/g, "");
  return der(0x18, Buffer.from(text));
}

export function nameOf(commonName: string): Buffer {
  return sequence(der(0x31, sequence(objectId("2.5.4.3"), der(0x0c, Buffer.from(commonName)))));
}

/** Somebody with a certificate. */
export interface Party {
  name: string;
  certificate: Buffer;
  privateKey: KeyObject;
  publicKey: KeyObject;
  serial: bigint;
}

export interface CertificateParts {
  name: string;
  /** Whether it may issue others; also sets its key usage. */
  ca: boolean;
  pathLength: number;
  /** The first octet of its key usage, or null for none. */
  keyUsage: number | null;
  key: "P-256" | "P-384" | "RSA";
  keys: { publicKey: KeyObject; privateKey: KeyObject };
  serial: bigint;
  notBefore: number;
  notAfter: number;
  extensions: [id: string, critical: boolean, value: Buffer][];
  /** Names another issuer than the one that signs. */
  issuerName: string;
  /** Changes the body after it was signed. */
  alter: (body: Buffer) => Buffer;
}

/** 2020 and 2050. */
export const LONG_AGO = 1_577_836_800;
export const FAR_OFF = 2_524_608_000;

const keysOfKind = {
  "P-256": () => generateKeyPairSync("ec", { namedCurve: "P-256" }),
  "P-384": () => generateKeyPairSync("ec", { namedCurve: "P-384" }),
  RSA: () => generateKeyPairSync("rsa", { modulusLength: 3072 }),
};

/** Keys of RSA take a second to make: a name always gets the same. */
const rsaKeys = new Map<string, { publicKey: KeyObject; privateKey: KeyObject }>();

function keysFor(kind: CertificateParts["key"], name: string) {
  if (kind !== "RSA") return keysOfKind[kind]();
  const keys = rsaKeys.get(name) ?? keysOfKind.RSA();
  rsaKeys.set(name, keys);
  return keys;
}

let serials = 1_000n;

/** A certificate by an issuer, or by itself. */
export function certify(parts: Partial<CertificateParts> & { name: string }, issuer?: Party): Party {
  const { name, ca = false, pathLength, key = "P-384", extensions = [], serial = serials++ } = parts;
  const { notBefore = LONG_AGO, notAfter = FAR_OFF, alter = (body: Buffer) => body } = parts;
  const { publicKey, privateKey } = parts.keys ?? keysFor(key, name);
  const keyUsage = parts.keyUsage === undefined ? (ca ? 0x06 : 0x80) : parts.keyUsage;
  const signer = issuer?.privateKey ?? privateKey;
  const all: [string, boolean, Buffer][] = [...extensions];
  if (ca)
    all.push(["2.5.29.19", true, sequence(boolean(true), ...(pathLength === undefined ? [] : [integer(pathLength)]))]);
  if (keyUsage !== null) all.push(["2.5.29.15", true, der(0x03, Buffer.from([0, keyUsage]))]);
  const body = sequence(
    context(0, integer(2)),
    integer(serial),
    algorithmOf(signer),
    nameOf(parts.issuerName ?? issuer?.name ?? name),
    sequence(time(notBefore), time(notAfter)),
    nameOf(name),
    publicKey.export({ type: "spki", format: "der" }),
    ...(all.length === 0
      ? []
      : [
          context(
            3,
            sequence(
              ...all.map(([id, critical, value]) =>
                sequence(objectId(id), ...(critical ? [boolean(true)] : []), octets(value)),
              ),
            ),
          ),
        ]),
  );
  return { name, certificate: signed(body, signer, alter), privateKey, publicKey, serial };
}

/** RSASSA-PSS with SHA-384 for RSA keys, ECDSA with the curve's hash for others. */
function algorithmOf(key: KeyObject): Buffer {
  if (key.asymmetricKeyType === "rsa") {
    const sha384 = sequence(objectId("2.16.840.1.101.3.4.2.2"), nothing());
    return sequence(
      objectId("1.2.840.113549.1.1.10"),
      sequence(
        context(0, sha384),
        context(1, sequence(objectId("1.2.840.113549.1.1.8"), sha384)),
        context(2, integer(48)),
      ),
    );
  }
  return sequence(objectId(isP256(key) ? "1.2.840.10045.4.3.2" : "1.2.840.10045.4.3.3"));
}

const isP256 = (key: KeyObject) => key.asymmetricKeyDetails?.namedCurve === "prime256v1";

function signed(
  body: Buffer,
  key: KeyObject,
  alter: (body: Buffer) => Buffer = (same) => same,
  ...more: Buffer[]
): Buffer {
  const signature =
    key.asymmetricKeyType === "rsa"
      ? sign("sha384", body, { key, padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: 48 })
      : sign(isP256(key) ? "sha256" : "sha384", body, { key, dsaEncoding: "der" });
  return sequence(alter(body), algorithmOf(key), bits(signature), ...more);
}

export interface ListParts {
  revoked: bigint[];
  thisUpdate: number;
  nextUpdate: number;
  issuerName: string;
  /** Extensions of the list. */
  extensions: [id: string, critical: boolean, value: Buffer][];
  alter: (body: Buffer) => Buffer;
}

/** A revocation list. */
export function revocationList(issuer: Party, parts: Partial<ListParts> = {}): Buffer {
  const {
    revoked = [],
    thisUpdate = LONG_AGO,
    nextUpdate = FAR_OFF,
    issuerName = issuer.name,
    extensions = [],
    alter,
  } = parts;
  const entries = revoked.map((serial) => sequence(integer(serial), time(thisUpdate)));
  const body = sequence(
    integer(1),
    algorithmOf(issuer.privateKey),
    nameOf(issuerName),
    time(thisUpdate),
    time(nextUpdate),
    ...(entries.length === 0 ? [] : [sequence(...entries)]),
    ...(extensions.length === 0
      ? []
      : [
          context(
            0,
            sequence(
              ...extensions.map(([id, critical, value]) => sequence(objectId(id), boolean(critical), octets(value))),
            ),
          ),
        ]),
  );
  return signed(body, issuer.privateKey, alter);
}

export interface OcspParts {
  status: "good" | "revoked" | "unknown";
  thisUpdate: number;
  nextUpdate: number | null;
  /** Who signs, with the certificate that comes along. */
  responder: Party;
  outcome: number;
  /** In place of what it should be: the kind of answer, the hash of ids, the state, the issuer's key. */
  type: string;
  hash: string;
  state: Buffer;
  issuerKey: Buffer;
  /** Parts besides those that belong there. */
  more: Buffer[];
  alter: (body: Buffer) => Buffer;
}

/** What a responder says of one certificate. */
export function ocspAnswer(certificate: Party, issuer: Party, parts: Partial<OcspParts> = {}): Buffer {
  const {
    status = "good",
    thisUpdate = LONG_AGO,
    nextUpdate = FAR_OFF,
    responder = issuer,
    outcome = 0,
    alter,
  } = parts;
  if (outcome !== 0) return sequence(enumerated(outcome));
  const sha384 = (bytes: Buffer) => octets(createHash("sha384").update(bytes).digest());
  const keyBits = issuer.publicKey.export({ type: "spki", format: "der" });
  // The key's bits end the structure that describes it: an uncompressed point.
  const point = keyBits.subarray(keyBits.length - (isP256(issuer.publicKey) ? 65 : 97));
  const states = { good: der(0x80), revoked: context(1, time(thisUpdate)), unknown: der(0x82) };
  const data = sequence(
    context(1, nameOf(responder.name)),
    time(thisUpdate),
    sequence(
      sequence(
        sequence(
          sequence(objectId(parts.hash ?? "2.16.840.1.101.3.4.2.2"), nothing()),
          sha384(nameOf(issuer.name)),
          sha384(parts.issuerKey ?? point),
          integer(certificate.serial),
        ),
        parts.state ?? states[status],
        time(thisUpdate),
        ...(nextUpdate === null ? [] : [context(0, time(nextUpdate))]),
      ),
    ),
  );
  const embedded = responder === issuer ? [] : [context(0, sequence(responder.certificate))];
  const basic = signed(data, responder.privateKey, alter, ...embedded, ...(parts.more ?? []));
  return sequence(enumerated(0), context(0, sequence(objectId(parts.type ?? "1.3.6.1.5.5.7.48.1.1"), octets(basic))));
}
