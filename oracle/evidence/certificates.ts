import { constants, createHash, createPublicKey, type KeyObject, verify, X509Certificate } from "node:crypto";
import { dateOf } from "../problem";
import { hexOf } from "./bytes";
import {
  bitStringOf,
  booleanOf,
  childrenOf,
  contentOf,
  type Element,
  elementOf,
  naturalOf,
  objectIdOf,
  smallNaturalOf,
  Tag,
  timeOf,
} from "./der";
import { Refused, refuseUnless } from "./verdict";

/** What was signed, how, and the signature: the shape that certificates, revocation lists and OCSP answers share. */
export interface Signed {
  body: Buffer;
  /** DER of the AlgorithmIdentifier. */
  algorithm: Buffer;
  signature: Buffer;
}

/** An X.509 certificate, read strictly: only DER, no unknown critical extension, nothing after it. */
export interface Certificate extends Signed {
  der: Buffer;
  /** SHA-256 of the certificate, in small hex. */
  fingerprint: string;
  /** Whom it names, for messages. */
  name: string;
  serial: bigint;
  /** DER of the names. */
  issuer: Buffer;
  subject: Buffer;
  /** Unix seconds, both inclusive. */
  notBefore: number;
  notAfter: number;
  key: KeyObject;
  /** DER of the key and its algorithm. */
  keyInfo: Buffer;
  isCa: boolean;
  /** How many certificates of authorities may stand between it and a leaf. */
  pathLength?: number;
  /** First octet of the key usage bits, where it says any. */
  keyUsage?: number;
  extensions: ReadonlyMap<string, Buffer>;
  x509: X509Certificate;
}

/** Kinds of keys, by the name of the curve, or RSA of 3,072 bits and more. */
export type KeyKind = "P-256" | "P-384" | "RSA";

const CURVES: Record<string, KeyKind> = { prime256v1: "P-256", secp384r1: "P-384" };
const BASIC_CONSTRAINTS = "2.5.29.19";
const KEY_USAGE = "2.5.29.15";
export const EXTENDED_KEY_USAGE = "2.5.29.37";
const UNDERSTOOD = [BASIC_CONSTRAINTS, KEY_USAGE, EXTENDED_KEY_USAGE];

export const DIGITAL_SIGNATURE = 0x80;
export const CERTIFICATE_SIGNING = 0x04;

/** Most certificates in a chain: longer ones only cost time. */
const LONGEST_CHAIN = 8;

export function certificateOf(der: Buffer, about = "The certificate"): Certificate {
  const [tbs, algorithm, signature, ...rest] = childrenOf(elementOf(der, about), Tag.sequence, about);
  refuseUnless(rest.length === 0, `${about} has ${rest.length} parts too many.`);
  const parts = childrenOf(tbs, Tag.sequence, `${about}'s body`);
  const version = parts[0]?.tag === Tag.context(0) ? parts.shift() : undefined;
  refuseUnless(
    version?.content.equals(VERSION_3) === true,
    `${about} isn't of X.509 version 3, the only one accepted.`,
  );
  const [serial, innerAlgorithm, issuer, validity, subject, keyInfo, ...more] = parts;
  refuseUnless(keyInfo !== undefined, `${about} has too few fields.`);
  refuseUnless(
    algorithm?.whole.equals(innerAlgorithm.whole) === true,
    `${about} names one signature algorithm inside and another outside: it was altered.`,
  );
  const [notBefore, notAfter] = childrenOf(validity, Tag.sequence, `${about}'s validity`);
  const extensions = extensionsOf(
    more.find(({ tag }) => tag === Tag.context(3)),
    about,
    UNDERSTOOD,
  );
  const x509 = new X509Certificate(der);
  return {
    der,
    fingerprint: createHash("sha256").update(der).digest("hex"),
    name: nameOf(x509.subject),
    // Some, of AMD, have the serial number 0.
    serial: naturalOf(serial, `${about}'s serial number`),
    issuer: issuer.whole,
    subject: subject.whole,
    notBefore: timeOf(notBefore, `${about}'s start`),
    notAfter: timeOf(notAfter, `${about}'s end`),
    key: createPublicKey({ key: keyInfo.whole, format: "der", type: "spki" }),
    keyInfo: keyInfo.whole,
    ...basicConstraintsOf(extensions.get(BASIC_CONSTRAINTS), about),
    keyUsage: keyUsageOf(extensions.get(KEY_USAGE), about),
    extensions,
    x509,
    body: tbs.whole,
    algorithm: algorithm.whole,
    signature: bitStringOf(signature, `${about}'s signature`),
  };
}

/** [0] of the integer 2. */
const VERSION_3 = Buffer.from([0x02, 0x01, 0x02]);

const PEM = /-----BEGIN CERTIFICATE-----\n([A-Za-z0-9+/=\n]+)-----END CERTIFICATE-----\n/y;

/**
 * The certificates of PEM text as OpenSSL writes it: lines of 64, nothing before, between or after. There is one way to write
 * them, so that nobody can hide anything in what isn't signed.
 */
export function certificatesOf(pem: string, about: string): Certificate[] {
  const found: Buffer[] = [];
  let end = 0;
  PEM.lastIndex = 0;
  for (let match = PEM.exec(pem); match !== null; match = PEM.exec(pem)) {
    found.push(Buffer.from(match[1].replaceAll("\n", ""), "base64"));
    end = PEM.lastIndex;
    refuseUnless(found.length <= LONGEST_CHAIN, `${about} has more than ${LONGEST_CHAIN} certificates.`);
  }
  refuseUnless(
    found.length > 0 && end === pem.length && pemOf(found) === pem,
    `${about} isn't PEM as OpenSSL writes it: certificates in lines of 64 characters, each line ended by a newline, nothing else. ` +
      `It stops being that at character ${end} of ${pem.length}.`,
  );
  return found.map((der, index) => certificateOf(der, `${about}: certificate ${index + 1}`));
}

/** Certificates as PEM text. */
export function pemOf(certificates: readonly Buffer[]): string {
  return certificates
    .map((der) => {
      const lines = der.toString("base64").match(/.{1,64}/g) ?? [];
      return `-----BEGIN CERTIFICATE-----\n${lines.join("\n")}\n-----END CERTIFICATE-----\n`;
    })
    .join("");
}

export interface ChainRules {
  /** The moment that all must be valid at, in Unix seconds. */
  at: number;
  /** SHA-256 fingerprints, in small hex, of the roots that are trusted. */
  roots: readonly string[];
  leafKey: KeyKind;
  issuerKeys: readonly KeyKind[];
  /** Fingerprints of certificates that are trusted no more. */
  distrusted: readonly string[];
}

/**
 * Verifies a chain from the leaf to a trusted root, which comes with it.
 * @throws Refused
 */
export function verifyChain(chain: readonly Certificate[], rules: ChainRules, about: string): void {
  refuseUnless(
    chain.length >= 2 && chain.length <= LONGEST_CHAIN,
    `${about} has ${chain.length} certificates; it needs at least a leaf and its root, and at most ${LONGEST_CHAIN}.`,
  );
  const root = chain[chain.length - 1];
  refuseUnless(
    rules.roots.includes(root.fingerprint),
    `${about} ends in ${root.name} with the SHA-256 fingerprint ${root.fingerprint}, which isn't a trusted root ` +
      `(trusted: ${rules.roots.join(", ") || "none"}). Send the whole chain of genuine hardware, or add the root to the policy.`,
  );
  chain.forEach((certificate, index) => {
    const isLeaf = index === 0;
    refuseUnless(
      !rules.distrusted.includes(certificate.fingerprint),
      `${about}: ${certificate.name} (${certificate.fingerprint}) is on the policy's list of certificates that aren't trusted any ` +
        `more. This hardware, or what stands above it, can't be used.`,
    );
    checkValidity(certificate, rules.at, about);
    checkKey(certificate, isLeaf ? [rules.leafKey] : rules.issuerKeys, about);
    if (isLeaf) checkLeaf(certificate, about);
    else checkAuthority(certificate, index - 1, about);
  });
  // The root issued itself.
  chain.forEach((certificate, index) => checkIssued(certificate, chain[index + 1] ?? root, about));
}

export function checkValidity(certificate: Certificate, at: number, about: string): void {
  refuseUnless(
    certificate.notBefore <= at,
    `${about}: ${certificate.name} isn't valid before ${dateOf(certificate.notBefore)}, and it is ${dateOf(at)}. Check the clock.`,
  );
  refuseUnless(
    at <= certificate.notAfter,
    `${about}: ${certificate.name} expired at ${dateOf(certificate.notAfter)}, and it is ${dateOf(at)}. Fetch a newer one.`,
  );
}

/** That the issuer issued it: by name, by key identifiers, and by signature. */
export function checkIssued(certificate: Certificate, issuer: Certificate, about: string): void {
  refuseUnless(
    certificate.issuer.equals(issuer.subject) && certificate.x509.checkIssued(issuer.x509),
    `${about}: ${certificate.name} wasn't issued by ${issuer.name}, which follows it. Send the leaf first, then each issuer.`,
  );
  refuseUnless(
    isSignedBy(certificate, issuer.key),
    `${about}: ${issuer.name} didn't sign ${certificate.name}: the certificate was altered.`,
  );
}

function checkKey(certificate: Certificate, kinds: readonly KeyKind[], about: string): void {
  const kind = keyKindOf(certificate.key);
  refuseUnless(
    kind !== undefined && kinds.includes(kind),
    `${about}: ${certificate.name} has a key of kind ${kind ?? certificate.key.asymmetricKeyType}, where ${kinds.join(" or ")} belongs.`,
  );
}

function checkLeaf(leaf: Certificate, about: string): void {
  refuseUnless(
    !leaf.isCa,
    `${about}: ${leaf.name} is an authority's certificate, and can't sign evidence. Send the leaf first.`,
  );
  refuseUnless(
    leaf.keyUsage === undefined || (leaf.keyUsage & DIGITAL_SIGNATURE) !== 0,
    `${about}: ${leaf.name}'s key isn't for signatures.`,
  );
  refuseUnless(
    !leaf.extensions.has(EXTENDED_KEY_USAGE),
    `${about}: ${leaf.name}'s key is for something else than evidence, by its extended key usage.`,
  );
}

/** @param below how many authorities stand between it and the leaf */
function checkAuthority(authority: Certificate, below: number, about: string): void {
  refuseUnless(authority.isCa, `${about}: ${authority.name} issued a certificate, and isn't an authority.`);
  refuseUnless(
    authority.keyUsage === undefined || (authority.keyUsage & CERTIFICATE_SIGNING) !== 0,
    `${about}: ${authority.name}'s key isn't for signing certificates.`,
  );
  refuseUnless(
    authority.pathLength === undefined || below <= authority.pathLength,
    `${about}: ${authority.name} allows ${authority.pathLength} authorities below it, and there are ${below}.`,
  );
}

export function keyKindOf(key: KeyObject): KeyKind | undefined {
  if (key.asymmetricKeyType === "ec") return CURVES[key.asymmetricKeyDetails?.namedCurve ?? ""];
  const bits = key.asymmetricKeyDetails?.modulusLength ?? 0;
  return key.asymmetricKeyType === "rsa" && bits >= 3_072 ? "RSA" : undefined;
}

const ECDSA_HASHES: Record<string, string> = {
  "1.2.840.10045.4.3.2": "sha256",
  "1.2.840.10045.4.3.3": "sha384",
  "1.2.840.10045.4.3.4": "sha512",
};
const RSA_PSS = "1.2.840.113549.1.1.10";
const MGF1 = "1.2.840.113549.1.1.8";
const SHA_384 = "2.16.840.1.101.3.4.2.2";

/** Whether the key signed it, by ECDSA, or by RSASSA-PSS with SHA-384. Other algorithms are refused. */
export function isSignedBy({ body, algorithm, signature }: Signed, key: KeyObject): boolean {
  const [id, parameters, ...rest] = childrenOf(
    elementOf(algorithm, "The signature algorithm"),
    Tag.sequence,
    "The signature algorithm",
  );
  const name = objectIdOf(id, "The signature algorithm");
  const hash = ECDSA_HASHES[name];
  if (hash !== undefined && parameters === undefined) {
    return key.asymmetricKeyType === "ec" && verify(hash, body, { key, dsaEncoding: "der" }, signature);
  }
  refuseUnless(
    name === RSA_PSS && rest.length === 0 && isPssWithSha384(parameters),
    `The signature algorithm ${name} isn't accepted: ECDSA with SHA-256, SHA-384 or SHA-512, and RSASSA-PSS with SHA-384 are.`,
  );
  if (key.asymmetricKeyType !== "rsa") return false;
  return verify("sha384", body, { key, padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: 48 }, signature);
}

function isPssWithSha384(parameters: Element | undefined): boolean {
  const about = "The parameters of RSASSA-PSS";
  const [hash, mask, salt, trailer, ...rest] = childrenOf(parameters, Tag.sequence, about);
  const inside = (element: Element | undefined, number: number) =>
    elementOf(contentOf(element, Tag.context(number), about), about);
  const [hashId] = childrenOf(inside(hash, 0), Tag.sequence, about);
  const [maskId, maskHash] = childrenOf(inside(mask, 1), Tag.sequence, about);
  const [maskHashId] = childrenOf(maskHash, Tag.sequence, about);
  return (
    objectIdOf(hashId, about) === SHA_384 &&
    objectIdOf(maskId, about) === MGF1 &&
    objectIdOf(maskHashId, about) === SHA_384 &&
    naturalOf(inside(salt, 2), about) === 48n &&
    (trailer === undefined || naturalOf(inside(trailer, 3), about) === 1n) &&
    rest.length === 0
  );
}

/**
 * Extensions by their object identifier.
 * @throws Refused where one is critical and not among those that the caller understands, or comes twice
 */
export function extensionsOf(
  wrapped: Element | undefined,
  about: string,
  understood: readonly string[],
): Map<string, Buffer> {
  const extensions = new Map<string, Buffer>();
  if (wrapped === undefined) return extensions;
  for (const extension of childrenOf(elementOf(wrapped.content, about), Tag.sequence, `${about}'s extensions`)) {
    const parts = childrenOf(extension, Tag.sequence, `${about}'s extension`);
    const id = objectIdOf(parts[0], `${about}'s extension`);
    const critical = parts.length === 3 && booleanOf(parts[1], `${about}'s extension ${id}`);
    refuseUnless(
      !critical || understood.includes(id),
      `${about} has the critical extension ${id}, which this verifier doesn't understand.`,
    );
    refuseUnless(!extensions.has(id), `${about} has the extension ${id} twice.`);
    extensions.set(id, contentOf(parts[parts.length - 1], Tag.octetString, `${about}'s extension ${id}`));
  }
  return extensions;
}

function basicConstraintsOf(value: Buffer | undefined, about: string): Pick<Certificate, "isCa" | "pathLength"> {
  if (value === undefined) return { isCa: false };
  const parts = childrenOf(elementOf(value, about), Tag.sequence, `${about}'s basic constraints`);
  const isCa = parts[0]?.tag === Tag.boolean && booleanOf(parts.shift()!, `${about}'s basic constraints`);
  return { isCa, pathLength: parts[0] && smallNaturalOf(parts[0], `${about}'s path length`) };
}

function keyUsageOf(value: Buffer | undefined, about: string): number | undefined {
  if (value === undefined) return undefined;
  const content = contentOf(elementOf(value, about), Tag.bitString, `${about}'s key usage`);
  if (content.length < 2) throw new Refused(`${about}'s key usage is empty.`);
  return content[1];
}

/** The common name of a subject, or all of it. */
function nameOf(subject: string): string {
  return /^CN=(.*)$/m.exec(subject)?.[1] ?? subject.replaceAll("\n", ", ");
}

/** A fingerprint as people write it, with colons or in capitals, as this module compares it. */
export function fingerprintOf(text: string): string {
  return text.replaceAll(":", "").toLowerCase();
}

/** SHA-256 of a certificate's key, which names a device for as long as it lives. */
export function keyFingerprintOf(certificate: Certificate): string {
  return hexOf(createHash("sha256").update(certificate.keyInfo).digest());
}
