import { createHash, createPublicKey, type KeyObject, verify } from "node:crypto";
import { dateOf, shown } from "../problem";
import { bytesOfHex, hexOf, Reader } from "./bytes";
import { type Certificate, certificatesOf, type ChainRules, verifyChain } from "./certificates";
import { type Platform, platformOf } from "./pck";
import { checkRevocation, type RevocationAnswers, type RevocationDemand } from "./revocation";
import {
  matchingModule,
  matchingPlatform,
  matchingQuotingEnclave,
  type QeIdentity,
  qeIdentityOf,
  type Standing,
  type TcbInfo,
  tcbInfoOf,
} from "./tdxCollateral";
import { refuseUnless, undecidedUnless, type Verdict, verdictOf } from "./verdict";

/** An Intel TDX quote, and what Intel says of the platform it was made on. Nobody need be trusted to bring it: Intel signed it. */
export interface TdxQuote {
  quote: Buffer;
  collateral?: TdxCollateral;
}

/** As Intel's provisioning service gives it. Its revocation lists go with the question's answers. */
export interface TdxCollateral {
  /** JSON text, byte by byte as signed; the signature as r ‖ s in small hex; and its issuers, as PEM. */
  tcbInfo: string;
  tcbInfoSignature: string;
  tcbInfoIssuers: string;
  qeIdentity: string;
  qeIdentitySignature: string;
  qeIdentityIssuers: string;
}

export interface TdxPolicy {
  roots: readonly string[];
  distrusted: readonly string[];
  revocation: RevocationDemand;
  /** What platform, module and quoting enclave may each be: `UpToDate`, and what else an attestor puts up with. */
  statuses: readonly string[];
  /** Intel numbers its knowledge of flaws: older knowledge than this is refused, even where its dates allow it. */
  minimumEvaluation: number;
  programs: readonly TdxProgram[];
}

/**
 * A machine image that is trusted to make its receipt key inside, and to bind it as docs/evidence.md says. All five
 * measurements count: MRTD is the virtual firmware alone, RTMR 0 its configuration, 1 the kernel, 2 its arguments and initial
 * disk, 3 what the program measures itself. Values are 48 bytes in small hex.
 */
export interface TdxProgram {
  name: string;
  mrTd: readonly string[];
  rtMr: readonly [readonly string[], readonly string[], readonly string[], readonly string[]];
  /** What the host must have set, of the model's configuration for instance; zeros if left out. */
  mrConfigId?: string;
  mrOwner?: string;
  mrOwnerConfig?: string;
}

export interface TdxClaims {
  kind: "tdx";
  devices: string[];
  program: string;
  mrTd: string;
  /** Of platform, module and quoting enclave. */
  statuses: string[];
  advisories: string[];
  revocationCovered: number;
}

export interface TdxQuestion {
  /** 64 bytes that the guest must have put in. */
  reportData: Buffer;
  at: number;
  answers: RevocationAnswers;
}

const ABOUT = "The TDX quote";

export function verifyTdxQuote(
  evidence: TdxQuote,
  policy: TdxPolicy,
  question: TdxQuestion,
): Promise<Verdict<TdxClaims>> {
  return verdictOf(
    ABOUT,
    () => {
      const quote = tdxQuoteOf(evidence.quote);
      const pckChain = certificatesOf(quote.certificates, "The platform's certificates");
      checkSignatures(quote, pckChain[0]);
      const rules = {
        at: question.at,
        roots: policy.roots,
        distrusted: policy.distrusted,
        leafKey: "P-256",
        issuerKeys: ["P-256"],
      } as const;
      verifyChain(pckChain, rules, "The platform's certificates");
      checkAttributes(quote.body);
      refuseUnless(
        quote.body.reportData.equals(question.reportData),
        `${ABOUT} has the report data ${hexOf(quote.body.reportData)}, and this seed asks for ${hexOf(question.reportData)} ` +
          `(nonce, then digest of the GPU evidence). Have the guest quote again, with these.`,
      );
      const program = matchingProgram(quote.body, policy.programs);
      const { collateral } = evidence;
      undecidedUnless(
        collateral !== undefined,
        `${ABOUT} comes without what Intel says of its platform: send the TCB info and the quoting enclave's identity along.`,
      );
      const tcb = signedTcbInfo(collateral, policy, rules, question);
      const identity = signedIdentity(collateral, policy, rules, question);
      const standings = standingsOf(quote, platformOf(pckChain[0]), tcb, identity);
      for (const { of, status, advisories } of standings) {
        refuseUnless(
          policy.statuses.includes(status),
          `${ABOUT}: Intel calls the ${of} ${shown(status)} (${advisories.join(", ") || "no advisory"}), and the policy accepts ` +
            `${policy.statuses.join(", ") || "nothing"}. Update it.`,
        );
      }
      const revocation = { demand: policy.revocation, at: question.at };
      return {
        kind: "tdx" as const,
        devices: platformOf(pckChain[0]).devices,
        program: program.name,
        mrTd: hexOf(quote.body.mrTd),
        statuses: standings.map(({ status }) => status),
        advisories: [...new Set(standings.flatMap(({ advisories }) => advisories))],
        revocationCovered: checkRevocation(pckChain, question.answers, revocation, "The platform's certificates"),
      };
    },
    ({ program }) => `A genuine Intel platform runs "${program}", which bound this receipt key.`,
  );
}

/** Some platforms fill a quote up with zeros behind its end; this cuts them off. Who collects evidence calls it. */
export function trimmedTdxQuote(bytes: Buffer): Buffer {
  const lengthAt = (offset: number) => (bytes.length < offset + 4 ? bytes.length : bytes.readUInt32LE(offset));
  const body = lengthAt(0) % 0x10000 === 5 ? 6 + lengthAt(HEADER_LENGTH + 2) : TD10_LENGTH;
  const end = HEADER_LENGTH + body + 4 + lengthAt(HEADER_LENGTH + body);
  return bytes.subarray(end).every((byte) => byte === 0) ? bytes.subarray(0, end) : bytes;
}

export interface TdReport {
  teeTcbSvn: Buffer;
  mrSignerSeam: Buffer;
  seamAttributes: Buffer;
  tdAttributes: Buffer;
  mrTd: Buffer;
  mrConfigId: Buffer;
  mrOwner: Buffer;
  mrOwnerConfig: Buffer;
  rtMr: Buffer[];
  reportData: Buffer;
}

export interface EnclaveReport {
  bytes: Buffer;
  miscSelect: Buffer;
  attributes: Buffer;
  mrSigner: Buffer;
  isvProdId: number;
  isvSvn: number;
  reportData: Buffer;
}

export interface ParsedTdxQuote {
  /** Header and body, as the attestation key signed them. */
  signed: Buffer;
  body: TdReport;
  signature: Buffer;
  attestationKey: Buffer;
  enclave: EnclaveReport;
  enclaveSignature: Buffer;
  enclaveData: Buffer;
  certificates: string;
}

const HEADER_LENGTH = 48;
const TD10_LENGTH = 584;
const TD15_LENGTH = 648;
const ECDSA_P256 = 2;
const TEE_TDX = 0x81;
const INTEL_QE = "939a7233f79c4ca9940a0db3957f0607";
const TD10 = 2;
const TD15 = 3;
const QE_REPORT_DATA = 6;
const PCK_CHAIN = 5;

/** Takes a quote apart (Intel's versions 4, and 5 with TD reports 1.0 and 1.5). @throws Refused */
export function tdxQuoteOf(bytes: Buffer): ParsedTdxQuote {
  const reader = new Reader(bytes, ABOUT);
  const version = reader.u16("the version");
  refuseUnless(version === 4 || version === 5, `${ABOUT} is of version ${version}; versions 4 and 5 are understood.`);
  const keyType = reader.u16("the key type");
  refuseUnless(keyType === ECDSA_P256, `${ABOUT} has a key of type ${keyType}; 2 (ECDSA P-256) is understood.`);
  const tee = reader.u32("the kind of TEE");
  refuseUnless(tee === TEE_TDX, `${ABOUT} is of TEE ${tee.toString(16)}h; 81h (TDX) is understood.`);
  reader.take(4, "the header's versions");
  const vendor = hexOf(reader.take(16, "the vendor"));
  refuseUnless(vendor === INTEL_QE, `${ABOUT} is by the quoting enclave of vendor ${vendor}, which isn't Intel.`);
  reader.take(20, "the header's data");
  const body = version === 4 ? tdReportOf(reader) : versionedReportOf(reader);
  const signed = bytes.subarray(0, reader.position);
  const signature = new Reader(
    reader.take(reader.u32("the signature's length"), "the signature"),
    `${ABOUT}'s signature`,
  );
  reader.end();
  return { signed, body, ...signatureOf(signature) };
}

function versionedReportOf(reader: Reader): TdReport {
  const type = reader.u16("the report's type");
  const length = reader.u32("the report's length");
  refuseUnless(
    (type === TD10 && length === TD10_LENGTH) || (type === TD15 && length === TD15_LENGTH),
    `${ABOUT} has a report of type ${type} and ${length} bytes; TD reports 1.0 and 1.5 are understood.`,
  );
  const report = tdReportOf(reader);
  if (type === TD15) {
    reader.take(16, "the second security versions");
    reader.zeros(48, "the service TD's measurement (the guest may be moved by it)");
  }
  return report;
}

function tdReportOf(reader: Reader): TdReport {
  const teeTcbSvn = reader.take(16, "the module's security versions");
  reader.take(48, "the module's measurement");
  return {
    teeTcbSvn,
    mrSignerSeam: reader.take(48, "the module's signer"),
    seamAttributes: reader.take(8, "the module's attributes"),
    tdAttributes: reader.take(8, "the guest's attributes"),
    mrTd: (reader.take(8, "the guest's features"), reader.take(48, "MRTD")),
    mrConfigId: reader.take(48, "MRCONFIGID"),
    mrOwner: reader.take(48, "MROWNER"),
    mrOwnerConfig: reader.take(48, "MROWNERCONFIG"),
    rtMr: [0, 1, 2, 3].map((index) => reader.take(48, `RTMR ${index}`)),
    reportData: reader.take(64, "the report data"),
  };
}

function signatureOf(reader: Reader): Omit<ParsedTdxQuote, "signed" | "body"> {
  const signature = reader.take(64, "the signature");
  const attestationKey = reader.take(64, "the attestation key");
  const type = reader.u16("the certification data's type");
  refuseUnless(
    type === QE_REPORT_DATA,
    `${ABOUT} has certification data of type ${type}; 6 (with the enclave's report) is understood.`,
  );
  const inner = new Reader(
    reader.take(reader.u32("the certification data's length"), "the certification data"),
    `${ABOUT}'s certification`,
  );
  reader.end();
  const enclave = enclaveReportOf(inner.take(384, "the enclave's report"));
  const enclaveSignature = inner.take(64, "the enclave's signature");
  const enclaveData = inner.take(inner.u16("the enclave's data's length"), "the enclave's data");
  const chainType = inner.u16("the certificates' type");
  refuseUnless(
    chainType === PCK_CHAIN,
    `${ABOUT} has certificates of type ${chainType}; 5 (the chain itself) is understood. Send that.`,
  );
  const chain = inner.take(inner.u32("the certificates' length"), "the certificates").toString("latin1");
  inner.end();
  // Intel's libraries end the text as C does.
  const certificates = chain.endsWith("\0") ? chain.slice(0, -1) : chain;
  return { signature, attestationKey, enclave, enclaveSignature, enclaveData, certificates };
}

function enclaveReportOf(bytes: Buffer): EnclaveReport {
  return {
    bytes,
    miscSelect: bytes.subarray(16, 20),
    attributes: bytes.subarray(48, 64),
    mrSigner: bytes.subarray(128, 160),
    isvProdId: bytes.readUInt16LE(256),
    isvSvn: bytes.readUInt16LE(258),
    reportData: bytes.subarray(320, 384),
  };
}

/** Platform key → enclave's report → attestation key → quote. */
function checkSignatures(quote: ParsedTdxQuote, pck: Certificate): void {
  const signs = (key: KeyObject, body: Buffer, signature: Buffer) =>
    verify("sha256", body, { key, dsaEncoding: "ieee-p1363" }, signature);
  refuseUnless(
    signs(p256Of(quote.attestationKey), quote.signed, quote.signature),
    `${ABOUT} isn't signed by the attestation key that comes with it: it was altered.`,
  );
  const bound = createHash("sha256").update(quote.attestationKey).update(quote.enclaveData).digest();
  refuseUnless(
    quote.enclave.reportData.equals(Buffer.concat([bound, Buffer.alloc(32)])),
    `${ABOUT}: the quoting enclave vouches for another attestation key than the one that signed.`,
  );
  refuseUnless(
    pck.key.asymmetricKeyType === "ec" && signs(pck.key, quote.enclave.bytes, quote.enclaveSignature),
    `${ABOUT}: the quoting enclave's report isn't signed by ${pck.name}, whose certificate comes with it.`,
  );
}

function p256Of(raw: Buffer): KeyObject {
  const part = (from: number) => raw.subarray(from, from + 32).toString("base64url");
  return createPublicKey({ key: { kty: "EC", crv: "P-256", x: part(0), y: part(32) }, format: "jwk" });
}

const DEBUG_BITS = 0xffn;
const SEPT_VE_DISABLE = 1n << 28n;
const MIGRATABLE = 1n << 29n;
/** Linear address separation, protection keys, key locker, performance counters: none lets the host in. */
const HARMLESS = (1n << 27n) | (1n << 30n) | (1n << 31n) | (1n << 63n);

function checkAttributes({ tdAttributes }: TdReport): void {
  const attributes = tdAttributes.readBigUInt64LE();
  const bits = `its attributes are 0x${attributes.toString(16)}`;
  refuseUnless(
    (attributes & DEBUG_BITS) === 0n,
    `${ABOUT} is of a guest that its host may debug or profile, and so read (${bits}, bits 0 to 7). Launch it without debugging.`,
  );
  refuseUnless(
    (attributes & MIGRATABLE) === 0n,
    `${ABOUT} is of a guest that may be moved to another machine (${bits}, bit 29).`,
  );
  refuseUnless(
    (attributes & SEPT_VE_DISABLE) !== 0n,
    `${ABOUT} is of a guest whose host may take its pages away unseen (${bits}, bit 28). Launch it with SEPT_VE_DISABLE.`,
  );
  refuseUnless(
    (attributes & ~(SEPT_VE_DISABLE | HARMLESS)) === 0n,
    `${ABOUT} is of a guest with attributes that this verifier doesn't know (${bits}).`,
  );
}

const ZEROS = "00".repeat(48);

function matchingProgram(body: TdReport, programs: readonly TdxProgram[]): TdxProgram {
  undecidedUnless(
    programs.length > 0,
    `The policy allows no TDX program yet, and this one has the MRTD ${hexOf(body.mrTd)}. Add it, once its source was read.`,
  );
  const differences = programs.map((program) => differenceOf(body, program));
  const match = differences.indexOf(undefined);
  refuseUnless(match >= 0, `${ABOUT} is of no program on the allow-list: ${differences.join("; ")}.`);
  return programs[match];
}

function differenceOf(body: TdReport, program: TdxProgram): string | undefined {
  const { name, mrTd, rtMr, mrConfigId = ZEROS, mrOwner = ZEROS, mrOwnerConfig = ZEROS } = program;
  const compared: [string, Buffer, readonly string[]][] = [
    ["MRTD", body.mrTd, mrTd],
    ...body.rtMr.map((value, index): [string, Buffer, readonly string[]] => [`RTMR ${index}`, value, rtMr[index]]),
    ["MRCONFIGID", body.mrConfigId, [mrConfigId]],
    ["MROWNER", body.mrOwner, [mrOwner]],
    ["MROWNERCONFIG", body.mrOwnerConfig, [mrOwnerConfig]],
  ];
  const different = compared.find(([, value, allowed]) => !allowed.includes(hexOf(value)));
  return (
    different &&
    `its ${different[0]} is ${hexOf(different[1])}, and "${name}" allows ${different[2].join(" or ") || "none"}`
  );
}

type SigningRules = Pick<ChainRules, "at" | "roots" | "distrusted" | "leafKey" | "issuerKeys">;

function signedTcbInfo(
  collateral: TdxCollateral,
  policy: TdxPolicy,
  rules: SigningRules,
  question: TdxQuestion,
): TcbInfo {
  const { tcbInfo, tcbInfoSignature, tcbInfoIssuers } = collateral;
  const about = "Intel's TCB info";
  checkSigned(tcbInfo, tcbInfoSignature, tcbInfoIssuers, policy, rules, question, about);
  const info = tcbInfoOf(tcbInfo);
  checkDates(info, policy, question.at, about);
  return info;
}

function signedIdentity(
  collateral: TdxCollateral,
  policy: TdxPolicy,
  rules: SigningRules,
  question: TdxQuestion,
): QeIdentity {
  const { qeIdentity, qeIdentitySignature, qeIdentityIssuers } = collateral;
  const about = "Intel's identity of the quoting enclave";
  checkSigned(qeIdentity, qeIdentitySignature, qeIdentityIssuers, policy, rules, question, about);
  const identity = qeIdentityOf(qeIdentity);
  checkDates(identity, policy, question.at, about);
  return identity;
}

const TCB_SIGNING = "Intel SGX TCB Signing";

function checkSigned(
  text: string,
  signature: string,
  issuers: string,
  policy: TdxPolicy,
  rules: SigningRules,
  question: TdxQuestion,
  about: string,
): void {
  const chain = certificatesOf(issuers, `${about}'s certificates`);
  const [leaf] = chain;
  // A platform's key is under the same root, and its owner could have it sign anything.
  refuseUnless(
    leaf.name === TCB_SIGNING,
    `${about} comes with the certificate of ${shown(leaf.name)}, not of ${shown(TCB_SIGNING)}.`,
  );
  verifyChain(chain, rules, `${about}'s certificates`);
  const bytes = bytesOfHex(signature, `${about}'s signature`);
  refuseUnless(
    verify("sha256", Buffer.from(text), { key: leaf.key, dsaEncoding: "ieee-p1363" }, bytes),
    `${about} isn't signed by Intel: it was altered. Send it byte by byte as it came.`,
  );
  checkRevocation(chain, question.answers, { demand: policy.revocation, at: question.at }, `${about}'s certificates`);
}

function checkDates(
  { issuedAt, nextUpdate, evaluation }: TcbInfo | QeIdentity,
  policy: TdxPolicy,
  at: number,
  about: string,
): void {
  refuseUnless(
    issuedAt <= at && at <= nextUpdate,
    `${about} is valid from ${dateOf(issuedAt)} to ${dateOf(nextUpdate)}, and it is ${dateOf(at)}. Fetch it anew.`,
  );
  // Not `<`: a minimum that is no number allows nothing.
  refuseUnless(
    evaluation >= policy.minimumEvaluation,
    `${about} has evaluation number ${evaluation}, and the policy asks for ${policy.minimumEvaluation} at least. Fetch it anew.`,
  );
}

function standingsOf(quote: ParsedTdxQuote, platform: Platform, tcb: TcbInfo, identity: QeIdentity): Standing[] {
  refuseUnless(
    platform.fmspc === tcb.fmspc && platform.pceId === tcb.pceId,
    `Intel's TCB info is of platforms ${tcb.fmspc} (PCE ${tcb.pceId}), and this is one of ${platform.fmspc} (PCE ${platform.pceId}).`,
  );
  const { teeTcbSvn, mrSignerSeam, seamAttributes } = quote.body;
  return [
    matchingPlatform(tcb, platform, teeTcbSvn),
    matchingModule(tcb, teeTcbSvn, mrSignerSeam, seamAttributes),
    matchingQuotingEnclave(identity, quote.enclave),
  ];
}
