import { verify } from "node:crypto";
import { hexOf, Reader } from "./bytes";
import { type Certificate, certificatesOf, verifyChain } from "./certificates";
import { elementOf, smallNaturalOf } from "./der";
import { checkRevocation, type RevocationAnswers, type RevocationDemand } from "./revocation";
import { refuseUnless, undecidedUnless, type Verdict, verdictOf } from "./verdict";

/** An AMD SEV-SNP attestation report, with the chain of the chip's key. */
export interface SnpReport {
  report: Buffer;
  /** PEM: the chip's key (VCEK), AMD's signing key (ASK), AMD's root (ARK). */
  certificates: string;
}

export interface SnpPolicy {
  roots: readonly string[];
  distrusted: readonly string[];
  /** AMD lists revoked signing keys; it publishes nothing about single chips. */
  revocation: RevocationDemand;
  programs: readonly SnpProgram[];
}

/** A machine image that is trusted to make its receipt key inside, and to bind it as docs/evidence.md says. */
export interface SnpProgram {
  name: string;
  /** Hash of what was loaded, 48 bytes in small hex. */
  measurement: string;
  /** 32 bytes in small hex that the host must have set, of the model's configuration for instance; zeros if left out. */
  hostData?: string;
  /** The privilege level that the report must come from; 0, the highest, if left out. */
  vmpl?: number;
  minimumTcb: SnpTcb;
}

/** Security versions of the parts of AMD's firmware. */
export interface SnpTcb {
  bootloader: number;
  tee: number;
  snp: number;
  microcode: number;
}

export interface SnpClaims {
  kind: "snp";
  devices: string[];
  program: string;
  measurement: string;
  tcb: SnpTcb;
  revocationCovered: number;
}

export interface SnpQuestion {
  /** 64 bytes that the guest must have put in. */
  reportData: Buffer;
  at: number;
  answers: RevocationAnswers;
}

const ABOUT = "The SEV-SNP report";

export function verifySnpReport(
  evidence: SnpReport,
  policy: SnpPolicy,
  question: SnpQuestion,
): Promise<Verdict<SnpClaims>> {
  return verdictOf(
    ABOUT,
    () => {
      const report = snpReportOf(evidence.report);
      const chain = certificatesOf(evidence.certificates, "The chip's certificates");
      checkSignature(evidence.report, chain[0]);
      verifyChain(
        chain,
        { at: question.at, roots: policy.roots, leafKey: "P-384", issuerKeys: ["RSA"], distrusted: policy.distrusted },
        "The chip's certificates",
      );
      checkChip(report, chain[0]);
      checkGuestPolicy(report.policy);
      refuseUnless(
        report.reportData.equals(question.reportData),
        `${ABOUT} has the report data ${hexOf(report.reportData)}, and this seed asks for ${hexOf(question.reportData)} (nonce, ` +
          `then digest of the GPU evidence). Have the guest report again, with these.`,
      );
      const program = matchingProgram(report, policy.programs);
      const revocationCovered = checkRevocation(
        chain,
        question.answers,
        { demand: policy.revocation, at: question.at },
        "The chip's certificates",
      );
      return {
        kind: "snp" as const,
        devices: [`amd-chip:${hexOf(report.chipId)}`],
        program: program.name,
        measurement: hexOf(report.measurement),
        tcb: report.reportedTcb,
        revocationCovered,
      };
    },
    ({ program }) => `A genuine AMD chip runs "${program}", which bound this receipt key.`,
  );
}

export interface ParsedSnpReport {
  policy: bigint;
  vmpl: number;
  reportData: Buffer;
  measurement: Buffer;
  hostData: Buffer;
  reportedTcb: SnpTcb;
  chipId: Buffer;
}

const SIGNED_LENGTH = 0x2a0;
const ECDSA_P384_SHA384 = 1;
/** Family 19h, Milan and Genoa: later chips have another layout of security versions. */
const FAMILY_19H = 0x19;
const VERSIONS = [2, 3, 5];

/** Takes a report apart (AMD 56860, versions 2, 3 and 5). @throws Refused */
export function snpReportOf(bytes: Buffer): ParsedSnpReport {
  const reader = new Reader(bytes, ABOUT);
  const version = reader.u32("the version");
  refuseUnless(
    VERSIONS.includes(version),
    `${ABOUT} is of version ${version}; versions ${VERSIONS.join(", ")} are understood.`,
  );
  reader.u32("the guest's security version");
  const policy = reader.u64("the guest policy");
  reader.take(32, "the family and image ids");
  const vmpl = reader.u32("the privilege level");
  const algorithm = reader.u32("the signature algorithm");
  refuseUnless(
    algorithm === ECDSA_P384_SHA384,
    `${ABOUT} names signature algorithm ${algorithm}; 1 (ECDSA P-384 with SHA-384) is understood.`,
  );
  reader.take(8, "the current security versions");
  reader.take(8, "the platform's settings");
  const keys = reader.u32("the signing key's kind");
  refuseUnless(
    (keys & ~1) === 0,
    `${ABOUT} isn't signed by the chip's own key with the chip named (key bits ${keys}). Have the host neither mask the chip's ` +
      `key nor use a loaded one.`,
  );
  reader.zeros(4, "a reserved field");
  const reportData = reader.take(64, "the report data");
  const measurement = reader.take(48, "the measurement");
  const hostData = reader.take(32, "the host's data");
  reader.take(96, "the id keys' digests");
  reader.take(64, "the report ids");
  const reportedTcb = tcbOf(reader.take(8, "the reported security versions"));
  if (version === 2) reader.zeros(24, "a reserved field");
  else {
    const family = reader.u8("the chip's family");
    refuseUnless(
      family === FAMILY_19H,
      `${ABOUT} is of a chip of family ${family.toString(16)}h; 19h (Milan, Genoa) is understood.`,
    );
    reader.take(2, "the chip's model");
    reader.zeros(21, "a reserved field");
  }
  const chipId = reader.take(64, "the chip's id");
  refuseUnless(
    chipId.some((byte) => byte !== 0),
    `${ABOUT} doesn't name its chip: the host masks it. Switch that off.`,
  );
  reader.take(8, "the committed security versions");
  reader.take(3, "the firmware's version");
  reader.zeros(1, "a reserved field");
  reader.take(3, "the committed firmware's version");
  reader.zeros(1, "a reserved field");
  reader.take(8, "the security versions at launch");
  if (version === 5) reader.take(16, "the mitigations");
  reader.zeros(SIGNED_LENGTH - reader.position, "a reserved field");
  reader.take(48, "the signature's r");
  reader.zeros(24, "the padding of the signature's r");
  reader.take(48, "the signature's s");
  reader.zeros(24, "the padding of the signature's s");
  reader.zeros(368, "what follows the signature");
  reader.end();
  return { policy, vmpl, reportData, measurement, hostData, reportedTcb, chipId };
}

function tcbOf(bytes: Buffer): SnpTcb {
  return { bootloader: bytes[0], tee: bytes[1], snp: bytes[6], microcode: bytes[7] };
}

/** r and s are numbers of 72 bytes, the lowest byte first. */
function checkSignature(report: Buffer, vcek: Certificate): void {
  const number = (at: number) => Buffer.from(report.subarray(at, at + 48)).reverse();
  const signature = Buffer.concat([number(SIGNED_LENGTH), number(SIGNED_LENGTH + 72)]);
  const body = report.subarray(0, SIGNED_LENGTH);
  refuseUnless(
    vcek.key.asymmetricKeyType === "ec" &&
      verify("sha384", body, { key: vcek.key, dsaEncoding: "ieee-p1363" }, signature),
    `${ABOUT} isn't signed by ${vcek.name}, whose certificate comes with it: it was altered, or the certificate is another chip's ` +
      `or of other firmware.`,
  );
}

const VCEK_TCB: Record<keyof SnpTcb, string> = {
  bootloader: "1.3.6.1.4.1.3704.1.3.1",
  tee: "1.3.6.1.4.1.3704.1.3.2",
  snp: "1.3.6.1.4.1.3704.1.3.3",
  microcode: "1.3.6.1.4.1.3704.1.3.8",
};
const VCEK_CHIP = "1.3.6.1.4.1.3704.1.4";

/** The certificate is of this chip, with these security versions. */
function checkChip(report: ParsedSnpReport, vcek: Certificate): void {
  const chip = vcek.extensions.get(VCEK_CHIP);
  refuseUnless(
    chip?.equals(report.chipId) === true,
    `${ABOUT} is of the chip ${hexOf(report.chipId)}, and the certificate of ${chip ? hexOf(chip) : "none"}.`,
  );
  for (const [part, id] of Object.entries(VCEK_TCB) as [keyof SnpTcb, string][]) {
    const about = `The certificate's security version of ${part}`;
    const extension = vcek.extensions.get(id);
    const certified = extension && smallNaturalOf(elementOf(extension, about), about);
    refuseUnless(
      certified === report.reportedTcb[part],
      `${about} is ${certified ?? "missing"}, and the report says ${report.reportedTcb[part]}. Fetch the certificate for these versions.`,
    );
  }
}

const MUST_BE_ONE = 1n << 17n;
const MIGRATABLE = 1n << 18n;
const DEBUG = 1n << 19n;
/** Versions of the interface, SMT, one socket, CXL, AES-256, RAPL, ciphertext hiding, page swap. */
const KNOWN = (1n << 26n) - 1n;

function checkGuestPolicy(policy: bigint): void {
  const bits = `the guest policy is 0x${policy.toString(16)}`;
  refuseUnless(
    (policy & DEBUG) === 0n,
    `${ABOUT} is of a guest that its host may debug, and so read and change (${bits}, bit 19). Launch it without debugging.`,
  );
  refuseUnless(
    (policy & MIGRATABLE) === 0n,
    `${ABOUT} is of a guest that may be moved to another machine (${bits}, bit 18). Launch it without a migration agent.`,
  );
  refuseUnless(
    (policy & MUST_BE_ONE) !== 0n && policy <= KNOWN,
    `${ABOUT} has a guest policy that this verifier doesn't know (${bits}).`,
  );
}

const NO_HOST_DATA = "00".repeat(32);

function matchingProgram(report: ParsedSnpReport, programs: readonly SnpProgram[]): SnpProgram {
  undecidedUnless(
    programs.length > 0,
    `The policy allows no SEV-SNP program yet, and this one measures ${hexOf(report.measurement)}. Add it, once its source was read.`,
  );
  const differences = programs.map((program) => differenceOf(report, program));
  const match = differences.indexOf(undefined);
  refuseUnless(match >= 0, `${ABOUT} is of no program on the allow-list: ${differences.join("; ")}.`);
  return programs[match];
}

function differenceOf(report: ParsedSnpReport, program: SnpProgram): string | undefined {
  const { name, measurement, hostData = NO_HOST_DATA, vmpl = 0, minimumTcb } = program;
  if (hexOf(report.measurement) !== measurement)
    return `it measures ${hexOf(report.measurement)}, and "${name}" ${measurement}`;
  if (hexOf(report.hostData) !== hostData)
    return `its host data is ${hexOf(report.hostData)}, and that of "${name}" ${hostData}`;
  if (report.vmpl !== vmpl) return `it comes from privilege level ${report.vmpl}, and "${name}" reports from ${vmpl}`;
  for (const part of ["bootloader", "tee", "snp", "microcode"] as const) {
    // Not `<`: a minimum that is no number allows nothing.
    if (!(report.reportedTcb[part] >= minimumTcb[part])) {
      return `its ${part} has security version ${report.reportedTcb[part]}, and "${name}" needs ${minimumTcb[part]}: update the firmware`;
    }
  }
  return undefined;
}
