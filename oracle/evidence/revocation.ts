import { createHash } from "node:crypto";
import { dateOf } from "../problem";
import {
  type Certificate,
  certificateOf,
  checkIssued,
  checkValidity,
  EXTENDED_KEY_USAGE,
  extensionsOf,
  isSignedBy,
  type Signed,
} from "./certificates";
import {
  bitStringOf,
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
import { refuseUnless, undecidedUnless } from "./verdict";

/** Revocation lists and OCSP answers, in DER, from wherever: each counts only by its issuer's signature and its dates. */
export interface RevocationAnswers {
  crls: readonly Buffer[];
  ocsp: readonly Buffer[];
}

/**
 * Which certificates of a chain must be covered by a current answer: `every` one but the root; the `issuers` (neither root nor
 * leaf, for makers that publish nothing about leaves); or `none`, where only what is given counts.
 */
export type RevocationDemand = "every" | "issuers" | "none";

/**
 * Looks up a verified chain, leaf first, in the answers.
 * @returns how many certificates an answer covers
 * @throws Refused where one is revoked, or an answer is malformed; Undecided where one isn't covered that must be
 */
export function checkRevocation(
  chain: readonly Certificate[],
  answers: RevocationAnswers,
  { demand, at }: { demand: RevocationDemand; at: number },
  about: string,
): number {
  const lists = answers.crls.map((der, index) => revocationListOf(der, `Revocation list ${index + 1}`));
  const replies = answers.ocsp.flatMap((der, index) => ocspStatusesOf(der, `OCSP answer ${index + 1}`));
  const found = chain.slice(0, -1).map((certificate, index) => {
    const issuer = chain[index + 1];
    const states = [
      ...lists.map((list) => byList(list, certificate, issuer, at)),
      ...replies.map((reply) => byReply(reply, certificate, issuer, at)),
    ];
    const statement = `${issuer.name} has revoked ${certificate.name} (serial number ${certificate.serial.toString(16)})`;
    return { states, statement, issuer };
  });
  // What is known to be wrong comes before what isn't known.
  const revoked = found.find(({ states }) => states.includes("revoked"));
  refuseUnless(revoked === undefined, `${about}: ${revoked?.statement}. Hardware under it can't be used any more.`);
  found.forEach(({ states, statement, issuer }, index) => {
    const demanded = demand === "every" || (demand === "issuers" && index > 0);
    const why = states.includes("stale") ? "what was given has expired, or isn't valid yet" : "nothing was given";
    undecidedUnless(
      !demanded || states.includes("good"),
      `${about}: whether ${statement} is open at ${dateOf(at)}: ${why}. Send a current revocation list or OCSP answer signed by ` +
        `${issuer.name}.`,
    );
  });
  return found.filter(({ states }) => states.includes("good")).length;
}

/** `none`: the answer says nothing about this certificate, or its issuer didn't sign it. */
type State = "good" | "revoked" | "stale" | "none";

interface RevocationList extends Signed {
  issuer: Buffer;
  thisUpdate: number;
  nextUpdate: number;
  serials: ReadonlySet<bigint>;
}

const CRL_NUMBER = "2.5.29.20";
const REASON_CODE = "2.5.29.21";
const CRL_SIGNING = 0x02;

function revocationListOf(der: Buffer, about: string): RevocationList {
  const [tbs, algorithm, signature, ...rest] = childrenOf(elementOf(der, about), Tag.sequence, about);
  refuseUnless(rest.length === 0, `${about} has ${rest.length} parts too many.`);
  const parts = childrenOf(tbs, Tag.sequence, `${about}'s body`);
  if (parts[0]?.tag === Tag.integer) parts.shift();
  const [innerAlgorithm, issuer, thisUpdate, nextUpdate] = parts.splice(0, 4);
  refuseUnless(
    innerAlgorithm?.whole.equals(algorithm?.whole ?? Buffer.alloc(0)) === true,
    `${about} names one signature algorithm inside and another outside: it was altered.`,
  );
  const entries = parts[0]?.tag === Tag.sequence ? childrenOf(parts.shift(), Tag.sequence, `${about}'s entries`) : [];
  // A critical extension would narrow what the list covers (to some reasons, or to the changes since another).
  if (parts[0]?.tag === Tag.context(0)) extensionsOf(parts.shift(), about, [CRL_NUMBER]);
  refuseUnless(parts.length === 0, `${about} has ${parts.length} fields too many.`);
  return {
    issuer: issuer.whole,
    thisUpdate: timeOf(thisUpdate, `${about}'s date`),
    nextUpdate: timeOf(nextUpdate, `${about}'s next date`),
    serials: new Set(entries.map((entry) => serialOf(entry, `${about}'s entry`))),
    body: tbs.whole,
    algorithm: algorithm.whole,
    signature: bitStringOf(signature, `${about}'s signature`),
  };
}

function serialOf(entry: Element, about: string): bigint {
  const [serial, , extensions] = childrenOf(entry, Tag.sequence, about);
  if (extensions !== undefined) {
    // Wrapped once more than those of a certificate are, the same shape.
    extensionsOf({ ...extensions, content: extensions.whole }, about, [REASON_CODE]);
  }
  return naturalOf(serial, `${about}'s serial number`);
}

/** A listed certificate stays revoked after the list's end. */
function byList(list: RevocationList, certificate: Certificate, issuer: Certificate, at: number): State {
  if (!list.issuer.equals(issuer.subject)) return "none";
  if (issuer.keyUsage !== undefined && (issuer.keyUsage & CRL_SIGNING) === 0) return "none";
  if (!isSignedBy(list, issuer.key)) return "none";
  if (list.serials.has(certificate.serial)) return "revoked";
  return list.thisUpdate <= at && at <= list.nextUpdate ? "good" : "stale";
}

interface OcspStatus extends Signed {
  /** The certificate in question: its issuer by hashes, and its serial number. */
  hash: string;
  issuerNameHash: Buffer;
  issuerKeyHash: Buffer;
  serial: bigint;
  status: "good" | "revoked" | "unknown";
  thisUpdate: number;
  nextUpdate?: number;
  /** Whom the answer brings along as its signer, if not the issuer itself. */
  signers: Certificate[];
}

const OCSP_BASIC = "1.3.6.1.5.5.7.48.1.1";
const OCSP_SIGNING = "1.3.6.1.5.5.7.3.9";
const OCSP_NONCE = "1.3.6.1.5.5.7.48.1.2";
const OCSP_HASHES: Record<string, string> = {
  "1.3.14.3.2.26": "sha1",
  "2.16.840.1.101.3.4.2.1": "sha256",
  "2.16.840.1.101.3.4.2.2": "sha384",
};
const OCSP_STATUSES: Record<number, OcspStatus["status"]> = {
  [Tag.contextPrimitive(0)]: "good",
  [Tag.context(1)]: "revoked",
  [Tag.contextPrimitive(2)]: "unknown",
};

/** RFC 6960: what a responder says of each certificate. */
function ocspStatusesOf(der: Buffer, about: string): OcspStatus[] {
  const [outcome, wrapped, ...more] = childrenOf(elementOf(der, about), Tag.sequence, about);
  const code = smallNaturalOf(outcome, `${about}'s outcome`, Tag.enumerated);
  refuseUnless(code === 0, `${about} is an error (code ${code}) and answers nothing. Ask the responder again.`);
  const inner = elementOf(contentOf(wrapped, Tag.context(0), about), about);
  const [type, bytes, ...evenMore] = childrenOf(inner, Tag.sequence, about);
  refuseUnless(objectIdOf(type, about) === OCSP_BASIC, `${about} isn't a basic OCSP answer.`);
  const basic = elementOf(contentOf(bytes, Tag.octetString, about), about);
  const [data, algorithm, signature, certificates, ...rest] = childrenOf(basic, Tag.sequence, about);
  const tooMany = more.length + evenMore.length + rest.length;
  refuseUnless(tooMany === 0, `${about} has ${tooMany} parts too many.`);
  const signed: Signed = {
    body: data.whole,
    algorithm: contentOf(algorithm, Tag.sequence, about) && algorithm.whole,
    signature: bitStringOf(signature, `${about}'s signature`),
  };
  const signers =
    certificates === undefined
      ? []
      : childrenOf(elementOf(contentOf(certificates, Tag.context(0), about), about), Tag.sequence, about).map(
          ({ whole }) => certificateOf(whole, `${about}'s signer`),
        );
  const parts = childrenOf(data, Tag.sequence, about);
  if (parts[0]?.tag === Tag.context(0)) parts.shift();
  const [, , responses, extensions] = parts;
  extensionsOf(extensions, about, [OCSP_NONCE]);
  return childrenOf(responses, Tag.sequence, about).map((response) => ({
    ...singleOf(response, about),
    ...signed,
    signers,
  }));
}

function singleOf(response: Element, about: string): Omit<OcspStatus, keyof Signed | "signers"> {
  const [id, state, thisUpdate, ...optional] = childrenOf(response, Tag.sequence, about);
  const [algorithm, issuerNameHash, issuerKeyHash, serial] = childrenOf(id, Tag.sequence, about);
  const hash = OCSP_HASHES[objectIdOf(childrenOf(algorithm, Tag.sequence, about)[0], about)];
  refuseUnless(hash !== undefined, `${about} names a certificate by a hash other than SHA-1, SHA-256 and SHA-384.`);
  const status = OCSP_STATUSES[state?.tag ?? -1];
  refuseUnless(status !== undefined, `${about} has a status that OCSP doesn't know.`);
  const nextUpdate = optional.find(({ tag }) => tag === Tag.context(0));
  extensionsOf(
    optional.find(({ tag }) => tag === Tag.context(1)),
    about,
    [],
  );
  return {
    hash,
    issuerNameHash: contentOf(issuerNameHash, Tag.octetString, about),
    issuerKeyHash: contentOf(issuerKeyHash, Tag.octetString, about),
    serial: naturalOf(serial, `${about}'s serial number`),
    status,
    thisUpdate: timeOf(thisUpdate, `${about}'s date`),
    nextUpdate: nextUpdate && timeOf(elementOf(nextUpdate.content, about), `${about}'s next date`),
  };
}

/** An answer without an end covers nothing, since nobody could tell how old it may be. */
function byReply(reply: OcspStatus, certificate: Certificate, issuer: Certificate, at: number): State {
  const hashOf = (bytes: Buffer) => createHash(reply.hash).update(bytes).digest();
  if (reply.serial !== certificate.serial || !reply.issuerNameHash.equals(hashOf(issuer.subject))) return "none";
  if (!reply.issuerKeyHash.equals(hashOf(publicKeyBitsOf(issuer)))) return "none";
  const signer = [issuer, ...reply.signers].find(({ key }) => isSignedBy(reply, key));
  if (signer === undefined || (signer !== issuer && !isResponderOf(signer, issuer, at))) return "none";
  if (reply.status === "revoked") return "revoked";
  if (reply.status === "unknown") return "none";
  return reply.thisUpdate <= at && reply.nextUpdate !== undefined && at <= reply.nextUpdate ? "good" : "stale";
}

/** Whether the issuer itself has named this certificate's key to answer for it. */
function isResponderOf(signer: Certificate, issuer: Certificate, at: number): boolean {
  const about = "OCSP";
  const uses = signer.extensions.get(EXTENDED_KEY_USAGE);
  if (uses === undefined) return false;
  const ids = childrenOf(elementOf(uses, about), Tag.sequence, about).map((use) => objectIdOf(use, about));
  if (!ids.includes(OCSP_SIGNING)) return false;
  checkIssued(signer, issuer, about);
  checkValidity(signer, at, about);
  return true;
}

function publicKeyBitsOf(certificate: Certificate): Buffer {
  const about = "The issuer's key";
  return bitStringOf(childrenOf(elementOf(certificate.keyInfo, about), Tag.sequence, about)[1], about);
}
